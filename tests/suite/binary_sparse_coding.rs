//! Binary sparse coding: EM in 40 digits, sums over all states, planted causes, bits, and points that break naive learners.

use crate::common::{assert_all_close, assert_close, drawn, fixture, numbers, rounded};
use entropysum::data::Points;
use entropysum::em::{self, Config, SbnSpec};
use entropysum::expert::criterion;
use entropysum::model::{LatentPosterior, Layer, Noise, SigmoidBeliefNet};
use entropysum::monitor::Silent;
use entropysum::{Executor, Scalar, inference};
use serde_json::Value;

fn one_thread() -> Executor {
    Executor::new(Some(1)).unwrap()
}

fn all_states(latents: u32) -> LatentPosterior {
    LatentPosterior::Truncated { states: 1 << latents }
}

/// Causes that each turn on three of twelve observables, or four.
fn planted(noise: f64) -> SigmoidBeliefNet {
    let weights: Vec<f64> = (0..48).map(|k| if k / 12 == k % 4 { 2.0 } else { 0.0 }).collect();
    let layer = Layer::new(4, &weights, &[-0.5; 12]).unwrap();
    let prior = vec![0.2, 0.3, 0.25, 0.35];
    let isotropic = Noise::Isotropic;
    SigmoidBeliefNet::binary_sparse_coding(prior, layer, isotropic, vec![noise], vec![3.0; 12])
        .unwrap()
}

/// The golden start, and its points.
fn golden(all: &Value, noise: Noise) -> (SigmoidBeliefNet, Points<'static, f64>) {
    let start = &all["start"];
    let weights = numbers(&start["weights"]);
    let layer = Layer::new(3, &weights, &numbers(&start["biases"])).unwrap();
    let mut variances = numbers(&start["noise_variances"]);
    if noise == Noise::Isotropic {
        variances.truncate(1);
    }
    let prior = numbers(&start["prior"]);
    let model =
        SigmoidBeliefNet::binary_sparse_coding(prior, layer, noise, variances, vec![0.0; 4]);
    let model = model.unwrap().with_posterior(all_states(3)).unwrap();
    (model, Points::owned(numbers(&all["data"]["x"]), 4).unwrap())
}

#[test]
fn em_over_all_states_matches_40_digits() {
    let all = fixture("bsc_iris");
    for (noise, name) in [(Noise::Isotropic, "scalar"), (Noise::Diagonal, "diagonal")] {
        let records = all[name].as_array().unwrap();
        let number = |record: &Value, key: &str| record[key].as_f64().unwrap();
        for (t, expected) in records.iter().enumerate() {
            let (start, points) = golden(&all, noise);
            let what = format!("{name}, iteration {t}");
            if t == 0 {
                let score = inference::score(&start, &points, &one_thread()).unwrap();
                let expected = number(expected, "log_likelihood");
                assert_close(score.log_likelihood, expected, 1e-11, &what);
                continue;
            }
            let config = Config::default().max_iter(t).tol(0.0);
            let spec = SbnSpec::from_model(start);
            let fit = em::fit(&spec, &points, &one_thread(), &config, &mut Silent).unwrap();
            let (record, before) = (fit.last().unwrap(), &records[t - 1]);
            let sum = record.entropy_sum;
            for (found, key) in [
                (record.log_likelihood, "log_likelihood"),
                (record.lower_bound, "elbo_after_m"),
                (sum.posterior, "posterior_entropy"),
                (sum.prior, "entropy_prior"),
                (sum.observable, "entropy_observable"),
            ] {
                assert_close(found, number(before, key), 1e-10, &format!("{what} {key}"));
            }
            assert!(record.gap().abs() < 1e-12, "{what}: {}", record.gap());
            for (array, key) in [
                ("prior", "prior"),
                ("noise_variance", "noise_variances"),
                ("weights", "weights"),
                ("biases", "biases"),
            ] {
                if before.get(key).is_none() {
                    continue;
                }
                let found = fit.model.parameter(array).unwrap();
                let expected = numbers(&before[key]);
                assert_all_close(&found, &expected[..found.len()], 1e-10, &format!("{what} {key}"));
            }
            let score = inference::score(&fit.model, &points, &one_thread()).unwrap();
            assert_close(score.log_likelihood, number(expected, "log_likelihood"), 1e-10, &what);
        }
    }
}

