//! NumPy's `.npy` files: reading in place, and writing when the number of rows is not known yet.
//!
//! The format is [NumPy's](https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html), versions
//! 1 to 3. Arrays of numbers with one or two dimensions are read; one dimension means points of dimension 1.

use super::DataSource;
use super::dtype::Dtype;
use super::positioned::{PositionedFile, StorageOrder, StoredMatrix};
use crate::atomic::AtomicFile;
use crate::block::{Block, BlockBuf};
use crate::error::{DataError, Error, Result};
use crate::scalar::Scalar;
use std::borrow::Cow;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// A `.npy` file with one point a row.
///
/// It is read by position and not mapped: a file that is cut while it is read gives an error and not a
/// crash. Values of the working precision are read as they are; others are converted, integers beyond 2^53
/// being rounded. Blocks of a file in Fortran order are column-major.
#[derive(Debug)]
pub struct NpyFile(StoredMatrix);

impl NpyFile {
    /// Opens a file and checks that it is as long as its header says; bytes beyond that are ignored.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened; [`DataError`] if it is not a `.npy` file, if it is cut, or if it
    /// does not hold little-endian real numbers in one or two dimensions.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = PositionedFile::open(path.as_ref())?;
        let read = |bytes: &mut [u8], offset| match file.read(bytes, offset) {
            Ok(found) if found == bytes.len() => Ok(()),
            Ok(_) => {
                Err(file.fault(format!("the file ends within its header, at byte {}", file.len)))
            }
            Err(source) => Err(Error::io(&file.path, source)),
        };

        let mut preface = [0; 8];
        read(&mut preface, 0)?;
        if !preface.starts_with(MAGIC) {
            return Err(file.fault("not a .npy file: it does not start with \\x93NUMPY"));
        }
        let mut size = [0; 4];
        let size_bytes = match preface[6] {
            1 => 2,
            2 | 3 => 4,
            version => {
                let message = format!("version {version} of the .npy format, expected 1, 2 or 3");
                return Err(file.fault(message));
            }
        };
        read(&mut size[..size_bytes], 8)?;
        let start = 8 + size_bytes as u64;
        let size = u32::from_le_bytes(size);
        let offset = start + u64::from(size);
        // Before allocating: a damaged size may be anything.
        if offset > file.len {
            let message = format!(
                "the file ends within its header: found {} bytes, expected {offset}",
                file.len
            );
            return Err(file.fault(message));
        }
        let mut header = vec![0; size as usize];
        read(&mut header, start)?;

        let header = Header::parse(&String::from_utf8_lossy(&header))
            .map_err(|message| file.fault(message))?;
        let Header { dtype, order, rows, dim } = header;
        let end =
            StoredMatrix::byte_len(dtype, rows, dim).and_then(|bytes| bytes.checked_add(offset));
        match end {
            Some(end) if end <= file.len => {}
            _ => {
                let expected = end.map_or("more than 2^64".to_owned(), |end| end.to_string());
                return Err(file.fault(format!(
                    "the file is cut: found {} bytes, expected {expected} for {rows} x {dim} values of type {dtype}",
                    file.len
                )));
            }
        }
        Ok(Self(StoredMatrix { file, offset, dtype, order, rows, dim }))
    }

    /// Type of the values in the file.
    pub fn dtype(&self) -> Dtype {
        self.0.dtype
    }
}

/// The numbers of a 1-dimensional array whose file is in memory, and whether they are integers.
pub(super) fn decode<T: Scalar>(bytes: &[u8]) -> Result<(Vec<T>, bool), String> {
    let (text, values) = split(bytes)?;
    let Header { dtype, rows, dim, .. } = Header::parse(&text)?;
    if dim != 1 {
        return Err(format!("an array of {rows} x {dim} values, expected one dimension"));
    }
    let expected = StoredMatrix::byte_len(dtype, rows, dim);
    if expected.is_none_or(|expected| (values.len() as u64) < expected) {
        let found = values.len();
        return Err(format!("the array is cut: found {found} bytes for {rows} values of {dtype}"));
    }
    let mut numbers = vec![T::ZERO; rows as usize];
    if let Some((i, fault)) = dtype.first_rounded(values) {
        return Err(format!("value {i}: {fault}"));
    }
    dtype.convert(values, &mut numbers);
    Ok((numbers, !matches!(dtype, Dtype::F32 | Dtype::F64)))
}

