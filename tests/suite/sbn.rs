//! Sigmoid belief networks: golden values, brute force, laws, bad input.

use crate::common;

use common::{Uniforms, assert_all_close, assert_close, causes, drawn, fixture, numbers, rounded};
use entropysum::Executor;
use entropysum::Scalar;
use entropysum::data::Points;
use entropysum::em::{self, Config, SbnSpec};
use entropysum::expert::em::Mergeable;
use entropysum::expert::model::GenerativeModel;
use entropysum::expert::stats::{StatsShape, SuffStats};
use entropysum::expert::{Gradient, Sweeper, search_states};
use entropysum::inference;
use entropysum::model::{LatentPosterior, Layer, SigmoidBeliefNet};
use entropysum::monitor::{IterRecord, Silent};
use serde_json::Value;

fn net(parameters: &Value) -> SigmoidBeliefNet {
    let [prior, w, mu] = ["pi", "W", "mu"].map(|name| numbers(&parameters[name]));
    let hidden = parameters
        .get("M")
        .map(|m| Layer::new(prior.len(), &numbers(m), &numbers(&parameters["nu"])).unwrap());
    let width = hidden.as_ref().map_or(prior.len(), Layer::outputs);
    SigmoidBeliefNet::new(prior, hidden, Layer::new(width, &w, &mu).unwrap()).unwrap()
}

/// The latents of a state: its binary digits, the first the most significant.
fn digits(state: usize, n: usize) -> Vec<f64> {
    (0..n).map(|j| ((state >> (n - 1 - j)) & 1) as f64).collect()
}

/// Logits of a layer by a plain product.
fn logits(layer: &Layer, inputs: &[f64]) -> Vec<f64> {
    let rows = layer.weights();
    let products = rows.chunks(layer.inputs()).zip(layer.biases());
    products.map(|(w, b)| b + w.iter().zip(inputs).map(|(w, z)| w * z).sum::<f64>()).collect()
}

fn softplus(a: f64) -> f64 {
    a.max(0.0) + (-a.abs()).exp().ln_1p()
}

fn sigmoid(a: f64) -> f64 {
    1.0 / (1.0 + (-a).exp())
}

fn binary_entropy(p: f64) -> f64 {
    -p * p.ln() - (1.0 - p) * (1.0 - p).ln()
}

/// `ln p(x, z, y)` term by term.
fn log_joint(net: &SigmoidBeliefNet, x: &[f64], state: &[f64]) -> f64 {
    let h = net.prior().len();
    let bernoulli = |p: f64, z: f64| if z == 1.0 { p.ln() } else { (1.0 - p).ln() };
    let mut sum: f64 = net.prior().iter().zip(state).map(|(&p, &z)| bernoulli(p, z)).sum();
    let mut above = &state[..h];
    if let Some(hidden) = net.hidden() {
        let below = &state[h..];
        sum +=
            logits(hidden, above).iter().zip(below).map(|(a, y)| a * y - softplus(*a)).sum::<f64>();
        above = below;
    }
    sum + logits(net.observables(), above)
        .iter()
        .zip(x)
        .map(|(a, x)| a * x - softplus(*a))
        .sum::<f64>()
}

/// Statistics of any posteriors `q[n][state]`, by their definition.
fn statistics(net: &SigmoidBeliefNet, x: &[f64], q: &[Vec<f64>], weights: &[f64]) -> SuffStats {
    let (dim, width, n) = (net.dim(), net.observables().inputs(), net.n_latents());
    let shape =
        StatsShape { components: 1 << n, statistics: 0, shared: dim * (width + 1), centre: 0 };
    let mut stats = SuffStats::zeros(shape, Vec::new());
    for ((x, q), w) in x.chunks(dim).zip(q).zip(weights) {
        *stats.total_weight_mut() += w;
        *stats.n_points_mut() += 1.0;
        for (s, &q) in q.iter().enumerate().filter(|(_, q)| **q > 0.0) {
            let state = digits(s, n);
            stats.mass_mut()[s] += w * q;
            *stats.posterior_entropy_mut() -= w * q * q.ln();
            for d in 0..dim {
                for j in 0..=width {
                    let z = if j == width { 1.0 } else { state[n - width + j] };
                    stats.shared_mut()[d * (width + 1) + j] += w * q * x[d] * z;
                }
            }
        }
    }
    stats
}

