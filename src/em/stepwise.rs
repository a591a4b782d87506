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

use super::checkpoint::{damaged, decode, encode};
use super::learner::{Maximizer, Mergeable, Step, m_step};
use super::model_learner::ModelMaximizer;
pub use super::step_size::StepSize;
use crate::error::{Error, Result};
use crate::family::Regularization;
use crate::model::{EntropySum, GenerativeModel};
use crate::stats::SuffStats;
use crate::work::{Alone, Workers};
use serde::{Deserialize, Serialize};

/// Statistics that run: each minibatch is blended into them.
///
/// They are means per unit of weight; their number of points is the effective one, `N_eff = 1 / Σ_k ω_k² / n_k`. They are kept about
/// the components' current means and translated at every step, which is exact algebra: components that are narrow and far
/// from the others lose no digits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Running<S> {
    pub step_size: StepSize,
    /// Points before the first M-step.
    pub warm_up: u64,
    /// Steps stay at this or above.
    pub least_step: f64,
    /// Steps stay at this or below, whatever the least.
    pub largest_step: f64,
    pub statistics: Option<S>,
    pub counts: Counts,
    pub average: Option<Average<S>>,
    /// Statistics whose M-step gives the parameters of the beginning of a window.
    pub reference: Option<S>,
}

/// Counts what has been blended into running statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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
}

/// The mean of the running statistics since averaging began (Polyak averaging).
///
/// For exponential families the statistics are averaged and not the parameters: means of statistics are statistics, of
/// all points with averaged weights, so that the M-step from them is exact and the entropy sum stays a bound. Means of
/// covariances or rates have neither property.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Average<S> {
    pub statistics: S,
    pub steps: f64,
    /// Covariance of the sum so far with the running statistics, and variance of the sum, in units of one point's.
    pub covariance: f64,
    pub variance: f64,
}

impl<S: Mergeable> Running<S> {
    pub fn new(step_size: StepSize) -> Self {
        Self {
            step_size,
            warm_up: 0,
            least_step: 0.0,
            largest_step: 1.0,
            statistics: None,
            counts: Counts::default(),
            average: None,
            reference: None,
        }
    }

    /// Whether the parameters are still those of the start.
    pub fn is_warming_up(&self) -> bool {
        self.counts.points < self.warm_up.max(1) as f64
    }

    /// Returns the running mean of the batches' log-likelihoods, each under the parameters of its time.
    pub fn log_likelihood(&self) -> Option<f64> {
        self.statistics.as_ref().map(|it| it.log_evidence() / it.total_weight())
    }

    /// Returns the variance of the batches' log-likelihoods about their running mean.
    pub fn batch_variance(&self) -> Option<f64> {
        let (counts, mean) = (&self.counts, self.log_likelihood()?);
        let left = 1.0 - counts.omega_squared;
        let variance = (counts.squared_evidence - mean * mean) / left;
        (left > 1e-9).then_some(variance.max(0.0))
    }

    /// See [`Stepwise::standard_error`].
    pub fn standard_error(&self) -> Option<f64> {
        Some((self.batch_variance()? * self.counts.omega_squared).sqrt())
    }

