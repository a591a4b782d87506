//! Points with missing entries: their densities and latents given the observed ones, and EM over these.
//!
//! A point is seen through its observed dimensions `o`: its posterior is `N(m, G_o)` with `G_o = (1 + W_o' Ψ_o⁻¹ W_o)⁻¹`, the
//! same `G_o` for all points of one pattern. The M-step of a dimension sees the points that have it: with `z̃ = (z, 1)`,
//!
//! ```text
//! (w_d, μ_d) = ⟨x_d z̃'⟩_d ⟨z̃ z̃'⟩_d⁻¹,   R_d = ⟨(x_d - w_d · z - μ_d)²⟩_d
//! F - ES = ½ (H - tr ⟨z z'⟩) + ½ Σ_d f_d (1 - R_d / ψ_d)
//! ```
//!
//! where `f_d` is the part of the weight that has dimension d. This is maximum likelihood if entries are missing at random.

use super::{LinearGaussian, NOISE_FLOOR, Noise, Step, check_noise};
use crate::block::Block;
use crate::error::Result;
use crate::linalg::{Cholesky, product, row_major};
use crate::model::EntropySum;
use crate::model::gaussian_observable as gaussian;
use crate::scalar::Scalar;
use faer::{Mat, MatRef};
use std::collections::BTreeMap;
use std::f64::consts::PI;

/// Sums over points with missing entries, as an E-step leaves them.
#[derive(Clone, Debug)]
pub(crate) struct PartialSums {
    latents: usize,
    weight: f64,
    posterior_entropy: f64,
    log_likelihood: f64,
    /// `Σ w E z z'`, H × H.
    second: Mat<f64>,
    /// For each dimension, over the points that have it: `Σ w E z̃ z̃'`, (H + 1)².
    normal: Vec<f64>,
    /// `Σ w (x_d - μ_d) E z̃`, H + 1 values a dimension.
    cross: Vec<f64>,
    /// `Σ w (x_d - μ_d)²`.
    squares: Vec<f64>,
    /// `Σ w`.
    mass: Vec<f64>,
}

impl PartialSums {
    pub(crate) fn new(dim: usize, latents: usize) -> Self {
        let size = latents + 1;
        Self {
            latents,
            weight: 0.0,
            posterior_entropy: 0.0,
            log_likelihood: 0.0,
            second: Mat::zeros(latents, latents),
            normal: vec![0.0; dim * size * size],
            cross: vec![0.0; dim * size],
            squares: vec![0.0; dim],
            mass: vec![0.0; dim],
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.weight += other.weight;
        self.posterior_entropy += other.posterior_entropy;
        self.log_likelihood += other.log_likelihood;
        self.second += &other.second;
        let add = |to: &mut [f64], from: &[f64]| {
            to.iter_mut().zip(from).for_each(|(sum, value)| *sum += value);
        };
        add(&mut self.normal, &other.normal);
        add(&mut self.cross, &other.cross);
        add(&mut self.squares, &other.squares);
        add(&mut self.mass, &other.mass);
    }

    /// Returns the mean log-likelihood of the observed entries, in nats per point.
    pub(crate) fn log_likelihood(&self) -> f64 {
        self.log_likelihood / self.weight
    }
}

/// A model as seen through some of its dimensions.
struct Seen {
    mean: Vec<f64>,
    /// `ψ_d^½`.
    deviations: Vec<f64>,
    /// `V = Ψ^-½ W`, one row a dimension.
    loadings: Mat<f64>,
    /// `G`, row-major.
    covariance: Vec<f64>,
    /// `ln |G⁻¹|`.
    log_det: f64,
    /// `-½ ln |2 π C|`.
    log_norm: f64,
}

/// Posteriors of some points, one row each.
struct Posteriors {
    /// Standardised points.
    y: Mat<f64>,
    /// Means of their latents.
    z: Mat<f64>,
    /// `y - V z`.
    residuals: Mat<f64>,
}

impl Seen {
    fn new(model: &LinearGaussian, observed: &[usize]) -> Self {
        let latents = model.latents();
        let deviations: Vec<f64> =
            observed.iter().map(|&d| model.noise_variances[d].sqrt()).collect();
        let loadings = Mat::from_fn(observed.len(), latents, |k, h| {
            model.loadings[(observed[k], h)] / deviations[k]
        });
        let mut precision = product(loadings.transpose(), loadings.as_ref());
        (0..latents).for_each(|h| precision[(h, h)] += 1.0);
        let precision = Cholesky::new(&row_major(precision.as_ref()), latents)
            .expect("1 + a positive semi-definite matrix of finite numbers");
        let noise: f64 = deviations.iter().map(|s| (2.0 * PI * s * s).ln()).sum();
        let log_det = precision.log_det();
        Self {
            mean: observed.iter().map(|&d| model.mean[d]).collect(),
            deviations,
            loadings,
            covariance: precision.inverse(),
            log_det,
            log_norm: -0.5 * (noise + log_det),
        }
    }

