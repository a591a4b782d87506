//! Holds points against what a model accepts, and names the first point at fault.

use crate::block::Block;
use crate::data::DataSource;
use crate::data::identity::Identity;
use crate::error::{DataError, Result};
use crate::exec::Executor;
use crate::family::Domain;
use crate::model::GenerativeModel;
use crate::scalar::Scalar;

/// Refuses a block with a point that the model does not accept.
pub(crate) fn check_points<T: Scalar, M: GenerativeModel>(
    model: &M,
    source: &dyn DataSource<T>,
    block: Block<'_, T>,
) -> Result<(), DataError> {
    check_domains(&model.domains(), source, block)
}

/// Refuses a block with a point outside the domains. Values that sparse points do not store are zeros, which all families of
/// sparse points accept.
pub(crate) fn check_domains<T: Scalar>(
    domains: &[Domain],
    source: &dyn DataSource<T>,
    block: Block<'_, T>,
) -> Result<(), DataError> {
    let at = |i: usize, column, message| {
        let (name, row) = source.place(block.first + i as u64);
        Err(DataError::new(name, message).at(row, column))
    };
    for i in 0..block.len() * usize::from(!domains.is_empty()) {
        if let Some(rows) = block.sparse {
            for (d, value) in rows.row(i) {
                let fault = |domain: &Domain| {
                    let column = Domain { columns: d..d + 1, ..domain.clone() };
                    column.fault(|_| value.to_f64())
                };
                let own = domains.iter().find(|domain| domain.columns.contains(&d));
                if let Some((column, message)) = own.and_then(fault) {
                    return at(i, column, message);
                }
            }
            continue;
        }
        let row = block.points.row(i).try_as_row_major();
        if row.is_some_and(|row| domains.iter().all(|domain| domain.holds(row.as_slice()))) {
            continue;
        }
        let value = |d: usize| block.points[(i, d)].to_f64();
        if let Some((column, message)) = domains.iter().find_map(|domain| domain.fault(value)) {
            return at(i, column, message);
        }
    }
    Ok(())
}

/// Refuses points that are other ones on other ranks: each would learn from its own. All ranks call it together.
pub(crate) fn check_ranks<T: Scalar>(
    source: &dyn DataSource<T>,
    executor: &Executor,
) -> Result<()> {
    if executor.ranks().is_none() {
        return Ok(());
    }
    let digest = Identity::of(source).digest().to_le_bytes();
    let digests = executor.gather(digest.to_vec())?;
    let (digests, _) = digests.as_chunks::<8>();
    match digests.iter().position(|other| *other != digests[0]) {
        None => Ok(()),
        Some(rank) => {
            let message = format!(
                "rank {rank} sees other points than rank 0, or cannot read them; all ranks need the same files at the same paths"
            );
            Err(DataError::new(source.name(), message).into())
        }
    }
}

/// Finds the point that made the log-evidence of a block NaN or infinite.
pub(crate) fn first_fault<T: Scalar>(
    source: &dyn DataSource<T>,
    domains: &[Domain],
    block: Block<'_, T>,
) -> DataError {
    let missing = domains.iter().any(|domain| domain.missing);
    for i in 0..block.len() {
        // Sparse points are finite from the start.
        for d in 0..block.points.ncols() {
            let value = block.points[(i, d)];
            if !(value.is_finite() || missing && value.to_f64().is_nan()) {
                let (name, row) = source.place(block.first + i as u64);
                return DataError::new(
                    name,
                    format!(
                        "the value is {value} in {}, expected a finite number within its range",
                        T::NAME
                    ),
                )
                .at(row, Some(d));
            }
        }
    }
    let (name, row) = source.place(block.first);
    DataError::new(
        name,
        format!(
            "the log-evidence of a point among the {} from this row on overflows {}; values are too large or too small",
            block.len(),
            T::NAME
        ),
    )
    .at(row, None)
}
