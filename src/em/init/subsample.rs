//! Draws seeded subsamples of a source.

use crate::block::{Block, BlockBuf};
use crate::data::memory::Points;
use crate::data::{self, DataSource, Weighted};
use crate::error::{DataError, Error, Result};
use crate::family::Domain;
use crate::family::label::LabelBlock;
use crate::point_faults::first_fault;
use crate::rng;
use crate::scalar::Scalar;
use rand_xoshiro::Xoshiro256PlusPlus;

/// Points of the subsample per component. As many as FAISS trains on for a centroid at most.
pub(in crate::em) const POINTS_PER_COMPONENT: u64 = 256;

/// Points of the subsample at least, where there are as many.
pub(super) const MIN_SUBSAMPLE: u64 = 4096;

/// Points that are read at once where all are read.
const BLOCK: usize = 4096;

/// Points of a stretch that are tried where bad ones are left out.
const TRIES: usize = 16;

/// Refuses no components, and more than there are points.
pub(in crate::em) fn check_counts<T: Scalar>(
    source: &dyn DataSource<T>,
    n_components: usize,
) -> Result<()> {
    if n_components == 0 {
        return Err(Error::Config("a mixture needs at least one component".into()));
    }
    if source.len() < n_components as u64 {
        return Err(Error::Config(format!(
            "{} has {} point(s), fewer than the {n_components} components asked for",
            source.name(),
            source.len()
        )));
    }
    Ok(())
}

/// A few points of a source, in memory, in the order of the source.
pub(in crate::em) struct Sample<T> {
    pub(in crate::em) values: Vec<T>,
    pub(super) weights: Option<Vec<f64>>,
    pub(in crate::em) dim: usize,
}

impl<T: Scalar> Sample<T> {
    pub(in crate::em) fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    /// Adds point `i` of a block.
    pub(super) fn take(
        &mut self,
        source: &dyn DataSource<T>,
        domains: &[Domain],
        block: Block<'_, T>,
        i: usize,
    ) -> Result<()> {
        let value = |d: usize| block.points[(i, d)].to_f64();
        if let Some((column, message)) = domains.iter().find_map(|domain| domain.fault(value)) {
            let fault = match column.filter(|&d| !value(d).is_finite()) {
                Some(_) => first_fault(source, domains, block.slice(i, 1)),
                None => {
                    let (name, row) = source.place(block.first + i as u64);
                    DataError::new(name, message).at(row, column)
                }
            };
            return Err(fault.into());
        }
        self.values.extend((0..self.dim).map(|d| block.points[(i, d)]));
        if let (Some(weights), Some(from)) = (&mut self.weights, block.weights) {
            weights.push(from[i]);
        }
        Ok(())
    }

    pub(in crate::em) fn weight(&self, i: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |weights| weights[i])
    }

    /// Returns the number of points that the sample stands for: the sum of weights that count points.
    pub(super) fn size(&self) -> f64 {
        (self.len() as f64).max((0..self.len()).map(|i| self.weight(i)).sum())
    }

    /// Copies some of the points, with these weights if points have weights.
    pub(super) fn part(&self, rows: &[usize], weights: Vec<f64>) -> Self {
        let row = |&i: &usize| &self.values[i * self.dim..][..self.dim];
        Self {
            values: rows.iter().flat_map(row).copied().collect(),
            weights: self.weights.as_ref().map(|_| weights),
            dim: self.dim,
        }
    }

    /// Returns the points as a source.
    pub(super) fn points(&self) -> Result<Points<'_, T>> {
        let points = Points::from_rows(&self.values, self.dim)?;
        match &self.weights {
            Some(weights) => points.with_weights(weights.clone()),
            None => Ok(points),
        }
    }
}

