//! Sigmoid belief networks by minibatches: stepwise and incremental EM over exact posteriors.

use crate::common;

use common::{Uniforms, causes, drawn, fit_minibatches, rounded};
use entropysum::Executor;
use entropysum::Scalar;
use entropysum::data::{BadRows, Points};
use entropysum::em::{self, Config, Fit, SbnSpec, StepSize, StreamAlgorithm, StreamConfig};
use entropysum::expert::em::Stepwise;
use entropysum::expert::model::GenerativeModel;
use entropysum::expert::stats::SuffStats;
use entropysum::expert::{Sweeper, start_sbn};
use entropysum::family::Regularization;
use entropysum::inference;
use entropysum::model::{LatentPosterior, Layer, SigmoidBeliefNet};
use entropysum::monitor::Silent;

const DIM: usize = 12;

fn start(x: &[f64], hidden: bool, posterior: LatentPosterior, ridge: f64) -> SigmoidBeliefNet {
    let spec = SbnSpec { ridge, ..SbnSpec::new(if hidden { 2 } else { 4 }) };
    let spec = if hidden { spec.with_hidden(4) } else { spec }.with_posterior(posterior);
    start_sbn(&spec, &Points::from_rows(x, DIM).unwrap(), 3, 0).unwrap()
}

/// Statistics of a batch.
fn sweep(net: &SigmoidBeliefNet, x: &[f64]) -> SuffStats {
    let points = Points::from_rows(x, DIM).unwrap();
    Sweeper::new(&points, &Executor::new(Some(1)).unwrap()).sweep(net).unwrap()
}

fn squares(net: &SigmoidBeliefNet) -> f64 {
    let layers = net.hidden().into_iter().chain([net.observables()]);
    layers.flat_map(Layer::weights).map(|w| w * w).sum()
}

/// The entropy sum is the mean of all batches' bounds at the parameters of now, each with the posteriors it had.
#[test]
fn the_entropy_sum_is_the_smoothed_surrogate_at_every_step() {
    let x = drawn(&causes(false), 1_600, 1);
    for (hidden, posterior, ridge) in [
        (false, LatentPosterior::Exact, 0.0),
        (false, LatentPosterior::Exact, 1e-3),
        (true, LatentPosterior::Exact, 0.0),
    ] {
        let net = start(&x, hidden, posterior, ridge);
        let steps = StepSize::default();
        let mut learner = Stepwise::new(net, steps, Regularization::default()).unwrap();
        let mut batches: Vec<(f64, SuffStats)> = Vec::new();
        for (k, rows) in x.chunks(100 * DIM).enumerate() {
            let stats = sweep(learner.model(), rows);
            let step = learner.absorb(stats.clone()).unwrap();
            let gamma = steps.at(k as u64 + 1);
            assert_eq!(step.step_size, gamma);
            batches.iter_mut().for_each(|(weight, _)| *weight *= 1.0 - gamma);
            batches.push((gamma, stats));
            let model = learner.model();
            let surrogate: f64 =
                batches.iter().map(|(weight, stats)| weight * model.lower_bound(stats)).sum();
            let (bound, sum) = (learner.lower_bound().unwrap(), step.entropy_sum.total());
            assert!((bound - surrogate).abs() < 1e-11, "step {k}: {bound} {surrogate}");
            // The ridge takes its part, exactly.
            let gap = ridge * squares(model);
            assert!((bound - sum - gap).abs() < 1e-10, "step {k}: {bound} {sum} {gap}");
        }
        let evidence = |stats: &SuffStats| stats.log_evidence() / stats.total_weight();
        let learned = evidence(&sweep(learner.model(), &x[..100 * DIM]));
        assert!(learned > evidence(&batches[0].1), "{learned}");
    }
}

fn stream_config(algorithm: StreamAlgorithm) -> StreamConfig {
    StreamConfig::default().algorithm(algorithm).batch_size(100).epochs(8).memory(1 << 17)
}

fn fit_stream<T: Scalar>(
    net: SigmoidBeliefNet,
    x: &[f64],
    threads: usize,
    stream: &StreamConfig,
) -> Fit<SigmoidBeliefNet> {
    let narrow: Vec<T> = rounded(x);
    let points = Points::from_rows(&narrow, DIM).unwrap();
    let executor = Executor::new(Some(threads)).unwrap();
    let config = Config::default().tol(1e-6);
    fit_minibatches(&net, &points, &executor, &config, stream).unwrap()
}

