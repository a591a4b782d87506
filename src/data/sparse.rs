//! Sparse points in memory: what counts of many kinds are.

use super::DataSource;
use super::weights::check_weights;
use crate::block::{Block, BlockBuf, SparseRows};
use crate::error::{DataError, Result};
use crate::scalar::Scalar;
use faer::MatRef;

/// Points in memory of which only the values that are not zero are stored: compressed sparse rows.
///
/// Models that take sparse points ([`takes_sparse`](crate::model::GenerativeModel::takes_sparse)) learn from them at a
/// cost proportional to the values stored. All others are handed blocks with the zeros filled in.
///
/// # Example
/// ```
/// use entropysum::data::{DataSource, SparsePoints};
/// // (0, 3, 0) and (1, 0, 2)
/// let points = SparsePoints::<f64>::from_csr(vec![0, 1, 3], vec![1, 0, 2], vec![3.0, 1.0, 2.0], 3)?;
/// assert_eq!((points.len(), points.dim()), (2, 3));
/// assert_eq!(points.rows().row(1).collect::<Vec<_>>(), [(0, 1.0), (2, 2.0)]);
/// # Ok::<(), entropysum::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SparsePoints<T> {
    starts: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<T>,
    dim: usize,
    weights: Option<Vec<f64>>,
    name: String,
}

/// Rows or columns without a value that any file may have: as many as hashed features have columns.
#[cfg(feature = "files")]
const MOST_EMPTY: u64 = 1 << 20;

impl<T: Scalar> SparsePoints<T> {
    /// Takes over compressed sparse rows: row `i` has the values from `starts[i]` to `starts[i + 1]`.
    ///
    /// Columns of a row may come in any order; values of the same column are added up, as SciPy does.
    ///
    /// # Errors
    /// [`DataError`] if `dim` is 0, the parts do not fit together, a column is not below `dim`, or a value is no
    /// finite number; it names row and column.
    pub fn from_csr(
        starts: Vec<usize>,
        columns: Vec<u32>,
        values: Vec<T>,
        dim: usize,
    ) -> Result<Self> {
        Self { starts, columns, values, dim, weights: None, name: "memory".to_owned() }.checked()
    }

    /// The same as [`from_csr`](Self::from_csr), under the name of a file.
    pub(super) fn from_file(
        name: String,
        starts: Vec<usize>,
        columns: Vec<u32>,
        values: Vec<T>,
        dim: usize,
    ) -> Result<Self> {
        Self { starts, columns, values, dim, weights: None, name }.checked()
    }

    /// The same points, each counted as often as its weight says.
    ///
    /// # Errors
    /// If a weight is negative or not finite, or their number is not that of the points.
    pub fn with_weights(mut self, weights: Vec<f64>) -> Result<Self> {
        check_weights(&self.name, &weights, self.rows().len() as u64)?;
        self.weights = Some(weights);
        Ok(self)
    }

    /// The same points under another name in messages.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// All points.
    pub fn rows(&self) -> SparseRows<'_, T> {
        SparseRows::new(&self.starts, &self.columns, &self.values, self.dim)
    }

    /// Refuses a number of rows or columns that a file of so many bytes only claims: most would be empty, and memory is asked for each.
    #[cfg(feature = "files")]
    pub(super) fn check_size(name: &str, what: &str, size: u64, bytes: u64) -> Result<()> {
        let most = MOST_EMPTY.saturating_add(bytes);
        if size <= most {
            return Ok(());
        }
        let message = format!("{size} {what} in {bytes} bytes, expected up to {most}");
        Err(DataError::new(name, message).into())
    }

    fn fault(&self, message: impl Into<String>) -> DataError {
        DataError::new(self.name.clone(), message)
    }

    fn checked(mut self) -> Result<Self> {
        let (count, dim) = (self.values.len(), self.dim);
        if dim == 0 {
            return Err(self.fault("points have dimension 0, expected at least 1").into());
        }
        if u32::try_from(dim).is_err() {
            return Err(self.fault(format!("points cannot have dimension {dim}")).into());
        }
        if self.columns.len() != count {
            let found = self.columns.len();
            return Err(self.fault(format!("found {found} columns for {count} values")).into());
        }
        if self.starts.first() != Some(&0) || self.starts.last() != Some(&count) {
            let message = format!("starts of rows must go from 0 to the {count} values");
            return Err(self.fault(message).into());
        }
        if let Some(row) = self.starts.windows(2).position(|pair| pair[0] > pair[1]) {
            return Err(self.fault("the row ends before it starts").at(row as u64, None).into());
        }
        let (mut kept, mut start) = (0, 0);
        let mut sorted = Vec::new();
        for row in 0..self.starts.len() - 1 {
            let end = self.starts[row + 1];
            sorted.clear();
            for k in start..end {
                let (column, value) = (self.columns[k], self.values[k]);
                let at = |message| self.fault(message).at(row as u64, Some(column as usize));
                if column as usize >= dim {
                    return Err(at(format!("there are {dim} columns only")).into());
                }
                if !value.is_finite() {
                    let message = format!(
                        "the value is {value} in {}, expected a finite number within its range",
                        T::NAME
                    );
                    return Err(at(message).into());
                }
                sorted.push((column, value));
            }
            // Stable: values of one column are added up in the order of the file.
            sorted.sort_by_key(|&(column, _)| column);
            let first = kept;
            for &(column, value) in &sorted {
                if kept > first && self.columns[kept - 1] == column {
                    self.values[kept - 1] += value;
                } else {
                    (self.columns[kept], self.values[kept]) = (column, value);
                    kept += 1;
                }
            }
            start = end;
            self.starts[row + 1] = kept;
        }
        self.columns.truncate(kept);
        self.values.truncate(kept);
        Ok(self)
    }
}

