//! Mixtures of factor analysers and of probabilistic PCA (Props. 2 and 3 with latents `(c, z)`).
//!
//! `p(x) = Σ_c π_c N(x; μ_c, W_c W_c' + Ψ_c)`: a component is a Gaussian whose covariance takes D H numbers. Over a tile of
//! B points the E-step is, with `Ψ_c^-½ W_c = B_c`, `I + B_c' B_c = L_c L_c'` and `A_c = Ψ_c^-½ B_c L_c'⁻¹`,
//!
//! ```text
//! U = X A            B × C H   whitened posterior means    faer's matmul
//! Z = b - ½ |Ψ^-½ (x - μ)|² + ½ |u|²    B × C              kernels::factors
//! R = softmax(Z)     B × C                                 kernels::softmax
//! S += X' (R ∘ U)    D × C H                               faer's matmul
//! ```
//!
//! at O(B C D H), and no matrix of D × D exists. Given `x` and `c`, `L_c' z` has the mean `u` and unit covariance, so that
//! posterior means and covariances of `z` need to exist only once a sweep, when its sums are complete.
//!
//! # Entropy sum
//!
//! The prior `π_c N(z; 0, I)` and the noise have constant base measures, and scaling all natural parameters stays inside
//! the model once the scale of the prior is free. So with `G_c` the posterior covariance of `z`
//!
//! ```text
//! ES = mean_n H[q_n(c)] + Σ_c q̄_c ½ ln|2πe G_c|              posterior
//!    - H[π] - Σ_c π_c ½ ln|2πe P_c|                          prior, N(a_c, P_c)
//!    - Σ_c q̄_c Σ_d ½ ln 2πe ψ_cd                             observable
//! ```
//!
//! and at any parameters and posteriors, with the second moments `M_c` of `z - a_c` and the squared residuals `R_cd`, both
//! weighted by `q_nc`,
//!
//! ```text
//! F - ES = Σ_c (q̄_c - π_c) (ln π_c - ½ ln|2π P_c|) + ½ (H - Σ_c tr P_c⁻¹ M_c) + ½ Σ_cd (q̄_c - R_cd / ψ_cd)
//! ```
//!
//! Ordinary EM (Ghahramani & Hinton 1996) holds the prior at `N(0, I)` and leaves its part of the gap open until it has
//! converged. Parameter expansion (Liu, Rubin & Wu 1998) maximises over `a_c` and `P_c` too, which closes the gap after
//! every M-step; what it adds to the loadings, `W_c chol(P_c)`, is what the model is then told by.

mod component;
mod e_step;
mod m_step;
mod table;

use super::repair::{self, Repairable, STEP_APART};
use super::{BlockSampler, EntropySum, GenerativeModel, Posterior, Sample, entropy_of_weights};
use crate::error::{Error, Result};
use crate::family::Regularization;
use crate::linalg::row_major;
use crate::monitor::Event;
use crate::rng;
use crate::stats::{StatsShape, SuffStats};
use crate::work::{self, Alone, Workers};
use component::{Component, factorized};
use faer::{Mat, MatRef};
use m_step::Moments;
use rand_distr::{Distribution, StandardNormal};
use std::f64::consts::{FRAC_2_PI, TAU};

/// Largest mean. Larger numbers overflow when they are squared and summed.
const LARGEST: f64 = 1e140;

/// Structure of the noise of the components. [`Noise`](super::Noise) is that of a single linear-Gaussian model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoiseStructure {
    /// A variance for each dimension and component: factor analysers.
    Diagonal,
    /// A variance for each dimension, shared by all components (Ghahramani & Hinton 1996).
    Tied,
    /// One variance for each component: probabilistic PCA.
    Isotropic,
}

impl NoiseStructure {
    /// Every structure.
    pub const ALL: [Self; 3] = [Self::Diagonal, Self::Tied, Self::Isotropic];

    /// Returns the name of the model on the command line and in files: `mfa`, `mfa-tied` or `mppca`.
    pub fn model_name(self) -> &'static str {
        match self {
            Self::Diagonal => "mfa",
            Self::Tied => "mfa-tied",
            Self::Isotropic => "mppca",
        }
    }
}

