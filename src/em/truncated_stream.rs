//! Minibatches with truncated posteriors: points keep their sets of states between visits, M-steps see the last minibatches.
//!
//! The statistics of an M-step are masses of states, and there are as many states as points times S, nearly: running sums over
//! them would grow with the stream. So this is stepwise EM with a memory that ends. The sums of the last [`REMEMBERED`] minibatches
//! (in the last phase of a fit [`REMEMBERED_LAST`]) are kept one by one; with `ω_k = γ_k Π_{j>k} (1 - γ_j)` for those, and 0 for all before,
//!
//! ```text
//! s_t = Σ_k ω_k ŝ_k / Σ_k ω_k        Θ_t = Newton step of the M-step for s_t, from Θ_{t-1}
//! ```
//!
//! A minibatch is forgotten with all it has: states, targets, posterior entropy. So the bound from `s_t` *is* `F(q, Θ_t)` of the points
//! that are remembered, each with the posterior it had; entropy sum and gap are exact for it (theory 1.7).
//!
//! Sets of states belong to points and not to visits: they are kept by the row of the point, in memory or in a temporary file,
//! and a visit goes on where the last one ended. So the bound of the visited points never falls in their E-step.
//!
//! The settings are those of other streams ([`StreamConfig`]), with these differences:
//!
//! | setting | here |
//! |---|---|
//! | `least_step` | [`LEAST_STEP`] where none is given, until the last phase |
//! | `average` | the last phase, as a part of the steps: minibatches count alike, and more of them are remembered |
//! | `patience` | epochs running whose visits gain no more than `tol`; then comes the last phase |
//! | `warm_up` | none after a random start; from a given network as many points as are remembered |
//! | `memory` | half for windows and the sets of the one that is worked on, half for all other sets |
//! | `polish`, incremental EM | refused: both need the states of all points at once |

use super::batch::Fit;
use super::checkpoint::{Checkpoints, FitState, agree, damaged};
use super::config::Config;
use super::kept::Kept;
use super::numbers::{Reader, write_records};
use super::state::EpochMeans;
use super::stepwise::not_finite;
use super::stream::{Algorithm, StreamConfig, StreamData, fingerprint, is_bad, is_final, left_out};
use super::sweep::check_points;
use super::truncated::{CANDIDATES_PER_STATE, MAX_LANES, MIN_POINTS_PER_LANE, NEWTON_STEPS};
use crate::block::{Block, BlockBuf};
use crate::data::prefetch::{self, WINDOWS, Windows};
use crate::data::shuffle::{BadRows, IsBad, Order, Place, Window};
use crate::data::{self, DataSource};
use crate::error::{DataError, Error, Result};
use crate::exec::Executor;
use crate::inference;
use crate::model::GenerativeModel;
use crate::model::sbn::{
    LatentPosterior, LatentStats, SEARCH_SWEEPS, SearchWorkspace, Searcher, SigmoidBeliefNet,
    TruncatedStates, TruncatedSums, is_binary,
};
use crate::monitor::{History, IterRecord, Minibatch, Observer, StopReason};
use crate::rng;
use crate::scalar::Scalar;
use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::time::Instant;

/// Minibatches that an M-step sees until the last phase, or as many as an epoch has. Its cost is in proportion to them.
pub const REMEMBERED: usize = 8;

/// The same in the last phase, in which all of them count alike.
pub const REMEMBERED_LAST: usize = 32;

/// Steps are no smaller until the last phase: large ones leave poor optima. This, the sweeps of a visit and how long the prior is held were
/// chosen by trial on the planted bars of `examples/bars.rs`, not tuned: all 16 were found from 12 of the seeds 0 to 13 with 2000 points by
/// 200 in 15 epochs, and from 6 of the seeds 0 to 6 with 20,000 by 500 in 4.
pub const LEAST_STEP: f64 = 0.5;

/// Sweeps over the sets of a minibatch in a visit, and in the first, when sets are random.
const SWEEPS: usize = 3;
const FIRST_SWEEPS: usize = 8;

/// Steps after a random start in which the prior stays where it is, half of all at most: see `truncated.rs`.
const HELD_STEPS: u64 = 80;

/// Random streams of searches are other ones than those of orders.
const SEARCH: u64 = 0x7365_6172_6368_2069;

