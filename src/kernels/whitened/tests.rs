use super::*;
use crate::kernels::softmax::padded_stride;

/// A tile of numbers around `far`, three components of each kind, and what the definition says of them.
fn matches_the_definition<T: Scalar>(tolerance: f64, far: f64) {
    let value = |k: usize| (k * 37 % 23) as f64 / 8.0 - 1.375;
    for (level, simd) in Simd::available() {
        for dim in [1, 2, 3, 4, 7, 9, 12, 13, 21] {
            for n in [0, 1, 5, 48, 67, 96, 150] {
                let stride = padded_stride::<T>(n);
                let mut tile = vec![T::ZERO; dim * stride];
                for (d, column) in tile.chunks_mut(stride).enumerate() {
                    for (i, x) in column[..n].iter_mut().enumerate() {
                        *x = T::from_f64(far + value(5 * i + 3 * d));
                    }
                }
                let tile = Tile { values: &tile, dim, n_points: n, stride };
                let at = |d: usize, i: usize| tile.values[d * stride + i].to_f64();
                for kind in 0..3 {
                    let factor = |c: usize, i: usize, j: usize| match kind {
                        0 if i == j => 0.5 + c as f64,
                        1 if i == j => 1.0 + value(i + c).abs(),
                        2 if i > j => value(2 * i + 7 * j + c) / dim as f64,
                        2 if i == j => 1.0 + value(i + c).abs(),
                        _ => 0.0,
                    };
                    // No mean is a number of the working precision.
                    let mean = |c: usize, d: usize| far + value(11 * d + c) + 0.1;
                    let bias = |c: usize| value(c);
                    let mut map = WhitenedMap::<T>::new(dim);
                    for c in 0..3 {
                        let mean: Vec<f64> = (0..dim).map(|d| mean(c, d)).collect();
                        let diagonal = (0..dim).map(|d| factor(c, d, d)).collect();
                        let all = (0..dim * dim).map(|k| factor(c, k / dim, k % dim)).collect();
                        let whitening = match kind {
                            0 => Whitening::Scale(factor(c, 0, 0)),
                            1 => Whitening::Diagonal(diagonal),
                            _ => Whitening::Triangle(all),
                        };
                        map.push(&mean, &whitening, bias(c));
                    }
                    let mut scratch = vec![T::ZERO; WhitenedMap::<T>::scratch_len(dim, stride)];
                    let mut logits = vec![T::ZERO; 3 * stride];
                    map.logits(simd, tile, &mut scratch, &mut logits);
                    for (c, i) in (0..3).flat_map(|c| (0..n).map(move |i| (c, i))) {
                        let row = |r: usize| -> f64 {
                            (0..=r).map(|d| factor(c, r, d) * (at(d, i) - mean(c, d))).sum()
                        };
                        let expected =
                            bias(c) - 0.5 * (0..dim).map(|r| row(r).powi(2)).sum::<f64>();
                        let error = (logits[c * stride + i].to_f64() - expected).abs();
                        let scale = 1.0 + expected.abs();
                        assert!(error <= tolerance * scale, "{level:?} {dim} {n} kind {kind}");
                        let alone = map.logit(c, |d| at(d, i), &mut Vec::new());
                        let error = (alone - expected).abs();
                        assert!(error <= tolerance * scale, "{dim} kind {kind}, alone: {error:e}");
                    }
                    let part = map.slice(1..3);
                    assert_eq!((part.len(), part.centre(0)), (2, map.centre(1)));
                    let mut weights: Vec<T> =
                        (0..stride).map(|i| T::from_f64(0.25 * (i % 5) as f64)).collect();
                    let w = |i: usize| 0.25 * (i % 5) as f64;
                    let n_second = [1, dim, dim * (dim + 1) / 2][kind];
                    let (mut first, mut second) = (vec![1.0; dim], vec![2.0; n_second]);
                    let mut lanes = vec![T::ZERO; part.lanes_len()];
                    // Half of them twice, and zeros after a flush.
                    weights.iter_mut().for_each(|weight| *weight *= T::from_f64(0.5));
                    for _ in 0..2 {
                        part.sums(simd, 0, tile, &mut weights, &mut scratch, &mut lanes);
                    }
                    for _ in 0..2 {
                        part.flush(simd, &mut lanes, &mut first, &mut second);
                    }
                    let y = |d: usize, i: usize| at(d, i) - map.centre(1)[d].to_f64();
                    let close = |sum: f64, expected: f64| {
                        let error = (sum - expected).abs();
                        assert!(error <= tolerance * (n + 1) as f64, "{level:?} {dim} {n} {kind}");
                    };
                    for d in 0..dim {
                        close(first[d] - 1.0, (0..n).map(|i| w(i) * y(d, i)).sum());
                    }
                    let product = |a: usize, b: usize| -> f64 {
                        (0..n).map(|i| w(i) * y(a, i) * y(b, i)).sum()
                    };
                    let expected: Vec<f64> = match kind {
                        0 => vec![(0..dim).map(|d| product(d, d)).sum()],
                        1 => (0..dim).map(|d| product(d, d)).collect(),
                        _ => (0..dim)
                            .flat_map(|a| (a..dim).map(move |b| (a, b)))
                            .map(|(a, b)| product(a, b))
                            .collect(),
                    };
                    for (&sum, expected) in second.iter().zip(expected) {
                        close((sum - 2.0) / dim as f64, expected / dim as f64);
                    }
                }
            }
        }
    }
}

#[test]
fn logits_and_sums_match_their_definition_f32() {
    matches_the_definition::<f32>(2e-6, 0.0);
}

#[test]
fn logits_and_sums_match_their_definition_f64() {
    matches_the_definition::<f64>(1e-14, 0.0);
}

/// Packed logits would be wrong by 0.1 nats here, and by 1e-9 in f64.
#[test]
fn digits_are_kept_a_thousand_widths_from_zero() {
    matches_the_definition::<f32>(2e-6, 1024.0);
    matches_the_definition::<f64>(1e-14, 1024.0);
}