/// `ln Σ_z p(z) p(x | z)`, `E[z | x]` and `E[W z + μ | x]` by brute force, against scores, latents and reconstructions.
#[test]
fn scores_and_latents_are_sums_over_all_states() {
    let model = planted(0.4).with_posterior(all_states(4)).unwrap();
    let x = drawn(&model, 40, 1);
    let points = Points::from_rows(&x, 12).unwrap();
    let (mut scores, mut latents, mut means) = (Vec::new(), Vec::new(), Vec::new());
    inference::score_samples(&model, &points, &one_thread(), |_, values| {
        scores.extend_from_slice(values);
        Ok(())
    })
    .unwrap();
    inference::transform(&model, &points, &one_thread(), |_, values| {
        latents.extend_from_slice(values);
        Ok(())
    })
    .unwrap();
    inference::reconstruct(&model, &points, &one_thread(), |_, values| {
        means.extend_from_slice(values);
        Ok(())
    })
    .unwrap();
    let weights = model.parameter("weights").unwrap();
    for (i, point) in x.chunks(12).enumerate() {
        let mut joints = Vec::new();
        for state in 0..16u32 {
            let z: Vec<f64> = (0..4).map(|h| f64::from(state >> h & 1)).collect();
            let prior = z.iter().zip(model.prior());
            let mut joint: f64 = prior.map(|(z, p)| (z * p + (1.0 - z) * (1.0 - p)).ln()).sum();
            let mean: Vec<f64> = (0..12)
                .map(|d| 2.5 + (0..4).map(|h| weights[4 * d + h] * z[h]).sum::<f64>())
                .collect();
            for (x, mean) in point.iter().zip(&mean) {
                joint -=
                    0.5 * ((2.0 * std::f64::consts::PI * 0.4).ln() + (x - mean) * (x - mean) / 0.4);
            }
            joints.push((joint, z, mean));
        }
        let total: f64 = joints.iter().map(|it| it.0.exp()).sum();
        assert_close(scores[i], total.ln(), 1e-12, "score");
        for h in 0..4 {
            let on: f64 = joints.iter().map(|it| it.1[h] * it.0.exp() / total).sum();
            assert!((latents[4 * i + h] - on).abs() < 1e-12);
        }
        for d in 0..12 {
            let mean: f64 = joints.iter().map(|it| it.2[d] * it.0.exp() / total).sum();
            assert!((means[12 * i + d] - mean).abs() < 1e-11);
        }
    }
}

#[test]
fn the_entropy_sum_is_the_bound_after_each_m_step_and_the_bound_never_falls() {
    fn holds<T: Scalar>(tolerance: f64) {
        let x: Vec<T> = rounded(&drawn(&planted(0.3), 500, 2));
        let weights: Vec<f64> = (0..500).map(|i| 0.5 + f64::from(i % 3)).collect();
        let points = Points::from_rows(&x, 12).unwrap().with_weights(weights).unwrap();
        for noise in Noise::ALL {
            let spec = SbnSpec::binary_sparse_coding(6)
                .with_posterior(LatentPosterior::Truncated { states: 5 })
                .with_noise(noise);
            let config = Config::default().max_iter(60).tol(0.0);
            let fit = em::fit(&spec, &points, &one_thread(), &config, &mut Silent).unwrap();
            let records = &fit.history.records;
            assert_eq!(records.len(), 60);
            for (t, pair) in records.windows(2).enumerate() {
                let (before, after) = (&pair[0], &pair[1]);
                // In the first iterations the prior is held, and its half of the gap is open.
                assert!(t < 21 || after.gap().abs() < 1e-12, "{t}: {}", after.gap());
                assert!(after.log_likelihood >= before.lower_bound - tolerance, "{t} {after:?}");
                assert!(after.lower_bound >= after.log_likelihood - tolerance, "{t} {after:?}");
            }
        }
    }
    holds::<f64>(1e-11);
    // Points are widened: a fit in f32 is the fit to the rounded points.
    holds::<f32>(1e-11);
}

