//! Mean and scatter of points: a symmetric update of rank B for each tile, half the work of a full product.
//!
//! The tile is row-major, as points mostly come. Its rows are then what a product over points reads, so that nothing is packed: a
//! block of the triangle stays in registers while the points pass.

use super::affine::GROUP;
use super::dispatch::{Kernel, MulAdd, Simd, VectorKernel, Vectors};
use super::prefetch::Ahead;
use crate::scalar::Scalar;
use faer::MatRef;
use std::ops::Range;

/// Points of a tile. Measured at D = 64 and 256 in f64, in cache: 128 points 74 and 78 GFLOP/s, 64 points 73 and 75, 256 points
/// 64 and 73.
pub const TILE_POINTS: usize = 128;

/// Columns of the scatter that are summed together: parts of it begin at multiples.
pub const PART: usize = 16;

/// Sums that [`centre`] takes besides the tile that it writes.
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
/// `points: B × D` (any strides), `centre: D`, `tile: B` rows `stride` apart, of which D numbers are written, `sums: D`.
pub fn centre<T: Scalar>(
    simd: Simd,
    points: MatRef<'_, T>,
    weights: Option<&[f64]>,
    centre: &[T],
    tile: &mut [T],
    stride: usize,
    sums: &mut [f64],
) -> Loaded {
    simd.run(Centre { points, weights, centre, tile, stride, sums })
}

struct Centre<'a, T> {
    points: MatRef<'a, T>,
    weights: Option<&'a [f64]>,
    centre: &'a [T],
    tile: &'a mut [T],
    stride: usize,
    sums: &'a mut [f64],
}

impl<T: Scalar> Kernel for Centre<'_, T> {
    type Output = Loaded;

    #[inline(always)]
    fn run<M: MulAdd>(self) -> Loaded {
        let dim = self.centre.len();
        let (centre, sums) = (&self.centre[..dim], &mut self.sums[..dim]);
        let n = self.points.nrows();
        let row = |i: usize| Some(&self.points.row(i).try_as_row_major()?.as_slice()[..dim]);
        let mut loaded = Loaded::default();
        let mut i = 0;
        if self.weights.is_none() && dim > 0 {
            // Sums are read and written once for as many points.
            let mut tile = self.tile.chunks_exact_mut(4 * self.stride);
            while i + 4 <= n
                && let (Some(x0), Some(x1), Some(x2), Some(x3)) =
                    (row(i), row(i + 1), row(i + 2), row(i + 3))
                && let Some(out) = tile.next()
            {
                let (y0, out) = out.split_at_mut(self.stride);
                let (y1, out) = out.split_at_mut(self.stride);
                let (y2, y3) = out.split_at_mut(self.stride);
                let (y0, y1) = (&mut y0[..dim], &mut y1[..dim]);
                let (y2, y3) = (&mut y2[..dim], &mut y3[..dim]);
                for d in 0..dim {
                    y0[d] = x0[d] - centre[d];
                    y1[d] = x1[d] - centre[d];
                    y2[d] = x2[d] - centre[d];
                    y3[d] = x3[d] - centre[d];
                    let low = y0[d].to_f64() + y1[d].to_f64();
                    sums[d] += low + (y2[d].to_f64() + y3[d].to_f64());
                }
                i += 4;
            }
            loaded = Loaded { rows: i, weight: i as f64 };
        }
        for i in i..n {
            let weight = self.weights.map_or(1.0, |weights| weights[i]);
            if !(weight > 0.0) {
                continue;
            }
            let out = &mut self.tile[loaded.rows * self.stride..][..dim];
            match row(i) {
                Some(row) => {
                    for ((y, &x), &c) in out.iter_mut().zip(row).zip(centre) {
                        *y = x - c;
                    }
                }
                None => {
                    for (d, (y, &c)) in out.iter_mut().zip(centre).enumerate() {
                        *y = self.points[(i, d)] - c;
                    }
                }
            }
            let root = T::from_f64(weight.sqrt());
            for (sum, y) in sums.iter_mut().zip(out) {
                *sum += weight * y.to_f64();
                *y *= root;
            }
            loaded.rows += 1;
            loaded.weight += weight;
        }
        loaded
    }
}

