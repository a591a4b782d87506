//! Options of 'fit' and 'select'.

use super::data::{ComputeArgs, DataArgs, Missing, WeightsArgs};
use super::model_name::ModelName;
use super::stream::StreamArgs;
use super::values::{Counts, counts, image, named, not_negative, part, positive, seconds};
use super::{DATA, MODEL, OUTPUT, STOPPING};
use crate::em::{Config, LearningRateSchedule};
use crate::family::{ConjugatePrior, KnownParameters};
use crate::model::{Activation, LatentPrior, Noise, Rotation};
use crate::monitor::Monitor;
use crate::selection::Criterion;
use crate::store::NOISES;
use clap::Args;
use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Names that other programs use for the number of components.
const COMPONENTS_ALIASES: [&str; 4] = ["clusters", "n-components", "n-clusters", "k"];

/// Options of 'fit': a model of a single size.
#[derive(Clone, Debug, Args)]
pub struct FitCommand {
    #[command(flatten)]
    pub fit: FitArgs,
    /// Number of components, or clusters [default: that of --init FILE]
    #[arg(short = 'k', long, aliases = COMPONENTS_ALIASES, value_name = "K", help_heading = MODEL, value_parser = positive)]
    pub components: Option<u64>,
    /// Number of latents, for models with latents; for several layers a number for each, the top layer first
    #[arg(long, value_name = "H,...", help_heading = MODEL, value_delimiter = ',', value_parser = positive)]
    pub latent: Vec<u64>,
    /// Column of a table with the component of points whose component is known: texts, or numbers from 0. Empty cells are unknown.
    /// The first components get the labels, in their order in the file
    #[arg(long, value_name = "NAME|INDEX", help_heading = DATA)]
    pub label_column: Option<String>,
    #[command(flatten)]
    pub stream: StreamArgs,
}

impl FitCommand {
    /// Returns the options of the fit, with its size.
    pub fn args(&self) -> FitArgs {
        FitArgs {
            components: self.components,
            latent: self.latent.clone(),
            label_column: self.label_column.clone(),
            stream: self.stream.clone(),
            ..self.fit.clone()
        }
    }
}

/// Options of 'select': models of several sizes.
#[derive(Clone, Debug, Args)]
pub struct SelectCommand {
    #[command(flatten)]
    pub fit: FitArgs,
    /// Numbers of components, or clusters: numbers and ranges, such as 1..20 or 2,4,8..12
    #[arg(short = 'k', long, aliases = COMPONENTS_ALIASES, value_name = "K,...", help_heading = MODEL, value_parser = counts)]
    pub components: Option<Counts>,
    /// Numbers of latents, for models with latents: numbers and ranges
    #[arg(long, value_name = "H,...", help_heading = MODEL, value_parser = counts)]
    pub latent: Option<Counts>,
    /// Criterion that compares candidates; lower is better. The entropy sum has no penalty for size
    #[arg(long, value_name = "NAME", help_heading = MODEL, default_value = Criterion::default().name(), value_parser = named(Criterion::ALL, Criterion::name))]
    pub criterion: Criterion,
    /// Part of the points, drawn by --seed, to hold out of all fits and to compare candidates on [default: 0.2 if
    /// --criterion is held-out, else no points]
    #[arg(long, value_name = "PART", help_heading = MODEL, value_parser = part)]
    pub held_out: Option<f64>,
    /// Let degenerate candidates win: components of these have settled on ties or on too few points, and a floor of their spread
    /// holds up the likelihood
    #[arg(long, help_heading = MODEL)]
    pub allow_degenerate: bool,
}

#[derive(Clone, Debug, Args)]
pub struct FitArgs {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub weights: WeightsArgs,

