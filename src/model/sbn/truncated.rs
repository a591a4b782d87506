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

mod states;
mod sums;

pub use states::TruncatedStates;
pub(crate) use sums::TruncatedSums;
use sums::design;

use super::table::{StateTable, flip, for_each_on, is_on, words};
use super::{LatentStats, LayerStats, SigmoidBeliefNet};
use crate::block::Block;
use crate::kernels::dispatch::Simd;
use crate::kernels::logistic;
use crate::model::GenerativeModel;
use crate::rng;
use crate::scalar::Scalar;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Points of a tile: those of one product, and those that share states as neighbours.
const TILE: usize = 256;

/// States whose own part is remembered at most, in each lane.
const MAX_REMEMBERED: usize = 1 << 17;

/// Points drawn, of which the nearest lends its best state.
const NEIGHBOURS: u64 = 4;

/// Posterior probabilities below this are zero: the rounding of a sum to which 1 belongs.
const NEGLIGIBLE: f64 = 1e-16;

/// Parameters of a network in the layout of the search.
#[derive(Debug)]
pub(crate) struct Searcher<T> {
    simd: Simd,
    latents: usize,
    /// The first latent that the observables see.
    first_visible: usize,
    dim: usize,
    candidates: usize,
    /// `ln p(z = 0)`, and log-odds of each top latent.
    log_none: f64,
    log_odds: Vec<f64>,
    rates: Vec<f64>,
    hidden: Option<Columns>,
    observables: Columns,
    /// `D × (J + 1)`, column-major; biases last.
    weights: Vec<T>,
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
    fn new(layer: &super::Layer) -> Self {
        let column = |j: usize| layer.rows().map(|row| row[j]).collect();
        Self { inputs: (0..layer.inputs()).map(column).collect(), bias: column(layer.inputs()) }
    }
}

/// Scratch memory of one lane, and its sums since it was last emptied.
#[derive(Debug)]
pub(crate) struct SearchWorkspace<T> {
    inputs: Vec<T>,
    moments: Vec<T>,
    sums: Vec<T>,
    bits: Vec<u64>,
    logits: Vec<f64>,
    hidden_logits: Vec<f64>,
    remembered: StateTable,
    own_parts: Vec<f64>,
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
        let targets = sums.targets.iter().map(|t| t * scale).collect();
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
        LatentStats { posterior_entropy: sums.posterior_entropy * scale, marginals, layers }
    }

    /// Packs the parameters for a sweep in which each point tries `candidates` new states.
    pub(crate) fn searcher<T: Scalar>(&self, simd: Simd, candidates: usize) -> Searcher<T> {
        let (dim, visible) = (self.dim(), self.observables().inputs());
        let observables = Columns::new(self.observables());
        let mut weights: Vec<T> = Vec::with_capacity(dim * (visible + 1));
        for column in observables.inputs.iter().chain([&observables.bias]) {
            weights.extend(column.iter().map(|&w| T::from_f64(w)));
        }
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
            candidates,
            log_none: self.prior().iter().map(|p| (-p).ln_1p()).sum(),
            log_odds: self.prior().iter().map(|p| p.ln() - (-p).ln_1p()).collect(),
            rates,
            hidden: self.hidden().map(Columns::new),
            observables,
            weights,
            alone: Vec::new(),
        };
        let mut logits = vec![0.0; dim];
        let none = logistic::softplus_sum(simd, &searcher.observables.bias);
        searcher.alone = (0..visible)
            .map(|j| {
                logits.copy_from_slice(&searcher.observables.bias);
                add(&mut logits, &searcher.observables.inputs[j]);
                let odds = searcher.rates[searcher.first_visible + j];
                let odds = (odds / (1.0 - odds)).ln();
                odds + none - logistic::softplus_sum(simd, &logits)
            })
            .collect();
        searcher
    }
}

fn add(sum: &mut [f64], column: &[f64]) {
    sum.iter_mut().zip(column).for_each(|(s, c)| *s += c);
}

impl<T: Scalar> Searcher<T> {
    /// Draws sets of states to begin with.
    pub(crate) fn start(
        &self,
        points: usize,
        states: usize,
        rng: &mut Xoshiro256PlusPlus,
    ) -> TruncatedStates {
        TruncatedStates::random(points, &self.rates, states, rng)
    }

    pub(crate) fn workspace(&self) -> SearchWorkspace<T> {
        let n = self.latents - self.first_visible + 1;
        SearchWorkspace {
            inputs: vec![T::ZERO; n * TILE],
            moments: vec![T::ZERO; n * TILE],
            sums: vec![T::ZERO; n * self.dim],
            bits: vec![0; TILE * words(self.dim)],
            logits: vec![0.0; self.dim],
            hidden_logits: vec![0.0; self.latents - self.first_visible],
            remembered: StateTable::new(words(self.latents)),
            own_parts: Vec::new(),
            tried: Vec::new(),
            n_tried: 0,
            entries: Vec::new(),
            u: vec![0.0; n],
            q: Vec::new(),
            proposal: vec![0; words(self.latents)],
            marginals: vec![0.0; self.latents],
            sums_of_states: TruncatedSums::new(self.latents, n * self.dim),
        }
    }

