//! The data plane of mixtures of factor analysers: E-steps, scores and posterior means of blocks.

use super::m_step::Layout;
use super::{MixtureOfFactorAnalyzers, factorized};
use crate::aligned::Aligned;
use crate::block::Block;
use crate::kernels::dispatch::Simd;
use crate::kernels::factors;
use crate::kernels::softmax::{padded_stride, softmax};
use crate::kernels::statistics::{self, Tile};
use crate::linalg::{product, row_major};
use crate::model::mixture::cancellation_tolerance;
use crate::model::{
    Constants, Density, EStep, GenerativeModel, HalvedEStep, LatentSpace, ScoredTile,
};
use crate::scalar::Scalar;
use crate::stats::{DataConstants, StatsShape, SuffStats};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use std::ops::Range;

/// Bytes of projections of a tile: half a level-2 cache, as tiles of mixtures have it (kernels/blocking.rs).
const PROJECTION_BYTES: usize = 1 << 19;

/// Points of a tile at least and at most. Fewer make the products inefficient, more gain nothing.
const TILE_POINTS: [usize; 2] = [64, 256];

/// Points whose `f32` sums may be added up before they go into `f64`.
const F32_RUN: usize = 1024;

/// Single points are scored as accurately as the mean over this many is swept: to 1e-5 nats per dimension in `f32`.
const SCORED_POINTS: u64 = 5_000;

/// The parameters of a mixture of factor analysers as the kernels want them.
#[derive(Clone, Debug)]
pub struct Packed<T> {
    simd: Simd,
    /// Points of a tile, and the distance between its columns.
    points: usize,
    stride: usize,
    shape: StatsShape,
    latents: usize,
    /// The point about which tiles are taken.
    centre: Vec<T>,
    /// `A` of all components side by side, D × C H, column-major, and what it gives for `x - μ` less what it gives for
    /// `x - centre`.
    projections: Vec<T>,
    shifts: Vec<T>,
    /// Means about the centre, and one over the deviations of the noise, C × D.
    means: Vec<T>,
    scales: Vec<T>,
    bias: Vec<T>,
    /// Centres of the statistics about that of the tiles, C × D.
    centres: Vec<T>,
    residual: Vec<Residual<T>>,
    posteriors: Vec<ComponentPosterior>,
    /// `W_c L_c'⁻¹` of all components side by side, D × C H, column-major. Only scores have it, for reconstructions.
    decoder: Vec<T>,
}

/// A component whose logits come from residuals: `|Ψ^-½ (x - μ)|² - |u|² = |Ψ^-½ (x - μ - W E[z])|² + |E[z]|²`.
///
/// Where loadings are much larger than the noise the left side is a small difference of large numbers. The right side
/// costs another product, and cannot cancel.
#[derive(Clone, Debug)]
struct Residual<T> {
    component: usize,
    mean: Vec<T>,
    /// What rounding the mean has lost, then H zeros; and the scales of the noise, then H ones.
    offset: Vec<T>,
    scales: Vec<T>,
    /// `L⁻¹`, which takes `u'` to `E[z]'`, and the loadings, D × H; both column-major.
    to_latents: Vec<T>,
    loadings: Vec<T>,
}

/// `z | x, c ~ N(a + K u, K K')`: what completes statistics in `f64`.
#[derive(Clone, Debug)]
struct ComponentPosterior {
    mean: Vec<f64>,
    /// `K = R L'⁻¹`, H × H.
    factor: Mat<f64>,
    /// `ln det(2πe K K')`, halved.
    entropy: f64,
}

/// Scratch memory of one lane.
#[derive(Debug)]
pub struct Workspace<T> {
    key: WorkspaceKey,
    points: Aligned<T>,
    /// A tile about the mean of one component, and its latents.
    local: Aligned<T>,
    projections: Aligned<T>,
    weighted: Aligned<T>,
    logits: Aligned<T>,
    mass: Vec<f64>,
    log_density: Vec<f64>,
    ones: Vec<T>,
    /// Moments of a tile, C × D each.
    first: Vec<T>,
    second: Vec<T>,
    /// Sums since the last flush: `X' (R ∘ U)`, D × C H; `U_c' (R ∘ U)_c`, H × H each; `U_c' r_c`, H each.
    cross: Vec<T>,
    latent_second: Vec<T>,
    latent: Vec<T>,
    pending: usize,
}