    /// Blends the statistics of a minibatch in, and does the M-step.
    pub fn absorb<M: Maximizer<Statistics = S>>(
        &mut self,
        maximizer: &mut M,
        mut batch: S,
        workers: &dyn Workers,
    ) -> Result<Step> {
        let (weight, points) = (batch.total_weight(), batch.n_points());
        batch.scale(1.0 / weight);
        batch.normalize_masses();
        let batch_log_likelihood = batch.log_evidence();
        let counts = &mut self.counts;
        counts.steps += 1;
        counts.points += points;
        counts.weight += weight;
        let is_warming_up = counts.points < self.warm_up.max(1) as f64;
        // As long as the parameters stay, all batches are equal.
        let was_warming_up = counts.points - points < self.warm_up as f64;
        let step_size = match counts.steps {
            1 => 1.0,
            _ if was_warming_up => weight / counts.weight,
            t => self.step_size.at(t).max(self.least_step).min(self.largest_step),
        };
        let rest = 1.0 - step_size;
        counts.inverse_n = rest * rest * counts.inverse_n + step_size * step_size / points;
        counts.omega_squared = rest * rest * counts.omega_squared + step_size * step_size;
        counts.squared_evidence +=
            step_size * (batch_log_likelihood * batch_log_likelihood - counts.squared_evidence);

        maximizer.translate(&mut batch);
        let mut statistics = match self.statistics.take() {
            None => batch,
            Some(mut statistics) => {
                // They are about the current centres already, unless they come from a damaged checkpoint.
                maximizer.translate(&mut statistics);
                statistics.blend(step_size, &batch);
                statistics
            }
        };
        statistics.set_n_points(1.0 / counts.inverse_n);
        let mut step = match is_warming_up {
            true => Step::default(),
            false => m_step(maximizer, &mut statistics, true, workers)?,
        };
        if let Some(average) = &mut self.average {
            if step.is_repaired() {
                // The average so far belongs to other components.
                average.restart();
            }
            average.add(maximizer, &statistics, step_size, self.counts.inverse_n);
        }
        self.statistics = Some(statistics);
        (step.step_size, step.batch_log_likelihood) = (step_size, batch_log_likelihood);
        step.log_likelihood = self.log_likelihood().unwrap_or_default();
        Ok(step)
    }

    /// Returns how far the parameters moved since the last call of this, as [`Maximizer::displacement`]; infinity at the first.
    pub fn displacement<M: Maximizer<Statistics = S>>(
        &mut self,
        maximizer: &M,
        workers: &dyn Workers,
    ) -> f64 {
        let Some(statistics) = &self.statistics else { return f64::INFINITY };
        let before = self.reference.replace(statistics.clone());
        before.map_or(f64::INFINITY, |it| maximizer.displacement(&it, statistics, workers))
    }

    /// Begins to average the running statistics over all steps from the next one on.
    pub fn start_averaging(&mut self) {
        if let (None, Some(statistics)) = (&self.average, &self.statistics) {
            let mut statistics = statistics.clone();
            statistics.clear();
            let average = Average { statistics, steps: 0.0, covariance: 0.0, variance: 0.0 };
            self.average = Some(average);
        }
    }

    /// Returns the model that averaging would end with now; `None` if there is no average.
    pub fn averaged_model<M: Maximizer<Statistics = S>>(
        &self,
        maximizer: &mut M,
        workers: &dyn Workers,
    ) -> Option<Result<M::Model>> {
        let average = self.average.as_ref().filter(|average| average.steps > 0.0)?;
        let now = maximizer.model().clone();
        let found = maximizer.maximize(&average.statistics, workers);
        maximizer.recentre();
        let averaged = std::mem::replace(maximizer.model_mut(), now);
        Some(found.map(|_| averaged))
    }

    /// Does the M-step of the averaged statistics, if there are any: the model and its running statistics become theirs.
    ///
    /// Returns whether there was an average.
    pub fn finish_averaging<M: Maximizer<Statistics = S>>(
        &mut self,
        maximizer: &mut M,
        workers: &dyn Workers,
    ) -> Result<bool> {
        let Some(average) = self.average.take().filter(|average| average.steps > 0.0) else {
            return Ok(false);
        };
        let mut statistics = average.statistics;
        let variance = self.batch_variance().unwrap_or_default();
        let counts = &mut self.counts;
        counts.inverse_n = average.variance / (average.steps * average.steps);
        // Batches are about equal, so that points and batches are proportional.
        counts.omega_squared = counts.inverse_n * counts.points / counts.steps as f64;
        // The variance of batches is known from the running statistics; it goes with the mean of the averaged ones.
        let left = (1.0 - counts.omega_squared).max(0.0);
        counts.squared_evidence = statistics.log_evidence().powi(2) + variance * left;
        statistics.set_n_points(1.0 / counts.inverse_n);
        self.remaximize(maximizer, &mut statistics, workers)?;
        self.statistics = Some(statistics);
        Ok(true)
    }

