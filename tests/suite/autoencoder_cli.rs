//! Variational autoencoders and sparse coding from the command line.
#![cfg(feature = "cli")]

use crate::common::place::Place;
use serde_json::Value;
use std::fs;

const FIT: &str = "fit DATA/iris.csv --model vae --latent 2 --hidden 8 --batch-size 30 --epochs 20 --learning-rate 0.01 -q";

#[test]
fn an_autoencoder_is_fitted_scored_and_used() {
    let place = Place::new();
    let report = place.json(&format!("{FIT} -o model.safetensors --history history.csv"));
    let number = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("{key}: {report}"));
    assert_eq!((report["model"].as_str(), report["n_latents"].as_u64()), (Some("vae"), Some(2)));
    assert!(number("gap").abs() < 1e-12);
    assert!((number("gap_prior") + number("gap_noise") - number("gap")).abs() < 1e-12);
    assert!(number("sampling_error") > 0.0 && number("active_latents") <= 2.0);
    assert_eq!(report["hidden_of_encoder"], serde_json::json!([8]));
    assert_eq!(number("n_parameters"), f64::from(2 * 8 + 8 + 8 * 4 + 4 + 1));
    assert!(number("standard_error") > 0.0);
    let history = fs::read_to_string(place.path("history.csv")).unwrap();
    let header = history.lines().next().unwrap();
    assert!(header.ends_with(",audit,gap_prior,gap_noise,sampling_error"), "{header}");
    let columns = header.split(',').count();
    assert!(history.lines().count() > 10);
    assert!(history.lines().all(|line| line.split(',').count() == columns));

    let bound = place.json("score model.safetensors DATA/iris.csv");
    let sampled = place.json("score model.safetensors DATA/iris.csv --samples 50");
    let value = |score: &Value| score["log_likelihood"].as_f64().unwrap();
    assert_eq!(bound["log_likelihood_is_lower_bound"], true);
    assert_eq!(
        (bound.get("importance_samples"), sampled["importance_samples"].as_u64()),
        (None, Some(50))
    );
    assert!(value(&sampled) > value(&bound), "{sampled} {bound}");
    let text = place.succeed("score model.safetensors DATA/iris.csv --samples 50");
    assert!(text.contains("mean of lower bounds from 50 importance samples"), "{text}");

    for (command, columns) in [
        ("transform model.safetensors DATA/iris.csv -o out.csv", 2),
        ("reconstruct model.safetensors DATA/iris.csv -o out.csv", 4),
        ("sample model.safetensors -n 150 -o out.csv", 4),
    ] {
        place.succeed(command);
        let table = fs::read_to_string(place.path("out.csv")).unwrap();
        let rows: Vec<&str> = table.lines().skip(1).collect();
        assert_eq!(rows.len(), 150, "{command}");
        for row in rows {
            let values: Vec<f64> = row.split(',').map(|it| it.parse().unwrap()).collect();
            assert!(values.len() == columns && values.iter().all(|v| v.is_finite()), "{command}");
        }
    }
    // Draws are about the means, and differ from each other; a pass gives the same again.
    place.succeed("transform model.safetensors DATA/iris.csv --samples 40 -o draws.csv");
    place.succeed("transform model.safetensors DATA/iris.csv --samples 40 -o again.csv");
    place.succeed("transform model.safetensors DATA/iris.csv -o means.csv");
    let read = |name: &str| fs::read_to_string(place.path(name)).unwrap();
    assert_eq!(read("draws.csv"), read("again.csv"));
    assert!(read("draws.csv").starts_with("z0_0,z1_0,z0_1,z1_1,"), "{}", read("draws.csv"));
    let rows = |name: &str| -> Vec<Vec<f64>> {
        let text = read(name);
        let numbers = |line: &str| line.split(',').map(|it| it.parse().unwrap()).collect();
        text.lines().skip(1).map(numbers).collect()
    };
    let (mut squares, mut spread) = (0.0, 0.0);
    for (draws, means) in rows("draws.csv").iter().zip(rows("means.csv")) {
        assert_eq!((draws.len(), means.len()), (80, 2));
        let mean = draws.iter().step_by(2).sum::<f64>() / 40.0;
        squares += (mean - means[0]).powi(2);
        spread += draws.iter().step_by(2).map(|z| (z - mean).powi(2)).sum::<f64>() / 39.0;
    }
    // The mean of 40 draws has a fortieth of their variance.
    assert!(spread > 0.0 && (squares / spread * 40.0 - 1.0).abs() < 0.5, "{squares} {spread}");
    let info = place.succeed("info model.safetensors");
    for expected in ["vae, 2 latents", "encoder: 4 - 8 - 4", "decoder: 2 - 8 - 4", "relu"] {
        assert!(info.contains(expected), "{expected}: {info}");
    }
    let check = place.json("check model.safetensors DATA/iris.csv");
    assert!(check["gap"]["error"].as_f64().unwrap().abs() < 1e-8, "{check}");
    // A fit goes on from the file.
    let more = place.json("fit DATA/iris.csv --init model.safetensors --epochs 2 -q");
    assert_eq!(more["n_parameters"], report["n_parameters"]);
}

