//! From logits to posteriors: softmax, argmax and ln sum exp over the components of each point.
//!
//! The logits of a tile are a column-major matrix, one column a component. A strip of neighbouring points
//! goes through all columns before the next strip does, so that it stays in the L1 cache between the passes
//! over it (maximum, exponentials, normalisation); a lane of a register is a point.
//!
//! A column stride that is a multiple of 2 KiB lets all columns of a strip compete for a few cache sets. Pad
//! it by a cache line, as [`padded_stride`] does.

use std::ops::AddAssign;

use super::dispatch::{Kernel, MulAdd, Simd};
use crate::scalar::Scalar;

/// Points of a full strip.
const STRIP: usize = 32;
/// Points of the strips after the last full one; then follow single points.
const SHORT_STRIP: usize = 8;

/// Sums over points, each times its weight.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Log-evidence, in nats. Not finite if any point has no finite log-evidence, whatever its weight.
    pub log_evidence: f64,
    /// Entropy of the posterior over components, in nats.
    pub posterior_entropy: f64,
}

impl AddAssign for Totals {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        self.log_evidence += other.log_evidence;
        self.posterior_entropy += other.posterior_entropy;
    }
}

/// Returns the least stride of columns of `n_points` that begins no two neighbours in the same cache set.
pub fn padded_stride<T>(n_points: usize) -> usize {
    const CACHE_LINE: usize = 64;
    let per_line = CACHE_LINE / size_of::<T>();
    // An odd number of lines.
    (n_points.div_ceil(per_line) | 1) * per_line
}

/// Replaces the logits of a tile by responsibilities times the weight of their point.
///
/// Column c of the tile is `logits[c * stride..][..n_points]`; there are `mass.len()` columns. What lies
/// between columns is left alone. The sum of the new column c is added to `mass[c]`; `log_evidence`, where it is
/// given, receives that of each point.
///
/// A logit of -∞ gives the responsibility 0 and adds nothing to the entropy. A point whose logits are all
/// -∞, or of which one is NaN or +∞, gets responsibilities NaN and a log-evidence of -∞ or NaN; these reach
/// the totals and the masses, but no other point.
///
/// # Panics
/// If the slices are too short, or `stride` is less than `n_points`.
pub fn softmax<T: Scalar>(
    simd: Simd,
    logits: &mut [T],
    stride: usize,
    n_points: usize,
    weights: Option<&[f64]>,
    mass: &mut [f64],
    log_evidence: Option<&mut [f64]>,
) -> Totals {
    check(logits, stride, n_points, weights, mass.len());
    assert!(
        log_evidence.as_ref().is_none_or(|out| out.len() == n_points),
        "one log-evidence a point"
    );
    simd.run(Softmax { logits, stride, n_points, weights, mass, log_evidence })
}

/// Labels each point with the component of its largest logit, the first of equals.
///
/// The tile is as for [`softmax`], of `labels.len()` points. The log-evidence of a point is its largest
/// logit, the entropy of its posterior 0; its weight is added to the mass of its component. NaN counts as
/// the largest.
///
/// # Panics
/// As for [`softmax`]; or if there are more than 2^24 components, beyond which f32 lanes cannot count.
pub fn argmax<T: Scalar>(
    simd: Simd,
    logits: &[T],
    stride: usize,
    weights: Option<&[f64]>,
    labels: &mut [u32],
    mass: &mut [f64],
) -> Totals {
    check(logits, stride, labels.len(), weights, mass.len());
    assert!(mass.len() <= 1 << 24, "too many components");
    simd.run(Argmax { logits, stride, weights, labels, mass })
}

/// Adds up what labels and the logits of labelled components say: the results are those of [`argmax`].
pub fn labelled(
    log_evidence: &[f64],
    labels: &[u32],
    weights: Option<&[f64]>,
    mass: &mut [f64],
) -> Totals {
    let mut totals = Totals::default();
    for (i, (&label, log_evidence)) in labels.iter().zip(log_evidence).enumerate() {
        let weight = weights.map_or(1.0, |weights| weights[i]);
        mass[label as usize] += weight;
        totals.log_evidence += weight * log_evidence;
    }
    totals
}

/// Writes the log-evidence of each point, ln sum_c exp(logit_c), in nats.
///
/// The tile is as for [`softmax`], of `log_evidence.len()` points and `n_components` columns. A point whose
/// logits are all -∞ gets -∞; one of which one is NaN or +∞ gets NaN.
///
/// # Panics
/// As for [`softmax`].
pub fn log_sum_exp<T: Scalar>(
    simd: Simd,
    logits: &[T],
    stride: usize,
    n_components: usize,
    log_evidence: &mut [f64],
) {
    check(logits, stride, log_evidence.len(), None, n_components);
    simd.run(LogSumExp { logits, stride, n_components, log_evidence });
}

