//! Visits points in groups that share a list of candidates, on all threads, to the same bits on any number of them.

use super::lists::Lists;
use super::order::order_by;
use super::sets::Sets;
use crate::block::Block;
use crate::error::Result;
use crate::exec::Executor;
use crate::model::component_table::{
    ComponentTable, GroupWorkspace, PointPosteriors, SetSums, Visit, Wanted,
};
use crate::rng;
use crate::scalar::Scalar;
use crate::stats::SuffStats;
use std::collections::BTreeMap;

/// Shares of points that are visited before their sums are added to those of all. As many threads can be busy.
const SHARES: usize = 32;

/// Pieces of the components whose sums are added at the same time.
const PIECES: usize = 64;

/// Statistics of the points of a share, which bounds its sums.
const STATISTICS_PER_SHARE: usize = 1 << 17;

/// Points of a share.
const POINTS_PER_SHARE: std::ops::RangeInclusive<usize> = 256..=2048;

/// Sets that are asked for before they are read.
const AHEAD: usize = 16;

/// A share of the points, with memory that outlives it.
#[derive(Debug)]
pub(crate) struct Share<T> {
    workspace: GroupWorkspace<T>,
    sums: SetSums,
    /// Sums of statistics that all components share.
    shared: Vec<f64>,
    posteriors: PointPosteriors<T>,
    sets: Vec<u32>,
}

/// What is wanted of a visit of points besides better sets.
pub(crate) enum Yield<'a, T> {
    /// Nothing.
    Sets,
    /// Statistics of the points, which are added to these.
    Statistics(&'a mut SuffStats),
    /// The posterior of each point, by its row.
    Posteriors(&'a mut PointPosteriors<T>),
}

/// Points to visit, and the lists of their candidates.
pub(crate) struct Points<'a, T> {
    pub block: Block<'a, T>,
    pub lists: &'a Lists,
    /// Nats by which the logits of the first members of each list are lowered.
    pub penalties: &'a [f64],
    /// The list of each point.
    pub keys: &'a [u32],
    /// Seed and number of random candidates of a group.
    pub random: (u64, usize),
    /// Components that were split, and their other halves.
    pub halves: Option<&'a BTreeMap<u32, u32>>,
}

impl<'a, T> Points<'a, T> {
    /// Makes points that look in their lists alone.
    pub fn new(block: Block<'a, T>, lists: &'a Lists, keys: &'a [u32]) -> Self {
        Self { block, lists, penalties: &[], keys, random: (0, 0), halves: None }
    }
}

/// Visits points; improves their sets; yields what is wanted besides. Returns how many logits were computed.
///
/// The log-evidence is not finite if a point has none; then its sets are of no use.
pub(crate) fn visit<T: Scalar>(
    executor: &Executor,
    table: &ComponentTable<T>,
    shares: &mut Vec<Share<T>>,
    points: &Points<'_, T>,
    all_sets: &Sets,
    mut wanted: Yield<'_, T>,
) -> Result<u64> {
    let order = order_by(executor, points.keys, points.lists.len())?;
    let states = all_sets.states();
    let n_own = table.n_own();
    let n_shared = table.n_statistics() - n_own;
    let per_share = STATISTICS_PER_SHARE / table.n_statistics().max(1);
    let per_share = per_share.clamp(*POINTS_PER_SHARE.start(), *POINTS_PER_SHARE.end());
    let per_piece = table.n_components().div_ceil(PIECES);
    let n_shares = order.len().div_ceil(per_share).clamp(1, SHARES);
    shares.truncate(n_shares);
    shares.resize_with(n_shares, || Share {
        workspace: table.workspace(),
        sums: table.new_sums(),
        shared: Vec::new(),
        posteriors: PointPosteriors::default(),
        sets: Vec::new(),
    });
    if let Yield::Posteriors(all) = &mut wanted {
        all.log_evidence.resize(order.len(), 0.0);
        all.entropy.resize(order.len(), 0.0);
        all.probabilities.resize(order.len() * states, T::ZERO);
    }
    let mut evaluations = 0;
    for wave in order.chunks(n_shares * per_share) {
        let mut work: Vec<_> = shares.iter_mut().zip(wave.chunks(per_share)).collect();
        executor.for_each(&mut work, |_, (share, rows)| {
            let Share { workspace, sums, shared, posteriors, sets } = &mut **share;
            sums.clear();
            posteriors.clear();
            sets.resize(rows.len() * states, 0);
            for (k, (&row, set)) in rows.iter().zip(sets.chunks_exact_mut(states)).enumerate() {
                if let Some(&later) = rows.get(k + AHEAD) {
                    all_sets.fetch(later as usize);
                }
                all_sets.read(row as usize, set);
            }
            for_each_group(rows, points.keys, sets, |list, rows, sets| {
                let members = points.lists.members(list).iter().copied();
                let (seed, random) = points.random;
                let mut rng = rng::stream(seed, u64::from(list));
                let n_components = table.n_components() as u64;
                let others = (0..random).map(|_| rng::below(&mut rng, n_components) as u32);
                table.begin_group(points.lists.leader(list), members.chain(others), workspace);
                workspace.penalize(points.penalties);
                let visit = Visit { block: points.block, rows, sets, states };
                let half =
                    |component| points.halves.and_then(|halves| halves.get(&component).copied());
                let wanted = match &wanted {
                    Yield::Sets => Wanted::Sets,
                    Yield::Statistics(_) => Wanted::Sums(&mut *sums),
                    Yield::Posteriors(_) => Wanted::Posteriors(&mut *posteriors),
                };
                table.visit(visit, &half, workspace, wanted);
            });
            for (&row, set) in rows.iter().zip(sets.chunks_exact(states)) {
                all_sets.write(row as usize, set);
            }
            shared.clear();
            shared.resize(n_shared, 0.0);
            if n_shared > 0 {
                for (_, row) in sums.rows() {
                    shared.iter_mut().zip(&row[1 + n_own..]).for_each(|(sum, value)| *sum += value);
                }
            }
            sums.arrange(per_piece);
            Ok(())
        })?;
        evaluations += shares.iter_mut().map(|it| it.workspace.take_evaluations()).sum::<u64>();
        let shares = &shares[..wave.len().div_ceil(per_share)];
        match &mut wanted {
            Yield::Sets => {}
            Yield::Statistics(total) => add(executor, shares, n_own, per_piece, total)?,
            Yield::Posteriors(all) => {
                for (Share { posteriors, .. }, rows) in shares.iter().zip(wave.chunks(per_share)) {
                    for (k, &row) in rows.iter().enumerate() {
                        let row = row as usize;
                        all.log_evidence[row] = posteriors.log_evidence[k];
                        all.entropy[row] = posteriors.entropy[k];
                        let from = &posteriors.probabilities[k * states..][..states];
                        all.probabilities[row * states..][..states].copy_from_slice(from);
                    }
                }
            }
        }
    }
    Ok(evaluations)
}

/// Adds the sums of shares in their order.
fn add<T: Scalar>(
    executor: &Executor,
    shares: &[Share<T>],
    n_own: usize,
    per_piece: usize,
    total: &mut SuffStats,
) -> Result<()> {
    let mut pieces: Vec<_> = total.pieces_mut(per_piece).collect();
    executor.for_each(&mut pieces, |index, (mass, sums)| {
        for share in shares {
            for (component, row) in share.sums.rows_of_piece(index) {
                let c = component as usize - index * per_piece;
                mass[c] += row[0];
                let own = sums[c * n_own..][..n_own].iter_mut();
                own.zip(&row[1..]).for_each(|(sum, value)| *sum += value);
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
