//! Variational autoencoders and probabilistic sparse coding: Gaussian observables with any decoder (Definitions 3 and 4; Eqns 24 and 32).
//!
//! Latents `z` have independent priors, each with a scale; observables are `x | z ~ N(μ(z), diag σ²)`, where `μ` is a network; the
//! posterior `q_n = N(m_n, diag s_n²)` comes from another network. The bound needs of points and networks only
//!
//! ```text
//! H̄_h = ⟨½ ln 2πe s_h²⟩      M_h = ⟨z_h²⟩ = ⟨m_h² + s_h²⟩, or ⟨|z_h|⟩ for a Laplace prior      R_d = ⟨(x_d - μ_d(z))²⟩
//!
//! F  = Σ_h H̄_h - ½ Σ_h (ln 2πα_h + M_h / α_h) - ½ Σ_d (ln 2πσ_d² + R_d / σ_d²)
//! ES = Σ_h H̄_h - ½ Σ_h ln 2πeα_h              - ½ Σ_d ln 2πeσ_d²
//! F - ES = ½ Σ_h (1 - M_h / α_h) + ½ Σ_d (1 - R_d / σ_d²)
//! ```
//!
//! for any weights of the networks, any posteriors, any sample of `z`. For a Laplace prior with scales `λ_h` the terms are
//! `ln 2λ_h + M_h / λ_h`, `ln 2eλ_h` and `1 - M_h / λ_h`. So there is an exact M-step of prior and noise: `α_h = M_h` (`λ_h = M_h`) and
//! `σ_d² = R_d`, or their mean. It closes both halves of the gap and never costs any bound.
//!
//! A standard prior loses nothing against one that is learned. Latents enter the decoder by an affine layer, and leave the encoder by
//! one. So a scale moves from the prior into these layers without a change of F:
//! [`finish`](crate::expert::model::GenerativeModel::finish) does so when a fit ends.

mod fitted;
mod network;
mod pass;
mod prior;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use fitted::fill_normal;
pub(crate) use network::{Network, Tape};
pub(crate) use pass::{Lane, Packed, TILE_POINTS};
pub use prior::LatentPrior;

use super::{EntropySum, GenerativeModel, Layer, Noise};
use crate::error::{Error, Result};
use crate::family::{Domain, Regularization, Support};
pub use crate::kernels::dense::Activation;
use crate::kernels::dispatch::Simd;
use crate::monitor::Event;
use crate::stats::{StatsShape, SuffStats};
use std::f64::consts::{E, PI};

/// Noise variances stay above this part of the squared scale of their column: the floor of other models of this crate.
pub const NOISE_FLOOR: f64 = 1e-6;

/// Scales of the prior stay above this part of 1, their value at the start.
const PRIOR_FLOOR: f64 = 1e-6;

/// A latent is active if its posteriors diverge from the prior by this many nats more than those of a latent that is not used. Not
/// tuned: divergences of latents in use are ten times as large and more.
const ACTIVE: f64 = 0.01;

/// Samples of each point for the score of a decoder that is not linear, if no other number is asked for.
const SCORE_SAMPLES: usize = 16;

/// A variational autoencoder; one with a Laplace prior and a linear decoder is probabilistic sparse coding.
///
/// Networks see points in units of their own: `(x - centre) / scale`, column by column.
///
/// ```
/// use entropysum::model::{
///     Activation, LatentPrior, Layer, Noise, VariationalAutoencoder, VariationalAutoencoderParts,
/// };
///
/// // One latent for two dimensions: posteriors N(0.3 x₀ + 0.2 x₁, e^-1), observables about (2, 1) z.
/// let model = VariationalAutoencoder::new(VariationalAutoencoderParts {
///     encoder: vec![Layer::new(2, &[0.3, 0.2, 0.0, 0.0], &[0.0, -1.0])?],
///     decoder: vec![Layer::new(1, &[2.0, 1.0], &[0.0, 0.0])?],
///     activation: Activation::Relu,
///     prior: LatentPrior::Standard,
///     prior_scales: vec![1.0],
///     noise: Noise::Isotropic,
///     noise_variances: vec![0.5],
///     centre: vec![0.0, 0.0],
///     scale: vec![1.0, 1.0],
/// })?;
/// assert_eq!((model.dim(), model.n_latents(), model.decoder_is_linear()), (2, 1, true));
/// # Ok::<(), entropysum::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct VariationalAutoencoder {
    encoder: Network,
    decoder: Network,
    activation: Activation,
    /// Weights and biases of both networks.
    parameters: Vec<f64>,
    prior: LatentPrior,
    /// H values: variances α of a Gaussian prior, scales λ of a Laplace prior.
    prior_scales: Vec<f64>,
    noise: Noise,
    /// D values, all equal if the noise is isotropic.
    noise_variances: Vec<f64>,
    centre: Vec<f64>,
    scale: Vec<f64>,
    /// Samples of each point for importance-weighted scores; 0 for the bound.
    samples: usize,
    /// Whether values of points may be missing (NaN).
    ignores_missing: bool,
    /// Weight of the prior's term of the bound in gradients, 1 but for annealing.
    prior_weight: f64,
}

