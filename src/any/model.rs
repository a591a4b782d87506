//! Use of a model of any kind.

use super::Source;
use super::source::with_points;
use crate::data::DataSource;
use crate::error::Result;
use crate::exec::Executor;
use crate::inference::{self, Score};
use crate::model::{Density, GenerativeModel, LatentSpace, Posterior};
use crate::scalar::Scalar;
use crate::store::{Model, Stored};

/// Takes numbers of successive points.
pub type Sink<'s> = dyn FnMut(&[f64]) -> Result<()> + 's;

/// Takes points, row-major, and their components.
pub type SampleSink<'s> = dyn FnMut(&[f64], &[u32]) -> Result<()> + 's;

/// Names numbers that a model has for each point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerPoint {
    /// The log-density, in nats; for some networks a lower bound of it.
    LogDensity,
    /// Posterior probabilities of the components.
    Posterior,
    /// The most probable state of all latents: zeros and ones.
    State,
    /// Posterior means of the latents.
    Transform,
    /// So many draws from the posterior of the latents, one after the other.
    Draws(usize),
    /// The point that these means stand for.
    Reconstruct,
}

/// A model with a vector of latents, in both precisions.
pub trait Latents {
    /// Returns the number of latents.
    fn n_latents(&self) -> usize;

    /// Hands on the numbers of [`PerPoint::Transform`], [`PerPoint::Draws`] or [`PerPoint::Reconstruct`].
    ///
    /// # Errors
    /// As [`inference::transform`].
    fn map(
        &self,
        numbers: PerPoint,
        source: Source<'_>,
        executor: &Executor,
        sink: &mut Sink<'_>,
    ) -> Result<()>;
}

impl<M: LatentSpace<f32> + LatentSpace<f64>> Latents for M {
    fn n_latents(&self) -> usize {
        LatentSpace::<f64>::n_latents(self)
    }

    fn map(
        &self,
        numbers: PerPoint,
        source: Source<'_>,
        executor: &Executor,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        with_points!(source, points => match numbers {
            PerPoint::Reconstruct => inference::reconstruct(self, points, executor, |_, x| sink(x)),
            PerPoint::Draws(samples) => {
                inference::draw_latents(self, points, samples, executor, |_, z| sink(z))
            }
            _ => inference::transform(self, points, executor, |_, z| sink(z)),
        })
    }
}

/// Evaluates an expression with `$it` as the model of its kind.
macro_rules! with_model {
    ($model:expr, $it:ident => $body:expr) => {
        match $model {
            Model::Mixture($it) => $body,
            Model::MixtureOfFactorAnalyzers($it) => $body,
            Model::LinearGaussian($it) => $body,
            Model::SigmoidBeliefNet($it) => $body,
            Model::VariationalAutoencoder($it) => $body,
        }
    };
}

pub(crate) use with_model;

/// What every kind of model is used for, as in [`inference`].
impl Model {
    /// Returns the dimension D of the points.
    pub fn dim(&self) -> usize {
        with_model!(self, it => GenerativeModel::dim(it))
    }

    /// Returns the number of free parameters.
    pub fn n_parameters(&self) -> usize {
        with_model!(self, it => GenerativeModel::n_parameters(it))
    }

    /// Returns the number of components; 0 for a model without components.
    pub fn n_components(&self) -> usize {
        with_model!(self, it => Density::<f64>::n_components(it))
    }

    /// Tells whether the model takes sparse points.
    pub fn takes_sparse(&self) -> bool {
        with_model!(self, it => GenerativeModel::takes_sparse(it))
    }

    /// Returns the same model for points with missing values, which are NaN.
    ///
    /// # Errors
    /// If the model needs all values of a point.
    pub fn ignoring_missing(self) -> Result<Self> {
        Ok(with_model!(self, it => it.ignoring_missing()?.into()))
    }

    /// Returns the model as one with a vector of latents, if it has latents.
    pub fn latents(&self) -> Option<&dyn Latents> {
        match self {
            Self::Mixture(_) => None,
            Self::MixtureOfFactorAnalyzers(it) => Some(it),
            Self::LinearGaussian(it) => Some(it),
            Self::SigmoidBeliefNet(it) => Some(it),
            Self::VariationalAutoencoder(it) => Some(it),
        }
    }

    /// Refuses points that the model is not for.
    ///
    /// # Errors
    /// If their dimension differs, or they are sparse and the model takes dense points.
    pub fn check(&self, source: Source<'_>) -> Result<()> {
        with_points!(source, points => crate::data::check_dim(points, self.dim()))?;
        source.check_sparse(self.takes_sparse(), &self.name())
    }

