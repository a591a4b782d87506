//! Matrix Market files of sparse matrices, one point a row.
//!
//! The format is [NIST's](https://math.nist.gov/MatrixMarket/formats.html): a banner, comments, a line with the numbers
//! of rows, columns and entries, and a line `row column value` for each entry, both counted from 1.

use super::positioned::open_readable;
use super::sparse::SparsePoints;
use crate::error::{DataError, Error, Result};
use crate::scalar::Scalar;
use std::io::{BufRead, BufReader};
use std::path::Path;

const BANNER: &str = "%%MatrixMarket matrix coordinate real|integer|pattern general";

/// Reads a file of coordinates into memory. Entries of a `pattern` are ones; those of the same place are added up.
///
/// # Errors
/// [`Error::Io`] if it cannot be read; [`DataError`] with the line at fault if it is of another kind (an array,
/// complex, symmetric), an entry is outside the matrix or not finite, or there are not as many as it says.
pub fn read_mtx<T: Scalar>(path: impl AsRef<Path>) -> Result<SparsePoints<T>> {
    let path = path.as_ref();
    let (file, metadata) = open_readable(path)?;
    // A pipe has no length; its lines count when they have come.
    let bytes = if metadata.is_file() { Some(metadata.len()) } else { None };
    read(BufReader::with_capacity(1 << 18, file), path, bytes)
}

