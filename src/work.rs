//! Pieces of an M-step, and the trait of those who do them.
//!
//! A long M-step is cut into pieces that do not depend on each other. The driver of a fit decides who does the pieces: the
//! threads of an [`Executor`](crate::Executor), or the calling thread by itself. So models know no threads.

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
