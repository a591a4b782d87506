//! What can be typed: names, types, defaults and help.

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use entropysum::data::Dtype;
use entropysum::data::shuffle::BadRows;
use entropysum::em::Config;
use entropysum::family::product::is_product;
use entropysum::family::{Known, registry};
use entropysum::model::Rotation;
use entropysum::monitor::Monitor;
use entropysum::selection::Criterion;
use entropysum::store::{Model, Stored};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Learn mixtures of exponential families by fast EM, and watch it by entropy sums
#[derive(Debug, Parser)]
#[command(name = "entropysum", version, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "\
DATA is one point a row: .npy, text (.csv, .tsv, ...), or numbers without a header (--dtype and --dim).
Counts may be sparse: Matrix Market (.mtx), or SciPy's CSR matrices (.npz).
All values are natural logarithms (nats) per point.

Example:
  entropysum fit points.csv -k 5 -o model.safetensors
  entropysum predict model.safetensors points.csv -o labels.csv

'entropysum COMMAND --help' tells more.")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// Negative numbers are allowed everywhere so that they get a better message than "unexpected argument".
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of them, once")]
pub enum Command {
    /// Learn a model from points
    #[command(after_help = "\
Ctrl-C ends the fit after the current sweep and saves everything; a second one ends it at once.

Example:
  entropysum fit points.csv -k 5 --n-init 3 --seed 1 --plot history.svg -o model.safetensors")]
    #[command(allow_negative_numbers = true)]
    Fit(FitCommand),
    /// Learn models of several sizes, and keep the best by a criterion
    #[command(after_help = "\
All candidates share the points. -o and --history are of the best; --plot draws the criteria of all, and below them the
eigenvalues of the data for ppca and factor-analysis.

Example:
  entropysum select points.csv --components 1..10 --criterion bic --n-init 3 --plot sizes.svg -o model.safetensors
  entropysum select points.csv --model ppca --latent 1..20 --criterion held-out --plot scree.svg")]
    #[command(allow_negative_numbers = true)]
    Select(SelectCommand),
    /// Write the most probable component of each point
    #[command(after_help = "\
Example:
  entropysum predict model.safetensors points.npy -o labels.npy
  entropysum predict model.safetensors points.npy -o posteriors.npy --proba")]
    #[command(allow_negative_numbers = true)]
    Predict(PredictArgs),
    /// Write where points lie in the latent space of a model
    #[command(after_help = "\
Mixtures have no latent space; 'predict --proba' gives their posteriors. In mixtures of factor analysers a
point lies in the latent space of its most probable component.

Example:
  entropysum transform model.safetensors points.npy -o latents.npy")]
    #[command(allow_negative_numbers = true)]
    Transform(MapArgs),
    /// Write what a model makes of points, given their place in its latent space
    #[command(after_help = "\
Mixtures have no latent space; 'predict' gives their components. Mixtures of factor analysers average over
the components of a point.

Example:
  entropysum reconstruct model.safetensors points.npy -o reconstructed.npy")]
    #[command(allow_negative_numbers = true)]
    Reconstruct(MapArgs),
    /// Tell how well a model describes points
    #[command(after_help = "\
Example:
  entropysum score model.safetensors points.npy -o log_densities.npy")]
    #[command(allow_negative_numbers = true)]
    Score(ScoreArgs),
    /// Draw points from a model
    #[command(after_help = "\
The same seed draws the same points, on any number of threads.

Example:
  entropysum sample model.safetensors -n 1000000 -o points.npy --labels labels.npy")]
    #[command(allow_negative_numbers = true)]
    Sample(SampleArgs),
    /// Show a model
    #[command(after_help = "\
Example:
  entropysum info model.safetensors --json > model.json
  entropysum fit points.csv --init model.json -o model.safetensors")]
    Info(InfoArgs),
    /// Test whether a model's bound becomes an entropy sum
    #[command(after_help = "\
Tests the parameterisation criterion of the paper (Definition 1) at random parameters: whether coefficients alpha and
beta exist that make the natural parameters from their own Jacobians, the same for all latent states. The parameters of a
model file are tested too, but for mixtures, whose own may be at a boundary. With a model file and points, both sides of
'bound - entropy sum = alpha . dF/dPsi + beta . dF/dtheta' are evaluated on the points: on those the model was learned from
the gap is zero where it has converged; on others it is positive if the model is too flat for them, and negative if it is
too sharp.

Example:
  entropysum check gaussian-tied
  entropysum check ppca-fixed-prior --json
  entropysum check model.safetensors points.npy")]
    #[command(allow_negative_numbers = true)]
    Check(CheckArgs),
    /// Measure what sweeps and monitors cost on this machine
    #[command(after_help = "\
'sweep' compares E-steps with what matrix products and memory reach here. 'monitor' compares the log-likelihood that a
sweep yields, a separate ELBO pass, and the entropy sum.

Example:
  entropysum bench sweep --model gaussian-diag -k 64 --dim 16 --n 1000000
  entropysum bench monitor -k 4,64 --dim 2,16 --n 10000,100000 -o monitor.csv --plot monitor.svg")]
    Bench(BenchArgs),
}

