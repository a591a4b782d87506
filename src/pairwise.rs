//! Sums of lanes, two by two, as a tree that depends on the number of lanes alone.
//!
//! A lane is a leaf. Node `i` of a level is the sum of nodes `2i` and `2i + 1` of the level below. Which thread or rank makes a node,
//! and when, has no influence on its bits. Rejected: one sum to which lanes are added in their order. Each rank would have to wait for
//! the rank before, or keep the sums of all its lanes until then; a tree keeps about log₂ of their number.

use crate::error::{Error, Result};
use crate::ranks::{Ranks, decode_error, encode_error, out_of_step};
use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Results of lanes that can be put together in pairs, and sent to another process.
pub trait Sums: Clone + Send + Sync + 'static {
    /// Adds the sums of the lanes that follow.
    fn add(&mut self, next: &Self);

    /// Becomes a copy of sums without points; in the same memory, if it can.
    fn restart(&mut self, empty: &Self) {
        *self = empty.clone();
    }

    /// Appends the sums to a message.
    fn write(&self, message: &mut Vec<u8>);

    /// Takes the sums of a message; these are of no points, and of the shape of those. Tells whether the message fits.
    fn read(&mut self, message: &[u8]) -> bool;
}

/// [`Sums`] whose type only those know who made them. The tree is compiled once, not for each type.
pub trait AnySums: Any + Send + Sync {
    /// As [`Sums::add`]; both are of one type.
    fn add_any(&mut self, next: &dyn AnySums);

    /// As [`Sums::restart`].
    fn restart_any(&mut self, empty: &dyn AnySums);

    /// As [`Sums::write`].
    fn write_any(&self, message: &mut Vec<u8>);

    /// As [`Sums::read`].
    fn read_any(&mut self, message: &[u8]) -> bool;

    /// Returns a copy.
    fn copy(&self) -> Box<dyn AnySums>;
}

const ONE_TYPE: &str = "the sums of a tree are of one type";

/// Returns sums as those of their type.
fn of_type<S: Sums>(sums: &dyn AnySums) -> &S {
    (sums as &dyn Any).downcast_ref().expect(ONE_TYPE)
}

/// The same, to change them.
pub fn of_type_mut<S: Sums>(sums: &mut dyn AnySums) -> &mut S {
    (sums as &mut dyn Any).downcast_mut().expect(ONE_TYPE)
}

/// The same, to keep them.
pub fn into_type<S: Sums>(sums: Box<dyn AnySums>) -> S {
    *(sums as Box<dyn Any>).downcast().expect(ONE_TYPE)
}

impl<S: Sums> AnySums for S {
    fn add_any(&mut self, next: &dyn AnySums) {
        self.add(of_type(next));
    }

    fn restart_any(&mut self, empty: &dyn AnySums) {
        self.restart(of_type(empty));
    }

    fn write_any(&self, message: &mut Vec<u8>) {
        self.write(message);
    }

    fn read_any(&mut self, message: &[u8]) -> bool {
        self.read(message)
    }

    fn copy(&self) -> Box<dyn AnySums> {
        Box::new(self.clone())
    }
}

/// Numbers that add up entry by entry.
impl Sums for Vec<f64> {
    fn add(&mut self, next: &Self) {
        self.iter_mut().zip(next).for_each(|(sum, value)| *sum += value);
    }

    fn write(&self, message: &mut Vec<u8>) {
        write_numbers(message, self);
    }

    fn read(&mut self, message: &[u8]) -> bool {
        read_numbers(message, self)
    }
}

/// Appends numbers to a message.
pub fn write_numbers(message: &mut Vec<u8>, numbers: &[f64]) {
    message.extend_from_slice(bytemuck::cast_slice(numbers));
}

/// Fills numbers from a message. Tells whether there are as many.
pub fn read_numbers(message: &[u8], numbers: &mut [f64]) -> bool {
    let to: &mut [u8] = bytemuck::cast_slice_mut(numbers);
    let fits = to.len() == message.len();
    if fits {
        to.copy_from_slice(message);
    }
    fits
}

/// Results that stand side by side in the order of the lanes.
#[derive(Clone, Debug)]
pub struct InOrder<T>(pub Vec<T>);

impl<T: bytemuck::Pod + Send + Sync> Sums for InOrder<T> {
    fn add(&mut self, next: &Self) {
        self.0.extend_from_slice(&next.0);
    }

    fn restart(&mut self, empty: &Self) {
        self.0.clone_from(&empty.0);
    }

