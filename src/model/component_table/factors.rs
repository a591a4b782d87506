//! Low-rank parts of logits, `½ |A_c' (x - μ_c)|²`: what components with latents have besides a row of natural parameters.
//!
//! With `Σ_c = Ψ_c + W_c W_c'` the quadratic form is `(x - μ)' Ψ⁻¹ (x - μ) - |A' (x - μ)|²` (Woodbury). The first part is that of a
//! diagonal Gaussian, so it is a row. The second takes H D numbers a component.

use super::{ComponentTable, GroupWorkspace, TILE};
use crate::aligned::Aligned;
use crate::kernels::candidate_factors::{self, ProjectedTile, ProjectionTable};
use crate::scalar::Scalar;

/// Projections of all components, each about its own centre.
///
/// # Shapes
/// `projections: C × H × D`, `offsets: C × H`; both row-major, and empty where logits have no such part.
#[derive(Debug)]
pub struct Factors<T> {
    /// Number of latents H; 0 where logits have no such part.
    pub latents: usize,
    /// `A_c'`, one row a latent.
    pub projections: Vec<T>,
    /// What a projection is at the centre.
    pub offsets: Vec<T>,
}

impl<T> Default for Factors<T> {
    fn default() -> Self {
        Self { latents: 0, projections: Vec::new(), offsets: Vec::new() }
    }
}

impl<T> Factors<T> {
    /// Returns the number of sums of a component.
    pub(super) fn n_sums(&self, dim: usize) -> usize {
        candidate_factors::n_sums(dim, self.latents)
    }

    /// Returns how many numbers describe a component as a point: its noise and its loadings.
    pub(super) fn mean_len(&self, dim: usize) -> usize {
        if self.latents > 0 { dim * (1 + self.latents) } else { 0 }
    }
}

/// Scratch memory of the points of a group.
#[derive(Debug)]
pub(super) struct FactorWorkspace<T> {
    panel: Aligned<T>,
    bias: Aligned<T>,
    projections: Aligned<T>,
    /// Sums of the candidates since the last flush.
    sums: Vec<T>,
}

impl<T: Scalar> Default for FactorWorkspace<T> {
    fn default() -> Self {
        let [panel, bias, projections] = std::array::from_fn(|_| Aligned::default());
        Self { panel, bias, projections, sums: Vec::new() }
    }
}

impl<T: Scalar> FactorWorkspace<T> {
    /// Adds the sums of a candidate to those of its component.
    pub fn flush(&mut self, factors: &Factors<T>, place: u32, shift: &[f64], to: &mut [f64]) {
        if factors.latents > 0 {
            let from = &mut self.sums[place as usize * to.len()..][..to.len()];
            candidate_factors::add_moved(from, shift, factors.latents, to);
            from.fill(T::ZERO);
        }
    }
}

impl<T: Scalar> ComponentTable<T> {
    fn projections(&self) -> ProjectionTable<'_, T> {
        let Factors { latents, projections, offsets } = &self.factors;
        let (centres, latents, dim) = (&self.centres, *latents, self.dim);
        ProjectionTable { projections, offsets, centres, latents, dim }
    }

    /// Puts the projections of the candidates from `begin` on into their panel.
    pub(super) fn pack_factors(&self, begin: usize, workspace: &mut GroupWorkspace<T>) {
        let columns = self.factors.latents * workspace.bias.len();
        if columns == 0 {
            return;
        }
        let GroupWorkspace { leader, candidates, factors, .. } = workspace;
        // Another width has other places for all columns.
        let begin = if factors.bias.len() == columns { begin } else { 0 };
        factors.bias.resize(columns);
        factors.panel.resize(columns * self.dim);
        factors.projections.resize(columns * TILE);
        let panel = [&mut factors.panel[..], &mut factors.bias];
        self.projections().pack(self.simd, candidates, self.centre(*leader), panel, begin);
    }

    /// Adds the low-rank parts of a tile, whose statistics are in the workspace, to its logits.
    pub(super) fn add_squares(&self, n: usize, workspace: &mut GroupWorkspace<T>) {
        let (latents, dim, len) = (self.factors.latents, self.dim, self.rows.len());
        if latents == 0 {
            return;
        }
        let GroupWorkspace { points, statistics, logits, bias, factors, .. } = workspace;
        for (point, row) in points.chunks_exact_mut(dim).zip(statistics.chunks_exact(len)).take(n) {
            point.copy_from_slice(&row[..dim]);
        }
        let width = bias.len();
        let projections = &mut factors.projections[..n * latents * width];
        let (panel, of_panel) = (&factors.panel, &factors.bias);
        crate::kernels::candidates::logits(
            self.simd,
            &points[..n * dim],
            dim,
            panel,
            of_panel,
            latents * width,
            projections,
        );
        let logits = &mut logits[..n * width];
        candidate_factors::add_half_squares(self.simd, projections, latents, width, logits);
    }

    /// Adds the sums of a tile, whose points, sets and responsibilities are in the workspace.
    pub(super) fn accumulate_factors(
        &self,
        n: usize,
        states: usize,
        workspace: &mut GroupWorkspace<T>,
    ) {
        let (latents, dim) = (self.factors.latents, self.dim);
        if latents == 0 {
            return;
        }
        let GroupWorkspace { candidates, points, bias, chosen, values, factors, .. } = workspace;
        factors.sums.resize(candidates.len() * self.factors.n_sums(dim), T::ZERO);
        let width = bias.len();
        let projections = &factors.projections[..n * latents * width];
        let tile = ProjectedTile { points: &points[..n * dim], projections, dim, latents, width };
        let (places, values) = (&chosen[..n * states], &values[..n * states]);
        candidate_factors::accumulate(self.simd, tile, states, places, values, &mut factors.sums);
    }

    /// Adds to logits the expected low-rank parts for the points of a component.
    pub(super) fn add_expected_squares(
        &self,
        of: u32,
        row: &[T],
        of_factors: &[T],
        candidates: &[u32],
        out: &mut [f64],
    ) {
        if self.factors.latents > 0 {
            let (noise, axes) = of_factors.split_at(self.dim);
            let moments = [&row[..self.dim], noise, axes];
            let centre = self.centre(of);
            self.projections().add_expected_squares(self.simd, candidates, centre, moments, out);
        }
    }

    /// Adds the same to the logits of a tile of components.
    pub(super) fn add_squares_of_means(
        &self,
        means: &[T],
        components: &[u32],
        workspace: &mut GroupWorkspace<T>,
    ) {
        if self.factors.latents == 0 {
            return;
        }
        let (width, len) = (workspace.bias.len(), self.mean_len());
        let mut squares = vec![0.0; workspace.candidates.len()];
        for (&c, logits) in components.iter().zip(workspace.logits.chunks_exact_mut(width)) {
            squares.fill(0.0);
            let (row, of_factors) = means[c as usize * len..][..len].split_at(self.rows.len());
            self.add_expected_squares(c, row, of_factors, &workspace.candidates, &mut squares);
            logits.iter_mut().zip(&squares).for_each(|(to, &square)| *to += T::from_f64(square));
        }
    }
}
