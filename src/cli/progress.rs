//! What happens while a command runs: the progress of a fit, and Ctrl-C.

use crate::cli::{INTERRUPTED, output};
use entropysum::error::{Error, Result};
use entropysum::monitor::{IterRecord, Monitor, Observer, StopReason};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write, stderr};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static INTERRUPT: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C and SIGTERM ask the command to end; if they come again, it ends at once.
///
/// Commands call this when their input is read: until then there is nothing to save or to clear away.
///
/// # Errors
/// If the operating system refuses.
pub fn catch_interrupts() -> Result<()> {
    let handler = || {
        if INTERRUPT.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        if stderr().is_terminal() {
            let _ = writeln!(stderr(), "\nEnding after this sweep; Ctrl-C again ends at once.");
        }
    };
    ctrlc::set_handler(handler)
        .map_err(|fault| Error::Config(format!("cannot watch for Ctrl-C: {fault}")))
}

/// Whether the user asked the command to end.
pub fn interrupted() -> bool {
    INTERRUPT.load(Ordering::SeqCst)
}

/// An error if the user asked the command to end: for commands that have no half result.
///
/// # Errors
/// If so.
pub fn check_interrupt() -> Result<()> {
    if interrupted() {
        return Err(Error::Config("interrupted; nothing was written".to_owned()));
    }
    Ok(())
}

/// Shows the progress of a fit on standard error, if that is a terminal, and ends it on Ctrl-C.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    monitor: Monitor,
    n_init: usize,
    by_points: bool,
    /// Whether an interrupt ended the fit, or one of its starts.
    pub ended_by_interrupt: bool,
}

impl Progress {
    pub fn new(monitor: Monitor, n_init: usize, max_iter: usize, quiet: bool) -> Self {
        // This draws only on a terminal.
        let target =
            if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(max_iter as u64), target)
            .with_style(style("{msg}"))
            .with_message("finding a start");
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { bar, monitor, n_init, by_points: false, ended_by_interrupt: false }
    }

    /// Of a fit by minibatches that will see `total` points at most.
    pub fn of_stream(total: u64, quiet: bool) -> Self {
        let progress = Self::new(Monitor::EntropySum, 1, 0, quiet);
        progress.bar.set_length(total);
        Self { by_points: true, ..progress }
    }

    /// Clears the line.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Counts candidates on standard error, if that is a terminal.
#[derive(Debug)]
pub struct Counter {
    bar: ProgressBar,
}

impl Counter {
    pub fn new(n: usize, quiet: bool) -> Self {
        let target =
            if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(n as u64), target)
            .with_style(style("{pos} of {len} candidates, {elapsed}"));
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { bar }
    }

    /// One is done.
    pub fn count(&self) {
        self.bar.inc(1);
    }

    /// Clears the line.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a valid template")
}

impl Observer for Progress {
    fn on_start(&mut self, run: usize) {
        self.bar.reset();
        self.bar.set_message("");
        if self.by_points {
            self.bar.set_style(style("{percent}% of the points, at most {eta} left  {wide_msg}"));
            return;
        }
        self.bar.set_style(style("{prefix}iteration {pos}/{len}, at most {eta} left  {wide_msg}"));
        if self.n_init > 1 {
            self.bar.set_prefix(format!("start {}/{}, ", run + 1, self.n_init));
        }
    }

    fn on_iteration(&mut self, record: &IterRecord) -> ControlFlow<StopReason> {
        let position = if self.by_points { record.points_seen } else { record.iteration as u64 };
        self.bar.set_position(position);
        let value = match record.minibatch {
            Some(it) => format!("{:.6} ± {:.1e}", record.entropy_sum.total(), it.standard_error),
            None => format!("{:.6}", self.monitor.value(record)),
        };
        self.bar.set_message(format!(
            "{} {value}, change {:.1e}, {} points/s",
            self.monitor.name(),
            record.change,
            output::magnitude(record.points_seen as f64 / record.seconds),
        ));
        self.go_on()
    }

    fn on_batch(&mut self, points_seen: u64) -> ControlFlow<StopReason> {
        self.bar.set_position(points_seen);
        self.go_on()
    }
}

impl Progress {
    fn go_on(&mut self) -> ControlFlow<StopReason> {
        if interrupted() {
            self.ended_by_interrupt = true;
            return ControlFlow::Break(StopReason::Interrupted);
        }
        ControlFlow::Continue(())
    }
}
