//! Model selection: several candidates on the same points, compared by a criterion.
//!
//! ```
//! use entropysum::selection::{self, Candidate, Criterion};
//! use entropysum::{em, Config, Executor, MixtureSpec, Points, Silent, family::registry, inference};
//!
//! // Two bells: sums of three numbers each, 40 apart.
//! let bell = |i: u32| f64::from(i % 7 + i / 7 % 7 + i / 49 % 7);
//! let values: Vec<f64> = (0..1029).map(|i| bell(i) + if i % 3 == 0 { 0.0 } else { 40.0 }).collect();
//! let points = Points::<f64>::from_rows(&values, 1)?;
//! let sizes = [1, 2, 3, 4];
//! let candidates = selection::fit_all(sizes.len(), 1029, &Executor::new(None)?, |i, executor| {
//!     let spec = MixtureSpec::new(registry::build("gaussian-full", 1)?, sizes[i]);
//!     let fit = em::fit(&spec, &points, executor, &Config::default(), &mut Silent)?;
//!     let score = inference::score(&fit.model, &points, executor)?;
//!     Ok(Candidate { fit, score, held_out: None })
//! })?;
//! let best = selection::best(&candidates, Criterion::Bic).unwrap();
//! assert_eq!(sizes[best], 2);
//! # Ok::<(), entropysum::Error>(())
//! ```

use crate::em::Fit;
use crate::error::Result;
use crate::exec::Executor;
use crate::inference::Score;

/// Fewer points than this a thread, and a sweep has too little to share out: then candidates are. Two lanes' worth of
/// [`em::sweep`](crate::em::sweep).
const POINTS_PER_THREAD: u64 = 4096;

/// What candidates are compared by; lower is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Criterion {
    /// [`Score::bic`].
    #[default]
    Bic,
    /// [`Score::aic`].
    Aic,
    /// [`Score::icl`].
    Icl,
    /// `-2 W` times the entropy sum: the deviance with the bound after the last M-step in the place of the
    /// log-likelihood. Nothing in it punishes size, so it compares models of one size, or shows where growth pays less.
    EntropySum,
    /// `-2 W ℓ` with the mean log-density `ℓ` of points that were held out of the fit, for comparison times the weight
    /// of those that were not.
    HeldOut,
}

impl Criterion {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Bic, Self::Aic, Self::Icl, Self::EntropySum, Self::HeldOut];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bic => "bic",
            Self::Aic => "aic",
            Self::Icl => "icl",
            Self::EntropySum => "entropy-sum",
            Self::HeldOut => "held-out",
        }
    }

    /// The value of a candidate; NaN if it has no iteration to tell an entropy sum, or nothing was held out.
    pub fn value<M>(self, candidate: &Candidate<M>) -> f64 {
        let score = &candidate.score;
        match self {
            Self::Bic => score.bic(),
            Self::Aic => score.aic(),
            Self::Icl => score.icl(),
            Self::EntropySum => {
                let total = candidate.fit.last().map_or(f64::NAN, |last| last.entropy_sum.total());
                -2.0 * score.total_weight * total
            }
            Self::HeldOut => {
                let held_out = candidate.held_out.map_or(f64::NAN, |score| score.log_likelihood);
                -2.0 * score.total_weight * held_out
            }
        }
    }
}

/// A fitted model and its scores.
#[derive(Clone, Debug)]
pub struct Candidate<M> {
    /// The fit.
    pub fit: Fit<M>,
    /// Its score on the points of the fit.
    pub score: Score,
    /// Its score on points that were held out.
    pub held_out: Option<Score>,
}

impl<M> Candidate<M> {
    /// Tells whether a floor holds up the likelihood: components have settled on ties or on too few points.
    pub fn is_degenerate(&self) -> bool {
        !self.fit.floored.is_empty()
    }
}

/// Returns the first of the candidates with the lowest value. Degenerate ones do not take part, since their likelihood is no
/// maximum. `None` if no other has a value that is a number.
pub fn best<M>(candidates: &[Candidate<M>], criterion: Criterion) -> Option<usize> {
    lowest(candidates, criterion, |candidate| !candidate.is_degenerate())
}

/// Returns the first of all candidates with the lowest value, degenerate ones among them.
pub fn best_of_all<M>(candidates: &[Candidate<M>], criterion: Criterion) -> Option<usize> {
    lowest(candidates, criterion, |_| true)
}

fn lowest<M>(
    candidates: &[Candidate<M>],
    criterion: Criterion,
    takes_part: impl Fn(&Candidate<M>) -> bool,
) -> Option<usize> {
    let those = candidates.iter().enumerate().filter(|(_, candidate)| takes_part(candidate));
    let values = those.map(|(i, candidate)| (i, criterion.value(candidate)));
    values.filter(|(_, value)| !value.is_nan()).min_by(|a, b| a.1.total_cmp(&b.1)).map(|it| it.0)
}

/// Makes `n_candidates` results by `fit`, from points that all share, in the order of their index.
///
/// Few points keep one thread busy: then candidates run side by side, each on an executor of one thread. Otherwise they
/// run one after the other on all threads. The results are the same.
///
/// # Errors
/// That of the first candidate, in their order, that has one.
pub fn fit_all<R: Send>(
    n_candidates: usize,
    n_points: u64,
    executor: &Executor,
    fit: impl Fn(usize, &Executor) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let is_shared = executor.ranks().is_some();
    if is_shared || n_points >= POINTS_PER_THREAD * executor.threads() as u64 {
        return (0..n_candidates).map(|i| fit(i, executor)).collect();
    }
    let mut results: Vec<Option<R>> = (0..n_candidates).map(|_| None).collect();
    executor.for_each(&mut results, |i, result| {
        let single = Executor::new(Some(1))?.with_simd(executor.simd());
        *result = Some(fit(i, &single)?);
        Ok(())
    })?;
    Ok(results.into_iter().flatten().collect())
}
