//! Laws that every family of the registry keeps. A family is tested here by having its line there.

use crate::common;

use common::{
    assert_all_close, assert_close, example_family, example_mixture, example_points, families,
    fixture, numbers,
};
use entropysum::Executor;
use entropysum::data::Points;
use entropysum::error::Error;
use entropysum::expert::family::{ExponentialFamily, Statistic, Theta};
use entropysum::expert::reference::statistic as evaluate;
use entropysum::expert::stats::{StatsShape, SuffStats};
use entropysum::family::{KnownParameters, Parameters, Regularization, Support, registry};
use entropysum::inference;
use entropysum::model::Mixture;
use serde_json::Value;

const DIM: usize = 3;
const COMPONENTS: usize = 4;

fn centre(family: &dyn ExponentialFamily) -> Vec<f64> {
    let mut centre = if family.is_location() { vec![0.25, -0.5, 1.0] } else { vec![] };
    family.restrict_centre(&mut centre);
    centre
}

fn shape(family: &dyn ExponentialFamily) -> StatsShape {
    StatsShape {
        components: COMPONENTS,
        statistics: family.statistics().len(),
        shared: family.shared_statistics().len(),
        centre: centre(family).len(),
    }
}

/// `∇A`, those of the shared statistics last.
fn mean(family: &dyn ExponentialFamily, theta: Theta<'_>) -> Vec<f64> {
    let mut mean = vec![0.0; family.statistics().len() + family.shared_statistics().len()];
    family.mean(theta, &centre(family), &mut mean);
    mean
}

/// `η` with `η_0` behind it, and `A`.
fn natural(family: &dyn ExponentialFamily, theta: Theta<'_>) -> (Vec<f64>, f64) {
    natural_about(family, theta, &centre(family))
}

fn natural_about(
    family: &dyn ExponentialFamily,
    theta: Theta<'_>,
    centre: &[f64],
) -> (Vec<f64>, f64) {
    let parameters =
        Parameters { components: vec![theta.component.to_vec()], shared: theta.shared.to_vec() };
    let mut eta = vec![0.0; family.statistics().len()];
    let packing = family.natural(&parameters, centre, &mut eta)[0];
    let mut shared = vec![0.0; family.shared_statistics().len()];
    family.shared_natural(theta.shared, &mut shared);
    eta.append(&mut shared);
    (eta, packing.log_partition)
}

fn entropy_of(family: &dyn ExponentialFamily, theta: &[f64]) -> f64 {
    family.pseudo_entropies(&Parameters { components: vec![theta.to_vec()], shared: vec![] })[0]
}

#[test]
fn maximize_inverts_the_mean_map() {
    for name in families() {
        let model = example_mixture(name, DIM, COMPONENTS);
        let family = model.family();
        let mut stats = SuffStats::zeros(shape(family), centre(family).repeat(COMPONENTS));
        let n_statistics = family.statistics().len();
        for c in 0..COMPONENTS {
            let mass = 10.0 + c as f64;
            let mean = mean(family, model.theta(c));
            stats.mass_mut()[c] = mass;
            for (sum, value) in stats.sums_mut(c).iter_mut().zip(&mean) {
                *sum = mass * value;
            }
            for (sum, value) in stats.shared_mut().iter_mut().zip(&mean[n_statistics..]) {
                *sum += mass * value;
            }
        }
        let mut parameters = model.parameters().clone();
        parameters.components.iter_mut().for_each(|theta| theta.fill(f64::NAN));
        let regularization = Regularization { reg_covar: Some(0.0), ..Default::default() };
        family.maximize(&stats, &[true; COMPONENTS], &regularization, &mut parameters);
        for c in 0..COMPONENTS {
            assert_all_close(&parameters.components[c], model.theta(c).component, 1e-12, name);
        }
        assert_all_close(&parameters.shared, &model.parameters().shared, 1e-12, name);
    }
}

