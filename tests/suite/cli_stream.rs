//! Fits by minibatches from outside: algorithms, files of all kinds, bad lines, and runs that are killed and resumed.
#![cfg(feature = "cli")]

use crate::common;

use common::{Uniforms, clusters};
use entropysum::data::{Dtype, NpyWriter};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

struct Place(tempfile::TempDir);

impl Place {
    /// A directory with `points.npy`: clusters of `n` points in two dimensions.
    fn new(n: usize) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.npy("points.npy", &clusters(n, 2, 3, 2.0, 7));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn npy(&self, name: &str, values: &[f64]) {
        let mut writer = NpyWriter::create(self.path(name), Dtype::F64, Some(2)).unwrap();
        writer.write(values).unwrap();
        writer.finish().unwrap();
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_entropysum"));
        command.args(arguments.split_whitespace()).current_dir(self.0.path());
        command
    }

    fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn succeed(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.succeed(&format!("{arguments} --json"))).unwrap()
    }

    fn fault(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments} succeeded");
        String::from_utf8(output.stderr).unwrap()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn log_likelihood(&self, model: &str) -> f64 {
        let score = self.json(&format!("score {model} points.npy"));
        score["log_likelihood"].as_f64().unwrap()
    }
}

#[test]
fn every_algorithm_finds_the_same_optimum() {
    let place = Place::new(20_000);
    place.succeed("fit points.npy -k 3 --tol 1e-8 -o batch.json -q");
    let best = place.log_likelihood("batch.json");
    for (arguments, tolerance) in [
        ("--batch-size 500 --epochs 4", 1e-3),
        ("--algorithm stepwise --batch-size 500 --epochs 4 --polish 20", 3e-4),
        ("--algorithm incremental --batch-size 1000 --epochs 60 --tol 1e-7", 1e-4),
        ("--batch-size 500 --step-exponent 0.7 --step-offset 5 --epochs 4 --average 0.5", 1e-3),
    ] {
        let fit = format!("fit points.npy -k 3 {arguments} --history history.csv -o model.json");
        let report = place.json(&fit);
        let found = place.log_likelihood("model.json");
        assert!((found - best).abs() < tolerance, "{arguments}: {found}, batch {best}");
        assert!(report["gap"].as_f64().unwrap().abs() < 1e-10);
        assert!(report["log_likelihood"].is_null(), "no closing pass");
        let history = String::from_utf8(place.read("history.csv")).unwrap();
        let header = history.lines().next().unwrap();
        assert!(
            header
                .ends_with("step_size,effective_points,standard_error,improvement,remaining,audit")
        );
        assert!(history.lines().count() > 5, "{arguments}: {history}");
    }
}

#[test]
fn audits_measure_what_the_monitor_estimates() {
    let place = Place::new(20_000);
    place.npy("other.npy", &clusters(40_000, 2, 3, 2.0, 7)[40_000..]);
    for held_out in ["", "--held-out other.npy"] {
        place.succeed(&format!(
            "fit points.npy -k 3 --batch-size 500 --epochs 3 --audit 10 {held_out} --history history.csv -q"
        ));
        let history = String::from_utf8(place.read("history.csv")).unwrap();
        let header: Vec<&str> = history.lines().next().unwrap().split(',').collect();
        let column = |name: &str| header.iter().position(|it| *it == name).unwrap();
        let mut audits = 0;
        for line in history.lines().skip(1) {
            let cells: Vec<&str> = line.split(',').collect();
            let cell = |name: &str| cells[column(name)];
            let (sum, error) = (cell("entropy_sum"), cell("standard_error"));
            let audit = cell("audit");
            if let Ok(audit) = audit.parse::<f64>() {
                let (sum, error): (f64, f64) = (sum.parse().unwrap(), error.parse().unwrap());
                assert!((sum - audit).abs() < 6.0 * error, "{sum} ± {error}, {audit}");
                audits += 1;
            }
        }
        assert!(audits >= 3, "{history}");
    }
}