/// Header and values of a file in memory.
pub(super) fn split(bytes: &[u8]) -> Result<(Cow<'_, str>, &[u8]), String> {
    let rest =
        bytes.strip_prefix(MAGIC).ok_or("not an array: it does not start with \\x93NUMPY")?;
    let parts = match rest {
        [1, _, a, b, rest @ ..] => Some((u32::from(u16::from_le_bytes([*a, *b])), rest)),
        [2 | 3, _, a, b, c, d, rest @ ..] => Some((u32::from_le_bytes([*a, *b, *c, *d]), rest)),
        _ => None,
    };
    let parts = parts.and_then(|(size, rest)| rest.split_at_checked(size as usize));
    let (header, values) = parts.ok_or("the array ends within its header")?;
    Ok((String::from_utf8_lossy(header), values))
}

impl<T: Scalar> DataSource<T> for NpyFile {
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

/// What a header says.
#[derive(Debug, PartialEq)]
struct Header {
    dtype: Dtype,
    order: StorageOrder,
    rows: u64,
    dim: usize,
}

impl Header {
    /// Parses the header's Python dictionary; keys may come in any order.
    fn parse(text: &str) -> Result<Self, String> {
        let mut rest = Literal(text);
        let (mut dtype, mut order, mut shape) = (None, None, None);
        rest.expect('{')?;
        while !rest.take('}') {
            let key = rest.string()?;
            rest.expect(':')?;
            match key {
                "descr" if rest.peek() == Some('[') => {
                    return Err("a structured array (records of named fields), expected plain numbers: save \
                                its fields as the columns of a matrix"
                        .to_owned());
                }
                "descr" => dtype = Some(parse_dtype(rest.string()?)?),
                "fortran_order" => {
                    order = Some(if rest.boolean()? {
                        StorageOrder::Columns
                    } else {
                        StorageOrder::Rows
                    })
                }
                "shape" => shape = Some(rest.tuple()?),
                key => return Err(format!("the header has an unknown key {key:?}")),
            }
            if !rest.take(',') && rest.peek() != Some('}') {
                return Err(rest.unexpected("',' or '}'"));
            }
        }
        let missing = |key| format!("the header has no {key:?}");
        let shape = shape.ok_or_else(|| missing("shape"))?;
        let (rows, dim) = match shape[..] {
            [rows] => (rows, 1),
            [rows, dim] => (rows, dim),
            _ => {
                let count = shape.len();
                return Err(format!(
                    "an array with {count} dimensions, expected 1 (numbers) or 2 (points)"
                ));
            }
        };
        match usize::try_from(dim) {
            Ok(0) => Err("points have dimension 0, expected at least 1".to_owned()),
            Err(_) => Err(format!("points cannot have dimension {dim}")),
            Ok(dim) => Ok(Self {
                dtype: dtype.ok_or_else(|| missing("descr"))?,
                order: order.ok_or_else(|| missing("fortran_order"))?,
                rows,
                dim,
            }),
        }
    }
}

/// The type that NumPy's `name`, such as `<f8`, stands for.
fn parse_dtype(name: &str) -> Result<Dtype, String> {
    let (byte_order, kind) = name.split_at_checked(1).unwrap_or(("", name));
    match (byte_order, Dtype::from_numpy_name(kind)) {
        ("<", Some(dtype)) => return Ok(dtype),
        ("|", Some(dtype)) if dtype.size() == 1 => return Ok(dtype),
        (">", Some(_)) => {
            return Err(format!(
                "big-endian values ({name:?}), expected little-endian: save array.astype(\"<{kind}\")"
            ));
        }
        _ => {}
    }
    let found = match kind.chars().next() {
        Some('c') => "complex numbers",
        Some('O') => "Python objects",
        Some('U' | 'S' | 'a') => "strings",
        Some('M' | 'm') => "dates or durations",
        Some('V') => "records",
        Some('f') => "floating point of an unsupported size",
        _ => "an unknown type",
    };
    Err(format!("{found} ({name:?}), expected one of f4, f8, b1, u1, u2, u4, u8, i1, i2, i4, i8"))
}

/// The rest of a Python literal that is being parsed.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    fn peek(&mut self) -> Option<char> {
        self.0 = self.0.trim_start();
        self.0.chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.0 = &self.0[wanted.len_utf8()..];
        }
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.take(wanted) { Ok(()) } else { Err(self.unexpected(&format!("{wanted:?}"))) }
    }

    fn unexpected(&mut self, expected: &str) -> String {
        let found: String = self.0.trim().chars().take(20).collect();
        format!("the header cannot be read: found {found:?}, expected {expected}")
    }

    fn string(&mut self) -> Result<&'a str, String> {
        let quote = self.peek().filter(|quote| matches!(quote, '\'' | '"'));
        let quoted = quote.and_then(|quote| self.0[1..].split_once(quote));
        let (text, rest) = quoted.ok_or_else(|| self.unexpected("a quoted string"))?;
        self.0 = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.peek();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.0.strip_prefix(word) {
                self.0 = rest;
                return Ok(value);
            }
        }
        Err(self.unexpected("True or False"))
    }

    fn tuple(&mut self) -> Result<Vec<u64>, String> {
        let mut numbers = Vec::new();
        self.expect('(')?;
        while !self.take(')') {
            self.peek();
            let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
            let (digits, rest) = self.0.split_at(end);
            numbers.push(digits.parse().map_err(|_| self.unexpected("a length"))?);
            // Python 2 wrote long integers as 3L.
            self.0 = rest.strip_prefix('L').unwrap_or(rest);
            if !self.take(',') && self.peek() != Some(')') {
                return Err(self.unexpected("',' or ')'"));
            }
        }
        Ok(numbers)
    }
}

