//! Watches fits: records of iterations, reasons to stop, events.

#[cfg(feature = "cli")]
mod bars;
pub(crate) mod convergence;
pub(crate) mod history;
pub(crate) mod plateau;
#[cfg(feature = "cli")]
pub mod plot;

pub(crate) use convergence::Convergence;
pub use convergence::Monitor;
pub use history::History;
pub(crate) use plateau::Plateau;

use crate::entropy::EntropySum;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::ControlFlow;

/// Holds what is known after an iteration of EM. All values are nats per point.
///
/// Row `t` describes iteration `t`: [`log_likelihood`](Self::log_likelihood) is that of the parameters before
/// its M-step, [`entropy_sum`](Self::entropy_sum) and [`lower_bound`](Self::lower_bound) belong to the parameters
/// after it, with the posteriors of its E-step. For exact posteriors and an exact M-step
/// `log_likelihood ≤ entropy_sum = lower_bound ≤` the next row's `log_likelihood`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IterRecord {
    /// Iteration, from 1.
    pub iteration: usize,
    /// Wall-clock seconds since the fit began.
    pub seconds: f64,
    /// Points seen by E-steps since the fit began.
    pub points_seen: u64,
    /// The entropy sum and its terms.
    pub entropy_sum: EntropySum,
    /// The lower bound `F(q, Θ)` from the statistics.
    pub lower_bound: f64,
    /// Log-prior of the parameters after the M-step without its constants, if they have a prior.
    pub log_prior: Option<f64>,
    /// Log-likelihood of the parameters before the M-step, which the E-step yields for free. With hard posteriors it
    /// is the classification log-likelihood, the bound `F(q, Θ)` before the M-step.
    pub log_likelihood: f64,
    /// Change of the monitored value since the iteration before.
    pub change: f64,
    /// Components with positive weight.
    pub active_components: usize,
    /// Events of the iteration.
    pub events: Vec<Event>,
    /// Further values of a fit by minibatches.
    pub minibatch: Option<Minibatch>,
    /// Both halves of the gap, of models whose networks learn by gradients.
    pub gap_halves: Option<GapHalves>,
    /// Joint log-densities `ln p(x_n, c)` that E-steps have computed since the fit began, of mixtures with truncated posteriors. Exact
    /// ones take N C in each iteration.
    pub joint_evaluations: Option<u64>,
}

/// Holds both halves of the [gap](IterRecord::gap) of a model with Gaussian observables and any decoder (Eqn 32), in nats per point.
///
/// Each is a derivative of the bound with respect to scales, and 0 where these are at their maximum, whatever the networks are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GapHalves {
    /// The half of the prior, `½ Σ_h (1 - M_h / α_h)`: below 0, latents are spread wider than their prior.
    pub prior: f64,
    /// The half of the noise, `½ Σ_d (1 - R_d / σ_d²)`: below 0, the noise is too small for the reconstructions.
    pub noise: f64,
    /// Standard deviation of the bound that comes from samples of the latents, an upper limit; 0 where nothing is sampled.
    pub sampling_error: f64,
}

/// Holds further values of a fit by minibatches. The other fields are then those of the running statistics: entropy sum and
/// bound of the parameters after the last step, with posteriors and weights of all steps (theory 1.6). The
/// log-likelihood is the running mean of those of the batches, each under the parameters of its time; the
/// [`delta`](IterRecord::delta) from it certifies nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Minibatch {
    /// Last step size γ.
    pub step_size: f64,
    /// Effective number of points in the running statistics: at most as many as the source has.
    pub effective_points: f64,
    /// Standard error of the entropy sum as an estimate for new points, in nats; NaN while it is not known.
    pub standard_error: f64,
    /// Improvement of the entropy sum in the last window of the stopping rule, in nats; NaN before.
    pub improvement: f64,
    /// Estimate of the log-likelihood still to be gained, in nats; NaN while there is none.
    pub remaining: f64,
    /// Log-likelihood of the parameters by a pass over the points, or those held out, in nats; NaN where none was made.
    pub audit: f64,
}

/// Says how far the bound of truncated posteriors is below the log-likelihood, from a sample of the points.
///
/// `L - F = -1/N Σ_n ln Q_n`, with `Q_n` the exact posterior mass of the set of a point; nats per point.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TruncationLoss {
    /// Mean of `-ln Q_n` over the sample, in nats.
    pub loss: f64,
    /// Standard error of the mean, in nats.
    pub standard_error: f64,
    /// Mean exact log-likelihood of the sample, in nats.
    pub log_likelihood: f64,
    /// Points of the sample.
    pub n_points: u64,
}

impl Minibatch {
    /// Counts each of `distinct` points once: points that are seen again tell nothing new of those that are still to come.
    pub(crate) fn without_repeats(mut self, distinct: f64) -> Self {
        if self.effective_points > distinct {
            self.standard_error *= (self.effective_points / distinct).sqrt();
            self.effective_points = distinct;
        }
        self
    }
}

