//! Variational autoencoders and sparse coding on the command line.

use super::{Described, Given, Kind};
use crate::cli::args::{FitArgs, Missing, Prior};
use crate::cli::output;
use crate::cli::run::size;
use crate::cli::source::Source;
use crate::criterion::{self, CertifiedGap, FactorModel};
use crate::data::{DataSource, Schema};
use crate::em::AutoencoderSpec;
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::model::{LatentPrior, Noise, VariationalAutoencoder};
use crate::store::{Stored, noise_name};
use serde_json::Value;
use std::fmt::Write as _;

/// The model that is called differently if its decoder is linear and its prior sparse.
const SPARSE_CODING: &str = "sparse-coding";

/// Values of a latent in pictures of decoders, in units of the scale of its prior.
const STEPS_OF_TRAVERSALS: [f64; 7] = [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0];

/// Returns the prior of the latents that was typed.
fn latent_prior(args: &FitArgs) -> Result<Option<LatentPrior>> {
    match args.network.prior {
        None => Ok(None),
        Some(Prior::Latents(prior)) => Ok(Some(prior)),
        Some(other) => Err(Error::Config(format!(
            "--prior {} is for covariances of mixtures; latents have standard, learned or laplace",
            other.name()
        ))),
    }
}

impl Kind for VariationalAutoencoder {
    type Spec = AutoencoderSpec;

    const ARGUMENTS: &'static [&'static str] = &[
        "--latent",
        "--hidden",
        "--activation",
        "--decoder",
        "--prior",
        "--noise",
        "--learning-rate",
        "--learning-rate-schedule",
        "--prior-weight",
        "--plot-features",
        "--missing ignore",
    ];

    const ALGORITHMS: &'static [&'static str] = &["stepwise", "batch"];

    /// The sizes of scikit-learn's networks.
    const MINIBATCHES: Option<(u64, u64)> = Some((200, 200));

    fn check(args: &FitArgs, given: Option<Given<'_, Self>>) -> Result<()> {
        let refuse = |message: String| Err(Error::Config(message));
        let name =
            given.as_ref().map(|given| Stored::name(given.model)).or_else(|| args.model.clone());
        let name = name.unwrap_or_default();
        match (&args.latent[..], &given) {
            ([], None) => {
                return refuse(format!("{name}: give the number of latents with --latent H"));
            }
            ([_, _, ..], _) => return refuse("--latent: expected one number".to_owned()),
            (&[asked], Some(given)) if asked != given.model.n_latents() as u64 => {
                let found = format!("{} latents", given.model.n_latents());
                return given.disagrees(&format!("--latent {asked}"), &found);
            }
            _ => {}
        }
        match &given {
            Some(given) => {
                let typed = args.network.structure().into_iter().find(|(_, typed)| *typed);
                if let Some((option, _)) = typed {
                    return given.disagrees(option, "networks of its own");
                }
            }
            None => {
                let prior = latent_prior(args)?;
                let decoder = args.network.decoder.as_deref();
                let is_sparse = prior == Some(LatentPrior::Laplace);
                let none_hidden =
                    args.network.hidden.as_ref().is_some_and(|units| units.iter().all(|&n| n == 0));
                let is_linear = decoder == Some("linear") || none_hidden;
                match (name == SPARSE_CODING, decoder, prior) {
                    (true, Some("mlp"), _) => {
                        return refuse(
                            "--decoder mlp: a sparse code is linear; use --model vae --prior laplace"
                                .to_owned(),
                        );
                    }
                    (true, _, Some(prior)) if !is_sparse => {
                        let prior = prior.name();
                        return refuse(format!(
                            "--prior {prior}: a sparse code has a Laplace prior; use --model vae"
                        ));
                    }
                    (false, ..) if is_sparse && is_linear => {
                        return refuse(format!(
                            "--prior laplace with a linear decoder: use --model {SPARSE_CODING}"
                        ));
                    }
                    _ => {}
                }
            }
        }
        let of_em = ["--step-exponent", "--step-offset", "--step-least", "--average", "--polish"];
        let typed = args.stream.given().into_iter().filter(|(_, typed)| *typed);
        if let Some((option, _)) = typed.into_iter().find(|(option, _)| of_em.contains(option)) {
            return refuse(format!(
                "{option} is for EM by minibatches; {name} learns by gradients: use --learning-rate"
            ));
        }
        Ok(())
    }

    fn spec(name: &str, args: &FitArgs, given: Option<Self>, _: usize) -> Result<AutoencoderSpec> {
        let mut spec = match given {
            Some(model) => AutoencoderSpec::from_model(model),
            None => {
                let latents = size(args.latent.first().copied().unwrap_or_default())?;
                match name == SPARSE_CODING {
                    true => AutoencoderSpec::sparse_coding(latents),
                    false => AutoencoderSpec::new(latents),
                }
            }
        };
        let typed = &args.network;
        if let Some(hidden) = &typed.hidden {
            let units = hidden.iter().filter(|&&units| units > 0);
            spec.hidden = units.map(|&units| size(units)).collect::<Result<_>>()?;
        }
        if let Some(decoder) = &typed.decoder {
            spec.decoder_is_linear = decoder == "linear";
        }
        spec.activation = typed.activation.unwrap_or(spec.activation);
        spec.prior = latent_prior(args)?.unwrap_or(spec.prior);
        spec.noise = typed.noise.unwrap_or(spec.noise);
        spec.learning_rate = typed.learning_rate.unwrap_or(spec.learning_rate);
        spec.prior_weight = typed.prior_weight.unwrap_or(spec.prior_weight);
        spec.ignores_missing = args.data.missing == Missing::Ignore;
        spec.schedule = typed.learning_rate_schedule.unwrap_or(spec.schedule);
        Ok(spec)
    }

    fn label(spec: &AutoencoderSpec) -> String {
        let decoder = if spec.is_linear() { "linear" } else { "mlp" };
        format!(
            "{} latents, hidden {:?}, {}, {decoder} decoder, {} prior, {} noise",
            spec.latents,
            spec.hidden,
            spec.activation.name(),
            spec.prior.name(),
            noise_name(spec.noise)
        )
    }

    fn choose(spec: &mut AutoencoderSpec, _: &FitArgs, _: Source<'_>) -> Option<String> {
        let samples = match spec.is_linear() {
            true => "nothing is sampled",
            false => "one sample a point and step",
        };
        Some(format!("Adam, and closed forms of prior and noise; {samples}"))
    }
}