/// `F(q, Θ)`, the gap by its identity, and the entropies after the posterior's, all from sums over points and states.
fn brute_force(
    net: &SigmoidBeliefNet,
    x: &[f64],
    q: &[Vec<f64>],
    weights: &[f64],
) -> (f64, f64, Vec<f64>) {
    let (dim, n, h) = (net.dim(), net.n_latents(), net.prior().len());
    let total: f64 = weights.iter().sum();
    let (mut elbo, mut gap) = (0.0, 0.0);
    let mut entropies = vec![0.0; 3];
    entropies[0] = net.prior().iter().map(|&p| binary_entropy(p)).sum();
    for ((x, q), w) in x.chunks(dim).zip(q).zip(weights) {
        for (s, &q) in q.iter().enumerate().filter(|(_, q)| **q > 0.0) {
            let state = digits(s, n);
            let w = w * q / total;
            elbo += w * (log_joint(net, x, &state) - q.ln());
            for (j, &p) in net.prior().iter().enumerate() {
                gap += w * (state[j] - p) * (p / (1.0 - p)).ln();
            }
            let mut above = &state[..h];
            if let Some(hidden) = net.hidden() {
                let below = &state[h..];
                for (a, y) in logits(hidden, above).iter().zip(below) {
                    gap += w * (y - sigmoid(*a)) * a;
                    entropies[1] += w * binary_entropy(sigmoid(*a));
                }
                above = below;
            }
            for (a, x) in logits(net.observables(), above).iter().zip(x) {
                gap += w * (x - sigmoid(*a)) * a;
                entropies[2] += w * binary_entropy(sigmoid(*a));
            }
        }
    }
    (elbo, gap, entropies)
}

fn exact_posteriors(net: &SigmoidBeliefNet, x: &[f64]) -> (Vec<Vec<f64>>, Vec<f64>) {
    let n_states = 1 << net.n_latents();
    x.chunks(net.dim())
        .map(|x| {
            let joint: Vec<f64> =
                (0..n_states).map(|s| log_joint(net, x, &digits(s, net.n_latents()))).collect();
            let top = joint.iter().fold(f64::NEG_INFINITY, |m, l| m.max(*l));
            let sum: f64 = joint.iter().map(|l| (l - top).exp()).sum();
            let evidence = top + sum.ln();
            (joint.iter().map(|l| (l - evidence).exp()).collect(), evidence)
        })
        .unzip()
}

fn sweep<T: Scalar>(net: &SigmoidBeliefNet, x: &[f64], weights: Option<&[f64]>) -> SuffStats {
    let values: Vec<T> = rounded(x);
    let mut points = Points::from_rows(&values, net.dim()).unwrap();
    if let Some(weights) = weights {
        points = points.with_weights(weights.to_vec()).unwrap();
    }
    Sweeper::new(&points, &Executor::new(Some(1)).unwrap()).sweep(net).unwrap()
}

/// Values of one part of a fixture at given statistics.
fn agrees_with_golden(
    net: &SigmoidBeliefNet,
    stats: &SuffStats,
    golden: &Value,
    gradients: &Value,
) {
    let value = |name: &str| golden[name].as_f64().unwrap();
    let sum = net.entropy_sum(stats);
    let bound = net.lower_bound(stats);
    let elbo = golden.get("elbo").or(golden.get("loglik")).unwrap().as_f64().unwrap();
    assert_close(bound, elbo, 1e-12, "lower bound");
    assert_close(sum.total(), value("entropy_sum"), 1e-12, "entropy sum");
    assert_close(sum.posterior, value("mean_q_entropy"), 1e-12, "posterior entropy");
    let middle = golden.get("gap_middle").map_or(0.0, |gap| gap.as_f64().unwrap());
    let gap = value("gap_prior") + middle + value("gap_observable");
    assert_close(bound - sum.total(), gap, 1e-12, "gap");
    let gradient = net.gradient(stats);
    let named = |name: &str| {
        let found = gradients.get(name).or(golden.get(format!("grad_{name}")));
        numbers(found.unwrap_or_else(|| panic!("{name}")))
    };
    assert_all_close(&gradient.prior, &named("pi"), 1e-12, "pi");
    let layers = [["W", "mu"], ["M", "nu"]];
    for (layer, [weights, biases]) in gradient.layers.iter().rev().zip(layers) {
        assert_all_close(&layer.weights(), &named(weights), 1e-12, weights);
        assert_all_close(&layer.biases(), &named(biases), 1e-12, biases);
    }
    // Theory 1.2: the gap is α · ∂F/∂Ψ + β · ∂F/∂θ.
    assert_close(bound - sum.total(), along_criterion(net, stats), 1e-12, "identity");
}

/// `α · ∂F/∂Ψ + β · ∂F/∂θ` with `α_h = π_h (1 - π_h) logit π_h` and `β` the weights and biases themselves.
fn along_criterion(net: &SigmoidBeliefNet, stats: &SuffStats) -> f64 {
    direction(net, &net.gradient(stats))
}

fn direction(net: &SigmoidBeliefNet, gradient: &Gradient) -> f64 {
    let prior = net.prior().iter().zip(&gradient.prior);
    let mut sum: f64 = prior.map(|(p, g)| p * (1.0 - p) * (p / (1.0 - p)).ln() * g).sum();
    let layers = net.hidden().into_iter().chain([net.observables()]);
    for (layer, gradient) in layers.zip(&gradient.layers) {
        let dot = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>();
        sum += dot(layer.weights(), gradient.weights()) + dot(layer.biases(), gradient.biases());
    }
    sum
}

