//! Fits by minibatches over a source of any size: shuffled reading, stepwise or incremental EM, records, a stopping
//! rule, checkpoints, averaging, and closing iterations of batch EM.

use super::batch::Fit;
use super::checkpoint::{Checkpoints, agree};
use super::config::Config;
use super::incremental::{Incremental, slot_bytes};
use super::online::Batch;
use super::state::{Engine, StreamState};
use super::stepwise::{Step, StepSize, Stepwise, noise_of_step};
use super::sweep::{Lanes, Sweeper};
use super::watch::note;
use crate::data::identity::Identity;
use crate::data::prefetch::{self, WINDOWS, Windows};
use crate::data::shuffle::{BadRows, IsBad, Order, Place, Section};
use crate::data::{self, DataSource};
use crate::error::{DataError, Error, Result};
use crate::exec::Executor;
use crate::family::{Domain, Regularization};
use crate::kernels::dispatch::Simd;
use crate::model::{Constants, EStep};
use crate::monitor::{Event, IterRecord, Minibatch, Observer, Plateau, StopReason};
use crate::scalar::Scalar;
use crate::stats::SuffStats;
use std::ops::ControlFlow;
use std::time::Instant;

/// How statistics of minibatches become parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Running statistics: [`stepwise`](super::stepwise).
    #[default]
    Stepwise,
    /// Statistics of chunks, replaced one by one: [`incremental`](super::incremental).
    Incremental,
}

impl Algorithm {
    /// Name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stepwise => "stepwise",
            Self::Incremental => "incremental",
        }
    }
}

/// Nats per point of log-likelihood that the noise of parameters may cost while steps are held up, at most.
///
/// `Σ γ_t` counts iterations of batch EM. Where that takes hundreds, steps that only follow `t^-κ` stop long before: from
/// the same starts the photograph of `examples/stream.rs` was 0.06 nats short of batch EM after ten epochs, and 0.02 after
/// forty. What noise the steps leave goes with the averages at the end. At 1e-2 statistics remember 25 points for each
/// parameter; at 5e-3 the photograph took twice the epochs, and ended in poorer optima.
pub const NOISE: f64 = 1e-2;

/// The least step is no larger than this by itself: statistics always remember some batches.
pub const LARGEST_LEAST_STEP: f64 = 0.5;

/// The least step is halved when an epoch, or a window of the stopping rule, gains less than this part of what its noise
/// costs. Not less than all of it: averages will take the noise away, but what was not gained is lost.
const WORTH: f64 = 0.125;

/// Settings of a fit by minibatches, besides those of [`Config`], of which `tol`, `max_time`, `regularization` and `seed` hold.
///
/// ```
/// use entropysum::em::stream::StreamConfig;
///
/// let config = StreamConfig { batch_size: 1024, epochs: 3, ..StreamConfig::default() };
/// assert_eq!(config.polish, 0);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct StreamConfig {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Points of a minibatch, or of a chunk of incremental EM.
    pub batch_size: usize,
    /// Step sizes of stepwise EM.
    pub step_size: StepSize,
    /// Steps stay at this or above as long as they gain more than they cost: see [`NOISE`]. `None` for the step whose noise
    /// costs [`NOISE`], [`LARGEST_LEAST_STEP`] at most; 0 for steps that fall as their exponent says.
    pub least_step: Option<f64>,
    /// Passes over the points at most.
    pub epochs: usize,
    /// Points before the first M-step of stepwise EM; `None` for ten a component and dimension, a quarter of all at most.
    pub warm_up: Option<u64>,
    /// Part of the steps, at the end, over which stepwise EM averages; 0 for none.
    pub average: f64,
    /// Iterations of batch EM at the end.
    pub polish: usize,
    /// Flat windows running that end a stepwise fit: see [`plateau`](crate::monitor::plateau).
    pub patience: usize,
    /// Records of an epoch.
    pub records: usize,
    /// Measure the log-likelihood by a pass after each so many records; 0 for never.
    pub audit: usize,
    /// Memory, in bytes, for points on their way and for the statistics of chunks.
    pub memory: u64,
    /// Whether points are shuffled.
    pub shuffle: bool,
    /// What to do with points that the model is not for.
    pub bad_rows: BadRows,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Stepwise,
            batch_size: 4096,
            step_size: StepSize::default(),
            least_step: None,
            epochs: 5,
            warm_up: None,
            average: 1.0 / 3.0,
            polish: 0,
            patience: 3,
            records: 20,
            audit: 0,
            memory: 256 << 20,
            shuffle: true,
            bad_rows: BadRows::Error,
        }
    }
}

