//! The M-step of Gaussians, in pieces of some components each.

use super::Gaussian;
use crate::family::covariance::Shape;
use crate::family::prior::Scale;
use crate::family::{Outcome, Parameters, Regularization, floor};
use crate::stats::SuffStats;
use crate::work::{self, Alone, Workers, map, map_rows, pieces};

impl Gaussian {
    /// Packs second moments about means: one row a component, or a single row of their sum if covariances are tied.
    pub(super) fn scatters<'a>(
        &self,
        stats: &SuffStats,
        mean: &(dyn Fn(usize) -> &'a [f64] + Sync),
        workers: &dyn Workers,
    ) -> Vec<f64> {
        let translate = |c: usize, target: &mut [f64]| {
            let (mean, centre) = (mean(c), stats.centre(c));
            let shift: Vec<f64> = mean.iter().zip(centre).map(|(m, c)| m - c).collect();
            // A component without points adds nothing, however far off it stands: not even 0 · ∞.
            if stats.mass()[c] > 0.0 {
                let first = &stats.sums(c)[..self.dim];
                self.shape().translate(target, stats.mass()[c], first, &shift);
            }
        };
        let n_components = stats.shape().components;
        if !self.is_tied() {
            let shape = (n_components, self.shape().n_packed(self.dim));
            return map_rows(workers, shape, self.per_piece(), |c, second| {
                second.copy_from_slice(&stats.sums(c)[self.dim..]);
                translate(c, second);
            });
        }
        let ranges: Vec<_> = pieces(n_components, self.per_piece()).collect();
        let mut shared = stats.shared().to_vec();
        if let [all] = &ranges[..] {
            all.clone().for_each(|c| translate(c, &mut shared));
            return shared;
        }
        let parts = map_rows(workers, (ranges.len(), shared.len()), 1, |piece, part| {
            ranges[piece].clone().for_each(|c| translate(c, part));
        });
        add_rows(&mut shared, &parts);
        shared
    }

    /// Sums second moments over the components.
    pub(super) fn pooled(&self, scatters: &[f64], workers: &dyn Workers) -> Vec<f64> {
        let width = self.shape().n_packed(self.dim);
        let ranges: Vec<_> = pieces(scatters.len(), self.per_piece() * width).collect();
        let parts = map_rows(workers, (ranges.len(), width), 1, |piece, part| {
            add_rows(part, &scatters[ranges[piece].clone()]);
        });
        let mut pooled = vec![0.0; width];
        add_rows(&mut pooled, &parts);
        pooled
    }

    /// Returns how many components a thread works on at a time.
    fn per_piece(&self) -> usize {
        work::components_per_piece(self.dim + self.shape().n_packed(self.dim))
    }

    /// Returns the prior of each covariance, from the second moments of all points.
    pub(super) fn prior(&self, stats: &SuffStats) -> Scale {
        let total: f64 = stats.mass().iter().sum();
        let mut mean = vec![0.0; self.dim];
        for c in (0..stats.mass().len()).filter(|&c| stats.mass()[c] > 0.0) {
            for (d, mean) in mean.iter_mut().enumerate() {
                *mean += (stats.mass()[c] * stats.centre(c)[d] + stats.sums(c)[d]) / total;
            }
        }
        let moments = self.pooled(&self.scatters(stats, &|_| mean.as_slice(), &Alone), &Alone);
        let covariance = self.shape().covariance(&moments, total, self.dim);
        Scale::new(self.shape(), &covariance, stats.mass().len(), self.dim)
    }

    /// Finds the lower limits of variances.
    pub(super) fn find_floors(
        &self,
        stats: &SuffStats,
        regularization: &Regularization,
        workers: &dyn Workers,
    ) -> Vec<f64> {
        let total: f64 = stats.mass().iter().sum();
        let shape = (stats.mass().len(), self.dim);
        let means = map_rows(workers, shape, self.per_piece(), |c, mean| {
            if !write_mean(stats, c, mean) {
                mean.copy_from_slice(stats.centre(c));
            }
        });
        let mean = |c: usize| &means[c * self.dim..][..self.dim];
        let pooled = self.pooled(&self.scatters(stats, &mean, workers), workers);
        let pooled = self.shape().covariance(&pooled, total, self.dim);
        let relative = match regularization.reg_covar {
            // Narrow components are summed about their own means, and a shared scatter in `f64`: `f32` holds what `f64` does.
            None => floor::RELATIVE,
            Some(_) => self.relative_floor(regularization),
        };
        let variances = self.shape().variances(&pooled, self.dim);
        floor::Spread::new(stats.mass(), &mean, &variances, workers).floors(relative)
    }

    /// Lifts a full covariance to its floor. Returns whether this changed it.
    fn lift(&self, covariance: &mut Vec<f64>, floors: &[f64]) -> bool {
        // The factor is needed in any case; the rest is for covariances near their floor.
        let is_above = self.precision(covariance).is_some_and(|it| it.is_above(floors));
        !is_above && self.shape().lift(covariance, self.dim, floors)
    }

