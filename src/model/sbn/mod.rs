//! Sigmoid belief networks of two and three layers (Definition 2, Prop. 1; Eqns 8-9 and 18-21), and binary sparse coding.
//!
//! `p(z) = Π_h π_h^z_h (1 - π_h)^(1 - z_h)`, then `p(x_d = 1 | z) = σ(w_d · z + μ_d)`; with three layers `y` stands between
//! the two, drawn from `z` as `x` is from `y`.
//!
//! An output's natural parameter is linear in the states of the layer above it. Three things follow, and are used:
//!
//! * The logit of a state `z` for a point is `x · (W z + μ) + bias_z = z · (W'x) + x · μ + bias_z`: all 2^H of them are tabulated by
//!   additions (`kernels::states`), at a cost that does not depend on D. The product with a D × 2^H matrix that the
//!   mixture kernel would make of this is never formed.
//! * An M-step needs only the mass of each state and the D × (H + 1) moments `⟨x z̃'⟩`, `z̃ = (z, 1)`; so do the lower bound and
//!   the entropy sum at any parameters.
//! * The log-partition `Σ_d softplus(a_d(z))` belongs to a state, not to a point.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | parameters, M-step, bound, entropies |
//! | `regression.rs` | Newton's method for one output |
//! | `exact.rs` | E-step over all states: exact posteriors |
//! | `gaussian.rs` | observables with Gaussian noise: binary sparse coding |
//! | `decoder.rs` | hidden layers between binary states and such observables |
//! | `fitted.rs` | scores, latents, reconstructions and samples |
//! | `truncated.rs` | E-step over a few states a point, improved by evolutionary search |

mod decoder;
mod exact;
mod fitted;
mod gaussian;
mod regression;
mod table;
mod truncated;

pub use exact::MAX_ENUMERATED;

use super::gaussian_observable::{diagonal_entropy, noise_gap};
use super::{EntropySum, GenerativeModel};
use crate::block::Block;
use crate::error::{Error, Result};
use crate::family::Regularization;
use crate::family::support::{Domain, Support};
use crate::kernels::dispatch::Simd;
use crate::kernels::{logistic, states};
use crate::monitor::Event;
use crate::scalar::Scalar;
use crate::stats::SuffStats;
use crate::work::{Alone, Piece, Workers};
pub(crate) use exact::is_binary;
pub use fitted::{Packed, SEARCH_SWEEPS};
use gaussian::GaussianObservables;
use regression::{Design, Measure, NewtonRule, Regression};
pub use truncated::TruncatedStates;
pub(crate) use truncated::{SearchWorkspace, SumsShape, TruncatedSums};

/// Prior probabilities stay this far from 0 and 1: their logits then are numbers, and the gap that it leaves is below
/// 1e-13 a latent.
const PRIOR_FLOOR: f64 = 1e-15;

/// The largest element of an M-step's gradient, per point: some digits above the rounding of its sums.
const M_STEP_TOLERANCE: f64 = 1e-13;

/// Outputs of a piece of an M-step, which share scratch memory: few, so that pieces are many and threads end together.
const OUTPUTS_PER_PIECE: usize = 8;

/// Latents under truncated posteriors at most: the curvature of an output then takes 128 MiB, in every thread.
const MAX_TRUNCATED: usize = 4096;

/// States of a set at most: as many as [`MAX_ENUMERATED`] latents have, where exact posteriors cost less.
const MAX_STATES: usize = 1 << MAX_ENUMERATED;

/// The variational family of a sigmoid belief network. [`Posterior`](super::Posterior) is that of a mixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LatentPosterior {
    /// All distributions: `q_n` is the exact posterior, by enumeration of all states.
    Exact,
    /// Distributions that are zero outside a set of `states` states for each point. A search improves the sets in every sweep.
    Truncated {
        /// Size S of the set.
        states: usize,
    },
}

impl LatentPosterior {
    /// Size of the sets of truncated posteriors where none is given, chosen by trial on planted bars with 16 latents
    /// (`examples/bars.rs`), not tuned for others; time and memory are in proportion to it.
    pub const DEFAULT_STATES: usize = 32;

    /// Returns exact posteriors if `latents` latents can be enumerated, else truncated ones.
    pub(crate) fn default_for(latents: usize) -> Self {
        if latents <= MAX_ENUMERATED {
            Self::Exact
        } else {
            Self::Truncated { states: Self::DEFAULT_STATES }
        }
    }

