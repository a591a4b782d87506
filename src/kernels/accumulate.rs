//! Sums of statistics under one column of weights.

use super::dispatch::Simd;
use super::statistics::{Statistic, Tile, clear_missing, evaluate, may_be_missing};
use crate::scalar::Scalar;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// Computes `sums += T(X)' w` for one weight a point, panel by panel.
///
/// # Shapes
/// `weights: B`, `sums:` one a statistic. `scratch` holds whole panels of `stride` plus as many values as a panel
/// has statistics; its length decides how many that are.
pub fn weighted_sums<T: Scalar>(
    simd: Simd,
    statistics: &[Statistic],
    tile: Tile<'_, T>,
    weights: &[T],
    scratch: &mut [T],
    sums: &mut [f64],
) {
    // In f32, sums over more points lose the digits that centred statistics are there to keep.
    let run = if size_of::<T>() == 4 { 32 } else { tile.n_points.max(1) };
    let panel = (scratch.len() / (tile.stride + 1)).max(1);
    let missing = may_be_missing(statistics);
    let (columns, out) = scratch.split_at_mut(panel * tile.stride);
    for (statistics, sums) in statistics.chunks(panel).zip(sums.chunks_mut(panel)) {
        evaluate(simd, statistics, tile, columns);
        if missing {
            clear_missing(columns);
        }
        let t = MatRef::from_column_major_slice_with_stride(
            columns,
            tile.n_points,
            statistics.len(),
            tile.stride,
        );
        let out = &mut out[..statistics.len()];
        for first in (0..tile.n_points).step_by(run) {
            let count = run.min(tile.n_points - first);
            matmul(
                MatMut::from_column_major_slice_mut(out, statistics.len(), 1),
                Accum::Replace,
                t.subrows(first, count).transpose(),
                MatRef::from_column_major_slice(&weights[first..first + count], count, 1),
                T::ONE,
                Par::Seq,
            );
            for (sum, value) in sums.iter_mut().zip(&*out) {
                *sum += value.to_f64();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference;

    fn matches_the_reference<T: Scalar>(tolerance: f64) {
        let statistics =
            [Statistic::Value(0), Statistic::Product(0, 1), Statistic::SquaredNorm(0, 2)];
        for (_, simd) in Simd::available() {
            for n in [0, 1, 5, 64] {
                for panels in [1, 2, 3] {
                    let stride = n + 2;
                    let values: Vec<T> =
                        (0..2 * stride).map(|k| T::from_f64((k % 7) as f64 - 3.0)).collect();
                    let weights: Vec<T> = (0..n).map(|i| T::from_f64(0.5 + i as f64)).collect();
                    let mut scratch = vec![T::ZERO; panels * (stride + 1)];
                    let mut sums = [1.0; 3];
                    let tile = Tile { values: &values, dim: 2, n_points: n, stride };
                    weighted_sums(simd, &statistics, tile, &weights, &mut scratch, &mut sums);
                    for (l, &statistic) in statistics.iter().enumerate() {
                        let expected: f64 = (0..n)
                            .map(|i| {
                                let point = [values[i].to_f64(), values[stride + i].to_f64()];
                                weights[i].to_f64() * reference::statistic(statistic, &point)
                            })
                            .sum();
                        assert!(
                            (sums[l] - 1.0 - expected).abs() <= tolerance * (1.0 + expected.abs())
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn matches_the_reference_in_both_precisions() {
        matches_the_reference::<f32>(1e-6);
        matches_the_reference::<f64>(1e-14);
    }
}