const MODEL: &str = "Model";
const STOPPING: &str = "Stopping";
const MINIBATCHES: &str = "Minibatches (stepwise and incremental EM)";
const CHECKPOINTS: &str = "Checkpoints";
const DATA: &str = "Data";
const OUTPUT: &str = "Output";
const COMPUTING: &str = "Computing";

/// The model of a fit that names none.
pub const DEFAULT_MODEL: &str = "gaussian-full";

/// Of 'fit': a model of one size.
#[derive(Clone, Debug, Args)]
pub struct FitCommand {
    #[command(flatten)]
    pub fit: FitArgs,
    /// Number of components [default: that of --init FILE]
    #[arg(short = 'k', long, value_name = "K", help_heading = MODEL, value_parser = positive)]
    pub components: Option<u64>,
    /// Numbers of latents, for models that have any: of each layer, the top one first
    #[arg(long, value_name = "H,...", help_heading = MODEL, value_delimiter = ',', value_parser = positive)]
    pub latent: Vec<u64>,
    #[command(flatten)]
    pub stream: StreamArgs,
}

impl FitCommand {
    /// The arguments of the fit, with its size.
    pub fn args(&self) -> FitArgs {
        FitArgs {
            components: self.components,
            latent: self.latent.clone(),
            stream: self.stream.clone(),
            ..self.fit.clone()
        }
    }
}

/// Of 'select': models of several sizes.
#[derive(Clone, Debug, Args)]
pub struct SelectCommand {
    #[command(flatten)]
    pub fit: FitArgs,
    /// Numbers of components: numbers and ranges, 1..20 or 2,4,8..12
    #[arg(short = 'k', long, value_name = "K,...", help_heading = MODEL, value_parser = counts)]
    pub components: Option<Counts>,
    /// Numbers of latents, for models that have any: numbers and ranges
    #[arg(long, value_name = "H,...", help_heading = MODEL, value_parser = counts)]
    pub latent: Option<Counts>,
    /// What candidates are compared by; lower is better. Nothing in the entropy sum punishes size
    #[arg(long, value_name = "NAME", help_heading = MODEL, default_value = Criterion::default().name(), value_parser = named(Criterion::ALL, Criterion::name))]
    pub criterion: Criterion,
    /// Part of the points to hold out of all fits and to compare candidates on, chosen by --seed [default: none, or 0.2
    /// for --criterion held-out]
    #[arg(long, value_name = "PART", help_heading = MODEL, value_parser = part)]
    pub held_out: Option<f64>,
}

/// Numbers that were typed as a list with ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts(pub Vec<u64>);

#[derive(Clone, Debug, Args)]
pub struct FitArgs {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub weights: WeightsArgs,

