//! Exponential distributions of values from 0 on (Prop. 4).
//!
//! `p(x) = λ e^-λx`: `η = -λ`, `T = x`, `A = -ln λ`, entropy `1 - ln λ`.

use super::independent::Dispersion;
use super::{Outcome, Statistic, Support, Univariate};
use rand_distr::{Distribution, Exp1};
use rand_xoshiro::Xoshiro256PlusPlus;

/// A value of rate λ > 0.
///
/// ```
/// use entropysum::expert::family::Univariate;
/// use entropysum::family::Exponential;
///
/// assert!((Exponential.entropy(&[2.0]).unwrap() - (1.0 - 2f64.ln())).abs() < 1e-15);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Exponential;

impl Univariate for Exponential {
    fn name(&self) -> &'static str {
        "exponential"
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["rate"]
    }

    fn support(&self) -> Support {
        Support::NonNegative
    }

    fn statistics(&self, column: u32) -> Vec<Statistic> {
        vec![Statistic::Value(column)]
    }

    fn feature(&self, column: u32) -> Statistic {
        Statistic::Power(column, 0.5)
    }

    fn check(&self, theta: &[f64]) -> Result<(), String> {
        match theta[0] {
            rate if rate > 0.0 && rate.is_finite() && (1.0 / rate).is_finite() => Ok(()),
            rate => Err(format!("rate is {rate}, expected a number > 0")),
        }
    }

    fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64 {
        eta[0] = -theta[0];
        -theta[0].ln()
    }

    fn mean(&self, theta: &[f64], mean: &mut [f64]) {
        mean[0] = 1.0 / theta[0];
    }

    /// The mean: where all points are 0 the density is unbounded.
    fn dispersion(&self, mean: &[f64]) -> Option<Dispersion> {
        Some(Dispersion { value: mean[0], terms: 0.0 })
    }

    fn maximize(&self, mean: &[f64], floor: f64, theta: &mut [f64]) -> Outcome {
        theta[0] = 1.0 / mean[0].max(floor);
        if mean[0] >= floor { Outcome::Maximized } else { Outcome::Floored(None) }
    }

    fn pseudo_entropy(&self, theta: &[f64]) -> f64 {
        1.0 - theta[0].ln()
    }

    fn scaling_flow(&self, theta: &[f64]) -> Option<[f64; 2]> {
        Some([theta[0], 0.0])
    }

    fn sample(&self, theta: &[f64], rng: &mut Xoshiro256PlusPlus) -> f64 {
        let value: f64 = Exp1.sample(rng);
        value / theta[0]
    }
}
