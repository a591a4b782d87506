//! Pieces of work that are independent of each other, and who does them.

/// A piece of work that needs no other.
pub type Piece<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Whoever does pieces of work: the threads of an [`Executor`](crate::exec::Executor), or the caller [alone](Alone).
///
/// Models cut long M-steps into pieces and know nothing of threads; each piece writes what is its own, so the results do not
/// depend on who does them.
pub trait Workers: Sync {
    /// Does all pieces, in any order.
    fn work(&self, pieces: Vec<Piece<'_>>);
}

/// The caller, who does one piece after another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Workers for Alone {
    fn work(&self, pieces: Vec<Piece<'_>>) {
        pieces.into_iter().for_each(|piece| piece());
    }
}
