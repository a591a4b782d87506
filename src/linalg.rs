//! Small dense symmetric matrices of the control plane, by faer, on one thread.
//!
//! Matrices are flat `f64` slices; a symmetric matrix is the same in row and column order. Nothing here reads
//! faer's global parallelism: that setting belongs to the host program.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::matmul::matmul;
use faer::linalg::{cholesky, evd, svd, triangular_inverse};
use faer::{Accum, Auto, Mat, MatMut, MatRef, Par};

/// Largest dimension of matrices that plain loops factorise. A library sets up memory, blocks and a choice of instructions on each call,
/// which takes longer than the arithmetic of a small matrix. Factor and inverse, in µs: 1.2 against 3.1 at D = 13, 9.4 against 12.6 at
/// D = 32, 16 against 20 at D = 40, beyond which blocks will win.
const SMALL: usize = 32;

/// Lower Cholesky factor `L` of a symmetric positive definite matrix `A = L L'`.
#[derive(Clone, Debug)]
pub(crate) struct Cholesky {
    dim: usize,
    /// Row-major, with zeros above the diagonal.
    factor: Vec<f64>,
}

impl Cholesky {
    /// Factorises a symmetric `dim × dim` matrix; `None` where it is not positive definite in `f64`.
    pub(crate) fn new(matrix: &[f64], dim: usize) -> Option<Self> {
        debug_assert_eq!(matrix.len(), dim * dim);
        let factor = if dim <= SMALL { small_factor(matrix, dim) } else { factor(matrix, dim) }?;
        // A pivot that is NaN, or so small that its inverse overflows, is none.
        let pivots = factor.iter().step_by(dim + 1);
        let is_sound = |pivot: &f64| pivot.is_normal() && pivot.recip().is_finite();
        pivots.into_iter().all(is_sound).then_some(Self { dim, factor })
    }

    /// `ln det A`.
    pub(crate) fn log_det(&self) -> f64 {
        2.0 * log_product(self.factor.iter().step_by(self.dim + 1))
    }

    /// The lower factor `L`.
    pub(crate) fn factor(&self) -> MatRef<'_, f64> {
        MatRef::from_row_major_slice(&self.factor, self.dim, self.dim)
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.factor[i * self.dim..][..self.dim]
    }

    /// `A⁻¹ b`.
    pub(crate) fn solve(&self, right: &[f64]) -> Vec<f64> {
        let dim = self.dim;
        let mut x = right.to_vec();
        for i in 0..dim {
            let row = self.row(i);
            for j in 0..i {
                x[i] -= row[j] * x[j];
            }
            x[i] /= row[i];
        }
        for i in (0..dim).rev() {
            let row = self.row(i);
            x[i] /= row[i];
            for j in 0..i {
                x[j] -= row[j] * x[i];
            }
        }
        x
    }

    /// `L⁻¹`, lower triangular with zeros above the diagonal.
    pub(crate) fn inverse_factor(&self) -> Mat<f64> {
        MatRef::from_row_major_slice(&self.inverse_rows(), self.dim, self.dim).to_owned()
    }

    /// `L⁻¹`, row-major.
    pub(crate) fn inverse_rows(&self) -> Vec<f64> {
        let dim = self.dim;
        let mut inverse = vec![0.0; dim * dim];
        if dim > SMALL {
            triangular_inverse::invert_lower_triangular(
                MatMut::from_row_major_slice_mut(&mut inverse, dim, dim),
                self.factor(),
                Par::Seq,
            );
            return inverse;
        }
        for i in 0..dim {
            let (before, rest) = inverse.split_at_mut(i * dim);
            let (row, out) = (self.row(i), &mut rest[..dim]);
            let scale = row[i].recip();
            for (k, above) in before.chunks_exact(dim).enumerate() {
                let factor = row[k] * scale;
                out[..=k].iter_mut().zip(above).for_each(|(out, value)| *out -= factor * value);
            }
            out[i] = scale;
        }
        inverse
    }

    /// `A⁻¹`, row-major.
    pub(crate) fn inverse(&self) -> Vec<f64> {
        gram_of_lower(&self.inverse_rows(), self.dim)
    }
}

