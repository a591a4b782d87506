//! Stepwise and incremental EM: golden values, and the identity of entropy sum and surrogate at every step.

use crate::common;

use common::{
    assert_all_close, assert_close, clusters, example_family, example_points, fit_minibatches,
    fixture, gaussian_mixture, gaussians, numbers, resumed, rounded, told,
};
use entropysum::Executor;
use entropysum::Scalar;
use entropysum::data::{BadRows, DataSource, Points};
use entropysum::em::{
    Config, Fit, Fitting, Init, MixtureSpec, Online, StepSize, StreamAlgorithm, StreamConfig,
};
use entropysum::error::{DataError, Result};
use entropysum::expert::em::{Incremental, Stepwise};
use entropysum::expert::model::GenerativeModel;
use entropysum::expert::{BatchOrder, Lanes, start_mixture};
use entropysum::faer::MatRef;
use entropysum::family::{Regularization, registry};
use entropysum::model::{Mixture, Posterior};
use entropysum::monitor::{Event, IterRecord};
use entropysum::store;
use entropysum::{Block, BlockBuf};
use std::ops::ControlFlow;
use std::time::Duration;

const NO_RIDGE: Regularization = Regularization {
    reg_covar: Some(0.0),
    resolution: Vec::new(),
    rounding: f64::EPSILON,
    prior: None,
    floors: Vec::new(),
};

fn block<T: Scalar>(values: &[T], dim: usize) -> Block<'_, T> {
    let points = MatRef::from_row_major_slice(values, values.len() / dim, dim);
    Block { points, weights: None, first: 0, sparse: None }
}

/// Points that a family is for.
fn points_of(name: &str, n: usize, dim: usize, n_components: usize, seed: u64) -> Vec<f64> {
    example_points(&*example_family(name, dim), n, n_components, seed)
}

fn start(name: &str, x: &[f64], dim: usize, n_components: usize, posterior: Posterior) -> Mixture {
    let points = Points::from_rows(x, dim).unwrap();
    let spec = MixtureSpec::new(example_family(name, dim), n_components);
    let executor = Executor::new(Some(1)).unwrap();
    start_mixture(&spec, &points, &executor, &Config::default(), 0)
        .unwrap()
        .0
        .with_posterior(posterior)
}

/// Several starts, of which the best is kept: the first of them is that of a single start.
#[test]
fn the_best_of_several_starts_by_minibatches_is_kept() {
    let x = clusters(3_000, 2, 6, 2.5, 8);
    let points = Points::from_rows(&x, 2).unwrap();
    let executor = Executor::new(Some(2)).unwrap();
    let spec = MixtureSpec::new(registry::build("gaussian-full", 2).unwrap(), 6)
        .with_init(entropysum::em::Init::RandomFromData);
    let stream = StreamConfig::default().batch_size(300).epochs(4);
    let bound = |n_init: usize, seed: u64| {
        let config = Config::default().n_init(n_init).seed(seed);
        let fit = fit_minibatches(&spec, &points, &executor, &config, &stream).unwrap();
        fit.last().unwrap().lower_bound
    };
    let pairs: Vec<[f64; 2]> = (0..4).map(|seed| [bound(1, seed), bound(4, seed)]).collect();
    assert!(pairs.iter().all(|[one, best]| best >= one), "{pairs:?}");
    assert!(pairs.iter().any(|[one, best]| best > &(one + 0.01)), "{pairs:?}");
}

