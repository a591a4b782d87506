//! Learns networks with truncated posteriors: each point keeps a set of states between visits, and a visit goes on where the
//! last one ended. So the bound of the visited points never falls in their E-step.
//!
//! M-steps of zeros and ones are few Newton steps over the states that occur. These are not exact; the gap of each record is what the
//! identity `α · ∂F/∂Ψ + β · ∂F/∂θ` says it must be (theory 1.2). M-steps of Gaussian observables are exact, and the gap is zero unless
//! the prior is held.
//!
//! By minibatches, the settings are those of other streams ([`StreamConfig`]), with these differences:
//!
//! | setting | here |
//! |---|---|
//! | `least_step` | [`LEAST_STEP`] if not given, until the last phase |
//! | `average` | the last phase, as a part of the steps: minibatches count alike, and more of them are remembered |
//! | `patience` | epochs running whose visits gain no more than `tol`; then comes the last phase |
//! | `warm_up` | 0 after a random start; from a given network as many points as are remembered |
//! | `memory` | half for windows and the sets of the window in work, half for all other sets |
//! | `polish`, incremental EM | refused: both need the states of all points at once |

mod statistics;

pub use statistics::TruncatedStatistics;

use crate::block::BlockBuf;
use crate::codec;
use crate::data::prefetch::WINDOWS;
use crate::data::shuffle::BatchOrder;
use crate::data::{self, DataSource};
use crate::em::accumulator::Remember;
use crate::em::checkpoint::damaged;
use crate::em::config::Config;
use crate::em::driver::{Fit, Phase};
use crate::em::fitting::Fitting;
use crate::em::last_batches::{LEAST_STEP, LastBatches, REMEMBERED};
use crate::em::learner::{Batch, Learner, Maximizer, Mergeable, Standing, not_finite};
use crate::em::row_memory::{RowMemory, WindowRows};
use crate::em::stream::{StreamAlgorithm, StreamConfig};
use crate::error::{DataError, Error, Result};
use crate::exec::Executor;
use crate::family::Domain;
use crate::inference;
use crate::model::sbn::{
    LatentPosterior, SEARCH_SWEEPS, SearchWorkspace, SigmoidBeliefNet, SumsShape, TruncatedStates,
    TruncatedSums,
};
use crate::model::{EntropySum, GenerativeModel};
use crate::monitor::Event;
use crate::point_faults::{check_points, first_fault};
use crate::rng;
use crate::scalar::Scalar;
use crate::work::Workers;
use std::ops::Range;

/// Lanes at most, each with its own table of states.
const MAX_LANES: u64 = 32;

/// Points that make a lane worth its tables.
const MIN_POINTS_PER_LANE: u64 = 128;

/// New states that a point tries in a sweep, for each one that it keeps. Not tuned.
const CANDIDATES_PER_STATE: usize = 1;

/// Newton steps of an M-step, which starts where the last one ended. A second costs as much again; whether it would save as
/// many sweeps was not measured.
const NEWTON_STEPS: usize = 1;

/// Sweeps after a random start in which the prior stays where it is. Else a latent may come to be on in most points before
/// the weights know what it stands for, and serve as a bias from then on. Length chosen by trial on planted bars
/// (`examples/bars.rs`, seeds 0 to 9).
const HELD_PRIOR: usize = 20;

/// Steps by minibatches after a random start in which the prior stays where it is, half of all at most.
const HELD_STEPS: u64 = 80;

/// Sweeps over the sets of a minibatch in a visit, and in the first, when sets are random.
const SWEEPS: usize = 3;
const FIRST_SWEEPS: usize = 8;

/// Random streams of searches are other ones than those of orders.
const SEARCH: u64 = 0x7365_6172_6368_2069;

/// Points that a lane reads at once.
const READ_POINTS: usize = 1024;

/// A network with truncated posteriors, and the settings of its M-step.
#[derive(Clone, Debug)]
pub struct TruncatedMaximizer {
    model: SigmoidBeliefNet,
    /// Steps that are done.
    steps: u64,
    /// Steps in which the prior stays where it is.
    held_steps: u64,
}

impl Maximizer for TruncatedMaximizer {
    type Model = SigmoidBeliefNet;
    type Statistics = TruncatedStatistics;

    fn model(&self) -> &SigmoidBeliefNet {
        &self.model
    }

    fn model_mut(&mut self) -> &mut SigmoidBeliefNet {
        &mut self.model
    }