#[test]
fn minibatches_reach_what_batch_em_reaches_and_incremental_fits_rise() {
    let x = drawn(&causes(false), 2_000, 4);
    let all = Points::from_rows(&x, DIM).unwrap();
    let executor = Executor::new(Some(2)).unwrap();
    for hidden in [false, true] {
        let net = start(&x, hidden, LatentPosterior::Exact, 0.0);
        let config = Config::default().max_iter(400).tol(1e-7);
        let spec = SbnSpec::from_model(net.clone());
        let batch = em::fit(&spec, &all, &executor, &config, &mut Silent).unwrap();
        let best = inference::score(&batch.model, &all, &executor).unwrap().log_likelihood;
        for algorithm in [StreamAlgorithm::Stepwise, StreamAlgorithm::Incremental] {
            let config = stream_config(algorithm).epochs(60);
            let fit = fit_stream::<f64>(net.clone(), &x, 2, &config);
            for record in &fit.history.records {
                assert!(record.gap().abs() < 1e-9, "{algorithm:?}: {:e}", record.gap());
            }
            if algorithm == StreamAlgorithm::Incremental {
                for pair in fit.history.records.windows(2) {
                    let rise = pair[1].entropy_sum.total() - pair[0].entropy_sum.total();
                    assert!(rise > -1e-10, "{rise:e}");
                }
            }
            let found = inference::score(&fit.model, &all, &executor).unwrap().log_likelihood;
            assert!(found > best - 0.02, "{hidden} {algorithm:?}: {found} {best}");
        }
    }
}

#[test]
fn what_cannot_be_streamed_is_told() {
    let mut x = drawn(&causes(false), 500, 6);
    let executor = Executor::new(Some(1)).unwrap();
    let config = Config::default();
    let net = start(&x, false, LatentPosterior::Exact, 0.0);
    let truncated = LatentPosterior::Truncated { states: 4 };
    let of_states = net.clone().with_posterior(truncated).unwrap();
    let all = Points::from_rows(&x, DIM).unwrap();
    let settings = stream_config(StreamAlgorithm::Stepwise);
    let fault = fit_minibatches(&of_states, &all, &executor, &config, &settings).unwrap_err();
    let fault = fault.to_string();
    assert!(fault.contains("truncated posteriors") && fault.contains("SbnSpec"), "{fault}");
    let fault = entropysum::em::fit(&of_states, &all, &executor, &config, &mut Silent).unwrap_err();
    assert!(fault.to_string().contains("truncated posteriors"), "{fault}");

    x[400 * DIM + 2] = 0.5;
    let all = Points::from_rows(&x, DIM).unwrap().named("bits");
    for algorithm in [StreamAlgorithm::Stepwise, StreamAlgorithm::Incremental] {
        let settings = stream_config(algorithm).epochs(1);
        let fault = fit_minibatches(&net, &all, &executor, &config, &settings);
        let fault = fault.unwrap_err().to_string();
        assert!(fault.starts_with("bits: row 400, column 2: the value is 0.5"), "{fault}");
        let settings = settings.bad_rows(BadRows::Skip);
        let fit = fit_minibatches(&net, &all, &executor, &config, &settings).unwrap();
        assert!(fit.warnings.iter().any(|it| it.starts_with("1 row ")), "{:?}", fit.warnings);
    }
}

/// Pixels without exceptions, rows without ones, and latents that nothing needs.
#[test]
fn constant_pixels_and_empty_rows_leave_numbers_in_streams_of_both_precisions() {
    fn holds<T: Scalar>(x: &[f64], hidden: bool, algorithm: StreamAlgorithm) {
        let net = start(x, hidden, LatentPosterior::Exact, 0.0);
        let fit = fit_stream::<T>(net, x, 2, &stream_config(algorithm));
        let records = &fit.history.records;
        assert!(!records.is_empty());
        for record in records {
            assert!(record.lower_bound.is_finite() && record.gap().abs() < 1e-8, "{record:?}");
        }
        for name in ["prior", "weights", "biases"] {
            let values = fit.model.parameter(name).unwrap();
            assert!(values.iter().all(|v| v.is_finite() && v.abs() < 1e3), "{name} {values:?}");
        }
    }
    let mut u = Uniforms::new(8);
    let some: Vec<f64> = (0..600)
        .flat_map(|i| {
            let rest = |_| if i % 2 == 0 { 0.0 } else { f64::from(u8::from(u.next() < 0.4)) };
            [vec![0.0, 1.0], (2..DIM).map(rest).collect()].concat()
        })
        .collect();
    for x in [some, vec![0.0; 300 * DIM]] {
        for hidden in [false, true] {
            for algorithm in [StreamAlgorithm::Stepwise, StreamAlgorithm::Incremental] {
                holds::<f64>(&x, hidden, algorithm);
                holds::<f32>(&x, hidden, algorithm);
            }
        }
    }
}

