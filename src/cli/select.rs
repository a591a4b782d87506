//! `select`: fits models of several sizes to the same points, and compares them by a criterion.

use crate::any::Run;
use crate::cli::args::{ALL_COVARIANCES, Counts, DEFAULT_MODEL, FitArgs, SelectCommand, Start};
use crate::cli::fit::{self, Points};
use crate::cli::guard::check_files;
use crate::cli::kinds::{self, Scree, kind_of};
use crate::cli::output::{self, FitReport};
use crate::cli::progress::{self, Counter};
use crate::cli::run::{executor, exit_code, json_line};
use crate::error::{Error, Result};
use crate::family::Covariance;
use crate::monitor::{IterRecord, Observer, StopReason, plot};
use crate::selection::{self, Criterion};
use crate::store::Model;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Instant;

type Candidate = selection::Candidate<Model>;

/// Model and size of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size<'a> {
    model: &'a str,
    components: Option<u64>,
    latent: Option<u64>,
}

/// Part of the points to hold out, if the criterion needs such points and --held-out is absent.
const HELD_OUT: f64 = 0.2;

/// Runs the command.
pub fn run(command: &SelectCommand) -> Result<ExitCode> {
    if let Start::File(path) = &command.fit.init {
        let path = path.display();
        return Err(Error::Config(format!(
            "--init {path}: 'select' fits each size from a fresh start; use 'fit' to continue from a model"
        )));
    }
    if kinds::algorithm(&command.fit).is_some() {
        let message = "'select' does not learn by minibatches; use 'fit' for each size";
        return Err(Error::Config(message.to_owned()));
    }
    let (inputs, targets) = fit::files(&command.fit);
    check_files(&inputs, &targets)?;
    let name = command.fit.model.as_deref().unwrap_or(DEFAULT_MODEL);
    match name == ALL_COVARIANCES {
        true => select(command, name, &Covariance::ALL.map(|it| format!("gaussian-{}", it.name()))),
        false => select(command, name, &[name.to_owned()]),
    }
}

/// Returns the options of a fit for all combinations of the sizes that were typed.
fn arguments(command: &SelectCommand) -> Result<Vec<FitArgs>> {
    let typed = |counts: &Option<Counts>| match counts {
        None => vec![None],
        Some(Counts(counts)) => counts.iter().copied().map(Some).collect::<Vec<_>>(),
    };
    if command.components.is_none() && command.latent.is_none() {
        let message = "give the sizes of the candidates with --components or --latent";
        return Err(Error::Config(message.to_owned()));
    }
    let (components, latent) = (typed(&command.components), typed(&command.latent));
    let pairs = latent
        .iter()
        .flat_map(|&latent| components.iter().map(move |&components| (components, latent)));
    let arguments = |(components, latent): (Option<u64>, Option<u64>)| {
        let latent = latent.into_iter().collect();
        FitArgs { components, latent, ..command.fit.clone() }
    };
    Ok(pairs.map(arguments).collect())
}

