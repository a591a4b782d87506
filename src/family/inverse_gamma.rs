//! Inverse gamma distributions of positive values (Prop. 4): 1 / x has a gamma distribution.
//!
//! `p(x) = b^a x^(-a-1) e^(-b/x) / Γ(a)`: `η = (-a - 1, -b)`, `T = (ln x, 1 / x)`, `A = ln Γ(a) - a ln b`, entropy
//! `a + ln b + ln Γ(a) - (1 + a) ψ(a)`.

use super::gamma::{Gamma, check_positive};
use super::independent::Dispersion;
use super::{Feature, Outcome, Statistic, Support, Univariate};
use rand_xoshiro::Xoshiro256PlusPlus;

/// A value of shape a > 0 and scale b > 0.
///
/// ```
/// use entropysum::expert::family::Univariate;
/// use entropysum::family::InverseGamma;
///
/// // a + ln b + ln Γ(a) - (1 + a) ψ(a) at a = 1, where ψ(1) = -γ
/// let euler = 0.577_215_664_901_532_9;
/// assert!((InverseGamma.entropy(&[1.0, 1.0]).unwrap() - (1.0 + 2.0 * euler)).abs() < 1e-14);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct InverseGamma;

impl Univariate for InverseGamma {
    fn name(&self) -> &'static str {
        "inverse-gamma"
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["shape", "scale"]
    }

    fn support(&self) -> Support {
        Support::Positive
    }

    fn statistics(&self, column: u32) -> Vec<Statistic> {
        vec![Statistic::Ln(column), Statistic::Reciprocal(column)]
    }

    /// Inverses have a gamma distribution, and these have the cube root.
    fn feature(&self, column: u32) -> Statistic {
        Statistic::Power(column, -1.0 / 3.0)
    }

    /// Also logarithms, in which clusters of very different sizes weigh alike.
    fn scales(&self, column: u32) -> Vec<Feature> {
        vec![self.features(column), Feature::single(Statistic::Ln(column))]
    }

    fn check(&self, theta: &[f64]) -> Result<(), String> {
        check_positive("shape", theta[0])?;
        check_positive("scale", theta[1])
    }

    fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64 {
        let log_partition = Gamma.natural(theta, eta);
        eta[0] = -theta[0] - 1.0;
        log_partition
    }

    fn mean(&self, theta: &[f64], mean: &mut [f64]) {
        Gamma.mean(theta, mean);
        mean[0] = -mean[0];
    }

    fn dispersion(&self, mean: &[f64]) -> Option<Dispersion> {
        Gamma.dispersion(&[-mean[0], mean[1]])
    }

    fn maximize(&self, mean: &[f64], floor: f64, theta: &mut [f64]) -> Outcome {
        Gamma.maximize(&[-mean[0], mean[1]], floor, theta)
    }

    /// That of 1 / x, and `E ln |dx / d(1/x)|` = 2 E ln x.
    fn pseudo_entropy(&self, theta: &[f64]) -> f64 {
        let mut mean = [0.0; 2];
        self.mean(theta, &mut mean);
        Gamma.pseudo_entropy(theta) + 2.0 * mean[0]
    }

    fn scaling_flow(&self, theta: &[f64]) -> Option<[f64; 2]> {
        Some([theta[0] + 1.0, theta[1]])
    }

    fn sample(&self, theta: &[f64], rng: &mut Xoshiro256PlusPlus) -> f64 {
        1.0 / Gamma.sample(theta, rng)
    }
}
