//! Inverse Gaussian distributions of positive values (Prop. 5).
//!
//! `p(x) = √(λ / 2πx³) exp(-λ (x - μ)² / 2μ²x)`: `η = (-λ / 2μ², -λ / 2)`, `T = (x, 1 / x)`, `A = -λ / μ - ½ ln λ`,
//! `ln h = -½ ln 2π - 3/2 ln x`, pseudo entropy `½ (1 - ln λ)`, entropy `½ ln(2πe / λ) + 3/2 E ln x` with
//! `E ln x = ln μ - eʸ E₁(y)`, `y = 2λ / μ`.

use super::gamma::check_positive;
use super::independent::Dispersion;
use super::{BaseMeasure, Outcome, Statistic, Support, Univariate};
use crate::special::scaled_exponential_integral;
use rand_distr::Distribution;
use rand_xoshiro::Xoshiro256PlusPlus;
use std::f64::consts::TAU;

/// A value of mean μ > 0 and shape λ > 0.
///
/// ```
/// use entropysum::expert::family::Univariate;
/// use entropysum::family::InverseGaussian;
///
/// assert_eq!(InverseGaussian.pseudo_entropy(&[3.0, 1.0]), 0.5);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct InverseGaussian;

impl Univariate for InverseGaussian {
    fn name(&self) -> &'static str {
        "inverse-gaussian"
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["mean", "shape"]
    }

    fn support(&self) -> Support {
        Support::Positive
    }

    fn statistics(&self, column: u32) -> Vec<Statistic> {
        vec![Statistic::Value(column), Statistic::Reciprocal(column)]
    }

    fn log_base_measure(&self, column: u32) -> BaseMeasure {
        BaseMeasure { terms: vec![(Statistic::Ln(column), -1.5)], constant: -0.5 * TAU.ln() }
    }

    fn feature(&self, column: u32) -> Statistic {
        Statistic::Ln(column)
    }

    fn check(&self, theta: &[f64]) -> Result<(), String> {
        check_positive("mean", theta[0])?;
        check_positive("shape", theta[1])
    }

    fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64 {
        let (mean, shape) = (theta[0], theta[1]);
        (eta[0], eta[1]) = (-0.5 * shape / mean / mean, -0.5 * shape);
        -shape / mean - 0.5 * shape.ln()
    }

    fn mean(&self, theta: &[f64], mean: &mut [f64]) {
        (mean[0], mean[1]) = (theta[0], 1.0 / theta[0] + 1.0 / theta[1]);
    }

    /// `μ / λ = E x · E 1/x - 1`, the squared coefficient of variation.
    fn dispersion(&self, mean: &[f64]) -> Option<Dispersion> {
        Some(Dispersion { value: mean[0] * mean[1] - 1.0, terms: mean[0] * mean[1] })
    }

    fn maximize(&self, mean: &[f64], floor: f64, theta: &mut [f64]) -> Outcome {
        let dispersion = mean[0] * mean[1] - 1.0;
        (theta[0], theta[1]) = (mean[0], mean[0] / dispersion.max(floor));
        if dispersion >= floor { Outcome::Maximized } else { Outcome::Floored(None) }
    }

    fn pseudo_entropy(&self, theta: &[f64]) -> f64 {
        0.5 * (1.0 - theta[1].ln())
    }

    fn entropy(&self, theta: &[f64]) -> Option<f64> {
        let (mean, shape) = (theta[0], theta[1]);
        let mean_ln = mean.ln() - scaled_exponential_integral(2.0 * shape / mean);
        Some(0.5 * (1.0 + (TAU / shape).ln()) + 1.5 * mean_ln)
    }

    fn scaling_flow(&self, theta: &[f64]) -> Option<[f64; 2]> {
        Some([0.0, theta[1]])
    }

    fn sample(&self, theta: &[f64], rng: &mut Xoshiro256PlusPlus) -> f64 {
        let inverse_gaussian = rand_distr::InverseGaussian::new(theta[0], theta[1]);
        let value: f64 = inverse_gaussian.expect("parameters of a model are positive").sample(rng);
        value.max(f64::MIN_POSITIVE)
    }
}
