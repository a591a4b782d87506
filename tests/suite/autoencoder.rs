//! Variational autoencoders and sparse codes: known maxima, bits, interruptions, and points that break naive learners. Golden values
//! are beside the code, in `src/model/autoencoder/tests.rs`.

use crate::common::{Uniforms, clusters, fit_minibatches, resumed, rounded, told};
use entropysum::data::{self, OpenOptions, Points};
use entropysum::em::{self, AutoencoderSpec, Config, Fitting, LearningRateSchedule};
use entropysum::em::{LinearGaussianSpec, StreamConfig};
use entropysum::expert::criterion;
use entropysum::expert::model::GenerativeModel;
use entropysum::expert::store::Stored;
use entropysum::model::{Activation, LatentPrior, Layer, Noise, VariationalAutoencoder};
use entropysum::monitor::{Silent, StopReason};
use entropysum::{Executor, inference, store};
use std::time::Duration;

fn one_thread() -> Executor {
    Executor::new(Some(1)).unwrap()
}

/// Points about a curve in three dimensions.
fn curve(n: usize) -> Vec<f64> {
    let mut u = Uniforms::new(5);
    let point = |_| {
        let t = 2.0 * u.normal();
        [t, (1.5 * t).sin(), 0.3 * t * t].map(|value| value + 0.1 * u.normal())
    };
    (0..n).flat_map(point).collect()
}

fn small_mlp() -> AutoencoderSpec {
    AutoencoderSpec::new(2).hidden(vec![8, 6]).learning_rate(0.01)
}

fn minibatches() -> StreamConfig {
    StreamConfig::default().batch_size(100).epochs(6)
}

fn load(name: &str) -> Vec<Vec<f64>> {
    let path = format!("{}/data/{name}", env!("CARGO_MANIFEST_DIR"));
    let points = data::load(&*data::open::<f64>(&path, &OpenOptions::default()).unwrap()).unwrap();
    points.view().row_iter().map(|row| row.iter().copied().collect()).collect()
}

/// The largest likelihood of p-PCA by its closed form.
fn maximum_of_ppca(points: &Points<'_, f64>, latents: usize) -> f64 {
    let spec = LinearGaussianSpec::ppca(latents);
    let fit = em::fit(&spec, points, &one_thread(), &Config::default(), &mut Silent).unwrap();
    inference::score(&fit.model, points, &one_thread()).unwrap().log_likelihood
}

#[test]
fn linear_autoencoders_reach_the_maximum_likelihood_of_p_pca_from_any_start() {
    let points = Points::owned(load("iris.csv").concat(), 4).unwrap();
    for latents in [1, 2, 3] {
        let maximum = maximum_of_ppca(&points, latents);
        for seed in 0..5 {
            let spec = AutoencoderSpec::linear(latents).learning_rate(0.05);
            let config = Config::default().seed(seed).max_iter(2_000).tol(0.0);
            let fit = em::fit(&spec, &points, &one_thread(), &config, &mut Silent).unwrap();
            let last = fit.last().unwrap();
            let error = maximum - last.lower_bound;
            let what = format!("{latents} latents, seed {seed}: {error:e} short of the maximum");
            assert!((-1e-9..1e-6).contains(&error), "{what}");
            // Nothing is sampled, and both variances are in closed form: entropy sum and bound are one.
            assert!(last.gap().abs() < 1e-11, "{}", last.gap());
            assert_eq!(last.gap_halves.unwrap().sampling_error, 0.0);
            assert_eq!(last.active_components, latents);
            // At the maximum the prior is standard, and scores are log-likelihoods.
            assert_eq!(fit.model.prior_scales(), vec![1.0; latents]);
            let score = inference::score(&fit.model, &points, &one_thread()).unwrap();
            assert!((score.log_likelihood - maximum).abs() < 1e-6, "{score:?}");
            // Decoder and noise of p-PCA, rotations taken off.
            let rotations = latents * (latents - 1) / 2;
            assert_eq!(score.n_parameters, 4 * latents + 4 + 1 - rotations);
        }
    }
}

