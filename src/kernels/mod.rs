//! Arithmetic on blocks: no model, no allocation, no threads.
//!
//! Letters, here and in formulas: N points, D dimensions, C components, H latents, L statistics,
//! B points of a tile.

pub mod dispatch;
pub mod math;
#[doc(hidden)]
pub mod reference;
pub mod softmax;
