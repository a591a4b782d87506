//! What a ridge does to a sigmoid belief network on points it has not seen: every fifth of the binarised digits.
//!
//! `cargo run --release --example digits_held_out [LATENTS STATES]`

use entropysum::data::{self, OpenOptions};
use entropysum::em::{Config, MixtureSpec, SbnSpec, fit_mixture, fit_sbn};
use entropysum::family::registry;
use entropysum::model::sbn::LatentPosterior;
use entropysum::{Executor, Points, Silent, inference};
use std::path::Path;

const DIM: usize = 64;

fn main() -> entropysum::Result<()> {
    let mut args = std::env::args().skip(1).map(|a| a.parse().expect("a number"));
    let (latents, states) = (args.next().unwrap_or(12), args.next().unwrap_or(8));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/digits_binary.npy");
    let all = data::load::<f64>(&*data::open(path, &OpenOptions::default())?)?;
    let part = |held_out: bool| {
        let rows = all.view().row_iter().enumerate().filter(|(i, _)| (i % 5 == 4) == held_out);
        Points::owned(rows.flat_map(|(_, row)| row.iter().copied()).collect::<Vec<f64>>(), DIM)
    };
    let (train, test) = (part(false)?, part(true)?);
    let executor = Executor::new(None)?;
    let config = Config { max_iter: 100, tol: 1e-4, ..Config::default() };

    let family = registry::build("bernoulli", DIM)?;
    let mixture =
        fit_mixture(&MixtureSpec::new(family, latents), &train, &executor, &config, &mut Silent)?;
    let scored = |points| inference::score(&mixture.model, points, &executor);
    let (seen, new) = (scored(&train)?.log_likelihood, scored(&test)?.log_likelihood);
    println!("bernoulli mixture, {latents} components: {seen:.3} seen, {new:.3} held out");

    for ridge in [0.0, 1e-5, 1e-4, 1e-3, 1e-2] {
        let spec = SbnSpec { ridge, ..SbnSpec::new(latents) }
            .with_posterior(LatentPosterior::Truncated { states });
        let net = fit_sbn(&spec, &train, &executor, &config, &mut Silent)?.model;
        let scored = |points| inference::score(&net, points, &executor);
        let (seen, new) = (scored(&train)?.log_likelihood, scored(&test)?.log_likelihood);
        println!("sbn, ridge {ridge:e}: bound {seen:.3} seen, {new:.3} held out");
    }
    Ok(())
}
