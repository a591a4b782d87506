//! When to stop a fit by minibatches, where every value is noisy.
//!
//! Two numbers come free with every step: `ES_t - ℓ̃_t`, the entropy sum minus the running log-likelihood, both under the
//! same weights on the same points, so that what differs between one sample and another cancels; and the gain `g_t`
//! of the M-step on the running statistics. Near an optimum, with the step size γ, batches of B points and the
//! eigenvalues λ_i of (complete information)⁻¹ (observed information),
//!
//! ```text
//! E[ES_t - ℓ̃_t] = 2 Σ λ_i R_i + Σ γ λ_i / (B (2 - γ λ_i))     R_i: log-likelihood still to be gained
//! E[g_t]        = γ² Σ λ_i / 2B + O(γ² λ_i² R_i)
//! ```
//!
//! The first term is the *rate* at which the fit still gains, in nats per point and time constant `1/γ` of the
//! statistics; the second is noise that the parameters follow, and `2 g_t / (γ (2 - γ))` is at least that. So the
//! *excess*
//!
//! ```text
//! x_t = ES_t - ℓ̃_t - 2 g_t / (γ_t (2 - γ_t))
//! ```
//!
//! tells the rate without the noise's bias. Its mean over a window of several time constants has a standard error from its
//! variation from batch to batch, corrected for the correlation that smoothing by γ brings. The rule stops when mean
//! plus [`Z`] standard errors is at most the tolerance in several windows running.

use crate::error::{Error, Result};

/// Length of a window in time constants of the running statistics: `Σ γ_t` over it.
const WINDOW: f64 = 5.0;

/// Batches of a window at least: fewer give no standard error.
const MIN_BATCHES: f64 = 8.0;

/// Standard errors that are added to a mean before it counts as small: one-sided 97.5 %.
pub const Z: f64 = 1.96;

/// A rule that stops when the rate of improvement is small beyond doubt.
///
/// The simulation of this file's tests (linearised stepwise EM of 20 modes, 400 runs for each of several settings)
/// counts as false every stop while the true rate was above the tolerance.
#[derive(Clone, Debug, PartialEq)]
pub struct Plateau {
    tol: f64,
    patience: u64,
    pub(crate) state: PlateauState,
}

/// The numbers of a rule under way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct PlateauState {
    /// Of the open window: batches, Σ γ, Σ x, Σ x².
    pub batches: f64,
    pub time: f64,
    pub sum: f64,
    pub squares: f64,
    /// Windows running whose rate was small.
    pub small: f64,
    /// Windows closed, and the last two: mean, standard error, length in time constants.
    pub windows: f64,
    pub last: [f64; 3],
    pub before: [f64; 3],
}

/// What is known of the rate of improvement. Nats per point and time constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Mean of the excess over the last window.
    pub mean: f64,
    /// Its standard error.
    pub standard_error: f64,
}

impl Plateau {
    /// A rule that stops after `patience` windows whose rate is at most `tol`.
    ///
    /// # Errors
    /// If the tolerance is negative or no number, or the patience 0.
    pub fn new(tol: f64, patience: usize) -> Result<Self> {
        if !(tol >= 0.0) {
            return Err(Error::Config(format!("tol is {tol}, expected a number ≥ 0")));
        }
        if patience == 0 {
            return Err(Error::Config("patience must be at least 1".to_owned()));
        }
        Ok(Self { tol, patience: patience as u64, state: PlateauState::default() })
    }

    /// Enters a step: its size, entropy sum minus running log-likelihood, and the gain of its M-step. Tells whether to
    /// stop.
    pub fn update(&mut self, step_size: f64, delta: f64, gain: f64) -> bool {
        let excess = delta - 2.0 * gain / (step_size * (2.0 - step_size).max(1.0));
        let state = &mut self.state;
        state.batches += 1.0;
        state.time += step_size;
        state.sum += excess;
        state.squares += excess * excess;
        if state.time < WINDOW || state.batches < MIN_BATCHES {
            return false;
        }
        let (n, mean) = (state.batches, state.sum / state.batches);
        let variance = (state.squares / n - mean * mean).max(0.0) * n / (n - 1.0);
        let step = state.time / n;
        // Neighbours are correlated as (1 - γ)^k: so many batches are worth one.
        let alike = ((2.0 - step) / step).min(n);
        state.before = state.last;
        state.last = [mean, (variance * alike / n).sqrt(), state.time];
        state.windows += 1.0;
        (state.batches, state.time, state.sum, state.squares) = (0.0, 0.0, 0.0, 0.0);
        let small = mean + Z * state.last[1] <= self.tol;
        state.small = if small { state.small + 1.0 } else { 0.0 };
        state.small >= self.patience as f64
    }

