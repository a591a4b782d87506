//! Opens files of points: chooses the source by a file's name and content.

use super::complete::Complete;
use super::selected::Selected;
use super::shuffle::BadRows;
use super::spool::Room;
use super::table::{Columns, TableOptions};
use super::{
    DataSource, Dtype, compressed, concat, load, mtx, npy, npz, positioned, raw, text, vecs,
    weights,
};
use crate::error::{DataError, Error, Result};
use crate::scalar::Scalar;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A format of files of points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// NumPy's `.npy`.
    Npy,
    /// SciPy's `.npz` of a sparse matrix in CSR format.
    Npz,
    /// Matrix Market coordinates, `.mtx`.
    Mtx,
    /// Vectors after their dimension each, as `.fvecs`, `.bvecs` and `.ivecs` hold them.
    Vecs,
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
            "vecs" => Ok(Self::Vecs),
            "text" => Ok(Self::Text),
            "raw" => Ok(Self::Raw),
            "parquet" => Ok(Self::Parquet),
            _ => {
                let message = format!(
                    "unknown format {name:?}, expected npy, npz, mtx, vecs, text, raw or parquet"
                );
                Err(Error::Config(message))
            }
        }
    }
}

/// How to open a file of points; the default detects its format. Each field has a setter of its name.
///
/// ```
/// use entropysum::data::{Dtype, OpenOptions};
///
/// let options = OpenOptions::default().raw(Some((Dtype::F32, 3)));
/// assert!(options.format.is_none() && options.raw.is_some());
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OpenOptions {
    /// The format, if it should not be detected.
    pub format: Option<Format>,
    /// Type of the values and dimension of the points of a raw file.
    pub raw: Option<(Dtype, usize)>,
    /// The column of a text file that holds the weights: its name, or its index from 0.
    pub weights_column: Option<String>,
    /// A file of weights, one a point.
    pub weights: Option<PathBuf>,
    /// What to do with lines of text that are no points.
    pub bad_rows: BadRows,
    /// Bytes of points that tables may become in memory, all together; what is more goes to a temporary file. `None` for any number.
    pub memory: Option<u64>,
    /// Whether empty cells of a text file, `NA` and the like are read as NaN; else they are errors.
    pub missing: bool,
    /// Whether points with a missing value are left out. [`DataSource::incomplete`] tells their rows.
    pub complete: bool,
    /// How the columns are read: names, choice, signs.
    pub table: TableOptions,
}

impl OpenOptions {
    setters! {
        format: Option<Format>,
        raw: Option<(Dtype, usize)>,
        weights_column: Option<String>,
        weights: Option<PathBuf>,
        bad_rows: BadRows,
        memory: Option<u64>,
        missing: bool,
        complete: bool,
        table: TableOptions,
    }
}

/// Opens a file of points.
///
/// The format is the one asked for, else what the extension says (`.npy`; sparse `.npz` and `.mtx`; `.csv`, `.tsv`, `.txt`, `.dat`, ...;
/// `.fvecs`, `.bvecs`, `.ivecs`; `.bin`, `.raw`, `.f32`, `.f64`), else raw if `raw` is given, else what the first bytes say.
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
/// let options = OpenOptions::default().weights_column(Some("copies".to_owned()));
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
    let mut options = options.clone();
    options.missing |= options.complete;
    let room = Room::new(options.memory);
    let mut parts: Vec<Box<dyn DataSource<T>>> = Vec::new();
    for path in paths {
        for path in expand(path.as_ref())? {
            let part = open_one(&path, &options, &room)?;
            // Columns and levels of further files are those of the first.
            if let Some(schema) = part.columns().and_then(Columns::schema)
                && (options.table.schema.is_none() || options.table.new_levels)
            {
                options.table.new_levels = true;
                options.table.schema = Some(schema);
            }
            parts.push(part);
        }
    }
    let mut source =
        if parts.len() == 1 { parts.remove(0) } else { Box::new(concat::Concat::new(parts)?) };
    if let Some(weights) = &options.weights {
        let weights = read_weights(weights, source.len())?;
        source = Box::new(weights::Weighted::new(source, weights)?);
    }
    if options.complete { Complete::of(source) } else { Ok(source) }
}

/// The files that a name stands for: itself, or all that match it as a pattern.
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

fn open_one<T: Scalar>(
    path: &Path,
    options: &OpenOptions,
    room: &Room,
) -> Result<Box<dyn DataSource<T>>> {
    let refuse = |message| Err(Error::Config(format!("{}: {message}", path.display())));
    if options.weights_column.is_some() && options.weights.is_some() {
        return refuse("a weights column and a file of weights exclude each other");
    }
    let format = match options.format {
        Some(format) => format,
        None => detect_format(path, options.raw.is_some())?,
    };
    if !matches!(format, Format::Text | Format::Parquet) && options.weights_column.is_some() {
        return refuse(
            "only text and Parquet have a weights column; name a file of weights instead",
        );
    }
    if format != Format::Raw && options.raw.is_some() {
        return refuse("only a raw file needs a type and a dimension, and this is not one");
    }

    let source: Box<dyn DataSource<T>> = match (format, options.raw) {
        (Format::Npy, _) => Box::new(npy::NpyFile::open(path)?),
        (Format::Npz, _) => Box::new(npz::read_npz::<T>(path)?),
        (Format::Mtx, _) => Box::new(mtx::read_mtx::<T>(path)?),
        (Format::Vecs, _) => {
            let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            let dtype = vecs::VectorsFile::dtype_of(&extension);
            let Some(dtype) = dtype else {
                return refuse("the extension tells the type: expected .fvecs, .bvecs or .ivecs");
            };
            Box::new(vecs::VectorsFile::open(path, dtype)?)
        }
        (Format::Text, _) => text::open_text(path, options, room)?,
        (Format::Parquet, _) => open_parquet(path, options, room)?,
        (Format::Raw, Some((dtype, dim))) => Box::new(raw::RawFile::open(path, dtype, dim)?),
        (Format::Raw, None) => {
            // A file that is not there is the better thing to complain about.
            positioned::open_readable(path)?;
            return refuse(
                "a raw file says nothing of itself: give the type of its values and the dimension",
            );
        }
    };
    let is_table = matches!(format, Format::Text | Format::Parquet);
    if is_table { Ok(source) } else { Selected::choose(source, &options.table) }
}

#[cfg(feature = "parquet")]
fn open_parquet<T: Scalar>(
    path: &Path,
    options: &OpenOptions,
    room: &Room,
) -> Result<Box<dyn DataSource<T>>> {
    super::parquet::open_parquet(path, options, room)
}

#[cfg(not(feature = "parquet"))]
fn open_parquet<T: Scalar>(
    path: &Path,
    _: &OpenOptions,
    _: &Room,
) -> Result<Box<dyn DataSource<T>>> {
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
            "npy" | "npz" | "parquet" | "bin" | "raw" | "f32" | "f64" | "fvecs" | "bvecs"
            | "ivecs" => Err(DataError::new(
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
        "fvecs" | "bvecs" | "ivecs" => return Ok(Format::Vecs),
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
