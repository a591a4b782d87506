//! Points of Python: arrays as they lie in memory, compressed sparse rows, files.

use crate::model::Columns;
use crate::raise;
use entropysum::any::{OwnedSource, Precision, table_options};
use entropysum::data::{
    self, BadRows, Excerpt, OpenOptions, Schema, SparsePoints, TableOptions, Weighted,
};
use entropysum::faer::MatRef;
use entropysum::{DataSource, Scalar};
use numpy::{Element, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::path::PathBuf;

/// Bytes of points that text may become in memory; what is more goes to a temporary file.
const TEXT_BYTES: u64 = 1 << 30;

/// Rows of points that lie elsewhere, the points of these rows, and name and length of each part.
type Elsewhere<'py, T> = (PyReadonlyArray1<'py, u64>, PyReadonlyArray2<'py, T>, Vec<(String, u64)>);

type Weights<'py> = Option<PyReadonlyArray1<'py, f64>>;

/// Starts of rows, columns, values, and the number of columns.
type Sparse<'py, T> =
    (PyReadonlyArray1<'py, i64>, PyReadonlyArray1<'py, u32>, PyReadonlyArray1<'py, T>, usize);

#[derive(FromPyObject)]
enum Values<'py> {
    F64(PyReadonlyArray2<'py, f64>),
    F32(PyReadonlyArray2<'py, f32>),
    Sparse64(Sparse<'py, f64>),
    Sparse32(Sparse<'py, f32>),
    Elsewhere64(Elsewhere<'py, f64>),
    Elsewhere32(Elsewhere<'py, f32>),
    /// Paths, and whether to read them in single precision.
    Files((Vec<PathBuf>, bool)),
}

/// Points as Python hands them over, with what belongs to them.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Points<'py> {
    /// The name in messages.
    name: String,
    values: Values<'py>,
    weights: Weights<'py>,
    /// Names of the dimensions and of their levels, if the points are those of a data frame.
    columns: Option<Columns>,
    /// Whether missing values of files are read as NaN.
    pub ignore_missing: bool,
    /// Whether to skip rows of files that the model is not for.
    skip_bad_rows: bool,
}

impl Points<'_> {
    /// Opens the points for a model: one of this name, or one with these columns.
    pub fn source(&self, model: &str, schema: Option<&Schema>) -> PyResult<OwnedSource<'_>> {
        let weights = self.weights.as_ref().map(|weights| weights.as_slice()).transpose()?;
        Ok(match &self.values {
            Values::F64(values) => OwnedSource::F64(self.dense(values, weights)?),
            Values::F32(values) => OwnedSource::F32(self.dense(values, weights)?),
            Values::Sparse64(rows) => OwnedSource::F64(sparse(rows, weights)?),
            Values::Sparse32(rows) => OwnedSource::F32(sparse(rows, weights)?),
            Values::Elsewhere64(held) => OwnedSource::F64(self.excerpt(held, weights)?),
            Values::Elsewhere32(held) => OwnedSource::F32(self.excerpt(held, weights)?),
            Values::Files((paths, is_single)) => {
                let table = match schema {
                    Some(schema) => TableOptions::default().schema(Some(schema.clone())),
                    None => table_options(TableOptions::default(), model),
                };
                let bad_rows = if self.skip_bad_rows { BadRows::Skip } else { BadRows::Error };
                let options = OpenOptions::default()
                    .missing(self.ignore_missing)
                    .bad_rows(bad_rows)
                    .memory(Some(TEXT_BYTES))
                    .table(table);
                let precision = if *is_single { Precision::F32 } else { Precision::F64 };
                let source = OwnedSource::open(paths, &options, precision).map_err(raise)?;
                match weights {
                    None => source,
                    Some(weights) => source.with_weights(weights.to_vec()).map_err(raise)?,
                }
            }
        })
    }

    /// Returns the columns of a data frame as a model keeps them.
    pub fn schema(&self) -> Option<Schema> {
        self.columns.as_ref().map(Columns::schema)
    }

    /// Returns the weights of all points, if they have weights.
    pub fn weights(&self) -> PyResult<Option<&[f64]>> {
        Ok(self.weights.as_ref().map(|weights| weights.as_slice()).transpose()?)
    }

    fn excerpt<'a, T: Scalar + Element>(
        &'a self,
        (rows, values, parts): &'a Elsewhere<'_, T>,
        weights: Option<&'a [f64]>,
    ) -> PyResult<Box<dyn DataSource<T> + 'a>> {
        let rows = rows.as_slice()?.to_vec();
        let points = Excerpt::new(rows, view(values)?, parts.clone()).map_err(raise)?;
        let points = points.with_column_names(self.columns.as_ref().map(|it| it.names.clone()));
        Ok(match weights {
            None => Box::new(points),
            Some(weights) => Box::new(Weighted::new(points, weights.to_vec()).map_err(raise)?),
        })
    }

    fn dense<'a, T: Scalar + Element>(
        &'a self,
        values: &'a PyReadonlyArray2<'_, T>,
        weights: Option<&'a [f64]>,
    ) -> PyResult<Box<dyn DataSource<T> + 'a>> {
        let points = data::Points::from_mat(view(values)?).map_err(raise)?.named(&self.name);
        let points = points.with_column_names(self.columns.as_ref().map(|it| it.names.clone()));
        Ok(Box::new(match weights {
            None => points,
            Some(weights) => points.with_weights(weights).map_err(raise)?,
        }))
    }
}

/// Borrows an array as it lies in memory, whatever its order and strides.
fn view<'a, T: Element>(values: &'a PyReadonlyArray2<'_, T>) -> PyResult<MatRef<'a, T>> {
    let size = size_of::<T>() as isize;
    let (shape, strides) = (values.shape(), values.strides());
    if shape.contains(&0) {
        // Where nothing lies may be no aligned place.
        return Ok(MatRef::from_row_major_slice(&[], shape[0], shape[1]));
    }
    if strides.iter().any(|stride| stride % size != 0) || !values.data().is_aligned() {
        let message = "X is not aligned, expected numpy.require(X, requirements='A')";
        return Err(PyValueError::new_err(message));
    }
    let (rows, columns) = (strides[0] / size, strides[1] / size);
    // SAFETY: pointer, shape and strides are those of an array that is aligned and that `values` keeps alive and unchanged.
    Ok(unsafe { MatRef::from_raw_parts(values.data(), shape[0], shape[1], rows, columns) })
}

fn sparse<'a, T: Scalar + Element>(
    (starts, columns, values, dim): &Sparse<'_, T>,
    weights: Option<&[f64]>,
) -> PyResult<Box<dyn DataSource<T> + 'a>> {
    // A negative start becomes one that is too large, and is refused as such.
    let starts = starts.as_slice()?.iter().map(|&start| start as usize).collect();
    let (columns, values) = (columns.as_slice()?.to_vec(), values.as_slice()?.to_vec());
    let points = SparsePoints::from_csr(starts, columns, values, *dim).map_err(raise)?.named("X");
    Ok(Box::new(match weights {
        None => points,
        Some(weights) => points.with_weights(weights.to_vec()).map_err(raise)?,
    }))
}
