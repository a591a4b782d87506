//! Bound, entropies, gap, gradients and closed forms against 40 digits.

use super::*;
use crate::block::Block;
use crate::model::SigmoidBeliefNet;
use crate::model::autoencoder::tests::{fixture, numbers};
use crate::model::sbn::{LatentPosterior, TruncatedStates};
use crate::rng;
use serde_json::Value;

const POINTS: usize = 12;
const DIM: usize = 4;
const LATENTS: usize = 4;
const STATES: usize = 5;

fn close(found: &[f64], expected: &Value) {
    let expected = numbers(expected);
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-10, "{found} {expected}");
    }
}

fn model(expected: &Value, prior: &Value, variance: &Value) -> SigmoidBeliefNet {
    let array = |key: &str| numbers(&expected["params"][key]);
    let decoder = vec![
        Layer::new(LATENTS, &array("W1"), &array("b1")).unwrap(),
        Layer::new(3, &array("W2"), &array("b2")).unwrap(),
    ];
    SigmoidBeliefNet::binary_autoencoder(
        numbers(prior),
        decoder,
        Activation::Tanh,
        Noise::Isotropic,
        numbers(variance),
        vec![0.0; DIM],
    )
    .unwrap()
    .with_posterior(LatentPosterior::Truncated { states: STATES })
    .unwrap()
}

/// Returns the mean log-evidence of the points on their sets, and the statistics. `visit` gets point, probabilities and states.
fn e_step(
    model: &SigmoidBeliefNet,
    all: &Value,
    mut visit: impl FnMut(usize, &[f64], &[u64]),
) -> (f64, LatentStats) {
    let x = numbers(&all["data"]["x"]);
    let packed = numbers(&all["binary_truncated"]["states"]);
    let packed = packed.iter().map(|state| *state as u64).collect();
    let mut sets = TruncatedStates::from_packed(POINTS, STATES, LATENTS, packed).unwrap();
    // No proposals: the sets stay.
    let searcher = model.searcher(Simd::detect(), 0);
    let mut workspace = searcher.workspace();
    let block = Block {
        points: MatRef::from_row_major_slice(&x, POINTS, DIM),
        sparse: None,
        weights: None,
        first: 0,
    };
    let mut rng = rng::stream(0, 0);
    searcher.sweep(block, &mut sets, 0, &mut rng, &mut workspace, |i, _, q, sets| {
        visit(i, q, sets.of(i));
    });
    let sums = &workspace.sums_of_states;
    (sums.log_evidence / POINTS as f64, model.latent_stats_of(sums))
}

#[test]
fn a_truncated_autoencoder_matches_40_digits() {
    let all = fixture();
    let expected = &all["binary_truncated"];
    let code = model(expected, &expected["pi"], &expected["sigma2"]);
    let (bound, stats) = e_step(&code, &all, |i, q, states| {
        let given = numbers(&expected["states"][i]);
        let place = |state: &u64| given.iter().position(|it| *it as u64 == *state).unwrap();
        for (q, state) in q.iter().zip(states) {
            let expected = expected["responsibilities"][i][place(state)].as_f64().unwrap();
            assert!((q - expected).abs() < 1e-12);
        }
    });
    close(&[bound], &expected["elbo"]);
    close(&[code.bound_of(&stats)], &expected["elbo"]);
    let sum = code.entropies_of(&stats);
    close(&[sum.posterior], &expected["entropy_sum"]["posterior"]);
    close(&[sum.prior], &expected["entropy_sum"]["prior"]);
    close(&[sum.observable], &expected["entropy_sum"]["observable"]);
    close(&stats.marginals, &expected["marginals"]);
    let gradient = code.gradient_of(&stats);
    let gap = [code.certified_gap(&gradient).0, bound - sum.total()];
    close(&gap[..1], &expected["gap_prior"]);
    let noise = gap[1] - gap[0];
    close(&[noise], &expected["gap_noise"]);
    close(&[-noise], &expected["grad"]["log_sigma2"]);
    let at_logits = gradient.prior.iter().zip(code.prior()).map(|(g, p)| g * p * (1.0 - p));
    close(&at_logits.collect::<Vec<_>>(), &expected["grad"]["logit_pi"]);
    for (layer, [weights, biases]) in gradient.layers.iter().zip([["W1", "b1"], ["W2", "b2"]]) {
        close(&layer.weights(), &expected["grad"][weights]);
        close(&layer.biases(), &expected["grad"][biases]);
    }

    let gaussian = code.gaussian.as_ref().unwrap();
    let residuals = gaussian.residuals(&code.layers[0], &stats, &Alone);
    close(&[residuals.iter().sum()], &expected["residual"]);
    let (variances, floored) = variances_of(Noise::Isotropic, &residuals, &[1.0; DIM]);
    let closed = &expected["closed_form"];
    close(&variances[..1], &closed["sigma2"]);
    assert!(floored.is_empty());
    let after = model(expected, &closed["pi"], &closed["sigma2"]);
    close(&[after.bound_of(&stats)], &closed["elbo_same_q"]);
    assert!((after.bound_of(&stats) - after.entropies_of(&stats).total()).abs() < 1e-12);
    close(&[e_step(&after, &all, |_, _, _| ()).0], &closed["elbo_fresh_q"]);
}

/// An M-step climbs beyond the closed forms of prior and noise, and closes the gap.
#[test]
fn an_m_step_of_hidden_layers_raises_the_bound() {
    let all = fixture();
    let expected = &all["binary_truncated"];
    let mut code = model(expected, &expected["pi"], &expected["sigma2"]);
    let mut last = expected["closed_form"]["elbo_same_q"].as_f64().unwrap();
    for _ in 0..30 {
        let (bound, stats) = e_step(&code, &all, |_, _, _| ());
        code.maximize(&stats, 1, false, &Alone);
        let after = code.bound_of(&stats);
        assert!(after >= bound.max(last) - 1e-12, "{after} {bound} {last}");
        assert!((after - code.entropies_of(&stats).total()).abs() < 1e-12);
        last = after;
    }
    let start = expected["closed_form"]["elbo_same_q"].as_f64().unwrap();
    assert!(last > start + 1.0, "{last} {start}");
}
