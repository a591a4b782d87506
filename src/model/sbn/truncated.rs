//! E-steps over a few states a point: truncated posteriors, improved by evolutionary search.
//!
//! `q_n(z) ∝ p(x_n, z)` on a set `K_n` of S states, zero elsewhere; then `F = mean_n ln Σ_{z ∈ K_n} p(x_n, z)`. Sets are kept between
//! sweeps, packed to bits. In a sweep each point proposes new states, and the S with the largest joint probability stay:
//! so the bound never falls. States are proposed by
//!
//! * mutation of states in `K_n`: one latent on, one off, or one for another;
//! * crossover of two of them;
//! * draws from the prior, and from the product of the marginals of `K_n`;
//! * the best state of a point nearby, the nearest of a few that are drawn.
//!
//! What a state contributes by itself, prior and log-partition, is computed once for all points of a lane that try it.
//! What a point adds to it is `x · (W z + μ)`, a few additions once `W'x` is known.
//!
//! Gaussian observables are no other case: their natural parameters `(W z + μ) / σ²` are linear in the states too, with log-partition
//! `½ σ² η²`. Where hidden layers stand between states and observables, or points lack values, the natural parameters of each state are
//! kept, and a point adds `x · η` over the values that it has. All is `f64`, whatever the points are: products with small noise variances would lose digits in `f32`.

mod naturals;
mod proposals;
mod states;
mod sums;

use naturals::set_apart;
pub use states::TruncatedStates;
use sums::design;
pub(crate) use sums::{SumsShape, TruncatedSums};

use super::gaussian::GaussianObservables;
use super::table::{StateTable, for_each_on, words};
use super::{LatentStats, LayerStats, SigmoidBeliefNet};
use crate::block::Block;
use crate::kernels::dispatch::Simd;
use crate::kernels::logistic;
use crate::model::GenerativeModel;
use crate::model::autoencoder::Network;
use crate::scalar::Scalar;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Points of a tile: those of one product, and those that share states as neighbours.
const TILE: usize = 256;

/// States whose own part is remembered at most, in each lane.
const MAX_REMEMBERED: usize = 1 << 17;

/// Of each of these states so many natural parameters at most, on the average.
const MAX_NATURALS_PER_STATE: usize = 32;

/// Posterior probabilities below this are zero: the rounding of a sum to which 1 belongs.
const NEGLIGIBLE: f64 = 1e-16;

/// Parameters of a network in the layout of the search.
#[derive(Debug)]
pub(crate) struct Searcher {
    simd: Simd,
    latents: usize,
    /// The first latent that the observables see.
    first_visible: usize,
    dim: usize,
    sums_shape: SumsShape,
    candidates: usize,
    /// `ln p(z = 0)`, and log-odds of each top latent.
    log_none: f64,
    log_odds: Vec<f64>,
    rates: Vec<f64>,
    hidden: Option<Columns>,
    /// Natural parameters of the observables.
    observables: Columns,
    gaussian: Option<GaussianObservables>,
    /// Network and parameters that make natural parameters of a state, if the decoder has hidden layers.
    network: Option<(Network, Vec<f64>)>,
    /// `D × (J + 1)`, column-major; biases last, or zeros where natural parameters are kept state by state.
    weights: Vec<f64>,
    /// Change of the joint, besides `W'x`, if one visible latent alone is turned on.
    alone: Vec<f64>,
}

/// A layer with the weights of an input side by side.
#[derive(Debug)]
struct Columns {
    inputs: Vec<Vec<f64>>,
    bias: Vec<f64>,
}

impl Columns {
    /// Lists the inputs' weights, those of output d over the d-th of these variances, if there are any.
    fn new(layer: &super::Layer, variances: Option<&[f64]>) -> Self {
        let over = |d: usize, value: f64| value / variances.map_or(1.0, |variances| variances[d]);
        let column = |j: usize| layer.rows().enumerate().map(|(d, row)| over(d, row[j])).collect();
        Self { inputs: (0..layer.inputs()).map(column).collect(), bias: column(layer.inputs()) }
    }
}