impl StreamConfig {
    pub(super) fn check(&self) -> Result<()> {
        self.step_size.check()?;
        for (name, value) in [
            ("batch_size", self.batch_size),
            ("epochs", self.epochs),
            ("records", self.records),
            ("patience", self.patience),
        ] {
            if value == 0 {
                return Err(Error::Config(format!("{name} must be at least 1")));
            }
        }
        if let Some(least) = self.least_step.filter(|least| !(0.0..=1.0).contains(least)) {
            return Err(Error::Config(format!(
                "least_step is {least}, expected a number from 0 to 1"
            )));
        }
        if !(0.0..1.0).contains(&self.average) {
            let average = self.average;
            return Err(Error::Config(format!(
                "average is {average}, expected a part of the steps below 1"
            )));
        }
        Ok(())
    }
}

/// Where the points of a fit are.
#[derive(Clone, Copy, Debug)]
pub struct StreamData<'a, T: Scalar> {
    /// Points to learn from.
    pub points: &'a dyn DataSource<T>,
    /// Points for audits; `None` for all those that are learned from.
    pub held_out: Option<&'a dyn DataSource<T>>,
}

/// Learns `model` from `source` by minibatches, from where the model stands.
///
/// The same seed and settings give the same bits on any number of threads, and whether or not the fit was interrupted and
/// resumed from a checkpoint ([`resume`]).
///
/// # Errors
/// If a setting is out of range, the dimensions differ, there are no points, or a point cannot be read or has no finite
/// log-evidence; a last checkpoint is then saved first. Not converging is no error.
///
/// ```
/// use entropysum::data::memory::Points;
/// use entropysum::em::stream::{StreamConfig, fit};
/// use entropysum::em::{Config, MixtureSpec, init};
/// use entropysum::exec::Executor;
/// use entropysum::family::registry;
/// use entropysum::monitor::Silent;
///
/// let values: Vec<f64> = (0..9000).map(|i| f64::from(i % 3) * 10.0 + (f64::from(i) * 0.7).sin()).collect();
/// let points = Points::from_rows(&values, 1)?;
/// let executor = Executor::new(Some(1))?;
/// let spec = MixtureSpec::new(registry::build("gaussian-full", 1)?, 3);
/// let (start, _) = init::start(&spec, &points, &executor, &Config::default(), 0)?;
/// let config = StreamConfig { batch_size: 300, epochs: 2, ..StreamConfig::default() };
/// let fit = fit(start, &points, &executor, &Config::default(), &config, &mut Silent)?;
/// let mut means = fit.model.parameter("means").unwrap();
/// means.sort_by(f64::total_cmp);
/// assert!((means[1] - 10.0).abs() < 0.1);
/// assert!(fit.history.records.iter().all(|record| record.gap().abs() < 1e-10));
/// # Ok::<(), entropysum::error::Error>(())
/// ```
pub fn fit<T: Scalar, M: EStep<T>>(
    model: M,
    source: &dyn DataSource<T>,
    executor: &Executor,
    config: &Config,
    stream: &StreamConfig,
    observer: &mut dyn Observer,
) -> Result<Fit<M>> {
    let state = begin(model, source, config, stream)?;
    let data = StreamData { points: source, held_out: None };
    resume(state, &data, executor, config, stream, observer, None)
}

