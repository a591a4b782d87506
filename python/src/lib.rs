//! The extension module of the Python package: arrays in, arrays out, and work without the GIL in between.
//!
//! Estimators are written in Python, in `entropysum/`. All learning is behind [`entropysum::any`], so that nothing generic is compiled
//! here.

mod elsewhere;
mod fit;
mod model;
mod online;
mod points;
mod watch;

use entropysum::Error;
use pyo3::exceptions::{PyFileNotFoundError, PyKeyboardInterrupt, PyOSError, PyValueError};
use pyo3::prelude::*;

/// Returns the exception of an error.
fn raise(fault: Error) -> PyErr {
    let message = fault.to_string();
    match fault {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            PyFileNotFoundError::new_err(message)
        }
        Error::Io { .. } => PyOSError::new_err(message),
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
        _ => PyValueError::new_err(message),
    }
}

/// Lists the names of all families.
#[pyfunction]
fn families() -> Vec<&'static str> {
    entropysum::family::registry::names().collect()
}

/// Lists the names of the families that take sparse points.
#[pyfunction]
fn sparse_families() -> Vec<&'static str> {
    entropysum::any::sparse_families()
}

/// Lists the names of the parameters of a family that are known and not learned.
#[pyfunction]
fn known_parameters(family: &str) -> Vec<&'static str> {
    entropysum::family::registry::known_parameters(family).to_vec()
}

#[pymodule]
fn _entropysum(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<model::Model>()?;
    module.add_class::<online::Online>()?;
    module.add_class::<fit::Fit>()?;
    module.add_class::<elsewhere::Statistics>()?;
    module.add_class::<elsewhere::Score>()?;
    module.add_function(wrap_pyfunction!(elsewhere::e_step, module)?)?;
    module.add_function(wrap_pyfunction!(elsewhere::rows_of_files, module)?)?;
    module.add_function(wrap_pyfunction!(elsewhere::shape_of_files, module)?)?;
    module.add_function(wrap_pyfunction!(fit::fit, module)?)?;
    module.add_function(wrap_pyfunction!(fit::rows_looked_at, module)?)?;
    module.add_function(wrap_pyfunction!(fit::tells, module)?)?;
    module.add_function(wrap_pyfunction!(fit::start, module)?)?;
    module.add_function(wrap_pyfunction!(families, module)?)?;
    module.add_function(wrap_pyfunction!(sparse_families, module)?)?;
    module.add_function(wrap_pyfunction!(known_parameters, module)?)
}
