//! Families by name: one line each.

use super::bernoulli::Bernoulli;
use super::beta::Beta;
use super::binomial::Binomial;
use super::exponential::Exponential;
use super::gamma::Gamma;
use super::gaussian_known_variance::GaussianKnownVariance;
use super::geometric::Geometric;
use super::inverse_gamma::InverseGamma;
use super::inverse_gaussian::InverseGaussian;
use super::laplace::Laplace;
use super::log_normal::LogNormal;
use super::negative_binomial::NegativeBinomial;
use super::poisson::Poisson;
use super::weibull::Weibull;
use super::{
    Categorical, Covariance, Dirichlet, ExponentialFamily, Gaussian, Independent, Known,
    Multinomial, Product, Univariate, VonMises, VonMisesFisher, product,
};
use crate::error::{Error, Result};
use std::sync::Arc;

type Build = fn(usize, &Known) -> Result<Arc<dyn ExponentialFamily>>;

/// A family: its name on the command line and in files, what it must be told, and how to build it for D dimensions.
struct Entry(&'static str, &'static [&'static str], Build);

static FAMILIES: &[Entry] = &[
    Entry("gaussian-full", &[], |dim, _| gaussian(Covariance::Full, dim)),
    Entry("gaussian-tied", &[], |dim, _| gaussian(Covariance::Tied, dim)),
    Entry("gaussian-diag", &[], |dim, _| gaussian(Covariance::Diag, dim)),
    Entry("gaussian-spherical", &[], |dim, _| gaussian(Covariance::Spherical, dim)),
    Entry("gaussian-tied-diag", &[], |dim, _| gaussian(Covariance::TiedDiag, dim)),
    Entry("gaussian-tied-spherical", &[], |dim, _| gaussian(Covariance::TiedSpherical, dim)),
    Entry("gaussian-known-variance", &["variance"], |dim, known| {
        columns(GaussianKnownVariance::new, "variance", known, dim)
    }),
    Entry("bernoulli", &[], |dim, _| independent(Bernoulli, dim)),
    Entry("beta", &[], |dim, _| independent(Beta, dim)),
    Entry("binomial", &["trials"], |dim, known| columns(Binomial::new, "trials", known, dim)),
    Entry("exponential", &[], |dim, _| independent(Exponential, dim)),
    Entry("gamma", &[], |dim, _| independent(Gamma, dim)),
    Entry("geometric", &[], |dim, _| independent(Geometric, dim)),
    Entry("inverse-gamma", &[], |dim, _| independent(InverseGamma, dim)),
    Entry("inverse-gaussian", &[], |dim, _| independent(InverseGaussian, dim)),
    Entry("laplace", &["location"], |dim, known| columns(Laplace::new, "location", known, dim)),
    Entry("log-normal", &[], |dim, _| independent(LogNormal, dim)),
    Entry("negative-binomial", &["successes"], |dim, known| {
        columns(NegativeBinomial::new, "successes", known, dim)
    }),
    Entry("poisson", &[], |dim, _| independent(Poisson, dim)),
    Entry("weibull", &["shape"], |dim, known| columns(Weibull::new, "shape", known, dim)),
    Entry("categorical", &["levels"], |dim, known| {
        Ok(Arc::new(Categorical::from_known(dim, known)?))
    }),
    Entry("multinomial", &["total"], |dim, known| {
        Ok(Arc::new(Multinomial::from_known(dim, known)?))
    }),
    Entry("dirichlet", &[], |dim, _| Ok(Arc::new(Dirichlet::new(dim)?))),
    Entry("von-mises", &[], |dim, _| independent(VonMises, dim)),
    Entry("von-mises-fisher", &[], |dim, _| Ok(Arc::new(VonMisesFisher::new(dim)?))),
];

fn gaussian(covariance: Covariance, dim: usize) -> Result<Arc<dyn ExponentialFamily>> {
    Ok(Arc::new(Gaussian::new(covariance, dim)))
}

/// Columns that are all alike.
fn independent<U: Univariate>(column: U, dim: usize) -> Result<Arc<dyn ExponentialFamily>> {
    Ok(Arc::new(Independent::new(vec![column; dim])))
}

/// Columns that are told one parameter each.
fn columns<U: Univariate>(
    column: fn(f64) -> Result<U, String>,
    name: &str,
    known: &Known,
    dim: usize,
) -> Result<Arc<dyn ExponentialFamily>> {
    let values = known.columns(U::NAME, name, dim)?;
    let build = |(d, &value): (usize, &f64)| {
        column(value).map_err(|message| Error::Model(format!("{}: column {d}: {message}", U::NAME)))
    };
    let columns = values.iter().enumerate().map(build).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Independent::new(columns)))
}

/// Names of all families, in the order of the registry.
pub fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|entry| entry.0)
}

/// A known parameter that need not be told where the shape of an array tells it: its name, and the array of which it is
/// the length of the last axis.
pub fn told_by_axis(name: &str) -> Option<(&'static str, &'static str)> {
    (name == "categorical").then_some(("levels", "probabilities"))
}

/// Names of the parameters that a family must be told: see [`Known`]. None for names of no family.
pub fn known_parameters(name: &str) -> &'static [&'static str] {
    FAMILIES.iter().find(|entry| entry.0 == name).map_or(&[], |entry| entry.1)
}

/// The family of that name for points of `dim` dimensions, if that is all there is to know.
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
    build_known(name, dim, &Known::default())
}

/// The family of that name, with the parameters it must be told.
///
/// # Errors
/// [`Error::Model`] names the families there are where none has that name, and a known parameter that is missing, out of
/// range or none of the family's.
pub fn build_known(name: &str, dim: usize, known: &Known) -> Result<Arc<dyn ExponentialFamily>> {
    if dim == 0 {
        return Err(Error::Model("points need at least one dimension".into()));
    }
    if product::is_product(name) {
        return Ok(Arc::new(Product::from_name(name, dim, known)?));
    }
    let Some(Entry(_, parameters, build)) = FAMILIES.iter().find(|entry| entry.0 == name) else {
        let names: Vec<_> = names().collect();
        return Err(Error::Model(format!(
            "no model is called {name:?}; there are {}",
            names.join(", ")
        )));
    };
    if let Some((other, _)) = known.iter().find(|(other, _)| !parameters.contains(other)) {
        return Err(Error::Model(format!("{name} has no known parameter {other:?}")));
    }
    build(dim, known)
}
