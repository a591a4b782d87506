//! Files of points that were typed, in the precision that was asked for.

pub(in crate::cli) use crate::any::with_points;
pub use crate::any::{InSource, OwnedSource, Source};
use crate::block::BlockBuf;
use crate::cli::args::{DataArgs, Missing, Precision};
use crate::cli::output;
use crate::cli::ranks;
use crate::cli::run::size;
use crate::data::{self, Columns, DataSource, OpenOptions, PartlyLoaded, Schema};
use crate::error::{Error, Result};
use crate::scalar::Scalar;
use crate::store::{Model, Stored};
use std::path::Path;

impl Source<'_> {
    /// Refuses points of another dimension than that of a model, and sparse points that the model does not take.
    pub(in crate::cli) fn check_for(self, model: &Model) -> Result<()> {
        if self.dim() != model.dim() {
            return Err(Error::Config(format!(
                "{} has points of {} dimension(s), the model is for {}",
                self.name(),
                self.dim(),
                model.dim()
            )));
        }
        self.check_sparse(model.takes_sparse(), &model.name())
    }
}

impl OwnedSource<'_> {
    /// Reads the points into memory if half of it is enough. Else each sweep reads them from their file.
    pub(in crate::cli) fn into_memory(self) -> Result<Self> {
        Ok(match self {
            Self::F32(points) => Self::F32(into_memory(points)?),
            Self::F64(points) => Self::F64(into_memory(points)?),
        })
    }
}

impl OwnedSource<'static> {
    /// Joins the points of the files of all ranks.
    fn of_all_ranks(self) -> Result<Self> {
        let Some(ranks) = ranks::asked() else { return Ok(self) };
        Ok(match self {
            Self::F32(own) => Self::F32(data::of_all_ranks(own, ranks)?),
            Self::F64(own) => Self::F64(data::of_all_ranks(own, ranks)?),
        })
    }
}

fn into_memory<'a, T: Scalar>(
    source: Box<dyn DataSource<T> + 'a>,
) -> Result<Box<dyn DataSource<T> + 'a>> {
    if data::is_sparse(&*source) {
        return Ok(source);
    }
    let rows = ranks::own_rows(source.len());
    let size = u128::from(rows.end - rows.start) * (source.dim() * size_of::<T>()) as u128;
    let fits = output::available_memory().is_some_and(|free| size < u128::from(free) / 2);
    // What others must be asked for is not in memory.
    if fits && !source.is_empty() && (ranks::are_asked() || !is_in_memory(&*source)?) {
        let is_whole = rows == (0..source.len());
        return Ok(match is_whole {
            true => Box::new(data::load(&*source)?),
            false => Box::new(PartlyLoaded::new(source, rows)?),
        });
    }
    Ok(source)
}

/// Tells whether a source lends its points from memory instead of reading them into a buffer.
fn is_in_memory<T: Scalar>(source: &dyn DataSource<T>) -> Result<bool> {
    let mut buffer = BlockBuf::default();
    data::read(source, false, 0, 1, &mut buffer)?;
    Ok(buffer.values.is_empty())
}

/// Points that were opened, and what is told of them beside.
#[derive(Debug)]
pub struct Opened {
    pub source: OwnedSource<'static>,
    /// The columns, if the points are those of a table.
    pub columns: Option<Columns>,
    /// Rows that were left out since a value is missing.
    pub incomplete: Vec<u64>,
}

impl Opened {
    /// Opens the files of points that were typed, one after the other.
    pub fn typed(args: &DataArgs, options: &OpenOptions, precision: Precision) -> Result<Self> {
        let source = OwnedSource::open(&args.files(), options, precision)?;
        match args.private_files {
            true => Self::new(source.of_all_ranks()?),
            false => Self::new(source),
        }
    }

    /// Opens files of points, one after the other.
    pub fn of(
        files: &[impl AsRef<Path>],
        options: &OpenOptions,
        precision: Precision,
    ) -> Result<Self> {
        Self::new(OwnedSource::open(files, options, precision)?)
    }

    fn new(source: OwnedSource<'static>) -> Result<Self> {
        let (columns, incomplete) = with_points!(source.borrow(), points => {
            (points.columns().cloned(), points.incomplete().to_vec())
        });
        Ok(Self { source, columns, incomplete })
    }

    /// Prints what was decided about the files and a person may want to change.
    pub fn tell(&self) {
        for note in self.columns.iter().flat_map(|columns| &columns.notes) {
            output::complain("note", &format!("{}: {note}", self.source.borrow().name()));
        }
        match self.incomplete.len() {
            0 => {}
            1 => output::complain("note", &"1 point with a missing value was left out"),
            n => output::complain("note", &format!("{n} points with missing values were left out")),
        }
    }
}

/// Opens the points that were typed, for a model whose dimensions may have names.
pub fn open(
    args: &DataArgs,
    weights: Option<&Path>,
    precision: Precision,
    schema: Option<&Schema>,
) -> Result<Opened> {
    let mut options = open_options(args, weights)?;
    options.table.schema = schema.cloned();
    let opened = Opened::typed(args, &options, precision)?;
    opened.tell();
    Ok(opened)
}

/// Returns how to read the files that were typed.
pub fn open_options(args: &DataArgs, weights: Option<&Path>) -> Result<OpenOptions> {
    // Text may unpack to any length: what half of the memory does not hold goes to a file.
    Ok(OpenOptions::default()
        .memory(output::available_memory().map(|free| free / 2))
        .raw(args.dtype.zip(args.dim.map(size).transpose()?))
        .weights_column(args.weights_column.clone())
        .weights(weights.map(Path::to_owned))
        .missing(args.missing == Missing::Ignore)
        .complete(args.missing == Missing::Drop)
        .table(args.table.options()))
}
