//! Mean and covariance of points in one pass: all that a linear-Gaussian model needs of them.

use super::lanes::{fits_lanes, no_weight, overflow, pass};
use crate::aligned::Aligned;
use crate::block::{Block, BlockBuf};
use crate::data::{self, DataSource};
use crate::error::Result;
use crate::exec::Executor;
use crate::kernels::dispatch::Simd;
use crate::kernels::prefetch::Ahead;
use crate::kernels::scatter::{PART, TILE_POINTS, centre, flush, scatter};
use crate::kernels::softmax::padded_stride;
use crate::model::Moments;
use crate::point_faults::first_fault;
use crate::scalar::Scalar;
use crate::stats::SuffStats;
use std::ops::Range;

/// Reads of the sample that places the centre, evenly spread over the source.
const CENTRE_READS: u64 = 16;

/// Points of each of them.
const CENTRE_POINTS: u64 = 256;

/// Parts of a scatter too large for a copy in every lane: the most threads that it keeps busy. Each part reads the
/// points again.
const PARTS: usize = 32;

/// Weighted mean and covariance of all points, in one pass.
///
/// Tiles are summed in the precision `T`, all else in `f64`, about the mean of a sample so that nothing cancels. The
/// result has the same bits on any number of threads.
///
/// # Errors
/// If there are no points of positive weight, a point cannot be read, is no finite number, or its square overflows `T`.
///
/// ```
/// use entropysum::{Executor, Points, expert};
///
/// let points = Points::<f64>::from_rows(&[1.0, 5.0, 3.0, 5.0, 5.0, 8.0], 2)?;
/// let moments = expert::moments(&points, &Executor::new(Some(1))?)?;
/// assert_eq!(moments.mean(), [3.0, 6.0]);
/// assert!((moments.covariance()[(0, 0)] - 8.0 / 3.0).abs() < 1e-15);
/// assert!((moments.covariance()[(1, 0)] - 2.0).abs() < 1e-15);
/// # Ok::<(), entropysum::Error>(())
/// ```
pub fn moments<T: Scalar>(source: &dyn DataSource<T>, executor: &Executor) -> Result<Moments> {
    let centre = provisional_centre(source)?;
    Ok(Moments::from_stats(&moment_stats(source, executor, &centre)?))
}

/// The sums behind [`moments`], about a given centre: those of points from several sources with one centre may be added.
///
/// # Errors
/// As [`moments`].
///
/// # Panics
/// If the centre has not one number a dimension.
pub fn moment_stats<T: Scalar>(
    source: &dyn DataSource<T>,
    executor: &Executor,
    centre: &[f64],
) -> Result<SuffStats> {
    let dim = source.dim();
    assert_eq!(centre.len(), dim, "one number a dimension");
    // The centre of the sums must be the one that tiles subtract.
    let rounded: Vec<T> = centre.iter().map(|&c| T::from_f64(c)).collect();
    let widened: Vec<f64> = rounded.iter().map(|c| c.to_f64()).collect();
    let mut stats = Moments::stats(widened);
    let new = |columns: Range<usize>| Lane::new(columns, &rounded, executor.simd());
    let triangle_bytes = dim.saturating_mul(dim + 1) / 2 * 8;
    if fits_lanes(triangle_bytes) {
        stats = pass(
            source,
            executor,
            dim * dim / 2,
            &stats,
            || new(0..dim),
            |lane, _, block| lane.add(source, block),
            |lane, stats| {
                lane.merge_points(stats);
                lane.merge_columns(stats);
            },
        )?;
    } else {
        let width = dim.div_ceil(PARTS).next_multiple_of(PART);
        let starts = (0..dim).step_by(width);
        let mut parts: Vec<_> = starts.map(|first| new(first..dim.min(first + width))).collect();
        executor.for_each(&mut parts, |_, lane| {
            let mut buffer = BlockBuf::default();
            let mut start = 0;
            while start < source.len() {
                let count = (TILE_POINTS as u64).min(source.len() - start);
                lane.add(source, data::read(source, false, start, count as usize, &mut buffer)?)?;
                start += count;
            }
            Ok(())
        })?;
        parts[0].merge_points(&mut stats);
        parts.iter_mut().for_each(|lane| lane.merge_columns(&mut stats));
    }
    if !(stats.total_weight() > 0.0) {
        return Err(no_weight(source));
    }
    if !stats.is_finite() {
        return Err(overflow(source));
    }
    Ok(stats)
}

