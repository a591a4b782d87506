//! Fits of linear-Gaussian models: one pass over the points where their covariance can be held, then work on matrices.

mod learner;
mod subspace;
mod summary;

pub use summary::Summary;

use super::driver::Fit;
use super::fitting::{Fitting, Spec};
use crate::error::{Error, Result};
use crate::model::linear_gaussian::latents_fault;
use crate::model::{LinearGaussian, Noise, Rotation};
use crate::scalar::Scalar;
use std::fmt;

/// Dimensions up to which a whole eigendecomposition is computed; it takes O(D³) on one thread, seconds here.
const MAX_EIGEN: u64 = 2048;

/// Dimensions up to which a covariance is held: 512 MiB.
const MAX_COVARIANCE: usize = 8192;

/// Bytes of centred points that may be held in place of a covariance, where there are fewer points than dimensions.
const MAX_FACTOR_BYTES: u64 = 1 << 31;

/// How parameters are learned.
///
/// Not among them is ECME (Liu & Rubin 1998), whose update of the noise maximises the likelihood itself given `W`: it
/// takes a Newton iteration over D variables, each step of which solves D equations in O(D³), where all here cost
/// O(D² H). Nor is its noise that of the bound's maximum, so that the entropy sum would be no bound before convergence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinearGaussianAlgorithm {
    /// Maximum likelihood from eigenvectors; p-PCA only.
    ClosedForm,
    /// Expectation maximisation.
    Em,
    /// Parameter-expanded EM (Liu, Rubin & Wu 1998): the prior has a covariance in each M-step, which then goes into the
    /// loadings. As cheap as EM, never seen to be slower, and its gap is 0.
    PxEm,
}

impl LinearGaussianAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::ClosedForm, Self::Em, Self::PxEm];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClosedForm => "closed-form",
            Self::Em => "em",
            Self::PxEm => "px-em",
        }
    }
}

/// What an algorithm works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// The covariance matrix, after one pass over the points.
    Covariance,
    /// The centred points, held in memory: fewer than there are dimensions.
    Factor,
    /// The points, in a pass for each iteration.
    Points,
    /// The observed entries of points of which others are missing (NaN), in memory.
    Observed,
}

/// How a fit will be computed, given the numbers of points and dimensions; [`Display`](fmt::Display) says it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Method {
    /// The algorithm.
    pub algorithm: LinearGaussianAlgorithm,
    /// What it works on.
    pub form: Form,
    /// Whether the closed form takes a whole eigendecomposition; else subspace iteration finds the leading ones.
    pub is_direct: bool,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.algorithm {
            LinearGaussianAlgorithm::ClosedForm if self.is_direct => "eigendecomposition",
            LinearGaussianAlgorithm::ClosedForm => "randomised subspace iteration",
            LinearGaussianAlgorithm::Em => "EM",
            LinearGaussianAlgorithm::PxEm => "parameter-expanded EM",
        };
        let of = match self.form {
            Form::Covariance => "the covariance",
            Form::Factor if self.is_direct => "the Gram matrix of the points",
            Form::Factor => "the centred points in memory",
            Form::Points => "the points, one pass an iteration",
            Form::Observed => "the observed entries, grouped by pattern",
        };
        let on = if self.is_direct { "of" } else { "on" };
        write!(f, "{how} {on} {of}")
    }
}

/// What linear-Gaussian model to fit, and how.
///
/// ```
/// use entropysum::em::{self, LinearGaussianSpec};
/// use entropysum::{Config, Executor, Points, Silent};
///
/// let values = [1.0, 1.1, 0.1, 2.0, 1.8, 0.3, 3.0, 3.3, 0.2, 4.0, 3.9, 0.4, 5.0, 5.1, 0.2];
/// let points = Points::<f64>::from_rows(&values, 3)?;
/// let executor = Executor::new(Some(1))?;
/// let fit = em::fit(&LinearGaussianSpec::ppca(1), &points, &executor, &Config::default(), &mut Silent)?;
/// let record = fit.last().unwrap();
/// assert!((record.entropy_sum.total() - record.log_likelihood).abs() < 1e-12);
/// assert!(fit.model.noise_variances()[0] < 0.05);
/// # Ok::<(), entropysum::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LinearGaussianSpec {
    /// The noise: p-PCA or factor analysis.
    pub noise: Noise,
    /// Number of latents H.
    pub latents: usize,
    /// How parameters are learned.
    pub algorithm: LinearGaussianAlgorithm,
    /// A rotation of the fitted loadings; without one they are orthogonal and ordered.
    pub rotation: Option<Rotation>,
    /// A model to go on from, for EM.
    pub init: Option<LinearGaussian>,
    /// What to work on; `None` chooses by the numbers of points and dimensions.
    pub form: Option<Form>,
}

