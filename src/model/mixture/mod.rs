//! Mixtures of exponential families (Definition 5, Props. 4 and 5).
//!
//! `p(x) = Σ_c π_c h(x) exp(η_c · T(x) - A(η_c))`. Over a tile of B points the E-step is
//!
//! ```text
//! T = T(X)           B × L   statistics           kernels::statistics
//! Z = T H + b        B × C   b_c = ln π_c - A_c   kernels::affine
//! R = softmax(Z)     B × C                        kernels::softmax
//! S += T' R          L × C                        faer's matmul
//! ```
//!
//! and nothing of size N × C exists. Components whose packed logits would cancel (narrow, and far from the centre
//! of the data) take whitened differences instead; `e_step.rs` says when.

mod e_step;
mod m_step;
mod table;

pub(super) use e_step::cancellation_tolerance;

use super::repair::{self, Repairable, STEP_APART};
use super::{BlockSampler, EntropySum, GenerativeModel, Posterior, Sample};
use crate::error::{Error, Result};
use crate::family::label::LabelBlock;
use crate::family::{
    ConjugatePrior, Domain, ExponentialFamily, Parameters, Regularization, Support, Theta,
};
use crate::monitor::Event;
use crate::rng;
use crate::stats::{StatsShape, SuffStats};
use crate::work::{Alone, Workers};
use std::sync::Arc;

/// A mixture of C distributions of one exponential family.
#[derive(Clone, Debug)]
pub struct Mixture {
    family: Arc<dyn ExponentialFamily>,
    posterior: Posterior,
    weights: Vec<f64>,
    parameters: Parameters,
    frozen: Vec<bool>,
    fixed_weights: bool,
    /// Components out of use, of weight zero, until the fit ends.
    discarded: Vec<bool>,
    /// The point about which packed statistics are taken; empty where the family has no location.
    centre: Vec<f64>,
    /// Lower limits of the spread of columns, as the M-steps of a fit have held them; empty before the first.
    floors: Vec<f64>,
}