/// A mixture of C factor analysers, or probabilistic PCAs, of H latents each.
#[derive(Clone, Debug)]
pub struct MixtureOfFactorAnalyzers {
    noise: NoiseStructure,
    posterior: Posterior,
    expands: bool,
    weights: Vec<f64>,
    components: Vec<Component>,
    /// Components out of use, of weight zero, until the fit ends.
    discarded: Vec<bool>,
    /// The point about which tiles of points are taken.
    centre: Vec<f64>,
    /// The points about which the statistics of each component are taken.
    centres: Vec<Vec<f64>>,
    /// Lower limits of noise variances, as the M-steps of a fit have held them; empty before the first.
    floors: Vec<f64>,
}

impl MixtureOfFactorAnalyzers {
    /// Makes a mixture with given parameters.
    ///
    /// # Shapes
    /// `weights: C`, `means: C × D`, `loadings: C × D × H`, `noise_variances: C × D`, or `C` where the noise is isotropic and
    /// `D` where it is tied; all row-major.
    ///
    /// # Errors
    /// If shapes differ, H is not in `1..D`, weights are no distribution (up to 1e-6, which rounding in a file may cost),
    /// or a component has a variance that is not positive or numbers out of range.
    ///
    /// ```
    /// use entropysum::expert::model::GenerativeModel;
    /// use entropysum::model::{MixtureOfFactorAnalyzers, NoiseStructure};
    ///
    /// let (means, loadings) = ([0.0, 0.0, 5.0, 5.0], [1.0, 0.5, 0.0, 2.0]);
    /// let model = MixtureOfFactorAnalyzers::new(
    ///     NoiseStructure::Isotropic, 2, vec![0.5, 0.5], &means, &loadings, &[0.1, 0.2],
    /// )?;
    /// assert_eq!((model.n_components(), model.n_latents()), (2, 1));
    /// assert_eq!(model.parameter("noise_variances").unwrap(), [0.1, 0.1, 0.2, 0.2]);
    /// assert_eq!(model.n_parameters(), 1 + 4 + 4 + 2);
    /// # Ok::<(), entropysum::error::Error>(())
    /// ```
    pub fn new(
        noise: NoiseStructure,
        dim: usize,
        weights: Vec<f64>,
        means: &[f64],
        loadings: &[f64],
        noise_variances: &[f64],
    ) -> Result<Self> {
        let invalid =
            |message: String| Err(Error::Model(format!("{}: {message}", noise.model_name())));
        let n_components = weights.len();
        if n_components == 0 {
            return invalid("a mixture needs at least one component".into());
        }
        if dim == 0 || means.len() != n_components * dim {
            return invalid(format!(
                "\"means\" holds {} number(s), expected {n_components} × {dim}",
                means.len()
            ));
        }
        let latents = loadings.len() / (n_components * dim);
        if loadings.len() != n_components * dim * latents {
            return invalid(format!(
                "\"loadings\" holds {} number(s), expected a multiple of {n_components} × {dim}",
                loadings.len()
            ));
        }
        if let Err(message) = check_latents(latents, dim) {
            return invalid(message);
        }
        let noise_variances = match noise {
            NoiseStructure::Isotropic if noise_variances.len() == n_components => {
                noise_variances.iter().flat_map(|v| vec![*v; dim]).collect()
            }
            NoiseStructure::Tied if noise_variances.len() == dim => {
                noise_variances.repeat(n_components)
            }
            _ => noise_variances.to_vec(),
        };
        if noise_variances.len() != n_components * dim {
            return invalid(format!(
                "\"noise_variances\" holds {} number(s), expected {n_components} × {dim}",
                noise_variances.len()
            ));
        }
        if noise == NoiseStructure::Tied
            && noise_variances.chunks(dim).any(|v| v != &noise_variances[..dim])
        {
            return invalid("noise variances of components differ, expected the same ones".into());
        }
        if let Some(c) = weights.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
            return invalid(format!(
                "weight of component {c} is {}, expected a number ≥ 0",
                weights[c]
            ));
        }
        let total: f64 = weights.iter().sum();
        if (total - 1.0).abs() > 1e-6 {
            return invalid(format!("weights sum to {total}, expected 1"));
        }
        let mut components = Vec::with_capacity(n_components);
        for c in 0..n_components {
            let mean = means[c * dim..][..dim].to_vec();
            if let Some(d) = mean.iter().position(|m| !(m.abs() <= LARGEST)) {
                return invalid(format!(
                    "component {c}: mean of dimension {d} is {:e}, expected a number within ±{LARGEST:e}",
                    mean[d]
                ));
            }
            let own = &noise_variances[c * dim..][..dim];
            if noise == NoiseStructure::Isotropic && own.iter().any(|v| *v != own[0]) {
                return invalid(format!("component {c}: noise variances differ, expected one"));
            }
            let component = Component {
                mean,
                loadings: MatRef::from_row_major_slice(
                    &loadings[c * dim * latents..][..dim * latents],
                    dim,
                    latents,
                )
                .to_owned(),
                noise: own.to_vec(),
                latent_mean: vec![0.0; latents],
                latent_factor: Mat::identity(latents, latents),
            };
            if component.factorize().is_none() {
                return invalid(format!(
                    "component {c}: expected noise variances > 0, and numbers within the range of f64"
                ));
            }
            components.push(component);
        }
        // Weights that sum to 1 as nearly as sums go stay as they are, so that files give back the same bits.
        let is_rounding = (total - 1.0).abs() <= n_components as f64 * f64::EPSILON;
        let total = if is_rounding { 1.0 } else { total };
        let mut model = Self {
            noise,
            posterior: Posterior::Exact,
            expands: true,
            weights: weights.iter().map(|w| w / total).collect(),
            discarded: vec![false; n_components],
            components,
            centre: Vec::new(),
            centres: Vec::new(),
            floors: Vec::new(),
        };
        model.recentre();
        Ok(model)
    }

    /// Returns the same mixture, to be learned with an expanded prior, or by ordinary EM.
    pub fn with_parameter_expansion(mut self, expands: bool) -> Self {
        self.expands = expands;
        self
    }

    /// Returns the same mixture with another variational family: exact or truncated posteriors of the components.
    pub fn with_posterior(mut self, posterior: Posterior) -> Self {
        self.posterior = posterior;
        self
    }

    /// Returns the variational family.
    pub fn posterior(&self) -> Posterior {
        self.posterior
    }

    /// Returns the structure of the noise.
    pub fn noise(&self) -> NoiseStructure {
        self.noise
    }

    /// Returns the number of components C.
    pub fn n_components(&self) -> usize {
        self.weights.len()
    }

    /// Returns the number of latents H of each component.
    pub fn n_latents(&self) -> usize {
        self.components[0].latents()
    }

    /// Returns the mixing weights `π`; C values that sum to 1.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Returns a named array of parameters, row-major: `means` (C × D), `loadings` (C × D × H) or `noise_variances` (C × D).
    ///
    /// The loadings are those of latents with the prior `N(0, I)`.
    pub fn parameter(&self, name: &str) -> Option<Vec<f64>> {
        let of = |array: &dyn Fn(&Component) -> Vec<f64>| {
            Some(self.components.iter().flat_map(array).collect())
        };
        match name {
            "means" => of(&|component| component.mean.clone()),
            "loadings" => of(&|component| row_major(component.unit_loadings().as_ref())),
            "noise_variances" => of(&|component| component.noise.clone()),
            _ => None,
        }
    }

    /// Computes the contribution `π_c (H[p(x | c)] - ln π_c)` of each component to the entropies, `H[p(x | c)] = ½ ln|2πe (W_c W_c' + Ψ_c)|`, in nats.
    pub fn entropy_contributions(&self) -> Vec<f64> {
        let entropies: Vec<f64> = self.components.iter().map(entropy).collect();
        repair::entropy_contributions(&self.weights, &entropies)
    }

    /// Computes `ln π_c - ½ ln det P_c`: up to a constant, the natural parameters of the components in the prior.
    pub(crate) fn prior_levels(&self) -> Vec<f64> {
        let levels = self.weights.iter().zip(&self.components);
        levels.map(|(weight, component)| weight.ln() - component.half_log_det_prior()).collect()
    }

    /// Returns the same mixture with other weights, and with all covariances of priors and of noise times a number.
    pub(crate) fn scaled(&self, weights: Vec<f64>, prior: f64, noise: f64) -> Self {
        let mut scaled = Self { weights, ..self.clone() };
        for component in &mut scaled.components {
            component.latent_factor *= faer::Scale(prior.sqrt());
            component.noise.iter_mut().for_each(|variance| *variance *= noise);
        }
        scaled
    }

    fn shape(&self) -> StatsShape {
        let (dim, latents) = (self.dim(), self.n_latents());
        StatsShape {
            components: self.n_components(),
            statistics: m_step::n_statistics(dim, latents),
            shared: 0,
            centre: dim,
        }
    }

    fn bound_by(&self, stats: &SuffStats, workers: &dyn Workers) -> f64 {
        let part = |c: usize| match (stats.mass()[c], self.moments(stats, c)) {
            (mass, Some(moments)) => mass * moments.log_likelihood(&self.components[c]),
            (mass, None) => {
                if mass > 0.0 {
                    f64::NAN
                } else {
                    0.0
                }
            }
        };
        let parts = work::map(workers, self.n_components(), self.per_piece(), part);
        let mut sum = stats.posterior_entropy();
        for ((part, mass), weight) in parts.iter().zip(stats.mass()).zip(&self.weights) {
            if *mass > 0.0 {
                sum += mass * weight.ln();
                sum += part;
            }
        }
        sum / stats.total_weight()
    }

    fn moments(&self, stats: &SuffStats, component: usize) -> Option<Moments> {
        Moments::new(stats, component, self.n_latents())
    }
}

