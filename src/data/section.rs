//! Some consecutive points of another source.

use super::DataSource;
use super::forward::forward;
use crate::block::{Block, BlockBuf};
use crate::error::Result;
use crate::scalar::Scalar;
use std::ops::Range;

/// Selects consecutive points of a source.
#[derive(Debug)]
pub struct PointRange<'a, T: Scalar> {
    source: &'a dyn DataSource<T>,
    range: Range<u64>,
}

impl<'a, T: Scalar> PointRange<'a, T> {
    /// Selects the points of `range`.
    pub fn new(source: &'a dyn DataSource<T>, range: Range<u64>) -> Self {
        Self { source, range }
    }
}

impl<T: Scalar> DataSource<T> for PointRange<'_, T> {
    forward!(source: name, dim);

    fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    // As blocks do, `row` counts the points of the whole source.
    forward!(source: place);

    /// Blocks count their points as the source does.
    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        self.source.read(self.range.start + start, count, buffer)
    }

    fn read_sparse<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Option<Block<'a, T>> {
        self.source.read_sparse(self.range.start + start, count, buffer)
    }
}
