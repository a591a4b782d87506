//! The history of a fit as a table.

use super::IterRecord;
use std::io::{self, Write};

/// Names of the columns, in order.
pub const COLUMNS: [&str; 15] = [
    "iteration",
    "seconds",
    "points_seen",
    "entropy_sum",
    "posterior_entropy",
    "prior_entropy",
    "hidden_entropy",
    "observable_entropy",
    "base_measure",
    "lower_bound",
    "gap",
    "log_likelihood",
    "delta",
    "change",
    "active_components",
];

/// Names of the further columns of fits by minibatches.
pub const MINIBATCH_COLUMNS: [&str; 6] =
    ["step_size", "effective_points", "standard_error", "improvement", "remaining", "audit"];

/// Names of the further columns of models that tell both halves of the gap.
pub const HALVES_COLUMNS: [&str; 3] = ["gap_prior", "gap_noise", "sampling_error"];

/// Holds the records of a fit, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// One record an iteration.
    pub records: Vec<IterRecord>,
}

impl History {
    /// Writes the history as CSV with a header; numbers are written so that they read back to the same bits.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_csv(&self, writer: &mut dyn Write) -> io::Result<()> {
        let by_minibatches = self.records.iter().any(|record| record.minibatch.is_some());
        write!(writer, "{}", COLUMNS.join(","))?;
        if by_minibatches {
            write!(writer, ",{}", MINIBATCH_COLUMNS.join(","))?;
        }
        let with_halves = self.records.iter().any(|record| record.gap_halves.is_some());
        if with_halves {
            write!(writer, ",{}", HALVES_COLUMNS.join(","))?;
        }
        writeln!(writer)?;
        for r in &self.records {
            let sum = &r.entropy_sum;
            write!(
                writer,
                "{},{:.6},{},{},{},{},{},{},{},{},{:e},{},{:e},{:e},{}",
                r.iteration,
                r.seconds,
                r.points_seen,
                sum.total(),
                sum.posterior,
                sum.prior,
                sum.hidden,
                sum.observable,
                sum.base_measure,
                r.lower_bound,
                r.gap(),
                r.log_likelihood,
                r.delta(),
                r.change,
                r.active_components
            )?;
            if by_minibatches {
                let minibatch = r.minibatch.unwrap_or_default();
                // What is not known is left empty.
                let known = |value: f64| match r.minibatch {
                    Some(_) if !value.is_nan() => format!("{value:e}"),
                    _ => String::new(),
                };
                write!(
                    writer,
                    ",{},{},{},{},{},{}",
                    known(minibatch.step_size),
                    known(minibatch.effective_points),
                    known(minibatch.standard_error),
                    known(minibatch.improvement),
                    known(minibatch.remaining),
                    known(minibatch.audit)
                )?;
            }
            match r.gap_halves {
                Some(half) => {
                    write!(writer, ",{:e},{:e},{:e}", half.prior, half.noise, half.sampling_error)?;
                }
                None if with_halves => write!(writer, ",,,")?,
                None => {}
            }
            writeln!(writer)?;
        }
        Ok(())
    }
}