/// The sizes of a workspace: it serves other parameters with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WorkspaceKey {
    stride: usize,
    shape: StatsShape,
    latents: usize,
    residuals: bool,
}

fn rounded<T: Scalar>(values: impl IntoIterator<Item = f64>) -> Vec<T> {
    values.into_iter().map(T::from_f64).collect()
}

fn column_major(matrix: &Mat<f64>) -> impl Iterator<Item = f64> + '_ {
    matrix.col_iter().flat_map(|column| column.iter().copied())
}

/// A column-major matrix whose columns stand `stride` apart.
fn columns<T: Scalar>(values: &[T], rows: usize, columns: usize, stride: usize) -> MatRef<'_, T> {
    MatRef::from_column_major_slice_with_stride(values, rows, columns, stride)
}

fn columns_mut<T: Scalar>(
    values: &mut [T],
    rows: usize,
    columns: usize,
    stride: usize,
) -> MatMut<'_, T> {
    MatMut::from_column_major_slice_with_stride_mut(values, rows, columns, stride)
}

impl MixtureOfFactorAnalyzers {
    fn pack_for<T: Scalar>(&self, simd: Simd, tolerance: f64) -> Packed<T> {
        let shape = self.shape();
        let (dim, latents) = (shape.centre, self.n_latents());
        let per_point = size_of::<T>() * shape.components * latents;
        let points = (PROJECTION_BYTES / per_point).clamp(TILE_POINTS[0], TILE_POINTS[1]);
        let points = 1 << points.ilog2();
        let centre: Vec<T> = rounded(self.centre.iter().copied());
        let mut packed = Packed {
            simd,
            points,
            stride: padded_stride::<T>(points),
            shape,
            latents,
            projections: Vec::with_capacity(shape.components * dim * latents),
            shifts: Vec::with_capacity(shape.components * latents),
            means: Vec::with_capacity(shape.components * dim),
            scales: Vec::with_capacity(shape.components * dim),
            bias: Vec::with_capacity(shape.components),
            centres: Vec::with_capacity(shape.components * dim),
            residual: Vec::new(),
            posteriors: Vec::with_capacity(shape.components),
            decoder: Vec::new(),
            centre,
        };
        for (c, component) in self.components.iter().enumerate() {
            let form = factorized(component);
            let about_centre = |point: &[f64]| -> Vec<f64> {
                point.iter().zip(&packed.centre).map(|(v, k)| v - k.to_f64()).collect()
            };
            let mean = about_centre(&component.mean);
            let scales: Vec<f64> = component.noise.iter().map(|v| v.sqrt().recip()).collect();
            // Sizes of the terms that cancel: squares as large as the loadings against the noise, and projections
            // as large as the distance of the mean from the centre.
            let distance =
                mean.iter().zip(&scales).map(|(m, s)| (m * s).powi(2)).sum::<f64>().sqrt();
            let typical = dim as f64 - latents as f64 + form.trace;
            let cancels = |size: f64| T::EPSILON * size > tolerance;
            // The mean may have left the point about which statistics were to be taken.
            let steps = component.mean.iter().zip(&self.centres[c]).zip(&scales);
            let far = steps.map(|((m, k), s)| ((m - k) * s).powi(2)).fold(0.0, f64::max);
            let about = if cancels(far) { &component.mean } else { &self.centres[c] };

            let shift = product(
                form.projection.transpose(),
                MatRef::from_column_major_slice(&mean, dim, 1),
            );
            packed.shifts.extend(column_major(&shift).map(|v| T::from_f64(-v)));
            packed.projections.extend(column_major(&form.projection).map(T::from_f64));
            packed.means.extend(mean.iter().map(|&v| T::from_f64(v)));
            packed.scales.extend(scales.iter().map(|&v| T::from_f64(v)));
            packed.bias.push(T::from_f64(self.weights[c].ln() - 0.5 * form.log_det_2pi));
            let about: Vec<T> = rounded(about_centre(about));
            packed.centres.extend(about);
            if self.weights[c] > 0.0 && cancels(typical + distance * form.trace.sqrt()) {
                let mean: Vec<T> = rounded(component.mean.iter().copied());
                let lost = component.mean.iter().zip(&mean).map(|(m, k)| m - k.to_f64());
                let zeros = std::iter::repeat_n(0.0, latents);
                let ones = std::iter::repeat_n(1.0, latents);
                packed.residual.push(Residual {
                    component: c,
                    offset: rounded(lost.chain(zeros)),
                    scales: rounded(scales.into_iter().chain(ones)),
                    to_latents: rounded(column_major(&form.inverse)),
                    loadings: rounded(column_major(&form.loadings)),
                    mean,
                });
            }
            let factor = product(component.latent_factor.as_ref(), form.inverse.transpose());
            let one = (std::f64::consts::TAU * std::f64::consts::E).ln();
            packed.posteriors.push(ComponentPosterior {
                mean: component.latent_mean.clone(),
                factor,
                entropy: 0.5 * latents as f64 * one + form.half_log_det_posterior,
            });
        }
        packed
    }
}