#[test]
fn a_sparse_code_is_fitted_and_drawn() {
    let place = Place::new();
    let report = place.json(
        "fit DATA/digits.npy --model sparse-coding --latent 6 --hidden 20 --epochs 2 -q -o code.json --plot-features \
         code.png --image 8x8",
    );
    assert_eq!(report["model"], "sparse-coding");
    let drawn = "fit DATA/digits.npy --model vae --latent 2 --hidden 4 --epochs 1 -q --plot-features rows.png --image 8x8";
    place.succeed(drawn);
    let png = png::Decoder::new(std::io::Cursor::new(fs::read(place.path("rows.png")).unwrap()));
    // A row of seven tiles for each latent, each 48 pixels wide, and two between them.
    assert_eq!(png.read_info().unwrap().info().size(), (7 * 50 + 2, 2 * 50 + 2));
    assert_eq!(report["sampling_error"], 0.0);
    assert!(report["method"].as_str().unwrap().contains("nothing is sampled"));
    assert!(fs::metadata(place.path("code.png")).unwrap().len() > 100);
    let info = place.succeed("info code.json");
    assert!(info.contains("sparse-coding, 6 latents") && info.contains("laplace"), "{info}");
    assert!(info.contains("decoder: 6 - 64"), "{info}");
}

#[test]
fn a_fit_over_all_points_is_asked_for_by_batch() {
    let place = Place::new();
    let report = place.json(
        "fit DATA/iris.csv --model vae --latent 1 --decoder linear --hidden 0 --algorithm batch --max-iter 30 -q",
    );
    assert_eq!(report["iterations"], 30);
    assert!(report["log_likelihood"].as_f64().is_some());
    assert!(report.get("standard_error").is_none(), "{report}");
}

#[test]
fn what_does_not_agree_is_refused_with_a_remedy() {
    let place = Place::new();
    place.succeed(&format!("{FIT} -o model.json"));
    for (arguments, expected) in [
        ("fit DATA/iris.csv --model vae", "give the number of latents with --latent"),
        ("fit DATA/iris.csv --model vae --latent 2,3", "expected one number"),
        ("fit DATA/iris.csv --model ppca --latent 2 --hidden 3", "--hidden is no argument of ppca"),
        ("fit DATA/iris.csv --model vae --latent 2 -k 3", "--components is no argument of vae"),
        ("fit DATA/iris.csv --model sparse-coding --latent 2 --decoder mlp", "use --model vae"),
        ("fit DATA/iris.csv --model sparse-coding --latent 2 --prior learned", "use --model vae"),
        (
            "fit DATA/iris.csv --model vae --latent 2 --prior laplace --decoder linear",
            "use --model sparse-coding",
        ),
        ("fit DATA/iris.csv --model vae --latent 2 --average 0.5", "use --learning-rate"),
        ("fit DATA/iris.csv --model vae --latent 2 --learning-rate 0", "learning_rate is 0"),
        ("fit DATA/iris.csv --model vae --latent 2 --algorithm em", "stepwise or batch"),
        ("fit DATA/iris.csv --init model.json --latent 3", "2 latents"),
        ("fit DATA/iris.csv --init model.json --prior laplace", "networks of its own"),
        ("fit DATA/iris.csv --model autoencoder --latent 2", "for 'autoencoder' use '--model vae'"),
        ("predict model.json DATA/iris.csv -o out.csv", "without components"),
    ] {
        place.refuse(arguments, expected);
    }
    place.succeed("fit DATA/iris.csv -k 2 -q -o mixture.json");
    place.refuse("score mixture.json DATA/iris.csv --samples 5", "draw no samples");
    place.succeed("fit DATA/iris.csv --model ppca --latent 1 -q -o ppca.json");
    place.refuse("transform ppca.json DATA/iris.csv --samples 5 -o x.csv", "those of autoencoders");
}

#[test]
fn a_fit_goes_on_from_its_checkpoint() {
    let place = Place::new();
    let whole = place.json(&format!("{FIT} -o whole.json"));
    let kept = place.json(&format!("{FIT} --checkpoint state --checkpoint-every 0 -o kept.json"));
    assert_eq!(kept["lower_bound"], whole["lower_bound"]);
    let resumed = place.json(&format!("{FIT} --checkpoint state --resume -o resumed.json"));
    assert_eq!(resumed["lower_bound"], whole["lower_bound"]);
    let read = |name: &str| fs::read(place.path(name)).unwrap();
    assert!(read("whole.json") == read("kept.json") && read("whole.json") == read("resumed.json"));
    let other = format!("{} --checkpoint state --resume", FIT.replace("0.01", "0.02"));
    place.refuse(&other, "learning rate 0.01");
}

#[test]
fn missing_values_are_ignored_if_asked_and_filled_in() {
    let place = Place::new();
    let rows = (0..60).map(|i| {
        let t = f64::from(i) / 10.0;
        let gap = if i % 6 == 1 { String::new() } else { (2.0 * t).to_string() };
        format!("{t},{gap},{}\n", 1.0 - t)
    });
    fs::write(place.path("x.csv"), rows.collect::<String>()).unwrap();
    let fit = "fit x.csv --model vae --latent 1 --hidden 0 --algorithm batch --max-iter 400 --learning-rate 0.05 -q";
    place.refuse(fit, "missing");
    let report = place.json(&format!("{fit} --missing ignore -o model.json"));
    assert!(report["gap"].as_f64().unwrap().abs() < 1e-10, "{report}");
    place.refuse("score model.json x.csv", "missing");
    let score = place.json("score model.json x.csv --missing ignore");
    assert!(score["log_likelihood"].as_f64().unwrap().is_finite());
    place.succeed("reconstruct model.json x.csv --missing ignore -o filled.csv");
    let filled = fs::read_to_string(place.path("filled.csv")).unwrap();
    let row: Vec<f64> =
        filled.lines().nth(32).unwrap().split(',').map(|it| it.parse().unwrap()).collect();
    assert_eq!((row[0], row[2]), (3.1, 1.0 - 3.1));
    assert!((row[1] - 6.2).abs() < 1.0, "{row:?}");
}