/// A number that a [`NpyWriter`] takes: `f32`, `f64`, or `i64` for labels.
pub trait Number: sealed::Sealed + Copy {
    /// Its type in a file.
    const DTYPE: Dtype;
    #[doc(hidden)]
    fn write(self, dtype: Dtype, writer: &mut AtomicFile) -> std::io::Result<()>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! number {
    ($type:ty, $dtype:ident, $($other:ident as $as:ty),*) => {
        impl sealed::Sealed for $type {}
        impl Number for $type {
            const DTYPE: Dtype = Dtype::$dtype;
            #[inline]
            fn write(self, dtype: Dtype, writer: &mut AtomicFile) -> std::io::Result<()> {
                match dtype {
                    $(Dtype::$other => writer.write_all(&(self as $as).to_le_bytes()),)*
                    _ => writer.write_all(&self.to_le_bytes()),
                }
            }
        }
    };
}
number!(f32, F32, F64 as f64);
number!(f64, F64, F32 as f32);
number!(i64, I64,);

/// Writes a `.npy` file block by block, the number of rows being counted on the way.
///
/// The file gets its name at [`finish`](Self::finish); a writer that is dropped before leaves nothing.
///
/// # Example
/// ```
/// use entropysum::data::{self, DataSource, Dtype, NpyWriter, OpenOptions};
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("points.npy");
/// let mut writer = NpyWriter::create(&path, Dtype::F64, Some(2))?;
/// writer.write(&[1.0, 2.0, 3.0, 4.0])?;
/// writer.write(&[5.0, 6.0])?;
/// writer.finish()?;
/// let points = data::open::<f64>(&path, &OpenOptions::default())?;
/// assert_eq!((points.len(), points.dim()), (3, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct NpyWriter {
    file: AtomicFile,
    /// Where the header is: not at 0 if the target is a special file that has content.
    start: u64,
    dtype: Dtype,
    columns: Option<usize>,
    values: u64,
}

impl NpyWriter {
    /// Bytes before the first value: room for the longest shape, and NumPy's alignment.
    const HEADER: usize = 128;

    /// Starts a file of rows of `columns` values; with `None` its array is 1-dimensional.
    ///
    /// # Errors
    /// [`Error::Config`] if the type is not `f32`, `f64` or `i64`, or if `columns` is 0; [`Error::Io`] if the
    /// file cannot be created, or is a pipe: its header is written last.
    pub fn create(path: impl AsRef<Path>, dtype: Dtype, columns: Option<usize>) -> Result<Self> {
        let path = path.as_ref();
        if !matches!(dtype, Dtype::F32 | Dtype::F64 | Dtype::I64) || columns == Some(0) {
            let columns = columns.unwrap_or(1);
            let message = format!(
                "{}: cannot write rows of {columns} values of type {dtype}, expected at least 1 of f32, f64 or i64",
                path.display()
            );
            return Err(Error::Config(message));
        }
        let mut file = AtomicFile::create(path)?;
        let start = file.stream_position().map_err(|fault| {
            let message =
                format!("a .npy file's header is written last, and this cannot go back: {fault}");
            Error::io(path, std::io::Error::new(fault.kind(), message))
        })?;
        let mut writer = Self { file, start, dtype, columns, values: 0 };
        writer.write_header().map_err(|fault| Error::io(path, fault))?;
        Ok(writer)
    }

    /// Appends rows, or a part of a row. `f32` and `f64` are converted into each other if need be.
    ///
    /// # Errors
    /// [`Error::Config`] for labels in a file of floating point or the other way round; [`Error::Io`].
    pub fn write<N: Number>(&mut self, values: &[N]) -> Result<()> {
        if (N::DTYPE == Dtype::I64) != (self.dtype == Dtype::I64) {
            let (path, found, expected) = (self.file.path().display(), N::DTYPE, self.dtype);
            return Err(Error::Config(format!(
                "{path}: found values of type {found}, expected {expected}"
            )));
        }
        for value in values {
            value
                .write(self.dtype, &mut self.file)
                .map_err(|fault| Error::io(self.file.path(), fault))?;
        }
        self.values += values.len() as u64;
        Ok(())
    }

