//! Applies mixtures of very many components without going through all of them.

use super::Score;
use crate::block::{Block, BlockBuf};
use crate::data::{self, DataSource, Points};
use crate::error::Result;
use crate::exec::Executor;
use crate::model::component_table::{ComponentTable, PointPosteriors, SearchableMixture};
use crate::model::{Density, Mixture, TruncatedSearch};
use crate::monitor::TruncationLoss;
use crate::point_faults::{check_points, first_fault};
use crate::rng;
use crate::scalar::Scalar;
use crate::search::{
    self, Cells, Lists, Sets, Share, Yield, first_sets, for_each_base_measure, visit,
};

/// Components, and points, from which on a search pays: with fewer, its lists cost more than they save.
const COMPONENTS: usize = 2000;
const POINTS: u64 = 1000;

/// Bytes of points, and points, that are visited together: more make larger groups.
const WINDOW_BYTES: usize = 64 << 20;
const WINDOW_POINTS: usize = 1 << 18;

/// Numbers that are handed on together.
const NUMBERS: usize = 1 << 22;

/// Cells that hold each component.
const BREADTH: usize = 12;

/// Rounds in which neighbours are improved.
const ROUNDS: u64 = 6;

/// The members of the set of a point whose neighbours it tries, one after the other: those of the best alone are soon exhausted.
const STEPS: [usize; 5] = [0, 1, 2, 3, 0];

/// Components that have a component among their neighbours, and are tried besides its own.
const REVERSE: usize = 32;

/// Points of a sample.
const SAMPLE: u64 = 2000;

/// Seed of the search. It has no other random choices than those of the cells and of candidates.
const SEED: u64 = 0x6e65_6172_6573_7420;

/// Finds the most probable components of points among those of a mixture of very many, at a cost that does not grow with their
/// number.
///
/// Each point gets a set of few components, and the posterior on this set. Its log-density is summed over the set, so it is a lower
/// bound: of the density of the point it lacks `-ln Q_n` nats, with `Q_n` the exact posterior mass of the set. [`loss`](Self::loss)
/// measures the mean of this on a sample of the points.
///
/// The functions are those of [`inference`](crate::inference), which go through all components. [`pays`](Self::pays) tells which of both a
/// model is made for.
///
/// ```
/// use entropysum::family::{Parameters, registry};
/// use entropysum::inference::{self, ComponentSearch};
/// use entropysum::{Executor, Mixture, Points};
///
/// let components = (0..400).map(|c| vec![f64::from(c % 20), f64::from(c / 20), 0.01]).collect();
/// let parameters = Parameters { components, shared: vec![] };
/// let model = Mixture::new(registry::build("gaussian-spherical", 2)?, vec![1.0 / 400.0; 400], parameters)?;
/// let points = Points::from_rows(&[3.1, 4.9, 19.0, 0.2], 2)?;
/// let executor = Executor::new(Some(1))?;
///
/// let search = ComponentSearch::<f64>::new(&model, &executor)?;
/// let mut labels = Vec::new();
/// search.predict(&points, &executor, |_, found| Ok(labels.extend_from_slice(found)))?;
/// assert_eq!(labels, [103, 19]);
/// let exact = inference::score(&model, &points, &executor)?.log_likelihood;
/// let found = search.score(&points, &executor)?.log_likelihood;
/// let loss = search.loss(&points, &executor)?;
/// assert!((exact - found - loss.loss).abs() < 1e-9 && loss.loss < 1e-6);
/// # Ok::<(), entropysum::Error>(())
/// ```
#[derive(Debug)]
pub struct ComponentSearch<'m, T, M = Mixture> {
    model: &'m M,
    settings: TruncatedSearch,
    table: ComponentTable<T>,
    cells: Cells,
    neighbours: Lists,
}

/// Points of a window with their posteriors.
struct Found<'a, T> {
    first: u64,
    block: Block<'a, T>,
    sets: Sets,
    posteriors: PointPosteriors<T>,
}

impl<'m, T: Scalar, M: SearchableMixture + Density<T>> ComponentSearch<'m, T, M> {
    /// Tells whether a mixture was fitted with truncated posteriors, and components and points are so many that a search pays.
    pub fn pays(model: &M, n_points: u64) -> bool {
        let are_many = model.weights().len() >= COMPONENTS && n_points >= POINTS;
        let can = |search: TruncatedSearch| model.check_search(search.neighbours).is_ok();
        are_many && model.search().is_some_and(can)
    }

