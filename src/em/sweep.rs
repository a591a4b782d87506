//! Sweeps: E-steps over all points of a source, merged into the statistics of the whole.

use super::lanes::{Cut, LANE_MEMORY, MIN_LANES, READ_BYTES};
use crate::block::BlockBuf;
use crate::data::{self, DataSource};
use crate::error::{DataError, Result};
use crate::exec::Executor;
use crate::kernels::blocking;
use crate::model::{Constants, EStep, HalvedEStep};
use crate::pairwise::{Sums, read_numbers, write_numbers};
use crate::point_faults::{check_points, first_fault};
use crate::scalar::Scalar;
use crate::stats::{DataConstants, StatsShape, SuffStats};
use std::ops::{Range, RangeInclusive};

/// Bytes of responsibilities between the two halves.
const RESPONSIBILITY_BYTES: usize = 16 << 20;

/// Points between the two halves; with fewer components than that is worth, the cache decides.
const HALVED_POINTS: RangeInclusive<u64> = 2048..=16_384;

/// Lanes of the first half.
const HALVED_LANES: u64 = 32;

/// Sums in memory at a time at most, in bytes, where sums are so large: of a power of two of lanes, about its logarithm.
const HALVED_MEMORY: usize = 1 << 30;

/// Points of a lane whose sums are large: a pass over the sums must cost little beside them.
const MIN_HALVED_POINTS: u64 = 65_536;

/// Parts of the sums in the second half, where there are as many components: the most threads that it keeps busy. Each
/// part reads the points again.
const SLICES: usize = 32;

/// Runs sweeps over one source and keeps their scratch memory.
#[derive(Debug)]
pub struct Sweeper<'a, T: Scalar, W> {
    source: &'a dyn DataSource<T>,
    executor: &'a Executor,
    lanes: Lanes<T, W>,
    /// Constants that an earlier sweep has summed.
    constants: Option<DataConstants>,
}

/// The lanes of sweeps: shares of the points. Scratch memory is kept between sweeps.
#[derive(Debug)]
pub struct Lanes<T, W> {
    scratch: Vec<Scratch<T, W>>,
    lane_memory: usize,
    /// Components that took whitened differences, and all that had the choice, over all sweeps.
    pub(super) paths: [u64; 2],
}

/// The arguments of a sweep, common to all lanes.
struct Pass<'p, T: Scalar, M: EStep<T>> {
    executor: &'p Executor,
    source: &'p dyn DataSource<T>,
    model: &'p M,
    packed: &'p M::Packed,
    /// Whether constants are summed, and points held against the support.
    first_sweep: bool,
}

/// Scratch memory of a thread.
#[derive(Debug)]
struct Scratch<T, W> {
    buffer: BlockBuf<T>,
    workspace: Option<W>,
}

impl<T: Scalar, W> Scratch<T, W> {
    fn new() -> Self {
        Self { buffer: BlockBuf::default(), workspace: None }
    }
}

impl Sums for SuffStats {
    fn add(&mut self, next: &Self) {
        SuffStats::add(self, next);
    }

    fn restart(&mut self, empty: &Self) {
        self.restart_as(empty);
    }

    fn write(&self, message: &mut Vec<u8>) {
        write_numbers(message, self.as_slice());
    }

    fn read(&mut self, message: &[u8]) -> bool {
        read_numbers(message, self.as_mut_slice())
    }
}

impl<'a, T: Scalar, W: Send> Sweeper<'a, T, W> {
    /// Prepares sweeps over `source` on the threads of `executor`.
    pub fn new(source: &'a dyn DataSource<T>, executor: &'a Executor) -> Self {
        Self { source, executor, lanes: Lanes::default(), constants: None }
    }

    /// Sets another bound, in bytes, for the sums of all lanes together. Larger sums are swept in two halves, if the model offers it.
    pub fn with_lane_memory(mut self, bytes: usize) -> Self {
        self.lanes.lane_memory = bytes;
        self
    }

