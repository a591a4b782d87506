//! Gaussians of independent dimensions whose values may be missing.
//!
//! Statistics are `x_d`, `x_d²` and 1 if `x_d` is observed, else all 0. Natural parameters are `μ_d / v_d`, `-1 / 2v_d` and
//! `-A_d`. So a point has the density of its observed values, and sums of the last statistic are the masses that M-steps
//! divide by. This is exact EM over the observed values, if values are missing at random.
//!
//! There is no centred kernel here. Logits are exact to `ε (|μ - centre| + σ)² / v` of the working precision.

use super::covariance::Shape;
use super::floor;
use super::prior::Scale;
use super::{
    ConjugatePrior, Domain, ExponentialFamily, Feature, Gaussian, Outcome, Packing, ParameterSpec,
    Parameters, Regularization, Sampler, Statistic, Support, Theta,
};
use crate::stats::SuffStats;
use std::f64::consts::TAU;
use std::sync::Arc;

/// The diagonal or spherical family of the same name, on points with missing values.
#[derive(Clone, Debug)]
pub(super) struct ObservedGaussian {
    complete: Gaussian,
}

/// Mass, and first and second moment of a column in a component, about the component's centre.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    mass: f64,
    first: f64,
    second: f64,
}

impl Moments {
    /// Moves the centre by `shift`.
    fn about(self, shift: f64) -> Self {
        let second = self.second - shift * (2.0 * self.first - self.mass * shift);
        Self { first: self.first - self.mass * shift, second, ..self }
    }
}

impl ObservedGaussian {
    pub(super) fn new(complete: Gaussian) -> Self {
        Self { complete }
    }

    fn moments(&self, stats: &SuffStats, c: usize, d: usize) -> Moments {
        let (sums, dim) = (stats.sums(c), self.dim());
        Moments { mass: sums[2 * dim + d], first: sums[d], second: sums[dim + d] }
    }

    fn mean_of<'a>(&self, theta: Theta<'a>) -> &'a [f64] {
        self.complete.mean_of(theta)
    }

    fn variances_of(&self, theta: Theta<'_>) -> Vec<f64> {
        self.complete.shape().variances(self.complete.covariance_of(theta), self.dim())
    }

    fn is_spherical(&self) -> bool {
        self.complete.shape() == Shape::Spherical
    }

    fn means_of(&self, stats: &SuffStats, c: usize) -> Vec<f64> {
        (0..self.dim()).map(|d| self.mean_of_column(stats, c, d)).collect()
    }

    /// Returns the moments of each column of each component about these means.
    fn scatters(&self, stats: &SuffStats, means: &[Vec<f64>]) -> Vec<Vec<Moments>> {
        let of = |c: usize| {
            let about =
                |d: usize| self.moments(stats, c, d).about(means[c][d] - stats.centre(c)[d]);
            (0..self.dim()).map(about).collect()
        };
        (0..stats.mass().len()).map(of).collect()
    }

    /// Returns the prior of each variance, from the observed values of all points.
    fn prior(&self, stats: &SuffStats) -> Scale {
        let n_components = stats.mass().len();
        let mean = (0..self.dim()).map(|d| self.mean_of_all(stats, d)).collect();
        let mut variances = pooled(&self.scatters(stats, &vec![mean; n_components]), self.dim());
        if self.is_spherical() {
            variances = vec![variances.iter().sum::<f64>() / self.dim() as f64];
        }
        Scale::new(self.complete.shape(), &variances, n_components, self.dim())
    }

    fn mean_of_all(&self, stats: &SuffStats, d: usize) -> f64 {
        let all = (0..stats.mass().len()).map(|c| (stats.centre(c)[d], self.moments(stats, c, d)));
        let (sum, mass) = all.fold((0.0, 0.0), |(sum, mass), (centre, it)| {
            (sum + centre * it.mass + it.first, mass + it.mass)
        });
        sum / mass
    }

    /// Returns the mean of a column in a component. If the component has no point with that column, all components are taken.
    fn mean_of_column(&self, stats: &SuffStats, c: usize, d: usize) -> f64 {
        let own = self.moments(stats, c, d);
        match own.mass > 0.0 {
            true => stats.centre(c)[d] + own.first / own.mass,
            false => self.mean_of_all(stats, d),
        }
    }
}

