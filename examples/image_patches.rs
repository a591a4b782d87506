//! Mixtures of factor analysers and Gaussian mixtures on patches of a photograph: what a parameter and a second buy.
//!
//! `cargo run --release --example image_patches [FOLDER]`
//!
//! Patches of 8 × 8 pixels are points in 64 dimensions. A full covariance takes 2080 numbers, a factor analyser of 8
//! latents 548, so that for the same number of parameters there are three times as many components. Both are learned
//! from the same patches and judged on others, from parts of the photograph that share no pixel with the first.
//! Writes `image_patches.csv` and, with the feature `cli`, two plots beside it.

use entropysum::em::FactorAnalyzersSpec;
use entropysum::expert::model::{Density, GenerativeModel};
use entropysum::family::registry;
use entropysum::model::MixtureOfFactorAnalyzers;
use entropysum::{
    Config, Executor, Fit, MixtureSpec, NoiseStructure, Points, Silent, em, inference,
};
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const WIDTH: usize = 640;
const HEIGHT: usize = 427;
const SIDE: usize = 8;
const DIM: usize = SIDE * SIDE;
/// Patches lie inside squares of this side; every fifth square is held out.
const SQUARE: usize = 61;
/// Pixels between patches of a square.
const STEP: usize = 3;
/// Iterations after which the held-out patches are scored.
const CHECKPOINTS: [usize; 5] = [2, 5, 10, 20, 50];

/// Held-out log-likelihood along a fit.
struct Run {
    model: &'static str,
    latents: usize,
    components: usize,
    parameters: usize,
    /// Iterations, seconds, and nats per patch in training and held out.
    course: Vec<(usize, f64, f64, f64)>,
}

impl Run {
    fn best(&self) -> f64 {
        self.course.iter().map(|at| at.3).fold(f64::NEG_INFINITY, f64::max)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::create_dir_all(root.join("target"))?;
    let folder = std::env::args_os().nth(1).map_or(root.join("target"), PathBuf::from);
    let [training, held_out] = patches(&root.join("data/china.npy"))?;
    let executor = Executor::new(None)?;
    println!(
        "{} patches to learn from, {} held out",
        training.view().nrows(),
        held_out.view().nrows()
    );

    let mut runs = Vec::new();
    for components in [1, 2, 4, 8] {
        runs.push(gaussians(components, &training, &held_out, &executor)?);
    }
    for latents in [4, 8, 16] {
        for gaussians in [1, 2, 4, 8] {
            // As many components as make about as many parameters.
            let factors = DIM * (latents + 2) - latents * (latents - 1) / 2 + 1;
            let full = gaussians * (DIM + DIM * (DIM + 1) / 2 + 1);
            let components = (full as f64 / factors as f64).round() as usize;
            runs.push(factor_analysers(latents, components, &training, &held_out, &executor)?);
        }
    }

    let mut csv =
        String::from("model,latents,components,parameters,iterations,seconds,training,held_out\n");
    for run in &runs {
        for (iterations, seconds, training, held_out) in &run.course {
            let Run { model, latents, components, parameters, .. } = run;
            writeln!(
                csv,
                "{model},{latents},{components},{parameters},{iterations},{seconds:.3},{training:.5},{held_out:.5}"
            )?;
        }
    }
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("image_patches.csv"), csv)?;
    #[cfg(feature = "cli")]
    plot(&folder, &runs)?;
    println!("{}", folder.join("image_patches.csv").display());

    // For every number of parameters, factor analysers of some size tell more of patches that they have not seen.
    for full in runs.iter().filter(|run| run.latents == 0) {
        let rivals = runs.iter().filter(|run| {
            run.latents > 0 && (run.parameters as f64 / full.parameters as f64 - 1.0).abs() < 0.3
        });
        let best = rivals.map(Run::best).fold(f64::NEG_INFINITY, f64::max);
        println!(
            "about {:>5} parameters: {:9.4} nats per patch with full covariances, {best:9.4} with factors",
            full.parameters,
            full.best()
        );
        assert!(best > full.best());
    }
    Ok(())
}

/// Grey patches with their means, in steps of one grey level; the noise of rounding is put back, or flat parts of the
/// sky would have any density.
fn patches(photograph: &Path) -> Result<[Points<'static, f32>; 2], Box<dyn Error>> {
    let file = entropysum::data::NpyFile::open(photograph)?;
    let pixels: Points<'_, f32> = entropysum::data::load(&file)?;
    let mut state = 1_u64;
    let grey: Vec<f32> = pixels
        .view()
        .row_iter()
        .map(|pixel| {
            // Xorshift, which is good enough for half a grey level.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let rounding = (state >> 40) as f32 / (1 << 24) as f32 - 0.5;
            0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2] + rounding
        })
        .collect();
    let mut values = [Vec::new(), Vec::new()];
    let squares = (0..HEIGHT / SQUARE).flat_map(|i| (0..WIDTH / SQUARE).map(move |j| (i, j)));
    for (k, (i, j)) in squares.enumerate() {
        let set = &mut values[usize::from(k % 5 == 2)];
        for top in (0..=SQUARE - SIDE).step_by(STEP) {
            for left in (0..=SQUARE - SIDE).step_by(STEP) {
                for row in 0..SIDE {
                    let start = (i * SQUARE + top + row) * WIDTH + j * SQUARE + left;
                    set.extend_from_slice(&grey[start..start + SIDE]);
                }
            }
        }
    }
    let [training, held_out] = values.map(|values| Points::owned(values, DIM));
    Ok([training?, held_out?])
}

