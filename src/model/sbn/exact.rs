//! E-steps over all states of the latents.
//!
//! The observables see only the layer above them, of J latents. Over a strip of W points
//!
//! ```text
//! U = X (W, μ)                  W × (J + 1)   one product          faer's matmul
//! Z = additions of U, + bias    W × 2^J       a table              kernels::states
//! R = softmax(Z)                W × 2^J       one pass             kernels::softmax
//! E = sums of R                 W × (J + 1)   E_q[(z, 1)]          kernels::states
//! S += X' E                     D × (J + 1)   one product          faer's matmul
//! ```
//!
//! and nothing of size N × 2^J exists. Of points in `f32`, logits and exponentials are `f32`; posteriors are widened and normalised
//! before they are summed. So masses and moments are those of the same posteriors to rounding in `f64`: the M-step would answer any
//! other difference between them by weights without bound. With three layers `bias_y` is `ln Σ_z p(z) p(y | z)` less the log-partition, and a mass of `y` is
//! shared out among the `z` by `p(z | y)`, which is the same for all points.

use super::regression::Design;
use super::{LatentPosterior, LatentStats, Layer, LayerStats, Packed, SigmoidBeliefNet};
use crate::aligned::Aligned;
use crate::block::Block;
use crate::error::{Error, Result};
use crate::kernels::dispatch::Simd;
use crate::kernels::{softmax, states};
use crate::model::{Constants, Density, EStep, GenerativeModel};
use crate::scalar::Scalar;
use crate::stats::{StatsShape, SuffStats};
use crate::work::Workers;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// Latents of all layers whose states are enumerated at most. A strip of 8 points then takes 4 MiB in `f64`.
pub const MAX_ENUMERATED: usize = 16;

/// Points of a tile: those of one product.
const TILE: usize = 256;

/// Points of a strip. Narrow ones where wide tables would outgrow half of a level-2 cache of 1 MiB.
const WIDE: usize = 32;
const NARROW: usize = 8;
const TABLE_BYTES: usize = 1 << 19;

/// Parameters of a network in the layout of the kernels that go through all states.
#[derive(Debug)]
pub(super) struct PackedStates<T> {
    simd: Simd,
    latents: usize,
    dim: usize,
    /// `D × (J + 1)`, column-major; biases last.
    weights: Vec<T>,
    /// Log-prior less log-partition of each state.
    bias: Vec<T>,
    /// `p(z | y)` of three layers.
    above: Option<Above>,
}

/// The top layer of three, given the one below it.
#[derive(Debug)]
struct Above {
    /// `p(z | y)`, `2^H × 2^I`, row-major.
    conditional: Vec<f64>,
    /// `H[p(z | y)]`.
    entropy: Vec<f64>,
}

/// Scratch memory of one thread; empty under truncated posteriors.
#[derive(Debug)]
pub struct Workspace<T> {
    latents: usize,
    table: Aligned<T>,
    /// `TILE × (J + 1)` columns: the inputs of the tables, and the moments.
    inputs: Aligned<T>,
    moments: Aligned<f64>,
    strip_inputs: Aligned<T>,
    strip_moments: Aligned<f64>,
    log_evidence: Vec<f64>,
    sums: Vec<f64>,
    /// Posteriors of a strip, their sums since the last flush, and points of a tile, widened; empty where points are `f64`.
    wide_table: Aligned<f64>,
    wide_mass: Vec<f64>,
    wide_points: Aligned<f64>,
    /// Mass of the states that the observables see, since the last flush.
    pub(super) mass: Vec<f64>,
}

/// Posteriors of a strip of points.
#[derive(Debug)]
pub(super) struct PosteriorTile<'a, T> {
    /// Index of the first point in the source.
    pub first: u64,
    /// Weights of the points.
    pub weights: Option<&'a [f64]>,
    /// Log-evidence of each point, in nats.
    pub log_evidence: &'a [f64],
    /// Posterior probability of each state of the layer above the observables, one column a state, `stride` apart. May be
    /// overwritten.
    pub responsibilities: &'a mut [T],
    /// Distance between columns.
    pub stride: usize,
    /// Sum of the posterior entropies over these states.
    pub posterior_entropy: f64,
}

impl SigmoidBeliefNet {
    /// Returns the number of latents that the observables see.
    pub(super) fn visible_latents(&self) -> usize {
        self.hidden().map_or(self.prior().len(), Layer::outputs)
    }

