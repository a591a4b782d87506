//! Geometric distributions of the number of failures before a success (Prop. 4).
//!
//! `p(x) = p (1 - p)^x`: `η = ln(1 - p)`, `T = x`, `A = -ln p`, entropy `(-p ln p - (1 - p) ln(1 - p)) / p`.

use super::bernoulli::{binary_entropy, check_probability};
use super::independent::LARGEST_NATURAL;
use super::{Outcome, Statistic, Support, Univariate};
use rand_distr::Distribution;
use rand_xoshiro::Xoshiro256PlusPlus;

/// A count of failures, with a success of probability p > 0 each time.
///
/// ```
/// use entropysum::expert::family::Univariate;
/// use entropysum::family::Geometric;
///
/// assert!((Geometric.entropy(&[0.5]).unwrap() - 4f64.ln()).abs() < 1e-15);
/// assert_eq!(Geometric.entropy(&[1.0]), Some(0.0));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Geometric;

impl Univariate for Geometric {
    fn name(&self) -> &'static str {
        "geometric"
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["probability"]
    }

    fn support(&self) -> Support {
        Support::Count
    }

    fn statistics(&self, column: u32) -> Vec<Statistic> {
        vec![Statistic::Value(column)]
    }

    fn feature(&self, column: u32) -> Statistic {
        Statistic::Power(column, 0.5)
    }

    fn check(&self, theta: &[f64]) -> Result<(), String> {
        check_probability(theta[0])?;
        if theta[0] > 0.0 { Ok(()) } else { Err("probability is 0, expected a number > 0".into()) }
    }

    fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64 {
        eta[0] = (-theta[0]).ln_1p().max(-LARGEST_NATURAL);
        -theta[0].ln()
    }

    fn mean(&self, theta: &[f64], mean: &mut [f64]) {
        mean[0] = (1.0 - theta[0]) / theta[0];
    }

    fn maximize(&self, mean: &[f64], _: f64, theta: &mut [f64]) -> Outcome {
        theta[0] = 1.0 / (1.0 + mean[0]);
        Outcome::Maximized
    }

    fn pseudo_entropy(&self, theta: &[f64]) -> f64 {
        binary_entropy(theta[0]) / theta[0]
    }

    fn scaling_flow(&self, theta: &[f64]) -> Option<[f64; 2]> {
        let q = 1.0 - theta[0];
        Some([if q > 0.0 { -q * (-theta[0]).ln_1p() } else { 0.0 }, 0.0])
    }

    fn sample(&self, theta: &[f64], rng: &mut Xoshiro256PlusPlus) -> f64 {
        let geometric = rand_distr::Geometric::new(theta[0]);
        geometric.expect("a probability of a model is between 0 and 1").sample(rng) as f64
    }
}
