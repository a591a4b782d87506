//! Laws of every kind of model: a fit has the same bits on any number of threads and ranks, and after interruptions.
//!
//! Most points are so many that they are cut into three or more lanes: two sums are the same in either order.

use crate::common::{
    causes, clusters, drawn, example_family, example_points, gaussians, on_ranks, resumed, rounded,
    sparse, told,
};
use entropysum::data::{DataSource, Points};
use entropysum::em::{
    AutoencoderSpec, Config, FactorAnalyzersSpec, Fit, Fitting, Init, LinearGaussianAlgorithm,
    LinearGaussianSpec, MixtureSpec, SbnSpec, Spec, StreamAlgorithm, StreamConfig,
};
use entropysum::expert::em::Form;
use entropysum::expert::model::{Density, Sample};
use entropysum::expert::start_factor_analyzers;
use entropysum::expert::store::Stored;
use entropysum::family::Regularization;
use entropysum::model::{Activation, LatentPosterior, Noise, NoiseStructure, Posterior};
use entropysum::model::{SigmoidBeliefNet, TruncatedSearch};
use entropysum::monitor::{IterRecord, Observer, Silent, StopReason};
use entropysum::{Executor, Scalar, inference};
use std::ops::ControlFlow;

fn config(iterations: usize) -> Config {
    Config::default().max_iter(iterations).tol(0.0).seed(5)
}

/// Minibatches of both algorithms.
fn streams(batch_size: usize) -> [StreamConfig; 2] {
    let stream = StreamConfig::default().batch_size(batch_size).epochs(2).polish(1).audit(2);
    [
        stream.clone().algorithm(StreamAlgorithm::Stepwise).memory(1 << 18),
        stream.algorithm(StreamAlgorithm::Incremental),
    ]
}

/// Returns scores and samples of a model as bits.
fn used<T: Scalar>(
    model: &(impl Density<T> + Sample),
    points: &dyn DataSource<T>,
    executor: &Executor,
) -> Vec<u64> {
    let score = inference::score(model, points, executor).unwrap();
    let mut bits = vec![score.log_likelihood.to_bits(), score.posterior_entropy.to_bits()];
    inference::score_samples(model, points, executor, |_, values| {
        bits.extend(values.iter().map(|value| value.to_bits()));
        Ok(())
    })
    .unwrap();
    inference::sample(model, 8_200, 1, executor, |points, labels| {
        bits.extend(points.iter().map(|value| value.to_bits()));
        bits.extend(labels.iter().map(|&label| u64::from(label)));
        Ok(())
    })
    .unwrap();
    bits
}

/// Counts at how many places an observer could end a fit.
struct Places(u64);

impl Observer for Places {
    fn on_iteration(&mut self, _: &IterRecord) -> ControlFlow<StopReason> {
        self.on_batch(0)
    }
    fn on_batch(&mut self, _: u64) -> ControlFlow<StopReason> {
        self.0 += 1;
        ControlFlow::Continue(())
    }
}

#[track_caller]
fn assert_same(found: &[String], expected: &[String], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected, "{what}");
    }
}

/// A fit on one thread has the bits of fits on seven threads and on three ranks, and of a fit on two threads that is stopped some times.
/// Returns the fit.
fn hold<T: Scalar, S: Spec<T, Model: Stored + Density<T> + Sample> + Sync>(
    what: &str,
    spec: &S,
    points: &(dyn DataSource<T> + Sync),
    config: &Config,
    stream: Option<&StreamConfig>,
) -> Fit<S::Model> {
    let what = format!("{what}, {}, {:?}", T::NAME, stream.map(|it| it.algorithm));
    let fit = |executor: &Executor, observer: &mut dyn Observer| {
        let mut fitting = Fitting::new(points, executor).config(config).observer(observer);
        if let Some(stream) = stream {
            fitting = fitting.minibatches(stream);
        }
        fitting.fit(spec).unwrap()
    };
    let [one, two, seven] = [1, 2, 7].map(|threads| Executor::new(Some(threads)).unwrap());
    let mut places = Places(0);
    let whole = fit(&one, &mut places);
    let expected = told(&whole);

    assert_same(&told(&fit(&seven, &mut Silent)), &expected, &format!("{what}: 7 threads"));
    if stream.is_none() {
        let uses = [&one, &seven].map(|executor| used(&whole.model, points, executor));
        assert!(uses[0] == uses[1], "{what}: use on 7 threads");
    }
    for found in on_ranks(3, |executor| told(&fit(executor, &mut Silent))) {
        assert_same(&found, &expected, &format!("{what}: 3 ranks"));
    }
    // A solution in closed form has no state between iterations.
    if stream.is_some() || whole.history.records.len() > 1 {
        let every = (places.0 / 5).max(1);
        for fit in resumed(spec, points, &two, config, stream, every).0 {
            assert_same(&told(&fit), &expected, &format!("{what}: resumed"));
        }
    }
    whole
}

