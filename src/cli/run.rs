//! From what was typed to objects of the library, and from these to results.

use crate::any::{Applied, PerPoint};
use crate::cli::args::{
    Command, DataArgs, InfoArgs, MapArgs, Missing, Precision, PredictArgs, ReconstructArgs,
    SampleArgs, ScoreArgs, ThreadsArgs,
};
use crate::cli::guard::{Target, check_files};
use crate::cli::kinds;
use crate::cli::output;
use crate::cli::progress::{self, check_interrupt};
use crate::cli::ranks;
use crate::cli::source;
use crate::cli::table::{Table, names_of_points, numbered};
use crate::cli::{append, bench, check, fit, plot, select};
use crate::data::Dtype;
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::store::{Model, Stored};
use serde_json::Value;
use std::process::ExitCode;

/// Runs a command.
///
/// # Errors
/// Those of the library. What was typed and the files that it names are checked first.
pub fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Fit(command) => fit::run(&command.args()),
        Command::Select(command) => select::run(command),
        Command::Predict(args) => predict(args),
        Command::Transform(args) => {
            let samples = args.samples.map(size).transpose()?;
            map(&args.map, samples.map_or(PerPoint::Transform, PerPoint::Draws), true)
        }
        Command::Reconstruct(args) => reconstruct(args),
        Command::Score(args) => score(args),
        Command::Sample(args) => sample(args),
        Command::Plot(args) => plot::run(args),
        Command::Info(args) => info(args),
        Command::Check(args) => check::run(args),
        Command::Bench(args) => bench::run(args),
    }
}

