//! Points in `f32` and logits in `f64`: to the wider numbers and back.

use super::dispatch::{Kernel, MulAdd, Simd};
use super::statistics::Tile;
use crate::scalar::Scalar;

/// Points that are taken together: a strip stays in registers.
const STRIP: usize = 16;

/// Copies points of a tile from `first` on into columns of `stride` numbers, as `f64`. Zeros follow the last point.
pub fn widen<T: Scalar>(
    simd: Simd,
    tile: Tile<'_, T>,
    first: usize,
    out: &mut [f64],
    stride: usize,
) {
    simd.run(Widen { tile, first, out, stride });
}

/// Writes logits less the largest of their point, rounded to `T`, and the largest.
///
/// So logits of any size keep the digits of their differences. A point of which one logit is NaN or +∞ gets NaN; where all are -∞,
/// they stay so.
///
/// # Shapes
/// `wide: C` columns, `wide_stride` apart; `logits: C` columns, `stride` apart; `largest:` one a point.
pub fn narrow<T: Scalar>(
    simd: Simd,
    wide: &[f64],
    wide_stride: usize,
    logits: &mut [T],
    stride: usize,
    largest: &mut [f64],
) {
    assert!(stride >= largest.len() && wide_stride >= largest.len(), "columns overlap");
    simd.run(Narrow { wide, wide_stride, logits, stride, largest });
}

struct Widen<'a, 'b, T> {
    tile: Tile<'a, T>,
    first: usize,
    out: &'b mut [f64],
    stride: usize,
}

impl<T: Scalar> Kernel for Widen<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let Tile { values, dim, n_points, stride } = self.tile;
        let count = (n_points - self.first).min(self.stride);
        for (d, out) in self.out.chunks_exact_mut(self.stride).take(dim).enumerate() {
            let column = &values[d * stride + self.first..][..count];
            for (out, value) in out.iter_mut().zip(column) {
                *out = value.to_f64();
            }
            out[count..].fill(0.0);
        }
    }
}

struct Narrow<'a, T> {
    wide: &'a [f64],
    wide_stride: usize,
    logits: &'a mut [T],
    stride: usize,
    largest: &'a mut [f64],
}

impl<T: Scalar> Kernel for Narrow<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(mut self) {
        let whole = self.largest.len() / STRIP * STRIP;
        for start in (0..whole).step_by(STRIP) {
            self.strip::<STRIP>(start);
        }
        for start in whole..self.largest.len() {
            self.strip::<1>(start);
        }
    }
}

impl<T: Scalar> Narrow<'_, T> {
    #[inline(always)]
    fn strip<const W: usize>(&mut self, start: usize) {
        let mut largest = [f64::NEG_INFINITY; W];
        for column in self.wide.chunks_exact(self.wide_stride) {
            let column: &[f64; W] = column[start..].first_chunk().expect("whole strips");
            for i in 0..W {
                largest[i] = if column[i] > largest[i] { column[i] } else { largest[i] };
            }
        }
        let mut shift = largest;
        for shift in &mut shift {
            *shift = if *shift == f64::NEG_INFINITY { 0.0 } else { *shift };
        }
        let columns = self.wide.chunks_exact(self.wide_stride);
        for (column, out) in columns.zip(self.logits.chunks_mut(self.stride)) {
            let column: &[f64; W] = column[start..].first_chunk().expect("whole strips");
            let out: &mut [T; W] = out[start..].first_chunk_mut().expect("whole strips");
            for i in 0..W {
                out[i] = T::from_f64(column[i] - shift[i]);
            }
        }
        self.largest[start..start + W].copy_from_slice(&shift);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_logits_keep_differences_of_large_ones() {
        let (n, stride, wide_stride) = (37, 48, 40);
        let value = |c: usize, i: usize| 1e7 + 1e-4 * (c * i) as f64 - 10.0 * (c % 2) as f64;
        let mut wide = vec![0.0; 3 * wide_stride];
        for c in 0..3 {
            (0..n).for_each(|i| wide[c * wide_stride + i] = value(c, i));
        }
        (wide[5], wide[wide_stride + 6]) = (f64::NAN, f64::INFINITY);
        (0..3).for_each(|c| wide[c * wide_stride + 7] = f64::NEG_INFINITY);
        for (level, simd) in Simd::available() {
            let (mut logits, mut largest) = (vec![9f32; 3 * stride], vec![0.0; n]);
            narrow(simd, &wide, wide_stride, &mut logits, stride, &mut largest);
            for i in (0..n).filter(|i| ![5, 6, 7].contains(i)) {
                let max = (0..3).fold(f64::MIN, |max, c| f64::max(max, value(c, i)));
                assert_eq!(largest[i], max, "{level:?} {i}");
                for c in 0..3 {
                    let expected = value(c, i) - max;
                    assert_eq!(logits[c * stride + i], expected as f32, "{level:?} {c} {i}");
                }
            }
            assert!(logits[5].is_nan() && logits[stride + 6].is_nan(), "{level:?}");
            assert!((0..3).all(|c| logits[c * stride + 7] == f32::NEG_INFINITY), "{level:?}");
            assert_eq!(logits[n], 9.0, "{level:?}: nothing beyond the points");
        }
    }

    #[test]
    fn wide_points_end_with_zeros() {
        let values: Vec<f32> = (0..40).map(|k| k as f32).collect();
        let tile = Tile { values: &values, dim: 2, n_points: 19, stride: 20 };
        for (_, simd) in Simd::available() {
            let mut out = [9.0; 16];
            widen(simd, tile, 13, &mut out, 8);
            assert_eq!(out[..8], [13.0, 14.0, 15.0, 16.0, 17.0, 18.0, 0.0, 0.0]);
            assert_eq!(out[8..], [33.0, 34.0, 35.0, 36.0, 37.0, 38.0, 0.0, 0.0]);
        }
    }
}
