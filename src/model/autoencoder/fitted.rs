//! Scores, latents, reconstructions and samples of an autoencoder.
//!
//! The score of a point is its lower bound. A linear decoder computes it; for any other it is a mean over samples of the latents. With
//! K importance samples it is `ln 1/K Σ_k p(x, z_k) / q(z_k)`, a lower bound in expectation that rises with K to `ln p(x)` (Burda, Grosse
//! & Salakhutdinov 2016). Samples depend on the row of a point alone.

use super::pass::{Packed, TILE_POINTS, Workspace, tiles};
use super::{LatentPrior, SCORE_SAMPLES, VariationalAutoencoder};
use crate::block::Block;
use crate::kernels::dispatch::Simd;
use crate::kernels::residual::add_squared_norms;
use crate::model::{BlockSampler, Density, LatentSpace, Sample, ScoredTile};
use crate::rng::{self, Rng};
use crate::scalar::Scalar;
use rand_distr::{Distribution, StandardNormal};
use std::f64::consts::{E, PI};

/// Random streams of scores are other ones than those of fits.
const SCORE: u64 = 0x7363_6f72_6520_7661;

/// Fills a row with standard normal numbers.
pub(crate) fn fill_normal<T: Scalar>(rng: &mut Rng, row: &mut [T]) {
    for value in row {
        let normal: f64 = StandardNormal.sample(rng);
        *value = T::from_f64(normal);
    }
}

impl VariationalAutoencoder {
    /// Adds `ln p(x | z)` of the latents of a tile to `out`. The outputs of the decoder are used up.
    fn add_log_likelihoods<T: Scalar>(
        &self,
        packed: &Packed<T>,
        workspace: &mut Workspace<T>,
        out: &mut [f64],
    ) {
        let dim = self.dim();
        let Workspace { tile, present, decoder, .. } = workspace;
        let rows = decoder.output_mut().chunks_exact_mut(dim).zip(tile.chunks_exact(dim));
        for (y, x) in rows.take(out.len()) {
            for d in 0..dim {
                y[d] = (x[d] - y[d]) * packed.root_precisions[d];
            }
        }
        let log_norms = self.noise_variances.iter().map(|v| -0.5 * (2.0 * PI * v).ln());
        if self.ignores_missing {
            let log_norms: Vec<f64> = log_norms.collect();
            for (value, row) in out.iter_mut().zip(present.chunks_exact(dim)) {
                let terms = row.iter().zip(&log_norms);
                *value += terms.map(|(present, norm)| present.to_f64() * norm).sum::<f64>();
            }
        } else {
            let log_norm: f64 = log_norms.sum();
            out.iter_mut().for_each(|value| *value += log_norm);
        }
        add_squared_norms(packed.simd, &decoder.output()[..out.len() * dim], dim, -0.5, out);
    }

    /// Computes the bounds of a tile, from the posteriors in the workspace.
    fn bounds<T: Scalar>(&self, packed: &Packed<T>, first: u64, workspace: &mut Workspace<T>) {
        let latents = self.n_latents();
        let mut out = std::mem::take(&mut workspace.log_density);
        let n = out.len();
        let is_sampled = !self.decoder_is_linear();
        let samples = if is_sampled { SCORE_SAMPLES } else { 1 };
        out.fill(0.0);
        for sample in 0..samples {
            if is_sampled {
                self.draw_noise(first, sample, n, workspace);
            }
            self.set_latents(n, is_sampled, workspace);
            self.decode_present(packed, n, workspace);
            self.add_log_likelihoods(packed, workspace, &mut out);
        }
        if self.ignores_missing && !is_sampled {
            self.curvatures_of_present(packed, n, workspace);
        }
        let heads = workspace.encoder.output().chunks_exact(2 * latents);
        let deviations = workspace.deviations.chunks_exact(latents);
        for (i, ((out, heads), deviations)) in out.iter_mut().zip(heads).zip(deviations).enumerate()
        {
            *out /= samples as f64;
            for h in 0..latents {
                let (mean, deviation) = (heads[h].to_f64(), deviations[h].to_f64());
                let scale = self.prior_scales[h];
                let moment = self.prior.term(scale, mean, deviation).moment;
                let entropy = 0.5 * ((2.0 * PI * E).ln() + heads[latents + h].to_f64());
                *out += entropy - self.prior.cross_entropy(scale, moment);
                if !is_sampled {
                    let own = workspace.curvatures.get(i * latents + h);
                    let curvature = own.map_or(packed.curvatures[h], |value| value.to_f64());
                    *out -= 0.5 * curvature * deviation * deviation;
                }
            }
        }
        workspace.log_density = out;
    }

