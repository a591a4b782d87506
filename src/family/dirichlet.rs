//! Dirichlet distributions of compositions (Prop. 4).
//!
//! `p(x) = Γ(a₀) / Π Γ(a_d) Π x_d^(a_d - 1)` on the simplex, `a₀ = Σ a_d`: `η = a - 1`, `T = ln x`,
//! `A = Σ ln Γ(a_d) - ln Γ(a₀)`, mean map `ψ(a_d) - ψ(a₀)`. Densities are with respect to the first D - 1 coordinates.

use super::independent::{RELATIVE_FLOOR, ROUNDINGS};
use super::{
    Domain, ExponentialFamily, Feature, Outcome, Packing, ParameterSpec, Parameters,
    Regularization, Sampler, Statistic, Support, Theta,
};
use crate::error::{Error, Result};
use crate::special::{dirichlet_concentration, dirichlet_entropy, ln_gamma, ln_minus_digamma};
use crate::stats::SuffStats;
use rand_distr::{Distribution, Gamma};

/// Compositions of D ≥ 2 parts, each above 0, that sum to 1.
///
/// Parameters: `concentration` (C × D), above 0.
///
/// ```
/// use entropysum::expert::family::ExponentialFamily;
/// use entropysum::family::{Dirichlet, Parameters};
///
/// // The uniform distribution on a triangle of area ½.
/// let family = Dirichlet::new(3)?;
/// let parameters = Parameters { components: vec![vec![1.0; 3]], shared: vec![] };
/// assert!((family.pseudo_entropies(&parameters)[0] - 0.5f64.ln()).abs() < 1e-14);
/// # Ok::<(), entropysum::error::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirichlet {
    dim: usize,
}

impl Dirichlet {
    /// Compositions of `dim` parts.
    ///
    /// # Errors
    /// If there are fewer than two.
    pub fn new(dim: usize) -> Result<Self> {
        match dim {
            0 | 1 => Err(Error::Model("dirichlet: a composition has at least two columns".into())),
            _ => Ok(Self { dim }),
        }
    }
}

/// `1 - Σ exp E ln x_d`: 0 for a single point, about (D - 1) / 2 a₀ for a narrow distribution.
fn dispersion(means: &[f64]) -> f64 {
    1.0 - means.iter().map(|m| m.exp()).sum::<f64>()
}

fn mean_of(stats: &SuffStats, c: usize) -> Vec<f64> {
    stats.sums(c).iter().map(|s| s / stats.mass()[c]).collect()
}

/// `E ln x`
fn mean_logarithms(concentration: &[f64], mean: &mut [f64]) {
    let total: f64 = concentration.iter().sum();
    let rest = ln_minus_digamma(total);
    for (mean, &a) in mean.iter_mut().zip(concentration) {
        *mean = (a / total).ln() - ln_minus_digamma(a) + rest;
    }
}

