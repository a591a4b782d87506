//! The gap identity on data.

use super::family::{Components, alpha};
use super::solve::{self, STEP, derivative, scale_of};
use super::{Factor, TOLERANCE};
use crate::data::DataSource;
use crate::em::sweep::Sweeper;
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::model::{GenerativeModel, Mixture};
use crate::scalar::Scalar;
use crate::stats::SuffStats;
use serde_json::{Value, json};
use std::fmt;

/// Part of the bound by which both sides of the identity may differ. Differences in its tests are 1e-9 and below.
const IDENTITY_TOLERANCE: f64 = 1e-6;

/// Both sides of `F - entropy sum = α · ∂F/∂Ψ + β · ∂F/∂θ` (docs/theory.md, 1.2), in nats per point.
///
/// A model that was learned from these points has a gap of zero. On other points a positive gap says that the model is too
/// flat for them, a negative gap that it is too sharp. The parts say so of the weights and of the components.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CertifiedGap {
    /// The lower bound `F` of the model and its posteriors.
    pub lower_bound: f64,
    /// The entropy sum of the model and its posteriors.
    pub entropy_sum: f64,
    /// `α · ∂F/∂Ψ`.
    pub prior: f64,
    /// `β · ∂F/∂θ`.
    pub observable: f64,
}

impl CertifiedGap {
    /// Returns the lower bound minus the entropy sum.
    pub fn gap(&self) -> f64 {
        self.lower_bound - self.entropy_sum
    }

    /// Returns the difference of both sides: zero up to rounding, if the identity holds.
    pub fn error(&self) -> f64 {
        self.gap() - self.prior - self.observable
    }

    /// Tells whether both sides agree up to rounding and the error of derivatives. They do not if parameters stand at a boundary that
    /// points contradict, as a probability of 0 of a value that occurs: the bound has no derivative there.
    pub fn holds(&self) -> bool {
        self.error().abs() <= IDENTITY_TOLERANCE * (1.0 + self.lower_bound.abs())
    }

    /// Returns the numbers as a JSON object.
    pub fn json(&self) -> Value {
        json!({
            "lower_bound": self.lower_bound,
            "entropy_sum": self.entropy_sum,
            "gap": self.gap(),
            "prior": self.prior,
            "observable": self.observable,
            "error": self.error(),
        })
    }
}

impl fmt::Display for CertifiedGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<16}{:.9}", "lower bound", self.lower_bound)?;
        writeln!(f, "{:<16}{:.9}", "entropy sum", self.entropy_sum)?;
        writeln!(
            f,
            "{:<16}{:.3e} = {:.3e} (prior) {} {:.3e} (observable), up to {:.1e}",
            "gap",
            self.gap(),
            self.prior,
            if self.observable < 0.0 { '-' } else { '+' },
            self.observable.abs(),
            self.error().abs(),
        )
    }
}

/// Evaluates both sides of the gap identity for a mixture on points, with the posteriors of the model.
///
/// The right side uses no entropy: it is a derivative of the bound along `α` and `β`.
///
/// # Errors
/// As a sweep; [`Error::Model`] if the criterion does not hold for the family, so that there is no β.
///
/// ```
/// use entropysum::{Executor, Mixture, Points};
/// use entropysum::expert::criterion;
///
/// let model: Mixture = entropysum::store::from_json(&serde_json::json!({
///     "model": "gaussian-diag", "weights": [0.3, 0.7], "means": [[0], [4]], "covariances": [[1], [2]],
/// }))?;
/// let points = Points::<f64>::from_rows(&[-1.0, 0.5, 3.0, 9.0], 1)?;
/// let gap = criterion::certify(&model, &points, &Executor::new(Some(1))?)?;
/// assert!(gap.gap() < -0.1); // these points are wider than the model
/// assert!(gap.error().abs() < 1e-11);
/// # Ok::<(), entropysum::Error>(())
/// ```
pub fn certify<T: Scalar>(
    model: &Mixture,
    source: &dyn DataSource<T>,
    executor: &Executor,
) -> Result<CertifiedGap> {
    crate::data::check_source(source, model.dim())?;
    let stats = Sweeper::new(source, executor).sweep(model)?;
    certify_stats(model, &stats)
}

/// Evaluates both sides as [`certify`] does, from statistics of the points with any posteriors.
///
/// # Errors
/// [`Error::Model`] if the criterion does not hold for the family.
pub(crate) fn certify_stats(model: &Mixture, stats: &SuffStats) -> Result<CertifiedGap> {
    let total = stats.total_weight();
    let alpha = alpha(model.weights());
    let prior = stats.mass().iter().zip(model.weights()).zip(&alpha);
    let prior: f64 = prior.map(|((m, w), a)| if *m > 0.0 { m * a / w } else { 0.0 }).sum();

    let components = Components::new(model.shared_family(), model.n_components());
    let theta = Components::flat(model.parameters());
    let flow = match components.closed_form(&theta) {
        Some(flow) => flow,
        None => solved(model, &components, &theta)?,
    };
    let bound = |t: f64| {
        let moved: Vec<f64> = theta.iter().zip(&flow).map(|(p, f)| p + t * f).collect();
        vec![model.family().log_likelihood(&components.unflat(&moved), stats)]
    };
    Ok(CertifiedGap {
        lower_bound: model.lower_bound(stats),
        entropy_sum: model.entropy_sum(stats).total(),
        prior: prior / total,
        observable: derivative(&bound, STEP * scale_of(&flow, &theta))[0] / total,
    })
}

/// Solves for β by least squares. Components that share nothing are solved one at a time, so that systems stay small.
fn solved(model: &Mixture, components: &Components, theta: &[f64]) -> Result<Vec<f64>> {
    let (all, name) = (components.unflat(theta), model.family().name());
    let minimal =
        |n_components| Components::new(model.shared_family(), n_components).in_minimal_form();
    let solve = |components: &Components, theta: &[f64]| {
        let latents = components.draw_latents(0, &mut || 0.0);
        let solution = solve::solve(components, theta, &latents);
        if solution.residual <= TOLERANCE {
            return Ok(solution.flow);
        }
        let residual = solution.residual;
        Err(Error::Model(format!(
            "{name}: the parameterisation criterion has no solution here, which leaves a residual of {residual:.1e}"
        )))
    };
    if !all.shared.is_empty() {
        return solve(&minimal(model.n_components()), theta);
    }
    let one = minimal(1);
    let flows: Result<Vec<_>> = all.components.iter().map(|theta| solve(&one, theta)).collect();
    Ok(flows?.concat())
}
