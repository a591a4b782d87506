//! Weibull distributions of known shape k (Prop. 5; Prop. 4 for k = 1, the exponential distribution).
//!
//! `p(x) = (k / ℓ) (x / ℓ)^(k-1) exp(-(x / ℓ)^k)`: `η = -ℓ^-k`, `T = x^k`, `A = k ln ℓ`, `ln h = ln k + (k - 1) ln x`, pseudo
//! entropy `1 + k ln ℓ`, entropy `γ (1 - 1/k) + ln(ℓ / k) + 1`.

use super::gamma::check_positive;
use super::independent::Dispersion;
use super::{BaseMeasure, Outcome, Statistic, Support, Univariate};
use rand_distr::{Distribution, Exp1};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Euler's constant γ.
const EULER: f64 = 0.577_215_664_901_532_9;

/// A value of scale ℓ > 0.
///
/// ```
/// use entropysum::expert::family::Univariate;
/// use entropysum::family::Weibull;
///
/// let exponential = Weibull::new(1.0)?;
/// assert!((exponential.entropy(&[0.5]).unwrap() - (1.0 - 2f64.ln())).abs() < 1e-14);
/// assert!(Weibull::new(0.0).is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Weibull {
    shape: f64,
}

impl Weibull {
    /// Makes a column of this shape.
    ///
    /// # Errors
    /// Returns a message if `shape` is not a number above 0.
    pub fn new(shape: f64) -> Result<Self, String> {
        check_positive("shape", shape).map(|()| Self { shape })
    }
}

impl Univariate for Weibull {
    fn name(&self) -> &'static str {
        "weibull"
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["scale"]
    }

    fn known(&self) -> Vec<(&'static str, f64)> {
        vec![("shape", self.shape)]
    }

    /// At 0 the density is 0 or infinite unless the shape is 1.
    fn support(&self) -> Support {
        if self.shape == 1.0 { Support::NonNegative } else { Support::Positive }
    }

    fn statistics(&self, column: u32) -> Vec<Statistic> {
        vec![Statistic::Power(column, self.shape)]
    }

    fn log_base_measure(&self, column: u32) -> BaseMeasure {
        if self.shape == 1.0 {
            return BaseMeasure::default();
        }
        let terms = vec![(Statistic::Ln(column), self.shape - 1.0)];
        BaseMeasure { terms, constant: self.shape.ln() }
    }

    fn feature(&self, column: u32) -> Statistic {
        Statistic::Power(column, 0.5)
    }

    fn check(&self, theta: &[f64]) -> Result<(), String> {
        check_positive("scale", theta[0])?;
        let mean = theta[0].powf(self.shape);
        match mean.is_normal() && mean.recip().is_normal() {
            true => Ok(()),
            false => Err(format!("scale is {}, out of range for shape {}", theta[0], self.shape)),
        }
    }

    fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64 {
        eta[0] = -theta[0].powf(-self.shape);
        self.shape * theta[0].ln()
    }

    fn mean(&self, theta: &[f64], mean: &mut [f64]) {
        mean[0] = theta[0].powf(self.shape);
    }

    /// The mean: where all points are 0 the density is unbounded.
    fn dispersion(&self, mean: &[f64]) -> Option<Dispersion> {
        Some(Dispersion { value: mean[0], terms: 0.0 })
    }

    fn maximize(&self, mean: &[f64], floor: f64, theta: &mut [f64]) -> Outcome {
        theta[0] = mean[0].max(floor).powf(1.0 / self.shape);
        if mean[0] >= floor { Outcome::Maximized } else { Outcome::Floored(None) }
    }

    fn pseudo_entropy(&self, theta: &[f64]) -> f64 {
        1.0 + self.shape * theta[0].ln()
    }

    fn entropy(&self, theta: &[f64]) -> Option<f64> {
        Some(EULER * (1.0 - 1.0 / self.shape) + (theta[0] / self.shape).ln() + 1.0)
    }

    fn scaling_flow(&self, theta: &[f64]) -> Option<[f64; 2]> {
        Some([-theta[0] / self.shape, 0.0])
    }

    fn sample(&self, theta: &[f64], rng: &mut Xoshiro256PlusPlus) -> f64 {
        let value: f64 = Exp1.sample(rng);
        theta[0] * value.powf(1.0 / self.shape)
    }
}
