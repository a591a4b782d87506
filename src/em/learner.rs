//! What the driver asks of a model that learns: an E-step on a batch, an M-step on statistics.
//!
//! A new kind of model implements [`Maximizer`] (control plane, `f64`, sees no point) and [`Learner`] (data plane). Batch EM,
//! stepwise EM, incremental EM, checkpoints, stopping rules and observers then work for it without another line.

use crate::block::{Block, BlockBuf};
use crate::data::DataSource;
use crate::data::shuffle::ShuffledWindow;
use crate::em::row_memory::RowMemory;
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::family::Domain;
use crate::model::EntropySum;
use crate::monitor::{Event, GapHalves, TruncationLoss};
use crate::scalar::Scalar;
use crate::work::Workers;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Sufficient statistics that can be added, scaled and blended, whichever points they come from.
///
/// Stepwise and incremental EM need this of statistics, and sums over several processes. [`SuffStats`](crate::expert::stats::SuffStats) has it.
pub trait Mergeable: Clone + Send + Serialize + DeserializeOwned + 'static {
    /// Returns the total weight W of the points.
    fn total_weight(&self) -> f64;

    /// Returns the number of points of positive weight.
    fn n_points(&self) -> f64;

    /// Sets the number of points of positive weight; blended statistics stand for an effective number.
    fn set_n_points(&mut self, n_points: f64);

    /// Returns the weighted sum of the log-evidence, in nats.
    fn log_evidence(&self) -> f64;

    /// Adds `factor` times other statistics.
    fn add_scaled(&mut self, factor: f64, other: &Self);

    /// Multiplies every sum by `factor`.
    fn scale(&mut self, factor: f64);

    /// Replaces the sums by `(1 - step) self + step other`.
    fn blend(&mut self, step: f64, other: &Self);

    /// Sets every sum to zero and keeps the shape.
    fn clear(&mut self);

    /// Returns the bytes that the statistics take in memory.
    fn n_bytes(&self) -> usize;

    /// Makes the masses of components sum to the total weight. In `f32` posteriors sum to 1 up to 1e-7 only.
    fn normalize_masses(&mut self) {}
}

/// Shows whether a fit may end with the parameters of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// The stopping rules decide.
    #[default]
    Open,
    /// Some parameters are held for now: the fit goes on whatever the rules say.
    Held,
    /// The parameters are a maximum in closed form: the fit ends.
    Final,
}

/// Says what a step did. All values are nats per point.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// Step size γ; 1 where statistics are replaced.
    pub step_size: f64,
    /// Mean log-likelihood of the batch under the parameters before the step: for a batch that was not seen before, an
    /// unbiased estimate of how these do on new points.
    pub batch_log_likelihood: f64,
    /// The same over all statistics that the M-step saw.
    pub log_likelihood: f64,
    /// The lower bound after the step.
    pub lower_bound: f64,
    /// The entropy sum after the step.
    pub entropy_sum: EntropySum,
    /// The log-prior of the parameters after the step without its constants, if they have a prior.
    pub log_prior: Option<f64>,
    /// Both halves of the gap, if the learner tells them apart.
    pub gap_halves: Option<GapHalves>,
    /// Floors, splits, discards.
    pub events: Vec<Event>,
    /// Whether the fit may end here.
    pub standing: Standing,
}

impl Step {
    /// Returns the bound and the entropy sum as stopping rules watch them. Under a prior both are bound plus log-prior: neither
    /// rises in every step, but their sum does.
    pub fn watched(&self) -> (f64, f64) {
        match self.log_prior {
            None => (self.lower_bound, self.entropy_sum.total()),
            Some(log_prior) => (self.lower_bound + log_prior, self.lower_bound + log_prior),
        }
    }

    /// Whether components were split or discarded in this step.
    pub fn is_repaired(&self) -> bool {
        self.events.iter().any(Event::is_repair)
    }
}

