//! Passes of tiles of points through encoder and decoder: statistics, and the gradient of the bound.

use super::VariationalAutoencoder;
use super::network::Tape;
use crate::block::Block;
use crate::kernels::dense::residuals;
use crate::kernels::dispatch::Simd;
use crate::kernels::math::exp_in_place;
use crate::kernels::residual::standardize;
use crate::scalar::Scalar;
use crate::stats::SuffStats;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use std::f64::consts::{E, PI};

/// Points of a tile: as many as make products efficient, few enough that layers of some hundred units stay in the cache of a core.
pub const TILE_POINTS: usize = 128;

/// Parameters in the precision of the kernels.
#[derive(Debug)]
pub struct Packed<T> {
    pub(super) simd: Simd,
    /// Weights and biases of both networks.
    pub(super) parameters: Vec<T>,
    centre: Vec<T>,
    /// The centre less its rounded value.
    rest: Vec<T>,
    inverse_scale: Vec<T>,
    /// `p_d = scale_d² / σ_d²`: precisions of residuals in units of the networks.
    precisions: Vec<T>,
    /// `√p_d`.
    pub(super) root_precisions: Vec<T>,
    /// `Σ_d p_d W_dh²` of a linear decoder, H values; none of another decoder.
    pub(super) curvatures: Vec<f64>,
    /// `p_d W_dh²`, D × H, of a linear decoder of points with missing values.
    weighted_squares: Vec<T>,
}

impl<T: Scalar> Packed<T> {
    /// Packs a model.
    pub fn new(model: &VariationalAutoencoder, simd: Simd) -> Self {
        let (dim, latents) = (model.dim(), model.n_latents());
        let centre: Vec<T> = model.centre.iter().map(|&c| T::from_f64(c)).collect();
        let rest = model.centre.iter().zip(&centre);
        let mut packed = Self {
            simd,
            parameters: vec![T::ZERO; model.parameters.len()],
            rest: rest.map(|(c, rounded)| T::from_f64(c - rounded.to_f64())).collect(),
            centre,
            inverse_scale: model.scale.iter().map(|s| T::from_f64(s.recip())).collect(),
            precisions: vec![T::ZERO; dim],
            root_precisions: vec![T::ZERO; dim],
            curvatures: vec![0.0; if model.decoder_is_linear() { latents } else { 0 }],
            weighted_squares: Vec::new(),
        };
        packed.refresh(model);
        packed
    }

    /// Packs what an M-step has changed. Nothing is allocated.
    pub fn refresh(&mut self, model: &VariationalAutoencoder) {
        for (packed, &value) in self.parameters.iter_mut().zip(&model.parameters) {
            *packed = T::from_f64(value);
        }
        self.curvatures.fill(0.0);
        self.weighted_squares.clear();
        let weights = model.decoder.last().split(&model.parameters).0;
        for (d, row) in weights.chunks(model.decoder.last().inputs).enumerate() {
            let precision = model.scale[d].powi(2) / model.noise_variances[d];
            self.precisions[d] = T::from_f64(precision);
            self.root_precisions[d] = T::from_f64(precision.sqrt());
            for (sum, weight) in self.curvatures.iter_mut().zip(row) {
                *sum += precision * weight * weight;
            }
            if model.ignores_missing && model.decoder_is_linear() {
                let squares = row.iter().map(|weight| T::from_f64(precision * weight * weight));
                self.weighted_squares.extend(squares);
            }
        }
    }
}

/// Memory for a tile on its way through both networks.
#[derive(Debug)]
pub struct Workspace<T> {
    /// Points in units of the networks, B × D; 0 where a value is missing.
    pub(super) tile: Vec<T>,
    /// 1 where a value is present and 0 where it is missing, B × D; nothing where none may be missing.
    pub(super) present: Vec<T>,
    pub(super) encoder: Tape<T>,
    pub(super) decoder: Tape<T>,
    /// Standard deviations of the posteriors, standard normal noise, and latents; B × H each.
    pub(super) deviations: Vec<T>,
    pub(super) noise: Vec<T>,
    pub(super) latents: Vec<T>,
    /// [`Packed::curvatures`] over the dimensions of each point, B × H, and variances of posteriors times weights, B × H; where values may
    /// be missing.
    pub(super) curvatures: Vec<T>,
    variances: Vec<T>,
    /// Weights of the points.
    weights: Vec<T>,
    pub(super) log_density: Vec<f64>,
}

