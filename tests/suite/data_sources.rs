//! Sources of points through their public interface: every format against bytes made here.

use crate::common::OnRead;

use entropysum::data::{
    self, CsvWriter, DataSource, Dtype, Format, NpyFile, NpyWriter, OpenOptions, Points, Stoppable,
};
use entropysum::em;
use entropysum::error::{DataError, Error};
use entropysum::expert::{RawFile, read_text};
use entropysum::family::registry;
use entropysum::{BlockBuf, Config, Executor, MixtureSpec, Scalar, StopReason, observe};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tempfile::TempDir;

/// A directory whose files are written from bytes.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// A `.npy` file as NumPy would write it.
fn npy(version: u8, descr: &str, fortran: bool, shape: &str, values: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
    let preface = if version == 1 { 10 } else { 12 };
    header.push_str(&" ".repeat(63 - (preface + header.len()) % 64));
    header.push('\n');
    assert_eq!((preface + header.len()) % 64, 0);
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend((header.len() as u16).to_le_bytes()),
        _ => bytes.extend((header.len() as u32).to_le_bytes()),
    }
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    bytes
}

fn f64_bytes(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// All points, read in blocks of `count`.
fn rows_by<T: Scalar>(source: &dyn DataSource<T>, count: u64) -> Vec<Vec<f64>> {
    let mut buffer = BlockBuf::default();
    let mut rows = Vec::new();
    while (rows.len() as u64) < source.len() {
        let start = rows.len() as u64;
        let block =
            source.read(start, count.min(source.len() - start) as usize, &mut buffer).unwrap();
        assert_eq!(block.first, start);
        assert_eq!(block.dim(), source.dim());
        rows.extend(
            block.points.row_iter().map(|row| row.iter().map(|value| value.to_f64()).collect()),
        );
    }
    rows
}

fn open(path: &Path) -> Box<dyn DataSource<f64>> {
    data::open(path, &OpenOptions::default()).unwrap()
}

fn open_fault(path: &Path, options: &OpenOptions) -> String {
    data::open::<f64>(path, options).expect_err("an error").to_string()
}

#[test]
fn npy_of_every_type_and_version() {
    let folder = Folder::new();
    macro_rules! check {
        ($type:ty, $descr:literal, $values:expr) => {
            let values: [$type; 6] = $values;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            for version in 1..=3 {
                let path = folder.file("it.npy", npy(version, $descr, false, "(2, 3)", &bytes));
                let wide = values.map(|value| value as f64);
                let narrow = wide.map(|value| f64::from(value as f32));
                let file = NpyFile::open(&path).unwrap();
                assert_eq!(rows_by::<f64>(&file, 1), [&wide[..3], &wide[3..]], "{}", $descr);
                assert_eq!(rows_by::<f32>(&file, 2), [&narrow[..3], &narrow[3..]], "{}", $descr);
            }
        };
    }
    check!(f32, "<f4", [0.0, 1.5, -2.5, 1e30, f32::MIN_POSITIVE, -0.1]);
    check!(f64, "<f8", [0.0, 1.5, -2.5, 1e300, f64::MIN_POSITIVE, -0.1]);
    check!(u8, "|u1", [0, 1, 2, 127, 128, 255]);
    check!(i8, "|i1", [0, 1, 2, 127, -128, -1]);
    check!(u16, "<u2", [0, 1, 256, 32767, 32768, 65535]);
    check!(i16, "<i2", [0, 1, 256, 32767, -32768, -1]);
    check!(u32, "<u4", [0, 1, 256, 65536, 1 << 31, u32::MAX]);
    check!(i32, "<i4", [0, 1, 256, 65536, i32::MIN, -1]);
    check!(u64, "<u8", [0, 1, 256, 65536, 1 << 53, 1 << 63]);
    check!(i64, "<i8", [0, 1, 256, 65536, i64::MIN, (1 << 53) - 1]);

    let path = folder.file("bool.npy", npy(1, "|b1", false, "(2,)", &[1, 0]));
    assert_eq!(rows_by(&*open(&path), 2), [[1.0], [0.0]]);
}

#[test]
fn npy_shapes_and_orders() {
    let folder = Folder::new();
    let values = f64_bytes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let flat = folder.file("flat.npy", npy(1, "<f8", false, "(6,)", &values));
    assert_eq!(rows_by(&*open(&flat), 4), [[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]]);
    assert_eq!(open(&flat).dim(), 1);

    for (name, descr, values) in [
        ("fortran.npy", "<f8", values.clone()),
        ("fortran-bytes.npy", "|u1", vec![1, 2, 3, 4, 5, 6]),
    ] {
        let fortran = folder.file(name, npy(1, descr, true, "(3, 2)", &values));
        for count in 1..=3 {
            assert_eq!(rows_by(&*open(&fortran), count), [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]);
        }
    }

    let none = folder.file("none.npy", npy(1, "<f8", false, "(0, 3)", &[]));
    let none = open(&none);
    assert_eq!((none.len(), none.dim(), none.is_empty()), (0, 3, true));
    assert!(none.read(0, 0, &mut BlockBuf::default()).unwrap().is_empty());
    assert!(data::load(&*none).unwrap().is_empty());

    // NumPy appends arrays to an open file; the first one counts.
    let more = folder.file("more.npy", npy(1, "<f8", false, "(2, 2)", &values));
    assert_eq!(rows_by(&*open(&more), 2), [[1.0, 2.0], [3.0, 4.0]]);
}

#[test]
fn npy_faults_at_opening() {
    let folder = Folder::new();
    let values = f64_bytes(&[1.0; 6]);
    let whole = npy(1, "<f8", false, "(3, 2)", &values);
    for (bytes, expected) in [
        (
            whole[..whole.len() - 1].to_vec(),
            "the file is cut: found 175 bytes, expected 176 for 3 x 2 values of type f64",
        ),
        (whole[..100].to_vec(), "the file ends within its header: found 100 bytes, expected 128"),
        (whole[..9].to_vec(), "the file ends within its header, at byte 9"),
        (whole[..5].to_vec(), "the file ends within its header, at byte 5"),
        (b"PK\x03\x04 and more".to_vec(), "not a .npy file: it does not start with \\x93NUMPY"),
        (
            npy(4, "<f8", false, "(3, 2)", &values),
            "version 4 of the .npy format, expected 1, 2 or 3",
        ),
        (
            npy(1, ">f8", false, "(3, 2)", &values),
            "big-endian values (\">f8\"), expected little-endian",
        ),
        (npy(2, "<c16", false, "(3,)", &values), "complex numbers"),
        (npy(1, "|O", false, "(3,)", &values), "Python objects"),
        (npy(1, "<f8", false, "(3, 2, 1)", &values), "an array with 3 dimensions"),
        (
            npy(1, "<f8", false, "(4294967296, 4294967296)", &values),
            "the file is cut: found 176 bytes, expected more than 2^64",
        ),
        (
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(),
            "the file ends within its header: found 12 bytes",
        ),
        (Vec::new(), "the file is empty"),
    ] {
        let path = folder.file("bad.npy", bytes);
        let found = open_fault(&path, &OpenOptions::default());
        assert!(
            found.starts_with(&format!("{}: {expected}", path.display())),
            "{expected}: {found}"
        );
    }
}

#[test]
fn a_file_cut_while_it_is_read_is_a_fault_at_a_row() {
    let folder = Folder::new();
    let values = f64_bytes(&[1.0; 40]);
    let options = OpenOptions::default().raw(Some((Dtype::F64, 2)));
    for (name, bytes, header, options) in [
        ("rows.npy", npy(1, "<f8", false, "(20, 2)", &values), 128, OpenOptions::default()),
        ("rows.raw", values.clone(), 0, options),
    ] {
        let path = folder.file(name, bytes);
        let source = data::open::<f64>(&path, &options).unwrap();
        let narrow = data::open::<f32>(&path, &options).unwrap();
        // In the middle of row 7.
        fs::File::options().write(true).open(&path).unwrap().set_len(header + 7 * 16 + 3).unwrap();
        assert_eq!(source.read(0, 7, &mut BlockBuf::default()).unwrap().len(), 7);
        let whole = source.len() * 16 + header;
        let expected = DataError::new(
            path.display().to_string(),
            format!(
                "the file ends here, at byte {}: it was {whole} bytes long when it was opened",
                header + 7 * 16 + 3
            ),
        );
        let found = source.read(4, 8, &mut BlockBuf::default()).unwrap_err();
        assert!(
            matches!(&found, Error::Data(it) if *it == expected.clone().at(7, None)),
            "{found}"
        );
        let found = narrow.read(4, 8, &mut BlockBuf::default()).unwrap_err();
        assert!(
            matches!(&found, Error::Data(it) if *it == expected.clone().at(7, None)),
            "{found}"
        );
        let found = source.read(12, 8, &mut BlockBuf::default()).unwrap_err();
        assert!(matches!(&found, Error::Data(it) if it.row == Some(12)), "{found}");
        assert!(data::load(&*source).is_err());
    }

    let path = folder.file("columns.npy", npy(1, "<f8", true, "(20, 2)", &values));
    let source = NpyFile::open(&path).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(128 + (20 + 6) * 8).unwrap();
    let found = DataSource::<f64>::read(&source, 4, 8, &mut BlockBuf::default()).unwrap_err();
    assert!(
        matches!(&found, Error::Data(it) if (it.row, it.column) == (Some(6), Some(1))),
        "{found}"
    );
}

#[test]
fn raw_files_need_their_type_and_dimension() {
    let folder = Folder::new();
    let path = folder.file("points.f32", [1.0f32, 2.0, 3.0, 4.0].map(f32::to_le_bytes).concat());
    let fault = open_fault(&path, &OpenOptions::default());
    assert!(fault.contains("points.f32") && fault.contains("give the type"), "{fault}");
    let options = OpenOptions::default().raw(Some((Dtype::F32, 2)));
    assert_eq!(rows_by(&*data::open::<f32>(&path, &options).unwrap(), 1), [[1.0, 2.0], [3.0, 4.0]]);
    let options = OpenOptions::default().raw(Some((Dtype::F32, 3)));
    assert!(open_fault(&path, &options).contains("found 16 bytes, expected a multiple of 12"));
    assert_eq!(
        RawFile::open(&path, Dtype::U8, 16).map(|file| DataSource::<f64>::len(&file)).unwrap(),
        1
    );

    let npy = folder.file("points.npy", npy(1, "|u1", false, "(2,)", &[1, 2]));
    assert!(open_fault(&npy, &options).contains("only a raw file needs a type"));
}

#[test]
fn formats_are_detected() {
    let folder = Folder::new();
    let array = npy(1, "|u1", false, "(1, 2)", &[1, 2]);
    for name in ["a.npy", "a.NPY", "a", "a.unknown"] {
        assert_eq!(rows_by(&*open(&folder.file(name, &array)), 1), [[1.0, 2.0]], "{name}");
    }
    for name in ["t.csv", "t.CSV", "t.tsv", "t.txt", "t.dat", "t.data", "t", "t.unknown"] {
        assert_eq!(rows_by(&*open(&folder.file(name, "1 2\n")), 1), [[1.0, 2.0]], "{name}");
    }
    // Shorter than the magic bytes.
    assert_eq!(rows_by(&*open(&folder.file("short", "7")), 1), [[7.0]]);

    let text = folder.file("text.npy", "1 2\n");
    let options = OpenOptions::default().format(Some("text".parse().unwrap()));
    assert_eq!(rows_by(&*data::open::<f64>(&text, &options).unwrap(), 1), [[1.0, 2.0]]);
    let options = OpenOptions::default().format(Some(Format::Npy));
    assert!(open_fault(&folder.file("n.csv", "1 2 3 4 5\n"), &options).contains("not a .npy file"));
    assert!("csv?".parse::<Format>().is_err());
    assert!(
        open_fault(&folder.file("a.npz", "PK"), &OpenOptions::default()).contains("numpy.save")
    );
}

#[test]
fn files_that_cannot_be_opened_are_named() {
    let folder = Folder::new();
    for extension in ["npy", "csv", "raw", "unknown"] {
        let name = format!("it.{extension}");
        let missing = folder.path(&name);
        let fault = data::open::<f64>(&missing, &OpenOptions::default()).err().unwrap();
        assert!(matches!(&fault, Error::Io { path, .. } if *path == missing), "{fault}");
        let empty = folder.file(&name, "");
        let fault = open_fault(&empty, &OpenOptions::default());
        assert_eq!(fault, format!("{}: the file is empty", empty.display()));
        fs::remove_file(&empty).unwrap();
        fs::create_dir(&missing).unwrap();
        let fault = open_fault(&missing, &OpenOptions::default());
        assert_eq!(fault, format!("{}: a directory, expected a file", missing.display()));
    }
}

#[test]
fn weights_come_from_a_column_or_a_file() {
    let folder = Folder::new();
    let points = folder.file("points.csv", "x,w\n1,0.5\n2,0\n3,1.5\n");
    let column = OpenOptions::default().weights_column(Some("w".to_owned()));
    let source = data::open::<f64>(&points, &column).unwrap();
    let mut buffer = BlockBuf::default();
    assert_eq!(source.read(1, 2, &mut buffer).unwrap().weights, Some(&[0.0, 1.5][..]));
    assert_eq!(source.dim(), 1);

    let array = folder.file("points.npy", npy(1, "|u1", false, "(3, 1)", &[1, 2, 3]));
    let with = |weights: PathBuf| OpenOptions::default().weights(Some(weights));
    for weights in [
        folder.file("w.txt", "0.5\n0\n1.5\n"),
        folder.file("w.npy", npy(1, "<f8", false, "(3,)", &f64_bytes(&[0.5, 0.0, 1.5]))),
    ] {
        let source = data::open::<f32>(&array, &with(weights)).unwrap();
        assert_eq!(source.name(), array.display().to_string());
        let mut buffer = BlockBuf::default();
        let block = source.read(1, 2, &mut buffer).unwrap();
        assert_eq!(block.weights, Some(&[0.0, 1.5][..]));
        assert_eq!(block.points[(1, 0)], 3.0);
        let loaded = data::load(&*source).unwrap();
        assert_eq!(loaded.weights(), Some(&[0.5, 0.0, 1.5][..]));
        assert_eq!(loaded.name(), source.name());
    }

    for (content, expected) in [
        ("1\n1\n", "found 2 weights, expected one for each of 3 points"),
        ("1\n-1\n1\n", "row 1: weight -1 is not"),
        ("1\n1\nnan\n", "row 2: weight NaN is not"),
        ("1\n1\ninf\n", "row 2: weight inf is not"),
        ("0\n0\n0\n", "the weights sum to 0"),
        ("1 1\n1 1\n1 1\n", "found 2 columns, expected 1 with the weights"),
    ] {
        let weights = folder.file("bad.txt", content);
        let fault = open_fault(&array, &with(weights.clone()));
        assert!(fault.starts_with(&format!("{}: {expected}", weights.display())), "{fault}");
    }
    assert!(open_fault(&array, &column).contains("only text and Parquet have a weights column"));
    let both = column.weights(Some(array.clone()));
    assert!(open_fault(&points, &both).contains("exclude each other"));
    let missing = folder.path("missing.txt");
    assert!(open_fault(&array, &with(missing.clone())).starts_with(&missing.display().to_string()));
}

#[test]
fn text_faults_carry_the_path() {
    let folder = Folder::new();
    let path = folder.file("points.csv", "x,y\n1,2\n3,oops\n");
    let fault = read_text::<f64>(&path, None).unwrap_err();
    let expected =
        DataError::new(path.display().to_string(), "line 3 (\"y\"): \"oops\" is not a number")
            .at(1, Some(1));
    assert!(matches!(&fault, Error::Data(it) if *it == expected), "{fault}");
}

#[test]
fn loading_copies_every_value_once() {
    let folder = Folder::new();
    // More than one chunk, in both orders.
    let (rows, dim) = (200_003usize, 7usize);
    let values: Vec<f32> = (0..rows * dim).map(|index| index as f32).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let by_row = folder.file("c.npy", npy(1, "<f4", false, &format!("({rows}, {dim})"), &bytes));
    let by_column = folder.file("f.npy", npy(1, "<f4", true, &format!("({rows}, {dim})"), &bytes));
    let options = OpenOptions::default();

    let loaded = data::load(&*data::open::<f32>(&by_row, &options).unwrap()).unwrap();
    assert_eq!(loaded.view(), faer::MatRef::from_row_major_slice(&values, rows, dim));
    assert_eq!((loaded.name(), loaded.weights()), (by_row.display().to_string(), None));
    let loaded = data::load(&*data::open::<f32>(&by_column, &options).unwrap()).unwrap();
    assert_eq!(loaded.view(), faer::MatRef::from_column_major_slice(&values, rows, dim));

    let wide = data::load(&*data::open::<f64>(&by_row, &options).unwrap()).unwrap();
    assert_eq!(wide.view()[(rows - 1, dim - 1)], f64::from(values[rows * dim - 1]));
}

#[test]
fn a_source_too_large_for_memory_is_a_fault() {
    struct Huge;
    impl DataSource<f64> for Huge {
        fn name(&self) -> String {
            "huge".to_owned()
        }
        fn dim(&self) -> usize {
            1 << 20
        }
        fn len(&self) -> u64 {
            1 << 50
        }
        fn read<'a>(
            &'a self,
            _: u64,
            _: usize,
            _: &'a mut BlockBuf<f64>,
        ) -> entropysum::error::Result<entropysum::Block<'a, f64>> {
            unreachable!("nothing is read before there is room for it")
        }
    }
    let fault = data::load(&Huge).unwrap_err().to_string();
    assert!(fault.starts_with("huge: ") && fault.ends_with("do not fit into memory"), "{fault}");
}

