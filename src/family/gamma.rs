//! Gamma distributions of positive values (Prop. 4).
//!
//! `p(x) = b^a x^(a-1) e^-bx / Γ(a)`: `η = (a - 1, -b)`, `T = (ln x, x)`, `A = ln Γ(a) - a ln b`, entropy
//! `a - ln b + ln Γ(a) + (1 - a) ψ(a)`. With `η = (a, -b)` the base measure would be 1 / x.

use super::independent::Dispersion;
use super::{Feature, Outcome, Statistic, Support, Univariate};
use crate::special::{gamma_entropy, gamma_shape, ln_gamma, ln_minus_digamma};
use rand_distr::Distribution;
use rand_xoshiro::Xoshiro256PlusPlus;

/// A value of shape a > 0 and rate b > 0.
///
/// ```
/// use entropysum::expert::family::Univariate;
/// use entropysum::family::Gamma;
///
/// // Of shape 1: the exponential distribution.
/// assert!((Gamma.entropy(&[1.0, 2.0]).unwrap() - (1.0 - 2f64.ln())).abs() < 1e-14);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Gamma;

impl Univariate for Gamma {
    fn name(&self) -> &'static str {
        "gamma"
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["shape", "rate"]
    }

    fn support(&self) -> Support {
        Support::Positive
    }

    fn statistics(&self, column: u32) -> Vec<Statistic> {
        vec![Statistic::Ln(column), Statistic::Value(column)]
    }

    /// Cube roots are close to normal for every shape (Wilson and Hilferty 1931): logarithms of shape 0.2 have a long tail, which
    /// k-means cuts into clusters.
    fn feature(&self, column: u32) -> Statistic {
        Statistic::Power(column, 1.0 / 3.0)
    }

    /// Also logarithms, in which clusters of very different sizes weigh alike.
    fn scales(&self, column: u32) -> Vec<Feature> {
        vec![self.features(column), Feature::single(Statistic::Ln(column))]
    }

    fn check(&self, theta: &[f64]) -> Result<(), String> {
        check_positive("shape", theta[0])?;
        check_positive("rate", theta[1])
    }

    fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64 {
        (eta[0], eta[1]) = (theta[0] - 1.0, -theta[1]);
        ln_gamma(theta[0]) - theta[0] * theta[1].ln()
    }

    /// `E ln x = ψ(a) - ln b`, with the logarithms combined.
    fn mean(&self, theta: &[f64], mean: &mut [f64]) {
        mean[1] = theta[0] / theta[1];
        mean[0] = mean[1].ln() - ln_minus_digamma(theta[0]);
    }

    /// `ln E x - E ln x`, about half the squared coefficient of variation.
    fn dispersion(&self, mean: &[f64]) -> Option<Dispersion> {
        let ln = mean[1].ln();
        Some(Dispersion { value: ln - mean[0], terms: 1.0 + ln.abs() })
    }

    /// `ln a - ψ(a) = ln E x - E ln x`, `b = a / E x`.
    fn maximize(&self, mean: &[f64], floor: f64, theta: &mut [f64]) -> Outcome {
        let dispersion = mean[1].ln() - mean[0];
        theta[0] = gamma_shape(dispersion.max(floor));
        theta[1] = theta[0] / mean[1];
        if dispersion >= floor { Outcome::Maximized } else { Outcome::Floored(None) }
    }

    fn pseudo_entropy(&self, theta: &[f64]) -> f64 {
        gamma_entropy(theta[0], theta[1])
    }

    fn scaling_flow(&self, theta: &[f64]) -> Option<[f64; 2]> {
        Some([theta[0] - 1.0, theta[1]])
    }

    fn sample(&self, theta: &[f64], rng: &mut Xoshiro256PlusPlus) -> f64 {
        standard_gamma(theta[0], rng) / theta[1]
    }
}

/// Checks a parameter, and returns a message if it is not above 0.
pub(super) fn check_positive(name: &str, value: f64) -> Result<(), String> {
    match value > 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(format!("{name} is {value}, expected a number > 0")),
    }
}

/// Draws a gamma value of rate 1.
pub(super) fn standard_gamma(shape: f64, rng: &mut Xoshiro256PlusPlus) -> f64 {
    let gamma = rand_distr::Gamma::new(shape, 1.0);
    gamma.expect("shapes of a model are positive").sample(rng)
}
