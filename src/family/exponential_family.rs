//! The trait of a family, and its parameters.

use super::{
    BaseMeasure, ConjugatePrior, Domain, Feature, KnownParameters, ProductBlock, Statistic,
    Support, Whitening,
};
use crate::stats::SuffStats;
use crate::work::Workers;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

/// Holds the standard parameters of all components of a mixture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    /// One row for each component: the arrays that [`ExponentialFamily::parameters`] lists, concatenated.
    pub components: Vec<Vec<f64>>,
    /// Parameters that all components share, concatenated in the same way.
    pub shared: Vec<f64>,
}

impl Parameters {
    /// Returns the parameters of one component.
    pub fn theta(&self, component: usize) -> Theta<'_> {
        Theta { component: &self.components[component], shared: &self.shared }
    }

    /// Returns the parameters of some components.
    pub(crate) fn part(&self, components: Range<usize>) -> Self {
        Self { components: self.components[components].to_vec(), shared: self.shared.clone() }
    }
}

/// The parameters of one component.
#[derive(Clone, Copy, Debug)]
pub struct Theta<'a> {
    /// Parameters of this component alone.
    pub component: &'a [f64],
    /// Parameters that it shares with all other components.
    pub shared: &'a [f64],
}

/// A named array of standard parameters, as model files and reports show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Name in the plural of the field, `"means"`.
    pub name: Cow<'static, str>,
    /// Shape of the array for one component; empty for a single number.
    pub shape: Vec<usize>,
    /// Whether all components share it.
    pub shared: bool,
}

impl ParameterSpec {
    /// Counts the values for one component.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Says whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A constraint on an array of parameters, whose values then cannot move independently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Constraint {
    /// No constraint.
    #[default]
    Free,
    /// The last two axes are a symmetric matrix.
    Symmetric,
    /// The last axis sums to 1.
    SumsToOne,
    /// The last axis is a vector of length 1.
    UnitVector,
}

/// Settings that keep components from collapsing in the M-step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Regularization {
    /// Added to every variance, in the data's squared units. With `None` nothing is added, and variances below a
    /// small part of the pooled within-component variance are lifted to that part.
    pub reg_covar: Option<f64>,
    /// Distance δ of neighbouring values in each column, as rounding leaves it; empty if unknown. Variances of Gaussians stay at
    /// δ²/12 or above, the variance of rounding errors: values that are known to ± δ/2 show no smaller spread. A fit without
    /// `reg_covar` finds it in its points.
    pub resolution: Vec<f64>,
    /// Relative rounding error of the statistics: the epsilon of the precision of their sums. A fit sets it.
    pub rounding: f64,
    /// Prior of covariances, under which M-steps maximise bound and log-prior together; `None` for maximum likelihood.
    pub prior: Option<ConjugatePrior>,
    /// Lower limits of the spread of each column that hold in this M-step; empty for those that
    /// [`floors`](ExponentialFamily::floors) finds in its statistics. A fit holds them: limits that rose would let the bound fall.
    pub floors: Vec<f64>,
}

impl Default for Regularization {
    fn default() -> Self {
        Self {
            reg_covar: None,
            resolution: Vec::new(),
            rounding: f64::EPSILON,
            prior: None,
            floors: Vec::new(),
        }
    }
}

impl Regularization {
    /// Returns the limits that hold, or those that `find` finds.
    pub(super) fn floors_or(&self, find: impl FnOnce() -> Vec<f64>) -> Vec<f64> {
        if self.floors.is_empty() { find() } else { self.floors.clone() }
    }
}

/// The result of the M-step for one component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its parameters maximise the bound.
    Maximized,
    /// They maximise it but for columns in which all points have one value. The spread of these stands at its floor.
    Constant,
    /// They maximise it under a floor that binds, of the spread in this column, or in all together. A univariate family has no column
    /// to name.
    Floored(Option<usize>),
    /// Its statistics define no parameters; the old parameters stay.
    Degenerate,
}

/// Numbers that come with a component's natural parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Packing {
    /// Log-partition `A(η)`.
    pub log_partition: f64,
    /// Size of the terms of `η · T(x)` at a typical point of the component: rounding errors of the working precision are
    /// relative to it. 0 if terms cannot cancel.
    pub cancellation: f64,
}

/// The centred form of a component: `ln p(x) = bias - ½ |F (x - mean)|²`.
#[derive(Clone, Debug, PartialEq)]
pub struct CentredForm {
    /// Mean, D values.
    pub mean: Vec<f64>,
    /// A factor of the precision.
    pub whitening: Whitening<f64>,
    /// `ln p(mean)`.
    pub bias: f64,
}

/// A function that draws points of one component.
pub type Sampler<'a> = Box<dyn Fn(&mut Xoshiro256PlusPlus, &mut [f64]) + Send + Sync + 'a>;