impl<T: Scalar> Packed<T> {
    fn workspace_key(&self) -> WorkspaceKey {
        WorkspaceKey {
            stride: self.stride,
            shape: self.shape,
            latents: self.latents,
            residuals: !self.residual.is_empty(),
        }
    }

    fn workspace(&self) -> Workspace<T> {
        let key = self.workspace_key();
        let StatsShape { components, centre: dim, .. } = key.shape;
        let columns = |n: usize| Aligned::zeros(n * key.stride);
        Workspace {
            key,
            points: columns(dim),
            local: columns(if key.residuals { dim + key.latents } else { 0 }),
            projections: columns(components * key.latents),
            weighted: Aligned::default(),
            logits: columns(components),
            mass: vec![0.0; components],
            log_density: vec![0.0; self.points],
            ones: vec![T::ONE; self.points],
            first: Vec::new(),
            second: Vec::new(),
            cross: Vec::new(),
            latent_second: Vec::new(),
            latent: Vec::new(),
            pending: 0,
        }
    }

    fn tiles<'b>(&self, block: Block<'b, T>) -> impl Iterator<Item = Block<'b, T>> + use<'b, T> {
        let points = self.points;
        (0..block.len())
            .step_by(points)
            .map(move |start| block.slice(start, points.min(block.len() - start)))
    }

    /// Loads a tile and projects it for all components.
    fn project(&self, points: MatRef<'_, T>, workspace: &mut Workspace<T>) {
        let (n, dim, stride) = (points.nrows(), points.ncols(), self.stride);
        statistics::load(self.simd, points, &self.centre, &mut workspace.points, stride);
        for (column, &shift) in workspace.projections.chunks_mut(stride).zip(&self.shifts) {
            column[..n].fill(shift);
        }
        matmul(
            columns_mut(&mut workspace.projections, n, self.shifts.len(), stride),
            Accum::Add,
            columns(&workspace.points, n, dim, stride),
            MatRef::from_column_major_slice(&self.projections, dim, self.shifts.len()),
            T::ONE,
            Par::Seq,
        );
    }

    /// Fills the logits of a projected tile.
    fn logits(&self, points: MatRef<'_, T>, workspace: &mut Workspace<T>) {
        let (n_points, dim, stride, latents) =
            (points.nrows(), points.ncols(), self.stride, self.latents);
        factors::logits(
            self.simd,
            Tile { values: &workspace.points, dim, n_points, stride },
            &self.means,
            &self.scales,
            &self.bias,
            &workspace.projections,
            latents,
            &mut workspace.logits,
        );
        for form in &self.residual {
            let c = form.component;
            statistics::load(self.simd, points, &form.mean, &mut workspace.local, stride);
            let (local, means) = workspace.local.split_at_mut(dim * stride);
            matmul(
                columns_mut(means, n_points, latents, stride),
                Accum::Replace,
                columns(&workspace.projections[c * latents * stride..], n_points, latents, stride),
                MatRef::from_column_major_slice(&form.to_latents, latents, latents),
                T::ONE,
                Par::Seq,
            );
            matmul(
                columns_mut(local, n_points, dim, stride),
                Accum::Add,
                columns(means, n_points, latents, stride),
                MatRef::from_column_major_slice(&form.loadings, dim, latents).transpose(),
                -T::ONE,
                Par::Seq,
            );
            factors::logits(
                self.simd,
                Tile { values: &workspace.local, dim: dim + latents, n_points, stride },
                &form.offset,
                &form.scales,
                &self.bias[c..=c],
                &[],
                0,
                &mut workspace.logits[c * stride..][..stride],
            );
        }
    }

    /// Fills log-densities and responsibilities of a tile; returns the sum of their entropies.
    fn score(&self, tile: Block<'_, T>, weighted: bool, workspace: &mut Workspace<T>) -> f64 {
        self.project(tile.points, workspace);
        self.logits(tile.points, workspace);
        workspace.mass.fill(0.0);
        softmax(
            self.simd,
            &mut workspace.logits,
            self.stride,
            tile.len(),
            if weighted { tile.weights } else { None },
            &mut workspace.mass,
            Some(&mut workspace.log_density[..tile.len()]),
        )
        .posterior_entropy
    }

    /// Turns a tile into weighted responsibilities in `workspace.logits`. Adds all statistics but the sums.
    fn posteriors(&self, tile: Block<'_, T>, stats: &mut SuffStats, workspace: &mut Workspace<T>) {
        let n = tile.len();
        self.project(tile.points, workspace);
        self.logits(tile.points, workspace);
        workspace.mass.fill(0.0);
        let (logits, mass) = (&mut workspace.logits, &mut workspace.mass);
        let totals = softmax(self.simd, logits, self.stride, n, tile.weights, mass, None);
        let positive = |weights: &[f64]| weights.iter().filter(|&&w| w > 0.0).count();
        *stats.total_weight_mut() += tile.weights.map_or(n as f64, |weights| weights.iter().sum());
        *stats.n_points_mut() += tile.weights.map_or(n, positive) as f64;
        *stats.log_evidence_mut() += totals.log_evidence;
        *stats.posterior_entropy_mut() += totals.posterior_entropy;
        stats.mass_mut().iter_mut().zip(mass).for_each(|(sum, mass)| *sum += *mass);
    }

    fn weight_projections(&self, n_points: usize, workspace: &mut Workspace<T>) {
        workspace.weighted.resize(workspace.projections.len());
        factors::weight_projections(
            self.simd,
            n_points,
            self.stride,
            &workspace.projections,
            self.latents,
            &workspace.logits,
            &mut workspace.weighted,
        );
    }

    /// Adds the sums of a projected tile, `workspace.logits` being its responsibilities.
    fn accumulate(&self, n_points: usize, stats: &mut SuffStats, workspace: &mut Workspace<T>) {
        let StatsShape { components, centre: dim, .. } = self.shape;
        let (latents, stride) = (self.latents, self.stride);
        // Sized here, since not every workspace sums.
        workspace.first.resize(components * dim, T::ZERO);
        workspace.second.resize(components * dim, T::ZERO);
        workspace.cross.resize(components * dim * latents, T::ZERO);
        workspace.latent_second.resize(components * latents * latents, T::ZERO);
        workspace.latent.resize(components * latents, T::ZERO);
        self.weight_projections(n_points, workspace);
        let weighted = columns(&workspace.weighted, n_points, components * latents, stride);
        matmul(
            MatMut::from_column_major_slice_mut(&mut workspace.cross, dim, components * latents),
            Accum::Add,
            columns(&workspace.points, n_points, dim, stride).transpose(),
            weighted,
            T::ONE,
            Par::Seq,
        );
        matmul(
            MatMut::from_column_major_slice_mut(&mut workspace.latent, components * latents, 1),
            Accum::Add,
            weighted.transpose(),
            MatRef::from_column_major_slice(&workspace.ones[..n_points], n_points, 1),
            T::ONE,
            Par::Seq,
        );
        let projections = columns(&workspace.projections, n_points, components * latents, stride);
        for (c, sums) in workspace.latent_second.chunks_mut(latents * latents).enumerate() {
            matmul(
                MatMut::from_column_major_slice_mut(sums, latents, latents),
                Accum::Add,
                projections.subcols(c * latents, latents).transpose(),
                weighted.subcols(c * latents, latents),
                T::ONE,
                Par::Seq,
            );
        }
        factors::moments(
            self.simd,
            Tile { values: &workspace.points, dim, n_points, stride },
            &self.centres,
            &workspace.logits,
            &mut workspace.first,
            &mut workspace.second,
        );
        let layout = Layout::new(dim, latents);
        for c in 0..components {
            let sums = stats.sums_mut(c);
            add(&mut sums[layout.first.clone()], &workspace.first[c * dim..][..dim]);
            add(&mut sums[layout.second.clone()], &workspace.second[c * dim..][..dim]);
        }
        workspace.pending += n_points;
        if size_of::<T>() == 4 && workspace.pending >= F32_RUN {
            self.flush(stats, workspace);
        }
    }

    /// Moves the sums of products into the statistics, where they stand for whitened latents until these are complete.
    fn flush(&self, stats: &mut SuffStats, workspace: &mut Workspace<T>) {
        if workspace.pending == 0 {
            return;
        }
        workspace.pending = 0;
        let (dim, latents) = (self.shape.centre, self.latents);
        let layout = Layout::new(dim, latents);
        for (part, sums) in [
            (layout.cross, &mut workspace.cross),
            (layout.latent_second, &mut workspace.latent_second),
            (layout.latent, &mut workspace.latent),
        ] {
            for (c, sums) in sums.chunks(part.len()).enumerate() {
                add(&mut stats.sums_mut(c)[part.clone()], sums);
            }
            sums.fill(T::ZERO);
        }
    }

    /// From sums about the centre of the tiles and in whitened latents, `u`, to the statistics of `z` about their own centre.
    fn complete(&self, stats: &mut SuffStats) {
        let (dim, latents) = (self.shape.centre, self.latents);
        let layout = Layout::new(dim, latents);
        for (c, ComponentPosterior { mean, factor, entropy }) in self.posteriors.iter().enumerate()
        {
            let mass = stats.mass()[c];
            *stats.posterior_entropy_mut() += mass * entropy;
            let sums = stats.sums_mut(c);
            let first = sums[layout.first.clone()].to_vec();
            let white = sums[layout.latent.clone()].to_vec();
            // Σ K u, then Σ (x - k) (a + K u)' and Σ (a + K u) (a + K u)' + mass K K'.
            let linear = product(factor.as_ref(), columns(&white, latents, 1, latents));
            let mut cross = columns(&sums[layout.cross.clone()], dim, latents, dim).to_owned();
            for h in 0..latents {
                for d in 0..dim {
                    cross[(d, h)] -= self.centres[c * dim + d].to_f64() * white[h];
                }
            }
            let mut cross = product(cross.as_ref(), factor.transpose());
            let mut second =
                columns(&sums[layout.latent_second.clone()], latents, latents, latents).to_owned();
            for h in 0..latents {
                second[(h, h)] += mass;
                for d in 0..dim {
                    cross[(d, h)] += first[d] * mean[h];
                }
            }
            let second = product(factor.as_ref(), second.as_ref());
            let mut second = product(second.as_ref(), factor.transpose());
            for g in 0..latents {
                for h in 0..latents {
                    second[(g, h)] += mass * mean[g] * mean[h]
                        + mean[g] * linear[(h, 0)]
                        + linear[(g, 0)] * mean[h];
                }
            }
            for h in 0..latents {
                sums[layout.latent.start + h] = mass * mean[h] + linear[(h, 0)];
            }
            let column_major: Vec<f64> = column_major(&cross).collect();
            sums[layout.cross.clone()].copy_from_slice(&column_major);
            sums[layout.latent_second.clone()].copy_from_slice(&row_major(second.as_ref()));
        }
    }
}

