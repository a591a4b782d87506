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
//!
//! The search itself is in `src/search/`.

mod maximizer;

pub use maximizer::TruncatedMixtureMaximizer;

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
use crate::exec::Executor;
use crate::family::{Domain, Regularization};
use crate::inference;
use crate::model::component_table::{ComponentTable, SearchableMixture, Visit, Wanted};
use crate::model::{Density, TruncatedSearch};
use crate::monitor::TruncationLoss;
use crate::point_faults::{check_points, first_fault};
use crate::rng;
use crate::scalar::Scalar;
use crate::search::{
    self, Cells, Points, Sets, Share, Yield, for_each_base_measure, visit, words_of_a_set,
};
use crate::stats::SuffStats;

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

/// Cells that hold each component, for points that have no set yet.
const BREADTH: usize = 6;

/// The members of the sets whose neighbours points try, in successive E-steps: those of the best alone are soon exhausted.
const PLACES: [usize; 4] = [0, 0, 1, 2];

/// The same for points that have no set yet, before their first E-step.
const FIRST_PLACES: [usize; 2] = [0, 1];

/// Seeds of the three purposes are far apart.
const VISITS: u64 = 0x7669_7369_7473_2020;
const NEIGHBOURS: u64 = 0x6e65_6967_6862_6f75;
const CELLS: u64 = 0x6365_6c6c_7320_2020;

/// Learns a mixture with truncated posteriors; remembers the sets of components of all points.
#[derive(Debug)]
pub struct TruncatedMixtureLearner<T: Scalar, M> {
    maximizer: TruncatedMixtureMaximizer<M>,
    settings: TruncatedSearch,
    seed: u64,
    sets: WindowRows,
    shares: Vec<Share<T>>,
    /// Sum of the log base measure over all points, once it is known.
    log_base_measure: Option<f64>,
    /// Logits of the E-step in work.
    evaluations: u64,
    /// Whether a sweep failed in the middle.
    is_torn: bool,
}

impl<T: Scalar, M: SearchableMixture + Density<T>> TruncatedMixtureLearner<T, M> {
    /// Makes a learner of the points of a source from where a mixture stands.
    pub(crate) fn new(
        model: M,
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
            evaluations: 0,
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
        let means = model.mean_statistics(table, executor);
        let mut cells = None;
        if cells_due {
            let alive: Vec<bool> = model.weights().iter().map(|&weight| weight > 0.0).collect();
            cells = Some(Cells::new(executor, table, &means, &alive, BREADTH, seed ^ CELLS)?);
        }
        let first = match &cells {
            Some(cells) if no_lists => {
                Some(search::neighbours_from(executor, table, &means, cells, width)?)
            }
            _ => None,
        };
        let old = first.as_ref().or(lists_due.then_some(&search.neighbours));
        let half = |component: u32| search.halves.get(&component).copied();
        let improve =
            |old| search::improve(executor, table, &means, old, &half, width, seed ^ NEIGHBOURS);
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
        sets: &Sets,
        total: &mut SuffStats,
    ) -> Result<()> {
        let states = self.settings.states;
        let search = &self.maximizer.search;
        let seed = (self.seed ^ VISITS).wrapping_add(search.steps);
        // In no fixed order: minibatches of an epoch may be as many as the places.
        let place =
            PLACES[rng::below(&mut rng::stream(seed, u64::MAX), PLACES.len() as u64) as usize];
        let (mut keys, exist) = sets.members(executor, place, table.n_components())?;
        if !exist {
            // Those of a checkpoint may be damaged.
            return Err(damaged());
        }
        let is_new = |&row: &u32| keys[row as usize] == 0 && sets.first(row as usize) == 0;
        let new: Vec<u32> = (0..block.len() as u32).filter(is_new).collect();
        if !new.is_empty() {
            let copied = (new.len() < block.len()).then(|| gathered(block, &new));
            let new_block = copied.as_ref().map(|(values, weights)| {
                let points = faer::MatRef::from_row_major_slice(values, new.len(), block.dim());
                Block { points, sparse: None, weights: weights.as_deref(), first: 0 }
            });
            let block = new_block.unwrap_or(block);
            let found = Sets::empty(new.len(), states);
            let (cells, shares) = (&search.cells, &mut self.shares);
            self.evaluations +=
                search::first_sets(executor, table, shares, cells, block, &found)?.1;
            for place in FIRST_PLACES {
                let (keys, _) = found.members(executor, place, table.n_components())?;
                let points = Points::new(block, &search.neighbours, &keys);
                self.evaluations += visit(executor, table, shares, &points, &found, Yield::Sets)?;
            }
            let mut set = vec![0; states];
            for (point, &row) in new.iter().enumerate() {
                found.read(point, &mut set);
                sets.write(row as usize, &set);
                keys[row as usize] = set[0].max(1) - 1;
            }
        }
        let points = Points {
            random: (seed, self.settings.random),
            halves: Some(&search.halves),
            ..Points::new(block, &search.neighbours, &keys)
        };
        let wanted = Yield::Statistics(total);
        self.evaluations += visit(executor, table, &mut self.shares, &points, sets, wanted)?;
        Ok(())
    }

