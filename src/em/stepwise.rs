//! Stepwise EM: running statistics, an M-step after every minibatch, and an entropy sum that costs no pass.
//!
//! With the statistics `ŝ_t` of a minibatch, as means per unit of weight,
//!
//! ```text
//! s_t = (1 - γ_t) s_{t-1} + γ_t ŝ_t        γ_1 = 1,  γ_t = (t + t₀)^-κ,  κ in (½, 1]
//! Θ_t = M-step(s_t)
//! ```
//!
//! (Cappé & Moulines 2009; Liang & Klein 2009). Steps may be held above a least one for a while: `Σ γ_t` counts iterations of
//! batch EM, and a power of t alone soon stops counting where EM needs many (theory 1.6).
//!
//! The posterior entropy and the log base measure are part of `s` and are
//! smoothed by the same step, so the entropy sum of `Θ_t` *is* the surrogate objective: `F(q, Θ_t)` of all points seen, each
//! batch with the posteriors it had and weighted by `ω_k = γ_k Π_{j>k} (1 - γ_j)`. It is a lower bound of the
//! log-likelihood of `Θ_t` under these weights (theory 1.6).

use crate::error::{Error, Result};
use crate::family::Regularization;
use crate::model::{EntropySum, GenerativeModel};
use crate::monitor::Event;
use crate::stats::SuffStats;
use crate::work::{Alone, Workers};

/// Sizes of the steps: `γ_t = (t + offset)^-exponent` from the second batch on; the first fills the statistics.
///
/// ```
/// use entropysum::em::stepwise::StepSize;
///
/// let steps = StepSize { exponent: 0.5, offset: 2.0 };
/// assert_eq!((steps.at(1), steps.at(2), steps.at(14)), (1.0, 0.5, 0.25));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepSize {
    /// κ: above ½, so that noise averages out; at most 1, so that the start is forgotten.
    pub exponent: f64,
    /// t₀: larger ones make the first steps smaller.
    pub offset: f64,
}

impl Default for StepSize {
    /// Liang & Klein (2009) found exponents of 0.6 to 0.7 and an offset of 2 good for a range of models.
    fn default() -> Self {
        Self { exponent: 0.6, offset: 2.0 }
    }
}

impl StepSize {
    /// The step of batch `t`, from 1.
    pub fn at(self, t: u64) -> f64 {
        if t <= 1 { 1.0 } else { (t as f64 + self.offset).powf(-self.exponent).min(1.0) }
    }

    /// Says which setting is out of range.
    pub(super) fn check(self) -> Result<()> {
        if !(self.exponent > 0.5 && self.exponent <= 1.0) {
            return Err(Error::Config(format!(
                "step_exponent is {}, expected a number above 0.5 and at most 1",
                self.exponent
            )));
        }
        if !(self.offset >= 0.0 && self.offset.is_finite()) {
            return Err(Error::Config(format!(
                "step_offset is {}, expected a finite number ≥ 0",
                self.offset
            )));
        }
        Ok(())
    }
}

/// What the noise of parameters costs at a constant step: nats per point of log-likelihood, at most, `p γ / 4 B` with `p` free
/// parameters and batches of `B` points (theory 1.6).
pub(super) fn noise_of_step(step: f64, n_parameters: usize, batch: f64) -> f64 {
    n_parameters as f64 * step / (4.0 * batch)
}

/// What one step did. All values are nats per point.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// Step size γ.
    pub step_size: f64,
    /// Mean log-likelihood of the batch under the parameters before the step: for a batch that was not seen before, an
    /// unbiased estimate of how these do on new points.
    pub batch_log_likelihood: f64,
    /// The entropy sum after the step.
    pub entropy_sum: EntropySum,
    /// Floors, splits, discards.
    pub events: Vec<Event>,
}

/// A model that learns from the statistics of one minibatch after another.
///
/// It never sees a point: [`Online`](super::online::Online) does, and drivers do.
///
/// Running statistics are means per unit of weight; their `n_points` is the effective number of points
/// `N_eff = 1 / Σ_k ω_k² / n_k`. They are kept about the components' current means and translated at every
/// step, which is exact algebra: components that are narrow and far from the others lose no digits.
#[derive(Clone, Debug)]
pub struct Stepwise<M> {
    pub(super) model: M,
    step_size: StepSize,
    regularization: Regularization,
    warm_up: u64,
    pub(crate) least_step: f64,
    pub(crate) stats: Option<SuffStats>,
    pub(crate) counts: Counts,
    pub(crate) average: Option<Average>,
    /// Statistics whose M-step gives the parameters of the beginning of a window.
    pub(crate) reference: Option<SuffStats>,
}

