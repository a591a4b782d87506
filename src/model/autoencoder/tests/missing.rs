//! Missing values: bounds, gradients and both halves of the gap without them.

use super::*;
use crate::model::Density;

/// The example with some values missing: dimension 1 of points 0, 3, 6, ... and two dimensions of point 4.
fn with_gaps() -> Example {
    let mut example = Example::new();
    for i in (0..POINTS).step_by(3) {
        example.x[i * DIM + 1] = f64::NAN;
    }
    [0, 3].iter().for_each(|d| example.x[4 * DIM + d] = f64::NAN);
    example
}

fn models_with_gaps(example: &Example) -> Vec<VariationalAutoencoder> {
    let weights = numbers(&example.all["laplace_linear"]["W"]);
    let linear = VariationalAutoencoderParts {
        noise: Noise::Diagonal,
        noise_variances: vec![0.45, 0.3, 0.7, 0.9],
        ..example.laplace(&weights)
    };
    let models = [example.gaussian(), linear, example.laplace(&weights)];
    models.map(|parts| model(parts).ignoring_missing().unwrap()).to_vec()
}

/// `F - ES = ½ Σ_h (1 - M_h / α_h) + ½ Σ_d (o_d - R_d / σ_d²)`, and `σ_d² = R_d / o_d` closes its half.
#[test]
fn missing_values_leave_the_bound_and_both_halves_of_its_gap() {
    let example = with_gaps();
    for mut model in models_with_gaps(&example) {
        let (stats, gradient) = example.pass::<f64>(&model, 0..POINTS);
        let observed = Moments::of(&model, &stats).observed;
        for (found, n) in observed.iter().zip([11.0, 8.0, 12.0, 11.0]) {
            assert!((found - n / 12.0).abs() < 1e-14);
        }
        let gap = model.lower_bound(&stats) - model.entropy_sum(&stats).total();
        let [prior, noise] = model.gap_halves(&stats);
        assert!(noise.abs() > 0.1 && (gap - prior - noise).abs() < 1e-12, "{gap}");
        // The gradient is that of the bound.
        let bound = |model: &VariationalAutoencoder| {
            model.lower_bound(&example.pass::<f64>(model, 0..POINTS).0)
        };
        for k in 0..model.parameters.len() {
            let at = |step: f64| {
                let mut moved = model.clone();
                moved.parameters[k] += step;
                bound(&moved)
            };
            let slope = (8.0 * (at(1e-3) - at(-1e-3)) - (at(2e-3) - at(-2e-3))) / 12e-3;
            let error = (gradient[k] - slope).abs();
            assert!(error < 1e-8 * slope.abs().max(1.0), "{k}: {} {slope}", gradient[k]);
        }
        let before = bound(&model);
        model.m_step(&stats, &Regularization::default());
        let after = model.lower_bound(&stats);
        assert!(after > before && (after - model.entropy_sum(&stats).total()).abs() < 1e-12);
    }
}

/// The encoder sees the centre in place of a missing value. So a point has the bound that it has without its missing dimensions, under the
/// model without these.
#[test]
fn a_point_with_missing_values_scores_as_its_other_values_alone() {
    let example = with_gaps();
    let score = |model: &VariationalAutoencoder, x: &[f64], first: u64| {
        let packed = Density::<f64>::pack_for_scores(model, Simd::detect());
        let points = MatRef::from_row_major_slice(x, 1, x.len());
        let block = Block { points, sparse: None, weights: None, first };
        let mut workspace = Density::<f64>::workspace(model, &packed, None);
        let mut out = f64::NAN;
        model.score(&packed, block, false, &mut workspace, |tile| out = tile.log_density[0]);
        out
    };
    for whole in models_with_gaps(&example) {
        for (i, x) in example.x.chunks(DIM).enumerate() {
            let kept: Vec<usize> = (0..DIM).filter(|d| !x[*d].is_nan()).collect();
            let pick = |values: &[f64]| kept.iter().map(|d| values[*d]).collect::<Vec<f64>>();
            let mut parts = whole.to_parts();
            let first = &parts.encoder[0];
            let columns: Vec<f64> = first.weights().chunks(DIM).flat_map(pick).collect();
            parts.encoder[0] = Layer::new(kept.len(), &columns, &first.biases()).unwrap();
            let last = parts.decoder.len() - 1;
            let layer = &parts.decoder[last];
            let rows = kept
                .iter()
                .flat_map(|d| layer.weights()[d * layer.inputs()..][..layer.inputs()].to_vec());
            let rows: Vec<f64> = rows.collect();
            parts.decoder[last] =
                Layer::new(layer.inputs(), &rows, &pick(&layer.biases())).unwrap();
            if parts.noise == Noise::Diagonal {
                parts.noise_variances = pick(&parts.noise_variances);
            }
            (parts.centre, parts.scale) = (pick(&parts.centre), pick(&parts.scale));
            let part = model(parts);
            for samples in [0, 5] {
                let [whole, part] =
                    [&whole, &part].map(|model| model.clone().with_importance_samples(samples));
                let found = score(&whole, x, i as u64);
                let expected = score(&part, &pick(x), i as u64);
                assert!((found - expected).abs() < 1e-12, "{i}: {found} {expected}");
            }
        }
    }
}

#[test]
fn without_missing_values_nothing_changes() {
    let example = Example::new();
    for ignoring in models_with_gaps(&example) {
        let plain = VariationalAutoencoder { ignores_missing: false, ..ignoring.clone() };
        let [(a, at_a), (b, at_b)] =
            [&ignoring, &plain].map(|model| example.pass::<f64>(model, 0..POINTS));
        assert!((ignoring.lower_bound(&a) - plain.lower_bound(&b)).abs() < 1e-13);
        assert!(at_a.iter().zip(&at_b).all(|(a, b)| (a - b).abs() < 1e-13));
    }
}