/// All that makes a [`VariationalAutoencoder`].
#[derive(Clone, Debug, PartialEq)]
pub struct VariationalAutoencoderParts {
    /// Layers of the encoder. The last has 2 H outputs: means of the latents, then logarithms of their variances.
    pub encoder: Vec<Layer>,
    /// Layers of the decoder, from H inputs to D outputs. A single layer is a linear decoder.
    pub decoder: Vec<Layer>,
    /// The function between layers.
    pub activation: Activation,
    /// The family of the prior.
    pub prior: LatentPrior,
    /// H values: variances of a Gaussian prior, scales of a Laplace prior.
    pub prior_scales: Vec<f64>,
    /// Whether dimensions share a noise variance.
    pub noise: Noise,
    /// Noise variances in squared units of the points: one if the noise is isotropic, else D.
    pub noise_variances: Vec<f64>,
    /// What networks subtract from the points, D values.
    pub centre: Vec<f64>,
    /// What they divide the difference by, D values.
    pub scale: Vec<f64>,
}

impl VariationalAutoencoder {
    /// Makes a model.
    ///
    /// # Errors
    /// If sizes do not agree, a value is not finite, or a variance or scale is not positive.
    pub fn new(parts: VariationalAutoencoderParts) -> Result<Self> {
        let invalid = |message: String| Err(Error::Model(format!("autoencoder: {message}")));
        let (dim, latents) = (parts.centre.len(), parts.prior_scales.len());
        let mut start = 0;
        let mut network = |name, layers: &[Layer], inputs: usize, outputs: usize| {
            let sizes = sizes(layers);
            let fits = layers.windows(2).all(|it| it[0].outputs() == it[1].inputs());
            if !fits || sizes.first() != Some(&inputs) || sizes.last() != Some(&outputs) {
                return Err(Error::Model(format!(
                    "autoencoder: the layers of the {name} have sizes {sizes:?}, expected {inputs} inputs, {outputs} outputs, and as many \
                     inputs of each layer as the layer before has outputs"
                )));
            }
            Ok(Network::new(&sizes, parts.activation, &mut start))
        };
        if dim == 0 || latents == 0 {
            return invalid(format!(
                "{latents} latents for {dim} dimensions, expected at least 1 of both"
            ));
        }
        let encoder = network("encoder", &parts.encoder, dim, 2 * latents)?;
        let decoder = network("decoder", &parts.decoder, latents, dim)?;
        let n_variances = if parts.noise == Noise::Isotropic { 1 } else { dim };
        for (name, found, expected) in [
            ("noise variances", parts.noise_variances.len(), n_variances),
            ("scales of the points", parts.scale.len(), dim),
        ] {
            if found != expected {
                return invalid(format!("{found} {name}, expected {expected}"));
            }
        }
        let all = [&parts.prior_scales, &parts.noise_variances, &parts.scale];
        if let Some(value) = all.into_iter().flatten().find(|v| !(**v > 0.0 && v.is_finite())) {
            return invalid(format!("a variance or scale is {value}, expected a positive number"));
        }
        if let Some(value) = parts.centre.iter().find(|value| !value.is_finite()) {
            return invalid(format!("the centre has a value {value}, expected a finite number"));
        }
        let layers = parts.encoder.iter().chain(&parts.decoder);
        let parameters = layers.flat_map(|layer| [layer.weights(), layer.biases()].concat());
        let mut noise_variances = parts.noise_variances;
        noise_variances.resize(dim, noise_variances[0]);
        Ok(Self {
            encoder,
            decoder,
            activation: parts.activation,
            parameters: parameters.collect(),
            prior: parts.prior,
            prior_scales: parts.prior_scales,
            noise: parts.noise,
            noise_variances,
            centre: parts.centre,
            scale: parts.scale,
            samples: 0,
            ignores_missing: false,
            prior_weight: 1.0,
        })
    }

