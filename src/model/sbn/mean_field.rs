//! Factored posteriors `q_n(z) = Π_h m_nh^z_h (1 - m_nh)^(1 - z_h)`, by coordinate ascent on the exact lower bound.
//!
//! The expectation of the log-partition under such a `q` has no closed form. Here it is taken over all 2^J states, so that
//! the bound is the true one and equal to the entropy sum after an M-step. (The bound of Saul, Jaakkola & Jordan 1996
//! scales to many latents but is no ELBO, and the equality fails for it.) In one coordinate the optimum is
//! `logit m_h = E[l(z) | z_h = 1] - E[l(z) | z_h = 0]`, `l` the log-joint; a pass over all coordinates contracts the table of `l`
//! with one latent after another and costs O(2^J).
//!
//! Ascent starts from the marginals of the exact posterior in every sweep, and keeps nothing between sweeps. So the bound
//! rises within a sweep and in an M-step, but may fall from one sweep to the next where ascent ends in another optimum.

use crate::kernels::dispatch::{Kernel, MulAdd, Simd};
use crate::kernels::softmax::Totals;
use crate::kernels::{logistic, softmax, states};
use crate::scalar::Scalar;

/// Passes at most. Ascent converges linearly; the number is a bound on time, not tuned.
const MAX_PASSES: usize = 200;

/// Scratch memory for strips of so many points.
#[derive(Debug)]
pub(super) struct Scratch<T> {
    table: Vec<T>,
    rest: Vec<T>,
    means: Vec<T>,
    mass: Vec<f64>,
}

impl<T: Scalar> Scratch<T> {
    pub(super) fn new(latents: usize, width: usize) -> Self {
        let n = 1 << latents;
        Self {
            table: vec![T::ZERO; width * n],
            rest: vec![T::ZERO; width * n / 2],
            means: vec![T::ZERO; width * (latents + 1)],
            mass: vec![0.0; n],
        }
    }
}

/// Replaces log-joints by factored posteriors times the weight of their point; as `softmax::softmax` for exact ones. The
/// log-evidence is the lower bound of each point.
pub(super) fn posteriors<T: Scalar, const W: usize>(
    simd: Simd,
    table: &mut [[T; W]],
    weights: Option<&[f64]>,
    mass: &mut [f64],
    log_evidence: &mut [f64],
    scratch: &mut Scratch<T>,
) -> Totals {
    let n = log_evidence.len();
    let (copy, _) = scratch.table.as_chunks_mut::<W>();
    let copy = &mut copy[..table.len()];
    let (means, _) = scratch.means.as_chunks_mut::<W>();
    let means = &mut means[..table.len().ilog2() as usize + 1];
    copy.copy_from_slice(table);
    softmax::softmax(simd, copy.as_flattened_mut(), W, n, None, &mut scratch.mass, None);
    states::fold(simd, copy, means);
    let (rest, _) = scratch.rest.as_chunks_mut::<W>();
    simd.run(Ascent { table, copy, rest, means, weights, mass, log_evidence })
}

struct Ascent<'a, T, const W: usize> {
    table: &'a mut [[T; W]],
    copy: &'a mut [[T; W]],
    rest: &'a mut [[T; W]],
    means: &'a mut [[T; W]],
    weights: Option<&'a [f64]>,
    mass: &'a mut [f64],
    log_evidence: &'a mut [f64],
}

/// `table ← (1 - m) low + m high`, half as long.
#[inline(always)]
fn contract<T: Scalar, const W: usize>(table: &mut [[T; W]], mean: &[T; W]) {
    let (low, high) = table.split_at_mut(table.len() / 2);
    for (low, high) in low.iter_mut().zip(high) {
        for i in 0..W {
            low[i] += mean[i] * (high[i] - low[i]);
        }
    }
}

impl<T: Scalar, const W: usize> Kernel for Ascent<'_, T, W> {
    type Output = Totals;
    #[inline(always)]
    fn run<M: MulAdd>(self) -> Totals {
        let (n, n_states) = (self.log_evidence.len(), self.table.len());
        let latents = n_states.ilog2() as usize;
        let tolerance = T::from_f64(if size_of::<T>() == 8 { 1e-12 } else { 1e-6 });
        let (prefix, rest) = (self.copy, self.rest);
        let mut entropy = [T::ZERO; W];
        for _ in 0..MAX_PASSES {
            prefix.copy_from_slice(self.table);
            entropy = [T::ZERO; W];
            let mut change = T::ZERO;
            let mut half = n_states / 2;
            for h in 0..latents {
                let rest = &mut rest[..half];
                for (s, difference) in rest.iter_mut().enumerate() {
                    for i in 0..W {
                        difference[i] = prefix[half + s][i] - prefix[s][i];
                    }
                }
                let mut size = half;
                for mean in &self.means[h + 1..latents] {
                    contract(&mut rest[..size], mean);
                    size /= 2;
                }
                for i in 0..n {
                    let logit = rest[0][i];
                    let mean = logistic::sigmoid_of::<M, T>(logit);
                    let moved = mean - self.means[h][i];
                    change = if moved > change { moved } else { change };
                    change = if -moved > change { -moved } else { change };
                    self.means[h][i] = mean;
                    entropy[i] += logistic::entropy_of::<M, T>(logit);
                }
                contract(&mut prefix[..2 * half], &self.means[h]);
                half /= 2;
            }
            if change <= tolerance {
                break;
            }
        }
        let mut totals = Totals::default();
        let mut start = [T::ZERO; W];
        for i in 0..n {
            let weight = self.weights.map_or(1.0, |weights| weights[i]);
            start[i] = T::from_f64(weight);
            self.log_evidence[i] = (prefix[0][i] + entropy[i]).to_f64();
            totals.log_evidence += weight * self.log_evidence[i];
            totals.posterior_entropy += weight * entropy[i].to_f64();
        }
        self.table[0] = start;
        let mut half = 1;
        for mean in self.means[..latents].iter().rev() {
            let (low, high) = self.table[..2 * half].split_at_mut(half);
            for (low, high) in low.iter_mut().zip(high) {
                for i in 0..W {
                    high[i] = low[i] * mean[i];
                    low[i] *= T::ONE - mean[i];
                }
            }
            half *= 2;
        }
        for (mass, column) in self.mass.iter_mut().zip(&*self.table) {
            *mass += column[..n].iter().map(|r| r.to_f64()).sum::<f64>();
        }
        totals
    }
}