#[test]
fn npy_files_are_read_back_as_written() {
    let folder = Folder::new();
    let path = folder.path("out.npy");
    let values = [1.0, -0.1, 1e-310, 1e300, 5.0, 6.0];

    let mut writer = NpyWriter::create(&path, Dtype::F64, Some(3)).unwrap();
    writer.write(&values[..2]).unwrap();
    writer.write(&values[2..]).unwrap();
    assert!(!path.exists());
    writer.finish().unwrap();
    assert_eq!(rows_by(&*open(&path), 2), [&values[..3], &values[3..]]);
    // What NumPy expects of version 1: an aligned header that ends with a line end.
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes[..10], *b"\x93NUMPY\x01\x00\x76\x00");
    assert!(
        bytes[10..].starts_with(b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }  ")
    );
    assert_eq!((bytes[127], bytes.len()), (b'\n', 128 + 48));

    let mut writer = NpyWriter::create(&path, Dtype::F32, Some(1)).unwrap();
    writer.write(&values).unwrap();
    writer.write(&[7.0f32]).unwrap();
    writer.finish().unwrap();
    let file = NpyFile::open(&path).unwrap();
    assert_eq!(file.dtype(), Dtype::F32);
    let narrow: Vec<f64> =
        values.iter().chain(&[7.0]).map(|value| f64::from(*value as f32)).collect();
    assert_eq!(rows_by::<f64>(&file, 3).concat(), narrow);

    let mut writer = NpyWriter::create(&path, Dtype::I64, None).unwrap();
    writer.write(&[-1i64, 0, 3]).unwrap();
    writer.finish().unwrap();
    assert_eq!(rows_by(&*open(&path), 3), [[-1.0], [0.0], [3.0]]);
    assert!(
        fs::read(&path).unwrap()[10..]
            .starts_with(b"{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }")
    );

    NpyWriter::create(&path, Dtype::F64, Some(4)).unwrap().finish().unwrap();
    assert_eq!((open(&path).len(), open(&path).dim()), (0, 4));
    assert_eq!(folder.names(), ["out.npy"]);
}