/// A family of distributions `p(x) = h(x) exp(η · T(x) - A(η))`, as components of a mixture.
///
/// All numbers are `f64`, and no method costs time of order N: only [`sampler`](Self::sampler) sees a point.
/// If [`is_location`](Self::is_location) holds, statistics are those of `x - centre`, and methods take the centre.
pub trait ExponentialFamily: Send + Sync + Debug {
    /// Returns the name on the command line and in files, `"gaussian-full"`.
    fn name(&self) -> String;

    /// Returns the dimension D of the points.
    fn dim(&self) -> usize;

    /// Lists the arrays of standard parameters, in the order of [`Parameters`].
    fn parameters(&self) -> Vec<ParameterSpec>;

    /// Returns the known parameters, which are given and not learned: one value for each column, or a single value.
    fn known(&self) -> KnownParameters {
        KnownParameters::default()
    }

    /// Lists the supports of disjoint ranges of columns; any finite point by default.
    fn domains(&self) -> Vec<Domain> {
        vec![Domain::new(0..self.dim(), Support::Real)]
    }

    /// Lists the statistics in which k-means finds the clusters of a start; the values themselves by default.
    fn features(&self) -> Vec<Feature> {
        (0..self.dim() as u32).map(|d| Feature::single(Statistic::Value(d))).collect()
    }

    /// Lists the scales in which k-means may find the clusters of a start, each with its features. Where there are several, a start
    /// tries all, and keeps that from which a few iterations of EM on its sample reach the largest bound.
    fn scales(&self) -> Vec<Vec<Feature>> {
        vec![self.features()]
    }

    /// Returns `ln h(x)`; constant by default (Prop. 4). It is summed once for a data set, and stands in every likelihood.
    fn log_base_measure(&self) -> BaseMeasure {
        BaseMeasure::default()
    }

    /// Lists the L statistics `T(x)` of each component.
    fn statistics(&self) -> Vec<Statistic>;

    /// Lists the statistics `T_0(x)` whose natural parameters all components share.
    fn shared_statistics(&self) -> Vec<Statistic> {
        Vec::new()
    }

    /// Says whether statistics are taken about a centre, which the family is free to choose.
    fn is_location(&self) -> bool {
        false
    }

    /// Returns a good centre for the statistics of this component, near its points.
    fn location(&self, _theta: Theta<'_>) -> Vec<f64> {
        Vec::new()
    }

    /// Sets to 0 those coordinates of a centre that are not the family's to choose.
    fn restrict_centre(&self, _centre: &mut [f64]) {}

    /// Lists the blocks of columns of a product; other families have no blocks.
    fn blocks(&self) -> &[ProductBlock] {
        &[]
    }

    /// Moves statistics to other centres, C × D, as if they had been summed about these. Location families must provide
    /// this; other families have no centres.
    fn translate(&self, _stats: &mut SuffStats, _centres: &[f64]) {
        assert!(!self.is_location(), "a location family must translate its statistics");
    }

    /// Mends sums of a component that rounding has made sums of no points: a bound of negative variances has no limit.
    fn mend(&self, _mass: f64, _sums: &mut [f64]) {}

    /// Counts the free parameters of a mixture with `n_components`, without the weights.
    fn n_free_parameters(&self, n_components: usize) -> usize;

