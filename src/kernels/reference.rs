//! Slow, plain oracles of the kernels, for tests and benches.

use super::statistics::Statistic;

/// A sufficient statistic of one point, by definition.
pub fn statistic(statistic: Statistic, x: &[f64]) -> f64 {
    match statistic {
        Statistic::Value(i) => x[i as usize],
        Statistic::Product(i, j) => x[i as usize] * x[j as usize],
        Statistic::SquaredNorm => x.iter().map(|v| v * v).sum(),
    }
}