fn check<T>(
    logits: &[T],
    stride: usize,
    n_points: usize,
    weights: Option<&[f64]>,
    n_components: usize,
) {
    assert!(stride >= n_points, "columns overlap");
    assert!(weights.is_none_or(|weights| weights.len() >= n_points), "too few weights");
    let last = n_components.saturating_sub(1);
    assert!(n_components == 0 || logits.len() >= last * stride + n_points, "too few logits");
}

/// A kernel over strips of W neighbouring points. W is known to the compiler, which so keeps what is per
/// point in registers, or at least unrolls whole registers.
trait Strips {
    /// Does the points from `start` to `start + W`.
    fn strip<M: MulAdd, const W: usize>(&mut self, start: usize) -> Totals;

    #[inline(always)]
    fn all<M: MulAdd>(&mut self, n_points: usize) -> Totals {
        let mut totals = Totals::default();
        let mut start = 0;
        while n_points - start >= STRIP {
            totals += self.strip::<M, STRIP>(start);
            start += STRIP;
        }
        while n_points - start >= SHORT_STRIP {
            totals += self.strip::<M, SHORT_STRIP>(start);
            start += SHORT_STRIP;
        }
        while start < n_points {
            totals += self.strip::<M, 1>(start);
            start += 1;
        }
        totals
    }
}

/// Returns the columns of a strip, in order.
#[inline(always)]
fn columns<T, const W: usize>(
    logits: &[T],
    stride: usize,
    start: usize,
    n_components: usize,
) -> impl Iterator<Item = &[T; W]> {
    (0..n_components)
        .map(move |c| logits[c * stride + start..].first_chunk().expect("checked on entry"))
}

/// Sum by halves: W additions of which W / 2, W / 4, ... can be done at once.
#[inline(always)]
fn sum<T: Scalar, const W: usize>(mut terms: [T; W]) -> T {
    let mut half = W / 2;
    while half > 0 {
        for i in 0..half {
            terms[i] += terms[i + half];
        }
        half /= 2;
    }
    terms[0]
}

#[inline(always)]
fn strip_weights<const W: usize>(weights: Option<&[f64]>, start: usize) -> [f64; W] {
    match weights {
        Some(weights) => *weights[start..].first_chunk().expect("checked on entry"),
        None => [1.0; W],
    }
}

#[inline(always)]
fn totals<T: Scalar, const W: usize>(
    weights: &[f64; W],
    log_evidence: &[T; W],
    entropy: &[T; W],
) -> Totals {
    let mut log_evidences = [0.0; W];
    let mut entropies = [0.0; W];
    for i in 0..W {
        let log_evidence = log_evidence[i].to_f64();
        log_evidences[i] = weights[i] * log_evidence;
        entropies[i] = weights[i] * entropy[i].to_f64();
    }
    Totals { log_evidence: sum(log_evidences), posterior_entropy: sum(entropies) }
}

/// Returns the number that a point's logits are shifted by: their maximum, or 0 if there is nothing above -∞, so
/// that the shifted logits are -∞ and not NaN. Passes over NaN, which then shows in the sum.
#[inline(always)]
fn strip_shift<'a, T: Scalar, const W: usize>(columns: impl Iterator<Item = &'a [T; W]>) -> [T; W] {
    let mut max = [T::NEG_INFINITY; W];
    for column in columns {
        for i in 0..W {
            max[i] = if column[i] > max[i] { column[i] } else { max[i] };
        }
    }
    for max in &mut max {
        *max = if *max > T::NEG_INFINITY { *max } else { T::ZERO };
    }
    max
}

/// Shifted logits below this count as -∞: e⁻⁶⁰⁰ and e⁻⁶⁰ are far below any rounding of a responsibility, and their products
/// with statistics would be subnormal numbers, which many CPUs compute far more slowly.
#[inline(always)]
fn negligible<T: Scalar>() -> T {
    T::from_f64(if size_of::<T>() == 8 { -600.0 } else { -60.0 })
}

/// Returns the shifted logit, put to where exp is exactly 0 if it is negligible, lest 0 * -∞ be NaN; and its exp.
#[inline(always)]
fn shifted_exp<M: MulAdd, T: Scalar>(logit: T, shift: T) -> (T, T) {
    let shifted = logit - shift;
    let shifted = if shifted < negligible::<T>() { T::EXP_FLOOR } else { shifted };
    (shifted, shifted.exp_nonpositive::<M>())
}

struct Softmax<'a, T> {
    logits: &'a mut [T],
    stride: usize,
    n_points: usize,
    weights: Option<&'a [f64]>,
    mass: &'a mut [f64],
    log_evidence: Option<&'a mut [f64]>,
}

