//! Sigmoid belief networks with truncated posteriors by minibatches: sets of states that outlive visits, in memory and on the disk.

use crate::common;

use common::{Uniforms, causes, drawn, fit_minibatches, resumed, rounded, told};
use entropysum::Executor;
use entropysum::Scalar;
use entropysum::data::{BadRows, Points};
use entropysum::em::{self, Config, Fit, Fitting, SbnSpec, StreamAlgorithm, StreamConfig};
use entropysum::expert::start_sbn;
use entropysum::inference;
use entropysum::model::{LatentPosterior, SigmoidBeliefNet};
use entropysum::monitor::{IterRecord, Silent};
use entropysum::store;
use std::ops::ControlFlow;
use std::path::Path;

const DIM: usize = 12;
const TRUNCATED: LatentPosterior = LatentPosterior::Truncated { states: 6 };

fn start(x: &[f64], hidden: bool, ridge: f64) -> SigmoidBeliefNet {
    let spec = SbnSpec { ridge, ..SbnSpec::new(if hidden { 2 } else { 5 }) };
    let spec = if hidden { spec.with_hidden(4) } else { spec }.with_posterior(TRUNCATED);
    start_sbn(&spec, &Points::from_rows(x, DIM).unwrap(), 3, 0).unwrap()
}

/// Minibatches of 100 points, windows of a few of them, and most sets on the disk.
fn tight() -> StreamConfig {
    StreamConfig::default().batch_size(100).epochs(6).memory(1 << 16)
}

fn run<T: Scalar>(
    net: SigmoidBeliefNet,
    x: &[f64],
    weights: Option<&[f64]>,
    threads: usize,
    stream: &StreamConfig,
) -> Fit<SigmoidBeliefNet> {
    let values: Vec<T> = rounded(x);
    let mut points = Points::from_rows(&values, DIM).unwrap();
    if let Some(weights) = weights {
        points = points.with_weights(weights.to_vec()).unwrap();
    }
    let executor = Executor::new(Some(threads)).unwrap();
    let config = Config::default().tol(1e-6);
    let spec = SbnSpec::from_random(net);
    fit_minibatches(&spec, &points, &executor, &config, stream).unwrap()
}

/// With all points in one minibatch, a record's log-evidence is that of the parameters before on the sets of now. It would fall
/// below the bound of the record before if a point met the set of another, in whatever order points come and wherever sets are.
#[test]
fn the_bound_of_the_visited_points_never_falls_in_their_e_step_also_with_sets_on_the_disk() {
    let x = drawn(&causes(false), 700, 1);
    let weights: Vec<f64> = (0..700).map(|i| 0.5 + (i % 3) as f64).collect();
    for hidden in [false, true] {
        let mut found = Vec::new();
        for memory in [0, 1 << 15, 1 << 26] {
            let config = StreamConfig::default().batch_size(700).epochs(30).memory(memory);
            let fit = run::<f64>(start(&x, hidden, 0.0), &x, Some(&weights), 2, &config);
            let records = &fit.history.records;
            assert!(records.len() >= 20, "{}", records.len());
            for pair in records.windows(2) {
                let (before, after) = (&pair[0], &pair[1]);
                assert!(after.log_likelihood >= before.lower_bound - 1e-11, "{before:?} {after:?}");
                assert!(after.lower_bound >= after.log_likelihood - 1e-11, "{after:?}");
            }
            let [first, last] = [0, records.len() - 1].map(|k| records[k].lower_bound);
            assert!(last > first + 0.3, "{first} to {last}");
            found.push(told(&fit));
        }
        // One window holds all points whatever the memory: so only the place of the sets differs.
        assert!(found[0] == found[1] && found[0] == found[2]);
    }
}

#[test]
fn sets_go_to_the_disk_when_memory_is_short_and_leave_no_trace_there() {
    let x = drawn(&causes(false), 700, 1);
    let folder = tempfile::tempdir().unwrap();
    let all = Points::from_rows(&x, DIM).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let run = |memory, folder: &Path| {
        Fitting::new(&all, &executor)
            .minibatches(&tight().memory(memory).epochs(1))
            .spill_folder(folder)
            .fit(&SbnSpec::from_random(start(&x, false, 0.0)))
    };
    // Six states of one word for each of 700 points: how many bytes are on the disk is tested beside the code.
    assert!(run(0, folder.path()).is_ok() && run(48 * 2 * 100, folder.path()).is_ok());
    assert!(run(1 << 20, &folder.path().join("nowhere")).is_ok());
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    let fault = run(0, &folder.path().join("nowhere")).unwrap_err().to_string();
    assert!(fault.contains("nowhere") && fault.contains("states of points"), "{fault}");
}

