//! Files of numbers without a header.

use super::DataSource;
use super::dtype::Dtype;
use super::positioned::{PositionedFile, StorageOrder, StoredMatrix};
use crate::block::{Block, BlockBuf};
use crate::error::{DataError, Error, Result};
use crate::scalar::Scalar;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// A headerless file of little-endian numbers, point after point.
#[derive(Debug)]
pub struct RawFile(StoredMatrix);

impl RawFile {
    /// Opens a file of points of dimension `dim`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened; [`DataError`] if it is empty, if `dim`
    /// is 0, or if it does not hold a whole number of points.
    ///
    /// # Example
    /// ```
    /// use entropysum::data::{DataSource, Dtype};
    /// use entropysum::expert::RawFile;
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("points.raw");
    /// std::fs::write(&path, [1u8, 2, 3, 4, 5, 6])?;
    /// let points = RawFile::open(&path, Dtype::U8, 3)?;
    /// assert_eq!(DataSource::<f32>::len(&points), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: impl AsRef<Path>, dtype: Dtype, dim: usize) -> Result<Self> {
        let file = PositionedFile::open(path.as_ref())?;
        let Some(width) = StoredMatrix::byte_len(dtype, 1, dim).filter(|width| *width > 0) else {
            return Err(file.fault(format!("points cannot have dimension {dim}")));
        };
        if !file.len.is_multiple_of(width) {
            let message = format!(
                "found {} bytes, expected a multiple of {width}: points of {dim} values of type {dtype}",
                file.len
            );
            return Err(DataError::new(file.name(), message).into());
        }
        let rows = file.len / width;
        Ok(Self(StoredMatrix { file, offset: 0, dtype, order: StorageOrder::Rows, rows, dim }))
    }

    /// Points of type `T` in a temporary file that is open, from the byte `offset` on; called `path` in messages.
    pub(super) fn temporary<T: Scalar>(
        file: Arc<File>,
        offset: u64,
        rows: u64,
        dim: usize,
        path: &Path,
    ) -> Result<Self> {
        let file = PositionedFile::opened(file, path).map_err(|fault| Error::io(path, fault))?;
        let (dtype, order) = (Dtype::of::<T>(), StorageOrder::Rows);
        Ok(Self(StoredMatrix { file, offset, dtype, order, rows, dim }))
    }
}

impl<T: Scalar> DataSource<T> for RawFile {
    fn name(&self) -> String {
        self.0.file.name()
    }

    fn dim(&self) -> usize {
        self.0.dim
    }

    fn len(&self) -> u64 {
        self.0.rows
    }

    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        self.0.read(start, count, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_from_the_middle() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..12i16).flat_map(|value| (-value).to_le_bytes()).collect();
        std::fs::write(&file, bytes).unwrap();
        let points = RawFile::open(&file, Dtype::I16, 3).unwrap();
        let mut buffer = BlockBuf::<f64>::default();
        let block = points.read(2, 2, &mut buffer).unwrap();
        assert_eq!(block.points[(0, 0)], -6.0);
        assert_eq!(block.points[(1, 2)], -11.0);
        assert_eq!(block.first, 2);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, [0; 20]).unwrap();
        let fault = |dtype, dim| RawFile::open(&file, dtype, dim).unwrap_err().to_string();
        assert!(
            fault(Dtype::F64, 1)
                .contains("found 20 bytes, expected a multiple of 8: points of 1 values")
        );
        assert!(fault(Dtype::U8, 0).contains("points cannot have dimension 0"));
        assert!(fault(Dtype::F64, usize::MAX).contains("points cannot have dimension"));
        assert!(RawFile::open(&file, Dtype::F32, 5).is_ok());
    }
}
