//! Learns from points that come from anywhere: an iterator, a channel, a socket.

use super::config::Config;
use super::init::{self, MixtureSpec};
use super::learner::{Batch, Step};
use super::stepwise::{StepSize, Stepwise};
use super::sweep::Lanes;
use crate::block::Block;
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::family::Regularization;
use crate::model::{EStep, Mixture};
use crate::scalar::Scalar;

/// A learner that is fed blocks of points: stepwise EM with scratch memory of its own.
///
/// ```
/// use entropysum::Block;
/// use entropysum::em::{Online, StepSize};
/// use entropysum::Executor;
/// use entropysum::faer::MatRef;
/// use entropysum::family::{Parameters, Regularization, registry};
/// use entropysum::model::Mixture;
///
/// let components = vec![vec![-1.0, 1.0], vec![1.0, 1.0]];
/// let start = Mixture::new(
///     registry::build("gaussian-full", 1)?,
///     vec![0.5, 0.5],
///     Parameters { components, shared: vec![] },
/// )?;
/// let mut online = Online::<f64, _>::new(start, StepSize::default(), Regularization::default())?;
/// let executor = Executor::new(Some(1))?;
/// for batch in 0..200 {
///     // From wherever: here two clusters, at -4 and 4.
///     let values: Vec<f64> = (0..64)
///         .map(|i| if i % 2 == 0 { -4.0 } else { 4.0 } + ((batch * 64 + i) as f64).sin())
///         .collect();
///     let points = MatRef::from_row_major_slice(&values, 64, 1);
///     online.partial_fit(Block { points, sparse: None, weights: None, first: 0 }, &executor)?;
///     let learner = online.learner();
///     let entropy_sum = learner.entropy_sum().unwrap().total();
///     assert!((entropy_sum - learner.lower_bound().unwrap()).abs() < 1e-10);
/// }
/// let means = online.learner().model().parameter("means").unwrap();
/// assert!((means[0] + 4.0).abs() < 0.2 && (means[1] - 4.0).abs() < 0.2);
/// # Ok::<(), entropysum::error::Error>(())
/// ```
#[derive(Debug)]
pub struct Online<T: Scalar, M: EStep<T>> {
    learner: Stepwise<M>,
    lanes: Lanes<T, M::Workspace>,
}

/// Copies the learner; scratch memory is made anew.
impl<T: Scalar, M: EStep<T>> Clone for Online<T, M> {
    fn clone(&self) -> Self {
        Self::from_learner(self.learner.clone())
    }
}

impl<T: Scalar> Online<T, Mixture> {
    /// Makes a learner of a mixture that starts from a first batch of points, and takes it in.
    ///
    /// # Errors
    /// If there are fewer points than components, or a setting is out of range.
    ///
    /// ```
    /// use entropysum::Block;
    /// use entropysum::em::{Config, MixtureSpec, Online, StepSize};
    /// use entropysum::Executor;
    /// use entropysum::faer::MatRef;
    /// use entropysum::family::registry;
    ///
    /// let values: Vec<f64> = (0..300).map(|i| f64::from(i % 3) * 10.0 + f64::from(i).sin()).collect();
    /// let points = MatRef::from_row_major_slice(&values, 300, 1);
    /// let first = Block { points, sparse: None, weights: None, first: 0 };
    /// let spec = MixtureSpec::new(registry::build("gaussian-full", 1)?, 3);
    /// let (executor, config) = (Executor::new(Some(1))?, Config::default());
    /// let online = Online::from_first_batch(&spec, first, StepSize::default(), &executor, &config)?;
    /// assert_eq!(online.learner().points_seen(), 300);
    /// # Ok::<(), entropysum::error::Error>(())
    /// ```
    pub fn from_first_batch(
        spec: &MixtureSpec,
        block: Block<'_, T>,
        step_size: StepSize,
        executor: &Executor,
        config: &Config,
    ) -> Result<Self> {
        let batch = Batch::block(block);
        let mut config = config.clone();
        config.find_resolution(&batch);
        let (model, _) = init::start(spec, &batch, executor, &config, 0)?;
        let model = model.with_posterior(spec.posterior);
        let mut online = Self::new(model, step_size, config.regularization)?;
        online.partial_fit(block, executor)?;
        Ok(online)
    }
}

impl<T: Scalar, M: EStep<T>> Online<T, M> {
    /// A learner that starts from where the model stands.
    ///
    /// # Errors
    /// If a step setting is out of range.
    pub fn new(model: M, step_size: StepSize, regularization: Regularization) -> Result<Self> {
        if regularization.prior.as_ref().is_some_and(|prior| prior.total_weight.is_none()) {
            return Err(Error::Config(
                "a prior counts against the weight of all points, which is not known here: set its total_weight".into(),
            ));
        }
        let regularization = Regularization { rounding: T::EPSILON, ..regularization };
        Ok(Self::from_learner(Stepwise::new(model, step_size, regularization)?))
    }

    /// Goes on with a learner.
    pub fn from_learner(learner: Stepwise<M>) -> Self {
        Self { learner, lanes: Lanes::default() }
    }

    /// The learner: model, entropy sum, statistics, at any time.
    pub fn learner(&self) -> &Stepwise<M> {
        &self.learner
    }

    /// The learner, for merging and averaging.
    pub fn learner_mut(&mut self) -> &mut Stepwise<M> {
        &mut self.learner
    }

    /// One step of stepwise EM on a block of points: the minibatch. The same bits on any number of threads.
    ///
    /// # Errors
    /// If dimensions differ, if the block is empty, or if a point has no finite log-evidence. The learner is then as before.
    pub fn partial_fit(&mut self, block: Block<'_, T>, executor: &Executor) -> Result<Step> {
        if block.dim() != self.learner.model().dim() {
            let (found, expected) = (block.dim(), self.learner.model().dim());
            return Err(Error::Config(format!(
                "points of {found} dimension(s), the model is for {expected}"
            )));
        }
        if block.is_empty() {
            return Err(Error::Config("a batch without points".to_owned()));
        }
        let stats = self.lanes.sweep(executor, &Batch::block(block), self.learner.model())?;
        self.learner.absorb_by(stats, executor)
    }

    /// The learner, without its scratch memory.
    pub fn into_learner(self) -> Stepwise<M> {
        self.learner
    }
}
