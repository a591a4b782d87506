//! Hard posteriors: the label of each point, and sums of labelled points.

use super::{Packed, Workspace};
use crate::block::Block;
use crate::kernels::affine::affine_argmax;
use crate::kernels::rows::RowStatistics;
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
        let packed = self.centred.is_empty() || self.labels.is_some();
        let packed = packed && self.observed.is_none() && self.products.is_none();
        tile.sparse.is_none() && packed && one_panel
    }

    /// Labels the points of a tile without writing logits. `workspace.points` then holds the tile, and `workspace.statistics` what
    /// [`add_packed`](Self::add_packed) needs of it.
    pub(super) fn label(
        &self,
        tile: Block<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> softmax::Totals {
        let (n_points, dim, stride) = (tile.len(), tile.dim(), self.tiling.stride);
        self.load_tile(tile.points, workspace);
        let points = Tile { values: &workspace.points, dim, n_points, stride };
        // Values that are the statistics are there already.
        let are_values = self.labelled_rows(tile).is_some_and(|rows| rows.len() == dim);
        if !are_values {
            self.evaluate(&self.statistics, points, &mut workspace.statistics);
        }
        let labels = &mut workspace.labels[..n_points];
        let log_evidence = &mut workspace.log_density[..n_points];
        match &self.wide {
            Some(wide) if self.labels.is_none() => {
                wide.argmax(self.simd, points, &mut workspace.wide_tile, log_evidence, labels);
            }
            _ => {
                let (largest, component) = workspace.logits.split_at_mut(stride);
                let map = self.labels.as_ref().unwrap_or(&self.natural);
                let t = if are_values { &workspace.points } else { &workspace.statistics };
                affine_argmax(self.simd, map, t, n_points, stride, largest, component);
                for (i, (label, log_evidence)) in
                    labels.iter_mut().zip(&mut *log_evidence).enumerate()
                {
                    (*label, *log_evidence) = (component[i].to_f64() as u32, largest[i].to_f64());
                }
            }
        }
        match (&self.labels, &self.wide) {
            (None, _) => {}
            (Some(_), Some(wide)) => {
                wide.map.labelled(points.values, stride, labels, log_evidence);
            }
            (Some(_), None) => {
                for (i, (&label, log_evidence)) in labels.iter().zip(&mut *log_evidence).enumerate()
                {
                    if let Some(k) = (label as usize).checked_sub(self.n_packed) {
                        let value = |d: usize| workspace.plain[d * stride + i].to_f64();
                        *log_evidence = self.centred.logit(k, value, &mut workspace.wide);
                    }
                }
            }
        }
        softmax::labelled(log_evidence, labels, tile.weights, &mut workspace.mass)
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
        let labels = &workspace.labels[..n];
        if let Some(observed) = &self.observed {
            let weight = |row: usize, c: usize| match labels[row] as usize == c {
                true => block.weights.map_or(1.0, |weights| weights[row]),
                false => 0.0,
            };
            return observed.accumulate(block.points, &workspace.groups, weight, stats);
        }
        if self.n_packed > 0 {
            self.add_packed(block, stats, workspace);
        }
        for (i, &label) in workspace.labels[..n].iter().enumerate() {
            if let Some(k) = (label as usize).checked_sub(self.n_packed) {
                let weight = block.weights.map_or(1.0, |weights| weights[i]);
                let (first, second) = self.moments_mut(k, dim, stats);
                let value = |d: usize| workspace.plain[d * stride + i].to_f64();
                self.centred.add_point(k, value, weight, &mut workspace.wide, first, second);
            }
        }
    }

    /// Returns the statistics for points as rows, if sums of labelled points come from these.
    fn labelled_rows(&self, block: Block<'_, T>) -> Option<&RowStatistics> {
        self.rows.as_ref().filter(|_| block.points.col_stride() == 1)
    }

    /// Adds the statistics of points whose labels are packed components.
    fn add_packed(&self, block: Block<'_, T>, stats: &mut SuffStats, workspace: &mut Workspace<T>) {
        let (n_points, dim, stride) = (block.len(), block.dim(), self.tiling.stride);
        let (labels, packed) = (&workspace.labels[..n_points], &self.order[..self.n_packed]);
        if let Some(rows) = self.labelled_rows(block) {
            let (simd, points, weights) = (self.simd, block.points, block.weights);
            let sums = stats.all_sums_mut();
            return rows.add_labelled(simd, points, &self.centre, labels, weights, packed, sums);
        }
        let one_panel = self.n_direct <= self.tiling.panel;
        for (first, panel) in self.panels() {
            if !one_panel {
                let tile = Tile { values: &workspace.points, dim, n_points, stride };
                self.evaluate(panel, tile, &mut workspace.statistics);
            }
            // A point at a time: its sums stand side by side.
            for (i, &label) in labels.iter().enumerate() {
                if let Some(&component) = packed.get(label as usize) {
                    let weight = block.weights.map_or(1.0, |weights| weights[i]);
                    let values = workspace.statistics[i..].iter().step_by(stride);
                    let sums = &mut stats.sums_mut(component)[first..][..panel.len()];
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += weight * value.to_f64();
                    }
                }
            }
        }
    }
}
