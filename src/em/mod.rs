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
mod checkpoint;
mod config;
mod driver;
pub mod factor_analyzers;
mod fitting;
pub mod incremental;
pub mod init;
mod known_parameters;
mod lanes;
pub mod last_batches;
pub mod learner;
pub mod linear_gaussian;
mod model_learner;
mod moment_passes;
pub mod moments;
mod observed_patterns;
pub mod online;
mod row_memory;
pub mod sbn;
mod sparse_start;
pub mod stepwise;
pub mod stream;
pub mod sweep;
pub mod truncated;

pub use checkpoint::{Checkpoint, Saved, Settings};
pub use config::Config;
pub use driver::Fit;
pub use factor_analyzers::{FactorAnalyzersSpec, start_factor_analyzers};
pub use fitting::{Fitting, Spec, fit};
pub use incremental::Incremental;
pub use init::{Init, MixtureSpec};
pub use known_parameters::known_from_data;
pub use learner::{Batch, Learner, Maximizer, Mergeable, Standing, Step};
pub use linear_gaussian::{LinearGaussianAlgorithm, LinearGaussianSpec};
pub use model_learner::{ModelLearner, ModelMaximizer};
pub use moments::moments;
pub use online::Online;
pub use sbn::SbnSpec;
pub use stepwise::{StepSize, Stepwise};
pub use stream::{StreamAlgorithm, StreamConfig};
