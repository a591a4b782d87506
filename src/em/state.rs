//! The state of a fit by minibatches, between two steps: all it takes to go on with the same bits.

use super::checkpoint::{FitState, damaged};
use super::incremental::Incremental;
use super::numbers::{Reader, write_records, write_stats};
use super::stepwise::{Average, Counts, Stepwise};
use crate::data::shuffle::Place;
use crate::error::Result;
use crate::model::{EntropySum, GenerativeModel};
use crate::monitor::plateau::{PlateauState, Window};
use crate::monitor::{Event, History, Plateau, StopReason};

/// A learner of either kind.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a fit has one of them")]
pub(crate) enum Engine<M> {
    Stepwise(Stepwise<M>),
    Incremental(Incremental<M>),
}

macro_rules! both {
    ($engine:expr, $learner:ident => $value:expr) => {
        match $engine {
            Engine::Stepwise($learner) => $value,
            Engine::Incremental($learner) => $value,
        }
    };
}

impl<M: GenerativeModel> Engine<M> {
    pub fn model(&self) -> &M {
        both!(self, learner => &learner.model)
    }

    pub fn model_mut(&mut self) -> &mut M {
        both!(self, learner => &mut learner.model)
    }

    pub fn steps(&self) -> u64 {
        match self {
            Self::Stepwise(learner) => learner.steps(),
            Self::Incremental(learner) => learner.visits(),
        }
    }

    pub fn is_warming_up(&self) -> bool {
        both!(self, learner => learner.is_warming_up())
    }

    pub fn entropy_sum(&self) -> Option<EntropySum> {
        both!(self, learner => learner.entropy_sum())
    }

    pub fn lower_bound(&self) -> Option<f64> {
        both!(self, learner => learner.lower_bound())
    }

    pub fn log_likelihood(&self) -> Option<f64> {
        both!(self, learner => learner.log_likelihood())
    }

    pub fn into_model(self) -> M {
        both!(self, learner => learner.into_model())
    }
}

/// A fit by minibatches between two steps: model, statistics, step, place in the stream, stopping rule, history.
///
/// Random numbers need no state of their own: they follow from the seed and the place. [`numbers`](FitState::numbers) and
/// [`restore`](Self::restore) take it to a file and back.
#[derive(Clone, Debug)]
pub struct StreamState<M> {
    pub(crate) engine: Engine<M>,
    pub(crate) settings: String,
    pub(crate) place: Place,
    pub(crate) plateau: Plateau,
    pub(crate) history: History,
    pub(crate) warnings: Vec<String>,
    /// Events since the last record.
    pub(crate) events: Vec<Event>,
    pub(crate) seconds: f64,
    pub(crate) points_seen: u64,
    pub(crate) skipped: u64,
    pub(crate) records: u64,
    pub(crate) polished: u64,
    /// The step that ends a fit whose rate of improvement is small.
    pub(crate) last_step: Option<u64>,
    /// Entropy sums by epochs.
    pub(crate) epoch: EpochMeans,
    /// Why the stream ended, once it has.
    pub(crate) stop_reason: Option<StopReason>,
    /// Why this process ended before the fit did.
    pub(crate) interrupted: Option<StopReason>,
}

/// Means of the entropy sum over epochs: the same points each time, so that they compare well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct EpochMeans {
    pub(super) sum: f64,
    pub(super) steps: f64,
    pub(super) last: f64,
}

impl Default for EpochMeans {
    fn default() -> Self {
        Self { sum: 0.0, steps: 0.0, last: f64::NEG_INFINITY }
    }
}

impl EpochMeans {
    /// Enters an entropy sum, and tells at the end of an epoch how much more its mean is than that of the last one.
    pub fn update(&mut self, entropy_sum: f64, epoch_ends: bool) -> Option<f64> {
        self.sum += entropy_sum;
        self.steps += 1.0;
        epoch_ends.then(|| {
            let mean = self.sum / self.steps;
            let gain = mean - self.last;
            *self = Self { sum: 0.0, steps: 0.0, last: mean };
            gain
        })
    }
}

impl<M: GenerativeModel> StreamState<M> {
    pub(crate) fn new(engine: Engine<M>, plateau: Plateau, settings: String) -> Self {
        Self {
            engine,
            settings,
            place: Place::default(),
            plateau,
            history: History::default(),
            warnings: Vec::new(),
            events: Vec::new(),
            seconds: 0.0,
            points_seen: 0,
            skipped: 0,
            records: 0,
            polished: 0,
            last_step: None,
            epoch: EpochMeans::default(),
            stop_reason: None,
            interrupted: None,
        }
    }

    /// The place in the stream.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Points seen so far.
    pub fn points_seen(&self) -> u64 {
        self.points_seen
    }

    /// Steps done so far.
    pub fn steps(&self) -> u64 {
        self.engine.steps()
    }

    /// The same state, said to be made under these settings.
    pub(crate) fn with_settings(self, settings: String) -> Self {
        Self { settings, ..self }
    }

    /// Whether the stream has ended and only closing iterations, if any, are left.
    pub fn is_streamed(&self) -> bool {
        self.stop_reason.is_some()
    }