impl LinearGaussianSpec {
    /// Probabilistic PCA with H latents, in closed form.
    pub fn ppca(latents: usize) -> Self {
        let (noise, algorithm) = (Noise::Isotropic, LinearGaussianAlgorithm::ClosedForm);
        Self { noise, latents, algorithm, rotation: None, init: None, form: None }
    }

    /// Factor analysis with H factors, by parameter-expanded EM.
    pub fn factor_analysis(latents: usize) -> Self {
        let (noise, algorithm) = (Noise::Diagonal, LinearGaussianAlgorithm::PxEm);
        Self { noise, latents, algorithm, rotation: None, init: None, form: None }
    }

    /// The same with another algorithm.
    pub fn with_algorithm(self, algorithm: LinearGaussianAlgorithm) -> Self {
        Self { algorithm, ..self }
    }

    /// The same with a rotation of the result.
    pub fn with_rotation(self, rotation: Rotation) -> Self {
        Self { rotation: Some(rotation), ..self }
    }

    /// The same from a given model.
    pub fn with_init(self, init: LinearGaussian) -> Self {
        Self { init: Some(init), ..self }
    }

    /// The same on another form of the points' second moments.
    pub fn with_form(self, form: Form) -> Self {
        Self { form: Some(form), ..self }
    }

    /// The same for points with missing entries (NaN), which are left out of the likelihood. Without this they are errors.
    ///
    /// There is no closed form then; p-PCA is learned by parameter-expanded EM.
    pub fn ignoring_missing(self) -> Self {
        let algorithm = match self.algorithm {
            LinearGaussianAlgorithm::ClosedForm => LinearGaussianAlgorithm::PxEm,
            other => other,
        };
        Self { algorithm, form: Some(Form::Observed), ..self }
    }

    /// How the fit of so many points would be computed.
    pub fn method(&self, n_points: u64, dim: usize) -> Method {
        let algorithm = self.algorithm;
        let small = |size: u64| size <= MAX_EIGEN;
        let fewer = n_points < dim as u64;
        let holds_points = fewer && n_points.saturating_mul(8 * dim as u64) <= MAX_FACTOR_BYTES;
        let form = match algorithm {
            LinearGaussianAlgorithm::ClosedForm if holds_points && small(n_points) => Form::Factor,
            LinearGaussianAlgorithm::Em | LinearGaussianAlgorithm::PxEm if holds_points => {
                Form::Factor
            }
            _ if dim <= MAX_COVARIANCE => Form::Covariance,
            _ => Form::Points,
        };
        let form = self.form.unwrap_or(form);
        let is_direct = algorithm == LinearGaussianAlgorithm::ClosedForm
            && match form {
                Form::Covariance => small(dim as u64),
                Form::Factor => small(n_points),
                Form::Points | Form::Observed => false,
            };
        Method { algorithm, form, is_direct }
    }

    /// Says whether the model can be fitted to points of this dimension, in this way.
    ///
    /// # Errors
    /// Says why not.
    pub fn check(&self, dim: usize) -> Result<()> {
        let refuse = |message: String| Err(Error::Config(message));
        if let Some(fault) = latents_fault(self.latents, dim) {
            return refuse(format!("{}: {fault}", self.noise.model_name()));
        }
        if self.noise == Noise::Diagonal && self.algorithm == LinearGaussianAlgorithm::ClosedForm {
            return refuse(
                "factor analysis has no closed form; its algorithms are em and px-em".into(),
            );
        }
        if self.form == Some(Form::Observed)
            && self.algorithm == LinearGaussianAlgorithm::ClosedForm
        {
            return refuse(
                "with missing entries there is no closed form; the algorithm is px-em or em".into(),
            );
        }
        let Some(init) = &self.init else { return Ok(()) };
        if self.algorithm == LinearGaussianAlgorithm::ClosedForm {
            return refuse(
                "a closed form needs no start; with one, the algorithm is em or px-em".into(),
            );
        }
        self.check_start(init, dim)
    }

    /// Refuses a model to go on from that is not what is to be fitted.
    fn check_start(&self, init: &LinearGaussian, dim: usize) -> Result<()> {
        if (init.noise(), init.latents(), init.dim()) != (self.noise, self.latents, dim) {
            return Err(Error::Config(format!(
                "the start is {} with {} latent(s) in {} dimension(s), expected {} with {} in {dim}",
                init.noise().model_name(),
                init.latents(),
                init.dim(),
                self.noise.model_name(),
                self.latents
            )));
        }
        Ok(())
    }
}

impl<T: Scalar> Spec<T> for LinearGaussianSpec {
    type Model = LinearGaussian;

    fn fit(&self, fitting: Fitting<'_, T, LinearGaussian>) -> Result<Fit<LinearGaussian>> {
        let summary = Summary::new(self, fitting.points(), fitting.executor())?;
        summary.prepared(self).fit(fitting)
    }
}
