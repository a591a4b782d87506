//! Sources of points, one file per kind.
//!
//! | source | file | reads |
//! |---|---|---|
//! | [`Points`] | `memory.rs` | slices, vectors and faer views, without a copy |
//! | [`NpyFile`](npy::NpyFile) | `npy.rs` | NumPy `.npy`, by positioned reads |
//! | [`RawFile`](raw::RawFile) | `raw.rs` | headerless little-endian values, by positioned reads |
//! | [`text`] | `text.rs` | CSV, TSV and white-space separated text, into memory or a temporary file |
//! | Parquet, with the feature `parquet` | `parquet.rs` | columns of floats and of lists of floats, as text |
//! | [`Subset`](subset::Subset) | `subset.rs` | some points of another source, such as those held out |
//! | [`Concat`](concat::Concat) | `concat.rs` | several sources, end to end |
//! | [`SparsePoints`](sparse::SparsePoints) | `sparse.rs` | compressed sparse rows in memory |
//! | [`mtx`] | `mtx.rs` | Matrix Market coordinates, into sparse points |
//! | [`npz`] | `npz.rs` | SciPy's sparse matrices, into sparse points |
//! | [`Weighted`](weights::Weighted) | `weights.rs` | another source, and gives its points weights |
//! | [`Section`](shuffle::Section) | `section.rs` | some consecutive points of another source |
//!
//! [`identity`] tells sources of the same shape apart. Points that are not needed in order come by [`shuffle`]d windows, which [`prefetch`] reads ahead.
//! [`open`] chooses by a file's name and content. A source hands out [`Block`]s; it never sees a model.

mod compressed;
pub mod concat;
mod csv_writer;
mod dtype;
pub mod identity;
pub mod memory;
pub mod mtx;
pub mod npy;
pub mod npz;
#[cfg(feature = "parquet")]
mod parquet;
mod positioned;
pub mod prefetch;
pub mod raw;
mod section;
pub mod shuffle;
pub mod sparse;
mod spool;
pub mod subset;
pub mod text;
pub mod weights;

pub use dtype::Dtype;

use crate::block::{Block, BlockBuf};
use crate::error::{DataError, Error, Result};
use crate::scalar::Scalar;
use memory::Points;
use shuffle::BadRows;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A finite sequence of weighted points that can be read in any order, from several threads.
///
/// # Errors
/// `read` fails with a [`DataError`] that names the source and the row. It must
/// return exactly the points asked for, and the same ones each time.
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
pub fn is_sparse<T: Scalar>(source: &dyn DataSource<T>) -> bool {
    source.read_sparse(0, 0, &mut BlockBuf::default()).is_some()
}

/// Reads points, as sparse ones if `sparse` allows it and the source stores them so.
pub(crate) fn read<'a, T: Scalar>(
    source: &'a dyn DataSource<T>,
    sparse: bool,
    start: u64,
    count: usize,
    buffer: &'a mut BlockBuf<T>,
) -> Result<Block<'a, T>> {
    if sparse && is_sparse(source) {
        Ok(source.read_sparse(start, count, buffer).expect("a source is sparse everywhere"))
    } else {
        source.read(start, count, buffer)
    }
}

/// Names a format of files of points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// NumPy's `.npy`.
    Npy,
    /// SciPy's `.npz` of a sparse matrix in CSR format.
    Npz,
    /// Matrix Market coordinates, `.mtx`.
    Mtx,
    /// Values separated by commas, semicolons, tabs or white space.
    Text,
    /// Headerless little-endian numbers.
    Raw,
    /// Apache Parquet; read by builds with the feature `parquet`.
    Parquet,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "npy" => Ok(Self::Npy),
            "npz" => Ok(Self::Npz),
            "mtx" => Ok(Self::Mtx),
            "text" => Ok(Self::Text),
            "raw" => Ok(Self::Raw),
            "parquet" => Ok(Self::Parquet),
            _ => {
                let message = format!(
                    "unknown format {name:?}, expected npy, npz, mtx, text, raw or parquet"
                );
                Err(Error::Config(message))
            }
        }
    }
}

