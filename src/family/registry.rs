//! The list of families by name. A new family adds one line.

use super::bernoulli::Bernoulli;
use super::beta::Beta;
use super::binomial::Binomial;
use super::exponential::Exponential;
use super::gamma::Gamma;
use super::gaussian_known_variance::GaussianKnownVariance;
use super::geometric::Geometric;
use super::inverse_gamma::InverseGamma;
use super::inverse_gaussian::InverseGaussian;
use super::label::{self, Label};
use super::laplace::Laplace;
use super::log_normal::LogNormal;
use super::negative_binomial::NegativeBinomial;
use super::poisson::Poisson;
use super::weibull::Weibull;
use super::{
    Categorical, Covariance, Dirichlet, ExponentialFamily, Gaussian, Independent, KnownParameters,
    Multinomial, Product, Univariate, VonMises, VonMisesFisher, product,
};
use crate::error::{Error, Result};
use std::sync::Arc;

/// A family: its name on the command line and in files, the names of its known parameters, and how to build it.
struct Entry(&'static str, &'static [&'static str], Build);

/// A way to build a family.
enum Build {
    /// From the number of dimensions and the known parameters.
    Vectors(fn(usize, &KnownParameters) -> Result<Arc<dyn ExponentialFamily>>),
    /// Of columns that are all the same.
    Columns(fn() -> Arc<dyn Univariate>),
    /// Of columns that each have a value of the known parameter. A message says why a value is wrong.
    KnownColumns(fn(f64) -> std::result::Result<Arc<dyn Univariate>, String>),
}

use Build::{Columns, KnownColumns, Vectors};

static FAMILIES: &[Entry] = &[
    Entry("gaussian-full", &[], Vectors(|dim, _| gaussian(Covariance::Full, dim))),
    Entry("gaussian-tied", &[], Vectors(|dim, _| gaussian(Covariance::Tied, dim))),
    Entry("gaussian-diag", &[], Vectors(|dim, _| gaussian(Covariance::Diag, dim))),
    Entry("gaussian-spherical", &[], Vectors(|dim, _| gaussian(Covariance::Spherical, dim))),
    Entry("gaussian-tied-diag", &[], Vectors(|dim, _| gaussian(Covariance::TiedDiag, dim))),
    Entry(
        "gaussian-tied-spherical",
        &[],
        Vectors(|dim, _| gaussian(Covariance::TiedSpherical, dim)),
    ),
    Entry(
        "gaussian-known-variance",
        &["variance"],
        KnownColumns(|variance| Ok(Arc::new(GaussianKnownVariance::new(variance)?))),
    ),
    Entry("bernoulli", &[], Columns(|| Arc::new(Bernoulli))),
    Entry("beta", &[], Columns(|| Arc::new(Beta))),
    Entry("binomial", &["trials"], KnownColumns(|trials| Ok(Arc::new(Binomial::new(trials)?)))),
    Entry("exponential", &[], Columns(|| Arc::new(Exponential))),
    Entry("gamma", &[], Columns(|| Arc::new(Gamma))),
    Entry("geometric", &[], Columns(|| Arc::new(Geometric))),
    Entry("inverse-gamma", &[], Columns(|| Arc::new(InverseGamma))),
    Entry("inverse-gaussian", &[], Columns(|| Arc::new(InverseGaussian))),
    Entry("laplace", &["location"], KnownColumns(|location| Ok(Arc::new(Laplace::new(location)?)))),
    Entry("log-normal", &[], Columns(|| Arc::new(LogNormal))),
    Entry(
        "negative-binomial",
        &["successes"],
        KnownColumns(|successes| Ok(Arc::new(NegativeBinomial::new(successes)?))),
    ),
    Entry("poisson", &[], Columns(|| Arc::new(Poisson))),
    Entry("weibull", &["shape"], KnownColumns(|shape| Ok(Arc::new(Weibull::new(shape)?)))),
    Entry(
        "categorical",
        &["levels"],
        Vectors(|dim, known| Ok(Arc::new(Categorical::from_known(dim, known)?))),
    ),
    Entry(
        "multinomial",
        &["total"],
        Vectors(|dim, known| Ok(Arc::new(Multinomial::from_known(dim, known)?))),
    ),
    Entry("dirichlet", &[], Vectors(|dim, _| Ok(Arc::new(Dirichlet::new(dim)?)))),
    Entry("von-mises", &[], Columns(|| Arc::new(VonMises))),
    Entry(label::NAME, &["labels"], Vectors(|_, known| Ok(Arc::new(Label::from_known(known)?)))),
    Entry("von-mises-fisher", &[], Vectors(|dim, _| Ok(Arc::new(VonMisesFisher::new(dim)?)))),
];

fn gaussian(covariance: Covariance, dim: usize) -> Result<Arc<dyn ExponentialFamily>> {
    Ok(Arc::new(Gaussian::new(covariance, dim)))
}

impl Entry {
    /// Builds the family for points of `dim` dimensions.
    fn build(&self, dim: usize, known: &KnownParameters) -> Result<Arc<dyn ExponentialFamily>> {
        let &Self(family, parameters, ref build) = self;
        let columns = match build {
            Vectors(build) => return build(dim, known),
            Columns(build) => vec![build(); dim],
            KnownColumns(build) => {
                let values = known.columns(family, parameters[0], dim)?;
                let column = |(d, &value): (usize, &f64)| {
                    let invalid =
                        |message| Error::Model(format!("{family}: column {d}: {message}"));
                    build(value).map_err(invalid)
                };
                values.iter().enumerate().map(column).collect::<Result<_>>()?
            }
        };
        Ok(Arc::new(Independent::of(columns)))
    }
}

/// Lists the names of all families that are models by themselves, in the order of the registry.
pub fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|entry| entry.0).filter(|name| *name != label::NAME)
}

