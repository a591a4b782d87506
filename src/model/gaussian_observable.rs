//! Entropy sums of Gaussian observables with any decoder: a monitor for training loops elsewhere.
//!
//! Definitions 3 and 4, Propositions 2 and 3: latents `z ~ N(0, τ 1)`, observables `x | z ~ N(μ(z), σ² 1)`, or with a
//! variance `σ_d²` for each dimension, where `μ` is any function: a matrix in p-PCA, a network in a variational
//! autoencoder. With `M` the second moment of the latents under data and posteriors, `M = ⟨|z|²⟩`, and
//! `R_d = ⟨(x_d - μ_d(z))²⟩`, the bound is
//!
//! ```text
//! F  = H̄[q] - ½ (H ln 2πτ + M / τ) - ½ Σ_d (ln 2πσ_d² + R_d / σ_d²)
//! ES = H̄[q] - ½ H ln 2πeτ          - ½ Σ_d ln 2πeσ_d²
//! F - ES = ½ (H - M / τ) + ½ Σ_d (1 - R_d / σ_d²)
//! ```
//!
//! at every point of the training. The two halves of the gap are derivatives with respect to `ln τ` and `ln σ²` (with the
//! sign turned), and vanish with the closed-form updates `τ = M / H` and `σ_d² = R_d`, or `σ² = mean R`; no weight of a
//! network has to be stationary. A prior half below 0 says that latents are spread wider than the prior, one above 0 that they
//! shrink (at a collapsed latent `M = τ` though: then look at the posterior entropy); a noise half below 0 that the noise is
//! too small for the reconstructions.

use super::EntropySum;
use std::f64::consts::{E, PI};

/// Returns the entropy `½ Σ_d ln 2πe σ_d²` of a diagonal Gaussian, in nats.
///
/// ```
/// use entropysum::expert::gaussian_observable::{diagonal_entropy, isotropic_entropy};
///
/// assert!((diagonal_entropy(&[2.0, 2.0, 2.0]) - isotropic_entropy(3, 2.0)).abs() < 1e-15);
/// ```
pub fn diagonal_entropy(variances: &[f64]) -> f64 {
    0.5 * variances.iter().map(|v| (2.0 * PI * E * v).ln()).sum::<f64>()
}

/// Returns the entropy `D/2 ln 2πe σ²` of a Gaussian with one variance, in nats.
pub fn isotropic_entropy(dim: usize, variance: f64) -> f64 {
    0.5 * dim as f64 * (2.0 * PI * E * variance).ln()
}

/// Returns the entropy `H/2 ln 2πe` of a standard normal prior, in nats.
pub(crate) fn standard_entropy(latents: usize) -> f64 {
    isotropic_entropy(latents, 1.0)
}

/// Returns the entropy `½ ln |2πe Σ|` of a Gaussian from `ln |Σ|`, in nats.
pub(crate) fn entropy_of_log_det(dim: usize, log_det: f64) -> f64 {
    0.5 * (dim as f64 * (2.0 * PI * E).ln() + log_det)
}

/// Computes the half of the gap that a standard normal prior leaves: `½ (H - ⟨|z|²⟩)`.
pub fn prior_gap(latents: usize, second_moment: f64) -> f64 {
    0.5 * (latents as f64 - second_moment)
}

/// Computes the half of the gap that the noise leaves: `½ Σ_d (1 - R_d / σ_d²)`, with one variance for all dimensions or one each.
///
/// # Panics
/// If there is neither one variance nor one a residual.
pub fn noise_gap(residuals: &[f64], variances: &[f64]) -> f64 {
    if let [variance] = variances {
        return 0.5 * (residuals.len() as f64 - residuals.iter().sum::<f64>() / variance);
    }
    assert_eq!(residuals.len(), variances.len(), "one variance a dimension");
    0.5 * residuals.iter().zip(variances).map(|(r, v)| 1.0 - r / v).sum::<f64>()
}

/// Running means of what the entropy sum needs of points, posteriors and reconstructions.
///
/// Feed it each point of an epoch, or of a minibatch with [`decay`](Self::decay) between batches for a running estimate.
///
/// ```
/// use entropysum::expert::gaussian_observable::GaussianMonitor;
///
/// let mut monitor = GaussianMonitor::new(1, 2);
/// // Posterior N(0.5, 0.75), the point and its reconstruction.
/// monitor.add(1.0, &[0.5], &[0.75], &[1.0, 2.0], &[0.0, 2.5]);
/// monitor.add(1.0, &[-0.5], &[0.75], &[3.0, 1.0], &[3.5, 1.0]);
/// let best = monitor.best_noise_variance();
/// assert_eq!(best, (1.0 + 0.25 + 0.25) / 4.0);
/// let report = monitor.report(1.0, &[best]);
/// assert!(report.prior_gap.abs() < 1e-15 && report.noise_gap.abs() < 1e-15);
/// assert!((report.lower_bound() - report.entropy_sum.total()).abs() < 1e-15);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct GaussianMonitor {
    weight: f64,
    posterior_entropy: f64,
    /// `E z_h²`, summed.
    latent_moments: Vec<f64>,
    /// `(x_d - μ_d)²`, summed.
    residuals: Vec<f64>,
}

