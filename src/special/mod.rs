//! Special functions of the families' formulas: plain `f64` scalars, for parameters and never for points.
//!
//! `ln Γ` is that of the `libm` crate (FreeBSD's `lgamma`), the rest is our own: no well-kept crate offers trigamma, the
//! cancellation-free differences to Stirling's formula, or Bessel functions of every order and size in logarithms.
//! Entropies are written in terms of those differences, so that they keep their digits where the textbook forms cancel:
//! for a gamma of shape 1e12, 15 instead of 3. Errors stated are the largest that `tests/suite/special_functions.rs` found
//! against values of 40 digits.

mod bessel;
mod dirichlet;
mod elementary;
mod gamma;

pub use bessel::{
    bessel_ratio, bessel_ratio_inverse, ln_bessel_i, von_mises_fisher_entropy,
    von_mises_fisher_log_partition,
};
pub use dirichlet::{dirichlet_concentration, dirichlet_entropy, ln_beta};
pub use elementary::{
    bernoulli_entropy, ln_add_exp, scaled_exponential_integral, sigmoid, softplus,
};
pub use gamma::{
    digamma, gamma_entropy, gamma_shape, inverse_digamma, ln_gamma, ln_minus_digamma,
    stirling_remainder, trigamma,
};