impl IterRecord {
    /// `lower_bound - entropy_sum`: 0 to rounding after an exact M-step, else the known correction.
    ///
    /// With a ridge ε on the variances, for example, `ε/2 Σ_c q̄_c tr Σ_c⁻¹`; that of a prior stands at
    /// [`ConjugatePrior`](crate::family::ConjugatePrior). A gap of 0 alone proves no convergence.
    pub fn gap(&self) -> f64 {
        self.lower_bound - self.entropy_sum.total()
    }

    /// Returns what M-steps maximise: the lower bound, plus the log-prior if there is a prior. It rises in every iteration.
    pub fn objective(&self) -> f64 {
        self.lower_bound + self.log_prior.unwrap_or(0.0)
    }

    /// `entropy_sum - log_likelihood`: a certified lower bound of what the iteration gained.
    ///
    /// For exact posteriors and M-steps it is `KL(π'‖π) + Σ_c π'_c KL(p'_c‖p_c)`, which is
    /// positive (to rounding) and 0 only at a fixed point of EM.
    pub fn delta(&self) -> f64 {
        self.entropy_sum.total() - self.log_likelihood
    }
}

/// Reports an event of a fit that the user should know, such as a discarded component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// Variances of these components, or what other families have in their place, stand at their floor.
    Floored {
        /// The components.
        components: Vec<usize>,
        /// The columns, from 0: of each component that in which the floor lifts the spread most. None where a floor is that of all columns
        /// together.
        columns: Vec<usize>,
    },
    /// In some columns all points have one value; the spread of these columns stands at its floor in these components.
    Constant {
        /// The components.
        components: Vec<usize>,
    },
    /// Statistics of these components are on the verge of overflow; they keep their parameters.
    Kept {
        /// The components.
        components: Vec<usize>,
    },
    /// A component without points was moved to share the place of another.
    Split {
        /// The component that was moved.
        component: usize,
        /// The component with the largest entropy contribution, which was cut in two.
        donor: usize,
    },
    /// A component was removed.
    Discarded {
        /// The component.
        component: usize,
        /// Why.
        reason: String,
    },
    /// Noise variances of these variables stand at their floor.
    NoiseFloored {
        /// The variables, as columns from 0.
        variables: Vec<usize>,
    },
    /// A factor explains these variables as good as entirely: the likelihood has no maximum inside.
    Heywood {
        /// The variables, as columns from 0.
        variables: Vec<usize>,
    },
    /// The posteriors of these latents are as good as their prior at every point: nothing is coded in them.
    Collapsed {
        /// The latents.
        latents: Vec<usize>,
    },
    /// The start could not place all components.
    FewerComponents {
        /// Components asked for.
        asked: usize,
        /// Components that could be placed.
        placed: usize,
    },
}

impl Event {
    /// Returns the components whose spread stands at its floor.
    pub(crate) fn floored(&self) -> Option<&[usize]> {
        match self {
            Self::Floored { components, .. } => Some(components),
            _ => None,
        }
    }

    /// Returns whether parameters were set by other means than an M-step.
    pub fn is_repair(&self) -> bool {
        matches!(self, Self::Split { .. } | Self::Discarded { .. } | Self::FewerComponents { .. })
    }
}

/// With columns by number; [`Event::describe`] calls them by names.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, None)
    }
}

impl Event {
    /// Describes the event in words, with the names of the columns if there are any.
    ///
    /// ```
    /// use entropysum::monitor::Event;
    ///
    /// let event = Event::NoiseFloored { variables: vec![0, 2] };
    /// assert!(event.to_string().contains("column(s) [0, 2]"));
    /// let names = ["ash", "hue", "proline"].map(str::to_owned);
    /// assert!(event.describe(Some(&names)).contains("column(s) [ash, proline]"));
    /// ```
    pub fn describe(&self, names: Option<&[String]>) -> String {
        let mut text = String::new();
        self.write(&mut text, names).expect("strings take all");
        text
    }

    fn write(&self, f: &mut dyn fmt::Write, names: Option<&[String]>) -> fmt::Result {
        match self {
            Self::Floored { components, columns } => {
                let places = match columns.is_empty() {
                    true => String::new(),
                    false => format!(" in column(s) {}", some(columns, names)),
                };
                write!(
                    f,
                    "the spread of component(s) {}{places} stands at its floor: they have settled on ties or on too few points. \
                     The likelihood is no maximum then; ask for fewer components, or give variances a prior (--prior conjugate) or a ridge (--reg-covar)",
                    some(components, None)
                )
            }
            Self::Constant { components } => write!(
                f,
                "all points have one value in some columns; their spread stands at its floor in component(s) {}",
                some(components, None)
            ),
            Self::Kept { components } => {
                write!(
                    f,
                    "component(s) {} keep their parameters: their statistics overflow",
                    some(components, None)
                )
            }
            Self::Split { component, donor } => {
                write!(
                    f,
                    "component {component} had no points left; it now shares the place of component {donor}"
                )
            }
            Self::Discarded { component, reason } => {
                write!(f, "component {component} was discarded: {reason}")
            }
            Self::NoiseFloored { variables } => {
                write!(
                    f,
                    "noise variances of column(s) {} stand at their floor",
                    some(variables, names)
                )
            }
            Self::Heywood { variables } => write!(
                f,
                "factors leave less than half a percent of the variance of column(s) {} to noise; unless they are as \
                 clean as that, this is a Heywood case: ask for fewer factors, or leave the columns out",
                some(variables, names)
            ),
            Self::Collapsed { latents } => write!(
                f,
                "{} latent(s) carry nothing: their posteriors are the prior at every point: {}. Fewer latents suffice",
                latents.len(),
                some(latents, None)
            ),
            Self::FewerComponents { asked, placed } => write!(
                f,
                "{placed} of {asked} components placed: there are fewer distinct points, or the others found none"
            ),
        }
    }
}

