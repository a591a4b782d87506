//! Model files: a mixture on disk, as JSON to read and edit, or as safetensors for everything else.
//!
//! [`save`] writes JSON if the name ends in `.json`, else safetensors. [`load`] looks at the content, not at the name.
//! Either way numbers come back as the same bits. Files hold what a mixture is, not how it was learned: frozen
//! components and fixed weights are settings of a fit and are not saved.
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
//! Other families keep their arrays under a key `parameters`, C × D each, with what is known of each column (trials, shape,
//! location) as D numbers beside them; a single number for all columns is read too. Both places are read. Only `model`, `weights` and the
//! arrays of the family are required. Unknown keys are ignored.
//!
//! # safetensors
//!
//! Tensors of the same names and shapes (`[]` for one number), all `F64`, and as metadata `format`, `version`, `model`,
//! `posterior` and `created_by`. Tensors of `F32` are read too. The same mixture always makes the same bytes.
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

mod json;
mod safetensors;

pub use json::{from_json, to_json};

use crate::atomic::write_atomically;
use crate::error::{Error, Result};
use crate::family::{Known, ParameterSpec, registry};
use crate::model::{Mixture, Posterior};
use std::io::Write;
use std::path::Path;

/// Name of the format, in every file.
const FORMAT: &str = "entropysum";

/// Version of the format that is written, and the newest that is read.
const VERSION: u64 = 1;

/// Saves a mixture: as JSON where the name ends in `.json`, else as safetensors.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written; whatever was there before is then untouched. [`Error::Model`] if a
/// parameter is no finite number.
///
/// ```
/// use entropysum::{family::{registry, Parameters}, model::Mixture, store};
///
/// let family = registry::build("gaussian-spherical", 1)?;
/// let components = vec![vec![0.0, 1.0], vec![0.1, 0.2]];
/// let mixture = Mixture::new(family, vec![0.5, 0.5], Parameters { components, shared: vec![] })?;
/// let folder = tempfile::tempdir()?;
/// for name in ["model.json", "model.safetensors"] {
///     store::save(folder.path().join(name), &mixture)?;
///     let loaded = store::load(folder.path().join(name))?;
///     assert_eq!(loaded.parameters(), mixture.parameters());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn save(path: impl AsRef<Path>, mixture: &Mixture) -> Result<()> {
    let path = path.as_ref();
    // Better no file than one that cannot be read: JSON has no NaN.
    for (name, array) in arrays(mixture) {
        array.check_finite(name).map_err(|fault| named(path, fault))?;
    }
    let is_json = path.extension().is_some_and(|it| it.eq_ignore_ascii_case("json"));
    let bytes = if is_json {
        json::pretty(&to_json(mixture)).into_bytes()
    } else {
        safetensors::to_bytes(mixture)
    };
    write_atomically(path, |file| file.write_all(&bytes))
}

/// Loads a mixture that [`save`] wrote, or a person: the content tells which format it is.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read. [`Error::Model`], beginning with the path, if it is empty, damaged, of
/// another kind or of a newer version, or if arrays are missing, of the wrong shape or no parameters of the model.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model.json");
/// let text = r#"{"model": "gaussian-diag", "weights": [1], "means": [[0, 0]], "covariances": [[1]]}"#;
/// std::fs::write(&path, text)?;
/// let fault = entropysum::store::load(&path).unwrap_err().to_string();
/// assert!(fault.ends_with(r#""covariances" has shape 1 × 1, expected 1 × 2"#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(path: impl AsRef<Path>) -> Result<Mixture> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|fault| Error::io(path, fault))?;
    from_bytes(&bytes).map_err(|fault| named(path, fault))
}

fn from_bytes(bytes: &[u8]) -> Result<Mixture> {
    let text = bytes.trim_ascii_start();
    if text.is_empty() {
        return invalid("the file is empty, expected a model");
    }
    // The length that begins a safetensors file may look like a space or a brace, but it ends in zeros.
    if text[0] == b'{' && !bytes[..bytes.len().min(8)].contains(&0) {
        return match serde_json::from_slice(text) {
            Ok(value) => from_json(&value),
            Err(fault) => invalid(format!("damaged JSON: {fault}")),
        };
    }
    safetensors::from_bytes(bytes)
}

/// Puts the path before a fault of its content.
fn named(path: &Path, fault: Error) -> Error {
    match fault {
        Error::Io { .. } => fault,
        other => Error::Model(format!("{}: {other}", path.display())),
    }
}

fn invalid<V>(message: impl Into<String>) -> Result<V> {
    Err(Error::Model(message.into()))
}

/// An array as files hold it: row-major.
#[derive(Clone, Debug, PartialEq)]
struct Array {
    shape: Vec<usize>,
    values: Vec<f64>,
}

