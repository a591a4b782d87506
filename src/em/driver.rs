//! The one loop in which every model learns: batch, E-step, M-step, record, stopping rules, checkpoint.

use super::accumulator::{Accumulator, Course};
use super::checkpoint::{Checkpoint, Checkpoints, Saved, Settings, damaged, decode, encode};
use super::config::Config;
pub use super::fit_result::Fit;
use super::learner::{Batch, Learner, Maximizer, ModelOf, Standing, Step, not_finite};
use super::stream::StreamConfig;
use crate::data::DataSource;
use crate::data::prefetch::{self, Windows};
use crate::data::shuffle::{
    BadRows, BatchOrder, PointRange, Sharing, ShuffledWindow, SkipsRow, StreamPosition,
};
use crate::error::{DataError, Error, Result};
use crate::exec::Executor;
use crate::family::Domain;
use crate::monitor::{Event, History, IterRecord, Minibatch, Observer, StopReason};
use crate::scalar::Scalar;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::time::Instant;

/// Components whose repair is told by a line of its own; of further ones their number is told.
const REPAIRS_TOLD: u64 = 10;

/// A part of a fit that learns in one way; polishing after minibatches is one more.
pub(crate) struct Phase<T: Scalar, L: Learner<T>> {
    pub schedule: Schedule,
    pub accumulator: Box<dyn Accumulator<L::Maximizer>>,
    /// What the user should know of its settings.
    pub notice: Option<String>,
}

/// Which points E-steps see, in which order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Schedule {
    /// All points, in so many iterations at most.
    Full { iterations: u64 },
    /// Minibatches from shuffled windows, in so many passes, with a record after every so many steps.
    Windows { order: BatchOrder, epochs: u64, record_every: u64, bad_rows: BadRows },
}

/// What a fit runs on.
pub(crate) struct Setting<'a, T: Scalar> {
    pub points: &'a dyn DataSource<T>,
    /// Points for audits; `None` for all those that are learned from.
    pub held_out: Option<&'a dyn DataSource<T>>,
    pub executor: &'a Executor,
    pub config: &'a Config,
    pub stream: Option<&'a StreamConfig>,
    /// When the fit began; before the driver if points were gone through to prepare it.
    pub begun: Instant,
}

/// Where in its course a fit is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Progress {
    /// Phases that are done.
    phase: usize,
    /// Iterations of this phase, if it sees all points at once.
    iterations: u64,
    /// The place in the stream of minibatches.
    place: StreamPosition,
    /// Steps of all phases.
    steps: u64,
    points_seen: u64,
    /// Rows that were skipped in the first pass.
    skipped: u64,
    seconds: f64,
    /// Why the last phase that is done ended.
    stop_reason: Option<StopReason>,
    records: Vec<IterRecord>,
    /// Events since the last record.
    events: Vec<Event>,
    warnings: Vec<String>,
    /// Components that were discarded.
    discarded: Vec<usize>,
    /// Components that were moved or discarded, all of them.
    repaired: u64,
}

/// All of a fit but its model and its rows.
#[derive(Serialize, Deserialize)]
struct State {
    progress: Progress,
    accumulators: Vec<Vec<u8>>,
    maximizer: Vec<u8>,
}

/// A fit that runs.
pub(crate) struct Driver<'a, 'c, T: Scalar, L: Learner<T>> {
    setting: Setting<'a, T>,
    learner: L,
    phases: Vec<Phase<T, L>>,
    settings: Option<Settings>,
    checkpoints: Option<Checkpoints<'c, ModelOf<T, L>>>,
    last_checkpoint: Instant,
    checkpoint_fault: Option<String>,
    observer: &'a mut dyn Observer,
    progress: Progress,
    seconds_before: f64,
}

impl<'a, 'c, T: Scalar, L: Learner<T>> Driver<'a, 'c, T, L> {
    /// Prepares a fit from where the learner stands, or from a saved one, whose model the learner has already.
    ///
    /// # Errors
    /// If the saved state is of another fit, or damaged.
    pub fn new(
        setting: Setting<'a, T>,
        learner: L,
        phases: Vec<Phase<T, L>>,
        settings: Option<Settings>,
        checkpoints: Option<Checkpoints<'c, ModelOf<T, L>>>,
        saved: Option<Saved<()>>,
        observer: &'a mut dyn Observer,
    ) -> Result<Self> {
        let mut driver = Self {
            setting,
            learner,
            phases,
            settings,
            checkpoints,
            last_checkpoint: Instant::now(),
            checkpoint_fault: None,
            observer,
            progress: Progress::default(),
            seconds_before: 0.0,
        };
        match saved {
            None => {
                driver.phases[0].accumulator.begin(driver.learner.maximizer_mut());
                let notices = driver.phases.iter().filter_map(|phase| phase.notice.clone());
                driver.progress.warnings.extend(notices);
            }
            Some(saved) => driver.restore(saved)?,
        }
        Ok(driver)
    }