    /// M-step from other statistics than a batch led to, which become the running ones.
    fn remaximize<M: Maximizer<Statistics = S>>(
        &self,
        maximizer: &mut M,
        statistics: &mut S,
        workers: &dyn Workers,
    ) -> Result<()> {
        maximizer.maximize(statistics, workers)?;
        maximizer.recentre();
        maximizer.translate(statistics);
        Ok(())
    }
}

impl<S: Mergeable> Average<S> {
    fn restart(&mut self) {
        self.statistics.clear();
        (self.steps, self.covariance, self.variance) = (0.0, 0.0, 0.0);
    }

    fn add<M: Maximizer<Statistics = S>>(
        &mut self,
        maximizer: &M,
        statistics: &S,
        step: f64,
        inverse_n: f64,
    ) {
        self.steps += 1.0;
        self.covariance *= 1.0 - step;
        self.variance += 2.0 * self.covariance + inverse_n;
        self.covariance += inverse_n;
        maximizer.translate(&mut self.statistics);
        self.statistics.blend(1.0 / self.steps, statistics);
    }
}

/// A model that learns from the statistics of one minibatch after another, by stepwise EM.
///
/// It never sees a point: [`Online`](super::online::Online) does, and fits by minibatches do.
#[derive(Clone, Debug)]
pub struct Stepwise<M> {
    maximizer: ModelMaximizer<M>,
    running: Running<SuffStats>,
}

impl<M: GenerativeModel> Stepwise<M> {
    /// Makes a learner that starts from where the model stands.
    ///
    /// # Errors
    /// If a step setting is out of range.
    pub fn new(model: M, step_size: StepSize, regularization: Regularization) -> Result<Self> {
        step_size.check()?;
        let mut maximizer = ModelMaximizer::new(model, regularization);
        maximizer.recentre();
        Ok(Self { maximizer, running: Running::new(step_size) })
    }

    /// Leaves the parameters at the start until this many points are in the statistics, which are plain means so
    /// long. A first M-step from few points would forget the start and put little in its place.
    pub fn with_warm_up(mut self, points: u64) -> Self {
        self.running.warm_up = points;
        self
    }

    /// Holds steps at this or above, whatever their exponent says; 0 for steps that fall as their exponent says.
    ///
    /// Parameters then keep a noise of up to `p γ / 4 B` nats per point, with p free parameters and batches of B points,
    /// until steps become smaller or statistics are averaged.
    pub fn with_least_step(mut self, least_step: f64) -> Self {
        self.running.least_step = least_step;
        self
    }

    /// Returns the model as it stands.
    pub fn model(&self) -> &M {
        self.maximizer.model()
    }

    /// Returns the running statistics, once there was a batch.
    pub fn statistics(&self) -> Option<&SuffStats> {
        self.running.statistics.as_ref()
    }

    /// Returns the number of batches absorbed so far.
    pub fn steps(&self) -> u64 {
        self.running.counts.steps
    }

    /// Returns the number of points of positive weight seen so far.
    pub fn points_seen(&self) -> u64 {
        self.running.counts.points as u64
    }

    /// Whether the parameters are still those of the start.
    pub fn is_warming_up(&self) -> bool {
        self.running.is_warming_up()
    }

    /// Returns the entropy sum of the parameters with the posteriors in the running statistics, once these follow from those.
    pub fn entropy_sum(&self) -> Option<EntropySum> {
        let stats = self.statistics().filter(|_| !self.is_warming_up())?;
        Some(self.model().entropy_sum(stats))
    }

    /// Returns the surrogate objective `F(q, Θ)` from the running statistics: the entropy sum, after exact M-steps.
    pub fn lower_bound(&self) -> Option<f64> {
        self.statistics().map(|stats| self.model().lower_bound(stats))
    }

