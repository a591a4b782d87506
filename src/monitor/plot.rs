//! The history of a fit as a picture.

use super::History;
use crate::error::Result;
use std::io::Write;
use std::path::Path;

/// Writes a plot as SVG.
///
/// # Errors
/// If the file cannot be written.
pub fn write_svg(path: impl AsRef<Path>, history: &History, title: &str) -> Result<()> {
    crate::atomic::write_atomically(path, |file| {
        writeln!(file, "<svg><title>{title}: {}</title></svg>", history.records.len())
    })
}
