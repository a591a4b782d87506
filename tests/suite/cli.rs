//! The program from outside: what it prints, writes, refuses and leaves behind.
#![cfg(feature = "cli")]

use crate::common;

use entropysum::data::{self, OpenOptions};
use entropysum::expert::HISTORY_COLUMNS;
use entropysum::expert::rng;
use entropysum::family::registry;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A directory of its own, in which commands run.
struct Place(tempfile::TempDir);

struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With three clusters in `points.csv`.
    fn with_points() -> Self {
        let place = Self::new();
        place.write("points.csv", clusters(900));
        place
    }

    /// With these points and a model of them in `model.safetensors`.
    fn with_model() -> Self {
        let place = Self::with_points();
        place.succeed("fit points.csv -k 3 -o model.safetensors -q");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|fault| panic!("{name}: {fault}"))
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    /// Names of all files, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_entropysum"));
        command.current_dir(self.0.path()).args(arguments.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &str) -> Outcome {
        self.command(arguments).output().unwrap().into()
    }

    #[track_caller]
    fn succeed(&self, arguments: &str) -> Outcome {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, Some(0), "{arguments}: {}", outcome.stderr);
        outcome
    }

    #[track_caller]
    fn json(&self, arguments: &str) -> Value {
        let outcome = self.succeed(&format!("{arguments} --json"));
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {}", outcome.stdout))
    }

    /// All numbers of a file of points, row-major, and their dimension.
    fn numbers(&self, name: &str) -> (Vec<f64>, usize) {
        let source = data::open::<f64>(self.path(name), &OpenOptions::default()).unwrap();
        let points = data::load(&*source).unwrap();
        let rows = points.view().row_iter();
        (rows.flat_map(|row| row.iter().copied().collect::<Vec<_>>()).collect(), source.dim())
    }
}

/// Uniform numbers in [0, 1).
fn uniform(n: usize) -> impl Iterator<Item = f64> {
    let mut rng = rng::stream(12345, 0);
    (0..n).map(move |_| rng::uniform(&mut rng))
}

/// Three clusters on a line, point `i` in cluster `i % 3`.
fn clusters(n: usize) -> String {
    let values: Vec<f64> = uniform(2 * n).collect();
    let row = |(i, xy): (usize, &[f64])| {
        let shift = 10.0 * (i % 3) as f64;
        format!("{},{}\n", shift + xy[0] + xy[1], xy[1] - shift)
    };
    "x,y\n".to_owned() + &values.chunks(2).enumerate().map(row).collect::<String>()
}

/// Points without any structure, as raw `f32` of 4 dimensions: many components take long to settle in them.
fn noise(n: usize) -> Vec<u8> {
    uniform(4 * n).flat_map(|value| (value as f32).to_le_bytes()).collect()
}

#[track_caller]
fn close(found: &Value, expected: &Value) {
    close_to(found, expected, 1e-9);
}

