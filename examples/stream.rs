//! How many points minibatches take to get where batch EM ends: held-out log-likelihood against points seen, 10 seeds.
//!
//! Batch EM runs until an iteration gains less than 1e-5 nats. Stepwise EM and incremental EM get a number of epochs that is said
//! beforehand, from the same starts; what counts is from when on they stay no more than 1e-3 nats below where batch EM ended.
//! As they measure it, stepwise EM is at any time the model that it would end with: averaged in the second half.
//!
//! `cargo run --release --example stream [FOLDER [FILE,MODEL,COMPONENTS,EPOCHS,GRAIN ...]]` writes `stream.csv` and, with the command line's features, `stream.svg`
//! into the folder; without one it runs two seeds only and writes nothing. From the same start both may end in different
//! optima; then the figures compare these, not the algorithms. Files, where they are given, take the place of the photograph and the
//! synthetic points; numbers from [0, GRAIN) are added to their values. Asserts that the entropy sum is the surrogate at every step.

use entropysum::Executor;
use entropysum::data::Points;
use entropysum::em::{Fitting, StreamAlgorithm, StreamConfig};
use entropysum::expert::start_mixture;
use entropysum::family::{Parameters, registry};
use entropysum::inference;
use entropysum::model::Mixture;
use entropysum::monitor::Event;
use entropysum::{Config, IterRecord, MixtureSpec, Observer, Silent, StopReason, em};
use std::error::Error;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

/// Points seen, in passes over the data, and the held-out log-likelihood there.
type Path2 = Vec<(f64, f64)>;

/// What came out for the seeds of a task.
#[derive(Default)]
struct Summary {
    /// Points that batch EM saw by points until a path was where batch EM ended, 0 where it never was.
    ratios: Vec<f64>,
    /// How much lower paths ended than batch EM.
    gaps: Vec<f64>,
}

/// The first time from which on a path is no more than 1e-3 nats below `best`.
fn reached(path: &Path2, best: f64) -> Option<f64> {
    let outside = path.iter().rposition(|&(_, held_out)| held_out < best - 1e-3);
    path.get(outside.map_or(0, |at| at + 1)).map(|&(epochs, _)| epochs)
}

/// A set of points to learn from, and one to measure on.
struct Task {
    name: String,
    model: String,
    n_components: usize,
    dim: usize,
    train: Vec<f64>,
    test: Vec<f64>,
    batch_size: usize,
    /// Passes over the points that minibatches get.
    epochs: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1);
    let seeds = if folder.is_some() { 10 } else { 2 };
    let mut csv = "data,algorithm,seed,epochs,held_out\n".to_owned();
    let mut curves = Vec::new();
    let files: Vec<String> = std::env::args().skip(2).collect();
    let tasks = match &files[..] {
        [] => vec![photo()?, synthetic()?],
        files => files.iter().map(|file| from_file(file)).collect::<Result<_, _>>()?,
    };
    for task in tasks {
        let mut all = [Summary::default(), Summary::default()];
        let mut to_threshold = Vec::new();
        for seed in 0..seeds {
            let batch = run_batch(&task, seed)?;
            let (end, best) = batch[batch.len() - 1];
            to_threshold.push(end / reached(&batch, best).expect("batch EM reaches its own end"));
            let mut paths = vec![("batch", batch)];
            for (algorithm, summary) in
                [StreamAlgorithm::Stepwise, StreamAlgorithm::Incremental].into_iter().zip(&mut all)
            {
                let path = run_minibatches(&task, algorithm, seed)?;
                summary.ratios.push(reached(&path, best).map_or(0.0, |epochs| end / epochs));
                summary.gaps.push(best - path[path.len() - 1].1);
                paths.push((algorithm.name(), path));
            }
            for (algorithm, path) in &paths {
                for (epochs, held_out) in path {
                    writeln!(csv, "{},{algorithm},{seed},{epochs},{held_out}", task.name)?;
                }
                if seed == 0 {
                    let below = path.iter().map(|&(x, l)| (x, (best - l).max(1e-6))).collect();
                    curves.push((format!("{}, {algorithm}", task.name), below));
                }
            }
        }
        println!(
            "{}: batch EM itself is within 1e-3 nats of its end in {:.1} times fewer points than it takes to converge (median of \
             {seeds} seeds)",
            task.name,
            median(&mut to_threshold)
        );
        for (algorithm, Summary { ratios, gaps }) in
            ["stepwise", "incremental"].iter().zip(&mut all)
        {
            let there = ratios.iter().filter(|&&ratio| ratio > 0.0).count();
            println!(
                "{}, {algorithm}, {} epochs: {there} of {seeds} within 1e-3 nats of converged batch EM or better, in {:.1} times fewer \
                 points seen; {:.1e} nats below it at the end, {:.1e} to {:.1e} (medians, least and most)",
                task.name,
                task.epochs,
                median(ratios),
                median(gaps),
                gaps[0],
                gaps[gaps.len() - 1],
            );
        }
        // Half of the seeds or more, even of the few that are run without a folder.
        let missed = median(&mut all[0].ratios) < 5.0;
        assert!(!missed || !files.is_empty(), "{}: {:?}", task.name, all[0].ratios);
    }
    if let Some(folder) = folder {
        std::fs::write(Path::new(&folder).join("stream.csv"), csv)?;
        #[cfg(feature = "cli")]
        entropysum::monitor::plot::write_curves(
            Path::new(&folder).join("stream.svg"),
            "Held-out log-likelihood below that of converged batch EM, seed 0",
            ["passes over the points", "nats per point"],
            &curves,
        )?;
    }
    Ok(())
}

