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
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// The points of a file that had to be unpacked, wherever they are kept now, and what only the file knew.
pub(super) struct Table<T> {
    pub values: Spool<T>,
    pub weights: Option<Vec<f64>>,
    pub columns: Columns,
    pub dim: usize,
    pub skipped: u64,
}

impl<T: Scalar> Table<T> {
    /// The points as a source, called `path`.
    pub fn into_source(self, path: &Path) -> Result<Box<dyn DataSource<T>>> {
        let name = path.display().to_string();
        let points: Box<dyn DataSource<T>> = match self.values.finish() {
            Ok(Kept::Memory(values)) => Box::new(Points::owned(values, self.dim)?.named(&name)),
            Ok(Kept::File(file)) => Box::new(RawFile::temporary::<T>(file, self.dim, path)?),
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

/// Values on their way into memory, and from some number on into a temporary file.
pub(super) struct Spool<T> {
    values: Vec<T>,
    limit: Option<usize>,
    file: Option<io::BufWriter<File>>,
}

pub(super) enum Kept<T> {
    Memory(Vec<T>),
    File(File),
}

impl<T: Scalar> Spool<T> {
    pub fn new(bytes: Option<u64>) -> Self {
        let limit =
            bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX) / size_of::<T>());
        Self { values: Vec::new(), limit, file: None }
    }

    /// Appends rows.
    pub fn extend(&mut self, rows: &[T]) -> io::Result<()> {
        self.values.extend_from_slice(rows);
        let limit = if self.file.is_some() { 1 << 16 } else { self.limit.unwrap_or(usize::MAX) };
        if self.values.len() > limit { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(io::BufWriter::new(tempfile::tempfile()?)),
        };
        if cfg!(target_endian = "little") {
            file.write_all(bytemuck::cast_slice(&self.values))?;
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
            None => Ok(Kept::Memory(self.values)),
            Some(file) => {
                Ok(Kept::File(file.into_inner().map_err(io::IntoInnerError::into_error)?))
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
