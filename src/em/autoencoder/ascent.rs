//! Running sums of the statistics of minibatches, from which the variances follow in closed form.
//!
//! `s_t = (1 - γ_t) s_{t-1} + γ_t ŝ_t` with `γ_t = 1/t` at first and then `1 / MEMORY`: entropy sum and bound of a record are those of the
//! weighted points, with the networks that each minibatch met. They lag behind the networks by as many steps; with a learning rate that
//! falls to zero the lag does too. Gradients are those of the minibatch alone.

use super::learner::{AutoencoderMaximizer, Statistics};
use crate::em::accumulator::{Accumulator, Course, Verdict};
use crate::em::checkpoint::{damaged, decode, encode};
use crate::em::learner::{Maximizer, Step};
use crate::error::{Error, Result};
use crate::monitor::{GapHalves, Minibatch};
use crate::stats::SuffStats;
use crate::work::Workers;
use serde::{Deserialize, Serialize};

/// Minibatches that running sums remember, or all of an epoch if these are fewer. Not tuned; per-minibatch sums are biased, and long ones
/// lag.
const MEMORY: u64 = 20;

/// Steps whose bounds are judged together, at least: that of few steps says little where samples or minibatches are few.
const JUDGED: u64 = 10;

/// Climbs the bound until epochs bring no better one.
#[derive(Debug)]
pub(super) struct Ascent {
    /// Minibatches of an epoch; none if each step sees all points.
    n_batches: Option<u64>,
    tol: f64,
    /// Epochs without a better bound that end the fit; none where the learning rate ends it.
    patience: Option<u64>,
    /// Passes over held-out points without a better bound that end the fit, if there are such points.
    held_out_patience: Option<u64>,
    state: State,
}

/// What a checkpoint keeps.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    steps: u64,
    running: Option<SuffStats>,
    /// `Σ_k ω_k² / n_k`, `Σ_k ω_k²`, and `Σ_k ω_k F_k²` of the bounds of minibatches.
    inverse_n: f64,
    squared_weights: f64,
    squared_bounds: f64,
    /// Variance of the running bound that comes from sampling.
    sampling_variance: f64,
    epoch: Epoch,
    held_out: Option<HeldOut>,
}

/// The model that did best on held-out points, as its [`numbers`](VariationalAutoencoder::numbers).
#[derive(Debug, Serialize, Deserialize)]
struct HeldOut {
    best: f64,
    numbers: Vec<f64>,
    /// Passes since then.
    flat: u64,
}

/// The mean bound of an epoch, or of as many as have [`JUDGED`] steps, and the best of all.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Epoch {
    sum: f64,
    steps: u64,
    best: Option<f64>,
    /// Means in a row that were no better.
    flat: u64,
}

impl Ascent {
    pub fn new(n_batches: Option<u64>, tol: f64, patience: Option<u64>) -> Self {
        Self { n_batches, tol, patience, held_out_patience: None, state: State::default() }
    }

    /// Ends the fit after so many passes over held-out points without a better bound, and keeps the model that did best.
    pub fn with_held_out(self, patience: Option<u64>) -> Self {
        Self { held_out_patience: patience, ..self }
    }

    /// Blends the moments of a minibatch into the running sums. Returns the step size.
    ///
    /// # Errors
    /// If the running sums, from a damaged checkpoint, are those of another model.
    fn blend(&mut self, batch: &Statistics, bound: f64) -> Result<f64> {
        let memory = self.n_batches.map_or(1, |n_batches| n_batches.min(MEMORY));
        let state = &mut self.state;
        state.steps = state.steps.saturating_add(1);
        let step = 1.0 / state.steps.min(memory) as f64;
        let mut moments = batch.moments.clone();
        let points = moments.n_points();
        moments.scale(1.0 / moments.total_weight());
        match &mut state.running {
            None => state.running = Some(moments),
            Some(running) if running.shape() != moments.shape() => return Err(damaged()),
            Some(running) => running.blend(step, &moments),
        }
        let rest = 1.0 - step;
        state.inverse_n = rest * rest * state.inverse_n + step * step / points;
        state.squared_weights = rest * rest * state.squared_weights + step * step;
        state.squared_bounds += step * (bound * bound - state.squared_bounds);
        state.sampling_variance =
            rest * rest * state.sampling_variance + step * step * batch.sampling_variance;
        Ok(step)
    }

