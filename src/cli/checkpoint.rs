//! Checkpoints of fits, as they were typed.

use crate::any::CheckpointFile;
use crate::cli::args::FitArgs;
use crate::cli::output;
use crate::error::{Error, Result};
use std::time::Duration;

/// Time between checkpoints, if none is typed.
const EVERY: Duration = Duration::from_secs(60);

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
            output::complain("warning", &format!("no checkpoint was saved: {fault}"));
        },
    };
    Ok(Some(CheckpointFile { path, every, resume: args.stream.resume, complain }))
}
