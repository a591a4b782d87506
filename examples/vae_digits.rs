//! Learns handwritten digits by autoencoders, and holds their bounds against p-PCA: on the points of the fit, and on every third digit,
//! which no fit sees.
//!
//! The maximum of a linear autoencoder is the likelihood of p-PCA, which is known. A network in place of the matrix gains on it. In every
//! record the entropy sum is the bound, of the points of the last minibatches by their weights: for all points the bound may differ by a
//! few standard errors.
//!
//! `cargo run --release --example vae_digits`

use entropysum::data::{self, OpenOptions};
use entropysum::em::{AutoencoderSpec, Fitting, LinearGaussianSpec, StreamConfig};
use entropysum::model::{Activation, LatentPrior, VariationalAutoencoder};
use entropysum::{Config, Executor, Points, Result, Silent, em, inference};

const LATENTS: usize = 8;

/// Brightness of pixels is 0 to 16.
const WHITE: f64 = 16.0;

fn main() -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/digits.npy");
    let digits = data::load(&*data::open::<f32>(path, &OpenOptions::default())?)?;
    let dim = digits.view().ncols();
    let (mut learned, mut held_out) = (Vec::new(), Vec::new());
    for (i, row) in digits.view().row_iter().enumerate() {
        let side = if i % 3 == 2 { &mut held_out } else { &mut learned };
        side.extend(row.iter().map(|value| value / WHITE as f32));
    }
    let (learned, held_out) = (Points::owned(learned, dim)?, Points::owned(held_out, dim)?);
    let executor = Executor::new(None)?;
    let config = Config::default();

    let ppca =
        em::fit(&LinearGaussianSpec::ppca(LATENTS), &learned, &executor, &config, &mut Silent)?;
    let ppca_held_out = inference::score(&ppca.model, &held_out, &executor)?.log_likelihood;
    let maximum = ppca.last().expect("there is a record").lower_bound;
    println!(
        "                entropy sum   all points   +- sampling  held out  importance-weighted"
    );
    println!("p-PCA           {maximum:<37.4}  {ppca_held_out:.4}");

    let minibatches = StreamConfig::default().batch_size(100).epochs(100);
    let fit = |name: &str, spec: &AutoencoderSpec| -> Result<(f64, f64, VariationalAutoencoder)> {
        let fit = Fitting::new(&learned, &executor)
            .config(&config)
            .minibatches(&minibatches)
            .fit(spec)?;
        let last = fit.last().expect("there is a record");
        let halves = last.gap_halves.expect("autoencoders have both halves");
        let score = inference::score(&fit.model, &held_out, &executor)?.log_likelihood;
        let weighted = fit.model.clone().with_importance_samples(100);
        let weighted = inference::score(&weighted, &held_out, &executor)?.log_likelihood;
        let pass = inference::score(&fit.model, &learned, &executor)?.log_likelihood;
        println!(
            "{name:<15} {:<12.4}  {:<12.4} {:<11.4}  {score:<8.4}  {weighted:.4}",
            last.entropy_sum.total(),
            pass,
            halves.sampling_error
        );
        assert!(last.gap().abs() < 1e-9, "{halves:?}");
        // The record is an estimate; a pass with the model that is returned must agree with it.
        let error = last.minibatch.map_or(f64::NAN, |minibatch| minibatch.standard_error);
        assert!((pass - last.entropy_sum.total()).abs() < 5.0 * error, "{pass} {last:?}");
        Ok((pass, score, fit.model))
    };
    let (linear, ..) = fit("linear", &AutoencoderSpec::linear(LATENTS).learning_rate(0.05))?;
    assert!((maximum - 0.1..maximum + 1e-3).contains(&linear), "{linear} {maximum}");

    let network = AutoencoderSpec::new(LATENTS)
        .hidden(vec![64])
        .activation(Activation::Tanh)
        .learning_rate(0.005);
    let (_, score, _) = fit("network", &network)?;
    assert!(score > ppca_held_out + 1.0, "{score} {ppca_held_out}");
    fit("Laplace prior", &network.clone().prior(LatentPrior::Laplace))?;
    fit("sparse coding", &AutoencoderSpec::sparse_coding(2 * LATENTS))?;
    Ok(())
}
