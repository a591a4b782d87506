//! Reading ahead: the next window is filled on a thread of its own while the last one is worked on.

use super::DataSource;
use super::shuffle::{IsBad, Order, Place, Window};
use crate::error::{Error, Result};
use crate::scalar::Scalar;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Windows in memory: one that is worked on, one that is filled.
pub const WINDOWS: usize = 2;

/// The windows of some epochs, in order.
#[derive(Debug)]
pub struct Windows<T> {
    filled: Receiver<Result<Window<T>>>,
    empty: Sender<Window<T>>,
    current: Option<Window<T>>,
}

impl<T: Scalar> Windows<T> {
    /// The next window, once it is read; the one before goes back to be filled again. `None` at the end.
    ///
    /// # Errors
    /// Those of [`Window::fill`]; after an error there are no more windows.
    pub fn next_window(&mut self) -> Option<Result<&Window<T>>> {
        if let Some(used) = self.current.take() {
            // At the end there is nobody to take it.
            let _ = self.empty.send(used);
        }
        match self.filled.recv() {
            Err(_) => None,
            Ok(Err(fault)) => Some(Err(fault)),
            Ok(Ok(window)) => Some(Ok(self.current.insert(window))),
        }
    }
}

/// Calls `work` with the windows of all epochs before `epochs`, from a place on, while another thread reads ahead.
///
/// # Errors
/// Those of `work`; [`Error::Config`] if the operating system refuses to start a thread.
pub fn with_read_ahead<T: Scalar, S: DataSource<T> + ?Sized, R>(
    source: &S,
    order: &Order,
    from: Place,
    epochs: u64,
    is_bad: Option<IsBad<'_, T>>,
    work: impl FnOnce(&mut Windows<T>) -> Result<R>,
) -> Result<R> {
    let (fill, filled) = channel();
    let (empty, take) = channel::<Window<T>>();
    for _ in 0..WINDOWS {
        empty.send(Window::default()).expect("the receiver is here");
    }
    std::thread::scope(|scope| {
        let read = move || {
            for epoch in from.epoch..epochs {
                let chunks = order.chunks(epoch);
                let first = if epoch == from.epoch { from.window } else { 0 };
                for window in first..order.n_windows() {
                    // When nobody waits for windows any more, the channels are closed.
                    let Ok(mut memory) = take.recv() else { return };
                    let place = Place { epoch, window, batch: 0 };
                    let result = memory.fill(source, order, &chunks, place, is_bad);
                    let failed = result.is_err();
                    if fill.send(result.map(|()| memory)).is_err() || failed {
                        return;
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("entropysum-reader".to_owned())
            .spawn_scoped(scope, read)
            .map_err(|fault| Error::Config(format!("cannot start a thread to read: {fault}")))?;
        work(&mut Windows { filled, empty, current: None })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, BlockBuf};
    use crate::data::memory::Points;
    use crate::error::DataError;

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
        let order = Order::minibatches::<f64>(&source, 100, 16_000, 7, true);
        assert!(order.n_windows() > 3);
        let collect = |from: Place| {
            with_read_ahead(&source, &order, from, 3, None, |windows| {
                let mut all = Vec::new();
                while let Some(window) = windows.next_window() {
                    let window = window?;
                    all.push((window.place(), window.batch(0).points[(0, 0)]));
                }
                Ok(all)
            })
            .unwrap()
        };
        let all = collect(Place::default());
        assert_eq!(all.len() as u64, 3 * order.n_windows());
        assert!(all.is_sorted_by_key(|(place, _)| *place));
        let from = Place { epoch: 1, window: 2, batch: 5 };
        assert_eq!(collect(from), all[(order.n_windows() + 2) as usize..]);
    }

    #[test]
    fn a_fault_comes_after_the_windows_before_it() {
        let source = Cut(points(5000), 4000);
        let order = Order::minibatches::<f64>(&source, 100, 16_000, 7, false);
        let (mut rows, mut fault) = (0, None);
        with_read_ahead(&source, &order, Place::default(), 1, None, |windows| {
            while let Some(window) = windows.next_window() {
                match window {
                    Ok(window) => rows += window.len(),
                    Err(error) => fault = Some(error.to_string()),
                }
            }
            Ok(())
        })
        .unwrap();
        assert!(rows > 0 && rows <= 4000, "{rows}");
        assert!(fault.unwrap().starts_with("cut: row 4000: the file ends here"));
    }

    #[test]
    fn who_stops_early_waits_for_nobody() {
        let source = points(5000);
        let order = Order::minibatches::<f64>(&source, 100, 16_000, 7, true);
        let first = with_read_ahead(&source, &order, Place::default(), u64::MAX, None, |windows| {
            Ok(windows.next_window().unwrap()?.len())
        });
        assert!(first.unwrap() > 0);
    }
}
