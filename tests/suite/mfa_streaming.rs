//! Mixtures of factor analysers by minibatches: identities, translation, checkpoints.

use crate::common;

use common::{Uniforms, assert_all_close, assert_close, rounded};
use entropysum::Block;
use entropysum::Executor;
use entropysum::Scalar;
use entropysum::data::Points;
use entropysum::em::{self, Config, FactorAnalyzersSpec, Online, StepSize};
use entropysum::expert::em::Incremental;
use entropysum::expert::model::GenerativeModel;
use entropysum::expert::stats::SuffStats;
use entropysum::expert::{Lanes, Sweeper, start_factor_analyzers};
use entropysum::faer::MatRef;
use entropysum::family::Regularization;
use entropysum::model::{MixtureOfFactorAnalyzers, NoiseStructure};
use entropysum::monitor::{Event, Silent};

const DIM: usize = 5;
const LATENTS: usize = 2;
const COMPONENTS: usize = 3;
const NO_RIDGE: Regularization = Regularization {
    reg_covar: Some(0.0),
    resolution: Vec::new(),
    rounding: f64::EPSILON,
    prior: None,
    floors: Vec::new(),
};

fn executor(threads: usize) -> Executor {
    Executor::new(Some(threads)).unwrap()
}

/// Points of three factor analysers, not well apart.
fn example(n: usize, seed: u64) -> Vec<f64> {
    let mut u = Uniforms::new(seed);
    let means: Vec<f64> = (0..COMPONENTS * DIM).map(|_| 2.0 * u.normal()).collect();
    let loadings: Vec<f64> = (0..COMPONENTS * DIM * LATENTS).map(|_| u.normal()).collect();
    let mut x = Vec::with_capacity(n * DIM);
    for i in 0..n {
        let c = i % COMPONENTS;
        let z: Vec<f64> = (0..LATENTS).map(|_| u.normal()).collect();
        for d in 0..DIM {
            let w = &loadings[(c * DIM + d) * LATENTS..][..LATENTS];
            let signal: f64 = w.iter().zip(&z).map(|(a, b)| a * b).sum();
            x.push(means[c * DIM + d] + signal + (0.5 + 0.1 * d as f64) * u.normal());
        }
    }
    x
}

fn start(noise: NoiseStructure, x: &[f64]) -> MixtureOfFactorAnalyzers {
    let points = Points::from_rows(x, DIM).unwrap();
    let spec = FactorAnalyzersSpec::new(noise, COMPONENTS, LATENTS);
    start_factor_analyzers(&spec, &points, &executor(1), &Config::default(), 0).unwrap().0
}

fn block<T: Scalar>(values: &[T]) -> Block<'_, T> {
    let points = MatRef::from_row_major_slice(values, values.len() / DIM, DIM);
    Block { points, weights: None, first: 0, sparse: None }
}

fn statistics(model: &MixtureOfFactorAnalyzers, x: &[f64]) -> SuffStats {
    let points = Points::from_rows(x, DIM).unwrap();
    Lanes::default().sweep(&executor(1), &points, model).unwrap()
}

fn identity_holds_at_every_step<T: Scalar>(tolerance: f64, falls: f64) {
    let x = example(1_500, 3);
    let narrow: Vec<T> = rounded(&x);
    for noise in NoiseStructure::ALL {
        let model = start(noise, &x);
        let step_size = StepSize { exponent: 0.6, offset: 1.0 };
        let mut online = Online::<T, _>::new(model.clone(), step_size, NO_RIDGE).unwrap();
        for rows in narrow.chunks(150 * DIM).cycle().take(60) {
            let step = online.partial_fit(block(rows), &executor(2)).unwrap();
            let gap = online.learner().lower_bound().unwrap() - step.entropy_sum.total();
            assert!(gap.abs() < tolerance, "{noise:?}: stepwise gap {gap:e}");
        }
        let mut incremental = Incremental::new(model, 10, NO_RIDGE);
        let mut lanes = Lanes::<T, _>::default();
        let mut last = f64::NEG_INFINITY;
        for (visit, rows) in narrow.chunks(150 * DIM).cycle().take(80).enumerate() {
            let points = Points::from_rows(rows, DIM).unwrap();
            let stats = lanes.sweep(&executor(2), &points, incremental.model()).unwrap();
            let step = incremental.absorb(visit % 10, stats).unwrap();
            if incremental.is_warming_up() {
                continue;
            }
            let sum = step.entropy_sum.total();
            let gap = incremental.lower_bound().unwrap() - sum;
            assert!(gap.abs() < tolerance, "{noise:?}: incremental gap {gap:e}");
            assert!(last - sum < falls, "{noise:?}: it fell by {:e}", last - sum);
            last = sum;
        }
    }
}

/// Theory 3.6: parameter-expanded M-steps are exact, from running statistics too.
#[test]
fn the_entropy_sum_is_the_surrogate_at_every_step() {
    identity_holds_at_every_step::<f64>(1e-10, 1e-12);
}

#[test]
fn the_entropy_sum_is_the_surrogate_in_f32_too() {
    identity_holds_at_every_step::<f32>(1e-10, 1e-6);
}

