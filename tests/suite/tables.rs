//! Tables as people have them: names, indices, texts, holes and signs, from the command line.
#![cfg(feature = "cli")]

use crate::common::Uniforms;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A directory of its own, in which commands run.
struct Place(tempfile::TempDir);

impl Place {
    fn with(files: &[(&str, &str)]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(name, text)| fs::write(place.path(name), text).unwrap());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|fault| panic!("{name}: {fault}"))
    }

    /// Whether a command succeeds, and what it writes to standard output and standard error.
    fn run_on(&self, arguments: &str, input: &str) -> (bool, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_entropysum"));
        command.current_dir(self.0.path()).args(arguments.split_whitespace());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    #[track_caller]
    fn succeed(&self, arguments: &str) -> (String, String) {
        let (done, out, err) = self.run_on(arguments, "");
        assert!(done, "{arguments}: {err}");
        (out, err)
    }

    #[track_caller]
    fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.succeed(&format!("{arguments} --json")).0).unwrap()
    }

    #[track_caller]
    fn refuse(&self, arguments: &str, expected: &str) {
        let (done, _, err) = self.run_on(arguments, "");
        assert!(!done && err.contains(expected), "{arguments}: {err}");
    }
}

/// Two clusters, row `i` in cluster `i % 2`.
fn clusters(n: usize) -> Vec<[f64; 2]> {
    let mut random = Uniforms::new(7);
    (0..n).map(|i| [8.0 * (i % 2) as f64 + random.normal(), random.normal()]).collect()
}

fn table(header: &str, n: usize, row: impl Fn(usize, [f64; 2]) -> String) -> String {
    let rows = clusters(n).into_iter().enumerate().map(|(i, xy)| row(i, xy) + "\n");
    format!("{header}\n") + &rows.collect::<String>()
}

#[test]
fn no_guess_costs_a_point_or_makes_a_dimension() {
    let plain = table("x,y", 500, |_, [x, y]| format!("{x:?},{y:?}"));
    let place = Place::with(&[("plain.csv", &plain)]);
    let expected = place.json("fit plain.csv -k 2");
    for (name, text, told) in [
        ("pandas.csv", table("0,1", 500, |_, [x, y]| format!("{x:?},{y:?}")), "--header no"),
        ("index.csv", table(",x,y", 500, |i, [x, y]| format!("{i},{x:?},{y:?}")), "row index"),
        (
            "r.csv",
            table("\"\",\"x\",\"y\"", 500, |i, [x, y]| format!("\"{}\",{x:?},{y:?}", i + 1)),
            "row index",
        ),
        (
            "names.csv",
            table("id,x,day,y", 500, |i, [x, y]| {
                format!("{i},{x:?},2020-01-{:02},{y:?}", i % 28 + 1)
            }),
            "(text)",
        ),
        (
            "comma.csv",
            table("x;y", 500, |_, [x, y]| format!("{x:?};{y:?}").replace('.', ",")),
            "decimal signs",
        ),
        ("none.csv", table("x,y", 500, |_, [x, y]| format!("{x:?},{y:?}"))[4..].to_owned(), ""),
        ("notes.csv", format!("# of 2026\n{plain}# 1, 2 and 3\n"), ""),
        ("commented.csv", format!("{plain}#1,2\n# 3,4\n"), "2 line(s) of numbers begin with '#'"),
    ] {
        fs::write(place.path(name), text).unwrap();
        let found = place.json(&format!("fit {name} -k 2"));
        for key in ["n_points", "dim", "weights", "log_likelihood"] {
            assert_eq!(found[key], expected[key], "{name} {key}");
        }
        let (_, notes) = place.succeed(&format!("fit {name} -k 2 -o model.json"));
        assert!(notes.contains(told) && notes.is_empty() == told.is_empty(), "{name}: {notes}");
        place.succeed(&format!("predict model.json {name} -o labels.csv"));
        assert_eq!(place.text("labels.csv").lines().count(), 501, "{name}");
    }
    // What was chosen, is.
    let chosen = place.json("fit index.csv -k 2 --columns 0-2 --header yes");
    assert_eq!((&chosen["dim"], &chosen["n_points"]), (&3.into(), &500.into()));
    place.refuse("fit plain.csv -k 2 --header no", "line 1: \"x\" is not a number");
}

