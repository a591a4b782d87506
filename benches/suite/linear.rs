//! The scatter of points, as a part of a large product's rate, and iterations of factor analysis. Answers are checked first.
//!
//! `cargo bench --bench suite -- linear/scatter/f64` runs a part.

use std::hint::black_box;

use crate::common::{assert_close, group};
use criterion::{Criterion, Throughput};
use entropysum::Executor;
use entropysum::Scalar;
use entropysum::data::Points;
use entropysum::em::{Config, LinearGaussianAlgorithm, LinearGaussianSpec};
use entropysum::expert::em::Summary;
use entropysum::expert::moments;
use entropysum::faer::linalg::matmul::matmul;
use entropysum::faer::{Accum, Mat, Par};
use entropysum::model::{LinearGaussian, Noise};
use entropysum::monitor::Silent;
use entropysum::{IterRecord, StopReason, inference};
use std::ops::ControlFlow;

/// Points of a model with `latents` factors.
fn draw<T: Scalar>(n: u64, dim: usize, latents: usize) -> Vec<T> {
    let loadings: Vec<f64> =
        (0..dim * latents).map(|k| ((k * 7919) % 101) as f64 / 50.0 - 1.0).collect();
    let model =
        LinearGaussian::new(Noise::Isotropic, vec![1.0; dim], &loadings, vec![0.25]).unwrap();
    let mut values = Vec::new();
    inference::sample(&model, n, 1, &Executor::new(None).unwrap(), |points, _| {
        values.extend(points.iter().map(|&v| T::from_f64(v)));
        Ok(())
    })
    .unwrap();
    values
}

/// Counted as N D² flops; a large product on one thread stands beside it, in flops of its own.
fn scatter<T: Scalar>(criterion: &mut Criterion) {
    let size = 1024;
    let a = Mat::<T>::from_fn(size, size, |i, j| T::from_f64(((i * 31 + j) % 17) as f64 / 17.0));
    let mut product = Mat::<T>::zeros(size, size);
    let name = format!("linear/scatter/{}", T::NAME);
    let mut bench = group(criterion, &name, Throughput::Elements(2 * (size as u64).pow(3)));
    bench.bench_function("a large product, 1 thread", |bencher| {
        bencher.iter(|| {
            matmul(product.as_mut(), Accum::Replace, a.as_ref(), a.as_ref(), T::ONE, Par::Seq);
        });
    });
    bench.finish();
    for (n, dim) in [(100_000, 16), (50_000, 64), (10_000, 256)] {
        let values = draw::<T>(n, dim, 8);
        let points = Points::from_rows(&values, dim).unwrap();
        let flops = n * (dim * dim) as u64;
        let mut bench = group(criterion, &name, Throughput::Elements(flops));
        for threads in [1, 2] {
            let executor = Executor::new(Some(threads)).unwrap();
            let found = moments(&points, &executor).unwrap();
            let (i, j) = (dim - 1, dim / 2);
            let y = |row: usize, d: usize| values[row * dim + d].to_f64() - found.mean()[d];
            let expected = (0..n as usize).map(|k| y(k, i) * y(k, j)).sum::<f64>() / n as f64;
            assert_close(found.covariance()[(i, j)], expected, 1e3 * T::EPSILON);
            bench.bench_function(format!("{n} x {dim}, {threads} threads"), |bencher| {
                bencher.iter(|| moments(black_box(&points), &executor).unwrap());
            });
        }
        bench.finish();
    }
}

/// Iterations that touch no point: N does not matter.
fn iterations(criterion: &mut Criterion) {
    let (n, dim, latents, count) = (20_000, 64, 8, 50);
    let values = draw::<f64>(n, dim, latents);
    let points = Points::from_rows(&values, dim).unwrap();
    let executor = Executor::new(None).unwrap();
    let mut bench = group(criterion, "linear/iterations/64 x 8", Throughput::Elements(count));
    let config = Config::default().max_iter(count as usize).tol(0.0);
    for spec in [LinearGaussianSpec::ppca(latents), LinearGaussianSpec::factor_analysis(latents)] {
        for algorithm in [LinearGaussianAlgorithm::Em, LinearGaussianAlgorithm::PxEm] {
            let spec = spec.clone().with_algorithm(algorithm);
            let summary = Summary::new(&spec, &points, &executor).unwrap();
            let mut watch = |record: &IterRecord| {
                assert!(record.lower_bound >= record.log_likelihood - 1e-9);
                ControlFlow::<StopReason>::Continue(())
            };
            let fit = summary.fit(&spec, &config, &mut watch).unwrap();
            assert_eq!(fit.history.records.len(), count as usize);
            let name = format!("{}, {}", spec.noise.model_name(), algorithm.name());
            bench.bench_function(name, |bencher| {
                bencher.iter(|| summary.fit(black_box(&spec), &config, &mut Silent).unwrap());
            });
        }
    }
    bench.finish();
}

pub fn benches(criterion: &mut Criterion) {
    scatter::<f64>(criterion);
    scatter::<f32>(criterion);
    iterations(criterion);
}