    /// Model: for a mixture, the family of its components [default: gaussian-full, or that of --init FILE]. Columns of
    /// different kinds have a family each, by index or name: gaussian-diag:0-3,poisson:visits. 'select' takes gaussian-* for
    /// every structure of covariances
    #[arg(long, value_name = "NAME", help_heading = MODEL, value_parser = ModelName)]
    pub model: Option<String>,
    #[command(flatten)]
    pub known: KnownArgs,
    #[command(flatten)]
    pub network: NetworkArgs,
    /// The size of the model, which 'fit' and 'select' set.
    #[arg(skip)]
    pub components: Option<u64>,
    #[arg(skip)]
    pub latent: Vec<u64>,
    /// The column of labels, which 'fit' sets.
    #[arg(skip)]
    pub label_column: Option<String>,
    /// The options of minibatches, which 'fit' sets.
    #[arg(skip)]
    pub stream: StreamArgs,
    /// Learning algorithm: batch, stepwise or incremental for mixtures; px-em, em, stepwise or incremental for mfa,
    /// mfa-tied and mppca; em, stepwise or incremental for sbn and sbn3; em or stepwise for binary-sparse-coding; stepwise or batch for vae and sparse-coding; closed-form, em or px-em for ppca; px-em or em
    /// for factor-analysis [default: the first of these, or stepwise with --batch-size]
    #[arg(long, value_name = "NAME", help_heading = MODEL)]
    pub algorithm: Option<String>,
    /// Rotation of the loadings to a simple structure
    #[arg(long, value_name = "NAME", help_heading = MODEL, value_parser = named(Rotation::ALL, Rotation::name))]
    pub rotation: Option<Rotation>,
    /// Posteriors of the E-step: auto, exact, hard or truncated for mixtures, the same but hard for mfa, mfa-tied and mppca, exact or truncated
    /// for sbn and sbn3, truncated for binary-sparse-coding; auto is truncated for very many components, else exact [default: those of --init
    /// FILE; auto for mixtures and factor analysers, exact for the others]
    #[arg(long, value_name = "KIND", help_heading = MODEL, value_parser = PossibleValuesParser::new(["auto", "exact", "hard", "truncated"]))]
    pub posterior: Option<String>,
    /// Number of states (components of a mixture) that truncated posteriors keep for each point [default: 8 for mixtures, 32
    /// for sbn, sbn3 and binary-sparse-coding, or that of --init FILE]
    #[arg(long, value_name = "S", help_heading = MODEL, value_parser = positive)]
    pub states: Option<u64>,
    /// Number of neighbours of its most probable component among which truncated posteriors look for the components of a point
    /// [default: 64]
    #[arg(long, value_name = "G", help_heading = MODEL, value_parser = positive)]
    pub neighbours: Option<u64>,
    /// Number of random components that points of a truncated posterior try besides [default: 1]
    #[arg(long, value_name = "R", help_heading = MODEL)]
    pub random_candidates: Option<u64>,
    /// Penalty of sbn and sbn3: M-steps subtract LAMBDA/2 times the sum of squares of all weights (not biases) from the
    /// bound per point [default: 0]
    #[arg(long, value_name = "LAMBDA", help_heading = MODEL, value_parser = not_negative)]
    pub ridge: Option<f64>,
    /// Start: auto, kmeans++, random, random-from-data, or the file of a model to continue from. The first tries the others but random
    #[arg(long, value_name = "START", help_heading = MODEL, default_value = Start::NAMES[0], value_parser = OsStringValueParser::new().map(Start::from))]
    pub init: Start,
    /// Number of fresh starts; the best fit is kept
    #[arg(long, value_name = "R", help_heading = MODEL, default_value = "1", value_parser = positive)]
    pub n_init: u64,
    /// Number to add to all variances, in squared units of the data [default: add nothing, and hold variances above
    /// those of rounding errors]
    #[arg(long, value_name = "E", help_heading = MODEL, value_parser = not_negative)]
    pub reg_covar: Option<f64>,
    /// Seed of all random choices
    #[arg(long, value_name = "S", help_heading = MODEL, default_value_t = Config::default().seed)]
    pub seed: u64,

    /// Maximum number of iterations
    #[arg(long, value_name = "N", help_heading = STOPPING, default_value = "200", value_parser = positive)]
    pub max_iter: u64,
    /// Stop if the monitored value changes by at most this
    #[arg(long, value_name = "TOL", help_heading = STOPPING, default_value = "1e-5", value_parser = not_negative)]
    pub tol: f64,
    /// Stop if the monitored value changes by at most this part of itself
    #[arg(long, value_name = "RTOL", help_heading = STOPPING, default_value = "0", value_parser = not_negative)]
    pub rtol: f64,
    /// Monitored value
    #[arg(long, value_name = "VALUE", help_heading = STOPPING, default_value = Monitor::default().name(), value_parser = named(Monitor::ALL, Monitor::name))]
    pub monitor: Monitor,
    /// Stop each start after the first iteration that ends later than S seconds
    #[arg(long, value_name = "S", help_heading = STOPPING, value_parser = seconds)]
    pub max_seconds: Option<Duration>,

    #[command(flatten)]
    pub compute: ComputeArgs,

