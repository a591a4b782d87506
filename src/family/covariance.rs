//! The three shapes of a covariance, as algebra on packed second moments.
//!
//! A second moment is packed as its statistics are: `Full` by rows of the upper triangle
//! (`x_0², x_0 x_1, …, x_1², …`), `Diagonal` as D squares, `Spherical` as one squared norm.

use super::prior::Scale;
use super::{Statistic, Whitening};
use crate::linalg::{Cholesky, gram_of_lower, symmetric_eigen};
use faer::Mat;
use std::f64::consts::TAU;

/// Structure of one covariance matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    Full,
    Diagonal,
    Spherical,
}

/// A factorised covariance: the numbers that natural parameters, entropies and kernels need.
pub(super) struct Precision {
    shape: Shape,
    dim: usize,
    /// `-½ Λ` packed like the second moments, so that `natural · S = -½ tr(Λ S)`.
    pub(super) natural: Vec<f64>,
    /// `ln det(2π Σ)`.
    pub(super) log_det_2pi: f64,
    /// `L⁻¹` of the Cholesky factor, row-major, for full covariances alone.
    whitening: Vec<f64>,
}

impl Shape {
    /// Counts the values of a packed second moment.
    pub(super) fn n_packed(self, dim: usize) -> usize {
        match self {
            Self::Full => dim * (dim + 1) / 2,
            Self::Diagonal => dim,
            Self::Spherical => 1,
        }
    }

    /// Returns the shape of the covariance as a parameter.
    pub(super) fn parameter_shape(self, dim: usize) -> Vec<usize> {
        match self {
            Self::Full => vec![dim, dim],
            Self::Diagonal => vec![dim],
            Self::Spherical => vec![],
        }
    }

    pub(super) fn statistics(self, dim: usize) -> Vec<Statistic> {
        let dim = dim as u32;
        match self {
            Self::Full => {
                (0..dim).flat_map(|i| (i..dim).map(move |j| Statistic::Product(i, j))).collect()
            }
            Self::Diagonal => (0..dim).map(|i| Statistic::Product(i, i)).collect(),
            Self::Spherical => vec![Statistic::SquaredNorm(0, dim)],
        }
    }

    /// Moves a packed second moment about one centre to another: `S ← S - s d' - d s' + n d d'`, with the mass
    /// `n` and the first moment `s` about the old centre, and `d` = new - old centre.
    pub(super) fn translate(self, packed: &mut [f64], n: f64, s: &[f64], d: &[f64]) {
        let dim = s.len();
        match self {
            Self::Full => {
                let mut k = 0;
                for i in 0..dim {
                    for j in i..dim {
                        packed[k] += n * d[i] * d[j] - s[i] * d[j] - d[i] * s[j];
                        k += 1;
                    }
                }
            }
            Self::Diagonal => {
                for i in 0..dim {
                    packed[i] += (n * d[i] - 2.0 * s[i]) * d[i];
                }
            }
            Self::Spherical => {
                packed[0] += (0..dim).map(|i| (n * d[i] - 2.0 * s[i]) * d[i]).sum::<f64>();
            }
        }
    }

    /// Raises variances below 0 to 0: those of packed second moments about a centre, with the mass `n` and the first moment `s` about it.
    ///
    /// Full moments stay. They may be indefinite without a negative variance, and lifting their eigenvalues costs the others digits.
    pub(super) fn raise_to_zero(self, packed: &mut [f64], n: f64, s: &[f64]) {
        match self {
            Self::Full => {}
            Self::Diagonal => {
                for (value, s) in packed.iter_mut().zip(s) {
                    let least = s * s / n;
                    if *value < least {
                        *value = least;
                    }
                }
            }
            Self::Spherical => {
                let least = s.iter().map(|s| s * s).sum::<f64>() / n;
                if packed[0] < least {
                    packed[0] = least;
                }
            }
        }
    }

    /// Returns the covariance of a second moment about the mean, `S / n`, as a parameter array.
    pub(super) fn covariance(self, packed: &[f64], n: f64, dim: usize) -> Vec<f64> {
        match self {
            Self::Full => {
                let mut covariance = vec![0.0; dim * dim];
                let mut k = 0;
                for i in 0..dim {
                    for j in i..dim {
                        covariance[i * dim + j] = packed[k] / n;
                        covariance[j * dim + i] = packed[k] / n;
                        k += 1;
                    }
                }
                covariance
            }
            Self::Diagonal => packed.iter().map(|value| value / n).collect(),
            Self::Spherical => vec![packed[0] / (n * dim as f64)],
        }
    }

