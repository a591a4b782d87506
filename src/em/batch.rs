//! Batch EM: sweep, M-step, entropy sum, observer.

use super::config::Config;
use super::sweep::Sweeper;
use super::watch::{Iteration, Watch};
use crate::data::{self, DataSource};
use crate::error::{DataError, Result};
use crate::exec::Executor;
use crate::family::Regularization;
use crate::model::EStep;
use crate::monitor::{History, IterRecord, Observer, StopReason};
use crate::scalar::Scalar;
use std::time::Instant;

/// A fitted model and how the fit went.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fit<M> {
    /// The model, with the parameters after the last M-step, whatever ended the fit.
    pub model: M,
    /// One record an iteration.
    pub history: History,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// Floors, splits and discards, each told once.
    pub warnings: Vec<String>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl<M> Fit<M> {
    pub(super) fn new(
        model: M,
        history: History,
        stop_reason: StopReason,
        warnings: Vec<String>,
        seconds: f64,
    ) -> Self {
        Self { model, history, stop_reason, warnings, seconds }
    }

    /// Whether the tolerance was met.
    pub fn converged(&self) -> bool {
        self.stop_reason == StopReason::Converged
    }

    /// The last record, if there was an iteration.
    pub fn last(&self) -> Option<&IterRecord> {
        self.history.records.last()
    }
}

/// Learns `model` from `source` by batch EM, from where the model stands.
///
/// # Errors
/// If a setting is out of range, the dimensions differ, there are no points, or a point cannot be read or has no
/// finite log-evidence. Not converging is no error: see [`Fit::stop_reason`].
///
/// ```
/// use entropysum::data::memory::Points;
/// use entropysum::em::{self, Config};
/// use entropysum::exec::Executor;
/// use entropysum::family::{Parameters, registry};
/// use entropysum::model::Mixture;
/// use entropysum::monitor::Silent;
///
/// let points = Points::<f64>::from_rows(&[0.0, 0.2, 0.1, 5.0, 5.3, 5.1], 1)?;
/// let components = vec![vec![0.0, 1.0], vec![4.0, 1.0]];
/// let start = Mixture::new(
///     registry::build("gaussian-full", 1)?,
///     vec![0.5, 0.5],
///     Parameters { components, shared: vec![] },
/// )?;
/// let fit = em::fit(start, &points, &Executor::new(Some(1))?, &Config::default(), &mut Silent)?;
/// assert!(fit.converged());
/// assert!((fit.model.parameter("means").unwrap()[0] - 0.1).abs() < 1e-6);
/// assert!(fit.last().unwrap().gap().abs() < 1e-10);
/// # Ok::<(), entropysum::error::Error>(())
/// ```
pub fn fit<T: Scalar, M: EStep<T>, S: DataSource<T> + ?Sized>(
    mut model: M,
    source: &S,
    executor: &Executor,
    config: &Config,
    observer: &mut dyn Observer,
) -> Result<Fit<M>> {
    data::check_source(source, model.dim())?;
    config.check()?;
    let mut watch = Watch::new(Instant::now(), config, source.column_names())?;
    let mut sweeper = Sweeper::new(source, executor);
    let regularization = Regularization { rounding: T::EPSILON, ..config.regularization };
    let mut splits_left = model.active_components();

    let stop_reason = loop {
        let stats = sweeper.sweep(&model)?;
        let mut events = model.m_step_by(&stats, regularization, executor);
        let iteration = watch.iteration();
        if iteration == 1 {
            // A start may know little of where the data lie.
            model.recentre();
        }
        let (lower_bound, entropy_sum) = model.bound_and_entropies_by(&stats, executor);
        if !lower_bound.is_finite() || !entropy_sum.total().is_finite() {
            let message = "the lower bound is no finite number; values are too large or too small";
            return Err(DataError::new(source.name(), message).into());
        }
        events.extend(model.repair(&stats, &mut splits_left));
        let found = Iteration {
            points_seen: iteration as u64 * source.len(),
            entropy_sum,
            lower_bound,
            log_likelihood: stats.log_evidence() / stats.total_weight(),
            active_components: model.active_components(),
            events,
        };
        if let Some(reason) = watch.record(found, observer) {
            break reason;
        }
    };
    model.finish();
    Ok(watch.finish(model, stop_reason))
}
