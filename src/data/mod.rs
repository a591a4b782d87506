//! Sources of points, one file per kind.
//!
//! | source | file | reads |
//! |---|---|---|
//! | [`Points`] | `memory.rs` | slices, vectors and faer views, without a copy |
//! | [`NpyFile`] | `npy.rs` | NumPy `.npy`, by positioned reads |
//! | raw files | `raw.rs` | headerless little-endian values, by positioned reads |
//! | text | `text/` | CSV, TSV and white-space separated text, into memory or a temporary file |
//! | Parquet, with the feature `parquet` | `parquet.rs` | columns of floats and of lists of floats, as text |
//! | [`Subset`] | `subset.rs` | some points of another source, such as those held out |
//! | [`Concat`] | `concat.rs` | several sources, end to end |
//! | [`Excerpt`] | `excerpt.rs` | some points of a source that lies elsewhere |
//! | [`SparsePoints`] | `sparse.rs` | compressed sparse rows in memory |
//! | Matrix Market | `mtx.rs` | Matrix Market coordinates, into sparse points |
//! | `.npz` | `npz.rs` | SciPy's sparse matrices, into sparse points |
//! | [`Weighted`] | `weights.rs` | another source, and gives its points weights |
//! | [`Stoppable`] | `stoppable.rs` | another source, until a flag asks for an end |
//!
//! Text and Parquet are tables: `table/` decides what their columns are used as, and [`Columns`] says it. `selected.rs` chooses columns of
//! other sources, and `complete.rs` leaves out points with missing values.
//!
//! Files of points, and with them [`open`], come with the feature `files`; the others are always there.
//! [`open`] chooses by a file's name and content. A source hands out [`Block`]s; it never sees a model.

pub(crate) mod concat;
mod excerpt;
mod forward;
pub(crate) mod identity;
pub(crate) mod memory;
#[cfg(feature = "cli")]
mod partly_loaded;
pub(crate) mod prefetch;
pub(crate) mod resolution;
mod section;
pub(crate) mod shuffle;
pub(crate) mod sparse;
mod stoppable;
pub(crate) mod subset;
pub(crate) mod table;
pub(crate) mod weights;

#[cfg(feature = "files")]
mod complete;
#[cfg(feature = "files")]
mod compressed;
#[cfg(feature = "files")]
mod csv_writer;
#[cfg(feature = "files")]
mod dtype;
#[cfg(feature = "files")]
pub(crate) mod mtx;
#[cfg(feature = "files")]
pub(crate) mod npy;
#[cfg(feature = "files")]
pub(crate) mod npz;
#[cfg(feature = "files")]
mod open;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(feature = "files")]
mod positioned;
#[cfg(feature = "cli")]
mod private_files;
#[cfg(feature = "cli")]
pub(crate) use positioned::node;
#[cfg(feature = "files")]
pub(crate) mod raw;
#[cfg(feature = "files")]
mod selected;
#[cfg(feature = "files")]
mod spool;
#[cfg(feature = "files")]
pub(crate) mod text;
#[cfg(feature = "files")]
mod vecs;

#[cfg(feature = "cli")]
pub(crate) use selected::without_column;
pub use {
    concat::Concat,
    excerpt::Excerpt,
    memory::Points,
    shuffle::BadRows,
    sparse::SparsePoints,
    stoppable::Stoppable,
    subset::{Subset, split},
    table::{Column, Columns, Header, Kind, Role, Schema, TableOptions},
    weights::Weighted,
};
#[cfg(feature = "files")]
pub use {
    csv_writer::CsvWriter,
    dtype::Dtype,
    npy::{NpyFile, NpyWriter, Number},
    open::{Format, OpenOptions, expand, open, open_all},
    text::Lines,
    vecs::VectorsFile,
};
#[cfg(feature = "cli")]
pub(crate) use {partly_loaded::PartlyLoaded, private_files::of_all_ranks};

use crate::block::{Block, BlockBuf};
use crate::error::{DataError, Result};
use crate::scalar::Scalar;