    /// Computes `ln p(s)` of all states of the latents, `z` the leading digits.
    fn log_priors(&self, simd: Simd) -> Vec<f64> {
        let n = self.n_latents();
        if self.hidden().is_none() {
            // Linear in z: additions in place of logarithms, which a minibatch would feel.
            let mut log_odds: Vec<f64> =
                self.prior().iter().map(|p| p.ln() - (-p).ln_1p()).collect();
            log_odds.push(self.prior().iter().map(|p| (-p).ln_1p()).sum());
            let mut table = vec![0.0; 1 << n];
            states::linear(simd, &log_odds, &mut table);
            return table;
        }
        (0..1usize << n).map(|s| self.log_prior(|j| (s >> (n - 1 - j)) & 1 == 1)).collect()
    }

    pub(super) fn pack_states<T: Scalar>(&self, simd: Simd) -> PackedStates<T> {
        let (latents, dim) = (self.visible_latents(), self.dim());
        let mut log_prior = self.log_priors(simd);
        let mut above = None;
        if self.hidden().is_some() {
            let n_visible = 1 << latents;
            let mut marginal = vec![f64::NEG_INFINITY; n_visible];
            for row in log_prior.chunks(n_visible) {
                marginal.iter_mut().zip(row).for_each(|(m, l)| *m = m.max(*l));
            }
            let mut sums = vec![0.0; n_visible];
            for row in log_prior.chunks(n_visible) {
                for y in 0..n_visible {
                    sums[y] += (row[y] - marginal[y]).exp();
                }
            }
            marginal.iter_mut().zip(&sums).for_each(|(m, s)| *m += s.ln());
            let mut entropy = vec![0.0; n_visible];
            for row in log_prior.chunks_mut(n_visible) {
                for y in 0..n_visible {
                    let log = row[y] - marginal[y];
                    row[y] = log.exp();
                    entropy[y] -= row[y] * log;
                }
            }
            above = Some(Above { conditional: log_prior, entropy });
            log_prior = marginal;
        }
        let partitions = self.observables().log_partitions(simd);
        let bias = log_prior.iter().zip(partitions).map(|(p, a)| T::from_f64(p - a)).collect();
        let mut weights = vec![T::ZERO; dim * (latents + 1)];
        for (d, row) in self.observables().rows().enumerate() {
            for (j, &w) in row.iter().enumerate() {
                weights[j * dim + d] = T::from_f64(w);
            }
        }
        PackedStates { simd, latents, dim, weights, bias, above }
    }

    /// Turns the statistics of an E-step over all states into those of an M-step.
    ///
    /// # Panics
    /// If the statistics are those of another model.
    pub fn latent_stats(&self, stats: &SuffStats) -> LatentStats {
        let simd = Simd::detect();
        let scale = stats.total_weight().recip();
        let total: f64 = stats.mass().iter().sum();
        let mass: Vec<f64> = stats.mass().iter().map(|m| m / total).collect();
        let targets = stats.shared().iter().map(|t| t * scale).collect();
        let mut layers = Vec::new();
        let top = match self.hidden() {
            None => {
                layers.push(LayerStats { design: Design::all(mass), targets });
                &layers[0].design
            }
            Some(hidden) => {
                let (h, i) = (hidden.inputs(), hidden.outputs());
                let n_visible = 1 << i;
                let mut visible = vec![0.0; n_visible];
                // Of each z: Σ_y q(z, y) (y, 1), one column a moment.
                let mut moments = vec![0.0; (i + 1) << h];
                let mut of_state = vec![0.0; i + 1];
                for (z, row) in mass.chunks(n_visible).enumerate() {
                    visible.iter_mut().zip(row).for_each(|(sum, m)| *sum += m);
                    states::first_moments(simd, &mut row.to_vec(), &mut of_state);
                    for (k, &moment) in of_state.iter().enumerate() {
                        moments[(k << h) + z] = moment;
                    }
                }
                let mut hidden_targets = vec![0.0; i * (h + 1)];
                let tables = moments.chunks(1 << h);
                for (table, target) in tables.zip(hidden_targets.chunks_mut(h + 1)) {
                    states::first_moments(simd, &mut table.to_vec(), target);
                }
                let design = Design::all(moments[i << h..].to_vec());
                layers.push(LayerStats { design, targets: hidden_targets });
                layers.push(LayerStats { design: Design::all(visible), targets });
                &layers[0].design
            }
        };
        LatentStats {
            squares: Vec::new(),
            outputs: Vec::new(),
            posterior_entropy: stats.posterior_entropy() * scale,
            marginals: top.marginals(simd),
            layers,
        }
    }
}

