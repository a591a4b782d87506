//! Fits of any kind of model. Only the call of [`Fitting::fit`] knows kind and precision.

use super::{AnyModel, Given, Kind};
use crate::cli::args::FitArgs;
use crate::cli::checkpoint::CheckpointFile;
use crate::cli::source::{InSource, Source};
use entropysum::data::DataSource;
use entropysum::em::{Config, Fit, Fitting, Spec, StreamConfig};
use entropysum::error::Result;
use entropysum::exec::Executor;
use entropysum::inference::{self, Score};
use entropysum::model::Density;
use entropysum::monitor::Observer;
use entropysum::scalar::Scalar;
use entropysum::store::Model;
use std::any::Any;
use std::marker::PhantomData;

/// The result of a fit.
pub type Outcome = Fit<Box<dyn AnyModel>>;

/// Values that tell how many latents points need, in descending order, and their name.
pub type Scree = (&'static str, Vec<f64>);

/// The static part of any [`Kind`].
pub trait AnyKind: Sync {
    /// Returns the kind, as messages call it: "a mixture".
    fn kind(&self) -> &'static str;

    /// Tells whether models of this name are of this kind.
    fn answers_to(&self, name: &str) -> bool;

    /// Returns [`Kind::ARGUMENTS`].
    fn arguments(&self) -> &'static [&'static str];

    /// Returns [`Kind::ALGORITHMS`].
    fn algorithms(&self) -> &'static [&'static str];

    /// Boxes a model of this kind.
    fn model(&self, model: Model) -> Result<Box<dyn AnyModel>>;

    /// Calls [`Kind::check`].
    fn check(&self, args: &FitArgs, given: Option<Given<'_, dyn AnyModel>>) -> Result<()>;

    /// Returns what to learn from these points, one specification for each of the arguments.
    fn specs(
        &self,
        name: &str,
        args: &[FitArgs],
        given: Option<Box<dyn AnyModel>>,
        source: Source<'_>,
    ) -> Result<Box<dyn AnySpecs>>;
}

/// Specifications of models of one kind, which differ in size.
pub trait AnySpecs: Send + Sync {
    /// Calls [`Kind::label`].
    fn label(&self, i: usize) -> String;

    /// Calls [`Kind::method`].
    fn method(&self, i: usize, source: Source<'_>) -> Option<String>;

    /// Prepares points for fits of all specifications.
    fn prepare<'a>(
        &'a self,
        source: Source<'a>,
        executor: &'a Executor,
    ) -> Result<Box<dyn AnyPrepared + 'a>>;
}

/// Points that are prepared for fits.
pub trait AnyPrepared: Sync {
    /// Returns how many points an iteration of a fit goes through.
    fn points_per_iteration(&self) -> u64;

    /// Fits a model of specification `i`.
    fn fit(&self, i: usize, run: Run<'_>) -> Result<Outcome>;

    /// Returns how well a fitted model describes the points.
    fn score(&self, model: &dyn AnyModel, executor: &Executor) -> Result<Score>;

    /// Returns what the points tell of the number of latents of specification `i`.
    fn scree(&self, i: usize) -> Option<Scree>;
}

/// What a fit takes besides a specification and points.
pub struct Run<'a> {
    pub config: &'a Config,
    pub executor: &'a Executor,
    pub observer: &'a mut dyn Observer,
    pub stream: Option<&'a StreamConfig>,
    pub held_out: Option<Source<'a>>,
    pub checkpoint: Option<&'a CheckpointFile>,
}

/// Points that are prepared for fits of one kind in one precision.
pub trait Prepared<T: Scalar, M>: Sync {
    /// Returns how many points an iteration of a fit goes through.
    fn points_per_iteration(&self) -> u64;

    /// Fits a model of specification `i`, as `fitting` says.
    fn fit(&self, i: usize, fitting: Fitting<'_, T, M>) -> Result<Fit<M>>;

    /// Returns how well a fitted model describes the points.
    fn score(&self, model: &M, executor: &Executor) -> Result<Score>;

    /// Returns what the points tell of the number of latents of specification `i`.
    fn scree(&self, _i: usize) -> Option<Scree> {
        None
    }
}

/// Points for kinds that learn from points alone.
pub struct PointsAlone<'a, T: Scalar, M: Kind> {
    pub specs: &'a [M::Spec],
    pub points: &'a dyn DataSource<T>,
}

