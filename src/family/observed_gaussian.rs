//! Gaussians of independent dimensions whose values may be missing.
//!
//! Statistics are `x_d`, `x_d²` and 1 if `x_d` is observed, else all 0. Natural parameters are `μ_d / v_d`, `-1 / 2v_d` and
//! `-A_d`. So a point has the density of its observed values, and sums of the last statistic are the masses that M-steps
//! divide by. This is exact EM over the observed values, if values are missing at random.
//!
//! There is no centred kernel here. Logits are exact to `ε (|μ - centre| + σ)² / v` of the working precision.

use super::floor;
use super::{
    Domain, ExponentialFamily, Feature, Gaussian, Outcome, Packing, ParameterSpec, Parameters,
    Regularization, Sampler, Statistic, Support, Theta,
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

    /// Returns the mean of a column in a component. If the component has no point with that column, all components are taken.
    fn mean_of_column(&self, stats: &SuffStats, c: usize, d: usize) -> f64 {
        let own = self.moments(stats, c, d);
        if own.mass > 0.0 {
            return stats.centre(c)[d] + own.first / own.mass;
        }
        let all = (0..stats.mass().len()).map(|c| (stats.centre(c)[d], self.moments(stats, c, d)));
        let (sum, mass) = all.fold((0.0, 0.0), |(sum, mass), (centre, it)| {
            (sum + centre * it.mass + it.first, mass + it.mass)
        });
        sum / mass
    }
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
            let mean: Vec<f64> = (0..dim).map(|d| self.mean_of_column(stats, c, d)).collect();
            if update[c] && mean.iter().all(|m| m.is_finite()) {
                means.push(mean);
            } else {
                means.push(self.mean_of(parameters.theta(c)).to_vec());
                outcomes[c] = if update[c] { Outcome::Degenerate } else { Outcome::Maximized };
            }
        }
        let scatter = |c: usize| -> Vec<Moments> {
            let moments =
                |d: usize| self.moments(stats, c, d).about(means[c][d] - stats.centre(c)[d]);
            (0..dim).map(moments).collect()
        };
        let scatters: Vec<Vec<Moments>> = (0..n_components).map(scatter).collect();
        let pooled: Vec<f64> = (0..dim)
            .map(|d| {
                let (sum, mass) = scatters
                    .iter()
                    .fold((0.0, 0.0), |(sum, mass), it| (sum + it[d].second, mass + it[d].mass));
                sum / mass
            })
            .collect();
        let relative = self.complete.relative_floor(regularization);
        let floors = floor::floors(stats.mass(), &means, &pooled, relative);
        let floors = floor::above_rounding(&floors, &regularization.resolution);
        for c in (0..n_components).filter(|&c| update[c]) {
            if outcomes[c] == Outcome::Degenerate {
                continue;
            }
            // A column that is nowhere observed in a component takes the pooled variance.
            let variance = |(it, pooled): (&Moments, &f64)| match it.mass > 0.0 {
                true => it.second / it.mass,
                false => *pooled,
            };
            let mut covariance: Vec<f64> = match parameters.components[c].len() - dim {
                1 => {
                    let mass: f64 = scatters[c].iter().map(|it| it.mass).sum();
                    vec![scatters[c].iter().map(|it| it.second).sum::<f64>() / mass]
                }
                _ => scatters[c].iter().zip(&pooled).map(variance).collect(),
            };
            shape.add_ridge(&mut covariance, dim, regularization.reg_covar.unwrap_or(0.0));
            let lifted = shape.lift(&mut covariance, dim, &floors);
            match shape.log_det_2pi(&covariance, dim) {
                Some(log_det) if log_det.is_finite() => {
                    parameters.components[c] = [&means[c][..], &covariance].concat();
                    outcomes[c] = if lifted { Outcome::Floored } else { Outcome::Maximized };
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
