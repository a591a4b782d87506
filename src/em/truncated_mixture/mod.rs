//! Learns mixtures of very many components: each point keeps a set of few components between visits, and a visit goes on where the
//! last one ended. So the cost of a point does not grow with C, and the bound of the visited points never falls in their E-step.
//!
//! After an exact M-step the entropy sum is the bound, whatever the sets are: theory 1.2 holds for any posteriors. The bound is
//! below the log-likelihood by `-1/N Σ_n ln Q_n`, with `Q_n` the exact posterior mass of the set of a point.
//!
//! | file | part |
//! |---|---|
//! | `mod.rs` | the learner: sets of the points, windows, minibatches |
//! | `maximizer.rs` | the mixture, and what the search knows |
//! | `lists.rs` | neighbours of components, cells of components |
//! | `loss.rs` | what the sets leave out, measured on a sample |
//! | `visits.rs` | groups of points in shares, and their sums in order |

mod lists;
mod loss;
mod maximizer;
mod visits;

pub use maximizer::TruncatedMixtureMaximizer;

use self::lists::Cells;
use self::visits::{Points, Share, visit};
use super::checkpoint::damaged;
use super::driver::Fit;
use super::fitting::{Fitting, Started};
use super::lanes::{self, Cut};
use super::learner::{Batch, Learner, Maximizer, not_finite};
use super::row_memory::{RowMemory, WindowRows};
use super::sweep::check_sums;
use crate::block::{Block, BlockBuf};
use crate::data::{self, DataSource};
use crate::error::{Error, Result};
use crate::exec::{Executor, Simd};
use crate::family::label::LabelBlock;
use crate::family::{BaseMeasure, Domain, Regularization};
use crate::kernels::statistics::{self, Tile};
use crate::model::mixture::truncated::{ComponentTable, Visit};
use crate::model::{GenerativeModel, Mixture, TruncatedSearch};
use crate::monitor::TruncationLoss;
use crate::point_faults::{check_points, first_fault};
use crate::scalar::Scalar;
use crate::stats::SuffStats;
use std::collections::BTreeMap;

/// Bytes of points that are visited together at most.
const WINDOW_BYTES: usize = 256 << 20;

/// Points that are visited together, in units of C: more make larger groups, and fewer leave windows for other ranks.
const POINTS_PER_COMPONENT: u64 = 128;

/// Points that keep many threads busy.
const MIN_WINDOW: u64 = 1 << 15;

/// Points visited, in units of C, after which the neighbours of the components are improved.
const NEIGHBOURS_EVERY: u64 = 16;

/// Points visited, in units of C, after which the cells are made anew for points that have no set yet.
const CELLS_EVERY: u64 = 64;

/// Seeds of the three purposes are far apart.
const VISITS: u64 = 0x7669_7369_7473_2020;
const NEIGHBOURS: u64 = 0x6e65_6967_6862_6f75;
const CELLS: u64 = 0x6365_6c6c_7320_2020;

/// Points of a tile of base measures.
const TILE: usize = 256;

/// Learns a mixture with truncated posteriors; remembers the sets of components of all points.
#[derive(Debug)]
pub struct TruncatedMixtureLearner<T: Scalar> {
    maximizer: TruncatedMixtureMaximizer,
    settings: TruncatedSearch,
    seed: u64,
    sets: WindowRows,
    shares: Vec<Share<T>>,
    /// Sum of the log base measure over all points, once it is known.
    log_base_measure: Option<f64>,
    /// Whether a sweep failed in the middle.
    is_torn: bool,
}

impl<T: Scalar> TruncatedMixtureLearner<T> {
    /// Makes a learner of the points of a source from where a mixture stands.
    pub(crate) fn new(
        model: Mixture,
        settings: TruncatedSearch,
        regularization: Regularization,
        sets: RowMemory,
        seed: u64,
    ) -> Self {
        let regularization = Regularization { rounding: T::EPSILON, ..regularization };
        Self {
            maximizer: TruncatedMixtureMaximizer::new(model, regularization),
            settings,
            seed,
            sets: WindowRows::new(sets),
            shares: Vec::new(),
            log_base_measure: None,
            is_torn: false,
        }
    }

