//! Points with missing entries, in memory and grouped by which entries they have.

use super::lanes::no_weight;
use crate::block::BlockBuf;
use crate::data::{self, DataSource};
use crate::error::{DataError, Result};
use crate::exec::Executor;
use crate::model::LinearGaussian;
use crate::model::linear_gaussian::PartialSums;
use crate::point_faults::first_fault;
use crate::scalar::Scalar;
use faer::MatRef;
use std::collections::BTreeMap;

/// Points of a group that are worked on together: their latents and residuals stay in the cache.
const CHUNK: usize = 512;

/// Shares of the work. A multiple of the numbers of threads in use.
const LANES: usize = 32;

/// All points of a source by their patterns: NaN is an entry that is missing.
#[derive(Debug)]
pub(super) struct Patterns<'a> {
    executor: &'a Executor,
    patterns: Vec<Pattern>,
    /// Group and rows of each piece of work, in order.
    chunks: Vec<(usize, usize, usize)>,
    mean: Vec<f64>,
    variances: Vec<f64>,
    total_weight: f64,
}

#[derive(Debug, Default)]
struct Pattern {
    observed: Vec<usize>,
    /// Observed entries, row-major.
    rows: Vec<f64>,
    weights: Vec<f64>,
}

impl<'a> Patterns<'a> {
    /// Reads all points.
    ///
    /// # Errors
    /// If an entry is infinite, a dimension is never observed, or there are no points.
    pub(super) fn new<T: Scalar>(
        source: &dyn DataSource<T>,
        executor: &'a Executor,
    ) -> Result<Self> {
        let (n, dim) = (source.len(), source.dim());
        let mut groups: BTreeMap<Vec<u64>, Pattern> = BTreeMap::new();
        let mut buffer = BlockBuf::default();
        for start in (0..n).step_by(CHUNK) {
            let block = data::read(
                source,
                false,
                start,
                (CHUNK as u64).min(n - start) as usize,
                &mut buffer,
            )?;
            for i in 0..block.len() {
                let weight = block.weights.map_or(1.0, |weights| weights[i]);
                if !(weight > 0.0) {
                    continue;
                }
                let mut key = vec![0; dim.div_ceil(64)];
                let values: Vec<f64> = block.points.row(i).iter().map(|x| x.to_f64()).collect();
                if values.iter().any(|value| value.is_infinite()) {
                    return Err(first_fault(source, &[], block.slice(i, 1)).into());
                }
                for (d, value) in values.iter().enumerate() {
                    key[d / 64] |= u64::from(!value.is_nan()) << (d % 64);
                }
                let group = groups.entry(key).or_insert_with(|| {
                    let observed = (0..dim).filter(|&d| !values[d].is_nan()).collect();
                    Pattern { observed, ..Pattern::default() }
                });
                group.rows.extend(group.observed.iter().map(|&d| values[d]));
                group.weights.push(weight);
            }
        }
        let patterns: Vec<Pattern> = groups.into_values().collect();
        let total_weight = patterns.iter().flat_map(|pattern| &pattern.weights).sum();
        if !(total_weight > 0.0) {
            return Err(no_weight(source));
        }
        let (mean, variances) = column_moments(&patterns, dim);
        if let Some(d) = mean.iter().position(|m| m.is_nan()) {
            let message = format!("column {d} has no observed entry (columns count from 0)");
            return Err(DataError::new(source.name(), message).into());
        }
        let mut chunks = Vec::new();
        for (index, pattern) in patterns.iter().enumerate() {
            let n = pattern.weights.len();
            chunks.extend((0..n).step_by(CHUNK).map(|at| (index, at, CHUNK.min(n - at))));
        }
        Ok(Self { executor, patterns, chunks, mean, variances, total_weight })
    }

    /// Means of the observed entries of each dimension.
    pub(super) fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Their variances.
    pub(super) fn variances(&self) -> &[f64] {
        &self.variances
    }

    pub(super) fn total_weight(&self) -> f64 {
        self.total_weight
    }

    /// Posteriors of all points given their observed entries, as what EM needs of them.
    pub(super) fn e_step(&self, model: &LinearGaussian) -> Result<PartialSums> {
        let empty = PartialSums::new(model.dim(), model.latents());
        let per_lane = self.chunks.len().div_ceil(LANES);
        let mut lanes: Vec<_> =
            self.chunks.chunks(per_lane).map(|chunks| (chunks, empty.clone())).collect();
        self.executor.for_each(&mut lanes, |_, (chunks, sums)| {
            for &(index, at, count) in *chunks {
                let Pattern { observed, rows, weights } = &self.patterns[index];
                let width = observed.len();
                let rows = &rows[at * width..(at + count) * width];
                let rows = MatRef::from_row_major_slice(rows, count, width);
                model.e_step_partial(observed, rows, &weights[at..at + count], sums);
            }
            Ok(())
        })?;
        let mut total = empty;
        lanes.iter().for_each(|(_, sums)| total.add(sums));
        Ok(total)
    }
}

/// Mean and variance of the observed entries of each dimension, in two passes; NaN where there are none.
fn column_moments(patterns: &[Pattern], dim: usize) -> (Vec<f64>, Vec<f64>) {
    let average = |about: &[f64], power: i32| -> Vec<f64> {
        let (mut sums, mut mass) = (vec![0.0; dim], vec![0.0; dim]);
        for Pattern { observed, rows, weights } in patterns {
            for (row, weight) in rows.chunks(observed.len().max(1)).zip(weights) {
                for (&d, x) in observed.iter().zip(row) {
                    sums[d] += weight * (x - about[d]).powi(power);
                    mass[d] += weight;
                }
            }
        }
        sums.iter().zip(&mass).map(|(sum, mass)| sum / mass).collect()
    };
    // About the first entry of each dimension, so that a constant one has variance 0 and no rounding error.
    let mut first = vec![0.0; dim];
    for Pattern { observed, rows, .. } in patterns {
        observed.iter().zip(rows).for_each(|(&d, x)| first[d] = *x);
    }
    let mean: Vec<f64> = first.iter().zip(average(&first, 1)).map(|(x, o)| x + o).collect();
    let variances = average(&mean, 2);
    (mean, variances)
}
