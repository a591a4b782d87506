//! Logits of a tile, `Z = T H + b`, without packing the statistics.
//!
//! A block of points × components stays in registers while the statistics pass. Columns of statistics are contiguous in the
//! points already, and the coefficients are packed once a sweep, so nothing is copied on the way: a general matrix product, which
//! packs both sides on every call, spends much of its time on that where there are few statistics or few components.

use super::dispatch::{Simd, VectorKernel, Vectors};
use crate::scalar::Scalar;

/// Components of a group. With three vectors of points they fill 24 of the 32 registers of AVX-512; where there are 16
/// registers, half a group at a time fills 12.
pub(super) const GROUP: usize = 8;

/// Coefficients `H` (L × C) and `b` (C) of a map, as the kernel reads them: C in groups of 8, in a group all coefficients of a
/// statistic side by side, the last group filled up with zeros.
#[derive(Clone, Debug, Default)]
pub struct AffineMap<T> {
    pub(super) coefficients: Vec<T>,
    pub(super) bias: Vec<T>,
    pub(super) n_statistics: usize,
    n_components: usize,
}

impl<T: Scalar> AffineMap<T> {
    /// Packs coefficients, `natural(l, c)`, and a bias for each component.
    pub fn new(n_statistics: usize, bias: &[T], natural: impl Fn(usize, usize) -> T) -> Self {
        let n_components = bias.len();
        let mut coefficients =
            Vec::with_capacity(n_components.next_multiple_of(GROUP) * n_statistics);
        for first in (0..n_components).step_by(GROUP) {
            for l in 0..n_statistics {
                coefficients.extend(
                    (first..first + GROUP)
                        .map(|c| if c < n_components { natural(l, c) } else { T::ZERO }),
                );
            }
        }
        let mut bias = bias.to_vec();
        bias.resize(n_components.next_multiple_of(GROUP), T::ZERO);
        Self { coefficients, bias, n_statistics, n_components }
    }

    /// Returns the number of components C.
    pub fn n_components(&self) -> usize {
        self.n_components
    }

    /// Writes the logit of each point under its own component. Statistics may be in another precision.
    ///
    /// # Shapes
    /// `statistics:` L columns `stride` apart; `labels`, `logits:` a value a point.
    pub fn labelled<U: Scalar>(
        &self,
        statistics: &[U],
        stride: usize,
        labels: &[u32],
        logits: &mut [T],
    ) {
        for (logit, &label) in logits.iter_mut().zip(labels) {
            *logit = self.bias[label as usize];
        }
        // A statistic of all points comes before the next: the sum of one point would wait for each of its products.
        for (l, column) in statistics.chunks(stride).take(self.n_statistics).enumerate() {
            for ((logit, &label), t) in logits.iter_mut().zip(labels).zip(column) {
                let c = label as usize;
                let at = (c / GROUP * self.n_statistics + l) * GROUP + c % GROUP;
                *logit += T::from_f64(t.to_f64()) * self.coefficients[at];
            }
        }
    }
}

/// Writes `Z = T H + b` for a panel that begins with the first statistic, adds `T H` for one that begins later.
///
/// # Shapes
/// `statistics:` columns of a panel, of which the first is statistic `first` of the map; `logits: C` columns; all `stride` apart.
/// Both are read and written in whole cache lines: what lies between columns receives numbers without meaning.
///
/// # Panics
/// If slices are too short, or `stride` is no multiple of a cache line or less than `n_points`.
pub fn affine<T: Scalar>(
    simd: Simd,
    map: &AffineMap<T>,
    statistics: &[T],
    first: usize,
    n_points: usize,
    stride: usize,
    logits: &mut [T],
) {
    let count = (statistics.len() / stride).min(map.n_statistics - first);
    assert!(
        stride >= n_points && (stride * size_of::<T>()).is_multiple_of(64),
        "whole cache lines"
    );
    assert!(logits.len() >= map.n_components * stride, "too few logits");
    T::run_on_vectors(simd, Affine { map, statistics, first, count, n_points, stride, logits });
}

struct Affine<'a, T> {
    map: &'a AffineMap<T>,
    statistics: &'a [T],
    first: usize,
    count: usize,
    n_points: usize,
    stride: usize,
    logits: &'a mut [T],
}

