//! The points of a source without missing values.

use super::DataSource;
use super::forward::forward;
use super::subset::read_rows;
use crate::block::{Block, BlockBuf};
use crate::error::{DataError, Result};
use crate::scalar::Scalar;

/// Points that are looked at together.
const POINTS: u64 = 4096;

/// Leaves out the points of another source that have a missing value, and keeps their rows.
pub(super) struct Complete<T> {
    source: Box<dyn DataSource<T>>,
    /// Rows of the source that are left, and the others; ascending.
    rows: Vec<u64>,
    incomplete: Vec<u64>,
}

impl<T: Scalar> Complete<T> {
    /// Looks at all points. A source without missing values stays as it is.
    ///
    /// # Errors
    /// Those of reading; [`DataError`] if no point is left.
    pub fn of(source: Box<dyn DataSource<T>>) -> Result<Box<dyn DataSource<T>>> {
        let (mut rows, mut incomplete) = (Vec::new(), Vec::new());
        let (mut buffer, mut start) = (BlockBuf::default(), 0);
        while start < source.len() {
            let count = POINTS.min(source.len() - start);
            let block = super::read(&*source, true, start, count as usize, &mut buffer)?;
            let mut has_gap = vec![false; count as usize];
            block.for_each(|i, _, value| has_gap[i] |= value.to_f64().is_nan());
            for (row, has_gap) in (start..).zip(has_gap) {
                if has_gap { &mut incomplete } else { &mut rows }.push(row);
            }
            start += count;
        }
        if incomplete.is_empty() {
            return Ok(source);
        }
        if rows.is_empty() {
            let message = "every point has a missing value; leave out columns with --drop";
            return Err(DataError::new(source.name(), message).into());
        }
        Ok(Box::new(Self { source, rows, incomplete }))
    }
}

impl<T: Scalar> DataSource<T> for Complete<T> {
    forward!(source: name, dim, skipped, column_names, columns);

    fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    fn place(&self, row: u64) -> (String, u64) {
        self.source.place(self.rows[row as usize])
    }

    fn incomplete(&self) -> &[u64] {
        &self.incomplete
    }

    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        let rows = &self.rows[start as usize..][..count];
        Ok(Block { first: start, ..read_rows(&*self.source, rows, buffer)? })
    }
}
