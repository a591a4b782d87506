//! Features: the statistics in which a start finds clusters.

use super::Statistic;

/// Statistics in which k-means finds the clusters of a start, together on one scale.
///
/// A start shifts each statistic to mean 0, and scales all statistics of a feature alike to its total variance. So a label
/// with many levels has the weight of a number, and a direction stays a direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// The statistics.
    pub statistics: Vec<Statistic>,
    /// The sum of their variances after scaling: the number of columns that they stand for.
    pub variance: f64,
    /// Whether the statistics of each point are divided by their length first.
    pub is_direction: bool,
}

impl Feature {
    /// Makes a feature of one statistic of one column.
    pub fn single(statistic: Statistic) -> Self {
        Self::group(vec![statistic], 1)
    }

    /// Makes a feature of statistics that stand for `columns` columns.
    pub fn group(statistics: Vec<Statistic>, columns: usize) -> Self {
        Self { statistics, variance: columns as f64, is_direction: false }
    }

    /// Makes a feature of the direction of a vector of statistics.
    pub fn direction(statistics: Vec<Statistic>) -> Self {
        let columns = statistics.len();
        Self { is_direction: true, ..Self::group(statistics, columns) }
    }

    /// Makes a single feature of all, so that columns keep the units in which they are given, beside each other. `None` if that changes
    /// nothing, or if a direction has no unit.
    pub(crate) fn in_common_units(all: Vec<Self>) -> Option<Vec<Self>> {
        if all.len() < 2 || all.iter().any(|it| it.is_direction) {
            return None;
        }
        let variance = all.iter().map(|it| it.variance).sum();
        let statistics = all.into_iter().flat_map(|it| it.statistics).collect();
        Some(vec![Self { statistics, variance, is_direction: false }])
    }

    /// Returns the feature of points whose dimension `i` is in column `columns[i]`.
    pub(crate) fn remapped(self, columns: &[u32]) -> Self {
        let statistics = self.statistics.into_iter().map(|it| it.remapped(columns)).collect();
        Self { statistics, ..self }
    }
}
