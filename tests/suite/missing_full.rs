//! Full covariances on points with missing values: expectations take the place of what is missing.

use crate::common::{self, Uniforms};
use entropysum::data::Points;
use entropysum::em::{self, Config, Fit, Init, MixtureSpec, StreamConfig};
use entropysum::family::registry;
use entropysum::model::{Mixture, Posterior};
use entropysum::monitor::Silent;
use entropysum::{Executor, Scalar, inference};

const DIM: usize = 3;

/// Correlated points of two clusters, of which every fourth value is missing, and all of the second point.
fn holed(n: usize, part: f64) -> Vec<f64> {
    let mut u = Uniforms::new(9);
    let mut values = Vec::new();
    for i in 0..n {
        let (a, b, c) = (u.normal(), u.normal(), u.normal());
        let shift = if i % 2 == 0 { 0.0 } else { 4.0 };
        values.extend([a + shift, 0.8 * a + 0.4 * b, 0.5 * b - 0.5 * a + 0.3 * c - shift]);
    }
    for (k, value) in values.iter_mut().enumerate() {
        if u.next() < part || part > 0.0 && k / DIM == 1 {
            *value = f64::NAN;
        }
    }
    values
}

fn spec(n_components: usize) -> MixtureSpec {
    MixtureSpec::new(registry::build("gaussian-full", DIM).unwrap(), n_components)
}

fn fit<T: Scalar>(spec: &MixtureSpec, values: &[T], config: &Config) -> Fit<Mixture> {
    let points = Points::from_rows(values, DIM).unwrap();
    em::fit(spec, &points, &Executor::new(Some(2)).unwrap(), config, &mut Silent).unwrap()
}

/// The log-density of the observed values of a point, by determinants and cofactors.
fn log_density(model: &Mixture, point: &[f64]) -> f64 {
    let (means, all) = (model.parameter("means").unwrap(), model.parameter("covariances").unwrap());
    let observed: Vec<usize> = (0..DIM).filter(|&d| !point[d].is_nan()).collect();
    let n = observed.len();
    let density = |c: usize| {
        let at = |i: usize, j: usize| all[c * DIM * DIM + observed[i] * DIM + observed[j]];
        let d: Vec<f64> = observed.iter().map(|&d| point[d] - means[c * DIM + d]).collect();
        let (det, quadratic) = match n {
            0 => (1.0, 0.0),
            1 => (at(0, 0), d[0] * d[0] / at(0, 0)),
            2 => {
                let det = at(0, 0) * at(1, 1) - at(0, 1) * at(0, 1);
                let sum =
                    at(1, 1) * d[0] * d[0] - 2.0 * at(0, 1) * d[0] * d[1] + at(0, 0) * d[1] * d[1];
                (det, sum / det)
            }
            _ => {
                let cofactor = |i: usize, j: usize| {
                    let (a, b) = ((i + 1) % 3, (i + 2) % 3);
                    let (e, f) = ((j + 1) % 3, (j + 2) % 3);
                    at(a, e) * at(b, f) - at(a, f) * at(b, e)
                };
                let det = (0..3).map(|j| at(0, j) * cofactor(0, j)).sum::<f64>();
                let sum: f64 = (0..9).map(|k| d[k / 3] * cofactor(k / 3, k % 3) * d[k % 3]).sum();
                (det, sum / det)
            }
        };
        model.weights()[c].ln()
            - 0.5 * (n as f64 * (2.0 * std::f64::consts::PI).ln() + det.ln() + quadratic)
    };
    (0..model.n_components()).map(|c| density(c).exp()).sum::<f64>().ln()
}

#[test]
fn the_bound_rises_and_is_the_entropy_sum() {
    let values = holed(400, 0.25);
    for posterior in [Posterior::Exact, Posterior::Hard] {
        let spec = spec(2).ignoring_missing().unwrap().with_posterior(posterior);
        let fit = fit(&spec, &values, &Config::default().tol(1e-9).max_iter(500));
        let records = &fit.history.records;
        assert!(records.len() > 5);
        for pair in records.windows(2) {
            assert!(pair[1].lower_bound > pair[0].lower_bound - 1e-11, "{posterior:?}");
        }
        for record in records {
            assert!(record.gap().abs() < 1e-11, "{posterior:?}: {}", record.gap());
        }
        if posterior == Posterior::Exact {
            let expected =
                values.chunks(DIM).map(|point| log_density(&fit.model, point)).sum::<f64>() / 400.0;
            let points = Points::from_rows(&values, DIM).unwrap();
            let executor = Executor::new(Some(1)).unwrap();
            let score = inference::score(&fit.model, &points, &executor).unwrap();
            assert!((score.log_likelihood - expected).abs() < 1e-11);
            assert!((records.last().unwrap().lower_bound - expected).abs() < 1e-6);
        }
    }
}

