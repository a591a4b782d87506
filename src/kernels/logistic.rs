//! Sums over Bernoulli variables that are given by their logits: log-partitions, entropies and derivatives.
//!
//! With `e = exp(-|a|)`: `softplus(a) = max(a, 0) + ln(1 + e)`, `σ(|a|) = 1 / (1 + e)`, and the entropy of a Bernoulli
//! variable of logit `a` is `ln(1 + e) + |a| e / (1 + e)`. Nothing overflows and nothing cancels.

use super::dispatch::{Kernel, MulAdd, Simd};
use super::math::Transcendental;
use crate::scalar::Scalar;

/// Partial sums, so that the sums vectorise.
const LANES: usize = 16;

/// Computes `Σ_s m_s softplus(a_s)`; also `slope_s = m_s σ(a_s)` and `curvature_s = m_s σ(a_s) σ(-a_s)`.
///
/// `slope` may hold the logits themselves: they are replaced. Errors are a few units in the last place of each term.
///
/// # Panics
/// If the slices differ in length.
pub fn derivatives(simd: Simd, mass: &[f64], slope: &mut [f64], curvature: &mut [f64]) -> f64 {
    assert!(mass.len() == slope.len() && mass.len() == curvature.len());
    simd.run(Derivatives { mass, slope, curvature })
}

/// Computes `Σ_s m_s softplus(a_s)` and `Σ_s m_s H[σ(a_s)]`, entropies of Bernoulli variables in nats: both from one exponential and
/// one logarithm.
///
/// # Panics
/// If the slices differ in length.
pub fn partition_and_entropy(simd: Simd, mass: &[f64], logits: &[f64]) -> (f64, f64) {
    assert_eq!(mass.len(), logits.len(), "one mass a logit");
    simd.run(PartitionAndEntropy { mass, logits })
}

/// Computes `Σ_d softplus(a_d)`.
pub fn softplus_sum(simd: Simd, logits: &[f64]) -> f64 {
    simd.run(SoftplusSum(logits))
}

/// Adds `softplus(a_s)` to `sums_s`.
///
/// # Panics
/// If the slices differ in length.
pub fn add_softplus(simd: Simd, logits: &[f64], sums: &mut [f64]) {
    assert_eq!(logits.len(), sums.len());
    simd.run(AddSoftplus { logits, sums });
}

/// Replaces logits by probabilities `σ(a)`.
pub fn sigmoid_in_place<T: Scalar>(simd: Simd, logits: &mut [T]) {
    simd.run(Sigmoid(logits));
}

/// Computes `σ(a)` for one number.
pub fn sigmoid(logit: f64) -> f64 {
    let e = (-logit.abs()).exp();
    if logit >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// Computes `ln(1 + exp(a))` for one number.
pub fn softplus(logit: f64) -> f64 {
    logit.max(0.0) + (-logit.abs()).exp().ln_1p()
}

/// Computes `exp(-|a|)`, 0 where it would be subnormal.
#[inline(always)]
pub(super) fn exp_minus_abs<M: MulAdd, T: Scalar>(logit: T) -> T {
    let negative = if logit > T::ZERO { -logit } else { logit };
    let negative = if negative < T::EXP_FLOOR { T::EXP_FLOOR } else { negative };
    negative.exp_nonpositive::<M>()
}

struct Derivatives<'a> {
    mass: &'a [f64],
    slope: &'a mut [f64],
    curvature: &'a mut [f64],
}

impl Kernel for Derivatives<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<M: MulAdd>(self) -> f64 {
        let mut sums = [0.0; LANES];
        let slopes = self.slope.chunks_mut(LANES).zip(self.curvature.chunks_mut(LANES));
        for (mass, (slope, curvature)) in self.mass.chunks(LANES).zip(slopes) {
            for i in 0..mass.len() {
                let a = slope[i];
                let e = exp_minus_abs::<M, f64>(a);
                let total = 1.0 + e;
                let upper = 1.0 / total;
                let lower = e * upper;
                slope[i] = mass[i] * if a > 0.0 { upper } else { lower };
                curvature[i] = mass[i] * (upper * lower);
                sums[i] +=
                    mass[i] * ((if a > 0.0 { a } else { 0.0 }) + Transcendental::ln::<M>(total));
            }
        }
        sums.iter().sum()
    }
}

/// Computes `softplus(a)`, inside a kernel.
#[inline(always)]
fn softplus_of<M: MulAdd>(a: f64) -> f64 {
    let e = exp_minus_abs::<M, f64>(a);
    Transcendental::ln::<M>(1.0 + e) + if a > 0.0 { a } else { 0.0 }
}

