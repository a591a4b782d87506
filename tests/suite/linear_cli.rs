//! Probabilistic PCA and factor analysis from the command line and in files.
#![cfg(feature = "cli")]

use crate::common;

use common::place::Place;
use common::{assert_close, fixture, numbers};
use serde_json::Value;
use std::fs;

#[test]
fn fit_reports_the_maximum_likelihood_of_the_fixture() {
    let place = Place::new();
    for solution in fixture("linear_iris")["ppca_ml"]["solutions"].as_array().unwrap() {
        let expected = solution["loglik"].as_f64().unwrap();
        let latents = solution["H"].as_u64().unwrap();
        for algorithm in ["closed-form", "px-em", "em"] {
            let report = place.json(&format!(
                "fit DATA/iris.csv --model ppca --latent {latents} --algorithm {algorithm} --tol 1e-11 --max-iter 100000 \
                 -q"
            ));
            let number = |key: &str| report[key].as_f64().unwrap();
            assert_close(number("log_likelihood"), expected, 1e-8, algorithm);
            assert_close(
                report["entropy_sum"]["total"].as_f64().unwrap(),
                expected,
                1e-8,
                algorithm,
            );
            assert_close(
                number("noise_variance"),
                solution["sigma2"].as_f64().unwrap(),
                1e-4,
                algorithm,
            );
            assert!(number("gap").abs() < 1e-7 && report["converged"] == true, "{report}");
            assert_eq!((&report["model"], &report["n_latents"]), (&"ppca".into(), &latents.into()));
            assert!(report["method"].as_str().unwrap().ends_with(" the covariance"));
        }
    }
}

#[test]
fn models_come_back_from_files_and_a_fit_goes_on_from_them() {
    let place = Place::new();
    for model in ["ppca", "factor-analysis"] {
        for name in ["model.json", "model.safetensors"] {
            place.json(&format!(
                "fit DATA/wine.csv --model {model} --latent 2 --algorithm px-em --max-iter 30 --tol 0 -q -o {name}"
            ));
            let info = place.json(&format!("info {name}"));
            assert_eq!(info["model"], model);
            assert_eq!(numbers(&info["mean"]).len(), 13);
            assert_eq!(
                (info["loadings"].as_array().unwrap().len(), numbers(&info["loadings"]).len()),
                (13, 26)
            );
            assert_eq!(info["noise_variance"].is_number(), model == "ppca");
            fs::write(place.path("start.json"), info.to_string()).unwrap();
            let go_on = |start: &str| {
                place.json(&format!("fit DATA/wine.csv --init {start} --max-iter 1 --tol 0 -q"))
            };
            let (a, b) = (go_on(name), go_on("start.json"));
            assert_eq!(
                (&a["lower_bound"], &a["entropy_sum"]),
                (&b["lower_bound"], &b["entropy_sum"])
            );
            // One more iteration is that of a longer run.
            let longer = place.json(&format!(
                "fit DATA/wine.csv --model {model} --latent 2 --algorithm px-em --max-iter 31 --tol 0 -q"
            ));
            assert_close(
                a["lower_bound"].as_f64().unwrap(),
                longer["lower_bound"].as_f64().unwrap(),
                1e-11,
                model,
            );
        }
    }
}

#[test]
fn transform_reconstruct_score_and_sample_write_tables() {
    let place = Place::new();
    let report = place.json(
        "fit DATA/wine.csv --model factor-analysis --latent 3 --rotation varimax -q -o m.safetensors --history h.csv \
         --plot p.svg",
    );
    assert_eq!(
        fs::read_to_string(place.path("h.csv")).unwrap().lines().count() as u64,
        1 + report["iterations"].as_u64().unwrap()
    );
    assert!(fs::read_to_string(place.path("p.svg")).unwrap().starts_with("<svg"));
    for (command, columns, rows) in [
        ("transform m.safetensors DATA/wine.csv -o t.csv", 3, 178),
        ("reconstruct m.safetensors DATA/wine.csv -o t.csv", 13, 178),
        ("sample m.safetensors -n 50 -o t.csv", 13, 50),
        ("score m.safetensors DATA/wine.csv -o t.csv", 1, 178),
    ] {
        let (success, text) = place.run(command);
        assert!(success, "{command}: {text}");
        let table = fs::read_to_string(place.path("t.csv")).unwrap();
        assert_eq!(table.lines().count(), rows + 1, "{command}");
        assert_eq!(table.lines().next_back().unwrap().split(',').count(), columns, "{command}");
    }
    let score = place.json("score m.safetensors DATA/wine.csv");
    let fitted = report["log_likelihood"].as_f64().unwrap();
    assert_close(score["log_likelihood"].as_f64().unwrap(), fitted, 1e-12, "score");
    let (success, text) = place.run("info m.safetensors");
    assert!(success && text.contains("factor-analysis, 3 latents"), "{text}");
}