impl Mixture {
    /// Makes a mixture with given parameters.
    ///
    /// # Errors
    /// If shapes differ, weights are no distribution (up to 1e-6, which rounding in a file may cost), or the family
    /// refuses the parameters of a component.
    pub fn new(
        family: Arc<dyn ExponentialFamily>,
        weights: Vec<f64>,
        parameters: Parameters,
    ) -> Result<Self> {
        let invalid = |message: String| Err(Error::Model(format!("{}: {message}", family.name())));
        let specs = family.parameters();
        let size =
            |shared| specs.iter().filter(|s| s.shared == shared).map(|s| s.len()).sum::<usize>();
        if weights.is_empty() {
            return invalid("a mixture needs at least one component".into());
        }
        if parameters.components.len() != weights.len() {
            return invalid(format!(
                "{} weights, {} components",
                weights.len(),
                parameters.components.len()
            ));
        }
        if let Some(c) = parameters.components.iter().position(|theta| theta.len() != size(false)) {
            let found = parameters.components[c].len();
            return invalid(format!(
                "component {c} has {found} parameters, expected {}",
                size(false)
            ));
        }
        if parameters.shared.len() != size(true) {
            let found = parameters.shared.len();
            return invalid(format!("{found} shared parameters, expected {}", size(true)));
        }
        if let Some(c) = weights.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
            return invalid(format!(
                "weight of component {c} is {}, expected a number ≥ 0",
                weights[c]
            ));
        }
        let total: f64 = weights.iter().sum();
        if (total - 1.0).abs() > 1e-6 {
            return invalid(format!("weights sum to {total}, expected 1"));
        }
        for c in 0..weights.len() {
            if let Err(message) = family.check(parameters.theta(c)) {
                return invalid(format!("component {c}: {message}"));
            }
        }
        // Weights that sum to 1 as nearly as sums go stay as they are, so that files give back the same bits.
        let is_rounding = (total - 1.0).abs() <= weights.len() as f64 * f64::EPSILON;
        let total = if is_rounding { 1.0 } else { total };
        let weights: Vec<f64> = weights.iter().map(|w| w / total).collect();
        let mut mixture = Self {
            frozen: vec![false; weights.len()],
            discarded: vec![false; weights.len()],
            family,
            posterior: Posterior::Exact,
            weights,
            parameters,
            fixed_weights: false,
            centre: Vec::new(),
            floors: Vec::new(),
        };
        mixture.recentre();
        Ok(mixture)
    }

    /// Makes a mixture from named arrays of parameters, the inverse of [`parameter`](Self::parameter).
    ///
    /// # Errors
    /// As [`new`](Self::new); also if an array is missing or of the wrong length.
    pub fn from_arrays<'a>(
        family: Arc<dyn ExponentialFamily>,
        weights: Vec<f64>,
        array: impl Fn(&str) -> Option<&'a [f64]>,
    ) -> Result<Self> {
        let mut parameters =
            Parameters { components: vec![Vec::new(); weights.len()], shared: Vec::new() };
        for spec in family.parameters() {
            let rows = if spec.shared { 1 } else { weights.len() };
            let values = array(&spec.name).unwrap_or_default();
            if values.len() != rows * spec.len() {
                return Err(Error::Model(format!(
                    "{}: {:?} holds {} number(s), expected {}",
                    family.name(),
                    spec.name,
                    values.len(),
                    rows * spec.len()
                )));
            }
            if spec.shared {
                parameters.shared.extend_from_slice(values);
            } else {
                for (theta, row) in
                    parameters.components.iter_mut().zip(values.chunks(spec.len().max(1)))
                {
                    theta.extend_from_slice(row);
                }
            }
        }
        Self::new(family, weights, parameters)
    }

    /// Returns the same mixture with another variational family.
    pub fn with_posterior(mut self, posterior: Posterior) -> Self {
        self.posterior = posterior;
        self
    }

    /// Returns the same mixture with some components' own parameters held where they are. A tied
    /// covariance is held only if all are.
    ///
    /// # Panics
    /// If `frozen` has not one flag a component.
    pub fn with_frozen(mut self, frozen: Vec<bool>) -> Self {
        assert_eq!(frozen.len(), self.weights.len(), "one flag a component");
        self.frozen = frozen;
        self
    }

    /// Returns the same mixture with its weights held where they are, or free.
    pub fn with_fixed_weights(mut self, fixed: bool) -> Self {
        self.fixed_weights = fixed;
        self
    }

    /// Returns the mixture without the labels of its points, and the label of each component, if points have labels.
    ///
    /// # Errors
    /// If labels are all that points have.
    ///
    /// ```
    /// use entropysum::family::{KnownParameters, Parameters, registry};
    /// use entropysum::model::Mixture;
    ///
    /// let known = KnownParameters::default().with("labels", vec![2.0]);
    /// let family = registry::build_known("gaussian-diag:0,label:1", 2, &known)?;
    /// let components = vec![vec![0.0, 1.0, 0.0], vec![5.0, 1.0, 1.0]];
    /// let labelled = Mixture::new(family, vec![0.5, 0.5], Parameters { components, shared: vec![] })?;
    /// let (mixture, labels) = labelled.without_labels().unwrap()?;
    /// assert_eq!(mixture.family().name(), "gaussian-diag");
    /// assert_eq!(labels, [Some(0), Some(1)]);
    /// assert!(mixture.without_labels().is_none());
    /// # Ok::<(), entropysum::Error>(())
    /// ```
    #[allow(clippy::type_complexity)]
    pub fn without_labels(&self) -> Option<Result<(Self, Vec<Option<usize>>)>> {
        let block = LabelBlock::of(self.family())?;
        let without = || {
            let (family, parameters, labels) = block.without(self.family(), &self.parameters)?;
            let model = Self::new(family, self.weights.clone(), parameters)?;
            Ok((model.with_posterior(self.posterior), labels))
        };
        Some(without())
    }

    /// Returns the family of the components.
    pub fn family(&self) -> &dyn ExponentialFamily {
        &*self.family
    }

    pub(crate) fn family_ignoring_missing(
        family: &dyn ExponentialFamily,
    ) -> Result<Arc<dyn ExponentialFamily>> {
        family.ignoring_missing().ok_or_else(|| {
            Error::Model(format!(
                "{} cannot ignore missing values: its dimensions are not independent given the component",
                family.name()
            ))
        })
    }

    pub(crate) fn shared_family(&self) -> Arc<dyn ExponentialFamily> {
        self.family.clone()
    }

    /// Returns the variational family.
    pub fn posterior(&self) -> Posterior {
        self.posterior
    }

    /// Returns the number of components C.
    pub fn n_components(&self) -> usize {
        self.weights.len()
    }

    /// Returns the mixing weights `π`; C values that sum to 1.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Returns the standard parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Returns the parameters of one component.
    pub fn theta(&self, component: usize) -> Theta<'_> {
        self.parameters.theta(component)
    }

    /// Returns a named array of parameters, row-major: one row a component, or a single one where all share it.
    ///
    /// ```
    /// # use entropysum::{family::{registry, Parameters}, model::Mixture};
    /// let family = registry::build("gaussian-diag", 2)?;
    /// let components = vec![vec![0.0, 1.0, 0.5, 0.5], vec![4.0, 5.0, 1.0, 2.0]];
    /// let mixture = Mixture::new(family, vec![0.5, 0.5], Parameters { components, shared: vec![] })?;
    /// assert_eq!(mixture.parameter("means").unwrap(), [0.0, 1.0, 4.0, 5.0]);
    /// assert_eq!(mixture.parameter("rates"), None);
    /// # Ok::<(), entropysum::error::Error>(())
    /// ```
    pub fn parameter(&self, name: &str) -> Option<Vec<f64>> {
        let mut starts = [0, 0];
        for spec in self.family.parameters() {
            let start = &mut starts[usize::from(spec.shared)];
            let range = *start..*start + spec.len();
            *start = range.end;
            if spec.name == name {
                return Some(if spec.shared {
                    self.parameters.shared[range].to_vec()
                } else {
                    self.parameters
                        .components
                        .iter()
                        .flat_map(|theta| &theta[range.clone()])
                        .copied()
                        .collect()
                });
            }
        }
        None
    }

    fn may_be_missing(&self) -> bool {
        // Labels may be missing in any case.
        let label = LabelBlock::of(self.family()).map(|block| block.column);
        let domains = self.family.domains();
        domains.iter().any(|domain| domain.missing && Some(domain.columns.start) != label)
    }

    /// Returns the number of free parameters: C - 1 weights and the family's.
    pub fn n_parameters(&self) -> usize {
        self.n_components() - 1 + self.family.n_free_parameters(self.n_components())
    }

    /// Computes the contribution `π_c (H[p(x | c)] - ln π_c)` of each component to prior and observable entropy, in nats.
    ///
    /// Their sum is `H[p(c)] + E H[p(x | c)]`: a diffuse or heavy component has a large part, a tight one a small one.
    pub fn entropy_contributions(&self) -> Vec<f64> {
        repair::entropy_contributions(
            &self.weights,
            &self.family.pseudo_entropies(&self.parameters),
        )
    }

    fn shape(&self) -> StatsShape {
        StatsShape {
            components: self.n_components(),
            statistics: self.family.statistics().len(),
            shared: self.family.shared_statistics().len(),
            centre: self.centre.len(),
        }
    }

    /// Puts the halves of a component back to where it is, but for a small step: the bound falls by the square of the step, and EM moves
    /// them apart where it gains by that.
    fn draw_together(&self, donor: usize, halves: &mut [Vec<f64>; 2]) {
        let own = &self.parameters.components[donor];
        for half in halves {
            let theta = own.iter().zip(&*half).map(|(own, half)| own + STEP_APART * (half - own));
            let theta: Vec<f64> = theta.collect();
            let near = Theta { component: &theta, shared: &self.parameters.shared };
            if self.family.check(near).is_ok() {
                *half = theta;
            }
        }
    }

    /// Sets the statistics of a component to the expected ones of `mass` points of it.
    fn expect(&self, component: usize, mass: f64, stats: &mut SuffStats) {
        let n_statistics = stats.shape().statistics;
        let mut mean = vec![0.0; n_statistics + stats.shape().shared];
        self.family.mean(self.theta(component), stats.centre(component), &mut mean);
        stats.mass_mut()[component] = mass;
        for (sum, value) in stats.sums_mut(component).iter_mut().zip(&mean) {
            *sum = mass * value;
        }
    }
}