    /// The model: for a mixture, the family of its components [default: gaussian-full, or that of --init FILE]. Families
    /// of several columns each, by index or name: gaussian-diag:0-3,poisson:visits
    #[arg(long, value_name = "NAME", help_heading = MODEL, value_parser = ModelName)]
    pub model: Option<String>,
    #[command(flatten)]
    pub known: KnownArgs,
    /// Of the command: one size to fit, or several to select from.
    #[arg(skip)]
    pub components: Option<u64>,
    #[arg(skip)]
    pub latent: Vec<u64>,
    /// Of 'fit' alone.
    #[arg(skip)]
    pub stream: StreamArgs,
    /// How to learn, for models that can be learned in several ways: batch, stepwise or incremental EM for mixtures
    /// [default: batch, or stepwise with --batch-size]
    #[arg(long, value_name = "NAME", help_heading = MODEL)]
    pub algorithm: Option<String>,
    /// Rotate the loadings to a simple structure
    #[arg(long, value_name = "NAME", help_heading = MODEL, value_parser = named(Rotation::ALL, Rotation::name))]
    pub rotation: Option<Rotation>,
    /// Posteriors of the E-step: of mixtures exact or hard, of sbn and sbn3 exact or truncated [default: exact, or those of --init FILE]
    #[arg(long, value_name = "KIND", help_heading = MODEL, value_parser = PossibleValuesParser::new(["exact", "hard", "truncated"]))]
    pub posterior: Option<String>,
    /// States of each point that truncated posteriors keep [default: 32, or that of --init FILE]
    #[arg(long, value_name = "S", help_heading = MODEL, value_parser = positive)]
    pub states: Option<u64>,
    /// Of sbn and sbn3: take λ/2 times the sum of squares of all weights (not biases) from the bound per point, in M-steps [default: 0]
    #[arg(long, value_name = "LAMBDA", help_heading = MODEL, value_parser = not_negative)]
    pub ridge: Option<f64>,
    /// Start: kmeans++, random, random-from-data, or a saved model to go on from
    #[arg(long, value_name = "START", help_heading = MODEL, default_value = Start::NAMES[0], value_parser = OsStringValueParser::new().map(Start::from))]
    pub init: Start,
    /// Number of fresh starts, of which the best is kept
    #[arg(long, value_name = "R", help_heading = MODEL, default_value = "1", value_parser = positive)]
    pub n_init: u64,
    /// Add E to all variances, in squared units of the data [default: only hold them above a small floor]
    #[arg(long, value_name = "E", help_heading = MODEL, value_parser = not_negative)]
    pub reg_covar: Option<f64>,
    /// Seed of all random choices
    #[arg(long, value_name = "S", help_heading = MODEL, default_value_t = Config::default().seed)]
    pub seed: u64,

    /// Iterations at most
    #[arg(long, value_name = "N", help_heading = STOPPING, default_value = "200", value_parser = positive)]
    pub max_iter: u64,
    /// Stop when the monitored value changes by at most this
    #[arg(long, value_name = "TOL", help_heading = STOPPING, default_value = "1e-5", value_parser = not_negative)]
    pub tol: f64,
    /// Stop when it changes by at most this part of itself
    #[arg(long, value_name = "RTOL", help_heading = STOPPING, default_value = "0", value_parser = not_negative)]
    pub rtol: f64,
    /// The monitored value
    #[arg(long, value_name = "VALUE", help_heading = STOPPING, default_value = Monitor::default().name(), value_parser = named(Monitor::ALL, Monitor::name))]
    pub monitor: Monitor,
    /// Stop each start after the first iteration that ends later than this
    #[arg(long, value_name = "S", help_heading = STOPPING, value_parser = seconds)]
    pub max_seconds: Option<Duration>,

    #[command(flatten)]
    pub compute: ComputeArgs,

