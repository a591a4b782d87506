//! What the command line needs to know of each kind of model, one file a kind.
//!
//! All that kinds have in common (files, threads, progress, reports) is in [`run`](crate::cli::run) and
//! [`output`](crate::cli::output), generic over them. A new kind implements [`Kind`] and [`FitKind`] in a file here and
//! gets a line in the two macros below.

mod linear_gaussian;
mod mixture;
mod mixture_of_factor_analyzers;
mod sbn;

use crate::cli::args::FitArgs;
use entropysum::criterion::{CertifiedGap, FactorModel};
use entropysum::data::DataSource;
use entropysum::em::{Fit, Fitting, StreamAlgorithm};
use entropysum::error::{Error, Result};
use entropysum::exec::Executor;
use entropysum::inference::Score;
use entropysum::model::{Density, GenerativeModel, Sample};
use entropysum::scalar::Scalar;
use entropysum::store::{Model, Stored};
use serde_json::Value;
use std::path::Path;

/// Evaluates an expression with `$M` as the kind of models of this name, one that [`Model`] answers to.
macro_rules! with_kind {
    ($name:expr, $M:ident => $body:expr) => {{
        use entropysum::model::{
            LinearGaussian, Mixture, MixtureOfFactorAnalyzers, SigmoidBeliefNet,
        };
        use entropysum::store::Stored;
        let name: &str = $name;
        if Mixture::answers_to(name) {
            type $M = Mixture;
            $body
        } else if MixtureOfFactorAnalyzers::answers_to(name) {
            type $M = MixtureOfFactorAnalyzers;
            $body
        } else if LinearGaussian::answers_to(name) {
            type $M = LinearGaussian;
            $body
        } else if SigmoidBeliefNet::answers_to(name) {
            type $M = SigmoidBeliefNet;
            $body
        } else {
            unreachable!("{name} was looked up before")
        }
    }};
}

/// Evaluates an expression with `$model` as what a [`Model`] holds.
macro_rules! with_model {
    ($any:expr, $model:ident => $body:expr) => {
        match $any {
            Model::Mixture($model) => $body,
            Model::MixtureOfFactorAnalyzers($model) => $body,
            Model::LinearGaussian($model) => $body,
            Model::SigmoidBeliefNet($model) => $body,
            _ => unreachable!("every kind has its line"),
        }
    };
}

pub(in crate::cli) use {with_kind, with_model};

/// Items of a [`FitKind<T>`] whose fits need nothing but the points.
macro_rules! learned_from_points {
    ($T:ident) => {
        type Prepared<'a>
            = &'a dyn DataSource<$T>
        where
            $T: 'a;

        fn prepare<'a>(
            _specs: &[&Self::Spec],
            source: &'a dyn DataSource<$T>,
            _executor: &'a Executor,
        ) -> Result<Self::Prepared<'a>> {
            Ok(source)
        }

        fn points_per_iteration(source: &Self::Prepared<'_>) -> u64 {
            source.len()
        }

        fn fit(
            spec: &Self::Spec,
            _source: &Self::Prepared<'_>,
            fitting: Fitting<'_, $T, Self>,
        ) -> Result<Fit<Self>> {
            fitting.fit(spec)
        }

        fn score_fit(
            model: &Self,
            source: &Self::Prepared<'_>,
            executor: &Executor,
        ) -> Result<Score> {
            inference::score(model, *source, executor)
        }
    };
}

/// Items of a [`FitKind<T>`] with a [`LatentSpace<T>`](entropysum::model::LatentSpace).
macro_rules! maps_by_latents {
    ($T:ident) => {
        fn width(&self, map: PointMap) -> Result<usize> {
            Ok(match map {
                PointMap::Transform => LatentSpace::<$T>::n_latents(self),
                PointMap::Reconstruct => self.dim(),
            })
        }

        fn map(
            &self,
            map: PointMap,
            source: &dyn DataSource<$T>,
            executor: &Executor,
            sink: &mut dyn FnMut(&[f64]) -> Result<()>,
        ) -> Result<()> {
            match map {
                PointMap::Transform => inference::transform(self, source, executor, |_, z| sink(z)),
                PointMap::Reconstruct => {
                    inference::reconstruct(self, source, executor, |_, x| sink(x))
                }
            }
        }
    };
}

use {learned_from_points, maps_by_latents};

/// A kind of model on the command line: what it takes and how it is told.
pub trait Kind: Stored + GenerativeModel + Sample + TryFrom<Model> {
    /// What to fit, and how to start.
    type Spec: Send + Sync;

