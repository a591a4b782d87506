//! The lines of a text, cut into cells.

use crate::data::compressed;
use crate::data::table::cells::{Cells, Decimal};
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};

/// Bytes that a quoted cell may have. A longer cell is a quote that was not closed.
const LONGEST_CELL: usize = 1 << 20;

/// Bytes and cells that a line may have: a point of half a million dimensions. What is longer is no table, or was packed to fill the
/// memory.
const LONGEST_LINE: u64 = 32 << 20;
const MOST_CELLS: usize = 1 << 19;

/// What stands between the cells of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Separator {
    Byte(u8),
    WhiteSpace,
}

impl Separator {
    /// Returns the separator that finds the most numbers in the first two lines of `head`; of these the first that cuts both lines
    /// into as many cells, and then the separator that finds the fewest cells of other text. With `any_decimal`, `1,5` between semicolons or tabs is a number.
    pub fn detect(head: &[u8], cells: &Cells, any_decimal: bool) -> io::Result<Self> {
        // Higher is better: numbers, whether both lines have as many cells, other texts.
        type Rank = (usize, bool, Reverse<usize>);
        let mut best: Option<(Self, Rank)> = None;
        let all = [Self::Byte(b','), Self::Byte(b';'), Self::Byte(b'\t'), Self::WhiteSpace];
        for separator in all {
            // Where a comma is the decimal sign, it stands between cells only if these are quoted.
            let is_decimal = separator == Self::Byte(b',') && cells.decimal == Decimal::Comma;
            if is_decimal && !head.contains(&b'"') {
                continue;
            }
            let cells = separator.cells(cells, any_decimal);
            let mut records = Records::new(head, separator, cells.clone());
            let (mut numbers, mut texts, mut widths) = (0, 0, Vec::new());
            while widths.len() < 2 && records.advance()? {
                widths.push(records.cells().count());
                for cell in records.cells().filter(|cell| !cells.is_missing(cell)) {
                    *if cells.number(cell).is_some() { &mut numbers } else { &mut texts } += 1;
                }
            }
            let is_even = widths.first() == widths.last();
            let score = (numbers, is_even, Reverse(texts));
            if best.is_none_or(|(_, best)| score > best) {
                best = Some((separator, score));
            }
        }
        Ok(best.map_or(Self::WhiteSpace, |(separator, _)| separator))
    }

    /// Returns how to read cells between these separators. Between commas `"1,234"` may be a whole number, so there it is none.
    pub fn cells(self, cells: &Cells, any_decimal: bool) -> Cells {
        match self {
            Self::Byte(b';' | b'\t') if any_decimal => {
                Cells { decimal: Decimal::Either, ..cells.clone() }
            }
            _ => cells.clone(),
        }
    }
}

/// Reads the lines of a text that are neither blank nor comments, and cuts them into cells.
pub(super) struct Records<R> {
    reader: R,
    separator: Separator,
    values: Cells,
    /// Lines that were read too far.
    ahead: VecDeque<Vec<u8>>,
    /// The lines of the record.
    text: Vec<u8>,
    /// Its cells, one after another, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Line on which the record begins, and the last line that was read; they count from 1.
    line: u64,
    read: u64,
    /// Cells of the lines before.
    columns: Option<usize>,
    has_open_quote: bool,
    /// Whether text follows a quote that closes, as where a quote of another cell was taken for it.
    has_stray_text: bool,
    /// Comments that would be rows without their `#`.
    rows_in_comments: u64,
}

impl<R: BufRead> Records<R> {
    pub fn new(reader: R, separator: Separator, values: Cells) -> Self {
        Self {
            reader,
            separator,
            values,
            ahead: VecDeque::new(),
            text: Vec::new(),
            bytes: Vec::new(),
            ends: Vec::new(),
            line: 0,
            read: 0,
            columns: None,
            has_open_quote: false,
            has_stray_text: false,
            rows_in_comments: 0,
        }
    }

    /// Says how many cells a line has.
    pub fn expect(&mut self, columns: usize) {
        self.columns = Some(columns);
    }