    /// Forgets what belongs to other parameters, and all sums.
    pub(crate) fn reset(&self, workspace: &mut SearchWorkspace<T>) {
        workspace.remembered.clear();
        workspace.own_parts.clear();
        workspace.tried.clear();
        workspace.sums_of_states.clear();
    }

    /// Forgets sums, but not what is known of states.
    pub(crate) fn reset_sums(&self, workspace: &mut SearchWorkspace<T>) {
        workspace.sums_of_states.clear();
    }

    /// Returns the logits of the observables in a state.
    pub(crate) fn observable_logits(&self, state: &[u64], logits: &mut [f64]) {
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
        sum - logistic::softplus_sum(self.simd, logits)
    }

    /// Improves the sets of a block of points, and adds up their sums, times the weights of the points. `visit` gets the
    /// index of a point in the block, its log-evidence on its set, and the probabilities of the states in it.
    pub(crate) fn sweep(
        &self,
        block: Block<'_, T>,
        sets: &mut TruncatedStates,
        first_set: usize,
        rng: &mut Xoshiro256PlusPlus,
        workspace: &mut SearchWorkspace<T>,
        mut visit: impl FnMut(usize, f64, &[f64], &TruncatedStates),
    ) {
        for start in (0..block.len()).step_by(TILE) {
            let tile = block.slice(start, TILE.min(block.len() - start));
            self.tile(tile, sets, first_set + start, rng, workspace, &mut |i, l, q, sets| {
                visit(start + i, l, q, sets);
            });
        }
    }