impl<T: Scalar> Kernel for Softmax<'_, T> {
    type Output = Totals;
    #[inline(always)]
    fn run<M: MulAdd>(mut self) -> Totals {
        self.all::<M>(self.n_points)
    }
}

impl<T: Scalar> Strips for Softmax<'_, T> {
    #[inline(always)]
    fn strip<M: MulAdd, const W: usize>(&mut self, start: usize) -> Totals {
        let shift = strip_shift::<T, W>(columns(self.logits, self.stride, start, self.mass.len()));

        // s = sum e^y and t = sum y e^y, with y the shifted logits.
        let mut s = [T::ZERO; W];
        let mut t = [T::ZERO; W];
        for c in 0..self.mass.len() {
            let column = self.column_mut::<W>(start, c);
            for i in 0..W {
                let (y, exp) = shifted_exp::<M, T>(column[i], shift[i]);
                s[i] += exp;
                t[i] = M::mul_add(exp, y, t[i]);
                column[i] = exp;
            }
        }

        let weights = strip_weights::<W>(self.weights, start);
        let mut log_evidence = [T::ZERO; W];
        let mut entropy = [T::ZERO; W];
        let mut scale = [T::ZERO; W];
        for i in 0..W {
            let ln_s = s[i].ln::<M>();
            log_evidence[i] = shift[i] + ln_s;
            entropy[i] = ln_s - t[i] / s[i];
            scale[i] = T::from_f64(weights[i]) / s[i];
        }
        if let Some(out) = &mut self.log_evidence {
            for i in 0..W {
                out[start + i] = log_evidence[i].to_f64();
            }
        }

        for c in 0..self.mass.len() {
            let column = self.column_mut::<W>(start, c);
            for i in 0..W {
                column[i] *= scale[i];
            }
            self.mass[c] += sum(*column).to_f64();
        }
        totals(&weights, &log_evidence, &entropy)
    }
}

impl<T> Softmax<'_, T> {
    #[inline(always)]
    fn column_mut<const W: usize>(&mut self, start: usize, c: usize) -> &mut [T; W] {
        self.logits[c * self.stride + start..].first_chunk_mut().expect("checked on entry")
    }
}

struct LogSumExp<'a, T> {
    logits: &'a [T],
    stride: usize,
    n_components: usize,
    log_evidence: &'a mut [f64],
}

impl<T: Scalar> Kernel for LogSumExp<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<M: MulAdd>(mut self) {
        self.all::<M>(self.log_evidence.len());
    }
}

impl<T: Scalar> Strips for LogSumExp<'_, T> {
    #[inline(always)]
    fn strip<M: MulAdd, const W: usize>(&mut self, start: usize) -> Totals {
        let columns = || columns::<T, W>(self.logits, self.stride, start, self.n_components);
        let shift = strip_shift(columns());
        let mut s = [T::ZERO; W];
        for column in columns() {
            for i in 0..W {
                s[i] += shifted_exp::<M, T>(column[i], shift[i]).1;
            }
        }
        for (i, log_evidence) in self.log_evidence[start..][..W].iter_mut().enumerate() {
            *log_evidence = (shift[i] + s[i].ln::<M>()).to_f64();
        }
        Totals::default()
    }
}

struct Argmax<'a, T> {
    logits: &'a [T],
    stride: usize,
    weights: Option<&'a [f64]>,
    labels: &'a mut [u32],
    mass: &'a mut [f64],
}

impl<T: Scalar> Kernel for Argmax<'_, T> {
    type Output = Totals;
    #[inline(always)]
    fn run<M: MulAdd>(mut self) -> Totals {
        self.all::<M>(self.labels.len())
    }
}

impl<T: Scalar> Strips for Argmax<'_, T> {
    #[inline(always)]
    fn strip<M: MulAdd, const W: usize>(&mut self, start: usize) -> Totals {
        let mut max = [T::NEG_INFINITY; W];
        // As floating-point numbers, lanes of the logits' width.
        let mut index = [T::ZERO; W];
        let mut c = T::ZERO;
        for column in columns::<T, W>(self.logits, self.stride, start, self.mass.len()) {
            for i in 0..W {
                let z = column[i];
                // NaN is larger than any number, and nothing is larger than NaN.
                #[allow(clippy::eq_op, reason = "the comparison that vectorises")]
                let larger = (z > max[i]) | (z != z);
                max[i] = if larger { z } else { max[i] };
                index[i] = if larger { c } else { index[i] };
            }
            c += T::ONE;
        }
        let weights = strip_weights::<W>(self.weights, start);
        for i in 0..W {
            let label = index[i].to_f64() as u32;
            self.labels[start + i] = label;
            if let Some(mass) = self.mass.get_mut(label as usize) {
                *mass += weights[i];
            }
        }
        totals(&weights, &max, &[T::ZERO; W])
    }
}

#[cfg(test)]
mod tests;