/// Along the line between two components, `dA = ∇A · dη`.
#[test]
fn mean_map_is_the_gradient_of_the_log_partition() {
    for name in families() {
        let model = example_mixture(name, DIM, COMPONENTS);
        let family = model.family();
        let (a, b) = (model.theta(0).component, model.theta(1).component);
        let at =
            |s: f64| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| (1.0 - s) * a + s * b).collect() };
        let shared = model.theta(0).shared;
        let step = 1e-4;
        let of = |component: &[f64]| natural(family, Theta { component, shared });
        let ((before, a_before), (after, a_after)) = (of(&at(0.5 - step)), of(&at(0.5 + step)));
        let mean = mean(family, Theta { component: &at(0.5), shared });
        let terms = || mean.iter().zip(after.iter().zip(&before)).map(|(m, (a, b))| m * (a - b));
        let product: f64 = terms().sum();
        let slope = (a_after - a_before) / (2.0 * step);
        assert_close(slope, product / (2.0 * step), 1e-6, name);
        // Where the log-partition is constant, terms that are none cancel.
        let terms = terms().map(f64::abs).sum::<f64>() / (2.0 * step);
        assert!(terms > 1e-3, "{name}: a line along which nothing changes tests nothing");
    }
}

/// Eqn 51: the pseudo entropy is `A - η · ∇A`, whatever centre the statistics are taken about.
#[test]
fn eqn_51_pseudo_entropy_is_the_log_partition_minus_natural_times_mean() {
    for name in families() {
        let model = example_mixture(name, DIM, COMPONENTS);
        let family = model.family();
        let entropies = family.pseudo_entropies(model.parameters());
        for c in 0..COMPONENTS {
            let (eta, log_partition) = natural(family, model.theta(c));
            let mean = mean(family, model.theta(c));
            let products = || eta.iter().zip(&mean).map(|(e, m)| e * m);
            let off = (log_partition - products().sum::<f64>() - entropies[c]).abs();
            let terms = log_partition.abs() + products().map(f64::abs).sum::<f64>();
            assert!(off <= 1e-14 * terms.max(1.0), "{name}: {off:e}, terms of {terms}");
        }
    }
}

#[test]
fn samples_lie_in_the_support_and_have_the_moments_of_the_family() {
    for name in families() {
        let model = example_mixture(name, DIM, COMPONENTS);
        let (family, domains) = (model.family(), model.family().domains());
        let statistics: Vec<Statistic> =
            family.statistics().into_iter().chain(family.shared_statistics()).collect();
        let mut expected = vec![0.0; statistics.len()];
        for c in 0..COMPONENTS {
            let mut mean = vec![0.0; statistics.len()];
            family.mean(model.theta(c), &[0.0; DIM], &mut mean);
            for (sum, value) in expected.iter_mut().zip(&mean) {
                *sum += model.weights()[c] * value;
            }
        }
        let n = 200_000;
        let (mut sums, mut squares) = (vec![0.0; statistics.len()], vec![0.0; statistics.len()]);
        inference::sample(&model, n, 7, &Executor::new(Some(2)).unwrap(), |points, _| {
            for point in points.chunks(DIM) {
                let fault = domains.iter().find_map(|domain| domain.fault(|d| point[d]));
                assert_eq!(fault, None, "{name}: {point:?}");
                for (l, &statistic) in statistics.iter().enumerate() {
                    let value = evaluate(statistic, point);
                    sums[l] += value;
                    squares[l] += value * value;
                }
            }
            Ok(())
        })
        .unwrap();
        for (l, statistic) in statistics.iter().enumerate() {
            let mean = sums[l] / n as f64;
            let error = ((squares[l] / n as f64 - mean * mean) / n as f64).sqrt();
            let off = (mean - expected[l]).abs();
            assert!(off < 5.0 * error, "{name} {statistic:?}: {mean} {}", expected[l]);
        }
    }
}

/// Statistics by the kernels of a hard labelling of a few points.
fn union_law(model: &Mixture, x: &[f64]) -> [SuffStats; 3] {
    let executor = Executor::new(Some(1)).unwrap();
    let middle = x.len() / DIM / 3 * DIM;
    [&x[..middle], &x[middle..], x].map(|part| {
        let points = Points::from_rows(part, DIM).unwrap();
        entropysum::expert::Sweeper::new(&points, &executor).sweep(model).unwrap()
    })
}