/// A fit by minibatches with truncated posteriors, between two steps: all it takes to go on with the same bits.
#[derive(Debug)]
pub struct TruncatedStream {
    model: SigmoidBeliefNet,
    /// States of a set.
    states: usize,
    /// Whether the network began with random weights.
    random_start: bool,
    sets: Kept,
    recent: VecDeque<Seen>,
    settings: String,
    place: Place,
    seconds: f64,
    points_seen: u64,
    skipped: u64,
    steps: u64,
    /// Last step size γ.
    step_size: f64,
    /// Whether steps fall and more minibatches are remembered: the last phase.
    closing: bool,
    /// The step that ends a fit whose epochs gain nothing more.
    last_step: Option<u64>,
    /// Weight of all points so far.
    weight: f64,
    /// Points of positive weight so far.
    points: f64,
    /// Log-evidence by epochs.
    epoch: EpochMeans,
    /// Epochs running that gained no more than the tolerance.
    flat: u64,
    history: History,
    warnings: Vec<String>,
    stop_reason: Option<StopReason>,
    interrupted: Option<StopReason>,
}

/// A minibatch that is remembered.
#[derive(Debug)]
struct Seen {
    /// `γ_k Π_{j>k} (1 - γ_j)`.
    weight: f64,
    /// Points of positive weight.
    points: f64,
    sums: TruncatedSums,
}

impl TruncatedStream {
    /// The place in the stream.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Points seen so far.
    pub fn points_seen(&self) -> u64 {
        self.points_seen
    }

    /// Steps done so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Bytes of sets of states that are in a temporary file.
    pub fn spilled_bytes(&self) -> u64 {
        self.sets.spilled_bytes()
    }

    pub(crate) fn sets(&self) -> &Kept {
        &self.sets
    }

    pub(crate) fn sets_mut(&mut self) -> &mut Kept {
        &mut self.sets
    }

    /// The states of the minibatches that are remembered, packed.
    pub(crate) fn states(&self) -> Vec<u64> {
        self.recent.iter().flat_map(|seen| seen.sums.parts().0).copied().collect()
    }

    /// This state, as [`begin`] made it from the saved network, with its states, numbers, settings and warnings.
    ///
    /// # Errors
    /// If they are not those of such a state.
    pub(crate) fn restore(
        mut self,
        states: &[u64],
        numbers: &[f64],
        settings: String,
        warnings: Vec<String>,
    ) -> Result<Self> {
        (self.settings, self.warnings) = (settings, warnings);
        self.read(states, numbers).ok_or_else(damaged)?;
        Ok(self)
    }

    fn read(&mut self, mut states: &[u64], numbers: &[f64]) -> Option<()> {
        let mut from = Reader(numbers);
        self.place = Place { epoch: from.count()?, window: from.count()?, batch: from.count()? };
        self.seconds = from.next()?;
        self.points_seen = from.count()?;
        self.skipped = from.count()?;
        self.steps = from.count()?;
        self.step_size = from.next()?;
        self.closing = from.count()? == 1;
        let last_step = from.next()?;
        self.last_step = (last_step >= 0.0).then_some(last_step as u64);
        self.weight = from.next()?;
        self.points = from.next()?;
        self.epoch = EpochMeans { sum: from.next()?, steps: from.next()?, last: from.next()? };
        self.flat = from.count()?;
        self.random_start = from.count()? == 1;
        self.stop_reason = match from.count()? {
            0 => None,
            1 => Some(StopReason::Converged),
            _ => Some(StopReason::Epochs),
        };
        self.recent.clear();
        for _ in 0..from.count()? {
            let (weight, points) = (from.next()?, from.next()?);
            let n_words = usize::try_from(from.count()?).ok()?;
            let n_numbers = usize::try_from(from.count()?).ok()?;
            let (of_batch, rest) = states.split_at_checked(n_words)?;
            states = rest;
            let latents = self.model.n_latents();
            let sums = from.take(n_numbers)?;
            let sums = TruncatedSums::from_parts(latents, targets(&self.model), of_batch, sums)?;
            self.recent.push_back(Seen { weight, points, sums });
        }
        self.history.records = from.records()?;
        (from.0.is_empty() && states.is_empty()).then_some(())
    }

    /// What the M-step sees: the remembered minibatches by their weights, per unit of weight.
    fn remembered(&self) -> TruncatedSums {
        let whole: f64 = self.recent.iter().map(|seen| seen.weight).sum();
        let mut total = TruncatedSums::new(self.model.n_latents(), targets(&self.model));
        for Seen { weight, sums, .. } in &self.recent {
            total.add(weight / whole / sums.total_weight, sums);
        }
        total
    }

    /// Takes in a minibatch, and forgets one if there are more than `most`. Returns the part of the new one.
    fn remember(&mut self, sums: TruncatedSums, points: f64, step: f64, most: usize) -> f64 {
        for seen in &mut self.recent {
            seen.weight *= 1.0 - step;
        }
        self.recent.push_back(Seen { weight: step, points, sums });
        while self.recent.len() > most {
            self.recent.pop_front();
        }
        step / self.recent.iter().map(|seen| seen.weight).sum::<f64>()
    }

