//! Fits of linear-Gaussian models: one pass over the points where their covariance can be held, then work on matrices.

use super::batch::{self, Fit};
use super::checkpoint::{BatchState, Begin, Checkpoints, Keeper, damaged};
use super::config::Config;
use super::moments::moments;
use super::numbers::Reader;
use super::passes::{Passes, factor};
use super::patterns::Patterns;
use super::watch::{Iteration, Watch};
use crate::data::DataSource;
use crate::error::{DataError, Error, Result};
use crate::exec::Executor;
use crate::inference::Score;
use crate::linalg::{Cholesky, orthonormalize, product, row_major, symmetric_eigen};
use crate::model::linear_gaussian::{Factor, Step, latents_fault};
use crate::model::{GenerativeModel, LinearGaussian, Moments, Noise, Rotation, SecondMoments};
use crate::monitor::{Event, Monitor, Observer, StopReason};
use crate::rng;
use crate::scalar::Scalar;
use faer::{Mat, MatRef};
use rand_distr::{Distribution, StandardNormal};
use std::f64::consts::PI;
use std::fmt;
use std::time::{Duration, Instant};

/// Dimensions up to which a whole eigendecomposition is computed; it takes O(D³) on one thread, seconds here.
const MAX_EIGEN: u64 = 2048;

/// Dimensions up to which a covariance is held: 512 MiB.
const MAX_COVARIANCE: usize = 8192;

/// Bytes of centred points that may be held in place of a covariance, where there are fewer points than dimensions.
const MAX_FACTOR_BYTES: u64 = 1 << 31;

/// Columns of subspace iteration beyond the components asked for (Halko, Martinsson & Tropp 2011 take 5 to 10): the
/// error falls with the ratio of the eigenvalue after these to the last one asked for.
const OVERSAMPLING: usize = 10;

/// Subspace iterations that find a start of factor analysis; EM does the rest.
const START_ITERATIONS: usize = 10;

/// How parameters are learned.
///
/// Not among them is ECME (Liu & Rubin 1998), whose update of the noise maximises the likelihood itself given `W`: it
/// takes a Newton iteration over D variables, each step of which solves D equations in O(D³), where all here cost
/// O(D² H). Nor is its noise that of the bound's maximum, so that the entropy sum would be no bound before convergence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Maximum likelihood from eigenvectors; p-PCA only.
    ClosedForm,
    /// Expectation maximisation.
    Em,
    /// Parameter-expanded EM (Liu, Rubin & Wu 1998): the prior has a covariance in each M-step, which then goes into the
    /// loadings. As cheap as EM, never seen to be slower, and its gap is 0.
    PxEm,
}

impl Algorithm {
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
    pub algorithm: Algorithm,
    /// What it works on.
    pub form: Form,
    /// Whether the closed form takes a whole eigendecomposition; else subspace iteration finds the leading ones.
    pub is_direct: bool,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.algorithm {
            Algorithm::ClosedForm if self.is_direct => "eigendecomposition",
            Algorithm::ClosedForm => "randomised subspace iteration",
            Algorithm::Em => "EM",
            Algorithm::PxEm => "parameter-expanded EM",
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
/// use entropysum::em::{LinearGaussianSpec, moments};
/// use entropysum::{Config, Executor, Points, Silent};
///
/// let values = [1.0, 1.1, 0.1, 2.0, 1.8, 0.3, 3.0, 3.3, 0.2, 4.0, 3.9, 0.4, 5.0, 5.1, 0.2];
/// let points = Points::<f64>::from_rows(&values, 3)?;
/// let executor = Executor::new(Some(1))?;
/// let fit = LinearGaussianSpec::ppca(1).fit(&points, &executor, &Config::default(), &mut Silent)?;
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
    pub algorithm: Algorithm,
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
        let (noise, algorithm) = (Noise::Isotropic, Algorithm::ClosedForm);
        Self { noise, latents, algorithm, rotation: None, init: None, form: None }
    }

