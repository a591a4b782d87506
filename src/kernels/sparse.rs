//! Logits and sums of sparse points whose statistics are their values: `z = x H + b` and `S += x' r` over what is not zero.

use super::affine::{AffineMap, GROUP};
use super::dispatch::{Kernel, MulAdd, Simd};
use crate::block::SparseRows;
use crate::scalar::Scalar;

/// Writes `Z = X H + b`, component by component in columns `stride` apart: a cost of C for each value that is there.
///
/// # Panics
/// If the map is for another dimension, or there is no room.
pub fn affine<T: Scalar>(
    simd: Simd,
    map: &AffineMap<T>,
    rows: SparseRows<'_, T>,
    stride: usize,
    logits: &mut [T],
) {
    assert_eq!(map.n_statistics, rows.dim(), "one statistic a column");
    assert!(stride >= rows.len() && logits.len() >= map.n_components() * stride, "too few logits");
    simd.run(Affine { map, rows, stride, logits });
}

struct Affine<'a, T> {
    map: &'a AffineMap<T>,
    rows: SparseRows<'a, T>,
    stride: usize,
    logits: &'a mut [T],
}

impl<T: Scalar> Kernel for Affine<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let Self { map, rows, stride, logits } = self;
        // A group's coefficients of a dimension are one or half a cache line.
        let (groups, _) = map.coefficients.as_chunks::<GROUP>();
        let (biases, _) = map.bias.as_chunks::<GROUP>();
        for (g, bias) in biases.iter().enumerate() {
            let group = &groups[g * rows.dim()..][..rows.dim()];
            let columns = GROUP.min(map.n_components() - g * GROUP);
            for i in 0..rows.len() {
                let mut sums = *bias;
                for (d, x) in rows.row(i) {
                    let coefficients = &group[d];
                    for k in 0..GROUP {
                        sums[k] = M::mul_add(x, coefficients[k], sums[k]);
                    }
                }
                for k in 0..columns {
                    logits[(g * GROUP + k) * stride + i] = sums[k];
                }
            }
        }
    }
}

/// Returns the length of the sums of so many dimensions and components.
pub fn sums_len(dim: usize, n_components: usize) -> usize {
    dim * n_components.next_multiple_of(GROUP)
}

/// Returns the index of the sum of dimension `d` under component `c`.
#[inline]
pub fn sum_at(dim: usize, d: usize, c: usize) -> usize {
    (c / GROUP * dim + d) * GROUP + c % GROUP
}

/// Adds `X' R`, `R` in columns `stride` apart, to sums in `f64`, which need no interim totals.
///
/// # Shapes
/// `sums:` [`sums_len`], each at [`sum_at`].
///
/// # Panics
/// If `sums` is of another length, or `R` too short.
pub fn accumulate<T: Scalar>(
    simd: Simd,
    rows: SparseRows<'_, T>,
    responsibilities: &[T],
    n_components: usize,
    stride: usize,
    sums: &mut [f64],
) {
    assert_eq!(sums.len(), sums_len(rows.dim(), n_components), "one sum a dimension and component");
    assert!(responsibilities.len() + stride >= n_components * stride + rows.len(), "too few");
    simd.run(Accumulate { rows, responsibilities, n_components, stride, sums });
}

struct Accumulate<'a, T> {
    rows: SparseRows<'a, T>,
    responsibilities: &'a [T],
    n_components: usize,
    stride: usize,
    sums: &'a mut [f64],
}

impl<T: Scalar> Kernel for Accumulate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let Self { rows, responsibilities, n_components, stride, sums } = self;
        let (groups, _) = sums.as_chunks_mut::<GROUP>();
        for (g, group) in groups.chunks_mut(rows.dim()).enumerate() {
            let columns = GROUP.min(n_components - g * GROUP);
            for i in 0..rows.len() {
                let mut weights = [0.0; GROUP];
                for k in 0..columns {
                    weights[k] = responsibilities[(g * GROUP + k) * stride + i].to_f64();
                }
                // Posteriors of long texts have few components: most groups have none of them.
                if weights == [0.0; GROUP] {
                    continue;
                }
                for (d, x) in rows.row(i) {
                    let x = x.to_f64();
                    for k in 0..GROUP {
                        group[d][k] = M::mul_add(x, weights[k], group[d][k]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of 0 to 3 values each, in `dim` columns.
    fn rows<T: Scalar>(n: usize, dim: usize) -> (Vec<usize>, Vec<u32>, Vec<T>) {
        let (mut starts, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
        for i in 0..n {
            for d in (i % dim..dim).step_by(3).take(i % 4) {
                columns.push(d as u32);
                values.push(T::from_f64((i * 7 % 5) as f64 + 0.5));
            }
            starts.push(columns.len());
        }
        (starts, columns, values)
    }

    fn matches_the_definition<T: Scalar>(tolerance: f64) {
        let value = |k: usize| (k * 29 % 17) as f64 / 8.0 - 1.0;
        for (level, simd) in Simd::available() {
            for dim in [1, 4, 11] {
                for n_components in [1, 7, 8, 19] {
                    for n in [0, 1, 40] {
                        let (starts, columns, values) = rows::<T>(n, dim);
                        let x = SparseRows::new(&starts, &columns, &values, dim);
                        let bias: Vec<T> =
                            (0..n_components).map(|c| T::from_f64(value(c))).collect();
                        let natural = |d: usize, c: usize| value(3 * d + 5 * c);
                        let map = AffineMap::new(dim, &bias, |d, c| T::from_f64(natural(d, c)));
                        let stride = n + 3;
                        let mut logits = vec![T::from_f64(99.0); n_components * stride];
                        affine(simd, &map, x, stride, &mut logits);
                        // The logits serve as responsibilities.
                        let mut sums = vec![1.0; sums_len(dim, n_components)];
                        accumulate(simd, x, &logits, n_components, stride, &mut sums);
                        for c in 0..n_components {
                            let mut expected = vec![1.0; dim];
                            for i in 0..n {
                                let z = logits[c * stride + i].to_f64();
                                let mut logit = value(c);
                                for (d, x) in x.row(i) {
                                    logit += x.to_f64() * natural(d, c);
                                    expected[d] += x.to_f64() * z;
                                }
                                let what = format!("{level:?}: point {i}, component {c}");
                                assert!((z - logit).abs() <= tolerance * 10.0, "{what}");
                            }
                            for d in 0..dim {
                                let error = sums[sum_at(dim, d, c)] - expected[d];
                                assert!(error.abs() <= 1e-12, "{level:?}: {d}, {c}: {error:e}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn logits_and_sums_match_their_definitions_in_both_precisions() {
        matches_the_definition::<f32>(1e-6);
        matches_the_definition::<f64>(1e-15);
    }
}
