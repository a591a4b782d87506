//! Known parameters, which are given and not learned: trials, shapes, locations.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// Holds the known parameters that a family needs beside its dimension: the trials of a binomial, the shape of a Weibull.
///
/// Each parameter has a single value, or a value for each column.
///
/// ```
/// use entropysum::family::{KnownParameters, registry};
///
/// let known = KnownParameters::default().with("trials", vec![16.0]);
/// let family = registry::build_known("binomial", 64, &known)?;
/// assert_eq!(family.known().get("trials").unwrap().len(), 64);
/// assert!(registry::build("binomial", 64).is_err());
/// # Ok::<(), entropysum::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnownParameters(BTreeMap<String, Vec<f64>>);

impl KnownParameters {
    /// Adds a parameter.
    pub fn with(mut self, name: impl Into<String>, values: Vec<f64>) -> Self {
        self.0.insert(name.into(), values);
        self
    }

    /// Returns the values of a parameter.
    pub fn get(&self, name: &str) -> Option<&[f64]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[f64])> {
        self.0.iter().map(|(name, values)| (name.as_str(), values.as_slice()))
    }

    /// Says whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns a value for each of `dim` columns.
    ///
    /// # Errors
    /// [`Error::Model`] if the parameter is missing, has another number of values, or has a value that is not finite.
    pub fn columns(&self, family: &str, name: &str, dim: usize) -> Result<Vec<f64>> {
        let invalid = |message: String| Err(Error::Model(format!("{family}: {message}")));
        let values = match self.get(name) {
            None => {
                return invalid(format!(
                    "{name:?} must be given: one number, or one for each column"
                ));
            }
            Some([value]) => vec![*value; dim],
            Some(values) if values.len() == dim => values.to_vec(),
            Some(values) => {
                let found = values.len();
                return invalid(format!(
                    "{name:?} has {found} values, expected 1 or {dim}, one for each column"
                ));
            }
        };
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(d) => invalid(format!(
                "{name:?} of column {d} is {}, expected a finite number",
                values[d]
            )),
        }
    }
}
