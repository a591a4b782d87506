//! The traits of a model: parameters and M-steps, and E-steps on blocks of points.

use super::{Density, EntropySum};
use crate::block::Block;
use crate::error::{Error, Result};
use crate::family::{ConjugatePrior, Domain, Regularization};
use crate::kernels::dispatch::Simd;
use crate::monitor::Event;
use crate::scalar::Scalar;
use crate::stats::{DataConstants, SuffStats};
use crate::work::Workers;
use std::ops::Range;

/// A model `p(z) p(x | z)` that EM learns from sufficient statistics.
///
/// No method here sees a point: sweeps over the points are in [`EStep`], densities of points in [`Density`]. All values are
/// means over the weighted points, in nats. C is the number of components, D the dimension of a point.
///
/// Each iteration of EM calls, in this order:
///
/// | call | when |
/// |---|---|
/// | [`m_step_by`](Self::m_step_by) | after the sweep, with its statistics |
/// | [`recentre`](Self::recentre) | after the first M-step |
/// | [`bound_and_entropies_by`](Self::bound_and_entropies_by) | after the M-step, with the same statistics |
/// | [`repair`](Self::repair) | last, with the same statistics |
///
/// [`finish`](Self::finish) is called once, when the fit ends. A model must implement the methods without a default;
/// the others are for models with components, centres, missing values or long M-steps.
pub trait GenerativeModel: Clone + Send + Sync {
    /// Returns the dimension D of the points.
    fn dim(&self) -> usize;

    /// Returns which values the model accepts in which columns, beyond finite numbers. Called in the first sweep over a data
    /// set, for each block of points.
    fn domains(&self) -> Vec<Domain> {
        Vec::new()
    }

    /// Returns the same model for points with missing values, which are NaN. Their density is that of the observed values.
    ///
    /// # Errors
    /// If the dimensions are not independent given the latents.
    fn ignoring_missing(self) -> Result<Self> {
        let message = "missing values can be ignored by ppca, factor-analysis, autoencoders, binary sparse codes and mixtures of independent dimensions only";
        Err(Error::Model(message.to_owned()))
    }

    /// Tells whether the E-step takes blocks of sparse points, at a cost in proportion to their stored values.
    fn takes_sparse(&self) -> bool {
        false
    }

    /// Sets the parameters to those that maximise the bound given the statistics: the M-step.
    ///
    /// Returns the events that a user should know of, such as floored variances. A component with too few points keeps its
    /// parameters.
    fn m_step(&mut self, stats: &SuffStats, regularization: &Regularization) -> Vec<Event>;

    /// Does the same M-step on the threads of `workers`, with the same bits. Models with long M-steps cut them into pieces.
    fn m_step_by(
        &mut self,
        stats: &SuffStats,
        regularization: &Regularization,
        _workers: &dyn Workers,
    ) -> Vec<Event> {
        self.m_step(stats, regularization)
    }

    /// Tells whether the model has covariances, which may have a prior.
    fn takes_prior(&self) -> bool {
        false
    }

    /// Computes the log-prior of the parameters without its constants, in nats per point. An M-step under a prior maximises the sum
    /// of this and the bound.
    fn log_prior(&self, _stats: &SuffStats, _prior: &ConjugatePrior) -> f64 {
        0.0
    }

    /// Splits or discards components that have too few points for an M-step. Called after an M-step with its statistics; the
    /// bound may fall. A split takes one from `splits_left`.
    fn repair(&mut self, _stats: &SuffStats, _splits_left: &mut usize) -> Vec<Event> {
        Vec::new()
    }

    /// Changes statistics as [`repair`](Self::repair) has changed the components. Called if statistics outlive an M-step.
    ///
    /// The halves of a split component get their expected statistics; a discarded component loses its own.
    fn adopt(&self, _events: &[Event], _stats: &mut SuffStats) {}

    /// Returns the points about which statistics lose no digits: the means of the components. Called if statistics outlive an
    /// M-step. Empty for a model without centres.
    ///
    /// # Shapes
    /// C × D, row-major, or empty.
    fn centres(&self) -> Vec<f64> {
        Vec::new()
    }

    /// Moves statistics to other centres, without a change of what they describe. A model with
    /// [`centres`](Self::centres) must implement it.
    ///
    /// # Shapes
    /// `centres: C × D`, row-major.
    fn translate(&self, _stats: &mut SuffStats, centres: &[f64]) {
        assert!(centres.is_empty(), "a model with centres must translate statistics");
    }

    /// Chooses anew about which points later sweeps take their statistics: the means under the present parameters.
    fn recentre(&mut self) {}

    /// Returns the state of a fit that a model file leaves out, as numbers. Called for each checkpoint.
    fn forgotten(&self) -> Vec<f64> {
        Vec::new()
    }

    /// Restores the state that [`forgotten`](Self::forgotten) returned. Called on a model read from the file of a checkpoint.
    /// Returns false if the numbers do not fit this model.
    fn remind(&mut self, forgotten: &[f64]) -> bool {
        forgotten.is_empty()
    }

    /// Brings the parameters into the form in which files hold them, and drops discarded components. Called when a fit ends.
    fn finish(&mut self) {}

    /// Computes the entropy sum (Eqns 3, 50) of these parameters, with the posteriors that made the statistics.
    fn entropy_sum(&self, stats: &SuffStats) -> EntropySum;

    /// Computes the lower bound `F(q, Θ)` (Eqn 2) of these parameters, with the posteriors that made the statistics.
    fn lower_bound(&self, stats: &SuffStats) -> f64;

    /// Computes [`lower_bound`](Self::lower_bound) and [`entropy_sum`](Self::entropy_sum) on the threads of `workers`, with the
    /// same bits.
    fn bound_and_entropies_by(
        &self,
        stats: &SuffStats,
        _workers: &dyn Workers,
    ) -> (f64, EntropySum) {
        (self.lower_bound(stats), self.entropy_sum(stats))
    }