/// Two hundred clusters, and minibatches of fifty points: the first steps must leave each component its points.
#[test]
fn small_minibatches_keep_their_components() {
    let mut u = common::Uniforms::new(3);
    let point = |i: usize| [(i % 200 % 20) as f64 * 12.0, (i % 200 / 20) as f64 * 12.0];
    let x: Vec<f64> = (0..12_000).flat_map(point).map(|centre| centre + u.normal()).collect();
    let points = Points::from_rows(&x, 2).unwrap();
    let executor = Executor::new(Some(2)).unwrap();
    let spec = MixtureSpec::new(registry::build("gaussian-spherical", 2).unwrap(), 200);
    let config = Config::default().seed(1).max_iter(10);
    let batch =
        entropysum::em::fit(&spec, &points, &executor, &config, &mut entropysum::Silent).unwrap();
    let stream = StreamConfig::default().batch_size(50).epochs(4);
    let fit = fit_minibatches(&spec, &points, &executor, &config, &stream).unwrap();
    let score = |model: &Mixture| {
        entropysum::inference::score(model, &points, &executor).unwrap().log_likelihood
    };
    let (found, expected) = (score(&fit.model), score(&batch.model));
    assert!(found > expected - 0.1, "{found} {expected}");
    assert!(fit.model.n_components() >= 190, "{}", fit.model.n_components());
    let told: Vec<_> = fit.warnings.iter().filter(|it| it.contains("--batch-size")).collect();
    assert!(told.len() == 1 && told[0].contains("2000 points"), "{:?}", fit.warnings);
    assert!(fit.warnings.len() <= 13, "{:?}", fit.warnings);
    // Batches of ten points a component are told nothing.
    let stream = StreamConfig::default().batch_size(2000).epochs(1);
    let fit = fit_minibatches(&spec, &points, &executor, &config, &stream).unwrap();
    assert!(!fit.warnings.iter().any(|it| it.contains("--batch-size")), "{:?}", fit.warnings);
}

/// Theory 1.6, against values of 40 digits.
#[test]
fn stepwise_em_on_faithful_follows_40_digit_trajectories() {
    let golden = fixture("gmm_online_faithful");
    let x = numbers(&golden["data"]["x"]);
    let executor = Executor::new(Some(2)).unwrap();
    for run in golden["runs"].as_array().unwrap() {
        let covariance = run["covariance"].as_str().unwrap();
        let stepwise = &run["stepwise"];
        let batch = stepwise["batch"].as_u64().unwrap() as usize;
        let step_size = StepSize { exponent: stepwise["kappa"].as_f64().unwrap(), offset: 0.0 };
        let model = gaussian_mixture(covariance, 2, &run["init"]);
        let mut online = Online::<f64, _>::new(model, step_size, NO_RIDGE).unwrap();
        let steps = stepwise["steps"].as_array().unwrap();
        for (t, expected) in steps.iter().enumerate() {
            let value = |name: &str| expected[name].as_f64().unwrap();
            let first = (t * batch) % 272;
            let step = online
                .partial_fit(block(&x[2 * first..2 * (first + batch)], 2), &executor)
                .unwrap();
            let what = format!("{covariance}, step {}", t + 1);
            assert_close(step.step_size, value("gamma"), 1e-14, &what);
            assert_close(step.batch_log_likelihood, value("batch_loglik"), 1e-10, &what);
            assert_close(step.entropy_sum.total(), value("entropy_sum"), 1e-10, &what);
            assert_close(step.entropy_sum.posterior, value("running_entropy"), 1e-10, &what);
            if expected.get("pi").is_some() {
                let model = online.learner().model();
                assert_all_close(model.weights(), &numbers(&expected["pi"]), 1e-9, &what);
                let means = model.parameter("means").unwrap();
                assert_all_close(&means, &numbers(&expected["means"]), 1e-9, &what);
                let covariances = model.parameter("covariances").unwrap();
                assert_all_close(&covariances, &numbers(&expected["covariances"]), 1e-8, &what);
            }
        }
        let points = Points::from_rows(&x, 2).unwrap();
        let score =
            entropysum::inference::score(online.learner().model(), &points, &executor).unwrap();
        let expected = stepwise["final_loglik"].as_f64().unwrap();
        assert_close(score.log_likelihood, expected, 1e-10, covariance);
    }
}

