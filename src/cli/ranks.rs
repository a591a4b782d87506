//! Commands that several processes run together: rank 0 alone prints and writes files.

use crate::atomic;
use crate::cli::{output, progress, run};
use crate::error::Result;
use crate::exec::Executor;
use crate::pairwise::share;
use crate::ranks::Ranks;
use clap::Parser;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Time in which another rank can tell of a fault that all ranks have.
const GRACE: Duration = Duration::from_secs(3);

/// Points beside the share of a rank that it has in memory too: shares of passes differ by less than a lane.
const MARGIN: u64 = 1 << 14;

static RANKS: OnceLock<Arc<dyn Ranks>> = OnceLock::new();

/// Whether ranks ask each other for points.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Runs the command that was typed as one of several processes, which were all started by the same line.
///
/// A fault or a panic of one rank ends all. Of the ranks that have the same fault, rank 0 tells it.
pub fn main_of_ranks(ranks: Arc<dyn Ranks>) -> ExitCode {
    let rank = ranks.rank();
    let ranks = RANKS.get_or_init(|| ranks);
    if rank > 0 {
        atomic::write_nothing();
    }
    let command = match super::args::Cli::try_parse() {
        Ok(cli) => cli.command,
        // All ranks were typed the same.
        Err(fault) if rank == 0 => {
            let _ = fault.print();
            return ExitCode::from(fault.exit_code() as u8);
        }
        Err(fault) => return ExitCode::from(fault.exit_code() as u8),
    };
    let fault = match catch_unwind(AssertUnwindSafe(|| run::run(&command))) {
        Ok(Ok(code)) if !are_asked() => return code,
        // Others may ask for points of this rank.
        Ok(Ok(code)) => match ranks.barrier() {
            Ok(()) => return code,
            Err(fault) => Some(fault),
        },
        Ok(Err(fault)) => Some(fault),
        // The panic has told where it was.
        Err(_) => None,
    };
    if rank > 0 {
        std::thread::sleep(GRACE);
    }
    if let Some(fault) = fault {
        let told = if rank == 0 { fault.to_string() } else { format!("rank {rank}: {fault}") };
        output::complain_of_any_rank("error", &told);
    }
    ranks.abort(progress::signal().map_or(1, |signal| 128 + i32::from(signal)))
}

/// Tells whether this process prints and writes for all.
pub fn speaks() -> bool {
    RANKS.get().is_none_or(|ranks| ranks.rank() == 0)
}

/// Returns the processes of the command, which ask each other from now on until all are done; `None` if it has one process.
pub fn asked() -> Option<&'static Arc<dyn Ranks>> {
    ASKED.store(true, Ordering::Relaxed);
    RANKS.get()
}

/// Tells whether processes of the command ask each other for points.
pub fn are_asked() -> bool {
    ASKED.load(Ordering::Relaxed) && RANKS.get().is_some_and(|ranks| ranks.size() > 1)
}

/// Returns the number of processes of the command on this machine.
pub fn local_size() -> usize {
    RANKS.get().map_or(1, |ranks| ranks.local_size()).max(1)
}

/// Returns the rows that this process reads in passes over `n` points, and some beside them.
pub fn own_rows(n: u64) -> Range<u64> {
    let Some(ranks) = RANKS.get() else { return 0..n };
    let own = share(Some(&**ranks), n);
    own.start.saturating_sub(MARGIN)..(own.end + MARGIN).min(n)
}

/// Returns an executor of so many threads, which shares passes with the other processes of the command. If no number is given, the
/// processes of a machine share its processors.
pub fn executor(threads: Option<usize>) -> Result<Executor> {
    let Some(ranks) = RANKS.get() else { return Executor::new(threads) };
    let usable = std::thread::available_parallelism().map_or(1, usize::from);
    let all = output::processors().unwrap_or(usable).max(usable);
    let n = local_size();
    // A rank that is bound to some processors has these for itself.
    let share = if usable < all { usable } else { (usable / n).max(1) };
    let threads = threads.unwrap_or(share);
    if threads > usable {
        let text = format!(
            "{threads} threads may use {usable} processor(s) of {all}; start with --bind-to none to use more"
        );
        output::complain("warning", &text);
    } else if n * threads > all {
        let text = format!(
            "{n} ranks of {threads} thread(s) share {all} processor(s) of this machine; start fewer"
        );
        output::complain("warning", &text);
    }
    Executor::new(Some(threads))?.with_ranks(ranks.clone())
}
