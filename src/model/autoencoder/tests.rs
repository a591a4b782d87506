//! Bounds, entropies, both halves of the gap and gradients against 40 digits, finite differences and random draws.

mod missing;

use super::*;
use crate::block::Block;
use crate::linalg::symmetric_eigen;
use crate::rng;
use crate::scalar::Scalar;
use faer::MatRef;
use serde_json::Value;

pub(crate) fn fixture() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vae_models_iris.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// All numbers of an array, in order, whatever its nesting.
pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap_or_else(|| panic!("{other} is no number"))],
    }
}

fn close(found: &[f64], expected: &Value, tolerance: f64) {
    let expected = numbers(expected);
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        let error = (found - expected).abs();
        assert!(error <= tolerance * expected.abs().max(1.0), "{found} {expected}: {error:e}");
    }
}

/// Points of the fixture, and its noise: points × samples × latents.
pub(crate) struct Example {
    pub all: Value,
    x: Vec<f64>,
    noise: Vec<f64>,
}

const POINTS: usize = 12;
const DIM: usize = 4;
const LATENTS: usize = 2;
const SAMPLES: usize = 2;

impl Example {
    pub fn new() -> Self {
        let all = fixture();
        let (x, noise) = (numbers(&all["data"]["x"]), numbers(&all["eps"]));
        Self { all, x, noise }
    }

    fn encoder(&self) -> Vec<Layer> {
        let array = |key: &str| numbers(&self.all["gaussian"]["params"][key]);
        let heads = [array("enc_Wm"), array("enc_Wv")].concat();
        let biases = [array("enc_bm"), array("enc_bv")].concat();
        vec![
            Layer::new(DIM, &array("enc_W1"), &array("enc_b1")).unwrap(),
            Layer::new(DIM, &heads, &biases).unwrap(),
        ]
    }

    fn parts(&self, decoder: Vec<Layer>) -> VariationalAutoencoderParts {
        VariationalAutoencoderParts {
            encoder: self.encoder(),
            decoder,
            activation: Activation::Tanh,
            prior: LatentPrior::Learned,
            prior_scales: vec![1.0; LATENTS],
            noise: Noise::Diagonal,
            noise_variances: vec![1.0; DIM],
            centre: vec![0.0; DIM],
            scale: vec![1.0; DIM],
        }
    }

    pub fn gaussian(&self) -> VariationalAutoencoderParts {
        let array = |key: &str| numbers(&self.all["gaussian"]["params"][key]);
        let decoder = vec![
            Layer::new(LATENTS, &array("dec_W1"), &array("dec_b1")).unwrap(),
            Layer::new(3, &array("dec_W2"), &array("dec_b2")).unwrap(),
        ];
        VariationalAutoencoderParts {
            prior_scales: numbers(&self.all["gaussian"]["alpha"]),
            noise_variances: numbers(&self.all["gaussian"]["sigma2"]),
            ..self.parts(decoder)
        }
    }

    fn laplace(&self, weights: &[f64]) -> VariationalAutoencoderParts {
        let model = &self.all["laplace_linear"];
        let decoder = vec![Layer::new(LATENTS, weights, &numbers(&model["b"])).unwrap()];
        VariationalAutoencoderParts {
            prior: LatentPrior::Laplace,
            prior_scales: numbers(&model["lambda_"]),
            noise: Noise::Isotropic,
            noise_variances: numbers(&model["sigma2"]),
            ..self.parts(decoder)
        }
    }

    /// Statistics and mean gradient of some points, each with all of its samples.
    pub fn pass<T: Scalar>(
        &self,
        model: &VariationalAutoencoder,
        points: std::ops::Range<usize>,
    ) -> (SuffStats, Vec<f64>) {
        let packed = Packed::<T>::new(model, Simd::detect());
        let mut lane = Lane::new(model);
        let values: Vec<T> =
            self.x[points.start * DIM..points.end * DIM].iter().map(|&x| T::from_f64(x)).collect();
        let samples = if model.decoder_is_linear() { 1 } else { SAMPLES };
        let weights = vec![1.0 / samples as f64; points.len()];
        for sample in 0..samples {
            let block = Block {
                points: MatRef::from_row_major_slice(&values, points.len(), DIM),
                sparse: None,
                weights: Some(&weights),
                first: 0,
            };
            lane.add(model, &packed, block, &|i, row| {
                let start = ((points.start + i) * SAMPLES + sample) * LATENTS;
                for (to, &from) in row.iter_mut().zip(&self.noise[start..]) {
                    *to = T::from_f64(from);
                }
            });
        }
        lane.complete(model, &packed);
        let weight = lane.stats.total_weight();
        let gradient = lane.gradient.iter().map(|g| g.to_f64() / weight).collect();
        (lane.stats, gradient)
    }
}

