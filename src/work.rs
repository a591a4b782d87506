//! Pieces of an M-step, and the trait of those who do them.
//!
//! A long M-step is cut into pieces that do not depend on each other. The driver of a fit decides who does the pieces: the
//! threads of an [`Executor`](crate::Executor), or the calling thread by itself. So models know no threads.

use std::ops::Range;

/// A piece of an M-step. It writes results of its own and reads no results of others.
pub type Piece<'a> = Box<dyn FnOnce() + Send + 'a>;

/// A pool of threads that does the pieces of an M-step.
///
/// The results do not depend on the pool, since each piece has its own.
pub trait Workers: Sync {
    /// Does all pieces, in any order, and returns after the last.
    fn work(&self, pieces: Vec<Piece<'_>>);
}

/// The calling thread as a pool: it does the pieces one after another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Workers for Alone {
    fn work(&self, pieces: Vec<Piece<'_>>) {
        pieces.into_iter().for_each(|piece| piece());
    }
}

/// Returns how many components a thread works on at a time, by the operations that each takes: some tens of microseconds of work.
pub(crate) fn components_per_piece(operations: usize) -> usize {
    ((1 << 15) / operations.max(1)).clamp(1, 1024)
}

/// Returns about how many operations it takes to factorise the second moments of a component: a column at a time, if these are more
/// than squares.
pub(crate) fn operations_of_factors(n_moments: usize, dim: usize) -> usize {
    n_moments * if n_moments > dim { dim } else { 1 }
}

/// Cuts items into pieces of `per_piece` and calls `visit` with each and the number of its first item, on the threads of `workers`.
pub(crate) fn for_pieces<V: Send>(
    workers: &dyn Workers,
    items: &mut [V],
    per_piece: usize,
    visit: impl Fn(usize, &mut [V]) + Sync,
) {
    let visit = &visit;
    let pieces = items.chunks_mut(per_piece).enumerate();
    let piece = |(k, items)| Box::new(move || visit(k * per_piece, items)) as Piece<'_>;
    workers.work(pieces.map(piece).collect());
}

/// Returns `value(i)` for each `i` below `n`, in pieces of `per_piece` on the threads of `workers`.
pub(crate) fn map<V: Send + Default>(
    workers: &dyn Workers,
    n: usize,
    per_piece: usize,
    value: impl Fn(usize) -> V + Sync,
) -> Vec<V> {
    let mut values: Vec<V> = std::iter::repeat_with(V::default).take(n).collect();
    for_pieces(workers, &mut values, per_piece, |first, values| {
        values.iter_mut().enumerate().for_each(|(k, to)| *to = value(first + k));
    });
    values
}

/// Fills `n` rows of `width` numbers, in pieces of `per_piece` rows on the threads of `workers`.
pub(crate) fn map_rows(
    workers: &dyn Workers,
    (n, width): (usize, usize),
    per_piece: usize,
    fill: impl Fn(usize, &mut [f64]) + Sync,
) -> Vec<f64> {
    let mut rows = vec![0.0; n * width];
    for_pieces(workers, &mut rows, (per_piece * width).max(1), |first, rows| {
        let rows = rows.chunks_exact_mut(width).enumerate();
        rows.for_each(|(k, row)| fill(first / width + k, row));
    });
    rows
}

/// Returns the ranges of `per_piece` numbers each that make up `0..n`.
pub(crate) fn pieces(n: usize, per_piece: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(per_piece).map(move |first| first..n.min(first + per_piece))
}