/// Says why a component cannot have this many latents.
pub(crate) fn check_latents(latents: usize, dim: usize) -> Result<(), String> {
    if dim < 2 {
        return Err(format!("points have {dim} dimension(s), expected at least 2"));
    }
    if latents == 0 || latents >= dim {
        return Err(format!(
            "{latents} latent(s), expected from 1 to {}, fewer than the {dim} dimensions",
            dim - 1
        ));
    }
    Ok(())
}

impl GenerativeModel for MixtureOfFactorAnalyzers {
    fn dim(&self) -> usize {
        self.components[0].mean.len()
    }

    fn m_step(&mut self, stats: &SuffStats, regularization: &Regularization) -> Vec<Event> {
        self.m_step_by(stats, regularization, &Alone)
    }

    fn m_step_by(
        &mut self,
        stats: &SuffStats,
        regularization: &Regularization,
        workers: &dyn Workers,
    ) -> Vec<Event> {
        let total: f64 = stats.mass().iter().sum();
        for (weight, mass) in self.weights.iter_mut().zip(stats.mass()) {
            *weight = mass / total;
        }
        let update = repair::have_enough_points(stats);
        repair::events_of(&self.maximize(stats, &update, regularization, workers))
    }

    fn repair(&mut self, stats: &SuffStats, splits_left: &mut usize) -> Vec<Event> {
        repair::split_or_discard(self, stats, splits_left)
    }