    /// Computes the importance-weighted scores of a tile, from the posteriors in the workspace.
    fn importance_weighted<T: Scalar>(
        &self,
        packed: &Packed<T>,
        first: u64,
        workspace: &mut Workspace<T>,
    ) {
        let latents = self.n_latents();
        let mut out = std::mem::take(&mut workspace.log_density);
        let n = out.len();
        let mut weights = vec![0.0; n];
        out.fill(f64::NEG_INFINITY);
        for sample in 0..self.samples {
            self.draw_noise(first, sample, n, workspace);
            self.set_latents(n, true, workspace);
            self.decode_present(packed, n, workspace);
            weights.fill(0.0);
            self.add_log_likelihoods(packed, workspace, &mut weights);
            for (i, (out, weight)) in out.iter_mut().zip(&weights).enumerate() {
                let heads = &workspace.encoder.output()[2 * i * latents..][..2 * latents];
                let mut weight = *weight;
                for h in 0..latents {
                    let k = i * latents + h;
                    let z = workspace.latents[k].to_f64();
                    let noise = workspace.noise[k].to_f64();
                    let log_variance = heads[latents + h].to_f64();
                    weight += self.prior.log_density(self.prior_scales[h], z);
                    weight += 0.5 * ((2.0 * PI).ln() + log_variance + noise * noise);
                }
                *out = crate::special::ln_add_exp(*out, weight);
            }
        }
        out.iter_mut().for_each(|value| *value -= (self.samples as f64).ln());
        workspace.log_density = out;
    }

    fn draw_noise<T: Scalar>(
        &self,
        first: u64,
        sample: usize,
        n: usize,
        workspace: &mut Workspace<T>,
    ) {
        let seed = SCORE.wrapping_add(sample as u64);
        let rows = workspace.noise.chunks_exact_mut(self.n_latents()).take(n);
        for (i, row) in rows.enumerate() {
            fill_normal(&mut rng::stream(seed, first + i as u64), row);
        }
    }

    /// Gives outputs of the decoder the units of the points.
    fn write_points<T: Scalar>(&self, outputs: &[T], points: &mut [f64]) {
        let dim = self.dim();
        for (point, row) in points.chunks_exact_mut(dim).zip(outputs.chunks_exact(dim)) {
            for d in 0..dim {
                point[d] = self.centre[d] + self.scale[d] * row[d].to_f64();
            }
        }
    }
}

impl<T: Scalar> Density<T> for VariationalAutoencoder {
    type Packed = Packed<T>;
    type Workspace = Workspace<T>;

    fn pack_for_scores(&self, simd: Simd) -> Packed<T> {
        Packed::new(self, simd)
    }

    fn workspace(&self, _: &Packed<T>, _: Option<Workspace<T>>) -> Workspace<T> {
        Workspace::new(self)
    }

    fn score(
        &self,
        packed: &Packed<T>,
        block: Block<'_, T>,
        _weighted: bool,
        workspace: &mut Workspace<T>,
        mut visit: impl FnMut(ScoredTile<'_, T>),
    ) {
        for tile in tiles(block) {
            self.encode(packed, tile.points, workspace);
            workspace.log_density.resize(tile.len(), 0.0);
            match self.samples {
                0 => self.bounds(packed, tile.first, workspace),
                _ => self.importance_weighted(packed, tile.first, workspace),
            }
            visit(ScoredTile::without_components(tile, &workspace.log_density));
        }
    }
}

impl<T: Scalar> LatentSpace<T> for VariationalAutoencoder {
    fn n_latents(&self) -> usize {
        self.n_latents()
    }

