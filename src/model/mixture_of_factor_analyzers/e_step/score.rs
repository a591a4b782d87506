//! Scores, latents and reconstructions of points under a mixture of factor analysers.

use super::super::MixtureOfFactorAnalyzers;
use super::{
    ComponentPosterior, Packed, SCORED_POINTS, Workspace, column_major, columns, columns_mut,
};
use crate::block::Block;
use crate::kernels::dispatch::Simd;
use crate::linalg::product;
use crate::model::mixture::cancellation_tolerance;
use crate::model::{Density, GenerativeModel, LatentSpace, ScoredTile};
use crate::scalar::Scalar;
use faer::linalg::matmul::matmul;
use faer::{Accum, Par};

impl<T: Scalar> Density<T> for MixtureOfFactorAnalyzers {
    type Packed = Packed<T>;
    type Workspace = Workspace<T>;

    fn n_components(&self) -> usize {
        self.n_components()
    }

    fn pack_for_scores(&self, simd: Simd) -> Packed<T> {
        let mut packed =
            self.pack_for(simd, cancellation_tolerance::<T>(self.dim(), SCORED_POINTS));
        let parts = self.components.iter().zip(&packed.posteriors);
        let decoder = parts.flat_map(|(component, z)| {
            let map = product(component.loadings.as_ref(), z.factor.as_ref());
            column_major(&map).map(T::from_f64).collect::<Vec<_>>()
        });
        packed.decoder = decoder.collect();
        packed
    }

    fn workspace(&self, packed: &Packed<T>, old: Option<Workspace<T>>) -> Workspace<T> {
        match old {
            Some(old) if old.key == packed.workspace_key() => old,
            _ => packed.workspace(),
        }
    }

    fn score(
        &self,
        packed: &Packed<T>,
        block: Block<'_, T>,
        weighted: bool,
        workspace: &mut Workspace<T>,
        mut visit: impl FnMut(ScoredTile<'_, T>),
    ) {
        for tile in packed.tiles(block) {
            let posterior_entropy = packed.score(tile, weighted, workspace);
            visit(ScoredTile {
                first: tile.first,
                weights: tile.weights,
                log_density: &workspace.log_density[..tile.len()],
                responsibilities: &workspace.logits,
                stride: packed.stride,
                posterior_entropy,
            });
        }
    }
}

impl<T: Scalar> LatentSpace<T> for MixtureOfFactorAnalyzers {
    fn n_latents(&self) -> usize {
        self.n_latents()
    }

    /// Computes posterior means given the most probable component of each point: each component has latents of its own.
    fn transform(&self, packed: &Packed<T>, block: Block<'_, T>, latents: &mut [f64]) {
        let mut workspace = packed.workspace();
        let (n_latents, stride) = (packed.latents, packed.stride);
        for tile in packed.tiles(block) {
            packed.score(tile, false, &mut workspace);
            let start = (tile.first - block.first) as usize * n_latents;
            let out = latents[start..][..tile.len() * n_latents].chunks_mut(n_latents);
            for (i, out) in out.enumerate() {
                let columns = workspace.logits.chunks(stride).map(|column| column[i]);
                let best = columns
                    .enumerate()
                    .fold((0, T::ZERO), |best, (c, r)| if r > best.1 { (c, r) } else { best });
                let ComponentPosterior { mean, factor, .. } = &packed.posteriors[best.0];
                for (g, (out, mean)) in out.iter_mut().zip(mean).enumerate() {
                    let white = |h: usize| {
                        workspace.projections[(best.0 * n_latents + h) * stride + i].to_f64()
                    };
                    *out = mean + (0..n_latents).map(|h| factor[(g, h)] * white(h)).sum::<f64>();
                }
            }
        }
    }

    /// Computes `Σ_c p(c | x) (μ_c + W_c E[z | x, c])`: the mean of the point without its noise.
    fn reconstruct(&self, packed: &Packed<T>, block: Block<'_, T>, points: &mut [f64]) {
        let mut workspace = packed.workspace();
        let (dim, stride) = (packed.shape.centre, packed.stride);
        let mut means = vec![T::ZERO; dim * stride];
        for tile in packed.tiles(block) {
            let n = tile.len();
            packed.score(tile, false, &mut workspace);
            packed.weight_projections(n, &mut workspace);
            for (parts, map, accumulate) in [
                (&workspace.logits, &packed.means, Accum::Replace),
                (&workspace.weighted, &packed.decoder, Accum::Add),
            ] {
                let n_parts = map.len() / dim;
                matmul(
                    columns_mut(&mut means, n, dim, stride),
                    accumulate,
                    columns(parts, n, n_parts, stride),
                    columns(map, dim, n_parts, dim).transpose(),
                    T::ONE,
                    Par::Seq,
                );
            }
            let start = (tile.first - block.first) as usize * dim;
            for (i, point) in points[start..][..n * dim].chunks_mut(dim).enumerate() {
                for (d, value) in point.iter_mut().enumerate() {
                    *value = means[d * stride + i].to_f64() + packed.centre[d].to_f64();
                }
            }
        }
    }
}
