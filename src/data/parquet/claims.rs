//! Sizes that a Parquet file claims, held against its bytes before the crate believes them.
//!
//! The footer and the head of each page are structures of Thrift's [compact protocol](https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md).
//! The crate counts through lists of any length, and unpacks pages of any size.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Values of a column in a row group at most: so many, and so many more for each byte of the file. Runs of equal values take no room, so
/// a file of any size may say that it has any number of them.
const LEAST_VALUES: u64 = 1 << 23;
const VALUES_PER_BYTE: u64 = 64;

/// Bytes of a page at most: so many, and so many more for each byte that it has in the file.
const LEAST_UNPACKED: u64 = 64 << 20;
const UNPACKED_PER_BYTE: u64 = 4096;

/// Bytes that a head of a page may have. Most have less than 100; the least and the greatest value of a page of texts may be long.
const FIRST_HEAD: u64 = 4096;
const LONGEST_HEAD: u64 = 16 << 20;

/// Structures within structures.
const DEEPEST: u8 = 32;

/// Checks that the lists of the footer have no more elements than the footer has bytes.
pub(super) fn check_footer(file: &mut File, len: u64) -> io::Result<Result<(), String>> {
    let Some(end) = len.checked_sub(8) else { return Ok(Err("no footer".to_owned())) };
    let mut length = [0; 4];
    file.seek(SeekFrom::Start(end))?;
    file.read_exact(&mut length)?;
    let length = u64::from(u32::from_le_bytes(length));
    let Some(start) = end.checked_sub(length) else {
        return Ok(Err(format!("a footer of {length} bytes in a file of {len}")));
    };
    let footer = read(file, start, length)?;
    let is_sound = Structure::new(&footer).fields(DEEPEST, None).is_some();
    Ok(if is_sound { Ok(()) } else { Err("its footer claims more than it holds".to_owned()) })
}

/// Checks the heads of the pages of a column in a row group, which begin at a byte of the file and have so many bytes.
pub(super) fn check_pages(
    file: &mut File,
    len: u64,
    (start, length): (i64, i64),
) -> io::Result<Result<(), String>> {
    let damaged = |message: &str| Ok(Err(message.to_owned()));
    let end = start.checked_add(length).and_then(|end| u64::try_from(end).ok());
    let (Ok(mut at), Some(end), 0..) =
        (u64::try_from(start), end.filter(|&end| end <= len), length)
    else {
        return damaged("a column that does not lie in the file");
    };
    let most = LEAST_VALUES.saturating_add(VALUES_PER_BYTE.saturating_mul(len));
    let mut values = 0u64;
    while at < end {
        let Some((page, head)) = head_at(file, at, end)? else {
            return damaged("the head of a page claims more than it holds");
        };
        let number = |path| page.iter().find(|it| it.0 == path).map_or(0, |it| it.1);
        let size = |path| u64::try_from(number(path)).ok();
        let (Some(unpacked), Some(packed)) = (size((2, 0)), size((3, 0))) else {
            return damaged("a page of negative size");
        };
        if unpacked > LEAST_UNPACKED.saturating_add(UNPACKED_PER_BYTE.saturating_mul(packed)) {
            return damaged(&format!("a page of {packed} bytes claims to be {unpacked} unpacked"));
        }
        // Heads of pages of data, in both versions.
        for path in [(5, 1), (8, 1)] {
            values = values.saturating_add(size(path).unwrap_or(u64::MAX));
        }
        if values > most {
            return damaged(&format!("more than {VALUES_PER_BYTE} values of a column to a byte"));
        }
        at = at.saturating_add(head).saturating_add(packed);
    }
    Ok(Ok(()))
}

/// The numbers of a structure, each with its field and the field within that field, or 0.
type Numbers = Vec<((i64, i64), i64)>;

/// Reads the head of a page; returns its numbers and its length, or nothing if it does not end.
fn head_at(file: &mut File, at: u64, end: u64) -> io::Result<Option<(Numbers, u64)>> {
    let mut length = FIRST_HEAD;
    loop {
        let some = length.min(end - at);
        let bytes = read(file, at, some)?;
        let mut structure = Structure::new(&bytes);
        if structure.fields(DEEPEST, None).is_some() {
            return Ok(Some((structure.numbers, some - structure.rest.len() as u64)));
        }
        if some == end - at || length > LONGEST_HEAD {
            return Ok(None);
        }
        length *= 16;
    }
}