    /// Returns the name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Truncated { .. } => "truncated",
        }
    }
}

/// Weights and biases of the outputs of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    inputs: usize,
    /// One row an output: its weights, then its bias.
    rows: Vec<f64>,
}

impl Layer {
    /// Makes a layer from `outputs × inputs` weights, row-major, and one bias an output.
    ///
    /// # Errors
    /// If there are no outputs or inputs, sizes differ, or a value is no finite number.
    pub fn new(inputs: usize, weights: &[f64], biases: &[f64]) -> Result<Self> {
        let invalid = |message: String| Err(Error::Model(message));
        if inputs == 0 || biases.is_empty() {
            return invalid("a layer needs at least one input and one output".into());
        }
        if weights.len() != inputs * biases.len() {
            return invalid(format!(
                "{} weights, expected {} x {inputs}",
                weights.len(),
                biases.len()
            ));
        }
        if let Some(value) = weights.iter().chain(biases).find(|value| !value.is_finite()) {
            return invalid(format!("a weight or bias is {value}, expected a finite number"));
        }
        let rows = weights.chunks(inputs).zip(biases);
        Ok(Self { inputs, rows: rows.flat_map(|(w, b)| w.iter().chain([b])).copied().collect() })
    }

    /// Returns the number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Returns the number of outputs.
    pub fn outputs(&self) -> usize {
        self.rows.len() / (self.inputs + 1)
    }

    /// Returns the weights, `outputs × inputs`, row-major.
    pub fn weights(&self) -> Vec<f64> {
        self.rows().flat_map(|row| &row[..self.inputs]).copied().collect()
    }

    /// Returns the biases, one an output.
    pub fn biases(&self) -> Vec<f64> {
        self.rows().map(|row| row[self.inputs]).collect()
    }

    /// Returns the weights and bias of each output.
    pub(crate) fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.rows.chunks(self.inputs + 1)
    }

    /// Returns `w · z + w_0` of each output given states of the inputs.
    fn outputs_of<'a>(&'a self, inputs: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        self.rows().map(move |row| {
            let (bias, weights) = row.split_last().expect("rows end in a bias");
            let sum: f64 = weights.iter().zip(inputs).map(|(w, z)| w * z).sum();
            sum + bias
        })
    }

    /// Returns the probability of each output given states of the inputs.
    fn probabilities<'a>(&'a self, inputs: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        self.outputs_of(inputs).map(logistic::sigmoid)
    }

    /// Computes `Σ_outputs softplus(a(s))` for all `2^inputs` states `s`.
    fn log_partitions(&self, simd: Simd) -> Vec<f64> {
        let n_states = 1 << self.inputs;
        let mut sums = vec![0.0; n_states];
        let mut logits = vec![0.0; n_states];
        for row in self.rows() {
            states::linear(simd, row, &mut logits);
            logistic::add_softplus(simd, &logits, &mut sums);
        }
        sums
    }
}

/// A sigmoid belief network, or [binary sparse coding](Self::binary_sparse_coding): a network whose observables have Gaussian noise.
///
/// ```
/// use entropysum::expert::model::GenerativeModel;
/// use entropysum::model::{LatentPosterior, Layer, SigmoidBeliefNet};
///
/// // Two latents, three observables; the first two observables follow the first latent, the third the second.
/// let observables = Layer::new(2, &[4.0, 0.0, 4.0, 0.0, 0.0, 4.0], &[-2.0; 3])?;
/// let net = SigmoidBeliefNet::new(vec![0.5, 0.25], None, observables)?;
/// assert_eq!(net.n_parameters(), 2 + 6 + 3);
/// assert_eq!(net.posterior(), LatentPosterior::Exact);
/// # Ok::<(), entropysum::error::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SigmoidBeliefNet {
    prior: Vec<f64>,
    /// From the top down: the hidden layer if there is one, then the observables.
    layers: Vec<Layer>,
    posterior: LatentPosterior,
    ridge: f64,
    /// Noise of observables that are no zeros and ones.
    gaussian: Option<GaussianObservables>,
}