fn predict(args: &PredictArgs) -> Result<ExitCode> {
    check_files(&args.data.files_and(&args.model), &[Target::table(&args.output)])?;
    let (mut model, schema) = kinds::load(&args.model)?;
    if args.exact {
        model = exact(model)?;
    }
    let executor = executor(&args.compute.threads)?;
    let by_state = matches!(model, Model::SigmoidBeliefNet(_)) && !args.proba;
    if by_state && args.append {
        let message = format!("--append: {} has no components to label by", model.name());
        return Err(Error::Config(message));
    }
    if !by_state {
        if model.n_components() == 0 {
            let (name, kind) = (model.name(), model.kind());
            let message = format!("cannot predict: {name} is {kind}, without components");
            return Err(Error::Config(message));
        }
        model = prepared(model, &args.data)?;
    }
    let points = source::open(&args.data, None, args.compute.precision, schema.as_ref())?;
    let (source, gaps) = (points.source.borrow(), &points.incomplete[..]);
    source.check_for(&model)?;
    let applied = model.applied(source, &executor)?;
    progress::catch_interrupts()?;
    if by_state {
        let width = model.latents().map_or(0, |latents| latents.n_latents());
        let table = Table::matrix(&args.output, Dtype::F64, &numbered("z", width), gaps)?;
        write(table, &applied, PerPoint::State)?;
    } else if args.proba {
        let names = numbered("p", model.n_components());
        let table = Table::matrix(&args.output, Dtype::F64, &names, gaps)?;
        write(table, &applied, PerPoint::Posterior)?;
    } else if args.append {
        append::run(args, &applied, &points.incomplete, schema)?;
    } else {
        let mut table = Table::vector(&args.output, Dtype::I64, "label", gaps)?;
        applied.labels(&mut |labels| {
            check_interrupt()?;
            table.write_labels(labels)
        })?;
        table.finish()?;
    }
    if let Some(loss) = applied.search_loss()? {
        output::complain("note", &output::search_text(&loss));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the model with exact posteriors of all components.
fn exact(model: Model) -> Result<Model> {
    match &model {
        Model::Mixture(_) | Model::MixtureOfFactorAnalyzers(_) => Ok(model.exact()),
        _ => Err(Error::Config(format!(
            "--exact is for mixtures, whose components may be searched; {} is {}",
            model.name(),
            model.kind()
        ))),
    }
}

/// Returns the model with so many importance samples of each point for its scores.
fn with_importance_samples(model: Model, samples: usize) -> Result<Model> {
    match model {
        Model::VariationalAutoencoder(it) => Ok(it.with_importance_samples(samples).into()),
        _ => {
            let message =
                "--samples: scores of this model are exact or search states, and draw no samples";
            Err(Error::Config(message.to_owned()))
        }
    }
}

fn reconstruct(args: &ReconstructArgs) -> Result<ExitCode> {
    let all = args.all || args.map.data.missing != Missing::Ignore;
    map(&args.map, PerPoint::Reconstruct, all)
}

/// Writes numbers of each point; with `all` false, the cells of points that are not missing stay as they are.
fn map(args: &MapArgs, numbers: PerPoint, all: bool) -> Result<ExitCode> {
    check_files(&args.data.files_and(&args.model), &[Target::table(&args.output)])?;
    let (model, schema) = kinds::load(&args.model)?;
    let executor = executor(&args.compute.threads)?;
    let Some(latents) = model.latents() else {
        let verb = if numbers == PerPoint::Reconstruct { "reconstruct" } else { "transform" };
        return Err(Error::Config(format!(
            "cannot {verb}: {} is {}, which has no latent space; 'predict --proba' gives its posteriors",
            model.name(),
            model.kind()
        )));
    };
    let names = match numbers {
        PerPoint::Transform => numbered("z", latents.n_latents()),
        PerPoint::Draws(samples) => {
            let of_sample =
                |k| numbered("z", latents.n_latents()).into_iter().map(move |z| format!("{z}_{k}"));
            (0..samples).flat_map(of_sample).collect()
        }
        _ => names_of_points(schema.as_ref(), model.dim()),
    };
    let model = prepared(model, &args.data)?;
    let points = source::open(&args.data, None, args.compute.precision, schema.as_ref())?;
    let source = points.source.borrow();
    source.check_for(&model)?;
    progress::catch_interrupts()?;
    let mut table = Table::matrix(&args.output, Dtype::F64, &names, &points.incomplete)?;
    let (mut next, dim) = (0, model.dim());
    model.per_point(numbers, source, &executor, &mut |values| {
        check_interrupt()?;
        if all {
            return table.write(values);
        }
        let given = source.rows(next, values.len() / dim)?;
        next += (values.len() / dim) as u64;
        let filled = |(&given, &value): (&f64, &f64)| if given.is_nan() { value } else { given };
        table.write(&given.iter().zip(values).map(filled).collect::<Vec<_>>())
    })?;
    table.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn score(args: &ScoreArgs) -> Result<ExitCode> {
    let targets: Vec<Target<'_>> = args.output.as_deref().map(Target::table).into_iter().collect();
    let mut inputs = args.data.files_and(&args.model);
    inputs.extend(args.weights.weights.as_deref());
    check_files(&inputs, &targets)?;
    let (model, schema) = kinds::load(&args.model)?;
    let executor = executor(&args.compute.threads)?;
    let model = if args.exact { exact(model)? } else { model };
    let model = prepared(model, &args.data)?;
    let model = match args.samples {
        None => model,
        Some(samples) => with_importance_samples(model, size(samples)?)?,
    };
    let weights = args.weights.weights.as_deref();
    let points = source::open(&args.data, weights, args.compute.precision, schema.as_ref())?;
    let source = points.source.borrow();
    source.check_for(&model)?;
    let applied = model.applied(source, &executor)?;
    let score = applied.score()?;
    if let Some(path) = &args.output {
        progress::catch_interrupts()?;
        let table = Table::vector(path, Dtype::F64, "log_density", &points.incomplete)?;
        write(table, &applied, PerPoint::LogDensity)?;
    }
    let search = applied.search_loss()?;
    output::print(&if args.json {
        json_line(&output::score_json(&model, &score, search.as_ref()))
    } else {
        output::score_text(&model, &score, search.as_ref())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn sample(args: &SampleArgs) -> Result<ExitCode> {
    let mut targets = vec![Target::table(&args.output)];
    targets.extend(args.labels.as_deref().map(Target::table));
    check_files(&[&args.model], &targets)?;
    let (model, schema) = kinds::load(&args.model)?;
    let executor = executor(&args.threads)?;
    if args.labels.is_some() && model.n_components() == 0 {
        let message = format!("--labels: {} has no components to label by", model.name());
        return Err(Error::Config(message));
    }
    progress::catch_interrupts()?;
    let dtype = match args.dtype {
        Precision::F32 => Dtype::F32,
        Precision::F64 => Dtype::F64,
    };
    let is_narrow = dtype == Dtype::F32 && output::extension(&args.output) == "npy";
    let names = names_of_points(schema.as_ref(), model.dim());
    let mut points = Table::matrix(&args.output, dtype, &names, &[])?;
    let mut labels = match &args.labels {
        Some(path) => Some(Table::vector(path, Dtype::I64, "label", &[])?),
        None => None,
    };
    model.sample(args.n, args.seed, &executor, &mut |values, components| {
        check_interrupt()?;
        if is_narrow {
            points.write(&narrowed(values)?)?;
        } else {
            points.write(values)?;
        }
        labels.as_mut().map_or(Ok(()), |labels| labels.write_labels(components))
    })?;
    points.finish()?;
    labels.map_or(Ok(()), Table::finish)?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses values that `f32` has no place for; those nearer to 0 than its least number become that number.
fn narrowed(values: &[f64]) -> Result<Vec<f64>> {
    let narrow = |&value: &f64| match value as f32 {
        narrow if narrow.is_infinite() => Err(Error::Config(format!(
            "--dtype f32: the value {value:e} is beyond f32; leave --dtype out"
        ))),
        0.0 if value != 0.0 => Ok(f64::from(f32::MIN_POSITIVE).copysign(value)),
        _ => Ok(value),
    };
    values.iter().map(narrow).collect()
}

fn info(args: &InfoArgs) -> Result<ExitCode> {
    let (model, schema) = kinds::load(&args.model)?;
    output::print(&if args.json {
        json_line(&output::model_json(&model, schema.as_ref()))
    } else {
        output::model_text(&model, schema.as_ref())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Fills a table with numbers of each point, unless the user interrupts the command.
fn write(mut table: Table, applied: &Applied<'_>, numbers: PerPoint) -> Result<()> {
    applied.per_point(numbers, &mut |values| {
        check_interrupt()?;
        table.write(values)
    })?;
    table.finish()
}

/// Returns a model as it looks at these data.
pub fn prepared(model: Model, args: &DataArgs) -> Result<Model> {
    match args.missing {
        Missing::Refuse | Missing::Drop => Ok(model),
        Missing::Ignore => model.ignoring_missing(),
    }
}

/// Returns the line that `--json` prints.
pub fn json_line(value: &Value) -> String {
    format!("{value}\n")
}

/// Prints the failures of a command, and returns its exit code.
pub fn exit_code(failures: &[Error]) -> ExitCode {
    failures.iter().for_each(|failure| output::complain("error", failure));
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns the threads that were asked for.
pub fn executor(args: &ThreadsArgs) -> Result<Executor> {
    ranks::executor(args.threads.map(size).transpose()?)
}

/// Returns a number that was typed, as a size.
pub fn size(number: u64) -> Result<usize> {
    usize::try_from(number).map_err(|_| Error::Config(format!("{number} is too large")))
}
