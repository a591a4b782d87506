//! Prints reports, and writes tables of results.

use crate::cli::columns::{columns_json, columns_text};
use crate::cli::kinds::{self, Outcome, described};
use crate::cli::ranks;
use crate::data::{Columns, Schema};
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::expert::{is_product, parse_product};
use crate::inference::Score;
use crate::monitor::{Minibatch, Monitor, StopReason, TruncationLoss};
use crate::store::{Model, Stored};
use serde_json::{Map, Value, json};
use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::Path;

/// Writes a message to standard error, of rank 0 if there are several. A standard error that is closed is no fault.
pub fn complain(kind: &str, message: &dyn Display) {
    if ranks::speaks() {
        complain_of_any_rank(kind, message);
    }
}

/// Writes a message of this process to standard error, whatever its rank.
pub fn complain_of_any_rank(kind: &str, message: &dyn Display) {
    let _ = writeln!(io::stderr(), "{kind}: {message}");
}

/// Prints the result of a command.
///
/// # Errors
/// If the text cannot be written. A reader that closes the pipe early (`| head`) is no error.
pub fn print(text: &str) -> Result<()> {
    if !ranks::speaks() {
        return Ok(());
    }
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(fault) if fault.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("standard output", fault))
        }
        _ => Ok(()),
    }
}

/// Returns the extension of a name, in small letters.
pub fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// Everything that a report of a fit contains.
#[derive(Debug)]
pub struct FitReport<'a> {
    pub fit: &'a Outcome,
    /// The method of computation, if the program chose among several.
    pub method: Option<String>,
    pub stop_reason: StopReason,
    /// Points of the source.
    pub n_points: u64,
    /// Score of the returned parameters on the points of the fit, if a closing pass took place.
    pub score: Option<&'a Score>,
    pub monitor: Monitor,
    pub executor: &'a Executor,
    pub precision: &'a str,
    pub seed: u64,
    /// Seconds since the data were opened, all starts included.
    pub seconds_total: f64,
    /// The columns, if the points are those of a table.
    pub columns: Option<&'a Columns>,
    /// Number of points that were left out since a value is missing.
    pub incomplete: usize,
}