fn model(parts: VariationalAutoencoderParts) -> VariationalAutoencoder {
    VariationalAutoencoder::new(parts).unwrap()
}

/// Gradients of the fixture in the order of the parameters, but those of the decoder.
fn encoder_gradient(grad: &Value) -> Vec<f64> {
    ["enc_W1", "enc_b1", "enc_Wm", "enc_Wv", "enc_bm", "enc_bv"]
        .iter()
        .flat_map(|key| numbers(&grad[*key]))
        .collect()
}

fn check_values(model: &VariationalAutoencoder, stats: &SuffStats, expected: &Value) {
    let sum = model.entropy_sum(stats);
    let terms = &expected["entropy_sum"];
    close(&[sum.posterior], &terms["posterior"], 1e-10);
    close(&[sum.prior], &terms["prior"], 1e-10);
    close(&[sum.observable], &terms["observable"], 1e-10);
    close(&[model.lower_bound(stats)], &expected["elbo"], 1e-10);
}

#[test]
fn a_gaussian_autoencoder_matches_40_digits_at_any_parameters() {
    let example = Example::new();
    let expected = &example.all["gaussian"];
    let model = model(example.gaussian());
    let (stats, gradient) = example.pass::<f64>(&model, 0..POINTS);
    check_values(&model, &stats, expected);
    let moments = Moments::of(&model, &stats);
    close(&moments.latents, &expected["moments"], 1e-10);
    close(&moments.residuals, &expected["residuals"], 1e-10);
    let [prior, noise] = model.gap_halves(&stats);
    for (half, terms, by_logarithm) in
        [(prior, "gap_prior", "log_alpha"), (noise, "gap_noise", "log_sigma2")]
    {
        let sum = |value: &Value| numbers(value).iter().sum::<f64>();
        assert!((half - sum(&expected[terms])).abs() < 1e-10);
        // Each half is a derivative, with its sign turned.
        assert!((half + sum(&expected["grad"][by_logarithm])).abs() < 1e-10);
    }
    let gap = model.lower_bound(&stats) - model.entropy_sum(&stats).total();
    assert!((gap - prior - noise).abs() < 1e-12, "{gap}");

    let grad = &expected["grad"];
    let decoder = ["dec_W1", "dec_b1", "dec_W2", "dec_b2"];
    let mut all = encoder_gradient(grad);
    all.extend(decoder.iter().flat_map(|key| numbers(&grad[*key])));
    close(&gradient, &all.clone().into(), 1e-10);
    // In single precision the same up to its rounding.
    let (rounded, gradient) = example.pass::<f32>(&model, 0..POINTS);
    close(&[model.lower_bound(&rounded)], &expected["elbo"], 2e-6);
    close(&gradient, &all.into(), 2e-6);
}

#[test]
fn closed_forms_of_the_variances_match_40_digits_and_close_the_gap() {
    let example = Example::new();
    for (noise, key) in [(Noise::Diagonal, "diagonal"), (Noise::Isotropic, "scalar")] {
        let expected = &example.all["gaussian"]["closed_form"][key];
        let diagonal = model(example.gaussian());
        let (stats, _) = example.pass::<f64>(&diagonal, 0..POINTS);
        let before = diagonal.lower_bound(&stats);
        let mut model = VariationalAutoencoder { noise, ..diagonal };
        assert!(model.m_step(&stats, &Regularization::default()).is_empty());
        let n_variances = if noise == Noise::Isotropic { 1 } else { DIM };
        close(&model.noise_variances[..n_variances], &expected["sigma2"], 1e-10);
        close(&model.prior_scales, &expected["alpha"], 1e-10);
        check_values(&model, &stats, expected);
        close(&[model.lower_bound(&stats) - before], &expected["gain"], 1e-10);
        assert!(model.gap_halves(&stats).iter().all(|half| half.abs() < 1e-14));
    }
}

