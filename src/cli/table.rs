//! Writes tables of results.

use crate::cli::output::extension;
use crate::data::{CsvWriter, Dtype, NpyWriter, Schema};
use crate::error::Result;
use std::collections::VecDeque;
use std::path::Path;

/// A matrix or vector that is written block by block: as `.npy` if the path says so, else as CSV. Rows that were left out are
/// NaN there, or empty.
#[derive(Debug)]
pub struct Table {
    writer: Writer,
    columns: usize,
    /// Rows that were left out and are not written yet, and the next row.
    gaps: VecDeque<u64>,
    next: u64,
}

#[derive(Debug)]
enum Writer {
    /// With whether all values are whole numbers.
    Npy(NpyWriter, bool),
    Csv(CsvWriter),
}

impl Table {
    /// Starts a vector. Rows are left out as the points had gaps.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn vector(path: &Path, dtype: Dtype, name: &str, gaps: &[u64]) -> Result<Self> {
        // Whole numbers have no NaN.
        let dtype = if gaps.is_empty() { dtype } else { Dtype::F64 };
        let writer = match extension(path).as_str() {
            "npy" => Writer::Npy(NpyWriter::create(path, dtype, None)?, dtype == Dtype::I64),
            _ => Writer::Csv(CsvWriter::create(path, &[name])?),
        };
        Ok(Self::new(writer, 1, gaps))
    }

    /// Starts a matrix with these names of columns.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn matrix(path: &Path, dtype: Dtype, names: &[String], gaps: &[u64]) -> Result<Self> {
        let writer = match extension(path).as_str() {
            "npy" => Writer::Npy(NpyWriter::create(path, dtype, Some(names.len()))?, false),
            _ => Writer::Csv(CsvWriter::create(path, names)?),
        };
        Ok(Self::new(writer, names.len(), gaps))
    }

    fn new(writer: Writer, columns: usize, gaps: &[u64]) -> Self {
        Self { writer, columns, gaps: gaps.iter().copied().collect(), next: 0 }
    }

    /// Appends rows of numbers.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&mut self, values: &[f64]) -> Result<()> {
        let columns = self.columns;
        self.between_gaps(values, columns, |writer, values| match writer {
            Writer::Npy(writer, _) => writer.write(values),
            Writer::Csv(writer) => writer.write_rows(values),
        })
    }

    /// Appends labels.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_labels(&mut self, labels: &[u32]) -> Result<()> {
        self.between_gaps(labels, 1, |writer, labels| {
            let labels: Vec<i64> = labels.iter().map(|&label| label.into()).collect();
            match writer {
                Writer::Npy(writer, true) => writer.write(&labels),
                Writer::Npy(writer, false) => {
                    writer.write(&labels.iter().map(|&label| label as f64).collect::<Vec<_>>())
                }
                Writer::Csv(writer) => writer.write_labels(&labels),
            }
        })
    }

    /// Writes rows, and the gaps before each.
    fn between_gaps<V>(
        &mut self,
        mut values: &[V],
        width: usize,
        mut write: impl FnMut(&mut Writer, &[V]) -> Result<()>,
    ) -> Result<()> {
        while !values.is_empty() {
            self.fill_gaps()?;
            let rows = (values.len() / width) as u64;
            let until = self.gaps.front().map_or(rows, |gap| rows.min(gap - self.next));
            let (now, later) = values.split_at(until as usize * width);
            write(&mut self.writer, now)?;
            self.next += until;
            values = later;
        }
        Ok(())
    }

    /// Writes the gaps at the next row.
    fn fill_gaps(&mut self) -> Result<()> {
        while self.gaps.front() == Some(&self.next) {
            match &mut self.writer {
                Writer::Npy(writer, _) => writer.write(&vec![f64::NAN; self.columns])?,
                Writer::Csv(writer) => writer.write_empty_row()?,
            }
            self.gaps.pop_front();
            self.next += 1;
        }
        Ok(())
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// If the file cannot be written; no file remains then.
    pub fn finish(mut self) -> Result<()> {
        self.fill_gaps()?;
        match self.writer {
            Writer::Npy(writer, _) => writer.finish(),
            Writer::Csv(writer) => writer.finish(),
        }
    }
}

/// Returns names of columns: `prefix` with their number.
pub fn numbered(prefix: &str, columns: usize) -> Vec<String> {
    (0..columns).map(|i| format!("{prefix}{i}")).collect()
}

/// Returns names for columns of points: those of the model, or numbers.
pub fn names_of_points(schema: Option<&Schema>, dim: usize) -> Vec<String> {
    schema.map_or_else(|| numbered("x", dim), |schema| schema.names.clone())
}
