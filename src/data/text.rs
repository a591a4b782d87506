//! Points as text: comma, semicolon, tab or white-space separated values, one point a line.
//!
//! The separator and whether there is a header are detected. Blank lines, lines that start with `#`, a byte
//! order mark and Windows line ends are passed over. Fields may be quoted unless white space separates them.

use super::memory::Points;
use super::positioned::open_readable;
use super::shuffle::BadRows;
use super::spool::{Kept, Spool, Table, no_room};
use super::weights::check_weights;
use super::{DataSource, OpenOptions, compressed};
use crate::error::{DataError, Error, Result};
use crate::scalar::Scalar;
use csv::{ByteRecord, Reader, ReaderBuilder, Terminator};
use std::cmp::Reverse;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Points read from text, and what their columns are called.
#[derive(Clone, Debug)]
pub struct TextTable<T: Scalar> {
    /// The points, with their weights if a column was split out.
    pub points: Points<'static, T>,
    /// Names of the columns of `points`, if the text has a header.
    pub header: Option<Vec<String>>,
}

/// Opens a text file, which may be compressed, as a source: in memory, or in a temporary file if it is larger than
/// `options.memory`. The system's folder for temporary files (`TMPDIR`) must have room for it.
pub(super) fn open_text<T: Scalar>(
    path: &Path,
    options: &OpenOptions,
) -> Result<Box<dyn DataSource<T>>> {
    let (file, _) = open_readable(path)?;
    let name = path.display().to_string();
    let skips = options.bad_rows == BadRows::Skip;
    let reading = Reading { skips, memory: options.memory, missing: options.missing };
    parse(file, &name, options.weights_column.as_deref(), reading)?.into_source(path)
}

/// Reads a text file into memory.
///
/// Values are parsed as `f64` and rounded to `T`; `nan` and `inf` are numbers here. With `weights_column`, a
/// name or an index from 0, that column is not a dimension of the points but their weights.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`DataError`] for text that is not a matrix of numbers. Its row
/// counts points and its column counts columns of the file, weights included; the message has the line.
pub fn read_text<T: Scalar>(
    path: impl AsRef<Path>,
    weights_column: Option<&str>,
) -> Result<TextTable<T>> {
    let path = path.as_ref();
    let (file, _) = open_readable(path)?;
    parse_text(file, &path.display().to_string(), weights_column)
}

/// Reads text from anywhere into memory, as [`read_text`] does; `name` is for messages.
///
/// # Errors
/// As [`read_text`].
///
/// # Example
/// ```
/// use entropysum::expert::parse_text;
/// let text = "x; y; weight\n1.5; 2; 1\n2.5; 3; 0.5\n";
/// let table = parse_text::<f64>(text.as_bytes(), "example", Some("weight"))?;
/// assert_eq!(table.header.unwrap(), ["x", "y"]);
/// assert_eq!(table.points.view()[(1, 0)], 2.5);
/// assert_eq!(table.points.weights(), Some(&[1.0, 0.5][..]));
/// # Ok::<(), entropysum::error::Error>(())
/// ```
pub fn parse_text<T: Scalar>(
    reader: impl Read,
    name: &str,
    weights_column: Option<&str>,
) -> Result<TextTable<T>> {
    let table = parse(reader, name, weights_column, Reading::default())?;
    let Ok(Kept::Memory(values)) = table.values.finish() else {
        unreachable!("there is no limit to the memory")
    };
    let mut points = Points::owned(values, table.dim)?.named(name);
    if let Some(weights) = table.weights {
        points = points.with_weights(weights)?;
    }
    Ok(TextTable { points, header: table.header })
}

/// How text is read.
#[derive(Clone, Copy, Default)]
struct Reading {
    /// Whether lines that are no points are left out.
    skips: bool,
    /// Bytes of points in memory, where there is a limit.
    memory: Option<u64>,
    /// Whether missing values become NaN.
    missing: bool,
}

