//! Some points of a source, and splits of a source at random.

use super::DataSource;
use crate::block::{Block, BlockBuf};
use crate::error::{DataError, Error, Result};
use crate::rng;
use crate::scalar::Scalar;

/// Stream of the split's random choices; starts of models use small ones.
const STREAM: u64 = u64::MAX - 1;

/// Selects points of another source, in its order. Rows in messages count the selected points.
///
/// A read goes through all rows of the source between the first and the last point asked for, so this is for points
/// that lie densely; where they are read often, [`load`](super::load) them.
#[derive(Clone, Debug)]
pub struct Subset<'a, T: Scalar> {
    source: &'a dyn DataSource<T>,
    /// Rows of the source, ascending.
    rows: Vec<u64>,
}

/// Splits a source into the points that stay and those that are held out, a `part` of all, chosen by the seed.
///
/// At least one point is on either side.
///
/// # Errors
/// If `part` is not between 0 and 1, or there are fewer than two points.
///
/// # Example
/// ```
/// use entropysum::data::{DataSource, Points, split};
/// let values: Vec<f64> = (0..10).map(f64::from).collect();
/// let points = Points::from_rows(&values, 1)?;
/// let [kept, held_out] = split(&points, 0.2, 42)?;
/// assert_eq!((kept.len(), held_out.len()), (8, 2));
/// # Ok::<(), entropysum::error::Error>(())
/// ```
pub fn split<T: Scalar>(
    source: &dyn DataSource<T>,
    part: f64,
    seed: u64,
) -> Result<[Subset<'_, T>; 2]> {
    let n = source.len();
    if !(part > 0.0 && part < 1.0) {
        let message = format!("the part of points to hold out is {part}, expected 0 < part < 1");
        return Err(Error::Config(message));
    }
    if n < 2 {
        let message = format!("found {n} points, too few to hold some out");
        return Err(DataError::new(source.name(), message).into());
    }
    // Selection sampling (Fan, Muller & Rezucha 1962; Knuth's algorithm S): every subset of this size is as likely.
    let mut left = ((part * n as f64).round() as u64).clamp(1, n - 1);
    let mut rng = rng::stream(seed, STREAM);
    let (mut kept, mut held_out) = (Vec::new(), Vec::new());
    for row in 0..n {
        if rng::below(&mut rng, n - row) < left {
            held_out.push(row);
            left -= 1;
        } else {
            kept.push(row);
        }
    }
    Ok([kept, held_out].map(|rows| Subset { source, rows }))
}

impl<T: Scalar> DataSource<T> for Subset<'_, T> {
    fn name(&self) -> String {
        format!("{} ({} of {} points)", self.source.name(), self.rows.len(), self.source.len())
    }

    fn dim(&self) -> usize {
        self.source.dim()
    }

    fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    fn column_names(&self) -> Option<&[String]> {
        self.source.column_names()
    }

    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        let rows = &self.rows[start as usize..][..count];
        Ok(Block { first: start, ..read_rows(self.source, rows, buffer)? })
    }
}

/// Reads points of a source, with all that lie between them. The rows are ascending.
///
/// # Errors
/// Those of reading.
pub(super) fn read_rows<'a, T: Scalar>(
    source: &dyn DataSource<T>,
    rows: &[u64],
    buffer: &'a mut BlockBuf<T>,
) -> Result<Block<'a, T>> {
    buffer.values.clear();
    buffer.weights.clear();
    let mut is_weighted = false;
    if let (Some(&first), Some(&last)) = (rows.first(), rows.last()) {
        let mut inner = BlockBuf::default();
        let block = super::read(source, false, first, (last - first + 1) as usize, &mut inner)?;
        for &row in rows {
            let i = (row - first) as usize;
            buffer.values.extend(block.points.row(i).iter());
            buffer.weights.extend(block.weights.map(|weights| weights[i]));
        }
        is_weighted = block.weights.is_some();
    }
    Ok(buffer.block(rows.len(), source.dim(), is_weighted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{load, memory::Points};

    #[test]
    fn every_point_is_on_one_side_with_its_weight() {
        let values: Vec<f64> = (0..200).map(f64::from).collect();
        let weights: Vec<f64> = (0..100).map(|i| f64::from(i) + 1.0).collect();
        let points = Points::from_rows(&values, 2).unwrap().with_weights(weights).unwrap();
        let sides = split(&points, 0.25, 7).unwrap();
        assert_eq!((sides[0].rows.len(), sides[1].rows.len()), (75, 25));
        let mut seen = Vec::new();
        for side in &sides {
            let loaded = load(side).unwrap();
            for (row, weight) in loaded.view().row_iter().zip(loaded.weights().unwrap()) {
                assert_eq!((row[1], *weight), (row[0] + 1.0, row[0] / 2.0 + 1.0));
                seen.push(row[0] as u64 / 2);
            }
            // A read from the middle is that part of the whole.
            let mut buffer = BlockBuf::default();
            let block = side.read(3, 5, &mut buffer).unwrap();
            assert_eq!(block.points, loaded.view().subrows(3, 5));
            assert_eq!((block.weights, block.first), (Some(&loaded.weights().unwrap()[3..8]), 3));
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        assert_eq!(sides[1].rows, split(&points, 0.25, 7).unwrap()[1].rows, "the same seed");
        assert_ne!(sides[1].rows, split(&points, 0.25, 8).unwrap()[1].rows, "another one");
    }

    #[test]
    fn each_point_is_held_out_as_often_as_the_others() {
        let points = Points::owned(vec![0.0f64; 10], 1).unwrap();
        let mut counts = [0; 10];
        for seed in 0..2000 {
            let [_, held_out] = split(&points, 0.3, seed).unwrap();
            held_out.rows.iter().for_each(|&row| counts[row as usize] += 1);
        }
        // 600 expected of each, with a standard deviation of 20.5.
        assert!(counts.iter().all(|count| (500..700).contains(count)), "{counts:?}");
    }

    #[test]
    fn what_cannot_be_split_is_refused() {
        let fault = |n: usize, part| {
            let points = Points::owned(vec![0.0f64; n], 1).unwrap();
            split(&points, part, 0).unwrap_err().to_string()
        };
        assert!(fault(1, 0.5).contains("too few to hold some out"));
        for part in [0.0, 1.0, -0.1, f64::NAN] {
            assert!(fault(5, part).contains("expected 0 < part < 1"));
        }
        let points = Points::owned(vec![0.0f64; 2], 1).unwrap();
        for part in [0.01, 0.99] {
            let sides = split(&points, part, 0).unwrap();
            assert_eq!((sides[0].rows.len(), sides[1].rows.len()), (1, 1));
        }
    }
}
