//! Whether the first line of text has names, as the lines below it tell.

use super::cells::Cells;
use super::{Header, Kind, Schema};

/// A line of text, as cells.
pub(in crate::data) type Line = Vec<Vec<u8>>;

/// Returns whether the first line has names, with a note if that is a guess that a person may want to know of.
pub(in crate::data) fn detect(
    head: &[Line],
    cells: &Cells,
    header: Header,
    schema: Option<&Schema>,
) -> (bool, Option<&'static str>) {
    let Some((first, below)) = head.split_first().filter(|_| header == Header::Auto) else {
        return (header == Header::Yes, None);
    };
    let is_name = |name: &String| first.iter().any(|cell| cell == name.as_bytes());
    if schema.is_some_and(|schema| schema.names.iter().all(is_name)) {
        return (true, None);
    }
    if first.iter().any(|cell| cells.is_sign(cell)) {
        return (false, None);
    }
    let kinds: Vec<Kind> = first.iter().map(|cell| cells.kind(cell)).collect();
    let of = |wanted: &[Kind]| -> Vec<usize> {
        (0..first.len()).filter(|&column| wanted.contains(&kinds[column])).collect()
    };
    let (texts, numbers) = (of(&[Kind::Text]), of(&[Kind::Integer, Kind::Number]));
    let under = |column: usize| below.iter().filter_map(move |line| line.get(column));
    let is_above_numbers = |&column: &usize| under(column).any(|cell| cells.number(cell).is_some());
    if !texts.is_empty() {
        if numbers.is_empty() || texts.iter().any(is_above_numbers) {
            let mixed = (!numbers.is_empty()).then_some(
                "the first line was read as names, although some are numbers; --header no reads it as a point",
            );
            return (true, mixed);
        }
        // Texts above texts: the numbers decide, as in a table of years.
        return match are_above_decimals(first, below, cells, &numbers) {
            true => (true, Some(COUNTED)),
            false => {
                (false, Some("the first line was read as a point; --header yes reads it as names"))
            }
        };
    }
    let named: Vec<&[u8]> =
        first.iter().map(Vec::as_slice).filter(|cell| !cell.is_empty()).collect();
    let counts_from = |start: usize| {
        let is_number = |(i, cell): (usize, &&[u8])| *cell == (start + i).to_string().as_bytes();
        !named.is_empty() && named.iter().enumerate().all(is_number)
    };
    // A single column may well begin with 1, as weights do.
    if below.is_empty() || !(counts_from(0) || named.len() > 1 && counts_from(1)) {
        return (false, None);
    }
    // pandas calls columns 0, 1, ..., and leaves the name of the index empty.
    let is_index = first[0].is_empty() && first.iter().skip(1).all(|cell| !cell.is_empty());
    let is_counted = counts_from(0) && numbers.len() > 2;
    if is_index || is_counted || are_above_decimals(first, below, cells, &numbers) {
        return (true, Some(COUNTED));
    }
    let note =
        "the first line counts the columns and was read as a point; --header yes reads it as names";
    (false, (numbers.len() > 1).then_some(note))
}

const COUNTED: &str =
    "the first line was read as names, although they are numbers; --header no reads it as a point";

/// Tells whether these columns begin with whole numbers, and have numbers with decimals alone below.
fn are_above_decimals(first: &Line, below: &[Line], cells: &Cells, columns: &[usize]) -> bool {
    let is_above = |&column: &usize| {
        let mut under = below
            .iter()
            .filter_map(|line| line.get(column))
            .filter(|cell| !cells.is_missing(cell))
            .peekable();
        !cells.is_decimal(&first[column])
            && under.peek().is_some()
            && under.all(|cell| cells.is_decimal(cell))
    };
    !columns.is_empty() && columns.iter().all(is_above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::table::TableOptions;

    #[test]
    fn the_lines_below_tell_names_from_points() {
        for (text, is_header, is_told) in [
            // As pandas writes arrays.
            ("0,1,2\n0.5,1.0,2.5\n1.0,2.0,3.0", true, true),
            ("0,1,2\n5,3,2\n6,7,8", true, true),
            (",0,1\n0,5,3\n1,6,7", true, true),
            ("0,1\n0.5,1.0\n0.25,2.0", true, true),
            ("0\n0.5\n0.25", true, true),
            ("1\n0.5\n0.25", false, false),
            // Points that look a little like names.
            ("0\n0.5\n1", false, false),
            ("1,2\n3,4", false, true),
            ("1,2,3\n4,5,6", false, true),
            ("1\n2\n3", false, false),
            ("2,30,?,1\n1,2,3,4", false, false),
            ("NA,1\n2,3", false, false),
            ("5.1,3.5,Iris-setosa\n4.9,3.0,Iris-setosa", false, true),
            ("TRUE,1\nFALSE,2", false, false),
            ("nan,inf\n1,2", false, false),
            // Names.
            ("x,y\n1,2", true, false),
            ("x,y", true, false),
            ("name,city\nBo,Rome", true, false),
            ("x,2020\n1,2", true, true),
            ("name,2019,2020\nBo,1.5,2.5", true, true),
            (",x\n0,1", true, false),
        ] {
            let lines: Vec<Line> = text
                .lines()
                .map(|line| line.split(',').map(|cell| cell.as_bytes().to_vec()).collect())
                .collect();
            let cells = Cells::new(&TableOptions::default());
            let found = detect(&lines, &cells, Header::Auto, None);
            assert_eq!((found.0, found.1.is_some()), (is_header, is_told), "{text}");
            assert!(detect(&lines, &cells, Header::Yes, None).0);
            assert!(!detect(&lines, &cells, Header::No, None).0);
        }
    }
}
