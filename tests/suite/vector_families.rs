//! Families of several columns, and products of families.

use crate::common;

use common::{assert_all_close, assert_close, fixture, numbers};
use entropysum::Executor;
use entropysum::data::Points;
use entropysum::em::{self, Config, Init, MixtureSpec, known_from_data};
use entropysum::error::{Error, Result};
use entropysum::expert::family::{ExponentialFamily, Theta};
use entropysum::expert::start_mixture;
use entropysum::family::{KnownParameters, Parameters, Regularization, registry};
use entropysum::inference;
use entropysum::model::Mixture;
use entropysum::monitor::{IterRecord, Silent, StopReason};
use entropysum::store;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::sync::Arc;

fn executor() -> Executor {
    Executor::new(Some(2)).unwrap()
}

/// A fixture's parameters of one component, in our order: blocks one after the other, as they stand there but for the
/// concentration of a von Mises-Fisher distribution, which stands first there and last here.
fn component(theta: &Value, is_von_mises_fisher: bool) -> Vec<f64> {
    let mut values = numbers(theta);
    if is_von_mises_fisher {
        values.rotate_left(1);
    }
    values
}

fn components(theta: &Value, model: &str) -> Vec<Vec<f64>> {
    let theta = theta.as_array().unwrap();
    theta.iter().map(|theta| component(theta, model == "von-mises-fisher")).collect()
}

fn known(model: &str) -> KnownParameters {
    match model {
        "categorical" => KnownParameters::default().with("levels", vec![6.0]),
        _ => KnownParameters::default(),
    }
}

fn follows_the_golden_trajectory(data: &str, model: &str) {
    let fixture = fixture(&format!("mix_{data}"));
    let dim = fixture["data"]["cols"].as_u64().unwrap() as usize;
    let x = numbers(&fixture["data"]["x"]);
    let points = Points::from_rows(&x, dim).unwrap();
    let golden = fixture["iterations"].as_array().unwrap();
    let steps = golden.len() - 1;
    let regularization = Regularization { reg_covar: Some(0.0), ..Default::default() };
    let config = Config::default().tol(0.0).max_iter(steps).regularization(regularization);
    let family = registry::build_known(model, dim, &known(model)).unwrap();
    let start = Mixture::new(
        family.clone(),
        numbers(&fixture["init"]["pi"]),
        Parameters { components: components(&fixture["init"]["theta"], model), shared: vec![] },
    )
    .unwrap();
    let mut records: Vec<IterRecord> = Vec::new();
    let fit = em::fit(&start, &points, &executor(), &config, &mut |r: &IterRecord| {
        records.push(r.clone());
        ControlFlow::<StopReason>::Continue(())
    })
    .unwrap();
    assert_eq!(records.len(), steps);
    let tolerance = 1e-10;
    let base_measure = fixture["mean_log_base_measure"].as_f64().unwrap();
    for (record, step) in records.iter().zip(golden) {
        let close = |found: f64, name: &str| {
            let what = format!("{data} {} {name}", record.iteration);
            assert_close(found, step[name].as_f64().unwrap(), tolerance, &what);
        };
        close(record.log_likelihood, "loglik");
        close(record.entropy_sum.posterior, "mean_posterior_entropy");
        close(record.entropy_sum.total(), "entropy_sum_after_m");
        close(record.lower_bound, "elbo_after_m");
        close(record.delta(), "entropy_sum_minus_loglik");
        assert_close(record.entropy_sum.base_measure, base_measure, tolerance, "base measure");
    }
    // Parameters after each M-step that the fixture tells.
    let told = golden.iter().enumerate().filter(|(_, step)| step["theta"].is_array());
    let mut count = 0;
    for (t, step) in told.filter(|(t, _)| *t < steps) {
        let config = config.clone().max_iter(t + 1);
        let fit = em::fit(&start, &points, &executor(), &config, &mut Silent).unwrap();
        let what = format!("{data} parameters after {}", t + 1);
        let expected = components(&step["theta"], model);
        for (found, expected) in fit.model.parameters().components.iter().zip(&expected) {
            assert_all_close(found, expected, 1e-8, &what);
        }
        assert_all_close(fit.model.weights(), &numbers(&step["pi"]), 1e-10, &what);
        count += 1;
    }
    assert!(count > 0);
    let score = inference::score(&fit.model, &points, &executor()).unwrap();
    let expected = golden[steps]["loglik"].as_f64().unwrap();
    assert_close(score.log_likelihood, expected, tolerance, &format!("{data} final"));
}