impl<T: Scalar> Workspace<T> {
    /// Makes scratch memory without room for states.
    pub(super) fn empty() -> Self {
        Self {
            latents: 0,
            table: Aligned::default(),
            inputs: Aligned::default(),
            moments: Aligned::default(),
            strip_inputs: Aligned::default(),
            strip_moments: Aligned::default(),
            log_evidence: Vec::new(),
            sums: Vec::new(),
            wide_table: Aligned::default(),
            wide_mass: Vec::new(),
            wide_points: Aligned::default(),
            mass: Vec::new(),
        }
    }

    pub(super) fn serves(&self, packed: &PackedStates<T>) -> bool {
        self.latents == packed.latents && self.table.len() == packed.bias.len() * packed.width()
    }
}

impl<T: Scalar> PackedStates<T> {
    pub(super) fn workspace(&self) -> Workspace<T> {
        let n = self.latents + 1;
        let widened = |len: usize| Aligned::zeros(if is_wide::<T>() { 0 } else { len });
        Workspace {
            latents: self.latents,
            table: Aligned::zeros(self.bias.len() * self.width()),
            inputs: Aligned::zeros(n * TILE),
            moments: Aligned::zeros(n * TILE),
            strip_inputs: Aligned::zeros(n * WIDE),
            strip_moments: Aligned::zeros(n * WIDE),
            log_evidence: vec![0.0; WIDE],
            sums: vec![0.0; n * self.dim],
            wide_table: widened(self.bias.len() * self.width()),
            wide_mass: vec![0.0; if is_wide::<T>() { 0 } else { self.bias.len() }],
            wide_points: widened(TILE * self.dim),
            mass: vec![0.0; self.bias.len()],
        }
    }

    fn width(&self) -> usize {
        if self.bias.len() * WIDE * size_of::<T>() <= TABLE_BYTES { WIDE } else { NARROW }
    }

    /// Returns the conditional probabilities `p(z | y)`, `2^H × 2^J` row-major, of three layers.
    pub(crate) fn conditional(&self) -> Option<&[f64]> {
        self.above.as_ref().map(|above| &*above.conditional)
    }

