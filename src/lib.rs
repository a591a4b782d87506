#![doc = "Mixtures of exponential families, learned by fast blocked EM and watched by entropy sums."]
pub mod atomic;
pub mod block;
pub mod data;
pub mod error;
pub mod kernels;
pub mod scalar;