    /// Returns the running mean of the batches' log-likelihoods, each under the parameters of its time.
    pub fn log_likelihood(&self) -> Option<f64> {
        self.running.log_likelihood()
    }

    /// Returns the effective number of points in the running statistics, `1 / Σ_k ω_k² / n_k`.
    pub fn effective_points(&self) -> f64 {
        self.statistics().map_or(0.0, SuffStats::n_points)
    }

    /// Returns the standard error of the entropy sum, as an estimate for new points, from how the log-likelihood varies from batch
    /// to batch (theory 1.6): `sqrt(Var ℓ_k · Σ_k ω_k²)`. `None` while fewer than two batches count.
    ///
    /// It includes what the fit gained meanwhile, and so is large at first. In later passes over the same points it is
    /// still the error of a sample, not that of the mean over these points.
    pub fn standard_error(&self) -> Option<f64> {
        self.running.standard_error()
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
    pub fn absorb_by(&mut self, batch: SuffStats, workers: &dyn Workers) -> Result<Step> {
        self.running.absorb(&mut self.maximizer, batch, workers)
    }

    /// Begins to average the running statistics over all steps from the next one on.
    pub fn start_averaging(&mut self) {
        self.running.start_averaging();
    }

    /// Does the M-step of the averaged statistics, if there are any: the model and its running statistics become theirs.
    ///
    /// Returns whether there was an average.
    pub fn finish_averaging(&mut self) -> bool {
        let finished = self.running.finish_averaging(&mut self.maximizer, &Alone);
        finished.expect("M-steps of models do not fail")
    }

    /// Joins what another learner, from the same start, has seen: their statistics weighted by their effective numbers
    /// of points, then an M-step. Both must have the same components, in the same order.
    ///
    /// # Errors
    /// If shapes differ.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let unlike =
            || Err(Error::Config("learners of models of different shapes cannot be merged".into()));
        let Some(theirs) = other.statistics() else { return Ok(()) };
        let mut theirs = theirs.clone();
        if theirs.centres().len() != self.model().centres().len() {
            return unlike();
        }
        self.maximizer.translate(&mut theirs);
        let (ours, more) = (&mut self.running.counts, &other.running.counts);
        let mut statistics = match self.running.statistics.take() {
            None => {
                *ours = *more;
                theirs
            }
            Some(stats) if stats.shape() != theirs.shape() => {
                self.running.statistics = Some(stats);
                return unlike();
            }
            Some(mut stats) => {
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
                stats
            }
        };
        // Averages of the two would be about unlike steps.
        self.running.average = None;
        if !self.is_warming_up() {
            self.running.remaximize(&mut self.maximizer, &mut statistics, &Alone)?;
        }
        self.running.statistics = Some(statistics);
        Ok(())
    }

    /// Returns the model, in the state that a file of its parameters would give back.
    pub fn into_model(self) -> M {
        self.maximizer.into_model()
    }

    /// Returns what a model file does not hold of this learner, for [`from_saved`](Self::from_saved).
    pub fn save(&self) -> Vec<u8> {
        encode(&(self.maximizer.regularization(), self.maximizer.save(), &self.running))
    }

    /// Makes the learner that [`save`](Self::save) described, with the model that it had.
    ///
    /// # Errors
    /// If the bytes are not those of such a learner, or the model has another shape.
    pub fn from_saved(model: M, bytes: &[u8]) -> Result<Self> {
        let (regularization, maximizer, running): (Regularization, Vec<u8>, Running<SuffStats>) =
            decode(bytes)?;
        let mut learner = Self::new(model, running.step_size, regularization)?;
        learner.maximizer.restore(&maximizer)?;
        learner.running = running;
        let centres = learner.model().centres().len();
        let fits = learner.statistics().is_none_or(|stats| stats.centres().len() == centres);
        if fits { Ok(learner) } else { Err(damaged()) }
    }
}
