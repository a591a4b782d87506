//! Starts of a mixture from sparse points, at a cost of the values that they store.
//!
//! Points get the label of the nearest of a few of them, as in a dense start, but no k-means follows; and statistics
//! are smoothed. Most words of a text are in few others: of labels alone, a component would give probability 0 to
//! whatever its points have not, and could never take up a point with it.
//!
//! Seeds cost as much as some three iterations with exact posteriors in `f64`, six in `f32`. Seeds in two levels, as in a dense start, are far worse: a text is
//! about as far from most others, so that coarse cells cut through the clusters.

use super::{Init, MixtureSpec, POINTS_PER_COMPONENT, check_counts};
use crate::block::{Block, SparseRows};
use crate::data::DataSource;
use crate::em::config::Config;
use crate::error::{DataError, Result};
use crate::exec::Executor;
use crate::family::{ExponentialFamily, Statistic};
use crate::kernels::affine::AffineMap;
use crate::kernels::dispatch::Simd;
use crate::kernels::sparse;
use crate::point_faults::check_domains;
use crate::rng::{self, Weighted};
use crate::scalar::Scalar;
use crate::stats::{StatsShape, SuffStats};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::ops::Range;

/// Part of each component's statistics that comes from all points alike. Small enough to leave the components apart;
/// a value that a component has not seen costs `ln 0.1` more than elsewhere, and not the point.
const SMOOTHING: f64 = 0.1;

/// Points of a start at least, where there are as many.
const MIN_POINTS: usize = 16_384;

/// Points of which the best becomes a seed, at most: as many as the kernel takes together.
const MOST_CANDIDATES: usize = 8;

/// Points whose distances from a seed a thread finds at a time.
const CHUNK: usize = 1024;

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
    let features = || Features::new(family, rows, &points, weight);
    let (labels, placed) = match spec.init {
        Init::Random => {
            let label = |_: &usize| rng::below(&mut rng, n_components as u64) as u32;
            (points.iter().map(label).collect(), n_components)
        }
        Init::RandomFromData => {
            features().nearest_seeds(n_components, Chance::OfNew, executor, &mut rng)?
        }
        _ => features().nearest_seeds(n_components, Chance::OfFar, executor, &mut rng)?,
    };
    let dim = family.dim();
    let shape = StatsShape { components: placed, statistics: dim, shared: 0, centre: 0 };
    let mut stats = SuffStats::zeros(shape, Vec::new());
    for (&i, label) in points.iter().zip(labels) {
        let label = label as usize;
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
struct Features {
    dim: usize,
    starts: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f64>,
    squared_norms: Vec<f64>,
    weights: Vec<f64>,
}

/// The chance of a point to be the next seed.
#[derive(Clone, Copy)]
enum Chance {
    /// The same of each point that no seed equals.
    OfNew,
    /// In proportion to weight and squared distance from the seeds. The best of several points is taken.
    OfFar,
}

impl Chance {
    fn of(self, weight: f64, distance: f64) -> f64 {
        match self {
            Self::OfNew => f64::from(distance > 0.0),
            Self::OfFar => weight * distance,
        }
    }
}

/// Consecutive points, and what is known of them.
struct Chunk<'a> {
    features: &'a Features,
    points: Range<usize>,
    labels: Vec<u32>,
    distances: Vec<f64>,
    /// Squared distances if a candidate were a seed; one column each.
    with: Vec<f64>,
    /// Sums of the chances that each candidate would leave.
    potentials: Vec<f64>,
}

impl Chunk<'_> {
    /// Finds how far points would be if each of some candidates were a seed; `map` holds their features.
    fn look(&mut self, map: &AffineMap<f64>, candidates: &[usize], chance: Chance, simd: Simd) {
        let Self { features, points, distances, with, potentials, .. } = self;
        let (n, of_points) = (points.len(), &features.squared_norms[points.clone()]);
        with.resize(candidates.len() * n, 0.0);
        potentials.clear();
        sparse::affine(simd, map, features.rows().slice(points.start, n), n, with);
        for (&candidate, with) in candidates.iter().zip(with.chunks_exact_mut(n)) {
            let of_candidate = features.squared_norms[candidate];
            let mut potential = 0.0;
            let known = of_points.iter().zip(&*distances).zip(&features.weights[points.clone()]);
            for (product, ((of_point, &distance), &weight)) in with.iter_mut().zip(known) {
                let norms = of_point + of_candidate;
                let between = norms - 2.0 * *product;
                // What is left of a difference between equals.
                let between = if between > 1e-12 * norms { between } else { 0.0 };
                *product = distance.min(between);
                potential += chance.of(weight, *product);
            }
            potentials.push(potential);
        }
    }

    /// Makes a candidate the seed of some label.
    fn take(&mut self, candidate: usize, label: u32) {
        let with = &self.with[candidate * self.points.len()..];
        for ((known, own), &with) in self.distances.iter_mut().zip(&mut self.labels).zip(with) {
            if with < *known {
                (*known, *own) = (with, label);
            }
        }
    }
}

