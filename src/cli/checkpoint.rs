//! Checkpoints of fits, as they were typed.

use crate::any::CheckpointFile;
use crate::cli::args::FitArgs;
use crate::cli::output;
use crate::error::{Error, Result};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Time between checkpoints, if none is typed.
const EVERY: Duration = Duration::from_secs(60);

/// The fault that was told last: a disk that stays full is told once.
static LAST_TOLD: Mutex<String> = Mutex::new(String::new());

/// Returns the file that was typed.
pub fn typed(args: &FitArgs) -> Result<Option<CheckpointFile>> {
    let Some(path) = args.stream.checkpoint.clone() else { return Ok(None) };
    if args.n_init > 1 {
        return Err(Error::Config(format!(
            "--checkpoint keeps one fit, and --n-init {} asks for several",
            args.n_init
        )));
    }
    let every = args.stream.checkpoint_every.unwrap_or(EVERY);
    let complain: fn(&Error) = match args.quiet {
        true => |_| (),
        false => |fault| {
            let text = format!("no checkpoint was saved: {fault}");
            let mut last = LAST_TOLD.lock().unwrap_or_else(PoisonError::into_inner);
            if *last != text {
                output::complain("warning", &text);
                *last = text;
            }
        },
    };
    Ok(Some(CheckpointFile { path, every, resume: args.stream.resume, complain }))
}