/// `[1, 2, 5]`, or the names of these components or columns; of many the first and how many more there are.
fn some(columns: &[usize], names: Option<&[String]>) -> String {
    const SHOWN: usize = 8;
    let name = |&column: &usize| match names.and_then(|names| names.get(column)) {
        Some(name) => name.clone(),
        None => column.to_string(),
    };
    let shown: Vec<String> = columns.iter().take(SHOWN).map(name).collect();
    let more = match columns.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!("[{}{more}]", shown.join(", "))
}

/// Names the reason why a fit ended. A fit that does not converge is no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StopReason {
    /// The monitored value changed by less than the tolerance.
    Converged,
    /// `max_iter` iterations were done.
    MaxIterations,
    /// All passes over the points were done.
    Epochs,
    /// `max_seconds` had passed.
    MaxSeconds,
    /// The observer ended it by a rule of its own.
    Observer,
    /// The user interrupted the fit, and with it all starts that were still to come.
    Interrupted,
}

impl StopReason {
    /// Returns the name in files: `converged`, `max_iter`, `epochs`, `max_seconds`, `observer`, `interrupted`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::MaxIterations => "max_iter",
            Self::Epochs => "epochs",
            Self::MaxSeconds => "max_seconds",
            Self::Observer => "observer",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Follows a fit, and may end it.
///
/// Any `FnMut(&IterRecord) -> ControlFlow<StopReason>` is one; [`observe`] makes one of a closure without type annotations.
pub trait Observer {
    /// Called after each iteration; a break ends the fit with that reason.
    fn on_iteration(&mut self, record: &IterRecord) -> ControlFlow<StopReason>;

    /// Called after each minibatch, between records; a break ends the fit with that reason.
    fn on_batch(&mut self, _points_seen: u64) -> ControlFlow<StopReason> {
        ControlFlow::Continue(())
    }

    /// Called when a run from a fresh start begins, counted from 0.
    fn on_start(&mut self, _run: usize) {}
}

impl<F: FnMut(&IterRecord) -> ControlFlow<StopReason>> Observer for F {
    fn on_iteration(&mut self, record: &IterRecord) -> ControlFlow<StopReason> {
        self(record)
    }
}

/// Makes an observer of a closure, which needs no type annotations here.
///
/// The closure returns nothing, or a [`ControlFlow`] whose break ends the fit.
///
/// ```
/// use entropysum::{em, Config, Executor, MixtureSpec, Points, StopReason, family, observe};
/// use std::ops::ControlFlow;
///
/// let points = Points::<f64>::from_rows(&[1.0, 1.9, 2.4, 2.0, 3.1, 2.8, 3.9, 1.5], 1)?;
/// let spec = MixtureSpec::new(family::registry::build("gaussian-full", 1)?, 2);
/// let (config, executor) = (Config::default(), Executor::new(Some(1))?);
///
/// let mut bounds = Vec::new();
/// let mut watch = observe(|record| bounds.push(record.lower_bound));
/// em::fit(&spec, &points, &executor, &config, &mut watch)?;
/// drop(watch); // it borrows the bounds
/// assert!(bounds.is_sorted());
///
/// let mut stop = observe(|record| match record.iteration {
///     1 => ControlFlow::Break(StopReason::Observer),
///     _ => ControlFlow::Continue(()),
/// });
/// let fit = em::fit(&spec, &points, &executor, &config, &mut stop)?;
/// assert_eq!(fit.stop_reason, StopReason::Observer);
/// # Ok::<(), entropysum::Error>(())
/// ```
pub fn observe<R: Verdict>(mut closure: impl FnMut(&IterRecord) -> R) -> impl Observer {
    move |record: &IterRecord| closure(record).into_control_flow()
}

/// Whether a fit goes on: the return value of closures for [`observe`].
pub trait Verdict {
    /// Says whether the fit goes on, or why it ends.
    fn into_control_flow(self) -> ControlFlow<StopReason>;
}

/// The fit goes on.
impl Verdict for () {
    fn into_control_flow(self) -> ControlFlow<StopReason> {
        ControlFlow::Continue(())
    }
}

impl Verdict for ControlFlow<StopReason> {
    fn into_control_flow(self) -> ControlFlow<StopReason> {
        self
    }
}

/// Ignores all records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn on_iteration(&mut self, _: &IterRecord) -> ControlFlow<StopReason> {
        ControlFlow::Continue(())
    }
}