/// The half of a learner that sees statistics and no points: parameters, M-step, entropies.
pub trait Maximizer {
    /// The model that is learned.
    type Model: Clone;
    /// What an M-step needs of the points.
    type Statistics;

    /// Returns the model as it stands.
    fn model(&self) -> &Self::Model;

    /// Returns the model for replacement.
    fn model_mut(&mut self) -> &mut Self::Model;

    /// M-step: sets the parameters that maximise the bound given the statistics.
    ///
    /// # Errors
    /// If the statistics allow no parameters.
    fn maximize(
        &mut self,
        statistics: &Self::Statistics,
        workers: &dyn Workers,
    ) -> Result<Vec<Event>>;

    /// Returns the lower bound and the entropy sum of the parameters, with the posteriors that made the statistics; nats per point.
    fn evaluate(&self, statistics: &Self::Statistics, workers: &dyn Workers) -> (f64, EntropySum);

    /// Tells whether M-steps can take a prior of covariances.
    fn takes_prior(&self) -> bool {
        false
    }

    /// Returns the log-prior of the parameters without its constants, in nats per point, if they have a prior.
    fn log_prior(&self, _statistics: &Self::Statistics) -> Option<f64> {
        None
    }

    /// Returns the mean log-likelihood of the parameters that made the statistics, in nats per point. Called after the M-step.
    fn log_likelihood(&self, statistics: &Self::Statistics) -> f64;

    /// Splits or discards components that the statistics no longer define. The bound may fall.
    fn repair(&mut self, _statistics: &Self::Statistics) -> Vec<Event> {
        Vec::new()
    }

    /// Makes statistics that outlive an M-step agree with what a repair did.
    fn adopt(&self, _repairs: &[Event], _statistics: &mut Self::Statistics) {}

    /// Chooses anew about which points statistics are taken, from the next E-step on.
    fn recentre(&mut self) {}

    /// Moves statistics to the centres of now.
    fn translate(&self, _statistics: &mut Self::Statistics) {}

    /// Returns how much larger the bound of the parameters is on `now` than that of the M-step from `before`, if that is known: the
    /// divergence `KL(π‖π') + Σ_c π_c KL(p_c‖p'_c)` that parameters moved by.
    fn displacement(
        &self,
        _before: &Self::Statistics,
        _now: &Self::Statistics,
        _workers: &dyn Workers,
    ) -> f64 {
        f64::INFINITY
    }

    /// Shows whether the fit may end now.
    fn standing(&self) -> Standing {
        Standing::Open
    }

    /// Returns the number of free parameters, as information criteria count them.
    fn n_parameters(&self) -> usize;

    /// Returns the number of components of positive weight.
    fn active_components(&self) -> usize {
        1
    }

    /// Returns what a model file does not hold of the learner, encoded; a resumed fit hands it to [`restore`](Self::restore).
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes back what [`save`](Self::save) gave, into a learner whose model comes from a file.
    ///
    /// # Errors
    /// If the bytes are not those of such a learner.
    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() { Ok(()) } else { Err(super::checkpoint::damaged()) }
    }

    /// Ends the fit: puts the model into the state that a file of its parameters would give back. Returns what the user should know.
    fn finish(&mut self) -> Vec<Event> {
        Vec::new()
    }
}

/// The model that a learner learns.
pub type ModelOf<T, L> = <<L as Learner<T>>::Maximizer as Maximizer>::Model;

/// The statistics that a learner's E-step returns.
pub type StatisticsOf<T, L> = <<L as Learner<T>>::Maximizer as Maximizer>::Statistics;

/// A model that learns from points in precision `T`.
pub trait Learner<T: Scalar> {
    /// The half that sees no point; often the learner itself.
    type Maximizer: Maximizer;

    /// Returns the half that sees no point.
    fn maximizer(&self) -> &Self::Maximizer;

    /// Returns the half that sees no point, for an M-step.
    fn maximizer_mut(&mut self) -> &mut Self::Maximizer;

