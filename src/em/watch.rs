//! What watches a run of EM: its history, its warnings, and when it ends.

use super::batch::Fit;
use super::config::Config;
use super::numbers::{Reader, write_records};
use crate::error::Result;
use crate::model::EntropySum;
use crate::monitor::{Convergence, Event, History, IterRecord, Monitor, Observer, StopReason};
use std::ops::ControlFlow;
use std::time::Instant;

/// The history of a run, and the rules that end it.
pub(super) struct Watch<'a> {
    config: &'a Config,
    begun: Instant,
    /// Seconds of the fit before this process went on with it.
    seconds_before: f64,
    convergence: Convergence,
    /// A second rule that must be met in the same iteration.
    also: Option<Convergence>,
    /// While this is set, a run goes on although the rules are met.
    pub(super) held: bool,
    converged: bool,
    history: History,
    warnings: Vec<String>,
    /// What columns are called.
    names: Option<&'a [String]>,
}

/// What an iteration found; the rest of its record the watch knows itself.
pub(super) struct Iteration {
    pub points_seen: u64,
    pub entropy_sum: EntropySum,
    pub lower_bound: f64,
    pub log_likelihood: f64,
    pub active_components: usize,
    pub events: Vec<Event>,
}

impl<'a> Watch<'a> {
    /// Watches with the monitor and the tolerances of a configuration.
    pub(super) fn new(
        begun: Instant,
        config: &'a Config,
        names: Option<&'a [String]>,
    ) -> Result<Self> {
        Ok(Self {
            config,
            begun,
            seconds_before: 0.0,
            convergence: Convergence::new(config.monitor, config.tol, config.rtol)?,
            also: None,
            held: false,
            converged: false,
            history: History::default(),
            warnings: Vec::new(),
            names,
        })
    }

    /// The same with a second monitor that must stand still in the same iteration; the change recorded is that of this one.
    pub(super) fn and(self, monitor: Monitor) -> Result<Self> {
        let also = Some(Convergence::new(monitor, self.config.tol, self.config.rtol)?);
        Ok(Self { also, ..self })
    }

    /// The iteration that runs, from 1.
    pub(super) fn iteration(&self) -> usize {
        self.history.records.len() + 1
    }

    /// Takes down an iteration and shows it to the observer; says whether the run ends with it.
    pub(super) fn record(
        &mut self,
        found: Iteration,
        observer: &mut dyn Observer,
    ) -> Option<StopReason> {
        let iteration = self.iteration();
        for event in &found.events {
            note(&mut self.warnings, iteration, event, self.names);
        }
        let mut record = IterRecord {
            iteration,
            seconds: self.seconds(),
            points_seen: found.points_seen,
            entropy_sum: found.entropy_sum,
            lower_bound: found.lower_bound,
            log_likelihood: found.log_likelihood,
            change: 0.0,
            active_components: found.active_components,
            events: found.events,
            minibatch: None,
        };
        let still = self.convergence.update(&mut record);
        let also = self.also.as_mut().is_none_or(|rule| rule.update(&mut record));
        self.converged = still && also && !self.held;
        let asked = observer.on_iteration(&record);
        self.history.records.push(record);
        let late = |limit| self.begun.elapsed() >= limit;
        match asked {
            _ if self.converged => Some(StopReason::Converged),
            ControlFlow::Break(reason) => Some(reason),
            _ if iteration >= self.config.max_iter => Some(StopReason::MaxIterations),
            _ if self.config.max_time.is_some_and(late) => Some(StopReason::MaxSeconds),
            _ => None,
        }
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.begun.elapsed().as_secs_f64()
    }

    /// Warnings so far.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Why a run that was kept has nothing to add, if it has not.
    pub(super) fn is_over(&self) -> Option<StopReason> {
        let iterations = self.history.records.len();
        match self.converged {
            true => Some(StopReason::Converged),
            false if iterations > 0 && iterations >= self.config.max_iter => {
                Some(StopReason::MaxIterations)
            }
            false => None,
        }
    }

    /// Appends what [`restore`](Self::restore) needs.
    pub(super) fn write(&self, out: &mut Vec<f64>) {
        out.extend([self.seconds(), f64::from(u8::from(self.converged))]);
        for rule in [Some(&self.convergence), self.also.as_ref()] {
            // No monitored value is NaN: fits end before.
            out.push(rule.and_then(|rule| rule.last).unwrap_or(f64::NAN));
        }
        write_records(out, &self.history.records);
    }

    /// Goes on where another watch of the same fit was.
    pub(super) fn restore(&mut self, from: &mut Reader<'_>, warnings: Vec<String>) -> Option<()> {
        self.seconds_before = from.next()?;
        self.converged = from.count()? == 1;
        for rule in [Some(&mut self.convergence), self.also.as_mut()] {
            let last = from.next()?;
            if let Some(rule) = rule {
                rule.last = (!last.is_nan()).then_some(last);
            }
        }
        self.history.records = from.records()?;
        self.warnings = warnings;
        Some(())
    }

    /// Adds a warning of the whole run.
    pub(super) fn warn(&mut self, event: &Event) {
        self.warnings.push(event.describe(self.names));
    }

    /// The fit that has been watched.
    pub(super) fn finish<M>(self, model: M, stop_reason: StopReason) -> Fit<M> {
        let seconds = self.seconds();
        Fit::new(model, self.history, stop_reason, self.warnings, seconds)
    }
}

/// Adds a warning for an event, unless the same one stands there from an earlier iteration.
pub(super) fn note(
    warnings: &mut Vec<String>,
    iteration: usize,
    event: &Event,
    names: Option<&[String]>,
) {
    let text = event.describe(names);
    if !warnings.iter().any(|known| known.ends_with(&text)) {
        warnings.push(format!("iteration {iteration}: {text}"));
    }
}