    /// Returns the statistics of all points under the exact or hard posteriors of `model`.
    ///
    /// # Errors
    /// If reading fails, or a point has no finite log-evidence: then the first such point is named.
    pub fn sweep<M: EStep<T, Workspace = W>>(&mut self, model: &M) -> Result<SuffStats> {
        self.lanes.sweep_keeping(self.executor, self.source, model, &mut self.constants)
    }
}

impl<T, W> Default for Lanes<T, W> {
    fn default() -> Self {
        Self { scratch: Vec::new(), lane_memory: LANE_MEMORY, paths: [0; 2] }
    }
}

impl<T: Scalar, W: Send> Lanes<T, W> {
    /// Returns the statistics of all points of a minibatch.
    ///
    /// # Errors
    /// As [`Sweeper::sweep`].
    pub fn sweep<M: EStep<T, Workspace = W>>(
        &mut self,
        executor: &Executor,
        batch: &dyn DataSource<T>,
        model: &M,
    ) -> Result<SuffStats> {
        self.sweep_keeping(executor, batch, model, &mut None)
    }

    /// The same over all points, with what earlier sweeps over them have summed once for all.
    pub(super) fn sweep_keeping<M: EStep<T, Workspace = W>>(
        &mut self,
        executor: &Executor,
        source: &dyn DataSource<T>,
        model: &M,
        constants: &mut Option<DataConstants>,
    ) -> Result<SuffStats> {
        let total = self.sums(executor, source, source.len(), model, constants)?;
        check_sums(source, &total).inspect_err(|_| *constants = None)?;
        Ok(total)
    }

    /// Returns the statistics of a part of `n_points`, which may have no points. Statistics of all parts add up.
    ///
    /// # Errors
    /// As [`Sweeper::sweep`].
    pub(super) fn sweep_part<M: EStep<T, Workspace = W>>(
        &mut self,
        executor: &Executor,
        part: &dyn DataSource<T>,
        n_points: u64,
        model: &M,
    ) -> Result<SuffStats> {
        let total = self.sums(executor, part, n_points, model, &mut None)?;
        check_finite(part, &total)?;
        Ok(total)
    }

    /// Sums over the points of a source. How they are summed depends on the number of all points, of which these may be a part.
    fn sums<M: EStep<T, Workspace = W>>(
        &mut self,
        executor: &Executor,
        source: &dyn DataSource<T>,
        n_points: u64,
        model: &M,
        constants: &mut Option<DataConstants>,
    ) -> Result<SuffStats> {
        model.check_e_step()?;
        let simd = executor.simd();
        let known = constants.as_ref().and_then(|known| {
            let packed = model.pack(simd, n_points, Constants::Known, executor);
            model.can_reuse(&packed, known).then_some(packed)
        });
        let packed = known.unwrap_or_else(|| {
            *constants = None;
            model.pack(simd, n_points, Constants::Sum, executor)
        });
        for (sum, count) in self.paths.iter_mut().zip(model.paths(&packed)) {
            *sum += count as u64;
        }
        let (empty, first_sweep) = (model.new_stats(&packed), constants.is_none());
        let pass = Pass { executor, source, model, packed: &packed, first_sweep };
        let fits = 8 * empty.as_slice().len() * MIN_LANES <= self.lane_memory;
        let mut total = match model.halves() {
            Some(halves) if !fits => self.sweep_halves(&pass, halves, &empty)?,
            _ => self.sweep_lanes(&pass, &empty)?,
        };
        model.complete(&packed, &mut total, constants.as_ref());
        if constants.is_none() {
            *constants = model.constants(&packed, &total);
        }
        Ok(total)
    }

