//! Posteriors of points over a few candidate components: logits, selection of the largest, softmax, sums.
//!
//! The points of a tile share their candidates, and may be few. So registers hold neighbouring candidates, not points: rows of
//! statistics times a *panel*, one column a candidate. All matrices here are row-major, one row a point.

use super::dispatch::{Kernel, MulAdd, Simd, VectorKernel, Vectors};
use crate::scalar::Scalar;

/// Marks a place of a set that holds no candidate.
pub const ABSENT: u32 = u32::MAX;

/// Logits that are looked at together.
const GROUP: usize = 8;

/// Returns the number of columns of a panel of so many candidates: whole vectors of any instruction set.
pub fn padded_width<T>(n_candidates: usize) -> usize {
    n_candidates.next_multiple_of(64 / size_of::<T>())
}

/// Computes the logits `bias_g + Σ_l t_l h_lg` of points under each of the first `n_candidates` candidates.
///
/// # Shapes
/// `statistics: B × L`, `panel: L × G`, `bias: G`, `out: B × G`, with G from [`padded_width`]. Columns without a candidate have a
/// bias of -∞ and zeros. Columns beyond [`padded_width`] of the candidates stay as they are.
///
/// # Panics
/// If shapes do not agree.
pub fn logits<T: Scalar>(
    simd: Simd,
    statistics: &[T],
    n_statistics: usize,
    panel: &[T],
    bias: &[T],
    n_candidates: usize,
    out: &mut [T],
) {
    let width = bias.len();
    assert_eq!(width, padded_width::<T>(width), "whole vectors of candidates");
    let columns = padded_width::<T>(n_candidates);
    assert!(columns <= width, "one column a candidate");
    assert_eq!(panel.len(), n_statistics * width, "one row a statistic");
    assert_eq!(out.len() * n_statistics, statistics.len() * width, "one row a point");
    T::run_on_vectors(simd, Logits { statistics, n_statistics, panel, bias, columns, out });
}

struct Logits<'a, T> {
    statistics: &'a [T],
    n_statistics: usize,
    panel: &'a [T],
    bias: &'a [T],
    columns: usize,
    out: &'a mut [T],
}

impl<T: Scalar> VectorKernel<T> for Logits<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vectors<Element = T>>(mut self, simd: S) {
        let mut first = 0;
        while first < self.columns {
            let left = (self.columns - first) / S::COUNT;
            first += S::COUNT
                * match left {
                    4.. if S::REGISTERS >= 32 => self.columns::<S, 4>(simd, first),
                    2.. => self.columns::<S, 2>(simd, first),
                    _ => self.columns::<S, 1>(simd, first),
                };
        }
    }
}

impl<T: Scalar> Logits<'_, T> {
    /// All points under V vectors of candidates. Returns V.
    #[inline(always)]
    fn columns<S: Vectors<Element = T>, const V: usize>(&mut self, simd: S, first: usize) -> usize {
        let n_points = self.out.len() / self.bias.len();
        let mut point = 0;
        while point < n_points {
            point += match n_points - point {
                6.. => self.block::<S, V, 6>(simd, first, point),
                5 => self.block::<S, V, 5>(simd, first, point),
                4 => self.block::<S, V, 4>(simd, first, point),
                3 => self.block::<S, V, 3>(simd, first, point),
                2 => self.block::<S, V, 2>(simd, first, point),
                _ => self.block::<S, V, 1>(simd, first, point),
            };
        }
        V
    }

    /// P points under V vectors of candidates: sums in registers. Returns P.
    #[inline(always)]
    fn block<S: Vectors<Element = T>, const V: usize, const P: usize>(
        &mut self,
        simd: S,
        first: usize,
        point: usize,
    ) -> usize {
        let (width, n_statistics) = (self.bias.len(), self.n_statistics);
        let columns = first..first + V * S::COUNT;
        let bias = &S::vectors(&self.bias[columns.clone()])[..V];
        let mut sums = [[simd.splat(T::ZERO); V]; P];
        for sums in &mut sums {
            sums.copy_from_slice(bias);
        }
        let rows: [&[T]; P] =
            std::array::from_fn(|p| &self.statistics[(point + p) * n_statistics..][..n_statistics]);
        for l in 0..n_statistics {
            let h = &S::vectors(&self.panel[l * width..][columns.clone()])[..V];
            for p in 0..P {
                let t = simd.splat(rows[p][l]);
                for v in 0..V {
                    sums[p][v] = simd.mul_add(t, h[v], sums[p][v]);
                }
            }
        }
        for (p, sums) in sums.iter().enumerate() {
            let out = &mut self.out[(point + p) * width..][columns.clone()];
            S::vectors_mut(out)[..V].copy_from_slice(sums);
        }
        P
    }
}