impl<T: Scalar, M: Kind + Density<T>> Prepared<T, M> for PointsAlone<'_, T, M>
where
    M::Spec: Spec<T, Model = M>,
{
    fn points_per_iteration(&self) -> u64 {
        self.points.len()
    }

    fn fit(&self, i: usize, fitting: Fitting<'_, T, M>) -> Result<Fit<M>> {
        fitting.fit(&self.specs[i])
    }

    fn score(&self, model: &M, executor: &Executor) -> Result<Score> {
        inference::score(model, self.points, executor)
    }
}

/// The static part of kind `M`, as an object.
pub struct Static<M>(pub PhantomData<fn() -> M>);

impl<M: Kind> AnyKind for Static<M> {
    fn kind(&self) -> &'static str {
        M::KIND
    }

    fn answers_to(&self, name: &str) -> bool {
        M::answers_to(name)
    }

    fn arguments(&self) -> &'static [&'static str] {
        M::ARGUMENTS
    }

    fn algorithms(&self) -> &'static [&'static str] {
        M::ALGORITHMS
    }

    fn model(&self, model: Model) -> Result<Box<dyn AnyModel>> {
        Ok(Box::new(M::try_from(model)?))
    }

    fn check(&self, args: &FitArgs, given: Option<Given<'_, dyn AnyModel>>) -> Result<()> {
        M::check(args, given.map(|Given { path, model }| Given { path, model: of_kind(model) }))
    }

    fn specs(
        &self,
        name: &str,
        args: &[FitArgs],
        given: Option<Box<dyn AnyModel>>,
        source: Source<'_>,
    ) -> Result<Box<dyn AnySpecs>> {
        let mut given = match given {
            None => None,
            Some(model) => Some(*(model as Box<dyn Any>).downcast().expect(OF_KIND)),
        };
        let spec = |args: &FitArgs| {
            // Fits of several sizes have no given start.
            let spec = M::spec(name, args, given.take(), source.dim())?;
            source.check_sparse(M::learns_from_sparse(&spec), name)?;
            Ok(spec)
        };
        Ok(Box::new(Specs::<M>(args.iter().map(spec).collect::<Result<_>>()?)))
    }
}

struct Specs<M: Kind>(Vec<M::Spec>);

impl<M: Kind> AnySpecs for Specs<M> {
    fn label(&self, i: usize) -> String {
        M::label(&self.0[i])
    }

    fn method(&self, i: usize, source: Source<'_>) -> Option<String> {
        M::method(&self.0[i], source.len(), source.dim())
    }

    fn prepare<'a>(
        &'a self,
        source: Source<'a>,
        executor: &'a Executor,
    ) -> Result<Box<dyn AnyPrepared + 'a>> {
        Ok(match source {
            Source::F32(points) => {
                let prepared = M::prepare(&self.0, points, executor)?;
                Box::new(InPrecision { points, prepared })
            }
            Source::F64(points) => {
                let prepared = M::prepare(&self.0, points, executor)?;
                Box::new(InPrecision { points, prepared })
            }
        })
    }
}

struct InPrecision<'a, T: Scalar, M> {
    points: &'a dyn DataSource<T>,
    prepared: Box<dyn Prepared<T, M> + 'a>,
}

impl<T: InSource, M: Kind> AnyPrepared for InPrecision<'_, T, M> {
    fn points_per_iteration(&self) -> u64 {
        self.prepared.points_per_iteration()
    }

    fn fit(&self, i: usize, run: Run<'_>) -> Result<Outcome> {
        let Run { config, executor, observer, stream, held_out, checkpoint } = run;
        let mut fitting = Fitting::new(self.points, executor).config(config).observer(observer);
        if let Some(stream) = stream {
            fitting = fitting.minibatches(stream);
        }
        if let Some(held_out) = held_out {
            fitting = fitting.held_out(T::points(held_out));
        }
        let fit = |fitting: Fitting<'_, T, M>| self.prepared.fit(i, fitting);
        let fit = match checkpoint {
            None => fit(fitting),
            Some(file) => file.keep(fitting, fit),
        };
        Ok(fit?.map_model(|model| Box::new(model) as Box<dyn AnyModel>))
    }

    fn score(&self, model: &dyn AnyModel, executor: &Executor) -> Result<Score> {
        self.prepared.score(of_kind(model), executor)
    }

    fn scree(&self, i: usize) -> Option<Scree> {
        self.prepared.scree(i)
    }
}

const OF_KIND: &str = "the name of a model says its kind";

fn of_kind<M: Kind>(model: &dyn AnyModel) -> &M {
    (model as &dyn Any).downcast_ref().expect(OF_KIND)
}