    /// Brings lists up to date with the components, as far as it is due.
    fn prepare(
        &mut self,
        executor: &Executor,
        table: &ComponentTable<T>,
        has_new_points: bool,
    ) -> Result<()> {
        let n_components = table.n_components() as u64;
        let width = self.settings.neighbours.min(table.n_components());
        let seed = self.seed.wrapping_add(self.maximizer.search.steps);
        let model = self.maximizer.model();
        let search = &self.maximizer.search;
        let no_lists = search.neighbours.is_empty();
        let lists_due =
            search.since_neighbours >= NEIGHBOURS_EVERY * n_components || !search.halves.is_empty();
        // The first lists come from cells.
        let cells_due =
            no_lists || has_new_points && search.since_cells >= CELLS_EVERY * n_components;
        if !(no_lists || lists_due || cells_due) {
            return Ok(());
        }
        let means = model.mean_statistics(table);
        let mut cells = None;
        if cells_due {
            let alive: Vec<bool> = model.weights().iter().map(|&weight| weight > 0.0).collect();
            cells = Some(Cells::new(executor, table, &means, &alive, seed ^ CELLS)?);
        }
        let first = match &cells {
            Some(cells) if no_lists => {
                Some(lists::neighbours_from(executor, table, &means, cells, width)?)
            }
            _ => None,
        };
        let old = first.as_ref().or(lists_due.then_some(&search.neighbours));
        let half = |component: u32| search.halves.get(&component).copied();
        let improve =
            |old| lists::improve(executor, table, &means, old, &half, width, seed ^ NEIGHBOURS);
        let neighbours = old.map(improve).transpose()?;
        let search = &mut self.maximizer.search;
        if let Some(neighbours) = neighbours {
            (search.neighbours, search.since_neighbours) = (neighbours, 0);
        }
        if let Some(cells) = cells {
            (search.cells, search.since_cells) = (cells, 0);
        }
        Ok(())
    }

    /// Visits the points of a block: first those without a set find a cell and its components, then all go on from their sets.
    fn visit(
        &mut self,
        executor: &Executor,
        table: &ComponentTable<T>,
        block: Block<'_, T>,
        sets: &mut [u32],
        total: &mut SuffStats,
    ) -> Result<()> {
        let states = self.settings.states;
        let search = &self.maximizer.search;
        let none = BTreeMap::new();
        let new: Vec<u32> =
            (0..block.len() as u32).filter(|&row| sets[row as usize * states] == 0).collect();
        if !new.is_empty() {
            let copied = (new.len() < block.len()).then(|| gathered(block, &new));
            let new_block = copied.as_ref().map(|(values, weights)| {
                let points = faer::MatRef::from_row_major_slice(values, new.len(), block.dim());
                Block { points, sparse: None, weights: weights.as_deref(), first: 0 }
            });
            let block = new_block.unwrap_or(block);
            let mut cells = vec![0; new.len()];
            let all = vec![0; new.len()];
            let (lists, shares) = (&search.cells.pivots, &mut self.shares);
            let points =
                Points { block, lists, keys: &all, states: 1, random: (0, 0), halves: &none };
            visit(executor, table, shares, &points, &mut cells, None)?;
            let cell = |&pivot: &u32| search.cells.cell_of_pivot(pivot.max(1) - 1);
            let keys: Vec<u32> = cells.iter().map(cell).collect();
            let mut found = vec![0; new.len() * states];
            let lists = &search.cells.near;
            let points =
                Points { block, lists, keys: &keys, states, random: (0, 0), halves: &none };
            visit(executor, table, shares, &points, &mut found, None)?;
            for (&row, set) in new.iter().zip(found.chunks_exact(states)) {
                sets[row as usize * states..][..states].copy_from_slice(set);
            }
        }
        let leader = |set: &[u32]| set[0].max(1) - 1;
        let keys: Vec<u32> = sets.chunks_exact(states).map(leader).collect();
        let seed = (self.seed ^ VISITS).wrapping_add(search.steps);
        let points = Points {
            block,
            lists: &search.neighbours,
            keys: &keys,
            states,
            random: (seed, self.settings.random),
            halves: &search.halves,
        };
        visit(executor, table, &mut self.shares, &points, sets, Some(total))
    }

