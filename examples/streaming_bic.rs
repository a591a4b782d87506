//! Chooses the number of latents of a linear autoencoder while points stream by, from entropies alone: the stream comes from six
//! factors, then from two, then from four, in ten dimensions.
//!
//! Each candidate goes on learning from where it stands, from the last window of points. Both variances follow in closed form, so its entropy
//! sum is the bound, and `BIC = p ln N - 2 N ES` needs no other pass over the points: posteriors have given their entropies as they were
//! made. Linear autoencoders have no other maxima than p-PCA (Lucas et al. 2019), so going on from an old window does no harm.
//!
//! `cargo run --release --example streaming_bic`

use entropysum::em::{self, AutoencoderSpec};
use entropysum::model::VariationalAutoencoder;
use entropysum::{Config, Executor, Points, Result, Silent};
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

const DIM: usize = 10;

/// Points of a window, and windows of each source.
const WINDOW: usize = 500;
const WINDOWS: usize = 4;

/// Numbers of factors of the sources.
const SOURCES: [usize; 3] = [6, 2, 4];

const NOISE: f64 = 0.5;

/// Numbers of latents that compete.
const CANDIDATES: std::ops::RangeInclusive<usize> = 1..=9;

/// Steps of Adam in a window.
const STEPS: usize = 400;

fn main() -> Result<()> {
    let executor = Executor::new(None)?;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
    let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
    let mut models: Vec<Option<VariationalAutoencoder>> = vec![None; CANDIDATES.count()];
    println!("window  factors  chosen  BIC per point of each number of latents, less the least");
    let (mut wrong, mut loadings) = (0, Vec::new());
    for source in 0..SOURCES.len() * WINDOWS {
        let factors = SOURCES[source / WINDOWS];
        if source % WINDOWS == 0 {
            loadings = (0..DIM * factors).map(|_| normal()).collect();
        }
        let mut values = Vec::with_capacity(WINDOW * DIM);
        for _ in 0..WINDOW {
            let z: Vec<f64> = (0..factors).map(|_| normal()).collect();
            for row in loadings.chunks(factors) {
                let mean: f64 = row.iter().zip(&z).map(|(w, z)| w * z).sum();
                values.push(mean + NOISE * normal());
            }
        }
        let points = Points::owned(values, DIM)?;
        let mut criteria = Vec::new();
        for (latents, model) in CANDIDATES.zip(&mut models) {
            let spec = match model.take() {
                Some(model) => AutoencoderSpec::from_model(model),
                None => AutoencoderSpec::linear(latents),
            };
            let config = Config::default().max_iter(STEPS).tol(0.0);
            let fit = em::fit(&spec.learning_rate(0.05), &points, &executor, &config, &mut Silent)?;
            let last = fit.last().expect("there is a record");
            assert!(last.gap().abs() < 1e-9, "entropy sum and bound are one: {last:?}");
            let parameters = entropysum::expert::model::GenerativeModel::n_parameters(&fit.model);
            let n = WINDOW as f64;
            let penalty = parameters as f64 * n.ln() / n;
            // BIC, divided by N.
            criteria.push(penalty - 2.0 * last.entropy_sum.total());
            *model = Some(fit.model);
        }
        let least = criteria.iter().copied().fold(f64::INFINITY, f64::min);
        let best = criteria.iter().position(|it| *it == least).expect("one is the least");
        let chosen = CANDIDATES.start() + best;
        // A window after a change, networks may still be on their way.
        wrong += usize::from(chosen != factors);
        let is_first = source % WINDOWS == 0;
        assert!(chosen == factors || is_first, "{chosen} latents for {factors} factors");
        let differences = criteria.iter().map(|it| format!("{:.3}", it - least));
        println!(
            "{source:>6}  {factors:>7}  {chosen:>6}  {}",
            differences.collect::<Vec<_>>().join("  ")
        );
    }
    let windows = SOURCES.len() * WINDOWS;
    println!("the number of factors was chosen in {} of {windows} windows", windows - wrong);
    Ok(())
}
