//! Learning: what to fit, from which points, by which steps.
//!
//! [`fit`] and [`Fitting`] are the way in. A [`Spec`] says what to fit; it makes a [`Learner`], and one driver learns it:
//!
//! ```text
//! batch -> e_step -> accumulated statistics -> m_step -> entropy sum, bound -> record -> observer
//! ```
//!
//! Batch EM, stepwise EM, incremental EM and remembered minibatches differ in how statistics are accumulated, and in nothing else.

mod accumulator;
pub(crate) mod autoencoder;
mod checkpoint;
mod config;
mod driver;
mod elsewhere;
pub(crate) mod factor_analyzers;
mod fit_result;
mod fitting;
pub(crate) mod incremental;
pub(crate) mod init;
mod known_parameters;
mod lanes;
pub(crate) mod last_batches;
pub(crate) mod learner;
pub(crate) mod linear_gaussian;
mod model_learner;
mod moment_passes;
pub(crate) mod moments;
mod observed_patterns;
pub(crate) mod online;
mod row_memory;
pub(crate) mod sbn;
mod step_size;
pub(crate) mod stepwise;
pub(crate) mod stream;
pub(crate) mod sweep;
pub(crate) mod truncated;
pub(crate) mod truncated_mixture;

pub use autoencoder::{AutoencoderSpec, LearningRateSchedule};
pub use checkpoint::{Checkpoint, Saved};
pub use config::Config;
pub use driver::Fit;
pub use factor_analyzers::FactorAnalyzersSpec;
pub use fitting::{Fitting, Spec, fit};
pub use init::{Init, MixtureSpec};
pub use known_parameters::known_from_data;
pub use linear_gaussian::{LinearGaussianAlgorithm, LinearGaussianSpec};
pub use online::Online;
pub use sbn::SbnSpec;
pub use step_size::StepSize;
pub use stream::{StreamAlgorithm, StreamConfig};

/// What [`crate::expert`] names.
pub(crate) mod expert {
    pub use {
        super::checkpoint::Settings,
        super::elsewhere::{Elsewhere, e_step_of_part},
        super::incremental::Incremental,
        super::init::rows_looked_at,
        super::learner::{Batch, Learner, Maximizer, Mergeable, Standing, Step},
        super::linear_gaussian::{Form, Method, Summary},
        super::model_learner::{ModelLearner, ModelMaximizer},
        super::row_memory::RowMemory,
        super::stepwise::Stepwise,
        crate::work::{Alone, Piece, Workers},
    };
}
#[cfg(feature = "files")]
pub(crate) use expert::*;
