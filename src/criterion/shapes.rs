//! Models other than mixtures, reduced to what the criterion needs: the maps of their natural parameters.

use super::factor_analyzers::factor_analyzers;
use super::{Factor, FactorModel, Statement, family::Categorical, mixture};
use crate::error::{Error, Result};
use crate::family::{KnownParameters, product, registry};
use crate::model;

/// The size of the model that the criterion is tested with. The result depends on no size, but a test must not be trivial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Number of components C of a mixture.
    pub n_components: usize,
    /// Dimension D of the points.
    pub dim: usize,
    /// Number of latents H of other models, in each layer.
    pub n_latents: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { n_components: 3, dim: 3, n_latents: 2 }
    }
}

type Build = fn(&str, Sizes) -> FactorModel;

/// Models that are not mixtures of a family of the registry.
static SHAPES: &[(&str, Build)] = &[
    ("ppca", |name, sizes| linear(name, sizes, Scale::Free, Noise::Scalar)),
    ("ppca-fixed-prior", |name, sizes| linear(name, sizes, Scale::Fixed, Noise::Scalar)),
    ("factor-analysis", |name, sizes| linear(name, sizes, Scale::Free, Noise::Diagonal)),
    ("factor-analysis-fixed-prior", |name, sizes| {
        linear(name, sizes, Scale::Fixed, Noise::Diagonal)
    }),
    ("mfa", |_, sizes| factor_analyzers(model::NoiseStructure::Diagonal, sizes)),
    ("mfa-tied", |_, sizes| factor_analyzers(model::NoiseStructure::Tied, sizes)),
    ("mppca", |_, sizes| factor_analyzers(model::NoiseStructure::Isotropic, sizes)),
    ("mppca-fixed-prior", |name, sizes| mixture_with_fixed_prior(name, sizes, Noise::Scalar)),
    ("mfa-fixed-prior", |name, sizes| mixture_with_fixed_prior(name, sizes, Noise::Diagonal)),
    ("linear-fixed-noise", |name, sizes| linear(name, sizes, Scale::Free, Noise::Fixed)),
    ("gaussian-fixed-variance", |name, sizes| {
        let Sizes { n_components, dim, .. } = sizes;
        let observable = FixedVariance { n_components, dim };
        let prior = Categorical { n_components };
        FactorModel::new(name, vec![Box::new(prior), Box::new(observable)])
    }),
    ("vae", |_, sizes| autoencoder(false, sizes)),
    ("sparse-coding", |_, sizes| autoencoder(true, sizes)),
    ("binary-sparse-coding", |_, sizes| binary_sparse_coding(sizes, Noise::Scalar)),
    ("sbn", |_, sizes| sigmoid_belief_net(&[sizes.n_latents, sizes.dim])),
    ("sbn-3-layers", |_, sizes| sigmoid_belief_net(&[sizes.n_latents, sizes.n_latents, sizes.dim])),
];

/// Lists the names of all built-in models: the families of the registry, then other models.
///
/// Models with the suffix `-fixed-prior` have the prior `N(0, I)`; without it the prior is `N(0, τ I)` with a free τ.
pub fn names() -> impl Iterator<Item = &'static str> {
    registry::names().chain(SHAPES.iter().map(|(name, _)| *name))
}