    /// Those arguments among [`FitArgs::of_kinds`] that it has a use for.
    const ARGUMENTS: &'static [&'static str];

    /// Names of the algorithms that learn it, the default first.
    const ALGORITHMS: &'static [&'static str];

    /// Refuses what was typed before any file of points is opened: what is missing, or does not agree with the model
    /// of `--init FILE`.
    fn check(args: &FitArgs, given: Option<Given<'_, Self>>) -> Result<()>;

    /// What to fit to points of `dim` dimensions: a model of this name, or the given one.
    fn spec(name: &str, args: &FitArgs, given: Option<Self>, dim: usize) -> Result<Self::Spec>;

    /// What a fit must have in common with one that goes on from its checkpoint, besides settings.
    fn label(spec: &Self::Spec) -> String;

    /// How so many points will be learned from, where that is chosen and not asked for.
    fn method(_spec: &Self::Spec, _n_points: u64, _dim: usize) -> Option<String> {
        None
    }

    /// Whether it can be learned from sparse points.
    fn learns_from_sparse(_spec: &Self::Spec) -> bool {
        false
    }

    /// A model in one line: `gaussian-full, 3 components`.
    fn title(&self) -> String;

    /// What a report tells of its parameters.
    fn details(&self) -> Vec<(&'static str, Value)>;

    /// The same as a table for people.
    fn table(&self) -> String;

    /// Whether its scores are lower bounds of log-densities.
    fn scores_are_bounds(&self) -> bool {
        false
    }

    /// What `--plot-features` draws: D values for each latent.
    fn features(&self) -> Option<Features> {
        None
    }

    /// What `check` tests: a model of this kind, size and parameters.
    fn factors(&self) -> FactorModel;
}

/// Features of latents, D values each.
pub type Features = Vec<Vec<f64>>;

/// A [`Kind`] in the precision of a command.
pub trait FitKind<T: Scalar>: Kind + Density<T> {
    /// What fits share that differ in size alone: the points, or all they need to know of them.
    type Prepared<'a>: Sync
    where
        T: 'a;

    /// Prepares points for fits of these specs, of which there is at least one.
    fn prepare<'a>(
        specs: &[&Self::Spec],
        source: &'a dyn DataSource<T>,
        executor: &'a Executor,
    ) -> Result<Self::Prepared<'a>>;

    /// How many points an iteration of a fit goes through.
    fn points_per_iteration(prepared: &Self::Prepared<'_>) -> u64;

    /// Learns a model as `fitting` says.
    fn fit(
        spec: &Self::Spec,
        prepared: &Self::Prepared<'_>,
        fitting: Fitting<'_, T, Self>,
    ) -> Result<Fit<Self>>;

    /// How well a fitted model describes the points of its fit.
    fn score_fit(model: &Self, prepared: &Self::Prepared<'_>, executor: &Executor)
    -> Result<Score>;

    /// What says of points how many latents they need, and its name: eigenvalues in descending order.
    fn scree(
        _spec: &Self::Spec,
        _prepared: &Self::Prepared<'_>,
    ) -> Option<(&'static str, Vec<f64>)> {
        None
    }

    /// Both sides of the gap identity on points. Kinds that know no such statistics refuse.
    fn certify(&self, _source: &dyn DataSource<T>, _executor: &Executor) -> Result<CertifiedGap> {
        let (name, kind) = (self.name(), Self::KIND);
        Err(Error::Config(format!("{name} is {kind}: its gap is not certified on points")))
    }

    /// How many numbers a map makes of a point. Kinds without latents refuse.
    fn width(&self, map: PointMap) -> Result<usize> {
        Err(no_latents(self, map))
    }

    /// Maps all points, in order. Kinds without latents refuse.
    fn map(
        &self,
        map: PointMap,
        _source: &dyn DataSource<T>,
        _executor: &Executor,
        _sink: &mut dyn FnMut(&[f64]) -> Result<()>,
    ) -> Result<()> {
        Err(no_latents(self, map))
    }

    /// How many latents the most probable state of a point has; 0 where states are components, or there are none.
    fn state_width(&self) -> usize {
        0
    }

    /// The most probable state of each point, in order: zeros and ones.
    fn states(
        &self,
        _source: &dyn DataSource<T>,
        _executor: &Executor,
        _sink: &mut dyn FnMut(&[f64]) -> Result<()>,
    ) -> Result<()> {
        unreachable!("asked of kinds with states only")
    }
}

/// The model of `--init FILE`.
#[derive(Debug)]
pub struct Given<'a, M> {
    pub path: &'a Path,
    pub model: &'a M,
}

impl<M> Given<'_, M> {
    /// An error: what was asked for is not what the file has.
    pub fn disagrees<V>(&self, asked: &str, found: &str) -> Result<V> {
        let path = self.path.display();
        Err(Error::Config(format!("{asked} does not agree with --init {path}, which has {found}")))
    }
}

/// A map of points by way of their latents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointMap {
    /// To the means of their latents.
    Transform,
    /// To what these means stand for.
    Reconstruct,
}

fn no_latents(model: &impl Stored, map: PointMap) -> Error {
    let verb = match map {
        PointMap::Transform => "transform",
        PointMap::Reconstruct => "reconstruct",
    };
    let (name, kind) = (model.name(), Model::kind_of(&model.name()).unwrap_or("a model"));
    Error::Config(format!(
        "cannot {verb}: {name} is {kind}, which has no latent space; 'predict --proba' gives its posteriors"
    ))
}

/// The algorithm that learns by minibatches, if one was asked for.
pub fn algorithm(args: &FitArgs) -> Option<StreamAlgorithm> {
    let all = [StreamAlgorithm::Stepwise, StreamAlgorithm::Incremental];
    match &args.algorithm {
        Some(name) => all.into_iter().find(|algorithm| algorithm.name() == name),
        None => args.stream.batch_size.map(|_| StreamAlgorithm::Stepwise),
    }
}

/// Refuses arguments and algorithms that a kind has no use for.
pub fn check_arguments<M: Kind>(name: &str, args: &FitArgs) -> Result<()> {
    for (argument, given) in args.of_kinds() {
        if given && !M::ARGUMENTS.contains(&argument) {
            return Err(Error::Config(format!("{argument} is no argument of {name}, {}", M::KIND)));
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
    if by_minibatches && args.n_init > 1 {
        return Err(Error::Config(format!(
            "--n-init {}: fits by minibatches have one start; run them with several --seed",
            args.n_init
        )));
    }
    match &args.algorithm {
        Some(asked) if !M::ALGORITHMS.contains(&asked.as_str()) => Err(Error::Config(format!(
            "--algorithm {asked}: {name} is learned by {}",
            M::ALGORITHMS.join(" or ")
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_of_the_library_has_its_lines() {
        for name in Model::names() {
            let kind = with_kind!(name, M => M::KIND);
            assert_eq!(Some(kind), Model::kind_of(name), "{name}");
        }
    }
}
