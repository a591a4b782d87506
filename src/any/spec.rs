//! What to fit, of any kind.

use super::source::with_points;
use super::{Run, Source};
use crate::em::factor_analyzers::start_factor_analyzers;
use crate::em::{
    self, AutoencoderSpec, Config, FactorAnalyzersSpec, Fit, Init, LinearGaussianSpec, MixtureSpec,
    SbnSpec,
};
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::store::Model;

/// Says what to fit, and how to start: a specification of any kind.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AnySpec {
    /// A mixture of an exponential family.
    Mixture(MixtureSpec),
    /// A mixture of factor analysers, or of probabilistic PCAs.
    MixtureOfFactorAnalyzers(FactorAnalyzersSpec),
    /// Probabilistic PCA or factor analysis.
    LinearGaussian(LinearGaussianSpec),
    /// A sigmoid belief network.
    SigmoidBeliefNet(SbnSpec),
    /// A variational autoencoder or a sparse code.
    VariationalAutoencoder(AutoencoderSpec),
}

macro_rules! from_spec {
    ($($kind:ident($spec:ident)),* $(,)?) => {$(
        impl From<$spec> for AnySpec {
            fn from(spec: $spec) -> Self {
                Self::$kind(spec)
            }
        }
    )*};
}

from_spec! {
    Mixture(MixtureSpec),
    MixtureOfFactorAnalyzers(FactorAnalyzersSpec),
    LinearGaussian(LinearGaussianSpec),
    SigmoidBeliefNet(SbnSpec),
    VariationalAutoencoder(AutoencoderSpec),
}

impl AnySpec {
    /// Learns the model from points: by minibatches if a stream is configured, as [`Fitting`](em::Fitting).
    ///
    /// # Errors
    /// As [`Spec::fit`](em::Spec::fit); if the points are sparse, and the model takes dense points; if a checkpoint is of another fit.
    pub fn fit(&self, points: Source<'_>, run: Run<'_>) -> Result<Fit<Model>> {
        self.check_sparse(points)?;
        macro_rules! fit {
            ($spec:expr) => {
                with_points!(points, points => run.fit(points, |it| it.fit($spec)))?
                    .map_model(Model::from)
            };
        }
        Ok(match self {
            Self::Mixture(spec) => fit!(spec),
            Self::MixtureOfFactorAnalyzers(spec) => fit!(spec),
            Self::LinearGaussian(spec) => fit!(spec),
            Self::SigmoidBeliefNet(spec) => fit!(spec),
            Self::VariationalAutoencoder(spec) => fit!(spec),
        })
    }

    /// Returns the model that the first start begins with.
    ///
    /// # Errors
    /// As [`Spec::fit`](em::Spec::fit); [`Error::Config`] if the model has no start of its own, as p-PCA in closed form.
    ///
    /// ```
    /// use entropysum::any::{AnySpec, Source};
    /// use entropysum::data::Points;
    /// use entropysum::{Config, Executor, MixtureSpec, family};
    ///
    /// let points = Points::<f64>::from_rows(&[0.0, 0.2, 0.1, 5.0, 5.3, 5.1], 1)?;
    /// let spec = AnySpec::from(MixtureSpec::new(family::registry::build("gaussian-diag", 1)?, 2));
    /// let start = spec.start(Source::F64(&points), &Executor::new(Some(1))?, &Config::default())?;
    /// assert_eq!(start.n_components(), 2);
    /// # Ok::<(), entropysum::Error>(())
    /// ```
    pub fn start(&self, points: Source<'_>, executor: &Executor, config: &Config) -> Result<Model> {
        self.check_sparse(points)?;
        let mut config = config.clone();
        with_points!(points, points => config.find_resolution(points));
        let config = &config;
        Ok(match self {
            Self::Mixture(spec) => {
                let model = match &spec.init {
                    Init::Model(model) => (**model).clone(),
                    _ => with_points!(points, points => {
                        em::init::start(spec, points, executor, config, 0)?.0
                    }),
                };
                model.with_posterior(spec.posterior).into()
            }
            Self::MixtureOfFactorAnalyzers(spec) => {
                let model = match &spec.init {
                    Init::Model(model) => (**model).clone(),
                    _ => with_points!(points, points => {
                        start_factor_analyzers(spec, points, executor, config, 0)?.0
                    }),
                };
                let model = model.with_posterior(spec.posterior);
                model.with_parameter_expansion(spec.parameter_expansion).into()
            }
            Self::SigmoidBeliefNet(spec) => match &spec.init {
                Some(model) => model.clone().with_posterior(spec.posterior)?.into(),
                None => {
                    with_points!(points, points => em::sbn::start(spec, points, config.seed, 0)?)
                        .into()
                }
            },
            Self::LinearGaussian(spec) => given(&spec.init, spec.noise.model_name())?,
            Self::VariationalAutoencoder(spec) => given(&spec.init, "an autoencoder")?,
        })
    }

    /// Returns the rows that a fit looks at before its first E-step, ascending, if there are `len` points of dimension `dim` with
    /// these weights. A fit to points that lie elsewhere needs an [`Excerpt`](crate::data::Excerpt) with these.
    ///
    /// # Errors
    /// If a weight is no finite number of at least 0, or the model needs all points to start.
    pub fn rows_looked_at(
        &self,
        (len, dim): (u64, usize),
        weights: Option<&[f64]>,
        config: &Config,
    ) -> Result<Vec<u64>> {
        config.check()?;
        let (is_given, n_components) = match self {
            Self::Mixture(spec) => (matches!(spec.init, Init::Model(_)), spec.n_components),
            Self::MixtureOfFactorAnalyzers(spec) => {
                (matches!(spec.init, Init::Model(_)), spec.n_components)
            }
            Self::SigmoidBeliefNet(spec) if spec.init.is_some() => (true, 1),
            Self::SigmoidBeliefNet(_) => {
                let message = "a fresh start of a sigmoid belief network needs all points here: give it a start, such as a fit to a part of the points";
                return Err(Error::Config(message.to_owned()));
            }
            Self::LinearGaussian(_) | Self::VariationalAutoencoder(_) => {
                return Err(Error::Config(
                    "the model does not learn from parts of the points".to_owned(),
                ));
            }
        };
        let fresh = (!is_given).then_some(n_components);
        em::rows_looked_at(len, weights, dim, fresh, config)
    }

    fn check_sparse(&self, points: Source<'_>) -> Result<()> {
        let (takes, name) = match self {
            Self::Mixture(spec) => (spec.family.takes_sparse(), spec.family.name()),
            Self::MixtureOfFactorAnalyzers(spec) => (false, spec.noise.model_name().to_owned()),
            Self::LinearGaussian(spec) => (false, spec.noise.model_name().to_owned()),
            Self::SigmoidBeliefNet(_) => (false, "a sigmoid belief network".to_owned()),
            Self::VariationalAutoencoder(_) => (false, "an autoencoder".to_owned()),
        };
        points.check_sparse(takes, &name)
    }
}

/// Returns the model that is given as a start.
fn given<M: Clone + Into<Model>>(init: &Option<M>, name: &str) -> Result<Model> {
    match init {
        Some(model) => Ok(model.clone().into()),
        None => {
            let message = format!("{name} has no start of its own, fit it to all points");
            Err(Error::Config(message))
        }
    }
}