fn config(iterations: usize) -> Config {
    Config::default().max_iter(iterations).tol(0.0)
}

/// Iterations, seconds, lower bound and held-out log-likelihood, at each checkpoint.
type Course = Vec<(usize, f64, f64, f64)>;

/// Fits from one checkpoint to the next; only the time of the fits counts.
fn course<M: Density<f32>>(
    held_out: &Points<'_, f32>,
    executor: &Executor,
    fit: impl Fn(Option<M>, &Config) -> entropysum::Result<Fit<M>>,
) -> Result<(M, Course), Box<dyn Error>> {
    let (mut model, mut seconds, mut done) = (None, 0.0, 0);
    let mut course = Vec::new();
    for until in CHECKPOINTS {
        let begun = std::time::Instant::now();
        let part = fit(model.take(), &config(until - done))?;
        seconds += begun.elapsed().as_secs_f64();
        done = until;
        let score = inference::score(&part.model, held_out, executor)?;
        let training = part.last().ok_or("no iteration")?.lower_bound;
        course.push((until, seconds, training, score.log_likelihood));
        model = Some(part.model);
    }
    Ok((model.ok_or("no checkpoint")?, course))
}

fn gaussians(
    components: usize,
    training: &Points<'_, f32>,
    held_out: &Points<'_, f32>,
    executor: &Executor,
) -> Result<Run, Box<dyn Error>> {
    let (model, course) = course(held_out, executor, |model, config| {
        let spec = match model {
            Some(model) => MixtureSpec::from_model(model),
            None => MixtureSpec::new(registry::build("gaussian-full", DIM)?, components),
        };
        em::fit(&spec, training, executor, config, &mut Silent)
    })?;
    let (parameters, components) = (model.n_parameters(), model.n_components());
    Ok(told(Run { model: "gaussian-full", latents: 0, components, parameters, course }))
}

fn factor_analysers(
    latents: usize,
    components: usize,
    training: &Points<'_, f32>,
    held_out: &Points<'_, f32>,
    executor: &Executor,
) -> Result<Run, Box<dyn Error>> {
    let (model, course) =
        course(held_out, executor, |model: Option<MixtureOfFactorAnalyzers>, config| {
            let spec = match model {
                Some(model) => FactorAnalyzersSpec::from_model(model),
                None => FactorAnalyzersSpec::new(NoiseStructure::Diagonal, components, latents),
            };
            em::fit(&spec, training, executor, config, &mut Silent)
        })?;
    let (parameters, components) = (model.n_parameters(), model.n_components());
    Ok(told(Run { model: "mfa", latents, components, parameters, course }))
}

fn told(run: Run) -> Run {
    let (iterations, seconds, training, held_out) = run.course[run.course.len() - 1];
    println!(
        "{:>13} {:>2} latents {:>3} components {:>6} parameters: {training:9.4} in training, {held_out:9.4} held out after {iterations} iterations, {seconds:.2} s",
        run.model, run.latents, run.components, run.parameters
    );
    run
}

/// How far each stands below the best: the axes of a plot of curves are logarithmic.
#[cfg(feature = "cli")]
fn plot(folder: &Path, runs: &[Run]) -> entropysum::Result<()> {
    use entropysum::monitor::plot::{Curve, write_curves};
    let top = runs.iter().map(Run::best).fold(f64::NEG_INFINITY, f64::max);
    let below = |value: f64| (top - value).max(0.1);
    let name = |latents: usize| match latents {
        0 => "full covariances".to_owned(),
        latents => format!("factor analysers, H = {latents}"),
    };
    let mut by_size: Vec<Curve> = Vec::new();
    let mut by_time: Vec<Curve> = Vec::new();
    for latents in [0, 4, 8, 16] {
        let own: Vec<&Run> = runs.iter().filter(|run| run.latents == latents).collect();
        let points = own.iter().map(|run| (run.parameters as f64, below(run.best())));
        by_size.push((name(latents), points.collect()));
        // What the best model of any size that could be had by then achieves.
        let mut all: Vec<(f64, f64)> =
            own.iter().flat_map(|run| run.course.iter().map(|at| (at.1, at.3))).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut best = f64::NEG_INFINITY;
        let envelope = all.into_iter().filter_map(|(seconds, held_out)| {
            let better = held_out > best;
            best = best.max(held_out);
            better.then_some((seconds, below(held_out)))
        });
        by_time.push((name(latents), envelope.collect()));
    }
    let below = "held-out nats per patch below the best";
    let file = folder.join("image_patches_parameters.svg");
    write_curves(file, "8 × 8 patches, by parameters", ["parameters", below], &by_size)?;
    let file = folder.join("image_patches_seconds.svg");
    write_curves(file, "8 × 8 patches, by time", ["seconds", below], &by_time)
}
