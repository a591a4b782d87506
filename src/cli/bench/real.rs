//! `bench real`: sweeps over the points of files, beside sweeps over drawn points of the same shape.

use super::{Shape, check_statistics, least_seconds, workload};
use crate::cli::args::BenchArgs;
use crate::cli::{output, progress};
use crate::data::{self, OpenOptions};
use crate::em::{self, Config, Init, MixtureSpec};
use crate::error::Result;
use crate::exec::Executor;
use crate::expert::{Sweeper, write_atomically};
use crate::family::registry;
use crate::model::Mixture;
use crate::monitor::Silent;
use crate::scalar::Scalar;
use std::io::Write;
use std::path::Path;

/// Iterations of EM before the measurement: components have found narrow and far clusters by then.
const ITERATIONS: usize = 8;

const TABLE: &str = "file,model,n,k,dim,f64,f64_drawn,f32,f32_drawn";

/// Seconds of a sweep over the points, and over drawn points of the same shape.
struct Seconds {
    real: f64,
    drawn: f64,
}

/// Measures sweeps in both precisions over each file, under each model and number of components.
pub fn run(args: &BenchArgs, executor: &Executor) -> Result<()> {
    output::print(&format!(
        "{} thread(s); seconds of a sweep, each the least of several runs; ratios are to drawn points of the same shape\n\
         file                 model                       n    k  dim        f64  ratio        f32  ratio  f64 / f32\n",
        executor.threads(),
    ))?;
    let mut table = format!("{TABLE}\n");
    for path in &args.data {
        let file = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        for family in &args.model {
            for &k in &args.components {
                progress::check_interrupt()?;
                let (model, n) = fitted(path, family, k as usize, executor)?;
                let dim = model.family().dim();
                let wide = seconds::<f64>(path, &model, executor)?;
                let narrow = seconds::<f32>(path, &model, executor)?;
                output::print(&format!(
                    "{file:<20} {family:<20} {n:>8} {k:>4} {dim:>4} {:>10.3e} {:>6.2} {:>10.3e} {:>6.2} {:>10.2}\n",
                    wide.real,
                    wide.real / wide.drawn,
                    narrow.real,
                    narrow.real / narrow.drawn,
                    wide.real / narrow.real,
                ))?;
                let times = [wide.real, wide.drawn, narrow.real, narrow.drawn];
                let times = times.map(|seconds| format!("{seconds:e}")).join(",");
                table += &format!("{file},{family},{n},{k},{dim},{times}\n");
            }
        }
    }
    match &args.output {
        Some(path) => write_atomically(path, |file| file.write_all(table.as_bytes())),
        None => Ok(()),
    }
}

/// Returns the model after some iterations in `f64`, and the number of points.
fn fitted(path: &Path, family: &str, k: usize, executor: &Executor) -> Result<(Mixture, usize)> {
    let source = data::open::<f64>(path, &OpenOptions::default())?;
    let points = data::load(&*source)?;
    let family = registry::build(family, points.view().ncols())?;
    let spec = MixtureSpec::new(family, k).with_init(Init::RandomFromData);
    let config = Config::default().max_iter(ITERATIONS).tol(0.0);
    let fit = em::fit(&spec, &points, executor, &config, &mut Silent)?;
    Ok((fit.model, points.view().nrows()))
}

fn seconds<T: Scalar>(path: &Path, model: &Mixture, executor: &Executor) -> Result<Seconds> {
    let source = data::open::<T>(path, &OpenOptions::default())?;
    let points = data::load(&*source)?;
    let mut sweeper = Sweeper::<T, _>::new(&points, executor);
    check_statistics(&sweeper.sweep(model)?, model, &points, executor)?;
    let real = least_seconds(|| sweeper.sweep(model))?;
    let shape = Shape {
        model: model.family().name(),
        n_points: points.view().nrows(),
        n_components: model.n_components(),
        dim: points.view().ncols(),
    };
    let (points, start) = workload::<T>(&shape, executor)?;
    let mut sweeper = Sweeper::<T, _>::new(&points, executor);
    Ok(Seconds { real, drawn: least_seconds(|| sweeper.sweep(&start))? })
}
