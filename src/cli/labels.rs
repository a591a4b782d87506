//! Points whose component is known: a column of labels beside the dimensions.

use crate::cli::args::{FitArgs, Missing, Start};
use crate::cli::source::{OwnedSource, Source};
use crate::data::{self, Columns, Role};
use crate::error::{Error, Result};
use crate::expert::{is_product, name_of_product};
use crate::store::Model;

/// The column of labels among the dimensions of the points, and the texts of the labels, if they are texts.
pub struct Labels {
    pub column: usize,
    texts: Vec<String>,
}

/// Refuses options that have no meaning beside labels.
pub fn check(args: &FitArgs) -> Result<()> {
    let Some(column) = &args.label_column else { return Ok(()) };
    let refuse = |reason: &str| Err(Error::Config(format!("--label-column {column}: {reason}")));
    match args {
        FitArgs { init: Start::File(_), .. } => {
            refuse("labels number the components of a fresh start, and --init FILE is a given one")
        }
        _ if args.data.missing == Missing::Drop => {
            refuse("--missing drop would leave out the points without a label")
        }
        _ if args.stream.held_out.is_some() => {
            refuse("--held-out points have no labels; 'score' measures them after the fit")
        }
        _ => Ok(()),
    }
}

impl Labels {
    /// Finds the column that was typed, takes it out of the columns of reports and models, and returns the model's name with it.
    pub fn of(
        typed: &str,
        name: &str,
        source: Source<'_>,
        columns: Option<&mut Columns>,
    ) -> Result<(Self, String)> {
        let dim = source.dim();
        let unknown = || {
            Err(Error::Config(format!(
                "--label-column {typed}: {} has no such column among its {dim} dimensions; --columns must not leave it out",
                source.name()
            )))
        };
        let (column, texts) = match columns {
            Some(columns) => {
                let index = typed.parse().ok().filter(|_| !columns.named);
                let is_it = |&at: &usize| columns.all[at].name == typed || Some(at) == index;
                let Some(place) = columns.order.iter().position(is_it) else { return unknown() };
                let widths = columns.order[..place].iter().map(|&at| columns.all[at].width);
                let first = widths.sum();
                let found = &mut columns.all[columns.order.remove(place)];
                if found.is_list {
                    return unknown();
                }
                found.role = Role::Labels;
                (first, found.levels.clone())
            }
            None => match typed.parse() {
                Ok(column) if column < dim => (column, Vec::new()),
                _ => return unknown(),
            },
        };
        if dim < 2 {
            let message = format!("{}: the only column holds the labels", source.name());
            return Err(Error::Config(message));
        }
        let with_labels = match is_product(name) {
            true => format!("{name},label:{column}"),
            false => {
                let others: Vec<usize> = (0..dim).filter(|&d| d != column).collect();
                let blocks = [(name.to_owned(), &others[..]), ("label".to_owned(), &[column])];
                name_of_product(blocks)
            }
        };
        Ok((Self { column, texts }, with_labels))
    }

    /// Returns the model without labels, and the names of its components.
    pub fn strip(&self, model: &Model) -> Result<(Model, Vec<String>)> {
        let without = match model {
            Model::Mixture(mixture) => mixture.without_labels(),
            _ => None,
        };
        let (model, labels) = without.expect("mixtures with labels can be had without them")?;
        let text = |label: Option<usize>| label.and_then(|label| self.texts.get(label)).cloned();
        let names = labels.into_iter().map(|label| text(label).unwrap_or_default()).collect();
        Ok((model.into(), if self.texts.is_empty() { Vec::new() } else { names }))
    }

    /// Returns the points without their labels.
    pub fn points<'a>(&self, source: Source<'a>) -> OwnedSource<'a> {
        match source {
            Source::F32(points) => OwnedSource::F32(data::without_column(points, self.column)),
            Source::F64(points) => OwnedSource::F64(data::without_column(points, self.column)),
        }
    }
}