    /// `(1 / Σ_k ω_k² / n_k, standard error)` of the remembered minibatches.
    fn spread(&self, mean: f64) -> (f64, f64) {
        let whole: f64 = self.recent.iter().map(|seen| seen.weight).sum();
        let (mut inverse_n, mut squares, mut variance) = (0.0, 0.0, 0.0);
        for Seen { weight, points, sums } in &self.recent {
            let part = weight / whole;
            inverse_n += part * part / points;
            squares += part * part;
            variance += part * (sums.log_evidence / sums.total_weight - mean).powi(2);
        }
        let left = 1.0 - squares;
        let error = if left > 1e-9 { (variance / left * squares).sqrt() } else { f64::NAN };
        (1.0 / inverse_n, error)
    }
}

impl FitState for TruncatedStream {
    type Model = SigmoidBeliefNet;

    fn model(&self) -> &SigmoidBeliefNet {
        &self.model
    }

    fn settings(&self) -> &str {
        &self.settings
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// All but states: those of the points, and those of the minibatches that are remembered, are words and no numbers.
    fn numbers(&self) -> Vec<f64> {
        let Place { epoch, window, batch } = self.place;
        let mut numbers = vec![
            epoch as f64,
            window as f64,
            batch as f64,
            self.seconds,
            self.points_seen as f64,
            self.skipped as f64,
            self.steps as f64,
            self.step_size,
            f64::from(u8::from(self.closing)),
            self.last_step.map_or(-1.0, |step| step as f64),
            self.weight,
            self.points,
            self.epoch.sum,
            self.epoch.steps,
            self.epoch.last,
            self.flat as f64,
            f64::from(u8::from(self.random_start)),
            match self.stop_reason {
                None => 0.0,
                Some(StopReason::Converged) => 1.0,
                Some(_) => 2.0,
            },
            self.recent.len() as f64,
        ];
        for seen in &self.recent {
            let (of_batch, sums) = seen.sums.parts();
            numbers.extend([seen.weight, seen.points, of_batch.len() as f64]);
            let count = numbers.len();
            numbers.push(0.0);
            numbers.extend(sums);
            numbers[count] = (numbers.len() - count - 1) as f64;
        }
        write_records(&mut numbers, &self.history.records);
        numbers
    }
}

/// Length of `⟨x (z, 1)'⟩`.
fn targets(model: &SigmoidBeliefNet) -> usize {
    model.dim() * (model.observables().inputs() + 1)
}

/// The state of a fit that has not begun, of a network with truncated posteriors; `random_start` says that its weights are. Sets of
/// states that do not fit into half of `stream.memory` go to a temporary file in `folder`.
///
/// # Errors
/// If a setting is out of range or has no meaning here, the posteriors are not truncated, the dimensions differ, there are
/// no points, or no file can be made in the folder.
pub fn begin<T: Scalar>(
    model: SigmoidBeliefNet,
    random_start: bool,
    source: &dyn DataSource<T>,
    config: &Config,
    stream: &StreamConfig,
    folder: &Path,
) -> Result<TruncatedStream> {
    stream.check()?;
    config.check()?;
    let refuse = |message: &str| Err(Error::Config(format!("sbn: {message}")));
    let LatentPosterior::Truncated { states } = model.posterior() else {
        return refuse("this learns truncated posteriors; em::stream learns all others");
    };
    if stream.algorithm == Algorithm::Incremental {
        return refuse(
            "incremental EM with truncated posteriors would go through the states of all points after each chunk: use stepwise EM",
        );
    }
    if stream.polish > 0 {
        return refuse(
            "closing iterations of batch EM need the states of all points at once: leave them out, and go on from the network \
             that was learned",
        );
    }
    data::check_source(source, model.dim())?;
    let states = TruncatedStates::largest(model.n_latents(), states);
    let (order, width) = order(source, &model, config, stream)?;
    let settings = settings(source, &order, config, stream, states, random_start);
    Ok(TruncatedStream {
        sets: Kept::new(source.len(), width, stream.memory / 2, folder)?,
        states,
        random_start,
        recent: VecDeque::new(),
        settings,
        place: Place::default(),
        seconds: 0.0,
        points_seen: 0,
        skipped: 0,
        steps: 0,
        step_size: 1.0,
        closing: false,
        last_step: None,
        weight: 0.0,
        points: 0.0,
        epoch: EpochMeans::default(),
        flat: 0,
        history: History::default(),
        warnings: Vec::new(),
        stop_reason: None,
        interrupted: None,
        model,
    })
}

/// The order of the points, and the words of a set. Half the memory is for windows, of which there are [`WINDOWS`], and for the sets of
/// the one that is worked on.
fn order<T: Scalar>(
    source: &dyn DataSource<T>,
    model: &SigmoidBeliefNet,
    config: &Config,
    stream: &StreamConfig,
) -> Result<(Order, usize)> {
    let LatentPosterior::Truncated { states } = model.posterior() else {
        unreachable!("looked at before")
    };
    let states = TruncatedStates::largest(model.n_latents(), states);
    let too_large = || Error::Config(format!("sets of {states} states are too large"));
    let width = TruncatedStates::words_of_a_set(model.n_latents(), states).ok_or_else(too_large)?;
    let point = WINDOWS * (source.dim() * size_of::<T>() + 8);
    let all = point as u64 + 8 * width as u64;
    // In units of what `Order` counts: the bytes of a window of points.
    let bytes = stream.memory / 2 / all * (point / WINDOWS) as u64;
    let batch = stream.batch_size as u64;
    let order = Order::minibatches::<T>(source, batch, bytes, config.seed, stream.shuffle);
    Ok((order.with_positions(), width))
}

fn settings<T: Scalar>(
    source: &dyn DataSource<T>,
    order: &Order,
    config: &Config,
    stream: &StreamConfig,
    states: usize,
    random_start: bool,
) -> String {
    let start = if random_start { "a random start" } else { "a given network" };
    let common = fingerprint(source, order, config, stream);
    format!("{common}, sets of {states} states, {start}")
}

/// Learns a network with truncated posteriors by minibatches: from the beginning, or from a checkpoint.
///
/// The same seed and settings give the same bits on any number of threads, and whether or not the fit was interrupted.
///
/// # Errors
/// As [`begin`]; if the state belongs to other points or settings; if a value is neither 0 nor 1: then its row and column
/// are named; if sets of states or a checkpoint cannot be written. Not converging is no error.
pub fn resume<T: Scalar>(
    mut state: TruncatedStream,
    data: &StreamData<'_, T>,
    executor: &Executor,
    config: &Config,
    stream: &StreamConfig,
    observer: &mut dyn Observer,
    checkpoints: Option<Checkpoints<'_, TruncatedStream>>,
) -> Result<Fit<SigmoidBeliefNet>> {
    stream.check()?;
    config.check()?;
    data::check_dim(data.points, state.model.dim())?;
    let (order, _) = order(data.points, &state.model, config, stream)?;
    let settings = settings(data.points, &order, config, stream, state.states, state.random_start);
    agree(&state.settings, &settings)?;
    state.interrupted = None;
    let mut driver = Driver {
        begun: Instant::now(),
        seconds_before: state.seconds,
        last_checkpoint: Instant::now(),
        lanes: Vec::new(),
        window: Vec::new(),
        loaded: Vec::new(),
        state,
        data,
        order,
        executor,
        config,
        stream,
        observer,
        checkpoints,
    };
    let result = driver.run();
    // Whatever ended it, what was learned is kept.
    let saved = driver.save();
    result.and(saved)?;
    Ok(driver.finish())
}

/// Learns `model` from `source` by minibatches, from where it stands; sets that do not fit into memory go to the system's temporary
/// directory.
///
/// # Errors
/// As [`begin`] and [`resume`].
///
/// ```
/// use entropysum::data::memory::Points;
/// use entropysum::em::stream::StreamConfig;
/// use entropysum::em::{Config, SbnSpec, sbn, truncated_stream};
/// use entropysum::exec::Executor;
/// use entropysum::model::sbn::LatentPosterior;
/// use entropysum::monitor::Silent;
///
/// // Two causes, each of which turns on two of four pixels.
/// let rows = [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0; 4]];
/// let values = rows.concat().repeat(100);
/// let points = Points::from_rows(&values, 4)?;
/// let spec = SbnSpec::new(4).with_posterior(LatentPosterior::Truncated { states: 4 });
/// let start = sbn::start(&spec, &points, 1, 0)?;
/// let stream = StreamConfig { batch_size: 40, epochs: 10, ..StreamConfig::default() };
/// let executor = Executor::new(Some(1))?;
/// let config = Config::default();
/// let fit = truncated_stream::fit(start, true, &points, &executor, &config, &stream, &mut Silent)?;
/// // As many nats as two fair coins, at most.
/// let bound = fit.last().unwrap().lower_bound;
/// assert!(bound < -2.0 * f64::ln(2.0) + 0.1 && bound > -2.0, "{bound}");
/// # Ok::<(), entropysum::error::Error>(())
/// ```
pub fn fit<T: Scalar>(
    model: SigmoidBeliefNet,
    random_start: bool,
    source: &dyn DataSource<T>,
    executor: &Executor,
    config: &Config,
    stream: &StreamConfig,
    observer: &mut dyn Observer,
) -> Result<Fit<SigmoidBeliefNet>> {
    let folder = std::env::temp_dir();
    let state = begin(model, random_start, source, config, stream, &folder)?;
    let data = StreamData { points: source, held_out: None };
    resume(state, &data, executor, config, stream, observer, None)
}

struct Driver<'a, 'c, T: Scalar> {
    begun: Instant,
    seconds_before: f64,
    last_checkpoint: Instant,
    lanes: Vec<Lane<T>>,
    /// Sets of the points of a window, in the order of its chunks.
    window: Vec<u64>,
    /// The chunks whose sets these are.
    loaded: Vec<Range<u64>>,
    state: TruncatedStream,
    data: &'a StreamData<'a, T>,
    order: Order,
    executor: &'a Executor,
    config: &'a Config,
    stream: &'a StreamConfig,
    observer: &'a mut dyn Observer,
    checkpoints: Option<Checkpoints<'c, TruncatedStream>>,
}

/// A share of the points of a minibatch.
struct Lane<T> {
    points: Range<usize>,
    sets: Option<TruncatedStates>,
    workspace: SearchWorkspace<T>,
}

/// What a step did.
struct Step {
    stats: Option<LatentStats>,
    step_size: f64,
    batch_log_evidence: f64,
    /// Whether the prior was held.
    held: bool,
}

impl<T: Scalar> Driver<'_, '_, T> {
    fn run(&mut self) -> Result<()> {
        if self.state.stop_reason.is_some() {
            return Ok(());
        }
        let (order, place) = (self.order, self.state.place);
        let (points, epochs) = (self.data.points, self.stream.epochs as u64);
        let domains = self.state.model.domains();
        let is_bad = |row: &[T]| is_bad(&domains, row);
        let skips = self.stream.bad_rows == BadRows::Skip;
        let is_bad = skips.then_some(&is_bad as IsBad<'_, T>);
        let reason = prefetch::with_read_ahead(points, &order, place, epochs, is_bad, |windows| {
            self.stream(windows)
        })?;
        if is_final(reason) && self.state.steps == 0 {
            let message = "no points are left: all were left out";
            return Err(DataError::new(points.name(), message).into());
        }
        if is_final(reason) {
            self.state.stop_reason = Some(reason);
        } else {
            self.state.interrupted = Some(reason);
        }
        Ok(())
    }

    /// Steps until something ends them.
    fn stream(&mut self, windows: &mut Windows<'_, T>) -> Result<StopReason> {
        let pace = windows.pace();
        while let Some(window) = windows.next_window() {
            let window = window?;
            let first = self.state.place.enter(window.place());
            if first == 0 {
                self.state.skipped += window.skipped();
            }
            if window.is_empty() {
                self.state.place.window += 1;
                continue;
            }
            self.load(window)?;
            for index in first..window.n_batches() {
                pace.done(index, window.n_batches());
                let step = self.step(window, index)?;
                let done = Place { batch: index, ..window.place() };
                self.state.place = self.order.after(done, window.n_batches());
                if let Some(reason) = self.after_step(&step)? {
                    return Ok(reason);
                }
            }
            self.flush()?;
            self.loaded.clear();
        }
        Ok(StopReason::Epochs)
    }

    /// Brings the sets of a window's points into memory.
    fn load(&mut self, window: &Window<T>) -> Result<()> {
        self.loaded.clear();
        let width = self.state.sets.width();
        let rows: u64 = window.ranges().iter().map(|range| range.end - range.start).sum();
        self.window.resize(rows as usize * width, 0);
        let mut rest = &mut self.window[..];
        for range in window.ranges() {
            let (sets, after) = rest.split_at_mut((range.end - range.start) as usize * width);
            self.state.sets.read(range.clone(), sets)?;
            rest = after;
        }
        self.loaded = window.ranges().to_vec();
        Ok(())
    }

    /// Brings them back to where they are kept.
    fn flush(&mut self) -> Result<()> {
        let width = self.state.sets.width();
        let mut rest = &self.window[..];
        for range in &self.loaded {
            let (sets, after) = rest.split_at((range.end - range.start) as usize * width);
            self.state.sets.write(range.clone(), sets)?;
            rest = after;
        }
        Ok(())
    }

    /// The E-step of a minibatch, and a Newton step for those that are remembered. Fails before it changes anything.
    fn step(&mut self, window: &Window<T>, index: u64) -> Result<Step> {
        let (block, positions) = (window.batch(index), window.positions(index));
        if !is_binary(block) {
            return Err(self.locate(window, block, positions));
        }
        // Whoever is visited for the first time has no set yet.
        let fresh = window.place().epoch == 0;
        let sums = self.e_step(block, positions, fresh)?;
        let n_points =
            block.weights.map_or(block.len(), |w| w.iter().filter(|&&w| w > 0.0).count());
        let state = &mut self.state;
        let batch_log_evidence = sums.log_evidence / sums.total_weight;
        state.steps += 1;
        state.points_seen += block.len() as u64;
        state.points += n_points as f64;
        state.weight += sums.total_weight;
        let n_batches = self.order.n_batches().max(1);
        let planned = n_batches * self.stream.epochs as u64;
        let held = state.random_start && state.steps <= HELD_STEPS.min(planned / 2);
        let average = self.stream.average;
        if average > 0.0 && state.steps as f64 > (1.0 - average) * planned as f64 {
            state.closing = true;
        }
        let most = if state.closing { REMEMBERED_LAST } else { REMEMBERED }.min(n_batches as usize);
        let warm_up = self.stream.warm_up.unwrap_or(match state.random_start {
            true => 0,
            // What the network knows should not be unlearned from a few points.
            false => most as u64 * self.order.batch_points() as u64,
        });
        let was_warming_up = state.points - (n_points as f64) < warm_up as f64;
        let warming_up = state.points < warm_up as f64;
        let last = state.step_size;
        state.step_size = match state.steps {
            1 => 1.0,
            // As long as the parameters stay, all minibatches are equal.
            _ if was_warming_up => sums.total_weight / state.weight,
            // From the last one on all are equal.
            _ if state.closing => last / (1.0 + last),
            t => self.stream.step_size.at(t).max(self.stream.least_step.unwrap_or(LEAST_STEP)),
        };
        let step_size = state.remember(sums, n_points as f64, state.step_size, most);
        let mut stats = None;
        if !warming_up {
            let remembered = state.model.latent_stats_of(&state.remembered());
            state.model.maximize(&remembered, NEWTON_STEPS, held, self.executor);
            stats = Some(remembered);
        }
        Ok(Step { stats, step_size, batch_log_evidence, held })
    }

    /// Improves the sets of a minibatch, and sums up what the M-step needs of its points.
    fn e_step(
        &mut self,
        block: Block<'_, T>,
        positions: &[u32],
        fresh: bool,
    ) -> Result<TruncatedSums> {
        let model = &self.state.model;
        let (latents, states) = (model.n_latents(), self.state.states);
        let searcher: Searcher<T> =
            model.searcher(self.executor.simd(), states * CANDIDATES_PER_STATE);
        let n_lanes = (block.len() as u64 / MIN_POINTS_PER_LANE).clamp(1, MAX_LANES);
        let per_lane = block.len().div_ceil(1 << n_lanes.ilog2()).max(1);
        let n_lanes = block.len().div_ceil(per_lane);
        while self.lanes.len() < n_lanes {
            let workspace = searcher.workspace();
            self.lanes.push(Lane { points: 0..0, sets: None, workspace });
        }
        let width = self.state.sets.width();
        for (index, lane) in self.lanes[..n_lanes].iter_mut().enumerate() {
            lane.points = index * per_lane..((index + 1) * per_lane).min(block.len());
            lane.sets = (!fresh).then(|| {
                let mut packed = Vec::with_capacity(lane.points.len() * width);
                for &position in &positions[lane.points.clone()] {
                    packed.extend_from_slice(&self.window[position as usize * width..][..width]);
                }
                TruncatedStates::from_packed(lane.points.len(), states, latents, packed)
                    .expect("as many words as the sets have")
            });
        }
        let sweeps = match (fresh, self.state.random_start) {
            (false, _) => SWEEPS,
            (true, true) => FIRST_SWEEPS,
            // An M-step from random sets would unlearn what the network knows.
            (true, false) => SEARCH_SWEEPS,
        };
        let (seed, steps) = (self.config.seed ^ SEARCH, self.state.steps);
        self.executor.for_each(&mut self.lanes[..n_lanes], |index, lane| {
            let mut rng = rng::stream(seed, steps * MAX_LANES + index as u64);
            let points = block.slice(lane.points.start, lane.points.len());
            let sets =
                lane.sets.get_or_insert_with(|| searcher.start(points.len(), states, &mut rng));
            searcher.reset(&mut lane.workspace);
            for _ in 0..sweeps {
                searcher.reset_sums(&mut lane.workspace);
                searcher.sweep(points, sets, 0, &mut rng, &mut lane.workspace, |_, _, _, _| {});
            }
            Ok(())
        })?;
        let mut total = TruncatedSums::new(latents, targets(model));
        for lane in &self.lanes[..n_lanes] {
            total.add(1.0, &lane.workspace.sums_of_states);
        }
        if !total.is_finite() {
            return Err(not_finite());
        }
        if !(total.total_weight > 0.0) {
            let message = "the weights of all points of a minibatch are zero";
            return Err(DataError::new(self.data.points.name(), message).into());
        }
        for lane in &self.lanes[..n_lanes] {
            let sets = lane.sets.as_ref().expect("every lane ran");
            let positions = &positions[lane.points.clone()];
            for (&position, set) in positions.iter().zip(sets.packed().chunks(width)) {
                self.window[position as usize * width..][..width].copy_from_slice(set);
            }
        }
        Ok(total)
    }

    /// The first value of a minibatch that is neither 0 nor 1, in the order of the source.
    fn locate(&self, window: &Window<T>, block: Block<'_, T>, positions: &[u32]) -> Error {
        let bad = (0..block.len()).filter(|&i| !is_binary(block.slice(i, 1)));
        let row = bad.map(|i| window.row(positions[i])).min().expect("there is one");
        let mut buffer = BlockBuf::default();
        match self.data.points.read(row, 1, &mut buffer) {
            Err(fault) => fault,
            Ok(point) => match check_points(&self.state.model, self.data.points, point) {
                Err(fault) => fault.into(),
                Ok(()) => not_finite(),
            },
        }
    }

    /// Records, rules and checkpoints after a step.
    fn after_step(&mut self, step: &Step) -> Result<Option<StopReason>> {
        let epoch_ends = self.state.place.window == 0 && self.state.place.batch == 0;
        let mut reason = None;
        if let Some(gain) = self.state.epoch.update(step.batch_log_evidence, epoch_ends) {
            let state = &mut self.state;
            state.flat = if gain <= self.config.tol && !step.held { state.flat + 1 } else { 0 };
            if state.flat >= self.stream.patience as u64 && state.last_step.is_none() {
                // The last phase: as many steps more as make up its part, as if the fit had been planned to end there.
                state.closing = self.stream.average > 0.0;
                let part = self.stream.average / (1.0 - self.stream.average);
                state.last_step = Some(state.steps + (part * state.steps as f64) as u64);
            }
            // Only at the end of an epoch: every point has then been seen as often as any other.
            if state.last_step.is_some_and(|last| state.steps >= last) {
                reason = Some(StopReason::Converged);
            }
        }
        let every = (self.order.n_batches() / self.stream.records as u64).max(1);
        let due = self.state.steps.is_multiple_of(every) || reason.is_some();
        let asked = match &step.stats {
            Some(stats) if due => self.record(stats, step.step_size)?,
            _ => self.observer.on_batch(self.state.points_seen),
        };
        if let ControlFlow::Break(asked) = asked {
            reason = reason.or(Some(asked));
        }
        if reason.is_none()
            && self.config.max_time.is_some_and(|limit| self.begun.elapsed() >= limit)
        {
            reason = Some(StopReason::MaxSeconds);
        }
        if self.checkpoints.as_ref().is_some_and(|c| self.last_checkpoint.elapsed() >= c.every) {
            self.save()?;
        }
        Ok(reason)
    }

    /// Adds a record and tells it to the observer.
    fn record(&mut self, stats: &LatentStats, step_size: f64) -> Result<ControlFlow<StopReason>> {
        let state = &mut self.state;
        let (lower_bound, entropy_sum) = state.model.bound_and_entropies(stats, self.executor);
        if !lower_bound.is_finite() || !entropy_sum.total().is_finite() {
            return Err(not_finite());
        }
        let whole: f64 = state.recent.iter().map(|seen| seen.weight).sum();
        let mean = |Seen { weight, sums, .. }: &Seen| {
            weight / whole * sums.log_evidence / sums.total_weight
        };
        let log_likelihood = state.recent.iter().map(mean).sum::<f64>();
        let (effective_points, standard_error) = state.spread(log_likelihood);
        let n_records = state.history.records.len() + 1;
        let audit = self.stream.audit > 0 && n_records.is_multiple_of(self.stream.audit);
        let minibatch = Minibatch {
            step_size,
            effective_points,
            standard_error,
            improvement: f64::NAN,
            remaining: f64::NAN,
            audit: if audit { self.audit()? } else { f64::NAN },
        };
        let seconds = self.seconds();
        let state = &mut self.state;
        let last = state.history.records.last();
        let record = IterRecord {
            iteration: state.steps as usize,
            seconds,
            points_seen: state.points_seen,
            change: entropy_sum.total() - last.map_or(log_likelihood, |r| r.entropy_sum.total()),
            entropy_sum,
            lower_bound,
            log_likelihood,
            active_components: state.model.active_components(),
            events: Vec::new(),
            minibatch: Some(minibatch),
        };
        let asked = self.observer.on_iteration(&record);
        state.history.records.push(record);
        Ok(asked)
    }

    /// Mean bound of the log-likelihood by a search of its own for the points held out, or for all.
    fn audit(&self) -> Result<f64> {
        let score = match self.data.held_out {
            Some(held_out) => inference::score(&self.state.model, held_out, self.executor)?,
            None => inference::score(&self.state.model, self.data.points, self.executor)?,
        };
        Ok(score.log_likelihood)
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.begun.elapsed().as_secs_f64()
    }

    fn save(&mut self) -> Result<()> {
        self.state.seconds = self.seconds();
        if self.checkpoints.is_some() {
            self.flush()?;
        }
        if let Some(checkpoints) = &mut self.checkpoints {
            (checkpoints.save)(&self.state)?;
        }
        // From here on: where disks are slow, the fit must go on between two.
        self.last_checkpoint = Instant::now();
        Ok(())
    }

    fn finish(self) -> Fit<SigmoidBeliefNet> {
        let seconds = self.seconds();
        let mut state = self.state;
        state.warnings.extend(left_out(self.data.points.skipped(), state.skipped));
        let reason = state.interrupted.or(state.stop_reason).unwrap_or(StopReason::Epochs);
        state.model.finish();
        Fit::new(state.model, state.history, reason, state.warnings, seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::memory::Points;
    use crate::em::SbnSpec;
    use crate::kernels::dispatch::Simd;

    /// The points of a few minibatches with their own posteriors, weighted as they are remembered: theory 1.7.
    #[test]
    fn the_bound_is_that_of_the_points_remembered_and_its_gap_is_certified() {
        let dim = 9;
        let x: Vec<f64> = (0..200 * dim).map(|k| f64::from((k * k / 7 + k / 5) % 3 == 0)).collect();
        let weights: Vec<f64> = (0..200).map(|i| 0.5 + f64::from(i % 3)).collect();
        let points = Points::from_rows(&x, dim).unwrap().with_weights(weights).unwrap();
        for hidden in [None, Some(6)] {
            let spec = SbnSpec { hidden, ..SbnSpec::new(7) };
            let spec = spec.with_posterior(LatentPosterior::Truncated { states: 5 });
            let stream = StreamConfig::default();
            let net = crate::em::sbn::start(&spec, &points, 1, 0).unwrap();
            let config = Config::default();
            let folder = std::env::temp_dir();
            let mut state = begin(net, true, &points, &config, &stream, &folder).unwrap();
            let (mut expected, mut whole) = (Vec::new(), 0.0);
            let mut buffer = BlockBuf::default();
            for k in 0..5 {
                let searcher = state.model.searcher::<f64>(Simd::detect(), 5);
                let mut workspace = searcher.workspace();
                let mut rng = rng::stream(3, k);
                let mut sets = searcher.start(40, 5, &mut rng);
                let block = points.read(40 * k, 40, &mut buffer).unwrap();
                searcher.sweep(block, &mut sets, 0, &mut rng, &mut workspace, |_, _, _, _| {});
                let sums = workspace.sums_of_states.clone();
                let step = 1.0 / (1.0 + 0.5 * k as f64);
                let part = state.remember(sums.clone(), 40.0, step, 3);
                expected.iter_mut().for_each(|(weight, _)| *weight *= 1.0 - step);
                expected.push((step, sums));
                expected.drain(..expected.len().saturating_sub(3));
                whole = expected.iter().map(|(weight, _)| weight).sum();
                assert!((part - step / whole).abs() < 1e-15);
            }
            let stats = state.model.latent_stats_of(&state.remembered());
            // Parameters of another time than the posteriors.
            state.model.maximize(&stats, NEWTON_STEPS, false, &crate::work::Alone);
            let model = &state.model;
            let bound = model.bound_of(&stats);
            let by_parts: f64 = expected
                .iter()
                .map(|(weight, sums)| weight / whole * model.bound_of(&model.latent_stats_of(sums)))
                .sum();
            assert!((bound - by_parts).abs() < 1e-12 * bound.abs(), "{bound} {by_parts}");
            let gap = bound - model.entropies_of(&stats).total();
            let (prior, layers) = model.certified_gap(&model.gradient_of(&stats));
            let certified = prior + layers.iter().sum::<f64>();
            assert!(gap.abs() > 1e-6 && (gap - certified).abs() < 1e-10, "{gap} {certified}");
            // All but the sets comes back from its parts.
            let (states, numbers) = (state.states(), state.numbers());
            let again = begin(state.model.clone(), true, &points, &config, &stream, &folder);
            let again =
                again.unwrap().restore(&states, &numbers, String::new(), Vec::new()).unwrap();
            assert_eq!(again.states(), states);
            let same =
                again.numbers().iter().zip(&numbers).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same && again.numbers().len() == numbers.len());
        }
    }
}
