//! What a start looks at to tell clusters apart.

use super::Statistic;

/// Statistics in which k-means finds the clusters of a start, together on one scale.
///
/// A start shifts each statistic to mean 0, and scales all of them alike to the total variance asked for. So a label
/// with many levels weighs as much as a number, and a direction stays one.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// The statistics.
    pub statistics: Vec<Statistic>,
    /// Their variances' sum after scaling: the number of columns that they stand for.
    pub variance: f64,
    /// Whether the statistics of each point are divided by their length before.
    pub is_direction: bool,
}

impl Feature {
    /// One statistic of one column.
    pub fn single(statistic: Statistic) -> Self {
        Self::group(vec![statistic], 1)
    }

    /// Statistics that stand for so many columns.
    pub fn group(statistics: Vec<Statistic>, columns: usize) -> Self {
        Self { statistics, variance: columns as f64, is_direction: false }
    }

    /// The direction of a vector of statistics.
    pub fn direction(statistics: Vec<Statistic>) -> Self {
        let columns = statistics.len();
        Self { is_direction: true, ..Self::group(statistics, columns) }
    }

    /// The same of points whose dimension `i` stands in column `columns[i]`.
    pub fn remapped(self, columns: &[u32]) -> Self {
        let statistics = self.statistics.into_iter().map(|it| it.remapped(columns)).collect();
        Self { statistics, ..self }
    }
}