#[test]
fn npy_writers_refuse_what_does_not_fit() {
    let folder = Folder::new();
    let path = folder.path("out.npy");
    assert!(matches!(NpyWriter::create(&path, Dtype::U8, None), Err(Error::Config(_))));
    assert!(matches!(NpyWriter::create(&path, Dtype::F64, Some(0)), Err(Error::Config(_))));
    let mut writer = NpyWriter::create(&path, Dtype::F64, Some(2)).unwrap();
    assert!(matches!(writer.write(&[1i64]), Err(Error::Config(_))));
    writer.write(&[1.0, 2.0, 3.0]).unwrap();
    let fault = writer.finish().unwrap_err().to_string();
    assert!(fault.contains("row 1: the last row has 1 values, expected 2"), "{fault}");
    assert!(matches!(
        NpyWriter::create(folder.path("nowhere/out.npy"), Dtype::F64, None),
        Err(Error::Io { .. })
    ));
    assert!(folder.names().is_empty());
}

#[test]
fn csv_files_are_read_back_as_written() {
    let folder = Folder::new();
    let path = folder.path("out.csv");
    let values = [1.0, -0.1, 1e-310, 1.7976931348623157e308, 1.0 / 3.0, -0.0];
    let mut writer = CsvWriter::create(&path, &["a, \"b\"", "c"]).unwrap();
    writer.write_rows(&values[..2]).unwrap();
    writer.write_rows(&values[2..]).unwrap();
    assert!(!path.exists());
    writer.finish().unwrap();
    let table = read_text::<f64>(&path, None).unwrap();
    assert_eq!(table.header.unwrap(), ["a, \"b\"", "c"]);
    let read: Vec<u64> =
        rows_by::<f64>(&table.points, 9).concat().iter().map(|value| value.to_bits()).collect();
    assert_eq!(read, values.map(f64::to_bits));

    let mut writer = CsvWriter::create(&path, &["label"]).unwrap();
    writer.write_labels(&[3, -1, 0]).unwrap();
    writer.finish().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "label\n3\n-1\n0\n");
    assert_eq!(folder.names(), ["out.csv"]);
}

