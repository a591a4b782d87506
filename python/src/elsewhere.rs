//! E-steps of points that lie elsewhere, and scores that add up.

use crate::points::Points;
use crate::raise;
use crate::watch::{Callbacks, watched};
use entropysum::Executor;
use entropysum::any::{self, Parameters};
use entropysum::data::Columns;
use entropysum::inference;
use numpy::{IntoPyArray, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The statistics of an E-step. Those of all parts of the points add up.
#[pyclass(module = "entropysum._entropysum", frozen)]
pub struct Statistics(pub any::Statistics);

#[pymethods]
impl Statistics {
    #[staticmethod]
    fn from_bytes(bytes: &[u8]) -> PyResult<Self> {
        any::Statistics::from_bytes(bytes).map(Self).map_err(raise)
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.to_bytes())
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Py<PyAny>, (Bound<'py, PyBytes>,))> {
        Ok((py.get_type::<Self>().getattr("from_bytes")?.unbind(), (self.to_bytes(py),)))
    }

    fn __add__(&self, other: &Self) -> PyResult<Self> {
        let mut total = self.0.clone();
        total.add(&other.0).map_err(raise)?;
        Ok(Self(total))
    }

    /// Number of points of positive weight.
    #[getter]
    fn n_points(&self) -> f64 {
        self.0.n_points()
    }

    /// Total weight of the points.
    #[getter]
    fn total_weight(&self) -> f64 {
        self.0.total_weight()
    }
}

/// Number and dimension of the points of files, names of the dimensions, and whether values of a dimension stand for texts.
#[pyfunction]
pub fn shape_of_files(
    points: Points<'_>,
    model: &str,
) -> PyResult<(u64, usize, Option<Vec<String>>, bool)> {
    let source = points.source(model, None)?;
    let source = source.borrow();
    let schema = source.columns().and_then(Columns::schema);
    let has_levels = schema.iter().flat_map(|schema| &schema.levels).any(|own| !own.is_empty());
    Ok((source.len(), source.dim(), schema.map(|schema| schema.names), has_levels))
}

/// Points of some rows of files, or of all.
#[pyfunction]
#[pyo3(signature = (points, model, rows=None))]
pub fn rows_of_files<'py>(
    py: Python<'py>,
    points: Points<'py>,
    model: &str,
    rows: Option<PyReadonlyArray1<'py, u64>>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let source = points.source(model, points.schema().as_ref())?;
    let source = source.borrow();
    let Some(rows) = rows else {
        let values = source.rows(0, source.len() as usize).map_err(raise)?;
        return values.into_pyarray(py).reshape([source.len() as usize, source.dim()]);
    };
    let rows = rows.as_slice()?;
    let mut values = Vec::with_capacity(rows.len() * source.dim());
    for &row in rows {
        values.extend(source.rows(row, 1).map_err(raise)?);
    }
    values.into_pyarray(py).reshape([rows.len(), source.dim()])
}

/// The E-step of a part of `n_points` under parameters that a fit has sent.
#[pyfunction]
#[pyo3(signature = (points, parameters, n_points, threads=None))]
pub fn e_step<'py>(
    py: Python<'py>,
    points: Points<'py>,
    parameters: &[u8],
    n_points: u64,
    threads: Option<usize>,
) -> PyResult<Statistics> {
    let parameters = Parameters::from_bytes(parameters).map_err(raise)?;
    let source = points.source(&parameters.name(), points.schema().as_ref())?;
    let (statistics, exception) = watched(py, Callbacks::default(), |watch| {
        let part = source.borrow().until(watch.stop);
        parameters.e_step(part.borrow(), n_points, &Executor::new(threads)?)
    });
    match exception {
        Some(exception) => Err(exception),
        None => statistics.map(Statistics).map_err(raise),
    }
}

/// Mean log-density of points and the terms of information criteria. Those of all parts of the points add up.
#[pyclass(module = "entropysum._entropysum", frozen)]
pub struct Score(pub inference::Score);

#[pymethods]
impl Score {
    #[new]
    fn new(
        n_points: u64,
        total_weight: f64,
        log_likelihood: f64,
        posterior_entropy: f64,
        n_parameters: usize,
    ) -> Self {
        Self(inference::Score {
            n_points,
            total_weight,
            log_likelihood,
            posterior_entropy,
            n_parameters,
        })
    }

    fn __reduce__(&self, py: Python<'_>) -> (Py<PyAny>, (u64, f64, f64, f64, usize)) {
        let it = &self.0;
        let values = (
            it.n_points,
            it.total_weight,
            it.log_likelihood,
            it.posterior_entropy,
            it.n_parameters,
        );
        (py.get_type::<Self>().into_any().unbind(), values)
    }

    fn __add__(&self, other: &Self) -> Self {
        Self(self.0.with(&other.0))
    }

    #[getter]
    fn log_likelihood(&self) -> f64 {
        self.0.log_likelihood
    }

    #[getter]
    fn bic(&self) -> f64 {
        self.0.bic()
    }

    #[getter]
    fn aic(&self) -> f64 {
        self.0.aic()
    }

    #[getter]
    fn icl(&self) -> f64 {
        self.0.icl()
    }
}
