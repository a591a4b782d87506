//! How statistics of batches become those that an M-step sees, and when that may end.
//!
//! | accumulator | an M-step sees | ends when |
//! |---|---|---|
//! | [`Replace`] | the statistics of the batch: batch EM | the monitored value stands still |
//! | [`Blend`] | running statistics: stepwise EM | windows of steps gain nothing, then averages are taken |
//! | [`Exchange`] | the last statistics of every chunk: incremental EM | an epoch gains nothing |
//! | [`Remember`] | the last minibatches, each whole | epochs gain nothing, then all count alike |
//!
//! The driver knows no more of an algorithm than this trait.

use super::checkpoint::{decode, encode};
use super::incremental::Slots;
use super::last_batches::LastBatches;
use super::learner::{Maximizer, Mergeable, Step, m_step};
use super::step_size::noise_of_step;
use super::stepwise::Running;
use crate::error::{Error, Result};
use crate::monitor::{Convergence, Minibatch, Plateau};
use crate::work::Workers;
use serde::{Deserialize, Serialize};

/// The least step is halved when an epoch, or a window of the stopping rule, gains less than this part of what its noise
/// costs. Not less than all of it: averages will take the noise away, but what was not gained is lost.
const WORTH: f64 = 0.125;

/// Shows where in its course a fit is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    /// Steps done in all phases.
    pub steps: u64,
    /// Whether the last step ended a pass over the points.
    pub epoch_ends: bool,
}

/// What a stopping rule found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Verdict {
    pub is_converged: bool,
    /// Change of the monitored value, if the rule defines it; else that of the entropy sum since the last record.
    pub change: Option<f64>,
}

/// Turns statistics of batches into M-steps.
pub(crate) trait Accumulator<M: Maximizer> {
    /// Prepares a learner that has not begun.
    fn begin(&mut self, _maximizer: &mut M) {}

    /// Takes in the statistics of a batch, and does the M-step.
    fn absorb(
        &mut self,
        maximizer: &mut M,
        chunk: u64,
        statistics: M::Statistics,
        workers: &dyn Workers,
    ) -> Result<Step>;

    /// Whether the parameters do not follow from the statistics yet, so that there is nothing to record.
    fn is_warming_up(&self) -> bool {
        false
    }

    /// Applies the stopping rule after a step.
    fn judge(
        &mut self,
        maximizer: &mut M,
        step: &Step,
        course: Course,
        workers: &dyn Workers,
    ) -> Verdict;

    /// Enters bound and entropy sum into a step that is to be recorded, if [`absorb`](Self::absorb) left them out.
    fn evaluate(&mut self, _maximizer: &M, _step: &mut Step, _workers: &dyn Workers) {}

    /// Returns what a record of minibatches adds.
    fn minibatch(&self, _step: &Step) -> Option<Minibatch> {
        None
    }

    /// Returns the model that a fit would end with now, if it is not the learner's.
    fn final_model(&self, _maximizer: &mut M, _workers: &dyn Workers) -> Option<Result<M::Model>> {
        None
    }

    /// Hears the log-likelihood that a pass over held-out points has just measured for the learner's model.
    fn hear_held_out(&mut self, _maximizer: &M, _log_likelihood: f64) {}

    /// Ends a phase. Returns the step to record if parameters have changed once more.
    fn finish(&mut self, _maximizer: &mut M, _workers: &dyn Workers) -> Result<Option<Step>> {
        Ok(None)
    }

    /// Lists the statistics that outlive a step.
    fn kept(&self) -> Vec<&M::Statistics> {
        Vec::new()
    }

    /// Encodes the state.
    fn save(&self) -> Vec<u8>;

    /// Takes back what [`save`](Self::save) gave.
    fn restore(&mut self, bytes: &[u8]) -> Result<()>;
}

/// Batch EM: each M-step sees the statistics of its own E-step.
#[derive(Clone, Debug)]
pub(crate) struct Replace {
    rule: Convergence,
    /// A second rule that must be met in the same iteration; the change recorded is its own.
    also: Option<Convergence>,
}

impl Replace {
    pub fn new(rule: Convergence, also: Option<Convergence>) -> Self {
        Self { rule, also }
    }
}

impl<M: Maximizer> Accumulator<M> for Replace {
    fn absorb(
        &mut self,
        maximizer: &mut M,
        _: u64,
        mut statistics: M::Statistics,
        workers: &dyn Workers,
    ) -> Result<Step> {
        let mut step = m_step(maximizer, &mut statistics, false, workers)?;
        step.log_likelihood = maximizer.log_likelihood(&statistics);
        step.batch_log_likelihood = step.log_likelihood;
        Ok(step)
    }