    fn weights(&self) -> MatRef<'_, T> {
        MatRef::from_column_major_slice(&self.weights, self.dim, self.latents + 1)
    }

    /// Computes the posteriors of a block and hands them to `visit` strip by strip; times the weights of the points, if `weighted`.
    /// `workspace.mass` receives that of the states.
    pub(super) fn posteriors(
        &self,
        block: Block<'_, T>,
        weighted: bool,
        workspace: &mut Workspace<T>,
        mut visit: impl FnMut(PosteriorTile<'_, T>, &mut Workspace<T>),
    ) {
        for tile in tiles(block) {
            self.tile(tile, weighted, workspace, &mut visit);
        }
    }

    fn tile(
        &self,
        tile: Block<'_, T>,
        weighted: bool,
        workspace: &mut Workspace<T>,
        visit: &mut impl FnMut(PosteriorTile<'_, T>, &mut Workspace<T>),
    ) {
        let (n, columns) = (tile.len(), self.latents + 1);
        let inputs = MatMut::from_column_major_slice_with_stride_mut(
            &mut workspace.inputs,
            n,
            columns,
            TILE,
        );
        matmul(inputs, Accum::Replace, tile.points, self.weights(), T::ONE, Par::Seq);
        if self.width() == WIDE {
            self.strips::<WIDE>(tile, weighted, workspace, visit);
        } else {
            self.strips::<NARROW>(tile, weighted, workspace, visit);
        }
    }

    fn strips<const W: usize>(
        &self,
        tile: Block<'_, T>,
        weighted: bool,
        workspace: &mut Workspace<T>,
        visit: &mut impl FnMut(PosteriorTile<'_, T>, &mut Workspace<T>),
    ) {
        for start in (0..tile.len()).step_by(W) {
            let n = W.min(tile.len() - start);
            let weights = tile.weights.map(|weights| &weights[start..start + n]);
            let posterior_weights = if weighted { weights } else { None };
            let mut table = std::mem::take(&mut workspace.table);
            let (columns, _) = table.as_chunks_mut::<W>();
            let (strip, _) = workspace.strip_inputs.as_chunks_mut::<W>();
            let strip = &mut strip[..self.latents + 1];
            for (to, from) in strip.iter_mut().zip(workspace.inputs.chunks(TILE)) {
                // Points past the last one hold what they will: no other point sees them.
                let from = &from[start..TILE.min(start + W)];
                to[..from.len()].copy_from_slice(from);
            }
            states::enumerate(self.simd, strip, &self.bias, columns);
            let log_evidence = &mut workspace.log_evidence[..n];
            let totals = softmax::softmax(
                self.simd,
                columns.as_flattened_mut(),
                W,
                n,
                posterior_weights,
                &mut workspace.mass,
                Some(log_evidence),
            );
            let log_evidence = std::mem::take(&mut workspace.log_evidence);
            let posterior = PosteriorTile {
                first: tile.first + start as u64,
                weights,
                log_evidence: &log_evidence[..n],
                responsibilities: &mut table,
                stride: W,
                posterior_entropy: totals.posterior_entropy,
            };
            visit(posterior, workspace);
            workspace.log_evidence = log_evidence;
            workspace.table = table;
        }
    }

    /// Computes `E_q[(z, 1)]` of a strip of posteriors, one column a moment, `stride` apart; the table is lost.
    pub(crate) fn moments<V: Scalar>(&self, table: &mut [V], moments: &mut [V], stride: usize) {
        fn fold<V: Scalar, const W: usize>(
            simd: Simd,
            table: &mut [V],
            moments: &mut [V],
            columns: usize,
        ) {
            let (table, moments) = (table.as_chunks_mut::<W>().0, moments.as_chunks_mut::<W>().0);
            states::fold(simd, table, &mut moments[..columns]);
        }
        let fold = if stride == WIDE { fold::<V, WIDE> } else { fold::<V, NARROW> };
        fold(self.simd, table, moments, self.latents + 1);
    }

    fn e_step(&self, block: Block<'_, T>, stats: &mut SuffStats, workspace: &mut Workspace<T>) {
        for tile in tiles(block) {
            self.tile(tile, true, workspace, &mut |strip, workspace: &mut Workspace<T>| {
                let n = strip.log_evidence.len();
                *stats.total_weight_mut() += strip.weights.map_or(n as f64, |w| w.iter().sum());
                let positive = |w: &[f64]| w.iter().filter(|&&w| w > 0.0).count();
                *stats.n_points_mut() += strip.weights.map_or(n, positive) as f64;
                *stats.posterior_entropy_mut() += strip.posterior_entropy;
                *stats.log_evidence_mut() += match strip.weights {
                    None => strip.log_evidence.iter().sum::<f64>(),
                    Some(w) => strip.log_evidence.iter().zip(w).map(|(l, w)| l * w).sum(),
                };
                let Workspace { moments, strip_moments, wide_table, wide_mass, .. } = workspace;
                let table: &mut [f64] = match is_wide::<T>() {
                    true => bytemuck::cast_slice_mut(strip.responsibilities),
                    false => {
                        widen(&strip, wide_table, wide_mass);
                        wide_table
                    }
                };
                self.moments(table, strip_moments, strip.stride);
                let start = (strip.first - tile.first) as usize;
                let columns = moments.chunks_mut(TILE).zip(strip_moments.chunks(strip.stride));
                for (to, from) in columns.take(self.latents) {
                    to[start..start + n].copy_from_slice(&from[..n]);
                }
                // The sum of all responsibilities is the weight of the point, exactly.
                let last = &mut moments[self.latents * TILE + start..][..n];
                match strip.weights {
                    None => last.fill(1.0),
                    Some(w) => last.copy_from_slice(w),
                }
            });
            self.accumulate(tile, stats, workspace);
        }
    }

    /// Adds `X' E` of a tile to the moments.
    fn accumulate(&self, tile: Block<'_, T>, stats: &mut SuffStats, workspace: &mut Workspace<T>) {
        let (n, columns) = (tile.len(), self.latents + 1);
        let Workspace { moments, sums, wide_points, .. } = workspace;
        if is_wide::<T>() {
            product_into(
                tile.points,
                bytemuck::cast_slice(moments),
                bytemuck::cast_slice_mut(sums),
                columns,
            );
        } else {
            for (to, from) in wide_points.chunks_mut(TILE).zip(tile.points.col_iter()) {
                to.iter_mut().zip(from.iter()).for_each(|(to, from)| *to = from.to_f64());
            }
            let points =
                MatRef::from_column_major_slice_with_stride(wide_points, n, self.dim, TILE);
            product_into(points, moments, sums, columns);
        }
        for (total, sum) in stats.shared_mut().iter_mut().zip(sums) {
            *total += *sum;
        }
    }

    /// Moves the masses of states into the statistics.
    fn flush(&self, stats: &mut SuffStats, workspace: &mut Workspace<T>) {
        if !is_wide::<T>() {
            // The sums of the softmax are `f32` in part.
            workspace.mass.copy_from_slice(&workspace.wide_mass);
            workspace.wide_mass.fill(0.0);
        }
        match &self.above {
            None => {
                for (total, mass) in stats.mass_mut().iter_mut().zip(&workspace.mass) {
                    *total += mass;
                }
            }
            Some(above) => {
                let n_visible = workspace.mass.len();
                let rows = above.conditional.chunks(n_visible);
                for (totals, row) in stats.mass_mut().chunks_mut(n_visible).zip(rows) {
                    for y in 0..n_visible {
                        totals[y] += workspace.mass[y] * row[y];
                    }
                }
                let entropies = workspace.mass.iter().zip(&above.entropy);
                *stats.posterior_entropy_mut() += entropies.map(|(m, h)| m * h).sum::<f64>();
            }
        }
        workspace.mass.fill(0.0);
    }
}

/// Tells whether sums of this precision need no widening.
fn is_wide<T: Scalar>() -> bool {
    size_of::<T>() == size_of::<f64>()
}

/// Widens the posteriors of a strip, makes those of a point sum to its weight, and adds them to the masses.
fn widen<T: Scalar>(strip: &PosteriorTile<'_, T>, table: &mut [f64], masses: &mut [f64]) {
    let n = strip.log_evidence.len();
    let mut scale = [0.0; WIDE];
    for column in strip.responsibilities.chunks(strip.stride) {
        scale.iter_mut().zip(&column[..n]).for_each(|(sum, r)| *sum += r.to_f64());
    }
    for (i, scale) in scale[..n].iter_mut().enumerate() {
        let weight = strip.weights.map_or(1.0, |weights| weights[i]);
        *scale = if weight > 0.0 { weight / *scale } else { 0.0 };
    }
    let columns = strip.responsibilities.chunks(strip.stride).zip(table.chunks_mut(strip.stride));
    for ((from, to), mass) in columns.zip(masses) {
        for ((to, from), scale) in to.iter_mut().zip(&from[..n]).zip(&scale) {
            *to = from.to_f64() * scale;
            *mass += *to;
        }
    }
}

/// Replaces sums by `X' E` of a tile.
fn product_into<V: Scalar>(points: MatRef<'_, V>, moments: &[V], sums: &mut [V], columns: usize) {
    let (n, dim) = (points.nrows(), points.ncols());
    let moments = MatRef::from_column_major_slice_with_stride(moments, n, columns, TILE);
    let sums = MatMut::from_row_major_slice_mut(sums, dim, columns);
    matmul(sums, Accum::Replace, points.transpose(), moments, V::ONE, Par::Seq);
}

fn tiles<T: Scalar>(block: Block<'_, T>) -> impl Iterator<Item = Block<'_, T>> {
    (0..block.len())
        .step_by(TILE)
        .map(move |start| block.slice(start, TILE.min(block.len() - start)))
}

pub(crate) fn is_binary<T: Scalar>(block: Block<'_, T>) -> bool {
    let binary = |value: &T| (*value == T::ZERO) | (*value == T::ONE);
    block.points.row_iter().all(|row| match row.try_as_row_major() {
        Some(row) => row.as_slice().iter().fold(true, |all, value| all & binary(value)),
        None => row.iter().all(binary),
    })
}

impl<T: Scalar> EStep<T> for SigmoidBeliefNet {
    fn check_e_step(&self) -> Result<()> {
        match self.posterior() {
            LatentPosterior::Truncated { .. } => Err(Error::Config(
                "sbn: truncated posteriors are states that points keep from sweep to sweep: an SbnSpec \
                 learns them, or exact posteriors do without"
                    .into(),
            )),
            LatentPosterior::Exact => Ok(()),
        }
    }

    fn pack(&self, simd: Simd, _: u64, _: Constants, _: &dyn Workers) -> Packed<T> {
        self.pack_for_scores(simd)
    }

    fn new_stats(&self, packed: &Packed<T>) -> SuffStats {
        let shape = StatsShape {
            components: 1 << self.n_latents(),
            statistics: 0,
            shared: packed.states().weights.len(),
            centre: 0,
        };
        SuffStats::zeros(shape, Vec::new())
    }

    fn e_step(
        &self,
        packed: &Packed<T>,
        block: Block<'_, T>,
        stats: &mut SuffStats,
        workspace: &mut Workspace<T>,
    ) {
        packed.states().e_step(block, stats, workspace);
    }

    fn flush(&self, packed: &Packed<T>, stats: &mut SuffStats, workspace: &mut Workspace<T>) {
        packed.states().flush(stats, workspace);
    }
}
