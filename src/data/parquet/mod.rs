//! Parquet files: columns of numbers and booleans, and of lists of numbers that are all of one length; texts are levels, or left out.
//!
//! A column is one dimension, and a list of L floats is L of them, in the order of the file. Values stand column by column
//! and packed, so that points cannot be read in any order; row group by row group they become rows in memory, or in a
//! temporary file if they are larger than the memory allowed.

mod claims;
mod column;

use super::positioned::open_readable;
use super::shuffle::BadRows;
use super::spool::{Room, Spool, Table, no_room};
use super::table::Role;
use super::table::layout::{Found, lay_out};
use super::table::levels::Levels;
use super::weights::check_weights;
use super::{DataSource, OpenOptions};
use crate::error::{DataError, Error, Result};
use crate::scalar::Scalar;
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::schema::types::ColumnDescriptor;
use column::{Column, kind, top};
use std::io;
use std::path::Path;

/// Rows that are unpacked at a time: a few pages of each column are in memory.
const ROWS: usize = 4096;

/// Opens a Parquet file as a source.
///
/// # Errors
/// [`Error::Io`] if the file cannot be opened. [`DataError`] if it is damaged, has columns of anything but floats and lists of
/// them, a list of another length than the first, or a null where values may not be missing; rows and columns count from
/// 0, and columns are dimensions.
pub(super) fn open_parquet<T: Scalar>(
    path: &Path,
    options: &OpenOptions,
    room: &Room,
) -> Result<Box<dyn DataSource<T>>> {
    // The crate panics on parts that contradict each other. A panic leaves nothing behind that is used again.
    let read = std::panic::AssertUnwindSafe(|| read_table(path, options, room));
    std::panic::catch_unwind(read).unwrap_or_else(|_| {
        let message = "damaged, or no Parquet file: its parts contradict each other";
        Err(DataError::new(path.display().to_string(), message).into())
    })
}

