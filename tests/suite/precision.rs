//! What single precision costs, and that components far from the centre cost no more.

use crate::common;

use common::{Uniforms, assert_close, clusters, gaussians, rounded};
use entropysum::Executor;
use entropysum::Scalar;
use entropysum::data::{self, OpenOptions, Points};
use entropysum::em::{self, Config, Init, MixtureSpec};
use entropysum::expert::{Sweeper, start_mixture};
use entropysum::family::registry;
use entropysum::inference;
use entropysum::model::{Mixture, Posterior};
use entropysum::monitor::Silent;

/// Points that both precisions can hold, so that only arithmetic differs.
fn single_points(n: usize, dim: usize, components: usize, distance: f64, seed: u64) -> Vec<f32> {
    rounded(&clusters(n, dim, components, distance, seed))
}

fn widened(points: &[f32]) -> Vec<f64> {
    points.iter().map(|&v| f64::from(v)).collect()
}

fn log_densities<T: Scalar>(model: &Mixture, x: &[T], dim: usize) -> Vec<f64> {
    let mut densities = Vec::new();
    let points = Points::from_rows(x, dim).unwrap();
    inference::score_samples(model, &points, &Executor::new(Some(2)).unwrap(), |_, block| {
        densities.extend_from_slice(block);
        Ok(())
    })
    .unwrap();
    densities
}

/// The packed kernel is taken where its rounding errors are small, the centred one elsewhere: so densities of single
/// points are right to a few 1e-5 nats per dimension at any distance of the clusters, also where packed ones would be off by
/// whole nats (`ε r²` is 6 at r = 1e4).
#[test]
fn f32_densities_hold_at_any_distance_between_clusters() {
    let (n, components) = (3_000, 4);
    // In 20 dimensions shared covariances take logits in f64.
    for (dim, distance) in [(5, 1.0), (5, 30.0), (5, 1e3), (5, 1e4), (20, 30.0), (20, 300.0)] {
        let x = single_points(n, dim, components, distance, 4);
        let wide = widened(&x);
        let points = Points::from_rows(&wide, dim).unwrap();
        for name in gaussians() {
            let spec = MixtureSpec::new(registry::build(name, dim).unwrap(), components);
            let executor = Executor::new(Some(2)).unwrap();
            let config = Config::default().max_iter(20);
            let model = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap().model;
            let (double, single) =
                (log_densities(&model, &wide, dim), log_densities(&model, &x, dim));
            let worst = double.iter().zip(&single).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-4 * dim as f64, "{name} at distance {distance}: {worst:e} nats");
        }
    }
}

/// A pixel that is bright in all images of a component has the probability 1, up to which sums of single precision reach and beyond.
#[test]
fn f32_probabilities_of_one_leave_no_gap() {
    let path = format!("{}/data/digits_binary.npy", env!("CARGO_MANIFEST_DIR"));
    let points = data::open::<f32>(path, &OpenOptions::default()).unwrap();
    // From this start some probabilities become 1.
    let spec = MixtureSpec::new(registry::build("bernoulli", 64).unwrap(), 10)
        .with_init(Init::KMeansPlusPlus);
    let config = Config::default().tol(0.0).max_iter(60);
    let executor = Executor::new(Some(2)).unwrap();
    let fit = em::fit(&spec, &*points, &executor, &config, &mut Silent).unwrap();
    let probabilities = fit.model.parameter("probability").unwrap();
    assert!(probabilities.contains(&1.0) && probabilities.contains(&0.0));
    for record in &fit.history.records {
        assert!(record.gap().abs() < 2e-7, "{}: {:e}", record.iteration, record.gap());
    }
}

/// Labels of clusters 40 widths apart come from packed logits in `f32`, the logits of the labels from differences or in `f64`. Those of
/// clusters 400 widths apart take the slower ways.
#[test]
fn f32_hard_trajectories_follow_f64_at_any_distance() {
    for (dim, distance) in [(6, 40.0), (20, 40.0), (6, 400.0)] {
        hard_trajectories_agree(dim, distance);
    }
}

fn hard_trajectories_agree(dim: usize, distance: f64) {
    let (n, components) = (20_000, 5);
    let x = single_points(n, dim, components, distance, 9);
    let wide = widened(&x);
    let executor = Executor::new(Some(2)).unwrap();
    let config = Config::default().tol(0.0).max_iter(6);
    for name in gaussians() {
        let spec = MixtureSpec::new(registry::build(name, dim).unwrap(), components);
        let points = Points::from_rows(&wide, dim).unwrap();
        let (start, _) = start_mixture(&spec, &points, &executor, &config, 0).unwrap();
        let spec = MixtureSpec::from_model(start).with_posterior(Posterior::Hard);
        let double = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
        let points = Points::from_rows(&x, dim).unwrap();
        let single = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
        let is_fast = single.whitened_share == Some(0.0);
        assert_eq!(is_fast, distance < 100.0, "{name}");
        for (a, b) in double.history.records.iter().zip(&single.history.records) {
            let error = (a.lower_bound - b.lower_bound).abs() / b.lower_bound.abs();
            assert!(error < 3e-8, "{name} iteration {}: {error:e}", a.iteration);
        }
    }
}

