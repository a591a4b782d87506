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
//! so entropy sum and bound are one after it. Points are taken about a centre that is fixed, so that no digits cancel in `R_d`.

use super::{LatentPosterior, LatentStats, Layer, OUTPUTS_PER_PIECE, SigmoidBeliefNet};
use crate::error::{Error, Result};
use crate::linalg::Cholesky;
use crate::model::Noise;
use crate::model::autoencoder::NOISE_FLOOR;
use crate::monitor::Event;
use crate::rng::Rng;
use crate::work::{Piece, Workers};
use rand_distr::{Distribution, StandardNormal};
use std::f64::consts::PI;

/// Part of the diagonal that is added to second moments, so that latents which are never on, or always together, leave them regular.
const DAMPING: f64 = 1e-13;

/// Solutions of the normal equations, each for what the last one left: damping then costs nothing.
const REFINEMENTS: usize = 3;

/// Noise of the observables, and the centre about which points are taken.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct GaussianObservables {
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
        let invalid =
            |message: String| Err(Error::Model(format!("binary sparse coding: {message}")));
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
        let mut model = Self::new(prior, None, dictionary)?;
        model.gaussian = Some(GaussianObservables { noise, variances, centre });
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

    /// Returns the same model with noise variances times this number.
    pub(crate) fn with_scaled_noise(&self, factor: f64) -> Self {
        let mut scaled = self.clone();
        let variances = scaled.gaussian.iter_mut().flat_map(|gaussian| &mut gaussian.variances);
        variances.for_each(|variance| *variance *= factor);
        scaled
    }
}

impl GaussianObservables {
    /// Returns the number of variances that are parameters.
    pub fn n_variances(&self) -> usize {
        if self.noise == Noise::Isotropic { 1 } else { self.variances.len() }
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

    /// Draws a point given a state of the latents.
    pub fn draw(&self, dictionary: &Layer, state: &[f64], rng: &mut Rng, point: &mut [f64]) {
        let means = dictionary.outputs_of(state).zip(&self.centre).zip(&self.variances);
        for (x, ((mean, centre), variance)) in point.iter_mut().zip(means) {
            let normal: f64 = StandardNormal.sample(rng);
            *x = centre + mean + variance.sqrt() * normal;
        }
    }

    /// Sets dictionary and noise to their maximum.
    pub fn maximize(
        &mut self,
        layer: &mut Layer,
        stats: &LatentStats,
        workers: &dyn Workers,
    ) -> Vec<Event> {
        let gram = stats.layers[0].design.second_moments_of_mass();
        if let Some(equations) = NormalEquations::new(&gram) {
            let part = (layer.inputs + 1) * OUTPUTS_PER_PIECE;
            let equations = &equations;
            let mut pieces: Vec<Piece<'_>> = Vec::new();
            let targets = stats.layers[0].targets.chunks(part);
            for (rows, targets) in layer.rows.chunks_mut(part).zip(targets) {
                pieces.push(Box::new(move || equations.solve(rows, targets)));
            }
            workers.work(pieces);
        }
        let residuals = residuals(layer, stats, &gram);
        let n = layer.inputs + 1;
        let means = stats.layers[0].targets.chunks(n).map(|target| target[n - 1]);
        let spread = stats.squares.iter().zip(means).map(|(square, mean)| square - mean * mean);
        let spread: Vec<f64> = spread.map(|variance| variance.max(0.0)).collect();
        let dim = residuals.len();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / dim as f64;
        let (shared, of_all) = (mean(&residuals), mean(&spread));
        let mut variables = Vec::new();
        for d in 0..dim {
            let (value, spread) = match self.noise {
                Noise::Isotropic => (shared, of_all),
                Noise::Diagonal if spread[d] > 0.0 => (residuals[d], spread[d]),
                Noise::Diagonal => (residuals[d], of_all),
            };
            // Constant points have no unit of their own.
            let floor = NOISE_FLOOR * if spread > 0.0 { spread } else { 1.0 };
            self.variances[d] = value.max(floor);
            if value <= floor {
                variables.push(d);
            }
        }
        if variables.is_empty() { Vec::new() } else { vec![Event::NoiseFloored { variables }] }
    }

    /// Returns `R_d` of all outputs.
    pub fn residuals(&self, layer: &Layer, stats: &LatentStats) -> Vec<f64> {
        residuals(layer, stats, &stats.layers[0].design.second_moments_of_mass())
    }

    /// Returns `∂F/∂w̃_d = (⟨x_d z̃⟩ - ⟨z̃ z̃'⟩ w̃_d) / σ_d²` of all outputs.
    pub fn gradient(&self, layer: &Layer, stats: &LatentStats) -> Vec<f64> {
        let gram = stats.layers[0].design.second_moments_of_mass();
        let n = layer.inputs + 1;
        let rows = layer.rows().zip(stats.layers[0].targets.chunks(n)).zip(&self.variances);
        rows.flat_map(|((row, target), variance)| {
            let left = left(&gram, row, target);
            left.map(|value| value / variance).collect::<Vec<_>>()
        })
        .collect()
    }
}

/// Returns `⟨x z̃⟩ - ⟨z̃ z̃'⟩ w̃`.
fn left<'a>(gram: &'a [f64], row: &'a [f64], target: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    let dot = move |a: &[f64]| a.iter().zip(row).map(|(g, w)| g * w).sum::<f64>();
    gram.chunks(row.len()).zip(target).map(move |(column, target)| target - dot(column))
}

/// Returns `⟨x_d²⟩ - w̃_d · (⟨x_d z̃⟩ + (⟨x_d z̃⟩ - ⟨z̃ z̃'⟩ w̃_d))` of all outputs.
fn residuals(layer: &Layer, stats: &LatentStats, gram: &[f64]) -> Vec<f64> {
    let n = layer.inputs + 1;
    let rows = layer.rows().zip(stats.layers[0].targets.chunks(n)).zip(&stats.squares);
    rows.map(|((row, target), square)| {
        let left = left(gram, row, target);
        let explained: f64 =
            row.iter().zip(target).zip(left).map(|((w, t), left)| w * (t + left)).sum();
        (square - explained).max(0.0)
    })
    .collect()
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
