//! From what was typed to objects of the library, and from these to results.

use crate::cli::args::{
    Command, DEFAULT_MODEL, DataArgs, FitArgs, InfoArgs, Precision, PredictArgs, SampleArgs,
    ScoreArgs, Start, ThreadsArgs,
};
use crate::cli::bench;
use crate::cli::output::{self, FitReport, Table, Target};
use crate::cli::progress::{self, Progress};
use entropysum::atomic::write_atomically;
use entropysum::block::BlockBuf;
use entropysum::data::{self, DataSource, Dtype, OpenOptions};
use entropysum::em::{Config, Fit, Init, MixtureSpec, fit_mixture};
use entropysum::error::{Error, Result};
use entropysum::exec::Executor;
use entropysum::family::{Regularization, registry};
use entropysum::inference;
use entropysum::model::Mixture;
use entropysum::monitor::{StopReason, plot};
use entropysum::scalar::Scalar;
use entropysum::store;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Calls a generic function in the precision asked for.
macro_rules! in_precision {
    ($compute:expr, $function:ident($args:expr)) => {
        match $compute.precision {
            Precision::F32 => $function::<f32>($args),
            Precision::F64 => $function::<f64>($args),
        }
    };
}

/// Runs a command.
///
/// # Errors
/// Those of the library; what was typed and what it names are checked first.
pub fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Fit(args) => in_precision!(args.compute, fit(args)),
        Command::Predict(args) => in_precision!(args.compute, predict(args)),
        Command::Score(args) => in_precision!(args.compute, score(args)),
        Command::Sample(args) => sample(args),
        Command::Info(args) => info(args),
        Command::Bench(args) => bench::run(args),
    }
}

/// A fit that is ready to run: all that was typed is checked, all files are open.
struct FitPlan<T> {
    spec: MixtureSpec,
    source: Box<dyn DataSource<T>>,
    executor: Executor,
    config: Config,
}

impl<T: Scalar> FitPlan<T> {
    fn new(args: &FitArgs) -> Result<Self> {
        let targets: Vec<Target<'_>> = [
            args.output.as_deref().map(Target::model),
            args.history.as_deref().map(Target::history),
            args.plot.as_deref().map(Target::plot),
        ]
        .into_iter()
        .flatten()
        .collect();
        // A model to go on from may be replaced by what becomes of it.
        let inputs: Vec<&Path> = [Some(&args.data.data), args.weights.weights.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect();
        output::check_targets(&targets, &inputs)?;
        let executor = executor(&args.compute.threads)?;
        let given = match &args.init {
            Start::File(path) => Some(given_start(path, args)?),
            _ => None,
        };
        if given.is_none() && args.components.is_none() {
            let message = "give the number of components with -k, or a model with --init FILE";
            return Err(Error::Config(message.to_owned()));
        }

        let source = open::<T>(&args.data, args.weights.weights.as_deref())?;
        let mut spec = match given {
            Some(model) => {
                check_dim(&*source, &model)?;
                MixtureSpec::from_model(model)
            }
            None => {
                let name = args.model.as_deref().unwrap_or(DEFAULT_MODEL);
                let n_components = size(args.components.unwrap_or_default())?;
                let family = registry::build_known(name, source.dim(), &args.known.known())?;
                MixtureSpec::new(family, n_components).with_init(match args.init {
                    Start::Random => Init::Random,
                    Start::RandomFromData => Init::RandomFromData,
                    _ => Init::KMeansPlusPlus,
                })
            }
        };
        check_memory(&spec)?;
        if let Some(posterior) = args.posterior {
            spec = spec.with_posterior(posterior);
        }
        Ok(Self {
            spec,
            source: into_memory(source)?,
            executor,
            config: Config {
                max_iter: size(args.max_iter)?,
                tol: args.tol,
                rtol: args.rtol,
                monitor: args.monitor,
                max_time: args.max_seconds,
                regularization: Regularization { reg_covar: args.reg_covar, ..Default::default() },
                n_init: size(args.n_init)?,
                seed: args.seed,
            },
        })
    }

    fn run(&self, progress: &mut Progress) -> Result<Fit<Mixture>> {
        fit_mixture(&self.spec, &*self.source, &self.executor, &self.config, progress)
    }
}

