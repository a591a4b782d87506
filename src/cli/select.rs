//! `select`: fits models of several sizes to the same points, and compares them by a criterion.

use crate::cli::args::{Counts, DEFAULT_MODEL, FitArgs, Precision, SelectCommand, Start};
use crate::cli::kinds::{self, FitKind, with_kind};
use crate::cli::output::{self, FitReport};
use crate::cli::progress::{self, Counter};
use crate::cli::run::{self, Points, executor, fit_targets, in_precision, json_line};
use entropysum::data::split;
use entropysum::em::Fitting;
use entropysum::error::{Error, Result};
use entropysum::inference;
use entropysum::monitor::{IterRecord, Observer, StopReason, plot};
use entropysum::scalar::Scalar;
use entropysum::selection::{self, Candidate, Criterion};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Size of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
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
    let (targets, inputs) = fit_targets(&command.fit)?;
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    output::check_targets(&targets, &inputs)?;
    let name = command.fit.model.as_deref().unwrap_or(DEFAULT_MODEL);
    in_precision!(command.fit.compute, select(command, name))
}

fn select<T: Scalar>(command: &SelectCommand, name: &str) -> Result<ExitCode> {
    with_kind!(name, M => select_among::<T, M>(command, name))
}

/// Returns all combinations of the sizes that were typed, each with the options of its fit.
fn candidates(command: &SelectCommand) -> Result<Vec<(Size, FitArgs)>> {
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
        .flat_map(|&latent| components.iter().map(move |&components| Size { components, latent }));
    let arguments = |size: Size| {
        let latent = size.latent.into_iter().collect();
        (size, FitArgs { components: size.components, latent, ..command.fit.clone() })
    };
    Ok(pairs.map(arguments).collect())
}

