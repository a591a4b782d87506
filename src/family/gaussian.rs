//! Gaussians of every covariance structure, as mixture components (Prop. 4; tied ones by Definition 1 directly).
//!
//! | | statistics | `η` | entropy |
//! |---|---|---|---|
//! | full | `x, vech(x x')` | `Λ μ, -½ Λ` | `½ ln det(2π e Σ)` |
//! | diag | `x, x_d²` | `μ_d / v_d, -1 / 2 v_d` | `Σ_d ½ ln(2π e v_d)` |
//! | spherical | `x, |x|²` | `μ / v, -1 / 2 v` | `D/2 ln(2π e v)` |
//!
//! A tied covariance makes the quadratic statistics shared: components see `x` alone, and the scatter of the data is
//! summed once. Proposition 4 as stated does not cover that, since components share parameters; Definition 1 does,
//! with `θ = vech Σ` and `β = -vech Σ`, whatever the component (the flow that scales all natural parameters stays
//! inside the model).

mod factors;
mod m_step;

use self::factors::Factors;
use super::covariance::{Precision, Shape};
use super::observed_gaussian::ObservedGaussian;
use super::{
    CentredForm, ConjugatePrior, Constraint, Domain, ExponentialFamily, Outcome, Packing,
    ParameterSpec, Parameters, Regularization, Sampler, Statistic, Support, Theta, floor,
};
use crate::linalg::{Cholesky, symmetric_eigen};
use crate::stats::SuffStats;
use crate::work::{Alone, Workers};
use rand_distr::{Distribution, StandardNormal};
use std::f64::consts::FRAC_2_PI;
use std::sync::Arc;

/// The largest mean: larger means overflow when they are squared and summed.
const LARGEST: f64 = 1e140;

/// Covariance structure of a Gaussian mixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Covariance {
    /// Each component has its own matrix.
    Full,
    /// One matrix for all components.
    Tied,
    /// Each component has its own variances.
    Diag,
    /// Each component has a single variance.
    Spherical,
    /// One vector of variances for all components.
    TiedDiag,
    /// One variance for all components: k-means in the limit of hard posteriors and equal weights.
    TiedSpherical,
}

impl Covariance {
    /// Every structure.
    pub const ALL: [Self; 6] =
        [Self::Full, Self::Tied, Self::Diag, Self::Spherical, Self::TiedDiag, Self::TiedSpherical];

    /// Returns the suffix of the name after `gaussian-`: scikit-learn's name, if there is one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Tied => "tied",
            Self::Diag => "diag",
            Self::Spherical => "spherical",
            Self::TiedDiag => "tied-diag",
            Self::TiedSpherical => "tied-spherical",
        }
    }

    fn shape(self) -> Shape {
        match self {
            Self::Full | Self::Tied => Shape::Full,
            Self::Diag | Self::TiedDiag => Shape::Diagonal,
            Self::Spherical | Self::TiedSpherical => Shape::Spherical,
        }
    }

    fn is_tied(self) -> bool {
        matches!(self, Self::Tied | Self::TiedDiag | Self::TiedSpherical)
    }
}

/// The family of Gaussians in D dimensions with a given covariance structure.
///
/// Parameters: `means` (C × D) and `covariances` (full C × D × D, tied D × D, diag C × D, spherical C, tied-diag D,
/// tied-spherical one number).
///
/// ```
/// use entropysum::expert::family::ExponentialFamily;
/// use entropysum::family::{Covariance, Gaussian, Parameters};
///
/// let family = Gaussian::new(Covariance::Spherical, 3);
/// let parameters = Parameters { components: vec![vec![0.0, 1.0, 2.0, 0.25]], shared: vec![] };
/// let entropy = 1.5 * (2.0 * std::f64::consts::PI * std::f64::consts::E * 0.25).ln();
/// assert!((family.pseudo_entropies(&parameters)[0] - entropy).abs() < 1e-14);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gaussian {
    covariance: Covariance,
    dim: usize,
    /// Whether values may be missing, which full covariances fill.
    missing: bool,
    factors: Factors,
}

