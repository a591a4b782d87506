//! From what was typed to objects of the library, and from these to results.

use crate::cli::args::{
    Command, DEFAULT_MODEL, DataArgs, FitArgs, InfoArgs, MapArgs, Missing, Precision, PredictArgs,
    SampleArgs, ScoreArgs, Start, ThreadsArgs,
};
use crate::cli::checkpoint::CheckpointFile;
use crate::cli::kinds::{self, FitKind, Given, Kind, PointMap, with_kind, with_model};
use crate::cli::output::{self, FitReport, Table, Target};
use crate::cli::progress::{self, Progress};
use crate::cli::stream;
use crate::cli::{bench, check, select};
use entropysum::block::BlockBuf;
use entropysum::data::{self, DataSource, Dtype, OpenOptions};
use entropysum::em::{Config, Fit, Fitting, StreamConfig, known_from_data};
use entropysum::error::{Error, Result};
use entropysum::exec::Executor;
use entropysum::expert::{
    is_product, name_of_product, parse_product, write_atomically, write_features,
};
use entropysum::family::{KnownParameters, Regularization, registry};
use entropysum::inference;
use entropysum::model::{Density, GenerativeModel, Mixture};
use entropysum::monitor::{StopReason, plot};
use entropysum::scalar::Scalar;
use entropysum::store::{self, Model, Stored};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Calls a generic function in the precision asked for.
macro_rules! in_precision {
    ($compute:expr, $function:ident($($args:expr),*)) => {
        match $compute.precision {
            Precision::F32 => $function::<f32>($($args),*),
            Precision::F64 => $function::<f64>($($args),*),
        }
    };
}

pub(in crate::cli) use in_precision;

/// Runs a command.
///
/// # Errors
/// Those of the library; what was typed and what it names are checked first.
pub fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Fit(command) => {
            let args = &command.args();
            in_precision!(args.compute, fit(args))
        }
        Command::Select(command) => select::run(command),
        Command::Predict(args) => in_precision!(args.compute, predict(args)),
        Command::Transform(args) => in_precision!(args.compute, map(args, PointMap::Transform)),
        Command::Reconstruct(args) => in_precision!(args.compute, map(args, PointMap::Reconstruct)),
        Command::Score(args) => in_precision!(args.compute, score(args)),
        Command::Sample(args) => sample(args),
        Command::Info(args) => info(args),
        Command::Check(args) => check::run(args),
        Command::Bench(args) => bench::run(args),
    }
}

fn fit<T: Scalar>(args: &FitArgs) -> Result<ExitCode> {
    let begin = Instant::now();
    let (targets, inputs) = fit_targets(args)?;
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    output::check_targets(&targets, &inputs)?;
    let given = match &args.init {
        Start::File(path) => Some(given_start(path, args)?),
        _ => None,
    };
    let name = given.as_ref().map(Stored::name).or_else(|| args.model.clone());
    let name = name.as_deref().unwrap_or(DEFAULT_MODEL);
    with_kind!(name, M => {
        let given = given.map(M::try_from).transpose()?;
        FitPlan::<T, M>::new(args, name, given)?.run(args, begin)
    })
}

/// The files that a fit writes, and those that it reads and must not replace.
pub fn fit_targets(args: &FitArgs) -> Result<(Vec<Target<'_>>, Vec<PathBuf>)> {
    let targets: Vec<Target<'_>> = [
        args.output.as_deref().map(Target::model),
        args.history.as_deref().map(Target::history),
        args.plot.as_deref().map(Target::plot),
        args.plot_features.as_deref().map(Target::picture),
    ]
    .into_iter()
    .flatten()
    .collect();
    // A model to go on from may be replaced by what becomes of it.
    let mut inputs = Vec::new();
    for file in args.data.files() {
        inputs.extend(data::expand(file)?);
    }
    inputs.extend([&args.weights.weights, &args.stream.held_out].into_iter().flatten().cloned());
    Ok((targets, inputs))
}

