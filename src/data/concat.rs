//! Several sources as one, end to end.

use super::{Columns, DataSource, is_sparse};
use crate::block::{Block, BlockBuf, SparseRows};
use crate::error::{DataError, Result};
use crate::scalar::Scalar;

/// Joins the points of several sources of one dimension, one source after the other.
///
/// ```
/// use entropysum::BlockBuf;
/// use entropysum::data::{Concat, DataSource, Points};
///
/// let parts: Vec<Box<dyn DataSource<f64>>> = vec![
///     Box::new(Points::owned(vec![1.0, 2.0], 1)?),
///     Box::new(Points::owned(vec![3.0], 1)?),
/// ];
/// let all = Concat::new(parts)?;
/// let mut buffer = BlockBuf::default();
/// assert_eq!(all.read(1, 2, &mut buffer)?.points[(1, 0)], 3.0);
/// # Ok::<(), entropysum::error::Error>(())
/// ```
pub struct Concat<T> {
    parts: Vec<Box<dyn DataSource<T>>>,
    /// Where each part begins, and the end.
    starts: Vec<u64>,
    /// Whether all parts are sparse.
    sparse: bool,
    /// Columns of all parts, if all are tables.
    columns: Option<Columns>,
}

impl<T: Scalar> std::fmt::Debug for Concat<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> = self.parts.iter().map(|part| part.name()).collect();
        f.debug_struct("Concat").field("parts", &names).field("starts", &self.starts).finish()
    }
}

impl<T: Scalar> Concat<T> {
    /// Joins sources.
    ///
    /// # Errors
    /// [`DataError`] if there are no sources, or their dimensions differ.
    pub fn new(parts: Vec<Box<dyn DataSource<T>>>) -> Result<Self> {
        let Some(first) = parts.first() else {
            return Err(DataError::new("no files", "expected at least one").into());
        };
        let mut starts = vec![0];
        for part in &parts {
            if part.dim() != first.dim() {
                let message = format!(
                    "points of dimension {}, expected {} as in {}",
                    part.dim(),
                    first.dim(),
                    first.name()
                );
                return Err(DataError::new(part.name(), message).into());
            }
            starts.push(starts.last().copied().unwrap_or_default() + part.len());
        }
        let sparse = parts.iter().all(|part| is_sparse(&**part));
        let mut columns = first.columns().cloned();
        for part in &parts[1..] {
            columns = columns.zip(part.columns()).map(|(mut all, columns)| {
                all.merge(columns);
                all
            });
        }
        Ok(Self { parts, starts, sparse, columns })
    }

    /// The part that has point `row`.
    fn part(&self, row: u64) -> usize {
        self.starts
            .partition_point(|&start| start <= row)
            .saturating_sub(1)
            .min(self.parts.len() - 1)
    }
}

impl<T: Scalar> DataSource<T> for Concat<T> {
    fn name(&self) -> String {
        match &self.parts[..] {
            [only] => only.name(),
            [first, rest @ ..] => format!("{} and {} more", first.name(), rest.len()),
            [] => String::new(),
        }
    }

    fn dim(&self) -> usize {
        self.parts[0].dim()
    }

    fn len(&self) -> u64 {
        self.starts[self.parts.len()]
    }

    fn column_names(&self) -> Option<&[String]> {
        self.parts[0].column_names()
    }

    fn columns(&self) -> Option<&Columns> {
        self.columns.as_ref()
    }

    fn skipped(&self) -> u64 {
        self.parts.iter().map(|part| part.skipped()).sum()
    }