#[test]
fn a_scale_moves_from_the_prior_into_the_networks_without_a_change_of_the_bound() {
    let example = Example::new();
    let expected = &example.all["gaussian"]["scale_step"];
    let standard = VariationalAutoencoderParts {
        prior: LatentPrior::Standard,
        prior_scales: vec![1.0; LATENTS],
        ..example.gaussian()
    };
    let mut model = model(standard);
    let (stats, _) = example.pass::<f64>(&model, 0..POINTS);
    close(&[model.lower_bound(&stats)], &expected["elbo_before"], 1e-10);
    model.prior_scales = Moments::of(&model, &stats).latents;
    let bound = model.lower_bound(&stats);
    model.finish();
    assert_eq!(model.prior_scales, [1.0, 1.0]);
    let parts = model.to_parts();
    let heads = parts.encoder[1].weights();
    close(&heads[..DIM * LATENTS], &expected["params"]["enc_Wm"], 1e-10);
    let biases = parts.encoder[1].biases();
    close(&biases[..LATENTS], &expected["params"]["enc_bm"], 1e-10);
    close(&biases[LATENTS..], &expected["params"]["enc_bv"], 1e-10);
    close(&parts.decoder[0].weights(), &expected["params"]["dec_W1"], 1e-10);
    let (stats, _) = example.pass::<f64>(&model, 0..POINTS);
    close(&[model.lower_bound(&stats)], &expected["elbo"], 1e-10);
    assert!((model.lower_bound(&stats) - bound).abs() < 1e-12);
    assert!(model.gap_halves(&stats)[0].abs() < 1e-14);

    // The same for sparse codes.
    let weights = numbers(&example.all["laplace_linear"]["W"]);
    let mut code = self::model(example.laplace(&weights));
    let bound = code.lower_bound(&example.pass::<f64>(&code, 0..POINTS).0);
    code.finish();
    assert_eq!(code.prior_scales, [1.0, 1.0]);
    let after = code.lower_bound(&example.pass::<f64>(&code, 0..POINTS).0);
    assert!((after - bound).abs() < 1e-12, "{after} {bound}");
}

/// Parameters tell by how much they were multiplied: gradients with respect to them are divided by it.
#[test]
fn columns_of_unit_length_leave_the_bound_of_points_and_statistics() {
    let example = Example::new();
    let weights = numbers(&example.all["laplace_linear"]["W"]);
    for prior in LatentPrior::ALL {
        let parts = VariationalAutoencoderParts { prior, ..example.laplace(&weights) };
        let mut model = model(parts);
        let (mut stats, before) = example.pass::<f64>(&model, 0..POINTS);
        let bound = model.lower_bound(&stats);
        let mut factors = vec![1.0; model.parameters.len()];
        model.pin_columns(&mut stats, &mut |index, factor| factors[index] *= factor);
        for column in model.dictionary().unwrap() {
            assert!((column.iter().map(|w| w * w).sum::<f64>() - 1.0).abs() < 1e-14);
        }
        assert!((model.lower_bound(&stats) - bound).abs() < 1e-12, "{prior:?}");
        let (fresh, after) = example.pass::<f64>(&model, 0..POINTS);
        assert!((model.lower_bound(&fresh) - bound).abs() < 1e-12, "{prior:?}");
        assert!(
            (model.entropy_sum(&fresh).total() - model.entropy_sum(&stats).total()).abs() < 1e-12
        );
        for ((before, after), factor) in before.iter().zip(&after).zip(&factors) {
            assert!((before - after * factor).abs() < 1e-10 * before.abs().max(1.0));
        }
    }
}

