//! Files that are read by position, and matrices of numbers in them.

use super::dtype::Dtype;
use crate::block::{Block, BlockBuf};
use crate::error::{DataError, Error, Result};
use crate::scalar::Scalar;
use faer::MatRef;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Files that are held open at most. Systems allow a process about a thousand descriptors, often fewer.
const MOST_OPEN: usize = 128;

/// Files that are held open now.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A regular file that several threads may read at any position. One of very many is opened again for each read.
#[derive(Debug)]
pub(super) struct PositionedFile {
    handle: Handle,
    pub path: PathBuf,
    /// Length in bytes when it was opened.
    pub len: u64,
}

#[derive(Debug)]
enum Handle {
    /// A file that counts among those that are held open.
    Held(Descriptor),
    /// A temporary file, which has no name to be opened by.
    Shared(Arc<Descriptor>),
    /// What tells the file from another one of its name.
    Closed(Option<(u64, u64)>),
}

#[cfg(unix)]
type Descriptor = File;
#[cfg(not(unix))]
type Descriptor = std::sync::Mutex<File>;

impl Drop for Handle {
    fn drop(&mut self) {
        if matches!(self, Self::Held(_)) {
            OPEN.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl PositionedFile {
    /// Opens a file that is regular and not empty.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, metadata) = open_readable(path)?;
        if !metadata.is_file() {
            let message = "not a regular file, expected one that can be read at any position";
            return Err(DataError::new(path.display().to_string(), message).into());
        }
        let has_room = OPEN.fetch_add(1, Ordering::Relaxed) < MOST_OPEN;
        let handle = if has_room {
            Handle::Held(descriptor(file))
        } else {
            OPEN.fetch_sub(1, Ordering::Relaxed);
            Handle::Closed(node(&metadata))
        };
        Ok(Self { handle, path: path.to_owned(), len: metadata.len() })
    }

    /// A temporary file that is open, called `path` in messages.
    pub fn opened(file: Arc<File>, path: &Path) -> io::Result<Self> {
        let len = file.metadata()?.len();
        #[cfg(not(unix))]
        let file = Arc::new(descriptor(file.try_clone()?));
        Ok(Self { handle: Handle::Shared(file), path: path.to_owned(), len })
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

    fn read_some(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.handle {
            Handle::Held(file) => read_at(file, bytes, offset),
            Handle::Shared(file) => read_at(file, bytes, offset),
            Handle::Closed(known) => {
                let file = File::open(&self.path)?;
                if node(&file.metadata()?) != *known {
                    return Err(io::Error::other("another file has its name now"));
                }
                read_at(&descriptor(file), bytes, offset)
            }
        }
    }
}

#[cfg(unix)]
fn descriptor(file: File) -> Descriptor {
    file
}

#[cfg(not(unix))]
fn descriptor(file: File) -> Descriptor {
    std::sync::Mutex::new(file)
}

/// Device and inode of a file, where there are such numbers.
#[cfg(unix)]
pub(crate) fn node(metadata: &std::fs::Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
pub(crate) fn node(_: &std::fs::Metadata) -> Option<(u64, u64)> {
    None
}

#[cfg(unix)]
fn read_at(file: &Descriptor, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, offset)
}

#[cfg(not(unix))]
fn read_at(file: &Descriptor, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    file.seek(SeekFrom::Start(offset))?;
    file.read(bytes)
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
pub(super) enum StorageOrder {
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
    pub order: StorageOrder,
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
            StorageOrder::Rows => {
                self.read_values(start, None, start * self.dim as u64, values, &mut buffer.bytes)?
            }
            StorageOrder::Columns if count > 0 => {
                for (column, values) in values.chunks_exact_mut(count).enumerate() {
                    let first = column as u64 * self.rows + start;
                    self.read_values(start, Some(column), first, values, &mut buffer.bytes)?;
                }
            }
            StorageOrder::Columns => {}
        }
        let points = match self.order {
            StorageOrder::Rows => MatRef::from_row_major_slice(&*values, count, self.dim),
            StorageOrder::Columns => MatRef::from_column_major_slice(&*values, count, self.dim),
        };
        Ok(Block { first: start, ..Block::dense(points) })
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
            if let Some((i, message)) = self.dtype.first_rounded(&bytes[..wanted]) {
                let (row, column) = match column {
                    Some(column) => (row + i as u64, column),
                    None => (row + (i / self.dim) as u64, i % self.dim),
                };
                let fault = DataError::new(self.file.name(), message);
                return Err(fault.at(row, Some(column)).into());
            }
            self.dtype.convert(&bytes[..wanted], values);
        }
        Ok(())
    }
}
