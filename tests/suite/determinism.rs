//! The same bits on any number of threads.

use crate::common;

use common::{assert_all_close, clusters, gaussians, rounded};
use entropysum::Executor;
use entropysum::Scalar;
use entropysum::data::Points;
use entropysum::em::{self, Config, MixtureSpec};
use entropysum::expert::Sweeper;
use entropysum::family::registry;
use entropysum::model::{Mixture, Posterior};
use entropysum::monitor::Silent;

/// Models too large for a copy of their sums in every lane are swept in two halves: the same numbers, and the same bits
/// on any number of threads.
fn halves_match_lanes<T: Scalar>(tolerance: f64) {
    let (n, dim, components) = (5_003, 12, 4);
    let mut values = clusters(n, dim, components, 2.0, 8);
    // One narrow cluster far away takes the centred kernel.
    values.iter_mut().enumerate().filter(|(k, _)| (k / dim) % components == 1).for_each(
        |(_, v)| {
            *v = 4e4 + 1e-2 * *v;
        },
    );
    let x: Vec<T> = rounded(&values);
    let weights: Vec<f64> = (0..n).map(|i| 0.5 + (i % 3) as f64).collect();
    let points = Points::from_rows(&x, dim).unwrap().with_weights(weights).unwrap();
    let config = Config::default().max_iter(2);
    for name in gaussians() {
        for posterior in [Posterior::Exact, Posterior::Hard] {
            let executor = Executor::new(Some(2)).unwrap();
            let family = registry::build(name, dim).unwrap();
            let spec = MixtureSpec::new(family, components).with_posterior(posterior);
            let model = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap().model;
            let lanes = Sweeper::<T, _>::new(&points, &executor).sweep(&model).unwrap();
            let halves = [1, 2, 7].map(|threads| {
                let executor = Executor::new(Some(threads)).unwrap();
                let mut sweeper = Sweeper::<T, _>::new(&points, &executor).with_lane_memory(0);
                let first = sweeper.sweep(&model).unwrap();
                assert_eq!(
                    first,
                    sweeper.sweep(&model).unwrap(),
                    "{name}: a second sweep knows the constants"
                );
                first
            });
            assert!(halves[0] == halves[1] && halves[0] == halves[2], "{name} {posterior:?}");
            assert_eq!(lanes.centres(), halves[0].centres());
            assert_all_close(halves[0].as_slice(), lanes.as_slice(), tolerance, name);
        }
    }
}

#[test]
fn sweeps_in_two_halves_have_the_same_sums_and_the_same_bits_on_any_threads() {
    let x = clusters(3_000, 4, 2, 1.0, 8);
    let points = Points::from_rows(&x, 4).unwrap();
    let executor = Executor::new(Some(2)).unwrap();
    let model = |mean: f64, width: f64| {
        let family = registry::build("gaussian-full", 4).unwrap();
        let identity =
            |v: f64| (0..16).map(|k| if k % 5 == 0 { v } else { 0.0 }).collect::<Vec<f64>>();
        let (means, mut covariances) = ([vec![0.0; 4], vec![mean; 4]].concat(), identity(1.0));
        covariances.extend(identity(width));
        let array = |name: &str| if name == "means" { &means } else { &covariances };
        Mixture::from_arrays(family, vec![0.5; 2], |name| Some(array(name).as_slice())).unwrap()
    };
    // What a lane keeps between sweeps must fit parameters of another kind: packed, then one component centred.
    let (near, far) = (model(1.0, 1.0), model(1e4, 1e-4));
    let mut sweeper = Sweeper::<f64, _>::new(&points, &executor).with_lane_memory(0);
    for model in [&near, &far, &near] {
        let fresh = Sweeper::<f64, _>::new(&points, &executor).sweep(model).unwrap();
        let halves = sweeper.sweep(model).unwrap();
        assert_all_close(halves.as_slice(), fresh.as_slice(), 1e-11, "after other parameters");
    }

    halves_match_lanes::<f64>(1e-11);
    // Sums of a thousand numbers of order 1, in tiles of other points.
    halves_match_lanes::<f32>(5e-5);
}

/// What is summed once for all is summed anew for a model with another centre.
#[test]
fn a_sweeper_serves_models_about_other_centres() {
    let x = clusters(2_000, 2, 2, 3.0, 1);
    let points = Points::from_rows(&x, 2).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let model = |shift: f64| {
        let family = registry::build("gaussian-tied", 2).unwrap();
        let (means, covariance) = ([shift, 0.0, 1.0, shift], [2.0, 0.5, 0.5, 1.0]);
        let array = |name: &str| if name == "means" { means.to_vec() } else { covariance.to_vec() };
        let (means, covariance) = (array("means"), array("covariances"));
        Mixture::from_arrays(family, vec![0.5; 2], |n| {
            Some(if n == "means" { &means } else { &covariance })
        })
        .unwrap()
    };
    let mut sweeper = Sweeper::<f64, _>::new(&points, &executor);
    for shift in [0.0, 3.0, -1.0] {
        let model = model(shift);
        let fresh = Sweeper::<f64, _>::new(&points, &executor).sweep(&model).unwrap();
        assert_eq!(sweeper.sweep(&model).unwrap(), fresh);
    }
}