    /// Returns all parts.
    pub fn to_parts(&self) -> VariationalAutoencoderParts {
        let n_variances = if self.noise == Noise::Isotropic { 1 } else { self.dim() };
        VariationalAutoencoderParts {
            encoder: self.layers_of(&self.encoder),
            decoder: self.layers_of(&self.decoder),
            activation: self.activation,
            prior: self.prior,
            prior_scales: self.prior_scales.clone(),
            noise: self.noise,
            noise_variances: self.noise_variances[..n_variances].to_vec(),
            centre: self.centre.clone(),
            scale: self.scale.clone(),
        }
    }

    fn layers_of(&self, network: &Network) -> Vec<Layer> {
        let layer = |layer: &crate::kernels::dense::Dense| {
            let (weights, biases) = layer.split(&self.parameters);
            Layer::new(layer.inputs, weights, biases)
        };
        let layers = network.layers().iter().map(layer).collect::<Result<_>>();
        layers.expect("sizes of a network agree, and its parameters are finite")
    }

    /// Sets the number of samples of each point for importance-weighted scores; 0 for the bound.
    pub fn with_importance_samples(self, samples: usize) -> Self {
        Self { samples, ..self }
    }

    /// Returns the number of samples of each point for importance-weighted scores; 0 for the bound.
    pub fn importance_samples(&self) -> usize {
        self.samples
    }

    /// Returns the dimension D of the points.
    pub fn dim(&self) -> usize {
        self.centre.len()
    }

    /// Returns the number of latents H.
    pub fn n_latents(&self) -> usize {
        self.prior_scales.len()
    }

    /// Returns the family of the prior.
    pub fn prior(&self) -> LatentPrior {
        self.prior
    }

    /// Returns variances α of a Gaussian prior, or scales λ of a Laplace prior; H values.
    pub fn prior_scales(&self) -> &[f64] {
        &self.prior_scales
    }

    /// Returns whether dimensions share a noise variance.
    pub fn noise(&self) -> Noise {
        self.noise
    }

    /// Returns the noise variances, D values in squared units of the points.
    pub fn noise_variances(&self) -> &[f64] {
        &self.noise_variances
    }

    /// Returns the function between layers.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Returns whether the decoder is linear: then its part of the bound is computed, and nothing is sampled.
    pub fn decoder_is_linear(&self) -> bool {
        self.decoder.is_linear()
    }

    /// Returns the sizes of the hidden layers of the encoder, then of the decoder.
    pub fn hidden(&self) -> [Vec<usize>; 2] {
        [&self.encoder, &self.decoder].map(|network| {
            let layers = network.layers();
            layers[..layers.len() - 1].iter().map(|layer| layer.outputs).collect()
        })
    }

    /// Returns the dictionary of a linear decoder in units of the points: what each latent adds; H rows of D values.
    pub fn dictionary(&self) -> Option<Vec<Vec<f64>>> {
        let layer = self.decoder_is_linear().then_some(self.decoder.last())?;
        let (weights, _) = layer.split(&self.parameters);
        let latents = self.n_latents();
        let column = |h: usize| {
            let column = weights.iter().skip(h).step_by(latents).zip(&self.scale);
            column.map(|(weight, scale)| weight * scale).collect()
        };
        Some((0..latents).map(column).collect())
    }