impl<T: Scalar> VectorKernel<T> for Affine<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vectors<Element = T>>(mut self, simd: S) {
        let mut start = 0;
        while start < self.n_points {
            match (self.n_points - start).div_ceil(S::COUNT) {
                1 => self.points::<S, 1>(simd, start),
                2 => self.points::<S, 2>(simd, start),
                _ => self.points::<S, 3>(simd, start),
            }
            start += 3 * S::COUNT;
        }
    }
}

impl<T: Scalar> Affine<'_, T> {
    /// Computes the logits of all components for V vectors of points, whose statistics stay in the level-1 cache.
    #[inline(always)]
    fn points<S: Vectors<Element = T>, const V: usize>(&mut self, simd: S, start: usize) {
        let whole = self.map.n_components / GROUP * GROUP;
        for c in (0..whole).step_by(GROUP) {
            if S::REGISTERS >= 32 {
                self.block::<S, V, GROUP>(simd, start, c, GROUP);
            } else {
                self.block::<S, V, 4>(simd, start, c, 4);
                self.block::<S, V, 4>(simd, start, c + 4, 4);
            }
        }
        let rest = self.map.n_components - whole;
        if rest > 4 {
            self.block::<S, V, 4>(simd, start, whole, 4);
            self.block::<S, V, 4>(simd, start, whole + 4, rest - 4);
        } else if rest > 0 {
            self.block::<S, V, 4>(simd, start, whole, rest);
        }
    }

    /// V vectors of points × K components from `c` on, of which `columns` exist.
    #[inline(always)]
    fn block<S: Vectors<Element = T>, const V: usize, const K: usize>(
        &mut self,
        simd: S,
        start: usize,
        c: usize,
        columns: usize,
    ) {
        let (stride, width) = (self.stride, V * S::COUNT);
        let mut sums = [[simd.splat(T::ZERO); V]; K];
        for k in 0..K {
            if self.first == 0 {
                sums[k] = [simd.splat(self.map.bias[c + k]); V];
            } else if k < columns {
                let column = S::vectors(&self.logits[(c + k) * stride + start..][..width]);
                sums[k].copy_from_slice(&column[..V]);
            }
        }
        let group = (c / GROUP * self.map.n_statistics + self.first) * GROUP;
        let coefficients = self.map.coefficients[group..].chunks_exact(GROUP);
        let columns_of_statistics = self.statistics.chunks_exact(stride).take(self.count);
        for (t, h) in columns_of_statistics.zip(coefficients) {
            let t = &S::vectors(&t[start..start + width])[..V];
            let h = &h[c % GROUP..][..K];
            for k in 0..K {
                let h = simd.splat(h[k]);
                for v in 0..V {
                    sums[k][v] = simd.mul_add(t[v], h, sums[k][v]);
                }
            }
        }
        for k in 0..K {
            if k < columns {
                let column = &mut self.logits[(c + k) * stride + start..][..width];
                S::vectors_mut(column)[..V].copy_from_slice(&sums[k]);
            }
        }
    }
}

/// Finds the largest of the logits `Z = T H + b` of each point, without writing them.
///
/// The first of equals counts. A logit that is NaN is not the largest. If all are NaN or -∞, the largest is NaN.
///
/// # Shapes
/// `statistics:` columns of all statistics, `stride` apart; `largest, component:` a column. The number of the component is exact
/// as long as `T` holds it: up to 2^24.
///
/// # Panics
/// If slices are too short, or `stride` is no multiple of a cache line or less than `n_points`.
pub fn affine_argmax<T: Scalar>(
    simd: Simd,
    map: &AffineMap<T>,
    statistics: &[T],
    n_points: usize,
    stride: usize,
    largest: &mut [T],
    component: &mut [T],
) {
    assert!(
        stride >= n_points && (stride * size_of::<T>()).is_multiple_of(64),
        "whole cache lines"
    );
    assert!(map.n_components <= 1 << 24, "too many components");
    assert!(statistics.len() >= map.n_statistics * stride, "all statistics");
    assert!(largest.len() >= stride && component.len() >= stride, "too few results");
    T::run_on_vectors(simd, Argmax { map, statistics, n_points, stride, largest, component });
}

struct Argmax<'a, T> {
    map: &'a AffineMap<T>,
    statistics: &'a [T],
    n_points: usize,
    stride: usize,
    largest: &'a mut [T],
    component: &'a mut [T],
}