/// A finite sequence of weighted points that can be read in any order, from several threads.
///
/// # Errors
/// `read` fails with a [`DataError`] that names the source and the row. It must
/// return exactly the points asked for, and the same ones each time. A block of other points, columns or weights ends the fit with an
/// error.
pub trait DataSource<T: Scalar>: Send + Sync {
    /// Returns the name of this source in messages: a path, or `"memory"`.
    fn name(&self) -> String;

    /// Returns the dimension D of the points.
    fn dim(&self) -> usize;

    /// Returns the number of points N.
    fn len(&self) -> u64;

    /// Returns whether there are no points.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of rows that were skipped when the source was opened.
    fn skipped(&self) -> u64 {
        0
    }

    /// Returns the name of the file that holds point `row`, and its row there, for messages.
    fn place(&self, row: u64) -> (String, u64) {
        (self.name(), row)
    }

    /// Returns the names of the columns, if the source has names.
    fn column_names(&self) -> Option<&[String]> {
        None
    }

    /// Returns the columns of the table that the source was read from, if it is a table.
    fn columns(&self) -> Option<&Columns> {
        None
    }

    /// Returns rows that were left out since a value is missing, ascending; with them, rows count from 0 without gaps.
    fn incomplete(&self) -> &[u64] {
        &[]
    }

    /// Reads the `count` points from `start` on; the block borrows from the source or from `buffer`.
    ///
    /// # Panics
    /// May panic if `start + count > len()`.
    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>>;

    /// Reads the same points as sparse ones, if the source stores them so in memory. [`read`](Self::read) fills in the zeros.
    fn read_sparse<'a>(
        &'a self,
        _start: u64,
        _count: usize,
        _buffer: &'a mut BlockBuf<T>,
    ) -> Option<Block<'a, T>> {
        None
    }
}

impl<T: Scalar> std::fmt::Debug for dyn DataSource<T> + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shape = (self.len(), self.dim());
        f.debug_struct("DataSource").field("name", &self.name()).field("shape", &shape).finish()
    }
}

impl<T: Scalar, S: DataSource<T> + ?Sized> DataSource<T> for Box<S> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn dim(&self) -> usize {
        (**self).dim()
    }

    fn len(&self) -> u64 {
        (**self).len()
    }

    fn skipped(&self) -> u64 {
        (**self).skipped()
    }

    fn place(&self, row: u64) -> (String, u64) {
        (**self).place(row)
    }

    fn column_names(&self) -> Option<&[String]> {
        (**self).column_names()
    }

    fn columns(&self) -> Option<&Columns> {
        (**self).columns()
    }

    fn incomplete(&self) -> &[u64] {
        (**self).incomplete()
    }

    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        (**self).read(start, count, buffer)
    }

    fn read_sparse<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Option<Block<'a, T>> {
        (**self).read_sparse(start, count, buffer)
    }
}

/// Returns whether a source stores sparse points.
pub fn is_sparse<T: Scalar>(source: &(impl DataSource<T> + ?Sized)) -> bool {
    source.read_sparse(0, 0, &mut BlockBuf::default()).is_some()
}

/// Reads points, as sparse ones if `sparse` allows it and the source stores them so. All code that looks at points reads them here,
/// since a source may be anyone's.
///
/// # Errors
/// Those of the source; [`DataError`] if the block is not what was asked for.
pub(crate) fn read<'a, T: Scalar>(
    source: &'a (impl DataSource<T> + ?Sized),
    sparse: bool,
    start: u64,
    count: usize,
    buffer: &'a mut BlockBuf<T>,
) -> Result<Block<'a, T>> {
    let block = if sparse && is_sparse(source) {
        source.read_sparse(start, count, buffer).expect("a source is sparse everywhere")
    } else {
        source.read(start, count, buffer)?
    };
    check_block(source, count, &block).map(|()| block)
}

