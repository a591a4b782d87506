//! The statistics of truncated posteriors: masses of states, which can be added, scaled and written to checkpoints.

use crate::em::checkpoint::damaged;
use crate::em::learner::Mergeable;
use crate::error::{Error, Result};
use crate::model::SigmoidBeliefNet;
use crate::model::sbn::{LatentStats, SumsShape, TruncatedStates, TruncatedSums};
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// Sums over points under truncated posteriors, and the moments that an M-step makes of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct TruncatedStatistics {
    sums: TruncatedSums,
    n_points: f64,
    moments: OnceLock<LatentStats>,
}

/// The same in a file.
#[derive(Serialize, Deserialize)]
struct Parts {
    latents: usize,
    targets: usize,
    outputs: usize,
    n_points: f64,
    states: Vec<u64>,
    numbers: Vec<f64>,
}

impl From<TruncatedStatistics> for Parts {
    fn from(statistics: TruncatedStatistics) -> Self {
        let TruncatedStatistics { sums, n_points, .. } = statistics;
        let SumsShape { latents, targets, outputs } = sums.shape();
        let (states, numbers) = sums.parts();
        let (states, numbers) = (states.to_vec(), numbers.collect());
        Self { latents, targets, outputs, n_points, states, numbers }
    }
}

impl TryFrom<Parts> for TruncatedStatistics {
    type Error = Error;

    fn try_from(parts: Parts) -> Result<Self> {
        let Parts { latents, targets, outputs, n_points, states, numbers } = parts;
        // Before memory is asked for: a damaged size may be anything.
        let sizes = latents > 0 && targets <= numbers.len();
        let is_finite = numbers.iter().all(|number| number.is_finite());
        if !sizes || !is_finite || TruncatedStates::are_beyond(&states, latents) {
            return Err(damaged());
        }
        let shape = SumsShape { latents, targets, outputs };
        let sums = TruncatedSums::from_parts(shape, &states, &numbers);
        Ok(Self::new(sums.ok_or_else(damaged)?, n_points))
    }
}

impl TruncatedStatistics {
    pub(super) fn new(sums: TruncatedSums, n_points: f64) -> Self {
        Self { sums, n_points, moments: OnceLock::new() }
    }

    /// Returns the sizes of the sums.
    pub(super) fn shape(&self) -> SumsShape {
        self.sums.shape()
    }

    /// Returns what an M-step needs of the points.
    pub fn moments(&self, model: &SigmoidBeliefNet) -> &LatentStats {
        self.moments.get_or_init(|| model.latent_stats_of(&self.sums))
    }
}

impl Mergeable for TruncatedStatistics {
    fn total_weight(&self) -> f64 {
        self.sums.total_weight
    }

    fn n_points(&self) -> f64 {
        self.n_points
    }

    fn set_n_points(&mut self, n_points: f64) {
        self.n_points = n_points;
    }

    fn log_evidence(&self) -> f64 {
        self.sums.log_evidence
    }

    fn add_scaled(&mut self, factor: f64, other: &Self) {
        self.moments = OnceLock::new();
        self.n_points += factor * other.n_points;
        self.sums.add(factor, &other.sums);
    }

    fn scale(&mut self, factor: f64) {
        let mut scaled = TruncatedSums::new(self.shape());
        scaled.add(factor, &self.sums);
        *self = Self::new(scaled, factor * self.n_points);
    }

    fn blend(&mut self, step: f64, other: &Self) {
        self.scale(1.0 - step);
        self.add_scaled(step, other);
    }

    fn clear(&mut self) {
        (self.n_points, self.moments) = (0.0, OnceLock::new());
        self.sums.clear();
    }

    fn n_bytes(&self) -> usize {
        let (states, numbers) = self.sums.parts();
        8 * (states.len() + numbers.count())
    }
}
