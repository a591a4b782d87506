//! Points in files of several ranks, each of which reads its own: those of rank 0 come first, then those of rank 1.
//!
//! A rank asks others for rows that are not in its files. It does so for the rows of a sample, or where the share of a pass is not the
//! one of its files.

use super::{Columns, Concat, DataSource, forward::forward, is_sparse};
use crate::block::{Block, BlockBuf};
use crate::codec;
use crate::error::{DataError, Error, Result};
use crate::ranks::{Ranks, decode_error, encode_error, out_of_step};
use crate::scalar::Scalar;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Bytes of points in an answer at most.
const ANSWER_BYTES: usize = 4 << 20;

/// What one rank asks another about its points.
#[derive(Serialize, Deserialize)]
enum Question {
    Description,
    Rows(u64, u64),
    Place(u64),
}

/// What ranks must have in common, and the sizes of their parts.
#[derive(Clone, Serialize, Deserialize)]
struct Description {
    name: String,
    dim: u64,
    len: u64,
    skipped: u64,
    is_sparse: bool,
    leaves_out: bool,
    /// Names and levels of the columns.
    columns: Option<(Vec<String>, Vec<Vec<String>>)>,
}

impl Description {
    fn of<T: Scalar>(source: &dyn DataSource<T>) -> Self {
        let levels = |it: &Columns| it.order.iter().map(|&k| it.all[k].levels.clone()).collect();
        Self {
            name: source.name(),
            dim: source.dim() as u64,
            len: source.len(),
            skipped: source.skipped(),
            is_sparse: is_sparse(source),
            leaves_out: !source.incomplete().is_empty(),
            columns: source.columns().map(|it| (it.names(), levels(it))),
        }
    }
}

/// The points of one rank.
struct Part<T: Scalar> {
    ranks: Arc<dyn Ranks>,
    rank: usize,
    /// The number of the answers about these points.
    number: usize,
    description: Description,
    /// The points themselves, if they are those of this rank.
    own: Option<Arc<dyn DataSource<T>>>,
}

impl<T: Scalar> Part<T> {
    fn ask<V: DeserializeOwned>(&self, question: &Question) -> Result<V> {
        let message = self.ranks.ask(self.rank, self.number, &codec::encode(question))?;
        let answer: Result<V, Vec<u8>> = codec::decode(&message).ok_or_else(out_of_step)?;
        answer.map_err(|fault| decode_error(&fault))
    }
}

/// Answers a question of another rank.
fn answer<T: Scalar>(source: &dyn DataSource<T>, question: &[u8]) -> Vec<u8> {
    fn said<V: Serialize>(result: Result<V>) -> Vec<u8> {
        codec::encode(&result.map_err(|fault| encode_error(&fault)))
    }
    match codec::decode(question) {
        Some(Question::Description) => said(Ok(Description::of(source))),
        Some(Question::Place(row)) if row < source.len() => said(Ok(source.place(row))),
        Some(Question::Rows(start, count))
            if start.checked_add(count).is_some_and(|end| end <= source.len()) =>
        {
            let mut buffer = BlockBuf::default();
            let block = super::read(source, false, start, count as usize, &mut buffer);
            said(block.map(|block| {
                let values: Vec<T> =
                    block.points.row_iter().flat_map(|row| row.iter()).copied().collect();
                (bytemuck::cast_slice::<T, u8>(&values).to_vec(), block.weights.map(<[_]>::to_vec))
            }))
        }
        _ => said::<()>(Err(out_of_step())),
    }
}

impl<T: Scalar> DataSource<T> for Part<T> {
    fn name(&self) -> String {
        format!("rank {}: {}", self.rank, self.description.name)
    }

    fn dim(&self) -> usize {
        self.description.dim as usize
    }

    fn len(&self) -> u64 {
        self.description.len
    }

    fn skipped(&self) -> u64 {
        self.description.skipped
    }

    fn place(&self, row: u64) -> (String, u64) {
        let found = match &self.own {
            Some(own) => Ok(own.place(row)),
            None => self.ask(&Question::Place(row)),
        };
        let (name, row) = found.unwrap_or_else(|_| (self.description.name.clone(), row));
        (format!("rank {}: {name}", self.rank), row)
    }

    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        if let Some(own) = &self.own {
            return own.read(start, count, buffer);
        }
        let dim = self.dim();
        let per_answer = (ANSWER_BYTES / (size_of::<T>() * dim).max(1)).max(1);
        buffer.values.resize(count * dim, T::ZERO);
        buffer.weights.clear();
        for done in (0..count).step_by(per_answer) {
            let here = per_answer.min(count - done);
            let question = Question::Rows(start + done as u64, here as u64);
            let (values, weights): (Vec<u8>, Option<Vec<f64>>) = self.ask(&question)?;
            let to: &mut [u8] =
                bytemuck::cast_slice_mut(&mut buffer.values[done * dim..][..here * dim]);
            if to.len() != values.len() || weights.as_ref().is_some_and(|it| it.len() != here) {
                return Err(out_of_step());
            }
            to.copy_from_slice(&values);
            buffer.weights.extend(weights.into_iter().flatten());
        }
        let is_weighted = !buffer.weights.is_empty();
        Ok(buffer.block(count, dim, is_weighted))
    }
}