impl GenerativeModel for Mixture {
    fn dim(&self) -> usize {
        self.family.dim()
    }

    fn domains(&self) -> Vec<Domain> {
        // Values that are no finite numbers show in the log-evidence, without being looked for.
        let any = |domain: &Domain| domain.support == Support::Real && !domain.missing;
        let mut domains = self.family.domains();
        domains.retain(|domain| !any(domain));
        domains
    }

    fn ignoring_missing(self) -> Result<Self> {
        let mut model = Self { family: Self::family_ignoring_missing(self.family())?, ..self };
        model.recentre();
        Ok(model)
    }

    fn takes_sparse(&self) -> bool {
        self.family.takes_sparse()
    }

    fn m_step(&mut self, stats: &SuffStats, regularization: &Regularization) -> Vec<Event> {
        self.m_step_by(stats, regularization, &Alone)
    }

    fn m_step_by(
        &mut self,
        stats: &SuffStats,
        regularization: &Regularization,
        workers: &dyn Workers,
    ) -> Vec<Event> {
        self.maximize(stats, regularization, workers)
    }

    fn takes_prior(&self) -> bool {
        self.family.takes_prior()
    }

    fn log_prior(&self, stats: &SuffStats, prior: &ConjugatePrior) -> f64 {
        self.family.log_prior(&self.parameters, stats, prior)
    }

