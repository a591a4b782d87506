//! Settings of fits by minibatches, as they were typed.

use crate::cli::args::FitArgs;
use crate::cli::kinds;
use crate::cli::run::size;
use crate::em::{StepSize, StreamConfig};
use crate::error::Result;

/// The settings that were typed, if they are of a fit by minibatches.
pub fn settings(args: &FitArgs) -> Result<Option<StreamConfig>> {
    let Some(algorithm) = kinds::algorithm(args) else { return Ok(None) };
    let (typed, default) = (&args.stream, StreamConfig::default());
    let size_or = |typed: Option<u64>, default| typed.map_or(Ok(default), size);
    Ok(Some(
        StreamConfig::default()
            .algorithm(algorithm)
            .batch_size(size_or(typed.batch_size, default.batch_size)?)
            .step_size(StepSize {
                exponent: typed.step_exponent.unwrap_or(default.step_size.exponent),
                offset: typed.step_offset.unwrap_or(default.step_size.offset),
            })
            .least_step(typed.step_least)
            .epochs(size_or(typed.epochs, default.epochs)?)
            .average(typed.average.unwrap_or(default.average))
            .polish(size_or(typed.polish, default.polish)?)
            .audit(size_or(typed.audit, default.audit)?)
            .memory(typed.memory.unwrap_or(default.memory))
            .bad_rows(typed.on_bad_row.unwrap_or(default.bad_rows)),
    ))
}
