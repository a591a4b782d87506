//! Starts of sigmoid belief networks, and fits from them.

use super::autoencoder::start::{self, BadValues};
use super::driver::Fit;
use super::fitting::{Fitting, Spec};
use super::truncated::fit_truncated;
use crate::block::BlockBuf;
use crate::data::shuffle::BadRows;
use crate::data::{self, DataSource};
use crate::error::{DataError, Error, Result};
use crate::family::support::{Domain, Support};
use crate::model::sbn::{LatentPosterior, Layer, SigmoidBeliefNet, check_posterior, is_binary};
use crate::model::{Activation, GenerativeModel, Noise};
use crate::point_faults::check_domains;
use crate::rng;
use crate::scalar::Scalar;
use rand_distr::{Distribution, StandardNormal};

/// Points that a read of the pass for a start takes.
const READ: u64 = 4096;

/// What network to fit, and how to start.
#[derive(Clone, Debug)]
pub struct SbnSpec {
    /// Number of top latents H.
    pub latents: usize,
    /// Number of latents I of the layer between them and the observables, for three layers.
    pub hidden: Option<usize>,
    /// The variational family.
    pub posterior: LatentPosterior,
    /// Ridge λ on all weights, per point; 0 for none.
    pub ridge: f64,
    /// Noise of the observables, for binary sparse coding; `None` for zeros and ones.
    pub noise: Option<Noise>,
    /// Units of the hidden layers of the decoder of binary sparse coding, from the latents on; none for a linear one.
    pub hidden_units: Vec<usize>,
    /// The function between these layers.
    pub activation: Activation,
    /// Whether values of points may be missing (NaN), for binary sparse coding: these are left out of the bound. Else they are errors.
    pub ignores_missing: bool,
    /// A network to go on from, in place of a random start.
    pub init: Option<SigmoidBeliefNet>,
    /// Whether the weights of `init` are random. Truncated posteriors then hold the prior where it is for some iterations, as after
    /// a random start.
    pub init_is_random: bool,
}

impl SbnSpec {
    /// A network of two layers with exact posteriors from a random start.
    pub fn new(latents: usize) -> Self {
        Self {
            latents,
            hidden: None,
            posterior: LatentPosterior::Exact,
            ridge: 0.0,
            noise: None,
            hidden_units: Vec::new(),
            activation: Activation::Tanh,
            ignores_missing: false,
            init: None,
            init_is_random: false,
        }
    }

    /// Returns the specification of binary sparse coding: truncated posteriors from a random start, one noise variance.
    pub fn binary_sparse_coding(latents: usize) -> Self {
        let states = LatentPosterior::DEFAULT_STATES;
        let posterior = LatentPosterior::Truncated { states };
        Self { posterior, noise: Some(Noise::Isotropic), ..Self::new(latents) }
    }

    /// A fit that goes on from a network.
    pub fn from_model(model: SigmoidBeliefNet) -> Self {
        Self {
            latents: model.prior().len(),
            hidden: model.hidden().map(Layer::outputs),
            posterior: model.posterior(),
            ridge: model.ridge(),
            noise: model.noise(),
            hidden_units: model.hidden_units(),
            activation: model.hidden_layers().1,
            ignores_missing: false,
            init: Some(model),
            init_is_random: false,
        }
    }

    /// Returns the specification of a fit that begins with a network of random weights, from [`start`].
    pub fn from_random(model: SigmoidBeliefNet) -> Self {
        Self { init_is_random: true, ..Self::from_model(model) }
    }

    /// The same with a layer of `hidden` latents between top and observables.
    pub fn with_hidden(self, hidden: usize) -> Self {
        Self { hidden: Some(hidden), ..self }
    }

    /// The same with other noise of the observables, for binary sparse coding.
    pub fn with_noise(self, noise: Noise) -> Self {
        Self { noise: Some(noise), ..self }
    }

    /// The same with hidden layers in the decoder, for binary sparse coding: a truncated variational autoencoder.
    pub fn with_hidden_units(self, hidden_units: Vec<usize>, activation: Activation) -> Self {
        Self { hidden_units, activation, ..self }
    }

    /// The same for points with missing values, for binary sparse coding.
    pub fn ignoring_missing(self) -> Self {
        Self { ignores_missing: true, ..self }
    }

    /// The same with another variational family.
    pub fn with_posterior(self, posterior: LatentPosterior) -> Self {
        Self { posterior, ..self }
    }
}

