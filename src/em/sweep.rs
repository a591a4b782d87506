//! Sweeps: E-steps over all points of a source, merged into the statistics of the whole.

use super::lanes::{self, LANE_MEMORY, MAX_LANES, MIN_LANES, MIN_POINTS_PER_LANE, READ_BYTES};
use crate::block::BlockBuf;
use crate::data::{self, DataSource};
use crate::error::{DataError, Result};
use crate::exec::Executor;
use crate::kernels::blocking;
use crate::model::{Constants, EStep, HalvedEStep};
use crate::point_faults::{check_points, first_fault};
use crate::scalar::Scalar;
use crate::stats::{DataConstants, StatsShape, SuffStats};

/// Points of a minibatch that make a lane worth its merge: with fewer, threads cost more to start than they save.
const MIN_POINTS_PER_BATCH_LANE: u64 = 512;

/// Bytes of responsibilities between the two halves.
const RESPONSIBILITY_BYTES: usize = 16 << 20;

/// Points at most between the two halves; with fewer components than that is worth, the cache decides.
const MAX_HALVED_POINTS: u64 = 16_384;

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

/// The lanes of sweeps: shares of the points, each with statistics and scratch memory of its own, which are kept between sweeps.
#[derive(Debug)]
pub struct Lanes<T, W> {
    lanes: Vec<Lane<T, W>>,
    lane_memory: usize,
    min_points: u64,
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

#[derive(Debug)]
struct Lane<T, W> {
    buffer: BlockBuf<T>,
    workspace: Option<W>,
    stats: Option<SuffStats>,
}

impl<'a, T: Scalar, W: Send> Sweeper<'a, T, W> {
    /// Prepares sweeps over `source` on the threads of `executor`.
    pub fn new(source: &'a dyn DataSource<T>, executor: &'a Executor) -> Self {
        Self { source, executor, lanes: Lanes::for_all_points(), constants: None }
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

impl<T: Scalar, W: Send> Lanes<T, W> {
    fn new(min_points: u64) -> Self {
        Self { lanes: Vec::new(), lane_memory: LANE_MEMORY, min_points, paths: [0; 2] }
    }

    /// Makes lanes for sweeps over all points.
    pub(super) fn for_all_points() -> Self {
        Self::new(MIN_POINTS_PER_LANE)
    }

    /// Makes lanes for sweeps over minibatches, each of other points.
    pub fn for_minibatches() -> Self {
        Self::new(MIN_POINTS_PER_BATCH_LANE)
    }

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
            let packed = model.pack(simd, n_points, Constants::Known);
            model.can_reuse(&packed, known).then_some(packed)
        });
        let packed = known.unwrap_or_else(|| {
            *constants = None;
            model.pack(simd, n_points, Constants::Sum)
        });
        for (sum, count) in self.paths.iter_mut().zip(model.paths(&packed)) {
            *sum += count as u64;
        }
        let (empty, first_sweep) = (model.new_stats(&packed), constants.is_none());
        let pass = Pass { executor, source, model, packed: &packed, first_sweep };
        let fits = 8 * empty.as_slice().len() * MIN_LANES <= self.lane_memory;
        let mut total = match model.halves() {
            Some(halves) if !fits => self.sweep_halves(&pass, halves, empty)?,
            _ => self.sweep_lanes(&pass, empty)?,
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
        empty: SuffStats,
    ) -> Result<SuffStats> {
        let &Pass { executor, source, model, packed, first_sweep } = pass;
        let n = source.len();
        let numbers = empty.as_slice().len();
        let sparse = model.takes_sparse();
        let n_lanes = lanes::count(n, self.min_points, 8 * numbers, self.lane_memory);
        self.prepare_lanes(n_lanes as usize);
        let per_lane = n.div_ceil(n_lanes);
        let per_read = points_of_block(source);
        executor.for_each(&mut self.lanes, |index, lane| {
            let mut workspace = model.workspace(packed, lane.workspace.take());
            let mut stats = match lane.stats.take() {
                Some(old) => old.reused_for(&empty),
                None => empty.clone(),
            };
            let end = n.min((index as u64 + 1) * per_lane);
            let mut start = n.min(index as u64 * per_lane);
            while start < end {
                let count = per_read.min(end - start) as usize;
                let block = data::read(source, sparse, start, count, &mut lane.buffer)?;
                if first_sweep {
                    check_points(model, source, block)?;
                }
                model.e_step(packed, block, &mut stats, &mut workspace);
                if !stats.log_evidence().is_finite() {
                    return Err(first_fault(source, &model.domains(), block).into());
                }
                start += count as u64;
            }
            model.flush(packed, &mut stats, &mut workspace);
            lane.stats = Some(stats);
            lane.workspace = Some(workspace);
            Ok(())
        })?;
        let mut total = empty;
        let of_lanes = self.lanes.iter().map(|lane| lane.stats.as_ref().expect("every lane ran"));
        total.add_all(&of_lanes.collect::<Vec<_>>(), executor);
        Ok(total)
    }

