//! Takes the name of a model, and knows the names that other programs use.

use super::ALL_COVARIANCES;
use crate::expert::is_product;
use crate::store::{Model, Stored};
use clap::builder::{PossibleValue, PossibleValuesParser, StyledStr, TypedValueParser};
use clap::error::{ContextKind, ContextValue};

/// Names of other programs in lower case and without hyphens, and the option that stands for them here.
const SYNONYMS: &[(&[&str], &str)] = &[
    (&["gmm", "gaussianmixture", "gaussian", "normal", "full"], "--model gaussian-full"),
    (&["tied"], "--model gaussian-tied"),
    (&["diag", "diagonal", "gaussiandiagonal"], "--model gaussian-diag"),
    (&["spherical", "isotropic"], "--model gaussian-spherical"),
    (&["kmeans", "kmeans++", "lloyd"], "--model gaussian-tied-spherical --posterior hard"),
    (&["binary", "latentclass", "lca"], "--model bernoulli"),
    (&["discrete", "multinoulli"], "--model categorical"),
    (&["counts", "count"], "--model poisson"),
    (&["negbin", "negativebinom", "nb"], "--model negative-binomial"),
    (&["vonmisesfisher", "vmf"], "--model von-mises-fisher"),
    (&["pca", "probabilisticpca"], "--model ppca"),
    (&["fa", "factoranalyzer", "factoranalyser"], "--model factor-analysis"),
    (&["mofa", "mixtureoffactoranalyzers", "mixtureoffactoranalysers"], "--model mfa"),
    (&["mixtureofppca"], "--model mppca"),
    (&["variationalautoencoder", "autoencoder"], "--model vae"),
    (&["sparsecode", "sparsecoder", "dictionarylearning"], "--model sparse-coding"),
    (&["binarysparsecode", "bsc", "ebsc"], "--model binary-sparse-coding"),
    (&["beliefnet", "beliefnetwork", "sigmoidbeliefnet"], "--model sbn"),
];

/// Takes the name of a model, or that of a product of families, of which there is no list.
#[derive(Clone, Debug)]
pub struct ModelName;

impl TypedValueParser for ModelName {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        let typed = value.to_str().unwrap_or_default();
        if is_product(typed) || typed == ALL_COVARIANCES {
            return Ok(typed.to_owned());
        }
        let names = PossibleValuesParser::new(Model::names());
        names.parse_ref(command, argument, value).map_err(|mut error| {
            if let Some(option) = synonym(typed) {
                // In place of the name that looks most alike: "gamma" for "gmm".
                error.remove(ContextKind::SuggestedValue);
                let tip = StyledStr::from(format!("for '{typed}' use '{option}'"));
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
            }
            error
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Model::names().into_iter().map(PossibleValue::new)))
    }
}

/// Returns the option that stands for a name of other programs.
fn synonym(typed: &str) -> Option<&'static str> {
    let plain = typed.to_lowercase().replace(['-', '_', ' '], "");
    SYNONYMS.iter().find(|(names, _)| names.contains(&plain.as_str())).map(|(_, option)| *option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_programs_lead_to_models() {
        for (typed, expected) in [
            ("GMM", Some("--model gaussian-full")),
            ("k-means", Some("--model gaussian-tied-spherical --posterior hard")),
            ("Factor_Analyzer", Some("--model factor-analysis")),
            ("gamma", None),
            ("", None),
        ] {
            assert_eq!(synonym(typed), expected, "{typed}");
        }
        for (names, option) in SYNONYMS {
            let model = option.split_whitespace().nth(1).unwrap();
            assert!(Model::names().contains(&model), "{model}");
            assert!(names.iter().all(|name| !Model::names().contains(name)), "{names:?}");
        }
    }
}
