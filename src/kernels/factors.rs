//! Kernels of mixtures of factor analysers beside matrix products: for each component a diagonal quadratic form about
//! its mean, less the squared norm of its projections, and the moments that go with them.
//!
//! All of it passes over columns of a tile, one value a point, with as many operations as a matrix product with two or
//! three more columns. Differences `x - μ` are taken before they are squared, so narrow components lose no digits, as
//! they would in a product of `x²` with precisions.

use super::dispatch::{Kernel, MulAdd, Simd};
use super::statistics::Tile;
use crate::scalar::Scalar;

/// Computes `out_nc = bias_c - ½ Σ_d ((x_nd - mean_cd) scale_cd)² + ½ Σ_h u_nch²`.
///
/// # Shapes
/// `means, scales: C × D`, row-major; `bias: C`; `projections: C H` columns and `out: C` columns, `tile.stride` apart.
#[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
pub fn logits<T: Scalar>(
    simd: Simd,
    tile: Tile<'_, T>,
    means: &[T],
    scales: &[T],
    bias: &[T],
    projections: &[T],
    latents: usize,
    out: &mut [T],
) {
    simd.run(Logits { tile, means, scales, bias, projections, latents, out });
}

struct Logits<'a, T> {
    tile: Tile<'a, T>,
    means: &'a [T],
    scales: &'a [T],
    bias: &'a [T],
    projections: &'a [T],
    latents: usize,
    out: &'a mut [T],
}

impl<T: Scalar> Kernel for Logits<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        // Eight AVX2 registers of sums either way.
        if size_of::<T>() == 4 { self.strips::<M, 64>() } else { self.strips::<M, 32>() }
    }
}

impl<T: Scalar> Logits<'_, T> {
    /// A strip of points stays in the L1 cache while the components pass; its sums stay in registers.
    #[inline(always)]
    fn strips<M: MulAdd, const STRIP: usize>(self) {
        let Tile { values, dim, n_points, stride } = self.tile;
        let half = T::from_f64(0.5);
        for first in (0..n_points).step_by(STRIP) {
            let count = STRIP.min(n_points - first);
            for (c, &bias) in self.bias.iter().enumerate() {
                let mut sums = [T::ZERO; STRIP];
                let centres = self.means[c * dim..][..dim].iter().zip(&self.scales[c * dim..]);
                for (column, (&mean, &scale)) in values.chunks(stride).zip(centres) {
                    for (sum, &x) in sums.iter_mut().zip(&column[first..first + count]) {
                        let whitened = (x - mean) * scale;
                        *sum = M::mul_add(whitened, whitened, *sum);
                    }
                }
                let projections = &self.projections[c * self.latents * stride..];
                for column in projections.chunks(stride).take(self.latents) {
                    for (sum, &u) in sums.iter_mut().zip(&column[first..first + count]) {
                        *sum = M::mul_add(-u, u, *sum);
                    }
                }
                let out = &mut self.out[c * stride + first..][..count];
                for (out, &sum) in out.iter_mut().zip(&sums) {
                    *out = M::mul_add(-half, sum, bias);
                }
            }
        }
    }
}

/// Computes `first_cd = Σ_n r_nc (x_nd - centre_cd)` and `second_cd = Σ_n r_nc (x_nd - centre_cd)²`.
///
/// # Shapes
/// `centres, first, second: C × D`, row-major; `responsibilities: C` columns, `tile.stride` apart.
pub fn moments<T: Scalar>(
    simd: Simd,
    tile: Tile<'_, T>,
    centres: &[T],
    responsibilities: &[T],
    first: &mut [T],
    second: &mut [T],
) {
    simd.run(Moments { tile, centres, responsibilities, first, second });
}

struct Moments<'a, T> {
    tile: Tile<'a, T>,
    centres: &'a [T],
    responsibilities: &'a [T],
    first: &'a mut [T],
    second: &'a mut [T],
}

impl<T: Scalar> Kernel for Moments<'_, T> {
    type Output = ();

    /// Partial sums of each of [`LANES`](Moments::LANES) neighbouring points, then over these: the order is fixed, and
    /// an `f32` sum runs over few terms.
    #[inline(always)]
    fn run<M: MulAdd>(self) {
        const LANES: usize = 16;
        let Tile { values, dim, n_points, stride } = self.tile;
        let sums = self.first.chunks_mut(dim).zip(self.second.chunks_mut(dim));
        let columns = self.responsibilities.chunks(stride).zip(self.centres.chunks(dim));
        for ((responsibilities, centres), (firsts, seconds)) in columns.zip(sums) {
            let (whole, rest) = responsibilities[..n_points].as_chunks::<LANES>();
            for (((column, &centre), first), second) in
                values.chunks(stride).zip(centres).zip(firsts).zip(seconds)
            {
                let (x_whole, x_rest) = column[..n_points].as_chunks::<LANES>();
                let (mut one, mut two) = ([T::ZERO; LANES], [T::ZERO; LANES]);
                for (r, x) in whole.iter().zip(x_whole) {
                    for i in 0..LANES {
                        let difference = x[i] - centre;
                        let weighted = r[i] * difference;
                        one[i] += weighted;
                        two[i] = M::mul_add(weighted, difference, two[i]);
                    }
                }
                for (i, (&r, &x)) in rest.iter().zip(x_rest).enumerate() {
                    let difference = x - centre;
                    let weighted = r * difference;
                    one[i] += weighted;
                    two[i] = M::mul_add(weighted, difference, two[i]);
                }
                let mut width = LANES / 2;
                while width > 0 {
                    for i in 0..width {
                        one[i] += one[i + width];
                        two[i] += two[i + width];
                    }
                    width /= 2;
                }
                *first = one[0];
                *second = two[0];
            }
        }
    }
}