    /// File for the model: .safetensors or .json
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub output: Option<PathBuf>,
    /// File for a table of all iterations: .csv
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub history: Option<PathBuf>,
    /// File for a plot of all iterations, or of all candidates: .svg or .png
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub plot: Option<PathBuf>,
    /// File for a picture of the points in the colours of their components, as 'plot' draws: .svg or .png
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub plot_clusters: Option<PathBuf>,
    /// File for a picture with the weights of each latent as a tile, for points that are pictures, or with what an mlp decoder makes of each
    /// latent from -3 to 3: .png
    #[arg(long, value_name = "FILE", help_heading = OUTPUT, requires = "image")]
    pub plot_features: Option<PathBuf>,
    /// Width and height of points that are pictures, such as 28x28
    #[arg(long, value_name = "WxH", help_heading = OUTPUT, requires = "plot_features", value_parser = image)]
    pub image: Option<(usize, usize)>,
    /// Print the result as a JSON object
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
    /// Write no progress and no warnings to standard error; the result is still printed
    #[arg(short, long, help_heading = OUTPUT)]
    pub quiet: bool,
}

impl FitArgs {
    /// Returns the options that only some kinds of models use, and whether they were typed.
    pub fn of_kinds(&self) -> Vec<(&'static str, bool)> {
        let own = [
            ("--components", self.components.is_some()),
            ("--latent", !self.latent.is_empty()),
            ("--label-column", self.label_column.is_some()),
            ("--rotation", self.rotation.is_some()),
            ("--posterior", self.posterior.is_some()),
            ("--reg-covar", self.reg_covar.is_some()),
            ("--states", self.states.is_some()),
            ("--neighbours", self.neighbours.is_some()),
            ("--random-candidates", self.random_candidates.is_some()),
            ("--ridge", self.ridge.is_some()),
            ("--plot-features", self.plot_features.is_some()),
            ("--missing ignore", self.data.missing == Missing::Ignore),
        ];
        own.into_iter().chain(self.network.given()).chain(self.known.given()).collect()
    }
}

/// A prior: of the latents of an autoencoder, or of the covariances of a mixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prior {
    Latents(LatentPrior),
    Conjugate,
}

impl Prior {
    const ALL: [Self; 4] = {
        let [a, b, c] = LatentPrior::ALL;
        [Self::Latents(a), Self::Latents(b), Self::Latents(c), Self::Conjugate]
    };

    pub fn name(self) -> &'static str {
        match self {
            Self::Latents(prior) => prior.name(),
            Self::Conjugate => ConjugatePrior::NAME,
        }
    }
}

/// Networks of autoencoders, and how they learn.
#[derive(Clone, Debug, Default, Args)]
pub struct NetworkArgs {
    /// Units of the hidden layers: of an autoencoder from the points to the latents, of the decoder of binary-sparse-coding from the
    /// latents on; 0 for no hidden layer [default: 100 for vae, else 0]
    #[arg(long, value_name = "U,...", help_heading = MODEL, value_delimiter = ',')]
    pub hidden: Option<Vec<u64>>,
    /// Function between the layers [default: relu for vae, else tanh]
    #[arg(long, value_name = "NAME", help_heading = MODEL, value_parser = named(Activation::ALL, Activation::name))]
    pub activation: Option<Activation>,
    /// Decoder of vae: mlp, with the hidden layers of the encoder, or linear [default: mlp]
    #[arg(long, value_name = "KIND", help_heading = MODEL, value_parser = PossibleValuesParser::new(["mlp", "linear"]))]
    pub decoder: Option<String>,
    /// Prior: of the latents of vae, standard, learned variances, or laplace [default: standard]; of the covariances of mixtures of
    /// Gaussians, conjugate, with a scale that follows from the data, so that no likelihood is without bound [default: none]
    #[arg(long, value_name = "NAME", help_heading = MODEL, value_parser = named(Prior::ALL, Prior::name))]
    pub prior: Option<Prior>,
    /// Noise of vae, sparse-coding and binary-sparse-coding: one variance, or one for each dimension [default: scalar]
    #[arg(long, value_name = "KIND", help_heading = MODEL, value_parser = PossibleValuesParser::new(NOISES.map(|it| it.0)).map(noise))]
    pub noise: Option<Noise>,
    /// Step size of Adam, by which networks learn [default: 0.01 for sparse-coding, else 0.001]
    #[arg(long, value_name = "RATE", help_heading = MODEL, value_parser = not_negative)]
    pub learning_rate: Option<f64>,
    /// Course of that step size: constant, or falling to 0 as half a cosine [default: cosine]
    #[arg(long, value_name = "NAME", help_heading = MODEL, value_parser = named(LearningRateSchedule::ALL, LearningRateSchedule::name))]
    pub learning_rate_schedule: Option<LearningRateSchedule>,
    /// Weight of the prior of the latents in gradients at the start, which falls to 1 in the first half of the steps; for linear decoders
    /// [default: 1]
    #[arg(long, value_name = "A", help_heading = MODEL, value_parser = not_negative)]
    pub prior_weight: Option<f64>,
}

