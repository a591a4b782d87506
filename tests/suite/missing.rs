//! Points with missing values: exact EM over what is observed.

use crate::common;

use common::{Uniforms, assert_close, example_family, example_mixture, example_points};
use entropysum::Executor;
use entropysum::data::Points;
use entropysum::em::{self, Config, MixtureSpec};
use entropysum::error::Error;
use entropysum::expert::model::GenerativeModel;
use entropysum::family::{Parameters, Regularization, registry};
use entropysum::inference;
use entropysum::model::{Mixture, Posterior};
use entropysum::monitor::{Event, Silent};

const DIM: usize = 3;
const COMPONENTS: usize = 3;

/// Names of the families of independent dimensions, which can ignore missing values.
fn families() -> Vec<&'static str> {
    let can = |name: &&str| {
        example_family(name, DIM).ignoring_missing().is_some_and(|family| !family.fills_missing())
    };
    let found: Vec<_> = registry::names().filter(can).collect();
    for name in ["poisson", "gamma", "bernoulli", "beta", "gaussian-diag", "gaussian-spherical"] {
        assert!(found.contains(&name), "{name} has independent dimensions");
    }
    found
}

/// Points of a family of which every fifth value is missing, and all of the second point.
fn holed(name: &str, n: usize) -> Vec<f64> {
    let mut u = Uniforms::new(5);
    let mut x = example_points(&*example_family(name, DIM), n, COMPONENTS, 31);
    for (k, value) in x.iter_mut().enumerate() {
        if u.next() < 0.2 || k / DIM == 1 {
            *value = f64::NAN;
        }
    }
    x
}

fn log_densities(model: &Mixture, x: &[f64]) -> Vec<f64> {
    let (mut densities, points) = (Vec::new(), Points::from_rows(x, model.dim()).unwrap());
    inference::score_samples(model, &points, &Executor::new(Some(1)).unwrap(), |_, block| {
        densities.extend_from_slice(block);
        Ok(())
    })
    .unwrap();
    densities
}

#[test]
fn without_missing_values_nothing_changes() {
    for name in families() {
        let x = example_points(&*example_family(name, DIM), 400, COMPONENTS, 9);
        let points = Points::from_rows(&x, DIM).unwrap();
        let executor = Executor::new(Some(1)).unwrap();
        let config = Config::default().max_iter(8).tol(0.0);
        for posterior in [Posterior::Exact, Posterior::Hard] {
            let start = example_mixture(name, DIM, COMPONENTS).with_posterior(posterior);
            let ignoring = start.clone().ignoring_missing().unwrap();
            assert!(ignoring.clone().ignoring_missing().is_ok(), "{name} ignores them already");
            let [a, b] = [start, ignoring]
                .map(|start| em::fit(&start, &points, &executor, &config, &mut Silent).unwrap());
            for (a, b) in a.history.records.iter().zip(&b.history.records) {
                assert_close(b.log_likelihood, a.log_likelihood, 1e-10, name);
                assert_close(b.lower_bound, a.lower_bound, 1e-10, name);
                assert_close(b.entropy_sum.total(), a.entropy_sum.total(), 1e-10, name);
                assert_close(b.entropy_sum.base_measure, a.entropy_sum.base_measure, 1e-12, name);
            }
            assert_eq!(a.model.n_parameters(), b.model.n_parameters());
        }
    }
}

/// The density of a point is the product over what is known of it: 1 where nothing is.
#[test]
fn densities_are_those_of_the_observed_values() {
    for name in families() {
        let model = example_mixture(name, DIM, COMPONENTS);
        let x = holed(name, 200);
        let ignoring = model.clone().ignoring_missing().unwrap();
        let densities = log_densities(&ignoring, &x);
        // A single component at a time and column by column: differences of complete points that differ in one value tell
        // the density of a column up to a constant, so whole points are compared.
        let complete: Vec<usize> =
            (0..200).filter(|&i| x[i * DIM..][..DIM].iter().all(|value| !value.is_nan())).collect();
        let rows: Vec<f64> = complete.iter().flat_map(|&i| &x[i * DIM..][..DIM]).copied().collect();
        for (expected, &i) in log_densities(&model, &rows).iter().zip(&complete) {
            assert_close(densities[i], *expected, 1e-12, name);
        }
        assert!(densities[1].abs() < 1e-14, "{name}: of nothing {}", densities[1]);
        // For one component the parts add up: p(x) = p(x_0) p(x_1, x_2).
        let theta = model.theta(0).component.to_vec();
        let parameters = Parameters { components: vec![theta], shared: vec![] };
        let single = Mixture::new(example_family(name, DIM), vec![1.0], parameters).unwrap();
        let whole = log_densities(&single, &rows)[0];
        let (mut first, mut rest) = (rows[..DIM].to_vec(), rows[..DIM].to_vec());
        first[1..].fill(f64::NAN);
        rest[0] = f64::NAN;
        let parts = log_densities(&single.ignoring_missing().unwrap(), &[first, rest].concat());
        assert_close(parts[0] + parts[1], whole, 1e-12, name);
        // A label that is certain tells nothing.
        assert!(parts[0] != 0.0 || parts[1] != 0.0);
    }
}