    /// Returns the means of the observables as one latent goes through `steps`, in units of the width of its prior, and the others are 0:
    /// H times as many points as there are steps.
    pub fn traversals(&self, steps: &[f64]) -> Vec<Vec<f64>> {
        let latents = self.n_latents();
        let pairs = (0..latents).flat_map(|h| steps.iter().map(move |step| (h, step)));
        let point = |(h, step): (usize, &f64)| {
            let mut z = vec![0.0; latents];
            z[h] = step * self.prior.width(self.prior_scales[h]);
            self.means_of(self.decoder_parameters(), &z)
        };
        pairs.map(point).collect()
    }

    /// Returns weights and biases of the decoder.
    pub(crate) fn decoder_parameters(&self) -> &[f64] {
        &self.parameters[self.decoder.first().start..]
    }

    /// Computes the means of the observables at latents, with these weights and biases of the decoder.
    pub(crate) fn means_of(&self, decoder: &[f64], z: &[f64]) -> Vec<f64> {
        let mut parameters = self.parameters.clone();
        parameters[self.decoder.first().start..].copy_from_slice(decoder);
        let z = faer::MatRef::from_row_major_slice(z, 1, z.len());
        let mut tape = self.decoder.tape(1);
        self.decoder.forward(Simd::detect(), &parameters, z, &mut tape);
        let units = self.centre.iter().zip(&self.scale).zip(tape.output());
        units.map(|((centre, scale), y)| centre + scale * y).collect()
    }

    /// Sets the weight of the prior's term of the bound in gradients.
    pub(crate) fn set_prior_weight(&mut self, weight: f64) {
        self.prior_weight = weight;
    }

    /// Makes a latent wider by a factor: in the layer that it leaves the encoder by, and in the one that it enters the decoder by. With a
    /// prior as much wider the bound stays. Tells `scaled` each parameter that was multiplied, and by which number.
    fn scale_latent(&mut self, h: usize, factor: f64, scaled: &mut dyn FnMut(usize, f64)) {
        let latents = self.n_latents();
        let (head, first) = (self.encoder.last(), self.decoder.first());
        let biases = head.start + head.inputs * head.outputs;
        let means = head.start + h * head.inputs;
        let mut multiply = |index: usize, factor: f64| {
            self.parameters[index] *= factor;
            scaled(index, factor);
        };
        (means..means + head.inputs).chain([biases + h]).for_each(|index| multiply(index, factor));
        let column = (0..first.outputs).map(|output| first.start + output * latents + h);
        column.for_each(|index| multiply(index, factor.recip()));
        self.parameters[biases + latents + h] += 2.0 * factor.ln();
    }

    /// Gives the columns of a linear decoder unit length in units of the networks, and the latents their lengths. The bound stays, of
    /// statistics as of points. Tells `scaled` each parameter that was multiplied, and by which number.
    pub(crate) fn pin_columns(
        &mut self,
        stats: &mut SuffStats,
        scaled: &mut dyn FnMut(usize, f64),
    ) {
        let latents = self.n_latents();
        let (weights, _) = self.decoder.first().split(&self.parameters);
        let column = |h: usize| weights.iter().skip(h).step_by(latents);
        let length = |h: usize| column(h).map(|w| w * w).sum::<f64>().sqrt();
        let lengths: Vec<f64> = (0..latents).map(length).collect();
        let total = stats.total_weight();
        for (h, length) in lengths.into_iter().enumerate().filter(|(_, length)| *length > 0.0) {
            self.scale_latent(h, length, scaled);
            // The statistic |z|^p, and the scale of the prior, which is its mean.
            let factor = length.powi(self.prior.power());
            self.prior_scales[h] *= factor;
            let sums = stats.sums_mut(0);
            sums[latents + h] *= factor;
            sums[h] += total * length.ln();
            *stats.posterior_entropy_mut() += total * length.ln();
        }
    }

    /// Returns the same model with scales of the prior and noise variances times these numbers.
    pub(crate) fn scaled(&self, prior: f64, noise: f64) -> Self {
        let mut scaled = self.clone();
        scaled.prior_scales.iter_mut().for_each(|scale| *scale *= prior);
        scaled.noise_variances.iter_mut().for_each(|variance| *variance *= noise);
        scaled
    }

    /// Returns weights and biases of both networks.
    pub(crate) fn parameters_mut(&mut self) -> &mut Vec<f64> {
        &mut self.parameters
    }

