//! Element-wise parts of projecting points onto a few directions and back.

use super::dispatch::{Kernel, MulAdd, Simd};
use crate::scalar::Scalar;
use faer::MatRef;

/// Partial sums of a squared norm: as many as keep the widest vector units busy, added up pairwise.
const LANES: usize = 32;

/// Writes `(x - mean) ∘ scale` of each point into a row-major tile; the mean in two parts, a number of `T` and what
/// rounding has taken of it.
///
/// # Shapes
/// `points: B × D` (any strides), `mean, rest, scale: D`, `tile:` at least `B × D`.
pub fn standardize<T: Scalar>(
    simd: Simd,
    points: MatRef<'_, T>,
    mean: &[T],
    rest: &[T],
    scale: &[T],
    tile: &mut [T],
) {
    simd.run(Standardize { points, mean, rest, scale, tile });
}

struct Standardize<'a, T> {
    points: MatRef<'a, T>,
    mean: &'a [T],
    rest: &'a [T],
    scale: &'a [T],
    tile: &'a mut [T],
}

impl<T: Scalar> Kernel for Standardize<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let dim = self.mean.len();
        let (mean, rest, scale) = (self.mean, &self.rest[..dim], &self.scale[..dim]);
        for (i, out) in self.tile.chunks_exact_mut(dim).take(self.points.nrows()).enumerate() {
            match self.points.row(i).try_as_row_major() {
                Some(row) => {
                    let row = &row.as_slice()[..dim];
                    for d in 0..dim {
                        out[d] = ((row[d] - mean[d]) - rest[d]) * scale[d];
                    }
                }
                None => {
                    for d in 0..dim {
                        out[d] = ((self.points[(i, d)] - mean[d]) - rest[d]) * scale[d];
                    }
                }
            }
        }
    }
}

/// Adds `factor |y_i|²` of each row of a row-major tile to a number for each.
///
/// # Shapes
/// `tile: B × D`, `out: B`.
pub fn add_squared_norms<T: Scalar>(
    simd: Simd,
    tile: &[T],
    dim: usize,
    factor: f64,
    out: &mut [f64],
) {
    simd.run(SquaredNorms { tile, dim, factor, out });
}

struct SquaredNorms<'a, T> {
    tile: &'a [T],
    dim: usize,
    factor: f64,
    out: &'a mut [f64],
}

impl<T: Scalar> Kernel for SquaredNorms<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        for (row, out) in self.tile.chunks_exact(self.dim).zip(self.out) {
            let mut sums = [T::ZERO; LANES];
            let (chunks, rest) = row.as_chunks::<LANES>();
            for chunk in chunks {
                for k in 0..LANES {
                    sums[k] = M::mul_add(chunk[k], chunk[k], sums[k]);
                }
            }
            let mut sum: f64 = sums.iter().map(|sum| sum.to_f64()).sum();
            for value in rest {
                sum += value.to_f64() * value.to_f64();
            }
            *out += self.factor * sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches_the_definition<T: Scalar>(tolerance: f64) {
        for (level, simd) in Simd::available() {
            for (n, dim) in [(1, 1), (3, 7), (5, 40), (2, 64)] {
                let value = |k: usize| T::from_f64((k * 37 % 101) as f64 / 50.0 - 1.0);
                let rows: Vec<T> = (0..n * dim).map(value).collect();
                let mean: Vec<T> = (0..dim).map(|d| value(d + 3)).collect();
                let rest: Vec<T> = (0..dim).map(|d| T::from_f64(1e-3 * d as f64)).collect();
                let scale: Vec<T> = (0..dim).map(|d| T::from_f64(0.5 + d as f64)).collect();
                let row_major = MatRef::from_row_major_slice(&rows, n, dim);
                let column_major = row_major.to_owned();
                for points in [row_major, column_major.as_ref()] {
                    let mut tile = vec![T::ZERO; (n + 1) * dim];
                    standardize(simd, points, &mean, &rest, &scale, &mut tile);
                    let mut norms = vec![1.0; n];
                    add_squared_norms(simd, &tile[..n * dim], dim, -0.5, &mut norms);
                    for i in 0..n {
                        let mut norm = 0.0;
                        for d in 0..dim {
                            let y =
                                (rows[i * dim + d].to_f64() - mean[d].to_f64() - rest[d].to_f64())
                                    * scale[d].to_f64();
                            assert!(
                                (tile[i * dim + d].to_f64() - y).abs()
                                    <= tolerance * scale[d].to_f64()
                            );
                            norm += y * y;
                        }
                        let error = (norms[i] - 1.0 + 0.5 * norm).abs();
                        assert!(error <= tolerance * norm.max(1.0), "{level:?} {n} x {dim}");
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
