//! Points in the precision that was asked for. Commands know no precision beyond this file.

use crate::block::BlockBuf;
use crate::cli::args::{DataArgs, Missing, Precision};
use crate::cli::kinds::AnyModel;
use crate::cli::output;
use crate::cli::run::size;
use crate::data::{self, Columns, DataSource, OpenOptions, Schema};
use crate::em::known_from_data;
use crate::error::{Error, Result};
use crate::expert::{is_product, name_of_product, parse_product};
use crate::family::{KnownParameters, registry};
use crate::scalar::Scalar;
use std::path::Path;

/// Points in either precision.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    F32(&'a dyn DataSource<f32>),
    F64(&'a dyn DataSource<f64>),
}

/// Evaluates an expression with `$points` as the points of a [`Source`].
macro_rules! with_points {
    ($source:expr, $points:ident => $body:expr) => {
        match $source {
            $crate::cli::source::Source::F32($points) => $body,
            $crate::cli::source::Source::F64($points) => $body,
        }
    };
}

pub(in crate::cli) use with_points;

/// A precision of points.
pub trait InSource: Scalar {
    /// Returns the points of a source.
    ///
    /// # Panics
    /// If they have the other precision; all points of a command have the same.
    fn points(source: Source<'_>) -> &dyn DataSource<Self>;
}

impl InSource for f32 {
    fn points(source: Source<'_>) -> &dyn DataSource<Self> {
        let Source::F32(points) = source else { unreachable!("all points have one precision") };
        points
    }
}

impl InSource for f64 {
    fn points(source: Source<'_>) -> &dyn DataSource<Self> {
        let Source::F64(points) = source else { unreachable!("all points have one precision") };
        points
    }
}

impl<'a> Source<'a> {
    pub fn name(self) -> String {
        with_points!(self, points => points.name())
    }

    pub fn dim(self) -> usize {
        with_points!(self, points => points.dim())
    }

    pub fn len(self) -> u64 {
        with_points!(self, points => points.len())
    }

    /// Returns some points, row-major.
    pub fn rows(self, start: u64, count: usize) -> Result<Vec<f64>> {
        with_points!(self, points => {
            let mut buffer = BlockBuf::default();
            let block = data::read(points, false, start, count, &mut buffer)?;
            let mut values = Vec::with_capacity(count * points.dim());
            for row in block.points.row_iter() {
                values.extend(row.iter().map(|value| value.to_f64()));
            }
            Ok(values)
        })
    }

    /// Returns the name of a model with columns by number. A name without columns stays as it is.
    pub fn with_column_numbers(self, name: &str) -> Result<String> {
        if !is_product(name) {
            return Ok(name.to_owned());
        }
        let names = with_points!(self, points => points.column_names()).unwrap_or_default();
        let blocks = parse_product(name, names)?;
        Ok(name_of_product(blocks.iter().map(|(family, columns)| (family.clone(), &columns[..]))))
    }

    /// Adds the parameters of a family that the points tell to those that are known.
    pub fn tells(self, name: &str, known: KnownParameters) -> Result<KnownParameters> {
        with_points!(self, points => known_from_data(name, points, known))
    }

    /// Splits off a random part of the points. Returns the points that are kept, then those that are held out.
    pub fn split(self, part: f64, seed: u64) -> Result<[OwnedSource<'a>; 2]> {
        Ok(match self {
            Self::F32(points) => {
                data::split(points, part, seed)?.map(|side| OwnedSource::F32(Box::new(side)))
            }
            Self::F64(points) => {
                data::split(points, part, seed)?.map(|side| OwnedSource::F64(Box::new(side)))
            }
        })
    }

    /// Refuses points of another dimension than that of a model, and sparse points that the model does not take.
    pub fn check_for(self, model: &dyn AnyModel) -> Result<()> {
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

    /// Refuses sparse points for a model that takes dense points. The zeros are not filled in: the memory might not hold them.
    pub fn check_sparse(self, takes: bool, name: &str) -> Result<()> {
        if takes || !with_points!(self, points => data::is_sparse(points)) {
            return Ok(());
        }
        let takes_sparse = |name: &&str| {
            let keys = registry::known_parameters(name).iter();
            let known =
                keys.fold(KnownParameters::default(), |known, &key| known.with(key, vec![1.0]));
            registry::build_known(name, 1, &known).is_ok_and(|family| family.takes_sparse())
        };
        let names: Vec<_> = registry::names().filter(takes_sparse).collect();
        Err(Error::Config(format!(
            "{} is sparse, and {name} takes dense points; sparse ones are for {}",
            self.name(),
            names.join(", ")
        )))
    }
}

/// Points in either precision, with what they are read from.
#[derive(Debug)]
pub enum OwnedSource<'a> {
    F32(Box<dyn DataSource<f32> + 'a>),
    F64(Box<dyn DataSource<f64> + 'a>),
}

impl<'a> OwnedSource<'a> {
    /// Opens files of points, one after the other.
    pub fn open(
        files: &[impl AsRef<Path>],
        options: &OpenOptions,
        precision: Precision,
    ) -> Result<Self> {
        Ok(match precision {
            Precision::F32 => Self::F32(data::open_all(files, options)?),
            Precision::F64 => Self::F64(data::open_all(files, options)?),
        })
    }

    pub fn borrow(&self) -> Source<'_> {
        match self {
            Self::F32(points) => Source::F32(&**points),
            Self::F64(points) => Source::F64(&**points),
        }
    }

    /// Reads the points into memory if half of it is enough. Else each sweep reads them from their file.
    pub fn into_memory(self) -> Result<Self> {
        Ok(match self {
            Self::F32(points) => Self::F32(into_memory(points)?),
            Self::F64(points) => Self::F64(into_memory(points)?),
        })
    }
}

fn into_memory<'a, T: Scalar>(
    source: Box<dyn DataSource<T> + 'a>,
) -> Result<Box<dyn DataSource<T> + 'a>> {
    if data::is_sparse(&*source) {
        return Ok(source);
    }
    let size = u128::from(source.len()) * (source.dim() * size_of::<T>()) as u128;
    let fits = output::available_memory().is_some_and(|free| size < u128::from(free) / 2);
    if fits && !source.is_empty() && !is_in_memory(&*source)? {
        return Ok(Box::new(data::load(&*source)?));
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
    /// Opens files of points, one after the other.
    pub fn of(
        files: &[impl AsRef<Path>],
        options: &OpenOptions,
        precision: Precision,
    ) -> Result<Self> {
        let source = OwnedSource::open(files, options, precision)?;
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
    let opened = Opened::of(&args.files(), &options, precision)?;
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