    fn write(&self, message: &mut Vec<u8>) {
        message.extend_from_slice(bytemuck::cast_slice(&self.0));
    }

    fn read(&mut self, message: &[u8]) -> bool {
        let values = message.chunks_exact(size_of::<T>());
        let fits = values.remainder().is_empty();
        self.0 = values.map(bytemuck::pod_read_unaligned).collect();
        fits
    }
}

/// Returns the lanes of a rank: about as many for each, one after another. Rank 0 has the first lane.
pub fn share(ranks: Option<&dyn Ranks>, n_lanes: u64) -> Range<u64> {
    let Some(ranks) = ranks else { return 0..n_lanes };
    let start = |rank: usize| {
        (u128::from(n_lanes) * rank as u128).div_ceil(ranks.size().max(1) as u128) as u64
    };
    start(ranks.rank())..start(ranks.rank() + 1)
}

/// Returns the rank whose share a lane is in.
fn owner(ranks: &dyn Ranks, n_lanes: u64, lane: u64) -> usize {
    // The last rank r with `n r / R <= lane`.
    (u128::from(lane) * ranks.size() as u128 / u128::from(n_lanes)) as usize
}

/// The place of a node: its level, and its number within the level.
type Place = (u32, u64);

/// Nodes that wait for their siblings.
pub struct Tree<'a> {
    n_lanes: u64,
    empty: &'a dyn AnySums,
    nodes: Mutex<BTreeMap<Place, Box<dyn AnySums>>>,
    /// Sums that were added to others: memory for the next lanes.
    spare: Mutex<Vec<Box<dyn AnySums>>>,
}

impl<'a> Tree<'a> {
    /// Returns a tree of so many lanes, of which nothing is known yet. `empty` are sums of no points.
    pub fn new(n_lanes: u64, empty: &'a dyn AnySums) -> Self {
        let (nodes, spare) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
        Self { n_lanes, empty, nodes, spare }
    }

    /// Returns sums of no points.
    pub fn leaf(&self) -> Box<dyn AnySums> {
        match locked(&self.spare).pop() {
            None => self.empty.copy(),
            Some(mut sums) => {
                sums.restart_any(self.empty);
                sums
            }
        }
    }

    /// Takes the sums of a lane, and adds up all pairs that are complete by it.
    pub fn put(&self, lane: u64, sums: Box<dyn AnySums>) {
        self.put_node((0, lane), sums);
    }

    fn put_node(&self, place: Place, mut sums: Box<dyn AnySums>) {
        let (mut level, mut index) = place;
        loop {
            let is_last = self.is_last((level, index));
            if is_last && index.is_multiple_of(2) {
                if index == 0 {
                    locked(&self.nodes).insert((level, 0), sums);
                    return;
                }
                // A node without a sibling is its parent.
                (level, index) = (level + 1, index / 2);
                continue;
            }
            let mut nodes = locked(&self.nodes);
            let Some(sibling) = nodes.remove(&(level, index ^ 1)) else {
                nodes.insert((level, index), sums);
                return;
            };
            drop(nodes);
            let [mut left, right] = match index % 2 {
                0 => [sums, sibling],
                _ => [sibling, sums],
            };
            left.add_any(&*right);
            locked(&self.spare).push(right);
            sums = left;
            (level, index) = (level + 1, index / 2);
        }
    }

    /// Whether a node holds the last lane.
    fn is_last(&self, (level, index): Place) -> bool {
        (index + 1).checked_shl(level).is_none_or(|end| end >= self.n_lanes)
    }

    /// Returns the sum of all lanes, once each was put.
    pub fn into_total(self) -> Box<dyn AnySums> {
        let nodes = self.nodes.into_inner().unwrap_or_else(PoisonError::into_inner);
        debug_assert!(nodes.len() <= 1, "lanes are missing");
        nodes.into_values().next().unwrap_or_else(|| self.empty.copy())
    }