#[test]
fn running_sums_of_minibatches_match_40_digits() {
    let example = Example::new();
    let expected = &example.all["gaussian"]["streaming"];
    let step = expected["step"].as_f64().unwrap();
    let mut running: Option<SuffStats> = None;
    for (t, record) in expected["records"].as_array().unwrap().iter().enumerate() {
        let parts = VariationalAutoencoderParts {
            noise: Noise::Isotropic,
            noise_variances: vec![1.0],
            ..example.gaussian()
        };
        let mut model = model(parts);
        let (mut batch, _) = example.pass::<f64>(&model, 4 * t..4 * t + 4);
        batch.scale(1.0 / batch.total_weight());
        match &mut running {
            None => running = Some(batch),
            Some(running) => running.blend(step, &batch),
        }
        let running = running.as_ref().unwrap();
        model.m_step(running, &Regularization::default());
        close(&[model.entropy_sum(running).posterior], &record["posterior_entropy"], 1e-10);
        close(&model.prior_scales, &record["alpha"], 1e-10);
        close(&model.noise_variances[..1], &record["sigma2"], 1e-10);
        close(&[model.entropy_sum(running).total()], &record["entropy_sum"], 1e-10);
        assert!((model.lower_bound(running) - model.entropy_sum(running).total()).abs() < 1e-12);
    }
}

#[test]
fn sparse_codes_match_40_digits() {
    let example = Example::new();
    let expected = &example.all["laplace_linear"];
    let weights = numbers(&expected["W"]);
    let mut code = model(example.laplace(&weights));
    let (stats, gradient) = example.pass::<f64>(&code, 0..POINTS);
    check_values(&code, &stats, expected);
    let moments = Moments::of(&code, &stats);
    close(&moments.latents, &expected["abs_moments"], 1e-10);
    close(&[moments.residuals.iter().sum()], &expected["residual"], 1e-10);
    let [prior, noise] = code.gap_halves(&stats);
    assert!((prior - numbers(&expected["gap_prior"]).iter().sum::<f64>()).abs() < 1e-10);
    close(&[noise], &expected["gap_noise"], 1e-10);
    let grad = &expected["grad"];
    let decoder = [numbers(&grad["W"]), numbers(&grad["b"])].concat();
    close(&gradient, &[encoder_gradient(grad), decoder].concat().into(), 1e-10);
    code.m_step(&stats, &Regularization::default());
    let closed = &expected["closed_form"];
    close(&code.prior_scales, &closed["lambda_"], 1e-10);
    close(&code.noise_variances[..1], &closed["sigma2"], 1e-10);
    close(&[code.lower_bound(&stats)], &closed["elbo"], 1e-10);
}

/// With the variances in closed form, the gradient of the bound is that of the entropy sum (envelope theorem).
#[test]
fn the_gradient_at_closed_forms_is_that_of_the_entropy_objective() {
    let example = Example::new();
    for weight in [1.0, 1.5] {
        the_gradient_is_that_of_the_entropy_objective(&example, weight);
    }
}

/// With this weight on the prior's entropy; columns of the dictionary have unit length.
fn the_gradient_is_that_of_the_entropy_objective(example: &Example, weight: f64) {
    let objective = &example.all["laplace_linear"]["entropy_objective"];
    let expected = &objective[&format!("prior_weight_{weight:.1}")];
    let weights = numbers(&example.all["laplace_linear"]["W"]);
    let lengths: Vec<f64> = (0..LATENTS)
        .map(|h| weights.iter().skip(h).step_by(LATENTS).map(|w| w * w).sum::<f64>().sqrt())
        .collect();
    let unit: Vec<f64> =
        weights.iter().enumerate().map(|(k, w)| w / lengths[k % LATENTS]).collect();
    let mut code = model(example.laplace(&unit));
    code.set_prior_weight(weight);
    let (stats, _) = example.pass::<f64>(&code, 0..POINTS);
    code.m_step(&stats, &Regularization::default());
    close(&code.prior_scales, &expected["lambda_"], 1e-10);
    close(&code.noise_variances[..1], &expected["sigma2"], 1e-10);
    let (stats, gradient) = example.pass::<f64>(&code, 0..POINTS);
    let sum = code.entropy_sum(&stats);
    let value = sum.posterior - weight * sum.prior - sum.observable;
    close(&[value], &expected["value"], 1e-10);
    let (encoder, decoder) = gradient.split_at(gradient.len() - DIM * (LATENTS + 1));
    close(encoder, &encoder_gradient(&expected["grad"]).into(), 1e-10);
    close(&decoder[DIM * LATENTS..], &expected["grad"]["b"], 1e-10);
    // Columns of unit length turn, and the rest of the gradient is lost.
    let along = |h: usize| -> f64 {
        (0..DIM).map(|d| unit[d * LATENTS + h] * decoder[d * LATENTS + h]).sum()
    };
    let projected: Vec<f64> = (0..DIM * LATENTS)
        .map(|k| (decoder[k] - unit[k] * along(k % LATENTS)) / lengths[k % LATENTS])
        .collect();
    close(&projected, &expected["grad"]["W"], 1e-10);
}

