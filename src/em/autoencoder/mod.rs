//! Learns variational autoencoders and sparse codes: gradient steps of the networks by Adam, closed forms of prior and noise.
//!
//! | per step | by |
//! |---|---|
//! | statistics and gradient of a minibatch | [`Lane`](crate::model::autoencoder::Lane), in lanes that are merged in order |
//! | running sums of the statistics | [`ascent`] |
//! | variances of prior and noise | the exact M-step from the running sums |
//! | weights and biases | [`adam`], from the gradient of the minibatch |
//!
//! At the closed forms the gradient of the bound is the gradient of the entropy sum (envelope theorem), so a fit climbs both. Closed forms
//! of a single minibatch would climb neither: by Jensen's inequality their bound is too high, by `½ Σ_h Var M_nh / M_h² / B` and more,
//! and its gradient leans towards minibatches that are unlike each other. Running sums have no such bias.

mod adam;
mod ascent;
mod learner;
pub(in crate::em) mod start;
#[cfg(test)]
mod tests;

pub use adam::LearningRateSchedule;
pub(crate) use learner::statistics;

use super::driver::{Fit, Phase, Schedule};
use super::fitting::{Fitting, Spec};
use crate::data;
use crate::error::{Error, Result};
use crate::model::{Activation, GenerativeModel, LatentPrior, Noise, VariationalAutoencoder};
use crate::scalar::Scalar;
use adam::Adam;
use ascent::Ascent;
use learner::AutoencoderLearner;

/// What autoencoder to fit, how to start, and how to step. Names and defaults of settings are scikit-learn's where it has them
/// (`MLPRegressor`).
///
/// Without minibatches each step sees all points, and `max_iter` of [`Config`](super::Config) limits the steps. With minibatches
/// `epochs` limits them; the other settings of streams that are for EM are not used: step sizes, averages and closing iterations.
///
/// ```
/// use entropysum::data::Points;
/// use entropysum::em::{self, AutoencoderSpec, Config};
/// use entropysum::monitor::Silent;
/// use entropysum::Executor;
///
/// // Points near a line. A linear encoder and decoder of one latent make p-PCA.
/// let line = (0..200).flat_map(|i| {
///     let (t, e) = (f64::from(i) / 50.0 - 2.0, (f64::from(i) * 2.4).sin());
///     [2.0 * t + 0.1 * e, t - 0.2 * e]
/// });
/// let points = Points::owned(line.collect(), 2)?;
/// let spec = AutoencoderSpec::linear(1).learning_rate(0.05);
/// let config = Config::default().max_iter(500).tol(0.0);
/// let fit = em::fit(&spec, &points, &Executor::new(Some(1))?, &config, &mut Silent)?;
/// let last = fit.last().unwrap();
/// assert!(last.gap().abs() < 1e-12); // entropy sum and bound are one
/// assert_eq!(last.active_components, 1);
/// # Ok::<(), entropysum::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AutoencoderSpec {
    /// Number of latents H.
    pub latents: usize,
    /// Units of the hidden layers of the encoder, from the points on; none for a linear encoder.
    pub hidden: Vec<usize>,
    /// Whether the decoder is linear. If not, it has the hidden layers of the encoder, from the latents on.
    pub decoder_is_linear: bool,
    /// The function between layers.
    pub activation: Activation,
    /// The prior of the latents.
    pub prior: LatentPrior,
    /// Whether dimensions share a noise variance.
    pub noise: Noise,
    /// Step size of Adam.
    pub learning_rate: f64,
    /// How the step size changes while a fit lasts.
    pub schedule: LearningRateSchedule,
    /// Epochs in a row without a bound that is better by the tolerance, which end a fit with a constant step size. Epochs of fewer than
    /// ten steps are judged together, as many as have ten. With held-out points it is the number of audits in a row without a better
    /// bound, which ends a fit with any step size; the model that did best is kept.
    pub patience: usize,
    /// Weight of the prior's term of the bound in the first step, from which it falls to 1 in the first half of the steps; 1 for none. For
    /// linear decoders, whose columns then have unit length while the fit lasts. Records tell the bound without weights.
    pub prior_weight: f64,
    /// A model to go on from, in place of a random start.
    pub init: Option<VariationalAutoencoder>,
    /// Whether values of points may be missing (NaN): these are left out of the bound, and the encoder sees the mean of the column in their
    /// place. Else they are errors.
    pub ignores_missing: bool,
}

impl AutoencoderSpec {
    /// Returns the specification of an autoencoder with 100 hidden units in encoder and decoder, a standard prior and one noise
    /// variance.
    pub fn new(latents: usize) -> Self {
        Self {
            latents,
            hidden: vec![100],
            decoder_is_linear: false,
            activation: Activation::default(),
            prior: LatentPrior::Standard,
            noise: Noise::Isotropic,
            learning_rate: 1e-3,
            schedule: LearningRateSchedule::Cosine,
            patience: 10,
            prior_weight: 1.0,
            init: None,
            ignores_missing: false,
        }
    }

    /// Returns the specification of a linear autoencoder, whose maximum is that of p-PCA, or of factor analysis if the noise is diagonal
    /// and posteriors are independent at the maximum.
    pub fn linear(latents: usize) -> Self {
        Self { hidden: Vec::new(), decoder_is_linear: true, ..Self::new(latents) }
    }

