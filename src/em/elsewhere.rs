//! Fits to points that lie elsewhere in parts: on other machines, in a database.
//!
//! Where a part lies, [`e_step`] makes its statistics. [`Elsewhere`] returns the sum of these to the learner. Driver, M-step, rules and
//! checkpoints know no difference.

pub(crate) use super::checkpoint::encode;
use super::sweep::Lanes;
use crate::data::{self, DataSource};
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::model::EStep;
use crate::scalar::Scalar;
use crate::stats::SuffStats;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Returns the statistics of all points under a model.
type Sum<M> = dyn Fn(&M) -> Result<SuffStats> + Send + Sync;

/// The E-step of points that lie elsewhere.
pub struct Elsewhere<M>(Arc<Sum<M>>);

impl<M> Elsewhere<M> {
    /// Wraps what returns the sum of the statistics of all parts. It must be the same for the same model.
    pub fn new(sum: impl Fn(&M) -> Result<SuffStats> + Send + Sync + 'static) -> Self {
        Self(Arc::new(sum))
    }

    /// Returns the statistics of all points under a model.
    pub(super) fn e_step(&self, model: &M) -> Result<SuffStats> {
        (self.0)(model)
    }
}

impl<M> Clone for Elsewhere<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> std::fmt::Debug for Elsewhere<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elsewhere").finish_non_exhaustive()
    }
}

/// Decodes what [`encode`] made for another process.
pub(crate) fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V> {
    super::checkpoint::decode(bytes).map_err(|_| damaged())
}

/// Returns the fault of bytes that are no statistics and no parameters.
pub(crate) fn damaged() -> Error {
    Error::Model("damaged bytes: they hold no statistics or parameters of an E-step".to_owned())
}

/// E-step of a part of `n_points` under exact or hard posteriors. A part may be empty.
///
/// # Errors
/// If dimensions differ, reading fails, or a point has no finite log-evidence: then the first such point is named.
pub(crate) fn e_step<T: Scalar, M: EStep<T>>(
    model: &M,
    part: &dyn DataSource<T>,
    n_points: u64,
    executor: &Executor,
) -> Result<SuffStats> {
    data::check_dim(part, model.dim())?;
    Lanes::for_all_points().sweep_part(executor, part, n_points, model)
}
