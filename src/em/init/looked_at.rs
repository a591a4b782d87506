//! Rows that a fit looks at before its first E-step.

use super::labels::rows_of_start;
use crate::data::{identity, resolution};
use crate::em::config::Config;
use crate::error::Result;

/// Returns the rows that a fit looks at before its first E-step, ascending: those of fresh starts of so many components, and those
/// that tell how values are rounded and which points they are.
///
/// # Errors
/// If a weight is no finite number of at least 0.
pub fn rows_looked_at(
    len: u64,
    weights: Option<&[f64]>,
    dim: usize,
    n_components: Option<usize>,
    config: &Config,
) -> Result<Vec<u64>> {
    let mut rows: Vec<u64> = identity::rows_looked_at(len).collect();
    rows.extend(resolution::rows_looked_at(dim, len));
    if let Some(n_components) = n_components {
        for run in 0..config.n_init as u64 {
            rows.extend(rows_of_start(len, weights, dim, n_components, config.seed, run)?);
        }
    }
    rows.sort_unstable();
    rows.dedup();
    Ok(rows)
}
