//! Points as text: comma, semicolon, tab or white-space separated values, one point a line.
//!
//! The head of the text tells separator, decimal sign, names and the kinds of columns; [`table`](super::table) decides what each column is
//! used as. Blank lines, comments, a byte order mark and Windows line ends are passed over. Fields may be quoted unless white space
//! separates them.

mod head;
mod lines;
mod records;

use super::memory::Points;
use super::positioned::open_readable;
use super::shuffle::BadRows;
use super::spool::{Kept, Room, Spool, Table, no_room};
use super::table::cells::{Cells, not_a_number};
use super::table::levels::Levels;
use super::table::{Columns, Kind, Role};
use super::weights::check_weights;
use super::{DataSource, OpenOptions};
use crate::error::{DataError, Error, Result};
use crate::scalar::Scalar;
use head::Head;
pub use lines::Lines;
use records::Records;
use std::io::{BufRead, Read};
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
/// the room. The system's folder for temporary files (`TMPDIR`) must have room for it.
pub(super) fn open_text<T: Scalar>(
    path: &Path,
    options: &OpenOptions,
    room: &Room,
) -> Result<Box<dyn DataSource<T>>> {
    let (file, _) = open_readable(path)?;
    parse(file, &path.display().to_string(), options, room)?.into_source(path)
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
    let options = OpenOptions::default().weights_column(weights_column.map(str::to_owned));
    let room = Room::new(None);
    let table = parse(reader, name, &options, &room)?;
    let Ok(Kept::Memory(values)) = table.values.finish() else {
        unreachable!("there is no limit to the memory")
    };
    let mut points = Points::owned(values, table.dim)?.named(name);
    if let Some(weights) = table.weights {
        points = points.with_weights(weights)?;
    }
    let header = table.columns.named.then(|| table.columns.names());
    Ok(TextTable { points, header })
}

fn parse<'r, T: Scalar>(
    reader: impl Read,
    name: &str,
    options: &OpenOptions,
    room: &'r Room,
) -> Result<Table<'r, T>> {
    let io = |fault| Error::io(name, fault);
    let fault = |message: String| DataError::new(name, message);

    let (text, reader) = records::open(reader).map_err(io)?;
    let weights_column = options.weights_column.as_deref();
    let Head { separator, cells, has_header, columns, width } =
        Head::read(&text, weights_column, &options.table).map_err(fault)?;

    let mut records = Records::new(text.chain(reader), separator, cells.clone());
    if has_header {
        records.advance().map_err(io)?;
    }
    let header_line = records.line();
    records.expect(width);
    let mut rows = Rows::new(columns, options, cells, width);
    rows.first_line = has_header.then_some(header_line);
    let mut values = Spool::new(room);
    let mut weights = Vec::new();
    let (mut kept, mut skipped) = (0, 0);
    while records.advance().map_err(io)? {
        match rows.read(&records) {
            Ok(weight) => {
                values.extend(&rows.row).map_err(|fault| no_room(name, &fault))?;
                weights.extend(weight);
                kept += 1;
            }
            Err(_) if options.bad_rows == BadRows::Skip => skipped += 1,
            Err((column, message)) => return Err(fault(message).at(kept, column).into()),
        }
    }
    if kept == 0 {
        return Err(fault(format!("no points after the header on line {header_line}")).into());
    }
    let mut columns = rows.finish();
    let commented = records.rows_in_comments();
    if commented > 0 {
        columns.notes.push(format!(
            "{commented} line(s) of numbers begin with '#' and count as comments; delete the '#' if they are rows"
        ));
    }
    let is_weighted = columns.all.iter().any(|column| column.role == Role::Weights);
    if is_weighted {
        check_weights(name, &weights, kept)?;
    }
    let dim = columns.order.len();
    Ok(Table { values, weights: is_weighted.then_some(weights), columns, dim, skipped })
}

/// What the cells of a column become.
enum Target {
    Nothing,
    Number(usize),
    Boolean(usize),
    Level(usize, Levels),
    Weight,
}

/// Turns lines into points.
struct Rows<T> {
    columns: Columns,
    targets: Vec<Target>,
    cells: Cells,
    /// Whether missing values become NaN.
    missing: bool,
    /// Cells of a line, and the line that told.
    width: usize,
    first_line: Option<u64>,
    row: Vec<T>,
}

