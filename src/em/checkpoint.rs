//! What keeps a fit, so that another process can go on with it.

use crate::data::identity::Identity;
use crate::error::{Error, Result};
use std::time::{Duration, Instant};

/// A fit between two steps: all it takes to go on with the same bits.
///
/// Random numbers need no state of their own: they follow from the seed and the place.
pub trait FitState {
    /// The kind of model that is learned.
    type Model;

    /// The model as it stands.
    fn model(&self) -> &Self::Model;

    /// All that decides on the bits of the fit, as text: a state goes on only under the same.
    fn settings(&self) -> &str;

    /// Warnings so far.
    fn warnings(&self) -> &[String];

    /// Everything but the model, the settings and the warnings, as numbers. Events of old records are not among them.
    fn numbers(&self) -> Vec<f64>;
}

/// Where the state of a fit goes.
pub struct Checkpoints<'a, S> {
    /// Seconds between two.
    pub every: Duration,
    /// Keeps a state: writes a file, for instance.
    pub save: &'a mut dyn FnMut(&S) -> Result<()>,
}

impl<S> std::fmt::Debug for Checkpoints<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoints").field("every", &self.every).finish_non_exhaustive()
    }
}

/// A fit over all points between two iterations.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchState<M> {
    /// The model as it stands.
    pub model: M,
    /// See [`FitState::settings`].
    pub settings: String,
    /// See [`FitState::numbers`].
    pub numbers: Vec<f64>,
    /// See [`FitState::warnings`].
    pub warnings: Vec<String>,
}

impl<M> FitState for BatchState<M> {
    type Model = M;

    fn model(&self) -> &M {
        &self.model
    }

    fn settings(&self) -> &str {
        &self.settings
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn numbers(&self) -> Vec<f64> {
        self.numbers.clone()
    }
}

/// Where a fit over all points begins.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a fit has one of them")]
pub enum Begin<M> {
    /// Afresh, from a model.
    Afresh(M),
    /// Where another fit was kept.
    Kept(BatchState<M>),
}

/// Keeps a fit while it runs.
pub(super) struct Keeper<'a, M> {
    checkpoints: Option<Checkpoints<'a, BatchState<M>>>,
    settings: String,
    last: Instant,
}

impl<'a, M> Keeper<'a, M> {
    /// Also the model to begin with, and where it was kept the numbers and warnings of that state. `settings` are asked for where
    /// something is kept only, since they look at the points.
    ///
    /// # Errors
    /// If that was a state of another fit.
    pub fn open(
        begin: Begin<M>,
        checkpoints: Option<Checkpoints<'a, BatchState<M>>>,
        settings: impl FnOnce() -> String,
    ) -> Result<(Self, M, Option<(Vec<f64>, Vec<String>)>)> {
        let is_kept = checkpoints.is_some() || matches!(begin, Begin::Kept(_));
        let settings = if is_kept { settings() } else { String::new() };
        let (model, state) = match begin {
            Begin::Afresh(model) => (model, None),
            Begin::Kept(BatchState { model, settings: found, numbers, warnings }) => {
                agree(&found, &settings)?;
                (model, Some((numbers, warnings)))
            }
        };
        Ok((Self { checkpoints, settings, last: Instant::now() }, model, state))
    }

    /// Whether it is time for a checkpoint.
    pub fn is_due(&self) -> bool {
        self.checkpoints.as_ref().is_some_and(|it| self.last.elapsed() >= it.every)
    }

    /// Keeps a state of which there are a model, numbers and warnings.
    ///
    /// # Errors
    /// If it cannot be saved.
    pub fn keep(&mut self, state: impl FnOnce() -> (M, Vec<f64>, Vec<String>)) -> Result<()> {
        if let Some(checkpoints) = &mut self.checkpoints {
            let (model, numbers, warnings) = state();
            let settings = self.settings.clone();
            (checkpoints.save)(&BatchState { model, settings, numbers, warnings })?;
            // From here on: where disks are slow, the fit must go on between two.
            self.last = Instant::now();
        }
        Ok(())
    }
}

/// Refuses a state of another fit, or of other points. Settings are parts with commas between; the first is the
/// [`Identity`] of the points.
pub(super) fn agree(found: &str, asked: &str) -> Result<()> {
    let parts = |text: &str| text.split([',', ';']).map(|it| it.trim().to_owned()).collect();
    let [found, asked]: [Vec<String>; 2] = [parts(found), parts(asked)];
    let differences = |of: &[String], from: &[String]| {
        let parts = of.iter().enumerate().skip(1);
        let other = parts.filter(|(k, part)| from.get(*k) != Some(part));
        other.map(|(_, part)| part.as_str()).collect::<Vec<_>>().join(", ")
    };
    let [theirs, ours] = [differences(&found, &asked), differences(&asked, &found)];
    if !(theirs.is_empty() && ours.is_empty()) {
        return Err(Error::Config(format!(
            "the checkpoint is of another fit: it has {theirs}; this one has {ours}"
        )));
    }
    let [Some(then), Some(now)] = [&found[0], &asked[0]].map(|text| Identity::parse(text)) else {
        return Err(Error::Model(
            "damaged checkpoint: it does not say of which points it is".to_owned(),
        ));
    };
    match then.difference(&now) {
        None => Ok(()),
        Some(points) => Err(Error::Config(format!(
            "the checkpoint is of a fit to other points: those from row {} on are not the same",
            points.start
        ))),
    }
}

/// What to say of numbers that are no state.
pub(super) fn damaged() -> Error {
    Error::Model("damaged checkpoint: its numbers are no state".to_owned())
}