impl NetworkArgs {
    /// Returns the options of the structure, which a model of `--init FILE` has too, and whether they were typed.
    pub fn structure(&self) -> [(&'static str, bool); 5] {
        [
            ("--hidden", self.hidden.is_some()),
            ("--activation", self.activation.is_some()),
            ("--decoder", self.decoder.is_some()),
            ("--prior", self.prior.is_some()),
            ("--noise", self.noise.is_some()),
        ]
    }

    /// Returns all these options, and whether they were typed.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let learning = [
            ("--learning-rate", self.learning_rate.is_some()),
            ("--learning-rate-schedule", self.learning_rate_schedule.is_some()),
            ("--prior-weight", self.prior_weight.is_some()),
        ];
        self.structure().into_iter().chain(learning)
    }
}

fn noise(name: String) -> Noise {
    let found = NOISES.iter().find(|it| it.0 == name);
    found.map_or(Noise::Isotropic, |it| it.1)
}

/// Parameters of a family that are known: a number for all columns, or a number for each.
#[derive(Clone, Debug, Args)]
pub struct KnownArgs {
    /// Number of trials, for binomial: a number for all columns, or a number for each
    #[arg(long, value_name = "N,...", help_heading = MODEL, value_delimiter = ',')]
    pub trials: Option<Vec<f64>>,
    /// Number of successes, for negative-binomial, in the form of --trials
    #[arg(long, value_name = "R,...", help_heading = MODEL, value_delimiter = ',')]
    pub successes: Option<Vec<f64>>,
    /// Shape, for weibull, in the form of --trials
    #[arg(long, value_name = "SHAPE,...", help_heading = MODEL, value_delimiter = ',')]
    pub shape: Option<Vec<f64>>,
    /// Location, for laplace, in the form of --trials
    #[arg(long, value_name = "X,...", help_heading = MODEL, value_delimiter = ',')]
    pub location: Option<Vec<f64>>,
    /// Variance, for gaussian-known-variance, in the form of --trials
    #[arg(long, value_name = "V,...", help_heading = MODEL, value_delimiter = ',')]
    pub variance: Option<Vec<f64>>,
    /// Number of levels, for categorical, in the form of --trials [default: the levels in the data]
    #[arg(long, value_name = "V,...", help_heading = MODEL, value_delimiter = ',')]
    pub levels: Option<Vec<f64>>,
    /// Total of a point that is drawn, for multinomial [default: the mean total of the data]
    #[arg(long, value_name = "N", help_heading = MODEL, value_delimiter = ',')]
    pub total: Option<Vec<f64>>,
    /// Number of labels, which the points tell.
    #[arg(skip)]
    pub labels: Option<Vec<f64>>,
}

impl KnownArgs {
    fn all(&self) -> [(&'static str, &Option<Vec<f64>>); 8] {
        [
            ("--trials", &self.trials),
            ("--successes", &self.successes),
            ("--shape", &self.shape),
            ("--location", &self.location),
            ("--variance", &self.variance),
            ("--levels", &self.levels),
            ("--total", &self.total),
            ("--labels", &self.labels),
        ]
    }

    /// Returns all these options, and whether they were typed.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.all().map(|(argument, values)| (argument, values.is_some())).into_iter()
    }

    /// Returns the parameters that were typed.
    pub fn known(&self) -> KnownParameters {
        self.all().into_iter().fold(KnownParameters::default(), |known, (argument, values)| {
            match values {
                Some(values) => known.with(argument.trim_start_matches('-'), values.clone()),
                None => known,
            }
        })
    }
}

/// Start of a fit.
#[derive(Clone, Debug)]
pub enum Start {
    Auto,
    KMeansPlusPlus,
    Random,
    RandomFromData,
    File(PathBuf),
}

impl Start {
    /// Names of the starts that are no files.
    pub const NAMES: [&str; 4] = ["auto", "kmeans++", "random", "random-from-data"];
}

impl From<OsString> for Start {
    fn from(text: OsString) -> Self {
        match Self::NAMES.iter().position(|name| text == *name) {
            Some(0) => Self::Auto,
            Some(1) => Self::KMeansPlusPlus,
            Some(2) => Self::Random,
            Some(_) => Self::RandomFromData,
            None => Self::File(text.into()),
        }
    }
}