#[test]
fn columns_are_matched_by_name_in_every_command() {
    let place = Place::with(&[
        ("xy.csv", &table("x,y", 300, |_, [x, y]| format!("{x:?},{y:?}"))),
        ("yx.csv", &table("extra,y,w,x", 300, |i, [x, y]| format!("{i}.5,{y:?},2,{x:?}"))),
        ("x.csv", &table("x,z", 300, |_, [x, y]| format!("{x:?},{y:?}"))),
        ("twice.csv", &table("x,x", 300, |_, [x, y]| format!("{x:?},{y:?}"))),
    ]);
    for model in ["model.json", "model.safetensors"] {
        place.succeed(&format!("fit xy.csv -k 2 -q -o {model}"));
        let score =
            |file: &str| place.json(&format!("score {model} {file}"))["log_likelihood"].clone();
        assert_eq!(score("xy.csv"), score("yx.csv"));
        place.refuse(
            &format!("score {model} x.csv"),
            "there is no column \"y\", which the model or the first file has",
        );
        for command in ["predict", "predict --proba"] {
            for file in ["xy.csv", "yx.csv"] {
                place.succeed(&format!("{command} -o {file}.out.csv {model} {file}"));
            }
            assert_eq!(place.text("xy.csv.out.csv"), place.text("yx.csv.out.csv"));
        }
        place.succeed(&format!("sample {model} -n 3 -o samples.csv"));
        assert!(place.text("samples.csv").starts_with("x,y\n"));
        let again = place.json(&format!("fit yx.csv --init {model} --max-iter 1"));
        assert_eq!(again["dim"], 2);
        let checked = |file: &str| place.json(&format!("check {model} {file}"))["gap"].clone();
        assert_eq!(checked("xy.csv"), checked("yx.csv"));
        assert!(place.succeed(&format!("info {model}")).0.contains("means of x, y"));
    }
    // Further files are matched to the first.
    let both = place.json("fit xy.csv yx.csv -k 2 --columns x,y");
    assert_eq!((&both["n_points"], &both["dim"]), (&600.into(), &2.into()));
    place.refuse("fit twice.csv -k 2", "several columns are called \"x\"");
    place.refuse("fit xy.csv -k 2 --columns x,u", "there is no column \"u\"");
    assert_eq!(place.json("fit twice.csv -k 2 --drop 1")["dim"], 1);

    // Weights are known by their name too.
    place.succeed("fit yx.csv -k 2 -q --columns x,y,w --weights-column w -o weighted.json");
    assert_eq!(place.json("score weighted.json yx.csv")["total_weight"], 600.0);
    assert_eq!(place.json("score weighted.json xy.csv")["total_weight"], 300.0);
}

