//! Incremental EM (Neal & Hinton 1998): the old statistics of a chunk of points are replaced by new ones.
//!
//! Every chunk of the data keeps the statistics of its last visit. A visit takes these away from the total, adds the
//! new ones, and is followed by an M-step. Both halves of that increase the same bound `F(q, Θ)` of all points, so the
//! entropy sum, which is that bound exactly, never falls; and there is no step size. The price is memory for chunks ×
//! statistics: [`Mergeable::n_bytes`] says how much.

use super::learner::{Maximizer, Mergeable, Step, m_step};
use super::model_learner::ModelMaximizer;
use crate::error::Result;
use crate::family::Regularization;
use crate::model::{EntropySum, GenerativeModel};
use crate::stats::SuffStats;
use crate::work::{Alone, Workers};
use serde::{Deserialize, Serialize};

/// The statistics of each chunk of points at its last visit, and their total.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Slots<S> {
    slots: Vec<Option<S>>,
    pub total: Option<S>,
    /// Slots that are filled.
    filled: u64,
    pub visits: u64,
}

impl<S: Mergeable> Slots<S> {
    pub fn new(n_chunks: usize) -> Self {
        Self { slots: vec![None; n_chunks], total: None, filled: 0, visits: 0 }
    }

    /// Lists all statistics.
    pub fn kept(&self) -> impl Iterator<Item = &S> {
        self.slots.iter().chain([&self.total]).flatten()
    }

    /// Returns the number of chunks.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether some chunks were not visited yet, since the beginning or the last repair.
    pub fn is_warming_up(&self) -> bool {
        self.filled < self.slots.len() as u64
    }

    /// Replaces the statistics of a chunk, and does the M-step.
    pub fn absorb<M: Maximizer<Statistics = S>>(
        &mut self,
        maximizer: &mut M,
        chunk: usize,
        mut batch: S,
        workers: &dyn Workers,
    ) -> Result<Step> {
        batch.normalize_masses();
        self.visits += 1;
        let batch_log_likelihood = batch.log_evidence() / batch.total_weight();
        let about = |statistics: &S| {
            let mut statistics = statistics.clone();
            maximizer.translate(&mut statistics);
            statistics
        };
        let new = about(&batch);
        let old = self.slots[chunk].as_ref().map(about);
        let mut total = match self.total.take() {
            None => new,
            Some(mut total) => {
                // It is about the current centres already, unless it comes from a damaged checkpoint.
                maximizer.translate(&mut total);
                if let Some(old) = &old {
                    total.add_scaled(-1.0, old);
                }
                total.add_scaled(1.0, &new);
                total
            }
        };
        self.filled += u64::from(old.is_none());
        self.slots[chunk] = Some(batch);
        if !self.is_warming_up() && self.visits.is_multiple_of(self.slots.len() as u64) {
            // Rounding of replaced statistics adds up; a fresh sum each time round forgets it.
            total.clear();
            self.slots.iter().flatten().for_each(|slot| total.add_scaled(1.0, &about(slot)));
        }
        let mut step = match self.is_warming_up() {
            true => Step { step_size: 1.0, ..Step::default() },
            false => m_step(maximizer, &mut total, true, workers)?,
        };
        step.batch_log_likelihood = batch_log_likelihood;
        step.log_likelihood = total.log_evidence() / total.total_weight();
        self.total = Some(total);
        if step.is_repaired() {
            // No statistics of points belong to repaired parameters: all chunks are visited before the next M-step.
            self.slots.fill(None);
            (self.filled, self.total) = (0, None);
        }
        Ok(step)
    }
}

/// A model with the statistics of each chunk of points, by incremental EM.
#[derive(Clone, Debug)]
pub struct Incremental<M> {
    maximizer: ModelMaximizer<M>,
    slots: Slots<SuffStats>,
}

impl<M: GenerativeModel> Incremental<M> {
    /// Makes a learner of points in `n_chunks` chunks, from where the model stands.
    pub fn new(model: M, n_chunks: usize, regularization: Regularization) -> Self {
        let mut maximizer = ModelMaximizer::new(model, regularization);
        maximizer.recentre();
        Self { maximizer, slots: Slots::new(n_chunks) }
    }

    /// Returns the model as it stands.
    pub fn model(&self) -> &M {
        self.maximizer.model()
    }

    /// Whether some chunks were not visited yet: parameters are those of the start, or of the last repair.
    pub fn is_warming_up(&self) -> bool {
        self.slots.is_warming_up()
    }

    /// Returns the number of visits so far.
    pub fn visits(&self) -> u64 {
        self.slots.visits
    }

    /// Returns the statistics of all chunks visited.
    pub fn statistics(&self) -> Option<&SuffStats> {
        self.slots.total.as_ref()
    }

    /// Returns the entropy sum of the parameters with the posteriors of all chunks, once all were visited.
    pub fn entropy_sum(&self) -> Option<EntropySum> {
        let total = self.statistics().filter(|_| !self.is_warming_up())?;
        Some(self.model().entropy_sum(total))
    }

    /// Returns the bound `F(q, Θ)` of the chunks visited.
    pub fn lower_bound(&self) -> Option<f64> {
        self.statistics().map(|total| self.model().lower_bound(total))
    }

    /// Returns the mean log-likelihood of the chunks, each under the parameters of its last visit.
    pub fn log_likelihood(&self) -> Option<f64> {
        self.statistics().map(|total| total.log_evidence() / total.total_weight())
    }

    /// Replaces the statistics of a chunk, made with [`model`](Self::model), and does the M-step.
    ///
    /// # Errors
    /// If the bound is no finite number.
    ///
    /// # Panics
    /// If there is no such chunk.
    pub fn absorb(&mut self, chunk: usize, batch: SuffStats) -> Result<Step> {
        self.slots.absorb(&mut self.maximizer, chunk, batch, &Alone)
    }

    /// Returns the model, in the state that a file of its parameters would give back.
    pub fn into_model(self) -> M {
        self.maximizer.into_model()
    }
}