/// The state of a fit that has not begun.
///
/// # Errors
/// As [`fit`], before a point is read.
pub fn begin<T: Scalar, M: EStep<T>>(
    model: M,
    source: &dyn DataSource<T>,
    config: &Config,
    stream: &StreamConfig,
) -> Result<StreamState<M>> {
    stream.check()?;
    config.check()?;
    model.check_e_step()?;
    data::check_source(source, model.dim())?;
    let order = order(source, config, stream);
    let regularization = Regularization { rounding: T::EPSILON, ..config.regularization };
    let engine = match stream.algorithm {
        Algorithm::Stepwise => {
            let some = 10 * (model.active_components() * (model.dim() + 1)) as u64;
            let warm_up = stream.warm_up.unwrap_or(some.min(source.len() / 4));
            let batch = order.batch_points();
            let by_noise = NOISE / noise_of_step(1.0, model.n_parameters(), batch);
            let least_step = stream.least_step.unwrap_or(by_noise.min(LARGEST_LEAST_STEP));
            let learner = Stepwise::new(model, stream.step_size, regularization)?;
            Engine::Stepwise(learner.with_warm_up(warm_up).with_least_step(least_step))
        }
        Algorithm::Incremental => {
            let n_chunks = order.n_chunks();
            let packed = model.pack(Simd::detect(), 1, Constants::Sum);
            let slot = slot_bytes(&model.new_stats(&packed)) as u64;
            let bytes = slot.saturating_mul(n_chunks);
            if bytes > stream.memory {
                let least = source.len().div_ceil((stream.memory / slot).max(1));
                return Err(Error::Config(format!(
                    "statistics of {n_chunks} chunks need {} MB, and {} MB may be used: take chunks of {least} points or more",
                    bytes.div_ceil(1 << 20),
                    stream.memory >> 20
                )));
            }
            Engine::Incremental(Incremental::new(model, n_chunks as usize, regularization))
        }
    };
    let plateau = Plateau::new(config.tol, stream.patience, order.n_batches() as f64)?;
    let settings = fingerprint(source, &order, config, stream);
    Ok(StreamState::new(engine, plateau, settings))
}

fn order<T: Scalar>(source: &dyn DataSource<T>, config: &Config, stream: &StreamConfig) -> Order {
    let batch = stream.batch_size as u64;
    match stream.algorithm {
        Algorithm::Stepwise => Order::minibatches::<T>(
            source,
            batch,
            stream.memory / WINDOWS as u64,
            config.seed,
            stream.shuffle,
        ),
        Algorithm::Incremental => {
            Order::fixed_chunks::<T>(source, batch, config.seed, stream.shuffle)
        }
    }
}

/// All that decides on the bits of a fit: a state goes on only under the same.
pub(super) fn fingerprint<T: Scalar>(
    source: &dyn DataSource<T>,
    order: &Order,
    config: &Config,
    stream: &StreamConfig,
) -> String {
    format!(
        "{}, {}, {} points of dimension {}, {}; {} by {} in windows of {}{}, exponent {}, offset {}, least step {}, epochs {}, average {}, polish {}, \
         warm-up {}, records {}, tol {}, patience {}, reg_covar {}, seed {}, bad rows {:?}",
        Identity::of(source).text(),
        config.label,
        source.len(),
        source.dim(),
        T::NAME,
        stream.algorithm.name(),
        stream.batch_size,
        order.window_points(),
        if stream.shuffle { "" } else { " not shuffled" },
        stream.step_size.exponent,
        stream.step_size.offset,
        stream.least_step.map_or("auto".to_owned(), |step| step.to_string()),
        stream.epochs,
        stream.average,
        stream.polish,
        stream.warm_up.map_or("auto".to_owned(), |points| points.to_string()),
        stream.records,
        config.tol,
        stream.patience,
        config.regularization.reg_covar.map_or("none".to_owned(), |ridge| ridge.to_string()),
        config.seed,
        stream.bad_rows,
    )
}