/// The largest logits of V vectors of points so far, and their components.
struct Running<V, const N: usize> {
    largest: [V; N],
    component: [V; N],
}

impl<T: Scalar> VectorKernel<T> for Argmax<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vectors<Element = T>>(mut self, simd: S) {
        let mut start = 0;
        while start < self.n_points {
            start += S::COUNT
                * match (self.n_points - start).div_ceil(S::COUNT) {
                    1 => self.points::<S, 1>(simd, start),
                    2 => self.points::<S, 2>(simd, start),
                    _ => self.points::<S, 3>(simd, start),
                };
        }
    }
}

impl<T: Scalar> Argmax<'_, T> {
    /// Finds the largest logits of V vectors of points. Returns V.
    #[inline(always)]
    fn points<S: Vectors<Element = T>, const V: usize>(&mut self, simd: S, start: usize) -> usize {
        let width = V * S::COUNT;
        let (low, zero) = (simd.splat(T::NEG_INFINITY), simd.splat(T::ZERO));
        let mut running = Running { largest: [low; V], component: [zero; V] };
        for first in (0..self.map.n_components).step_by(GROUP) {
            let exist = self.map.n_components - first;
            if S::REGISTERS >= 32 && exist >= GROUP {
                self.block::<S, V, GROUP>(simd, start, first, GROUP, &mut running);
            } else {
                self.block::<S, V, 4>(simd, start, first, exist.min(4), &mut running);
                if exist > 4 {
                    self.block::<S, V, 4>(simd, start, first + 4, (exist - 4).min(4), &mut running);
                }
            }
        }
        // A point that is NaN has no logit above -∞, and -∞ minus itself is NaN. Components of weight 0 are -∞ for all points.
        for v in 0..V {
            let fault = simd.sub(running.largest[v], running.largest[v]);
            running.largest[v] = simd.add(running.largest[v], fault);
        }
        let largest = &mut self.largest[start..start + width];
        S::vectors_mut(largest)[..V].copy_from_slice(&running.largest);
        let component = &mut self.component[start..start + width];
        S::vectors_mut(component)[..V].copy_from_slice(&running.component);
        V
    }

    /// K components from `c` on, of which `exist` do.
    #[inline(always)]
    fn block<S: Vectors<Element = T>, const V: usize, const K: usize>(
        &self,
        simd: S,
        start: usize,
        c: usize,
        exist: usize,
        running: &mut Running<S::Vector, V>,
    ) {
        let width = V * S::COUNT;
        let mut sums = [[simd.splat(T::ZERO); V]; K];
        for k in 0..K {
            sums[k] = [simd.splat(self.map.bias[c + k]); V];
        }
        let group = c / GROUP * self.map.n_statistics * GROUP;
        let coefficients = self.map.coefficients[group..].chunks_exact(GROUP);
        let columns = self.statistics.chunks_exact(self.stride).take(self.map.n_statistics);
        for (t, h) in columns.zip(coefficients) {
            let t = &S::vectors(&t[start..start + width])[..V];
            let h = &h[c % GROUP..][..K];
            for k in 0..K {
                let h = simd.splat(h[k]);
                for v in 0..V {
                    sums[k][v] = simd.mul_add(t[v], h, sums[k][v]);
                }
            }
        }
        for (k, logits) in sums.iter().enumerate().take(exist) {
            let index = simd.splat(T::from_f64((c + k) as f64));
            for v in 0..V {
                let (z, largest) = (logits[v], running.largest[v]);
                running.component[v] = simd.select_greater(z, largest, index, running.component[v]);
                running.largest[v] = simd.select_greater(z, largest, z, largest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::softmax::padded_stride;

    fn matches_the_definition<T: Scalar>(tolerance: f64) {
        let value = |k: usize| (k * 29 % 17) as f64 / 8.0 - 1.0;
        for (level, simd) in Simd::available() {
            for n_statistics in [1, 2, 7, 20] {
                for n_components in [1, 3, 4, 5, 8, 12, 13, 17] {
                    let natural = |l: usize, c: usize| value(3 * l + 5 * c);
                    let bias: Vec<T> = (0..n_components).map(|c| T::from_f64(value(c))).collect();
                    let map =
                        AffineMap::new(n_statistics, &bias, |l, c| T::from_f64(natural(l, c)));
                    for n in [0, 1, 7, 8, 9, 16, 25, 48, 61, 100] {
                        let stride = padded_stride::<T>(n);
                        let t: Vec<T> =
                            (0..n_statistics * stride).map(|k| T::from_f64(value(7 * k))).collect();
                        // In one panel, and in two.
                        for panel in [n_statistics, n_statistics.div_ceil(2)] {
                            let mut logits = vec![T::from_f64(99.0); n_components * stride];
                            for (k, columns) in t.chunks(panel * stride).enumerate() {
                                affine(simd, &map, columns, k * panel, n, stride, &mut logits);
                            }
                            let labels: Vec<u32> =
                                (0..n).map(|i| (i % n_components) as u32).collect();
                            let mut own = vec![T::ZERO; n];
                            map.labelled(&t, stride, &labels, &mut own);
                            for c in 0..n_components {
                                for i in 0..n {
                                    let products = (0..n_statistics)
                                        .map(|l| t[l * stride + i].to_f64() * natural(l, c));
                                    let expected = value(c) + products.sum::<f64>();
                                    let error = |logit: T| (logit.to_f64() - expected).abs();
                                    let written = error(logits[c * stride + i]);
                                    let own =
                                        if i % n_components == c { error(own[i]) } else { 0.0 };
                                    let error = written.max(own);
                                    assert!(
                                        error <= tolerance * (n_statistics + 1) as f64,
                                        "{level:?}: {n} points, {n_statistics} statistics, component {c}"
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn logits_match_their_definition_f32() {
        matches_the_definition::<f32>(1e-6);
    }

    #[test]
    fn logits_match_their_definition_f64() {
        matches_the_definition::<f64>(1e-15);
    }

    /// The largest logits are those of the written ones, the first of equals counts, and NaN is not lost.
    fn labels_match_written_logits<T: Scalar>() {
        let value = |k: usize| T::from_f64((k * 29 % 17) as f64 / 8.0 - 1.0);
        for (level, simd) in Simd::available() {
            for (n_statistics, n_components, n) in [(1, 1, 9), (5, 3, 50), (7, 13, 100), (2, 40, 7)]
            {
                let bias: Vec<T> = (0..n_components).map(value).collect();
                // Every seventh component is another's twin.
                let map = AffineMap::new(n_statistics, &bias, |l, c| value(3 * l + 5 * (c % 7)));
                let stride = padded_stride::<T>(n);
                let mut t: Vec<T> = (0..n_statistics * stride).map(|k| value(7 * k)).collect();
                t[n - 1] = T::from_f64(f64::NAN);
                let mut logits = vec![T::ZERO; n_components * stride];
                affine(simd, &map, &t, 0, n, stride, &mut logits);
                let [mut largest, mut component] = [vec![T::ZERO; stride], vec![T::ZERO; stride]];
                affine_argmax(simd, &map, &t, n, stride, &mut largest, &mut component);
                assert!(largest[n - 1].to_f64().is_nan(), "{level:?}");
                for i in 0..n - 1 {
                    let logit = |c: usize| logits[c * stride + i].to_f64();
                    let best = (1..n_components)
                        .fold(0, |best, c| if logit(c) > logit(best) { c } else { best });
                    let found = (component[i].to_f64() as usize, largest[i].to_f64());
                    assert_eq!(found, (best, logit(best)), "{level:?} {n_components} {i}");
                }
            }
        }
    }

    #[test]
    fn labels_match_written_logits_in_both_precisions() {
        labels_match_written_logits::<f32>();
        labels_match_written_logits::<f64>();
    }

    #[test]
    #[should_panic(expected = "too few logits")]
    fn short_logits_are_refused() {
        let map = AffineMap::new(1, &[0.0, 0.0], |_, _| 1.0);
        affine(Simd::detect(), &map, &[0.0; 8], 0, 8, 8, &mut [0.0; 15]);
    }

    #[test]
    #[should_panic(expected = "whole cache lines")]
    fn odd_strides_are_refused() {
        let map = AffineMap::new(1, &[0.0], |_, _| 1.0);
        affine(Simd::detect(), &map, &[0.0; 9], 0, 9, 9, &mut [0.0; 9]);
    }
}