/// Returns the variance of each column about the means of the moments, over all components.
fn pooled(scatters: &[Vec<Moments>], dim: usize) -> Vec<f64> {
    let variance = |d: usize| {
        let add = |(sum, mass), it: &Vec<Moments>| (sum + it[d].second, mass + it[d].mass);
        let (sum, mass): (f64, f64) = scatters.iter().fold((0.0, 0.0), add);
        sum / mass
    };
    (0..dim).map(variance).collect()
}

impl ExponentialFamily for ObservedGaussian {
    fn name(&self) -> String {
        self.complete.name()
    }

    fn ignoring_missing(&self) -> Option<Arc<dyn ExponentialFamily>> {
        Some(Arc::new(self.clone()))
    }

    fn dim(&self) -> usize {
        self.complete.dim()
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        self.complete.parameters()
    }

    fn domains(&self) -> Vec<Domain> {
        vec![Domain { columns: 0..self.dim(), support: Support::Real, missing: true }]
    }

    fn features(&self) -> Vec<Feature> {
        self.complete.features()
    }

    fn statistics(&self) -> Vec<Statistic> {
        let columns = || 0..self.dim() as u32;
        let squares = columns().map(|d| Statistic::Product(d, d));
        columns()
            .map(Statistic::Value)
            .chain(squares)
            .chain(columns().map(Statistic::Observed))
            .collect()
    }

    fn is_location(&self) -> bool {
        true
    }

    fn location(&self, theta: Theta<'_>) -> Vec<f64> {
        self.complete.location(theta)
    }

    /// Moves each column with the mass of the points that it is observed of.
    fn translate(&self, stats: &mut SuffStats, centres: &[f64]) {
        let dim = self.dim();
        for (c, centre) in centres.chunks(dim).enumerate() {
            for d in 0..dim {
                let moved = self.moments(stats, c, d).about(centre[d] - stats.centre(c)[d]);
                let sums = stats.sums_mut(c);
                (sums[d], sums[dim + d]) = (moved.first, moved.second);
            }
        }
        stats.set_centres(centres);
    }

    fn n_free_parameters(&self, n_components: usize) -> usize {
        self.complete.n_free_parameters(n_components)
    }

    fn check(&self, theta: Theta<'_>) -> Result<(), String> {
        self.complete.check(theta)
    }

    fn natural(&self, parameters: &Parameters, centres: &[f64], eta: &mut [f64]) -> Vec<Packing> {
        let dim = self.dim();
        for (c, eta) in eta.chunks_mut(3 * dim).enumerate() {
            let theta = parameters.theta(c);
            let variances = self.variances_of(theta);
            for (d, (mean, variance)) in self.mean_of(theta).iter().zip(variances).enumerate() {
                let shift = mean - centres[c * dim + d];
                eta[d] = shift / variance;
                eta[dim + d] = -0.5 / variance;
                eta[2 * dim + d] = -0.5 * (shift * shift / variance + (TAU * variance).ln());
            }
        }
        vec![Packing { log_partition: 0.0, cancellation: 0.0 }; parameters.components.len()]
    }

    fn pseudo_entropies(&self, parameters: &Parameters) -> Vec<f64> {
        self.complete.pseudo_entropies(parameters)
    }

    fn observable_entropy(&self, parameters: &Parameters, stats: &SuffStats) -> f64 {
        let mut sum = 0.0;
        for c in 0..stats.mass().len() {
            for (d, variance) in self.variances_of(parameters.theta(c)).into_iter().enumerate() {
                sum += self.moments(stats, c, d).mass * 0.5 * (1.0 + (TAU * variance).ln());
            }
        }
        sum
    }

    fn mean(&self, theta: Theta<'_>, centre: &[f64], mean: &mut [f64]) {
        let dim = self.dim();
        for (d, (&location, variance)) in
            self.mean_of(theta).iter().zip(self.variances_of(theta)).enumerate()
        {
            let shift = location - centre[d];
            (mean[d], mean[dim + d]) = (shift, shift * shift + variance);
            mean[2 * dim + d] = 1.0;
        }
    }

    fn log_likelihood(&self, parameters: &Parameters, stats: &SuffStats) -> f64 {
        let mut sum = 0.0;
        for c in (0..stats.mass().len()).filter(|&c| stats.mass()[c] > 0.0) {
            let theta = parameters.theta(c);
            let variances = self.variances_of(theta);
            for (d, (mean, variance)) in self.mean_of(theta).iter().zip(variances).enumerate() {
                let it = self.moments(stats, c, d).about(mean - stats.centre(c)[d]);
                sum -= 0.5 * (it.mass * (TAU * variance).ln() + it.second / variance);
            }
        }
        sum
    }

