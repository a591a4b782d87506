//! Binary latents with hidden layers in the decoder, and binary codes of points that lack values.

use crate::common::{assert_close, drawn};
use entropysum::Executor;
use entropysum::data::Points;
use entropysum::em::{self, Config, Fit, SbnSpec};
use entropysum::expert::criterion::{self, FactorModel};
use entropysum::expert::model::GenerativeModel;
use entropysum::inference;
use entropysum::model::{Activation, LatentPosterior, Layer, Noise, SigmoidBeliefNet};
use entropysum::monitor::Silent;

fn one_thread() -> Executor {
    Executor::new(Some(1)).unwrap()
}

fn all_states(latents: u32) -> LatentPosterior {
    LatentPosterior::Truncated { states: 1 << latents }
}

const DIM: usize = 8;
const NOISE: f64 = 0.09;

/// Two causes whose effects do not add up: halves of the means are (0, 0), (2, 0), (0, 3), and (-2, 0) where both are on.
fn hiding() -> SigmoidBeliefNet {
    let units = Layer::new(2, &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], &[0.0, 0.0, -1.0]).unwrap();
    let row = |d| if d < DIM / 2 { [2.0, 0.0, -4.0] } else { [0.0, 3.0, -3.0] };
    let last = Layer::new(3, &(0..DIM).flat_map(row).collect::<Vec<_>>(), &[0.0; DIM]).unwrap();
    SigmoidBeliefNet::binary_autoencoder(
        vec![0.4, 0.5],
        vec![units, last],
        Activation::Relu,
        Noise::Isotropic,
        vec![NOISE],
        vec![1.0; DIM],
    )
    .unwrap()
    .with_posterior(all_states(2))
    .unwrap()
}

/// A quarter of the values is missing, never all of a point.
fn with_holes(mut x: Vec<f64>) -> Vec<f64> {
    for (k, value) in x.iter_mut().enumerate() {
        if k % DIM != (k / DIM) % DIM && (k * 7919 + k / 13) % 4 == 0 {
            *value = f64::NAN;
        }
    }
    x
}

fn fit(spec: &SbnSpec, x: &[f64], iterations: usize) -> Fit<SigmoidBeliefNet> {
    let points = Points::from_rows(x, DIM).unwrap();
    let config = Config::default().max_iter(iterations).tol(0.0);
    em::fit(spec, &points, &one_thread(), &config, &mut Silent).unwrap()
}

#[test]
fn a_decoder_with_hidden_layers_learns_what_a_linear_one_cannot() {
    let truth = hiding();
    let x = drawn(&truth, 600, 1);
    let points = Points::from_rows(&x, DIM).unwrap();
    let best = inference::score(&truth, &points, &one_thread()).unwrap().log_likelihood;
    let linear = SbnSpec::binary_sparse_coding(2).with_posterior(all_states(2));
    let bound = |spec: &SbnSpec| fit(spec, &x, 60).last().unwrap().lower_bound;
    assert!(bound(&linear) < best - 1.0);
    let deep = linear.with_hidden_units(vec![6], Activation::Tanh);
    assert!(bound(&deep) > best - 0.05, "{} {best}", bound(&deep));
}

#[test]
fn the_bound_never_falls_and_is_the_entropy_sum() {
    let x = drawn(&hiding(), 300, 2);
    for noise in Noise::ALL {
        for x in [x.clone(), with_holes(x.clone())] {
            for units in [vec![], vec![5], vec![4, 3]] {
                let spec = SbnSpec::binary_sparse_coding(4)
                    .with_posterior(LatentPosterior::Truncated { states: 3 })
                    .with_noise(noise)
                    .with_hidden_units(units, Activation::Tanh)
                    .ignoring_missing();
                let records = fit(&spec, &x, 26).history.records;
                for (t, pair) in records.windows(2).enumerate() {
                    let (before, after) = (&pair[0], &pair[1]);
                    // The prior is held in the first iterations.
                    assert!(t < 21 || after.gap().abs() < 1e-11, "{t}: {}", after.gap());
                    assert!(after.log_likelihood >= before.lower_bound - 1e-10, "{t} {after:?}");
                    assert!(after.lower_bound >= after.log_likelihood - 1e-10, "{t} {after:?}");
                }
            }
        }
    }
}