    /// Cuts points into windows, each of which is visited on all threads. Ranks share windows.
    fn cut(&self, n_points: u64, dim: usize) -> Cut {
        let n_components = self.maximizer.model().n_components() as u64;
        let most = (WINDOW_BYTES / (size_of::<T>() * dim)).max(1) as u64;
        Cut::by(n_points, (POINTS_PER_COMPONENT * n_components).max(MIN_WINDOW).min(most))
    }

    /// Visits all points of a source, window by window.
    fn visit_all(
        &mut self,
        executor: &Executor,
        table: &ComponentTable<T>,
        source: &dyn DataSource<T>,
    ) -> Result<SuffStats> {
        self.sets.put_back()?;
        self.is_torn = true;
        let width = self.sets.width();
        let is_first = self.maximizer.search.steps == 0;
        let cut = self.cut(source.len(), source.dim());
        let (mut buffer, mut words) = (BlockBuf::default(), Vec::new());
        let visit = |total: &mut SuffStats, window: u64| {
            let rows = cut.rows(window);
            let count = (rows.end - rows.start) as usize;
            let block = data::read(source, false, rows.start, count, &mut buffer)?;
            words.resize(count * width, 0);
            self.sets.memory().read(rows.clone(), &mut words)?;
            self.visit_block(executor, table, (source, block), is_first, &mut words, total)?;
            self.sets.memory().write(rows, &words)
        };
        let total = executor.sum_in_turn(cut.n_lanes(), &table.new_stats(), visit)?;
        if executor.ranks().is_some() {
            let own = executor.own_lanes(cut.n_lanes());
            self.sets.keep_own(cut.rows(own.start).start..cut.rows(own.end).start);
        }
        self.is_torn = false;
        Ok(total)
    }

    /// Visits the points of a minibatch, whose sets are at hand by their positions in a window.
    fn visit_batch(
        &mut self,
        executor: &Executor,
        table: &ComponentTable<T>,
        batch: &Batch<'_, T>,
        positions: &[u32],
    ) -> Result<SuffStats> {
        let cut = self.cut(batch.len(), batch.dim());
        let (mut buffer, mut all_words) = (BlockBuf::default(), Vec::new());
        let visit = |total: &mut SuffStats, window: u64| {
            let rows = cut.rows(window);
            let (start, count) = (rows.start as usize, (rows.end - rows.start) as usize);
            let block = data::read(batch, false, rows.start, count, &mut buffer)?;
            let mut words = self.sets.rows(&positions[start..][..count]);
            self.visit_block(executor, table, (batch, block), true, &mut words, total)?;
            all_words.append(&mut words);
            Ok(())
        };
        let total = executor.sum_in_turn(cut.n_lanes(), &table.new_stats(), visit)?;
        self.sets.set_rows(positions, &executor.gather(all_words)?);
        Ok(total)
    }