    /// Sweeps in lanes: each goes through its share of the points with statistics of its own.
    fn sweep_lanes<M: EStep<T, Workspace = W>>(
        &mut self,
        pass: &Pass<'_, T, M>,
        empty: &SuffStats,
    ) -> Result<SuffStats> {
        let &Pass { executor, source, model, packed, first_sweep } = pass;
        let sparse = model.takes_sparse();
        let cut = Cut::new(source.len(), work_per_point(empty.shape(), source.dim()));
        let per_read = points_of_block(source);
        let scratch = &mut self.scratch;
        executor.sum(cut.n_lanes(), empty, scratch, Scratch::new, |scratch, stats, lane| {
            let mut workspace = model.workspace(packed, scratch.workspace.take());
            let rows = cut.rows(lane);
            for start in rows.clone().step_by(per_read as usize) {
                let count = per_read.min(rows.end - start) as usize;
                let block = data::read(source, sparse, start, count, &mut scratch.buffer)?;
                if first_sweep {
                    check_points(model, source, block)?;
                }
                model.e_step(packed, block, stats, &mut workspace);
                if !stats.log_evidence().is_finite() {
                    return Err(first_fault(source, &model.domains(), block).into());
                }
            }
            model.flush(packed, stats, &mut workspace);
            scratch.workspace = Some(workspace);
            Ok(())
        })
    }

    /// Sweeps points whose sums are too large for a copy in every thread: in a few lanes, one after the other on all threads.
    fn sweep_halves<M: EStep<T, Workspace = W>>(
        &mut self,
        pass: &Pass<'_, T, M>,
        halves: &dyn HalvedEStep<T, M::Packed, W>,
        empty: &SuffStats,
    ) -> Result<SuffStats> {
        let n = pass.source.len();
        let copies = (HALVED_MEMORY / (8 * empty.as_slice().len())).clamp(1, 16);
        let per_lane = n.div_ceil(1 << (copies - 1)).max(MIN_HALVED_POINTS);
        let cut = Cut::by(n, per_lane);
        pass.executor.sum_in_turn(cut.n_lanes(), empty, |total, lane| {
            self.sweep_half_by_half(pass, halves, cut.rows(lane), total)
        })
    }