    /// Factor analysis with H factors, by parameter-expanded EM.
    pub fn factor_analysis(latents: usize) -> Self {
        let (noise, algorithm) = (Noise::Diagonal, Algorithm::PxEm);
        Self { noise, latents, algorithm, rotation: None, init: None, form: None }
    }

    /// The same with another algorithm.
    pub fn with_algorithm(self, algorithm: Algorithm) -> Self {
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
            Algorithm::ClosedForm => Algorithm::PxEm,
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
            Algorithm::ClosedForm if holds_points && small(n_points) => Form::Factor,
            Algorithm::Em | Algorithm::PxEm if holds_points => Form::Factor,
            _ if dim <= MAX_COVARIANCE => Form::Covariance,
            _ => Form::Points,
        };
        let form = self.form.unwrap_or(form);
        let is_direct = algorithm == Algorithm::ClosedForm
            && match form {
                Form::Covariance => small(dim as u64),
                Form::Factor => small(n_points),
                Form::Points | Form::Observed => false,
            };
        Method { algorithm, form, is_direct }
    }

    /// Fits the model.
    ///
    /// # Errors
    /// As [`Summary::new`] and [`Summary::fit`].
    pub fn fit<T: Scalar>(
        &self,
        source: &dyn DataSource<T>,
        executor: &Executor,
        config: &Config,
        observer: &mut dyn Observer,
    ) -> Result<Fit<LinearGaussian>> {
        Summary::new(self, source, executor)?.fit(self, config, observer)
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
        if self.noise == Noise::Diagonal && self.algorithm == Algorithm::ClosedForm {
            return refuse(
                "factor analysis has no closed form; its algorithms are em and px-em".into(),
            );
        }
        if self.form == Some(Form::Observed) && self.algorithm == Algorithm::ClosedForm {
            return refuse(
                "with missing entries there is no closed form; the algorithm is px-em or em".into(),
            );
        }
        let Some(init) = &self.init else { return Ok(()) };
        if self.algorithm == Algorithm::ClosedForm {
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

/// All that linear-Gaussian models need of points: made once, then any number of them can be fitted and scored.
///
/// Models of several numbers of latents, for example, cost one pass over the points together.
#[derive(Debug)]
pub struct Summary<'a, T: Scalar> {
    method: Method,
    store: Store<'a, T>,
    source: &'a dyn DataSource<T>,
    n_points: u64,
    total_weight: f64,
    /// How long it took to make this.
    preparation: Duration,
    /// All eigenvalues in descending order and their vectors, for direct closed forms.
    eigen: Option<(Vec<f64>, Mat<f64>)>,
}

#[derive(Debug)]
enum Store<'a, T: Scalar> {
    Covariance(Moments),
    Factor(Factor),
    Points(Box<Passes<'a, T>>),
    Observed(Patterns<'a>),
}

impl<'a, T: Scalar> Summary<'a, T> {
    /// Goes through the points, as the method of the fit asks for.
    ///
    /// # Errors
    /// If there are not fewer latents than dimensions, no points, or a point cannot be read or is no finite number.
    pub fn new(
        spec: &LinearGaussianSpec,
        source: &'a dyn DataSource<T>,
        executor: &'a Executor,
    ) -> Result<Self> {
        let begun = Instant::now();
        spec.check(source.dim())?;
        let method = spec.method(source.len(), source.dim());
        let (store, total_weight) = match method.form {
            Form::Covariance => {
                let moments = moments(source, executor)?;
                let weight = moments.total_weight();
                (Store::Covariance(moments), weight)
            }
            Form::Factor => {
                let (factor, weight) = factor(source)?;
                (Store::Factor(factor), weight)
            }
            Form::Points => {
                let passes = Passes::new(source, executor)?;
                let weight = passes.total_weight();
                (Store::Points(Box::new(passes)), weight)
            }
            Form::Observed => {
                let patterns = Patterns::new(source, executor)?;
                let weight = patterns.total_weight();
                (Store::Observed(patterns), weight)
            }
        };
        let (n_points, preparation) = (source.len(), Duration::ZERO);
        let mut summary =
            Self { method, store, source, n_points, total_weight, preparation, eigen: None };
        if method.is_direct {
            summary.eigen = Some(summary.decompose(executor)?);
        }
        summary.preparation = begun.elapsed();
        Ok(summary)
    }

    /// How fits from this summary are computed.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Mean, variances, and products with the covariance of the points; `None` where entries are missing.
    pub fn moments(&self) -> Option<&dyn SecondMoments> {
        match &self.store {
            Store::Covariance(moments) => Some(moments),
            Store::Factor(factor) => Some(factor),
            Store::Points(passes) => Some(&**passes),
            Store::Observed(_) => None,
        }
    }

    fn mean(&self) -> &[f64] {
        match &self.store {
            Store::Covariance(moments) => SecondMoments::mean(moments),
            Store::Factor(factor) => factor.mean(),
            Store::Points(passes) => passes.mean(),
            Store::Observed(patterns) => patterns.mean(),
        }
    }

    fn variances(&self) -> &[f64] {
        match &self.store {
            Store::Covariance(moments) => SecondMoments::variances(moments),
            Store::Factor(factor) => factor.variances(),
            Store::Points(passes) => passes.variances(),
            Store::Observed(patterns) => patterns.variances(),
        }
    }

    fn log_likelihood(&self, model: &LinearGaussian) -> Result<f64> {
        match (&self.store, self.moments()) {
            (Store::Observed(patterns), _) => Ok(patterns.e_step(model)?.log_likelihood()),
            (_, moments) => {
                Ok(model.e_step(moments.expect("all others have them"))?.log_likelihood())
            }
        }
    }

    /// One iteration of EM; also the log-likelihood before it.
    fn iterate(&self, model: &mut LinearGaussian, expanded: bool) -> Result<(f64, Step)> {
        if let Store::Observed(patterns) = &self.store {
            return patterns.iterate(model, expanded, T::EPSILON);
        }
        let expectations = model.e_step(self.moments().expect("all others have them"))?;
        let step = model.m_step(&expectations, expanded, T::EPSILON)?;
        Ok((expectations.log_likelihood(), step))
    }

    /// How many points an iteration of a fit goes through; 0 where it works on matrices.
    pub fn points_per_iteration(&self) -> u64 {
        if self.is_over_points() { self.n_points } else { 0 }
    }

    fn is_over_points(&self) -> bool {
        matches!(self.method.form, Form::Points | Form::Observed)
    }

    /// What a scree plot shows, in descending order: for p-PCA the eigenvalues of the covariance, for factor analysis,
    /// which knows no units, those of the correlation. `None` where no covariance is held, or it is too large for this.
    pub fn scree(&self, noise: Noise) -> Option<Vec<f64>> {
        if let (Noise::Isotropic, Some(values)) = (noise, self.eigenvalues()) {
            return Some(values.to_vec());
        }
        let Store::Covariance(moments) = &self.store else { return None };
        let (covariance, variances) = (moments.covariance(), moments.variances());
        let dim = variances.len();
        if dim as u64 > MAX_EIGEN {
            return None;
        }
        let unit = |d: usize| match noise {
            Noise::Isotropic => 1.0,
            Noise::Diagonal => f64::sqrt(variances[d]),
        };
        let matrix = Mat::from_fn(dim, dim, |i, j| covariance[(i, j)] / (unit(i) * unit(j)));
        let (mut values, _) = symmetric_eigen(&row_major(matrix.as_ref()), dim)?;
        values.reverse();
        Some(values)
    }

    /// Eigenvalues of the covariance in descending order, where the method computes all there are.
    pub fn eigenvalues(&self) -> Option<&[f64]> {
        self.eigen.as_ref().map(|(values, _)| &values[..])
    }

    /// How well a model describes the points of the summary.
    ///
    /// # Errors
    /// If dimensions differ, or points have to be read and cannot be.
    pub fn score(&self, model: &LinearGaussian) -> Result<Score> {
        crate::data::check_dim(self.source, model.dim())?;
        Ok(Score {
            n_points: self.n_points,
            total_weight: self.total_weight,
            log_likelihood: self.log_likelihood(model)?,
            // There are no components; `icl` is `bic`.
            posterior_entropy: 0.0,
            n_parameters: model.n_parameters(),
        })
    }

    /// Fits a model, the best by its bound of `config.n_init` starts where the algorithm has one.
    ///
    /// Seconds count from the beginning of the pass over the points, as if each fit had made one of its own.
    ///
    /// Each iteration of EM costs O(D² H), and reads no point, unless the method is over the points. With plain EM and the
    /// entropy sum as monitor, both the entropy sum and the lower bound must stand still: by itself the entropy sum of
    /// plain EM is neither a bound nor monotone, and the lower bound stands still long before the gap has closed.
    ///
    /// # Errors
    /// If a setting is out of range or has no meaning here, the points leave no noise for p-PCA, or a variable of factor
    /// analysis is constant. Not converging is no error.
    pub fn fit(
        &self,
        spec: &LinearGaussianSpec,
        config: &Config,
        observer: &mut dyn Observer,
    ) -> Result<Fit<LinearGaussian>> {
        self.check(spec, config)?;
        let begun = self.begun();
        if spec.algorithm == Algorithm::ClosedForm {
            observer.on_start(0);
            return self.closed_form(begun, spec, config, observer);
        }
        let mut best: Option<Fit<LinearGaussian>> = None;
        for run in 0..config.n_init {
            let model = match &spec.init {
                Some(model) => model.clone(),
                None => self.start(spec, config.seed, run as u64)?,
            };
            observer.on_start(run);
            let left = config.max_time.map(|limit| limit.saturating_sub(begun.elapsed()));
            // The first run begins with the pass over the points.
            let since = if run == 0 { begun } else { Instant::now() };
            let left = Config { max_time: left, ..config.clone() };
            let fitted = self.em(since, spec, Begin::Afresh(model), &left, observer, None)?;
            let interrupted = fitted.stop_reason == StopReason::Interrupted;
            let bound =
                |fit: &Fit<LinearGaussian>| fit.last().map_or(f64::NEG_INFINITY, |r| r.lower_bound);
            if best.as_ref().is_none_or(|best| bound(&fitted) > bound(best)) {
                best = Some(fitted);
            }
            if interrupted || config.max_time.is_some_and(|limit| begun.elapsed() >= limit) {
                break;
            }
        }
        Ok(best.expect("at least one run"))
    }

    /// As [`fit`](Self::fit) from one start, or from where another fit was kept (`None` for a start of its own), and itself kept
    /// in checkpoints; one is made when it ends, whatever ended it.
    ///
    /// A fit that went on ends with the same bits as one that was never interrupted.
    ///
    /// # Errors
    /// As [`fit`](Self::fit); also for the closed form, which has no iterations, if several starts are asked for, if the state is of
    /// other points or settings, or a checkpoint cannot be saved.
    pub fn fit_from(
        &self,
        spec: &LinearGaussianSpec,
        begin: Option<BatchState<LinearGaussian>>,
        config: &Config,
        observer: &mut dyn Observer,
        checkpoints: Option<Checkpoints<'_, BatchState<LinearGaussian>>>,
    ) -> Result<Fit<LinearGaussian>> {
        self.check(spec, config)?;
        if spec.algorithm == Algorithm::ClosedForm {
            let message =
                "a closed form has no iterations, and no state to keep; choose em or px-em";
            return Err(Error::Config(message.into()));
        }
        if config.n_init > 1 {
            return Err(Error::Config(
                "n_init must be 1 for a fit that is kept in checkpoints".into(),
            ));
        }
        let begin = match (begin, &spec.init) {
            (Some(state), _) => Begin::Kept(state),
            (None, Some(model)) => Begin::Afresh(model.clone()),
            (None, None) => Begin::Afresh(self.start(spec, config.seed, 0)?),
        };
        observer.on_start(0);
        self.em(self.begun(), spec, begin, config, observer, checkpoints)
    }

    /// When the fits began, as if each had gone through the points by itself.
    fn begun(&self) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.preparation).unwrap_or(now)
    }

    /// Refuses settings that have no meaning here.
    fn check(&self, spec: &LinearGaussianSpec, config: &Config) -> Result<()> {
        spec.check(self.source.dim())?;
        config.check()?;
        if spec.method(self.n_points, self.source.dim()) != self.method {
            return Err(Error::Config("the summary was made for another algorithm".into()));
        }
        if config.regularization.reg_covar.is_some() {
            let message = "reg_covar is a setting of mixtures; the noise of this model is learned";
            return Err(Error::Config(message.into()));
        }
        if spec.algorithm == Algorithm::Em && config.monitor == Monitor::Delta {
            let message =
                "delta certifies nothing where the gap is not 0; with it the algorithm is px-em";
            return Err(Error::Config(message.into()));
        }
        if spec.init.is_some() && config.n_init > 1 {
            let message = "n_init must be 1 with a given start: all runs from it are the same";
            return Err(Error::Config(message.into()));
        }
        self.check_variances(spec.noise)
    }

    fn check_variances(&self, noise: Noise) -> Result<()> {
        let variances = self.variances();
        let constant = variances.iter().position(|&v| v == 0.0);
        let refuse = |message: String| Err(DataError::new(self.source.name(), message).into());
        if variances.iter().all(|&v| v == 0.0) {
            return refuse("the points do not differ, there is no variance to model".into());
        }
        match constant {
            Some(d) if noise == Noise::Diagonal => refuse(format!(
                "column {} is constant, and factor analysis needs every variable to vary; leave it out (columns count \
                 from 0)",
                match self.source.column_names() {
                    Some(names) => format!("{d}, {},", names[d]),
                    None => d.to_string(),
                }
            )),
            _ => Ok(()),
        }
    }

    /// All eigenvalues in descending order and their vectors, one a column.
    fn decompose(&self, executor: &Executor) -> Result<(Vec<f64>, Mat<f64>)> {
        let failed = || DataError::new(self.source.name(), "the eigendecomposition failed");
        let (mut values, mut vectors) = match &self.store {
            Store::Covariance(moments) => {
                let flat = row_major(moments.covariance());
                symmetric_eigen(&flat, moments.mean().len()).ok_or_else(failed)?
            }
            Store::Factor(factor) => {
                let rows = factor.rows();
                let gram = gram(rows, executor)?;
                let (values, left) = symmetric_eigen(&gram, rows.nrows()).ok_or_else(failed)?;
                let mut vectors = product(rows.transpose(), left.as_ref());
                for (column, value) in vectors.col_iter_mut().zip(&values) {
                    let scale = if *value > 0.0 { value.sqrt().recip() } else { 0.0 };
                    column.iter_mut().for_each(|v| *v *= scale);
                }
                (values, vectors)
            }
            Store::Points(_) | Store::Observed(_) => unreachable!("these have no direct method"),
        };
        values.reverse();
        values.iter_mut().for_each(|value| *value = value.max(0.0));
        vectors = vectors.as_ref().reverse_cols().to_owned();
        Ok((values, vectors))
    }

    /// A start for EM: random loadings for p-PCA and for all runs of factor analysis but the first.
    fn start(&self, spec: &LinearGaussianSpec, seed: u64, run: u64) -> Result<LinearGaussian> {
        let (mean, variances) = (self.mean(), self.variances());
        let (dim, latents) = (mean.len(), spec.latents);
        let mut rng = rng::stream(seed, run);
        let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
        if spec.noise == Noise::Isotropic {
            let variance = variances.iter().sum::<f64>() / dim as f64;
            let scale = (0.5 * variance / latents as f64).sqrt();
            let loadings: Vec<f64> = (0..dim * latents).map(|_| scale * normal()).collect();
            return LinearGaussian::new(spec.noise, mean.to_vec(), &loadings, vec![0.5 * variance]);
        }
        let noise = self
            .uniquenesses(latents)
            .unwrap_or_else(|| variances.iter().map(|v| 0.5 * v).collect());
        let mut loadings = Mat::from_fn(dim, latents, |d, _| {
            (0.5 * variances[d] / latents as f64).sqrt() * normal()
        });
        if let (0, Some(moments)) = (run, self.moments()) {
            // Principal components in units of the noise, as scikit-learn and R's factanal begin or iterate.
            let scale: Vec<f64> = noise.iter().map(|n| n.sqrt().recip()).collect();
            let scaled = Scaled { inner: moments, scale: &scale };
            let mut subspace = Subspace::new(dim, latents, seed);
            for _ in 0..START_ITERATIONS {
                subspace.step(&scaled)?;
            }
            loadings = Mat::from_fn(dim, latents, |d, h| {
                subspace.vectors[(d, h)] * (subspace.values[h] - 1.0).max(1e-3).sqrt() / scale[d]
            });
        }
        let loadings = row_major(loadings.as_ref());
        LinearGaussian::new(spec.noise, mean.to_vec(), &loadings, noise)
    }

    /// Jöreskog's start of the noise, `(1 - H / 2D) / (S⁻¹)_dd`, where the covariance can be inverted.
    fn uniquenesses(&self, latents: usize) -> Option<Vec<f64>> {
        let Store::Covariance(moments) = &self.store else { return None };
        let dim = moments.mean().len();
        if dim as u64 > MAX_EIGEN {
            return None;
        }
        let inverse = Cholesky::new(&row_major(moments.covariance()), dim)?.inverse();
        let part = 1.0 - 0.5 * latents as f64 / dim as f64;
        let noise: Vec<f64> = (0..dim).map(|d| part / inverse[d * (dim + 1)]).collect();
        // Nearly singular covariances leave nothing but rounding here.
        let usable = noise.iter().zip(moments.variances()).all(|(n, v)| *n > 1e-6 * v && n <= v);
        usable.then_some(noise)
    }

    fn em(
        &self,
        begun: Instant,
        spec: &LinearGaussianSpec,
        begin: Begin<LinearGaussian>,
        config: &Config,
        observer: &mut dyn Observer,
        checkpoints: Option<Checkpoints<'_, BatchState<LinearGaussian>>>,
    ) -> Result<Fit<LinearGaussian>> {
        let settings = || {
            let settings = batch::settings(self.source, config);
            format!("{settings}, {}, rotation {:?}", self.method, spec.rotation)
        };
        let (mut keeper, mut model, kept) = Keeper::open(begin, checkpoints, settings)?;
        spec.check_start(&model, self.source.dim())?;
        let expanded = spec.algorithm == Algorithm::PxEm;
        let mut watch = Watch::new(begun, config, self.source.column_names())?;
        if !expanded && config.monitor == Monitor::EntropySum {
            watch = watch.and(Monitor::LowerBound)?;
        }
        if let Some((numbers, warnings)) = kept {
            let mut from = Reader(&numbers);
            let read = watch.restore(&mut from, warnings);
            read.filter(|()| from.0.is_empty()).ok_or_else(damaged)?;
        } else if self.moments().is_some() {
            model.set_mean(self.mean());
        }
        let state = |model: &LinearGaussian, watch: &Watch<'_>| {
            let mut numbers = Vec::new();
            watch.write(&mut numbers);
            (model.clone(), numbers, watch.warnings().to_vec())
        };
        let mut over = watch.is_over();
        while over.is_none() {
            let (log_likelihood, step) = match self.iterate(&mut model, expanded) {
                Ok(found) => found,
                Err(fault) => {
                    // What was learned so far is kept.
                    keeper.keep(|| state(&model, &watch))?;
                    return Err(fault);
                }
            };
            let mut events = Vec::new();
            if !step.floored.is_empty() {
                events.push(Event::NoiseFloored { variables: step.floored });
            }
            let found = Iteration {
                points_seen: self.points_seen(watch.iteration()),
                entropy_sum: step.entropy_sum,
                lower_bound: step.lower_bound,
                log_likelihood,
                active_components: 1,
                events,
            };
            over = watch.record(found, observer);
            if !step.lower_bound.is_finite() {
                let message =
                    "the lower bound is no finite number; values are too large or too small";
                return Err(DataError::new(self.source.name(), message).into());
            }
            if over.is_some() || keeper.is_due() {
                keeper.keep(|| state(&model, &watch))?;
            }
        }
        let stop_reason = over.expect("the loop has ended");
        Ok(self.complete(spec, model, watch, stop_reason))
    }

    fn closed_form(
        &self,
        begun: Instant,
        spec: &LinearGaussianSpec,
        config: &Config,
        observer: &mut dyn Observer,
    ) -> Result<Fit<LinearGaussian>> {
        let moments = self.moments().expect("a closed form needs them");
        let (mean, total) = (moments.mean(), moments.variances().iter().sum::<f64>());
        let build = |values: &[f64], vectors: MatRef<'_, f64>| {
            LinearGaussian::from_principal_components(
                mean.to_vec(),
                values,
                vectors.subcols(0, values.len()),
                total,
                T::EPSILON,
            )
        };
        let mut watch = Watch::new(begun, config, self.source.column_names())?;
        if let Some((values, vectors)) = &self.eigen {
            if values.len() < spec.latents {
                return Err(Error::Model(format!(
                    "ppca: {} point(s) cannot tell {} latents apart; ask for fewer",
                    self.n_points, spec.latents
                )));
            }
            let model = build(&values[..spec.latents], vectors.as_ref())?;
            let log_likelihood = model.e_step(moments)?.log_likelihood();
            watch.record(stationary(&model, log_likelihood, self.n_points), observer);
            return Ok(self.complete(spec, model, watch, StopReason::Converged));
        }
        let mut subspace = Subspace::new(mean.len(), spec.latents, config.seed);
        loop {
            subspace.step(moments)?;
            let values = &subspace.values[..spec.latents];
            let model = build(values, subspace.vectors.as_ref())?;
            let log_likelihood = ritz_log_likelihood(&model, values, total);
            let seen = self.points_seen(watch.iteration());
            if let Some(reason) = watch.record(stationary(&model, log_likelihood, seen), observer) {
                return Ok(self.complete(spec, model, watch, reason));
            }
        }
    }

    fn points_seen(&self, iteration: usize) -> u64 {
        let passes = if self.is_over_points() { iteration as u64 } else { 1 };
        passes * self.n_points
    }

    fn complete(
        &self,
        spec: &LinearGaussianSpec,
        mut model: LinearGaussian,
        mut watch: Watch<'_>,
        stop_reason: StopReason,
    ) -> Fit<LinearGaussian> {
        if spec.algorithm != Algorithm::ClosedForm {
            model.canonicalize();
        }
        if let Some(rotation) = spec.rotation {
            model.rotate(rotation);
        }
        if self.method.form == Form::Observed {
            model = model.ignoring_missing().expect("it offers that");
        }
        let variables = model.heywood_cases(self.variances());
        if !variables.is_empty() {
            watch.warn(&Event::Heywood { variables });
        }
        watch.finish(model, stop_reason)
    }
}

