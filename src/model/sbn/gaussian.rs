//! Gaussian observables: binary sparse coding, `x | z ~ N(W z + μ, diag σ²)` with the binary `z` of a network (Definition 3, Prop. 2
//! and 3).
//!
//! The M-step is exact. With `z̃ = (z, 1)` and `w̃_d` the weights and the bias of an output,
//!
//! ```text
//! w̃_d = ⟨z̃ z̃'⟩⁻¹ ⟨x_d z̃⟩      R_d = ⟨(x_d - w̃_d · z̃)²⟩      σ_d² = R_d, or their mean      π_h = ⟨z_h⟩
//! F - ES = Σ_h (⟨z_h⟩ - π_h) logit π_h + ½ Σ_d (1 - R_d / σ_d²)
//! ```
//!
//! so entropy sum and bound are one after it. Points are taken about a centre that is fixed, so that no digits cancel in `R_d`. With hidden
//! layers (`decoder.rs`) their units take the place of `z`.

use super::decoder::Decoder;
use super::regression::Design;
use super::{LatentPosterior, LatentStats, Layer, OUTPUTS_PER_PIECE, SigmoidBeliefNet};
use crate::error::{Error, Result};
use crate::kernels::dense::Activation;
use crate::linalg::Cholesky;
use crate::model::Noise;
use crate::model::autoencoder::NOISE_FLOOR;
use crate::monitor::Event;
use crate::rng::Rng;
use crate::scalar::Scalar;
use crate::work::{Alone, Piece, Workers};
use rand_distr::{Distribution, StandardNormal};
use std::borrow::Cow;
use std::f64::consts::PI;

/// Part of the diagonal that is added to second moments, so that latents which are never on, or always together, leave them regular.
const DAMPING: f64 = 1e-13;

/// Solutions of the normal equations, each for what the last one left: damping then costs nothing.
const REFINEMENTS: usize = 3;

/// Noise of the observables, the centre about which points are taken, and hidden layers of the decoder.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct GaussianObservables {
    /// Layers between states and observables; none of a linear decoder.
    pub decoder: Option<Decoder>,
    /// Whether values of points may be missing (NaN).
    pub ignores_missing: bool,
    pub noise: Noise,
    /// D values, all equal if the noise is isotropic.
    pub variances: Vec<f64>,
    pub centre: Vec<f64>,
}

impl SigmoidBeliefNet {
    /// Makes a model of binary sparse coding: `x = centre + W z + bias + noise`, where `dictionary` holds weights W and biases.
    ///
    /// Posteriors are truncated to [`LatentPosterior::DEFAULT_STATES`] states; to all states, if there are no more.
    ///
    /// # Errors
    /// If sizes do not agree, a prior probability is outside [0, 1], a variance is not positive, or the centre is not finite.
    ///
    /// ```
    /// use entropysum::model::{Layer, Noise, SigmoidBeliefNet};
    ///
    /// // Two causes add (2, 0) and (1, 1) to the observables.
    /// let dictionary = Layer::new(2, &[2.0, 1.0, 0.0, 1.0], &[0.0, 0.0])?;
    /// let prior = vec![0.25, 0.5];
    /// let code = SigmoidBeliefNet::binary_sparse_coding(
    ///     prior, dictionary, Noise::Isotropic, vec![0.1], vec![0.0, 0.0],
    /// )?;
    /// assert_eq!(code.noise_variances(), Some(&[0.1, 0.1][..]));
    /// # Ok::<(), entropysum::Error>(())
    /// ```
    pub fn binary_sparse_coding(
        prior: Vec<f64>,
        dictionary: Layer,
        noise: Noise,
        noise_variances: Vec<f64>,
        centre: Vec<f64>,
    ) -> Result<Self> {
        let activation = Activation::default();
        Self::binary_autoencoder(
            prior,
            vec![dictionary],
            activation,
            noise,
            noise_variances,
            centre,
        )
    }

