//! A source that can be stopped from outside.

use super::forward::forward;
use super::{DataSource, is_sparse};
use crate::block::{Block, BlockBuf};
use crate::error::{Error, Result};
use crate::scalar::Scalar;
use std::sync::atomic::{AtomicBool, Ordering};

/// Reads another source until a flag is set: whatever goes through the points ends within a block.
///
/// A fit then ends with the model of its last M-step and [`StopReason::Interrupted`](crate::StopReason::Interrupted). What has no
/// result by then ends with [`Error::Interrupted`]. A fit by minibatches reads ahead; its observer should ask for the end too.
///
/// ```
/// use entropysum::data::{Points, Stoppable};
/// use entropysum::family::registry;
/// use entropysum::{Config, Executor, MixtureSpec, StopReason, fit, observe};
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// let values: Vec<f64> = (0..200).map(|i| f64::from(i % 10) + if i < 100 { 0.0 } else { 5.0 }).collect();
/// let (points, stop) = (Points::from_rows(&values, 1)?, AtomicBool::new(false));
/// let points = Stoppable::new(&points, &stop);
/// let spec = MixtureSpec::new(registry::build("gaussian-full", 1)?, 2);
/// // Another thread would set the flag in the middle of an E-step.
/// let mut watch = observe(|record| stop.store(record.iteration == 3, Ordering::Relaxed));
/// let config = Config::default().tol(0.0);
/// let fit = fit(&spec, &points, &Executor::new(Some(1))?, &config, &mut watch)?;
/// assert_eq!(fit.stop_reason, StopReason::Interrupted);
/// assert_eq!(fit.history.records.len(), 3);
/// # Ok::<(), entropysum::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Stoppable<'a, T: Scalar> {
    source: &'a dyn DataSource<T>,
    stop: &'a AtomicBool,
}

impl<'a, T: Scalar> Stoppable<'a, T> {
    /// Reads `source` until `stop` is set.
    pub fn new(source: &'a dyn DataSource<T>, stop: &'a AtomicBool) -> Self {
        Self { source, stop }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl<T: Scalar> DataSource<T> for Stoppable<'_, T> {
    forward!(source: name, dim, len, skipped, place, column_names, columns, incomplete);

    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        if self.is_stopped() {
            return Err(Error::Interrupted);
        }
        self.source.read(start, count, buffer)
    }

    /// Sparse points have no errors: from the flag on, the source is asked for dense ones, which has them.
    fn read_sparse<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Option<Block<'a, T>> {
        if count == 0 && self.is_stopped() && is_sparse(self.source) {
            return None;
        }
        self.source.read_sparse(start, count, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, Points, SparsePoints};

    #[test]
    fn a_stopped_source_ends_every_read() {
        let dense = Points::from_rows(&[1.0, 2.0, 3.0], 1).unwrap();
        let sparse = SparsePoints::from_csr(vec![0, 1, 1], vec![0], vec![4.0], 1).unwrap();
        let stop = AtomicBool::new(false);
        let sources: [&dyn DataSource<f64>; 2] = [&dense, &sparse];
        for source in sources {
            stop.store(false, Ordering::Relaxed);
            let source = Stoppable::new(source, &stop);
            let mut buffer = BlockBuf::default();
            assert_eq!(data::read(&source, true, 1, 1, &mut buffer).unwrap().len(), 1);
            stop.store(true, Ordering::Relaxed);
            let fault = data::read(&source, true, 1, 1, &mut buffer).unwrap_err();
            assert!(matches!(fault, Error::Interrupted), "{fault}");
        }
    }
}
