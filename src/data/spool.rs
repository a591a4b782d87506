//! Files that cannot be read in any order, unpacked: into memory, or into a temporary file.

use super::DataSource;
use super::forward::forward;
use super::memory::Points;
use super::raw::RawFile;
use super::table::Columns;
use super::weights::Weighted;
use crate::block::{Block, BlockBuf};
use crate::error::{DataError, Error, Result};
use crate::scalar::Scalar;
use std::cell::{Cell, OnceCell};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

/// The points of a file that had to be unpacked, wherever they are kept now, and what only the file knew.
pub(super) struct Table<'r, T> {
    pub values: Spool<'r, T>,
    pub weights: Option<Vec<f64>>,
    pub columns: Columns,
    pub dim: usize,
    pub skipped: u64,
}

impl<T: Scalar> Table<'_, T> {
    /// The points as a source, called `path`.
    pub fn into_source(self, path: &Path) -> Result<Box<dyn DataSource<T>>> {
        let name = path.display().to_string();
        let points: Box<dyn DataSource<T>> = match self.values.finish() {
            Ok(Kept::Memory(values)) => Box::new(Points::owned(values, self.dim)?.named(&name)),
            Ok(Kept::File(Spilled { file, start, count })) => {
                let rows = count / self.dim as u64;
                Box::new(RawFile::temporary::<T>(file, start, rows, self.dim, path)?)
            }
            Err(fault) => return Err(no_room(&name, &fault)),
        };
        let points: Box<dyn DataSource<T>> = match self.weights {
            None => points,
            Some(weights) => Box::new(Weighted::new(points, weights)?),
        };
        let names = self.columns.named.then(|| self.columns.names());
        Ok(Box::new(Unpacked { points, names, columns: self.columns, skipped: self.skipped }))
    }
}

/// The points of a table, with its names.
struct Unpacked<T> {
    points: Box<dyn DataSource<T>>,
    names: Option<Vec<String>>,
    columns: Columns,
    skipped: u64,
}

impl<T: Scalar> DataSource<T> for Unpacked<T> {
    forward!(points: name, dim, len);

    fn column_names(&self) -> Option<&[String]> {
        self.names.as_deref()
    }
    fn columns(&self) -> Option<&Columns> {
        Some(&self.columns)
    }
    fn skipped(&self) -> u64 {
        self.skipped
    }
    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        self.points.read(start, count, buffer)
    }
}

/// Room for the points of tables that are opened together: memory, and a single temporary file without a name for all that is more. So
/// many tables hold no more memory, and no more descriptors, than one.
#[derive(Debug)]
pub(super) struct Room {
    /// Bytes of memory that are left; `None` for any number.
    left: Cell<Option<u64>>,
    file: OnceCell<Arc<File>>,
}

impl Room {
    pub fn new(bytes: Option<u64>) -> Self {
        Self { left: Cell::new(bytes), file: OnceCell::new() }
    }

    /// The temporary file, ready to write at its end, and how long it is.
    fn file(&self) -> io::Result<(Arc<File>, u64)> {
        if self.file.get().is_none() {
            let _ = self.file.set(Arc::new(tempfile::tempfile()?));
        }
        let mut file = Arc::clone(self.file.get().expect("it was set"));
        let end = file.seek(SeekFrom::End(0))?;
        Ok((file, end))
    }
}

/// Values on their way into memory, and from some number on into the temporary file.
pub(super) struct Spool<'r, T> {
    values: Vec<T>,
    limit: usize,
    room: &'r Room,
    file: Option<Spilled<io::BufWriter<Arc<File>>>>,
}

/// Values in a temporary file.
pub(super) struct Spilled<F> {
    file: F,
    /// Byte of the first value.
    start: u64,
    /// Number of values.
    count: u64,
}

pub(super) enum Kept<T> {
    Memory(Vec<T>),
    File(Spilled<Arc<File>>),
}

impl<'r, T: Scalar> Spool<'r, T> {
    pub fn new(room: &'r Room) -> Self {
        let bytes = room.left.get().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let limit = bytes.map_or(usize::MAX, |bytes| bytes / size_of::<T>());
        Self { values: Vec::new(), limit, room, file: None }
    }

    /// Appends rows.
    pub fn extend(&mut self, rows: &[T]) -> io::Result<()> {
        self.values.extend_from_slice(rows);
        let limit = if self.file.is_some() { 1 << 16 } else { self.limit };
        if self.values.len() > limit { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> io::Result<()> {
        let spilled = match &mut self.file {
            Some(spilled) => spilled,
            None => {
                let (file, start) = self.room.file()?;
                self.file.insert(Spilled { file: io::BufWriter::new(file), start, count: 0 })
            }
        };
        if cfg!(target_endian = "little") {
            spilled.file.write_all(bytemuck::cast_slice(&self.values))?;
            spilled.count += self.values.len() as u64;
        } else {
            return Err(io::Error::other(
                "a file larger than the memory allowed needs a little-endian machine",
            ));
        }
        self.values.clear();
        self.values.shrink_to(1 << 17);
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<Kept<T>> {
        if self.file.is_some() {
            self.spill()?;
        }
        // Nothing will be added, so the vector need not keep room to grow.
        self.values.shrink_to_fit();
        match self.file {
            None => {
                let bytes = size_of_val(&self.values[..]) as u64;
                self.room.left.set(self.room.left.get().map(|left| left.saturating_sub(bytes)));
                Ok(Kept::Memory(self.values))
            }
            Some(Spilled { file, start, count }) => {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                Ok(Kept::File(Spilled { file, start, count }))
            }
        }
    }
}

pub(super) fn no_room(name: &str, fault: &io::Error) -> Error {
    let folder = std::env::temp_dir();
    let message =
        format!("does not fit into memory, and not into {} either: {fault}", folder.display());
    DataError::new(name, message).into()
}
