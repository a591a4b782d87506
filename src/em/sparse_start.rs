//! Starts of a mixture from sparse points, at a cost of the values that they store.
//!
//! Points get the label of the nearest of a few of them, as in a dense start, but no k-means follows; and statistics
//! are smoothed. Most words of a text are in few others: of labels alone, a component would give probability 0 to
//! whatever its points have not, and could never take up a point with it.

use super::config::Config;
use super::init::{Init, MixtureSpec, POINTS_PER_COMPONENT, check_counts};
use crate::block::{Block, SparseRows};
use crate::data::DataSource;
use crate::error::{DataError, Result};
use crate::exec::Executor;
use crate::family::{ExponentialFamily, Statistic};
use crate::point_faults::check_domains;
use crate::rng;
use crate::scalar::Scalar;
use crate::stats::{StatsShape, SuffStats};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Part of each component's statistics that comes from all points alike. Small enough to leave the components apart;
/// a value that a component has not seen costs `ln 0.1` more than elsewhere, and not the point.
const SMOOTHING: f64 = 0.1;

/// Points of a start at least, where there are as many.
const MIN_POINTS: usize = 16_384;

/// Statistics of labelled points among `rows`, which with their `weights` are all of a source.
pub(super) fn statistics<T: Scalar>(
    spec: &MixtureSpec,
    source: &dyn DataSource<T>,
    (rows, weights): (SparseRows<'_, T>, Option<&[f64]>),
    executor: &Executor,
    config: &Config,
    run: u64,
) -> Result<SuffStats> {
    let (family, n_components, seed) = (&*spec.family, spec.n_components, config.seed);
    check_counts(source, n_components)?;
    config.check()?;
    check_domains(&family.domains(), source, Block::of_sparse(rows, weights, 0))?;
    let weight = |i: usize| weights.map_or(1.0, |weights| weights[i]);
    let points = subsample(
        (0..rows.len()).filter(|&i| weight(i) > 0.0).collect(),
        MIN_POINTS.max(POINTS_PER_COMPONENT as usize * n_components),
        &mut rng::stream(seed, 3 * run),
    );
    if points.is_empty() {
        return Err(DataError::new(source.name(), "the weights of all points are zero").into());
    }
    let mut rng = rng::stream(seed, 3 * run + 1);
    let features = || Features::new(family, rows, &points);
    let (labels, placed) = match spec.init {
        Init::Random => {
            let label = |_: &usize| rng::below(&mut rng, n_components as u64) as usize;
            (points.iter().map(label).collect(), n_components)
        }
        Init::RandomFromData => features().nearest_seeds(
            n_components,
            1,
            |_, far| f64::from(far > 0.0),
            executor,
            &mut rng,
        )?,
        _ => {
            let candidates = 2 + (n_components as f64).ln() as usize;
            let chance = |i: usize, distance: f64| weight(i) * distance;
            features().nearest_seeds(n_components, candidates, chance, executor, &mut rng)?
        }
    };
    let dim = family.dim();
    let shape = StatsShape { components: placed, statistics: dim, shared: 0, centre: 0 };
    let mut stats = SuffStats::zeros(shape, Vec::new());
    for (&i, label) in points.iter().zip(labels) {
        stats.mass_mut()[label] += weight(i);
        *stats.total_weight_mut() += weight(i);
        *stats.n_points_mut() += 1.0;
        let sums = stats.sums_mut(label);
        rows.row(i).for_each(|(d, x)| sums[d] += weight(i) * x.to_f64());
    }
    let mut total = vec![0.0; dim];
    for c in 0..placed {
        total.iter_mut().zip(stats.sums(c)).for_each(|(total, sum)| *total += sum);
    }
    for c in 0..placed {
        let part = SMOOTHING * stats.mass()[c] / stats.total_weight();
        let sums = stats.sums_mut(c).iter_mut().zip(&total);
        sums.for_each(|(sum, total)| *sum = (1.0 - SMOOTHING) * *sum + part * total);
    }
    Ok(stats)
}

/// One point of each of `wanted` equal stretches, or all where there are no more.
fn subsample(points: Vec<usize>, wanted: usize, rng: &mut Xoshiro256PlusPlus) -> Vec<usize> {
    if points.len() <= wanted {
        return points;
    }
    let bound = |k: usize| (points.len() as u128 * k as u128 / wanted as u128) as usize;
    let draw = |k: usize| {
        let (low, high) = (bound(k), bound(k + 1));
        points[low + rng::below(rng, (high - low) as u64) as usize]
    };
    (0..wanted).map(draw).collect()
}

/// Points in the statistics that tell their clusters apart, as far as these leave zeros zeros. On the scale that they
/// have: dividing rare ones by their spread would make the start one of rare words.
struct Features<'a, T> {
    rows: SparseRows<'a, T>,
    points: &'a [usize],
    /// Exponents of the columns.
    powers: Vec<f64>,
    /// What divides each point: its length, or 1.
    scales: Vec<f64>,
    squared_norms: Vec<f64>,
}

