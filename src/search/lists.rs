//! Lists of candidates, and the neighbours of each component.
//!
//! A component is near another if it explains the points of the other well. After an exact M-step the mean of `ln p(x_n | c) - ln p(x_n | k)`
//! over the points of c is `KL(p_c ‖ p_k)`, whatever the posteriors are. It follows from the mean statistics of c alone:
//! `η_k · m_c - A_k` ranks the components k. So the search for neighbours is the E-step over C points `m_c`, and no family needs a formula
//! of its own.

use super::cells::Cells;
use super::order::{order_by, starts_of};
use super::visits::for_each_group;
use crate::error::Result;
use crate::exec::Executor;
use crate::model::component_table::ComponentTable;
use crate::rng;
use crate::scalar::Scalar;
use serde::{Deserialize, Serialize};

/// Neighbours whose own neighbours are tried, and how many of each. Half of both are the nearest, the others random: the nearest alone
/// lead from wide components to wide ones, and never to narrow ones beside them.
const HOPS: usize = 6;
const OF_A_HOP: usize = 12;

/// Components that have a component among their nearest, and are tried for it.
const REVERSE: usize = 12;

/// Members of a list that count as nearest for it.
const NEAREST: usize = 8;

/// Random components that are tried.
const RANDOM: usize = 2;

/// Components whose neighbours a thread improves at a time.
const PIECE: usize = 128;

/// Lanes in which components are ranked. As many threads can be busy.
const LANES: usize = 16;

/// Lists of components, each with a leading component.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Lists {
    leaders: Vec<u32>,
    /// Where the list of each leader begins, and where the last ends.
    starts: Vec<u32>,
    members: Vec<u32>,
}

impl Lists {
    /// Returns the number of lists.
    pub fn len(&self) -> usize {
        self.leaders.len()
    }

    pub fn is_empty(&self) -> bool {
        self.leaders.is_empty()
    }

    /// Returns the leading component of a list.
    pub fn leader(&self, list: u32) -> u32 {
        self.leaders[list as usize]
    }

    /// Returns the members of a list.
    pub fn members(&self, list: u32) -> &[u32] {
        let list = list as usize;
        &self.members[self.starts[list] as usize..self.starts[list + 1] as usize]
    }

    /// Returns lists that also hold components which have the leader in theirs, `most` each at most: a wide component is near many narrow
    /// ones, and these are not near it.
    pub fn with_reverse(&self, most: usize) -> Self {
        let (starts, reverse) = reversed(self, usize::MAX);
        let mut lists = Self::default();
        let mut seen = vec![u32::MAX; self.len()];
        for c in 0..self.len() as u32 {
            let own = self.members(c);
            own.iter().for_each(|&member| seen[member as usize] = c);
            let back = &reverse[starts[c as usize] as usize..starts[c as usize + 1] as usize];
            let new = back.iter().copied().filter(|&it| seen[it as usize] != c);
            lists.push(self.leader(c), own.iter().copied().chain(new.take(most)));
        }
        lists
    }

    /// Tells whether lists are of a mixture of so many components, one a component. Those of a damaged checkpoint may not be.
    pub fn are_neighbours_of(&self, n_components: usize) -> bool {
        self.leaders.iter().enumerate().all(|(c, &leader)| c as u32 == leader)
            && self.len() == n_components
            && self.are_valid(n_components)
    }

    /// Tells whether all lists lie within, and name components that exist.
    pub fn are_valid(&self, n_components: usize) -> bool {
        let exist = |component: &u32| (*component as usize) < n_components;
        self.starts.len() == self.leaders.len() + usize::from(!self.leaders.is_empty())
            && self.starts.first().is_none_or(|&first| first == 0)
            && self.starts.is_sorted()
            && self.starts.last().is_none_or(|&last| last as usize == self.members.len())
            && self.leaders.iter().all(exist)
            && self.members.iter().all(exist)
    }

    /// Adds a list.
    pub fn push(&mut self, leader: u32, members: impl IntoIterator<Item = u32>) {
        if self.starts.is_empty() {
            self.starts.push(0);
        }
        self.leaders.push(leader);
        self.members.extend(members);
        self.starts.push(self.members.len() as u32);
    }

    /// Returns one list of some components.
    pub fn single(members: Vec<u32>) -> Self {
        Self { leaders: vec![members[0]], starts: vec![0, members.len() as u32], members }
    }

    /// Returns the lists of the components themselves, of `width` members each at most; `sets` holds component + 1, or 0 where there are no more.
    fn of_components(executor: &Executor, width: usize, sets: &[u32]) -> Result<Self> {
        let n_components = sets.len() / width;
        let mut pieces: Vec<_> =
            sets.chunks(PIECE * width).map(|sets| (sets, Vec::new(), Vec::new())).collect();
        executor.for_each(&mut pieces, |piece, (sets, members, lengths)| {
            members.reserve(sets.len());
            for (c, set) in ((piece * PIECE) as u32..).zip(sets.chunks_exact(width)) {
                let before = members.len();
                // A component leads its own list, even where a heavier one explains its points better.
                members.push(c);
                let others = set.iter().filter(|&&it| it > 0).map(|&it| it - 1);
                members.extend(others.filter(|&it| it != c).take(width - 1));
                lengths.push((members.len() - before) as u32);
            }
            Ok(())
        })?;
        let mut lists = Self {
            leaders: (0..n_components as u32).collect(),
            starts: vec![0],
            members: Vec::new(),
        };
        lists.members.reserve(pieces.iter().map(|(_, members, _)| members.len()).sum());
        for (_, members, lengths) in &pieces {
            for length in lengths {
                lists.starts.push(lists.starts[lists.starts.len() - 1] + length);
            }
            lists.members.extend_from_slice(members);
        }
        debug_assert!(lists.are_neighbours_of(n_components));
        Ok(lists)
    }
}

