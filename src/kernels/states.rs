//! Tables over all 2^H states of H binary latents.
//!
//! State `s` has the latents `z_1 … z_H` as its binary digits, `z_1` the most significant. A function that is linear in
//! `z` takes one addition a state to tabulate (state `s` with one more latent is a state that is known already), and the
//! sums `Σ_s z_h(s) v_s` take two: no product with the matrix of all states is needed.
//!
//! For points, a table has one column a state, and a column is the `W` points of a strip; for the parameters of one
//! observable a table is a plain slice.

use super::dispatch::{Kernel, MulAdd, Simd};
use crate::scalar::Scalar;

/// Fills the table with `Σ_h z_h(s) u_h + u_0 + bias_s`.
///
/// # Shapes
/// `inputs: H + 1` columns `u_1 … u_H, u_0`; `bias, table: 2^H`.
///
/// # Panics
/// If the sizes differ.
pub fn enumerate<T: Scalar, const W: usize>(
    simd: Simd,
    inputs: &[[T; W]],
    bias: &[T],
    table: &mut [[T; W]],
) {
    assert!(table.len() == 1 << (inputs.len() - 1) && bias.len() == table.len());
    simd.run(Enumerate { inputs, bias, table });
}

/// Sums `m_h = Σ_s z_h(s) v_s` and, last, `Σ_s v_s` of a table `v`, which is lost.
///
/// # Shapes
/// `table: 2^H`, `moments: H + 1` columns.
///
/// # Panics
/// If the sizes differ.
pub fn fold<T: Scalar, const W: usize>(simd: Simd, table: &mut [[T; W]], moments: &mut [[T; W]]) {
    assert!(table.len() == 1 << (moments.len() - 1));
    simd.run(Fold { table, moments });
}

/// Fills `table` with `Σ_h z_h(s) w_h + w_0`, for weights `w_1 … w_H, w_0`.
///
/// # Panics
/// If the sizes differ.
pub fn linear(simd: Simd, weights: &[f64], table: &mut [f64]) {
    assert_eq!(table.len(), 1 << (weights.len() - 1));
    simd.run(Linear { weights, table });
}

/// Computes the first moments `m_h = Σ_s z_h(s) v_s` and, last, `Σ_s v_s` of a table `v`, which is lost.
///
/// # Panics
/// If the sizes differ.
pub fn first_moments(simd: Simd, table: &mut [f64], moments: &mut [f64]) {
    assert_eq!(table.len(), 1 << (moments.len() - 1));
    simd.run(FirstMoments { table, moments });
}

/// Computes the second moments `M_hk = Σ_s z_h(s) z_k(s) v_s`, with `z_0 = 1` last, of a table `v`, which is lost.
///
/// The moments of the states with one latent on are first moments of half the table; then the latent is summed out. So
/// all H² of them cost a few passes over the table.
///
/// # Shapes
/// `table, scratch: 2^H`, `moments: (H + 1) × (H + 1)`, of which the upper triangle is written.
///
/// # Panics
/// If the sizes differ.
pub fn second_moments(simd: Simd, table: &mut [f64], scratch: &mut [f64], moments: &mut [f64]) {
    let n = table.len().ilog2() as usize + 1;
    assert!(table.len() == 1 << (n - 1) && moments.len() == n * n && scratch.len() >= table.len());
    simd.run(SecondMoments { table, scratch, moments, n });
}

struct Enumerate<'a, T, const W: usize> {
    inputs: &'a [[T; W]],
    bias: &'a [T],
    table: &'a mut [[T; W]],
}

impl<T: Scalar, const W: usize> Kernel for Enumerate<'_, T, W> {
    type Output = ();
    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let (last, inputs) = self.inputs.split_last().expect("checked on entry");
        self.table[0] = *last;
        let mut half = 1;
        for input in inputs.iter().rev() {
            let (known, new) = self.table[..2 * half].split_at_mut(half);
            for (known, new) in known.iter().zip(new) {
                for i in 0..W {
                    new[i] = known[i] + input[i];
                }
            }
            half *= 2;
        }
        for (column, &bias) in self.table.iter_mut().zip(self.bias) {
            for value in column {
                *value += bias;
            }
        }
    }
}

struct Fold<'a, T, const W: usize> {
    table: &'a mut [[T; W]],
    moments: &'a mut [[T; W]],
}

impl<T: Scalar, const W: usize> Kernel for Fold<'_, T, W> {
    type Output = ();
    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let (last, moments) = self.moments.split_last_mut().expect("checked on entry");
        let mut half = self.table.len() / 2;
        for moment in moments {
            let mut sum = [T::ZERO; W];
            let (low, high) = self.table[..2 * half].split_at_mut(half);
            for (low, high) in low.iter_mut().zip(high) {
                for i in 0..W {
                    sum[i] += high[i];
                    low[i] += high[i];
                }
            }
            *moment = sum;
            half /= 2;
        }
        *last = self.table[0];
    }
}

struct Linear<'a> {
    weights: &'a [f64],
    table: &'a mut [f64],
}

impl Kernel for Linear<'_> {
    type Output = ();
    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let (&bias, weights) = self.weights.split_last().expect("checked on entry");
        self.table[0] = bias;
        let mut half = 1;
        for &weight in weights.iter().rev() {
            let (known, new) = self.table[..2 * half].split_at_mut(half);
            for (known, new) in known.iter().zip(new) {
                *new = known + weight;
            }
            half *= 2;
        }
    }
}

