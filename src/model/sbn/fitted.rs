//! Scores, posteriors of latents, reconstructions and samples of a network.

use super::exact::{PackedStates, Workspace};
use super::table::{for_each_on, is_on, words};
use super::truncated::{SearchWorkspace, Searcher, TruncatedStates};
use super::{LatentPosterior, SigmoidBeliefNet};
use crate::block::Block;
use crate::kernels::dispatch::Simd;
use crate::kernels::{logistic, states};
use crate::model::{BlockSampler, Density, GenerativeModel, LatentSpace, Sample, ScoredTile};
use crate::rng;
use crate::scalar::Scalar;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use std::sync::OnceLock;

/// Sweeps that improve the sets of new points, from random ones. Not tuned; time is in proportion to it.
pub const SEARCH_SWEEPS: usize = 30;

/// Seed of the search for new points; with the index of the first point of a block it makes a stream.
const SEARCH_SEED: u64 = 0x5b4e;

/// Parameters of a network in the layout of the kernels.
///
/// Truncated posteriors of new points start from random sets, which a search improves. The index of the first point of a
/// block seeds the search. The bounds that such posteriors give are below the log-densities.
#[derive(Debug)]
pub struct Packed<T> {
    simd: Simd,
    /// `P(x_d = 1 | s)` of all states that the observables see, `2^J × D` row-major; made when first needed.
    probabilities: OnceLock<Vec<T>>,
    posterior: Encoder<T>,
}

#[derive(Debug)]
enum Encoder<T> {
    States(PackedStates<T>),
    Search(Box<Searcher>, usize),
}

impl SigmoidBeliefNet {
    /// Tells whether [`Density::score`] returns lower bounds of log-densities, as it does under truncated posteriors.
    pub fn scores_are_bounds(&self) -> bool {
        matches!(self.posterior(), LatentPosterior::Truncated { .. })
    }

    /// Returns the most probable state of all latents given each point, row-major B × (H + I), `z` first; zeros and ones. With
    /// truncated posteriors the best state found.
    pub fn most_probable_states<T: Scalar>(
        &self,
        packed: &Packed<T>,
        block: Block<'_, T>,
        latents: &mut [f64],
    ) {
        let n = self.n_latents();
        match &packed.posterior {
            Encoder::Search(searcher, states) => {
                search(searcher, *states, block, |i, _, _, set| {
                    let state = &set[..words(n)];
                    for (j, value) in latents[i * n..][..n].iter_mut().enumerate() {
                        *value = f64::from(u8::from(is_on(state, j)));
                    }
                });
            }
            Encoder::States(table) => {
                // Given y the best z is the same for all points.
                let n_visible = 1usize << self.observables().inputs();
                let best_above: Vec<(f64, usize)> = (0..n_visible)
                    .map(|y| match table.conditional() {
                        None => (1.0, 0),
                        Some(conditional) => conditional
                            .chunks(n_visible)
                            .enumerate()
                            .map(|(z, row)| (row[y], z))
                            .fold((-1.0, 0), |best, it| if it.0 > best.0 { it } else { best }),
                    })
                    .collect();
                let mut workspace = table.workspace();
                table.posteriors(block, false, &mut workspace, |strip, _| {
                    let first = (strip.first - block.first) as usize;
                    for i in 0..strip.log_evidence.len() {
                        let mut best = (-1.0, 0);
                        for (y, above) in best_above.iter().enumerate() {
                            let r = strip.responsibilities[y * strip.stride + i].to_f64() * above.0;
                            if r > best.0 {
                                best = (r, above.1 * n_visible + y);
                            }
                        }
                        let row = &mut latents[(first + i) * n..][..n];
                        for (j, value) in row.iter_mut().enumerate() {
                            *value = ((best.1 >> (n - 1 - j)) & 1) as f64;
                        }
                    }
                });
            }
        }
    }

    /// Computes `P(z_j = 1 | y)` of three layers, `2^I × H` row-major.
    fn marginals_above<T: Scalar>(&self, packed: &PackedStates<T>) -> Option<Vec<f64>> {
        let conditional = packed.conditional()?;
        let h = self.prior().len();
        let n_visible = conditional.len() >> h;
        let mut marginals = vec![0.0; n_visible * h];
        for (z, row) in conditional.chunks(n_visible).enumerate() {
            for j in (0..h).filter(|j| (z >> (h - 1 - j)) & 1 == 1) {
                for (y, p) in row.iter().enumerate() {
                    marginals[y * h + j] += p;
                }
            }
        }
        Some(marginals)
    }