#[test]
fn a_linear_autoencoder_at_the_solution_of_p_pca_has_its_likelihood_as_bound_and_entropy_sum() {
    let example = Example::new();
    let expected = &example.all["linear_vae"];
    let mean: Vec<f64> =
        (0..DIM).map(|d| example.x.iter().skip(d).step_by(DIM).sum::<f64>() / 12.0).collect();
    let mut covariance = vec![0.0; DIM * DIM];
    for row in example.x.chunks(DIM) {
        for (k, sum) in covariance.iter_mut().enumerate() {
            *sum += (row[k / DIM] - mean[k / DIM]) * (row[k % DIM] - mean[k % DIM]) / 12.0;
        }
    }
    let (mut values, vectors) = symmetric_eigen(&covariance, DIM).unwrap();
    let mut order: Vec<usize> = (0..DIM).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    values.sort_by(|a, b| b.total_cmp(a));
    close(&values, &expected["eigenvalues"], 1e-10);
    let variance = values[LATENTS..].iter().sum::<f64>() / (DIM - LATENTS) as f64;
    close(&[variance], &expected["sigma2"], 1e-10);
    let mut decoder = vec![0.0; DIM * LATENTS];
    let mut heads = vec![0.0; 2 * DIM * LATENTS];
    let mut biases = vec![0.0; 2 * LATENTS];
    for h in 0..LATENTS {
        let length = (values[h] - variance).sqrt();
        for d in 0..DIM {
            let direction = vectors[(d, order[h])];
            decoder[d * LATENTS + h] = direction * length;
            heads[h * DIM + d] = direction * length / values[h];
            biases[h] -= heads[h * DIM + d] * mean[d];
        }
        biases[LATENTS + h] = (variance / values[h]).ln();
    }
    let model = model(VariationalAutoencoderParts {
        encoder: vec![Layer::new(DIM, &heads, &biases).unwrap()],
        prior: LatentPrior::Standard,
        noise: Noise::Isotropic,
        noise_variances: vec![variance],
        ..example.parts(vec![Layer::new(LATENTS, &decoder, &mean).unwrap()])
    });
    let (stats, gradient) = example.pass::<f64>(&model, 0..POINTS);
    close(&[model.lower_bound(&stats)], &expected["log_likelihood"], 1e-10);
    close(&[model.entropy_sum(&stats).total()], &expected["log_likelihood"], 1e-10);
    assert!(gradient.iter().all(|g| g.abs() < 1e-10), "{gradient:?}");
    let active = model.active_latents(&stats);
    assert_eq!(active, [true, true]);
}

/// A small model of a kind, with random parameters and units.
fn random_model(
    activation: Activation,
    prior: LatentPrior,
    noise: Noise,
    is_linear: bool,
) -> VariationalAutoencoder {
    const HIDDEN: usize = 5;
    let mut rng = rng::stream(3, 0);
    let mut uniform = move || 2.0 * rng::uniform(&mut rng) - 1.0;
    let mut layer = |inputs: usize, outputs: usize| {
        let weights: Vec<f64> = (0..inputs * outputs).map(|_| uniform()).collect();
        let biases: Vec<f64> = (0..outputs).map(|_| uniform()).collect();
        Layer::new(inputs, &weights, &biases).unwrap()
    };
    let encoder = vec![layer(3, HIDDEN), layer(HIDDEN, 4)];
    let decoder =
        if is_linear { vec![layer(2, 3)] } else { vec![layer(2, HIDDEN), layer(HIDDEN, 3)] };
    let variances = vec![0.4, 0.9, 1.7];
    model(VariationalAutoencoderParts {
        encoder,
        decoder,
        activation,
        prior,
        prior_scales: vec![0.6, 1.5],
        noise,
        noise_variances: if noise == Noise::Isotropic { vec![0.7] } else { variances },
        centre: vec![0.5, -1.0, 2.0],
        scale: vec![1.5, 0.5, 2.0],
    })
}