impl Described for VariationalAutoencoder {
    fn title(&self) -> String {
        let plural = if self.n_latents() == 1 { "" } else { "s" };
        format!("{}, {} latent{plural}", Stored::name(self), self.n_latents())
    }

    fn details(&self) -> Vec<(&'static str, Value)> {
        let [encoder, decoder] = self.hidden();
        let noise = match self.noise() {
            Noise::Isotropic => self.noise_variances()[0].into(),
            Noise::Diagonal => self.noise_variances().into(),
        };
        vec![
            ("hidden_of_encoder", encoder.into()),
            ("hidden_of_decoder", decoder.into()),
            ("noise_variance", noise),
        ]
    }

    /// Sizes of the networks, noise, and the latents of a linear decoder, the longest first.
    fn table(&self, schema: Option<&Schema>) -> String {
        const ROWS: usize = 50;
        const VALUES: usize = 6;
        let (dim, latents) = (self.dim(), self.n_latents());
        let [encoder, decoder] = self.hidden();
        let chain = |first: usize, hidden: &[usize], last: usize| {
            let sizes = [&[first], hidden, &[last]].concat();
            sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(" - ")
        };
        let mut text = format!(
            "encoder: {}\ndecoder: {}\n",
            chain(dim, &encoder, 2 * latents),
            chain(latents, &decoder, dim)
        );
        let more = |n: usize, most: usize| if n > most { " ..." } else { "" };
        let n_variances = if self.noise() == Noise::Isotropic { 1 } else { dim };
        let variances = self.noise_variances().iter().take(n_variances.min(VALUES));
        let variances: Vec<String> = variances.map(|v| output::significant(*v, 6)).collect();
        let _ =
            writeln!(text, "noise variance: {}{}", variances.join(" "), more(n_variances, VALUES));
        let Some(dictionary) = self.dictionary() else { return text };
        let length = |column: &[f64]| column.iter().map(|w| w * w).sum::<f64>().sqrt();
        let mut order: Vec<usize> = (0..latents).collect();
        order.sort_by(|&a, &b| length(&dictionary[b]).total_cmp(&length(&dictionary[a])));
        let names: Vec<String> = match schema {
            None => Vec::new(),
            Some(schema) => schema.names.iter().map(|name| output::shortened(name)).collect(),
        };
        let header: Vec<String> =
            names.iter().take(VALUES).map(|it| format!(" {it:>11}")).collect();
        let _ = writeln!(text, "   latent       length  adds {}", header.concat());
        for &h in order.iter().take(ROWS) {
            let column = &dictionary[h];
            let _ = write!(text, "{h:>9}  {:>11}      ", output::significant(length(column), 6));
            for value in column.iter().take(VALUES) {
                let _ = write!(text, " {:>11}", output::significant(*value, 6));
            }
            let _ = writeln!(text, "{}", more(dim, VALUES));
        }
        if latents > ROWS {
            let _ = writeln!(text, "          and {} shorter ones", latents - ROWS);
        }
        text
    }

    fn factors(&self) -> FactorModel {
        FactorModel::of_autoencoder(self)
    }

    fn certify(&self, points: &dyn DataSource<f64>, executor: &Executor) -> Result<CertifiedGap> {
        criterion::certify_autoencoder(self, points, executor)
    }

    fn scores_are_bounds(&self) -> bool {
        true
    }

    fn importance_samples(&self) -> usize {
        self.importance_samples()
    }

    /// The dictionary of a linear decoder; of another, a row for each latent, in which that latent goes up and the others are 0.
    fn features(&self) -> Option<(Vec<Vec<f64>>, Option<usize>)> {
        Some(match self.dictionary() {
            Some(dictionary) => (dictionary, None),
            None => (self.traversals(&STEPS_OF_TRAVERSALS), Some(STEPS_OF_TRAVERSALS.len())),
        })
    }
}
