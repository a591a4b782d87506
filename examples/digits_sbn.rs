//! A sigmoid belief network of binarised digits, against a Bernoulli mixture with as many parameters.
//!
//! `cargo run --release --example digits_sbn [LATENTS STATES OUT.png [DATA.npy WIDTH]]`
//!
//! With the defaults the network has a bound of -16.75 nats per point (-16.90 by a new search), the mixture -17.78.
//!
//! Both are scored on the points that they learned from, without a ridge or pseudo-counts: this says how well they describe these
//! digits, not others. For others `digits_held_out` chooses ridges on points of their own. Draws the weights of the latents.

use entropysum::data::{self, DataSource, OpenOptions};
use entropysum::em::{self, Config, MixtureSpec, SbnSpec};
use entropysum::expert::model::GenerativeModel;
use entropysum::expert::write_features;
use entropysum::family::registry;
use entropysum::model::LatentPosterior;
use entropysum::observe;
use entropysum::{Executor, inference};
use std::path::Path;
use std::time::Instant;

fn main() -> entropysum::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |k: usize, default| args.get(k).map_or(default, |a| a.parse().expect("a number"));
    let (latents, states) = (number(0, 24), number(1, 32));
    std::fs::create_dir_all(root.join("target"))?;
    let out = args.get(2).map_or(root.join("target/digits_sbn.png"), Into::into);
    let path = args.get(3).map_or(root.join("data/digits_binary.npy"), Into::into);
    let width = number(4, 8);

    let train = data::load::<f32>(&*data::open(path, &OpenOptions::default())?)?;
    let dim = train.view().ncols();
    let executor = Executor::new(None)?;
    println!("{} points of {dim} pixels", train.len());

    let config = Config::default().max_iter(150).tol(1e-4).n_init(1);
    let spec = SbnSpec::new(latents).with_posterior(LatentPosterior::Truncated { states });
    let fit = em::fit(
        &spec,
        &train,
        &executor,
        &config,
        &mut observe(|r| {
            if r.iteration.is_multiple_of(10) {
                println!(
                    "{:4} {:8.1} s  bound {:.4}  gap {:.1e}",
                    r.iteration,
                    r.seconds,
                    r.lower_bound,
                    r.gap()
                );
            }
        }),
    )?;
    let net = &fit.model;
    let begin = Instant::now();
    let score = inference::score(net, &train, &executor)?.log_likelihood;
    println!(
        "sbn, {latents} latents, {states} states, {} parameters: bound {:.3}, {score:.3} by a new search; {} iterations, {:.1} s, search {:.1} s",
        net.n_parameters(),
        fit.last().expect("an iteration").lower_bound,
        fit.history.records.len(),
        fit.seconds,
        begin.elapsed().as_secs_f64()
    );

    let components = ((net.n_parameters() + 1) as f64 / (dim + 1) as f64).round() as usize;
    let spec = MixtureSpec::new(registry::build("bernoulli", dim)?, components);
    let config = config.tol(1e-5).n_init(5);
    let mixture = em::fit(&spec, &train, &executor, &config, &mut entropysum::Silent)?;
    let of_mixture = inference::score(&mixture.model, &train, &executor)?;
    println!(
        "bernoulli mixture, {components} components, {} parameters: log-likelihood {:.3}; {:.1} s",
        mixture.model.n_parameters(),
        of_mixture.log_likelihood,
        mixture.seconds
    );

    let weights = net.parameter("weights").expect("every network has weights");
    let mut order: Vec<usize> = (0..latents).collect();
    order.sort_by(|&a, &b| net.prior()[b].total_cmp(&net.prior()[a]));
    let features: Vec<Vec<f64>> =
        order.iter().map(|&h| weights.iter().skip(h).step_by(latents).copied().collect()).collect();
    write_features(&out, &features, width, dim / width)?;
    println!("{}", out.display());
    // On the data in this repository a belief network describes the digits better than as many templates.
    assert!(args.len() > 3 || score > of_mixture.log_likelihood);
    Ok(())
}
