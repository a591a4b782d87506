//! Priors of covariances: closed M-steps, known gaps, objectives that rise, and fits that are kept.

use crate::common;

use common::{assert_close, clusters, gaussians, resumed};
use entropysum::Executor;
use entropysum::data::Points;
use entropysum::em::{self, Config, Fit, Fitting, MixtureSpec, StreamAlgorithm, StreamConfig};
use entropysum::error::Error;
use entropysum::family::{ConjugatePrior, Regularization, registry};
use entropysum::inference;
use entropysum::model::{Mixture, Posterior};
use entropysum::monitor::{Monitor, Silent};
use entropysum::store;

fn config() -> Config {
    let prior = Some(ConjugatePrior::default());
    Config::default().regularization(Regularization { prior, ..Default::default() })
}

fn fit(name: &str, n_components: usize, x: &[f64], dim: usize, config: &Config) -> Fit<Mixture> {
    let points = Points::from_rows(x, dim).unwrap();
    let spec = MixtureSpec::new(registry::build(name, dim).unwrap(), n_components);
    em::fit(&spec, &points, &Executor::new(Some(1)).unwrap(), config, &mut Silent).unwrap()
}

/// The covariance of all points, row-major.
fn covariance(x: &[f64], dim: usize) -> Vec<f64> {
    let n = (x.len() / dim) as f64;
    let mean = |d: usize| x.iter().skip(d).step_by(dim).sum::<f64>() / n;
    let means: Vec<f64> = (0..dim).map(mean).collect();
    let entry = |k: usize| {
        let (i, j) = (k / dim, k % dim);
        x.chunks(dim).map(|row| (row[i] - means[i]) * (row[j] - means[j])).sum::<f64>() / n
    };
    (0..dim * dim).map(entry).collect()
}

/// `tr A⁻¹ B` and `ln |A|` by elimination.
fn trace_and_log_det(a: &[f64], b: &[f64], dim: usize) -> (f64, f64) {
    let (mut a, mut b, mut log_det) = (a.to_vec(), b.to_vec(), 0.0);
    for k in 0..dim {
        let pivot = a[k * dim + k];
        log_det += pivot.ln();
        for j in 0..dim {
            a[k * dim + j] /= pivot;
            b[k * dim + j] /= pivot;
        }
        for i in (0..dim).filter(|&i| i != k) {
            let factor = a[i * dim + k];
            for j in 0..dim {
                a[i * dim + j] -= factor * a[k * dim + j];
                b[i * dim + j] -= factor * b[k * dim + j];
            }
        }
    }
    ((0..dim).map(|k| b[k * dim + k]).sum(), log_det)
}

/// Returns gap and log-prior of parameters, as the documentation of the prior has them.
fn expected(model: &Mixture, x: &[f64], n_components: usize, dim: usize) -> (f64, f64) {
    let (n, d) = ((x.len() / dim) as f64, dim as f64);
    let part = (n_components as f64).powf(-2.0 / d);
    let scale: Vec<f64> = covariance(x, dim).iter().map(|v| part * v).collect();
    let diagonal: Vec<f64> = (0..dim).map(|k| scale[k * dim + k]).collect();
    let covariances = model.parameter("covariances").unwrap();
    let n_covariances = if model.parameters().shared.is_empty() { n_components } else { 1 };
    let (mut gap, mut log_prior) = (0.0, 0.0);
    for own in covariances.chunks(covariances.len() / n_covariances) {
        // Pairs of trace, log-determinant, count and number of values.
        let (trace, log_det, count, values) = match own.len() {
            1 => (diagonal.iter().sum::<f64>() / d / own[0], own[0].ln(), d + 4.0, 1.0),
            len if len == dim => {
                let traces = own.iter().zip(&diagonal).map(|(v, s)| s / v);
                (traces.sum(), own.iter().map(|v| v.ln()).sum(), d + 4.0, d)
            }
            _ => {
                let (trace, log_det) = trace_and_log_det(own, &scale, dim);
                (trace, log_det, 2.0 * d + 3.0, d)
            }
        };
        gap += 0.5 * (trace - count * values) / n;
        log_prior -= 0.5 * (count * log_det + trace) / n;
    }
    (gap, log_prior)
}

