//! Hidden layers between binary states and the means of the observables: a truncated variational autoencoder (Drefs et al. 2022).
//!
//! The means are `W u(z) + μ`, where a network makes units `u` of a state. Points enter by sums for each state, its mass
//! `m_z = ⟨q_n(z)⟩` and its target `t_z = ⟨q_n(z) x_n⟩`:
//!
//! ```text
//! R_d = ⟨x_d²⟩ - 2 Σ_z t_zd μ_d(z) + Σ_z m_z μ_d(z)²      ∂F/∂μ_d(z) = (t_zd - m_z μ_d(z)) / σ_d²
//! ```
//!
//! So a state goes through the network once, whatever the number of points that have it, and nothing is sampled. W and μ have their
//! maximum in closed form for any units. Hidden layers move by a few steps of L-BFGS along the gradient of what is left, in which W, μ
//! and the noise follow in closed form (variable projection, Golub & Pereyra 1973). So the bound never falls.

use super::gaussian::{Moments, variances_of};
use super::regression::Design;
use super::{LatentStats, Layer};
use crate::error::{Error, Result};
use crate::kernels::dense::{Activation, Dense};
use crate::kernels::dispatch::Simd;
use crate::lbfgs::descend;
use crate::model::Noise;
use crate::model::autoencoder::{Network, Tape};
use crate::work::{self, Alone, Workers};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use std::ops::Range;

/// Steps of L-BFGS of an M-step, which starts where the last one ended.
const STEPS: usize = 5;

/// States of a tile, and of a piece of an M-step at least; pieces at most, each with sums of its own.
const TILE: usize = 128;
const PIECE: usize = 1024;
const MAX_PIECES: usize = 32;

/// Hidden layers of a decoder. Its last layer stands with the observables of the model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decoder {
    network: Network,
    activation: Activation,
    /// Weights and biases of the hidden layers.
    hidden: Vec<f64>,
}

impl Decoder {
    /// Makes a decoder from its hidden layers, and with the sizes of its last.
    ///
    /// # Errors
    /// If the inputs of a layer are not the outputs of the layer before it.
    pub fn new(
        latents: usize,
        layers: &[Layer],
        activation: Activation,
        last: &Layer,
    ) -> Result<Self> {
        let mut sizes = vec![latents];
        for layer in layers.iter().chain([last]) {
            let expected = sizes[sizes.len() - 1];
            if layer.inputs() != expected {
                return Err(Error::Model(format!(
                    "binary sparse coding: a layer of the decoder has {} inputs, expected {expected}",
                    layer.inputs()
                )));
            }
            sizes.push(layer.outputs());
        }
        let hidden = layers.iter().flat_map(|layer| [layer.weights(), layer.biases()].concat());
        let network = Network::new(&sizes, activation, &mut 0);
        Ok(Self { network, activation, hidden: hidden.collect() })
    }

    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Returns the hidden layers, from the latents on.
    pub fn layers(&self) -> Vec<Layer> {
        self.layers_of(&self.hidden)
    }

    /// Cuts a vector into the layers that its numbers are for.
    fn layers_of(&self, numbers: &[f64]) -> Vec<Layer> {
        let layers = self.network.layers();
        let layer = |layer: &Dense| {
            let (weights, biases) = layer.split(numbers);
            let rows = weights.chunks(layer.inputs).zip(biases);
            let rows = rows.flat_map(|(weights, bias)| weights.iter().chain([bias])).copied();
            Layer { inputs: layer.inputs, rows: rows.collect() }
        };
        layers[..layers.len() - 1].iter().map(layer).collect()
    }

    /// Returns the number of weights and biases of the hidden layers.
    pub fn n_parameters(&self) -> usize {
        self.hidden.len()
    }

    /// Returns network and parameters of the map from states to outputs of this last layer, each over its variance.
    pub fn natural(&self, last: &Layer, variances: &[f64]) -> (Network, Vec<f64>) {
        (self.network.clone(), parameters(&self.hidden, last, variances))
    }

