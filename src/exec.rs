//! Threads: the only file that imports rayon.
//!
//! Work is cut into *lanes*. Their number depends on the data and the model, never on the number of threads. Each
//! lane owns its scratch memory and its sums, and goes through its blocks in order. Lanes are merged in order, so results
//! have the same bits on any number of threads.

use crate::error::{Error, Result};
pub use crate::kernels::dispatch::Simd;
use crate::work::{Piece, Workers};
use std::sync::{Mutex, PoisonError};

/// A pool of threads that belongs to this crate, and the instruction set of its kernels.
///
/// Neither rayon's nor faer's global settings are read or changed: these belong to the host program.
#[derive(Debug)]
pub struct Executor {
    pool: Option<rayon::ThreadPool>,
    simd: Simd,
}

impl Executor {
    /// Starts `threads` threads; `None` takes the number of the machine's processors.
    ///
    /// # Errors
    /// [`Error::Config`] if `threads` is 0, or the operating system refuses to start them.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        let threads = match threads {
            Some(0) => return Err(Error::Config("threads must be at least 1".into())),
            Some(threads) => threads,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let pool = if threads == 1 {
            None
        } else {
            let pool = rayon::ThreadPoolBuilder::new()
                // The thread that has the work done is one of them.
                .num_threads(threads - 1)
                .thread_name(|i| format!("entropysum-{i}"))
                .build();
            Some(pool.map_err(|e| Error::Config(format!("cannot start {threads} threads: {e}")))?)
        };
        Ok(Self { pool, simd: Simd::detect() })
    }

    /// Sets another instruction set for the kernels.
    pub fn with_simd(mut self, simd: Simd) -> Self {
        self.simd = simd;
        self
    }

    /// Returns the number of threads.
    pub fn threads(&self) -> usize {
        1 + self.pool.as_ref().map_or(0, rayon::ThreadPool::current_num_threads)
    }

    /// Returns the instruction set of the kernels.
    pub fn simd(&self) -> Simd {
        self.simd
    }

    /// Calls `work` for each lane, in parallel. The calling thread takes lanes too: between two calls it need not wake
    /// another thread and go to sleep.
    ///
    /// # Errors
    /// Returns the error of the first lane, in their order, that has an error.
    pub fn for_each<L: Send>(
        &self,
        lanes: &mut [L],
        work: impl Fn(usize, &mut L) -> Result<()> + Sync,
    ) -> Result<()> {
        let n_lanes = lanes.len();
        let queue = Mutex::new(lanes.iter_mut().enumerate());
        self.drain(n_lanes, &|| {
            let (index, lane) = queue.lock().unwrap_or_else(PoisonError::into_inner).next()?;
            Some((index, work(index, lane)))
        })
    }

    /// Calls `next` from all threads until it returns `None`. It does the work of the next lane, and returns its number and
    /// result. Compiled once: `for_each` is compiled for each type of lanes, and threads are the larger part.
    fn drain(
        &self,
        n_lanes: usize,
        next: &(dyn Fn() -> Option<(usize, Result<()>)> + Sync),
    ) -> Result<()> {
        let threads = self.threads().min(n_lanes);
        let first_fault = Mutex::new(None::<(usize, Error)>);
        let take_part = || {
            while let Some((index, result)) = next() {
                let Err(fault) = result else { continue };
                let mut first = first_fault.lock().unwrap_or_else(PoisonError::into_inner);
                if first.as_ref().is_none_or(|(before, _)| index < *before) {
                    *first = Some((index, fault));
                }
            }
        };
        match &self.pool {
            Some(pool) if threads > 1 => pool.in_place_scope(|scope| {
                for _ in 1..threads {
                    scope.spawn(|_| take_part());
                }
                take_part();
            }),
            _ => take_part(),
        }
        match first_fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some((_, fault)) => Err(fault),
        }
    }
}

impl Workers for Executor {
    fn work(&self, pieces: Vec<Piece<'_>>) {
        let mut lanes: Vec<Option<Piece<'_>>> = pieces.into_iter().map(Some).collect();
        let done = self.for_each(&mut lanes, |_, piece| {
            if let Some(piece) = piece.take() {
                piece();
            }
            Ok(())
        });
        done.expect("pieces have no errors");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Alone;

    #[test]
    fn the_first_error_in_order_is_returned_on_any_number_of_threads() {
        for threads in [1, 2, 7] {
            let executor = Executor::new(Some(threads)).unwrap();
            let mut lanes = vec![0; 20];
            let result = executor.for_each(&mut lanes, |i, lane| {
                *lane = i + 1;
                if i == 5 || i == 13 { Err(Error::Config(format!("lane {i}"))) } else { Ok(()) }
            });
            assert_eq!(result.unwrap_err().to_string(), "lane 5");
            assert_eq!(lanes[4], 5);
            assert_eq!(executor.threads(), threads);
        }
        assert!(Executor::new(Some(0)).is_err());
    }

    #[test]
    fn every_piece_of_work_is_done_once_by_threads_and_alone() {
        let executors = [1, 2, 7].map(|threads| Executor::new(Some(threads)).unwrap());
        let all: [&dyn Workers; 4] = [&Alone, &executors[0], &executors[1], &executors[2]];
        for workers in all {
            for n in [0, 1, 50] {
                let mut counts = vec![0; n];
                let mut pieces: Vec<Piece<'_>> = Vec::new();
                for count in &mut counts {
                    pieces.push(Box::new(move || *count += 1));
                }
                workers.work(pieces);
                assert_eq!(counts, vec![1; n]);
            }
        }
    }
}
