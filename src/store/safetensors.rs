//! Mixtures as safetensors.

use super::{Array, FORMAT, VERSION, arrays, assemble, check_format, check_version, invalid};
use crate::error::Result;
use crate::model::Mixture;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::{Map, Value, json};

/// Bytes of the length that begins a file.
const LENGTH: usize = 8;

/// Longer headers are not read by any library; a greater length is not one.
const LONGEST_HEADER: u64 = 100_000_000;

/// The file of a mixture.
///
/// The header is written here, since the crate keeps metadata in a hash map and so in random order.
pub(super) fn to_bytes(mixture: &Mixture) -> Vec<u8> {
    let mut header = Map::new();
    let metadata = json!({
        "format": FORMAT,
        "version": VERSION.to_string(),
        "model": mixture.family().name(),
        "posterior": mixture.posterior().name(),
        "created_by": concat!("entropysum ", env!("CARGO_PKG_VERSION")),
    });
    header.insert("__metadata__".into(), metadata);
    let mut data: Vec<u8> = Vec::new();
    for (name, array) in arrays(mixture) {
        let start = data.len();
        data.extend(array.values.iter().flat_map(|value| value.to_le_bytes()));
        let tensor =
            json!({ "dtype": "F64", "shape": array.shape, "data_offsets": [start, data.len()] });
        header.insert(name.into(), tensor);
    }
    let mut header = Value::from(header).to_string().into_bytes();
    // Spaces align the data for readers that map the file.
    header.resize(header.len().next_multiple_of(LENGTH), b' ');
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], &header, &data].concat()
}

/// The mixture in a file.
pub(super) fn from_bytes(bytes: &[u8]) -> Result<Mixture> {
    let (header, data) = split(bytes)?;
    let header: Metadata = match serde_json::from_slice(header) {
        Ok(header) => header,
        Err(fault) => return invalid(format!("damaged safetensors header: {fault}")),
    };
    if header.data_len() != data.len() {
        return invalid(format!(
            "damaged safetensors: {} bytes of tensors, expected {}",
            data.len(),
            header.data_len()
        ));
    }

    let entry = |key: &str| header.metadata().as_ref().and_then(|it| it.get(key));
    match entry("format") {
        Some(format) => check_format(format)?,
        None => {
            return invalid("safetensors without metadata of entropysum: not one of its models");
        }
    }
    match entry("version").map(|text| (text, text.parse())) {
        Some((_, Ok(version))) => check_version(version)?,
        Some((text, Err(_))) => {
            return invalid(format!("the version is {text:?}, expected {VERSION}"));
        }
        None => return invalid("the metadata lack a version"),
    }
    let Some(model) = entry("model") else {
        return invalid("the metadata lack the name of the model");
    };
    assemble(model, entry("posterior").map(String::as_str), |name| {
        let Some(tensor) = header.info(name) else {
            return invalid(format!("tensor {name:?} is missing, which {model} needs"));
        };
        let bytes = &data[tensor.data_offsets.0..tensor.data_offsets.1];
        let values = match tensor.dtype {
            Dtype::F64 => bytes.as_chunks().0.iter().map(|&it| f64::from_le_bytes(it)).collect(),
            Dtype::F32 => {
                bytes.as_chunks().0.iter().map(|&it| f32::from_le_bytes(it).into()).collect()
            }
            other => {
                return invalid(format!("tensor {name:?} has type {other}, expected F64 or F32"));
            }
        };
        Ok(Array { shape: tensor.shape.clone(), values })
    })
}

/// The header and the tensors of a file.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let unknown = "neither JSON nor safetensors, expected a model";
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else {
        return invalid(unknown);
    };
    let length = u64::from_le_bytes(*length);
    match usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)) {
        Some((header, _)) if header.first() != Some(&b'{') => invalid(unknown),
        Some(parts) => Ok(parts),
        None if length <= LONGEST_HEADER && rest.first().is_none_or(|&it| it == b'{') => {
            invalid(format!(
                "damaged safetensors: {} bytes, expected a header of {length} and tensors",
                bytes.len()
            ))
        }
        None => invalid(unknown),
    }
}
