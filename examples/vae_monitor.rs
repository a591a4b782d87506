//! Trains a small variational autoencoder on irises by hand-written gradients, and watches it by its entropy sum.
//!
//! The training knows nothing of this crate: after each epoch it hands posteriors and reconstructions to a
//! `GaussianMonitor`, as a loop in another framework would. The noise variance follows in closed form, so its half of the
//! gap is 0 whatever the networks are; the prior's half closes as training converges.
//!
//! `cargo run --release --example vae_monitor`

use entropysum::data::{self, OpenOptions};
use entropysum::expert::gaussian_observable::GaussianMonitor;
use entropysum::{Executor, expert};
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use std::error::Error;
use std::f64::consts::PI;

/// Dimensions, latents, hidden units of the decoder.
const D: usize = 4;
const H: usize = 2;
const UNITS: usize = 8;

/// Where each part of the parameters begins. Encoder: means `E x + e` and one log-variance a latent. Decoder:
/// `W₂ tanh(W₁ z + b₁) + b₂`.
const E: usize = 0;
const BIAS: usize = E + H * D;
const LOG_VARIANCE: usize = BIAS + H;
const W1: usize = LOG_VARIANCE + H;
const B1: usize = W1 + UNITS * H;
const W2: usize = B1 + UNITS;
const B2: usize = W2 + D * UNITS;
const LEN: usize = B2 + D;

/// One point on its way through the autoencoder.
struct Pass {
    mean: [f64; H],
    variance: [f64; H],
    z: [f64; H],
    hidden: [f64; UNITS],
    reconstruction: [f64; D],
}

fn forward(p: &[f64; LEN], x: &[f64], noise: [f64; H]) -> Pass {
    let mean: [f64; H] =
        std::array::from_fn(|h| p[BIAS + h] + (0..D).map(|d| p[E + h * D + d] * x[d]).sum::<f64>());
    let variance: [f64; H] = std::array::from_fn(|h| p[LOG_VARIANCE + h].exp());
    let z: [f64; H] = std::array::from_fn(|h| mean[h] + variance[h].sqrt() * noise[h]);
    let hidden: [f64; UNITS] = std::array::from_fn(|u| {
        (p[B1 + u] + (0..H).map(|h| p[W1 + u * H + h] * z[h]).sum::<f64>()).tanh()
    });
    let reconstruction = std::array::from_fn(|d| {
        p[B2 + d] + (0..UNITS).map(|u| p[W2 + d * UNITS + u] * hidden[u]).sum::<f64>()
    });
    Pass { mean, variance, z, hidden, reconstruction }
}

