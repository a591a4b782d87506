//! Linear-Gaussian latent variables: probabilistic PCA and factor analysis (Propositions 2 and 3, Eqns 27 to 29).
//!
//! `z ~ N(0, 1)` with H latents, `x | z ~ N(W z + μ, Ψ)`; the noise `Ψ` is `σ² 1` (p-PCA) or diagonal (factor analysis).
//! With `G = (1 + W' Ψ⁻¹ W)⁻¹` the posterior of a point is `N(G W' Ψ⁻¹ (x - μ), G)`, the same `G` for all. So the whole of
//! EM needs the mean and the covariance `S` of the points, never the points:
//!
//! ```text
//! ⟨(x - μ) z'⟩ = S Ψ⁻¹ W G             D × H    E-step
//! ⟨z z'⟩       = G + G W' Ψ⁻¹ ⟨(x - μ) z'⟩      H × H
//! W = ⟨(x - μ) z'⟩ ⟨z z'⟩⁻¹                     M-step
//! R_d = S_dd - w_d · ⟨(x - μ) z'⟩_d,   Ψ = diag R, or σ² = mean R
//! ```
//!
//! The bound minus the entropy sum is known at any parameters and any Gaussian posteriors,
//!
//! ```text
//! F - ES = ½ (H - tr ⟨z z'⟩) + ½ Σ_d (1 - R_d / ψ_d)
//! ```
//!
//! where the second half is 0 after the update of the noise alone. The first half is not, because the prior has no
//! parameter. Parameter-expanded EM (Liu, Rubin & Wu 1998) gives it one: `z ~ N(0, P)`, `P = ⟨z z'⟩` in the M-step, then
//! `W ← W P^½` and `P = 1` again. That is the parametrisation in which p-PCA meets the paper's criterion; the gap is 0
//! after each of its M-steps.

mod fitted;
mod moments;
mod partial;
mod rotation;

pub use moments::{Factor, Moments, SecondMoments};
pub(crate) use partial::PartialSums;
pub use rotation::Rotation;

use super::gaussian_observable as gaussian;
use super::{EntropySum, GenerativeModel};
use crate::error::{Error, Result};
use crate::family::support::Support;
use crate::family::{Domain, Regularization};
use crate::linalg::{Cholesky, product, row_major, symmetric_eigen};
use crate::monitor::Event;
use crate::stats::SuffStats;
use faer::{Mat, MatRef};
use std::f64::consts::PI;

/// Noise of factor analysis is held above this part of a variable's variance, so that no variable is free of it.
///
/// As far below R's `factanal` (0.005) as a floor can be without harm: what it costs in likelihood is of its own order.
const NOISE_FLOOR: f64 = 1e-6;

/// Noise below this part of a variable's variance is a Heywood case, whether or not EM has reached the floor in time.
/// R's `factanal` takes it as the lower limit of uniquenesses.
const HEYWOOD: f64 = 0.005;

/// The noise of a single linear-Gaussian model. [`NoiseStructure`](super::NoiseStructure) is that of a mixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Noise {
    /// One variance for all dimensions: probabilistic PCA.
    Isotropic,
    /// A variance for each dimension: factor analysis.
    Diagonal,
}

impl Noise {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Isotropic, Self::Diagonal];

    /// Returns the name of the model with this noise on the command line and in files: `ppca`, `factor-analysis`.
    pub fn model_name(self) -> &'static str {
        match self {
            Self::Isotropic => "ppca",
            Self::Diagonal => "factor-analysis",
        }
    }
}