/// Finds the largest of the first `n_candidates` logits of each point, in falling order; of equals the first comes first.
///
/// Logits that lie `cut` or more below the largest are left out.
///
/// # Shapes
/// `logits: B × G`; `places` and `values`: B × S. Places that are not taken hold [`ABSENT`] and -∞. A point without a finite
/// largest logit gets an empty set.
///
/// # Panics
/// If shapes do not agree.
#[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
pub fn select<T: Scalar>(
    simd: Simd,
    logits: &[T],
    width: usize,
    n_candidates: usize,
    states: usize,
    cut: f64,
    places: &mut [u32],
    values: &mut [T],
) {
    assert!(width.is_multiple_of(GROUP) && states > 0, "whole groups of logits");
    assert_eq!(places.len(), values.len(), "one value a place");
    assert_eq!(logits.len() * states, places.len() * width, "one set a point");
    let (columns, cut) = (n_candidates.next_multiple_of(GROUP), T::from_f64(cut));
    assert!(columns <= width, "one column a candidate");
    simd.run(Select { logits, width, columns, states, cut, places, values });
}

struct Select<'a, T> {
    logits: &'a [T],
    width: usize,
    columns: usize,
    states: usize,
    cut: T,
    places: &'a mut [u32],
    values: &'a mut [T],
}

impl<T: Scalar> Kernel for Select<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let sets = self.places.chunks_exact_mut(self.states);
        let sets = sets.zip(self.values.chunks_exact_mut(self.states));
        for (logits, (places, values)) in self.logits.chunks_exact(self.width).zip(sets) {
            let logits = &logits[..self.columns];
            let mut lanes = [T::NEG_INFINITY; GROUP];
            for group in logits.chunks_exact(GROUP) {
                for (largest, &value) in lanes.iter_mut().zip(group) {
                    *largest = if value > *largest { value } else { *largest };
                }
            }
            let larger = |a: T, &b: &T| if b > a { b } else { a };
            let least = lanes.iter().fold(T::NEG_INFINITY, larger) - self.cut;
            places.fill(ABSENT);
            values.fill(T::NEG_INFINITY);
            let mut count = 0;
            for (g, group) in logits.chunks_exact(GROUP).enumerate() {
                // Most groups hold none: one branch for all of them.
                if !group.iter().fold(false, |any, &value| any | (value > least)) {
                    continue;
                }
                for (k, &value) in group.iter().enumerate() {
                    if value > least && value > values[self.states - 1] {
                        let mut at = count.min(self.states - 1);
                        while at > 0 && values[at - 1] < value {
                            (values[at], places[at]) = (values[at - 1], places[at - 1]);
                            at -= 1;
                        }
                        (values[at], places[at]) = (value, (g * GROUP + k) as u32);
                        count += 1;
                    }
                }
            }
        }
    }
}

/// Turns the values of sets, as [`select`] leaves them, into posteriors.
///
/// `log_evidence` and `entropy` get a value a point, in nats; NaN and 0 for an empty set.
///
/// # Shapes
/// `values` and `scratch`: B × S.
///
/// # Panics
/// If shapes do not agree.
pub fn posteriors<T: Scalar>(
    simd: Simd,
    states: usize,
    values: &mut [T],
    scratch: &mut [T],
    log_evidence: &mut [f64],
    entropy: &mut [f64],
) {
    assert_eq!(values.len(), states * log_evidence.len(), "one set a point");
    assert_eq!(values.len(), scratch.len(), "one number a place");
    assert_eq!(entropy.len(), log_evidence.len(), "one entropy a point");
    simd.run(Posteriors { states, values, scratch, log_evidence, entropy });
}

struct Posteriors<'a, T> {
    states: usize,
    values: &'a mut [T],
    scratch: &'a mut [T],
    log_evidence: &'a mut [f64],
    entropy: &'a mut [f64],
}

