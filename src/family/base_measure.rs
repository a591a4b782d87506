//! Base measures.

use super::Statistic;
use std::iter::Sum;

/// A log base measure `ln h(x)`, as a constant and a linear combination of statistics.
///
/// Empty where `h` is 1 (Prop. 4); constants belong into the log-partition there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BaseMeasure {
    /// Statistics and their coefficients.
    pub terms: Vec<(Statistic, f64)>,
    /// The constant.
    pub constant: f64,
}

impl BaseMeasure {
    /// Whether `h` is 1.
    pub fn is_one(&self) -> bool {
        self.terms.is_empty() && self.constant == 0.0
    }

    /// Whether `h` is the same everywhere: then the entropy sum is one of entropies (Prop. 4).
    pub fn is_constant(&self) -> bool {
        self.terms.is_empty()
    }
}

/// The base measure of independent columns.
impl Sum for BaseMeasure {
    fn sum<I: Iterator<Item = Self>>(measures: I) -> Self {
        measures.fold(Self::default(), |mut sum, measure| {
            sum.terms.extend(measure.terms);
            sum.constant += measure.constant;
            sum
        })
    }
}