/// Each Gaussian family has either precision, exact and hard. Streams begin with the default start, which costs most.
#[test]
fn gaussian_mixtures_have_the_same_bits_anywhere() {
    let (n, dim, components) = (4_203, 6, 20);
    let x = clusters(n, dim, components, 1.5, 3);
    let weights: Vec<f64> = (0..n).map(|i| 0.5 + (i % 3) as f64).collect();
    let narrow: Vec<f32> = rounded(&x);
    let single = Points::from_rows(&narrow, dim).unwrap().with_weights(weights.clone()).unwrap();
    let double = Points::from_rows(&x, dim).unwrap().with_weights(weights).unwrap();
    for (k, name) in gaussians().enumerate() {
        for posterior in [Posterior::Exact, Posterior::Hard] {
            let spec = MixtureSpec::new(example_family(name, dim), components);
            let spec = spec.with_posterior(posterior).with_init(Init::RandomFromData);
            let what = format!("{name} {posterior:?}");
            match (k % 2 == 0) == (posterior == Posterior::Exact) {
                true => drop(hold(&what, &spec, &double, &config(4), None)),
                false => drop(hold(&what, &spec, &single, &config(4), None)),
            }
        }
    }
    for (k, name) in ["gaussian-full", "gaussian-tied"].into_iter().enumerate() {
        let spec = MixtureSpec::new(example_family(name, dim), components);
        for (j, stream) in streams(2_101).iter().enumerate() {
            match k == j {
                true => drop(hold(name, &spec, &double, &Config::default(), Some(stream))),
                false => drop(hold(name, &spec, &single, &Config::default(), Some(stream))),
            }
        }
    }
}

/// Base measures, products, a floor, starts of every sort, and sparse points.
#[test]
fn mixtures_of_other_families_have_the_same_bits_anywhere() {
    let (n, dim, components) = (4_203, 3, 24);
    for name in ["poisson", "gamma", "poisson:0,gaussian-full:1-2", "von-mises-fisher"] {
        let family = example_family(name, dim);
        let x = example_points(&*family, n, components, 5);
        let points = Points::from_rows(&x, dim).unwrap();
        let spec = MixtureSpec::new(family, components).with_init(Init::RandomFromData);
        hold(name, &spec, &points, &config(4), None);
        hold(name, &spec, &points, &Config::default(), Some(&streams(1_000)[0]));
    }
    let spec = MixtureSpec::new(example_family("gaussian-diag", dim), components);
    let x = clusters(n, dim, components, 1.5, 3);
    let points = Points::from_rows(&x, dim).unwrap();
    let floor = Regularization { reg_covar: Some(1e-3), ..Regularization::default() };
    hold("a floor", &spec, &points, &config(4).regularization(floor), None);

    let (dim, components) = (37, 11);
    let family = example_family("poisson", dim);
    let counts = example_points(&*family, 3_002, components, 13);
    let counts: Vec<f64> = counts.iter().map(|x| if *x > 4.0 { x - 4.0 } else { 0.0 }).collect();
    let counts = sparse::<f64>(&counts, dim);
    for init in [Init::KMeansPlusPlus, Init::Random, Init::RandomFromData] {
        let spec = MixtureSpec::new(family.clone(), components).with_init(init);
        hold("sparse points", &spec, &counts, &config(5), None);
    }
}

fn truncated(states: usize, neighbours: usize) -> Posterior {
    let search = TruncatedSearch::default().states(states).neighbours(neighbours).random(1);
    Posterior::Truncated(search)
}

#[test]
fn truncated_mixtures_have_the_same_bits_anywhere() {
    let (n, dim, components) = (9_000, 4, 40);
    let x = clusters(n, dim, 30, 2.0, 6);
    let points = Points::from_rows(&x, dim).unwrap();
    let narrow: Vec<f32> = rounded(&x);
    let single = Points::from_rows(&narrow, dim).unwrap();
    let spec = |name| {
        let spec = MixtureSpec::new(example_family(name, dim), components);
        spec.with_posterior(truncated(3, 8)).with_init(Init::RandomFromData)
    };
    for name in ["gaussian-tied", "gaussian-full"] {
        hold(name, &spec(name), &single, &config(4), None);
    }
    hold("gaussian-diag", &spec("gaussian-diag"), &points, &config(4), None);
    let stream = StreamConfig::default().batch_size(3_000).epochs(2);
    hold("gaussian-diag", &spec("gaussian-diag"), &points, &Config::default(), Some(&stream));
}