    /// Cuts points into windows, each of which is visited on all threads. Ranks share windows.
    fn cut(&self, n_points: u64, dim: usize) -> Cut {
        let n_components = self.maximizer.model().weights().len() as u64;
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
            let own = std::mem::take(&mut words);
            words = self.visit_block(executor, table, (source, block), is_first, own, total)?;
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
            let words = self.sets.rows(&positions[start..][..count]);
            let words = self.visit_block(executor, table, (batch, block), true, words, total)?;
            all_words.extend(words);
            Ok(())
        };
        let total = executor.sum_in_turn(cut.n_lanes(), &table.new_stats(), visit)?;
        self.sets.set_rows(positions, &executor.gather(all_words)?);
        Ok(total)
    }

    /// Visits the points of a block, with their sets as words, and returns these. Checks the points if that is not done yet.
    fn visit_block(
        &mut self,
        executor: &Executor,
        table: &ComponentTable<T>,
        (source, block): (&dyn DataSource<T>, Block<'_, T>),
        checks_points: bool,
        words: Vec<u64>,
        total: &mut SuffStats,
    ) -> Result<Vec<u64>> {
        if checks_points {
            check_points(self.maximizer.model(), source, block)?;
        }
        let sets = Sets::from_words(words, self.settings.states);
        self.visit(executor, table, block, &sets, total)?;
        if !total.log_evidence().is_finite() {
            let domains = self.maximizer.model().domains();
            return Err(first_fault(source, &domains, block).into());
        }
        Ok(sets.into_words())
    }

    /// Returns the sum of the log base measure over the points of a source.
    fn sum_of_base_measure(&self, source: &dyn DataSource<T>, executor: &Executor) -> Result<f64> {
        let measure = self.maximizer.model().log_base_measure();
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

impl<T: Scalar, M: SearchableMixture + Density<T>> Learner<T> for TruncatedMixtureLearner<T, M> {
    type Maximizer = TruncatedMixtureMaximizer<M>;

    fn maximizer(&self) -> &TruncatedMixtureMaximizer<M> {
        &self.maximizer
    }

    fn maximizer_mut(&mut self) -> &mut TruncatedMixtureMaximizer<M> {
        &mut self.maximizer
    }

    /// Improves the sets of the points, and sums up what the M-step needs of them.
    fn e_step(&mut self, batch: &Batch<'_, T>, executor: &Executor) -> Result<SuffStats> {
        let table = self.maximizer.model().component_table(executor.simd(), executor);
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
        self.maximizer.model().complete(&mut total, executor);
        let log_base_measure = match self.log_base_measure.filter(|_| batch.is_whole()) {
            Some(known) => known,
            None => self.sum_of_base_measure(batch, executor)?,
        };
        if batch.is_whole() {
            self.log_base_measure = Some(log_base_measure);
        }
        *total.log_base_measure_mut() = log_base_measure;
        *total.log_evidence_mut() += log_base_measure;
        let evaluations = executor.gather(vec![std::mem::take(&mut self.evaluations)])?;
        let search = &mut self.maximizer.search;
        search.evaluations += evaluations.iter().sum::<u64>();
        search.steps += 1;
        search.since_neighbours += batch.len();
        search.since_cells += batch.len();
        // The lists know the halves. After a visit of all points, their sets do too.
        search.halves.clear();
        Ok(total)
    }

    fn takes(&self, statistics: &SuffStats, executor: &Executor) -> bool {
        let table: ComponentTable<T> =
            self.maximizer.model().component_table(executor.simd(), executor);
        table.new_stats().shape() == statistics.shape()
    }

    fn joint_evaluations(&self) -> Option<u64> {
        Some(self.maximizer.search.evaluations)
    }

    fn domains(&self) -> Vec<Domain> {
        self.maximizer.model().domains()
    }

    fn find_fault(&mut self, points: &dyn DataSource<T>, executor: &Executor) -> Option<Error> {
        search(self.maximizer.model(), self.settings, points, executor, self.seed).err()
    }

    /// Returns the bound of a search from the cells, which is below the log-likelihood.
    fn audit(&self, model: &M, points: &dyn DataSource<T>, executor: &Executor) -> Result<f64> {
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
        let rows = inference::rows_of_a_sample(points.len(), self.seed);
        let values = inference::read_rows(points, &rows)?;
        let (width, states) = (self.sets.width(), self.settings.states);
        let mut words = vec![0; rows.len() * width];
        let memory = self.sets.complete(executor)?;
        for (&row, words) in rows.iter().zip(words.chunks_exact_mut(width)) {
            memory.read(row..row + 1, words)?;
        }
        let sets = Sets::from_words(words, states);
        let table = self.maximizer.model().component_table(executor.simd(), executor);
        // Point by point, for the evidence of each: what the next E-step would find.
        let (mut workspace, mut sums) = (table.workspace(), table.new_sums());
        let mut among_sets = Vec::with_capacity(rows.len());
        let mut set = vec![0; states];
        for (k, point) in values.chunks_exact(points.dim()).enumerate() {
            sums.clear();
            sets.read(k, &mut set);
            let leader = set[0].max(1) - 1;
            let members = self.maximizer.search.neighbours.members(leader).iter().copied();
            table.begin_group(leader, members, &mut workspace);
            let block = Block::from_rows(point, points.dim())?;
            let visit = Visit { block, rows: &[0], sets: &mut set, states };
            table.visit(visit, &|_| None, &mut workspace, Wanted::Sums(&mut sums));
            among_sets.push(sums.log_evidence);
        }
        let measure = self.maximizer.model().log_base_measure();
        if !measure.is_one() {
            let sample = Block::from_rows(&values, points.dim())?;
            for_each_base_measure(&measure, executor.simd(), sample, |i, value| {
                among_sets[i] += value;
            });
        }
        inference::loss_of(self.maximizer.model(), &values, &among_sets, executor).map(Some)
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
pub(crate) fn search<T: Scalar, M: SearchableMixture + Density<T>>(
    model: &M,
    settings: TruncatedSearch,
    points: &dyn DataSource<T>,
    executor: &Executor,
    seed: u64,
) -> Result<SuffStats> {
    let settings = settings.at_most(model.weights().len());
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

/// Makes the mixture of a run.
type Start<'f, T, M> = dyn Fn(&Fitting<'_, T, M>, u64) -> Started<M> + 'f;

/// Learns a mixture with truncated posteriors as `fitting` says, from starts that `start` makes.
///
/// # Errors
/// If a size is 0, there are more components than sets can name, or the sets have no room.
pub(in crate::em) fn fit_truncated<T: Scalar, M: SearchableMixture + Density<T>>(
    mut fitting: Fitting<'_, T, M>,
    settings: TruncatedSearch,
    is_given: bool,
    start: &Start<'_, T, M>,
) -> Result<Fit<M>> {
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
    let make = |fitting: &Fitting<'_, T, M>, run: u64, saved: Option<M>| {
        let (model, event) = match saved {
            Some(model) => (model, None),
            None => start(fitting, run)?,
        };
        let points = fitting.points();
        data::check_source(points, model.dim())?;
        let settings = settings.at_most(model.weights().len());
        model.check_search(settings.neighbours)?;
        let width = words_of_a_set(settings.states);
        let memory = fitting.stream().map_or(u64::MAX, |stream| stream.memory / 2);
        let sets = RowMemory::new(points.len(), width, memory, &fitting.folder())?;
        let regularization = fitting.settings().regularization.clone();
        let seed = fitting.settings().seed.wrapping_add(run << 32);
        let learner = TruncatedMixtureLearner::new(model, settings, regularization, sets, seed);
        Ok((learner, event))
    };
    fitting.find_scales();
    fitting.best_of(is_given, &words, &make, &|fitting, learner| fitting.phases_by_rows(learner))
}
