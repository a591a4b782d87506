//! Bernoulli distributions of zeros and ones (Prop. 4).
//!
//! `p(x) = p^x (1 - p)^(1 - x)`: `η = logit p`, `T = x`, `A = -ln(1 - p)`, entropy `-p ln p - (1 - p) ln(1 - p)`.

use super::independent::LARGEST_NATURAL;
use super::{Outcome, Statistic, Support, Univariate};
use crate::special::softplus;
use rand_distr::{Distribution, StandardUniform};
use rand_xoshiro::Xoshiro256PlusPlus;

/// A one of probability p, from 0 to 1.
///
/// ```
/// use entropysum::expert::family::Univariate;
/// use entropysum::family::Bernoulli;
///
/// assert_eq!(Bernoulli.entropy(&[0.5]), Some(2f64.ln()));
/// assert_eq!(Bernoulli.entropy(&[1.0]), Some(0.0));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Bernoulli;

/// `ln p - ln(1 - p)`, held within bounds.
pub(super) fn logit(p: f64) -> f64 {
    (p.ln() - (-p).ln_1p()).clamp(-LARGEST_NATURAL, LARGEST_NATURAL)
}

/// `-p ln p - (1 - p) ln(1 - p)`
pub(super) fn binary_entropy(p: f64) -> f64 {
    let part = |p: f64, ln: f64| if p > 0.0 { -p * ln } else { 0.0 };
    part(p, p.ln()) + part(1.0 - p, (-p).ln_1p())
}

/// Checks a probability, and returns a message if it is not from 0 to 1.
pub(super) fn check_probability(p: f64) -> Result<(), String> {
    match (0.0..=1.0).contains(&p) {
        true => Ok(()),
        false => Err(format!("probability is {p}, expected a number from 0 to 1")),
    }
}

impl Univariate for Bernoulli {
    fn name(&self) -> &'static str {
        "bernoulli"
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["probability"]
    }

    fn support(&self) -> Support {
        Support::Binary
    }

    fn statistics(&self, column: u32) -> Vec<Statistic> {
        vec![Statistic::Value(column)]
    }

    fn check(&self, theta: &[f64]) -> Result<(), String> {
        check_probability(theta[0])
    }

    fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64 {
        eta[0] = logit(theta[0]);
        softplus(eta[0])
    }

    fn mean(&self, theta: &[f64], mean: &mut [f64]) {
        mean[0] = theta[0];
    }

    fn maximize(&self, mean: &[f64], _: f64, theta: &mut [f64]) -> Outcome {
        // Sums of responsibilities in another order may exceed their mass by a rounding.
        theta[0] = mean[0].min(1.0);
        Outcome::Maximized
    }

    fn pseudo_entropy(&self, theta: &[f64]) -> f64 {
        binary_entropy(theta[0])
    }

    fn scaling_flow(&self, theta: &[f64]) -> Option<[f64; 2]> {
        let p = theta[0];
        Some([if p > 0.0 && p < 1.0 { p * (1.0 - p) * logit(p) } else { 0.0 }, 0.0])
    }

    fn sample(&self, theta: &[f64], rng: &mut Xoshiro256PlusPlus) -> f64 {
        let u: f64 = StandardUniform.sample(rng);
        f64::from(u < theta[0])
    }
}