    fn maximize(
        &mut self,
        statistics: &TruncatedStatistics,
        workers: &dyn Workers,
    ) -> Result<Vec<Event>> {
        let held = self.standing() == Standing::Held;
        let moments = statistics.moments(&self.model);
        Ok(self.model.maximize(moments, NEWTON_STEPS, held, workers))
    }

    fn evaluate(
        &self,
        statistics: &TruncatedStatistics,
        workers: &dyn Workers,
    ) -> (f64, EntropySum) {
        self.model.bound_and_entropies(statistics.moments(&self.model), workers)
    }

    fn log_likelihood(&self, statistics: &TruncatedStatistics) -> f64 {
        statistics.log_evidence() / statistics.total_weight()
    }

    fn standing(&self) -> Standing {
        if self.steps <= self.held_steps { Standing::Held } else { Standing::Open }
    }

    fn n_parameters(&self) -> usize {
        self.model.n_parameters()
    }

    fn active_components(&self) -> usize {
        self.model.active_components()
    }

    fn save(&self) -> Vec<u8> {
        crate::em::checkpoint::encode(&self.steps)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        self.steps = crate::em::checkpoint::decode(bytes)?;
        Ok(())
    }
}

/// Learns a network with truncated posteriors; remembers the sets of states of all points.
#[derive(Debug)]
pub struct TruncatedLearner<T: Scalar> {
    maximizer: TruncatedMaximizer,
    /// States of a set.
    states: usize,
    seed: u64,
    /// Whether the network began with random weights.
    is_random: bool,
    sets: WindowRows,
    lanes: Vec<Lane<T>>,
    /// Whether a sweep failed in the middle.
    is_torn: bool,
}

/// A share of the points of an E-step.
#[derive(Debug)]
struct Lane<T> {
    points: Range<usize>,
    /// Points of positive weight.
    n_weighted: usize,
    sets: Option<TruncatedStates>,
    workspace: SearchWorkspace,
    buffer: BlockBuf<T>,
}

/// What another rank needs of a lane: points of positive weight, sums, sets.
type LaneMessage = (u64, Vec<u64>, Vec<f64>, Vec<u64>);

impl<T> Lane<T> {
    /// Returns what the lane came to.
    fn message(&self) -> Vec<u8> {
        let (keys, numbers) = self.workspace.sums_of_states.parts();
        let sets = self.sets.as_ref().map(TruncatedStates::packed).unwrap_or_default();
        codec::encode(&(self.n_weighted as u64, keys, numbers.collect::<Vec<_>>(), sets))
    }

    /// Becomes what the lane of another rank came to; nothing if the message does not fit.
    fn take(&mut self, message: &[u8], shape: SumsShape, states: usize) -> Option<()> {
        let (n_weighted, keys, numbers, sets) = codec::decode::<LaneMessage>(message)?;
        self.n_weighted = n_weighted as usize;
        self.workspace.sums_of_states = TruncatedSums::from_parts(shape, &keys, &numbers)?;
        self.sets = TruncatedStates::from_packed(self.points.len(), states, shape.latents, sets);
        self.sets.as_ref().map(|_| ())
    }
}

impl<T: Scalar> TruncatedLearner<T> {
    /// Makes a learner of the points of a source from where a network stands; `is_random` says that its weights are random.
    ///
    /// # Errors
    /// If the posteriors are not truncated, or sets of states have no room.
    pub(crate) fn new(
        model: SigmoidBeliefNet,
        is_random: bool,
        fitting: &NetworkFitting<'_, T>,
        run: u64,
    ) -> Result<Self> {
        let source = fitting.points();
        data::check_source(source, model.dim())?;
        let refuse = |message: &str| Err(Error::Config(message.to_owned()));
        let LatentPosterior::Truncated { states } = model.posterior() else {
            return refuse("the posteriors are not truncated; another learner is for these");
        };
        let (n, latents) = (source.len(), model.n_latents());
        let states = TruncatedStates::largest(latents, states);
        let width = words_of_a_set(&model)?;
        let (memory, planned) = match fitting.stream() {
            None => {
                check_room(n, latents, states)?;
                (8 * width as u64 * n, None)
            }
            Some(stream) if stream.algorithm == StreamAlgorithm::Incremental => {
                return refuse(
                    "incremental EM with truncated posteriors would go through the states of all points after each chunk: use \
                     stepwise EM",
                );
            }
            Some(stream) if stream.polish > 0 => {
                return refuse(
                    "closing iterations of batch EM need the states of all points at once: leave them out, and go on from the \
                     network that was learned",
                );
            }
            Some(stream) => {
                let n_batches = order(&model, fitting, stream)?.n_batches().max(1);
                (stream.memory / 2, Some(n_batches * stream.epochs as u64))
            }
        };
        let held_steps = match planned {
            _ if !is_random => 0,
            None => HELD_PRIOR as u64,
            Some(planned) => HELD_STEPS.min(planned / 2),
        };
        Ok(Self {
            maximizer: TruncatedMaximizer { model, steps: 0, held_steps },
            states,
            seed: fitting.settings().seed.wrapping_add(run << 32),
            is_random,
            sets: WindowRows::new(RowMemory::new(n, width, memory, &fitting.folder())?),
            lanes: Vec::new(),
            is_torn: false,
        })
    }

