//! Learning: sweeps over a source, M-steps, starts.

pub mod batch;
pub mod config;
pub mod incremental;
pub mod init;
mod known;
pub mod online;
pub mod state;
pub mod stepwise;
pub mod stream;
pub mod sweep;

pub use batch::{Fit, fit};
pub use config::Config;
pub use incremental::Incremental;
pub use init::{Init, MixtureSpec, fit_mixture};
pub use known::known_from_data;
pub use online::Online;
pub use state::StreamState;
pub use stepwise::{StepSize, Stepwise};
pub use stream::StreamConfig;