impl Gaussian {
    /// Makes the family of Gaussians in `dim` dimensions.
    pub fn new(covariance: Covariance, dim: usize) -> Self {
        Self { covariance, dim, missing: false, factors: Factors::default() }
    }

    /// Returns the covariance structure.
    pub fn covariance(&self) -> Covariance {
        self.covariance
    }

    pub(super) fn shape(&self) -> Shape {
        self.covariance.shape()
    }

    fn is_tied(&self) -> bool {
        self.covariance.is_tied()
    }

    pub(super) fn mean_of<'a>(&self, theta: Theta<'a>) -> &'a [f64] {
        &theta.component[..self.dim]
    }

    pub(super) fn covariance_of<'a>(&self, theta: Theta<'a>) -> &'a [f64] {
        if self.is_tied() { theta.shared } else { &theta.component[self.dim..] }
    }

    /// Factorises a covariance, unless its factor is kept. Returns `None` if it is not positive definite.
    fn precision(&self, covariance: &[f64]) -> Option<Arc<Precision>> {
        let factorise = || self.shape().precision(covariance, self.dim);
        match self.shape() {
            Shape::Full => self.factors.precision(covariance, factorise),
            Shape::Diagonal | Shape::Spherical => factorise().map(Arc::new),
        }
    }

    /// Returns `ln det(2π Σ)`, or `None` if `Σ` is not positive definite.
    fn log_det_2pi(&self, covariance: &[f64]) -> Option<f64> {
        match self.shape() {
            Shape::Full => self.precision(covariance).map(|precision| precision.log_det_2pi),
            shape => shape.log_det_2pi(covariance, self.dim),
        }
    }

    fn precision_of(&self, theta: Theta<'_>) -> Arc<Precision> {
        self.precision(self.covariance_of(theta))
            .expect("covariances of a model are positive definite")
    }

    /// Calls `f` with each component and its precision; a tied one is factorised once.
    fn for_each_precision(
        &self,
        parameters: &Parameters,
        f: &mut dyn FnMut(usize, Theta<'_>, &Precision),
    ) {
        let mut precision = None;
        for c in 0..parameters.components.len() {
            let theta = parameters.theta(c);
            if precision.is_none() || !self.is_tied() {
                precision = Some(self.precision_of(theta));
            }
            f(c, theta, precision.as_ref().expect("just set"));
        }
    }

    /// Returns the floor of variances as a part of the pooled variance.
    pub(super) fn relative_floor(&self, regularization: &Regularization) -> f64 {
        let relative = floor::ROUNDINGS * self.dim as f64 * regularization.rounding;
        match regularization.reg_covar {
            None => relative.max(floor::RELATIVE),
            Some(_) => relative,
        }
    }
}

impl ExponentialFamily for Gaussian {
    fn name(&self) -> String {
        format!("gaussian-{}", self.covariance.name())
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        vec![
            ParameterSpec { name: "means".into(), shape: vec![self.dim], shared: false },
            ParameterSpec {
                name: "covariances".into(),
                shape: self.shape().parameter_shape(self.dim),
                shared: self.is_tied(),
            },
        ]
    }

    fn statistics(&self) -> Vec<Statistic> {
        let mut statistics: Vec<_> = (0..self.dim as u32).map(Statistic::Value).collect();
        if !self.is_tied() {
            statistics.extend(self.shape().statistics(self.dim));
        }
        statistics
    }

    fn shared_statistics(&self) -> Vec<Statistic> {
        if self.is_tied() { self.shape().statistics(self.dim) } else { Vec::new() }
    }

    fn is_location(&self) -> bool {
        true
    }

    fn constraint(&self, parameter: &str) -> Constraint {
        match (parameter, self.shape()) {
            ("covariances", Shape::Full) => Constraint::Symmetric,
            _ => Constraint::Free,
        }
    }