/// `W' W` of a lower triangular matrix, row-major as `W` is: the inverse of `A`, if `W` is that of its Cholesky factor.
pub(crate) fn gram_of_lower(rows: &[f64], dim: usize) -> Vec<f64> {
    let mut gram = vec![0.0; dim * dim];
    if dim > SMALL {
        let lower = MatRef::from_row_major_slice(rows, dim, dim);
        matmul(
            MatMut::from_row_major_slice_mut(&mut gram, dim, dim),
            Accum::Replace,
            lower.transpose(),
            lower,
            1.0,
            Par::Seq,
        );
        return gram;
    }
    for (k, row) in rows.chunks_exact(dim).enumerate() {
        for (out, factor) in gram.chunks_exact_mut(dim).zip(&row[..=k]) {
            let sums = out[..=k].iter_mut().zip(row);
            sums.for_each(|(sum, value)| *sum += factor * value);
        }
    }
    gram
}

/// Returns the logarithm of a product of positive numbers. A logarithm takes as long as tens of multiplications.
fn log_product<'a>(factors: impl Iterator<Item = &'a f64>) -> f64 {
    // Products of two numbers of this size neither overflow nor lose digits.
    let usual = 1e-150..1e150;
    let (mut sum, mut product) = (0.0, 1.0);
    for &factor in factors {
        if !usual.contains(&factor) {
            sum += factor.ln();
            continue;
        }
        product *= factor;
        if !usual.contains(&product) {
            sum += product.ln();
            product = 1.0;
        }
    }
    sum + product.ln()
}

/// Factorises row by row, by products of rows. `None` if a pivot is not positive.
fn small_factor(matrix: &[f64], dim: usize) -> Option<Vec<f64>> {
    let mut factor = vec![0.0; dim * dim];
    let mut scales = [0.0; SMALL];
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for i in 0..dim {
        let (before, rest) = factor.split_at_mut(i * dim);
        let row = &mut rest[..dim];
        for (j, above) in before.chunks_exact(dim).enumerate() {
            row[j] = (matrix[i * dim + j] - dot(&row[..j], &above[..j])) * scales[j];
        }
        let square = matrix[i * dim + i] - dot(&row[..i], &row[..i]);
        if !(square > 0.0) {
            return None;
        }
        row[i] = square.sqrt();
        scales[i] = row[i].recip();
    }
    Some(factor)
}

fn factor(matrix: &[f64], dim: usize) -> Option<Vec<f64>> {
    let mut factor = MatRef::from_row_major_slice(matrix, dim, dim).to_owned();
    let params = <cholesky::llt::factor::LltParams as Auto<f64>>::auto().into();
    let scratch = cholesky::llt::factor::cholesky_in_place_scratch::<f64>(dim, Par::Seq, params);
    cholesky::llt::factor::cholesky_in_place(
        factor.as_mut(),
        Default::default(),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        params,
    )
    .ok()?;
    for column in 1..dim {
        factor.col_mut(column).subrows_mut(0, column).fill(0.0);
    }
    Some(row_major(factor.as_ref()))
}

/// `A B`, on this thread.
pub(crate) fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    matmul(out.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
    out
}

/// The elements of a matrix, row by row.
pub(crate) fn row_major(matrix: MatRef<'_, f64>) -> Vec<f64> {
    let (n_rows, n_columns) = matrix.shape();
    let mut values = vec![0.0; n_rows * n_columns];
    MatMut::from_row_major_slice_mut(&mut values, n_rows, n_columns).copy_from(matrix);
    values
}

/// Makes columns orthonormal by Gram-Schmidt, each twice ("twice is enough", Giraud et al. 2005); a column that depends
/// on those before it becomes 0.
pub(crate) fn orthonormalize(matrix: &mut Mat<f64>) {
    for k in 0..matrix.ncols() {
        let (done, mut rest) = matrix.as_mut().split_at_col_mut(k);
        let done = done.as_ref();
        let mut column = rest.as_mut().subcols_mut(0, 1);
        let before = column.norm_l2();
        for _ in 0..2 {
            let along = product(done.transpose(), column.as_ref());
            matmul(column.as_mut(), Accum::Add, done, along.as_ref(), -1.0, Par::Seq);
        }
        let norm = column.norm_l2();
        // What is left of a dependent column is rounding.
        let scale = if norm > 1e-12 * before { norm.recip() } else { 0.0 };
        column.col_mut(0).iter_mut().for_each(|value| *value *= scale);
    }
}