impl<T: Scalar> Kernel for Posteriors<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        for (values, log_evidence) in
            self.values.chunks_exact_mut(self.states).zip(&mut *self.log_evidence)
        {
            let largest = values[0];
            *log_evidence = if largest.is_finite() { largest.to_f64() } else { f64::NAN };
            values.iter_mut().for_each(|value| *value -= largest);
        }
        // Of all points together, since a set fills no vector. Places that are not taken give 0 and 0.
        for (value, product) in self.values.iter_mut().zip(&mut *self.scratch) {
            let difference = *value;
            *value = difference.exp::<M>();
            *product = if *value > T::ZERO { *value * difference } else { T::ZERO };
        }
        let sets =
            self.values.chunks_exact_mut(self.states).zip(self.scratch.chunks_exact(self.states));
        let sums = self.log_evidence.iter_mut().zip(self.entropy.iter_mut());
        for ((values, products), (log_evidence, entropy)) in sets.zip(sums) {
            *entropy = 0.0;
            if log_evidence.is_nan() {
                values.fill(T::ZERO);
                continue;
            }
            let total = values.iter().fold(T::ZERO, |sum, &value| sum + value);
            if total > T::ONE {
                let products = products.iter().fold(T::ZERO, |sum, &value| sum + value);
                let log_total = total.to_f64().ln();
                *log_evidence += log_total;
                *entropy = log_total - products.to_f64() / total.to_f64();
                let scale = T::ONE / total;
                values.iter_mut().for_each(|value| *value *= scale);
            }
        }
    }
}

/// Adds the statistics of points, times their responsibilities, to the sums of the candidates in their sets.
///
/// # Shapes
/// `statistics: B × L`; `places` and `responsibilities`: B × S; `sums`: L a candidate.
///
/// # Panics
/// If shapes do not agree.
pub fn accumulate<T: Scalar>(
    simd: Simd,
    statistics: &[T],
    n_statistics: usize,
    states: usize,
    places: &[u32],
    responsibilities: &[T],
    sums: &mut [T],
) {
    assert_eq!(statistics.len() * states, places.len() * n_statistics, "one set a point");
    assert_eq!(places.len(), responsibilities.len(), "one responsibility a place");
    simd.run(Accumulate { statistics, n_statistics, states, places, responsibilities, sums });
}

struct Accumulate<'a, T> {
    statistics: &'a [T],
    n_statistics: usize,
    states: usize,
    places: &'a [u32],
    responsibilities: &'a [T],
    sums: &'a mut [T],
}

