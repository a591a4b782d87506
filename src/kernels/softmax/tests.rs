use super::*;
use crate::kernels::reference;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

const POINTS: [usize; 9] = [0, 1, 7, 8, 9, 31, 64, 255, 256];
const COMPONENTS: [usize; 5] = [1, 2, 3, 16, 65];
/// What lies between columns, and must stay there.
const GUARD: f64 = 12345.0;

/// A tile and the same numbers in rows.
struct Tile<T> {
    logits: Vec<T>,
    rows: Vec<Vec<f64>>,
    stride: usize,
}

impl<T: Scalar> Tile<T> {
    fn new(
        n_points: usize,
        n_components: usize,
        mut logit: impl FnMut(usize, usize) -> f64,
    ) -> Self {
        let stride = n_points + 3;
        let mut logits = vec![T::from_f64(GUARD); stride * n_components];
        for n in 0..n_points {
            for c in 0..n_components {
                logits[c * stride + n] = T::from_f64(logit(n, c));
            }
        }
        let logit = |n, c| T::to_f64(logits[c * stride + n]);
        let rows =
            (0..n_points).map(|n| (0..n_components).map(|c| logit(n, c)).collect()).collect();
        Self { logits, rows, stride }
    }
}

fn random() -> impl FnMut() -> f64 {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    move || random.next_u64() as f64 / 2_f64.powi(64)
}

/// Equal, or both NaN, or near in units of `scale`.
fn assert_near<T: Scalar>(value: f64, expected: f64, scale: f64, context: &str) {
    let near = (value - expected).abs() <= T::EPSILON * scale;
    assert!(
        near || value == expected || (value.is_nan() && expected.is_nan()),
        "{value} is not {expected}: {context}"
    );
}

/// Every kernel at every level against the reference.
fn check_tile<T: Scalar>(tile: &Tile<T>, n_components: usize, weights: Option<&[f64]>, name: &str) {
    let n_points = tile.rows.len();
    let ones = vec![1.0; n_points];
    let point_weights = weights.unwrap_or(&ones);
    let expected = reference::softmax(&tile.rows, point_weights);
    // By parts, so that this sum's own rounding stays below the tolerance.
    let weighted = |values: &[f64]| -> f64 {
        let term = |(value, weight): (&f64, &f64)| weight * value;
        let parts = values.chunks(16).zip(point_weights.chunks(16));
        parts.map(|(values, weights)| values.iter().zip(weights).map(term).sum::<f64>()).sum()
    };
    let magnitude = |n: usize| {
        tile.rows[n].iter().filter(|z| z.is_finite()).fold(0.0, |m: f64, z| m.max(z.abs()))
    };
    let largest = (0..n_points).map(magnitude).fold(1.0, f64::max);
    let total_weight: f64 = point_weights.iter().sum();

    for (level, simd) in Simd::available() {
        let context =
            format!("{name}, {} {level:?}, {n_points} points, {n_components} components", T::NAME);

        let mut responsibilities = tile.logits.clone();
        let mut mass = vec![0.5; n_components];
        let mut evidences = vec![0.0; n_points];
        let totals = softmax(
            simd,
            &mut responsibilities,
            tile.stride,
            n_points,
            weights,
            &mut mass,
            Some(&mut evidences),
        );
        // Rounding of sums over components, and of the largest logits that are not cut off.
        let errors = 16.0 + n_components as f64;
        for (index, value) in responsibilities.iter().enumerate() {
            let (c, n) = (index / tile.stride, index % tile.stride);
            if n >= n_points {
                assert_eq!(value.to_f64(), GUARD, "{context}");
                continue;
            }
            let mut exact = expected.responsibilities[n][c];
            if !expected.log_evidence[n].is_finite() {
                exact = f64::NAN;
            }
            // Rounding of the shifted logit; and the smallest exp before it is 0.
            let below = (tile.rows[n][c] - expected.log_evidence[n]).abs().min(1000.0);
            let scale = (errors + below) * exact.abs()
                + negligible::<T>().to_f64().exp() * 4.0 / T::EPSILON;
            assert_near::<T>(value.to_f64(), exact, scale, &context);
        }
        let broken = expected.log_evidence.iter().any(|evidence| !evidence.is_finite());
        for (mass, exact) in mass.iter().zip(&expected.mass) {
            let exact = if broken { f64::NAN } else { exact + 0.5 };
            assert_near::<T>(*mass, exact, 100.0 * exact, &context);
        }

        let evidence = weighted(&expected.log_evidence);
        let entropy = if broken { f64::NAN } else { weighted(&expected.entropy) };
        assert_near::<T>(totals.log_evidence, evidence, errors * largest * total_weight, &context);
        assert_near::<T>(
            totals.posterior_entropy,
            entropy,
            100.0 * errors * total_weight,
            &context,
        );

        let mut log_evidence = vec![0.0; n_points];
        log_sum_exp(simd, &tile.logits, tile.stride, n_components, &mut log_evidence);
        for (n, exact) in expected.log_evidence.iter().enumerate() {
            for value in [log_evidence[n], evidences[n]] {
                assert_near::<T>(value, *exact, errors * (1.0 + magnitude(n)), &context);
            }
        }

        let mut labels = vec![u32::MAX; n_points];
        let mut mass = vec![0.5; n_components];
        let totals = argmax(simd, &tile.logits, tile.stride, weights, &mut labels, &mut mass);
        let mut exact_mass = vec![0.5; n_components];
        let mut exact_evidence = Vec::new();
        for ((label, row), weight) in labels.iter().zip(&tile.rows).zip(point_weights) {
            let (exact_label, max) = reference::argmax(row);
            assert_eq!(*label as usize, exact_label, "{context}");
            exact_mass[exact_label] += weight;
            exact_evidence.push(max);
        }
        assert_eq!(mass, exact_mass, "{context}");
        let scale = errors * largest * total_weight;
        assert_near::<f64>(totals.log_evidence, weighted(&exact_evidence), 10.0 * scale, &context);
        assert_eq!(totals.posterior_entropy, 0.0, "{context}");
    }
}