/// Fits all sizes of models of one kind, `all_names` for what was typed.
fn select(command: &SelectCommand, typed: &str, all_names: &[String]) -> Result<ExitCode> {
    let begin = Instant::now();
    let arguments = arguments(command)?;
    let executor = executor(&command.fit.compute.threads)?;
    let kind = kind_of(&all_names[0]);
    for args in &arguments {
        kinds::check_arguments(kind, typed, args)?;
        (kind.check)(args, None)?;
    }
    let points = Points::open(&command.fit, &all_names[0], None, None)?;
    let (names, typed) = match all_names {
        [_] => (vec![points.name.clone()], &*points.name),
        several => (several.to_vec(), typed),
    };
    let size = |(model, args): (_, &FitArgs)| Size {
        model,
        components: args.components,
        latent: args.latent.first().copied(),
    };
    let each = names.iter().flat_map(|name| arguments.iter().map(move |args| (&**name, args)));
    let sizes: Vec<Size<'_>> = each.map(size).collect();
    let all = points.source.borrow();
    let named = (command.criterion == Criterion::HeldOut).then_some(HELD_OUT);
    let split = command.held_out.or(named).map(|part| all.split(part, command.fit.seed));
    let mut sides = Vec::new();
    for side in split.transpose()?.into_iter().flatten() {
        sides.push(side.into_memory()?);
    }
    let (source, held_out) = match &sides[..] {
        [kept, held_out] => (kept.borrow(), Some(held_out.borrow())),
        _ => (all, None),
    };
    let told: Vec<FitArgs> = arguments.iter().map(|args| points.told(args)).collect();
    let config = fit::config(&command.fit)?;
    progress::catch_interrupts()?;
    let prepared = names.iter().map(|name| kind.prepare(name, &told, None, source, &executor));
    let prepared = prepared.collect::<Result<Vec<_>>>()?;
    // Each model has all sizes.
    let of = |i: usize| (&prepared[i / told.len()], i % told.len());
    let per_iteration = prepared[0].points_per_iteration();
    let counter = Counter::new(sizes.len(), command.fit.quiet);
    let results = selection::fit_all(sizes.len(), per_iteration, &executor, |i, executor| {
        if progress::interrupted() {
            return Ok(None);
        }
        let (prepared, i) = of(i);
        let fit = prepared.fit(i, Run::new(executor, &config, &mut UntilInterrupt))?;
        let score = prepared.score(&fit.model, executor)?;
        let held_out = held_out.map(|points| fit.model.score(points, executor)).transpose()?;
        counter.count();
        Ok((!progress::interrupted()).then_some(Candidate { fit, score, held_out }))
    });
    counter.finish();
    // After an interrupt the finished candidates are compared, and the others dropped.
    let some = results?.into_iter().enumerate().filter_map(|(i, candidate)| Some((i, candidate?)));
    let (indices, finished): (Vec<usize>, Vec<Candidate>) = some.unzip();
    let n_candidates = sizes.len();
    let sizes: Vec<Size<'_>> = indices.iter().map(|&i| sizes[i]).collect();
    let sound = selection::best(&finished, command.criterion).filter(|_| !command.allow_degenerate);
    let Some(best) = sound.or_else(|| selection::best_of_all(&finished, command.criterion)) else {
        progress::check_interrupt()?;
        let message = format!("no candidate has a finite value of {}", command.criterion.name());
        return Err(Error::Config(message));
    };

    let schema = points.schema();
    let mut failures = fit::save(
        &FitArgs { plot: None, ..command.fit.clone() },
        &finished[best].fit,
        schema.as_ref(),
    );
    let best_model = &finished[best].fit.model;
    let drawn = fit::draw_clusters(&command.fit, best_model, all, schema.as_ref(), &executor);
    failures.extend(drawn.err());
    if let Some(path) = &command.fit.plot {
        let curves = curves(&sizes, &finished, command.criterion);
        let label = if has_many(&sizes, |it| it.components) { "components" } else { "latents" };
        let labels = [label, "criterion per point (lower is better)"];
        let marks = marks(&sizes, &finished, best, command.criterion);
        let mut axes = vec![plot::Axes { labels, is_log: false, curves: &curves, marks: &marks }];
        let (prepared, i) = of(indices[best]);
        let scree = scree(&sizes, prepared.scree(i));
        if let Some((label, curve)) = &scree {
            axes.push(plot::Axes {
                labels: ["latents", label],
                is_log: true,
                curves: curve,
                marks: &[],
            });
        }
        failures.extend(plot::write_panels(path, typed, &axes).err());
    }
    let report = FitReport {
        fit: &finished[best].fit,
        method: of(indices[best]).0.method(of(indices[best]).1),
        stop_reason: finished[best].fit.stop_reason,
        n_points: all.len(),
        score: Some(&finished[best].score),
        monitor: config.monitor,
        executor: &executor,
        precision: command.fit.compute.precision.name(),
        seed: config.seed,
        seconds_total: begin.elapsed().as_secs_f64(),
        columns: points.columns.as_ref(),
        incomplete: points.incomplete,
    };
    let printed = if command.fit.json {
        json_line(&json!({
            "model": typed,
            "n_points": source.len(),
            "dim": source.dim(),
            "n_held_out": held_out.map_or(0, |points| points.len()),
            "criterion": command.criterion.name(),
            "candidates": rows(&sizes, &finished),
            "best": report.json(),
        }))
    } else {
        table(&sizes, &finished, best, command.criterion) + "\n" + &report.text()
    };
    failures.extend(output::print(&printed).err());
    if finished[best].is_degenerate() && !command.allow_degenerate {
        let advice = "try fewer components, --prior conjugate, --reg-covar E, or covariances of fewer parameters";
        let message = format!("all candidates are degenerate, the best one too; {advice}");
        output::complain("warning", &message);
    }
    if !command.fit.quiet {
        for (size, candidate) in sizes.iter().zip(&finished) {
            let size = describe(*size, names.len() > 1);
            for warning in &candidate.fit.warnings {
                output::complain("warning", &format!("{size}: {warning}"));
            }
        }
    }
    if failures.is_empty() && finished.len() < n_candidates {
        return Ok(progress::exit_code_of_part());
    }
    Ok(exit_code(&failures))
}