/// Scratch memory of one lane, and its sums since it was last emptied.
#[derive(Debug)]
pub(crate) struct SearchWorkspace {
    /// The points of a tile, B × D; those of Gaussian observables about the centre.
    points: Vec<f64>,
    inputs: Vec<f64>,
    moments: Vec<f64>,
    sums: Vec<f64>,
    /// Zeros and ones of the points, packed.
    bits: Vec<u64>,
    logits: Vec<f64>,
    hidden_logits: Vec<f64>,
    remembered: StateTable,
    own_parts: Vec<f64>,
    /// Natural parameters of the states that are remembered, D each, where these are kept.
    naturals: Vec<f64>,
    /// Whether a point of the tile has a value, B × D, where it may lack some.
    present: Vec<bool>,
    /// The last point that tried a state.
    tried: Vec<u32>,
    n_tried: u32,
    entries: Vec<(f64, u32)>,
    u: Vec<f64>,
    q: Vec<f64>,
    proposal: Vec<u64>,
    marginals: Vec<f64>,
    pub(crate) sums_of_states: TruncatedSums,
}

impl SigmoidBeliefNet {
    /// Turns the sums under truncated posteriors into the statistics of an M-step.
    pub(crate) fn latent_stats_of(&self, sums: &TruncatedSums) -> LatentStats {
        let h = self.prior().len();
        let total: f64 = sums.mass.iter().sum();
        let scale = sums.total_weight.recip();
        let (targets, squares) = sums.targets.split_at(self.n_targets());
        let of_weight = |sums: &[f64]| sums.iter().map(|sum| sum * scale).collect();
        let (targets, squares): (Vec<f64>, Vec<f64>) = (of_weight(targets), of_weight(squares));
        let top = design(sums, 0..h, total);
        let marginals = top.marginals(Simd::detect());
        let layers = match self.hidden() {
            None => vec![LayerStats { design: top, targets }],
            Some(hidden) => {
                let mut above = vec![0.0; hidden.outputs() * (h + 1)];
                for (index, m) in sums.mass.iter().enumerate() {
                    let state = sums.states.key(index);
                    for_each_on(state, |i| {
                        if i >= h {
                            let row = &mut above[(i - h) * (h + 1)..][..h + 1];
                            for_each_on(state, |j| {
                                if j < h {
                                    row[j] += m / total;
                                }
                            });
                            row[h] += m / total;
                        }
                    });
                }
                let visible = design(sums, h..self.n_latents(), total);
                vec![
                    LayerStats { design: top, targets: above },
                    LayerStats { design: visible, targets },
                ]
            }
        };
        let posterior_entropy = sums.posterior_entropy * scale;
        let outputs = of_weight(&sums.outputs);
        LatentStats { posterior_entropy, marginals, layers, squares, outputs }
    }

    /// Returns the length of `⟨x (z, 1)'⟩`.
    fn n_targets(&self) -> usize {
        self.dim() * (self.visible_latents() + 1)
    }

    /// Returns the sizes of the sums over points: `⟨x (z, 1)'⟩`, and `⟨x_d²⟩` of Gaussian observables; for each state D sums if the decoder
    /// has hidden layers.
    pub(crate) fn sums_shape(&self) -> SumsShape {
        let dim = self.dim();
        let has_layers = self.gaussian.as_ref().is_some_and(|it| it.decoder.is_some());
        SumsShape {
            latents: self.n_latents(),
            targets: self.n_targets() + if self.gaussian.is_some() { dim } else { 0 },
            outputs: if has_layers { dim } else { 0 },
        }
    }