    fn tile(
        &self,
        tile: Block<'_, T>,
        sets: &mut TruncatedStates,
        first_set: usize,
        rng: &mut Xoshiro256PlusPlus,
        workspace: &mut SearchWorkspace<T>,
        visit: &mut impl FnMut(usize, f64, &[f64], &TruncatedStates),
    ) {
        let (n, columns) = (tile.len(), self.latents - self.first_visible + 1);
        let weights = MatRef::from_column_major_slice(&self.weights, self.dim, columns);
        let inputs = MatMut::from_column_major_slice_with_stride_mut(
            &mut workspace.inputs,
            n,
            columns,
            TILE,
        );
        matmul(inputs, Accum::Replace, tile.points, weights, T::ONE, Par::Seq);
        let per_point = words(self.dim);
        workspace.bits.fill(0);
        for (i, row) in tile.points.row_iter().enumerate() {
            let bits = &mut workspace.bits[i * per_point..][..per_point];
            for (d, &value) in row.iter().enumerate() {
                bits[d / 64] |= u64::from(value == T::ONE) << (d % 64);
            }
        }
        for i in 0..n {
            let weight = tile.weights.map_or(1.0, |weights| weights[i]);
            let log_evidence = self.point(i, n, weight, sets, first_set, rng, workspace);
            visit(i, log_evidence, &workspace.q, sets);
        }
        let moments =
            MatRef::from_column_major_slice_with_stride(&workspace.moments, n, columns, TILE);
        let sums = MatMut::from_row_major_slice_mut(&mut workspace.sums, self.dim, columns);
        matmul(sums, Accum::Replace, tile.points.transpose(), moments, T::ONE, Par::Seq);
        for (total, sum) in workspace.sums_of_states.targets.iter_mut().zip(&workspace.sums) {
            *total += sum.to_f64();
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
        workspace: &mut SearchWorkspace<T>,
    ) -> f64 {
        let words = sets.words();
        for (u, column) in workspace.u.iter_mut().zip(workspace.inputs.chunks(TILE)) {
            *u = column[i].to_f64();
        }
        if workspace.remembered.len() > MAX_REMEMBERED {
            workspace.remembered.clear();
            workspace.own_parts.clear();
            workspace.tried.clear();
        }
        workspace.n_tried = workspace.n_tried.wrapping_add(1).max(1);
        workspace.entries.clear();
        for state in sets.of(first_set + i).chunks(words) {
            self.try_state(state, workspace);
        }
        let n_known = workspace.entries.len();
        let mut proposal = std::mem::take(&mut workspace.proposal);
        for _ in 0..self.candidates {
            self.propose(&mut proposal, i, n_tile, sets, first_set, rng, workspace);
            self.try_state(&proposal, workspace);
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
        for (state, &q) in sets.of(first_set + i).chunks(words).zip(&*q) {
            if q > 0.0 {
                for_each_on(state, |bit| marginals[bit] += q);
                if weight > 0.0 {
                    sums.add_mass(state, weight * q);
                }
            }
        }
        for (j, column) in workspace.moments.chunks_mut(TILE).enumerate() {
            let mean = marginals.get(self.first_visible + j).copied().unwrap_or(1.0);
            column[i] = T::from_f64(weight * mean);
        }
        sums.total_weight += weight;
        sums.posterior_entropy += weight * entropy;
        sums.log_evidence += weight * log_evidence;
        log_evidence
    }

    /// Adds a state to the entries of the current point, unless it is there.
    fn try_state(&self, state: &[u64], workspace: &mut SearchWorkspace<T>) {
        let index = workspace.remembered.intern(state);
        if index == workspace.own_parts.len() {
            let part = self.own_part(state, &mut workspace.logits, &mut workspace.hidden_logits);
            workspace.own_parts.push(part);
            workspace.tried.push(0);
        }
        if workspace.tried[index] == workspace.n_tried {
            return;
        }
        workspace.tried[index] = workspace.n_tried;
        let u = &workspace.u;
        let mut log_joint = workspace.own_parts[index] + u[u.len() - 1];
        for_each_on(state, |bit| {
            if bit >= self.first_visible {
                log_joint += u[bit - self.first_visible];
            }
        });
        workspace.entries.push((log_joint, index as u32));
    }

    /// Proposes a new state for a point.
    #[allow(clippy::too_many_arguments, reason = "as `point`")]
    fn propose(
        &self,
        proposal: &mut [u64],
        i: usize,
        n_tile: usize,
        sets: &TruncatedStates,
        first_set: usize,
        rng: &mut Xoshiro256PlusPlus,
        workspace: &SearchWorkspace<T>,
    ) {
        let words = proposal.len();
        let own = sets.of(first_set + i);
        // Half the parents are the best state.
        let parent = |rng: &mut Xoshiro256PlusPlus| {
            let index = rng::below(rng, 2 * sets.states as u64) as usize;
            let index = if index < sets.states { index } else { 0 };
            &own[index * words..][..words]
        };
        match rng::below(rng, 8) {
            kind @ 0..5 => {
                proposal.copy_from_slice(parent(rng));
                if kind != 0 {
                    self.turn_off(proposal, rng);
                }
                if kind != 1 && kind != 2 {
                    self.turn_on(proposal, rng, &workspace.u);
                }
            }
            5 => {
                proposal.copy_from_slice(parent(rng));
                for (word, other) in proposal.iter_mut().zip(parent(rng)) {
                    let mask = rng::bits(rng);
                    *word = (*word & mask) | (other & !mask);
                }
            }
            6 => {
                proposal.fill(0);
                let of_set = rng::below(rng, 2) == 0;
                for j in 0..self.latents {
                    let on = if of_set {
                        // A latent of a random state of the set: the product of the set's marginals.
                        let index = rng::below(rng, sets.states as u64) as usize;
                        is_on(&own[index * words..][..words], j)
                    } else {
                        rng::uniform(rng) < self.rates[j]
                    };
                    if on {
                        flip(proposal, j);
                    }
                }
            }
            _ => {
                let per_point = workspace.bits.len() / TILE;
                let bits = |k: usize| &workspace.bits[k * per_point..][..per_point];
                let nearest = (0..NEIGHBOURS)
                    .map(|_| rng::below(rng, n_tile as u64) as usize)
                    .filter(|&k| k != i)
                    .min_by_key(|&k| {
                        bits(i).iter().zip(bits(k)).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>()
                    });
                let other = nearest.unwrap_or(i);
                proposal.copy_from_slice(&sets.of(first_set + other)[..words]);
            }
        }
    }

    fn turn_off(&self, state: &mut [u64], rng: &mut Xoshiro256PlusPlus) {
        let on: u32 = state.iter().map(|word| word.count_ones()).sum();
        if on > 0 {
            let mut left = rng::below(rng, u64::from(on));
            let mut chosen = 0;
            for_each_on(state, |bit| {
                if left == 0 {
                    chosen = bit;
                }
                left = left.wrapping_sub(1);
            });
            flip(state, chosen);
        }
    }

    /// Turns on the better of two random latents, as they would do alone.
    fn turn_on(&self, state: &mut [u64], rng: &mut Xoshiro256PlusPlus, u: &[f64]) {
        let promise = |bit: usize| match bit.checked_sub(self.first_visible) {
            Some(j) => u[j] + self.alone[j],
            None => f64::INFINITY,
        };
        let mut draw = || rng::below(rng, self.latents as u64) as usize;
        let (first, second) = (draw(), draw());
        let better = if promise(second) > promise(first) { second } else { first };
        let other = if better == first { second } else { first };
        if !is_on(state, better) {
            flip(state, better);
        } else if !is_on(state, other) {
            flip(state, other);
        }
    }
}
