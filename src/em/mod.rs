//! Learning: sweeps over a source, M-steps, starts.

pub mod batch;
pub mod config;
pub mod factor_analyzers;
pub mod incremental;
pub mod init;
mod kept;
mod known;
pub mod linear_gaussian;
pub mod moments;
pub mod online;
mod pass;
mod passes;
mod patterns;
pub mod sbn;
mod sparse_start;
pub mod state;
pub mod stepwise;
pub mod stream;
pub mod sweep;
pub mod truncated;
pub mod truncated_stream;
mod watch;

pub use batch::{Fit, fit};
pub use config::Config;
pub use factor_analyzers::{FactorAnalyzersSpec, fit_factor_analyzers};
pub use incremental::Incremental;
pub use init::{Init, MixtureSpec, fit_mixture};
pub use known::known_from_data;
pub use linear_gaussian::{Algorithm, LinearGaussianSpec};
pub use moments::moments;
pub use online::Online;
pub use sbn::{SbnSpec, fit_sbn};
pub use state::StreamState;
pub use stepwise::{StepSize, Stepwise};
pub use stream::StreamConfig;
pub use truncated_stream::TruncatedStream;
