//! Exponential families: one file each, plus one line in [`registry`].
//!
//! A family is its statistics `T(x)`, the natural parameters `η` and log-partition `A(η)` of its standard
//! parameters, the mean map `∇A` and its inverse (the M-step). The engine supplies everything else: responsibilities,
//! sums, entropies (Eqn 51), the monitor, files and the command line.
//!
//! `p(x | c) = h(x) exp(η_c · T(x) + η_0 · T_0(x) - A_c)`, where `T_0` and `η_0` are shared by all components (tied
//! covariances) and usually absent.

mod base_measure;
pub(crate) mod bernoulli;
pub(crate) mod beta;
pub(crate) mod binomial;
pub(crate) mod categorical;
mod covariance;
pub(crate) mod dirichlet;
pub(crate) mod exponential;
mod exponential_family;
mod feature;
pub(crate) mod floor;
pub(crate) mod gamma;
pub(crate) mod gaussian;
pub(crate) mod gaussian_known_variance;
pub(crate) mod geometric;
pub(crate) mod independent;
pub(crate) mod inverse_gamma;
pub(crate) mod inverse_gaussian;
mod known_parameters;
pub(crate) mod label;
pub(crate) mod laplace;
pub(crate) mod log_normal;
pub(crate) mod multinomial;
pub(crate) mod negative_binomial;
mod observed_gaussian;
pub(crate) mod poisson;
mod prior;
pub(crate) mod product;
pub mod registry;
pub(crate) mod support;
pub(crate) mod von_mises;
pub(crate) mod von_mises_fisher;
pub(crate) mod weibull;

pub use bernoulli::Bernoulli;
pub use beta::Beta;
pub use binomial::Binomial;
pub use categorical::Categorical;
pub use dirichlet::Dirichlet;
pub use exponential::Exponential;
pub use exponential_family::{Parameters, Regularization};
pub use gamma::Gamma;
pub use gaussian::{Covariance, Gaussian};
pub use gaussian_known_variance::GaussianKnownVariance;
pub use geometric::Geometric;
pub use inverse_gamma::InverseGamma;
pub use inverse_gaussian::InverseGaussian;
pub use known_parameters::KnownParameters;
pub use laplace::Laplace;
pub use log_normal::LogNormal;
pub use multinomial::Multinomial;
pub use negative_binomial::NegativeBinomial;
pub use poisson::Poisson;
pub use prior::ConjugatePrior;
pub use product::Product;
pub use support::Support;
pub use von_mises::VonMises;
pub use von_mises_fisher::VonMisesFisher;
pub use weibull::Weibull;

/// What [`crate::expert`] names.
pub(crate) mod expert {
    pub use {
        super::base_measure::BaseMeasure,
        super::exponential_family::{
            CentredForm, Constraint, ExponentialFamily, Outcome, Packing, ParameterSpec, Sampler,
            Theta,
        },
        super::feature::Feature,
        super::independent::{Dispersion, Independent, Univariate},
        super::product::ProductBlock,
        super::support::Domain,
        crate::kernels::{statistics::Statistic, whitened::Whitening},
    };
}
pub(crate) use expert::*;