    fn adopt(&self, events: &[Event], stats: &mut SuffStats) {
        repair::adopt_repairs(events, stats, |c, mass, stats| {
            let centre = stats.centre(c).to_vec();
            stats.mass_mut()[c] = mass;
            self.components[c].expected_sums(mass, &centre, stats.sums_mut(c));
        });
    }

    fn centres(&self) -> Vec<f64> {
        self.components.iter().flat_map(|component| component.mean.iter().copied()).collect()
    }

    /// Statistics are about latents too, whose coordinates stay: an M-step changes what their prior is, and not what they are.
    fn translate(&self, stats: &mut SuffStats, centres: &[f64]) {
        for (c, centre) in centres.chunks(self.dim()).enumerate() {
            let mass = stats.mass()[c];
            let shift: Vec<f64> =
                centre.iter().zip(stats.centre(c)).map(|(to, from)| to - from).collect();
            // What has no points stays zero, however far it is moved.
            if mass > 0.0 && shift.iter().any(|&step| step != 0.0) {
                m_step::translate(stats.sums_mut(c), mass, &shift, self.n_latents());
            }
        }
        stats.set_centres(centres);
    }

    /// Takes tiles about the mean of the mixture, and the statistics of each component about its mean.
    fn recentre(&mut self) {
        self.centre = vec![0.0; self.dim()];
        for (weight, component) in self.weights.iter().zip(&self.components) {
            for (sum, value) in self.centre.iter_mut().zip(&component.mean) {
                *sum += weight * value;
            }
        }
        self.centres = self.components.iter().map(|component| component.mean.clone()).collect();
    }