    fn restore(&mut self, saved: Saved<()>) -> Result<()> {
        let State { progress, accumulators, maximizer } = decode(&saved.state)?;
        if accumulators.len() != self.phases.len() || progress.phase > self.phases.len() {
            return Err(damaged());
        }
        for (phase, bytes) in self.phases.iter_mut().zip(&accumulators) {
            phase.accumulator.restore(bytes)?;
        }
        self.phases[0].accumulator.begin(self.learner.maximizer_mut());
        self.learner.maximizer_mut().restore(&maximizer)?;
        let executor = self.setting.executor;
        let mut kept = self.phases.iter().flat_map(|phase| phase.accumulator.kept());
        if !kept.all(|statistics| self.learner.takes(statistics, executor)) {
            return Err(damaged());
        }
        if let (Some(mut words), Some(rows)) = (saved.rows, self.learner.rows(executor)?) {
            rows.fill(&mut words)?;
        }
        self.seconds_before = progress.seconds;
        self.progress = progress;
        Ok(())
    }

    /// Learns until a rule, the observer or the clock ends it; what was learned is kept in a checkpoint, whatever ended it.
    ///
    /// # Errors
    /// If a point cannot be read or has no finite log-evidence.
    pub fn run(mut self) -> Result<Fit<ModelOf<T, L>>> {
        let ended = self.phases();
        self.save();
        let reason = ended?;
        // A fit that was stopped in the middle of reading can read no more.
        let Setting { points, executor, .. } = self.setting;
        let can_read = reason != StopReason::Interrupted || executor.ranks().is_none();
        let truncation_loss = match can_read {
            true => self.learner.truncation_loss(points, executor).unwrap_or(None),
            false => None,
        };
        let (lines, rows) = (self.setting.points.skipped(), self.progress.skipped);
        self.progress.warnings.extend(skipped(lines, rows));
        if let Some(more) = self.progress.repaired.checked_sub(REPAIRS_TOLD).filter(|&it| it > 0) {
            let text = format!("{more} more components without points were moved or discarded");
            self.progress.warnings.push(text);
        }
        for event in self.learner.maximizer_mut().finish() {
            let names = self.setting.points.column_names();
            self.progress.warnings.push(event.describe(names));
        }
        let seconds = self.seconds();
        let Progress { records, mut warnings, discarded, .. } = self.progress;
        let mut last = records.last().into_iter().flat_map(|record| &record.events);
        let at_floor = last.rfind(|event| event.floored().is_some());
        let floored = at_floor.and_then(Event::floored).unwrap_or_default().to_vec();
        warnings.extend(at_floor.map(|event| event.describe(self.setting.points.column_names())));
        let model = self.learner.maximizer().model().clone();
        let history = History { records };
        Ok(Fit {
            model,
            history,
            stop_reason: reason,
            warnings,
            discarded,
            floored,
            whitened_share: self.learner.whitened_share(),
            truncation_loss,
            checkpoint_fault: self.checkpoint_fault,
            seconds,
        })
    }

    /// Goes through the phases that are left.
    fn phases(&mut self) -> Result<StopReason> {
        while let Some(phase) = self.phases.get(self.progress.phase) {
            let reason = match phase.schedule {
                Schedule::Full { iterations } => self.iterate(iterations),
                Schedule::Windows { order, epochs, bad_rows, .. } => {
                    self.stream(&order, epochs, bad_rows)
                }
            };
            let reason = match reason {
                // A source that was stopped; an E-step without an end has changed nothing.
                Err(Error::Interrupted) => StopReason::Interrupted,
                other => other?,
            };
            match reason {
                // More iterations may be asked for later.
                StopReason::MaxIterations => {
                    return Ok(self.progress.stop_reason.unwrap_or(reason));
                }
                StopReason::Converged | StopReason::Epochs => {
                    let asked = self.end_phase(reason)?;
                    if let (Some(asked), true) = (asked, self.progress.phase < self.phases.len()) {
                        return Ok(asked);
                    }
                }
                // Asked for an end from outside, a fit does no closing iterations now; a resumed one does them.
                interruption => return Ok(interruption),
            }
        }
        Ok(self.progress.stop_reason.unwrap_or(StopReason::Converged))
    }

