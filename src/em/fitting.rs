//! Fits a model: what was asked for, and on which points, becomes starts, phases and a driver.

use super::accumulator::{Blend, Exchange, LastPhase, Replace};
use super::checkpoint::{Checkpoint, Checkpoints, Saved, Settings};
use super::config::Config;
use super::driver::{Driver, Fit, Phase, Schedule, Setting};
use super::elsewhere::Elsewhere;
use super::learner::{Learner, Maximizer, Mergeable, StatisticsOf};
use super::model_learner::ModelLearner;
use super::step_size::{POINTS_PER_COMPONENT, largest_step, noise_of_step};
use super::stepwise::Running;
use super::stream::{LARGEST_LEAST_STEP, NOISE, StreamAlgorithm, StreamConfig};
use crate::data::shuffle::BatchOrder;
use crate::data::{self, DataSource};
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::model::EStep;
use crate::monitor::{
    Convergence, Event, IterRecord, Monitor, Observer, Plateau, Silent, StopReason,
};
use crate::point_faults::check_ranks;
use crate::scalar::Scalar;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A learner or a model at its start, and an event of the start that the user should know.
pub(crate) type Started<V> = Result<(V, Option<Event>)>;

/// Makes the learner of a run, or that of a saved model.
type Make<'f, F, M, L> = dyn Fn(&F, u64, Option<M>) -> Started<L> + 'f;

/// The phases of a fit, in order.
type Phases<T, L> = Result<Vec<Phase<T, L>>>;

/// What to fit, and how to start: a specification, or a model to go on from.
pub trait Spec<T: Scalar> {
    /// The kind of model that is learned.
    type Model: Clone;

    /// Learns the model as `fitting` says.
    ///
    /// # Errors
    /// If a setting is out of range or has no meaning for the model, the dimensions differ, there are too few points, or a point
    /// cannot be read or has no finite log-evidence. Not converging is no error.
    fn fit(&self, fitting: Fitting<'_, T, Self::Model>) -> Result<Fit<Self::Model>>;
}

/// Fits a model to points by batch EM: the best by its bound of `config.n_init` starts. [`Fitting`] offers more.
///
/// # Errors
/// As [`Spec::fit`].
///
/// ```
/// use entropysum::data::Points;
/// use entropysum::em::{self, Config};
/// use entropysum::Executor;
/// use entropysum::family::{Parameters, registry};
/// use entropysum::model::Mixture;
/// use entropysum::monitor::Silent;
///
/// let points = Points::<f64>::from_rows(&[0.0, 0.2, 0.1, 5.0, 5.3, 5.1], 1)?;
/// let components = vec![vec![0.0, 1.0], vec![4.0, 1.0]];
/// let start = Mixture::new(
///     registry::build("gaussian-full", 1)?,
///     vec![0.5, 0.5],
///     Parameters { components, shared: vec![] },
/// )?;
/// let fit = em::fit(&start, &points, &Executor::new(Some(1))?, &Config::default(), &mut Silent)?;
/// assert!(fit.converged());
/// assert!((fit.model.parameter("means").unwrap()[0] - 0.1).abs() < 1e-6);
/// assert!(fit.last().unwrap().gap().abs() < 1e-10);
/// # Ok::<(), entropysum::error::Error>(())
/// ```
pub fn fit<T: Scalar, S: Spec<T>>(
    spec: &S,
    source: &dyn DataSource<T>,
    executor: &Executor,
    config: &Config,
    observer: &mut dyn Observer,
) -> Result<Fit<S::Model>> {
    Fitting::new(source, executor).config(config).observer(observer).fit(spec)
}

/// A fit that is being set up: points, threads, settings, and who watches and keeps it.
///
/// The same seed and settings give the same bits on any number of threads, and whether or not the fit was interrupted and
/// resumed from a checkpoint.
///
/// ```
/// use entropysum::data::Points;
/// use entropysum::em::{Fitting, MixtureSpec, StreamConfig};
/// use entropysum::Executor;
/// use entropysum::family::registry;
///
/// let values: Vec<f64> = (0..9000).map(|i| f64::from(i % 3) * 10.0 + (f64::from(i) * 0.7).sin()).collect();
/// let points = Points::from_rows(&values, 1)?;
/// let spec = MixtureSpec::new(registry::build("gaussian-full", 1)?, 3);
/// let minibatches = StreamConfig::default().batch_size(300).epochs(2);
/// let executor = Executor::new(Some(1))?;
/// let fit = Fitting::new(&points, &executor).minibatches(&minibatches).fit(&spec)?;
/// let mut means = fit.model.parameter("means").unwrap();
/// means.sort_by(f64::total_cmp);
/// assert!((means[1] - 10.0).abs() < 0.1);
/// assert!(fit.history.records.iter().all(|record| record.gap().abs() < 1e-10));
/// # Ok::<(), entropysum::error::Error>(())
/// ```
pub struct Fitting<'a, T: Scalar, M> {
    points: &'a dyn DataSource<T>,
    executor: &'a Executor,
    config: Config,
    stream: Option<StreamConfig>,
    held_out: Option<&'a dyn DataSource<T>>,
    observer: Option<&'a mut dyn Observer>,
    checkpoints: Option<Checkpoints<'a, M>>,
    saved: Option<Saved<M>>,
    spill_folder: Option<PathBuf>,
    elsewhere: Option<Elsewhere<M>>,
    begun: Instant,
}