    /// Cuts points into lanes, each with its sets, or none before a first visit. Returns their number.
    fn prepare_lanes(
        &mut self,
        batch: &Batch<'_, T>,
        is_fresh: bool,
        executor: &Executor,
    ) -> Result<usize> {
        let (n, positions) = (batch.len() as usize, batch.positions());
        let (model, states) = (&self.maximizer.model, self.states);
        let n_lanes = (n as u64 / MIN_POINTS_PER_LANE).clamp(1, MAX_LANES);
        let per_lane = n.div_ceil(1 << n_lanes.ilog2()).max(1);
        let n_lanes = n.div_ceil(per_lane);
        if self.lanes.len() < n_lanes {
            let searcher = model.searcher(executor.simd(), states * CANDIDATES_PER_STATE);
            self.lanes.resize_with(n_lanes, || Lane {
                points: 0..0,
                n_weighted: 0,
                sets: None,
                workspace: searcher.workspace(),
                buffer: BlockBuf::default(),
            });
        }
        let (width, latents) = (self.sets.width(), model.n_latents());
        for (index, lane) in self.lanes[..n_lanes].iter_mut().enumerate() {
            lane.points = index * per_lane..((index + 1) * per_lane).min(n);
            if is_fresh {
                lane.sets = None;
                continue;
            }
            let packed = match positions {
                // Lanes over all points keep their sets from one iteration to the next.
                None if lane.sets.is_some() => continue,
                None => {
                    let mut packed = vec![0; lane.points.len() * width];
                    let rows = lane.points.start as u64..lane.points.end as u64;
                    self.sets.memory().read(rows, &mut packed)?;
                    packed
                }
                Some(positions) => self.sets.rows(&positions[lane.points.clone()]),
            };
            let sets = TruncatedStates::from_packed(lane.points.len(), states, latents, packed);
            // Sets of a checkpoint may be damaged.
            lane.sets = Some(sets.ok_or_else(damaged)?);
        }
        Ok(n_lanes)
    }

    /// Brings the sets at hand, or those of lanes over all points, back to where they are kept. They stay at hand.
    fn put_back(&mut self) -> Result<()> {
        if self.sets.has_window() {
            return self.sets.put_back();
        }
        for lane in &self.lanes {
            if let Some(sets) = &lane.sets {
                let rows = lane.points.start as u64..lane.points.end as u64;
                self.sets.memory().write(rows, sets.packed())?;
            }
        }
        Ok(())
    }
}

impl<T: Scalar> Learner<T> for TruncatedLearner<T> {
    type Maximizer = TruncatedMaximizer;

    fn maximizer(&self) -> &TruncatedMaximizer {
        &self.maximizer
    }

    fn maximizer_mut(&mut self) -> &mut TruncatedMaximizer {
        &mut self.maximizer
    }

