//! Batch EM: sweep, M-step, entropy sum, observer.

use super::checkpoint::{BatchState, Begin, Checkpoints, Keeper, damaged};
use super::config::Config;
use super::numbers::{Reader, write_constants};
use super::sweep::Sweeper;
use super::watch::{Iteration, Watch};
use crate::data::identity::Identity;
use crate::data::{self, DataSource};
use crate::error::{DataError, Result};
use crate::exec::Executor;
use crate::family::Regularization;
use crate::model::EStep;
use crate::monitor::{History, IterRecord, Observer, StopReason};
use crate::scalar::Scalar;
use crate::stats::SuffStats;
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
pub fn fit<T: Scalar, M: EStep<T>>(
    model: M,
    source: &dyn DataSource<T>,
    executor: &Executor,
    config: &Config,
    observer: &mut dyn Observer,
) -> Result<Fit<M>> {
    fit_from(Begin::Afresh(model), source, executor, config, observer, None)
}

/// As [`fit`], or from where another fit was kept, and itself kept in checkpoints; one is made when it ends, whatever ended it.
///
/// A fit that went on ends with the same bits as one that was never interrupted. One that had converged adds nothing.
///
/// # Errors
/// As [`fit`]; also if the state is of other points or settings, or a checkpoint cannot be saved. Neither the number of
/// iterations nor that of seconds is such a setting; seconds are those of this process.
pub fn fit_from<T: Scalar, M: EStep<T>>(
    begin: Begin<M>,
    source: &dyn DataSource<T>,
    executor: &Executor,
    config: &Config,
    observer: &mut dyn Observer,
    checkpoints: Option<Checkpoints<'_, BatchState<M>>>,
) -> Result<Fit<M>> {
    config.check()?;
    let (mut keeper, model, kept) = Keeper::open(begin, checkpoints, || settings(source, config))?;
    data::check_source(source, model.dim())?;
    let mut run = Run {
        splits_left: model.active_components(),
        model,
        sweeper: Sweeper::new(source, executor),
        watch: Watch::new(Instant::now(), config, source.column_names())?,
    };
    if let Some((numbers, warnings)) = kept {
        run.restore(&numbers, warnings).ok_or_else(damaged)?;
    }
    let mut over = run.watch.is_over();
    while over.is_none() {
        let stats = match run.sweeper.sweep(&run.model) {
            Ok(stats) => stats,
            Err(fault) => {
                // What was learned so far is kept.
                keeper.keep(|| run.state())?;
                return Err(fault);
            }
        };
        over = run.learn(&stats, executor, config, observer)?;
        if over.is_some() || keeper.is_due() {
            keeper.keep(|| run.state())?;
        }
    }
    run.model.finish();
    Ok(run.watch.finish(run.model, over.expect("the loop has ended")))
}

/// Batch EM between two iterations.
struct Run<'a, T: Scalar, M: EStep<T>> {
    model: M,
    splits_left: usize,
    sweeper: Sweeper<'a, T, M::Workspace>,
    watch: Watch<'a>,
}

impl<T: Scalar, M: EStep<T>> Run<'_, T, M> {
    /// M-step, entropy sum, record; tells why the fit ends with it, if it does.
    fn learn(
        &mut self,
        stats: &SuffStats,
        executor: &Executor,
        config: &Config,
        observer: &mut dyn Observer,
    ) -> Result<Option<StopReason>> {
        let Self { model, splits_left, sweeper, watch } = self;
        let regularization = Regularization { rounding: T::EPSILON, ..config.regularization };
        let mut events = model.m_step_by(stats, regularization, executor);
        let iteration = watch.iteration();
        if iteration == 1 {
            // A start may know little of where the data lie.
            model.recentre();
        }
        let (lower_bound, entropy_sum) = model.bound_and_entropies_by(stats, executor);
        if !lower_bound.is_finite() || !entropy_sum.total().is_finite() {
            let message = "the lower bound is no finite number; values are too large or too small";
            return Err(DataError::new(sweeper.source().name(), message).into());
        }
        events.extend(model.repair(stats, splits_left));
        let found = Iteration {
            points_seen: iteration as u64 * sweeper.source().len(),
            entropy_sum,
            lower_bound,
            log_likelihood: stats.log_evidence() / stats.total_weight(),
            active_components: model.active_components(),
            events,
        };
        Ok(watch.record(found, observer))
    }

    /// Model, numbers and warnings, for [`restore`](Self::restore).
    fn state(&self) -> (M, Vec<f64>, Vec<String>) {
        let mut numbers = vec![self.splits_left as f64];
        write_constants(&mut numbers, self.sweeper.known());
        let forgotten = self.model.forgotten();
        numbers.push(forgotten.len() as f64);
        numbers.extend(forgotten);
        self.watch.write(&mut numbers);
        (self.model.clone(), numbers, self.watch.warnings().to_vec())
    }

    fn restore(&mut self, numbers: &[f64], warnings: Vec<String>) -> Option<()> {
        let mut from = Reader(numbers);
        self.splits_left = from.count()? as usize;
        self.sweeper.know(from.constants()?);
        let count = from.count()? as usize;
        self.model.remind(from.take(count)?).then_some(())?;
        self.watch.restore(&mut from, warnings)?;
        from.0.is_empty().then_some(())
    }
}

/// All that decides on the bits of a fit but the model and the numbers of iterations.
pub(super) fn settings<T: Scalar>(source: &dyn DataSource<T>, config: &Config) -> String {
    format!(
        "{}, {}, {} points of dimension {}, {}; batch, monitor {}, tol {}, rtol {}, reg_covar {}, seed {}",
        Identity::of(source).text(),
        config.label,
        source.len(),
        source.dim(),
        T::NAME,
        config.monitor.name(),
        config.tol,
        config.rtol,
        config.regularization.reg_covar.map_or("none".to_owned(), |ridge| ridge.to_string()),
        config.seed,
    )
}
