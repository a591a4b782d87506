//! Fits over all points that are stopped, kept and gone on with.

use crate::common::{clusters, example_mixture, example_points, resumed};
use entropysum::Executor;
use entropysum::data::Points;
use entropysum::em::{
    self, Checkpoint, Config, FactorAnalyzersSpec, Fit, Fitting, LinearGaussianAlgorithm,
    LinearGaussianSpec, Saved, SbnSpec, Spec, StreamConfig,
};
use entropysum::error::Error;
use entropysum::expert::start_factor_analyzers;
use entropysum::expert::store::Stored;
use entropysum::family::Regularization;
use entropysum::model::{LatentPosterior, LinearGaussian, Mixture, NoiseStructure, Posterior};
use entropysum::monitor::{Monitor, Silent, StopReason};
use entropysum::store;
use std::path::Path;
use std::time::Duration;

/// All of a fit but how long it took.
fn bits<M: Stored>(fit: &Fit<M>, folder: &Path) -> (Vec<u64>, Vec<u8>, Vec<String>) {
    let records = fit.history.records.iter().flat_map(|r| {
        let sum = &r.entropy_sum;
        [
            sum.posterior,
            sum.prior,
            sum.hidden,
            sum.observable,
            sum.base_measure,
            r.lower_bound,
            r.log_likelihood,
            r.change,
            r.points_seen as f64,
            r.iteration as f64,
        ]
        .map(f64::to_bits)
    });
    let path = folder.join("fitted.safetensors");
    store::save(&path, &fit.model).unwrap();
    (records.collect(), std::fs::read(&path).unwrap(), fit.warnings.clone())
}

/// Compares a fit that is stopped and resumed with a fit that was never stopped.
fn ends_with_the_same_bits<S: Spec<f64, Model: Stored>>(
    what: &str,
    every: u64,
    spec: &S,
    points: &Points<'_, f64>,
    executor: &Executor,
    config: &Config,
) {
    let folder = tempfile::tempdir().unwrap();
    let whole = em::fit(spec, points, executor, config, &mut Silent).unwrap();
    let expected = bits(&whole, folder.path());
    for fit in resumed(spec, points, executor, config, None, every).0 {
        assert_eq!(fit.stop_reason, whole.stop_reason, "{what}");
        assert_eq!(bits(&fit, folder.path()), expected, "{what}");
    }
}

#[test]
fn resumed_mixtures_end_with_the_same_bits_as_ones_that_were_never_stopped() {
    let executor = Executor::new(Some(2)).unwrap();
    for (name, posterior, reg_covar) in [
        ("gaussian-full", Posterior::Exact, None),
        ("gaussian-tied", Posterior::Exact, None), // a constant of the first sweep
        ("gaussian-diag", Posterior::Hard, Some(1e-3)),
        ("poisson", Posterior::Exact, None), // a base measure
        ("gamma", Posterior::Exact, None),
    ] {
        let start = example_mixture(name, 3, 4).with_posterior(posterior);
        let x = example_points(start.family(), 3_000, 3, 5);
        let points = Points::from_rows(&x, 3).unwrap();
        let regularization = Regularization { reg_covar, ..Regularization::default() };
        let config = Config::default().tol(1e-9).max_iter(40).regularization(regularization);
        let every = if posterior == Posterior::Hard { 2 } else { 4 };
        ends_with_the_same_bits(name, every, &start, &points, &executor, &config);
    }
}

#[test]
fn resumed_linear_gaussian_models_end_with_the_same_bits() {
    let mut x = clusters(800, 6, 3, 1.0, 8);
    let executor = Executor::new(Some(1)).unwrap();
    let config = Config::default().tol(1e-10).max_iter(60);
    for missing in [false, true] {
        if missing {
            x.iter_mut().step_by(11).for_each(|value| *value = f64::NAN);
        }
        let points = Points::from_rows(&x, 6).unwrap();
        for spec in [
            LinearGaussianSpec::ppca(2).with_algorithm(LinearGaussianAlgorithm::Em),
            LinearGaussianSpec::ppca(2).with_algorithm(LinearGaussianAlgorithm::PxEm),
            LinearGaussianSpec::factor_analysis(2).with_algorithm(LinearGaussianAlgorithm::Em),
            LinearGaussianSpec::factor_analysis(2),
        ] {
            let spec = if missing { spec.ignoring_missing() } else { spec };
            let what = format!("{spec:?}");
            ends_with_the_same_bits(&what, 2, &spec, &points, &executor, &config);
        }
    }
}

