//! The E-step of points whose zeros are left out, for families whose statistics are the values themselves
//! ([`takes_sparse`](crate::family::ExponentialFamily::takes_sparse)). Their components are all packed, in order.

use super::{Packed, Workspace};
use crate::block::SparseRows;
use crate::family::{BaseMeasure, Statistic};
use crate::kernels::sparse;
use crate::scalar::Scalar;
use crate::special::ln_gamma;
use crate::stats::SuffStats;

/// A log base measure as what it is at zero, and what values change of it.
#[derive(Debug)]
pub(super) struct Measure {
    at_zero: f64,
    /// Column, slope, offset and coefficient of `ln Γ(slope x + offset)`, in the order of columns.
    of_values: Vec<(u32, f64, f64, f64)>,
    /// The terms of each column: from `starts[d]` to `starts[d + 1]`.
    starts: Vec<usize>,
    /// Columns, offset and coefficient of `ln Γ(Σ x + offset)`.
    of_sums: Vec<(std::ops::Range<usize>, f64, f64)>,
}

impl Measure {
    fn new(measure: &BaseMeasure, dim: usize) -> Self {
        let (mut at_zero, mut of_values, mut of_sums) = (measure.constant, vec![], vec![]);
        for &(statistic, coefficient) in &measure.terms {
            match statistic {
                Statistic::LnGamma { column, slope, offset } => {
                    at_zero += coefficient * ln_gamma(offset);
                    of_values.push((column, slope, offset, coefficient));
                }
                Statistic::LnGammaOfSum { first, count, offset } => {
                    let columns = first as usize..(first + count) as usize;
                    of_sums.push((columns, offset, coefficient));
                }
                other => unreachable!("{other:?} is in no base measure that takes sparse points"),
            }
        }
        of_values.sort_by_key(|term| term.0);
        let mut starts = vec![0; dim + 1];
        of_values.iter().for_each(|term| starts[term.0 as usize + 1] += 1);
        for d in 0..dim {
            starts[d + 1] += starts[d];
        }
        Self { at_zero, of_values, starts, of_sums }
    }

    /// Computes `ln h` of a point.
    fn of(&self, row: impl Iterator<Item = (usize, f64)> + Clone) -> f64 {
        let mut sum = self.at_zero;
        for (d, x) in row.clone() {
            for &(_, slope, offset, coefficient) in
                &self.of_values[self.starts[d]..self.starts[d + 1]]
            {
                sum += coefficient * (ln_gamma(slope * x + offset) - ln_gamma(offset));
            }
        }
        for (columns, offset, coefficient) in &self.of_sums {
            let values = row.clone().filter(|(d, _)| columns.contains(d));
            sum += coefficient * ln_gamma(values.map(|(_, x)| x).sum::<f64>() + offset);
        }
        sum
    }
}

impl<T: Scalar> Packed<T> {
    pub(super) fn sparse_logits(&self, rows: SparseRows<'_, T>, workspace: &mut Workspace<T>) {
        let stride = self.tiling.stride;
        sparse::affine(self.simd, &self.natural, rows, stride, &mut workspace.logits);
    }

    pub(super) fn sparse_log_base_measure(
        &self,
        measure: &BaseMeasure,
        rows: SparseRows<'_, T>,
        workspace: &mut Workspace<T>,
    ) {
        let measure = self.sparse_measure.get_or_init(|| Measure::new(measure, rows.dim()));
        workspace.log_base_measure.resize(self.tiling.stride, 0.0);
        for (i, out) in workspace.log_base_measure[..rows.len()].iter_mut().enumerate() {
            *out = measure.of(rows.row(i).map(|(d, x)| (d, x.to_f64())));
        }
    }

    /// Adds the sums of a tile, the logits having become responsibilities.
    pub(super) fn sparse_sums(&self, rows: SparseRows<'_, T>, workspace: &mut Workspace<T>) {
        let Workspace { logits, sparse_sums, .. } = workspace;
        sparse_sums.resize(sparse::sums_len(rows.dim(), self.n_packed), 0.0);
        let stride = self.tiling.stride;
        sparse::accumulate(self.simd, rows, logits, self.n_packed, stride, sparse_sums);
    }

    /// Once a lane: of order D C, like the statistics themselves.
    pub(super) fn flush_sparse(&self, stats: &mut SuffStats, workspace: &mut Workspace<T>) {
        if workspace.sparse_sums.is_empty() {
            return;
        }
        for (k, &c) in self.order.iter().enumerate() {
            for (d, total) in stats.sums_mut(c).iter_mut().enumerate() {
                *total += workspace.sparse_sums[sparse::sum_at(self.n_direct, d, k)];
            }
        }
        workspace.sparse_sums.clear();
    }

    /// Adds the sums of labelled points.
    pub(super) fn sparse_labels(
        &self,
        rows: SparseRows<'_, T>,
        weights: Option<&[f64]>,
        stats: &mut SuffStats,
        workspace: &mut Workspace<T>,
    ) {
        for (i, &label) in workspace.labels[..rows.len()].iter().enumerate() {
            let weight = weights.map_or(1.0, |weights| weights[i]);
            let sums = stats.sums_mut(self.order[label as usize]);
            rows.row(i).for_each(|(d, x)| sums[d] += weight * x.to_f64());
        }
    }
}