    /// Makes the same model with a network as decoder, a truncated variational autoencoder: `x = centre + μ(z) + noise`, where the layers
    /// of `decoder`, from the latents on, make the means `μ`. A single layer is binary sparse coding.
    ///
    /// # Errors
    /// As [`binary_sparse_coding`](Self::binary_sparse_coding); also if the inputs of a layer are not the outputs of the layer before it.
    ///
    /// ```
    /// use entropysum::model::{Activation, Layer, Noise, SigmoidBeliefNet};
    ///
    /// // The second cause makes a difference only where the first is off.
    /// let decoder = vec![
    ///     Layer::new(2, &[1.0, 0.0, -1.0, 1.0], &[0.0, 0.0])?,
    ///     Layer::new(2, &[2.0, 5.0], &[0.0])?,
    /// ];
    /// let prior = vec![0.25, 0.5];
    /// let code = SigmoidBeliefNet::binary_autoencoder(
    ///     prior, decoder, Activation::Relu, Noise::Isotropic, vec![0.1], vec![0.0],
    /// )?;
    /// assert_eq!(code.hidden_units(), [2]);
    /// assert_eq!(code.effects(), [[2.0], [5.0]]);
    /// # Ok::<(), entropysum::Error>(())
    /// ```
    pub fn binary_autoencoder(
        prior: Vec<f64>,
        mut decoder: Vec<Layer>,
        activation: Activation,
        noise: Noise,
        noise_variances: Vec<f64>,
        centre: Vec<f64>,
    ) -> Result<Self> {
        let invalid =
            |message: String| Err(Error::Model(format!("binary sparse coding: {message}")));
        let Some(dictionary) = decoder.pop() else {
            return invalid("the decoder has no layer".to_owned());
        };
        let dim = dictionary.outputs();
        let n_variances = if noise == Noise::Isotropic { 1 } else { dim };
        for (name, found, expected) in [
            ("noise variances", noise_variances.len(), n_variances),
            ("values of the centre", centre.len(), dim),
        ] {
            if found != expected {
                return invalid(format!("{found} {name}, expected {expected}"));
            }
        }
        if let Some(value) = noise_variances.iter().find(|v| !(**v > 0.0 && v.is_finite())) {
            return invalid(format!("a noise variance is {value}, expected a positive number"));
        }
        if let Some(value) = centre.iter().find(|value| !value.is_finite()) {
            return invalid(format!("the centre has a value {value}, expected a finite number"));
        }
        let mut variances = noise_variances;
        variances.resize(dim, variances[0]);
        let latents = prior.len();
        // The first layer, since there may be no other, is that of a network of zeros and ones.
        let mut model = Self::new(prior, None, decoder.first().unwrap_or(&dictionary).clone())?;
        let hidden = match decoder.is_empty() {
            true => None,
            false => Some(Decoder::new(latents, &decoder, activation, &dictionary)?),
        };
        model.layers = vec![dictionary];
        let ignores_missing = false;
        model.gaussian = Some(GaussianObservables {
            decoder: hidden,
            ignores_missing,
            noise,
            variances,
            centre,
        });
        model.with_posterior(LatentPosterior::Truncated { states: LatentPosterior::DEFAULT_STATES })
    }

    /// Returns the noise variances of Gaussian observables, D values; `None` of a network of zeros and ones.
    pub fn noise_variances(&self) -> Option<&[f64]> {
        self.gaussian.as_ref().map(|gaussian| &gaussian.variances[..])
    }

    /// Returns whether dimensions of Gaussian observables share a noise variance; `None` of a network of zeros and ones.
    pub fn noise(&self) -> Option<Noise> {
        self.gaussian.as_ref().map(|gaussian| gaussian.noise)
    }

    /// Returns the hidden layers of the decoder of Gaussian observables, from the latents on, and the function between layers; none of a
    /// linear decoder.
    pub fn hidden_layers(&self) -> (Vec<Layer>, Activation) {
        let decoder = self.gaussian.as_ref().and_then(|gaussian| gaussian.decoder.as_ref());
        decoder.map_or_else(Default::default, |decoder| (decoder.layers(), decoder.activation()))
    }