    /// Checks the parameters of a component that a file or a caller gives.
    ///
    /// # Errors
    /// Returns a message that names the parameter, its value and the range that was expected.
    fn check(&self, theta: Theta<'_>) -> Result<(), String>;

    /// Writes the natural parameters `η` of each component (L values) for statistics about its centre.
    ///
    /// # Shapes
    /// `centres: C × D` (or empty), `eta: C × L`, row-major.
    fn natural(&self, parameters: &Parameters, centres: &[f64], eta: &mut [f64]) -> Vec<Packing>;

    /// Writes the natural parameters `η_0` of the shared statistics.
    fn shared_natural(&self, _shared: &[f64], _eta: &mut [f64]) {}

    /// Returns the pseudo entropy `A - η · ∇A(η)` of each component (Eqn 51), in nats: its entropy if the base measure is 1.
    fn pseudo_entropies(&self, parameters: &Parameters) -> Vec<f64>;

    /// Returns the entropy of a component in nats, if it has a closed form: the pseudo entropy if the base measure is 1.
    fn entropy(&self, theta: Theta<'_>) -> Option<f64> {
        let parameters = Parameters {
            components: vec![theta.component.to_vec()],
            shared: theta.shared.to_vec(),
        };
        self.log_base_measure().is_one().then(|| self.pseudo_entropies(&parameters)[0])
    }

    /// Sums `w_n q_n(c)` times the pseudo entropy of component c at point n over n and c. This is mass times pseudo
    /// entropy, unless points differ in the values that are observed.
    fn observable_entropy(&self, parameters: &Parameters, stats: &SuffStats) -> f64 {
        let parts = stats.mass().iter().zip(self.pseudo_entropies(parameters));
        parts.map(|(m, h)| if *m > 0.0 { m * h } else { 0.0 }).sum()
    }

    /// Writes the mean map `∇A(η) = E T(x - centre)`: L values, then those of the L₀ shared statistics.
    fn mean(&self, theta: Theta<'_>, centre: &[f64], mean: &mut [f64]);

    /// Returns `Σ_n Σ_c w_n q_n(c) ln p̃(x_n | c)` from statistics alone; `p̃` has no base measure.
    fn log_likelihood(&self, parameters: &Parameters, stats: &SuffStats) -> f64;

    /// Returns the lower limit of the spread of each of the D columns that [`maximize`](Self::maximize) would find in the
    /// statistics; empty if the likelihood of the family is bounded.
    fn floors(&self, _stats: &SuffStats, _regularization: &Regularization) -> Vec<f64> {
        Vec::new()
    }

    /// Tells whether the family has covariances, which may have a prior.
    fn takes_prior(&self) -> bool {
        false
    }

    /// Returns the sum of the components' log-priors without their constants, in nats, over the weight of all points.
    fn log_prior(&self, _: &Parameters, _: &SuffStats, _prior: &ConjugatePrior) -> f64 {
        0.0
    }

    /// Performs the M-step: sets the parameters of the components marked in `update` to those whose mean map gives the
    /// mean statistics.
    fn maximize(
        &self,
        stats: &SuffStats,
        update: &[bool],
        regularization: &Regularization,
        parameters: &mut Parameters,
    ) -> Vec<Outcome>;

    /// Finds the same [`floors`](Self::floors) on the threads of `workers`.
    fn floors_by(
        &self,
        stats: &SuffStats,
        regularization: &Regularization,
        _workers: &dyn Workers,
    ) -> Vec<f64> {
        self.floors(stats, regularization)
    }

    /// Does the same M-step as [`maximize`](Self::maximize) on the threads of `workers`, with the same bits. Worth its lines for a family
    /// that is taken in thousands of components.
    fn maximize_by(
        &self,
        stats: &SuffStats,
        update: &[bool],
        regularization: &Regularization,
        parameters: &mut Parameters,
        _workers: &dyn Workers,
    ) -> Vec<Outcome> {
        self.maximize(stats, update, regularization, parameters)
    }

    /// Returns the centred form of a component, if the family has this form.
    fn centred(&self, _theta: Theta<'_>) -> Option<CentredForm> {
        None
    }

    /// Returns the same family for points with missing values, which are NaN: their density is that of the observed values.
    /// `None` if dimensions depend on each other, or the family has no such form.
    ///
    /// Parameters are the same, statistics are not: see [`Statistic::Observed`].
    fn ignoring_missing(&self) -> Option<Arc<dyn ExponentialFamily>> {
        None
    }

    /// Tells whether E-steps put expectations in the place of statistics of missing values. By default statistics of a missing value
    /// are 0.
    fn fills_missing(&self) -> bool {
        false
    }

    /// Says whether zeros of points may be left out: statistics are the values themselves, zero lies in the support, and
    /// the base measure is made of `ln Γ`. This follows from the other methods.
    fn takes_sparse(&self) -> bool {
        let holds_zero = |domain: &Domain| {
            let support = domain.support;
            !domain.missing && !support.is_of_vectors() && support.contains(0.0)
        };
        let is_ln_gamma = |statistic: &Statistic| {
            matches!(statistic, Statistic::LnGamma { .. } | Statistic::LnGammaOfSum { .. })
        };
        let values = (0..self.dim() as u32).map(Statistic::Value);
        !self.is_location()
            && self.shared_statistics().is_empty()
            && self.statistics().into_iter().eq(values)
            && self.domains().iter().all(holds_zero)
            && self.log_base_measure().terms.iter().all(|(statistic, _)| is_ln_gamma(statistic))
    }

    /// Splits a component into two halves, from which both start. Returns whether the halves differ.
    fn split(&self, _theta: Theta<'_>, _halves: [&mut Vec<f64>; 2]) -> bool {
        false
    }

    /// Returns the constraint on the array of this name; no constraint by default.
    fn constraint(&self, _parameter: &str) -> Constraint {
        Constraint::Free
    }

    /// Returns `β` of Definition 1, if it has a closed form: the tangent `dθ/ds` of scaling all natural parameters,
    /// `η → s η`.
    fn scaling_flow(&self, _parameters: &Parameters) -> Option<Parameters> {
        None
    }

    /// Prepares to draw points of a component.
    fn sampler<'a>(&'a self, theta: Theta<'a>) -> Sampler<'a>;
}
