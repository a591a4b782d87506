//! E-steps of a mixture of factor analysers on blocks of points.

mod halves;
mod pack;
mod score;

use super::MixtureOfFactorAnalyzers;
use super::component::{Component, Factorized};
use super::m_step::Layout;
use crate::aligned::Aligned;
use crate::block::Block;
use crate::error::{Error, Result};
use crate::kernels::dispatch::Simd;
use crate::kernels::factors;
use crate::kernels::softmax::softmax;
use crate::kernels::statistics::{self, Tile};
use crate::linalg::{product, row_major};
use crate::model::mixture::cancellation_tolerance;
use crate::model::{Constants, EStep, GenerativeModel, HalvedEStep, Posterior};
use crate::scalar::Scalar;
use crate::stats::{DataConstants, StatsShape, SuffStats};
use crate::work::Workers;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};

/// Bytes of projections of a tile: half a level-2 cache, as tiles of mixtures have it (kernels/blocking.rs).
const PROJECTION_BYTES: usize = 1 << 19;

/// Points of a tile at least and at most. Fewer make the products inefficient, more gain nothing.
const TILE_POINTS: [usize; 2] = [64, 256];

/// Points whose `f32` sums may be added up before they go into `f64`.
const F32_RUN: usize = 1024;

/// Single points are scored as accurately as the mean over this many is swept: to 1e-5 nats per dimension in `f32`.
const SCORED_POINTS: u64 = 5_000;

/// Parameters of a mixture of factor analysers in the layout of the kernels.
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
    /// The mean less its rounded value, then H zeros; and the scales of the noise, then H ones.
    offset: Vec<T>,
    scales: Vec<T>,
    /// `L⁻¹`, which takes `u'` to `E[z]'`, and the loadings, D × H; both column-major.
    to_latents: Vec<T>,
    loadings: Vec<T>,
}

/// `z | x, c ~ N(a + K u, K K')`: what completes statistics in `f64`.
#[derive(Clone, Debug)]
pub(super) struct ComponentPosterior {
    mean: Vec<f64>,
    /// `K = R L'⁻¹`, H × H.
    factor: Mat<f64>,
    /// `ln det(2πe K K')`, halved.
    pub(super) entropy: f64,
}

impl ComponentPosterior {
    pub(super) fn new(component: &Component, form: &Factorized) -> Self {
        let one = (std::f64::consts::TAU * std::f64::consts::E).ln();
        Self {
            mean: component.latent_mean.clone(),
            factor: product(component.latent_factor.as_ref(), form.inverse.transpose()),
            entropy: 0.5 * component.latents() as f64 * one + form.half_log_det_posterior,
        }
    }

    /// From sums of a component in whitened latents, `u`, to the statistics of `z`.
    pub(super) fn complete(&self, mass: f64, sums: &mut [f64], layout: &Layout) {
        let Self { mean, factor, .. } = self;
        let (dim, latents) = (layout.first.len(), layout.latent.len());
        let first = sums[layout.first.clone()].to_vec();
        let white = sums[layout.latent.clone()].to_vec();
        // Σ K u, then Σ (x - k) (a + K u)' and Σ (a + K u) (a + K u)' + mass K K'.
        let linear = product(factor.as_ref(), columns(&white, latents, 1, latents));
        let cross = columns(&sums[layout.cross.clone()], dim, latents, dim);
        let mut cross = product(cross, factor.transpose());
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
                second[(g, h)] +=
                    mass * mean[g] * mean[h] + mean[g] * linear[(h, 0)] + linear[(g, 0)] * mean[h];
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

/// Scratch memory of one thread.
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

pub(super) fn column_major(matrix: &Mat<f64>) -> impl Iterator<Item = f64> + '_ {
    matrix.col_iter().flat_map(|column| column.iter().copied())
}

/// Views a slice as a column-major matrix whose columns stand `stride` apart.
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
        let dim = self.shape.centre;
        let layout = Layout::new(dim, self.latents);
        for (c, posterior) in self.posteriors.iter().enumerate() {
            let mass = stats.mass()[c];
            *stats.posterior_entropy_mut() += mass * posterior.entropy;
            let sums = stats.sums_mut(c);
            for h in 0..self.latents {
                let white = sums[layout.latent.start + h];
                for d in 0..dim {
                    sums[layout.cross.start + h * dim + d] -=
                        self.centres[c * dim + d].to_f64() * white;
                }
            }
            posterior.complete(mass, sums, &layout);
        }
    }
}

fn add<T: Scalar>(totals: &mut [f64], sums: &[T]) {
    totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum.to_f64());
}

impl<T: Scalar> EStep<T> for MixtureOfFactorAnalyzers {
    fn check_e_step(&self) -> Result<()> {
        match self.posterior {
            Posterior::Exact => Ok(()),
            Posterior::Hard => Err(Error::Config(format!(
                "{}: a label for each point is a truncated posterior of one state",
                self.noise.model_name()
            ))),
            Posterior::Truncated(_) => Err(Error::Config(
                "truncated posteriors depend on the sets of the points: fit FactorAnalyzersSpec::from_model(model), or take exact posteriors".to_owned()
            )),
        }
    }

    fn pack(&self, simd: Simd, n_points: u64, _: Constants, _: &dyn Workers) -> Packed<T> {
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