fn select_among<T: Scalar, M: FitKind<T>>(command: &SelectCommand, name: &str) -> Result<ExitCode> {
    let begin = Instant::now();
    let candidates = candidates(command)?;
    let executor = executor(&command.fit.compute.threads)?;
    for (_, args) in &candidates {
        kinds::check_arguments::<M>(name, args)?;
        M::check(args, None)?;
    }
    let points = Points::<T>::open::<M>(&command.fit, name, None, None)?;
    let all = &*points.source;
    let named = (command.criterion == Criterion::HeldOut).then_some(HELD_OUT);
    let split = command.held_out.or(named).map(|part| split(all, part, command.fit.seed));
    let mut sides = Vec::new();
    for side in split.transpose()?.into_iter().flatten() {
        sides.push(run::into_memory::<T>(Box::new(side))?);
    }
    let (source, held_out) = match &sides[..] {
        [kept, held_out] => (&**kept, Some(&**held_out)),
        _ => (all, None),
    };
    let mut specs = Vec::new();
    for (size, args) in &candidates {
        let args = points.told(args);
        let spec = M::spec(&points.name, &args, None, source.dim())?;
        run::check_sparse(source, M::learns_from_sparse(&spec), &points.name)?;
        specs.push((*size, spec));
    }
    progress::catch_interrupts()?;

    let config = run::config(&command.fit)?;
    let all_specs: Vec<&M::Spec> = specs.iter().map(|(_, spec)| spec).collect();
    let prepared = M::prepare(&all_specs, source, &executor)?;
    let per_iteration = M::points_per_iteration(&prepared);
    let counter = Counter::new(specs.len(), command.fit.quiet);
    let results = selection::fit_all(specs.len(), per_iteration, &executor, |i, executor| {
        if progress::interrupted() {
            return Ok(None);
        }
        let spec = &specs[i].1;
        let mut observer = UntilInterrupt;
        let fitting = Fitting::new(source, executor).config(&config).observer(&mut observer);
        let fit = M::fit(spec, &prepared, fitting)?;
        let score = M::score_fit(&fit.model, &prepared, executor)?;
        let held_out = held_out.map(|points| inference::score(&fit.model, points, executor));
        let held_out = held_out.transpose()?;
        counter.count();
        Ok((!progress::interrupted()).then_some(Candidate { fit, score, held_out }))
    });
    counter.finish();
    // After an interrupt the finished candidates are compared, and the others dropped.
    let (mut sizes, mut finished) = (Vec::new(), Vec::new());
    for ((size, _), candidate) in specs.iter().zip(results?) {
        if let Some(candidate) = candidate {
            sizes.push(*size);
            finished.push(candidate);
        }
    }
    let Some(best) = selection::best(&finished, command.criterion) else {
        progress::check_interrupt()?;
        let message = format!("no candidate has a finite value of {}", command.criterion.name());
        return Err(Error::Config(message));
    };

    let mut failures =
        run::save(&FitArgs { plot: None, ..command.fit.clone() }, &finished[best].fit);
    if let Some(path) = &command.fit.plot {
        let curves = curves(&sizes, &finished, command.criterion);
        let label = if has_many(&sizes, |it| it.components) { "components" } else { "latents" };
        let labels = [label, "criterion per point (lower is better)"];
        let mut axes = vec![plot::Axes { labels, is_log: false, curves: &curves }];
        let scree = scree(&sizes, M::scree(&specs[best].1, &prepared));
        if let Some((label, curve)) = &scree {
            axes.push(plot::Axes { labels: ["latents", label], is_log: true, curves: curve });
        }
        failures.extend(plot::write_panels(path, &points.name, &axes).err());
    }
    let report = FitReport {
        fit: &finished[best].fit,
        method: M::method(&specs[best].1, source.len(), source.dim()),
        stop_reason: finished[best].fit.stop_reason,
        n_points: points.source.len(),
        score: Some(&finished[best].score),
        monitor: config.monitor,
        executor: &executor,
        precision: T::NAME,
        seed: config.seed,
        seconds_total: begin.elapsed().as_secs_f64(),
    };
    let printed = if command.fit.json {
        json_line(&json!({
            "model": points.name,
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
    if !command.fit.quiet {
        for (size, candidate) in sizes.iter().zip(&finished) {
            for warning in &candidate.fit.warnings {
                output::complain("warning", &format!("{}: {warning}", describe(*size)));
            }
        }
    }
    failures.iter().for_each(|failure| output::complain("error", failure));
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

fn describe(size: Size) -> String {
    let of = |count: Option<u64>, what| count.map(|count| format!("{count} {what}"));
    let both = [of(size.components, "components"), of(size.latent, "latents")];
    both.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn rows<M>(sizes: &[Size], candidates: &[Candidate<M>]) -> Vec<Value> {
    let row = |(size, candidate): (&Size, &Candidate<M>)| {
        let Candidate { fit, score, held_out } = candidate;
        json!({
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
            "seconds": fit.seconds,
        })
    };
    sizes.iter().zip(candidates).map(row).collect()
}

fn table<M>(
    sizes: &[Size],
    candidates: &[Candidate<M>],
    best: usize,
    criterion: Criterion,
) -> String {
    let mut text = String::new();
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
        if i == best {
            let _ = write!(text, "  best {}", criterion.name());
        }
        text.push('\n');
    }
    text
}

fn has_many(sizes: &[Size], count: impl Fn(&Size) -> Option<u64>) -> bool {
    sizes.iter().any(|size| count(size) != count(&sizes[0]))
}

/// Returns as many eigenvalues as the largest candidate has latents, as a curve.
fn scree(
    sizes: &[Size],
    scree: Option<(&'static str, Vec<f64>)>,
) -> Option<(&'static str, [plot::Curve; 1])> {
    let (label, values) = scree?;
    let largest = sizes.iter().filter_map(|size| size.latent).max()?;
    let numbered = values.iter().take(largest as usize).enumerate();
    let points = numbered.map(|(h, value)| (h as f64 + 1.0, *value)).collect();
    Some((label, [(label.to_owned(), points)]))
}

/// Returns curves of all criteria against the size that varies. If both sizes vary, returns the chosen criterion for each
/// number of latents.
fn curves<M>(
    sizes: &[Size],
    candidates: &[Candidate<M>],
    criterion: Criterion,
) -> Vec<plot::Curve> {
    let both = has_many(sizes, |it| it.components) && has_many(sizes, |it| it.latent);
    let along = has_many(sizes, |it| it.components);
    let points = |criterion: Criterion, keep: &dyn Fn(&Size) -> bool| {
        let all = sizes.iter().zip(candidates).filter(|(size, _)| keep(size));
        all.map(|(size, candidate)| {
            let x = if along { size.components } else { size.latent.or(size.components) };
            let y = criterion.value(candidate) / candidate.score.total_weight;
            (x.unwrap_or_default() as f64, y)
        })
        .collect()
    };
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