/// Entropy sum and gap at one point of a training; values are nats per point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaussianReport {
    /// The entropy sum and its terms.
    pub entropy_sum: EntropySum,
    /// `½ (H - ⟨|z|²⟩ / τ)`.
    pub prior_gap: f64,
    /// `½ Σ_d (1 - R_d / σ_d²)`.
    pub noise_gap: f64,
}

impl GaussianReport {
    /// Returns the lower bound `F`: the entropy sum and both halves of the gap.
    pub fn lower_bound(&self) -> f64 {
        self.entropy_sum.total() + self.prior_gap + self.noise_gap
    }
}

impl GaussianMonitor {
    /// Makes a monitor of no points, for H latents and D dimensions.
    pub fn new(latents: usize, dim: usize) -> Self {
        Self {
            weight: 0.0,
            posterior_entropy: 0.0,
            latent_moments: vec![0.0; latents],
            residuals: vec![0.0; dim],
        }
    }

    /// Adds a point with a diagonal Gaussian posterior `N(mean, diag variances)` and its reconstruction `μ(z)`.
    ///
    /// With several samples of `z` for a point call it once for each, with the weight divided by their number.
    ///
    /// # Panics
    /// If shapes differ: `mean, variances: H`; `point, reconstruction: D`.
    pub fn add(
        &mut self,
        weight: f64,
        mean: &[f64],
        variances: &[f64],
        point: &[f64],
        reconstruction: &[f64],
    ) {
        assert!(
            mean.len() == self.latent_moments.len()
                && variances.len() == mean.len()
                && point.len() == self.residuals.len()
                && reconstruction.len() == point.len(),
            "one number a latent, one number a dimension"
        );
        self.weight += weight;
        self.posterior_entropy += weight * diagonal_entropy(variances);
        for ((sum, m), v) in self.latent_moments.iter_mut().zip(mean).zip(variances) {
            *sum += weight * (m * m + v);
        }
        for ((sum, x), y) in self.residuals.iter_mut().zip(point).zip(reconstruction) {
            *sum += weight * (x - y).powi(2);
        }
    }

    /// Adds what another monitor has seen.
    ///
    /// # Panics
    /// If shapes differ.
    pub fn merge(&mut self, other: &Self) {
        assert!(
            self.latent_moments.len() == other.latent_moments.len()
                && self.residuals.len() == other.residuals.len(),
            "monitors of one shape"
        );
        self.weight += other.weight;
        self.posterior_entropy += other.posterior_entropy;
        let add = |to: &mut [f64], from: &[f64]| {
            to.iter_mut().zip(from).for_each(|(sum, value)| *sum += value);
        };
        add(&mut self.latent_moments, &other.latent_moments);
        add(&mut self.residuals, &other.residuals);
    }

    /// Scales the weights of all points so far, so that later ones count more. `0.9` between minibatches forgets in about ten.
    pub fn decay(&mut self, factor: f64) {
        self.weight *= factor;
        self.posterior_entropy *= factor;
        self.latent_moments.iter_mut().chain(&mut self.residuals).for_each(|sum| *sum *= factor);
    }

    /// Returns the total weight of the points so far.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// Returns the mean entropy of the posteriors, in nats.
    pub fn mean_posterior_entropy(&self) -> f64 {
        self.posterior_entropy / self.weight
    }

    /// Computes `⟨z_h²⟩`, H values.
    pub fn latent_moments(&self) -> Vec<f64> {
        self.latent_moments.iter().map(|sum| sum / self.weight).collect()
    }

    /// Computes `R_d = ⟨(x_d - μ_d(z))²⟩`, D values: the noise variances that close their half of the gap.
    pub fn residuals(&self) -> Vec<f64> {
        self.residuals.iter().map(|sum| sum / self.weight).collect()
    }

    /// Computes `σ² = mean_d R_d`: the one noise variance that closes its half of the gap.
    pub fn best_noise_variance(&self) -> f64 {
        self.residuals.iter().sum::<f64>() / (self.weight * self.residuals.len() as f64)
    }

    /// Computes `τ = ⟨|z|²⟩ / H`: the prior variance that closes its half of the gap.
    pub fn best_prior_variance(&self) -> f64 {
        self.latent_moments.iter().sum::<f64>() / (self.weight * self.latent_moments.len() as f64)
    }

    /// Returns the entropy sum and gap with prior variance `τ` (1 where the prior is standard normal) and one noise variance, or one
    /// a dimension.
    ///
    /// # Panics
    /// If there is neither one noise variance nor one a dimension.
    pub fn report(&self, prior_variance: f64, noise_variances: &[f64]) -> GaussianReport {
        let (latents, dim) = (self.latent_moments.len(), self.residuals.len());
        let observable = match noise_variances {
            [variance] => isotropic_entropy(dim, *variance),
            variances => diagonal_entropy(variances),
        };
        GaussianReport {
            entropy_sum: EntropySum {
                posterior: self.mean_posterior_entropy(),
                prior: isotropic_entropy(latents, prior_variance),
                hidden: 0.0,
                observable,
                base_measure: 0.0,
            },
            prior_gap: prior_gap(
                latents,
                self.latent_moments().iter().sum::<f64>() / prior_variance,
            ),
            noise_gap: noise_gap(&self.residuals(), noise_variances),
        }
    }
}
