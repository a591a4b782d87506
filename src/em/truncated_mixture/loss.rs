//! Measures what truncation costs: the log-likelihood that the sets of some points leave out.

use super::maximizer::TruncatedMixtureMaximizer;
use crate::block::BlockBuf;
use crate::data::memory::Points;
use crate::data::{self, DataSource};
use crate::em::learner::Maximizer;
use crate::error::Result;
use crate::exec::Executor;
use crate::inference;
use crate::model::Posterior;
use crate::monitor::TruncationLoss;
use crate::rng;
use crate::scalar::Scalar;

/// Points of a sample.
const POINTS: u64 = 2000;

/// Rows of a sample: one of each of equal stretches, all if there are few.
pub(super) fn rows_of_a_sample(n: u64, seed: u64) -> Vec<u64> {
    let mut rng = rng::stream(seed, 0);
    let wanted = POINTS.min(n);
    let bound = |k: u64| (u128::from(n) * u128::from(k) / u128::from(wanted.max(1))) as u64;
    (0..wanted).map(|k| bound(k) + rng::below(&mut rng, bound(k + 1) - bound(k))).collect()
}

/// Reads some rows into memory; without their weights.
pub(super) fn read_rows<T: Scalar>(source: &dyn DataSource<T>, rows: &[u64]) -> Result<Vec<T>> {
    let mut buffer = BlockBuf::default();
    let mut values = Vec::with_capacity(rows.len() * source.dim());
    for &row in rows {
        let block = data::read(source, false, row, 1, &mut buffer)?;
        values.extend((0..source.dim()).map(|d| block.points[(0, d)]));
    }
    Ok(values)
}

/// Compares the log-evidence of points among their sets with their exact log-likelihood.
pub(super) fn loss_of<T: Scalar>(
    maximizer: &TruncatedMixtureMaximizer,
    values: &[T],
    among_sets: &[f64],
    executor: &Executor,
) -> Result<TruncationLoss> {
    let exact = maximizer.model().clone().with_posterior(Posterior::Exact);
    let points = Points::from_rows(values, values.len() / among_sets.len().max(1))?;
    let mut losses = Vec::with_capacity(among_sets.len());
    let mut sum = 0.0;
    inference::score_samples(&exact, &points, executor, |first, log_densities| {
        for (k, density) in log_densities.iter().enumerate() {
            sum += density;
            losses.push(density - among_sets[first as usize + k]);
        }
        Ok(())
    })?;
    let n = losses.len() as f64;
    let loss = losses.iter().sum::<f64>() / n;
    let variance = losses.iter().map(|it| (it - loss).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    Ok(TruncationLoss {
        loss,
        standard_error: (variance / n).sqrt(),
        log_likelihood: sum / n,
        n_points: losses.len() as u64,
    })
}