/// Refuses a model that cannot fit the memory: parameters, their factors and statistics, each a few times over.
fn check_memory(spec: &MixtureSpec) -> Result<()> {
    let per_component: usize = spec.family.parameters().iter().map(|array| array.len()).sum();
    let bytes =
        (per_component as u64).saturating_mul(spec.n_components as u64).saturating_mul(8 * 8);
    match output::available_memory() {
        Some(available) if bytes > available => Err(Error::Config(format!(
            "{} components of {} need about {} GB of memory, and {} GB are available; gaussian-diag needs far less",
            spec.n_components,
            spec.family.name(),
            bytes.div_ceil(1 << 30),
            available >> 30,
        ))),
        _ => Ok(()),
    }
}

/// The model that `--init FILE` names; what else is said of the model must agree with it.
fn given_start(path: &Path, args: &FitArgs) -> Result<Mixture> {
    if !path.exists() {
        return Err(Error::Config(format!(
            "--init {}: expected {}, or a file with a model, and there is no such file",
            path.display(),
            Start::NAMES.join(", ")
        )));
    }
    if let Some((name, _)) = args.known.known().iter().next() {
        let path = path.display();
        return Err(Error::Config(format!(
            "--{name} is told by the model of --init {path}; leave it out"
        )));
    }
    let model = store::load(path)?;
    let (name, components) = (model.family().name(), model.n_components());
    let disagrees = |asked: String, found: String| {
        let path = path.display();
        Err(Error::Config(format!("{asked} does not agree with --init {path}, which has {found}")))
    };
    match (&args.model, args.components) {
        (Some(asked), _) if *asked != name => disagrees(format!("--model {asked}"), name),
        (_, Some(asked)) if asked != components as u64 => {
            disagrees(format!("-k {asked}"), format!("{components} component(s)"))
        }
        _ if args.n_init > 1 => Err(Error::Config(format!(
            "--n-init {} asks for fresh starts, and --init {} is a given one",
            args.n_init,
            path.display()
        ))),
        _ => Ok(model),
    }
}

