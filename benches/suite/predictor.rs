//! One point at a time: what a call of the predictor takes, next to a call of `inference` for the same point.

use std::hint::black_box;

use crate::common::{draw, group, mixture};
use criterion::{Criterion, Throughput};
use entropysum::{Executor, Points, Predictor, Scalar, inference};

/// Families, dimension, components.
const MODELS: [(&str, usize, usize); 4] = [
    ("gaussian-full", 8, 5),
    ("gaussian-diag", 8, 5),
    ("gaussian-full", 32, 64),
    ("gaussian-diag", 32, 64),
];

/// Points that take turns, so that none is scored twice in a row.
const POINTS: usize = 64;

fn single_points<T: Scalar>(criterion: &mut Criterion) {
    let executor = Executor::new(Some(1)).unwrap();
    for (family, dim, n_components) in MODELS {
        let model = mixture(family, dim, n_components);
        let values: Vec<T> = draw(&model, POINTS as u64);
        let mut predictor = Predictor::<T>::new(&model);
        let mut probabilities = vec![0.0; n_components];
        let name = format!("predictor/{family}/{}/{dim} x {n_components} components", T::NAME);
        let mut group = group(criterion, &name, Throughput::Elements(1));
        let mut points = values.chunks(dim).cycle();
        let mut next = || black_box(points.next().unwrap());
        group.bench_function("label", |bencher| {
            bencher.iter(|| predictor.label(next()).unwrap());
        });
        group.bench_function("posterior", |bencher| {
            bencher.iter(|| predictor.posterior(next(), &mut probabilities).unwrap());
        });
        group.bench_function("log-density", |bencher| {
            bencher.iter(|| predictor.log_density(next()).unwrap());
        });
        group.bench_function("inference::predict", |bencher| {
            bencher.iter(|| {
                let point = Points::from_rows(next(), dim).unwrap();
                inference::predict(&model, &point, &executor, |_, labels| {
                    black_box(labels);
                    Ok(())
                })
                .unwrap();
            });
        });
        group.throughput(Throughput::Elements(POINTS as u64));
        let mut labels = vec![0; POINTS];
        group.bench_function(format!("labels of {POINTS}"), |bencher| {
            bencher.iter(|| predictor.labels(black_box(&values), &mut labels).unwrap());
        });
        group.finish();
    }
}

/// Runs the benches of this file.
pub fn benches(criterion: &mut Criterion) {
    single_points::<f64>(criterion);
    single_points::<f32>(criterion);
}
