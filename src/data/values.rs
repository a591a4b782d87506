//! Numbers of one type in a file: their types, their conversion, and reading them by position.

use crate::block::{Block, BlockBuf};
use crate::error::{DataError, Error, Result};
use crate::scalar::Scalar;
use faer::MatRef;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Type of the numbers in a file; always little-endian.
///
/// # Example
/// ```
/// use entropysum::data::Dtype;
/// let dtype: Dtype = "i16".parse()?;
/// assert_eq!((dtype, dtype.size(), dtype.to_string()), (Dtype::I16, 2, "i16".to_owned()));
/// assert!("complex".parse::<Dtype>().is_err());
/// # Ok::<(), entropysum::error::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point.
    F64,
    /// One byte, 0 for false.
    Bool,
    /// 8-bit unsigned integer.
    U8,
    /// 16-bit unsigned integer.
    U16,
    /// 32-bit unsigned integer.
    U32,
    /// 64-bit unsigned integer; beyond 2^53 it is rounded to the nearest `f64`.
    U64,
    /// 8-bit signed integer.
    I8,
    /// 16-bit signed integer.
    I16,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer; beyond 2^53 in absolute value it is rounded to the nearest `f64`.
    I64,
}

impl Dtype {
    /// Every type, with its name here, its name in NumPy without the byte order, and its size in bytes.
    const TABLE: [(Self, &'static str, &'static str, usize); 11] = [
        (Self::F32, "f32", "f4", 4),
        (Self::F64, "f64", "f8", 8),
        (Self::Bool, "bool", "b1", 1),
        (Self::U8, "u8", "u1", 1),
        (Self::U16, "u16", "u2", 2),
        (Self::U32, "u32", "u4", 4),
        (Self::U64, "u64", "u8", 8),
        (Self::I8, "i8", "i1", 1),
        (Self::I16, "i16", "i2", 2),
        (Self::I32, "i32", "i4", 4),
        (Self::I64, "i64", "i8", 8),
    ];

    fn entry(self) -> (Self, &'static str, &'static str, usize) {
        // The table is in the order of declaration; a test holds it to that.
        Self::TABLE[self as usize]
    }

    /// Bytes a value takes.
    pub fn size(self) -> usize {
        self.entry().3
    }

    /// Name in NumPy, without the byte order: `"f8"`.
    pub(super) fn numpy_name(self) -> &'static str {
        self.entry().2
    }

    pub(super) fn from_numpy_name(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|entry| entry.2 == name).map(|entry| entry.0)
    }

    /// The type whose values are those of type `T`.
    pub(super) fn of<T: Scalar>() -> Self {
        if T::NAME == "f32" { Self::F32 } else { Self::F64 }
    }

    /// Whether values of this type are, byte for byte, values of type `T` in memory.
    fn is<T: Scalar>(self) -> bool {
        cfg!(target_endian = "little") && self.entry().1 == T::NAME
    }

    /// Converts `bytes` to as many values; through `f64`, then rounded to `T`.
    pub(super) fn convert<T: Scalar>(self, bytes: &[u8], values: &mut [T]) {
        fn each<T: Scalar, const SIZE: usize>(
            bytes: &[u8],
            values: &mut [T],
            decode: impl Fn([u8; SIZE]) -> f64,
        ) {
            for (value, raw) in values.iter_mut().zip(bytes.as_chunks().0) {
                *value = T::from_f64(decode(*raw));
            }
        }
        match self {
            Self::F32 => each(bytes, values, |raw| f32::from_le_bytes(raw).into()),
            Self::F64 => each(bytes, values, f64::from_le_bytes),
            Self::Bool => each(bytes, values, |[raw]| f64::from(raw != 0)),
            Self::U8 => each(bytes, values, |raw| u8::from_le_bytes(raw).into()),
            Self::U16 => each(bytes, values, |raw| u16::from_le_bytes(raw).into()),
            Self::U32 => each(bytes, values, |raw| u32::from_le_bytes(raw).into()),
            Self::U64 => each(bytes, values, |raw| u64::from_le_bytes(raw) as f64),
            Self::I8 => each(bytes, values, |raw| i8::from_le_bytes(raw).into()),
            Self::I16 => each(bytes, values, |raw| i16::from_le_bytes(raw).into()),
            Self::I32 => each(bytes, values, |raw| i32::from_le_bytes(raw).into()),
            Self::I64 => each(bytes, values, |raw| i64::from_le_bytes(raw) as f64),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.entry().1)
    }
}