    /// The rate in the last window, once there was one.
    pub fn rate(&self) -> Option<Rate> {
        let [mean, standard_error, _] = self.state.last;
        (self.state.windows >= 1.0).then_some(Rate { mean, standard_error })
    }

    /// Estimate of the log-likelihood still to be gained, in nats per point: the rate decays as `e^{-kτ}` with the time τ,
    /// and `rate / k` is left. `None` where the last two windows do not show a decay beyond their errors.
    pub fn remaining(&self) -> Option<f64> {
        let ([new, error, time], [old, old_error, _]) = (self.state.last, self.state.before);
        let clear = self.state.windows >= 2.0
            && new > Z * error
            && old - new > Z * error.hypot(old_error);
        clear.then(|| new * time / (old / new).ln())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;
    use rand_distr::{Distribution, StandardNormal};

    /// Stepwise EM near an optimum, exact to second order. In units where the complete information is 1, a batch with noise
    /// `n` has the log-likelihood `c + n·δ - λ/2 δ²` at the parameters δ, and the surrogate
    /// `ℓ(δ_k) + (n - λ δ_k)(δ - δ_k) - ½ (δ - δ_k)²` with the posteriors of δ_k.
    struct Linear {
        lambda: Vec<f64>,
        delta: Vec<f64>,
        constant: f64,
        linear: Vec<f64>,
        running: f64,
        batch: f64,
        /// The same path without noise: the truth.
        quiet: Vec<f64>,
    }

    impl Linear {
        fn new(n_modes: usize, slowest: f64, remaining: f64, batch: f64) -> Self {
            let at = |i: usize| i as f64 / (n_modes - 1).max(1) as f64;
            let lambda: Vec<f64> = (0..n_modes).map(|i| slowest.powf(at(i)) * 0.95).collect();
            let delta: Vec<f64> =
                lambda.iter().map(|l| (2.0 * remaining / n_modes as f64 / l).sqrt()).collect();
            let quiet = delta.clone();
            Self { linear: delta.clone(), quiet, delta, lambda, constant: 0.0, running: 0.0, batch }
        }

        /// Step size, ES - running log-likelihood, gain.
        fn step(&mut self, step: f64, rng: &mut rand_xoshiro::Xoshiro256PlusPlus) -> (f64, f64) {
            let mut normal = || -> f64 { StandardNormal.sample(rng) };
            // Log-densities of points have a standard deviation of some nats.
            let (mut likelihood, mut constant) = (2.5 * normal() / self.batch.sqrt(), 0.0);
            let (mut sum, mut gain) = (0.0, 0.0);
            for i in 0..self.lambda.len() {
                let (l, d) = (self.lambda[i], self.delta[i]);
                let noise = normal() * (l / self.batch).sqrt();
                let gradient = noise - l * d;
                likelihood += noise * d - l / 2.0 * d * d;
                constant -= gradient * d + d * d / 2.0;
                self.linear[i] += step * (gradient + d - self.linear[i]);
                let new = self.linear[i];
                gain += (new - d) * (new - d) / 2.0;
                sum += new * new / 2.0;
                self.delta[i] = new;
                self.quiet[i] *= 1.0 - step * l;
            }
            self.constant += step * (likelihood + constant - self.constant);
            self.running += step * (likelihood - self.running);
            (self.constant + sum - self.running, gain)
        }

        fn true_rate(&self) -> f64 {
            self.lambda.iter().zip(&self.quiet).map(|(l, d)| l * l * d * d).sum()
        }
    }

    /// Runs to the stop, `limit` batches at most: the step it stopped at and the true rate there.
    fn run(seed: u64, tol: f64, slowest: f64, batch: f64, exponent: f64, limit: u64) -> (u64, f64) {
        let mut rng = rng::stream(seed, 0);
        let mut model = Linear::new(20, slowest, 0.5, batch);
        let mut rule = Plateau::new(tol, 3).unwrap();
        for t in 1..=limit {
            let step = if t == 1 { 1.0 } else { (t as f64 + 2.0).powf(-exponent) };
            let (delta, gain) = model.step(step, &mut rng);
            if rule.update(step, delta, gain) {
                return (t, model.true_rate());
            }
        }
        (limit, f64::NAN)
    }

    /// Counts stops while the true rate was above the tolerance. The share is that of the documentation.
    #[test]
    fn false_stops_are_rare_in_simulated_fits() {
        for (tol, slowest, batch, exponent) in [
            (1e-3, 0.05, 1000.0, 0.6),
            (1e-3, 0.05, 200.0, 0.7),
            (1e-4, 0.05, 4000.0, 0.6),
            (1e-4, 0.01, 4000.0, 0.6),
        ] {
            let runs: Vec<_> =
                (0..400).map(|seed| run(seed, tol, slowest, batch, exponent, 20_000)).collect();
            let stopped = runs.iter().filter(|(_, rate)| rate.is_finite()).count();
            let early = runs.iter().filter(|(_, rate)| *rate > tol).count();
            let mut steps: Vec<u64> = runs.iter().map(|run| run.0).collect();
            steps.sort_unstable();
            println!(
                "tol {tol:e}, slowest mode {slowest}, B = {batch}, κ = {exponent}: {stopped} of 400 stopped, \
                 {early} too early, median step {}",
                steps[200]
            );
            assert!(early <= 8, "{early} of 400 runs stopped too early");
            assert!(stopped >= 200, "only {stopped} of 400 runs stopped");
        }
    }

    /// Without the correction the noise that the parameters follow looks like progress, and the rule never stops.
    #[test]
    fn the_excess_has_no_bias_at_the_optimum() {
        let mut rng = rng::stream(1, 1);
        let mut model = Linear::new(20, 0.05, 0.0, 500.0);
        let step = 0.05;
        let (mut raw, mut excess, n) = (0.0, 0.0, 40_000);
        for t in 1..=n + 2_000 {
            let (delta, gain) = model.step(if t == 1 { 1.0 } else { step }, &mut rng);
            if t > 2_000 {
                raw += delta / f64::from(n);
                excess += (delta - 2.0 * gain / (step * (2.0 - step))) / f64::from(n);
            }
        }
        let expected: f64 =
            model.lambda.iter().map(|l| step * l / (500.0 * (2.0 - step * l))).sum();
        assert!((raw / expected - 1.0).abs() < 0.1, "{raw} {expected}");
        assert!(excess.abs() < 0.1 * expected, "{excess} of {expected}");
    }

    #[test]
    fn the_remaining_improvement_is_that_of_the_decay() {
        let mut rng = rng::stream(3, 0);
        let mut model = Linear::new(1, 1.0, 0.5, 1e9);
        let mut rule = Plateau::new(1e-9, 3).unwrap();
        let mut checked = 0;
        for t in 1..=400 {
            let step = if t == 1 { 1.0 } else { 0.05 };
            let (delta, gain) = model.step(step, &mut rng);
            rule.update(step, delta, gain);
            if let Some(found) = rule.remaining().filter(|_| rule.state.batches == 0.0) {
                // The mean of a window belongs to its middle: half a window of decay lies behind it.
                let left = model.lambda[0] / 2.0 * model.quiet[0].powi(2);
                assert!(found > left && found < 1e3 * left, "{found} {left}");
                checked += 1;
            }
        }
        assert!(checked >= 1);
        assert!(rule.rate().is_some());
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        assert!(Plateau::new(-1.0, 1).is_err());
        assert!(Plateau::new(f64::NAN, 1).is_err());
        assert!(Plateau::new(1e-3, 0).is_err());
    }
}