/// Multiplies projections by the responsibility of their component: `out_nch = r_nc u_nch`.
///
/// # Shapes
/// `projections, out: C H` columns, `responsibilities: C`, `stride` apart.
pub fn weight_projections<T: Scalar>(
    simd: Simd,
    n_points: usize,
    stride: usize,
    projections: &[T],
    latents: usize,
    responsibilities: &[T],
    out: &mut [T],
) {
    simd.run(WeightProjections { n_points, stride, projections, latents, responsibilities, out });
}

struct WeightProjections<'a, T> {
    n_points: usize,
    stride: usize,
    projections: &'a [T],
    latents: usize,
    responsibilities: &'a [T],
    out: &'a mut [T],
}

impl<T: Scalar> Kernel for WeightProjections<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let (n, stride, latents) = (self.n_points, self.stride, self.latents);
        let columns = self.projections.chunks(stride).zip(self.out.chunks_mut(stride));
        for (k, (from, to)) in columns.enumerate() {
            let responsibilities = &self.responsibilities[k / latents * stride..][..n];
            for ((to, &u), &r) in to[..n].iter_mut().zip(from).zip(responsibilities) {
                *to = r * u;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values<T: Scalar>(n: usize, seed: usize) -> Vec<T> {
        (0..n).map(|k| T::from_f64(((k + seed) * 37 % 23) as f64 / 5.0 - 2.0)).collect()
    }

    fn match_the_definitions<T: Scalar>(tolerance: f64) {
        for (level, simd) in Simd::available() {
            for (n, dim, components, latents) in
                [(0, 2, 1, 1), (1, 2, 1, 1), (15, 3, 2, 2), (64, 5, 3, 4), (101, 4, 3, 1)]
            {
                let stride = n + 3;
                let x = values::<T>(dim * stride, 1);
                let tile = Tile { values: &x, dim, n_points: n, stride };
                let (means, scales) =
                    (values::<T>(components * dim, 2), values::<T>(components * dim, 3));
                let bias = values::<T>(components, 4);
                let u = values::<T>(components * latents * stride, 5);
                let mut out = vec![T::ZERO; components * stride];
                logits(simd, tile, &means, &scales, &bias, &u, latents, &mut out);
                let r = values::<T>(components * stride, 6);
                let mut first = vec![T::ONE; components * dim];
                let mut second = vec![T::ONE; components * dim];
                moments(simd, tile, &means, &r, &mut first, &mut second);
                let mut weighted = vec![T::ZERO; components * latents * stride];
                weight_projections(simd, n, stride, &u, latents, &r, &mut weighted);

                let at =
                    |values: &[T], column: usize, i: usize| values[column * stride + i].to_f64();
                let check = |found: T, expected: f64, size: f64, what: &str| {
                    let error = (found.to_f64() - expected).abs();
                    assert!(error <= tolerance * size.max(1.0), "{level:?} {n} {what}: {error:e}");
                };
                for c in 0..components {
                    for i in 0..n {
                        let white = |d: usize| {
                            (at(&x, d, i) - means[c * dim + d].to_f64())
                                * scales[c * dim + d].to_f64()
                        };
                        let form: f64 = (0..dim).map(|d| white(d).powi(2)).sum();
                        let norm: f64 =
                            (0..latents).map(|h| at(&u, c * latents + h, i).powi(2)).sum();
                        let expected = bias[c].to_f64() - 0.5 * form + 0.5 * norm;
                        check(out[c * stride + i], expected, form + norm, "logits");
                        for k in c * latents..(c + 1) * latents {
                            let expected = at(&r, c, i) * at(&u, k, i);
                            check(weighted[k * stride + i], expected, 8.0, "weighted projections");
                        }
                    }
                    for d in 0..dim {
                        let difference = |i| at(&x, d, i) - means[c * dim + d].to_f64();
                        let sum = |power: i32| -> f64 {
                            (0..n).map(|i| at(&r, c, i) * difference(i).powi(power)).sum()
                        };
                        check(first[c * dim + d], sum(1), 8.0 * n as f64, "first moments");
                        check(second[c * dim + d], sum(2), 32.0 * n as f64, "second moments");
                    }
                }
            }
        }
    }

    #[test]
    fn match_the_definitions_in_both_precisions() {
        match_the_definitions::<f32>(1e-6);
        match_the_definitions::<f64>(2e-15);
    }
}
