//! Points of a source in a random order that can be read from a disk.
//!
//! The source is cut into *chunks* of consecutive points. An epoch goes through them in a random order, by *windows*: as
//! many chunks as fit into a given memory. A window shuffles the points of each chunk and deals them out in turn, a few of
//! each chunk, so that every batch has points of all its chunks: files that are sorted do no harm where a window spans
//! many chunks. Everything follows from the seed, the epoch and the window; so a place in the stream is three numbers.

mod order;
mod shared;

pub use super::section::PointRange;
pub use order::{BatchOrder, StreamPosition};
pub use shared::Sharing;

use super::DataSource;
use crate::block::{Block, BlockBuf};
use crate::error::Result;
use crate::rng;
use crate::scalar::Scalar;
use faer::MatRef;
use order::shuffle;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Sets the treatment of points outside the support of a model, and of lines of text that are no points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BadRows {
    /// End with an error that names the first of them.
    #[default]
    Error,
    /// Skip and count them.
    Skip,
}

/// Returns whether a point is to be skipped.
pub type SkipsRow<'a, T> = &'a (dyn Fn(&[T]) -> bool + Sync);

/// Keeps the random numbers of windows apart from those of starts.
const WITHIN: u64 = 0x7769_7468_696e_2061;

/// Holds the shuffled points of some chunks, in memory that is used again for the next ones.
#[derive(Debug, Default)]
pub struct ShuffledWindow<T> {
    values: Vec<T>,
    weights: Vec<f64>,
    weighted: bool,
    dim: usize,
    rows: usize,
    batch: u64,
    skipped: u64,
    place: StreamPosition,
    ranges: Vec<Range<u64>>,
    chunk: u64,
    buffer: BlockBuf<T>,
    /// Random orders of the points of a chunk, and of those of the short one.
    orders: [Vec<u32>; 2],
    positions: Vec<u32>,
    /// Places of bad points.
    bad: Vec<usize>,
    deal: Deal,
    mix: bool,
    /// Rows whose chunks are read here, if other processes read the others.
    own: Option<Range<u64>>,
}

impl<T: Scalar> ShuffledWindow<T> {
    /// Returns a window that reads the chunks that begin in some rows.
    pub fn of_rows(own: Range<u64>) -> Self {
        Self { own: Some(own), ..Self::default() }
    }

