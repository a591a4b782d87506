#![doc = "Mixtures of exponential families, learned by fast blocked EM and watched by entropy sums."]
pub mod atomic;
pub mod block;
pub mod data;
pub mod em;
pub mod error;
pub mod exec;
pub mod family;
pub mod inference;
pub mod kernels;
mod linalg;
pub mod model;
pub mod monitor;
mod rng;
pub mod scalar;
pub mod stats;
pub mod store;
