//! `fit`: from what was typed to a fit, and from the fit to files and a report.

use crate::any::{self, Run};
use crate::cli::args::{ALL_COVARIANCES, DEFAULT_MODEL, FitArgs, Prior, Start};
use crate::cli::checkpoint;
use crate::cli::guard::{Target, check_files};
use crate::cli::kinds::{self, Given, Outcome, described, kind_of};
use crate::cli::labels::{self, Labels};
use crate::cli::output::{self, FitReport};
use crate::cli::plot as clusters;
use crate::cli::progress::{self, Progress};
use crate::cli::run::{executor, exit_code, json_line, size};
use crate::cli::source::{Opened, OwnedSource, Source, open_options};
use crate::cli::stream;
use crate::data::{Columns, Schema};
use crate::em::{Config, StreamConfig};
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::expert::write_atomically;
use crate::expert::write_features;
use crate::family::{ConjugatePrior, KnownParameters, Regularization};
use crate::model::Mixture;
use crate::monitor::{StopReason, plot};
use crate::picture::write_tiles;
use crate::store::{Model, Stored};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Runs the command.
///
/// # Errors
/// Those of the library. What was typed and the files that it names are checked first.
pub fn run(args: &FitArgs) -> Result<ExitCode> {
    let begin = Instant::now();
    let (inputs, targets) = files(args);
    check_files(&inputs, &targets)?;
    let (given, schema) = match &args.init {
        Start::File(path) => {
            let (model, schema) = given_start(path, args)?;
            (Some((path, model)), schema)
        }
        _ => (None, None),
    };
    let name = given.as_ref().map(|(_, model)| model.name()).or_else(|| args.model.clone());
    let name = name.as_deref().unwrap_or(DEFAULT_MODEL);
    if name == ALL_COVARIANCES {
        let text = format!("--model {name} stands for several models; use 'select'");
        return Err(Error::Config(text));
    }

    let executor = &executor(&args.compute.threads)?;
    let kind = kind_of(name);
    let args = &kinds::with_minibatches(kind, args);
    kinds::check_arguments(kind, name, args)?;
    (kind.check)(args, given.as_ref().map(|(path, model)| Given { path, model }))?;
    let stream = stream::settings(args)?;
    let checkpoint = checkpoint::typed(args)?;
    labels::check(args)?;
    let given = given.map(|(_, model)| model);
    let points =
        Points::open(args, name, given.as_ref().zip(Some(schema.clone())), stream.as_ref())?;
    let source = points.source.borrow();
    let config = &config(args)?;

    progress::catch_interrupts()?;
    let mut progress = match &stream {
        None => Progress::new(config.monitor, config.n_init, config.max_iter, args.quiet),
        Some(stream) => {
            let total = source.len().saturating_mul(stream.epochs as u64);
            Progress::of_stream(total, config.n_init, args.quiet)
        }
    };
    let told = [points.told(args)];
    let prepared = kind.prepare(&points.name, &told, given, source, executor)?;
    let held_out = match &args.stream.held_out {
        Some(path) => {
            let mut options = open_options(&args.data, None)?;
            options.table.schema = points.schema().or(schema);
            Some(OwnedSource::open(&[path], &options, args.compute.precision)?)
        }
        None => None,
    };
    let fit = prepared.fit(
        0,
        Run {
            stream: stream.as_ref(),
            held_out: held_out.as_ref().map(OwnedSource::borrow),
            checkpoint: checkpoint.as_ref(),
            ..Run::new(executor, config, &mut progress)
        },
    );
    progress.finish();
    let fit = fit?;
    // Labels are for learning: the model that is kept does without them, the score is that of points and labels.
    let (mut columns, mut labelled, mut fit) = (points.columns.clone(), None, fit);
    if let Some(labels) = &points.labels {
        let (model, names) = labels.strip(&fit.model)?;
        columns.iter_mut().for_each(|columns| columns.components.clone_from(&names));
        labelled = Some(std::mem::replace(&mut fit.model, model));
    }
    let schema = columns.as_ref().and_then(Columns::schema);
    let mut failures = save(args, &fit, schema.as_ref());
    // A closing pass over a stream would double the cost of a single epoch; 'score' does it.
    // So would a pass over all components where each point has seen few.
    let is_scored = stream.is_none() && fit.truncation_loss.is_none();
    let scored = labelled.as_ref().unwrap_or(&fit.model);
    let score = is_scored.then(|| prepared.score(scored, executor)).transpose();
    let unlabelled = points.labels.as_ref().map(|labels| labels.points(source));
    let drawn = unlabelled.as_ref().map_or(source, OwnedSource::borrow);
    failures.extend(draw_clusters(args, &fit.model, drawn, schema.as_ref(), executor).err());
    match score {
        Err(error) => failures.push(error),
        Ok(_) if fit.last().is_none() => {
            failures.push(Error::Config("the fit ended before its first step".to_owned()));
        }
        Ok(score) => {
            let interrupted = progress.ended_by_interrupt;
            let report = FitReport {
                fit: &fit,
                method: prepared.method(0),
                stop_reason: if interrupted { StopReason::Interrupted } else { fit.stop_reason },
                n_points: source.len(),
                score: score.as_ref(),
                monitor: config.monitor,
                executor,
                precision: args.compute.precision.name(),
                seed: config.seed,
                seconds_total: begin.elapsed().as_secs_f64(),
                columns: columns.as_ref(),
                incomplete: points.incomplete,
            };
            let printed = if args.json { json_line(&report.json()) } else { report.text() };
            failures.extend(output::print(&printed).err());
        }
    }
    if !args.quiet {
        fit.warnings.iter().for_each(|warning| output::complain("warning", warning));
    }
    if failures.is_empty() && progress.ended_by_interrupt {
        return Ok(progress::exit_code_of_part());
    }
    Ok(exit_code(&failures))
}

