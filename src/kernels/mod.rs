//! Arithmetic on blocks: no model, no allocation, no threads.
//!
//! Letters, here and in formulas: N points, D dimensions, C components, H latents, L statistics,
//! B points of a tile.

pub mod accumulate;
pub mod affine;
pub mod blocking;
pub mod candidate_factors;
pub mod candidates;
pub mod dense;
pub mod dispatch;
pub mod distance;
pub mod factors;
pub mod functions;
pub mod logistic;
pub mod math;
pub mod narrow;
pub mod prefetch;
pub mod products;
#[doc(hidden)]
pub mod reference;
pub mod residual;
pub mod rows;
pub mod scatter;
pub mod softmax;
pub mod sparse;
pub mod squares;
pub mod states;
pub mod statistics;
pub mod whitened;