    /// Sweeps in two halves, by ten thousand points: first posteriors, in parallel over points, then sums, in parallel over
    /// components. The sums exist once, and every number is added up in the same order on any number of threads.
    fn sweep_halves<M: EStep<T, Workspace = W>>(
        &mut self,
        pass: &Pass<'_, T, M>,
        halves: &dyn HalvedEStep<T, M::Packed, W>,
        empty: SuffStats,
    ) -> Result<SuffStats> {
        let &Pass { executor, source, model, packed, first_sweep } = pass;
        let n = source.len();
        let sparse = model.takes_sparse();
        let shape = empty.shape();
        let per_part = (RESPONSIBILITY_BYTES / (size_of::<T>() * shape.components)) as u64;
        let per_part = per_part.clamp(MIN_POINTS_PER_LANE, MAX_HALVED_POINTS);
        let per_lane = blocking::points_per_read(per_part.div_ceil(MAX_LANES) as usize) as u64;
        self.prepare_lanes(per_part.div_ceil(per_lane) as usize);
        // After an error lanes may hold statistics of half a sweep.
        self.lanes.iter_mut().for_each(|lane| lane.stats = None);
        let without_sums = StatsShape { statistics: 0, centre: 0, ..shape };
        let mut responsibilities: Vec<Vec<T>> = vec![Vec::new(); self.lanes.len()];
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
        let mut part = 0;
        while part < n {
            let end = n.min(part + per_part);
            let range = |index: usize| {
                let start = end.min(part + index as u64 * per_lane);
                (start, (end.min(start + per_lane) - start) as usize)
            };
            let mut lanes: Vec<_> = self.lanes.iter_mut().zip(&mut responsibilities).collect();
            executor.for_each(&mut lanes, |index, (lane, responsibilities)| {
                let (start, count) = range(index);
                let stats =
                    lane.stats.get_or_insert_with(|| SuffStats::zeros(without_sums, Vec::new()));
                let mut workspace = model.workspace(packed, lane.workspace.take());
                responsibilities.resize(count * shape.components, T::ZERO);
                if count > 0 {
                    let block = data::read(source, sparse, start, count, &mut lane.buffer)?;
                    if first_sweep {
                        check_points(model, source, block)?;
                    }
                    halves.posteriors(packed, block, stats, &mut workspace, responsibilities);
                    if !stats.log_evidence().is_finite() {
                        return Err(first_fault(source, &model.domains(), block).into());
                    }
                }
                lane.workspace = Some(workspace);
                Ok(())
            })?;
            let responsibilities = &responsibilities;
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
        let mut total = empty;
        for lane in &mut self.lanes {
            let stats = lane.stats.take().expect("every lane ran");
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
        Ok(total)
    }

    fn prepare_lanes(&mut self, n_lanes: usize) {
        self.lanes.resize_with(n_lanes, || Lane {
            buffer: BlockBuf::default(),
            workspace: None,
            stats: None,
        });
    }
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
