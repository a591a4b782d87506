//! Mixtures of factor analysers, reduced to what the criterion needs.

use super::family::sums_to_one;
use super::shapes::{Sizes, affine, array, normals, variances};
use super::{Direction, Factor, FactorModel};
use crate::model::NoiseStructure;

/// A mixture of factor analysers with the prior `π_c N(z; 0, τ_c I)`, whose scales are free as in `ppca`.
pub(super) fn factor_analyzers(noise: NoiseStructure, sizes: Sizes) -> FactorModel {
    let prior = Prior { sizes };
    let observable = Observable { sizes, noise };
    FactorModel::new(noise.model_name(), vec![Box::new(prior), Box::new(observable)])
}

/// `π_c N(z; 0, τ_c I)` with statistics `δ_c` and `δ_c |z|²`, and `δ_c z`, whose natural parameters are zero.
struct Prior {
    sizes: Sizes,
}

impl Prior {
    /// `ln π_c - H/2 ln τ_c`: differences of these are natural parameters.
    fn levels(&self, parameters: &[f64]) -> Vec<f64> {
        let (weights, scales) = parameters.split_at(self.sizes.n_components);
        let half = 0.5 * self.sizes.n_latents as f64;
        weights.iter().zip(scales).map(|(w, tau)| w.ln() - half * tau.ln()).collect()
    }
}

impl Factor for Prior {
    fn name(&self) -> String {
        "p(c, z)".into()
    }

    fn parameters(&self) -> Vec<(String, usize)> {
        let n = self.sizes.n_components;
        vec![array("weights", n), array("prior_variances", n)]
    }

    fn draw_parameters(&self, uniform: &mut dyn FnMut() -> f64) -> Vec<f64> {
        let n = self.sizes.n_components;
        let mut parameters: Vec<f64> = (0..n).map(|_| 0.02 + uniform()).collect();
        let total: f64 = parameters.iter().sum();
        parameters.iter_mut().for_each(|mass| *mass /= total);
        parameters.extend(variances(n, uniform));
        parameters
    }

    fn natural(&self, _: &[f64], parameters: &[f64]) -> Vec<f64> {
        let levels = self.levels(parameters);
        let (last, others) = levels.split_last().expect("a mixture has a component");
        let scales = &parameters[self.sizes.n_components..];
        others.iter().map(|level| level - last).chain(scales.iter().map(|t| -0.5 / t)).collect()
    }

    fn directions(&self, parameters: &[f64]) -> Vec<Direction> {
        let n = self.sizes.n_components;
        let mut directions = sums_to_one(0, &parameters[..n]);
        directions.extend((n..2 * n).map(|i| Direction::along(i, parameters[i])));
        directions
    }

    fn closed_form(&self, parameters: &[f64]) -> Option<Vec<f64>> {
        let (weights, scales) = parameters.split_at(self.sizes.n_components);
        let levels = self.levels(parameters);
        let mean: f64 = weights.iter().zip(&levels).map(|(w, level)| w * level).sum();
        let along = weights.iter().zip(&levels).map(|(w, level)| w * (level - mean));
        Some(along.chain(scales.iter().map(|tau| -tau)).collect())
    }
}

/// `N(x; W_c z + μ_c, Ψ_c)`; latents are `c` and then `z`.
struct Observable {
    sizes: Sizes,
    noise: NoiseStructure,
}

impl Observable {
    fn n_means(&self) -> usize {
        self.sizes.n_components * self.sizes.dim * (self.sizes.n_latents + 1)
    }

    fn n_variances(&self) -> usize {
        match self.noise {
            NoiseStructure::Diagonal => self.sizes.n_components * self.sizes.dim,
            NoiseStructure::Tied => self.sizes.dim,
            NoiseStructure::Isotropic => self.sizes.n_components,
        }
    }
}

impl Factor for Observable {
    fn name(&self) -> String {
        "p(x | c, z)".into()
    }

    fn parameters(&self) -> Vec<(String, usize)> {
        let Sizes { n_components, dim, n_latents } = self.sizes;
        let mut arrays = Vec::new();
        for _ in 0..n_components {
            arrays.extend([array("loadings", dim * n_latents), array("means", dim)]);
        }
        arrays.push(array("noise_variances", self.n_variances()));
        arrays
    }

    fn draw_parameters(&self, uniform: &mut dyn FnMut() -> f64) -> Vec<f64> {
        let mut parameters = normals(self.n_means(), uniform);
        parameters.extend(variances(self.n_variances(), uniform));
        parameters
    }

    fn draw_latents(&self, n: usize, uniform: &mut dyn FnMut() -> f64) -> Vec<Vec<f64>> {
        let Sizes { n_components, n_latents, .. } = self.sizes;
        (0..n.next_multiple_of(n_components))
            .map(|i| {
                let mut latents = vec![(i % n_components) as f64];
                latents.extend(normals(n_latents, uniform));
                latents
            })
            .collect()
    }

    fn natural(&self, latents: &[f64], parameters: &[f64]) -> Vec<f64> {
        let Sizes { dim, n_latents, .. } = self.sizes;
        let (c, z) = (latents[0] as usize, &latents[1..]);
        let (maps, variances) = parameters.split_at(self.n_means());
        let per_component = dim * (n_latents + 1);
        let means = affine(dim, z, &maps[c * per_component..][..per_component]);
        let variance = |d: usize| match self.noise {
            NoiseStructure::Diagonal => variances[c * dim + d],
            NoiseStructure::Tied => variances[d],
            NoiseStructure::Isotropic => variances[c],
        };
        let mut natural: Vec<f64> =
            means.iter().enumerate().map(|(d, mean)| mean / variance(d)).collect();
        // One statistic |x|² where there is one variance.
        let n_quadratic = if self.noise == NoiseStructure::Isotropic { 1 } else { dim };
        natural.extend((0..n_quadratic).map(|d| -0.5 / variance(d)));
        natural
    }

    fn closed_form(&self, parameters: &[f64]) -> Option<Vec<f64>> {
        let split = self.n_means();
        let flow = parameters.iter().enumerate();
        Some(flow.map(|(i, value)| if i < split { 0.0 } else { -value }).collect())
    }
}