    /// Computes the posteriors of points with exactly these dimensions, one row each.
    fn posteriors(&self, rows: MatRef<'_, f64>) -> Posteriors {
        let latents = self.loadings.ncols();
        let covariance = MatRef::from_row_major_slice(&self.covariance, latents, latents);
        let y = Mat::from_fn(rows.nrows(), rows.ncols(), |i, k| {
            (rows[(i, k)] - self.mean[k]) / self.deviations[k]
        });
        let encoder = product(self.loadings.as_ref(), covariance);
        let z = product(y.as_ref(), encoder.as_ref());
        let residuals = &y - product(z.as_ref(), self.loadings.transpose());
        Posteriors { y, z, residuals }
    }
}

impl LinearGaussian {
    /// Visits the points of a block through the entries they have: the index in the block, the log-density of these
    /// entries, and the posterior mean of the latents.
    pub(super) fn visit_observed<T: Scalar>(
        &self,
        block: Block<'_, T>,
        mut visit: impl FnMut(usize, f64, &[f64]),
    ) {
        let mut patterns: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
        for (i, row) in block.points.row_iter().enumerate() {
            let is_seen = |d: &usize| !row[*d].to_f64().is_nan();
            patterns.entry((0..block.dim()).filter(is_seen).collect()).or_default().push(i);
        }
        let mut mean = vec![0.0; self.latents()];
        for (observed, members) in &patterns {
            let seen = Seen::new(self, observed);
            let rows = Mat::from_fn(members.len(), observed.len(), |i, k| {
                block.points[(members[i], observed[k])].to_f64()
            });
            let Posteriors { z, residuals, .. } = seen.posteriors(rows.as_ref());
            for (i, &member) in members.iter().enumerate() {
                let square = residuals.row(i).squared_norm_l2() + z.row(i).squared_norm_l2();
                mean.iter_mut().zip(z.row(i).iter()).for_each(|(to, z)| *to = *z);
                visit(member, seen.log_norm - 0.5 * square, &mean);
            }
        }
    }

    /// Adds points of one pattern: `rows` holds the dimensions `observed` of each.
    pub(crate) fn e_step_partial(
        &self,
        observed: &[usize],
        rows: MatRef<'_, f64>,
        weights: &[f64],
        sums: &mut PartialSums,
    ) {
        let (n, latents) = (rows.nrows(), self.latents());
        let seen = Seen::new(self, observed);
        let Posteriors { y, z, residuals } = seen.posteriors(rows);
        let weighted = Mat::from_fn(n, latents, |i, h| weights[i] * z[(i, h)]);

        let weight: f64 = weights.iter().sum();
        sums.weight += weight;
        sums.posterior_entropy += weight * gaussian::entropy_of_log_det(latents, -seen.log_det);
        for i in 0..n {
            let square = residuals.row(i).squared_norm_l2() + z.row(i).squared_norm_l2();
            sums.log_likelihood += weights[i] * (seen.log_norm - 0.5 * square);
        }
        let mut second = product(weighted.transpose(), z.as_ref());
        for j in 0..latents {
            for i in 0..latents {
                second[(i, j)] += weight * seen.covariance[i * latents + j];
            }
        }
        sums.second += &second;
        let first: Vec<f64> = weighted.col_iter().map(|column| column.iter().sum()).collect();
        let size = latents + 1;
        let mut normal = vec![weight; size * size];
        for i in 0..latents {
            for j in 0..latents {
                normal[i * size + j] = second[(i, j)];
            }
            normal[i * size + latents] = first[i];
            normal[latents * size + i] = first[i];
        }
        let cross = product(y.transpose(), weighted.as_ref());
        for (k, &d) in observed.iter().enumerate() {
            let all = sums.normal[d * size * size..].iter_mut();
            all.zip(&normal).for_each(|(sum, value)| *sum += value);
            let to = &mut sums.cross[d * size..][..size];
            for h in 0..latents {
                to[h] += seen.deviations[k] * cross[(k, h)];
            }
            for i in 0..n {
                let value = seen.deviations[k] * y[(i, k)];
                to[latents] += weights[i] * value;
                sums.squares[d] += weights[i] * value * value;
            }
            sums.mass[d] += weight;
        }
    }