    /// Returns the number of free parameters, as information criteria count them.
    fn n_parameters(&self) -> usize;

    /// Returns the number of components with positive weight.
    fn active_components(&self) -> usize;
}

/// Whether a sweep must also sum the constants of the data: base measure and shared statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constants {
    /// The sweep sums the constants. The first sweep over a data set does.
    Sum,
    /// The sweep leaves the constants out. The caller has them from an earlier sweep over the same points.
    Known,
}

/// E-steps of a model on blocks of points, in precision `T`.
///
/// A sweep goes through all points once with fixed parameters. The engine calls, in this order:
///
/// | call | how often |
/// |---|---|
/// | [`check_e_step`](Self::check_e_step) | once |
/// | [`pack`](Self::pack), then [`new_stats`](Self::new_stats) | once; a second time if constants cannot be reused |
/// | [`workspace`](Density::workspace) | once for each lane |
/// | [`e_step`](Self::e_step) | for each block of the lane, in the order of the points |
/// | [`flush`](Self::flush) | once for each lane, after its last block |
/// | [`complete`](Self::complete) | once, with the merged statistics of all lanes |
/// | [`constants`](Self::constants) | once, if the sweep summed constants |
///
/// A lane is a share of the points that one thread goes through, with statistics and a workspace of its own. The statistics
/// of lanes are added as plain numbers, so each must be a sum over points until [`complete`](Self::complete).
///
/// A model must implement [`pack`](Self::pack), [`new_stats`](Self::new_stats) and [`e_step`](Self::e_step). All other
/// methods have defaults for a model without sums in the workspace, without constants and with small sums.
pub trait EStep<T: Scalar>: Density<T> {
    /// Refuses a model whose posteriors depend on more than its parameters and the point.
    ///
    /// # Errors
    /// Names the function that learns such a model.
    fn check_e_step(&self) -> Result<()> {
        Ok(())
    }

    /// Packs the parameters for a sweep over `n_points` points.
    fn pack(
        &self,
        simd: Simd,
        n_points: u64,
        constants: Constants,
        workers: &dyn Workers,
    ) -> Self::Packed;

    /// Counts the components that take whitened differences in place of packed products, and all that have the choice.
    fn paths(&self, _packed: &Self::Packed) -> [usize; 2] {
        [0; 2]
    }

    /// Returns the statistics of no points, in the shape that the sweep fills, with the centres that it takes.
    fn new_stats(&self, packed: &Self::Packed) -> SuffStats;

    /// Adds the statistics of a block of B × D points to `stats`.
    ///
    /// Add all values of the header (`total_weight`, `n_points`, `posterior_entropy`, `log_evidence`), `mass`, and the sums.
    /// Weights multiply every value except `n_points`. Sums may stay in the workspace until [`flush`](Self::flush).
    ///
    /// A value outside the range of `T` is no reason to panic: it makes `log_evidence` NaN or infinite, and the engine then
    /// ends the sweep with an error that names the point.
    fn e_step(
        &self,
        packed: &Self::Packed,
        block: Block<'_, T>,
        stats: &mut SuffStats,
        workspace: &mut Self::Workspace,
    );

    /// Adds the sums that are still in the workspace to `stats`, and sets them to zero.
    fn flush(
        &self,
        _packed: &Self::Packed,
        _stats: &mut SuffStats,
        _workspace: &mut Self::Workspace,
    ) {
    }

    /// Completes the merged statistics of a sweep. `known` holds the constants if the sweep left them out.
    fn complete(
        &self,
        _packed: &Self::Packed,
        _stats: &mut SuffStats,
        _known: Option<&DataConstants>,
    ) {
    }

    /// Returns the constants that a sweep has summed. `None` if they hold for the parameters of this sweep alone.
    fn constants(&self, _packed: &Self::Packed, _stats: &SuffStats) -> Option<DataConstants> {
        Some(DataConstants::default())
    }

    /// Tells whether a sweep with these parameters would sum the same constants.
    fn can_reuse(&self, _packed: &Self::Packed, _constants: &DataConstants) -> bool {
        true
    }

    /// Returns the E-step in two halves, if the model offers it. Called if the sums are too large for a copy in every lane.
    fn halves(&self) -> Option<&dyn HalvedEStep<T, Self::Packed, Self::Workspace>> {
        None
    }
}

/// An E-step in two halves, for models whose sums are too large for a copy in every lane.
///
/// The first half is parallel over points and keeps their responsibilities. The second half is parallel over columns of the
/// logits, so that each sum exists once. `P` and `W` are the model's [`Packed`](Density::Packed) and
/// [`Workspace`](Density::Workspace).
pub trait HalvedEStep<T: Scalar, P, W>: Sync {
    /// Adds all statistics of a block but the sums, and writes its weighted responsibilities.
    ///
    /// # Shapes
    /// `responsibilities: B × C`, column-major, in the order of the columns of the logits.
    fn posteriors(
        &self,
        packed: &P,
        block: Block<'_, T>,
        stats: &mut SuffStats,
        workspace: &mut W,
        responsibilities: &mut [T],
    );

    /// Packs what the second half needs of some columns of the logits.
    fn slice(&self, packed: &P, columns: Range<usize>) -> P;

    /// Adds the sums of a block for the columns of a slice. The other arguments are those of the slice, too.
    fn accumulate(
        &self,
        slice: &P,
        block: Block<'_, T>,
        responsibilities: &[T],
        stats: &mut SuffStats,
        workspace: &mut W,
    );

    /// Returns the component of a column of the logits.
    fn component(&self, _packed: &P, column: usize) -> usize {
        column
    }
}
