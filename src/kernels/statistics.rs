//! From a row-major block to a tile of sufficient statistics, points contiguous.
//!
//! A *tile* is column-major: column `j` stands at `values[j * stride..][..B]`, one value a point. Statistics
//! maps and the softmax then vectorise across points, with no horizontal reductions. Transposing a row-major
//! block on the way costs a few percent of a sweep.

mod load;

pub use load::{load, shift};

use super::dispatch::{Kernel, MulAdd, Simd};
use super::functions::{cos, power, sin};
use super::math::Transcendental;
use crate::scalar::Scalar;

/// One sufficient statistic `T_l(x)` of a point `x`, in the terms that the kernels can evaluate.
///
/// A family states its statistics as a list of these; it never sees a point.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Statistic {
    /// `x_i`
    Value(u32),
    /// `x_i x_j`
    Product(u32, u32),
    /// `Σ_i x_i²` over so many dimensions from the first on
    SquaredNorm(u32, u32),
    /// `ln x_i`
    Ln(u32),
    /// `(ln x_i)²`
    LnSquared(u32),
    /// `ln(1 - x_i)`
    Ln1m(u32),
    /// `1 / x_i`
    Reciprocal(u32),
    /// `x_i^k`, for x_i ≥ 0
    Power(u32, f64),
    /// `|x_i - location|`
    AbsDeviation(u32, f64),
    /// `cos x_i`
    Cos(u32),
    /// `sin x_i`
    Sin(u32),
    /// 1 where `x_i` is this value, else 0
    Indicator(u32, f64),
    /// `ln Γ(slope x_i + offset)`
    LnGamma {
        /// Dimension i.
        column: u32,
        /// Factor of the value.
        slope: f64,
        /// Number added to the product.
        offset: f64,
    },
    /// `ln Γ(Σ_i x_i + offset)` over `count` dimensions from `first` on
    LnGammaOfSum {
        /// The first dimension.
        first: u32,
        /// Number of dimensions.
        count: u32,
        /// Number added to the sum.
        offset: f64,
    },
    /// 1 where `x_i` is a number, 0 where it is NaN: missing
    Observed(u32),
}

impl Statistic {
    /// Tells whether it is one of several consecutive dimensions.
    pub(crate) fn is_of_range(self) -> bool {
        matches!(self, Self::SquaredNorm(..) | Self::LnGammaOfSum { .. })
    }

    /// Returns the same statistic of points whose dimension `i` stands in column `columns[i]`.
    ///
    /// # Panics
    /// If dimensions of a sum are not in consecutive columns.
    pub(crate) fn remapped(self, columns: &[u32]) -> Self {
        let at = |i: u32| columns[i as usize];
        let range = |first: u32, count: u32| {
            let columns = &columns[first as usize..][..count as usize];
            assert!(
                columns.windows(2).all(|pair| pair[1] == pair[0] + 1),
                "columns of a sum are consecutive"
            );
            columns.first().copied().unwrap_or(0)
        };
        match self {
            Self::Value(i) => Self::Value(at(i)),
            Self::Product(i, j) => Self::Product(at(i), at(j)),
            Self::SquaredNorm(first, count) => Self::SquaredNorm(range(first, count), count),
            Self::Ln(i) => Self::Ln(at(i)),
            Self::LnSquared(i) => Self::LnSquared(at(i)),
            Self::Ln1m(i) => Self::Ln1m(at(i)),
            Self::Reciprocal(i) => Self::Reciprocal(at(i)),
            Self::Power(i, k) => Self::Power(at(i), k),
            Self::AbsDeviation(i, location) => Self::AbsDeviation(at(i), location),
            Self::Cos(i) => Self::Cos(at(i)),
            Self::Sin(i) => Self::Sin(at(i)),
            Self::Indicator(i, level) => Self::Indicator(at(i), level),
            Self::LnGamma { column, slope, offset } => {
                Self::LnGamma { column: at(column), slope, offset }
            }
            Self::LnGammaOfSum { first, count, offset } => {
                Self::LnGammaOfSum { first: range(first, count), count, offset }
            }
            Self::Observed(i) => Self::Observed(at(i)),
        }
    }
}

/// Returns the index from which the statistics are exactly all products `x_i x_j`, `i ≤ j`, by rows of the upper triangle.
pub fn all_products_from(statistics: &[Statistic], dim: usize) -> Option<usize> {
    let first = statistics.len().checked_sub(dim * (dim + 1) / 2)?;
    let pairs =
        (0..dim as u32).flat_map(|i| (i..dim as u32).map(move |j| Statistic::Product(i, j)));
    statistics[first..].iter().copied().eq(pairs).then_some(first)
}

