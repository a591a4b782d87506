//! The variational family of a mixture.

use crate::family::ExponentialFamily;
use crate::family::label::LabelBlock;

/// Components, and points of each, from which on truncated posteriors are chosen.
const MANY: usize = 1000;
const POINTS_EACH: u64 = 20;

/// The variational family of a mixture: the distributions over components from which the E-step chooses.
/// [`LatentPosterior`](crate::model::LatentPosterior) is that of a belief network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Posterior {
    /// All distributions: `q_n` is the exact posterior.
    #[default]
    Exact,
    /// Distributions with all mass on one component (classification EM; k-means is the limit).
    Hard,
    /// Distributions with all mass on a set of few components, which each point keeps from one E-step to the next. The cost of a
    /// point does not grow with C.
    Truncated(TruncatedSearch),
}

/// How large the sets of truncated posteriors are, and among which components they look for better members.
///
/// The search costs speed and quality if these are small. It never makes the bound fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TruncatedSearch {
    /// Components of a set at most.
    pub states: usize,
    /// Components that are tried for a point: the nearest ones to its most probable component.
    pub neighbours: usize,
    /// Random components that are tried besides.
    pub random: usize,
}

impl Default for TruncatedSearch {
    fn default() -> Self {
        Self { states: 8, neighbours: 64, random: 1 }
    }
}

impl TruncatedSearch {
    setters! {
        states: usize,
        neighbours: usize,
        random: usize,
    }

    /// Returns sizes of sets and lists that are no larger than the mixture.
    pub(crate) fn at_most(self, n_components: usize) -> Self {
        let (states, neighbours) =
            (self.states.min(n_components), self.neighbours.min(n_components));
        Self { states, neighbours, ..self }
    }
}

impl Posterior {
    /// Returns the posteriors that the command line takes unless others are asked for: truncated ones for 1000 components and more of
    /// at least 20 points each, else exact ones.
    ///
    /// At this size an iteration takes three times less processor time or better. Fits end within 0.06 nats of exact ones for Gaussians,
    /// within 0.43 for counts (BENCHMARKS.md, *Very many components*). Points with labels, or with missing values that the family fills,
    /// have exact posteriors. So have sparse points, which a search would read with all zeros.
    ///
    /// ```
    /// use entropysum::family::registry;
    /// use entropysum::model::{Posterior, TruncatedSearch};
    ///
    /// let family = registry::build("gaussian-diag", 2)?;
    /// let many = Posterior::automatic(&*family, 2000, 1_000_000, false);
    /// assert_eq!(many, Posterior::Truncated(TruncatedSearch::default()));
    /// assert_eq!(Posterior::automatic(&*family, 20, 1_000_000, false), Posterior::Exact);
    /// # Ok::<(), entropysum::Error>(())
    /// ```
    pub fn automatic(
        family: &dyn ExponentialFamily,
        n_components: usize,
        n_points: u64,
        is_sparse: bool,
    ) -> Self {
        match can_truncate(family) && !is_sparse {
            true => Self::of_factor_analyzers(n_components, n_points),
            false => Self::Exact,
        }
    }

    /// Returns the posteriors that the command line takes for mixtures of factor analysers, by the same rule.
    ///
    /// An iteration takes 35 times less processor time at 1000 components (BENCHMARKS.md, *Factor analysers*).
    ///
    /// ```
    /// use entropysum::model::Posterior;
    ///
    /// assert_eq!(Posterior::of_factor_analyzers(2000, 1_000_000).name(), "truncated");
    /// assert_eq!(Posterior::of_factor_analyzers(2000, 30_000), Posterior::Exact);
    /// ```
    pub fn of_factor_analyzers(n_components: usize, n_points: u64) -> Self {
        match n_components >= MANY && n_points >= POINTS_EACH * n_components as u64 {
            true => Self::Truncated(TruncatedSearch::default()),
            false => Self::Exact,
        }
    }

    /// Returns the name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Hard => "hard",
            Self::Truncated(_) => "truncated",
        }
    }
}

/// Tells whether few components can do for a point: those of a list may all have other labels than a point, and nothing fills missing
/// values.
pub(crate) fn can_truncate(family: &dyn ExponentialFamily) -> bool {
    !family.fills_missing() && LabelBlock::of(family).is_none()
}