#[test]
fn unfinished_writers_leave_nothing() {
    let folder = Folder::new();
    let mut npy = NpyWriter::create(folder.path("out.npy"), Dtype::F64, None).unwrap();
    npy.write(&[1.0; 100_000]).unwrap();
    let mut csv = CsvWriter::create(folder.path("out.csv"), &["x", "y"]).unwrap();
    csv.write_rows(&[1.0; 100_000]).unwrap();
    assert!(matches!(csv.write_rows(&[1.0]), Err(Error::Config(_))));
    assert_eq!(folder.names().len(), 2);
    drop((npy, csv));
    assert!(folder.names().is_empty());
    assert!(matches!(
        CsvWriter::create(folder.path("out.csv"), &[] as &[&str]),
        Err(Error::Config(_))
    ));
}

#[cfg(target_os = "linux")]
#[test]
fn special_files_are_written_and_read() {
    let fault = || -> entropysum::error::Result<()> {
        let mut writer = NpyWriter::create("/dev/full", Dtype::F64, None)?;
        writer.write(&[1.0; 100_000])?;
        writer.finish()
    };
    assert!(matches!(fault(), Err(Error::Io { path, .. }) if path == Path::new("/dev/full")));
    let mut writer = CsvWriter::create("/dev/null", &["x"]).unwrap();
    writer.write_rows(&[1.0]).unwrap();
    writer.finish().unwrap();

    let options = OpenOptions::default().format(Some(Format::Npy));
    assert!(open_fault(Path::new("/dev/null"), &options).contains("not a regular file"));
    let fault = open_fault(Path::new("/dev/null"), &OpenOptions::default());
    assert!(fault.contains("/dev/null: no points"), "{fault}");
}