impl FromStr for Dtype {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::TABLE.iter().find(|entry| entry.1 == name).map(|entry| entry.0).ok_or_else(|| {
            let known = Self::TABLE.map(|entry| entry.1).join(", ");
            Error::Config(format!("unknown type of number {name:?}, expected one of {known}"))
        })
    }
}

/// A regular file that several threads may read at any position.
#[derive(Debug)]
pub(super) struct PositionedFile {
    #[cfg(unix)]
    file: File,
    #[cfg(not(unix))]
    file: std::sync::Mutex<File>,
    pub path: PathBuf,
    /// Length in bytes when it was opened.
    pub len: u64,
}

impl PositionedFile {
    /// Opens a file that is regular and not empty.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, metadata) = open_readable(path)?;
        if !metadata.is_file() {
            let message = "not a regular file, expected one that can be read at any position";
            return Err(DataError::new(path.display().to_string(), message).into());
        }
        #[cfg(not(unix))]
        let file = std::sync::Mutex::new(file);
        Ok(Self { file, path: path.to_owned(), len: metadata.len() })
    }

    /// A file that is open, called `path` in messages.
    pub fn opened(file: File, path: &Path) -> io::Result<Self> {
        let len = file.metadata()?.len();
        #[cfg(not(unix))]
        let file = std::sync::Mutex::new(file);
        Ok(Self { file, path: path.to_owned(), len })
    }

    /// What to call this file in messages.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// A fault of the file as a whole.
    pub fn fault(&self, message: impl Into<String>) -> Error {
        DataError::new(self.name(), message).into()
    }

    /// Fills `bytes` from `offset` on, as far as the file goes; returns how many bytes there were.
    pub fn read(&self, mut bytes: &mut [u8], mut offset: u64) -> io::Result<usize> {
        let wanted = bytes.len();
        while !bytes.is_empty() {
            match self.read_some(bytes, offset) {
                Ok(0) => break,
                Ok(count) => {
                    bytes = &mut bytes[count..];
                    offset += count as u64;
                }
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(wanted - bytes.len())
    }

    #[cfg(unix)]
    fn read_some(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, bytes, offset)
    }

    #[cfg(not(unix))]
    fn read_some(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        file.read(bytes)
    }
}

/// Opens a file for reading; refuses directories, and regular files without content.
pub(super) fn open_readable(path: &Path) -> Result<(File, std::fs::Metadata)> {
    let file = File::open(path).map_err(|fault| Error::io(path, fault))?;
    let metadata = file.metadata().map_err(|fault| Error::io(path, fault))?;
    let message = if metadata.is_dir() {
        "a directory, expected a file"
    } else if metadata.is_file() && metadata.len() == 0 {
        "the file is empty"
    } else {
        return Ok((file, metadata));
    };
    Err(DataError::new(path.display().to_string(), message).into())
}

/// Order in which a file holds the values of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Row-major: point after point.
    Rows,
    /// Column-major: dimension after dimension, as Fortran has it.
    Columns,
}

/// A matrix of numbers in a file.
#[derive(Debug)]
pub(super) struct StoredMatrix {
    pub file: PositionedFile,
    /// Where the first value is.
    pub offset: u64,
    pub dtype: Dtype,
    pub order: Order,
    pub rows: u64,
    pub dim: usize,
}