    /// This state, as [`begin`](super::stream::begin) made it from the saved model, with what [`numbers`](FitState::numbers)
    /// gave, and the warnings.
    ///
    /// # Errors
    /// If the numbers are not those of such a state.
    pub fn restore(mut self, numbers: &[f64], warnings: Vec<String>) -> Result<Self> {
        let mut from = Reader(numbers);
        let mut read = |from: &mut Reader<'_>| -> Option<()> {
            self.place =
                Place { epoch: from.count()?, window: from.count()?, batch: from.count()? };
            self.seconds = from.next()?;
            self.points_seen = from.count()?;
            self.skipped = from.count()?;
            self.records = from.count()?;
            self.polished = from.count()?;
            let last_step = from.next()?;
            self.last_step = (last_step >= 0.0).then_some(last_step as u64);
            self.epoch = EpochMeans { sum: from.next()?, steps: from.next()?, last: from.next()? };
            self.stop_reason = match from.count()? {
                0 => None,
                1 => Some(StopReason::Converged),
                _ => Some(StopReason::Epochs),
            };
            let mut window = || {
                Some(Window {
                    batches: from.next()?,
                    time: from.next()?,
                    sum: from.next()?,
                    variance: from.next()?,
                    covariance: from.next()?,
                })
            };
            self.plateau.state = PlateauState {
                open: window()?,
                last: window()?,
                variance: from.next()?,
                shared: from.next()?,
                flat: from.next()?,
                windows: from.next()?,
                improvement: from.next()?,
                standard_error: from.next()?,
                improvement_before: from.next()?,
            };
            let kind = from.count()?;
            match &mut self.engine {
                Engine::Stepwise(learner) if kind == 0 => {
                    learner.counts = Counts {
                        steps: from.count()?,
                        points: from.next()?,
                        weight: from.next()?,
                        inverse_n: from.next()?,
                        omega_squared: from.next()?,
                        squared_evidence: from.next()?,
                        splits_left: from.count()?,
                    };
                    learner.least_step = from.next()?;
                    learner.stats = from.stats()?;
                    learner.reference = from.stats()?;
                    learner.average = match from.stats()? {
                        None => None,
                        Some(stats) => Some(Average {
                            stats,
                            steps: from.next()?,
                            covariance: from.next()?,
                            variance: from.next()?,
                        }),
                    };
                }
                Engine::Incremental(learner) if kind == 1 => {
                    learner.filled = from.count()?;
                    learner.visits = from.count()?;
                    learner.points = from.next()?;
                    learner.splits_left = from.count()?;
                    if from.count()? != learner.slots.len() as u64 {
                        return None;
                    }
                    learner.total = from.stats()?;
                    for slot in &mut learner.slots {
                        *slot = from.stats()?;
                    }
                }
                _ => return None,
            }
            let count = from.count()? as usize;
            if !self.engine.model_mut().remind(from.take(count)?) {
                return None;
            }
            self.history.records = from.records()?;
            from.0.is_empty().then_some(())
        };
        match read(&mut from) {
            None => Err(damaged()),
            Some(()) => {
                self.warnings = warnings;
                Ok(self)
            }
        }
    }
}

impl<M: GenerativeModel> FitState for StreamState<M> {
    type Model = M;

    fn model(&self) -> &M {
        self.engine.model()
    }

    fn settings(&self) -> &str {
        &self.settings
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn numbers(&self) -> Vec<f64> {
        let mut out = vec![
            self.place.epoch as f64,
            self.place.window as f64,
            self.place.batch as f64,
            self.seconds,
            self.points_seen as f64,
            self.skipped as f64,
            self.records as f64,
            self.polished as f64,
            self.last_step.map_or(-1.0, |step| step as f64),
            self.epoch.sum,
            self.epoch.steps,
            self.epoch.last,
            match self.stop_reason {
                None => 0.0,
                Some(StopReason::Converged) => 1.0,
                Some(_) => 2.0,
            },
        ];
        let p = &self.plateau.state;
        for window in [p.open, p.last] {
            let Window { batches, time, sum, variance, covariance } = window;
            out.extend([batches, time, sum, variance, covariance]);
        }
        out.extend([p.variance, p.shared, p.flat, p.windows]);
        out.extend([p.improvement, p.standard_error, p.improvement_before]);
        match &self.engine {
            Engine::Stepwise(learner) => {
                let c = &learner.counts;
                out.extend([
                    0.0,
                    c.steps as f64,
                    c.points,
                    c.weight,
                    c.inverse_n,
                    c.omega_squared,
                    c.squared_evidence,
                    c.splits_left as f64,
                    learner.least_step,
                ]);
                write_stats(&mut out, learner.stats.as_ref());
                write_stats(&mut out, learner.reference.as_ref());
                write_stats(&mut out, learner.average.as_ref().map(|average| &average.stats));
                if let Some(average) = &learner.average {
                    out.extend([average.steps, average.covariance, average.variance]);
                }
            }
            Engine::Incremental(learner) => {
                out.extend([
                    1.0,
                    learner.filled as f64,
                    learner.visits as f64,
                    learner.points,
                    learner.splits_left as f64,
                    learner.slots.len() as f64,
                ]);
                write_stats(&mut out, learner.total.as_ref());
                for slot in &learner.slots {
                    write_stats(&mut out, slot.as_ref());
                }
            }
        }
        let forgotten = self.model().forgotten();
        out.push(forgotten.len() as f64);
        out.extend(forgotten);
        write_records(&mut out, &self.history.records);
        out
    }
}
