//! Where points come from: one file per kind of source.
//!
//! | source | file | reads |
//! |---|---|---|
//! | [`Points`](memory::Points) | `memory.rs` | slices, vectors and faer views, without a copy |
//! | [`NpyFile`](npy::NpyFile) | `npy.rs` | NumPy `.npy`, by positioned reads |
//! | [`RawFile`](raw::RawFile) | `raw.rs` | headerless little-endian values, by positioned reads |
//! | [`text`](text) | `text.rs` | CSV, TSV and white-space separated text, into memory |
//!
//! [`open`] chooses by a file's name and content. A source hands out [`Block`]s; it never sees a model.

use crate::block::{Block, BlockBuf};
use crate::error::Result;
use crate::scalar::Scalar;

/// A finite sequence of weighted points that can be read in any order, from several threads.
///
/// # Errors
/// `read` fails with a [`DataError`](crate::error::DataError) that names the source and the row. It must
/// return exactly the points asked for, and the same ones each time.
pub trait DataSource<T: Scalar>: Sync {
    /// What to call this source in messages: a path, or `"memory"`.
    fn name(&self) -> String;

    /// Dimension D of the points.
    fn dim(&self) -> usize;

    /// Number of points N.
    fn len(&self) -> u64;

    /// Whether there are no points.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `count` points from `start` on, borrowed from the source or from `buffer`.
    ///
    /// # Panics
    /// May panic if `start + count > len()`.
    fn read<'a>(&'a self, start: u64, count: usize, buffer: &'a mut BlockBuf<T>) -> Result<Block<'a, T>>;
}
