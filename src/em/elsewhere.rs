//! Fits to points that lie elsewhere in parts: on other machines, in a database.
//!
//! Where a part lies, [`e_step_of_part`] makes its statistics. [`Elsewhere`] returns the sum of these to the learner. Driver, M-step, rules and
//! checkpoints know no difference.

use super::sweep::Lanes;
use crate::data::{self, DataSource};
use crate::error::Result;
use crate::exec::Executor;
use crate::model::EStep;
use crate::scalar::Scalar;
use crate::stats::SuffStats;
use std::sync::Arc;

/// Returns the statistics of all points under a model.
type Sum<M> = dyn Fn(&M) -> Result<SuffStats> + Send + Sync;

/// The E-step of points that lie elsewhere.
///
/// ```
/// use entropysum::data::Points;
/// use entropysum::em::Fitting;
/// use entropysum::expert::em::{Elsewhere, e_step_of_part};
/// use entropysum::family::{Parameters, registry};
/// use entropysum::{Executor, Mixture};
///
/// let values: Vec<f64> = (0..900).map(|i| f64::from(i % 10) + if i < 600 { 0.0 } else { 50.0 }).collect();
/// let parts = [values[..400].to_vec(), values[400..].to_vec()];
/// let elsewhere = Elsewhere::new(move |model: &Mixture| {
///     let executor = Executor::new(Some(1))?;
///     let e_step = |part| e_step_of_part(model, &Points::<f64>::from_rows(part, 1)?, 900, &executor);
///     let mut total = e_step(&parts[0])?;
///     total.add(&e_step(&parts[1])?);
///     Ok(total)
/// });
///
/// let components = vec![vec![0.0, 9.0], vec![60.0, 9.0]];
/// let parameters = Parameters { components, shared: vec![] };
/// let start = Mixture::new(registry::build("gaussian-full", 1)?, vec![0.5, 0.5], parameters)?;
/// // A given start looks at a few points only, to know how they are rounded: an excerpt would do.
/// let points = Points::from_rows(&values, 1)?;
/// let fit = Fitting::new(&points, &Executor::new(Some(1))?).elsewhere(elsewhere).fit(&start)?;
/// let means = fit.model.parameter("means").unwrap();
/// assert!((means[0] - 4.5).abs() < 1e-6 && (means[1] - 54.5).abs() < 1e-6);
/// # Ok::<(), entropysum::Error>(())
/// ```
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

/// Takes the E-step of a part of `n_points` under exact or hard posteriors. A part may be empty. All parts have the same precision.
///
/// # Errors
/// If dimensions differ, reading fails, or a point has no finite log-evidence: then the first such point is named.
pub fn e_step_of_part<T: Scalar, M: EStep<T>>(
    model: &M,
    part: &dyn DataSource<T>,
    n_points: u64,
    executor: &Executor,
) -> Result<SuffStats> {
    data::check_dim(part, model.dim())?;
    Lanes::default().sweep_part(executor, part, n_points, model)
}