/// Batch EM sees all points in each M-step; a stream ends with M-steps over as many minibatches as an epoch has.
#[test]
fn truncated_streams_reach_what_batch_em_reaches_and_recover_planted_causes() {
    let x = drawn(&causes(false), 1_200, 4);
    let all = Points::from_rows(&x, DIM).unwrap();
    let executor = Executor::new(Some(2)).unwrap();
    let spec = SbnSpec::new(5).with_posterior(LatentPosterior::Truncated { states: 10 });
    let config = Config::default().max_iter(200).tol(1e-6).n_init(3);
    let batch = em::fit(&spec, &all, &executor, &config, &mut Silent).unwrap();
    let best = inference::score(&batch.model, &all, &executor).unwrap().log_likelihood;
    let begin = |run| start_sbn(&spec, &all, 3, run).unwrap();
    let config = tight().epochs(30).batch_size(150);
    let scored = (0..3).map(|k| {
        let fit = run::<f64>(begin(k), &x, None, 2, &config);
        // Parameters that a minibatch more or less hardly moves: the bound of the points remembered is that of all.
        let score = inference::score(&fit.model, &all, &executor).unwrap().log_likelihood;
        let last = fit.last().unwrap().lower_bound;
        assert!((last - score).abs() < 0.05, "{last} {score}");
        (score, fit)
    });
    let (score, fit) = scored.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    assert!(score > best - 0.02, "{score} {best}");
    let weights = fit.model.parameter("weights").unwrap();
    for cause in 0..4 {
        // A latent may stand for the absence of a cause.
        let alone = (0..10).any(|k| {
            let (h, sign) = (k / 2, if k % 2 == 0 { 1.0 } else { -1.0 });
            (0..DIM).all(|d| (sign * weights[d * 5 + h] > 2.5) == (d / 3 == cause))
        });
        assert!(alone, "cause {cause} in {weights:.1?}");
    }
}

#[test]
fn a_stream_from_a_given_network_keeps_what_it_knows() {
    let x = drawn(&causes(false), 1_500, 4);
    let all = Points::from_rows(&x, DIM).unwrap();
    let executor = Executor::new(Some(2)).unwrap();
    let spec = SbnSpec::new(5).with_posterior(TRUNCATED);
    let config = Config::default().max_iter(80);
    let learned = em::fit(&spec, &all, &executor, &config, &mut Silent).unwrap();
    let score =
        |net: &SigmoidBeliefNet| inference::score(net, &all, &executor).unwrap().log_likelihood;
    let mut records: Vec<f64> = Vec::new();
    let mut observer = |record: &IterRecord| {
        records.push(record.log_likelihood);
        ControlFlow::Continue(())
    };
    let fit = Fitting::new(&all, &executor)
        .config(&config)
        .minibatches(&tight())
        .observer(&mut observer)
        .fit(&SbnSpec::from_model(learned.model.clone()))
        .unwrap();
    let before = score(&learned.model);
    assert!(score(&fit.model) > before - 0.01, "{before}");
    // Minibatches of 100 points differ by their sampling alone: a standard deviation of about 0.1 for each.
    assert!(records.iter().all(|l| *l > before - 0.5), "{before} {records:?}");
}

#[test]
fn a_ridge_leaves_its_part_in_the_gap() {
    let x = drawn(&causes(false), 1_000, 6);
    let config = tight().batch_size(1_000).epochs(120);
    let ridge = 1e-2;
    let fit = run::<f64>(start(&x, false, ridge), &x, None, 1, &config);
    let squares: f64 = fit.model.observables().weights().iter().map(|w| w * w).sum();
    let gap = fit.last().unwrap().gap();
    // One Newton step after another ends at the maximum; sets may still find a better state now and then.
    assert!((gap - ridge * squares).abs() < 1e-3 * gap, "{gap} {}", ridge * squares);
}