/// The model that `--init FILE` names; what else is said of the model must agree with it.
fn given_start(path: &Path, args: &FitArgs) -> Result<Model> {
    if !path.exists() {
        return Err(Error::Config(format!(
            "--init {}: expected {}, or a file with a model, and there is no such file",
            path.display(),
            Start::NAMES.join(", ")
        )));
    }
    let model: Model = store::load(path)?;
    match &args.model {
        Some(asked) if *asked != model.name() => {
            Given { path, model: &model }.disagrees(&format!("--model {asked}"), &model.name())
        }
        _ if args.n_init > 1 => Err(Error::Config(format!(
            "--n-init {} asks for fresh starts, and --init {} is a given one",
            args.n_init,
            path.display()
        ))),
        _ => Ok(model),
    }
}

/// A product whose columns are called by names has them by number then; any other name stays as it is.
fn with_column_names<T: Scalar>(name: &str, source: &dyn DataSource<T>) -> Result<String> {
    if !is_product(name) {
        return Ok(name.to_owned());
    }
    let blocks = parse_product(name, source.column_names().unwrap_or_default())?;
    Ok(name_of_product(blocks.iter().map(|(family, columns)| (family.clone(), &columns[..]))))
}

/// The points of a fit, and what they tell of the model.
pub struct Points<T> {
    pub source: Box<dyn DataSource<T>>,
    /// Name of the model, with columns by number.
    pub name: String,
    known: Option<KnownParameters>,
}

impl<T: Scalar> Points<T> {
    /// Opens the points that were typed for a model of this name, or for the given one.
    ///
    /// # Errors
    /// Those of reading; if the points are not for the model.
    pub fn open<M: Kind>(
        args: &FitArgs,
        name: &str,
        given: Option<&M>,
        stream: Option<&StreamConfig>,
    ) -> Result<Self> {
        let mut options = open_options(&args.data, args.weights.weights.as_deref())?;
        if let Some(stream) = stream {
            // The other half is for windows of shuffled points.
            (options.bad_rows, options.memory) = (stream.bad_rows, Some(stream.memory / 2));
        }
        let source = data::open_all::<T>(&args.data.files(), &options)?;
        if let Some(model) = given {
            check_source(&*source, model)?;
        }
        if let Some((width, height)) = args.image
            && width.checked_mul(height) != Some(source.dim())
        {
            let (name, dim) = (source.name(), source.dim());
            return Err(Error::Config(format!(
                "--image {width}x{height}: {name} has points of {dim} dimension(s)"
            )));
        }
        let name = with_column_names(name, &*source)?;
        let tells = given.is_none() && Mixture::answers_to(&name);
        let known = tells.then(|| known_from_data(&name, &*source, args.known.known()));
        let known = known.transpose()?;
        // Minibatches are read from where the points are, into memory that is bounded.
        let source = if stream.is_some() { source } else { into_memory(source)? };
        Ok(Self { source, name, known })
    }

    /// The arguments of a fit with what the points tell of a family.
    pub fn told(&self, args: &FitArgs) -> FitArgs {
        let mut args = args.clone();
        if let Some(known) = &self.known {
            args.known.levels = known.get("levels").map(<[f64]>::to_vec);
            args.known.total = known.get("total").map(<[f64]>::to_vec);
        }
        args
    }
}

/// The settings of a fit.
pub fn config(args: &FitArgs) -> Result<Config> {
    Ok(Config::default()
        .max_iter(size(args.max_iter)?)
        .tol(args.tol)
        .rtol(args.rtol)
        .monitor(args.monitor)
        .max_time(args.max_seconds)
        .regularization(Regularization { reg_covar: args.reg_covar, ..Default::default() })
        .n_init(size(args.n_init)?)
        .seed(args.seed))
}

/// A fit that is ready to run: all that was typed is checked, all files are open.
struct FitPlan<T, M: Kind> {
    spec: M::Spec,
    source: Box<dyn DataSource<T>>,
    executor: Executor,
    config: Config,
    stream: Option<StreamConfig>,
    checkpoint: Option<CheckpointFile>,
}

