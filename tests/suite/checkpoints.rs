//! Fits over all points that are stopped, kept and gone on with.

use crate::common::{StopAfter, clusters, example_mixture, example_points};
use entropysum::data::memory::Points;
use entropysum::data::shuffle::BadRows;
use entropysum::em::factor_analyzers::start_factor_analyzers;
use entropysum::em::linear_gaussian::Summary;
use entropysum::em::{
    self, Algorithm, BatchState, Begin, Checkpoints, Config, FactorAnalyzersSpec, Fit,
    LinearGaussianSpec, SbnSpec, sbn,
};
use entropysum::error::{Error, Result};
use entropysum::exec::Executor;
use entropysum::family::Regularization;
use entropysum::model::sbn::LatentPosterior;
use entropysum::model::{Mixture, NoiseStructure, Posterior};
use entropysum::monitor::{Monitor, Observer, Silent, StopReason};
use entropysum::store::{self, Stored};
use std::path::Path;
use std::time::Duration;

type Run<'a, M> = dyn Fn(
        Option<BatchState<M>>,
        &mut dyn Observer,
        Option<Checkpoints<'_, BatchState<M>>>,
    ) -> Result<Fit<M>>
    + 'a;

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

/// Stops a fit after every so many iterations, goes on from a file each time, and compares with one that was never stopped.
fn ends_with_the_same_bits<M: Stored>(what: &str, every: u64, run: &Run<'_, M>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let whole = run(None, &mut Silent, None).unwrap();
    let iterations = whole.history.records.len();
    assert!(
        iterations as u64 > 3 * every,
        "{what}: {iterations} iterations stop too early for this test"
    );
    let mut save = |state: &BatchState<M>| store::save_checkpoint(&path, state);
    let mut state = None;
    let mut stops = 0;
    let fit = loop {
        let checkpoints = Checkpoints { every: Duration::MAX, save: &mut save };
        let fit = run(state, &mut StopAfter(every), Some(checkpoints)).unwrap();
        if fit.stop_reason != StopReason::Interrupted {
            break fit;
        }
        stops += 1;
        state = Some(store::load_batch_checkpoint(&path).unwrap());
    };
    assert!(stops >= 3, "{what}: {stops} stops");
    assert_eq!(fit.stop_reason, whole.stop_reason, "{what}");
    let expected = bits(&whole, folder.path());
    assert_eq!(bits(&fit, folder.path()), expected, "{what}");

    // The last checkpoint is that of the end; going on from it changes nothing.
    let state = store::load_batch_checkpoint(&path).unwrap();
    let again = run(Some(state), &mut Silent, None).unwrap();
    assert_eq!(again.stop_reason, whole.stop_reason, "{what}");
    assert_eq!(bits(&again, folder.path()), expected, "{what}, again");
}

fn begin<M>(kept: Option<BatchState<M>>, start: &M) -> Begin<M>
where
    M: Clone,
{
    kept.map_or_else(|| Begin::Afresh(start.clone()), Begin::Kept)
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
        let config = Config { tol: 1e-9, max_iter: 40, regularization, ..Config::default() };
        let every = if posterior == Posterior::Hard { 2 } else { 4 };
        ends_with_the_same_bits::<Mixture>(name, every, &|kept, observer, checkpoints| {
            em::fit_from(begin(kept, &start), &points, &executor, &config, observer, checkpoints)
        });
    }
}

#[test]
fn resumed_linear_gaussian_models_end_with_the_same_bits() {
    let mut x = clusters(800, 6, 3, 1.0, 8);
    let executor = Executor::new(Some(1)).unwrap();
    let config = Config { tol: 1e-10, max_iter: 60, ..Config::default() };
    for missing in [false, true] {
        if missing {
            x.iter_mut().step_by(11).for_each(|value| *value = f64::NAN);
        }
        let points = Points::from_rows(&x, 6).unwrap();
        for spec in [
            LinearGaussianSpec::ppca(2).with_algorithm(Algorithm::Em),
            LinearGaussianSpec::ppca(2).with_algorithm(Algorithm::PxEm),
            LinearGaussianSpec::factor_analysis(2).with_algorithm(Algorithm::Em),
            LinearGaussianSpec::factor_analysis(2),
        ] {
            let spec = if missing { spec.ignoring_missing() } else { spec };
            let what = format!("{spec:?}");
            let summary = Summary::new(&spec, &points, &executor).unwrap();
            ends_with_the_same_bits(&what, 2, &|kept, observer, checkpoints| {
                summary.fit_from(&spec, kept, &config, observer, checkpoints)
            });
        }
    }
}