/// The same by the library.
fn certified(net: &SigmoidBeliefNet, gradient: &Gradient) -> f64 {
    let (prior, layers) = net.certified_gap(gradient);
    prior + layers.iter().sum::<f64>()
}

#[test]
fn two_layers_agree_with_40_digit_values_under_exact_truncated_and_factored_posteriors() {
    let golden = fixture("sbn_digits4x4");
    let net = net(&golden["params"]);
    let x = numbers(&golden["data"]["x"]);
    let ones = vec![1.0; 100];
    let stats = sweep::<f64>(&net, &x, None);
    assert_close(
        stats.log_evidence() / 100.0,
        golden["exact"]["loglik"].as_f64().unwrap(),
        1e-12,
        "",
    );
    agrees_with_golden(&net, &stats, &golden["exact"], &Value::Null);
    let aggregate: Vec<f64> = stats.mass().iter().map(|m| m / 100.0).collect();
    assert_all_close(&aggregate, &numbers(&golden["exact"]["aggregate_posterior"]), 1e-12, "q");

    let (exact, _) = exact_posteriors(&net, &x);
    let truncated: Vec<Vec<f64>> = (0..100)
        .map(|n| {
            let kept = [n % 8, (3 * n + 1) % 8, (5 * n + 2) % 8];
            let mut q: Vec<f64> =
                (0..8).map(|s| if kept.contains(&s) { exact[n][s] } else { 0.0 }).collect();
            let total: f64 = q.iter().sum();
            q.iter_mut().for_each(|q| *q /= total);
            q
        })
        .collect();
    let stats = statistics(&net, &x, &truncated, &ones);
    agrees_with_golden(&net, &stats, &golden["truncated"], &Value::Null);

    let factored: Vec<Vec<f64>> = (0..100)
        .map(|n| {
            let mean = |h: usize| sigmoid((((7 * n + 3 * h) % 11) as f64 - 5.0) / 4.0);
            let q = |state: usize| {
                let z = digits(state, 3);
                (0..3).map(|h| if z[h] == 1.0 { mean(h) } else { 1.0 - mean(h) }).product()
            };
            (0..8).map(q).collect()
        })
        .collect();
    let stats = statistics(&net, &x, &factored, &ones);
    agrees_with_golden(&net, &stats, &golden["mean_field"], &Value::Null);
}

#[test]
fn three_layers_agree_with_40_digit_values() {
    let golden = fixture("sbn3_digits4x4");
    let net = net(&golden["params"]);
    let x = numbers(&golden["data"]["x"]);
    let stats = sweep::<f64>(&net, &x, None);
    agrees_with_golden(&net, &stats, &golden, &golden["grad"]);
    let sum = net.entropy_sum(&stats);
    for (found, name) in [
        (sum.prior, "prior_entropy"),
        (sum.hidden, "middle_entropy"),
        (sum.observable, "observable_entropy"),
    ] {
        assert_close(found, golden[name].as_f64().unwrap(), 1e-12, name);
    }
}

#[test]
fn em_follows_40_digit_trajectories() {
    let golden = fixture("sbn_digits4x4");
    let x = numbers(&golden["data"]["x"]);
    let points = Points::from_rows(&x, 8).unwrap();
    let executor = Executor::new(Some(2)).unwrap();
    let steps = golden["em"].as_array().unwrap();
    let config = Config::default().max_iter(steps.len() - 1).tol(0.0);
    let start = net(&golden["params"]);
    let fit = em::fit(&start, &points, &executor, &config, &mut Silent).unwrap();
    for (record, step) in fit.history.records.iter().zip(steps) {
        let value = |name: &str| step[name].as_f64().unwrap();
        assert_close(record.log_likelihood, value("loglik"), 1e-10, "log-likelihood");
        assert_close(record.lower_bound, value("elbo_after_m"), 1e-10, "bound");
        assert_close(record.entropy_sum.total(), value("entropy_sum_after_m"), 1e-10, "sum");
        assert!(record.gap().abs() < 1e-11, "{}", record.gap());
    }
    let mut net = net(&golden["params"]);
    for step in steps.iter().take(1) {
        let stats = sweep::<f64>(&net, &x, None);
        net.m_step(&stats, &Default::default());
        assert_all_close(net.prior(), &numbers(&step["pi"]), 1e-10, "pi");
        assert_all_close(&net.parameter("weights").unwrap(), &numbers(&step["W"]), 1e-8, "W");
        assert_all_close(&net.parameter("biases").unwrap(), &numbers(&step["mu"]), 1e-8, "mu");
    }
}