/// `ln Σ_z p(z) Π_d p(x_d | z)` over the values that a point has, and expectations of all, by brute force.
#[test]
fn points_that_lack_values_are_scored_by_those_that_they_have() {
    let x = with_holes(drawn(&hiding(), 40, 3));
    let linear = {
        let weights: Vec<f64> = (0..2 * DIM).map(|k| (k as f64 * 0.7).sin()).collect();
        let layer = Layer::new(2, &weights, &[0.2; DIM]).unwrap();
        let (noise, variances) = (Noise::Diagonal, (1..=DIM).map(|d| 0.1 * d as f64).collect());
        SigmoidBeliefNet::binary_sparse_coding(
            vec![0.3, 0.6],
            layer,
            noise,
            variances,
            vec![1.0; DIM],
        )
        .unwrap()
        .with_posterior(all_states(2))
        .unwrap()
    };
    for model in [hiding(), linear] {
        let variances = model.noise_variances().unwrap().to_vec();
        let [only_first, only_second] = [0, 1].map(|h| model.effects()[h].clone());
        let points = Points::from_rows(&x, DIM).unwrap();
        let model = model.ignoring_missing().unwrap();
        let none = vec![0.0; DIM];
        let both: Vec<f64> = match model.hidden_units().is_empty() {
            true => only_first.iter().zip(&only_second).map(|(a, b)| a + b).collect(),
            false => only_first.iter().map(|mean| -mean).collect(),
        };
        let bias = if model.hidden_units().is_empty() { 0.2 } else { 0.0 };
        let states = [none, only_first, only_second, both];
        let (mut scores, mut filled) = (Vec::new(), Vec::new());
        inference::score_samples(&model, &points, &one_thread(), |_, values| {
            scores.extend_from_slice(values);
            Ok(())
        })
        .unwrap();
        inference::reconstruct(&model, &points, &one_thread(), |_, values| {
            filled.extend_from_slice(values);
            Ok(())
        })
        .unwrap();
        for (i, point) in x.chunks(DIM).enumerate() {
            let joints: Vec<f64> = (0..4)
                .map(|state: usize| {
                    let prior = model.prior().iter().enumerate();
                    let prior = prior.map(|(h, p)| if state >> h & 1 == 1 { *p } else { 1.0 - p });
                    let terms = point.iter().zip(&states[state]).zip(&variances);
                    let terms = terms.filter(|((x, _), _)| !x.is_nan()).map(|((x, mean), v)| {
                        let residual = x - 1.0 - bias - mean;
                        -0.5 * ((2.0 * std::f64::consts::PI * v).ln() + residual * residual / v)
                    });
                    prior.product::<f64>() * terms.sum::<f64>().exp()
                })
                .collect();
            let total: f64 = joints.iter().sum();
            assert_close(scores[i], total.ln(), 1e-11, "score");
            for d in 0..DIM {
                let means = joints.iter().zip(&states).map(|(j, means)| j / total * means[d]);
                assert!((filled[i * DIM + d] - 1.0 - bias - means.sum::<f64>()).abs() < 1e-10);
            }
        }
    }
}

#[test]
fn causes_are_found_from_points_that_lack_a_quarter_of_their_values() {
    let x = with_holes(drawn(&hiding(), 800, 4));
    let spec = SbnSpec::binary_sparse_coding(2)
        .with_posterior(all_states(2))
        .with_hidden_units(vec![6], Activation::Tanh)
        .ignoring_missing();
    let fit = fit(&spec, &x, 80);
    let variance = fit.model.noise_variances().unwrap()[0];
    assert!((variance - NOISE).abs() < 0.01, "{variance}");
    let spec = SbnSpec { ignores_missing: false, ..spec };
    let points = Points::from_rows(&x, DIM).unwrap();
    let fault = em::fit(&spec, &points, &one_thread(), &Config::default(), &mut Silent);
    assert!(fault.unwrap_err().to_string().contains("column"));
}

#[test]
fn the_gap_identity_holds_and_the_criterion_is_fulfilled() {
    let x = drawn(&hiding(), 200, 5);
    let points = Points::from_rows(&x, DIM).unwrap();
    let gap = criterion::certify_sigmoid_belief_net(&hiding(), &points, &one_thread()).unwrap();
    assert!(gap.error().abs() < 1e-8, "{gap}");
    let report = FactorModel::of_sigmoid_belief_net(&hiding()).check(3, 0);
    assert!(report.is_fulfilled(), "{report}");
}
