//! Compares the starts that labellings of a subsample make.

use super::labels::Labelling;
use super::subsample::Sample;
use crate::em::config::Config;
use crate::em::fitting::fit;
use crate::error::Result;
use crate::exec::Executor;
use crate::inference::score;
use crate::model::EStep;
use crate::monitor::{IterRecord, Silent};
use crate::rng;
use crate::scalar::Scalar;

/// Iterations of EM that show what a start is worth. From the right scale three were enough for gammas of shapes from 0.2 to 50; five chose
/// better on real points (BENCHMARKS.md, held-out points).
const ITERATIONS: usize = 5;

/// One of so many points of the subsample is held out. Likelihoods of the points that were learned from would crown components that
/// collapse on ties or on a few points.
const PARTS: u64 = 5;

/// Stream of the first run's choice of points to hold out, far from those of samples and labels.
const HELD_OUT: u64 = 1 << 63;

/// Returns the start from the labelling that promises the largest likelihood of points that it has not seen.
///
/// If no labelling gives all of these a density, the bound decides: Bernoulli mixtures of many columns refuse what they never saw.
pub(in crate::em) fn most_promising<T: Scalar, M: EStep<T>>(
    sample: &Sample<T>,
    mut found: Vec<Labelling>,
    make: &dyn Fn(&Sample<T>, &Labelling) -> Result<M>,
    executor: &Executor,
    config: &Config,
    run: u64,
) -> Result<M> {
    let mut best = 0;
    if found.len() > 1 {
        let mut rng = rng::stream(config.seed, HELD_OUT.wrapping_add(run));
        let (held, kept): (Vec<usize>, Vec<usize>) =
            (0..sample.len()).partition(|_| rng::below(&mut rng, PARTS) == 0);
        let (held, part) = (sample.part(&held), sample.part(&kept));
        let mut most = None;
        for (index, Labelling { labels, placed }) in found.iter().enumerate() {
            let labels = kept.iter().map(|&i| labels[i]).collect();
            let start = make(&part, &Labelling { labels, placed: *placed });
            let promise = start
                .and_then(|start| promise(&start, &part, &held, executor, config))
                .unwrap_or((f64::NEG_INFINITY, f64::NEG_INFINITY));
            if most.is_none_or(|most| promise > most) {
                (best, most) = (index, Some(promise));
            }
        }
    }
    make(sample, &found.swap_remove(best))
}

/// Returns what a few iterations on a part of a sample reach from a start: the mean log-likelihood of the points held out, or -∞, and the
/// bound.
fn promise<T: Scalar, M: EStep<T>>(
    start: &M,
    part: &Sample<T>,
    held: &Sample<T>,
    executor: &Executor,
    config: &Config,
) -> Result<(f64, f64)> {
    let regularization = config.regularization.clone();
    let config = Config { max_iter: ITERATIONS, tol: 0.0, regularization, ..Config::default() };
    let fit = fit(start, &part.points()?, executor, &config, &mut Silent)?;
    let likelihood = held.points().and_then(|held| score(&fit.model, &held, executor));
    let likelihood = likelihood.map_or(f64::NEG_INFINITY, |score| score.log_likelihood);
    Ok((likelihood, fit.last().map_or(f64::NEG_INFINITY, IterRecord::objective)))
}