#[test]
fn missing_entries_are_refused_or_left_out() {
    let place = Place::new();
    let text = fs::read_to_string(format!("{}/data/iris.csv", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (i, line) in lines.iter_mut().enumerate().skip(1).step_by(3) {
        let mut fields: Vec<&str> = line.split(',').collect();
        fields[i % 4] = "nan";
        *line = fields.join(",");
    }
    fs::write(place.path("holes.csv"), lines.join("\n")).unwrap();
    place.refuse("fit holes.csv --model ppca --latent 1", "row 0, column 1");
    place.refuse(
        "fit holes.csv --model ppca --latent 1 --missing ignore --algorithm closed-form",
        "no closed form",
    );
    for model in ["ppca", "factor-analysis"] {
        let report = place.json(&format!(
            "fit holes.csv --model {model} --latent 1 --missing ignore --tol 1e-10 --max-iter 5000 -q"
        ));
        assert_eq!(
            report["method"],
            "parameter-expanded EM on the observed entries, grouped by pattern"
        );
        let (bound, found) =
            (report["lower_bound"].as_f64().unwrap(), report["log_likelihood"].as_f64().unwrap());
        assert_close(bound, found, 1e-8, model);
    }
}

#[test]
fn incomplete_points_are_scored_and_filled_in() {
    let place = Place::new();
    let text = fs::read_to_string(format!("{}/data/iris.csv", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (mut lines, mut taken) = (vec![text.lines().next().unwrap().to_owned()], Vec::new());
    for (i, line) in text.lines().skip(1).enumerate() {
        let mut fields: Vec<&str> = line.split(',').collect();
        if i % 3 == 0 {
            taken.push((i, i % 4, fields[i % 4].parse::<f64>().unwrap()));
            fields[i % 4] = "";
        }
        lines.push(fields.join(","));
    }
    fs::write(place.path("holes.csv"), lines.join("\n")).unwrap();
    for model in ["ppca", "factor-analysis"] {
        let report = place.json(&format!(
            "fit holes.csv --model {model} --latent 2 --missing ignore --tol 1e-9 --max-iter 5000 -q -o m.json"
        ));
        let score = place.json("score m.json holes.csv --missing ignore");
        for key in ["log_likelihood", "bic"] {
            let (a, b) = (score[key].as_f64().unwrap(), report[key].as_f64().unwrap());
            assert_close(a, b, 1e-11, key);
        }
        let (success, text) = place.run("transform m.json holes.csv --missing ignore -o z.csv");
        assert!(success, "{text}");
        assert_eq!(fs::read_to_string(place.path("z.csv")).unwrap().lines().count(), 151);
        let (success, text) = place.run("reconstruct m.json holes.csv --missing ignore -o x.csv");
        assert!(success, "{text}");
        let table = fs::read_to_string(place.path("x.csv")).unwrap();
        let rows: Vec<Vec<f64>> = table
            .lines()
            .skip(1)
            .map(|line| line.split(',').map(|field| field.parse().unwrap()).collect())
            .collect();
        let mean = numbers(&place.json("info m.json")["mean"]);
        let error = |guess: &dyn Fn(usize, usize) -> f64| -> f64 {
            taken.iter().map(|&(i, d, truth)| (guess(i, d) - truth).powi(2)).sum()
        };
        let (filled, constant) = (error(&|i, d| rows[i][d]), error(&|_, d| mean[d]));
        assert!(filled < 0.25 * constant, "{model}: {filled} is not far below {constant}");
        place.refuse("score m.json holes.csv", "row 0, column 0");
    }
    place.run("fit DATA/iris.csv --model mfa -k 2 --latent 1 --max-iter 2 -q -o mfa.json");
    place.refuse("score mfa.json holes.csv --missing ignore", "missing values can be ignored by");
    place.refuse(
        "fit holes.csv --model mfa -k 2 --latent 1 --missing ignore",
        "--missing ignore is no argument of mfa",
    );
}

#[test]
fn select_compares_numbers_of_latents_from_one_pass() {
    let place = Place::new();
    for (model, k, scree) in [
        ("ppca", "", "eigenvalue of the covariance"),
        ("factor-analysis", "", "eigenvalue of the correlation"),
        ("mfa", " -k 2", ""),
        ("mppca", " -k 2", ""),
    ] {
        let size = format!("DATA/wine.csv --model {model}{k} --max-iter 30");
        let report = place.json(&format!(
            "select {size} --latent 1..4 --criterion bic -q --plot s.svg -o best.json"
        ));
        let rows = report["candidates"].as_array().unwrap();
        let best =
            rows.iter().min_by(|a, b| a["bic"].as_f64().partial_cmp(&b["bic"].as_f64()).unwrap());
        let best = &best.unwrap()["latent"];
        assert_eq!((&report["best"]["n_latents"], &report["n_held_out"]), (best, &0.into()));
        assert_eq!(&place.json("info best.json")["n_latents"], best);
        for (row, h) in rows.iter().zip(1..) {
            let alone = place.json(&format!("fit {size} --latent {h} -q"));
            assert_eq!(row["entropy_sum"], alone["entropy_sum"]["total"], "{model} {h}");
            assert_eq!((&row["bic"], &row["latent"]), (&alone["bic"], &h.into()));
            assert!(row["held_out_log_likelihood"].is_null());
        }
        let plot = fs::read_to_string(place.path("s.svg")).unwrap();
        assert!(plot.contains("entropy-sum") && !plot.contains("held-out"));
        assert_eq!(plot.contains("eigenvalue"), !scree.is_empty());
        assert!(plot.contains(scree));

        // Held-out points are drawn by the seed, and the best by them is kept.
        let held_out = |more: &str| {
            place.json(&format!("select {size} --latent 1..4 --criterion held-out -q {more}"))
        };
        let report = held_out("--plot s.svg --threads 1");
        assert_eq!((&report["n_points"], &report["n_held_out"]), (&142.into(), &36.into()));
        let column = |report: &Value| -> Vec<f64> {
            let rows = report["candidates"].as_array().unwrap();
            rows.iter().map(|row| row["held_out_log_likelihood"].as_f64().unwrap()).collect()
        };
        let found = column(&report);
        let best = report["best"]["n_latents"].as_u64().unwrap() as usize;
        assert!(found.iter().all(|value| *value <= found[best - 1]), "{found:?}");
        assert!(fs::read_to_string(place.path("s.svg")).unwrap().contains("held-out"));
        assert_eq!(found, column(&held_out("--threads 2")));
        assert_ne!(found, column(&held_out("--seed 1")));
        let (success, text) = place.run(&format!("select {size} --latent 1..2 --held-out 0.5 -q"));
        assert!(success && text.contains("held-out   entropy sum"), "{text}");
    }
    place.refuse(
        "select DATA/wine.csv --model ppca --latent 11..13",
        "13 latents for 13 dimension(s)",
    );
    place.refuse("select DATA/wine.csv --model ppca --latent 1 --held-out 1", "between 0 and 1");
}

#[test]
fn columns_are_called_by_their_names() {
    let place = Place::new();
    let text = fs::read_to_string(format!("{}/data/iris.csv", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let write = |name: &str, header: &str, column: &dyn Fn(&str) -> String| {
        let rows = text.lines().skip(1).map(|line| format!("{line},{}", column(line)));
        let lines: Vec<String> = [header.to_owned()].into_iter().chain(rows).collect();
        fs::write(place.path(name), lines.join("\n")).unwrap();
    };
    let first = |line: &str| line.split(',').next().unwrap().to_owned();
    let fit = "--model factor-analysis --latent 2 --max-iter 3000 --tol 0";
    write("copied.csv", "one,two,three,four,copy", &first);
    let report = place.json(&format!("fit copied.csv {fit} -q"));
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("Heywood") && warnings.contains("[one, copy]"), "{warnings}");
    write("constant.csv", "one,two,three,four,flat", &|_| "1".to_owned());
    place.refuse(&format!("fit constant.csv {fit}"), "column 4, flat, is constant");
}

#[test]
fn what_has_no_meaning_is_refused() {
    let place = Place::new();
    for (arguments, expected) in [
        ("fit DATA/iris.csv --model ppca", "give the number of latents with --latent"),
        ("fit DATA/iris.csv --model ppca --latent 4", "4 latents for 4 dimension(s)"),
        ("fit DATA/iris.csv --model ppca --latent 2,3", "expected one number"),
        ("fit DATA/iris.csv --model ppca --latent 2 -k 3", "--components is no argument of ppca"),
        ("fit DATA/iris.csv --model ppca --latent 2 --reg-covar 1", "--reg-covar is no argument"),
        ("fit DATA/iris.csv --model ppca --latent 2 --init random", "starts by itself"),
        (
            "fit DATA/iris.csv --model gaussian-full -k 2 --rotation varimax",
            "--rotation is no argument",
        ),
        (
            "fit DATA/iris.csv --model factor-analysis --latent 1 --algorithm closed-form",
            "no closed form",
        ),
        (
            "fit DATA/iris.csv --model ppca --latent 1 --algorithm newton",
            "closed-form or em or px-em",
        ),
        ("fit DATA/digits.npy --model factor-analysis --latent 2", "column 0 is constant"),
    ] {
        place.refuse(arguments, expected);
    }
    for (text, expected) in [
        (
            r#"{"model": "ppca", "mean": [0, 0], "loadings": [[1], [2]]}"#,
            "\"noise_variance\" is missing",
        ),
        (
            r#"{"model": "ppca", "mean": [0, 0], "loadings": [[1]], "noise_variance": 1}"#,
            "\"loadings\" has shape 1 × 1, expected 2",
        ),
        (
            r#"{"model": "ppca", "mean": [0, 0], "loadings": [[1], [2]], "noise_variance": [1, 1]}"#,
            "\"noise_variance\" has shape 2",
        ),
        (
            r#"{"model": "ppca", "mean": [0, 0], "loadings": [[1], [2]], "noise_variance": 0}"#,
            "expected a number > 0",
        ),
        (
            r#"{"model": "factor-analysis", "mean": [0, 0], "loadings": [[1, 0], [2, 1]], "noise_variance": [1, 1]}"#,
            "2 latents for 2",
        ),
        (
            r#"{"model": "factor-analysis", "mean": 1, "loadings": [[1]], "noise_variance": [1]}"#,
            "\"mean\" has shape [] (one number)",
        ),
    ] {
        fs::write(place.path("m.json"), text).unwrap();
        place.refuse("info m.json", expected);
    }
}

/// Every kind of linear model is checked at its own parameters, a large one in a moment, and its gap certified on points.
#[test]
fn check_certifies_the_gap_of_linear_models_on_points() {
    let place = Place::new();
    for (model, applies) in [
        ("ppca --latent 8", "Proposition 2"),
        ("factor-analysis --latent 2", "Proposition 3"),
        ("mfa -k 2 --latent 2", "Definition 1"),
        ("mppca -k 2 --latent 2", "Definition 1"),
    ] {
        let data = if model.starts_with("ppca") { "DATA/digits.npy" } else { "DATA/iris.csv" };
        place.json(&format!("fit {data} --model {model} --max-iter 300 -q -o fitted.safetensors"));
        let report = place.json(&format!("check fitted.safetensors {data} --draws 2"));
        assert_eq!((&report["fulfilled"], &report["applies"]), (&true.into(), &applies.into()));
        let number = |key: &str| report["gap"][key].as_f64().unwrap();
        assert!(number("error").abs() < 1e-8, "{model}: {report}");
        assert!(number("gap").abs() < 1e-2, "{model}: learned from these points: {report}");
        let report = place.json("check fitted.safetensors --draws 2");
        assert!(report["gap"].is_null(), "{report}");
    }
    for name in ["mfa-fixed-prior", "mppca-fixed-prior", "ppca-fixed-prior", "linear-fixed-noise"] {
        let report = place.json(&format!("check {name}"));
        assert_eq!((&report["fulfilled"], &report["applies"]), (&false.into(), &Value::Null));
    }
}