/// SIGKILL at random moments, again and again, on 1 and 2 threads in turn; the run that gets through ends with the bits of
/// one that was never killed.
#[cfg(unix)]
#[test]
fn a_fit_that_is_killed_and_resumed_ends_with_the_same_bits() {
    let place = Place::new(6_000);
    let mut u = Uniforms::new(11);
    for algorithm in ["stepwise", "incremental", "batch"] {
        let length = match algorithm {
            "batch" => "--max-iter 300",
            _ => "--batch-size 200 --epochs 100 --polish 3",
        };
        // A short start: kills are to hit the iterations.
        let fit = format!(
            "fit points.npy -k 3 --init kmeans++ --algorithm {algorithm} {length} --tol 0 -q"
        );
        place.succeed(&format!("{fit} -o whole.safetensors --history whole.csv"));
        let checkpoint = place.path("checkpoint");
        let (mut kills, mut attempts) = (0, 0);
        let finished = loop {
            attempts += 1;
            assert!(attempts < 500, "{kills} kills");
            let threads = 1 + attempts % 2;
            let last = kills >= 20 && checkpoint.exists();
            let every = if last { 10.0 } else { 0.005 };
            let mut child = place
                .command(&format!(
                    "{fit} --threads {threads} --checkpoint checkpoint --checkpoint-every {every} --resume \
                     -o resumed.safetensors --history resumed.csv"
                ))
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            if last {
                break child.wait_with_output().unwrap();
            }
            std::thread::sleep(std::time::Duration::from_micros((100_000.0 * u.next()) as u64));
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            if output.status.success() {
                // It got through before it could be killed: once more from the beginning.
                fs::remove_file(&checkpoint).unwrap();
            } else {
                assert_eq!(
                    output.status.code(),
                    None,
                    "{}",
                    String::from_utf8_lossy(&output.stderr)
                );
                kills += 1;
            }
        };
        assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stderr));
        assert!(kills >= 20);
        assert!(
            place.read("resumed.safetensors") == place.read("whole.safetensors"),
            "{algorithm}"
        );
        // Histories too, but for the seconds.
        let rows = |name: &str| -> Vec<String> {
            let text = String::from_utf8(place.read(name)).unwrap();
            let without_seconds = |line: &str| {
                let mut cells: Vec<&str> = line.split(',').collect();
                cells.remove(1);
                cells.join(",")
            };
            text.lines().map(without_seconds).collect()
        };
        assert_eq!(rows("resumed.csv"), rows("whole.csv"));
        fs::remove_file(checkpoint).unwrap();
    }
}

/// A checkpoint has a model of its own; another one that is asked for is not passed over.
#[test]
fn a_checkpoint_of_another_model_is_refused() {
    let place = Place::new(2_000);
    let fit = "fit points.npy --batch-size 200 --epochs 2 -q --checkpoint checkpoint --resume";
    place.succeed(&format!("{fit} -k 3"));
    for (other, message) in [
        ("-k 4", "\"3 components of gaussian-full, exact posteriors\" there and \"4 components"),
        ("-k 3 --model gaussian-diag", "and \"3 components of gaussian-diag"),
        (
            "-k 3 --posterior hard",
            "exact posteriors\" there and \"3 components of gaussian-full, hard posteriors",
        ),
        ("-k 3 --step-least 0.1", "least_step null there and 0.1 here"),
        ("-k 3 --seed 1", "seed 0 there and 1 here"),
    ] {
        let fault = place.fault(&format!("{fit} {other}"));
        assert!(fault.contains("the checkpoint is of another fit"), "{other}: {fault}");
        assert!(fault.contains(message), "{other}: {fault}");
    }
    place.succeed(&format!("{fit} -k 3"));
}

/// Fewer components than were asked for are no other fit; nor is the same model learned in another way the same.
#[test]
fn a_checkpoint_is_of_what_was_asked_for_and_not_of_what_became_of_it() {
    let place = Place::new(1_000);
    place.npy("two.npy", &[0.0, 0.0, 1.0, 1.0].repeat(500));
    for settings in ["--batch-size 100 --epochs 2", "--max-iter 5"] {
        let fit = format!("fit two.npy -k 3 {settings} -q --checkpoint state --resume -o m.json");
        place.succeed(&fit);
        place.succeed(&fit);
        let fault = place.fault(&fit.replace("-k 3", "-k 2"));
        assert!(fault.contains("label \"3 components"), "{fault}");
        fs::remove_file(place.path("state")).unwrap();
    }
    let fit =
        "fit points.npy -k 2 --model mfa --latent 1 --max-iter 3 -q --checkpoint state --resume";
    place.succeed(&format!("{fit} --algorithm em"));
    place.succeed(&format!("{fit} --algorithm em"));
    let fault = place.fault(fit);
    assert!(fault.contains(", expanded\" here"), "{fault}");
}

