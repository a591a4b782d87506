//! Poisson distributions of counts (Prop. 5).
//!
//! `p(x) = λ^x e^-λ / x!`: `η = ln λ`, `T = x`, `A = λ`, `ln h = -ln x!`, pseudo entropy `λ (1 - ln λ)`.

use super::independent::LARGEST_NATURAL;
use super::{BaseMeasure, Outcome, Statistic, Support, Univariate};
use rand_distr::Distribution;
use rand_xoshiro::Xoshiro256PlusPlus;

/// A count of rate λ ≥ 0.
///
/// ```
/// use entropysum::expert::family::Univariate;
/// use entropysum::family::Poisson;
///
/// assert_eq!(Poisson.pseudo_entropy(&[1.0]), 1.0);
/// assert_eq!(Poisson.pseudo_entropy(&[0.0]), 0.0);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Poisson;

impl Univariate for Poisson {
    fn name(&self) -> &'static str {
        "poisson"
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["rate"]
    }

    fn support(&self) -> Support {
        Support::Count
    }

    fn statistics(&self, column: u32) -> Vec<Statistic> {
        vec![Statistic::Value(column)]
    }

    fn log_base_measure(&self, column: u32) -> BaseMeasure {
        let factorial = Statistic::LnGamma { column, slope: 1.0, offset: 1.0 };
        BaseMeasure { terms: vec![(factorial, -1.0)], constant: 0.0 }
    }

    /// The square root has the same variance everywhere, nearly.
    fn feature(&self, column: u32) -> Statistic {
        Statistic::Power(column, 0.5)
    }

    fn check(&self, theta: &[f64]) -> Result<(), String> {
        match theta[0] {
            rate if rate >= 0.0 && rate.is_finite() => Ok(()),
            rate => Err(format!("rate is {rate}, expected a number ≥ 0")),
        }
    }

    fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64 {
        eta[0] = theta[0].ln().max(-LARGEST_NATURAL);
        theta[0]
    }

    fn mean(&self, theta: &[f64], mean: &mut [f64]) {
        mean[0] = theta[0];
    }

    fn maximize(&self, mean: &[f64], _: f64, theta: &mut [f64]) -> Outcome {
        theta[0] = mean[0];
        Outcome::Maximized
    }

    fn pseudo_entropy(&self, theta: &[f64]) -> f64 {
        if theta[0] > 0.0 { theta[0] * (1.0 - theta[0].ln()) } else { 0.0 }
    }

    fn scaling_flow(&self, theta: &[f64]) -> Option<[f64; 2]> {
        let rate = theta[0];
        Some([if rate > 0.0 { rate * rate.ln() } else { 0.0 }, 0.0])
    }

    fn sample(&self, theta: &[f64], rng: &mut Xoshiro256PlusPlus) -> f64 {
        // The crate draws no Poisson of rate 0, nor of one too large for it.
        rand_distr::Poisson::new(theta[0]).map_or(theta[0].round(), |it| it.sample(rng))
    }
}
