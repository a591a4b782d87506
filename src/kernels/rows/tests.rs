//! Moves of parameters and sums against their definition.

use super::*;
use crate::kernels::reference;
use faer::MatRef;

fn value(k: usize) -> f64 {
    (k * 29 % 17) as f64 / 8.0 - 1.0
}

fn lists() -> Vec<Vec<Statistic>> {
    use Statistic::*;
    let values = || (0..3).map(Value);
    let full = (0..3).flat_map(|i| (i..3).map(move |j| Product(i, j)));
    let squares = || (0..3).map(|d| Product(d, d));
    vec![
        values().collect(),
        values().chain(full).collect(),
        values().chain(squares()).collect(),
        values().chain([SquaredNorm(0, 3)]).collect(),
        squares().chain(values()).collect(),
        values().chain(squares()).chain((0..3).map(Observed)).collect(),
        vec![Value(2), Cos(0), Value(0), Product(0, 0), Product(2, 2), SquaredNorm(0, 1)],
    ]
}

/// `η · T(y + s)` equals moved parameters times `T(y)`, and sums move as the statistics of their points do.
#[test]
fn parameters_and_sums_move_from_one_centre_to_another() {
    let (dim, n) = (3, 5);
    for statistics in lists() {
        let rows = RowStatistics::new(statistics.clone(), dim);
        let len = rows.len();
        let has_centre = |d: usize| {
            // Columns of other functions have no centre.
            !statistics.contains(&Statistic::Cos(d as u32))
        };
        let missing = rows.observed.is_some();
        let shift: Vec<f64> =
            (0..dim).map(|d| if has_centre(d) { value(d + 3) } else { 0.0 }).collect();
        let points: Vec<f64> =
            (0..n * dim).map(|k| if missing && k == 4 { f64::NAN } else { value(5 * k) }).collect();
        let statistic_rows = |shift: &[f64]| -> Vec<Vec<f64>> {
            let row = |point: &[f64]| {
                let x: Vec<f64> = point.iter().zip(shift).map(|(y, s)| y + s).collect();
                let of = |&it: &Statistic| reference::statistic(it, &x);
                let all = statistics.iter().map(of);
                all.map(|t: f64| if t.is_nan() { 0.0 } else { t }).collect()
            };
            points.chunks(dim).map(row).collect()
        };
        let (about, moved) = (statistic_rows(&[0.0; 3]), statistic_rows(&shift));
        for (_, simd) in Simd::available() {
            let mut evaluated = vec![0.0; n * len];
            rows.evaluate(simd, &points, &mut evaluated);
            if rows.begin_with_values() {
                let mut again = vec![9.0; n * len];
                for (row, point) in again.chunks_mut(len).zip(points.chunks(dim)) {
                    row[..dim].copy_from_slice(point);
                }
                rows.evaluate_after_values(simd, &mut again);
                assert_eq!(again, evaluated);
            }
            for (row, expected) in evaluated.chunks(len).zip(&about) {
                for (found, expected) in row.iter().zip(expected) {
                    assert!((found - expected).abs() < 1e-14, "{statistics:?}");
                }
            }
            // Two components, of which the second has its centre `shift` before that of the panel.
            let natural: Vec<f64> = (0..2 * len).map(|k| value(11 * k + 1)).collect();
            let bias = [0.25, -0.5];
            let centres: Vec<f64> = [vec![0.0; dim], shift.iter().map(|s| -s).collect()].concat();
            let width = padded_width::<f64>(2);
            let (mut panel, mut panel_bias) = (vec![9.0; width * len], vec![9.0; width]);
            let own = [0.0; 3];
            let table = ParameterTable { natural: &natural, bias: &bias, centres: &centres };
            let columns = [&mut panel[..], &mut panel_bias];
            rows.pack(simd, table, &[0, 1], &own, columns, 0);
            for i in 0..n {
                for g in 0..2 {
                    let row = if g == 0 { &about[i] } else { &moved[i] };
                    let eta = &natural[g * len..][..len];
                    let expected: f64 =
                        bias[g] + eta.iter().zip(row).map(|(a, b)| a * b).sum::<f64>();
                    let columns = (0..len).map(|l| panel[l * width + g] * about[i][l]);
                    let found = panel_bias[g] + columns.sum::<f64>();
                    assert!((found - expected).abs() < 1e-13, "{statistics:?} {found} {expected}");
                }
            }
            assert!(panel_bias[2..].iter().all(|&b| b == f64::NEG_INFINITY));
            assert!((0..len).all(|l| panel[l * width + 2] == 0.0));
            let mut logits = [0.0; 2];
            rows.logits_of(simd, table, &[1, 0], &own, &about[0], &mut logits);
            for (g, found) in [1, 0].into_iter().zip(logits) {
                let columns = (0..len).map(|l| panel[l * width + g] * about[0][l]);
                let expected = panel_bias[g] + columns.sum::<f64>();
                assert!((found - expected).abs() < 1e-13, "{statistics:?}");
            }
        }
        let weights: Vec<f64> = (0..n).map(|i| 0.5 + i as f64).collect();
        let sum = |rows: &[Vec<f64>], l: usize| -> f64 {
            rows.iter().zip(&weights).map(|(row, w)| w * row[l]).sum()
        };
        let from: Vec<f64> = (0..len).map(|l| sum(&about, l)).collect();
        let mut to = vec![1.0; len];
        rows.add_moved(Simd::detect(), &from, weights.iter().sum(), &shift, &mut to);
        for l in 0..len {
            assert!((to[l] - 1.0 - sum(&moved, l)).abs() < 1e-12, "{statistics:?} {l}");
        }
    }
}

