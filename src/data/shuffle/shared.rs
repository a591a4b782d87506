//! Windows that several processes read together, each the chunks that begin in its rows.

use super::ShuffledWindow;
use crate::error::Result;
use crate::ranks::out_of_step;
use crate::scalar::Scalar;
use std::ops::Range;

/// Bytes of points that are exchanged at a time, about.
const EXCHANGED_BYTES: usize = 16 << 20;

/// Returns what all processes say, one after the other, or the first fault of one.
pub type Gather<'a> = Box<dyn Fn(Result<Vec<u8>>) -> Result<Vec<u8>> + Sync + 'a>;

/// How processes share the reading of windows.
pub struct Sharing<'a> {
    /// Rows whose chunks this process reads.
    pub own: Range<u64>,
    /// How they tell each other.
    pub gather: Gather<'a>,
}

impl std::fmt::Debug for Sharing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sharing").field("own", &self.own).finish_non_exhaustive()
    }
}

impl Sharing<'_> {
    /// Brings the chunks of other processes into a window. All processes call it together, with the window of the same place.
    ///
    /// # Errors
    /// The fault of the first process that could not read its chunks.
    pub fn complete<T: Scalar>(
        &self,
        window: Result<ShuffledWindow<T>>,
    ) -> Result<ShuffledWindow<T>> {
        let mut window = match window {
            Ok(window) => window,
            // The others hear of it instead of the first chunks.
            Err(fault) => return Err((self.gather)(Err(fault)).err().unwrap_or_else(out_of_step)),
        };
        let mut left = 0..window.ranges.len();
        while !left.is_empty() {
            let exchanged = left.start..window.end_of_exchange(left.start);
            let mut said = Vec::new();
            exchanged
                .clone()
                .filter(|&g| window.is_own(g))
                .for_each(|g| window.write_chunk(g, &mut said));
            let told = (self.gather)(Ok(said))?;
            let mut rest = &told[..];
            while !rest.is_empty() {
                rest = window.read_chunk(rest).ok_or_else(out_of_step)?;
            }
            left.start = exchanged.end;
        }
        window.close_holes();
        Ok(window)
    }
}

impl<T: Scalar> ShuffledWindow<T> {
    fn is_own(&self, g: usize) -> bool {
        self.own.as_ref().is_none_or(|own| own.contains(&self.ranges[g].start))
    }

    /// Returns the chunk after those that are exchanged together from `first` on.
    fn end_of_exchange(&self, first: usize) -> usize {
        let points = EXCHANGED_BYTES / (self.dim * size_of::<T>()).max(1);
        let mut sum = 0;
        let ends = self.ranges[first..].iter().position(|range| {
            sum += (range.end - range.start) as usize;
            sum > points
        });
        ends.map_or(self.ranges.len(), |chunks| first + chunks.max(1))
    }

    /// Appends a chunk to a message: its number, its bad points, its values, its weights.
    fn write_chunk(&self, g: usize, message: &mut Vec<u8>) {
        let mut bad = Vec::new();
        self.each_run(g, |count, at| {
            let run = at..at + count;
            bad.extend(self.bad.iter().copied().filter(|place| run.contains(place)));
        });
        let header = [g, usize::from(self.weighted), bad.len()];
        for number in header.into_iter().chain(bad) {
            message.extend_from_slice(&(number as u64).to_le_bytes());
        }
        self.each_run(g, |count, at| {
            let values = &self.values[at * self.dim..][..count * self.dim];
            message.extend_from_slice(bytemuck::cast_slice(values));
        });
        if self.weighted {
            self.each_run(g, |count, at| {
                message.extend_from_slice(bytemuck::cast_slice(&self.weights[at..][..count]));
            });
        }
    }