/// Tells whether a family of this name can be built.
pub(super) fn has(name: &str) -> bool {
    FAMILIES.iter().any(|entry| entry.0 == name)
}

/// Returns the known parameter that equals the length of an array's last axis: the names of both. Model files need not
/// state this parameter.
pub(crate) fn told_by_axis(name: &str) -> Option<(&'static str, &'static str)> {
    (name == "categorical").then_some(("levels", "probabilities"))
}

/// Lists the names of the known parameters that a family needs ([`KnownParameters`]); empty if no family has this name.
pub fn known_parameters(name: &str) -> &'static [&'static str] {
    FAMILIES.iter().find(|entry| entry.0 == name).map_or(&[], |entry| entry.1)
}

/// Builds the family of that name for points of `dim` dimensions, if it needs no known parameter.
///
/// # Errors
/// As [`build_known`].
///
/// ```
/// let family = entropysum::family::registry::build("gaussian-diag", 4)?;
/// assert_eq!(family.dim(), 4);
/// assert!(entropysum::family::registry::build("gaussian-diagonal", 4).is_err());
/// # Ok::<(), entropysum::error::Error>(())
/// ```
pub fn build(name: &str, dim: usize) -> Result<Arc<dyn ExponentialFamily>> {
    build_known(name, dim, &KnownParameters::default())
}

/// Builds the family of that name, with known parameters.
///
/// # Errors
/// [`Error::Model`] lists all families if the name is unknown. It names a known parameter that is missing, out of range
/// or unknown to the family.
pub fn build_known(
    name: &str,
    dim: usize,
    known: &KnownParameters,
) -> Result<Arc<dyn ExponentialFamily>> {
    if dim == 0 {
        return Err(Error::Model("points need at least one dimension".into()));
    }
    if product::is_product(name) {
        return Ok(Arc::new(Product::from_name(name, dim, known)?));
    }
    let Some(entry) = FAMILIES.iter().find(|entry| entry.0 == name) else {
        let names: Vec<_> = names().collect();
        return Err(Error::Model(format!(
            "no model is called {name:?}; there are {}",
            names.join(", ")
        )));
    };
    if let Some((other, _)) = known.iter().find(|(other, _)| !entry.1.contains(other)) {
        return Err(Error::Model(format!("{name} has no known parameter {other:?}")));
    }
    entry.build(dim, known)
}