    /// Returns the standard error of the running bound as an estimate for new points; NaN if a single minibatch is remembered.
    fn standard_error(&self) -> f64 {
        let state = &self.state;
        let mean = state.running.as_ref().map_or(f64::NAN, SuffStats::log_evidence);
        let left = 1.0 - state.squared_weights;
        let variance = (state.squared_bounds - mean * mean).max(0.0) / left;
        if left > 1e-9 { (variance * state.squared_weights).sqrt() } else { f64::NAN }
    }
}

impl Accumulator<AutoencoderMaximizer> for Ascent {
    fn absorb(
        &mut self,
        maximizer: &mut AutoencoderMaximizer,
        _: u64,
        mut statistics: Statistics,
        workers: &dyn Workers,
    ) -> Result<Step> {
        let bound = statistics.moments.log_evidence() / statistics.moments.total_weight();
        let is_finite = statistics.moments.is_finite()
            && statistics.gradient.iter().all(|value| value.is_finite());
        if !is_finite {
            maximizer.step_back();
            return Err(Error::Model(format!(
                "the bound in step {} is no finite number: the learning rate {} is too large. The parameters of the step before were \
                 kept; choose a smaller learning rate (--learning-rate)",
                maximizer.adam.moments.steps.saturating_add(1),
                maximizer.adam.rate
            )));
        }
        let step_size = self.blend(&statistics, bound)?;
        let running = self.state.running.take().expect("a minibatch was blended in");
        statistics.moments = running;
        let events = maximizer.maximize(&statistics, workers)?;
        let (lower_bound, entropy_sum) = maximizer.evaluate(&statistics, workers);
        let [prior, noise] = maximizer.model().gap_halves(&statistics.moments);
        let sampling_error = self.state.sampling_variance.sqrt();
        let log_likelihood = maximizer.log_likelihood(&statistics);
        maximizer.pin_columns(&mut statistics.moments);
        self.state.running = Some(statistics.moments);
        maximizer.spare = statistics.gradient;
        Ok(Step {
            step_size,
            batch_log_likelihood: bound,
            log_likelihood,
            lower_bound,
            entropy_sum,
            gap_halves: Some(GapHalves { prior, noise, sampling_error }),
            events,
            ..Step::default()
        })
    }

    fn judge(
        &mut self,
        _: &mut AutoencoderMaximizer,
        step: &Step,
        course: Course,
        _: &dyn Workers,
    ) -> Verdict {
        let epoch = &mut self.state.epoch;
        epoch.sum += step.batch_log_likelihood;
        epoch.steps = epoch.steps.saturating_add(1);
        let flat = self.state.held_out.as_ref().map_or(0, |held_out| held_out.flat);
        if self.held_out_patience.is_some_and(|patience| flat >= patience) {
            return Verdict { is_converged: true, change: None };
        }
        if !course.epoch_ends || epoch.steps < JUDGED {
            return Verdict::default();
        }
        let mean = epoch.sum / epoch.steps as f64;
        (epoch.sum, epoch.steps) = (0.0, 0);
        if epoch.best.is_none_or(|best| mean > best + self.tol) {
            (epoch.best, epoch.flat) = (Some(mean), 0);
        } else {
            epoch.flat = epoch.flat.saturating_add(1);
        }
        let is_converged = self.patience.is_some_and(|patience| epoch.flat >= patience);
        Verdict { is_converged, change: None }
    }

    fn minibatch(&self, step: &Step) -> Option<Minibatch> {
        self.n_batches.map(|_| Minibatch {
            step_size: step.step_size,
            effective_points: 1.0 / self.state.inverse_n,
            standard_error: self.standard_error(),
            improvement: f64::NAN,
            remaining: f64::NAN,
            audit: f64::NAN,
        })
    }

    fn hear_held_out(&mut self, maximizer: &AutoencoderMaximizer, log_likelihood: f64) {
        let Some(_) = self.held_out_patience else { return };
        match &mut self.state.held_out {
            Some(held_out) if log_likelihood <= held_out.best => {
                held_out.flat = held_out.flat.saturating_add(1);
            }
            held_out => {
                let numbers = maximizer.model().numbers();
                *held_out = Some(HeldOut { best: log_likelihood, numbers, flat: 0 });
            }
        }
    }

    /// Goes back to the model that did best on held-out points, if it was another one. Its record is that of the running sums.
    fn finish(
        &mut self,
        maximizer: &mut AutoencoderMaximizer,
        _: &dyn Workers,
    ) -> Result<Option<Step>> {
        let held_out = self.state.held_out.take();
        match held_out.map(|best| maximizer.model_mut().set_numbers(&best.numbers)) {
            Some(false) => Err(damaged()),
            _ => Ok(None),
        }
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.state)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        self.state = decode(bytes)?;
        Ok(())
    }
}
