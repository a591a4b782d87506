//! Low-rank parts of logits under a few candidate components: `½ |u|²` with `u = A_c' (x - μ_c)`, and sums with these projections.
//!
//! The points of a tile share their candidates, as in [`candidates`](super::candidates). Projections are a product of points and a panel
//! whose columns are the H latents of all candidates: latent after latent, one column a candidate.

use super::candidates::padded_width;
use super::dispatch::{Kernel, MulAdd, Simd};
use super::rows::dot;
use crate::scalar::Scalar;

/// Components whose projections are put into a panel together.
const COLUMNS: usize = 8;

/// The projections of all components, each about its own centre; row-major.
///
/// # Shapes
/// `projections: C × H × D`, `offsets: C × H`, `centres: C × D`.
#[derive(Clone, Copy, Debug)]
pub struct ProjectionTable<'a, T> {
    /// `A_c'`, one row a latent.
    pub projections: &'a [T],
    /// What a projection is at the centre.
    pub offsets: &'a [T],
    /// One row a component.
    pub centres: &'a [T],
    /// Number of latents H.
    pub latents: usize,
    /// Number of dimensions D.
    pub dim: usize,
}

impl<T: Scalar> ProjectionTable<'_, T> {
    /// Puts the projections of points about `centre` under some components into a panel. The columns before `begin` stay.
    ///
    /// # Shapes
    /// `panel: D × H G`, `panel_bias: H G`, with G from [`padded_width`].
    ///
    /// # Panics
    /// If shapes do not agree.
    pub fn pack(
        self,
        simd: Simd,
        components: &[u32],
        centre: &[T],
        [panel, panel_bias]: [&mut [T]; 2],
        begin: usize,
    ) {
        let width = panel_bias.len() / self.latents;
        assert_eq!(width, padded_width::<T>(width), "whole vectors");
        assert_eq!(panel.len(), self.dim * panel_bias.len(), "one row a dimension");
        assert!(components.len() <= width, "one column a component");
        simd.run(Pack { table: self, components, centre, panel, panel_bias, begin });
    }

    /// Adds to logits, for each component, the expectation of `½ |u|²` over a distribution with a mean, given about `centre`, and the
    /// covariance `diag(ψ) + Σ_j w_j w_j'`.
    ///
    /// # Shapes
    /// `centre` and `mean`: D; `noise: D`; `axes`: J × D; `out`: one value a component.
    pub fn add_expected_squares(
        self,
        simd: Simd,
        components: &[u32],
        centre: &[T],
        [mean, noise, axes]: [&[T]; 3],
        out: &mut [f64],
    ) {
        assert_eq!(components.len(), out.len(), "one logit a component");
        simd.run(ExpectedSquares { table: self, components, centre, mean, noise, axes, out });
    }

    #[inline(always)]
    fn of(&self, component: u32) -> (&[T], &[T], &[T]) {
        let (c, len) = (component as usize, self.latents * self.dim);
        (
            &self.projections[c * len..][..len],
            &self.offsets[c * self.latents..][..self.latents],
            &self.centres[c * self.dim..][..self.dim],
        )
    }
}

struct Pack<'a, T> {
    table: ProjectionTable<'a, T>,
    components: &'a [u32],
    centre: &'a [T],
    panel: &'a mut [T],
    panel_bias: &'a mut [T],
    begin: usize,
}

impl<T: Scalar> Kernel for Pack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let Self { table, components, centre, panel, panel_bias, begin } = self;
        let (dim, columns) = (table.dim, panel_bias.len());
        let width = columns / table.latents;
        let mut shift = vec![T::ZERO; dim];
        for first in (begin..components.len()).step_by(COLUMNS) {
            let group = &components[first..components.len().min(first + COLUMNS)];
            for (k, &component) in group.iter().enumerate() {
                let (projections, offsets, own) = table.of(component);
                for ((shift, &to), &own) in shift.iter_mut().zip(centre).zip(own) {
                    *shift = to - own;
                }
                for (h, row) in projections.chunks_exact(dim).enumerate() {
                    panel_bias[h * width + first + k] = offsets[h] + dot::<T, M>(row, &shift);
                }
            }
            for h in 0..table.latents {
                let rows: [&[T]; COLUMNS] = std::array::from_fn(|k| {
                    &table.of(group[k.min(group.len() - 1)]).0[h * dim..][..dim]
                });
                for d in 0..dim {
                    let to = &mut panel[d * columns + h * width + first..][..group.len()];
                    for (k, to) in to.iter_mut().enumerate() {
                        *to = rows[k][d];
                    }
                }
            }
        }
        for h in 0..table.latents {
            let rest = h * width + components.len()..(h + 1) * width;
            panel_bias[rest.clone()].fill(T::ZERO);
            panel.chunks_exact_mut(columns).for_each(|row| row[rest.clone()].fill(T::ZERO));
        }
    }
}