/// Each point adds its statistics about the centre, times its weight, to its own component alone.
#[test]
fn labelled_points_add_to_their_components() {
    let (dim, n) = (3, 7);
    let centre = [0.5, -0.25, 1.0];
    let points = faer::Mat::from_fn(n, dim, |i, d| value(5 * i + d));
    let row_major: Vec<f64> = (0..n * dim).map(|k| points[(k / dim, k % dim)]).collect();
    let view = MatRef::from_row_major_slice(&row_major, n, dim);
    // Label 2 stands for no component here, as that of a component which is summed elsewhere.
    let (labels, components) = ([0, 1, 2, 1, 0, 2, 1], [2, 0]);
    let weights: Vec<f64> = (0..n).map(|i| 0.5 + i as f64).collect();
    let mut tried = 0;
    for statistics in lists() {
        let rows = RowStatistics::new(statistics.clone(), dim);
        if !rows.may_be_labelled() {
            continue;
        }
        tried += 1;
        for (_, simd) in Simd::available() {
            for (weights, centre) in [(None, &centre[..]), (Some(&weights[..]), &[])] {
                let mut sums = vec![1.0; 3 * rows.len()];
                rows.add_labelled(simd, view, centre, &labels, weights, &components, &mut sums);
                for (c, sums) in sums.chunks(rows.len()).enumerate() {
                    for (&statistic, &sum) in statistics.iter().zip(sums) {
                        let mut expected = 1.0;
                        for i in 0..n {
                            let shift = |d: usize| centre.get(d).copied().unwrap_or(0.0);
                            let x = [0, 1, 2].map(|d| points[(i, d)] - shift(d));
                            if components.get(labels[i] as usize) == Some(&c) {
                                let weight = weights.map_or(1.0, |weights| weights[i]);
                                expected += weight * reference::statistic(statistic, &x);
                            }
                        }
                        assert!((sum - expected).abs() < 1e-12, "{statistics:?} {c}");
                    }
                }
            }
        }
    }
    assert_eq!(tried, 4, "lists that begin with values and hold products alone");
}

#[test]
fn neighbours_of_one_form_are_one_run() {
    let [_, full, diag, ..] = &lists()[..] else { unreachable!() };
    assert_eq!(RowStatistics::new(diag.clone(), 3).runs.len(), 2);
    // Values, and of each row of the triangle its square and its other products.
    assert_eq!(RowStatistics::new(full.clone(), 3).runs.len(), 6);
}
