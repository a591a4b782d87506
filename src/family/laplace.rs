//! Laplace distributions of known location m (Prop. 4).
//!
//! `p(x) = exp(-|x - m| / b) / 2b`: `η = -1 / b`, `T = |x - m|`, `A = ln 2b`, entropy `1 + ln 2b`.

use super::gamma::check_positive;
use super::independent::Dispersion;
use super::{Outcome, Statistic, Support, Univariate};
use rand_distr::{Distribution, Exp1, StandardUniform};
use rand_xoshiro::Xoshiro256PlusPlus;

/// A value of scale b > 0.
///
/// ```
/// use entropysum::expert::family::Univariate;
/// use entropysum::family::Laplace;
///
/// assert_eq!(Laplace::new(3.0)?.entropy(&[0.5]), Some(1.0));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Laplace {
    location: f64,
}

impl Laplace {
    /// Makes a column with this location.
    ///
    /// # Errors
    /// Returns no error: any finite number is a location.
    pub fn new(location: f64) -> Result<Self, String> {
        Ok(Self { location })
    }
}

impl Univariate for Laplace {
    fn name(&self) -> &'static str {
        "laplace"
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["scale"]
    }

    fn known(&self) -> Vec<(&'static str, f64)> {
        vec![("location", self.location)]
    }

    fn support(&self) -> Support {
        Support::Real
    }

    fn statistics(&self, column: u32) -> Vec<Statistic> {
        vec![Statistic::AbsDeviation(column, self.location)]
    }

    /// Components differ in scale, not in location.
    fn feature(&self, column: u32) -> Statistic {
        Statistic::AbsDeviation(column, self.location)
    }

    fn check(&self, theta: &[f64]) -> Result<(), String> {
        check_positive("scale", theta[0])
    }

    fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64 {
        eta[0] = -1.0 / theta[0];
        (2.0 * theta[0]).ln()
    }

    fn mean(&self, theta: &[f64], mean: &mut [f64]) {
        mean[0] = theta[0];
    }

    /// The scale: where all points are at the location the density is unbounded.
    fn dispersion(&self, mean: &[f64]) -> Option<Dispersion> {
        Some(Dispersion { value: mean[0], terms: 0.0 })
    }

    fn maximize(&self, mean: &[f64], floor: f64, theta: &mut [f64]) -> Outcome {
        theta[0] = mean[0].max(floor);
        if mean[0] >= floor { Outcome::Maximized } else { Outcome::Floored(None) }
    }

    fn pseudo_entropy(&self, theta: &[f64]) -> f64 {
        1.0 + (2.0 * theta[0]).ln()
    }

    fn scaling_flow(&self, theta: &[f64]) -> Option<[f64; 2]> {
        Some([-theta[0], 0.0])
    }

    fn sample(&self, theta: &[f64], rng: &mut Xoshiro256PlusPlus) -> f64 {
        let (value, is_above): (f64, bool) = (Exp1.sample(rng), StandardUniform.sample(rng));
        self.location + if is_above { theta[0] * value } else { -theta[0] * value }
    }
}
