//! Keeps some words for each row between visits: in memory up to a limit, in a temporary file beyond.

use crate::data::shuffle::{ShuffledWindow, StreamPosition};
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::scalar::Scalar;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
#[cfg(feature = "files")]
use tempfile::tempfile_in;

/// Words that pass through memory together when all rows are read or written.
const PIECE: usize = 1 << 17;

/// Words of all points of a source, by row; zeros to begin with.
///
/// The first rows are in memory, the others in a file. It has no name, so that nothing is left of it however the process ends.
#[derive(Debug)]
pub struct RowMemory {
    width: usize,
    len: u64,
    memory: Vec<u64>,
    file: Option<Spill>,
}

#[derive(Debug)]
struct Spill {
    file: File,
    folder: PathBuf,
}

impl RowMemory {
    /// `width` words for each of `len` points, of which `bytes` may be in memory, the others in a file in `folder`.
    ///
    /// # Errors
    /// [`Error::Io`] with the folder, if no file can be made in it.
    pub(crate) fn new(len: u64, width: usize, bytes: u64, folder: &Path) -> Result<Self> {
        let in_memory = (bytes / (8 * width as u64)).min(len);
        let words = usize::try_from(in_memory).ok().and_then(|rows| rows.checked_mul(width));
        let words = words.ok_or_else(|| Error::Config(format!("{bytes} bytes are too many")))?;
        let mut file = None;
        if in_memory < len {
            let fault = |fault| no_room(folder, &fault);
            let spill = tempfile_in(folder).map_err(fault)?;
            let size = (len - in_memory).checked_mul(8 * width as u64);
            let size = size.ok_or_else(|| fault(io::ErrorKind::FileTooLarge.into()))?;
            // Zeros that take no room until they are written.
            spill.set_len(size).map_err(fault)?;
            file = Some(Spill { file: spill, folder: folder.to_owned() });
        }
        Ok(Self { width, len, memory: vec![0; words], file })
    }

    /// Words of a point.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Number of points.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes that are on the disk.
    #[cfg(test)]
    fn spilled_bytes(&self) -> u64 {
        8 * (self.len * self.width as u64 - self.memory.len() as u64)
    }

    /// Reads the words of some rows.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read.
    ///
    /// # Panics
    /// If `to` is not as long as their words, or there are no such rows.
    pub(crate) fn read(&self, rows: Range<u64>, to: &mut [u64]) -> Result<()> {
        let (words, spilled) = self.split(&rows, to.len());
        let (head, tail) = to.split_at_mut(words.len());
        head.copy_from_slice(&self.memory[words]);
        if let (Some(spill), false) = (&self.file, tail.is_empty()) {
            spill.seek(spilled, self.width)?;
            (&spill.file)
                .read_exact(bytemuck::cast_slice_mut(tail))
                .map_err(|fault| no_room(&spill.folder, &fault))?;
        }
        Ok(())
    }

    /// Writes the words of some rows.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written: the disk is full, perhaps.
    ///
    /// # Panics
    /// As [`read`](Self::read).
    pub(crate) fn write(&mut self, rows: Range<u64>, from: &[u64]) -> Result<()> {
        let (words, spilled) = self.split(&rows, from.len());
        let (head, tail) = from.split_at(words.len());
        self.memory[words].copy_from_slice(head);
        if let (Some(spill), false) = (&self.file, tail.is_empty()) {
            spill.seek(spilled, self.width)?;
            (&spill.file)
                .write_all(bytemuck::cast_slice(tail))
                .map_err(|fault| no_room(&spill.folder, &fault))?;
        }
        Ok(())
    }

    /// Reads the words of all rows from bytes in little-endian order, piece by piece.
    ///
    /// # Errors
    /// If there are not as many bytes, or the file cannot be written.
    pub(crate) fn fill(&mut self, from: &mut dyn Read) -> Result<()> {
        let mut words = Vec::new();
        for rows in self.pieces() {
            words.resize((rows.end - rows.start) as usize * self.width, 0);
            let bytes = bytemuck::cast_slice_mut(&mut words);
            from.read_exact(bytes).map_err(|_| super::checkpoint::damaged())?;
            words.iter_mut().for_each(|word| *word = u64::from_le(*word));
            self.write(rows, &words)?;
        }
        Ok(())
    }

    /// Writes the words of all rows as bytes in little-endian order, piece by piece.
    pub(crate) fn copy_to(&self, to: &mut dyn Write) -> io::Result<()> {
        let mut words = Vec::new();
        for rows in self.pieces() {
            words.resize((rows.end - rows.start) as usize * self.width, 0);
            self.read(rows, &mut words).map_err(io::Error::other)?;
            words.iter_mut().for_each(|word| *word = word.to_le());
            to.write_all(bytemuck::cast_slice(&words))?;
        }
        Ok(())
    }

