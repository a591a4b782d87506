//! SciPy's sparse matrices as `scipy.sparse.save_npz` writes them: an archive of the arrays of the CSR format.

use super::npy;
use super::positioned::open_readable;
use super::sparse::SparsePoints;
use crate::error::{DataError, Error, Result};
use crate::scalar::Scalar;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use zip::ZipArchive;

const ADVICE: &str =
    "save a sparse matrix by scipy.sparse.save_npz(path, matrix.tocsr()), an array by numpy.save";

/// What an archive may unpack to: so many times its size, and some bytes more. Indices hardly shrink by more than four.
const MOST_PACKED: u64 = 16;
const LEAST_UNPACKED: u64 = 64 << 20;

/// Reads a matrix in CSR format into memory, one point a row.
///
/// # Errors
/// [`Error::Io`] if it cannot be opened; [`DataError`] if it is no such archive, an array is missing or of another kind,
/// or they do not fit together; it names the array, or row and column.
pub fn read_npz<T: Scalar>(path: impl AsRef<Path>) -> Result<SparsePoints<T>> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let fault = |message: String| -> Error { DataError::new(&name, message).into() };
    let (file, metadata) = open_readable(path)?;
    let size = metadata.len();
    let archive = ZipArchive::new(BufReader::new(file));
    let mut archive =
        archive.map_err(|error| fault(format!("not an archive of arrays: {error}; {ADVICE}")))?;
    let mut left = LEAST_UNPACKED.saturating_add(MOST_PACKED.saturating_mul(size));

    let format = member(&mut archive, "format", &mut left).and_then(|bytes| {
        let (_, values) = npy::split(&bytes)?;
        // One byte a letter, or four.
        Ok(values.iter().filter(|&&byte| byte != 0).map(|&byte| char::from(byte)).collect())
    });
    let format: String = format.map_err(|message| fault(format!("{message}; {ADVICE}")))?;
    if format != "csr" {
        return Err(fault(format!("a matrix in format {format:?}, expected \"csr\": {ADVICE}")));
    }
    let mut indices = |key: &str| -> Result<Vec<u64>> {
        let bytes = member(&mut archive, key, &mut left).map_err(&fault)?;
        let (numbers, integers) =
            npy::decode::<f64>(&bytes).map_err(|message| fault(format!("{key:?}: {message}")))?;
        if !integers {
            return Err(fault(format!("{key:?}: floating-point numbers, expected integers")));
        }
        match numbers.iter().find(|&&number| number < 0.0) {
            Some(number) => Err(fault(format!("{key:?}: {number}, expected numbers from 0 on"))),
            None => Ok(numbers.iter().map(|&number| number as u64).collect()),
        }
    };
    let [rows, dim] = indices("shape")?[..] else {
        return Err(fault("\"shape\": expected two numbers".to_owned()));
    };
    SparsePoints::<T>::check_size(&name, "columns", dim, size)?;
    let starts = indices("indptr")?;
    if starts.len() as u64 != rows.saturating_add(1) {
        let found = starts.len();
        return Err(fault(format!(
            "\"indptr\": {found} numbers for {rows} rows, expected one more"
        )));
    }
    let columns = indices("indices")?;
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    // A column that does not fit into 32 bits is outside the matrix, and is refused below.
    let columns = columns.into_iter().map(|it| u32::try_from(it).unwrap_or(u32::MAX)).collect();
    let bytes = member(&mut archive, "data", &mut left).map_err(&fault)?;
    let (values, _) =
        npy::decode::<T>(&bytes).map_err(|message| fault(format!("\"data\": {message}")))?;
    let starts = starts.into_iter().map(size).collect();
    SparsePoints::from_file(name.clone(), starts, columns, values, size(dim))
}