    /// Returns the numbers of units of these layers.
    pub fn hidden_units(&self) -> Vec<usize> {
        self.hidden_layers().0.iter().map(Layer::outputs).collect()
    }

    /// Returns what each latent that the observables see adds to them, or to their logits, where it alone is on: rows of D values.
    pub fn effects(&self) -> Vec<Vec<f64>> {
        let layer = self.observables();
        let decoder = self.gaussian.as_ref().and_then(|gaussian| gaussian.decoder.as_ref());
        let Some(decoder) = decoder else {
            let column = |h: usize| layer.rows().map(|row| row[h]).collect();
            return (0..layer.inputs()).map(column).collect();
        };
        let mut state = vec![0.0; self.prior.len()];
        let none = decoder.means_of(layer, &state);
        let effect = |h: usize| {
            state[h] = 1.0;
            let means = decoder.means_of(layer, &state);
            state[h] = 0.0;
            means.iter().zip(&none).map(|(mean, none)| mean - none).collect()
        };
        (0..self.prior.len()).map(effect).collect()
    }

    /// Returns the same model with noise variances times this number.
    pub(crate) fn with_scaled_noise(&self, factor: f64) -> Self {
        let mut scaled = self.clone();
        let variances = scaled.gaussian.iter_mut().flat_map(|gaussian| &mut gaussian.variances);
        variances.for_each(|variance| *variance *= factor);
        scaled
    }
}

impl GaussianObservables {
    /// Tells whether a value is one that the observables can take.
    pub fn accepts<T: Scalar>(&self, value: T) -> bool {
        value.is_finite() || self.ignores_missing && value.to_f64().is_nan()
    }

    /// Returns the number of variances that are parameters.
    pub fn n_variances(&self) -> usize {
        if self.noise == Noise::Isotropic { 1 } else { self.variances.len() }
    }

    /// Returns the number of parameters besides those of the last layer.
    pub fn n_parameters(&self) -> usize {
        self.n_variances() + self.decoder.as_ref().map_or(0, Decoder::n_parameters)
    }

    /// Returns the mean of the observables less the centre, from their natural parameters `μ_d / σ_d²`.
    pub fn means_in_place(&self, natural: &mut [f64]) {
        natural.iter_mut().zip(&self.variances).for_each(|(value, variance)| *value *= variance);
    }

    /// Returns the log-partition `½ Σ_d σ_d² η_d²` of natural parameters.
    pub fn log_partition(&self, natural: &[f64]) -> f64 {
        natural.iter().zip(&self.variances).map(|(eta, variance)| 0.5 * variance * eta * eta).sum()
    }

    /// Returns `ln h(x) = -½ Σ_d (ln 2πσ_d² + x_d² / σ_d²)` of a point about the centre.
    pub fn log_base_measure(&self, x: &[f64]) -> f64 {
        let terms = x.iter().zip(&self.variances);
        terms.map(|(x, v)| -0.5 * ((2.0 * PI * v).ln() + x * x / v)).sum()
    }

    /// Returns the same of the values that a point has.
    pub fn log_base_measure_of_present(&self, x: &[f64], present: &[bool]) -> f64 {
        let terms = x.iter().zip(&self.variances).zip(present).filter(|(_, present)| **present);
        terms.map(|((x, v), _)| -0.5 * ((2.0 * PI * v).ln() + x * x / v)).sum()
    }

    /// Draws a point given a state of the latents.
    pub fn draw(&self, dictionary: &Layer, state: &[f64], rng: &mut Rng, point: &mut [f64]) {
        let means = match &self.decoder {
            None => dictionary.outputs_of(state).collect(),
            Some(decoder) => decoder.means_of(dictionary, state),
        };
        let means = means.into_iter().zip(&self.centre).zip(&self.variances);
        for (x, ((mean, centre), variance)) in point.iter_mut().zip(means) {
            let normal: f64 = StandardNormal.sample(rng);
            *x = centre + mean + variance.sqrt() * normal;
        }
    }