impl Array {
    fn check_finite(&self, name: &str) -> Result<()> {
        let Some(position) = self.values.iter().position(|value| !value.is_finite()) else {
            return Ok(());
        };
        let index = index_of(position, &self.shape);
        let value = self.values[position];
        invalid(format!("{name:?}{index} is {value}, expected a finite number"))
    }
}

/// The weights and parameters of a mixture, in the order of files.
fn arrays(mixture: &Mixture) -> Vec<(&'static str, Array)> {
    let n_components = mixture.n_components();
    let weights = Array { shape: vec![n_components], values: mixture.weights().to_vec() };
    let mut arrays = vec![("weights", weights)];
    for spec in mixture.family().parameters() {
        let values = mixture.parameter(spec.name).expect("the family lists it");
        arrays.push((spec.name, Array { shape: shape_of(&spec, n_components), values }));
    }
    let known = mixture.family().known();
    for &name in registry::known_parameters(&mixture.family().name()) {
        let values = known.get(name).unwrap_or_default().to_vec();
        arrays.push((name, Array { shape: vec![values.len()], values }));
    }
    arrays
}

fn shape_of(spec: &ParameterSpec, n_components: usize) -> Vec<usize> {
    let components = (!spec.shared).then_some(n_components);
    components.into_iter().chain(spec.shape.iter().copied()).collect()
}

/// Builds a mixture from what a file says; `array` finds an array by name, and knows what is wrong if it cannot.
fn assemble(
    model: &str,
    posterior: Option<&str>,
    array: impl Fn(&str) -> Result<Array>,
) -> Result<Mixture> {
    let posterior = match posterior {
        Some(name) => posterior_called(name)?,
        None => Posterior::default(),
    };
    let mut found = Vec::new();
    let mut find = |name: &'static str| -> Result<Array> {
        let array = array(name)?;
        array.check_finite(name)?;
        found.push((name, array.clone()));
        Ok(array)
    };

    let weights = find("weights")?;
    let n_components = match weights.shape[..] {
        [n] if n > 0 => n,
        _ => {
            let shape = shape_text(&weights.shape);
            return invalid(format!(
                "\"weights\" has shape {shape}, expected one number a component"
            ));
        }
    };
    let (mut known, mut first) = (Known::default(), Known::default());
    for &name in registry::known_parameters(model) {
        let values = find(name)?.values;
        first = first.with(name, values.iter().take(1).copied().collect());
        known = known.with(name, values);
    }
    // Names and ranks of arrays are those of any dimension; the sizes in the file then tell which one.
    let specs = registry::build_known(model, 1, &first)?.parameters();
    let dim = match specs.iter().find(|spec| !spec.shared && !spec.shape.is_empty()) {
        None => 1,
        Some(spec) => {
            let shape = array(spec.name)?.shape;
            match shape[..] {
                [c, dim, ..] if c == n_components && dim > 0 => dim,
                _ => {
                    return invalid(format!(
                        "{:?} has shape {}, expected {n_components} (components) × D (dimensions)",
                        spec.name,
                        shape_text(&shape)
                    ));
                }
            }
        }
    };

    let family = registry::build_known(model, dim, &known)?;
    for spec in family.parameters() {
        let (shape, expected) = (find(spec.name)?.shape, shape_of(&spec, n_components));
        if shape != expected {
            return invalid(format!(
                "{:?} has shape {}, expected {}",
                spec.name,
                shape_text(&shape),
                shape_text(&expected)
            ));
        }
    }
    let by_name = |name: &str| found.iter().find(|(it, _)| *it == name).map(|(_, a)| &a.values[..]);
    Ok(Mixture::from_arrays(family, weights.values, by_name)?.with_posterior(posterior))
}

fn posterior_called(name: &str) -> Result<Posterior> {
    let all = [Posterior::Exact, Posterior::Hard];
    match all.into_iter().find(|it| it.name() == name) {
        Some(posterior) => Ok(posterior),
        None => {
            let names = all.map(Posterior::name).join(" or ");
            invalid(format!("the posterior is {name:?}, expected {names}"))
        }
    }
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

/// `2 × 3`, or "one number".
fn shape_text(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "[] (one number)".into();
    }
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ")
}

/// `[1][0]`: where a value stands in a row-major array.
fn index_of(mut position: usize, shape: &[usize]) -> String {
    let mut index = Vec::new();
    for &size in shape.iter().rev() {
        index.push(format!("[{}]", position % size.max(1)));
        position /= size.max(1);
    }
    index.reverse();
    index.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{
        ExponentialFamily, Outcome, Packing, Parameters, Regularization, Sampler, Statistic, Theta,
    };
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
            vec![ParameterSpec { name: "rates", shape: vec![2], shared: false }]
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
            _: Regularization,
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
