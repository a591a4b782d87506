//! Copies points into tiles: rows become columns, about a centre.

use super::Tile;
use crate::kernels::dispatch::{Kernel, MulAdd, Simd};
use crate::scalar::Scalar;
use faer::MatRef;

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

/// Copies a tile, minus `centre`, into another.
///
/// # Shapes
/// `tile, out: D` columns of `n_points`, `stride` apart; `centre: D`.
pub fn shift<T: Scalar>(simd: Simd, tile: Tile<'_, T>, centre: &[T], out: &mut [T]) {
    simd.run(Shift { tile, centre, out });
}

struct Shift<'a, 'b, T> {
    tile: Tile<'a, T>,
    centre: &'a [T],
    out: &'b mut [T],
}

impl<T: Scalar> Kernel for Shift<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let Tile { values, n_points, stride, .. } = self.tile;
        let columns = values.chunks(stride).zip(self.out.chunks_mut(stride));
        for ((from, to), &centre) in columns.zip(self.centre) {
            for (to, &from) in to[..n_points].iter_mut().zip(&from[..n_points]) {
                *to = from - centre;
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

impl<'a, T: Scalar, F: Fn(usize) -> faer::RowRef<'a, T>> LoadRows<'a, '_, T, F> {
    /// Returns all rows, `W` at a time as long as there are as many.
    #[inline(always)]
    fn all<const W: usize>(mut self) {
        let whole = self.n_points / W * W;
        for start in (0..whole).step_by(W) {
            self.rows::<W>(start);
        }
        for start in whole..self.n_points {
            self.rows::<1>(start);
        }
    }

    #[inline(always)]
    fn rows<const W: usize>(&mut self, start: usize) {
        let row = |i: usize| self.row_of(i);
        let mut rows = [row(start); W];
        for (k, other) in rows.iter_mut().enumerate() {
            *other = row(start + k);
        }
        let mut d = 0;
        while d < self.dim {
            d += match self.dim - d {
                8.. => self.columns::<W, 8>(&rows, start, d),
                4.. => self.columns::<W, 4>(&rows, start, d),
                2.. => self.columns::<W, 2>(&rows, start, d),
                _ => self.columns::<W, 1>(&rows, start, d),
            };
        }
    }

    #[inline(always)]
    fn row_of(&self, i: usize) -> &'a [T] {
        let row = (self.row)(i).try_as_row_major().expect("unit column stride");
        &row.as_slice()[..self.dim]
    }

    /// Copies K dimensions of W rows, as arrays whose bounds need no checks. Returns K.
    #[inline(always)]
    fn columns<const W: usize, const K: usize>(
        &mut self,
        rows: &[&[T]; W],
        start: usize,
        d: usize,
    ) -> usize {
        let mut parts = [rows[0][d..].first_chunk::<K>().expect("rows hold all dimensions"); W];
        for (part, row) in parts.iter_mut().zip(rows) {
            *part = row[d..].first_chunk::<K>().expect("rows hold all dimensions");
        }
        for k in 0..K {
            let shift = if self.centre.is_empty() { T::ZERO } else { self.centre[d + k] };
            let column = self.tile[(d + k) * self.stride + start..].first_chunk_mut::<W>();
            let column = column.expect("columns hold all points");
            for (value, part) in column.iter_mut().zip(&parts) {
                *value = part[k] - shift;
            }
        }
        K
    }
}

impl<'a, T: Scalar, F: Fn(usize) -> faer::RowRef<'a, T>> Kernel for LoadRows<'a, '_, T, F> {
    type Output = ();

    /// Goes through as many rows at a time as give each column a whole cache line. Their number is known to the compiler, which makes
    /// vectors of the values then: 0.4 ns a value in the L2 cache against 0.6 for a number that is not, and as fast as
    /// transposing 8 x 8 values in registers.
    #[inline(always)]
    fn run<M: MulAdd>(self) {
        const CACHE_LINE: usize = 64;
        if size_of::<T>() * 8 == CACHE_LINE { self.all::<8>() } else { self.all::<16>() }
    }
}