impl<T: Scalar> DataSource<T> for SparsePoints<T> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn len(&self) -> u64 {
        self.rows().len() as u64
    }

    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        let first = start as usize;
        let rows = self.rows().slice(first, count);
        buffer.values.clear();
        buffer.values.resize(count * self.dim, T::ZERO);
        for (i, point) in buffer.values.chunks_mut(self.dim).enumerate() {
            rows.row(i).for_each(|(d, value)| point[d] = value);
        }
        let weights = self.weights.as_ref().map(|weights| &weights[first..first + count]);
        let points = MatRef::from_row_major_slice(&buffer.values, count, self.dim);
        Ok(Block { weights, first: start, ..Block::dense(points) })
    }

    fn read_sparse<'a>(
        &'a self,
        start: u64,
        count: usize,
        _buffer: &'a mut BlockBuf<T>,
    ) -> Option<Block<'a, T>> {
        let all = Block::of_sparse(self.rows(), self.weights.as_deref(), 0);
        Some(all.slice(start as usize, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(starts: &[usize], columns: &[u32], values: &[f32], dim: usize) -> String {
        SparsePoints::from_csr(starts.to_vec(), columns.to_vec(), values.to_vec(), dim)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn rows_are_sorted_and_values_of_a_column_added_up() {
        let points = SparsePoints::from_csr(
            vec![0, 0, 4, 5],
            vec![2, 0, 2, 1, 1],
            vec![1.0, 2.0, 3.0, 4.0, 5.0],
            3,
        )
        .unwrap();
        let row = |i| points.rows().row(i).collect::<Vec<_>>();
        assert_eq!((row(0), row(1)), (vec![], vec![(0, 2.0), (1, 4.0), (2, 4.0)]));
        assert_eq!(row(2), [(1, 5.0)]);
    }

    #[test]
    fn dense_and_sparse_blocks_hold_the_same_points() {
        let points =
            SparsePoints::from_csr(vec![0, 1, 1, 3], vec![1, 0, 2], vec![3.0f32, 1.0, 2.0], 3)
                .unwrap()
                .with_weights(vec![1.0, 2.0, 3.0])
                .unwrap();
        let mut buffer = BlockBuf::default();
        let dense = points.read(1, 2, &mut buffer).unwrap();
        let mut unused = BlockBuf::default();
        let sparse = points.read_sparse(1, 2, &mut unused).unwrap();
        assert_eq!((dense.weights, dense.first), (Some(&[2.0, 3.0][..]), 1));
        assert_eq!((sparse.weights, sparse.first), (dense.weights, dense.first));
        assert_eq!((sparse.len(), sparse.dim()), (2, 3));
        let mut found = vec![0.0; 6];
        sparse.for_each(|i, d, value| found[3 * i + d] = value);
        dense.for_each(|i, d, value| assert_eq!(found[3 * i + d], value));
        assert_eq!(found, [0.0, 0.0, 0.0, 1.0, 0.0, 2.0]);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused_with_row_and_column() {
        let flat = "memory: points have dimension 0, expected at least 1";
        assert_eq!(message(&[0], &[], &[], 0), flat);
        assert!(message(&[0, 1], &[0], &[], 1).contains("found 1 columns for 0 values"));
        assert!(message(&[0, 1], &[0, 1], &[1.0, 1.0], 2).contains("from 0 to the 2 values"));
        assert!(message(&[], &[], &[], 2).contains("from 0 to the 0 values"));
        assert!(message(&[0, 2, 1, 2], &[0, 1], &[1.0, 1.0], 2).contains("row 1: the row ends"));
        let column = message(&[0, 0, 1], &[7], &[1.0], 3);
        assert!(column.starts_with("memory: row 1, column 7: there are 3 columns only"));
        let value = message(&[0, 1], &[2], &[f32::INFINITY], 3);
        assert!(value.starts_with("memory: row 0, column 2: the value is inf in f32"), "{value}");
    }
}