    /// Finds neighbours and cells of the components. This costs as much as some dozens of points a component.
    ///
    /// Sets and lists have the sizes that the posteriors of the model have, or those of [`TruncatedSearch::default`].
    ///
    /// # Errors
    /// If points have labels or missing values that the family fills.
    pub fn new(model: &'m M, executor: &Executor) -> Result<Self> {
        let settings = model.search().unwrap_or_default().at_most(model.weights().len());
        model.check_search(settings.neighbours)?;
        let table = model.component_table(executor.simd(), executor);
        let means = model.mean_statistics(&table, executor);
        let alive: Vec<bool> = model.weights().iter().map(|&weight| weight > 0.0).collect();
        let cells = Cells::new(executor, &table, &means, &alive, BREADTH, SEED)?;
        let width = settings.neighbours;
        let mut lists = search::neighbours_from(executor, &table, &means, &cells, width)?;
        for round in 0..ROUNDS {
            let seed = SEED.wrapping_add(round);
            lists = search::improve(executor, &table, &means, &lists, &|_| None, width, seed)?;
        }
        let neighbours = lists.with_reverse(REVERSE);
        Ok(Self { model, settings, table, cells, neighbours })
    }

    /// Computes the mean of the log-densities on sets, which is a lower bound, and the terms of information criteria.
    ///
    /// # Errors
    /// As [`inference::score`](super::score).
    pub fn score(&self, source: &dyn DataSource<T>, executor: &Executor) -> Result<Score> {
        let (mut weight, mut likelihood, mut entropy) = (0.0, 0.0, 0.0);
        self.for_each_window(source, executor, |found| {
            let weights = found.block.weights;
            let posteriors = &found.posteriors;
            for (i, log_evidence) in posteriors.log_evidence.iter().enumerate() {
                let w = weights.map_or(1.0, |weights| weights[i]);
                weight += w;
                likelihood += w * log_evidence;
                entropy += w * posteriors.entropy[i];
            }
            Ok(())
        })?;
        if !(weight > 0.0) {
            return Err(super::no_weight(source));
        }
        Ok(Score {
            n_points: source.len(),
            total_weight: weight,
            log_likelihood: likelihood / weight,
            posterior_entropy: entropy / weight,
            n_parameters: self.model.n_parameters(),
        })
    }

    /// Hands the log-density of each point on its set to `sink`, with the index of the first of each batch.
    ///
    /// # Errors
    /// As [`score`](Self::score), and those of the sink.
    pub fn score_samples(
        &self,
        source: &dyn DataSource<T>,
        executor: &Executor,
        mut sink: impl FnMut(u64, &[f64]) -> Result<()>,
    ) -> Result<()> {
        self.for_each_window(source, executor, |found| {
            sink(found.first, &found.posteriors.log_evidence)
        })
    }

    /// Hands the most probable component of each point to `sink`, with the index of the first of each batch.
    ///
    /// # Errors
    /// As [`score_samples`](Self::score_samples).
    pub fn predict(
        &self,
        source: &dyn DataSource<T>,
        executor: &Executor,
        mut sink: impl FnMut(u64, &[u32]) -> Result<()>,
    ) -> Result<()> {
        self.for_each_window(source, executor, |found| {
            let (labels, _) = found.sets.leaders(executor, self.table.n_components())?;
            sink(found.first, &labels)
        })
    }

    /// Hands the posterior probabilities of each point, row-major B × C with zeros outside of its set, to `sink`, with the index of the
    /// first of each batch.
    ///
    /// # Errors
    /// As [`score_samples`](Self::score_samples).
    pub fn predict_proba(
        &self,
        source: &dyn DataSource<T>,
        executor: &Executor,
        mut sink: impl FnMut(u64, &[f64]) -> Result<()>,
    ) -> Result<()> {
        let (n_components, states) = (self.table.n_components(), self.settings.states);
        let per_batch = (NUMBERS / n_components).max(1);
        let (mut rows, mut set) = (Vec::new(), vec![0; states]);
        self.for_each_window(source, executor, |found| {
            for start in (0..found.block.len()).step_by(per_batch) {
                let count = per_batch.min(found.block.len() - start);
                rows.clear();
                rows.resize(count * n_components, 0.0);
                for (k, row) in rows.chunks_exact_mut(n_components).enumerate() {
                    found.sets.read(start + k, &mut set);
                    let probabilities = &found.posteriors.probabilities[(start + k) * states..];
                    for (&member, probability) in set.iter().zip(probabilities) {
                        if member > 0 {
                            row[member as usize - 1] = probability.to_f64();
                        }
                    }
                }
                sink(found.first + start as u64, &rows)?;
            }
            Ok(())
        })
    }

