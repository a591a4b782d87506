//! EM trajectories against values computed in 40 digits by an independent program.

use crate::common;

use common::{assert_all_close, assert_close, fixture, gaussian_mixture, numbers, rounded};
use entropysum::Executor;
use entropysum::Scalar;
use entropysum::data::Points;
use entropysum::em::{self, Config};
use entropysum::family::{Covariance, Gaussian, Parameters, Regularization};
use entropysum::model::{Mixture, Posterior};
use entropysum::monitor::{IterRecord, StopReason};
use serde_json::Value;
use std::ops::ControlFlow;
use std::sync::Arc;

const COVARIANCES: [&str; 4] = ["full", "tied", "diag", "spherical"];

fn exact_ml() -> Config {
    let regularization = Regularization { reg_covar: Some(0.0), ..Default::default() };
    Config::default().tol(0.0).regularization(regularization)
}

fn follows_the_golden_trajectory<T: Scalar>(data: &str, tolerance: f64) {
    let fixture = fixture(&format!("gmm_em_{data}"));
    let dim = fixture["data"]["cols"].as_u64().unwrap() as usize;
    let x: Vec<T> = rounded(&numbers(&fixture["data"]["x"]));
    let points = Points::from_rows(&x, dim).unwrap();
    let executor = Executor::new(Some(2)).unwrap();
    let runs = fixture["runs"].as_array().unwrap();
    assert_eq!(runs.len(), COVARIANCES.len());
    for run in runs {
        let covariance = run["covariance"].as_str().unwrap();
        let golden = run["iterations"].as_array().unwrap();
        let steps = golden.len() - 1;
        let start = gaussian_mixture(covariance, dim, &run["init"]);
        let config = exact_ml().max_iter(steps);
        let mut records: Vec<IterRecord> = Vec::new();
        let fit = em::fit(&start, &points, &executor, &config, &mut |r: &IterRecord| {
            records.push(r.clone());
            ControlFlow::<StopReason>::Continue(())
        })
        .unwrap();
        assert_eq!(fit.history.records, records);
        for (record, step) in records.iter().zip(golden) {
            let what = |name: &str| format!("{data} {covariance} {} {name}", record.iteration);
            let value = |name: &str| step[name].as_f64().unwrap();
            assert_close(
                record.log_likelihood,
                value("loglik"),
                tolerance,
                &what("log-likelihood"),
            );
            assert_close(
                record.entropy_sum.posterior,
                value("mean_posterior_entropy"),
                tolerance,
                &what("posterior entropy"),
            );
            assert_close(
                record.entropy_sum.total(),
                value("entropy_sum_after_m"),
                tolerance,
                &what("entropy sum"),
            );
            assert_close(
                record.lower_bound,
                value("elbo_after_m"),
                tolerance,
                &what("lower bound"),
            );
            let delta = (record.delta() - value("entropy_sum_minus_loglik")).abs();
            assert!(delta <= tolerance * value("loglik").abs(), "{}: {delta:e}", what("delta"));
        }
        let last = golden[..steps].iter().rev().find(|step| step["means"].is_array()).unwrap();
        if last["t"].as_u64() == Some(steps as u64 - 1) {
            for (name, golden) in [("means", "means"), ("covariances", "covariances")] {
                let found = fit.model.parameter(name).unwrap();
                assert_all_close(&found, &numbers(&last[golden]), 10.0 * tolerance, covariance);
            }
            assert_all_close(
                fit.model.weights(),
                &numbers(&last["pi"]),
                10.0 * tolerance,
                covariance,
            );
        }
        let score = entropysum::inference::score(&fit.model, &points, &executor).unwrap();
        let expected = golden[steps]["loglik"].as_f64().unwrap();
        assert_close(
            score.log_likelihood,
            expected,
            tolerance,
            &format!("{data} {covariance} final"),
        );
    }
}

#[test]
fn em_on_faithful_follows_40_digit_trajectories() {
    follows_the_golden_trajectory::<f64>("faithful", 1e-9);
}

#[test]
fn em_on_iris_follows_40_digit_trajectories() {
    follows_the_golden_trajectory::<f64>("iris", 1e-9);
}

#[test]
fn em_in_f32_follows_to_1e_6() {
    follows_the_golden_trajectory::<f32>("faithful", 1e-6);
    follows_the_golden_trajectory::<f32>("iris", 1e-6);
}

/// Theory 1.5: k-means is hard EM with equal weights and one variance, and its inertia J gives the
/// entropy sum as `-ln C - D/2 ln(2 π e J / (N D))`.
#[test]
fn hard_em_with_equal_weights_is_k_means() {
    let golden = fixture("kmeans_iris");
    let iris = fixture("gmm_em_iris");
    let dim = 4;
    let x = numbers(&iris["data"]["x"]);
    let points = Points::from_rows(&x, dim).unwrap();
    let rows: Vec<usize> = numbers(&golden["init_rows"]).iter().map(|&r| r as usize).collect();
    let components: Vec<Vec<f64>> = rows.iter().map(|&r| x[r * dim..][..dim].to_vec()).collect();
    let n_components = components.len();
    let start = Mixture::new(
        Arc::new(Gaussian::new(Covariance::TiedSpherical, dim)),
        vec![1.0 / n_components as f64; n_components],
        Parameters { components, shared: vec![1.0] },
    )
    .unwrap()
    .with_posterior(Posterior::Hard)
    .with_fixed_weights(true);
    let steps = golden["iterations"].as_array().unwrap();
    let config = exact_ml().max_iter(steps.len());
    let fit = em::fit(
        &start,
        &points,
        &Executor::new(Some(1)).unwrap(),
        &config,
        &mut |_: &IterRecord| ControlFlow::<StopReason>::Continue(()),
    )
    .unwrap();
    for (record, step) in fit.history.records.iter().zip(steps) {
        let value = |name: &str| step.get(name).and_then(Value::as_f64).unwrap();
        let sigma2 = value("sigma2");
        assert_close(record.lower_bound, value("elbo_uniform_pi"), 1e-12, "bound");
        let observable = 2.0 * (2.0 * std::f64::consts::PI * std::f64::consts::E * sigma2).ln();
        assert_close(record.entropy_sum.observable, observable, 1e-12, "observable entropy");
        assert_close(
            record.entropy_sum.total(),
            value("entropy_sum_uniform_pi"),
            1e-12,
            "entropy sum",
        );
        assert_eq!(record.entropy_sum.posterior, 0.0);
    }
}