    /// Save the model: .safetensors or .json
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub output: Option<PathBuf>,
    /// Save a table of all iterations: .csv
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub history: Option<PathBuf>,
    /// Draw all iterations, or all candidates: .svg
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub plot: Option<PathBuf>,
    /// Draw the weights of each latent as a tile of a picture, for points that are pictures: .png
    #[arg(long, value_name = "FILE", help_heading = OUTPUT, requires = "image")]
    pub plot_features: Option<PathBuf>,
    /// Width and height of these pictures: 28x28
    #[arg(long, value_name = "WxH", help_heading = OUTPUT, requires = "plot_features", value_parser = image)]
    pub image: Option<(usize, usize)>,
    /// Print the result as one JSON object
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
    /// No progress and no warnings on standard error; the result is still printed
    #[arg(short, long, help_heading = OUTPUT)]
    pub quiet: bool,
}

/// Learning by minibatches.
#[derive(Clone, Debug, Default, Args)]
pub struct StreamArgs {
    /// Learn from minibatches of B points, read in random order; of any number of points [default: 4096]
    #[arg(long, value_name = "B", help_heading = MINIBATCHES, value_parser = positive)]
    pub batch_size: Option<u64>,
    /// Exponent of the step sizes (t + t0)^-E: above 0.5, at most 1 [default: 0.6]
    #[arg(long, value_name = "E", help_heading = MINIBATCHES, value_parser = not_negative)]
    pub step_exponent: Option<f64>,
    /// Offset t0 of the step sizes [default: 2]
    #[arg(long, value_name = "T0", help_heading = MINIBATCHES, value_parser = not_negative)]
    pub step_offset: Option<f64>,
    /// Least step, as long as it gains more than its noise costs; 0 for none [default: what costs 0.01 nats per point]
    #[arg(long, value_name = "STEP", help_heading = MINIBATCHES, value_parser = not_negative)]
    pub step_least: Option<f64>,
    /// Passes over the points at most [default: 5]
    #[arg(long, value_name = "N", help_heading = MINIBATCHES, value_parser = positive)]
    pub epochs: Option<u64>,
    /// Part of the steps, the last ones, whose statistics are averaged [default: 0.3333]
    #[arg(long, value_name = "PART", help_heading = MINIBATCHES, value_parser = not_negative)]
    pub average: Option<f64>,
    /// End with N iterations of batch EM [default: 0]
    #[arg(long, value_name = "N", help_heading = MINIBATCHES)]
    pub polish: Option<u64>,
    /// Measure the log-likelihood by a full pass after each N records, of which an epoch has 20
    #[arg(long, value_name = "N", help_heading = MINIBATCHES, value_parser = positive)]
    pub audit: Option<u64>,
    /// Measure it on these points, which are not learned from
    #[arg(long, value_name = "FILE", help_heading = MINIBATCHES, requires = "audit")]
    pub held_out: Option<PathBuf>,
    /// Memory for points and for statistics of chunks, such as 512M or 2G [default: 256M]
    #[arg(long, value_name = "BYTES", help_heading = MINIBATCHES, value_parser = bytes)]
    pub memory: Option<u64>,
    /// What to do with points that are no numbers: error or skip [default: error]
    #[arg(long, value_name = "WHAT", help_heading = MINIBATCHES, value_parser = named([BadRows::Error, BadRows::Skip], bad_rows_name))]
    pub on_bad_row: Option<BadRows>,
    /// Keep the state of the fit in a file, to go on with if it is cut off
    #[arg(long, value_name = "FILE", help_heading = CHECKPOINTS)]
    pub checkpoint: Option<PathBuf>,
    /// Seconds between checkpoints [default: 60]
    #[arg(long, value_name = "S", help_heading = CHECKPOINTS, requires = "checkpoint", value_parser = seconds)]
    pub checkpoint_every: Option<Duration>,
    /// Go on from the checkpoint, if there is one
    #[arg(long, help_heading = CHECKPOINTS, requires = "checkpoint")]
    pub resume: bool,
}

