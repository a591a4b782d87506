//! What it costs to watch a fit: three monitors on one model and its statistics. Their answers are checked first.
//!
//! The log-likelihood falls out of an E-step, but is that of the parameters *before* the M-step. A separate pass gives
//! that of the new ones, at the price of about half an iteration. The entropy sum gives a bound of it without a point.

use std::hint::black_box;
use std::sync::Arc;

use crate::common::{assert_close, draw, group, mixture};
use criterion::{Criterion, Throughput};
use entropysum::Block;
use entropysum::Executor;
use entropysum::data::Points;
use entropysum::em::{Online, StepSize};
use entropysum::expert::Sweeper;
use entropysum::expert::model::GenerativeModel;
use entropysum::expert::stats::SuffStats;
use entropysum::faer::MatRef;
use entropysum::family::{Parameters, Regularization, registry};
use entropysum::inference;
use entropysum::model::Mixture;

/// `F(q, Θ)` of Eqn 2 point by point, with the posteriors of `old` and the parameters of `new`.
fn lower_bound_from_points(
    old: &Mixture,
    new: &Mixture,
    points: &Points<'_, f64>,
    executor: &Executor,
) -> f64 {
    let n_components = old.n_components();
    let mut posteriors = Vec::new();
    inference::predict_proba(old, points, executor, |_, batch| {
        posteriors.extend_from_slice(batch);
        Ok(())
    })
    .unwrap();
    let mut sum: f64 = posteriors.iter().filter(|&&q| q > 0.0).map(|q| -q * q.ln()).sum();
    for c in 0..n_components {
        let family = registry::build(&new.family().name(), new.dim()).unwrap();
        let components = vec![new.theta(c).component.to_vec()];
        let parameters = Parameters { components, shared: new.parameters().shared.clone() };
        let component = Mixture::new(Arc::clone(&family), vec![1.0], parameters).unwrap();
        inference::score_samples(&component, points, executor, |first, log_density| {
            for (i, l) in log_density.iter().enumerate() {
                let q = posteriors[(first as usize + i) * n_components + c];
                if q > 0.0 {
                    sum += q * (new.weights()[c].ln() + l);
                }
            }
            Ok(())
        })
        .unwrap();
    }
    sum / (posteriors.len() / n_components) as f64
}

fn log_likelihood(stats: &SuffStats) -> f64 {
    stats.log_evidence() / stats.total_weight()
}

fn monitors(criterion: &mut Criterion) {
    let executor = Executor::new(Some(2)).unwrap();
    for (family, n, dim, n_components) in [
        ("gaussian-full", 20_000, 32, 16),
        ("gaussian-diag", 20_000, 32, 64),
        ("gaussian-spherical", 20_000, 16, 128),
    ] {
        let values: Vec<f64> = draw(&mixture(family, dim, n_components), n);
        let points = Points::from_rows(&values, dim).unwrap();
        // Not the parameters that made the points, so that the M-step has something to do.
        let mut parameters = mixture(family, dim, n_components);
        let mut sweeper = Sweeper::new(&points, &executor);
        let first = sweeper.sweep(&parameters).unwrap();
        parameters.m_step(&first, &Regularization { reg_covar: Some(0.1), ..Default::default() });
        let old = parameters;
        let stats = sweeper.sweep(&old).unwrap();
        let mut new = old.clone();
        new.m_step(&stats, &Regularization { reg_covar: Some(0.0), ..Default::default() });

        let separate = inference::score(&old, &points, &executor).unwrap().log_likelihood;
        assert_close(log_likelihood(&stats), separate, 1e-9);
        assert_close(old.lower_bound(&stats), separate, 1e-9);
        let bound = new.lower_bound(&stats);
        assert_close(new.entropy_sum(&stats).total(), bound, 1e-9);
        assert_close(lower_bound_from_points(&old, &new, &points, &executor), bound, 1e-9);
        let after = inference::score(&new, &points, &executor).unwrap().log_likelihood;
        assert!(separate < bound && bound <= after, "{separate} {bound} {after}");

        let name = format!("monitor/{family}/{n} x {dim}, {n_components} components");
        let mut group = group(criterion, &name, Throughput::Elements(n));
        group.bench_function("log-likelihood of the sweep", |bencher| {
            bencher.iter(|| log_likelihood(black_box(&stats)));
        });
        group.bench_function("separate pass", |bencher| {
            bencher.iter(|| inference::score(black_box(&new), &points, &executor).unwrap());
        });
        group.bench_function("entropy sum and lower bound", |bencher| {
            bencher.iter(|| (new.entropy_sum(black_box(&stats)), new.lower_bound(&stats)));
        });
        group.bench_function("the sweep, for comparison", |bencher| {
            bencher.iter(|| sweeper.sweep(black_box(&old)).unwrap());
        });
        group.finish();
    }
}

/// What a step of stepwise EM costs, and what it costs to know the bound after it: from the running statistics, or by a pass
/// over all points.
fn minibatches(criterion: &mut Criterion) {
    let executor = Executor::new(Some(2)).unwrap();
    let (n, dim, n_components, batch_size) = (100_000, 16, 64, 4096);
    for family in ["gaussian-full", "gaussian-diag"] {
        let truth = mixture(family, dim, n_components);
        let values: Vec<f32> = draw(&truth, n);
        let points = Points::from_rows(&values, dim).unwrap();
        let regularization = Regularization::default();
        let mut online = Online::<f32, _>::new(truth, StepSize::default(), regularization).unwrap();
        let mut batches = values.chunks_exact(batch_size * dim).cycle();
        let mut step = |online: &mut Online<f32, Mixture>| {
            let points = MatRef::from_row_major_slice(batches.next().unwrap(), batch_size, dim);
            let block = Block { points, weights: None, first: 0, sparse: None };
            online.partial_fit(block, &executor).unwrap()
        };
        let found = (0..20).map(|_| step(&mut online)).last().unwrap().entropy_sum.total();
        assert_close(found, online.learner().lower_bound().unwrap(), 1e-9);
        let pass = inference::score(online.learner().model(), &points, &executor).unwrap();
        assert_close(found, pass.log_likelihood, 1e-2);

        let name = format!(
            "monitor/minibatch/{family}/{n} x {dim}, {n_components} components, {batch_size} a batch"
        );
        let mut group = group(criterion, &name, Throughput::Elements(batch_size as u64));
        group.bench_function("a step", |bencher| bencher.iter(|| step(&mut online)));
        let learner = online.learner();
        group.bench_function("entropy sum", |bencher| bencher.iter(|| learner.entropy_sum()));
        group.bench_function("separate pass", |bencher| {
            bencher.iter(|| inference::score(learner.model(), &points, &executor).unwrap());
        });
        group.finish();
    }
}

pub fn benches(criterion: &mut Criterion) {
    monitors(criterion);
    minibatches(criterion);
}
