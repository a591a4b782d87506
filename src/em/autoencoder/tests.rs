//! Steps of Adam against 40 digits.

use super::adam::{Adam, LearningRateSchedule};
use crate::model::autoencoder::tests::{Example, numbers};
use crate::model::{
    GenerativeModel, LatentPrior, Noise, VariationalAutoencoder, VariationalAutoencoderParts,
};
use crate::work::Alone;

/// The prior stays standard here, and the noise follows in closed form after each step.
#[test]
fn five_steps_of_adam_match_40_digits() {
    let example = Example::new();
    let expected = &example.all["gaussian"]["adam"];
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    let start = VariationalAutoencoderParts {
        prior: LatentPrior::Standard,
        prior_scales: vec![1.0; 2],
        noise: Noise::Isotropic,
        noise_variances: numbers(&expected["start_sigma2"]),
        ..example.gaussian()
    };
    let mut model = VariationalAutoencoder::new(start).unwrap();
    let rate = number(&expected["rate"]);
    let mut adam = Adam::new(&model, rate, LearningRateSchedule::Constant, 1);
    for record in expected["records"].as_array().unwrap() {
        let (_, gradient) = example.pass::<f64>(&model, 0..12);
        adam.ascend(model.parameters_mut(), &gradient, &Alone);
        let (stats, _) = example.pass::<f64>(&model, 0..12);
        let close = |found: f64, key: &str| {
            let error = (found - number(&record[key])).abs();
            assert!(error < 1e-10, "{key} {error:e}");
        };
        close(model.lower_bound(&stats), "elbo_before_sigma2");
        let mut closed = model.clone();
        closed.m_step(&stats, &Default::default());
        let parts = VariationalAutoencoderParts {
            noise_variances: vec![closed.noise_variances()[0]],
            ..model.to_parts()
        };
        model = VariationalAutoencoder::new(parts).unwrap();
        close(model.noise_variances()[0], "sigma2");
        close(model.lower_bound(&stats), "elbo");
        close(model.entropy_sum(&stats).total(), "entropy_sum");
        close(model.gap_halves(&stats)[0], "gap_prior");
        assert!(model.gap_halves(&stats)[1].abs() < 1e-12);
        let decoder = model.to_parts().decoder;
        for (found, expected) in decoder[1].biases().iter().zip(numbers(&record["dec_b2"])) {
            assert!((found - expected).abs() < 1e-10);
        }
    }
}
