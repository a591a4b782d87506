//! `predict --append`: the lines of a text, each with its label.

use crate::any::{Applied, PerPoint};
use crate::cli::args::PredictArgs;
use crate::cli::kinds::leading_component;
use crate::cli::progress::check_interrupt;
use crate::data::{Lines, Schema, TableOptions, expand};
use crate::error::{Error, Result};
use crate::expert::AtomicFile;

/// Writes the lines of all files, with the label of each point, its posterior probability, and the name of the component if it has one.
pub fn run(
    args: &PredictArgs,
    applied: &Applied<'_>,
    incomplete: &[u64],
    schema: Option<Schema>,
) -> Result<()> {
    let mut files = Vec::new();
    for file in args.data.files() {
        files.extend(expand(file)?);
    }
    let mut rows = Rows {
        lines: None,
        files: files.into_iter().rev().collect(),
        names: schema.as_ref().map(|schema| schema.components.clone()).unwrap_or_default(),
        options: args.data.table.options().schema(schema),
        file: AtomicFile::create(&args.output)?,
        has_header: false,
        gaps: incomplete,
        next: 0,
    };
    let n_components = applied.model().n_components();
    applied.per_point(PerPoint::Posterior, &mut |values| {
        check_interrupt()?;
        for posteriors in values.chunks(n_components) {
            rows.write(leading_component(posteriors))?;
        }
        Ok(())
    })?;
    while rows.is_gap() {
        rows.write_line(None)?;
    }
    if rows.has_more()? {
        let message = "the files have more lines than before: they were changed";
        return Err(Error::Config(message.to_owned()));
    }
    rows.file.commit()
}

struct Rows<'a> {
    lines: Option<Lines>,
    /// Files that are left, the next one last.
    files: Vec<std::path::PathBuf>,
    /// Names of the components, if they have names.
    names: Vec<String>,
    options: TableOptions,
    file: AtomicFile,
    has_header: bool,
    /// Rows without a label.
    gaps: &'a [u64],
    next: u64,
}

impl Rows<'_> {
    fn is_gap(&self) -> bool {
        self.gaps.binary_search(&self.next).is_ok()
    }

    /// Tells whether lines are left that no point belongs to.
    fn has_more(&mut self) -> Result<bool> {
        match &mut self.lines {
            Some(lines) => Ok(lines.next_line()?.is_some()),
            None => Ok(false),
        }
    }

    /// Writes the lines of gaps, then the next line with its label.
    fn write(&mut self, label: (usize, f64)) -> Result<()> {
        while self.is_gap() {
            self.write_line(None)?;
        }
        self.write_line(Some(label))
    }

    /// Writes the next line with its label.
    fn write_line(&mut self, label: Option<(usize, f64)>) -> Result<()> {
        loop {
            if let Some(lines) = &mut self.lines
                && let Some(line) = lines.next_line()?
            {
                let mut cells = vec![String::new(); if self.names.is_empty() { 2 } else { 3 }];
                if let Some((label, probability)) = label {
                    cells[0] = label.to_string();
                    cells[1] = lines.number(probability);
                    if let Some(name) = self.names.get(label) {
                        cells[2] = lines.text(name);
                    }
                }
                let path = self.file.path().to_owned();
                lines
                    .write(&mut self.file, &line, &cells)
                    .map_err(|fault| Error::io(path, fault))?;
                self.next += 1;
                return Ok(());
            }
            let Some(path) = self.files.pop() else {
                let message = "the files have fewer lines than before: they were changed";
                return Err(Error::Config(message.to_owned()));
            };
            let lines = Lines::open(&path, &self.options)?;
            if let Some(header) = lines.header().filter(|_| !self.has_header) {
                let mut cells = ["label", "probability", "component"].map(str::to_owned).to_vec();
                cells.truncate(if self.names.is_empty() { 2 } else { 3 });
                lines
                    .write(&mut self.file, header, &cells)
                    .map_err(|fault| Error::io(self.file.path(), fault))?;
            }
            self.has_header = true;
            self.lines = Some(lines);
        }
    }
}