/// How far a linear autoencoder of the digits with 8 latents is from the maximum likelihood of p-PCA, in nats.
fn short_of_the_maximum(seed: u64, rate: f64, steps: usize) -> f64 {
    const MAXIMUM: f64 = 14.2097883166;
    let values = load("digits.npy").concat().iter().map(|value| value / 16.0).collect();
    let points = Points::owned(values, 64).unwrap();
    let spec = AutoencoderSpec::linear(8).learning_rate(rate);
    let config = Config::default().seed(seed).max_iter(steps).tol(0.0);
    let executor = Executor::new(Some(2)).unwrap();
    let fit = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
    let last = fit.last().unwrap();
    assert!(last.gap().abs() < 1e-11 && last.active_components == 8, "{last:?}");
    MAXIMUM - last.lower_bound
}

/// Eigenvalues of digits are close: the last thousandths of a nat take many thousand steps.
#[test]
fn a_linear_autoencoder_of_digits_comes_near_the_maximum_likelihood_of_p_pca() {
    let error = short_of_the_maximum(0, 0.1, 500);
    assert!((0.0..0.02).contains(&error), "{error}");
}

/// `cargo test --release --features parquet --test suite -- --ignored linear_autoencoders_of_digits`
#[test]
#[ignore = "takes about 17 seconds of a processor for each start, in a release build"]
fn linear_autoencoders_of_digits_reach_the_maximum_likelihood_of_p_pca_from_five_starts() {
    for seed in 0..5 {
        let error = short_of_the_maximum(seed, 0.05, 20_000);
        assert!((-1e-9..1e-6).contains(&error), "seed {seed}: {error:e}");
    }
}

#[test]
fn every_record_tells_both_halves_of_its_gap_and_the_error_of_sampling() {
    let x = curve(2_000);
    let points = Points::from_rows(&x, 3).unwrap();
    let stream = minibatches().epochs(30);
    for noise in Noise::ALL {
        let spec = small_mlp().noise(noise).activation(Activation::Tanh);
        let config = Config::default();
        let fit = fit_minibatches(&spec, &points, &one_thread(), &config, &stream).unwrap();
        for record in &fit.history.records {
            let halves = record.gap_halves.unwrap();
            assert!((record.gap() - halves.prior - halves.noise).abs() < 1e-12);
            // Both variances follow from running sums: the gap closes at once, not only at the end.
            assert!(record.gap().abs() < 1e-12, "{record:?}");
            assert!(halves.sampling_error > 0.0 && halves.sampling_error < 0.5, "{halves:?}");
        }
        // The curve has one dimension: a second latent is not needed.
        let last = fit.last().unwrap();
        assert!(last.lower_bound > fit.history.records[0].lower_bound + 1.0, "{last:?}");
        // The entropy sum of the last steps is an estimate of the bound of the model that is returned.
        let score = inference::score(&fit.model, &points, &one_thread()).unwrap();
        let minibatch = last.minibatch.unwrap();
        let error = (score.log_likelihood - last.entropy_sum.total()).abs();
        assert!(error < 4.0 * minibatch.standard_error, "{error} {minibatch:?}");
        // A standard prior has absorbed its scales.
        assert_eq!(fit.model.prior_scales(), [1.0; 2]);
    }
}

#[test]
fn the_gap_identity_holds_on_new_points() {
    let x = curve(400);
    let points = Points::from_rows(&x, 3).unwrap();
    let config = Config::default().max_iter(20);
    for spec in [
        small_mlp(),
        small_mlp().prior(LatentPrior::Learned).noise(Noise::Diagonal),
        AutoencoderSpec::sparse_coding(2).hidden(vec![4]),
    ] {
        let fit = em::fit(&spec, &points, &one_thread(), &config, &mut Silent).unwrap();
        let other: Vec<f64> = curve(500)[1200..].iter().map(|value| 1.5 * value).collect();
        let other = Points::owned(other, 3).unwrap();
        let gap = criterion::certify_autoencoder(&fit.model, &other, &one_thread()).unwrap();
        assert!(gap.gap() < -0.1, "{gap}"); // these points are wider than the model
        assert!(gap.error().abs() < 1e-8, "{gap}");
    }
}

