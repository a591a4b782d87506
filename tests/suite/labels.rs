//! Points whose component is known: posteriors are fixed, bound and entropy sum stay equal.

use crate::common::Uniforms;
use entropysum::data::Points;
use entropysum::em::{self, known_from_data};
use entropysum::family::{KnownParameters, registry};
use entropysum::model::{Posterior, TruncatedSearch};
use entropysum::{Config, Executor, MixtureSpec, Silent, inference};

/// Points of three clusters in one dimension, with a label at every tenth point of the first two. Labels at odd places say the other
/// cluster.
fn points() -> (Vec<f64>, usize) {
    let mut random = Uniforms::new(11);
    let (mut values, n) = (Vec::new(), 600);
    for i in 0..n {
        let cluster = i % 3;
        values.push([0.0, 2.5, 9.0][cluster] + random.normal());
        values.push(match (i % 10, cluster) {
            (0, 0 | 1) => cluster as f64,
            _ => f64::NAN,
        });
    }
    (values, n)
}

fn fit(
    values: &[f64],
    n_components: usize,
    config: &Config,
) -> em::Fit<entropysum::model::Mixture> {
    let (points, executor) =
        (Points::from_rows(values, 2).unwrap(), Executor::new(Some(2)).unwrap());
    let name = "gaussian-full:0,label:1";
    let known = known_from_data(name, &points, KnownParameters::default()).unwrap();
    let family = registry::build_known(name, 2, &known).unwrap();
    em::fit(&MixtureSpec::new(family, n_components), &points, &executor, config, &mut Silent)
        .unwrap()
}