fn add<T: Scalar>(totals: &mut [f64], sums: &[T]) {
    totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum.to_f64());
}

impl<T: Scalar> EStep<T> for MixtureOfFactorAnalyzers {
    fn pack(&self, simd: Simd, n_points: u64, _: Constants) -> Packed<T> {
        self.pack_for(simd, cancellation_tolerance::<T>(self.dim(), n_points))
    }

    fn new_stats(&self, packed: &Packed<T>) -> SuffStats {
        let centre = packed.centre.iter().cycle();
        let centres = packed.centres.iter().zip(centre).map(|(k, c)| k.to_f64() + c.to_f64());
        SuffStats::zeros(packed.shape, centres.collect())
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
            packed.accumulate(tile.len(), stats, workspace);
        }
    }

    fn flush(&self, packed: &Packed<T>, stats: &mut SuffStats, workspace: &mut Workspace<T>) {
        packed.flush(stats, workspace);
    }

    fn complete(&self, packed: &Packed<T>, stats: &mut SuffStats, _: Option<&DataConstants>) {
        packed.complete(stats);
    }

    fn halves(&self) -> Option<&dyn HalvedEStep<T, Packed<T>, Workspace<T>>> {
        Some(self)
    }
}

impl<T: Scalar> HalvedEStep<T, Packed<T>, Workspace<T>> for MixtureOfFactorAnalyzers {
    fn posteriors(
        &self,
        packed: &Packed<T>,
        block: Block<'_, T>,
        stats: &mut SuffStats,
        workspace: &mut Workspace<T>,
        responsibilities: &mut [T],
    ) {
        for tile in packed.tiles(block) {
            packed.posteriors(tile, stats, workspace);
            let start = (tile.first - block.first) as usize;
            let columns = responsibilities.chunks_mut(block.len());
            for (out, column) in columns.zip(workspace.logits.chunks(packed.stride)) {
                out[start..start + tile.len()].copy_from_slice(&column[..tile.len()]);
            }
        }
    }