impl<T: Scalar, M> std::fmt::Debug for Fitting<'_, T, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fitting")
            .field("points", &self.points)
            .field("config", &self.config)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl<'a, T: Scalar, M: Clone> Fitting<'a, T, M> {
    /// Sets up a fit to points by batch EM with default settings.
    pub fn new(points: &'a dyn DataSource<T>, executor: &'a Executor) -> Self {
        Self {
            points,
            executor,
            config: Config::default(),
            stream: None,
            held_out: None,
            observer: None,
            checkpoints: None,
            saved: None,
            spill_folder: None,
            elsewhere: None,
            begun: Instant::now(),
        }
    }

    /// Sets tolerance, iterations, starts, seed.
    pub fn config(mut self, config: &Config) -> Self {
        self.config = config.clone();
        self
    }

    /// Learns by minibatches.
    pub fn minibatches(mut self, stream: &StreamConfig) -> Self {
        self.stream = Some(stream.clone());
        self
    }

    /// Audits fits by minibatches with these points instead of those that are learned from.
    pub fn held_out(mut self, points: &'a dyn DataSource<T>) -> Self {
        self.held_out = Some(points);
        self
    }

    /// Tells whether there are held-out points.
    pub(super) fn has_held_out(&self) -> bool {
        self.held_out.is_some()
    }

    /// Shows each record to an observer, who may end the fit.
    pub fn observer(mut self, observer: &'a mut dyn Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Hands the state of the fit to `save` from time to time, and when it ends, whatever ended it. A failure of `save` is a warning
    /// and does not end the fit; [`Fit::checkpoint_fault`] tells that of the last time.
    pub fn checkpoints(
        mut self,
        every: Duration,
        save: impl FnMut(&Checkpoint<'_, M>) -> Result<()> + 'a,
    ) -> Self {
        self.checkpoints = Some(Checkpoints { every, save: Box::new(save) });
        self
    }

    /// Goes on where another fit was kept, to the same bits. A fit that had converged adds nothing; more iterations may be asked
    /// for.
    pub fn resume(mut self, saved: Saved<M>) -> Self {
        self.saved = Some(saved);
        self
    }

    /// Puts what the learner remembers of each row, and memory has no room for, into a temporary file in this folder; the
    /// system's folder for such files if not said.
    pub fn spill_folder(mut self, folder: &Path) -> Self {
        self.spill_folder = Some(folder.to_owned());
        self
    }

    /// Takes the E-steps of all points from elsewhere; the points of the fit are an [`Excerpt`](data::Excerpt) of them. For models
    /// that learn from sums over points by batch EM.
    pub fn elsewhere(mut self, elsewhere: Elsewhere<M>) -> Self {
        self.elsewhere = Some(elsewhere);
        self
    }

    /// Fits.
    ///
    /// # Errors
    /// As [`Spec::fit`]; also if a saved state is of another fit or other points.
    pub fn fit<S: Spec<T, Model = M>>(self, spec: &S) -> Result<Fit<M>> {
        self.config.check()?;
        if let Some(stream) = &self.stream {
            stream.check()?;
        }
        check_ranks(self.points, self.executor)?;
        spec.fit(self)
    }

    /// Fits by a learner of the caller's own, from where it stands.
    ///
    /// # Errors
    /// As [`fit`](Self::fit).
    pub fn learn<L: Learner<T>>(self, learner: L) -> Result<Fit<M>>
    where
        L::Maximizer: Maximizer<Model = M>,
        StatisticsOf<T, L>: Mergeable,
    {
        self.config.check()?;
        check_ranks(self.points, self.executor)?;
        let learner = std::cell::Cell::new(Some(learner));
        let make = |_: &Self, _, saved: Option<M>| {
            let mut learner = learner.take().expect("a given start is used once");
            if let Some(model) = saved {
                *learner.maximizer_mut().model_mut() = model;
            }
            Ok((learner, None))
        };
        self.best_of(true, "given", &make, &|fitting, learner| fitting.phases(learner))
    }

    /// Returns the points, for the start of a [`Spec`].
    pub fn points(&self) -> &'a dyn DataSource<T> {
        self.points
    }

    /// Returns the threads.
    pub fn executor(&self) -> &'a Executor {
        self.executor
    }

    /// Returns tolerance, iterations, starts, seed.
    pub fn settings(&self) -> &Config {
        &self.config
    }

    /// The settings of minibatches, if they were asked for.
    pub(crate) fn stream(&self) -> Option<&StreamConfig> {
        self.stream.as_ref()
    }

    /// Whether the fit is kept in checkpoints, or goes on from such.
    pub(crate) fn is_kept(&self) -> bool {
        self.checkpoints.is_some() || self.saved.is_some()
    }

    /// Where rows go that memory has no room for.
    pub(crate) fn folder(&self) -> PathBuf {
        self.spill_folder.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// Counts the seconds of the fit from an earlier instant, at which points were gone through to prepare it.
    pub(crate) fn since(mut self, begun: Instant) -> Self {
        self.begun = begun;
        self
    }

    /// Fits from `config.n_init` starts and keeps the best by its bound. `make` makes the learner of a start, or that of a saved
    /// model; `words` say how it learns.
    pub(crate) fn best_of<L: Learner<T>>(
        mut self,
        is_given: bool,
        words: &str,
        make: &Make<'_, Self, M, L>,
        phases: &dyn Fn(&Self, &L) -> Phases<T, L>,
    ) -> Result<Fit<M>>
    where
        L::Maximizer: Maximizer<Model = M>,
    {
        if is_given && self.config.n_init > 1 {
            return Err(Error::Config(
                "n_init must be 1 with a given start: all runs from it are the same".into(),
            ));
        }
        if self.is_kept() && self.config.n_init > 1 {
            return Err(Error::Config(
                "n_init must be 1 for a fit that is kept in checkpoints".into(),
            ));
        }
        if self.elsewhere.is_some() {
            return Err(Error::Config(
                "points that lie elsewhere are for batch EM with exact or hard posteriors: this model, or its posteriors, need points here".into(),
            ));
        }
        let limit = self.config.max_time;
        let settings = self.is_kept().then(|| {
            let order = self.stream.as_ref().map(|it| it.order(self.points, &self.config));
            let stream = self.stream.as_ref().zip(order.as_ref());
            Settings::of(self.points, &self.config, stream, words)
        });
        if let (Some(settings), Some(saved)) = (&settings, &self.saved) {
            settings.check(&saved.settings)?;
        }
        let mut silent = Silent;
        let mut best: Option<Fit<M>> = None;
        for run in 0..self.config.n_init {
            let (model, saved) = match self.saved.take() {
                None => (None, None),
                Some(Saved { model, settings, state, rows }) => {
                    (Some(model), Some(Saved { model: (), settings, state, rows }))
                }
            };
            let (learner, event) = match make(&self, run as u64, model) {
                // Of the starts that are done, the best is kept.
                Err(Error::Interrupted) if best.is_some() => break,
                started => started?,
            };
            if self.config.regularization.prior.is_some() && !learner.maximizer().takes_prior() {
                return Err(Error::Config(
                    "the prior is for mixtures of Gaussians: this model has no covariances".into(),
                ));
            }
            let phases = phases(&self, &learner)?;
            // The time limit is one for all starts, each of which does at least one iteration.
            let mut config = self.config.clone();
            config.seed = config.seed.wrapping_add((run as u64) << 32);
            let mut begun = self.begun;
            if run > 0 {
                config.max_time = limit.map(|limit| limit.saturating_sub(self.begun.elapsed()));
                begun = Instant::now();
            }
            let observer = self.observer.as_deref_mut().unwrap_or(&mut silent);
            observer.on_start(run);
            let setting = Setting {
                points: self.points,
                held_out: self.held_out,
                executor: self.executor,
                config: &config,
                stream: self.stream.as_ref(),
                begun,
            };
            let (settings, checkpoints) = (settings.clone(), self.checkpoints.take());
            let driver =
                Driver::new(setting, learner, phases, settings, checkpoints, saved, observer)?;
            let mut fit = driver.run()?;
            fit.warnings.splice(0..0, event.map(|event| event.to_string()));
            let is_interrupted = fit.stop_reason == StopReason::Interrupted;
            let bound = |fit: &Fit<M>| fit.last().map_or(f64::NEG_INFINITY, IterRecord::objective);
            if best.as_ref().is_none_or(|best| bound(&fit) > bound(best)) {
                best = Some(fit);
            }
            // An interruption ends all starts.
            let is_late = limit.is_some_and(|limit| self.begun.elapsed() >= limit);
            if is_interrupted || self.executor.agree(is_late)? {
                break;
            }
        }
        Ok(best.expect("at least one run"))
    }

    /// The phases of a learner whose statistics can be added: batch EM, or minibatches and closing iterations.
    pub(crate) fn phases<L: Learner<T>>(&self, learner: &L) -> Result<Vec<Phase<T, L>>>
    where
        StatisticsOf<T, L>: Mergeable,
    {
        self.phases_in(learner, |order| order)
    }

    /// The same for a learner that remembers rows: minibatches tell the positions of their points.
    pub(crate) fn phases_by_rows<L: Learner<T>>(&self, learner: &L) -> Result<Vec<Phase<T, L>>>
    where
        StatisticsOf<T, L>: Mergeable,
    {
        self.phases_in(learner, BatchOrder::with_positions)
    }

    fn phases_in<L: Learner<T>>(
        &self,
        learner: &L,
        change: impl FnOnce(BatchOrder) -> BatchOrder,
    ) -> Result<Vec<Phase<T, L>>>
    where
        StatisticsOf<T, L>: Mergeable,
    {
        let Some(stream) = &self.stream else {
            return Ok(vec![self.batch_phase(self.config.max_iter, None)?]);
        };
        let order = change(stream.order(self.points, &self.config));
        let schedule = stream.schedule(order);
        let first = match stream.algorithm {
            StreamAlgorithm::Stepwise => {
                let maximizer = learner.maximizer();
                let (batch, n) = (order.batch_points(), self.points.len());
                let mut running = Running::new(stream.step_size);
                let n_components = maximizer.active_components();
                let few = (POINTS_PER_COMPONENT * n_components) as u64;
                let many = few * (self.points.dim() as u64 + 1);
                running.warm_up = stream.warm_up.unwrap_or(many.min(n / 4).max(few.min(n)));
                running.largest_step = largest_step(n_components, batch);
                let notice = (running.largest_step < 1.0).then(|| {
                    format!(
                        "minibatches of {batch} points are small for {n_components} components: steps stay at {:.2e} or \
                         below, so that components keep points; with {few} points or more (--batch-size) they need not",
                        running.largest_step
                    )
                });
                let by_noise = NOISE / noise_of_step(1.0, maximizer.n_parameters(), batch);
                running.least_step = stream.least_step.unwrap_or(by_noise.min(LARGEST_LEAST_STEP));
                let (tol, n_batches) = (self.config.tol, order.n_batches());
                let plateau = Plateau::new(tol, stream.patience, n_batches as f64)?;
                let last_phase = stream.last_phase(&order);
                Phase {
                    schedule,
                    notice,
                    accumulator: Box::new(Blend::new(running, plateau, last_phase, batch)),
                }
            }
            StreamAlgorithm::Incremental => {
                let (n_chunks, n) = (order.n_chunks(), self.points.len());
                let exchange = Exchange::new(n_chunks as usize, n, stream.memory, self.config.tol);
                Phase { schedule, accumulator: Box::new(exchange), notice: None }
            }
        };
        let mut phases = vec![first];
        if stream.polish > 0 {
            phases.push(self.batch_phase(stream.polish, None)?);
        }
        Ok(phases)
    }

    /// Batch EM until the monitored value stands still, and that of another rule if one is given.
    pub(crate) fn batch_phase<L: Learner<T>>(
        &self,
        iterations: usize,
        also: Option<Monitor>,
    ) -> Result<Phase<T, L>> {
        let Config { monitor, tol, rtol, .. } = self.config;
        let rule = |monitor| Convergence::new(monitor, tol, rtol);
        let replace = Replace::new(rule(monitor)?, also.map(rule).transpose()?);
        let schedule = Schedule::Full { iterations: iterations as u64 };
        Ok(Phase { schedule, accumulator: Box::new(replace), notice: None })
    }

    /// Finds what M-steps of mixtures need to know of all points: their rounding, and for minibatches under a prior their weight.
    pub(crate) fn find_scales(&mut self) {
        self.config.find_resolution(self.points);
        if self.stream.is_some() {
            self.config.find_total_weight(self.points);
        }
    }

    /// Fits a model with an E-step over points, from starts that `start` makes.
    pub(crate) fn fit_model(
        mut self,
        is_given: bool,
        start: &dyn Fn(&Self, u64) -> Started<M>,
    ) -> Result<Fit<M>>
    where
        M: EStep<T>,
    {
        self.find_scales();
        // Minibatches need points here, which is refused below.
        let elsewhere = self.elsewhere.take_if(|_| self.stream.is_none());
        let make = |fitting: &Self, run, saved| {
            let (model, event) = match saved {
                Some(model) => (model, None),
                None => start(fitting, run)?,
            };
            data::check_source(fitting.points, model.dim())?;
            let learner = ModelLearner::new(model, fitting.config.regularization.clone())?;
            Ok((learner.with_e_step(elsewhere.clone()), event))
        };
        self.best_of(is_given, "EM", &make, &|fitting, learner| fitting.phases(learner))
    }
}

/// A model with an E-step is fitted from where it stands.
impl<T: Scalar, M: EStep<T>> Spec<T> for M {
    type Model = M;

    fn fit(&self, fitting: Fitting<'_, T, M>) -> Result<Fit<M>> {
        fitting.fit_model(true, &|_, _| Ok((self.clone(), None)))
    }
}

impl StreamConfig {
    /// Returns the schedule of the minibatches of an order.
    pub(crate) fn schedule(&self, order: BatchOrder) -> Schedule {
        let record_every = (order.n_batches() / self.records as u64).max(1);
        let (epochs, bad_rows) = (self.epochs as u64, self.bad_rows);
        Schedule::Windows { order, epochs, record_every, bad_rows }
    }

    pub(crate) fn last_phase(&self, order: &BatchOrder) -> LastPhase {
        LastPhase { part: self.average, planned: order.n_batches() * self.epochs as u64 }
    }
}
