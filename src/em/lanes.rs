//! Lanes: shares of the points. One pass over a source in lanes, for sums that are no E-step of a mixture.

use crate::block::{Block, BlockBuf};
use crate::data::{self, DataSource};
use crate::error::{DataError, Error, Result};
use crate::exec::Executor;
use crate::scalar::Scalar;

/// Lanes at most. A multiple of the thread counts in use, and enough to even out their speeds.
pub(super) const MAX_LANES: u64 = 32;

/// Points that make a lane worth its merge, whatever is done with them.
///
/// Rejected: fewer points where each is much work. With 512 points a lane, 16 threads took half as long for 16,000 x 64 points and 16
/// full covariances, but one thread 22 % longer, and 60 % longer for 6435 x 36: each lane has scratch memory of its own, which is not
/// in the cache.
pub(super) const MIN_POINTS_PER_LANE: u64 = 2048;

/// Memory for the sums of all lanes together, in bytes; fewer lanes where a model's are large.
pub(super) const LANE_MEMORY: usize = 64 << 20;

/// Lanes that [`LANE_MEMORY`] must suffice for. Models with larger sums are swept in two halves.
pub(super) const MIN_LANES: usize = 4;

/// Bytes read from a source at a time, or 192 points where these are more: a system call costs nothing beside it, and
/// it mostly stays in the level-2 cache.
pub(super) const READ_BYTES: usize = 1 << 19;

/// Bytes of points that a lane reads at a time at most, and a few points at least.
const MAX_READ_BYTES: usize = 16 << 20;

/// Points that make up for what a product of a few rows loses.
const MIN_READ_POINTS: usize = 16;

/// Returns the number of lanes for `n` points, with `min_points` in each at least, and no more than the memory has room for.
pub(super) fn count(n: u64, min_points: u64, lane_bytes: usize, memory: usize) -> u64 {
    let by_memory = (memory / lane_bytes.max(1)) as u64;
    let count = (n / min_points).min(by_memory).clamp(1, MAX_LANES);
    // Powers of two share out evenly on the usual numbers of threads.
    1 << count.ilog2()
}

/// Whether every lane may have so many bytes of sums of its own.
pub(super) fn fits_lanes(lane_bytes: usize) -> bool {
    lane_bytes.saturating_mul(MIN_LANES) <= LANE_MEMORY
}

/// Goes through all points, each lane through its share in order, and returns what the lanes made of them, in order.
///
/// `lane_bytes` is what a lane keeps in memory: their number depends on it and on N, never on the threads.
pub(super) fn pass<T: Scalar, L: Send>(
    source: &dyn DataSource<T>,
    executor: &Executor,
    lane_bytes: usize,
    new: impl Fn() -> L,
    visit: impl Fn(&mut L, Block<'_, T>) -> Result<()> + Sync,
) -> Result<Vec<L>> {
    let n = source.len();
    let count = count(n, MIN_POINTS_PER_LANE, lane_bytes, LANE_MEMORY);
    let per_lane = n.div_ceil(count);
    let point = size_of::<T>() * source.dim();
    let at_most = (MAX_READ_BYTES / point).max(MIN_READ_POINTS);
    let per_read = (READ_BYTES / point).next_multiple_of(256).clamp(1, at_most) as u64;
    let mut lanes: Vec<_> = (0..count).map(|_| (new(), BlockBuf::default())).collect();
    executor.for_each(&mut lanes, |index, (lane, buffer)| {
        let end = n.min((index as u64 + 1) * per_lane);
        let mut start = n.min(index as u64 * per_lane);
        while start < end {
            let count = per_read.min(end - start) as usize;
            visit(lane, data::read(source, false, start, count, buffer)?)?;
            start += count as u64;
        }
        Ok(())
    })?;
    Ok(lanes.into_iter().map(|(lane, _)| lane).collect())
}

/// What to say of points that weigh nothing.
pub(super) fn no_weight<T: Scalar>(source: &dyn DataSource<T>) -> Error {
    let message = if source.is_empty() {
        "there are no points"
    } else {
        "the weights of all points are zero"
    };
    DataError::new(source.name(), message).into()
}

/// What to say of points whose squares are too large.
pub(super) fn overflow<T: Scalar>(source: &dyn DataSource<T>) -> Error {
    let message = format!("squares of the values overflow {}; values are too large", T::NAME);
    DataError::new(source.name(), message).into()
}
