//! `bench`: measures the cost of sweeps and of monitors on the user's own machine.
//!
//! Every time is the least of several runs, since other work on the machine can only add to it. Results are checked
//! before any of them is timed.

mod many;
mod real;

use crate::block::{Block, BlockBuf};
use crate::cli::args::{BenchArgs, BenchCommand, Precision};
use crate::cli::guard::{Target, check_files};
use crate::cli::output;
use crate::cli::progress;
use crate::data::{DataSource, Points};
use crate::em::{Config, Init, MixtureSpec, Online, StepSize};
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::expert::{Sweeper, start_mixture, write_atomically};
use crate::family::{Regularization, Support, registry};
use crate::inference;
use crate::model::{GenerativeModel, Mixture};
use crate::monitor::plot;
use crate::scalar::Scalar;
use crate::stats::SuffStats;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Seconds for which a measurement is repeated, after its first run.
const REPEAT_FOR: f64 = 0.4;

/// Order of the matrix products whose rate is measured. Their operands are several times as large as a cache.
const GEMM_ORDER: usize = 1536;

/// Values per thread whose reading measures the memory bandwidth. They are far larger than the cache of a core.
const BANDWIDTH_VALUES: usize = 32 << 20;

/// Runs `bench monitor`, `bench sweep`, `bench real` or `bench many`.
pub fn run(args: &BenchArgs) -> Result<ExitCode> {
    let targets =
        [args.output.as_deref().map(Target::history), args.plot.as_deref().map(Target::plot)];
    let inputs: Vec<&Path> = args.data.iter().map(PathBuf::as_path).collect();
    check_files(&inputs, &targets.into_iter().flatten().collect::<Vec<_>>())?;
    if args.batch_size.is_some() && matches!(args.command, BenchCommand::Sweep) {
        let message =
            "--batch-size is an option of 'bench monitor'; 'bench sweep' goes through all points";
        return Err(Error::Config(message.to_owned()));
    }
    let of_files = match args.command {
        BenchCommand::Real => Some(real::run as fn(&BenchArgs, &Executor) -> Result<()>),
        BenchCommand::Many => Some(many::run as fn(&BenchArgs, &Executor) -> Result<()>),
        _ => None,
    };
    if let Some(run) = of_files {
        if args.data.is_empty() {
            return Err(Error::Config("give the files of points by --data".to_owned()));
        }
        let threads = args.compute.threads.threads.map(|threads| threads as usize);
        run(args, &Executor::new(threads)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    match args.compute.precision {
        Precision::F32 => measure::<f32>(args)?,
        Precision::F64 => measure::<f64>(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Shape of a measurement.
#[derive(Clone, Debug)]
struct Shape {
    model: String,
    n_points: usize,
    n_components: usize,
    dim: usize,
}

impl Shape {
    fn sizes(&self) -> [usize; 3] {
        [self.n_points, self.n_components, self.dim]
    }
}

/// A row of the table: a shape and its measured values, by column.
struct Row {
    shape: Shape,
    values: Vec<f64>,
}

fn measure<T: Scalar>(args: &BenchArgs) -> Result<()> {
    let executor = Executor::new(args.compute.threads.threads.map(|threads| threads as usize))?;
    let rates = match args.command {
        BenchCommand::Sweep => Some(Rates::measure::<T>(executor.threads())),
        _ => None,
    };
    let columns = columns(args);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} thread(s), {}, times in seconds, each the least of several runs",
        executor.threads(),
        T::NAME
    );
    if let Some(rates) = &rates {
        let (gemm, bandwidth) = (rates.gemm / 1e9, rates.bandwidth / 1e9);
        let _ = writeln!(
            text,
            "large matrix products {gemm:.1} GFLOP/s, memory reads {bandwidth:.1} GB/s"
        );
    }
    let _ = write!(text, "{:<24} {:>9} {:>5} {:>5}", "model", "n", "k", "dim");
    columns.iter().for_each(|column| {
        let _ = write!(text, " {column:>16}");
    });
    output::print(&format!("{text}\n"))?;
    let mut rows: Vec<Row> = Vec::new();
    for model in &args.model {
        for &dim in &args.dim {
            for &k in &args.components {
                for &n in &args.n {
                    let shape = Shape {
                        model: model.clone(),
                        n_points: n as usize,
                        n_components: k as usize,
                        dim: dim as usize,
                    };
                    progress::check_interrupt()?;
                    let name = format!("{:<24} {n:>9} {k:>5} {dim:>5}", shape.model);
                    if k > n {
                        output::print(&format!(
                            "{name}  skipped: the points are fewer than the components\n"
                        ))?;
                        continue;
                    }
                    // Minibatches read the same points again and again.
                    let drawn = if args.batch_size.is_some() { 2 * n.min(POOL) } else { n };
                    // The points, drawn in f64 first, and several full covariances for each component.
                    let bytes = drawn
                        .saturating_mul(dim)
                        .saturating_mul(size_of::<T>() as u64 + 8)
                        .saturating_add(
                            k.saturating_mul(dim).saturating_mul(dim).saturating_mul(64),
                        );
                    if output::available_memory().is_some_and(|available| bytes > available / 2) {
                        output::print(&format!(
                            "{name}  skipped: points and parameters need more than half of the free memory\n"
                        ))?;
                        continue;
                    }
                    let values = match (&rates, args.batch_size) {
                        (Some(rates), _) => sweep::<T>(&shape, rates, &executor)?,
                        (None, None) => monitor::<T>(&shape, &executor)?,
                        (None, Some(batch)) => minibatch::<T>(&shape, batch, &executor)?,
                    };
                    let cells: String =
                        values.iter().map(|value| format!(" {value:>16.4e}")).collect();
                    output::print(&format!("{name}{cells}\n"))?;
                    rows.push(Row { shape, values });
                }
            }
        }
    }
    if let Some(path) = &args.output {
        write_atomically(path, |file| {
            use std::io::Write;
            writeln!(file, "model,n,k,dim,precision,threads,{}", columns.join(","))?;
            for Row { shape, values } in &rows {
                let Shape { model, n_points, n_components, dim } = shape;
                write!(
                    file,
                    "{model},{n_points},{n_components},{dim},{},{}",
                    T::NAME,
                    executor.threads()
                )?;
                values.iter().try_for_each(|value| write!(file, ",{value:e}"))?;
                writeln!(file)?;
            }
            Ok(())
        })?;
    }
    match &args.plot {
        Some(path) => draw(path, args, &rows),
        None => Ok(()),
    }
}

fn columns(args: &BenchArgs) -> &'static [&'static str] {
    match args.command {
        BenchCommand::Sweep => &[
            "sweep",
            "points_per_s",
            "gflop_per_s",
            "part_of_gemm",
            "gbyte_per_s",
            "part_of_memory",
        ],
        _ if args.batch_size.is_some() => &[
            "minibatch",
            "entropy_sum",
            "elbo_pass",
            "sum_per_batch",
            "pass_per_batch",
            "pass_per_sum",
        ],
        _ => &[
            "sweep",
            "log_likelihood",
            "elbo_pass",
            "entropy_sum",
            "pass_per_sum",
            "sum_per_sweep",
        ],
    }
}

/// Draws a curve for each model and for each pair of the two sizes that are not on the axis.
fn draw(path: &std::path::Path, args: &BenchArgs, rows: &[Row]) -> Result<()> {
    let (title, label, value) = match args.command {
        BenchCommand::Sweep => ("Points per second of a sweep", "points per second", 1),
        _ => {
            let value = if args.batch_size.is_some() { 5 } else { 4 };
            ("Time of an ELBO pass, relative to an entropy sum", "ELBO pass / entropy sum", value)
        }
    };
    // The axis is the size with the longest list of values.
    let sizes = ["number of points", "number of components", "number of dimensions"];
    let counts: Vec<usize> = (0..sizes.len())
        .map(|size| rows.iter().map(|row| row.shape.sizes()[size]).collect::<HashSet<_>>().len())
        .collect();
    let axis = (0..sizes.len()).rev().max_by_key(|&size| counts[size]).unwrap_or(0);
    let mut curves: Vec<plot::Curve> = Vec::new();
    for row in rows {
        let mut name = row.shape.model.clone();
        for (size, letter) in ["N", "K", "D"].into_iter().enumerate() {
            if size != axis {
                let _ = write!(name, " {letter}={}", row.shape.sizes()[size]);
            }
        }
        let point = ((row.shape.sizes()[axis] as f64).log10(), row.values[value]);
        match curves.iter_mut().find(|(label, _)| *label == name) {
            Some((_, points)) => points.push(point),
            None => curves.push((name, vec![point])),
        }
    }
    let below = format!("log10 of the {}", sizes[axis]);
    plot::write_curves(path, title, [&below, label], &curves)
}

/// Draws points from a mixture of spherical clusters, and initialises the model to be measured.
fn workload<T: Scalar>(
    shape: &Shape,
    executor: &Executor,
) -> Result<(Points<'static, T>, Mixture)> {
    let Shape { model, n_points, n_components, dim } = shape;
    let (k, dim) = (*n_components, *dim);
    // Means about four standard deviations apart, from a fixed low-discrepancy sequence.
    let spread = 4.0 / (2.0 * dim as f64).sqrt();
    let means: Vec<f64> = (0..k * dim)
        .map(|i| spread * (3.4 * ((i as f64 * 0.618_033_988_749_895).fract() - 0.5)))
        .collect();
    let (weights, variances) = (vec![1.0 / k as f64; k], vec![1.0; k]);
    let generator =
        Mixture::from_arrays(registry::build("gaussian-spherical", dim)?, weights, |name| {
            Some(if name == "means" { &means } else { &variances })
        })?;
    let family = registry::build(model, dim)?;
    let support = family.domains().first().map_or(Support::Real, |domain| domain.support);
    let mut values: Vec<T> = Vec::with_capacity(n_points * dim);
    inference::sample(&generator, *n_points as u64, 1, executor, |points, _| {
        values.extend(points.iter().map(|&value| T::from_f64(into_support(support, value))));
        Ok(())
    })?;
    let points = Points::owned(values, dim)?;
    // At a random start some components have few points. A ridge of half the variance keeps them regular.
    let regularization = Regularization { reg_covar: Some(0.5), ..Default::default() };
    let config = Config::default().regularization(regularization);
    let spec = MixtureSpec::new(family, k).with_init(Init::RandomFromData);
    let (start, _) = start_mixture(&spec, &points, executor, &config, 0)?;
    Ok((points, start))
}

/// Maps a real number into a support. Supports of several columns are not handled.
fn into_support(support: Support, value: f64) -> f64 {
    match support {
        Support::Positive | Support::NonNegative => (0.5 * value).exp(),
        Support::UnitInterval => 1.0 / (1.0 + (-value).exp()),
        Support::Count => (0.5 * value + 1.0).exp().floor(),
        Support::Binary => f64::from(value > 0.0),
        _ => value,
    }
}

/// Returns the least time of `work`, after a first run that fills caches.
fn least_seconds<R>(mut work: impl FnMut() -> Result<R>) -> Result<f64> {
    work()?;
    let (begun, mut least) = (Instant::now(), f64::INFINITY);
    while least.is_infinite() || begun.elapsed().as_secs_f64() < REPEAT_FOR {
        let start = Instant::now();
        black_box(work()?);
        least = least.min(start.elapsed().as_secs_f64());
    }
    Ok(least)
}

fn sweep<T: Scalar>(shape: &Shape, rates: &Rates, executor: &Executor) -> Result<Vec<f64>> {
    let (points, model) = workload::<T>(shape, executor)?;
    let mut sweeper = Sweeper::<T, _>::new(&points, executor);
    check_statistics(&sweeper.sweep(&model)?, &model, &points, executor)?;
    let seconds = least_seconds(|| sweeper.sweep(&model))?;
    let n = shape.n_points as f64;
    let flops = 4.0 * n * (shape.n_components * model.family().statistics().len()) as f64 / seconds;
    let bytes = n * (shape.dim * size_of::<T>()) as f64 / seconds;
    Ok(vec![
        seconds,
        n / seconds,
        flops / 1e9,
        flops / rates.gemm,
        bytes / 1e9,
        bytes / rates.bandwidth,
    ])
}

/// Checks that a sweep has seen all points, and that its log-evidence agrees with the score of `inference`.
fn check_statistics<T: Scalar>(
    stats: &SuffStats,
    model: &Mixture,
    points: &Points<'_, T>,
    executor: &Executor,
) -> Result<()> {
    let score = inference::score(model, points, executor)?;
    let mass: f64 = stats.mass().iter().sum();
    let difference = (stats.log_evidence() / stats.total_weight() - score.log_likelihood).abs();
    let tolerance = 1e3 * T::EPSILON;
    if (mass - stats.n_points()).abs() > tolerance * mass
        || difference > tolerance * score.log_likelihood.abs()
    {
        return Err(Error::Model(format!(
            "the log-likelihoods of a sweep and of a score differ by {difference:e} nats per point"
        )));
    }
    Ok(())
}

/// Measures three monitors: (a) the log-likelihood that a sweep yields, (b) a separate pass over the data at the new
/// parameters, (c) the entropy sum of the new parameters from the statistics.
fn monitor<T: Scalar>(shape: &Shape, executor: &Executor) -> Result<Vec<f64>> {
    let (points, mut model) = workload::<T>(shape, executor)?;
    let mut sweeper = Sweeper::<T, _>::new(&points, executor);
    let stats = sweeper.sweep(&model)?;
    check_statistics(&stats, &model, &points, executor)?;
    let sweep = least_seconds(|| sweeper.sweep(&model))?;
    let floors = model.m_step(&stats, &Config::default().regularization);
    let (sum, bound) = (model.entropy_sum(&stats).total(), model.lower_bound(&stats));
    let pass = inference::score(&model, &points, executor)?.log_likelihood;
    let rounding = 1e3 * T::EPSILON * bound.abs();
    // If a floor is active, the M-step is not exact, and entropy sum and bound differ by the gap.
    let unequal = floors.is_empty() && (sum - bound).abs() > 1e-9 * bound.abs();
    if unequal || pass < bound - rounding {
        return Err(Error::Model(format!(
            "entropy sum {sum}, bound {bound} and log-likelihood {pass} do not agree"
        )));
    }
    let likelihood =
        least_seconds(|| Ok(black_box(&stats).log_evidence() / black_box(&stats).total_weight()))?;
    let elbo = least_seconds(|| inference::score(&model, &points, executor))?;
    let entropies = least_seconds(|| Ok(model.entropy_sum(black_box(&stats)).total()))?;
    Ok(vec![sweep, likelihood, elbo, entropies, elbo / entropies, entropies / sweep])
}

/// Number of different points in a source of minibatches.
const POOL: u64 = 1 << 18;

/// A source of N points that repeats the first [`POOL`] points. Memory holds them twice, so that each read is a slice.
struct Repeated<T: Scalar> {
    points: Points<'static, T>,
    period: u64,
    len: u64,
}

impl<T: Scalar> DataSource<T> for Repeated<T> {
    fn name(&self) -> String {
        self.points.name()
    }

    fn dim(&self) -> usize {
        self.points.dim()
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        let block = self.points.read(start % self.period, count, buffer)?;
        Ok(Block { first: start, ..block })
    }
}

/// Measures a step of stepwise EM with its entropy sum, the entropy sum alone, and a pass over all points.
fn minibatch<T: Scalar>(shape: &Shape, batch: u64, executor: &Executor) -> Result<Vec<f64>> {
    let period = POOL.min(shape.n_points as u64);
    let (pool, model) =
        workload::<T>(&Shape { n_points: period as usize, ..shape.clone() }, executor)?;
    let mut buffer = BlockBuf::default();
    let rows = pool.read(0, pool.view().nrows(), &mut buffer)?;
    let mut values: Vec<T> = Vec::with_capacity(2 * period as usize * shape.dim);
    for _ in 0..2 {
        rows.for_each(|_, _, value| values.push(value));
    }
    let (points, len) = (Points::owned(values, shape.dim)?, shape.n_points as u64);
    let source = Repeated { points, period, len };

    let mut buffer = BlockBuf::default();
    let block = source.read(0, batch.min(period) as usize, &mut buffer)?;
    let regularization = Config::default().regularization;
    let mut online = Online::<T, _>::new(model, StepSize::default(), regularization)?;
    let step = least_seconds(|| online.partial_fit(block, executor))?;
    let learner = online.learner();
    let unknown = || Error::Model("the learner has no statistics".to_owned());
    let (sum, bound) = (
        learner.entropy_sum().ok_or_else(unknown)?.total(),
        learner.lower_bound().ok_or_else(unknown)?,
    );
    if (sum - bound).abs() > 1e3 * T::EPSILON * bound.abs() {
        return Err(Error::Model(format!("entropy sum {sum} and bound {bound} do not agree")));
    }
    let entropies = least_seconds(|| Ok(black_box(learner).entropy_sum()))?;
    let pass = least_seconds(|| inference::score(learner.model(), &source, executor))?;
    Ok(vec![step, entropies, pass, entropies / step, pass / step, pass / entropies])
}

/// Rates of the machine, on the threads of the measurement.
struct Rates {
    /// FLOP/s of large matrix products, a product on each thread.
    gemm: f64,
    /// Bytes/s of reads from memory.
    bandwidth: f64,
}

impl Rates {
    fn measure<T: Scalar>(threads: usize) -> Self {
        let order = GEMM_ORDER;
        let fastest = |work: &(dyn Fn() + Sync)| {
            let run = || {
                let start = Instant::now();
                std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
                start.elapsed().as_secs_f64()
            };
            (0..5).map(|_| run()).fold(f64::INFINITY, f64::min)
        };
        let a = Mat::<T>::from_fn(order, order, |i, j| T::from_f64(((i + 3 * j) % 7) as f64));
        let product = fastest(&|| {
            let mut c = Mat::<T>::zeros(order, order);
            for _ in 0..2 {
                matmul(c.as_mut(), Accum::Add, a.as_ref(), a.as_ref(), T::ONE, Par::Seq);
            }
            black_box(&c);
        });
        let values = vec![1u64; BANDWIDTH_VALUES];
        let reads = fastest(&|| {
            black_box(values.iter().fold(0u64, |sum, value| sum.wrapping_add(*value)));
        });
        Self {
            gemm: (4 * threads) as f64 * (order as f64).powi(3) / product,
            bandwidth: (8 * BANDWIDTH_VALUES * threads) as f64 / reads,
        }
    }
}
