//! What linear-Gaussian models need of points: their second moments, in the form that the method asks for.

use super::learner::Prepared;
use super::subspace::{Scaled, Subspace};
use super::{Form, LinearGaussianAlgorithm, LinearGaussianSpec, MAX_EIGEN, Method};
use crate::data::DataSource;
use crate::em::config::Config;
use crate::em::driver::Fit;
use crate::em::fitting::Fitting;
use crate::em::moment_passes::{Passes, factor};
use crate::em::moments::moments;
use crate::em::observed_patterns::Patterns;
use crate::error::{DataError, Error, Result};
use crate::exec::Executor;
use crate::inference::Score;
use crate::linalg::{Cholesky, product, row_major, symmetric_eigen};
use crate::model::linear_gaussian::Factor;
use crate::model::{LinearGaussian, Moments, Noise, SecondMoments};
use crate::monitor::{Monitor, Observer};
use crate::rng;
use crate::scalar::Scalar;
use faer::{Mat, MatRef};
use rand_distr::{Distribution, StandardNormal};
use std::time::{Duration, Instant};

/// Subspace iterations that find a start of factor analysis; EM does the rest.
const START_ITERATIONS: usize = 10;

/// All that linear-Gaussian models need of points: made once, then any number of them can be fitted and scored.
///
/// Models of several numbers of latents, for example, cost one pass over the points together.
#[derive(Debug)]
pub struct Summary<'a, T: Scalar> {
    method: Method,
    pub(super) store: Store<'a, T>,
    source: &'a dyn DataSource<T>,
    executor: &'a Executor,
    n_points: u64,
    total_weight: f64,
    /// How long it took to make this.
    preparation: Duration,
    /// All eigenvalues in descending order and their vectors, for direct closed forms.
    pub(super) eigen: Option<(Vec<f64>, Mat<f64>)>,
}

#[derive(Debug)]
pub(super) enum Store<'a, T: Scalar> {
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
        let mut summary = Self {
            method,
            store,
            source,
            executor,
            n_points,
            total_weight,
            preparation,
            eigen: None,
        };
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

    pub(super) fn mean(&self) -> &[f64] {
        match &self.store {
            Store::Covariance(moments) => SecondMoments::mean(moments),
            Store::Factor(factor) => factor.mean(),
            Store::Points(passes) => passes.mean(),
            Store::Observed(patterns) => patterns.mean(),
        }
    }

    pub(super) fn variances(&self) -> &[f64] {
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

    /// How many points an iteration of a fit goes through; 0 where it works on matrices.
    pub fn points_per_iteration(&self) -> u64 {
        if self.is_over_points() { self.n_points } else { 0 }
    }

    pub(super) fn is_over_points(&self) -> bool {
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

    /// Fits a model by its points' summary: the best by its bound of `config.n_init` starts if the algorithm has such.
    ///
    /// Seconds count from the beginning of the pass over the points, as if each fit had made its own.
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
        let fitting = Fitting::new(self.source, self.executor).config(config).observer(observer);
        fitting.fit(&self.prepared(spec))
    }

    /// Returns a specification that is fitted by this summary, for a [`Fitting`] of the same points.
    pub fn prepared<'s>(&'s self, spec: &'s LinearGaussianSpec) -> Prepared<'s, T> {
        Prepared { summary: self, spec }
    }

    /// When the fits began, as if each had gone through the points by itself.
    pub(super) fn begun(&self) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.preparation).unwrap_or(now)
    }

    /// Refuses settings that have no meaning here.
    pub(super) fn check(&self, spec: &LinearGaussianSpec, config: &Config) -> Result<()> {
        spec.check(self.source.dim())?;
        config.check()?;
        if spec.method(self.n_points, self.source.dim()) != self.method {
            return Err(Error::Config("the summary was made for another algorithm".into()));
        }
        if config.regularization.reg_covar.is_some() {
            let message = "reg_covar is a setting of mixtures; the noise of this model is learned";
            return Err(Error::Config(message.into()));
        }
        if spec.algorithm == LinearGaussianAlgorithm::Em && config.monitor == Monitor::Delta {
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
    pub(super) fn start(
        &self,
        spec: &LinearGaussianSpec,
        seed: u64,
        run: u64,
    ) -> Result<LinearGaussian> {
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
                let image = subspace.image(&scaled)?;
                subspace.turn(&image)?;
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