struct ExpectedSquares<'a, T> {
    table: ProjectionTable<'a, T>,
    components: &'a [u32],
    centre: &'a [T],
    mean: &'a [T],
    noise: &'a [T],
    axes: &'a [T],
    out: &'a mut [f64],
}

impl<T: Scalar> Kernel for ExpectedSquares<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let Self { table, components, centre, mean, noise, axes, out } = self;
        let dim = table.dim;
        let (mut shift, mut scaled) = (vec![T::ZERO; dim], vec![T::ZERO; dim]);
        for (&component, out) in components.iter().zip(out) {
            let (projections, offsets, own) = table.of(component);
            for (((shift, &mean), &centre), &own) in shift.iter_mut().zip(mean).zip(centre).zip(own)
            {
                *shift = mean + (centre - own);
            }
            let mut sum = T::ZERO;
            for (row, &offset) in projections.chunks_exact(dim).zip(offsets) {
                let u = offset + dot::<T, M>(row, &shift);
                for ((scaled, &a), &psi) in scaled.iter_mut().zip(row).zip(noise) {
                    *scaled = a * psi;
                }
                sum += M::mul_add(u, u, dot::<T, M>(row, &scaled));
                for axis in axes.chunks_exact(dim) {
                    let along = dot::<T, M>(row, axis);
                    sum = M::mul_add(along, along, sum);
                }
            }
            *out += 0.5 * sum.to_f64();
        }
    }
}

/// Adds `½ Σ_h u_h²` to logits.
///
/// # Shapes
/// `projections: B × H G`, `logits: B × G`.
///
/// # Panics
/// If shapes do not agree.
pub fn add_half_squares<T: Scalar>(
    simd: Simd,
    projections: &[T],
    latents: usize,
    width: usize,
    logits: &mut [T],
) {
    assert_eq!(projections.len(), logits.len() * latents, "one projection a latent");
    simd.run(HalfSquares { projections, latents, width, logits });
}

struct HalfSquares<'a, T> {
    projections: &'a [T],
    latents: usize,
    width: usize,
    logits: &'a mut [T],
}

impl<T: Scalar> Kernel for HalfSquares<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let half = T::from_f64(0.5);
        let points = self.projections.chunks_exact(self.latents * self.width);
        for (projections, logits) in points.zip(self.logits.chunks_exact_mut(self.width)) {
            for column in projections.chunks_exact(self.width) {
                for (logit, &u) in logits.iter_mut().zip(column) {
                    *logit = M::mul_add(half * u, u, *logit);
                }
            }
        }
    }
}

/// Returns the number of sums of a component in [`accumulate`]: of `u`, `x u'` and `u u'`.
pub fn n_sums(dim: usize, latents: usize) -> usize {
    latents * (1 + dim + latents)
}

/// A tile of points with their projections under shared candidates.
#[derive(Clone, Copy, Debug)]
pub struct ProjectedTile<'a, T> {
    /// B × D.
    pub points: &'a [T],
    /// B × H G.
    pub projections: &'a [T],
    /// D.
    pub dim: usize,
    /// H.
    pub latents: usize,
    /// G.
    pub width: usize,
}