/// Derivatives of the lower bound, per point, with respect to standard parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradient {
    /// `∂F/∂π_h`.
    pub prior: Vec<f64>,
    /// `∂F/∂(weights, biases)` of each layer from the top down, hidden layers of a decoder too.
    pub layers: Vec<Layer>,
}

/// Statistics of an M-step of a network, per unit of weight.
#[derive(Clone, Debug)]
pub struct LatentStats {
    /// Mean entropy of the posteriors.
    pub(crate) posterior_entropy: f64,
    /// `E_q̄ z_h`.
    pub(crate) marginals: Vec<f64>,
    /// For each layer its inputs' states, and `⟨output · (inputs, 1)⟩`, one row an output.
    pub(crate) layers: Vec<LayerStats>,
    /// `⟨x_d²⟩` about the centre, of Gaussian observables.
    pub(crate) squares: Vec<f64>,
    /// `⟨q(z) x⟩` of each state of the first design, D values each, for a decoder with hidden layers.
    pub(crate) outputs: Vec<f64>,
}

#[derive(Clone, Debug)]
pub(crate) struct LayerStats {
    pub(crate) design: Design,
    pub(crate) targets: Vec<f64>,
}

impl SigmoidBeliefNet {
    /// Makes a network with given parameters, and exact posteriors where its latents are few enough to enumerate.
    ///
    /// # Errors
    /// If sizes do not match from layer to layer, or a prior probability is outside [0, 1].
    pub fn new(prior: Vec<f64>, hidden: Option<Layer>, observables: Layer) -> Result<Self> {
        let invalid = |message: String| Err(Error::Model(format!("sbn: {message}")));
        if prior.is_empty() {
            return invalid("a network needs at least one latent".into());
        }
        if let Some((h, p)) = prior.iter().enumerate().find(|(_, p)| !(0.0..=1.0).contains(*p)) {
            return invalid(format!("prior of latent {h} is {p}, expected a number from 0 to 1"));
        }
        let layers: Vec<Layer> = hidden.into_iter().chain([observables]).collect();
        let mut width = prior.len();
        for layer in &layers {
            if layer.inputs != width {
                return invalid(format!(
                    "a layer has {} inputs, but there are {width} latents above it",
                    layer.inputs
                ));
            }
            width = layer.outputs();
        }
        let prior = prior.into_iter().map(|p| p.clamp(PRIOR_FLOOR, 1.0 - PRIOR_FLOOR)).collect();
        Ok(Self { prior, layers, posterior: LatentPosterior::Exact, ridge: 0.0, gaussian: None })
    }

    /// Returns the same network with another variational family.
    ///
    /// # Errors
    /// If all states are to be enumerated and there are more than 2^[`MAX_ENUMERATED`], or if a set has no states or too many.
    pub fn with_posterior(mut self, posterior: LatentPosterior) -> Result<Self> {
        check_posterior(posterior, self.n_latents())?;
        if self.gaussian.is_some() && posterior == LatentPosterior::Exact {
            return Err(Error::Config(
                "binary sparse coding: posteriors are truncated; with as many states as there are they are exact".into(),
            ));
        }
        self.posterior = posterior;
        Ok(self)
    }

    /// Returns the same network with a ridge: M-steps maximise `F - λ/2 |W|²`, per point. The gap after them is `λ |W|²`.
    ///
    /// # Panics
    /// If `ridge` is negative or no number.
    pub fn with_ridge(mut self, ridge: f64) -> Self {
        assert!(ridge >= 0.0 && ridge.is_finite(), "a ridge is a finite number ≥ 0");
        self.ridge = ridge;
        self
    }

    /// Tells whether all values of a block are ones that the observables can take.
    pub(crate) fn accepts<T: Scalar>(&self, block: Block<'_, T>) -> bool {
        match self.gaussian {
            None => is_binary(block),
            Some(ref gaussian) => {
                block.points.row_iter().all(|row| row.iter().all(|&it| gaussian.accepts(it)))
            }
        }
    }

    /// Returns the ridge λ.
    pub fn ridge(&self) -> f64 {
        self.ridge
    }

    /// Returns the prior probabilities `π` of the top latents; H values.
    pub fn prior(&self) -> &[f64] {
        &self.prior
    }

    /// Returns the layer that draws `y` from `z`, if there are three layers.
    pub fn hidden(&self) -> Option<&Layer> {
        (self.layers.len() == 2).then(|| &self.layers[0])
    }

