//! Models as safetensors.

use super::stored::{Array, Contents, File, NamedArray, Stored};
use super::{FORMAT, VERSION, check_format, check_version, invalid};
use crate::error::Result;
use crc32fast::Hasher;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Bytes of the length that begins a file.
const LENGTH: usize = 8;

/// Longer headers are not read by any library; a greater length is not one.
const LONGEST_HEADER: u64 = 100_000_000;

/// The metadata with the checksum of all else.
const CHECKSUM: &str = "checksum";

/// The file of a model.
///
/// The header is written here, since the crate keeps metadata in a hash map and so in random order.
pub(super) fn to_bytes(model: &impl Stored) -> Vec<u8> {
    let mut header = Map::new();
    let mut metadata = Map::new();
    metadata.insert("format".into(), FORMAT.into());
    metadata.insert("version".into(), VERSION.to_string().into());
    metadata.insert("model".into(), model.name().into());
    // Metadata are texts, whatever they tell.
    for (key, value) in model.settings() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        metadata.insert(key.into(), text.into());
    }
    let created_by = concat!("entropysum ", env!("CARGO_PKG_VERSION"));
    metadata.insert("created_by".into(), created_by.into());
    header.insert("__metadata__".into(), metadata.into());
    let mut data: Vec<u8> = Vec::new();
    for NamedArray { name, array, .. } in model.arrays() {
        let start = data.len();
        data.extend(array.values.iter().flat_map(|value| value.to_le_bytes()));
        let tensor =
            json!({ "dtype": "F64", "shape": array.shape, "data_offsets": [start, data.len()] });
        header.insert(name.into_owned(), tensor);
    }
    let mut header = Value::from(header);
    let parsed = Metadata::deserialize(&header).expect("the header is one of the format");
    header["__metadata__"][CHECKSUM] = checksum(&parsed, &data).into();
    let mut header = header.to_string().into_bytes();
    // Spaces align the data for readers that map the file.
    header.resize(header.len().next_multiple_of(LENGTH), b' ');
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], &header, &data].concat()
}

/// The model in a file.
pub(super) fn from_bytes<M: Stored>(bytes: &[u8]) -> Result<M> {
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
    let Some(name) = entry("model") else {
        return invalid("the metadata lack the name of the model");
    };
    // Older files have no checksum.
    if let Some(stored) = entry(CHECKSUM)
        && *stored != checksum(&header, data)
    {
        return invalid(format!(
            "damaged safetensors: the checksum does not agree; \
             if a program changed the model on purpose, let it drop {CHECKSUM:?} from the metadata"
        ));
    }
    File::read(name, &Tensors { header: &header, data })
}

/// Returns the CRC-32 of all that a file says but the checksum, in hexadecimal digits. Order does not matter: programs that copy
/// metadata and tensors to a new file keep the checksum.
fn checksum(header: &Metadata, data: &[u8]) -> String {
    let metadata: BTreeMap<_, _> = header.metadata().iter().flatten().collect();
    let tensors: BTreeMap<_, _> = header.tensors().into_iter().collect();
    let mut hasher = Hasher::new();
    for (key, value) in metadata.into_iter().filter(|entry| entry.0 != CHECKSUM) {
        [key, "\0", value, "\0"].iter().for_each(|text| hasher.update(text.as_bytes()));
    }
    for (name, tensor) in tensors {
        hasher.update(name.as_bytes());
        tensor.shape.iter().for_each(|&size| hasher.update(&(size as u64).to_le_bytes()));
        hasher.update(&data[tensor.data_offsets.0..tensor.data_offsets.1]);
    }
    format!("{:08x}", hasher.finalize())
}

/// The tensors of a file and its metadata.
struct Tensors<'a> {
    header: &'a Metadata,
    data: &'a [u8],
}

impl Contents for Tensors<'_> {
    fn noun(&self) -> &'static str {
        "tensor "
    }

    fn text(&self, key: &str) -> Result<Option<String>> {
        Ok(self.header.metadata().as_ref().and_then(|it| it.get(key)).cloned())
    }

    fn count(&self, key: &str) -> Result<Option<u64>> {
        match self.text(key)?.map(|text| (text.parse(), text)) {
            None => Ok(None),
            Some((Ok(count), _)) => Ok(Some(count)),
            Some((Err(_), text)) => {
                invalid(format!("{key:?} is {text:?}, expected a whole number"))
            }
        }
    }

    fn value(&self, key: &str) -> Result<Option<Value>> {
        match self.text(key)?.map(|text| (serde_json::from_str(&text), text)) {
            None => Ok(None),
            Some((Ok(value), _)) => Ok(Some(value)),
            Some((Err(_), text)) => invalid(format!("{key:?} is {text:?}, expected JSON")),
        }
    }

    fn array(&self, name: &str) -> Result<Option<Array>> {
        let Some(tensor) = self.header.info(name) else {
            return Ok(None);
        };
        let bytes = &self.data[tensor.data_offsets.0..tensor.data_offsets.1];
        let values = match tensor.dtype {
            Dtype::F64 => bytes.as_chunks().0.iter().map(|&it| f64::from_le_bytes(it)).collect(),
            Dtype::F32 => {
                bytes.as_chunks().0.iter().map(|&it| f32::from_le_bytes(it).into()).collect()
            }
            other => {
                return invalid(format!("tensor {name:?} has type {other}, expected F64 or F32"));
            }
        };
        Ok(Some(Array { shape: tensor.shape.clone(), values }))
    }
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