    fn repair(&mut self, stats: &SuffStats, splits_left: &mut usize) -> Vec<Event> {
        repair::split_or_discard(self, stats, splits_left)
    }

    fn adopt(&self, events: &[Event], stats: &mut SuffStats) {
        repair::adopt_repairs(events, stats, |c, mass, stats| self.expect(c, mass, stats));
    }

    fn centres(&self) -> Vec<f64> {
        if !self.family.is_location() {
            return Vec::new();
        }
        (0..self.n_components()).flat_map(|c| self.family.location(self.theta(c))).collect()
    }

    fn translate(&self, stats: &mut SuffStats, centres: &[f64]) {
        if self.family.is_location() {
            self.family.translate(stats, centres);
        }
    }

    fn entropy_sum(&self, stats: &SuffStats) -> EntropySum {
        self.bound_and_entropies_by(stats, &Alone).1
    }

    fn lower_bound(&self, stats: &SuffStats) -> f64 {
        self.bound_and_entropies_by(stats, &Alone).0
    }

    fn bound_and_entropies_by(
        &self,
        stats: &SuffStats,
        workers: &dyn Workers,
    ) -> (f64, EntropySum) {
        self.evaluate(stats, workers)
    }

    /// Takes packed statistics about the mean of the mixture.
    fn recentre(&mut self) {
        if self.family.is_location() {
            self.centre = vec![0.0; self.family.dim()];
            for c in 0..self.weights.len() {
                let location = self.family.location(self.parameters.theta(c));
                for (sum, value) in self.centre.iter_mut().zip(location) {
                    *sum += self.weights[c] * value;
                }
            }
        }
    }

