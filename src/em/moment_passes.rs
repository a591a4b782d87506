//! Second moments of points without their covariance: by passes over a source, or with all points in memory.

use super::lanes::{no_weight, overflow, pass};
use super::moments::provisional_centre;
use crate::block::{Block, BlockBuf};
use crate::data::{self, DataSource};
use crate::error::Result;
use crate::exec::Executor;
use crate::kernels::dispatch::Simd;
use crate::kernels::scatter::{Loaded, TILE_POINTS, centre};
use crate::linalg::product;
use crate::model::SecondMoments;
use crate::model::linear_gaussian::Factor;
use crate::point_faults::first_fault;
use crate::scalar::Scalar;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

/// Points of which only mean and variances are known; each product with their covariance is another pass.
#[derive(Debug)]
pub(super) struct Passes<'a, T: Scalar> {
    source: &'a dyn DataSource<T>,
    executor: &'a Executor,
    /// What tiles subtract: the mean as far as `T` can hold it.
    centre: Vec<T>,
    mean: Vec<f64>,
    variances: Vec<f64>,
    total_weight: f64,
}

impl<'a, T: Scalar> Passes<'a, T> {
    /// Two passes, for the mean and then the variances.
    pub(super) fn new(source: &'a dyn DataSource<T>, executor: &'a Executor) -> Result<Self> {
        let start: Vec<T> = provisional_centre(source)?.into_iter().map(T::from_f64).collect();
        let sums = column_sums(source, executor, &start)?;
        if !(sums.weight > 0.0) {
            return Err(no_weight(source));
        }
        let mean: Vec<f64> =
            start.iter().zip(&sums.first).map(|(c, sum)| c.to_f64() + sum / sums.weight).collect();
        let centre: Vec<T> = mean.iter().map(|&m| T::from_f64(m)).collect();
        let sums = column_sums(source, executor, &centre)?;
        let variance = |(second, first): (&f64, &f64)| {
            (second / sums.weight - (first / sums.weight).powi(2)).max(0.0)
        };
        let variances: Vec<f64> = sums.second.iter().zip(&sums.first).map(variance).collect();
        if variances.iter().any(|v| !v.is_finite()) {
            return Err(overflow(source));
        }
        Ok(Self { source, executor, centre, mean, variances, total_weight: sums.weight })
    }

    pub(super) fn total_weight(&self) -> f64 {
        self.total_weight
    }
}

impl<T: Scalar> SecondMoments for Passes<'_, T> {
    fn mean(&self) -> &[f64] {
        &self.mean
    }

    fn variances(&self) -> &[f64] {
        &self.variances
    }

    fn times(&self, matrix: MatRef<'_, f64>) -> Result<Mat<f64>> {
        let (dim, columns) = matrix.shape();
        let rounded = Mat::from_fn(dim, columns, |d, k| T::from_f64(matrix[(d, k)]));
        let simd = self.executor.simd();
        let sums = pass(
            self.source,
            self.executor,
            2 * dim * columns,
            &vec![0.0; dim * columns],
            || Product::new(dim, columns),
            |scratch, sums, block| {
                scratch.add(simd, block, &self.centre, rounded.as_ref(), sums);
                Ok(())
            },
            |scratch, sums| scratch.flush(sums),
        )?;
        // The centre of tiles is not quite the mean in f32.
        let apart = Mat::from_fn(1, dim, |_, d| self.mean[d] - self.centre[d].to_f64());
        let along = product(apart.as_ref(), matrix);
        Ok(Mat::from_fn(dim, columns, |d, k| {
            sums[k * dim + d] / self.total_weight - apart[(0, d)] * along[(0, k)]
        }))
    }
}

/// Scratch memory for `Y' (Y A)`.
struct Product<T> {
    tile: Vec<T>,
    ignored: Vec<f64>,
    projected: Mat<T>,
    /// Sums that are not among those of the lane yet.
    products: Mat<T>,
}

impl<T: Scalar> Product<T> {
    fn new(dim: usize, columns: usize) -> Self {
        Self {
            tile: vec![T::ZERO; TILE_POINTS * dim],
            ignored: vec![0.0; dim],
            projected: Mat::zeros(TILE_POINTS, columns),
            products: Mat::zeros(dim, columns),
        }
    }

    fn add(
        &mut self,
        simd: Simd,
        block: Block<'_, T>,
        c: &[T],
        matrix: MatRef<'_, T>,
        sums: &mut [f64],
    ) {
        for_each_tile(simd, block, c, &mut self.tile, &mut self.ignored, |_, tile| {
            let mut projected = self.projected.as_mut().subrows_mut(0, tile.nrows());
            matmul(projected.as_mut(), Accum::Replace, tile, matrix, T::ONE, Par::Seq);
            matmul(
                self.products.as_mut(),
                Accum::Add,
                tile.transpose(),
                projected.as_ref(),
                T::ONE,
                Par::Seq,
            );
            // In f32 a tile is as much as may be summed without loss.
            if size_of::<T>() == 4 {
                flush(&mut self.products, sums);
            }
        });
    }