    /// Sets dictionary and noise to their maximum, and moves hidden layers towards it.
    pub fn maximize(
        &mut self,
        layer: &mut Layer,
        stats: &LatentStats,
        workers: &dyn Workers,
    ) -> Vec<Event> {
        if let Some(decoder) = &mut self.decoder {
            decoder.maximize(layer, stats, self.noise, workers);
        }
        let moments = self.moments(stats, workers);
        moments.solve(layer, workers);
        let residuals = moments.residuals(layer, &stats.squares);
        let (variances, variables) =
            variances_of(self.noise, &residuals, &moments.spread(&stats.squares));
        self.variances = variances;
        if variables.is_empty() { Vec::new() } else { vec![Event::NoiseFloored { variables }] }
    }

    /// Returns what the last layer sees of the points.
    fn moments<'a>(&self, stats: &'a LatentStats, workers: &dyn Workers) -> Moments<'a> {
        match &self.decoder {
            None => Moments {
                gram: stats.design().second_moments_of_mass(),
                targets: Cow::Borrowed(&stats.layers[0].targets),
            },
            Some(decoder) => decoder.moments(stats, workers),
        }
    }

    /// Returns `R_d` of all outputs.
    pub fn residuals(&self, layer: &Layer, stats: &LatentStats, workers: &dyn Workers) -> Vec<f64> {
        self.moments(stats, workers).residuals(layer, &stats.squares)
    }

    /// Returns `∂F/∂(weights, biases)` of all layers from the latents on; `∂F/∂w̃_d = (⟨x_d ũ⟩ - ⟨ũ ũ'⟩ w̃_d) / σ_d²` of the last.
    pub fn gradient(&self, layer: &Layer, stats: &LatentStats) -> Vec<Layer> {
        let moments = self.moments(stats, &Alone);
        let n = layer.inputs + 1;
        let rows = layer.rows().zip(moments.targets.chunks(n)).zip(&self.variances);
        let rows = rows.flat_map(|((row, target), variance)| {
            let left = left(&moments.gram, row, target);
            left.map(|value| value / variance).collect::<Vec<_>>()
        });
        let last = Layer { inputs: layer.inputs, rows: rows.collect() };
        let hidden = self.decoder.as_ref().map(|it| it.gradient(layer, stats, &self.variances));
        hidden.into_iter().flatten().chain([last]).collect()
    }
}

impl LatentStats {
    /// Returns the states of the top latents.
    pub(super) fn design(&self) -> &Design {
        &self.layers[0].design
    }
}

/// Second moments of what the last layer sees: `⟨ũ ũ'⟩` and `⟨x_d ũ⟩` with `ũ = (u, 1)`, where `u` are hidden units, or the states.
#[derive(Debug)]
pub(super) struct Moments<'a> {
    pub gram: Vec<f64>,
    pub targets: Cow<'a, [f64]>,
}

impl Moments<'_> {
    /// Sets the last layer to its maximum.
    pub fn solve(&self, layer: &mut Layer, workers: &dyn Workers) {
        let Some(equations) = NormalEquations::new(&self.gram) else { return };
        let part = (layer.inputs + 1) * OUTPUTS_PER_PIECE;
        let equations = &equations;
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        for (rows, targets) in layer.rows.chunks_mut(part).zip(self.targets.chunks(part)) {
            pieces.push(Box::new(move || equations.solve(rows, targets)));
        }
        workers.work(pieces);
    }

    /// Returns `⟨x_d²⟩ - w̃_d · (⟨x_d ũ⟩ + (⟨x_d ũ⟩ - ⟨ũ ũ'⟩ w̃_d))` of all outputs.
    pub fn residuals(&self, layer: &Layer, squares: &[f64]) -> Vec<f64> {
        let n = layer.inputs + 1;
        let rows = layer.rows().zip(self.targets.chunks(n)).zip(squares);
        rows.map(|((row, target), square)| {
            let left = left(&self.gram, row, target);
            let explained: f64 =
                row.iter().zip(target).zip(left).map(|((w, t), left)| w * (t + left)).sum();
            (square - explained).max(0.0)
        })
        .collect()
    }

    /// Returns the variances of the points.
    pub fn spread(&self, squares: &[f64]) -> Vec<f64> {
        let n = self.gram.len().isqrt();
        let means = self.targets.chunks(n).map(|target| target[n - 1]);
        squares.iter().zip(means).map(|(square, mean)| (square - mean * mean).max(0.0)).collect()
    }
}