impl StoredMatrix {
    /// Bytes that `rows` x `dim` values take, if that is a number at all.
    pub fn byte_len(dtype: Dtype, rows: u64, dim: usize) -> Option<u64> {
        rows.checked_mul(u64::try_from(dim).ok()?)?.checked_mul(dtype.size() as u64)
    }

    /// The `count` points from `start` on, in the order of the file.
    pub fn read<'a, T: Scalar>(
        &self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        let within = start.checked_add(count as u64).is_some_and(|end| end <= self.rows);
        assert!(within, "{count} points from {start} on, of {}", self.rows);

        let len = count * self.dim;
        if buffer.values.len() < len {
            buffer.values.resize(len, T::ZERO);
        }
        let values = &mut buffer.values[..len];
        match self.order {
            Order::Rows => {
                self.read_values(start, None, start * self.dim as u64, values, &mut buffer.bytes)?
            }
            Order::Columns if count > 0 => {
                for (column, values) in values.chunks_exact_mut(count).enumerate() {
                    let first = column as u64 * self.rows + start;
                    self.read_values(start, Some(column), first, values, &mut buffer.bytes)?;
                }
            }
            Order::Columns => {}
        }
        let points = match self.order {
            Order::Rows => MatRef::from_row_major_slice(&*values, count, self.dim),
            Order::Columns => MatRef::from_column_major_slice(&*values, count, self.dim),
        };
        Ok(Block { points, sparse: None, weights: None, first: start })
    }

    /// Reads the values from number `first` on; they begin at point `row` and are all of one `column`, or of
    /// whole points.
    fn read_values<T: Scalar>(
        &self,
        row: u64,
        column: Option<usize>,
        first: u64,
        values: &mut [T],
        bytes: &mut Vec<u8>,
    ) -> Result<()> {
        let size = self.dtype.size();
        let offset = self.offset + first * size as u64;
        let wanted = values.len() * size;
        let direct = self.dtype.is::<T>();
        let target = if direct {
            bytemuck::cast_slice_mut(&mut *values)
        } else {
            if bytes.len() < wanted {
                bytes.resize(wanted, 0);
            }
            &mut bytes[..wanted]
        };

        let fault =
            |row, message| Err(DataError::new(self.file.name(), message).at(row, column).into());
        match self.file.read(target, offset) {
            Err(source) => return fault(row, format!("cannot be read: {source}")),
            Ok(found) if found < wanted => {
                let width = if column.is_some() { 1 } else { self.dim };
                return fault(
                    row + (found / size / width) as u64,
                    format!(
                        "the file ends here, at byte {}: it was {} bytes long when it was opened",
                        offset + found as u64,
                        self.file.len
                    ),
                );
            }
            Ok(_) => {}
        }
        if !direct {
            self.dtype.convert(&bytes[..wanted], values);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_of_declaration() {
        for (index, entry) in Dtype::TABLE.iter().enumerate() {
            assert_eq!(entry.0 as usize, index);
            assert_eq!(entry.1.parse::<Dtype>().unwrap(), entry.0);
            assert_eq!(Dtype::from_numpy_name(entry.2), Some(entry.0));
        }
    }

    #[test]
    fn extreme_values_convert() {
        fn one(dtype: Dtype, bytes: &[u8]) -> f64 {
            let mut value = [0.0f64];
            dtype.convert(bytes, &mut value);
            value[0]
        }
        assert_eq!(one(Dtype::U64, &u64::MAX.to_le_bytes()), 2f64.powi(64));
        assert_eq!(one(Dtype::I64, &((1i64 << 53) + 1).to_le_bytes()), 2f64.powi(53));
        assert_eq!(one(Dtype::I8, &[0x80]), -128.0);
        assert_eq!(one(Dtype::Bool, &[7]), 1.0);
        assert_eq!(one(Dtype::F32, &0.1f32.to_le_bytes()), f64::from(0.1f32));
        let mut narrow = [0.0f32];
        Dtype::F64.convert(&1e300f64.to_le_bytes(), &mut narrow);
        assert_eq!(narrow, [f32::INFINITY]);
    }
}