/// Adds first and second moments of points about a centre: `Σ_n w_n (x_n - c)`, and `Σ_n w_n (x_n - c)(x_n - c)'` by rows of its upper
/// triangle. Points of weight zero cost nothing.
///
/// # Shapes
/// `points: B × D` (any strides, but rows are read faster), `weights: B`, `about: D`, `first: D`, `second: D(D+1)/2`. Scratch memory: `tile`,
/// B rows `stride` apart with zeros behind their D numbers, and `products`, D columns as far apart, zeros at first.
///
/// # Panics
/// If slices are too short, or `stride` is no multiple of a cache line.
#[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
pub fn moments<T: Scalar>(
    simd: Simd,
    points: MatRef<'_, T>,
    weights: &[f64],
    about: &[T],
    [tile, products]: [&mut [T]; 2],
    stride: usize,
    first: &mut [f64],
    second: &mut [f64],
) {
    let dim = about.len();
    let rows = centre(simd, points, Some(weights), about, tile, stride, first).rows;
    if rows == 0 {
        return;
    }
    let (tile, products) = (&tile[..rows * stride], &mut products[..dim * stride]);
    scatter(simd, tile, dim, stride, 0..dim, Ahead::nothing(), products);
    flush(products, dim, stride, second);
}

/// Moves what [`scatter`] has summed into a triangle in `f64`, column by column, and leaves zeros there. What lies above the
/// diagonal keeps numbers without meaning.
///
/// # Shapes
/// `products:` columns of the scatter `apart` numbers apart, `height` numbers in the first from its diagonal on; `triangle:` these columns
/// without what lies above the diagonal.
pub fn flush<T: Scalar>(products: &mut [T], height: usize, apart: usize, triangle: &mut [f64]) {
    let mut rest = triangle;
    for (k, column) in products.chunks_exact_mut(apart).enumerate() {
        let (out, after) = rest.split_at_mut(height - k);
        for (sum, product) in out.iter_mut().zip(&mut column[k..]) {
            *sum += product.to_f64();
            *product = T::ZERO;
        }
        rest = after;
    }
}

/// Adds the lower triangle of `Y' Y`, for some of its columns: `out[i, j] += Σ_n y_ni y_n(first+j)`, `i ≥ j`.
///
/// `ahead` is fetched to the caches meanwhile: reading points of 64 dimensions takes as long as the arithmetic, and
/// overlapping the two saved a sixth of a pass over 500 000 of them.
///
/// # Shapes
/// `tile:` rows `stride` apart, zeros behind their D numbers; `out: columns.len()` columns `stride - columns.start` apart, so that
/// its row 0 is the diagonal of its column 0. Entries above the diagonal receive numbers without meaning.
///
/// # Panics
/// If slices are too short, `columns` do not begin at a multiple of [`PART`], or `stride` is no multiple of a cache line.
pub fn scatter<T: Scalar>(
    simd: Simd,
    tile: &[T],
    dim: usize,
    stride: usize,
    columns: Range<usize>,
    ahead: Ahead,
    out: &mut [T],
) {
    assert!(stride >= dim && (stride * size_of::<T>()).is_multiple_of(64), "whole cache lines");
    assert!(columns.start.is_multiple_of(PART) && columns.end <= dim, "whole parts");
    assert!(out.len() >= columns.len() * (stride - columns.start), "too few sums");
    T::run_on_vectors(simd, Triangle { tile, dim, stride, columns, ahead, out });
}

struct Triangle<'a, T> {
    tile: &'a [T],
    dim: usize,
    stride: usize,
    columns: Range<usize>,
    ahead: Ahead,
    out: &'a mut [T],
}

impl<T: Scalar> VectorKernel<T> for Triangle<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vectors<Element = T>>(mut self, simd: S) {
        let groups = self.columns.clone().step_by(GROUP);
        // The first vector of rows that a group of columns needs.
        let first_row = |j: usize| j / S::COUNT * S::COUNT;
        let vectors = |j: usize| (self.dim - first_row(j)).div_ceil(S::COUNT);
        let blocks: usize = groups.clone().map(|j| vectors(j).div_ceil(3)).sum();
        let halves = if S::REGISTERS >= 32 { 1 } else { 2 };
        self.ahead = self.ahead.in_steps(blocks * halves * (self.tile.len() / self.stride));
        for j in groups {
            let mut i = first_row(j);
            while i < self.dim {
                let left = (self.dim - i).div_ceil(S::COUNT);
                // Four are two and two: a single vector leaves the units idle.
                i += S::COUNT
                    * match left {
                        1 => self.rows::<S, 1>(simd, i, j),
                        2 | 4 => self.rows::<S, 2>(simd, i, j),
                        _ => self.rows::<S, 3>(simd, i, j),
                    };
            }
        }
    }
}