    /// Sweeps some points in two halves, by ten thousand: first posteriors, in parallel over points, then sums, in parallel over
    /// components. The sums exist once, and every number is added up in the same order on any number of threads.
    fn sweep_half_by_half<M: EStep<T, Workspace = W>>(
        &mut self,
        pass: &Pass<'_, T, M>,
        halves: &dyn HalvedEStep<T, M::Packed, W>,
        rows: Range<u64>,
        total: &mut SuffStats,
    ) -> Result<()> {
        let &Pass { executor, source, model, packed, first_sweep } = pass;
        let sparse = model.takes_sparse();
        let shape = total.shape();
        let per_part = (RESPONSIBILITY_BYTES / (size_of::<T>() * shape.components)) as u64;
        let per_part = per_part.clamp(*HALVED_POINTS.start(), *HALVED_POINTS.end());
        let per_lane = blocking::points_per_read(per_part.div_ceil(HALVED_LANES) as usize) as u64;
        let without_sums = StatsShape { statistics: 0, centre: 0, ..shape };
        let n_lanes = per_part.div_ceil(per_lane) as usize;
        self.scratch.resize_with(n_lanes, Scratch::new);
        let mut lanes: Vec<_> = self
            .scratch
            .iter_mut()
            .map(|scratch| (scratch, SuffStats::zeros(without_sums, Vec::new()), Vec::new()))
            .collect();
        let per_slice = shape.components.div_ceil(SLICES);
        let mut slices: Vec<_> = (0..shape.components)
            .step_by(per_slice)
            .map(|first| {
                let slice = halves.slice(packed, first..(first + per_slice).min(shape.components));
                let stats = model.new_stats(&slice);
                let workspace = model.workspace(&slice, None);
                (first, slice, stats, workspace, BlockBuf::default())
            })
            .collect();
        let mut part = rows.start;
        while part < rows.end {
            let end = rows.end.min(part + per_part);
            let range = |index: usize| {
                let start = end.min(part + index as u64 * per_lane);
                (start, (end.min(start + per_lane) - start) as usize)
            };
            executor.for_each(&mut lanes, |index, (scratch, stats, responsibilities)| {
                let (start, count) = range(index);
                let mut workspace = model.workspace(packed, scratch.workspace.take());
                responsibilities.resize(count * shape.components, T::ZERO);
                if count > 0 {
                    let block = data::read(source, sparse, start, count, &mut scratch.buffer)?;
                    if first_sweep {
                        check_points(model, source, block)?;
                    }
                    halves.posteriors(packed, block, stats, &mut workspace, responsibilities);
                    if !stats.log_evidence().is_finite() {
                        return Err(first_fault(source, &model.domains(), block).into());
                    }
                }
                scratch.workspace = Some(workspace);
                Ok(())
            })?;
            let responsibilities: Vec<&[T]> = lanes.iter().map(|(_, _, them)| &them[..]).collect();
            executor.for_each(&mut slices, |_, (first, slice, stats, workspace, buffer)| {
                let n_columns = stats.shape().components;
                for (index, responsibilities) in responsibilities.iter().enumerate() {
                    let (start, count) = range(index);
                    if count > 0 {
                        let block = data::read(source, sparse, start, count, buffer)?;
                        let columns = &responsibilities[*first * count..][..n_columns * count];
                        halves.accumulate(slice, block, columns, stats, workspace);
                    }
                }
                Ok(())
            })?;
            part = end;
        }
        for (_, stats, _) in &lanes {
            *total.total_weight_mut() += stats.total_weight();
            *total.n_points_mut() += stats.n_points();
            *total.posterior_entropy_mut() += stats.posterior_entropy();
            *total.log_evidence_mut() += stats.log_evidence();
            *total.log_base_measure_mut() += stats.log_base_measure();
            total.mass_mut().iter_mut().zip(stats.mass()).for_each(|(sum, mass)| *sum += mass);
            total
                .shared_mut()
                .iter_mut()
                .zip(stats.shared())
                .for_each(|(sum, shared)| *sum += shared);
        }
        for (first, slice, mut stats, mut workspace, _) in slices {
            model.flush(&slice, &mut stats, &mut workspace);
            for k in 0..stats.shape().components {
                let sums = total.sums_mut(halves.component(packed, first + k));
                sums.iter_mut().zip(stats.sums(k)).for_each(|(total, sum)| *total += sum);
            }
            let shared = total.shared_mut().iter_mut().zip(stats.shared());
            shared.for_each(|(total, sum)| *total += sum);
        }
        Ok(())
    }
}

/// Returns about how many multiplications an E-step takes for a point: logits and sums, an exponential for each component, reading.
fn work_per_point(shape: StatsShape, dim: usize) -> usize {
    shape.components * (shape.statistics + 16) + 8 * dim
}

/// Refuses sums that overflow, and those of points without weight.
pub(super) fn check_sums<T: Scalar>(source: &dyn DataSource<T>, sums: &SuffStats) -> Result<()> {
    check_finite(source, sums)?;
    if sums.mass().iter().sum::<f64>() > 0.0 {
        return Ok(());
    }
    let message = "the weights of all points are zero, or vanish in the working precision";
    Err(DataError::new(source.name(), message).into())
}

fn check_finite<T: Scalar>(source: &dyn DataSource<T>, sums: &SuffStats) -> Result<()> {
    if sums.is_finite() {
        return Ok(());
    }
    let message =
        format!("sums of the values overflow {}; values are too large or too small", T::NAME);
    Err(DataError::new(source.name(), message).into())
}

fn points_of_block<T: Scalar>(source: &dyn DataSource<T>) -> u64 {
    blocking::points_per_read((READ_BYTES / (size_of::<T>() * source.dim())).max(1)) as u64
}
