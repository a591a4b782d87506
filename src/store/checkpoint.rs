//! Checkpoints: a fit in a file, to go on with after whatever ended the process.
//!
//! | part | bytes |
//! |---|---|
//! | `entropysum-checkpoint 4\n` | 24; the number is the version of the format |
//! | length of the header | 8, little-endian, as all numbers here |
//! | header | JSON: settings of the fit, lengths of the parts below, their checksums |
//! | checksum of the header | 4, CRC-32 |
//! | model | a model file ([`store`](super)) |
//! | state | all else of the fit but the rows |
//! | rows | what the learner remembers of each row between visits, if it does |
//!
//! A file is written beside, brought to the disk and renamed, so that at any moment the name stands for a whole checkpoint. Rows
//! may be larger than memory: they pass through it piece by piece.

use super::stored::Stored;
use super::{named, safetensors};
use crate::atomic::write_atomically;
use crate::em::{Checkpoint, Saved, Settings};
use crate::error::{Error, Result};
use crc32fast::Hasher;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// What every checkpoint begins with, version included: states of other versions would not end with the same bits.
const MAGIC: &[u8; 24] = b"entropysum-checkpoint 4\n";

/// Bytes of a header at most.
const LONGEST_HEADER: u64 = 1 << 20;

/// Says what the parts of a file are.
#[derive(Serialize, Deserialize)]
struct Header {
    settings: Settings,
    model_bytes: u64,
    state_bytes: u64,
    row_bytes: u64,
    /// CRC-32 of the model and the state together, and of the rows.
    checksum: u32,
    row_checksum: u32,
}

/// Saves the state of a fit, in place of an older one.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written; the older one is then untouched.
pub fn save_checkpoint<M: Stored>(
    path: impl AsRef<Path>,
    checkpoint: &Checkpoint<'_, M>,
) -> Result<()> {
    let path = path.as_ref();
    let model = safetensors::to_bytes(checkpoint.model);
    let mut hasher = Hasher::new();
    hasher.update(&model);
    hasher.update(&checkpoint.state);
    let mut header = Header {
        settings: checkpoint.settings.clone(),
        model_bytes: model.len() as u64,
        state_bytes: checkpoint.state.len() as u64,
        row_bytes: checkpoint.rows.map_or(0, |rows| 8 * rows.width() as u64 * rows.len()),
        checksum: hasher.finalize(),
        row_checksum: 0,
    };
    // Rows are written once, so that their checksum is known after them; the header keeps its length.
    let length = encode(&Header { row_checksum: u32::MAX, ..copy(&header) }).len();
    write_atomically(path, |file| {
        let write_header = |file: &mut dyn Write, header: &Header| {
            let mut bytes = encode(header);
            bytes.resize(length, b' ');
            file.write_all(MAGIC)?;
            file.write_all(&(length as u64).to_le_bytes())?;
            file.write_all(&bytes)?;
            file.write_all(&crc32fast::hash(&bytes).to_le_bytes())
        };
        write_header(file, &header)?;
        file.write_all(&model)?;
        file.write_all(&checkpoint.state)?;
        if let Some(rows) = checkpoint.rows {
            let mut hashed = Hashed { inner: &mut *file, hasher: Hasher::new() };
            rows.copy_to(&mut hashed)?;
            header.row_checksum = hashed.hasher.finalize();
            file.seek(SeekFrom::Start(0))?;
            write_header(file, &header)?;
        }
        Ok(())
    })
}

/// Loads a checkpoint, for [`Fitting::resume`](crate::em::Fitting::resume).
///
/// # Errors
/// [`Error::Io`] if the file cannot be read. [`Error::Model`], beginning with the path, if it is damaged, no checkpoint,
/// of another version, or of another kind of model. Whether it is of the same fit is for `resume` to find.
pub fn load_checkpoint<M: Stored>(path: impl AsRef<Path>) -> Result<Saved<M>> {
    let path = path.as_ref();
    let io = |fault| Error::io(path, fault);
    let mut file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    read(&mut file, size).map_err(|fault| named(path, fault))
}