    /// E-step: returns the statistics of a batch under the posteriors of the model as it stands. On an error nothing has changed.
    ///
    /// # Errors
    /// If a point cannot be read or has no finite log-evidence.
    fn e_step(
        &mut self,
        batch: &Batch<'_, T>,
        executor: &Executor,
    ) -> Result<StatisticsOf<T, Self>>;

    /// Tells whether statistics have the shape of those of [`e_step`](Self::e_step). Those of a damaged checkpoint may have another.
    fn takes(&self, _statistics: &StatisticsOf<T, Self>, _executor: &Executor) -> bool {
        true
    }

    /// Returns which points the model is for, beyond that their values are finite numbers.
    fn domains(&self) -> Vec<Domain> {
        Vec::new()
    }

    /// Finds the first point at fault among points in the order of their source. Called when the E-step of a shuffled batch has
    /// failed, to name the row.
    fn find_fault(&mut self, points: &dyn DataSource<T>, executor: &Executor) -> Option<Error> {
        self.e_step(&Batch::part(points), executor).err()
    }

    /// Returns how many points E-steps have read once this batch is done, if `before` were read before it.
    fn points_read(&self, before: u64, batch: &Batch<'_, T>) -> u64 {
        before + batch.len()
    }

    /// Returns the mean log-likelihood of a model by a pass over points, in nats per point.
    ///
    /// # Errors
    /// Those of reading.
    fn audit(
        &self,
        model: &ModelOf<T, Self>,
        points: &dyn DataSource<T>,
        executor: &Executor,
    ) -> Result<f64>;

    /// Returns how many joint log-densities `ln p(x_n, c)` E-steps have computed since the fit began, if their number depends on the
    /// course of the fit.
    fn joint_evaluations(&self) -> Option<u64> {
        None
    }

    /// Returns [`Fit::whitened_share`](super::Fit::whitened_share).
    fn whitened_share(&self) -> Option<f64> {
        None
    }

    /// Measures at the end of a fit how far the bound of truncated posteriors is below the log-likelihood; `None` if the bound is
    /// not of this kind.
    ///
    /// # Errors
    /// Those of reading.
    fn truncation_loss(
        &mut self,
        _points: &dyn DataSource<T>,
        _executor: &Executor,
    ) -> Result<Option<TruncationLoss>> {
        Ok(None)
    }

    /// Returns what the learner remembers of each row between visits, if it does, brought up to date. All ranks call it together.
    ///
    /// # Errors
    /// If it cannot be written.
    fn rows(&mut self, _executor: &Executor) -> Result<Option<&mut RowMemory>> {
        Ok(None)
    }
}

/// The points of an E-step: all points of the fit, or a minibatch. It is a source of points itself.
#[derive(Debug)]
pub struct Batch<'a, T: Scalar> {
    points: BatchPoints<'a, T>,
    is_whole: bool,
    window: Option<(&'a ShuffledWindow<T>, u64)>,
}

#[derive(Debug)]
enum BatchPoints<'a, T: Scalar> {
    Source(&'a dyn DataSource<T>),
    Block(Block<'a, T>),
}

impl<'a, T: Scalar> Batch<'a, T> {
    /// Returns all points of a fit as a batch.
    pub fn whole(points: &'a dyn DataSource<T>) -> Self {
        Self { points: BatchPoints::Source(points), is_whole: true, window: None }
    }

    /// Returns some points of a source as a batch.
    pub fn part(points: &'a dyn DataSource<T>) -> Self {
        Self { points: BatchPoints::Source(points), is_whole: false, window: None }
    }

    /// Returns a block of points as a batch.
    pub fn block(block: Block<'a, T>) -> Self {
        Self { points: BatchPoints::Block(block), is_whole: false, window: None }
    }

    /// Returns a minibatch of a window.
    pub(crate) fn of_window(window: &'a ShuffledWindow<T>, index: u64) -> Self {
        let points = BatchPoints::Block(window.batch(index));
        Self { points, is_whole: false, window: Some((window, index)) }
    }

    /// Whether these are all points of the fit, the same in every iteration. Then sums that do not depend on parameters may be
    /// kept from the first.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Returns the window of shuffled points that the batch is cut from.
    pub(crate) fn window(&self) -> Option<&'a ShuffledWindow<T>> {
        self.window.map(|(window, _)| window)
    }

    /// Returns where the points stand among the rows of their window, if windows tell.
    pub(crate) fn positions(&self) -> Option<&'a [u32]> {
        self.window.map(|(window, index)| window.positions(index))
    }
}

