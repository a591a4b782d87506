//! Mixtures on the command line.

use super::{FitKind, Given, Kind};
use crate::cli::args::{FitArgs, Start};
use crate::cli::output;
use crate::cli::run::size;
use entropysum::criterion::{self, CertifiedGap, FactorModel};
use entropysum::data::DataSource;
use entropysum::em::{Config, Fit, Init, MixtureSpec, fit_mixture};
use entropysum::error::{Error, Result};
use entropysum::exec::Executor;
use entropysum::family::registry;
use entropysum::model::{Mixture, Posterior};
use entropysum::monitor::Observer;
use entropysum::scalar::Scalar;
use serde_json::Value;
use std::fmt::Write as _;

/// The variational family that was asked for.
fn posterior(args: &FitArgs) -> Result<Option<Posterior>> {
    let Some(asked) = args.posterior.as_deref() else { return Ok(None) };
    let known = [Posterior::Exact, Posterior::Hard].into_iter().find(|it| it.name() == asked);
    known.map(Some).ok_or_else(|| {
        Error::Config(format!("--posterior {asked} is not for mixtures, expected exact or hard"))
    })
}

impl Kind for Mixture {
    type Spec = MixtureSpec;

    const ARGUMENTS: &'static [&'static str] = &[
        "--components",
        "--posterior",
        "--reg-covar",
        "--trials",
        "--successes",
        "--shape",
        "--location",
        "--variance",
        "--levels",
        "--total",
    ];

    const ALGORITHMS: &'static [&'static str] = &["em"];

    fn check(args: &FitArgs, given: Option<Given<'_, Self>>) -> Result<()> {
        posterior(args)?;
        if let (Some(given), Some((argument, _))) =
            (&given, args.known.given().find(|(_, given)| *given))
        {
            let path = given.path.display();
            return Err(Error::Config(format!(
                "{argument} is told by the model of --init {path}; leave it out"
            )));
        }
        match (given, args.components) {
            (None, None) => {
                let message = "give the number of components with -k, or a model with --init FILE";
                Err(Error::Config(message.to_owned()))
            }
            (Some(given), Some(asked)) if asked != given.model.n_components() as u64 => {
                let found = format!("{} component(s)", given.model.n_components());
                given.disagrees(&format!("-k {asked}"), &found)
            }
            _ => Ok(()),
        }
    }

    fn spec(name: &str, args: &FitArgs, given: Option<Self>, dim: usize) -> Result<MixtureSpec> {
        let spec = match given {
            Some(model) => MixtureSpec::from_model(model),
            None => {
                let n_components = size(args.components.unwrap_or_default())?;
                let family = registry::build_known(name, dim, &args.known.known())?;
                MixtureSpec::new(family, n_components).with_init(match args.init {
                    Start::Random => Init::Random,
                    Start::RandomFromData => Init::RandomFromData,
                    _ => Init::KMeansPlusPlus,
                })
            }
        };
        check_memory(&spec)?;
        Ok(match posterior(args)? {
            Some(posterior) => spec.with_posterior(posterior),
            None => spec,
        })
    }

    fn title(&self) -> String {
        let components = self.n_components();
        let plural = if components == 1 { "" } else { "s" };
        format!("{}, {components} component{plural}", self.family().name())
    }

    fn details(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("entropy_contributions", self.entropy_contributions().into()),
            ("weights", self.weights().into()),
        ]
    }

    /// The heaviest components first, each with the first values of its first array of parameters.
    fn table(&self) -> String {
        const ROWS: usize = 50;
        const VALUES: usize = 6;
        let specs = self.family().parameters();
        let first = specs.iter().find(|spec| !spec.shared);
        let values = first.and_then(|spec| self.parameter(&spec.name)).unwrap_or_default();
        let width = first.map_or(0, |spec| spec.len());
        let contributions = self.entropy_contributions();
        let mut order: Vec<usize> = (0..self.n_components()).collect();
        order.sort_by(|&a, &b| self.weights()[b].total_cmp(&self.weights()[a]));

        let name = first.map_or("", |spec| &*spec.name);
        let mut text = format!("component    weight   entropy part  {name}\n");
        for &c in order.iter().take(ROWS) {
            let (weight, part) = (self.weights()[c], contributions[c]);
            let _ = write!(text, "{c:>9}  {weight:>8.6}  {part:>13.6} ");
            for value in values[c * width..][..width].iter().take(VALUES) {
                let _ = write!(text, " {:>11}", output::significant(*value, 6));
            }
            text += if width > VALUES { " ...\n" } else { "\n" };
        }
        if order.len() > ROWS {
            let _ = writeln!(text, "          and {} lighter ones", order.len() - ROWS);
        }
        text
    }

    fn factors(&self) -> Result<FactorModel> {
        Ok(FactorModel::of(self))
    }
}

impl<T: Scalar> FitKind<T> for Mixture {
    fn fit(
        spec: &MixtureSpec,
        source: &dyn DataSource<T>,
        executor: &Executor,
        config: &Config,
        observer: &mut dyn Observer,
    ) -> Result<Fit<Self>> {
        fit_mixture(spec, source, executor, config, observer)
    }

    fn certify(&self, source: &dyn DataSource<T>, executor: &Executor) -> Result<CertifiedGap> {
        criterion::certify(self, source, executor)
    }
}

/// Refuses a model that cannot fit the memory: parameters, their factors and statistics, each a few times over.
fn check_memory(spec: &MixtureSpec) -> Result<()> {
    let per_component: usize = spec.family.parameters().iter().map(|array| array.len()).sum();
    let bytes =
        (per_component as u64).saturating_mul(spec.n_components as u64).saturating_mul(8 * 8);
    match output::available_memory() {
        Some(available) if bytes > available => Err(Error::Config(format!(
            "{} components of {} need about {} GB of memory, and {} GB are available; gaussian-diag needs far less",
            spec.n_components,
            spec.family.name(),
            bytes.div_ceil(1 << 30),
            available >> 30,
        ))),
        _ => Ok(()),
    }
}
