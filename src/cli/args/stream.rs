//! Options of fits by minibatches, and of checkpoints.

use super::values::{bytes, named, not_negative, positive, seconds};
use super::{CHECKPOINTS, MINIBATCHES};
use crate::data::BadRows;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, Default, Args)]
pub struct StreamArgs {
    /// Number of points of a minibatch, read in random order from any number of points [default: 4096]
    #[arg(long, value_name = "B", help_heading = MINIBATCHES, value_parser = positive)]
    pub batch_size: Option<u64>,
    /// Exponent of the step sizes (t + t0)^-E: above 0.5, at most 1 [default: 0.6]
    #[arg(long, value_name = "E", help_heading = MINIBATCHES, value_parser = not_negative)]
    pub step_exponent: Option<f64>,
    /// Offset t0 of the step sizes [default: 2]
    #[arg(long, value_name = "T0", help_heading = MINIBATCHES, value_parser = not_negative)]
    pub step_offset: Option<f64>,
    /// Lower limit of the step sizes, in force as long as steps gain more than their noise costs; 0 for no limit
    /// [default: the step whose noise costs 0.01 nats per point]
    #[arg(long, value_name = "STEP", help_heading = MINIBATCHES, value_parser = not_negative)]
    pub step_least: Option<f64>,
    /// Maximum number of passes over the points [default: 5]
    #[arg(long, value_name = "N", help_heading = MINIBATCHES, value_parser = positive)]
    pub epochs: Option<u64>,
    /// Part of the steps, counted from the end, whose statistics are averaged [default: 0.3333]
    #[arg(long, value_name = "PART", help_heading = MINIBATCHES, value_parser = not_negative)]
    pub average: Option<f64>,
    /// Number of iterations of batch EM after the last minibatch [default: 0]
    #[arg(long, value_name = "N", help_heading = MINIBATCHES)]
    pub polish: Option<u64>,
    /// Measure the log-likelihood by a full pass after every N records; an epoch has 20 records
    #[arg(long, value_name = "N", help_heading = MINIBATCHES, value_parser = positive)]
    pub audit: Option<u64>,
    /// File of points to measure that log-likelihood on; the fit does not learn from them
    #[arg(long, value_name = "FILE", help_heading = MINIBATCHES, requires = "audit")]
    pub held_out: Option<PathBuf>,
    /// Memory for points and for statistics of chunks, such as 512M or 2G [default: 256M]
    #[arg(long, value_name = "BYTES", help_heading = MINIBATCHES, value_parser = bytes)]
    pub memory: Option<u64>,
    /// Treatment of rows that are no valid point: end with an error, or skip and count them [default: error]
    #[arg(long, value_name = "ACTION", help_heading = MINIBATCHES, value_parser = named([BadRows::Error, BadRows::Skip], bad_rows_name))]
    pub on_bad_row: Option<BadRows>,
    /// File to keep the state of the fit in, so that --resume can continue it
    #[arg(long, value_name = "FILE", help_heading = CHECKPOINTS)]
    pub checkpoint: Option<PathBuf>,
    /// Seconds between checkpoints [default: 60]
    #[arg(long, value_name = "S", help_heading = CHECKPOINTS, requires = "checkpoint", value_parser = seconds)]
    pub checkpoint_every: Option<Duration>,
    /// Continue from the checkpoint if its file exists
    #[arg(long, help_heading = CHECKPOINTS, requires = "checkpoint")]
    pub resume: bool,
}

impl StreamArgs {
    /// Returns the options that only fits by minibatches use, and whether they were typed.
    pub fn given(&self) -> [(&'static str, bool); 11] {
        [
            ("--batch-size", self.batch_size.is_some()),
            ("--step-exponent", self.step_exponent.is_some()),
            ("--step-offset", self.step_offset.is_some()),
            ("--step-least", self.step_least.is_some()),
            ("--epochs", self.epochs.is_some()),
            ("--average", self.average.is_some()),
            ("--polish", self.polish.is_some()),
            ("--audit", self.audit.is_some()),
            ("--held-out", self.held_out.is_some()),
            ("--memory", self.memory.is_some()),
            ("--on-bad-row", self.on_bad_row.is_some()),
        ]
    }
}

fn bad_rows_name(action: BadRows) -> &'static str {
    match action {
        BadRows::Skip => "skip",
        _ => "error",
    }
}