    /// Returns whether values may be missing, whether the weights are held, which components are, the centre and the floors.
    fn forgotten(&self) -> Vec<f64> {
        let flags = [self.may_be_missing(), self.fixed_weights];
        let flags = flags.iter().chain(&self.frozen).map(|&flag| f64::from(u8::from(flag)));
        flags.chain(self.centre.iter().chain(&self.floors).copied()).collect()
    }

    fn remind(&mut self, forgotten: &[f64]) -> bool {
        let Some((flags, numbers)) = forgotten.split_at_checked(2 + self.frozen.len()) else {
            return false;
        };
        let flags: Vec<bool> = flags.iter().map(|&flag| flag != 0.0).collect();
        let (missing, fixed_weights, frozen) = (&flags[0], &flags[1], &flags[2..]);
        if *missing && !self.may_be_missing() {
            let Ok(family) = Self::family_ignoring_missing(self.family()) else { return false };
            self.family = family;
            self.recentre();
        }
        let Some((centre, floors)) = numbers.split_at_checked(self.centre.len()) else {
            return false;
        };
        let are_limits = floors.iter().all(|&floor| floor >= 0.0);
        if !are_limits || !(floors.is_empty() || floors.len() == self.family.dim()) {
            return false;
        }
        self.centre.copy_from_slice(centre);
        self.floors = floors.to_vec();
        self.fixed_weights = *fixed_weights;
        self.frozen.copy_from_slice(frozen);
        self.discarded = self.weights.iter().map(|&weight| weight == 0.0).collect();
        true
    }

    fn finish(&mut self) {
        let keep: Vec<bool> = self.discarded.iter().map(|&discarded| !discarded).collect();
        repair::retain_flagged(&mut self.parameters.components, &keep);
        repair::retain_flagged(&mut self.frozen, &keep);
        repair::retain_flagged(&mut self.weights, &keep);
        repair::retain_flagged(&mut self.discarded, &keep);
        self.floors.clear();
        self.recentre();
    }

    fn n_parameters(&self) -> usize {
        self.n_parameters()
    }

    fn active_components(&self) -> usize {
        self.discarded.iter().filter(|&&discarded| !discarded).count()
    }
}

impl Repairable for Mixture {
    fn weights_mut(&mut self) -> &mut [f64] {
        &mut self.weights
    }

    fn discarded_mut(&mut self) -> &mut [bool] {
        &mut self.discarded
    }

    /// A component of fixed weight cannot be discarded; it waits for points.
    fn is_held(&self, component: usize) -> bool {
        self.frozen[component] || self.fixed_weights
    }

    fn entropy_contributions(&self) -> Vec<f64> {
        self.entropy_contributions()
    }

    fn entropy_contribution(&self, component: usize) -> f64 {
        let Parameters { components, shared } = &self.parameters;
        let own =
            Parameters { components: vec![components[component].clone()], shared: shared.clone() };
        let weight = &self.weights[component..=component];
        repair::entropy_contributions(weight, &self.family.pseudo_entropies(&own))[0]
    }

    fn split(&mut self, donor: usize, component: usize) -> bool {
        let mut halves = [Vec::new(), Vec::new()];
        let [first, second] = &mut halves;
        let can = self.family.split(self.parameters.theta(donor), [first, second]);
        if let (true, Posterior::Truncated(search)) = (can, self.posterior)
            && search.states > 1
        {
            self.draw_together(donor, &mut halves);
        }
        if can {
            [self.parameters.components[donor], self.parameters.components[component]] = halves;
        }
        can
    }
}

impl Sample for Mixture {
    fn sampler(&self) -> BlockSampler<'_> {
        let samplers: Vec<_> =
            (0..self.n_components()).map(|c| self.family.sampler(self.theta(c))).collect();
        let dim = self.family.dim();
        let weights = rng::Weighted::new(&self.weights).expect("weights sum to 1");
        Box::new(move |rng, points, labels| {
            for point in points.chunks_mut(dim) {
                let c = weights.draw(rng);
                samplers[c](rng, point);
                labels.push(c as u32);
            }
        })
    }
}
