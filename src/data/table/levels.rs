//! Texts of categorical columns, as numbers.

use super::cells::quoted;
use super::{Columns, Kind, TableOptions};
use std::collections::HashMap;

/// Numbers the texts of a column: in the order in which they come first, or as a model does.
#[derive(Clone, Debug)]
pub(in crate::data) struct Levels {
    names: Vec<String>,
    numbers: HashMap<Vec<u8>, usize>,
    /// Whether other texts become new levels, or else missing values.
    pub grows: bool,
    pub unseen_missing: bool,
}

/// More levels are a sign of a column of names or numbers.
const MOST: usize = 10_000;

impl Levels {
    /// Returns the levels of each dimension that has texts.
    pub fn of(columns: &Columns, options: &TableOptions) -> Vec<Option<Self>> {
        let known = |d: usize, name: &String| {
            let schema = options.schema.as_ref()?;
            let position = schema.names.iter().position(|known| known == name);
            schema.levels.get(if columns.named { position? } else { d })
        };
        let of = |(d, &index): (usize, &usize)| {
            let column = &columns.all[index];
            match known(d, &column.name) {
                Some(levels) if levels.is_empty() => None,
                Some(levels) => {
                    Some(Self::new(levels.clone(), options.new_levels, options.unseen_missing))
                }
                None => (column.kind == Kind::Text).then(|| Self::new(Vec::new(), true, false)),
            }
        };
        columns.order.iter().enumerate().map(of).collect()
    }

    fn new(names: Vec<String>, grows: bool, unseen_missing: bool) -> Self {
        let number = |(i, name): (usize, &String)| (name.clone().into_bytes(), i);
        let numbers = names.iter().enumerate().map(number).collect();
        Self { names, numbers, grows, unseen_missing }
    }

    /// Returns the number of a text, NaN if it is to be missing, or a fault.
    pub fn number(&mut self, cell: &[u8]) -> Result<f64, String> {
        if let Some(&number) = self.numbers.get(cell) {
            return Ok(number as f64);
        }
        if self.grows {
            if self.names.len() == MOST {
                return Err(format!("more than {MOST} levels, expected those of a category"));
            }
            self.numbers.insert(cell.to_vec(), self.names.len());
            self.names.push(String::from_utf8_lossy(cell).into_owned());
            return Ok((self.names.len() - 1) as f64);
        }
        if self.unseen_missing {
            return Ok(f64::NAN);
        }
        let shown = self.names.iter().take(10).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if self.names.len() > 10 { ", ..." } else { "" };
        Err(format!(
            "{} is no level of the model, expected one of {shown}{more}; --unseen missing takes it for a missing value",
            quoted(cell)
        ))
    }

    pub fn into_names(self) -> Vec<String> {
        self.names
    }
}
