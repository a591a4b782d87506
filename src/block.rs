//! A block of points on its way from a source to the kernels.

use crate::scalar::Scalar;
use faer::MatRef;

/// A view of some consecutive points of a source, with their weights.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a, T> {
    /// The points: one row a point, one column a dimension, any strides.
    pub points: MatRef<'a, T>,
    /// Sample weights, one a point; `None` where every point counts once.
    pub weights: Option<&'a [f64]>,
    /// Index of the first point in its source.
    pub first: u64,
}

impl<'a, T: Scalar> Block<'a, T> {
    /// Number of points.
    pub fn len(&self) -> usize {
        self.points.nrows()
    }

    /// Whether there are no points.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dimension D of the points.
    pub fn dim(&self) -> usize {
        self.points.ncols()
    }

    /// The `count` points from `start` on.
    pub fn slice(&self, start: usize, count: usize) -> Self {
        Self {
            points: self.points.subrows(start, count),
            weights: self.weights.map(|weights| &weights[start..start + count]),
            first: self.first + start as u64,
        }
    }
}

/// Memory that a reader owns and a [`DataSource`](crate::data::DataSource) may fill.
///
/// It grows to the largest block read and is then reused: reading allocates nothing per block.
#[derive(Debug, Default)]
pub struct BlockBuf<T> {
    /// Converted points, row-major.
    pub values: Vec<T>,
    /// Weights of these points.
    pub weights: Vec<f64>,
    /// Bytes as they stand in a file.
    pub bytes: Vec<u8>,
}