    /// Returns whether priors are learned, the centres, the floors, and the priors of all components with the loadings that go with them.
    fn forgotten(&self) -> Vec<f64> {
        let mut numbers = vec![f64::from(u8::from(self.expands))];
        numbers.extend(&self.centre);
        // As many as there are dimensions, whether or not floors are held yet.
        numbers.extend((0..self.dim()).map(|d| self.floors.get(d).copied().unwrap_or(-1.0)));
        for (component, centre) in self.components.iter().zip(&self.centres) {
            numbers.extend(centre);
            numbers.extend(&component.latent_mean);
            numbers.extend(row_major(component.latent_factor.as_ref()));
            numbers.extend(row_major(component.loadings.as_ref()));
        }
        numbers
    }

    fn remind(&mut self, forgotten: &[f64]) -> bool {
        let (dim, latents) = (self.dim(), self.n_latents());
        let each = dim + latents * (1 + latents + dim);
        if forgotten.len() != 1 + 2 * dim + self.n_components() * each {
            return false;
        }
        let (expands, numbers) = forgotten.split_at(1);
        let (centre, numbers) = numbers.split_at(dim);
        let (floors, numbers) = numbers.split_at(dim);
        self.floors = floors.iter().copied().filter(|&floor| floor >= 0.0).collect();
        self.expands = expands[0] != 0.0;
        self.centre = centre.to_vec();
        let parts = self.components.iter_mut().zip(&mut self.centres).zip(numbers.chunks(each));
        for ((component, centre), numbers) in parts {
            let (own, numbers) = numbers.split_at(dim);
            let (mean, matrices) = numbers.split_at(latents);
            let (factor, loadings) = matrices.split_at(latents * latents);
            *centre = own.to_vec();
            component.latent_mean = mean.to_vec();
            component.latent_factor =
                MatRef::from_row_major_slice(factor, latents, latents).to_owned();
            component.loadings = MatRef::from_row_major_slice(loadings, dim, latents).to_owned();
        }
        self.discarded = self.weights.iter().map(|&weight| weight == 0.0).collect();
        // Damaged numbers may define no density.
        self.components.iter().all(|component| component.factorize().is_some())
    }

    fn finish(&mut self) {
        let keep: Vec<bool> = self.discarded.iter().map(|&discarded| !discarded).collect();
        repair::retain_flagged(&mut self.components, &keep);
        repair::retain_flagged(&mut self.weights, &keep);
        repair::retain_flagged(&mut self.discarded, &keep);
        self.components = self.components.drain(..).map(Component::canonical).collect();
        self.floors.clear();
        self.recentre();
    }