    fn slice(&self, packed: &Packed<T>, columns: Range<usize>) -> Packed<T> {
        let (dim, latents) = (packed.shape.centre, packed.latents);
        let of =
            |values: &[T], each: usize| values[columns.start * each..columns.end * each].to_vec();
        Packed {
            shape: StatsShape { components: columns.len(), ..packed.shape },
            centre: packed.centre.clone(),
            projections: of(&packed.projections, dim * latents),
            shifts: of(&packed.shifts, latents),
            means: Vec::new(),
            scales: Vec::new(),
            bias: Vec::new(),
            centres: of(&packed.centres, dim),
            residual: Vec::new(),
            posteriors: Vec::new(),
            decoder: Vec::new(),
            ..*packed
        }
    }

    /// Projects the points again: to keep the projections of all components would take H times the memory of the
    /// responsibilities.
    fn accumulate(
        &self,
        slice: &Packed<T>,
        block: Block<'_, T>,
        responsibilities: &[T],
        stats: &mut SuffStats,
        workspace: &mut Workspace<T>,
    ) {
        for tile in slice.tiles(block) {
            let start = (tile.first - block.first) as usize;
            let columns = responsibilities.chunks(block.len());
            for (column, out) in columns.zip(workspace.logits.chunks_mut(slice.stride)) {
                out[..tile.len()].copy_from_slice(&column[start..start + tile.len()]);
            }
            slice.project(tile.points, workspace);
            slice.accumulate(tile.len(), stats, workspace);
        }
    }
}