    /// Returns the layer that draws the observables.
    pub fn observables(&self) -> &Layer {
        self.layers.last().expect("every network has observables")
    }

    /// Returns the variational family.
    pub fn posterior(&self) -> LatentPosterior {
        self.posterior
    }

    /// Returns the number of latents of all layers, `H` or `H + I`.
    pub fn n_latents(&self) -> usize {
        self.prior.len() + self.hidden().map_or(0, Layer::outputs)
    }

    /// Returns a named array of parameters: `prior` (H), `weights` D × H, `biases` (D), and of three layers `hidden_weights` I × H and
    /// `hidden_biases` (I), with `weights` D × I; of binary sparse coding `noise_variance` (1 or D) and `centre` (D).
    pub fn parameter(&self, name: &str) -> Option<Vec<f64>> {
        Some(match name {
            "prior" => self.prior.clone(),
            "weights" => self.observables().weights(),
            "biases" => self.observables().biases(),
            "hidden_weights" => self.hidden()?.weights(),
            "hidden_biases" => self.hidden()?.biases(),
            "noise_variance" => {
                let gaussian = self.gaussian.as_ref()?;
                gaussian.variances[..gaussian.n_variances()].to_vec()
            }
            "centre" => self.gaussian.as_ref()?.centre.clone(),
            _ => return None,
        })
    }

