//! Learning: sweeps over a source, M-steps, starts.

pub mod batch;
pub mod config;
pub mod init;
mod known;
pub mod sbn;
pub mod sweep;
pub mod truncated;

pub use batch::{Fit, fit};
pub use config::Config;
pub use init::{Init, MixtureSpec, fit_mixture};
pub use known::known_from_data;
pub use sbn::{SbnSpec, fit_sbn};
