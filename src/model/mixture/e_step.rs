//! E-steps of a mixture on blocks of points.

mod halves;
mod labels;
mod observed;
mod pack;
mod rows;
mod score;
mod sparse;
mod tied;
mod wide;

use super::{Mixture, Posterior};
use crate::aligned::Aligned;
use crate::block::Block;
use crate::error::{Error, Result};
use crate::family::{BaseMeasure, Statistic};
use crate::kernels::accumulate::weighted_sums;
use crate::kernels::affine::{AffineMap, affine};
use crate::kernels::blocking::Tiling;
use crate::kernels::dispatch::Simd;
use crate::kernels::products::ProductGroups;
use crate::kernels::rows::RowStatistics;
use crate::kernels::softmax;
use crate::kernels::statistics::{self, Tile};
use crate::kernels::whitened::WhitenedMap;
use crate::model::{Constants, EStep, HalvedEStep};
use crate::scalar::Scalar;
use crate::stats::{DataConstants, StatsShape, SuffStats};
use crate::work::Workers;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use std::sync::OnceLock;

/// Returns the error of packed logits, in nats, beyond which a component takes whitened differences.
///
/// The error is about `ε a' |Λ| a` with the working precision's `ε` and `a = |μ - centre| + σ`, a typical point of the
/// component: a bound of what rounding does to the terms, whatever the units of the columns. In `f64` 1e-10 keeps trajectories within
/// 1e-9 of exact ones; components beyond it lie 700 widths from the centre. In `f32` the limit is relative to D, as log-densities
/// are, and grows with the number of points, over whose mean errors average out: those of few points, or of rounded values that
/// repeat as those of iris do, do not.
pub(in crate::model) fn cancellation_tolerance<T: Scalar>(dim: usize, n_points: u64) -> f64 {
    if T::EPSILON < 1e-10 { 1e-10 } else { dim as f64 * (2e-9 * n_points as f64).min(1e-5) }
}

/// Parameters of a mixture in the layout of the kernels.
#[derive(Debug)]
pub struct Packed<T> {
    simd: Simd,
    tiling: Tiling,
    posterior: Posterior,
    shape: StatsShape,
    statistics: Vec<Statistic>,
    /// Whether values may be missing; their statistics are 0 then.
    missing: bool,
    /// Base measure of the points; `None` if it is 1, or summed already.
    base_measure: Option<BaseMeasure>,
    /// Base measure of sparse points, made when the first of them is seen.
    sparse_measure: OnceLock<sparse::Measure>,
    /// Shared statistics that the sweep must sum about `centre`.
    shared: Vec<Statistic>,
    shared_natural: Vec<f64>,
    /// Their part of single points' logits, which only scores need.
    shared_form: Option<WhitenedMap<T>>,
    constants: Constants,
    centre: Vec<T>,
    /// Component of each column of the logits: packed ones first, then centred ones.
    order: Vec<usize>,
    n_packed: usize,
    /// Statistics that are evaluated panel by panel: all, or those before a run of all products.
    n_direct: usize,
    /// Natural parameters and biases of packed components for direct statistics.
    natural: AffineMap<T>,
    /// The products, where few components make it cheaper not to evaluate them.
    products: Option<ProductGroups>,
    product_coefficients: Vec<T>,
    /// The statistics for points as rows, if hard posteriors sum them so.
    rows: Option<RowStatistics>,
    /// All components as packed ones, if they may cancel and yet tell the labels of points.
    labels: Option<AffineMap<T>>,
    /// Components that take whitened differences.
    centred: WhitenedMap<T>,
    /// Whether the lanes of their sums stay until a flush, and do not end with each tile. A slice of components does as the whole does, for
    /// the same bits.
    keeps_lanes: bool,
    /// All components, if they share a covariance and packed logits would cancel in `f32` and not in `f64`: in coordinates that the
    /// covariance whitens, or in `f64`. Their sums stay packed: first moments lose few digits, and the scatter of all points is
    /// summed in `f64`.
    tied: Option<tied::Tied<T>>,
    wide: Option<wide::Wide>,
    /// All components, if the family fills missing values.
    observed: Option<observed::Observed>,
}

