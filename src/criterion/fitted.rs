//! Fitted models as factors, with their own parameters.

use super::FactorModel;
use super::factor_analyzers::factor_analyzers;
use super::shapes::{Noise, Scale, Sizes, binary_sparse_coding, linear, sigmoid_belief_net};
use crate::linalg::row_major;
use crate::model::{
    self, GenerativeModel, LinearGaussian, MixtureOfFactorAnalyzers, NoiseStructure,
    SigmoidBeliefNet,
};

impl FactorModel {
    /// Makes factors of a p-PCA or factor analysis. The variance of its prior, 1, is free, as in `ppca`. A check begins with
    /// its own parameters.
    pub fn of_linear_gaussian(model: &LinearGaussian) -> Self {
        let (dim, n_latents) = (model.dim(), model.latents());
        let sizes = Sizes { dim, n_latents, ..Sizes::default() };
        let noise = noise_of(model.noise());
        let n_variances = if noise == Noise::Scalar { 1 } else { dim };
        let observable = [
            &row_major(model.loadings())[..],
            model.mean(),
            &model.noise_variances()[..n_variances],
        ];
        linear(model.noise().model_name(), sizes, Scale::Free, noise)
            .with_parameters(vec![vec![1.0], observable.concat()])
    }

    /// Makes factors of a mixture of factor analysers. The variances of its priors, 1, are free, as in `mfa`. A check begins
    /// with its own parameters.
    pub fn of_factor_analyzers(model: &MixtureOfFactorAnalyzers) -> Self {
        let (n_components, dim, n_latents) = (model.n_components(), model.dim(), model.n_latents());
        let array = |name| model.parameter(name).expect("a name of this model");
        let (means, loadings, noise) =
            (array("means"), array("loadings"), array("noise_variances"));
        let mut observable = Vec::new();
        for c in 0..n_components {
            observable.extend_from_slice(&loadings[c * dim * n_latents..][..dim * n_latents]);
            observable.extend_from_slice(&means[c * dim..][..dim]);
        }
        match model.noise() {
            NoiseStructure::Diagonal => observable.extend(noise),
            NoiseStructure::Tied => observable.extend_from_slice(&noise[..dim]),
            NoiseStructure::Isotropic => observable.extend(noise.iter().step_by(dim)),
        }
        let prior = [model.weights(), &vec![1.0; n_components]].concat();
        let factors = factor_analyzers(model.noise(), Sizes { n_components, dim, n_latents });
        match model.weights().iter().all(|weight| *weight > 0.0) {
            true => factors.with_parameters(vec![prior, observable]),
            false => factors,
        }
    }

    /// Makes factors of a sigmoid belief net, or of binary sparse coding. A check begins with its own parameters.
    pub fn of_sigmoid_belief_net(model: &SigmoidBeliefNet) -> Self {
        if !model.hidden_units().is_empty() {
            return Self::of_binary_autoencoder(model);
        }
        let layers: Vec<_> = model.hidden().into_iter().chain([model.observables()]).collect();
        let mut units = vec![model.prior().len()];
        units.extend(layers.iter().map(|layer| layer.outputs()));
        let mut own = vec![model.prior().to_vec()];
        own.extend(layers.iter().map(|layer| [layer.weights(), layer.biases()].concat()));
        let net = match model.noise() {
            None => sigmoid_belief_net(&units),
            Some(noise) => {
                let variances = model.parameter("noise_variance").unwrap_or_default();
                own[1].extend(variances);
                let sizes = Sizes { n_latents: units[0], dim: units[1], ..Sizes::default() };
                binary_sparse_coding(sizes, noise_of(noise))
            }
        };
        match model.prior().iter().all(|p| (f64::MIN_POSITIVE..1.0).contains(p)) {
            true => net.with_parameters(own),
            false => net,
        }
    }
}

fn noise_of(noise: model::Noise) -> Noise {
    match noise {
        model::Noise::Isotropic => Noise::Scalar,
        model::Noise::Diagonal => Noise::Diagonal,
    }
}
