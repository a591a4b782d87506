//! Probabilistic PCA and factor analysis on the command line.

use super::{Described, Given, Kind, Prepared, Scree};
use crate::cli::args::{FitArgs, Missing, Start};
use crate::cli::output;
use crate::cli::run::size;
use crate::cli::source::Source;
use crate::criterion::{self, CertifiedGap, FactorModel};
use crate::data::{DataSource, Schema};
use crate::em::{Fit, Fitting, Form, LinearGaussianAlgorithm, LinearGaussianSpec, Summary};
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::inference::{self, Score};
use crate::model::{LinearGaussian, Noise};
use crate::scalar::Scalar;
use serde_json::Value;
use std::fmt::Write as _;

fn title(noise: Noise, latents: usize) -> String {
    let plural = if latents == 1 { "" } else { "s" };
    format!("{}, {latents} latent{plural}", noise.model_name())
}

impl Kind for LinearGaussian {
    type Spec = LinearGaussianSpec;

    const ARGUMENTS: &'static [&'static str] = &["--latent", "--rotation", "--missing ignore"];

    const ALGORITHMS: &'static [&'static str] = &["closed-form", "em", "px-em"];

    fn check(args: &FitArgs, given: Option<Given<'_, Self>>) -> Result<()> {
        let refuse = |message: String| Err(Error::Config(message));
        match (&args.latent[..], given) {
            (_, None) if !matches!(args.init, Start::Auto) => {
                refuse("--init: a model of this kind starts by itself, or from a file".to_owned())
            }
            ([], None) => refuse(
                "give the number of latents with --latent, or a model with --init FILE".to_owned(),
            ),
            ([_, _, ..], _) => refuse("--latent: expected one number".to_owned()),
            (&[asked], Some(given)) if asked != given.model.latents() as u64 => given.disagrees(
                &format!("--latent {asked}"),
                &format!("{} latent(s)", given.model.latents()),
            ),
            _ => Ok(()),
        }
    }

    fn spec(
        name: &str,
        args: &FitArgs,
        given: Option<Self>,
        _dim: usize,
    ) -> Result<LinearGaussianSpec> {
        let latents = match (&given, &args.latent[..]) {
            (Some(model), _) => model.latents(),
            (None, latents) => size(latents.first().copied().unwrap_or_default())?,
        };
        let spec = if name == Noise::Isotropic.model_name() {
            LinearGaussianSpec::ppca(latents)
        } else {
            LinearGaussianSpec::factor_analysis(latents)
        };
        let asked =
            |asked: &String| LinearGaussianAlgorithm::ALL.into_iter().find(|it| it.name() == asked);
        let algorithm = match (&args.algorithm, &given) {
            (Some(name), _) => asked(name).unwrap_or(spec.algorithm),
            (None, Some(_)) => LinearGaussianAlgorithm::PxEm,
            (None, None) => spec.algorithm,
        };
        let spec = LinearGaussianSpec { algorithm, rotation: args.rotation, init: given, ..spec };
        let ignores_missing = args.data.missing == Missing::Ignore;
        match args.algorithm.as_deref() {
            Some("closed-form") if ignores_missing => Err(Error::Config(
                "--missing ignore: there is no closed form with missing entries; use em or px-em"
                    .into(),
            )),
            _ if ignores_missing => Ok(spec.ignoring_missing()),
            _ => Ok(spec),
        }
    }

    fn choose(spec: &mut LinearGaussianSpec, _: &FitArgs, source: Source<'_>) -> Option<String> {
        Some(spec.method(source.len(), source.dim()).to_string())
    }

    fn label(spec: &LinearGaussianSpec) -> String {
        title(spec.noise, spec.latents)
    }

    fn prepare<'a, T: Scalar>(
        specs: &[LinearGaussianSpec],
        points: &'a dyn DataSource<T>,
        executor: &'a Executor,
    ) -> Result<Box<dyn Prepared<T, Self> + 'a>> {
        specs.iter().try_for_each(|spec| spec.check(points.dim()))?;
        Ok(Box::new(Summarised { points, summary: Summary::new(&specs[0], points, executor)? }))
    }
}

impl Described for LinearGaussian {
    fn title(&self) -> String {
        title(self.noise(), self.latents())
    }

    fn details(&self) -> Vec<(&'static str, Value)> {
        let noise = match self.noise() {
            Noise::Isotropic => self.noise_variances()[0].into(),
            Noise::Diagonal => self.noise_variances().into(),
        };
        let stationary = self.stationary_entropy_sum().total();
        vec![("noise_variance", noise), ("stationary_entropy_sum", stationary.into())]
    }

    fn factors(&self) -> FactorModel {
        FactorModel::of_linear_gaussian(self)
    }

    fn certify(&self, points: &dyn DataSource<f64>, executor: &Executor) -> Result<CertifiedGap> {
        criterion::certify_linear_gaussian(self, points, executor)
    }

    /// The first loadings of the first dimensions, and their noise.
    fn table(&self, schema: Option<&Schema>) -> String {
        const ROWS: usize = 50;
        const VALUES: usize = 6;
        let more = if self.latents() > VALUES { " ..." } else { "" };
        let mut text = "dimension         mean        noise  loadings\n".to_owned();
        for d in 0..self.dim().min(ROWS) {
            let name = schema.map_or(d.to_string(), |schema| output::shortened(&schema.names[d]));
            let (mean, noise) = (self.mean()[d], self.noise_variances()[d]);
            let (mean, noise) = (output::significant(mean, 6), output::significant(noise, 6));
            let _ = write!(text, "{name:>9}  {mean:>11}  {noise:>11} ");
            for value in self.loadings().row(d).iter().take(VALUES) {
                let _ = write!(text, " {:>11}", output::significant(*value, 6));
            }
            text += more;
            text += "\n";
        }
        if self.dim() > ROWS {
            let _ = writeln!(text, "          and {} more", self.dim() - ROWS);
        }
        text
    }
}

/// Points, and all that fits of several sizes need to know of them.
struct Summarised<'a, T: Scalar> {
    points: &'a dyn DataSource<T>,
    summary: Summary<'a, T>,
}

impl<T: Scalar> Prepared<T, LinearGaussian> for Summarised<'_, T> {
    fn points_per_iteration(&self) -> u64 {
        self.summary.points_per_iteration()
    }

    fn fit(
        &self,
        spec: &LinearGaussianSpec,
        fitting: Fitting<'_, T, LinearGaussian>,
    ) -> Result<Fit<LinearGaussian>> {
        fitting.fit(&self.summary.prepared(spec))
    }

    fn score(&self, model: &LinearGaussian, executor: &Executor) -> Result<Score> {
        // If noise is small, the density by a covariance summed in f32 cancels; the density by residuals of points does not.
        if T::EPSILON > f64::EPSILON && self.summary.method().form != Form::Observed {
            inference::score(model, self.points, executor)
        } else {
            self.summary.score(model)
        }
    }

    fn scree(&self, spec: &LinearGaussianSpec) -> Option<Scree> {
        let name = match spec.noise {
            Noise::Isotropic => "eigenvalue of the covariance",
            Noise::Diagonal => "eigenvalue of the correlation",
        };
        Some((name, self.summary.scree(spec.noise)?))
    }
}