impl<T: Scalar> Workspace<T> {
    pub(super) fn new(model: &VariationalAutoencoder) -> Self {
        let zeros = |width: usize| vec![T::ZERO; TILE_POINTS * width];
        let latents = model.n_latents();
        let is_masked = model.ignores_missing && model.decoder_is_linear();
        let masked = if is_masked { latents } else { 0 };
        Self {
            tile: zeros(model.dim()),
            present: zeros(if model.ignores_missing { model.dim() } else { 0 }),
            encoder: model.encoder.tape(TILE_POINTS),
            decoder: model.decoder.tape(TILE_POINTS),
            deviations: zeros(latents),
            noise: zeros(latents),
            latents: zeros(latents),
            curvatures: zeros(masked),
            variances: zeros(masked),
            weights: zeros(1),
            log_density: vec![0.0; TILE_POINTS],
        }
    }
}

/// Cuts a block into tiles.
pub(super) fn tiles<T: Scalar>(block: Block<'_, T>) -> impl Iterator<Item = Block<'_, T>> {
    let starts = (0..block.len()).step_by(TILE_POINTS);
    starts.map(move |start| block.slice(start, TILE_POINTS.min(block.len() - start)))
}

impl VariationalAutoencoder {
    /// Computes means, log-variances and standard deviations of the posteriors of a tile.
    pub(super) fn encode<T: Scalar>(
        &self,
        packed: &Packed<T>,
        points: MatRef<'_, T>,
        workspace: &mut Workspace<T>,
    ) {
        let Packed { simd, parameters, centre, rest, inverse_scale, .. } = packed;
        let Workspace { tile, present, encoder, deviations, .. } = workspace;
        standardize(*simd, points, centre, rest, inverse_scale, tile);
        for (value, present) in tile.iter_mut().zip(present) {
            let is_missing = value.to_f64().is_nan();
            *present = if is_missing { T::ZERO } else { T::ONE };
            *value = if is_missing { T::ZERO } else { *value };
        }
        let (n, latents) = (points.nrows(), self.n_latents());
        let x = MatRef::from_row_major_slice(&tile[..n * self.dim()], n, self.dim());
        self.encoder.forward(*simd, parameters, x, encoder);
        let half = T::from_f64(0.5);
        let heads = encoder.output().chunks_exact(2 * latents).take(n);
        for (deviations, heads) in deviations.chunks_exact_mut(latents).zip(heads) {
            for (deviation, &log_variance) in deviations.iter_mut().zip(&heads[latents..]) {
                *deviation = half * log_variance;
            }
        }
        exp_in_place(*simd, &mut deviations[..n * latents]);
    }

    /// Sets the latents of a tile to posterior means, plus deviations times the noise if they are `sampled`.
    pub(super) fn set_latents<T: Scalar>(
        &self,
        n: usize,
        sampled: bool,
        workspace: &mut Workspace<T>,
    ) {
        let latents = self.n_latents();
        let Workspace { encoder, deviations, noise, latents: z, .. } = workspace;
        for (i, heads) in encoder.output().chunks_exact(2 * latents).take(n).enumerate() {
            let row = i * latents..(i + 1) * latents;
            let z = &mut z[row.clone()];
            z.copy_from_slice(&heads[..latents]);
            if sampled {
                let moves = deviations[row.clone()].iter().zip(&noise[row]);
                z.iter_mut().zip(moves).for_each(|(z, (&s, &e))| *z += s * e);
            }
        }
    }

    /// Computes the observables of the latents of a tile, in units of the networks.
    pub(super) fn decode<T: Scalar>(
        &self,
        packed: &Packed<T>,
        n: usize,
        workspace: &mut Workspace<T>,
    ) {
        let latents = self.n_latents();
        let z = MatRef::from_row_major_slice(&workspace.latents[..n * latents], n, latents);
        self.decoder.forward(packed.simd, &packed.parameters, z, &mut workspace.decoder);
    }

    /// Computes the observables of the latents of a tile for comparison with its points: where a value is missing, both are 0.
    pub(super) fn decode_present<T: Scalar>(
        &self,
        packed: &Packed<T>,
        n: usize,
        workspace: &mut Workspace<T>,
    ) {
        self.decode(packed, n, workspace);
        let Workspace { present, decoder, .. } = workspace;
        for (output, &present) in decoder.output_mut().iter_mut().zip(&*present) {
            *output *= present;
        }
    }

    /// Computes `Σ_d p_d W_dh²` over the dimensions that a point of the tile has, for a linear decoder; B × H.
    pub(super) fn curvatures_of_present<T: Scalar>(
        &self,
        packed: &Packed<T>,
        n: usize,
        workspace: &mut Workspace<T>,
    ) {
        let (dim, latents) = (self.dim(), self.n_latents());
        let Workspace { present, curvatures, .. } = workspace;
        let present = MatRef::from_row_major_slice(&present[..n * dim], n, dim);
        let squares = MatRef::from_row_major_slice(&packed.weighted_squares, dim, latents);
        let out = MatMut::from_row_major_slice_mut(&mut curvatures[..n * latents], n, latents);
        matmul(out, Accum::Replace, present, squares, T::ONE, Par::Seq);
    }
}

/// Sums and scratch memory of a share of the points.
#[derive(Debug)]
pub struct Lane<T> {
    pub(super) workspace: Workspace<T>,
    /// Gradient of the sum of the bounds with respect to the parameters of both networks; with the prior's term times its weight.
    pub gradient: Vec<T>,
    /// `H̄_h`, `M_h` and `R_d`, as [`VariationalAutoencoder::new_stats`] lays them out.
    pub stats: SuffStats,
    /// Upper limit of the variance of the sum of the bounds that comes from sampling.
    pub sampling_variance: f64,
    /// `Σ w s_h²`, for a linear decoder; D × H, each over the points that have dimension d, where values may be missing.
    squared_deviations: Vec<f64>,
}

impl<T: Scalar> Lane<T> {
    /// Makes a lane without points.
    pub fn new(model: &VariationalAutoencoder) -> Self {
        let rows = if model.ignores_missing { model.dim() } else { 1 };
        Self {
            workspace: Workspace::new(model),
            gradient: vec![T::ZERO; model.parameters.len()],
            stats: model.new_stats(),
            sampling_variance: 0.0,
            squared_deviations: vec![0.0; rows * model.n_latents()],
        }
    }

    /// Forgets all points.
    pub fn clear(&mut self) {
        self.gradient.fill(T::ZERO);
        self.stats.clear();
        self.sampling_variance = 0.0;
        self.squared_deviations.fill(0.0);
    }

    /// Adds the statistics of a block, and the gradient of its bounds. `noise` fills a row with standard normal numbers, one a latent,
    /// and is told which point of the block the row is for; a linear decoder does not ask.
    ///
    /// The expectation over the noise of a linear decoder is `|x - W m - b|² + Σ_h |w_h|² s_h²` in units of the noise. Any other decoder
    /// takes one sample `z = m + s ε` (Kingma & Welling 2014). By the Poincaré inequality of Gaussians the variance of a bound is then at
    /// most the mean of `Σ_h (s_h ∂ ln p(x|z)/∂z_h)²`, which the reverse pass knows: so the error of sampling costs no second sample.
    pub fn add(
        &mut self,
        model: &VariationalAutoencoder,
        packed: &Packed<T>,
        block: Block<'_, T>,
        noise: &dyn Fn(usize, &mut [T]),
    ) {
        let latents = model.n_latents();
        let mut first = 0;
        for tile in tiles(block) {
            let n = tile.len();
            model.encode(packed, tile.points, &mut self.workspace);
            let is_sampled = !model.decoder_is_linear();
            if is_sampled {
                let rows = self.workspace.noise.chunks_exact_mut(latents).take(n);
                rows.enumerate().for_each(|(i, row)| noise(first + i, row));
            }
            model.set_latents(n, is_sampled, &mut self.workspace);
            model.decode_present(packed, n, &mut self.workspace);
            if model.ignores_missing && !is_sampled {
                model.curvatures_of_present(packed, n, &mut self.workspace);
            }
            self.weigh(tile);
            self.add_tile(model, packed, n);
            first += n;
        }
    }

    fn weigh(&mut self, tile: Block<'_, T>) {
        let n = tile.len();
        let weights = &mut self.workspace.weights[..n];
        match tile.weights {
            None => weights.fill(T::ONE),
            Some(given) => weights.iter_mut().zip(given).for_each(|(w, &v)| *w = T::from_f64(v)),
        }
        *self.stats.total_weight_mut() += tile.weights.map_or(n as f64, |it| it.iter().sum());
        let positive = |weights: &[f64]| weights.iter().filter(|&&w| w > 0.0).count();
        *self.stats.n_points_mut() += tile.weights.map_or(n, positive) as f64;
    }

    /// The way back: from residuals to the latents, and from these to the encoder.
    fn add_tile(&mut self, model: &VariationalAutoencoder, packed: &Packed<T>, n: usize) {
        let Self { workspace, gradient, stats, sampling_variance, squared_deviations } = self;
        let Workspace {
            tile,
            present,
            encoder,
            decoder,
            deviations,
            noise,
            latents: z,
            curvatures,
            variances,
            weights,
            ..
        } = workspace;
        let (dim, latents) = (model.dim(), model.n_latents());
        let is_sampled = !model.decoder_is_linear();
        let (tile, weights) = (&tile[..n * dim], &weights[..n]);
        let (output, delta) = decoder.output_and_delta();
        let (columns, observed) = stats.sums_mut(0)[2 * latents..].split_at_mut(dim);
        if !observed.is_empty() {
            for (row, weight) in present.chunks_exact(dim).zip(weights) {
                observed.iter_mut().zip(row).for_each(|(sum, it)| *sum += (*weight * *it).to_f64());
            }
        }
        let pair = [tile, &output[..n * dim]];
        residuals(packed.simd, pair, weights, &packed.precisions, delta, columns);
        let z = MatRef::from_row_major_slice(&z[..n * latents], n, latents);
        model.decoder.backward(&packed.parameters, z, decoder, gradient, true);

        let (entropies, rest) = stats.sums_mut(0).split_at_mut(latents);
        let at_latents = decoder.delta();
        let (heads, delta) = encoder.output_and_delta();
        let rows = heads.chunks_exact(2 * latents).zip(delta.chunks_exact_mut(2 * latents));
        for (i, ((heads, delta), weight)) in rows.zip(weights).enumerate() {
            let weight = weight.to_f64();
            for h in 0..latents {
                let k = i * latents + h;
                let (mean, log_variance) = (heads[h].to_f64(), heads[latents + h].to_f64());
                let (deviation, at_z) = (deviations[k].to_f64(), at_latents[k].to_f64());
                let term = model.prior.term(model.prior_scales[h], mean, deviation);
                entropies[h] += weight * 0.5 * ((2.0 * PI * E).ln() + log_variance);
                rest[h] += weight * term.moment;
                let at_deviation = if is_sampled {
                    *sampling_variance += (deviation * at_z).powi(2);
                    at_z * noise[k].to_f64()
                } else if model.ignores_missing {
                    variances[k] = T::from_f64(weight * deviation * deviation);
                    -weight * curvatures[k].to_f64() * deviation
                } else {
                    squared_deviations[h] += weight * deviation * deviation;
                    -weight * packed.curvatures[h] * deviation
                };
                let of_prior = weight * model.prior_weight;
                let at_deviation = at_deviation - of_prior * term.at_deviation;
                delta[h] = T::from_f64(at_z - of_prior * term.at_mean);
                delta[latents + h] = T::from_f64(0.5 * (weight + deviation * at_deviation));
            }
        }
        if model.ignores_missing && !is_sampled {
            let present = MatRef::from_row_major_slice(&present[..n * dim], n, dim);
            let variances = MatRef::from_row_major_slice(&variances[..n * latents], n, latents);
            let mut sums = Mat::zeros(dim, latents);
            let one = T::ONE;
            matmul(&mut sums, Accum::Replace, present.transpose(), variances, one, Par::Seq);
            for (d, row) in squared_deviations.chunks_exact_mut(latents).enumerate() {
                row.iter_mut().enumerate().for_each(|(h, sum)| *sum += sums[(d, h)].to_f64());
            }
        }
        let x = MatRef::from_row_major_slice(tile, n, dim);
        model.encoder.backward(&packed.parameters, x, encoder, gradient, false);
    }

    /// Adds what a linear decoder owes to the spread of the posteriors, and gives residuals the units of the points. Called after the
    /// last block.
    pub fn complete(&mut self, model: &VariationalAutoencoder, packed: &Packed<T>) {
        let latents = model.n_latents();
        let sums = self.stats.sums_mut(0);
        let entropy = sums[..latents].iter().sum::<f64>();
        let columns = &mut sums[2 * latents..][..model.dim()];
        if model.decoder_is_linear() {
            let layer = model.decoder.last();
            let (at_weights, _) = layer.split_mut(&mut self.gradient);
            let (weights, _) = layer.split(&model.parameters);
            let rows = weights.chunks(latents).zip(at_weights.chunks_mut(latents));
            for (d, (row, at_row)) in rows.enumerate() {
                let precision = packed.precisions[d].to_f64();
                let deviations = match model.ignores_missing {
                    true => &self.squared_deviations[d * latents..][..latents],
                    false => &self.squared_deviations,
                };
                for h in 0..latents {
                    let spread = row[h] * deviations[h];
                    columns[d] += row[h] * spread;
                    at_row[h] += T::from_f64(-precision * spread);
                }
            }
        }
        columns.iter_mut().zip(&model.scale).for_each(|(sum, scale)| *sum *= scale * scale);
        *self.stats.posterior_entropy_mut() = entropy;
        let mass = self.stats.total_weight();
        self.stats.mass_mut()[0] = mass;
    }
}