#[test]
fn a_prior_leaves_the_known_gap_and_its_objective_rises() {
    for (dim, n_components) in [(1, 2), (3, 4)] {
        let x = clusters(240, dim, n_components, 1.2, 4);
        for name in gaussians() {
            for posterior in [Posterior::Exact, Posterior::Hard] {
                let points = Points::from_rows(&x, dim).unwrap();
                let family = registry::build(name, dim).unwrap();
                let spec = MixtureSpec::new(family, n_components).with_posterior(posterior);
                let executor = Executor::new(Some(1)).unwrap();
                let config = config().tol(0.0).max_iter(12);
                let fit = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
                let (gap, log_prior) = expected(&fit.model, &x, n_components, dim);
                let last = fit.last().unwrap();
                assert!((last.gap() - gap).abs() < 1e-13, "{name}: {} {gap}", last.gap());
                assert_close(last.log_prior.unwrap(), log_prior, 1e-12, name);
                assert!(gap.abs() > 1e-4, "{name}: {gap}");
                let rises = fit.history.records.windows(2);
                let rises: Vec<f64> =
                    rises.map(|it| it[1].objective() - it[0].objective()).collect();
                assert!(rises.iter().all(|&rise| rise > -1e-13), "{name}: {rises:?}");
            }
        }
    }
}

/// By hand: ten whole numbers have the scatter 82.5 and the variance 8.25, so that the mode is (82.5 + 8.25) / (10 + 5). In D
/// dimensions a single full covariance is that of the points times (N + 1) / (N + 2 D + 3).
#[test]
fn a_single_component_has_the_mode_in_closed_form() {
    let x: Vec<f64> = (0..10).map(f64::from).collect();
    for name in gaussians() {
        let variance = fit(name, 1, &x, 1, &config()).model.parameter("covariances").unwrap();
        assert_close(variance[0], 6.05, 1e-13, name);
    }
    let x = clusters(50, 3, 2, 1.0, 7);
    let found = fit("gaussian-full", 1, &x, 3, &config()).model;
    for (found, own) in found.parameter("covariances").unwrap().iter().zip(covariance(&x, 3)) {
        assert_close(*found, own * 51.0 / 59.0, 1e-12, "full");
    }
}

/// Values at a single place are a spike without bound for a likelihood, and a component of finite width under a prior.
#[test]
fn a_prior_keeps_components_from_ties() {
    let mut x = clusters(200, 1, 1, 1.0, 5);
    x.extend([0.25; 40]);
    let without = fit("gaussian-diag", 3, &x, 1, &Config::default().n_init(5));
    let with = fit("gaussian-diag", 3, &x, 1, &config().n_init(5));
    assert_eq!((without.floored.is_empty(), with.floored.is_empty()), (false, true));
    let least = |fit: &Fit<Mixture>| {
        let variances = fit.model.parameter("covariances").unwrap();
        variances.into_iter().fold(f64::INFINITY, f64::min)
    };
    assert!(least(&without) < 1e-4 && least(&with) > 1e-3, "{} {}", least(&without), least(&with));
    // The report's likelihood is that of the parameters alone.
    let points = Points::from_rows(&x, 1).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let score = inference::score(&with.model, &points, &executor).unwrap();
    assert!((score.log_likelihood - with.last().unwrap().lower_bound).abs() < 1e-3);
}

#[test]
fn values_that_are_not_missing_have_the_same_prior() {
    let x = clusters(150, 3, 2, 1.5, 2);
    let points = Points::from_rows(&x, 3).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    for name in ["gaussian-diag", "gaussian-spherical"] {
        let spec = MixtureSpec::new(registry::build(name, 3).unwrap(), 2);
        let config = config().tol(0.0).max_iter(5);
        let fit = |spec: &MixtureSpec| {
            em::fit(spec, &points, &executor, &config, &mut Silent).unwrap().last().unwrap().clone()
        };
        let (complete, holed) = (fit(&spec), fit(&spec.clone().ignoring_missing().unwrap()));
        assert_close(complete.objective(), holed.objective(), 1e-12, name);
        assert_close(complete.log_prior.unwrap(), holed.log_prior.unwrap(), 1e-12, name);
    }
}