    /// Visits the points of a block, with their sets as words. Checks the points if that is not done yet.
    fn visit_block(
        &mut self,
        executor: &Executor,
        table: &ComponentTable<T>,
        (source, block): (&dyn DataSource<T>, Block<'_, T>),
        checks_points: bool,
        words: &mut [u64],
        total: &mut SuffStats,
    ) -> Result<()> {
        let states = self.settings.states;
        if checks_points {
            check_points(self.maximizer.model(), source, block)?;
        }
        let mut sets = unpacked(words, states);
        // Those of a checkpoint may be damaged.
        if sets.iter().any(|&member| member as usize > table.n_components()) {
            return Err(damaged());
        }
        self.visit(executor, table, block, &mut sets, total)?;
        if !total.log_evidence().is_finite() {
            let domains = self.maximizer.model().domains();
            return Err(first_fault(source, &domains, block).into());
        }
        pack(&sets, states, words);
        Ok(())
    }

    /// Returns the sum of the log base measure over the points of a source.
    fn sum_of_base_measure(&self, source: &dyn DataSource<T>, executor: &Executor) -> Result<f64> {
        let measure = self.maximizer.model().family().log_base_measure();
        if measure.is_one() {
            return Ok(0.0);
        }
        let visit = |(): &mut (), sum: &mut Vec<f64>, block: Block<'_, T>| {
            for_each_base_measure(&measure, executor.simd(), block, |i, value| {
                sum[0] += block.weights.map_or(1.0, |weights| weights[i]) * value;
            });
            Ok(())
        };
        let work = 16 * source.dim();
        let sum = lanes::pass(source, executor, work, &vec![0.0], || (), visit, |(), _| ())?;
        Ok(sum[0])
    }
}

/// Computes the log base measure of each point of a block.
fn for_each_base_measure<T: Scalar>(
    measure: &BaseMeasure,
    simd: Simd,
    block: Block<'_, T>,
    mut visit: impl FnMut(usize, f64),
) {
    let dim = block.dim();
    let mut tile = vec![T::ZERO; TILE * dim];
    let (mut scratch, mut values) = (vec![0.0; TILE * (dim + 1)], vec![0.0; TILE]);
    for start in (0..block.len()).step_by(TILE) {
        let part = block.slice(start, TILE.min(block.len() - start));
        statistics::load(simd, part.points, &[], &mut tile, TILE);
        let tile = Tile { values: &tile, dim, n_points: part.len(), stride: TILE };
        let (terms, constant) = (&measure.terms, measure.constant);
        let out = &mut values[..part.len()];
        statistics::log_base_measure(simd, terms, constant, tile, &mut scratch, out);
        out.iter().enumerate().for_each(|(i, &value)| visit(start + i, value));
    }
}

impl<T: Scalar> Learner<T> for TruncatedMixtureLearner<T> {
    type Maximizer = TruncatedMixtureMaximizer;

    fn maximizer(&self) -> &TruncatedMixtureMaximizer {
        &self.maximizer
    }

    fn maximizer_mut(&mut self) -> &mut TruncatedMixtureMaximizer {
        &mut self.maximizer
    }

    /// Improves the sets of the points, and sums up what the M-step needs of them.
    fn e_step(&mut self, batch: &Batch<'_, T>, executor: &Executor) -> Result<SuffStats> {
        let table = self.maximizer.model().component_table(executor.simd());
        let window = batch.window();
        let has_new_points = match window {
            Some(window) => window.place().epoch == 0,
            None => !batch.is_whole() || self.maximizer.search.steps == 0,
        };
        self.prepare(executor, &table, has_new_points)?;
        let mut total = match window.zip(batch.positions()) {
            Some((window, positions)) => {
                self.sets.turn_to(window)?;
                self.visit_batch(executor, &table, batch, positions)?
            }
            None => self.visit_all(executor, &table, batch)?,
        };
        check_sums(batch, &total)?;
        let log_base_measure = match self.log_base_measure.filter(|_| batch.is_whole()) {
            Some(known) => known,
            None => self.sum_of_base_measure(batch, executor)?,
        };
        if batch.is_whole() {
            self.log_base_measure = Some(log_base_measure);
        }
        *total.log_base_measure_mut() = log_base_measure;
        *total.log_evidence_mut() += log_base_measure;
        let search = &mut self.maximizer.search;
        search.steps += 1;
        search.since_neighbours += batch.len();
        search.since_cells += batch.len();
        // The lists know the halves. After a visit of all points, their sets do too.
        search.halves.clear();
        Ok(total)
    }

    fn takes(&self, statistics: &SuffStats, executor: &Executor) -> bool {
        let table: ComponentTable<T> = self.maximizer.model().component_table(executor.simd());
        table.new_stats().shape() == statistics.shape()
    }

