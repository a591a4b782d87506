//! Learners of any kind that are fed points.

use super::source::with_points;
use super::{Precision, Source};
use crate::data::{self, DataSource};
use crate::em::expert::{Step, Stepwise};
use crate::em::sweep::Lanes;
use crate::em::{Config, StepSize};
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::family::Regularization;
use crate::model::{EStep, GenerativeModel, Mixture, MixtureOfFactorAnalyzers, SigmoidBeliefNet};
use crate::scalar::Scalar;
use crate::store::{self, Model, Stored};

/// Learns by stepwise EM from points that come from anywhere, as [`Online`](crate::em::Online), whatever the kind of model.
///
/// ```
/// use entropysum::any::{AnyOnline, Model, OwnedSource};
/// use entropysum::data::Points;
/// use entropysum::{Executor, store};
///
/// let text = r#"{"model": "gaussian-diag", "weights": [0.5, 0.5], "means": [[-1], [1]], "covariances": [[1], [1]]}"#;
/// let model: Model = store::from_bytes(text.as_bytes())?;
/// let batch = |batch: usize| -> entropysum::Result<OwnedSource<'static>> {
///     let wave = |i: usize| ((64 * batch + i) as f64).sin() + if i % 2 == 0 { -4.0 } else { 4.0 };
///     Ok(OwnedSource::F64(Box::new(Points::owned((0..64).map(wave).collect(), 1)?)))
/// };
/// let first = batch(0)?;
/// let mut online = AnyOnline::new(model, Default::default(), Default::default(), first.borrow())?;
/// let executor = Executor::new(Some(1))?;
/// for k in 0..50 {
///     let points = batch(k)?;
///     let step = online.partial_fit(points.borrow(), &executor)?;
///     assert!((step.entropy_sum.total() - step.lower_bound).abs() < 1e-10);
/// }
/// let again = AnyOnline::from_bytes(&online.to_bytes())?;
/// assert_eq!(store::to_bytes(&again.model()), store::to_bytes(&online.model()));
/// # Ok::<(), entropysum::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AnyOnline(Learner);

#[derive(Clone, Debug)]
enum Learner {
    Mixture(Stepwise<Mixture>),
    MixtureOfFactorAnalyzers(Stepwise<MixtureOfFactorAnalyzers>),
    SigmoidBeliefNet(Stepwise<SigmoidBeliefNet>),
}

/// Evaluates an expression with `$it` as the learner of its kind.
macro_rules! with_learner {
    ($learner:expr, $it:ident => $body:expr) => {
        match $learner {
            Learner::Mixture($it) => $body,
            Learner::MixtureOfFactorAnalyzers($it) => $body,
            Learner::SigmoidBeliefNet($it) => $body,
        }
    };
}

impl AnyOnline {
    /// Makes a learner that starts from where the model stands, for points such as those of a first batch: of its precision, and as
    /// finely rounded. It does not learn from the batch yet.
    ///
    /// # Errors
    /// If a step setting is out of range, or the model cannot be learned by minibatches.
    pub fn new(
        model: Model,
        step_size: StepSize,
        regularization: Regularization,
        first: Source<'_>,
    ) -> Result<Self> {
        let mut config = Config::default().regularization(regularization);
        with_points!(first, points => config.find_resolution(points));
        let rounding = match first.precision() {
            Precision::F32 => f32::EPSILON.into(),
            Precision::F64 => f64::EPSILON,
        };
        let settings = Regularization { rounding, ..config.regularization };
        Ok(Self(match model {
            Model::Mixture(it) => Learner::Mixture(Stepwise::new(it, step_size, settings)?),
            Model::MixtureOfFactorAnalyzers(it) => {
                Learner::MixtureOfFactorAnalyzers(Stepwise::new(it, step_size, settings)?)
            }
            Model::SigmoidBeliefNet(it) => {
                Learner::SigmoidBeliefNet(Stepwise::new(it, step_size, settings)?)
            }
            other => {
                let name = other.name();
                let message = format!("{name} does not learn by stepwise EM, fit it to all points");
                return Err(Error::Config(message));
            }
        }))
    }

    /// Does a step of stepwise EM on all points of a source: the minibatch.
    ///
    /// # Errors
    /// As [`Online::partial_fit`](crate::em::Online::partial_fit); the learner is then as before.
    pub fn partial_fit(&mut self, points: Source<'_>, executor: &Executor) -> Result<Step> {
        with_learner!(&self.0, it => check(it.model(), points))?;
        with_learner!(&mut self.0, it => with_points!(points, points => step(it, points, executor)))
    }

    /// Returns the model as it stands.
    pub fn model(&self) -> Model {
        with_learner!(&self.0, it => it.model().clone().into())
    }

    /// Returns the number of batches that it has learned from.
    pub fn steps(&self) -> u64 {
        with_learner!(&self.0, it => it.steps())
    }

    /// Returns the learner as bytes, as [`learner_to_bytes`](store::learner_to_bytes): another process can go on with it.
    pub fn to_bytes(&self) -> Vec<u8> {
        with_learner!(&self.0, it => store::learner_to_bytes(it))
    }

    /// Makes the learner that [`to_bytes`](Self::to_bytes) described.
    ///
    /// # Errors
    /// [`Error::Model`] if the bytes are damaged, of another version, or of no such learner.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        // A learner does not say its kind apart from its model, whose kind only one of these takes.
        let mixture = match store::learner_from_bytes(bytes) {
            Ok(learner) => return Ok(Self(Learner::Mixture(learner))),
            Err(fault) => fault,
        };
        if let Ok(learner) = store::learner_from_bytes(bytes) {
            return Ok(Self(Learner::MixtureOfFactorAnalyzers(learner)));
        }
        let network = store::learner_from_bytes(bytes).map_err(|_| mixture)?;
        Ok(Self(Learner::SigmoidBeliefNet(network)))
    }
}

fn check<M: GenerativeModel + Stored>(model: &M, points: Source<'_>) -> Result<()> {
    points.check_sparse(model.takes_sparse(), &model.name())
}

fn step<T: Scalar, M: EStep<T>>(
    learner: &mut Stepwise<M>,
    points: &dyn DataSource<T>,
    executor: &Executor,
) -> Result<Step> {
    data::check_source(points, GenerativeModel::dim(learner.model()))?;
    let stats = Lanes::default().sweep(executor, points, learner.model())?;
    learner.absorb_by(stats, executor)
}