/// The numbers of a learner besides its statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    /// Batches absorbed.
    pub steps: u64,
    /// Points of positive weight in them.
    pub points: f64,
    /// Their weight.
    pub weight: f64,
    /// `Σ_k ω_k² / n_k`.
    pub inverse_n: f64,
    /// `Σ_k ω_k²`.
    pub omega_squared: f64,
    /// `Σ_k ω_k ℓ_k²` of the batches' log-likelihoods.
    pub squared_evidence: f64,
    /// Splits that are left to repairs.
    pub splits_left: u64,
}

/// The mean of the running statistics since averaging began (Polyak averaging).
///
/// For exponential families the statistics are averaged and not the parameters: means of statistics are statistics, of
/// all points with averaged weights, so that the M-step from them is exact and the entropy sum stays a bound. Means of
/// covariances or rates are none of this.
#[derive(Clone, Debug)]
pub(crate) struct Average {
    pub stats: SuffStats,
    pub steps: f64,
    /// Covariance of the sum so far with the running statistics, and variance of the sum, in units of one point's.
    pub covariance: f64,
    pub variance: f64,
}

impl<M: GenerativeModel> Stepwise<M> {
    /// A learner that starts from where the model stands.
    ///
    /// # Errors
    /// If a step setting is out of range.
    pub fn new(mut model: M, step_size: StepSize, regularization: Regularization) -> Result<Self> {
        step_size.check()?;
        model.recentre();
        let counts = Counts { splits_left: model.active_components() as u64, ..Counts::default() };
        Ok(Self {
            model,
            step_size,
            regularization,
            warm_up: 0,
            least_step: 0.0,
            stats: None,
            counts,
            average: None,
            reference: None,
        })
    }

    /// Leaves the parameters at the start until this many points are in the statistics, which are plain means so
    /// long. A first M-step from few points would forget the start and put little in its place.
    pub fn with_warm_up(self, points: u64) -> Self {
        Self { warm_up: points, ..self }
    }

    /// Holds steps at this or above, whatever their exponent says; 0 for nothing of the kind.
    ///
    /// Parameters then keep a noise of up to `p γ / 4 B` nats per point, with p free parameters and batches of B points,
    /// until steps become smaller or statistics are averaged.
    pub fn with_least_step(self, least_step: f64) -> Self {
        Self { least_step, ..self }
    }

    /// The model as it stands.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The running statistics, once there was a batch.
    pub fn statistics(&self) -> Option<&SuffStats> {
        self.stats.as_ref()
    }

    /// Batches absorbed so far.
    pub fn steps(&self) -> u64 {
        self.counts.steps
    }

    /// Points of positive weight seen so far.
    pub fn points_seen(&self) -> u64 {
        self.counts.points as u64
    }

    /// Whether the parameters are still those of the start.
    pub fn is_warming_up(&self) -> bool {
        self.counts.points < self.warm_up.max(1) as f64
    }

    /// The entropy sum of the parameters with the posteriors in the running statistics, once these follow from those.
    pub fn entropy_sum(&self) -> Option<EntropySum> {
        let stats = self.stats.as_ref().filter(|_| !self.is_warming_up())?;
        Some(self.model.entropy_sum(stats))
    }

    /// The surrogate objective `F(q, Θ)` from the running statistics: the entropy sum, after exact M-steps.
    pub fn lower_bound(&self) -> Option<f64> {
        self.stats.as_ref().map(|stats| self.model.lower_bound(stats))
    }

    /// The running mean of the batches' log-likelihoods, each under the parameters of its time.
    pub fn log_likelihood(&self) -> Option<f64> {
        self.stats.as_ref().map(|stats| stats.log_evidence() / stats.total_weight())
    }

    /// Effective number of points in the running statistics, `1 / Σ_k ω_k² / n_k`.
    pub fn effective_points(&self) -> f64 {
        self.stats.as_ref().map_or(0.0, |stats| stats.n_points())
    }

    /// Standard error of the entropy sum, as an estimate for new points, from how the log-likelihood varies from batch
    /// to batch (theory 1.6): `sqrt(Var ℓ_k · Σ_k ω_k²)`. `None` while fewer than two batches count.
    ///
    /// It includes what the fit gained meanwhile, and so is large at first. In later passes over the same points it is
    /// still the error of a sample, not that of the mean over these points.
    pub fn standard_error(&self) -> Option<f64> {
        Some((self.batch_variance()? * self.counts.omega_squared).sqrt())
    }

    /// Variance of the batches' log-likelihoods about their running mean.
    pub(super) fn batch_variance(&self) -> Option<f64> {
        let (counts, mean) = (&self.counts, self.log_likelihood()?);
        let left = 1.0 - counts.omega_squared;
        let variance = (counts.squared_evidence - mean * mean) / left;
        (left > 1e-9).then_some(variance.max(0.0))
    }