fn read(file: &mut File, at: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A structure that is gone through. Methods return nothing where it is damaged.
struct Structure<'a> {
    rest: &'a [u8],
    /// Elements that its lists may still have, all together.
    left: u64,
    numbers: Numbers,
}

impl<'a> Structure<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, left: bytes.len() as u64, numbers: Vec::new() }
    }

    fn take(&mut self, count: u64) -> Option<()> {
        let (_, rest) = self.rest.split_at_checked(usize::try_from(count).ok()?)?;
        self.rest = rest;
        Some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn integer(&mut self) -> Option<i64> {
        let zigzag = self.varint()?;
        Some((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    /// Goes through fields until their end. Numbers of this structure, and of those in it, are kept.
    fn fields(&mut self, depth: u8, outer: Option<i64>) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let mut id = 0i64;
        loop {
            let head = self.byte()?;
            let kind = head & 15;
            if kind == 0 {
                return Some(());
            }
            id = match head >> 4 {
                0 => self.integer()?,
                more => id.checked_add(more.into())?,
            };
            match (kind, outer) {
                (4..=6, _) => {
                    let path = outer.map_or((id, 0), |outer| (outer, id));
                    let value = self.integer()?;
                    self.numbers.push((path, value));
                }
                (12, None) => self.fields(depth, Some(id))?,
                _ => self.value(kind, depth)?,
            }
        }
    }

    /// Goes through a value, in the way of the crate: booleans of lists take no bytes there.
    fn value(&mut self, kind: u8, depth: u8) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            1 | 2 => Some(()),
            3 => self.take(1),
            4..=6 => self.varint().map(drop),
            7 => self.take(8),
            8 => {
                let length = self.varint()?;
                self.take(length)
            }
            9 | 10 => {
                let head = self.byte()?;
                let size = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                self.left = self.left.checked_sub(size)?;
                (0..size).try_for_each(|_| self.element(head & 15, depth))
            }
            11 => {
                let size = self.varint()?;
                self.left = self.left.checked_sub(size)?;
                let kinds = if size > 0 { self.byte()? } else { 0 };
                (0..size).try_for_each(|_| {
                    self.element(kinds >> 4, depth)?;
                    self.element(kinds & 15, depth)
                })
            }
            12 => self.element(kind, depth),
            13 => self.take(16),
            _ => None,
        }
    }

    fn element(&mut self, kind: u8, depth: u8) -> Option<()> {
        match kind {
            12 => {
                let depth = depth.checked_sub(1)?;
                loop {
                    let head = self.byte()?;
                    if head & 15 == 0 {
                        return Some(());
                    }
                    if head >> 4 == 0 {
                        self.integer()?;
                    }
                    self.value(head & 15, depth)?;
                }
            }
            kind => self.value(kind, depth),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_fields_and_lists_their_bytes() {
        // Fields 1 (number -3), 5 (a structure with number 300 as field 1), 6 (two bytes), 7 (a list of three numbers).
        let mut bytes =
            vec![0x15, 5, 0x4c, 0x15, 0xd8, 0x04, 0, 0x18, 2, 1, 2, 0x19, 0x35, 2, 4, 6, 0, 9];
        let mut structure = Structure::new(&bytes);
        structure.fields(DEEPEST, None).unwrap();
        assert_eq!(
            (structure.numbers, structure.rest),
            (vec![((1, 0), -3), ((5, 1), 300)], &[9][..])
        );
        for end in 0..17 {
            assert!(Structure::new(&bytes[..end]).fields(DEEPEST, None).is_none(), "{end}");
        }
        // A list of 2^31 booleans, which take no bytes.
        bytes.splice(16.., [0x19, 0xf1, 0x80, 0x80, 0x80, 0x80, 8, 0]);
        assert!(Structure::new(&bytes).fields(DEEPEST, None).is_none());
        // Lists of lists, deeper than any.
        let deep: Vec<u8> = std::iter::once(0x19).chain([0x19; 100]).collect();
        assert!(Structure::new(&deep).fields(DEEPEST, None).is_none());
    }
}
