//! Checkpoints of fits, as they were typed.

use crate::cli::args::FitArgs;
use entropysum::em::{BatchState, Begin, Checkpoints, Fit, FitState};
use entropysum::error::{Error, Result};
use entropysum::monitor::Event;
use entropysum::store::{self, Stored};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Seconds between checkpoints, where it is not said.
const EVERY: Duration = Duration::from_secs(60);

/// The file in which a fit is kept.
#[derive(Debug)]
pub struct CheckpointFile {
    path: PathBuf,
    every: Duration,
    resume: bool,
}

impl CheckpointFile {
    /// The one that was typed.
    pub fn of(args: &FitArgs) -> Result<Option<Self>> {
        let Some(path) = args.stream.checkpoint.clone() else { return Ok(None) };
        if args.n_init > 1 {
            return Err(Error::Config(format!(
                "--checkpoint keeps one fit, and --n-init {} asks for several",
                args.n_init
            )));
        }
        let every = args.stream.checkpoint_every.unwrap_or(EVERY);
        Ok(Some(Self { path, every, resume: args.stream.resume }))
    }

    /// What is in the file, if the fit is to go on and there is a file.
    pub fn load<S>(&self, load: impl FnOnce(&Path) -> Result<S>) -> Result<Option<S>> {
        let is_there = self.resume && self.path.exists();
        is_there.then(|| load(&self.path)).transpose()
    }

    /// Learns from all points: `run` goes on from the file, or begins with what `start` makes, and keeps the fit in the file.
    pub fn fit<M: Stored>(
        &self,
        start: impl FnOnce() -> Result<(M, Option<Event>)>,
        run: impl FnOnce(Begin<M>, Checkpoints<'_, BatchState<M>>) -> Result<Fit<M>>,
    ) -> Result<Fit<M>> {
        let kept = self.load(|path| store::load_batch_checkpoint(path))?;
        let (begin, event) = match kept {
            Some(state) => (Begin::Kept(state), None),
            None => start().map(|(model, event)| (Begin::Afresh(model), event))?,
        };
        self.keep(|checkpoints| {
            let mut fit = run(begin, checkpoints)?;
            fit.warnings.splice(0..0, event.map(|event| event.to_string()));
            Ok(fit)
        })
    }

    /// Runs a fit whose states go to the file.
    pub fn keep<S: FitState<Model: Stored>, R>(
        &self,
        run: impl FnOnce(Checkpoints<'_, S>) -> Result<R>,
    ) -> Result<R> {
        self.keep_by(|path, state| store::save_checkpoint(path, state), run)
    }

    /// The same with another way to write the file.
    pub fn keep_by<S, R>(
        &self,
        save: impl Fn(&Path, &S) -> Result<()>,
        run: impl FnOnce(Checkpoints<'_, S>) -> Result<R>,
    ) -> Result<R> {
        let mut save = |state: &S| save(&self.path, state);
        run(Checkpoints { every: self.every, save: &mut save })
    }

    /// Where it is.
    pub fn folder(&self) -> PathBuf {
        match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        }
    }
}
