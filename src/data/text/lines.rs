//! The lines of a text as they are, one for each point.

use super::head::Head;
use super::records::{self, Records, Separator};
use crate::data::positioned::open_readable;
use crate::data::table::TableOptions;
use crate::data::table::cells::Decimal;
use crate::error::{DataError, Error, Result};
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

/// Reads the lines of a text file that are points, without comments and blank lines.
#[expect(missing_debug_implementations, reason = "a reader of bytes")]
pub struct Lines {
    path: PathBuf,
    records: Records<Box<dyn BufRead>>,
    separator: Separator,
    decimal: Decimal,
    header: Option<Vec<u8>>,
}

impl Lines {
    /// Opens a text file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`DataError`] if it is no table, or no file that can be read twice.
    pub fn open(path: impl AsRef<Path>, options: &TableOptions) -> Result<Self> {
        let path = path.as_ref();
        let (file, metadata) = open_readable(path)?;
        let fault = |message: String| DataError::new(path.display().to_string(), message);
        if !metadata.is_file() {
            let message = "its lines are read twice, expected a file of text";
            return Err(fault(message.to_owned()).into());
        }
        let io = |fault| Error::io(path, fault);
        let (text, reader) = records::open(file).map_err(io)?;
        let head = Head::read(&text, None, options).map_err(fault)?;
        let text: Box<dyn BufRead> = Box::new(io::Cursor::new(text).chain(reader));
        let mut records = Records::new(text, head.separator, head.cells.clone());
        let mut header = None;
        if head.has_header && records.advance().map_err(io)? {
            header = Some(records.text().to_vec());
        }
        records.expect(head.width);
        let path = path.to_owned();
        let (separator, decimal) = (head.separator, head.cells.decimal);
        Ok(Self { path, records, separator, decimal, header })
    }

    /// Returns the line with the names of columns, if there is such a line.
    pub fn header(&self) -> Option<&[u8]> {
        self.header.as_deref()
    }

    /// Returns the next line, without its end.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>> {
        let more = self.records.advance().map_err(|fault| Error::io(&self.path, fault))?;
        Ok(more.then(|| self.records.text().to_vec()))
    }

    /// Formats a number as the numbers of the text are.
    pub fn number(&self, value: f64) -> String {
        let text = format!("{value:?}");
        if self.decimal == Decimal::Comma { text.replace('.', ",") } else { text }
    }

    /// Returns a text as a cell: in quotes, if it would be read as something else.
    pub fn text(&self, text: &str) -> String {
        let divides = |c: char| match self.separator {
            Separator::Byte(byte) => c == char::from(byte),
            Separator::WhiteSpace => c.is_whitespace(),
        };
        match text.contains(|c: char| divides(c) || ['"', '\n', '\r'].contains(&c)) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text.to_owned(),
        }
    }

    /// Writes a line with more cells.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, to: &mut dyn Write, line: &[u8], cells: &[String]) -> io::Result<()> {
        let separator = match self.separator {
            Separator::Byte(byte) => byte,
            Separator::WhiteSpace => b' ',
        };
        to.write_all(line)?;
        for cell in cells {
            to.write_all(&[separator])?;
            // White space cannot say that a cell is empty.
            let is_lost = cell.is_empty() && self.separator == Separator::WhiteSpace;
            to.write_all(if is_lost { b"NA" } else { cell.as_bytes() })?;
        }
        to.write_all(b"\n")
    }
}
