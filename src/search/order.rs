//! Sorts rows by small keys, on all threads.

use crate::error::Result;
use crate::exec::Executor;
use std::sync::atomic::{AtomicU32, Ordering};

/// Rows that a thread deals out to buckets at a time.
const CHUNK: usize = 1 << 15;

/// Buckets of neighbouring keys at most, as a power of two.
const LOG_BUCKETS: u32 = 10;

/// Returns where the entries of each key begin if they are sorted by key, and the number of all.
pub(super) fn starts_of(keys: impl Iterator<Item = u32>, n_keys: usize) -> Vec<u32> {
    let mut starts = vec![0; n_keys + 1];
    keys.for_each(|key| starts[key as usize + 1] += 1);
    (0..n_keys).for_each(|key| starts[key + 1] += starts[key]);
    starts
}

/// Returns the rows in the order of their keys, which are below `n_keys`; rows of one key stay in order.
///
/// Rows are dealt out to buckets of neighbouring keys, each of which is sorted by itself.
pub(super) fn order_by(executor: &Executor, keys: &[u32], n_keys: usize) -> Result<Vec<u32>> {
    let bits = n_keys.saturating_sub(1).checked_ilog2().map_or(0, |log| log + 1);
    let shift = bits.saturating_sub(LOG_BUCKETS);
    let bucket = |key: u32| (key >> shift) as usize;
    let n_buckets = 1 << (bits - shift);
    let mut counts: Vec<_> =
        keys.chunks(CHUNK).map(|keys| (keys, vec![0_u32; n_buckets])).collect();
    executor.for_each(&mut counts, |_, (keys, counts)| {
        keys.iter().for_each(|&key| counts[bucket(key)] += 1);
        Ok(())
    })?;
    // Where the rows of a chunk begin in a bucket: after those of the chunks before it.
    let (mut sizes, mut next) = (vec![0; n_buckets], 0);
    for (b, size) in sizes.iter_mut().enumerate() {
        for (_, counts) in &mut counts {
            let count = std::mem::replace(&mut counts[b], next);
            next += count;
            *size += count as usize;
        }
    }
    // Each place is written once, so the order of threads does not matter.
    let places: Vec<AtomicU32> = keys.iter().map(|_| AtomicU32::new(0)).collect();
    executor.for_each(&mut counts, |chunk, (keys, next)| {
        for (row, &key) in ((chunk * CHUNK) as u32..).zip(*keys) {
            let next = &mut next[bucket(key)];
            places[*next as usize].store(row, Ordering::Relaxed);
            *next += 1;
        }
        Ok(())
    })?;
    let mut order: Vec<u32> = places.into_iter().map(AtomicU32::into_inner).collect();
    if shift == 0 {
        return Ok(order);
    }
    let mut rest = &mut order[..];
    let mut buckets = Vec::with_capacity(n_buckets);
    for size in sizes {
        let (bucket, after) = rest.split_at_mut(size);
        (rest, _) = (after, buckets.push(bucket));
    }
    // Many a time a few: a bucket may have hardly any row.
    let mut groups: Vec<_> = buckets.chunks_mut(16).collect();
    executor.for_each(&mut groups, |_, buckets| {
        let mut pairs = Vec::new();
        for bucket in buckets.iter_mut() {
            pairs.clear();
            pairs.extend(
                bucket.iter().map(|&row| u64::from(keys[row as usize]) << 32 | u64::from(row)),
            );
            pairs.sort_unstable();
            bucket.iter_mut().zip(&pairs).for_each(|(to, &pair)| *to = pair as u32);
        }
        Ok(())
    })?;
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_in_the_order_of_their_keys_and_stay_in_order_within_a_key() {
        let executor = Executor::new(Some(3)).unwrap();
        let order = |keys: &[u32], n_keys| order_by(&executor, keys, n_keys).unwrap();
        let keys = [3, 0, 2, 3, 0, 2, 2];
        let expected = [1, 4, 2, 5, 6, 0, 3];
        assert_eq!(order(&keys, 4), expected);
        assert_eq!(order(&keys, 100_000), expected);
        assert!(order(&[], 5).is_empty());
        assert_eq!(order(&[0, 0], 1), [0, 1]);
        // More rows than a chunk, and more keys than buckets.
        for n_keys in [7, 1024, 1025, 300_000] {
            let keys: Vec<u32> = (0..100_000_u64).map(|i| (i * 7919 % n_keys) as u32).collect();
            let mut expected: Vec<u32> = (0..keys.len() as u32).collect();
            expected.sort_by_key(|&row| keys[row as usize]);
            assert!(order(&keys, n_keys as usize) == expected, "{n_keys}");
        }
    }
}