    /// Improves the sets of the points, and sums up what the M-step needs of them.
    fn e_step(&mut self, batch: &Batch<'_, T>, executor: &Executor) -> Result<TruncatedStatistics> {
        let (steps, states) = (self.maximizer.steps, self.states);
        let window = batch.window();
        if let Some(window) = window {
            let mut buffer = BlockBuf::default();
            let model = &self.maximizer.model;
            if !model.accepts(data::read(batch, false, 0, batch.len() as usize, &mut buffer)?) {
                return Err(not_finite());
            }
            self.sets.turn_to(window)?;
        }
        let is_fresh = window.map_or(steps == 0, |window| window.place().epoch == 0);
        let n_lanes = self.prepare_lanes(batch, is_fresh, executor)?;
        let (model, seed) = (&self.maximizer.model, self.seed);
        let searcher = model.searcher(executor.simd(), states * CANDIDATES_PER_STATE);
        let sweeps = match (window.is_some(), is_fresh, self.is_random) {
            // An M-step from random sets would unlearn what the network knows.
            (_, true, false) => SEARCH_SWEEPS,
            (true, true, true) => FIRST_SWEEPS,
            (true, false, _) => SWEEPS,
            (false, ..) => 1,
        };
        // Sweeps over all points before this step: the first had more if the network was given.
        let more = if self.is_random || steps == 0 { 0 } else { SEARCH_SWEEPS as u64 - 1 };
        let whole_stream = |sweep: usize, index: usize| {
            let sweeps = steps + more + sweep as u64;
            rng::stream(seed, sweeps * n_lanes as u64 + index as u64)
        };
        self.is_torn = window.is_none();
        let visit = |index: usize, lane: &mut Lane<T>| {
            let mut rng = match window {
                Some(_) => rng::stream(seed ^ SEARCH, steps * MAX_LANES + index as u64),
                None => whole_stream(0, index),
            };
            let Lane { points, n_weighted, sets, workspace, buffer } = lane;
            let sets = sets.get_or_insert_with(|| searcher.start(points.len(), states, &mut rng));
            searcher.reset(workspace);
            for sweep in 0..sweeps {
                if window.is_none() && sweep > 0 {
                    rng = whole_stream(sweep, index);
                }
                searcher.reset_sums(workspace);
                *n_weighted = 0;
                for start in (0..points.len()).step_by(READ_POINTS) {
                    let count = READ_POINTS.min(points.len() - start);
                    let block =
                        data::read(batch, false, (points.start + start) as u64, count, buffer)?;
                    if window.is_none() && is_fresh && sweep == 0 {
                        check_points(model, batch, block)?;
                    }
                    let weights = |weights: &[f64]| weights.iter().filter(|&&w| w > 0.0).count();
                    *n_weighted += block.weights.map_or(count, weights);
                    searcher.sweep(block, sets, start, &mut rng, workspace, |_, _, _, _| {});
                    if !workspace.sums_of_states.is_finite() {
                        return Err(first_fault(batch, &model.domains(), block).into());
                    }
                }
            }
            Ok(())
        };
        let shape = model.sums_shape();
        let read = |lane: &mut Lane<T>, message: &[u8]| lane.take(message, shape, states).is_some();
        executor.for_each_of_ranks(&mut self.lanes[..n_lanes], visit, Lane::message, read)?;
        let mut total = TruncatedSums::new(shape);
        self.lanes[..n_lanes].iter().for_each(|it| total.add(1.0, &it.workspace.sums_of_states));
        if !(total.total_weight > 0.0) {
            let message = "the weights of all points are zero";
            return Err(DataError::new(batch.name(), message).into());
        }
        self.is_torn = false;
        if let Some(positions) = batch.positions() {
            for lane in &self.lanes[..n_lanes] {
                let sets = lane.sets.as_ref().expect("every lane ran");
                self.sets.set_rows(&positions[lane.points.clone()], sets.packed());
            }
        }
        self.maximizer.steps += 1;
        let n_points = self.lanes[..n_lanes].iter().map(|lane| lane.n_weighted).sum::<usize>();
        Ok(TruncatedStatistics::new(total, n_points as f64))
    }

    fn takes(&self, statistics: &TruncatedStatistics, _: &Executor) -> bool {
        statistics.shape() == self.maximizer.model.sums_shape()
    }

    fn domains(&self) -> Vec<Domain> {
        self.maximizer.model.domains()
    }

    fn find_fault(&mut self, points: &dyn DataSource<T>, _: &Executor) -> Option<Error> {
        let mut buffer = BlockBuf::default();
        let n = points.len();
        (0..n).step_by(READ_POINTS).find_map(|start| {
            let count = (n - start).min(READ_POINTS as u64) as usize;
            match data::read(points, false, start, count, &mut buffer) {
                Err(fault) => Some(fault),
                Ok(block) => {
                    check_points(&self.maximizer.model, points, block).err().map(Into::into)
                }
            }
        })
    }

    fn audit(
        &self,
        model: &SigmoidBeliefNet,
        points: &dyn DataSource<T>,
        executor: &Executor,
    ) -> Result<f64> {
        // A search of its own for each point, so that the bound is that of new points.
        Ok(inference::score(model, points, executor)?.log_likelihood)
    }

    fn rows(&mut self, _: &Executor) -> Result<Option<&mut RowMemory>> {
        if self.is_torn {
            // A sweep over all points that failed has moved some sets: what was kept before it stands.
            return Err(not_finite());
        }
        self.put_back()?;
        Ok(Some(self.sets.memory()))
    }
}

