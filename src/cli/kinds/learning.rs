//! Fits of any kind of model. Only the call of [`Fitting::fit`] knows kind and precision.

use super::{Given, Kind, described};
use crate::any::Run;
use crate::cli::args::FitArgs;
use crate::cli::source::{InSource, Source};
use crate::data::DataSource;
use crate::em::{Fit, Fitting, Spec};
use crate::error::Result;
use crate::exec::Executor;
use crate::inference::{self, Score};
use crate::model::Density;
use crate::scalar::Scalar;
use crate::store::Model;
use std::any::Any;

/// The result of a fit.
pub type Outcome = Fit<Model>;

/// Values that tell how many latents points need, in descending order, and their name.
pub type Scree = (&'static str, Vec<f64>);

/// The static part of a [`Kind`].
pub struct AnyKind {
    pub kind: &'static str,
    pub arguments: &'static [&'static str],
    pub algorithms: &'static [&'static str],
    pub minibatches: Option<(u64, u64)>,
    pub answers_to: fn(&str) -> bool,
    pub check: Check,
    prepare: PrepareFn,
}

/// Refuses arguments that a kind has no use for, or that do not agree with the model of `--init`.
type Check = fn(&FitArgs, Option<Given<'_, Model>>) -> Result<()>;

type PrepareFn = for<'a> fn(
    &str,
    &[FitArgs],
    Option<Model>,
    Source<'a>,
    &'a Executor,
) -> Result<Box<dyn AnyPrepared + 'a>>;

impl AnyKind {
    pub const fn of<M: Kind>() -> Self {
        Self {
            kind: M::KIND,
            arguments: M::ARGUMENTS,
            algorithms: M::ALGORITHMS,
            minibatches: M::MINIBATCHES,
            answers_to: M::answers_to,
            check: |args, given| {
                let given = given.map(|Given { path, model }| Given { path, model: own(model) });
                M::check(args, given)
            },
            prepare: prepare::<M>,
        }
    }

    /// Prepares points for fits, one for each of the arguments, of a model of this name or from the given one.
    pub fn prepare<'a>(
        &self,
        name: &str,
        args: &[FitArgs],
        given: Option<Model>,
        source: Source<'a>,
        executor: &'a Executor,
    ) -> Result<Box<dyn AnyPrepared + 'a>> {
        (self.prepare)(name, args, given, source, executor)
    }
}

fn prepare<'a, M: Kind>(
    name: &str,
    args: &[FitArgs],
    given: Option<Model>,
    source: Source<'a>,
    executor: &'a Executor,
) -> Result<Box<dyn AnyPrepared + 'a>> {
    let mut given = given.map(M::try_from).transpose()?;
    let spec = |args: &FitArgs| {
        // Fits of several sizes have no given start.
        let mut spec = M::spec(name, args, given.take(), source.dim())?;
        source.check_sparse(M::learns_from_sparse(&spec), name)?;
        let method = M::choose(&mut spec, args, source);
        Ok((spec, method))
    };
    let chosen = args.iter().map(spec).collect::<Result<Vec<_>>>()?;
    let (specs, methods): (Vec<_>, Vec<_>) = chosen.into_iter().unzip();
    Ok(match source {
        Source::F32(points) => {
            let prepared = M::prepare(&specs, points, executor)?;
            Box::new(InPrecision { specs, methods, points, prepared })
        }
        Source::F64(points) => {
            let prepared = M::prepare(&specs, points, executor)?;
            Box::new(InPrecision { specs, methods, points, prepared })
        }
    })
}

/// Points that are prepared for fits of any kind. Fits have numbers, in the order of their arguments.
pub trait AnyPrepared: Sync {
    /// Returns how many points an iteration of a fit goes through.
    fn points_per_iteration(&self) -> u64;

    /// Returns how a fit learns from the points, if that is chosen and not asked for.
    fn method(&self, i: usize) -> Option<String>;

    /// Runs a fit.
    fn fit(&self, i: usize, run: Run<'_>) -> Result<Outcome>;

    /// Returns how well a fitted model describes the points.
    fn score(&self, model: &Model, executor: &Executor) -> Result<Score>;

    /// Returns what the points tell of the number of latents.
    fn scree(&self, i: usize) -> Option<Scree>;
}

/// Points that are prepared for fits of one kind in one precision, as [`AnyPrepared`].
pub trait Prepared<T: Scalar, M: Kind>: Sync {
    fn points_per_iteration(&self) -> u64;

    fn fit(&self, spec: &M::Spec, fitting: Fitting<'_, T, M>) -> Result<Fit<M>>;

    fn score(&self, model: &M, executor: &Executor) -> Result<Score>;

    fn scree(&self, _spec: &M::Spec) -> Option<Scree> {
        None
    }
}

/// Points are all that most kinds need to know of points.
impl<T: Scalar, M: Kind + Density<T>> Prepared<T, M> for &dyn DataSource<T>
where
    M::Spec: Spec<T, Model = M>,
{
    fn points_per_iteration(&self) -> u64 {
        self.len()
    }

    fn fit(&self, spec: &M::Spec, fitting: Fitting<'_, T, M>) -> Result<Fit<M>> {
        fitting.fit(spec)
    }

    fn score(&self, model: &M, executor: &Executor) -> Result<Score> {
        inference::score(model, *self, executor)
    }
}

struct InPrecision<'a, T: Scalar, M: Kind> {
    specs: Vec<M::Spec>,
    methods: Vec<Option<String>>,
    points: &'a dyn DataSource<T>,
    prepared: Box<dyn Prepared<T, M> + 'a>,
}

impl<T: InSource, M: Kind> AnyPrepared for InPrecision<'_, T, M> {
    fn points_per_iteration(&self) -> u64 {
        self.prepared.points_per_iteration()
    }

    fn method(&self, i: usize) -> Option<String> {
        self.methods[i].clone()
    }

    fn fit(&self, i: usize, run: Run<'_>) -> Result<Outcome> {
        let spec = &self.specs[i];
        let Run { executor, config, observer, stream, held_out, checkpoint, elsewhere } = run;
        let config = &config.clone().label(M::label(spec));
        let run = Run { executor, config, observer, stream, held_out, checkpoint, elsewhere };
        let fit = run.fit(self.points, |fitting| self.prepared.fit(spec, fitting))?;
        Ok(fit.map_model(M::into))
    }

    fn score(&self, model: &Model, executor: &Executor) -> Result<Score> {
        self.prepared.score(own(model), executor)
    }

    fn scree(&self, i: usize) -> Option<Scree> {
        self.prepared.scree(&self.specs[i])
    }
}

fn own<M: Kind>(model: &Model) -> &M {
    (described(model) as &dyn Any).downcast_ref().expect("the name of a model says its kind")
}