    /// Takes the words of the other ranks' rows from them; only those of `own` are up to date here. Ranks have them in their order.
    ///
    /// # Errors
    /// As [`read`](Self::read) and [`write`](Self::write); if a rank cannot be reached.
    fn gather(&mut self, own: &Range<u64>, executor: &Executor) -> Result<()> {
        for rows in self.pieces() {
            let start = own.start.clamp(rows.start, rows.end);
            let own = start..own.end.clamp(start, rows.end);
            let mut words = vec![0; (own.end - own.start) as usize * self.width];
            let read = self.read(own, &mut words);
            let words = executor.gather_or_fail(read.map(|()| words))?;
            self.write(rows, &words)?;
        }
        Ok(())
    }

    /// Rows that pass through memory together.
    fn pieces(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let (n, rows) = (self.len, (PIECE / self.width.max(1)).max(1) as u64);
        (0..n).step_by(rows as usize).map(move |start| start..n.min(start + rows))
    }

    /// Which words of the memory some rows have, and where in the file the others of them begin.
    fn split(&self, rows: &Range<u64>, words: usize) -> (Range<usize>, u64) {
        assert!(rows.start <= rows.end && rows.end <= self.len, "rows {rows:?} of {}", self.len);
        assert_eq!(words as u64, (rows.end - rows.start) * self.width as u64, "words of {rows:?}");
        let in_memory = (self.memory.len() / self.width) as u64;
        let word = |row: u64| row.min(in_memory) as usize * self.width;
        (word(rows.start)..word(rows.end), rows.start.max(in_memory) - in_memory)
    }
}

/// A [`RowMemory`], and the words of the rows of the window in work, by their positions in it.
#[derive(Debug)]
pub(crate) struct WindowRows {
    memory: RowMemory,
    window: Option<StreamPosition>,
    /// The chunks of the window, whose words stand in this order.
    ranges: Vec<Range<u64>>,
    at_hand: Vec<u64>,
    /// The rows that are up to date here, if other ranks have the others.
    own: Option<Range<u64>>,
}

impl WindowRows {
    pub(crate) fn new(memory: RowMemory) -> Self {
        Self { memory, window: None, ranges: Vec::new(), at_hand: Vec::new(), own: None }
    }

    /// Returns the words of all rows. Those at hand may be newer, until [`put_back`](Self::put_back).
    pub(crate) fn memory(&mut self) -> &mut RowMemory {
        &mut self.memory
    }

    /// Returns the words of a row.
    pub(crate) fn width(&self) -> usize {
        self.memory.width()
    }

    /// Tells whether a window was turned to.
    pub(crate) fn has_window(&self) -> bool {
        self.window.is_some()
    }

    /// Brings the words of a window's rows to hand, and those of the window before back to where they are kept.
    ///
    /// # Errors
    /// As [`RowMemory::read`] and [`RowMemory::write`].
    pub(crate) fn turn_to<T: Scalar>(&mut self, window: &ShuffledWindow<T>) -> Result<()> {
        if self.window == Some(window.place()) {
            return Ok(());
        }
        self.put_back()?;
        self.ranges = window.ranges().to_vec();
        let rows: u64 = self.ranges.iter().map(|range| range.end - range.start).sum();
        self.at_hand.resize(rows as usize * self.width(), 0);
        let mut rest = &mut self.at_hand[..];
        for range in &self.ranges {
            let words = (range.end - range.start) as usize * self.memory.width();
            let (words, after) = rest.split_at_mut(words);
            self.memory.read(range.clone(), words)?;
            rest = after;
        }
        self.window = Some(window.place());
        Ok(())
    }

    /// Notes that other ranks have changed the words of all other rows than these.
    pub(crate) fn keep_own(&mut self, rows: Range<u64>) {
        self.own = Some(rows);
    }

    /// Returns the words of all rows, up to date on all ranks.
    ///
    /// # Errors
    /// As [`RowMemory::write`]; if a rank cannot be reached.
    pub(crate) fn complete(&mut self, executor: &Executor) -> Result<&mut RowMemory> {
        self.put_back()?;
        if let Some(own) = self.own.take() {
            self.memory.gather(&own, executor)?;
        }
        Ok(&mut self.memory)
    }