    /// Goes to the next record; false at the end.
    pub fn advance(&mut self) -> io::Result<bool> {
        loop {
            self.text.clear();
            if !self.read_line()? {
                return Ok(false);
            }
            self.line = self.read;
            self.has_open_quote = false;
            let line = self.text.trim_ascii();
            if line.is_empty() {
                continue;
            }
            let may_be_comment = line[0] == b'#';
            self.read_record()?;
            if may_be_comment && self.is_comment() {
                self.rows_in_comments += u64::from(self.is_row_in_comment());
                continue;
            }
            self.columns.get_or_insert(self.ends.len());
            return Ok(true);
        }
    }

    /// Returns the line on which the record begins, counted from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Returns the text of the record, without its line end.
    pub fn text(&self) -> &[u8] {
        let text = self.text.strip_suffix(b"\n").unwrap_or(&self.text);
        text.strip_suffix(b"\r").unwrap_or(text)
    }

    /// Returns the number of comments so far that would be rows without their `#`.
    pub fn rows_in_comments(&self) -> u64 {
        self.rows_in_comments
    }

    /// Tells whether a quote that opens in the record is not closed.
    pub fn has_open_quote(&self) -> bool {
        self.has_open_quote
    }

    pub fn cells(&self) -> impl Iterator<Item = &[u8]> {
        let start = |i: usize| if i == 0 { 0 } else { self.ends[i - 1] };
        (0..self.ends.len()).map(move |i| self.bytes[start(i)..self.ends[i]].trim_ascii())
    }

    /// Appends the next line to the text; false at the end.
    fn read_line(&mut self) -> io::Result<bool> {
        match self.ahead.pop_front() {
            Some(line) => self.text.extend(line),
            None if read_line(&mut self.reader, &mut self.text)? == 0 => return Ok(false),
            None => {}
        }
        self.read += 1;
        Ok(true)
    }