#[test]
fn incremental_em_on_faithful_follows_40_digit_trajectories() {
    let golden = fixture("gmm_online_faithful");
    let x = numbers(&golden["data"]["x"]);
    let executor = Executor::new(Some(2)).unwrap();
    for run in golden["runs"].as_array().unwrap() {
        let covariance = run["covariance"].as_str().unwrap();
        let expected = &run["incremental"];
        let batch = expected["batch"].as_u64().unwrap() as usize;
        let mut learner =
            Incremental::new(gaussian_mixture(covariance, 2, &run["init"]), 272 / batch, NO_RIDGE);
        let mut lanes = Lanes::<f64, _>::default();
        let mut visit = |learner: &mut Incremental<Mixture>, chunk: usize| {
            let rows = &x[2 * chunk * batch..2 * (chunk + 1) * batch];
            let points = Points::from_rows(rows, 2).unwrap();
            let stats = lanes.sweep(&executor, &points, learner.model()).unwrap();
            learner.absorb(chunk, stats).unwrap()
        };
        for chunk in 0..272 / batch {
            visit(&mut learner, chunk);
        }
        for step in expected["steps"].as_array().unwrap() {
            let chunk = step["batch"].as_i64().unwrap();
            if chunk >= 0 {
                visit(&mut learner, chunk as usize);
            }
            let found = learner.entropy_sum().unwrap().total();
            assert_close(found, step["entropy_sum"].as_f64().unwrap(), 1e-10, covariance);
        }
        let means = learner.model().parameter("means").unwrap();
        assert_all_close(&means, &numbers(&expected["means"]), 1e-8, covariance);
        let covariances = learner.model().parameter("covariances").unwrap();
        assert_all_close(&covariances, &numbers(&expected["covariances"]), 1e-7, covariance);
    }
}

fn identity_holds_at_every_step<T: Scalar>(tolerance: f64, falls: f64) {
    let (dim, n_components, batch) = (3, 4, 100);
    let executor = Executor::new(Some(2)).unwrap();
    for name in registry::names() {
        let x = points_of(name, 2_000, dim, n_components, 21);
        let narrow: Vec<T> = rounded(&x);
        for posterior in [Posterior::Exact, Posterior::Hard] {
            let model = start(name, &x, dim, n_components, posterior);
            let step_size = StepSize { exponent: 0.6, offset: 1.0 };
            let mut online = Online::<T, _>::new(model.clone(), step_size, NO_RIDGE).unwrap();
            for rows in narrow.chunks(batch * dim).cycle().take(60) {
                let step = online.partial_fit(block(rows, dim), &executor).unwrap();
                let gap = online.learner().lower_bound().unwrap() - step.entropy_sum.total();
                assert!(gap.abs() < tolerance, "{name} {posterior:?}: stepwise gap {gap:e}");
                assert!(posterior == Posterior::Exact || step.entropy_sum.posterior == 0.0);
            }

            let mut incremental = Incremental::new(model, 20, NO_RIDGE);
            let mut lanes = Lanes::<T, _>::default();
            let mut last = f64::NEG_INFINITY;
            for (visit, rows) in narrow.chunks(batch * dim).cycle().take(80).enumerate() {
                let points = Points::from_rows(rows, dim).unwrap();
                let stats = lanes.sweep(&executor, &points, incremental.model()).unwrap();
                let step = incremental.absorb(visit % 20, stats).unwrap();
                if incremental.is_warming_up() {
                    last = f64::NEG_INFINITY;
                    continue;
                }
                let sum = step.entropy_sum.total();
                let gap = incremental.lower_bound().unwrap() - sum;
                assert!(gap.abs() < tolerance, "{name} {posterior:?}: incremental gap {gap:e}");
                if !step.events.iter().any(Event::is_repair) {
                    let fall = last - sum;
                    assert!(fall < falls, "{name} {posterior:?}: it fell by {fall:e}");
                }
                last = sum;
            }
        }
    }
}

/// Theory 1.6: with running statistics, whatever posteriors made them, the entropy sum is the surrogate objective.
#[test]
fn entropy_sum_is_the_surrogate_at_every_step_of_every_family() {
    identity_holds_at_every_step::<f64>(1e-10, 1e-10);
}

/// In `f32` the shares of a categorical's levels sum to 1 up to some 1e-8 only, and that is the gap. That the bound never
/// falls is known up to the precision of the points.
#[test]
fn entropy_sum_is_the_surrogate_in_f32_too() {
    identity_holds_at_every_step::<f32>(1e-6, 1e-5);
}

