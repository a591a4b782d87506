//! Starts by k-means++. They work on a subsample: time depends on dimension and components, not on the points.

use std::hint::black_box;
use std::sync::Arc;

use crate::common::{draw, group, mixture_of_spread};
use criterion::{Criterion, Throughput};
use entropysum::Executor;
use entropysum::Scalar;
use entropysum::data::Points;
use entropysum::em::{Config, Init, MixtureSpec};
use entropysum::expert::start_mixture;
use entropysum::family::registry;
use entropysum::inference;

fn starts<T: Scalar>(criterion: &mut Criterion) {
    let executor = Executor::new(Some(2)).unwrap();
    let config = Config::default();
    for (n, dim, n_components) in [(20_000, 16, 32), (20_000, 64, 16), (40_000, 16, 128)] {
        let truth = mixture_of_spread("gaussian-diag", dim, n_components, 10.0);
        let values: Vec<T> = draw(&truth, n);
        let points = Points::from_rows(&values, dim).unwrap();
        let family = registry::build("gaussian-diag", dim).unwrap();
        let run = |init: &Init| {
            let spec = MixtureSpec::new(Arc::clone(&family), n_components).with_init(init.clone());
            start_mixture(&spec, &points, &executor, &config, 0).unwrap().0
        };
        let score = |init| inference::score(&run(init), &points, &executor).unwrap().log_likelihood;
        let (ours, random) = (score(&Init::KMeansPlusPlus), score(&Init::Random));
        assert!(ours > random, "a start is worse than random labels: {ours}, {random}");

        let name = format!("init/{}/{n} x {dim}, {n_components} components", T::NAME);
        let mut group = group(criterion, &name, Throughput::Elements(n));
        group.bench_function("k-means++", |bencher| {
            bencher.iter(|| run(black_box(&Init::KMeansPlusPlus)));
        });
        group.finish();
    }
}

pub fn benches(criterion: &mut Criterion) {
    starts::<f64>(criterion);
    starts::<f32>(criterion);
}