impl FitReport<'_> {
    fn iterations(&self) -> usize {
        self.fit.last().map_or(0, |record| record.iteration)
    }

    fn by_minibatches(&self) -> bool {
        self.last_minibatch().is_some()
    }

    /// Returns the last record of a minibatch, from before the closing iterations of batch EM.
    fn last_minibatch(&self) -> Option<Minibatch> {
        self.fit.history.records.iter().rev().find_map(|record| record.minibatch)
    }

    fn seconds_per_iteration(&self) -> f64 {
        self.fit.seconds / self.iterations() as f64
    }

    fn points_per_second(&self) -> f64 {
        self.fit.last().map_or(0, |record| record.points_seen) as f64 / self.fit.seconds
    }

    /// Returns the report as a JSON object. Numbers that are not finite become null.
    pub fn json(&self) -> Value {
        let (model, score) = (&self.fit.model, self.score);
        let last = self.fit.last().expect("a fit has at least one iteration");
        let sum = &last.entropy_sum;
        let mut report = Map::new();
        let mut tell = |key: &str, value: Value| report.insert(key.to_owned(), value);
        tell("model", model.name().into());
        tell("n_points", self.n_points.into());
        let sizes = model.sizes();
        for (key, size) in sizes.iter().rev().filter(|it| it.0 == "dim").chain(&sizes) {
            tell(key, (*size).into());
        }
        if let Some(method) = &self.method {
            tell("method", method.as_str().into());
        }
        tell("iterations", self.iterations().into());
        tell("converged", (self.stop_reason == StopReason::Converged).into());
        tell("stop_reason", self.stop_reason.name().into());
        tell("monitor", self.monitor.name().into());
        let mut terms = json!({
            "total": sum.total(),
            "posterior": sum.posterior,
            "prior": sum.prior,
            "observable": sum.observable,
            "base_measure": sum.base_measure,
        });
        if sum.hidden != 0.0 {
            terms["hidden"] = sum.hidden.into();
        }
        tell("entropy_sum", terms);
        tell("lower_bound", last.lower_bound.into());
        tell("gap", last.gap().into());
        if let Some(log_prior) = last.log_prior {
            tell("log_prior", log_prior.into());
        }
        if let Some(half) = last.gap_halves {
            tell("gap_prior", half.prior.into());
            tell("gap_noise", half.noise.into());
            tell("sampling_error", half.sampling_error.into());
            tell("active_latents", last.active_components.into());
        }
        if let Some(minibatch) = self.last_minibatch() {
            tell("standard_error", minibatch.standard_error.into());
            tell("effective_points", minibatch.effective_points.into());
            tell("improvement", minibatch.improvement.into());
            tell("remaining", minibatch.remaining.into());
            tell("points_seen", last.points_seen.into());
        }
        if let Some(evaluations) = last.joint_evaluations {
            tell("joint_evaluations", evaluations.into());
        }
        tell("log_likelihood", score.map(|score| score.log_likelihood).into());
        if let Some(loss) = &self.fit.truncation_loss {
            tell("truncation", truncation_json(loss));
        }
        if described(model).scores_are_bounds() {
            tell("log_likelihood_is_lower_bound", true.into());
        }
        tell("bic", score.map(Score::bic).into());
        tell("aic", score.map(Score::aic).into());
        tell("icl", score.map(Score::icl).into());
        tell("n_parameters", model.n_parameters().into());
        for (key, value) in described(model).details() {
            tell(key, value);
        }
        tell("seconds", self.fit.seconds.into());
        tell("seconds_per_iteration", self.seconds_per_iteration().into());
        tell("points_per_second", self.points_per_second().into());
        if let Some(share) = self.fit.whitened_share {
            tell("whitened_share", share.into());
        }
        tell("seconds_total", self.seconds_total.into());
        tell("peak_memory_bytes", peak_memory().into());
        tell("threads", self.executor.threads().into());
        if let Some(ranks) = self.executor.ranks() {
            tell("ranks", ranks.size().into());
        }
        tell("precision", self.precision.into());
        for (key, value) in model.settings() {
            tell(key, value);
        }
        tell("seed", self.seed.into());
        if let Some(columns) = self.columns {
            tell("columns", columns_json(columns));
        }
        if self.incomplete > 0 {
            tell("n_incomplete", self.incomplete.into());
        }
        tell("warnings", self.fit.warnings.clone().into());
        report.into()
    }

    /// Returns the report as text.
    pub fn text(&self) -> String {
        let (model, score) = (&self.fit.model, self.score);
        let last = self.fit.last().expect("a fit has at least one iteration");
        let iterations = self.iterations();
        let why = match self.stop_reason {
            StopReason::Converged if self.by_minibatches() => {
                "converged: the entropy sum no longer rises".to_owned()
            }
            StopReason::Epochs => "not converged: stopped by --epochs".to_owned(),
            StopReason::Converged if self.monitor == Monitor::Delta => {
                format!("converged: delta is {:.1e}", last.change)
            }
            StopReason::Converged => {
                format!("converged: {} changed by {:.1e}", self.monitor.name(), last.change)
            }
            StopReason::MaxIterations => "not converged: stopped by --max-iter".to_owned(),
            StopReason::MaxSeconds => "not converged: stopped by --max-seconds".to_owned(),
            StopReason::Interrupted => "not converged: interrupted".to_owned(),
            other => other.name().to_owned(),
        };
        let schema = self.columns.and_then(Columns::schema);
        let mut lines = vec![
            ("model", title(model, schema.as_ref())),
            ("points", self.points()),
            ("iterations", format!("{iterations}, {why}")),
            ("entropy sum", last.entropy_sum.to_string()),
        ];
        if let Some(names) = schema.as_ref().and_then(component_names) {
            lines.push(("components", names));
        }
        if let Some(method) = &self.method {
            lines.insert(2, ("method", method.clone()));
        }
        if let Some(log_prior) = last.log_prior {
            let text = format!("{log_prior:.6} per point; no other value of this report holds it");
            lines.push(("log-prior", text));
            lines.push(("gap", format!("{:.1e}, from the prior", last.gap())));
        }
        if let Some(loss) = self.fit.truncation_loss {
            let TruncationLoss { loss, standard_error, n_points, .. } = loss;
            let text = if loss.abs() > 1e-12 {
                format!("the log-likelihood is {loss:.2e} ± {standard_error:.0e} above the bound")
            } else {
                "nothing is lost but rounding".to_owned()
            };
            lines.push(("truncation", format!("{text} (a sample of {n_points} points)")));
        }
        if let Some(half) = last.gap_halves {
            lines.push(("gap", format!("{:.1e} (prior), {:.1e} (noise)", half.prior, half.noise)));
            if half.sampling_error > 0.0 {
                let text = format!("{:.1e} of the bound, at most", half.sampling_error);
                lines.push(("sampling error", text));
            }
            let (active, sizes) = (last.active_components, model.sizes());
            let all = sizes.iter().find(|(key, _)| *key == "n_latents").map_or(0, |it| it.1);
            lines.push(("active latents", format!("{active} of {all}")));
        }
        if let Some(minibatch) = self.last_minibatch().filter(|it| !it.standard_error.is_nan()) {
            let error = format!(
                "{:.1e} as an estimate for new points, from {} effective points",
                minibatch.standard_error,
                magnitude(minibatch.effective_points)
            );
            lines.push(("standard error", error));
        }
        lines.extend(score.map(|score| score_lines(model, score)).into_iter().flatten());
        let time = format!(
            "{} s per iteration, {} points/s, {} s in total",
            significant(self.seconds_per_iteration(), 3),
            magnitude(self.points_per_second()),
            significant(self.seconds_total, 3)
        );
        lines.push(("time", time));
        let columns =
            self.columns.map_or(String::new(), |columns| "\n".to_owned() + &columns_text(columns));
        aligned(&lines) + "\n" + &described(model).table(schema.as_ref()) + &columns
    }

    fn points(&self) -> String {
        let left_out = match self.incomplete {
            0 => String::new(),
            n => format!(", {n} more with missing values left out"),
        };
        format!("{} of dimension {}{left_out}", self.n_points, self.fit.model.dim())
    }
}