fn parse<T: Scalar>(
    reader: impl Read,
    name: &str,
    weights_column: Option<&str>,
    reading: Reading,
) -> Result<Table<T>> {
    let io = |fault| Error::io(name, fault);
    let fault = |message: String| DataError::new(name, message);

    let reader = BufReader::with_capacity(1 << 16, reader);
    let reader = compressed::decompressed(reader).map_err(io)?;
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let head = read_head(&mut reader).map_err(io)?;
    if head.contains(&0) {
        return Err(fault("binary data or UTF-16, expected text in UTF-8".to_owned()).into());
    }
    let separator = Separator::detect(&head).map_err(io)?;
    let mut records = Records::new(head.chain(reader), separator);
    if !records.advance().map_err(io)? {
        return Err(fault("no points: only blank lines and comments".to_owned()).into());
    }

    let first_line = records.line();
    let columns = records.cells().count();
    let mut header =
        records.cells().any(|cell| !is_missing(cell) && parse_number(cell).is_none()).then(|| {
            let quotes: &[char] =
                if separator == Separator::WhiteSpace { &['"', '\''] } else { &[] };
            let name = |cell| String::from_utf8_lossy(cell).trim_matches(quotes).to_owned();
            records.cells().map(name).collect::<Vec<_>>()
        });
    let weights_at = weights_column
        .map(|wanted| find_column(wanted, header.as_deref(), columns))
        .transpose()
        .map_err(fault)?;

    let mut values = Spool::new(reading.memory);
    let mut weights = Vec::new();
    let (mut rows, mut skipped) = (0, 0);
    let mut row = Vec::new();
    let mut more = header.is_none() || records.advance().map_err(io)?;
    while more {
        match read_row(
            &records,
            columns,
            first_line,
            weights_at,
            header.as_deref(),
            reading.missing,
            &mut row,
        ) {
            Ok(weight) => {
                values.extend(&row).map_err(|fault| no_room(name, &fault))?;
                weights.extend(weight);
                rows += 1;
            }
            Err(_) if reading.skips => skipped += 1,
            Err((column, message)) => return Err(fault(message).at(rows, column).into()),
        }
        more = records.advance().map_err(io)?;
    }
    if rows == 0 {
        return Err(fault(format!("no points after the header on line {first_line}")).into());
    }

    if weights_at.is_some() {
        check_weights(name, &weights, rows)?;
    }
    if let (Some(column), Some(names)) = (weights_at, &mut header) {
        names.remove(column);
    }
    let dim = columns - usize::from(weights_at.is_some());
    Ok(Table { values, weights: weights_at.map(|_| weights), header, dim, skipped })
}

/// Reads the cells of a record into `row`, and returns its weight where a column holds weights; or the column, if it is
/// one, and what is wrong.
fn read_row<T: Scalar, R: Read>(
    records: &Records<R>,
    columns: usize,
    first_line: u64,
    weights_at: Option<usize>,
    header: Option<&[String]>,
    missing: bool,
    row: &mut Vec<T>,
) -> Result<Option<f64>, (Option<usize>, String)> {
    row.clear();
    let mut weight = None;
    let found = records.cells().count();
    if found != columns {
        let message = format!(
            "line {}: found {found} columns, expected {columns} as on line {first_line}",
            records.line()
        );
        return Err((None, message));
    }
    for (column, cell) in records.cells().enumerate() {
        let absent = missing && weights_at != Some(column) && is_missing(cell);
        let Some(value) = (if absent { Some(f64::NAN) } else { parse_number(cell) }) else {
            let title = header.map_or(String::new(), |names| format!(" ({:?})", names[column]));
            let message = format!("line {}{title}: {}", records.line(), not_a_number(cell));
            return Err((Some(column), message));
        };
        if weights_at == Some(column) {
            weight = Some(value);
        } else {
            row.push(T::from_f64(value));
        }
    }
    Ok(weight)
}

/// The index of a column given by name or by index; names go first.
fn find_column(wanted: &str, header: Option<&[String]>, columns: usize) -> Result<usize, String> {
    let by_name = header.and_then(|names| names.iter().position(|name| name == wanted));
    match by_name.or_else(|| wanted.parse().ok().filter(|index| *index < columns)) {
        Some(_) if columns == 1 => {
            Err("the only column holds the weights, expected points too".to_owned())
        }
        Some(column) => Ok(column),
        None => {
            let names =
                header.map_or(String::new(), |names| format!(" or one of {}", names.join(", ")));
            Err(format!(
                "there is no weights column {wanted:?}, expected an index from 0 to {}{names}",
                columns - 1
            ))
        }
    }
}