/// A net with random parameters, of three layers if `hidden` is not 0.
fn random_net(u: &mut Uniforms, latents: usize, hidden: usize, dim: usize) -> SigmoidBeliefNet {
    let mut values =
        |n: usize, scale: f64| -> Vec<f64> { (0..n).map(|_| scale * u.normal()).collect() };
    let layer = (hidden > 0).then(|| {
        Layer::new(latents, &values(hidden * latents, 1.5), &values(hidden, 1.0)).unwrap()
    });
    let width = if hidden > 0 { hidden } else { latents };
    let observables = Layer::new(width, &values(dim * width, 1.5), &values(dim, 1.0)).unwrap();
    let prior = (0..latents).map(|_| 0.1 + 0.8 * u.next()).collect();
    SigmoidBeliefNet::new(prior, layer, observables).unwrap()
}

fn binary(u: &mut Uniforms, n: usize) -> Vec<f64> {
    (0..n).map(|_| f64::from(u8::from(u.next() < 0.4))).collect()
}

/// Sizes of nets: latents, hidden latents (0 for two layers), observables.
const SIZES: [[usize; 3]; 4] = [[1, 0, 3], [4, 0, 7], [2, 3, 5], [3, 1, 4]];

/// Eqns 2, 10 and 21, and theory 1.2, at random parameters and random posteriors that put no mass on some states.
#[test]
fn eqns_10_and_21_bound_entropies_and_gap_match_brute_force_at_random_posteriors() {
    let mut u = Uniforms::new(11);
    for [latents, hidden, dim] in SIZES {
        for truncated in [false, true] {
            let net = random_net(&mut u, latents, hidden, dim);
            let x = binary(&mut u, 20 * dim);
            let weights: Vec<f64> = (0..20).map(|_| 0.2 + u.next()).collect();
            let q: Vec<Vec<f64>> = (0..20)
                .map(|_| {
                    let mut q: Vec<f64> = (0..1 << net.n_latents())
                        .map(|s| {
                            if truncated && s > 0 && u.next() < 0.6 { 0.0 } else { 0.01 + u.next() }
                        })
                        .collect();
                    let total: f64 = q.iter().sum();
                    q.iter_mut().for_each(|q| *q /= total);
                    q
                })
                .collect();
            let stats = statistics(&net, &x, &q, &weights);
            let (elbo, gap, entropies) = brute_force(&net, &x, &q, &weights);
            let (bound, sum) = (net.lower_bound(&stats), net.entropy_sum(&stats));
            let what = format!("{latents} {hidden} {dim}");
            assert_close(bound, elbo, 1e-12, &what);
            assert_all_close(&[sum.prior, sum.hidden, sum.observable], &entropies, 1e-12, &what);
            assert!(gap.abs() > 1e-3, "a test of nothing: {gap}");
            assert!((bound - sum.total() - gap).abs() < 1e-10, "{what}");
            assert!((along_criterion(&net, &stats) - gap).abs() < 1e-10, "{what}");
        }
    }
}

#[test]
fn sweeps_over_all_states_match_brute_force_with_weights_in_both_precisions() {
    let mut u = Uniforms::new(5);
    for [latents, hidden, dim] in SIZES {
        let net = random_net(&mut u, latents, hidden, dim);
        let n = 301;
        let x = binary(&mut u, n * dim);
        let weights: Vec<f64> = (0..n).map(|i| (i % 4) as f64 / 2.0).collect();
        let (q, evidence) = exact_posteriors(&net, &x);
        let expected = statistics(&net, &x, &q, &weights);
        let total: f64 = evidence.iter().zip(&weights).map(|(l, w)| l * w).sum();
        let check = |found: &SuffStats, tolerance: f64| {
            assert_close(found.log_evidence(), total, tolerance, "evidence");
            assert_close(
                found.posterior_entropy(),
                expected.posterior_entropy(),
                tolerance,
                "entropy",
            );
            assert_all_close(found.mass(), expected.mass(), tolerance, "mass");
            assert_all_close(found.shared(), expected.shared(), tolerance, "moments");
            assert_eq!(found.n_points(), 225.0);
        };
        check(&sweep::<f64>(&net, &x, Some(&weights)), 1e-12);
        check(&sweep::<f32>(&net, &x, Some(&weights)), 2e-5);
        let points = Points::from_rows(&x, dim).unwrap().with_weights(weights.clone()).unwrap();
        let halves = Sweeper::new(&points, &Executor::new(Some(2)).unwrap())
            .with_lane_memory(0)
            .sweep(&net)
            .unwrap();
        check(&halves, 1e-12);
    }
    // So many states take narrow strips.
    let net = random_net(&mut u, 13, 0, 3);
    let x = binary(&mut u, 9);
    let (q, _) = exact_posteriors(&net, &x);
    let expected = statistics(&net, &x, &q, &[1.0; 3]);
    let found = sweep::<f64>(&net, &x, None);
    assert_all_close(found.mass(), expected.mass(), 1e-12, "mass");
    assert_all_close(found.shared(), expected.shared(), 1e-12, "moments");
}