/// Incremental EM has the statistics of all points, so that it ends where batch EM ends. Stepwise EM sees means of
/// statistics, against which the prior must not count more than against all points.
#[test]
fn minibatches_weigh_the_prior_as_all_points_do() {
    let x = clusters(4_000, 2, 2, 3.0, 9);
    let points = Points::from_rows(&x, 2).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let spec = MixtureSpec::new(registry::build("gaussian-full", 2).unwrap(), 2);
    let config = config().tol(1e-9).max_iter(500);
    let batch = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
    for (algorithm, tolerance) in
        [(StreamAlgorithm::Incremental, 1e-7), (StreamAlgorithm::Stepwise, 1e-3)]
    {
        let stream = StreamConfig::default().algorithm(algorithm).batch_size(500).epochs(60);
        let fitting = Fitting::new(&points, &executor).config(&config).minibatches(&stream);
        let fit = fitting.fit(&spec).unwrap();
        let (found, expected) = (fit.last().unwrap(), batch.last().unwrap());
        let what = algorithm.name();
        assert!((found.objective() - expected.objective()).abs() < tolerance, "{what}");
        let log_priors = found.log_prior.unwrap() - expected.log_prior.unwrap();
        assert!(log_priors.abs() < 1e-4, "{what}: {log_priors}");
        assert!((found.gap() - expected.gap()).abs() < 1e-4, "{what}");
    }
}

#[test]
fn a_fit_goes_on_under_its_own_prior_only() {
    let x = clusters(300, 2, 3, 1.0, 3);
    let points = Points::from_rows(&x, 2).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let spec = MixtureSpec::new(registry::build("gaussian-full", 2).unwrap(), 3);
    let config = config().tol(1e-9).max_iter(30);
    let whole = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
    for fit in resumed(&spec, &points, &executor, &config, None, 3).0 {
        assert_eq!(fit.model.parameters(), whole.model.parameters());
        assert_eq!(fit.last().unwrap().log_prior, whole.last().unwrap().log_prior);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept");
    Fitting::new(&points, &executor)
        .config(&config)
        .checkpoints(std::time::Duration::MAX, |state| store::save_checkpoint(&path, state))
        .fit(&spec)
        .unwrap();
    let without = config.regularization(Regularization::default());
    let saved = store::load_checkpoint::<Mixture>(&path).unwrap();
    let refused = Fitting::new(&points, &executor).config(&without).resume(saved).fit(&spec);
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("prior") && text.contains("conjugate"), "{text}");
}

#[test]
fn priors_that_mean_nothing_are_refused() {
    let x: Vec<f64> = (0..30).map(|i| f64::from(i % 7)).collect();
    let points = Points::from_rows(&x, 1).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let refused = |name: &str, config: &Config| {
        let spec = MixtureSpec::new(registry::build(name, 1).unwrap(), 2);
        match em::fit(&spec, &points, &executor, config, &mut Silent) {
            Err(Error::Config(text)) => text,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused("poisson", &config()).contains("no covariances"));
    let delta = config().monitor(Monitor::Delta);
    assert!(refused("gaussian-full", &delta).contains("another monitor"));
    let prior = Some(ConjugatePrior { total_weight: Some(0.0) });
    let weightless = Regularization { prior, ..Default::default() };
    let weightless = Config::default().regularization(weightless);
    assert!(refused("gaussian-full", &weightless).contains("finite number > 0"));
    let prior = Some(ConjugatePrior::default());
    let both = Regularization { prior, reg_covar: Some(0.1), ..Default::default() };
    let both = Config::default().regularization(both);
    assert!(refused("gaussian-full", &both).contains("give one of them"));
}