/// Fits a sigmoid belief network: the best by its bound of `config.n_init` random starts.
///
/// ```
/// use entropysum::data::Points;
/// use entropysum::em::{self, Config, SbnSpec};
/// use entropysum::Executor;
/// use entropysum::monitor::Silent;
///
/// // Two causes, each of which turns on two of four pixels.
/// let rows = [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0; 4]];
/// let values = rows.concat().repeat(25);
/// let points = Points::from_rows(&values, 4)?;
/// let executor = Executor::new(Some(1))?;
/// let config = Config::default().n_init(5);
/// let fit = em::fit(&SbnSpec::new(2), &points, &executor, &config, &mut Silent)?;
/// // As many nats as two fair coins.
/// assert!((fit.last().unwrap().lower_bound + 2.0 * f64::ln(2.0)).abs() < 1e-3);
/// # Ok::<(), entropysum::error::Error>(())
/// ```
impl<T: Scalar> Spec<T> for SbnSpec {
    type Model = SigmoidBeliefNet;

    fn fit(&self, fitting: Fitting<'_, T, SigmoidBeliefNet>) -> Result<Fit<SigmoidBeliefNet>> {
        let is_given = self.init.is_some();
        if self.noise.is_none() && (self.ignores_missing || !self.hidden_units.is_empty()) {
            let message =
                "missing values and hidden layers of a decoder are for binary sparse coding";
            return Err(Error::Config(message.to_owned()));
        }
        let start = |fitting: &Fitting<'_, T, SigmoidBeliefNet>, run| match &self.init {
            Some(model) => model
                .clone()
                .with_posterior(self.posterior)
                .map(|model| model.with_ridge(self.ridge)),
            None => {
                let bad_rows = fitting.stream().map_or(BadRows::Error, |stream| stream.bad_rows);
                random_start(self, fitting.points(), fitting.settings().seed, run, bad_rows)
            }
        };

        match self.posterior {
            LatentPosterior::Truncated { .. } => {
                let adopt = |model: SigmoidBeliefNet| match self.ignores_missing {
                    true => model.ignoring_missing(),
                    false => Ok(model),
                };
                let is_random = self.init_is_random || !is_given;
                fit_truncated(fitting, is_given, is_random, &start, &adopt)
            }
            _ => fitting.fit_model(is_given, &|fitting, run| Ok((start(fitting, run)?, None))),
        }
    }
}

/// The `run`-th random start: biases that give each observable its mean, and normal weights.
///
/// # Errors
/// If there are too many latents for posteriors over all states, or a value is neither 0 nor 1.
pub fn start<T: Scalar>(
    spec: &SbnSpec,
    source: &dyn DataSource<T>,
    seed: u64,
    run: u64,
) -> Result<SigmoidBeliefNet> {
    random_start(spec, source, seed, run, BadRows::Error)
}

fn random_start<T: Scalar>(
    spec: &SbnSpec,
    source: &dyn DataSource<T>,
    seed: u64,
    run: u64,
    bad_rows: BadRows,
) -> Result<SigmoidBeliefNet> {
    let total = spec.latents + spec.hidden.unwrap_or(0);
    check_posterior(spec.posterior, total)?;
    if spec.latents == 0 || spec.hidden == Some(0) || spec.hidden_units.contains(&0) {
        return Err(Error::Config("sbn: every layer needs at least one latent or unit".into()));
    }
    let mut rng = rng::stream(seed, run);
    if let Some(noise) = spec.noise {
        return random_code(spec, noise, source, &mut rng, bad_rows);
    }
    let means = means(source, bad_rows)?;
    let mut normal = |scale: f64| scale * normal(&mut rng);
    let prior = vec![START_PRIOR; spec.latents];
    let hidden = match spec.hidden {
        None => None,
        Some(hidden) => {
            let weights: Vec<f64> = (0..hidden * spec.latents).map(|_| normal(1.0)).collect();
            Some(Layer::new(spec.latents, &weights, &vec![START_HIDDEN; hidden])?)
        }
    };
    let width = spec.hidden.unwrap_or(spec.latents);
    let weights: Vec<f64> = (0..width * means.len()).map(|_| normal(START_WEIGHT)).collect();
    let biases: Vec<f64> = means.iter().map(|m| (m / (1.0 - m)).ln()).collect();
    let observables = Layer::new(width, &weights, &biases)?;
    let model = SigmoidBeliefNet::new(prior, hidden, observables)?;
    Ok(model.with_posterior(spec.posterior)?.with_ridge(spec.ridge))
}