    /// Does the M-step of EM, or of parameter-expanded EM, over the observed entries.
    ///
    /// # Errors
    /// If no noise is left for p-PCA.
    pub(crate) fn m_step_partial(
        &mut self,
        sums: &PartialSums,
        expanded: bool,
        rounding: f64,
    ) -> Result<Step> {
        let (dim, latents) = (self.dim(), sums.latents);
        let size = latents + 1;
        let (mut residuals, mut variances) = (vec![0.0; dim], vec![0.0; dim]);
        for d in 0..dim {
            let (normal, cross) =
                (&sums.normal[d * size * size..][..size * size], &sums.cross[d * size..][..size]);
            // A dimension whose points are too few for it keeps its loadings and its mean.
            let solution: Vec<f64> = match Cholesky::new(normal, size) {
                Some(cholesky) => {
                    let inverse = cholesky.inverse();
                    let row = |i: usize| &inverse[i * size..][..size];
                    (0..size).map(|i| row(i).iter().zip(cross).map(|(a, b)| a * b).sum()).collect()
                }
                None => (0..size)
                    .map(|h| if h < latents { self.loadings[(d, h)] } else { 0.0 })
                    .collect(),
            };
            let quadratic: f64 = (0..size)
                .map(|i| {
                    let image: f64 = (0..size).map(|j| normal[i * size + j] * solution[j]).sum();
                    solution[i] * (image - 2.0 * cross[i])
                })
                .sum();
            residuals[d] = ((sums.squares[d] + quadratic) / sums.mass[d]).max(0.0);
            variances[d] =
                (sums.squares[d] - cross[latents] * cross[latents] / sums.mass[d]) / sums.mass[d];
            (0..latents).for_each(|h| self.loadings[(d, h)] = solution[h]);
            self.mean[d] += solution[latents];
        }
        let mut floored = Vec::new();
        match self.noise {
            Noise::Isotropic => {
                let entries: f64 = sums.mass.iter().sum();
                let value =
                    residuals.iter().zip(&sums.mass).map(|(r, m)| r * m).sum::<f64>() / entries;
                check_noise(value, variances.iter().sum(), dim, latents, rounding)?;
                self.noise_variances.fill(value);
            }
            Noise::Diagonal => {
                for d in 0..dim {
                    let floor = NOISE_FLOOR * variances[d];
                    self.noise_variances[d] = residuals[d].max(floor);
                    if residuals[d] <= floor {
                        floored.push(d);
                    }
                }
            }
        }

        let part = |d: usize| sums.mass[d] / sums.weight;
        let mut gap = (0..dim)
            .map(|d| part(d) * gaussian::noise_gap(&residuals[d..=d], &self.noise_variances[d..=d]))
            .sum::<f64>();
        let mut prior = gaussian::standard_entropy(latents);
        let second = Mat::from_fn(latents, latents, |i, j| sums.second[(i, j)] / sums.weight);
        if expanded {
            let cholesky = Cholesky::new(&row_major(second.as_ref()), latents)
                .expect("posterior covariances and a positive semi-definite matrix");
            prior = gaussian::entropy_of_log_det(latents, cholesky.log_det());
            self.loadings = product(self.loadings.as_ref(), cholesky.factor());
        } else {
            gap += gaussian::prior_gap(latents, (0..latents).map(|h| second[(h, h)]).sum());
        }
        let observable = (0..dim)
            .map(|d| part(d) * gaussian::isotropic_entropy(1, self.noise_variances[d]))
            .sum();
        let posterior = sums.posterior_entropy / sums.weight;
        let entropy_sum =
            EntropySum { posterior, prior, hidden: 0.0, observable, base_measure: 0.0 };
        Ok(Step { entropy_sum, lower_bound: entropy_sum.total() + gap, floored })
    }
}