    fn place(&self, row: u64) -> (String, u64) {
        let part = self.part(row);
        self.parts[part].place(row - self.starts[part])
    }

    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        let part = self.part(start);
        if start + count as u64 <= self.starts[part + 1] {
            let block = self.parts[part].read(start - self.starts[part], count, buffer)?;
            return Ok(Block { first: start, ..block });
        }
        // Over a border: rows are copied together. The memory of one part is needed for that, which happens once a file.
        let dim = self.dim();
        let mut inner = BlockBuf::default();
        let (mut values, mut weights) = (std::mem::take(&mut buffer.values), None);
        values.resize(values.len().max(count * dim), T::ZERO);
        let (mut done, mut part) = (0, part);
        while done < count {
            let at = start + done as u64;
            let here = (count - done).min((self.starts[part + 1] - at) as usize);
            if here > 0 {
                let block = super::read(
                    &*self.parts[part],
                    false,
                    at - self.starts[part],
                    here,
                    &mut inner,
                )?;
                for i in 0..here {
                    for d in 0..dim {
                        values[(done + i) * dim + d] = block.points[(i, d)];
                    }
                }
                if let Some(some) = block.weights {
                    weights.get_or_insert_with(|| vec![1.0; count])[done..done + here]
                        .copy_from_slice(some);
                }
            }
            done += here;
            part += 1;
        }
        buffer.values = values;
        let weighted = weights.is_some();
        buffer.weights = weights.unwrap_or_default();
        Ok(Block { first: start, ..buffer.block(count, dim, weighted) })
    }

    fn read_sparse<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Option<Block<'a, T>> {
        if !self.sparse {
            return None;
        }
        let part = self.part(start);
        if start + count as u64 <= self.starts[part + 1] {
            let within = start - self.starts[part];
            let block = self.parts[part].read_sparse(within, count, buffer)?;
            return Some(Block { first: start, ..block });
        }
        // Over a border, as above.
        let BlockBuf { values, weights, starts, columns, .. } = buffer;
        starts.clear();
        starts.push(0);
        columns.clear();
        values.clear();
        weights.clear();
        let (mut inner, mut weighted) = (BlockBuf::default(), false);
        let end = start + count as u64;
        for (part, source) in self.parts.iter().enumerate() {
            let first = start.max(self.starts[part]);
            let here = end.min(self.starts[part + 1]).saturating_sub(first) as usize;
            if here == 0 {
                continue;
            }
            let block = source.read_sparse(first - self.starts[part], here, &mut inner)?;
            let rows = block.sparse?;
            for i in 0..here {
                for (d, value) in rows.row(i) {
                    columns.push(d as u32);
                    values.push(value);
                }
                starts.push(values.len());
            }
            weighted |= block.weights.is_some();
            match block.weights {
                Some(some) => weights.extend_from_slice(some),
                None => weights.resize(weights.len() + here, 1.0),
            }
        }
        let rows = SparseRows::new(starts, columns, values, self.dim());
        Some(Block::of_sparse(rows, weighted.then_some(&weights[..]), start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::memory::Points;
    use crate::data::shuffle::PointRange;
    use crate::data::sparse::SparsePoints;

    fn part(range: std::ops::Range<u32>) -> Box<dyn DataSource<f64>> {
        let values = range.flat_map(|i| [f64::from(i), 0.5]).collect();
        Box::new(Points::owned(values, 2).unwrap().named("part"))
    }

    #[test]
    fn every_stretch_is_that_of_the_parts_end_to_end() {
        let weighted = Points::owned(vec![7.0, 0.5, 8.0, 0.5], 2).unwrap();
        let weighted = weighted.with_weights(vec![2.0, 3.0]).unwrap();
        let parts = vec![part(0..3), part(3..3), part(3..7), Box::new(weighted)];
        let all = Concat::new(parts).unwrap();
        assert_eq!(all.len(), 9);
        let mut buffer = BlockBuf::default();
        for start in 0..9 {
            for count in 0..=9 - start {
                let block = all.read(start as u64, count, &mut buffer).unwrap();
                let first: Vec<f64> = block.points.col(0).iter().copied().collect();
                let expected: Vec<f64> = (start..start + count).map(|i| i as f64).collect();
                assert_eq!((first, block.first), (expected, start as u64));
                if let Some(weights) = block.weights {
                    let expected = |i: usize| [1.0, 2.0, 3.0][i.saturating_sub(6)];
                    assert!((0..count).all(|i| weights[i] == expected(start + i)));
                } else {
                    assert!(start + count <= 7);
                }
            }
        }
        assert_eq!(all.place(5), ("part".to_owned(), 2));
        assert_eq!(all.place(8), ("memory".to_owned(), 1));
        assert_eq!(all.name(), "part and 3 more");
    }

    #[test]
    fn sparse_parts_are_sparse_end_to_end() {
        let part = |rows: std::ops::Range<usize>| -> SparsePoints<f64> {
            let counts = rows.clone().map(|i| i % 3);
            let starts = std::iter::once(0).chain(counts.scan(0, |sum, n| {
                *sum += n;
                Some(*sum)
            }));
            let values = rows.flat_map(|i| (0..i % 3).map(move |d| (d as u32, i as f64 + 0.5)));
            let (columns, values) = values.unzip();
            SparsePoints::from_csr(starts.collect(), columns, values, 2).unwrap()
        };
        let weighted = part(7..9).with_weights(vec![2.0, 3.0]).unwrap();
        let parts: Vec<Box<dyn DataSource<f64>>> = vec![
            Box::new(part(0..3)),
            Box::new(part(3..3)),
            Box::new(part(3..7)),
            Box::new(weighted),
        ];
        let all = Concat::new(parts).unwrap();
        let (mut buffer, mut other) = (BlockBuf::default(), BlockBuf::default());
        for start in 0..9 {
            for count in 0..=9 - start {
                let dense = all.read(start as u64, count, &mut buffer).unwrap();
                let sparse = all.read_sparse(start as u64, count, &mut other).unwrap();
                assert_eq!((sparse.len(), sparse.dim(), sparse.first), (count, 2, start as u64));
                assert_eq!(sparse.weights, dense.weights);
                let mut found = vec![0.0; 2 * count];
                sparse.for_each(|i, d, value| found[2 * i + d] = value);
                dense.for_each(|i, d, value| assert_eq!(found[2 * i + d], value));
            }
        }
        let section = PointRange::new(&all, 2..8);
        let block = section.read_sparse(1, 4, &mut buffer).unwrap();
        let mut found = Vec::new();
        block.for_each(|i, d, value| found.push((i, d, value)));
        assert_eq!(found, [(1, 0, 4.5), (2, 0, 5.5), (2, 1, 5.5)]);
        // One dense part, and all are read as dense.
        let all = Concat::new(vec![Box::new(part(0..3)), super::tests::part(0..2)]).unwrap();
        assert!(!is_sparse(&all));
    }

    #[test]
    fn parts_must_have_one_dimension() {
        let odd = Box::new(Points::owned(vec![1.0], 1).unwrap().named("odd"));
        let fault = Concat::new(vec![part(0..2), odd]).unwrap_err().to_string();
        assert_eq!(fault, "odd: points of dimension 1, expected 2 as in part");
        assert!(Concat::<f64>::new(Vec::new()).is_err());
    }
}
