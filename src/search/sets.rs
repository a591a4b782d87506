//! The sets of components of points, packed.

use crate::error::Result;
use crate::exec::Executor;
use crate::kernels::prefetch::fetch_values;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rows that a thread looks at together.
const CHUNK: usize = 1 << 15;

/// Returns the words of the set of a point: two members each.
pub(crate) fn words_of_a_set(states: usize) -> usize {
    states.div_ceil(2)
}

/// The sets of some points: component + 1, the most probable first, or 0 where there are no more.
///
/// Threads read and write the sets of different points at the same time.
#[derive(Debug)]
pub(crate) struct Sets {
    words: Vec<AtomicU64>,
    states: usize,
}

impl Sets {
    /// Returns empty sets of `n` points.
    pub fn empty(n: usize, states: usize) -> Self {
        Self::from_words(vec![0; n * words_of_a_set(states)], states)
    }

    /// Returns the sets that words hold.
    pub fn from_words(words: Vec<u64>, states: usize) -> Self {
        Self { words: words.into_iter().map(AtomicU64::new).collect(), states }
    }

    /// Returns the words that hold the sets.
    pub fn into_words(self) -> Vec<u64> {
        self.words.into_iter().map(AtomicU64::into_inner).collect()
    }

    /// Returns the number of members of a set at most.
    pub fn states(&self) -> usize {
        self.states
    }

    fn words(&self, point: usize) -> &[AtomicU64] {
        let width = words_of_a_set(self.states);
        &self.words[point * width..][..width]
    }

    /// Asks for the set of a point that will be read soon: rows of a group lie anywhere.
    pub fn fetch(&self, point: usize) {
        fetch_values(self.words(point));
    }

    /// Reads the set of a point.
    pub fn read(&self, point: usize, set: &mut [u32]) {
        for (members, word) in set.chunks_mut(2).zip(self.words(point)) {
            let word = word.load(Ordering::Relaxed);
            members.iter_mut().zip([word, word >> 32]).for_each(|(to, it)| *to = it as u32);
        }
    }

    /// Writes the set of a point.
    pub fn write(&self, point: usize, set: &[u32]) {
        for (members, word) in set.chunks(2).zip(self.words(point)) {
            let high = members.get(1).copied().unwrap_or_default();
            word.store(u64::from(high) << 32 | u64::from(members[0]), Ordering::Relaxed);
        }
    }

    /// Returns the first member of the set of a point, as it is stored.
    pub fn first(&self, point: usize) -> u32 {
        self.words(point)[0].load(Ordering::Relaxed) as u32
    }

    /// Returns the most probable component of each point, 0 where there is none; and whether all sets name components that exist.
    pub fn leaders(&self, executor: &Executor, n_components: usize) -> Result<(Vec<u32>, bool)> {
        self.members(executor, 0, n_components)
    }

    /// Returns the member of each set with this place in it, or the first where there are not so many; and whether all sets name
    /// components that exist.
    pub fn members(
        &self,
        executor: &Executor,
        place: usize,
        n_components: usize,
    ) -> Result<(Vec<u32>, bool)> {
        let width = words_of_a_set(self.states);
        let mut leaders = vec![0; self.words.len() / width];
        let words = self.words.chunks(CHUNK * width);
        let mut chunks: Vec<_> =
            leaders.chunks_mut(CHUNK).zip(words).map(|it| (it, true)).collect();
        executor.for_each(&mut chunks, |_, ((leaders, words), exist)| {
            for (leader, words) in leaders.iter_mut().zip(words.chunks_exact(width)) {
                for (k, word) in words.iter().enumerate() {
                    let word = word.load(Ordering::Relaxed);
                    let [low, high] = [word as u32, (word >> 32) as u32];
                    *exist &= low.max(high) as usize <= n_components;
                    if k == 0 {
                        *leader = low.max(1) - 1;
                    }
                    let member = if place.is_multiple_of(2) { low } else { high };
                    if k == place / 2 && member > 0 {
                        *leader = member - 1;
                    }
                }
            }
            Ok(())
        })?;
        let exist = chunks.iter().all(|(_, exist)| *exist);
        Ok((leaders, exist))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_come_back_from_their_words() {
        let executor = Executor::new(Some(2)).unwrap();
        for states in [1, 2, 5] {
            let sets = Sets::empty(3, states);
            let of = |point: u32| (1..).map(move |k| 10 * point + k).take(states).collect();
            let all: Vec<Vec<u32>> = (0..3).map(of).collect();
            all.iter().enumerate().for_each(|(point, set)| sets.write(point, set));
            let sets = Sets::from_words(sets.into_words(), states);
            let mut set = vec![0; states];
            for (point, expected) in all.iter().enumerate() {
                sets.read(point, &mut set);
                assert_eq!((&set, sets.first(point)), (expected, expected[0]));
            }
            let (last, _) = sets.members(&executor, states - 1, 100).unwrap();
            assert_eq!(last, [0, 1, 2].map(|point| 10 * point + states as u32 - 1));
            assert_eq!(sets.members(&executor, states, 100).unwrap().0, [0, 10, 20]);
            let most = 20 + states;
            assert_eq!(sets.leaders(&executor, most).unwrap(), (vec![0, 10, 20], true));
            assert!(!sets.leaders(&executor, most - 1).unwrap().1);
        }
    }
}
