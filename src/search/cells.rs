//! Coarse cells of components, in which points of which nothing is known look first.

use super::lists::{Lists, rank};
use crate::error::Result;
use crate::exec::Executor;
use crate::model::component_table::ComponentTable;
use crate::rng::{self, Rng};
use crate::scalar::Scalar;
use serde::{Deserialize, Serialize};

/// Components of a cell at most, in units of the mean.
const MOST_OF_A_CELL: usize = 4;

/// Components by which the sizes of cells are judged, in units of the number of cells.
const SAMPLE: usize = 16;

/// Components of a cell from which on its pivot gets a penalty, in units of the mean.
const FULL: f64 = 5.0;

/// Rounds at a temperature in which penalties change.
const ROUNDS: usize = 3;

/// Components that a thread spreads over cells at a time.
const PIECE: usize = 64;

/// A coarse quantiser of the components: overlapping cells, each of the components that have its pivot among their nearest.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cells {
    /// One list of all pivots.
    pub pivots: Lists,
    /// Nats by which the logits of each pivot are lowered.
    pub penalties: Vec<f64>,
    /// The members of each cell.
    pub members: Lists,
    /// The cell of the nearest pivot of each component.
    of: Vec<u32>,
}

impl Cells {
    /// Cuts the components into about √C cells, each component in `breadth` of them.
    ///
    /// A broad pivot explains whatever lies between narrow ones better than these do: among very many narrow components its cell would
    /// be nearly all of them. So the logits of pivots with many components are lowered, for components and points alike.
    pub fn new<T: Scalar>(
        executor: &Executor,
        table: &ComponentTable<T>,
        means: &[T],
        alive: &[bool],
        breadth: usize,
        seed: u64,
    ) -> Result<Self> {
        let living: Vec<u32> = (0..alive.len() as u32).filter(|&c| alive[c as usize]).collect();
        let n_cells = (living.len() as f64).sqrt().ceil() as usize;
        let most = MOST_OF_A_CELL * breadth * living.len().div_ceil(n_cells);
        let mut rng = rng::stream(seed, 0);
        let pivots = drawn(&living, n_cells, &mut rng);
        let sample = drawn(&living, SAMPLE * n_cells, &mut rng);
        let logits = logits_of(executor, table, means, &sample, &pivots)?;
        let penalties = balancing_penalties(executor, &logits, n_cells)?;
        let pivots = Lists::single(pivots);
        let all = vec![0; alive.len()];
        let nearest = rank(executor, table, means, (&pivots, &penalties), &all, breadth)?;
        let of = nearest.iter().step_by(breadth);
        let of = of.map(|&set| cell_of_pivot(&pivots, set.max(1) - 1)).collect();
        let members = members_of(&pivots, &nearest, breadth, alive, most);
        Ok(Self { pivots, penalties, members, of })
    }

    /// Returns the cell of each component.
    pub fn of_components(&self) -> &[u32] {
        &self.of
    }

    /// Returns the cell of a pivot by its component.
    pub fn cell_of_pivot(&self, pivot: u32) -> u32 {
        cell_of_pivot(&self.pivots, pivot)
    }

    /// Tells whether the cells are of a mixture of so many components.
    pub fn are_valid(&self, n_components: usize) -> bool {
        let exist = |cell: &u32| (*cell as usize) < self.members.len().max(1);
        self.pivots.are_valid(n_components)
            && self.members.are_valid(n_components)
            && self.of.iter().all(exist)
            && (self.of.is_empty() || self.of.len() == n_components)
            && (self.pivots.is_empty() || self.pivots.members(0).len() == self.members.len())
            && self.penalties.len() == self.members.len()
    }
}

/// Draws some of the components; returns them sorted.
fn drawn(components: &[u32], count: usize, rng: &mut Rng) -> Vec<u32> {
    let mut components = components.to_vec();
    let count = count.min(components.len());
    for k in 0..count {
        let other = k + rng::below(rng, (components.len() - k) as u64) as usize;
        components.swap(k, other);
    }
    components.truncate(count);
    components.sort_unstable();
    components
}

