//! Scores of points under a mixture.

use super::super::Mixture;
use super::{Packed, Workspace, cancellation_tolerance};
use crate::block::Block;
use crate::kernels::dispatch::Simd;
use crate::kernels::softmax;
use crate::kernels::statistics::Tile;
use crate::model::{Constants, Density, ScoredTile};
use crate::scalar::Scalar;
use crate::work::Alone;

impl<T: Scalar> Density<T> for Mixture {
    type Packed = Packed<T>;
    type Workspace = Workspace<T>;

    fn n_components(&self) -> usize {
        self.n_components()
    }

    /// Packs for scores of single points: packed logits are right to 1e-6 nats per dimension in `f32`.
    fn pack_for_scores(&self, simd: Simd) -> Packed<T> {
        let tolerance = cancellation_tolerance::<T>(self.family.dim(), 500);
        self.pack_for(simd, tolerance, Constants::Known, true, &Alone)
    }

    fn workspace(&self, packed: &Packed<T>, old: Option<Workspace<T>>) -> Workspace<T> {
        match old {
            Some(old) if old.key == packed.workspace_key() => old,
            _ => self.workspace_for(packed),
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
        let stride = packed.tiling.stride;
        for tile in packed.tiles(block) {
            let n = tile.len();
            packed.logits(tile, workspace);
            workspace.mass.fill(0.0);
            let totals = softmax::softmax(
                packed.simd,
                &mut workspace.logits,
                stride,
                n,
                if weighted { tile.weights } else { None },
                &mut workspace.mass,
                Some(&mut workspace.log_density[..n]),
            );
            let densities = workspace.log_density.iter_mut().zip(&workspace.shift);
            densities.for_each(|(density, shift)| *density += shift);
            if let Some(form) = &packed.shared_form {
                let (values, dim) = (&workspace.points, tile.dim());
                let points = Tile { values, dim, n_points: n, stride };
                let shared = &mut workspace.statistics[..stride];
                form.logits(packed.simd, points, &mut workspace.scratch, shared);
                for (density, shared) in workspace.log_density.iter_mut().zip(&*shared) {
                    *density += shared.to_f64();
                }
            }
            if let Some(measure) = &packed.base_measure {
                packed.log_base_measure(measure, tile, workspace);
                let values = &workspace.log_base_measure[..n];
                workspace.log_density.iter_mut().zip(values).for_each(|(l, h)| *l += h);
            }
            let mut responsibilities = &workspace.logits;
            if !packed.centred.is_empty() {
                workspace.reordered.resize(workspace.logits.len());
                for (column, &c) in workspace.logits.chunks(stride).zip(&packed.order) {
                    workspace.reordered[c * stride..][..stride].copy_from_slice(column);
                }
                responsibilities = &workspace.reordered;
            }
            // There may be more columns: labels take two.
            let responsibilities = &responsibilities[..packed.order.len() * stride];
            visit(ScoredTile {
                first: tile.first,
                weights: tile.weights,
                log_density: &workspace.log_density[..n],
                responsibilities,
                stride,
                posterior_entropy: totals.posterior_entropy,
            });
        }
    }
}
