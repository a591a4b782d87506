//! Mixtures on the command line.

use super::{Described, Given, Kind};
use crate::cli::args::{FitArgs, Missing, Start};
use crate::cli::output;
use crate::cli::run::size;
use crate::criterion::{self, CertifiedGap, FactorModel};
use crate::data::DataSource;
use crate::em::{Init, MixtureSpec};
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::family::registry;
use crate::model::{Mixture, Posterior};
use crate::store::Stored;
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
        "--missing ignore",
        "--trials",
        "--successes",
        "--shape",
        "--location",
        "--variance",
        "--levels",
        "--total",
    ];

    const ALGORITHMS: &'static [&'static str] = &["batch", "stepwise", "incremental"];

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
        let found = given.as_ref().map_or(0, |given| given.model.n_components());
        check_components(args, given.as_ref(), found)
    }

    fn spec(name: &str, args: &FitArgs, given: Option<Self>, dim: usize) -> Result<MixtureSpec> {
        let spec = match given {
            Some(model) => MixtureSpec::from_model(model),
            None => {
                let n_components = size(args.components.unwrap_or_default())?;
                let family = registry::build_known(name, dim, &args.known.known())?;
                MixtureSpec::new(family, n_components).with_init(fresh_start(&args.init))
            }
        };
        let per_component = spec.family.parameters().iter().map(|array| array.len()).sum();
        let advice = "gaussian-diag needs far less";
        check_memory(&spec.family.name(), spec.n_components, per_component, advice)?;
        let spec = match args.data.missing {
            Missing::Refuse => spec,
            Missing::Ignore => spec.ignoring_missing()?,
        };
        let spec = spec.with_bad_rows(args.stream.on_bad_row.unwrap_or_default());
        Ok(match posterior(args)? {
            Some(posterior) => spec.with_posterior(posterior),
            None => spec,
        })
    }

    fn learns_from_sparse(spec: &MixtureSpec) -> bool {
        spec.family.takes_sparse()
    }

    fn label(spec: &MixtureSpec) -> String {
        let (family, posterior) = (spec.family.name(), spec.posterior.name());
        format!("{} components of {family}, {posterior} posteriors", spec.n_components)
    }
}

impl Described for Mixture {
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

    fn table(&self) -> String {
        let specs = self.family().parameters();
        let first = specs.iter().find(|spec| !spec.shared);
        let values = first.and_then(|spec| self.parameter(&spec.name)).unwrap_or_default();
        let name = first.map_or("", |spec| &*spec.name);
        component_table(self.weights(), &self.entropy_contributions(), name, &values)
    }

    /// At random parameters of its family only: its own may be at a boundary, as a probability of 0 is.
    fn factors(&self) -> FactorModel {
        FactorModel::of(self)
    }

    fn certify(&self, points: &dyn DataSource<f64>, executor: &Executor) -> Result<CertifiedGap> {
        criterion::certify(self, points, executor)
    }
}

/// The heaviest components first, each with the first values of its first array of parameters.
pub(super) fn component_table(
    weights: &[f64],
    contributions: &[f64],
    name: &str,
    values: &[f64],
) -> String {
    const ROWS: usize = 50;
    const VALUES: usize = 6;
    let width = values.len() / weights.len();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));

    let mut text = format!("component    weight   entropy part  {name}\n");
    for &c in order.iter().take(ROWS) {
        let _ = write!(text, "{c:>9}  {:>8.6}  {:>13.6} ", weights[c], contributions[c]);
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

/// Refuses a model that cannot fit the memory: parameters, their factors and statistics, each a few times over.
pub(super) fn check_memory(
    name: &str,
    n_components: usize,
    per_component: usize,
    advice: &str,
) -> Result<()> {
    let bytes = (per_component as u64).saturating_mul(n_components as u64).saturating_mul(8 * 8);
    match output::available_memory() {
        Some(available) if bytes > available => Err(Error::Config(format!(
            "{n_components} components of {name} need about {} GB of memory, and {} GB are available; {advice}",
            bytes.div_ceil(1 << 30),
            available >> 30,
        ))),
        _ => Ok(()),
    }
}

/// The start that was typed; that of a given model is another matter.
pub(super) fn fresh_start<M>(start: &Start) -> Init<M> {
    match start {
        Start::Random => Init::Random,
        Start::RandomFromData => Init::RandomFromData,
        _ => Init::KMeansPlusPlus,
    }
}

/// Refuses to go without a number of components, or with another than that of the given model.
pub(super) fn check_components(
    args: &FitArgs,
    given: Option<&Given<'_, impl Stored>>,
    found: usize,
) -> Result<()> {
    match (given, args.components) {
        (None, None) => {
            let message = "give the number of components with -k, or a model with --init FILE";
            Err(Error::Config(message.to_owned()))
        }
        (Some(given), Some(asked)) if asked != found as u64 => {
            given.disagrees(&format!("-k {asked}"), &format!("{found} component(s)"))
        }
        _ => Ok(()),
    }
}