impl StreamArgs {
    /// Arguments that only fits by minibatches have a use for, and whether they were typed.
    pub fn given(&self) -> [(&'static str, bool); 11] {
        [
            ("--batch-size", self.batch_size.is_some()),
            ("--step-exponent", self.step_exponent.is_some()),
            ("--step-offset", self.step_offset.is_some()),
            ("--step-least", self.step_least.is_some()),
            ("--epochs", self.epochs.is_some()),
            ("--average", self.average.is_some()),
            ("--polish", self.polish.is_some()),
            ("--audit", self.audit.is_some()),
            ("--held-out", self.held_out.is_some()),
            ("--memory", self.memory.is_some()),
            ("--on-bad-row", self.on_bad_row.is_some()),
        ]
    }
}

fn bad_rows_name(what: BadRows) -> &'static str {
    match what {
        BadRows::Skip => "skip",
        _ => "error",
    }
}

/// Parameters that are known: one number, or one for each column.
#[derive(Clone, Debug, Args)]
pub struct KnownArgs {
    /// Trials of a binomial; one number, or one for each column
    #[arg(long, value_name = "N,...", help_heading = MODEL, value_delimiter = ',')]
    pub trials: Option<Vec<f64>>,
    /// Successes of a negative-binomial, as --trials
    #[arg(long, value_name = "R,...", help_heading = MODEL, value_delimiter = ',')]
    pub successes: Option<Vec<f64>>,
    /// Shape of a weibull, as --trials
    #[arg(long, value_name = "SHAPE,...", help_heading = MODEL, value_delimiter = ',')]
    pub shape: Option<Vec<f64>>,
    /// Location of a laplace, as --trials
    #[arg(long, value_name = "X,...", help_heading = MODEL, value_delimiter = ',')]
    pub location: Option<Vec<f64>>,
    /// Variance of a gaussian-known-variance, as --trials
    #[arg(long, value_name = "V,...", help_heading = MODEL, value_delimiter = ',')]
    pub variance: Option<Vec<f64>>,
    /// Levels of a categorical, as --trials [default: as many as the data have]
    #[arg(long, value_name = "V,...", help_heading = MODEL, value_delimiter = ',')]
    pub levels: Option<Vec<f64>>,
    /// Total of a point drawn from a multinomial [default: the mean of the data]
    #[arg(long, value_name = "N", help_heading = MODEL, value_delimiter = ',')]
    pub total: Option<Vec<f64>>,
}

impl KnownArgs {
    fn all(&self) -> [(&'static str, &Option<Vec<f64>>); 7] {
        [
            ("--trials", &self.trials),
            ("--successes", &self.successes),
            ("--shape", &self.shape),
            ("--location", &self.location),
            ("--variance", &self.variance),
            ("--levels", &self.levels),
            ("--total", &self.total),
        ]
    }

    /// All these arguments, and whether they were given.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.all().map(|(argument, values)| (argument, values.is_some())).into_iter()
    }

    /// Those that were given.
    pub fn known(&self) -> Known {
        self.all().into_iter().fold(Known::default(), |known, (argument, values)| match values {
            Some(values) => known.with(argument.trim_start_matches('-'), values.clone()),
            None => known,
        })
    }
}

impl FitArgs {
    /// Arguments that only some kinds of models have a use for, and whether they were typed.
    pub fn of_kinds(&self) -> Vec<(&'static str, bool)> {
        let own = [
            ("--components", self.components.is_some()),
            ("--latent", !self.latent.is_empty()),
            ("--rotation", self.rotation.is_some()),
            ("--posterior", self.posterior.is_some()),
            ("--reg-covar", self.reg_covar.is_some()),
            ("--states", self.states.is_some()),
            ("--ridge", self.ridge.is_some()),
            ("--plot-features", self.plot_features.is_some()),
            ("--missing ignore", self.data.missing == Missing::Ignore),
        ];
        own.into_iter().chain(self.known.given()).collect()
    }
}

#[derive(Clone, Debug, Args)]
pub struct PredictArgs {
    /// The model, as 'fit' saved it
    pub model: PathBuf,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// Where to write: .npy or .csv
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub output: PathBuf,
    /// Write the posterior probabilities of all components instead of labels
    #[arg(long, help_heading = OUTPUT)]
    pub proba: bool,
}

