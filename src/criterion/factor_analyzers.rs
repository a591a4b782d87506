//! Mixtures of factor analysers, reduced to what the criterion needs, and their gap identity on data.

use super::family::sums_to_one;
use super::shapes::{Sizes, affine, array, normals, variances};
use super::solve::derivative;
use super::{CertifiedGap, Direction, Factor, FactorModel};
use crate::data::DataSource;
use crate::em::sweep::Sweeper;
use crate::error::Result;
use crate::exec::Executor;
use crate::model::{GenerativeModel, MixtureOfFactorAnalyzers, NoiseStructure};
use crate::scalar::Scalar;
use crate::stats::SuffStats;

/// Steps of the derivatives of the bound along α and β, which scale the model by themselves: see `solve::STEP`.
const STEP: f64 = 7.4e-4;

/// Evaluates both sides of the gap identity for a mixture of factor analysers on points, with its exact posteriors.
///
/// The right side uses no entropy: it is the derivative of the bound along `α`, which moves the weights and scales
/// the variances of the priors, and along `β = -ψ`, which scales the noise.
///
/// # Errors
/// If dimensions differ, if the source is empty, if reading fails, or if a value of a point is not finite.
///
/// ```
/// use entropysum::model::{MixtureOfFactorAnalyzers, NoiseStructure};
/// use entropysum::{Executor, Points};
/// use entropysum::expert::criterion;
///
/// let (means, loadings) = ([0.0, 0.0, 5.0, 5.0], [1.0, 0.5, 0.0, 2.0]);
/// let (weights, noise) = (vec![0.4, 0.6], [0.1, 0.2]);
/// let model = MixtureOfFactorAnalyzers::new(
///     NoiseStructure::Isotropic, 2, weights, &means, &loadings, &noise,
/// )?;
/// let points = Points::<f64>::from_rows(&[-1.0, 0.5, 3.0, 9.0, 5.0, 4.0], 2)?;
/// let gap = criterion::certify_factor_analyzers(&model, &points, &Executor::new(Some(1))?)?;
/// assert!(gap.gap() < -1.0); // these points are wider than the model
/// assert!(gap.error().abs() < 1e-9);
/// # Ok::<(), entropysum::Error>(())
/// ```
pub fn certify_factor_analyzers<T: Scalar>(
    model: &MixtureOfFactorAnalyzers,
    source: &dyn DataSource<T>,
    executor: &Executor,
) -> Result<CertifiedGap> {
    crate::data::check_source(source, model.dim())?;
    Ok(certify_statistics(model, &Sweeper::new(source, executor).sweep(model)?))
}

/// Evaluates both sides of the gap identity from statistics.
fn certify_statistics(model: &MixtureOfFactorAnalyzers, stats: &SuffStats) -> CertifiedGap {
    let alpha = prior_flow(model.weights(), &model.prior_levels());
    let weights = |t: f64| -> Vec<f64> {
        model.weights().iter().zip(&alpha).map(|(w, along)| w + t * along).collect()
    };
    let bound = |model: MixtureOfFactorAnalyzers| vec![model.lower_bound(stats)];
    let prior = |t: f64| bound(model.scaled(weights(t), 1.0 - t, 1.0));
    let noise = |t: f64| bound(model.scaled(weights(0.0), 1.0, 1.0 - t));
    // No weight may become negative on the way.
    let steps =
        model.weights().iter().zip(&alpha).map(|(w, a)| if *w > 0.0 { a.abs() / w } else { 0.0 });
    let step = STEP / steps.fold(1.0, f64::max);
    CertifiedGap {
        lower_bound: model.lower_bound(stats),
        entropy_sum: model.entropy_sum(stats).total(),
        prior: derivative(&prior, step)[0],
        observable: derivative(&noise, STEP)[0],
    }
}

/// Returns the part of α that moves the weights, from the natural parameters of `δ_c` up to a constant: `π_c (ℓ_c - Σ π ℓ)`.
fn prior_flow(weights: &[f64], levels: &[f64]) -> Vec<f64> {
    let part = |(&w, level): (&f64, &f64)| if w > 0.0 { w * level } else { 0.0 };
    let mean: f64 = weights.iter().zip(levels).map(part).sum();
    let along = |(&w, level): (&f64, &f64)| if w > 0.0 { w * (level - mean) } else { 0.0 };
    weights.iter().zip(levels).map(along).collect()
}

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
        let along = prior_flow(weights, &levels).into_iter();
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