/// A checkpoint holds the coordinates of latents, which a file of the parameters does not.
#[test]
fn factor_analysers_have_the_same_bits_anywhere() {
    let (n, dim, components) = (3_711, 6, 12);
    let x = clusters(n, dim, components, 1.5, 7);
    let weights: Vec<f64> = (0..n).map(|i| 0.5 + (i % 3) as f64).collect();
    let narrow: Vec<f32> = rounded(&x);
    let single = Points::from_rows(&narrow, dim).unwrap().with_weights(weights.clone()).unwrap();
    let double = Points::from_rows(&x, dim).unwrap().with_weights(weights).unwrap();
    let [stepwise, incremental] = streams(1_000);
    let settings = Config::default();
    for noise in NoiseStructure::ALL {
        let what = format!("{noise:?}");
        let init = Init::RandomFromData;
        let spec = FactorAnalyzersSpec { init, ..FactorAnalyzersSpec::new(noise, components, 2) };
        let fit = match noise {
            NoiseStructure::Diagonal => {
                hold(&what, &spec, &single, &config(4), None);
                hold(&what, &spec, &double, &settings, Some(&incremental))
            }
            _ => {
                hold(&what, &spec, &double, &config(4), None);
                hold(&what, &spec, &double, &settings, Some(&stepwise))
            }
        };
        assert!(fit.history.records.iter().all(|it| it.gap().abs() < 1e-10), "{what}");
    }
    let spec = FactorAnalyzersSpec::new(NoiseStructure::Diagonal, components, 2);
    let one = Executor::new(Some(1)).unwrap();
    let (start, _) = start_factor_analyzers(&spec, &double, &one, &settings, 0).unwrap();
    let start = start.with_parameter_expansion(false);
    hold("not expanded", &start, &double, &config(4), None);
    let spec = spec.with_posterior(truncated(3, 6));
    hold("truncated", &spec, &single, &config(4), None);
    let stream = StreamConfig::default().batch_size(1_000).epochs(2);
    let fit = hold("truncated", &spec, &double, &settings, Some(&stream));
    assert!(fit.history.records.iter().all(|it| it.gap().abs() < 1e-8));
}

#[test]
fn linear_gaussian_models_have_the_same_bits_anywhere() {
    fn of_precision<T: Scalar>(x: &[f64], dim: usize) {
        let values: Vec<T> = rounded(x);
        let weights: Vec<f64> = (0..values.len() / dim).map(|i| (i % 3) as f64).collect();
        let points = Points::from_rows(&values, dim).unwrap().with_weights(weights).unwrap();
        let (ppca, analysis) =
            (LinearGaussianSpec::ppca(3), LinearGaussianSpec::factor_analysis(3));
        hold("closed form", &ppca, &points, &config(8), None);
        for form in [Form::Covariance, Form::Points] {
            for algorithm in [LinearGaussianAlgorithm::Em, LinearGaussianAlgorithm::PxEm] {
                for spec in [&ppca, &analysis] {
                    let spec = spec.clone().with_algorithm(algorithm).with_form(form);
                    hold(&format!("{spec:?}"), &spec, &points, &config(8), None);
                }
            }
        }
    }
    let (n, dim) = (20_011, 9);
    let x = clusters(n, dim, 3, 1.0, 8);
    of_precision::<f64>(&x, dim);
    of_precision::<f32>(&x, dim);

    let holes = x[..2_000 * dim].iter().enumerate();
    let holes = holes.map(|(k, value)| if k % 11 == 0 { f64::NAN } else { *value }).collect();
    let points = Points::owned(holes, dim).unwrap();
    for spec in [
        LinearGaussianSpec::ppca(2).with_algorithm(LinearGaussianAlgorithm::Em),
        LinearGaussianSpec::factor_analysis(2),
    ] {
        hold("holes", &spec.ignoring_missing(), &points, &config(8), None);
    }
}

const TRUNCATED: LatentPosterior = LatentPosterior::Truncated { states: 6 };

