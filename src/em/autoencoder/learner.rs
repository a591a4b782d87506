//! The learner: passes of minibatches in lanes, closed forms and steps.

use super::adam::{Adam, Moments, PIECE};
use crate::block::{Block, BlockBuf};
use crate::data::{self, DataSource};
use crate::em::checkpoint::{damaged, decode, encode};
use crate::em::lanes::LANE_MEMORY;
use crate::em::learner::{Batch, Learner, Maximizer};
use crate::error::{DataError, Error, Result};
use crate::exec::Executor;
use crate::family::{Domain, Regularization};
use crate::inference;
use crate::model::autoencoder::{Lane, Packed, TILE_POINTS, fill_normal};
use crate::model::{EntropySum, GenerativeModel, VariationalAutoencoder};
use crate::monitor::Event;
use crate::point_faults::first_fault;
use crate::rng;
use crate::scalar::Scalar;
use crate::stats::SuffStats;
use crate::work::Workers;

/// Points that make up for what a lane costs: the sum of its gradient.
const MIN_POINTS_PER_LANE: usize = 64;

/// Lanes at most, each with a gradient of its own.
const MAX_LANES: usize = 32;

/// Random streams of samples are other ones than those of starts and orders.
const NOISE: u64 = 0x6e6f_6973_6520_7661;

/// What a pass over points yields.
#[derive(Clone, Debug)]
pub(in crate::em) struct Statistics {
    /// `H̄_h`, `M_h`, `R_d`, and as evidence the bound of the model that made them.
    pub moments: SuffStats,
    /// Variance of the mean bound that comes from sampling, an upper limit.
    pub sampling_variance: f64,
    /// Gradient of the mean bound.
    pub gradient: Vec<f64>,
}

/// A model and its optimiser.
#[derive(Clone, Debug)]
pub(in crate::em) struct AutoencoderMaximizer {
    model: VariationalAutoencoder,
    pub adam: Adam,
    /// Weight of the prior's term at the start, from which it falls to 1 in the first half of the steps; 1 for none. Else columns of the
    /// decoder have unit length: with columns that are free, weights would only scale the latents.
    first_prior_weight: f64,
    /// Latents that are in use.
    active: Vec<bool>,
    /// Memory of a gradient, for the next pass.
    pub spare: Vec<f64>,
}

impl AutoencoderMaximizer {
    /// Gives the columns of a dictionary unit length, if the prior's weight is annealed.
    pub fn pin_columns(&mut self, moments: &mut SuffStats) {
        if self.first_prior_weight != 1.0 {
            let Self { model, adam, .. } = self;
            model.pin_columns(moments, &mut |index, factor| adam.hear_scaled(index, factor));
        }
    }

    /// Takes the last step back.
    pub fn step_back(&mut self) {
        self.adam.step_back(self.model.parameters_mut());
    }
}

impl Maximizer for AutoencoderMaximizer {
    type Model = VariationalAutoencoder;
    type Statistics = Statistics;

    fn model(&self) -> &VariationalAutoencoder {
        &self.model
    }

    fn model_mut(&mut self) -> &mut VariationalAutoencoder {
        &mut self.model
    }

    /// Sets the variances, and moves the networks a step up the gradient.
    fn maximize(&mut self, statistics: &Statistics, workers: &dyn Workers) -> Result<Vec<Event>> {
        let events = self.model.m_step(&statistics.moments, &Regularization::default());
        self.active = self.model.active_latents(&statistics.moments);
        self.adam.ascend(self.model.parameters_mut(), &statistics.gradient, workers);
        Ok(events)
    }

    fn evaluate(&self, statistics: &Statistics, _: &dyn Workers) -> (f64, EntropySum) {
        let moments = &statistics.moments;
        (self.model.lower_bound(moments), self.model.entropy_sum(moments))
    }

    fn log_likelihood(&self, statistics: &Statistics) -> f64 {
        statistics.moments.log_evidence() / statistics.moments.total_weight()
    }

