//! Visits points in groups that share a list of candidates, on all threads, to the same bits on any number of them.

use super::lists::Lists;
use crate::block::Block;
use crate::error::Result;
use crate::exec::Executor;
use crate::model::mixture::truncated::{ComponentTable, GroupWorkspace, SetSums, Visit};
use crate::rng;
use crate::scalar::Scalar;
use crate::stats::SuffStats;
use std::collections::BTreeMap;

/// Shares of points that are visited before their sums are added to those of all. As many threads can be busy.
const SHARES: usize = 16;

/// Statistics of the points of a share, which bounds its sums.
const STATISTICS_PER_SHARE: usize = 1 << 17;

/// Points of a share.
const POINTS_PER_SHARE: std::ops::RangeInclusive<usize> = 256..=2048;

/// A share of the points, with memory that outlives it.
#[derive(Debug)]
pub(super) struct Share<T> {
    workspace: GroupWorkspace<T>,
    sums: SetSums,
    /// Sums of statistics that all components share.
    shared: Vec<f64>,
    sets: Vec<u32>,
}

/// Points to visit, and the lists of their candidates.
pub(super) struct Points<'a, T> {
    pub block: Block<'a, T>,
    pub lists: &'a Lists,
    /// The list of each point.
    pub keys: &'a [u32],
    /// Size S of a set.
    pub states: usize,
    /// Seed and number of random candidates of a group.
    pub random: (u64, usize),
    /// Components that were split, and their other halves.
    pub halves: &'a BTreeMap<u32, u32>,
}

/// Visits points; improves their sets, N × S; adds their statistics to `total` if it is given.
///
/// The log-evidence of `total` is not finite if a point has none; then its sets are of no use.
pub(super) fn visit<T: Scalar>(
    executor: &Executor,
    table: &ComponentTable<T>,
    shares: &mut Vec<Share<T>>,
    points: &Points<'_, T>,
    sets: &mut [u32],
    mut total: Option<&mut SuffStats>,
) -> Result<()> {
    let order = order_by(points.keys, points.lists.len());
    let states = points.states;
    let n_own = table.n_own();
    let n_shared = table.n_statistics() - n_own;
    let per_share = STATISTICS_PER_SHARE / table.n_statistics().max(1);
    let per_share = per_share.clamp(*POINTS_PER_SHARE.start(), *POINTS_PER_SHARE.end());
    let n_shares = order.len().div_ceil(per_share).clamp(1, SHARES);
    shares.truncate(n_shares);
    shares.resize_with(n_shares, || Share {
        workspace: table.workspace(),
        sums: table.new_sums(),
        shared: Vec::new(),
        sets: Vec::new(),
    });
    let has_sums = total.is_some();
    for wave in order.chunks(n_shares * per_share) {
        let mut work: Vec<_> = shares.iter_mut().zip(wave.chunks(per_share)).collect();
        let old = &*sets;
        executor.for_each(&mut work, |_, (share, rows)| {
            let Share { workspace, sums, shared, sets } = &mut **share;
            sums.clear();
            sets.clear();
            sets.resize(rows.len() * states, 0);
            for (&row, to) in rows.iter().zip(sets.chunks_exact_mut(states)) {
                // A call to copy a few numbers takes longer than the numbers.
                for (to, &from) in to.iter_mut().zip(&old[row as usize * states..]) {
                    *to = from;
                }
            }
            for_each_group(rows, points.keys, sets, |list, rows, sets| {
                let members = points.lists.members(list).iter().copied();
                let (seed, random) = points.random;
                let mut rng = rng::stream(seed, u64::from(list));
                let n_components = table.n_components() as u64;
                let others = (0..random).map(|_| rng::below(&mut rng, n_components) as u32);
                table.begin_group(points.lists.leader(list), members.chain(others), workspace);
                let visit = Visit { block: points.block, rows, sets, states };
                let half = |component| points.halves.get(&component).copied();
                table.visit(visit, &half, workspace, has_sums.then_some(&mut *sums));
            });
            shared.clear();
            shared.resize(n_shared, 0.0);
            if n_shared > 0 {
                for (_, row) in sums.rows() {
                    shared.iter_mut().zip(&row[1 + n_own..]).for_each(|(sum, value)| *sum += value);
                }
            }
            Ok(())
        })?;
        for (share, rows) in work {
            for (&row, set) in rows.iter().zip(share.sets.chunks_exact(states)) {
                for (to, &from) in sets[row as usize * states..].iter_mut().zip(set) {
                    *to = from;
                }
            }
        }
        if let Some(total) = total.as_deref_mut() {
            let shares = &shares[..wave.len().div_ceil(per_share)];
            add(executor, shares, n_own, total)?;
        }
    }
    Ok(())
}