    /// Packs the second moment `n Σ` of a covariance: the inverse of [`covariance`](Self::covariance).
    pub(super) fn second_moment(self, covariance: &[f64], dim: usize) -> Vec<f64> {
        match self {
            Self::Full => {
                let rows = covariance.chunks_exact(dim).enumerate();
                rows.flat_map(|(i, row)| &row[i..]).copied().collect()
            }
            Self::Diagonal => covariance.to_vec(),
            Self::Spherical => vec![covariance[0] * dim as f64],
        }
    }

    /// Returns the variance of each dimension; for a spherical covariance D equal values.
    pub(super) fn variances(self, covariance: &[f64], dim: usize) -> Vec<f64> {
        match self {
            Self::Full => (0..dim).map(|i| covariance[i * dim + i]).collect(),
            Self::Diagonal => covariance.to_vec(),
            Self::Spherical => vec![covariance[0]; dim],
        }
    }

    /// Adds `ridge` to every variance.
    pub(super) fn add_ridge(self, covariance: &mut [f64], dim: usize, ridge: f64) {
        let step = if self == Self::Full { dim + 1 } else { 1 };
        for variance in covariance.iter_mut().step_by(step) {
            *variance += ridge;
        }
    }

    /// Raises the variances of the dimensions in `which` to their floor. Returns whether this changed any. A spherical covariance has
    /// no variance of a dimension.
    pub(super) fn raise(
        self,
        covariance: &mut [f64],
        dim: usize,
        which: &[bool],
        floor: &[f64],
    ) -> bool {
        if self == Self::Spherical {
            return false;
        }
        let step = if self == Self::Full { dim + 1 } else { 1 };
        let mut raised = false;
        for ((variance, &floor), &is_meant) in
            covariance.iter_mut().step_by(step).zip(floor).zip(which)
        {
            if is_meant && *variance < floor {
                *variance = floor;
                raised = true;
            }
        }
        raised
    }

    /// Lifts a covariance so that `Σ - diag(floor)` is positive semi-definite. Returns whether this changed it.
    ///
    /// This is the maximum-likelihood covariance under that constraint: in units of the floor, eigenvalues
    /// below 1 become 1 and eigenvectors stay.
    pub(super) fn lift(self, covariance: &mut Vec<f64>, dim: usize, floor: &[f64]) -> bool {
        match self {
            Self::Spherical => {
                let floor = floor.iter().sum::<f64>() / dim as f64;
                let low = !(covariance[0] >= floor);
                if low {
                    covariance[0] = floor;
                }
                low
            }
            Self::Diagonal => {
                let mut lifted = false;
                for (variance, &floor) in covariance.iter_mut().zip(floor) {
                    if !(*variance >= floor) {
                        *variance = floor;
                        lifted = true;
                    }
                }
                lifted
            }
            Self::Full => {
                let mut excess = covariance.clone();
                for i in 0..dim {
                    excess[i * dim + i] -= floor[i];
                }
                if Cholesky::new(&excess, dim).is_some() {
                    return false;
                }
                let scale: Vec<f64> = floor.iter().map(|f| f.sqrt()).collect();
                let scaled: Vec<f64> = (0..dim * dim)
                    .map(|k| covariance[k] / scale[k / dim] / scale[k % dim])
                    .collect();
                let eigen = if scaled.iter().all(|v| v.is_finite()) {
                    symmetric_eigen(&scaled, dim)
                } else {
                    None
                };
                let diagonal = |k: usize| if k / dim == k % dim { floor[k / dim] } else { 0.0 };
                let Some((values, vectors)) = eigen else {
                    *covariance = (0..dim * dim).map(diagonal).collect();
                    return true;
                };
                // A variance that stands at its floor is not below: the largest eigenvalue decides how the smallest is rounded.
                let rounding = (16.0 * dim as f64 * f64::EPSILON * values[dim - 1]).min(1e-3);
                if values[0] >= 1.0 - rounding && Cholesky::new(covariance, dim).is_some() {
                    return false;
                }
                // Rounding of the largest eigenvalues may swallow the smallest; then these are lifted further.
                let mut least = 1.0;
                loop {
                    *covariance = rebuild(&values, &vectors, least, &scale);
                    if Cholesky::new(covariance, dim).is_some() {
                        return true;
                    }
                    least *= 10.0;
                    if !(least <= 1e3 * values[dim - 1].max(1.0)) {
                        *covariance = (0..dim * dim).map(diagonal).collect();
                        return true;
                    }
                }
            }
        }
    }