    fn n_parameters(&self) -> usize {
        self.model.n_parameters()
    }

    /// Returns the number of latents in use.
    fn active_components(&self) -> usize {
        self.active.iter().filter(|active| **active).count()
    }

    fn save(&self) -> Vec<u8> {
        encode(&(&self.adam.moments, &self.active))
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let (moments, active): (Moments, Vec<bool>) = decode(bytes)?;
        let fits = active.len() == self.model.n_latents() && self.adam.restore(moments);
        self.active = active;
        if fits { Ok(()) } else { Err(damaged()) }
    }

    fn finish(&mut self) -> Vec<Event> {
        self.model.finish();
        let unused = self.active.iter().enumerate().filter(|(_, active)| !**active);
        let latents: Vec<usize> = unused.map(|(h, _)| h).collect();
        if latents.is_empty() { Vec::new() } else { vec![Event::Collapsed { latents }] }
    }
}

/// Learns an autoencoder from points in precision `T`.
#[derive(Debug)]
pub(super) struct AutoencoderLearner<T: Scalar> {
    maximizer: AutoencoderMaximizer,
    packed: Packed<T>,
    lanes: Vec<(Lane<T>, BlockBuf<T>)>,
    seed: u64,
}

impl<T: Scalar> AutoencoderLearner<T> {
    pub fn new(model: VariationalAutoencoder, adam: Adam, seed: u64, executor: &Executor) -> Self {
        let packed = Packed::new(&model, executor.simd());
        let active = vec![true; model.n_latents()];
        let maximizer = AutoencoderMaximizer {
            model,
            adam,
            first_prior_weight: 1.0,
            active,
            spare: Vec::new(),
        };
        Self { maximizer, packed, lanes: Vec::new(), seed }
    }

    /// Anneals the weight of the prior from this number to 1.
    pub fn with_first_prior_weight(mut self, weight: f64) -> Self {
        self.maximizer.first_prior_weight = weight;
        self
    }

    /// Makes the lanes for `n` points. Returns the number of lanes, and of points in a lane.
    fn prepare_lanes(&mut self, n: usize) -> (usize, usize) {
        let model = &self.maximizer.model;
        let bytes = size_of::<T>() * model.n_network_parameters();
        let by_memory = LANE_MEMORY / bytes.max(1);
        let count = (n / MIN_POINTS_PER_LANE).min(by_memory).clamp(1, MAX_LANES);
        // Powers of two share out evenly on the usual numbers of threads.
        let count = 1 << count.ilog2();
        let per_lane = n.div_ceil(count);
        if self.lanes.len() < count {
            self.lanes.resize_with(count, || (Lane::new(model), BlockBuf::default()));
        }
        (count, per_lane)
    }
}

impl<T: Scalar> Learner<T> for AutoencoderLearner<T> {
    type Maximizer = AutoencoderMaximizer;

    fn maximizer(&self) -> &AutoencoderMaximizer {
        &self.maximizer
    }

    fn maximizer_mut(&mut self) -> &mut AutoencoderMaximizer {
        &mut self.maximizer
    }

