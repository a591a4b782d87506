//! Points in the precision that was asked for.

use crate::block::BlockBuf;
use crate::data::{self, Columns, DataSource, OpenOptions, Stoppable, TableOptions, Weighted};
use crate::em::known_from_data;
use crate::error::{Error, Result};
use crate::family::{KnownParameters, product, registry};
use crate::scalar::Scalar;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Names the precision of points, and of all computations with them. Sums are always `f64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

impl Precision {
    /// Every precision.
    pub const ALL: [Self; 2] = [Self::F32, Self::F64];

    /// Returns the name on the command line: `f32` or `f64`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }
}

/// Borrows points in either precision.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// In single precision.
    F32(&'a dyn DataSource<f32>),
    /// In double precision.
    F64(&'a dyn DataSource<f64>),
}

/// Evaluates an expression with `$points` as the points of a [`Source`].
macro_rules! with_points {
    ($source:expr, $points:ident => $body:expr) => {
        match $source {
            $crate::any::Source::F32($points) => $body,
            $crate::any::Source::F64($points) => $body,
        }
    };
}

pub(crate) use with_points;

/// A precision of points.
pub trait InSource: Scalar {
    /// Returns the points of a source.
    ///
    /// # Panics
    /// If they have the other precision.
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
    /// Returns the precision of the points.
    pub fn precision(self) -> Precision {
        match self {
            Self::F32(_) => Precision::F32,
            Self::F64(_) => Precision::F64,
        }
    }

    /// Returns the name of the source in messages.
    pub fn name(self) -> String {
        with_points!(self, points => points.name())
    }

    /// Returns the dimension D of the points.
    pub fn dim(self) -> usize {
        with_points!(self, points => points.dim())
    }

    /// Returns the number of points N.
    pub fn len(self) -> u64 {
        with_points!(self, points => points.len())
    }

    /// Tells whether the source is empty.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Returns the columns of the table that the source was read from, if it is a table.
    pub fn columns(self) -> Option<&'a Columns> {
        with_points!(self, points => points.columns())
    }

    /// Returns some points, row-major.
    ///
    /// # Errors
    /// Those of reading.
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
    ///
    /// # Errors
    /// If the name names columns that the source lacks.
    pub fn with_column_numbers(self, name: &str) -> Result<String> {
        if !product::is_product(name) {
            return Ok(name.to_owned());
        }
        let names = with_points!(self, points => points.column_names()).unwrap_or_default();
        let blocks = product::parse(name, names)?;
        Ok(product::name_of(blocks.iter().map(|(family, columns)| (family.clone(), &columns[..]))))
    }

    /// Adds the parameters of a family that the points tell to those that are known, as [`known_from_data`].
    ///
    /// # Errors
    /// As [`known_from_data`].
    pub fn tells(self, name: &str, known: KnownParameters) -> Result<KnownParameters> {
        with_points!(self, points => known_from_data(name, points, known))
    }

    /// Splits off a random part of the points. Returns the points that are kept, then those that are held out.
    ///
    /// # Errors
    /// As [`data::split`].
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

    /// Returns the same points until a flag is set, as [`Stoppable`].
    pub fn until(self, stop: &'a AtomicBool) -> OwnedSource<'a> {
        match self {
            Self::F32(points) => OwnedSource::F32(Box::new(Stoppable::new(points, stop))),
            Self::F64(points) => OwnedSource::F64(Box::new(Stoppable::new(points, stop))),
        }
    }

    /// Tells whether the points are stored without their zeros.
    pub fn is_sparse(self) -> bool {
        with_points!(self, points => data::is_sparse(points))
    }

    /// Refuses sparse points for a model of this name that takes dense points. The zeros are not filled in: the memory might not hold
    /// them.
    ///
    /// # Errors
    /// Names the families that take sparse points.
    pub fn check_sparse(self, takes: bool, name: &str) -> Result<()> {
        if takes || !self.is_sparse() {
            return Ok(());
        }
        Err(Error::Config(format!(
            "{} is sparse, and {name} takes dense points; sparse ones are for {}",
            self.name(),
            sparse_families().join(", ")
        )))
    }
}

/// Holds points in either precision, with what they are read from.
#[derive(Debug)]
pub enum OwnedSource<'a> {
    /// In single precision.
    F32(Box<dyn DataSource<f32> + 'a>),
    /// In double precision.
    F64(Box<dyn DataSource<f64> + 'a>),
}

impl<'a> OwnedSource<'a> {
    /// Opens files of points, one after the other, as [`data::open_all`].
    ///
    /// # Errors
    /// As [`data::open_all`].
    pub fn open(
        files: &[impl AsRef<Path>],
        options: &OpenOptions,
        precision: Precision,
    ) -> Result<Self> {
        let files: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
        Ok(match precision {
            Precision::F32 => Self::F32(data::open_all(&files, options)?),
            Precision::F64 => Self::F64(data::open_all(&files, options)?),
        })
    }

    /// Gives each point a weight, as [`Weighted`].
    ///
    /// # Errors
    /// As [`Weighted::new`].
    pub fn with_weights(self, weights: Vec<f64>) -> Result<Self> {
        Ok(match self {
            Self::F32(points) => Self::F32(Box::new(Weighted::new(points, weights)?)),
            Self::F64(points) => Self::F64(Box::new(Weighted::new(points, weights)?)),
        })
    }

    /// Borrows the points.
    pub fn borrow(&self) -> Source<'_> {
        match self {
            Self::F32(points) => Source::F32(&**points),
            Self::F64(points) => Source::F64(&**points),
        }
    }
}

/// Returns how to read a table for a model of this name, which may name columns: whether texts are levels there.
///
/// ```
/// use entropysum::any::table_options;
/// use entropysum::data::TableOptions;
///
/// let options = table_options(TableOptions::default(), "gaussian-diag:age,categorical:city");
/// assert_eq!(options.named_by_model, [("age".to_owned(), false), ("city".to_owned(), true)]);
/// assert!(table_options(options, "categorical").all_levels);
/// ```
pub fn table_options(options: TableOptions, model: &str) -> TableOptions {
    let blocks = model.split(',').filter_map(|block| block.split_once(':'));
    let columns = blocks.flat_map(|(family, columns)| {
        let column = move |it: &str| (it.trim().to_owned(), family.trim() == "categorical");
        columns.split('+').map(column)
    });
    let columns: Vec<_> = columns.collect();
    let only_named = !columns.is_empty();
    options.named_by_model(columns).only_named(only_named).all_levels(model == "categorical")
}

/// Lists the names of the families that take sparse points.
///
/// ```
/// assert!(entropysum::any::sparse_families().contains(&"poisson"));
/// ```
pub fn sparse_families() -> Vec<&'static str> {
    let takes_sparse = |name: &&str| {
        let keys = registry::known_parameters(name).iter();
        let known = keys.fold(KnownParameters::default(), |known, &key| known.with(key, vec![1.0]));
        registry::build_known(name, 1, &known).is_ok_and(|family| family.takes_sparse())
    };
    registry::names().filter(takes_sparse).collect()
}