    /// Returns the probabilities of the observables in each state that they see.
    fn state_probabilities<T: Scalar>(&self, simd: Simd) -> Vec<T> {
        let layer = self.observables();
        let (n_states, dim) = (1 << layer.inputs(), layer.outputs());
        let mut probabilities = vec![T::ZERO; n_states * dim];
        let mut logits = vec![0.0; n_states];
        for (d, row) in layer.rows().enumerate() {
            states::linear(simd, row, &mut logits);
            logistic::sigmoid_in_place(simd, &mut logits);
            for (s, &p) in logits.iter().enumerate() {
                probabilities[s * dim + d] = T::from_f64(p);
            }
        }
        probabilities
    }
}

/// Searches for the posteriors of a block from random sets, and hands those of the last sweep to `visit`: index of the
/// point, lower bound of its log-density, probabilities, packed states.
fn search<T: Scalar>(
    searcher: &Searcher,
    states: usize,
    block: Block<'_, T>,
    mut visit: impl FnMut(usize, f64, &[f64], &[u64]),
) {
    let mut rng = rng::stream(SEARCH_SEED, block.first);
    let mut sets: TruncatedStates = searcher.start(block.len(), states, &mut rng);
    let mut workspace: SearchWorkspace = searcher.workspace();
    for sweep in 1..=SEARCH_SWEEPS {
        searcher.sweep(block, &mut sets, 0, &mut rng, &mut workspace, |i, bound, q, sets| {
            if sweep == SEARCH_SWEEPS {
                visit(i, bound, q, sets.of(i));
            }
        });
        searcher.reset_sums(&mut workspace);
    }
}

impl<T> Packed<T> {
    /// Returns the parameters for an E-step over all states.
    ///
    /// # Panics
    /// If posteriors are truncated. [`EStep::check_e_step`](crate::model::EStep::check_e_step) refuses these first.
    pub(super) fn states(&self) -> &PackedStates<T> {
        match &self.posterior {
            Encoder::States(states) => states,
            Encoder::Search(..) => panic!("truncated posteriors have an E-step of their own"),
        }
    }
}

impl<T: Scalar> Density<T> for SigmoidBeliefNet {
    type Packed = Packed<T>;
    type Workspace = Workspace<T>;

    fn pack_for_scores(&self, simd: Simd) -> Packed<T> {
        let posterior = match self.posterior() {
            LatentPosterior::Truncated { states } => {
                let states = TruncatedStates::largest(self.n_latents(), states);
                Encoder::Search(Box::new(self.searcher(simd, states)), states)
            }
            LatentPosterior::Exact => Encoder::States(self.pack_states(simd)),
        };
        Packed { simd, probabilities: OnceLock::new(), posterior }
    }

    fn workspace(&self, packed: &Packed<T>, old: Option<Workspace<T>>) -> Workspace<T> {
        match (&packed.posterior, old) {
            (Encoder::Search(..), _) => Workspace::empty(),
            (Encoder::States(states), Some(mut old)) if old.serves(states) => {
                old.mass.fill(0.0);
                old
            }
            (Encoder::States(states), _) => states.workspace(),
        }
    }

    /// Computes log-densities; with truncated posteriors lower bounds of them
    /// ([`scores_are_bounds`](SigmoidBeliefNet::scores_are_bounds)). A point with a value that the observables cannot take has none.
    fn score(
        &self,
        packed: &Packed<T>,
        block: Block<'_, T>,
        _: bool,
        workspace: &mut Workspace<T>,
        mut visit: impl FnMut(ScoredTile<'_, T>),
    ) {
        let mut visit = |first: u64, log_density: &[f64]| {
            let start = (first - block.first) as usize;
            visit(ScoredTile {
                first,
                weights: block.weights.map(|weights| &weights[start..][..log_density.len()]),
                log_density,
                responsibilities: &[],
                stride: 0,
                posterior_entropy: 0.0,
            });
        };
        if !self.accepts(block) {
            return visit(block.first, &vec![f64::NAN; block.len()]);
        }
        match &packed.posterior {
            Encoder::States(states) => {
                states.posteriors(block, false, workspace, |strip, _| {
                    visit(strip.first, strip.log_evidence);
                });
            }
            Encoder::Search(searcher, states) => {
                let mut bounds = vec![0.0; block.len()];
                search(searcher, *states, block, |i, bound, _, _| bounds[i] = bound);
                visit(block.first, &bounds);
            }
        }
    }
}

impl<T: Scalar> LatentSpace<T> for SigmoidBeliefNet {
    fn n_latents(&self) -> usize {
        self.n_latents()
    }

