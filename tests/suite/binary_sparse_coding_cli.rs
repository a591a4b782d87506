//! Binary sparse coding from the command line.
#![cfg(feature = "cli")]

use crate::common::place::Place;
use entropysum::data::{self, OpenOptions};
use std::fs;

/// Points of two causes of six observables, on in half of the points each.
fn causes(n: usize) -> String {
    let mut text = String::new();
    for i in 0..n {
        let on = [i % 2, i / 2 % 2];
        let row = (0..6).map(|d| {
            let noise = 0.1 * (7.3 * (i * 6 + d) as f64).sin();
            (3.0 * on[d / 3] as f64 + noise).to_string()
        });
        text += &(row.collect::<Vec<_>>().join(",") + "\n");
    }
    text
}

fn numbers(place: &Place, name: &str) -> (Vec<f64>, usize) {
    let source = data::open::<f64>(place.path(name), &OpenOptions::default()).unwrap();
    let points = data::load(&*source).unwrap();
    let rows = points.view().row_iter();
    (rows.flat_map(|row| row.iter().copied().collect::<Vec<_>>()).collect(), source.dim())
}

#[test]
fn a_binary_sparse_code_is_fitted_saved_used_and_drawn() {
    let place = Place::new();
    fs::write(place.path("x.csv"), causes(200)).unwrap();
    for (options, file) in [
        ("--states 4", "m.json"),
        ("--noise diagonal", "m.safetensors"),
        ("--batch-size 50 --epochs 60 --n-init 2", "m.json"),
    ] {
        let report = place.json(&format!(
            "fit x.csv --model binary-sparse-coding --latent 2 {options} -o {file} --plot-features w.png --image 3x2"
        ));
        assert_eq!(report["model"], "binary-sparse-coding");
        assert!(fs::read(place.path("w.png")).unwrap().starts_with(b"\x89PNG"));
        let number = |key: &str| report[key].as_f64().unwrap();
        assert!(number("gap").abs() < 1e-10, "{options}: {}", number("gap"));
        assert_eq!(report["log_likelihood_is_lower_bound"], true);
        // Two fair coins, and noise of variance 0.005 in six dimensions.
        let best = -2.0 * 2f64.ln() - 3.0 * (2.0 * std::f64::consts::PI * 0.005).ln() - 3.0;
        assert!((number("lower_bound") - best).abs() < 0.2, "{options}: {report}");
        let diagonal = options.contains("diagonal");
        assert_eq!(report["noise_variance"].is_array(), diagonal, "{report}");
        assert_eq!(number("n_parameters"), f64::from(2 + 12 + 6 + if diagonal { 6 } else { 1 }));

        let info = place.json(&format!("info {file}"));
        assert_eq!(info["weights"].as_array().unwrap().len(), 6);
        assert_eq!(info["centre"].as_array().unwrap().len(), 6);
        fs::write(place.path("told.json"), info.to_string()).unwrap();
        let again = place.json("fit x.csv --init told.json --max-iter 1 -o told.safetensors");
        let bound = again["lower_bound"].as_f64().unwrap();
        assert!((bound - number("lower_bound")).abs() < 0.01, "{options}: {again}");

        for (command, width) in [("transform", 2), ("reconstruct", 6), ("predict", 2)] {
            place.succeed(&format!("{command} {file} x.csv -o out.npy"));
            let (values, columns) = numbers(&place, "out.npy");
            assert_eq!((values.len(), columns), (200 * width, width), "{command}");
            let is_state = |v: &f64| *v < 1e-6 || *v > 1.0 - 1e-6;
            assert!(width == 6 || values.iter().all(is_state), "{command}");
        }
        place.succeed(&format!("reconstruct {file} x.csv -o out.npy"));
        let (values, _) = numbers(&place, "out.npy");
        assert!((values[0] - 0.0).abs() < 0.1 && (values[6] - 3.0).abs() < 0.1, "{values:?}");
        place.succeed(&format!("sample {file} -n 100 -o s.csv"));
        assert_eq!(numbers(&place, "s.csv").0.len(), 600);
        let check = place.json(&format!("check {file} x.csv"));
        assert!(check["gap"]["error"].as_f64().unwrap().abs() < 1e-7, "{check}");
        let text = place.succeed(&format!("info {file}"));
        assert!(text.contains("binary-sparse-coding, 2 latents"), "{text}");
        assert!(text.contains("noise variance: 0.00"), "{text}");
    }
}