/// Annealing ends at weight 1, so that a fit with it climbs the bound itself in the end.
#[test]
fn annealing_the_prior_ends_at_the_bound() {
    let x = curve(600);
    let points = Points::from_rows(&x, 3).unwrap();
    let config = Config::default().max_iter(600).tol(0.0);
    let spec = AutoencoderSpec::sparse_coding(3).hidden(vec![8]).learning_rate(0.02);
    let run = |weight: f64| {
        let spec = spec.clone().prior_weight(weight);
        em::fit(&spec, &points, &one_thread(), &config, &mut Silent).unwrap()
    };
    let (plain, annealed) = (run(1.0), run(1.5));
    for fit in [&plain, &annealed] {
        // Both halves of the gap are zero whatever the weight is.
        assert!(fit.history.records.iter().all(|record| record.gap().abs() < 1e-9));
        let score = inference::score(&fit.model, &points, &one_thread()).unwrap();
        let last = fit.last().unwrap().lower_bound;
        assert!((score.log_likelihood - last).abs() < 0.01, "{score:?} {last}");
        assert_eq!(fit.model.prior_scales(), [1.0; 3]);
    }
    let fault = small_mlp().prior_weight(2.0);
    let fault = em::fit(&fault, &points, &one_thread(), &config, &mut Silent).unwrap_err();
    assert!(fault.to_string().contains("needs a linear decoder"), "{fault}");
    // A resumed fit has the prior weights of a fit without a stop.
    let config = Config::default().max_iter(30).tol(0.0);
    let spec = spec.prior_weight(1.5);
    let whole = em::fit(&spec, &points, &one_thread(), &config, &mut Silent).unwrap();
    let (fits, _) = resumed(&spec, &points, &one_thread(), &config, None, 7);
    assert!(fits.iter().all(|fit| told(fit) == told(&whole)));
}

#[test]
fn an_exploding_rate_is_an_error_with_its_step_and_the_last_good_state_is_kept() {
    let x: Vec<f32> = rounded(&curve(300));
    let points = Points::from_rows(&x, 3).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let executor = one_thread();
    let fault = Fitting::new(&points, &executor)
        .minibatches(&minibatches())
        .checkpoints(Duration::MAX, |state| store::save_checkpoint(&path, state))
        .fit(&small_mlp().learning_rate(1e9))
        .unwrap_err()
        .to_string();
    assert!(fault.contains("the bound in step 2 is no finite number"), "{fault}");
    assert!(fault.contains("learning rate 1000000000"), "{fault}");
    let kept = store::load_checkpoint::<VariationalAutoencoder>(&path).unwrap().model;
    let score = inference::score(&kept, &points, &executor).unwrap();
    assert!(score.log_likelihood.is_finite());
}

#[test]
fn a_bad_value_is_named_by_its_row_and_may_be_skipped() {
    let mut x = curve(300);
    x[3 * 123 + 1] = f64::NAN;
    let points = Points::from_rows(&x, 3).unwrap();
    let config = Config::default().max_iter(3);
    let fault = em::fit(&small_mlp(), &points, &one_thread(), &config, &mut Silent).unwrap_err();
    assert!(fault.to_string().contains("row 123, column 1"), "{fault}");
    let skip = minibatches().bad_rows(data::BadRows::Skip);
    let fit = fit_minibatches(&small_mlp(), &points, &one_thread(), &config, &skip).unwrap();
    assert!(fit.warnings.iter().any(|text| text.starts_with("1 row skipped")), "{fit:?}");
}

