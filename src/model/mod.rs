//! Generative models, and their parameters. Their traits are in [`crate::expert::model`].

pub(crate) mod autoencoder;
pub(crate) mod component_table;
mod fitted;
pub(crate) mod gaussian_observable;
mod generative_model;
pub(crate) mod linear_gaussian;
pub(crate) mod mixture;
pub(crate) mod mixture_of_factor_analyzers;
mod posterior;
mod repair;
pub(crate) mod sbn;

pub use crate::entropy::EntropySum;
pub use autoencoder::{
    Activation, LatentPrior, VariationalAutoencoder, VariationalAutoencoderParts,
};
pub use linear_gaussian::{LinearGaussian, Noise, Rotation};
pub use mixture::Mixture;
pub use mixture_of_factor_analyzers::{MixtureOfFactorAnalyzers, NoiseStructure};
pub use posterior::{Posterior, TruncatedSearch};
pub use sbn::{LatentPosterior, Layer, SigmoidBeliefNet};

/// What [`crate::expert`] names.
pub(crate) mod expert {
    pub use {
        super::fitted::{BlockSampler, Density, LatentSpace, Sample, ScoredTile},
        super::generative_model::{Constants, EStep, GenerativeModel, HalvedEStep},
        super::linear_gaussian::{Moments, SecondMoments},
        crate::entropy::entropy_of_weights,
        crate::work::{Piece, Workers},
    };
}
pub(crate) use expert::*;
