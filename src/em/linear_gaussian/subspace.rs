//! Finds leading eigenvectors of a covariance that is known by its products with thin matrices.

use crate::error::{Error, Result};
use crate::linalg::{orthonormalize, product, row_major, symmetric_eigen};
use crate::model::SecondMoments;
use crate::rng;
use faer::{Mat, MatRef};
use rand_distr::{Distribution, StandardNormal};

/// Columns of subspace iteration beyond the components asked for (Halko, Martinsson & Tropp 2011 take 5 to 10): the
/// error falls with the ratio of the eigenvalue after these to the last one asked for.
const OVERSAMPLING: usize = 10;

/// Second moments in other units: `diag(s) S diag(s)`.
pub(super) struct Scaled<'a> {
    pub(super) inner: &'a dyn SecondMoments,
    pub(super) scale: &'a [f64],
}

impl Scaled<'_> {
    fn rescaled(&self, mut matrix: Mat<f64>) -> Mat<f64> {
        for column in matrix.col_iter_mut() {
            column.iter_mut().zip(self.scale).for_each(|(v, s)| *v *= s);
        }
        matrix
    }
}

impl SecondMoments for Scaled<'_> {
    fn mean(&self) -> &[f64] {
        self.inner.mean()
    }

    fn variances(&self) -> &[f64] {
        self.inner.variances()
    }

    fn times(&self, matrix: MatRef<'_, f64>) -> Result<Mat<f64>> {
        let inside = self.rescaled(matrix.to_owned());
        Ok(self.rescaled(self.inner.times(inside.as_ref())?))
    }
}

/// Randomised subspace iteration with Rayleigh-Ritz: the leading eigenvalues and vectors of a covariance.
#[derive(Debug)]
pub(super) struct Subspace {
    basis: Mat<f64>,
    /// Ritz values, in descending order.
    pub(super) values: Vec<f64>,
    /// Ritz vectors, one a column.
    pub(super) vectors: Mat<f64>,
}

impl Subspace {
    pub(super) fn new(dim: usize, count: usize, seed: u64) -> Self {
        let columns = (count + OVERSAMPLING).min(dim);
        // Stream 0 is that of the first start; another one is as good.
        let mut rng = rng::stream(seed, u64::MAX);
        let mut basis = Mat::from_fn(dim, columns, |_, _| StandardNormal.sample(&mut rng));
        orthonormalize(&mut basis);
        Self { basis, values: vec![0.0; columns], vectors: Mat::zeros(dim, columns) }
    }

    /// Multiplies the basis by the covariance.
    pub(super) fn image(&self, moments: &dyn SecondMoments) -> Result<Mat<f64>> {
        moments.times(self.basis.as_ref())
    }

    /// Takes the product of the basis with the covariance: Ritz pairs of the basis so far, and a better basis.
    pub(super) fn turn(&mut self, image: &Mat<f64>) -> Result<()> {
        let projected = product(self.basis.transpose(), image.as_ref());
        let columns = projected.ncols();
        let symmetric =
            Mat::from_fn(columns, columns, |i, j| 0.5 * (projected[(i, j)] + projected[(j, i)]));
        let (mut values, turn) = symmetric_eigen(&row_major(symmetric.as_ref()), columns)
            .ok_or_else(|| Error::Model("an eigendecomposition failed".into()))?;
        values.reverse();
        self.values = values;
        self.vectors = product(self.basis.as_ref(), turn.as_ref().reverse_cols());
        self.basis = image.clone();
        orthonormalize(&mut self.basis);
        Ok(())
    }
}