/// Goes on with a fit: from its beginning, or from a checkpoint.
///
/// # Errors
/// As [`fit`]; also if the state belongs to other points or settings, or a checkpoint cannot be saved.
pub fn resume<T: Scalar, M: EStep<T>>(
    mut state: StreamState<M>,
    data: &StreamData<'_, T>,
    executor: &Executor,
    config: &Config,
    stream: &StreamConfig,
    observer: &mut dyn Observer,
    checkpoints: Option<Checkpoints<'_, StreamState<M>>>,
) -> Result<Fit<M>> {
    stream.check()?;
    config.check()?;
    data::check_dim(data.points, state.engine.model().dim())?;
    let order = order(data.points, config, stream);
    let settings = fingerprint(data.points, &order, config, stream);
    agree(&state.settings, &settings)?;
    state.interrupted = None;
    let mut driver = Driver {
        begun: Instant::now(),
        seconds_before: state.seconds,
        last_checkpoint: Instant::now(),
        lanes: Lanes::for_minibatches(),
        state,
        data,
        order,
        executor,
        config,
        stream,
        observer,
        checkpoints,
    };
    let result = driver.run();
    // Whatever ended it, what was learned is kept.
    let saved = driver.save();
    result.and(saved)?;
    Ok(driver.finish())
}

struct Driver<'a, 'c, T: Scalar, M: EStep<T>> {
    begun: Instant,
    seconds_before: f64,
    last_checkpoint: Instant,
    lanes: Lanes<T, M::Workspace>,
    state: StreamState<M>,
    data: &'a StreamData<'a, T>,
    order: Order,
    executor: &'a Executor,
    config: &'a Config,
    stream: &'a StreamConfig,
    observer: &'a mut dyn Observer,
    checkpoints: Option<Checkpoints<'c, StreamState<M>>>,
}