    fn judge(&mut self, _: &mut M, step: &Step, _: Course, _: &dyn Workers) -> Verdict {
        let judge = |rule: &mut Convergence| {
            let (bound, sum) = step.watched();
            rule.judge(step.log_likelihood, bound, sum, step.is_repaired())
        };
        let (mut change, mut is_converged) = judge(&mut self.rule);
        if let Some(also) = &mut self.also {
            let (its_change, too) = judge(also);
            (change, is_converged) = (its_change, is_converged && too);
        }
        Verdict { is_converged, change: Some(change) }
    }

    fn save(&self) -> Vec<u8> {
        encode(&(self.rule.last, self.also.map(|rule| rule.last)))
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let (last, also): (_, Option<Option<f64>>) = decode(bytes)?;
        self.rule.last = last;
        if let (Some(rule), Some(last)) = (&mut self.also, also) {
            rule.last = last;
        }
        Ok(())
    }
}

/// Means over epochs of a value that steps have: the same points each time, so that they compare well.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct EpochMeans {
    sum: f64,
    steps: f64,
    last: f64,
}

impl Default for EpochMeans {
    fn default() -> Self {
        Self { sum: 0.0, steps: 0.0, last: f64::NEG_INFINITY }
    }
}

impl EpochMeans {
    /// Enters a value. Returns at the end of an epoch how much larger its mean is than that of the epoch before.
    fn update(&mut self, value: f64, epoch_ends: bool) -> Option<f64> {
        self.sum += value;
        self.steps += 1.0;
        epoch_ends.then(|| {
            let mean = self.sum / self.steps;
            let gain = mean - self.last;
            *self = Self { sum: 0.0, steps: 0.0, last: mean };
            gain
        })
    }
}

/// The part of the steps, at the end, in which noise is taken out: by averages, or by minibatches that count alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastPhase {
    /// As a part of all steps.
    pub part: f64,
    /// Steps of all epochs.
    pub planned: u64,
}

impl LastPhase {
    /// Whether it has begun by itself after so many steps.
    fn has_begun(self, steps: u64) -> bool {
        self.part > 0.0 && steps as f64 >= (1.0 - self.part) * self.planned as f64
    }

    /// Returns the step that ends a fit whose rule was met at `steps`: as if it had been planned to end there.
    fn end_of(self, steps: u64) -> u64 {
        steps + (self.part / (1.0 - self.part) * steps as f64) as u64
    }
}

/// Stepwise EM, until the entropy sum gains nothing more.
#[derive(Debug)]
pub(crate) struct Blend<S> {
    running: Running<S>,
    plateau: Plateau,
    last_phase: LastPhase,
    batch_points: f64,
    epoch: EpochMeans,
    /// The step that ends a fit whose rate of improvement is small.
    last_step: Option<u64>,
}

impl<S: Mergeable> Blend<S> {
    pub fn new(
        running: Running<S>,
        plateau: Plateau,
        last_phase: LastPhase,
        batch_points: f64,
    ) -> Self {
        let epoch = EpochMeans::default();
        Self { running, plateau, last_phase, batch_points, epoch, last_step: None }
    }
}