impl<T: Scalar> Triangle<'_, T> {
    /// V vectors of rows from `i` on × a group of columns from `j` on; returns V.
    #[inline(always)]
    fn rows<S: Vectors<Element = T>, const V: usize>(
        &mut self,
        simd: S,
        i: usize,
        j: usize,
    ) -> usize {
        if S::REGISTERS >= 32 {
            self.block::<S, V, GROUP>(simd, i, j);
        } else {
            self.block::<S, V, 4>(simd, i, j);
            self.block::<S, V, 4>(simd, i, j + 4);
        }
        V
    }

    /// V vectors of rows × K columns, as far as they exist.
    #[inline(always)]
    fn block<S: Vectors<Element = T>, const V: usize, const K: usize>(
        &mut self,
        simd: S,
        i: usize,
        j: usize,
    ) {
        let first = self.columns.start;
        let (width, apart) = (V * S::COUNT, self.stride - first);
        let count = K.min(self.columns.end.saturating_sub(j));
        let mut sums = [[simd.splat(T::ZERO); V]; K];
        for k in 0..K {
            if k < count {
                let column = S::vectors(&self.out[(j - first + k) * apart + i - first..][..width]);
                sums[k].copy_from_slice(&column[..V]);
            }
        }
        let mut ahead = self.ahead;
        for y in self.tile.chunks_exact(self.stride) {
            let rows = &S::vectors(&y[i..i + width])[..V];
            let columns = &y[j..j + K];
            for k in 0..K {
                let y = simd.splat(columns[k]);
                for v in 0..V {
                    sums[k][v] = simd.mul_add(rows[v], y, sums[k][v]);
                }
            }
            ahead.step();
        }
        self.ahead = ahead;
        for k in 0..K {
            if k < count {
                let column = &mut self.out[(j - first + k) * apart + i - first..][..width];
                S::vectors_mut(column)[..V].copy_from_slice(&sums[k]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::softmax::padded_stride;

    /// Returns the mean and scatter by definition.
    fn matches_the_definition<T: Scalar>(tolerance: f64) {
        for (level, simd) in Simd::available() {
            for (n, dim) in [(1, 1), (3, 5), (64, 16), (70, 33), (9, 64), (31, 150)] {
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
                    let stride = padded_stride::<T>(dim);
                    let mut tile = vec![T::ZERO; n * stride];
                    let mut sums = vec![1.0; dim];
                    let loaded = centre(simd, points, weights, &c, &mut tile, stride, &mut sums);
                    assert_eq!(loaded.rows, (0..n).filter(|&i| w(i) > 0.0).count());
                    let tile = &tile[..loaded.rows * stride];
                    let close = |found: f64, expected: f64| {
                        assert!(
                            (found - expected).abs() <= tolerance * n as f64,
                            "{level:?} {n} x {dim}: {found}, expected {expected}"
                        );
                    };
                    close(loaded.weight, (0..n).map(w).sum());
                    if let Some(weights) = weights {
                        let (mut tile, mut products) =
                            (vec![T::ZERO; n * stride], vec![T::ZERO; dim * stride]);
                        let (mut first, mut second) =
                            (vec![1.0; dim], vec![2.0; dim * (dim + 1) / 2]);
                        let (memory, first, second) =
                            ([&mut tile[..], &mut products], &mut first, &mut second);
                        // What the first leaves in the scratch memory must not count in the second.
                        let [tile, products] = memory;
                        for _ in 0..2 {
                            let memory = [&mut *tile, &mut *products];
                            moments(simd, points, weights, &c, memory, stride, first, second);
                        }
                        let mut found = second.iter();
                        for i in 0..dim {
                            close((first[i] - 1.0) / 2.0, (0..n).map(|k| w(k) * y(k, i)).sum());
                            for j in i..dim {
                                let expected: f64 = (0..n).map(|k| w(k) * y(k, i) * y(k, j)).sum();
                                close((found.next().unwrap() - 2.0) / 2.0, expected);
                            }
                        }
                    }
                    let part = dim / 2 / PART * PART;
                    for columns in [0..dim, 0..dim / 2, part..dim, part..dim - dim / 4] {
                        let first = columns.start;
                        let apart = stride - first;
                        let ahead = Ahead::behind(row_major);
                        let mut out = vec![T::ONE; columns.len() * apart];
                        scatter(simd, tile, dim, stride, columns.clone(), ahead, &mut out);
                        for j in columns {
                            close(sums[j] - 1.0, (0..n).map(|i| w(i) * y(i, j)).sum());
                            for i in j..dim {
                                let expected: f64 = (0..n).map(|k| w(k) * y(k, i) * y(k, j)).sum();
                                let found = out[(j - first) * apart + i - first].to_f64() - 1.0;
                                close(found, expected);
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