impl Features {
    fn new<T: Scalar>(
        family: &dyn ExponentialFamily,
        rows: SparseRows<'_, T>,
        points: &[usize],
        weight: impl Fn(usize) -> f64,
    ) -> Self {
        let features = family.features();
        let mut powers = vec![1.0; rows.dim()];
        for statistic in features.iter().flat_map(|feature| &feature.statistics) {
            if let Statistic::Power(column, power) = *statistic
                && power > 0.0
            {
                powers[column as usize] = power;
            }
        }
        let is_direction = features.iter().any(|feature| feature.is_direction);
        let mut all = Self {
            dim: rows.dim(),
            starts: vec![0],
            columns: Vec::new(),
            values: Vec::new(),
            squared_norms: Vec::with_capacity(points.len()),
            weights: points.iter().map(|&point| weight(point)).collect(),
        };
        for &point in points {
            let first = all.values.len();
            for (d, x) in rows.row(point) {
                let (x, power) = (x.to_f64(), powers[d]);
                all.columns.push(d as u32);
                all.values.push(if power == 0.5 { x.sqrt() } else { x.powf(power) });
            }
            let values = &mut all.values[first..];
            let mut squared_norm: f64 = values.iter().map(|f| f * f).sum();
            if is_direction && squared_norm > 0.0 {
                let norm = squared_norm.sqrt();
                values.iter_mut().for_each(|f| *f /= norm);
                squared_norm = 1.0;
            }
            all.starts.push(all.values.len());
            all.squared_norms.push(squared_norm);
        }
        all
    }

    /// Returns the number of points.
    fn len(&self) -> usize {
        self.weights.len()
    }

    fn rows(&self) -> SparseRows<'_, f64> {
        SparseRows::new(&self.starts, &self.columns, &self.values, self.dim)
    }

    /// Returns the map whose logits are the products with some points. `dense` is zero, and is left so.
    fn map_of(&self, points: &[usize], dense: &mut [f64]) -> AffineMap<f64> {
        let n = points.len();
        let values = || {
            let each = |(c, &k)| self.rows().row(k).map(move |(d, f)| (d * n + c, f));
            points.iter().enumerate().flat_map(each)
        };
        values().for_each(|(at, f)| dense[at] = f);
        let map = AffineMap::new(self.dim, &vec![0.0; n], |d, c| dense[d * n + c]);
        values().for_each(|(at, _)| dense[at] = 0.0);
        map
    }

    /// Chooses points one by one as seeds: of several drawn by their chance, the one with the least sum of the chances that are left.
    /// Gives each point the label of the nearest of them. Returns labels and their number: fewer than asked for where there are fewer
    /// distinct points.
    fn nearest_seeds(
        &self,
        n_components: usize,
        chance: Chance,
        executor: &Executor,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Result<(Vec<u32>, usize)> {
        let n_candidates = match chance {
            Chance::OfNew => 1,
            Chance::OfFar => (2 + (n_components as f64).ln() as usize).min(MOST_CANDIDATES),
        };
        let chunk = |first: usize| {
            let points = first..(first + CHUNK).min(self.len());
            Chunk {
                features: self,
                labels: vec![0; points.len()],
                // Before there is any, nothing is too far.
                distances: vec![f64::MAX; points.len()],
                with: Vec::new(),
                potentials: Vec::new(),
                points,
            }
        };
        let mut chunks: Vec<_> = (0..self.len()).step_by(CHUNK).map(chunk).collect();
        let mut chances: Vec<f64> = self.weights.iter().map(|&w| chance.of(w, 1.0)).collect();
        let mut dense = vec![0.0; self.dim * n_candidates];
        let mut placed = 0;
        while placed < n_components {
            let Some(weighted) = Weighted::new(&chances) else { break };
            let candidates: Vec<_> = (0..n_candidates).map(|_| weighted.draw(rng)).collect();
            let map = self.map_of(&candidates, &mut dense);
            executor.for_each(&mut chunks, |_, chunk| {
                chunk.look(&map, &candidates, chance, executor.simd());
                Ok(())
            })?;
            let potential =
                |c: usize| -> f64 { chunks.iter().map(|chunk| chunk.potentials[c]).sum() };
            let potentials: Vec<f64> = (0..n_candidates).map(potential).collect();
            let best = (0..n_candidates).min_by(|&a, &b| potentials[a].total_cmp(&potentials[b]));
            let best = best.expect("at least one candidate");
            chunks.iter_mut().for_each(|chunk| chunk.take(best, placed as u32));
            placed += 1;
            let distances = chunks.iter().flat_map(|chunk| &chunk.distances);
            let left = self.weights.iter().zip(distances);
            chances.clear();
            chances.extend(left.map(|(&weight, &distance)| chance.of(weight, distance)));
        }
        Ok((chunks.into_iter().flat_map(|chunk| chunk.labels).collect(), placed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::registry;

    /// Points of a few kinds, more than a thread looks at together: each kind gets a label of its own, on any number of threads.
    #[test]
    fn each_of_a_few_kinds_of_points_is_labelled_by_itself() {
        let (n, dim, kinds) = (3 * CHUNK / 2, 40, 12);
        let (mut starts, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
        for i in 0..n {
            // Columns that all kinds share, and some of their own.
            for (column, value) in [(0, 1), (2 + i % kinds, 3), (20 + i % kinds, 1 + i % kinds)] {
                columns.push(column as u32);
                values.push(value as f64);
            }
            starts.push(columns.len());
        }
        let rows = SparseRows::new(&starts, &columns, &values, dim);
        let points: Vec<usize> = (0..n).collect();
        let family = registry::build("poisson", dim).unwrap();
        let features = Features::new(&*family, rows, &points, |i| 1.0 + (i % 2) as f64);
        for chance in [Chance::OfNew, Chance::OfFar] {
            let [one, three] = [1, 3].map(|threads| {
                let executor = Executor::new(Some(threads)).unwrap();
                features
                    .nearest_seeds(2 * kinds, chance, &executor, &mut rng::stream(5, 0))
                    .unwrap()
            });
            assert_eq!(one, three);
            let (labels, placed) = one;
            assert_eq!(placed, kinds);
            for i in 0..n {
                assert_eq!(labels[i], labels[i % kinds], "{i}");
            }
            let mut distinct = labels[..kinds].to_vec();
            distinct.sort_unstable();
            assert_eq!(distinct, (0..kinds as u32).collect::<Vec<_>>());
        }
    }
}
