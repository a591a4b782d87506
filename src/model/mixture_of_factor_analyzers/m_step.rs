//! The M-step: a regression of points on latents for each component, from its statistics alone.

use super::{Component, MixtureOfFactorAnalyzers, NoiseStructure};
use crate::family::{Outcome, Regularization, floor};
use crate::linalg::{Cholesky, product, row_major};
use crate::model::GenerativeModel;
use crate::stats::SuffStats;
use crate::work::{self, Workers};
use faer::{Mat, MatRef};
use std::f64::consts::TAU;
use std::ops::Range;

/// Where the statistics of a component stand, each a sum over points of `w_n q_n(c)` times
///
/// | part | size | times |
/// |---|---|---|
/// | `first` | D | `x - k` |
/// | `second` | D | `(x_d - k_d)²` |
/// | `latent` | H | `E[z]` |
/// | `cross` | D × H, column-major | `(x - k) E[z]'` |
/// | `latent_second` | H × H | `E[z z']` |
pub(super) struct Layout {
    pub(super) first: Range<usize>,
    pub(super) second: Range<usize>,
    pub(super) latent: Range<usize>,
    pub(super) cross: Range<usize>,
    pub(super) latent_second: Range<usize>,
}

impl Layout {
    pub(super) fn new(dim: usize, latents: usize) -> Self {
        let mut end = 0;
        let mut next = |len: usize| {
            end += len;
            end - len..end
        };
        Self {
            first: next(dim),
            second: next(dim),
            latent: next(latents),
            cross: next(dim * latents),
            latent_second: next(latents * latents),
        }
    }
}

/// Returns the number of statistics L of a component.
pub(super) fn n_statistics(dim: usize, latents: usize) -> usize {
    Layout::new(dim, latents).latent_second.end
}

/// Means and central second moments of the points and latents of one component.
pub(super) struct Moments {
    /// Mean of `x`.
    mean: Vec<f64>,
    /// Variance of `x` in each dimension.
    variances: Vec<f64>,
    /// Mean of `z`.
    latent_mean: Vec<f64>,
    /// Covariance of `x` and `z`, D × H.
    cross: Mat<f64>,
    /// Covariance of `z`, H × H.
    latent_covariance: Mat<f64>,
}

impl Moments {
    /// `None` where the component has no mass, or its moments are no finite numbers.
    pub(super) fn new(stats: &SuffStats, component: usize, latents: usize) -> Option<Self> {
        let (mass, sums, centre) =
            (stats.mass()[component], stats.sums(component), stats.centre(component));
        let dim = centre.len();
        let layout = Layout::new(dim, latents);
        let over = |range: Range<usize>| sums[range].iter().map(|s| s / mass).collect::<Vec<_>>();
        let shift = over(layout.first);
        let second = over(layout.second);
        let latent_mean = over(layout.latent);
        let cross = &sums[layout.cross];
        let latent_second = &sums[layout.latent_second];
        let moments = Self {
            mean: centre.iter().zip(&shift).map(|(k, s)| k + s).collect(),
            // Rounding may leave the variance of a constant below zero.
            variances: second.iter().zip(&shift).map(|(v, s)| (v - s * s).max(0.0)).collect(),
            cross: Mat::from_fn(dim, latents, |d, h| {
                cross[h * dim + d] / mass - shift[d] * latent_mean[h]
            }),
            latent_covariance: Mat::from_fn(latents, latents, |g, h| {
                let symmetric = latent_second[g * latents + h] + latent_second[h * latents + g];
                0.5 * symmetric / mass - latent_mean[g] * latent_mean[h]
            }),
            latent_mean,
        };
        let finite = moments.mean.iter().chain(&moments.variances).all(|v| v.is_finite())
            && row_major(moments.cross.as_ref()).iter().all(|v| v.is_finite());
        (mass > 0.0 && finite).then_some(moments)
    }

    /// Returns the mean squares of `x - μ - W (z - a)` in each dimension.
    fn residuals(&self, mean: &[f64], loadings: MatRef<'_, f64>, latent_mean: &[f64]) -> Vec<f64> {
        let explained = product(loadings, self.latent_covariance.as_ref());
        let latents = loadings.ncols();
        (0..mean.len())
            .map(|d| {
                let (mut square, mut bias) = (self.variances[d], self.mean[d] - mean[d]);
                for h in 0..latents {
                    square += loadings[(d, h)] * (explained[(d, h)] - 2.0 * self.cross[(d, h)]);
                    bias -= loadings[(d, h)] * (self.latent_mean[h] - latent_mean[h]);
                }
                (square + bias * bias).max(0.0)
            })
            .collect()
    }