impl<T: Scalar, M: EStep<T>> Driver<'_, '_, T, M> {
    fn run(&mut self) -> Result<()> {
        if self.state.stop_reason.is_none() {
            let (order, place) = (self.order, self.state.place);
            let (points, epochs) = (self.data.points, self.stream.epochs as u64);
            let domains = self.state.engine.model().domains();
            let is_bad = |row: &[T]| is_bad(&domains, row);
            // Where they end the fit, the E-step finds them: then all batches before are learned from.
            let skips = self.stream.bad_rows == BadRows::Skip;
            let is_bad = skips.then_some(&is_bad as IsBad<'_, T>);
            let reason =
                prefetch::with_read_ahead(points, &order, place, epochs, is_bad, |windows| {
                    self.stream(windows)
                })?;
            // Who asks for an end wants no closing iterations now; a resumed fit does them.
            if is_final(reason) && self.state.engine.steps() == 0 {
                let message = "no points are left: all were left out";
                return Err(DataError::new(points.name(), message).into());
            }
            if is_final(reason) {
                self.end_of_stream();
                self.state.stop_reason = Some(reason);
            } else {
                self.state.interrupted = Some(reason);
                return Ok(());
            }
        }
        self.polish()
    }

    /// Steps until something ends them.
    fn stream(&mut self, windows: &mut Windows<'_, T>) -> Result<StopReason> {
        let pace = windows.pace();
        while let Some(window) = windows.next_window() {
            let window = window?;
            let first = self.state.place.enter(window.place());
            if first == 0 {
                self.state.skipped += window.skipped();
            }
            if window.is_empty() {
                self.state.place.window += 1;
            }
            for index in first..window.n_batches() {
                let block = window.batch(index);
                self.state.points_seen += block.len() as u64;
                let batch = Batch { block, name: "batch" };
                pace.done(index, window.n_batches());
                let step = match self.lanes.sweep(self.executor, &batch, self.state.engine.model())
                {
                    Ok(stats) => self.absorb(window.chunk(), stats)?,
                    Err(fault) => {
                        self.state.points_seen -= block.len() as u64;
                        return Err(self.locate(fault));
                    }
                };
                let done = Place { batch: index, ..window.place() };
                self.state.place = self.order.after(done, window.n_batches());
                if let Some(reason) = self.after_step(step)? {
                    return Ok(reason);
                }
            }
        }
        Ok(StopReason::Epochs)
    }

    fn absorb(&mut self, chunk: u64, stats: SuffStats) -> Result<Step> {
        match &mut self.state.engine {
            Engine::Stepwise(learner) => learner.absorb_by(stats, self.executor),
            Engine::Incremental(learner) => learner.absorb_by(chunk as usize, stats, self.executor),
        }
    }

    /// The fault of a batch, at the row of the source where it is: the same points are read again, in their order.
    fn locate(&mut self, fault: Error) -> Error {
        let Place { epoch, window, .. } = self.state.place;
        let chunks = self.order.chunks(epoch);
        let ranges: Vec<_> = self.order.ranges(&chunks, window).collect();
        for range in ranges {
            let section = Section::new(self.data.points, range);
            let model = self.state.engine.model();
            if let Err(found) = self.lanes.sweep(self.executor, &section, model) {
                return found;
            }
        }
        fault
    }

    /// Records, rules and checkpoints after a step.
    fn after_step(&mut self, step: Step) -> Result<Option<StopReason>> {
        for event in &step.events {
            let (at, names) = (self.state.engine.steps() as usize, self.data.points.column_names());
            note(&mut self.state.warnings, at, event, names);
        }
        let mut reason = None;
        let averages = self.averages_from(self.state.engine.steps());
        let warming_up = self.state.engine.is_warming_up();
        let steps = self.state.engine.steps();
        let epoch_ends = self.state.place.window == 0 && self.state.place.batch == 0;
        if !warming_up {
            match &mut self.state.engine {
                Engine::Stepwise(learner) => {
                    let variance = learner.batch_variance().unwrap_or(f64::INFINITY);
                    let sum = step.entropy_sum.total();
                    let rule = &mut self.state.plateau;
                    let closes = rule.update(step.step_size, sum, variance);
                    let flat = closes && rule.close(learner.displacement(self.executor));
                    let gain = self.state.epoch.update(sum, epoch_ends);
                    if learner.least_step > 0.0 {
                        let p = learner.model.n_parameters();
                        let batch = self.order.batch_points();
                        let worth = WORTH * noise_of_step(learner.least_step, p, batch);
                        if gain.is_some_and(|gain| gain < worth) || closes && rule.is_below(worth) {
                            learner.least_step *= 0.5;
                        }
                    }
                    let repaired = step.events.iter().any(Event::is_repair);
                    if flat && !repaired && self.state.last_step.is_none() {
                        // The last phase: as many steps more as make up the part that is averaged.
                        let part = self.stream.average / (1.0 - self.stream.average);
                        self.state.last_step = Some(steps + (part * steps as f64) as u64);
                    }
                    let last_phase = self.state.last_step.is_some() && self.stream.average > 0.0;
                    if averages || last_phase {
                        learner.start_averaging();
                    }
                    if self.state.last_step.is_some_and(|last| steps >= last) {
                        reason = Some(StopReason::Converged);
                    }
                }
                Engine::Incremental(learner) => {
                    // A chunk is a window; its entropy sum is of all points, and at the end of an epoch of even posteriors.
                    if let (true, Some(sum)) = (epoch_ends, learner.entropy_sum())
                        && let Some(gain) = self.state.epoch.update(sum.total(), true)
                        && gain.abs() <= self.config.tol
                    {
                        reason = Some(StopReason::Converged);
                    }
                }
            }
        }
        let due = steps.is_multiple_of(self.record_every()) || reason.is_some();
        self.state.events.extend(step.events);
        if due && !warming_up {
            if let ControlFlow::Break(asked) = self.record(step.step_size)? {
                reason = reason.or(Some(asked));
            }
        } else if let ControlFlow::Break(asked) = self.observer.on_batch(self.state.points_seen) {
            reason = reason.or(Some(asked));
        }
        if reason.is_none()
            && self.config.max_time.is_some_and(|limit| self.begun.elapsed() >= limit)
        {
            reason = Some(StopReason::MaxSeconds);
        }
        if self.checkpoints.as_ref().is_some_and(|c| self.last_checkpoint.elapsed() >= c.every) {
            self.save()?;
        }
        Ok(reason)
    }

    fn record_every(&self) -> u64 {
        (self.order.n_batches() / self.stream.records as u64).max(1)
    }

    fn averages_from(&self, steps: u64) -> bool {
        let planned = (self.order.n_batches() * self.stream.epochs as u64) as f64;
        self.stream.average > 0.0 && steps as f64 >= (1.0 - self.stream.average) * planned
    }

    /// Adds a record and tells it to the observer.
    fn record(&mut self, step_size: f64) -> Result<ControlFlow<StopReason>> {
        let engine = &self.state.engine;
        let (Some(entropy_sum), Some(lower_bound), Some(log_likelihood)) =
            (engine.entropy_sum(), engine.lower_bound(), engine.log_likelihood())
        else {
            return Ok(ControlFlow::Continue(()));
        };
        let known = |value: Option<f64>| value.unwrap_or(f64::NAN);
        let (effective_points, standard_error) = match engine {
            Engine::Stepwise(learner) => {
                (learner.effective_points(), known(learner.standard_error()))
            }
            Engine::Incremental(learner) => {
                (learner.statistics().map_or(f64::NAN, |stats| stats.n_points()), f64::NAN)
            }
        };
        let mut minibatch = Minibatch {
            step_size,
            effective_points,
            standard_error,
            improvement: known(self.state.plateau.improvement().map(|it| it.0)),
            remaining: known(self.state.plateau.remaining()),
            audit: f64::NAN,
        };
        self.state.records += 1;
        if self.stream.audit > 0 && self.state.records.is_multiple_of(self.stream.audit as u64) {
            minibatch.audit = self.audit()?;
        }
        let last = self.state.history.records.last();
        let record = IterRecord {
            iteration: self.state.engine.steps() as usize,
            seconds: self.seconds(),
            points_seen: self.state.points_seen,
            change: entropy_sum.total() - last.map_or(log_likelihood, |r| r.entropy_sum.total()),
            entropy_sum,
            lower_bound,
            log_likelihood,
            active_components: self.state.engine.model().active_components(),
            events: std::mem::take(&mut self.state.events),
            minibatch: Some(minibatch),
        };
        let asked = self.observer.on_iteration(&record);
        self.state.history.records.push(record);
        Ok(asked)
    }

    /// Mean log-likelihood of the parameters that a fit would end with now, by a pass over the points held out, or over all.
    fn audit(&self) -> Result<f64> {
        let averaged = match &self.state.engine {
            Engine::Stepwise(learner) => learner.averaged_model(),
            Engine::Incremental(_) => None,
        };
        let model = averaged.as_ref().unwrap_or(self.state.engine.model());
        let stats = match self.data.held_out {
            Some(held_out) => Sweeper::new(held_out, self.executor).sweep(model)?,
            None => Sweeper::new(self.data.points, self.executor).sweep(model)?,
        };
        Ok(stats.log_evidence() / stats.total_weight())
    }

    /// The averaged statistics take the place of the running ones, with a record of their own.
    fn end_of_stream(&mut self) {
        let Engine::Stepwise(learner) = &mut self.state.engine else { return };
        if learner.finish_averaging() {
            // An audit that fails here would lose what was learned; the records before have theirs.
            let _ = self.record(0.0);
        }
    }

    /// Iterations of batch EM.
    fn polish(&mut self) -> Result<()> {
        let mut sweeper = Sweeper::new(self.data.points, self.executor);
        let regularization = Regularization { rounding: T::EPSILON, ..self.config.regularization };
        while self.state.polished < self.stream.polish as u64 {
            let model = self.state.engine.model_mut();
            let stats = sweeper.sweep(model)?;
            let mut events = model.m_step_by(&stats, regularization, self.executor);
            model.recentre();
            let (lower_bound, entropy_sum) = model.bound_and_entropies_by(&stats, self.executor);
            let mut no_splits = 0;
            events.extend(model.repair(&stats, &mut no_splits));
            model.recentre();
            let active_components = model.active_components();
            self.state.polished += 1;
            self.state.points_seen += self.data.points.len();
            let iteration = (self.state.engine.steps() + self.state.polished) as usize;
            for event in &events {
                let names = self.data.points.column_names();
                note(&mut self.state.warnings, iteration, event, names);
            }
            let last = self.state.history.records.last().map(|r| r.entropy_sum.total());
            let record = IterRecord {
                iteration,
                seconds: self.seconds(),
                points_seen: self.state.points_seen,
                change: last.map_or(f64::INFINITY, |last| entropy_sum.total() - last),
                entropy_sum,
                lower_bound,
                log_likelihood: stats.log_evidence() / stats.total_weight(),
                active_components,
                events,
                minibatch: None,
            };
            let small = record.delta() <= self.config.tol;
            let asked = self.observer.on_iteration(&record);
            self.state.history.records.push(record);
            if small {
                self.state.polished = self.stream.polish as u64;
                self.state.stop_reason = Some(StopReason::Converged);
            }
            if let ControlFlow::Break(reason) = asked {
                self.state.interrupted = Some(reason);
                break;
            }
            if self.checkpoints.as_ref().is_some_and(|c| self.last_checkpoint.elapsed() >= c.every)
            {
                self.save()?;
            }
        }
        Ok(())
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.begun.elapsed().as_secs_f64()
    }

    fn save(&mut self) -> Result<()> {
        self.state.seconds = self.seconds();
        if let Some(checkpoints) = &mut self.checkpoints {
            (checkpoints.save)(&self.state)?;
        }
        // From here on: where disks are slow, the fit must go on between two.
        self.last_checkpoint = Instant::now();
        Ok(())
    }

    fn finish(self) -> Fit<M> {
        let seconds = self.seconds();
        let mut state = self.state;
        state.warnings.extend(left_out(self.data.points.skipped(), state.skipped));
        let reason = state.interrupted.or(state.stop_reason).unwrap_or(StopReason::Epochs);
        Fit::new(state.engine.into_model(), state.history, reason, state.warnings, seconds)
    }
}

/// Whether a model of these domains is not for a point.
pub(super) fn is_bad<T: Scalar>(domains: &[Domain], row: &[T]) -> bool {
    // Zero times a number is zero; times anything else it is NaN.
    let zero = row.iter().fold(T::ZERO, |sum, &v| sum + v * T::ZERO);
    zero != T::ZERO && !domains.iter().any(|domain| domain.missing)
        || domains.iter().any(|it| it.fault(|d| row[d].to_f64()).is_some())
}

/// Warnings of what was left out: lines that are no points, and points that the model is not for.
pub(super) fn left_out(lines: u64, points: u64) -> impl Iterator<Item = String> {
    let lines = (lines > 0).then(|| format!("{lines} line(s) were left out: they are no points"));
    let points =
        (points > 0).then(|| format!("{points} point(s) were left out: the model is not for such"));
    lines.into_iter().chain(points)
}

/// Whether a resumed fit has nothing to add to the stream.
pub(super) fn is_final(reason: StopReason) -> bool {
    matches!(reason, StopReason::Converged | StopReason::Epochs)
}