#[test]
fn sources_are_read_from_several_threads() {
    let folder = Folder::new();
    let values: Vec<f64> = (0..1000).map(f64::from).collect();
    let path = folder.file("points.npy", npy(1, "<f8", false, "(500, 2)", &f64_bytes(&values)));
    let source = open(&path);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let source = &source;
            scope.spawn(move || {
                let mut buffer = BlockBuf::default();
                for row in (thread..500).step_by(4) {
                    let block = source.read(row, 1, &mut buffer).unwrap();
                    assert_eq!(block.points[(0, 1)], (2 * row + 1) as f64);
                }
            });
        }
    });
}

#[test]
fn views_of_any_strides_are_loaded() {
    let matrix = faer::Mat::from_fn(5, 3, |i, j| (10 * i + j) as f64);
    let every_other = matrix.as_ref().transpose().subcols(1, 3);
    let points = Points::from_mat(every_other).unwrap().with_weights(vec![1.0, 2.0, 3.0]).unwrap();
    let loaded = data::load(&points).unwrap();
    assert_eq!(loaded.view(), every_other);
    assert_eq!(loaded.weights(), points.weights());
}

/// Files that SciPy 1.17 wrote: both widths of indices, several types of values, packed and not; and a matrix of unsorted
/// columns, of which one is there twice and one holds a zero.
#[test]
fn sparse_matrices_are_read_as_scipy_writes_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scipy");
    let mut expected = vec![vec![0.0; 7]; 5];
    for (i, d, value) in
        [(0, 1, 3.0), (0, 6, 1.0), (2, 0, 2.0), (2, 3, 1.0), (2, 4, 120.0), (4, 6, 5.0)]
    {
        expected[i][d] = value;
    }
    for name in [
        "float64_int32",
        "float32_int64_stored",
        "int64_int64",
        "uint8_int32_stored",
        "int32_int32",
        "unsorted_array",
    ] {
        let source = open(&folder.join(format!("{name}.npz")));
        assert!(data::is_sparse(&*source), "{name}");
        assert_eq!(rows_by(&*source, 2), expected, "{name}");
    }
    expected.iter_mut().flatten().for_each(|value| *value = value.min(1.0));
    assert_eq!(rows_by(&*open(&folder.join("bool_int32.npz")), 5), expected);
    let fault = open_fault(&folder.join("columns.npz"), &OpenOptions::default());
    assert!(fault.contains("a matrix in format \"csc\", expected \"csr\""), "{fault}");

    // Several files are one sparse source.
    let files = [folder.join("int64_int64.npz"), folder.join("float64_int32.npz")];
    let both = data::open_all::<f64>(&files, &OpenOptions::default()).unwrap();
    assert!(data::is_sparse(&*both));
    let mut buffer = BlockBuf::default();
    let block = both.read_sparse(2, 5, &mut buffer).unwrap();
    let mut values = Vec::new();
    block.for_each(|i, d, value| values.push((i, d, value)));
    assert_eq!(values[3..], [(2, 6, 5.0), (3, 1, 3.0), (3, 6, 1.0)]);
}