/// Returns the title of a model; a product of families has columns by name, if they have names.
fn title(model: &Model, schema: Option<&Schema>) -> String {
    let (title, name) = (described(model).title(), model.name());
    match schema.filter(|_| is_product(&name)).zip(parse_product(&name, &[]).ok()) {
        None => title,
        Some((schema, blocks)) => {
            let block = |(family, columns): (String, Vec<usize>)| {
                let names: Vec<&str> = columns.iter().map(|&d| schema.names[d].as_str()).collect();
                format!("{family}:{}", names.join("+"))
            };
            let named: Vec<String> = blocks.into_iter().map(block).collect();
            title.replacen(&name, &named.join(","), 1)
        }
    }
}

/// Returns a name as it stands in tables: a long name is cut.
pub fn shortened(name: &str) -> String {
    const LONGEST: usize = 24;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}

/// Returns a score as a JSON object.
pub fn score_json(model: &Model, score: &Score, search: Option<&TruncationLoss>) -> Value {
    let mut value = json!({
        "n_points": score.n_points,
        "total_weight": score.total_weight,
        "log_likelihood": score.log_likelihood,
        "bic": score.bic(),
        "aic": score.aic(),
        "icl": score.icl(),
        "n_parameters": score.n_parameters,
    });
    if described(model).scores_are_bounds() || search.is_some() {
        value["log_likelihood_is_lower_bound"] = true.into();
    }
    if let Some(loss) = search {
        value["truncation"] = truncation_json(loss);
    }
    if described(model).importance_samples() > 0 {
        value["importance_samples"] = described(model).importance_samples().into();
    }
    value
}

/// Returns a score as text.
pub fn score_text(model: &Model, score: &Score, search: Option<&TruncationLoss>) -> String {
    let points = match score.total_weight {
        weight if weight == score.n_points as f64 => score.n_points.to_string(),
        weight => format!("{}, total weight {}", score.n_points, significant(weight, 6)),
    };
    let mut lines = vec![("model", described(model).title()), ("points", points)];
    lines.extend(score_lines(model, score));
    lines.extend(search.map(|loss| ("search", search_text(loss))));
    aligned(&lines)
}

/// Says that components were searched, and what that costs.
pub fn search_text(loss: &TruncationLoss) -> String {
    let TruncationLoss { loss, standard_error, n_points, .. } = loss;
    format!(
        "each point among few components, {loss:.2e} ± {standard_error:.0e} below the log-likelihood of all (a sample of {n_points} points); --exact goes through all"
    )
}

fn truncation_json(loss: &TruncationLoss) -> Value {
    let TruncationLoss { loss, standard_error, log_likelihood, n_points, .. } = loss;
    json!({
        "loss": loss,
        "standard_error": standard_error,
        "n_points": n_points,
        "log_likelihood": log_likelihood,
    })
}

