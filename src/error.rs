//! Errors: what went wrong, where, and what was expected.
//!
//! A fit that does not converge is no error; its [`StopReason`](crate::monitor::StopReason) tells. A degenerate component is no
//! error either: it is repaired or discarded, and an [`Event`](crate::monitor::Event) reports it.

use std::fmt;
use std::path::{Path, PathBuf};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate: what, where, and what was expected.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    Io {
        /// The file; empty if it is not known.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// Points that are not what a model or a format expects.
    Data(DataError),
    /// A model, or a file of parameters, that is not valid.
    Model(String),
    /// A setting outside its range, or settings that exclude each other.
    Config(String),
    /// The end that was asked for by [`Stoppable`](crate::data::Stoppable) came before there was a result.
    Interrupted,
}

/// A fault in a source of points.
#[derive(Clone, Debug, PartialEq)]
pub struct DataError {
    /// The source: a file's path, or "memory".
    pub source: String,
    /// The point at fault, counted from 0, where there is one.
    pub row: Option<u64>,
    /// The dimension at fault, counted from 0, where there is one.
    pub column: Option<usize>,
    /// What was found and what was expected.
    pub message: String,
}

impl DataError {
    /// A fault of a source as a whole.
    pub fn new(source: impl Into<String>, message: impl Into<String>) -> Self {
        Self { source: source.into(), row: None, column: None, message: message.into() }
    }

    /// The same fault at a point, and perhaps at one of its dimensions.
    pub fn at(mut self, row: u64, column: Option<usize>) -> Self {
        self.row = Some(row);
        self.column = column;
        self
    }
}

impl std::error::Error for DataError {}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        match (self.row, self.column) {
            (Some(row), Some(column)) => write!(f, ": row {row}, column {column}")?,
            (Some(row), None) => write!(f, ": row {row}")?,
            (None, Some(column)) => write!(f, ": column {column}")?,
            (None, None) => {}
        }
        write!(f, ": {}", self.message)?;
        if self.row.is_some() || self.column.is_some() {
            write!(f, " (rows and columns count from 0)")?;
        }
        Ok(())
    }
}

impl Error {
    /// A failed operation on a file.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_owned(), source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source } if path.as_os_str().is_empty() => write!(f, "{source}"),
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Data(fault) => write!(f, "{fault}"),
            Self::Model(message) | Self::Config(message) => write!(f, "{message}"),
            Self::Interrupted => write!(f, "interrupted before there was a result"),
        }
    }
}

/// The message says all; [`source`](std::error::Error::source) gives the [`std::io::Error`] or the [`DataError`] inside.
impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Data(fault) => Some(fault),
            Self::Model(_) | Self::Config(_) | Self::Interrupted => None,
        }
    }
}

/// An error of a file that is not known, as the sinks of [`inference`](crate::inference) meet. [`Error::io`] names the file.
impl From<std::io::Error> for Error {
    fn from(source: std::io::Error) -> Self {
        Self::io("", source)
    }
}

impl From<DataError> for Error {
    fn from(fault: DataError) -> Self {
        Self::Data(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;
    use std::io;

    #[test]
    fn sources_are_the_errors_inside() {
        let write = || -> Result<()> { Err(io::Error::other("the disk is full"))? };
        let fault = write().unwrap_err();
        assert_eq!(fault.to_string(), "the disk is full");
        assert!(fault.source().is_some_and(|source| source.is::<io::Error>()));
        let fault = Error::io("a.csv", io::Error::other("the disk is full"));
        assert_eq!(fault.to_string(), "a.csv: the disk is full");

        let fault = Error::from(DataError::new("a.csv", "found no points").at(3, None));
        let inside = fault.source().and_then(|source| source.downcast_ref::<DataError>());
        assert_eq!(inside.and_then(|fault| fault.row), Some(3));
        assert!(Error::Config("no".to_owned()).source().is_none());
    }
}