    fn transform(&self, packed: &Packed<T>, block: Block<'_, T>, latents: &mut [f64]) {
        let (mut workspace, width) = (Workspace::new(self), self.n_latents());
        let mut rest = latents.chunks_exact_mut(width);
        for tile in tiles(block) {
            self.encode(packed, tile.points, &mut workspace);
            let heads = workspace.encoder.output().chunks_exact(2 * width).take(tile.len());
            for (heads, out) in heads.zip(&mut rest) {
                out.iter_mut().zip(heads).for_each(|(out, mean)| *out = mean.to_f64());
            }
        }
    }

    fn draws_latents(&self) -> bool {
        true
    }

    fn draw_latents(
        &self,
        packed: &Packed<T>,
        block: Block<'_, T>,
        samples: usize,
        latents: &mut [f64],
    ) {
        let (mut workspace, width) = (Workspace::new(self), self.n_latents());
        for tile in tiles(block) {
            let n = tile.len();
            let start = (tile.first - block.first) as usize;
            self.encode(packed, tile.points, &mut workspace);
            for sample in 0..samples {
                self.draw_noise(tile.first, sample, n, &mut workspace);
                self.set_latents(n, true, &mut workspace);
                for (i, z) in workspace.latents.chunks_exact(width).take(n).enumerate() {
                    let out = &mut latents[((start + i) * samples + sample) * width..][..width];
                    out.iter_mut().zip(z).for_each(|(out, z)| *out = z.to_f64());
                }
            }
        }
    }

    fn reconstruct(&self, packed: &Packed<T>, block: Block<'_, T>, points: &mut [f64]) {
        let mut workspace = Workspace::new(self);
        let mut rest = points;
        for tile in tiles(block) {
            let (out, after) = rest.split_at_mut(tile.len() * self.dim());
            rest = after;
            self.encode(packed, tile.points, &mut workspace);
            self.set_latents(tile.len(), false, &mut workspace);
            self.decode(packed, tile.len(), &mut workspace);
            self.write_points(workspace.decoder.output(), out);
        }
    }
}

impl Sample for VariationalAutoencoder {
    fn sampler(&self) -> BlockSampler<'_> {
        let packed = Packed::<f64>::new(self, Simd::detect());
        let deviations: Vec<f64> = self.noise_variances.iter().map(|v| v.sqrt()).collect();
        Box::new(move |rng, points, _| {
            let mut workspace = Workspace::new(self);
            for out in points.chunks_mut(TILE_POINTS * self.dim()) {
                let n = out.len() / self.dim();
                for row in workspace.latents.chunks_exact_mut(self.n_latents()).take(n) {
                    for (z, &scale) in row.iter_mut().zip(&self.prior_scales) {
                        *z = self.prior.draw(scale, rng);
                    }
                }
                self.decode(&packed, n, &mut workspace);
                self.write_points(workspace.decoder.output(), out);
                for point in out.chunks_exact_mut(self.dim()) {
                    for (value, deviation) in point.iter_mut().zip(&deviations) {
                        let noise: f64 = StandardNormal.sample(rng);
                        *value += deviation * noise;
                    }
                }
            }
        })
    }
}

impl LatentPrior {
    fn draw(self, scale: f64, rng: &mut Rng) -> f64 {
        match self {
            Self::Standard | Self::Learned => {
                let normal: f64 = StandardNormal.sample(rng);
                scale.sqrt() * normal
            }
            Self::Laplace => {
                let size = -scale * (-rng::uniform(rng)).ln_1p();
                if rng::uniform(rng) < 0.5 { -size } else { size }
            }
        }
    }
}