/// The entropy sum is the surrogate by its definition: all batches, each with the posteriors it had, weighted by `ω`.
#[test]
fn the_surrogate_is_the_weighted_bound_over_all_batches() {
    let (dim, n_components, batch) = (2, 3, 64);
    let executor = Executor::new(Some(1)).unwrap();
    for name in registry::names() {
        let x = points_of(name, 640, dim, n_components, 3);
        let step_size = StepSize { exponent: 0.7, offset: 1.0 };
        let model = start(name, &x, dim, n_components, Posterior::Exact);
        let mut online = Online::<f64, _>::new(model, step_size, NO_RIDGE).unwrap();
        let mut omega: Vec<f64> = Vec::new();
        let mut all = Vec::new();
        let mut lanes = Lanes::<f64, _>::default();
        for rows in x.chunks(batch * dim) {
            let points = Points::from_rows(rows, dim).unwrap();
            all.push(lanes.sweep(&executor, &points, online.learner().model()).unwrap());
            let step = online.partial_fit(block(rows, dim), &executor).unwrap();
            omega.iter_mut().for_each(|w| *w *= 1.0 - step.step_size);
            omega.push(step.step_size);
        }
        let model = online.learner().model();
        let surrogate: f64 =
            all.iter().zip(&omega).map(|(stats, w)| w * model.lower_bound(stats)).sum();
        let found = online.learner().entropy_sum().unwrap().total();
        assert_close(found, surrogate, 1e-11, name);
        // And it bounds the log-likelihood under the same weights.
        let mut likelihood = 0.0;
        for (rows, w) in x.chunks(batch * dim).zip(&omega) {
            let points = Points::from_rows(rows, dim).unwrap();
            let score = entropysum::inference::score(model, &points, &executor).unwrap();
            likelihood += w * score.log_likelihood;
        }
        assert!(found <= likelihood + 1e-12, "{name}: {found} above {likelihood}");
        let n_effective = 64.0 / omega.iter().map(|w| w * w).sum::<f64>();
        assert_close(online.learner().effective_points(), n_effective, 1e-12, "N_eff");
    }
}

/// Running sums are translated from centre to centre; narrow components far out must keep their digits.
#[test]
fn narrow_components_far_out_keep_their_variances() {
    let (dim, n) = (2, 4096);
    let unit = clusters(n, dim, 1, 0.0, 8);
    let (mut x, mut far) = (Vec::new(), Vec::new());
    for (i, point) in unit.chunks(dim).enumerate() {
        // A wide one at 0, and one of width 1e-2 at 1e4: a million widths away.
        let narrow = i % 2 == 1;
        for (d, v) in point.iter().enumerate() {
            x.push(if narrow { 1e4 * (d as f64 + 1.0) + 1e-2 * v } else { 1e2 * v });
        }
        if narrow {
            far.extend_from_slice(&x[x.len() - dim..]);
        }
    }
    let n_far = far.len() / dim;
    let mean = |d: usize| {
        far.chunks(dim).map(|p| p[d] - 1e4 * (d as f64 + 1.0)).sum::<f64>() / n_far as f64
    };
    let executor = Executor::new(Some(1)).unwrap();
    for name in gaussians() {
        let tied = name.contains("tied");
        let model = start(name, &x, dim, 2, Posterior::Exact);
        // Plain means over one pass: the statistics are then those of a batch sweep.
        let learner =
            Stepwise::new(model, StepSize { exponent: 1.0, offset: 0.0 }, NO_RIDGE).unwrap();
        let mut online = Online::<f64, _>::from_learner(learner);
        for rows in x.chunks(256 * dim) {
            online.partial_fit(block(rows, dim), &executor).unwrap();
        }
        let model = online.learner().model();
        let gap = online.learner().lower_bound().unwrap()
            - online.learner().entropy_sum().unwrap().total();
        assert!(gap.abs() < 1e-10, "{name}: gap {gap:e}");
        if tied {
            continue;
        }
        let means = model.parameter("means").unwrap();
        let c = usize::from(means[dim] > means[0]);
        let covariances = model.parameter("covariances").unwrap();
        let own = &covariances[c * covariances.len() / 2..][..covariances.len() / 2];
        let variance = |d: usize| {
            far.chunks(dim).map(|p| (p[d] - 1e4 * (d as f64 + 1.0) - mean(d)).powi(2)).sum::<f64>()
                / n_far as f64
        };
        let expected = match own.len() {
            1 => vec![(variance(0) + variance(1)) / 2.0],
            2 => vec![variance(0), variance(1)],
            _ => vec![variance(0), own[1], own[1], variance(1)],
        };
        let scaled = |values: &[f64]| values.iter().map(|v| v * 1e4).collect::<Vec<_>>();
        assert_all_close(&scaled(own), &scaled(&expected), 1e-8, name);
    }
}