/// A linear-Gaussian model: probabilistic PCA or factor analysis.
///
/// ```
/// use entropysum::model::{LinearGaussian, Noise};
///
/// let model = LinearGaussian::new(Noise::Isotropic, vec![0.0, 0.0], &[3.0, 4.0], vec![1.0])?;
/// assert_eq!((model.dim(), model.latents(), model.n_parameters()), (2, 1, 5));
/// // The entropy of N(0, W W' + 1), whose determinant is 26.
/// let entropy = (2.0 * std::f64::consts::PI * std::f64::consts::E).ln() + 0.5 * 26f64.ln();
/// assert!((model.stationary_entropy_sum().total() + entropy).abs() < 1e-14);
/// # Ok::<(), entropysum::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LinearGaussian {
    noise: Noise,
    mean: Vec<f64>,
    /// D × H.
    loadings: Mat<f64>,
    /// D values, all equal where the noise is isotropic.
    noise_variances: Vec<f64>,
    /// Whether NaN in a point is an entry that is missing.
    ignores_missing: bool,
}

/// Expectations of an E-step: joint second moments of points and latents, and the log-likelihood.
#[derive(Clone, Debug)]
pub struct Expectations {
    /// `⟨(x - μ) z'⟩`, D × H.
    cross: Mat<f64>,
    /// `⟨z z'⟩`, H × H.
    second: Mat<f64>,
    /// `ln |G|` of the posterior covariance.
    log_det: f64,
    /// `⟨(x_d - μ_d)²⟩`, D values.
    variances: Vec<f64>,
    log_likelihood: f64,
}

impl Expectations {
    /// Returns the log-likelihood of the parameters that made the posteriors, in nats per point.
    pub fn log_likelihood(&self) -> f64 {
        self.log_likelihood
    }

    /// Computes `⟨z z'⟩`: second moments of the latents over all points and posteriors, `H × H`.
    pub fn latent_moments(&self) -> MatRef<'_, f64> {
        self.second.as_ref()
    }

    fn posterior_entropy(&self) -> f64 {
        gaussian::entropy_of_log_det(self.second.nrows(), self.log_det)
    }
}

/// Values of an M-step besides the parameters.
#[derive(Clone, Debug)]
pub struct Step {
    /// The entropy sum at the new parameters with the posteriors of the E-step.
    pub entropy_sum: EntropySum,
    /// The lower bound there.
    pub lower_bound: f64,
    /// Dimensions whose noise stands at its floor.
    pub floored: Vec<usize>,
}

impl LinearGaussian {
    /// Makes a model from its parameters.
    ///
    /// # Shapes
    /// `mean: D`; `loadings: D × H`, row-major; `noise_variances:` one value if isotropic, else D.
    ///
    /// # Errors
    /// If shapes do not agree, H is 0 or not below D, a number is not finite, a variance is not positive, or the precision of the
    /// latents is beyond `f64`.
    pub fn new(
        noise: Noise,
        mean: Vec<f64>,
        loadings: &[f64],
        noise_variances: Vec<f64>,
    ) -> Result<Self> {
        let dim = mean.len();
        let invalid =
            |message: String| Err(Error::Model(format!("{}: {message}", noise.model_name())));
        if dim == 0 || loadings.is_empty() || !loadings.len().is_multiple_of(dim) {
            return invalid(format!(
                "{} loadings and a mean of {dim}, expected a multiple of the dimension",
                loadings.len()
            ));
        }
        let latents = loadings.len() / dim;
        if let Some(fault) = latents_fault(latents, dim) {
            return invalid(fault);
        }
        let expected = if noise == Noise::Isotropic { 1 } else { dim };
        if noise_variances.len() != expected {
            return invalid(format!(
                "{} noise variance(s), expected {expected}",
                noise_variances.len()
            ));
        }
        if let Some(value) = mean.iter().chain(loadings).find(|value| !value.is_finite()) {
            return invalid(format!("a parameter is {value}, expected a finite number"));
        }
        if let Some(value) = noise_variances.iter().find(|v| !(v.is_normal() && **v > 0.0)) {
            return invalid(format!("a noise variance is {value}, expected a number > 0"));
        }
        let noise_variances =
            if noise == Noise::Isotropic { vec![noise_variances[0]; dim] } else { noise_variances };
        let loadings = MatRef::from_row_major_slice(loadings, dim, latents).to_owned();
        let model = Self { noise, mean, loadings, noise_variances, ignores_missing: false };
        if model.precision_if_finite().is_none() {
            let message = "the loadings are too large for the noise variances: no density in f64";
            return invalid(message.to_owned());
        }
        Ok(model)
    }

