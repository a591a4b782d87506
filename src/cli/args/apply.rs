//! Commands that use a model, and commands that test and measure.

use super::data::{ComputeArgs, DataArgs, Precision, TableArgs, ThreadsArgs, WeightsArgs};
use super::fit::KnownArgs;
use super::values::{named, output, positive};
use super::{DATA, DEFAULT_MODEL, MODEL, OUTPUT};
use crate::em::Config;
use crate::family::registry;
use clap::Args;
use clap::builder::PossibleValuesParser;
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Clone, Debug, Args)]
pub struct PredictArgs {
    /// Model file that 'fit' saved
    pub model: PathBuf,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// File to write: .npy or .csv; - is standard output, as text
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT, value_parser = output())]
    pub output: PathBuf,
    /// Go through all components of a mixture with truncated posteriors [default: search among them where that pays]
    #[arg(long, help_heading = MODEL)]
    pub exact: bool,
    /// Write the posterior probabilities of all components instead of labels
    #[arg(long, help_heading = OUTPUT)]
    pub proba: bool,
    /// Write the lines of DATA, which is text, each with its label and the posterior probability of that label
    #[arg(long, help_heading = OUTPUT, conflicts_with = "proba")]
    pub append: bool,
}

/// Options of 'reconstruct'.
#[derive(Clone, Debug, Args)]
pub struct ReconstructArgs {
    #[command(flatten)]
    pub map: MapArgs,
    /// With --missing ignore, write the expected value of all cells, not of missing cells alone
    #[arg(long, help_heading = OUTPUT)]
    pub all: bool,
}

/// Options of 'transform'.
#[derive(Clone, Debug, Args)]
pub struct TransformArgs {
    #[command(flatten)]
    pub map: MapArgs,
    /// Write K draws from the posterior of each point instead of its mean, side by side, for vae and sparse-coding
    #[arg(long, value_name = "K", help_heading = OUTPUT, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub samples: Option<u64>,
}

/// Options of both.
#[derive(Clone, Debug, Args)]
pub struct MapArgs {
    /// Model file that 'fit' saved
    pub model: PathBuf,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// File to write: .npy or .csv; - is standard output, as text
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT, value_parser = output())]
    pub output: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub struct PlotArgs {
    /// Model file that 'fit' saved
    pub model: PathBuf,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// File for the picture: .svg or .png
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub output: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub struct ScoreArgs {
    /// Model file that 'fit' saved
    pub model: PathBuf,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub weights: WeightsArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// Number of importance samples of each point, for vae and sparse-coding: scores that rise with it to the log-density
    /// [default: the lower bound]
    #[arg(long, value_name = "K", value_parser = positive)]
    pub samples: Option<u64>,
    /// Go through all components of a mixture with truncated posteriors [default: search among them where that pays]
    #[arg(long, help_heading = MODEL)]
    pub exact: bool,
    /// File for the log-density of each point: .npy or .csv
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub output: Option<PathBuf>,
    /// Print the result as a JSON object
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct SampleArgs {
    /// Model file that 'fit' saved
    pub model: PathBuf,
    /// Number of points
    #[arg(short, value_name = "N", value_parser = positive)]
    pub n: u64,
    /// File for the points: .npy or .csv; - is standard output, as text
    #[arg(short, long, value_name = "FILE", value_parser = output())]
    pub output: PathBuf,
    /// File for the component of each point: .npy or .csv
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Seed of all random choices
    #[arg(long, value_name = "S", default_value_t = Config::default().seed)]
    pub seed: u64,
    /// Type of the numbers in a .npy file; numbers in a .csv file have all their digits
    #[arg(long, value_name = "TYPE", default_value = "f64", value_parser = named(Precision::ALL, Precision::name))]
    pub dtype: Precision,
    #[command(flatten)]
    pub threads: ThreadsArgs,
}

#[derive(Clone, Debug, Args)]
pub struct InfoArgs {
    /// Model file that 'fit' saved
    pub model: PathBuf,
    /// Print all parameters as a JSON object, which 'fit --init' reads
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Name of a family or of another model, or a model file
    pub model: OsString,
    /// File of points on which to certify the gap of a model file: .npy or text
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub table: TableArgs,
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
    /// Number of random parameters to test
    #[arg(long, value_name = "N", default_value = "16", value_parser = positive)]
    pub draws: u64,
    /// Seed of the random parameters
    #[arg(long, value_name = "S", default_value_t = Config::default().seed)]
    pub seed: u64,
    #[command(flatten)]
    pub threads: ThreadsArgs,
    /// Print the result as a JSON object
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}

/// Shapes to measure: all combinations of the lists.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// Subject of the measurement
    #[arg(value_enum)]
    pub command: BenchCommand,
    /// Families, separated by commas
    #[arg(long, value_name = "NAMES", help_heading = MODEL, value_delimiter = ',', default_value = DEFAULT_MODEL, value_parser = PossibleValuesParser::new(registry::names()))]
    pub model: Vec<String>,
    /// Numbers of components
    #[arg(short = 'k', long, value_name = "K,...", help_heading = MODEL, value_delimiter = ',', default_value = "8,64", value_parser = positive)]
    pub components: Vec<u64>,
    /// Files of points, separated by commas, for 'bench real' and 'bench many'
    #[arg(long, value_name = "FILES", help_heading = DATA, value_delimiter = ',')]
    pub data: Vec<PathBuf>,
    /// Components that a point keeps, for 'bench many'
    #[arg(long, value_name = "S", help_heading = MODEL, default_value = "8", value_parser = positive)]
    pub states: u64,
    /// Neighbours that are tried for a point, for 'bench many'
    #[arg(long, value_name = "G", help_heading = MODEL, default_value = "64", value_parser = positive)]
    pub neighbours: u64,
    /// Dimensions of the points
    #[arg(long, value_name = "D,...", help_heading = DATA, value_delimiter = ',', default_value = "4,16", value_parser = positive)]
    pub dim: Vec<u64>,
    /// Numbers of points
    #[arg(long, value_name = "N,...", help_heading = DATA, value_delimiter = ',', default_value = "10000,100000", value_parser = positive)]
    pub n: Vec<u64>,
    /// Number of points of a minibatch: 'bench monitor' then compares the entropy sum of minibatch EM with a pass over all
    /// N points. If N exceeds 262144, the same points are read again
    #[arg(long, value_name = "B", help_heading = DATA, value_parser = positive)]
    pub batch_size: Option<u64>,
    /// File for the table: .csv
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub output: Option<PathBuf>,
    /// File for a plot against the size with the longest list: .svg or .png
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub plot: Option<PathBuf>,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Subject of a measurement.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum BenchCommand {
    /// Sweeps: an E-step with its sums over all points
    Sweep,
    /// Ways to monitor convergence
    Monitor,
    /// Sweeps over the points of files, in both precisions, beside drawn points of the same shape
    Real,
    /// Truncated posteriors of many components on the points of files, beside exact sweeps
    Many,
}