#[test]
fn merged_learners_have_seen_both_streams() {
    let (dim, n_components) = (2, 3);
    let x = clusters(6_000, dim, n_components, 2.0, 5);
    let model = start("gaussian-full", &x, dim, n_components, Posterior::Exact);
    let executor = Executor::new(Some(1)).unwrap();
    // During warm-up the parameters stay, so that the statistics of two halves join to those of the whole.
    let learner = || {
        let learner = Stepwise::new(model.clone(), StepSize::default(), NO_RIDGE).unwrap();
        Online::<f64, _>::from_learner(learner.with_warm_up(6_000))
    };
    let (mut whole, mut left, mut right) = (learner(), learner(), learner());
    for (i, rows) in x.chunks(500 * dim).enumerate() {
        whole.partial_fit(block(rows, dim), &executor).unwrap();
        let half = if i % 2 == 0 { &mut left } else { &mut right };
        half.partial_fit(block(rows, dim), &executor).unwrap();
    }
    assert_eq!(left.learner().entropy_sum(), None);
    left.learner_mut().merge(right.learner()).unwrap();
    let (joined, whole) = (left.into_learner(), whole.into_learner());
    assert_eq!((joined.points_seen(), whole.points_seen()), (6_000, 6_000));
    assert_close(joined.effective_points(), 6_000.0, 1e-12, "N_eff");
    let sums = [&joined, &whole].map(|learner| learner.entropy_sum().unwrap().total());
    assert_close(sums[0], sums[1], 1e-12, "entropy sum");
    let means = [&joined, &whole].map(|learner| learner.model().parameter("means").unwrap());
    assert_all_close(&means[0], &means[1], 1e-11, "means");
    let mut other = Stepwise::new(
        start("gaussian-full", &x, dim, 2, Posterior::Exact),
        StepSize::default(),
        NO_RIDGE,
    )
    .unwrap();
    assert!(other.merge(&whole).is_err());
}

/// The mean of statistics is a statistic: the model of the average has an exact entropy sum too, and less noise.
#[test]
fn the_average_of_statistics_keeps_the_identity_and_the_effective_points() {
    let (dim, n_components, batch) = (2, 3, 50);
    let executor = Executor::new(Some(1)).unwrap();
    for name in registry::names() {
        let x = points_of(name, 5_000, dim, n_components, 6);
        let model = start(name, &x, dim, n_components, Posterior::Exact);
        let mut online = Online::<f64, _>::new(model, StepSize::default(), NO_RIDGE).unwrap();
        let mut omega: Vec<f64> = Vec::new();
        let mut averaged = vec![0.0; 100];
        for (t, rows) in x.chunks(batch * dim).enumerate() {
            if t == 50 {
                online.learner_mut().start_averaging();
            }
            let step = online.partial_fit(block(rows, dim), &executor).unwrap();
            omega.iter_mut().for_each(|w| *w *= 1.0 - step.step_size);
            omega.push(step.step_size);
            if t >= 50 {
                averaged.iter_mut().zip(&omega).for_each(|(sum, w)| *sum += w / 50.0);
            }
        }
        let before = online.learner().effective_points();
        assert!(online.learner_mut().finish_averaging());
        let learner = online.learner();
        let n_effective = 50.0 / averaged.iter().map(|w| w * w).sum::<f64>();
        assert_close(learner.effective_points(), n_effective, 1e-9, "N_eff of the average");
        assert!(n_effective > 2.0 * before);
        let gap = learner.lower_bound().unwrap() - learner.entropy_sum().unwrap().total();
        assert!(gap.abs() < 1e-10, "{name}: {gap:e}");
    }
}