    /// Makes a p-PCA of maximum likelihood (Tipping & Bishop 1999) from the leading eigenvalues of the covariance, in
    /// descending order, their eigenvectors (`D × H`), and its trace.
    ///
    /// `σ² = (tr S - Σ_h λ_h) / (D - H)`, `W = U (Λ - σ²)^½`.
    ///
    /// # Errors
    /// If the points lie in H dimensions, as far as `rounding` (the epsilon of the sums) tells: no noise is left then.
    pub fn from_principal_components(
        mean: Vec<f64>,
        eigenvalues: &[f64],
        vectors: MatRef<'_, f64>,
        total_variance: f64,
        rounding: f64,
    ) -> Result<Self> {
        let (dim, latents) = (mean.len(), eigenvalues.len());
        let left = total_variance - eigenvalues.iter().sum::<f64>();
        let noise_variance = left / (dim - latents) as f64;
        check_noise(noise_variance, total_variance, dim, latents, rounding)?;
        let loadings = Mat::from_fn(dim, latents, |d, h| {
            vectors[(d, h)] * (eigenvalues[h] - noise_variance).max(0.0).sqrt()
        });
        let noise_variances = vec![noise_variance; dim];
        let (noise, ignores_missing) = (Noise::Isotropic, false);
        let mut model = Self { noise, mean, loadings, noise_variances, ignores_missing };
        model.fix_signs();
        Ok(model)
    }

    /// Returns the kind of noise.
    pub fn noise(&self) -> Noise {
        self.noise
    }

    /// Returns the dimension D of the points.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Returns the number of latents H.
    pub fn latents(&self) -> usize {
        self.loadings.ncols()
    }