    /// `(0, -Σ)`: scaling the natural parameters scales the precision and leaves the mean.
    fn scaling_flow(&self, parameters: &Parameters) -> Option<Parameters> {
        let flow = |values: &[f64], from: usize| {
            let of = |(i, value): (usize, &f64)| if i < from { 0.0 } else { -value };
            values.iter().enumerate().map(of).collect::<Vec<_>>()
        };
        Some(Parameters {
            components: parameters.components.iter().map(|theta| flow(theta, self.dim)).collect(),
            shared: flow(&parameters.shared, 0),
        })
    }

    fn location(&self, theta: Theta<'_>) -> Vec<f64> {
        self.mean_of(theta).to_vec()
    }

    /// Shared scatters are summed in `f64`, and stay.
    fn mend(&self, mass: f64, sums: &mut [f64]) {
        if !self.is_tied() && mass > 0.0 {
            let (first, second) = sums.split_at_mut(self.dim);
            self.shape().raise_to_zero(second, mass, first);
        }
    }

    /// Exact up to rounding: no digits are lost while both centres are within some widths of the component's mean.
    fn translate(&self, stats: &mut SuffStats, centres: &[f64]) {
        let mut shared = stats.shared().to_vec();
        for (c, centre) in centres.chunks(self.dim).enumerate() {
            let shift: Vec<f64> =
                centre.iter().zip(stats.centre(c)).map(|(to, c)| to - c).collect();
            let mass = stats.mass()[c];
            // What has no points stays zero, however far it is moved.
            if mass > 0.0 && shift.iter().any(|&s| s != 0.0) {
                let (first, second) = stats.sums_mut(c).split_at_mut(self.dim);
                let target = if self.is_tied() { &mut shared[..] } else { second };
                self.shape().translate(target, mass, first, &shift);
                first.iter_mut().zip(&shift).for_each(|(sum, s)| *sum -= mass * s);
            }
        }
        stats.shared_mut().copy_from_slice(&shared);
        stats.set_centres(centres);
    }

    fn n_free_parameters(&self, n_components: usize) -> usize {
        let covariance = match self.shape() {
            Shape::Full => self.dim * (self.dim + 1) / 2,
            Shape::Diagonal => self.dim,
            Shape::Spherical => 1,
        };
        n_components * self.dim
            + if self.is_tied() { covariance } else { n_components * covariance }
    }

    fn check(&self, theta: Theta<'_>) -> Result<(), String> {
        if let Some(d) = self.mean_of(theta).iter().position(|m| !(m.abs() <= LARGEST)) {
            let mean = self.mean_of(theta)[d];
            return Err(format!(
                "mean of dimension {d} is {mean}, expected a number within ±{LARGEST:e}"
            ));
        }
        let covariance = self.covariance_of(theta);
        if self.shape() == Shape::Full {
            let at = |i: usize, j: usize| covariance[i * self.dim + j];
            for (i, j) in (0..self.dim).flat_map(|i| (0..i).map(move |j| (i, j))) {
                let (a, b) = (at(i, j), at(j, i));
                if !((a - b).abs() <= 1e-9 * (at(i, i) * at(j, j)).abs().sqrt()) {
                    return Err(format!(
                        "covariance is not symmetric: {a} at ({i}, {j}), {b} at ({j}, {i})"
                    ));
                }
            }
        }
        match self.precision(covariance) {
            Some(_) => Ok(()),
            None => Err("covariance is not positive definite".into()),
        }
    }

