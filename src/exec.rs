//! Threads: the only file that imports rayon.
//!
//! Work is cut into *lanes*. Their number depends on the data and the model, never on the number of threads. Each
//! lane owns its scratch memory and its sums, and goes through its blocks in order. Lanes are merged in order, so results
//! have the same bits on any number of threads. So it is with ranks: each takes some of the lanes.

use crate::codec;
use crate::error::{Error, Result};
pub use crate::kernels::dispatch::Simd;
use crate::pairwise::{AnySums, InOrder, Sums, Tree, into_type, of_type_mut, share};
use crate::ranks::{Ranks, out_of_step};
use crate::work::{Piece, Workers};
use bytemuck::Pod;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A pool of threads that belongs to this crate, and the instruction set of its kernels.
///
/// Neither rayon's nor faer's global settings are read or changed: these belong to the host program.
#[derive(Debug)]
pub struct Executor {
    pool: Option<rayon::ThreadPool>,
    simd: Simd,
    ranks: Option<Arc<dyn Ranks>>,
    /// Messages to all ranks so far; the same number on each, if they are in step.
    told: AtomicU64,
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
        Ok(Self { pool, simd: Simd::detect(), ranks: None, told: AtomicU64::new(0) })
    }

    /// Sets another instruction set for the kernels.
    pub fn with_simd(mut self, simd: Simd) -> Self {
        self.simd = simd;
        self
    }

    /// Shares passes over points with other processes. All ranks must do the same with the same settings, and have access to the same
    /// points. Results have the bits of one process.
    ///
    /// All ranks then compute with the least instruction set among them: others would round otherwise.
    ///
    /// # Errors
    /// If the ranks cannot be reached, or run another version of this crate.
    pub fn with_ranks(mut self, ranks: Arc<dyn Ranks>) -> Result<Self> {
        self.ranks = Some(ranks);
        let version = env!("CARGO_PKG_VERSION");
        if self.agree(version.to_owned())? != version {
            return Err(Error::Config(
                "the ranks run different versions of entropysum: start the same program on all"
                    .to_owned(),
            ));
        }
        let best = Simd::available().map(|(level, _)| level as u8).max();
        let least = self.gather(best.into_iter().collect())?.into_iter().min();
        if least < best {
            let mut common = Simd::available().filter(|(level, _)| Some(*level as u8) == least);
            let fault =
                "the ranks have no instruction set in common: start them on machines of one kind";
            self.simd = common.next().ok_or_else(|| Error::Config(fault.to_owned()))?.1;
        }
        Ok(self)
    }

    /// Returns the processes that share passes, if there are several.
    pub fn ranks(&self) -> Option<&dyn Ranks> {
        self.ranks.as_deref().filter(|ranks| ranks.size() > 1)
    }

    /// Returns the lanes of this process among so many.
    pub(crate) fn own_lanes(&self, n_lanes: u64) -> Range<u64> {
        share(self.ranks(), n_lanes)
    }

    /// Returns the value of rank 0, on all ranks.
    ///
    /// # Errors
    /// If a rank cannot be reached, or is elsewhere in its program.
    pub(crate) fn agree<V: Serialize + DeserializeOwned>(&self, own: V) -> Result<V> {
        let Some(ranks) = self.ranks() else { return Ok(own) };
        let number = self.told.fetch_add(1, Ordering::Relaxed);
        let mut message = codec::encode(&(number, own));
        ranks.broadcast(&mut message)?;
        let told = codec::decode::<(u64, V)>(&message).filter(|told| told.0 == number);
        told.map(|(_, first)| first).ok_or_else(out_of_step)
    }

    /// Returns what all ranks say, in their order, on all ranks.
    ///
    /// # Errors
    /// As [`agree`](Self::agree).
    pub(crate) fn gather<V: Pod + Send + Sync>(&self, said: Vec<V>) -> Result<Vec<V>> {
        self.gather_or_fail(Ok(said))
    }

    /// The same, unless a rank has a fault.
    ///
    /// # Errors
    /// The fault of the first rank that has one, on all ranks.
    pub(crate) fn gather_or_fail<V: Pod + Send + Sync>(
        &self,
        said: Result<Vec<V>>,
    ) -> Result<Vec<V>> {
        let Some(ranks) = self.ranks() else { return said };
        let empty = InOrder::<V>(Vec::new());
        let tree = Tree::new(ranks.size() as u64, &empty);
        let fault = said.map(|said| tree.put(ranks.rank() as u64, Box::new(InOrder(said)))).err();
        Ok(into_type::<InOrder<V>>(self.total(tree, fault)?).0)
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

    /// The same, shared among the ranks: each works on its share of the lanes. Then all ranks have what every lane came to, by messages that
    /// `write` makes and `read` takes; it tells whether a message fits.
    ///
    /// # Errors
    /// As [`for_each`](Self::for_each), on all ranks.
    pub(crate) fn for_each_of_ranks<L: Send>(
        &self,
        lanes: &mut [L],
        work: impl Fn(usize, &mut L) -> Result<()> + Sync,
        write: impl Fn(&L) -> Vec<u8>,
        read: impl Fn(&mut L, &[u8]) -> bool,
    ) -> Result<()> {
        let own = self.own_lanes(lanes.len() as u64);
        let own = own.start as usize..own.end as usize;
        let done = self.for_each(&mut lanes[own.clone()], |k, lane| work(own.start + k, lane));
        if self.ranks().is_none() {
            return done;
        }
        let said = lanes[own.clone()].iter().flat_map(|lane| {
            let message = write(lane);
            [&(message.len() as u64).to_le_bytes()[..], &message].concat()
        });
        let told = self.gather_or_fail(done.map(|()| said.collect()))?;
        let mut rest = &told[..];
        for (index, lane) in lanes.iter_mut().enumerate() {
            let (length, after) = rest.split_first_chunk::<8>().ok_or_else(out_of_step)?;
            let length = u64::from_le_bytes(*length) as usize;
            let (message, after) = after.split_at_checked(length).ok_or_else(out_of_step)?;
            if !own.contains(&index) && !read(lane, message) {
                return Err(out_of_step());
            }
            rest = after;
        }
        Ok(())
    }

    /// Does the work of `n_lanes` lanes, in parallel and shared among the ranks, and adds up their sums in pairs. The bits depend on
    /// the number of lanes alone.
    ///
    /// `work` gets scratch memory, sums without points like `empty`, and the number of a lane. Scratch memory is taken from `memory`
    /// or made by `new`, one for each thread, and comes back to `memory`.
    ///
    /// # Errors
    /// Returns the error of the first lane, in their order, that has an error, on all ranks.
    pub(crate) fn sum<W: Send, S: Sums>(
        &self,
        n_lanes: u64,
        empty: &S,
        memory: &mut Vec<W>,
        new: impl Fn() -> W + Sync,
        work: impl Fn(&mut W, &mut S, u64) -> Result<()> + Sync,
    ) -> Result<S> {
        let memory = Mutex::new(memory);
        let total = self.sum_any(n_lanes, empty, &|sums, lane| {
            let spare = memory.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut scratch = spare.unwrap_or_else(&new);
            let result = work(&mut scratch, of_type_mut(sums), lane);
            memory.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
            result
        })?;
        Ok(into_type(total))
    }

    fn sum_any(
        &self,
        n_lanes: u64,
        empty: &dyn AnySums,
        work: &(dyn Fn(&mut dyn AnySums, u64) -> Result<()> + Sync),
    ) -> Result<Box<dyn AnySums>> {
        let lanes = self.own_lanes(n_lanes);
        let (count, queue) = ((lanes.end - lanes.start) as usize, Mutex::new(lanes));
        let tree = Tree::new(n_lanes, empty);
        let has_failed = AtomicBool::new(false);
        let done = self.drain(count, &|| {
            // Lanes before a fault have been taken already: the first fault in their order is found.
            if has_failed.load(Ordering::Relaxed) {
                return None;
            }
            let lane = queue.lock().unwrap_or_else(PoisonError::into_inner).next()?;
            let mut sums = tree.leaf();
            let result = work(&mut *sums, lane);
            match &result {
                Ok(()) => tree.put(lane, sums),
                Err(_) => has_failed.store(true, Ordering::Relaxed),
            }
            Some((lane as usize, result))
        });
        self.total(tree, done.err())
    }

    /// The same for lanes that use all threads: one after the other.
    ///
    /// # Errors
    /// As [`sum`](Self::sum).
    pub(crate) fn sum_in_turn<S: Sums>(
        &self,
        n_lanes: u64,
        empty: &S,
        mut work: impl FnMut(&mut S, u64) -> Result<()>,
    ) -> Result<S> {
        let tree = Tree::new(n_lanes, empty);
        let done = self.own_lanes(n_lanes).try_for_each(|lane| {
            let mut sums = tree.leaf();
            work(of_type_mut(&mut *sums), lane)?;
            tree.put(lane, sums);
            Ok(())
        });
        Ok(into_type(self.total(tree, done.err())?))
    }

    fn total(&self, tree: Tree<'_>, fault: Option<Error>) -> Result<Box<dyn AnySums>> {
        match (self.ranks(), fault) {
            (None, None) => Ok(tree.into_total()),
            (None, Some(fault)) => Err(fault),
            (Some(ranks), fault) => {
                let number = self.told.fetch_add(1, Ordering::Relaxed);
                tree.into_total_of_ranks(ranks, number, fault)
            }
        }
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