#[test]
fn an_m_step_with_a_ridge_leaves_its_gap() {
    let mut u = Uniforms::new(8);
    for [latents, hidden, dim] in SIZES {
        let ridge = 0.01;
        let mut net = random_net(&mut u, latents, hidden, dim).with_ridge(ridge);
        let x = binary(&mut u, 50 * dim);
        let stats = sweep::<f64>(&net, &x, None);
        net.m_step(&stats, &Default::default());
        let layers = net.hidden().into_iter().chain([net.observables()]);
        let squares: f64 = layers.flat_map(Layer::weights).map(|w| w * w).sum();
        let gap = net.lower_bound(&stats) - net.entropy_sum(&stats).total();
        assert!(squares > 1e-4 && (gap - ridge * squares).abs() < 1e-11, "{gap} {squares}");
    }
}

fn rising(records: &[IterRecord]) {
    for pair in records.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        // The bound of the old parameters on new posteriors lies between the bounds after the M-steps.
        assert!(after.log_likelihood >= before.lower_bound - 1e-11, "{before:?} {after:?}");
        assert!(after.lower_bound >= after.log_likelihood - 1e-11, "{after:?}");
    }
}

/// Votes of which most latents are sure: outputs are nearly separable, and Newton's method alone stops early. Posteriors of points in
/// `f32` are widened before they are summed, so that M-steps are as exact; the bound may fall by their rounding.
#[test]
fn m_steps_on_nearly_separable_votes_are_exact_in_both_precisions() {
    fn gaps_and_falls<T: Scalar>(x: &[f64]) -> (f64, f64) {
        let x: Vec<T> = rounded(x);
        let points = Points::from_rows(&x, 16).unwrap();
        let config = Config::default().max_iter(120).tol(0.0).seed(2);
        let executor = Executor::new(Some(1)).unwrap();
        let fit = em::fit(&SbnSpec::new(4), &points, &executor, &config, &mut Silent).unwrap();
        let records = &fit.history.records;
        let falls = records.windows(2).map(|it| it[0].lower_bound - it[1].lower_bound);
        let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        (largest(&mut records.iter().map(|r| r.gap().abs())), largest(&mut falls.into_iter()))
    }
    let x = numbers(&fixture("mix_bernoulli_housevotes")["data"]["x"]);
    let (gap, fall) = gaps_and_falls::<f64>(&x);
    assert!(gap < 1e-10 && fall < 1e-11, "f64: gap {gap:e}, fall {fall:e}");
    let (gap, fall) = gaps_and_falls::<f32>(&x);
    assert!(gap < 1e-10 && fall < 1e-6, "f32: gap {gap:e}, fall {fall:e}");
}

const TRUNCATED: LatentPosterior = LatentPosterior::Truncated { states: 6 };

#[test]
fn the_bound_rises_under_exact_and_truncated_posteriors_of_two_and_three_layers() {
    let executor = Executor::new(Some(2)).unwrap();
    for hidden in [false, true] {
        let x = drawn(&causes(hidden), 400, 3);
        let weights: Vec<f64> = (0..400).map(|i| 0.5 + (i % 3) as f64).collect();
        let points = Points::from_rows(&x, 12).unwrap().with_weights(weights).unwrap();
        for posterior in [LatentPosterior::Exact, TRUNCATED] {
            let spec =
                SbnSpec { hidden: hidden.then_some(4), ..SbnSpec::new(if hidden { 2 } else { 4 }) };
            let spec = spec.with_posterior(posterior);
            let config = Config::default().max_iter(40).tol(0.0).seed(2);
            let fit = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
            assert_eq!(fit.history.records.len(), 40);
            rising(&fit.history.records);
            let [first, last] = [0, 39].map(|k| fit.history.records[k].lower_bound);
            assert!(last > first + 0.5, "{posterior:?}: {first} to {last}");
            if posterior == LatentPosterior::Exact {
                // Up to the rounding of sums over hundreds of points.
                assert!(fit.history.records.iter().all(|r| r.gap().abs() < 1e-10));
            }
        }
    }
}