/// Ends a fit on Ctrl-C.
struct UntilInterrupt;

impl Observer for UntilInterrupt {
    fn on_iteration(&mut self, _: &IterRecord) -> ControlFlow<StopReason> {
        match progress::interrupted() {
            true => ControlFlow::Break(StopReason::Interrupted),
            false => ControlFlow::Continue(()),
        }
    }
}

fn describe(size: Size<'_>, has_several_models: bool) -> String {
    let of = |count: Option<u64>, what| count.map(|count| format!("{count} {what}"));
    let model = has_several_models.then(|| size.model.to_owned());
    let all = [model, of(size.components, "components"), of(size.latent, "latents")];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn rows(sizes: &[Size<'_>], candidates: &[Candidate]) -> Vec<Value> {
    let row = |(size, candidate): (&Size<'_>, &Candidate)| {
        let Candidate { fit, score, held_out } = candidate;
        json!({
            "model": size.model,
            "components": size.components,
            "latent": size.latent,
            "n_parameters": score.n_parameters,
            "log_likelihood": score.log_likelihood,
            "held_out_log_likelihood": held_out.map(|score| score.log_likelihood),
            "entropy_sum": fit.last().map(|last| last.entropy_sum.total()),
            "bic": score.bic(),
            "aic": score.aic(),
            "icl": score.icl(),
            "iterations": fit.history.records.len(),
            "converged": fit.converged(),
            "degenerate_components": fit.floored,
            "seconds": fit.seconds,
        })
    };
    sizes.iter().zip(candidates).map(row).collect()
}

fn table(
    sizes: &[Size<'_>],
    candidates: &[Candidate],
    best: usize,
    criterion: Criterion,
) -> String {
    let mut text = String::new();
    let width = sizes.iter().map(|size| size.model.len()).max().unwrap_or_default();
    let has_several_models = has_many(sizes, |it| it.model);
    if has_several_models {
        let _ = write!(text, "{:width$}  ", "model");
    }
    for (column, shown) in
        [("components", sizes[0].components.is_some()), ("latents", sizes[0].latent.is_some())]
    {
        if shown {
            let _ = write!(text, "{column:>10}  ");
        }
    }
    let has_held_out = candidates.iter().any(|candidate| candidate.held_out.is_some());
    text += "parameters  log-likelihood  ";
    text += if has_held_out { "      held-out  " } else { "" };
    text += " entropy sum           BIC           AIC           ICL  iterations\n";
    for (i, (size, Candidate { fit, score, held_out })) in sizes.iter().zip(candidates).enumerate()
    {
        if has_several_models {
            let _ = write!(text, "{:width$}  ", size.model);
        }
        for count in [size.components, size.latent].into_iter().flatten() {
            let _ = write!(text, "{count:>10}  ");
        }
        let _ = write!(text, "{:>10}  {:>14.6}  ", score.n_parameters, score.log_likelihood);
        if let Some(score) = held_out {
            let _ = write!(text, "{:>14.6}  ", score.log_likelihood);
        }
        let _ = write!(
            text,
            "{:>12.6}  {:>12.2}  {:>12.2}  {:>12.2}  {:>10}",
            fit.last().map_or(f64::NAN, |last| last.entropy_sum.total()),
            score.bic(),
            score.aic(),
            score.icl(),
            fit.history.records.len(),
        );
        if !fit.converged() {
            text += "  not converged";
        }
        if !fit.floored.is_empty() {
            text += "  degenerate";
        }
        if i == best {
            let _ = write!(text, "  best {}", criterion.name());
        }
        text.push('\n');
    }
    text
}

fn has_many<'a, V: PartialEq>(sizes: &[Size<'a>], value: impl Fn(&Size<'a>) -> V) -> bool {
    sizes.iter().any(|size| value(size) != value(&sizes[0]))
}

/// Returns as many eigenvalues as the largest candidate has latents, as a curve.
fn scree(sizes: &[Size<'_>], scree: Option<Scree>) -> Option<(&'static str, [plot::Curve; 1])> {
    let (label, values) = scree?;
    let largest = sizes.iter().filter_map(|size| size.latent).max()?;
    let numbered = values.iter().take(largest as usize).enumerate();
    let points = numbered.map(|(h, value)| (h as f64 + 1.0, *value)).collect();
    Some((label, [(label.to_owned(), points)]))
}

/// Returns the place of a candidate on the curve of a criterion.
fn place(
    sizes: &[Size<'_>],
    size: &Size<'_>,
    candidate: &Candidate,
    criterion: Criterion,
) -> (f64, f64) {
    let along = has_many(sizes, |it| it.components);
    let x = if along { size.components } else { size.latent.or(size.components) };
    (x.unwrap_or_default() as f64, criterion.value(candidate) / candidate.score.total_weight)
}

/// Returns the best candidate and those that are degenerate, as marks on the curve of the criterion.
fn marks(
    sizes: &[Size<'_>],
    candidates: &[Candidate],
    best: usize,
    criterion: Criterion,
) -> Vec<plot::Mark> {
    let all = || sizes.iter().zip(candidates);
    let at = |(size, candidate)| place(sizes, size, candidate, criterion);
    let degenerate: Vec<_> = all().filter(|it| it.1.is_degenerate()).map(at).collect();
    let mut marks = vec![plot::Mark {
        label: format!("best {}", criterion.name()),
        points: all().skip(best).take(1).map(at).collect(),
        is_hollow: false,
    }];
    if !degenerate.is_empty() {
        let label = "degenerate".to_owned();
        marks.push(plot::Mark { label, points: degenerate, is_hollow: true });
    }
    marks
}

/// Returns curves of all criteria against the size that varies. If both sizes vary, returns the chosen criterion for each
/// number of latents; of several models, for each model.
fn curves(sizes: &[Size<'_>], candidates: &[Candidate], criterion: Criterion) -> Vec<plot::Curve> {
    let both = has_many(sizes, |it| it.components) && has_many(sizes, |it| it.latent);
    let points = |criterion: Criterion, keep: &dyn Fn(&Size<'_>) -> bool| {
        let all = sizes.iter().zip(candidates).filter(|(size, _)| keep(size));
        all.map(|(size, candidate)| place(sizes, size, candidate, criterion)).collect()
    };
    if has_many(sizes, |it| it.model) {
        let mut models: Vec<&str> = sizes.iter().map(|size| size.model).collect();
        models.dedup();
        let curve = |&model: &&str| (model.to_owned(), points(criterion, &|it| it.model == model));
        return models.iter().map(curve).collect();
    }
    if !both {
        let curve = |it: Criterion| (it.name().to_owned(), points(it, &|_| true));
        let has_values = |curve: &plot::Curve| curve.1.iter().any(|point| !point.1.is_nan());
        return Criterion::ALL.into_iter().map(curve).filter(has_values).collect();
    }
    let mut latents: Vec<u64> = sizes.iter().filter_map(|size| size.latent).collect();
    latents.dedup();
    let curve = |&latent: &u64| {
        let name = format!("{}, {latent} latents", criterion.name());
        (name, points(criterion, &|size| size.latent == Some(latent)))
    };
    latents.iter().map(curve).collect()
}