fn read<T: Scalar>(
    mut input: impl BufRead,
    path: &Path,
    bytes: Option<u64>,
) -> Result<SparsePoints<T>> {
    let name = path.display().to_string();
    let fault = |line: u64, message: String| -> Error {
        DataError::new(&name, format!("line {line}: {message}")).into()
    };
    let (mut line, mut number) = (Vec::new(), 0u64);
    let mut next = |line: &mut Vec<u8>| -> Result<Option<u64>> {
        line.clear();
        number += 1;
        let read = input.read_until(b'\n', line).map_err(|error| Error::io(path, error))?;
        Ok((read > 0).then_some(number))
    };

    next(&mut line)?;
    let banner = String::from_utf8_lossy(&line).to_lowercase();
    let pattern = match banner.split_ascii_whitespace().collect::<Vec<_>>()[..] {
        ["%%matrixmarket", "matrix", "coordinate", "real" | "integer", "general"] => false,
        ["%%matrixmarket", "matrix", "coordinate", "pattern", "general"] => true,
        _ => {
            let found: String = banner.trim().chars().take(80).collect();
            return Err(fault(1, format!("found {found:?}, expected {BANNER:?}")));
        }
    };

    let mut sizes: Option<[u64; 3]> = None;
    let mut entries: Vec<(usize, u32, T)> = Vec::new();
    while let Some(at) = next(&mut line)? {
        let text = line.trim_ascii();
        if text.is_empty() || text.starts_with(b"%") {
            continue;
        }
        let mut fields = text.split(|byte| byte.is_ascii_whitespace()).filter(|it| !it.is_empty());
        let show = |field: Option<&[u8]>| match field {
            Some(field) => format!("{:?}", String::from_utf8_lossy(field)),
            None => "the end of the line".to_owned(),
        };
        let mut whole = |what: &str| -> Result<u64> {
            let field = fields.next();
            let value = field.and_then(|it| std::str::from_utf8(it).ok()?.parse().ok());
            value.ok_or_else(|| fault(at, format!("found {}, expected {what}", show(field))))
        };
        let Some([rows, columns, count]) = sizes else {
            sizes = Some([
                whole("the number of rows")?,
                whole("the number of columns")?,
                whole("the number of entries")?,
            ]);
            if let Some(field) = fields.next() {
                return Err(fault(
                    at,
                    format!("found {}, expected three sizes", show(Some(field))),
                ));
            }
            continue;
        };
        if entries.len() as u64 == count {
            return Err(fault(at, format!("another entry, expected {count}")));
        }
        let (row, column) = (whole("a row")?, whole("a column")?);
        for (what, index, size) in [("row", row, rows), ("column", column, columns)] {
            if !(1..=size).contains(&index) {
                return Err(fault(at, format!("{what} {index}, expected one from 1 to {size}")));
            }
        }
        let value = if pattern {
            1.0
        } else {
            let field = fields.next();
            let value = field.and_then(|it| std::str::from_utf8(it).ok()?.parse::<f64>().ok());
            let value = value.filter(|&value| T::from_f64(value).is_finite());
            value.ok_or_else(|| {
                fault(at, format!("found {}, expected a finite number in {}", show(field), T::NAME))
            })?
        };
        if let Some(field) = fields.next() {
            return Err(fault(at, format!("found {} after the entry", show(Some(field)))));
        }
        let column = u32::try_from(column - 1)
            .map_err(|_| fault(at, format!("column {column}, expected one below 2^32")))?;
        // Whether there is memory for so many rows shows below, before any is used as an index.
        entries.push((usize::try_from(row - 1).unwrap_or(usize::MAX), column, T::from_f64(value)));
    }
    let file = |message: String| -> Error { DataError::new(&name, message).into() };
    let Some([rows, columns, count]) = sizes else {
        return Err(file("the file ends before the line with its sizes".to_owned()));
    };
    if entries.len() as u64 != count {
        let found = entries.len();
        return Err(file(format!("found {found} entries, expected {count}: the file is cut")));
    }

    let bytes = bytes.unwrap_or(4 * count);
    SparsePoints::<T>::check_size(&name, "rows", rows, bytes)?;
    SparsePoints::<T>::check_size(&name, "columns", columns, bytes)?;

    // Entries come in any order: count those of each row, and put each in its place.
    let mut starts: Vec<usize> = Vec::new();
    let length = usize::try_from(rows).ok().and_then(|rows| rows.checked_add(1));
    let Some(length) = length.filter(|&length| starts.try_reserve_exact(length).is_ok()) else {
        return Err(file(format!("{rows} rows do not fit into memory")));
    };
    starts.resize(length, 0);
    entries.iter().for_each(|&(row, _, _)| starts[row + 1] += 1);
    for row in 1..length {
        starts[row] += starts[row - 1];
    }
    let mut ends = starts.clone();
    let (mut places, mut values) = (vec![0; entries.len()], vec![T::ZERO; entries.len()]);
    for (row, column, value) in entries {
        let place = ends[row];
        (places[place], values[place]) = (column, value);
        ends[row] += 1;
    }
    let dim = usize::try_from(columns).unwrap_or(usize::MAX);
    SparsePoints::from_file(name, starts, places, values, dim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SparsePoints<f64>> {
        read(text.as_bytes(), Path::new("a.mtx"), Some(text.len() as u64))
    }

    #[test]
    fn coordinates_are_read_in_any_order() {
        let text = "%%MatrixMarket matrix coordinate integer general\n% a comment\n\n3 4 4\n\
                    3 1 5\n1 4 2\n1 2 1\r\n  1 4 6 \n";
        let points = parse(text).unwrap();
        let row = |i| points.rows().row(i).collect::<Vec<_>>();
        assert_eq!(row(0), [(1, 1.0), (3, 8.0)]);
        assert_eq!((row(1), row(2)), (vec![], vec![(0, 5.0)]));
        let pattern = "%%matrixmarket MATRIX coordinate pattern general\n1 2 1\n1 2\n";
        assert_eq!(parse(pattern).unwrap().rows().row(0).collect::<Vec<_>>(), [(1, 1.0)]);
        let real = "%%MatrixMarket matrix coordinate real general\n1 1 1\n1 1 2.5e-1";
        assert_eq!(parse(real).unwrap().rows().row(0).collect::<Vec<_>>(), [(0, 0.25)]);
    }

    #[test]
    fn other_files_are_refused_with_the_line_at_fault() {
        let banner = "%%MatrixMarket matrix coordinate integer general\n";
        for (text, expected) in [
            ("", "a.mtx: line 1: found \"\", expected \"%%MatrixMarket"),
            ("%%MatrixMarket matrix array real general\n", "line 1: found"),
            ("%%MatrixMarket matrix coordinate real symmetric\n", "line 1: found"),
            ("%%MatrixMarket matrix coordinate complex general\n", "line 1: found"),
            ("1,2\n3,4\n", "line 1: found \"1,2\""),
        ] {
            let found = parse(text).unwrap_err().to_string();
            assert!(found.contains(expected), "{text:?}: {found}");
        }
        for (body, expected) in [
            ("", "ends before the line with its sizes"),
            ("2 2\n", "line 2: found the end of the line, expected the number of entries"),
            ("2 2 1 1\n", "line 2: found \"1\", expected three sizes"),
            ("2 -2 1\n", "line 2: found \"-2\", expected the number of columns"),
            ("2 2 1\n", "found 0 entries, expected 1"),
            ("2 2 1\n1 1 1\n2 2 1\n", "line 4: another entry, expected 1"),
            ("2 2 1\n3 1 1\n", "line 3: row 3, expected one from 1 to 2"),
            ("2 2 1\n0 1 1\n", "line 3: row 0, expected one from 1 to 2"),
            ("2 2 1\n1 3 1\n", "line 3: column 3, expected one from 1 to 2"),
            ("2 2 1\n1 1 many\n", "line 3: found \"many\", expected a finite number"),
            ("2 2 1\n1 1 nan\n", "line 3: found \"nan\", expected a finite number"),
            ("2 2 1\n1 1\n", "line 3: found the end of the line, expected a finite number"),
            ("2 2 1\n1 1 1 1\n", "line 3: found \"1\" after the entry"),
            ("2 0 0\n", "points have dimension 0"),
            ("18446744073709551615 2 0\n", "18446744073709551615 rows in 74 bytes, expected up to"),
            ("300000000 2 0\n", "300000000 rows in 63 bytes"),
            ("2 4000000000 0\n", "4000000000 columns in 64 bytes"),
        ] {
            let found = parse(&format!("{banner}{body}")).unwrap_err().to_string();
            assert!(found.contains(expected), "{body:?}: {found}");
        }
    }
}
