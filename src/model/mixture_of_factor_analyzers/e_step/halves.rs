//! The E-step of a mixture of factor analysers in two halves.

use super::super::MixtureOfFactorAnalyzers;
use super::{Packed, Workspace};
use crate::block::Block;
use crate::model::HalvedEStep;
use crate::scalar::Scalar;
use crate::stats::{StatsShape, SuffStats};
use std::ops::Range;

impl<T: Scalar> HalvedEStep<T, Packed<T>, Workspace<T>> for MixtureOfFactorAnalyzers {
    fn posteriors(
        &self,
        packed: &Packed<T>,
        block: Block<'_, T>,
        stats: &mut SuffStats,
        workspace: &mut Workspace<T>,
        responsibilities: &mut [T],
    ) {
        for tile in packed.tiles(block) {
            packed.posteriors(tile, stats, workspace);
            let start = (tile.first - block.first) as usize;
            let columns = responsibilities.chunks_mut(block.len());
            for (out, column) in columns.zip(workspace.logits.chunks(packed.stride)) {
                out[start..start + tile.len()].copy_from_slice(&column[..tile.len()]);
            }
        }
    }

    fn slice(&self, packed: &Packed<T>, columns: Range<usize>) -> Packed<T> {
        let (dim, latents) = (packed.shape.centre, packed.latents);
        let of =
            |values: &[T], each: usize| values[columns.start * each..columns.end * each].to_vec();
        Packed {
            shape: StatsShape { components: columns.len(), ..packed.shape },
            centre: packed.centre.clone(),
            projections: of(&packed.projections, dim * latents),
            shifts: of(&packed.shifts, latents),
            means: Vec::new(),
            scales: Vec::new(),
            bias: Vec::new(),
            centres: of(&packed.centres, dim),
            residual: Vec::new(),
            posteriors: Vec::new(),
            decoder: Vec::new(),
            ..*packed
        }
    }

    /// Projects the points again: to keep the projections of all components would take H times the memory of the
    /// responsibilities.
    fn accumulate(
        &self,
        slice: &Packed<T>,
        block: Block<'_, T>,
        responsibilities: &[T],
        stats: &mut SuffStats,
        workspace: &mut Workspace<T>,
    ) {
        for tile in slice.tiles(block) {
            let start = (tile.first - block.first) as usize;
            let columns = responsibilities.chunks(block.len());
            for (column, out) in columns.zip(workspace.logits.chunks_mut(slice.stride)) {
                out[..tile.len()].copy_from_slice(&column[start..start + tile.len()]);
            }
            slice.project(tile.points, workspace);
            slice.accumulate(tile.len(), stats, workspace);
        }
    }
}
