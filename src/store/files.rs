//! Model files on the disk: JSON or safetensors.

use super::stored::{NamedArray, Stored};
use super::{from_json, invalid, json, safetensors, to_json};
use crate::atomic::write_atomically;
use crate::error::{Error, Result};
use std::io::Write;
use std::path::Path;

/// Saves a model: as JSON if the name ends in `.json`, else as safetensors.
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
///     let loaded: Mixture = store::load(folder.path().join(name))?;
///     assert_eq!(loaded.parameters(), mixture.parameters());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn save(path: impl AsRef<Path>, model: &impl Stored) -> Result<()> {
    let path = path.as_ref();
    // Better no file than one that cannot be read: JSON has no NaN.
    for NamedArray { name, array, .. } in model.arrays() {
        array.check_finite(&name).map_err(|fault| named(path, fault))?;
    }
    let is_json = path.extension().is_some_and(|it| it.eq_ignore_ascii_case("json"));
    let bytes = if is_json {
        json::pretty(&to_json(model)).into_bytes()
    } else {
        safetensors::to_bytes(model)
    };
    write_atomically(path, |file| file.write_all(&bytes))
}

/// Loads a model that [`save`] wrote, or a person: the content tells which format it is.
///
/// `M` is the kind that is expected, or [`Model`](super::Model) where any will do.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read. [`Error::Model`], beginning with the path, if it is empty, damaged, of
/// another kind or of a newer version, or if arrays are missing, of the wrong shape or no parameters of the model.
///
/// ```
/// use entropysum::store::{self, Model};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model.json");
/// let text = r#"{"model": "gaussian-diag", "weights": [1], "means": [[0, 0]], "covariances": [[1]]}"#;
/// std::fs::write(&path, text)?;
/// let fault = store::load::<Model>(&path).unwrap_err().to_string();
/// assert!(fault.ends_with(r#""covariances" has shape 1 × 1, expected 1 × 2"#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load<M: Stored>(path: impl AsRef<Path>) -> Result<M> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|fault| Error::io(path, fault))?;
    from_bytes(&bytes).map_err(|fault| named(path, fault))
}

/// Returns the bytes of a model file, as safetensors: for databases, messages and archives of other formats.
///
/// The same model always gives the same bytes.
///
/// ```
/// use entropysum::{family::{registry, Parameters}, model::Mixture, store};
///
/// let family = registry::build("gaussian-diag", 1)?;
/// let components = vec![vec![0.0, 1.0], vec![0.1, 0.2]];
/// let mixture = Mixture::new(family, vec![0.5, 0.5], Parameters { components, shared: vec![] })?;
/// let bytes = store::to_bytes(&mixture);
/// let same: Mixture = store::from_bytes(&bytes)?;
/// assert_eq!(same.parameters(), mixture.parameters());
/// assert_eq!(store::to_bytes(&same), bytes);
///
/// let json = store::to_json(&mixture).to_string();
/// let same: Mixture = store::from_bytes(json.as_bytes())?;
/// assert_eq!(same.parameters(), mixture.parameters());
/// # Ok::<(), entropysum::Error>(())
/// ```
pub fn to_bytes(model: &impl Stored) -> Vec<u8> {
    safetensors::to_bytes(model)
}

/// Builds a model from the bytes of a file, safetensors or JSON: the content tells which.
///
/// # Errors
/// [`Error::Model`] if they are damaged, describe another kind of model than `M` or are of a newer version, or if arrays are
/// missing, of the wrong shape, not finite, or no parameters of the model.
pub fn from_bytes<M: Stored>(bytes: &[u8]) -> Result<M> {
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
pub(super) fn named(path: &Path, fault: Error) -> Error {
    match fault {
        Error::Io { .. } => fault,
        other => Error::Model(format!("{}: {other}", path.display())),
    }
}