    fn natural(&self, parameters: &Parameters, centres: &[f64], eta: &mut [f64]) -> Vec<Packing> {
        let n_statistics = eta.len() / parameters.components.len().max(1);
        let mut packings = Vec::with_capacity(parameters.components.len());
        self.for_each_precision(parameters, &mut |c, theta, precision| {
            let centre = &centres[c * self.dim..][..self.dim];
            let eta = &mut eta[c * n_statistics..][..n_statistics];
            let (linear, quadratic) = eta.split_at_mut(self.dim);
            let shift: Vec<f64> =
                self.mean_of(theta).iter().zip(centre).map(|(m, c)| m - c).collect();
            precision.apply(&shift, linear);
            quadratic.copy_from_slice(&precision.natural[..quadratic.len()]);
            let energy: f64 = linear.iter().zip(&shift).map(|(a, b)| a * b).sum();
            // A typical point lies a deviation beyond the mean, in each dimension.
            let variances = self.shape().variances(self.covariance_of(theta), self.dim);
            let typical: Vec<f64> =
                shift.iter().zip(&variances).map(|(s, v)| s.abs() + v.sqrt()).collect();
            packings.push(Packing {
                log_partition: 0.5 * (energy + precision.log_det_2pi),
                cancellation: precision.size_of_terms(&typical),
            });
        });
        packings
    }

    fn shared_natural(&self, shared: &[f64], eta: &mut [f64]) {
        if self.is_tied() {
            eta.copy_from_slice(&self.precision_of(Theta { component: &[], shared }).natural);
        }
    }

    fn pseudo_entropies(&self, parameters: &Parameters) -> Vec<f64> {
        let entropy = |c| {
            let covariance = self.covariance_of(parameters.theta(c));
            let log_det = self.log_det_2pi(covariance);
            0.5 * (log_det.expect("covariances of a model are positive definite") + self.dim as f64)
        };
        let n_components = parameters.components.len();
        if self.is_tied() {
            vec![entropy(0); n_components]
        } else {
            (0..n_components).map(entropy).collect()
        }
    }

    fn mean(&self, theta: Theta<'_>, centre: &[f64], mean: &mut [f64]) {
        let shift: Vec<f64> = self.mean_of(theta).iter().zip(centre).map(|(m, c)| m - c).collect();
        let (first, second) = mean.split_at_mut(self.dim);
        first.copy_from_slice(&shift);
        second.copy_from_slice(&self.shape().second_moment(self.covariance_of(theta), self.dim));
        // From about the mean to about the centre: the first moment about the mean is zero.
        let back: Vec<f64> = shift.iter().map(|s| -s).collect();
        self.shape().translate(second, 1.0, &vec![0.0; self.dim], &back);
    }

    fn log_likelihood(&self, parameters: &Parameters, stats: &SuffStats) -> f64 {
        let scatters = self.scatters(stats, &|c| self.mean_of(parameters.theta(c)), &Alone);
        let (width, mut sum) = (self.shape().n_packed(self.dim), 0.0);
        self.for_each_precision(parameters, &mut |c, _, precision| {
            sum -= 0.5 * stats.mass()[c] * precision.log_det_2pi;
            if let Some(scatter) = scatters.chunks_exact(width).nth(c) {
                sum += precision.natural.iter().zip(scatter).map(|(a, b)| a * b).sum::<f64>();
            }
        });
        sum
    }

    fn floors(&self, stats: &SuffStats, regularization: &Regularization) -> Vec<f64> {
        self.floors_by(stats, regularization, &Alone)
    }

    fn floors_by(
        &self,
        stats: &SuffStats,
        regularization: &Regularization,
        workers: &dyn Workers,
    ) -> Vec<f64> {
        self.find_floors(stats, regularization, workers)
    }

    /// Not if values are filled: the covariance of all points, and with it the scale of the prior, would change in each iteration.
    fn takes_prior(&self) -> bool {
        !self.missing
    }

    fn log_prior(&self, parameters: &Parameters, stats: &SuffStats, prior: &ConjugatePrior) -> f64 {
        let scale = self.prior(stats);
        let mut sum = 0.0;
        self.for_each_precision(parameters, &mut |c, _, precision| {
            let is_counted = if self.is_tied() { c == 0 } else { stats.mass()[c] > 0.0 };
            if is_counted {
                sum += precision.log_prior(&scale);
            }
        });
        sum / prior.total_weight.unwrap_or_else(|| stats.mass().iter().sum())
    }