/// Draws `wanted` points, or takes all of positive weight where there are no more.
///
/// Draws one point of each of `wanted` stretches of equal weight, in the order of the source. So points are drawn in proportion to
/// their weights and count alike then; a point of weight 3 is as good as the same point three times in a row.
pub(super) fn subsample<T: Scalar>(
    source: &dyn DataSource<T>,
    domains: &[Domain],
    wanted: u64,
    skips: bool,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<Sample<T>> {
    let n = source.len();
    let mut buffer = BlockBuf::default();
    let mut weights = CumulativeWeights::of(source, wanted)?;
    let total = weights.as_ref().map_or(n as f64, CumulativeWeights::total);
    let mut sample = Sample { values: Vec::new(), weights: None, dim: source.dim() };
    if total > wanted as f64 {
        for k in 0..wanted {
            for _ in 0..if skips { TRIES } else { 1 } {
                let position = position(k, wanted, total, rng::uniform(rng));
                let row = match &mut weights {
                    // Rounding may end at the end.
                    None => (position as u64).min(n - 1),
                    Some(weights) => weights.row_at(source, position)?,
                };
                let block = data::read(source, false, row, 1, &mut buffer)?;
                if !skips || is_for(domains, block, 0) {
                    sample.take(source, domains, block, 0)?;
                    break;
                }
            }
        }
        return Ok(sample);
    }
    sample.weights = weights.is_some().then(Vec::new);
    for start in (0..n).step_by(BLOCK) {
        let block = read_block(source, start, &mut buffer)?;
        for i in 0..block.len() {
            let has_weight = block.weights.is_none_or(|weights| weights[i] > 0.0);
            if has_weight && (!skips || is_for(domains, block, i)) {
                sample.take(source, domains, block, i)?;
            }
        }
    }
    if sample.values.is_empty() {
        let message = match skips {
            true => "no point is one that the model is for, and has a weight",
            false => "the weights of all points are zero",
        };
        return Err(DataError::new(source.name(), message).into());
    }
    Ok(sample)
}

/// Returns the rows that [`subsample`] draws of points that lie elsewhere, in its order: it draws from their numbers.
pub(super) fn rows_drawn(
    len: u64,
    weights: Option<&[f64]>,
    wanted: u64,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<Vec<u64>> {
    let numbers = RowNumbers(len);
    let sample = match weights {
        None => subsample(&numbers, &[], wanted, false, rng)?,
        Some(weights) => {
            subsample(&Weighted::new(numbers, weights.to_vec())?, &[], wanted, false, rng)?
        }
    };
    Ok(sample.values.into_iter().map(|row| row as u64).collect())
}

/// Points of which each is the number of its row; exact below 2^53.
struct RowNumbers(u64);

impl DataSource<f64> for RowNumbers {
    fn name(&self) -> String {
        "X".to_owned()
    }

    fn dim(&self) -> usize {
        1
    }

    fn len(&self) -> u64 {
        self.0
    }

    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<f64>,
    ) -> Result<Block<'a, f64>> {
        buffer.values.clear();
        buffer.values.extend((start..start + count as u64).map(|row| row as f64));
        Ok(Block { first: start, ..buffer.block(count, 1, false) })
    }
}

/// Adds points whose component is known: of each label as many as a component has in a sample. They may be few among many, so all
/// points are looked at.
pub(super) fn add_labelled<T: Scalar>(
    sample: &mut Sample<T>,
    source: &dyn DataSource<T>,
    known: LabelBlock,
    domains: &[Domain],
) -> Result<()> {
    let (n, mut buffer) = (source.len(), BlockBuf::default());
    if sample.len() as u64 == n || sample.weights.is_some() {
        return Ok(());
    }
    let mut found = vec![0; known.labels];
    for start in (0..n).step_by(BLOCK) {
        let block = read_block(source, start, &mut buffer)?;
        for i in 0..block.len() {
            let label = block.points[(i, known.column)].to_f64();
            let has_weight = block.weights.is_none_or(|weights| weights[i] > 0.0);
            let count = found.get_mut(label as usize).filter(|_| label >= 0.0 && has_weight);
            if let Some(count) = count.filter(|count| **count < POINTS_PER_COMPONENT)
                && is_for(domains, block, i)
            {
                *count += 1;
                sample.take(source, domains, block, i)?;
            }
        }
    }
    Ok(())
}

/// Returns a place in the `k`-th of `wanted` stretches of a total, as the part of the stretch says. Stretches end at whole numbers, so
/// that weights that count points are cut as points are.
fn position(k: u64, wanted: u64, total: f64, part: f64) -> f64 {
    let end = |k: u64| match k == wanted {
        true => total,
        false => (total * k as f64 / wanted as f64).floor(),
    };
    let (low, high) = (end(k), end(k + 1));
    low + (high - low) * part
}

fn read_block<'a, T: Scalar>(
    source: &'a dyn DataSource<T>,
    start: u64,
    buffer: &'a mut BlockBuf<T>,
) -> Result<Block<'a, T>> {
    let count = (source.len() - start).min(BLOCK as u64);
    data::read(source, false, start, count as usize, buffer)
}

/// Sums of the weights of a source up to the end of each block of [`BLOCK`] points.
struct CumulativeWeights {
    ends: Vec<f64>,
    /// What weights are multiplied by: 1 if they count points.
    scale: f64,
    /// The block that a row was last drawn from, and sums of its weights up to each of its points. Rows are drawn in order.
    last: Option<(usize, Vec<f64>)>,
}

impl CumulativeWeights {
    /// Sums the weights of a source, if it has weights. A small total of many points counts no points, and is scaled to their number.
    fn of<T: Scalar>(source: &dyn DataSource<T>, wanted: u64) -> Result<Option<Self>> {
        let (n, mut buffer) = (source.len(), BlockBuf::default());
        let (mut ends, mut total) = (Vec::new(), 0.0);
        for start in (0..n).step_by(BLOCK) {
            let Some(weights) = read_block(source, start, &mut buffer)?.weights else {
                return Ok(None);
            };
            total += weights.iter().sum::<f64>();
            ends.push(total);
        }
        let counts_points = n <= wanted || total >= wanted as f64 || total == 0.0;
        let scale = if counts_points { 1.0 } else { n as f64 / total };
        Ok(Some(Self { ends, scale, last: None }))
    }