/// Of 'transform' and 'reconstruct'.
#[derive(Clone, Debug, Args)]
pub struct MapArgs {
    /// The model, as 'fit' saved it
    pub model: PathBuf,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// Where to write: .npy or .csv
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub output: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub struct ScoreArgs {
    /// The model, as 'fit' saved it
    pub model: PathBuf,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub weights: WeightsArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// Write the log-density of each point: .npy or .csv
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub output: Option<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct SampleArgs {
    /// The model, as 'fit' saved it
    pub model: PathBuf,
    /// Number of points
    #[arg(short, value_name = "N", value_parser = positive)]
    pub n: u64,
    /// Where to write the points: .npy or .csv
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Write the component of each point too: .npy or .csv
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Seed of all random choices
    #[arg(long, value_name = "S", default_value_t = Config::default().seed)]
    pub seed: u64,
    /// Type of the numbers in a .npy file; those of a .csv file are written in full
    #[arg(long, value_name = "TYPE", default_value = "f64", value_parser = named([Precision::F32, Precision::F64], Precision::name))]
    pub dtype: Precision,
    #[command(flatten)]
    pub threads: ThreadsArgs,
}

#[derive(Clone, Debug, Args)]
pub struct InfoArgs {
    /// The model, as 'fit' saved it
    pub model: PathBuf,
    /// Print all parameters as one JSON object, which --init takes
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// A family or the name of another model, or a model file
    pub model: OsString,
    /// Points to certify the gap of a model file on: .npy or text
    pub data: Option<PathBuf>,
    /// Number of components
    #[arg(short = 'k', long, value_name = "K", help_heading = MODEL, default_value = "3", value_parser = positive)]
    pub components: u64,
    /// Dimension of the points
    #[arg(long, value_name = "D", help_heading = MODEL, default_value = "3", value_parser = positive)]
    pub dim: u64,
    /// Number of latents
    #[arg(long, value_name = "H", help_heading = MODEL, default_value = "2", value_parser = positive)]
    pub latent: u64,
    #[command(flatten)]
    pub known: KnownArgs,
    /// Number of random parameters to test at
    #[arg(long, value_name = "N", default_value = "16", value_parser = positive)]
    pub draws: u64,
    /// Seed of these
    #[arg(long, value_name = "S", default_value_t = Config::default().seed)]
    pub seed: u64,
    #[command(flatten)]
    pub threads: ThreadsArgs,
    /// Print the result as one JSON object
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}

/// Shapes to measure: all combinations of the lists.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_enum)]
    pub command: BenchCommand,
    /// Families, separated by commas
    #[arg(long, value_name = "NAMES", help_heading = MODEL, value_delimiter = ',', default_value = DEFAULT_MODEL, value_parser = PossibleValuesParser::new(registry::names()))]
    pub model: Vec<String>,
    /// Numbers of components
    #[arg(short = 'k', long, value_name = "K,...", help_heading = MODEL, value_delimiter = ',', default_value = "8,64", value_parser = positive)]
    pub components: Vec<u64>,
    /// Dimensions of the points
    #[arg(long, value_name = "D,...", help_heading = DATA, value_delimiter = ',', default_value = "4,16", value_parser = positive)]
    pub dim: Vec<u64>,
    /// Numbers of points
    #[arg(long, value_name = "N,...", help_heading = DATA, value_delimiter = ',', default_value = "10000,100000", value_parser = positive)]
    pub n: Vec<u64>,
    /// Of monitor: watch minibatch EM with batches of B points, each against a pass over all N. N may exceed the memory: beyond
    /// some points they are read again
    #[arg(long, value_name = "B", help_heading = DATA, value_parser = positive)]
    pub batch_size: Option<u64>,
    /// Write the table as CSV
    #[arg(short, long, value_name = "FILE.csv", help_heading = OUTPUT)]
    pub output: Option<PathBuf>,
    /// Draw it against the size that most values were given of
    #[arg(long, value_name = "FILE.svg", help_heading = OUTPUT)]
    pub plot: Option<PathBuf>,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// What `bench` measures.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum BenchCommand {
    /// E-step sweeps
    Sweep,
    /// Ways to watch convergence
    Monitor,
}

/// A file of points and how to read it.
#[derive(Clone, Debug, Args)]
pub struct DataArgs {
    /// The points, one a row: .npy, text (also .gz, .zst), raw numbers, or sparse .mtx and .npz; a pattern such as
    /// 'part-*.npy' means all files
    pub data: PathBuf,
    /// More files of points, as one with DATA
    #[arg(value_name = "MORE")]
    pub more: Vec<PathBuf>,
    /// Column of a text file that holds weights: its name, or its index from 0
    #[arg(long, value_name = "NAME|INDEX", help_heading = DATA)]
    pub weights_column: Option<String>,
    /// Type of the little-endian numbers of a raw file: f32, f64, u8, ...
    #[arg(long, value_name = "TYPE", help_heading = DATA, requires = "dim")]
    pub dtype: Option<Dtype>,
    /// Dimension of the points of a raw file
    #[arg(long, value_name = "D", help_heading = DATA, requires = "dtype", value_parser = positive)]
    pub dim: Option<u64>,
    /// What to do with missing values (nan; in text also empty cells and NA): refuse them, or ignore them and use what is
    /// known of a point, where dimensions are independent given the latents
    #[arg(long, value_name = "WHAT", help_heading = DATA, default_value = "refuse", value_parser = named([Missing::Refuse, Missing::Ignore], Missing::name))]
    pub missing: Missing,
}

/// What to do with missing values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Refuse,
    Ignore,
}

