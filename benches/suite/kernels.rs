//! Kernels at every level of this CPU. Each answer is compared with the reference before it is timed.
//!
//! `cargo bench --bench suite -- kernels/softmax/f64` runs a part.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use entropysum::Scalar;
use entropysum::expert::Simd;
use entropysum::expert::{
    argmax, exp_in_place, ln_in_place, log_sum_exp, padded_stride, reference, softmax,
};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

const POINTS: usize = 256;

fn uniform<T: Scalar>(count: usize, low: f64, high: f64) -> Vec<T> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    (0..count)
        .map(|_| T::from_f64(low + (high - low) * (random.next_u64() as f64 / 2_f64.powi(64))))
        .collect()
}

fn assert_near<T: Scalar>(value: f64, expected: f64) {
    assert!(
        (value - expected).abs() <= 1e3 * T::EPSILON * expected.abs(),
        "{value} is not {expected}"
    );
}

fn group<'a>(
    criterion: &'a mut Criterion,
    name: &str,
    elements: usize,
) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(format!("kernels/{name}"));
    group
        .throughput(Throughput::Elements(elements as u64))
        .sample_size(20)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300));
    group
}

/// A function of each number, in place on a fresh copy; the copy costs 2 % of exp.
fn elementwise<T: Scalar>(
    criterion: &mut Criterion,
    name: &str,
    kernel: fn(Simd, &mut [T]),
    expected: fn(f64) -> f64,
    range: (f64, f64),
) {
    const COUNT: usize = 2048;
    let arguments = uniform::<T>(COUNT, range.0, range.1);
    let mut group = group(criterion, &format!("{name}/{}", T::NAME), COUNT);
    for (level, simd) in Simd::available() {
        let mut numbers = arguments.clone();
        kernel(simd, &mut numbers);
        for (x, y) in arguments.iter().zip(&numbers) {
            assert_near::<T>(y.to_f64(), expected(x.to_f64()));
        }
        group.bench_function(format!("{level:?}"), |bencher| {
            bencher.iter(|| {
                numbers.copy_from_slice(&arguments);
                kernel(simd, black_box(&mut numbers));
            });
        });
    }
    group.finish();
}

fn posteriors<T: Scalar>(criterion: &mut Criterion) {
    for components in [16, 64, 256] {
        let stride = padded_stride::<T>(POINTS);
        let logits = uniform::<T>(stride * components, -40.0, 0.0);
        let rows: Vec<Vec<f64>> = (0..POINTS)
            .map(|n| (0..components).map(|c| logits[c * stride + n].to_f64()).collect())
            .collect();
        let expected = reference::softmax(&rows, &[1.0; POINTS]);

        let name = |kernel| format!("{kernel}/{}/{components} components", T::NAME);
        let mut tile = logits.clone();
        let mut mass = vec![0.0; components];
        let mut bench = group(criterion, &name("softmax"), POINTS * components);
        for (level, simd) in Simd::available() {
            tile.copy_from_slice(&logits);
            mass.fill(0.0);
            let totals = softmax(simd, &mut tile, stride, POINTS, None, &mut mass, None);
            assert_near::<T>(totals.log_evidence, expected.log_evidence.iter().sum());
            assert_near::<T>(totals.posterior_entropy, expected.entropy.iter().sum());
            for (mass, expected) in mass.iter().zip(&expected.mass) {
                assert_near::<T>(*mass, *expected);
            }
            bench.bench_function(BenchmarkId::from_parameter(format!("{level:?}")), |bencher| {
                bencher.iter(|| {
                    tile.copy_from_slice(&logits);
                    softmax(simd, black_box(&mut tile), stride, POINTS, None, &mut mass, None)
                });
            });
        }
        bench.finish();

        let mut bench = group(criterion, &name("log_sum_exp"), POINTS * components);
        let mut log_evidence = vec![0.0; POINTS];
        for (level, simd) in Simd::available() {
            log_sum_exp(simd, &logits, stride, components, &mut log_evidence);
            for (value, expected) in log_evidence.iter().zip(&expected.log_evidence) {
                assert!((value - expected).abs() <= 1e3 * T::EPSILON);
            }
            bench.bench_function(BenchmarkId::from_parameter(format!("{level:?}")), |bencher| {
                bencher.iter(|| {
                    log_sum_exp(simd, black_box(&logits), stride, components, &mut log_evidence)
                });
            });
        }
        bench.finish();

        let mut bench = group(criterion, &name("argmax"), POINTS * components);
        let mut labels = vec![0; POINTS];
        for (level, simd) in Simd::available() {
            argmax(simd, &logits, stride, None, &mut labels, &mut mass);
            for (label, row) in labels.iter().zip(&rows) {
                assert_eq!(*label as usize, reference::argmax(row).0);
            }
            bench.bench_function(BenchmarkId::from_parameter(format!("{level:?}")), |bencher| {
                bencher.iter(|| {
                    argmax(simd, black_box(&logits), stride, None, &mut labels, &mut mass)
                });
            });
        }
        bench.finish();
    }
}

fn kernels(criterion: &mut Criterion) {
    elementwise::<f32>(criterion, "exp", exp_in_place, f64::exp, (-40.0, 0.0));
    elementwise::<f64>(criterion, "exp", exp_in_place, f64::exp, (-40.0, 0.0));
    elementwise::<f32>(criterion, "ln", ln_in_place, f64::ln, (2.0, 100.0));
    elementwise::<f64>(criterion, "ln", ln_in_place, f64::ln, (2.0, 100.0));
    posteriors::<f32>(criterion);
    posteriors::<f64>(criterion);
}

pub fn benches(criterion: &mut Criterion) {
    kernels(criterion);
}
