//! E-steps over all points, by covariance, shape, precision and threads. Statistics are checked before they are timed.
//!
//! `cargo bench --bench suite -- sweep/.*diag.*f32` runs a part.

use std::hint::black_box;

use crate::common::{assert_close, draw, group, mixture};
use criterion::{Criterion, Throughput};
use entropysum::Executor;
use entropysum::Scalar;
use entropysum::data::Points;
use entropysum::expert::Sweeper;
use entropysum::expert::{Level, Simd};
use entropysum::inference;

const FAMILIES: [&str; 6] = [
    "gaussian-full",
    "gaussian-tied",
    "gaussian-diag",
    "gaussian-spherical",
    "gaussian-tied-diag",
    "gaussian-tied-spherical",
];

/// Points, dimension, components.
const SHAPES: [(u64, usize, usize); 3] = [(20_000, 16, 32), (10_000, 32, 16), (4_000, 128, 8)];

fn sweeps<T: Scalar>(criterion: &mut Criterion) {
    let scalar_code =
        Executor::new(Some(1)).unwrap().with_simd(Simd::forced(Level::Scalar).unwrap());
    let tolerance = if T::EPSILON < 1e-10 { 1e-9 } else { 1e-6 };
    for family in FAMILIES {
        for (n, dim, n_components) in SHAPES {
            let model = mixture(family, dim, n_components);
            let values: Vec<T> = draw(&model, n);
            let points = Points::from_rows(&values, dim).unwrap();
            let exact: Vec<f64> = values.iter().map(|v| v.to_f64()).collect();
            let exact = Points::from_rows(&exact, dim).unwrap();
            let score = inference::score(&model, &exact, &scalar_code).unwrap();

            let name = format!("sweep/{family}/{}/{n} x {dim}, {n_components} components", T::NAME);
            let mut group = group(criterion, &name, Throughput::Elements(n));
            for threads in [1, 2] {
                let executor = Executor::new(Some(threads)).unwrap();
                let mut sweeper = Sweeper::new(&points, &executor);
                let stats = sweeper.sweep(&model).unwrap();
                assert_close(stats.mass().iter().sum(), n as f64, tolerance);
                assert_close(stats.log_evidence() / n as f64, score.log_likelihood, tolerance);
                assert_close(
                    stats.posterior_entropy() / n as f64,
                    score.posterior_entropy,
                    tolerance,
                );
                group.bench_function(format!("{threads} threads"), |bencher| {
                    bencher.iter(|| sweeper.sweep(black_box(&model)).unwrap());
                });
            }
            group.finish();
        }
    }
}

pub fn benches(criterion: &mut Criterion) {
    sweeps::<f64>(criterion);
    sweeps::<f32>(criterion);
}
