//! Sets of states of points, packed to bits.

use super::super::table::{StateTable, flip, words};
use crate::rng;
use rand_xoshiro::Xoshiro256PlusPlus;

/// Sets of states of some consecutive points: S distinct states each, the most probable first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TruncatedStates {
    latents: usize,
    pub(super) states: usize,
    packed: Vec<u64>,
}

impl TruncatedStates {
    /// Sets of `states` states (all, if there are fewer) for `points` points, drawn at random with each latent on with its
    /// probability in `rates`.
    pub(crate) fn random(
        points: usize,
        rates: &[f64],
        states: usize,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Self {
        let latents = rates.len();
        let states = Self::largest(latents, states);
        let words = words(latents);
        let mut packed = Vec::with_capacity(points * states * words);
        let mut seen = StateTable::new(words);
        let mut state = vec![0; words];
        for _ in 0..points {
            seen.clear();
            // The zero state is always worth a place.
            seen.intern(&vec![0; words]);
            let mut tries = 0;
            while seen.len() < states {
                state.fill(0);
                if tries < 4 * states {
                    for (j, &rate) in rates.iter().enumerate() {
                        if rng::uniform(rng) < rate {
                            flip(&mut state, j);
                        }
                    }
                } else {
                    // Where draws repeat themselves, count.
                    state[0] = (tries - 4 * states) as u64;
                }
                tries += 1;
                seen.intern(&state);
            }
            (0..states).for_each(|s| packed.extend_from_slice(seen.key(s)));
        }
        Self { latents, states, packed }
    }

    /// Returns the largest size of a set: `states`, or the number of all states if it is smaller.
    pub(crate) fn largest(latents: usize, states: usize) -> usize {
        if latents < 32 { states.min(1 << latents) } else { states }
    }

    /// Returns the number of words of a set of `states` states, or `None` if it overflows.
    pub(crate) fn words_of_a_set(latents: usize, states: usize) -> Option<usize> {
        states.checked_mul(words(latents)).filter(|words| *words < usize::MAX / 64)
    }

    /// Returns the number of words of the sets of so many points.
    pub(crate) fn words_of(points: usize, states: usize, latents: usize) -> usize {
        points * states * words(latents)
    }

    /// Returns all sets, packed.
    pub(crate) fn packed(&self) -> &[u64] {
        &self.packed
    }

    /// Tells whether states, packed, have a latent on that does not exist.
    pub(crate) fn are_beyond(packed: &[u64], latents: usize) -> bool {
        let (words, used) = (words(latents), latents % 64);
        used != 0 && packed.chunks_exact(words).any(|state| state[words - 1] >> used != 0)
    }

    /// Sets of points, packed as [`packed`](Self::packed) gave them; nothing where they are not so many, or a state has more latents.
    pub(crate) fn from_packed(
        points: usize,
        states: usize,
        latents: usize,
        packed: Vec<u64>,
    ) -> Option<Self> {
        let fits = packed.len() == Self::words_of(points, states, latents)
            && !Self::are_beyond(&packed, latents);
        fits.then_some(Self { latents, states, packed })
    }

    pub(super) fn words(&self) -> usize {
        words(self.latents)
    }

    /// Returns the states of a point, packed.
    pub(crate) fn of(&self, point: usize) -> &[u64] {
        let len = self.states * self.words();
        &self.packed[point * len..][..len]
    }

    pub(super) fn of_mut(&mut self, point: usize) -> &mut [u64] {
        let len = self.states * self.words();
        &mut self.packed[point * len..][..len]
    }
}
