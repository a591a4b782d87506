//! Cells of text: numbers, missing values and the rest.

use super::{Kind, TableOptions};

/// Texts that stand for missing values, unless others are named.
const MISSING: [&str; 11] =
    ["NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NULL", "null", "None", "?", "NaT"];

/// The sign between whole numbers and decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::data) enum Decimal {
    Point,
    Comma,
    /// Not known yet.
    Either,
}

/// How the cells of a file are read.
#[derive(Clone, Debug)]
pub(in crate::data) struct Cells {
    pub decimal: Decimal,
    /// Texts of missing values.
    pub signs: Vec<String>,
}

impl Cells {
    pub fn new(options: &TableOptions) -> Self {
        let signs = match &options.missing_values {
            Some(texts) => texts.clone(),
            None => MISSING.map(str::to_owned).to_vec(),
        };
        let decimal = if options.decimal == Some(',') { Decimal::Comma } else { Decimal::Point };
        Self { decimal, signs }
    }

    pub fn is_missing(&self, cell: &[u8]) -> bool {
        cell.is_empty() || self.is_sign(cell)
    }

    /// Tells whether a cell has a text that stands for a missing value.
    pub fn is_sign(&self, cell: &[u8]) -> bool {
        self.signs.iter().any(|text| text.as_bytes() == cell)
    }

    pub fn number(&self, cell: &[u8]) -> Option<f64> {
        let text = std::str::from_utf8(cell).ok()?;
        let by_comma = || {
            let is_plain = !text.contains('.');
            is_plain.then(|| text.replacen(',', ".", 1).parse().ok())?
        };
        match self.decimal {
            Decimal::Point => text.parse().ok(),
            Decimal::Comma => by_comma(),
            Decimal::Either => text.parse().ok().or_else(by_comma),
        }
    }

    pub fn boolean(cell: &[u8]) -> Option<f64> {
        match cell {
            b"true" | b"True" | b"TRUE" => Some(1.0),
            b"false" | b"False" | b"FALSE" => Some(0.0),
            _ => None,
        }
    }

    /// Tells whether a cell is a number with decimals, or an exponent.
    pub fn is_decimal(&self, cell: &[u8]) -> bool {
        self.number(cell).is_some() && !cell.iter().all(|byte| b"+-0123456789".contains(byte))
    }

    /// Returns the kind of a cell.
    pub fn kind(&self, cell: &[u8]) -> Kind {
        if self.is_missing(cell) {
            Kind::Empty
        } else if self.number(cell).is_some() {
            if self.is_decimal(cell) { Kind::Number } else { Kind::Integer }
        } else if Self::boolean(cell).is_some() {
            Kind::Boolean
        } else {
            Kind::Text
        }
    }

    /// Returns the kind of a column with these cells. With `levels` any text makes it one of texts; else a single number makes it one of
    /// numbers, so that a slip in a column of numbers is a fault and not a reason to leave the column out.
    pub fn kind_of<'a>(&self, cells: impl Iterator<Item = &'a [u8]>, levels: bool) -> Kind {
        let mut found = [false; 5];
        cells.for_each(|cell| found[self.kind(cell) as usize] = true);
        let [number, integer, boolean, text, _] = found;
        if text && levels {
            Kind::Text
        } else if number {
            Kind::Number
        } else if integer {
            Kind::Integer
        } else if text {
            Kind::Text
        } else if boolean {
            Kind::Boolean
        } else {
            Kind::Empty
        }
    }
}

/// Describes a cell that should be a number.
pub(in crate::data) fn not_a_number(cells: &Cells, cell: &[u8]) -> String {
    if cells.is_missing(cell) {
        return MISSING_VALUE.to_owned();
    }
    format!("{} is not a number", quoted(cell))
}

/// Returns the text of a cell for messages.
pub(in crate::data) fn quoted(cell: &[u8]) -> String {
    let text = String::from_utf8_lossy(cell);
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("\"{}...\"", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The fault of a missing value, and its remedies.
pub(in crate::data) const MISSING_VALUE: &str = "missing value; --missing drop leaves such rows out, and --missing ignore uses \
     their other values, for families of independent columns (gaussian-diag, poisson, categorical, ...), gaussian-full and factor-analysis";
