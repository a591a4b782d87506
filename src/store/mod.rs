//! Model files: safetensors, or JSON to read and edit.
//!
//! [`save`] writes JSON if the name ends in `.json`, else safetensors. [`load`] looks at the content, not at the name.
//! [`to_bytes`] and [`from_bytes`] do the same without a file.
//! Either way numbers come back as the same bits. Files hold what a model is, not how it was learned: frozen
//! components and fixed weights of a mixture are settings of a fit, and are not saved.
//!
//! [`Model`] lists the kinds of model there are; each says in a file of its own, by [`Stored`], what a file holds of it.
//!
//! Without the feature `files` there are [`to_json`] and [`from_json`] alone.
//!
//! # JSON
//!
//! ```json
//! {
//!   "format": "entropysum",
//!   "version": 1,
//!   "model": "gaussian-diag",
//!   "posterior": "exact",
//!   "n_components": 2,
//!   "dim": 3,
//!   "weights": [0.25, 0.75],
//!   "means": [
//!     [0.0, 1.0, 2.0],
//!     [5.0, 5.0, 5.0]
//!   ],
//!   "covariances": [
//!     [1.0, 1.0, 0.5],
//!     [0.1, 0.2, 0.1]
//!   ]
//! }
//! ```
//!
//! Arrays are nested, the component first; arrays that all components share lack that axis. For Gaussians these are
//! `means` (C × D) and `covariances`:
//!
//! | model | `covariances` |
//! |---|---|
//! | `gaussian-full` | C × D × D |
//! | `gaussian-tied` | D × D |
//! | `gaussian-diag` | C × D |
//! | `gaussian-spherical` | C |
//! | `gaussian-tied-diag` | D |
//! | `gaussian-tied-spherical` | one number |
//!
//! Sigmoid belief networks (`sbn`, `sbn3`) have `prior` (H), `weights` D × H and `biases` (D); with three layers `weights` D × I,
//! `hidden_weights` I × H and `hidden_biases` (I). Truncated posteriors have their `n_states`.
//! Binary sparse codes (`binary-sparse-coding`) also have `noise_variance`, one number or D, and `centre` (D), which is added to the
//! observables.
//!
//! Names of dimensions are `column_names` (D), `level_names`, an object with the texts that the values 0, 1, ... of a column stand for, and
//! `weights_column`; [`WithSchema`] reads them, and all may be left out.
//!
//! Other families keep their arrays under a key `parameters`, C × D each, with what is known of each column (trials, shape,
//! location) as D numbers beside them; a single number for all columns is read too. Both places are read. Levels of a
//! categorical and the total of a multinomial may be left out. A product has `blocks` instead, each with its `family`,
//! its `columns`, counted from 0, and its `parameters`. Only `model`, `weights` and the arrays of the family are
//! required. Unknown keys are ignored.
//!
//! Probabilistic PCA and factor analysis have `mean` (D), `loadings` (D × H) and `noise_variance`, one number for `ppca`
//! and D for `factor-analysis`.
//!
//! Autoencoders (`vae`, `sparse-coding`) have for each layer `encoder.0.weight` (outputs × inputs) and `encoder.0.bias`, counted from 0, as
//! PyTorch names the parts of a sequence of layers; the decoder likewise. The last layer of the encoder gives means, then logarithms of
//! variances. Networks see `(x - centre) / scale`, with D numbers each. `prior_scale` (H) and `noise_variance` (a single number or D) are
//! variances, or scales of a Laplace prior. `prior` (`standard`, `learned`, `laplace`), `noise` (`scalar`, `diagonal`) and `activation` are
//! texts.
//!
//! # safetensors
//!
//! Tensors of the same names and shapes (`[]` for one number), all `F64`, and as metadata `format`, `version`, `model`,
//! `posterior`, `created_by` and `checksum`. Tensors of `F32` are read too. The same model always makes the same bytes.
//!
//! The checksum is the CRC-32 of all other metadata (key, 0, value, 0) and of all tensors (name, sizes in 64 bits, values), each sorted by
//! name. Files without a checksum are read. JSON has no checksum, since people edit it.
//!
//! ```python
//! from safetensors import safe_open
//! from safetensors.numpy import load_file
//!
//! arrays = load_file("model.safetensors")
//! print(arrays["weights"].shape, arrays["means"].shape)
//! with safe_open("model.safetensors", framework="numpy") as file:
//!     print(file.metadata()["model"])
//! ```

mod autoencoder;
mod json;
mod linear_gaussian;
mod mixture;
mod mixture_of_factor_analyzers;
mod sbn;
mod schema;
mod stored;

#[cfg(feature = "files")]
mod checkpoint;
#[cfg(feature = "files")]
mod files;
#[cfg(feature = "files")]
mod learner;
#[cfg(feature = "files")]
mod safetensors;

pub use json::{from_json, to_json};
pub use schema::WithSchema;
pub use stored::Model;