    /// Computes `E[ln p(z | c) + ln p(x | z, c)]` under the posteriors that made the moments.
    pub(super) fn log_likelihood(&self, component: &Component) -> f64 {
        let latents = component.latents();
        let log_tau = TAU.ln();
        // |R⁻¹ (z - a)|² on average, by forward substitution in the factor of the moments.
        let factor = component.latent_factor.as_ref();
        let mut second = self.latent_covariance.clone();
        for g in 0..latents {
            for h in 0..latents {
                second[(g, h)] += (self.latent_mean[g] - component.latent_mean[g])
                    * (self.latent_mean[h] - component.latent_mean[h]);
            }
        }
        let inverse = lower_inverse(factor);
        let whitened = product(inverse.as_ref(), second.as_ref());
        let trace: f64 = (0..latents)
            .map(|g| (0..=g).map(|h| whitened[(g, h)] * inverse[(g, h)]).sum::<f64>())
            .sum();
        let prior = -0.5 * (latents as f64 * log_tau + trace) - component.half_log_det_prior();
        let residuals =
            self.residuals(&component.mean, component.loadings.as_ref(), &component.latent_mean);
        let observable: f64 = residuals
            .iter()
            .zip(&component.noise)
            .map(|(r, v)| -0.5 * (log_tau + v.ln() + r / v))
            .sum();
        prior + observable
    }
}

/// Inverts a small lower triangular matrix.
fn lower_inverse(factor: MatRef<'_, f64>) -> Mat<f64> {
    let n = factor.nrows();
    let mut inverse = Mat::zeros(n, n);
    for column in 0..n {
        for i in column..n {
            let unit = if i == column { 1.0 } else { 0.0 };
            let known: f64 = (column..i).map(|k| factor[(i, k)] * inverse[(k, column)]).sum();
            inverse[(i, column)] = (unit - known) / factor[(i, i)];
        }
    }
    inverse
}

/// Moves the sums of one component about `k` to `k + shift`: `x` is moved, and `z` is not.
pub(super) fn translate(sums: &mut [f64], mass: f64, shift: &[f64], latents: usize) {
    let dim = shift.len();
    let layout = Layout::new(dim, latents);
    for (d, step) in shift.iter().enumerate() {
        let first = sums[layout.first.start + d];
        sums[layout.second.start + d] += (mass * step - 2.0 * first) * step;
        sums[layout.first.start + d] -= mass * step;
        for h in 0..latents {
            sums[layout.cross.start + h * dim + d] -= step * sums[layout.latent.start + h];
        }
    }
}

impl Component {
    /// Returns the expected sums of `mass` points of this component about `centre`.
    pub(super) fn expected_sums(&self, mass: f64, centre: &[f64], sums: &mut [f64]) {
        let (dim, latents) = (self.mean.len(), self.latents());
        let layout = Layout::new(dim, latents);
        let unit = self.unit_loadings();
        let factor = self.latent_factor.as_ref();
        // Cov(x, z) = W P, Cov(z) = P = R R'.
        let cross = product(unit.as_ref(), factor.transpose());
        let prior = product(factor, factor.transpose());
        for d in 0..dim {
            let step = self.mean[d] - centre[d];
            let explained: f64 = unit.row(d).iter().map(|w| w * w).sum();
            sums[layout.first.start + d] = mass * step;
            sums[layout.second.start + d] = mass * (step * step + explained + self.noise[d]);
            for h in 0..latents {
                sums[layout.cross.start + h * dim + d] =
                    mass * (cross[(d, h)] + step * self.latent_mean[h]);
            }
        }
        for g in 0..latents {
            sums[layout.latent.start + g] = mass * self.latent_mean[g];
            for h in 0..latents {
                sums[layout.latent_second.start + g * latents + h] =
                    mass * (prior[(g, h)] + self.latent_mean[g] * self.latent_mean[h]);
            }
        }
    }
}

impl MixtureOfFactorAnalyzers {
    /// Sets the parameters of the components marked in `update` to those that maximise the bound.
    ///
    /// `W = S_xz S_zz⁻¹` in central moments is the regression of Ghahramani & Hinton, whose constant term is the mean of
    /// `x` where the mean of `z` is that of its prior.
    pub(super) fn maximize(
        &mut self,
        stats: &SuffStats,
        update: &[bool],
        regularization: &Regularization,
        workers: &dyn Workers,
    ) -> Vec<Outcome> {
        let (n_components, per_piece) = (self.n_components(), self.per_piece());
        let moments = work::map(workers, n_components, per_piece, |c| self.moments(stats, c));
        let found = self.find_floors(stats, &moments, regularization);
        floor::hold(&mut self.floors, found);
        let floors = floor::above_rounding(&self.floors, &regularization.resolution);
        let mut found = work::map(workers, n_components, per_piece, |c| {
            let moments = moments[c].as_ref().filter(|_| update[c]);
            moments.and_then(|moments| self.regression(c, moments))
        });
        if self.noise == NoiseStructure::Tied {
            self.tie(stats.mass(), &mut found);
        }
        let mut outcomes = vec![Outcome::Maximized; n_components];
        let mut each: Vec<_> = found.iter_mut().zip(&mut outcomes).zip(update).collect();
        work::for_pieces(workers, &mut each, per_piece, |_, each| {
            for ((component, outcome), update) in each {
                let floored = component.as_mut().and_then(|component| {
                    self.noise.regularize(&mut component.noise, &floors, regularization)
                });
                // Statistics on the verge of overflow define no density.
                if component.as_ref().is_none_or(|component| component.factorize().is_none()) {
                    **component = None;
                    **outcome = if **update { Outcome::Degenerate } else { Outcome::Maximized };
                } else if let Some(column) = floored.filter(|_| **update) {
                    **outcome = Outcome::Floored(column);
                }
            }
        });
        // What is tied changes for all components or for none.
        if self.noise != NoiseStructure::Tied || found.iter().all(Option::is_some) {
            for (old, new) in self.components.iter_mut().zip(found) {
                if let Some(new) = new {
                    *old = new;
                }
            }
        }
        outcomes
    }

