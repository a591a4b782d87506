//! Binomial distributions of counts out of n known trials (Prop. 5; Prop. 4 for n = 1, the Bernoulli distribution).
//!
//! `p(x) = (n over x) p^x (1 - p)^(n - x)`: `η = logit p`, `T = x`, `A = -n ln(1 - p)`, `ln h = ln (n over x)`, pseudo entropy
//! `n (-p ln p - (1 - p) ln(1 - p))`.

use super::bernoulli::{Bernoulli, binary_entropy, check_probability, logit};
use super::{BaseMeasure, Outcome, Statistic, Support, Univariate};
use crate::special::{ln_gamma, softplus};
use rand_distr::Distribution;
use rand_xoshiro::Xoshiro256PlusPlus;

/// A count of successes of probability p, from 0 to 1.
///
/// ```
/// use entropysum::expert::family::Univariate;
/// use entropysum::family::Binomial;
///
/// assert_eq!(Binomial::new(16.0)?.pseudo_entropy(&[0.5]), 16.0 * 2f64.ln());
/// assert!(Binomial::new(0.5).is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Binomial {
    trials: f64,
}

impl Binomial {
    /// Makes a column with this number of trials.
    ///
    /// # Errors
    /// Returns a message if `trials` is not a whole number of at least 1.
    pub fn new(trials: f64) -> Result<Self, String> {
        match trials >= 1.0 && Support::Count.contains(trials) {
            true => Ok(Self { trials }),
            false => Err(format!("trials are {trials}, expected a whole number of at least 1")),
        }
    }
}

impl Univariate for Binomial {
    fn name(&self) -> &'static str {
        "binomial"
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["probability"]
    }

    fn known(&self) -> Vec<(&'static str, f64)> {
        vec![("trials", self.trials)]
    }

    fn support(&self) -> Support {
        Support::CountUpTo(self.trials)
    }

    fn statistics(&self, column: u32) -> Vec<Statistic> {
        vec![Statistic::Value(column)]
    }

    fn log_base_measure(&self, column: u32) -> BaseMeasure {
        if self.trials == 1.0 {
            return BaseMeasure::default();
        }
        let successes = Statistic::LnGamma { column, slope: 1.0, offset: 1.0 };
        let failures = Statistic::LnGamma { column, slope: -1.0, offset: self.trials + 1.0 };
        let terms = vec![(successes, -1.0), (failures, -1.0)];
        BaseMeasure { terms, constant: ln_gamma(self.trials + 1.0) }
    }

    fn check(&self, theta: &[f64]) -> Result<(), String> {
        check_probability(theta[0])
    }

    fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64 {
        eta[0] = logit(theta[0]);
        self.trials * softplus(eta[0])
    }

    fn mean(&self, theta: &[f64], mean: &mut [f64]) {
        mean[0] = self.trials * theta[0];
    }

    fn maximize(&self, mean: &[f64], _: f64, theta: &mut [f64]) -> Outcome {
        theta[0] = (mean[0] / self.trials).min(1.0);
        Outcome::Maximized
    }

    fn pseudo_entropy(&self, theta: &[f64]) -> f64 {
        self.trials * binary_entropy(theta[0])
    }

    fn scaling_flow(&self, theta: &[f64]) -> Option<[f64; 2]> {
        Bernoulli.scaling_flow(theta)
    }

    fn sample(&self, theta: &[f64], rng: &mut Xoshiro256PlusPlus) -> f64 {
        let binomial = rand_distr::Binomial::new(self.trials as u64, theta[0]);
        binomial.expect("a probability of a model is between 0 and 1").sample(rng) as f64
    }
}
