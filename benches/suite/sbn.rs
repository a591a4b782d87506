//! Sweeps of sigmoid belief networks: over all states by the number of latents, over sets of states by their size; and what it
//! costs to watch them. Evidence is checked before it is timed.
//!
//! `cargo bench --bench suite -- sbn/truncated` runs a part, `-- sbn/rate` compares a sweep over all states with a large product of
//! matrices: both print floating-point operations a second, the sweep as if it did the 4 N C L of two products with all 2^H
//! states.

use std::hint::black_box;

use crate::common::{assert_close, group};
use criterion::{Criterion, Throughput};
use entropysum::Executor;
use entropysum::Scalar;
use entropysum::data::Points;
use entropysum::expert::em::Mergeable;
use entropysum::expert::model::GenerativeModel;
use entropysum::expert::{Sweeper, search_states};
use entropysum::faer::linalg::matmul::matmul;
use entropysum::faer::{Accum, Mat, Par};
use entropysum::inference;
use entropysum::model::{LatentPosterior, Layer, SigmoidBeliefNet};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

const DIM: usize = 196;

/// A network each of whose latents turns on a part of the observables.
fn net(latents: usize) -> SigmoidBeliefNet {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut uniform = || random.next_u64() as f64 / 2_f64.powi(64);
    let weights: Vec<f64> =
        (0..DIM * latents).map(|_| if uniform() < 0.1 { 4.0 } else { 0.2 * uniform() }).collect();
    let layer = Layer::new(latents, &weights, &[-3.0; DIM]).unwrap();
    SigmoidBeliefNet::new(vec![2.0 / latents as f64; latents], None, layer).unwrap()
}

fn draw<T: Scalar>(net: &SigmoidBeliefNet, n: u64) -> Vec<T> {
    let mut values = Vec::new();
    inference::sample(net, n, 1, &Executor::new(None).unwrap(), |points, _| {
        values.extend(points.iter().map(|&x| T::from_f64(x)));
        Ok(())
    })
    .unwrap();
    values
}

fn softplus(a: f64) -> f64 {
    a.max(0.0) + (-a.abs()).exp().ln_1p()
}

/// `ln p(x)` by a plain sum over all states.
fn log_evidence(net: &SigmoidBeliefNet, x: &[f64]) -> f64 {
    let (latents, layer) = (net.n_latents(), net.observables());
    let (weights, biases) = (layer.weights(), layer.biases());
    let mut sum = 0.0;
    for state in 0..1usize << latents {
        let on = |h: usize| (state >> (latents - 1 - h)) & 1 == 1;
        let prior = |(h, p): (usize, &f64)| if on(h) { p.ln() } else { (1.0 - p).ln() };
        let mut log: f64 = net.prior().iter().enumerate().map(prior).sum();
        for d in 0..net.dim() {
            let row = &weights[d * latents..][..latents];
            let a = biases[d] + (0..latents).filter(|&h| on(h)).map(|h| row[h]).sum::<f64>();
            log += a * x[d] - softplus(a);
        }
        sum += log.exp();
    }
    sum.ln()
}

fn all_states<T: Scalar>(criterion: &mut Criterion) {
    let tolerance = if T::EPSILON < 1e-10 { 1e-10 } else { 1e-4 };
    for latents in [8, 12, 14] {
        let (net, n) = (net(latents), 4_000);
        let values: Vec<T> = draw(&net, n);
        let few: Vec<f64> = values[..5 * DIM].iter().map(|v| v.to_f64()).collect();
        let expected: f64 = few.chunks(DIM).map(|x| log_evidence(&net, x)).sum();
        let points = Points::from_rows(&values[..5 * DIM], DIM).unwrap();
        let one = Executor::new(Some(1)).unwrap();
        let stats = Sweeper::new(&points, &one).sweep(&net).unwrap();
        assert_close(stats.log_evidence(), expected, tolerance);

        let points = Points::from_rows(&values, DIM).unwrap();
        let name = format!("sbn/all states/{}/{n} x {DIM}, {latents} latents", T::NAME);
        let mut group = group(criterion, &name, Throughput::Elements(n << latents));
        for threads in [1, 2] {
            let executor = Executor::new(Some(threads)).unwrap();
            let mut sweeper = Sweeper::new(&points, &executor);
            group.bench_function(format!("{threads} threads"), |bencher| {
                bencher.iter(|| sweeper.sweep(black_box(&net)).unwrap());
            });
        }
        group.finish();
    }
}