    /// Returns the dimension whose variance was raised the most, in units of its floor; `None` where dimensions have no variance of their own.
    ///
    /// # Shapes
    /// `before: D` variances.
    pub(super) fn most_raised(
        self,
        before: &[f64],
        covariance: &[f64],
        floor: &[f64],
    ) -> Option<usize> {
        let after = self.variances(covariance, before.len());
        let raised = |d: usize| (after[d] - before[d]) / floor[d];
        match self {
            Self::Spherical => None,
            _ => (0..before.len()).max_by(|&a, &b| raised(a).total_cmp(&raised(b))),
        }
    }

    /// Returns `ln det(2π Σ)`, or `None` if `Σ` is not positive definite.
    pub(super) fn log_det_2pi(self, covariance: &[f64], dim: usize) -> Option<f64> {
        let log_det = match self {
            Self::Full => Cholesky::new(covariance, dim)?.log_det(),
            Self::Diagonal => sum_of_ln(covariance),
            Self::Spherical => dim as f64 * covariance[0].ln(),
        };
        Some(log_det + dim as f64 * TAU.ln())
    }

    /// Factorises a covariance. Returns `None` if it is not positive definite.
    pub(super) fn precision(self, covariance: &[f64], dim: usize) -> Option<Precision> {
        let valid = |v: f64| v > 0.0 && v.is_finite() && v.recip().is_finite();
        let (natural, log_det, whitening) = match self {
            Self::Full => {
                let cholesky = Cholesky::new(covariance, dim)?;
                let whitening = cholesky.inverse_rows();
                let inverse = gram_of_lower(&whitening, dim);
                let mut natural = Vec::with_capacity(dim * (dim + 1) / 2);
                for (i, row) in inverse.chunks_exact(dim).enumerate() {
                    natural.push(-0.5 * row[i]);
                    natural.extend(row[i + 1..].iter().map(|value| -value));
                }
                (natural, cholesky.log_det(), whitening)
            }
            Self::Diagonal => {
                covariance.iter().all(|&v| valid(v)).then_some(())?;
                let natural = covariance.iter().map(|v| -0.5 / v).collect();
                (natural, sum_of_ln(covariance), Vec::new())
            }
            Self::Spherical => {
                valid(covariance[0]).then_some(())?;
                (vec![-0.5 / covariance[0]], dim as f64 * covariance[0].ln(), Vec::new())
            }
        };
        Some(Precision {
            shape: self,
            dim,
            natural,
            log_det_2pi: log_det + dim as f64 * TAU.ln(),
            whitening,
        })
    }
}

/// Returns `Σ ln v` by one logarithm for many values, of the product of their mantissas. Separate logarithms took a third
/// of the time of a minibatch without its sweep.
///
/// As accurate as the sum of the logarithms: 64 products lose at most 64 roundings of the argument, 7e-15 nats.
fn sum_of_ln(values: &[f64]) -> f64 {
    const MANTISSA: u64 = (1 << (f64::MANTISSA_DIGITS - 1)) - 1;
    // What has no mantissa in [1, 2) is left to the logarithm: zero, what is below the normal numbers, and no numbers.
    if !values.iter().all(|&v| v >= f64::MIN_POSITIVE && v.is_finite()) {
        return values.iter().map(|v| v.ln()).sum();
    }
    let sum = |values: &[f64]| {
        let (mut product, mut exponent) = (1.0, 0);
        for v in values {
            let bits = v.to_bits();
            exponent += (bits >> (f64::MANTISSA_DIGITS - 1)) as i64 - 1023;
            product *= f64::from_bits(bits & MANTISSA | 1f64.to_bits());
        }
        f64::ln(product) + exponent as f64 * std::f64::consts::LN_2
    };
    values.chunks(64).map(sum).sum()
}

/// The matrix of these eigenvectors with eigenvalues of at least `least`, rows and columns times `scale`.
fn rebuild(values: &[f64], vectors: &Mat<f64>, least: f64, scale: &[f64]) -> Vec<f64> {
    let dim = values.len();
    let root =
        Mat::from_fn(dim, dim, |i, k| scale[i] * vectors[(i, k)] * values[k].max(least).sqrt());
    let mut matrix = vec![0.0; dim * dim];
    faer::linalg::matmul::matmul(
        faer::MatMut::from_row_major_slice_mut(&mut matrix, dim, dim),
        faer::Accum::Replace,
        &root,
        root.transpose(),
        1.0,
        faer::Par::Seq,
    );
    // The product is symmetric up to rounding only.
    for i in 0..dim {
        for j in 0..i {
            matrix[j * dim + i] = matrix[i * dim + j];
        }
    }
    matrix
}