/// Draws the points in the colours of their components, if that was asked for.
pub fn draw_clusters(
    args: &FitArgs,
    model: &Model,
    source: Source<'_>,
    schema: Option<&Schema>,
    executor: &Executor,
) -> Result<()> {
    match &args.plot_clusters {
        Some(path) => clusters::write(path, model, source, schema, executor),
        None => Ok(()),
    }
}

/// Returns the files that a fit reads, and those that it writes.
pub fn files(args: &FitArgs) -> (Vec<&Path>, Vec<Target<'_>>) {
    let start = match &args.init {
        Start::File(path) => Some(path.as_path()),
        _ => None,
    };
    let targets = [
        args.output.as_deref().map(|path| Target::model(path, start)),
        args.history.as_deref().map(Target::history),
        args.plot.as_deref().map(Target::plot),
        args.plot_clusters.as_deref().map(Target::plot),
        args.plot_features.as_deref().map(Target::picture),
        args.stream.checkpoint.as_deref().map(Target::checkpoint),
    ];
    let more = [start, args.weights.weights.as_deref(), args.stream.held_out.as_deref()];
    let inputs = args.data.files().into_iter().chain(more.into_iter().flatten());
    (inputs.collect(), targets.into_iter().flatten().collect())
}

/// Loads the model that `--init FILE` names. What else is said of the model must agree with it.
fn given_start(path: &Path, args: &FitArgs) -> Result<(Model, Option<Schema>)> {
    if !path.exists() {
        return Err(Error::Config(format!(
            "--init {}: expected {}, or a file with a model, and there is no such file",
            path.display(),
            Start::NAMES.join(", ")
        )));
    }
    let (model, schema) = kinds::load(path)?;
    match &args.model {
        Some(asked) if *asked != model.name() => {
            Given { path, model: &model }.disagrees(&format!("--model {asked}"), &model.name())
        }
        _ if args.n_init > 1 => Err(Error::Config(format!(
            "--n-init {} asks for fresh starts, and --init {} is a given one",
            args.n_init,
            path.display()
        ))),
        _ => Ok((model, schema)),
    }
}

/// The points of a fit, and what they tell of the model.
pub struct Points {
    pub source: OwnedSource<'static>,
    /// Name of the model, with columns by number.
    pub name: String,
    known: Option<KnownParameters>,
    /// The columns, if the points are those of a table, and the number of points that were left out.
    pub columns: Option<Columns>,
    pub incomplete: usize,
    /// The labels of the points, if their components are known.
    labels: Option<Labels>,
}

