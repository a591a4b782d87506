//! Some columns of a source of numbers without names.

use super::DataSource;
use super::forward::forward;
#[cfg(feature = "cli")]
use super::section::PointRange;
use super::table::{TableOptions, select};
use crate::block::{Block, BlockBuf};
use crate::error::{DataError, Result};
use crate::scalar::Scalar;

/// Reads these columns of another source, in this order.
pub(super) struct Selected<'a, T> {
    source: Box<dyn DataSource<T> + 'a>,
    columns: Vec<usize>,
}

/// Reads all columns of another source but one.
#[cfg(feature = "cli")]
pub(crate) fn without_column<'a, T: Scalar>(
    source: &'a dyn DataSource<T>,
    column: usize,
) -> Box<dyn DataSource<T> + 'a> {
    let columns = (0..source.dim()).filter(|&other| other != column).collect();
    let source = Box::new(PointRange::new(source, 0..source.len()));
    Box::new(Selected { source, columns })
}

impl<T: Scalar> Selected<'static, T> {
    /// Chooses the columns that were typed; a source of which all are left stays as it is.
    ///
    /// # Errors
    /// [`DataError`] if a column is not there, none is left, or the source is sparse.
    pub fn choose(
        source: Box<dyn DataSource<T>>,
        options: &TableOptions,
    ) -> Result<Box<dyn DataSource<T>>> {
        if options.columns.is_none() && options.drop.is_empty() {
            return Ok(source);
        }
        let fault = |message: String| DataError::new(source.name(), message);
        if super::is_sparse(&*source) {
            let message = "columns of sparse points cannot be chosen, expected a dense file";
            return Err(fault(message.to_owned()).into());
        }
        let dim = source.dim();
        let choose = |list: &[String]| select(list, None, dim).map_err(fault);
        let dropped = choose(&options.drop)?;
        let mut columns = match &options.columns {
            Some(list) => choose(list)?,
            None => (0..dim).collect(),
        };
        columns.retain(|column| !dropped.contains(column));
        if columns.is_empty() {
            return Err(fault("no column is left for the points".to_owned()).into());
        }
        Ok(Box::new(Self { source, columns }))
    }
}

impl<T: Scalar> DataSource<T> for Selected<'_, T> {
    forward!(source: name, len, skipped, place);

    fn dim(&self) -> usize {
        self.columns.len()
    }

    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        let mut inner = BlockBuf::default();
        let block = super::read(&*self.source, false, start, count, &mut inner)?;
        buffer.values.clear();
        buffer.weights.clear();
        for i in 0..count {
            buffer.values.extend(self.columns.iter().map(|&d| block.points[(i, d)]));
        }
        let is_weighted = block.weights.is_some();
        buffer.weights.extend(block.weights.into_iter().flatten());
        Ok(Block { first: start, ..buffer.block(count, self.dim(), is_weighted) })
    }
}
