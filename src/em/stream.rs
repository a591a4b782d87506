//! Settings of fits by minibatches over a source of any size: shuffled reading, stepwise or incremental EM, records, a stopping
//! rule, averaging, and closing iterations of batch EM.

use super::config::Config;
use super::step_size::StepSize;
use crate::data::DataSource;
use crate::data::prefetch::WINDOWS;
use crate::data::shuffle::{BadRows, BatchOrder};
use crate::error::{Error, Result};
use crate::scalar::Scalar;
use serde::{Deserialize, Serialize};

/// How statistics of minibatches become parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamAlgorithm {
    /// Running statistics: [`Stepwise`](super::Stepwise).
    #[default]
    Stepwise,
    /// Statistics of chunks, replaced one by one: [`Incremental`](super::Incremental).
    Incremental,
}

impl StreamAlgorithm {
    /// Name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stepwise => "stepwise",
            Self::Incremental => "incremental",
        }
    }
}

/// Nats per point of log-likelihood that the noise of parameters may cost while steps are held up, at most.
///
/// `Σ γ_t` counts iterations of batch EM. Where that takes hundreds, steps that only follow `t^-κ` stop long before: from
/// the same starts the photograph of `examples/stream.rs` was 0.06 nats short of batch EM after ten epochs, and 0.02 after
/// forty. What noise the steps leave goes with the averages at the end. At 1e-2 statistics remember 25 points for each
/// parameter; at 5e-3 the photograph took twice the epochs, and ended in poorer optima.
pub const NOISE: f64 = 1e-2;

/// The least step is no larger than this by itself: statistics always remember some batches.
pub const LARGEST_LEAST_STEP: f64 = 0.5;

/// Settings of a fit by minibatches, besides those of [`Config`], of which `tol`, `max_time`, `regularization` and `seed` hold.
/// Each field has a setter of its name.
///
/// ```
/// use entropysum::em::StreamConfig;
///
/// let config = StreamConfig::default().batch_size(1024).epochs(3);
/// assert_eq!((config.batch_size, config.epochs, config.polish), (1024, 3, 0));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StreamConfig {
    /// The algorithm.
    pub algorithm: StreamAlgorithm,
    /// Points of a minibatch, or of a chunk of incremental EM.
    pub batch_size: usize,
    /// Step sizes of stepwise EM.
    pub step_size: StepSize,
    /// Steps stay at this or above as long as they gain more than they cost. `None` for the step whose noise costs 0.01 nats
    /// a point, 0.5 at most; 0 for steps that fall as their exponent says. Steps never exceed `2 B / (10 C + B)`, so that running
    /// statistics of batches of B points hold ten points for each of C components.
    pub least_step: Option<f64>,
    /// Passes over the points at most.
    pub epochs: usize,
    /// Points before the first M-step of stepwise EM; `None` for ten a component and dimension, a quarter of all at most, but ten a
    /// component in any case.
    pub warm_up: Option<u64>,
    /// Part of the steps, at the end, over which stepwise EM averages; 0 for none.
    pub average: f64,
    /// Iterations of batch EM at the end.
    pub polish: usize,
    /// Flat windows running that end a stepwise fit. A window is flat if its entropy sum rises no more than `tol` and noise.
    pub patience: usize,
    /// Records of an epoch.
    pub records: usize,
    /// Measure the log-likelihood by a pass after each so many records; 0 for never.
    pub audit: usize,
    /// Memory, in bytes, for points on their way and for the statistics of chunks.
    pub memory: u64,
    /// Whether points are shuffled.
    pub shuffle: bool,
    /// What to do with points that the model is not for.
    pub bad_rows: BadRows,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            algorithm: StreamAlgorithm::Stepwise,
            batch_size: 4096,
            step_size: StepSize::default(),
            least_step: None,
            epochs: 5,
            warm_up: None,
            average: 1.0 / 3.0,
            polish: 0,
            patience: 3,
            records: 20,
            audit: 0,
            memory: 256 << 20,
            shuffle: true,
            bad_rows: BadRows::Error,
        }
    }
}

impl StreamConfig {
    setters! {
        algorithm: StreamAlgorithm,
        batch_size: usize,
        step_size: StepSize,
        least_step: Option<f64>,
        epochs: usize,
        warm_up: Option<u64>,
        average: f64,
        polish: usize,
        patience: usize,
        records: usize,
        audit: usize,
        memory: u64,
        shuffle: bool,
        bad_rows: BadRows,
    }

    pub(super) fn check(&self) -> Result<()> {
        self.step_size.check()?;
        for (name, value) in [
            ("batch_size", self.batch_size),
            ("epochs", self.epochs),
            ("records", self.records),
            ("patience", self.patience),
        ] {
            if value == 0 {
                return Err(Error::Config(format!("{name} must be at least 1")));
            }
        }
        if let Some(least) = self.least_step.filter(|least| !(0.0..=1.0).contains(least)) {
            return Err(Error::Config(format!(
                "least_step is {least}, expected a number from 0 to 1"
            )));
        }
        if !(0.0..1.0).contains(&self.average) {
            let average = self.average;
            return Err(Error::Config(format!(
                "average is {average}, expected a part of the steps below 1"
            )));
        }
        Ok(())
    }

    /// Returns the order in which a fit reads its points.
    pub(super) fn order<T: Scalar>(
        &self,
        source: &dyn DataSource<T>,
        config: &Config,
    ) -> BatchOrder {
        let batch = self.batch_size as u64;
        match self.algorithm {
            StreamAlgorithm::Stepwise => {
                let bytes = self.memory / WINDOWS as u64;
                BatchOrder::minibatches::<T>(source, batch, bytes, config.seed, self.shuffle)
            }
            StreamAlgorithm::Incremental => {
                BatchOrder::fixed_chunks::<T>(source, batch, config.seed, self.shuffle)
            }
        }
    }
}