/// Says how to open a file of points; the default detects its format.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The format, if it should not be detected.
    pub format: Option<Format>,
    /// Type of the values and dimension of the points of a raw file.
    pub raw: Option<(Dtype, usize)>,
    /// The column of a text file that holds the weights: its name, or its index from 0.
    pub weights_column: Option<String>,
    /// A file of weights, one a point.
    pub weights: Option<PathBuf>,
    /// Treatment of lines of text that are no points.
    pub bad_rows: BadRows,
    /// Largest number of bytes of parsed text in memory; larger files go to a temporary file. `None` sets no limit.
    pub memory: Option<u64>,
    /// Whether empty cells of a text file, `NA` and the like are read as NaN; else they are errors.
    pub missing: bool,
}

/// Opens a file of points.
///
/// The format is the one asked for, else what the extension says (`.npy`; sparse `.npz` and `.mtx`; `.csv`, `.tsv`, `.txt`, `.dat`, ...;
/// `.bin`, `.raw`, `.f32`, `.f64`), else raw if `raw` is given, else what the first bytes say.
///
/// # Errors
/// [`Error::Io`] if a file cannot be opened; [`DataError`] if it is not what its format expects;
/// [`Error::Config`] if options are missing or exclude each other.
///
/// # Example
/// ```
/// use entropysum::data::{self, OpenOptions};
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("points.csv");
/// std::fs::write(&path, "x,y,copies\n1,2,1\n3,4,2\n")?;
/// let options = OpenOptions { weights_column: Some("copies".to_owned()), ..Default::default() };
/// let points = data::open::<f32>(&path, &options)?;
/// assert_eq!((points.len(), points.dim()), (2, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open<T: Scalar>(
    path: impl AsRef<Path>,
    options: &OpenOptions,
) -> Result<Box<dyn DataSource<T>>> {
    open_all(&[path], options)
}

/// Opens several files of points as one, each by itself as [`open`] does. A name that is no file may be a pattern with
/// `*`, `?` or `[...]`, which stands for all files that match, in the order of their names.
///
/// # Errors
/// As [`open`]; also if dimensions differ, or nothing matches a pattern.
pub fn open_all<T: Scalar>(
    paths: &[impl AsRef<Path>],
    options: &OpenOptions,
) -> Result<Box<dyn DataSource<T>>> {
    let mut parts = Vec::new();
    for path in paths {
        for path in expand(path.as_ref())? {
            parts.push(open_one(&path, options)?);
        }
    }
    let source =
        if parts.len() == 1 { parts.remove(0) } else { Box::new(concat::Concat::new(parts)?) };
    match &options.weights {
        None => Ok(source),
        Some(weights) => {
            let weights = read_weights(weights, source.len())?;
            Ok(Box::new(weights::Weighted::new(source, weights)?))
        }
    }
}

/// Lists the files that a name stands for: itself, or all that match it as a pattern.
///
/// # Errors
/// [`Error::Config`] if it is a pattern that cannot be understood or that nothing matches.
pub fn expand(path: &Path) -> Result<Vec<PathBuf>> {
    let text = path.to_string_lossy();
    if path.exists() || !text.contains(['*', '?', '[']) {
        return Ok(vec![path.to_owned()]);
    }
    let refuse = |message: String| Err(Error::Config(format!("{text}: {message}")));
    let found = match glob::glob(&text) {
        Err(fault) => return refuse(format!("not a pattern of file names: {fault}")),
        Ok(found) => found,
    };
    let mut files = Vec::new();
    for file in found {
        files.push(file.map_err(|fault| {
            let path = fault.path().to_path_buf();
            Error::io(path, fault.into())
        })?);
    }
    if files.is_empty() { refuse("no file matches".to_owned()) } else { Ok(files) }
}