/// Ranks for each component the members of its list, whose logits are lowered by penalties if there are any. Returns the `width` first as
/// sets, component + 1 or 0.
pub(super) fn rank<T: Scalar>(
    executor: &Executor,
    table: &ComponentTable<T>,
    means: &[T],
    (lists, penalties): (&Lists, &[f64]),
    keys: &[u32],
    width: usize,
) -> Result<Vec<u32>> {
    let order = order_by(executor, keys, lists.len())?;
    let mut ranked = vec![0; keys.len() * width];
    // Few lanes, since the workspace of each holds a number for every component.
    let per_lane = order.len().div_ceil(LANES).max(1);
    let mut lanes: Vec<_> =
        ranked.chunks_mut(per_lane * width).zip(order.chunks(per_lane)).collect();
    executor.for_each(&mut lanes, |_, (sets, components)| {
        let mut workspace = table.workspace();
        for_each_group(components, keys, sets, |list, group, sets| {
            let members = lists.members(list).iter().copied();
            table.begin_group(lists.leader(list), members, &mut workspace);
            workspace.penalize(penalties);
            table.visit_means(means, group, sets, width, &mut workspace);
        });
        Ok(())
    })?;
    let mut sets = vec![0; ranked.len()];
    for (&component, set) in order.iter().zip(ranked.chunks_exact(width)) {
        sets[component as usize * width..][..width].copy_from_slice(set);
    }
    Ok(sets)
}

/// Finds the neighbours of all components among the members of near cells.
pub(crate) fn neighbours_from<T: Scalar>(
    executor: &Executor,
    table: &ComponentTable<T>,
    means: &[T],
    cells: &Cells,
    width: usize,
) -> Result<Lists> {
    let sets = rank(executor, table, means, (&cells.members, &[]), cells.of_components(), width)?;
    Lists::of_components(executor, width, &sets)
}

/// Improves the neighbours of all components: tries neighbours of neighbours, components that have it as a neighbour, the halves of
/// split components, and random ones.
pub(crate) fn improve<T: Scalar>(
    executor: &Executor,
    table: &ComponentTable<T>,
    means: &[T],
    old: &Lists,
    half: &(dyn Fn(u32) -> Option<u32> + Sync),
    width: usize,
    seed: u64,
) -> Result<Lists> {
    let (n_components, len) = (old.len(), table.mean_len());
    let (starts, reverse) = reversed(old, NEAREST);
    let mut sets = vec![0; n_components * width];
    let mut pieces: Vec<_> = sets.chunks_mut(PIECE * width).collect();
    executor.for_each(&mut pieces, |piece, sets| {
        let (mut candidates, mut logits, mut order) = (Vec::new(), Vec::new(), Vec::new());
        for (k, set) in sets.chunks_exact_mut(width).enumerate() {
            let c = (piece * PIECE + k) as u32;
            candidates.clear();
            let own = old.members(c);
            candidates.extend_from_slice(own);
            let mut rng = rng::stream(seed, u64::from(c));
            let mut member = |k: usize, of: &[u32], nearest: usize| match k < nearest {
                true => of.get(k).copied(),
                false => of.get(rng::below(&mut rng, of.len() as u64) as usize).copied(),
            };
            for hop in 0..HOPS {
                // A component leads its own list.
                let Some(near) = member(hop + 1, own, 1 + HOPS / 2) else { continue };
                let theirs = old.members(near);
                candidates.extend((0..OF_A_HOP).filter_map(|k| member(k, theirs, OF_A_HOP / 2)));
            }
            let back = &reverse[starts[c as usize] as usize..starts[c as usize + 1] as usize];
            let (before, after) = match back.len() > REVERSE {
                true => back.split_at(rng::below(&mut rng, back.len() as u64) as usize),
                false => (&[][..], back),
            };
            candidates.extend(after.iter().chain(before).take(REVERSE));
            candidates
                .extend((0..RANDOM).map(|_| rng::below(&mut rng, n_components as u64) as u32));
            let mut next = 0;
            while let Some(&candidate) = candidates.get(next) {
                next += 1;
                if let Some(other) = half(candidate).filter(|it| !candidates.contains(it)) {
                    candidates.push(other);
                }
            }
            candidates.sort_unstable();
            candidates.dedup();
            logits.resize(candidates.len(), 0.0);
            let mean = &means[c as usize * len..][..len];
            table.expected_logits(c, mean, &candidates, &mut logits);
            order.clear();
            order.extend(candidates.iter().copied().zip(logits.iter().copied()));
            let better = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
            if order.len() > width {
                order.select_nth_unstable_by(width - 1, better);
                order.truncate(width);
            }
            order.sort_unstable_by(better);
            for (to, &(component, logit)) in set.iter_mut().zip(&order) {
                // Discarded components have a weight of 0.
                *to = if logit == f64::NEG_INFINITY { 0 } else { component + 1 };
            }
        }
        Ok(())
    })?;
    Lists::of_components(executor, width, &sets)
}

/// Returns for each component those that have it among their `n_nearest`: where they begin, and all of them.
fn reversed(lists: &Lists, n_nearest: usize) -> (Vec<u32>, Vec<u32>) {
    let nearest = |c: u32| lists.members(c).iter().skip(1).take(n_nearest).copied();
    let starts = starts_of((0..lists.len() as u32).flat_map(nearest), lists.len());
    let mut next = starts.clone();
    let mut reverse = vec![0; starts[lists.len()] as usize];
    for c in 0..lists.len() as u32 {
        for near in nearest(c) {
            let at = &mut next[near as usize];
            reverse[*at as usize] = c;
            *at += 1;
        }
    }
    (starts, reverse)
}