impl ExponentialFamily for Dirichlet {
    fn name(&self) -> String {
        "dirichlet".into()
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn domains(&self) -> Vec<Domain> {
        vec![Domain::new(0..self.dim, Support::Simplex)]
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        vec![ParameterSpec { name: "concentration".into(), shape: vec![self.dim], shared: false }]
    }

    fn statistics(&self) -> Vec<Statistic> {
        (0..self.dim as u32).map(Statistic::Ln).collect()
    }

    fn features(&self) -> Vec<Feature> {
        (0..self.dim as u32).map(|d| Feature::single(Statistic::Ln(d))).collect()
    }

    fn n_free_parameters(&self, n_components: usize) -> usize {
        n_components * self.dim
    }

    fn check(&self, theta: Theta<'_>) -> std::result::Result<(), String> {
        match theta.component.iter().position(|a| !(*a > 0.0 && a.is_finite())) {
            None => Ok(()),
            Some(d) => Err(format!(
                "concentration of column {d} is {}, expected a number > 0",
                theta.component[d]
            )),
        }
    }

    fn natural(&self, parameters: &Parameters, _: &[f64], eta: &mut [f64]) -> Vec<Packing> {
        let mut rows = eta.chunks_mut(self.dim);
        let pack = |theta: &Vec<f64>| {
            let row = rows.next().expect("a row of natural parameters a component");
            row.iter_mut().zip(theta).for_each(|(eta, a)| *eta = a - 1.0);
            let total: f64 = theta.iter().sum();
            let log_partition = theta.iter().map(|&a| ln_gamma(a)).sum::<f64>() - ln_gamma(total);
            Packing { log_partition, cancellation: 0.0 }
        };
        parameters.components.iter().map(pack).collect()
    }

    fn pseudo_entropies(&self, parameters: &Parameters) -> Vec<f64> {
        parameters.components.iter().map(|theta| dirichlet_entropy(theta)).collect()
    }

    fn mean(&self, theta: Theta<'_>, _: &[f64], mean: &mut [f64]) {
        mean_logarithms(theta.component, mean);
    }

    /// As `Σ η · (s - s₀ ∇A) - s₀ H`, which is `η · s - s₀ A` without the difference of large numbers.
    fn log_likelihood(&self, parameters: &Parameters, stats: &SuffStats) -> f64 {
        let mut mean = vec![0.0; self.dim];
        let mut sum = 0.0;
        for (c, theta) in parameters.components.iter().enumerate() {
            let mass = stats.mass()[c];
            if mass > 0.0 {
                mean_logarithms(theta, &mut mean);
                let terms = theta.iter().zip(stats.sums(c).iter().zip(&mean));
                sum += terms.map(|(a, (s, mean))| (a - 1.0) * (s - mass * mean)).sum::<f64>();
                sum -= mass * dirichlet_entropy(theta);
            }
        }
        sum
    }

    fn floors(&self, stats: &SuffStats, regularization: &Regularization) -> Vec<f64> {
        let rounding = ROUNDINGS * regularization.rounding;
        let relative = if regularization.reg_covar.is_none() { RELATIVE_FLOOR } else { rounding };
        let total: f64 = stats.mass().iter().sum();
        let occupied = (0..stats.mass().len()).filter(|&c| stats.mass()[c] > 0.0);
        let pooled: f64 = occupied
            .map(|c| stats.mass()[c] * dispersion(&mean_of(stats, c)).max(0.0))
            .sum::<f64>()
            / total;
        // Where no component has any dispersion, all points are the same.
        let floor = match relative * pooled {
            floor if floor > 0.0 => floor.max(rounding),
            _ => RELATIVE_FLOOR,
        };
        vec![floor; self.dim()]
    }

    fn maximize(
        &self,
        stats: &SuffStats,
        update: &[bool],
        regularization: &Regularization,
        parameters: &mut Parameters,
    ) -> Vec<Outcome> {
        let floor = regularization.floors_or(|| self.floors(stats, regularization))[0];
        let maximize = |c: usize| {
            if !update[c] {
                return Outcome::Maximized;
            }
            let mut means = mean_of(stats, c);
            let mut outcome = Outcome::Maximized;
            let own = dispersion(&means);
            if own < floor {
                // Lower all means alike, until the dispersion is that of the floor.
                let shift = (1.0 - own).ln() - (-floor).ln_1p();
                means.iter_mut().for_each(|m| *m -= shift);
                outcome = Outcome::Floored(None);
            }
            match dirichlet_concentration(&means) {
                Some(concentration) => parameters.components[c] = concentration,
                None => outcome = Outcome::Degenerate,
            }
            outcome
        };
        (0..update.len()).map(maximize).collect()
    }

    fn scaling_flow(&self, parameters: &Parameters) -> Option<Parameters> {
        let of = |theta: &Vec<f64>| theta.iter().map(|a| a - 1.0).collect();
        let components = parameters.components.iter().map(of).collect();
        Some(Parameters { components, shared: Vec::new() })
    }

    fn sampler<'a>(&'a self, theta: Theta<'a>) -> Sampler<'a> {
        // Γ(a) = Γ(a + 1) U^(1/a) in logarithms: small concentrations underflow otherwise.
        let gammas: Vec<(f64, Gamma<f64>)> = theta
            .component
            .iter()
            .map(|&a| (a, Gamma::new(a + 1.0, 1.0).expect("concentrations are positive numbers")))
            .collect();
        Box::new(move |rng, point| {
            for (value, (a, gamma)) in point.iter_mut().zip(&gammas) {
                let uniform: f64 = rand_distr::OpenClosed01.sample(rng);
                *value = gamma.sample(rng).ln() + uniform.ln() / a;
            }
            let largest = point.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            point.iter_mut().for_each(|value| *value = (*value - largest).exp());
            let total: f64 = point.iter().sum();
            // Parts below the least normal number are no part of the support.
            point.iter_mut().for_each(|value| *value = (*value / total).max(f64::MIN_POSITIVE));
        })
    }
}
