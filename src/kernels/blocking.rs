//! Sizes of tiles and panels, from the cache sizes and the shape of the model.

use super::softmax::padded_stride;
use crate::scalar::Scalar;

/// Level-2 cache per core that tiles are cut for, in bytes.
///
/// A constant, not a reading: block boundaries decide the order of sums, and results should not depend on what a
/// virtual machine says of its cache. 1 MiB is what Zen 4 has, and half of what Sapphire Rapids has.
const L2_BYTES: usize = 1 << 20;

/// Sizes of the tiles into which a sweep cuts a block, and of the panels of statistics.
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

/// Points of tiles, as many as fit, in each precision: whole blocks of the affine kernel on the widest registers, which take 24
/// and 48 points.
///
/// Measured (C x L; f64 192 points against 256, one panel against three where L = 560; processor time): 32 x 560 13 % less,
/// 64 x 152 4 to 8 %, 128 x 128 4 %, 64 x 32 and 256 x 17 the same; f32 288 against 512: 16, 0, 5 and 6 %.
const POINTS_F64: [usize; 3] = [192, 144, 96];
const POINTS_F32: [usize; 4] = [288, 192, 144, 96];

/// Rounds a number of points to read at a time, so that tiles of any size come out even.
pub fn points_per_read(wanted: usize) -> usize {
    // Where points are so long that few are read, whole tiles of the most points matter more than a bound on bytes.
    wanted.next_multiple_of(if wanted > 384 { 576 } else { 192 })
}

impl Tiling {
    /// Chooses the tiling for a model with `dim` dimensions, `statistics` per component and `components`.
    ///
    /// If the statistics of 96 points fit into the cache, they are one panel, evaluated once for logits and sums. Else they are
    /// evaluated twice, panel by panel.
    pub fn new<T: Scalar>(dim: usize, statistics: usize, components: usize) -> Self {
        let size = size_of::<T>();
        let sizes: &[usize] = if size == 8 { &POINTS_F64 } else { &POINTS_F32 };
        let columns = statistics + components + dim;
        let fits = |points: usize| size * points * columns <= 3 * L2_BYTES / 4;
        let (points, panel) = match sizes.iter().find(|&&points| fits(points)) {
            Some(&points) => (points, statistics),
            None => {
                // Logits, points and one panel share the cache with the natural parameters that stream by.
                let budget = L2_BYTES / 2 / (size * sizes[0]);
                (sizes[0], budget.saturating_sub(components + dim).clamp(64, 256).min(statistics))
            }
        };
        Self { points, stride: padded_stride::<T>(points), panel: panel.max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_whole_blocks_and_divide_what_is_read() {
        for dim in [1, 2, 16, 64, 300, 9000] {
            for statistics in [1, 17, 152, 560, 1030, 8384] {
                for components in [1, 64, 5000] {
                    let wide = Tiling::new::<f64>(dim, statistics, components);
                    let narrow = Tiling::new::<f32>(dim, statistics, components);
                    assert!(wide.points.is_multiple_of(24) && narrow.points.is_multiple_of(48));
                    for tiling in [wide, narrow] {
                        assert!(points_per_read(4000).is_multiple_of(tiling.points));
                        assert!((1..=statistics).contains(&tiling.panel));
                        assert!(tiling.stride >= tiling.points);
                    }
                }
            }
        }
        assert_eq!([1, 385].map(points_per_read), [192, 576]);
    }

    #[test]
    fn statistics_are_one_panel_where_they_fit() {
        let panel = |dim, statistics, components| {
            let tiling = Tiling::new::<f64>(dim, statistics, components);
            (tiling.points, tiling.panel)
        };
        assert_eq!(panel(16, 32, 64), (192, 32));
        assert_eq!(panel(32, 560, 32), (144, 560));
        assert_eq!(panel(64, 2144, 64).1, 213);
    }
}