impl<'a, T: Scalar> Features<'a, T> {
    fn new(family: &dyn ExponentialFamily, rows: SparseRows<'a, T>, points: &'a [usize]) -> Self {
        let features = family.features();
        let mut powers = vec![1.0; rows.dim()];
        for statistic in features.iter().flat_map(|feature| &feature.statistics) {
            if let Statistic::Power(column, power) = *statistic
                && power > 0.0
            {
                powers[column as usize] = power;
            }
        }
        let scales = vec![1.0; points.len()];
        let mut all = Self { rows, points, powers, scales, squared_norms: Vec::new() };
        let squared_norm = |k: usize| all.row(k).map(|(_, f)| f * f).sum::<f64>();
        all.squared_norms = (0..points.len()).map(squared_norm).collect();
        if features.iter().any(|feature| feature.is_direction) {
            for (scale, norm) in all.scales.iter_mut().zip(&mut all.squared_norms) {
                if *norm > 0.0 {
                    (*scale, *norm) = (norm.sqrt(), 1.0);
                }
            }
        }
        all
    }

    /// The features of the `k`-th point that are not zero.
    fn row(&self, k: usize) -> impl Iterator<Item = (usize, f64)> {
        let scale = self.scales[k];
        self.rows.row(self.points[k]).map(move |(d, x)| {
            let (x, power) = (x.to_f64(), self.powers[d]);
            let feature = if power == 0.5 { x.sqrt() } else { x.powf(power) };
            (d, feature / scale)
        })
    }

    /// Chooses points one by one and gives each point the label of the nearest of them. `chance` of a point and of its
    /// squared distance from all chosen before decides which are `candidates` for the next; the best of them is taken.
    /// Returns labels and their number: fewer than asked for where there are fewer distinct points.
    fn nearest_seeds(
        &self,
        n_components: usize,
        candidates: usize,
        chance: impl Fn(usize, f64) -> f64 + Sync,
        executor: &Executor,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Result<(Vec<usize>, usize)> {
        let n = self.points.len();
        let mut labels = vec![0; n];
        let mut distances = vec![1.0; n];
        let mut lanes = vec![(0, vec![0.0; self.rows.dim()], vec![0.0; n], 0.0); candidates];
        let mut placed = 0;
        while placed < n_components {
            for lane in &mut lanes {
                let chances = (0..n).map(|k| chance(self.points[k], distances[k]));
                match rng::weighted(rng, chances) {
                    Some(k) => lane.0 = k,
                    None => return Ok((labels, placed)),
                }
            }
            if placed == 0 {
                // Before there is any, nothing is too far.
                distances.fill(f64::MAX);
            }
            let known = &distances;
            executor.for_each(&mut lanes, |_, (seed, vector, nearest, potential)| {
                vector.fill(0.0);
                self.row(*seed).for_each(|(d, f)| vector[d] = f);
                *potential = 0.0;
                for k in 0..n {
                    let product: f64 = self.row(k).map(|(d, f)| f * vector[d]).sum();
                    let norms = self.squared_norms[k] + self.squared_norms[*seed];
                    let distance = norms - 2.0 * product;
                    // What is left of a difference between equals.
                    let far = distance > 1e-12 * norms;
                    nearest[k] = known[k].min(if far { distance } else { 0.0 });
                    *potential += chance(self.points[k], nearest[k]);
                }
                Ok(())
            })?;
            let best = (0..candidates).min_by(|&a, &b| lanes[a].3.total_cmp(&lanes[b].3));
            let nearest = &mut lanes[best.expect("at least one candidate")].2;
            for k in 0..n {
                if nearest[k] < distances[k] {
                    labels[k] = placed;
                }
            }
            std::mem::swap(&mut distances, nearest);
            placed += 1;
        }
        Ok((labels, placed))
    }
}
