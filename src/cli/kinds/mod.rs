//! What the command line needs to know of each kind of model, one file a kind.
//!
//! A new kind implements [`Kind`] and [`Described`] in a file here and gets a line in [`KINDS`]. Commands see models of all
//! kinds as [`Model`], told by [`described`], and points of a fit as [`learning::AnyPrepared`]; so commands are compiled once.

mod autoencoder;
mod learning;
mod linear_gaussian;
mod mixture;
mod mixture_of_factor_analyzers;
mod sbn;

pub use learning::{AnyKind, Outcome, Prepared, Scree};

use crate::any::with_model;
use crate::cli::args::FitArgs;
use crate::cli::source::Source;
use crate::criterion::{CertifiedGap, FactorModel};
use crate::data::{DataSource, Schema};
use crate::em::Spec;
use crate::em::StreamAlgorithm;
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::model::{
    Density, GenerativeModel, LinearGaussian, Mixture, MixtureOfFactorAnalyzers, Sample,
    SigmoidBeliefNet, VariationalAutoencoder,
};
use crate::scalar::Scalar;
use crate::store::{self, Model, Stored, WithSchema};
use serde_json::Value;
use std::any::Any;
use std::fmt::Debug;
use std::path::Path;

/// All kinds.
static KINDS: [AnyKind; 5] = [
    AnyKind::of::<Mixture>(),
    AnyKind::of::<MixtureOfFactorAnalyzers>(),
    AnyKind::of::<LinearGaussian>(),
    AnyKind::of::<SigmoidBeliefNet>(),
    AnyKind::of::<VariationalAutoencoder>(),
];

/// Returns the kind of models of this name.
///
/// # Panics
/// If no model of the library has this name.
pub fn kind_of(name: &str) -> &'static AnyKind {
    let found = KINDS.iter().find(|kind| (kind.answers_to)(name));
    found.unwrap_or_else(|| unreachable!("{name} was looked up before"))
}

/// What a model tells of itself, as each kind says it.
pub trait Described: Any {
    /// Returns the model in one line: `gaussian-full, 3 components`.
    fn title(&self) -> String;

    /// Returns what a report tells of the parameters.
    fn details(&self) -> Vec<(&'static str, Value)>;

    /// Returns the parameters as a table for people, with the names of dimensions where they have names.
    fn table(&self, schema: Option<&Schema>) -> String;

    /// Returns the model that `check` tests: one of this kind, size and parameters.
    fn factors(&self) -> FactorModel;

    /// Returns both sides of the gap identity on points.
    fn certify(&self, points: &dyn DataSource<f64>, executor: &Executor) -> Result<CertifiedGap>;

    /// Tells whether scores are lower bounds of log-densities.
    fn scores_are_bounds(&self) -> bool {
        false
    }

    /// Returns the number of importance samples of each point in scores; 0 where there are none.
    fn importance_samples(&self) -> usize {
        0
    }

    /// Returns what `--plot-features` draws, if the kind can draw: tiles of D values, and how many stand in a row if they belong together.
    fn features(&self) -> Option<(Vec<Vec<f64>>, Option<usize>)> {
        None
    }
}

/// Returns a model of any kind as its kind tells of it.
pub fn described(model: &Model) -> &dyn Described {
    with_model!(model, it => it)
}

/// Loads a model of any kind, with the names of its dimensions if it has names.
pub fn load(path: &Path) -> Result<(Model, Option<Schema>)> {
    let WithSchema { model, schema } = store::load(path)?;
    Ok((model, schema))
}

/// Returns a model as JSON, with the names of its dimensions if it has names.
pub fn to_json(model: &Model, schema: Option<&Schema>) -> Value {
    store::to_json(&WithSchema { model: model.clone(), schema: schema.cloned() })
}

/// Writes a model, with the names of its dimensions if it has names.
pub fn save(path: &Path, model: &Model, schema: Option<&Schema>) -> Result<()> {
    store::save(path, &WithSchema { model: model.clone(), schema: schema.cloned() })
}

/// Returns the most probable component of a point, the first of equals, and its probability.
pub fn leading_component(posterior: &[f64]) -> (usize, f64) {
    let better = |best: usize, c: usize| if posterior[c] > posterior[best] { c } else { best };
    let best = (0..posterior.len()).fold(0, better);
    (best, posterior[best])
}

/// A kind of model on the command line: how it is learned, and from which arguments.
pub trait Kind:
    Described
    + Stored
    + GenerativeModel
    + Sample
    + Density<f32>
    + Density<f64>
    + TryFrom<Model, Error = Error>
    + Into<Model>
    + Debug
    + 'static
{
    /// What to fit, and how to start.
    type Spec: Spec<f32, Model = Self> + Spec<f64, Model = Self> + Send + Sync + 'static;

    /// Those arguments among [`FitArgs::of_kinds`] that the kind has a use for.
    const ARGUMENTS: &'static [&'static str];