    /// Performs the M-step.
    pub(super) fn maximize_likelihood(
        &self,
        stats: &SuffStats,
        update: &[bool],
        regularization: &Regularization,
        parameters: &mut Parameters,
        workers: &dyn Workers,
    ) -> Vec<Outcome> {
        self.factors.age();
        let n_components = parameters.components.len();
        // The old mean stays if there is no new one.
        let shape = (n_components, self.dim);
        let means = map_rows(workers, shape, self.per_piece(), |c, mean| {
            if !update[c] || !write_mean(stats, c, mean) {
                mean.copy_from_slice(self.mean_of(parameters.theta(c)));
            }
        });
        let mean = |c: usize| &means[c * self.dim..][..self.dim];
        let are_new = map(workers, n_components, self.per_piece(), |c| {
            update[c] && write_mean(stats, c, &mut vec![0.0; self.dim])
        });
        let scatters = self.scatters(stats, &mean, workers);
        let total: f64 = stats.mass().iter().sum();
        let pooled = self.pooled(&scatters, workers);
        let variances =
            self.shape().variances(&self.shape().covariance(&pooled, total, self.dim), self.dim);
        let floors = regularization.floors_or(|| self.find_floors(stats, regularization, workers));
        let prior = regularization
            .prior
            .as_ref()
            .map(|prior| self.prior(stats).times(total / prior.total_weight.unwrap_or(total)));
        // The mode of the posterior, which without a prior is the maximum of the likelihood.
        let covariance = |mut scatter: Vec<f64>, mass: f64| match &prior {
            None => self.shape().covariance(&scatter, mass, self.dim),
            Some(prior) => {
                scatter.iter_mut().zip(&prior.packed).for_each(|(sum, value)| *sum += value);
                self.shape().covariance(&scatter, mass + prior.count, self.dim)
            }
        };
        let of_columns = floor::above_rounding(&floors, &regularization.resolution);
        let spread = floor::Spread::new(stats.mass(), &mean, &variances, workers);
        let constant = spread.constant_columns();
        let regularized = |mut covariance: Vec<f64>| {
            let ridge = regularization.reg_covar.unwrap_or(0.0);
            self.shape().add_ridge(&mut covariance, self.dim, ridge);
            let before = self.shape().variances(&covariance, self.dim);
            let raised = self.shape().raise(&mut covariance, self.dim, &constant, &of_columns);
            // Columns that determine each other are narrow in a direction, whatever the rounding of each.
            let lifted = match self.shape() {
                Shape::Full => {
                    let all = vec![true; self.dim];
                    let narrow = self.shape().raise(&mut covariance, self.dim, &all, &of_columns);
                    self.lift(&mut covariance, &floors) || narrow
                }
                shape => shape.lift(&mut covariance, self.dim, &of_columns),
            };
            // Statistics on the verge of overflow leave nothing to lift.
            let outcome = match self.log_det_2pi(&covariance) {
                Some(log_det) if !log_det.is_finite() => Outcome::Degenerate,
                None => Outcome::Degenerate,
                Some(_) if lifted => {
                    Outcome::Floored(self.shape().most_raised(&before, &covariance, &of_columns))
                }
                Some(_) if raised => Outcome::Constant,
                Some(_) => Outcome::Maximized,
            };
            (covariance, outcome)
        };

        let width = self.shape().n_packed(self.dim);
        let scatter = |c: usize| &scatters[c * width..][..width];
        let mut of_all = Outcome::Maximized;
        if self.is_tied() && update.contains(&true) {
            let (covariance, outcome) = regularized(covariance(pooled, total));
            of_all = outcome;
            if outcome != Outcome::Degenerate {
                parameters.shared = covariance;
            }
        }
        let mut results: Vec<_> =
            parameters.components.iter_mut().map(|theta| (theta, of_all)).collect();
        let operations = work::operations_of_factors(self.shape().n_packed(self.dim), self.dim);
        let per_piece = work::components_per_piece(operations);
        work::for_pieces(workers, &mut results, per_piece, |first, results| {
            for (c, (theta, outcome)) in (first..).zip(results) {
                if update[c] && !are_new[c] {
                    *outcome = Outcome::Degenerate;
                }
                if !update[c] || *outcome == Outcome::Degenerate {
                    continue;
                }
                if !self.is_tied() {
                    let covariance = covariance(scatter(c).to_vec(), stats.mass()[c]);
                    let (covariance, found) = regularized(covariance);
                    *outcome = found;
                    if found == Outcome::Degenerate {
                        continue;
                    }
                    theta[self.dim..].copy_from_slice(&covariance);
                }
                theta[..self.dim].copy_from_slice(mean(c));
            }
        });
        results.into_iter().map(|(_, outcome)| outcome).collect()
    }
}

/// Writes the mean of the points of a component. Tells whether it is finite.
fn write_mean(stats: &SuffStats, c: usize, mean: &mut [f64]) -> bool {
    let mass = stats.mass()[c];
    for (mean, (s, centre)) in mean.iter_mut().zip(stats.sums(c).iter().zip(stats.centre(c))) {
        *mean = centre + s / mass;
    }
    mean.iter().all(|m| m.is_finite())
}

/// Adds rows to a sum.
fn add_rows(sum: &mut [f64], rows: &[f64]) {
    for row in rows.chunks_exact(sum.len()) {
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Covariance;

    /// Eigenvalues of 0.1 and 1.9, and a column apart: the precision decides only if all are well above their floors.
    #[test]
    fn covariances_are_lifted_where_an_eigenvalue_is_below_the_floor() {
        let family = Gaussian::new(Covariance::Full, 3);
        let covariance = vec![1.0, 0.9, 0.0, 0.9, 1.0, 0.0, 0.0, 0.0, 4.0];
        for (floors, is_above, is_lifted) in [
            ([0.01, 0.01, 0.01], true, false),
            ([0.05, 0.05, 1.6], true, false),
            ([0.09, 0.09, 1.6], false, false),
            ([0.01, 0.01, 4.1], false, true),
            ([0.2, 0.2, 0.01], false, true),
        ] {
            let precision = family.precision(&covariance).unwrap();
            assert_eq!(precision.is_above(&floors), is_above, "{floors:?}");
            let mut lifted = covariance.clone();
            assert_eq!(family.lift(&mut lifted, &floors), is_lifted, "{floors:?}");
            assert_eq!(lifted != covariance, is_lifted, "{floors:?}");
        }
    }
}
