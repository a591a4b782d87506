//! Reading ahead: the next window is filled on a thread of its own while the last one is worked on.
//!
//! Reading keeps pace with the work. Where the disk is fast it takes a fifth of the processor time, and in one go that would be
//! taken from threads that others wait for at the end of every batch: with two processors one of them was idle for a third
//! of the time.

use super::DataSource;
use super::shuffle::{BatchOrder, Sharing, ShuffledWindow, SkipsRow, StreamPosition};
use crate::error::{Error, Result};
use crate::scalar::Scalar;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, PoisonError};

/// Windows in memory: one that is worked on, one that is filled.
pub const WINDOWS: usize = 2;

/// The windows of some epochs, in order.
#[derive(Debug)]
pub struct Windows<'a, T> {
    filled: Receiver<Result<ShuffledWindow<T>>>,
    empty: Sender<ShuffledWindow<T>>,
    current: Option<ShuffledWindow<T>>,
    pace: &'a Pace,
    sharing: Option<&'a Sharing<'a>>,
}

/// How many chunks may be read by now.
#[derive(Debug)]
pub struct Pace {
    state: Mutex<Allowed>,
    changed: Condvar,
    chunks_per_window: u64,
}

#[derive(Debug)]
struct Allowed {
    /// Chunks, from the first window on; `None` when nobody wants windows any more.
    chunks: Option<u64>,
    /// Windows that were handed out.
    windows: u64,
}

impl Pace {
    fn change(&self, change: impl FnOnce(&mut Allowed)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// Reports the number of batches of the window that are done. The next window is read by the time that three quarters are.
    pub fn done(&self, batches: u64, of: u64) {
        let part = (4.0 / 3.0 * (batches + 1) as f64 / of.max(1) as f64).min(1.0);
        let next = (part * self.chunks_per_window as f64).ceil() as u64;
        self.change(|it| it.chunks = Some(it.windows * self.chunks_per_window + next));
    }

    /// Waits until a chunk may be read; false if it is not wanted any more.
    fn wait(&self, chunk: u64) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let early = |it: &mut Allowed| it.chunks.is_some_and(|chunks| chunks <= chunk);
        let state = self.changed.wait_while(state, early);
        state.unwrap_or_else(PoisonError::into_inner).chunks.is_some()
    }
}

impl<T> Drop for Windows<'_, T> {
    fn drop(&mut self) {
        self.pace.change(|it| it.chunks = None);
    }
}

impl<'a, T: Scalar> Windows<'a, T> {
    /// The next window, once it is read; the one before goes back to be filled again. `None` at the end.
    ///
    /// # Errors
    /// Those of [`ShuffledWindow::fill`]; after an error there are no more windows.
    pub fn next_window(&mut self) -> Option<Result<&ShuffledWindow<T>>> {
        if let Some(used) = self.current.take() {
            // At the end there is nobody to take it.
            let _ = self.empty.send(used);
        }
        // All of it is wanted now.
        self.pace.change(|it| {
            it.windows += 1;
            it.chunks = Some(it.windows * self.pace.chunks_per_window);
        });
        let window = self.filled.recv().ok()?;
        let window = match self.sharing {
            None => window,
            Some(sharing) => sharing.complete(window),
        };
        Some(window.map(|window| {
            self.pace.done(0, window.n_batches());
            &*self.current.insert(window)
        }))
    }

    /// Who works on a window says here how far it is.
    pub fn pace(&self) -> &'a Pace {
        self.pace
    }
}