impl Precision {
    /// Counts the numbers that it holds.
    pub(super) fn size(&self) -> usize {
        self.natural.len() + self.whitening.len()
    }

    /// Returns whether `Σ - diag(floor)` of a full covariance is positive definite for certain: the largest eigenvalue of `Λ`, in
    /// units of the floor, is at most its trace. A covariance just above its floor may fail.
    pub(super) fn is_above(&self, floor: &[f64]) -> bool {
        let (mut trace, mut diagonal) = (0.0, 0);
        for (d, floor) in floor.iter().enumerate() {
            trace -= 2.0 * self.natural[diagonal] * floor;
            diagonal += self.dim - d;
        }
        trace < 1.0
    }

    /// Returns the log-density of the covariance under its prior without the constant, `-½ [count ln |Σ| + tr Σ⁻¹ Λ]`.
    pub(super) fn log_prior(&self, prior: &Scale) -> f64 {
        let log_det = self.log_det_2pi - self.dim as f64 * TAU.ln();
        let traces = self.natural.iter().zip(&prior.packed).map(|(a, b)| a * b);
        traces.sum::<f64>() - 0.5 * prior.count * log_det
    }

    /// `Λ d`.
    pub(super) fn apply(&self, d: &[f64], out: &mut [f64]) {
        match self.shape {
            Shape::Full => {
                out.fill(0.0);
                let mut k = 0;
                for i in 0..self.dim {
                    out[i] -= 2.0 * self.natural[k] * d[i];
                    k += 1;
                    for j in i + 1..self.dim {
                        out[i] -= self.natural[k] * d[j];
                        out[j] -= self.natural[k] * d[i];
                        k += 1;
                    }
                }
            }
            Shape::Diagonal => {
                for i in 0..self.dim {
                    out[i] = -2.0 * self.natural[i] * d[i];
                }
            }
            Shape::Spherical => {
                for i in 0..self.dim {
                    out[i] = -2.0 * self.natural[0] * d[i];
                }
            }
        }
    }

    /// Returns a whitening factor `F`, `F' F = Λ`.
    pub(super) fn whitening(&self) -> Whitening<f64> {
        match self.shape {
            Shape::Full => Whitening::Triangle(self.whitening.clone()),
            Shape::Diagonal => {
                Whitening::Diagonal(self.natural.iter().map(|v| (-2.0 * v).sqrt()).collect())
            }
            Shape::Spherical => Whitening::Scale((-2.0 * self.natural[0]).sqrt()),
        }
    }

