//! The entropy sum.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The terms of an entropy sum, in nats per point (Eqns 3 and 50).
///
/// `F = mean_n H[q_n(z)] - H[p(z)] - E_q̄ H[p(x | z)] + mean_n ln h(x_n)`
///
/// ```
/// use entropysum::model::EntropySum;
///
/// let terms = EntropySum { posterior: 0.3, prior: 0.7, observable: 2.0, ..Default::default() };
/// assert!((terms.total() - -2.4).abs() < 1e-15);
/// let narrow = EntropySum { observable: -1.5, ..terms };
/// assert_eq!(narrow.to_string(), "1.100000 = 0.300000 (posterior) - 0.700000 (prior) + 1.500000 (observable)");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EntropySum {
    /// Mean entropy of the posteriors, `mean_n H[q_n(z)]`.
    pub posterior: f64,
    /// Entropy of the prior, `H[p(z)]`.
    pub prior: f64,
    /// Expected entropy of a hidden layer, `E_q̄ H[p(y | z)]` (Eqn 21); 0 where there is none.
    pub hidden: f64,
    /// Expected (pseudo) entropy of the observables, `E_q̄ H[p(x | z)]`.
    pub observable: f64,
    /// Mean log base measure, `mean_n ln h(x_n)`; 0 where it is constant (Prop. 4).
    pub base_measure: f64,
}

impl EntropySum {
    /// Returns the sum: posterior - prior - hidden - observable + base measure.
    pub fn total(&self) -> f64 {
        self.posterior - self.prior - self.hidden - self.observable + self.base_measure
    }
}

impl fmt::Display for EntropySum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6} = {:.6} (posterior)", self.total(), self.posterior)?;
        for (term, name) in [
            (-self.prior, "prior"),
            (-self.hidden, "hidden"),
            (-self.observable, "observable"),
            (self.base_measure, "base measure"),
        ] {
            if term != 0.0 || name == "prior" || name == "observable" {
                write!(f, " {} {:.6} ({name})", if term > 0.0 { '+' } else { '-' }, term.abs())?;
            }
        }
        Ok(())
    }
}

/// Returns the entropy `-Σ_c π_c ln π_c` of a categorical distribution, in nats; `0 ln 0 = 0`.
pub(crate) fn entropy_of_weights(weights: &[f64]) -> f64 {
    // Subtracted from zero, so that a single component has entropy 0 and not -0.
    0.0 - weights.iter().map(|&w| if w > 0.0 { w * w.ln() } else { 0.0 }).sum::<f64>()
}