#[cfg(feature = "cli")]
#[test]
fn on_the_command_line_networks_stream_stop_and_resume() {
    use entropysum::data::{Dtype, NpyWriter};
    use std::process::Command;

    let folder = tempfile::tempdir().unwrap();
    let mut writer = NpyWriter::create(folder.path().join("x.npy"), Dtype::F32, Some(DIM)).unwrap();
    writer.write(&drawn(&causes(false), 3_000, 9)).unwrap();
    writer.finish().unwrap();
    let run = |arguments: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_entropysum"));
        let output =
            command.args(arguments.split_whitespace()).current_dir(&folder).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), text, String::from_utf8(output.stdout).unwrap())
    };
    for (kind, algorithm) in [
        ("--model sbn --latent 4 --ridge 1e-3", "stepwise"),
        ("--model sbn --latent 4 --posterior exact", "incremental"),
        ("--model sbn3 --latent 2,4", "stepwise"),
    ] {
        let fit = format!(
            "fit x.npy {kind} --algorithm {algorithm} --batch-size 100 --epochs 4 --polish 1 --tol 0 -q"
        );
        let (done, text, _) = run(&format!("{fit} -o whole.safetensors"));
        assert!(done, "{text}");
        // Each process is given next to no time, and does a step or two all the same.
        let checkpoint = "--checkpoint state --resume -o part.safetensors";
        for _ in 0..3 {
            let (_, text, _) = run(&format!("{fit} {checkpoint} --max-seconds 0.000001"));
            assert!(folder.path().join("state").exists(), "{text}");
        }
        let (done, text, _) = run(&format!("{fit} {checkpoint} --threads 1"));
        assert!(done, "{text}");
        let read = |name| std::fs::read(folder.path().join(name)).unwrap();
        assert!(read("part.safetensors") == read("whole.safetensors"), "{kind}");
        std::fs::remove_file(folder.path().join("state")).unwrap();
    }
    // A file keeps the ridge, in both formats.
    assert!(run("fit x.npy --model sbn --latent 4 --ridge 0.25 --max-iter 2 -o r.json -q").0);
    let (_, _, text) = run("info r.json --json");
    assert!(text.contains("\"ridge\":0.25"), "{text}");

    let refused = |arguments: &str, expected: &str| {
        let (done, text, _) = run(&format!("fit x.npy --model sbn --latent 4 {arguments} -q"));
        assert!(!done && text.contains(expected), "{arguments}: {text}");
    };
    refused("--posterior truncated --algorithm incremental", "or --posterior exact");
    refused("--checkpoint state --n-init 2", "--n-init 2 asks for several");
    assert!(run("fit x.npy --model sbn --latent 4 --batch-size 100 --n-init 3 -q").0);

    // A row that is none: left out of the start too, under exact and truncated posteriors.
    let rows: Vec<String> = drawn(&causes(false), 60, 9)
        .chunks(DIM)
        .map(|row| format!("{row:?}").replace(['[', ']'], ""))
        .collect();
    let text = format!("{}\n{}\n", rows.join("\n"), ["0.5"; DIM].join(","));
    std::fs::write(folder.path().join("bad.csv"), text).unwrap();
    for posterior in ["exact", "truncated"] {
        let fit = format!(
            "fit bad.csv --model sbn --latent 3 --posterior {posterior} --batch-size 20 --epochs 2"
        );
        let (done, text, _) = run(&fit);
        assert!(!done && text.contains("row 60, column 0: the value is 0.5"), "{text}");
        let (done, text, _) = run(&format!("{fit} --on-bad-row skip"));
        assert!(done && text.contains("1 row skipped: "), "{text}");
    }
}