    /// Packs the parameters for a sweep in which each point tries `candidates` new states.
    pub(crate) fn searcher(&self, simd: Simd, candidates: usize) -> Searcher {
        let (dim, visible) = (self.dim(), self.visible_latents());
        let network = self.natural_network();
        let observables = match &network {
            None => Columns::new(self.observables(), self.noise_variances()),
            Some(network) => Columns::alone(network, visible),
        };
        let mut rates = self.prior().to_vec();
        let h = rates.len();
        if let Some(hidden) = self.hidden() {
            // Rates of y at the mean of z: good enough to draw sets to begin with.
            let mean =
                |row: &[f64]| row[h] + row.iter().zip(&rates[..h]).map(|(w, p)| w * p).sum::<f64>();
            let of_hidden: Vec<f64> =
                hidden.rows().map(|row| logistic::sigmoid(mean(row))).collect();
            rates.extend(of_hidden);
        }
        let mut searcher = Searcher {
            simd,
            latents: self.n_latents(),
            first_visible: self.n_latents() - visible,
            dim,
            sums_shape: self.sums_shape(),
            candidates,
            log_none: self.prior().iter().map(|p| (-p).ln_1p()).sum(),
            log_odds: self.prior().iter().map(|p| p.ln() - (-p).ln_1p()).collect(),
            rates,
            hidden: self.hidden().map(|layer| Columns::new(layer, None)),
            observables,
            gaussian: self.gaussian.clone(),
            network,
            weights: Vec::new(),
            alone: Vec::new(),
        };
        let Columns { inputs, bias } = &searcher.observables;
        searcher.weights = inputs.concat();
        match searcher.keeps_naturals() {
            true => searcher.weights.resize(dim * (visible + 1), 0.0),
            false => searcher.weights.extend_from_slice(bias),
        }
        let mut logits = vec![0.0; dim];
        let none = searcher.log_partition(&searcher.observables.bias);
        searcher.alone = (0..visible)
            .map(|j| {
                logits.copy_from_slice(&searcher.observables.bias);
                add(&mut logits, &searcher.observables.inputs[j]);
                let odds = searcher.rates[searcher.first_visible + j];
                let odds = (odds / (1.0 - odds)).ln();
                odds + none - searcher.log_partition(&logits)
            })
            .collect();
        searcher
    }
}

fn add(sum: &mut [f64], column: &[f64]) {
    sum.iter_mut().zip(column).for_each(|(s, c)| *s += c);
}

impl Searcher {
    /// Draws sets of states to begin with.
    pub(crate) fn start(
        &self,
        points: usize,
        states: usize,
        rng: &mut Xoshiro256PlusPlus,
    ) -> TruncatedStates {
        TruncatedStates::random(points, &self.rates, states, rng)
    }

    pub(crate) fn workspace(&self) -> SearchWorkspace {
        let n = self.latents - self.first_visible + 1;
        let present = if self.may_miss() { TILE * self.dim } else { 0 };
        SearchWorkspace {
            points: vec![0.0; TILE * self.dim],
            inputs: vec![0.0; n * TILE],
            moments: vec![0.0; n * TILE],
            sums: vec![0.0; n * self.dim],
            bits: vec![0; TILE * words(self.dim)],
            logits: vec![0.0; self.dim],
            hidden_logits: vec![0.0; self.latents - self.first_visible],
            remembered: StateTable::new(words(self.latents)),
            own_parts: Vec::new(),
            naturals: Vec::new(),
            present: vec![true; present],
            tried: Vec::new(),
            n_tried: 0,
            entries: Vec::new(),
            u: vec![0.0; n],
            q: Vec::new(),
            proposal: vec![0; words(self.latents)],
            marginals: vec![0.0; self.latents],
            sums_of_states: TruncatedSums::new(self.sums_shape),
        }
    }

    /// Forgets what belongs to other parameters, and all sums.
    pub(crate) fn reset(&self, workspace: &mut SearchWorkspace) {
        workspace.forget_states();
        workspace.sums_of_states.clear();
    }