    /// Computes the posterior probabilities `q_n(z_h = 1)` of all latents, top layer first.
    fn transform(&self, packed: &Packed<T>, block: Block<'_, T>, latents: &mut [f64]) {
        let (n, visible) = (self.n_latents(), self.visible_latents());
        if !self.accepts(block) {
            return latents.fill(f64::NAN);
        }
        latents.fill(0.0);
        match &packed.posterior {
            Encoder::Search(searcher, states) => {
                search(searcher, *states, block, |i, _, q, set| {
                    let row = &mut latents[i * n..][..n];
                    for (state, q) in set.chunks(words(n)).zip(q) {
                        for_each_on(state, |j| row[j] += q);
                    }
                });
            }
            Encoder::States(table) => {
                let above = self.marginals_above(table).unwrap_or_default();
                let h = n - visible;
                let mut workspace = table.workspace();
                let mut moments = vec![T::ZERO; (visible + 1) * 32];
                table.posteriors(block, false, &mut workspace, |strip, _| {
                    let first = (strip.first - block.first) as usize;
                    for i in 0..strip.log_evidence.len() {
                        let row = &mut latents[(first + i) * n..][..h];
                        let columns = strip.responsibilities.chunks(strip.stride);
                        for (given, column) in above.chunks(h.max(1)).zip(columns) {
                            let r = column[i].to_f64();
                            row.iter_mut().zip(given).for_each(|(sum, p)| *sum += r * p);
                        }
                    }
                    table.moments(strip.responsibilities, &mut moments, strip.stride);
                    for (j, column) in moments.chunks(strip.stride).take(visible).enumerate() {
                        for i in 0..strip.log_evidence.len() {
                            latents[(first + i) * n + h + j] = column[i].to_f64();
                        }
                    }
                });
            }
        }
        // Sums of probabilities may round to a little more than 1.
        latents.iter_mut().for_each(|p| *p = p.min(1.0));
    }

    /// Computes `E_q E[x_d | z]`, over the posterior of the latents: probabilities of zeros and ones, means of other observables.
    fn reconstruct(&self, packed: &Packed<T>, block: Block<'_, T>, points: &mut [f64]) {
        let dim = self.dim();
        if !self.accepts(block) {
            return points.fill(f64::NAN);
        }
        points.fill(0.0);
        match &packed.posterior {
            Encoder::Search(searcher, states) => {
                let n_words = words(self.n_latents());
                let mut means = vec![0.0; dim];
                search(searcher, *states, block, |i, _, q, set| {
                    let row = &mut points[i * dim..][..dim];
                    for (state, &q) in set.chunks(n_words).zip(q).filter(|(_, q)| **q > 0.0) {
                        searcher.observable_means(state, &mut means);
                        row.iter_mut().zip(&means).for_each(|(sum, p)| *sum += q * p);
                    }
                });
            }
            Encoder::States(table) => {
                let probabilities =
                    packed.probabilities.get_or_init(|| self.state_probabilities(packed.simd));
                let n_states = probabilities.len() / dim;
                let probabilities = MatRef::from_row_major_slice(probabilities, n_states, dim);
                let mut workspace = table.workspace();
                let mut out = vec![T::ZERO; 32 * dim];
                table.posteriors(block, false, &mut workspace, |strip, _| {
                    let (n, first) = (strip.log_evidence.len(), strip.first - block.first);
                    let responsibilities = MatRef::from_column_major_slice_with_stride(
                        strip.responsibilities,
                        n,
                        n_states,
                        strip.stride,
                    );
                    let rows = MatMut::from_row_major_slice_mut(&mut out[..n * dim], n, dim);
                    matmul(rows, Accum::Replace, responsibilities, probabilities, T::ONE, Par::Seq);
                    let start = first as usize * dim;
                    for (to, from) in points[start..].iter_mut().zip(&out[..n * dim]) {
                        *to = from.to_f64();
                    }
                });
            }
        }
        if self.gaussian.is_none() {
            points.iter_mut().for_each(|p| *p = p.min(1.0));
        }
    }
}

impl Sample for SigmoidBeliefNet {
    /// Draws `z`, then `y` if there is one, then `x`.
    fn sampler(&self) -> BlockSampler<'_> {
        let dim = self.dim();
        Box::new(move |rng, points, _| {
            for point in points.chunks_mut(dim) {
                let draw = |rng: &mut _, p: f64| f64::from(u8::from(rng::uniform(rng) < p));
                let mut state: Vec<f64> = self.prior().iter().map(|&p| draw(rng, p)).collect();
                if let Some(hidden) = self.hidden() {
                    state = hidden.probabilities(&state).map(|p| draw(rng, p)).collect();
                }
                if let Some(gaussian) = &self.gaussian {
                    gaussian.draw(self.observables(), &state, rng, point);
                    continue;
                }
                for (x, p) in point.iter_mut().zip(self.observables().probabilities(&state)) {
                    *x = draw(rng, p);
                }
            }
        })
    }
}