/// Adds `q u`, `q x u'` (one row of D a latent) and `q u u'` of points to the sums of the candidates in their sets.
///
/// # Shapes
/// `places` and `responsibilities`: B × S; `sums`: [`n_sums`] a candidate.
///
/// # Panics
/// If shapes do not agree.
pub fn accumulate<T: Scalar>(
    simd: Simd,
    tile: ProjectedTile<'_, T>,
    states: usize,
    places: &[u32],
    responsibilities: &[T],
    sums: &mut [T],
) {
    assert_eq!(tile.points.len() * states, places.len() * tile.dim, "one set a point");
    assert_eq!(places.len(), responsibilities.len(), "one responsibility a place");
    simd.run(Accumulate { tile, states, places, responsibilities, sums });
}

struct Accumulate<'a, T> {
    tile: ProjectedTile<'a, T>,
    states: usize,
    places: &'a [u32],
    responsibilities: &'a [T],
    sums: &'a mut [T],
}

impl<T: Scalar> Kernel for Accumulate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let ProjectedTile { points, projections, dim, latents, width } = self.tile;
        let len = n_sums(dim, latents);
        let mut u = vec![T::ZERO; latents];
        let sets = self.places.chunks_exact(self.states);
        let sets = sets.zip(self.responsibilities.chunks_exact(self.states));
        let tile = points.chunks_exact(dim).zip(projections.chunks_exact(latents * width));
        for ((point, projections), (places, weights)) in tile.zip(sets) {
            for (&place, &weight) in places.iter().zip(weights) {
                if !(weight > T::ZERO) {
                    continue;
                }
                for (h, u) in u.iter_mut().enumerate() {
                    *u = projections[h * width + place as usize];
                }
                let sums = &mut self.sums[place as usize * len..][..len];
                let (first, sums) = sums.split_at_mut(latents);
                let (cross, second) = sums.split_at_mut(latents * dim);
                for (h, &value) in u.iter().enumerate() {
                    let weighted = weight * value;
                    first[h] += weighted;
                    for (sum, &x) in cross[h * dim..][..dim].iter_mut().zip(point) {
                        *sum = M::mul_add(weighted, x, *sum);
                    }
                    for (sum, &other) in second[h * latents..][..latents].iter_mut().zip(&u) {
                        *sum = M::mul_add(weighted, other, *sum);
                    }
                }
            }
        }
    }
}