    /// Reads a window of an epoch, without bad points. Calls `go_on` before each chunk, with its number; if it returns false,
    /// so does this, and the window is incomplete.
    ///
    /// A window [of some rows](Self::of_rows) leaves chunks that begin elsewhere to other processes: [`Sharing::complete`] brings these.
    ///
    /// # Errors
    /// Those of the source.
    pub fn fill(
        &mut self,
        source: &(impl DataSource<T> + ?Sized),
        order: &BatchOrder,
        chunks: &[u64],
        place: StreamPosition,
        is_bad: Option<SkipsRow<'_, T>>,
        go_on: &dyn Fn(usize) -> bool,
    ) -> Result<bool> {
        let dim = source.dim();
        (self.dim, self.place, self.batch) =
            (dim, StreamPosition { batch: 0, ..place }, order.batch);
        (self.rows, self.weighted) = (0, false);
        self.bad.clear();
        let mut ranges: Vec<Range<u64>> = order.ranges(chunks, place.window).collect();
        // Dealing out in turn is simplest with the short chunk last.
        ranges.sort_by_key(|range| std::cmp::Reverse(range.end - range.start));
        self.chunk = ranges.first().map_or(0, |range| range.start / order.chunk);
        let lengths: Vec<usize> = ranges.iter().map(|r| (r.end - r.start) as usize).collect();
        let rows: usize = lengths.iter().sum();
        if self.values.len() < rows * dim {
            // From the system, which gives zeros, and not written here.
            self.values = vec![T::ZERO; rows * dim];
        }
        self.positions.resize(if order.positions { rows } else { 0 }, 0);
        let within = place.epoch.wrapping_mul(0x1_0000_0001).wrapping_add(place.window);
        let mut rng = rng::stream(order.seed ^ WITHIN, within);
        let deal = Deal::new(&lengths, order, dim * size_of::<T>());
        // One permutation for all chunks of a length, and where in it each begins: to draw one a chunk took a tenth of the time
        // that reading takes.
        let short = lengths.get(deal.n_chunks).copied().unwrap_or_default();
        for (points, count) in self.orders.iter_mut().zip([deal.length, short]) {
            points.clear();
            points.extend(0..count as u32);
            if order.mix {
                shuffle(points, &mut rng);
            }
        }
        let mut done = 0;
        for (g, range) in ranges.iter().enumerate() {
            let count = lengths[g];
            if !go_on(g) {
                return Ok(false);
            }
            let is_own = self.own.as_ref().is_none_or(|own| own.contains(&range.start));
            let block = match is_own {
                true => super::read(source, false, range.start, count, &mut self.buffer)?,
                false => Block::from_rows(&[], dim)?,
            };
            let turns = &self.orders[usize::from(g >= deal.n_chunks)][..];
            let shift = if order.mix { rng::below(&mut rng, count as u64) as usize } else { 0 };
            let point = |turn: usize| {
                let at = turn + shift;
                turns[if at < count { at } else { at - count }] as usize
            };
            if let (Some(_), false) = (block.weights, self.weighted) {
                self.weighted = true;
                self.weights.resize(self.weights.len().max(rows), 1.0);
            }
            // As columns of the transposed block rows are slices, where they lie together.
            let contiguous = block.points.transpose().try_as_col_major();
            let mut copy = |turns: Range<usize>, at: usize| {
                if order.positions {
                    let to = &mut self.positions[at..][..turns.len()];
                    to.iter_mut()
                        .zip(turns.clone())
                        .for_each(|(to, turn)| *to = (done + point(turn)) as u32);
                }
                if !is_own {
                    return;
                }
                let to = &mut self.values[at * dim..][..turns.len() * dim];
                let pairs = to.chunks_exact_mut(dim).zip(turns.clone());
                match contiguous {
                    Some(rows) => {
                        pairs.for_each(|(to, turn)| copy_row(to, rows.col(point(turn)).as_slice()));
                    }
                    None => pairs.for_each(|(to, turn)| {
                        let row = block.points.row(point(turn));
                        to.iter_mut().zip(row.iter()).for_each(|(to, from)| *to = *from);
                    }),
                }
                if let Some(weights) = block.weights {
                    let to = &mut self.weights[at..][..turns.len()];
                    to.iter_mut()
                        .zip(turns.clone())
                        .for_each(|(to, turn)| *to = weights[point(turn)]);
                }
                if let Some(is_bad) = is_bad {
                    let rows = to.chunks_exact(dim).enumerate();
                    self.bad.extend(rows.filter(|(_, row)| is_bad(row)).map(|(i, _)| at + i));
                }
            };
            if order.mix {
                deal.each_run(g, count, copy);
            } else {
                copy(0..count, done);
            }
            done += count;
        }
        (self.rows, self.ranges, self.deal, self.mix) = (rows, ranges, deal, order.mix);
        if self.own.is_none() {
            self.close_holes();
        }
        Ok(true)
    }

    /// Calls `visit` with how many points of chunk `g` lie together, and where, for all its points.
    fn each_run(&self, g: usize, mut visit: impl FnMut(usize, usize)) {
        let length = |range: &Range<u64>| (range.end - range.start) as usize;
        let count = length(&self.ranges[g]);
        match self.mix {
            true => self.deal.each_run(g, count, |turns, at| visit(turns.len(), at)),
            false => visit(count, self.ranges[..g].iter().map(length).sum()),
        }
    }

    /// Moves points together where bad ones were left out.
    fn close_holes(&mut self) {
        self.skipped = self.bad.len() as u64;
        if self.bad.is_empty() {
            return;
        }
        self.bad.sort_unstable();
        let (mut to, mut bad) = (0, self.bad.iter().peekable());
        for from in 0..self.rows {
            if bad.next_if_eq(&&from).is_some() {
                continue;
            }
            self.values.copy_within(from * self.dim..(from + 1) * self.dim, to * self.dim);
            if self.weighted {
                self.weights[to] = self.weights[from];
            }
            if let Some(&position) = self.positions.get(from) {
                self.positions[to] = position;
            }
            to += 1;
        }
        self.rows = to;
    }

    /// Returns the place of the window in the stream.
    pub fn place(&self) -> StreamPosition {
        self.place
    }

    /// Returns the number of its chunk in the source; that of the first if there are several.
    pub fn chunk(&self) -> u64 {
        self.chunk
    }

    /// Returns its chunks, as ranges of points of the source.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Returns the positions of the points of a batch among those of the chunks, counted through [`ranges`](Self::ranges).
    ///
    /// # Panics
    /// If the order is not [`with_positions`](BatchOrder::with_positions), or there are not as many batches.
    pub fn positions(&self, index: u64) -> &[u32] {
        &self.positions[self.bounds(index)]
    }

    /// Returns the row in the source of the point at a position.
    #[cfg(test)]
    pub fn row(&self, position: u32) -> u64 {
        let mut left = u64::from(position);
        for range in &self.ranges {
            let count = range.end - range.start;
            if left < count {
                return range.start + left;
            }
            left -= count;
        }
        panic!("position {position} is past the end of the window");
    }

