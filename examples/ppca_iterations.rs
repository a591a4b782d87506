//! Iterations of EM and of parameter-expanded EM for probabilistic PCA and factor analysis on real data: how far each
//! is from the maximum, as a picture.
//!
//! `cargo run --release --example ppca_iterations [picture.svg]`

use entropysum::data::{self, OpenOptions};
use entropysum::em;
use entropysum::em::{LinearGaussianAlgorithm, LinearGaussianSpec};
use entropysum::expert::em::Summary;
use entropysum::model::Noise;
use entropysum::monitor::plot;
use entropysum::{Config, Executor, Silent};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let executor = Executor::new(None)?;
    let mut curves: Vec<plot::Curve> = Vec::new();
    for (name, latents, specs) in [
        ("iris.csv", 2, vec![LinearGaussianSpec::ppca(2)]),
        ("digits.npy", 5, vec![LinearGaussianSpec::ppca(5)]),
        ("wine.csv", 3, vec![LinearGaussianSpec::ppca(3), LinearGaussianSpec::factor_analysis(3)]),
    ] {
        let path = format!("{}/data/{name}", env!("CARGO_MANIFEST_DIR"));
        let points = data::load(&*data::open::<f64>(path, &OpenOptions::default())?)?;
        for spec in specs {
            // The maximum: in closed form, or where a long run ends.
            let long = Config::default().max_iter(100_000).tol(0.0);
            let best = em::fit(&spec, &points, &executor, &long, &mut Silent)?;
            let maximum = best.last().expect("an iteration").lower_bound;
            for algorithm in [LinearGaussianAlgorithm::Em, LinearGaussianAlgorithm::PxEm] {
                let spec = spec.clone().with_algorithm(algorithm);
                let summary = Summary::new(&spec, &points, &executor)?;
                let config = Config::default().max_iter(10_000).tol(0.0);
                let fit = summary.fit(&spec, &config, &mut Silent)?;
                let below = |bound: f64| maximum - bound;
                let reached = fit.history.records.iter().find(|r| below(r.lower_bound) < 1e-6);
                println!(
                    "{:16} H = {latents} {name:11} {:6} within 1e-6 nats after {}",
                    spec.noise.model_name(),
                    algorithm.name(),
                    reached.map_or("more than 10000".to_owned(), |r| r.iteration.to_string())
                );
                if algorithm == LinearGaussianAlgorithm::PxEm {
                    assert!(reached.is_some_and(|r| r.iteration < 2_000));
                }
                let line = fit
                    .history
                    .records
                    .iter()
                    .map(|r| ((r.iteration as f64).log10(), below(r.lower_bound)))
                    .filter(|(_, distance)| *distance > 1e-10);
                let kind = if spec.noise == Noise::Isotropic { "p-PCA" } else { "FA" };
                let stem = name.split('.').next().unwrap_or(name);
                curves.push((format!("{kind} {stem}, {}", algorithm.name()), line.collect()));
            }
        }
    }
    if let Some(picture) = std::env::args().nth(1) {
        let labels = ["log10 of the iteration", "nats per point below the maximum"];
        plot::write_curves(picture, "EM and parameter-expanded EM", labels, &curves)?;
    }
    Ok(())
}