#[test]
fn em_on_mites_follows_a_40_digit_trajectory_of_multinomials() {
    follows_the_golden_trajectory("multinomial_mite", "multinomial");
}

#[test]
fn em_on_answers_follows_a_40_digit_trajectory_of_categoricals() {
    follows_the_golden_trajectory("categorical_bfi", "categorical");
}

#[test]
fn em_on_oils_follows_a_40_digit_trajectory_of_dirichlets() {
    follows_the_golden_trajectory("dirichlet_olive", "dirichlet");
}

#[test]
fn em_on_airports_follows_40_digit_trajectories_of_directions() {
    follows_the_golden_trajectory("von_mises_airports", "von-mises");
    follows_the_golden_trajectory("vmf_airports", "von-mises-fisher");
}

#[test]
fn em_on_patients_follows_a_40_digit_trajectory_of_mixed_columns() {
    follows_the_golden_trajectory(
        "mixed_diabetes",
        "poisson:0,bernoulli:1,gaussian-diag:2,gamma:3,log-normal:9",
    );
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

#[test]
fn entropies_and_densities_are_the_golden_ones() {
    let fixture = fixture("families");
    let mut count = 0;
    for (key, name) in [
        ("categorical", "categorical"),
        ("multinomial", "multinomial"),
        ("dirichlet", "dirichlet"),
        ("von_mises", "von-mises"),
        ("von_mises_fisher", "von-mises-fisher"),
    ] {
        for entry in fixture["families"][key]["grid"].as_array().unwrap() {
            let theta: Vec<f64> = entry["theta"].as_array().unwrap().iter().map(number).collect();
            let (family, theta): (Arc<dyn ExponentialFamily>, _) = match name {
                "categorical" => {
                    let known = KnownParameters::default().with("levels", vec![theta.len() as f64]);
                    (registry::build_known(name, 1, &known).unwrap(), theta)
                }
                "multinomial" => {
                    let known = KnownParameters::default().with("total", vec![theta[0]]);
                    let dim = theta.len() - 1;
                    (registry::build_known(name, dim, &known).unwrap(), theta[1..].to_vec())
                }
                "von-mises-fisher" => {
                    let mut theta = theta;
                    theta.rotate_left(1);
                    (registry::build(name, theta.len() - 1).unwrap(), theta)
                }
                "von-mises" => (registry::build(name, 1).unwrap(), theta),
                _ => (registry::build(name, theta.len()).unwrap(), theta),
            };
            let what = format!("{name} {theta:?}");
            let parameters = Parameters { components: vec![theta.clone()], shared: vec![] };
            let pseudo = family.pseudo_entropies(&parameters)[0];
            let expected = number(&entry["pseudo_entropy"]);
            let off = (pseudo - expected).abs();
            assert!(off <= 1e-12 * expected.abs() + 1e-13, "{what}: {pseudo}, expected {expected}");
            let view = Theta { component: &theta, shared: &[] };
            if let Some(entropy) = family.entropy(view) {
                assert_close(entropy, number(&entry["entropy"]), 1e-12, &what);
            }
            let dim = family.dim();
            let model = Mixture::new(family, vec![1.0], parameters).unwrap();
            for point in entry["points"].as_array().unwrap() {
                let x = match &point["x"] {
                    Value::Array(values) => values.iter().map(number).collect(),
                    value => vec![number(value)],
                };
                let points = Points::from_rows(&x, dim).unwrap();
                let mut density = f64::NAN;
                inference::score_samples(&model, &points, &executor(), |_, it| {
                    density = it[0];
                    Ok(())
                })
                .unwrap();
                let expected = number(&point["log_pdf"]);
                let terms = theta.iter().fold(1.0, |m: f64, t| m.max(t.abs())) * 40.0;
                let off = (density - expected).abs();
                assert!(off <= 1e-14 * terms, "{what} at {x:?}: {density}, expected {expected}");
            }
            count += 1;
        }
    }
    assert!(count > 15);
}

fn fault_of<V: std::fmt::Debug>(result: Result<V>) -> String {
    match result.unwrap_err() {
        Error::Data(fault) => fault.to_string(),
        other => panic!("{other:?}"),
    }
}

fn fit_of(
    name: &str,
    known: &KnownParameters,
    x: &[f64],
    dim: usize,
    k: usize,
) -> Result<em::Fit<Mixture>> {
    let spec = MixtureSpec::new(registry::build_known(name, dim, known)?, k);
    let points = Points::from_rows(x, dim)?;
    em::fit(&spec, &points, &executor(), &Config::default(), &mut Silent)
}

#[test]
fn points_off_the_simplex_the_sphere_and_the_levels_are_named() {
    let none = KnownParameters::default();
    let composition = [0.5, 0.5, 0.2, 0.8, 0.25, 0.5, 0.1, 0.9];
    let text = fault_of(fit_of("dirichlet", &none, &composition, 2, 1));
    assert!(text.contains("row 2") && text.contains("the values sum to 0.75"), "{text}");
    let text = fault_of(fit_of("dirichlet", &none, &[0.5, 0.5, 0.0, 1.0], 2, 1));
    assert!(text.contains("row 1") && text.contains("column 0"), "{text}");
    let text = fault_of(fit_of("von-mises-fisher", &none, &[1.0, 0.0, 0.6, 0.7], 2, 1));
    assert!(text.contains("row 1") && text.contains("length 0.92"), "{text}");
    let levels = KnownParameters::default().with("levels", vec![2.0]);
    let text = fault_of(fit_of("categorical", &levels, &[0.0, 1.0, 2.0], 1, 1));
    assert!(text.contains("row 2") && text.contains("a whole number from 0 to 1"), "{text}");
    let text = fault_of(fit_of("multinomial", &none, &[0.0, 1.0, 2.5, 0.0], 2, 1));
    assert!(text.contains("row 1") && text.contains("2.5"), "{text}");
    let text = fault_of(fit_of("gaussian-diag:0,poisson:1", &none, &[-1.0, 1.0, 2.5, -3.0], 2, 1));
    assert!(text.contains("row 1") && text.contains("column 1"), "{text}");
}

#[test]
fn families_without_enough_columns_or_levels_are_refused() {
    for name in ["dirichlet", "von-mises-fisher"] {
        assert!(registry::build(name, 1).unwrap_err().to_string().contains("at least two"));
    }
    assert!(registry::build("categorical", 2).unwrap_err().to_string().contains("levels"));
    let levels = KnownParameters::default().with("levels", vec![2.0, 0.0]);
    assert!(registry::build_known("categorical", 2, &levels).is_err());
}

/// Data without dispersion, rare levels, rows without counts: an answer, not an error, and no gap where nothing is held
/// up.
#[test]
fn degenerate_points_end_no_fit() {
    let none = KnownParameters::default();
    let same_direction: Vec<f64> = [0.6, 0.8].repeat(20);
    let same_composition: Vec<f64> = [0.2, 0.3, 0.5].repeat(20);
    for (name, x, dim) in [
        ("von-mises-fisher", &same_direction, 2),
        ("dirichlet", &same_composition, 3),
        ("von-mises", &vec![1.5; 20], 1),
    ] {
        let fit = fit_of(name, &none, x, dim, 1).unwrap();
        assert!(fit.last().unwrap().lower_bound.is_finite(), "{name}");
        assert!(fit.warnings.iter().any(|it| it.contains("floor")), "{name}: {:?}", fit.warnings);
    }
    // One cluster of repeated points beside a wide one.
    let mut x: Vec<f64> =
        (0..40).flat_map(|i| [(0.1 * f64::from(i)).cos(), (0.1 * f64::from(i)).sin()]).collect();
    x.extend([-0.6, -0.8].repeat(40));
    let fit = fit_of("von-mises-fisher", &none, &x, 2, 2).unwrap();
    assert!(fit.last().unwrap().lower_bound.is_finite());
    // Opposite directions cancel.
    let fit = fit_of("von-mises-fisher", &none, &[1.0, 0.0, -1.0, 0.0], 2, 1).unwrap();
    assert_eq!(fit.model.parameter("concentration").unwrap(), [0.0]);
    // Rows without counts, a kind that nobody counted, levels that a cluster has not.
    let counts = [5.0, 0.0, 0.0, 4.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 6.0, 0.0, 1.0, 7.0, 0.0];
    let fit = fit_of("multinomial", &none, &counts, 3, 2).unwrap();
    assert!(fit.last().unwrap().gap().abs() < 1e-12);
    let levels = KnownParameters::default().with("levels", vec![3.0, 4.0]);
    let labels = [0.0, 1.0, 0.0, 1.0, 0.0, 2.0, 2.0, 3.0, 2.0, 3.0, 2.0, 0.0];
    let fit = fit_of("categorical", &levels, &labels, 2, 2).unwrap();
    assert!(fit.last().unwrap().gap().abs() < 1e-12);
    let probabilities = fit.model.parameter("probabilities").unwrap();
    assert!(probabilities.chunks(8).all(|theta| theta[1] == 0.0 && theta[3] == 0.0));
}

/// `X` and `X` as blocks of one product are the same model: the same start, the same bits or nearly.
#[test]
fn a_product_of_parts_of_a_family_is_that_family() {
    let u = &mut common::Uniforms::new(3);
    let x: Vec<f64> = (0..300)
        .flat_map(|i| {
            let shift = if i % 3 == 0 { 4.0 } else { 0.0 };
            [u.normal() + shift, u.normal() - shift, u.normal()]
        })
        .collect();
    let none = KnownParameters::default();
    let whole = fit_of("gaussian-diag", &none, &x, 3, 2).unwrap();
    let parts = fit_of("gaussian-diag:0-1,gaussian-diag:2", &none, &x, 3, 2).unwrap();
    let (a, b) = (whole.last().unwrap(), parts.last().unwrap());
    assert_eq!(a.iteration, b.iteration);
    assert_close(a.lower_bound, b.lower_bound, 1e-13, "lower bound");
    assert_eq!(whole.model.n_parameters(), parts.model.n_parameters());
    let means = whole.model.parameter("means").unwrap();
    assert_all_close(
        &parts.model.parameter("blocks.1.means").unwrap(),
        &[means[2], means[5]],
        1e-12,
        "means",
    );
}

/// Gaussian columns far from 0 keep their digits beside counts: they are taken about the mean of the mixture.
#[test]
fn gaussian_columns_of_a_product_are_centred() {
    let u = &mut common::Uniforms::new(9);
    let offset = 1e8;
    let x: Vec<f64> = (0..500)
        .flat_map(|i| {
            let shift = if i % 2 == 0 { 3.0 } else { 0.0 };
            [(u.next() * 4.0 + shift).floor(), offset + u.normal() + shift]
        })
        .collect();
    let near: Vec<f64> = x.chunks(2).flat_map(|p| [p[0], p[1] - offset]).collect();
    let none = KnownParameters::default();
    let far = fit_of("poisson:0,gaussian-full:1", &none, &x, 2, 2).unwrap();
    let near = fit_of("poisson:0,gaussian-full:1", &none, &near, 2, 2).unwrap();
    let (a, b) = (far.last().unwrap(), near.last().unwrap());
    assert_close(a.lower_bound, b.lower_bound, 1e-9, "lower bound");
    assert!(a.gap().abs() < 1e-10, "{}", a.gap());
    let (a, b) = (far.model.parameter("blocks.0.rate"), near.model.parameter("blocks.0.rate"));
    assert_all_close(&a.unwrap(), &b.unwrap(), 1e-6, "rates");
}

#[test]
fn products_are_named_parsed_and_refused() {
    let build = |name: &str| registry::build(name, 6);
    for (name, canonical) in [
        ("poisson:1,gaussian-full:2+3+4", "poisson:1,gaussian-full:2-4"),
        (" poisson : 5 + 0-1 ", "poisson:5+0-1"),
    ] {
        assert_eq!(build(name).unwrap().name(), canonical);
    }
    for (name, what) in [
        ("poisson:1,poisson:1", "column 1 is in two blocks"),
        ("poisson:6", "there is no column 6"),
        ("poisson:4-2", "\"4-2\" is no column"),
        ("poisson:", "\"\" is no column"),
        ("poisson:0,bernoulli", "has no columns"),
        ("poison:0", "no family is called \"poison\""),
        ("gaussian-tied:0-1", "share parameters"),
        ("gaussian-spherical:0+2", "must follow one another"),
        ("von-mises-fisher:0", "at least two"),
    ] {
        let text = build(name).unwrap_err().to_string();
        assert!(text.contains(what), "{name}: {text}");
    }
    let told = KnownParameters::default().with("trials", vec![3.0]);
    assert!(
        registry::build_known("poisson:0", 1, &told).unwrap_err().to_string().contains("trials")
    );
}

#[test]
fn products_go_through_json_and_safetensors_and_come_back() {
    let x = [0.0, 1.5, 2.0, 9.0, 1.0, 2.5, 0.0, 9.0, 3.0, -1.0, 1.0, 9.0, 2.0, 0.5, 2.0, 9.0];
    let points = Points::from_rows(&x, 4).unwrap();
    let name = "poisson:0,gaussian-full:1,categorical:2";
    let told = known_from_data(name, &points, KnownParameters::default()).unwrap();
    let model = fit_of(name, &told, &x, 4, 2).unwrap().model;
    let value = store::to_json(&model);
    assert_eq!(value["model"], name);
    assert_eq!(value["dim"], 4);
    assert_eq!(value["blocks"][1]["family"], "gaussian-full");
    assert_eq!(value["blocks"][1]["columns"], json!([1]));
    assert_eq!(value["blocks"][2]["parameters"]["levels"], json!([3.0]));
    assert_eq!(value["blocks"][0]["parameters"]["rate"].as_array().unwrap().len(), 2);
    let back: Mixture = store::from_json(&value).unwrap();
    assert_eq!(back.parameters(), model.parameters());
    assert_eq!(back.family().dim(), 4);
    let folder = tempfile::tempdir().unwrap();
    for file in ["m.json", "m.safetensors"] {
        let path = folder.path().join(file);
        store::save(&path, &model).unwrap();
        let back: Mixture = store::load(&path).unwrap();
        assert_eq!(back.parameters(), model.parameters(), "{file}");
        assert_eq!((back.family().name(), back.family().dim()), (name.to_owned(), 4), "{file}");
    }
    // What a person writes: the blocks say all.
    let written = json!({
        "model": "mixed",
        "weights": [1.0],
        "blocks": [
            { "family": "poisson", "columns": [0, 1], "parameters": { "rate": [[1, 2]] } },
            { "family": "categorical", "columns": [2], "parameters": { "probabilities": [[[0.5, 0.5]]] } },
        ],
    });
    let model: Mixture = store::from_json(&written).unwrap();
    assert_eq!(model.family().name(), "poisson:0-1,categorical:2");
}

#[test]
fn known_parameters_may_be_left_out_of_json_where_an_array_tells_them() {
    let categorical = json!({
        "model": "categorical",
        "weights": [0.5, 0.5],
        "parameters": { "probabilities": [[[0.5, 0.5], [0.1, 0.9]], [[1, 0], [0.3, 0.7]]] },
    });
    let model: Mixture = store::from_json(&categorical).unwrap();
    assert_eq!(model.family().known().get("levels"), Some(&[2.0, 2.0][..]));
    let multinomial = json!({
        "model": "multinomial",
        "weights": [1.0],
        "parameters": { "probabilities": [[0.25, 0.75]] },
    });
    assert_eq!(store::from_json::<Mixture>(&multinomial).unwrap().family().dim(), 2);
    let directions = json!({
        "model": "von-mises-fisher",
        "weights": [1.0],
        "parameters": { "mean_direction": [[0.6, 0.8]], "concentration": [3.5] },
    });
    assert_eq!(store::from_json::<Mixture>(&directions).unwrap().family().dim(), 2);
}

/// k-means on labels, directions and counts of unlike scales finds clusters that the columns agree upon.
#[test]
fn starts_on_mixed_columns_find_the_clusters() {
    let u = &mut common::Uniforms::new(21);
    let n = 600;
    let mut x = Vec::new();
    for i in 0..n {
        let c = i % 3;
        let label = if u.next() < 0.9 { c as f64 } else { (u.next() * 3.0).floor() };
        let angle = 2.1 * c as f64 + 0.3 * u.normal();
        let count = ([3.0, 30.0, 300.0][c] * (1.0 + 0.2 * u.normal())).max(0.0).floor();
        x.extend([label, angle, count, 1e3 * (u.normal() + 2.0 * c as f64)]);
    }
    let points = Points::from_rows(&x, 4).unwrap();
    let name = "categorical:0,von-mises:1,poisson:2,gaussian-diag:3";
    let known = known_from_data(name, &points, KnownParameters::default()).unwrap();
    let family = registry::build_known(name, 4, &known).unwrap();
    let spec = MixtureSpec::new(family, 3).with_init(Init::KMeansPlusPlus);
    let (start, _) = start_mixture(&spec, &points, &executor(), &Config::default(), 0).unwrap();
    let mut labels = Vec::new();
    inference::predict(&start, &points, &executor(), |_, it| {
        labels.extend_from_slice(it);
        Ok(())
    })
    .unwrap();
    let agree = (0..3).map(|c| {
        let mut counts = [0; 3];
        labels.iter().skip(c).step_by(3).for_each(|&label| counts[label as usize] += 1);
        counts.into_iter().max().unwrap()
    });
    let agree: usize = agree.sum();
    assert!(agree as f64 > 0.95 * n as f64, "{agree} of {n}");
}

/// The program on a table with a header: columns by name and by index, levels from the data, and back from its own file.
#[cfg(feature = "cli")]
#[test]
fn the_command_line_fits_mixed_columns_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let u = &mut common::Uniforms::new(4);
    let mut table = String::from("age,visits,region,note\n");
    for i in 0..200 {
        let c = f64::from(i % 2);
        let (age, visits) =
            (30.0 + 30.0 * c + 3.0 * u.normal(), (u.next() * (3.0 + 20.0 * c)).floor());
        table += &format!("{age},{visits},{},{}\n", (c + 1.9 * u.next()).floor(), u.next());
    }
    std::fs::write(folder.path().join("table.csv"), table).unwrap();
    let run = |arguments: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_entropysum"));
        let output =
            command.args(arguments.split(' ')).current_dir(folder.path()).output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
        (output.status.success(), out, err)
    };
    let fit = "fit table.csv -k 2 --json -q --model";
    let (ok, out, err) =
        run(&format!("{fit} gaussian-diag:age,poisson:1,categorical:region -o m.json"));
    assert!(ok, "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["model"], "gaussian-diag:0,poisson:1,categorical:2");
    // One weight; a mean, a variance, a rate and two of three probabilities for each component.
    assert_eq!(report["n_parameters"], 1 + 2 * 5);
    let (ok, again, err) = run("fit table.csv --init m.json --json -q");
    assert!(ok, "{err}");
    let again: Value = serde_json::from_str(&again).unwrap();
    let bound = |report: &Value| report["log_likelihood"].as_f64().unwrap();
    assert!(bound(&again) >= bound(&report) - 1e-12);
    for (model, what) in [
        ("poisson:doctors", "age, visits, region, note"),
        ("poisson:1,gamma:4", "there is no column 4"),
        ("bernoulli:visits", "expected 0 or 1"),
    ] {
        let (ok, out, err) = run(&format!("{fit} {model}"));
        assert!(!ok && out.is_empty() && err.contains(what), "{model}: {err}");
    }
    assert!(run("sample m.json -n 5 -o s.csv").0);
    // A header, and the points.
    assert_eq!(std::fs::read_to_string(folder.path().join("s.csv")).unwrap().lines().count(), 6);
}