fn check_shapes<T: Scalar>() {
    let mut random = random();
    for n_points in POINTS {
        for n_components in COMPONENTS {
            let spread = [1.0, 40.0, 1000.0][n_points % 3];
            let tile = Tile::<T>::new(n_points, n_components, |_, _| spread * (random() - 0.7));
            check_tile(&tile, n_components, None, "random");
            // Multiples of a quarter, so that hard masses are exact; a third of them 0.
            let weights: Vec<f64> = (0..n_points).map(|n| (n % 3) as f64 * 0.25).collect();
            check_tile(&tile, n_components, Some(&weights), "weighted");
        }
    }
}

fn check_extremes<T: Scalar>() {
    let inf = f64::INFINITY;
    for n_points in POINTS {
        for n_components in COMPONENTS {
            let check = |name, logit: fn(usize, usize) -> f64| {
                check_tile(
                    &Tile::<T>::new(n_points, n_components, logit),
                    n_components,
                    None,
                    name,
                );
            };
            check("all equal", |_, _| -3.5);
            check("spread of 1e30", |n, c| if (n + c) % 2 == 0 { 1e17 } else { -1e30 });
            check("first is -∞", |_, c| if c == 0 { -f64::INFINITY } else { -(c as f64) });
            check("rising from -∞", |n, c| if c < n % 5 { -f64::INFINITY } else { c as f64 });
        }
    }
    // One bad point among good ones, in a full strip, a short one and alone.
    for bad in [3, 34, 40] {
        for (name, value) in [("NaN", f64::NAN), ("all -∞", -inf)] {
            let logit =
                |n, c| if n == bad && (c == 1 || value == -inf) { value } else { -(c as f64) };
            let tile = Tile::<T>::new(41, 3, logit);
            check_tile(&tile, 3, None, name);
        }
    }
}

#[test]
fn kernels_equal_the_reference_f32() {
    check_shapes::<f32>();
}

#[test]
fn kernels_equal_the_reference_f64() {
    check_shapes::<f64>();
}

#[test]
fn extreme_logits_f32() {
    check_extremes::<f32>();
}

#[test]
fn extreme_logits_f64() {
    check_extremes::<f64>();
}

#[test]
fn no_components_no_evidence() {
    let mut log_evidence = [0.0; 3];
    log_sum_exp::<f64>(Simd::detect(), &[], 3, 0, &mut log_evidence);
    assert_eq!(log_evidence, [f64::NEG_INFINITY; 3]);
}

#[test]
#[should_panic(expected = "too few logits")]
fn short_tiles_are_refused() {
    softmax(Simd::detect(), &mut [0.0; 19], 10, 10, None, &mut [0.0; 2], None);
}

#[test]
fn padded_strides_are_odd_in_cache_lines() {
    assert_eq!(padded_stride::<f64>(256), 264);
    assert_eq!(padded_stride::<f64>(257), 264);
    assert_eq!(padded_stride::<f32>(256), 272);
    assert_eq!(padded_stride::<f32>(1), 16);
}