/// Where sets hold all states, truncated posteriors are exact ones; and the gap is the derivative that it must be.
#[test]
fn truncated_posteriors_over_all_states_are_exact_and_their_gap_is_certified() {
    let executor = Executor::new(Some(2)).unwrap();
    for hidden in [false, true] {
        let net = causes(hidden);
        let x = drawn(&net, 300, 4);
        let points = Points::from_rows(&x, 12).unwrap();
        let exact = sweep::<f64>(&net, &x, None);
        let all = 1 << net.n_latents();
        for states in [all, 3] {
            let posterior = LatentPosterior::Truncated { states };
            let truncated_net = net.clone().with_posterior(posterior).unwrap();
            let truncated = search_states::<f64>(&truncated_net, &points, &executor, 1).unwrap();
            let stats = truncated.moments(&net);
            let log_evidence = truncated.log_evidence() / truncated.total_weight();
            if states == all {
                let evidence = exact.log_evidence() / 300.0;
                assert_close(log_evidence, evidence, 1e-12, "evidence");
                assert_close(net.bound_of(stats), net.lower_bound(&exact), 1e-12, "bound");
                let (found, expected) = (net.entropies_of(stats), net.entropy_sum(&exact));
                assert_close(found.total(), expected.total(), 1e-12, "entropy sum");
                assert_close(found.hidden, expected.hidden, 1e-12, "hidden");
                let (found, expected) = (net.gradient_of(stats), net.gradient(&exact));
                assert_all_close(&found.prior, &expected.prior, 1e-10, "prior");
                for (found, expected) in found.layers.iter().zip(&expected.layers) {
                    assert_all_close(&found.weights(), &expected.weights(), 1e-11, "weights");
                    assert_all_close(&found.biases(), &expected.biases(), 1e-11, "biases");
                }
            } else {
                assert!(log_evidence < exact.log_evidence() / 300.0 - 1e-6);
                assert_close(net.bound_of(stats), log_evidence, 1e-12, "bound");
            }
            let gap = net.bound_of(stats) - net.entropies_of(stats).total();
            let gradient = net.gradient_of(stats);
            let by_hand = direction(&net, &gradient);
            assert!((gap - by_hand).abs() < 1e-10 && gap.abs() > 1e-6, "{gap} {by_hand}");
            assert_close(certified(&net, &gradient), by_hand, 1e-12, "certified");
        }
    }
}

/// Posteriors of one network, parameters of another, neither at an optimum; more latents than can be enumerated.
#[test]
fn gaps_of_truncated_posteriors_are_certified_at_random_parameters_of_two_and_three_layers() {
    let executor = Executor::new(Some(2)).unwrap();
    let mut u = Uniforms::new(21);
    for (latents, hidden) in [(40, 0), (9, 31), (70, 5)] {
        let dim = 23;
        let mut net = || random_net(&mut u, latents, hidden, dim);
        let (of_posteriors, other) = (net(), net());
        let x = drawn(&of_posteriors, 300, 6);
        let weights: Vec<f64> = (0..300).map(|i| 0.25 + (i % 4) as f64).collect();
        let points = Points::from_rows(&x, dim).unwrap().with_weights(weights).unwrap();
        let truncated = LatentPosterior::Truncated { states: 5 };
        let of_posteriors = of_posteriors.with_posterior(truncated).unwrap();
        let found = search_states::<f64>(&of_posteriors, &points, &executor, 2).unwrap();
        let stats = found.moments(&of_posteriors).clone();
        for net in [&of_posteriors, &other] {
            let sum = net.entropies_of(&stats);
            let gap = net.bound_of(&stats) - sum.total();
            let by_hand = direction(net, &net.gradient_of(&stats));
            let tolerance = 1e-10 * (1.0 + sum.total().abs());
            assert!((gap - by_hand).abs() < tolerance, "{gap} {by_hand}");
            assert!(gap.abs() > 1e-3 && (sum.hidden > 0.0) == (hidden > 0), "{gap} {sum:?}");
        }
    }
}

/// The real thing, where the M-step of truncated posteriors converges too.
#[test]
fn on_binarised_digits_bound_and_entropy_sum_converge_to_each_other() {
    let digits = fixture("sbn_digits4x4");
    let x = numbers(&digits["data"]["x"]);
    let points = Points::from_rows(&x, 8).unwrap();
    let executor = Executor::new(Some(2)).unwrap();
    for posterior in [LatentPosterior::Exact, TRUNCATED] {
        let spec = SbnSpec::new(3).with_posterior(posterior);
        let config = Config::default().max_iter(3000).tol(1e-12).seed(1);
        let fit = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
        let last = fit.last().unwrap();
        assert!(fit.converged(), "{posterior:?}: {:?}", fit.stop_reason);
        assert!(last.gap().abs() < 1e-8, "{posterior:?}: {}", last.gap());
        assert!(last.lower_bound - last.log_likelihood > -1e-11, "{posterior:?}");
        assert!(last.delta().abs() < 1e-7, "{posterior:?}: {}", last.delta());
    }
}

