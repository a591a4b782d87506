//! Work without the GIL that Python can watch and end.

use crate::elsewhere::Statistics;
use entropysum::Error;
use entropysum::any::{self, SumElsewhere};
use entropysum::monitor::{IterRecord, Observer, StopReason};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// Time between two looks at signals.
const TICK: Duration = Duration::from_millis(50);

/// What work asks of Python, and where to answer.
enum Question {
    /// Whether the fit should end at this record.
    Record(Box<IterRecord>, Sender<bool>),
    /// The statistics of points that lie elsewhere under these parameters; none if Python has failed.
    EStep(Vec<u8>, Sender<Option<any::Statistics>>),
}

/// What work is handed: a flag that asks for its end, and the way to the callback.
pub struct Watch<'a> {
    pub stop: &'a AtomicBool,
    questions: Sender<Question>,
    is_followed: bool,
}

impl Watch<'_> {
    /// Returns the E-step of points that Python knows of.
    pub fn e_step(&self) -> SumElsewhere {
        let questions = self.questions.clone();
        Arc::new(move |parameters: &[u8]| {
            let (answer, answered) = channel();
            let _ = questions.send(Question::EStep(parameters.to_vec(), answer));
            answered.recv().ok().flatten().ok_or(Error::Interrupted)
        })
    }

    fn go_on(&self) -> ControlFlow<StopReason> {
        match self.stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(StopReason::Interrupted),
            false => ControlFlow::Continue(()),
        }
    }
}

impl Observer for Watch<'_> {
    fn on_iteration(&mut self, record: &IterRecord) -> ControlFlow<StopReason> {
        if self.is_followed {
            let (answer, answered) = channel();
            // Whoever asks lives longer than the work.
            let _ = self.questions.send(Question::Record(Box::new(record.clone()), answer));
            if answered.recv().unwrap_or_default() {
                return ControlFlow::Break(StopReason::Observer);
            }
        }
        self.go_on()
    }

    fn on_batch(&mut self, _: u64) -> ControlFlow<StopReason> {
        self.go_on()
    }
}

/// What Python does while work goes on.
#[derive(Clone, Copy, Default)]
pub struct Callbacks<'a> {
    /// Called with each record; true ends the fit.
    pub on_record: Option<&'a Py<PyAny>>,
    /// Called with parameters; returns the statistics of points that lie elsewhere.
    pub e_step: Option<&'a Py<PyAny>>,
}

/// Does work on a thread of its own without the GIL. This thread looks at signals and calls callbacks, as Python expects of the thread
/// that was called.
///
/// Returns the result, and the exception of a signal or of a callback: either ends the work early.
pub fn watched<R: Send>(
    py: Python<'_>,
    callbacks: Callbacks<'_>,
    work: impl FnOnce(Watch<'_>) -> R + Send,
) -> (R, Option<PyErr>) {
    let stop = &AtomicBool::new(false);
    py.detach(|| {
        thread::scope(|scope| {
            let (questions, asked) = channel();
            let watch = Watch { stop, questions, is_followed: callbacks.on_record.is_some() };
            let worker = scope.spawn(move || work(watch));
            let mut exception = None;
            loop {
                let said = match asked.recv_timeout(TICK) {
                    // In both cases the work may have ended meanwhile.
                    Ok(Question::Record(record, answer)) => {
                        let said = Python::attach(|py| call(py, callbacks.on_record, &record));
                        let _ = answer.send(!matches!(said, Ok(false)));
                        said.map(drop)
                    }
                    Ok(Question::EStep(parameters, answer)) => {
                        let said = Python::attach(|py| e_step(py, callbacks.e_step, &parameters));
                        let (statistics, said) = match said {
                            Ok(statistics) => (Some(statistics), Ok(())),
                            Err(fault) => (None, Err(fault)),
                        };
                        let _ = answer.send(statistics);
                        said
                    }
                    Err(RecvTimeoutError::Timeout) => Python::attach(|py| py.check_signals()),
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                if let Err(fault) = said {
                    stop.store(true, Ordering::Relaxed);
                    exception = exception.or(Some(fault));
                }
            }
            let result = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (result, exception)
        })
    })
}

/// Calls the callback with the values of a record by name; true ends the fit.
fn call(py: Python<'_>, callback: Option<&Py<PyAny>>, record: &IterRecord) -> PyResult<bool> {
    let Some(callback) = callback else { return Ok(false) };
    let values = PyDict::new(py);
    for (name, value) in entropysum::expert::HISTORY_COLUMNS.iter().zip(record.values()) {
        values.set_item(name, value)?;
    }
    let events: Vec<String> = record.events.iter().map(ToString::to_string).collect();
    values.set_item("events", events)?;
    callback.call1(py, (values,))?.is_truthy(py)
}

/// Calls Python for the statistics of points that lie elsewhere.
fn e_step(
    py: Python<'_>,
    callback: Option<&Py<PyAny>>,
    parameters: &[u8],
) -> PyResult<any::Statistics> {
    let callback = callback.ok_or_else(|| PyValueError::new_err("the points lie elsewhere"))?;
    let found = callback.call1(py, (PyBytes::new(py, parameters),))?;
    Ok(found.extract::<PyRef<'_, Statistics>>(py)?.0.clone())
}