/// Computes `σ(a)`, inside a kernel.
#[inline(always)]
fn sigmoid_of<M: MulAdd, T: Scalar>(a: T) -> T {
    let e = exp_minus_abs::<M, T>(a);
    let upper = T::ONE / (T::ONE + e);
    if a > T::ZERO { upper } else { e * upper }
}

struct PartitionAndEntropy<'a> {
    mass: &'a [f64],
    logits: &'a [f64],
}

impl Kernel for PartitionAndEntropy<'_> {
    type Output = (f64, f64);
    #[inline(always)]
    fn run<M: MulAdd>(self) -> (f64, f64) {
        let (mut partitions, mut entropies) = ([0.0; LANES], [0.0; LANES]);
        for (mass, logits) in self.mass.chunks(LANES).zip(self.logits.chunks(LANES)) {
            for i in 0..mass.len() {
                let a = logits[i];
                let e = exp_minus_abs::<M, f64>(a);
                let ln = Transcendental::ln::<M>(1.0 + e);
                let (above, size) = if a > 0.0 { (a, a) } else { (0.0, -a) };
                partitions[i] += mass[i] * (above + ln);
                entropies[i] += mass[i] * (ln + size * (e / (1.0 + e)));
            }
        }
        (partitions.iter().sum(), entropies.iter().sum())
    }
}

struct SoftplusSum<'a>(&'a [f64]);

impl Kernel for SoftplusSum<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<M: MulAdd>(self) -> f64 {
        let mut sums = [0.0; LANES];
        for logits in self.0.chunks(LANES) {
            for i in 0..logits.len() {
                sums[i] += softplus_of::<M>(logits[i]);
            }
        }
        sums.iter().sum()
    }
}

struct AddSoftplus<'a> {
    logits: &'a [f64],
    sums: &'a mut [f64],
}

impl Kernel for AddSoftplus<'_> {
    type Output = ();
    #[inline(always)]
    fn run<M: MulAdd>(self) {
        for (sum, &logit) in self.sums.iter_mut().zip(self.logits) {
            *sum += softplus_of::<M>(logit);
        }
    }
}

struct Sigmoid<'a, T>(&'a mut [T]);

impl<T: Scalar> Kernel for Sigmoid<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<M: MulAdd>(self) {
        for a in self.0 {
            *a = sigmoid_of::<M, T>(*a);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_match_plain_formulas_from_tiny_to_huge_logits() {
        let logits: Vec<f64> = (0..1001).map(|k| (f64::from(k) - 500.0) * 0.11).collect();
        let logits = [&logits[..], &[0.0, 800.0, -800.0, 1e-300, -1e-12]].concat();
        let mass: Vec<f64> = (0..logits.len()).map(|k| (k % 5) as f64 / 3.0).collect();
        for (_, simd) in Simd::available() {
            let (mut slope, mut curvature) = (logits.clone(), vec![0.0; logits.len()]);
            let sum = derivatives(simd, &mass, &mut slope, &mut curvature);
            let expected: f64 = logits.iter().zip(&mass).map(|(&a, m)| m * softplus(a)).sum();
            assert!((sum - expected).abs() < 1e-13 * expected);
            let (partition, entropy) = partition_and_entropy(simd, &mass, &logits);
            assert!((partition - expected).abs() < 1e-13 * expected);
            let plain: f64 = logits.iter().map(|&a| softplus(a)).sum();
            assert!((softplus_sum(simd, &logits) - plain).abs() < 1e-13 * plain);
            let mut sums = vec![1.0; logits.len()];
            add_softplus(simd, &logits, &mut sums);
            assert!((sums.iter().sum::<f64>() - sums.len() as f64 - plain).abs() < 1e-12 * plain);
            let mut probabilities = logits.clone();
            sigmoid_in_place(simd, &mut probabilities);
            let mut entropies = 0.0;
            for (i, &a) in logits.iter().enumerate() {
                let (p, q) = (sigmoid(a), sigmoid(-a));
                // Subnormal numbers count as zero.
                assert!((probabilities[i] - p).abs() <= 1e-15 * p + 1e-300, "{a}");
                assert!((slope[i] - mass[i] * p).abs() <= 1e-15 * p * mass[i] + 1e-300);
                assert!((curvature[i] - mass[i] * p * q).abs() <= 1e-14 * p * q + 1e-300);
                let log = |p: f64| if p > 0.0 { p * p.ln() } else { 0.0 };
                entropies -= mass[i] * (log(p) + log(q));
            }
            assert!((entropy - entropies).abs() < 1e-12 * entropies, "{entropy} {entropies}");
        }
    }
}