impl Missing {
    fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Ignore => "ignore",
        }
    }
}

impl DataArgs {
    /// All files, in order.
    pub fn files(&self) -> Vec<&Path> {
        std::iter::once(&self.data).chain(&self.more).map(PathBuf::as_path).collect()
    }
}

#[derive(Clone, Debug, Args)]
pub struct WeightsArgs {
    /// File of weights, one a point
    #[arg(long, value_name = "FILE", help_heading = DATA, conflicts_with = "weights_column")]
    pub weights: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct ComputeArgs {
    #[command(flatten)]
    pub threads: ThreadsArgs,
    /// Precision of computations with points; sums are always f64
    #[arg(long, value_name = "TYPE", help_heading = COMPUTING, default_value = "f64", value_parser = named([Precision::F32, Precision::F64], Precision::name))]
    pub precision: Precision,
}

#[derive(Clone, Debug, Args)]
pub struct ThreadsArgs {
    /// Number of threads; results do not depend on it [default: all cores]
    #[arg(long, value_name = "T", help_heading = COMPUTING, value_parser = threads)]
    pub threads: Option<u64>,
}

/// Precision of the data plane.
#[derive(Clone, Copy, Debug)]
pub enum Precision {
    F32,
    F64,
}

impl Precision {
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }
}

/// Where a fit begins.
#[derive(Clone, Debug)]
pub enum Start {
    KMeansPlusPlus,
    Random,
    RandomFromData,
    File(PathBuf),
}

impl Start {
    /// Names of the starts that are no files.
    pub const NAMES: [&str; 3] = ["kmeans++", "random", "random-from-data"];
}

impl From<OsString> for Start {
    fn from(text: OsString) -> Self {
        match Self::NAMES.iter().position(|name| text == *name) {
            Some(0) => Self::KMeansPlusPlus,
            Some(1) => Self::Random,
            Some(_) => Self::RandomFromData,
            None => Self::File(text.into()),
        }
    }
}

/// Names of models, and those of products, of which there is no list.
#[derive(Clone, Debug)]
struct ModelName;

