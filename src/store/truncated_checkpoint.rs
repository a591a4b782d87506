//! Checkpoints of fits by minibatches with truncated posteriors.
//!
//! As other checkpoints, a safetensors file, and two tensors more: `states`, those of the minibatches that are remembered, and `sets`,
//! the states of all points. All sets are written, also those that are in a temporary file: that one is younger than the checkpoint
//! when a process is killed, and a fit that goes on must have the sets that belong to its parameters. They pass through memory
//! piece by piece.

use super::checkpoint::{FORMAT, VERSION, check_checkpoint};
use super::{invalid, named};
use crate::atomic::write_atomically;
use crate::data::DataSource;
use crate::em::stream::StreamConfig;
use crate::em::{Config, FitState, TruncatedStream, truncated_stream};
use crate::error::{Error, Result};
use crate::model::sbn::SigmoidBeliefNet;
use crate::scalar::Scalar;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Words of sets that are in memory at a time, at least those of a point.
const PIECE: usize = 1 << 17;

/// Longer headers are not read by any library of the format.
const LONGEST_HEADER: u64 = 100_000_000;

/// Saves the state of a fit, in place of an older one: the sets of all points among it, N × S × H / 8 bytes.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written; the older one is then untouched.
pub fn save_truncated_checkpoint(path: impl AsRef<Path>, state: &TruncatedStream) -> Result<()> {
    let path = path.as_ref();
    let model = super::safetensors::to_bytes(state.model());
    let (states, numbers) = (state.states(), state.numbers());
    let sets = state.sets();
    let (n, width) = (sets.len(), sets.width());
    let warnings = Value::from(state.warnings().to_vec());
    let mut end = 0u64;
    let mut tensor = |dtype: &str, shape: &[u64], bytes: u64| {
        let start = end;
        end += bytes;
        json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] })
    };
    // In the order of the data.
    let header = json!({
        "state": tensor("F64", &[numbers.len() as u64], 8 * numbers.len() as u64),
        "states": tensor("U64", &[states.len() as u64], 8 * states.len() as u64),
        "sets": tensor("U64", &[n, width as u64], 8 * n * width as u64),
        "model": tensor("U8", &[model.len() as u64], model.len() as u64),
        "__metadata__": {
            "format": FORMAT,
            "version": VERSION.to_string(),
            "settings": state.settings(),
            "warnings": warnings.to_string(),
        },
    });
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');

    let mut fault = None;
    let written = write_atomically(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for number in &numbers {
            file.write_all(&number.to_le_bytes())?;
        }
        for word in &states {
            file.write_all(&word.to_le_bytes())?;
        }
        let rows = (PIECE / width).max(1) as u64;
        let mut words = Vec::new();
        for start in (0..n).step_by(rows as usize) {
            let rows = start..n.min(start + rows);
            words.resize((rows.end - rows.start) as usize * width, 0);
            if let Err(found) = sets.read(rows, &mut words) {
                let message = found.to_string();
                fault = Some(found);
                return Err(std::io::Error::other(message));
            }
            for word in &words {
                file.write_all(&word.to_le_bytes())?;
            }
        }
        file.write_all(&model)
    });
    fault.map_or(written, Err)
}

/// Loads a checkpoint that [`save_truncated_checkpoint`] wrote: the state of a fit over `source`, for
/// [`resume`](crate::em::truncated_stream::resume). Sets that do not fit into memory go to a temporary file in `folder`.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, or the sets not be put into the folder. [`Error::Model`], beginning with the
/// path, if it is damaged, no such checkpoint, or of another version. Whether it is of the same fit is for `resume` to find.
pub fn load_truncated_checkpoint<T: Scalar>(
    path: impl AsRef<Path>,
    source: &dyn DataSource<T>,
    config: &Config,
    stream: &StreamConfig,
    folder: &Path,
) -> Result<TruncatedStream> {
    let path = path.as_ref();
    let mut file = Checkpoint::open(path)?;
    let mut read = || {
        let model: SigmoidBeliefNet = super::from_bytes(&file.bytes("model")?)?;
        let (states, numbers) = (file.bytes("states")?, file.bytes("state")?);
        let states: Vec<u64> =
            states.as_chunks().0.iter().map(|&b| u64::from_le_bytes(b)).collect();
        let numbers: Vec<f64> =
            numbers.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect();
        let (settings, warnings) = (file.entry("settings"), file.entry("warnings"));
        let warnings = serde_json::from_str(&warnings).unwrap_or_default();
        let state = truncated_stream::begin(model, true, source, config, stream, folder)?;
        let mut state = state.restore(&states, &numbers, settings, warnings)?;
        file.sets(&mut state)?;
        Ok(state)
    };
    read().map_err(|fault| named(path, fault))
}