    /// Returns all that a fit changes: weights and biases, scales of the prior and noise variances.
    pub(crate) fn numbers(&self) -> Vec<f64> {
        [&self.parameters[..], &self.prior_scales, &self.noise_variances].concat()
    }

    /// Takes back what [`numbers`](Self::numbers) gave. Returns whether it was from a model of these sizes.
    pub(crate) fn set_numbers(&mut self, numbers: &[f64]) -> bool {
        let Self { parameters, prior_scales, noise_variances, .. } = self;
        let own = [parameters, prior_scales, noise_variances];
        let is_sound = numbers.iter().all(|number| number.is_finite());
        if !is_sound || own.iter().map(|it| it.len()).sum::<usize>() != numbers.len() {
            return false;
        }
        own.into_iter().flatten().zip(numbers).for_each(|(own, number)| *own = *number);
        true
    }

    /// Returns the number of weights and biases of both networks.
    pub(crate) fn n_network_parameters(&self) -> usize {
        self.parameters.len()
    }

    /// Returns statistics of no points: `H̄_h`, `M_h` and `R_d` in this order; then the weight of the points that have dimension d, D
    /// values, if values may be missing.
    pub(crate) fn new_stats(&self) -> SuffStats {
        let columns = if self.ignores_missing { 2 * self.dim() } else { self.dim() };
        let statistics = 2 * self.n_latents() + columns;
        SuffStats::zeros(StatsShape { components: 1, statistics, shared: 0, centre: 0 }, Vec::new())
    }

    /// Returns the divergence `KL(q‖p)` of each latent, as a mean over points: H values.
    pub(crate) fn divergences(&self, stats: &SuffStats) -> Vec<f64> {
        let Moments { entropies, latents, .. } = Moments::of(self, stats);
        let scales = entropies.iter().zip(latents).zip(&self.prior_scales);
        scales.map(|((h, m), &scale)| self.prior.cross_entropy(scale, m) - h).collect()
    }

    /// Tells which latents are in use: their posteriors differ from the prior by more than those of a latent that says nothing.
    pub(crate) fn active_latents(&self, stats: &SuffStats) -> Vec<bool> {
        let least = self.prior.divergence_of_unused() + ACTIVE;
        self.divergences(stats).iter().map(|divergence| *divergence > least).collect()
    }

    /// Computes both halves of the gap, `F - ES` of the prior and of the noise (Eqn 32), in nats per point.
    pub(crate) fn gap_halves(&self, stats: &SuffStats) -> [f64; 2] {
        let Moments { latents, residuals, observed, .. } = Moments::of(self, stats);
        let scales = latents.iter().zip(&self.prior_scales);
        let prior = scales.map(|(moment, scale)| self.prior.gap(*scale, *moment)).sum();
        let terms = residuals.iter().zip(&observed).zip(&self.noise_variances);
        [prior, terms.map(|((r, o), v)| 0.5 * (o - r / v)).sum()]
    }
}

/// Returns the numbers of inputs and outputs of successive layers.
fn sizes(layers: &[Layer]) -> Vec<usize> {
    let first = layers.first().map(Layer::inputs);
    first.into_iter().chain(layers.iter().map(Layer::outputs)).collect()
}

/// Means over points, by their names.
struct Moments {
    entropies: Vec<f64>,
    latents: Vec<f64>,
    residuals: Vec<f64>,
    /// Part of the weight that has each dimension; 1 where no value may be missing.
    observed: Vec<f64>,
}

impl Moments {
    fn of(model: &VariationalAutoencoder, stats: &SuffStats) -> Self {
        let mean = |sums: &[f64]| sums.iter().map(|sum| sum / stats.total_weight()).collect();
        let (entropies, rest) = stats.sums(0).split_at(model.n_latents());
        let (latents, rest) = rest.split_at(model.n_latents());
        let (residuals, observed) = rest.split_at(model.dim());
        Self {
            entropies: mean(entropies),
            latents: mean(latents),
            residuals: mean(residuals),
            observed: if model.ignores_missing { mean(observed) } else { vec![1.0; model.dim()] },
        }
    }
}

