//! EM trajectories of mixtures of every family against values computed in 40 digits, on real data.

use crate::common;

use common::{assert_all_close, assert_close, fixture, numbers, rounded};
use entropysum::Executor;
use entropysum::Scalar;
use entropysum::data::{self, DataSource, OpenOptions, Points};
use entropysum::em::{self, Config, MixtureSpec};
use entropysum::family::{KnownParameters, Regularization, registry};
use entropysum::inference;
use entropysum::model::Mixture;
use serde_json::Value;

/// The parameters that a fixture states of each component: `[component][block][parameter]`, known ones first.
fn blocks(theta: &Value) -> Vec<Vec<Vec<f64>>> {
    let rows = |value: &Value| value.as_array().unwrap().clone();
    rows(theta).iter().map(|c| rows(c).iter().map(numbers).collect()).collect()
}

/// A mixture with the weights and parameters of a fixture.
fn mixture(name: &str, pi: &Value, theta: &Value) -> Mixture {
    let theta = blocks(theta);
    let dim = theta[0].len();
    let told = registry::known_parameters(name);
    let known = told.iter().enumerate().fold(KnownParameters::default(), |known, (k, told)| {
        known.with(*told, theta[0].iter().map(|block| block[k]).collect())
    });
    let family = registry::build_known(name, dim, &known).unwrap();
    let names: Vec<String> = family.parameters().iter().map(|spec| spec.name.to_string()).collect();
    let arrays: Vec<Vec<f64>> = (0..names.len())
        .map(|p| theta.iter().flatten().map(|block| block[told.len() + p]).collect())
        .collect();
    Mixture::from_arrays(family, numbers(pi), |array| {
        Some(&arrays[names.iter().position(|name| name == array)?])
    })
    .unwrap()
}

fn follows<T: Scalar>(key: &str, name: &str, tolerance: f64) {
    let fixture = fixture(&format!("mix_{key}"));
    let columns: Vec<usize> = fixture["blocks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|block| block["columns"][0].as_u64().unwrap() as usize)
        .collect();
    let width = fixture["data"]["cols"].as_u64().unwrap() as usize;
    let all = numbers(&fixture["data"]["x"]);
    let x: Vec<f64> =
        all.chunks(width).flat_map(|row| columns.iter().map(|&column| row[column])).collect();
    let x: Vec<T> = rounded(&x);
    let points = Points::from_rows(&x, columns.len()).unwrap();
    let executor = Executor::new(Some(2)).unwrap();
    let golden = fixture["iterations"].as_array().unwrap();
    let steps = golden.len() - 1;
    let start = mixture(name, &fixture["init"]["pi"], &fixture["init"]["theta"]);
    let regularization = Regularization { reg_covar: Some(0.0), ..Default::default() };
    let config = Config::default().max_iter(steps).tol(0.0).regularization(regularization);
    let fit = em::fit(&start, &points, &executor, &config, &mut entropysum::Silent).unwrap();
    assert_eq!(fit.history.records.len(), steps);
    for (record, step) in fit.history.records.iter().zip(golden) {
        let check = |found: f64, expected: &str| {
            let what = format!("{key} {} {expected}", record.iteration);
            assert_close(found, step[expected].as_f64().unwrap(), tolerance, &what);
        };
        check(record.log_likelihood, "loglik");
        check(record.entropy_sum.posterior, "mean_posterior_entropy");
        check(record.entropy_sum.total(), "entropy_sum_after_m");
        check(record.lower_bound, "elbo_after_m");
        check(record.delta(), "entropy_sum_minus_loglik");
        let base = fixture["mean_log_base_measure"].as_f64().unwrap();
        assert_close(record.entropy_sum.base_measure, base, tolerance, &format!("{key} ln h"));
    }
    let last = golden[..steps].last().unwrap();
    if last["theta"].is_array() {
        let expected = mixture(name, &last["pi"], &last["theta"]);
        assert_all_close(fit.model.weights(), expected.weights(), 10.0 * tolerance, key);
        for c in 0..expected.n_components() {
            let (found, expected) = (fit.model.theta(c).component, expected.theta(c).component);
            for (found, expected) in found.iter().zip(expected) {
                let error = (found - expected).abs() / expected.abs();
                assert!(error <= 100.0 * tolerance, "{key}: {found}, expected {expected}");
            }
        }
    }
    let score = inference::score(&fit.model, &points, &executor).unwrap();
    let expected = golden[steps]["loglik"].as_f64().unwrap();
    assert_close(score.log_likelihood, expected, tolerance, &format!("{key} final"));
}

macro_rules! trajectories {
    ($($test:ident: $key:literal, $name:literal;)*) => {$(
        #[test]
        fn $test() {
            follows::<f64>($key, $name, 1e-10);
            // Logits are exact to the rounding of terms of 500 nats, in gamma and beta mixtures; others to 2e-5.
            follows::<f32>($key, $name, 1e-4);
        }
    )*};
}

trajectories! {
    bernoulli_mixture_of_votes_follows_40_digits: "bernoulli_housevotes", "bernoulli";
    beta_mixture_of_cell_sizes_follows_40_digits: "beta_bc", "beta";
    binomial_mixture_of_letters_follows_40_digits: "binomial_letter", "binomial";
    exponential_mixture_of_rain_follows_40_digits: "exponential_rain", "exponential";
    gamma_mixture_of_waiting_times_follows_40_digits: "gamma_faithful_waiting", "gamma";
    geometric_mixture_of_visits_follows_40_digits: "geometric_randhie", "geometric";
    inverse_gaussian_mixture_of_claims_follows_40_digits: "inverse_gaussian_danish", "inverse-gaussian";
    laplace_mixture_of_galaxies_follows_40_digits: "laplace_galaxies", "laplace";
    log_normal_mixture_of_claims_follows_40_digits: "log_normal_danish", "log-normal";
    negative_binomial_mixture_of_visits_follows_40_digits: "negbin_randhie", "negative-binomial";
    poisson_mixture_of_doctor_visits_follows_40_digits: "poisson_nmes", "poisson";
    weibull_mixture_of_wind_follows_40_digits: "weibull2_wind", "weibull";
}

/// What docs/families.md states of the data in `data/`.
#[test]
fn figures_of_the_documentation_hold() {
    let executor = Executor::new(Some(2)).unwrap();
    for (file, name, n_components, n_init, bic) in [
        ("rain.csv", "gamma", 2, 5, 3651.3),
        ("rain.csv", "log-normal", 2, 5, 3591.5),
        ("rain.csv", "inverse-gaussian", 1, 5, 3687.3),
        ("doctor_visits.npy", "poisson", 3, 3, 93535.5),
        ("doctor_visits.npy", "geometric", 3, 3, 87995.7),
        ("digits_binary.npy", "bernoulli", 10, 3, 74000.5),
    ] {
        let path = format!("{}/data/{file}", env!("CARGO_MANIFEST_DIR"));
        let points = data::open::<f64>(path, &OpenOptions::default()).unwrap();
        let family = registry::build(name, points.dim()).unwrap();
        let spec = MixtureSpec::new(family, n_components);
        let config = Config::default().n_init(n_init).max_iter(2000);
        let fit = em::fit(&spec, &*points, &executor, &config, &mut entropysum::Silent).unwrap();
        assert!(fit.converged() && fit.last().unwrap().gap().abs() < 1e-12, "{name}");
        let found = inference::score(&fit.model, &*points, &executor).unwrap().bic();
        assert!((found - bic).abs() < 0.06, "{file} {name}: {found}, documented {bic}");
    }
}