/// Makes a model of binary sparse coding about the mean of the points, with noise of their variance and normal weights.
///
/// # Errors
/// If there are two layers of latents, a ridge or a value that is no finite number.
fn random_code<T: Scalar>(
    spec: &SbnSpec,
    noise: Noise,
    source: &dyn DataSource<T>,
    rng: &mut rng::Rng,
    bad_rows: BadRows,
) -> Result<SigmoidBeliefNet> {
    if spec.hidden.is_some() || spec.ridge > 0.0 {
        let message = "binary sparse coding has a single layer of latents, and no ridge";
        return Err(Error::Config(message.to_owned()));
    }
    let bad_values = match bad_rows {
        _ if spec.ignores_missing => BadValues::Missing,
        BadRows::Skip => BadValues::SkipRow,
        BadRows::Error => BadValues::Refuse,
    };
    let (centre, variances) = start::units(source, bad_values)?;
    let dim = centre.len();
    let shared = variances.iter().sum::<f64>() / dim as f64;
    let of_all = if shared > 0.0 { shared } else { 1.0 };
    let unit = |variance: f64| if variance > 0.0 { variance } else { of_all };
    let mut sizes = vec![spec.latents];
    sizes.extend(&spec.hidden_units);
    let mut decoder = start::layers(&sizes, rng)?;
    let width = sizes[sizes.len() - 1];
    let weights = variances.iter().flat_map(|&variance| {
        let scale = START_CODE * unit(variance).sqrt();
        (0..width).map(|_| scale * normal(rng)).collect::<Vec<_>>()
    });
    let weights: Vec<f64> = weights.collect();
    decoder.push(Layer::new(width, &weights, &vec![0.0; dim])?);
    let noise_variances = match noise {
        Noise::Isotropic => vec![of_all],
        Noise::Diagonal => variances.iter().map(|&variance| unit(variance)).collect(),
    };
    let prior = vec![(START_CAUSES / spec.latents as f64).min(0.5); spec.latents];
    let activation = spec.activation;
    SigmoidBeliefNet::binary_autoencoder(
        prior,
        decoder,
        activation,
        noise,
        noise_variances,
        centre,
    )?
    .with_posterior(spec.posterior)
}

fn normal(rng: &mut rng::Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// Prior probability of a top latent at the start; this and the next two were chosen by trial on planted bars, not tuned.
const START_PRIOR: f64 = 0.1;
/// Bias of a hidden latent at the start: about a fifth of them on.
const START_HIDDEN: f64 = -1.5;
/// Standard deviation of the weights at the start.
const START_WEIGHT: f64 = 0.5;
/// The same of a dictionary, in standard deviations of the points, and how many causes are on in a point. By trial on 1500 pictures of 8 x 8
/// pixels with 16 bars, and on two causes that are on in half of the points: 0.1 was better than 0.5 and 1 from eight starts.
const START_CODE: f64 = 0.1;
const START_CAUSES: f64 = 2.0;

/// Weighted mean of each observable, held off 0 and 1 by one point.
fn means<T: Scalar>(source: &dyn DataSource<T>, bad_rows: BadRows) -> Result<Vec<f64>> {
    let mut sums = vec![0.0; source.dim()];
    let (mut total, mut start, mut n) = (0.0, 0, 0.0);
    let domains = [Domain::new(0..source.dim(), Support::Binary)];
    let mut buffer = BlockBuf::default();
    while start < source.len() {
        let count = READ.min(source.len() - start);
        let block = data::read(source, false, start, count as usize, &mut buffer)?;
        let all_are_binary = is_binary(block);
        if !all_are_binary && bad_rows == BadRows::Error {
            check_domains(&domains, source, block)?;
        }
        for (i, row) in block.points.row_iter().enumerate() {
            if !all_are_binary && !is_binary(block.slice(i, 1)) {
                continue;
            }
            n += 1.0;
            let weight = block.weights.map_or(1.0, |weights| weights[i]);
            total += weight;
            sums.iter_mut().zip(row.iter()).for_each(|(sum, x)| *sum += weight * x.to_f64());
        }
        start += count;
    }
    if !(total > 0.0) {
        let message = "there are no points of positive weight";
        return Err(DataError::new(source.name(), message).into());
    }
    let one = total / n;
    Ok(sums.iter().map(|sum| (sum + one) / (total + 2.0 * one)).collect())
}
