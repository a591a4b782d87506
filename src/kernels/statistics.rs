//! From a row-major block to a tile of sufficient statistics, points contiguous.
//!
//! A *tile* is column-major: column `j` stands at `values[j * stride..][..B]`, one value a point. Statistics
//! maps and the softmax then vectorise across points, with no horizontal reductions. Transposing a row-major
//! block on the way costs a few percent of a sweep.

use super::dispatch::{Kernel, MulAdd, Simd};
use crate::scalar::Scalar;
use faer::MatRef;

/// One sufficient statistic `T_l(x)` of a point `x`, in the terms that the kernels can evaluate.
///
/// A family states its statistics as a list of these; it never sees a point.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Statistic {
    /// `x_i`
    Value(u32),
    /// `x_i x_j`
    Product(u32, u32),
    /// `Σ_i x_i²` over all dimensions
    SquaredNorm,
}

/// Index from which the statistics are exactly all products `x_i x_j`, `i ≤ j`, by rows of the upper triangle.
pub fn all_products_from(statistics: &[Statistic], dim: usize) -> Option<usize> {
    let first = statistics.len().checked_sub(dim * (dim + 1) / 2)?;
    let pairs =
        (0..dim as u32).flat_map(|i| (i..dim as u32).map(move |j| Statistic::Product(i, j)));
    statistics[first..].iter().copied().eq(pairs).then_some(first)
}

/// Copies the points of a block, minus `centre`, into a tile.
///
/// # Shapes
/// `points: B × D` (any strides), `centre: D` or empty, `tile: D` columns of `B` values, `stride` apart.
pub fn load<T: Scalar>(
    simd: Simd,
    points: MatRef<'_, T>,
    centre: &[T],
    tile: &mut [T],
    stride: usize,
) {
    let (n_points, dim) = (points.nrows(), points.ncols());
    debug_assert!(stride >= n_points && (centre.len() == dim || centre.is_empty()));
    if points.col_stride() == 1 && n_points > 0 {
        simd.run(LoadRows { row: |i| points.row(i), n_points, dim, centre, tile, stride });
    } else {
        for (d, column) in tile.chunks_mut(stride).take(dim).enumerate() {
            let shift = centre.get(d).copied().unwrap_or(T::ZERO);
            for (i, value) in column[..n_points].iter_mut().enumerate() {
                *value = points[(i, d)] - shift;
            }
        }
    }
}

struct LoadRows<'a, 'b, T, F> {
    row: F,
    n_points: usize,
    dim: usize,
    centre: &'a [T],
    tile: &'b mut [T],
    stride: usize,
}

impl<'a, T: Scalar, F: Fn(usize) -> faer::RowRef<'a, T>> Kernel for LoadRows<'a, '_, T, F> {
    type Output = ();

    /// Sixteen rows at a time, so that each column receives whole cache lines.
    #[inline(always)]
    fn run<M: MulAdd>(self) {
        const ROWS: usize = 16;
        let mut start = 0;
        while start < self.n_points {
            let count = ROWS.min(self.n_points - start);
            let rows: [&[T]; ROWS] = std::array::from_fn(|k| {
                let row = (self.row)(start + k.min(count - 1));
                row.try_as_row_major().expect("unit column stride").as_slice()
            });
            for d in 0..self.dim {
                let shift = if self.centre.is_empty() { T::ZERO } else { self.centre[d] };
                let column = &mut self.tile[d * self.stride + start..][..count];
                for (value, row) in column.iter_mut().zip(&rows) {
                    *value = row[d] - shift;
                }
            }
            start += count;
        }
    }
}

/// A tile of points: D columns of `n_points`, `stride` apart.
#[derive(Clone, Copy, Debug)]
pub struct Tile<'a, T> {
    /// The columns.
    pub values: &'a [T],
    /// Number of columns.
    pub dim: usize,
    /// Points in each.
    pub n_points: usize,
    /// Distance between columns.
    pub stride: usize,
}

/// Evaluates a panel of statistics over a tile of points.
///
/// # Shapes
/// `out:` one column a statistic, `tile.stride` apart; the first `n_points` of each are written.
pub fn evaluate<T: Scalar>(simd: Simd, panel: &[Statistic], tile: Tile<'_, T>, out: &mut [T]) {
    simd.run(Evaluate { panel, tile, out });
}

