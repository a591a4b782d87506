//! Mean and scatter of points: a symmetric update of rank B for each tile, half the work of a full product.
//!
//! The tile is row-major, as points mostly come: its transpose is then the layout in which matrix products run best.

use super::dispatch::{Kernel, MulAdd, Simd};
use crate::scalar::Scalar;
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, MatMut, MatRef, Par};
use std::ops::Range;

/// Points of a tile. Measured at D = 64 in f64: 128 points take 8 % longer, 512 are 1 % faster and twice the memory.
pub const TILE_POINTS: usize = 256;

/// Columns of a panel below the dimension from which faer's triangular product is the faster.
/// Measured in f64, of a large product's rate: panels of 16 reach 72 % at D = 64 (of 32: 63 %, triangular 60 %), and
/// triangular reaches 83 % at D = 256 (panels of 16: 70 %, of 32: 76 %). In f32 panels of 16 and 32 are equal.
const PANEL: usize = 16;

/// See [`PANEL`].
const TRIANGULAR_FROM: usize = 128;

/// What [`centre`] sums besides the tile it writes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Rows of the tile: points of positive weight.
    pub rows: usize,
    /// Their total weight.
    pub weight: f64,
}

/// Writes `√w_n (x_n - centre)` of each point of positive weight into a row-major tile, and adds `Σ_n w_n (x_n - centre)`.
///
/// # Shapes
/// `points: B × D` (any strides), `centre: D`, `tile:` at least `B × D`, `sums: D`.
pub fn centre<T: Scalar>(
    simd: Simd,
    points: MatRef<'_, T>,
    weights: Option<&[f64]>,
    centre: &[T],
    tile: &mut [T],
    sums: &mut [f64],
) -> Loaded {
    simd.run(Centre { points, weights, centre, tile, sums })
}

struct Centre<'a, T> {
    points: MatRef<'a, T>,
    weights: Option<&'a [f64]>,
    centre: &'a [T],
    tile: &'a mut [T],
    sums: &'a mut [f64],
}

impl<T: Scalar> Kernel for Centre<'_, T> {
    type Output = Loaded;

    #[inline(always)]
    fn run<M: MulAdd>(self) -> Loaded {
        let dim = self.centre.len();
        let (centre, sums) = (self.centre, &mut self.sums[..dim]);
        let mut loaded = Loaded::default();
        for i in 0..self.points.nrows() {
            let weight = self.weights.map_or(1.0, |weights| weights[i]);
            if !(weight > 0.0) {
                continue;
            }
            let out = &mut self.tile[loaded.rows * dim..][..dim];
            match self.points.row(i).try_as_row_major() {
                Some(row) => {
                    for ((y, &x), &c) in out.iter_mut().zip(row.as_slice()).zip(centre) {
                        *y = x - c;
                    }
                }
                None => {
                    for (d, (y, &c)) in out.iter_mut().zip(centre).enumerate() {
                        *y = self.points[(i, d)] - c;
                    }
                }
            }
            if self.weights.is_none() {
                for (sum, &y) in sums.iter_mut().zip(&*out) {
                    *sum += y.to_f64();
                }
            } else {
                let root = T::from_f64(weight.sqrt());
                for (sum, y) in sums.iter_mut().zip(out) {
                    *sum += weight * y.to_f64();
                    *y *= root;
                }
            }
            loaded.rows += 1;
            loaded.weight += weight;
        }
        loaded
    }
}

/// Adds the lower triangle of `Y' Y`, for some of its columns: `out[i, j] += Σ_n y_ni y_n(first+j)`, `i ≥ j`.
///
/// # Shapes
/// `tile: B × D`; `out: (D - first) × columns.len()` with `first = columns.start`, so that its row 0 is the diagonal of
/// its column 0. Entries above the diagonal receive numbers without meaning.
pub fn scatter<T: Scalar>(tile: MatRef<'_, T>, columns: Range<usize>, mut out: MatMut<'_, T>) {
    let (dim, first, width) = (tile.ncols(), columns.start, columns.len());
    debug_assert!(out.nrows() == dim - first && out.ncols() == width);
    if width >= TRIANGULAR_FROM {
        let (mut square, rest) = out.split_at_row_mut(width);
        let y = tile.subcols(first, width);
        triangular::matmul(
            square.as_mut(),
            BlockStructure::TriangularLower,
            Accum::Add,
            y.transpose(),
            BlockStructure::Rectangular,
            y,
            BlockStructure::Rectangular,
            T::ONE,
            Par::Seq,
        );
        let below = tile.subcols(first + width, dim - first - width);
        matmul(rest, Accum::Add, below.transpose(), y, T::ONE, Par::Seq);
        return;
    }
    for start in (0..width).step_by(PANEL) {
        let count = PANEL.min(width - start);
        let rows = dim - first - start;
        matmul(
            out.as_mut().submatrix_mut(start, start, rows, count),
            Accum::Add,
            tile.subcols(first + start, rows).transpose(),
            tile.subcols(first + start, count),
            T::ONE,
            Par::Seq,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faer::Mat;

    /// Mean and scatter by definition.
    fn matches_the_definition<T: Scalar>(tolerance: f64) {
        for (level, simd) in Simd::available() {
            for (n, dim) in [(1, 1), (3, 5), (64, 16), (70, 33), (31, 150)] {
                let value = |k: usize| T::from_f64((k * 37 % 101) as f64 / 50.0 - 1.0);
                let rows: Vec<T> = (0..n * dim).map(value).collect();
                let weights: Vec<f64> = (0..n).map(|i| (i % 4) as f64 / 2.0).collect();
                let c: Vec<T> = (0..dim).map(|d| T::from_f64(0.01 * d as f64)).collect();
                let row_major = MatRef::from_row_major_slice(&rows, n, dim);
                let column_major = row_major.to_owned();
                for (points, weights) in [
                    (row_major, None),
                    (row_major, Some(&weights[..])),
                    (column_major.as_ref(), Some(&weights[..])),
                ] {
                    let w = |i: usize| weights.map_or(1.0, |weights| weights[i]);
                    let y = |i: usize, d: usize| (points[(i, d)] - c[d]).to_f64();
                    let mut tile = vec![T::ZERO; n * dim];
                    let mut sums = vec![1.0; dim];
                    let loaded = centre(simd, points, weights, &c, &mut tile, &mut sums);
                    assert_eq!(loaded.rows, (0..n).filter(|&i| w(i) > 0.0).count());
                    let tile =
                        MatRef::from_row_major_slice(&tile[..loaded.rows * dim], loaded.rows, dim);
                    let close = |found: f64, expected: f64| {
                        assert!(
                            (found - expected).abs() <= tolerance * n as f64,
                            "{level:?} {n} x {dim}: {found}, expected {expected}"
                        );
                    };
                    close(loaded.weight, (0..n).map(w).sum());
                    for columns in [0..dim, 0..dim / 2, dim / 2..dim, dim / 3..dim] {
                        let first = columns.start;
                        let mut out = Mat::<T>::ones(dim - first, columns.len());
                        scatter(tile, columns.clone(), out.as_mut());
                        for j in columns {
                            close(sums[j] - 1.0, (0..n).map(|i| w(i) * y(i, j)).sum());
                            for i in j..dim {
                                let expected: f64 = (0..n).map(|k| w(k) * y(k, i) * y(k, j)).sum();
                                close(out[(i - first, j - first)].to_f64() - 1.0, expected);
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn matches_the_definition_in_both_precisions() {
        matches_the_definition::<f32>(2e-6);
        matches_the_definition::<f64>(4e-15);
    }
}