impl<T: Scalar, M: FitKind<T>> FitPlan<T, M> {
    fn new(args: &FitArgs, name: &str, given: Option<M>) -> Result<Self> {
        let executor = executor(&args.compute.threads)?;
        kinds::check_arguments::<M>(name, args)?;
        let given_at = match (&given, &args.init) {
            (Some(model), Start::File(path)) => Some(Given { path, model }),
            _ => None,
        };
        M::check(args, given_at)?;
        let stream = stream::settings(args)?;
        let checkpoint = CheckpointFile::of(args)?;
        let points = Points::<T>::open(args, name, given.as_ref(), stream.as_ref())?;
        let spec = M::spec(&points.name, &points.told(args), given, points.source.dim())?;
        check_sparse(&*points.source, M::learns_from_sparse(&spec), &points.name)?;
        let source = points.source;
        let config = config(args)?.label(M::label(&spec));
        Ok(Self { spec, source, executor, config, stream, checkpoint })
    }

    fn run(&self, args: &FitArgs, begin: Instant) -> Result<ExitCode> {
        progress::catch_interrupts()?;
        let (config, executor) = (&self.config, &self.executor);
        let held_out = match &args.stream.held_out {
            Some(path) => Some(data::open::<T>(path, &open_options(&args.data, None)?)?),
            None => None,
        };
        let mut progress = match &self.stream {
            None => Progress::new(config.monitor, config.n_init, config.max_iter, args.quiet),
            Some(stream) => {
                let total = self.source.len().saturating_mul(stream.epochs as u64);
                Progress::of_stream(total, args.quiet)
            }
        };
        let prepared = M::prepare(&[&self.spec], &*self.source, executor)?;
        let mut fitting =
            Fitting::new(&*self.source, executor).config(config).observer(&mut progress);
        if let Some(stream) = &self.stream {
            fitting = fitting.minibatches(stream);
        }
        if let Some(held_out) = &held_out {
            fitting = fitting.held_out(&**held_out);
        }
        let run = |fitting: Fitting<'_, T, M>| M::fit(&self.spec, &prepared, fitting);
        let fit = match &self.checkpoint {
            None => run(fitting),
            Some(file) => file.keep(fitting, run),
        };
        progress.finish();
        let fit = fit?;
        // A closing pass over a stream would double the cost of a single epoch; 'score' does it.
        let is_scored = self.stream.is_none();
        let score = is_scored.then(|| M::score_fit(&fit.model, &prepared, executor)).transpose();

        let mut failures = save(args, &fit);
        match score {
            Err(error) => failures.push(error),
            Ok(_) if fit.last().is_none() => {
                failures.push(Error::Config("the fit ended before its first step".to_owned()));
            }
            Ok(score) => {
                let interrupted = progress.ended_by_interrupt;
                let stop_reason =
                    if interrupted { StopReason::Interrupted } else { fit.stop_reason };
                let (n, dim) = (self.source.len(), self.source.dim());
                let report = FitReport {
                    fit: &fit,
                    method: M::method(&self.spec, n, dim),
                    stop_reason,
                    n_points: self.source.len(),
                    score: score.as_ref(),
                    monitor: config.monitor,
                    executor: &self.executor,
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
}

/// Writes all files of a fit, each whether or not the others could be written.
pub fn save<M: Kind>(args: &FitArgs, fit: &Fit<M>) -> Vec<Error> {
    let title = fit.model.title();
    let model = args.output.as_ref().map(|path| store::save(path, &fit.model));
    let history = args
        .history
        .as_ref()
        .map(|path| write_atomically(path, |file| fit.history.write_csv(file)));
    let plot = args.plot.as_ref().map(|path| plot::write_svg(path, &fit.history, &title));
    let features =
        args.plot_features.as_ref().zip(args.image).zip(fit.model.features()).map(
            |((path, (width, height)), features)| write_features(path, &features, width, height),
        );
    [model, history, plot, features].into_iter().flatten().filter_map(Result::err).collect()
}

fn predict<T: Scalar>(args: &PredictArgs) -> Result<ExitCode> {
    output::check_targets(&[Target::table(&args.output)], &[&args.model, &args.data.data])?;
    with_model!(store::load(&args.model)?, model => predict_with::<T, _>(args, &model))
}

fn predict_with<T: Scalar, M: FitKind<T>>(args: &PredictArgs, model: &M) -> Result<ExitCode> {
    let executor = executor(&args.compute.threads)?;
    let n_components = model.n_components();
    if model.state_width() > 0 && !args.proba {
        return predict_states(args, model, &executor);
    }
    if n_components == 0 {
        let (name, kind) = (model.name(), M::KIND);
        return Err(Error::Config(format!("cannot predict: {name} is {kind}, without components")));
    }
    let model = &prepared(model, &args.data)?;
    let source = open::<T>(&args.data, None)?;
    check_source(&*source, model)?;
    progress::catch_interrupts()?;
    let mut table = if args.proba {
        Table::matrix(&args.output, Dtype::F64, n_components, "p")?
    } else {
        Table::vector(&args.output, Dtype::I64, "label")?
    };
    if args.proba {
        inference::predict_proba(model, &*source, &executor, |_, posteriors| {
            progress::check_interrupt()?;
            table.write(posteriors)
        })?;
    } else {
        inference::predict(model, &*source, &executor, |_, labels| {
            progress::check_interrupt()?;
            table.write_labels(labels)
        })?;
    }
    table.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the most probable state of each point, one column a latent.
fn predict_states<T: Scalar, M: FitKind<T>>(
    args: &PredictArgs,
    model: &M,
    executor: &Executor,
) -> Result<ExitCode> {
    let source = open::<T>(&args.data, None)?;
    check_source(&*source, model)?;
    progress::catch_interrupts()?;
    let mut table = Table::matrix(&args.output, Dtype::F64, model.state_width(), "z")?;
    model.states(&*source, executor, &mut |values| {
        progress::check_interrupt()?;
        table.write(values)
    })?;
    table.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn map<T: Scalar>(args: &MapArgs, map: PointMap) -> Result<ExitCode> {
    output::check_targets(&[Target::table(&args.output)], &[&args.model, &args.data.data])?;
    with_model!(store::load(&args.model)?, model => map_with::<T, _>(args, map, &model))
}

fn map_with<T: Scalar, M: FitKind<T>>(
    args: &MapArgs,
    map: PointMap,
    model: &M,
) -> Result<ExitCode> {
    let executor = executor(&args.compute.threads)?;
    let width = model.width(map)?;
    let model = &prepared(model, &args.data)?;
    let source = open::<T>(&args.data, None)?;
    check_source(&*source, model)?;
    progress::catch_interrupts()?;
    let prefix = if map == PointMap::Transform { "z" } else { "x" };
    let mut table = Table::matrix(&args.output, Dtype::F64, width, prefix)?;
    model.map(map, &*source, &executor, &mut |values| {
        progress::check_interrupt()?;
        table.write(values)
    })?;
    table.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn score<T: Scalar>(args: &ScoreArgs) -> Result<ExitCode> {
    let targets: Vec<Target<'_>> = args.output.as_deref().map(Target::table).into_iter().collect();
    let mut inputs = vec![args.model.as_path(), &args.data.data];
    inputs.extend(args.weights.weights.as_deref());
    output::check_targets(&targets, &inputs)?;
    with_model!(store::load(&args.model)?, model => score_with::<T, _>(args, &model))
}

fn score_with<T: Scalar, M: FitKind<T>>(args: &ScoreArgs, model: &M) -> Result<ExitCode> {
    let executor = executor(&args.compute.threads)?;
    let model = &prepared(model, &args.data)?;
    let source = open::<T>(&args.data, args.weights.weights.as_deref())?;
    check_source(&*source, model)?;
    let score = inference::score(model, &*source, &executor)?;
    if let Some(path) = &args.output {
        progress::catch_interrupts()?;
        let mut table = Table::vector(path, Dtype::F64, "log_density")?;
        inference::score_samples(model, &*source, &executor, |_, values| {
            progress::check_interrupt()?;
            table.write(values)
        })?;
        table.finish()?;
    }
    output::print(&if args.json {
        json_line(&output::score_json(model, &score))
    } else {
        output::score_text(model, &score)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn sample(args: &SampleArgs) -> Result<ExitCode> {
    let mut targets = vec![Target::table(&args.output)];
    targets.extend(args.labels.as_deref().map(Target::table));
    output::check_targets(&targets, &[&args.model])?;
    with_model!(store::load(&args.model)?, model => sample_with(args, &model))
}

fn sample_with(args: &SampleArgs, model: &(impl Kind + Density<f64>)) -> Result<ExitCode> {
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
    let mut points = Table::matrix(&args.output, dtype, model.dim(), "x")?;
    let mut labels = match &args.labels {
        Some(path) => Some(Table::vector(path, Dtype::I64, "label")?),
        None => None,
    };
    inference::sample(model, args.n, args.seed, &executor, |values, components| {
        progress::check_interrupt()?;
        points.write(values)?;
        labels.as_mut().map_or(Ok(()), |labels| labels.write_labels(components))
    })?;
    points.finish()?;
    labels.map_or(Ok(()), Table::finish)?;
    Ok(ExitCode::SUCCESS)
}

fn info(args: &InfoArgs) -> Result<ExitCode> {
    with_model!(store::load(&args.model)?, model => {
        output::print(&if args.json {
            json_line(&output::model_json(&model))
        } else {
            output::model_text(&model)
        })?;
        Ok(ExitCode::SUCCESS)
    })
}

/// What `--json` prints.
pub fn json_line(value: &serde_json::Value) -> String {
    format!("{value}\n")
}

/// The threads that were asked for.
pub fn executor(args: &ThreadsArgs) -> Result<Executor> {
    Executor::new(args.threads.map(size).transpose()?)
}

fn open<T: Scalar>(args: &DataArgs, weights: Option<&Path>) -> Result<Box<dyn DataSource<T>>> {
    data::open_all(&args.files(), &open_options(args, weights)?)
}

fn open_options(args: &DataArgs, weights: Option<&Path>) -> Result<OpenOptions> {
    Ok(OpenOptions::default()
        .raw(args.dtype.zip(args.dim.map(size).transpose()?))
        .weights_column(args.weights_column.clone())
        .weights(weights.map(Path::to_owned))
        .missing(args.missing == Missing::Ignore))
}

/// A model as it looks at these data.
fn prepared<M: GenerativeModel>(model: &M, args: &DataArgs) -> Result<M> {
    match args.missing {
        Missing::Refuse => Ok(model.clone()),
        Missing::Ignore => model.clone().ignoring_missing(),
    }
}

/// Opens a file that says all of itself.
pub fn open_plain(path: &Path) -> Result<Box<dyn DataSource<f64>>> {
    data::open(path, &OpenOptions::default())
}

/// Reads a source into memory if it fits there with ease; else each sweep reads it from its file.
pub fn into_memory<'a, T: Scalar>(
    source: Box<dyn DataSource<T> + 'a>,
) -> Result<Box<dyn DataSource<T> + 'a>> {
    if data::is_sparse(&*source) {
        return Ok(source);
    }
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

/// Refuses points of another dimension than that of a model, and sparse ones that it does not take.
pub fn check_source<T: Scalar>(
    source: &dyn DataSource<T>,
    model: &(impl GenerativeModel + Stored),
) -> Result<()> {
    if source.dim() != model.dim() {
        return Err(Error::Config(format!(
            "{} has points of {} dimension(s), the model is for {}",
            source.name(),
            source.dim(),
            model.dim()
        )));
    }
    check_sparse(source, model.takes_sparse(), &model.name())
}

/// Refuses sparse points where a model does not take such: filling in their zeros is for who knows that they fit.
pub fn check_sparse<T: Scalar>(source: &dyn DataSource<T>, takes: bool, name: &str) -> Result<()> {
    if takes || !data::is_sparse(source) {
        return Ok(());
    }
    let takes_sparse = |name: &&str| {
        let keys = registry::known_parameters(name).iter();
        let known = keys.fold(KnownParameters::default(), |known, &key| known.with(key, vec![1.0]));
        registry::build_known(name, 1, &known).is_ok_and(|family| family.takes_sparse())
    };
    let names: Vec<_> = registry::names().filter(takes_sparse).collect();
    Err(Error::Config(format!(
        "{} is sparse, and {name} takes dense points; sparse ones are for {}",
        source.name(),
        names.join(", ")
    )))
}

/// A number that was typed, as a size.
pub fn size(number: u64) -> Result<usize> {
    usize::try_from(number).map_err(|_| Error::Config(format!("{number} is too large")))
}