#[test]
fn damaged_checkpoints_and_those_of_other_fits_are_refused() {
    let x = drawn(&causes(false), 300, 5);
    let all = Points::from_rows(&x, DIM).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let (config, settings) = (Config::default(), tight());
    let spec = SbnSpec::from_random(start(&x, false, 0.0));
    let (_, whole) = resumed(&spec, &all, &executor, &config, Some(&settings), 5);
    let file = tempfile::NamedTempFile::new().unwrap();
    let resume =
        |bytes: &[u8], points: &Points<'_, f64>, settings: &StreamConfig, spec: &SbnSpec| {
            std::fs::write(&file, bytes).unwrap();
            let saved = store::load_checkpoint(&file)?;
            Fitting::new(points, &executor)
                .config(&config)
                .minibatches(settings)
                .resume(saved)
                .fit(spec)
        };
    assert!(resume(&whole, &all, &settings, &spec).is_ok());
    for cut in [0, 7, 24, 100, whole.len() / 2, whole.len() - 1] {
        let fault = resume(&whole[..cut], &all, &settings, &spec).unwrap_err().to_string();
        assert!(fault.starts_with(file.path().to_str().unwrap()), "{cut}: {fault}");
    }
    // A bit of the sets, which come last, is read over by no one.
    let mut damaged = whole.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let fault = resume(&damaged, &all, &settings, &spec).unwrap_err().to_string();
    assert!(fault.contains("damaged checkpoint"), "{fault}");

    let more = Points::from_rows(&x[..200 * DIM], DIM).unwrap();
    let slower = settings.clone().batch_size(50);
    let exact = start(&x, false, 0.0).with_posterior(LatentPosterior::Exact).unwrap();
    let exact = SbnSpec::from_model(exact);
    for (fault, said) in [
        (resume(&whole, &more, &settings, &spec), "n_points 300 there and 200 here"),
        (resume(&whole, &all, &slower, &spec), "batch_size 100 there and 50 here"),
        (resume(&whole, &all, &settings, &exact), "random start"),
    ] {
        let fault = fault.unwrap_err().to_string();
        assert!(fault.contains("of another fit") && fault.contains(said), "{fault}");
    }
    // A checkpoint of exact posteriors has no sets.
    let (_, of_exact) = resumed(&exact, &all, &executor, &config, Some(&settings), 2);
    let fault = resume(&of_exact, &all, &settings, &spec).unwrap_err().to_string();
    assert!(fault.contains("of another fit"), "{fault}");
}

#[test]
fn what_truncated_posteriors_cannot_stream_is_told() {
    let mut x = drawn(&causes(false), 500, 6);
    let executor = Executor::new(Some(2)).unwrap();
    let config = Config::default();
    let net = start(&x, false, 0.0);
    let fault = |net: &SigmoidBeliefNet, x: &[f64], settings: &StreamConfig| {
        let all = Points::from_rows(x, DIM).unwrap().named("bits");
        let fit =
            fit_minibatches(&SbnSpec::from_random(net.clone()), &all, &executor, &config, settings);
        fit.unwrap_err().to_string()
    };
    let incremental = tight().algorithm(StreamAlgorithm::Incremental);
    assert!(fault(&net, &x, &incremental).contains("use stepwise EM"));
    assert!(fault(&net, &x, &tight().polish(2)).contains("closing iterations"));
    x[400 * DIM + 2] = 0.5;
    x[450 * DIM + 1] = f64::NAN;
    for settings in [tight(), tight().shuffle(false)] {
        let text = fault(&net, &x, &settings);
        let places = [
            "bits: row 400, column 2: the value is 0.5",
            "bits: row 450, column 1: the value is NaN",
        ];
        assert!(places.iter().any(|place| text.starts_with(place)), "{text}");
        let all = Points::from_rows(&x, DIM).unwrap();
        let settings = settings.bad_rows(BadRows::Skip).epochs(2);
        let spec = SbnSpec::from_random(net.clone());
        let fit = fit_minibatches(&spec, &all, &executor, &config, &settings).unwrap();
        assert!(fit.warnings.iter().any(|it| it.starts_with("2 rows")), "{:?}", fit.warnings);
    }
    let all = Points::from_rows(&x[..100 * DIM], DIM).unwrap();
    let all = all.with_weights(vec![0.0; 100]);
    if let Ok(all) = all {
        let spec = SbnSpec::from_random(net);
        let fit = fit_minibatches(&spec, &all, &executor, &config, &tight());
        assert!(fit.unwrap_err().to_string().contains("weights of all points"));
    }
}