    /// Sees all points in each step.
    fn iterate(&mut self, iterations: u64) -> Result<StopReason> {
        let batch = Batch::whole(self.setting.points);
        while self.progress.iterations < iterations {
            let done = Done { iterations: 1, place: StreamPosition::default(), chunk: 0 };
            if let Some(reason) = self.step(&batch, done)? {
                return Ok(reason);
            }
        }
        Ok(StopReason::MaxIterations)
    }

    /// Sees minibatches from shuffled windows that are read ahead.
    fn stream(&mut self, order: &BatchOrder, epochs: u64, bad_rows: BadRows) -> Result<StopReason> {
        let (points, place) = (self.setting.points, self.progress.place);
        let domains = self.learner.domains();
        let is_bad = |row: &[T]| is_bad(&domains, row);
        // If bad rows end the fit, the E-step finds them: then all batches before are learned from.
        let is_bad = (bad_rows == BadRows::Skip).then_some(&is_bad as SkipsRow<'_, T>);
        let executor = self.setting.executor;
        let sharing = executor.ranks().map(|_| Sharing {
            own: executor.own_lanes(points.len()),
            gather: Box::new(|said| executor.gather_or_fail(said)),
        });
        let sharing = sharing.as_ref();
        let mut visit = |windows: &mut Windows<'_, T>| self.visit(windows, order);
        let reason =
            prefetch::with_read_ahead(points, order, place, epochs, is_bad, sharing, &mut visit)?;
        if reason == StopReason::Epochs && self.progress.steps == 0 {
            let message = "all rows were skipped, no points are left to learn from";
            return Err(DataError::new(points.name(), message).into());
        }
        Ok(reason)
    }

    fn visit(&mut self, windows: &mut Windows<'_, T>, order: &BatchOrder) -> Result<StopReason> {
        let pace = windows.pace();
        while let Some(window) = windows.next_window() {
            let window = window?;
            let first = self.progress.place.enter(window.place());
            if first == 0 && window.place().epoch == 0 {
                self.progress.skipped += window.skipped();
            }
            if window.is_empty() {
                self.progress.place.window += 1;
            }
            for index in first..window.n_batches() {
                pace.done(index, window.n_batches());
                let here = StreamPosition { batch: index, ..window.place() };
                let place = order.after(here, window.n_batches());
                let done = Done { iterations: 0, place, chunk: window.chunk() };
                if let Some(reason) = self.step(&Batch::of_window(window, index), done)? {
                    return Ok(reason);
                }
            }
        }
        Ok(StopReason::Epochs)
    }

    /// One step of every fit: E-step, accumulated statistics, M-step, then records, rules and checkpoints.
    fn step(&mut self, batch: &Batch<'_, T>, done: Done) -> Result<Option<StopReason>> {
        let executor = self.setting.executor;
        let statistics = match self.learner.e_step(batch, executor) {
            Ok(statistics) => statistics,
            Err(fault) => return Err(self.locate(fault, batch)),
        };
        let accumulator = &mut self.phases[self.progress.phase].accumulator;
        let maximizer = self.learner.maximizer_mut();
        let step = accumulator.absorb(maximizer, done.chunk, statistics, executor);
        let step = step.map_err(|fault| match fault {
            Error::Model(text) => DataError::new(self.setting.points.name(), text).into(),
            other => other,
        })?;
        let progress = &mut self.progress;
        progress.steps += 1;
        progress.iterations += done.iterations;
        progress.place = done.place;
        progress.points_seen = self.learner.points_read(progress.points_seen, batch);
        self.after(step)
    }

    /// Applies the rules to a step, records it if a record is due, and keeps the fit if a checkpoint is due.
    fn after(&mut self, mut step: Step) -> Result<Option<StopReason>> {
        let executor = self.setting.executor;
        let names = self.setting.points.column_names();
        let progress = &mut self.progress;
        for event in &step.events {
            progress.repaired += u64::from(event.is_repair());
            // Floors are told of the end of the fit: on the way there they come and go.
            if event.floored().is_none()
                && (!event.is_repair() || progress.repaired <= REPAIRS_TOLD)
            {
                note(&mut progress.warnings, progress.steps, event, names);
            }
            if let Event::Discarded { component, .. } = event {
                progress.discarded.push(*component);
            }
        }
        let phase = &mut self.phases[progress.phase];
        let epoch_ends = progress.place.window == 0 && progress.place.batch == 0;
        let course = Course { steps: progress.steps, epoch_ends };
        let maximizer = self.learner.maximizer_mut();
        let verdict = phase.accumulator.judge(maximizer, &step, course, executor);
        let is_converged = match step.standing {
            Standing::Open => verdict.is_converged,
            Standing::Held => false,
            Standing::Final => true,
        };
        let mut reason = is_converged.then_some(StopReason::Converged);
        let is_due = match phase.schedule {
            Schedule::Full { .. } => true,
            Schedule::Windows { record_every, .. } => {
                progress.steps.is_multiple_of(record_every) || reason.is_some()
            }
        };
        progress.events.append(&mut step.events);
        let asked = if is_due && !phase.accumulator.is_warming_up() {
            phase.accumulator.evaluate(maximizer, &mut step, executor);
            self.record(&step, verdict.change)?
        } else {
            self.observer.on_batch(progress.points_seen)
        };
        if let ControlFlow::Break(asked) = asked {
            reason = reason.or(Some(asked));
        }
        let late = |limit| self.setting.begun.elapsed() >= limit;
        if reason.is_none() && self.setting.config.max_time.is_some_and(late) {
            reason = Some(StopReason::MaxSeconds);
        }
        let due = |it: &Checkpoints<'_, _>| self.last_checkpoint.elapsed() >= it.every;
        let saves = self.checkpoints.as_ref().is_some_and(due);
        let (reason, saves) = agreed(&step, (reason, saves), executor)?;
        if saves {
            self.save();
        }
        Ok(reason)
    }

    /// Adds a record and shows it to the observer.
    fn record(&mut self, step: &Step, change: Option<f64>) -> Result<ControlFlow<StopReason>> {
        if !step.lower_bound.is_finite() || !step.entropy_sum.total().is_finite() {
            return Err(not_finite());
        }
        let minibatch = self.minibatch(step)?;
        let seconds = self.seconds();
        let progress = &mut self.progress;
        let total = step.entropy_sum.total();
        let before = progress.records.last().map_or(step.log_likelihood, |r| r.entropy_sum.total());
        let record = IterRecord {
            iteration: progress.steps as usize,
            seconds,
            points_seen: progress.points_seen,
            entropy_sum: step.entropy_sum,
            lower_bound: step.lower_bound,
            log_prior: step.log_prior,
            log_likelihood: step.log_likelihood,
            change: change.unwrap_or(total - before),
            active_components: self.learner.maximizer().active_components(),
            events: std::mem::take(&mut progress.events),
            minibatch,
            gap_halves: step.gap_halves,
            joint_evaluations: self.learner.joint_evaluations(),
        };
        let asked = self.observer.on_iteration(&record);
        self.progress.records.push(record);
        Ok(asked)
    }

    /// Returns what a record of minibatches adds, with an audit if one is due.
    fn minibatch(&mut self, step: &Step) -> Result<Option<Minibatch>> {
        let Setting { points, held_out, executor, stream, .. } = self.setting;
        let accumulator = &self.phases[self.progress.phase].accumulator;
        let Some(minibatch) = accumulator.minibatch(step) else { return Ok(None) };
        let mut minibatch = minibatch.without_repeats(points.len() as f64);
        let every = stream.map_or(0, |stream| stream.audit);
        let n_records = self.progress.records.len() + 1;
        if every > 0 && n_records.is_multiple_of(every) {
            let averaged = accumulator.final_model(self.learner.maximizer_mut(), executor);
            let averaged = averaged.transpose()?;
            let model = averaged.as_ref().unwrap_or(self.learner.maximizer().model());
            minibatch.audit = self.learner.audit(model, held_out.unwrap_or(points), executor)?;
            if held_out.is_some() {
                let accumulator = &mut self.phases[self.progress.phase].accumulator;
                accumulator.hear_held_out(self.learner.maximizer(), minibatch.audit);
            }
        }
        Ok(Some(minibatch))
    }

    /// Ends a phase. Returns what an observer asked for at its last record, if it asked for an end.
    fn end_phase(&mut self, reason: StopReason) -> Result<Option<StopReason>> {
        let executor = self.setting.executor;
        let accumulator = &mut self.phases[self.progress.phase].accumulator;
        let last = accumulator.finish(self.learner.maximizer_mut(), executor)?;
        let asked = match last {
            None => None,
            Some(step) => {
                let asked = self.record(&step, None)?.break_value();
                agreed(&step, asked, executor)?
            }
        };
        self.progress.phase += 1;
        (self.progress.iterations, self.progress.place) = (0, StreamPosition::default());
        let earlier = self.progress.stop_reason;
        self.progress.stop_reason = Some(match (earlier, reason) {
            (Some(earlier), StopReason::Epochs) => earlier,
            _ => reason,
        });
        Ok(asked)
    }

    /// Finds the row of the source that made a minibatch fail: the same points are read again, in their order.
    fn locate(&mut self, fault: Error, batch: &Batch<'_, T>) -> Error {
        if matches!(fault, Error::Interrupted) {
            return fault;
        }
        let ranges = batch.window().map(ShuffledWindow::ranges).unwrap_or_default();
        let mut sections =
            ranges.iter().map(|range| PointRange::new(self.setting.points, range.clone()));
        let executor = self.setting.executor;
        sections.find_map(|section| self.learner.find_fault(&section, executor)).unwrap_or(fault)
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.setting.begun.elapsed().as_secs_f64()
    }

    /// Hands the state to whoever keeps it. What was learned is worth more than its copy: a copy that fails is a warning, and is
    /// tried again when the next is due.
    fn save(&mut self) {
        let fault = self.keep().err().map(|fault| fault.to_string());
        // The time runs from here: where disks are slow, the fit must go on between two checkpoints.
        self.last_checkpoint = Instant::now();
        if let Some(fault) = fault.as_ref().filter(|_| self.checkpoint_fault.is_none()) {
            let step = self.progress.steps;
            let text = format!("iteration {step}: the checkpoint could not be saved: {fault}");
            self.progress.warnings.push(text);
        }
        self.checkpoint_fault = fault;
    }

    fn keep(&mut self) -> Result<()> {
        self.progress.seconds = self.seconds();
        let (Some(checkpoints), Some(settings)) = (&mut self.checkpoints, &self.settings) else {
            return Ok(());
        };
        let state = encode(&State {
            progress: self.progress.clone(),
            accumulators: self.phases.iter().map(|phase| phase.accumulator.save()).collect(),
            maximizer: self.learner.maximizer().save(),
        });
        let model = self.learner.maximizer().model().clone();
        let rows = self.learner.rows(self.setting.executor)?.map(|rows| &*rows);
        (checkpoints.save)(&Checkpoint { model: &model, settings, state, rows })
    }
}

/// Where a fit stands once a batch is done.
struct Done {
    /// Iterations over all points that it was.
    iterations: u64,
    /// The place in the stream after it.
    place: StreamPosition,
    /// The chunk that it was, if chunks keep their points.
    chunk: u64,
}

/// Returns a decision of rank 0, on all ranks: others have another clock, and no user.
fn agreed<D: Serialize + DeserializeOwned>(
    step: &Step,
    decision: D,
    executor: &Executor,
) -> Result<D> {
    // The bound and the entropy sum depend on every parameter.
    let model = [step.lower_bound, step.entropy_sum.total()].map(f64::to_bits);
    let (decision, first) = executor.agree((decision, model))?;
    if first == model {
        return Ok(decision);
    }
    let message = "the ranks have learned other parameters from the same points: start the same program on machines of one kind";
    Err(Error::Config(message.to_owned()))
}

/// Adds a warning for an event, unless the same one stands there from an earlier step.
fn note(warnings: &mut Vec<String>, step: u64, event: &Event, names: Option<&[String]>) {
    let text = event.describe(names);
    if !warnings.iter().any(|known| known.ends_with(&text)) {
        warnings.push(format!("iteration {step}: {text}"));
    }
}

/// Whether a model of these domains is not for a point.
fn is_bad<T: Scalar>(domains: &[Domain], row: &[T]) -> bool {
    // Zero times a number is zero; times anything else it is NaN.
    let zero = row.iter().fold(T::ZERO, |sum, &v| sum + v * T::ZERO);
    zero != T::ZERO && !domains.iter().any(|domain| domain.missing)
        || domains.iter().any(|it| it.fault(|d| row[d].to_f64()).is_some())
}

/// Returns the warnings of skipped lines of a file and skipped points.
fn skipped(lines: u64, points: u64) -> impl Iterator<Item = String> {
    let told = |count: u64, what: &str, why: &str| {
        let plural = if count == 1 { "" } else { "s" };
        (count > 0).then(|| format!("{count} {what}{plural} skipped: {why}"))
    };
    let lines = told(lines, "line", "not a point");
    let points = told(points, "row", "values are missing or outside the support of the model");
    lines.into_iter().chain(points)
}
