//! Models in files.

use crate::error::{Error, Result};
use crate::family::registry;
use crate::model::{Mixture, Posterior};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

/// Writes a model.
///
/// # Errors
/// If the file cannot be written.
pub fn save(path: impl AsRef<Path>, model: &Mixture) -> Result<()> {
    crate::atomic::write_atomically(path, |file| writeln!(file, "{}", to_json(model)))
}

/// Reads a model.
///
/// # Errors
/// If the file cannot be read or is no model.
pub fn load(path: impl AsRef<Path>) -> Result<Mixture> {
    let path = path.as_ref();
    let invalid = |message: &str| Error::Model(format!("{}: {message}", path.display()));
    let text = std::fs::read(path).map_err(|fault| Error::io(path, fault))?;
    let value: Value = serde_json::from_slice(&text).map_err(|e| invalid(&e.to_string()))?;
    let name = value["model"].as_str().ok_or_else(|| invalid("no model"))?;
    let dim = value["dim"].as_u64().ok_or_else(|| invalid("no dim"))? as usize;
    let family = registry::build(name, dim)?;
    fn numbers(value: &Value) -> Vec<f64> {
        match value {
            Value::Array(items) => items.iter().flat_map(numbers).collect(),
            other => vec![other.as_f64().unwrap_or(f64::NAN)],
        }
    }
    let arrays: HashMap<_, _> =
        family.parameters().iter().map(|s| (s.name, numbers(&value[s.name]))).collect();
    let weights = numbers(&value["weights"]);
    let hard = value["posterior"] == "hard";
    let model = Mixture::from_arrays(family, weights, |n| arrays.get(n).map(Vec::as_slice))?;
    Ok(model.with_posterior(if hard { Posterior::Hard } else { Posterior::Exact }))
}

/// A model as JSON.
pub fn to_json(model: &Mixture) -> Value {
    let mut object = Map::new();
    object.insert("model".into(), model.family().name().into());
    object.insert("dim".into(), model.family().dim().into());
    object.insert("posterior".into(), model.posterior().name().into());
    object.insert("weights".into(), json!(model.weights()));
    for spec in model.family().parameters() {
        object.insert(spec.name.into(), json!(model.parameter(spec.name)));
    }
    Value::Object(object)
}