/// Computes the expected logits of components under all pivots.
fn logits_of<T: Scalar>(
    executor: &Executor,
    table: &ComponentTable<T>,
    means: &[T],
    components: &[u32],
    pivots: &[u32],
) -> Result<Vec<f32>> {
    let (n, len) = (pivots.len(), table.mean_len());
    let mut logits = vec![0.0; components.len() * n];
    let mut rows: Vec<_> = components.iter().zip(logits.chunks_mut(n)).collect();
    executor.for_each(&mut rows, |_, (component, row)| {
        let mean = &means[**component as usize * len..][..len];
        let mut values = vec![0.0; n];
        table.expected_logits(**component, mean, pivots, &mut values);
        row.iter_mut().zip(values).for_each(|(to, value)| *to = value as f32);
        Ok(())
    })?;
    Ok(logits)
}

/// Finds penalties with which no cell has many more of the rows of `logits` than others: a row is in the cell of its largest logit.
///
/// This is optimal transport between rows and cells of limited capacity. A softmax at a temperature spreads rows over cells, and
/// each penalty is set so that its cell is not overfull. The temperature falls from the scale of the logits to a nat. Without a temperature, cells
/// that compete for the same rows outbid each other round after round.
fn balancing_penalties(executor: &Executor, logits: &[f32], n_cells: usize) -> Result<Vec<f64>> {
    let n_rows = logits.len() / n_cells;
    let most = FULL * n_rows as f64 / n_cells as f64;
    let mut pieces: Vec<_> =
        logits.chunks(PIECE * n_cells).map(|rows| (rows, vec![0.0; n_cells], 0.0)).collect();
    executor.for_each(&mut pieces, |_, (rows, _, spread)| {
        *spread = rows.chunks_exact(n_cells).map(spread_of).sum();
        Ok(())
    })?;
    let mut temperature = pieces.iter().map(|(.., spread)| spread).sum::<f64>() / n_rows as f64;
    let mut penalties = vec![0.0; n_cells];
    while temperature > 0.5 {
        for _ in 0..ROUNDS {
            executor.for_each(&mut pieces, |_, (rows, counts, _)| {
                count_softly(rows, &penalties, temperature, counts);
                Ok(())
            })?;
            for (cell, penalty) in penalties.iter_mut().enumerate() {
                let count: f64 = pieces.iter().map(|(_, counts, _)| counts[cell]).sum();
                *penalty = (*penalty + temperature * (count / most).ln()).max(0.0);
            }
        }
        temperature /= 2.0;
    }
    Ok(penalties)
}