/// Pixels of a photograph. Values are integers; numbers from [0, 1) are added, as densities of such want it: components that
/// collapse to one value would have any likelihood.
fn photo() -> Result<Task, Box<dyn Error>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/china.npy");
    Ok(Task { name: "photo".to_owned(), ..from_file(&format!("{path},gaussian-full,16,10,1"))? })
}

fn from_file(text: &str) -> Result<Task, Box<dyn Error>> {
    let [path, model, n_components, epochs, grain] = text.split(',').collect::<Vec<_>>()[..] else {
        return Err(format!("{text}: expected FILE,MODEL,COMPONENTS,EPOCHS,GRAIN").into());
    };
    let points =
        entropysum::data::load(&*entropysum::data::open::<f64>(path, &Default::default())?)?;
    let values = points.view().row_iter().flat_map(|row| row.iter().copied().collect::<Vec<_>>());
    // As good as random: multiples of the golden ratio, mixed by bits.
    let noise = |i: usize| {
        let bits = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bits = (bits ^ bits >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (bits >> 11) as f64 * 2f64.powi(-53)
    };
    let grain: f64 = grain.parse()?;
    let rows: Vec<f64> = values.enumerate().map(|(i, value)| value + grain * noise(i)).collect();
    let name = Path::new(path).file_stem().unwrap_or_default().to_string_lossy();
    let sizes = [n_components.parse()?, points.view().ncols()];
    Ok(split(&name, model, sizes, &rows, 1024, epochs.parse()?))
}

fn synthetic() -> Result<Task, Box<dyn Error>> {
    let (dim, n_components) = (8, 16);
    let wave = |i: usize| 3.0 * ((i * i + 7 * i) as f64 * 0.61).sin();
    let components = (0..n_components)
        .map(|c| (0..dim).map(|d| wave(c * dim + d)).chain((0..dim).map(|_| 1.0)).collect())
        .collect();
    let parameters = Parameters { components, shared: Vec::new() };
    let weights = vec![1.0 / n_components as f64; n_components];
    let truth = Mixture::new(registry::build("gaussian-diag", dim)?, weights, parameters)?;
    let mut rows = Vec::new();
    inference::sample(&truth, 250_000, 1, &Executor::new(None)?, |points, _| {
        rows.extend_from_slice(points);
        Ok(())
    })?;
    Ok(split("synthetic", "gaussian-diag", [n_components, dim], &rows, 1024, 2))
}

/// Every fifth point is held out.
fn split(
    name: &str,
    model: &str,
    [n_components, dim]: [usize; 2],
    rows: &[f64],
    batch_size: usize,
    epochs: usize,
) -> Task {
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (i, row) in rows.chunks(dim).enumerate() {
        if i % 5 == 4 { &mut test } else { &mut train }.extend_from_slice(row);
    }
    let (name, model) = (name.to_owned(), model.to_owned());
    Task { name, model, n_components, dim, train, test, batch_size, epochs }
}

fn start(task: &Task, seed: u64) -> Result<Mixture, Box<dyn Error>> {
    let spec = MixtureSpec::new(registry::build(&task.model, task.dim)?, task.n_components);
    let config = Config::default().seed(seed);
    let points = Points::from_rows(&task.train, task.dim)?;
    Ok(start_mixture(&spec, &points, &Executor::new(None)?, &config, 0)?.0)
}

/// Iteration by iteration until it converges; each sees all points.
fn run_batch(task: &Task, seed: u64) -> Result<Path2, Box<dyn Error>> {
    let executor = Executor::new(None)?;
    let points = Points::from_rows(&task.train, task.dim)?;
    let test = Points::from_rows(&task.test, task.dim)?;
    let mut model = start(task, seed)?;
    let mut path = Vec::new();
    loop {
        let config = Config::default().max_iter(1);
        let fit = em::fit(&model, &points, &executor, &config, &mut Silent)?;
        model = fit.model;
        path.push((
            path.len() as f64 + 1.0,
            inference::score(&model, &test, &executor)?.log_likelihood,
        ));
        // As `fit` stops by default: the certified gain of an iteration is small.
        if fit.history.records[0].delta() < 1e-5 || path.len() >= 300 {
            return Ok(path);
        }
    }
}

/// Minibatches, audited on the points held out.
fn run_minibatches(
    task: &Task,
    algorithm: StreamAlgorithm,
    seed: u64,
) -> Result<Path2, Box<dyn Error>> {
    struct Audits(Path2, f64);
    impl Observer for Audits {
        fn on_iteration(&mut self, record: &IterRecord) -> ControlFlow<StopReason> {
            let audit = record.minibatch.map_or(f64::NAN, |it| it.audit);
            // Where a variance stands at its floor, the M-step is not the exact one.
            let floored = record.events.iter().any(|it| matches!(it, Event::Floored { .. }));
            assert!(record.gap().abs() < 1e-9 || floored, "{record:?}");
            self.0.push((record.points_seen as f64 / self.1, audit));
            ControlFlow::Continue(())
        }
    }
    let executor = Executor::new(None)?;
    let points = Points::from_rows(&task.train, task.dim)?;
    let test = Points::from_rows(&task.test, task.dim)?;
    let config = Config::default().seed(seed).tol(0.0);
    let settings = StreamConfig::default()
        .batch_size(task.batch_size)
        .algorithm(algorithm)
        .epochs(task.epochs)
        .average(0.5)
        .audit(1);
    let mut audits = Audits(Vec::new(), (task.train.len() / task.dim) as f64);
    Fitting::new(&points, &executor)
        .config(&config)
        .minibatches(&settings)
        .held_out(&test)
        .observer(&mut audits)
        .fit(&start(task, seed)?)?;
    Ok(audits.0)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}
