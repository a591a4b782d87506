//! The E-step of a mixture in two halves.

use super::super::{Mixture, Posterior};
use super::{Packed, Workspace};
use crate::block::Block;
use crate::kernels::affine::AffineMap;
use crate::kernels::products::ProductGroups;
use crate::kernels::statistics::Tile;
use crate::model::HalvedEStep;
use crate::scalar::Scalar;
use crate::stats::{StatsShape, SuffStats};
use std::ops::Range;
use std::sync::OnceLock;

impl<T: Scalar> Packed<T> {
    /// Returns the same parameters for some columns of the logits only, as far as sums need them.
    fn slice(&self, columns: Range<usize>) -> Self {
        let n_packed = self.n_packed.min(columns.end).saturating_sub(columns.start);
        let products =
            self.products.map(|groups| groups.with_components(n_packed)).filter(|_| n_packed > 0);
        let centred = columns.start.max(self.n_packed) - self.n_packed
            ..columns.end.max(self.n_packed) - self.n_packed;
        Self {
            shape: StatsShape { components: columns.len(), ..self.shape },
            posterior: Posterior::Exact,
            rows: None,
            statistics: self.statistics.clone(),
            base_measure: None,
            sparse_measure: OnceLock::new(),
            shared: self.shared.clone(),
            shared_natural: Vec::new(),
            shared_form: None,
            centre: self.centre.clone(),
            order: (0..columns.len()).collect(),
            n_packed,
            natural: AffineMap::default(),
            products,
            product_coefficients: vec![T::ZERO; products.map_or(0, ProductGroups::len)],
            labels: None,
            centred: self.centred.slice(centred),
            keeps_lanes: self.keeps_lanes,
            tied: None,
            wide: None,
            observed: None,
            ..*self
        }
    }
}

impl<T: Scalar> HalvedEStep<T, Packed<T>, Workspace<T>> for Mixture {
    fn posteriors(
        &self,
        packed: &Packed<T>,
        block: Block<'_, T>,
        stats: &mut SuffStats,
        workspace: &mut Workspace<T>,
        responsibilities: &mut [T],
    ) {
        let stride = packed.tiling.stride;
        for tile in packed.tiles(block) {
            packed.posteriors(tile, stats, workspace);
            let start = (tile.first - block.first) as usize;
            for (k, out) in responsibilities.chunks_mut(block.len()).enumerate() {
                let out = &mut out[start..start + tile.len()];
                match packed.posterior {
                    Posterior::Hard => {
                        for (i, (out, &label)) in out.iter_mut().zip(&workspace.labels).enumerate()
                        {
                            let weight = tile.weights.map_or(1.0, |weights| weights[i]);
                            *out = T::from_f64(if label as usize == k { weight } else { 0.0 });
                        }
                    }
                    _ => out.copy_from_slice(&workspace.logits[k * stride..][..tile.len()]),
                }
            }
        }
    }

    fn slice(&self, packed: &Packed<T>, columns: Range<usize>) -> Packed<T> {
        packed.slice(columns)
    }

    fn accumulate(
        &self,
        slice: &Packed<T>,
        block: Block<'_, T>,
        responsibilities: &[T],
        stats: &mut SuffStats,
        workspace: &mut Workspace<T>,
    ) {
        let stride = slice.tiling.stride;
        for tile in slice.tiles(block) {
            let start = (tile.first - block.first) as usize;
            for (column, out) in
                responsibilities.chunks(block.len()).zip(workspace.logits.chunks_mut(stride))
            {
                out[..tile.len()].copy_from_slice(&column[start..start + tile.len()]);
            }
            let is_dense = tile.sparse.is_none();
            if is_dense {
                slice.load_tile(tile.points, workspace);
            }
            if is_dense && slice.n_packed > 0 && slice.n_direct <= slice.tiling.panel {
                let statistics = &slice.statistics[..slice.n_direct];
                let (dim, n_points) = (tile.dim(), tile.len());
                let points = Tile { values: &workspace.points, dim, n_points, stride };
                slice.evaluate(statistics, points, &mut workspace.statistics);
            }
            slice.accumulate(tile, stats, workspace);
            slice.flush_if_due(stats, workspace);
        }
    }

    fn component(&self, packed: &Packed<T>, column: usize) -> usize {
        packed.order[column]
    }
}
