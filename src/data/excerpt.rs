//! A few points of a long source, at the rows that they have there.

use super::DataSource;
use crate::block::{Block, BlockBuf};
use crate::error::{DataError, Error, Result};
use crate::scalar::Scalar;
use faer::MatRef;

/// Holds some points of a source that lies elsewhere in parts, at the rows that they have there.
///
/// Whatever looks at a few known rows, such as a start, can read these in place of the source. Points that are not held read as NaN,
/// which every check of points refuses. Messages name the part and the row in it.
///
/// # Example
/// ```
/// use entropysum::data::{DataSource, Excerpt};
/// use entropysum::faer::MatRef;
///
/// let values = [1.0, 2.0, 3.0, 4.0];
/// let held = MatRef::from_row_major_slice(&values, 2, 2);
/// let parts = vec![("partition 0".to_owned(), 1_000_000), ("partition 1".to_owned(), 2_000_000)];
/// let points = Excerpt::new(vec![7, 1_000_004], held, parts)?;
/// assert_eq!((points.len(), points.dim()), (3_000_000, 2));
/// assert_eq!(points.place(1_000_004), ("partition 1".to_owned(), 4));
/// # Ok::<(), entropysum::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Excerpt<'a, T> {
    points: MatRef<'a, T>,
    rows: Vec<u64>,
    /// Name of each part, and the row that follows it.
    parts: Vec<(String, u64)>,
    column_names: Option<Vec<String>>,
}

impl<'a, T: Scalar> Excerpt<'a, T> {
    /// Holds points, their rows in ascending order, and name and length of each part.
    ///
    /// # Errors
    /// If rows are not ascending, or not as many as points, or past the last part; or if there are no columns.
    pub fn new(
        rows: Vec<u64>,
        points: MatRef<'a, T>,
        mut parts: Vec<(String, u64)>,
    ) -> Result<Self> {
        Block::<T>::from_rows(&[], points.ncols())?;
        let mut len = 0u64;
        for (_, end) in &mut parts {
            len = len.checked_add(*end).ok_or_else(|| {
                Error::Config("the parts have more than 2^64 points together".to_owned())
            })?;
            *end = len;
        }
        let ascend = rows.is_sorted_by(|a, b| a < b) && rows.last().is_none_or(|&last| last < len);
        if !ascend || rows.len() != points.nrows() {
            let (found, n) = (points.nrows(), rows.len());
            let message = format!(
                "found {found} points for {n} rows, expected a point for each of some ascending rows below {len}"
            );
            return Err(DataError::new("excerpt", message).into());
        }
        Ok(Self { points, rows, parts, column_names: None })
    }

    /// Sets the names of the columns.
    ///
    /// # Panics
    /// If there are not as many names as columns.
    pub fn with_column_names(mut self, names: Option<Vec<String>>) -> Self {
        assert!(names.as_ref().is_none_or(|names| names.len() == self.dim()), "one name a column");
        self.column_names = names;
        self
    }
}

impl<T: Scalar> DataSource<T> for Excerpt<'_, T> {
    fn name(&self) -> String {
        "X".to_owned()
    }

    fn dim(&self) -> usize {
        self.points.ncols()
    }

    fn len(&self) -> u64 {
        self.parts.last().map_or(0, |(_, end)| *end)
    }

    fn place(&self, row: u64) -> (String, u64) {
        let part = self.parts.partition_point(|(_, end)| *end <= row);
        let start = part.checked_sub(1).map_or(0, |before| self.parts[before].1);
        let name = self.parts.get(part).map_or_else(|| self.name(), |(name, _)| name.clone());
        (name, row - start)
    }

    fn column_names(&self) -> Option<&[String]> {
        self.column_names.as_deref()
    }

    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        let dim = self.dim();
        buffer.values.clear();
        buffer.values.resize(count * dim, T::from_f64(f64::NAN));
        let first = self.rows.partition_point(|&row| row < start);
        let held = self.rows[first..].iter().take_while(|&&row| row - start < count as u64);
        for (k, row) in held.enumerate() {
            let to = &mut buffer.values[(row - start) as usize * dim..][..dim];
            let from = self.points.row(first + k);
            to.iter_mut().zip(from.iter()).for_each(|(to, &value)| *to = value);
        }
        Ok(Block { first: start, ..buffer.block(count, dim, false) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data;

    fn excerpt<'a>(rows: &[u64], values: &'a [f64], lengths: &[u64]) -> Result<Excerpt<'a, f64>> {
        let parts = lengths.iter().enumerate().map(|(k, &len)| (format!("part {k}"), len));
        let points = MatRef::from_row_major_slice(values, values.len() / 2, 2);
        Excerpt::new(rows.to_vec(), points, parts.collect())
    }

    #[test]
    fn held_points_are_at_their_rows_and_others_are_nan() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let points = excerpt(&[2, 3, 9], &values, &[3, 0, 7]).unwrap();
        let mut buffer = BlockBuf::default();
        let block = data::read(&points, false, 1, 3, &mut buffer).unwrap();
        assert!(block.points.row(0).iter().all(|value| value.is_nan()));
        assert_eq!([block.points[(1, 0)], block.points[(1, 1)]], [1.0, 2.0]);
        assert_eq!([block.points[(2, 0)], block.points[(2, 1)]], [3.0, 4.0]);
        let block = data::read(&points, false, 9, 1, &mut buffer).unwrap();
        assert_eq!((block.first, block.points[(0, 1)]), (9, 6.0));
        let places = [0, 2, 3, 9].map(|row| points.place(row));
        let expected = [("part 0", 0), ("part 0", 2), ("part 2", 0), ("part 2", 6)];
        assert_eq!(places, expected.map(|(name, row)| (name.to_owned(), row)));
    }

    #[test]
    fn rows_that_are_none_are_refused() {
        let values = [1.0, 2.0, 3.0, 4.0];
        for rows in [&[3, 2][..], &[2, 2], &[2, 10], &[2]] {
            let fault = excerpt(rows, &values, &[4, 6]).unwrap_err().to_string();
            assert!(fault.contains("ascending rows below 10"), "{fault}");
        }
        assert!(excerpt(&[], &[], &[]).unwrap().is_empty());
    }
}