/// The sizes of a workspace: it serves other parameters with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WorkspaceKey {
    tiling: Tiling,
    components: usize,
    n_packed: usize,
    n_direct: usize,
    products: Option<ProductGroups>,
    centres: bool,
    sums_shared: bool,
}

/// Scratch memory of one thread.
#[derive(Debug)]
pub struct Workspace<T> {
    /// Points of a tile about the common centre.
    points: Aligned<T>,
    /// The same points about zero, for whitened differences.
    plain: Aligned<T>,
    scratch: Aligned<T>,
    statistics: Aligned<T>,
    logits: Aligned<T>,
    /// Responsibilities in the order of the model, where that of the logits is another.
    reordered: Aligned<T>,
    labels: Vec<u32>,
    mass: Vec<f64>,
    /// The sizes of this memory.
    key: WorkspaceKey,
    /// Sums of packed components since the last flush, in working precision; [`Packed::sum_at`] says what stands where.
    sums: Vec<T>,
    /// Sums of grouped products since the last flush, and scratch columns for these.
    product_sums: Vec<T>,
    products: Aligned<T>,
    pending: usize,
    /// Lanes of the sums of centred components since the last flush, or of one component.
    lanes: Aligned<T>,
    /// Sums of sparse points since the last flush; empty where there were none.
    sparse_sums: Vec<f64>,
    /// Sample weights of a tile and room for its shared statistics; empty where they are known.
    shared_weights: Vec<f64>,
    shared_scratch: Aligned<f64>,
    log_density: Vec<f64>,
    log_base_measure: Vec<f64>,
    /// What the logits of each point are less; empty if they are whole.
    shift: Vec<f64>,
    wide: Vec<f64>,
    wide_tile: wide::Memory,
    /// Points of a tile with positive weights under a centred component.
    rows: rows::Rows<T>,
    /// Points of a tile by what is observed of them, where missing values are filled.
    groups: Vec<observed::Group>,
}

impl<T: Scalar> Packed<T> {
    /// Puts the points of a tile about `centre` into columns. There are none yet where all points were sparse.
    fn load(&self, points: MatRef<'_, T>, centre: &[T], columns: &mut Aligned<T>) {
        columns.resize(points.ncols() * self.tiling.stride);
        statistics::load(self.simd, points, centre, columns, self.tiling.stride);
    }

    /// Puts the points of a tile into `workspace.points`, about the common centre; where whitened differences need them, also into
    /// `workspace.plain`, as they are, with zeros behind them.
    fn load_tile(&self, points: MatRef<'_, T>, workspace: &mut Workspace<T>) {
        if self.centred.is_empty() {
            return self.load(points, &self.centre, &mut workspace.points);
        }
        let (n_points, dim, stride) = (points.nrows(), points.ncols(), self.tiling.stride);
        self.load(points, &[], &mut workspace.plain);
        for column in workspace.plain.chunks_mut(stride) {
            column[n_points..].fill(T::ZERO);
        }
        // From one tile to the other: transposing the points again would take longer.
        let plain = Tile { values: &workspace.plain, dim, n_points, stride };
        workspace.points.resize(dim * stride);
        statistics::shift(self.simd, plain, &self.centre, &mut workspace.points);
    }