fn words_of_a_set(model: &SigmoidBeliefNet) -> Result<usize> {
    let LatentPosterior::Truncated { states } = model.posterior() else { return Err(damaged()) };
    let states = TruncatedStates::largest(model.n_latents(), states);
    let too_large = || Error::Config(format!("sets of {states} states are too large"));
    TruncatedStates::words_of_a_set(model.n_latents(), states).ok_or_else(too_large)
}

/// Returns the order of the points. Half the memory is for windows, of which there are [`WINDOWS`], and for the sets of the
/// window in work.
fn order<T: Scalar>(
    model: &SigmoidBeliefNet,
    fitting: &NetworkFitting<'_, T>,
    stream: &StreamConfig,
) -> Result<BatchOrder> {
    let (source, width) = (fitting.points(), words_of_a_set(model)?);
    let point = WINDOWS * (source.dim() * size_of::<T>() + 8);
    let all = point as u64 + 8 * width as u64;
    // In units of what `BatchOrder` counts: the bytes of a window of points.
    let bytes = stream.memory / 2 / all * (point / WINDOWS) as u64;
    let (batch, seed) = (stream.batch_size as u64, fitting.settings().seed);
    Ok(BatchOrder::minibatches::<T>(source, batch, bytes, seed, stream.shuffle).with_positions())
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
        "sets of {states} states for {points} points do not fit into memory: take fewer, or minibatches, which keep them \
         on the disk"
    )))
}

/// A fit of a network.
type NetworkFitting<'a, T> = Fitting<'a, T, SigmoidBeliefNet>;

/// Learns a network with truncated posteriors as `fitting` says, from starts that `start` makes, or from a checkpoint, after `adopt`;
/// `is_random` says that weights of starts are random.
///
/// # Errors
/// If a value is neither 0 nor 1: then its row and column are named; if sets of states cannot be written.
pub(in crate::em) fn fit_truncated<T: Scalar>(
    fitting: NetworkFitting<'_, T>,
    is_given: bool,
    is_random: bool,
    start: &dyn Fn(&NetworkFitting<'_, T>, u64) -> Result<SigmoidBeliefNet>,
    adopt: &dyn Fn(SigmoidBeliefNet) -> Result<SigmoidBeliefNet>,
) -> Result<Fit<SigmoidBeliefNet>> {
    let words = if is_random { "EM from a random start" } else { "EM from a given network" };
    let make = |fitting: &NetworkFitting<'_, T>, run, saved| {
        let model = match saved {
            Some(model) => model,
            None => start(fitting, run)?,
        };
        Ok((TruncatedLearner::new(adopt(model)?, is_random, fitting, run)?, None))
    };
    fitting.best_of(is_given, words, &make, &|fitting, learner| {
        let Some(stream) = fitting.stream() else {
            return Ok(vec![fitting.batch_phase(fitting.settings().max_iter, None)?]);
        };
        let order = order(&learner.maximizer.model, fitting, stream)?;
        let n_batches = order.n_batches().max(1) as usize;
        let last_phase = stream.last_phase(&order);
        let warm_up = stream.warm_up.unwrap_or(match is_random {
            true => 0,
            // What the network knows should not be unlearned from a few points.
            false => REMEMBERED.min(n_batches) as u64 * order.batch_points() as u64,
        });
        let least_step = stream.least_step.unwrap_or(LEAST_STEP);
        let batches = LastBatches::new(stream.step_size, least_step, warm_up, n_batches);
        let (tol, patience) = (fitting.settings().tol, stream.patience as u64);
        let remember = Remember::new(batches, tol, patience, last_phase);
        let (schedule, accumulator) = (stream.schedule(order), Box::new(remember));
        Ok(vec![Phase { schedule, accumulator, notice: None }])
    })
}

/// Returns the statistics of points under a network's truncated posteriors, after a search from random sets.
///
/// # Errors
/// If the posteriors are not truncated, or a value is neither 0 nor 1.
pub fn search<T: Scalar>(
    model: &SigmoidBeliefNet,
    source: &dyn DataSource<T>,
    executor: &Executor,
    seed: u64,
) -> Result<TruncatedStatistics> {
    let fitting = Fitting::new(source, executor).config(&Config { seed, ..Config::default() });
    let mut learner = TruncatedLearner::new(model.clone(), false, &fitting, 0)?;
    learner.e_step(&Batch::whole(source), executor)
}