#[test]
fn texts_are_levels_that_the_model_keeps() {
    let city = |i: usize| if i.is_multiple_of(2) { "Rome" } else { "New York" };
    let place = Place::with(&[
        ("a.csv", &table("city,x", 300, |i, [x, _]| format!("{},{x:?}", city(i)))),
        ("b.csv", &table("x,city", 300, |i, [x, _]| format!("{x:?},\"{}\"", city(i + 1)))),
        ("new.csv", "x,city\n1.5,Rome\n2.5,Oslo\n"),
    ]);
    let model = "--model categorical:city,gaussian-diag:x -k 2";
    let (report, _) = place.succeed(&format!("fit a.csv {model} -o model.safetensors"));
    assert!(report.contains("2 levels: Rome, New York"), "{report}");
    assert!(report.contains("probabilities of city=Rome, city=New York"), "{report}");
    assert!(report.contains("gaussian-diag means of x"), "{report}");
    let described = place.json("info model.safetensors");
    assert_eq!(described["level_names"]["city"], serde_json::json!(["Rome", "New York"]));
    // Levels are those of the model, whichever comes first.
    let score = |file: &str| place.json(&format!("score model.safetensors {file}"));
    assert!(score("a.csv")["log_likelihood"].as_f64() > score("b.csv")["log_likelihood"].as_f64());
    place.refuse(
        "score model.safetensors new.csv",
        "\"Oslo\" is no level of the model, expected one of Rome, New York",
    );
    let missing = "--unseen missing --missing ignore";
    assert_eq!(place.json(&format!("score model.safetensors new.csv {missing}"))["n_points"], 2);
    // Levels of further files follow those of the first.
    let both = place.json(&format!("fit a.csv b.csv {model}"));
    assert_eq!(both["columns"][0]["levels"], serde_json::json!(["Rome", "New York"]));
    place.refuse("fit a.csv -k 2 --columns city,x", "--model categorical:city");
}

#[test]
fn labels_keep_their_rows_where_points_are_left_out() {
    let hole = |i: usize, [x, y]: [f64; 2]| {
        if i % 10 == 3 { format!("{x:?},") } else { format!("{x:?},{y:?}") }
    };
    let place = Place::with(&[("holes.csv", &table("x,y", 100, hole))]);
    place.refuse(
        "fit holes.csv -k 2",
        "line 5 (\"y\"): missing value; --missing drop leaves such rows out",
    );
    let fitted = place.json("fit holes.csv -k 2 --missing drop -o model.json");
    assert_eq!((&fitted["n_points"], &fitted["n_incomplete"]), (&90.into(), &10.into()));
    assert_eq!(fitted["columns"][1]["missing"], 10);
    assert_eq!(
        place.json("score model.json holes.csv --missing drop -o densities.csv")["n_points"],
        90
    );
    place.succeed("predict model.json holes.csv --missing drop -o labels.csv");
    place.succeed("predict model.json holes.csv --missing drop --append -o rows.csv");
    for name in ["labels.csv", "densities.csv", "rows.csv"] {
        let text = place.text(name);
        let rows: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(rows.len(), 100, "{name}");
        for (i, row) in rows.iter().enumerate() {
            let is_empty = *row == "\"\"" || row.ends_with(",,");
            assert_eq!(is_empty, i % 10 == 3, "{name} {i}: {row}");
        }
    }
    let labels = place.text("labels.csv");
    let rows = place.text("rows.csv");
    assert!(rows.starts_with("x,y,label,probability\n"));
    for ((label, row), line) in
        labels.lines().zip(rows.lines()).zip(place.text("holes.csv").lines()).skip(1)
    {
        assert!(row.starts_with(&format!("{line},{}", label.trim_matches('"'))), "{row}");
    }

    // Holes are filled, and nothing else.
    place
        .succeed("fit holes.csv --model factor-analysis --latent 1 --missing ignore -q -o fa.json");
    place.succeed("reconstruct fa.json holes.csv --missing ignore -o filled.csv");
    place.succeed("reconstruct fa.json holes.csv --missing ignore --all -o all.csv");
    let (filled, all) = (place.text("filled.csv"), place.text("all.csv"));
    assert!(filled.starts_with("x,y\n"));
    let lines = place.text("holes.csv");
    for (i, ((filled, all), line)) in
        filled.lines().zip(all.lines()).zip(lines.lines()).enumerate().skip(1)
    {
        assert_eq!(filled == line, i % 10 != 4, "{filled} {line}");
        assert!(filled.starts_with(line) && all != line, "{filled} {line}");
    }
}

