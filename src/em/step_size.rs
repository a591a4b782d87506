//! Sizes of the steps of stepwise EM, and what their noise costs.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Sizes of the steps: `γ_t = (t + offset)^-exponent` from the second batch on; the first fills the statistics.
///
/// ```
/// use entropysum::em::StepSize;
///
/// let steps = StepSize { exponent: 0.5, offset: 2.0 };
/// assert_eq!((steps.at(1), steps.at(2), steps.at(14)), (1.0, 0.5, 0.25));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepSize {
    /// κ: above ½, so that noise averages out; at most 1, so that the start is forgotten.
    pub exponent: f64,
    /// t₀: larger ones make the first steps smaller.
    pub offset: f64,
}

impl Default for StepSize {
    /// Liang & Klein (2009) found exponents of 0.6 to 0.7 and an offset of 2 good for a range of models.
    fn default() -> Self {
        Self { exponent: 0.6, offset: 2.0 }
    }
}

impl StepSize {
    /// The step of batch `t`, from 1.
    pub fn at(self, t: u64) -> f64 {
        if t <= 1 { 1.0 } else { (t as f64 + self.offset).powf(-self.exponent).min(1.0) }
    }

    /// Says which setting is out of range.
    pub(super) fn check(self) -> Result<()> {
        if !(self.exponent > 0.5 && self.exponent <= 1.0) {
            return Err(Error::Config(format!(
                "step_exponent is {}, expected a number above 0.5 and at most 1",
                self.exponent
            )));
        }
        if !(self.offset >= 0.0 && self.offset.is_finite()) {
            return Err(Error::Config(format!(
                "step_offset is {}, expected a finite number ≥ 0",
                self.offset
            )));
        }
        Ok(())
    }
}

/// Points that running statistics hold for each component, at least: fewer define no parameters, and components are lost.
pub(super) const POINTS_PER_COMPONENT: usize = 10;

/// Returns the largest step that keeps [`POINTS_PER_COMPONENT`]: running statistics hold `B (2 - γ) / γ` points (theory 1.6).
pub(super) fn largest_step(n_components: usize, batch: f64) -> f64 {
    let wanted = (POINTS_PER_COMPONENT * n_components) as f64;
    (2.0 * batch / (wanted + batch)).min(1.0)
}

/// What the noise of parameters costs at a constant step: nats per point of log-likelihood, at most, `p γ / 4 B` with `p` free
/// parameters and batches of `B` points (theory 1.6).
pub(super) fn noise_of_step(step: f64, n_parameters: usize, batch: f64) -> f64 {
    n_parameters as f64 * step / (4.0 * batch)
}
