//! Parameters that are given and not learned.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// Named parameters that a family must be told beside its dimension: the trials of a binomial, the shape of a Weibull.
///
/// Each is a single number, or one for each column.
///
/// ```
/// use entropysum::family::{Known, registry};
///
/// let known = Known::default().with("trials", vec![16.0]);
/// let family = registry::build_known("binomial", 64, &known)?;
/// assert_eq!(family.known().get("trials").unwrap().len(), 64);
/// assert!(registry::build("binomial", 64).is_err());
/// # Ok::<(), entropysum::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known(BTreeMap<String, Vec<f64>>);

impl Known {
    /// The same with one parameter more.
    pub fn with(mut self, name: impl Into<String>, values: Vec<f64>) -> Self {
        self.0.insert(name.into(), values);
        self
    }

    /// The values of a parameter.
    pub fn get(&self, name: &str) -> Option<&[f64]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[f64])> {
        self.0.iter().map(|(name, values)| (name.as_str(), values.as_slice()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One value for each of `dim` columns.
    ///
    /// # Errors
    /// [`Error::Model`] if there is no such parameter, or it has another number of values, or one that is not finite.
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