    /// Computes the means of a state, less the centre.
    pub fn means_of(&self, last: &Layer, state: &[f64]) -> Vec<f64> {
        let ones = vec![1.0; last.outputs()];
        outputs_of(&self.network, &parameters(&self.hidden, last, &ones), state)
    }

    /// Returns what the last layer sees of the points.
    pub fn moments(&self, stats: &LatentStats, workers: &dyn Workers) -> Moments<'static> {
        self.moments_at(&self.hidden, stats, workers)
    }

    fn moments_at(
        &self,
        hidden: &[f64],
        stats: &LatentStats,
        workers: &dyn Workers,
    ) -> Moments<'static> {
        let last = self.network.last();
        let (dim, n) = (last.outputs, last.inputs + 1);
        let sums = in_pieces(stats, workers, |states| {
            let mut sums = vec![0.0; n * n + n * dim];
            let (gram, targets) = sums.split_at_mut(n * n);
            let mut tile = Tile::new(&self.network);
            let [mut units, mut weighted] = [(); 2].map(|()| vec![0.0; TILE * n]);
            for_tiles(states, |states| {
                let k = states.len();
                let (x, tape) = tile.of(stats.design(), states.clone());
                self.network.forward_to_units(Simd::detect(), hidden, x, tape);
                let rows = units.chunks_exact_mut(n).zip(weighted.chunks_exact_mut(n));
                let own = tape.units().chunks_exact(n - 1).zip(states.clone());
                for ((units, weighted), (own, state)) in rows.zip(own) {
                    units[..n - 1].copy_from_slice(own);
                    units[n - 1] = 1.0;
                    let mass = stats.design().mass(state);
                    weighted.iter_mut().zip(&*units).for_each(|(w, u)| *w = mass * u);
                }
                let units = MatRef::from_row_major_slice(&units[..k * n], k, n);
                let weighted = MatRef::from_row_major_slice(&weighted[..k * n], k, n);
                let outputs = &stats.outputs[states.start * dim..states.end * dim];
                let outputs = MatRef::from_row_major_slice(outputs, k, dim);
                let gram = MatMut::from_row_major_slice_mut(gram, n, n);
                matmul(gram, Accum::Add, units.transpose(), weighted, 1.0, Par::Seq);
                let targets = MatMut::from_row_major_slice_mut(targets, dim, n);
                matmul(targets, Accum::Add, outputs.transpose(), units, 1.0, Par::Seq);
            });
            sums
        });
        let (gram, targets) = sums.split_at(n * n);
        Moments { gram: gram.to_vec(), targets: targets.to_vec().into() }
    }

    /// Returns the gradient of the bound with respect to weights and biases of the hidden layers.
    pub fn gradient(&self, last: &Layer, stats: &LatentStats, variances: &[f64]) -> Vec<Layer> {
        let gradient = self.gradient_at(&self.hidden, last, stats, variances, &Alone);
        self.layers_of(&gradient)
    }

    fn gradient_at(
        &self,
        hidden: &[f64],
        last: &Layer,
        stats: &LatentStats,
        variances: &[f64],
        workers: &dyn Workers,
    ) -> Vec<f64> {
        let dim = variances.len();
        let parameters = parameters(hidden, last, &vec![1.0; dim]);
        let precisions: Vec<f64> = variances.iter().map(|variance| variance.recip()).collect();
        in_pieces(stats, workers, |states| {
            let mut gradient = vec![0.0; parameters.len()];
            let mut tile = Tile::new(&self.network);
            for_tiles(states, |states| {
                let (x, tape) = tile.of(stats.design(), states.clone());
                self.network.forward(Simd::detect(), &parameters, x, tape);
                let (means, delta) = tape.output_and_delta();
                let targets = stats.outputs[states.start * dim..].chunks_exact(dim);
                let rows = means.chunks_exact(dim).zip(delta.chunks_exact_mut(dim)).zip(targets);
                for (state, ((means, delta), targets)) in states.zip(rows) {
                    let mass = stats.design().mass(state);
                    for d in 0..dim {
                        delta[d] = precisions[d] * (targets[d] - mass * means[d]);
                    }
                }
                self.network.backward(&parameters, x, tape, &mut gradient, false);
            });
            gradient
        })
    }

    /// Moves the hidden layers towards the maximum, for a last layer that follows.
    pub fn maximize(
        &mut self,
        last: &Layer,
        stats: &LatentStats,
        noise: Noise,
        workers: &dyn Workers,
    ) {
        let mut hidden = std::mem::take(&mut self.hidden);
        let this = &*self;
        descend(&mut hidden, STEPS, |hidden| {
            let mut last = last.clone();
            let moments = this.moments_at(hidden, stats, workers);
            moments.solve(&mut last, workers);
            let residuals = moments.residuals(&last, &stats.squares);
            let (variances, _) = variances_of(noise, &residuals, &moments.spread(&stats.squares));
            let value = 0.5 * variances.iter().map(|variance| variance.ln()).sum::<f64>();
            let mut gradient = this.gradient_at(hidden, &last, stats, &variances, workers);
            gradient.truncate(hidden.len());
            gradient.iter_mut().for_each(|g| *g = -*g);
            (value, gradient)
        });
        self.hidden = hidden;
    }
}

