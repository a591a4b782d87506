//! EM with truncated posteriors: each point keeps a set of states between sweeps.
//!
//! As `batch.rs`, but for the variational memory, and for M-steps by a few Newton steps over the states that occur. These
//! are not exact; the gap of each record is what the identity `α · ∂F/∂Ψ + β · ∂F/∂θ` says it must be (theory 1.2).

use super::batch::{self, Fit};
use super::checkpoint::{BatchState, Begin, Checkpoints, Keeper, damaged};
use super::config::Config;
use super::numbers::Reader;
use super::sweep::{check_points, first_fault};
use super::watch::{Iteration, Watch};
use crate::block::BlockBuf;
use crate::data::{self, DataSource};
use crate::error::{DataError, Error, Result};
use crate::exec::Executor;
use crate::model::GenerativeModel;
use crate::model::sbn::{
    LatentStats, SEARCH_SWEEPS, SearchWorkspace, SigmoidBeliefNet, TruncatedStates, TruncatedSums,
};
use crate::monitor::Observer;
use crate::rng;
use crate::scalar::Scalar;
use std::time::Instant;

/// Lanes at most, each with its own table of states.
pub(super) const MAX_LANES: u64 = 32;

/// Points that make a lane worth its tables.
pub(super) const MIN_POINTS_PER_LANE: u64 = 128;

/// New states that a point tries in a sweep, for each one that it keeps. Not tuned.
pub(super) const CANDIDATES_PER_STATE: usize = 1;

/// Newton steps of an M-step, which starts where the last one ended. A second costs as much again; whether it would save as
/// many sweeps was not measured.
pub(super) const NEWTON_STEPS: usize = 1;

/// Sweeps after a random start in which the prior stays where it is. Else a latent may come to be on in most points before
/// the weights know what it stands for, and serve as a bias from then on. Length chosen by trial on planted bars
/// (`examples/bars.rs`, seeds 0 to 9).
const HELD_PRIOR: usize = 20;

/// Sets of states of all points of a source, and what improves them.
#[derive(Debug)]
pub struct TruncatedSweeper<'a, T: Scalar> {
    source: &'a dyn DataSource<T>,
    executor: &'a Executor,
    states: usize,
    seed: u64,
    sweeps: u64,
    lanes: Vec<Lane<T>>,
}

#[derive(Debug)]
struct Lane<T> {
    first: u64,
    count: usize,
    sets: Option<TruncatedStates>,
    workspace: Option<SearchWorkspace<T>>,
    buffer: BlockBuf<T>,
}

/// What a sweep with truncated posteriors yields.
#[derive(Debug)]
pub struct TruncatedSweep {
    /// What an M-step needs.
    pub stats: LatentStats,
    /// Mean of `ln Σ_{z ∈ K_n} p(x_n, z)`: the lower bound of the parameters of the sweep, in nats per point.
    pub log_evidence: f64,
}

impl<'a, T: Scalar> TruncatedSweeper<'a, T> {
    /// Appends the sets of all points, as bits.
    fn write(&self, out: &mut Vec<f64>) {
        out.push(self.sweeps as f64);
        let sets = self.lanes.iter().filter_map(|lane| lane.sets.as_ref());
        out.push(sets.clone().map(|sets| sets.packed().len()).sum::<usize>() as f64);
        out.extend(sets.flat_map(TruncatedStates::packed).map(|&word| f64::from_bits(word)));
    }

    /// Takes the sets that [`write`](Self::write) gave.
    fn restore(&mut self, from: &mut Reader<'_>, latents: usize) -> Option<()> {
        self.sweeps = from.count()?;
        let states = TruncatedStates::largest(latents, self.states);
        let count = from.count()? as usize;
        let mut words = from.take(count)?.iter().map(|word| word.to_bits());
        for lane in self.lanes.iter_mut().filter(|_| count > 0) {
            let packed: Vec<u64> = words
                .by_ref()
                .take(TruncatedStates::words_of(lane.count, states, latents))
                .collect();
            lane.sets = Some(TruncatedStates::from_packed(lane.count, states, latents, packed)?);
        }
        words.next().is_none().then_some(())
    }

    /// Sweeps over `source` with sets of `states` states a point.
    pub fn new(
        source: &'a dyn DataSource<T>,
        executor: &'a Executor,
        states: usize,
        seed: u64,
    ) -> Self {
        let n = source.len();
        let n_lanes = (n / MIN_POINTS_PER_LANE).clamp(1, MAX_LANES);
        let per_lane = n.div_ceil(1 << n_lanes.ilog2()).max(1);
        let lanes = (0..n.div_ceil(per_lane))
            .map(|index| Lane {
                first: index * per_lane,
                count: per_lane.min(n - index * per_lane) as usize,
                sets: None,
                workspace: None,
                buffer: BlockBuf::default(),
            })
            .collect();
        Self { source, executor, states, seed, sweeps: 0, lanes }
    }

