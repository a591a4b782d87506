//! A fitted or loaded model of any kind. Commands see models through [`AnyModel`] alone.

use super::{Described, Kind, PointMap, kind_of};
use crate::cli::source::{Source, with_points};
use entropysum::error::{Error, Result};
use entropysum::exec::Executor;
use entropysum::inference::{self, Score};
use entropysum::model::{Density, LatentSpace};
use entropysum::store::{self, Model, Stored};
use serde_json::Value;
use std::any::Any;
use std::fmt::Debug;
use std::path::Path;

/// Takes numbers of successive points.
pub type ValueSink<'s> = dyn FnMut(&[f64]) -> Result<()> + 's;

/// Takes labels of successive points.
pub type LabelSink<'s> = dyn FnMut(&[u32]) -> Result<()> + 's;

/// Takes successive points, and their components if there are components.
pub type SampleSink<'s> = dyn FnMut(&[f64], &[u32]) -> Result<()> + 's;

/// A model of any kind. Every [`Kind`] implements it by the one `impl` below.
pub trait AnyModel: Described + Any + Debug + Send + Sync {
    /// Returns the kind, as messages call it: "a mixture".
    fn kind(&self) -> &'static str;

    /// Returns the name of the model in files and after `--model`.
    fn name(&self) -> String;

    /// Returns the settings that define the model and are no arrays.
    fn settings(&self) -> Vec<(&'static str, Value)>;

    /// Returns the sizes of the model. The last is "dim".
    fn sizes(&self) -> Vec<(&'static str, usize)>;

    /// Returns the model as a JSON object.
    fn to_json(&self) -> Value;

    /// Writes the model to a file, in the format that its name says.
    fn save(&self, path: &Path) -> Result<()>;

    /// Returns the dimension of the points.
    fn dim(&self) -> usize;

    /// Returns the number of free parameters.
    fn n_parameters(&self) -> usize;

    /// Returns the number of components; 0 for a model without components.
    fn n_components(&self) -> usize;

    /// Tells whether the model takes sparse points.
    fn takes_sparse(&self) -> bool;

    /// Returns the same model for points with missing values.
    fn ignoring_missing(&self) -> Result<Box<dyn AnyModel>>;

    /// Returns the mean log-density of points, and the terms of information criteria.
    fn score(&self, source: Source<'_>, executor: &Executor) -> Result<Score>;

    /// Hands on the log-density of each point.
    fn score_samples(
        &self,
        source: Source<'_>,
        executor: &Executor,
        sink: &mut ValueSink<'_>,
    ) -> Result<()>;

    /// Hands on the most probable component of each point.
    fn predict(
        &self,
        source: Source<'_>,
        executor: &Executor,
        sink: &mut LabelSink<'_>,
    ) -> Result<()>;

    /// Hands on the posterior probabilities of each point.
    fn predict_proba(
        &self,
        source: Source<'_>,
        executor: &Executor,
        sink: &mut ValueSink<'_>,
    ) -> Result<()>;

    /// Hands on `n` points that are drawn from the model.
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

    fn to_json(&self) -> Value {
        store::to_json(self)
    }

    fn save(&self, path: &Path) -> Result<()> {
        store::save(path, self)
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

    fn score(&self, source: Source<'_>, executor: &Executor) -> Result<Score> {
        with_points!(source, points => inference::score(self, points, executor))
    }

    fn score_samples(
        &self,
        source: Source<'_>,
        executor: &Executor,
        sink: &mut ValueSink<'_>,
    ) -> Result<()> {
        with_points!(source, points => {
            inference::score_samples(self, points, executor, |_, values| sink(values))
        })
    }

    fn predict(
        &self,
        source: Source<'_>,
        executor: &Executor,
        sink: &mut LabelSink<'_>,
    ) -> Result<()> {
        with_points!(source, points => {
            inference::predict(self, points, executor, |_, labels| sink(labels))
        })
    }

    fn predict_proba(
        &self,
        source: Source<'_>,
        executor: &Executor,
        sink: &mut ValueSink<'_>,
    ) -> Result<()> {
        with_points!(source, points => {
            inference::predict_proba(self, points, executor, |_, values| sink(values))
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

/// Loads a model of any kind.
pub fn load(path: &Path) -> Result<Box<dyn AnyModel>> {
    let model: Model = store::load(path)?;
    kind_of(&model.name()).model(model)
}

/// Maps of points by way of their latents. Every model with a vector of latents implements it.
pub trait LatentMaps {
    /// Returns how many numbers a map makes of a point.
    fn width(&self, map: PointMap) -> usize;

    /// Maps all points, in order.
    fn map(
        &self,
        map: PointMap,
        source: Source<'_>,
        executor: &Executor,
        sink: &mut ValueSink<'_>,
    ) -> Result<()>;
}

impl<M: LatentSpace<f32> + LatentSpace<f64>> LatentMaps for M {
    fn width(&self, map: PointMap) -> usize {
        match map {
            PointMap::Transform => LatentSpace::<f64>::n_latents(self),
            PointMap::Reconstruct => self.dim(),
        }
    }

    fn map(
        &self,
        map: PointMap,
        source: Source<'_>,
        executor: &Executor,
        sink: &mut ValueSink<'_>,
    ) -> Result<()> {
        with_points!(source, points => match map {
            PointMap::Transform => inference::transform(self, points, executor, |_, z| sink(z)),
            PointMap::Reconstruct => inference::reconstruct(self, points, executor, |_, x| sink(x)),
        })
    }
}

/// Returns the latent maps of a model, or an error that names another command if it has no latents.
pub fn latent_maps(model: &dyn AnyModel, map: PointMap) -> Result<&dyn LatentMaps> {
    let verb = match map {
        PointMap::Transform => "transform",
        PointMap::Reconstruct => "reconstruct",
    };
    model.latent_maps().ok_or_else(|| {
        Error::Config(format!(
            "cannot {verb}: {} is {}, which has no latent space; 'predict --proba' gives its posteriors",
            model.name(),
            model.kind()
        ))
    })
}
