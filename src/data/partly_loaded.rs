//! Points of another source, some of them in memory.

use super::forward::forward;
use super::section::PointRange;
use super::{DataSource, load};
use crate::block::{Block, BlockBuf};
use crate::data::Points;
use crate::error::Result;
use crate::scalar::Scalar;
use std::ops::Range;

/// Has some rows of a source in memory, and reads the others from it.
#[derive(Debug)]
pub(crate) struct PartlyLoaded<'a, T: Scalar> {
    source: Box<dyn DataSource<T> + 'a>,
    first: u64,
    loaded: Points<'static, T>,
}

impl<'a, T: Scalar> PartlyLoaded<'a, T> {
    /// Reads the rows of a range into memory.
    ///
    /// # Errors
    /// If they cannot be read, or do not fit.
    pub fn new(source: Box<dyn DataSource<T> + 'a>, rows: Range<u64>) -> Result<Self> {
        let loaded = load(&PointRange::new(&*source, rows.clone()))?;
        Ok(Self { source, first: rows.start, loaded })
    }
}

impl<T: Scalar> DataSource<T> for PartlyLoaded<'_, T> {
    forward!(source: name, dim, len, skipped, place, column_names, columns, incomplete);

    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        let end = self.first + self.loaded.len();
        if start < self.first || start + count as u64 > end {
            return self.source.read(start, count, buffer);
        }
        let block = self.loaded.read(start - self.first, count, buffer)?;
        Ok(Block { first: start, ..block })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rows_read_as_before() {
        let values: Vec<f64> = (0..40).map(f64::from).collect();
        let weights: Vec<f64> = (0..20).map(f64::from).collect();
        let points =
            || Points::from_rows(&values, 2).unwrap().with_weights(weights.clone()).unwrap();
        let (whole, some) = (points(), PartlyLoaded::new(Box::new(points()), 5..12).unwrap());
        assert_eq!((some.len(), some.dim()), (20, 2));
        for (start, count) in [(0, 20), (5, 7), (6, 2), (4, 3), (11, 2), (15, 5)] {
            let mut buffers = [BlockBuf::default(), BlockBuf::default()];
            let [first, second] = &mut buffers;
            let expected = whole.read(start, count, first).unwrap();
            let found = some.read(start, count, second).unwrap();
            assert_eq!(found.first, start);
            assert_eq!(found.points, expected.points);
            assert_eq!(found.weights, expected.weights);
        }
    }
}
