//! Sets of binary states, packed into words, each with an index in order of arrival.

/// States of a fixed number of words, found by hashing. Order of arrival decides the indices, so nothing depends on
/// the hash but speed.
#[derive(Clone, Debug)]
pub(crate) struct StateTable {
    words: usize,
    keys: Vec<u64>,
    /// Index of a state, or [`EMPTY`]; a power of two of them, at most half in use.
    slots: Vec<u32>,
}

const EMPTY: u32 = u32::MAX;

impl StateTable {
    pub(crate) fn new(words: usize) -> Self {
        Self { words, keys: Vec::new(), slots: vec![EMPTY; 64] }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len() / self.words
    }

    pub(crate) fn key(&self, index: usize) -> &[u64] {
        &self.keys[index * self.words..][..self.words]
    }

    /// Returns all states, in order of arrival.
    pub(crate) fn keys(&self) -> &[u64] {
        &self.keys
    }

    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.slots.fill(EMPTY);
    }

    /// Returns the index of a state, which is put into the table if it is not there.
    pub(crate) fn intern(&mut self, key: &[u64]) -> usize {
        let mut slot = self.slot(key);
        loop {
            match self.slots[slot] {
                EMPTY => break,
                index if self.key(index as usize) == key => return index as usize,
                _ => slot = (slot + 1) & (self.slots.len() - 1),
            }
        }
        let index = self.len();
        self.keys.extend_from_slice(key);
        self.slots[slot] = index as u32;
        if 2 * (index + 1) > self.slots.len() {
            self.grow();
        }
        index
    }

    fn grow(&mut self) {
        self.slots = vec![EMPTY; 2 * self.slots.len()];
        for index in 0..self.len() {
            let mut slot = self.slot(self.key(index));
            while self.slots[slot] != EMPTY {
                slot = (slot + 1) & (self.slots.len() - 1);
            }
            self.slots[slot] = index as u32;
        }
    }

    /// Returns the first slot to look at: multiplication by 2⁶⁴ / φ, as Knuth advises, word by word.
    fn slot(&self, key: &[u64]) -> usize {
        let mut hash = 0u64;
        for word in key {
            hash = (hash.rotate_left(29) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        (hash ^ (hash >> 32)) as usize & (self.slots.len() - 1)
    }
}

/// Returns the number of words that hold `bits` bits.
pub(crate) fn words(bits: usize) -> usize {
    bits.div_ceil(64).max(1)
}

pub(crate) fn is_on(state: &[u64], bit: usize) -> bool {
    (state[bit / 64] >> (bit % 64)) & 1 == 1
}

pub(crate) fn flip(state: &mut [u64], bit: usize) {
    state[bit / 64] ^= 1 << (bit % 64);
}

/// Calls `f` for each bit that is on, in order.
#[inline]
pub(crate) fn for_each_on(state: &[u64], mut f: impl FnMut(usize)) {
    for (k, &word) in state.iter().enumerate() {
        let mut word = word;
        while word != 0 {
            f(64 * k + word.trailing_zeros() as usize);
            word &= word - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_keep_the_index_of_their_first_arrival() {
        let mut table = StateTable::new(2);
        let key = |k: u64| [k.wrapping_mul(0x1234_5678_9abc), k / 7];
        for round in 0..2 {
            for k in 0..1000 {
                assert_eq!(table.intern(&key(k)), k as usize, "{round}");
            }
        }
        assert_eq!(table.len(), 1000);
        assert_eq!(table.key(321), key(321));
        table.clear();
        assert_eq!((table.len(), table.intern(&key(5))), (0, 0));
    }

    #[test]
    fn bits_are_found_in_order_across_words() {
        let mut state = vec![0; words(130)];
        for bit in [129, 3, 64, 63] {
            flip(&mut state, bit);
        }
        let mut on = Vec::new();
        for_each_on(&state, |bit| on.push(bit));
        assert_eq!(on, [3, 63, 64, 129]);
        assert!(is_on(&state, 64) && !is_on(&state, 65));
    }
}