    /// Makes a network of zeros and ones from named arrays, the inverse of [`parameter`](Self::parameter).
    ///
    /// # Errors
    /// As [`new`](Self::new); also if an array is missing or of the wrong length.
    pub fn from_arrays<'a>(array: impl Fn(&str) -> Option<&'a [f64]>) -> Result<Self> {
        let get = |name: &str| {
            array(name).ok_or_else(|| Error::Model(format!("sbn: {name:?} is missing")))
        };
        let prior = get("prior")?.to_vec();
        let hidden = match array("hidden_biases") {
            None => None,
            Some(biases) => Some(Layer::new(prior.len(), get("hidden_weights")?, biases)?),
        };
        let width = hidden.as_ref().map_or(prior.len(), Layer::outputs);
        let observables = Layer::new(width, get("weights")?, get("biases")?)?;
        Self::new(prior, hidden, observables)
    }

    /// Sets the prior, unless it is held, and the layers, by `max_steps` Newton steps an output at most.
    pub(crate) fn maximize(
        &mut self,
        stats: &LatentStats,
        max_steps: usize,
        hold_prior: bool,
        workers: &dyn Workers,
    ) -> Vec<Event> {
        let prior = if hold_prior { &mut [][..] } else { &mut self.prior[..] };
        for (prior, marginal) in prior.iter_mut().zip(&stats.marginals) {
            *prior = marginal.clamp(PRIOR_FLOOR, 1.0 - PRIOR_FLOOR);
        }
        if let Some(gaussian) = &mut self.gaussian {
            return gaussian.maximize(&mut self.layers[0], stats, workers);
        }
        let rule = NewtonRule { tolerance: M_STEP_TOLERANCE, max_steps, ridge: self.ridge };
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        for (layer, LayerStats { design, targets }) in self.layers.iter_mut().zip(&stats.layers) {
            let part = (layer.inputs + 1) * OUTPUTS_PER_PIECE;
            for (targets, rows) in targets.chunks(part).zip(layer.rows.chunks_mut(part)) {
                pieces.push(Box::new(move || Regression { design, targets, rows, rule }.solve()));
            }
        }
        workers.work(pieces);
        Vec::new()
    }

    /// Computes the contributions of the outputs to bound and entropy sum, in the order of the outputs.
    fn measures<'a>(&'a self, stats: &'a LatentStats, workers: &dyn Workers) -> Vec<Measure<'a>> {
        let mut measures = Vec::new();
        for (layer, LayerStats { design, targets }) in self.layers.iter().zip(&stats.layers) {
            let part = (layer.inputs + 1) * OUTPUTS_PER_PIECE;
            for (targets, rows) in targets.chunks(part).zip(layer.rows.chunks(part)) {
                measures.push(Measure { design, targets, rows, likelihood: 0.0, entropy: 0.0 });
            }
        }
        let piece = |measure| -> Piece<'_> { Box::new(move || Measure::take(measure)) };
        workers.work(measures.iter_mut().map(piece).collect());
        measures
    }

    /// Returns the lower bound, and the entropy sum, of these parameters with the posteriors that made the statistics.
    pub(crate) fn bound_and_entropies(
        &self,
        stats: &LatentStats,
        workers: &dyn Workers,
    ) -> (f64, EntropySum) {
        let mut bound = stats.posterior_entropy;
        for (&q, &p) in stats.marginals.iter().zip(&self.prior) {
            bound += q * p.ln() + (1.0 - q) * (-p).ln_1p();
        }
        let of_prior = || self.prior.iter().map(|&p| -p * p.ln() - (1.0 - p) * (-p).ln_1p());
        if let Some(gaussian) = &self.gaussian {
            let observable = diagonal_entropy(&gaussian.variances);
            let residuals = gaussian.residuals(&self.layers[0], stats, workers);
            // The likelihood is minus the entropy, but for the half of the gap.
            bound += noise_gap(&residuals, &gaussian.variances) - observable;
            let (posterior, prior) = (stats.posterior_entropy, of_prior().sum());
            return (bound, EntropySum { posterior, prior, observable, ..EntropySum::default() });
        }
        let measures = self.measures(stats, workers);
        bound += measures.iter().map(|it| it.likelihood).sum::<f64>();
        let n_hidden = self.hidden().map_or(0, |it| it.outputs().div_ceil(OUTPUTS_PER_PIECE));
        // Not `sum`, which of nothing is -0.
        let entropy = |of: &[Measure<'_>]| of.iter().fold(0.0, |sum, it| sum + it.entropy);
        let sum = EntropySum {
            posterior: stats.posterior_entropy,
            prior: of_prior().sum(),
            hidden: entropy(&measures[..n_hidden]),
            observable: entropy(&measures[n_hidden..]),
            base_measure: 0.0,
        };
        (bound, sum)
    }

    /// Returns the lower bound `F(q, Θ)` (Eqn 2) of these parameters with the posteriors that made the statistics.
    pub fn bound_of(&self, stats: &LatentStats) -> f64 {
        self.bound_and_entropies(stats, &Alone).0
    }

    /// Returns the entropy sum (Eqns 10 and 21).
    pub fn entropies_of(&self, stats: &LatentStats) -> EntropySum {
        self.bound_and_entropies(stats, &Alone).1
    }

    /// Returns the derivatives of the lower bound at these parameters, with the posteriors that made the statistics.
    pub fn gradient_of(&self, stats: &LatentStats) -> Gradient {
        let simd = Simd::detect();
        let prior = stats.marginals.iter().zip(&self.prior);
        let layers = self.layers.iter().zip(&stats.layers).map(|(layer, stats)| {
            let mut scratch = stats.design.scratch();
            let targets = stats.targets.chunks(layer.inputs + 1);
            let rows = layer
                .rows()
                .zip(targets)
                .flat_map(|(row, target)| stats.design.gradient(simd, target, row, &mut scratch));
            Layer { inputs: layer.inputs, rows: rows.collect() }
        });
        Gradient {
            prior: prior.map(|(q, p)| (q - p) / (p * (1.0 - p))).collect(),
            layers: match &self.gaussian {
                None => layers.collect(),
                Some(gaussian) => gaussian.gradient(&self.layers[0], stats),
            },
        }
    }

    /// Returns the gap by theory 1.2: `α · ∂F/∂Ψ` of the prior, `α_h = π_h (1 - π_h) logit π_h`, and `β · ∂F/∂θ` of each layer from the top down,
    /// `β` the weights and biases themselves. Their sum is lower bound minus entropy sum, at any parameters of a network of zeros and
    /// ones; Gaussian noise has its own half.
    pub fn certified_gap(&self, gradient: &Gradient) -> (f64, Vec<f64>) {
        let alpha = |p: f64| p * (1.0 - p) * (p.ln() - (-p).ln_1p());
        let prior = self.prior.iter().zip(&gradient.prior).map(|(&p, g)| alpha(p) * g).sum();
        let layers = self.layers.iter().zip(&gradient.layers);
        let dot = |(layer, gradient): (&Layer, &Layer)| {
            layer.rows.iter().zip(&gradient.rows).map(|(w, g)| w * g).sum()
        };
        (prior, layers.map(dot).collect())
    }

    /// Returns the derivatives of the lower bound at these parameters from the statistics of an exact E-step.
    pub fn gradient(&self, stats: &SuffStats) -> Gradient {
        self.gradient_of(&self.latent_stats(stats))
    }

    /// Computes `ln p` of a state of all latents; `state` is asked for each latent, `z` first.
    pub(crate) fn log_prior(&self, on: impl Fn(usize) -> bool) -> f64 {
        let h = self.prior.len();
        let mut sum = 0.0;
        for (j, p) in self.prior.iter().enumerate() {
            sum += if on(j) { p.ln() } else { (-p).ln_1p() };
        }
        if let Some(hidden) = self.hidden() {
            for (i, row) in hidden.rows().enumerate() {
                let logit = row[h] + (0..h).filter(|&j| on(j)).map(|j| row[j]).sum::<f64>();
                sum -= logistic::softplus(if on(h + i) { -logit } else { logit });
            }
        }
        sum
    }
}