/// Computes the outputs of a network for one state.
pub(super) fn outputs_of(network: &Network, parameters: &[f64], state: &[f64]) -> Vec<f64> {
    let x = MatRef::from_row_major_slice(state, 1, state.len());
    let mut tape = network.tape(1);
    network.forward(Simd::detect(), parameters, x, &mut tape);
    tape.output().to_vec()
}

/// Returns the parameters of all layers; those of each output of the last are over its variance.
fn parameters(hidden: &[f64], last: &Layer, variances: &[f64]) -> Vec<f64> {
    let over = |values: Vec<f64>, per_output: usize| {
        let rows = values.into_iter().enumerate();
        rows.map(move |(i, value)| value / variances[i / per_output]).collect::<Vec<_>>()
    };
    [hidden, &over(last.weights(), last.inputs()), &over(last.biases(), 1)].concat()
}

/// Memory for the passes of a tile of states.
struct Tile {
    states: Vec<f64>,
    tape: Tape<f64>,
}

impl Tile {
    fn new(network: &Network) -> Self {
        Self { states: vec![0.0; TILE * network.first().inputs], tape: network.tape(TILE) }
    }

    /// Writes states as zeros and ones. Returns them, and the memory of their pass.
    fn of(&mut self, design: &Design, states: Range<usize>) -> (MatRef<'_, f64>, &mut Tape<f64>) {
        let (n, latents) = (states.len(), self.states.len() / TILE);
        for (row, state) in self.states.chunks_exact_mut(latents).zip(states) {
            design.write_state(state, row);
        }
        (MatRef::from_row_major_slice(&self.states[..n * latents], n, latents), &mut self.tape)
    }
}

fn for_tiles(states: Range<usize>, mut visit: impl FnMut(Range<usize>)) {
    for start in states.clone().step_by(TILE) {
        visit(start..(start + TILE).min(states.end));
    }
}

/// Adds up what pieces of the states come to, in their order.
fn in_pieces(
    stats: &LatentStats,
    workers: &dyn Workers,
    piece: impl Fn(Range<usize>) -> Vec<f64> + Sync,
) -> Vec<f64> {
    let n = stats.design().len();
    let per_piece = n.div_ceil(MAX_PIECES).max(PIECE);
    let n_pieces = n.div_ceil(per_piece);
    let ranges = |k: usize| k * per_piece..((k + 1) * per_piece).min(n);
    let sums = work::map(workers, n_pieces, 1, |k| piece(ranges(k)));
    let add = |mut sum: Vec<f64>, other: Vec<f64>| {
        sum.iter_mut().zip(other).for_each(|(a, b)| *a += b);
        sum
    };
    sums.into_iter().reduce(add).unwrap_or_else(|| piece(0..0))
}

#[cfg(test)]
mod tests;
