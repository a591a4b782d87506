//! Fits over all points that are stopped, kept and gone on with.

use crate::common::{example_mixture, example_points};
use entropysum::Executor;
use entropysum::data::Points;
use entropysum::em::{Checkpoint, Config, Fitting, LinearGaussianSpec, Saved, StreamConfig};
use entropysum::error::Error;
use entropysum::model::{LinearGaussian, Mixture};
use entropysum::monitor::{Monitor, StopReason};
use entropysum::store;
use std::time::Duration;

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
