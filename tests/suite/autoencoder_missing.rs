//! Autoencoders of points with missing values, and fits that held-out points end. Values at given parameters are beside the code, in
//! `src/model/autoencoder/tests/missing.rs`.

use crate::common::{Uniforms, fit_minibatches};
use entropysum::data::Points;
use entropysum::em::StreamConfig;
use entropysum::em::{self, AutoencoderSpec, Config, Fitting, LearningRateSchedule};
use entropysum::model::Noise;
use entropysum::monitor::{Silent, StopReason};
use entropysum::{Executor, inference};

fn one_thread() -> Executor {
    Executor::new(Some(1)).unwrap()
}

const DIM: usize = 6;

/// Points of two factors in six dimensions, and the same with every fifth value missing, about.
fn points(n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut u = Uniforms::new(3);
    let loadings: Vec<f64> = (0..2 * DIM).map(|_| 2.0 * u.normal()).collect();
    let mut whole = Vec::new();
    for _ in 0..n {
        let z = [u.normal(), u.normal()];
        let value = |d: usize| loadings[2 * d] * z[0] + loadings[2 * d + 1] * z[1] + d as f64;
        whole.extend((0..DIM).map(value).map(|mean| mean + 0.3 * u.normal()));
    }
    let gaps = whole.iter().map(|x| if u.next() < 0.2 { f64::NAN } else { *x });
    let gaps = gaps.collect();
    (whole, gaps)
}

#[test]
fn missing_values_are_filled_from_what_is_there() {
    let (whole, gaps) = points(600);
    let incomplete = Points::from_rows(&gaps, DIM).unwrap();
    let mean = |values: &dyn Fn(usize) -> f64| {
        let missing = (0..gaps.len()).filter(|k| gaps[*k].is_nan());
        let (sum, n) = missing.fold((0.0, 0.0), |(sum, n), k| (sum + values(k), n + 1.0));
        sum / n
    };
    let column = |d: usize| whole.iter().skip(d).step_by(DIM).sum::<f64>() / 600.0;
    let centre: Vec<f64> = (0..DIM).map(column).collect();
    let by_means = mean(&|k| (whole[k] - centre[k % DIM]).powi(2));
    for noise in Noise::ALL {
        for spec in [
            AutoencoderSpec::new(2).hidden(vec![24]),
            AutoencoderSpec::new(2).hidden(vec![24]).decoder_is_linear(true),
        ] {
            let spec = spec.noise(noise).learning_rate(0.01).ignores_missing(true);
            let config = Config::default();
            let stream = StreamConfig::default().batch_size(100).epochs(60);
            let fit = fit_minibatches(&spec, &incomplete, &one_thread(), &config, &stream).unwrap();
            // The closed form of the noise is over the values that are there.
            assert!(fit.history.records.iter().all(|record| record.gap().abs() < 1e-12));
            let mut filled = Vec::new();
            inference::reconstruct(&fit.model, &incomplete, &one_thread(), |_, x| {
                filled.extend_from_slice(x);
                Ok(())
            })
            .unwrap();
            let error = mean(&|k| (filled[k] - whole[k]).powi(2));
            assert!(error < 0.3 * by_means, "{error} {by_means}");
            // Without missing values the encoder does better.
            let score = |x: &[f64]| {
                let points = Points::from_rows(x, DIM).unwrap();
                inference::score(&fit.model, &points, &one_thread()).unwrap().log_likelihood
            };
            assert!(score(&gaps).is_finite() && score(&whole).is_finite());
        }
    }
    let fault = em::fit(
        &AutoencoderSpec::linear(1),
        &incomplete,
        &one_thread(),
        &Config::default(),
        &mut Silent,
    );
    assert!(fault.unwrap_err().to_string().contains("the value is NaN"));
    let mut infinite = gaps;
    infinite[DIM * 17 + 2] = f64::INFINITY;
    let infinite = Points::from_rows(&infinite, DIM).unwrap();
    let spec = AutoencoderSpec::linear(1).ignores_missing(true);
    let fault = em::fit(&spec, &infinite, &one_thread(), &Config::default(), &mut Silent);
    let fault = fault.unwrap_err().to_string();
    assert!(fault.contains("row 17, column 2: the value is inf"), "{fault}");
}

/// A dimension that no point has keeps its noise, and costs nothing.
#[test]
fn a_dimension_without_values_does_no_harm() {
    let (_, mut gaps) = points(100);
    gaps.iter_mut().skip(2).step_by(DIM).for_each(|x| *x = f64::NAN);
    gaps[..DIM].fill(f64::NAN);
    for noise in Noise::ALL {
        let points = Points::from_rows(&gaps, DIM).unwrap();
        let spec = AutoencoderSpec::linear(2).noise(noise).ignores_missing(true);
        let config = Config::default().max_iter(50);
        let fit = em::fit(&spec, &points, &one_thread(), &config, &mut Silent).unwrap();
        let last = fit.last().unwrap();
        assert!(last.lower_bound.is_finite() && last.gap().abs() < 1e-12, "{last:?}");
    }
}

/// Forty points, which a network learns by heart.
#[test]
fn held_out_points_end_a_fit_and_choose_its_model() {
    let (whole, _) = points(1_040);
    let (few, others) = whole.split_at(40 * DIM);
    let [few, others] = [few, others].map(|x| Points::from_rows(x, DIM).unwrap());
    let spec = AutoencoderSpec::new(2)
        .hidden(vec![40])
        .learning_rate(0.01)
        .schedule(LearningRateSchedule::Constant);
    let stream = StreamConfig::default().batch_size(20).epochs(2_000).records(1).audit(5);
    let executor = one_thread();
    let fitting = Fitting::new(&few, &executor).minibatches(&stream).held_out(&others);
    let fit = fitting.fit(&spec.patience(8)).unwrap();
    assert_eq!(fit.stop_reason, StopReason::Converged);
    let audits: Vec<f64> = fit
        .history
        .records
        .iter()
        .filter_map(|it| it.minibatch)
        .map(|it| it.audit)
        .filter(|it| !it.is_nan())
        .collect();
    let best = audits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // The best is eight audits before the end, and its model is what the fit returns.
    assert_eq!(audits.iter().position(|it| *it == best), Some(audits.len() - 9), "{audits:?}");
    let score = inference::score(&fit.model, &others, &one_thread()).unwrap().log_likelihood;
    assert!((score - best).abs() < 1e-9, "{score} {best}");
    let last = *audits.last().unwrap();
    assert!(best > last, "{best} {last}");
}
