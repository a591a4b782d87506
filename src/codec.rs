//! Plain data as bytes, for checkpoints and for other processes.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Encodes a value.
pub fn encode(value: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).expect("values are plain data in memory")
}

/// Decodes a value; `None` if the bytes are not of this type, or more. No size that the bytes claim is allocated before they have shown
/// that much data.
pub fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Option<V> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}
