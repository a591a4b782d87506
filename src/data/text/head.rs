//! What the head of a text tells of all of it.

use super::records::{Records, Separator};
use crate::data::table::cells::{Cells, Decimal};
use crate::data::table::header::{self, Line};
use crate::data::table::layout::{COUNTED_ROWS, Found, lay_out};
use crate::data::table::{Columns, Kind, TableOptions};

/// The form of a text.
pub(super) struct Head {
    pub separator: Separator,
    pub cells: Cells,
    pub has_header: bool,
    pub columns: Columns,
    /// Cells of a line.
    pub width: usize,
}

impl Head {
    /// Reads the head of a text.
    ///
    /// # Errors
    /// Says why it is no table.
    pub fn read(
        text: &[u8],
        weights_column: Option<&str>,
        options: &TableOptions,
    ) -> Result<Self, String> {
        if text.contains(&0) {
            return Err("binary data or UTF-16, expected text in UTF-8".to_owned());
        }
        let mut cells = Cells::new(options);
        let unreadable = |fault: std::io::Error| fault.to_string();
        let any_decimal = options.decimal.is_none();
        let separator = Separator::detect(text, &cells, any_decimal).map_err(unreadable)?;
        cells = separator.cells(&cells, any_decimal);
        let mut head: Vec<Line> = Vec::new();
        let mut records = Records::new(text, separator, cells.clone());
        while records.advance().map_err(unreadable)? {
            if head.len() < 2 || !records.has_open_quote() {
                head.push(records.cells().map(<[u8]>::to_vec).collect());
            }
        }
        if head.is_empty() {
            return Err("no points: only blank lines and comments".to_owned());
        }

        let mut notes = Vec::new();
        if cells.decimal == Decimal::Either {
            cells.decimal = decimal_of(&head, &cells);
            if cells.decimal == Decimal::Comma {
                let note = "commas were read as decimal signs; --decimal . reads points alone";
                notes.push(note.to_owned());
            }
        }
        let (has_header, note) =
            header::detect(&head, &cells, options.header, options.schema.as_ref());
        notes.extend(note.map(str::to_owned));
        let mut names: Option<Vec<String>> = has_header.then(|| {
            let quotes: &[char] =
                if separator == Separator::WhiteSpace { &['"', '\''] } else { &[] };
            let name =
                |cell: Vec<u8>| String::from_utf8_lossy(&cell).trim_matches(quotes).to_owned();
            head.remove(0).into_iter().map(name).collect()
        });
        // R leaves out the name of the column of row names.
        if let Some(names) = &mut names
            && head.len() > 1
            && head.iter().all(|line| line.len() == names.len() + 1)
        {
            names.insert(0, String::new());
        }
        let width = names.as_ref().map_or_else(|| head[0].len(), Vec::len);
        head.retain(|line| line.len() == width);

        let named = |column: usize| names.as_ref().map(|names: &Vec<String>| &names[column]);
        let takes_levels = |column: usize| {
            options.all_levels
                || named(column).is_some_and(|name| {
                    let of_model = options.named_by_model.iter().any(|it| it.1 && it.0 == *name);
                    let of_schema = options.schema.as_ref().is_some_and(|schema| {
                        let at = schema.names.iter().position(|known| known == name);
                        at.is_some_and(|d| schema.levels.get(d).is_some_and(|it| !it.is_empty()))
                    });
                    of_model || of_schema
                })
        };
        let found: Vec<Found> = (0..width)
            .map(|column| {
                let of = || head.iter().map(move |line| line[column].as_slice());
                let kind = cells.kind_of(of(), takes_levels(column));
                let least = if names.is_some() { 2 } else { COUNTED_ROWS };
                let counts = kind == Kind::Integer && head.len() >= least && counts(of(), &cells);
                Found { kind, counts, is_list: false }
            })
            .collect();
        let mut columns = lay_out(names.as_deref(), &found, weights_column, options)?;
        notes.append(&mut columns.notes);
        columns.notes = notes;
        Ok(Self { separator, cells, has_header, columns, width })
    }
}

/// Returns the decimal sign of numbers that may have either: a comma, if some have commas and none have points.
fn decimal_of(head: &[Line], cells: &Cells) -> Decimal {
    let has = |decimal: Decimal, sign: u8| {
        let cells = Cells { decimal, ..cells.clone() };
        let mut signed = head.iter().flatten().filter(|cell| cell.contains(&sign));
        signed.any(|cell| cells.number(cell).is_some())
    };
    let is_comma = has(Decimal::Comma, b',') && !has(Decimal::Point, b'.');
    if is_comma { Decimal::Comma } else { Decimal::Point }
}

/// Tells whether numbers are 0, 1, 2, ... or 1, 2, 3, ...
fn counts<'a>(numbers: impl Iterator<Item = &'a [u8]>, cells: &Cells) -> bool {
    let mut numbers = numbers.map(|cell| cells.number(cell)).peekable();
    let first = numbers.peek().copied().flatten();
    first.is_some_and(|first| {
        (first == 0.0 || first == 1.0)
            && numbers.enumerate().all(|(i, number)| number == Some(first + i as f64))
    })
}