struct Evaluate<'a, T> {
    panel: &'a [Statistic],
    tile: Tile<'a, T>,
    out: &'a mut [T],
}

impl<T: Scalar> Kernel for Evaluate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let Tile { values, dim, n_points: n, stride } = self.tile;
        let column = |i: u32| &values[i as usize * stride..][..n];
        for (statistic, out) in self.panel.iter().zip(self.out.chunks_mut(stride)) {
            let out = &mut out[..n];
            match *statistic {
                Statistic::Value(i) => out.copy_from_slice(column(i)),
                Statistic::Product(i, j) => {
                    for ((t, &a), &b) in out.iter_mut().zip(column(i)).zip(column(j)) {
                        *t = a * b;
                    }
                }
                Statistic::SquaredNorm => {
                    out.fill(T::ZERO);
                    for d in 0..dim as u32 {
                        for (t, &a) in out.iter_mut().zip(column(d)) {
                            *t = M::mul_add(a, a, *t);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference;
    use faer::Mat;

    fn points<T: Scalar>(n: usize, dim: usize) -> Mat<T> {
        Mat::from_fn(n, dim, |i, j| T::from_f64(((7 * i + 3 * j) % 11) as f64 - 4.5))
    }

    fn tiles_hold_centred_points<T: Scalar>() {
        for (_, simd) in Simd::available() {
            for (n, dim) in [(0, 1), (1, 1), (3, 2), (15, 3), (16, 5), (17, 1), (33, 7)] {
                let x = points::<T>(n, dim);
                let row_major: Vec<T> =
                    (0..n).flat_map(|i| (0..dim).map(move |j| (i, j))).map(|at| x[at]).collect();
                let rows = MatRef::from_row_major_slice(&row_major, n, dim);
                let centre: Vec<T> = (0..dim).map(|d| T::from_f64(d as f64 / 2.0)).collect();
                let stride = n + 3;
                for view in [x.as_ref(), rows] {
                    for centre in [&centre[..], &[]] {
                        let mut tile = vec![T::from_f64(99.0); stride * dim];
                        load(simd, view, centre, &mut tile, stride);
                        for d in 0..dim {
                            let shift = centre.get(d).copied().unwrap_or(T::ZERO);
                            for i in 0..n {
                                assert_eq!(tile[d * stride + i], x[(i, d)] - shift);
                            }
                        }
                    }
                }
            }
        }
    }

    fn statistics_match_the_reference<T: Scalar>() {
        use Statistic::{Product, SquaredNorm, Value};
        let panel = [Value(0), Value(2), Product(0, 0), Product(1, 2), SquaredNorm];
        for (level, simd) in Simd::available() {
            for n in [0, 1, 7, 8, 17, 64, 100] {
                let x = points::<T>(n, 3);
                let stride = n + 1;
                let mut tile = vec![T::ZERO; stride * 3];
                load(simd, x.as_ref(), &[], &mut tile, stride);
                let mut out = vec![T::ZERO; stride * panel.len()];
                evaluate(
                    simd,
                    &panel,
                    Tile { values: &tile, dim: 3, n_points: n, stride },
                    &mut out,
                );
                for i in 0..n {
                    let point: Vec<f64> = (0..3).map(|d| x[(i, d)].to_f64()).collect();
                    for (l, &statistic) in panel.iter().enumerate() {
                        let expected = reference::statistic(statistic, &point);
                        assert_eq!(
                            out[l * stride + i].to_f64(),
                            expected,
                            "{level:?} {statistic:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_run_of_all_products_is_recognised() {
        use Statistic::{Product, Value};
        let all = [Value(0), Product(0, 0), Product(0, 1), Product(1, 1)];
        assert_eq!(all_products_from(&all, 2), Some(1));
        assert_eq!(all_products_from(&all[1..], 2), Some(0));
        assert_eq!(all_products_from(&all[..3], 2), None);
        assert_eq!(all_products_from(&[Product(0, 0), Product(1, 1)], 2), None);
        assert_eq!(all_products_from(&[Product(0, 0), Product(1, 0), Product(1, 1)], 2), None);
    }

    #[test]
    fn tiles_hold_centred_points_in_both_precisions() {
        tiles_hold_centred_points::<f32>();
        tiles_hold_centred_points::<f64>();
    }

    #[test]
    fn statistics_match_the_reference_in_both_precisions() {
        statistics_match_the_reference::<f32>();
        statistics_match_the_reference::<f64>();
    }
}
