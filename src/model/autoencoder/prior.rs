//! Priors of a latent with one scale: their entropies, moments under Gaussian posteriors, and derivatives of these.

use std::f64::consts::{E, FRAC_1_SQRT_2, PI};

/// The prior of the latents, which are independent.
///
/// For all of them the statistic is `|z|^p`, its mean under the prior is the scale, and the half of the gap is `(1 - M / scale) / p`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LatentPrior {
    /// `N(0, 1)`; p = 2. While a fit lasts its variances are free, and the networks absorb them when the fit ends.
    #[default]
    Standard,
    /// `N(0, α_h)` with a variance for each latent; p = 2.
    Learned,
    /// `exp(-|z| / λ) / 2λ`, for sparse codes; p = 1. The networks absorb the scales when a fit ends.
    Laplace,
}

/// What the bound needs of the prior at one posterior `N(m, s²)` of a latent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PriorTerm {
    /// `E |z|^p`.
    pub moment: f64,
    /// Derivatives of the cross entropy `-E ln p(z)` with respect to `m` and `s`.
    pub at_mean: f64,
    pub at_deviation: f64,
}

impl LatentPrior {
    /// All priors.
    pub const ALL: [Self; 3] = [Self::Standard, Self::Learned, Self::Laplace];

    /// Returns the name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Learned => "learned",
            Self::Laplace => "laplace",
        }
    }

    /// Returns the entropy of the prior, in nats.
    pub(super) fn entropy(self, scale: f64) -> f64 {
        match self {
            Self::Standard | Self::Learned => 0.5 * (2.0 * PI * E * scale).ln(),
            Self::Laplace => (2.0 * E * scale).ln(),
        }
    }

    /// Returns `-E ln p(z)` from the moment `E |z|^p`, in nats.
    pub(super) fn cross_entropy(self, scale: f64, moment: f64) -> f64 {
        match self {
            Self::Standard | Self::Learned => 0.5 * ((2.0 * PI * scale).ln() + moment / scale),
            Self::Laplace => (2.0 * scale).ln() + moment / scale,
        }
    }

    /// Returns the half of the gap, entropy minus cross entropy.
    pub(super) fn gap(self, scale: f64, moment: f64) -> f64 {
        match self {
            Self::Standard | Self::Learned => 0.5 * (1.0 - moment / scale),
            Self::Laplace => 1.0 - moment / scale,
        }
    }

    /// Returns the power p of the statistic `|z|^p`.
    pub(super) fn power(self) -> i32 {
        match self {
            Self::Standard | Self::Learned => 2,
            Self::Laplace => 1,
        }
    }

    /// Returns the number by which latents of this scale are wider than those of scale 1.
    pub(super) fn width(self, scale: f64) -> f64 {
        match self {
            Self::Standard | Self::Learned => scale.sqrt(),
            Self::Laplace => scale,
        }
    }

    /// Returns the least divergence of a Gaussian posterior from the prior, that of a latent that says nothing of the points.
    ///
    /// For a Laplace prior, `ln 2 + ½ ln(2/π) + 1 - ½ ln 2πe = 0.0484` at `s = λ √(π/2)`.
    pub(super) fn divergence_of_unused(self) -> f64 {
        match self {
            Self::Standard | Self::Learned => 0.0,
            Self::Laplace => 2f64.ln() + 0.5 * (2.0 / PI).ln() + 1.0 - 0.5 * (2.0 * PI * E).ln(),
        }
    }

    /// Computes moment and derivatives at a posterior.
    ///
    /// For a Laplace prior, with `a = |m| / s`: `E|z| = |m| + s (√(2/π) e^{-a²/2} - a erfc(a/√2))`, `∂/∂m = erf(m / s√2)` and
    /// `∂/∂s = √(2/π) e^{-a²/2}`.
    pub(super) fn term(self, scale: f64, mean: f64, deviation: f64) -> PriorTerm {
        match self {
            Self::Standard | Self::Learned => PriorTerm {
                moment: mean * mean + deviation * deviation,
                at_mean: mean / scale,
                at_deviation: deviation / scale,
            },
            Self::Laplace => {
                let a = mean.abs() / deviation.max(f64::MIN_POSITIVE);
                let tail = libm::erfc(a * FRAC_1_SQRT_2);
                let peak = (2.0 / PI).sqrt() * (-0.5 * a * a).exp();
                // At a deviation that is 0 to rounding, a and the tail are infinite and 0.
                let beyond = if tail > 0.0 { peak - a * tail } else { 0.0 };
                PriorTerm {
                    moment: mean.abs() + deviation * beyond,
                    at_mean: mean.signum() * (1.0 - tail) / scale,
                    at_deviation: peak / scale,
                }
            }
        }
    }

    /// Returns `ln p(z)`, in nats.
    pub(super) fn log_density(self, scale: f64, z: f64) -> f64 {
        match self {
            Self::Standard | Self::Learned => -0.5 * ((2.0 * PI * scale).ln() + z * z / scale),
            Self::Laplace => -(2.0 * scale).ln() - z.abs() / scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `E f(z)` under `N(m, s²)` by the trapezoidal rule, which converges faster than any power where `f` is smooth.
    fn expectation(mean: f64, deviation: f64, f: impl Fn(f64) -> f64) -> f64 {
        const STEPS: i32 = 400_000;
        let step = 24.0 / f64::from(STEPS);
        let density = |e: f64| (-0.5 * e * e).exp() / (2.0 * PI).sqrt();
        let point = |i: i32| -12.0 + step * f64::from(i);
        (0..=STEPS).map(|i| step * density(point(i)) * f(mean + deviation * point(i))).sum()
    }

    #[test]
    fn moments_and_derivatives_are_those_of_the_integrals() {
        for prior in LatentPrior::ALL {
            for (scale, mean, deviation) in [(0.7, 0.3, 0.9), (1.6, -2.0, 0.4), (1.0, 0.0, 1.0)] {
                let cross = |m: f64, s: f64| expectation(m, s, |z| -prior.log_density(scale, z));
                let term = prior.term(scale, mean, deviation);
                let error = prior.cross_entropy(scale, term.moment) - cross(mean, deviation);
                assert!(error.abs() < 1e-8, "{prior:?}: {error}");
                let h = 1e-3;
                let slope = (cross(mean + h, deviation) - cross(mean - h, deviation)) / (2.0 * h);
                assert!((term.at_mean - slope).abs() < 1e-5, "{prior:?}");
                let slope = (cross(mean, deviation + h) - cross(mean, deviation - h)) / (2.0 * h);
                assert!((term.at_deviation - slope).abs() < 1e-5, "{prior:?}");
            }
        }
    }

    #[test]
    fn an_unused_latent_has_the_least_divergence() {
        for prior in LatentPrior::ALL {
            let divergence = |m: f64, s: f64| {
                let moment = prior.term(0.8, m, s).moment;
                prior.cross_entropy(0.8, moment) - 0.5 * (2.0 * PI * E * s * s).ln()
            };
            let best = match prior {
                LatentPrior::Laplace => 0.8 * (PI / 2.0).sqrt(),
                _ => 0.8f64.sqrt(),
            };
            let least = divergence(0.0, best);
            assert!((least - prior.divergence_of_unused()).abs() < 1e-15, "{prior:?} {least}");
            for (m, s) in [(0.1, best), (0.0, 1.1 * best), (0.0, 0.9 * best)] {
                assert!(divergence(m, s) > least + 1e-4, "{prior:?}");
            }
        }
        let nats = LatentPrior::Laplace.divergence_of_unused();
        assert!((nats - 0.048417).abs() < 1e-6, "{nats}");
    }

    #[test]
    fn the_moment_under_a_laplace_prior_stays_exact_far_out() {
        let far = LatentPrior::Laplace.term(1.0, -40.0, 0.5);
        assert_eq!((far.moment, far.at_mean, far.at_deviation), (40.0, -1.0, 0.0));
        let point = LatentPrior::Laplace.term(2.0, 3.0, 0.0);
        assert_eq!((point.moment, point.at_mean, point.at_deviation), (3.0, 0.5, 0.0));
    }
}