/// The bytes of an array of the archive, of which all together may have so many.
fn member(
    archive: &mut ZipArchive<BufReader<File>>,
    key: &str,
    left: &mut u64,
) -> Result<Vec<u8>, String> {
    let mut member = archive.by_name(&format!("{key}.npy")).map_err(|error| match error {
        zip::result::ZipError::FileNotFound => format!("there is no array {key:?}"),
        error => format!("array {key:?}: {error}"),
    })?;
    let mut bytes = Vec::new();
    // One byte more shows that there are too many.
    let mut part = (&mut member).take(left.saturating_add(1));
    part.read_to_end(&mut bytes).map_err(|error| format!("array {key:?}: {error}"))?;
    match left.checked_sub(bytes.len() as u64) {
        Some(rest) => *left = rest,
        None => {
            return Err(format!(
                "array {key:?}: more than {MOST_PACKED} times as large as the file"
            ));
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

    fn array(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(values);
        bytes
    }

    fn integers(values: &[i32]) -> Vec<u8> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        array("<i4", &format!("({},)", values.len()), &bytes)
    }

    /// The arrays of (0, 3, 0) and (1, 0, 2), and what is put in their place.
    fn write(changes: &[(&str, Option<Vec<u8>>)], method: CompressionMethod) -> tempfile::TempPath {
        let data: Vec<u8> =
            [3.0f64, 1.0, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut arrays = vec![
            ("indices", integers(&[1, 0, 2])),
            ("indptr", integers(&[0, 1, 3])),
            ("format", array("|S3", "()", b"csr")),
            ("shape", integers(&[2, 3])),
            ("data", array("<f8", "(3,)", &data)),
        ];
        for (key, change) in changes {
            arrays.retain(|(other, _)| other != key);
            arrays.extend(change.clone().map(|bytes| (*key, bytes)));
        }
        let path = tempfile::Builder::new().suffix(".npz").tempfile().unwrap().into_temp_path();
        let mut writer = ZipWriter::new(File::create(&path).unwrap());
        for (key, bytes) in arrays {
            let options = SimpleFileOptions::default().compression_method(method);
            writer.start_file(format!("{key}.npy"), options).unwrap();
            writer.write_all(&bytes).unwrap();
        }
        writer.finish().unwrap();
        path
    }

    #[test]
    fn scipy_matrices_are_read_compressed_or_not() {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let unicode = array("<U3", "()", b"c\0\0\0s\0\0\0r\0\0\0");
            for changes in [vec![], vec![("format", Some(unicode))]] {
                let points = read_npz::<f32>(write(&changes, method)).unwrap();
                assert_eq!(points.rows().row(0).collect::<Vec<_>>(), [(1, 3.0)]);
                assert_eq!(points.rows().row(1).collect::<Vec<_>>(), [(0, 1.0), (2, 2.0)]);
                assert_eq!(points.rows().dim(), 3);
            }
        }
    }

    #[test]
    fn other_archives_are_refused_by_the_array_at_fault() {
        let columns = array("|S3", "()", b"csc");
        let real = array("<f8", "(3,)", &[0; 24]);
        let cut = array("<f8", "(3,)", &[0; 23]);
        for (change, expected) in [
            (
                ("format", None),
                "there is no array \"format\"; save a sparse matrix by scipy.sparse.save_npz",
            ),
            (("format", Some(columns)), "a matrix in format \"csc\", expected \"csr\""),
            (("shape", Some(integers(&[2]))), "\"shape\": expected two numbers"),
            (("shape", Some(integers(&[3, 3]))), "\"indptr\": 3 numbers for 3 rows"),
            (("shape", Some(integers(&[2, 2]))), "row 1, column 2: there are 2 columns only"),
            (
                ("indptr", Some(integers(&[0, 1, 4]))),
                "starts of rows must go from 0 to the 3 values",
            ),
            (
                ("indices", Some(integers(&[1, -1, 2]))),
                "\"indices\": -1, expected numbers from 0 on",
            ),
            (("indices", Some(integers(&[1, 2]))), "found 2 columns for 3 values"),
            (("indices", Some(real)), "\"indices\": floating-point numbers"),
            (("data", Some(cut)), "\"data\": the array is cut"),
            (("data", Some(b"PK".to_vec())), "\"data\": not an array"),
            (("data", None), "there is no array \"data\""),
        ] {
            let found = read_npz::<f64>(write(&[change], CompressionMethod::Stored));
            let found = found.unwrap_err().to_string();
            assert!(found.contains(expected), "{expected}: {found}");
        }
        let path = tempfile::Builder::new().suffix(".npz").tempfile().unwrap().into_temp_path();
        std::fs::write(&path, "no archive").unwrap();
        let found = read_npz::<f64>(&path).unwrap_err().to_string();
        assert!(found.contains("not an archive of arrays"), "{found}");
    }
}
