//! The learner of every model that has an E-step over points: mixtures, factor analysers, belief networks.

use super::checkpoint::{damaged, decode, encode};
use super::elsewhere::Elsewhere;
use super::learner::{Batch, Learner, Maximizer, Mergeable};
use super::sweep::{Lanes, Sweeper, check_sums};
use crate::data::DataSource;
use crate::error::Result;
use crate::exec::Executor;
use crate::family::{Domain, Regularization};
use crate::model::{Constants, EStep, EntropySum, GenerativeModel};
use crate::monitor::Event;
use crate::scalar::Scalar;
use crate::stats::{DataConstants, SuffStats};
use crate::work::Workers;
use serde::{Deserialize, Serialize};

/// A model with the settings of its M-step.
#[derive(Clone, Debug)]
pub struct ModelMaximizer<M> {
    model: M,
    regularization: Regularization,
    /// Splits that repairs may still make: as many as there were components.
    splits_left: usize,
    /// Whether the model has chosen centres from what it knows of the points.
    is_centred: bool,
}

/// What a model file does not hold of a [`ModelMaximizer`].
#[derive(Serialize, Deserialize)]
struct Saved {
    splits_left: usize,
    is_centred: bool,
    forgotten: Vec<f64>,
}

impl<M: GenerativeModel> ModelMaximizer<M> {
    /// Wraps a model as it stands.
    pub fn new(model: M, regularization: Regularization) -> Self {
        let splits_left = model.active_components();
        Self { model, regularization, splits_left, is_centred: false }
    }

    /// Returns the settings of the M-step.
    pub(super) fn regularization(&self) -> &Regularization {
        &self.regularization
    }

    /// Returns the model, in the state that a file of its parameters would give back.
    pub fn into_model(mut self) -> M {
        self.model.finish();
        self.model
    }
}

impl<M: GenerativeModel> Maximizer for ModelMaximizer<M> {
    type Model = M;
    type Statistics = SuffStats;

    fn model(&self) -> &M {
        &self.model
    }

    fn model_mut(&mut self) -> &mut M {
        &mut self.model
    }

    fn maximize(&mut self, statistics: &SuffStats, workers: &dyn Workers) -> Result<Vec<Event>> {
        let events = self.model.m_step_by(statistics, &self.regularization, workers);
        if !self.is_centred {
            // A start may know little of where the points lie.
            self.recentre();
        }
        Ok(events)
    }

    fn evaluate(&self, statistics: &SuffStats, workers: &dyn Workers) -> (f64, EntropySum) {
        self.model.bound_and_entropies_by(statistics, workers)
    }

    fn takes_prior(&self) -> bool {
        self.model.takes_prior()
    }

    fn log_prior(&self, statistics: &SuffStats) -> Option<f64> {
        let prior = self.regularization.prior.as_ref();
        prior.map(|prior| self.model.log_prior(statistics, prior))
    }

    fn log_likelihood(&self, statistics: &SuffStats) -> f64 {
        statistics.log_evidence() / statistics.total_weight()
    }

    fn repair(&mut self, statistics: &SuffStats) -> Vec<Event> {
        self.model.repair(statistics, &mut self.splits_left)
    }

    fn adopt(&self, repairs: &[Event], statistics: &mut SuffStats) {
        self.model.adopt(repairs, statistics);
    }

    fn recentre(&mut self) {
        self.model.recentre();
        self.is_centred = true;
    }

    fn translate(&self, statistics: &mut SuffStats) {
        let centres = self.model.centres();
        self.model.translate(statistics, &centres);
    }

    fn displacement(&self, before: &SuffStats, now: &SuffStats, workers: &dyn Workers) -> f64 {
        let mut old = self.model.clone();
        old.m_step_by(before, &self.regularization, workers);
        let bound = |model: &M| model.bound_and_entropies_by(now, workers).0;
        bound(&self.model) - bound(&old)
    }

    fn n_parameters(&self) -> usize {
        self.model.n_parameters()
    }

    fn active_components(&self) -> usize {
        self.model.active_components()
    }

    fn save(&self) -> Vec<u8> {
        let forgotten = self.model.forgotten();
        encode(&Saved { splits_left: self.splits_left, is_centred: self.is_centred, forgotten })
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let saved: Saved = decode(bytes)?;
        (self.splits_left, self.is_centred) = (saved.splits_left, saved.is_centred);
        let is_finite = saved.forgotten.iter().all(|number| number.is_finite());
        if is_finite && self.model.remind(&saved.forgotten) { Ok(()) } else { Err(damaged()) }
    }