/// A tile of points: D columns of `n_points`, `stride` apart.
#[derive(Clone, Copy, Debug)]
pub struct Tile<'a, T> {
    /// The columns.
    pub values: &'a [T],
    /// Number of columns.
    pub dim: usize,
    /// Points in each.
    pub n_points: usize,
    /// Distance between columns.
    pub stride: usize,
}

/// Evaluates a panel of statistics over a tile of points.
///
/// # Shapes
/// `out:` one column a statistic, `tile.stride` apart; the first `n_points` of each are written.
pub fn evaluate<T: Scalar>(simd: Simd, panel: &[Statistic], tile: Tile<'_, T>, out: &mut [T]) {
    simd.run(Evaluate { panel, tile, out });
}

struct Evaluate<'a, T> {
    panel: &'a [Statistic],
    tile: Tile<'a, T>,
    out: &'a mut [T],
}

impl<T: Scalar> Evaluate<'_, T> {
    /// Adds up columns in `out`.
    #[inline(always)]
    fn sum(tile: Tile<'_, T>, first: u32, count: u32, out: &mut [T], f: impl Fn(T, T) -> T) {
        out.fill(T::ZERO);
        for d in first..first + count {
            for (t, &a) in out.iter_mut().zip(&tile.values[d as usize * tile.stride..]) {
                *t = f(a, *t);
            }
        }
    }
}

impl<T: Scalar> Kernel for Evaluate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let Tile { values, n_points: n, stride, .. } = self.tile;
        let column = |i: u32| &values[i as usize * stride..][..n];
        // `f` of each value, in the working precision or in f64.
        macro_rules! map {
            ($i:expr, $out:expr, |$x:ident| $value:expr) => {
                for (t, &$x) in $out.iter_mut().zip(column($i)) {
                    *t = $value;
                }
            };
        }
        macro_rules! map_f64 {
            ($i:expr, $out:expr, |$x:ident| $value:expr) => {
                map!($i, $out, |x| {
                    let $x = x.to_f64();
                    T::from_f64($value)
                })
            };
        }
        for (l, statistic) in self.panel.iter().enumerate() {
            let (before, out) = self.out.split_at_mut(l * stride);
            let out = &mut out[..n];
            match *statistic {
                Statistic::Value(i) => out.copy_from_slice(column(i)),
                Statistic::Product(i, j) => {
                    for ((t, &a), &b) in out.iter_mut().zip(column(i)).zip(column(j)) {
                        *t = a * b;
                    }
                }
                Statistic::SquaredNorm(first, count) => {
                    Self::sum(self.tile, first, count, out, |a, t| M::mul_add(a, a, t));
                }
                Statistic::Ln(i) => map!(i, out, |x| x.ln::<M>()),
                Statistic::LnSquared(i) => {
                    // Families that have it list it after the logarithm, which is there already.
                    if l > 0 && self.panel[l - 1] == Statistic::Ln(i) {
                        for (t, &ln) in out.iter_mut().zip(&before[(l - 1) * stride..]) {
                            *t = ln * ln;
                        }
                    } else {
                        map!(i, out, |x| {
                            let ln = x.ln::<M>();
                            ln * ln
                        });
                    }
                }
                Statistic::Ln1m(i) => map!(i, out, |x| (T::ONE - x).ln::<M>()),
                Statistic::Reciprocal(i) => map!(i, out, |x| T::ONE / x),
                Statistic::Power(i, 1.0) => out.copy_from_slice(column(i)),
                Statistic::Power(i, 2.0) => map!(i, out, |x| x * x),
                Statistic::Power(i, 0.5) => map_f64!(i, out, |x| x.sqrt()),
                Statistic::Power(i, k) => map_f64!(i, out, |x| power::<M>(x, k)),
                Statistic::AbsDeviation(i, location) => {
                    map_f64!(i, out, |x| (x - location).abs());
                }
                Statistic::Cos(i) => map_f64!(i, out, |x| cos::<M>(x)),
                Statistic::Sin(i) => map_f64!(i, out, |x| sin::<M>(x)),
                Statistic::Indicator(i, level) => {
                    map_f64!(i, out, |x| if x == level { 1.0 } else { 0.0 });
                }
                Statistic::LnGamma { column, slope, offset } => {
                    map_f64!(column, out, |x| Transcendental::ln_gamma::<M>(slope * x + offset));
                }
                Statistic::LnGammaOfSum { first, count, offset } => {
                    Self::sum(self.tile, first, count, out, |a, t| t + a);
                    for t in &mut *out {
                        *t = T::from_f64(Transcendental::ln_gamma::<M>(t.to_f64() + offset));
                    }
                }
                Statistic::Observed(i) => {
                    map_f64!(i, out, |x| if x.is_nan() { 0.0 } else { 1.0 });
                }
            }
        }
    }
}

/// Tells whether these are statistics of points whose values may be missing.
pub fn may_be_missing(statistics: &[Statistic]) -> bool {
    statistics.iter().any(|it| matches!(it, Statistic::Observed(_)))
}