/// Means over many points are right to 1e-7: errors of single points average out.
#[test]
fn f32_trajectories_follow_f64_to_1e_7() {
    let (n, components) = (16_000, 6);
    for dim in [4, 16] {
        let x = single_points(n, dim, components, 1.0, 9);
        let wide = widened(&x);
        let (single, double) =
            (Points::from_rows(&x, dim).unwrap(), Points::from_rows(&wide, dim).unwrap());
        let executor = Executor::new(Some(2)).unwrap();
        for name in gaussians() {
            let config = Config::default().max_iter(8).tol(0.0);
            let spec = MixtureSpec::new(registry::build(name, dim).unwrap(), components);
            let (start, _) = start_mixture(&spec, &double, &executor, &config, 0).unwrap();
            let a = em::fit(&start, &single, &executor, &config, &mut Silent).unwrap();
            let b = em::fit(&start, &double, &executor, &config, &mut Silent).unwrap();
            for (a, b) in a.history.records.iter().zip(&b.history.records) {
                let error = (a.log_likelihood - b.log_likelihood).abs() / b.log_likelihood.abs();
                assert!(error < 1e-7, "{name} D={dim} iteration {}: {error:e}", a.iteration);
            }
        }
    }
}

/// Some columns are constant in each component, though not in all. Rounding leaves less than no variance there, which a bound would
/// multiply by the precision at the floor: a floor explains half a nat a column.
#[test]
fn columns_that_are_constant_in_every_component_leave_the_bound_right() {
    const DIM: usize = 8;
    const COMPONENTS: usize = 3;
    let executor = Executor::new(Some(2)).unwrap();
    let config = Config::default().max_iter(2).tol(0.0);
    for seed in 0..20 {
        let mut uniforms = Uniforms::new(seed);
        let probabilities: Vec<f64> = (0..COMPONENTS * DIM)
            .map(|k| (uniforms.next(), k % DIM < 2))
            .map(|(p, is_constant)| if is_constant { p.round() } else { p })
            .collect();
        let mut x = Vec::new();
        for _ in 0..283 {
            let c = (uniforms.next() * COMPONENTS as f64) as usize;
            for p in &probabilities[c * DIM..][..DIM] {
                x.push(f32::from(u8::from(uniforms.next() < *p)));
            }
        }
        let points = Points::from_rows(&x, DIM).unwrap();
        for name in ["gaussian-diag", "gaussian-diag:0-3,bernoulli:4-7"] {
            let spec = MixtureSpec::new(registry::build(name, DIM).unwrap(), COMPONENTS);
            let fit = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
            for record in &fit.history.records {
                let gap = record.gap().abs();
                assert!(gap < 0.5 * DIM as f64 + 0.01, "{name}, seed {seed}: {gap}");
            }
        }
    }
}

/// Concentrated families have statistics that their natural parameters multiply by κ or a₀: densities of single points are
/// right to ε times these in single precision, and means over points better than that.
#[test]
fn f32_densities_of_concentrated_families_are_right_to_epsilon_times_the_concentration() {
    let n = 2000;
    let mut u = Uniforms::new(5);
    for concentration in [1e2, 1e4, 1e5] {
        let width = 1.0 / f64::sqrt(concentration);
        let mut directions = Vec::new();
        let mut angles = Vec::new();
        let mut compositions = Vec::new();
        for i in 0..n {
            let mean = [[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]][i % 2];
            let vector = mean.map(|m| m + width * u.normal());
            let length = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
            directions.extend(vector.map(|v| v / length));
            angles.push(2.0 * (i % 2) as f64 + width * u.normal());
            let shares = [[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]][i % 2];
            let parts = shares.map(|p: f64| p * (1.0 + (width / p.sqrt()) * u.normal()).max(0.1));
            let total: f64 = parts.iter().sum();
            compositions.extend(parts.map(|p| p / total));
        }
        for (name, dim, x) in [
            ("von-mises-fisher", 3, directions),
            ("von-mises", 1, angles),
            ("dirichlet", 3, compositions),
        ] {
            let single = rounded(&x);
            let wide = widened(&single);
            let points = Points::from_rows(&wide, dim).unwrap();
            let spec = MixtureSpec::new(registry::build(name, dim).unwrap(), 2);
            let executor = Executor::new(Some(1)).unwrap();
            let config = Config::default().max_iter(20);
            let fit = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
            let (a, b) =
                (log_densities(&fit.model, &wide, dim), log_densities(&fit.model, &single, dim));
            let size = f64::from(f32::EPSILON) * concentration.max(100.0);
            let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 4.0 * size, "{name} at {concentration}: {worst:e} nats");
            let sum: f64 = a.iter().zip(&b).map(|(a, b)| a - b).sum();
            let mean = sum.abs() / n as f64;
            assert!(mean < size, "{name} at {concentration}: {mean:e} nats on average");
            if concentration > 1e3 {
                assert!(
                    worst > 0.02 * size,
                    "{name} at {concentration}: as exact as that, at {worst:e}?"
                );
            }
        }
    }
}