    fn domains(&self) -> Vec<Domain> {
        self.maximizer.model().domains()
    }

    fn find_fault(&mut self, points: &dyn DataSource<T>, executor: &Executor) -> Option<Error> {
        search(self.maximizer.model(), self.settings, points, executor, self.seed).err()
    }

    /// Returns the bound of a search from the cells, which is below the log-likelihood.
    fn audit(
        &self,
        model: &Mixture,
        points: &dyn DataSource<T>,
        executor: &Executor,
    ) -> Result<f64> {
        let bound = search(model, self.settings, points, executor, self.seed)?;
        Ok(bound.log_evidence() / bound.total_weight())
    }

    fn truncation_loss(
        &mut self,
        points: &dyn DataSource<T>,
        executor: &Executor,
    ) -> Result<Option<TruncationLoss>> {
        if self.is_torn || self.maximizer.search.steps == 0 {
            return Ok(None);
        }
        let rows = loss::rows_of_a_sample(points.len(), self.seed);
        let values = loss::read_rows(points, &rows)?;
        let (width, states) = (self.sets.width(), self.settings.states);
        let mut words = vec![0; rows.len() * width];
        let memory = self.sets.complete(executor)?;
        for (&row, words) in rows.iter().zip(words.chunks_exact_mut(width)) {
            memory.read(row..row + 1, words)?;
        }
        let mut sets = unpacked(&words, states);
        let table = self.maximizer.model().component_table(executor.simd());
        // Point by point, for the evidence of each: what the next E-step would find.
        let (mut workspace, mut sums) = (table.workspace(), table.new_sums());
        let mut among_sets = Vec::with_capacity(rows.len());
        for (point, set) in values.chunks_exact(points.dim()).zip(sets.chunks_exact_mut(states)) {
            sums.clear();
            let leader = set[0].max(1) - 1;
            let members = self.maximizer.search.neighbours.members(leader).iter().copied();
            table.begin_group(leader, members, &mut workspace);
            let block = Block::from_rows(point, points.dim())?;
            let visit = Visit { block, rows: &[0], sets: set, states };
            table.visit(visit, &|_| None, &mut workspace, Some(&mut sums));
            among_sets.push(sums.log_evidence);
        }
        let measure = self.maximizer.model().family().log_base_measure();
        if !measure.is_one() {
            let sample = Block::from_rows(&values, points.dim())?;
            for_each_base_measure(&measure, executor.simd(), sample, |i, value| {
                among_sets[i] += value;
            });
        }
        loss::loss_of(&self.maximizer, &values, &among_sets, executor).map(Some)
    }

    fn rows(&mut self, executor: &Executor) -> Result<Option<&mut RowMemory>> {
        if self.is_torn {
            // A sweep over all points that failed has moved some sets: what was kept before it stands.
            return Err(not_finite());
        }
        self.sets.complete(executor).map(Some)
    }
}

/// Returns the statistics of points under truncated posteriors of a model, each after a search of its own.
pub(crate) fn search<T: Scalar>(
    model: &Mixture,
    settings: TruncatedSearch,
    points: &dyn DataSource<T>,
    executor: &Executor,
    seed: u64,
) -> Result<SuffStats> {
    let settings = largest(settings, model.n_components());
    let (width, folder) = (words_of_a_set(settings.states), std::env::temp_dir());
    let sets = RowMemory::new(points.len(), width, u64::MAX, &folder)?;
    let regularization = Regularization::default();
    let mut learner =
        TruncatedMixtureLearner::new(model.clone(), settings, regularization, sets, seed);
    learner.e_step(&Batch::part(points), executor)
}