    fn entropy_sum(&self, stats: &SuffStats) -> EntropySum {
        let total = stats.total_weight();
        let latents = self.n_latents() as f64;
        let one = (TAU * std::f64::consts::E).ln();
        let mut prior = entropy_of_weights(&self.weights);
        let mut observable = 0.0;
        for ((component, weight), mass) in
            self.components.iter().zip(&self.weights).zip(stats.mass())
        {
            prior += weight * (0.5 * latents * one + component.half_log_det_prior());
            let noise: f64 = component.noise.iter().map(|v| 0.5 * (one + v.ln())).sum();
            observable += mass / total * noise;
        }
        EntropySum {
            posterior: stats.posterior_entropy() / total,
            prior,
            hidden: 0.0,
            observable,
            base_measure: 0.0,
        }
    }

    fn lower_bound(&self, stats: &SuffStats) -> f64 {
        self.bound_by(stats, &Alone)
    }

    fn bound_and_entropies_by(
        &self,
        stats: &SuffStats,
        workers: &dyn Workers,
    ) -> (f64, EntropySum) {
        (self.bound_by(stats, workers), self.entropy_sum(stats))
    }

    /// Returns the number of free parameters: C - 1 weights, and for each component D means, D H loadings less the H (H - 1) / 2 of a
    /// rotation, and the noise variances.
    fn n_parameters(&self) -> usize {
        let (dim, latents) = (self.dim(), self.n_latents());
        let noise = match self.noise {
            NoiseStructure::Diagonal => self.n_components() * dim,
            NoiseStructure::Tied => dim,
            NoiseStructure::Isotropic => self.n_components(),
        };
        let each = dim + dim * latents - latents * (latents - 1) / 2;
        self.n_components() - 1 + self.n_components() * each + noise
    }

    fn active_components(&self) -> usize {
        self.discarded.iter().filter(|&&discarded| !discarded).count()
    }
}

/// Returns the entropy of a component, in nats.
fn entropy(component: &Component) -> f64 {
    0.5 * (factorized(component).log_det_2pi + component.mean.len() as f64)
}

impl Repairable for MixtureOfFactorAnalyzers {
    fn weights_mut(&mut self) -> &mut [f64] {
        &mut self.weights
    }

    fn discarded_mut(&mut self) -> &mut [bool] {
        &mut self.discarded
    }

    fn is_held(&self, _component: usize) -> bool {
        false
    }

    fn entropy_contributions(&self) -> Vec<f64> {
        self.entropy_contributions()
    }

    fn entropy_contribution(&self, component: usize) -> f64 {
        let weight = &self.weights[component..=component];
        repair::entropy_contributions(weight, &[entropy(&self.components[component])])[0]
    }

    /// Puts the halves at the means of the two halves of the donor, cut across its longest axis; where points keep sets, near each other.
    fn split(&mut self, donor: usize, component: usize) -> bool {
        let step = match self.posterior {
            Posterior::Truncated(search) if search.states > 1 => STEP_APART,
            _ => 1.0,
        };
        let axis = self.components[donor].longest_axis();
        for (c, sign) in [(component, -1.0), (donor, 1.0)] {
            let mut half = self.components[donor].clone();
            for (mean, along) in half.mean.iter_mut().zip(&axis) {
                *mean += step * sign * FRAC_2_PI.sqrt() * along;
            }
            self.centres[c].clone_from(&half.mean);
            self.components[c] = half;
        }
        true
    }
}

impl Sample for MixtureOfFactorAnalyzers {
    fn sampler(&self) -> BlockSampler<'_> {
        let loadings: Vec<_> = self.components.iter().map(Component::unit_loadings).collect();
        Box::new(move |rng, points, labels| {
            for point in points.chunks_mut(self.dim()) {
                let c = rng::weighted(rng, self.weights.iter().copied()).expect("weights sum to 1");
                let component = &self.components[c];
                for (d, value) in point.iter_mut().enumerate() {
                    let noise: f64 = StandardNormal.sample(rng);
                    *value = component.mean[d] + component.noise[d].sqrt() * noise;
                }
                for h in 0..component.latents() {
                    let z: f64 = StandardNormal.sample(rng);
                    for (d, value) in point.iter_mut().enumerate() {
                        *value += loadings[c][(d, h)] * z;
                    }
                }
                labels.push(c as u32);
            }
        })
    }
}