#[cfg(feature = "cli")]
pub(crate) use autoencoder::{NOISES, noise_name};

/// What [`crate::expert`] names.
pub(crate) mod expert {
    pub use super::stored::{Array, File, NamedArray, Stored};
}
#[cfg(feature = "files")]
pub(crate) use expert::*;

#[cfg(feature = "files")]
pub use {
    checkpoint::{load_checkpoint, save_checkpoint},
    files::{from_bytes, load, save, to_bytes},
    learner::{learner_from_bytes, learner_to_bytes},
};

use crate::error::{Error, Result};
#[cfg(feature = "cli")]
pub(crate) use checkpoint::may_be_checkpoint;
#[cfg(feature = "files")]
use files::named;

/// Name of the format, in every file.
const FORMAT: &str = "entropysum";

/// Version of the format that is written, and the newest that is read.
const VERSION: u64 = 1;

fn invalid<V>(message: impl Into<String>) -> Result<V> {
    Err(Error::Model(message.into()))
}

fn check_format(format: &str) -> Result<()> {
    if format == FORMAT {
        return Ok(());
    }
    invalid(format!("the format is {format:?}, expected {FORMAT:?}"))
}

fn check_version(version: u64) -> Result<()> {
    match version {
        VERSION => Ok(()),
        newer if newer > VERSION => invalid(format!(
            "written by a newer entropysum: format {newer}, this one reads {VERSION}"
        )),
        unknown => invalid(format!("the version is {unknown}, expected {VERSION}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{
        ExponentialFamily, Outcome, Packing, ParameterSpec, Parameters, Regularization, Sampler,
        Statistic, Theta,
    };
    use crate::model::Mixture;
    use crate::stats::SuffStats;
    use std::sync::Arc;

    /// A family of another name that takes any parameters, NaN as well.
    #[derive(Debug)]
    struct Lenient;

    impl ExponentialFamily for Lenient {
        fn name(&self) -> String {
            "lenient".into()
        }
        fn dim(&self) -> usize {
            2
        }
        fn parameters(&self) -> Vec<ParameterSpec> {
            vec![ParameterSpec { name: "rates".into(), shape: vec![2], shared: false }]
        }
        fn check(&self, _: Theta<'_>) -> Result<(), String> {
            Ok(())
        }
        fn statistics(&self) -> Vec<Statistic> {
            panic!("not needed to store a model")
        }
        fn n_free_parameters(&self, _: usize) -> usize {
            panic!("not needed to store a model")
        }
        fn natural(&self, _: &Parameters, _: &[f64], _: &mut [f64]) -> Vec<Packing> {
            panic!("not needed to store a model")
        }
        fn pseudo_entropies(&self, _: &Parameters) -> Vec<f64> {
            panic!("not needed to store a model")
        }
        fn mean(&self, _: Theta<'_>, _: &[f64], _: &mut [f64]) {
            panic!("not needed to store a model")
        }
        fn log_likelihood(&self, _: &Parameters, _: &SuffStats) -> f64 {
            panic!("not needed to store a model")
        }
        fn maximize(
            &self,
            _: &SuffStats,
            _: &[bool],
            _: &Regularization,
            _: &mut Parameters,
        ) -> Vec<Outcome> {
            panic!("not needed to store a model")
        }
        fn sampler<'a>(&'a self, _: Theta<'a>) -> Sampler<'a> {
            panic!("not needed to store a model")
        }
    }

    fn lenient(rate: f64) -> Mixture {
        let components = vec![vec![1.0, 2.0], vec![3.0, rate]];
        let parameters = Parameters { components, shared: vec![] };
        Mixture::new(Arc::new(Lenient), vec![0.5, 0.5], parameters).unwrap()
    }

    #[test]
    fn parameters_of_other_families_are_nested() {
        let value = to_json(&lenient(4.0));
        assert_eq!(value["parameters"]["rates"], serde_json::json!([[1.0, 2.0], [3.0, 4.0]]));
        assert!(value.get("rates").is_none());
        let text = json::pretty(&value);
        assert!(
            text.ends_with(
                "  \"weights\": [0.5, 0.5],\n  \"parameters\": {\n    \"rates\": [\n      [1.0, 2.0],\n      \
                 [3.0, 4.0]\n    ]\n  }\n}\n"
            ),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn a_model_with_nan_is_not_saved_and_the_old_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["model.json", "model.safetensors"] {
            let path = folder.path().join(name);
            save(&path, &lenient(4.0)).unwrap();
            let before = std::fs::read(&path).unwrap();
            let fault = save(&path, &lenient(f64::NAN)).unwrap_err().to_string();
            assert!(fault.ends_with("\"rates\"[1][1] is NaN, expected a finite number"), "{fault}");
            assert!(fault.contains(name), "{fault}");
            assert_eq!(std::fs::read(&path).unwrap(), before);
        }
    }
}
