//! Fits three Gaussians to the eruptions of Old Faithful and watches the entropy sum.
//!
//! `cargo run --release --example quickstart`

use entropysum::data::{self, OpenOptions};
use entropysum::family::registry;
use entropysum::{Config, Executor, MixtureSpec, StopReason, em, observe};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    // 299 points: minutes waited before an eruption, and its duration. `open` tells the format by name and content,
    // `load` reads a source into memory.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/geyser.csv");
    let points = data::load(&*data::open::<f64>(path, &OpenOptions::default())?)?;

    // An observer sees every iteration, and may end the fit. All values are nats per point.
    println!("iteration  log-likelihood     entropy sum        gap      delta");
    let mut watch = observe(|row| {
        println!(
            "{:9}  {:14.9}  {:14.9}  {:9.1e}  {:9.1e}",
            row.iteration,
            row.log_likelihood,
            row.entropy_sum.total(),
            row.gap(),
            row.delta()
        );
    });

    let executor = Executor::new(None)?; // as many threads as the machine has; their number changes no bit
    let config = Config::default().tol(1e-7);
    let spec = MixtureSpec::new(registry::build("gaussian-full", 2)?, 3);
    let fit = em::fit(&spec, &points, &executor, &config, &mut watch)?;

    let means = fit.model.parameter("means").ok_or("Gaussians have means")?;
    for (weight, mean) in fit.model.weights().iter().zip(means.chunks(2)) {
        println!("{:4.1} % wait {:.0} min and last {:.1} min", 100.0 * weight, mean[0], mean[1]);
    }

    // Not converging would be a reason to stop, not an error.
    assert_eq!(fit.stop_reason, StopReason::Converged);
    assert_eq!(fit.warnings, [""; 0]);
    for pair in fit.history.records.windows(2) {
        // After an exact M-step the entropy sum is the lower bound F(q, Θ), to rounding ...
        assert!(pair[0].gap().abs() < 1e-13);
        // ... and so stands between the log-likelihoods before and after it, half an iteration ahead of the first.
        let sum = pair[0].entropy_sum.total();
        assert!(pair[0].log_likelihood <= sum && sum <= pair[1].log_likelihood);
    }
    Ok(())
}
