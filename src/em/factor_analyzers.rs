//! Starts of a mixture of factor analysers, and fits from them.
//!
//! A start is a labelling of a seeded subsample, as for every mixture. What makes parameters of it is probabilistic PCA
//! of each label's points by a few subspace iterations, at O(n D H): EM from loadings near zero would take long to leave
//! them.

use super::config::Config;
use super::driver::Fit;
use super::fitting::{Fitting, Spec};
use super::init::{Init, Labelling, Sample, Wanted, labellings, most_promising};
use super::truncated_mixture::fit_truncated;
use crate::data::DataSource;
use crate::data::shuffle::BadRows;
use crate::error::{DataError, Error, Result};
use crate::exec::Executor;
use crate::family::{Covariance, Gaussian, Regularization, floor};
use crate::linalg::{orthonormalize, product, symmetric_eigen};
use crate::model::Posterior;
use crate::model::mixture_of_factor_analyzers::{
    MixtureOfFactorAnalyzers, NoiseStructure, check_latents,
};
use crate::monitor::Event;
use crate::rng;
use crate::scalar::Scalar;
use faer::Mat;
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Subspace iterations. A gap of 1.5 between eigenvalues is worked out to 1 % by then, which is all that EM needs.
const SUBSPACE_ITERATIONS: usize = 6;

/// What mixture of factor analysers, or of probabilistic PCAs, to fit, and how to start.
#[derive(Clone, Debug)]
pub struct FactorAnalyzersSpec {
    /// Structure of the noise.
    pub noise: NoiseStructure,
    /// Number of components C.
    pub n_components: usize,
    /// Number of latents H of each component.
    pub n_latents: usize,
    /// The variational family: exact or truncated posteriors of the components.
    pub posterior: Posterior,
    /// Whether the M-step is that of the expanded model: as costly, seldom slower, and without a gap.
    pub parameter_expansion: bool,
    /// How to start.
    pub init: Init<MixtureOfFactorAnalyzers>,
    /// What a fresh start does with points that are no numbers.
    pub bad_rows: BadRows,
}

impl FactorAnalyzersSpec {
    /// A mixture with the default start that learns by parameter-expanded EM.
    pub fn new(noise: NoiseStructure, n_components: usize, n_latents: usize) -> Self {
        Self {
            noise,
            n_components,
            n_latents,
            posterior: Posterior::Exact,
            parameter_expansion: true,
            init: Init::default(),
            bad_rows: BadRows::Error,
        }
    }

    /// A fit that goes on from a model.
    pub fn from_model(model: MixtureOfFactorAnalyzers) -> Self {
        Self {
            posterior: model.posterior(),
            init: Init::Model(Box::new(model.clone())),
            ..Self::new(model.noise(), model.n_components(), model.n_latents())
        }
    }

    /// The same with another variational family.
    pub fn with_posterior(self, posterior: Posterior) -> Self {
        Self { posterior, ..self }
    }
}

/// Fits a mixture of factor analysers: the best by its bound of `config.n_init` fresh starts.
///
/// ```
/// use entropysum::data::Points;
/// use entropysum::em::{self, Config, FactorAnalyzersSpec};
/// use entropysum::Executor;
/// use entropysum::model::NoiseStructure;
/// use entropysum::monitor::Silent;
///
/// // Two segments in space with a little noise, far apart.
/// let noise = |i: i32| f64::from(i * 7 % 11) / 100.0;
/// let values: Vec<f64> = (0..200)
///     .flat_map(|i| {
///         let (t, at) = (f64::from(i % 50) / 10.0, if i < 100 { 0.0 } else { 30.0 });
///         [at + t + noise(i), 2.0 * t + noise(i + 3), noise(i + 5) - t]
///     })
///     .collect();
/// let points = Points::from_rows(&values, 3)?;
/// let spec = FactorAnalyzersSpec::new(NoiseStructure::Isotropic, 2, 1);
/// let executor = Executor::new(Some(1))?;
/// let fit = em::fit(&spec, &points, &executor, &Config::default(), &mut Silent)?;
/// assert!(fit.converged());
/// assert!(fit.last().unwrap().gap().abs() < 1e-10);
/// let loadings = fit.model.parameter("loadings").unwrap();
/// assert!((loadings[1] / loadings[0] - 2.0).abs() < 0.1); // along (1, 2, -1)
/// # Ok::<(), entropysum::error::Error>(())
/// ```
impl<T: Scalar> Spec<T> for FactorAnalyzersSpec {
    type Model = MixtureOfFactorAnalyzers;

