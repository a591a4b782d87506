//! Traits for models and families of your own, and parts of the engine. **No promise of stability.**
//!
//! | part | what for |
//! |---|---|
//! | [`family`] | families of your own |
//! | [`model`], [`em`], [`stats`] | models and learners of your own, and statistics to learn from |
//! | [`store`] | files of models of your own |
//! | [`rng`] | the random numbers that families draw from |
//! | [`criterion`], [`gaussian_observable`] | the theory: Definition 1, certified gaps, monitors of other programs' models |
//! | [`Sweeper`], [`Lanes`] | one E-step over a source, without a fit |
//! | [`start_mixture`], [`start_factor_analyzers`], [`start_sbn`] | the start of a fit |
//! | [`moments`], [`moment_stats`] | means and covariances of points |
//! | [`search_states`], [`Gradient`] | truncated posteriors and gradients of sigmoid belief networks |
//! | [`softmax`], [`log_sum_exp`], [`exp_in_place`], [`mod@reference`] | kernels, and plain code to hold them against |
//! | [`special`] | special functions |
//! | [`built_in`], [`solve`] | the criterion of the theory: models by name, one factor at a time |
//! | [`BatchOrder`] | the order in which a fit by minibatches reads its points |
//!
//! The rest serves tests, benches and the command line.

pub use crate::block::SparseRows;
pub use crate::criterion::shapes::{Sizes, built_in, names as names_of_built_in};
pub use crate::criterion::solve::{Solution, solve};
pub use crate::data::shuffle::BatchOrder;
pub use crate::em::factor_analyzers::start_factor_analyzers;
pub use crate::em::init::start as start_mixture;
pub use crate::em::moments::{moment_stats, moments};
pub use crate::em::sbn::start as start_sbn;
pub use crate::em::sweep::{Lanes, Sweeper};
pub use crate::em::truncated::search as search_states;
pub use crate::family::product::{is_product, name_of as name_of_product, parse as parse_product};
pub use crate::kernels::dispatch::{Level, Simd};
pub use crate::kernels::math::{exp_in_place, ln_in_place};
pub use crate::kernels::reference;
pub use crate::kernels::softmax::{argmax, log_sum_exp, padded_stride, softmax};
pub use crate::model::sbn::{Gradient, MAX_ENUMERATED};
pub use crate::monitor::history::COLUMNS as HISTORY_COLUMNS;

#[cfg(feature = "files")]
pub use crate::atomic::{AtomicFile, write_atomically};
#[cfg(feature = "files")]
pub use crate::data::{
    raw::RawFile,
    text::{parse_text, read_text},
};
#[cfg(feature = "cli")]
pub use crate::picture::write_features;

/// Families of your own: their traits, and what these name.
pub mod family {
    pub use crate::family::expert::*;
}

/// Models of your own: the traits that the engine calls, and what these name.
///
/// | trait | for |
/// |---|---|
/// | [`GenerativeModel`](model::GenerativeModel) | parameters and M-steps, in `f64` |
/// | [`Density`](model::Density) | densities and posteriors of points |
/// | [`EStep`](model::EStep) | sweeps over points; implement it for a model that learns |
/// | [`HalvedEStep`](model::HalvedEStep) | optional, for sums too large for a copy in every lane |
/// | [`Sample`](model::Sample), [`LatentSpace`](model::LatentSpace) | draws of points; latents of points |
pub mod model {
    pub use crate::model::expert::*;
}

/// Learners of your own: their traits, and what these name.
pub mod em {
    pub use crate::em::expert::*;
}

/// Sufficient statistics.
pub mod stats {
    pub use crate::stats::*;
}

/// Files of models of your own.
pub mod store {
    pub use crate::store::expert::*;
}

/// Random numbers that depend on seed and place alone.
pub mod rng {
    pub use crate::rng::*;
}

/// The parameterisation criterion (Definition 1), and certified gaps.
pub mod criterion {
    pub use crate::criterion::*;
}

/// Entropy sums and gaps of models with Gaussian observables that other programs learn.
pub mod gaussian_observable {
    pub use crate::model::gaussian_observable::*;
}

/// Special functions of the families' formulas, for `f64`.
pub mod special {
    pub use crate::special::*;
}
