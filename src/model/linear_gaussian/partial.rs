//! EM over the observed entries of points with missing ones.
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
use crate::error::Result;
use crate::linalg::{Cholesky, product, row_major};
use crate::model::EntropySum;
use crate::model::gaussian_observable as gaussian;
use faer::{Mat, MatRef};
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

    /// Mean log-likelihood of the observed entries, in nats per point.
    pub(crate) fn log_likelihood(&self) -> f64 {
        self.log_likelihood / self.weight
    }
}

impl LinearGaussian {
    /// Adds points of one pattern: `rows` holds the dimensions `observed` of each.
    pub(crate) fn e_step_partial(
        &self,
        observed: &[usize],
        rows: MatRef<'_, f64>,
        weights: &[f64],
        sums: &mut PartialSums,
    ) {
        let (n, latents) = (rows.nrows(), self.latents());
        let deviations: Vec<f64> =
            observed.iter().map(|&d| self.noise_variances[d].sqrt()).collect();
        let loadings = Mat::from_fn(observed.len(), latents, |k, h| {
            self.loadings[(observed[k], h)] / deviations[k]
        });
        let mut precision = product(loadings.transpose(), loadings.as_ref());
        (0..latents).for_each(|h| precision[(h, h)] += 1.0);
        let precision = Cholesky::new(&row_major(precision.as_ref()), latents)
            .expect("1 + a positive semi-definite matrix of finite numbers");
        let inverse = precision.inverse();
        let covariance = MatRef::from_row_major_slice(&inverse, latents, latents);

        let y = Mat::from_fn(n, observed.len(), |i, k| {
            (rows[(i, k)] - self.mean[observed[k]]) / deviations[k]
        });
        let encoder = product(loadings.as_ref(), covariance);
        let z = product(y.as_ref(), encoder.as_ref());
        let residuals = &y - product(z.as_ref(), loadings.transpose());
        let weighted = Mat::from_fn(n, latents, |i, h| weights[i] * z[(i, h)]);

        let weight: f64 = weights.iter().sum();
        let noise: f64 = deviations.iter().map(|s| (2.0 * PI * s * s).ln()).sum();
        let log_norm = -0.5 * (noise + precision.log_det());
        sums.weight += weight;
        sums.posterior_entropy +=
            weight * gaussian::entropy_of_log_det(latents, -precision.log_det());
        for i in 0..n {
            let square = residuals.row(i).squared_norm_l2() + z.row(i).squared_norm_l2();
            sums.log_likelihood += weights[i] * (log_norm - 0.5 * square);
        }
        let mut second = product(weighted.transpose(), z.as_ref());
        for j in 0..latents {
            for i in 0..latents {
                second[(i, j)] += weight * covariance[(i, j)];
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
                to[h] += deviations[k] * cross[(k, h)];
            }
            for i in 0..n {
                let value = deviations[k] * y[(i, k)];
                to[latents] += weights[i] * value;
                sums.squares[d] += weights[i] * value * value;
            }
            sums.mass[d] += weight;
        }
    }

    /// M-step of EM, or of parameter-expanded EM, over the observed entries.
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
