//! Checkpoints: a fit in a file, to go on with after whatever ended the process.
//!
//! A safetensors file of two tensors: `model`, the bytes of a model file, and `state`, all else as `F64`. It is written
//! beside, brought to the disk and renamed, so that at any moment the name stands for a whole checkpoint.

use super::stored::Stored;
use super::{check_version, invalid, named};
use crate::atomic::write_atomically;
use crate::data::DataSource;
use crate::em::stream::{self, StreamConfig};
use crate::em::{BatchState, Config, FitState, StreamState};
use crate::error::{Error, Result};
use crate::model::EStep;
use crate::scalar::Scalar;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

/// Name of the format.
pub(super) const FORMAT: &str = "entropysum-checkpoint";

/// Version that is written and read: states of other versions would not end with the same bits.
pub(super) const VERSION: u64 = 1;

/// Saves the state of a fit, in place of an older one.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written; the older one is then untouched.
pub fn save_checkpoint(path: impl AsRef<Path>, state: &impl FitState<Model: Stored>) -> Result<()> {
    let path = path.as_ref();
    let model = super::safetensors::to_bytes(state.model());
    let numbers: Vec<u8> = state.numbers().iter().flat_map(|value| value.to_le_bytes()).collect();
    let damaged = |fault: safetensors::SafeTensorError| {
        Error::Model(format!("{}: cannot be written: {fault}", path.display()))
    };
    let view = |dtype, size: usize, bytes| TensorView::new(dtype, vec![size], bytes);
    let tensors = [
        ("model", view(Dtype::U8, model.len(), &model).map_err(damaged)?),
        ("state", view(Dtype::F64, numbers.len() / 8, &numbers).map_err(damaged)?),
    ];
    let warnings = serde_json::Value::from(state.warnings().to_vec());
    let metadata = HashMap::from([
        ("format".to_owned(), FORMAT.to_owned()),
        ("version".to_owned(), VERSION.to_string()),
        ("settings".to_owned(), state.settings().to_owned()),
        ("warnings".to_owned(), warnings.to_string()),
    ]);
    let bytes = serialize(tensors, Some(metadata)).map_err(damaged)?;
    write_atomically(path, |file| file.write_all(&bytes))
}

/// Loads a checkpoint of a fit by minibatches over `source`, for
/// [`resume`](crate::em::stream::resume).
///
/// # Errors
/// [`Error::Io`] if the file cannot be read. [`Error::Model`], beginning with the path, if it is damaged, no checkpoint,
/// of another version, or of another kind of model. Whether it is of the same fit is for `resume` to find.
pub fn load_checkpoint<T: Scalar, M: Stored + EStep<T>>(
    path: impl AsRef<Path>,
    source: &dyn DataSource<T>,
    config: &Config,
    stream: &StreamConfig,
) -> Result<StreamState<M>> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|fault| Error::io(path, fault))?;
    let read = || {
        let (model, settings, numbers, warnings) = parts::<M>(&bytes)?;
        let state = stream::begin(model, source, config, stream)?.with_settings(settings);
        state.restore(&numbers, warnings)
    };
    read().map_err(|fault| named(path, fault))
}

/// Loads a checkpoint of a fit over all points, for [`Begin::Kept`](crate::em::Begin).
///
/// # Errors
/// As [`load_checkpoint`].
pub fn load_batch_checkpoint<M: Stored>(path: impl AsRef<Path>) -> Result<BatchState<M>> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|fault| Error::io(path, fault))?;
    let (model, settings, numbers, warnings) = parts(&bytes).map_err(|fault| named(path, fault))?;
    Ok(BatchState { model, settings, numbers, warnings })
}

/// Refuses files that are no checkpoints, and those of other versions.
pub(super) fn check_checkpoint(format: &str, version: &str) -> Result<()> {
    if format != FORMAT {
        return invalid(format!("not a checkpoint, its format is {format:?}"));
    }
    check_version(version.parse().unwrap_or_default())
}

type Parts<M> = (M, String, Vec<f64>, Vec<String>);

fn parts<M: Stored>(bytes: &[u8]) -> Result<Parts<M>> {
    let damaged = |fault| Error::Model(format!("damaged checkpoint: {fault}"));
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|fault| {
        Error::Model(format!("neither a checkpoint nor safetensors at all: {fault}"))
    })?;
    let entry = |key: &str| {
        let found = header.metadata().as_ref().and_then(|it| it.get(key));
        found.cloned().unwrap_or_default()
    };
    check_checkpoint(&entry("format"), &entry("version"))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let numbers = tensors.tensor("state").map_err(damaged)?;
    let numbers = numbers.data().as_chunks().0.iter().map(|&it| f64::from_le_bytes(it)).collect();
    let model = super::from_bytes(tensors.tensor("model").map_err(damaged)?.data())?;
    let warnings = serde_json::from_str(&entry("warnings")).unwrap_or_default();
    Ok((model, entry("settings"), numbers, warnings))
}