#[test]
fn a_code_with_hidden_layers_is_fitted_to_points_that_lack_values_and_used() {
    let place = Place::new();
    let holes = |(i, line): (usize, &str)| {
        let cells = line.split(',').enumerate();
        let cells = cells.map(|(d, cell)| if (i + 2 * d) % 9 == 0 { "" } else { cell });
        cells.collect::<Vec<_>>().join(",") + "\n"
    };
    let text: String = causes(200).lines().enumerate().map(holes).collect();
    fs::write(place.path("x.csv"), text).unwrap();
    for file in ["m.json", "m.safetensors"] {
        let report = place.json(&format!(
            "fit x.csv --model binary-sparse-coding --latent 2 --states 4 --hidden 5 --missing ignore -o {file} \
             --plot-features w.png --image 3x2"
        ));
        assert_eq!(report["hidden_of_decoder"], serde_json::json!([5]));
        assert!(report["gap"].as_f64().unwrap().abs() < 1e-10, "{report}");
        assert_eq!(report["n_parameters"], 2 + 15 + 36 + 1);
        let info = place.succeed(&format!("info {file}"));
        assert!(info.contains("decoder: 2 - 5 - 6") && info.contains("effects"), "{info}");
        let score = place.json(&format!("score {file} x.csv --missing ignore"));
        let bound = report["lower_bound"].as_f64().unwrap();
        assert!((score["log_likelihood"].as_f64().unwrap() - bound).abs() < 0.01, "{score}");
        place.succeed(&format!("reconstruct {file} x.csv --missing ignore -o out.npy"));
        let (values, _) = numbers(&place, "out.npy");
        // The first value is missing; both causes are off in the first point, and the first is on in the second.
        assert!(values[0].abs() < 0.3 && (values[6] - 3.0).abs() < 0.3, "{:?}", &values[..12]);
        let again =
            place.json(&format!("fit x.csv --init {file} --missing ignore --max-iter 1 -o n.json"));
        assert!(again["lower_bound"].as_f64().unwrap() > bound - 0.01, "{again}");
    }
    assert_eq!(place.json("check m.json --draws 2")["fulfilled"], true);
    for (arguments, expected) in [
        ("score m.json x.csv", "missing"),
        ("fit x.csv --init m.json --missing ignore --hidden 3", "decoder of its own"),
        ("fit x.csv --model sbn --latent 2 --hidden 3", "--latent H,I"),
        ("fit x.csv --model sbn --latent 2 --missing ignore", "may not be missing"),
    ] {
        place.refuse(arguments, expected);
    }
}

#[test]
fn what_does_not_agree_is_refused_with_a_remedy() {
    let place = Place::new();
    fs::write(place.path("x.csv"), causes(20)).unwrap();
    place.succeed("fit x.csv --model binary-sparse-coding --latent 2 --max-iter 2 -o m.json");
    let fit = "fit x.csv --model binary-sparse-coding";
    for (arguments, expected) in [
        (fit, "give the number of latents with --latent H"),
        ("fit x.csv --model binary-sparse-coding --latent 2 --posterior exact", "--states of all"),
        ("fit x.csv --model binary-sparse-coding --latent 2 --ridge 1", "exact M-step without"),
        ("fit x.csv --model binary-sparse-coding --latent 2 --algorithm incremental", "stepwise"),
        ("fit x.csv --model sbn --latent 2 --noise scalar", "Use binary-sparse-coding"),
        ("fit x.csv --init m.json --noise diagonal", "noise of its own"),
        ("fit x.csv --model bsc --latent 2", "use '--model binary-sparse-coding'"),
    ] {
        place.refuse(arguments, expected);
    }
}