    /// Improves the sets of all points, and returns what the M-step needs. The bound that the sets allow never falls.
    ///
    /// # Errors
    /// If reading fails, or a value is neither 0 nor 1: then its row and column are named.
    pub fn sweep(&mut self, model: &SigmoidBeliefNet) -> Result<TruncatedSweep> {
        let states = TruncatedStates::largest(model.n_latents(), self.states);
        let searcher = model.searcher::<T>(self.executor.simd(), states * CANDIDATES_PER_STATE);
        let (source, seed) = (self.source, self.seed);
        check_room(source.len(), model.n_latents(), states)?;
        let n_lanes = self.lanes.len() as u64;
        let sweeps = self.sweeps;
        self.sweeps += 1;
        self.executor.for_each(&mut self.lanes, |index, lane| {
            let mut rng = rng::stream(seed, sweeps * n_lanes + index as u64);
            let workspace = lane.workspace.get_or_insert_with(|| searcher.workspace());
            searcher.reset(workspace);
            let sets =
                lane.sets.get_or_insert_with(|| searcher.start(lane.count, states, &mut rng));
            let per_read = 1024;
            for start in (0..lane.count).step_by(per_read) {
                let count = per_read.min(lane.count - start);
                let block = source.read(lane.first + start as u64, count, &mut lane.buffer)?;
                if sweeps == 0 {
                    check_points(model, source, block)?;
                }
                searcher.sweep(block, sets, start, &mut rng, workspace, |_, _, _, _| {});
                if !workspace.sums_of_states.is_finite() {
                    return Err(first_fault(source, &model.domains(), block).into());
                }
            }
            Ok(())
        })?;
        let mut total: Option<TruncatedSums> = None;
        for lane in &self.lanes {
            let sums = &lane.workspace.as_ref().expect("every lane ran").sums_of_states;
            match &mut total {
                None => total = Some(sums.clone()),
                Some(total) => total.add(1.0, sums),
            }
        }
        let total = total.filter(|total| total.total_weight > 0.0);
        let Some(total) = total else {
            return Err(DataError::new(source.name(), "the weights of all points are zero").into());
        };
        let log_evidence = total.log_evidence / total.total_weight;
        Ok(TruncatedSweep { stats: model.latent_stats_of(&total), log_evidence })
    }
}

/// Refuses sets of states that this machine has no addresses for; only touching them would tell whether it has the memory.
fn check_room(points: u64, latents: usize, states: usize) -> Result<()> {
    let words = TruncatedStates::words_of_a_set(latents, states)
        .and_then(|words| words.checked_mul(usize::try_from(points).ok()?));
    let fits = |words: usize| Vec::<u64>::new().try_reserve_exact(words).is_ok();
    if words.is_some_and(fits) {
        return Ok(());
    }
    Err(Error::Config(format!(
        "sbn: sets of {states} states for {points} points do not fit into memory: take fewer, or minibatches, which keep them \
         on the disk"
    )))
}

/// How a network is learned with truncated posteriors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Truncated {
    /// States that each point keeps.
    pub states: usize,
    /// Whether the network knows nothing yet.
    pub random_start: bool,
}

/// Learns a network with truncated posteriors, from where it stands or where another fit was kept.
///
/// # Errors
/// As [`em::fit_from`](super::fit_from); also if the network's posteriors are not truncated.
pub(super) fn fit_truncated<T: Scalar>(
    begin: Begin<SigmoidBeliefNet>,
    of: Truncated,
    source: &dyn DataSource<T>,
    executor: &Executor,
    config: &Config,
    observer: &mut dyn Observer,
    checkpoints: Option<Checkpoints<'_, BatchState<SigmoidBeliefNet>>>,
) -> Result<Fit<SigmoidBeliefNet>> {
    config.check()?;
    let settings = || format!("{}, {of:?}", batch::settings(source, config));
    let (mut keeper, mut model, kept) = Keeper::open(begin, checkpoints, settings)?;
    data::check_source(source, model.dim())?;
    let mut watch = Watch::new(Instant::now(), config, source.column_names())?;
    let mut sweeper = TruncatedSweeper::<T>::new(source, executor, of.states, config.seed);
    if let Some((numbers, warnings)) = kept {
        let mut from = Reader(&numbers);
        let read = sweeper.restore(&mut from, model.n_latents());
        let read = read.and_then(|()| watch.restore(&mut from, warnings));
        read.filter(|()| from.0.is_empty()).ok_or_else(damaged)?;
    } else if !of.random_start {
        // Files hold no sets of states, and an M-step from random ones would unlearn what the network knows.
        for _ in 1..SEARCH_SWEEPS {
            sweeper.sweep(&model)?;
        }
    }
    let state = |model: &SigmoidBeliefNet, sweeper: &TruncatedSweeper<'_, T>, watch: &Watch<'_>| {
        let mut numbers = Vec::new();
        sweeper.write(&mut numbers);
        watch.write(&mut numbers);
        (model.clone(), numbers, watch.warnings().to_vec())
    };
    let mut over = watch.is_over();
    while over.is_none() {
        // A sweep that fails has moved some sets already: what was kept before it stands.
        let TruncatedSweep { stats, log_evidence } = sweeper.sweep(&model)?;
        let iteration = watch.iteration();
        watch.held = of.random_start && iteration <= HELD_PRIOR;
        model.maximize(&stats, NEWTON_STEPS, watch.held, executor);
        let (lower_bound, entropy_sum) = model.bound_and_entropies(&stats, executor);
        let found = Iteration {
            points_seen: iteration as u64 * source.len(),
            entropy_sum,
            lower_bound,
            log_likelihood: log_evidence,
            active_components: model.active_components(),
            events: Vec::new(),
        };
        over = watch.record(found, observer);
        if over.is_some() || keeper.is_due() {
            keeper.keep(|| state(&model, &sweeper, &watch))?;
        }
    }
    Ok(watch.finish(model, over.expect("the loop has ended")))
}