    /// Brings all products to the sums, column by column.
    fn flush(&mut self, sums: &mut [f64]) {
        flush(&mut self.products, sums);
    }
}

fn flush<T: Scalar>(products: &mut Mat<T>, sums: &mut [f64]) {
    let dim = products.nrows();
    for (sums, products) in sums.chunks_exact_mut(dim).zip(products.col_iter_mut()) {
        for (sum, product) in sums.iter_mut().zip(products.iter_mut()) {
            *sum += product.to_f64();
            *product = T::ZERO;
        }
    }
}

/// Cuts a block into centred, weighted, row-major tiles.
fn for_each_tile<T: Scalar>(
    simd: Simd,
    block: Block<'_, T>,
    c: &[T],
    tile: &mut [T],
    sums: &mut [f64],
    mut visit: impl FnMut(Loaded, MatRef<'_, T>),
) {
    for start in (0..block.len()).step_by(TILE_POINTS) {
        let part = block.slice(start, TILE_POINTS.min(block.len() - start));
        let loaded = centre(simd, part.points, part.weights, c, tile, c.len(), sums);
        let values = &tile[..loaded.rows * c.len()];
        visit(loaded, MatRef::from_row_major_slice(values, loaded.rows, c.len()));
    }
}

/// `Σ w`, and in each column `Σ w y` and `Σ w y²`.
struct ColumnSums {
    weight: f64,
    first: Vec<f64>,
    second: Vec<f64>,
}

fn column_sums<T: Scalar>(
    source: &dyn DataSource<T>,
    executor: &Executor,
    c: &[T],
) -> Result<ColumnSums> {
    let dim = c.len();
    // Weight, first and second sums, one after another.
    let mut sums = pass(
        source,
        executor,
        8 * dim,
        &vec![0.0; 1 + 2 * dim],
        || vec![T::ZERO; TILE_POINTS * dim],
        |tile, sums, block| {
            let (weight, columns) = sums.split_first_mut().expect("there is a weight");
            let (first, second) = columns.split_at_mut(dim);
            for_each_tile(executor.simd(), block, c, tile, first, |loaded, tile| {
                *weight += loaded.weight;
                for row in tile.row_iter() {
                    for (sum, y) in second.iter_mut().zip(row.iter()) {
                        *sum += y.to_f64() * y.to_f64();
                    }
                }
            });
            if first.iter().all(|sum| sum.is_finite()) {
                return Ok(());
            }
            Err(first_fault(source, &[], block).into())
        },
        |_, _| (),
    )?;
    let second = sums.split_off(1 + dim);
    let first = sums.split_off(1);
    Ok(ColumnSums { weight: sums[0], first, second })
}

/// All points, about their mean and by the root of their weight over the total, and that total.
pub(super) fn factor<T: Scalar>(source: &dyn DataSource<T>) -> Result<(Factor, f64)> {
    let (n, dim) = (source.len(), source.dim());
    let start = provisional_centre(source)?;
    let (mut rows, mut weights) = (Vec::new(), Vec::new());
    let mut buffer = BlockBuf::default();
    for first in (0..n).step_by(TILE_POINTS) {
        let block = data::read(
            source,
            false,
            first,
            (TILE_POINTS as u64).min(n - first) as usize,
            &mut buffer,
        )?;
        for i in 0..block.len() {
            let weight = block.weights.map_or(1.0, |weights| weights[i]);
            if weight > 0.0 {
                weights.push(weight);
                let point = block.points.row(i);
                rows.extend(point.iter().zip(&start).map(|(x, c)| x.to_f64() - c));
            }
        }
        let read = block.len().min(rows.len() / dim) * dim;
        if rows[rows.len() - read..].iter().any(|y| !y.is_finite()) {
            return Err(first_fault(source, &[], block).into());
        }
    }
    let total: f64 = weights.iter().sum();
    if !(total > 0.0) {
        return Err(no_weight(source));
    }
    let mut offset = vec![0.0; dim];
    for (row, weight) in rows.chunks(dim).zip(&weights) {
        offset.iter_mut().zip(row).for_each(|(sum, y)| *sum += weight / total * y);
    }
    let rows = Mat::from_fn(weights.len(), dim, |i, d| {
        (weights[i] / total).sqrt() * (rows[i * dim + d] - offset[d])
    });
    let mean = start.iter().zip(&offset).map(|(c, o)| c + o).collect();
    let factor = Factor::new(mean, rows);
    if factor.variances().iter().all(|v| v.is_finite()) {
        return Ok((factor, total));
    }
    Err(overflow(source))
}
