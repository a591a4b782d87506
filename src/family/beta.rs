//! Beta distributions of values between 0 and 1 (Prop. 4).
//!
//! `p(x) = x^(a-1) (1-x)^(b-1) / B(a, b)`: `η = (a - 1, b - 1)`, `T = (ln x, ln(1 - x))`, `A = ln B(a, b)`, entropy
//! `ln B(a, b) - (a - 1) ψ(a) - (b - 1) ψ(b) + (a + b - 2) ψ(a + b)`.

use super::gamma::{check_positive, standard_gamma};
use super::independent::Dispersion;
use super::{Outcome, Statistic, Support, Univariate};
use crate::special::{dirichlet_concentration, dirichlet_entropy, ln_beta, ln_minus_digamma};
use rand_xoshiro::Xoshiro256PlusPlus;

/// A value of parameters a, b > 0.
///
/// ```
/// use entropysum::expert::family::Univariate;
/// use entropysum::family::Beta;
///
/// // a = b = 1 is the uniform distribution.
/// assert!(Beta.entropy(&[1.0, 1.0]).unwrap().abs() < 1e-14);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Beta;

impl Univariate for Beta {
    fn name(&self) -> &'static str {
        "beta"
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["alpha", "beta"]
    }

    fn support(&self) -> Support {
        Support::UnitInterval
    }

    fn statistics(&self, column: u32) -> Vec<Statistic> {
        vec![Statistic::Ln(column), Statistic::Ln1m(column)]
    }

    fn check(&self, theta: &[f64]) -> Result<(), String> {
        check_positive("alpha", theta[0])?;
        check_positive("beta", theta[1])
    }

    fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64 {
        (eta[0], eta[1]) = (theta[0] - 1.0, theta[1] - 1.0);
        ln_beta(theta[0], theta[1])
    }

    /// `ψ(a) - ψ(a + b)` and `ψ(b) - ψ(a + b)`, with the logarithms combined.
    fn mean(&self, theta: &[f64], mean: &mut [f64]) {
        let (a, b) = (theta[0], theta[1]);
        let rest = ln_minus_digamma(a + b);
        mean[0] = -(b / a).ln_1p() - ln_minus_digamma(a) + rest;
        mean[1] = -(a / b).ln_1p() - ln_minus_digamma(b) + rest;
    }

    /// `1 - exp E ln x - exp E ln(1 - x)`, about 1 / 2(a + b).
    fn dispersion(&self, mean: &[f64]) -> Option<Dispersion> {
        Some(Dispersion { value: 1.0 - mean[0].exp() - mean[1].exp(), terms: 1.0 })
    }

    /// A dispersion is lifted by lowering both means alike.
    fn maximize(&self, mean: &[f64], floor: f64, theta: &mut [f64]) -> Outcome {
        let sum = mean[0].exp() + mean[1].exp();
        let is_floored = !(1.0 - sum >= floor);
        let shift = if is_floored { (-floor).ln_1p() - sum.ln() } else { 0.0 };
        match dirichlet_concentration(&[mean[0] + shift, mean[1] + shift]) {
            None => return Outcome::Degenerate,
            Some(concentration) => theta.copy_from_slice(&concentration),
        }
        if is_floored { Outcome::Floored(None) } else { Outcome::Maximized }
    }

    fn pseudo_entropy(&self, theta: &[f64]) -> f64 {
        dirichlet_entropy(&theta[..2])
    }

    fn scaling_flow(&self, theta: &[f64]) -> Option<[f64; 2]> {
        Some([theta[0] - 1.0, theta[1] - 1.0])
    }

    /// Within the open interval, whatever rounding says.
    fn sample(&self, theta: &[f64], rng: &mut Xoshiro256PlusPlus) -> f64 {
        let (x, y) = (standard_gamma(theta[0], rng), standard_gamma(theta[1], rng));
        let value = if x + y > 0.0 { x / (x + y) } else { 0.5 };
        value.clamp(f64::MIN_POSITIVE, 1.0 - f64::EPSILON)
    }
}