fn open_one<T: Scalar>(path: &Path, options: &OpenOptions) -> Result<Box<dyn DataSource<T>>> {
    let refuse = |message| Err(Error::Config(format!("{}: {message}", path.display())));
    if options.weights_column.is_some() && options.weights.is_some() {
        return refuse("a weights column and a file of weights exclude each other");
    }
    let format = match options.format {
        Some(format) => format,
        None => detect_format(path, options.raw.is_some())?,
    };
    if format != Format::Text && options.weights_column.is_some() {
        return refuse("only a text file has a weights column; name a file of weights instead");
    }
    if format != Format::Raw && options.raw.is_some() {
        return refuse("only a raw file needs a type and a dimension, and this is not one");
    }

    let source: Box<dyn DataSource<T>> = match (format, options.raw) {
        (Format::Npy, _) => Box::new(npy::NpyFile::open(path)?),
        (Format::Npz, _) => Box::new(npz::read_npz::<T>(path)?),
        (Format::Mtx, _) => Box::new(mtx::read_mtx::<T>(path)?),
        (Format::Text, _) => text::open_text(path, options)?,
        (Format::Parquet, _) => open_parquet(path, options)?,
        (Format::Raw, Some((dtype, dim))) => Box::new(raw::RawFile::open(path, dtype, dim)?),
        (Format::Raw, None) => {
            // A file that is not there is the better thing to complain about.
            positioned::open_readable(path)?;
            return refuse(
                "a raw file says nothing of itself: give the type of its values and the dimension",
            );
        }
    };
    Ok(source)
}

#[cfg(feature = "parquet")]
fn open_parquet<T: Scalar>(path: &Path, options: &OpenOptions) -> Result<Box<dyn DataSource<T>>> {
    parquet::open_parquet(path, options)
}

#[cfg(not(feature = "parquet"))]
fn open_parquet<T: Scalar>(path: &Path, _: &OpenOptions) -> Result<Box<dyn DataSource<T>>> {
    positioned::open_readable(path)?;
    let message = "a Parquet file, and this build lacks the feature `parquet`: \
                   build with `cargo build --release --features parquet`";
    Err(DataError::new(path.display().to_string(), message).into())
}

fn detect_format(path: &Path, raw: bool) -> Result<Format> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let inner = Path::new(compressed::inner_name(&name));
    let extension = inner.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    // Points that can be read in any order are not compressed; text is unpacked when it is opened.
    if inner.as_os_str() != path.file_name().unwrap_or_default() {
        return match extension.as_str() {
            "npy" | "npz" | "parquet" | "bin" | "raw" | "f32" | "f64" => Err(DataError::new(
                path.display().to_string(),
                "compressed numbers cannot be read in any order: unpack the file",
            )
            .into()),
            _ => Ok(Format::Text),
        };
    }
    match extension.as_str() {
        "npy" => return Ok(Format::Npy),
        "csv" | "tsv" => return Ok(Format::Text),
        "npz" => return Ok(Format::Npz),
        "mtx" => return Ok(Format::Mtx),
        "parquet" => return Ok(Format::Parquet),
        // The names of numbers without a header, and those that say nothing.
        _ if raw => return Ok(Format::Raw),
        "bin" | "raw" | "f32" | "f64" => return Ok(Format::Raw),
        "txt" | "dat" | "data" | "tab" | "asc" => return Ok(Format::Text),
        _ => {}
    }
    let (mut file, metadata) = positioned::open_readable(path)?;
    // What is read from a pipe is gone, and only text can be read from one.
    if !metadata.is_file() {
        return Ok(Format::Text);
    }
    let mut magic = [0; npy::MAGIC.len()];
    let is_npy = std::io::Read::read_exact(&mut file, &mut magic).is_ok() && magic == npy::MAGIC;
    Ok(if is_npy { Format::Npy } else { Format::Text })
}

/// Reads a file of one weight for each of `points` points.
fn read_weights(path: &Path, points: u64) -> Result<Vec<f64>> {
    let source = open::<f64>(path, &OpenOptions::default())?;
    if source.dim() != 1 {
        let message = format!("found {} columns, expected 1 with the weights", source.dim());
        return Err(DataError::new(source.name(), message).into());
    }
    let weights = load(&*source)?.view().col(0).iter().copied().collect::<Vec<_>>();
    weights::check_weights(&source.name(), &weights, points)?;
    Ok(weights)
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
        let block = source.read(start, count, &mut buffer)?;
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
        let Err(Error::Data(fault)) = check_dim(&points, 2) else { panic!("not a data error") };
        assert_eq!(fault.source, "wide.csv");
        let expected =
            "found points of dimension 3, expected 2, that of the model; choose the columns";
        assert!(fault.message.starts_with(expected), "{fault}");
        let none = Points::<f64>::owned(Vec::new(), 2).unwrap();
        let fault = check_source(&none, 2).unwrap_err().to_string();
        assert_eq!(fault, "memory: found no points, expected at least 1");
    }
}
