#![doc = "Mixtures of exponential families, learned by fast blocked EM and watched by entropy sums."]
pub mod block;
pub mod data;
pub mod error;
pub mod kernels;
mod linalg;
pub mod family;
pub mod stats;
pub mod scalar;
