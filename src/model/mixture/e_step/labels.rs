//! Hard posteriors: the label of each point, and sums of labelled points.

use super::{Packed, Workspace};
use crate::block::Block;
use crate::kernels::affine::affine_argmax;
use crate::kernels::softmax;
use crate::kernels::statistics::Tile;
use crate::scalar::Scalar;
use crate::stats::SuffStats;

/// Error of packed logits, in nats, up to which they say in `f32` which component of hard posteriors a point has. The logit of
/// that component then comes from whitened differences. Only points this near to a boundary may go to the second best, which costs the mean
/// log-evidence about the square of it, times the density of points in nats from boundaries. Trajectories in `f64` are to be exact.
pub(super) const LABEL_TOLERANCE: f64 = 1e-2;

impl<T: Scalar> Packed<T> {
    /// Tells whether labels of a tile come from a single product, and logits need no memory.
    pub(super) fn labels_directly(&self, tile: Block<'_, T>) -> bool {
        let one_panel = self.n_direct <= self.tiling.panel;
        let packed = self.centred.is_empty() && self.tied.is_none();
        let packed = (packed || self.labels.is_some()) && self.observed.is_none();
        tile.sparse.is_none() && packed && self.products.is_none() && one_panel
    }

    /// Labels the points of a tile without writing logits. `workspace.points` and `workspace.statistics` then hold the tile.
    pub(super) fn label(
        &self,
        tile: Block<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> softmax::Totals {
        let (n_points, dim, stride) = (tile.len(), tile.dim(), self.tiling.stride);
        self.load_tile(tile.points, workspace);
        let points = Tile { values: &workspace.points, dim, n_points, stride };
        self.evaluate(&self.statistics, points, &mut workspace.statistics);
        let (largest, component) = workspace.logits.split_at_mut(stride);
        let (map, statistics) = (self.labels.as_ref(), &workspace.statistics);
        let map = map.unwrap_or(&self.natural);
        affine_argmax(self.simd, map, statistics, n_points, stride, largest, component);
        if self.labels.is_some() {
            let labelled = largest.iter_mut().zip(&*component).enumerate().take(n_points);
            let room = &mut workspace.wide;
            if let Some(tied) = &self.tied {
                let whitened = tied.whiten(points, &mut workspace.scratch);
                for (i, (largest, k)) in labelled {
                    let value = |d: usize| whitened.values[d * stride + i].to_f64();
                    *largest = T::from_f64(tied.logit(k.to_f64() as usize, value, room));
                }
            } else {
                for (i, (largest, k)) in labelled {
                    if let Some(k) = (k.to_f64() as usize).checked_sub(self.n_packed) {
                        let value = |d: usize| workspace.plain[d * stride + i].to_f64();
                        *largest = T::from_f64(self.centred.logit(k, value, room));
                    }
                }
            }
        }
        let labels = &mut workspace.labels[..n_points];
        softmax::labelled(largest, component, tile.weights, labels, &mut workspace.mass)
    }

    /// Adds the statistics of labelled points: the sums of hard posteriors.
    pub(super) fn accumulate_labels(
        &self,
        block: Block<'_, T>,
        stats: &mut SuffStats,
        workspace: &mut Workspace<T>,
    ) {
        if let Some(rows) = block.sparse {
            return self.sparse_labels(rows, block.weights, stats, workspace);
        }
        let (n, dim, stride) = (block.len(), block.dim(), self.tiling.stride);
        let one_panel = self.n_direct <= self.tiling.panel;
        let labels = &workspace.labels[..n];
        if let Some(observed) = &self.observed {
            let weight = |row: usize, c: usize| match labels[row] as usize == c {
                true => block.weights.map_or(1.0, |weights| weights[row]),
                false => 0.0,
            };
            return observed.accumulate(block.points, &workspace.groups, weight, stats);
        }
        if self.n_packed > 0 {
            for (first, panel) in self.panels() {
                if !one_panel {
                    let tile = Tile { values: &workspace.points, dim, n_points: n, stride };
                    self.evaluate(panel, tile, &mut workspace.statistics);
                }
                // A point at a time: its sums stand side by side.
                for (i, &label) in labels.iter().enumerate() {
                    if (label as usize) < self.n_packed {
                        let weight = block.weights.map_or(1.0, |weights| weights[i]);
                        let sums = stats.sums_mut(self.order[label as usize]);
                        let values = workspace.statistics[i..].iter().step_by(stride);
                        for (sum, value) in sums[first..][..panel.len()].iter_mut().zip(values) {
                            *sum += weight * value.to_f64();
                        }
                    }
                }
            }
        }
        for (i, &label) in labels.iter().enumerate() {
            if let Some(k) = (label as usize).checked_sub(self.n_packed) {
                let weight = block.weights.map_or(1.0, |weights| weights[i]);
                let (first, second) = self.moments_mut(k, dim, stats);
                let value = |d: usize| workspace.plain[d * stride + i].to_f64();
                self.centred.add_point(k, value, weight, &mut workspace.wide, first, second);
            }
        }
    }
}
