//! Models of any kind.

use crate::elsewhere::Score;
use crate::points::Points;
use crate::raise;
use crate::watch::{Callbacks, watched};
use entropysum::any::{self, OwnedSource, PerPoint};
use entropysum::data::Schema;
use entropysum::expert::store::Stored;
use entropysum::store::{self, WithSchema};
use entropysum::{Executor, Result};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayDyn, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// Names of dimensions, and the texts that values of each stand for.
#[derive(Clone, FromPyObject)]
#[pyo3(from_item_all)]
pub struct Columns {
    pub names: Vec<String>,
    levels: Vec<Vec<String>>,
}

impl Columns {
    pub fn schema(&self) -> Schema {
        Schema {
            names: self.names.clone(),
            levels: self.levels.clone(),
            weights: None,
            components: Vec::new(),
        }
    }
}

/// A model of any kind, with the names of its dimensions if they have names.
#[pyclass(module = "entropysum._entropysum", frozen)]
pub struct Model {
    pub model: any::Model,
    pub schema: Option<Schema>,
}

impl Model {
    fn of(found: WithSchema<any::Model>) -> Self {
        Self { model: found.model, schema: found.schema }
    }

    fn with_schema(&self) -> WithSchema<any::Model> {
        WithSchema { model: self.model.clone(), schema: self.schema.clone() }
    }

    /// Opens points, and calls `work` with those that it stops at a signal, and the model that is for them.
    fn apply<R: Send>(
        &self,
        py: Python<'_>,
        points: &Points<'_>,
        threads: Option<usize>,
        work: impl FnOnce(&any::Model, OwnedSource<'_>, &Executor) -> Result<R> + Send,
    ) -> PyResult<R> {
        let source = points.source(&self.model.name(), self.schema.as_ref())?;
        let missing = match points.ignore_missing {
            true => Some(self.model.clone().ignoring_missing().map_err(raise)?),
            false => None,
        };
        let model = missing.as_ref().unwrap_or(&self.model);
        let (result, exception) = watched(py, Callbacks::default(), |watch| {
            let stop: &AtomicBool = watch.stop;
            work(model, source.borrow().until(stop), &Executor::new(threads)?)
        });
        match exception {
            Some(exception) => Err(exception),
            None => result.map_err(raise),
        }
    }
}

fn numbers_called(name: &str) -> PyResult<PerPoint> {
    Ok(match name {
        "log_density" => PerPoint::LogDensity,
        "posterior" => PerPoint::Posterior,
        "state" => PerPoint::State,
        "transform" => PerPoint::Transform,
        "reconstruct" => PerPoint::Reconstruct,
        _ => return Err(PyValueError::new_err(format!("no numbers are called {name:?}"))),
    })
}

#[pymethods]
impl Model {
    /// Builds a model from the bytes of a model file.
    #[staticmethod]
    fn from_bytes(bytes: &[u8]) -> PyResult<Self> {
        store::from_bytes(bytes).map(Self::of).map_err(raise)
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &store::to_bytes(&self.with_schema()))
    }

    fn to_json(&self) -> String {
        store::to_json(&self.with_schema()).to_string()
    }

    #[staticmethod]
    fn load(path: PathBuf) -> PyResult<Self> {
        store::load(path).map(Self::of).map_err(raise)
    }