    /// Completes the header and gives the file its name.
    ///
    /// # Errors
    /// [`DataError`] if the last row is not complete; [`Error::Io`]. There is no file then.
    pub fn finish(mut self) -> Result<()> {
        let columns = self.columns.unwrap_or(1) as u64;
        if !self.values.is_multiple_of(columns) {
            let message =
                format!("the last row has {} values, expected {columns}", self.values % columns);
            let name = self.file.path().display().to_string();
            return Err(DataError::new(name, message).at(self.values / columns, None).into());
        }
        let path = self.file.path().to_owned();
        let mut patch = || {
            self.file.seek(SeekFrom::Start(self.start))?;
            self.write_header()?;
            // A special file stays open elsewhere: what is written to it next belongs behind.
            self.file.seek(SeekFrom::End(0)).map(drop)
        };
        patch().map_err(|fault| Error::io(path, fault))?;
        self.file.commit()
    }

    fn write_header(&mut self) -> std::io::Result<()> {
        let shape = match self.columns {
            None => format!("({},)", self.values),
            Some(columns) => format!("({}, {columns})", self.values / columns as u64),
        };
        let descr = self.dtype.numpy_name();
        let text = format!("{{'descr': '<{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        self.file.write_all(MAGIC)?;
        self.file.write_all(&[1, 0])?;
        self.file.write_all(&(Self::HEADER as u16 - 10).to_le_bytes())?;
        writeln!(self.file, "{text:<0$}", Self::HEADER - 11)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_parsed() {
        let header = |dtype, order, rows, dim| Ok(Header { dtype, order, rows, dim });
        for (text, expected) in [
            (
                "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }     \n",
                header(Dtype::F64, StorageOrder::Rows, 3, 4),
            ),
            (
                "{'shape': (7,),'fortran_order':True,'descr':'|u1'}",
                header(Dtype::U8, StorageOrder::Columns, 7, 1),
            ),
            (
                r#"{"descr": "<i8", "fortran_order": False, "shape": (3L, 4L)}"#,
                header(Dtype::I64, StorageOrder::Rows, 3, 4),
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 2), }",
                header(Dtype::F32, StorageOrder::Rows, 0, 2),
            ),
        ] {
            assert_eq!(Header::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn headers_that_do_not_fit_say_why() {
        let with = |descr: &str, shape: &str| {
            Header::parse(&format!(
                "{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
            ))
            .unwrap_err()
        };
        for (descr, expected) in [
            ("'>f8'", "big-endian values (\">f8\"), expected little-endian"),
            ("'<c16'", "complex numbers (\"<c16\"), expected one of f4"),
            ("'|O'", "Python objects"),
            ("'<U5'", "strings"),
            ("'<f2'", "floating point of an unsupported size (\"<f2\")"),
            ("'|f8'", "floating point"),
            ("'<M8[ns]'", "dates"),
            ("''", "an unknown type"),
            ("'é'", "an unknown type"),
            ("[('x', '<f8'), ('y', '<f8')]", "a structured array"),
            (
                "8",
                "the header cannot be read: found \"8, 'fortran_order': \", expected a quoted string",
            ),
        ] {
            let found = with(descr, "(3, 4)");
            assert!(found.starts_with(expected), "{descr}: {found}");
        }
        for (shape, expected) in [
            ("()", "an array with 0 dimensions"),
            ("(2, 3, 4)", "an array with 3 dimensions"),
            ("(3, 0)", "points have dimension 0"),
            ("(3, -1)", "the header cannot be read: found \"-1), }\", expected a length"),
            ("(3 4)", "the header cannot be read: found \"4), }\", expected ',' or ')'"),
            ("(99999999999999999999,)", "the header cannot be read"),
        ] {
            let found = with("'<f8'", shape);
            assert!(found.starts_with(expected), "{shape}: {found}");
        }
        for (text, expected) in [
            ("", "the header cannot be read: found \"\", expected '{'"),
            ("{'descr': '<f8'", "the header cannot be read: found \"\", expected ',' or '}'"),
            ("{'descr': '<f8', 'shape': (1,)}", "the header has no \"fortran_order\""),
            (
                "{'fortran_order': 1}",
                "the header cannot be read: found \"1}\", expected True or False",
            ),
            ("{'order': True}", "the header has an unknown key \"order\""),
        ] {
            assert_eq!(Header::parse(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn the_longest_header_fits_its_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long.npy");
        let mut writer = NpyWriter::create(&path, Dtype::F64, Some(usize::MAX)).unwrap();
        writer.values = u64::MAX;
        writer.file.seek(SeekFrom::Start(0)).unwrap();
        writer.write_header().unwrap();
        assert_eq!(writer.file.stream_position().unwrap(), NpyWriter::HEADER as u64);
    }
}
