//! First moments and squares of rows of points: what a diagonal covariance needs of points that belong to few components.

use super::dispatch::{Kernel, MulAdd, Simd};
use crate::scalar::Scalar;
use faer::MatRef;

/// Rows that pass together, so that sums are read and written once for all of them.
const ROWS: usize = 4;

/// A point of positive weight.
#[derive(Clone, Copy, Debug)]
pub struct Weighted<T> {
    /// Row of the point.
    pub row: u32,
    /// Its weight.
    pub weight: T,
}

/// Lists the points of positive weight.
///
/// The list ends in points of weight zero, so that it has whole groups of rows. It is empty if all weights are zero.
pub fn list<T: Scalar>(weights: &[T], listed: &mut Vec<Weighted<T>>) {
    listed.resize(weights.len(), Weighted { row: 0, weight: T::ZERO });
    let mut length = 0;
    // Each point is written and most are written over: a branch for each would be guessed wrong too often.
    for (row, &weight) in (0..).zip(weights) {
        listed[length] = Weighted { row, weight };
        length += usize::from(weight > T::ZERO);
    }
    listed.truncate(length);
    if let Some(&last) = listed.last() {
        listed.resize(length.next_multiple_of(ROWS), Weighted { weight: T::ZERO, ..last });
    }
}

/// Adds `Σ_n w_n (x_n - c)` and `Σ_n w_n (x_n - c)²` of [listed](list) points, D values each.
///
/// # Shapes
/// `points: B × D` with neighbouring columns, `about: D`, `first: D`, `second: D`.
///
/// # Panics
/// If columns are apart, slices are too short, or `listed` does not come from [`list`].
pub fn squares<T: Scalar>(
    simd: Simd,
    points: MatRef<'_, T>,
    listed: &[Weighted<T>],
    about: &[T],
    [first, second]: [&mut [T]; 2],
) {
    assert!(listed.len().is_multiple_of(ROWS), "whole groups of rows");
    simd.run(Squares { points, listed, about, first, second });
}

struct Squares<'a, T> {
    points: MatRef<'a, T>,
    listed: &'a [Weighted<T>],
    about: &'a [T],
    first: &'a mut [T],
    second: &'a mut [T],
}

impl<T: Scalar> Kernel for Squares<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let dim = self.about.len();
        let (about, first, second) =
            (&self.about[..dim], &mut self.first[..dim], &mut self.second[..dim]);
        let row = |point: Weighted<T>| {
            let row = self.points.row(point.row as usize);
            &row.try_as_row_major().expect("neighbouring columns").as_slice()[..dim]
        };
        for group in self.listed.chunks_exact(ROWS) {
            let weights = [0, 1, 2, 3].map(|r| group[r].weight);
            let rows = [0, 1, 2, 3].map(|r| row(group[r]));
            for d in 0..dim {
                let (mut sum, mut squares) = (first[d], second[d]);
                for r in 0..ROWS {
                    let y = rows[r][d] - about[d];
                    let weighted = weights[r] * y;
                    sum += weighted;
                    squares = M::mul_add(weighted, y, squares);
                }
                (first[d], second[d]) = (sum, squares);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares sums with their definition.
    fn matches_the_definition<T: Scalar>(tolerance: f64) {
        for (level, simd) in Simd::available() {
            for (n, dim) in [(1, 1), (6, 5), (64, 16), (70, 33), (9, 64), (31, 150)] {
                let value = |k: usize| T::from_f64((k * 37 % 101) as f64 / 50.0 - 1.0);
                let values: Vec<T> = (0..n * dim).map(value).collect();
                let points = MatRef::from_row_major_slice(&values, n, dim);
                let weights: Vec<T> = (0..n).map(|i| T::from_f64((i % 4) as f64 / 2.0)).collect();
                let about: Vec<T> = (0..dim).map(|d| T::from_f64(0.01 * d as f64)).collect();
                let mut listed = vec![Weighted { row: 0, weight: T::ONE }];
                list(&weights, &mut listed);
                assert_eq!(listed.len(), (n - n.div_ceil(4)).next_multiple_of(ROWS));
                let (mut first, mut second) = (vec![T::ONE; dim], vec![T::ONE; dim]);
                squares(simd, points, &listed, &about, [&mut first, &mut second]);
                for d in 0..dim {
                    let moment = |power: i32| -> f64 {
                        let y = |i: usize| (points[(i, d)] - about[d]).to_f64();
                        (0..n).map(|i| weights[i].to_f64() * y(i).powi(power)).sum()
                    };
                    for (found, power) in [(first[d], 1), (second[d], 2)] {
                        let error = (found.to_f64() - 1.0 - moment(power)).abs();
                        assert!(error <= tolerance * n as f64, "{level:?} {n} x {dim}: {error:e}");
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