    /// Fills the logits of a tile, less `workspace.shift`; `workspace.points` then holds the tile about the common centre, unless it
    /// is sparse.
    fn logits(&self, tile: Block<'_, T>, workspace: &mut Workspace<T>) {
        workspace.shift.clear();
        if let Some(rows) = tile.sparse {
            return self.sparse_logits(rows, workspace);
        }
        let points = tile.points;
        let (n, dim, stride) = (points.nrows(), points.ncols(), self.tiling.stride);
        if let Some(observed) = &self.observed {
            workspace.groups = observed.logits(points, stride, &mut workspace.logits);
            return;
        }
        self.load_tile(points, workspace);
        let (packed, centred) = workspace.logits.split_at_mut(self.n_packed * stride);
        if !self.centred.is_empty() {
            let tile = Tile { values: &workspace.plain, dim, n_points: n, stride };
            self.centred.logits(self.simd, tile, &mut workspace.scratch, centred);
        }
        if self.n_packed == 0 {
            return;
        }
        let tile = Tile { values: &workspace.points, dim, n_points: n, stride };
        for (first, panel) in self.panels() {
            let columns = &mut workspace.statistics[..panel.len() * stride];
            self.evaluate(panel, tile, columns);
            if self.tied.is_none() && self.wide.is_none() {
                affine(self.simd, &self.natural, columns, first, n, stride, packed);
            }
        }
        if let Some(tied) = &self.tied {
            return tied.logits(self.simd, tile, &mut workspace.scratch, packed);
        }
        if let Some(wide) = &self.wide {
            workspace.shift.resize(n, 0.0);
            let (memory, shift) = (&mut workspace.wide_tile, &mut workspace.shift);
            return wide.logits(self.simd, tile, memory, packed, shift);
        }
        if let Some(products) = self.products {
            let coefficients = &self.product_coefficients;
            products.logits(self.simd, tile, coefficients, &mut workspace.products, packed);
        }
    }

    /// Evaluates a panel of statistics; those of missing values are 0.
    fn evaluate(&self, panel: &[Statistic], tile: Tile<'_, T>, out: &mut [T]) {
        statistics::evaluate(self.simd, panel, tile, out);
        if self.missing {
            out.chunks_mut(tile.stride)
                .take(panel.len())
                .for_each(|column| statistics::clear_missing(&mut column[..tile.n_points]));
        }
    }

    /// Fills `workspace.log_base_measure` for a tile: the one in `workspace.points`, or a sparse one.
    fn log_base_measure(
        &self,
        measure: &BaseMeasure,
        tile: Block<'_, T>,
        workspace: &mut Workspace<T>,
    ) {
        if let Some(rows) = tile.sparse {
            return self.sparse_log_base_measure(measure, rows, workspace);
        }
        let (n_points, dim, stride) = (tile.len(), tile.dim(), self.tiling.stride);
        workspace.wide.resize((dim + 1) * stride, 0.0);
        workspace.log_base_measure.resize(stride, 0.0);
        statistics::log_base_measure(
            self.simd,
            &measure.terms,
            measure.constant,
            Tile { values: &workspace.points, dim, n_points, stride },
            &mut workspace.wide,
            &mut workspace.log_base_measure,
        );
    }

    /// Tells whether sums are a matrix of components × statistics, and not the other way round: a matrix product packs what gives the
    /// rows, so the smaller side should. Measured (256 points, f64): 256 × 32 takes 53 µs against 73 the other way, 256 × 16 27
    /// against 46, 152 × 64 68 against 75, 128 × 128 the same, 32 × 64 18 against 15.
    fn component_rows(&self) -> bool {
        self.n_direct > self.n_packed
    }

    /// Returns the index of the sum of statistic `l` under the `k`-th packed component.
    fn sum_at(&self, l: usize, k: usize) -> usize {
        if self.component_rows() { l * self.n_packed + k } else { k * self.n_direct + l }
    }

    fn panels(&self) -> impl Iterator<Item = (usize, &[Statistic])> {
        (0..)
            .step_by(self.tiling.panel)
            .zip(self.statistics[..self.n_direct].chunks(self.tiling.panel))
    }

