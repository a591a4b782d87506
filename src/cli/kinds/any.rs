//! A fitted or loaded model of any kind. Commands see models through [`AnyModel`] alone.

use super::{Described, Kind, kind_of};
pub use crate::any::{Latents, PerPoint};
use crate::any::{
    SampleSink, Sink, scores, search_labels, search_loss, search_score, search_scores, searched,
};
use crate::cli::source::{Source, with_points};
use crate::data::Schema;
use crate::error::Result;
use crate::exec::Executor;
use crate::inference::{self, Score};
use crate::model::Density;
use crate::monitor::TruncationLoss;
use crate::store::{self, Model, Stored, WithSchema};
use serde_json::Value;
use std::any::Any;
use std::fmt::Debug;
use std::path::Path;

/// Returns the most probable component of a point, the first of equals, and its probability.
pub fn leading_component(posterior: &[f64]) -> (usize, f64) {
    let better = |best: usize, c: usize| if posterior[c] > posterior[best] { c } else { best };
    let best = (0..posterior.len()).fold(0, better);
    (best, posterior[best])
}

/// A model of any kind. Every [`Kind`] implements it by the one `impl` below.
///
/// Most methods are those of [`Stored`], [`GenerativeModel`](crate::model::GenerativeModel) and [`inference`].
pub trait AnyModel: Described + Any + Debug + Send + Sync {
    /// Returns the kind, as messages call it: "a mixture".
    fn kind(&self) -> &'static str;
    fn name(&self) -> String;
    fn settings(&self) -> Vec<(&'static str, Value)>;
    fn sizes(&self) -> Vec<(&'static str, usize)>;
    /// Returns the model with the names of its dimensions, as JSON.
    fn to_json(&self, schema: Option<&Schema>) -> Value;
    fn save(&self, path: &Path, schema: Option<&Schema>) -> Result<()>;
    fn dim(&self) -> usize;
    fn n_parameters(&self) -> usize;
    /// Returns the number of components; 0 for a model without components.
    fn n_components(&self) -> usize;
    fn takes_sparse(&self) -> bool;
    /// Returns the same model for points with missing values.
    fn ignoring_missing(&self) -> Result<Box<dyn AnyModel>>;

    fn score(&self, source: Source<'_>, executor: &Executor) -> Result<Score>;

    /// Returns how far scores of these points are from those of all components, if components are searched.
    fn search_loss(
        &self,
        source: Source<'_>,
        executor: &Executor,
    ) -> Result<Option<TruncationLoss>>;

    /// Hands on numbers of each point, in order. Ask only for numbers that the model has.
    fn per_point(
        &self,
        numbers: PerPoint,
        source: Source<'_>,
        executor: &Executor,
        sink: &mut Sink<'_>,
    ) -> Result<()>;

    /// Hands on the most probable component of each point, in order.
    fn labels(
        &self,
        source: Source<'_>,
        executor: &Executor,
        sink: &mut dyn FnMut(&[u32]) -> Result<()>,
    ) -> Result<()>;

    /// Hands on `n` points that are drawn from the model, and their components if there are components.
    fn sample(
        &self,
        n: u64,
        seed: u64,
        executor: &Executor,
        sink: &mut SampleSink<'_>,
    ) -> Result<()>;
}

impl<M: Kind> AnyModel for M {
    fn kind(&self) -> &'static str {
        M::KIND
    }

    fn name(&self) -> String {
        Stored::name(self)
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        Stored::settings(self)
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        Stored::sizes(self)
    }

    fn to_json(&self, schema: Option<&Schema>) -> Value {
        store::to_json(&WithSchema { model: self.clone(), schema: schema.cloned() })
    }

    fn save(&self, path: &Path, schema: Option<&Schema>) -> Result<()> {
        store::save(path, &WithSchema { model: self.clone(), schema: schema.cloned() })
    }

    fn dim(&self) -> usize {
        M::dim(self)
    }

    fn n_parameters(&self) -> usize {
        M::n_parameters(self)
    }

    fn n_components(&self) -> usize {
        Density::<f64>::n_components(self)
    }

    fn takes_sparse(&self) -> bool {
        M::takes_sparse(self)
    }

    fn ignoring_missing(&self) -> Result<Box<dyn AnyModel>> {
        Ok(Box::new(M::ignoring_missing(self.clone())?))
    }

    fn search_loss(
        &self,
        source: Source<'_>,
        executor: &Executor,
    ) -> Result<Option<TruncationLoss>> {
        let mixture = self.as_mixture().and_then(|it| searched(it, source));
        mixture.map(|it| search_loss(it, source, executor)).transpose()
    }

    fn score(&self, source: Source<'_>, executor: &Executor) -> Result<Score> {
        if let Some(mixture) = self.as_mixture().and_then(|it| searched(it, source)) {
            return search_score(mixture, source, executor);
        }
        with_points!(source, points => inference::score(self, points, executor))
    }

    fn per_point(
        &self,
        numbers: PerPoint,
        source: Source<'_>,
        executor: &Executor,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        if let Some(mixture) = self.as_mixture().and_then(|it| searched(it, source)) {
            return search_scores(mixture, numbers, source, executor, sink);
        }
        match numbers {
            PerPoint::LogDensity | PerPoint::Posterior => {
                with_points!(source, points => scores(self, numbers, points, executor, sink))
            }
            PerPoint::State => with_points!(source, points => {
                let network = self.network().expect("states are those of networks");
                inference::most_probable_states(network, points, executor, |_, values| sink(values))
            }),
            PerPoint::Transform | PerPoint::Draws(_) | PerPoint::Reconstruct => {
                self.latents().expect("a model with latents").map(numbers, source, executor, sink)
            }
        }
    }

    fn labels(
        &self,
        source: Source<'_>,
        executor: &Executor,
        sink: &mut dyn FnMut(&[u32]) -> Result<()>,
    ) -> Result<()> {
        if let Some(mixture) = self.as_mixture().and_then(|it| searched(it, source)) {
            return search_labels(mixture, source, executor, sink);
        }
        with_points!(source, points => {
            inference::predict(self, points, executor, |_, labels| sink(labels))
        })
    }

    fn sample(
        &self,
        n: u64,
        seed: u64,
        executor: &Executor,
        sink: &mut SampleSink<'_>,
    ) -> Result<()> {
        inference::sample(self, n, seed, executor, sink)
    }
}

/// Loads a model of any kind, with the names of its dimensions if it has names.
pub fn load(path: &Path) -> Result<(Box<dyn AnyModel>, Option<Schema>)> {
    let WithSchema::<Model> { model, schema } = store::load(path)?;
    Ok(((kind_of(&model.name()).model)(model)?, schema))
}
