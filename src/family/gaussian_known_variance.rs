//! Gaussian distributions of known variance v (Prop. 5): the base measure is not constant, and cannot be made so.
//!
//! `η = μ / v`, `T = x`, `A = μ² / 2v`, `ln h = -x² / 2v - ½ ln 2πv`, pseudo entropy `-μ² / 2v`, entropy `½ ln 2πev`.

use super::gamma::check_positive;
use super::{BaseMeasure, Outcome, Statistic, Support, Univariate};
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::f64::consts::TAU;

/// A value of mean μ.
///
/// ```
/// use entropysum::expert::family::Univariate;
/// use entropysum::family::GaussianKnownVariance;
///
/// let family = GaussianKnownVariance::new(0.5)?;
/// assert_eq!(family.pseudo_entropy(&[3.0]), -9.0);
/// assert_eq!(family.entropy(&[3.0]), family.entropy(&[0.0]));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct GaussianKnownVariance {
    variance: f64,
}

impl GaussianKnownVariance {
    /// Makes a column of this variance.
    ///
    /// # Errors
    /// Returns a message if `variance` is not a number above 0.
    pub fn new(variance: f64) -> Result<Self, String> {
        check_positive("variance", variance).map(|()| Self { variance })
    }
}

impl Univariate for GaussianKnownVariance {
    fn name(&self) -> &'static str {
        "gaussian-known-variance"
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["mean"]
    }

    fn known(&self) -> Vec<(&'static str, f64)> {
        vec![("variance", self.variance)]
    }

    fn support(&self) -> Support {
        Support::Real
    }

    fn statistics(&self, column: u32) -> Vec<Statistic> {
        vec![Statistic::Value(column)]
    }

    fn log_base_measure(&self, column: u32) -> BaseMeasure {
        let terms = vec![(Statistic::Product(column, column), -0.5 / self.variance)];
        BaseMeasure { terms, constant: -0.5 * (TAU * self.variance).ln() }
    }

    fn check(&self, theta: &[f64]) -> Result<(), String> {
        match theta[0].is_finite() {
            true => Ok(()),
            false => Err(format!("mean is {}, expected a finite number", theta[0])),
        }
    }

    fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64 {
        eta[0] = theta[0] / self.variance;
        0.5 * theta[0] * theta[0] / self.variance
    }

    fn mean(&self, theta: &[f64], mean: &mut [f64]) {
        mean[0] = theta[0];
    }

    fn maximize(&self, mean: &[f64], _: f64, theta: &mut [f64]) -> Outcome {
        theta[0] = mean[0];
        Outcome::Maximized
    }

    fn pseudo_entropy(&self, theta: &[f64]) -> f64 {
        -0.5 * theta[0] * theta[0] / self.variance
    }

    fn entropy(&self, _: &[f64]) -> Option<f64> {
        Some(0.5 * (1.0 + (TAU * self.variance).ln()))
    }

    fn scaling_flow(&self, theta: &[f64]) -> Option<[f64; 2]> {
        Some([theta[0], 0.0])
    }

    fn sample(&self, theta: &[f64], rng: &mut Xoshiro256PlusPlus) -> f64 {
        let z: f64 = StandardNormal.sample(rng);
        theta[0] + self.variance.sqrt() * z
    }
}