#[test]
fn steps_and_batches_out_of_range_are_refused() {
    let x = clusters(100, 2, 2, 2.0, 1);
    let model = start("gaussian-diag", &x, 2, 2, Posterior::Exact);
    for (exponent, offset) in
        [(0.5, 1.0), (1.1, 1.0), (f64::NAN, 1.0), (0.7, -1.0), (0.7, f64::INFINITY)]
    {
        let steps = StepSize { exponent, offset };
        assert!(Stepwise::new(model.clone(), steps, NO_RIDGE).is_err(), "{steps:?}");
    }
    let executor = Executor::new(Some(1)).unwrap();
    let mut online = Online::<f64, _>::new(model, StepSize::default(), NO_RIDGE).unwrap();
    assert!(online.partial_fit(block(&x, 4), &executor).is_err());
    assert!(online.partial_fit(block(&[], 2), &executor).is_err());
    let mut broken = x.clone();
    broken[7] = f64::NAN;
    let fault = online.partial_fit(block(&broken, 2), &executor).unwrap_err().to_string();
    assert!(fault.starts_with("batch: row 3, column 1: "), "{fault}");
    assert_eq!(online.learner().steps(), 0);
    assert!(online.partial_fit(block(&x, 2), &executor).is_ok());
}

fn stream_config() -> StreamConfig {
    StreamConfig::default().batch_size(200).epochs(3).memory(1 << 16)
}

fn fit_stream<T: Scalar>(
    name: &str,
    threads: usize,
    n: usize,
    config: &StreamConfig,
) -> Fit<Mixture> {
    let (dim, n_components) = (3, 4);
    let x = points_of(name, n, dim, n_components, 17);
    let model = start(name, &x, dim, n_components, Posterior::Exact);
    let narrow: Vec<T> = rounded(&x);
    let points = Points::from_rows(&narrow, dim).unwrap();
    let executor = Executor::new(Some(threads)).unwrap();
    fit_minibatches(&model, &points, &executor, &Config::default(), config).unwrap()
}

#[test]
fn every_record_of_a_stream_has_the_identity_and_an_error_bar() {
    for name in registry::names() {
        let fit = fit_stream::<f64>(name, 1, 20_000, &stream_config().audit(10));
        let records = &fit.history.records;
        assert!(records.len() > 20, "{name}: {}", records.len());
        for record in records {
            let minibatch = record.minibatch.unwrap();
            assert!(record.gap().abs() < 1e-10, "{name}: {:e}", record.gap());
            if minibatch.audit.is_finite() {
                // The monitor is an estimate of what the audit measures: within its error, and some optimism.
                let error = record.entropy_sum.total() - minibatch.audit;
                assert!(
                    error.abs() < 5.0 * minibatch.standard_error,
                    "{name}: {error} {minibatch:?}"
                );
            }
        }
        // Averaging makes the error smaller, and not nothing.
        let errors: Vec<f64> =
            records.iter().map(|r| r.minibatch.unwrap().standard_error).collect();
        let [.., before, last] = errors[..] else { panic!("too few records") };
        assert!(last > 0.1 * before && last < before, "{name}: {before} {last}");
        assert!(records.iter().filter(|r| r.minibatch.unwrap().audit.is_finite()).count() >= 2);
    }
}

/// Two standard errors cover the value of endless points in nine of ten sets, however often each point is seen.
#[test]
fn standard_errors_cover_the_truth_after_many_epochs() {
    let truth = -0.5 * (2.0 * std::f64::consts::PI * std::f64::consts::E).ln();
    let executor = Executor::new(Some(1)).unwrap();
    let config = stream_config().batch_size(30).epochs(40);
    let mut covered = 0;
    for seed in 0..60 {
        let x = clusters(300, 1, 1, 0.0, seed);
        let model = start("gaussian-full", &x, 1, 1, Posterior::Exact);
        let points = Points::from_rows(&x, 1).unwrap();
        let settings = Config::default();
        let fit = fit_minibatches(&model, &points, &executor, &settings, &config).unwrap();
        let last = fit.last().unwrap();
        let minibatch = last.minibatch.unwrap();
        assert!(minibatch.effective_points <= 300.0, "{minibatch:?}");
        let error = last.entropy_sum.total() - truth;
        covered += usize::from(error.abs() <= 2.0 * minibatch.standard_error);
    }
    assert!((54..=60).contains(&covered), "{covered} of 60");
}

