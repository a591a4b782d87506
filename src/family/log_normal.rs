//! Log-normal distributions of positive values (Prop. 4).
//!
//! `ln x` has mean μ and variance v: `η = (μ / v - 1, -1 / 2v)`, `T = (ln x, ln² x)`, `A = μ² / 2v + ½ ln 2πv`, entropy
//! `½ ln 2πev + μ`. With `η = (μ / v, -1 / 2v)` the base measure would be 1 / x.

use super::gamma::check_positive;
use super::independent::Dispersion;
use super::{Outcome, Statistic, Support, Univariate};
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::f64::consts::TAU;

/// A value whose logarithm has mean μ and variance v > 0.
///
/// ```
/// use entropysum::expert::family::Univariate;
/// use entropysum::family::LogNormal;
///
/// let entropy = LogNormal.entropy(&[3.0, 1.0]).unwrap();
/// assert!((entropy - (3.5 + 0.5 * std::f64::consts::TAU.ln())).abs() < 1e-14);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LogNormal;

impl Univariate for LogNormal {
    fn name(&self) -> &'static str {
        "log-normal"
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["mean", "variance"]
    }

    fn support(&self) -> Support {
        Support::Positive
    }

    fn statistics(&self, column: u32) -> Vec<Statistic> {
        vec![Statistic::Ln(column), Statistic::LnSquared(column)]
    }

    fn feature(&self, column: u32) -> Statistic {
        Statistic::Ln(column)
    }

    fn check(&self, theta: &[f64]) -> Result<(), String> {
        if !theta[0].is_finite() {
            return Err(format!("mean is {}, expected a finite number", theta[0]));
        }
        check_positive("variance", theta[1])
    }

    fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64 {
        let (mean, variance) = (theta[0], theta[1]);
        (eta[0], eta[1]) = (mean / variance - 1.0, -0.5 / variance);
        0.5 * (mean * mean / variance + (TAU * variance).ln())
    }

    fn mean(&self, theta: &[f64], mean: &mut [f64]) {
        (mean[0], mean[1]) = (theta[0], theta[0] * theta[0] + theta[1]);
    }

    /// The variance.
    fn dispersion(&self, mean: &[f64]) -> Option<Dispersion> {
        Some(Dispersion { value: mean[1] - mean[0] * mean[0], terms: mean[1] })
    }

    fn maximize(&self, mean: &[f64], floor: f64, theta: &mut [f64]) -> Outcome {
        let variance = mean[1] - mean[0] * mean[0];
        (theta[0], theta[1]) = (mean[0], variance.max(floor));
        if variance >= floor { Outcome::Maximized } else { Outcome::Floored(None) }
    }

    fn pseudo_entropy(&self, theta: &[f64]) -> f64 {
        0.5 * (1.0 + (TAU * theta[1]).ln()) + theta[0]
    }

    fn scaling_flow(&self, theta: &[f64]) -> Option<[f64; 2]> {
        Some([-theta[1], -theta[1]])
    }

    fn sample(&self, theta: &[f64], rng: &mut Xoshiro256PlusPlus) -> f64 {
        let z: f64 = StandardNormal.sample(rng);
        (theta[0] + theta[1].sqrt() * z).exp()
    }
}
