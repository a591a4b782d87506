//! The centred form of a Gaussian logit, for components whose packed form would cancel.
//!
//! The packed form `η · T(x)` is a sum of terms as large as `|x|² λ_max` that add up to something small near
//! the mean. Where that loses too many digits, the logit is computed as `bias - ½ |F (x - μ)|²` with a whitening
//! factor `F' F = Σ⁻¹`: a sum of squares, which cannot cancel.

use super::dispatch::{Kernel, MulAdd, Simd};
use crate::scalar::Scalar;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// A factor `F` of a precision matrix, `F' F = Σ⁻¹`.
#[derive(Clone, Debug, PartialEq)]
pub enum Whitening<T> {
    /// A multiple of the unit matrix.
    Scale(T),
    /// A diagonal matrix, D values.
    Diagonal(Vec<T>),
    /// A dense `D × D` matrix, row-major.
    Dense(Vec<T>),
}

impl Whitening<f64> {
    /// Returns the same factor, rounded to a working precision.
    pub(crate) fn rounded<T: Scalar>(&self) -> Whitening<T> {
        let round = |values: &[f64]| values.iter().map(|&v| T::from_f64(v)).collect();
        match self {
            Self::Scale(scale) => Whitening::Scale(T::from_f64(*scale)),
            Self::Diagonal(values) => Whitening::Diagonal(round(values)),
            Self::Dense(values) => Whitening::Dense(round(values)),
        }
    }
}

/// Computes `out_i = bias - ½ |F (y_i - offset)|²` for each point of a tile.
///
/// # Shapes
/// `y: D` columns of `n_points`, `stride` apart; `offset: D`; `scratch:` as large as `y`; `out: n_points`.
/// `y` is overwritten with `y - offset`.
#[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
pub fn quadratic<T: Scalar>(
    simd: Simd,
    y: &mut [T],
    n_points: usize,
    stride: usize,
    offset: &[T],
    whitening: &Whitening<T>,
    bias: T,
    scratch: &mut [T],
    out: &mut [T],
) {
    let dim = offset.len();
    simd.run(Shift { y, n_points, stride, offset });
    let (source, scales): (&[T], Scales<'_, T>) = match whitening {
        Whitening::Scale(scale) => (y, Scales::One(*scale)),
        Whitening::Diagonal(scales) => (y, Scales::Each(scales)),
        Whitening::Dense(factor) => {
            let rows =
                |values| MatRef::from_column_major_slice_with_stride(values, n_points, dim, stride);
            matmul(
                MatMut::from_column_major_slice_with_stride_mut(scratch, n_points, dim, stride),
                Accum::Replace,
                rows(y),
                MatRef::from_row_major_slice(factor, dim, dim).transpose(),
                T::ONE,
                Par::Seq,
            );
            (scratch, Scales::One(T::ONE))
        }
    };
    simd.run(NegativeHalfNorm { y: source, n_points, stride, dim, scales, bias, out });
}

struct Shift<'a, T> {
    y: &'a mut [T],
    n_points: usize,
    stride: usize,
    offset: &'a [T],
}

impl<T: Scalar> Kernel for Shift<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<M: MulAdd>(self) {
        for (column, &offset) in self.y.chunks_mut(self.stride).zip(self.offset) {
            for value in &mut column[..self.n_points] {
                *value -= offset;
            }
        }
    }
}

enum Scales<'a, T> {
    One(T),
    Each(&'a [T]),
}

struct NegativeHalfNorm<'a, T> {
    y: &'a [T],
    n_points: usize,
    stride: usize,
    dim: usize,
    scales: Scales<'a, T>,
    bias: T,
    out: &'a mut [T],
}

impl<T: Scalar> Kernel for NegativeHalfNorm<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let out = &mut self.out[..self.n_points];
        out.fill(T::ZERO);
        for (d, column) in self.y.chunks(self.stride).take(self.dim).enumerate() {
            let scale = match self.scales {
                Scales::One(scale) => scale,
                Scales::Each(scales) => scales[d],
            };
            for (sum, &value) in out.iter_mut().zip(column) {
                let scaled = scale * value;
                *sum = M::mul_add(scaled, scaled, *sum);
            }
        }
        let minus_half = T::from_f64(-0.5);
        for sum in out {
            *sum = M::mul_add(minus_half, *sum, self.bias);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches_the_reference<T: Scalar>(tolerance: f64) {
        for (level, simd) in Simd::available() {
            for (n, dim) in [(1, 1), (5, 2), (8, 3), (65, 4)] {
                let stride = n + 2;
                let value = |k: usize| T::from_f64((k * 37 % 23) as f64 / 5.0 - 2.0);
                let tile: Vec<T> = (0..stride * dim).map(value).collect();
                let offset: Vec<T> = (0..dim).map(|d| T::from_f64(0.25 * d as f64)).collect();
                let dense: Vec<T> = (0..dim * dim).map(|k| value(k + 5)).collect();
                for whitening in [
                    Whitening::Scale(T::from_f64(1.5)),
                    Whitening::Diagonal(dense[..dim].to_vec()),
                    Whitening::Dense(dense.clone()),
                ] {
                    let mut y = tile.clone();
                    let mut out = vec![T::ZERO; n];
                    let mut scratch = vec![T::ZERO; stride * dim];
                    let bias = T::from_f64(0.75);
                    quadratic(
                        simd,
                        &mut y,
                        n,
                        stride,
                        &offset,
                        &whitening,
                        bias,
                        &mut scratch,
                        &mut out,
                    );
                    for i in 0..n {
                        let y = |d: usize| (tile[d * stride + i] - offset[d]).to_f64();
                        let whitened = |r: usize| match &whitening {
                            Whitening::Scale(s) => s.to_f64() * y(r),
                            Whitening::Diagonal(s) => s[r].to_f64() * y(r),
                            Whitening::Dense(f) => {
                                (0..dim).map(|d| f[r * dim + d].to_f64() * y(d)).sum()
                            }
                        };
                        let norm: f64 = (0..dim).map(|r| whitened(r).powi(2)).sum();
                        let expected = 0.75 - 0.5 * norm;
                        let error = (out[i].to_f64() - expected).abs();
                        assert!(error <= tolerance * norm.max(1.0), "{level:?} {whitening:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn matches_the_reference_in_both_precisions() {
        matches_the_reference::<f32>(2e-6);
        matches_the_reference::<f64>(4e-15);
    }
}