    /// Returns the same model, whose densities and posteriors are exact: they go through all components of a mixture.
    pub fn exact(self) -> Self {
        match self {
            Self::Mixture(it) => it.with_posterior(Posterior::Exact).into(),
            Self::MixtureOfFactorAnalyzers(it) => it.with_posterior(Posterior::Exact).into(),
            other => other,
        }
    }

    /// Computes the mean log-density of points and the terms of information criteria.
    ///
    /// This and the next two methods prepare a search of the components if it [pays](crate::inference::ComponentSearch::pays);
    /// [`applied`](Self::applied) prepares it once for all that is asked.
    ///
    /// # Errors
    /// As [`inference::score`].
    pub fn score(&self, source: Source<'_>, executor: &Executor) -> Result<Score> {
        self.applied(source, executor)?.score()
    }

    /// Hands on numbers of each point, in order.
    ///
    /// # Errors
    /// As [`inference::score_samples`]; [`Error::Model`](crate::Error::Model) if the model has no such numbers.
    pub fn per_point(
        &self,
        numbers: PerPoint,
        source: Source<'_>,
        executor: &Executor,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        self.applied(source, executor)?.per_point(numbers, sink)
    }

    /// Hands on the most probable component of each point, in order.
    ///
    /// # Errors
    /// As [`inference::predict`]; [`Error::Model`](crate::Error::Model) if the model has no components.
    pub fn labels(
        &self,
        source: Source<'_>,
        executor: &Executor,
        sink: &mut dyn FnMut(&[u32]) -> Result<()>,
    ) -> Result<()> {
        self.applied(source, executor)?.labels(sink)
    }

    /// Hands on `n` points that are drawn from the model, and their components if there are components.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn sample(
        &self,
        n: u64,
        seed: u64,
        executor: &Executor,
        sink: &mut SampleSink<'_>,
    ) -> Result<()> {
        with_model!(self, it => inference::sample(it, n, seed, executor, sink))
    }
}

/// Hands on log-densities or posterior probabilities.
pub(super) fn scores<T: Scalar, M: Density<T>>(
    model: &M,
    numbers: PerPoint,
    points: &dyn DataSource<T>,
    executor: &Executor,
    sink: &mut Sink<'_>,
) -> Result<()> {
    match numbers {
        PerPoint::Posterior => {
            inference::predict_proba(model, points, executor, |_, values| sink(values))
        }
        _ => inference::score_samples(model, points, executor, |_, values| sink(values)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Points, SparsePoints};
    use crate::store;

    fn model(text: &str) -> Model {
        store::from_bytes(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_model_says_what_it_lacks() {
        let executor = Executor::new(Some(1)).unwrap();
        let mixture = model(
            r#"{"model": "gaussian-diag", "weights": [1], "means": [[0, 0]], "covariances": [[1, 1]]}"#,
        );
        let ppca = model(
            r#"{"model": "ppca", "mean": [0, 0], "loadings": [[1], [1]], "noise_variance": 1}"#,
        );
        let points = Points::<f64>::from_rows(&[1.0, 2.0], 2).unwrap();
        let source = Source::F64(&points);
        let fault = |model: &Model, numbers| {
            model.per_point(numbers, source, &executor, &mut |_| Ok(())).unwrap_err().to_string()
        };
        assert_eq!(fault(&mixture, PerPoint::Transform), "gaussian-diag has no latents");
        assert_eq!(fault(&mixture, PerPoint::State), "gaussian-diag has no states");
        assert_eq!(fault(&ppca, PerPoint::Posterior), "ppca has no components");
        let fault = ppca.labels(source, &executor, &mut |_| Ok(())).unwrap_err().to_string();
        assert_eq!(fault, "ppca has no components");

        let sparse = SparsePoints::<f64>::from_csr(vec![0, 1], vec![0], vec![4.0], 2).unwrap();
        let fault = mixture.score(Source::F64(&sparse), &executor).unwrap_err().to_string();
        assert!(fault.contains("gaussian-diag takes dense points"), "{fault}");
        let wide = Points::<f32>::from_rows(&[1.0, 2.0, 3.0], 3).unwrap();
        let fault = mixture.score(Source::F32(&wide), &executor).unwrap_err().to_string();
        assert!(fault.contains("found points of dimension 3, expected 2"), "{fault}");
    }
}
