//! The gap identity of linear-Gaussian models on data.

use super::CertifiedGap;
use super::solve::derivative;
use crate::data::DataSource;
use crate::em::moments::moments;
use crate::error::Result;
use crate::exec::Executor;
use crate::model::linear_gaussian::Expectations;
use crate::model::{LinearGaussian, Noise};
use crate::scalar::Scalar;
use std::f64::consts::PI;

/// Steps of the derivatives of the bound along α and β, which scale the model by themselves: see `solve::STEP`.
const STEP: f64 = 7.4e-4;

/// Evaluates both sides of the gap identity for probabilistic PCA or factor analysis on points, with its exact posteriors.
///
/// The right side uses no entropy: it is the derivative of the bound along `α`, which scales a variance of the
/// prior that is 1 here, and along `β = -ψ`, which scales the noise.
///
/// # Errors
/// If dimensions differ, or a point cannot be read or has a value that is not finite.
///
/// ```
/// use entropysum::model::{LinearGaussian, Noise};
/// use entropysum::{Executor, Points};
/// use entropysum::expert::criterion;
///
/// let model = LinearGaussian::new(Noise::Isotropic, vec![0.0, 1.0], &[0.5, -0.5], vec![2.0])?;
/// let points = Points::<f64>::from_rows(&[-1.0, 0.5, 3.0, 9.0], 2)?;
/// let gap = criterion::certify_linear_gaussian(&model, &points, &Executor::new(Some(1))?)?;
/// assert!(gap.gap() < -1.0); // these points are wider than the model
/// assert!(gap.error().abs() < 1e-9);
/// # Ok::<(), entropysum::Error>(())
/// ```
pub fn certify_linear_gaussian<T: Scalar>(
    model: &LinearGaussian,
    source: &dyn DataSource<T>,
    executor: &Executor,
) -> Result<CertifiedGap> {
    crate::data::check_dim(source, model.dim())?;
    Ok(certify_expectations(model, &model.e_step(&moments(source, executor)?)?))
}

/// Evaluates both sides of the gap identity from expectations.
fn certify_expectations(model: &LinearGaussian, expectations: &Expectations) -> CertifiedGap {
    let scaled = |t: f64| {
        let noise: Vec<f64> = model.noise_variances().iter().map(|v| v * (1.0 - t)).collect();
        let noise = if model.noise() == Noise::Isotropic { vec![noise[0]] } else { noise };
        let loadings: Vec<f64> =
            model.loadings().row_iter().flat_map(|row| row.iter()).copied().collect();
        LinearGaussian::new(model.noise(), model.mean().to_vec(), &loadings, noise)
            .expect("positive variances times numbers near 1")
    };
    CertifiedGap {
        lower_bound: model.lower_bound(expectations),
        entropy_sum: model.entropy_sum(expectations).total(),
        prior: derivative(&|t| vec![prior_bound(expectations, 1.0 - t)], STEP)[0],
        observable: derivative(&|t| vec![scaled(t).lower_bound(expectations)], STEP)[0],
    }
}

/// Returns the part of the bound that depends on the prior, `E ln N(z; 0, τ)`.
fn prior_bound(expectations: &Expectations, variance: f64) -> f64 {
    let moments = expectations.latent_moments();
    let (latents, trace) =
        (moments.nrows() as f64, (0..moments.nrows()).map(|h| moments[(h, h)]).sum::<f64>());
    -0.5 * (latents * (2.0 * PI * variance).ln() + trace / variance)
}