fn score_lines(model: &Model, score: &Score) -> [(&'static str, String); 2] {
    let criteria = format!("{:.2}, AIC {:.2}, ICL {:.2}", score.bic(), score.aic(), score.icl());
    let bound = match (described(model).scores_are_bounds(), described(model).importance_samples())
    {
        (false, _) => String::new(),
        (true, 0) => " or more (lower bound)".to_owned(),
        (true, n) => format!(" or more (mean of lower bounds from {n} importance samples)"),
    };
    let likelihood = format!("{:.6} per point{bound}", score.log_likelihood);
    [("log-likelihood", likelihood), ("BIC", criteria)]
}

/// Returns a model as a JSON object, which [`load`](crate::cli::kinds::load) reads.
pub fn model_json(model: &Model, schema: Option<&Schema>) -> Value {
    let mut value = kinds::to_json(model, schema);
    value["n_parameters"] = model.n_parameters().into();
    for (key, detail) in described(model).details() {
        if value.get(key).is_none() {
            value[key] = detail;
        }
    }
    value
}

/// Returns a model as text.
pub fn model_text(model: &Model, schema: Option<&Schema>) -> String {
    let mut lines = vec![
        ("model", title(model, schema)),
        ("dimension", model.dim().to_string()),
        ("parameters", format!("{} free", model.n_parameters())),
    ];
    if let Some(names) = schema.and_then(component_names) {
        lines.push(("components", names));
    }
    // The tables below tell of the blocks of a product.
    for (key, value) in model.settings().into_iter().filter(|it| !["dim", "blocks"].contains(&it.0))
    {
        lines.push((key, value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    }
    aligned(&lines) + "\n" + &described(model).table(schema)
}

/// Lists the components that labels named, if there are such.
fn component_names(schema: &Schema) -> Option<String> {
    let named = schema.components.iter().enumerate().filter(|(_, name)| !name.is_empty());
    let named: Vec<String> = named.map(|(c, name)| format!("{c} is {}", shortened(name))).collect();
    (!named.is_empty()).then(|| named.join(", "))
}

/// Formats lines of a name and a value, with the values aligned.
fn aligned(lines: &[(&str, String)]) -> String {
    lines.iter().map(|(name, value)| format!("{name:<16}{value}\n")).collect()
}

/// Formats a number with the given count of significant digits.
pub fn significant(value: f64, digits: usize) -> String {
    let exponent = if value == 0.0 { 0.0 } else { value.abs().log10().floor() };
    if !(-4.0..digits as f64).contains(&exponent) {
        return format!("{value:.*e}", digits - 1);
    }
    format!("{value:.*}", (digits as f64 - 1.0 - exponent) as usize)
}

/// Formats a large number with a unit: `1.23 M`.
pub fn magnitude(value: f64) -> String {
    let units = [(1e9, " G"), (1e6, " M"), (1e3, " k")];
    let (scale, unit) = units.into_iter().find(|(s, _)| value >= *s).unwrap_or((1.0, ""));
    format!("{:.2}{unit}", value / scale)
}

/// Returns the peak memory of this process in bytes, if the operating system reports it.
fn peak_memory() -> Option<u64> {
    proc_bytes("/proc/self/status", "VmHWM:")
}

/// Returns the memory that is still available to this process, in bytes, if the operating system reports it.
pub fn available_memory() -> Option<u64> {
    Some(proc_bytes("/proc/meminfo", "MemAvailable:")? / ranks::local_size() as u64)
}

/// Returns the number of processors of this machine, if the operating system reports it. This process may be bound to some.
pub fn processors() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    Some(text.lines().filter(|line| line.starts_with("processor")).count())
}

/// Reads an entry in kB of a file in `/proc`, as bytes.
fn proc_bytes(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let entry = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(entry.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (0.0, "0.00000"),
            (1.0, "1.00000"),
            (-12.345678, "-12.3457"),
            (0.00012345678, "0.000123457"),
            (123456.7, "123457"),
            (1234567.0, "1.23457e6"),
            (1e-9, "1.00000e-9"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(significant(value, 6), expected);
        }
        assert_eq!([12.0, 1234.0, 2.5e9].map(magnitude), ["12.00", "1.23 k", "2.50 G"]);
    }
}
