//! Sigmoid belief networks and binary sparse coding on the command line.

use super::{Described, Given, Kind, algorithm};
use crate::cli::args::{FitArgs, Missing};
use crate::cli::output;
use crate::cli::run::size;
use crate::criterion::{self, CertifiedGap, FactorModel};
use crate::data::{DataSource, Schema};
use crate::em::SbnSpec;
use crate::em::StreamAlgorithm;
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::expert::MAX_ENUMERATED;
use crate::model::SigmoidBeliefNet;
use crate::model::{LatentPosterior, Layer, Noise};
use crate::store::{Stored, noise_name};
use serde_json::Value;
use std::fmt::Write as _;

/// The model whose observables have Gaussian noise.
const BINARY_SPARSE_CODING: &str = "binary-sparse-coding";

/// Tells whether the model that was asked for, or given, has Gaussian noise.
fn is_code(args: &FitArgs, given: Option<&SigmoidBeliefNet>) -> bool {
    given.map_or(args.model.as_deref() == Some(BINARY_SPARSE_CODING), |it| it.noise().is_some())
}

/// The variational family that was asked for, or that of the given model.
fn posterior(args: &FitArgs, given: Option<LatentPosterior>) -> Result<LatentPosterior> {
    let states = args.states.map(size).transpose()?;
    let truncated = |before: usize| LatentPosterior::Truncated { states: states.unwrap_or(before) };
    let chosen = match (args.posterior.as_deref(), given) {
        (Some("exact"), _) => LatentPosterior::Exact,
        (Some("truncated") | None, Some(LatentPosterior::Truncated { states })) => {
            truncated(states)
        }
        (Some("truncated"), _) => truncated(LatentPosterior::DEFAULT_STATES),
        (Some(other), _) => {
            return Err(Error::Config(format!(
                "--posterior {other} is for mixtures, expected exact or truncated"
            )));
        }
        (None, Some(given)) => given,
        (None, None) if is_code(args, None) => truncated(LatentPosterior::DEFAULT_STATES),
        (None, None) => LatentPosterior::Exact,
    };
    match chosen {
        LatentPosterior::Exact if states.is_some() => {
            let message = "--states is for truncated posteriors (--posterior truncated)";
            Err(Error::Config(message.to_owned()))
        }
        chosen => Ok(chosen),
    }
}

impl Kind for SigmoidBeliefNet {
    type Spec = SbnSpec;

