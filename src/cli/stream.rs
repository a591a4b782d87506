//! Fits by minibatches: from what was typed to settings, and from a checkpoint or a start to a fit.

use crate::cli::args::FitArgs;
use crate::cli::kinds;
use crate::cli::run::size;
use entropysum::data::DataSource;
use entropysum::em::stepwise::StepSize;
use entropysum::em::stream::{self, Checkpoints, StreamConfig, StreamData};
use entropysum::em::{Config, Fit, StreamState, TruncatedStream, truncated_stream};
use entropysum::error::{Error, Result};
use entropysum::exec::Executor;
use entropysum::model::{EStep, SigmoidBeliefNet};
use entropysum::monitor::{Event, Observer};
use entropysum::scalar::Scalar;
use entropysum::store::{self, Stored};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Seconds between checkpoints, where it is not said.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// All that a fit by minibatches needs besides the model.
pub struct StreamPlan<'a, T: Scalar> {
    pub source: &'a dyn DataSource<T>,
    pub held_out: Option<&'a dyn DataSource<T>>,
    pub executor: &'a Executor,
    pub config: &'a Config,
    pub stream: &'a StreamConfig,
    pub checkpoint: Option<PathBuf>,
    pub checkpoint_every: Duration,
    pub resume: bool,
}

/// The settings that were typed, if they are of a fit by minibatches.
pub fn settings(args: &FitArgs) -> Result<Option<StreamConfig>> {
    let Some(algorithm) = kinds::algorithm(args) else { return Ok(None) };
    let (typed, default) = (&args.stream, StreamConfig::default());
    let size_or = |typed: Option<u64>, default| typed.map_or(Ok(default), size);
    Ok(Some(StreamConfig {
        algorithm,
        batch_size: size_or(typed.batch_size, default.batch_size)?,
        step_size: StepSize {
            exponent: typed.step_exponent.unwrap_or(default.step_size.exponent),
            offset: typed.step_offset.unwrap_or(default.step_size.offset),
        },
        least_step: typed.step_least,
        epochs: size_or(typed.epochs, default.epochs)?,
        average: typed.average.unwrap_or(default.average),
        polish: size_or(typed.polish, default.polish)?,
        audit: size_or(typed.audit, default.audit)?,
        memory: typed.memory.unwrap_or(default.memory),
        bad_rows: typed.on_bad_row.unwrap_or(default.bad_rows),
        ..default
    }))
}

impl<'a, T: Scalar> StreamPlan<'a, T> {
    pub fn new(
        args: &FitArgs,
        stream: &'a StreamConfig,
        source: &'a dyn DataSource<T>,
        held_out: Option<&'a dyn DataSource<T>>,
        executor: &'a Executor,
        config: &'a Config,
    ) -> Self {
        Self {
            source,
            held_out,
            executor,
            config,
            stream,
            checkpoint: args.stream.checkpoint.clone(),
            checkpoint_every: args.stream.checkpoint_every.unwrap_or(CHECKPOINT_EVERY),
            resume: args.stream.resume,
        }
    }

    /// Goes on from the checkpoint if there is one and it was asked for, else begins from `start`. `describe` says of a model what
    /// must agree with what was `asked` for.
    pub fn fit<M: Stored + EStep<T>>(
        &self,
        observer: &mut dyn Observer,
        asked: &str,
        describe: impl FnOnce(&M) -> String,
        start: impl FnOnce(&dyn DataSource<T>) -> Result<(M, Option<Event>)>,
    ) -> Result<Fit<M>> {
        let Self { source, config, stream, .. } = *self;
        let path = self.checkpoint.as_deref();
        let mut event = None;
        let state: StreamState<M> = match self.interrupted() {
            Some(path) => {
                let state = store::load_checkpoint(path, source, config, stream)?;
                compare(path, asked, &describe(state.model()))?;
                state
            }
            None => {
                let (model, told) = start(source)?;
                event = told;
                stream::begin(model, source, config, stream)?
            }
        };
        observer.on_start(0);
        let mut save = |state: &StreamState<M>| match path {
            Some(path) => store::save_checkpoint(path, state),
            None => Ok(()),
        };
        let checkpoints = Checkpoints { every: self.checkpoint_every, save: &mut save };
        let data = StreamData { points: source, held_out: self.held_out };
        let checkpoints = path.is_some().then_some(checkpoints);
        let mut fit =
            stream::resume(state, &data, self.executor, config, stream, observer, checkpoints)?;
        fit.warnings.splice(0..0, event.map(|event| event.to_string()));
        Ok(fit)
    }

    /// The same for a network with truncated posteriors; `random_start` says that `start` gives random weights. Sets of states that
    /// memory has no room for go beside the checkpoint, or else to the temporary directory.
    pub fn fit_truncated(
        &self,
        observer: &mut dyn Observer,
        asked: &str,
        describe: impl FnOnce(&SigmoidBeliefNet) -> String,
        random_start: bool,
        start: impl FnOnce(&dyn DataSource<T>) -> Result<SigmoidBeliefNet>,
    ) -> Result<Fit<SigmoidBeliefNet>> {
        let Self { source, config, stream, .. } = *self;
        let path = self.checkpoint.as_deref();
        let folder = match path.and_then(Path::parent) {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            Some(_) => PathBuf::from("."),
            None => std::env::temp_dir(),
        };
        let state = match self.interrupted() {
            Some(path) => {
                let state =
                    store::load_truncated_checkpoint(path, source, config, stream, &folder)?;
                compare(path, asked, &describe(state.model()))?;
                state
            }
            None => {
                let model = start(source)?;
                truncated_stream::begin(model, random_start, source, config, stream, &folder)?
            }
        };
        observer.on_start(0);
        let mut save = |state: &TruncatedStream| match path {
            Some(path) => store::save_truncated_checkpoint(path, state),
            None => Ok(()),
        };
        let checkpoints = Checkpoints { every: self.checkpoint_every, save: &mut save };
        let data = StreamData { points: source, held_out: self.held_out };
        let checkpoints = path.is_some().then_some(checkpoints);
        truncated_stream::resume(state, &data, self.executor, config, stream, observer, checkpoints)
    }

    /// The checkpoint to go on from, if there is one and it was asked for.
    fn interrupted(&self) -> Option<&Path> {
        self.checkpoint.as_deref().filter(|path| self.resume && path.exists())
    }
}

/// Refuses a checkpoint of a model that was not asked for.
fn compare(path: &Path, asked: &str, found: &str) -> Result<()> {
    if found == asked {
        return Ok(());
    }
    Err(Error::Config(format!(
        "{}: the checkpoint is of another fit: it has {found}; this one has {asked}",
        path.display()
    )))
}
