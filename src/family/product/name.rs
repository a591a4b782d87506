//! The name of a product: families and their columns.

use super::{MOST_COLUMNS, invalid};
use crate::error::Result;
use crate::family::registry;
use std::ops::Range;

/// Says whether a name has the form of a product.
pub fn is_product(name: &str) -> bool {
    name.contains(':')
}

/// Parses the name of a product into families and columns. Columns may have the names in `header`.
///
/// # Errors
/// [`Error::Model`](crate::Error::Model) quotes the part of the name that is neither a family nor a column.
///
/// ```
/// use entropysum::expert::parse_product;
///
/// let header = ["age".to_owned(), "visits".to_owned()];
/// let blocks = parse_product("gaussian-diag:age,poisson:1", &header)?;
/// assert_eq!(blocks, [("gaussian-diag".into(), vec![0]), ("poisson".into(), vec![1])]);
/// assert!(parse_product("poisson:sex", &header).is_err());
/// # Ok::<(), entropysum::error::Error>(())
/// ```
pub fn parse(name: &str, header: &[String]) -> Result<Vec<(String, Vec<usize>)>> {
    let mut n_columns = 0;
    let block = |part: &str| {
        let Some((family, columns)) = part.split_once(':') else {
            return invalid(format!(
                "{part:?} of {name:?} has no columns, expected FAMILY:COLUMNS as in poisson:4-9"
            ));
        };
        let family = family.trim();
        if !registry::has(family) {
            let known: Vec<_> = registry::names().collect();
            return invalid(format!(
                "no family is called {family:?}; there are {}",
                known.join(", ")
            ));
        }
        let mut all = Vec::new();
        for token in columns.split('+') {
            let columns = columns_called(token.trim(), header)?;
            n_columns += columns.len();
            if n_columns > MOST_COLUMNS {
                return invalid(format!("{name:?} has more than {MOST_COLUMNS} columns"));
            }
            all.extend(columns);
        }
        Ok((family.to_owned(), all))
    };
    name.split(',').map(block).collect()
}

/// Parses a name in `header`, an index or a range. Names go first.
fn columns_called(token: &str, header: &[String]) -> Result<Range<usize>> {
    if let Some(column) = header.iter().position(|name| name == token) {
        return Ok(column..column + 1);
    }
    let (first, last) = token.split_once('-').unwrap_or((token, token));
    match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
        (Ok(first), Ok(last)) if first <= last && last < MOST_COLUMNS => Ok(first..last + 1),
        _ => {
            let names = match header {
                [] => String::new(),
                header => format!(", or one of the names {}", header.join(", ")),
            };
            invalid(format!(
                "{token:?} is no column: expected an index from 0, a range FIRST-LAST{names}"
            ))
        }
    }
}

/// Composes the name of a product of these families and columns.
pub fn name_of<'a>(blocks: impl IntoIterator<Item = (String, &'a [usize])>) -> String {
    let block = |(family, columns): (String, &[usize])| {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for &column in columns {
            match runs.last_mut() {
                Some(run) if run.end == column => run.end += 1,
                _ => runs.push(column..column + 1),
            }
        }
        let run = |run: Range<usize>| match run.len() {
            1 => run.start.to_string(),
            _ => format!("{}-{}", run.start, run.end - 1),
        };
        let runs: Vec<_> = runs.into_iter().map(run).collect();
        format!("{family}:{}", runs.join("+"))
    };
    blocks.into_iter().map(block).collect::<Vec<_>>().join(",")
}
