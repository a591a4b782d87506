//! One component of a mixture of factor analysers.

use crate::linalg::{Cholesky, product, row_major, symmetric_eigen};
use faer::Mat;
use std::f64::consts::TAU;

/// One component: `z ~ N(a, P)`, `x | z ~ N(μ + W (z - a), Ψ)`.
#[derive(Clone, Debug)]
pub(super) struct Component {
    /// `μ`, D values: the mean of the points.
    pub(super) mean: Vec<f64>,
    /// `W`, D × H.
    pub(super) loadings: Mat<f64>,
    /// `Ψ`, D values, the same ones where it is isotropic.
    pub(super) noise: Vec<f64>,
    /// `a`, H values; 0 but in a fit with an expanded prior.
    pub(super) latent_mean: Vec<f64>,
    /// Lower factor of `P`; the unit matrix but in a fit with an expanded prior.
    pub(super) latent_factor: Mat<f64>,
}

/// Factors of the density `N(μ, W R R' W' + Ψ)` of a component, for sweeps.
pub(super) struct Factorized {
    /// `W R`, D × H.
    pub(super) loadings: Mat<f64>,
    /// `L⁻¹`, lower.
    pub(super) inverse: Mat<f64>,
    /// `A = Ψ⁻¹ W R L'⁻¹`, D × H.
    pub(super) projection: Mat<f64>,
    /// `tr(I + R' W' Ψ⁻¹ W R)`.
    pub(super) trace: f64,
    /// `ln det(2π (W R R' W' + Ψ))`.
    pub(super) log_det_2pi: f64,
    /// `ln det(R L'⁻¹)`: half the log-determinant of the posterior covariance of `z`.
    pub(super) half_log_det_posterior: f64,
}

impl Component {
    pub(super) fn latents(&self) -> usize {
        self.loadings.ncols()
    }

    /// Computes `W R`: the loadings of a latent of unit variance.
    pub(super) fn unit_loadings(&self) -> Mat<f64> {
        product(self.loadings.as_ref(), self.latent_factor.as_ref())
    }

    /// `None` where variances are not positive, or numbers leave the range of `f64`.
    pub(super) fn factorize(&self) -> Option<Factorized> {
        let (dim, latents) = (self.mean.len(), self.latents());
        let valid = |v: f64| v > 0.0 && v.is_finite() && v.recip().is_finite();
        self.noise.iter().all(|&v| valid(v)).then_some(())?;
        let loadings = self.unit_loadings();
        let white = Mat::from_fn(dim, latents, |d, h| loadings[(d, h)] / self.noise[d].sqrt());
        let mut inner = product(white.transpose(), white.as_ref());
        for h in 0..latents {
            inner[(h, h)] += 1.0;
        }
        let trace = (0..latents).map(|h| inner[(h, h)]).sum();
        let cholesky = Cholesky::new(&row_major(inner.as_ref()), latents)?;
        let inverse = cholesky.inverse_factor();
        let mut projection = product(white.as_ref(), inverse.transpose());
        for h in 0..latents {
            for d in 0..dim {
                projection[(d, h)] /= self.noise[d].sqrt();
            }
        }
        let log_det_noise: f64 = self.noise.iter().map(|v| v.ln()).sum();
        let log_det_2pi = dim as f64 * TAU.ln() + log_det_noise + cholesky.log_det();
        let half_log_det_posterior = self.half_log_det_prior() - 0.5 * cholesky.log_det();
        (log_det_2pi.is_finite() && half_log_det_posterior.is_finite()).then_some(Factorized {
            loadings,
            inverse,
            projection,
            trace,
            log_det_2pi,
            half_log_det_posterior,
        })
    }

    /// Computes `½ ln det P`.
    pub(super) fn half_log_det_prior(&self) -> f64 {
        (0..self.latents()).map(|h| self.latent_factor[(h, h)].ln()).sum()
    }

    /// Returns the same density with the prior `N(0, I)`, and with loadings that are orthogonal in the metric of the noise,
    /// longest first, each with its largest entry positive.
    pub(super) fn canonical(mut self) -> Self {
        let (dim, latents) = (self.mean.len(), self.latents());
        let unit = self.unit_loadings();
        let white = Mat::from_fn(dim, latents, |d, h| unit[(d, h)] / self.noise[d].sqrt());
        let inner = product(white.transpose(), white.as_ref());
        self.loadings = match symmetric_eigen(&row_major(inner.as_ref()), latents) {
            Some((_, vectors)) => {
                let mut rotated = product(unit.as_ref(), vectors.as_ref());
                rotated = Mat::from_fn(dim, latents, |d, h| rotated[(d, latents - 1 - h)]);
                for h in 0..latents {
                    let largest = (0..dim)
                        .map(|d| rotated[(d, h)])
                        .fold(0.0, |m: f64, v| if v.abs() > m.abs() { v } else { m });
                    if largest < 0.0 {
                        rotated.col_mut(h).iter_mut().for_each(|v| *v = -*v);
                    }
                }
                rotated
            }
            None => unit,
        };
        self.latent_mean = vec![0.0; latents];
        self.latent_factor = Mat::identity(latents, latents);
        self
    }

    /// Returns the longest axis of `W W'`, one standard deviation long; that of the noise where there are no loadings.
    pub(super) fn longest_axis(&self) -> Vec<f64> {
        let unit = self.unit_loadings();
        let inner = product(unit.transpose(), unit.as_ref());
        let mut axis = vec![0.0; self.mean.len()];
        if let Some((_, vectors)) = symmetric_eigen(&row_major(inner.as_ref()), self.latents()) {
            let last = vectors.subcols(self.latents() - 1, 1);
            let along = product(unit.as_ref(), last);
            axis.iter_mut().enumerate().for_each(|(d, a)| *a = along[(d, 0)]);
        }
        if axis.iter().all(|&a| a == 0.0) {
            let widest = (0..axis.len()).max_by(|&i, &j| self.noise[i].total_cmp(&self.noise[j]));
            if let Some(d) = widest {
                axis[d] = self.noise[d].sqrt();
            }
        }
        axis
    }
}

pub(super) fn factorized(component: &Component) -> Factorized {
    component.factorize().expect("components of a model have a density")
}
