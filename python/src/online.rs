//! Learners that are fed batches.

use crate::model::Model;
use crate::points::Points;
use crate::raise;
use crate::watch::{Callbacks, watched};
use entropysum::Executor;
use entropysum::any::AnyOnline;
use entropysum::em::StepSize;
use entropysum::expert::store::Stored;
use entropysum::family::Regularization;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A learner by stepwise EM, whose state can be kept as bytes.
#[pyclass(module = "entropysum._entropysum")]
pub struct Online(AnyOnline);

#[pymethods]
impl Online {
    #[new]
    #[pyo3(signature = (model, first, reg_covar=None, exponent=None, offset=None))]
    fn new(
        model: &Model,
        first: Points<'_>,
        reg_covar: Option<f64>,
        exponent: Option<f64>,
        offset: Option<f64>,
    ) -> PyResult<Self> {
        let default = StepSize::default();
        let step_size = StepSize {
            exponent: exponent.unwrap_or(default.exponent),
            offset: offset.unwrap_or(default.offset),
        };
        let settings = Regularization { reg_covar, ..Default::default() };
        let source = first.source(&model.model.name(), model.schema.as_ref())?;
        let learner = AnyOnline::new(model.model.clone(), step_size, settings, source.borrow());
        learner.map(Self).map_err(raise)
    }

    #[staticmethod]
    fn from_bytes(bytes: &[u8]) -> PyResult<Self> {
        AnyOnline::from_bytes(bytes).map(Self).map_err(raise)
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.to_bytes())
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Py<PyAny>, (Bound<'py, PyBytes>,))> {
        Ok((py.get_type::<Self>().getattr("from_bytes")?.unbind(), (self.to_bytes(py),)))
    }

    /// One step on a batch. Returns entropy sum, lower bound and log-likelihood of the batch before the step.
    #[pyo3(signature = (points, threads=None))]
    fn partial_fit<'py>(
        &mut self,
        py: Python<'py>,
        points: Points<'py>,
        threads: Option<usize>,
    ) -> PyResult<(f64, f64, f64)> {
        let source = points.source("", None)?;
        let learner = &mut self.0;
        // A step that is stopped changes nothing.
        let (step, exception) = watched(py, Callbacks::default(), |watch| {
            let source = source.borrow().until(watch.stop);
            learner.partial_fit(source.borrow(), &Executor::new(threads)?)
        });
        match exception {
            Some(exception) => Err(exception),
            None => {
                let step = step.map_err(raise)?;
                Ok((step.entropy_sum.total(), step.lower_bound, step.batch_log_likelihood))
            }
        }
    }

    #[getter]
    fn model(&self) -> Model {
        Model { model: self.0.model(), schema: None }
    }

    #[getter]
    fn steps(&self) -> u64 {
        self.0.steps()
    }
}
