//! Files of vectors as vector search exchanges them: `.fvecs`, `.bvecs` and `.ivecs`.

use super::DataSource;
use super::dtype::Dtype;
use super::positioned::PositionedFile;
use crate::block::{Block, BlockBuf};
use crate::error::{DataError, Result};
use crate::scalar::Scalar;
use faer::MatRef;
use std::path::Path;

/// Bytes of the dimension before each vector.
const HEADER: usize = 4;

/// A file in which each vector follows its dimension, a little-endian `i32`.
#[derive(Debug)]
pub struct VectorsFile {
    file: PositionedFile,
    dtype: Dtype,
    rows: u64,
    dim: usize,
}

impl VectorsFile {
    /// Returns the type of the values that an extension stands for.
    pub fn dtype_of(extension: &str) -> Option<Dtype> {
        match extension {
            "fvecs" => Some(Dtype::F32),
            "bvecs" => Some(Dtype::U8),
            "ivecs" => Some(Dtype::I32),
            _ => None,
        }
    }

    /// Opens a file of vectors. Its first four bytes are the dimension of all.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if it cannot be opened; [`DataError`] if the dimension is not positive, or the file does not hold a
    /// whole number of vectors.
    pub fn open(path: impl AsRef<Path>, dtype: Dtype) -> Result<Self> {
        let file = PositionedFile::open(path.as_ref())?;
        let mut header = [0; HEADER];
        if file.read(&mut header, 0).is_ok_and(|found| found < HEADER) {
            return Err(file.fault("the file is too short for the dimension of a vector"));
        }
        let dim = match usize::try_from(i32::from_le_bytes(header)) {
            Ok(dim) if dim > 0 => dim,
            _ => {
                let found = i32::from_le_bytes(header);
                return Err(file.fault(format!("the first vector has dimension {found}")));
            }
        };
        let width = (HEADER + dim * dtype.size()) as u64;
        if !file.len.is_multiple_of(width) {
            let message = format!(
                "found {} bytes, expected a multiple of {width}: vectors of {dim} values of type {dtype}, each after its dimension",
                file.len
            );
            return Err(file.fault(message));
        }
        Ok(Self { rows: file.len / width, file, dtype, dim })
    }
}

impl<T: Scalar> DataSource<T> for VectorsFile {
    fn name(&self) -> String {
        self.file.name()
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn len(&self) -> u64 {
        self.rows
    }

    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        let width = HEADER + self.dim * self.dtype.size();
        let BlockBuf { values, bytes, .. } = buffer;
        values.resize(values.len().max(count * self.dim), T::ZERO);
        bytes.resize(bytes.len().max(count * width), 0);
        let bytes = &mut bytes[..count * width];
        let fault =
            |row: u64, message: String| DataError::new(self.file.name(), message).at(row, None);
        match self.file.read(bytes, start * width as u64) {
            Err(source) => return Err(fault(start, format!("cannot be read: {source}")).into()),
            Ok(found) if found < bytes.len() => {
                let row = start + (found / width) as u64;
                return Err(fault(row, "the file ends here".to_owned()).into());
            }
            Ok(_) => {}
        }
        let values = &mut values[..count * self.dim];
        for (i, (vector, row)) in
            bytes.chunks_exact(width).zip(values.chunks_exact_mut(self.dim)).enumerate()
        {
            let (header, numbers) = vector.split_at(HEADER);
            let dim = i32::from_le_bytes(header.try_into().expect("four bytes"));
            if usize::try_from(dim) != Ok(self.dim) {
                let message = format!("a vector of dimension {dim}, expected {}", self.dim);
                return Err(fault(start + i as u64, message).into());
            }
            self.dtype.convert(numbers, row);
        }
        let points = MatRef::from_row_major_slice(&*values, count, self.dim);
        Ok(Block { first: start, ..Block::dense(points) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(dims: &[i32], extension: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (i, &dim) in dims.iter().enumerate() {
            bytes.extend(dim.to_le_bytes());
            for d in 0..dim {
                let value = 10 * i as i32 + d;
                match extension {
                    "fvecs" => bytes.extend((value as f32).to_le_bytes()),
                    "bvecs" => bytes.push(value as u8),
                    _ => bytes.extend(value.to_le_bytes()),
                }
            }
        }
        bytes
    }

    #[test]
    fn vectors_are_read_from_the_middle() {
        let folder = tempfile::tempdir().unwrap();
        for extension in ["fvecs", "bvecs", "ivecs"] {
            let path = folder.path().join(extension);
            std::fs::write(&path, vectors(&[3; 5], extension)).unwrap();
            let file = VectorsFile::open(&path, VectorsFile::dtype_of(extension).unwrap()).unwrap();
            assert_eq!((DataSource::<f32>::len(&file), DataSource::<f32>::dim(&file)), (5, 3));
            let mut buffer = BlockBuf::<f64>::default();
            let block = file.read(2, 2, &mut buffer).unwrap();
            assert_eq!((block.points[(0, 0)], block.points[(1, 2)], block.first), (20.0, 32.0, 2));
        }
    }

    #[test]
    fn damaged_vectors_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.fvecs");
        let fault = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            VectorsFile::open(&path, Dtype::F32).unwrap_err().to_string()
        };
        assert!(fault(&[1, 0]).contains("too short"));
        assert!(fault(&vectors(&[-1], "fvecs")).contains("dimension -1"));
        let whole = vectors(&[3; 2], "fvecs");
        assert!(fault(&whole[..30]).contains("found 30 bytes, expected a multiple of 16"));
        // A second vector of another dimension.
        let mut other = whole.clone();
        other[16] = 2;
        std::fs::write(&path, other).unwrap();
        let file = VectorsFile::open(&path, Dtype::F32).unwrap();
        let mut buffer = BlockBuf::<f32>::default();
        let fault = file.read(0, 2, &mut buffer).unwrap_err().to_string();
        assert!(fault.contains("row 1") && fault.contains("dimension 2, expected 3"), "{fault}");
    }
}