/// What is found of p-PCA where its parameters are those of maximum likelihood, or the best of a subspace.
fn stationary(model: &LinearGaussian, log_likelihood: f64, points_seen: u64) -> Iteration {
    Iteration {
        points_seen,
        entropy_sum: model.stationary_entropy_sum(),
        lower_bound: log_likelihood,
        log_likelihood,
        active_components: 1,
        events: Vec::new(),
    }
}

/// Log-likelihood of p-PCA whose components have these Rayleigh quotients, from the trace of the covariance.
fn ritz_log_likelihood(model: &LinearGaussian, values: &[f64], total_variance: f64) -> f64 {
    let (dim, latents) = (model.dim() as f64, values.len() as f64);
    let noise = model.noise_variances()[0];
    let left = (total_variance - values.iter().sum::<f64>()) / noise;
    let log_det = values.iter().map(|v| v.ln()).sum::<f64>() + (dim - latents) * noise.ln();
    -0.5 * (dim * (2.0 * PI).ln() + log_det + latents + left)
}

/// `Y Y'` of N rows, row-major, some rows a lane.
fn gram(rows: MatRef<'_, f64>, executor: &Executor) -> Result<Vec<f64>> {
    const ROWS: usize = 64;
    let n = rows.nrows();
    let mut gram = vec![0.0; n * n];
    let mut lanes: Vec<_> = gram.chunks_mut(ROWS * n).collect();
    executor.for_each(&mut lanes, |index, out| {
        let count = out.len() / n;
        faer::linalg::matmul::matmul(
            faer::MatMut::from_row_major_slice_mut(out, count, n),
            faer::Accum::Replace,
            rows.subrows(index * ROWS, count),
            rows.transpose(),
            1.0,
            faer::Par::Seq,
        );
        Ok(())
    })?;
    Ok(gram)
}

