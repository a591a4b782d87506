//! Von Mises distributions of angles (Prop. 4).
//!
//! `p(x) = exp(κ cos(x - μ)) / 2π I₀(κ)`: `η = κ (cos μ, sin μ)`, `T = (cos x, sin x)`, `A = ln 2π I₀(κ)`, mean map
//! `A₂(κ) (cos μ, sin μ)` with `A₂ = I₁ / I₀`. Angles are in radians, of any number of turns.

use super::independent::Dispersion;
use super::{Feature, Outcome, Statistic, Support, Univariate};
use crate::special::{
    bessel_ratio, bessel_ratio_inverse, von_mises_fisher_entropy, von_mises_fisher_log_partition,
};
use rand_distr::{Distribution, StandardNormal, StandardUniform};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::f64::consts::{PI, TAU};

/// An angle of mean angle μ and concentration κ ≥ 0.
///
/// ```
/// use entropysum::expert::family::Univariate;
/// use entropysum::family::VonMises;
///
/// // Without concentration all angles are alike.
/// let entropy = VonMises.pseudo_entropy(&[1.0, 0.0]);
/// assert!((entropy - (2.0 * std::f64::consts::PI).ln()).abs() < 1e-15);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct VonMises;

impl Univariate for VonMises {
    fn name(&self) -> &'static str {
        "von-mises"
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["mean_angle", "concentration"]
    }

    fn support(&self) -> Support {
        Support::Real
    }

    fn statistics(&self, column: u32) -> Vec<Statistic> {
        vec![Statistic::Cos(column), Statistic::Sin(column)]
    }

    /// Points of the circle: 0 and 2π are the same.
    fn features(&self, column: u32) -> Feature {
        Feature::group(self.statistics(column), 1)
    }

    fn check(&self, theta: &[f64]) -> Result<(), String> {
        if !theta[0].is_finite() {
            return Err(format!("mean angle is {}, expected a finite number", theta[0]));
        }
        match theta[1] {
            kappa if kappa >= 0.0 && kappa.is_finite() => Ok(()),
            kappa => Err(format!("concentration is {kappa}, expected a number ≥ 0")),
        }
    }

    fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64 {
        let (sin, cos) = theta[0].sin_cos();
        eta.copy_from_slice(&[theta[1] * cos, theta[1] * sin]);
        von_mises_fisher_log_partition(2.0, theta[1])
    }

    fn mean(&self, theta: &[f64], mean: &mut [f64]) {
        let (sin, cos) = theta[0].sin_cos();
        let (length, _) = bessel_ratio(2.0, theta[1]);
        mean.copy_from_slice(&[length * cos, length * sin]);
    }

    fn dispersion(&self, mean: &[f64]) -> Option<Dispersion> {
        Some(Dispersion { value: 1.0 - mean[0].hypot(mean[1]), terms: 1.0 })
    }

    fn maximize(&self, mean: &[f64], floor: f64, theta: &mut [f64]) -> Outcome {
        let length = mean[0].hypot(mean[1]);
        let is_floored = 1.0 - length < floor;
        theta[0] = mean[1].atan2(mean[0]);
        theta[1] = bessel_ratio_inverse(2.0, if is_floored { 1.0 - floor } else { length });
        if is_floored { Outcome::Floored(None) } else { Outcome::Maximized }
    }

    fn pseudo_entropy(&self, theta: &[f64]) -> f64 {
        von_mises_fisher_entropy(2.0, theta[1])
    }

    fn scaling_flow(&self, theta: &[f64]) -> Option<[f64; 2]> {
        Some([0.0, theta[1]])
    }

    /// Best and Fisher (1979), from a wrapped Cauchy distribution.
    fn sample(&self, theta: &[f64], rng: &mut Xoshiro256PlusPlus) -> f64 {
        let (mu, kappa) = (theta[0], theta[1]);
        let mut uniform = || -> f64 { StandardUniform.sample(rng) };
        let deviation = if kappa < 1e-8 {
            TAU * uniform() - PI
        } else if kappa > 1e6 {
            // To 1e-6 a normal distribution; r below has no digits left at 1e16.
            let z: f64 = StandardNormal.sample(rng);
            z / kappa.sqrt()
        } else {
            let tau = 1.0 + 1f64.hypot(2.0 * kappa);
            let rho = (tau - (2.0 * tau).sqrt()) / (2.0 * kappa);
            let r = (1.0 + rho * rho) / (2.0 * rho);
            loop {
                let z = (PI * uniform()).cos();
                let f = (1.0 + r * z) / (r + z);
                let c = kappa * (r - f);
                let u = uniform();
                if c * (2.0 - c) > u || (c / u).ln() + 1.0 - c >= 0.0 {
                    break if uniform() < 0.5 { -f.acos() } else { f.acos() };
                }
            }
        };
        let angle = (mu + deviation).rem_euclid(TAU);
        if angle > PI { angle - TAU } else { angle }
    }
}