#[test]
fn whole_points_are_learned_as_without_holes() {
    let values = holed(300, 0.0);
    let config = Config::default().tol(0.0).max_iter(8);
    let start = fit(&spec(2), &values, &Config::default().tol(0.0).max_iter(1)).model;
    let from = |model: &Mixture| spec(2).with_init(Init::Model(Box::new(model.clone())));
    let plain = fit(&from(&start), &values, &config);
    let filled = fit(&from(&start).ignoring_missing().unwrap(), &values, &config);
    for (plain, filled) in plain.history.records.iter().zip(&filled.history.records) {
        assert!((plain.lower_bound - filled.lower_bound).abs() < 1e-11);
        assert!((plain.log_likelihood - filled.log_likelihood).abs() < 1e-11);
    }
    let narrow: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    let single = fit(&from(&start).ignoring_missing().unwrap(), &narrow, &config);
    assert!((single.last().unwrap().lower_bound - plain.last().unwrap().lower_bound).abs() < 1e-5);
}

/// Of two dimensions the second is missing at some points: the maximum is known (Anderson 1957).
#[test]
fn one_component_ends_at_the_regression_of_what_is_missing() {
    let mut u = Uniforms::new(2);
    let (mut values, n) = (Vec::new(), 200);
    for _ in 0..n {
        let x = 3.0 + 2.0 * u.normal();
        let y = 1.0 + 0.7 * x + 0.5 * u.normal();
        values.extend([x, if x > 4.0 { f64::NAN } else { y }]);
    }
    let points = Points::from_rows(&values, 2).unwrap();
    let family = registry::build("gaussian-full", 2).unwrap();
    let spec = MixtureSpec::new(family, 1).ignoring_missing().unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let config = Config::default().tol(1e-14).max_iter(5000);
    let fit = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();

    let mean = |rows: &[[f64; 2]], of: &dyn Fn([f64; 2]) -> f64| {
        rows.iter().map(|row| of(*row)).sum::<f64>() / rows.len() as f64
    };
    let all: Vec<[f64; 2]> = values.chunks(2).map(|row| [row[0], row[1]]).collect();
    let whole: Vec<[f64; 2]> = all.iter().copied().filter(|row| !row[1].is_nan()).collect();
    let (x, y) = (mean(&whole, &|row| row[0]), mean(&whole, &|row| row[1]));
    let xx = mean(&whole, &|row| (row[0] - x).powi(2));
    let xy = mean(&whole, &|row| (row[0] - x) * (row[1] - y));
    let yy = mean(&whole, &|row| (row[1] - y).powi(2));
    let slope = xy / xx;
    let first = mean(&all, &|row| row[0]);
    let variance = mean(&all, &|row| (row[0] - first).powi(2));
    let expected = [
        first,
        y + slope * (first - x),
        variance,
        slope * variance,
        slope * variance,
        yy - slope * xy + slope * slope * variance,
    ];
    let (means, covariances) =
        (fit.model.parameter("means").unwrap(), fit.model.parameter("covariances").unwrap());
    common::assert_all_close(&[means, covariances].concat(), &expected, 1e-5, "parameters");
}

#[test]
fn minibatches_fill_what_is_missing_too() {
    let values = holed(2000, 0.2);
    let points = Points::from_rows(&values, DIM).unwrap();
    let executor = Executor::new(Some(2)).unwrap();
    let spec = spec(2).ignoring_missing().unwrap();
    let batch = em::fit(&spec, &points, &executor, &Config::default(), &mut Silent).unwrap();
    let stream = StreamConfig::default().batch_size(200).epochs(5);
    let fit = em::Fitting::new(&points, &executor).minibatches(&stream).fit(&spec).unwrap();
    assert!(fit.history.records.iter().all(|record| record.gap().abs() < 1e-9));
    let score = |model| inference::score(model, &points, &executor).unwrap().log_likelihood;
    assert!((score(&fit.model) - score(&batch.model)).abs() < 0.02);
}

#[cfg(feature = "cli")]
#[test]
fn the_command_line_learns_from_holes_and_scores_them() {
    use crate::common::place::Place;
    use std::fmt::Write as _;
    let place = Place::new();
    let mut text = String::from("a,b,c\n");
    for row in holed(300, 0.2).chunks(DIM) {
        let cell = |value: &f64| if value.is_nan() { String::new() } else { format!("{value:.4}") };
        let _ = writeln!(text, "{}", row.iter().map(cell).collect::<Vec<_>>().join(","));
    }
    std::fs::write(place.path("holes.csv"), text).unwrap();
    let report = place.json("fit holes.csv -k 2 --missing ignore -o m.json -q");
    let score = place.json("score m.json holes.csv --missing ignore");
    assert_eq!(report["log_likelihood"], score["log_likelihood"]);
    place.succeed("predict m.json holes.csv --missing ignore -o labels.csv");
    let labels = std::fs::read_to_string(place.path("labels.csv")).unwrap();
    let labels: Vec<u8> = labels.lines().skip(1).map(|line| line.parse().unwrap()).collect();
    let alike = (0..300).filter(|i| labels[*i] == labels[2 + i % 2]).count();
    assert!(alike > 280, "{alike}");
    place.refuse("fit holes.csv -k 2", "missing");
}