impl<M: Maximizer> Accumulator<M> for Blend<M::Statistics>
where
    M::Statistics: Mergeable,
{
    fn begin(&mut self, maximizer: &mut M) {
        maximizer.recentre();
    }

    fn absorb(
        &mut self,
        maximizer: &mut M,
        _: u64,
        statistics: M::Statistics,
        workers: &dyn Workers,
    ) -> Result<Step> {
        self.running.absorb(maximizer, statistics, workers)
    }

    fn is_warming_up(&self) -> bool {
        self.running.is_warming_up()
    }

    fn judge(
        &mut self,
        maximizer: &mut M,
        step: &Step,
        course: Course,
        workers: &dyn Workers,
    ) -> Verdict {
        if self.running.is_warming_up() {
            return Verdict::default();
        }
        let Course { steps, epoch_ends } = course;
        let variance = self.running.batch_variance().unwrap_or(f64::INFINITY);
        let (_, sum) = step.watched();
        let closes = self.plateau.update(step.step_size, sum, variance);
        let is_flat = closes && self.plateau.close(self.running.displacement(maximizer, workers));
        let gain = self.epoch.update(sum, epoch_ends);
        if self.running.least_step > 0.0 {
            let n_parameters = maximizer.n_parameters();
            let noise = noise_of_step(self.running.least_step, n_parameters, self.batch_points);
            let worth = WORTH * noise;
            if gain.is_some_and(|gain| gain < worth) || closes && self.plateau.is_below(worth) {
                self.running.least_step *= 0.5;
            }
        }
        if is_flat && !step.is_repaired() && self.last_step.is_none() {
            self.last_step = Some(self.last_phase.end_of(steps));
        }
        let by_rule = self.last_step.is_some() && self.last_phase.part > 0.0;
        if by_rule || self.last_phase.has_begun(steps) {
            self.running.start_averaging();
        }
        let is_converged = self.last_step.is_some_and(|last| steps >= last);
        Verdict { is_converged, change: None }
    }

    fn minibatch(&self, step: &Step) -> Option<Minibatch> {
        let known = |value: Option<f64>| value.unwrap_or(f64::NAN);
        Some(Minibatch {
            step_size: step.step_size,
            effective_points: self.running.statistics.as_ref().map_or(0.0, Mergeable::n_points),
            standard_error: known(self.running.standard_error()),
            improvement: known(self.plateau.improvement().map(|it| it.0)),
            remaining: known(self.plateau.remaining()),
            audit: f64::NAN,
        })
    }

    fn final_model(&self, maximizer: &mut M, workers: &dyn Workers) -> Option<Result<M::Model>> {
        self.running.averaged_model(maximizer, workers)
    }

    /// The averaged statistics take the place of the running ones.
    fn finish(&mut self, maximizer: &mut M, workers: &dyn Workers) -> Result<Option<Step>> {
        if !self.running.finish_averaging(maximizer, workers)? {
            return Ok(None);
        }
        let mut step = Step::default();
        if let Some(statistics) = &self.running.statistics {
            (step.lower_bound, step.entropy_sum) = maximizer.evaluate(statistics, workers);
            step.log_prior = maximizer.log_prior(statistics);
            step.log_likelihood = statistics.log_evidence() / statistics.total_weight();
        }
        Ok(Some(step))
    }

    fn kept(&self) -> Vec<&M::Statistics> {
        let Running { statistics, average, reference, .. } = &self.running;
        let average = average.as_ref().map(|average| &average.statistics);
        [statistics.as_ref(), average, reference.as_ref()].into_iter().flatten().collect()
    }

    fn save(&self) -> Vec<u8> {
        encode(&(&self.running, &self.plateau.state, self.epoch, self.last_step))
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        (self.running, self.plateau.state, self.epoch, self.last_step) = decode(bytes)?;
        Ok(())
    }
}

/// Incremental EM, until an epoch gains no more than the tolerance.
#[derive(Debug)]
pub(crate) struct Exchange<S> {
    slots: Slots<S>,
    n_points: u64,
    /// Bytes that the statistics of all chunks may take.
    memory: u64,
    tol: f64,
    epoch: EpochMeans,
}

impl<S: Mergeable> Exchange<S> {
    pub fn new(n_chunks: usize, n_points: u64, memory: u64, tol: f64) -> Self {
        Self { slots: Slots::new(n_chunks), n_points, memory, tol, epoch: EpochMeans::default() }
    }

    /// Refuses chunks whose statistics would not fit into memory.
    fn check_memory(&self, statistics: &S) -> Result<()> {
        let (slot, n_chunks) = (statistics.n_bytes().max(1) as u64, self.slots.len() as u64);
        let bytes = slot.saturating_mul(n_chunks);
        if bytes <= self.memory {
            return Ok(());
        }
        let least = self.n_points.div_ceil((self.memory / slot).max(1));
        Err(Error::Config(format!(
            "statistics of {n_chunks} chunks need {} MB, and {} MB may be used: take chunks of {least} points or more",
            bytes.div_ceil(1 << 20),
            self.memory >> 20
        )))
    }
}

impl<M: Maximizer> Accumulator<M> for Exchange<M::Statistics>
where
    M::Statistics: Mergeable,
{
    fn begin(&mut self, maximizer: &mut M) {
        maximizer.recentre();
    }

    fn absorb(
        &mut self,
        maximizer: &mut M,
        chunk: u64,
        statistics: M::Statistics,
        workers: &dyn Workers,
    ) -> Result<Step> {
        if self.slots.visits == 0 {
            self.check_memory(&statistics)?;
        }
        self.slots.absorb(maximizer, chunk as usize, statistics, workers)
    }

    fn is_warming_up(&self) -> bool {
        self.slots.is_warming_up()
    }

    /// A chunk is a window; the entropy sum is of all points, and at the end of an epoch of even posteriors.
    fn judge(&mut self, _: &mut M, step: &Step, course: Course, _: &dyn Workers) -> Verdict {
        let ends = course.epoch_ends && !self.slots.is_warming_up();
        let gain = ends.then(|| self.epoch.update(step.watched().1, true)).flatten();
        let is_converged = gain.is_some_and(|gain| gain.abs() <= self.tol);
        Verdict { is_converged, change: None }
    }

    fn minibatch(&self, step: &Step) -> Option<Minibatch> {
        let points = self.slots.total.as_ref().map_or(f64::NAN, Mergeable::n_points);
        Some(Minibatch {
            step_size: step.step_size,
            effective_points: points,
            standard_error: f64::NAN,
            improvement: f64::NAN,
            remaining: f64::NAN,
            audit: f64::NAN,
        })
    }

    fn kept(&self) -> Vec<&M::Statistics> {
        self.slots.kept().collect()
    }

    fn save(&self) -> Vec<u8> {
        encode(&(&self.slots, self.epoch))
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let (slots, epoch): (Slots<M::Statistics>, EpochMeans) = decode(bytes)?;
        if slots.len() != self.slots.len() {
            return Err(super::checkpoint::damaged());
        }
        (self.slots, self.epoch) = (slots, epoch);
        Ok(())
    }
}