    /// Returns statistics and gradient of a batch. The noise of a point follows from the seed, the step and its place in the batch.
    fn e_step(&mut self, batch: &Batch<'_, T>, executor: &Executor) -> Result<Statistics> {
        let n = batch.len() as usize;
        let (count, per_lane) = self.prepare_lanes(n);
        let Self { maximizer, packed, lanes, seed } = self;
        let more = (maximizer.first_prior_weight - 1.0) * maximizer.adam.left_of_first_half();
        maximizer.model.set_prior_weight(1.0 + more);
        let AutoencoderMaximizer { model, adam, spare, .. } = maximizer;
        let lanes = &mut lanes[..count];
        packed.refresh(model);
        let key = rng::bits(&mut rng::stream(*seed ^ NOISE, adam.moments.steps));
        let packed = &*packed;
        executor.for_each(lanes, |index, (lane, buffer)| {
            lane.clear();
            let end = ((index + 1) * per_lane).min(n);
            for start in (index * per_lane..end).step_by(TILE_POINTS) {
                let count = TILE_POINTS.min(end - start);
                let block = data::read(batch, false, start as u64, count, buffer)?;
                let noise = |i: usize, row: &mut [T]| {
                    fill_normal(&mut rng::stream(key, (start + i) as u64), row);
                };
                lane.add(model, packed, block, &noise);
                if !lane.stats.is_finite() && has_bad_value(model, block) {
                    return Err(first_fault(batch, &model.domains(), block).into());
                }
            }
            lane.complete(model, packed);
            Ok(())
        })?;
        let (mut moments, mut variance) = (model.new_stats(), 0.0);
        for (lane, _) in &*lanes {
            moments.add(&lane.stats);
            variance += lane.sampling_variance;
        }
        let weight = moments.total_weight();
        if !(weight > 0.0) {
            let message = "the weights of all points are zero";
            return Err(DataError::new(batch.name(), message).into());
        }
        *moments.log_evidence_mut() = weight * model.lower_bound(&moments);
        let mut gradient = std::mem::take(spare);
        gradient.resize(model.n_network_parameters(), 0.0);
        let mut parts: Vec<_> = gradient.chunks_mut(PIECE).collect();
        let lanes = &*lanes;
        executor.for_each(&mut parts, |index, part| {
            let start = index * PIECE;
            for (i, sum) in part.iter_mut().enumerate() {
                let terms = lanes.iter().map(|(lane, _)| lane.gradient[start + i].to_f64());
                *sum = terms.sum::<f64>() / weight;
            }
            Ok(())
        })?;
        let sampling_variance = variance / (weight * weight);
        Ok(Statistics { moments, sampling_variance, gradient })
    }

    fn domains(&self) -> Vec<Domain> {
        self.maximizer.model.domains()
    }

    /// A pass over the points of a window in their order; only points are at fault here, not the step.
    fn find_fault(&mut self, points: &dyn DataSource<T>, _: &Executor) -> Option<Error> {
        let (model, mut buffer) = (&self.maximizer.model, BlockBuf::default());
        (0..points.len()).step_by(TILE_POINTS).find_map(|start| {
            let count = (points.len() - start).min(TILE_POINTS as u64) as usize;
            match data::read(points, false, start, count, &mut buffer) {
                Err(fault) => Some(fault),
                Ok(block) if has_bad_value(model, block) => {
                    Some(first_fault(points, &model.domains(), block).into())
                }
                Ok(_) => None,
            }
        })
    }

    fn audit(
        &self,
        model: &VariationalAutoencoder,
        points: &dyn DataSource<T>,
        executor: &Executor,
    ) -> Result<f64> {
        Ok(inference::score(model, points, executor)?.log_likelihood)
    }
}

fn has_bad_value<T: Scalar>(model: &VariationalAutoencoder, block: Block<'_, T>) -> bool {
    let may_miss = model.domains().iter().any(|domain| domain.missing);
    let is_bad = |value: &T| !(value.is_finite() || may_miss && value.to_f64().is_nan());
    block.points.row_iter().any(|row| row.iter().any(is_bad))
}

/// Returns statistics of all points of a source under a model, with one sample for each point.
///
/// # Errors
/// If dimensions differ, if reading fails, or if a value of a point is not finite.
pub(crate) fn statistics<T: Scalar>(
    model: &VariationalAutoencoder,
    source: &dyn DataSource<T>,
    executor: &Executor,
) -> Result<SuffStats> {
    data::check_source(source, model.dim())?;
    let adam = Adam::new(model, 0.0, super::LearningRateSchedule::Constant, 1);
    let mut learner = AutoencoderLearner::new(model.clone(), adam, 0, executor);
    Ok(learner.e_step(&Batch::whole(source), executor)?.moments)
}
