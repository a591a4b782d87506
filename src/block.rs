//! Blocks of points, as sources hand them to models.

use crate::error::{DataError, Result};
use crate::scalar::Scalar;
use faer::MatRef;

/// Borrows consecutive points of a source, with their weights.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a, T> {
    /// The points: one row a point, one column a dimension, any strides. There are no columns if the points are `sparse`.
    pub points: MatRef<'a, T>,
    /// The points without their zeros, in blocks from [`read_sparse`](crate::data::DataSource::read_sparse) only.
    pub sparse: Option<SparseRows<'a, T>>,
    /// Sample weights, one a point; `None` if every point counts once.
    pub weights: Option<&'a [f64]>,
    /// Index of the first point in its source.
    pub first: u64,
}

impl<'a, T: Scalar> Block<'a, T> {
    /// Makes a block of all points of a matrix, one row a point, each of weight 1.
    ///
    /// ```
    /// use entropysum::Block;
    /// use entropysum::faer::Mat;
    ///
    /// let points = Mat::from_fn(5, 2, |i, d| (2 * i + d) as f64);
    /// let block = Block::dense(points.as_ref());
    /// assert_eq!((block.len(), block.dim()), (5, 2));
    /// ```
    pub fn dense(points: MatRef<'a, T>) -> Self {
        Self { points, sparse: None, weights: None, first: 0 }
    }

    /// Makes a block of points of dimension `dim` that lie one after another, each of weight 1.
    ///
    /// ```
    /// use entropysum::Block;
    ///
    /// let block = Block::from_rows(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3)?;
    /// assert_eq!((block.len(), block.points[(1, 0)]), (2, 4.0));
    /// # Ok::<(), entropysum::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`DataError`] if `dim` is 0 or the number of values is not a multiple of it.
    pub fn from_rows(values: &'a [T], dim: usize) -> Result<Self> {
        let message = match values.len().checked_rem(dim) {
            Some(0) => {
                let rows = values.len() / dim;
                return Ok(Self::dense(MatRef::from_row_major_slice(values, rows, dim)));
            }
            Some(_) => {
                let found = values.len();
                format!("found {found} values, expected a multiple of the dimension {dim}")
            }
            None => "points have dimension 0, expected at least 1".to_owned(),
        };
        Err(DataError::new("memory", message).into())
    }

    /// Makes a block of sparse points.
    pub fn of_sparse(rows: SparseRows<'a, T>, weights: Option<&'a [f64]>, first: u64) -> Self {
        let points = MatRef::from_row_major_slice(&[], rows.len(), 0);
        Self { points, sparse: Some(rows), weights, first }
    }

    /// Calls `visit` with point, dimension and value of each value; sparse points give their stored values only.
    pub fn for_each(&self, mut visit: impl FnMut(usize, usize, T)) {
        for i in 0..self.len() {
            match self.sparse {
                Some(rows) => rows.row(i).for_each(|(d, value)| visit(i, d, value)),
                None => (0..self.dim()).for_each(|d| visit(i, d, self.points[(i, d)])),
            }
        }
    }

    /// Returns the number of points.
    pub fn len(&self) -> usize {
        self.points.nrows()
    }

    /// Returns whether there are no points.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the dimension D of the points.
    pub fn dim(&self) -> usize {
        self.sparse.map_or(self.points.ncols(), SparseRows::dim)
    }

    /// Returns the `count` points from `start` on.
    pub fn slice(&self, start: usize, count: usize) -> Self {
        Self {
            points: self.points.subrows(start, count),
            sparse: self.sparse.map(|rows| rows.slice(start, count)),
            weights: self.weights.map(|weights| &weights[start..start + count]),
            first: self.first + start as u64,
        }
    }
}

/// Borrows sparse points as compressed rows, which store the values that are not zero.
#[derive(Clone, Copy, Debug)]
pub struct SparseRows<'a, T> {
    starts: &'a [usize],
    columns: &'a [u32],
    values: &'a [T],
    dim: usize,
}

impl<'a, T: Copy> SparseRows<'a, T> {
    /// Borrows rows: row `i` has the values from `starts[i]` to `starts[i + 1]`, each with its column, which is below `dim`.
    ///
    /// # Panics
    /// If `starts` is empty, or the numbers of columns and values differ.
    pub fn new(starts: &'a [usize], columns: &'a [u32], values: &'a [T], dim: usize) -> Self {
        assert!(!starts.is_empty(), "one start a row and one end");
        assert_eq!(columns.len(), values.len(), "one column a value");
        Self { starts, columns, values, dim }
    }

    /// Returns the number of points.
    pub fn len(self) -> usize {
        self.starts.len() - 1
    }

    /// Returns whether there are no points.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Returns the dimension D of the points.
    pub fn dim(self) -> usize {
        self.dim
    }

    /// Iterates over the stored values of a point, each with its dimension.
    #[inline(always)]
    pub fn row(self, i: usize) -> impl ExactSizeIterator<Item = (usize, T)> + Clone + use<'a, T> {
        let range = self.starts[i]..self.starts[i + 1];
        let columns = self.columns[range.clone()].iter().map(|&column| column as usize);
        columns.zip(self.values[range].iter().copied())
    }

    /// Finds what would make the rows unreadable: starts that fall or lie beyond the values, or a column beyond the dimension.
    pub(crate) fn fault(self) -> Option<String> {
        let (start, end) = (self.starts[0], self.starts[self.len()]);
        let falls = self.starts.windows(2).any(|pair| pair[1] < pair[0]);
        if falls || end > self.values.len() {
            return Some(format!("rows that do not lie within its {} values", self.values.len()));
        }
        let columns = self.columns[start..end].iter();
        let column = columns.max().filter(|&&column| column as usize >= self.dim);
        column.map(|column| format!("a value in column {column} of {}", self.dim))
    }

    /// Returns the `count` points from `start` on.
    pub fn slice(self, start: usize, count: usize) -> Self {
        Self { starts: &self.starts[start..=start + count], ..self }
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
    /// Starts of the rows of sparse points in `columns` and `values`, and the end of the last row.
    pub starts: Vec<usize>,
    /// Columns of sparse points.
    pub columns: Vec<u32>,
}

impl<T: Scalar> BlockBuf<T> {
    /// Returns the first `count` points of `values`, as a block that begins with point 0.
    pub(crate) fn block(&self, count: usize, dim: usize, is_weighted: bool) -> Block<'_, T> {
        Block {
            points: MatRef::from_row_major_slice(&self.values[..count * dim], count, dim),
            sparse: None,
            weights: is_weighted.then_some(&self.weights[..]),
            first: 0,
        }
    }
}