/// On statistics of points and networks (`H̄_h`, `M_h`, `R_d`): an M-step sets prior and noise, and leaves the networks.
impl GenerativeModel for VariationalAutoencoder {
    fn dim(&self) -> usize {
        self.dim()
    }

    /// Returns the same model for points with missing values (NaN). These are left out of the bound, and the encoder sees the centre in
    /// their place.
    fn ignoring_missing(self) -> Result<Self> {
        Ok(Self { ignores_missing: true, ..self })
    }

    fn domains(&self) -> Vec<Domain> {
        let all = Domain::new(0..self.dim(), Support::Real);
        if self.ignores_missing { vec![Domain { missing: true, ..all }] } else { Vec::new() }
    }

    /// Sets `α_h = M_h` (`λ_h = M_h`) and `σ_d² = R_d`, or their mean: both halves of the gap are zero then, except at a floor. Over the points
    /// that have dimension d, where values are missing; a variance of a dimension without points stays.
    fn m_step(&mut self, stats: &SuffStats, _: &Regularization) -> Vec<Event> {
        let Moments { latents, residuals, observed, .. } = Moments::of(self, stats);
        for (scale, moment) in self.prior_scales.iter_mut().zip(latents) {
            *scale = moment.max(PRIOR_FLOOR);
        }
        let shared = residuals.iter().sum::<f64>() / observed.iter().sum::<f64>();
        let mut variables = Vec::new();
        for d in 0..self.dim() {
            let value = match self.noise {
                Noise::Isotropic => shared,
                Noise::Diagonal if observed[d] > 0.0 => residuals[d] / observed[d],
                Noise::Diagonal => continue,
            };
            let floor = NOISE_FLOOR * self.scale[d].powi(2);
            self.noise_variances[d] = value.max(floor);
            if value <= floor {
                variables.push(d);
            }
        }
        if variables.is_empty() { Vec::new() } else { vec![Event::NoiseFloored { variables }] }
    }

    /// Moves the scales of the prior into the networks, unless they are learned. The bound stays as it is.
    fn finish(&mut self) {
        self.prior_weight = 1.0;
        if self.prior == LatentPrior::Learned {
            return;
        }
        for h in 0..self.n_latents() {
            self.scale_latent(h, self.prior.width(self.prior_scales[h]).recip(), &mut |_, _| ());
        }
        self.prior_scales.fill(1.0);
    }

    fn entropy_sum(&self, stats: &SuffStats) -> EntropySum {
        EntropySum {
            posterior: stats.posterior_entropy() / stats.total_weight(),
            prior: self.prior_scales.iter().map(|scale| self.prior.entropy(*scale)).sum(),
            observable: Moments::of(self, stats)
                .observed
                .iter()
                .zip(&self.noise_variances)
                .map(|(o, v)| 0.5 * o * (2.0 * PI * E * v).ln())
                .sum(),
            ..EntropySum::default()
        }
    }

    fn lower_bound(&self, stats: &SuffStats) -> f64 {
        let Moments { latents, residuals, observed, .. } = Moments::of(self, stats);
        let scales = latents.iter().zip(&self.prior_scales);
        let prior: f64 = scales.map(|(m, scale)| self.prior.cross_entropy(*scale, *m)).sum();
        let noise = residuals.iter().zip(&observed).zip(&self.noise_variances);
        let noise: f64 = noise.map(|((r, o), v)| 0.5 * (o * (2.0 * PI * v).ln() + r / v)).sum();
        stats.posterior_entropy() / stats.total_weight() - prior - noise
    }

    /// Counts decoder and noise. The encoder is no part of the generative model; scales of the prior change no density beyond what the
    /// decoder can, and neither do rotations of the latents under a Gaussian prior and a linear decoder.
    fn n_parameters(&self) -> usize {
        let latents = self.n_latents();
        let decoder: usize = self.decoder.layers().iter().map(|layer| layer.len()).sum();
        let noise = if self.noise == Noise::Isotropic { 1 } else { self.dim() };
        let turns = self.decoder_is_linear() && self.prior != LatentPrior::Laplace;
        let rotations = latents.min(self.dim()) * (latents.min(self.dim()) - 1) / 2;
        decoder + noise - if turns { rotations } else { 0 }
    }

    fn active_components(&self) -> usize {
        1
    }
}