#[test]
fn planted_causes_are_found_from_a_random_start() {
    let truth = planted(0.25);
    let x = drawn(&truth, 1_500, 3);
    let points = Points::from_rows(&x, 12).unwrap();
    let spec =
        SbnSpec::binary_sparse_coding(4).with_posterior(LatentPosterior::Truncated { states: 8 });
    let config = Config::default().max_iter(150).n_init(3);
    let fit = em::fit(&spec, &points, &one_thread(), &config, &mut Silent).unwrap();
    let best = inference::score(&truth, &points, &one_thread()).unwrap().log_likelihood;
    let bound = fit.last().unwrap().lower_bound;
    assert!(bound > best - 0.01, "{bound} {best}");
    assert!((fit.model.noise_variances().unwrap()[0] - 0.25).abs() < 0.01);
    let weights = fit.model.parameter("weights").unwrap();
    for cause in 0..4 {
        let alone = (0..8).any(|k| {
            let (h, sign) = (k / 2, if k % 2 == 0 { 1.0 } else { -1.0 });
            (0..12).all(|d| {
                let expected = if d / 3 == cause { 2.0 } else { 0.0 };
                (sign * weights[4 * d + h] - expected).abs() < 0.2
            })
        });
        assert!(alone, "cause {cause} in {weights:.1?}");
    }
}

#[test]
fn the_gap_identity_holds_on_new_points() {
    let points = drawn(&planted(0.3), 300, 4);
    let points = Points::owned(points, 12).unwrap();
    let wider = planted(0.9).with_posterior(all_states(4)).unwrap();
    for model in [wider, planted(0.1).with_posterior(all_states(2)).unwrap()] {
        let gap = criterion::certify_sigmoid_belief_net(&model, &points, &one_thread()).unwrap();
        assert!(gap.gap().abs() > 1.0, "{gap}");
        assert!(gap.error().abs() < 1e-8, "{gap}");
    }
}

#[test]
fn points_far_from_zero_lose_no_digits() {
    let x = drawn(&planted(0.3), 400, 6);
    let spec =
        SbnSpec::binary_sparse_coding(4).with_posterior(LatentPosterior::Truncated { states: 6 });
    let config = Config::default().max_iter(30).tol(0.0);
    let bound = |shift: f64| {
        // A power of two apart, so that rounding of the points does not depend on the shift.
        let moved = x.iter().map(|x| (x * 1024.0).round() / 1024.0 + shift).collect();
        let points = Points::owned(moved, 12).unwrap();
        let fit = em::fit(&spec, &points, &one_thread(), &config, &mut Silent).unwrap();
        assert!(fit.last().unwrap().gap().abs() < 1e-10);
        fit.last().unwrap().lower_bound
    };
    let (near, far) = (bound(0.0), bound(2f64.powi(30)));
    assert!((near - far).abs() < 1e-4, "{near} {far}");
}

#[test]
fn points_that_break_naive_learners_give_finite_models() {
    let line: Vec<f64> =
        (0..200).flat_map(|i| [f64::from(i % 2), 2.0 * f64::from(i % 2), 7.0]).collect();
    let one = vec![3.0, -4.0, 5.0];
    for (what, x) in [("two points and a constant column", line), ("one point", one)] {
        let points = Points::from_rows(&x, 3).unwrap();
        for noise in Noise::ALL {
            let spec = SbnSpec::binary_sparse_coding(5)
                .with_posterior(LatentPosterior::Truncated { states: 4 })
                .with_noise(noise);
            let config = Config::default().max_iter(60).tol(0.0);
            let fit = em::fit(&spec, &points, &one_thread(), &config, &mut Silent).unwrap();
            let last = fit.last().unwrap();
            assert!(last.lower_bound.is_finite(), "{what} {noise:?}");
            assert!(
                fit.warnings.iter().any(|it| it.contains("floor")),
                "{what} {:?}",
                fit.warnings
            );
            assert!(fit.model.noise_variances().unwrap().iter().all(|v| *v > 0.0));
            let score = inference::score(&fit.model, &points, &one_thread()).unwrap();
            assert!(score.log_likelihood.is_finite(), "{what} {noise:?}");
        }
    }
    let mut x = drawn(&planted(0.3), 300, 7);
    x[12 * 123 + 1] = f64::NAN;
    let points = Points::from_rows(&x, 12).unwrap();
    let spec = SbnSpec::binary_sparse_coding(3);
    let fault = em::fit(&spec, &points, &one_thread(), &Config::default(), &mut Silent);
    let fault = fault.unwrap_err().to_string();
    assert!(fault.contains("row 123, column 1"), "{fault}");
}