/// Compares numbers, or arrays of them.
#[track_caller]
fn close_to(found: &Value, expected: &Value, tolerance: f64) {
    let (found, expected) = (common::numbers(found), common::numbers(expected));
    common::assert_all_close(&found, &expected, tolerance, "number");
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn fit_prints_one_json_object_with_all_keys() {
    let place = Place::with_points();
    let report = place.json("fit points.csv -k 3 --threads 2 --seed 7");
    let expected = "model n_points dim n_components iterations converged stop_reason monitor entropy_sum \
        lower_bound gap log_likelihood bic aic icl n_parameters entropy_contributions weights seconds \
        seconds_per_iteration points_per_second whitened_share seconds_total peak_memory_bytes threads precision posterior \
        seed columns warnings";
    assert_eq!(keys(&report), expected.split_whitespace().collect::<Vec<_>>());
    let sum = &report["entropy_sum"];
    assert_eq!(keys(sum), ["total", "posterior", "prior", "observable", "base_measure"]);
    let term = |name: &str| sum[name].as_f64().unwrap();
    let total = term("posterior") - term("prior") - term("observable") + term("base_measure");
    assert!((term("total") - total).abs() < 1e-12);

    for (key, value) in [
        ("model", "gaussian-full"),
        ("stop_reason", "converged"),
        ("monitor", "entropy-sum"),
        ("precision", "f64"),
        ("posterior", "exact"),
    ] {
        assert_eq!(report[key], value, "{key}");
    }
    for (key, value) in [
        ("n_points", 900),
        ("dim", 2),
        ("n_components", 3),
        ("n_parameters", 17),
        ("seed", 7),
        ("threads", 2),
    ] {
        assert_eq!(report[key], value, "{key}");
    }
    assert_eq!(report["converged"], true);
    assert!(report["gap"].as_f64().unwrap().abs() < 1e-9);
    assert_eq!(report["warnings"], Value::Array(vec![]));
    let numbers = |key: &str| -> Vec<f64> {
        report[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    };
    assert!((numbers("weights").iter().sum::<f64>() - 1.0).abs() < 1e-12);
    let contributions: f64 = numbers("entropy_contributions").iter().sum();
    assert!((contributions - term("prior") - term("observable")).abs() < 1e-9);
    let seconds = report["seconds"].as_f64().unwrap();
    let iterations = report["iterations"].as_f64().unwrap();
    assert!(
        (report["seconds_per_iteration"].as_f64().unwrap() * iterations - seconds).abs() < 1e-9
    );
    if cfg!(target_os = "linux") {
        assert!(report["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
    }
}

#[test]
fn fit_prints_a_summary_for_people() {
    let place = Place::with_points();
    let outcome = place.succeed("fit points.csv -k 3");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    for (line, start) in lines.iter().zip([
        "model           gaussian-full, 3 components",
        "points          900 of dimension 2",
        "iterations      ",
        "entropy sum     -",
        "log-likelihood  -",
        "BIC             ",
        "time            ",
        "",
        "component    weight   entropy part  means",
    ]) {
        assert!(line.starts_with(start), "{line:?} does not start with {start:?}");
    }
    let weights: Vec<f64> = lines[9..12]
        .iter()
        .map(|l| l.split_whitespace().nth(1).unwrap().parse().unwrap())
        .collect();
    assert!(lines[13].starts_with("column  used as") && lines.len() == 16, "{}", outcome.stdout);
    assert!(weights.is_sorted_by(|a, b| a >= b), "{weights:?}");
    assert_eq!(outcome.stderr, "", "no progress where there is no terminal");
    let stopped = place.succeed("fit points.csv -k 3 --max-iter 1 --tol 0").stdout;
    assert!(stopped.contains("not converged: stopped by --max-iter"), "{stopped}");
    let stopped = place.json("fit points.csv -k 3 --max-seconds 0 --tol 0");
    assert_eq!(
        (&stopped["stop_reason"], &stopped["iterations"]),
        (&"max_seconds".into(), &1.into())
    );
}

#[test]
fn labels_and_posteriors_agree_in_all_formats() {
    let place = Place::with_model();
    for arguments in ["-o l.npy", "-o l.csv", "-o p.npy --proba", "-o p.csv --proba"] {
        place.succeed(&format!("predict model.safetensors points.csv {arguments}"));
    }
    assert!(place.text("l.csv").starts_with("label\n"));
    assert!(place.text("p.csv").starts_with("p0,p1,p2\n"));
    let (labels, width) = place.numbers("l.npy");
    assert_eq!((labels.len(), width), (900, 1));
    assert!(String::from_utf8_lossy(&place.read("l.npy")).contains("'<i8'"));
    assert!(String::from_utf8_lossy(&place.read("l.npy")).contains("(900,)"));
    assert_eq!(labels, place.numbers("l.csv").0);
    // Each cluster has a component of its own.
    assert!((0..900).all(|i| labels[i] == labels[i % 3]));
    assert!(labels[0] != labels[1] && labels[1] != labels[2] && labels[0] != labels[2]);

    let (posteriors, width) = place.numbers("p.npy");
    assert_eq!(width, 3);
    assert_eq!(posteriors, place.numbers("p.csv").0);
    for (row, label) in posteriors.chunks(3).zip(&labels) {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let best = (0..3).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        assert_eq!(best as f64, *label);
    }
}

#[test]
fn score_agrees_with_fit_and_with_its_own_densities() {
    let place = Place::with_points();
    let weights: String = uniform(900).map(|u| format!("{}\n", 1.0 + u)).collect();
    place.write("weights.txt", &weights);
    // In `f32` a model that was read may be packed about another centre than that of its fit.
    for (precision, tolerance) in [("f32", 1e-4), ("f64", 1e-9)] {
        for weighted in ["", "--weights weights.txt"] {
            let options = format!("--precision {precision} {weighted}");
            let fit = place.json(&format!("fit points.csv -k 3 -o m.json {options}"));
            let score = place.json(&format!("score m.json points.csv -o d.npy {options}"));
            let expected = "n_points total_weight log_likelihood bic aic icl n_parameters";
            assert_eq!(keys(&score), expected.split_whitespace().collect::<Vec<_>>());
            for key in ["n_points", "log_likelihood", "bic", "aic", "icl", "n_parameters"] {
                close_to(&score[key], &fit[key], tolerance);
            }
            let weights: Vec<f64> = match weighted {
                "" => vec![1.0; 900],
                _ => weights.lines().map(|line| line.parse().unwrap()).collect(),
            };
            let total: f64 = weights.iter().sum();
            close(&score["total_weight"], &total.into());
            let (densities, width) = place.numbers("d.npy");
            assert_eq!((densities.len(), width), (900, 1));
            let mean = densities.iter().zip(weights).map(|(d, w)| d * w).sum::<f64>() / total;
            close(&score["log_likelihood"], &mean.into());
        }
    }
    let text = place.succeed("score m.json points.csv -o d.csv").stdout;
    assert!(text.contains("points          900\nlog-likelihood  -"), "{text}");
    assert!(place.text("d.csv").starts_with("log_density\n-"));
}

#[test]
fn samples_come_from_the_model_and_from_the_seed() {
    let place = Place::with_model();
    let sample = |n: usize, rest: &str| {
        place.succeed(&format!("sample model.safetensors -n {n} {rest}"));
    };
    sample(70_000, "-o a.npy --labels al.npy --seed 3 --threads 1");
    sample(70_000, "-o b.npy --labels bl.npy --seed 3 --threads 7");
    sample(70_000, "-o c.npy --labels cl.npy --seed 4");
    sample(5, "-o d.csv --labels dl.csv --seed 3");
    assert_eq!(place.read("a.npy"), place.read("b.npy"));
    assert_eq!(place.read("al.npy"), place.read("bl.npy"));
    assert_ne!(place.read("a.npy"), place.read("c.npy"));
    let ((a, dim), (labels, _)) = (place.numbers("a.npy"), place.numbers("al.npy"));
    assert_eq!((a.len(), dim, labels.len()), (140_000, 2, 70_000));
    assert!(
        place.text("d.csv").starts_with("x,y\n") && place.text("dl.csv").starts_with("label\n")
    );
    assert_eq!(
        place.numbers("d.csv").0,
        &a[..10],
        "a shorter sample is the beginning of a longer one"
    );
    assert_eq!(place.numbers("dl.csv").0, &labels[..5]);
    // The clusters are far apart, so labels of points are those that drew them.
    place.succeed("predict model.safetensors a.npy -o predicted.npy");
    assert_eq!(place.read("predicted.npy"), place.read("al.npy"));
    let score = |name: &str| {
        place.json(&format!("score model.safetensors {name}"))["log_likelihood"].as_f64()
    };
    assert!((score("a.npy").unwrap() - score("c.npy").unwrap()).abs() < 0.05);
}

#[test]
fn the_history_is_the_fit() {
    let place = Place::with_points();
    for monitor in ["entropy-sum", "log-likelihood", "lower-bound", "delta"] {
        let report = place
            .json(&format!("fit points.csv -k 4 --monitor {monitor} --history h.csv --plot h.svg"));
        let text = place.text("h.csv");
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().unwrap().split(',').collect();
        assert_eq!(header, HISTORY_COLUMNS);
        let last: Vec<f64> =
            lines.next_back().unwrap().split(',').map(|v| v.parse().unwrap()).collect();
        assert_eq!(text.lines().count() as u64 - 1, report["iterations"].as_u64().unwrap());
        let column = |name| last[header.iter().position(|it| *it == name).unwrap()];
        assert_eq!(column("entropy_sum"), report["entropy_sum"]["total"].as_f64().unwrap());
        let terms = column("posterior_entropy")
            - column("prior_entropy")
            - column("hidden_entropy")
            - column("observable_entropy")
            + column("base_measure");
        assert!((column("entropy_sum") - terms).abs() < 1e-12);
        assert_eq!(column("lower_bound"), report["lower_bound"].as_f64().unwrap());
        assert_eq!(report["monitor"], monitor);
        assert!(column("change").abs() <= 1e-5, "{monitor}");
        assert!(place.text("h.svg").contains("<svg"));
    }
}

#[test]
fn a_fit_goes_on_from_any_file_of_the_model() {
    let place = Place::with_points();
    let first =
        place.json("fit points.csv --model gaussian-diag -k 4 --max-iter 3 -o m.safetensors");
    let info = place.succeed("info m.safetensors --json").stdout;
    place.write("m.json", &info);
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["n_parameters"], first["n_parameters"]);
    close(&info["entropy_contributions"], &first["entropy_contributions"]);
    close(&info["weights"], &first["weights"]);
    assert_eq!(place.succeed("info m.json --json").stdout, place.text("m.json"), "nothing is lost");

    let one = place.json("fit points.csv --init m.json --max-iter 1 -o n.safetensors");
    assert_eq!((&one["model"], &one["n_components"]), (&"gaussian-diag".into(), &4.into()));
    // The M-step gains on the bound that the E-step makes equal to the log-likelihood.
    let value = |report: &Value| report["entropy_sum"]["total"].as_f64().unwrap();
    assert!(value(&one) >= value(&first) - 1e-9, "{} {}", value(&one), value(&first));
    assert!(value(&one) >= first["log_likelihood"].as_f64().unwrap() - 1e-9);
    let same = place.json("fit points.csv --init m.safetensors --max-iter 1 -o k.safetensors -k 4 --model gaussian-diag");
    assert_eq!(value(&one), value(&same));
    assert_eq!(place.read("n.safetensors"), place.read("k.safetensors"));
    // A model may be replaced by what becomes of it.
    place.succeed("fit points.csv --init k.safetensors -o k.safetensors");

    place.succeed("fit points.csv -k 3 --posterior hard -o hard.json");
    assert_eq!(place.json("fit points.csv --init hard.json")["posterior"], "hard");
    assert_eq!(
        place.json("fit points.csv --init hard.json --posterior exact")["posterior"],
        "exact"
    );
}

#[test]
fn select_keeps_the_best_of_several_sizes() {
    let place = Place::with_points();
    let command = "select points.csv --components 1..4,5 --history h.csv --plot s.svg";
    let report = place.json(&format!("{command} -o best.json"));
    assert_eq!(
        keys(&report),
        ["model", "n_points", "dim", "n_held_out", "criterion", "candidates", "best"]
    );
    let candidates = report["candidates"].as_array().unwrap();
    let column = |key: &str| -> Vec<f64> {
        candidates.iter().map(|row| row[key].as_f64().unwrap()).collect()
    };
    assert_eq!(column("components"), [1.0, 2.0, 3.0, 4.0, 5.0]);
    let bic = column("bic");
    assert!(bic[2] < bic[0] - 100.0 && bic[2] < bic[1] - 100.0, "three clusters: {bic:?}");
    let lowest = (0..5).min_by(|&a, &b| bic[a].total_cmp(&bic[b])).unwrap();
    let (best, k) = (&report["best"], lowest + 1);
    let alone = place.json(&format!("fit points.csv -k {k}"));
    assert_eq!((&best["n_components"], &report["criterion"]), (&k.into(), &"bic".into()));
    for key in ["bic", "aic", "icl", "log_likelihood", "n_parameters", "iterations"] {
        assert_eq!(best[key], alone[key], "{key}");
        assert_eq!(candidates[lowest][key], alone[key], "{key}");
    }
    assert_eq!(candidates[lowest]["entropy_sum"], alone["entropy_sum"]["total"]);
    place.succeed(&format!("fit points.csv -k {k} -o alone.json -q"));
    assert_eq!(place.text("best.json"), place.text("alone.json"));
    assert_eq!(
        place.text("h.csv").lines().count() as u64 - 1,
        best["iterations"].as_u64().unwrap()
    );
    assert!(place.text("s.svg").contains("icl"));

    // The same on one thread, where candidates run one after the other.
    let single = place.json(&format!("{command} --threads 1"));
    for (a, b) in candidates.iter().zip(single["candidates"].as_array().unwrap()) {
        assert_eq!((&a["bic"], &a["entropy_sum"]), (&b["bic"], &b["entropy_sum"]));
    }
    let text = place.succeed(&format!("{command} --criterion aic")).stdout;
    assert!(text.starts_with("components  parameters  log-likelihood   entropy sum"), "{text}");
    assert_eq!(text.lines().filter(|line| line.ends_with("best aic")).count(), 1, "{text}");

    let wine = concat!(env!("CARGO_MANIFEST_DIR"), "/data/wine.csv");
    let report = place.json(&format!("select {wine} --model ppca --latent 1..3"));
    let latents: Vec<_> =
        report["candidates"].as_array().unwrap().iter().map(|it| &it["latent"]).collect();
    assert_eq!(latents, [1, 2, 3]);
    assert_eq!(report["best"]["model"], "ppca");
}

#[test]
fn check_tells_whether_a_bound_becomes_an_entropy_sum() {
    let place = Place::with_model();
    let report = place.json("check gaussian-tied -k 4 --dim 2");
    let expected = "model fulfilled applies base_measure_constant factors tolerance draws gap";
    assert_eq!(keys(&report), expected.split_whitespace().collect::<Vec<_>>());
    assert_eq!((&report["fulfilled"], &report["applies"]), (&true.into(), &"Definition 1".into()));
    assert_eq!(report["factors"][1]["moves"], serde_json::json!(["covariances"]));
    assert_eq!((&report["draws"], &report["gap"]), (&16.into(), &Value::Null));
    let text = place.succeed("check gaussian-fixed-variance").stdout;
    assert!(text.contains("criterion       not fulfilled"), "{text}");

    // A model of its own points, hardly converged, and of other points.
    place.succeed("fit points.csv -k 3 --max-iter 1 --init random -o early.json -q");
    let early = place.json("check early.json points.csv");
    assert_eq!(
        (&early["model"], &early["applies"]),
        (&"gaussian-full".into(), &"Proposition 4".into())
    );
    let gap = |report: &Value, key: &str| report["gap"][key].as_f64().unwrap();
    assert!(gap(&early, "error").abs() < 1e-10);
    close(&early["gap"]["gap"], &(gap(&early, "prior") + gap(&early, "observable")).into());
    let score = place.json("score early.json points.csv");
    close(&early["gap"]["lower_bound"], &score["log_likelihood"]);
    let wide: String = uniform(200).map(|u| format!("{},{}\n", 90.0 * u, -30.0 * u)).collect();
    place.write("wide.csv", wide);
    assert!(gap(&place.json("check model.safetensors wide.csv"), "gap") < -1.0, "far too sharp");
    let text = place.succeed("check model.safetensors points.csv").stdout;
    assert!(text.contains("\ngap             ") && text.contains("(observable)"), "{text}");
}

#[test]
fn results_depend_on_the_seed_alone() {
    let place = Place::new();
    place.write("noise.f32", noise(20_000));
    let fit = |name: &str, options: &str| {
        place.succeed(&format!(
            "fit noise.f32 --dtype f32 --dim 4 -k 6 --max-iter 8 --init random-from-data --n-init 2 \
             -o {name}.safetensors --history {name}.csv {options}"
        ));
        let without_seconds = |line: &str| {
            let cells: Vec<&str> = line.split(',').collect();
            [&cells[..1], &cells[2..]].concat().join(",")
        };
        let history: Vec<String> =
            place.text(&format!("{name}.csv")).lines().map(without_seconds).collect();
        (place.read(&format!("{name}.safetensors")), history)
    };
    let first = fit("a", "--seed 5 --threads 1");
    assert_eq!(first.1.len(), 9);
    assert!(!first.1[0].contains("seconds"));
    assert!(first == fit("b", "--seed 5 --threads 2"));
    assert!(first == fit("c", "--seed 5 --threads 7"));
    assert!(first != fit("d", "--seed 6 --threads 1"));
}

#[test]
fn points_come_with_weights_or_without_a_header() {
    let place = Place::new();
    // A point of weight 2 counts as two points.
    place.write("weighted.csv", "x,w\n0,2\n1,1\n2,1\n10,1\n11,2\n12,1\n");
    place.write("twice.csv", "x\n0\n0\n1\n2\n10\n11\n11\n12\n");
    place.write("plain.csv", "x\n0\n1\n2\n10\n11\n12\n");
    let bytes: Vec<u8> =
        [0f32, 1.0, 2.0, 10.0, 11.0, 12.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    place.write("plain.data", bytes);
    place.write("w.csv", "2\n1\n1\n1\n2\n1\n");
    let value = |arguments: &str| {
        place.json(&format!("fit {arguments} -k 2 --model gaussian-diag"))["log_likelihood"].clone()
    };
    let expected = value("twice.csv");
    assert_ne!(expected, value("plain.csv"));
    close(&value("weighted.csv --weights-column w"), &expected);
    close(&value("weighted.csv --weights-column 1"), &expected);
    close(&value("plain.csv --weights w.csv"), &expected);
    close(&value("plain.data --dtype f32 --dim 1 --weights w.csv"), &expected);
    assert_eq!(value("plain.data --dtype f32 --dim 1"), value("plain.csv"));

    place.succeed("fit plain.csv -k 2 -o m.json");
    place.succeed("predict m.json plain.data --dtype f32 --dim 1 -o a.csv");
    place.succeed("predict m.json weighted.csv --weights-column w -o b.csv");
    assert_eq!(place.text("a.csv"), place.text("b.csv"));
    let score = place.json("score m.json weighted.csv --weights-column w");
    assert_eq!((&score["n_points"], &score["total_weight"]), (&6.into(), &8.0.into()));
}

/// Flowers in four dimensions, of three kinds.
fn iris() -> Vec<u8> {
    fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/data/iris.csv")).unwrap()
}

#[test]
fn mixtures_of_factor_analysers_are_fitted_saved_and_used() {
    let place = Place::new();
    place.write("iris.csv", iris());
    for (model, algorithm) in [("mfa", "px-em"), ("mppca", "em")] {
        let fit = place.json(&format!(
            "fit iris.csv --model {model} -k 3 --latent 1 --algorithm {algorithm} --tol 1e-10 --max-iter 3000 -o m.json"
        ));
        assert_eq!(fit["model"], model);
        assert_eq!(fit["n_components"], 3);
        assert_eq!(fit["n_latents"], 1);
        // Ordinary EM closes its gap in the limit only.
        close_to(&fit["entropy_sum"]["total"], &fit["log_likelihood"], 1e-6);

        let info = place.json("info m.json");
        let shape = |name: &str| -> Vec<usize> {
            let mut value = &info[name];
            let mut shape = Vec::new();
            while let Some(array) = value.as_array() {
                shape.push(array.len());
                value = &array[0];
            }
            shape
        };
        assert_eq!(shape("weights"), [3]);
        assert_eq!(shape("means"), [3, 4]);
        assert_eq!(shape("loadings"), [3, 4, 1]);
        assert_eq!(shape("noise_variances"), [3, 4]);
        place.write("info.json", info.to_string());
        let score = place.json("score info.json iris.csv");
        close(&score["log_likelihood"], &fit["log_likelihood"]);

        place.succeed("transform m.json iris.csv -o z.npy");
        assert_eq!(place.numbers("z.npy").1, 1);
        place.succeed("reconstruct m.json iris.csv -o x.npy");
        let ((flowers, dim), (rebuilt, width)) =
            (place.numbers("iris.csv"), place.numbers("x.npy"));
        assert_eq!((dim, width), (4, 4));
        let error = flowers.iter().zip(&rebuilt).map(|(x, y)| (x - y).powi(2)).sum::<f64>()
            / flowers.len() as f64;
        assert!(error < 0.1, "{error}");
        place.succeed("predict m.json iris.csv -o labels.csv");
        place.succeed("sample m.json -n 20 -o drawn.npy");
        assert_eq!(place.numbers("drawn.npy").1, 4);

        let again = place.json("fit iris.csv --init m.json --max-iter 1");
        close(&again["log_likelihood"], &fit["log_likelihood"]);
        assert!(place.succeed("info m.json").stdout.contains("1 latent"));
    }
    for (arguments, says) in [
        ("--model mfa -k 2", "--latent"),
        ("--model mfa -k 2 --latent 1,2", "--latent"),
        ("--model mfa --latent 1", "-k"),
        ("--model mfa -k 2 --latent 4", "from 1 to 3"),
        ("--model mfa -k 2 --latent 1 --posterior hard", "--posterior"),
        ("--model mppca -k 2 --latent 1 --algorithm closed-form", "px-em or em"),
        ("--init m.json --latent 2", "1 latent"),
        ("--init m.json -k 2", "3 component"),
        ("--init m.json --model mfa", "mppca"),
    ] {
        let outcome = place.run(&format!("fit iris.csv {arguments}"));
        assert_eq!(outcome.code, Some(1), "{arguments}");
        assert!(outcome.stderr.contains(says), "{arguments}: {}", outcome.stderr);
    }
}

#[test]
fn warnings_are_told_unless_quiet() {
    let place = Place::new();
    place.write("few.csv", "1\n2\n2\n1\n");
    let told = place.succeed("fit few.csv -k 3");
    assert!(told.stderr.contains("warning: 2 of 3 components placed"), "{}", told.stderr);
    let quiet = place.succeed("fit few.csv -k 3 --quiet");
    assert_eq!(quiet.stderr, "");
    assert!(quiet.stdout.starts_with("model           gaussian-full, 2 components\n"));
    let report = place.json("fit few.csv -k 3 -q");
    assert_eq!(report["n_components"], 2);
    assert!(report["warnings"][0].as_str().unwrap().contains("2 of 3"));
}

/// Two causes of six pixels, on in half of the points each.
fn pictures(n: usize) -> String {
    let values: Vec<f64> = uniform(8 * n).collect();
    let row = |draws: &[f64]| {
        let on = |d: usize| draws[6 + d / 3] < 0.5;
        let pixel = |d: usize| if (draws[d] < 0.9) == on(d) { "1" } else { "0" };
        (0..6).map(pixel).collect::<Vec<_>>().join(",") + "\n"
    };
    values.chunks(8).map(row).collect()
}

#[test]
fn belief_networks_are_fitted_saved_used_and_drawn() {
    let place = Place::new();
    place.write("x.csv", pictures(400));
    for (name, latent, options, n_latents) in [
        ("sbn", "2", "", 2),
        ("sbn", "3", "--posterior truncated --states 4", 3),
        ("sbn", "2", "--posterior exact --ridge 1e-3", 2),
        ("sbn3", "1,2", "", 3),
        ("sbn3", "1,2", "--posterior truncated", 3),
    ] {
        let report = place.json(&format!(
            "fit x.csv --model {name} --latent {latent} {options} -o m.json --tol 1e-7 --max-iter 500 --plot-features w.png --image 3x2"
        ));
        assert_eq!(report["model"], name);
        assert!(place.read("w.png").starts_with(b"\x89PNG"));
        let gap = report["gap"].as_f64().unwrap();
        let limit = if options.contains("truncated") { 1e-3 } else { 1e-9 };
        if options.contains("ridge") {
            assert!(gap > 1e-3, "the ridge leaves λ|W|²: {gap}");
        } else {
            assert!(gap.abs() < limit, "{name} {options}: {gap}");
        }
        let terms = &report["entropy_sum"];
        assert_eq!(terms.get("hidden").is_some(), name == "sbn3");
        let term = |key: &str| terms.get(key).map_or(0.0, |v| v.as_f64().unwrap());
        let total = term("posterior") - term("prior") - term("hidden") - term("observable");
        assert!((term("total") - total).abs() < 1e-12);
        let bound = report.get("log_likelihood_is_lower_bound").is_some();
        assert_eq!(bound, options.contains("truncated"));

        let info = place.json("info m.json");
        assert_eq!(
            info["prior"].as_array().unwrap().len(),
            if name == "sbn3" { 1 } else { n_latents }
        );
        assert_eq!(info["weights"].as_array().unwrap().len(), 6);
        assert_eq!(info["biases"].as_array().unwrap().len(), 6);
        assert_eq!(info.get("hidden_weights").is_some(), name == "sbn3");
        // What is told of a model is a model, and goes on where it stood.
        place.write("told.json", info.to_string());
        let ridge = if options.contains("ridge") { "--ridge 1e-3" } else { "" };
        let again = place
            .json(&format!("fit x.csv --init told.json {ridge} --max-iter 1 -o m.safetensors"));
        let found = again["log_likelihood"].as_f64().unwrap();
        assert!((found - report["log_likelihood"].as_f64().unwrap()).abs() < 1e-3);

        for (command, width) in
            [("transform", n_latents), ("reconstruct", 6), ("predict", n_latents)]
        {
            place.succeed(&format!("{command} m.safetensors x.csv -o out.npy"));
            let (values, columns) = place.numbers("out.npy");
            assert_eq!((values.len(), columns), (400 * width, width), "{command}");
            assert!(values.iter().all(|v| (0.0..=1.0).contains(v)), "{command}");
        }
        place.succeed("score m.safetensors x.csv -o out.npy");
        assert_eq!(place.numbers("out.npy").0.len(), 400);
        place.succeed("sample m.safetensors -n 100 -o s.csv");
        assert!(place.numbers("s.csv").0.iter().all(|v| *v == 0.0 || *v == 1.0));
        place.succeed("check m.safetensors x.csv");
    }
}

#[test]
fn belief_networks_refuse_what_they_cannot_do() {
    let place = Place::new();
    place.write("x.csv", pictures(20));
    place.write("counts.csv", "0,1\n1,2\n");
    place.succeed("fit x.csv --model sbn --latent 2 --max-iter 1 -o exact.json");
    let exact = String::from_utf8(place.read("exact.json")).unwrap();
    place.write("mean_field.json", exact.replace("\"exact\"", "\"mean-field\""));
    for (arguments, message) in [
        ("fit x.csv --model sbn", "give the number of latents with --latent H"),
        ("fit x.csv --model sbn --latent 2,3", "give the number of latents with --latent H"),
        ("fit x.csv --model sbn3 --latent 2", "--latent H,I, the top layer first"),
        ("fit x.csv --model sbn --latent 40", "use --posterior truncated"),
        ("fit x.csv --model sbn3 --latent 9,9 --posterior exact", "use --posterior truncated"),
        ("fit x.csv --model sbn --latent 2 --posterior hard", "expected exact or truncated"),
        ("fit x.csv --model sbn --latent 2 --states 4", "--states is for truncated posteriors"),
        ("fit x.csv --model sbn --latent 2 -k 3", "--components is no argument of sbn"),
        ("fit x.csv -k 2 --states 4", "--states is for truncated posteriors"),
        (
            "fit x.csv -k 2 --posterior hard --neighbours 4",
            "--neighbours is for truncated posteriors",
        ),
        (
            "fit x.csv --model sbn --latent 2 --plot-features w.png --image 2x2",
            "points of 6 dimension(s)",
        ),
        (
            "fit counts.csv --model sbn --latent 2",
            "row 1, column 1: the value is 2, expected 0 or 1",
        ),
        ("info mean_field.json", "the posterior is \"mean-field\", expected exact or truncated"),
    ] {
        let outcome = place.run(arguments);
        assert_ne!(outcome.code, Some(0), "{arguments}");
        assert!(outcome.stderr.contains(message), "{arguments}: {}", outcome.stderr);
        assert!(!place.path("w.png").exists());
    }
}

#[test]
fn help_names_every_command_and_every_family() {
    let place = Place::new();
    let help = place.succeed("--help").stdout;
    for command in
        ["fit", "predict", "transform", "reconstruct", "score", "sample", "info", "check"]
    {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
        let own = place.succeed(&format!("{command} --help")).stdout;
        assert!(own.contains(&format!("Example:\n  entropysum {command} ")), "{own}");
    }
    let fit = place.succeed("fit --help").stdout;
    assert!(fit.contains("[default: 200]") && fit.contains("[default: 1e-5]"), "{fit}");
    let wrong = place.run("fit points.csv --model gaussian-diagonal").stderr;
    for name in registry::names() {
        assert!(fit.contains(name) && wrong.contains(name), "{name}: {wrong}");
    }
    let version = format!("entropysum {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(place.succeed("--version").stdout, version);
}

#[test]
fn mistakes_are_named_and_leave_nothing_behind() {
    let place = Place::with_model();
    place.write("wide.csv", "3,2,1\n4,5,6\n");
    place.write("hole.csv", "1,2\n3,nan\n5,6\n");
    place.write("ragged.csv", "1,2\n3\n");
    place.write("words.csv", "1,2\nthree,4\n");
    place.write("empty.csv", "");
    place.write("raw.bin", [0u8; 24]);
    place.write("no.json", "{\"model\": \"gaussian-full\"}");
    place.write("text.npy", "not an array");
    fs::create_dir(place.path("folder")).unwrap();
    let before = place.names();
    let fit = "fit points.csv -k 3";
    let predict = "predict model.safetensors points.csv";
    for (code, arguments, expected) in [
        // What clap finds.
        (2, "", "Usage: entropysum"),
        (2, "fit", "<DATA>"),
        (2, "fitt points.csv", "unrecognized subcommand 'fitt'"),
        (
            2,
            "fit points.csv -k 0",
            "invalid value '0' for '--components <K>': expected a whole number of at least 1",
        ),
        (2, "fit points.csv -k -1", "invalid value '-1'"),
        (2, "fit points.csv -k 2.5", "expected a whole number"),
        (
            2,
            &format!("{fit} --threads 0"),
            "invalid value '0' for '--threads <T>': expected a whole number from 1 to 1024",
        ),
        (2, &format!("{fit} --threads 100000"), "from 1 to 1024"),
        (2, &format!("{fit} --max-iter 0"), "at least 1"),
        (2, &format!("{fit} --n-init 0"), "at least 1"),
        (
            2,
            &format!("{fit} --tol -1"),
            "invalid value '-1' for '--tol <TOL>': expected a number of at least 0",
        ),
        (2, &format!("{fit} --rtol nan"), "at least 0"),
        (2, &format!("{fit} --reg-covar inf"), "at least 0"),
        (2, &format!("{fit} --max-seconds 1e300"), "leave it out"),
        (2, &format!("{fit} --seed -1"), "'--seed <S>'"),
        (2, &format!("{fit} --model kmeans"), "possible values: gaussian-full"),
        (
            2,
            &format!("{fit} --model kmeans"),
            "tip: for 'kmeans' use '--model gaussian-tied-spherical --posterior hard'",
        ),
        (2, &format!("{fit} --model GMM"), "tip: for 'GMM' use '--model gaussian-full'"),
        (2, &format!("{fit} --model poison"), "tip: a similar value exists: 'poisson'"),
        (2, &format!("{fit} --monitor loss"), "possible values: entropy-sum"),
        (2, &format!("{fit} --posterior soft"), "possible values: auto, exact, hard"),
        (2, &format!("{fit} --precision f16"), "possible values: f32, f64"),
        (2, &format!("{fit} --dtype f32"), "--dim <D>"),
        (2, &format!("{fit} --dtype f99 --dim 2"), "f99"),
        (2, &format!("{fit} --weights a --weights-column b"), "cannot be used with"),
        (2, "predict model.safetensors points.csv", "--output <FILE>"),
        (2, "sample model.safetensors -n 0 -o s.npy", "at least 1"),
        // What is wrong with outputs, before any work.
        (
            1,
            &format!("{fit} -o m.txt"),
            "m.txt: the name of this output must end in .safetensors or .json",
        ),
        (1, &format!("{fit} -o m"), "m: the name of this output must end in"),
        (1, &format!("{fit} --history h.npy"), "h.npy: the name of this output must end in .csv"),
        (
            1,
            &format!("{fit} --plot h.pdf"),
            "h.pdf: the name of this output must end in .svg or .png",
        ),
        (1, &format!("{fit} -o nowhere/m.json"), "there is no directory nowhere"),
        (1, &format!("{fit} -o folder"), "folder: the path is a directory"),
        (
            1,
            &format!("{fit} --history points.csv"),
            "points.csv: this output file is also an input",
        ),
        (1, &format!("{fit} --history folder/../points.csv"), "this output file is also an input"),
        (1, &format!("{fit} --weights w.csv --history w.csv"), "this output file is also an input"),
        (
            1,
            &format!("{predict} -o l.txt"),
            "l.txt: the name of this output must end in .npy or .csv",
        ),
        (1, &format!("{predict} -o points.csv"), "this output file is also an input"),
        (1, "score model.safetensors points.csv -o d.dat", "d.dat: the name of this output"),
        (
            1,
            "sample model.safetensors -n 5 -o s.npy --labels s.npy",
            "s.npy: this output file is also another output",
        ),
        (1, "sample model.safetensors -n 5 -o s.npy --labels s", "s: the name of this output"),
        // What is wrong with models and starts.
        (1, "fit points.csv", "give the number of components with -k"),
        (
            1,
            &format!("{fit} --init kmean"),
            "--init kmean: expected auto, kmeans++, random, random-from-data, or a file",
        ),
        (
            1,
            "fit points.csv --init model.safetensors -k 4",
            "-k 4 does not agree with --init model.safetensors, which has 3 component(s)",
        ),
        (
            1,
            "fit points.csv --init model.safetensors --model gaussian-tied",
            "--model gaussian-tied does not agree with --init model.safetensors, which has gaussian-full",
        ),
        (
            1,
            "fit points.csv --init model.safetensors --n-init 2",
            "--n-init 2 asks for fresh starts",
        ),
        (1, &format!("{fit} --latent 2"), "--latent is no argument of gaussian-full, a mixture"),
        (
            1,
            &format!("{fit} --algorithm newton"),
            "--algorithm newton: gaussian-full is learned by batch or stepwise or incremental",
        ),
        (
            1,
            "transform model.safetensors points.csv -o z.npy",
            "cannot transform: gaussian-full is a mixture, which has no latent space",
        ),
        (
            1,
            "reconstruct model.safetensors points.csv -o x.npy",
            "cannot reconstruct: gaussian-full is a mixture, which has no latent space",
        ),
        (1, "select points.csv", "give the sizes of the candidates with --components or --latent"),
        (1, "fit points.csv -k 2 --model gaussian-*", "stands for several models; use 'select'"),
        (1, "fit points.csv -k 2 --prior laplace", "--prior laplace is for latents of vae"),
        (
            1,
            "fit points.csv --model vae --latent 1 --prior conjugate",
            "for covariances of mixtures",
        ),
        (1, "fit points.csv -k 2 --prior conjugate --reg-covar 1", "give one of them"),
        (1, "fit points.csv --model laplace --location 0 -k 2 --prior conjugate", "no covariances"),
        (2, "select points.csv --components 5..2", "the range 5..2 is empty"),
        (2, "select points.csv -k 0..2", "at least 1"),
        (
            2,
            "select points.csv -k 2 --criterion elbow",
            "possible values: bic, aic, icl, entropy-sum",
        ),
        (
            1,
            "select points.csv -k 2 --init model.safetensors",
            "'select' fits each size from a fresh start",
        ),
        (
            1,
            "select points.csv --latent 1..2",
            "--latent is no argument of gaussian-full, a mixture",
        ),
        (1, "select wide.csv -k 1..3 -o m.json", "fewer than the 3 components"),
        (1, "select points.csv -k 1..2 --plot points.csv", "points.csv: the name of this output"),
        (1, "check gaussian", "no model is called \"gaussian\"; there are gaussian-full"),
        (1, "check gaussian-full points.csv", "gaussian-full is no model file"),
        (1, "check model.safetensors hole.csv", "hole.csv: row 1, column 1"),
        (1, "check model.safetensors wide.csv", "wide.csv has points of 3 dimension(s)"),
        (2, "check ppca --latent 0", "at least 1"),
        (1, "fit points.csv --init points.csv", "points.csv"),
        (1, "fit points.csv --init no.json", "no.json"),
        (1, "info missing.json", "missing.json: No such file"),
        (1, "info points.csv", "points.csv"),
        (1, "predict points.csv points.csv -o l.npy", "points.csv"),
        // What is wrong with points.
        (1, "fit missing.npy -k 1 -o m.json", "missing.npy: No such file"),
        (1, "fit folder -k 1", "folder"),
        (1, "fit empty.csv -k 1 -o m.json", "empty.csv"),
        (1, "fit ragged.csv -k 1 -o m.json", "ragged.csv: row 1"),
        (1, "fit words.csv -k 1 -o m.json", "words.csv: row 1, column 0"),
        (
            1,
            "fit hole.csv -k 1 -o m.json --history h.csv",
            "hole.csv: row 1, column 1: the value is NaN",
        ),
        (1, "fit text.npy -k 1 -o m.json", "text.npy"),
        (1, "fit raw.bin -k 1 -o m.json", "give the type of its values and the dimension"),
        (1, "fit raw.bin --dtype f32 --dim 5 -k 1", "raw.bin"),
        (1, "fit wide.csv -k 3 -o m.json", "fewer than the 3 components"),
        (1, "fit points.csv -k 3 --weights wide.csv", "wide.csv: found 3 columns"),
        (1, "fit points.csv -k 3 --weights-column z", "points.csv"),
        (
            1,
            "fit wide.csv --init model.safetensors -o m.json",
            "wide.csv has points of 3 dimension(s), the model is for 2",
        ),
        (
            1,
            "predict model.safetensors wide.csv -o l.npy",
            "wide.csv has points of 3 dimension(s), the model is for 2",
        ),
        (1, "predict model.safetensors hole.csv -o l.npy --proba", "hole.csv: row 1, column 1"),
        (1, "score model.safetensors hole.csv -o d.npy", "hole.csv: row 1, column 1"),
    ] {
        let outcome = place.run(arguments);
        assert_eq!(outcome.code, Some(code), "{arguments}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(expected), "{arguments}: {}", outcome.stderr);
        // Notes on the form of a file come first.
        let is_named = outcome.stderr.lines().any(|line| line.starts_with("error: "));
        assert!(arguments.is_empty() || is_named, "{arguments}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "", "{arguments}");
        assert_eq!(place.names(), before, "{arguments}");
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    fn kill(signal: &str, child: &Child) {
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits until something holds, and fails after long.
    fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until a process has a handler of SIGINT.
    fn wait_for_handler(child: &Child) {
        wait_until("interrupts are caught", || {
            let status =
                fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & 0b10 != 0)
        });
    }

    fn finish(child: Child) -> Outcome {
        child.wait_with_output().unwrap().into()
    }

    const LONG: &str = "fit noise.f32 --dtype f32 --dim 4 -k 30 --tol 0 --threads 1 --json \
        -o m.safetensors --history h.csv";

    #[test]
    fn an_interrupted_fit_is_saved() {
        let long = "--max-iter 1000000000";
        let many = "--max-iter 5 --n-init 1000000000";
        for (signal, code, rest) in
            [("-INT", 0, long), ("-TERM", 143, long), ("-HUP", 129, long), ("-INT", 0, many)]
        {
            let place = Place::new();
            place.write("noise.f32", noise(20_000));
            let child = place.command(&format!("{LONG} {rest}")).spawn().unwrap();
            wait_for_handler(&child);
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(place.names(), ["noise.f32"]);
            kill(signal, &child);
            let outcome = finish(child);
            assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
            let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
            assert_eq!(report["stop_reason"], "interrupted");
            assert_eq!(report["converged"], false);
            assert_eq!(place.names(), ["h.csv", "m.safetensors", "noise.f32"]);
            close(&place.json("info m.safetensors")["weights"], &report["weights"]);
            let rows = place.text("h.csv").lines().count() as u64 - 1;
            assert_eq!(rows, report["iterations"].as_u64().unwrap());
        }
    }

    #[test]
    fn a_second_interrupt_ends_at_once() {
        let place = Place::new();
        place.write("noise.f32", noise(200_000));
        // The start alone, of which no part can be interrupted, takes seconds.
        let child = place.command(&LONG.replace("-k 30", "-k 2000")).spawn().unwrap();
        wait_for_handler(&child);
        for _ in 0..2 {
            kill("-INT", &child);
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(finish(child).code, Some(130));
        assert_eq!(place.names(), ["noise.f32"]);
    }

    /// Starts a command that writes for hours, and waits until it has begun to.
    fn sampling(place: &Place) -> Child {
        let child =
            place.command("sample model.safetensors -n 1000000000000 -o s.npy").spawn().unwrap();
        wait_for_handler(&child);
        wait_until("it writes", || {
            let entries = fs::read_dir(place.0.path()).unwrap();
            let large = |path: &Path| path.metadata().is_ok_and(|it| it.len() > 1 << 20);
            entries.flatten().any(|entry| large(&entry.path()))
        });
        child
    }

    #[test]
    fn an_interrupted_output_leaves_nothing() {
        let place = Place::with_model();
        place.write("s.npy", "old");
        let before = place.names();
        for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
            let child = sampling(&place);
            kill(signal, &child);
            let outcome = finish(child);
            assert_eq!(outcome.code, Some(code));
            assert_eq!(outcome.stderr, "error: interrupted; nothing was written\n");
            assert_eq!(place.names(), before);
            assert_eq!(place.text("s.npy"), "old");
        }
    }

    #[test]
    fn a_killed_command_leaves_no_half_output() {
        let place = Place::with_model();
        place.write("old.npy", "old");
        let mut child = sampling(&place);
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None);
        assert!(!place.path("s.npy").exists());
        assert_eq!(place.text("old.npy"), "old");
        // The next command that writes there removes what is left of it, once its age shows that nobody begins with it.
        let mut left = place.names();
        left.retain(|name| name.ends_with(".tmp"));
        assert_eq!(left.len(), 1);
        let left = fs::File::options().write(true).open(place.path(&left[0])).unwrap();
        left.set_modified(std::time::SystemTime::now() - Duration::from_secs(60)).unwrap();
        place.succeed("predict model.safetensors points.csv -o l.npy");
        assert_eq!(place.names(), ["l.npy", "model.safetensors", "old.npy", "points.csv"]);
    }

    #[test]
    fn a_full_disk_spoils_only_what_is_on_it() {
        let place = Place::with_points();
        for (options, left) in [
            ("-o /dev/full --history h.csv --plot h.svg", &["h.csv", "h.svg", "points.csv"][..]),
            ("-o m.json --history /dev/full --plot h.svg", &["h.svg", "m.json", "points.csv"]),
            ("-o m.json --history h.csv --plot /dev/full", &["h.csv", "m.json", "points.csv"]),
        ] {
            let outcome = place.run(&format!("fit points.csv -k 3 --json {options}"));
            assert_eq!(outcome.code, Some(1), "{options}");
            assert_eq!(outcome.stderr, "error: /dev/full: No space left on device (os error 28)\n");
            assert_eq!(place.names(), left);
            let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
            assert_eq!(report["converged"], true);
            left.iter()
                .filter(|it| **it != "points.csv")
                .for_each(|it| fs::remove_file(place.path(it)).unwrap());
        }
        place.succeed("fit points.csv -k 3 -o m.json");
        for arguments in [
            "predict m.json points.csv -o /dev/full",
            "sample m.json -n 9 -o /dev/full",
            "score m.json points.csv -o /dev/full",
        ] {
            let outcome = place.run(arguments);
            assert_eq!(outcome.code, Some(1), "{arguments}");
            assert_eq!(outcome.stderr, "error: /dev/full: No space left on device (os error 28)\n");
        }
    }

    #[test]
    fn standard_output_may_be_full_or_closed() {
        let place = Place::with_points();
        let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap());
        let outcome = Outcome::from(
            place.command("fit points.csv -k 3 -o m.json").stdout(full()).output().unwrap(),
        );
        assert_eq!(outcome.code, Some(1));
        assert_eq!(
            outcome.stderr,
            "error: standard output: No space left on device (os error 28)\n"
        );
        assert_eq!(place.names(), ["m.json", "points.csv"]);
        for arguments in ["fit points.csv -k 3 -o n.json", "info m.json", "score m.json points.csv"]
        {
            let mut child = place.command(arguments).spawn().unwrap();
            drop(child.stdout.take());
            let outcome = finish(child);
            assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{arguments}");
        }
        assert!(place.path("n.json").exists());
        // Messages may not get through either.
        let code = place.command("info missing.json").stderr(full()).status().unwrap().code();
        assert_eq!(code, Some(1));
    }

    #[test]
    fn tables_can_be_piped() {
        let place = Place::with_model();
        let outcome = place.succeed("predict model.safetensors points.csv -o /dev/stdout");
        assert!(outcome.stdout.starts_with("label\n"));
        assert_eq!(outcome.stdout.lines().count(), 901);
    }

    /// Whatever name an output has, it replaces nothing that the command reads or writes besides.
    #[test]
    fn no_output_destroys_an_input_or_another_output() {
        let place = Place::with_model();
        place.write("b.csv", place.text("points.csv"));
        place.write("w.csv", "1\n".repeat(900));
        place.write("notes", "mine");
        std::os::unix::fs::symlink("points.csv", place.path("link.csv")).unwrap();
        fs::hard_link(place.path("b.csv"), place.path("hard.csv")).unwrap();
        std::os::unix::fs::symlink("model.safetensors", place.path("m.json")).unwrap();
        fs::copy(place.path("points.csv"), place.path("points.json")).unwrap();
        let before: Vec<_> =
            place.names().iter().map(|name| (name.clone(), place.read(name))).collect();
        let (fit, predict) = ("fit points.csv b.csv -k 3", "predict model.safetensors points.csv");
        let start = "--init model.safetensors";
        let cases = [
            // An input by another name, or as another argument than the first.
            (format!("{fit} --history link.csv"), "link.csv", "an input"),
            (format!("{fit} --history hard.csv"), "hard.csv", "an input"),
            (format!("{fit} --history b.csv"), "b.csv", "an input"),
            (format!("{predict} b.csv -o b.csv"), "b.csv", "an input"),
            (format!("{predict} [b]*.csv -o hard.csv"), "hard.csv", "an input"),
            ("predict m.json points.csv -o ./points.csv".to_owned(), "./points.csv", "an input"),
            (format!("{predict} --append -o link.csv"), "link.csv", "an input"),
            ("score m.json b.csv --weights w.csv -o w.csv".to_owned(), "w.csv", "an input"),
            ("bench real --data b.csv -o hard.csv".to_owned(), "hard.csv", "an input"),
            // Checkpoints.
            (format!("{fit} --checkpoint b.csv"), "b.csv", "a checkpoint"),
            (format!("{fit} --checkpoint notes"), "notes", "a checkpoint"),
            (format!("{fit} --checkpoint new.json -o new.json"), "new.json", "another output"),
            (format!("fit points.csv {start} --checkpoint m.json"), "m.json", "a checkpoint"),
            // A model may replace the one it came from, and no other input.
            (
                format!("fit points.csv {start} --history h.csv -o points.json points.json"),
                "points.json",
                "an input",
            ),
            // Names that cannot be written.
            (format!("{fit} -o {}.json", "x".repeat(260)), "xxx.json", "File name too long"),
            (format!("{fit} --checkpoint nowhere/state"), "nowhere/state", "no directory nowhere"),
            (
                format!("{fit} --plot points.csv/p.svg"),
                "points.csv/p.svg",
                "no directory points.csv",
            ),
        ];
        for (arguments, name, expected) in &cases {
            let outcome = place.run(arguments);
            assert_eq!(outcome.code, Some(1), "{arguments}");
            let named = outcome.stderr.lines().any(|line| {
                line.starts_with("error: ") && line.contains(name) && line.contains(expected)
            });
            assert!(named, "{arguments}: {}", outcome.stderr);
            for (name, bytes) in &before {
                assert_eq!(place.read(name), *bytes, "{arguments}: {name}");
            }
            assert_eq!(place.names().len(), before.len(), "{arguments}");
        }

        place.succeed("fit points.csv --init model.safetensors -o m.json");
        assert_ne!(
            place.read("model.safetensors"),
            before.iter().find(|it| it.0 == "m.json").unwrap().1
        );
        // What is printed goes to a file that is no output.
        let out = fs::File::options().append(true).open(place.path("b.csv")).unwrap();
        let mut command = place.command("fit points.csv -k 3 --history b.csv");
        let outcome = Outcome::from(command.stdout(out).output().unwrap());
        let expected =
            "error: b.csv: this output file is also the standard output of the command\n";
        assert_eq!(outcome.stderr, expected);
        let out = fs::File::options().append(true).open(place.path("b.csv")).unwrap();
        let mut command = place.command("predict m.json b.csv -o -");
        let outcome = Outcome::from(command.stdout(out).output().unwrap());
        let expected = "error: /dev/stdout: this output file is also an input of the command\n";
        assert_eq!(outcome.stderr, expected);
    }

    #[test]
    fn a_checkpoint_that_cannot_be_written_ends_no_fit() {
        let place = Place::with_points();
        let fit = "fit points.csv -k 3 --checkpoint-every 0 --json";
        let expected = place.succeed("fit points.csv -k 3 -o expected.json -q --json");
        let outcome = place.run(&format!("{fit} --checkpoint /dev/full -o m.json"));
        assert_eq!(outcome.code, Some(1));
        assert_eq!(place.read("m.json"), place.read("expected.json"));
        let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let warning = report["warnings"][0].as_str().unwrap();
        assert!(warning.starts_with("iteration 1: the checkpoint could not be saved"), "{warning}");
        let same: Value = serde_json::from_str(&expected.stdout).unwrap();
        assert_eq!(report["entropy_sum"], same["entropy_sum"]);
        let no_space = "/dev/full: No space left on device (os error 28)";
        let first = format!("warning: no checkpoint was saved: {no_space}\n");
        assert!(outcome.stderr.starts_with(&first), "{}", outcome.stderr);
        assert_eq!(outcome.stderr.matches("no checkpoint was saved").count(), 1);
        let last = outcome.stderr.lines().last().unwrap();
        assert!(outcome.stderr.contains(&format!("\nerror: {no_space}; --resume")), "{last}");
    }

    /// The folder of a checkpoint may be away for a while.
    #[test]
    fn a_checkpoint_is_tried_again_at_the_next_save() {
        let place = Place::new();
        place.write("noise.f32", noise(20_000));
        fs::create_dir(place.path("there")).unwrap();
        let fit =
            format!("{LONG} --max-iter 1000000000 --checkpoint there/state --checkpoint-every 0");
        let mut child = place.command(&fit).spawn().unwrap();
        wait_until("there is a checkpoint", || place.path("there/state").exists());
        fs::rename(place.path("there"), place.path("away")).unwrap();
        let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
        assert!(line.contains("no checkpoint was saved"), "{line}");
        fs::create_dir(place.path("there")).unwrap();
        wait_until("there is another", || place.path("there/state").exists());
        kill("-INT", &child);
        std::io::Read::read_to_string(&mut stderr, &mut line).unwrap();
        let outcome = finish(child);
        assert_eq!(outcome.code, Some(0), "{line}");
        assert!(place.path("m.safetensors").exists());
    }
}

/// Known parameters and missing values from the command line, and what is wrong with them.
#[test]
fn families_take_what_is_known_and_ignore_what_is_missing() {
    let place = Place::new();
    let counts: String = (0..60)
        .map(|i| match (i % 2, i % 5) {
            (_, 4) => format!("{},\n", i % 3),
            (0, _) => format!("{},NA\n", i % 3),
            _ => format!("{},{}\n", 14 + i % 3, 9 + i % 2),
        })
        .collect();
    place.write("counts.csv", format!("a,b\n{counts}"));
    let outside = place.run("fit counts.csv --model binomial --trials 10 -k 2 --missing ignore");
    assert_eq!(outside.code, Some(1));
    let expected =
        "counts.csv: row 1, column 0: the value is 15, expected a whole number from 0 to 10";
    assert!(outside.stderr.contains(expected), "{}", outside.stderr);

    let fit = "fit counts.csv --model binomial --trials 16,10 -k 2";
    let refused = place.run(fit);
    assert!(refused.stderr.contains("missing value"), "{}", refused.stderr);
    let report = place.json(&format!("{fit} --missing ignore -o model.json"));
    assert!(report["gap"].as_f64().unwrap().abs() < 1e-10, "{report}");
    assert_eq!(report["n_parameters"], 5);
    let model: Value = serde_json::from_str(&place.text("model.json")).unwrap();
    assert_eq!(model["parameters"]["trials"], serde_json::json!([16.0, 10.0]));
    assert_eq!(model["parameters"]["probability"].as_array().unwrap().len(), 2);
    place.succeed("predict model.json counts.csv --missing ignore -o labels.npy");
    let (labels, _) = place.numbers("labels.npy");
    // Odd rows of which both values are known are of the cluster with large counts.
    assert!((0..60).filter(|i| i % 5 != 4).all(|i| labels[i] == labels[i % 2]));
    assert_ne!(labels[0], labels[1]);
    let again = place.json("fit counts.csv --init model.json --missing ignore");
    assert!(again["log_likelihood"].as_f64() >= report["log_likelihood"].as_f64());
    for (arguments, expected) in [
        ("fit counts.csv --init model.json --trials 16", "--trials is told by the model"),
        ("fit counts.csv --model binomial -k 2 --missing ignore", "\"trials\" must be given"),
        ("fit counts.csv --model poisson --trials 3 -k 2 --missing ignore", "no known parameter"),
        (
            "fit counts.csv --model gaussian-tied -k 2 --missing ignore",
            "gaussian-tied cannot ignore missing values",
        ),
    ] {
        let outcome = place.run(arguments);
        assert_eq!(outcome.code, Some(1), "{arguments}");
        assert!(outcome.stderr.contains(expected), "{arguments}: {}", outcome.stderr);
    }
}

#[test]
fn sparse_counts_are_fitted_predicted_and_scored_like_dense_ones() {
    let place = Place::new();
    let (mut entries, mut dense) = (Vec::new(), String::from("a,b,c,d,e,f\n"));
    for i in 0..300 {
        let row = [0, 1, 2].map(|d| if (i + d) % 3 == 0 { 0 } else { 1 + (i * (d + 1)) % 5 });
        let row: Vec<usize> =
            if i % 2 == 0 { [&row[..], &[0; 3]].concat() } else { [&[0; 3], &row[..]].concat() };
        for (d, value) in row.iter().enumerate().filter(|(_, value)| **value > 0) {
            entries.push(format!("{} {} {value}\n", i + 1, d + 1));
        }
        dense += &format!("{}\n", row.iter().map(usize::to_string).collect::<Vec<_>>().join(","));
    }
    let banner = "%%MatrixMarket matrix coordinate integer general";
    let sizes = format!("300 6 {}", entries.len());
    place.write("counts.mtx", format!("{banner}\n{sizes}\n{}", entries.concat()));
    place.write("counts.csv", dense);
    place.succeed("fit counts.mtx --model multinomial -k 2 -o model.json -q --precision f64");
    assert_eq!(place.json("info model.json")["model"], "multinomial");
    place.succeed("predict model.json counts.mtx -o sparse.csv");
    place.succeed("predict model.json counts.csv -o dense.csv");
    assert_eq!(place.text("sparse.csv"), place.text("dense.csv"));
    let labels: Vec<String> = place.text("sparse.csv").lines().skip(1).map(str::to_owned).collect();
    assert!((2..300).all(|i| labels[i] == labels[i - 2]) && labels[0] != labels[1]);
    let score = |data: &str| {
        place.json(&format!("score model.json {data} --precision f64"))["log_likelihood"].as_f64()
    };
    let (sparse, dense) = (score("counts.mtx").unwrap(), score("counts.csv").unwrap());
    assert!((sparse - dense).abs() < 1e-12, "{sparse}, {dense}");

    let (sparse_takers, refused) = ("sparse ones are for bernoulli", "counts.mtx is sparse");
    for command in [
        "fit counts.mtx -k 2",
        "fit counts.mtx --model gaussian-diag -k 2",
        "fit counts.mtx --model ppca --latent 1",
        "fit counts.mtx --model poisson -k 2 --missing ignore",
        "select counts.mtx --model gaussian-diag -k 1..2",
    ] {
        let message = place.run(command).stderr;
        assert!(message.contains(refused) && message.contains(sparse_takers), "{message}");
        assert!(message.contains("multinomial") && message.contains("poisson"), "{message}");
    }
    place.succeed("fit counts.csv --model gaussian-diag -k 2 -o dense.json -q");
    assert!(place.run("score dense.json counts.mtx").stderr.contains(refused));
    place.write("cut.mtx", format!("{banner}\n{sizes}\n1 7 1\n"));
    let message = place.run("fit cut.mtx --model poisson -k 2").stderr;
    assert!(message.contains("line 3: column 7, expected one from 1 to 6"), "{message}");
}

/// Sweeps over the points of a file are measured in both precisions, beside drawn points of the same shape.
#[test]
fn bench_measures_sweeps_over_files() {
    let place = Place::with_points();
    let outcome =
        place.succeed("bench real --data points.csv --model gaussian-diag -k 3 -o table.csv");
    assert!(outcome.stdout.contains("points") && outcome.stdout.contains("gaussian-diag"));
    let table = place.text("table.csv");
    let (header, row) = table.trim_end().split_once('\n').unwrap();
    assert_eq!(header, "file,model,n,k,dim,f64,f64_drawn,f32,f32_drawn");
    let cells: Vec<&str> = row.split(',').collect();
    assert_eq!(cells[..5], ["points", "gaussian-diag", "900", "3", "2"]);
    assert!(cells[5..].iter().all(|cell| cell.parse::<f64>().unwrap() > 0.0), "{row}");
    let refused = place.run("bench real");
    assert!(refused.stderr.contains("--data"), "{}", refused.stderr);
}

/// A probability of 0 of a value that occurs: the bound has no derivative there, and the identity nothing to say.
#[test]
fn check_refuses_boundaries_that_points_contradict() {
    let place = Place::new();
    let model = |p: f64| {
        format!(
            r#"{{"model": "bernoulli", "weights": [0.5, 0.5], "probability": [[{p}, 0.5], [{p}, 0.25]]}}"#
        )
    };
    place.write("edge.json", model(0.0));
    place.write("inside.json", model(0.1));
    place.write("x.csv", "0,1\n1,0\n0,1\n0,0\n1,1\n");
    place.write("zeros.csv", "0,1\n0,0\n0,1\n");
    let refused = place.run("check edge.json x.csv");
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stdout.contains("lower bound"), "{}", refused.stdout);
    assert!(refused.stderr.contains("boundary that points contradict"), "{}", refused.stderr);
    place.succeed("check edge.json zeros.csv");
    place.succeed("check inside.json x.csv");
}

/// One table over structures of covariances and numbers of components, as mclust has it.
#[test]
fn select_compares_structures_of_covariances() {
    let place = Place::new();
    let iris = concat!(env!("CARGO_MANIFEST_DIR"), "/data/iris.csv");
    let select = format!("select {iris} --model gaussian-* --components 1..3 --n-init 3");
    let report = place.json(&format!("{select} --plot s.svg -o best.json"));
    let candidates = report["candidates"].as_array().unwrap();
    assert_eq!((candidates.len(), &report["model"]), (18, &"gaussian-*".into()));
    // Two ellipsoids, as mclust's VVV among those that are here.
    let best = &report["best"];
    assert_eq!((&best["model"], &best["n_components"]), (&"gaussian-full".into(), &2.into()));
    let lowest =
        candidates.iter().filter(|it| it["degenerate_components"] == serde_json::json!([]));
    let lowest = lowest.map(|it| it["bic"].as_f64().unwrap()).min_by(f64::total_cmp);
    assert_eq!(lowest, best["bic"].as_f64());
    // mclust 6.1 on these points, with the other sign: EII and VVV of one component.
    let bic = |model: &str, k: u64| {
        let is_it = |it: &&Value| it["model"] == model && it["components"] == k;
        candidates.iter().find(is_it).unwrap()["bic"].as_f64().unwrap()
    };
    assert!((bic("gaussian-tied-spherical", 1) - 1804.0854).abs() < 1e-3);
    assert!((bic("gaussian-full", 1) - 829.9782).abs() < 1e-3);
    assert!((bic("gaussian-full", 2) - 574.0178).abs() < 1e-3);
    let alone = place.json(&format!("fit {iris} --model gaussian-diag -k 3 --n-init 3"));
    assert_eq!(Some(bic("gaussian-diag", 3)), alone["bic"].as_f64());
    let saved: Value = serde_json::from_str(&place.text("best.json")).unwrap();
    assert_eq!(saved["model"], "gaussian-full");
    let plot = place.text("s.svg");
    assert!(plot.contains("gaussian-tied-diag") && plot.contains("components"), "{plot}");
    let table = place.succeed(&select).stdout;
    assert!(table.starts_with("model                    components  parameters"), "{table}");
    let line = table.lines().find(|line| line.ends_with("best bic")).unwrap();
    assert!(line.starts_with("gaussian-full                     2 "), "{line}");
}

/// Six components settle on durations that are exactly four minutes: a likelihood that a floor holds up wins no selection.
#[test]
fn select_prefers_candidates_without_floors() {
    let place = Place::new();
    let geyser = concat!(env!("CARGO_MANIFEST_DIR"), "/data/geyser.csv");
    let select = format!("select {geyser} --components 1..6 --n-init 3");
    let best = |arguments: &str| {
        let report = place.json(arguments);
        let candidates = report["candidates"].as_array().unwrap().clone();
        let winner = report["best"]["n_components"].as_u64().unwrap() as usize;
        let floored = |c: &Value| c["degenerate_components"].as_array().unwrap().len();
        (winner, candidates.iter().map(floored).collect::<Vec<_>>())
    };
    let (winner, floored) = best(&select);
    assert!((2..=4).contains(&winner) && floored[winner - 1] == 0, "{winner} {floored:?}");
    assert!(floored[..3].iter().all(|&n| n == 0) && floored[5] > 0, "{floored:?}");
    let (winner, floored) = best(&format!("{select} --allow-degenerate"));
    assert!(floored[winner - 1] > 0, "{winner} {floored:?}");

    // Under a prior no component settles on ties, and all candidates take part.
    let report = place.json(&format!("{select} --prior conjugate"));
    for candidate in report["candidates"].as_array().unwrap() {
        assert_eq!(candidate["degenerate_components"].as_array().unwrap().len(), 0);
    }
    let bic = |report: &Value, k: usize| report["candidates"][k - 1]["bic"].as_f64().unwrap();
    let plain = place.json(&select);
    assert!(bic(&report, 4) > bic(&plain, 4) && bic(&report, 6) > bic(&plain, 6) + 100.0);
    let fit = place.json(&format!("fit {geyser} -k 3 --prior conjugate --history p.csv"));
    let header = place.text("p.csv").lines().next().unwrap().to_owned();
    assert!(header.ends_with("active_components,log_prior"), "{header}");
    assert!(fit["log_prior"].as_f64().unwrap() < 0.0 && fit["gap"].as_f64().unwrap() < -1e-3);
    let told = place.succeed(&format!("fit {geyser} -k 3 --prior conjugate")).stdout;
    assert!(told.contains("log-prior") && told.contains("from the prior"), "{told}");

    // A column of one value is no degenerate component.
    let row = |(i, line)| format!("{line},{}\n", if i == 0 { "z" } else { "7" });
    let text: String = clusters(300).lines().enumerate().map(row).collect();
    place.write("constant.csv", text);
    let (winner, floored) = best("select constant.csv --components 1..4");
    assert!(winner == 3 && floored[..3] == [0, 0, 0], "{winner} {floored:?}");
}