    fn maximize(
        &self,
        stats: &SuffStats,
        update: &[bool],
        regularization: &Regularization,
        parameters: &mut Parameters,
    ) -> Vec<Outcome> {
        self.maximize_by(stats, update, regularization, parameters, &Alone)
    }

    fn maximize_by(
        &self,
        stats: &SuffStats,
        update: &[bool],
        regularization: &Regularization,
        parameters: &mut Parameters,
        workers: &dyn Workers,
    ) -> Vec<Outcome> {
        self.maximize_likelihood(stats, update, regularization, parameters, workers)
    }

    fn centred(&self, theta: Theta<'_>) -> Option<CentredForm> {
        let precision = self.precision_of(theta);
        Some(CentredForm {
            mean: self.mean_of(theta).to_vec(),
            whitening: precision.whitening(),
            bias: -0.5 * precision.log_det_2pi,
        })
    }

    fn ignoring_missing(&self) -> Option<Arc<dyn ExponentialFamily>> {
        match self.covariance {
            Covariance::Diag | Covariance::Spherical => {
                Some(Arc::new(ObservedGaussian::new(self.clone())))
            }
            Covariance::Full => Some(Arc::new(Self { missing: true, ..self.clone() })),
            _ => None,
        }
    }

    fn fills_missing(&self) -> bool {
        self.missing
    }

    fn domains(&self) -> Vec<Domain> {
        vec![Domain { missing: self.missing, ..Domain::new(0..self.dim, Support::Real) }]
    }

    /// Puts the halves at the means of the two halves of the component, cut across its longest axis.
    fn split(&self, theta: Theta<'_>, halves: [&mut Vec<f64>; 2]) -> bool {
        let covariance = self.covariance_of(theta);
        let mut axis = vec![0.0; self.dim];
        match self.shape() {
            Shape::Full => {
                let Some((values, vectors)) = symmetric_eigen(covariance, self.dim) else {
                    return false;
                };
                let deviation = values[self.dim - 1].max(0.0).sqrt();
                (0..self.dim).for_each(|i| axis[i] = deviation * vectors[(i, self.dim - 1)]);
            }
            Shape::Diagonal => {
                let widest = (0..self.dim)
                    .max_by(|&a, &b| covariance[a].total_cmp(&covariance[b]))
                    .unwrap_or(0);
                axis[widest] = covariance[widest].sqrt();
            }
            Shape::Spherical => axis.fill((covariance[0] / self.dim as f64).sqrt()),
        }
        let own = theta.component.to_vec();
        for (half, sign) in halves.into_iter().zip([1.0, -1.0]) {
            *half = own.clone();
            for (mean, step) in half.iter_mut().zip(&axis) {
                *mean += sign * FRAC_2_PI.sqrt() * step;
            }
        }
        true
    }

    fn sampler<'a>(&'a self, theta: Theta<'a>) -> Sampler<'a> {
        let (dim, mean, covariance) = (self.dim, self.mean_of(theta), self.covariance_of(theta));
        match self.shape() {
            Shape::Full => {
                let cholesky = Cholesky::new(covariance, dim)
                    .expect("covariances of a model are positive definite");
                Box::new(move |rng, point| {
                    point.copy_from_slice(mean);
                    for j in 0..dim {
                        let z: f64 = StandardNormal.sample(rng);
                        for (i, value) in point.iter_mut().enumerate().skip(j) {
                            *value += cholesky.factor()[(i, j)] * z;
                        }
                    }
                })
            }
            shape => {
                let deviations: Vec<f64> =
                    shape.variances(covariance, dim).iter().map(|v| v.sqrt()).collect();
                Box::new(move |rng, point| {
                    for d in 0..dim {
                        let z: f64 = StandardNormal.sample(rng);
                        point[d] = mean[d] + deviations[d] * z;
                    }
                })
            }
        }
    }
}