    /// Adds `T' R` of a tile to the sums, `R` being what the logits have become.
    fn accumulate(&self, tile: Block<'_, T>, stats: &mut SuffStats, workspace: &mut Workspace<T>) {
        if let Some(rows) = tile.sparse {
            return self.sparse_sums(rows, workspace);
        }
        let points = tile.points;
        let (n, dim, stride) = (points.nrows(), points.ncols(), self.tiling.stride);
        if let Some(observed) = &self.observed {
            let weight = |row: usize, c: usize| workspace.logits[c * stride + row].to_f64();
            return observed.accumulate(points, &workspace.groups, weight, stats);
        }
        let one_panel = self.n_direct <= self.tiling.panel;
        let (packed, centred) = workspace.logits.split_at_mut(self.n_packed * stride);
        if self.n_packed > 0 {
            // Sized here, since not every workspace sums: scores do not, nor does the first half of a sweep in two.
            workspace.sums.resize(self.n_packed * self.n_direct, T::ZERO);
            workspace.product_sums.resize(self.product_coefficients.len(), T::ZERO);
            let responsibilities =
                MatRef::from_column_major_slice_with_stride(packed, n, self.n_packed, stride);
            let tile = Tile { values: &workspace.points, dim, n_points: n, stride };
            for (first, panel) in self.panels() {
                if !one_panel {
                    self.evaluate(panel, tile, &mut workspace.statistics);
                }
                let t = MatRef::from_column_major_slice_with_stride(
                    &workspace.statistics,
                    n,
                    panel.len(),
                    stride,
                );
                let (r, sums) = (responsibilities, &mut workspace.sums);
                if self.component_rows() {
                    let sums =
                        MatMut::from_column_major_slice_mut(sums, self.n_packed, self.n_direct)
                            .subcols_mut(first, panel.len());
                    matmul(sums, Accum::Add, r.transpose(), t, T::ONE, Par::Seq);
                } else {
                    let sums =
                        MatMut::from_column_major_slice_mut(sums, self.n_direct, self.n_packed)
                            .subrows_mut(first, panel.len());
                    matmul(sums, Accum::Add, t.transpose(), r, T::ONE, Par::Seq);
                }
            }
            if let Some(products) = self.products {
                let sums = &mut workspace.product_sums;
                products.sums(self.simd, tile, packed, &mut workspace.products, sums);
            }
        }
        workspace.pending += n;
        let tile = Tile { values: &workspace.plain, dim, n_points: n, stride };
        let each = self.centred.lanes_len();
        for (k, weights) in centred.chunks_mut(stride).take(self.centred.len()).enumerate() {
            let (first, second) = self.moments_mut(k, dim, stats);
            let rows = &mut workspace.rows;
            if rows.add(self.simd, points, &weights[..n], (&self.centred, k), first, second) {
                continue;
            }
            workspace.lanes.resize(each * if self.keeps_lanes { self.centred.len() } else { 1 });
            let at = if self.keeps_lanes { k * each } else { 0 };
            let (scratch, lanes) = (&mut workspace.scratch, &mut workspace.lanes[at..][..each]);
            self.centred.sums(self.simd, k, tile, weights, scratch, lanes);
            if !self.keeps_lanes {
                self.centred.flush(self.simd, lanes, first, second);
            }
        }
    }