/// Some iterations of EM from points of the data: components have met narrow and tied values by then. Of many points some are left out.
fn fit_of_file<T: Scalar>(file: &str, model: &str, components: usize) -> em::Fit<Mixture> {
    let path = format!("{}/data/{file}", env!("CARGO_MANIFEST_DIR"));
    let source = data::open::<T>(path, &OpenOptions::default()).unwrap();
    let points: Points<'_, T> = data::load(&*source).unwrap();
    let (dim, every) = (points.view().ncols(), points.view().nrows().div_ceil(70_000));
    let kept = points.view().row_iter().step_by(every);
    let kept = Points::owned(kept.flat_map(|row| row.iter().copied()).collect(), dim).unwrap();
    let spec = MixtureSpec::new(registry::build(model, dim).unwrap(), components)
        .with_init(Init::RandomFromData);
    let config = Config::default().max_iter(6).tol(0.0).seed(1);
    em::fit(&spec, &kept, &Executor::new(Some(2)).unwrap(), &config, &mut Silent).unwrap()
}

/// Wherever packed logits would lose digits, whitened differences keep them: both precisions end with the same likelihood. Packed
/// products are the faster path, and pixels of a photograph take them in double precision.
#[test]
fn single_precision_ends_where_double_does() {
    for (file, components) in [("china.npy", 16), ("digits.npy", 10), ("wine.csv", 3)] {
        for covariance in ["full", "diag", "spherical", "tied", "tied-diag", "tied-spherical"] {
            let model = format!("gaussian-{covariance}");
            let wide = fit_of_file::<f64>(file, &model, components);
            let narrow = fit_of_file::<f32>(file, &model, components);
            let of = |fit: &em::Fit<Mixture>| fit.last().unwrap().log_likelihood;
            assert_close(of(&narrow), of(&wide), 1e-6, &format!("{file} {model}"));
            let [wide, narrow] = [wide, narrow].map(|fit| fit.whitened_share.unwrap());
            assert!((0.0..=1.0).contains(&wide) && wide <= narrow && narrow <= 1.0);
            assert!(file != "china.npy" || wide <= 0.05, "{covariance}: {wide}");
        }
    }
    assert_eq!(fit_of_file::<f64>("doctor_visits.npy", "poisson", 2).whitened_share, None);
}

/// Sums about the centres of few components are kept from tile to tile. Those of many would not fit into a cache, and end with each tile.
#[test]
fn sums_about_few_and_many_centres_are_those_of_the_points() {
    let (dim, each) = (12, 40);
    for components in [3, 80] {
        let place = |c: usize, d: usize| 500.0 * (c * (1 + d % 3)) as f64;
        let noise = |i: usize, d: usize| ((37 * i + 11 * d) % 101) as f64 / 50.0 - 1.0;
        let values = (0..each * components)
            .flat_map(|i| (0..dim).map(move |d| (place(i % components, d) + noise(i, d)) as f32));
        let x: Vec<f32> = values.collect();
        let points = Points::from_rows(&x, dim).unwrap();
        let means: Vec<f64> =
            (0..components).flat_map(|c| (0..dim).map(move |d| place(c, d))).collect();
        let unit = |k: usize| if k.is_multiple_of(dim + 1) { 1.0 } else { 0.0 };
        let covariances: Vec<f64> =
            (0..components).flat_map(|_| (0..dim * dim).map(unit)).collect();
        let array = |name: &str| Some(if name == "means" { &means[..] } else { &covariances });
        let family = registry::build("gaussian-full", dim).unwrap();
        let weights = vec![1.0 / components as f64; components];
        let model = Mixture::from_arrays(family, weights, array).unwrap();
        let executor = Executor::new(Some(2)).unwrap();
        let stats = Sweeper::<f32, _>::new(&points, &executor).sweep(&model).unwrap();
        for c in 0..components {
            let centre = stats.centre(c);
            assert_eq!(centre, &means[c * dim..][..dim], "not about a common centre");
            let y = |k: usize, d: usize| f64::from(x[(c + k * components) * dim + d]) - centre[d];
            let first = (0..dim).map(|d| (0..each).map(|k| y(k, d)).sum::<f64>());
            let pairs = (0..dim).flat_map(|i| (i..dim).map(move |j| (i, j)));
            let second = pairs.map(|(i, j)| (0..each).map(|k| y(k, i) * y(k, j)).sum::<f64>());
            for (found, expected) in stats.sums(c).iter().zip(first.chain(second)) {
                assert!((found - expected).abs() < 1e-5, "{components}: {found}, {expected}");
            }
            assert_eq!(stats.mass()[c], each as f64);
        }
    }
}