impl<T: Scalar> Density<T> for MixtureOfFactorAnalyzers {
    type Packed = Packed<T>;
    type Workspace = Workspace<T>;

    fn n_components(&self) -> usize {
        self.n_components()
    }

    fn pack_for_scores(&self, simd: Simd) -> Packed<T> {
        let mut packed =
            self.pack_for(simd, cancellation_tolerance::<T>(self.dim(), SCORED_POINTS));
        let parts = self.components.iter().zip(&packed.posteriors);
        let decoder = parts.flat_map(|(component, z)| {
            let map = product(component.loadings.as_ref(), z.factor.as_ref());
            column_major(&map).map(T::from_f64).collect::<Vec<_>>()
        });
        packed.decoder = decoder.collect();
        packed
    }

    fn workspace(&self, packed: &Packed<T>, old: Option<Workspace<T>>) -> Workspace<T> {
        match old {
            Some(old) if old.key == packed.workspace_key() => old,
            _ => packed.workspace(),
        }
    }

    fn score(
        &self,
        packed: &Packed<T>,
        block: Block<'_, T>,
        weighted: bool,
        workspace: &mut Workspace<T>,
        mut visit: impl FnMut(ScoredTile<'_, T>),
    ) {
        for tile in packed.tiles(block) {
            let posterior_entropy = packed.score(tile, weighted, workspace);
            visit(ScoredTile {
                first: tile.first,
                weights: tile.weights,
                log_density: &workspace.log_density[..tile.len()],
                responsibilities: &workspace.logits,
                stride: packed.stride,
                posterior_entropy,
            });
        }
    }
}

impl<T: Scalar> LatentSpace<T> for MixtureOfFactorAnalyzers {
    fn n_latents(&self) -> usize {
        self.n_latents()
    }