    /// Returns the first and second moments of the `k`-th centred component; second ones may be shared.
    fn moments_mut<'s>(
        &self,
        k: usize,
        dim: usize,
        stats: &'s mut SuffStats,
    ) -> (&'s mut [f64], &'s mut [f64]) {
        let [sums, shared] = stats.sums_and_shared_mut(self.order[self.n_packed + k]);
        if self.shared.is_empty() { sums.split_at_mut(dim) } else { (sums, shared) }
    }

    fn workspace_key(&self) -> WorkspaceKey {
        WorkspaceKey {
            tiling: self.tiling,
            components: self.shape.components,
            n_packed: self.n_packed,
            n_direct: self.n_direct,
            products: self.products,
            centres: !self.centred.is_empty() || self.shared_form.is_some() || self.tied.is_some(),
            sums_shared: self.constants == Constants::Sum && !self.shared.is_empty(),
        }
    }

    fn tiles<'b>(&self, block: Block<'b, T>) -> impl Iterator<Item = Block<'b, T>> + use<'b, T> {
        let points = self.tiling.points;
        (0..block.len())
            .step_by(points)
            .map(move |start| block.slice(start, points.min(block.len() - start)))
    }

    /// Turns the logits of a tile into posteriors: weighted responsibilities in `workspace.logits`, or
    /// `workspace.labels`. Adds all statistics but the sums.
    fn posteriors(&self, tile: Block<'_, T>, stats: &mut SuffStats, workspace: &mut Workspace<T>) {
        let (n, stride) = (tile.len(), self.tiling.stride);
        workspace.mass.fill(0.0);
        let totals = match self.posterior {
            Posterior::Hard if self.labels_directly(tile) => self.label(tile, workspace),
            _ => {
                self.logits(tile, workspace);
                let (simd, weights) = (self.simd, tile.weights);
                let (logits, mass) = (&mut workspace.logits, &mut workspace.mass);
                let mut totals = if self.posterior == Posterior::Exact {
                    softmax::softmax(simd, logits, stride, n, weights, mass, None)
                } else {
                    let labels = &mut workspace.labels[..n];
                    softmax::argmax(simd, logits, stride, weights, labels, mass)
                };
                totals.log_evidence += weighted_sum(tile.weights, &workspace.shift);
                totals
            }
        };
        let positive = |weights: &[f64]| weights.iter().filter(|&&w| w > 0.0).count();
        *stats.total_weight_mut() += tile.weights.map_or(n as f64, |weights| weights.iter().sum());
        *stats.n_points_mut() += tile.weights.map_or(n, positive) as f64;
        *stats.log_evidence_mut() += totals.log_evidence;
        *stats.posterior_entropy_mut() += totals.posterior_entropy;
        for (&c, mass) in self.order.iter().zip(&workspace.mass) {
            stats.mass_mut()[c] += mass;
        }
        if let Some(measure) = &self.base_measure {
            self.log_base_measure(measure, tile, workspace);
            let values = &workspace.log_base_measure[..n];
            *stats.log_base_measure_mut() += weighted_sum(tile.weights, values);
        }
        if self.constants == Constants::Sum && self.centred.is_empty() && !self.shared.is_empty() {
            // In f64, whatever the points are: the parts of the components are taken off it.
            let (dim, columns) = (tile.dim(), &workspace.points[..tile.dim() * stride]);
            workspace.wide.clear();
            workspace.wide.extend(columns.iter().map(|value| value.to_f64()));
            match tile.weights {
                Some(weights) => workspace.shared_weights[..n].copy_from_slice(weights),
                None => workspace.shared_weights[..n].fill(1.0),
            }
            let view = Tile { values: &workspace.wide, dim, n_points: n, stride };
            let (weights, scratch) =
                (&workspace.shared_weights[..n], &mut workspace.shared_scratch);
            weighted_sums(self.simd, &self.shared, view, weights, scratch, stats.shared_mut());
        }
    }

    /// Flushes the workspace if it is due: `f32` sums run over a thousand points at most.
    fn flush_if_due(&self, stats: &mut SuffStats, workspace: &mut Workspace<T>) {
        if size_of::<T>() == 4 && workspace.pending >= 1024 {
            self.flush(stats, workspace);
        }
    }

    /// Moves the sums of packed components into the statistics.
    fn flush(&self, stats: &mut SuffStats, workspace: &mut Workspace<T>) {
        self.flush_sparse(stats, workspace);
        if workspace.pending == 0 {
            return;
        }
        workspace.pending = 0;
        for (k, &c) in self.order[..self.n_packed].iter().enumerate() {
            for (l, total) in stats.sums_mut(c)[..self.n_direct].iter_mut().enumerate() {
                *total += workspace.sums[self.sum_at(l, k)].to_f64();
            }
        }
        workspace.sums.fill(T::ZERO);
        // There are none where all sums came from rows.
        let (each, dim) = (self.centred.lanes_len(), self.centred.dim());
        let lanes = workspace.lanes.chunks_exact_mut(each).take(self.centred.len());
        for (k, lanes) in lanes.enumerate() {
            let (first, second) = self.moments_mut(k, dim, stats);
            self.centred.flush(self.simd, lanes, first, second);
        }
        if let Some(products) = self.products {
            products.for_each(|k, product, at| {
                stats.sums_mut(self.order[k])[self.n_direct + product] +=
                    workspace.product_sums[at].to_f64();
            });
            workspace.product_sums.fill(T::ZERO);
        }
    }
}

/// Returns the sum of one value a point, each times the weight of its point.
fn weighted_sum(weights: Option<&[f64]>, values: &[f64]) -> f64 {
    match weights {
        None => values.iter().sum(),
        Some(weights) => values.iter().zip(weights).map(|(value, weight)| value * weight).sum(),
    }
}