#[test]
fn a_fit_that_is_stopped_in_a_sweep_has_the_model_of_the_iteration_before() {
    let value = |i: u32| f64::from(i % 2) * 3.0 + (f64::from(i) * 0.37).sin();
    let values: Vec<f64> = (0..60_000).map(value).collect();
    let fit = |after, n_init, max_iter| {
        let (iterations, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let points = Points::from_rows(&values, 1).unwrap();
        // The first read after so many iterations sets the flag.
        let before = |_| {
            stop.fetch_or(iterations.load(Ordering::Relaxed) == after, Ordering::Relaxed);
            Ok(())
        };
        let points = OnRead { points: &points, before };
        let points = Stoppable::new(&points, &stop);
        let spec = MixtureSpec::new(registry::build("gaussian-full", 1).unwrap(), 2);
        let config = Config::default().tol(0.0).max_iter(max_iter).n_init(n_init);
        let mut watch = observe(|_| {
            iterations.fetch_add(1, Ordering::Relaxed);
        });
        em::fit(&spec, &points, &Executor::new(Some(2)).unwrap(), &config, &mut watch)
    };
    let (stopped, whole) = (fit(3, 1, 20).unwrap(), fit(usize::MAX, 1, 3).unwrap());
    assert_eq!(stopped.stop_reason, StopReason::Interrupted);
    assert_eq!(stopped.history.records.len(), 3);
    assert_eq!(stopped.model.parameters(), whole.model.parameters());
    // In the start after the first: the first is kept.
    let first = fit(3, 2, 3).unwrap();
    assert_eq!(first.history.records.len(), 3);
    assert_eq!(first.model.parameters(), whole.model.parameters());
    assert!(matches!(fit(0, 1, 3), Err(Error::Interrupted)));
}