/// The mean of a sample: near enough to the points' own that squares about it do not cancel. Exact for a constant
/// column, whose variance is 0 then and not a rounding error.
pub(super) fn provisional_centre<T: Scalar>(source: &dyn DataSource<T>) -> Result<Vec<f64>> {
    let (n, dim) = (source.len(), source.dim());
    let (mut sums, mut weight) = (vec![0.0; dim], 0.0);
    let mut first: Vec<f64> = Vec::new();
    let mut buffer = BlockBuf::default();
    let apart = (n / CENTRE_READS).max(CENTRE_POINTS);
    let mut start = 0;
    while start < n {
        let count = CENTRE_POINTS.min(n - start) as usize;
        let block = data::read(source, false, start, count, &mut buffer)?;
        for i in 0..block.len() {
            let w = block.weights.map_or(1.0, |weights| weights[i]);
            if w > 0.0 {
                weight += w;
                let point = block.points.row(i);
                if first.is_empty() {
                    first = point.iter().map(|x| x.to_f64()).collect();
                }
                for ((sum, x), x0) in sums.iter_mut().zip(point.iter()).zip(&first) {
                    *sum += w * (x.to_f64() - x0);
                }
            }
        }
        start += apart;
    }
    // A fault in the sample is found, and named, in the pass over all points.
    let finite = |mean: f64| if mean.is_finite() { mean } else { 0.0 };
    first.resize(dim, 0.0);
    Ok(sums.iter().zip(&first).map(|(sum, x0)| finite(x0 + sum / weight)).collect())
}

/// What a lane sums: its share of the points, or some columns of the scatter of all.
struct Lane<'a, T> {
    columns: Range<usize>,
    centre: &'a [T],
    simd: Simd,
    tile: Aligned<T>,
    /// Numbers between rows of the tile.
    stride: usize,
    /// Sums of products that are not in the triangle yet.
    products: Aligned<T>,
    /// Columns of the lower triangle, one after another.
    triangle: Vec<f64>,
    sums: Vec<f64>,
    weight: f64,
    n_points: f64,
}

impl<'a, T: Scalar> Lane<'a, T> {
    fn new(columns: Range<usize>, centre: &'a [T], simd: Simd) -> Self {
        let dim = centre.len();
        let stride = padded_stride::<T>(dim);
        Self {
            tile: Aligned::zeros(TILE_POINTS * stride),
            stride,
            products: Aligned::zeros((stride - columns.start) * columns.len()),
            triangle: vec![0.0; columns.clone().map(|j| dim - j).sum()],
            sums: vec![0.0; dim],
            weight: 0.0,
            n_points: 0.0,
            columns,
            centre,
            simd,
        }
    }

    fn add(&mut self, source: &dyn DataSource<T>, block: Block<'_, T>) -> Result<()> {
        let dim = self.centre.len();
        for start in (0..block.len()).step_by(TILE_POINTS) {
            let part = block.slice(start, TILE_POINTS.min(block.len() - start));
            let loaded = centre(
                self.simd,
                part.points,
                part.weights,
                self.centre,
                &mut self.tile,
                self.stride,
                &mut self.sums,
            );
            self.weight += loaded.weight;
            self.n_points += loaded.rows as f64;
            let tile = &self.tile[..loaded.rows * self.stride];
            scatter(
                self.simd,
                tile,
                dim,
                self.stride,
                self.columns.clone(),
                Ahead::behind(part.points),
                &mut self.products,
            );
            // In f32 a tile is as much as may be summed without loss.
            if size_of::<T>() == 4 {
                self.flush();
            }
        }
        if self.sums.iter().all(|sum| sum.is_finite()) {
            return Ok(());
        }
        Err(first_fault(source, &[], block).into())
    }

    fn flush(&mut self) {
        let first = self.columns.start;
        let (height, apart) = (self.centre.len() - first, self.stride - first);
        flush(&mut self.products, height, apart, &mut self.triangle);
    }

    /// Adds weight and means to statistics, and begins anew.
    fn merge_points(&mut self, stats: &mut SuffStats) {
        let weight = std::mem::take(&mut self.weight);
        *stats.total_weight_mut() += weight;
        *stats.n_points_mut() += std::mem::take(&mut self.n_points);
        stats.mass_mut()[0] += weight;
        for (sum, value) in stats.sums_mut(0).iter_mut().zip(&mut self.sums) {
            *sum += std::mem::take(value);
        }
    }

    /// Adds the columns of the scatter to statistics, and begins anew.
    fn merge_columns(&mut self, stats: &mut SuffStats) {
        self.flush();
        let dim = self.centre.len();
        let before: usize = (0..self.columns.start).map(|j| dim - j).sum();
        for (sum, value) in stats.sums_mut(0)[dim + before..].iter_mut().zip(&mut self.triangle) {
            *sum += std::mem::take(value);
        }
    }
}