impl TypedValueParser for ModelName {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        match value.to_str() {
            Some(name) if is_product(name) => Ok(name.to_owned()),
            _ => PossibleValuesParser::new(Model::names()).parse_ref(command, argument, value),
        }
    }

    fn possible_values(
        &self,
    ) -> Option<Box<dyn Iterator<Item = clap::builder::PossibleValue> + '_>> {
        Some(Box::new(Model::names().into_iter().map(clap::builder::PossibleValue::new)))
    }
}

/// One of some values, by its name.
fn named<V: Copy + Send + Sync + 'static, const N: usize>(
    values: [V; N],
    name: fn(V) -> &'static str,
) -> impl TypedValueParser<Value = V> {
    PossibleValuesParser::new(values.map(name)).map(move |text| {
        *values.iter().find(|value| name(**value) == text).expect("clap took one of the names")
    })
}

/// `1..5` or `1,2,8..12`, without repetitions.
fn counts(text: &str) -> Result<Counts, String> {
    // More candidates than anyone waits for are a slip.
    const MOST: u64 = 10_000;
    let mut counts = Vec::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once("..") {
            None => (positive(part)?, positive(part)?),
            Some((first, last)) => (positive(first)?, positive(last.trim_start_matches('='))?),
        };
        if last < first {
            return Err(format!("the range {part} is empty"));
        }
        if last - first >= MOST {
            return Err(format!("the range {part} is too long"));
        }
        counts.extend(first..=last);
    }
    let mut seen = std::collections::HashSet::new();
    counts.retain(|count| seen.insert(*count));
    Ok(Counts(counts))
}

fn positive(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if number >= 1 => Ok(number),
        _ => Err("expected a whole number of at least 1".to_owned()),
    }
}

/// Threads beyond any machine's cores only fight each other; very many never get to work.
fn threads(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if (1..=1024).contains(&number) => Ok(number),
        _ => Err("expected a whole number from 1 to 1024".to_owned()),
    }
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number >= 0.0 && number.is_finite() => Ok(number),
        _ => Err("expected a number of at least 0".to_owned()),
    }
}

fn part(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number < 1.0 => Ok(number),
        _ => Err("expected a number between 0 and 1".to_owned()),
    }
}

/// A number of bytes: `1000000`, `512K`, `256M`, `2G`.
fn bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        _ => (text, 0),
    };
    match digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift)) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err("expected a number of bytes, such as 1000000, 256M or 2G".to_owned()),
    }
}

fn image(text: &str) -> Result<(usize, usize), String> {
    let sizes = text.split_once('x').map(|(w, h)| (w.parse(), h.parse()));
    match sizes {
        Some((Ok(width), Ok(height))) if width > 0 && height > 0 => Ok((width, height)),
        _ => Err("expected WIDTHxHEIGHT, such as 28x28".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = not_negative(text)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "that is for ever; leave it out".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn counts_are_lists_of_numbers_and_ranges() {
        let all = |text| counts(text).map(|counts| counts.0);
        assert_eq!(all("3"), Ok(vec![3]));
        assert_eq!(all("1..4"), Ok(vec![1, 2, 3, 4]));
        assert_eq!(all("1..=4"), Ok(vec![1, 2, 3, 4]));
        assert_eq!(all("8,2..3,2"), Ok(vec![8, 2, 3]));
        for wrong in ["", "0..3", "4..2", "1..", "..3", "a", "1.5", "1..1000000", "-1..2"] {
            assert!(all(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        let cli = Cli::try_parse_from(["entropysum", "fit", "points.npy"]).unwrap();
        let Command::Fit(FitCommand { fit: args, .. }) = cli.command else { panic!("{cli:?}") };
        let config = Config::default();
        assert_eq!(
            (args.max_iter as usize, args.tol, args.rtol, args.n_init as usize, args.seed),
            (config.max_iter, config.tol, config.rtol, config.n_init, config.seed)
        );
        assert_eq!((args.monitor, args.max_seconds), (config.monitor, config.max_time));
        assert!(matches!(args.init, Start::KMeansPlusPlus));
        assert!(registry::names().any(|name| name == DEFAULT_MODEL));
    }
}