/// Posterior marginals, most probable states, reconstructions and scores against sums over all states.
#[test]
fn latents_states_reconstructions_and_scores_match_brute_force() {
    let mut u = Uniforms::new(31);
    let executor = Executor::new(Some(2)).unwrap();
    for [latents, hidden, dim] in SIZES {
        let net = random_net(&mut u, latents, hidden, dim);
        let (n, h, all) = (net.n_latents(), net.prior().len(), 1 << net.n_latents());
        let x = binary(&mut u, 70 * dim);
        let points = Points::from_rows(&x, dim).unwrap();
        let (q, evidence) = exact_posteriors(&net, &x);
        for posterior in [LatentPosterior::Exact, LatentPosterior::Truncated { states: all }] {
            let net = net.clone().with_posterior(posterior).unwrap();
            let collect = |found: &mut Vec<f64>, values: &[f64]| {
                found.extend_from_slice(values);
                Ok(())
            };
            let mut found = [vec![], vec![], vec![], vec![]];
            let [scores, means, images, states] = &mut found;
            inference::score_samples(&net, &points, &executor, |_, v| collect(scores, v)).unwrap();
            inference::transform(&net, &points, &executor, |_, v| collect(means, v)).unwrap();
            inference::reconstruct(&net, &points, &executor, |_, v| collect(images, v)).unwrap();
            inference::most_probable_states(&net, &points, &executor, |_, v| collect(states, v))
                .unwrap();
            assert_all_close(scores, &evidence, 1e-12, "scores");
            for (i, q) in q.iter().enumerate() {
                let mean = |j: usize| (0..all).map(|s| q[s] * digits(s, n)[j]).sum::<f64>();
                let expected: Vec<f64> = (0..n).map(mean).collect();
                assert_all_close(&means[i * n..][..n], &expected, 1e-12, "marginals");
                let best = (0..all).max_by(|&a, &b| q[a].total_cmp(&q[b])).unwrap();
                assert_eq!(states[i * n..][..n], digits(best, n), "most probable state");
                let mut expected = vec![0.0; dim];
                for s in 0..all {
                    let state = digits(s, n);
                    let above = if hidden > 0 { &state[h..] } else { &state[..] };
                    let logits = logits(net.observables(), above);
                    expected.iter_mut().zip(logits).for_each(|(sum, a)| *sum += q[s] * sigmoid(a));
                }
                assert_all_close(&images[i * dim..][..dim], &expected, 1e-12, "reconstruction");
            }
        }
    }
}

#[test]
fn samples_have_the_moments_of_the_network() {
    for hidden in [false, true] {
        let net = causes(hidden);
        let (n, h) = (net.n_latents(), net.prior().len());
        let mut expected = [0.0; 12];
        for s in 0..1usize << n {
            let state = digits(s, n);
            // p(x = 0, z) less p(x = 0 | z) is p(z).
            let above = &state[if hidden { h } else { 0 }..];
            let a = logits(net.observables(), above);
            let silence: f64 = a.iter().map(|a| softplus(*a)).sum();
            let p = (log_joint(&net, &[0.0; 12], &state) + silence).exp();
            expected.iter_mut().zip(a).for_each(|(sum, a)| *sum += p * sigmoid(a));
        }
        let x = drawn(&net, 40_000, 17);
        for d in 0..12 {
            let mean = x.iter().skip(d).step_by(12).sum::<f64>() / 40_000.0;
            // Four standard errors at most.
            assert!((mean - expected[d]).abs() < 0.01, "{mean} {}", expected[d]);
        }
    }
}

#[test]
fn planted_causes_are_recovered_from_random_starts() {
    let net = causes(false);
    let executor = Executor::new(Some(2)).unwrap();
    let x = drawn(&net, 500, 2);
    let points = Points::from_rows(&x, 12).unwrap();
    let config = Config::default().max_iter(200).tol(1e-6).n_init(3);
    for posterior in [LatentPosterior::Exact, TRUNCATED] {
        let spec = SbnSpec::new(4).with_posterior(posterior);
        let fit = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
        let weights = fit.model.parameter("weights").unwrap();
        for cause in 0..4 {
            // A latent may stand for the absence of a cause.
            let alone = (0..8).any(|k| {
                let (h, sign) = (k / 2, if k % 2 == 0 { 1.0 } else { -1.0 });
                (0..12).all(|d| (sign * weights[d * 4 + h] > 2.5) == (d / 3 == cause))
            });
            assert!(alone, "{posterior:?}: cause {cause} in {weights:.1?}");
        }
    }
}

#[test]
fn constant_pixels_empty_rows_and_idle_latents_leave_numbers() {
    let executor = Executor::new(Some(1)).unwrap();
    // Pixel 0 is always off, pixel 1 always on; half the rows are otherwise zero.
    let mut u = Uniforms::new(3);
    let x: Vec<f64> = (0..60)
        .flat_map(|i| {
            let rest = if i % 2 == 0 { vec![0.0; 3] } else { binary(&mut u, 3) };
            [vec![0.0, 1.0], rest].concat()
        })
        .collect();
    let points = Points::from_rows(&x, 5).unwrap();
    let nothing = vec![0.0; 40];
    let nothing = Points::from_rows(&nothing, 5).unwrap();
    for (posterior, hidden) in [
        (LatentPosterior::Exact, None),
        (TRUNCATED, None),
        (LatentPosterior::Exact, Some(3)),
        (TRUNCATED, Some(3)),
    ] {
        for points in [&points, &nothing] {
            let spec = SbnSpec { hidden, ..SbnSpec::new(4) }.with_posterior(posterior);
            let config = Config::default().max_iter(30);
            let narrow: Vec<f32> =
                points.view().row_iter().flat_map(|row| row.iter().map(|&v| v as f32)).collect();
            let narrow = Points::from_rows(&narrow, 5).unwrap();
            let fit = em::fit(&spec, &narrow, &executor, &config, &mut Silent).unwrap();
            assert!(fit.history.records.iter().all(|r| r.lower_bound.is_finite()));
            let fit = em::fit(&spec, points, &executor, &config, &mut Silent).unwrap();
            for record in &fit.history.records {
                assert!(record.lower_bound.is_finite() && record.gap().is_finite());
            }
            for name in ["prior", "weights", "biases"] {
                let values = fit.model.parameter(name).unwrap();
                assert!(values.iter().all(|v| v.is_finite() && v.abs() < 1e3), "{name} {values:?}");
            }
            let score = inference::score(&fit.model, points, &executor).unwrap();
            assert!(score.log_likelihood.is_finite() && score.log_likelihood <= 1e-9);
        }
    }
}