    /// `KL(π‖π') + Σ_c π_c KL(p_c‖p'_c)` from the parameters at the last call of this to those of now, as the difference of
    /// their bounds on the running statistics; infinity at the first call.
    pub(super) fn displacement(&mut self, workers: &dyn Workers) -> f64 {
        let Some(stats) = &self.stats else { return f64::INFINITY };
        let displacement = match &self.reference {
            None => f64::INFINITY,
            Some(reference) => {
                let mut old = self.model.clone();
                old.m_step_by(reference, self.regularization, workers);
                self.model.lower_bound(stats) - old.lower_bound(stats)
            }
        };
        self.reference = Some(stats.clone());
        displacement
    }

    /// Takes in the statistics of a minibatch, made with [`model`](Self::model), and does the M-step.
    ///
    /// # Errors
    /// If the bound is no finite number.
    pub fn absorb(&mut self, batch: SuffStats) -> Result<Step> {
        self.absorb_by(batch, &Alone)
    }

    /// The same with an M-step by `workers`.
    ///
    /// # Errors
    /// As [`absorb`](Self::absorb).
    pub fn absorb_by(&mut self, mut batch: SuffStats, workers: &dyn Workers) -> Result<Step> {
        let (weight, points) = (batch.total_weight(), batch.n_points());
        batch.scale(1.0 / weight);
        take_up_rounding(&mut batch);
        let batch_log_likelihood = batch.log_evidence();
        let counts = &mut self.counts;
        counts.steps += 1;
        counts.points += points;
        counts.weight += weight;
        let warming_up = counts.points < self.warm_up.max(1) as f64;
        // As long as the parameters stay, all batches are equal.
        let was_warming_up = counts.points - points < self.warm_up as f64;
        let step_size = match counts.steps {
            1 => 1.0,
            _ if was_warming_up => weight / counts.weight,
            t => self.step_size.at(t).max(self.least_step),
        };
        let kept = 1.0 - step_size;
        counts.inverse_n = kept * kept * counts.inverse_n + step_size * step_size / points;
        counts.omega_squared = kept * kept * counts.omega_squared + step_size * step_size;
        counts.squared_evidence +=
            step_size * (batch_log_likelihood * batch_log_likelihood - counts.squared_evidence);
        let n_effective = 1.0 / counts.inverse_n;

        let centres = self.model.centres();
        self.model.translate(&mut batch, &centres);
        let mut stats = match self.stats.take() {
            None => batch,
            Some(mut stats) => {
                stats.blend(step_size, &batch);
                stats
            }
        };
        *stats.n_points_mut() = n_effective;
        let mut step = Step {
            step_size,
            batch_log_likelihood,
            entropy_sum: EntropySum::default(),
            events: Vec::new(),
        };
        if !warming_up {
            step.events = self.model.m_step_by(&stats, self.regularization, workers);
            self.model.recentre();
            let mut centres = self.model.centres();
            self.model.translate(&mut stats, &centres);
            let (bound, entropy_sum) = self.model.bound_and_entropies_by(&stats, workers);
            step.entropy_sum = entropy_sum;
            if !bound.is_finite() || !step.entropy_sum.total().is_finite() {
                return Err(not_finite());
            }
            let mut splits_left = self.counts.splits_left as usize;
            let repairs = self.model.repair(&stats, &mut splits_left);
            self.counts.splits_left = splits_left as u64;
            if !repairs.is_empty() {
                centres = self.model.centres();
                self.model.translate(&mut stats, &centres);
                self.model.adopt(&repairs, &mut stats);
                // What was averaged so far belongs to other components.
                if let Some(average) = &mut self.average {
                    average.restart();
                }
                self.model.recentre();
                step.events.extend(repairs);
            }
        }
        if let Some(average) = &mut self.average {
            average.add(&self.model, &stats, step_size, self.counts.inverse_n);
        }
        self.stats = Some(stats);
        Ok(step)
    }

    /// Begins to average the running statistics over all steps from the next one on.
    pub fn start_averaging(&mut self) {
        if let (None, Some(stats)) = (&self.average, &self.stats) {
            let mut stats = stats.clone();
            stats.clear();
            self.average = Some(Average { stats, steps: 0.0, covariance: 0.0, variance: 0.0 });
        }
    }

    /// The model that averaging would end with now; `None` where there is no average.
    pub(super) fn averaged_model(&self) -> Option<M> {
        let average = self.average.as_ref().filter(|average| average.steps > 0.0)?;
        let mut model = self.model.clone();
        model.m_step(&average.stats, self.regularization);
        model.recentre();
        Some(model)
    }