    const ARGUMENTS: &'static [&'static str] = &[
        "--latent",
        "--hidden",
        "--activation",
        "--posterior",
        "--states",
        "--ridge",
        "--noise",
        "--plot-features",
        "--missing ignore",
    ];

    const ALGORITHMS: &'static [&'static str] = &["em", "stepwise", "incremental"];

    fn check(args: &FitArgs, given: Option<Given<'_, Self>>) -> Result<()> {
        let chosen = posterior(args, given.as_ref().map(|given| given.model.posterior()))?;
        let is_code = is_code(args, given.as_ref().map(|given| given.model));
        let name = if is_code { BINARY_SPARSE_CODING } else { "sbn" };
        let three = given
            .as_ref()
            .map_or(args.model.as_deref() == Some("sbn3"), |given| given.model.hidden().is_some());
        let refuse = |message: String| Err(Error::Config(message));
        let latents = match &given {
            Some(given) => {
                let hidden = given.model.hidden().map(Layer::outputs);
                let found: Vec<u64> = [given.model.prior().len()]
                    .into_iter()
                    .chain(hidden)
                    .map(|n| n as u64)
                    .collect();
                if !args.latent.is_empty() && args.latent != found {
                    let list = |sizes: &[u64]| {
                        sizes.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
                    };
                    let asked = format!("--latent {}", list(&args.latent));
                    return given.disagrees(&asked, &format!("{} latents", list(&found)));
                }
                found
            }
            None => args.latent.clone(),
        };
        match (latents.len(), three) {
            (1, false) | (2, true) => {}
            (_, false) => {
                return refuse(format!("{name}: give the number of latents with --latent H"));
            }
            (_, true) => {
                return refuse(
                    "sbn3: give the numbers of latents with --latent H,I, the top layer first"
                        .into(),
                );
            }
        }
        let total: u64 = latents.iter().sum();
        match &given {
            Some(given)
                if args.network.noise.is_some_and(|asked| Some(asked) != given.model.noise()) =>
            {
                return given.disagrees("--noise", "noise of its own");
            }
            _ if args.network.noise.is_some() && !is_code => {
                return refuse(
                    "--noise is for numbers; zeros and ones have none. Use binary-sparse-coding"
                        .into(),
                );
            }
            Some(given) if args.network.hidden.is_some() || args.network.activation.is_some() => {
                return given.disagrees("--hidden", "a decoder of its own");
            }
            _ if !is_code
                && (args.network.hidden.is_some() || args.network.activation.is_some()) =>
            {
                return refuse(format!(
                    "--hidden and --activation are for networks of units; {name} has layers of latents: --latent H,I"
                ));
            }
            _ if !is_code && args.data.missing == Missing::Ignore => {
                return refuse(format!(
                    "--missing ignore: zeros and ones of {name} may not be missing"
                ));
            }
            _ if args.ridge.is_some() && is_code => {
                return refuse("--ridge is for weights of logits; binary-sparse-coding has an exact M-step without".into());
            }
            _ => {}
        }
        match chosen {
            LatentPosterior::Exact if is_code => refuse(format!(
                "--posterior exact: posteriors of {name} are truncated; with --states of all 2^H states they are exact"
            )),
            LatentPosterior::Truncated { .. }
                if algorithm(args) == Some(StreamAlgorithm::Incremental) =>
            {
                refuse(format!(
                    "incremental EM with truncated posteriors would go through the states of all points after each chunk: use \
                     --algorithm stepwise, or --posterior exact (up to {MAX_ENUMERATED} latents)"
                ))
            }
            LatentPosterior::Truncated { .. } if args.stream.polish.is_some_and(|n| n > 0) => refuse(
                "--polish needs the states of all points at once: leave it out, and go on from the file with fit --init FILE".into(),
            ),
            LatentPosterior::Exact if total > MAX_ENUMERATED as u64 => refuse(format!(
                "--posterior exact goes through all states of {total} latents, and can for up to {MAX_ENUMERATED}; use --posterior truncated"
            )),
            _ => Ok(()),
        }
    }

    fn spec(name: &str, args: &FitArgs, given: Option<Self>, _: usize) -> Result<SbnSpec> {
        let posterior = posterior(args, given.as_ref().map(Self::posterior))?;
        let spec = match given {
            Some(model) => SbnSpec::from_model(model),
            None => {
                let sizes = args.latent.iter().map(|&n| size(n)).collect::<Result<Vec<_>>>()?;
                let spec = match name == BINARY_SPARSE_CODING {
                    true => {
                        let hidden = args.network.hidden.iter().flatten().filter(|&&n| n > 0);
                        let hidden = hidden.map(|&n| size(n)).collect::<Result<_>>()?;
                        let spec = SbnSpec::binary_sparse_coding(sizes[0]);
                        let activation = args.network.activation.unwrap_or(spec.activation);
                        spec.with_noise(args.network.noise.unwrap_or(Noise::Isotropic))
                            .with_hidden_units(hidden, activation)
                    }
                    false => SbnSpec::new(sizes[0]),
                };
                if let [_, hidden] = sizes[..] { spec.with_hidden(hidden) } else { spec }
            }
        };
        let ridge = args.ridge.unwrap_or(spec.ridge);
        let ignores_missing = args.data.missing == Missing::Ignore;
        Ok(SbnSpec { ridge, ignores_missing, ..spec.with_posterior(posterior) })
    }

    fn label(spec: &SbnSpec) -> String {
        let hidden = spec.hidden.map_or(String::new(), |n| format!(" + {n}"));
        let (latents, posterior) = (spec.latents, spec.posterior.name());
        let states = match spec.posterior {
            LatentPosterior::Truncated { states } => format!(" of {states} states"),
            _ => String::new(),
        };
        let last = match spec.noise {
            Some(noise) => format!("{} noise", noise_name(noise)),
            None => format!("ridge {}", spec.ridge),
        };
        let decoder = match &spec.hidden_units[..] {
            [] => String::new(),
            units => format!(", hidden {units:?}, {}", spec.activation.name()),
        };
        format!("{latents}{hidden} latents{decoder}, {posterior} posteriors{states}, {last}")
    }
}

