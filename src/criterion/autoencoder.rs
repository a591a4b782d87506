//! Autoencoders as factors, and their gap identity on data.

use super::shapes::{BernoulliPrior, array, normals, variances};
use super::solve::derivative;
use super::{CertifiedGap, Factor, FactorModel, Statement};
use crate::data::DataSource;
use crate::em::autoencoder::statistics;
use crate::error::Result;
use crate::exec::Executor;
use crate::model::{
    GenerativeModel, LatentPrior, Layer, Noise, SigmoidBeliefNet, VariationalAutoencoder,
    VariationalAutoencoderParts,
};
use crate::scalar::Scalar;

/// Steps of the derivatives of the bound along α and β, which scale the model by themselves: see `solve::STEP`.
const STEP: f64 = 7.4e-4;

/// Evaluates both sides of the gap identity for an autoencoder on points, with its posteriors and one sample for each point.
///
/// The right side uses no entropy: it is the derivative of the bound along `α`, which scales the prior, and along `β = -σ²`, which scales
/// the noise.
///
/// # Errors
/// If dimensions differ, if the source is empty, if reading fails, or if a value of a point is not finite.
pub fn certify_autoencoder<T: Scalar>(
    model: &VariationalAutoencoder,
    source: &dyn DataSource<T>,
    executor: &Executor,
) -> Result<CertifiedGap> {
    let stats = statistics(model, source, executor)?;
    let bound = |prior, noise| vec![model.scaled(prior, noise).lower_bound(&stats)];
    Ok(CertifiedGap {
        lower_bound: model.lower_bound(&stats),
        entropy_sum: model.entropy_sum(&stats).total(),
        prior: derivative(&|t| bound(1.0 - t, 1.0), STEP)[0],
        observable: derivative(&|t| bound(1.0, 1.0 - t), STEP)[0],
    })
}

impl FactorModel {
    /// Makes factors of an autoencoder. The scales of its prior, which networks have absorbed, are free. A check begins with its own
    /// parameters.
    pub fn of_autoencoder(model: &VariationalAutoencoder) -> Self {
        let noise = if model.noise() == Noise::Isotropic { 1 } else { model.dim() };
        let own = [model.decoder_parameters(), &model.noise_variances()[..noise]].concat();
        let prior = Prior { prior: model.prior(), n_latents: model.n_latents() };
        let scales = model.prior_scales().to_vec();
        let observable = Observable { model: model.clone() };
        let is_gaussian = model.prior() != LatentPrior::Laplace;
        Self::new("vae", vec![Box::new(prior), Box::new(observable)])
            .stated_by(match (is_gaussian, model.noise()) {
                (false, _) => Statement::Definition,
                (true, Noise::Isotropic) => Statement::ScalarVariance,
                (true, Noise::Diagonal) => Statement::DiagonalCovariance,
            })
            .with_parameters(vec![scales, own])
    }
}

impl FactorModel {
    /// Makes factors of binary sparse coding with hidden layers in its decoder. A check begins with its own parameters.
    pub(super) fn of_binary_autoencoder(code: &SigmoidBeliefNet) -> Self {
        let (dim, n_latents) = (code.dim(), code.prior().len());
        let array = |name| code.parameter(name).expect("a name of this model");
        let noise = code.noise().unwrap_or(Noise::Isotropic);
        let (mut decoder, activation) = code.hidden_layers();
        decoder.push(code.observables().clone());
        // Points and latents of a check are given, so that no encoder is asked.
        let encoder = Layer::new(dim, &vec![0.0; 2 * n_latents * dim], &vec![0.0; 2 * n_latents]);
        let network = encoder.and_then(|encoder| {
            VariationalAutoencoder::new(VariationalAutoencoderParts {
                encoder: vec![encoder],
                decoder,
                activation,
                prior: LatentPrior::Standard,
                prior_scales: vec![1.0; n_latents],
                noise,
                noise_variances: array("noise_variance"),
                centre: array("centre"),
                scale: vec![1.0; dim],
            })
        });
        let model = network.expect("sizes of the model agree");
        let own = [model.decoder_parameters(), &array("noise_variance")].concat();
        let prior = BernoulliPrior { n_latents };
        Self::new("binary-sparse-coding", vec![Box::new(prior), Box::new(Observable { model })])
            .stated_by(match noise {
                Noise::Isotropic => Statement::ScalarVariance,
                Noise::Diagonal => Statement::DiagonalCovariance,
            })
            .with_parameters(vec![code.prior().to_vec(), own])
    }
}

/// Independent latents with a scale each; the statistics are `z²` or `|z|`.
struct Prior {
    prior: LatentPrior,
    n_latents: usize,
}

impl Factor for Prior {
    fn name(&self) -> String {
        "p(z)".into()
    }

    fn parameters(&self) -> Vec<(String, usize)> {
        vec![array("prior_scale", self.n_latents)]
    }

    fn draw_parameters(&self, uniform: &mut dyn FnMut() -> f64) -> Vec<f64> {
        variances(self.n_latents, uniform).collect()
    }

    fn natural(&self, _: &[f64], parameters: &[f64]) -> Vec<f64> {
        let factor = if self.prior == LatentPrior::Laplace { -1.0 } else { -0.5 };
        parameters.iter().map(|scale| factor / scale).collect()
    }

    fn closed_form(&self, parameters: &[f64]) -> Option<Vec<f64>> {
        Some(parameters.iter().map(|scale| -scale).collect())
    }
}

/// `N(x; μ(z), Σ)` with one variance or one a dimension; the parameters are those of the decoder, then variances.
struct Observable {
    model: VariationalAutoencoder,
}

impl Observable {
    fn n_variances(&self) -> usize {
        if self.model.noise() == Noise::Isotropic { 1 } else { self.model.dim() }
    }

    fn n_weights(&self) -> usize {
        self.model.decoder_parameters().len()
    }
}

impl Factor for Observable {
    fn name(&self) -> String {
        "p(x | z)".into()
    }

    fn parameters(&self) -> Vec<(String, usize)> {
        vec![array("decoder", self.n_weights()), array("noise_variance", self.n_variances())]
    }

    fn draw_parameters(&self, uniform: &mut dyn FnMut() -> f64) -> Vec<f64> {
        let mut parameters = normals(self.n_weights(), uniform);
        parameters.extend(variances(self.n_variances(), uniform));
        parameters
    }

    fn draw_latents(&self, n: usize, uniform: &mut dyn FnMut() -> f64) -> Vec<Vec<f64>> {
        (0..n).map(|_| normals(self.model.n_latents(), uniform)).collect()
    }

    fn natural(&self, z: &[f64], parameters: &[f64]) -> Vec<f64> {
        let (decoder, variances) = parameters.split_at(self.n_weights());
        let means = self.model.means_of(decoder, z);
        let variance = |d: usize| variances[d.min(variances.len() - 1)];
        let linear = means.iter().enumerate().map(|(d, mean)| mean / variance(d));
        // One statistic |x|² where there is one variance.
        linear.chain(variances.iter().map(|variance| -0.5 / variance)).collect()
    }

    fn closed_form(&self, parameters: &[f64]) -> Option<Vec<f64>> {
        let n_weights = self.n_weights();
        let flow = parameters.iter().enumerate();
        Some(flow.map(|(i, value)| if i < n_weights { 0.0 } else { -value }).collect())
    }
}