/// Theory 1.3 holds over the observed values: the entropy sum is the bound, between two log-likelihoods.
#[test]
fn entropy_sums_stay_between_log_likelihoods_with_missing_values() {
    let executor = Executor::new(Some(2)).unwrap();
    for name in families() {
        let x = holed(name, 900);
        let points = Points::from_rows(&x, DIM).unwrap();
        for posterior in [Posterior::Exact, Posterior::Hard] {
            let regularization = Regularization { reg_covar: Some(0.0), ..Default::default() };
            let config = Config::default().max_iter(25).tol(0.0).regularization(regularization);
            let spec = MixtureSpec::new(example_family(name, DIM), COMPONENTS)
                .with_posterior(posterior)
                .ignoring_missing()
                .unwrap();
            let fit = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
            assert!(fit.history.records.len() >= 2, "{name}");
            for pair in fit.history.records.windows(2) {
                assert!(pair[0].gap().abs() < 1e-10, "{name} gap {}", pair[0].gap());
                assert!(pair[0].delta() > -1e-12, "{name} delta {}", pair[0].delta());
                if pair[0].events.iter().any(Event::is_repair) {
                    continue;
                }
                let rise = pair[1].log_likelihood - pair[0].entropy_sum.total();
                assert!(rise > -1e-12, "{name}: {rise:e}");
            }
            let score = inference::score(&fit.model, &points, &executor).unwrap();
            let last = fit.last().unwrap();
            assert!(score.log_likelihood >= last.entropy_sum.total() - 1e-12, "{name}");
        }
    }
}

/// Two clusters far apart, of which half of the values are missing: their means are those of what is there.
#[test]
fn means_are_those_of_the_observed_values() {
    let nan = f64::NAN;
    let x = [0.0, 10.0, 2.0, nan, nan, 14.0, 100.0, nan, 104.0, 50.0, nan, 54.0];
    let points = Points::from_rows(&x, 2).unwrap();
    let spec = MixtureSpec::new(registry::build("gaussian-diag", 2).unwrap(), 2);
    let spec = spec.ignoring_missing().unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let fit = em::fit(&spec, &points, &executor, &Config::default(), &mut Silent).unwrap();
    let mut means = fit.model.parameter("means").unwrap();
    if means[0] > means[2] {
        means.rotate_left(2);
    }
    for (found, expected) in means.iter().zip([1.0, 12.0, 102.0, 52.0]) {
        assert!((found - expected).abs() < 1e-6, "{means:?}");
    }
}

#[test]
fn what_cannot_be_ignored_is_refused() {
    let executor = Executor::new(Some(1)).unwrap();
    for name in ["gaussian-tied", "von-mises-fisher", "gaussian-full:0-1,poisson:2"] {
        let refused = MixtureSpec::new(registry::build(name, 3).unwrap(), 2);
        let fault = refused.ignoring_missing().unwrap_err().to_string();
        assert!(fault.contains(&format!("{name} cannot ignore missing values")), "{fault}");
    }

    // Infinite values are no missing ones, and the row before them, which is, is not blamed.
    let model = example_mixture("gaussian-diag", DIM, COMPONENTS).ignoring_missing().unwrap();
    let mut x = holed("gaussian-diag", 50);
    x[40 * DIM + 2] = f64::INFINITY;
    let points = Points::from_rows(&x, DIM).unwrap();
    let Err(Error::Data(fault)) = inference::score(&model, &points, &executor) else { panic!() };
    assert_eq!((fault.row, fault.column), (Some(40), Some(2)), "{fault}");

    // A column without any value has no parameters.
    let x: Vec<f64> = (0..60).map(|k| if k % 2 == 1 { f64::NAN } else { f64::from(k) }).collect();
    let points = Points::from_rows(&x, 2).unwrap();
    let spec = MixtureSpec::new(registry::build("poisson", 2).unwrap(), 2);
    let spec = spec.ignoring_missing().unwrap();
    let fault = em::fit(&spec, &points, &executor, &Config::default(), &mut Silent);
    let fault = fault.unwrap_err().to_string();
    assert!(fault.contains("column 1: all of the 30 values looked at are missing"), "{fault}");
}