    /// Returns `Σ_ij |Λ_ij| a_i a_j`: the size of the terms that add up to `x' Λ x` for points with `|x_i| ≤ a_i`.
    ///
    /// It does not change if a dimension takes another unit.
    pub(super) fn size_of_terms(&self, a: &[f64]) -> f64 {
        let squares = |i: usize| 2.0 * a[i] * a[i];
        match self.shape {
            Shape::Full => {
                // -½ Λ_ii stands once, -Λ_ij once for the two entries of the matrix.
                let (mut size, mut rest) = (0.0, &self.natural[..]);
                for i in 0..self.dim {
                    let (row, after) = rest.split_at(self.dim - i);
                    for (v, other) in row.iter().zip(&a[i..]) {
                        size += 2.0 * a[i] * other * v.abs();
                    }
                    rest = after;
                }
                size
            }
            Shape::Diagonal => (0..self.dim).map(|i| squares(i) * self.natural[i].abs()).sum(),
            Shape::Spherical => (0..self.dim).map(|i| squares(i) * self.natural[0].abs()).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Second moments of three points whose coordinates 0 and 2 are constant, but for rounding.
    #[test]
    fn variances_below_zero_are_raised_to_zero() {
        let (s, lost) = ([3.0, 6.0, -1.5], 1e-11);
        let mut diagonal = vec![3.0 - lost, 14.0, 0.75 - lost];
        Shape::Diagonal.raise_to_zero(&mut diagonal, 3.0, &s);
        assert_eq!(diagonal, [3.0, 14.0, 0.75]);
        let mut spherical = vec![15.75 - lost];
        Shape::Spherical.raise_to_zero(&mut spherical, 3.0, &s);
        assert_eq!(spherical, [15.75]);
        let mut possible = vec![3.0 + lost, 14.0, 1.0];
        Shape::Diagonal.raise_to_zero(&mut possible, 3.0, &s);
        assert_eq!(possible, [3.0 + lost, 14.0, 1.0]);
    }

    #[test]
    fn lifting_floors_the_eigenvalues_and_keeps_the_rest() {
        // Eigenvalues 3 and 1e-9 along (1, 1) and (1, -1).
        let (a, b) = ((3.0 + 1e-9) / 2.0, (3.0 - 1e-9) / 2.0);
        let mut covariance = vec![a, b, b, a];
        assert!(Shape::Full.lift(&mut covariance, 2, &[0.01, 0.01]));
        let (values, _) = symmetric_eigen(&covariance, 2).unwrap();
        assert!((values[0] - 0.01).abs() < 1e-12 && (values[1] - 3.0).abs() < 1e-12, "{values:?}");
        let before = covariance.clone();
        assert!(!Shape::Full.lift(&mut covariance, 2, &[0.005, 0.005]));
        assert_eq!(covariance, before);
    }

    /// A column of one value stands at its floor, and its covariances are rounding errors.
    #[test]
    fn a_variance_at_its_floor_is_not_lifted() {
        let (floor, rounding) = (4e-6, 4e-9);
        let before = vec![4.0, 1.0, rounding, 1.0, 3.0, -rounding, rounding, -rounding, floor];
        let mut covariance = before.clone();
        assert!(!Shape::Full.lift(&mut covariance, 3, &[4e-6, 3e-6, floor]));
        assert_eq!(covariance, before);
        covariance[8] = 0.9 * floor;
        assert!(Shape::Full.lift(&mut covariance, 3, &[4e-6, 3e-6, floor]));
    }

    #[test]
    fn one_logarithm_for_many_is_their_sum() {
        assert_eq!(sum_of_ln(&[]), 0.0);
        for n in [1, 63, 64, 65, 1000] {
            let values: Vec<f64> = (0..n).map(|i| (30.0 * f64::from(i).sin()).exp2()).collect();
            let exact: f64 = values.iter().map(|v| v.ln()).sum();
            assert!((sum_of_ln(&values) - exact).abs() < 1e-13 * f64::from(n), "{n}");
        }
        let tiny = [f64::MIN_POSITIVE, f64::MAX, 5e-324, 1.0];
        assert!((sum_of_ln(&tiny) - (tiny[2].ln() + tiny[0].ln() + tiny[1].ln())).abs() < 1e-11);
        assert_eq!(sum_of_ln(&[2.0, 0.0]), f64::NEG_INFINITY);
        assert!(sum_of_ln(&[-2.0, -3.0]).is_nan() && sum_of_ln(&[f64::INFINITY]).is_infinite());
    }

    #[test]
    fn packed_forms_agree_with_dense_algebra() {
        let covariance = [4.0, 2.0, 0.6, 2.0, 3.0, 0.4, 0.6, 0.4, 1.5];
        let precision = Shape::Full.precision(&covariance, 3).unwrap();
        let d = [0.3, -1.0, 2.0];
        let mut solved = [0.0; 3];
        precision.apply(&d, &mut solved);
        for i in 0..3 {
            let back: f64 = (0..3).map(|j| covariance[3 * i + j] * solved[j]).sum();
            assert!((back - d[i]).abs() < 1e-14);
        }
        // -½ tr(Λ Σ) = -D / 2
        let packed = Shape::Full.second_moment(&covariance, 3);
        let trace: f64 = precision.natural.iter().zip(&packed).map(|(a, b)| a * b).sum();
        assert!((trace + 1.5).abs() < 1e-14);
        assert_eq!(Shape::Full.covariance(&packed, 1.0, 3), covariance);
        let (mut inverse, mut size) = ([0.0; 3], 0.0);
        for i in 0..3 {
            let unit = [0, 1, 2].map(|j| f64::from(u8::from(i == j)));
            precision.apply(&unit, &mut inverse);
            size +=
                (0..3).map(|j| inverse[j].abs() * (1.0 + i as f64) * (1.0 + j as f64)).sum::<f64>();
        }
        assert!((precision.size_of_terms(&[1.0, 2.0, 3.0]) - size).abs() < 1e-13);
    }
}
