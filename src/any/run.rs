//! What a fit takes besides a specification and points.

use super::elsewhere::elsewhere;
use super::source::InSource;
use super::{Source, SumElsewhere};
use crate::data::DataSource;
use crate::em::{Config, Fit, Fitting, StreamConfig};
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::model::GenerativeModel;
use crate::monitor::Observer;
use crate::store::{self, Stored};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Says how a fit is to run, whatever is fitted.
pub struct Run<'a> {
    /// Threads.
    pub executor: &'a Executor,
    /// Tolerance, iterations, starts, seed.
    pub config: &'a Config,
    /// Sees each record, and may end the fit.
    pub observer: &'a mut dyn Observer,
    /// Settings of minibatches, if the fit is to learn from them.
    pub stream: Option<&'a StreamConfig>,
    /// Points for the audits of a fit by minibatches, in the precision of those that it learns from.
    pub held_out: Option<Source<'a>>,
    /// Where the fit is kept, if it is to be kept.
    pub checkpoint: Option<&'a CheckpointFile>,
    /// The E-step of all points, if they lie elsewhere. The points of the fit are an [`Excerpt`](crate::data::Excerpt) then.
    pub elsewhere: Option<SumElsewhere>,
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("config", &self.config)
            .field("stream", &self.stream)
            .field("checkpoint", &self.checkpoint)
            .finish_non_exhaustive()
    }
}

impl<'a> Run<'a> {
    /// Returns a run by batch EM that is not kept.
    pub fn new(executor: &'a Executor, config: &'a Config, observer: &'a mut dyn Observer) -> Self {
        Self {
            executor,
            config,
            observer,
            stream: None,
            held_out: None,
            checkpoint: None,
            elsewhere: None,
        }
    }

    /// Sets up the fit to points, and has `fit` run it.
    pub(crate) fn fit<T: InSource, M: Stored + GenerativeModel + 'static>(
        self,
        points: &dyn DataSource<T>,
        fit: impl FnOnce(Fitting<'_, T, M>) -> Result<Fit<M>>,
    ) -> Result<Fit<M>> {
        let mut fitting =
            Fitting::new(points, self.executor).config(self.config).observer(self.observer);
        if let Some(stream) = self.stream {
            fitting = fitting.minibatches(stream);
        }
        if let Some(held_out) = self.held_out {
            let precision = held_out.precision().name();
            if precision != T::NAME {
                let message =
                    format!("held-out points are {precision}, expected {} as the others", T::NAME);
                return Err(Error::Config(message));
            }
            fitting = fitting.held_out(T::points(held_out));
        }
        if let Some(sum) = self.elsewhere {
            fitting = fitting.elsewhere(elsewhere(sum));
        }
        match self.checkpoint {
            None => fit(fitting),
            Some(file) => file.keep(fitting, fit),
        }
    }
}

/// Keeps a fit in a file, from which another process can go on.
#[derive(Clone, Debug)]
pub struct CheckpointFile {
    /// The file.
    pub path: PathBuf,
    /// Time between two states.
    pub every: Duration,
    /// Whether to go on from the file, if it exists.
    pub resume: bool,
    /// Called at once if a state could not be written, since a fit may go on for days after it.
    pub complain: fn(&Error),
}

impl CheckpointFile {
    fn keep<T: InSource, M: Stored + Clone>(
        &self,
        fitting: Fitting<'_, T, M>,
        fit: impl FnOnce(Fitting<'_, T, M>) -> Result<Fit<M>>,
    ) -> Result<Fit<M>> {
        let mut fitting = fitting.spill_folder(self.folder());
        if self.resume && self.path.exists() {
            fitting = fitting.resume(store::load_checkpoint(&self.path)?);
        }
        let (path, complain) = (self.path.clone(), self.complain);
        fit(fitting.checkpoints(self.every, move |state| {
            let saved = store::save_checkpoint(&path, state);
            if let Err(fault) = &saved {
                complain(fault);
            }
            saved
        }))
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        }
    }
}