/// Tells whether a file begins as a checkpoint does, of any version, or is empty.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read.
#[cfg(feature = "cli")]
pub(crate) fn may_be_checkpoint(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let read = |file: File| file.take(22).read_to_end(&mut start);
    File::open(path).and_then(read).map_err(|fault| Error::io(path, fault))?;
    Ok(start.is_empty() || start == MAGIC[..22])
}

fn read<M: Stored>(file: &mut File, size: u64) -> Result<Saved<M>> {
    let damaged = |what: &str| Error::Model(format!("damaged checkpoint: {what}"));
    let mut start = [0; 24];
    let whole = file.read_exact(&mut start).is_ok();
    if !whole || start[..22] != MAGIC[..22] {
        return Err(Error::Model("not a checkpoint of a fit".to_owned()));
    }
    if start != *MAGIC {
        let version = String::from_utf8_lossy(&start[22..]).trim().to_owned();
        return Err(Error::Model(format!(
            "a checkpoint of version {version}, expected version 3: it was written by another release"
        )));
    }
    // No size is believed before it is held against that of the file.
    let mut left = size - start.len() as u64;
    let mut part = |file: &mut File, length: u64| -> Result<Vec<u8>> {
        left = left.checked_sub(length).ok_or_else(|| damaged("it ends too early"))?;
        let mut bytes = vec![0; length as usize];
        file.read_exact(&mut bytes).map_err(|_| damaged("it ends too early"))?;
        Ok(bytes)
    };
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    let length = number(&part(file, 8)?);
    if length > LONGEST_HEADER {
        return Err(damaged("its header is too long"));
    }
    let header = part(file, length)?;
    if u64::from(crc32fast::hash(&header)) != number(&part(file, 4)?) {
        return Err(damaged("the checksum of its header does not agree"));
    }
    let header: Header = serde_json::from_slice(&header)
        .map_err(|fault| damaged(&format!("its header cannot be read: {fault}")))?;
    let model = part(file, header.model_bytes)?;
    let state = part(file, header.state_bytes)?;
    let mut hasher = Hasher::new();
    hasher.update(&model);
    hasher.update(&state);
    if hasher.finalize() != header.checksum {
        return Err(damaged("its checksum does not agree"));
    }
    if left != header.row_bytes {
        return Err(damaged("it has another length than its header says"));
    }
    let rows = (header.row_bytes > 0).then(|| -> Result<Box<dyn Read + Send>> {
        let file = file.try_clone().map_err(|fault| damaged(&fault.to_string()))?;
        let rows = Rows {
            inner: Hashed { inner: BufReader::new(file), hasher: Hasher::new() },
            left: header.row_bytes,
            checksum: header.row_checksum,
        };
        Ok(Box::new(rows))
    });
    let model = super::from_bytes(&model)?;
    Ok(Saved { model, settings: header.settings, state, rows: rows.transpose()? })
}

fn encode(header: &Header) -> Vec<u8> {
    serde_json::to_vec(header).expect("settings are plain data")
}

fn copy(header: &Header) -> Header {
    Header { settings: header.settings.clone(), ..*header }
}

/// Computes the checksum of what passes through.
struct Hashed<F> {
    inner: F,
    hasher: Hasher,
}

impl<F: Write> Write for Hashed<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<F: Read> Read for Hashed<F> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }
}

/// Reads rows, and holds them against their checksum with the last.
struct Rows {
    inner: Hashed<BufReader<File>>,
    left: u64,
    checksum: u32,
}

impl Read for Rows {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let most = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut bytes[..most])?;
        self.left -= count as u64;
        if self.left == 0 && count > 0 && self.inner.hasher.clone().finalize() != self.checksum {
            let message = "the checksum of the rows does not agree";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(count)
    }
}
