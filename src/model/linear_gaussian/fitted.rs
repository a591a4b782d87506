//! Densities, latents, reconstructions and samples of a linear-Gaussian model.
//!
//! With `y = Ψ^-½ (x - μ)`, `V = Ψ^-½ W` and the posterior mean `m = G V' y`, the quadratic form of the density is
//! `|y - V m|² + |m|²`: sums of squares, which cannot cancel as `y' y - y' V G V' y` does where noise is small.

use super::LinearGaussian;
use crate::block::Block;
use crate::kernels::dispatch::Simd;
use crate::kernels::residual::{add_squared_norms, standardize};
use crate::kernels::scatter::TILE_POINTS;
use crate::linalg::product;
use crate::model::{BlockSampler, Density, LatentSpace, Sample, ScoredTile};
use crate::scalar::Scalar;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rand_distr::{Distribution, StandardNormal};

/// Parameters in the layout of the kernels that score and project points.
#[derive(Debug)]
pub struct Packed<T> {
    simd: Simd,
    mean: Vec<T>,
    /// The mean less its rounded value.
    rest: Vec<T>,
    /// `ψ_d^-½`.
    scale: Vec<T>,
    /// `V G`, D × H: latents of standardised points.
    encoder: Mat<T>,
    /// `V'`, H × D: back to them.
    decoder: Mat<T>,
    /// `-½ ln |2 π C|`.
    log_norm: f64,
}

/// Workspace memory of one lane.
#[derive(Debug)]
pub struct Workspace<T> {
    tile: Vec<T>,
    latents: Vec<T>,
    log_density: Vec<f64>,
}

impl<T: Scalar> Packed<T> {
    fn new(model: &LinearGaussian, simd: Simd) -> Self {
        let (scaled, precision) = model.precision();
        let latents = model.latents();
        let covariance = precision.inverse();
        let covariance = MatRef::from_row_major_slice(&covariance, latents, latents);
        let encoder = product(scaled.as_ref(), covariance);
        let deviations: Vec<f64> = model.noise_variances.iter().map(|v| v.sqrt()).collect();
        let rounded: Vec<T> = model.mean.iter().map(|&m| T::from_f64(m)).collect();
        let rest = model.mean.iter().zip(&rounded);
        Self {
            simd,
            rest: rest.map(|(m, r)| T::from_f64(m - r.to_f64())).collect(),
            mean: rounded,
            scale: deviations.iter().map(|s| T::from_f64(s.recip())).collect(),
            encoder: Mat::from_fn(model.dim(), latents, |d, h| {
                T::from_f64(encoder[(d, h)] * deviations[d])
            }),
            decoder: Mat::from_fn(latents, model.dim(), |h, d| {
                T::from_f64(model.loadings[(d, h)] / deviations[d])
            }),
            log_norm: -0.5 * model.log_det(&precision),
        }
    }

    fn workspace(&self) -> Workspace<T> {
        Workspace {
            tile: vec![T::ZERO; TILE_POINTS * self.mean.len()],
            latents: vec![T::ZERO; TILE_POINTS * self.decoder.nrows()],
            log_density: vec![0.0; TILE_POINTS],
        }
    }

    /// Fills the workspace with the standardised points of a tile and their latents, both row-major.
    fn encode(&self, points: MatRef<'_, T>, workspace: &mut Workspace<T>) {
        let (n, dim, latents) = (points.nrows(), self.mean.len(), self.decoder.nrows());
        standardize(self.simd, points, &self.mean, &self.rest, &self.scale, &mut workspace.tile);
        matmul(
            MatMut::from_row_major_slice_mut(&mut workspace.latents[..n * latents], n, latents),
            Accum::Replace,
            MatRef::from_row_major_slice(&workspace.tile[..n * dim], n, dim),
            self.encoder.as_ref(),
            T::ONE,
            Par::Seq,
        );
    }

    /// Computes `V m` of the latents in the workspace, row-major, times a factor, in place of the tile or added to it.
    fn decode(&self, n: usize, accum: Accum, factor: T, workspace: &mut Workspace<T>) {
        let (dim, latents) = (self.mean.len(), self.decoder.nrows());
        matmul(
            MatMut::from_row_major_slice_mut(&mut workspace.tile[..n * dim], n, dim),
            accum,
            MatRef::from_row_major_slice(&workspace.latents[..n * latents], n, latents),
            self.decoder.as_ref(),
            factor,
            Par::Seq,
        );
    }
}

