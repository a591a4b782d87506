//! Lanes: shares of the points. One pass over a source in lanes, for sums that are no E-step of a mixture.

use crate::block::{Block, BlockBuf};
use crate::data::{self, DataSource};
use crate::error::{DataError, Error, Result};
use crate::exec::Executor;
use crate::pairwise::Sums;
use crate::scalar::Scalar;
use std::ops::{Range, RangeInclusive};

/// Multiplications that make a lane worth its merge: some tenths of a millisecond.
const WORK_PER_LANE: u64 = 1 << 20;

/// Lanes that suffice for many threads: of more points, each has a longer share, and merges cost less.
const ENOUGH_LANES: u64 = 256;

/// Points of a lane. With fewer, its merge costs more than a few percent, whatever is done with them; with more, few lanes are left for
/// many threads.
const POINTS_PER_LANE: RangeInclusive<u64> = 512..=8192;

/// Points by which lanes are cut, so that tiles come out even.
const CUT: u64 = 64;

/// Memory for sums that threads and ranks have not added up yet, in bytes.
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

/// Points in lanes. How they are cut depends on their number and the model alone, never on threads or ranks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    n_points: u64,
    per_lane: u64,
}

impl Cut {
    /// Cuts `n` points, with so many multiplications for each.
    pub fn new(n_points: u64, work_per_point: usize) -> Self {
        let (least, most) = (*POINTS_PER_LANE.start(), *POINTS_PER_LANE.end());
        let points = WORK_PER_LANE / (work_per_point as u64).max(1);
        let points = points.max(n_points / ENOUGH_LANES).clamp(least, most);
        let n_lanes = n_points.div_ceil(points).max(1);
        // Powers of two share out evenly on the usual numbers of threads.
        let even = n_lanes.next_power_of_two();
        let n_lanes = if n_points / even < least { n_lanes } else { even };
        Self { n_points, per_lane: n_points.div_ceil(n_lanes).next_multiple_of(CUT).max(1) }
    }

    /// Cuts `n` points into pieces of so many.
    pub fn by(n_points: u64, per_lane: u64) -> Self {
        Self { n_points, per_lane: per_lane.max(1) }
    }

    /// Returns the number of lanes.
    pub fn n_lanes(self) -> u64 {
        self.n_points.div_ceil(self.per_lane)
    }

    /// Returns the rows of a lane.
    pub fn rows(self, lane: u64) -> Range<u64> {
        let end = |lane: u64| lane.saturating_mul(self.per_lane).min(self.n_points);
        end(lane)..end(lane + 1)
    }
}

/// Whether every lane may have so many bytes of sums of its own.
pub(super) fn fits_lanes(lane_bytes: usize) -> bool {
    lane_bytes.saturating_mul(MIN_LANES) <= LANE_MEMORY
}

/// Goes through all points in lanes, and adds up the sums of lanes in pairs.
///
/// `visit` gets scratch memory, which a thread keeps from lane to lane. `finish` follows after the last block of a lane: it brings what
/// scratch memory holds of sums to those of the lane.
pub(super) fn pass<T: Scalar, L: Send, S: Sums>(
    source: &dyn DataSource<T>,
    executor: &Executor,
    work_per_point: usize,
    empty: &S,
    new: impl Fn() -> L + Sync,
    visit: impl Fn(&mut L, &mut S, Block<'_, T>) -> Result<()> + Sync,
    finish: impl Fn(&mut L, &mut S) + Sync,
) -> Result<S> {
    let cut = Cut::new(source.len(), work_per_point);
    let per_read = points_per_read(source);
    let new = || (new(), BlockBuf::default());
    executor.sum(cut.n_lanes(), empty, &mut Vec::new(), new, |(scratch, buffer), sums, lane| {
        let rows = cut.rows(lane);
        for start in rows.clone().step_by(per_read as usize) {
            let count = per_read.min(rows.end - start) as usize;
            visit(scratch, sums, data::read(source, false, start, count, buffer)?)?;
        }
        finish(scratch, sums);
        Ok(())
    })
}

/// Returns the points that a pass reads at a time.
fn points_per_read<T: Scalar>(source: &dyn DataSource<T>) -> u64 {
    let point = size_of::<T>() * source.dim();
    let at_most = (MAX_READ_BYTES / point).max(MIN_READ_POINTS);
    (READ_BYTES / point).next_multiple_of(256).clamp(1, at_most) as u64
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
