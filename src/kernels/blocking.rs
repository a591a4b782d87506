//! Sizes of tiles and panels, from the cache sizes and the shape of the model.

use super::softmax::padded_stride;
use crate::scalar::Scalar;

/// Level-2 cache per core that tiles are cut for, in bytes.
///
/// A constant, not a reading: block boundaries decide the order of sums, and results should not depend on what a
/// virtual machine says of its cache. 1 MiB is what Zen 4 has, and half of what Sapphire Rapids has.
const L2_BYTES: usize = 1 << 20;

/// How a sweep cuts a block into tiles of points and the statistics into panels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// Points B of a tile.
    pub points: usize,
    /// Distance between columns of a tile: B and one cache line more, so that columns do not fall on the
    /// same few cache sets.
    pub stride: usize,
    /// Statistics of a panel.
    pub panel: usize,
}

impl Tiling {
    /// Tiling for a model with `dim` dimensions, `statistics` per component and `components`.
    pub fn new<T: Scalar>(dim: usize, statistics: usize, components: usize) -> Self {
        let size = size_of::<T>();
        // Measured in f64: 128 points take 2 to 9 % longer on four shapes, 512 are 3 % faster to 5 % slower (BENCHMARKS.md).
        // Logits, points and one panel share the cache with the natural parameters that stream by.
        let points = if size == 8 { 256 } else { 512 };
        let budget = L2_BYTES / 2 / (size * points);
        let panel = budget.saturating_sub(components + dim).clamp(64, 256).min(statistics.max(1));
        Self { points, stride: padded_stride::<T>(points), panel }
    }
}
