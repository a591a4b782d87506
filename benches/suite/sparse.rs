//! E-steps over sparse points: their cost by non-zeros, and beside that of dense points. Statistics are checked against those
//! of the same dense points first.
//!
//! `cargo bench --bench suite -- sparse/nonzeros` runs a part. Throughput counts pairs of a non-zero and a component: where it is
//! the same for all lengths of points, the cost is linear in the non-zeros.

use std::hint::black_box;

use crate::common::{assert_close, group};
use criterion::{Criterion, Throughput};
use entropysum::Executor;
use entropysum::data::{Points, SparsePoints};
use entropysum::expert::Sweeper;
use entropysum::expert::stats::SuffStats;
use entropysum::family::registry;
use entropysum::model::Mixture;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

const COMPONENTS: usize = 16;
const FAMILIES: [&str; 3] = ["poisson", "multinomial", "bernoulli"];

fn uniforms(seed: u64) -> impl FnMut() -> f64 {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    move || (random.next_u64() >> 11) as f64 / 2_f64.powi(53)
}

/// Parameters that differ by up to a factor of 2 between components, on the scale of the points.
fn mixture(name: &str, dim: usize, density: f64) -> Mixture {
    let (family, mut uniform) = (registry::build(name, dim).unwrap(), uniforms(1));
    let scale = if name == "multinomial" { 1.0 / dim as f64 } else { 0.5 * density };
    let parameter = family.parameters()[0].name.to_string();
    let mut values: Vec<f64> =
        (0..COMPONENTS * dim).map(|_| scale * (0.67 + 0.66 * uniform())).collect();
    if name == "multinomial" {
        for row in values.chunks_mut(dim) {
            let total: f64 = row.iter().sum();
            row.iter_mut().for_each(|p| *p /= total);
        }
    }
    let weights = vec![1.0 / COMPONENTS as f64; COMPONENTS];
    Mixture::from_arrays(family, weights, |name| (name == parameter).then_some(&values[..]))
        .unwrap()
}

/// Points with `nonzeros` ones each, in one random column of every stretch of `dim / nonzeros`.
fn points(n: usize, dim: usize, nonzeros: usize) -> SparsePoints<f64> {
    let (mut uniform, stretch) = (uniforms(2), dim / nonzeros);
    let columns = (0..n * nonzeros)
        .map(|k| (k % nonzeros * stretch + (stretch as f64 * uniform()) as usize) as u32);
    let (starts, columns) = ((0..=n).map(|i| i * nonzeros).collect(), columns.collect());
    SparsePoints::from_csr(starts, columns, vec![1.0; n * nonzeros], dim).unwrap()
}

fn dense(points: &SparsePoints<f64>) -> Points<'static, f64> {
    let (rows, dim) = (points.rows(), points.rows().dim());
    let mut values = vec![0.0; rows.len() * dim];
    for (i, point) in values.chunks_mut(dim).enumerate() {
        rows.row(i).for_each(|(d, value)| point[d] = value);
    }
    Points::owned(values, dim).unwrap()
}

fn assert_same(found: &SuffStats, expected: &SuffStats) {
    for (&found, &expected) in found.as_slice().iter().zip(expected.as_slice()) {
        assert_close(found, expected, 1e-10);
    }
}

/// Points of one dimension and more and more values: time is proportional to these, not to the dimension, up to the C D
/// natural parameters and sums that a sweep needs however many points there are.
fn nonzeros(criterion: &mut Criterion) {
    let (n, few, dim) = (20_000, 200, 2048);
    let executor = Executor::new(Some(1)).unwrap();
    for name in FAMILIES {
        let group_name = format!("sparse/nonzeros of {dim}/{name}");
        for nonzeros in [16, 64, 256] {
            let model = mixture(name, dim, nonzeros as f64 / dim as f64);
            let sparse = points(few, dim, nonzeros);
            let dense = dense(&sparse);
            let expected = Sweeper::new(&dense, &executor).sweep(&model).unwrap();
            assert_same(&Sweeper::new(&sparse, &executor).sweep(&model).unwrap(), &expected);
            let sparse = points(n, dim, nonzeros);
            let mut sweeper = Sweeper::new(&sparse, &executor);
            let mass: f64 = sweeper.sweep(&model).unwrap().mass().iter().sum();
            assert_close(mass, n as f64, 1e-10);
            let pairs = (n * nonzeros * COMPONENTS) as u64;
            let mut group = group(criterion, &group_name, Throughput::Elements(pairs));
            group.bench_function(format!("{nonzeros} a point"), |bencher| {
                bencher.iter(|| sweeper.sweep(black_box(&model)).unwrap());
            });
            group.finish();
        }
    }
}

/// The same points sparse and dense: where sparse ones stop to pay.
fn densities(criterion: &mut Criterion) {
    let (n, dim) = (2000, 512);
    let executor = Executor::new(Some(1)).unwrap();
    for nonzeros in [4, 16, 64, 128, 256, 512] {
        let model = mixture("poisson", dim, nonzeros as f64 / dim as f64);
        let sparse = points(n, dim, nonzeros);
        let dense = dense(&sparse);
        let mut sweepers = (Sweeper::new(&sparse, &executor), Sweeper::new(&dense, &executor));
        assert_same(&sweepers.0.sweep(&model).unwrap(), &sweepers.1.sweep(&model).unwrap());
        let name = format!("sparse/{nonzeros} of {dim}");
        let mut group = group(criterion, &name, Throughput::Elements(n as u64));
        group.bench_function("sparse", |bencher| {
            bencher.iter(|| sweepers.0.sweep(black_box(&model)).unwrap());
        });
        group.bench_function("dense", |bencher| {
            bencher.iter(|| sweepers.1.sweep(black_box(&model)).unwrap());
        });
        group.finish();
    }
}

pub fn benches(criterion: &mut Criterion) {
    nonzeros(criterion);
    densities(criterion);
}