/// Returns how far the largest logit of a row is above their mean; of those that are finite.
fn spread_of(row: &[f32]) -> f64 {
    let finite = || row.iter().map(|&logit| f64::from(logit)).filter(|it| it.is_finite());
    let best = finite().fold(f64::NEG_INFINITY, f64::max);
    let (sum, count) = finite().fold((0.0, 0.0), |(sum, count), it| (sum + best - it, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

/// Counts for each cell the rows, each spread over the cells by the softmax of its logits less the penalties.
fn count_softly(rows: &[f32], penalties: &[f64], temperature: f64, counts: &mut [f64]) {
    let scale = (1.0 / temperature) as f32;
    let penalties: Vec<f32> = penalties.iter().map(|&it| it as f32).collect();
    let mut shares = vec![0.0; penalties.len()];
    counts.fill(0.0);
    for row in rows.chunks_exact(penalties.len()) {
        let values = || row.iter().zip(&penalties).map(|(logit, penalty)| logit - penalty);
        let best = values().fold(f32::NEG_INFINITY, f32::max);
        if !best.is_finite() {
            continue;
        }
        let mut sum = 0.0;
        for (share, value) in shares.iter_mut().zip(values()) {
            *share = ((value - best) * scale).exp();
            sum += *share;
        }
        let scale = 1.0 / f64::from(sum);
        counts
            .iter_mut()
            .zip(&shares)
            .for_each(|(count, &share)| *count += scale * f64::from(share));
    }
}

/// Returns the members of the cell of each pivot, `most` at most: the pivot itself, and components that have it among their nearest,
/// of which there are `breadth`. Components to which it is nearer than other pivots come first.
fn members_of(
    pivots: &Lists,
    nearest: &[u32],
    breadth: usize,
    alive: &[bool],
    most: usize,
) -> Lists {
    let mut cells: Vec<_> = pivots.members(0).iter().map(|&pivot| vec![pivot]).collect();
    for place in 0..breadth {
        for (c, &pivot) in (0..).zip(nearest.iter().skip(place).step_by(breadth)) {
            if pivot == 0 || pivot == c + 1 || !alive[c as usize] {
                continue;
            }
            let cell = &mut cells[cell_of_pivot(pivots, pivot - 1) as usize];
            if cell.len() < most {
                cell.push(c);
            }
        }
    }
    let mut lists = Lists::default();
    cells.into_iter().for_each(|cell| lists.push(cell[0], cell));
    lists
}

/// Pivots are sorted.
fn cell_of_pivot(pivots: &Lists, pivot: u32) -> u32 {
    pivots.members(0).binary_search(&pivot).unwrap_or(0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Block;
    use crate::family::{Parameters, registry};
    use crate::model::Mixture;
    use crate::model::component_table::SearchableMixture;
    use crate::search::{Sets, first_sets};

    /// Makes a mixture of narrow components far from each other, and as many broad ones as all points are.
    fn mixture(n_narrow: usize, n_broad: usize) -> Mixture {
        let mut rng = rng::stream(5, 0);
        let component = |c: usize| {
            let mut values: Vec<f64> = (0..DIM).map(|_| 100.0 * rng::uniform(&mut rng)).collect();
            values.push(if c < n_narrow { 1.0 } else { 900.0 });
            values
        };
        let n = n_narrow + n_broad;
        let parameters = Parameters { components: (0..n).map(component).collect(), shared: vec![] };
        let family = registry::build("gaussian-spherical", DIM).unwrap();
        Mixture::new(family, vec![1.0 / n as f64; n], parameters).unwrap()
    }

    const DIM: usize = 8;
    const BREADTH: usize = 4;

    fn cells_of(model: &Mixture, executor: &Executor, seed: u64) -> (ComponentTable<f64>, Cells) {
        let table = model.component_table(executor.simd(), executor);
        let means = model.mean_statistics(&table, executor);
        let alive = vec![true; model.weights().len()];
        let cells = Cells::new(executor, &table, &means, &alive, BREADTH, seed).unwrap();
        (table, cells)
    }

    /// Broad pivots explain all that lies between narrow ones. Without penalties nearly all components are in their cells, which cannot
    /// hold them all.
    #[test]
    fn points_find_narrow_components_by_their_cells() {
        let executor = Executor::new(Some(2)).unwrap();
        for n_broad in [0, 20, 200] {
            let model = mixture(2000, n_broad);
            let components = &model.parameters().components[..2000];
            let x: Vec<f64> = components.iter().flat_map(|it| it[..DIM].to_vec()).collect();
            let block = Block::from_rows(&x, DIM).unwrap();
            for seed in 0..4 {
                let (table, cells) = cells_of(&model, &executor, seed);
                assert!(cells.are_valid(model.weights().len()));
                let sets = Sets::empty(block.len(), 1);
                let (leaders, _) =
                    first_sets(&executor, &table, &mut Vec::new(), &cells, block, &sets).unwrap();
                let found = (0..2000).filter(|&c| leaders[c] as usize == c).count();
                assert!(found >= 1960, "{n_broad} broad, seed {seed}: {found} found");
            }
        }
    }

    /// Copies of a component are equally near all of them: no list holds nearly all for that, and no penalty tells them apart.
    #[test]
    fn copies_of_a_component_are_in_cells_of_limited_size() {
        let executor = Executor::new(Some(2)).unwrap();
        let n = 3000;
        let parameters = Parameters { components: vec![vec![0.0, 1.0]; n], shared: vec![] };
        let family = registry::build("gaussian-spherical", 1).unwrap();
        let model = Mixture::new(family, vec![1.0 / n as f64; n], parameters).unwrap();
        let (_, cells) = cells_of(&model, &executor, 0);
        assert!(cells.are_valid(n) && cells.penalties.iter().all(|it| it.is_finite()));
        let sizes = (0..cells.members.len() as u32).map(|it| cells.members.members(it).len());
        assert!(sizes.clone().min() >= Some(1));
        assert!(sizes.max() <= Some(MOST_OF_A_CELL * BREADTH * n.div_ceil(55)));
    }
}
