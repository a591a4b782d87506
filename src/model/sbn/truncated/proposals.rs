//! Proposals of new states for a point.

use super::super::table::{flip, for_each_on, is_on, words};
use super::{SearchWorkspace, Searcher, TruncatedStates};
use crate::rng;
use rand_xoshiro::Xoshiro256PlusPlus;

/// Points drawn, of which the nearest lends its best state.
const NEIGHBOURS: u64 = 4;

impl Searcher {
    /// Returns the distance of two points of a tile.
    fn distance(&self, a: usize, b: usize, workspace: &SearchWorkspace) -> f64 {
        match self.gaussian {
            None => {
                let per_point = words(self.dim);
                let bits = |k: usize| &workspace.bits[k * per_point..][..per_point];
                let differing = bits(a).iter().zip(bits(b)).map(|(a, b)| (a ^ b).count_ones());
                f64::from(differing.sum::<u32>())
            }
            Some(_) => {
                let point = |k: usize| &workspace.points[k * self.dim..][..self.dim];
                point(a).iter().zip(point(b)).map(|(a, b)| (a - b) * (a - b)).sum()
            }
        }
    }

    /// Proposes a new state for a point.
    #[allow(clippy::too_many_arguments, reason = "as `point`")]
    pub(super) fn propose(
        &self,
        proposal: &mut [u64],
        i: usize,
        n_tile: usize,
        sets: &TruncatedStates,
        first_set: usize,
        rng: &mut Xoshiro256PlusPlus,
        workspace: &SearchWorkspace,
    ) {
        let words = proposal.len();
        let own = sets.of(first_set + i);
        // Half the parents are the best state.
        let parent = |rng: &mut Xoshiro256PlusPlus| {
            let index = rng::below(rng, 2 * sets.states as u64) as usize;
            let index = if index < sets.states { index } else { 0 };
            &own[index * words..][..words]
        };
        match rng::below(rng, 8) {
            kind @ 0..5 => {
                proposal.copy_from_slice(parent(rng));
                if kind != 0 {
                    self.turn_off(proposal, rng);
                }
                if kind != 1 && kind != 2 {
                    self.turn_on(proposal, rng, &workspace.u);
                }
            }
            5 => {
                proposal.copy_from_slice(parent(rng));
                for (word, other) in proposal.iter_mut().zip(parent(rng)) {
                    let mask = rng::bits(rng);
                    *word = (*word & mask) | (other & !mask);
                }
            }
            6 => {
                proposal.fill(0);
                let of_set = rng::below(rng, 2) == 0;
                for j in 0..self.latents {
                    let on = if of_set {
                        // A latent of a random state of the set: the product of the set's marginals.
                        let index = rng::below(rng, sets.states as u64) as usize;
                        is_on(&own[index * words..][..words], j)
                    } else {
                        rng::uniform(rng) < self.rates[j]
                    };
                    if on {
                        flip(proposal, j);
                    }
                }
            }
            _ => {
                let nearest = (0..NEIGHBOURS)
                    .map(|_| rng::below(rng, n_tile as u64) as usize)
                    .filter(|&k| k != i)
                    .map(|k| (self.distance(i, k, workspace), k))
                    .reduce(|best, it| if it.0 < best.0 { it } else { best })
                    .map(|(_, k)| k);
                let other = nearest.unwrap_or(i);
                proposal.copy_from_slice(&sets.of(first_set + other)[..words]);
            }
        }
    }

    fn turn_off(&self, state: &mut [u64], rng: &mut Xoshiro256PlusPlus) {
        let on: u32 = state.iter().map(|word| word.count_ones()).sum();
        if on > 0 {
            let mut left = rng::below(rng, u64::from(on));
            let mut chosen = 0;
            for_each_on(state, |bit| {
                if left == 0 {
                    chosen = bit;
                }
                left = left.wrapping_sub(1);
            });
            flip(state, chosen);
        }
    }

    /// Turns on the better of two random latents, as they would do alone.
    fn turn_on(&self, state: &mut [u64], rng: &mut Xoshiro256PlusPlus, u: &[f64]) {
        let promise = |bit: usize| match bit.checked_sub(self.first_visible) {
            Some(j) => u[j] + self.alone[j],
            None => f64::INFINITY,
        };
        let mut draw = || rng::below(rng, self.latents as u64) as usize;
        let (first, second) = (draw(), draw());
        let better = if promise(second) > promise(first) { second } else { first };
        let other = if better == first { second } else { first };
        if !is_on(state, better) {
            flip(state, better);
        } else if !is_on(state, other) {
            flip(state, other);
        }
    }
}
