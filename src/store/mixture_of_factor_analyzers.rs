//! Mixtures of factor analysers in files.

use super::invalid;
use super::mixture::{posterior_of, settings_of};
use super::stored::{File, NamedArray, Stored, shape_text};
use crate::error::Result;
use crate::model::{GenerativeModel, MixtureOfFactorAnalyzers, NoiseStructure, Posterior};
use serde_json::Value;

impl Stored for MixtureOfFactorAnalyzers {
    const KIND: &'static str = "a mixture of factor analysers";

    fn names() -> Vec<&'static str> {
        NoiseStructure::ALL.map(NoiseStructure::model_name).to_vec()
    }

    fn name(&self) -> String {
        self.noise().model_name().into()
    }

    /// Exact posteriors need no word.
    fn settings(&self) -> Vec<(&'static str, Value)> {
        match self.posterior() {
            Posterior::Exact => Vec::new(),
            posterior => settings_of(posterior),
        }
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let (components, latents) = (self.n_components(), self.n_latents());
        vec![("n_components", components), ("n_latents", latents), ("dim", self.dim())]
    }

    fn arrays(&self) -> Vec<NamedArray> {
        let (components, dim, latents) = (self.n_components(), self.dim(), self.n_latents());
        let noise = self.parameter("noise_variances").expect("a name of this kind");
        let noise = match self.noise() {
            NoiseStructure::Tied => {
                NamedArray::new("noise_variances", vec![dim], noise[..dim].to_vec())
            }
            _ => NamedArray::new("noise_variances", vec![components, dim], noise),
        };
        let array = |name, shape| {
            NamedArray::new(name, shape, self.parameter(name).expect("a name of this kind"))
        };
        vec![
            NamedArray::new("weights", vec![components], self.weights().to_vec()),
            array("means", vec![components, dim]),
            array("loadings", vec![components, dim, latents]),
            noise,
        ]
    }

    /// Isotropic noise may also be one number a component, and tied noise is one for each dimension.
    fn build(name: &str, file: &File<'_>) -> Result<Self> {
        let noise = NoiseStructure::ALL.into_iter().find(|noise| noise.model_name() == name);
        let noise = noise.expect("a name of this kind");
        let loadings = file.array("loadings")?;
        let [components, dim, latents] = match loadings.shape[..] {
            [c, d, h] if c > 0 && d > 0 && h > 0 => [c, d, h],
            _ => {
                return invalid(format!(
                    "\"loadings\" has shape {}, expected C (components) × D (dimensions) × H (latents)",
                    shape_text(&loadings.shape)
                ));
            }
        };
        debug_assert_eq!(loadings.values.len(), components * dim * latents);
        let weights = file.values("weights", &[components])?;
        let means = file.values("means", &[components, dim])?;
        let own: &[usize] = match noise {
            NoiseStructure::Isotropic => &[components],
            _ => &[dim],
        };
        let may_be_short =
            noise != NoiseStructure::Diagonal && file.array("noise_variances")?.shape == own;
        let shape: &[usize] = if may_be_short { own } else { &[components, dim] };
        let variances = file.values("noise_variances", shape)?;
        let model = Self::new(noise, dim, weights, &means, &loadings.values, &variances)?;
        Ok(model.with_posterior(posterior_of(file)?))
    }
}