fn truncated(criterion: &mut Criterion) {
    let (small, n) = (net(8), 2_000);
    let values: Vec<f64> = draw(&small, n);
    let points = Points::from_rows(&values, DIM).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let exact = Sweeper::new(&points, &executor).sweep(&small).unwrap();
    let of = |states| LatentPosterior::Truncated { states };
    let enumerated = small.clone().with_posterior(of(256)).unwrap();
    let all = search_states(&enumerated, &points, &executor, 0).unwrap();
    assert_close(all.log_evidence(), exact.log_evidence(), 1e-10 * n as f64);

    let net = net(100);
    for (n, states) in [(1_000, 32), (2_000, 32), (2_000, 64)] {
        let values: Vec<f64> = draw(&net, n);
        let points = Points::from_rows(&values, DIM).unwrap();
        let name = format!("sbn/truncated/{n} x {DIM}, 100 latents, {states} states");
        let mut group = group(criterion, &name, Throughput::Elements(n * states as u64));
        let net = net.clone().with_posterior(of(states)).unwrap();
        group.bench_function("1 threads", |bencher| {
            bencher.iter(|| search_states(black_box(&net), &points, &executor, 0).unwrap());
        });
        group.finish();
    }
}

/// One thread: what the machine does at best, and a sweep in the same unit.
fn rate<T: Scalar>(criterion: &mut Criterion) {
    const ORDER: usize = 1536;
    let name = format!("sbn/rate/{}", T::NAME);
    let mut product = group(criterion, &name, Throughput::Elements(2 * (ORDER as u64).pow(3)));
    let a = Mat::<T>::from_fn(ORDER, ORDER, |i, j| T::from_f64(((i + 3 * j) % 7) as f64));
    let mut c = Mat::<T>::zeros(ORDER, ORDER);
    product.bench_function("product of matrices", |bencher| {
        bencher.iter(|| {
            matmul(c.as_mut(), Accum::Replace, a.as_ref(), a.as_ref(), T::ONE, Par::Seq);
            black_box(c[(1, 1)]);
        });
    });
    product.finish();
    let (latents, n) = (12, 100_000);
    let net = net(latents);
    let values: Vec<T> = draw(&net, n);
    let points = Points::from_rows(&values, DIM).unwrap();
    let name = format!("{name}/{n} x {DIM}, {latents} latents");
    let flops = Throughput::Elements((4 * n * DIM as u64) << latents);
    let mut group = group(criterion, &name, flops);
    let executor = Executor::new(Some(1)).unwrap();
    let mut sweeper = Sweeper::new(&points, &executor);
    group.bench_function("sweep", |bencher| {
        bencher.iter(|| sweeper.sweep(black_box(&net)).unwrap());
    });
    group.finish();
}

/// Watching a fit: the entropy sum from statistics against a pass over the points, and the sweep that both follow.
fn monitor(criterion: &mut Criterion) {
    let executor = Executor::new(Some(1)).unwrap();
    let n = 4_000;
    let net = net(12);
    let values: Vec<f64> = draw(&net, n);
    let points = Points::from_rows(&values, DIM).unwrap();
    let mut sweeper = Sweeper::new(&points, &executor);
    let stats = sweeper.sweep(&net).unwrap();
    let score = inference::score(&net, &points, &executor).unwrap().log_likelihood;
    assert_close(score, net.lower_bound(&stats), 1e-10);
    let name = format!("sbn/monitor/{n} x {DIM}, 12 latents");
    let mut group = group(criterion, &name, Throughput::Elements(n));
    group.bench_function("sweep", |bencher| {
        bencher.iter(|| sweeper.sweep(black_box(&net)).unwrap());
    });
    group.bench_function("pass over the points", |bencher| {
        bencher.iter(|| inference::score(black_box(&net), &points, &executor).unwrap());
    });
    group.bench_function("entropy sum", |bencher| {
        bencher.iter(|| black_box(&net).entropy_sum(&stats));
    });
    group.finish();
}

pub fn benches(criterion: &mut Criterion) {
    all_states::<f64>(criterion);
    all_states::<f32>(criterion);
    truncated(criterion);
    rate::<f64>(criterion);
    rate::<f32>(criterion);
    monitor(criterion);
}