#[test]
fn resumed_factor_analysers_end_with_the_same_bits() {
    let x = clusters(900, 5, 2, 2.0, 4);
    let points = Points::from_rows(&x, 5).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let config = Config::default().tol(1e-9).max_iter(40);
    for (noise, expanded) in [
        (NoiseStructure::Diagonal, true),
        (NoiseStructure::Diagonal, false),
        (NoiseStructure::Isotropic, true),
        (NoiseStructure::Tied, true),
    ] {
        let spec = FactorAnalyzersSpec::new(noise, 2, 2);
        let (start, _) = start_factor_analyzers(&spec, &points, &executor, &config, 0).unwrap();
        let start = start.with_parameter_expansion(expanded);
        let what = format!("{noise:?}, expanded {expanded}");
        ends_with_the_same_bits(&what, 4, &start, &points, &executor, &config);
    }
}

#[test]
fn resumed_networks_end_with_the_same_bits_and_keep_their_sets_of_states() {
    const DIM: usize = 6;
    let x: Vec<f64> = clusters(600, DIM, 4, 2.0, 3).iter().map(|v| f64::from(*v > 0.0)).collect();
    let points = Points::from_rows(&x, DIM).unwrap();
    let executor = Executor::new(Some(2)).unwrap();
    let config = Config::default().tol(0.0).max_iter(30);
    for (hidden, posterior) in [
        (None, LatentPosterior::Exact),
        (None, LatentPosterior::Truncated { states: 3 }),
        (Some(3), LatentPosterior::Truncated { states: 5 }),
    ] {
        let spec = SbnSpec { hidden, ridge: 1e-3, ..SbnSpec::new(2).with_posterior(posterior) };
        let what = format!("{spec:?}");
        ends_with_the_same_bits(&what, 7, &spec, &points, &executor, &config);
    }
}

#[test]
fn checkpoints_of_other_fits_and_damaged_ones_are_refused() {
    let start = example_mixture("gaussian-diag", 2, 3);
    let x = example_points(start.family(), 500, 3, 6);
    let points = Points::from_rows(&x, 2).unwrap();
    let fewer = Points::from_rows(&x[..800], 2).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let config = Config::default().max_iter(3).tol(0.0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let fit = Fitting::new(&points, &executor)
        .config(&config)
        .checkpoints(Duration::ZERO, |state| store::save_checkpoint(&path, state))
        .fit(&start)
        .unwrap();
    assert_eq!(fit.stop_reason, StopReason::MaxIterations);
    let load = || store::load_checkpoint::<Mixture>(&path);
    let go_on = |saved: Saved<Mixture>, points: &Points<'_, f64>, config: &Config| {
        Fitting::new(points, &executor).config(config).resume(saved).fit(&start)
    };
    // More iterations are asked for: that is no other fit.
    let more = go_on(load().unwrap(), &points, &config.clone().max_iter(7)).unwrap();
    assert_eq!(more.history.records.len(), 7);
    let stream = StreamConfig::default();
    let by_minibatches = Fitting::new(&points, &executor)
        .config(&config)
        .minibatches(&stream)
        .resume(load().unwrap())
        .fit(&start);
    let bound = config.clone().monitor(Monitor::LowerBound);
    for (fault, said) in [
        (go_on(load().unwrap(), &fewer, &config), "n_points 500 there and 400 here"),
        (
            go_on(load().unwrap(), &points, &bound),
            "monitor \"entropy-sum\" there and \"lower-bound\" here",
        ),
        (go_on(load().unwrap(), &points, &config.clone().seed(1)), "seed 0 there and 1 here"),
        (by_minibatches, "batch_size absent there and 4096 here"),
    ] {
        let fault = fault.unwrap_err().to_string();
        assert!(fault.contains("the checkpoint is of another fit"), "{fault}");
        assert!(fault.contains(said), "{fault}");
    }
    for cut in [0, 1, 5] {
        let mut saved = load().unwrap();
        saved.state.truncate(saved.state.len() - 1 - cut);
        let fault = go_on(saved, &points, &config).unwrap_err();
        assert!(matches!(&fault, Error::Model(text) if text.contains("damaged")), "{fault}");
    }
    let mut saved = load().unwrap();
    saved.state.push(0);
    assert!(go_on(saved, &points, &config).is_err());
    let bytes = std::fs::read(&path).unwrap();
    for cut in [0, 7, 30, 100, bytes.len() / 2, bytes.len() - 8, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let fault = load().unwrap_err().to_string();
        assert!(fault.starts_with(path.to_str().unwrap()), "{cut}: {fault}");
    }
    // No bit that flips is read over.
    for at in (0..bytes.len()).step_by(bytes.len() / 97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(&path, &damaged).unwrap();
        assert!(load().is_err(), "byte {at} of {}", bytes.len());
    }

    let closed = LinearGaussianSpec::ppca(1);
    let mut save = |_: &Checkpoint<'_, LinearGaussian>| Ok(());
    let fitting = Fitting::new(&points, &executor).checkpoints(Duration::ZERO, &mut save);
    let fault = fitting.fit(&closed).unwrap_err();
    assert!(fault.to_string().contains("no iterations"), "{fault}");
}