#[test]
fn a_quote_that_is_not_closed_costs_its_line_alone() {
    let text =
        table(
            "x,y",
            500,
            |i, [x, y]| if i == 3 { format!("{x:?},\"{y:?}") } else { format!("{x:?},{y:?}") },
        );
    let place = Place::with(&[("open.csv", &text)]);
    place.refuse("fit open.csv -k 2", "line 5: a quote opens here and is not closed");
    for epochs in [1, 5] {
        let stream = format!("--batch-size 50 --epochs {epochs} --on-bad-row skip");
        let fitted = place.json(&format!("fit open.csv -k 2 {stream}"));
        assert_eq!(fitted["n_points"], 499);
        let warnings = fitted["warnings"].to_string();
        assert!(warnings.contains("1 line skipped"), "{warnings}");
    }
}

#[test]
fn streams_are_files() {
    let text = table("x,y", 100, |_, [x, y]| format!("{x:?},{y:?}"));
    let place = Place::with(&[("xy.csv", &text)]);
    place.succeed("fit xy.csv -k 2 -q -o model.json");
    let (done, fitted, err) = place.run_on("fit - -k 2 --json", &text);
    assert!(done, "{err}");
    let fitted: Value = serde_json::from_str(&fitted).unwrap();
    assert_eq!(fitted["n_points"], 100);
    let (done, labels, err) = place.run_on("predict model.json - -o -", &text);
    assert!(done, "{err}");
    place.succeed("predict model.json xy.csv -o labels.csv");
    assert_eq!(labels, place.text("labels.csv"));
}

/// A file with all that is awkward, in five commands: from the fit to labels beside the rows.
#[test]
fn customers_are_clustered_in_five_commands() {
    let mut random = Uniforms::new(1);
    let mut text = ",city,joined,age,income,visits,weight\n".to_owned();
    for i in 0..400 {
        let (old, city) = (i % 2 == 0, if i % 4 < 2 { "Rome" } else { "Paris" });
        let age = if old { 60.0 } else { 30.0 } + 4.0 * random.normal();
        let income = if i % 50 == 7 {
            "NA".to_owned()
        } else {
            format!("{:.1}", 20.0 + age + random.normal())
        };
        let visits = if old { 9 } else { 1 } + i % 3;
        let _ = writeln!(
            text,
            "{i},{city},2020-01-{:02},{age:.2},{income},{visits},{}",
            i % 28 + 1,
            1 + i % 2
        );
    }
    let place = Place::with(&[("customers.csv", &text)]);
    let (report, notes) = place.succeed(
        "fit customers.csv --model gaussian-diag:age+income,poisson:visits,categorical:city -k 2 --missing ignore \
         --weights-column weight --seed 1 -o customers.json --plot-clusters fitted.svg",
    );
    assert!(place.text("fitted.svg").contains("component 1"));
    for expected in [
        "gaussian-diag:age+income,poisson:visits,categorical:city, 2 components",
        "left out: row index",
        "left out: text",
        "2 levels: Rome, Paris",
        "weights",
        "400 of dimension 4",
    ] {
        assert!(report.contains(expected), "{expected}: {report}");
    }
    assert!(notes.contains("\"joined\""), "{notes}");
    place.succeed("info customers.json");
    place.succeed("plot customers.json customers.csv --missing ignore -o customers.svg");
    let picture = place.text("customers.svg");
    for expected in ["age", "visits", "component 0", "component 1"] {
        assert!(picture.contains(expected), "{expected}");
    }
    assert_eq!(
        place.json("score customers.json customers.csv --missing ignore")["total_weight"],
        600.0
    );
    place.succeed("predict customers.json customers.csv --missing ignore --append -o labelled.csv");
    let labelled = place.text("labelled.csv");
    assert_eq!(
        labelled.lines().next().unwrap(),
        ",city,joined,age,income,visits,weight,label,probability"
    );
    let labels: Vec<&str> =
        labelled.lines().skip(1).map(|row| row.rsplit(',').nth(1).unwrap()).collect();
    assert_eq!(labels.len(), 400);
    assert!(
        labels.iter().enumerate().all(|(i, label)| *label == labels[i % 2])
            && labels[0] != labels[1]
    );
}
