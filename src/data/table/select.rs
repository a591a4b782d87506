//! Columns that were typed: by name, by index or as a range.

/// Returns the columns that a list means, of which each part is a name, an index from 0, or a range of either. Names go first.
///
/// # Errors
/// Quotes the part that is no column, or a name that several columns have.
pub(in crate::data) fn select(
    list: &[String],
    names: Option<&[String]>,
    columns: usize,
) -> Result<Vec<usize>, String> {
    let mut chosen = Vec::new();
    for part in list {
        let part = part.trim();
        let range = match find(part, names, columns)? {
            Some(column) => Some((column, column)),
            None => ends(part, names, columns)?,
        };
        match range {
            Some((first, last)) if first <= last => chosen.extend(first..=last),
            Some(_) => return Err(format!("the range of columns {part:?} is empty")),
            None => return Err(unknown("column", part, names, columns)),
        }
    }
    match (1..chosen.len()).find(|&i| chosen[..i].contains(&chosen[i])) {
        Some(i) => Err(format!("column {} is chosen twice", label(chosen[i], names))),
        None => Ok(chosen),
    }
}

/// Returns the column of this name or index, if there is such a column.
pub(in crate::data) fn find(
    wanted: &str,
    names: Option<&[String]>,
    columns: usize,
) -> Result<Option<usize>, String> {
    let mut named = names.unwrap_or_default().iter().enumerate().filter(|it| it.1 == wanted);
    match (named.next(), named.next()) {
        (Some((first, _)), Some((second, _))) => Err(format!(
            "columns {first} and {second} are both called {wanted:?}; rename one, or choose columns by index"
        )),
        (Some((column, _)), None) => Ok(Some(column)),
        _ => Ok(wanted.parse().ok().filter(|index| *index < columns)),
    }
}

/// Returns the ends of a range. Names may contain hyphens, so each hyphen may be the middle.
fn ends(
    part: &str,
    names: Option<&[String]>,
    columns: usize,
) -> Result<Option<(usize, usize)>, String> {
    for (at, _) in part.match_indices('-') {
        let first = find(part[..at].trim(), names, columns)?;
        let last = find(part[at + 1..].trim(), names, columns)?;
        if let (Some(first), Some(last)) = (first, last) {
            return Ok(Some((first, last)));
        }
    }
    Ok(None)
}

/// Describes a column that is not there: `there is no weights column "v", expected ...`.
pub(in crate::data) fn unknown(
    what: &str,
    wanted: &str,
    names: Option<&[String]>,
    columns: usize,
) -> String {
    let names = names.map_or(String::new(), |names| format!(" or one of {}", names.join(", ")));
    format!("there is no {what} {wanted:?}, expected an index from 0 to {}{names}", columns - 1)
}

fn label(column: usize, names: Option<&[String]>) -> String {
    names.map_or(column.to_string(), |names| format!("{:?}", names[column]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_chosen_by_name_index_and_range() {
        let names = ["id", "a-b", "x", "y", "x2"].map(str::to_owned);
        let chosen = |list: &str, names: Option<&[String]>| {
            let list: Vec<String> = list.split(',').map(str::to_owned).collect();
            select(&list, names, 5)
        };
        for (list, expected) in [
            ("y,id", vec![3, 0]),
            ("1-3", vec![1, 2, 3]),
            ("a-b-y", vec![1, 2, 3]),
            ("x-x2", vec![2, 3, 4]),
            ("a-b,4", vec![1, 4]),
        ] {
            assert_eq!(chosen(list, Some(&names)), Ok(expected), "{list}");
        }
        assert_eq!(chosen("4,0-1", None), Ok(vec![4, 0, 1]));
        for (list, fault) in [
            (
                "z",
                "there is no column \"z\", expected an index from 0 to 4 or one of id, a-b, x, y, x2",
            ),
            ("5", "there is no column \"5\""),
            ("y-x", "the range of columns \"y-x\" is empty"),
            ("x,2", "column \"x\" is chosen twice"),
        ] {
            assert!(chosen(list, Some(&names)).unwrap_err().starts_with(fault), "{list}");
        }
        let twice = ["x", "x"].map(str::to_owned);
        let fault = select(&["x".to_owned()], Some(&twice), 2).unwrap_err();
        assert!(fault.starts_with("columns 0 and 1 are both called \"x\""), "{fault}");
    }
}