#[test]
fn a_checkpoint_of_other_points_is_refused() {
    let place = Place::new(2_000);
    let fit = "fit points.npy -k 3 --batch-size 200 --epochs 2 -q --checkpoint checkpoint --resume";
    place.succeed(fit);
    // The same file elsewhere, then another one of the same shape.
    fs::copy(place.path("points.npy"), place.path("copy.npy")).unwrap();
    place.succeed(&fit.replace("points.npy", "copy.npy"));
    let checkpoint = place.read("checkpoint");
    place.npy("points.npy", &clusters(2_000, 2, 3, 2.0, 8));
    let fault = place.fault(fit);
    assert!(fault.contains("is of a fit to other points: those from row 0 on"), "{fault}");
    assert_eq!(place.read("checkpoint"), checkpoint);
    place.succeed(&fit.replace("points.npy", "copy.npy"));
}

#[test]
fn factor_analysers_learn_by_minibatches_and_resume() {
    let place = Place::new(2_000);
    for model in ["mfa", "mfa-tied", "mppca"] {
        let fit = format!("fit points.npy -k 3 --latent 1 --model {model} -q");
        let batch = place.json(&format!("{fit} -o batch.json"));
        assert_eq!(batch["converged"], true);
        for algorithm in ["stepwise --batch-size 100 --epochs 4", "incremental --batch-size 200"] {
            let fit = format!("{fit} --algorithm {algorithm}");
            place.succeed(&format!("{fit} --polish 30 -o stream.json"));
            let lost = place.log_likelihood("batch.json") - place.log_likelihood("stream.json");
            assert!(lost < 2e-3, "{model} {algorithm}: {lost}");
            // Stopped after whatever time, and gone on with.
            place.succeed(&format!("{fit} -o whole.safetensors"));
            let resumed = format!("{fit} --checkpoint {model} --resume -o resumed.safetensors");
            place.run(&format!("{resumed} --max-seconds 0.001"));
            place.succeed(&resumed);
            assert_eq!(place.read("whole.safetensors"), place.read("resumed.safetensors"));
            fs::remove_file(place.path(model)).unwrap();
        }
        let fault = place.fault(&format!("{fit} --algorithm em --batch-size 100"));
        assert!(fault.contains("--batch-size"), "{fault}");
    }
}

#[test]
fn files_of_all_kinds_are_one_stream() {
    let place = Place::new(3_000);
    let values = clusters(3_000, 2, 3, 2.0, 7);
    let text = |rows: std::ops::Range<usize>| -> String {
        values[2 * rows.start..2 * rows.end]
            .chunks(2)
            .map(|p| format!("{:?},{:?}\n", p[0], p[1]))
            .collect()
    };
    fs::write(place.path("all.csv"), text(0..3_000)).unwrap();
    place.npy("part-1.npy", &values[..2 * 1_000]);
    place.npy("part-2.npy", &values[2 * 1_000..2 * 1_700]);
    fs::write(place.path("part-3.csv"), text(1_700..3_000)).unwrap();
    let fit = |data: &str, more: &str| {
        place.succeed(&format!(
            "fit {data} -k 3 --batch-size 300 --memory 40K --epochs 2 {more} -o model.json -q"
        ));
        place.read("model.json")
    };
    let expected = fit("points.npy", "");
    // 48 kB of points are more than a small budget: text goes to a temporary file.
    assert_eq!(fit("all.csv", ""), expected);
    assert_eq!(fit("part-1.npy part-2.npy part-3.csv", ""), expected);
    assert_eq!(fit("part-*", ""), expected);
    #[cfg(feature = "compression")]
    {
        let file = fs::File::create(place.path("all.csv.gz")).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        gzip.write_all(text(0..3_000).as_bytes()).unwrap();
        gzip.finish().unwrap();
        assert_eq!(fit("all.csv.gz", ""), expected);
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let zstd = ruzstd::encoding::compress_to_vec(text(0..3_000).as_bytes(), level);
        fs::write(place.path("all.csv.zst"), zstd).unwrap();
        assert_eq!(fit("all.csv.zst", ""), expected);
    }
    assert!(place.fault("fit nothing-*.npy -k 3").contains("nothing-*.npy: no file matches"));
    assert!(place.fault("fit part-1.npy model.json -k 3").contains("model.json"));
}

