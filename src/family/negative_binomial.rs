//! Negative binomial distributions of the number of failures before r known successes (Prop. 5; Prop. 4 for r = 1, the
//! geometric distribution).
//!
//! `p(x) = Γ(x + r) / (x! Γ(r)) p^r (1 - p)^x`: `η = ln(1 - p)`, `T = x`, `A = -r ln p`, `ln h = ln Γ(x + r) - ln x! - ln Γ(r)`,
//! pseudo entropy `r (-p ln p - (1 - p) ln(1 - p)) / p`. r need not be whole.

use super::gamma::{check_positive, standard_gamma};
use super::geometric::Geometric;
use super::{BaseMeasure, Outcome, Statistic, Support, Univariate};
use crate::special::ln_gamma;
use rand_distr::Distribution;
use rand_xoshiro::Xoshiro256PlusPlus;

/// A count of failures, with a success of probability p > 0 each time.
///
/// ```
/// use entropysum::expert::family::Univariate;
/// use entropysum::family::NegativeBinomial;
///
/// let entropy = NegativeBinomial::new(2.5)?.pseudo_entropy(&[0.5]);
/// assert!((entropy - 2.5 * 4f64.ln()).abs() < 1e-14);
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct NegativeBinomial {
    successes: f64,
}

impl NegativeBinomial {
    /// Makes a column with this number of successes.
    ///
    /// # Errors
    /// Returns a message if `successes` is not a number above 0.
    pub fn new(successes: f64) -> Result<Self, String> {
        check_positive("successes", successes).map(|()| Self { successes })
    }
}

impl Univariate for NegativeBinomial {
    fn name(&self) -> &'static str {
        "negative-binomial"
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["probability"]
    }

    fn known(&self) -> Vec<(&'static str, f64)> {
        vec![("successes", self.successes)]
    }

    fn support(&self) -> Support {
        Support::Count
    }

    fn statistics(&self, column: u32) -> Vec<Statistic> {
        vec![Statistic::Value(column)]
    }

    fn log_base_measure(&self, column: u32) -> BaseMeasure {
        if self.successes == 1.0 {
            return BaseMeasure::default();
        }
        let all = Statistic::LnGamma { column, slope: 1.0, offset: self.successes };
        let failures = Statistic::LnGamma { column, slope: 1.0, offset: 1.0 };
        BaseMeasure {
            terms: vec![(all, 1.0), (failures, -1.0)],
            constant: -ln_gamma(self.successes),
        }
    }

    fn feature(&self, column: u32) -> Statistic {
        Geometric.feature(column)
    }

    fn check(&self, theta: &[f64]) -> Result<(), String> {
        Geometric.check(theta)
    }

    fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64 {
        self.successes * Geometric.natural(theta, eta)
    }

    fn mean(&self, theta: &[f64], mean: &mut [f64]) {
        Geometric.mean(theta, mean);
        mean[0] *= self.successes;
    }

    fn maximize(&self, mean: &[f64], floor: f64, theta: &mut [f64]) -> Outcome {
        Geometric.maximize(&[mean[0] / self.successes], floor, theta)
    }

    fn pseudo_entropy(&self, theta: &[f64]) -> f64 {
        self.successes * Geometric.pseudo_entropy(theta)
    }

    fn scaling_flow(&self, theta: &[f64]) -> Option<[f64; 2]> {
        Geometric.scaling_flow(theta)
    }

    /// A Poisson count whose rate has a gamma distribution.
    fn sample(&self, theta: &[f64], rng: &mut Xoshiro256PlusPlus) -> f64 {
        let rate = standard_gamma(self.successes, rng) * (1.0 - theta[0]) / theta[0];
        rand_distr::Poisson::new(rate).map_or(rate.round(), |it| it.sample(rng))
    }
}
