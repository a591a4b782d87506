//! The language of the command line: names, types, defaults and help.
//!
//! [`data`] and [`stream`] hold options that several commands share, [`fit`] those of 'fit' and 'select', [`apply`] all other
//! commands; [`values`] and [`model_name`] read the values of options.

mod apply;
mod data;
mod fit;
mod model_name;
mod stream;
mod values;

pub use apply::{
    BenchArgs, BenchCommand, CheckArgs, InfoArgs, MapArgs, PlotArgs, PredictArgs, ReconstructArgs,
    SampleArgs, ScoreArgs, TransformArgs,
};
pub use data::{DataArgs, Missing, Precision, ThreadsArgs};
pub use fit::{FitArgs, FitCommand, Prior, SelectCommand, Start};
pub use values::Counts;

use clap::{Parser, Subcommand};

const MODEL: &str = "Model";
const STOPPING: &str = "Stopping";
const MINIBATCHES: &str = "Minibatches (stepwise and incremental EM)";
const CHECKPOINTS: &str = "Checkpoints";
const DATA: &str = "Data";
const OUTPUT: &str = "Output";
const COMPUTING: &str = "Computing";

/// The model of a fit without --model and without --init FILE.
pub const DEFAULT_MODEL: &str = "gaussian-full";

/// Stands for mixtures of Gaussians with every structure of covariances.
pub const ALL_COVARIANCES: &str = "gaussian-*";

/// Cluster points and learn latent-variable models by fast EM, monitored by entropy sums
#[derive(Debug, Parser)]
#[command(name = "entropysum", version, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "\
DATA has a row for each point: .npy, text (.csv, .tsv, ...), or numbers without a header (--dtype and --dim).
Counts may be sparse: Matrix Market (.mtx), or SciPy's CSR matrices (.npz).
All values are natural logarithms (nats) per point.

Example:
  entropysum fit points.csv -k 5 -o model.safetensors
  entropysum predict model.safetensors points.csv -o labels.csv

'entropysum COMMAND --help' lists the options of a command.")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// Commands. All allow negative numbers, so that these get a better message than "unexpected argument".
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "a process has a single value of this type")]
pub enum Command {
    /// Learn a model from points
    #[command(after_help = "\
Ctrl-C ends the fit after the current sweep and saves all outputs; a second Ctrl-C ends it at once.

Example:
  entropysum fit points.csv -k 5 --n-init 3 --seed 1 --plot history.svg -o model.safetensors")]
    #[command(allow_negative_numbers = true)]
    Fit(FitCommand),
    /// Learn models of several sizes, and keep the best by a criterion
    #[command(after_help = "\
All candidates learn from the same points. -o and --history are of the best candidate. --plot draws the criteria of all
candidates; for ppca and factor-analysis it adds the eigenvalues of the data.

Example:
  entropysum select points.csv --components 1..10 --criterion bic --n-init 3 --plot sizes.svg -o model.safetensors
  entropysum select points.csv --model ppca --latent 1..20 --criterion held-out --plot scree.svg")]
    #[command(allow_negative_numbers = true)]
    Select(SelectCommand),
    /// Write the most probable component of each point
    #[command(after_help = "\
For sigmoid belief networks the output is the most probable state of each point.

Example:
  entropysum predict model.safetensors points.npy -o labels.npy
  entropysum predict model.safetensors points.npy -o posteriors.npy --proba
  entropysum predict model.safetensors points.csv -o labelled.csv --append")]
    #[command(allow_negative_numbers = true)]
    Predict(PredictArgs),
    /// Write the posterior means of the latents of each point
    #[command(after_help = "\
Mixtures of families have no latents besides their components; 'predict --proba' gives the posteriors of these. For
mixtures of factor analysers the latents are those of the most probable component of a point.

Example:
  entropysum transform model.safetensors points.npy -o latents.npy")]
    #[command(allow_negative_numbers = true)]
    Transform(TransformArgs),
    /// Write the points that a model expects, given the latents of each point
    #[command(after_help = "\
Mixtures of families have no latents besides their components; 'predict' gives these. For mixtures of factor analysers
the output is an average over the components of a point.

Example:
  entropysum reconstruct model.safetensors points.npy -o reconstructed.npy")]
    #[command(allow_negative_numbers = true)]
    Reconstruct(ReconstructArgs),
    /// Print the log-likelihood of points and the information criteria of a model
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
    /// Draw points in the colours of their components
    #[command(after_help = "\
Each pair of up to six dimensions has a panel; points of more dimensions are projected on the two directions that separate
the components best. A single dimension has a histogram, with the densities of the components. Ellipses are of one and two
standard deviations of the points of a component. Points that are small could be of another component. At most 3000
points are drawn, evenly apart in the order of the file.

Example:
  entropysum plot model.safetensors points.csv -o clusters.svg")]
    #[command(allow_negative_numbers = true)]
    Plot(PlotArgs),
    /// Print the parameters of a model
    #[command(after_help = "\
Example:
  entropysum info model.safetensors --json > model.json
  entropysum fit points.csv --init model.json -o model.safetensors")]
    Info(InfoArgs),
    /// Test whether the bound of a model becomes an entropy sum
    #[command(after_help = "\
Tests the parameterisation criterion of the paper (Definition 1) at random parameters. The criterion asks for
coefficients alpha and beta that yield the natural parameters from their own Jacobians, and that are the same for all
latent states. If MODEL is a file, its own parameters are tested too; mixtures are an exception, since their parameters
may be at a boundary.

If MODEL is a file and points are given, both sides of 'bound - entropy sum = alpha . dF/dPsi + beta . dF/dtheta' are
evaluated on the points. On the points of the fit the gap is zero after convergence. On other points the gap is positive
if the model is too flat for them, and negative if it is too sharp.

Example:
  entropysum check gaussian-tied
  entropysum check ppca-fixed-prior --json
  entropysum check model.safetensors points.npy")]
    #[command(allow_negative_numbers = true)]
    Check(CheckArgs),
    /// Measure the cost of sweeps and of monitors on this machine
    #[command(after_help = "\
'sweep' compares sweeps with the rates of matrix products and of memory on this machine. 'monitor' compares the time of
the log-likelihood that a sweep yields, of a separate ELBO pass, and of the entropy sum.

Example:
  entropysum bench sweep --model gaussian-diag -k 64 --dim 16 --n 1000000
  entropysum bench real --data pixels.npy,letters.npy --model gaussian-full,gaussian-diag -k 16
  entropysum bench monitor -k 4,64 --dim 2,16 --n 10000,100000 -o monitor.csv --plot monitor.svg")]
    Bench(BenchArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::em::Config;
    use crate::family::registry;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
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
        assert!(matches!(args.init, Start::Auto));
        assert!(registry::names().any(|name| name == DEFAULT_MODEL));
    }

    #[test]
    fn components_have_the_names_of_other_programs() {
        for name in ["-k", "--k", "--clusters", "--n-clusters", "--n-components"] {
            let cli = Cli::try_parse_from(["entropysum", "fit", "points.npy", name, "3"]).unwrap();
            let Command::Fit(FitCommand { components, .. }) = cli.command else {
                panic!("{cli:?}")
            };
            assert_eq!(components, Some(3), "{name}");
        }
    }
}