#[test]
fn bound_and_entropy_sum_are_equal_whatever_labels_say() {
    let (mut values, n) = points();
    // Some labels contradict the values.
    (0..n).filter(|i| i % 60 == 0).for_each(|i| values[2 * i + 1] = 1.0);
    for n_components in [2, 3, 4] {
        let fit = fit(&values, n_components, &Config::default().tol(1e-9).max_iter(500));
        let records = &fit.history.records;
        assert!(records.iter().all(|record| record.gap().abs() < 1e-11), "{n_components}");
        for pair in records.windows(2) {
            assert!(pair[1].lower_bound > pair[0].lower_bound - 1e-11, "{n_components}");
        }
        // The bound by its definition: points with a label have one component.
        let model = &fit.model;
        let (means, variances) = (
            model.parameter("blocks.0.means").unwrap(),
            model.parameter("blocks.0.covariances").unwrap(),
        );
        let labels = model.parameter("blocks.1.label").unwrap();
        assert_eq!(labels[..2], [0.0, 1.0]);
        assert!(labels[2..].iter().all(|label| *label == -1.0) || n_components == 2);
        let log_joint = |c: usize, x: f64| {
            let z = (x - means[c]).powi(2) / variances[c];
            model.weights()[c].ln() - 0.5 * ((2.0 * std::f64::consts::PI * variances[c]).ln() + z)
        };
        let log_density = |row: &[f64]| match row[1].is_nan() {
            false => log_joint(row[1] as usize, row[0]),
            true => (0..n_components).map(|c| log_joint(c, row[0]).exp()).sum::<f64>().ln(),
        };
        let expected = values.chunks(2).map(log_density).sum::<f64>() / n as f64;
        let source = Points::from_rows(&values, 2).unwrap();
        let executor = Executor::new(Some(1)).unwrap();
        let found = inference::score(model, &source, &executor).unwrap().log_likelihood;
        assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
        assert!((records.last().unwrap().lower_bound - expected).abs() < 1e-6);
        let mut row = 0;
        inference::predict_proba(model, &source, &executor, |_, posteriors| {
            for posterior in posteriors.chunks(n_components) {
                let label = values[2 * row + 1];
                if !label.is_nan() {
                    assert_eq!(posterior[label as usize], 1.0);
                }
                row += 1;
            }
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn labels_of_all_points_give_the_moments_of_the_classes() {
    let (mut values, n) = points();
    (0..n).for_each(|i| values[2 * i + 1] = (i % 2) as f64);
    let fit = fit(&values, 2, &Config::default());
    let means = fit.model.parameter("blocks.0.means").unwrap();
    for (class, mean) in means.iter().enumerate() {
        let own = (0..n).filter(|i| i % 2 == class).map(|i| values[2 * i]);
        let expected = own.sum::<f64>() / (n / 2) as f64;
        assert!((mean - expected).abs() < 1e-12);
    }
    assert_eq!(fit.model.weights(), [0.5, 0.5]);
}

#[test]
fn points_of_single_precision_far_away_keep_their_labels() {
    let values: Vec<f32> = (0..400u16)
        .flat_map(|i| {
            let label = if i % 4 == 0 { f32::from(i / 4 % 2) } else { f32::NAN };
            [f32::from(i / 4 % 2) * 1e3 + f32::from(i % 7), label]
        })
        .collect();
    // Each cluster has a point with the label of the other.
    let mut values = values;
    (values[1], values[9]) = (1.0, 0.0);
    let points = Points::from_rows(&values, 2).unwrap();
    let known = KnownParameters::default().with("labels", vec![2.0]);
    let family = registry::build_known("gaussian-diag:0,label:1", 2, &known).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let fit =
        em::fit(&MixtureSpec::new(family, 2), &points, &executor, &Config::default(), &mut Silent)
            .unwrap();
    inference::predict(&fit.model, &points, &executor, |_, labels| {
        assert_eq!((labels[0], labels[4]), (1, 0));
        Ok(())
    })
    .unwrap();
    assert!(fit.last().unwrap().gap().abs() < 1e-6);
}

#[cfg(feature = "cli")]
mod cli {
    use super::*;
    use crate::common::place::Place;
    use std::fmt::Write as _;
    use std::fs;

    /// Two clusters and a third that no label names.
    fn table(place: &Place) {
        let mut random = Uniforms::new(5);
        let mut text = "width,kind,height\n".to_owned();
        let mut plain = "width,height\n".to_owned();
        for i in 0..600 {
            let (x, y, kind) = [(0.0, 0.0, "round"), (5.0, 0.0, "flat"), (0.0, 9.0, "")][i % 3];
            let (x, y) = (x + random.normal(), y + random.normal());
            let kind = if i % 15 < 3 { kind } else { "" };
            let _ = writeln!(text, "{x:.3},{kind},{y:.3}");
            let _ = writeln!(plain, "{x:.3},{y:.3}");
        }
        fs::write(place.path("points.csv"), text).unwrap();
        fs::write(place.path("plain.csv"), plain).unwrap();
    }

    #[test]
    fn labels_of_a_column_name_the_components() {
        let place = Place::new();
        table(&place);
        let fit = "fit points.csv --label-column kind";
        let report = place
            .succeed(&format!("{fit} -k 3 -o model.json --plot-clusters c.svg --history h.csv"));
        for expected in [
            "components      0 is round, 1 is flat",
            "labels of components",
            "dimension 2",
            "gaussian-full, 3",
        ] {
            assert!(report.contains(expected), "{expected}: {report}");
        }
        let model: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(place.path("model.json")).unwrap()).unwrap();
        assert_eq!(model["model"], "gaussian-full");
        assert_eq!(model["component_names"], serde_json::json!(["round", "flat", ""]));
        assert_eq!(model["column_names"], serde_json::json!(["width", "height"]));
        let mean = |c: usize, d: usize| model["means"][c][d].as_f64().unwrap();
        assert!(
            (mean(0, 0)).abs() < 0.5
                && (mean(1, 0) - 5.0).abs() < 0.5
                && (mean(2, 1) - 9.0).abs() < 0.5
        );
        assert!(place.succeed("info model.json").contains("0 is round, 1 is flat"));
        // The model is one of points without labels.
        for points in ["points.csv", "plain.csv"] {
            place.succeed(&format!("predict model.json {points} -o labels.csv"));
            let labels = fs::read_to_string(place.path("labels.csv")).unwrap();
            let labels: Vec<usize> =
                labels.lines().skip(1).map(|line| line.parse().unwrap()).collect();
            let right = labels.iter().enumerate().filter(|(i, label)| i % 3 == **label).count();
            assert!(right > 585, "{right}");
        }
        place.succeed("predict model.json points.csv --append -o appended.csv");
        let appended = fs::read_to_string(place.path("appended.csv")).unwrap();
        let mut lines = appended.lines();
        assert_eq!(lines.next().unwrap(), "width,kind,height,label,probability,component");
        assert!(lines.next().unwrap().ends_with(",round"));
        assert!(lines.next().unwrap().ends_with(",flat"));
        let history = fs::read_to_string(place.path("h.csv")).unwrap();
        let gap =
            history.lines().next().unwrap().split(',').position(|name| name == "gap").unwrap();
        for line in history.lines().skip(1) {
            assert!(line.split(',').nth(gap).unwrap().parse::<f64>().unwrap().abs() < 1e-10);
        }
    }

    #[test]
    fn fits_with_labels_go_on_from_checkpoints_and_learn_from_minibatches() {
        let place = Place::new();
        table(&place);
        for model in ["gaussian-full", "gaussian-diag:width,gaussian-diag:height"] {
            let fit = format!("fit points.csv --label-column kind -k 3 --model {model} --tol 0 -q");
            place.succeed(&format!("{fit} --max-iter 8 -o whole.safetensors"));
            place.succeed(&format!("{fit} --max-iter 3 --checkpoint state"));
            place.succeed(&format!(
                "{fit} --max-iter 8 --checkpoint state --resume -o parts.safetensors"
            ));
            let bytes = |name: &str| fs::read(place.path(name)).unwrap();
            assert_eq!(bytes("whole.safetensors"), bytes("parts.safetensors"), "{model}");
        }
        let report =
            place.json("fit points.csv --label-column kind -k 3 --batch-size 100 --epochs 5 -q");
        assert!(report["entropy_sum"].is_number() || report["entropy_sum"].is_object());
    }

    #[test]
    fn labels_that_cannot_be_used_are_refused() {
        let place = Place::new();
        table(&place);
        for (arguments, expected) in [
            ("--label-column kind -k 1", "2 labels, more than the 1 components asked for"),
            ("--label-column sort -k 3", "--label-column sort: points.csv has no such column"),
            (
                "--label-column kind -k 3 --missing drop",
                "would leave out the points without a label",
            ),
            (
                "--label-column kind --model mppca --latent 1 -k 3",
                "--label-column is no argument of mppca",
            ),
            ("--label-column kind --model gaussian-tied -k 3", "its components share parameters"),
            ("--label-column width -k 3", "expected a whole number from 0"),
        ] {
            place.refuse(&format!("fit points.csv {arguments}"), expected);
        }
        place.refuse("select points.csv -k 1..2 --label-column kind", "unexpected argument");
    }
}

/// A list of neighbours may lack the component that a label names; then it must hold all.
#[test]
fn truncated_posteriors_know_labels_if_all_components_are_candidates() {
    let (values, _) = points();
    let points = Points::from_rows(&values, 2).unwrap();
    let executor = Executor::new(Some(2)).unwrap();
    let name = "gaussian-full:0,label:1";
    let known = known_from_data(name, &points, KnownParameters::default()).unwrap();
    let family = registry::build_known(name, 2, &known).unwrap();
    let config = Config::default().max_iter(8).tol(0.0);
    let fit = |posterior| {
        let spec = MixtureSpec::new(family.clone(), 4).with_posterior(posterior);
        em::fit(&spec, &points, &executor, &config, &mut Silent)
    };
    let truncated = |neighbours| {
        Posterior::Truncated(TruncatedSearch::default().states(4).neighbours(neighbours))
    };
    let bound = |posterior| fit(posterior).unwrap().last().unwrap().lower_bound;
    assert!((bound(truncated(4)) - bound(Posterior::Exact)).abs() < 1e-10);
    let fault = fit(truncated(3)).unwrap_err().to_string();
    assert!(fault.contains("take 4 neighbours"), "{fault}");
}