    /// Returns the number of points.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Returns whether there are no points, since all were bad.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Returns the number of bad points that were skipped.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Returns the number of batches. Their sizes are about the one asked for, and differ by at most one point.
    pub fn n_batches(&self) -> u64 {
        let rows = self.rows as u64;
        (rows.saturating_add(self.batch / 2) / self.batch).max(u64::from(rows > 0))
    }

    fn bounds(&self, index: u64) -> Range<usize> {
        let n = self.n_batches();
        assert!(index < n, "batch {index} of {n}");
        let bound = |k: u64| (self.rows as u64 * k / n) as usize;
        bound(index)..bound(index + 1)
    }

    /// Returns a batch.
    ///
    /// # Panics
    /// If there is no batch of this index.
    pub fn batch(&self, index: u64) -> Block<'_, T> {
        let Range { start, end } = self.bounds(index);
        let values = &self.values[start * self.dim..end * self.dim];
        Block {
            points: MatRef::from_row_major_slice(values, end - start, self.dim),
            sparse: None,
            weights: self.weighted.then(|| &self.weights[start..end]),
            first: 0,
        }
    }
}

/// Copies a point. For short points a call of `memcpy` takes longer than the copy.
#[inline(always)]
fn copy_row<T: Copy>(to: &mut [T], from: &[T]) {
    let ((to, to_rest), (from, from_rest)) = (to.as_chunks_mut::<8>(), from.as_chunks::<8>());
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    to_rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to = *from);
}

/// Deals out the points of a window's chunks in turn, a short run of each chunk.
///
/// Runs and not single points, so that memory is written by several cache lines, and a chunk touches few pages.
#[derive(Debug, Default)]
struct Deal {
    /// Chunks of the common length; a shorter one comes last, by itself.
    n_chunks: usize,
    length: usize,
    run: usize,
}

impl Deal {
    /// Bytes of a run. By single points of 64 bytes a window took twice as long.
    const RUN_BYTES: usize = 1024;

    fn new(lengths: &[usize], order: &BatchOrder, point_bytes: usize) -> Self {
        let length = lengths.first().copied().unwrap_or_default();
        let n_chunks = lengths.iter().filter(|&&it| it == length).count();
        // A batch still has runs of 256 chunks.
        let most = usize::try_from(order.batch / 256).unwrap_or(usize::MAX).clamp(1, 16);
        Self { n_chunks, length, run: (Self::RUN_BYTES / point_bytes).clamp(1, most) }
    }

    /// Calls `copy` with the points of chunk `g` that go to one place, and the place, for all places.
    fn each_run(&self, g: usize, count: usize, mut copy: impl FnMut(Range<usize>, usize)) {
        let Self { n_chunks, length, run } = *self;
        if g >= n_chunks {
            return copy(0..count, n_chunks * length);
        }
        let in_runs = length / run * run;
        for first in (0..in_runs).step_by(run) {
            copy(first..first + run, first * n_chunks + g * run);
        }
        for i in in_runs..length {
            copy(i..i + 1, i * n_chunks + g);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::memory::Points;

    fn source(n: usize) -> Points<'static, f64> {
        let values = (0..n).flat_map(|i| [i as f64, -(i as f64)]).collect();
        Points::owned(values, 2).unwrap()
    }

    /// The first column of all batches of an epoch, in order.
    fn epoch(source: &Points<'_, f64>, order: &BatchOrder, epoch: u64) -> Vec<Vec<f64>> {
        let chunks = order.chunks(epoch);
        let mut window = ShuffledWindow::default();
        let mut batches = Vec::new();
        for w in 0..order.n_windows() {
            let place = StreamPosition { epoch, window: w, batch: 0 };
            assert!(window.fill(source, order, &chunks, place, None, &|_| true).unwrap());
            for b in 0..window.n_batches() {
                let block = window.batch(b);
                assert!((0..block.len()).all(|i| block.points[(i, 0)] == -block.points[(i, 1)]));
                batches.push(block.points.col(0).iter().copied().collect());
            }
        }
        batches
    }

    #[test]
    fn every_epoch_has_every_point_once_in_another_order() {
        for n in [1, 2, 7, 100, 4096, 10_007] {
            let source = source(n);
            for (batch, bytes) in [(1, 0), (3, 500), (64, 1 << 12), (5000, 1 << 30)] {
                let order = BatchOrder::minibatches::<f64>(&source, batch, bytes, 1, true);
                let [first, second, again] = [0, 1, 0].map(|e| epoch(&source, &order, e));
                assert_eq!(first, again);
                assert_eq!(first.len() as u64, order.n_batches(), "{order:?}");
                if n > 50 {
                    assert_ne!(first.concat(), second.concat());
                }
                for mut all in [first.concat(), second.concat()] {
                    all.sort_by(f64::total_cmp);
                    assert_eq!(all, (0..n).map(|i| i as f64).collect::<Vec<_>>(), "{order:?}");
                }
                for batch in &first {
                    let (len, wanted) = (batch.len() as u64, order.batch.min(order.len));
                    assert!(2 * len >= wanted && len <= 2 * wanted, "{len} {order:?}");
                }
            }
        }
    }

    #[test]
    fn batches_of_a_sorted_file_are_mixed() {
        let source = source(100_000);
        let order = BatchOrder::minibatches::<f64>(&source, 1000, 1 << 20, 3, true);
        assert!(order.n_windows() > 1);
        // Means of 333 uniform runs of 0..1e5 have a standard deviation of 1600.
        for batch in epoch(&source, &order, 0) {
            let mean = batch.iter().sum::<f64>() / batch.len() as f64;
            assert!((mean - 5e4).abs() < 8e3, "{mean}");
        }
    }

    #[test]
    fn without_shuffling_points_come_in_order() {
        let source = source(1000);
        let order = BatchOrder::minibatches::<f64>(&source, 100, 1 << 12, 1, false);
        let all = epoch(&source, &order, 0).concat();
        assert_eq!(all, (0..1000).map(|i| i as f64).collect::<Vec<_>>());
        let order = BatchOrder::fixed_chunks::<f64>(&source, 300, 1, true);
        let mut batches = epoch(&source, &order, 2);
        assert_eq!(order.n_windows(), 4);
        batches.sort_by(|a, b| a[0].total_cmp(&b[0]));
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [300, 300, 300, 100]);
        assert_eq!(batches.concat(), (0..1000).map(|i| i as f64).collect::<Vec<_>>());
    }