#[test]
fn bad_lines_and_points_are_named_or_left_out() {
    let place = Place::new(3_000);
    let mut values = clusters(3_000, 2, 3, 2.0, 7);
    let rows = |values: &[f64]| -> Vec<String> {
        values.chunks(2).map(|p| format!("{:?},{:?}", p[0], p[1])).collect()
    };
    let mut lines = rows(&values);
    lines[70] = "oops,1".to_owned();
    lines[80] = "1".to_owned();
    lines[90] = "1,NaN".to_owned();
    fs::write(place.path("bad.csv"), lines.join("\n")).unwrap();
    let fault = place.fault("fit bad.csv -k 3 --batch-size 300");
    assert!(
        fault.contains("bad.csv: row 70, column 0: line 71: \"oops\" is not a number"),
        "{fault}"
    );
    let report = place.json("fit bad.csv -k 3 --batch-size 300 --epochs 1 --on-bad-row skip");
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("2 lines skipped: not a point"), "{warnings}");
    assert!(warnings.contains("1 row skipped: "), "{warnings}");
    assert_eq!(report["points_seen"], 2_997);

    values[2 * 1234] = f64::INFINITY;
    place.npy("bad.npy", &values);
    let fault = place.fault("fit bad.npy -k 3 --batch-size 300");
    assert!(fault.contains("bad.npy: row 1234, column 0: the value is inf"), "{fault}");
    // The rows of several files are those of each.
    let fault = place.fault("fit points.npy bad.npy -k 3 --batch-size 300");
    assert!(fault.contains("bad.npy: row 1234, column 0: the value is inf"), "{fault}");
}

/// A file that is cut while it is read ends the fit with its row, and leaves a checkpoint to go on from.
#[test]
fn a_file_that_was_cut_leaves_a_checkpoint() {
    let place = Place::new(6_000);
    let fit = "fit points.npy -k 3 --batch-size 200 --memory 40K --epochs 3 --checkpoint state";
    place.succeed(&format!("{fit} -o whole.json"));
    fs::remove_file(place.path("state")).unwrap();
    let whole = place.read("points.npy");
    // The header still says how many points there are; zeros of a hole would be points, so a bad value stands for a bad disk.
    let mut broken = whole.clone();
    let at = broken.len() - 16 * 1000;
    broken[at..at + 8].copy_from_slice(&f64::NAN.to_le_bytes());
    fs::write(place.path("points.npy"), &broken).unwrap();
    let fault = place.fault(fit);
    assert!(fault.contains("points.npy: row 5000, column 0: the value is NaN"), "{fault}");
    assert!(place.path("state").exists());
    fs::write(place.path("points.npy"), &whole).unwrap();
    place.succeed(&format!("{fit} --resume -o resumed.json"));
    assert_eq!(place.read("resumed.json"), place.read("whole.json"));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let place = Place::new(3_000);
    for (arguments, expected) in [
        ("--epochs 3", "--epochs is for fits by minibatches: give --batch-size"),
        ("--algorithm batch --batch-size 10", "--batch-size is for fits by minibatches"),
        ("--batch-size 10 --step-exponent 0.4", "step_exponent is 0.4"),
        ("--batch-size 10 --average 1", "average is 1"),
        ("--batch-size 10 --resume", "--checkpoint"),
        ("--batch-size 10 --memory 3X", "expected a number of bytes"),
        ("--algorithm incremental --batch-size 1 --memory 1K", "take chunks of"),
        ("--algorithm newton", "is learned by batch or stepwise or incremental"),
    ] {
        let fault = place.fault(&format!("fit points.npy -k 3 {arguments}"));
        assert!(fault.contains(expected), "{arguments}: {fault}");
    }
    let fit = "fit points.npy -k 3 --epochs 2 --checkpoint state --resume -q";
    place.succeed(&format!("{fit} --batch-size 300"));
    let fault = place.fault(&format!("{fit} --batch-size 200"));
    assert!(fault.contains("the checkpoint is of another fit"), "{fault}");
    fs::write(place.path("state"), "no checkpoint").unwrap();
    let fault = place.fault(&format!("{fit} --batch-size 300"));
    assert!(fault.contains("state: not a checkpoint"), "{fault}");
}
