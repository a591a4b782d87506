//! Comma-separated text, written block by block.

use crate::atomic::AtomicFile;
use crate::error::{Error, Result};
use std::fmt::Debug;
use std::io::Write;
use std::path::Path;

/// Writes comma-separated text with a header, block by block.
///
/// Numbers are written so that they are read back exactly. The file gets its name at
/// [`finish`](Self::finish); a writer that is dropped before leaves nothing.
///
/// # Example
/// ```
/// use entropysum::data::CsvWriter;
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("points.csv");
/// let mut writer = CsvWriter::create(&path, &["x", "y"])?;
/// writer.write_rows(&[1.0, 0.1, 2.0, 1e-300])?;
/// writer.finish()?;
/// assert_eq!(std::fs::read_to_string(&path)?, "x,y\n1.0,0.1\n2.0,1e-300\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CsvWriter {
    file: AtomicFile,
    columns: usize,
}

impl CsvWriter {
    /// Starts a file whose columns have the names in `header`.
    ///
    /// # Errors
    /// [`Error::Config`] if there are none; [`Error::Io`] if the file cannot be created.
    pub fn create(path: impl AsRef<Path>, header: &[impl AsRef<str>]) -> Result<Self> {
        let path = path.as_ref();
        if header.is_empty() {
            return Err(Error::Config(format!(
                "{}: no columns, expected at least 1",
                path.display()
            )));
        }
        let mut file = AtomicFile::create(path)?;
        csv::Writer::from_writer(&mut file)
            .write_record(header.iter().map(AsRef::as_ref))
            .map_err(|fault| Error::io(path, fault.into()))?;
        Ok(Self { file, columns: header.len() })
    }

    /// Appends rows of numbers, given one after another.
    ///
    /// # Errors
    /// [`Error::Config`] if the values do not make whole rows; [`Error::Io`].
    pub fn write_rows(&mut self, values: &[f64]) -> Result<()> {
        self.write(values)
    }

    /// Appends rows of integers, such as labels, given one after another.
    ///
    /// # Errors
    /// [`Error::Config`] if the values do not make whole rows; [`Error::Io`].
    pub fn write_labels(&mut self, labels: &[i64]) -> Result<()> {
        self.write(labels)
    }

    /// Appends a row of empty cells.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_empty_row(&mut self) -> Result<()> {
        // A single empty cell would be a blank line, which is no row.
        let row = if self.columns == 1 { "\"\"".to_owned() } else { ",".repeat(self.columns - 1) };
        writeln!(self.file, "{row}").map_err(|fault| Error::io(self.file.path(), fault))
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// [`Error::Io`]. There is no file then.
    pub fn finish(self) -> Result<()> {
        self.file.commit()
    }

    /// Appends values. `Debug` of a float is the shortest text that reads back to the same bits.
    fn write(&mut self, values: &[impl Debug]) -> Result<()> {
        let columns = self.columns;
        if !values.len().is_multiple_of(columns) {
            let (path, found) = (self.file.path().display(), values.len());
            return Err(Error::Config(format!(
                "{path}: found {found} values, expected rows of {columns}"
            )));
        }
        let file = &mut self.file;
        let mut write = || {
            for (index, value) in values.iter().enumerate() {
                let end = if (index + 1) % columns == 0 { '\n' } else { ',' };
                write!(file, "{value:?}{end}")?;
            }
            Ok(())
        };
        write().map_err(|fault| Error::io(self.file.path(), fault))
    }
}