    /// Forgets sums, but not what is known of states.
    pub(crate) fn reset_sums(&self, workspace: &mut SearchWorkspace) {
        workspace.sums_of_states.clear();
    }

    /// Returns the log-partition of the observables, from their natural parameters.
    fn log_partition(&self, natural: &[f64]) -> f64 {
        match &self.gaussian {
            None => logistic::softplus_sum(self.simd, natural),
            Some(gaussian) => gaussian.log_partition(natural),
        }
    }

    /// Returns the means of the observables in a state.
    pub(crate) fn observable_means(&self, state: &[u64], means: &mut [f64]) {
        self.observable_logits(state, means);
        match &self.gaussian {
            None => logistic::sigmoid_in_place(self.simd, means),
            Some(gaussian) => {
                gaussian.means_in_place(means);
                add(means, &gaussian.centre);
            }
        }
    }

    /// Returns the natural parameters of the observables in a state.
    fn observable_logits(&self, state: &[u64], logits: &mut [f64]) {
        if let Some(network) = &self.network {
            return self.network_outputs(network, state, logits);
        }
        logits.copy_from_slice(&self.observables.bias);
        for_each_on(state, |bit| {
            if bit >= self.first_visible {
                add(logits, &self.observables.inputs[bit - self.first_visible]);
            }
        });
    }

    /// Computes `ln p(z) + ln p(y | z) - Σ_d softplus(a_d)` of a state.
    fn own_part(&self, state: &[u64], logits: &mut [f64], hidden_logits: &mut [f64]) -> f64 {
        let mut sum = self.log_none;
        self.observable_logits(state, logits);
        if let Some(hidden) = &self.hidden {
            hidden_logits.copy_from_slice(&hidden.bias);
        }
        for_each_on(state, |bit| {
            if let Some(odds) = self.log_odds.get(bit) {
                sum += odds;
                if let Some(hidden) = &self.hidden {
                    add(hidden_logits, &hidden.inputs[bit]);
                }
            }
        });
        if self.hidden.is_some() {
            for_each_on(state, |bit| {
                if bit >= self.first_visible {
                    sum += hidden_logits[bit - self.first_visible];
                }
            });
            sum -= logistic::softplus_sum(self.simd, hidden_logits);
        }
        // Points that lack values have log-partitions of their own.
        if self.may_miss() { sum } else { sum - self.log_partition(logits) }
    }

    /// Improves the sets of a block of points, and adds up their sums, times the weights of the points. `visit` gets the
    /// index of a point in the block, its log-evidence on its set, and the probabilities of the states in it.
    pub(crate) fn sweep<T: Scalar>(
        &self,
        block: Block<'_, T>,
        sets: &mut TruncatedStates,
        first_set: usize,
        rng: &mut Xoshiro256PlusPlus,
        workspace: &mut SearchWorkspace,
        mut visit: impl FnMut(usize, f64, &[f64], &TruncatedStates),
    ) {
        for start in (0..block.len()).step_by(TILE) {
            let tile = block.slice(start, TILE.min(block.len() - start));
            self.tile(tile, sets, first_set + start, rng, workspace, &mut |i, l, q, sets| {
                visit(start + i, l, q, sets);
            });
        }
    }