impl<T: Scalar> DataSource<T> for Batch<'_, T> {
    fn name(&self) -> String {
        match &self.points {
            BatchPoints::Source(points) => points.name(),
            BatchPoints::Block(_) => "batch".to_owned(),
        }
    }

    fn dim(&self) -> usize {
        match &self.points {
            BatchPoints::Source(points) => points.dim(),
            BatchPoints::Block(block) => block.dim(),
        }
    }

    fn len(&self) -> u64 {
        match &self.points {
            BatchPoints::Source(points) => points.len(),
            BatchPoints::Block(block) => block.len() as u64,
        }
    }

    fn place(&self, row: u64) -> (String, u64) {
        match &self.points {
            BatchPoints::Source(points) => points.place(row),
            BatchPoints::Block(_) => (self.name(), row),
        }
    }

    fn column_names(&self) -> Option<&[String]> {
        match &self.points {
            BatchPoints::Source(points) => points.column_names(),
            BatchPoints::Block(_) => None,
        }
    }

    fn read<'b>(
        &'b self,
        start: u64,
        count: usize,
        buffer: &'b mut BlockBuf<T>,
    ) -> Result<Block<'b, T>> {
        match &self.points {
            BatchPoints::Source(points) => points.read(start, count, buffer),
            BatchPoints::Block(block) => {
                Ok(Block { first: 0, ..*block }.slice(start as usize, count))
            }
        }
    }

    fn read_sparse<'b>(
        &'b self,
        start: u64,
        count: usize,
        buffer: &'b mut BlockBuf<T>,
    ) -> Option<Block<'b, T>> {
        match &self.points {
            BatchPoints::Source(points) => points.read_sparse(start, count, buffer),
            BatchPoints::Block(_) => None,
        }
    }
}

/// M-step, bound, entropies and repairs, for statistics that are used again or not. The only place where these follow each other.
///
/// # Errors
/// If the bound is no finite number, or the M-step fails.
pub(crate) fn m_step<M: Maximizer>(
    maximizer: &mut M,
    statistics: &mut M::Statistics,
    is_used_again: bool,
    workers: &dyn Workers,
) -> Result<Step> {
    let mut events = maximizer.maximize(statistics, workers)?;
    if is_used_again {
        maximizer.recentre();
        maximizer.translate(statistics);
    }
    let evaluate = |maximizer: &M, statistics: &M::Statistics| {
        let (lower_bound, entropy_sum) = maximizer.evaluate(statistics, workers);
        let is_finite = lower_bound.is_finite() && entropy_sum.total().is_finite();
        if is_finite { Ok((lower_bound, entropy_sum)) } else { Err(not_finite()) }
    };
    let (mut lower_bound, mut entropy_sum) = evaluate(maximizer, statistics)?;
    let repairs = maximizer.repair(statistics);
    if is_used_again && !repairs.is_empty() {
        maximizer.translate(statistics);
        maximizer.adopt(&repairs, statistics);
        maximizer.recentre();
        (lower_bound, entropy_sum) = evaluate(maximizer, statistics)?;
    }
    events.extend(repairs);
    Ok(Step {
        step_size: 1.0,
        lower_bound,
        entropy_sum,
        events,
        log_prior: maximizer.log_prior(statistics),
        standing: maximizer.standing(),
        ..Step::default()
    })
}

/// Returns the fault of a bound that is NaN or infinite.
pub(crate) fn not_finite() -> Error {
    Error::Model(
        "the lower bound is no finite number; values are too large or too small".to_owned(),
    )
}