/// Returns the noise variances of these residuals, D values above a part of the variances of the points, and the dimensions at that floor.
pub(super) fn variances_of(
    noise: Noise,
    residuals: &[f64],
    spread: &[f64],
) -> (Vec<f64>, Vec<usize>) {
    let dim = residuals.len();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / dim as f64;
    let (shared, of_all) = (mean(residuals), mean(spread));
    let (mut variances, mut variables) = (Vec::new(), Vec::new());
    for d in 0..dim {
        let (value, spread) = match noise {
            Noise::Isotropic => (shared, of_all),
            Noise::Diagonal if spread[d] > 0.0 => (residuals[d], spread[d]),
            Noise::Diagonal => (residuals[d], of_all),
        };
        // Constant points have no unit of their own.
        let floor = NOISE_FLOOR * if spread > 0.0 { spread } else { 1.0 };
        variances.push(value.max(floor));
        if value <= floor {
            variables.push(d);
        }
    }
    (variances, variables)
}

/// Returns `⟨x ũ⟩ - ⟨ũ ũ'⟩ w̃`.
fn left<'a>(gram: &'a [f64], row: &'a [f64], target: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    let dot = move |a: &[f64]| a.iter().zip(row).map(|(g, w)| g * w).sum::<f64>();
    gram.chunks(row.len()).zip(target).map(move |(column, target)| target - dot(column))
}

/// Second moments `⟨z̃ z̃'⟩`, factorised for a unit diagonal, so that latents that are rarely on lose no digits.
struct NormalEquations<'a> {
    gram: &'a [f64],
    scales: Vec<f64>,
    cholesky: Cholesky,
}

impl<'a> NormalEquations<'a> {
    fn new(gram: &'a [f64]) -> Option<Self> {
        let n = gram.len().isqrt();
        let scale = |h: usize| {
            let square = gram[h * (n + 1)];
            if square > 0.0 { square.sqrt().recip() } else { 0.0 }
        };
        let scales: Vec<f64> = (0..n).map(scale).collect();
        let cholesky = (0..16).find_map(|power| {
            let damping = DAMPING * 10f64.powi(power);
            let mut matrix = gram.to_vec();
            for (h, row) in matrix.chunks_mut(n).enumerate() {
                row.iter_mut().zip(&scales).for_each(|(value, scale)| *value *= scales[h] * scale);
                row[h] = 1.0 + damping;
            }
            Cholesky::new(&matrix, n)
        });
        Some(Self { gram, scales, cholesky: cholesky? })
    }

    /// Solves the equations of some outputs, from where their weights stand.
    fn solve(&self, rows: &mut [f64], targets: &[f64]) {
        let n = self.scales.len();
        for (row, target) in rows.chunks_mut(n).zip(targets.chunks(n)) {
            for _ in 0..REFINEMENTS {
                let left = left(self.gram, row, target).zip(&self.scales);
                let left: Vec<f64> = left.map(|(value, scale)| value * scale).collect();
                let step = self.cholesky.solve(&left);
                for ((w, step), scale) in row.iter_mut().zip(step).zip(&self.scales) {
                    *w += step * scale;
                }
            }
        }
    }
}