    /// Returns the mean `μ`, D values.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Returns the loadings `W`, `D × H`.
    pub fn loadings(&self) -> MatRef<'_, f64> {
        self.loadings.as_ref()
    }

    /// Returns the noise variances, one for each dimension; all equal for p-PCA.
    pub fn noise_variances(&self) -> &[f64] {
        &self.noise_variances
    }

    /// Returns the number of free parameters: mean, loadings up to a rotation, noise.
    pub fn n_parameters(&self) -> usize {
        let (d, h) = (self.dim(), self.latents());
        let noise = if self.noise == Noise::Isotropic { 1 } else { d };
        d + d * h - h * (h - 1) / 2 + noise
    }

    /// Computes `Ψ⁻¹ W`, and the Cholesky factor of `G⁻¹ = 1 + W' Ψ⁻¹ W`.
    pub(crate) fn precision(&self) -> (Mat<f64>, Cholesky) {
        self.precision_if_finite().expect("1 + a positive semi-definite matrix of finite numbers")
    }

    fn precision_if_finite(&self) -> Option<(Mat<f64>, Cholesky)> {
        let scaled = Mat::from_fn(self.dim(), self.latents(), |d, h| {
            self.loadings[(d, h)] / self.noise_variances[d]
        });
        let mut precision = product(self.loadings.transpose(), scaled.as_ref());
        for h in 0..self.latents() {
            precision[(h, h)] += 1.0;
        }
        let precision = row_major(precision.as_ref());
        let cholesky = Cholesky::new(&precision, self.latents())?;
        Some((scaled, cholesky))
    }

    /// Computes the posterior covariance `G` of the latents, the same for every point; `H × H`, row-major.
    pub fn posterior_covariance(&self) -> Vec<f64> {
        self.precision().1.inverse()
    }

    /// Computes `ln |2 π (W W' + Ψ)|`, from H × H matrices.
    pub(crate) fn log_det(&self, precision: &Cholesky) -> f64 {
        self.noise_variances.iter().map(|v| (2.0 * PI * v).ln()).sum::<f64>() + precision.log_det()
    }

    /// Computes the expectations that an M-step needs, under the posteriors of all points at these parameters.
    ///
    /// # Errors
    /// Those of the product, if it reads points.
    pub fn e_step<S: SecondMoments + ?Sized>(&self, moments: &S) -> Result<Expectations> {
        let (dim, latents) = (self.dim(), self.latents());
        let (scaled, precision) = self.precision();
        let covariance = precision.inverse();
        let covariance = MatRef::from_row_major_slice(&covariance, latents, latents);
        let projection = product(scaled.as_ref(), covariance);
        let mut cross = moments.times(projection.as_ref())?;
        let mut variances = moments.variances().to_vec();
        let apart: Vec<f64> = moments.mean().iter().zip(&self.mean).map(|(m, c)| m - c).collect();
        if apart.iter().any(|&a| a != 0.0) {
            let row = Mat::from_fn(1, dim, |_, d| apart[d]);
            cross += product(row.transpose(), product(row.as_ref(), projection.as_ref()).as_ref());
            variances.iter_mut().zip(&apart).for_each(|(v, a)| *v += a * a);
        }
        let explained = product(scaled.transpose(), cross.as_ref());
        let mut second = product(covariance, explained.as_ref());
        second += covariance;
        // Symmetric up to rounding; made exactly so.
        let second = Mat::from_fn(latents, latents, |i, j| 0.5 * (second[(i, j)] + second[(j, i)]));
        let squares: f64 = variances.iter().zip(&self.noise_variances).map(|(v, n)| v / n).sum();
        let trace: f64 = (0..latents).map(|h| explained[(h, h)]).sum();
        let log_likelihood = -0.5 * (self.log_det(&precision) + squares - trace);
        Ok(Expectations { cross, second, log_det: -precision.log_det(), variances, log_likelihood })
    }

    /// Computes `R_d = ⟨(x_d - μ_d - w_d · z)²⟩` for these loadings; D values.
    fn residuals(&self, e: &Expectations) -> Vec<f64> {
        let images = product(self.loadings.as_ref(), e.second.as_ref());
        let row = |d: usize| {
            (0..self.latents())
                .map(|h| self.loadings[(d, h)] * (images[(d, h)] - 2.0 * e.cross[(d, h)]))
                .sum::<f64>()
        };
        (0..self.dim()).map(|d| (e.variances[d] + row(d)).max(0.0)).collect()
    }

    /// Returns the lower bound `F(q, Θ)` (Eqn 2) of these parameters, whatever parameters made the posteriors.
    pub fn lower_bound(&self, e: &Expectations) -> f64 {
        let trace = (0..self.latents()).map(|h| e.second[(h, h)]).sum::<f64>();
        let sum = self.entropy_sum(e);
        sum.total() + gaussian::prior_gap(self.latents(), trace) + self.noise_gap(e)
    }

    fn noise_gap(&self, e: &Expectations) -> f64 {
        gaussian::noise_gap(&self.residuals(e), &self.noise_variances)
    }

    /// Returns the entropy sum (Eqn 3) of these parameters, whatever parameters made the posteriors. No bound by itself:
    /// `F - ES = ½ (H - tr ⟨z z'⟩) + ½ Σ_d (1 - R_d / ψ_d)`.
    pub fn entropy_sum(&self, e: &Expectations) -> EntropySum {
        EntropySum {
            posterior: e.posterior_entropy(),
            prior: gaussian::standard_entropy(self.latents()),
            hidden: 0.0,
            observable: gaussian::diagonal_entropy(&self.noise_variances),
            base_measure: 0.0,
        }
    }

    /// Returns the entropy sum with exact posteriors, from the parameters alone, in O(D H²) (Eqn 29, with the sign of its
    /// determinant corrected): `-½ ln |1 + W' Ψ⁻¹ W| - ½ Σ_d ln 2πe ψ_d`.
    ///
    /// It is the log-likelihood at stationary points, and minus the entropy of the model's density at all.
    pub fn stationary_entropy_sum(&self) -> EntropySum {
        let (_, precision) = self.precision();
        EntropySum {
            posterior: gaussian::entropy_of_log_det(self.latents(), -precision.log_det()),
            prior: gaussian::standard_entropy(self.latents()),
            hidden: 0.0,
            observable: gaussian::diagonal_entropy(&self.noise_variances),
            base_measure: 0.0,
        }
    }

    /// Does the M-step of EM, or of parameter-expanded EM, for posteriors about the mean of the points.
    ///
    /// # Errors
    /// If no noise is left for p-PCA: as [`from_principal_components`](Self::from_principal_components).
    pub fn m_step(&mut self, e: &Expectations, expanded: bool, rounding: f64) -> Result<Step> {
        let latents = self.latents();
        let second = Cholesky::new(&row_major(e.second.as_ref()), latents);
        let second = second.expect("a posterior covariance and a positive semi-definite matrix");
        let inverse = second.inverse();
        let inverse = MatRef::from_row_major_slice(&inverse, latents, latents);
        self.loadings = product(e.cross.as_ref(), inverse);
        let residuals = self.residuals(e);
        let floored = self.set_noise(&residuals, &e.variances, rounding)?;
        let mut entropy_sum = self.entropy_sum(e);
        let trace = (0..latents).map(|h| e.second[(h, h)]).sum::<f64>();
        let mut gap = gaussian::noise_gap(&residuals, &self.noise_variances);
        if expanded {
            entropy_sum.prior = gaussian::entropy_of_log_det(latents, second.log_det());
            self.loadings = product(self.loadings.as_ref(), second.factor());
        } else {
            gap += gaussian::prior_gap(latents, trace);
        }
        Ok(Step { entropy_sum, lower_bound: entropy_sum.total() + gap, floored })
    }

    fn set_noise(
        &mut self,
        residuals: &[f64],
        variances: &[f64],
        rounding: f64,
    ) -> Result<Vec<usize>> {
        let dim = self.dim();
        if self.noise == Noise::Isotropic {
            let total: f64 = variances.iter().sum();
            let value = residuals.iter().sum::<f64>() / dim as f64;
            check_noise(value, total, dim, self.latents(), rounding)?;
            self.noise_variances.fill(value);
            return Ok(Vec::new());
        }
        let mut floored = Vec::new();
        for d in 0..dim {
            let floor = NOISE_FLOOR * variances[d];
            self.noise_variances[d] = residuals[d].max(floor);
            if residuals[d] <= floor {
                floored.push(d);
            }
        }
        Ok(floored)
    }

    /// Finds the dimensions with noise below half a percent of their variance: Heywood cases, in which a factor explains one
    /// variable entirely, and the likelihood has no maximum inside.
    pub fn heywood_cases(&self, variances: &[f64]) -> Vec<usize> {
        let is_case = |d: &usize| {
            self.noise == Noise::Diagonal && self.noise_variances[*d] < HEYWOOD * variances[*d]
        };
        (0..self.dim()).filter(is_case).collect()
    }

    /// Turns the latents so that loadings are unique: orthogonal columns (in units of the noise), the longest first, the
    /// largest loading of each positive. The density stays the same.
    pub(crate) fn canonicalize(&mut self) {
        let (scaled, _) = self.precision();
        let gram = row_major(product(self.loadings.transpose(), scaled.as_ref()).as_ref());
        // Without an eigendecomposition the loadings are as good as before, only not canonical.
        if let Some((_, vectors)) = symmetric_eigen(&gram, self.latents()) {
            self.loadings = product(self.loadings.as_ref(), vectors.as_ref().reverse_cols());
        }
        self.fix_signs();
    }

    /// Makes the largest loading of each latent positive.
    fn fix_signs(&mut self) {
        let larger = |a: f64, b: &f64| if b.abs() > a.abs() { *b } else { a };
        for column in self.loadings.col_iter_mut() {
            if column.as_ref().iter().fold(0.0, larger) < 0.0 {
                column.iter_mut().for_each(|value| *value = -*value);
            }
        }
    }

    /// Rotates the loadings to a simple structure; latents stay independent, and the density stays the same.
    pub fn rotate(&mut self, rotation: Rotation) {
        rotation.apply(&mut self.loadings);
        self.fix_signs();
    }

    /// Moves the mean to that of the points, its maximum-likelihood value whatever the other parameters are.
    pub(crate) fn set_mean(&mut self, mean: &[f64]) {
        self.mean.copy_from_slice(mean);
    }
}