#[test]
fn incremental_fits_rise_from_record_to_record_and_converge() {
    let config = stream_config().algorithm(StreamAlgorithm::Incremental).epochs(100);
    let fit = fit_stream::<f64>("gaussian-full", 2, 5_000, &config);
    assert!(fit.converged());
    for pair in fit.history.records.windows(2) {
        assert!(pair[1].change > -1e-12, "{:?}", pair[1].change);
    }
    let none = config.memory(1000);
    let x = clusters(5_000, 3, 4, 1.5, 17);
    let model = start("gaussian-full", &x, 3, 4, Posterior::Exact);
    let points = Points::from_rows(&x, 3).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let fault = fit_minibatches(&model, &points, &executor, &Config::default(), &none);
    let fault = fault.unwrap_err().to_string();
    assert!(fault.contains("statistics of 25 chunks need 1 MB"), "{fault}");
}

/// A source whose points are bad from a row on.
struct Broken(Points<'static, f64>, u64);

impl DataSource<f64> for Broken {
    fn name(&self) -> String {
        "broken".to_owned()
    }
    fn dim(&self) -> usize {
        self.0.dim()
    }
    fn len(&self) -> u64 {
        DataSource::<f64>::len(&self.0)
    }
    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<f64>,
    ) -> Result<Block<'a, f64>> {
        if (start..start + count as u64).contains(&self.1) {
            return Err(DataError::new("broken", "input/output error").at(self.1, None).into());
        }
        self.0.read(start, count, buffer)
    }
}

/// A checkpoint remembers of a model what its file would not: what is held, and that values may be missing.
#[test]
fn resumed_fits_hold_what_was_held_and_go_on_without_missing_values() {
    let x = clusters(2_000, 2, 3, 2.0, 5);
    let holes: Vec<f64> =
        x.iter().enumerate().map(|(i, &v)| if i % 11 == 3 { f64::NAN } else { v }).collect();
    let (executor, config) = (Executor::new(Some(2)).unwrap(), Config::default());
    let model = start("gaussian-diag", &x, 2, 3, Posterior::Exact);
    let (weights, means) = (model.weights().to_vec(), model.parameter("means").unwrap());
    for (what, values, model) in [
        ("frozen", &x, model.clone().with_frozen(vec![true, false, false])),
        ("fixed weights", &x, model.clone().with_fixed_weights(true)),
        ("missing", &holes, model.clone().ignoring_missing().unwrap()),
    ] {
        let points = Points::from_rows(values, 2).unwrap();
        for algorithm in [StreamAlgorithm::Stepwise, StreamAlgorithm::Incremental] {
            let settings = stream_config().algorithm(algorithm);
            let whole = fit_minibatches(&model, &points, &executor, &config, &settings).unwrap();
            let ([fit, _], _) = resumed(&model, &points, &executor, &config, Some(&settings), 9);
            assert_eq!(told(&fit), told(&whole), "{what} {algorithm:?}");
            let moved = fit.model.parameter("means").unwrap();
            match what {
                "frozen" => assert!(moved[..2] == means[..2] && moved[2..] != means[2..]),
                "fixed weights" => assert_eq!(fit.model.weights(), weights),
                _ => assert!(fit.history.records.iter().all(|record| record.gap().abs() < 1e-10)),
            }
        }
    }
}