/// Copies some rows of a block, with their weights.
fn gathered<T: Scalar>(block: Block<'_, T>, rows: &[u32]) -> (Vec<T>, Option<Vec<f64>>) {
    let mut values = Vec::with_capacity(rows.len() * block.dim());
    for &row in rows {
        let row = row as usize;
        match block.points.row(row).try_as_row_major() {
            Some(point) => values.extend_from_slice(point.as_slice()),
            None => values.extend((0..block.dim()).map(|d| block.points[(row, d)])),
        }
    }
    let weights = block.weights.map(|all| rows.iter().map(|&row| all[row as usize]).collect());
    (values, weights)
}

fn words_of_a_set(states: usize) -> usize {
    states.div_ceil(2)
}

/// Returns the sets that words hold, two members each.
fn unpacked(words: &[u64], states: usize) -> Vec<u32> {
    let mut sets = Vec::with_capacity(words.len() * 2);
    for words in words.chunks_exact(words_of_a_set(states)) {
        sets.extend((0..states).map(|k| (words[k / 2] >> (32 * (k % 2))) as u32));
    }
    sets
}

/// Packs sets into words.
fn pack(sets: &[u32], states: usize, words: &mut [u64]) {
    for (set, words) in
        sets.chunks_exact(states).zip(words.chunks_exact_mut(words_of_a_set(states)))
    {
        words.fill(0);
        for (k, &member) in set.iter().enumerate() {
            words[k / 2] |= u64::from(member) << (32 * (k % 2));
        }
    }
}

/// Returns sizes of sets and lists that are no larger than the mixture.
fn largest(settings: TruncatedSearch, n_components: usize) -> TruncatedSearch {
    TruncatedSearch {
        states: settings.states.min(n_components),
        neighbours: settings.neighbours.min(n_components),
        ..settings
    }
}

/// Makes the mixture of a run.
type Start<'f, T> = dyn Fn(&Fitting<'_, T, Mixture>, u64) -> Started<Mixture> + 'f;

/// Learns a mixture with truncated posteriors as `fitting` says, from starts that `start` makes.
///
/// # Errors
/// If a size is 0, there are more components than sets can name, or the sets have no room.
pub(in crate::em) fn fit_truncated<T: Scalar>(
    fitting: Fitting<'_, T, Mixture>,
    settings: TruncatedSearch,
    is_given: bool,
    start: &Start<'_, T>,
) -> Result<Fit<Mixture>> {
    for (name, value) in [("states", settings.states), ("neighbours", settings.neighbours)] {
        if value == 0 {
            return Err(Error::Config(format!(
                "{name} of truncated posteriors must be at least 1"
            )));
        }
    }
    let TruncatedSearch { states, neighbours, random } = settings;
    let words = format!(
        "truncated posteriors of {states} states, {neighbours} neighbours and {random} random components"
    );
    let make = |fitting: &Fitting<'_, T, Mixture>, run: u64, saved: Option<Mixture>| {
        let (model, event) = match saved {
            Some(model) => (model, None),
            None => start(fitting, run)?,
        };
        if model.family().fills_missing() {
            return Err(Error::Config(format!(
                "truncated posteriors fill no missing values of {}: leave out these points (--missing drop), or take exact posteriors",
                model.family().name()
            )));
        }
        let points = fitting.points();
        data::check_source(points, model.dim())?;
        let settings = largest(settings, model.n_components());
        // Those of a list may all have other labels than a point.
        if settings.neighbours < model.n_components() && LabelBlock::of(model.family()).is_some() {
            return Err(Error::Config(format!(
                "truncated posteriors of points with labels need all components as neighbours: take {} neighbours, or exact posteriors",
                model.n_components()
            )));
        }
        let width = words_of_a_set(settings.states);
        let memory = fitting.stream().map_or(u64::MAX, |stream| stream.memory / 2);
        let sets = RowMemory::new(points.len(), width, memory, &fitting.folder())?;
        let regularization = fitting.settings().regularization.clone();
        let seed = fitting.settings().seed.wrapping_add(run << 32);
        let learner = TruncatedMixtureLearner::new(model, settings, regularization, sets, seed);
        Ok((learner, event))
    };
    fitting.best_of(is_given, &words, &make, &|fitting, learner| fitting.phases_by_rows(learner))
}