/// What a cell that should be a number is instead.
fn not_a_number(cell: &[u8]) -> String {
    if is_missing(cell) {
        return "missing value".to_owned();
    }
    let text = String::from_utf8_lossy(cell);
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("\"{}...\" is not a number", &text[..end]),
        None => format!("{text:?} is not a number"),
    }
}

fn parse_number(cell: &[u8]) -> Option<f64> {
    std::str::from_utf8(cell).ok()?.parse().ok()
}

fn is_missing(cell: &[u8]) -> bool {
    matches!(cell, b"" | b"NA" | b"N/A" | b"NULL" | b"null")
}

fn is_comment(cell: &[u8]) -> bool {
    cell.first() == Some(&b'#')
}

/// Reads up to the second line with content: what it takes to detect the separator. The byte order mark is
/// left out.
fn read_head(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut contents = 0;
    let mut quotes = 0;
    while contents < 2 {
        let start = head.len();
        if reader.read_until(b'\n', &mut head)? == 0 {
            break;
        }
        if start == 0 && head.starts_with(b"\xef\xbb\xbf") {
            head.drain(..3);
        }
        let line = head[start..].trim_ascii();
        if line.is_empty() || is_comment(line) {
            continue;
        }
        // A line end between quotes belongs to a name; a quote may also be just a character, so not for ever.
        quotes += line.iter().filter(|byte| **byte == b'"').count();
        contents += usize::from(quotes % 2 == 0 || head.len() > 1 << 16);
    }
    Ok(head)
}

/// What stands between the cells of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Separator {
    Byte(u8),
    WhiteSpace,
}

impl Separator {
    /// The separator that finds the most numbers in `head`; of these the one that finds the fewest cells of
    /// other text; of these the first of the list below.
    fn detect(head: &[u8]) -> io::Result<Self> {
        let mut best: Option<(Self, (usize, Reverse<usize>))> = None;
        for separator in [Self::Byte(b','), Self::Byte(b';'), Self::Byte(b'\t'), Self::WhiteSpace] {
            let mut records = Records::new(head, separator);
            let (mut numbers, mut texts) = (0, 0);
            while records.advance()? {
                for cell in records.cells().filter(|cell| !is_missing(cell)) {
                    *if parse_number(cell).is_some() { &mut numbers } else { &mut texts } += 1;
                }
            }
            let score = (numbers, Reverse(texts));
            if best.is_none_or(|(_, best)| score > best) {
                best = Some((separator, score));
            }
        }
        Ok(best.map_or(Self::WhiteSpace, |(separator, _)| separator))
    }
}

/// The lines of a text that are not blank and not comments, cut into cells, one at a time.
struct Records<R> {
    reader: Reader<io::Chain<R, &'static [u8]>>,
    record: ByteRecord,
    separator: Separator,
}

impl<R: Read> Records<R> {
    fn new(reader: R, separator: Separator) -> Self {
        let mut builder = ReaderBuilder::new();
        builder.has_headers(false).flexible(true).comment(Some(b'#')).buffer_capacity(1 << 16);
        // A line end of "\r\n" leaves "\r" in the last cell, where it is trimmed. Were "\r" a line end too, the
        // reader's count of lines would not tell which line a record is on.
        builder.terminator(Terminator::Any(b'\n'));
        match separator {
            Separator::Byte(byte) => builder.delimiter(byte),
            // A line is one field, which `cells` cuts: the byte is not part of any UTF-8 text.
            Separator::WhiteSpace => builder.delimiter(0xff).quoting(false),
        };
        // With a line end after the last line too, a record is always on the line before the reader's.
        let reader = builder.from_reader(reader.chain(&b"\n"[..]));
        Self { reader, record: ByteRecord::new(), separator }
    }