impl Described for SigmoidBeliefNet {
    fn title(&self) -> String {
        match self.hidden() {
            None => format!("{}, {} latents", Stored::name(self), self.prior().len()),
            Some(hidden) => format!("sbn3, {} + {} latents", self.prior().len(), hidden.outputs()),
        }
    }

    fn details(&self) -> Vec<(&'static str, Value)> {
        let mut details = vec![("prior", self.prior().into())];
        match (self.noise(), self.noise_variances()) {
            (Some(Noise::Isotropic), Some(all)) => details.push(("noise_variance", all[0].into())),
            (_, Some(all)) => details.push(("noise_variance", all.into())),
            _ => {}
        }
        if !self.hidden_units().is_empty() {
            details.push(("hidden_of_decoder", self.hidden_units().into()));
        }
        details
    }

    /// The top latents that are on most often first, each with the size of its weights and the first of them.
    fn table(&self, _: Option<&Schema>) -> String {
        const ROWS: usize = 50;
        const VALUES: usize = 6;
        let columns: Vec<Vec<f64>> = match self.hidden() {
            None => self.effects(),
            Some(hidden) => {
                let weights = hidden.weights();
                let column = |h: usize| weights.iter().skip(h).step_by(hidden.inputs()).copied();
                (0..hidden.inputs()).map(|h| column(h).collect()).collect()
            }
        };
        let mut order: Vec<usize> = (0..self.prior().len()).collect();
        order.sort_by(|&a, &b| self.prior()[b].total_cmp(&self.prior()[a]));
        let mut text = String::new();
        if let Some(variances) = self.parameter("noise_variance") {
            let shown = variances.iter().take(VALUES).map(|it| output::significant(*it, 6));
            let more = if variances.len() > VALUES { " ..." } else { "" };
            let _ = writeln!(text, "noise variance: {}{more}", shown.collect::<Vec<_>>().join(" "));
        }
        let units = self.hidden_units();
        let what = if units.is_empty() { "weights" } else { "effects" };
        if !units.is_empty() {
            let units: Vec<String> = units.iter().map(usize::to_string).collect();
            let (from, to) = (self.prior().len(), columns[0].len());
            let _ = writeln!(text, "decoder: {from} - {} - {to}", units.join(" - "));
        }
        let _ = writeln!(text, "   latent     prior  size of {what}  {what}");
        for &h in order.iter().take(ROWS) {
            let norm = columns[h].iter().map(|w| w * w).sum::<f64>().sqrt();
            let _ = write!(text, "{h:>9}  {:>8.6}  {norm:>15.6} ", self.prior()[h]);
            for value in columns[h].iter().take(VALUES) {
                let _ = write!(text, " {:>11}", output::significant(*value, 6));
            }
            text += if columns[h].len() > VALUES { " ...\n" } else { "\n" };
        }
        if order.len() > ROWS {
            let _ = writeln!(text, "          and {} that are on less often", order.len() - ROWS);
        }
        text
    }

    fn factors(&self) -> FactorModel {
        FactorModel::of_sigmoid_belief_net(self)
    }

    fn scores_are_bounds(&self) -> bool {
        self.scores_are_bounds()
    }

    /// Weights of each latent that the observables see; with hidden layers, what it adds where it alone is on.
    fn features(&self) -> Option<(Vec<Vec<f64>>, Option<usize>)> {
        Some((self.effects(), None))
    }

    fn certify(&self, points: &dyn DataSource<f64>, executor: &Executor) -> Result<CertifiedGap> {
        criterion::certify_sigmoid_belief_net(self, points, executor)
    }
}