    fn fit(
        &self,
        fitting: Fitting<'_, T, MixtureOfFactorAnalyzers>,
    ) -> Result<Fit<MixtureOfFactorAnalyzers>> {
        let is_given = matches!(self.init, Init::Model(_));
        let start = |fitting: &Fitting<'_, T, MixtureOfFactorAnalyzers>, run| {
            let (model, event) = match &self.init {
                Init::Model(model) => ((**model).clone(), None),
                _ => {
                    let config = fitting.settings();
                    let (points, executor) = (fitting.points(), fitting.executor());
                    start_factor_analyzers(self, points, executor, config, run)?
                }
            };
            let model = model.with_posterior(self.posterior);
            Ok((model.with_parameter_expansion(self.parameter_expansion), event))
        };
        match self.posterior {
            Posterior::Truncated(search) => fit_truncated(fitting, search, is_given, &start),
            _ => fitting.fit_model(is_given, &start),
        }
    }
}

/// The `run`-th fresh start.
///
/// # Errors
/// If there are fewer points than components, H is not in `1..D`, or reading fails.
pub fn start_factor_analyzers<T: Scalar>(
    spec: &FactorAnalyzersSpec,
    source: &dyn DataSource<T>,
    executor: &Executor,
    config: &Config,
    run: u64,
) -> Result<(MixtureOfFactorAnalyzers, Option<Event>)> {
    check_latents(spec.n_latents, source.dim())
        .map_err(|message| Error::Config(format!("{}: {message}", source.name())))?;
    let family = Gaussian::new(Covariance::Full, source.dim());
    let wanted = Wanted { n_components: spec.n_components, bad_rows: spec.bad_rows };
    let (sample, found) = labellings(&spec.init, &family, wanted, source, executor, config, run)?;
    let make = |sample: &Sample<T>, labelling: &Labelling| {
        let mut rng = rng::stream(config.seed, 3 * run + 2);
        from_labels(spec, (sample, labelling), executor, &config.regularization, &mut rng)
    };
    let model = most_promising(&sample, found, &make, executor, config, run).map_err(|error| {
        DataError::new(source.name(), format!("values are too small or too large: {error}"))
    })?;
    let (asked, placed) = (spec.n_components, model.n_components());
    let event = (placed < asked).then_some(Event::FewerComponents { asked, placed });
    Ok((model, event))
}

/// The points of one label, about their mean and in units of `scale`.
struct Cluster {
    members: Vec<usize>,
    mass: f64,
    mean: Vec<f64>,
    /// Variances about the mean, in squared units of the data.
    variances: Vec<f64>,
}

impl Cluster {
    fn new<T: Scalar>(sample: &Sample<T>, members: Vec<usize>) -> Self {
        let dim = sample.dim;
        let mass: f64 = members.iter().map(|&i| sample.weight(i)).sum();
        let average = |value: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
            let of = |d| members.iter().map(|&i| sample.weight(i) * value(i, d)).sum::<f64>();
            (0..dim).map(|d| of(d) / mass).collect()
        };
        let at = |i: usize, d: usize| sample.values[i * dim + d].to_f64();
        let mean = average(&at);
        let variances = average(&|i, d| (at(i, d) - mean[d]).powi(2));
        Self { mass, mean, variances, members }
    }

    /// `S Q`, `S` the scatter of the points in units of `scale`.
    fn scatter_times<T: Scalar>(
        &self,
        sample: &Sample<T>,
        scale: &[f64],
        q: &Mat<f64>,
    ) -> Mat<f64> {
        let dim = sample.dim;
        let points = Mat::from_fn(self.members.len(), dim, |row, d| {
            let i = self.members[row];
            let x = sample.values[i * dim + d].to_f64();
            sample.weight(i).sqrt() * (x - self.mean[d]) / scale[d]
        });
        let projected = product(points.as_ref(), q.as_ref());
        product(points.transpose(), projected.as_ref())
    }
}

