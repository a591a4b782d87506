//! What a fit ends with.

use crate::monitor::{History, IterRecord, StopReason, TruncationLoss};

/// A fitted model and how the fit went.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fit<M> {
    /// The model, with the parameters after the last M-step, whatever ended the fit.
    pub model: M,
    /// One record an iteration.
    pub history: History,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// Floors, splits and discards, each told once.
    pub warnings: Vec<String>,
    /// Components that were discarded, by their number at the start.
    pub discarded: Vec<usize>,
    /// Components whose spread stood at its floor after the last M-step. A likelihood that a floor holds up is no maximum: the
    /// fit is degenerate.
    pub floored: Vec<usize>,
    /// Part of the components that took whitened differences in place of packed products, over all E-steps: these are narrow, and
    /// far from the centre of the points. Components of one covariance may take logits in `f64` instead. `None` if the model has no
    /// such choice.
    pub whitened_share: Option<f64>,
    /// How far the bound is below the log-likelihood, if posteriors were truncated to sets of components.
    pub truncation_loss: Option<TruncationLoss>,
    /// Why the last checkpoint could not be saved, if it could not. Then no other process can go on from where the fit ended.
    pub checkpoint_fault: Option<String>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl<M> Fit<M> {
    /// Whether the tolerance was met.
    pub fn converged(&self) -> bool {
        self.stop_reason == StopReason::Converged
    }

    /// Returns the last record, if there was an iteration.
    pub fn last(&self) -> Option<&IterRecord> {
        self.history.records.last()
    }

    /// Replaces the model by what a function makes of it. All else stays.
    pub fn map_model<N>(self, change: impl FnOnce(M) -> N) -> Fit<N> {
        Fit {
            model: change(self.model),
            history: self.history,
            stop_reason: self.stop_reason,
            warnings: self.warnings,
            discarded: self.discarded,
            floored: self.floored,
            whitened_share: self.whitened_share,
            truncation_loss: self.truncation_loss,
            checkpoint_fault: self.checkpoint_fault,
            seconds: self.seconds,
        }
    }
}