/// Adds the second half of a table to the first and returns the sum of the second. Eight partial sums vectorise.
#[inline(always)]
fn halve(table: &mut [f64]) -> f64 {
    const LANES: usize = 8;
    let (low, high) = table.split_at_mut(table.len() / 2);
    let mut sums = [0.0; LANES];
    let (low_lanes, low_rest) = low.as_chunks_mut::<LANES>();
    let (high_lanes, high_rest) = high.as_chunks::<LANES>();
    for (low, high) in low_lanes.iter_mut().zip(high_lanes) {
        for i in 0..LANES {
            sums[i] += high[i];
            low[i] += high[i];
        }
    }
    let mut sum: f64 = sums.iter().sum();
    for (low, high) in low_rest.iter_mut().zip(high_rest) {
        sum += high;
        *low += high;
    }
    sum
}

struct FirstMoments<'a> {
    table: &'a mut [f64],
    moments: &'a mut [f64],
}

impl FirstMoments<'_> {
    #[inline(always)]
    fn sum(self) {
        let (last, moments) = self.moments.split_last_mut().expect("checked on entry");
        let mut n = self.table.len();
        for moment in moments {
            *moment = halve(&mut self.table[..n]);
            n /= 2;
        }
        *last = self.table[0];
    }
}

impl Kernel for FirstMoments<'_> {
    type Output = ();
    #[inline(always)]
    fn run<M: MulAdd>(self) {
        self.sum();
    }
}

struct SecondMoments<'a> {
    table: &'a mut [f64],
    scratch: &'a mut [f64],
    moments: &'a mut [f64],
    n: usize,
}

impl Kernel for SecondMoments<'_> {
    type Output = ();
    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let n = self.n;
        let mut half = self.table.len() / 2;
        for h in 0..n - 1 {
            let (low, high) = self.table[..2 * half].split_at_mut(half);
            let scratch = &mut self.scratch[..half];
            scratch.copy_from_slice(high);
            for (low, high) in low.iter_mut().zip(high) {
                *low += *high;
            }
            let row = &mut self.moments[h * n..][..n];
            FirstMoments { table: scratch, moments: &mut row[h + 1..] }.sum();
            // z_h² = z_h.
            row[h] = row[n - 1];
            half /= 2;
        }
        self.moments[n * n - 1] = self.table[0];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digit(state: usize, latent: usize, latents: usize) -> f64 {
        ((state >> (latents - 1 - latent)) & 1) as f64
    }

    fn numbers(n: usize) -> Vec<f64> {
        (0..n).map(|k| ((k * 37 % 101) as f64 - 50.0) / 16.0).collect()
    }

    #[test]
    fn tables_and_moments_of_points_match_sums_over_all_states() {
        const W: usize = 8;
        for (_, simd) in Simd::available() {
            for latents in [1, 2, 5] {
                let states = 1 << latents;
                let inputs = numbers((latents + 1) * W);
                let (inputs, _) = inputs.as_chunks::<W>();
                let bias = numbers(states);
                let mut table = vec![[0.0; W]; states];
                enumerate(simd, inputs, &bias, &mut table);
                let mut moments = vec![[0.0; W]; latents + 1];
                let mut expected = vec![[0.0; W]; latents + 1];
                for (s, column) in table.iter().enumerate() {
                    for i in 0..W {
                        let sum: f64 =
                            (0..latents).map(|h| digit(s, h, latents) * inputs[h][i]).sum();
                        assert!((column[i] - (sum + inputs[latents][i] + bias[s])).abs() < 1e-13);
                        for h in 0..latents {
                            expected[h][i] += digit(s, h, latents) * column[i];
                        }
                        expected[latents][i] += column[i];
                    }
                }
                fold(simd, &mut table, &mut moments);
                for (found, expected) in moments.iter().zip(&expected) {
                    assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-11));
                }
            }
        }
    }

    #[test]
    fn tables_and_moments_of_parameters_match_sums_over_all_states() {
        for (_, simd) in Simd::available() {
            for latents in [0, 1, 3, 7] {
                let (n, states) = (latents + 1, 1 << latents);
                let weights = numbers(n);
                let mut table = vec![0.0; states];
                linear(simd, &weights, &mut table);
                let z = |s: usize, h: usize| if h == latents { 1.0 } else { digit(s, h, latents) };
                for (s, value) in table.iter().enumerate() {
                    let expected: f64 = (0..n).map(|h| z(s, h) * weights[h]).sum();
                    assert!((value - expected).abs() < 1e-13);
                }
                let (mut first, mut second) = (vec![0.0; n], vec![0.0; n * n]);
                first_moments(simd, &mut table.clone(), &mut first);
                let mut scratch = vec![0.0; states];
                second_moments(simd, &mut table.clone(), &mut scratch, &mut second);
                for h in 0..n {
                    let sum: f64 = (0..states).map(|s| z(s, h) * table[s]).sum();
                    assert!((first[h] - sum).abs() < 1e-11);
                    for k in h..n {
                        let sum: f64 = (0..states).map(|s| z(s, h) * z(s, k) * table[s]).sum();
                        assert!((second[h * n + k] - sum).abs() < 1e-11, "{h} {k}");
                    }
                }
            }
        }
    }
}