    fn floors(&self, stats: &SuffStats, regularization: &Regularization) -> Vec<f64> {
        let means: Vec<Vec<f64>> =
            (0..stats.mass().len()).map(|c| self.means_of(stats, c)).collect();
        let pooled = pooled(&self.scatters(stats, &means), self.dim());
        let relative = self.complete.relative_floor(regularization);
        floor::floors(stats.mass(), &means, &pooled, relative)
    }

    fn takes_prior(&self) -> bool {
        true
    }

    fn log_prior(&self, parameters: &Parameters, stats: &SuffStats, prior: &ConjugatePrior) -> f64 {
        let scale = self.prior(stats);
        let log_prior = |c: usize| {
            let covariance = self.complete.covariance_of(parameters.theta(c));
            let precision = self.complete.shape().precision(covariance, self.dim());
            precision.expect("variances of a model are positive").log_prior(&scale)
        };
        let occupied = (0..stats.mass().len()).filter(|&c| stats.mass()[c] > 0.0);
        let sum: f64 = occupied.map(log_prior).sum();
        sum / prior.total_weight.unwrap_or_else(|| stats.mass().iter().sum())
    }

    fn maximize(
        &self,
        stats: &SuffStats,
        update: &[bool],
        regularization: &Regularization,
        parameters: &mut Parameters,
    ) -> Vec<Outcome> {
        let (dim, n_components) = (self.dim(), update.len());
        let shape = self.complete.shape();
        let mut outcomes = vec![Outcome::Maximized; n_components];
        let mut means = Vec::with_capacity(n_components);
        for c in 0..n_components {
            let mean = self.means_of(stats, c);
            if update[c] && mean.iter().all(|m| m.is_finite()) {
                means.push(mean);
            } else {
                means.push(self.mean_of(parameters.theta(c)).to_vec());
                outcomes[c] = if update[c] { Outcome::Degenerate } else { Outcome::Maximized };
            }
        }
        let scatters = self.scatters(stats, &means);
        let pooled = pooled(&scatters, dim);
        let floors = regularization.floors_or(|| self.floors(stats, regularization));
        let floors = floor::above_rounding(&floors, &regularization.resolution);
        let prior = regularization.prior.as_ref().map(|prior| {
            let total: f64 = stats.mass().iter().sum();
            self.prior(stats).times(total / prior.total_weight.unwrap_or(total))
        });
        for c in (0..n_components).filter(|&c| update[c]) {
            if outcomes[c] == Outcome::Degenerate {
                continue;
            }
            // A column that is nowhere observed in a component takes the pooled variance, or the mode of its prior.
            let count = prior.as_ref().map_or(0.0, |it| it.count);
            let scale = |d: usize| prior.as_ref().map_or(0.0, |it| it.packed[d]);
            let variance = |d: usize| match scatters[c][d].mass + count {
                mass if mass > 0.0 => (scatters[c][d].second + scale(d)) / mass,
                _ => pooled[d],
            };
            let mut covariance: Vec<f64> = match self.is_spherical() {
                true => {
                    let mass: f64 = scatters[c].iter().map(|it| it.mass).sum();
                    let second: f64 = scatters[c].iter().map(|it| it.second).sum();
                    vec![(second + scale(0)) / (mass + dim as f64 * count)]
                }
                false => (0..dim).map(variance).collect(),
            };
            shape.add_ridge(&mut covariance, dim, regularization.reg_covar.unwrap_or(0.0));
            let before = shape.variances(&covariance, dim);
            let lifted = shape.lift(&mut covariance, dim, &floors);
            match shape.log_det_2pi(&covariance, dim) {
                Some(log_det) if log_det.is_finite() => {
                    parameters.components[c] = [&means[c][..], &covariance].concat();
                    outcomes[c] = match lifted {
                        true => Outcome::Floored(shape.most_raised(&before, &covariance, &floors)),
                        false => Outcome::Maximized,
                    };
                }
                _ => outcomes[c] = Outcome::Degenerate,
            }
        }
        outcomes
    }

    fn split(&self, theta: Theta<'_>, halves: [&mut Vec<f64>; 2]) -> bool {
        self.complete.split(theta, halves)
    }

    fn sampler<'a>(&'a self, theta: Theta<'a>) -> Sampler<'a> {
        self.complete.sampler(theta)
    }
}
