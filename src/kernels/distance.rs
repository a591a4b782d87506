//! Squared distances to a few candidate centres, for k-means++.

use super::dispatch::{Kernel, MulAdd, Simd};
use crate::scalar::Scalar;

/// Computes `out_i = min(nearest_i, |x_i - centre|²)` for each point of a tile.
///
/// # Shapes
/// `tile: D` columns of `out.len()` points, `stride` apart; `centre: D`.
pub fn nearest<T: Scalar>(
    simd: Simd,
    tile: &[T],
    stride: usize,
    centre: &[T],
    nearest: &[T],
    out: &mut [T],
) {
    simd.run(Nearest { tile, stride, centre, nearest, out });
}

struct Nearest<'a, T> {
    tile: &'a [T],
    stride: usize,
    centre: &'a [T],
    nearest: &'a [T],
    out: &'a mut [T],
}

impl<T: Scalar> Kernel for Nearest<'_, T> {
    type Output = ();

    /// Strips of 64 points keep the sums in registers while the columns pass.
    #[inline(always)]
    fn run<M: MulAdd>(self) {
        const STRIP: usize = 64;
        for (k, out) in self.out.chunks_mut(STRIP).enumerate() {
            let mut sums = [T::ZERO; STRIP];
            for (column, &c) in self.tile.chunks(self.stride).zip(self.centre) {
                for (sum, &x) in sums.iter_mut().zip(&column[k * STRIP..][..out.len()]) {
                    let difference = x - c;
                    *sum = M::mul_add(difference, difference, *sum);
                }
            }
            for ((out, &sum), &old) in out.iter_mut().zip(&sums).zip(&self.nearest[k * STRIP..]) {
                *out = if sum < old { sum } else { old };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_definition() {
        for (_, simd) in Simd::available() {
            for n in [0, 1, 63, 64, 65, 200] {
                let stride = n + 3;
                let tile: Vec<f64> = (0..3 * stride).map(|k| (k * 5 % 13) as f64).collect();
                let old: Vec<f64> = (0..n).map(|i| (i % 90) as f64).collect();
                let mut out = vec![0.0; n];
                let centre = [1.0, 2.0, 3.0];
                nearest(simd, &tile, stride, &centre, &old, &mut out);
                for i in 0..n {
                    let square = |d: usize| (tile[d * stride + i] - centre[d]).powi(2);
                    assert_eq!(out[i], old[i].min((0..3).map(square).sum()));
                }
            }
        }
    }
}
