//! The order of batches: which chunks a window has, which batches follow, and where a stream stands.

use crate::data::DataSource;
use crate::rng::{self, Rng};
use crate::scalar::Scalar;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Bytes of a chunk at most. Larger reads are no faster on solid-state disks, and the shuffled points of a chunk of this
/// size stay in the level-2 cache.
const CHUNK_BYTES: u64 = 256 << 10;

/// Chunks of a source at least, where there are as many points: windows are then good mixtures of small files too.
const MIN_CHUNKS: u64 = 4096;

/// Sets the order and the pieces in which a source is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOrder {
    pub(super) len: u64,
    pub(super) chunk: u64,
    pub(super) chunks_per_window: u64,
    pub(super) batch: u64,
    pub(super) seed: u64,
    /// Whether chunks come in random order, and whether the points of windows do.
    pub(super) shuffle: bool,
    pub(super) mix: bool,
    /// Whether windows tell where their points stand in the source.
    pub(super) positions: bool,
}

/// Marks a place in a stream of batches, before one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamPosition {
    /// Passes over the source that are done.
    pub epoch: u64,
    /// Windows of this pass that are done.
    pub window: u64,
    /// Batches of this window that are done.
    pub batch: u64,
}

impl StreamPosition {
    /// Moves to a window and returns the batch to begin with: the first, unless this place is in the window already, as after
    /// a checkpoint.
    pub fn enter(&mut self, window: StreamPosition) -> u64 {
        if window != (StreamPosition { batch: 0, ..*self }) {
            *self = window;
        }
        self.batch
    }
}

impl BatchOrder {
    /// Makes minibatches of about `batch` points, shuffled from windows of at most `window_bytes`, or in the order of the source.
    ///
    /// A window is a batch at least.
    pub fn minibatches<T: Scalar>(
        source: &(impl DataSource<T> + ?Sized),
        batch: u64,
        window_bytes: u64,
        seed: u64,
        shuffle: bool,
    ) -> Self {
        // Eight bytes more, should there be weights.
        let (len, row) = (source.len().max(1), (source.dim() * size_of::<T>()) as u64 + 8);
        let per_window = (window_bytes / row).max(batch).clamp(1, len);
        let chunk = (CHUNK_BYTES / row).clamp(1, len.div_ceil(MIN_CHUNKS).min(per_window));
        let n_chunks = len.div_ceil(chunk);
        // Windows of about the same size.
        let n_windows = n_chunks.div_ceil(per_window / chunk);
        Self {
            len: source.len(),
            chunk,
            chunks_per_window: n_chunks.div_ceil(n_windows),
            batch,
            seed,
            shuffle,
            mix: shuffle,
            positions: false,
        }
    }

    /// Lets windows record the positions of their points (`ShuffledWindow::positions`), at four bytes a point.
    pub fn with_positions(self) -> Self {
        Self { positions: true, ..self }
    }

    /// Makes the same chunks of `batch` consecutive points in every epoch, one a window, in random order.
    pub fn fixed_chunks<T: Scalar>(
        source: &(impl DataSource<T> + ?Sized),
        batch: u64,
        seed: u64,
        shuffle: bool,
    ) -> Self {
        let (len, chunk) = (source.len(), batch);
        Self {
            len,
            chunk,
            chunks_per_window: 1,
            batch: u64::MAX,
            seed,
            shuffle,
            mix: false,
            positions: false,
        }
    }

    /// Returns the approximate number of points of a batch.
    pub fn batch_points(&self) -> f64 {
        self.batch.min(self.window_points()).max(1) as f64
    }

    /// Returns the number of chunks.
    pub fn n_chunks(&self) -> u64 {
        self.len.div_ceil(self.chunk)
    }

    /// Returns the largest number of chunks of a window.
    pub fn chunks_per_window(&self) -> u64 {
        self.chunks_per_window
    }

    /// Returns the number of windows of an epoch.
    pub fn n_windows(&self) -> u64 {
        self.n_chunks().div_ceil(self.chunks_per_window)
    }

    /// Returns the place after a batch of a window of `n_batches`.
    pub fn after(&self, batch: StreamPosition, n_batches: u64) -> StreamPosition {
        if batch.batch + 1 < n_batches {
            StreamPosition { batch: batch.batch + 1, ..batch }
        } else if batch.window + 1 < self.n_windows() {
            StreamPosition { window: batch.window + 1, batch: 0, ..batch }
        } else {
            StreamPosition { epoch: batch.epoch + 1, window: 0, batch: 0 }
        }
    }

    /// Returns the number of batches of an epoch, if no points are skipped.
    pub fn n_batches(&self) -> u64 {
        let chunks = self.n_chunks();
        let (full, rest) = (chunks / self.chunks_per_window, chunks % self.chunks_per_window);
        let rows = self.chunks_per_window * self.chunk;
        // Where the short chunk comes moves a batch at most.
        full * self.batches_of(rows.min(self.len))
            + if rest > 0 { self.batches_of((rest * self.chunk).min(self.len)) } else { 0 }
    }

    fn batches_of(&self, rows: u64) -> u64 {
        (rows.saturating_add(self.batch / 2) / self.batch).max(u64::from(rows > 0))
    }

    /// Returns the number of points of the largest window.
    pub fn window_points(&self) -> u64 {
        (self.chunks_per_window * self.chunk).min(self.len)
    }

    /// Returns the order of the chunks in an epoch.
    pub fn chunks(&self, epoch: u64) -> Vec<u64> {
        let mut chunks: Vec<u64> = (0..self.n_chunks()).collect();
        if self.shuffle {
            shuffle(&mut chunks, &mut rng::stream(self.seed ^ ORDER, epoch));
        }
        chunks
    }

    /// Iterates over the chunks of a window, as ranges of points of the source; `chunks` is the order of the epoch.
    pub fn ranges<'c>(
        &self,
        chunks: &'c [u64],
        window: u64,
    ) -> impl Iterator<Item = Range<u64>> + use<'c> {
        let first = (window * self.chunks_per_window).min(chunks.len() as u64) as usize;
        let end = (first + self.chunks_per_window as usize).min(chunks.len());
        let Self { chunk, len, .. } = *self;
        chunks[first..end].iter().map(move |c| c * chunk..((c + 1) * chunk).min(len))
    }
}

/// Keeps the random numbers of orders apart from those of starts.
const ORDER: u64 = 0x6f72_6465_7220_6f66;

/// Puts values into a random order.
pub(super) fn shuffle<V>(values: &mut [V], rng: &mut Rng) {
    for i in (1..values.len()).rev() {
        values.swap(i, rng::below(rng, i as u64 + 1) as usize);
    }
}