    #[test]
    fn bad_points_are_left_out() {
        let mut values: Vec<f64> = (0..2000).flat_map(|i| [f64::from(i), -f64::from(i)]).collect();
        (values[2 * 700 + 1], values[2 * 13]) = (f64::NAN, f64::INFINITY);
        let weights: Vec<f64> = (0..2000).map(|i| f64::from(i) + 0.5).collect();
        let source = Points::owned(values, 2).unwrap().with_weights(weights).unwrap();
        let order = BatchOrder::minibatches::<f64>(&source, 2000, 1 << 20, 1, true);
        let chunks = order.chunks(0);
        let mut window = ShuffledWindow::default();
        let is_bad = |row: &[f64]| row.iter().any(|v| !v.is_finite());
        let mut fill = |is_bad: Option<SkipsRow<'_, f64>>| {
            window
                .fill(&source, &order, &chunks, StreamPosition::default(), is_bad, &|_| true)
                .unwrap()
        };
        assert!(fill(Some(&is_bad)));
        assert_eq!((window.len(), window.skipped()), (1998, 2));
        let block = window.batch(0);
        for i in 0..block.len() {
            let x = block.points[(i, 0)];
            assert_eq!(block.weights.unwrap()[i], x + 0.5);
            assert!(x != 13.0 && x != 700.0);
        }
        assert!(
            window
                .fill(&source, &order, &chunks, StreamPosition::default(), None, &|_| true)
                .unwrap()
        );
        assert_eq!((window.len(), window.skipped()), (2000, 0));
    }

    #[test]
    fn points_know_where_they_come_from_also_where_bad_ones_were_left_out() {
        let source = source(5003);
        let is_bad = |row: &[f64]| row[0] % 7.0 == 3.0;
        for shuffle in [false, true] {
            let order = BatchOrder::minibatches::<f64>(&source, 100, 1 << 14, 5, shuffle);
            let order = order.with_positions();
            assert!(order.n_windows() > 2);
            let chunks = order.chunks(1);
            let mut window = ShuffledWindow::default();
            for is_bad in [None, Some(&is_bad as SkipsRow<'_, f64>)] {
                let mut seen = 0;
                for w in 0..order.n_windows() {
                    let place = StreamPosition { epoch: 1, window: w, batch: 0 };
                    assert!(
                        window.fill(&source, &order, &chunks, place, is_bad, &|_| true).unwrap()
                    );
                    for b in 0..window.n_batches() {
                        let (block, positions) = (window.batch(b), window.positions(b));
                        assert_eq!(block.len(), positions.len());
                        for (i, &position) in positions.iter().enumerate() {
                            assert_eq!(window.row(position) as f64, block.points[(i, 0)]);
                        }
                        seen += block.len();
                    }
                }
                assert_eq!(seen, if is_bad.is_some() { 5003 - 715 } else { 5003 });
            }
        }
    }
}
