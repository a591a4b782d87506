//! Seeds very many components in two levels: coarse cells of the points first, then seeds inside each cell.
//!
//! The cost is O(N √C), where k-means++ takes O(N C). Components are numbered cell by cell, along a chain of near cells, so that near
//! components stand near each other in memory.

use super::labels::{Features, hard_mixture};
use crate::data::memory::Points;
use crate::em::config::Config;
use crate::em::fitting::fit;
use crate::error::Result;
use crate::exec::Executor;
use crate::family::Regularization;
use crate::inference;
use crate::kernels::distance::nearest;
use crate::monitor::Silent;
use crate::rng;
use crate::scalar::Scalar;
use rand_xoshiro::Xoshiro256PlusPlus;

/// Points of a coarse cell from which its centre is learned, and sweeps over them.
const POINTS_PER_CELL: usize = 64;
const SWEEPS: usize = 6;

/// The points of a coarse cell, and the seeds that are drawn among them.
#[derive(Default)]
struct Cell {
    rows: Vec<u32>,
    n_seeds: usize,
    /// Labels of the rows, counted from the first seed of the cell.
    labels: Vec<u32>,
    placed: usize,
}

/// Labels a sample by seeds in two levels; returns how many seeds could be placed.
pub(super) fn two_levels<T: Scalar>(
    features: &Features<'_, T>,
    n_components: usize,
    executor: &Executor,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<(Vec<u32>, usize)> {
    let (n, dim) = (features.sample.len(), features.dim);
    let mut cells = coarse_cells(features, n_components, executor, rng)?;
    allot_seeds(features, &mut cells, n_components);
    let seed = rng::bits(rng);
    executor.for_each(&mut cells, |index, cell| {
        draw_seeds(features, cell, executor, &mut rng::stream(seed, index as u64));
        Ok(())
    })?;
    let (mut labels, mut placed) = (vec![0; n], 0);
    for cell in &cells {
        for (&row, &label) in cell.rows.iter().zip(&cell.labels) {
            labels[row as usize] = placed as u32 + label;
        }
        placed += cell.placed;
    }
    debug_assert!(dim > 0 && placed <= n_components);
    Ok((labels, placed))
}

/// Cuts the points into about √C cells by k-means on a part of them. Near cells follow each other.
fn coarse_cells<T: Scalar>(
    features: &Features<'_, T>,
    n_components: usize,
    executor: &Executor,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<Vec<Cell>> {
    let (n, dim) = (features.sample.len(), features.dim);
    let n_cells = (n_components as f64).sqrt().ceil() as usize;
    let used = (n_cells * POINTS_PER_CELL).min(n);
    let part: Vec<T> = (0..used).flat_map(|k| features.row(k * (n / used))).copied().collect();
    let centres = (0..n_cells).map(|_| {
        let row = features.row(rng::below(rng, n as u64) as usize);
        row.iter().map(|v| v.to_f64()).collect()
    });
    let model = hard_mixture(centres.collect(), dim)?;
    let regularization = Regularization { resolution: vec![0.0; dim], ..Default::default() };
    let config = Config { max_iter: SWEEPS, tol: 1e-4, regularization, ..Config::default() };
    let part = Points::from_rows(&part, dim)?;
    let model = fit(&model, &part, executor, &config, &mut Silent)?.model;
    let n_cells = model.n_components();
    let mut cells: Vec<Cell> = (0..n_cells).map(|_| Cell::default()).collect();
    let place = chain(&model.parameter("means").expect("Gaussians have means"), dim);
    let all = Points::from_rows(&features.rows, dim)?;
    inference::predict(&model, &all, executor, |first, labels| {
        for (k, &label) in labels.iter().enumerate() {
            cells[place[label as usize]].rows.push((first as usize + k) as u32);
        }
        Ok(())
    })?;
    cells.retain(|cell| !cell.rows.is_empty());
    Ok(cells)
}

/// Returns the place of each centre in a chain that goes on to the nearest centre that is left.
fn chain(centres: &[f64], dim: usize) -> Vec<usize> {
    let centre = |c: usize| &centres[c * dim..][..dim];
    let distance = |a: usize, b: usize| {
        centre(a).iter().zip(centre(b)).map(|(x, y)| (x - y).powi(2)).sum::<f64>()
    };
    let mut left: Vec<usize> = (1..centres.len() / dim).collect();
    let mut place = vec![0; left.len() + 1];
    let mut last = 0;
    for position in 1..place.len() {
        let nearer =
            |&a: &usize, &b: &usize| distance(last, left[a]).total_cmp(&distance(last, left[b]));
        let next = (0..left.len()).min_by(nearer).expect("a centre is left");
        last = left.swap_remove(next);
        place[last] = position;
    }
    place
}

/// Gives seeds to cells in proportion to the root of points times spread, one at least, and no more than points.
fn allot_seeds<T: Scalar>(features: &Features<'_, T>, cells: &mut [Cell], n_components: usize) {
    let spread = |cell: &Cell| -> f64 {
        let (n, dim) = (cell.rows.len() as f64, features.dim);
        let (mut sums, mut squares) = (vec![0.0; dim], 0.0);
        for &row in &cell.rows {
            for (sum, x) in sums.iter_mut().zip(features.row(row as usize)) {
                *sum += x.to_f64();
                squares += x.to_f64().powi(2);
            }
        }
        (squares - sums.iter().map(|sum| sum * sum / n).sum::<f64>()).max(0.0)
    };
    let shares: Vec<f64> =
        cells.iter().map(|cell| (cell.rows.len() as f64 * spread(cell)).sqrt()).collect();
    let total: f64 = shares.iter().sum();
    for (cell, share) in cells.iter_mut().zip(&shares) {
        let wanted = if total > 0.0 { share / total * n_components as f64 } else { 0.0 };
        cell.n_seeds = (wanted as usize).clamp(1, cell.rows.len());
    }
    // Rounding has left some over, or one for each small cell was too many.
    let mut given: usize = cells.iter().map(|cell| cell.n_seeds).sum();
    let mut changed = true;
    while given != n_components && changed {
        changed = false;
        for cell in &mut *cells {
            if given < n_components && cell.n_seeds < cell.rows.len() {
                (cell.n_seeds, given, changed) = (cell.n_seeds + 1, given + 1, true);
            } else if given > n_components && cell.n_seeds > 1 {
                (cell.n_seeds, given, changed) = (cell.n_seeds - 1, given - 1, true);
            }
        }
    }
    // Fewer components than cells: the last ones join the first seed of a neighbour.
    if given > n_components {
        cells.iter_mut().skip(n_components).for_each(|cell| cell.n_seeds = 0);
    }
}

/// Draws the seeds of a cell, each with a probability in proportion to the squared distance from those before, and labels its
/// points by the nearest.
fn draw_seeds<T: Scalar>(
    features: &Features<'_, T>,
    cell: &mut Cell,
    executor: &Executor,
    rng: &mut Xoshiro256PlusPlus,
) {
    let (n, dim) = (cell.rows.len(), features.dim);
    let mut columns = vec![T::ZERO; n * dim];
    for (i, &row) in cell.rows.iter().enumerate() {
        for (d, &x) in features.row(row as usize).iter().enumerate() {
            columns[d * n + i] = x;
        }
    }
    let weight = |i: usize| features.sample.weight(cell.rows[i] as usize);
    let mut distances = vec![T::from_f64(f64::from(f32::MAX)); n];
    let mut next = distances.clone();
    cell.labels = vec![0; n];
    let mut chosen = rng::weighted(rng, (0..n).map(weight));
    while let Some(seed) = chosen.filter(|_| cell.placed < cell.n_seeds) {
        let point = features.row(cell.rows[seed] as usize);
        nearest(executor.simd(), &columns, n, point, &distances, &mut next);
        for ((label, old), new) in cell.labels.iter_mut().zip(&distances).zip(&next) {
            if new < old {
                *label = cell.placed as u32;
            }
        }
        std::mem::swap(&mut distances, &mut next);
        cell.placed += 1;
        chosen = rng::weighted(rng, (0..n).map(|i| weight(i) * distances[i].to_f64()));
    }
}