/// Sets what is not a number to 0: statistics of missing values, which then weigh nothing.
pub fn clear_missing<T: Scalar>(values: &mut [T]) {
    for value in values {
        *value = if value.to_f64().is_nan() { T::ZERO } else { *value };
    }
}

/// Computes `ln h(x)` of the points of a tile, `constant + Σ_k coefficient_k T_k(x)`, in `f64` whatever the working precision:
/// log-factorials of large counts have no digits to spare.
///
/// # Shapes
/// `scratch:` one column more than the tile; `out:` one value a point. Missing values count as 0 in the sum.
pub fn log_base_measure<T: Scalar>(
    simd: Simd,
    terms: &[(Statistic, f64)],
    constant: f64,
    tile: Tile<'_, T>,
    scratch: &mut [f64],
    out: &mut [f64],
) {
    let Tile { dim, n_points, stride, .. } = tile;
    let (wide, column) = scratch.split_at_mut(dim * stride);
    for (to, from) in wide.chunks_mut(stride).zip(tile.values.chunks(stride)) {
        to[..n_points].iter_mut().zip(from).for_each(|(to, from)| *to = from.to_f64());
    }
    let out = &mut out[..n_points];
    out.fill(constant);
    for (statistic, coefficient) in terms {
        let tile = Tile { values: &*wide, dim, n_points, stride };
        evaluate(simd, std::slice::from_ref(statistic), tile, column);
        clear_missing(&mut column[..n_points]);
        for (sum, value) in out.iter_mut().zip(&*column) {
            *sum += coefficient * value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference;
    use faer::Mat;
    use faer::MatRef;

    fn points<T: Scalar>(n: usize, dim: usize) -> Mat<T> {
        Mat::from_fn(n, dim, |i, j| T::from_f64(((7 * i + 3 * j) % 11) as f64 - 4.5))
    }

    fn tiles_hold_centred_points<T: Scalar>() {
        for (_, simd) in Simd::available() {
            for (n, dim) in [(0, 1), (1, 1), (3, 2), (15, 3), (16, 5), (17, 1), (33, 7)] {
                let x = points::<T>(n, dim);
                let row_major: Vec<T> =
                    (0..n).flat_map(|i| (0..dim).map(move |j| (i, j))).map(|at| x[at]).collect();
                let rows = MatRef::from_row_major_slice(&row_major, n, dim);
                let centre: Vec<T> = (0..dim).map(|d| T::from_f64(d as f64 / 2.0)).collect();
                let stride = n + 3;
                for view in [x.as_ref(), rows] {
                    for centre in [&centre[..], &[]] {
                        let mut tile = vec![T::from_f64(99.0); stride * dim];
                        load(simd, view, centre, &mut tile, stride);
                        for d in 0..dim {
                            let shift = centre.get(d).copied().unwrap_or(T::ZERO);
                            for i in 0..n {
                                assert_eq!(tile[d * stride + i], x[(i, d)] - shift);
                            }
                        }
                    }
                }
            }
        }
    }

    fn statistics_match_the_reference<T: Scalar>() {
        use Statistic::{Product, SquaredNorm, Value};
        let panel = [
            Value(0),
            Value(2),
            Product(0, 0),
            Product(1, 2),
            SquaredNorm(0, 3),
            SquaredNorm(1, 2),
        ];
        for (level, simd) in Simd::available() {
            for n in [0, 1, 7, 8, 17, 64, 100] {
                let x = points::<T>(n, 3);
                let stride = n + 1;
                let mut tile = vec![T::ZERO; stride * 3];
                load(simd, x.as_ref(), &[], &mut tile, stride);
                let mut out = vec![T::ZERO; stride * panel.len()];
                evaluate(
                    simd,
                    &panel,
                    Tile { values: &tile, dim: 3, n_points: n, stride },
                    &mut out,
                );
                for i in 0..n {
                    let point: Vec<f64> = (0..3).map(|d| x[(i, d)].to_f64()).collect();
                    for (l, &statistic) in panel.iter().enumerate() {
                        let expected = reference::statistic(statistic, &point);
                        assert_eq!(
                            out[l * stride + i].to_f64(),
                            expected,
                            "{level:?} {statistic:?}"
                        );
                    }
                }
            }
        }
    }

    fn elementwise_statistics_match_the_reference_up_to_rounding<T: Scalar>() {
        use Statistic::*;
        let panel = [
            Ln(0),
            LnSquared(0),
            LnSquared(1),
            Ln1m(2),
            Reciprocal(1),
            Power(0, 1.0),
            Power(0, 2.0),
            Power(0, 0.5),
            Power(0, 3.7),
            AbsDeviation(1, 2.5),
            Cos(0),
            Sin(1),
            Indicator(1, 3.0),
            LnGamma { column: 0, slope: -1.0, offset: 30.0 },
            LnGamma { column: 0, slope: 1.0, offset: 1.0 },
            LnGammaOfSum { first: 0, count: 2, offset: 1.0 },
            Observed(0),
        ];
        for (level, simd) in Simd::available() {
            let (n, stride) = (37, 40);
            // Two columns of counts and halves, and one between 0 and 1.
            let value = |i: usize, d: usize| match d {
                2 => (i as f64 + 0.5) / 40.0,
                _ => ((7 * i + 3 * d) % 40) as f64 / 2.0 + 1.0,
            };
            let x = Mat::from_fn(n, 3, |i, d| T::from_f64(value(i, d)));
            let mut tile = vec![T::ZERO; stride * 3];
            load(simd, x.as_ref(), &[], &mut tile, stride);
            let mut out = vec![T::ZERO; stride * panel.len()];
            let tile = Tile { values: &tile, dim: 3, n_points: n, stride };
            evaluate(simd, &panel, tile, &mut out);
            for i in 0..n {
                let point: Vec<f64> = (0..3).map(|d| x[(i, d)].to_f64()).collect();
                for (l, &statistic) in panel.iter().enumerate() {
                    let (found, expected) =
                        (out[l * stride + i].to_f64(), reference::statistic(statistic, &point));
                    let error = (found - expected).abs() / expected.abs().max(1.0);
                    assert!(
                        error <= 48.0 * T::EPSILON,
                        "{level:?} {statistic:?}: {found} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn elementwise_statistics_match_the_reference_in_both_precisions() {
        elementwise_statistics_match_the_reference_up_to_rounding::<f32>();
        elementwise_statistics_match_the_reference_up_to_rounding::<f64>();
    }

    #[test]
    fn remapped_statistics_of_permuted_points_are_those_of_the_points() {
        use Statistic::*;
        let (x, columns) = ([0.5, 2.0, 3.0], [2, 0, 1]);
        let mut permuted = [0.0; 3];
        columns.iter().zip(x).for_each(|(&c, x)| permuted[c as usize] = x);
        for statistic in [
            Value(1),
            Product(0, 2),
            SquaredNorm(1, 2),
            Ln(0),
            LnSquared(1),
            Ln1m(0),
            Reciprocal(2),
            Power(1, 3.0),
            AbsDeviation(2, 1.0),
            Cos(1),
            Sin(2),
            Indicator(1, 2.0),
            LnGamma { column: 0, slope: 2.0, offset: 1.0 },
            LnGammaOfSum { first: 1, count: 2, offset: 1.0 },
            Observed(0),
        ] {
            let value = reference::statistic(statistic, &x);
            assert_eq!(
                reference::statistic(statistic.remapped(&columns), &permuted),
                value,
                "{statistic:?}"
            );
        }
    }

    #[test]
    fn missing_values_are_not_observed_and_weigh_nothing() {
        let (simd, nan) = (Simd::detect(), f64::NAN);
        let tile = Tile { values: &[1.0, nan, 3.0], dim: 1, n_points: 3, stride: 3 };
        let mut out = [0.0; 6];
        evaluate(simd, &[Statistic::Ln(0), Statistic::Observed(0)], tile, &mut out);
        clear_missing(&mut out);
        assert_eq!(out.map(|value| value == 0.0), [true, true, false, false, true, false]);
        assert!((out[2] - 3f64.ln()).abs() < 1e-15 && out[3] == 1.0 && out[5] == 1.0);
        let (mut scratch, mut log_h) = ([0.0; 6], [0.0; 3]);
        log_base_measure(simd, &[(Statistic::Value(0), 2.0)], 0.5, tile, &mut scratch, &mut log_h);
        assert_eq!(log_h, [2.5, 0.5, 6.5]);
    }

    #[test]
    fn a_run_of_all_products_is_recognised() {
        use Statistic::{Product, Value};
        let all = [Value(0), Product(0, 0), Product(0, 1), Product(1, 1)];
        assert_eq!(all_products_from(&all, 2), Some(1));
        assert_eq!(all_products_from(&all[1..], 2), Some(0));
        assert_eq!(all_products_from(&all[..3], 2), None);
        assert_eq!(all_products_from(&[Product(0, 0), Product(1, 1)], 2), None);
        assert_eq!(all_products_from(&[Product(0, 0), Product(1, 0), Product(1, 1)], 2), None);
    }

    #[test]
    fn tiles_hold_centred_points_in_both_precisions() {
        tiles_hold_centred_points::<f32>();
        tiles_hold_centred_points::<f64>();
    }

    #[test]
    fn statistics_match_the_reference_in_both_precisions() {
        statistics_match_the_reference::<f32>();
        statistics_match_the_reference::<f64>();
    }
}
