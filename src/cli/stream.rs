//! Fits by minibatches: from what was typed to settings, and from a checkpoint or a start to a fit.

use crate::cli::args::FitArgs;
use crate::cli::checkpoint::CheckpointFile;
use crate::cli::kinds;
use crate::cli::run::size;
use entropysum::data::DataSource;
use entropysum::em::stepwise::StepSize;
use entropysum::em::stream::{self, StreamConfig, StreamData};
use entropysum::em::{Config, Fit, StreamState, truncated_stream};
use entropysum::error::Result;
use entropysum::exec::Executor;
use entropysum::model::{EStep, SigmoidBeliefNet};
use entropysum::monitor::{Event, Observer};
use entropysum::scalar::Scalar;
use entropysum::store::{self, Stored};
use std::path::Path;

/// All that a fit by minibatches needs besides the model.
pub struct StreamPlan<'a, T: Scalar> {
    pub source: &'a dyn DataSource<T>,
    pub held_out: Option<&'a dyn DataSource<T>>,
    pub executor: &'a Executor,
    pub config: &'a Config,
    pub stream: &'a StreamConfig,
    pub checkpoint: Option<&'a CheckpointFile>,
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
        checkpoint: Option<&'a CheckpointFile>,
        stream: &'a StreamConfig,
        source: &'a dyn DataSource<T>,
        held_out: Option<&'a dyn DataSource<T>>,
        executor: &'a Executor,
        config: &'a Config,
    ) -> Self {
        Self { source, held_out, executor, config, stream, checkpoint }
    }

    /// Goes on from the checkpoint if there is one and it was asked for, else begins from `start`.
    pub fn fit<M: Stored + EStep<T>>(
        &self,
        observer: &mut dyn Observer,
        start: impl FnOnce(&dyn DataSource<T>) -> Result<(M, Option<Event>)>,
    ) -> Result<Fit<M>> {
        let Self { source, executor, config, stream, .. } = *self;
        let kept = self
            .checkpoint
            .map(|file| file.load(|path| store::load_checkpoint(path, source, config, stream)));
        let (state, event): (StreamState<M>, _) = match kept.transpose()?.flatten() {
            Some(state) => (state, None),
            None => {
                let (model, event) = start(source)?;
                (stream::begin(model, source, config, stream)?, event)
            }
        };
        observer.on_start(0);
        let data = StreamData { points: source, held_out: self.held_out };
        let mut fit = match self.checkpoint {
            None => stream::resume(state, &data, executor, config, stream, observer, None)?,
            Some(file) => file.keep(|checkpoints| {
                let checkpoints = Some(checkpoints);
                stream::resume(state, &data, executor, config, stream, observer, checkpoints)
            })?,
        };
        fit.warnings.splice(0..0, event.map(|event| event.to_string()));
        Ok(fit)
    }

    /// The same for a network with truncated posteriors; `random_start` says that `start` gives random weights. Sets of states that
    /// memory has no room for go beside the checkpoint, or else to the temporary directory.
    pub fn fit_truncated(
        &self,
        observer: &mut dyn Observer,
        random_start: bool,
        start: impl FnOnce(&dyn DataSource<T>) -> Result<SigmoidBeliefNet>,
    ) -> Result<Fit<SigmoidBeliefNet>> {
        let Self { source, executor, config, stream, .. } = *self;
        let folder = self.checkpoint.map_or_else(std::env::temp_dir, CheckpointFile::folder);
        let kept = self.checkpoint.map(|file| {
            file.load(|path| {
                store::load_truncated_checkpoint(path, source, config, stream, &folder)
            })
        });
        let state = match kept.transpose()?.flatten() {
            Some(state) => state,
            None => {
                let model = start(source)?;
                truncated_stream::begin(model, random_start, source, config, stream, &folder)?
            }
        };
        observer.on_start(0);
        let data = StreamData { points: source, held_out: self.held_out };
        let Some(file) = self.checkpoint else {
            return truncated_stream::resume(
                state, &data, executor, config, stream, observer, None,
            );
        };
        let save = |path: &Path, state: &_| store::save_truncated_checkpoint(path, state);
        file.keep_by(save, |checkpoints| {
            let kept = Some(checkpoints);
            truncated_stream::resume(state, &data, executor, config, stream, observer, kept)
        })
    }
}
