//! Checkpoints of fits, as they were typed.

use crate::cli::args::FitArgs;
use crate::cli::output;
use crate::em::{Fit, Fitting};
use crate::error::{Error, Result};
use crate::scalar::Scalar;
use crate::store::{self, Stored};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time between checkpoints, if none is typed.
const EVERY: Duration = Duration::from_secs(60);

/// The file in which a fit is kept.
#[derive(Debug)]
pub struct CheckpointFile {
    path: PathBuf,
    every: Duration,
    resume: bool,
    quiet: bool,
}

impl CheckpointFile {
    /// Returns the file that was typed.
    pub fn of(args: &FitArgs) -> Result<Option<Self>> {
        let Some(path) = args.stream.checkpoint.clone() else { return Ok(None) };
        if args.n_init > 1 {
            return Err(Error::Config(format!(
                "--checkpoint keeps one fit, and --n-init {} asks for several",
                args.n_init
            )));
        }
        let every = args.stream.checkpoint_every.unwrap_or(EVERY);
        Ok(Some(Self { path, every, resume: args.stream.resume, quiet: args.quiet }))
    }

    /// Runs a fit that goes on from the file, if that was asked for and there is a file, and keeps it there.
    pub fn keep<T: Scalar, M: Stored + Clone>(
        &self,
        fitting: Fitting<'_, T, M>,
        run: impl FnOnce(Fitting<'_, T, M>) -> Result<Fit<M>>,
    ) -> Result<Fit<M>> {
        let mut fitting = fitting.spill_folder(&self.folder());
        if self.resume && self.path.exists() {
            fitting = fitting.resume(store::load_checkpoint(&self.path)?);
        }
        let (path, quiet) = (self.path.clone(), self.quiet);
        run(fitting.checkpoints(self.every, move |state| {
            let saved = store::save_checkpoint(&path, state);
            // Told at once: a fit may go on for days after it.
            if let Some(fault) = saved.as_ref().err().filter(|_| !quiet) {
                output::complain("warning", &format!("no checkpoint was saved: {fault}"));
            }
            saved
        }))
    }

    fn folder(&self) -> PathBuf {
        match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        }
    }
}