/// Calls `work` with the windows of all epochs before `epochs`, from a place on, while another thread reads ahead. Processes that share the
/// reading exchange what they have read when they turn to a window.
///
/// # Errors
/// Those of `work`; [`Error::Config`] if the operating system refuses to start a thread.
pub fn with_read_ahead<T: Scalar, R>(
    source: &dyn DataSource<T>,
    order: &BatchOrder,
    from: StreamPosition,
    epochs: u64,
    is_bad: Option<SkipsRow<'_, T>>,
    sharing: Option<&Sharing<'_>>,
    work: &mut dyn FnMut(&mut Windows<'_, T>) -> Result<R>,
) -> Result<R> {
    let (fill, filled) = channel();
    let (empty, take) = channel::<ShuffledWindow<T>>();
    for _ in 0..WINDOWS {
        let window = sharing.map(|sharing| ShuffledWindow::of_rows(sharing.own.clone()));
        empty.send(window.unwrap_or_default()).expect("the receiver is here");
    }
    let pace = &Pace {
        state: Mutex::new(Allowed { chunks: Some(order.chunks_per_window()), windows: 0 }),
        changed: Condvar::new(),
        chunks_per_window: order.chunks_per_window(),
    };
    std::thread::scope(|scope| {
        let read = move || {
            let mut windows = 0;
            for epoch in from.epoch..epochs {
                let chunks = order.chunks(epoch);
                let first = if epoch == from.epoch { from.window } else { 0 };
                for window in first..order.n_windows() {
                    // When nobody waits for windows any more, the channels are closed.
                    let Ok(mut memory) = take.recv() else { return };
                    let place = StreamPosition { epoch, window, batch: 0 };
                    let before = windows * order.chunks_per_window();
                    let go_on = |chunk| pace.wait(before + chunk as u64);
                    windows += 1;
                    let result = memory.fill(source, order, &chunks, place, is_bad, &go_on);
                    let ends = !matches!(result, Ok(true));
                    if fill.send(result.map(|_| memory)).is_err() || ends {
                        return;
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("entropysum-reader".to_owned())
            .spawn_scoped(scope, read)
            .map_err(|fault| Error::Config(format!("cannot start a thread to read: {fault}")))?;
        work(&mut Windows { filled, empty, current: None, pace, sharing })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, BlockBuf};
    use crate::data::memory::Points;
    use crate::error::DataError;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A source that fails from a row on.
    struct Cut(Points<'static, f64>, u64);

    impl DataSource<f64> for Cut {
        fn name(&self) -> String {
            "cut".to_owned()
        }
        fn dim(&self) -> usize {
            1
        }
        fn len(&self) -> u64 {
            DataSource::<f64>::len(&self.0)
        }
        fn read<'a>(
            &'a self,
            start: u64,
            count: usize,
            buffer: &'a mut BlockBuf<f64>,
        ) -> Result<Block<'a, f64>> {
            if start + count as u64 > self.1 {
                return Err(DataError::new("cut", "the file ends here").at(self.1, None).into());
            }
            self.0.read(start, count, buffer)
        }
    }

    fn points(n: usize) -> Points<'static, f64> {
        Points::owned((0..n).map(|i| i as f64).collect(), 1).unwrap()
    }

    #[test]
    fn windows_come_in_order_from_any_place_on() {
        let source = points(5000);
        let order = BatchOrder::minibatches::<f64>(&source, 100, 16_000, 7, true);
        assert!(order.n_windows() > 3);
        let collect = |from: StreamPosition| {
            with_read_ahead(&source, &order, from, 3, None, None, &mut |windows: &mut Windows<
                '_,
                f64,
            >| {
                let mut all = Vec::new();
                while let Some(window) = windows.next_window() {
                    let window = window?;
                    all.push((window.place(), window.batch(0).points[(0, 0)]));
                }
                Ok(all)
            })
            .unwrap()
        };
        let all = collect(StreamPosition::default());
        assert_eq!(all.len() as u64, 3 * order.n_windows());
        assert!(all.is_sorted_by_key(|(place, _)| *place));
        let from = StreamPosition { epoch: 1, window: 2, batch: 5 };
        assert_eq!(collect(from), all[(order.n_windows() + 2) as usize..]);
    }

    #[test]
    fn a_fault_comes_after_the_windows_before_it() {
        let source = Cut(points(5000), 4000);
        let order = BatchOrder::minibatches::<f64>(&source, 100, 16_000, 7, false);
        let (mut rows, mut fault) = (0, None);
        with_read_ahead(
            &source,
            &order,
            StreamPosition::default(),
            1,
            None,
            None,
            &mut |windows: &mut Windows<'_, f64>| {
                while let Some(window) = windows.next_window() {
                    match window {
                        Ok(window) => rows += window.len(),
                        Err(error) => fault = Some(error.to_string()),
                    }
                }
                Ok(())
            },
        )
        .unwrap();
        assert!(rows > 0 && rows <= 4000, "{rows}");
        assert!(fault.unwrap().starts_with("cut: row 4000: the file ends here"));
    }

    #[test]
    fn reading_keeps_pace_with_the_work() {
        /// Counts what is read of it.
        struct Counted(Points<'static, f64>, AtomicU64);
        impl DataSource<f64> for Counted {
            fn name(&self) -> String {
                "counted".to_owned()
            }
            fn dim(&self) -> usize {
                1
            }
            fn len(&self) -> u64 {
                DataSource::<f64>::len(&self.0)
            }
            fn read<'a>(
                &'a self,
                start: u64,
                count: usize,
                buffer: &'a mut BlockBuf<f64>,
            ) -> Result<Block<'a, f64>> {
                self.1.fetch_add(count as u64, Ordering::SeqCst);
                self.0.read(start, count, buffer)
            }
        }
        let source = Counted(points(100_000), AtomicU64::new(0));
        let order = BatchOrder::minibatches::<f64>(&source, 100, 160_000, 7, true);
        with_read_ahead(
            &source,
            &order,
            StreamPosition::default(),
            1,
            None,
            None,
            &mut |windows: &mut Windows<'_, f64>| {
                let (pace, mut used) = (windows.pace(), 0);
                while let Some(window) = windows.next_window() {
                    let (len, all) = {
                        let window = window?;
                        (window.len() as u64, window.n_batches())
                    };
                    used += len;
                    for done in 0..=all {
                        let part = (4.0 / 3.0 * (done + 1) as f64 / all as f64).min(1.0);
                        let ahead = source.1.load(Ordering::SeqCst) - used;
                        assert!(ahead as f64 <= part * order.window_points() as f64 + 100.0);
                        pace.done(done, all);
                    }
                }
                assert_eq!(used, 100_000);
                Ok(())
            },
        )
        .unwrap();
    }

    #[test]
    fn who_stops_early_waits_for_nobody() {
        let source = points(5000);
        let order = BatchOrder::minibatches::<f64>(&source, 100, 16_000, 7, true);
        let first = with_read_ahead(
            &source,
            &order,
            StreamPosition::default(),
            u64::MAX,
            None,
            None,
            &mut |windows: &mut Windows<'_, f64>| Ok(windows.next_window().unwrap()?.len()),
        );
        assert!(first.unwrap() > 0);
    }
}