fn read_table<T: Scalar>(
    path: &Path,
    options: &OpenOptions,
    room: &Room,
) -> Result<Box<dyn DataSource<T>>> {
    let name = path.display().to_string();
    let damaged = |fault: ParquetError| -> Error {
        DataError::new(&name, format!("damaged, or no Parquet file: {fault}")).into()
    };
    let sound = |checked: io::Result<Result<(), String>>| match checked {
        Err(fault) => Err(Error::io(path, fault)),
        Ok(claims) => claims.map_err(|fault| damaged(ParquetError::General(fault))),
    };
    let (file, metadata) = open_readable(path)?;
    let length = metadata.len();
    let mut bytes = file.try_clone().map_err(|fault| Error::io(path, fault))?;
    sound(claims::check_footer(&mut bytes, length))?;
    let file = SerializedFileReader::new(file).map_err(damaged)?;
    let schema = file.metadata().file_metadata().schema_descr_ptr();
    let fault = |message: String| DataError::new(&name, message);
    let descriptors = schema.columns();
    let of = |descriptor: &ColumnDescriptor| top(descriptor).to_owned();
    let names: Vec<String> = descriptors.iter().map(|it| of(it)).collect();
    let found: Vec<Found> = descriptors
        .iter()
        .map(|it| Found { kind: kind(it), counts: false, is_list: it.max_rep_level() > 0 })
        .collect();
    if names.is_empty() {
        return Err(fault("no columns".to_owned()).into());
    }
    let weights = options.weights_column.as_deref();
    let mut layout = lay_out(Some(&names), &found, weights, &options.table).map_err(fault)?;
    let weights_at = layout.all.iter().position(|column| column.role == Role::Weights);
    let mut columns = Vec::new();
    for (&index, levels) in layout.order.iter().zip(Levels::of(&layout, &options.table)) {
        columns.push(Column::new(index, &descriptors[index], levels).map_err(fault)?);
    }
    let dimensions = columns.len();
    if let Some(index) = weights_at {
        columns.push(Column::new(index, &descriptors[index], None).map_err(fault)?);
    }

    let skips = options.bad_rows == BadRows::Skip;
    let mut values = Spool::new(room);
    let mut weights = Vec::new();
    let mut skipped = 0;
    let (mut row, mut points, mut kept) = (0u64, Vec::<T>::new(), 0u64);
    for group in 0..file.num_row_groups() {
        let group = file.get_row_group(group).map_err(damaged)?;
        let mut readers = Vec::new();
        for column in &columns {
            let chunk = group.metadata().column(column.index);
            let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
            sound(claims::check_pages(&mut bytes, length, (start, chunk.compressed_size())))?;
            readers.push(group.get_column_reader(column.index).map_err(damaged)?);
        }
        let mut left = usize::try_from(group.metadata().num_rows()).unwrap_or_default();
        while left > 0 {
            let count = left.min(ROWS);
            for (column, reader) in columns.iter_mut().zip(&mut readers) {
                if column.read(reader, count).map_err(damaged)? != count {
                    let message = format!(
                        "damaged: column {:?} has fewer values than its row group has rows",
                        column.name
                    );
                    return Err(DataError::new(&name, message).at(row, None).into());
                }
            }
            points.clear();
            for i in 0..count {
                let (before, mut fault, mut weight) = (points.len(), None, None);
                for (c, column) in columns.iter_mut().enumerate() {
                    let at = points.len() - before;
                    let taken = column.take(i, options.missing && c < dimensions, &mut points);
                    fault = fault.or(taken.map(|it| (at, it)));
                    if c == dimensions {
                        weight = points.pop().map(Scalar::to_f64);
                    }
                }
                match fault {
                    None => {
                        let mut at = before;
                        for column in &columns[..dimensions] {
                            let width = column.width.unwrap_or_default();
                            for value in &points[at..at + width] {
                                layout.all[column.index].count(value.to_f64());
                            }
                            at += width;
                        }
                        weights.extend(weight);
                        kept += 1;
                    }
                    Some(_) if skips => {
                        points.truncate(before);
                        skipped += 1;
                    }
                    Some((at, (offset, message))) => {
                        let fault = DataError::new(&name, message);
                        return Err(fault.at(row + i as u64, Some(at + offset)).into());
                    }
                }
            }
            values.extend(&points).map_err(|fault| no_room(&name, &fault))?;
            row += count as u64;
            left -= count;
        }
    }
    if kept == 0 {
        return Err(DataError::new(&name, "no points").into());
    }
    let dim = columns[..dimensions].iter().filter_map(|column| column.width).sum();
    for column in columns {
        let told = &mut layout.all[column.index];
        told.width = column.width.unwrap_or(1);
        told.levels = column.levels.map(Levels::into_names).unwrap_or_default();
    }
    if weights_at.is_some() {
        check_weights(&name, &weights, kept)?;
    }
    let weights = weights_at.map(|_| weights);
    Table { values, weights, columns: layout, dim, skipped }.into_source(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::BlockBuf;
    use ::parquet::basic::{Compression, ZstdLevel};
    use ::parquet::data_type::{
        BoolType, ByteArray, ByteArrayType, DoubleType, FloatType, Int64Type,
    };
    use ::parquet::file::properties::WriterProperties;
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;
    use std::sync::Arc;
    use tempfile::NamedTempFile;

    /// Values of a column in a row group, with definition and repetition levels where it has any.
    enum Values {
        F32(Vec<f32>),
        F64(Vec<f64>),
        I64(Vec<i64>),
        Booleans(Vec<bool>),
        Texts(Vec<&'static str>),
        Levels(Vec<f64>, Vec<i16>, Vec<i16>),
    }

    fn file(columns: &str, compression: Compression, groups: &[Vec<Values>]) -> NamedTempFile {
        let file = NamedTempFile::with_suffix(".parquet").unwrap();
        let schema = parse_message_type(&format!("message schema {{ {columns} }}")).unwrap();
        let properties = WriterProperties::builder().set_compression(compression);
        // Small pages, so that reads go over their borders.
        let properties = properties.set_data_page_size_limit(4096).build();
        let to = file.reopen().unwrap();
        let mut writer =
            SerializedFileWriter::new(to, Arc::new(schema), Arc::new(properties)).unwrap();
        for group in groups {
            let mut out = writer.next_row_group().unwrap();
            for values in group {
                let mut column = out.next_column().unwrap().unwrap();
                match values {
                    Values::F32(v) => column.typed::<FloatType>().write_batch(v, None, None),
                    Values::F64(v) => column.typed::<DoubleType>().write_batch(v, None, None),
                    Values::I64(v) => column.typed::<Int64Type>().write_batch(v, None, None),
                    Values::Booleans(v) => column.typed::<BoolType>().write_batch(v, None, None),
                    Values::Texts(v) => {
                        let texts: Vec<ByteArray> = v.iter().map(|&it| it.into()).collect();
                        column.typed::<ByteArrayType>().write_batch(&texts, None, None)
                    }
                    Values::Levels(v, definitions, repetitions) => {
                        let repetitions = (!repetitions.is_empty()).then_some(&repetitions[..]);
                        column.typed::<DoubleType>().write_batch(v, Some(definitions), repetitions)
                    }
                }
                .unwrap();
                column.close().unwrap();
            }
            out.close().unwrap();
        }
        writer.close().unwrap();
        file
    }

    fn open(file: &NamedTempFile, options: &OpenOptions) -> Result<Box<dyn DataSource<f64>>> {
        crate::data::open(file.path(), options)
    }

    fn rows(source: &dyn DataSource<f64>) -> Vec<Vec<f64>> {
        let mut buffer = BlockBuf::default();
        let block = source.read(0, source.len() as usize, &mut buffer).unwrap();
        block.points.row_iter().map(|row| row.iter().copied().collect()).collect()
    }

    const LISTS: &str =
        "optional group v (LIST) { repeated group list { optional double element; } }";

    #[test]
    fn columns_become_points_over_row_groups_and_batches() {
        let value = |i: usize| (i as f64 * 0.37).sin();
        for (compression, memory) in [
            (Compression::UNCOMPRESSED, None),
            (Compression::SNAPPY, Some(1 << 10)),
            (Compression::ZSTD(ZstdLevel::default()), None),
            (Compression::GZIP(Default::default()), Some(1 << 16)),
        ] {
            let sizes = [ROWS + 17, 3, 2 * ROWS];
            let mut from = 0;
            let groups: Vec<_> = sizes
                .iter()
                .map(|&size| {
                    let range = from..from + size;
                    from += size;
                    vec![
                        Values::F32(range.clone().map(|i| i as f32).collect()),
                        Values::F64(range.map(value).collect()),
                    ]
                })
                .collect();
            let file = file("required float a; required double b;", compression, &groups);
            let options = OpenOptions { memory, ..OpenOptions::default() };
            let source = open(&file, &options).unwrap();
            assert_eq!((source.len(), source.dim()), (from as u64, 2));
            assert_eq!(source.column_names().unwrap(), ["a", "b"]);
            let expected: Vec<_> = (0..from).map(|i| vec![i as f64, value(i)]).collect();
            assert_eq!(rows(&*source), expected);
        }
    }

    #[test]
    fn lists_of_one_length_are_dimensions() {
        let levels = |rows: usize| -> (Vec<i16>, Vec<i16>) {
            (vec![3; 3 * rows], (0..3 * rows).map(|i| i16::from(i % 3 > 0)).collect())
        };
        let groups: Vec<_> = [ROWS + 5, 7]
            .iter()
            .map(|&n| {
                let (definitions, repetitions) = levels(n);
                let values = (0..3 * n).map(|i| i as f64).collect();
                vec![
                    Values::Levels(values, definitions, repetitions),
                    Values::F64((0..n).map(|i| -(i as f64)).collect()),
                ]
            })
            .collect();
        let columns = format!("{LISTS} required double last;");
        let file = file(&columns, Compression::SNAPPY, &groups);
        let source = open(&file, &OpenOptions::default()).unwrap();
        assert_eq!(source.column_names().unwrap(), ["v[0]", "v[1]", "v[2]", "last"]);
        let expected: Vec<_> = (0..ROWS + 5)
            .chain(0..7)
            .map(|i| [3 * i, 3 * i + 1, 3 * i + 2].map(|v| v as f64).to_vec())
            .collect();
        let found = rows(&*source);
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let row = if i < ROWS + 5 { i } else { i - ROWS - 5 };
            assert_eq!((&found[..3], found[3]), (&expected[..], -(row as f64)));
        }
        assert_eq!(found.len(), expected.len());
    }

    #[test]
    fn what_is_no_point_is_named_by_row_and_column() {
        let fault = |columns: &str, group: Vec<Values>| {
            let file = file(columns, Compression::UNCOMPRESSED, &[group]);
            let text = open(&file, &OpenOptions::default()).err().unwrap().to_string();
            let name = file.path().display().to_string();
            let text = text.strip_prefix(&name).expect("the path comes first");
            text.trim_end_matches(" (rows and columns count from 0)").to_owned()
        };
        let numbers = || Values::F64(vec![0.5; 4]);
        let null = Values::Levels(vec![1.0, 2.0, 4.0], vec![1, 1, 0, 1], vec![]);
        let found = fault("required double a; optional double b;", vec![numbers(), null]);
        assert!(found.starts_with(": row 2, column 1: \"b\" is null: missing value"), "{found}");

        // Two numbers, then one; an empty list; no list; a null in a list.
        for (definitions, repetitions, values, expected) in [
            (
                vec![3, 3, 3],
                vec![0, 1, 0],
                3,
                "row 1, column 0: a list of 1 number(s) in \"v\", expected 2 as before",
            ),
            (
                vec![3, 3, 1],
                vec![0, 1, 0],
                2,
                "row 1, column 0: a list of 0 number(s) in \"v\", expected 2 as before",
            ),
            (
                vec![0, 3, 3],
                vec![0, 0, 1],
                2,
                "row 0, column 0: a list of 0 number(s) in \"v\", expected some",
            ),
            (
                vec![3, 3, 3, 2],
                vec![0, 1, 0, 1],
                3,
                "row 1, column 1: \"v\" is null: missing value",
            ),
        ] {
            let values = Values::Levels(vec![1.0; values], definitions, repetitions);
            assert!(fault(LISTS, vec![values]).starts_with(&format!(": {expected}")), "{expected}");
        }

        let time = "required int64 time (TIMESTAMP_MILLIS);";
        let found = fault(time, vec![Values::I64(vec![1, 2])]);
        assert!(found.contains("no column is left for the points"), "{found}");
        let nested = "required group g { required double x; }";
        let found = fault(nested, vec![numbers()]);
        assert!(found.contains("column \"g.x\" is nested"), "{found}");
        assert!(fault("required double a;", vec![Values::F64(vec![])]).contains("no points"));
    }

    #[test]
    fn whole_numbers_and_booleans_are_numbers_and_the_index_is_left_out() {
        let columns = "required int64 n; required boolean ok; required binary city (UTF8);
            required int64 time (TIMESTAMP_MILLIS); required double w; required int64 __index_level_0__;";
        let integers = |values: [i64; 3]| Values::I64(values.to_vec());
        let group = vec![
            integers([7, -8, 1 << 40]),
            Values::Booleans(vec![true, false, true]),
            Values::Texts(vec!["Rome", "Paris", "Rome"]),
            integers([0; 3]),
            Values::F64(vec![1.0, 2.0, 0.5]),
            integers([0, 1, 2]),
        ];
        let file = file(columns, Compression::SNAPPY, &[group]);
        let weighted = OpenOptions::default().weights_column(Some("w".to_owned()));
        let source = open(&file, &weighted).unwrap();
        assert_eq!(source.column_names().unwrap(), ["n", "ok"]);
        let expected = [[7.0, 1.0], [-8.0, 0.0], [(1i64 << 40) as f64, 1.0]];
        assert_eq!(rows(&*source), expected);
        let mut buffer = BlockBuf::default();
        let block = source.read(0, 3, &mut buffer).unwrap();
        assert_eq!(block.weights, Some(&[1.0, 2.0, 0.5][..]));
        let columns = source.columns().unwrap();
        let roles: Vec<_> = columns.all.iter().map(|column| column.role.clone()).collect();
        let [text, index] = [Role::LeftOut("text"), Role::LeftOut("row index")];
        let dimension = || Role::Dimension;
        assert_eq!(roles, [dimension(), dimension(), text.clone(), text, Role::Weights, index]);

        let table = crate::data::TableOptions::default()
            .columns(Some(vec!["city".into(), "n".into()]))
            .named_by_model(vec![("city".into(), true)]);
        let source = open(&file, &OpenOptions::default().table(table)).unwrap();
        assert_eq!(rows(&*source), [[0.0, 7.0], [1.0, -8.0], [0.0, (1i64 << 40) as f64]]);
        assert_eq!(source.columns().unwrap().schema().unwrap().levels[0], ["Rome", "Paris"]);
    }

    #[test]
    fn whole_numbers_without_a_sign_keep_their_size() {
        for columns in ["required int64 n (UINT_64);", "required int64 n (INTEGER(64, false));"] {
            let group = vec![Values::I64(vec![5, -2048, i64::MIN])];
            let whole = file(columns, Compression::UNCOMPRESSED, &[group]);
            let source = open(&whole, &OpenOptions::default()).unwrap();
            let large = 2f64.powi(64) - 2048.0;
            assert_eq!(rows(&*source), [[5.0], [large], [2f64.powi(63)]], "{columns}");
            let rounded = file(columns, Compression::UNCOMPRESSED, &[vec![Values::I64(vec![-1])]]);
            let fault = open(&rounded, &OpenOptions::default()).err().unwrap().to_string();
            assert!(fault.contains("would be rounded"), "{fault}");
        }
    }

    #[test]
    fn nulls_are_missing_values_or_left_out_where_that_is_asked_for() {
        let null = || Values::Levels(vec![1.0, 3.0], vec![1, 0, 1], vec![]);
        let numbers = || Values::F64(vec![4.0, 5.0, 6.0]);
        let columns = "optional double a; required double b;";
        let file = file(columns, Compression::UNCOMPRESSED, &[vec![null(), numbers()]]);
        let missing = OpenOptions { missing: true, ..OpenOptions::default() };
        let found = rows(&*open(&file, &missing).unwrap());
        assert!(found[1][0].is_nan() && found[1][1] == 5.0 && found[2] == [3.0, 6.0]);
        let skip = OpenOptions { bad_rows: BadRows::Skip, ..OpenOptions::default() };
        let source = open(&file, &skip).unwrap();
        assert_eq!((rows(&*source), source.skipped()), (vec![vec![1.0, 4.0], vec![3.0, 6.0]], 1));
    }

    /// As in text: models say what they take, and streams leave out what these do not.
    #[test]
    fn values_that_are_nan_are_read_as_they_are() {
        let values = || Values::F64(vec![1.0, f64::NAN, 3.0]);
        let file = file("required double a;", Compression::UNCOMPRESSED, &[vec![values()]]);
        for bad_rows in [BadRows::Error, BadRows::Skip] {
            let source = open(&file, &OpenOptions { bad_rows, ..OpenOptions::default() }).unwrap();
            let found = rows(&*source);
            assert!(found.len() == 3 && found[1][0].is_nan() && source.skipped() == 0);
        }
    }

    #[test]
    fn a_file_that_is_cut_or_overwritten_is_an_error() {
        let values = || vec![Values::F64((0..5000).map(f64::from).collect())];
        let file = file("required double a;", Compression::SNAPPY, &[values(), values()]);
        let bytes = std::fs::read(file.path()).unwrap();
        for end in [3, 100, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(file.path(), &bytes[..end]).unwrap();
            let fault = open(&file, &OpenOptions::default()).err().unwrap().to_string();
            assert!(fault.contains("damaged, or no Parquet file"), "{fault}");
        }
        // The footer is whole, the pages are not: whatever is found, it is no panic.
        for at in (4..bytes.len() / 2).step_by(97) {
            let mut bytes = bytes.clone();
            bytes[at..at + 8].fill(0xff);
            std::fs::write(file.path(), &bytes).unwrap();
            let _ = open(&file, &OpenOptions::default());
        }
    }
}