/// Probabilistic PCA of each label's points, in columns of unit variance where the noise has a variance for each.
fn from_labels<T: Scalar>(
    spec: &FactorAnalyzersSpec,
    (sample, Labelling { labels, placed }): (&Sample<T>, &Labelling),
    executor: &Executor,
    regularization: &Regularization,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<MixtureOfFactorAnalyzers> {
    let (dim, latents) = (sample.dim, spec.n_latents);
    let mut members = vec![Vec::new(); *placed];
    for (i, &label) in labels.iter().enumerate() {
        if sample.weight(i) > 0.0 {
            members[label as usize].push(i);
        }
    }
    let clusters: Vec<Cluster> = members
        .into_iter()
        .filter(|members| !members.is_empty())
        .map(|members| Cluster::new(sample, members))
        .collect();
    let total: f64 = clusters.iter().map(|cluster| cluster.mass).sum();
    let pooled: Vec<f64> = (0..dim)
        .map(|d| clusters.iter().map(|c| c.mass * c.variances[d]).sum::<f64>() / total)
        .collect();
    let scale: Vec<f64> = match spec.noise {
        NoiseStructure::Diagonal | NoiseStructure::Tied => {
            pooled.iter().map(|v| if *v > 0.0 { v.sqrt() } else { 1.0 }).collect()
        }
        NoiseStructure::Isotropic => vec![1.0; dim],
    };
    let scaled = |variances: &[f64]| -> Vec<f64> {
        variances.iter().zip(&scale).map(|(v, s)| v / (s * s)).collect()
    };
    let random = Mat::from_fn(dim, latents, |_, _| StandardNormal.sample(rng));

    // All labels together first: what a label with few points takes its axes from.
    let mut lanes: Vec<(&Cluster, Mat<f64>)> =
        clusters.iter().map(|cluster| (cluster, Mat::new())).collect();
    let common = Principal::new(&random, &scaled(&pooled), |q| {
        executor.for_each(&mut lanes, |_, (cluster, image)| {
            *image = cluster.scatter_times(sample, &scale, q);
            Ok(())
        })?;
        let mut sum = Mat::zeros(dim, latents);
        lanes.iter().for_each(|(_, image)| sum += image);
        Ok(Mat::from_fn(dim, latents, |d, h| sum[(d, h)] / total))
    })?;
    // As many points' worth of them as define axes.
    let borrowed = (latents + 1) as f64;
    let mut lanes: Vec<(&Cluster, Option<Principal>)> =
        clusters.iter().map(|cluster| (cluster, None)).collect();
    executor.for_each(&mut lanes, |_, (cluster, principal)| {
        let part = cluster.mass / (cluster.mass + borrowed);
        let own = scaled(&cluster.variances);
        let variances: Vec<f64> = (0..dim)
            .map(|d| part * own[d] + (1.0 - part) * (common.noise[d] + common.explained(d)))
            .collect();
        *principal = Some(Principal::new(&random, &variances, |q| {
            let image = cluster.scatter_times(sample, &scale, q);
            let inner = product(common.loadings.transpose(), q.as_ref());
            let along = product(common.loadings.as_ref(), inner.as_ref());
            Ok(Mat::from_fn(dim, latents, |d, h| {
                let borrowed = along[(d, h)] + common.noise[d] * q[(d, h)];
                part * image[(d, h)] / cluster.mass + (1.0 - part) * borrowed
            }))
        })?);
        Ok(())
    })?;

    let means: Vec<Vec<f64>> = clusters.iter().map(|cluster| cluster.mean.clone()).collect();
    let masses: Vec<f64> = clusters.iter().map(|cluster| cluster.mass).collect();
    let floors = floor::floors(&masses, &means, &pooled, floor::RELATIVE);
    let floors = floor::above_rounding(&floors, &regularization.resolution);
    let (mut loadings, mut noise) = (Vec::new(), Vec::new());
    for (_, principal) in &lanes {
        let principal = principal.as_ref().expect("every lane ran");
        for (d, s) in scale.iter().enumerate() {
            loadings.extend((0..latents).map(|h| s * principal.loadings[(d, h)]));
        }
        let ridge = regularization.reg_covar.unwrap_or(0.0);
        let lifted = |d: usize, v: f64| (v * scale[d] * scale[d] + ridge).max(floors[d]);
        if spec.noise == NoiseStructure::Isotropic {
            let floor = floors.iter().sum::<f64>() / dim as f64;
            noise.push((principal.mean_noise + ridge).max(floor));
        } else {
            noise.extend(principal.noise.iter().enumerate().map(|(d, v)| lifted(d, *v)));
        }
    }
    if spec.noise == NoiseStructure::Tied {
        let average = |d: usize| {
            masses.iter().zip(noise.chunks(dim)).map(|(mass, own)| mass * own[d]).sum::<f64>()
        };
        noise = (0..dim).map(|d| average(d) / total).collect();
    }
    let weights = masses.iter().map(|mass| mass / total).collect();
    MixtureOfFactorAnalyzers::new(spec.noise, dim, weights, &means.concat(), &loadings, &noise)
}

/// Probabilistic PCA of a covariance that is known by its products with D × H matrices.
struct Principal {
    /// D × H.
    loadings: Mat<f64>,
    /// What the loadings leave of the variance of each dimension.
    noise: Vec<f64>,
    /// What they leave on average over the dimensions off their axes.
    mean_noise: f64,
}

impl Principal {
    /// By subspace iterations from a matrix of random numbers.
    fn new(
        random: &Mat<f64>,
        variances: &[f64],
        mut multiply: impl FnMut(&Mat<f64>) -> Result<Mat<f64>>,
    ) -> Result<Self> {
        let (dim, latents) = (random.nrows(), random.ncols());
        let mut basis = random.clone();
        orthonormalize(&mut basis);
        for _ in 0..SUBSPACE_ITERATIONS {
            basis = multiply(&basis)?;
            orthonormalize(&mut basis);
        }
        let image = multiply(&basis)?;
        let inner = product(basis.transpose(), image.as_ref());
        let symmetric: Vec<f64> = (0..latents * latents)
            .map(|k| (k / latents, k % latents))
            .map(|(g, h)| 0.5 * (inner[(g, h)] + inner[(h, g)]))
            .collect();
        let mut loadings = Mat::zeros(dim, latents);
        let mut mean_noise = variances.iter().sum::<f64>() / dim as f64;
        if let Some((values, vectors)) = symmetric_eigen(&symmetric, latents) {
            let left = variances.iter().sum::<f64>() - values.iter().sum::<f64>();
            mean_noise = (left / (dim - latents) as f64).max(0.0);
            let axes = product(basis.as_ref(), vectors.as_ref());
            loadings = Mat::from_fn(dim, latents, |d, h| {
                axes[(d, h)] * (values[h] - mean_noise).max(0.0).sqrt()
            });
        }
        let mut principal = Self { loadings, noise: Vec::new(), mean_noise };
        principal.noise =
            (0..dim).map(|d| (variances[d] - principal.explained(d)).max(0.0)).collect();
        Ok(principal)
    }

    fn explained(&self, d: usize) -> f64 {
        self.loadings.row(d).iter().map(|w| w * w).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principal_axes_of_a_known_covariance_are_found() {
        // Eigenvalues 9 and 4 along (1, 1, 0) and (0, 0, 1), and 0.25 along (1, -1, 0).
        let covariance = [4.625, 4.375, 0.0, 4.375, 4.625, 0.0, 0.0, 0.0, 4.0];
        let matrix = faer::MatRef::from_row_major_slice(&covariance, 3, 3);
        let random = Mat::from_fn(3, 2, |i, j| 1.0 + (2 * i + j) as f64 - (i * j) as f64);
        let found =
            Principal::new(&random, &[4.625, 4.625, 4.0], |q| Ok(product(matrix, q.as_ref())))
                .unwrap();
        assert!((found.mean_noise - 0.25).abs() < 1e-6, "{}", found.mean_noise);
        for i in 0..3 {
            for j in 0..3 {
                let rebuilt: f64 =
                    (0..2).map(|h| found.loadings[(i, h)] * found.loadings[(j, h)]).sum::<f64>()
                        + if i == j { 0.25 } else { 0.0 };
                assert!((rebuilt - covariance[3 * i + j]).abs() < 1e-5, "{i} {j} {rebuilt}");
            }
        }
    }
}