    /// Returns the sum of the lanes of all ranks, to all of them, or the first fault in the order of lanes. `fault` is the first of
    /// this rank; without a fault, each lane of its share was put. `number` counts such sums: it shows whether ranks are in step.
    ///
    /// # Errors
    /// The first fault of a lane; those of messages.
    pub fn into_total_of_ranks(
        self,
        ranks: &dyn Ranks,
        number: u64,
        fault: Option<Error>,
    ) -> Result<Box<dyn AnySums>> {
        let fault = fault.map(|fault| encode_error(&fault));
        let (n_lanes, empty) = (self.n_lanes, self.empty);
        let holder = |(level, index): Place| owner(ranks, n_lanes, index << level);
        let mut nodes: BTreeMap<Place, Node> = match &fault {
            None => std::mem::take(&mut *locked(&self.nodes))
                .into_iter()
                .map(|(place, sums)| (place, Node::Sums(sums)))
                .collect(),
            Some(bytes) => self
                .places_of(share(Some(ranks), n_lanes))
                .into_iter()
                .map(|place| (place, Node::Fault(bytes.clone())))
                .collect(),
        };
        let mut message = Vec::new();
        // The lowest node first. At each level a rank sends at most one, its first, and then receives at most one.
        while let Some((&place, _)) = nodes.first_key_value() {
            let (level, index) = place;
            if index == 0 && self.is_last(place) {
                break;
            }
            let node = nodes.remove(&place).expect("it was found");
            let parent = (level + 1, index / 2);
            let sibling = (level, index ^ 1);
            if !index.is_multiple_of(2) {
                // Its sibling is with another rank, or they would have been added.
                node.write(number, &mut message);
                ranks.send(holder(sibling), &message)?;
            } else if self.is_last(place) {
                nodes.insert(parent, node);
            } else {
                let right = match nodes.remove(&sibling) {
                    Some(right) => right,
                    None => {
                        ranks.receive(holder(sibling), &mut message)?;
                        Node::read(number, &message, empty)?
                    }
                };
                nodes.insert(parent, node.plus(right));
            }
        }
        let root = nodes.into_values().next();
        if ranks.rank() == 0 {
            root.unwrap_or_else(|| Node::Sums(empty.copy())).write(number, &mut message);
        }
        ranks.broadcast(&mut message)?;
        match Node::read(number, &message, empty)? {
            Node::Sums(sums) => Ok(sums),
            Node::Fault(bytes) => Err(decode_error(&bytes)),
        }
    }

    /// Returns the places of the nodes that are left if all lanes of a range were put.
    fn places_of(&self, lanes: Range<u64>) -> Vec<Place> {
        let places = Tree::new(self.n_lanes, &NoSums);
        lanes.for_each(|lane| places.put(lane, Box::new(NoSums)));
        let nodes = places.nodes.into_inner().unwrap_or_else(PoisonError::into_inner);
        nodes.into_keys().collect()
    }
}

/// Sums of nothing, to learn which nodes there are.
#[derive(Clone)]
struct NoSums;

impl Sums for NoSums {
    fn add(&mut self, _: &Self) {}

    fn write(&self, _: &mut Vec<u8>) {}

    fn read(&mut self, _: &[u8]) -> bool {
        true
    }
}

/// A node between ranks: sums, or the first fault of its lanes.
enum Node {
    Sums(Box<dyn AnySums>),
    Fault(Vec<u8>),
}

/// Bytes of a message before its content: the number of the sum, and whether it is a fault.
const HEADER: usize = 9;

impl Node {
    fn plus(self, right: Self) -> Self {
        match (self, right) {
            (Self::Sums(mut left), Self::Sums(right)) => {
                left.add_any(&*right);
                Self::Sums(left)
            }
            (Self::Fault(first), _) | (_, Self::Fault(first)) => Self::Fault(first),
        }
    }

    fn write(&self, number: u64, message: &mut Vec<u8>) {
        message.clear();
        message.extend_from_slice(&number.to_le_bytes());
        message.push(u8::from(matches!(self, Self::Fault(_))));
        match self {
            Self::Sums(sums) => sums.write_any(message),
            Self::Fault(bytes) => message.extend_from_slice(bytes),
        }
    }

    fn read(number: u64, message: &[u8], empty: &dyn AnySums) -> Result<Self> {
        let (header, content) = message.split_at_checked(HEADER).ok_or_else(out_of_step)?;
        if header[..8] != number.to_le_bytes() {
            return Err(out_of_step());
        }
        if header[8] != 0 {
            return Ok(Self::Fault(content.to_vec()));
        }
        let mut sums = empty.copy();
        if sums.read_any(content) { Ok(Self::Sums(sums)) } else { Err(out_of_step()) }
    }
}