/// Refuses a block of other rows, columns or weights than a source says it has.
fn check_block<T: Scalar>(
    source: &(impl DataSource<T> + ?Sized),
    count: usize,
    block: &Block<'_, T>,
) -> Result<()> {
    let refuse = |row: u64, message: String| {
        let (name, row) = source.place(block.first + row);
        Err(DataError::new(name, format!("the source returned {message}")).at(row, None).into())
    };
    if block.len() != count {
        return refuse(0, format!("a block of {} points, expected {count}", block.len()));
    }
    if block.dim() != source.dim() {
        let (found, expected) = (block.dim(), source.dim());
        return refuse(0, format!("points of dimension {found}, expected {expected}"));
    }
    if let Some(fault) = block.sparse.and_then(crate::block::SparseRows::fault) {
        return refuse(0, fault);
    }
    let Some(weights) = block.weights else { return Ok(()) };
    if weights.len() != count {
        return refuse(0, format!("{} weights for {count} points", weights.len()));
    }
    match weights.iter().position(|weight| !(weight.is_finite() && *weight >= 0.0)) {
        Some(i) => {
            let weight = weights[i];
            refuse(i as u64, format!("the weight {weight}, expected a finite number of at least 0"))
        }
        None => Ok(()),
    }
}

/// Bytes of points that [`load`] reads at once.
const LOAD_BYTES: usize = 4 << 20;

/// Reads a whole source into memory, with its names and its weights.
///
/// # Errors
/// Those of [`DataSource::read`]; a [`DataError`] if the points do not fit into memory.
pub fn load<T: Scalar>(source: &dyn DataSource<T>) -> Result<Points<'static, T>> {
    let (len, dim) = (source.len(), source.dim());
    let mut values = Vec::new();
    let size = usize::try_from(len).ok().and_then(|len| len.checked_mul(dim));
    if size.is_none_or(|size| values.try_reserve_exact(size).is_err()) {
        let message = format!("{len} x {dim} values of type {} do not fit into memory", T::NAME);
        return Err(DataError::new(source.name(), message).into());
    }

    let mut weights = None;
    let mut buffer = BlockBuf::default();
    let rows = (LOAD_BYTES / size_of::<T>() / dim.max(1)).max(1) as u64;
    let mut start = 0;
    while start < len {
        let count = rows.min(len - start) as usize;
        let block = read(source, false, start, count, &mut buffer)?;
        for row in block.points.row_iter() {
            match row.try_as_row_major() {
                Some(row) => values.extend_from_slice(row.as_slice()),
                None => values.extend(row.iter().copied()),
            }
        }
        if let Some(some) = block.weights {
            weights.get_or_insert_with(|| Vec::with_capacity(len as usize)).extend_from_slice(some);
        }
        start += count as u64;
    }

    let names = source.column_names().map(<[String]>::to_vec);
    let points = Points::owned(values, dim)?.named(source.name()).with_column_names(names);
    match weights {
        None => Ok(points),
        Some(weights) => points.with_weights(weights),
    }
}

/// Refuses a source whose points have another dimension than a model.
pub(crate) fn check_dim<T: Scalar>(source: &dyn DataSource<T>, dim: usize) -> Result<()> {
    if source.dim() == dim {
        return Ok(());
    }
    let message = format!(
        "found points of dimension {}, expected {dim}, that of the model; \
         choose the columns that the model was made for, or fit a model to these points",
        source.dim()
    );
    Err(DataError::new(source.name(), message).into())
}

/// Refuses a source from which nothing can be learned: it has no points, or [`check_dim`] fails.
pub(crate) fn check_source<T: Scalar>(source: &dyn DataSource<T>, dim: usize) -> Result<()> {
    check_dim(source, dim)?;
    if source.is_empty() {
        return Err(DataError::new(source.name(), "found no points, expected at least 1").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_another_dimension_are_a_fault_of_the_data() {
        let points = Points::from_rows(&[1.0, 2.0, 3.0], 3).unwrap().named("wide.csv");
        assert!(check_source(&points, 3).is_ok());
        let Err(crate::error::Error::Data(fault)) = check_dim(&points, 2) else {
            panic!("not a data error")
        };
        assert_eq!(fault.source, "wide.csv");
        let expected =
            "found points of dimension 3, expected 2, that of the model; choose the columns";
        assert!(fault.message.starts_with(expected), "{fault}");
        let none = Points::<f64>::owned(Vec::new(), 2).unwrap();
        let fault = check_source(&none, 2).unwrap_err().to_string();
        assert_eq!(fault, "memory: found no points, expected at least 1");
    }
}
