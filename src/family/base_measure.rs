//! Base measures.

use super::Statistic;
use std::iter::Sum;

/// A log base measure `ln h(x)`, as a constant and a linear combination of statistics.
///
/// Empty if `h` is 1 (Prop. 4): constants then belong into the log-partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BaseMeasure {
    /// Statistics and their coefficients.
    pub terms: Vec<(Statistic, f64)>,
    /// The constant.
    pub constant: f64,
}

impl BaseMeasure {
    /// Says whether `h` is 1.
    pub fn is_one(&self) -> bool {
        self.terms.is_empty() && self.constant == 0.0
    }

    /// Says whether `h` is constant: then pseudo entropies are entropies (Prop. 4), up to a constant.
    pub(crate) fn is_constant(&self) -> bool {
        self.terms.is_empty()
    }
}

/// Multiplies the base measures of independent columns.
impl Sum for BaseMeasure {
    fn sum<I: Iterator<Item = Self>>(measures: I) -> Self {
        measures.fold(Self::default(), |mut sum, measure| {
            sum.terms.extend(measure.terms);
            sum.constant += measure.constant;
            sum
        })
    }
}