    /// Names of the algorithms that learn the kind, the default first.
    const ALGORITHMS: &'static [&'static str];

    /// Points of a minibatch and passes over all points, if the kind learns by minibatches unless something else is typed.
    const MINIBATCHES: Option<(u64, u64)> = None;

    /// Refuses what was typed before any file of points is opened: what is missing, or does not agree with the model
    /// of `--init FILE`.
    fn check(args: &FitArgs, given: Option<Given<'_, Self>>) -> Result<()>;

    /// Returns what to fit to points of `dim` dimensions: a model of this name, or the given one.
    fn spec(name: &str, args: &FitArgs, given: Option<Self>, dim: usize) -> Result<Self::Spec>;

    /// Returns what a fit must have in common with one that goes on from its checkpoint, besides settings.
    fn label(spec: &Self::Spec) -> String;

    /// Chooses how points will be learned from, where that was not asked for. Returns what was chosen.
    fn choose(_spec: &mut Self::Spec, _args: &FitArgs, _source: Source<'_>) -> Option<String> {
        None
    }

    /// Tells whether the kind can be learned from sparse points.
    fn learns_from_sparse(_spec: &Self::Spec) -> bool {
        false
    }

    /// Prepares points for fits of these specifications, of which there is at least one.
    fn prepare<'a, T: Scalar>(
        _specs: &[Self::Spec],
        points: &'a dyn DataSource<T>,
        _executor: &'a Executor,
    ) -> Result<Box<dyn Prepared<T, Self> + 'a>>
    where
        Self: Density<T>,
        Self::Spec: Spec<T, Model = Self>,
    {
        Ok(Box::new(points))
    }
}

/// The model of `--init FILE`.
#[derive(Debug)]
pub struct Given<'a, M: ?Sized> {
    pub path: &'a Path,
    pub model: &'a M,
}

impl<M: ?Sized> Given<'_, M> {
    /// Returns an error: the file has something else than what was asked for.
    pub fn disagrees<V>(&self, asked: &str, found: &str) -> Result<V> {
        let path = self.path.display();
        Err(Error::Config(format!("{asked} does not agree with --init {path}, which has {found}")))
    }
}

/// Returns what was typed, with the minibatches of a kind that learns by minibatches unless `--algorithm` says otherwise.
pub fn with_minibatches(kind: &AnyKind, args: &FitArgs) -> FitArgs {
    let mut args = args.clone();
    let is_typed = args.algorithm.as_deref().is_none_or(|name| name == "stepwise");
    if let Some((points, epochs)) = kind.minibatches.filter(|_| is_typed) {
        args.stream.batch_size.get_or_insert(points);
        args.stream.epochs.get_or_insert(epochs);
    }
    args
}

/// Returns the algorithm that learns by minibatches, if one was asked for.
pub fn algorithm(args: &FitArgs) -> Option<StreamAlgorithm> {
    let all = [StreamAlgorithm::Stepwise, StreamAlgorithm::Incremental];
    match &args.algorithm {
        Some(name) => all.into_iter().find(|algorithm| algorithm.name() == name),
        None => args.stream.batch_size.map(|_| StreamAlgorithm::Stepwise),
    }
}

/// Refuses arguments and algorithms that a kind has no use for.
pub fn check_arguments(kind: &AnyKind, name: &str, args: &FitArgs) -> Result<()> {
    for (argument, given) in args.of_kinds() {
        if given && !kind.arguments.contains(&argument) {
            let kind = kind.kind;
            return Err(Error::Config(format!("{argument} is no argument of {name}, {kind}")));
        }
    }
    let by_minibatches = algorithm(args).is_some();
    for (argument, given) in args.stream.given() {
        if given && !by_minibatches {
            return Err(Error::Config(format!(
                "{argument} is for fits by minibatches: give --batch-size, or --algorithm stepwise or incremental"
            )));
        }
    }
    match &args.algorithm {
        Some(asked) if !kind.algorithms.contains(&asked.as_str()) => Err(Error::Config(format!(
            "--algorithm {asked}: {name} is learned by {}",
            kind.algorithms.join(" or ")
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_of_the_library_has_its_line() {
        for name in Model::names() {
            assert_eq!(Some(kind_of(name).kind), Model::kind_of(name), "{name}");
        }
    }
}