impl Mixture {
    /// Returns the point about which shared statistics are summed.
    fn shared_centre<T: Scalar>(&self, packed: &Packed<T>) -> Vec<f64> {
        packed.centre.iter().map(|v| v.to_f64()).collect()
    }
}

impl<T: Scalar> EStep<T> for Mixture {
    fn check_e_step(&self) -> Result<()> {
        match self.posterior {
            Posterior::Truncated(_) => Err(Error::Config(
                "truncated posteriors depend on the sets of the points: fit MixtureSpec::from_model(model), or take exact posteriors"
                    .into(),
            )),
            _ => Ok(()),
        }
    }

    fn pack(
        &self,
        simd: Simd,
        n_points: u64,
        constants: Constants,
        workers: &dyn Workers,
    ) -> Packed<T> {
        let tolerance = cancellation_tolerance::<T>(self.family.dim(), n_points);
        self.pack_for(simd, tolerance, constants, false, workers)
    }

    fn paths(&self, packed: &Packed<T>) -> [usize; 2] {
        let all = if self.family.is_location() { packed.order.len() } else { 0 };
        match packed {
            Packed { labels: Some(_), .. } => [0, all],
            Packed { tied: Some(_), .. } | Packed { wide: Some(_), .. } => [all, all],
            _ => [packed.centred.len(), all],
        }
    }

    fn new_stats(&self, packed: &Packed<T>) -> SuffStats {
        let mut centres: Vec<f64> = packed.centre.iter().map(|v| v.to_f64()).collect::<Vec<_>>();
        centres = match &packed.observed {
            Some(observed) => observed.centres(),
            None => centres.repeat(packed.shape.components),
        };
        for (k, &c) in packed.order[packed.n_packed..].iter().enumerate() {
            let centre = packed.centred.centre(k);
            for (to, from) in centres[c * centre.len()..].iter_mut().zip(centre) {
                *to = from.to_f64();
            }
        }
        SuffStats::zeros(packed.shape, centres)
    }

    fn e_step(
        &self,
        packed: &Packed<T>,
        block: Block<'_, T>,
        stats: &mut SuffStats,
        workspace: &mut Workspace<T>,
    ) {
        for tile in packed.tiles(block) {
            packed.posteriors(tile, stats, workspace);
            match packed.posterior {
                Posterior::Hard => packed.accumulate_labels(tile, stats, workspace),
                _ => packed.accumulate(tile, stats, workspace),
            }
            packed.flush_if_due(stats, workspace);
        }
    }

    fn flush(&self, packed: &Packed<T>, stats: &mut SuffStats, workspace: &mut Workspace<T>) {
        packed.flush(stats, workspace);
    }

    fn complete(&self, packed: &Packed<T>, stats: &mut SuffStats, known: Option<&DataConstants>) {
        if let (Constants::Known, Some(known)) = (packed.constants, known) {
            *stats.log_base_measure_mut() = known.log_base_measure;
            if packed.centred.is_empty() {
                stats.shared_mut().copy_from_slice(&known.shared);
            }
        }
        let shared: f64 =
            packed.shared_natural.iter().zip(stats.shared()).map(|(a, b)| a * b).sum();
        *stats.log_evidence_mut() += shared + stats.log_base_measure();
        for c in 0..self.n_components() {
            let mass = stats.mass()[c];
            self.family.mend(mass, stats.sums_mut(c));
        }
    }

    fn constants(&self, packed: &Packed<T>, stats: &SuffStats) -> Option<DataConstants> {
        (packed.shared.is_empty() || packed.centred.is_empty()).then(|| DataConstants {
            log_base_measure: stats.log_base_measure(),
            shared: stats.shared().to_vec(),
            centre: self.shared_centre(packed),
        })
    }

    fn can_reuse(&self, packed: &Packed<T>, constants: &DataConstants) -> bool {
        packed.shared.is_empty() || constants.centre == self.shared_centre(packed)
    }

    fn halves(&self) -> Option<&dyn HalvedEStep<T, Packed<T>, Workspace<T>>> {
        if self.family.fills_missing() { None } else { Some(self) }
    }
}