fn locked<S>(mutex: &Mutex<S>) -> std::sync::MutexGuard<'_, S> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::LocalRanks;

    /// The sum of a lane, whose bits tell in which order numbers were added.
    fn leaf(lane: u64) -> Vec<f64> {
        vec![1.0 / (3.0 + lane as f64), (lane as f64).sqrt()]
    }

    fn total(n_lanes: u64, order: impl Iterator<Item = u64>) -> Vec<f64> {
        let empty = vec![0.0; 2];
        let tree = Tree::new(n_lanes, &empty);
        for lane in order {
            let mut sums = tree.leaf();
            sums.add_any(&leaf(lane));
            tree.put(lane, sums);
        }
        into_type(tree.into_total())
    }

    #[test]
    fn the_order_in_which_lanes_end_has_no_influence() {
        for n in [0, 1, 2, 3, 7, 64, 1001] {
            let forward = total(n, 0..n);
            assert_eq!(forward, total(n, (0..n).rev()));
            assert_eq!(forward, total(n, (0..n).step_by(2).chain((1..n).step_by(2))));
            let plain: f64 = (0..n).map(|lane| leaf(lane)[0]).sum();
            assert!((forward[0] - plain).abs() < 1e-12);
        }
    }

    #[test]
    fn few_sums_are_kept_at_a_time() {
        let empty = vec![0.0];
        let tree = Tree::new(1 << 20, &empty);
        let mut most = 0;
        for lane in 0..1 << 12 {
            tree.put(lane, tree.leaf());
            most = most.max(locked(&tree.nodes).len() + locked(&tree.spare).len());
        }
        assert!(most <= 14, "{most}");
    }

    /// Runs `work` on each of some ranks, and returns what each returned.
    fn on_ranks<R: Send>(size: usize, work: impl Fn(LocalRanks) -> R + Sync) -> Vec<R> {
        std::thread::scope(|scope| {
            let ranks = LocalRanks::new(size).into_iter();
            let threads: Vec<_> = ranks.map(|ranks| scope.spawn(|| work(ranks))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn any_number_of_ranks_makes_the_same_bits() {
        for n in [1, 2, 3, 7, 64, 101] {
            let expected = total(n, 0..n);
            for size in [1, 2, 3, 4, 7, 12] {
                let totals = on_ranks(size, |ranks| {
                    let empty = vec![0.0; 2];
                    let tree = Tree::new(n, &empty);
                    for lane in share(Some(&ranks), n) {
                        assert_eq!(owner(&ranks, n, lane), ranks.rank());
                        tree.put(lane, Box::new(leaf(lane)));
                    }
                    into_type::<Vec<f64>>(tree.into_total_of_ranks(&ranks, 5, None).unwrap())
                });
                assert_eq!(totals, vec![expected.clone(); size], "{n} lanes, {size} ranks");
            }
        }
    }

    #[test]
    fn results_stay_in_the_order_of_lanes() {
        let totals = on_ranks(3, |ranks| {
            let empty = InOrder::<u64>(Vec::new());
            let tree = Tree::new(11, &empty);
            share(Some(&ranks), 11)
                .for_each(|lane| tree.put(lane, Box::new(InOrder(vec![lane, 10 * lane]))));
            into_type::<InOrder<u64>>(tree.into_total_of_ranks(&ranks, 0, None).unwrap()).0
        });
        let expected: Vec<u64> = (0..11).flat_map(|lane| [lane, 10 * lane]).collect();
        assert_eq!(totals, vec![expected; 3]);
    }

    #[test]
    fn all_ranks_hear_of_the_first_fault() {
        for (n, size) in [(2, 4), (10, 4), (64, 7)] {
            let told = on_ranks(size, |ranks| {
                let empty = vec![0.0];
                let tree = Tree::new(n, &empty);
                let mine = share(Some(&ranks), n);
                let fault = (!mine.is_empty() && mine.end > n / 2)
                    .then(|| Error::Model(format!("rank {}", ranks.rank())));
                if fault.is_none() {
                    mine.for_each(|lane| tree.put(lane, Box::new(vec![1.0])));
                }
                tree.into_total_of_ranks(&ranks, 0, fault).err().unwrap().to_string()
            });
            assert!(
                told.iter().all(|text| text.starts_with("rank ") && *text == told[0]),
                "{told:?}"
            );
        }
    }

    #[test]
    fn ranks_that_are_out_of_step_are_told() {
        let told = on_ranks(2, |ranks| {
            let empty = vec![0.0];
            let tree = Tree::new(2, &empty);
            tree.put(ranks.rank() as u64, Box::new(vec![1.0]));
            let number = ranks.rank() as u64;
            tree.into_total_of_ranks(&ranks, number, None).err().unwrap().to_string()
        });
        assert!(told[0].contains("out of step"), "{told:?}");
    }
}