#[test]
fn resumed_factor_analysers_end_with_the_same_bits() {
    let x = clusters(900, 5, 2, 2.0, 4);
    let points = Points::from_rows(&x, 5).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let config = Config { tol: 1e-9, max_iter: 40, ..Config::default() };
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
        ends_with_the_same_bits(&what, 4, &|kept, observer, checkpoints| {
            em::fit_from(begin(kept, &start), &points, &executor, &config, observer, checkpoints)
        });
    }
}

#[test]
fn resumed_networks_end_with_the_same_bits_and_keep_their_sets_of_states() {
    const DIM: usize = 6;
    let x: Vec<f64> = clusters(600, DIM, 4, 2.0, 3).iter().map(|v| f64::from(*v > 0.0)).collect();
    let points = Points::from_rows(&x, DIM).unwrap();
    let executor = Executor::new(Some(2)).unwrap();
    let config = Config { tol: 0.0, max_iter: 30, ..Config::default() };
    for (hidden, posterior) in [
        (None, LatentPosterior::Exact),
        (None, LatentPosterior::Truncated { states: 3 }),
        (Some(3), LatentPosterior::Truncated { states: 5 }),
    ] {
        let spec = SbnSpec { hidden, ridge: 1e-3, ..SbnSpec::new(2).with_posterior(posterior) };
        let what = format!("{spec:?}");
        ends_with_the_same_bits(&what, 7, &|kept, observer, checkpoints| {
            let begin = match kept {
                Some(state) => Begin::Kept(state),
                None => Begin::Afresh(sbn::first(&spec, &points, config.seed, 0, BadRows::Error)?),
            };
            sbn::fit_from(&spec, begin, &points, &executor, &config, observer, checkpoints)
        });
    }
}

#[test]
fn checkpoints_of_other_fits_and_damaged_ones_are_refused() {
    let start = example_mixture("gaussian-diag", 2, 3);
    let x = example_points(start.family(), 500, 3, 6);
    let points = Points::from_rows(&x, 2).unwrap();
    let fewer = Points::from_rows(&x[..800], 2).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let config = Config { max_iter: 3, tol: 0.0, ..Config::default() };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let mut save = |state: &BatchState<Mixture>| store::save_checkpoint(&path, state);
    let checkpoints = Checkpoints { every: Duration::ZERO, save: &mut save };
    let begin = Begin::Afresh(start);
    let fit =
        em::fit_from(begin, &points, &executor, &config, &mut Silent, Some(checkpoints)).unwrap();
    assert_eq!(fit.stop_reason, StopReason::MaxIterations);
    let kept = || store::load_batch_checkpoint::<Mixture>(&path).unwrap();
    let go_on = |state, points: &Points<'_, f64>, config: &Config| {
        em::fit_from(Begin::Kept(state), points, &executor, config, &mut Silent, None)
    };
    // More iterations are asked for: that is no other fit.
    let more = go_on(kept(), &points, &Config { max_iter: 7, ..config.clone() }).unwrap();
    assert_eq!(more.history.records.len(), 7);
    for fault in [
        go_on(kept(), &fewer, &config),
        go_on(kept(), &points, &Config { monitor: Monitor::LowerBound, ..config.clone() }),
        go_on(kept(), &points, &Config { seed: 1, ..config.clone() }),
    ] {
        let fault = fault.unwrap_err().to_string();
        assert!(fault.contains("the checkpoint is of another fit"), "{fault}");
    }
    for cut in [0, 1, 5] {
        let mut state = kept();
        state.numbers.truncate(state.numbers.len() - 1 - cut);
        let fault = go_on(state, &points, &config).unwrap_err();
        assert!(matches!(&fault, Error::Model(text) if text.contains("damaged")), "{fault}");
    }
    let mut state = kept();
    state.numbers.push(0.0);
    assert!(go_on(state, &points, &config).is_err());
    let bytes = std::fs::read(&path).unwrap();
    for cut in [0, 7, 100, bytes.len() / 2, bytes.len() - 8] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        assert!(store::load_batch_checkpoint::<Mixture>(&path).is_err(), "{cut}");
    }

    // What cannot be read ends a fit, not what it learned before.
    let closed = LinearGaussianSpec::ppca(1);
    let summary = Summary::new(&closed, &points, &executor).unwrap();
    let fault = summary.fit_from(&closed, None, &config, &mut Silent, None).unwrap_err();
    assert!(fault.to_string().contains("no iterations"), "{fault}");
}