#[test]
fn points_that_break_naive_learners_give_finite_models() {
    let line: Vec<f64> = (0..200).flat_map(|i| [f64::from(i), 2.0 * f64::from(i), 7.0]).collect();
    let one = vec![3.0, -4.0, 5.0];
    for (what, x) in [("constant column and a line", line), ("one point", one)] {
        let points = Points::from_rows(&x, 3).unwrap();
        for noise in Noise::ALL {
            // More latents than dimensions, too.
            for spec in [small_mlp(), AutoencoderSpec::linear(5), AutoencoderSpec::sparse_coding(5)]
            {
                let spec = spec.noise(noise).learning_rate(0.02);
                let config = Config::default().max_iter(300).tol(0.0);
                let fit = em::fit(&spec, &points, &one_thread(), &config, &mut Silent).unwrap();
                let last = fit.last().unwrap();
                assert!(last.lower_bound.is_finite(), "{what} {noise:?}");
                let variances = fit.model.noise_variances();
                assert!(variances.iter().all(|v| *v > 0.0), "{what} {variances:?}");
                let score = inference::score(&fit.model, &points, &one_thread()).unwrap();
                assert!(score.log_likelihood.is_finite(), "{what} {noise:?}");
            }
        }
    }
    // No noise is left on a line: the floor holds the variance, the gap is what it costs, and the user is told.
    let line: Vec<f64> = (0..200).flat_map(|i| [f64::from(i), 2.0 * f64::from(i)]).collect();
    let points = Points::from_rows(&line, 2).unwrap();
    let spec = AutoencoderSpec::linear(1).learning_rate(0.02);
    let config = Config::default().max_iter(4_000).tol(0.0);
    let fit = em::fit(&spec, &points, &one_thread(), &config, &mut Silent).unwrap();
    assert!(fit.warnings.iter().any(|text| text.contains("stand at their floor")), "{fit:?}");
    let halves = fit.last().unwrap().gap_halves.unwrap();
    assert!(halves.noise > 0.0 && halves.prior.abs() < 1e-12, "{halves:?}");
}

/// Corners of a square have a covariance of equal eigenvalues: p-PCA has no direction to choose.
#[test]
fn a_latent_without_use_is_counted_and_reported() {
    let corners: Vec<f64> = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]].concat();
    let points = Points::from_rows(&corners, 2).unwrap();
    let spec = AutoencoderSpec::linear(1).learning_rate(0.02);
    let config = Config::default().max_iter(1_000).tol(0.0);
    let fit = em::fit(&spec, &points, &one_thread(), &config, &mut Silent).unwrap();
    assert_eq!(fit.last().unwrap().active_components, 0);
    let expected = "1 latent(s) carry nothing: their posteriors are the prior at every point: [0]";
    assert!(fit.warnings.iter().any(|text| text.contains(expected)), "{:?}", fit.warnings);
}

#[test]
fn importance_weighted_scores_rise_from_the_bound_to_the_log_likelihood() {
    let x = clusters(200, 4, 3, 1.0, 2);
    let points = Points::from_rows(&x, 4).unwrap();
    let config = Config::default().max_iter(300).tol(0.0);
    let spec = AutoencoderSpec::linear(2).learning_rate(0.05);
    let mut fit = em::fit(&spec, &points, &one_thread(), &config, &mut Silent).unwrap();
    let tight = inference::score(&fit.model, &points, &one_thread()).unwrap().log_likelihood;
    // Posteriors of twice the variance cost ½ (2 - 1 - ln 2) nats for each latent, and have bounded importance weights.
    let mut parts = fit.model.to_parts();
    let mut biases = parts.encoder[0].biases();
    biases[2..].iter_mut().for_each(|bias| *bias += 2f64.ln());
    parts.encoder[0] = Layer::new(4, &parts.encoder[0].weights(), &biases).unwrap();
    fit.model = VariationalAutoencoder::new(parts).unwrap();
    // The density of a linear autoencoder is that of p-PCA with its dictionary.
    let dictionary = fit.model.dictionary().unwrap();
    let loadings: Vec<f64> = (0..4).flat_map(|d| [dictionary[0][d], dictionary[1][d]]).collect();
    let noise = vec![fit.model.noise_variances()[0]];
    let mut mean = Vec::new();
    let zero = Points::owned(vec![0.0; 4], 4).unwrap();
    inference::reconstruct(&fit.model, &zero, &one_thread(), |_, row| {
        mean = row.to_vec();
        Ok(())
    })
    .unwrap();
    inference::transform(&fit.model, &zero, &one_thread(), |_, z| {
        for d in 0..4 {
            mean[d] -= z[0] * dictionary[0][d] + z[1] * dictionary[1][d];
        }
        Ok(())
    })
    .unwrap();
    let ppca =
        entropysum::model::LinearGaussian::new(Noise::Isotropic, mean, &loadings, noise).unwrap();
    let score = |model: &VariationalAutoencoder| {
        inference::score(model, &points, &one_thread()).unwrap().log_likelihood
    };
    let exact = inference::score(&ppca, &points, &one_thread()).unwrap().log_likelihood;
    let bound = score(&fit.model);
    assert!((tight - bound - (1.0 - 2f64.ln())).abs() < 0.02, "{tight} {bound}");
    let [one, many] =
        [1, 2000].map(|samples| score(&fit.model.clone().with_importance_samples(samples)));
    // A single sample is the bound, but for the noise of 200 points.
    assert!((one - bound).abs() < 0.3 && many - bound > 0.25, "{bound} {one} {many} {exact}");
    assert!((many - exact).abs() < 5e-3, "{many} {exact}");
}