    /// Those given the most probable component of the point: each component has latents of its own.
    fn transform(&self, packed: &Packed<T>, block: Block<'_, T>, latents: &mut [f64]) {
        let mut workspace = packed.workspace();
        let (n_latents, stride) = (packed.latents, packed.stride);
        for tile in packed.tiles(block) {
            packed.score(tile, false, &mut workspace);
            let start = (tile.first - block.first) as usize * n_latents;
            let out = latents[start..][..tile.len() * n_latents].chunks_mut(n_latents);
            for (i, out) in out.enumerate() {
                let columns = workspace.logits.chunks(stride).map(|column| column[i]);
                let best = columns
                    .enumerate()
                    .fold((0, T::ZERO), |best, (c, r)| if r > best.1 { (c, r) } else { best });
                let ComponentPosterior { mean, factor, .. } = &packed.posteriors[best.0];
                for (g, (out, mean)) in out.iter_mut().zip(mean).enumerate() {
                    let white = |h: usize| {
                        workspace.projections[(best.0 * n_latents + h) * stride + i].to_f64()
                    };
                    *out = mean + (0..n_latents).map(|h| factor[(g, h)] * white(h)).sum::<f64>();
                }
            }
        }
    }

    /// `Σ_c p(c | x) (μ_c + W_c E[z | x, c])`: the mean of the point without its noise.
    fn reconstruct(&self, packed: &Packed<T>, block: Block<'_, T>, points: &mut [f64]) {
        let mut workspace = packed.workspace();
        let (dim, stride) = (packed.shape.centre, packed.stride);
        let mut means = vec![T::ZERO; dim * stride];
        for tile in packed.tiles(block) {
            let n = tile.len();
            packed.score(tile, false, &mut workspace);
            packed.weight_projections(n, &mut workspace);
            for (parts, map, accumulate) in [
                (&workspace.logits, &packed.means, Accum::Replace),
                (&workspace.weighted, &packed.decoder, Accum::Add),
            ] {
                let n_parts = map.len() / dim;
                matmul(
                    columns_mut(&mut means, n, dim, stride),
                    accumulate,
                    columns(parts, n, n_parts, stride),
                    columns(map, dim, n_parts, dim).transpose(),
                    T::ONE,
                    Par::Seq,
                );
            }
            let start = (tile.first - block.first) as usize * dim;
            for (i, point) in points[start..][..n * dim].chunks_mut(dim).enumerate() {
                for (d, value) in point.iter_mut().enumerate() {
                    *value = means[d * stride + i].to_f64() + packed.centre[d].to_f64();
                }
            }
        }
    }
}