    /// Measures on a sample of 2000 points how far log-densities on sets are below those of all components.
    ///
    /// # Errors
    /// As [`score`](Self::score).
    pub fn loss(&self, source: &dyn DataSource<T>, executor: &Executor) -> Result<TruncationLoss> {
        let rows = rows_of_a_sample(source.len(), SEED);
        let values = read_rows(source, &rows)?;
        let sample = Points::from_rows(&values, source.dim())?;
        let mut on_sets = Vec::with_capacity(rows.len());
        self.score_samples(&sample, executor, |_, found| {
            on_sets.extend_from_slice(found);
            Ok(())
        })?;
        loss_of(self.model, &values, &on_sets, executor)
    }

    /// Finds the posteriors of all points, window by window.
    fn for_each_window(
        &self,
        source: &dyn DataSource<T>,
        executor: &Executor,
        mut visit_found: impl FnMut(&Found<'_, T>) -> Result<()>,
    ) -> Result<()> {
        data::check_dim(source, self.model.dim())?;
        let per_window = WINDOW_BYTES / (size_of::<T>() * source.dim().max(1));
        let per_window = per_window.clamp(1, WINDOW_POINTS) as u64;
        let (n, domains) = (source.len(), self.model.domains());
        let (mut buffer, mut shares) = (BlockBuf::default(), Vec::new());
        for first in (0..n).step_by(per_window as usize) {
            let count = per_window.min(n - first) as usize;
            let block = data::read(source, false, first, count, &mut buffer)?;
            check_points(self.model, source, block)?;
            let (sets, posteriors) = self.find(block, executor, &mut shares)?;
            if !posteriors.log_evidence.iter().all(|it| it.is_finite()) {
                return Err(first_fault(source, &domains, block).into());
            }
            visit_found(&Found { first, block, sets, posteriors })?;
        }
        Ok(())
    }

    /// Finds the sets and posteriors of the points of a block.
    fn find(
        &self,
        block: Block<'_, T>,
        executor: &Executor,
        shares: &mut Vec<Share<T>>,
    ) -> Result<(Sets, PointPosteriors<T>)> {
        let sets = Sets::empty(block.len(), self.settings.states);
        first_sets(executor, &self.table, shares, &self.cells, block, &sets)?;
        let mut posteriors = PointPosteriors::default();
        for (step, &place) in (1..).zip(&STEPS) {
            let (keys, _) = sets.members(executor, place, self.table.n_components())?;
            let points = search::Points::new(block, &self.neighbours, &keys);
            let wanted = match step == STEPS.len() {
                true => Yield::Posteriors(&mut posteriors),
                false => Yield::Sets,
            };
            visit(executor, &self.table, shares, &points, &sets, wanted)?;
        }
        let measure = self.model.log_base_measure();
        if !measure.is_one() {
            for_each_base_measure(&measure, executor.simd(), block, |i, value| {
                posteriors.log_evidence[i] += value;
            });
        }
        Ok((sets, posteriors))
    }
}

/// Rows of a sample: one of each of equal stretches, all if there are few.
pub(crate) fn rows_of_a_sample(n: u64, seed: u64) -> Vec<u64> {
    let mut rng = rng::stream(seed, 0);
    let wanted = SAMPLE.min(n);
    let bound = |k: u64| (u128::from(n) * u128::from(k) / u128::from(wanted.max(1))) as u64;
    (0..wanted).map(|k| bound(k) + rng::below(&mut rng, bound(k + 1) - bound(k))).collect()
}

/// Reads some rows into memory; without their weights.
pub(crate) fn read_rows<T: Scalar>(source: &dyn DataSource<T>, rows: &[u64]) -> Result<Vec<T>> {
    let mut buffer = BlockBuf::default();
    let mut values = Vec::with_capacity(rows.len() * source.dim());
    for &row in rows {
        let block = data::read(source, false, row, 1, &mut buffer)?;
        values.extend((0..source.dim()).map(|d| block.points[(0, d)]));
    }
    Ok(values)
}

/// Compares the log-densities of points on their sets with the exact ones.
pub(crate) fn loss_of<T: Scalar>(
    model: &impl Density<T>,
    values: &[T],
    on_sets: &[f64],
    executor: &Executor,
) -> Result<TruncationLoss> {
    let points = Points::from_rows(values, values.len() / on_sets.len().max(1))?;
    let mut losses = Vec::with_capacity(on_sets.len());
    let mut sum = 0.0;
    super::score_samples(model, &points, executor, |first, log_densities| {
        for (k, density) in log_densities.iter().enumerate() {
            sum += density;
            losses.push(density - on_sets[first as usize + k]);
        }
        Ok(())
    })?;
    let n = losses.len() as f64;
    let loss = losses.iter().sum::<f64>() / n;
    let variance = losses.iter().map(|it| (it - loss).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    let standard_error = (variance / n).sqrt();
    Ok(TruncationLoss {
        loss,
        standard_error,
        log_likelihood: sum / n,
        n_points: losses.len() as u64,
    })
}