    /// Goes to the next record; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        while self.reader.read_byte_record(&mut self.record)? {
            let mut cells = self.cells();
            let blank = match (cells.next(), cells.next()) {
                (None, _) | (Some(b""), None) => true,
                (Some(first), _) => is_comment(first),
            };
            if !blank {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The line the record ends on, counted from 1.
    fn line(&self) -> u64 {
        self.reader.position().line() - 1
    }

    fn cells(&self) -> impl Iterator<Item = &[u8]> {
        let by_space = self.separator == Separator::WhiteSpace;
        self.record
            .iter()
            .flat_map(move |field| field.split(move |byte| by_space && byte.is_ascii_whitespace()))
            .map(<[u8]>::trim_ascii)
            .filter(move |cell| !(by_space && cell.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TextTable<f64>> {
        parse_text(text.as_bytes(), "text", None)
    }

    fn rows(table: &TextTable<f64>) -> Vec<Vec<f64>> {
        table.points.view().row_iter().map(|row| row.iter().copied().collect()).collect()
    }

    fn message(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn separators_are_detected() {
        let [comma, semicolon, tab] = [b',', b';', b'\t'].map(Separator::Byte);
        for (text, expected) in [
            ("1,2\n3,4", comma),
            ("1, 2\n3, 4", comma),
            ("1;2", semicolon),
            ("1 ; 2", semicolon),
            ("x y\n1\n", comma),
            ("1\t2\n\t4\n", tab),
            ("1,,\n,,4\n", comma),
            ("1\t2", tab),
            ("a b\tc d\n1\t2", tab),
            ("a, b;c\n1;2", semicolon),
            ("\"a;b;c\",d\n1,2", comma),
            ("1,\t2", comma),
            ("  1   2\t3\n", Separator::WhiteSpace),
            ("# a,b,c\n\n1 2", Separator::WhiteSpace),
            ("x y\n1 2\n", Separator::WhiteSpace),
            ("1", comma),
            ("", comma),
        ] {
            assert_eq!(Separator::detect(text.as_bytes()).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn the_same_table_is_read_from_every_dress() {
        for text in [
            "1,-2.5\n3,4e2\n",
            "1,-2.5\n3,4e2",
            "1;-2.5\n3;4e2\n",
            "1\t-2.5\n3\t4e2\n",
            "  1 \t -2.5  \n3 4e2 \n",
            "1,-2.5\r\n3,4e2\r\n",
            "1 -2.5\r\n3 4e2\r\n",
            "\u{feff}1,-2.5\n3,4e2\n",
            "# comment, with \"quote\n\n1,-2.5\n   \n  # another\n\t\n#\n3,4e2\n\n\n",
            "# comment\r\n\r\n1,-2.5\r\n\r\n3,4e2\r\n",
            "\"1\",\"-2.5\"\r\n\"3\",\"4e2\"\r\n",
            " 1 , -2.5 \n +3. , 400 \n",
        ] {
            let table = parse(text).unwrap();
            assert_eq!(rows(&table), [[1.0, -2.5], [3.0, 400.0]], "{text:?}");
            assert_eq!(table.header, None, "{text:?}");
        }
    }

    #[test]
    fn headers_are_detected_and_kept() {
        for (text, expected) in [
            ("x,y\n1,2\n", Some(["x", "y"])),
            ("\u{feff}\"x\",\"y\"\r\n1,2\r\n", Some(["x", "y"])),
            ("\"x\" \"y\"\n1 2\n", Some(["x", "y"])),
            ("\"a, \"\"b\"\"\nc\",y\n1,2\n", Some(["a, \"b\"\nc", "y"])),
            ("# comment\nx\ty\n1\t2\n", Some(["x", "y"])),
            (",y\n1,2\n", Some(["", "y"])),
            ("id,2020\n1,2\n", Some(["id", "2020"])),
            ("1,2\n", None),
        ] {
            let table = parse(text).unwrap();
            assert_eq!(rows(&table), [[1.0, 2.0]], "{text:?}");
            assert_eq!(
                table.header,
                expected.map(|names| names.map(str::to_owned).to_vec()),
                "{text:?}"
            );
        }
        assert!(rows(&parse("nan,inf\n1,2").unwrap())[0][0].is_nan());
    }

    #[test]
    fn faults_name_line_row_column_and_text() {
        for (text, expected) in [
            ("", "text: no points: only blank lines and comments"),
            ("# only\n\n  \n", "text: no points: only blank lines and comments"),
            ("\nx,y\n", "text: no points after the header on line 2"),
            ("1,2\n\n# c\n3,4x\n", "text: row 1, column 1: line 4: \"4x\" is not a number"),
            (
                "x,y\r\n1,2\r\n3,abc\r\n",
                "text: row 1, column 1: line 3 (\"y\"): \"abc\" is not a number",
            ),
            ("x,y\n1,2\n3,abc", "text: row 1, column 1: line 3 (\"y\"): \"abc\" is not a number"),
            ("1 2\n\n3 abc", "text: row 1, column 1: line 3: \"abc\" is not a number"),
            ("1,,3\n", "text: row 0, column 1: line 1: missing value"),
            ("NA,1\n", "text: row 0, column 0: line 1: missing value"),
            ("1,2\n3,\n", "text: row 1, column 1: line 2: missing value"),
            ("1\t2\n\t4\n", "text: row 1, column 0: line 2: missing value"),
            ("1,2\n3,4,5\n", "text: row 1: line 2: found 3 columns, expected 2 as on line 1"),
            (
                "# c\nx y\n1 2\n\n3\n",
                "text: row 1: line 5: found 1 columns, expected 2 as on line 2",
            ),
            ("1,2\n3;4\n", "text: row 1: line 2: found 1 columns, expected 2 as on line 1"),
            ("1,2\n\"3\n,4\n", "text: row 1: line 4: found 1 columns, expected 2"),
            ("x,\0\n", "text: binary data or UTF-16"),
        ] {
            let found = message(text);
            assert!(found.starts_with(expected), "{text:?}: {found}");
        }
        let long = message(&format!("1,2\n3,{}\n", "é".repeat(1000)));
        assert!(long.contains(&format!("\"{}...\" is not a number", "é".repeat(40))), "{long}");
        let latin = parse_text::<f64>(&b"1,2\n3,\xe9\n"[..], "text", None).unwrap_err().to_string();
        assert!(latin.contains("line 2: \"\u{fffd}\" is not a number"), "{latin}");
    }

    #[test]
    fn a_weights_column_is_split_out_by_name_or_index() {
        let text = "x,w,y\n1,0.5,2\n3,2,4\n";
        for wanted in ["w", "1"] {
            let table = parse_text::<f64>(text.as_bytes(), "text", Some(wanted)).unwrap();
            assert_eq!(rows(&table), [[1.0, 2.0], [3.0, 4.0]]);
            assert_eq!(table.points.weights(), Some(&[0.5, 2.0][..]));
            assert_eq!(table.header.unwrap(), ["x", "y"]);
        }
        // A name that looks like an index is a name.
        let table = parse_text::<f64>("2,a,b\n7,8,9\n".as_bytes(), "text", Some("2")).unwrap();
        assert_eq!(table.points.weights(), Some(&[7.0][..]));

        let fault = |text: &str, wanted| {
            parse_text::<f64>(text.as_bytes(), "text", Some(wanted)).unwrap_err().to_string()
        };
        assert_eq!(
            fault(text, "v"),
            "text: there is no weights column \"v\", expected an index from 0 to 2 or one of x, w, y"
        );
        assert_eq!(
            fault("1 2\n", "2"),
            "text: there is no weights column \"2\", expected an index from 0 to 1"
        );
        assert!(fault("1\n2\n", "0").contains("the only column holds the weights"));
        assert!(fault("x,w\n1,1\n1,-1\n", "w").starts_with("text: row 1: weight -1 "));
        assert!(fault("x,w\n1,0\n1,0\n", "w").contains("the weights sum to 0"));
        assert!(fault("x,w\n1,1\n1,nan\n", "w").starts_with("text: row 1: weight NaN "));
    }

    #[test]
    fn numbers_are_rounded_to_the_working_precision() {
        let table = parse_text::<f32>("0.1,16777217\n".as_bytes(), "text", None).unwrap();
        assert_eq!(table.points.view()[(0, 0)], 0.1);
        assert_eq!(table.points.view()[(0, 1)], 16777216.0);
    }
}