    fn save(&self, path: PathBuf) -> PyResult<()> {
        store::save(path, &self.with_schema()).map_err(raise)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Py<PyAny>, (Bound<'py, PyBytes>,))> {
        Ok((py.get_type::<Self>().getattr("from_bytes")?.unbind(), (self.to_bytes(py),)))
    }

    /// Returns the same model, whose labels, posteriors and densities go through all components of a mixture.
    fn exact(&self) -> Self {
        Self { model: self.model.clone().exact(), schema: self.schema.clone() }
    }

    #[getter]
    fn name(&self) -> String {
        self.model.name()
    }

    /// Settings that define the model and are no arrays, as a JSON object.
    #[getter]
    fn settings(&self) -> String {
        let settings = self.model.settings().into_iter();
        let settings = settings.map(|(key, value)| (key.to_owned(), value));
        serde_json::Value::Object(settings.collect()).to_string()
    }

    #[getter]
    fn dim(&self) -> usize {
        self.model.dim()
    }

    #[getter]
    fn n_components(&self) -> usize {
        self.model.n_components()
    }

    #[getter]
    fn n_latents(&self) -> usize {
        self.model.latents().map_or(0, any::Latents::n_latents)
    }

    #[getter]
    fn n_parameters(&self) -> usize {
        self.model.n_parameters()
    }

    /// Names of the dimensions, if they have names.
    #[getter]
    fn column_names(&self) -> Option<Vec<String>> {
        self.schema.as_ref().map(|schema| schema.names.clone())
    }

    /// Texts that the values of each dimension stand for.
    #[getter]
    fn level_names(&self) -> Option<Vec<Vec<String>>> {
        self.schema.as_ref().map(|schema| schema.levels.clone())
    }

    /// The same model with names of its dimensions.
    fn with_columns(&self, columns: Columns) -> Self {
        Self { model: self.model.clone(), schema: Some(columns.schema()) }
    }

    /// All parameters by name.
    fn arrays<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let arrays = PyDict::new(py);
        for array in self.model.arrays() {
            let values = array.array.values.into_pyarray(py);
            let shaped: Bound<'py, PyArrayDyn<f64>> = values.reshape(array.array.shape)?;
            arrays.set_item(array.name, shaped)?;
        }
        Ok(arrays)
    }

    /// Numbers of each point: one column for each component, latent or dimension.
    #[pyo3(signature = (numbers, points, threads=None))]
    fn per_point<'py>(
        &self,
        py: Python<'py>,
        numbers: &str,
        points: Points<'py>,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let numbers = numbers_called(numbers)?;
        let width = match numbers {
            PerPoint::LogDensity => 1,
            PerPoint::Posterior => self.n_components(),
            PerPoint::State | PerPoint::Transform => self.n_latents(),
            PerPoint::Draws(samples) => samples * self.n_latents(),
            PerPoint::Reconstruct => self.dim(),
        };
        let values = self.apply(py, &points, threads, |model, source, executor| {
            let source = source.borrow();
            let mut values = Vec::with_capacity(source.len() as usize * width);
            model.per_point(numbers, source, executor, &mut |batch| {
                values.extend_from_slice(batch);
                Ok(())
            })?;
            Ok(values)
        })?;
        let rows = values.len() / width.max(1);
        values.into_pyarray(py).reshape([rows, width])
    }

    /// The most probable component of each point.
    #[pyo3(signature = (points, threads=None))]
    fn labels<'py>(
        &self,
        py: Python<'py>,
        points: Points<'py>,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let labels = self.apply(py, &points, threads, |model, source, executor| {
            let source = source.borrow();
            let mut labels = Vec::with_capacity(source.len() as usize);
            model.labels(source, executor, &mut |batch| {
                labels.extend(batch.iter().map(|&label| i64::from(label)));
                Ok(())
            })?;
            Ok(labels)
        })?;
        Ok(labels.into_pyarray(py))
    }

    /// Mean log-density and the terms of information criteria.
    #[pyo3(signature = (points, threads=None))]
    fn score<'py>(
        &self,
        py: Python<'py>,
        points: Points<'py>,
        threads: Option<usize>,
    ) -> PyResult<Score> {
        let score = self.apply(py, &points, threads, |model, source, executor| {
            model.score(source.borrow(), executor)
        });
        score.map(Score)
    }

    /// Points that are drawn from the model, and their components.
    #[pyo3(signature = (n, seed, threads=None))]
    #[allow(clippy::type_complexity)]
    fn sample<'py>(
        &self,
        py: Python<'py>,
        n: usize,
        seed: u64,
        threads: Option<usize>,
    ) -> PyResult<(Bound<'py, PyArray2<f64>>, Bound<'py, PyArray1<i64>>)> {
        let drawn = py.detach(|| -> Result<_> {
            let (mut points, mut labels) = (Vec::new(), Vec::new());
            let executor = Executor::new(threads)?;
            self.model.sample(n as u64, seed, &executor, &mut |batch, components| {
                points.extend_from_slice(batch);
                labels.extend(components.iter().map(|&label| i64::from(label)));
                Ok(())
            })?;
            Ok((points, labels))
        });
        let (points, labels) = drawn.map_err(raise)?;
        Ok((points.into_pyarray(py).reshape([n, self.dim()])?, labels.into_pyarray(py)))
    }
}