impl<T: Scalar> Kernel for Accumulate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let sets = self.places.chunks_exact(self.states);
        let sets = sets.zip(self.responsibilities.chunks_exact(self.states));
        for (row, (places, weights)) in self.statistics.chunks_exact(self.n_statistics).zip(sets) {
            for (&place, &weight) in places.iter().zip(weights) {
                if weight > T::ZERO {
                    let sums = &mut self.sums[place as usize * self.n_statistics..];
                    for (sum, &t) in sums.iter_mut().zip(row) {
                        *sum = M::mul_add(weight, t, *sum);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference;

    fn value(k: usize) -> f64 {
        (k * 29 % 17) as f64 / 8.0 - 1.0
    }

    /// Logits, sets, posteriors and sums agree with their definitions, for any number of points and candidates.
    fn matches_the_definition<T: Scalar>(tolerance: f64) {
        for (level, simd) in Simd::available() {
            for (n, n_statistics, n_candidates, states) in [
                (1, 1, 1, 1),
                (2, 3, 5, 8),
                (5, 4, 16, 3),
                (6, 7, 20, 1),
                (13, 5, 70, 8),
                (64, 2, 33, 5),
            ] {
                // Some columns are kept for more.
                let width = padded_width::<T>(n_candidates + 9);
                let t: Vec<T> = (0..n * n_statistics).map(|k| T::from_f64(value(7 * k))).collect();
                let natural = |l: usize, g: usize| value(3 * l + 5 * g) * 6.0;
                let panel: Vec<T> = (0..n_statistics * width)
                    .map(|k| match k % width {
                        g if g < n_candidates => T::from_f64(natural(k / width, g)),
                        _ => T::ZERO,
                    })
                    .collect();
                let bias: Vec<T> = (0..width)
                    .map(|g| if g < n_candidates { T::from_f64(value(g)) } else { T::NEG_INFINITY })
                    .collect();
                let mut z = vec![T::from_f64(f64::INFINITY); n * width];
                logits(simd, &t, n_statistics, &panel, &bias, n_candidates, &mut z);
                let mut places = vec![0; n * states];
                let mut q = vec![T::ZERO; n * states];
                select(simd, &z, width, n_candidates, states, 30.0, &mut places, &mut q);
                let [mut evidence, mut entropy] = [vec![0.0; n], vec![0.0; n]];
                let mut scratch = q.clone();
                posteriors(simd, states, &mut q, &mut scratch, &mut evidence, &mut entropy);
                let mut sums = vec![T::ZERO; width * n_statistics];
                accumulate(simd, &t, n_statistics, states, &places, &q, &mut sums);
                let mut expected_sums = vec![0.0; width * n_statistics];
                for i in 0..n {
                    let row: Vec<f64> =
                        t[i * n_statistics..][..n_statistics].iter().map(|t| t.to_f64()).collect();
                    let mut all: Vec<(f64, usize)> = (0..n_candidates)
                        .map(|g| {
                            let products = row.iter().enumerate().map(|(l, t)| t * natural(l, g));
                            (value(g) + products.sum::<f64>(), g)
                        })
                        .collect();
                    for (z, g) in &all {
                        let found = z_at(&t, &panel, &bias, i, *g, n_statistics);
                        assert!((found - z).abs() <= tolerance * 20.0, "{level:?}");
                    }
                    // Ties of rounded logits may be broken in another order: sets are compared by the logits that were found.
                    all.sort_by(|a, b| b.0.total_cmp(&a.0));
                    let least = all[0].0 - 30.0;
                    all.retain(|it| it.0 > least);
                    all.truncate(states);
                    let set = &places[i * states..][..states];
                    let found: Vec<usize> =
                        set.iter().filter(|&&g| g != ABSENT).map(|&g| g as usize).collect();
                    assert_eq!(found.len(), all.len(), "{level:?} {i}");
                    let logits: Vec<Vec<f64>> = vec![all.iter().map(|it| it.0).collect()];
                    let posterior = reference::softmax(&logits, &[1.0]);
                    assert!((evidence[i] - posterior.log_evidence[0]).abs() <= 40.0 * tolerance);
                    assert!((entropy[i] - posterior.entropy[0]).abs() <= 40.0 * tolerance);
                    for (k, &g) in found.iter().enumerate() {
                        let expected = posterior.responsibilities[0][k];
                        assert!((q[i * states + k].to_f64() - expected).abs() <= 40.0 * tolerance);
                        for l in 0..n_statistics {
                            expected_sums[g * n_statistics + l] += expected * row[l];
                        }
                    }
                }
                for (found, expected) in sums.iter().zip(&expected_sums) {
                    assert!((found.to_f64() - expected).abs() <= 500.0 * tolerance, "{level:?}");
                }
            }
        }
    }

    fn z_at<T: Scalar>(t: &[T], panel: &[T], bias: &[T], i: usize, g: usize, n: usize) -> f64 {
        let products = (0..n).map(|l| t[i * n + l].to_f64() * panel[l * bias.len() + g].to_f64());
        bias[g].to_f64() + products.sum::<f64>()
    }

    #[test]
    fn posteriors_match_their_definition_f32() {
        matches_the_definition::<f32>(1e-6);
    }

    #[test]
    fn posteriors_match_their_definition_f64() {
        matches_the_definition::<f64>(1e-14);
    }

    #[test]
    fn a_point_without_a_finite_logit_has_an_empty_set_and_no_evidence() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for (_, simd) in Simd::available() {
                let logits = [vec![bad; 8], vec![0.0; 8]].concat();
                let (mut places, mut values) = (vec![0; 4], vec![0.0; 4]);
                select(simd, &logits, 8, 8, 2, 36.0, &mut places, &mut values);
                assert_eq!(places, [ABSENT, ABSENT, 0, 1]);
                let [mut evidence, mut entropy] = [vec![0.0; 2], vec![0.0; 2]];
                posteriors(simd, 2, &mut values, &mut [0.0; 4], &mut evidence, &mut entropy);
                assert!(evidence[0].is_nan() && (evidence[1] - 2f64.ln()).abs() < 1e-15);
                assert_eq!(values, [0.0, 0.0, 0.5, 0.5]);
            }
        }
    }

    #[test]
    #[should_panic(expected = "whole vectors")]
    fn odd_widths_are_refused() {
        logits(Simd::detect(), &[0.0; 2], 1, &[0.0; 3], &[0.0; 3], 3, &mut [0.0; 6]);
    }
}