/// Eigenvalues in ascending order and eigenvectors, one a column, of a symmetric matrix.
pub(crate) fn symmetric_eigen(matrix: &[f64], dim: usize) -> Option<(Vec<f64>, Mat<f64>)> {
    let matrix = MatRef::from_row_major_slice(matrix, dim, dim);
    let mut vectors = Mat::zeros(dim, dim);
    let mut values = faer::diag::Diag::zeros(dim);
    let params = <evd::SelfAdjointEvdParams as Auto<f64>>::auto().into();
    let scratch =
        evd::self_adjoint_evd_scratch::<f64>(dim, evd::ComputeEigenvectors::Yes, Par::Seq, params);
    evd::self_adjoint_evd(
        matrix,
        values.as_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        params,
    )
    .ok()?;
    Some((values.column_vector().iter().copied().collect(), vectors))
}

/// The shortest `x` with the least `|A x - b|`, and the rank of `A`: singular values below `cutoff` times the largest
/// count as zero.
pub(crate) fn least_squares(a: &Mat<f64>, b: &[f64], cutoff: f64) -> Option<(Vec<f64>, usize)> {
    let (rows, columns) = (a.nrows(), a.ncols());
    let size = rows.min(columns);
    let mut values = faer::diag::Diag::zeros(size);
    let (mut u, mut v) = (Mat::zeros(rows, size), Mat::zeros(columns, size));
    let params = <svd::SvdParams as Auto<f64>>::auto().into();
    let thin = svd::ComputeSvdVectors::Thin;
    let scratch = svd::svd_scratch::<f64>(rows, columns, thin, thin, Par::Seq, params);
    svd::svd(
        a.as_ref(),
        values.as_mut(),
        Some(u.as_mut()),
        Some(v.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        params,
    )
    .ok()?;
    let values = values.column_vector();
    let largest = if size > 0 { values[0] } else { 0.0 };
    let mut x = vec![0.0; columns];
    let mut rank = 0;
    for k in 0..size {
        if values[k] > cutoff * largest {
            rank += 1;
            let coefficient = (0..rows).map(|i| u[(i, k)] * b[i]).sum::<f64>() / values[k];
            x.iter_mut().enumerate().for_each(|(j, x)| *x += coefficient * v[(j, k)]);
        }
    }
    Some((x, rank))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [f64; 9] = [4.0, 2.0, 0.6, 2.0, 3.0, 0.4, 0.6, 0.4, 1.5];

    #[test]
    fn cholesky_reproduces_the_matrix_its_inverse_and_determinant() {
        let cholesky = Cholesky::new(&A, 3).unwrap();
        let product = cholesky.factor() * cholesky.factor().transpose();
        let inverse = cholesky.inverse();
        let solution = cholesky.solve(&[1.0, -2.0, 0.5]);
        for i in 0..3 {
            let image: f64 = (0..3).map(|j| A[3 * i + j] * solution[j]).sum();
            assert!((image - [1.0, -2.0, 0.5][i]).abs() < 1e-14);
            for j in 0..3 {
                assert!((product[(i, j)] - A[3 * i + j]).abs() < 1e-14);
                let unit: f64 = (0..3).map(|k| A[3 * i + k] * inverse[3 * k + j]).sum();
                assert!((unit - f64::from(u8::from(i == j))).abs() < 1e-14);
            }
        }
        let determinant = 4.0 * (4.5 - 0.16) - 2.0 * (3.0 - 0.24) + 0.6 * (0.8 - 1.8);
        assert!((cholesky.log_det() - f64::ln(determinant)).abs() < 1e-14);
    }

    /// Plain loops and the library agree with the definition on both sides of the limit.
    #[test]
    fn factors_of_all_sizes_invert_the_matrix() {
        for dim in [1, 2, 5, 13, SMALL, SMALL + 1, 40] {
            let value = |i: usize, j: usize| ((7 * i + 3 * j) % 11) as f64 / 11.0 - 0.4;
            let rows = Mat::from_fn(dim, dim, value);
            let mut gram = product(rows.as_ref(), rows.transpose());
            (0..dim).for_each(|i| gram[(i, i)] += 1.0 + i as f64);
            let gram = row_major(gram.as_ref());
            let cholesky = Cholesky::new(&gram, dim).unwrap();
            let matrix = MatRef::from_row_major_slice(&gram, dim, dim);
            let factor = cholesky.factor();
            let size = 1e-14 * gram.iter().fold(1.0, |most: f64, v| most.max(v.abs())) * dim as f64;
            assert!((product(factor, factor.transpose()) - matrix).norm_max() < size, "{dim}");
            let unit = Mat::<f64>::identity(dim, dim);
            let inverse = cholesky.inverse_factor();
            assert!((product(inverse.as_ref(), factor) - &unit).norm_max() < size, "{dim}");
            let inverse = cholesky.inverse();
            let inverse = MatRef::from_row_major_slice(&inverse, dim, dim);
            assert!((product(inverse, matrix) - &unit).norm_max() < size, "{dim}");
            for (i, j) in (0..dim).flat_map(|j| (0..j).map(move |i| (i, j))) {
                assert_eq!(factor[(i, j)], 0.0);
            }
        }
    }

    #[test]
    fn logarithms_of_products_neither_overflow_nor_vanish() {
        for factors in [
            vec![],
            vec![2.0, 3.5, 0.1],
            vec![1e-300, 1e-140, 1e-140, 1e300, 7.0],
            vec![f64::MIN_POSITIVE; 5],
            (1..200).map(f64::from).collect(),
        ] {
            let expected: f64 = factors.iter().map(|factor: &f64| factor.ln()).sum();
            let error = (log_product(factors.iter()) - expected).abs();
            assert!(error <= 1e-14 * expected.abs().max(1.0), "{factors:?}: {error:e}");
        }
    }

    #[test]
    fn matrices_that_are_not_positive_definite_have_no_factor() {
        for bad in
            [[1.0, 2.0, 2.0, 1.0], [0.0; 4], [f64::NAN, 0.0, 0.0, 1.0], [-1.0, 0.0, 0.0, 1.0]]
        {
            assert!(Cholesky::new(&bad, 2).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn orthonormal_columns_span_what_the_old_ones_did() {
        // The third column depends on the first two, the last one is tiny.
        let old = Mat::from_fn(5, 4, |i, j| match j {
            2 => 2.0 * (i as f64 + 1.0) - 3.0 * (i * i) as f64,
            3 => 1e-9 * f64::from(u8::from(i == 2)),
            j => (i as f64 + 1.0 - j as f64).powi(1 + j as i32).abs() * 1.0,
        });
        let old =
            Mat::from_fn(5, 4, |i, j| if j == 2 { old[(i, 0)] - old[(i, 1)] } else { old[(i, j)] });
        let mut q = old.clone();
        orthonormalize(&mut q);
        let gram = product(q.transpose(), q.as_ref());
        for i in 0..4 {
            for j in 0..4 {
                let expected = f64::from(u8::from(i == j && i != 2));
                assert!((gram[(i, j)] - expected).abs() < 1e-15, "{gram:?}");
            }
        }
        let back = product(q.as_ref(), product(q.transpose(), old.as_ref()).as_ref());
        assert!((back - old).norm_max() < 1e-14);
    }

    #[test]
    fn eigenvectors_diagonalise() {
        let (values, vectors) = symmetric_eigen(&A, 3).unwrap();
        assert!(values.is_sorted());
        for (k, &value) in values.iter().enumerate() {
            for i in 0..3 {
                let image: f64 = (0..3).map(|j| A[3 * i + j] * vectors[(j, k)]).sum();
                assert!((image - value * vectors[(i, k)]).abs() < 1e-13);
            }
        }
    }

    #[test]
    fn least_squares_finds_the_shortest_solution_and_the_rank() {
        // The third column is the sum of the others.
        let a = Mat::from_fn(4, 3, |i, j| match j {
            0 => (i + 1) as f64,
            1 => (i * i) as f64 - 1.0,
            _ => (i + 1) as f64 + (i * i) as f64 - 1.0,
        });
        let b: Vec<f64> = (0..4).map(|i| 2.0 * a[(i, 0)] - a[(i, 1)]).collect();
        let (x, rank) = least_squares(&a, &b, 1e-12).unwrap();
        assert_eq!(rank, 2);
        for (i, b) in b.iter().enumerate() {
            assert!(((0..3).map(|j| a[(i, j)] * x[j]).sum::<f64>() - b).abs() < 1e-12);
        }
        assert!((x[0] + x[1] - x[2]).abs() < 1e-12, "no part along the null space: {x:?}");
        let (x, rank) = least_squares(&Mat::zeros(2, 1), &[1.0, 2.0], 1e-12).unwrap();
        assert_eq!((x, rank), (vec![0.0], 0));
    }
}
