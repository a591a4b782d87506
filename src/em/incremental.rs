//! Incremental EM (Neal & Hinton 1998): the old statistics of a chunk of points are replaced by new ones.
//!
//! Every chunk of the data keeps the statistics of its last visit. A visit takes these away from the total, adds the
//! new ones, and is followed by an M-step. Both halves of that increase the same bound `F(q, Θ)` of all points, so the
//! entropy sum, which is that bound exactly, never falls; and there is no step size. The price is memory for chunks ×
//! statistics: [`slot_bytes`] says how much.

use super::stepwise::{Step, not_finite, take_up_rounding};
use crate::error::Result;
use crate::family::Regularization;
use crate::model::{EntropySum, GenerativeModel};
use crate::stats::SuffStats;
use crate::work::{Alone, Workers};

/// Memory, in bytes, that the statistics of one chunk take: its sums, and its centres.
pub fn slot_bytes(stats: &SuffStats) -> usize {
    8 * (stats.as_slice().len() + stats.centres().len())
}

/// A model that learns from the statistics of chunks, visited again and again.
#[derive(Clone, Debug)]
pub struct Incremental<M> {
    pub(super) model: M,
    regularization: Regularization,
    pub(crate) slots: Vec<Option<SuffStats>>,
    pub(crate) total: Option<SuffStats>,
    pub(crate) filled: u64,
    pub(crate) visits: u64,
    pub(crate) points: f64,
    pub(crate) splits_left: u64,
}

impl<M: GenerativeModel> Incremental<M> {
    /// A learner from `n_chunks` chunks that starts from where the model stands.
    pub fn new(mut model: M, n_chunks: usize, regularization: Regularization) -> Self {
        model.recentre();
        Self {
            regularization,
            slots: vec![None; n_chunks],
            total: None,
            filled: 0,
            visits: 0,
            points: 0.0,
            splits_left: model.active_components() as u64,
            model,
        }
    }

    /// The model as it stands.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Whether some chunks have no statistics yet; the parameters stay at the start until all have.
    pub fn is_warming_up(&self) -> bool {
        self.filled < self.slots.len() as u64
    }

    /// Visits so far.
    pub fn visits(&self) -> u64 {
        self.visits
    }

    /// Statistics of all points, each with the posterior of its last visit.
    pub fn statistics(&self) -> Option<&SuffStats> {
        self.total.as_ref()
    }

    /// The entropy sum of the parameters: the bound `F(q, Θ)` of all points, once all chunks were visited.
    pub fn entropy_sum(&self) -> Option<EntropySum> {
        let total = self.total.as_ref().filter(|_| !self.is_warming_up())?;
        Some(self.model.entropy_sum(total))
    }

    /// The bound `F(q, Θ)` from the statistics.
    pub fn lower_bound(&self) -> Option<f64> {
        self.total.as_ref().map(|total| self.model.lower_bound(total))
    }

    /// Mean log-likelihood of the points, each under the parameters of its chunk's last visit.
    pub fn log_likelihood(&self) -> Option<f64> {
        self.total.as_ref().map(|total| total.log_evidence() / total.total_weight())
    }

    /// Takes in new statistics of a chunk, made with [`model`](Self::model), in place of its old ones; then the M-step.
    ///
    /// # Errors
    /// If the bound is no finite number.
    ///
    /// # Panics
    /// If there is no such chunk.
    pub fn absorb(&mut self, chunk: usize, batch: SuffStats) -> Result<Step> {
        self.absorb_by(chunk, batch, &Alone)
    }

    /// The same with an M-step by `workers`.
    ///
    /// # Errors
    /// As [`absorb`](Self::absorb).
    ///
    /// # Panics
    /// As it.
    pub fn absorb_by(
        &mut self,
        chunk: usize,
        mut batch: SuffStats,
        workers: &dyn Workers,
    ) -> Result<Step> {
        take_up_rounding(&mut batch);
        self.visits += 1;
        self.points += batch.n_points();
        let batch_log_likelihood = batch.log_evidence() / batch.total_weight();
        let centres = self.model.centres();
        let about = |stats: &SuffStats| {
            let mut stats = stats.clone();
            self.model.translate(&mut stats, &centres);
            stats
        };
        let new = about(&batch);
        let old = self.slots[chunk].as_ref().map(about);
        let mut total = match self.total.take() {
            None => new,
            Some(mut total) => {
                if let Some(old) = &old {
                    total.subtract(old);
                }
                total.add(&new);
                total
            }
        };
        self.filled += u64::from(old.is_none());
        self.slots[chunk] = Some(batch);
        if !self.is_warming_up() && self.visits.is_multiple_of(self.slots.len() as u64) {
            // Rounding of replaced statistics adds up; a fresh sum each time round forgets it.
            total.clear();
            for slot in self.slots.iter().flatten() {
                let mut slot = slot.clone();
                self.model.translate(&mut slot, &centres);
                total.add(&slot);
            }
        }
        let mut step = Step {
            step_size: 1.0,
            batch_log_likelihood,
            entropy_sum: EntropySum::default(),
            events: Vec::new(),
        };
        if !self.is_warming_up() {
            step.events = self.model.m_step_by(&total, self.regularization, workers);
            self.model.recentre();
            let centres = self.model.centres();
            self.model.translate(&mut total, &centres);
            let (bound, entropy_sum) = self.model.bound_and_entropies_by(&total, workers);
            step.entropy_sum = entropy_sum;
            if !bound.is_finite() || !step.entropy_sum.total().is_finite() {
                return Err(not_finite());
            }
            let mut splits_left = self.splits_left as usize;
            let repairs = self.model.repair(&total, &mut splits_left);
            self.splits_left = splits_left as u64;
            if !repairs.is_empty() {
                // No statistics of points belong to repaired parameters: all chunks are visited before the next M-step.
                self.slots.fill(None);
                self.filled = 0;
                self.model.recentre();
                step.events.extend(repairs);
                self.total = None;
                return Ok(step);
            }
        }
        self.total = Some(total);
        Ok(step)
    }

    /// The model, in the state that a file of its parameters would give back.
    pub fn into_model(mut self) -> M {
        self.model.finish();
        self.model
    }
}
