//! `plot`: a picture of points and the components that a model assigns them to.

mod draw;
mod project;

use crate::any::PerPoint;
use crate::cli::args::PlotArgs;
use crate::cli::guard::{Target, check_files};
use crate::cli::kinds::{self, described, leading_component};
use crate::cli::progress::{self, check_interrupt};
use crate::cli::run::{executor, prepared};
use crate::cli::source::{self, Source};
use crate::cli::table::names_of_points;
use crate::data::{Points, Schema};
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::picture::write_figure;
use crate::store::{Model, Stored};
use std::path::Path;
use std::process::ExitCode;

/// Points of a picture: more hide one another.
const MOST_POINTS: u64 = 3000;

/// Dimensions that are drawn in pairs. Points of more dimensions are projected.
const MOST_PAIRED: usize = 6;

/// Families whose components are drawn as bars of means: points of counts and of zeros and ones lie on one another.
const COUNTS: [&str; 6] =
    ["bernoulli", "binomial", "geometric", "multinomial", "negative-binomial", "poisson"];

/// Components with a colour and a line in the legend.
pub(super) const MOST_COMPONENTS: usize = 20;

/// Runs the command.
pub fn run(args: &PlotArgs) -> Result<ExitCode> {
    check_files(&args.data.files_and(&args.model), &[Target::plot(&args.output)])?;
    let (model, schema) = kinds::load(&args.model)?;
    let executor = executor(&args.compute.threads)?;
    let model = prepared(model, &args.data)?;
    let points = source::open(&args.data, None, args.compute.precision, schema.as_ref())?;
    progress::catch_interrupts()?;
    let schema = schema.or(points.columns.and_then(|columns| columns.schema()));
    write(&args.output, &model, points.source.borrow(), schema.as_ref(), &executor)?;
    Ok(ExitCode::SUCCESS)
}

/// Draws some of the points, with the components of a model.
pub fn write(
    path: &Path,
    model: &Model,
    source: Source<'_>,
    schema: Option<&Schema>,
    executor: &Executor,
) -> Result<()> {
    source.check_for(model)?;
    if model.n_components() == 0 {
        return Err(Error::Config(format!(
            "cannot plot clusters: {} is {}, without components",
            model.name(),
            model.kind()
        )));
    }
    let cloud = Cloud::of(model, source, schema, executor)?;
    let title = format!("{}, {} of {} points", described(model).title(), cloud.len(), source.len());
    let figure = match cloud.names.len() {
        1 => draw::histogram(&title, &cloud, &densities(model, &cloud, executor)?),
        _ if COUNTS.contains(&model.name().as_str()) => draw::rates(&title, &cloud),
        2..=MOST_PAIRED => draw::pairs(&title, &cloud),
        _ => draw::pairs(&title, &project::on_discriminants(&cloud)),
    };
    write_figure(path, figure)
}

/// Some points and the posterior probabilities of their components.
pub(super) struct Cloud {
    pub names: Vec<String>,
    pub points: Vec<f64>,
    pub posteriors: Vec<f64>,
    pub n_components: usize,
}

impl Cloud {
    /// Takes points that are evenly apart.
    fn of(
        model: &Model,
        source: Source<'_>,
        schema: Option<&Schema>,
        executor: &Executor,
    ) -> Result<Self> {
        let (n_components, dim) = (model.n_components(), model.dim());
        let stride = source.len().div_ceil(MOST_POINTS).max(1);
        let (mut points, mut posteriors) = (Vec::new(), Vec::new());
        for row in (0..source.len()).step_by(stride as usize) {
            check_interrupt()?;
            points.extend(source.rows(row, 1)?);
        }
        let drawn = Points::from_rows(&points, dim)?;
        model.per_point(PerPoint::Posterior, Source::F64(&drawn), executor, &mut |values| {
            posteriors.extend_from_slice(values);
            Ok(())
        })?;
        Ok(Self { names: names_of_points(schema, dim), points, posteriors, n_components })
    }

    pub fn len(&self) -> usize {
        self.posteriors.len() / self.n_components
    }

    pub fn point(&self, i: usize) -> &[f64] {
        let dim = self.names.len();
        &self.points[i * dim..][..dim]
    }

    pub fn posterior(&self, i: usize) -> &[f64] {
        &self.posteriors[i * self.n_components..][..self.n_components]
    }

    /// Returns the most probable component of a point, and its probability.
    pub fn label(&self, i: usize) -> (usize, f64) {
        leading_component(self.posterior(i))
    }

    /// Returns the components that have points, heaviest first, with the sum of their probabilities.
    pub fn components(&self) -> Vec<(usize, f64)> {
        let mass = |c: usize| (0..self.len()).map(|i| self.posterior(i)[c]).sum::<f64>();
        let mut all: Vec<_> = (0..self.n_components).map(|c| (c, mass(c))).collect();
        all.retain(|it| it.1 > 0.0);
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(MOST_COMPONENTS);
        all
    }

    /// Returns the means of the dimensions in a component; NaN where no value is known.
    pub fn mean(&self, c: usize) -> Vec<f64> {
        let mean = |d: usize| {
            let values = (0..self.len()).map(|i| (self.posterior(i)[c], self.point(i)[d]));
            let (mut sum, mut mass) = (0.0, 0.0);
            for (posterior, value) in values.filter(|(_, value)| value.is_finite()) {
                sum += posterior * value;
                mass += posterior;
            }
            sum / mass
        };
        (0..self.names.len()).map(mean).collect()
    }

    /// Returns whether all values are whole numbers, as counts are.
    pub fn is_whole(&self) -> bool {
        self.points.iter().all(|value| value.is_nan() || value.fract() == 0.0)
    }
}

/// Values of one dimension, and at each the density of each component times its weight.
pub(super) struct Densities {
    pub at: Vec<f64>,
    pub values: Vec<f64>,
}

/// Evaluates the densities of components at values between the least and the largest of one dimension: whole numbers of
/// counts, else values that are evenly apart.
fn densities(model: &Model, cloud: &Cloud, executor: &Executor) -> Result<Densities> {
    const VALUES: usize = 400;
    let known = || cloud.points.iter().copied().filter(|value| value.is_finite());
    let (least, largest) = (known().fold(f64::MAX, f64::min), known().fold(f64::MIN, f64::max));
    let at: Vec<f64> = if cloud.is_whole() && largest - least < VALUES as f64 {
        (0..=(largest - least) as usize).map(|i| least + i as f64).collect()
    } else {
        let step = (largest - least) / (VALUES - 1) as f64;
        (0..VALUES).map(|i| (least + step * i as f64).min(largest)).collect()
    };
    let grid = Points::owned(at.clone(), 1)?;
    let (mut density, mut values) = (Vec::new(), Vec::new());
    let grid = Source::F64(&grid);
    model.per_point(PerPoint::LogDensity, grid, executor, &mut |logs| {
        density.extend(logs.iter().map(|log| log.exp()));
        Ok(())
    })?;
    model.per_point(PerPoint::Posterior, grid, executor, &mut |posteriors| {
        values.extend_from_slice(posteriors);
        Ok(())
    })?;
    for (row, density) in values.chunks_mut(cloud.n_components).zip(density) {
        row.iter_mut().for_each(|value| *value *= density);
    }
    Ok(Densities { at, values })
}