    fn tile<T: Scalar>(
        &self,
        tile: Block<'_, T>,
        sets: &mut TruncatedStates,
        first_set: usize,
        rng: &mut Xoshiro256PlusPlus,
        workspace: &mut SearchWorkspace,
        visit: &mut impl FnMut(usize, f64, &[f64], &TruncatedStates),
    ) {
        let (n, columns) = (tile.len(), self.latents - self.first_visible + 1);
        self.take_in(tile, workspace);
        let weights = MatRef::from_column_major_slice(&self.weights, self.dim, columns);
        let points = MatRef::from_row_major_slice(&workspace.points[..n * self.dim], n, self.dim);
        let inputs = MatMut::from_column_major_slice_with_stride_mut(
            &mut workspace.inputs,
            n,
            columns,
            TILE,
        );
        matmul(inputs, Accum::Replace, points, weights, 1.0, Par::Seq);
        self.add_base_measure(tile, workspace);
        for i in 0..n {
            let weight = tile.weights.map_or(1.0, |weights| weights[i]);
            let log_evidence = self.point(i, n, weight, sets, first_set, rng, workspace);
            visit(i, log_evidence, &workspace.q, sets);
        }
        let moments =
            MatRef::from_column_major_slice_with_stride(&workspace.moments, n, columns, TILE);
        let points = MatRef::from_row_major_slice(&workspace.points[..n * self.dim], n, self.dim);
        let sums = MatMut::from_row_major_slice_mut(&mut workspace.sums, self.dim, columns);
        matmul(sums, Accum::Replace, points.transpose(), moments, 1.0, Par::Seq);
        add(&mut workspace.sums_of_states.targets, &workspace.sums);
    }

    /// Widens the points of a tile. Zeros and ones are packed too; others are taken about the centre.
    fn take_in<T: Scalar>(&self, tile: Block<'_, T>, workspace: &mut SearchWorkspace) {
        let per_point = words(self.dim);
        workspace.bits.fill(0);
        let rows = workspace.points.chunks_exact_mut(self.dim).zip(tile.points.row_iter());
        for (i, (to, from)) in rows.enumerate() {
            to.iter_mut().zip(from.iter()).for_each(|(to, value)| *to = value.to_f64());
            match &self.gaussian {
                Some(gaussian) => {
                    to.iter_mut().zip(&gaussian.centre).for_each(|(x, c)| *x -= c);
                    if self.may_miss() {
                        set_apart(to, &mut workspace.present[i * self.dim..]);
                    }
                }
                None => {
                    let bits = &mut workspace.bits[i * per_point..][..per_point];
                    for (d, &value) in to.iter().enumerate() {
                        bits[d / 64] |= u64::from(value == 1.0) << (d % 64);
                    }
                }
            }
        }
    }

    /// Adds to the joints of a tile what Gaussian observables owe to the points alone, and sums up their squares.
    fn add_base_measure<T: Scalar>(&self, tile: Block<'_, T>, workspace: &mut SearchWorkspace) {
        let Some(gaussian) = &self.gaussian else { return };
        let SearchWorkspace { points, inputs, sums_of_states, present, .. } = workspace;
        let first = sums_of_states.targets.len() - self.dim;
        let squares = &mut sums_of_states.targets[first..];
        let biases = inputs.chunks_mut(TILE).last().expect("biases are the last column");
        for (i, point) in points.chunks_exact(self.dim).take(tile.len()).enumerate() {
            biases[i] += match present.get(i * self.dim..) {
                Some(present) if !present.is_empty() => {
                    gaussian.log_base_measure_of_present(point, present)
                }
                _ => gaussian.log_base_measure(point),
            };
            let weight = tile.weights.map_or(1.0, |weights| weights[i]);
            squares.iter_mut().zip(point).for_each(|(sum, x)| *sum += weight * x * x);
        }
    }

