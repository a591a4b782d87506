//! `bench real`: sweeps over the points of files, beside sweeps over drawn points of the same shape.

use super::{Rates, Shape, check_statistics, least_seconds, sweep};
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
use std::path::Path;

/// Iterations of EM before the measurement: components have found narrow and far clusters by then.
const ITERATIONS: usize = 8;

const COLUMNS: &str =
    "file,model,n,k,dim,f64,f64_drawn,f64_ratio,f32,f32_drawn,f32_ratio,f64_per_f32";

/// Measures sweeps in both precisions over each file, under each model and number of components.
pub fn run(args: &BenchArgs, executor: &Executor) -> Result<()> {
    let rates =
        (Rates::measure::<f64>(executor.threads()), Rates::measure::<f32>(executor.threads()));
    output::print(&format!(
        "{} thread(s); seconds of a sweep, each the least of several runs; ratios are to drawn points of the same shape\n\
         {:<20} {:<20} {:>8} {:>4} {:>4} {:>10} {:>6} {:>10} {:>6} {:>12}\n",
        executor.threads(),
        "file",
        "model",
        "n",
        "k",
        "dim",
        "f64",
        "ratio",
        "f32",
        "ratio",
        "f64 / f32"
    ))?;
    let mut table = format!("{COLUMNS}\n");
    for path in &args.data {
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        for family in &args.model {
            for &k in &args.components {
                progress::check_interrupt()?;
                let model = fitted(path, family, k as usize, executor)?;
                let [wide, drawn_wide, n, dim] = seconds::<f64>(path, &model, &rates.0, executor)?;
                let [narrow, drawn_narrow, ..] = seconds::<f32>(path, &model, &rates.1, executor)?;
                let (wide_ratio, narrow_ratio) = (wide / drawn_wide, narrow / drawn_narrow);
                output::print(&format!(
                    "{name:<20} {family:<20} {n:>8} {k:>4} {dim:>4} {wide:>10.3e} {wide_ratio:>6.2} {narrow:>10.3e} {narrow_ratio:>6.2} {:>12.2}\n",
                    wide / narrow
                ))?;
                table += &format!(
                    "{name},{family},{n},{k},{dim},{wide:e},{drawn_wide:e},{wide_ratio:e},{narrow:e},{drawn_narrow:e},{narrow_ratio:e},{:e}\n",
                    wide / narrow
                );
            }
        }
    }
    match &args.output {
        Some(path) => {
            write_atomically(path, |file| Ok(std::io::Write::write_all(file, table.as_bytes())?))
        }
        None => Ok(()),
    }
}

/// Returns the model after some iterations in `f64`.
fn fitted(path: &Path, family: &str, k: usize, executor: &Executor) -> Result<Mixture> {
    let source = data::open::<f64>(path, &OpenOptions::default())?;
    let points = data::load(&*source)?;
    let family = registry::build(family, points.view().ncols())?;
    let spec = MixtureSpec::new(family, k).with_init(Init::RandomFromData);
    let config = Config::default().max_iter(ITERATIONS).tol(0.0);
    Ok(em::fit(&spec, &points, executor, &config, &mut Silent)?.model)
}

/// Returns the seconds of a sweep over the points and over drawn ones, N and D.
fn seconds<T: Scalar>(
    path: &Path,
    model: &Mixture,
    rates: &Rates,
    executor: &Executor,
) -> Result<[f64; 4]> {
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
    let drawn = sweep::<T>(&shape, rates, executor)?[0];
    Ok([real, drawn, shape.n_points as f64, shape.dim as f64])
}