    /// Cuts the record that begins with the line. A quote that is not closed, or that would join lines to a record of other
    /// columns, is a fault of its line alone: no line after it is lost.
    fn read_record(&mut self) -> io::Result<()> {
        // Fewer bytes have fewer cells.
        if self.text.len() >= MOST_CELLS && self.count_cells() > MOST_CELLS {
            let message = format!("line {}: more than {MOST_CELLS} cells", self.read);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        if !self.split() {
            return Ok(());
        }
        let mut lengths = vec![self.text.len()];
        let mut is_open = true;
        while is_open && self.text.len() < LONGEST_CELL && self.read_line()? {
            let has_quote = self.text[lengths[lengths.len() - 1]..].contains(&b'"');
            lengths.push(self.text.len());
            is_open = !has_quote || self.split();
        }
        let is_other = self.columns.is_some_and(|columns| columns != self.ends.len());
        if is_open || is_other || self.has_stray_text {
            self.has_open_quote = true;
            for range in lengths.windows(2).rev() {
                self.ahead.push_front(self.text[range[0]..range[1]].to_vec());
                self.read -= 1;
            }
            self.text.truncate(lengths[0]);
            self.split();
        }
        Ok(())
    }

    fn count_cells(&self) -> usize {
        match self.separator {
            Separator::Byte(byte) => self.text.iter().filter(|it| **it == byte).count() + 1,
            Separator::WhiteSpace => {
                let cells = self.text.split(u8::is_ascii_whitespace);
                cells.filter(|cell| !cell.is_empty()).count()
            }
        }
    }

    /// Cuts the text into cells; returns whether it ends between quotes.
    fn split(&mut self) -> bool {
        self.bytes.clear();
        self.ends.clear();
        self.has_stray_text = false;
        let text = match self.text.strip_suffix(b"\n") {
            Some(text) => text,
            None => &self.text[..],
        };
        let separator = match self.separator {
            Separator::WhiteSpace => {
                let cells = text.split(u8::is_ascii_whitespace).filter(|cell| !cell.is_empty());
                for cell in cells {
                    self.bytes.extend_from_slice(cell);
                    self.ends.push(self.bytes.len());
                }
                return false;
            }
            Separator::Byte(byte) => byte,
        };
        if !text.contains(&b'"') {
            for cell in text.split(|&byte| byte == separator) {
                self.bytes.extend_from_slice(cell);
                self.ends.push(self.bytes.len());
            }
            return false;
        }
        let (mut is_quoted, mut at) = (false, 0);
        // Spaces before a quote are no text of the cell.
        let (mut is_start, mut was_quoted) = (true, false);
        while at < text.len() {
            let byte = text[at];
            at += 1;
            match byte {
                b'"' if is_quoted && text.get(at) == Some(&b'"') => {
                    self.bytes.push(b'"');
                    at += 1;
                }
                b'"' if is_quoted => (is_quoted, was_quoted) = (false, true),
                b'"' if is_start => is_quoted = true,
                _ if byte == separator && !is_quoted => {
                    self.ends.push(self.bytes.len());
                    (is_start, was_quoted) = (true, false);
                    continue;
                }
                _ => {
                    self.bytes.push(byte);
                    is_start &= byte == b' ';
                    self.has_stray_text |= was_quoted && !is_quoted && !byte.is_ascii_whitespace();
                    continue;
                }
            }
            is_start = false;
        }
        self.ends.push(self.bytes.len());
        is_quoted
    }

    /// Tells whether a line that begins with `#` is a comment, and not a row: of as many cells, with a text or a missing value first
    /// and a number or a missing value after it.
    fn is_comment(&self) -> bool {
        let mut cells = self.cells();
        let first = cells.next().unwrap_or_default();
        let rest: Vec<&[u8]> = cells.collect();
        let is_value =
            |cell: &&[u8]| self.values.is_missing(cell) || self.values.number(cell).is_some();
        if self.values.is_sign(first) {
            return self.columns.map_or(rest.is_empty() || !rest.iter().all(is_value), |columns| {
                columns != rest.len() + 1
            });
        }
        let is_row = self.columns == Some(rest.len() + 1)
            && rest.iter().any(is_value)
            && first.get(1).is_some_and(|byte| !byte.is_ascii_whitespace())
            && self.values.number(&first[1..]).is_none();
        !is_row
    }

    /// Tells whether a comment has as many cells as a row, all of them numbers but for the `#`.
    fn is_row_in_comment(&self) -> bool {
        let is_number = |(i, cell): (usize, &[u8])| {
            let digits =
                if i == 0 { cell.strip_prefix(b"#").unwrap_or(cell).trim_ascii() } else { cell };
            self.values.number(digits).is_some()
        };
        self.columns == Some(self.ends.len()) && self.cells().enumerate().all(is_number)
    }
}

/// Unpacks a text that may be compressed, and reads its head. Returns the head and the reader of the rest.
pub(super) fn open<'a>(reader: impl Read + 'a) -> io::Result<(Vec<u8>, impl BufRead + 'a)> {
    let reader = BufReader::with_capacity(1 << 16, reader);
    let mut reader = BufReader::with_capacity(1 << 16, compressed::decompressed(reader)?);
    Ok((read_head(&mut reader)?, reader))
}

/// Appends the next line; returns how many bytes it has.
fn read_line(reader: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<usize> {
    let count = reader.take(LONGEST_LINE).read_until(b'\n', text)?;
    if count as u64 == LONGEST_LINE && !text.ends_with(b"\n") {
        let message = "a line of more than 32 MiB, expected a point a line";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(count)
}

/// Reads the head of a text: as many lines as it takes to lay out the columns. The byte order mark is left out.
fn read_head(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    const LINES: usize = 1000;
    const BYTES: usize = 1 << 20;
    let mut head = Vec::new();
    for line in 0..LINES {
        if head.len() > BYTES || read_line(reader, &mut head)? == 0 {
            break;
        }
        if line == 0 && head.starts_with(b"\xef\xbb\xbf") {
            head.drain(..3);
        }
    }
    Ok(head)
}