#[test]
fn statistics_of_a_union_are_the_sum_of_the_parts() {
    for name in families() {
        let model = example_mixture(name, DIM, COMPONENTS);
        let x = example_points(model.family(), 700, COMPONENTS, 12);
        let [mut merged, second, whole] = union_law(&model, &x);
        merged.add(&second);
        assert_all_close(merged.as_slice(), whole.as_slice(), 1e-13, name);
        assert_eq!(model.family().log_base_measure().is_one(), whole.log_base_measure() == 0.0);
    }
}

/// What the entropy sum is made of is the mean log-density of the family itself, wherever the entropy has a closed form.
#[test]
fn entropies_are_minus_the_mean_log_density_of_samples() {
    for name in families() {
        let model = example_mixture(name, DIM, COMPONENTS);
        let Some(entropy) = model.family().entropy(model.theta(0)) else { continue };
        let theta = model.theta(0);
        let parameters = Parameters {
            components: vec![theta.component.to_vec()],
            shared: theta.shared.to_vec(),
        };
        let single = Mixture::new(example_family(name, DIM), vec![1.0], parameters).unwrap();
        let (executor, mut x) = (Executor::new(Some(2)).unwrap(), Vec::new());
        let n = 100_000;
        inference::sample(&single, n, 3, &executor, |points, _| {
            x.extend_from_slice(points);
            Ok(())
        })
        .unwrap();
        let points = Points::from_rows(&x, DIM).unwrap();
        let (mut sum, mut squares) = (0.0, 0.0);
        inference::score_samples(&single, &points, &executor, |_, densities| {
            sum += densities.iter().sum::<f64>();
            squares += densities.iter().map(|l| l * l).sum::<f64>();
            Ok(())
        })
        .unwrap();
        let mean = sum / n as f64;
        let error = ((squares / n as f64 - mean * mean) / n as f64).sqrt();
        assert!((mean + entropy).abs() < 5.0 * error + 1e-12, "{name}: {mean}, entropy {entropy}");
    }
}

/// Name of a family in the fixtures, its name here, and the known parameters that lead (or end) a fixture's theta.
const GOLDEN: [(&str, &str, &[&str]); 13] = [
    ("exponential", "exponential", &[]),
    ("gamma", "gamma", &[]),
    ("poisson", "poisson", &[]),
    ("bernoulli", "bernoulli", &[]),
    ("binomial", "binomial", &["trials"]),
    ("negative_binomial", "negative-binomial", &["successes"]),
    ("geometric", "geometric", &[]),
    ("beta", "beta", &[]),
    ("inverse_gaussian", "inverse-gaussian", &[]),
    ("log_normal", "log-normal", &[]),
    ("weibull_known_shape", "weibull", &["shape"]),
    ("laplace_known_location", "laplace", &["location"]),
    ("normal", "gaussian-diag", &[]),
];

