//! Sigmoid belief networks on the command line.

use super::{Described, Given, Kind, Latents, algorithm};
use crate::cli::args::FitArgs;
use crate::cli::output;
use crate::cli::run::size;
use crate::criterion::{CertifiedGap, FactorModel};
use crate::data::{DataSource, Schema};
use crate::em::SbnSpec;
use crate::em::StreamAlgorithm;
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::expert::Sweeper;
use crate::expert::{MAX_ENUMERATED, search_states};
use crate::model::SigmoidBeliefNet;
use crate::model::{LatentPosterior, Layer};
use serde_json::Value;
use std::fmt::Write as _;

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
        (None, given) => given.unwrap_or(LatentPosterior::Exact),
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

    const ARGUMENTS: &'static [&'static str] =
        &["--latent", "--posterior", "--states", "--ridge", "--plot-features"];

    const ALGORITHMS: &'static [&'static str] = &["em", "stepwise", "incremental"];

    fn check(args: &FitArgs, given: Option<Given<'_, Self>>) -> Result<()> {
        let chosen = posterior(args, given.as_ref().map(|given| given.model.posterior()))?;
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
            (_, false) => return refuse("sbn: give the number of latents with --latent H".into()),
            (_, true) => {
                return refuse(
                    "sbn3: give the numbers of latents with --latent H,I, the top layer first"
                        .into(),
                );
            }
        }
        let total: u64 = latents.iter().sum();
        match chosen {
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

    fn spec(_: &str, args: &FitArgs, given: Option<Self>, _: usize) -> Result<SbnSpec> {
        let posterior = posterior(args, given.as_ref().map(Self::posterior))?;
        let spec = match given {
            Some(model) => SbnSpec::from_model(model),
            None => {
                let sizes = args.latent.iter().map(|&n| size(n)).collect::<Result<Vec<_>>>()?;
                let spec = SbnSpec::new(sizes[0]);
                if let [_, hidden] = sizes[..] { spec.with_hidden(hidden) } else { spec }
            }
        };
        let ridge = args.ridge.unwrap_or(spec.ridge);
        Ok(SbnSpec { ridge, ..spec.with_posterior(posterior) })
    }

    fn label(spec: &SbnSpec) -> String {
        let hidden = spec.hidden.map_or(String::new(), |n| format!(" + {n}"));
        let (latents, posterior) = (spec.latents, spec.posterior.name());
        let states = match spec.posterior {
            LatentPosterior::Truncated { states } => format!(" of {states} states"),
            _ => String::new(),
        };
        format!("{latents}{hidden} latents, {posterior} posteriors{states}, ridge {}", spec.ridge)
    }
}

impl Described for SigmoidBeliefNet {
    fn title(&self) -> String {
        match self.hidden() {
            None => format!("sbn, {} latents", self.prior().len()),
            Some(hidden) => format!("sbn3, {} + {} latents", self.prior().len(), hidden.outputs()),
        }
    }

    fn details(&self) -> Vec<(&'static str, Value)> {
        vec![("prior", self.prior().into())]
    }

    /// The top latents that are on most often first, each with the size of its weights and the first of them.
    fn table(&self, _: Option<&Schema>) -> String {
        const ROWS: usize = 50;
        const VALUES: usize = 6;
        let layer = self.hidden().unwrap_or(self.observables());
        let weights = layer.weights();
        let column = |h: usize| weights.iter().skip(h).step_by(layer.inputs());
        let mut order: Vec<usize> = (0..self.prior().len()).collect();
        order.sort_by(|&a, &b| self.prior()[b].total_cmp(&self.prior()[a]));
        let mut text = "   latent     prior  size of weights  weights\n".to_owned();
        for &h in order.iter().take(ROWS) {
            let norm = column(h).map(|w| w * w).sum::<f64>().sqrt();
            let _ = write!(text, "{h:>9}  {:>8.6}  {norm:>15.6} ", self.prior()[h]);
            for value in column(h).take(VALUES) {
                let _ = write!(text, " {:>11}", output::significant(*value, 6));
            }
            text += if layer.outputs() > VALUES { " ...\n" } else { "\n" };
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

    /// Weights of each latent that the observables see.
    fn features(&self) -> Option<Vec<Vec<f64>>> {
        let layer = self.observables();
        let weights = layer.weights();
        let column =
            |h: usize| weights.iter().skip(h).step_by(layer.inputs()).copied().collect::<Vec<_>>();
        Some((0..layer.inputs()).map(column).collect())
    }

    fn certify(&self, points: &dyn DataSource<f64>, executor: &Executor) -> Result<CertifiedGap> {
        let stats = match self.posterior() {
            LatentPosterior::Truncated { .. } => {
                search_states(self, points, executor, 0)?.moments(self).clone()
            }
            _ => self.latent_stats(&Sweeper::new(points, executor).sweep(self)?),
        };
        let (prior, layers) = self.certified_gap(&self.gradient_of(&stats));
        Ok(CertifiedGap {
            lower_bound: self.bound_of(&stats),
            entropy_sum: self.entropies_of(&stats).total(),
            prior,
            observable: layers.iter().sum(),
        })
    }

    fn latents(&self) -> Option<&dyn Latents> {
        Some(self)
    }

    fn network(&self) -> Option<&SigmoidBeliefNet> {
        Some(self)
    }
}