/// On statistics that are moments of points, as [`Moments::stats`] lays them out: they hold no posteriors, so these are the
/// exact ones of the parameters asked. An M-step is then a whole iteration of parameter-expanded EM.
impl GenerativeModel for LinearGaussian {
    fn dim(&self) -> usize {
        self.dim()
    }

    fn domains(&self) -> Vec<Domain> {
        // Without missing entries, values that are no finite numbers show in densities, without being looked for.
        let columns = 0..self.dim();
        let domain = Domain { columns, support: Support::Real, missing: true };
        self.ignores_missing.then_some(domain).into_iter().collect()
    }

    fn ignoring_missing(self) -> Result<Self> {
        Ok(Self { ignores_missing: true, ..self })
    }

    fn m_step(&mut self, stats: &SuffStats, regularization: &Regularization) -> Vec<Event> {
        let moments = Moments::from_stats(stats);
        let mut next = self.clone();
        next.set_mean(moments.mean());
        let expectations = next.e_step(&moments).expect("a product in memory");
        match next.m_step(&expectations, true, regularization.rounding) {
            Ok(step) => {
                *self = next;
                let variables = step.floored;
                if variables.is_empty() { vec![] } else { vec![Event::NoiseFloored { variables }] }
            }
            // No noise is left: the parameters stay.
            Err(_) => vec![Event::NoiseFloored { variables: (0..self.dim()).collect() }],
        }
    }