    /// Takes a chunk from the beginning of a message. Returns the rest of the message; `None` if there is no chunk.
    fn read_chunk<'m>(&mut self, message: &'m [u8]) -> Option<&'m [u8]> {
        let mut rest = message;
        let mut number = || {
            let (bytes, after) = rest.split_first_chunk::<8>()?;
            rest = after;
            usize::try_from(u64::from_le_bytes(*bytes)).ok()
        };
        let (g, is_weighted, n_bad) = (number()?, number()? == 1, number()?);
        let range = self.ranges.get(g)?.clone();
        let is_own = self.is_own(g);
        for _ in 0..n_bad {
            let bad = number()?;
            if !is_own {
                self.bad.push(bad);
            }
        }
        let count = (range.end - range.start) as usize;
        let (values, rest) = rest.split_at_checked(count * self.dim * size_of::<T>())?;
        let (weights, rest) = rest.split_at_checked(if is_weighted { 8 * count } else { 0 })?;
        if is_own {
            return Some(rest);
        }
        if is_weighted && !self.weighted {
            self.weighted = true;
            let rows = self.rows;
            self.weights.resize(self.weights.len().max(rows), 1.0);
        }
        let mut runs = Vec::new();
        self.each_run(g, |count, at| runs.push((count, at)));
        let (mut values, mut weights) = (values, weights);
        for (count, at) in runs {
            let to = &mut self.values[at * self.dim..][..count * self.dim];
            let to: &mut [u8] = bytemuck::cast_slice_mut(to);
            let (run, after) = values.split_at(to.len());
            to.copy_from_slice(run);
            values = after;
            if is_weighted {
                let to: &mut [u8] = bytemuck::cast_slice_mut(&mut self.weights[at..][..count]);
                let (run, after) = weights.split_at(to.len());
                to.copy_from_slice(run);
                weights = after;
            }
        }
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::memory::Points;
    use crate::data::shuffle::{BatchOrder, StreamPosition};
    use std::sync::Mutex;

    /// Three processes that read in turn: the first two only say what they have, and the last hears all.
    #[test]
    fn windows_are_the_same_whoever_reads_their_chunks() {
        let n = 3000u64;
        let mut values: Vec<f64> = (0..2 * n).map(|k| k as f64).collect();
        values[2 * 1234] = f64::NAN;
        let weights: Vec<f64> = (0..n).map(|i| 0.5 + i as f64).collect();
        let points = Points::owned(values, 2).unwrap().with_weights(weights).unwrap();
        let order = BatchOrder::minibatches::<f64>(&points, 100, 20_000, 5, true).with_positions();
        assert!(order.n_windows() > 1);
        let chunks = order.chunks(1);
        let is_bad = |row: &[f64]| row[0].is_nan();
        let fill = |mut window: ShuffledWindow<f64>, window_number| {
            let place = StreamPosition { epoch: 1, window: window_number, batch: 0 };
            let is_bad: crate::data::shuffle::SkipsRow<'_, f64> = &is_bad;
            window.fill(&points, &order, &chunks, place, Some(is_bad), &|_| true).map(|_| window)
        };
        for number in 0..order.n_windows() {
            let alone = fill(ShuffledWindow::default(), number).unwrap();
            let said = Mutex::new(Vec::new());
            let mut found = None;
            for own in [0..900, 900..2000, 2000..n] {
                let gather = |own: Result<Vec<u8>>| {
                    let mut said = said.lock().unwrap();
                    said.extend(own.unwrap());
                    Ok(said.clone())
                };
                let sharing = Sharing { own: own.clone(), gather: Box::new(gather) };
                found = sharing.complete(fill(ShuffledWindow::of_rows(own), number)).ok();
            }
            let found = found.unwrap();
            assert_eq!((found.len(), found.skipped()), (alone.len(), alone.skipped()));
            for index in 0..alone.n_batches() {
                let (one, other) = (found.batch(index), alone.batch(index));
                assert_eq!(one.points, other.points);
                assert_eq!(one.weights, other.weights);
                assert_eq!(found.positions(index), alone.positions(index));
            }
        }
    }
}