fn tiles<T: Scalar>(block: Block<'_, T>) -> impl Iterator<Item = Block<'_, T>> {
    (0..block.len())
        .step_by(TILE_POINTS)
        .map(move |start| block.slice(start, TILE_POINTS.min(block.len() - start)))
}

impl<T: Scalar> Density<T> for LinearGaussian {
    type Packed = Packed<T>;
    type Workspace = Workspace<T>;

    fn pack_for_scores(&self, simd: Simd) -> Packed<T> {
        Packed::new(self, simd)
    }

    fn workspace(&self, packed: &Packed<T>, _: Option<Workspace<T>>) -> Workspace<T> {
        packed.workspace()
    }

    fn score(
        &self,
        packed: &Packed<T>,
        block: Block<'_, T>,
        _weighted: bool,
        workspace: &mut Workspace<T>,
        mut visit: impl FnMut(ScoredTile<'_, T>),
    ) {
        let (dim, latents) = (self.dim(), self.latents());
        for tile in tiles(block) {
            let n = tile.len();
            if self.ignores_missing {
                let out = &mut workspace.log_density[..n];
                self.visit_observed(tile, |i, log_density, _| out[i] = log_density);
                visit(ScoredTile::without_components(tile, out));
                continue;
            }
            packed.encode(tile.points, workspace);
            packed.decode(n, Accum::Add, T::from_f64(-1.0), workspace);
            let Workspace { tile: residuals, latents: means, log_density } = workspace;
            let out = &mut log_density[..n];
            out.fill(packed.log_norm);
            add_squared_norms(packed.simd, &residuals[..n * dim], dim, -0.5, out);
            add_squared_norms(packed.simd, &means[..n * latents], latents, -0.5, out);
            visit(ScoredTile::without_components(tile, out));
        }
    }
}

impl<T: Scalar> LatentSpace<T> for LinearGaussian {
    fn n_latents(&self) -> usize {
        self.latents()
    }

    fn transform(&self, packed: &Packed<T>, block: Block<'_, T>, latents: &mut [f64]) {
        let mut workspace = packed.workspace();
        let (latents, mut rest) = (self.latents(), latents);
        for tile in tiles(block) {
            let (out, after) = rest.split_at_mut(tile.len() * latents);
            rest = after;
            if self.ignores_missing {
                self.visit_observed(tile, |i, _, z| {
                    out[i * latents..][..latents].copy_from_slice(z)
                });
                continue;
            }
            packed.encode(tile.points, &mut workspace);
            out.iter_mut().zip(&workspace.latents).for_each(|(out, z)| *out = z.to_f64());
        }
    }

    fn reconstruct(&self, packed: &Packed<T>, block: Block<'_, T>, points: &mut [f64]) {
        let dim = self.dim();
        let deviations: Vec<f64> = self.noise_variances.iter().map(|v| v.sqrt()).collect();
        let mut workspace = packed.workspace();
        let mut rest = points;
        for tile in tiles(block) {
            let (out, after) = rest.split_at_mut(tile.len() * dim);
            rest = after;
            if self.ignores_missing {
                self.visit_observed(tile, |i, _, z| self.decode(z, &mut out[i * dim..][..dim]));
                continue;
            }
            packed.encode(tile.points, &mut workspace);
            packed.decode(tile.len(), Accum::Replace, T::ONE, &mut workspace);
            for (out, row) in out.chunks_mut(dim).zip(workspace.tile.chunks(dim)) {
                for d in 0..dim {
                    out[d] = self.mean[d] + deviations[d] * row[d].to_f64();
                }
            }
        }
    }
}

impl LinearGaussian {
    /// Computes `μ + W z`.
    fn decode(&self, z: &[f64], point: &mut [f64]) {
        point.copy_from_slice(&self.mean);
        for (h, z) in z.iter().enumerate() {
            for (value, w) in point.iter_mut().zip(self.loadings.col(h).iter()) {
                *value += w * z;
            }
        }
    }
}

impl Sample for LinearGaussian {
    fn sampler(&self) -> BlockSampler<'_> {
        let deviations: Vec<f64> = self.noise_variances.iter().map(|v| v.sqrt()).collect();
        Box::new(move |rng, points, _| {
            let mut latents = vec![0.0; self.latents()];
            for point in points.chunks_mut(self.dim()) {
                latents.fill_with(|| StandardNormal.sample(rng));
                self.decode(&latents, point);
                for (value, deviation) in point.iter_mut().zip(&deviations) {
                    let noise: f64 = StandardNormal.sample(rng);
                    *value += deviation * noise;
                }
            }
        })
    }
}