    fn finish(&mut self) -> Vec<Event> {
        self.model.finish();
        Vec::new()
    }
}

impl Mergeable for SuffStats {
    fn total_weight(&self) -> f64 {
        self.total_weight()
    }

    fn n_points(&self) -> f64 {
        self.n_points()
    }

    fn set_n_points(&mut self, n_points: f64) {
        *self.n_points_mut() = n_points;
    }

    fn log_evidence(&self) -> f64 {
        self.log_evidence()
    }

    fn add_scaled(&mut self, factor: f64, other: &Self) {
        self.add_scaled(factor, other);
    }

    fn scale(&mut self, factor: f64) {
        self.scale(factor);
    }

    fn blend(&mut self, step: f64, other: &Self) {
        self.blend(step, other);
    }

    fn clear(&mut self) {
        self.clear();
    }

    fn n_bytes(&self) -> usize {
        8 * (self.as_slice().len() + self.centres().len())
    }

    fn normalize_masses(&mut self) {
        let factor = self.total_weight() / self.mass().iter().sum::<f64>();
        self.mass_mut().iter_mut().for_each(|mass| *mass *= factor);
        for c in 0..self.shape().components {
            self.sums_mut(c).iter_mut().for_each(|sum| *sum *= factor);
        }
    }
}

/// A [`ModelMaximizer`] with the memory of its E-steps.
#[derive(Debug)]
pub struct ModelLearner<T: Scalar, M: EStep<T>> {
    maximizer: ModelMaximizer<M>,
    whole: Lanes<T, M::Workspace>,
    part: Lanes<T, M::Workspace>,
    /// What the first sweep over all points has summed once for all.
    constants: Option<DataConstants>,
    /// The E-step of all points, if they lie elsewhere.
    elsewhere: Option<Elsewhere<M>>,
}

impl<T: Scalar, M: EStep<T>> ModelLearner<T, M> {
    /// Wraps a model as it stands.
    ///
    /// # Errors
    /// If posteriors of the model are no function of parameters and point: another learner is for it.
    pub fn new(model: M, regularization: Regularization) -> Result<Self> {
        model.check_e_step()?;
        let regularization = Regularization { rounding: T::EPSILON, ..regularization };
        Ok(Self {
            maximizer: ModelMaximizer::new(model, regularization),
            whole: Lanes::default(),
            part: Lanes::default(),
            constants: None,
            elsewhere: None,
        })
    }

    /// Takes the E-steps of all points from elsewhere.
    pub fn with_e_step(self, elsewhere: Option<Elsewhere<M>>) -> Self {
        Self { elsewhere, ..self }
    }
}

impl<T: Scalar, M: EStep<T>> Learner<T> for ModelLearner<T, M> {
    type Maximizer = ModelMaximizer<M>;

    fn maximizer(&self) -> &ModelMaximizer<M> {
        &self.maximizer
    }

    fn maximizer_mut(&mut self) -> &mut ModelMaximizer<M> {
        &mut self.maximizer
    }

    fn e_step(&mut self, batch: &Batch<'_, T>, executor: &Executor) -> Result<SuffStats> {
        let model = &self.maximizer.model;
        if let (Some(elsewhere), true) = (&self.elsewhere, batch.is_whole()) {
            let total = elsewhere.e_step(model)?;
            return check_sums(batch, &total).map(|()| total);
        }
        match batch.is_whole() {
            true => self.whole.sweep_keeping(executor, batch, model, &mut self.constants),
            false => self.part.sweep(executor, batch, model),
        }
    }

    fn takes(&self, statistics: &SuffStats, executor: &Executor) -> bool {
        let model = &self.maximizer.model;
        let packed = model.pack(executor.simd(), 1, Constants::Sum, executor);
        model.new_stats(&packed).shape() == statistics.shape()
    }

    fn domains(&self) -> Vec<Domain> {
        self.maximizer.model.domains()
    }

    fn whitened_share(&self) -> Option<f64> {
        let [whitened, all] = [0, 1].map(|k| self.whole.paths[k] + self.part.paths[k]);
        (all > 0).then(|| whitened as f64 / all as f64)
    }

    fn audit(&self, model: &M, points: &dyn DataSource<T>, executor: &Executor) -> Result<f64> {
        let stats = Sweeper::new(points, executor).sweep(model)?;
        Ok(stats.log_evidence() / stats.total_weight())
    }
}