/// Pixels without exceptions, rows without ones, one point, and batches larger than everything.
#[test]
fn constant_pixels_empty_rows_and_single_points_leave_numbers_in_truncated_streams() {
    fn holds<T: Scalar>(x: &[f64], hidden: bool) {
        let config = tight().epochs(4);
        let fit = run::<T>(start(x, hidden, 0.0), x, None, 1, &config);
        assert!(!fit.history.records.is_empty());
        for record in &fit.history.records {
            assert!(record.lower_bound.is_finite() && record.gap().is_finite(), "{record:?}");
        }
        for name in ["prior", "weights", "biases"] {
            let values = fit.model.parameter(name).unwrap();
            assert!(values.iter().all(|v| v.is_finite() && v.abs() < 1e3), "{name} {values:?}");
        }
    }
    let mut u = Uniforms::new(8);
    let some: Vec<f64> = (0..300)
        .flat_map(|i| {
            let rest = |_| if i % 2 == 0 { 0.0 } else { f64::from(u8::from(u.next() < 0.4)) };
            [vec![0.0, 1.0], (2..DIM).map(rest).collect()].concat()
        })
        .collect();
    for x in [&some[..], &[0.0; 250 * DIM], &[1.0; 3 * DIM], &some[DIM..2 * DIM]] {
        for hidden in [false, true] {
            holds::<f64>(x, hidden);
            holds::<f32>(x, hidden);
        }
    }
}

#[cfg(all(feature = "cli", unix))]
#[test]
fn on_the_command_line_truncated_posteriors_stream_and_are_resumed_after_a_kill() {
    use entropysum::data::{Dtype, NpyWriter};
    use std::process::{Command, Stdio};

    let folder = tempfile::tempdir().unwrap();
    let mut writer = NpyWriter::create(folder.path().join("x.npy"), Dtype::F32, Some(DIM)).unwrap();
    writer.write(&drawn(&causes(false), 3_000, 9)).unwrap();
    writer.finish().unwrap();
    let command = |arguments: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_entropysum"));
        command.args(arguments.split_whitespace()).current_dir(&folder);
        command
    };
    let run = |arguments: &str| {
        let output = command(arguments).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let mut u = Uniforms::new(2);
    for kind in ["--model sbn --latent 5 --ridge 1e-3", "--model sbn3 --latent 2,4"] {
        let fit = format!(
            "fit x.npy {kind} --posterior truncated --states 6 --batch-size 150 --epochs 12 --memory 64K --tol 0 -q"
        );
        let (done, text) = run(&format!("{fit} -o whole.safetensors"));
        assert!(done, "{text}");
        let state = folder.path().join("state");
        let mut kills = 0;
        let mut attempts = 0;
        while kills < 8 || !state.exists() {
            attempts += 1;
            assert!(attempts < 200, "{kills} kills");
            let threads = 1 + attempts % 2;
            let mut child = command(&format!(
                "{fit} --checkpoint state --checkpoint-every 0.005 --resume --threads {threads} -o part.safetensors"
            ))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
            std::thread::sleep(std::time::Duration::from_micros((150_000.0 * u.next()) as u64));
            child.kill().unwrap();
            if child.wait().unwrap().success() {
                std::fs::remove_file(&state).unwrap();
            } else {
                kills += 1;
            }
        }
        let (done, text) = run(&format!("{fit} --checkpoint state --resume -o part.safetensors"));
        assert!(done, "{text}");
        let read = |name| std::fs::read(folder.path().join(name)).unwrap();
        assert!(read("part.safetensors") == read("whole.safetensors"), "{kind}");
        // Another number of states is another fit.
        let other = fit.replace("--states 6", "--states 7");
        let (done, text) = run(&format!("{other} --checkpoint state --resume"));
        assert!(!done && text.contains("another fit"), "{text}");
        std::fs::remove_file(&state).unwrap();
    }
    let refused = |arguments: &str, expected: &str| {
        let fit = "fit x.npy --model sbn --latent 40 --posterior truncated";
        let (done, text) = run(&format!("{fit} {arguments} -q"));
        assert!(!done && text.contains(expected), "{arguments}: {text}");
    };
    refused("--algorithm incremental", "use --algorithm stepwise");
    refused("--batch-size 100 --polish 3", "leave it out");
    refused("--batch-size 100 --checkpoint nowhere/state --memory 64K", "nowhere");
}