/// Refuses posteriors that cost too much, and names those to use instead.
pub(crate) fn check_posterior(posterior: LatentPosterior, latents: usize) -> Result<()> {
    let refuse = |message: String| Err(Error::Config(format!("sbn: {message}")));
    match posterior {
        LatentPosterior::Exact if latents > MAX_ENUMERATED => refuse(format!(
            "exact posteriors enumerate 2^{latents} states, which is possible for up to {MAX_ENUMERATED} latents; use truncated posteriors"
        )),
        LatentPosterior::Truncated { states: 0 } => {
            refuse("truncated posteriors need at least one state a point".into())
        }
        LatentPosterior::Truncated { .. } if latents > MAX_TRUNCATED => refuse(format!(
            "{latents} latents, expected up to {MAX_TRUNCATED}: an M-step keeps matrices of latents x latents"
        )),
        LatentPosterior::Truncated { states } if states > MAX_STATES => refuse(format!(
            "{states} states for each point, expected up to {MAX_STATES}; 8 to 64 are common"
        )),
        _ => Ok(()),
    }
}

impl GenerativeModel for SigmoidBeliefNet {
    fn dim(&self) -> usize {
        self.observables().outputs()
    }

    fn domains(&self) -> Vec<Domain> {
        let support = if self.gaussian.is_some() { Support::Real } else { Support::Binary };
        let missing = self.gaussian.as_ref().is_some_and(|gaussian| gaussian.ignores_missing);
        vec![Domain { missing, ..Domain::new(0..self.dim(), support) }]
    }

    /// Returns the same model of binary sparse coding for points with missing values (NaN): these are left out of the bound.
    fn ignoring_missing(mut self) -> Result<Self> {
        let refusal = Error::Model("sbn: zeros and ones may not be missing".into());
        self.gaussian.as_mut().ok_or(refusal)?.ignores_missing = true;
        Ok(self)
    }

    fn n_parameters(&self) -> usize {
        let of_gaussian = self.gaussian.as_ref().map_or(0, GaussianObservables::n_parameters);
        let layers = self.layers.iter().map(|layer| layer.rows.len());
        self.prior.len() + layers.sum::<usize>() + of_gaussian
    }

    fn m_step(&mut self, stats: &SuffStats, regularization: &Regularization) -> Vec<Event> {
        self.m_step_by(stats, regularization, &Alone)
    }

    /// Cuts the M-step into a piece for every few outputs, which are independent of each other.
    fn m_step_by(
        &mut self,
        stats: &SuffStats,
        _: &Regularization,
        workers: &dyn Workers,
    ) -> Vec<Event> {
        let stats = self.latent_stats(stats);
        self.maximize(&stats, usize::MAX, false, workers)
    }

    fn entropy_sum(&self, stats: &SuffStats) -> EntropySum {
        self.entropies_of(&self.latent_stats(stats))
    }

    fn lower_bound(&self, stats: &SuffStats) -> f64 {
        self.bound_of(&self.latent_stats(stats))
    }

    fn bound_and_entropies_by(
        &self,
        stats: &SuffStats,
        workers: &dyn Workers,
    ) -> (f64, EntropySum) {
        self.bound_and_entropies(&self.latent_stats(stats), workers)
    }

    /// Returns the number of top latents that are sometimes on.
    fn active_components(&self) -> usize {
        self.prior.iter().filter(|&&p| p > PRIOR_FLOOR).count()
    }
}
