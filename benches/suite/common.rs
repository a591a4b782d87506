//! Data and settings that the benches share.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use entropysum::Executor;
use entropysum::Scalar;
use entropysum::family::registry;
use entropysum::inference;
use entropysum::model::Mixture;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A mixture whose components overlap.
pub fn mixture(family: &str, dim: usize, n_components: usize) -> Mixture {
    mixture_of_spread(family, dim, n_components, 4.0 / (dim as f64).sqrt())
}

/// A mixture with means up to `spread` from 0 in each dimension, and widths of about 1.
pub fn mixture_of_spread(family: &str, dim: usize, n_components: usize, spread: f64) -> Mixture {
    let family = registry::build(family, dim).unwrap();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut uniform = || random.next_u64() as f64 / 2_f64.powi(64);
    let means: Vec<f64> =
        (0..n_components * dim).map(|_| spread * (2.0 * uniform() - 1.0)).collect();
    let spec = family.parameters().into_iter().find(|spec| spec.name == "covariances").unwrap();
    let rows = if spec.shared { 1 } else { n_components };
    let is_matrix = spec.shape.len() == 2;
    let covariances: Vec<f64> = (0..rows * spec.len())
        .map(|i| match i % spec.len() {
            k if is_matrix && k % (dim + 1) != 0 => 0.1,
            _ if is_matrix => 1.0,
            _ => 0.5 + uniform(),
        })
        .collect();
    let weights = vec![1.0 / n_components as f64; n_components];
    Mixture::from_arrays(family, weights, |name| {
        Some(if name == "means" { &means } else { &covariances })
    })
    .unwrap()
}

/// Points drawn from a mixture, row-major.
pub fn draw<T: Scalar>(model: &Mixture, n: u64) -> Vec<T> {
    let mut values = Vec::new();
    let executor = Executor::new(None).unwrap();
    inference::sample(model, n, 1, &executor, |points, _| {
        values.extend(points.iter().map(|&v| T::from_f64(v)));
        Ok(())
    })
    .unwrap();
    values
}

#[track_caller]
pub fn assert_close(found: f64, expected: f64, tolerance: f64) {
    let error = (found - expected).abs() / expected.abs().max(1.0);
    assert!(error <= tolerance, "{found}, expected {expected}, relative error {error:e}");
}

/// A group for functions of milliseconds.
pub fn group<'a>(
    criterion: &'a mut Criterion,
    name: &str,
    throughput: Throughput,
) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group
        .throughput(throughput)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    group
}
