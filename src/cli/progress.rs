//! Shows the progress of a command, and reacts to signals.

use crate::cli::output;
use crate::cli::ranks;
use crate::error::{Error, Result};
use crate::monitor::{IterRecord, Monitor, Observer, StopReason};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write, stderr};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Number of the signal that asked the command to end; 0 before.
static SIGNAL: AtomicU8 = AtomicU8::new(0);

/// Number of the signal that Ctrl-C sends.
const INTERRUPT: u8 = 2;

/// Lets Ctrl-C, SIGTERM and SIGHUP ask the command to end. The second signal ends the process at once.
///
/// Commands call this after their input is read. Before that, they have nothing to save or to delete.
///
/// # Errors
/// If the operating system refuses the handler.
pub fn catch_interrupts() -> Result<()> {
    watch().map_err(|fault| Error::Config(format!("cannot watch for Ctrl-C: {fault}")))
}

#[cfg(unix)]
fn watch() -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        signals.forever().for_each(|signal| ask(u8::try_from(signal).unwrap_or(INTERRUPT)));
    })?;
    Ok(())
}

#[cfg(not(unix))]
fn watch() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| ask(INTERRUPT))
}

/// Asks the command to end, or ends it if it was asked before.
fn ask(signal: u8) {
    if SIGNAL.swap(signal, Ordering::SeqCst) != 0 {
        std::process::exit(i32::from(128 + signal));
    }
    if stderr().is_terminal() {
        let _ = writeln!(
            stderr(),
            "\nStopping after the current sweep; press Ctrl-C again to stop at once."
        );
    }
}

/// Tells whether the user or the system asked the command to end.
pub fn interrupted() -> bool {
    SIGNAL.load(Ordering::SeqCst) != 0
}

/// Returns the signal that asked the command to end, if there was one.
pub fn signal() -> Option<u8> {
    let signal = SIGNAL.load(Ordering::SeqCst);
    (signal != 0).then_some(signal)
}

/// Returns the exit code of a command that a signal ended before it had a result, as shells count: 130 for Ctrl-C, 143 for
/// SIGTERM.
pub fn exit_code_of_signal() -> Option<ExitCode> {
    signal().map(|signal| ExitCode::from(128 + signal))
}

/// Returns the exit code of a command that saved what it had when a signal ended it. People who press Ctrl-C ask for the result;
/// programs that send other signals have to know that it is not all of it.
pub fn exit_code_of_part() -> ExitCode {
    let is_asked = SIGNAL.load(Ordering::SeqCst) == INTERRUPT;
    exit_code_of_signal().filter(|_| !is_asked).unwrap_or(ExitCode::SUCCESS)
}

/// Ends a command that has no partial result, if the user asked for it.
///
/// # Errors
/// If a signal asked the command to end.
pub fn check_interrupt() -> Result<()> {
    if interrupted() {
        return Err(Error::Config("interrupted; nothing was written".to_owned()));
    }
    Ok(())
}

/// Shows the progress of a fit if standard error is a terminal, and ends the fit on Ctrl-C.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    monitor: Monitor,
    n_init: usize,
    by_points: bool,
    /// Whether an interrupt ended the fit or a start of the fit.
    pub ended_by_interrupt: bool,
}

impl Progress {
    pub fn new(monitor: Monitor, n_init: usize, max_iter: usize, quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(max_iter as u64), target(quiet))
            .with_style(style("{msg}"))
            .with_message("initialising");
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { bar, monitor, n_init, by_points: false, ended_by_interrupt: false }
    }

    /// Shows a fit by minibatches, which sees at most `total` points.
    pub fn of_stream(total: u64, n_init: usize, quiet: bool) -> Self {
        let progress = Self::new(Monitor::EntropySum, n_init, 0, quiet);
        progress.bar.set_length(total);
        Self { by_points: true, ..progress }
    }

    /// Clears the line.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Counts candidates if standard error is a terminal.
#[derive(Debug)]
pub struct Counter {
    bar: ProgressBar,
}

impl Counter {
    pub fn new(n: usize, quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(n as u64), target(quiet))
            .with_style(style("{pos} of {len} candidates, {elapsed}"));
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { bar }
    }

    /// Counts a finished candidate.
    pub fn count(&self) {
        self.bar.inc(1);
    }

    /// Clears the line.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Returns where progress is drawn: on the terminal of rank 0. `indicatif` draws on nothing else.
fn target(quiet: bool) -> ProgressDrawTarget {
    match quiet || !ranks::speaks() {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a valid template")
}

impl Observer for Progress {
    fn on_start(&mut self, run: usize) {
        self.bar.reset();
        self.bar.set_message("");
        self.bar.set_style(style(match self.by_points {
            true => "{prefix}{percent}% of all epochs, at most {eta} left  {wide_msg}",
            false => "{prefix}iteration {pos}/{len}, at most {eta} left  {wide_msg}",
        }));
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
