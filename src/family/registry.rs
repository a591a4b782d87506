//! Families by name: one line each.

use super::{Covariance, ExponentialFamily, Gaussian};
use crate::error::{Error, Result};
use std::sync::Arc;

type Build = fn(usize) -> Arc<dyn ExponentialFamily>;

/// Every family: its name on the command line and in files, and how to build it for D dimensions.
const FAMILIES: &[(&str, Build)] = &[
    ("gaussian-full", |dim| Arc::new(Gaussian::new(Covariance::Full, dim))),
    ("gaussian-tied", |dim| Arc::new(Gaussian::new(Covariance::Tied, dim))),
    ("gaussian-diag", |dim| Arc::new(Gaussian::new(Covariance::Diag, dim))),
    ("gaussian-spherical", |dim| Arc::new(Gaussian::new(Covariance::Spherical, dim))),
    ("gaussian-tied-diag", |dim| Arc::new(Gaussian::new(Covariance::TiedDiag, dim))),
    ("gaussian-tied-spherical", |dim| Arc::new(Gaussian::new(Covariance::TiedSpherical, dim))),
];

/// Names of all families, in the order of the registry.
pub fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(name, _)| *name)
}

/// The family of that name for points of `dim` dimensions.
///
/// # Errors
/// Names the families there are where none has that name.
///
/// ```
/// let family = entropysum::family::registry::build("gaussian-diag", 4)?;
/// assert_eq!(family.dim(), 4);
/// assert!(entropysum::family::registry::build("gaussian-diagonal", 4).is_err());
/// # Ok::<(), entropysum::error::Error>(())
/// ```
pub fn build(name: &str, dim: usize) -> Result<Arc<dyn ExponentialFamily>> {
    if dim == 0 {
        return Err(Error::Model("points need at least one dimension".into()));
    }
    match FAMILIES.iter().find(|(known, _)| *known == name) {
        Some((_, build)) => Ok(build(dim)),
        None => {
            let known: Vec<_> = names().collect();
            Err(Error::Model(format!(
                "no model is called {name:?}; there are {}",
                known.join(", ")
            )))
        }
    }
}