    /// Brings the words at hand back to where they are kept. They stay at hand.
    ///
    /// # Errors
    /// As [`RowMemory::write`].
    pub(crate) fn put_back(&mut self) -> Result<()> {
        let mut rest = &self.at_hand[..];
        for range in &self.ranges {
            let words = (range.end - range.start) as usize * self.memory.width();
            let (words, after) = rest.split_at(words);
            self.memory.write(range.clone(), words)?;
            rest = after;
        }
        Ok(())
    }

    /// Returns the words of the rows at some positions of the window.
    pub(crate) fn rows(&self, positions: &[u32]) -> Vec<u64> {
        let width = self.width();
        let mut words = Vec::with_capacity(positions.len() * width);
        for &position in positions {
            words.extend_from_slice(&self.at_hand[position as usize * width..][..width]);
        }
        words
    }

    /// Replaces the words of the rows at some positions of the window.
    pub(crate) fn set_rows(&mut self, positions: &[u32], words: &[u64]) {
        let width = self.width();
        for (&position, words) in positions.iter().zip(words.chunks_exact(width)) {
            self.at_hand[position as usize * width..][..width].copy_from_slice(words);
        }
    }
}

impl Spill {
    fn seek(&self, row: u64, width: usize) -> Result<()> {
        let to = SeekFrom::Start(row * 8 * width as u64);
        (&self.file).seek(to).map(drop).map_err(|fault| no_room(&self.folder, &fault))
    }
}

/// Fails: a build without files keeps all words in memory.
#[cfg(not(feature = "files"))]
fn tempfile_in(_: &Path) -> io::Result<File> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this build lacks the feature `files`"))
}

fn no_room(folder: &Path, fault: &io::Error) -> Error {
    let message = format!("a temporary file for the states of points: {fault}");
    Error::io(folder, io::Error::new(fault.kind(), message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_same_in_memory_on_the_disk_and_across_the_border() {
        let folder = tempfile::tempdir().unwrap();
        let (n, width) = (100u64, 3);
        for bytes in [0, 24, 24 * 37 + 5, u64::from(u32::MAX)] {
            let mut kept = RowMemory::new(n, width, bytes, folder.path()).unwrap();
            let on_disk = n.saturating_sub(bytes / 24) * 24;
            assert_eq!((kept.spilled_bytes(), kept.width()), (on_disk, width));
            let word = |k: u64| k.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut all = vec![7; 300];
            kept.read(0..n, &mut all).unwrap();
            assert!(all.iter().all(|&word| word == 0));
            // Out of order, in pieces that lie on both sides of the border.
            for rows in [60..100, 30..60, 0..1, 1..30, 5..5] {
                let words: Vec<u64> = (rows.start * 3..rows.end * 3).map(word).collect();
                kept.write(rows, &words).unwrap();
            }
            kept.read(0..n, &mut all).unwrap();
            assert!(all.iter().enumerate().all(|(k, &found)| found == word(k as u64)));
            let mut some = vec![0; 6];
            kept.read(36..38, &mut some).unwrap();
            assert_eq!(some, (108..114).map(word).collect::<Vec<_>>());
        }
        // Nothing of it can be seen, now or later.
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn rows_come_back_from_bytes_and_short_bytes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = RowMemory::new(50, 2, 16 * 20, folder.path()).unwrap();
        let words: Vec<u64> = (0..100u64).map(|k| k << 40 | k).collect();
        memory.write(0..50, &words).unwrap();
        let mut bytes = Vec::new();
        memory.copy_to(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 800);
        let mut again = RowMemory::new(50, 2, 0, folder.path()).unwrap();
        assert!(again.fill(&mut &bytes[..799]).is_err());
        again.fill(&mut &bytes[..]).unwrap();
        let mut found = vec![0; 100];
        again.read(0..50, &mut found).unwrap();
        assert_eq!(found, words);
    }

    #[test]
    fn a_folder_that_takes_no_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = folder.path().join("nowhere");
        let fault = RowMemory::new(10, 1, 0, &nowhere).unwrap_err().to_string();
        assert!(fault.contains("nowhere") && fault.contains("states of points"), "{fault}");
        assert!(RowMemory::new(10, 1, 80, &nowhere).is_ok(), "all are in memory");
    }

    /// A device that is full, whatever is written.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told() {
        let file = File::options().read(true).write(true).open("/dev/full").unwrap();
        let spill = Spill { file, folder: "somewhere".into() };
        let mut kept = RowMemory { width: 1, len: 10, memory: Vec::new(), file: Some(spill) };
        let fault = kept.write(0..10, &[1; 10]).unwrap_err().to_string();
        assert!(fault.contains("somewhere") && fault.contains("No space left"), "{fault}");
    }
}