/// Builds the built-in model of this name: a mixture of a family of the registry, with its known parameters, or another
/// model.
///
/// # Errors
/// [`Error::Config`] if a size is zero. [`Error::Model`] lists all models if the name is unknown, and names a known
/// parameter that is missing.
///
/// ```
/// use entropysum::expert::criterion::Statement;
/// use entropysum::expert::{Sizes, built_in};
/// use entropysum::family::KnownParameters;
///
/// let known = KnownParameters::default();
/// let report = built_in("ppca", Sizes::default(), &known)?.check(8, 0);
/// assert_eq!(report.applies, Some(Statement::ScalarVariance));
/// let report = built_in("ppca-fixed-prior", Sizes::default(), &known)?.check(8, 0);
/// assert!(!report.factors[0].holds && report.factors[1].holds); // nothing scales the prior
/// # Ok::<(), entropysum::Error>(())
/// ```
pub fn built_in(name: &str, sizes: Sizes, known: &KnownParameters) -> Result<FactorModel> {
    if sizes.n_components == 0 || sizes.dim == 0 || sizes.n_latents == 0 {
        return Err(Error::Config(format!("{sizes:?}: expected sizes of at least 1")));
    }
    if let Some((_, build)) = SHAPES.iter().find(|(known, _)| *known == name) {
        return Ok(build(name, sizes));
    }
    if registry::names().any(|known| known == name) || product::is_product(name) {
        return Ok(mixture(registry::build_known(name, sizes.dim, known)?, sizes.n_components));
    }
    let known: Vec<_> = names().collect();
    Err(Error::Model(format!("no model is called {name:?}; there are {}", known.join(", "))))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Free,
    Fixed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noise {
    Fixed,
    Scalar,
    Diagonal,
}

pub(super) fn linear(name: &str, sizes: Sizes, scale: Scale, noise: Noise) -> FactorModel {
    let Sizes { dim, n_latents, .. } = sizes;
    let prior = GaussianPrior { n_latents, scale };
    let observable = LinearGaussian { dim, n_latents, noise };
    FactorModel::new(name, vec![Box::new(prior), Box::new(observable)]).stated_by(match noise {
        Noise::Fixed => Statement::Definition,
        Noise::Scalar => Statement::ScalarVariance,
        Noise::Diagonal => Statement::DiagonalCovariance,
    })
}

/// Builds a linear model for each component, all with the prior `N(0, I)`.
fn mixture_with_fixed_prior(name: &str, sizes: Sizes, noise: Noise) -> FactorModel {
    let Sizes { n_components, dim, n_latents } = sizes;
    let prior = GaussianPrior { n_latents, scale: Scale::Fixed };
    let observable = LinearGaussian { dim, n_latents, noise };
    let factors: Vec<Box<dyn Factor>> = vec![
        Box::new(Categorical { n_components }),
        Box::new(PerComponent { name: "p(z | c)", inner: Box::new(prior), n_components }),
        Box::new(PerComponent { name: "p(x | c, z)", inner: Box::new(observable), n_components }),
    ];
    FactorModel::new(name, factors)
}

/// Builds a network with these numbers of units in its two or three layers, from the top.
pub(super) fn sigmoid_belief_net(units: &[usize]) -> FactorModel {
    let (name, variables) = match units.len() {
        2 => ("sbn", &["z", "x"][..]),
        _ => ("sbn-3-layers", &["z", "y", "x"][..]),
    };
    let mut factors: Vec<Box<dyn Factor>> = vec![Box::new(BernoulliPrior { n_latents: units[0] })];
    for (sizes, names) in units.windows(2).zip(variables.windows(2)) {
        let name = format!("p({} | {})", names[1], names[0]);
        factors.push(Box::new(SigmoidLayer { name, n_units: sizes[1], n_latents: sizes[0] }));
    }
    FactorModel::new(name, factors).stated_by(Statement::SigmoidBeliefNet)
}

/// Builds binary sparse coding: binary latents, and a linear Gaussian layer.
pub(super) fn binary_sparse_coding(sizes: Sizes, noise: Noise) -> FactorModel {
    let Sizes { dim, n_latents, .. } = sizes;
    let prior = BernoulliPrior { n_latents };
    let observable = LinearGaussian { dim, n_latents, noise };
    FactorModel::new("binary-sparse-coding", vec![Box::new(prior), Box::new(observable)]).stated_by(
        match noise {
            Noise::Fixed => Statement::Definition,
            Noise::Scalar => Statement::ScalarVariance,
            Noise::Diagonal => Statement::DiagonalCovariance,
        },
    )
}

/// Builds an autoencoder with three hidden units in its decoder, or with a Laplace prior and a linear decoder.
fn autoencoder(is_sparse: bool, sizes: Sizes) -> FactorModel {
    const HIDDEN: usize = 3;
    let Sizes { dim, n_latents, .. } = sizes;
    let layer = |inputs: usize, outputs: usize| {
        let weights: Vec<f64> = (0..inputs * outputs).map(|k| (k as f64 * 0.7).sin()).collect();
        model::Layer::new(inputs, &weights, &vec![0.1; outputs])
    };
    let decoder = match is_sparse {
        true => vec![layer(n_latents, dim)],
        false => vec![layer(n_latents, HIDDEN), layer(HIDDEN, dim)],
    };
    let build = || {
        model::VariationalAutoencoder::new(model::VariationalAutoencoderParts {
            encoder: vec![layer(dim, 2 * n_latents)?],
            decoder: decoder.into_iter().collect::<Result<_>>()?,
            activation: model::Activation::Tanh,
            prior: if is_sparse {
                model::LatentPrior::Laplace
            } else {
                model::LatentPrior::Standard
            },
            prior_scales: vec![1.0; n_latents],
            noise: model::Noise::Isotropic,
            noise_variances: vec![0.5],
            centre: vec![0.0; dim],
            scale: vec![1.0; dim],
        })
    };
    FactorModel::of_autoencoder(&build().expect("sizes agree"))
}

/// Draws a number that is roughly normal, of variance 1: enough to be in no special position.
pub(super) fn normal(uniform: &mut dyn FnMut() -> f64) -> f64 {
    (0..12).map(|_| uniform()).sum::<f64>() - 6.0
}

pub(super) fn normals(n: usize, uniform: &mut dyn FnMut() -> f64) -> Vec<f64> {
    (0..n).map(|_| normal(uniform)).collect()
}

pub(super) fn variances(n: usize, uniform: &mut dyn FnMut() -> f64) -> impl Iterator<Item = f64> {
    (0..n).map(move |_| (normal(uniform)).exp())
}

pub(super) fn array(name: &str, len: usize) -> (String, usize) {
    (name.to_owned(), len)
}

/// `N(z; 0, τ I)` with statistics `z` and `|z|²`, so that its base measure is constant.
struct GaussianPrior {
    n_latents: usize,
    scale: Scale,
}

impl Factor for GaussianPrior {
    fn name(&self) -> String {
        "p(z)".into()
    }

    fn parameters(&self) -> Vec<(String, usize)> {
        match self.scale {
            Scale::Free => vec![array("prior_variance", 1)],
            Scale::Fixed => Vec::new(),
        }
    }

    fn draw_parameters(&self, uniform: &mut dyn FnMut() -> f64) -> Vec<f64> {
        variances(usize::from(self.scale == Scale::Free), uniform).collect()
    }

    fn natural(&self, _: &[f64], parameters: &[f64]) -> Vec<f64> {
        let variance = parameters.first().copied().unwrap_or(1.0);
        let mut natural = vec![0.0; self.n_latents];
        natural.push(-0.5 / variance);
        natural
    }

    fn closed_form(&self, parameters: &[f64]) -> Option<Vec<f64>> {
        (self.scale == Scale::Free).then(|| vec![-parameters[0]])
    }
}

/// `N(x; W z + μ, Σ)` with one variance, with one a dimension, or with variance 1.
struct LinearGaussian {
    dim: usize,
    n_latents: usize,
    noise: Noise,
}

impl LinearGaussian {
    fn n_variances(&self) -> usize {
        match self.noise {
            Noise::Fixed => 0,
            Noise::Scalar => 1,
            Noise::Diagonal => self.dim,
        }
    }
}

/// Returns `W z + μ`, with W row-major before μ in the parameters.
pub(super) fn affine(dim: usize, z: &[f64], parameters: &[f64]) -> Vec<f64> {
    let (weights, offsets) = parameters.split_at(dim * z.len());
    let rows = weights.chunks(z.len()).zip(offsets);
    rows.map(|(row, offset)| offset + row.iter().zip(z).map(|(w, z)| w * z).sum::<f64>()).collect()
}

impl Factor for LinearGaussian {
    fn name(&self) -> String {
        "p(x | z)".into()
    }

    fn parameters(&self) -> Vec<(String, usize)> {
        let mut arrays =
            vec![array("loadings", self.dim * self.n_latents), array("mean", self.dim)];
        if self.noise != Noise::Fixed {
            arrays.push(array("noise_variance", self.n_variances()));
        }
        arrays
    }

    fn draw_parameters(&self, uniform: &mut dyn FnMut() -> f64) -> Vec<f64> {
        let mut parameters = normals(self.dim * (self.n_latents + 1), uniform);
        parameters.extend(variances(self.n_variances(), uniform));
        parameters
    }

    fn draw_latents(&self, n: usize, uniform: &mut dyn FnMut() -> f64) -> Vec<Vec<f64>> {
        (0..n).map(|_| normals(self.n_latents, uniform)).collect()
    }

    fn natural(&self, z: &[f64], parameters: &[f64]) -> Vec<f64> {
        let (map, variances) = parameters.split_at(self.dim * (self.n_latents + 1));
        let variance = |d: usize| match self.noise {
            Noise::Fixed => 1.0,
            Noise::Scalar => variances[0],
            Noise::Diagonal => variances[d],
        };
        let means = affine(self.dim, z, map);
        let mut natural: Vec<f64> =
            means.iter().enumerate().map(|(d, mean)| mean / variance(d)).collect();
        // One statistic |x|² where there is one variance.
        let n_quadratic = if self.noise == Noise::Diagonal { self.dim } else { 1 };
        natural.extend((0..n_quadratic).map(|d| -0.5 / variance(d)));
        natural
    }

    fn closed_form(&self, parameters: &[f64]) -> Option<Vec<f64>> {
        let split = self.dim * (self.n_latents + 1);
        let flow = parameters.iter().enumerate();
        (self.noise != Noise::Fixed)
            .then(|| flow.map(|(i, value)| if i < split { 0.0 } else { -value }).collect())
    }
}

/// A factor that has its own parameters for each component. The component is the first latent.
struct PerComponent {
    name: &'static str,
    inner: Box<dyn Factor>,
    n_components: usize,
}

impl Factor for PerComponent {
    fn name(&self) -> String {
        self.name.into()
    }

    fn parameters(&self) -> Vec<(String, usize)> {
        (0..self.n_components).flat_map(|_| self.inner.parameters()).collect()
    }

    fn draw_parameters(&self, uniform: &mut dyn FnMut() -> f64) -> Vec<f64> {
        (0..self.n_components).flat_map(|_| self.inner.draw_parameters(uniform)).collect()
    }

    fn draw_latents(&self, n: usize, uniform: &mut dyn FnMut() -> f64) -> Vec<Vec<f64>> {
        let each = n.div_ceil(self.n_components);
        let mut latents = Vec::new();
        for c in 0..self.n_components {
            let inner = self.inner.draw_latents(each, uniform);
            latents.extend(inner.into_iter().map(|z| [vec![c as f64], z].concat()));
        }
        latents
    }

    fn natural(&self, latents: &[f64], parameters: &[f64]) -> Vec<f64> {
        let size = parameters.len() / self.n_components;
        self.inner.natural(&latents[1..], &parameters[latents[0] as usize * size..][..size])
    }

    fn closed_form(&self, parameters: &[f64]) -> Option<Vec<f64>> {
        let size = parameters.len() / self.n_components;
        let flow = |c: usize| self.inner.closed_form(&parameters[c * size..][..size]);
        (0..self.n_components).map(flow).collect::<Option<Vec<_>>>().map(|flows| flows.concat())
    }
}

/// Gaussians `N(x; μ_c, I)` whose variance is no parameter, with statistics `x` and `|x|²`.
struct FixedVariance {
    n_components: usize,
    dim: usize,
}

impl Factor for FixedVariance {
    fn name(&self) -> String {
        "p(x | c)".into()
    }

    fn parameters(&self) -> Vec<(String, usize)> {
        vec![array("means", self.n_components * self.dim)]
    }

    fn draw_parameters(&self, uniform: &mut dyn FnMut() -> f64) -> Vec<f64> {
        normals(self.n_components * self.dim, uniform)
    }

    fn draw_latents(&self, _: usize, _: &mut dyn FnMut() -> f64) -> Vec<Vec<f64>> {
        (0..self.n_components).map(|c| vec![c as f64]).collect()
    }

    fn natural(&self, z: &[f64], parameters: &[f64]) -> Vec<f64> {
        let mean = &parameters[z[0] as usize * self.dim..][..self.dim];
        mean.iter().copied().chain([-0.5]).collect()
    }
}

/// Independent latents that are 0 or 1.
pub(super) struct BernoulliPrior {
    pub n_latents: usize,
}

impl Factor for BernoulliPrior {
    fn name(&self) -> String {
        "p(z)".into()
    }

    fn parameters(&self) -> Vec<(String, usize)> {
        vec![array("prior_probabilities", self.n_latents)]
    }

    fn draw_parameters(&self, uniform: &mut dyn FnMut() -> f64) -> Vec<f64> {
        (0..self.n_latents).map(|_| 0.02 + 0.96 * uniform()).collect()
    }

    fn natural(&self, _: &[f64], parameters: &[f64]) -> Vec<f64> {
        parameters.iter().map(|p| (p / (1.0 - p)).ln()).collect()
    }

    fn closed_form(&self, parameters: &[f64]) -> Option<Vec<f64>> {
        Some(parameters.iter().map(|p| p * (1.0 - p) * (p / (1.0 - p)).ln()).collect())
    }
}

/// Units that are 0 or 1, with log-odds `W z + μ`.
struct SigmoidLayer {
    name: String,
    n_units: usize,
    n_latents: usize,
}

impl Factor for SigmoidLayer {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn parameters(&self) -> Vec<(String, usize)> {
        vec![array("weights", self.n_units * self.n_latents), array("biases", self.n_units)]
    }

    fn draw_parameters(&self, uniform: &mut dyn FnMut() -> f64) -> Vec<f64> {
        normals(self.n_units * (self.n_latents + 1), uniform)
    }

    fn draw_latents(&self, n: usize, uniform: &mut dyn FnMut() -> f64) -> Vec<Vec<f64>> {
        let bit = |b: bool| f64::from(u8::from(b));
        match self.n_latents {
            few @ ..=6 => (0..1usize << few)
                .map(|state| (0..few).map(|h| bit(state >> h & 1 == 1)).collect())
                .collect(),
            many => (0..n).map(|_| (0..many).map(|_| bit(uniform() < 0.5)).collect()).collect(),
        }
    }

    fn natural(&self, z: &[f64], parameters: &[f64]) -> Vec<f64> {
        affine(self.n_units, z, parameters)
    }

    fn closed_form(&self, parameters: &[f64]) -> Option<Vec<f64>> {
        Some(parameters.to_vec())
    }
}