    fn finish(&mut self) {
        self.canonicalize();
    }

    fn entropy_sum(&self, _: &SuffStats) -> EntropySum {
        self.stationary_entropy_sum()
    }

    fn lower_bound(&self, stats: &SuffStats) -> f64 {
        self.e_step(&Moments::from_stats(stats)).expect("a product in memory").log_likelihood()
    }

    fn n_parameters(&self) -> usize {
        self.n_parameters()
    }

    fn active_components(&self) -> usize {
        1
    }
}

/// Refuses a number of latents; returns the reason, or `None` if the number is possible.
pub(crate) fn latents_fault(latents: usize, dim: usize) -> Option<String> {
    if latents == 0 {
        Some("0 latents, expected at least 1".into())
    } else if latents >= dim {
        Some(format!("{latents} latents for {dim} dimension(s), expected fewer latents than that"))
    } else {
        None
    }
}

/// Refuses a noise variance that is nothing but rounding.
fn check_noise(
    noise_variance: f64,
    total_variance: f64,
    dim: usize,
    latents: usize,
    rounding: f64,
) -> Result<()> {
    // Eigenvalues carry errors of about the rounding of the largest, one for each dimension.
    if noise_variance > 4.0 * rounding * total_variance {
        return Ok(());
    }
    let message = if total_variance > 0.0 {
        format!(
            "ppca: the points lie in {latents} or fewer of the {dim} dimensions, so no noise is left with {latents} \
             latent(s) and the likelihood has no maximum; ask for fewer latents"
        )
    } else {
        "ppca: the points do not differ, there is no variance to model".to_owned()
    };
    Err(Error::Model(message))
}