/// The points of all ranks, with the columns of this one.
struct OfAllRanks<T: Scalar> {
    all: Concat<T>,
    columns: Option<Columns>,
    names: Option<Vec<String>>,
}

impl<T: Scalar> DataSource<T> for OfAllRanks<T> {
    forward!(all: name, dim, len, skipped, place);

    fn column_names(&self) -> Option<&[String]> {
        self.names.as_deref()
    }

    fn columns(&self) -> Option<&Columns> {
        self.columns.as_ref()
    }

    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        self.all.read(start, count, buffer)
    }
}

/// Joins the points of all ranks, of which each has its own. All ranks call it together, and must stay until all are done.
///
/// # Errors
/// [`DataError`] if the points of ranks have other columns than those of rank 0, are sparse, or if rows with missing values were left
/// out; if ranks cannot ask each other.
pub(crate) fn of_all_ranks<T: Scalar>(
    own: Box<dyn DataSource<T>>,
    ranks: &Arc<dyn Ranks>,
) -> Result<Box<dyn DataSource<T>>> {
    let own: Arc<dyn DataSource<T>> = Arc::from(own);
    let served = own.clone();
    let number = ranks.serve(Arc::new(move |question| answer(&*served, question)))?;
    let mut parts: Vec<Part<T>> = Vec::new();
    for rank in 0..ranks.size() {
        let mut part = Part {
            ranks: ranks.clone(),
            rank,
            number,
            description: Description::of(&*own),
            own: (rank == ranks.rank()).then(|| own.clone()),
        };
        if part.own.is_none() {
            part.description = part.ask(&Question::Description)?;
        }
        parts.push(part);
    }
    let refuse = |part: &Part<T>, message: &str| -> Result<_> {
        Err(Error::from(DataError::new(part.name(), message)))
    };
    for part in &parts {
        let (it, first) = (&part.description, &parts[0].description);
        if it.is_sparse {
            return refuse(part, "sparse points cannot be in files of single ranks");
        }
        if it.leaves_out {
            let message = "rows with missing values cannot be left out of files of single ranks; leave them out of the files";
            return refuse(part, message);
        }
        if it.columns != first.columns {
            let message = "the names or levels of its columns are not those of rank 0: choose the same by --columns, and write levels as numbers";
            return refuse(part, message);
        }
    }
    let parts: Vec<Box<dyn DataSource<T>>> =
        parts.into_iter().map(|part| Box::new(part) as Box<dyn DataSource<T>>).collect();
    let names = own.column_names().map(<[_]>::to_vec);
    Ok(Box::new(OfAllRanks { all: Concat::new(parts)?, columns: own.columns().cloned(), names }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Points;
    use crate::ranks::LocalRanks;

    fn on_ranks<R: Send>(size: usize, work: impl Fn(usize, Arc<dyn Ranks>) -> R + Sync) -> Vec<R> {
        std::thread::scope(|scope| {
            let work = &work;
            let start =
                |ranks: LocalRanks| scope.spawn(move || work(ranks.rank(), Arc::new(ranks)));
            let threads: Vec<_> = LocalRanks::new(size).into_iter().map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    fn own_points(rank: usize) -> Points<'static, f32> {
        let values = (0..6 * rank).map(|i| (100 * rank + i) as f32).collect();
        let points = Points::owned(values, 2).unwrap().named("points");
        match rank {
            2 => {
                points.with_weights((0..6).map(|i| 0.5 + f64::from(i)).collect::<Vec<_>>()).unwrap()
            }
            _ => points,
        }
    }

    #[test]
    fn each_rank_sees_the_points_of_all_in_the_order_of_ranks() {
        let parts: Vec<Box<dyn DataSource<f32>>> =
            vec![Box::new(own_points(0)), Box::new(own_points(1)), Box::new(own_points(2))];
        let expected = Concat::new(parts).unwrap();
        on_ranks(3, |rank, ranks| {
            let all = of_all_ranks::<f32>(Box::new(own_points(rank)), &ranks).unwrap();
            assert_eq!((all.len(), all.dim()), (9, 2));
            assert_eq!(all.place(4), ("rank 2: points".to_owned(), 1));
            let (mut one, mut other) = (BlockBuf::default(), BlockBuf::default());
            for start in 0..9 {
                for count in 1..=9 - start {
                    let found = all.read(start as u64, count, &mut one).unwrap();
                    let expected = expected.read(start as u64, count, &mut other).unwrap();
                    assert_eq!(found.points, expected.points);
                    assert_eq!(found.weights, expected.weights);
                    assert_eq!(found.first, expected.first);
                }
            }
        });
    }

    #[test]
    fn parts_that_do_not_fit_are_refused_by_all() {
        let faults = on_ranks(3, |rank, ranks| {
            let points = Points::owned(vec![1.0f64; 6], 2 + rank / 2).unwrap().named("points");
            of_all_ranks::<f64>(Box::new(points), &ranks).unwrap_err().to_string()
        });
        let expected = "rank 2: points: points of dimension 3, expected 2 as in rank 0: points";
        assert_eq!(faults, [expected; 3]);
    }
}