    /// The M-step of the averaged statistics, where there are any: the model and its running statistics become theirs.
    ///
    /// Returns whether there was an average.
    pub fn finish_averaging(&mut self) -> bool {
        let Some(average) = self.average.take().filter(|average| average.steps > 0.0) else {
            return false;
        };
        let mut stats = average.stats;
        let variance = self.batch_variance().unwrap_or_default();
        self.counts.inverse_n = average.variance / (average.steps * average.steps);
        // Batches are about equal, so that points and batches are proportional.
        self.counts.omega_squared =
            self.counts.inverse_n * self.counts.points / self.counts.steps as f64;
        // The variance of batches is known from the running statistics; it goes with the mean of the averaged ones.
        let left = (1.0 - self.counts.omega_squared).max(0.0);
        self.counts.squared_evidence = stats.log_evidence().powi(2) + variance * left;
        *stats.n_points_mut() = 1.0 / self.counts.inverse_n;
        self.model.m_step(&stats, self.regularization);
        self.model.recentre();
        let centres = self.model.centres();
        self.model.translate(&mut stats, &centres);
        self.stats = Some(stats);
        true
    }

    /// Joins what another learner, from the same start, has seen: their statistics weighted by their effective numbers
    /// of points, then an M-step. Both must have the same components, in the same order.
    ///
    /// # Errors
    /// If shapes differ.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let Some(theirs) = &other.stats else { return Ok(()) };
        let centres = self.model.centres();
        let mut theirs = theirs.clone();
        if theirs.centres().len() != centres.len() {
            return Err(unlike());
        }
        self.model.translate(&mut theirs, &centres);
        let (ours, more) = (&mut self.counts, &other.counts);
        match &mut self.stats {
            None => {
                self.stats = Some(theirs);
                *ours = Counts { splits_left: ours.splits_left, ..*more };
            }
            Some(stats) => {
                if stats.shape() != theirs.shape() {
                    return Err(unlike());
                }
                let share = theirs.n_points() / (stats.n_points() + theirs.n_points());
                stats.blend(share, &theirs);
                let join = |a: f64, b: f64| (1.0 - share).powi(2) * a + share.powi(2) * b;
                ours.inverse_n = join(ours.inverse_n, more.inverse_n);
                ours.omega_squared = join(ours.omega_squared, more.omega_squared);
                ours.squared_evidence += share * (more.squared_evidence - ours.squared_evidence);
                *stats.n_points_mut() = 1.0 / ours.inverse_n;
                ours.steps = ours.steps.max(more.steps);
                ours.points += more.points;
                ours.weight += more.weight;
            }
        }
        // Averages of the two would be about unlike steps.
        self.average = None;
        if !self.is_warming_up() {
            let stats = self.stats.as_mut().expect("just joined");
            self.model.m_step(stats, self.regularization);
            self.model.recentre();
            let centres = self.model.centres();
            self.model.translate(stats, &centres);
        }
        Ok(())
    }

    /// The model, in the state that a file of its parameters would give back.
    pub fn into_model(mut self) -> M {
        self.model.finish();
        self.model
    }
}

impl Average {
    fn restart(&mut self) {
        self.stats.clear();
        (self.steps, self.covariance, self.variance) = (0.0, 0.0, 0.0);
    }

    fn add<M: GenerativeModel>(&mut self, model: &M, stats: &SuffStats, step: f64, inverse_n: f64) {
        self.steps += 1.0;
        self.covariance *= 1.0 - step;
        self.variance += 2.0 * self.covariance + inverse_n;
        self.covariance += inverse_n;
        model.translate(&mut self.stats, stats.centres());
        self.stats.blend(1.0 / self.steps, stats);
    }
}

/// Makes the masses sum to the total weight. In `f32` responsibilities sum to 1 up to 1e-7, which would open a gap of that
/// size between entropy sum and bound.
pub(super) fn take_up_rounding(stats: &mut SuffStats) {
    let factor = stats.total_weight() / stats.mass().iter().sum::<f64>();
    stats.mass_mut().iter_mut().for_each(|mass| *mass *= factor);
    for c in 0..stats.shape().components {
        stats.sums_mut(c).iter_mut().for_each(|sum| *sum *= factor);
    }
}

/// The fault of a bound that is NaN or infinite.
pub(super) fn not_finite() -> Error {
    Error::Model(
        "the lower bound is no finite number; values are too large or too small".to_owned(),
    )
}

fn unlike() -> Error {
    Error::Config("learners of models of different shapes cannot be merged".to_owned())
}