/// Adds the gradient of the lower bound of one point.
fn backward(
    p: &[f64; LEN],
    x: &[f64],
    noise: [f64; H],
    pass: &Pass,
    sigma2: f64,
    g: &mut [f64; LEN],
) {
    let out: [f64; D] = std::array::from_fn(|d| (x[d] - pass.reconstruction[d]) / sigma2);
    let mut at_z = [0.0; H];
    for d in 0..D {
        g[B2 + d] += out[d];
    }
    for u in 0..UNITS {
        let mut at_unit = 0.0;
        for d in 0..D {
            g[W2 + d * UNITS + u] += out[d] * pass.hidden[u];
            at_unit += p[W2 + d * UNITS + u] * out[d];
        }
        at_unit *= 1.0 - pass.hidden[u] * pass.hidden[u];
        g[B1 + u] += at_unit;
        for h in 0..H {
            g[W1 + u * H + h] += at_unit * pass.z[h];
            at_z[h] += p[W1 + u * H + h] * at_unit;
        }
    }
    for h in 0..H {
        let at_mean = at_z[h] - pass.mean[h];
        g[BIAS + h] += at_mean;
        for d in 0..D {
            g[E + h * D + d] += at_mean * x[d];
        }
        let deviation = pass.variance[h].sqrt();
        g[LOG_VARIANCE + h] += 0.5 * (1.0 - pass.variance[h] + at_z[h] * noise[h] * deviation);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/iris.csv");
    let points = data::load(&*data::open::<f64>(path, &OpenOptions::default())?)?;
    let moments = expert::moments(&points, &Executor::new(None)?)?;
    let x: Vec<[f64; D]> = points
        .view()
        .row_iter()
        .map(|row| {
            std::array::from_fn(|d| (row[d] - moments.mean()[d]) / moments.variances()[d].sqrt())
        })
        .collect();
    let n = x.len() as f64;

    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
    let mut p: [f64; LEN] = std::array::from_fn(|_| 0.3 * normal());
    let (mut first, mut second) = ([0.0; LEN], [0.0; LEN]);
    let mut sigma2 = 1.0;
    let mut bounds = Vec::new();
    let mut last_gap = f64::NAN;
    println!("epoch  lower bound   entropy sum   prior gap   noise gap    sigma2");
    for epoch in 1..=3000 {
        let mut monitor = GaussianMonitor::new(H, D);
        let (mut gradient, mut squared, mut divergence) = ([0.0; LEN], 0.0, 0.0);
        for point in &x {
            let noise: [f64; H] = std::array::from_fn(|_| normal());
            let pass = forward(&p, point, noise);
            monitor.add(1.0, &pass.mean, &pass.variance, point, &pass.reconstruction);
            backward(&p, point, noise, &pass, sigma2, &mut gradient);
            // The bound as VAEs usually have it: reconstruction error and divergence from the prior.
            squared += (0..D).map(|d| (point[d] - pass.reconstruction[d]).powi(2)).sum::<f64>();
            divergence += (0..H)
                .map(|h| {
                    0.5 * (pass.mean[h].powi(2) + pass.variance[h] - 1.0 - pass.variance[h].ln())
                })
                .sum::<f64>();
        }
        let bound = |sigma2: f64| {
            -divergence / n - 0.5 * (D as f64 * (2.0 * PI * sigma2).ln() + squared / n / sigma2)
        };

        // Entropy sum and gap are exact at any point of the training, with any noise variance ...
        let before = monitor.report(1.0, &[sigma2]);
        assert!((before.lower_bound() - bound(sigma2)).abs() < 1e-10);
        // ... and the best one closes its half of the gap at once.
        sigma2 = monitor.best_noise_variance();
        let after = monitor.report(1.0, &[sigma2]);
        assert!((after.lower_bound() - bound(sigma2)).abs() < 1e-10);
        assert!(after.noise_gap.abs() < 1e-12 && after.lower_bound() >= before.lower_bound());

        bounds.push(after.lower_bound());
        last_gap = after.prior_gap;
        if epoch == 1 || epoch % 500 == 0 {
            println!(
                "{epoch:5}  {:11.6}   {:11.6}   {:9.6}   {:9.1e}  {sigma2:8.5}",
                after.lower_bound(),
                after.entropy_sum.total(),
                after.prior_gap,
                after.noise_gap
            );
        }

        // Adam (Kingma & Ba 2015), uphill.
        let decay = |beta: f64| 1.0 - beta.powi(epoch);
        for k in 0..LEN {
            let g = gradient[k] / n;
            first[k] = 0.9 * first[k] + 0.1 * g;
            second[k] = 0.999 * second[k] + 0.001 * g * g;
            let step: f64 = first[k] / decay(0.9);
            p[k] += 0.01 * step / ((second[k] / decay(0.999)).sqrt() + 1e-8);
        }
    }

    // Samples make single epochs noisy; the last tenth is not.
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (begin, end) = (bounds[0], mean(&bounds[2700..]));
    assert!(end > begin + 2.0, "the bound rose from {begin} to {end}");
    assert!(last_gap.abs() < 0.1, "the prior's half of the gap is closing: {last_gap}");
    Ok(())
}