/// Sparse sources in eight dimensions: the dictionary is found up to order and sign.
#[test]
fn sparse_coding_finds_a_planted_dictionary() {
    const DIM: usize = 8;
    const LATENTS: usize = 4;
    let mut u = Uniforms::new(11);
    // Orthonormal columns: the covariance has four equal eigenvalues and tells no direction.
    let sign = |k: u32| if k.count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
    let column = |h: u32| (0..DIM as u32).map(|d| sign(d & h) / 8f64.sqrt()).collect();
    let planted: Vec<Vec<f64>> = (1..=LATENTS as u32).map(column).collect();
    let mut x = Vec::new();
    for _ in 0..3_000 {
        let mut laplace = || {
            let (size, sign) = (-(1.0 - u.next()).ln(), u.next());
            if sign < 0.5 { -size } else { size }
        };
        let z: Vec<f64> = (0..LATENTS).map(|_| laplace()).collect();
        for d in 0..DIM {
            let mean: f64 = (0..LATENTS).map(|h| z[h] * planted[h][d]).sum();
            x.push(mean + 0.1 * u.normal());
        }
    }
    let points = Points::from_rows(&x, DIM).unwrap();
    let spec = AutoencoderSpec::sparse_coding(LATENTS);
    let stream = StreamConfig::default().batch_size(200).epochs(60);
    let executor = Executor::new(Some(2)).unwrap();
    let fit = fit_minibatches(&spec, &points, &executor, &Config::default(), &stream).unwrap();
    let last = fit.last().unwrap();
    assert!(last.gap().abs() < 1e-11 && last.active_components == LATENTS, "{last:?}");
    assert_eq!(last.gap_halves.unwrap().sampling_error, 0.0);
    let found = fit.model.dictionary().unwrap();
    for column in &planted {
        let cosine = |other: &Vec<f64>| {
            let dot: f64 = column.iter().zip(other).map(|(a, b)| a * b).sum();
            dot.abs() / other.iter().map(|w| w * w).sum::<f64>().sqrt()
        };
        let best = found.iter().map(cosine).fold(0.0, f64::max);
        assert!(best > 0.98, "{best}");
    }
    // A Gaussian prior cannot tell directions, and fits worse.
    let ppca = LinearGaussianSpec::ppca(LATENTS);
    let ppca = em::fit(&ppca, &points, &executor, &Config::default(), &mut Silent).unwrap();
    assert!(last.lower_bound > ppca.last().unwrap().lower_bound + 0.2, "{last:?}");
}