#[test]
fn bad_input_is_told_what_and_where() {
    let executor = Executor::new(Some(2)).unwrap();
    let mut x = vec![0.0; 3000 * 4];
    x[2500 * 4 + 3] = 3.0;
    let points = Points::from_rows(&x, 4).unwrap().named("digits");
    let config = Config::default();
    let place = "digits: row 2500, column 3: the value is 3, expected 0 or 1";
    let narrow: Vec<f32> = x.iter().map(|&v| v as f32).collect();
    let narrow = Points::from_rows(&narrow, 4).unwrap().named("digits");
    for hidden in [None, Some(2)] {
        for posterior in [LatentPosterior::Exact, TRUNCATED] {
            let spec = SbnSpec { hidden, ..SbnSpec::new(2) }.with_posterior(posterior);
            let fault = em::fit(&spec, &narrow, &executor, &config, &mut Silent).unwrap_err();
            assert!(fault.to_string().starts_with(place), "{fault}");
            let fault = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap_err();
            assert!(fault.to_string().starts_with(place), "{fault}");
        }
    }
    for posterior in [LatentPosterior::Exact, TRUNCATED] {
        let spec = SbnSpec::new(2).with_posterior(posterior);
        let fault = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap_err();
        assert!(fault.to_string().starts_with(place), "{fault}");
        // From a given network no start looks at the points first.
        let given = Layer::new(2, &[0.5; 8], &[0.0; 4]).unwrap();
        let given = SigmoidBeliefNet::new(vec![0.5; 2], None, given).unwrap();
        let spec = SbnSpec::from_model(given).with_posterior(posterior);
        let fault = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap_err();
        assert!(fault.to_string().starts_with(place), "{fault}");
    }
    let fine = Points::from_rows(&x[..8], 4).unwrap();
    let fault = |spec: SbnSpec| {
        em::fit(&spec, &fine, &executor, &config, &mut Silent).unwrap_err().to_string()
    };
    let text = fault(SbnSpec::new(17));
    assert!(text.contains("17 states") || text.contains("2^17 states"), "{text}");
    assert!(text.ends_with("use truncated posteriors"), "{text}");
    let text = fault(SbnSpec::new(10).with_hidden(7).with_posterior(LatentPosterior::Exact));
    assert!(text.contains("2^17 states"), "{text}");
    let text = fault(SbnSpec::new(2).with_posterior(LatentPosterior::Truncated { states: 0 }));
    assert!(text.contains("at least one state"), "{text}");
    let text = fault(SbnSpec::new(5000).with_posterior(TRUNCATED));
    assert!(text.contains("up to 4096"), "{text}");
    let states = LatentPosterior::Truncated { states: 1 << 40 };
    let text = fault(SbnSpec::new(300).with_posterior(states));
    assert!(text.contains("up to 65536"), "{text}");
    assert!(fault(SbnSpec::new(0)).contains("at least one latent"));
    // More states than there are: no more than all are tried.
    let states = LatentPosterior::Truncated { states: 65536 };
    let spec = SbnSpec::new(2).with_posterior(states);
    let fit = em::fit(&spec, &fine, &executor, &config, &mut Silent).unwrap();
    assert!(inference::score(&fit.model, &fine, &executor).unwrap().log_likelihood <= 1e-9);
    let layer = || Layer::new(2, &[0.0; 4], &[0.0; 2]).unwrap();
    assert!(SigmoidBeliefNet::new(vec![0.5; 3], None, layer()).is_err());
    assert!(SigmoidBeliefNet::new(vec![0.5, 1.5], None, layer()).is_err());
    assert!(SigmoidBeliefNet::new(vec![0.5, f64::NAN], None, layer()).is_err());
    assert!(Layer::new(2, &[0.0; 5], &[0.0; 2]).is_err());
    assert!(Layer::new(2, &[f64::INFINITY; 4], &[0.0; 2]).is_err());
}