    /// One point of a tile: proposals, selection, posterior. Returns its log-evidence on its new set.
    #[allow(clippy::too_many_arguments, reason = "what a tile knows of a point")]
    fn point(
        &self,
        i: usize,
        n_tile: usize,
        weight: f64,
        sets: &mut TruncatedStates,
        first_set: usize,
        rng: &mut Xoshiro256PlusPlus,
        workspace: &mut SearchWorkspace,
    ) -> f64 {
        let words = sets.words();
        for (u, column) in workspace.u.iter_mut().zip(workspace.inputs.chunks(TILE)) {
            *u = column[i];
        }
        if workspace.remembered.len().max(workspace.naturals.len() / MAX_NATURALS_PER_STATE)
            > MAX_REMEMBERED
        {
            workspace.forget_states();
        }
        workspace.n_tried = workspace.n_tried.wrapping_add(1).max(1);
        workspace.entries.clear();
        for state in sets.of(first_set + i).chunks(words) {
            self.try_state(i, state, workspace);
        }
        let n_known = workspace.entries.len();
        let mut proposal = std::mem::take(&mut workspace.proposal);
        for _ in 0..self.candidates {
            self.propose(&mut proposal, i, n_tile, sets, first_set, rng, workspace);
            self.try_state(i, &proposal, workspace);
        }
        workspace.proposal = proposal;
        // The order of trial breaks ties.
        let entries = &mut workspace.entries;
        let mut order: Vec<u32> = (0..entries.len() as u32).collect();
        order.sort_by(|&a, &b| entries[b as usize].0.total_cmp(&entries[a as usize].0));
        order.truncate(n_known);
        for (state, &k) in sets.of_mut(first_set + i).chunks_mut(words).zip(&order) {
            state.copy_from_slice(workspace.remembered.key(entries[k as usize].1 as usize));
        }

        let top = entries[order[0] as usize].0;
        let q = &mut workspace.q;
        q.clear();
        q.extend(order.iter().map(|&k| (entries[k as usize].0 - top).exp()));
        let sum: f64 = q.iter().sum();
        let mut entropy = sum.ln();
        for (q, &k) in q.iter_mut().zip(&order) {
            *q /= sum;
            if *q < NEGLIGIBLE {
                *q = 0.0;
            } else {
                entropy -= *q * (entries[k as usize].0 - top);
            }
        }
        let log_evidence = top + sum.ln();
        let marginals = &mut workspace.marginals;
        marginals.fill(0.0);
        let sums = &mut workspace.sums_of_states;
        let x = &workspace.points[i * self.dim..][..self.dim];
        for (state, &q) in sets.of(first_set + i).chunks(words).zip(&*q) {
            if q > 0.0 {
                for_each_on(state, |bit| marginals[bit] += q);
                if weight > 0.0 {
                    let outputs = sums.add_mass(state, weight * q);
                    outputs.iter_mut().zip(x).for_each(|(sum, x)| *sum += weight * q * x);
                }
            }
        }
        for (j, column) in workspace.moments.chunks_mut(TILE).enumerate() {
            let mean = marginals.get(self.first_visible + j).copied().unwrap_or(1.0);
            column[i] = weight * mean;
        }
        sums.total_weight += weight;
        sums.posterior_entropy += weight * entropy;
        sums.log_evidence += weight * log_evidence;
        if self.may_miss() && weight > 0.0 {
            self.add_missing(i, weight, sets.of(first_set + i), &order, workspace);
        }
        log_evidence
    }

    /// Adds a state to the entries of the `i`-th point of the tile, unless it is there.
    fn try_state(&self, i: usize, state: &[u64], workspace: &mut SearchWorkspace) {
        let index = workspace.remembered.intern(state);
        if index == workspace.own_parts.len() {
            let part = self.own_part(state, &mut workspace.logits, &mut workspace.hidden_logits);
            workspace.own_parts.push(part);
            workspace.tried.push(0);
            if self.keeps_naturals() {
                workspace.naturals.extend_from_slice(&workspace.logits);
            }
        }
        if workspace.tried[index] == workspace.n_tried {
            return;
        }
        workspace.tried[index] = workspace.n_tried;
        let u = &workspace.u;
        let mut log_joint = workspace.own_parts[index] + u[u.len() - 1];
        if self.keeps_naturals() {
            log_joint += self.part_of_point(i, index, workspace);
        } else {
            for_each_on(state, |bit| {
                if bit >= self.first_visible {
                    log_joint += u[bit - self.first_visible];
                }
            });
        }
        workspace.entries.push((log_joint, index as u32));
    }
}
