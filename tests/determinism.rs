//! The same bits on any number of threads.

mod common;

use common::{clusters, rounded};
use entropysum::data::memory::Points;
use entropysum::em::{Config, Init, fit_mixture};
use entropysum::exec::Executor;
use entropysum::family::registry;
use entropysum::inference;
use entropysum::model::Posterior;
use entropysum::monitor::Silent;
use entropysum::scalar::Scalar;

/// Everything a fit returns that could differ, as bits.
fn bits_of_a_fit<T: Scalar>(name: &str, posterior: Posterior, threads: usize) -> Vec<u64> {
    let (n, dim, components) = (20_011, 5, 7);
    let x: Vec<T> = rounded(&clusters(n, dim, components, 1.5, 3));
    let weights = (0..n).map(|i| 0.5 + (i % 3) as f64).collect();
    let points = Points::from_rows(&x, dim).unwrap().with_weights(weights).unwrap();
    let executor = Executor::new(Some(threads)).unwrap();
    let config = Config { max_iter: 6, tol: 0.0, n_init: 2, seed: 5, ..Config::default() };
    let family = registry::build(name, dim).unwrap();
    let init = Init::default();
    let fit =
        fit_mixture(family, components, posterior, &init, &points, &executor, &config, &mut Silent)
            .unwrap();
    let mut bits: Vec<u64> = Vec::new();
    for record in &fit.history.records {
        let sum = record.entropy_sum;
        let values =
            [sum.posterior, sum.prior, sum.observable, record.lower_bound, record.log_likelihood];
        bits.extend(values.map(f64::to_bits));
    }
    for theta in &fit.model.parameters().components {
        bits.extend(theta.iter().map(|v| v.to_bits()));
    }
    bits.extend(fit.model.parameters().shared.iter().map(|v| v.to_bits()));
    bits.extend(fit.model.weights().iter().map(|v| v.to_bits()));
    let score = inference::score(&fit.model, &points, &executor).unwrap();
    bits.extend([score.log_likelihood, score.posterior_entropy].map(f64::to_bits));
    inference::sample(&fit.model, 9_000, 1, &executor, |points, labels| {
        bits.extend(points.iter().map(|v| v.to_bits()));
        bits.extend(labels.iter().map(|&c| u64::from(c)));
        Ok(())
    })
    .unwrap();
    bits
}

#[test]
fn fits_scores_and_samples_have_the_same_bits_on_1_2_and_7_threads() {
    for name in registry::names() {
        for posterior in [Posterior::Exact, Posterior::Hard] {
            let one = bits_of_a_fit::<f64>(name, posterior, 1);
            assert!(one.len() > 50_000);
            for threads in [2, 7] {
                assert!(
                    one == bits_of_a_fit::<f64>(name, posterior, threads),
                    "{name} f64 {threads}"
                );
            }
            let one = bits_of_a_fit::<f32>(name, posterior, 1);
            assert!(one == bits_of_a_fit::<f32>(name, posterior, 7), "{name} f32");
        }
    }
}