/// Adds the sums of a candidate to those about another centre, `shift = from - to`: projections stay, and points move.
///
/// # Shapes
/// `from` and `to`: [`n_sums`]; `shift: D`.
pub fn add_moved<T: Scalar>(from: &[T], shift: &[f64], latents: usize, to: &mut [f64]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from.to_f64();
    }
    let dim = shift.len();
    for h in 0..latents {
        let u = from[h].to_f64();
        let cross = &mut to[latents + h * dim..][..dim];
        cross.iter_mut().zip(shift).for_each(|(to, s)| *to += s * u);
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::{ABSENT, logits};
    use super::*;

    fn value(k: usize) -> f64 {
        (k * 31 % 19) as f64 / 9.0 - 1.0
    }

    /// Projections, squares, expectations and sums agree with their definitions, for any number of candidates.
    fn matches_the_definition<T: Scalar>(tolerance: f64) {
        for (dim, latents, n_candidates) in [(3, 1, 1), (17, 2, 11), (5, 3, 20)] {
            let (n, n_components) = (4, 30);
            let numbers = |len: usize, seed: usize| -> Vec<T> {
                (0..len).map(|k| T::from_f64(value(k * seed + seed))).collect()
            };
            let [projections, offsets, centres] = [
                numbers(n_components * latents * dim, 3),
                numbers(n_components * latents, 5),
                numbers(n_components * dim, 7),
            ];
            let table = ProjectionTable {
                projections: &projections,
                offsets: &offsets,
                centres: &centres,
                latents,
                dim,
            };
            let components: Vec<u32> =
                (0..n_candidates).map(|g| (g * 7 % n_components) as u32).collect();
            let (points, centre) = (numbers(n * dim, 11), numbers(dim, 13));
            let u = |point: &dyn Fn(usize) -> f64, c: usize, h: usize| {
                let along = |d: usize| {
                    let a = projections[(c * latents + h) * dim + d].to_f64();
                    a * (point(d) + centre[d].to_f64() - centres[c * dim + d].to_f64())
                };
                offsets[c * latents + h].to_f64() + (0..dim).map(along).sum::<f64>()
            };
            for (_, simd) in Simd::available() {
                let width = padded_width::<T>(n_candidates);
                let (mut panel, mut bias) =
                    (vec![T::ONE; dim * latents * width], vec![T::ONE; latents * width]);
                // In two steps, as old members of sets join those of a list.
                let first = &components[..n_candidates.div_ceil(2)];
                table.pack(simd, first, &centre, [&mut panel, &mut bias], 0);
                table.pack(simd, &components, &centre, [&mut panel, &mut bias], first.len());
                let mut found = vec![T::ZERO; n * latents * width];
                logits(simd, &points, dim, &panel, &bias, latents * width, &mut found);
                let mut squares = vec![T::ONE; n * width];
                add_half_squares(simd, &found, latents, width, &mut squares);
                let expected_u = |i: usize, g: usize, h: usize| {
                    u(&|d| points[i * dim + d].to_f64(), components[g] as usize, h)
                };
                for (i, squares) in squares.chunks(width).enumerate() {
                    for (g, square) in squares.iter().enumerate() {
                        let of = |h: usize| match g < n_candidates {
                            true => expected_u(i, g, h),
                            false => 0.0,
                        };
                        let expected = 1.0 + (0..latents).map(|h| 0.5 * of(h).powi(2)).sum::<f64>();
                        assert!((square.to_f64() - expected).abs() <= tolerance * expected);
                    }
                }

                let (noise, axes) = (vec![T::from_f64(0.25); dim], numbers(2 * dim, 17));
                let mut out = vec![1.0; n_candidates];
                let moments = [&points[..dim], &noise, &axes];
                table.add_expected_squares(simd, &components, &centre, moments, &mut out);
                for (g, out) in out.iter().enumerate() {
                    let c = components[g] as usize;
                    let mut expected = 1.0;
                    for h in 0..latents {
                        let a = |d: usize| projections[(c * latents + h) * dim + d].to_f64();
                        expected += 0.5 * expected_u(0, g, h).powi(2);
                        expected += 0.125 * (0..dim).map(|d| a(d).powi(2)).sum::<f64>();
                        for axis in axes.chunks(dim) {
                            let along = (0..dim).map(|d| a(d) * axis[d].to_f64()).sum::<f64>();
                            expected += 0.5 * along.powi(2);
                        }
                    }
                    assert!((out - expected).abs() <= tolerance * expected, "{out} {expected}");
                }

                let last = (n_candidates - 1) as u32;
                let places = [0, ABSENT, last, 0, last, ABSENT, 0, last];
                let weights = [1.0, 0.0, 0.25, 0.75, 1.0, 0.0, 0.5, 0.5].map(T::from_f64);
                let len = n_sums(dim, latents);
                let mut sums = vec![T::ZERO; n_candidates * len];
                let tile =
                    ProjectedTile { points: &points, projections: &found, dim, latents, width };
                accumulate(simd, tile, 2, &places, &weights, &mut sums);
                let (shift, mut moved) = (vec![0.5; dim], vec![0.0; len]);
                add_moved(&sums[..len], &shift, latents, &mut moved);
                let mut expected = vec![0.0; len];
                for (k, _) in places.iter().enumerate().filter(|it| *it.1 == 0) {
                    let (i, q) = (k / 2, weights[k].to_f64());
                    for h in 0..latents {
                        let u = expected_u(i, 0, h);
                        expected[h] += q * u;
                        for d in 0..dim {
                            let x = points[i * dim + d].to_f64() + shift[d];
                            expected[latents + h * dim + d] += q * x * u;
                        }
                        for other in 0..latents {
                            expected[latents * (1 + dim + h) + other] +=
                                q * u * expected_u(i, 0, other);
                        }
                    }
                }
                if n_candidates > 1 {
                    for (found, expected) in moved.iter().zip(&expected) {
                        assert!(
                            (found - expected).abs() <= 100.0 * tolerance,
                            "{found} {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn projections_match_their_definition_f32() {
        matches_the_definition::<f32>(1e-5);
    }

    #[test]
    fn projections_match_their_definition_f64() {
        matches_the_definition::<f64>(1e-13);
    }
}