    /// Returns the specification of probabilistic sparse coding: a Laplace prior, a linear dictionary, and a linear encoder. Nothing is
    /// sampled.
    ///
    /// Encoder and step size were chosen on patches of a photograph and on digits, by the bound of points that were held out: encoders with
    /// hidden layers lost up to 22 nats, most of them with relu (BENCHMARKS.md).
    pub fn sparse_coding(latents: usize) -> Self {
        Self {
            hidden: Vec::new(),
            decoder_is_linear: true,
            activation: Activation::Tanh,
            prior: LatentPrior::Laplace,
            learning_rate: 1e-2,
            ..Self::new(latents)
        }
    }

    /// Returns the specification of a fit that goes on from a model.
    pub fn from_model(model: VariationalAutoencoder) -> Self {
        let [hidden, _] = model.hidden();
        let is_sparse_code = model.prior() == LatentPrior::Laplace && model.decoder_is_linear();
        let default = if is_sparse_code { Self::sparse_coding } else { Self::new };
        Self {
            hidden,
            decoder_is_linear: model.decoder_is_linear(),
            activation: model.activation(),
            prior: model.prior(),
            noise: model.noise(),
            init: Some(model.clone()),
            ..default(model.n_latents())
        }
    }

    /// Returns whether the decoder has no hidden layer, by choice or since the encoder has none.
    pub fn is_linear(&self) -> bool {
        self.decoder_is_linear || self.hidden.is_empty()
    }

    setters! {
        hidden: Vec<usize>,
        decoder_is_linear: bool,
        activation: Activation,
        prior: LatentPrior,
        noise: Noise,
        learning_rate: f64,
        schedule: LearningRateSchedule,
        patience: usize,
        prior_weight: f64,
        ignores_missing: bool,
    }

    /// Refuses settings out of range.
    fn check(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::Config(message));
        if self.latents == 0 || self.hidden.contains(&0) {
            return refuse("autoencoder: every layer needs at least one unit".to_owned());
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            let rate = self.learning_rate;
            return refuse(format!("learning_rate is {rate}, expected a positive number"));
        }
        let weight = self.prior_weight;
        if !(weight > 0.0 && weight.is_finite()) {
            return refuse(format!("prior_weight is {weight}, expected a positive number"));
        }
        if weight != 1.0 && !self.is_linear() {
            return refuse(
                "prior_weight: annealing needs a linear decoder, whose columns have unit length"
                    .to_owned(),
            );
        }
        if self.patience == 0 {
            return refuse("patience must be at least 1".to_owned());
        }
        Ok(())
    }
}

impl<T: Scalar> Spec<T> for AutoencoderSpec {
    type Model = VariationalAutoencoder;

    fn fit(
        &self,
        fitting: Fitting<'_, T, VariationalAutoencoder>,
    ) -> Result<Fit<VariationalAutoencoder>> {
        self.check()?;
        let schedule = schedule(&fitting);
        let planned = match schedule {
            Schedule::Full { iterations } => iterations,
            Schedule::Windows { order, epochs, .. } => order.n_batches().max(1) * epochs,
        };
        let rate = self.learning_rate;
        let words = match self.schedule {
            LearningRateSchedule::Constant => {
                format!("Adam, learning rate {rate}, patience {}", self.patience)
            }
            LearningRateSchedule::Cosine => {
                format!("Adam, learning rate {rate} falling to 0 in {planned} steps")
            }
        };
        let words = match self.prior_weight {
            1.0 => words,
            weight => {
                format!("{words}, prior weight {weight} falling to 1 in {} steps", planned / 2)
            }
        };
        let make = |fitting: &Fitting<'_, T, VariationalAutoencoder>, run, saved| {
            let model = match (saved, &self.init) {
                (Some(model), _) => model,
                (None, Some(model)) => model.clone(),
                (None, None) => start::random(self, fitting, run)?,
            };
            let model = if self.ignores_missing { model.ignoring_missing()? } else { model };
            data::check_source(fitting.points(), model.dim())?;
            let adam = Adam::new(&model, self.learning_rate, self.schedule, planned);
            let seed = fitting.settings().seed.wrapping_add(run << 32);
            let learner = AutoencoderLearner::new(model, adam, seed, fitting.executor());
            Ok((learner.with_first_prior_weight(self.prior_weight), None))
        };
        fitting.best_of(self.init.is_some(), &words, &make, &|fitting, _| {
            let n_batches = match schedule {
                Schedule::Full { .. } => None,
                Schedule::Windows { order, .. } => Some(order.n_batches().max(1)),
            };
            // Steps that fall to 0 are a plan: an end before would leave their noise in the networks.
            let is_open = self.schedule == LearningRateSchedule::Constant;
            let patience = is_open.then_some(self.patience as u64);
            let held_out = fitting.has_held_out().then_some(self.patience as u64);
            let ascent =
                Ascent::new(n_batches, fitting.settings().tol, patience).with_held_out(held_out);
            Ok(vec![Phase { schedule, accumulator: Box::new(ascent), notice: None }])
        })
    }
}

/// Returns which points steps see.
fn schedule<T: Scalar>(fitting: &Fitting<'_, T, VariationalAutoencoder>) -> Schedule {
    match fitting.stream() {
        None => Schedule::Full { iterations: fitting.settings().max_iter as u64 },
        Some(stream) => stream.schedule(stream.order(fitting.points(), fitting.settings())),
    }
}
