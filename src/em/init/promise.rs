//! Compares the starts that labellings of a subsample make.

use super::labels::Labelling;
use super::subsample::{MIN_SUBSAMPLE, Sample};
use crate::em::config::Config;
use crate::em::fitting::fit;
use crate::error::Result;
use crate::exec::Executor;
use crate::inference::score;
use crate::model::EStep;
use crate::monitor::{IterRecord, Silent};
use crate::rng;
use crate::scalar::Scalar;
use rand_xoshiro::Xoshiro256PlusPlus;

/// Iterations of EM that show what a start is worth. From the right scale three were enough for gammas of shapes from 0.2 to 50; five chose
/// better on real points (BENCHMARKS.md, held-out points).
const ITERATIONS: usize = 5;

/// The subsample is divided into this number of parts, and one part is held out. Likelihoods of the other parts favour components that
/// collapse on ties or on a few points.
const PARTS: u64 = 5;

/// Points of the subsample that are compared by for each component, or two for each dimension if these are more. Labels need more of them.
const POINTS: u64 = 64;

/// By how many nats a labelling must promise more than an earlier one: where iterations lead to the same place, k-means is nearer to it.
const MARGIN: f64 = 1e-3;

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
        let enough = MIN_SUBSAMPLE.max(POINTS.max(2 * sample.dim as u64) * found[0].placed as u64);
        let thinning = (sample.size() / enough as f64).max(1.0) as u64;
        let weights = divide(sample, thinning, &mut rng);
        let (_, held) = part(sample, |i| weights[i].held);
        let (kept, part) = part(sample, |i| weights[i].kept);
        let mut most: Option<(f64, f64)> = None;
        for (index, Labelling { labels, placed }) in found.iter().enumerate() {
            let labels = kept.iter().map(|&i| labels[i]).collect();
            let start = make(&part, &Labelling { labels, placed: *placed });
            let promise = start
                .and_then(|start| promise(&start, &part, &held, executor, config))
                .unwrap_or((f64::NEG_INFINITY, f64::NEG_INFINITY));
            let is_more = |(likelihood, bound)| {
                promise.0 > likelihood + MARGIN
                    || promise.0 == likelihood && promise.1 > bound + MARGIN
            };
            if most.is_none_or(is_more) {
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

/// Returns the rows of a sample whose weight in a part is positive, and these points.
fn part<T: Scalar>(sample: &Sample<T>, weight: impl Fn(usize) -> f64) -> (Vec<usize>, Sample<T>) {
    let rows: Vec<usize> = (0..sample.len()).filter(|&i| weight(i) > 0.0).collect();
    let weights = rows.iter().map(|&i| weight(i)).collect();
    let part = sample.part(&rows, weights);
    (rows, part)
}

/// Parts of the weight of a point.
#[derive(Clone, Copy, Default)]
struct Parts {
    /// What a start learns from.
    kept: f64,
    /// What it is judged by.
    held: f64,
}

/// Divides the weight of each point of a sample at random. One of so many parts as `thinning` says is used, and of that a fifth held out.
///
/// Units of weight are drawn, not points: a point that weighs as much as k points is divided as they would be.
fn divide<T: Scalar>(
    sample: &Sample<T>,
    thinning: u64,
    rng: &mut Xoshiro256PlusPlus,
) -> Vec<Parts> {
    let total: f64 = (0..sample.len()).map(|i| sample.weight(i)).sum();
    let unit = total / sample.size();
    let (mut position, mut end, mut drawn) = (0.0, 0.0, 0);
    let mut draw = |i: usize| {
        let (mut left, mut parts) = (sample.weight(i) / unit, Parts::default());
        while left > 0.0 {
            if position >= end {
                drawn = rng::below(rng, PARTS * thinning);
                end += 1.0;
            }
            let share = left.min(end - position);
            match drawn {
                0 => parts.held += share * unit,
                1..PARTS => parts.kept += share * unit,
                _ => {}
            }
            position += share;
            left -= share;
        }
        parts
    };
    (0..sample.len()).map(&mut draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{Parameters, registry};
    use crate::model::Mixture;

    #[test]
    fn the_labelling_that_promises_most_is_the_start() {
        // Two clusters in turn: labels of one, of pairs of points, and of the clusters.
        let values: Vec<f64> =
            (0..400).map(|i| 10.0 * f64::from(i % 2) + (f64::from(i) * 0.7).sin()).collect();
        let sample = Sample { values, weights: None, dim: 1 };
        let labelling = |label: &dyn Fn(u32) -> u32| Labelling {
            labels: (0..400).map(label).collect(),
            placed: 2,
        };
        let found = || {
            vec![
                labelling(&|i| i / 2 % 2),
                labelling(&|i| i % 2),
                labelling(&|i| u32::from(i < 200)),
            ]
        };
        let executor = Executor::new(Some(1)).unwrap();
        let make = |sample: &Sample<f64>, labelling: &Labelling| {
            let mean = |label| {
                let own =
                    || sample.values.iter().zip(&labelling.labels).filter(|it| *it.1 == label);
                own().map(|it| it.0).sum::<f64>() / own().count() as f64
            };
            let components = (0..2).map(|label| vec![mean(label), 1.0]).collect();
            let parameters = Parameters { components, shared: Vec::new() };
            Mixture::new(registry::build("gaussian-diag", 1)?, vec![0.5; 2], parameters)
        };
        let config = Config::default();
        let start = most_promising(&sample, found(), &make, &executor, &config, 0).unwrap();
        let means = start.parameter("means").unwrap();
        assert!(means[0].abs() < 0.1 && (means[1] - 10.0).abs() < 0.1, "{means:?}");
    }

    fn sample(weights: Option<Vec<f64>>, n: usize) -> Sample<f64> {
        Sample { values: (0..n).map(|i| i as f64).collect(), weights, dim: 1 }
    }

    #[test]
    fn a_fifth_is_held_out_and_weights_count_as_repeated_points() {
        let held = |it: Parts| it.held;
        let draw = |sample: &Sample<f64>| -> Vec<f64> {
            divide(sample, 1, &mut rng::stream(3, 1)).into_iter().map(held).collect()
        };
        let plain = draw(&sample(None, 10_000));
        let held: f64 = plain.iter().sum();
        assert!((held - 2000.0).abs() < 200.0, "{held}");
        assert!(plain.iter().all(|&share| share == 0.0 || share == 1.0));
        let weights: Vec<f64> = (0..2500).map(|i| f64::from(i % 8)).collect();
        let repeats = weights.iter().map(|&weight| weight as usize);
        let total = repeats.clone().sum();
        let single = draw(&sample(None, total));
        let mut single = single.iter();
        let together = repeats.map(|k| single.by_ref().take(k).sum::<f64>()).collect::<Vec<_>>();
        assert_eq!(draw(&sample(Some(weights), 2500)), together);
        // Small weights are parts of a total, and count no points.
        let small = draw(&sample(Some(vec![1e-3; 10_000]), 10_000));
        let held = small.iter().sum::<f64>() / 10.0;
        assert!((held - 0.2).abs() < 0.02, "{held}");
        let thin = divide(&sample(None, 10_000), 4, &mut rng::stream(3, 1));
        let kept: f64 = thin.iter().map(|it| it.kept).sum();
        assert!((kept - 2000.0).abs() < 200.0, "{kept}");
    }
}