/// Bound, entropy sum and M-step are about points, not about where their statistics are taken.
#[test]
fn statistics_about_other_centres_say_the_same() {
    let x: Vec<f64> = (0..4_000)
        .map(|i| match i % 4 {
            1 => (3.0 + 3.0 * (f64::from(i) * 0.3).sin()).round(),
            d => 5.0 * f64::from(i / 4 % 3) + f64::from(d) + (f64::from(i) * 0.77).sin(),
        })
        .collect();
    let points = Points::from_rows(&x, 4).unwrap();
    let holes = x.iter().enumerate().map(|(i, &v)| if i % 7 == 0 { f64::NAN } else { v }).collect();
    let holes = Points::owned(holes, 4).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let mixed = "gaussian-diag:0,poisson:1,gaussian-full:2-3";
    let observed = "gaussian-diag:0,poisson:1,gaussian-spherical:2-3";
    for (name, missing) in [
        ("gaussian-full", false),
        ("gaussian-tied", false),
        ("gaussian-spherical", false),
        ("gaussian-diag", true),
        ("gaussian-spherical", true),
        (mixed, false),
        (observed, true),
    ] {
        let spec = MixtureSpec::new(registry::build(name, 4).unwrap(), 3);
        let spec = spec.with_init(Init::KMeansPlusPlus);
        let mut model = start_mixture(&spec, &points, &executor, &Config::default(), 0).unwrap().0;
        let source = if missing { &holes } else { &points };
        if missing {
            model = model.ignoring_missing().unwrap();
        }
        let stats = Lanes::default().sweep(&executor, source, &model).unwrap();
        let mut moved = stats.clone();
        model.translate(&mut moved, &model.centres());
        assert_ne!(moved, stats, "{name}: nothing was moved");
        let (mut other, what) = (model.clone(), format!("{name}, missing {missing}"));
        model.m_step(&stats, &NO_RIDGE);
        other.m_step(&moved, &NO_RIDGE);
        for (a, b) in model.parameters().components.iter().zip(&other.parameters().components) {
            assert_all_close(a, b, 1e-11, &what);
        }
        assert_all_close(&model.parameters().shared, &other.parameters().shared, 1e-11, &what);
        assert_close(model.lower_bound(&stats), model.lower_bound(&moved), 1e-12, &what);
        let sums = [&stats, &moved].map(|stats| model.entropy_sum(stats).total());
        assert_close(sums[0], sums[1], 1e-12, &what);
        // And back.
        model.translate(&mut moved, stats.centres());
        assert_all_close(moved.as_slice(), stats.as_slice(), 1e-11, &what);
    }
}

#[test]
fn a_source_that_fails_leaves_a_checkpoint_to_go_on_from() {
    let x = clusters(3_000, 2, 3, 1.5, 29);
    let source = |row| Broken(Points::owned(x.clone(), 2).unwrap(), row);
    let model = start("gaussian-full", &x, 2, 3, Posterior::Exact);
    let executor = Executor::new(Some(2)).unwrap();
    let (config, settings) = (Config::default(), stream_config().epochs(2));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let whole = source(u64::MAX);
    let expected = fit_minibatches(&model, &whole, &executor, &config, &settings).unwrap();

    // The row of the last window: batches of the windows before it are learned from.
    let order = BatchOrder::minibatches::<f64>(&whole, 200, settings.memory / 2, config.seed, true);
    assert!(order.n_windows() > 1);
    let row = order.ranges(&order.chunks(0), order.n_windows() - 1).next().unwrap().start;
    let broken = source(row);
    let fault = Fitting::new(&broken, &executor)
        .config(&config)
        .minibatches(&settings)
        .checkpoints(Duration::MAX, |state| store::save_checkpoint(&path, state))
        .fit(&model)
        .unwrap_err()
        .to_string();
    assert!(fault.starts_with(&format!("broken: row {row}: input/output error")), "{fault}");
    let mut steps = Vec::new();
    let mut observer = |record: &IterRecord| {
        steps.push(record.iteration);
        ControlFlow::Continue(())
    };
    let fit = Fitting::new(&whole, &executor)
        .config(&config)
        .minibatches(&settings)
        .observer(&mut observer)
        .resume(store::load_checkpoint(&path).unwrap())
        .fit(&model)
        .unwrap();
    assert!(steps[0] > 1, "batches before the fault are learned from once");
    assert_eq!(told(&fit), told(&expected));
}

#[test]
fn bad_points_end_a_fit_with_their_row_or_are_left_out_and_counted() {
    let mut x = clusters(3_000, 2, 3, 1.5, 31);
    x[2 * 1234 + 1] = f64::NAN;
    let clean: Vec<f64> = x.chunks(2).filter(|p| p[1].is_finite()).flatten().copied().collect();
    let model = start("gaussian-full", &clean, 2, 3, Posterior::Exact);
    let points = Points::from_rows(&x, 2).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let fit = |bad_rows| {
        let settings = stream_config().bad_rows(bad_rows);
        fit_minibatches(&model, &points, &executor, &Config::default(), &settings)
    };
    let fault = fit(BadRows::Error).unwrap_err().to_string();
    assert!(fault.starts_with("memory: row 1234, column 1: the value is NaN"), "{fault}");
    let skipped = fit(BadRows::Skip).unwrap();
    assert_eq!(
        skipped.warnings,
        ["1 row skipped: values are missing or outside the support of the model"]
    );
    assert_eq!(skipped.last().unwrap().points_seen, 3 * 2_999);
}