impl<T: Scalar> Rows<T> {
    fn new(columns: Columns, options: &OpenOptions, cells: Cells, width: usize) -> Self {
        let mut targets: Vec<Target> = (0..width).map(|_| Target::Nothing).collect();
        let levels = Levels::of(&columns, &options.table);
        for (d, (&column, levels)) in columns.order.iter().zip(levels).enumerate() {
            targets[column] = match (levels, columns.all[column].kind) {
                (Some(levels), _) => Target::Level(d, levels),
                (None, Kind::Boolean) => Target::Boolean(d),
                (None, _) => Target::Number(d),
            };
        }
        if let Some(column) = columns.all.iter().position(|it| it.role == Role::Weights) {
            targets[column] = Target::Weight;
        }
        let row = vec![T::ZERO; columns.order.len()];
        Self { columns, targets, cells, missing: options.missing, width, first_line: None, row }
    }

    /// Reads a line into `row`, and returns its weight where a column holds weights; or the column, if it is known, and what is
    /// wrong.
    fn read<R: BufRead>(
        &mut self,
        records: &Records<R>,
    ) -> Result<Option<f64>, (Option<usize>, String)> {
        let line = records.line();
        if records.has_open_quote() {
            let message = format!("line {line}: a quote opens here and is not closed");
            return Err((None, message));
        }
        let found = records.cells().count();
        if found != self.width {
            let as_on = self.first_line.map_or(String::new(), |line| format!(" as on line {line}"));
            let remedy = match found > self.width && records.text().contains(&b',') {
                true => "; --decimal , reads commas as decimal signs",
                false => "",
            };
            let width = self.width;
            return Err((
                None,
                format!("line {line}: found {found} columns, expected {width}{as_on}{remedy}"),
            ));
        }
        let mut weight = None;
        for (column, cell) in records.cells().enumerate() {
            let target = &mut self.targets[column];
            let number = match target {
                Target::Nothing => continue,
                Target::Weight => self.cells.number(cell).ok_or(None),
                _ if self.missing && self.cells.is_missing(cell) => Ok(f64::NAN),
                // A number may also stand for a missing value, as -999 does.
                _ if self.cells.is_sign(cell) => Err(None),
                Target::Number(_) => self.cells.number(cell).ok_or(None),
                Target::Boolean(_) => {
                    Cells::boolean(cell).or_else(|| self.cells.number(cell)).ok_or(None)
                }
                Target::Level(_, _) if self.cells.is_missing(cell) => Err(None),
                Target::Level(_, levels) => levels.number(cell).map_err(Some),
            };
            let value = number.map_err(|message| {
                let title = match self.columns.named {
                    true => format!(" ({:?})", self.columns.all[column].name),
                    false => String::new(),
                };
                let message = message.unwrap_or_else(|| not_a_number(&self.cells, cell));
                (Some(column), format!("line {line}{title}: {message}"))
            })?;
            match target {
                Target::Number(d) | Target::Boolean(d) | Target::Level(d, _) => {
                    self.row[*d] = T::from_f64(value);
                }
                _ => weight = Some(value),
            }
        }
        self.first_line.get_or_insert(line);
        for (&column, value) in self.columns.order.iter().zip(&self.row) {
            self.columns.all[column].count(value.to_f64());
        }
        Ok(weight)
    }

    /// Returns the columns, with all levels.
    fn finish(mut self) -> Columns {
        for (column, target) in self.columns.all.iter_mut().zip(self.targets) {
            if let Target::Level(_, levels) = target {
                column.levels = levels.into_names();
            }
        }
        self.columns
    }
}

