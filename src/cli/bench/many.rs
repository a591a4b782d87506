//! `bench many`: what a point and iteration cost with truncated posteriors, beside exact sweeps.

use crate::cli::args::{BenchArgs, Precision};
use crate::cli::{output, progress};
use crate::data::{self, OpenOptions, Points};
use crate::em::{self, Config, MixtureSpec};
use crate::error::Result;
use crate::exec::Executor;
use crate::expert::{Sweeper, write_atomically};
use crate::family::registry;
use crate::model::{Posterior, TruncatedSearch};
use crate::monitor::{IterRecord, StopReason};
use crate::scalar::Scalar;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

/// Iterations of a fit. The first go through cells, and are not timed.
const ITERATIONS: usize = 12;
const UNTIMED: usize = 4;

/// Points of an exact sweep, from which the time of all follows.
const EXACT_POINTS: usize = 20_000;

const TABLE: &str = "file,model,n,k,dim,states,neighbours,start_seconds,ns_per_point,exact_ns_per_point,lower_bound,loss,loss_error,log_likelihood";

/// Measures fits of each model and number of components to each file.
pub fn run(args: &BenchArgs, executor: &Executor) -> Result<()> {
    output::print(&format!(
        "{} thread(s), {}; nanoseconds of all threads for a point and iteration, the median of {} iterations; exact: a sweep over {EXACT_POINTS} points\n\
         file             model                       n       k  dim states near  start s   ns/point  exact ns   ratio       bound  loss\n",
        executor.threads(),
        args.compute.precision.name(),
        ITERATIONS - UNTIMED,
    ))?;
    let mut table = format!("{TABLE}\n");
    for path in &args.data {
        for family in &args.model {
            for &k in &args.components {
                progress::check_interrupt()?;
                let line = match args.compute.precision {
                    Precision::F32 => measure::<f32>(args, path, family, k as usize, executor)?,
                    Precision::F64 => measure::<f64>(args, path, family, k as usize, executor)?,
                };
                table += &line;
            }
        }
    }
    match &args.output {
        Some(path) => write_atomically(path, |file| file.write_all(table.as_bytes())),
        None => Ok(()),
    }
}

fn measure<T: Scalar>(
    args: &BenchArgs,
    path: &Path,
    family: &str,
    k: usize,
    executor: &Executor,
) -> Result<String> {
    let file = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let source = data::open::<T>(path, &OpenOptions::default())?;
    let points = data::load(&*source)?;
    let (n, dim) = (points.view().nrows(), points.view().ncols());
    let search = TruncatedSearch::default()
        .states(args.states as usize)
        .neighbours(args.neighbours as usize);
    let spec = MixtureSpec::new(registry::build(family, dim)?, k)
        .with_posterior(Posterior::Truncated(search));
    let mut times = Vec::new();
    let begin = Instant::now();
    let mut observe = |_: &IterRecord| {
        times.push(begin.elapsed().as_secs_f64());
        ControlFlow::<StopReason>::Continue(())
    };
    let config = Config::default().max_iter(ITERATIONS).tol(0.0);
    let fit = em::fit(&spec, &points, executor, &config, &mut observe)?;
    let mut iterations: Vec<f64> =
        times.windows(2).skip(UNTIMED).map(|pair| pair[1] - pair[0]).collect();
    iterations.sort_by(f64::total_cmp);
    let median = iterations.get(iterations.len() / 2).copied().unwrap_or(f64::NAN);
    let start = times.first().copied().unwrap_or(f64::NAN) - median;
    let in_ns = |seconds: f64, n: usize| seconds * executor.threads() as f64 / n as f64 * 1e9;
    let bound = fit.last().map_or(f64::NAN, |record| record.lower_bound);
    let loss = fit.truncation_loss.unwrap_or_default();
    // The bound must be below the likelihood, up to the error of rounding, before any time counts.
    assert!(loss.loss > -1e-3, "{family}: the bound is above the log-likelihood");
    let exact = fit.model.clone().with_posterior(Posterior::Exact);
    let some = EXACT_POINTS.min(n);
    let rows: Vec<T> =
        (0..some).flat_map(|i| points.view().row(i).iter().copied().collect::<Vec<_>>()).collect();
    let some_points = Points::from_rows(&rows, dim)?;
    let mut sweeper = Sweeper::<T, _>::new(&some_points, executor);
    sweeper.sweep(&exact)?;
    let began = Instant::now();
    sweeper.sweep(&exact)?;
    let exact = in_ns(began.elapsed().as_secs_f64(), some);
    let per_point = in_ns(median, n);
    let (states, near) = (search.states, search.neighbours);
    output::print(&format!(
        "{file:<16} {family:<20} {n:>8} {k:>7} {dim:>4} {states:>6} {near:>4} {start:>8.2} {per_point:>10.0} {exact:>9.0} {:>7.1} {bound:>11.4}  {:.4} ± {:.4}\n",
        exact / per_point,
        loss.loss,
        loss.standard_error,
    ))?;
    Ok(format!(
        "{file},{family},{n},{k},{dim},{states},{near},{start:e},{per_point:e},{exact:e},{bound},{:e},{:e},{}\n",
        loss.loss, loss.standard_error, loss.log_likelihood
    ))
}