/// Second moments in other units: `diag(s) S diag(s)`.
struct Scaled<'a> {
    inner: &'a dyn SecondMoments,
    scale: &'a [f64],
}

impl Scaled<'_> {
    fn rescaled(&self, mut matrix: Mat<f64>) -> Mat<f64> {
        for column in matrix.col_iter_mut() {
            column.iter_mut().zip(self.scale).for_each(|(v, s)| *v *= s);
        }
        matrix
    }
}

impl SecondMoments for Scaled<'_> {
    fn mean(&self) -> &[f64] {
        self.inner.mean()
    }

    fn variances(&self) -> &[f64] {
        self.inner.variances()
    }

    fn times(&self, matrix: MatRef<'_, f64>) -> Result<Mat<f64>> {
        let inside = self.rescaled(matrix.to_owned());
        Ok(self.rescaled(self.inner.times(inside.as_ref())?))
    }
}

/// Randomised subspace iteration with Rayleigh-Ritz: the leading eigenvalues and vectors of a covariance.
struct Subspace {
    basis: Mat<f64>,
    /// Ritz values, in descending order.
    values: Vec<f64>,
    /// Ritz vectors, one a column.
    vectors: Mat<f64>,
}

impl Subspace {
    fn new(dim: usize, count: usize, seed: u64) -> Self {
        let columns = (count + OVERSAMPLING).min(dim);
        // Stream 0 is that of the first start; another one is as good.
        let mut rng = rng::stream(seed, u64::MAX);
        let mut basis = Mat::from_fn(dim, columns, |_, _| StandardNormal.sample(&mut rng));
        orthonormalize(&mut basis);
        Self { basis, values: vec![0.0; columns], vectors: Mat::zeros(dim, columns) }
    }

    /// One product with the covariance: Ritz pairs of the basis so far, and a better basis.
    fn step<S: SecondMoments + ?Sized>(&mut self, moments: &S) -> Result<()> {
        let mut image = moments.times(self.basis.as_ref())?;
        let projected = product(self.basis.transpose(), image.as_ref());
        let columns = projected.ncols();
        let symmetric =
            Mat::from_fn(columns, columns, |i, j| 0.5 * (projected[(i, j)] + projected[(j, i)]));
        let (mut values, turn) = symmetric_eigen(&row_major(symmetric.as_ref()), columns)
            .ok_or_else(|| Error::Model("an eigendecomposition failed".into()))?;
        values.reverse();
        self.values = values;
        self.vectors = product(self.basis.as_ref(), turn.as_ref().reverse_cols());
        orthonormalize(&mut image);
        self.basis = image;
        Ok(())
    }
}
