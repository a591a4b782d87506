//! M-step, bound and entropies of a mixture, in pieces of some components each.

use super::super::repair;
use super::super::{EntropySum, entropy_of_weights};
use super::Mixture;
use crate::family::{Parameters, Regularization, floor};
use crate::monitor::Event;
use crate::stats::SuffStats;
use crate::work::{self, Workers};

impl Mixture {
    /// Returns how many components a thread works on at a time.
    pub(super) fn per_piece(&self) -> usize {
        work::components_per_piece(self.shape().statistics)
    }

    pub(super) fn maximize(
        &mut self,
        stats: &SuffStats,
        regularization: &Regularization,
        workers: &dyn Workers,
    ) -> Vec<Event> {
        let total: f64 = stats.mass().iter().sum();
        if !self.fixed_weights {
            for (weight, mass) in self.weights.iter_mut().zip(stats.mass()) {
                *weight = mass / total;
            }
        }
        let update: Vec<bool> = repair::have_enough_points(stats)
            .iter()
            .zip(&self.frozen)
            .map(|(d, frozen)| *d && !frozen)
            .collect();
        floor::hold(&mut self.floors, self.family.floors_by(stats, regularization, workers));
        let floors = self.floors.clone();
        let regularization = Regularization { floors, ..regularization.clone() };
        let parameters = &mut self.parameters;
        let outcomes =
            self.family.maximize_by(stats, &update, &regularization, parameters, workers);
        repair::events_of(&outcomes)
    }

    pub(super) fn evaluate(&self, stats: &SuffStats, workers: &dyn Workers) -> (f64, EntropySum) {
        let (likelihood, entropy) = self.observable_parts(stats, workers);
        let prior = stats.mass().iter().zip(&self.weights);
        let prior: f64 = prior.map(|(m, w)| if *m > 0.0 { m * w.ln() } else { 0.0 }).sum();
        let sum = stats.posterior_entropy() + prior + likelihood + stats.log_base_measure();
        let total = stats.total_weight();
        let entropies = EntropySum {
            posterior: stats.posterior_entropy() / total,
            prior: entropy_of_weights(&self.weights),
            hidden: 0.0,
            observable: entropy / total,
            base_measure: stats.log_base_measure() / total,
        };
        (sum / total, entropies)
    }

    /// Sums `w_n q_n(c)` times `ln p̃(x_n | c)`, and times pseudo entropies.
    fn observable_parts(&self, stats: &SuffStats, workers: &dyn Workers) -> (f64, f64) {
        let of = |parameters: &Parameters, stats: &SuffStats| {
            let likelihood = self.family.log_likelihood(parameters, stats);
            (likelihood, self.family.observable_entropy(parameters, stats))
        };
        let ranges: Vec<_> = work::pieces(self.n_components(), self.per_piece()).collect();
        if ranges.len() == 1 {
            return of(&self.parameters, stats);
        }
        // Both are linear in the statistics. Those that all components share count once.
        let parts = work::map(workers, ranges.len(), 1, |piece| {
            let range = &ranges[piece];
            of(&self.parameters.part(range.clone()), &stats.part(range.clone(), piece == 0))
        });
        parts.iter().fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
    }
}