/// Statistics, gradient and limit of the variance of 9 weighted points, with noise of a stream.
fn random_pass(model: &VariationalAutoencoder, stream: u64) -> (SuffStats, Vec<f64>, f64) {
    let x: Vec<f64> = (0..27).map(|k| (f64::from(k) * 1.3).sin() * 2.0 + 0.3).collect();
    let weights: Vec<f64> = (0..9).map(|i| 0.5 + f64::from(i % 3)).collect();
    let points = MatRef::from_row_major_slice(&x, 9, 3);
    let block = Block { points, sparse: None, weights: Some(&weights), first: 0 };
    let packed = Packed::new(model, Simd::detect());
    let mut lane = Lane::new(model);
    lane.add(model, &packed, block, &|i, row| {
        fill_normal(&mut rng::stream(stream, i as u64), row);
    });
    lane.complete(model, &packed);
    let weight = lane.stats.total_weight();
    let gradient = lane.gradient.iter().map(|g| g / weight).collect();
    (lane.stats, gradient, lane.sampling_variance / weight.powi(2))
}

#[test]
fn gradients_are_those_of_finite_differences_for_every_kind() {
    for activation in Activation::ALL {
        for prior in LatentPrior::ALL {
            for noise in Noise::ALL {
                for is_linear in [false, true] {
                    let mut model = random_model(activation, prior, noise, is_linear);
                    let (_, gradient, _) = random_pass(&model, 1);
                    for k in 0..model.parameters.len() {
                        const STEP: f64 = 1e-5;
                        let value = model.parameters[k];
                        let mut bound = |moved: f64| {
                            model.parameters[k] = moved;
                            model.lower_bound(&random_pass(&model, 1).0)
                        };
                        let slope = (bound(value + STEP) - bound(value - STEP)) / (2.0 * STEP);
                        model.parameters[k] = value;
                        let error = (gradient[k] - slope).abs();
                        let what = format!("{activation:?} {prior:?} {noise:?} {is_linear} {k}");
                        assert!(error < 1e-7 * slope.abs().max(1.0), "{what}: {error:e}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_gap_is_the_sum_of_its_halves_for_every_kind_and_sample() {
    for prior in LatentPrior::ALL {
        for noise in Noise::ALL {
            for is_linear in [false, true] {
                let model = random_model(Activation::Softplus, prior, noise, is_linear);
                for stream in 0..4 {
                    let (stats, ..) = random_pass(&model, stream);
                    let gap = model.lower_bound(&stats) - model.entropy_sum(&stats).total();
                    let [prior, noise] = model.gap_halves(&stats);
                    assert!((gap - prior - noise).abs() < 1e-12 * gap.abs().max(1.0), "{gap}");
                    let mut closed = model.clone();
                    closed.m_step(&stats, &Regularization::default());
                    assert!(closed.lower_bound(&stats) >= model.lower_bound(&stats));
                    assert!(closed.gap_halves(&stats).iter().all(|half| half.abs() < 1e-13));
                }
            }
        }
    }
}

#[test]
fn the_error_of_sampling_is_within_its_limit() {
    const DRAWS: u64 = 4000;
    for activation in Activation::ALL {
        let model = random_model(activation, LatentPrior::Standard, Noise::Isotropic, false);
        let (mut mean, mut squares, mut limit) = (0.0, 0.0, 0.0);
        for stream in 0..DRAWS {
            let (stats, _, variance) = random_pass(&model, stream);
            let bound = model.lower_bound(&stats);
            mean += bound / DRAWS as f64;
            squares += bound * bound / DRAWS as f64;
            limit += variance / DRAWS as f64;
        }
        let variance = squares - mean * mean;
        // By the Poincaré inequality; a tenth is more than the error of both means.
        assert!(variance < 1.1 * limit && limit < 4.0 * variance, "{variance} {limit}");
    }
    let linear = random_model(Activation::Tanh, LatentPrior::Laplace, Noise::Diagonal, true);
    assert_eq!(random_pass(&linear, 0).2, 0.0);
}