/// Minibatches that are remembered whole, until epochs gain nothing more.
#[derive(Debug)]
pub(crate) struct Remember<S> {
    batches: LastBatches<S>,
    tol: f64,
    /// Epochs running without a gain that end a fit.
    patience: u64,
    last_phase: LastPhase,
    epoch: EpochMeans,
    /// Epochs running that gained no more than the tolerance.
    flat: u64,
    last_step: Option<u64>,
}

impl<S: Mergeable> Remember<S> {
    pub fn new(batches: LastBatches<S>, tol: f64, patience: u64, last_phase: LastPhase) -> Self {
        let epoch = EpochMeans::default();
        Self { batches, tol, patience, last_phase, epoch, flat: 0, last_step: None }
    }
}

impl<M: Maximizer> Accumulator<M> for Remember<M::Statistics>
where
    M::Statistics: Mergeable,
{
    fn absorb(
        &mut self,
        maximizer: &mut M,
        _: u64,
        statistics: M::Statistics,
        workers: &dyn Workers,
    ) -> Result<Step> {
        let LastPhase { part, planned } = self.last_phase;
        let next = self.batches.steps + 1;
        if part > 0.0 && next as f64 > (1.0 - part) * planned as f64 {
            self.batches.is_closing = true;
        }
        self.batches.absorb(maximizer, statistics, workers)
    }

    fn is_warming_up(&self) -> bool {
        self.batches.is_warming_up()
    }

    fn judge(&mut self, _: &mut M, step: &Step, course: Course, _: &dyn Workers) -> Verdict {
        let Some(gain) = self.epoch.update(step.batch_log_likelihood, course.epoch_ends) else {
            return Verdict::default();
        };
        let is_held = step.standing == super::learner::Standing::Held;
        self.flat = if gain <= self.tol && !is_held { self.flat + 1 } else { 0 };
        if self.flat >= self.patience && self.last_step.is_none() {
            self.batches.is_closing = self.last_phase.part > 0.0;
            self.last_step = Some(self.last_phase.end_of(course.steps));
        }
        // Only at the end of an epoch: every point has then been seen as often as any other.
        let is_converged = self.last_step.is_some_and(|last| course.steps >= last);
        Verdict { is_converged, change: None }
    }

    fn evaluate(&mut self, maximizer: &M, step: &mut Step, workers: &dyn Workers) {
        self.batches.evaluate(maximizer, step, workers);
    }

    fn minibatch(&self, step: &Step) -> Option<Minibatch> {
        let (effective_points, standard_error) = self.batches.spread();
        Some(Minibatch {
            step_size: step.step_size,
            effective_points,
            standard_error,
            improvement: f64::NAN,
            remaining: f64::NAN,
            audit: f64::NAN,
        })
    }

    fn kept(&self) -> Vec<&M::Statistics> {
        self.batches.kept().collect()
    }

    fn save(&self) -> Vec<u8> {
        encode(&(&self.batches, self.epoch, self.flat, self.last_step))
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let (batches, epoch, flat, last_step): (LastBatches<M::Statistics>, _, _, _) =
            decode(bytes)?;
        if batches.n_batches != self.batches.n_batches {
            return Err(super::checkpoint::damaged());
        }
        (self.batches, self.epoch, self.flat, self.last_step) = (batches, epoch, flat, last_step);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::em::model_learner::ModelMaximizer;
    use crate::em::step_size::StepSize;
    use crate::model::Mixture;
    use crate::stats::SuffStats;

    type Any = ModelMaximizer<Mixture>;

    fn remember(n_batches: usize) -> Remember<SuffStats> {
        let batches = LastBatches::new(StepSize::default(), 0.0, 0, n_batches);
        Remember::new(batches, 0.0, 1, LastPhase { part: 0.0, planned: 1 })
    }

    #[test]
    fn a_state_of_another_number_of_minibatches_is_damage() {
        let saved = Accumulator::<Any>::save(&remember(3));
        assert!(Accumulator::<Any>::restore(&mut remember(3), &saved).is_ok());
        for n in [1, 2, 4] {
            assert!(Accumulator::<Any>::restore(&mut remember(n), &saved).is_err());
        }
        // A damaged file may say that there are none.
        let none = Accumulator::<Any>::save(&remember(0));
        assert!(Accumulator::<Any>::restore(&mut remember(3), &none).is_err());
    }
}