#[cfg(test)]
mod tests {
    use super::records::Separator;
    use super::*;
    use crate::data::TableOptions;

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
            ("1,50;2,75\n3,25;4", semicolon),
            ("name;x\nBo;1,5", semicolon),
            ("date,city,x\n2020-01-01,New York,3.5", comma),
        ] {
            let cells = Cells::new(&TableOptions::default());
            let found = Separator::detect(text.as_bytes(), &cells, true).unwrap();
            assert_eq!(found, expected, "{text:?}");
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
            (",y\n1.0,2\n", Some(["", "y"])),
            ("ids,2020\n1,2\n", Some(["ids", "2020"])),
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
            (
                "1,2\n3,4,5\n",
                "text: row 1: line 2: found 3 columns, expected 2 as on line 1; --decimal",
            ),
            (
                "# c\nx y\n1 2\n\n3\n",
                "text: row 1: line 5: found 1 columns, expected 2 as on line 2",
            ),
            // With a decimal comma these are a number, and two.
            ("1,2\n3;4\n", "text: row 1: line 2: found 2 columns, expected 1 as on line 1"),
            ("1,2\n\"3\n,4\n", "text: row 1: line 2: a quote opens here and is not closed"),
            (
                "x\n1,50\n",
                "text: row 0: line 2: found 2 columns, expected 1 as on line 1; --decimal , reads commas",
            ),
            ("x,x\n1,2\n", "text: several columns are called \"x\""),
            ("x,y\na,b\n", "text: no column is left for the points"),
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
    fn no_row_is_lost_to_a_rule_for_others() {
        // Text, options, and the points.
        let options = TableOptions::default;
        let nan = f64::NAN;
        let cases: Vec<(&str, TableOptions, Vec<Vec<f64>>)> = vec![
            // Missing values that look like comments, texts that do, comments, and rows that were made comments.
            (
                "#N/A,1\n2,3\n#N/A,4\n",
                options(),
                vec![vec![nan, 1.0], vec![2.0, 3.0], vec![nan, 4.0]],
            ),
            ("color,x\n#ff0000,1\n#00ff00,2\n", options(), vec![vec![1.0], vec![2.0]]),
            (
                "# x, y\nx,y\n1,2\n#3,4\n# a note, and more\n5,6\n",
                options(),
                vec![vec![1.0, 2.0], vec![5.0, 6.0]],
            ),
            (
                "2,30,?,1\n1,2,3,4\n",
                options(),
                vec![vec![2.0, 30.0, nan, 1.0], vec![1.0, 2.0, 3.0, 4.0]],
            ),
            // A quote that is not closed, alone and with others below it.
            (
                "x,y\n1,2\n3,\"4\n5,6\n7,8\n",
                options(),
                vec![vec![1.0, 2.0], vec![5.0, 6.0], vec![7.0, 8.0]],
            ),
            ("x,n\n1,a\n3,\"b\n5,\"c\"\n7,d\n", options(), vec![vec![1.0], vec![5.0], vec![7.0]]),
            // Indices, texts, dates and booleans.
            (",x\n0,5\n1,6\n", options(), vec![vec![5.0], vec![6.0]]),
            ("\"\",\"x\"\n\"a\",5\n\"b\",6\n", options(), vec![vec![5.0], vec![6.0]]),
            (
                "\"x\" \"y\"\n\"1\" 5 7\n\"2\" 6 8\n",
                options(),
                vec![vec![5.0, 7.0], vec![6.0, 8.0]],
            ),
            (
                "id,day,x,ok\n1,2020-01-01,5,True\n2,2020-01-02,6,False\n",
                options(),
                vec![vec![5.0, 1.0], vec![6.0, 0.0]],
            ),
            (
                "id,x\n1,5\n2,6\n",
                options().columns(Some(vec!["x".into(), "id".into()])),
                vec![vec![5.0, 1.0], vec![6.0, 2.0]],
            ),
            ("a,b,c\n1,2,3\n", options().drop(vec!["1".into()]), vec![vec![1.0, 3.0]]),
            // Decimal commas and other signs.
            ("x;y\n1,50;2\n-3,25;4\n", options(), vec![vec![1.5, 2.0], vec![-3.25, 4.0]]),
            ("x\n1,50\n2,75\n", options().decimal(Some(',')), vec![vec![1.5], vec![2.75]]),
            (
                "x,y\n1,-999\n-,2\n",
                options().missing_values(Some(vec!["-".into(), "-999".into()])),
                vec![vec![1.0, nan], vec![nan, 2.0]],
            ),
            // Levels, in the order in which they come.
            (
                "city,x\nRome,1\nParis,2\nRome,3\n",
                options().named_by_model(vec![("city".into(), true)]),
                vec![vec![0.0, 1.0], vec![1.0, 2.0], vec![0.0, 3.0]],
            ),
        ];
        for (text, table, expected) in cases {
            let options = OpenOptions::default().missing(true).bad_rows(BadRows::Skip).table(table);
            let room = Room::new(None);
            let found = super::parse::<f64>(text.as_bytes(), "text", &options, &room).unwrap();
            let dim = found.dim;
            let Ok(Kept::Memory(values)) = found.values.finish() else { panic!("in memory") };
            let found: Vec<Vec<f64>> = values.chunks(dim).map(<[f64]>::to_vec).collect();
            assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_rounded_to_the_working_precision() {
        let table = parse_text::<f32>("0.1,16777217\n".as_bytes(), "text", None).unwrap();
        assert_eq!(table.points.view()[(0, 0)], 0.1);
        assert_eq!(table.points.view()[(0, 1)], 16777216.0);
    }
}
