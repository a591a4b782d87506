//! One pass over a source: E-steps of all blocks, merged into the statistics of the whole.

use crate::block::{Block, BlockBuf};
use crate::data::DataSource;
use crate::error::{DataError, Error, Result};
use crate::exec::Executor;
use crate::model::{Constants, EStep};
use crate::scalar::Scalar;
use crate::stats::SuffStats;

/// Lanes at most. A multiple of the thread counts in use, and enough to even out their speeds.
const MAX_LANES: u64 = 32;

/// Points that make a lane worth its merge.
const MIN_POINTS_PER_LANE: u64 = 2048;

/// Memory for the sums of all lanes together, in bytes; fewer lanes where a model's are large.
const LANE_MEMORY: usize = 64 << 20;

/// Bytes read from a source at a time: a system call costs nothing beside it, and it stays in the level-2 cache.
const READ_BYTES: usize = 1 << 19;

/// Runs sweeps over one source and keeps their scratch memory.
#[derive(Debug)]
pub struct Sweeper<'a, T, S: ?Sized, W> {
    source: &'a S,
    executor: &'a Executor,
    lanes: Vec<Lane<T, W>>,
    /// Statistics of the last sweep that summed the constants.
    constants: Option<SuffStats>,
}

#[derive(Debug)]
struct Lane<T, W> {
    buffer: BlockBuf<T>,
    workspace: Option<W>,
    stats: Option<SuffStats>,
}

impl<'a, T: Scalar, S: DataSource<T> + ?Sized, W: Send> Sweeper<'a, T, S, W> {
    /// Sweeps over `source` on the threads of `executor`.
    pub fn new(source: &'a S, executor: &'a Executor) -> Self {
        Self { source, executor, lanes: Vec::new(), constants: None }
    }

    /// The statistics of all points under the exact or hard posteriors of `model`.
    ///
    /// # Errors
    /// If reading fails, or a point has no finite log-evidence: then the first such point is named.
    pub fn sweep<M: EStep<T, Workspace = W>>(&mut self, model: &M) -> Result<SuffStats> {
        let known = if self.constants.is_some() { Constants::Known } else { Constants::Sum };
        let packed = model.pack(self.executor.simd(), self.source.len(), known);
        let empty = model.new_stats(&packed);
        let (n, dim) = (self.source.len(), self.source.dim());
        let by_memory = (LANE_MEMORY / (8 * empty.as_slice().len())) as u64;
        let n_lanes = (n / MIN_POINTS_PER_LANE).min(by_memory).clamp(1, MAX_LANES);
        self.lanes.resize_with(n_lanes as usize, || Lane {
            buffer: BlockBuf::default(),
            workspace: None,
            stats: None,
        });
        let per_lane = n.div_ceil(n_lanes);
        let per_read = (READ_BYTES / (size_of::<T>() * dim)).next_multiple_of(1024) as u64;
        let source = self.source;
        self.executor.for_each(&mut self.lanes, |index, lane| {
            let mut workspace = model.workspace(&packed, lane.workspace.take());
            let mut stats = empty.clone();
            let end = n.min((index as u64 + 1) * per_lane);
            let mut start = n.min(index as u64 * per_lane);
            while start < end {
                let count = per_read.min(end - start) as usize;
                let block = source.read(start, count, &mut lane.buffer)?;
                model.e_step(&packed, block, &mut stats, &mut workspace);
                if !stats.log_evidence().is_finite() {
                    return Err(first_fault(source, block).into());
                }
                start += count as u64;
            }
            model.flush(&packed, &mut stats, &mut workspace);
            lane.stats = Some(stats);
            lane.workspace = Some(workspace);
            Ok(())
        })?;
        let mut total = empty;
        for lane in &mut self.lanes {
            total.add(&lane.stats.take().expect("every lane ran"));
        }
        model.complete(&packed, &mut total, self.constants.as_ref());
        if !(total.total_weight() > 0.0) {
            return Err(Error::Data(DataError::new(
                self.source.name(),
                "the weights of all points are zero",
            )));
        }
        if self.constants.is_none() && model.constants_are_reusable(&packed) {
            self.constants = Some(total.clone());
        }
        Ok(total)
    }
}

/// Finds the point that made the log-evidence of a block no finite number.
pub(crate) fn first_fault<T: Scalar, S: DataSource<T> + ?Sized>(
    source: &S,
    block: Block<'_, T>,
) -> DataError {
    for i in 0..block.len() {
        for d in 0..block.dim() {
            let value = block.points[(i, d)];
            if !value.is_finite() {
                return DataError::new(
                    source.name(),
                    format!("the value is {value}, expected a finite number"),
                )
                .at(block.first + i as u64, Some(d));
            }
        }
    }
    DataError::new(
        source.name(),
        format!(
            "the log-evidence of a point among the {} from this row on overflows {}; values are too large",
            block.len(),
            T::NAME
        ),
    )
    .at(block.first, None)
}
