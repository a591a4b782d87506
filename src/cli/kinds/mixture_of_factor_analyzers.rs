//! Mixtures of factor analysers on the command line.

use super::mixture::{
    Values, check_components, check_memory, choose_posterior, component_table, fresh_start,
    posterior, posterior_text,
};
use super::{Described, Given, Kind};
use crate::cli::args::FitArgs;
use crate::cli::run::size;
use crate::cli::source::Source;
use crate::criterion::{self, CertifiedGap, FactorModel};
use crate::data::{DataSource, Schema};
use crate::em::FactorAnalyzersSpec;
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::model::{MixtureOfFactorAnalyzers, NoiseStructure, Posterior};
use serde_json::Value;

const PARAMETER_EXPANDED: &str = "px-em";

impl Kind for MixtureOfFactorAnalyzers {
    type Spec = FactorAnalyzersSpec;

    const ARGUMENTS: &'static [&'static str] = &[
        "--components",
        "--latent",
        "--posterior",
        "--states",
        "--neighbours",
        "--random-candidates",
        "--reg-covar",
    ];

    const ALGORITHMS: &'static [&'static str] =
        &[PARAMETER_EXPANDED, "em", "stepwise", "incremental"];

    fn check(args: &FitArgs, given: Option<Given<'_, Self>>) -> Result<()> {
        if posterior(args, given.as_ref().map(|it| it.model.posterior()))? == Some(Posterior::Hard)
        {
            return Err(Error::Config(
                "factor analysers learn by labels with --posterior truncated --states 1".into(),
            ));
        }
        let found = given.as_ref().map_or(0, |given| given.model.n_components());
        check_components(args, given.as_ref(), found)?;
        match (&given, &args.latent[..]) {
            (Some(_), []) => Ok(()),
            (None, [_]) => Ok(()),
            (Some(given), [asked]) if *asked == given.model.n_latents() as u64 => Ok(()),
            (Some(given), [asked]) => {
                let found = format!("{} latent(s)", given.model.n_latents());
                given.disagrees(&format!("--latent {asked}"), &found)
            }
            _ => Err(Error::Config(
                "give the number of latents of each component, one number, with --latent".into(),
            )),
        }
    }

    fn spec(
        name: &str,
        args: &FitArgs,
        given: Option<Self>,
        dim: usize,
    ) -> Result<FactorAnalyzersSpec> {
        let mut spec = match given {
            Some(model) => FactorAnalyzersSpec::from_model(model),
            None => {
                let noise =
                    NoiseStructure::ALL.into_iter().find(|noise| noise.model_name() == name);
                let n_components = size(args.components.unwrap_or_default())?;
                let n_latents = size(args.latent.first().copied().unwrap_or_default())?;
                let noise = noise.expect("a name of this kind");
                let spec = FactorAnalyzersSpec::new(noise, n_components, n_latents);
                FactorAnalyzersSpec { init: fresh_start(&args.init), ..spec }
            }
        };
        let per_component = dim.saturating_mul(spec.n_latents.saturating_add(2));
        check_memory(name, spec.n_components, per_component, "fewer latents need less")?;
        // By minibatches too: their monitor is the bound after exact M-steps only.
        spec.parameter_expansion = args.algorithm.as_deref() != Some("em");
        spec.bad_rows = args.stream.on_bad_row.unwrap_or_default();
        Ok(match posterior(args, Some(spec.posterior))? {
            Some(posterior) => spec.with_posterior(posterior),
            None => spec,
        })
    }

    fn choose(
        spec: &mut FactorAnalyzersSpec,
        args: &FitArgs,
        source: Source<'_>,
    ) -> Option<String> {
        let n_components = spec.n_components;
        let automatic = Posterior::of_factor_analyzers(n_components, source.len());
        choose_posterior(&mut spec.posterior, args, automatic, n_components)
    }

    fn label(spec: &FactorAnalyzersSpec) -> String {
        format!(
            "{} components of {} with {} latents{}{}",
            spec.n_components,
            spec.noise.model_name(),
            spec.n_latents,
            if spec.parameter_expansion { ", expanded" } else { "" },
            match spec.posterior {
                Posterior::Exact => String::new(),
                other => format!(", {}", posterior_text(other)),
            }
        )
    }
}

impl Described for MixtureOfFactorAnalyzers {
    fn title(&self) -> String {
        let (components, latents) = (self.n_components(), self.n_latents());
        let plural = |n| if n == 1 { "" } else { "s" };
        format!(
            "{}, {components} component{} of {latents} latent{}",
            self.noise().model_name(),
            plural(components),
            plural(latents)
        )
    }

    fn details(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("entropy_contributions", self.entropy_contributions().into()),
            ("weights", self.weights().into()),
        ]
    }

    fn factors(&self) -> FactorModel {
        FactorModel::of_factor_analyzers(self)
    }

    fn table(&self, schema: Option<&Schema>) -> String {
        let means = self.parameter("means").expect("a name of this kind");
        let names = schema.map_or(&[][..], |schema| &schema.names);
        let means = Values::new("means", means, names);
        component_table(self.weights(), &self.entropy_contributions(), &[means])
    }

    fn certify(&self, points: &dyn DataSource<f64>, executor: &Executor) -> Result<CertifiedGap> {
        criterion::certify_factor_analyzers(self, points, executor)
    }
}
