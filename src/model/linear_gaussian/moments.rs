//! Data of linear-Gaussian models: the mean of points and products with their covariance.

use crate::error::Result;
use crate::linalg::product;
use crate::stats::{StatsShape, SuffStats};
use faer::{Mat, MatRef};

/// Second moments of points about their mean, as an operator.
///
/// EM, parameter-expanded EM and subspace iteration ask for nothing but the diagonal of the covariance `S` and for
/// products `S A` with a thin matrix. So they do not know whether `S` is a matrix ([`Moments`], O(D² K) a product), a
/// factor of it (O(N D K)), or a pass over points that never form it.
pub trait SecondMoments {
    /// Returns the mean of the points, D values.
    fn mean(&self) -> &[f64];

    /// Returns the variances of the dimensions, the diagonal of `S`.
    fn variances(&self) -> &[f64];

    /// Computes `S A` for a `D × K` matrix.
    ///
    /// # Errors
    /// If points have to be read for it, and cannot be.
    fn times(&self, matrix: MatRef<'_, f64>) -> Result<Mat<f64>>;
}

/// Total weight, mean and covariance of weighted points. The covariance is divided by the weight, not by one less.
///
/// ```
/// use entropysum::{Executor, Points, expert};
///
/// let executor = Executor::new(Some(1))?;
/// let moments = |values: &[f64]| expert::moments(&Points::from_rows(values, 1)?, &executor);
/// let merged = moments(&[1.0, 2.0])?.merge(&moments(&[6.0])?);
/// assert_eq!((merged.total_weight(), merged.mean()[0]), (3.0, 3.0));
/// assert!((merged.covariance()[(0, 0)] - 14.0 / 3.0).abs() < 1e-15);
/// # Ok::<(), entropysum::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    total_weight: f64,
    n_points: f64,
    mean: Vec<f64>,
    covariance: Mat<f64>,
    variances: Vec<f64>,
}

impl Moments {
    /// Makes empty sums for points about `centre`: `T(x) = (x, x_i x_j for j ≥ i)` of one component, the statistics of
    /// `gaussian-full`.
    pub fn stats(centre: Vec<f64>) -> SuffStats {
        let dim = centre.len();
        let shape = StatsShape {
            components: 1,
            statistics: dim + dim * (dim + 1) / 2,
            shared: 0,
            centre: dim,
        };
        SuffStats::zeros(shape, centre)
    }

    /// Returns the mean and covariance from sums, as [`stats`](Self::stats) lays them out.
    ///
    /// # Panics
    /// If the statistics are others.
    pub fn from_stats(stats: &SuffStats) -> Self {
        let (weight, centre, sums) = (stats.mass()[0], stats.centre(0), stats.sums(0));
        let dim = centre.len();
        assert_eq!(sums.len(), dim + dim * (dim + 1) / 2, "statistics of a full covariance");
        let (first, products) = sums.split_at(dim);
        let offset: Vec<f64> = first.iter().map(|sum| sum / weight).collect();
        let mut covariance = Mat::zeros(dim, dim);
        let mut products = products.iter();
        for i in 0..dim {
            for j in i..dim {
                let product = products.next().expect("the length was checked");
                let value = product / weight - offset[i] * offset[j];
                // Rounding must not make a variance negative.
                let value = if i == j { value.max(0.0) } else { value };
                covariance[(i, j)] = value;
                covariance[(j, i)] = value;
            }
        }
        let mean = centre.iter().zip(&offset).map(|(c, o)| c + o).collect();
        Self::new(weight, stats.n_points(), mean, covariance)
    }

    fn new(total_weight: f64, n_points: f64, mean: Vec<f64>, covariance: Mat<f64>) -> Self {
        let variances = (0..mean.len()).map(|d| covariance[(d, d)]).collect();
        Self { total_weight, n_points, mean, covariance, variances }
    }

    /// Computes the moments of these and other points together (Chan, Golub & LeVeque 1979), whatever they were summed about.
    ///
    /// # Panics
    /// If dimensions differ.
    pub fn merge(&self, other: &Self) -> Self {
        let dim = self.mean.len();
        assert_eq!(dim, other.mean.len(), "points of one dimension");
        let weight = self.total_weight + other.total_weight;
        let (a, b) = (self.total_weight / weight, other.total_weight / weight);
        let apart: Vec<f64> = other.mean.iter().zip(&self.mean).map(|(y, x)| y - x).collect();
        let covariance = Mat::from_fn(dim, dim, |i, j| {
            a * self.covariance[(i, j)] + b * other.covariance[(i, j)] + a * b * apart[i] * apart[j]
        });
        let mean = self.mean.iter().zip(&apart).map(|(x, d)| x + b * d).collect();
        Self::new(weight, self.n_points + other.n_points, mean, covariance)
    }

    /// Returns the total weight of the points.
    pub fn total_weight(&self) -> f64 {
        self.total_weight
    }

    /// Returns the number of points of positive weight.
    pub fn n_points(&self) -> f64 {
        self.n_points
    }

    /// Returns the mean, D values.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Returns the covariance, `D × D`.
    pub fn covariance(&self) -> MatRef<'_, f64> {
        self.covariance.as_ref()
    }

    /// Returns the variances, D values.
    pub fn variances(&self) -> &[f64] {
        &self.variances
    }
}

impl SecondMoments for Moments {
    fn mean(&self) -> &[f64] {
        &self.mean
    }

    fn variances(&self) -> &[f64] {
        &self.variances
    }

    fn times(&self, matrix: MatRef<'_, f64>) -> Result<Mat<f64>> {
        Ok(product(self.covariance.as_ref(), matrix))
    }
}

/// Second moments by a factor: `S = Y' Y` with a row `√(w_n / W) (x_n - mean)` for each of N points. For N < D.
#[derive(Clone, Debug)]
pub struct Factor {
    mean: Vec<f64>,
    rows: Mat<f64>,
    variances: Vec<f64>,
}

impl Factor {
    /// Returns the second moments of these points about a mean.
    pub(crate) fn new(mean: Vec<f64>, rows: Mat<f64>) -> Self {
        let variances = rows.col_iter().map(|column| column.squared_norm_l2()).collect();
        Self { mean, rows, variances }
    }

    /// Returns the factor `Y`, `N × D`.
    pub fn rows(&self) -> MatRef<'_, f64> {
        self.rows.as_ref()
    }
}

impl SecondMoments for Factor {
    fn mean(&self) -> &[f64] {
        &self.mean
    }

    fn variances(&self) -> &[f64] {
        &self.variances
    }

    fn times(&self, matrix: MatRef<'_, f64>) -> Result<Mat<f64>> {
        let projected = product(self.rows.as_ref(), matrix);
        Ok(product(self.rows.transpose(), projected.as_ref()))
    }
}
