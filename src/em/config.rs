//! Settings of a fit.

use crate::data::DataSource;
use crate::data::resolution::{mean_weight, resolution as resolution_of};
use crate::error::{Error, Result};
use crate::family::Regularization;
use crate::monitor::Monitor;
use crate::scalar::Scalar;
use std::time::Duration;

/// Settings of batch EM; names and meaning are scikit-learn's where it has them. Each field has a setter of its name.
///
/// ```
/// use entropysum::em::Config;
///
/// let config = Config::default().tol(1e-4).max_iter(50);
/// assert_eq!((config.tol, config.max_iter, config.rtol), (1e-4, 50, 0.0));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Iterations at most.
    pub max_iter: usize,
    /// Stop when the monitored value changes by at most this, in nats per point.
    pub tol: f64,
    /// Stop when it changes by at most this part of itself; 0 for never.
    pub rtol: f64,
    /// The value that decides on convergence.
    pub monitor: Monitor,
    /// Stop after the first iteration that ends later than this.
    pub max_time: Option<Duration>,
    /// Regularisation of the M-step.
    pub regularization: Regularization,
    /// Number of fresh starts, of which the best is kept.
    pub n_init: usize,
    /// Seed of all random choices.
    pub seed: u64,
    /// What was asked for, in words; it has no effect but on checkpoints: a fit goes on from one under the same label only.
    pub label: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_iter: 200,
            // scikit-learn's 1e-3 stops far from the optimum (its issue 10122).
            tol: 1e-5,
            rtol: 0.0,
            monitor: Monitor::EntropySum,
            max_time: None,
            regularization: Regularization::default(),
            n_init: 1,
            seed: 0,
            label: String::new(),
        }
    }
}

impl Config {
    setters! {
        max_iter: usize,
        tol: f64,
        rtol: f64,
        monitor: Monitor,
        max_time: Option<Duration>,
        regularization: Regularization,
        n_init: usize,
        seed: u64,
        label: String,
    }

    /// Finds how finely the values of the points are rounded, unless a ridge holds variances up, or the resolution is given.
    pub(crate) fn find_resolution<T: Scalar>(&mut self, points: &dyn DataSource<T>) {
        let Regularization { reg_covar, resolution, .. } = &mut self.regularization;
        if reg_covar.is_none() && resolution.is_empty() {
            *resolution = resolution_of(points);
        }
    }

    /// Finds the weight of all points that a prior counts against, unless it is given. Statistics of minibatches do not tell it.
    pub(crate) fn find_total_weight<T: Scalar>(&mut self, points: &dyn DataSource<T>) {
        if let Some(prior) = &mut self.regularization.prior {
            let found = || points.len() as f64 * mean_weight(points);
            prior.total_weight.get_or_insert_with(found);
        }
    }

    /// Says which setting is out of range.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, value) in [("max_iter", self.max_iter), ("n_init", self.n_init)] {
            if value == 0 {
                return Err(Error::Config(format!("{name} must be at least 1")));
            }
        }
        let Regularization { reg_covar, prior, .. } = &self.regularization;
        if let Some(prior) = prior {
            if reg_covar.is_some() {
                return Err(Error::Config(
                    "a prior and reg_covar both hold variances up: give one of them".into(),
                ));
            }
            if self.monitor == Monitor::Delta {
                return Err(Error::Config(
                    "delta certifies nothing under a prior, where the gap is not 0; take another monitor".into(),
                ));
            }
            if prior.total_weight.is_some_and(|it| !(it > 0.0 && it.is_finite())) {
                let weight = prior.total_weight.unwrap_or_default();
                return Err(Error::Config(format!(
                    "total_weight of the prior is {weight}, expected a finite number > 0"
                )));
            }
        }
        match *reg_covar {
            Some(ridge) if !(ridge >= 0.0 && ridge.is_finite()) => {
                Err(Error::Config(format!("reg_covar is {ridge}, expected a finite number ≥ 0")))
            }
            _ => Ok(()),
        }
    }
}