#[test]
fn files_give_back_the_same_bits_and_damaged_ones_are_refused() {
    let x = curve(100);
    let points = Points::from_rows(&x, 3).unwrap();
    let config = Config::default().max_iter(3);
    for (spec, name) in [
        (small_mlp(), "vae"),
        (small_mlp().prior(LatentPrior::Learned).noise(Noise::Diagonal), "vae"),
        (AutoencoderSpec::sparse_coding(2), "sparse-coding"),
    ] {
        let model = em::fit(&spec, &points, &one_thread(), &config, &mut Silent).unwrap().model;
        assert_eq!(model.name(), name);
        let json = store::to_json(&model);
        let read: VariationalAutoencoder = store::from_json(&json).unwrap();
        assert_eq!(read, model);
        let bytes = store::to_bytes(&model);
        assert_eq!(store::from_bytes::<VariationalAutoencoder>(&bytes).unwrap(), model);
        for (key, value, expected) in [
            ("encoder.0.weight", serde_json::json!([[1.0, 2.0]]), "expected [1]"),
            ("encoder.0.bias", serde_json::Value::Null, "\"encoder.0.bias\""),
            ("noise_variance", serde_json::json!(-1.0), "a variance or scale is -1"),
            ("prior", "uniform".into(), "expected standard, learned, laplace"),
            ("activation", "step".into(), "expected tanh, relu, softplus, gelu"),
            ("scale", serde_json::json!([1.0]), "\"scale\" has shape 1, expected 3"),
            ("dim", 4.into(), "\"dim\" is 4, but the arrays have 3"),
        ] {
            let mut damaged = json.clone();
            damaged[key] = value;
            let fault = store::from_json::<VariationalAutoencoder>(&damaged).unwrap_err();
            let text = fault.to_string();
            let is_told = text.contains(expected)
                || ["encoder.0", "noise_variance"].iter().any(|array| text.contains(array));
            assert!(is_told, "{key}: {text}");
        }
        let mut damaged = json.clone();
        damaged["model"] = if name == "vae" { "sparse-coding" } else { "vae" }.into();
        let fault = store::from_json::<VariationalAutoencoder>(&damaged).unwrap_err();
        assert!(fault.to_string().contains("the file calls its model"), "{fault}");
    }
}

#[test]
fn settings_out_of_range_are_refused_and_epochs_without_gain_end_a_fit() {
    let x = curve(100);
    let points = Points::from_rows(&x, 3).unwrap();
    let fault = |spec: AutoencoderSpec| {
        let config = Config::default();
        em::fit(&spec, &points, &one_thread(), &config, &mut Silent).unwrap_err().to_string()
    };
    assert!(fault(AutoencoderSpec::new(0)).contains("at least one unit"));
    assert!(fault(small_mlp().hidden(vec![3, 0])).contains("at least one unit"));
    assert!(fault(small_mlp().learning_rate(0.0)).contains("learning_rate is 0"));
    assert!(fault(small_mlp().patience(0)).contains("patience"));
    let huge = small_mlp().hidden(vec![usize::MAX / 2, 3]);
    assert!(fault(huge).contains("do not fit into memory"));
    let spec = AutoencoderSpec::linear(1)
        .learning_rate(0.05)
        .schedule(LearningRateSchedule::Constant)
        .patience(3);
    let config = Config::default().max_iter(5_000).tol(1e-6);
    let fit = em::fit(&spec, &points, &one_thread(), &config, &mut Silent).unwrap();
    assert_eq!(fit.stop_reason, StopReason::Converged);
    assert!(fit.last().unwrap().iteration < 4_000);
    // A fit that goes on from a model needs no start, and keeps its networks.
    let spec = AutoencoderSpec::from_model(fit.model.clone()).learning_rate(1e-3);
    let more = em::fit(&spec, &points, &one_thread(), &config, &mut Silent).unwrap();
    assert_eq!(more.model.hidden(), fit.model.hidden());
    assert!(more.last().unwrap().lower_bound > fit.last().unwrap().lower_bound - 1e-3);
    assert_eq!(more.model.n_parameters(), fit.model.n_parameters());
}

#[test]
fn the_criterion_holds_for_both_kinds() {
    use criterion::Statement;
    use entropysum::expert::{Sizes, built_in};
    for (name, expected) in
        [("vae", Statement::ScalarVariance), ("sparse-coding", Statement::Definition)]
    {
        let model = built_in(name, Sizes::default(), &Default::default()).unwrap();
        let report = model.check(4, 1);
        assert!(report.is_fulfilled() && report.applies == Some(expected), "{report}");
    }
}