#[test]
fn belief_networks_have_the_same_bits_anywhere() {
    let values = drawn(&causes(true), 2_001, 1);
    let points = Points::from_rows(&values, 12).unwrap();
    let narrow: Vec<f32> = rounded(&values);
    let single = Points::from_rows(&narrow, 12).unwrap();
    for hidden in [None, Some(3)] {
        for posterior in [LatentPosterior::Exact, TRUNCATED] {
            let ridge = if hidden.is_some() { 0.0 } else { 1e-3 };
            // With 64 states or more, sums over all of them are cut into lanes.
            let latents = if hidden.is_some() { 4 } else { 6 };
            let spec = SbnSpec { hidden, ridge, ..SbnSpec::new(latents) };
            let spec = spec.with_posterior(posterior);
            let what = format!("{hidden:?} {posterior:?}");
            hold(&what, &spec, &points, &config(4), None);
            let [stepwise, incremental] = streams(1_000);
            // Sets of most points are on the disk.
            let polish = usize::from(posterior == LatentPosterior::Exact);
            let stepwise = stepwise.memory(1 << 15).polish(polish);
            hold(&what, &spec, &points, &config(4), Some(&stepwise));
            match posterior {
                LatentPosterior::Exact => {
                    hold(&what, &spec, &single, &config(4), Some(&incremental));
                }
                _ => drop(hold(&what, &spec, &single, &config(4), None)),
            }
        }
    }
}

/// Binary causes that add up, and causes that hidden layers combine, of points that lack values.
#[test]
fn binary_codes_have_the_same_bits_anywhere() {
    let x = clusters(1_201, 12, 5, 1.5, 5);
    let holes = x.iter().enumerate().map(|(k, v)| if k % 7 == 0 { f64::NAN } else { *v });
    let [x, holes] = [x.clone(), holes.collect()].map(|x| Points::owned(x, 12).unwrap());
    let spec = SbnSpec::binary_sparse_coding(5).with_posterior(TRUNCATED);
    let deep = spec.clone().with_hidden_units(vec![4], Activation::Gelu).ignoring_missing();
    let stream = StreamConfig::default().batch_size(600).epochs(2).memory(1 << 15);
    for stream in [Some(&stream), None] {
        let spec = spec.clone().with_noise(Noise::Diagonal);
        hold("sparse code", &spec, &x, &config(5), stream);
        hold("hidden layers", &deep, &holes, &config(5), stream);
    }
}

#[test]
fn autoencoders_have_the_same_bits_anywhere() {
    fn of_precision<T: Scalar>(spec: &AutoencoderSpec, x: &[f64], what: &str) {
        let (values, n): (Vec<T>, _) = (rounded(x), x.len() / 6);
        let weights: Vec<f64> = (0..n).map(|i| 0.5 + (i % 3) as f64).collect();
        let points = Points::from_rows(&values, 6).unwrap().with_weights(weights).unwrap();
        let stream = StreamConfig::default().batch_size(256).epochs(3);
        hold(what, spec, &points, &config(8), None);
        hold(what, spec, &points, &config(8), Some(&stream));
    }
    let x = clusters(1_003, 6, 4, 1.0, 5);
    let holes = x.iter().enumerate().map(|(k, v)| if k % 7 == 0 { f64::NAN } else { *v });
    let holes: Vec<f64> = holes.collect();
    let deep = AutoencoderSpec::new(2).hidden(vec![8, 6]).learning_rate(0.01);
    of_precision::<f64>(&deep, &x, "deep");
    of_precision::<f32>(&deep, &x, "deep");
    let code = AutoencoderSpec::sparse_coding(4).hidden(vec![5]).noise(Noise::Diagonal);
    of_precision::<f64>(&code, &x, "sparse code");
    for is_linear in [false, true] {
        let spec = AutoencoderSpec::new(2).hidden(vec![5]).decoder_is_linear(is_linear);
        let spec = spec.ignores_missing(true);
        of_precision::<f64>(&spec, &holes, "holes");
        of_precision::<f32>(&spec, &holes, "holes");
    }
}

/// What is asked of the latents of points, on several lanes.
#[test]
fn latents_and_states_have_the_same_bits_on_any_threads() {
    let values = drawn(&causes(true), 9_001, 2);
    let points = Points::from_rows(&values, 12).unwrap();
    let bits = |net: &SigmoidBeliefNet, threads| {
        let executor = Executor::new(Some(threads)).unwrap();
        let mut bits: Vec<u64> = Vec::new();
        let mut keep = |_: u64, values: &[f64]| {
            bits.extend(values.iter().map(|value| value.to_bits()));
            Ok(())
        };
        inference::transform(net, &points, &executor, &mut keep).unwrap();
        inference::reconstruct(net, &points, &executor, &mut keep).unwrap();
        inference::most_probable_states(net, &points, &executor, &mut keep).unwrap();
        bits
    };
    for posterior in [LatentPosterior::Exact, LatentPosterior::Truncated { states: 2 }] {
        let net = causes(true).with_posterior(posterior).unwrap();
        let one = bits(&net, 1);
        assert_eq!(one.len(), 9_001 * (6 + 12 + 6));
        assert!(one == bits(&net, 7), "{posterior:?}");
    }
}
