//! The points of a source without missing values.

use super::{Columns, DataSource};
use crate::block::{Block, BlockBuf};
use crate::error::{DataError, Result};
use crate::scalar::Scalar;
use faer::MatRef;

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
    fn name(&self) -> String {
        self.source.name()
    }

    fn dim(&self) -> usize {
        self.source.dim()
    }

    fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    fn skipped(&self) -> u64 {
        self.source.skipped()
    }

    fn place(&self, row: u64) -> (String, u64) {
        self.source.place(self.rows[row as usize])
    }

    fn column_names(&self) -> Option<&[String]> {
        self.source.column_names()
    }

    fn columns(&self) -> Option<&Columns> {
        self.source.columns()
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
        buffer.values.clear();
        buffer.weights.clear();
        let (mut inner, mut is_weighted) = (BlockBuf::default(), false);
        // Runs of rows without a gap are read together.
        for run in rows.chunk_by(|a, b| a + 1 == *b) {
            let block = self.source.read(run[0], run.len(), &mut inner)?;
            for row in block.points.row_iter() {
                buffer.values.extend(row.iter());
            }
            is_weighted |= block.weights.is_some();
            buffer.weights.extend(block.weights.into_iter().flatten());
        }
        Ok(Block {
            sparse: None,
            points: MatRef::from_row_major_slice(&buffer.values, count, self.dim()),
            weights: is_weighted.then_some(&buffer.weights[..]),
            first: start,
        })
    }
}