/// A file, and where its tensors are.
struct Checkpoint<'a> {
    path: &'a Path,
    file: File,
    header: Metadata,
    data: u64,
}

impl<'a> Checkpoint<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let io = |fault| Error::io(path, fault);
        let mut file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let fault = |message: String| Err(Error::Model(format!("{}: {message}", path.display())));
        let mut length = [0; 8];
        let unknown = || fault("neither a checkpoint nor safetensors at all".to_owned());
        if size < 8 {
            return unknown();
        }
        file.read_exact(&mut length).map_err(io)?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST_HEADER.min(size - 8) {
            return unknown();
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(io)?;
        let Ok(header) = serde_json::from_slice::<Metadata>(&header) else { return unknown() };
        let data = 8 + length;
        if data + header.data_len() as u64 != size {
            let expected = data + header.data_len() as u64;
            return fault(format!("damaged checkpoint: {size} bytes, expected {expected}"));
        }
        let checkpoint = Self { path, file, header, data };
        check_checkpoint(&checkpoint.entry("format"), &checkpoint.entry("version"))
            .map_err(|fault| named(path, fault))?;
        Ok(checkpoint)
    }

    fn entry(&self, key: &str) -> String {
        let found = self.header.metadata().as_ref().and_then(|it| it.get(key));
        found.cloned().unwrap_or_default()
    }

    /// Goes to where a tensor begins, and says how many bytes it has.
    fn seek(&mut self, name: &str, dtype: Dtype) -> Result<usize> {
        match self.header.info(name) {
            Some(tensor) if tensor.dtype == dtype => {
                let (start, end) = tensor.data_offsets;
                let at = SeekFrom::Start(self.data + start as u64);
                self.file.seek(at).map_err(|fault| Error::io(self.path, fault))?;
                Ok(end - start)
            }
            _ => invalid(format!(
                "not a checkpoint of a fit with truncated posteriors: it has no tensor {name:?} of type {dtype}"
            )),
        }
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        let dtype = match name {
            "model" => Dtype::U8,
            "state" => Dtype::F64,
            _ => Dtype::U64,
        };
        let mut bytes = vec![0; self.seek(name, dtype)?];
        self.file.read_exact(&mut bytes).map_err(|fault| Error::io(self.path, fault))?;
        Ok(bytes)
    }

    /// Brings the sets of all points to where the state keeps them.
    fn sets(&mut self, state: &mut TruncatedStream) -> Result<()> {
        let size = self.seek("sets", Dtype::U64)?;
        let kept = state.sets_mut();
        let (n, width) = (kept.len(), kept.width());
        if size as u64 != 8 * n * width as u64 {
            return invalid(format!(
                "the checkpoint is of another fit: {size} bytes of sets, expected {n} x {width} words"
            ));
        }
        let rows = (PIECE / width).max(1) as u64;
        let mut bytes = Vec::new();
        for start in (0..n).step_by(rows as usize) {
            let rows = start..n.min(start + rows);
            bytes.resize((rows.end - rows.start) as usize * width * 8, 0);
            self.file.read_exact(&mut bytes).map_err(|fault| Error::io(self.path, fault))?;
            let words: Vec<u64> =
                bytes.as_chunks().0.iter().map(|&b| u64::from_le_bytes(b)).collect();
            kept.write(rows, &words)?;
        }
        Ok(())
    }
}