fn fit<T: Scalar>(args: &FitArgs) -> Result<ExitCode> {
    let begin = Instant::now();
    let plan = FitPlan::<T>::new(args)?;
    progress::catch_interrupts()?;
    let config = &plan.config;
    let mut progress = Progress::new(config.monitor, config.n_init, config.max_iter, args.quiet);
    let fit = plan.run(&mut progress);
    progress.finish();
    let fit = fit?;

    let mut failures = save(args, &fit);
    match inference::score(&fit.model, &*plan.source, &plan.executor) {
        Err(error) => failures.push(error),
        Ok(score) => {
            let interrupted = progress.ended_by_interrupt;
            let stop_reason = if interrupted { StopReason::Interrupted } else { fit.stop_reason };
            let report = FitReport {
                fit: &fit,
                stop_reason,
                score: &score,
                monitor: config.monitor,
                executor: &plan.executor,
                precision: T::NAME,
                seed: config.seed,
                seconds_total: begin.elapsed().as_secs_f64(),
            };
            let printed = if args.json { json_line(&report.json()) } else { report.text() };
            failures.extend(output::print(&printed).err());
        }
    }
    if !args.quiet {
        fit.warnings.iter().for_each(|warning| output::complain("warning", warning));
    }
    failures.iter().for_each(|failure| output::complain("error", failure));
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes all files of a fit, each whether or not the others could be written.
fn save(args: &FitArgs, fit: &Fit<Mixture>) -> Vec<Error> {
    let title = format!("{}, {} components", fit.model.family().name(), fit.model.n_components());
    let model = args.output.as_ref().map(|path| store::save(path, &fit.model));
    let history = args
        .history
        .as_ref()
        .map(|path| write_atomically(path, |file| fit.history.write_csv(file)));
    let plot = args.plot.as_ref().map(|path| plot::write_svg(path, &fit.history, &title));
    [model, history, plot].into_iter().flatten().filter_map(Result::err).collect()
}

fn predict<T: Scalar>(args: &PredictArgs) -> Result<ExitCode> {
    output::check_targets(&[Target::table(&args.output)], &[&args.model, &args.data.data])?;
    let executor = executor(&args.compute.threads)?;
    let model = store::load(&args.model)?;
    let source = open::<T>(&args.data, None)?;
    check_dim(&*source, &model)?;
    progress::catch_interrupts()?;
    let mut table = if args.proba {
        Table::matrix(&args.output, model.n_components(), "p")?
    } else {
        Table::vector(&args.output, Dtype::I64, "label")?
    };
    if args.proba {
        inference::predict_proba(&model, &*source, &executor, |_, posteriors| {
            progress::check_interrupt()?;
            table.write(posteriors)
        })?;
    } else {
        inference::predict(&model, &*source, &executor, |_, labels| {
            progress::check_interrupt()?;
            table.write_labels(labels)
        })?;
    }
    table.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn score<T: Scalar>(args: &ScoreArgs) -> Result<ExitCode> {
    let targets: Vec<Target<'_>> = args.output.as_deref().map(Target::table).into_iter().collect();
    let mut inputs = vec![args.model.as_path(), &args.data.data];
    inputs.extend(args.weights.weights.as_deref());
    output::check_targets(&targets, &inputs)?;
    let executor = executor(&args.compute.threads)?;
    let model = store::load(&args.model)?;
    let source = open::<T>(&args.data, args.weights.weights.as_deref())?;
    check_dim(&*source, &model)?;
    let score = inference::score(&model, &*source, &executor)?;
    if let Some(path) = &args.output {
        progress::catch_interrupts()?;
        let mut table = Table::vector(path, Dtype::F64, "log_density")?;
        inference::score_samples(&model, &*source, &executor, |_, values| {
            progress::check_interrupt()?;
            table.write(values)
        })?;
        table.finish()?;
    }
    output::print(&if args.json {
        json_line(&output::score_json(&score))
    } else {
        output::score_text(&model, &score)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn sample(args: &SampleArgs) -> Result<ExitCode> {
    let mut targets = vec![Target::table(&args.output)];
    targets.extend(args.labels.as_deref().map(Target::table));
    output::check_targets(&targets, &[&args.model])?;
    let executor = executor(&args.threads)?;
    let model = store::load(&args.model)?;
    progress::catch_interrupts()?;
    let mut points = Table::matrix(&args.output, model.family().dim(), "x")?;
    let mut labels = match &args.labels {
        Some(path) => Some(Table::vector(path, Dtype::I64, "label")?),
        None => None,
    };
    inference::sample(&model, args.n, args.seed, &executor, |values, components| {
        progress::check_interrupt()?;
        points.write(values)?;
        labels.as_mut().map_or(Ok(()), |labels| labels.write_labels(components))
    })?;
    points.finish()?;
    labels.map_or(Ok(()), Table::finish)?;
    Ok(ExitCode::SUCCESS)
}

fn info(args: &InfoArgs) -> Result<ExitCode> {
    let model = store::load(&args.model)?;
    output::print(&if args.json {
        json_line(&output::model_json(&model))
    } else {
        output::model_text(&model)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn json_line(value: &serde_json::Value) -> String {
    format!("{value}\n")
}

fn executor(args: &ThreadsArgs) -> Result<Executor> {
    Executor::new(args.threads.map(size).transpose()?)
}

fn open<T: Scalar>(args: &DataArgs, weights: Option<&Path>) -> Result<Box<dyn DataSource<T>>> {
    let options = OpenOptions {
        raw: args.dtype.zip(args.dim.map(size).transpose()?),
        weights_column: args.weights_column.clone(),
        weights: weights.map(Path::to_owned),
        ..OpenOptions::default()
    };
    data::open(&args.data, &options)
}

/// Reads a source into memory if it fits there with ease; else each sweep reads it from its file.
fn into_memory<T: Scalar>(source: Box<dyn DataSource<T>>) -> Result<Box<dyn DataSource<T>>> {
    let size = u128::from(source.len()) * (source.dim() * size_of::<T>()) as u128;
    let fits = output::available_memory().is_some_and(|free| size < u128::from(free) / 2);
    if fits && !source.is_empty() && !is_in_memory(&*source)? {
        return Ok(Box::new(data::load(&*source)?));
    }
    Ok(source)
}

/// Whether a source lends its points from memory instead of reading them into a buffer.
fn is_in_memory<T: Scalar>(source: &dyn DataSource<T>) -> Result<bool> {
    let mut buffer = BlockBuf::default();
    source.read(0, 1, &mut buffer)?;
    Ok(buffer.values.is_empty())
}

fn check_dim<T: Scalar>(source: &dyn DataSource<T>, model: &Mixture) -> Result<()> {
    if source.dim() != model.family().dim() {
        return Err(Error::Config(format!(
            "{} has points of {} dimension(s), the model is for {}",
            source.name(),
            source.dim(),
            model.family().dim()
        )));
    }
    Ok(())
}

fn size(number: u64) -> Result<usize> {
    usize::try_from(number).map_err(|_| Error::Config(format!("{number} is too large")))
}
