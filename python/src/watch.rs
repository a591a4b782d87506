//! Work without the GIL that Python can watch and end.

use entropysum::monitor::{IterRecord, Observer, StopReason};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// Time between two looks at signals.
const TICK: Duration = Duration::from_millis(50);

/// A record, and where to say whether the fit should end.
struct Question {
    record: IterRecord,
    answer: Sender<bool>,
}

/// What work is handed: a flag that asks for its end, and the way to the callback.
pub struct Watch<'a> {
    pub stop: &'a AtomicBool,
    questions: Sender<Question>,
    is_followed: bool,
}

impl Watch<'_> {
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
            let _ = self.questions.send(Question { record: record.clone(), answer });
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

/// Does work on a thread of its own without the GIL. This thread looks at signals and calls the callback, as Python expects of the thread
/// that was called.
///
/// Returns the result, and the exception of a signal or of the callback: either ends the work early.
pub fn watched<R: Send>(
    py: Python<'_>,
    callback: Option<&Py<PyAny>>,
    work: impl FnOnce(Watch<'_>) -> R + Send,
) -> (R, Option<PyErr>) {
    let stop = &AtomicBool::new(false);
    py.detach(|| {
        thread::scope(|scope| {
            let (questions, asked) = channel();
            let watch = Watch { stop, questions, is_followed: callback.is_some() };
            let worker = scope.spawn(move || work(watch));
            let mut exception = None;
            loop {
                let said = match asked.recv_timeout(TICK) {
                    Ok(Question { record, answer }) => {
                        let said = Python::attach(|py| call(py, callback, &record));
                        // The work may have ended meanwhile.
                        let _ = answer.send(!matches!(said, Ok(false)));
                        said.map(drop)
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