/// The latents of statistics made at different times are the same ones: else incremental EM would end elsewhere.
#[test]
fn incremental_em_ends_where_batch_em_does() {
    let x = example(600, 5);
    let points = Points::from_rows(&x, DIM).unwrap();
    for noise in NoiseStructure::ALL {
        let model = start(noise, &x);
        let config = Config::default().max_iter(5_000).tol(1e-10).regularization(NO_RIDGE);
        let batch = em::fit(&model, &points, &executor(1), &config, &mut Silent).unwrap();
        let mut learner = Incremental::new(model, 12, NO_RIDGE);
        let mut lanes = Lanes::<f64, _>::default();
        for visit in 0..12_000 {
            let rows = &x[50 * DIM * (visit % 12)..][..50 * DIM];
            let chunk = Points::from_rows(rows, DIM).unwrap();
            let stats = lanes.sweep(&executor(1), &chunk, learner.model()).unwrap();
            learner.absorb(visit % 12, stats).unwrap();
        }
        let sum = learner.entropy_sum().unwrap().total();
        let log_likelihood = |model: &MixtureOfFactorAnalyzers| {
            let executor = executor(1);
            let stats = Sweeper::new(&points, &executor).sweep(model).unwrap();
            stats.log_evidence() / stats.total_weight()
        };
        let reached = log_likelihood(learner.model());
        // The bound of all points, each with its last posterior, is tight where nothing moves any more.
        assert!(sum <= reached + 1e-12, "{noise:?}: {:e}", sum - reached);
        assert_close(sum, reached, 1e-7, noise.model_name());
        // The same optimum, on whose flat ridge both are slow, and an iteration of batch EM finds nothing to gain there.
        let lost = log_likelihood(&batch.model) - reached;
        assert!(lost.abs() < 1e-3, "{noise:?}: {lost:e}");
        let one = config.max_iter(1);
        let on = em::fit(learner.model(), &points, &executor(1), &one, &mut Silent);
        let gain = on.unwrap().last().unwrap().delta();
        assert!(gain < 1e-7, "{noise:?}: {gain:e}");
    }
}

#[test]
fn statistics_about_other_centres_say_the_same() {
    let x = example(600, 8);
    for noise in NoiseStructure::ALL {
        let mut model = start(noise, &x);
        // Off its start, so that priors of latents are not those of a file.
        for _ in 0..3 {
            let stats = statistics(&model, &x);
            model.m_step(&stats, &NO_RIDGE);
        }
        let stats = statistics(&model, &x);
        let mut moved = stats.clone();
        let centres: Vec<f64> = model.centres().iter().map(|centre| centre + 0.7).collect();
        model.translate(&mut moved, &centres);
        assert_eq!(moved.centres(), centres);
        let (mut one, mut other) = (model.clone(), model.clone());
        one.m_step(&stats, &NO_RIDGE);
        other.m_step(&moved, &NO_RIDGE);
        for name in ["means", "loadings", "noise_variances"] {
            let of = |model: &MixtureOfFactorAnalyzers| model.parameter(name).unwrap();
            assert_all_close(&of(&one), &of(&other), 1e-10, name);
        }
        assert_close(model.lower_bound(&stats), model.lower_bound(&moved), 1e-11, "bound");
        model.translate(&mut moved, stats.centres());
        assert_all_close(moved.as_slice(), stats.as_slice(), 1e-10, "there and back");
    }
}

/// After a split, running statistics are the expected ones of the halves: an M-step leaves these as they are.
#[test]
fn repaired_components_go_on_as_they_were_put() {
    let x = example(900, 12);
    let mut means = start(NoiseStructure::Diagonal, &x).parameter("means").unwrap();
    let good = start(NoiseStructure::Diagonal, &x);
    means.extend([1e6; DIM]);
    let repeat = |name: &str, n: usize| {
        let mut values = good.parameter(name).unwrap();
        values.extend_from_within(..n);
        values
    };
    let model = MixtureOfFactorAnalyzers::new(
        NoiseStructure::Diagonal,
        DIM,
        vec![0.3, 0.3, 0.3, 0.1],
        &means,
        &repeat("loadings", DIM * LATENTS),
        &repeat("noise_variances", DIM),
    )
    .unwrap();
    let mut online =
        Online::<f64, _>::new(model, StepSize { exponent: 0.6, offset: 2.0 }, NO_RIDGE).unwrap();
    let mut splits = 0;
    for rows in x.chunks(300 * DIM).cycle().take(30) {
        let step = online.partial_fit(block(rows), &executor(1)).unwrap();
        let learner = online.learner();
        let split = step.events.iter().find_map(|event| match event {
            Event::Split { component, donor } => Some([*component, *donor]),
            _ => None,
        });
        if let Some(halves) = split {
            splits += 1;
            let mut again = learner.model().clone();
            again.m_step(learner.statistics().unwrap(), &NO_RIDGE);
            for name in ["means", "loadings", "noise_variances"] {
                let each = again.parameter(name).unwrap().len() / (COMPONENTS + 1);
                let of = |model: &MixtureOfFactorAnalyzers, c: usize| {
                    model.parameter(name).unwrap()[c * each..][..each].to_vec()
                };
                for c in halves {
                    assert_all_close(&of(&again, c), &of(learner.model(), c), 1e-9, name);
                }
            }
        } else {
            let gap = learner.lower_bound().unwrap() - step.entropy_sum.total();
            assert!(gap.abs() < 1e-10, "{gap:e}");
        }
    }
    assert_eq!(splits, 1);
}