    fn total(&self) -> f64 {
        self.scale * self.ends.last().copied().unwrap_or_default()
    }

    /// Returns the row whose share of the weights covers a position.
    fn row_at<T: Scalar>(&mut self, source: &dyn DataSource<T>, position: f64) -> Result<u64> {
        let position = position / self.scale;
        let k = covering(&self.ends, position);
        let (before, start) = (if k == 0 { 0.0 } else { self.ends[k - 1] }, k * BLOCK);
        let sums = match self.last.take() {
            Some((last, sums)) if last == k => sums,
            _ => {
                let mut buffer = BlockBuf::default();
                let weights = read_block(source, start as u64, &mut buffer)?.weights;
                let mut total = 0.0;
                let add = |weight: &f64| {
                    total += weight;
                    total
                };
                weights.unwrap_or_default().iter().map(add).collect()
            }
        };
        let row = (start + covering(&sums, position - before)) as u64;
        self.last = Some((k, sums));
        Ok(row)
    }
}

/// Returns which of some sums, none below the one before, is the first above a position. The last that grows takes what rounding leaves.
fn covering(sums: &[f64], position: f64) -> usize {
    let total = sums.last().copied().unwrap_or_default();
    let last = sums.partition_point(|&sum| sum < total);
    sums.partition_point(|&sum| sum <= position).min(last)
}

fn is_for<T: Scalar>(domains: &[Domain], block: Block<'_, T>, i: usize) -> bool {
    domains.iter().all(|domain| domain.fault(|d| block.points[(i, d)].to_f64()).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Points;
    use crate::rng::stream;

    fn drawn(values: &[f64], weights: Option<Vec<f64>>, wanted: u64) -> Sample<f64> {
        let points = Points::from_rows(values, 1).unwrap();
        let points = match weights {
            Some(weights) => points.with_weights(weights).unwrap(),
            None => points,
        };
        subsample(&points, &[], wanted, false, &mut stream(5, 0)).unwrap()
    }

    #[test]
    fn weights_that_count_points_draw_what_repeated_points_draw() {
        let values: Vec<f64> = (0..20_000).map(f64::from).collect();
        let weights: Vec<f64> = (0..20_000).map(|i| f64::from(i * i % 7 % 4)).collect();
        let repeated: Vec<f64> = (values.iter().zip(&weights))
            .flat_map(|(value, weight)| std::iter::repeat_n(*value, *weight as usize))
            .collect();
        for wanted in [1, 100, 4096, repeated.len() as u64 - 1] {
            let weighted = drawn(&values, Some(weights.clone()), wanted);
            assert_eq!(weighted.values, drawn(&repeated, None, wanted).values, "{wanted}");
            assert!(weighted.weights.is_none());
        }
        let all = drawn(&values, Some(weights.clone()), repeated.len() as u64);
        assert_eq!(all.len(), weights.iter().filter(|weight| **weight > 0.0).count());
    }

    #[test]
    fn rows_of_points_elsewhere_are_those_that_are_drawn_here() {
        let n = 9000;
        let values: Vec<f64> = (0..n).map(f64::from).collect();
        let weights: Vec<f64> = (0..n).map(|i| f64::from(i % 5) * 0.7).collect();
        for weights in [None, Some(weights)] {
            for wanted in [50, 4096, 20_000] {
                let rows = rows_drawn(n as u64, weights.as_deref(), wanted, &mut stream(5, 0));
                let rows: Vec<f64> = rows.unwrap().into_iter().map(|row| row as f64).collect();
                assert_eq!(rows, drawn(&values, weights.clone(), wanted).values, "{wanted}");
            }
        }
    }

    #[test]
    fn points_are_drawn_in_proportion_to_weights_of_any_size() {
        let values: Vec<f64> = (0..10_000).map(f64::from).collect();
        for scale in [1e-9, 0.1, 1.0, 1e9] {
            // The second half weighs three times as much as the first, and every tenth point nothing.
            let weight = |i: usize| match (i % 10, i < 5000) {
                (0, _) => 0.0,
                (_, true) => scale,
                _ => 3.0 * scale,
            };
            let sample = drawn(&values, Some((0..10_000).map(weight).collect()), 4000);
            assert_eq!(sample.len(), 4000, "{scale}");
            assert!(
                sample.values.iter().all(|value| !(*value as usize).is_multiple_of(10)),
                "{scale}"
            );
            let early = sample.values.iter().filter(|value| **value < 5000.0).count();
            assert!(early.abs_diff(1000) < 5, "{early} of 4000 at {scale}");
        }
    }
}