/// Adds the sums of shares in their order.
fn add<T: Scalar>(
    executor: &Executor,
    shares: &[Share<T>],
    n_own: usize,
    total: &mut SuffStats,
) -> Result<()> {
    let per_piece = total.shape().components.div_ceil(SHARES).max(1);
    let mut pieces: Vec<_> = total.pieces_mut(per_piece).collect();
    executor.for_each(&mut pieces, |index, (mass, sums)| {
        let first = index * per_piece;
        for share in shares {
            for (component, row) in share.sums.rows() {
                let c = (component as usize).wrapping_sub(first);
                if c < mass.len() {
                    mass[c] += row[0];
                    let own = sums[c * n_own..][..n_own].iter_mut();
                    own.zip(&row[1..]).for_each(|(sum, value)| *sum += value);
                }
            }
        }
        Ok(())
    })?;
    for Share { sums, shared, .. } in shares {
        *total.total_weight_mut() += sums.total_weight;
        *total.n_points_mut() += sums.n_points;
        *total.log_evidence_mut() += sums.log_evidence;
        *total.posterior_entropy_mut() += sums.posterior_entropy;
        total.shared_mut().iter_mut().zip(shared).for_each(|(sum, value)| *sum += *value);
    }
    Ok(())
}

/// Visits the groups of rows with one key, in their order, with the sets of their rows.
pub(super) fn for_each_group(
    rows: &[u32],
    keys: &[u32],
    sets: &mut [u32],
    mut visit: impl FnMut(u32, &[u32], &mut [u32]),
) {
    let width = sets.len() / rows.len().max(1);
    let mut rest = sets;
    for group in rows.chunk_by(|&a, &b| keys[a as usize] == keys[b as usize]) {
        let (sets, after) = rest.split_at_mut(group.len() * width);
        rest = after;
        visit(keys[group[0] as usize], group, sets);
    }
}

/// Returns where the entries of each key begin if they are sorted by key, and the number of all.
pub(super) fn starts_of(keys: impl Iterator<Item = u32>, n_keys: usize) -> Vec<u32> {
    let mut starts = vec![0; n_keys + 1];
    keys.for_each(|key| starts[key as usize + 1] += 1);
    (0..n_keys).for_each(|key| starts[key + 1] += starts[key]);
    starts
}

/// Returns the rows in the order of their keys, which are below `n_keys`; rows of one key stay in order.
pub(super) fn order_by(keys: &[u32], n_keys: usize) -> Vec<u32> {
    if n_keys > 4 * keys.len() {
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_by_key(|&row| keys[row as usize]);
        return order;
    }
    let mut next = starts_of(keys.iter().copied(), n_keys);
    let mut order = vec![0; keys.len()];
    for (row, &key) in keys.iter().enumerate() {
        let at = &mut next[key as usize];
        order[*at as usize] = row as u32;
        *at += 1;
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_in_the_order_of_their_keys_and_stay_in_order_within_a_key() {
        let keys = [3, 0, 2, 3, 0, 2, 2];
        let expected = [1, 4, 2, 5, 6, 0, 3];
        // By counting, and by comparing where there are many keys.
        assert_eq!(order_by(&keys, 4), expected);
        assert_eq!(order_by(&keys, 1000), expected);
        assert!(order_by(&[], 5).is_empty());
    }
}
