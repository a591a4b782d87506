//! The search for the most probable components of points among very many, at a cost that does not grow with their number.
//!
//! Points look for components by *lists*: the neighbours of each component, and the members of coarse cells for points of which
//! nothing is known. Each point has a *set* of the best components that were found. A visit goes on where the last one ended.
//!
//! | file | part |
//! |---|---|
//! | `lists.rs`, `cells.rs` | neighbours of components, cells of components |
//! | `sets.rs`, `order.rs` | sets of points in words; points in the order of their leading components |
//! | `visits.rs` | groups of points in shares, and what they yield |
//! | `mod.rs` | what a search knows, and the first sets of points |

mod cells;
mod lists;
mod order;
mod sets;
mod visits;

pub(crate) use cells::Cells;
pub(crate) use lists::{Lists, improve, neighbours_from};
pub(crate) use sets::{Sets, words_of_a_set};
pub(crate) use visits::{Points, Share, Yield, visit};

use crate::block::Block;
use crate::error::Result;
use crate::exec::{Executor, Simd};
use crate::family::BaseMeasure;
use crate::kernels::statistics::{self, Tile};
use crate::model::component_table::ComponentTable;
use crate::scalar::Scalar;

/// Points of a tile of base measures.
const TILE: usize = 256;

/// Finds the first sets of points: the nearest pivot, and the best members of its cell. Returns their leading
/// components, and how many logits were computed.
pub(crate) fn first_sets<T: Scalar>(
    executor: &Executor,
    table: &ComponentTable<T>,
    shares: &mut Vec<Share<T>>,
    cells: &Cells,
    block: Block<'_, T>,
    sets: &Sets,
) -> Result<(Vec<u32>, u64)> {
    let pivots = Sets::empty(block.len(), 1);
    let all = vec![0; block.len()];
    let points = Points { penalties: &cells.penalties, ..Points::new(block, &cells.pivots, &all) };
    let of_pivots = visit(executor, table, shares, &points, &pivots, Yield::Sets)?;
    let (mut keys, _) = pivots.leaders(executor, table.n_components())?;
    keys.iter_mut().for_each(|pivot| *pivot = cells.cell_of_pivot(*pivot));
    let points = Points::new(block, &cells.members, &keys);
    let of_cells = visit(executor, table, shares, &points, sets, Yield::Sets)?;
    Ok((sets.leaders(executor, table.n_components())?.0, of_pivots + of_cells))
}

/// Computes the log base measure of each point of a block.
pub(crate) fn for_each_base_measure<T: Scalar>(
    measure: &BaseMeasure,
    simd: Simd,
    block: Block<'_, T>,
    mut visit: impl FnMut(usize, f64),
) {
    let dim = block.dim();
    let mut tile = vec![T::ZERO; TILE * dim];
    let (mut scratch, mut values) = (vec![0.0; TILE * (dim + 1)], vec![0.0; TILE]);
    for start in (0..block.len()).step_by(TILE) {
        let part = block.slice(start, TILE.min(block.len() - start));
        statistics::load(simd, part.points, &[], &mut tile, TILE);
        let tile = Tile { values: &tile, dim, n_points: part.len(), stride: TILE };
        let (terms, constant) = (&measure.terms, measure.constant);
        let out = &mut values[..part.len()];
        statistics::log_base_measure(simd, terms, constant, tile, &mut scratch, out);
        out.iter().enumerate().for_each(|(i, &value)| visit(start + i, value));
    }
}