    /// Returns the component of these moments, with its residual variances as they are.
    fn regression(&self, component: usize, moments: &Moments) -> Option<Component> {
        let (dim, latents) = (self.dim(), self.n_latents());
        let covariance = row_major(moments.latent_covariance.as_ref());
        let cholesky = Cholesky::new(&covariance, latents)?;
        let inverse = cholesky.inverse_factor();
        let scaled = product(moments.cross.as_ref(), inverse.transpose());
        let loadings = product(scaled.as_ref(), inverse.as_ref());
        let (mean, latent_mean, latent_factor) = if self.expands {
            let factor = cholesky.factor().to_owned();
            (moments.mean.clone(), moments.latent_mean.clone(), factor)
        } else {
            let Component { latent_mean, latent_factor, .. } = self.components[component].clone();
            let shift =
                |d: usize, h: usize| loadings[(d, h)] * (moments.latent_mean[h] - latent_mean[h]);
            let mean = (0..dim)
                .map(|d| moments.mean[d] - (0..latents).map(|h| shift(d, h)).sum::<f64>())
                .collect();
            (mean, latent_mean, latent_factor)
        };
        let noise = moments.residuals(&mean, loadings.as_ref(), &latent_mean);
        Some(Component { mean, loadings, noise, latent_mean, latent_factor })
    }

    /// Sets the noise of all components to the average over those that were found. Other parameters stay as they are.
    fn tie(&self, mass: &[f64], found: &mut [Option<Component>]) {
        let mut noise = vec![0.0; self.dim()];
        let mut total = 0.0;
        for (component, mass) in found.iter().zip(mass) {
            if let Some(component) = component {
                total += mass;
                noise.iter_mut().zip(&component.noise).for_each(|(sum, v)| *sum += mass * v);
            }
        }
        if total > 0.0 {
            noise.iter_mut().for_each(|sum| *sum /= total);
            for (component, old) in found.iter_mut().zip(&self.components) {
                component.get_or_insert_with(|| old.clone()).noise.clone_from(&noise);
            }
        }
    }

    /// Computes lower limits of the noise variances: a small part of the pooled within-component variance, as for Gaussians.
    ///
    /// Residuals are differences of H + 1 terms as large as that.
    fn find_floors(
        &self,
        stats: &SuffStats,
        moments: &[Option<Moments>],
        regularization: &Regularization,
    ) -> Vec<f64> {
        let mut pooled = vec![0.0; self.dim()];
        let (mut masses, mut means) = (Vec::new(), Vec::new());
        for (moments, &mass) in moments.iter().zip(stats.mass()) {
            if let Some(moments) = moments {
                masses.push(mass);
                means.push(moments.mean.clone());
                for (sum, variance) in pooled.iter_mut().zip(&moments.variances) {
                    *sum += mass * variance;
                }
            }
        }
        if masses.is_empty() {
            return pooled;
        }
        let total: f64 = masses.iter().sum();
        pooled.iter_mut().for_each(|v| *v /= total);
        let rounding = floor::ROUNDINGS * (self.n_latents() + 1) as f64 * regularization.rounding;
        let relative = match regularization.reg_covar {
            None => rounding.max(floor::RELATIVE),
            Some(_) => rounding,
        };
        floor::floors(&masses, &means, &pooled, relative)
    }
}

impl NoiseStructure {
    /// Gives the residual variances the structure of the noise and lifts them to their floors. Where one binds, returns the column that was lifted the
    /// most, if columns have noise of their own.
    fn regularize(
        self,
        variances: &mut [f64],
        floors: &[f64],
        regularization: &Regularization,
    ) -> Option<Option<usize>> {
        let dim = variances.len() as f64;
        if self == Self::Isotropic {
            let mean = variances.iter().sum::<f64>() / dim;
            variances.fill(mean);
        }
        let mean_floor = floors.iter().sum::<f64>() / dim;
        let mut most: Option<(f64, usize)> = None;
        for (d, (variance, &own)) in variances.iter_mut().zip(floors).enumerate() {
            let floor = if self == Self::Isotropic { mean_floor } else { own };
            *variance += regularization.reg_covar.unwrap_or(0.0);
            if !(*variance >= floor) {
                let lifted = (floor - *variance) / floor;
                if most.is_none_or(|(most, _)| lifted > most) {
                    most = Some((lifted, d));
                }
                *variance = floor;
            }
        }
        most.map(|(_, d)| (self != Self::Isotropic).then_some(d))
    }
}