/// The family of one column of a golden entry, and its parameters here.
fn golden(
    name: &str,
    known: &[&str],
    theta: &[f64],
) -> (std::sync::Arc<dyn ExponentialFamily>, Vec<f64>) {
    let told = known
        .iter()
        .zip(theta)
        .fold(KnownParameters::default(), |told, (name, value)| told.with(*name, vec![*value]));
    (registry::build_known(name, 1, &told).unwrap(), theta[known.len()..].to_vec())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

fn assert_relative(found: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (found - expected).abs();
    assert!(
        error <= tolerance * expected.abs() + 1e-300,
        "{what}: {found}, expected {expected}, off by {error:e}"
    );
}

/// The grids go to the ends of what `f64` can tell apart; values are those of 50 digits.
#[test]
fn entropies_log_partitions_and_densities_are_the_golden_ones() {
    let fixture = fixture("families");
    let executor = Executor::new(Some(1)).unwrap();
    for (key, name, known) in GOLDEN {
        let grid = fixture["families"][key]["grid"].as_array().unwrap();
        assert!(grid.len() >= 3);
        for entry in grid {
            let values = numbers(&entry["theta"]);
            let (family, theta) = golden(name, known, &values);
            let what = |of: &str| format!("{name} {values:?} {of}");
            let pseudo = entropy_of(&*family, &theta);
            assert_relative(
                pseudo,
                number(&entry["pseudo_entropy"]),
                1e-12,
                &what("pseudo entropy"),
            );
            let view = Theta { component: &theta, shared: &[] };
            if let Some(entropy) = family.entropy(view) {
                assert_relative(entropy, number(&entry["entropy"]), 1e-12, &what("entropy"));
            }
            let (eta, log_partition) = natural_about(&*family, view, &[0.0]);
            let golden_eta: Vec<f64> =
                entry["eta"].as_array().unwrap().iter().map(number).collect();
            for (found, expected) in eta.iter().zip(&golden_eta) {
                assert_relative(*found, *expected, 1e-12, &what("natural"));
            }
            assert_relative(
                log_partition,
                number(&entry["log_partition"]),
                1e-12,
                &what("log-partition"),
            );
            let model = Mixture::from_arrays(family, vec![1.0], |array| {
                let specs = registry_parameters(name, known, &values);
                let at = specs.iter().position(|spec| *spec == array)?;
                Some(&theta[at..at + 1])
            })
            .unwrap();
            let scale = log_partition.abs().max(1.0);
            for point in entry["points"].as_array().unwrap() {
                let x = [number(&point["x"])];
                let points = Points::from_rows(&x, 1).unwrap();
                let mut density = f64::NAN;
                inference::score_samples(&model, &points, &executor, |_, it| {
                    density = it[0];
                    Ok(())
                })
                .unwrap();
                let terms: f64 = eta
                    .iter()
                    .zip(point["T"].as_array().unwrap())
                    .map(|(eta, t)| (eta * number(t)).abs())
                    .sum();
                let tolerance = 1e-14 * (scale + terms + number(&point["log_h"]).abs());
                let off = (density - number(&point["log_pdf"])).abs();
                assert!(off <= tolerance.max(1e-13), "{} {x:?}: off by {off:e}", what("density"));
            }
        }
    }
}

fn registry_parameters(name: &str, known: &[&str], theta: &[f64]) -> Vec<String> {
    let (family, _) = golden(name, known, theta);
    family.parameters().iter().map(|spec| spec.name.to_string()).collect()
}

/// A point outside the support ends a fit and a score with its row, its column, its value, and what was expected.
#[test]
fn points_outside_the_support_are_named() {
    let executor = Executor::new(Some(2)).unwrap();
    for name in registry::names() {
        let model = example_mixture(name, DIM, COMPONENTS);
        let x = example_points(model.family(), 5000, COMPONENTS, 21);
        let (row, column) = (4321, 1);
        for domain in model.family().domains() {
            let wrong: &[f64] = match domain.support {
                Support::Real => &[f64::NAN, f64::INFINITY],
                Support::Positive | Support::UnitInterval => &[0.0, -1.0, f64::INFINITY, f64::NAN],
                Support::NonNegative => &[-1e-9, f64::NAN],
                Support::Count | Support::CountUpTo(_) => &[0.5, -1.0, f64::NAN, f64::INFINITY],
                Support::Binary => &[2.0, 0.5, -1.0, f64::NAN],
                _ => &[f64::NAN],
            };
            for &value in wrong {
                let mut x = x.clone();
                x[row * DIM + column] = value;
                let points = Points::from_rows(&x, DIM).unwrap();
                let sweep =
                    entropysum::expert::Sweeper::new(&points, &executor).sweep(&model).err();
                let score = inference::score(&model, &points, &executor).err();
                for fault in [sweep, score] {
                    let Some(Error::Data(fault)) = fault else {
                        panic!("{name} {value}: {fault:?}")
                    };
                    assert_eq!(
                        (fault.row, fault.column),
                        (Some(row as u64), Some(column)),
                        "{name}"
                    );
                    let text = fault.to_string();
                    let found = format!("the value is {value}");
                    assert!(text.contains(&found) && text.contains("expected"), "{text}");
                }
            }
        }
    }
}

#[test]
fn model_files_give_back_the_same_bits_and_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    for name in registry::names() {
        let model = example_mixture(name, DIM, COMPONENTS);
        for file in ["model.json", "model.safetensors"] {
            let path = folder.path().join(file);
            entropysum::store::save(&path, &model).unwrap();
            let loaded: Mixture = entropysum::store::load(&path).unwrap();
            assert_eq!(loaded.parameters(), model.parameters(), "{name} {file}");
            assert_eq!(loaded.weights(), model.weights());
            assert_eq!(loaded.family().known(), model.family().known(), "{name} {file}");
            assert_eq!(loaded.family().statistics(), model.family().statistics());
        }
    }
}