impl Points {
    /// Opens the points that were typed for a model of this name, or for the given one.
    ///
    /// # Errors
    /// Those of reading; if the points are not for the model.
    pub fn open(
        args: &FitArgs,
        name: &str,
        given: Option<(&Model, Option<Schema>)>,
        stream: Option<&StreamConfig>,
    ) -> Result<Self> {
        let mut options = open_options(&args.data, args.weights.weights.as_deref())?;
        if let Some(stream) = stream {
            // The other half is for windows of shuffled points.
            (options.bad_rows, options.memory) = (stream.bad_rows, Some(stream.memory / 2));
        }
        match &given {
            Some((_, schema)) => options.table.schema.clone_from(schema),
            None => options.table = any::table_options(options.table, name),
        }
        if let Some(column) = &args.label_column {
            options.table.named_by_model.push((column.clone(), true));
            options.missing = true;
        }
        let opened = Opened::typed(&args.data, &options, args.compute.precision)?;
        if !args.quiet {
            opened.tell();
        }
        let source = opened.source.borrow();
        if let Some((model, _)) = given {
            source.check_for(model)?;
        }
        if let Some((width, height)) = args.image
            && width.checked_mul(height) != Some(source.dim())
        {
            let (name, dim) = (source.name(), source.dim());
            return Err(Error::Config(format!(
                "--image {width}x{height}: {name} has points of {dim} dimension(s)"
            )));
        }
        let name = source.with_column_numbers(name)?;
        let mut columns = opened.columns;
        let (labels, name) = match &args.label_column {
            Some(typed) => {
                let (labels, name) = Labels::of(typed, &name, source, columns.as_mut())?;
                (Some(labels), name)
            }
            None => (None, name),
        };
        let tells = given.is_none() && Mixture::answers_to(&name);
        let known = tells.then(|| source.tells(&name, args.known.known())).transpose()?;
        // Minibatches are read from where the points are, into memory that is bounded.
        let Opened { source, incomplete, .. } = opened;
        let source = if stream.is_some() { source } else { source.into_memory()? };
        Ok(Self { source, name, known, columns, incomplete: incomplete.len(), labels })
    }

    /// Returns what a model keeps of the columns.
    pub fn schema(&self) -> Option<Schema> {
        self.columns.as_ref().and_then(Columns::schema)
    }

    /// Returns the arguments of a fit with what the points tell of a family.
    pub fn told(&self, args: &FitArgs) -> FitArgs {
        let mut args = args.clone();
        if let Some(known) = &self.known {
            args.known.levels = known.get("levels").map(<[f64]>::to_vec);
            args.known.total = known.get("total").map(<[f64]>::to_vec);
            args.known.labels = known.get("labels").map(<[f64]>::to_vec);
        }
        args
    }
}

/// Returns the settings of a fit.
pub fn config(args: &FitArgs) -> Result<Config> {
    let of_covariances = args.network.prior.filter(|prior| *prior == Prior::Conjugate);
    let prior = of_covariances.map(|_| ConjugatePrior::default());
    Ok(Config::default()
        .max_iter(size(args.max_iter)?)
        .tol(args.tol)
        .rtol(args.rtol)
        .monitor(args.monitor)
        .max_time(args.max_seconds)
        .regularization(Regularization { reg_covar: args.reg_covar, prior, ..Default::default() })
        .n_init(size(args.n_init)?)
        .seed(args.seed))
}

/// Writes all files of a fit, each whether or not the others could be written.
pub fn save(args: &FitArgs, fit: &Outcome, schema: Option<&Schema>) -> Vec<Error> {
    let model = args.output.as_ref().map(|path| kinds::save(path, &fit.model, schema));
    let history = args
        .history
        .as_ref()
        .map(|path| write_atomically(path, |file| fit.history.write_csv(file)));
    let title = described(&fit.model).title();
    let plot = args.plot.as_ref().map(|path| plot::write_svg(path, &fit.history, &title));
    let features =
        args.plot_features.as_ref().zip(args.image).zip(described(&fit.model).features()).map(
            |((path, (width, height)), (features, columns))| match columns {
                None => write_features(path, &features, width, height),
                Some(columns) => write_tiles(path, &features, columns, [width, height]),
            },
        );
    let failures = [model, history, plot, features].into_iter().flatten().filter_map(Result::err);
    let unkept = fit.checkpoint_fault.as_ref().map(|fault| {
        Error::Config(format!(
            "{fault}; --resume goes on from an older checkpoint, if there is one"
        ))
    });
    failures.chain(unkept).collect()
}
