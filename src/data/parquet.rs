//! Parquet files: columns of floats, and of lists of floats that are all of one length.
//!
//! A column is one dimension, and a list of L floats is L of them, in the order of the file. Values stand column by column
//! and packed, so that points cannot be read in any order; row group by row group they become rows in memory, or in a
//! temporary file if they are larger than the memory allowed.

use super::positioned::open_readable;
use super::shuffle::BadRows;
use super::spool::{Spool, Table, no_room};
use super::table::cells::MISSING_VALUE;
use super::table::layout::{Found, lay_out};
use super::table::levels::Levels;
use super::table::{Kind, Role};
use super::weights::check_weights;
use super::{DataSource, OpenOptions};
use crate::error::{DataError, Error, Result};
use crate::scalar::Scalar;
use ::parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::DataType;
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::schema::types::ColumnDescriptor;
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
) -> Result<Box<dyn DataSource<T>>> {
    let name = path.display().to_string();
    let damaged = |fault: ParquetError| -> Error {
        DataError::new(&name, format!("damaged, or no Parquet file: {fault}")).into()
    };
    let (file, _) = open_readable(path)?;
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
    let mut values = Spool::new(options.memory);
    let mut weights = Vec::new();
    let mut skipped = 0;
    let (mut row, mut points, mut kept) = (0u64, Vec::new(), 0u64);
    for group in 0..file.num_row_groups() {
        let group = file.get_row_group(group).map_err(damaged)?;
        let mut readers = Vec::new();
        for column in &columns {
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

/// Returns the name of a column. Of what is in a list the formats' writers have names of their own.
fn top(descriptor: &ColumnDescriptor) -> &str {
    descriptor.path().parts().first().map_or("", String::as_str)
}

/// Returns what a column holds: numbers, or anything else as text.
fn kind(descriptor: &ColumnDescriptor) -> Kind {
    let is_plain = matches!(
        (descriptor.logical_type_ref(), descriptor.converted_type()),
        (None, ConvertedType::NONE)
            | (Some(LogicalType::Integer { .. }), _)
            | (
                None,
                ConvertedType::INT_8
                    | ConvertedType::INT_16
                    | ConvertedType::INT_32
                    | ConvertedType::INT_64
                    | ConvertedType::UINT_8
                    | ConvertedType::UINT_16
                    | ConvertedType::UINT_32
                    | ConvertedType::UINT_64
            )
    );
    match descriptor.physical_type() {
        Physical::FLOAT | Physical::DOUBLE => Kind::Number,
        Physical::INT32 | Physical::INT64 if is_plain => Kind::Integer,
        Physical::BOOLEAN => Kind::Boolean,
        _ => Kind::Text,
    }
}

/// A column of the file, and the values of some rows.
struct Column {
    /// Where it stands in the file.
    index: usize,
    name: String,
    is_list: bool,
    /// What its texts stand for, if it has texts.
    levels: Option<Levels>,
    /// The definition level of a value that is there, and the least one of a place for a value.
    defined: i16,
    placed: i16,
    /// Dimensions: 1, or the length of the first list.
    width: Option<usize>,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    /// Values that are there, one after another, and where those of a row and its levels begin; one row more at the end.
    values: Vec<f64>,
    starts: Vec<(usize, usize)>,
    /// Values that could not be read as numbers, and why.
    faults: Vec<(usize, String)>,
}

impl Column {
    /// A column by its description, or what is wrong with it.
    fn new(
        index: usize,
        descriptor: &ColumnDescriptor,
        levels: Option<Levels>,
    ) -> Result<Self, String> {
        let parts = descriptor.path().parts();
        let is_list = descriptor.max_rep_level() == 1;
        let physical = descriptor.physical_type();
        let is_text = matches!(physical, Physical::BYTE_ARRAY) && levels.is_some();
        if kind(descriptor) == Kind::Text && !is_text {
            return Err(format!(
                "column {:?} is of type {physical}, expected numbers, booleans or lists of them",
                parts.join(".")
            ));
        }
        // A list is a group of a repeated group of its elements, or shorter; more is something else.
        if descriptor.max_rep_level() > 1 || parts.len() > if is_list { 3 } else { 1 } {
            return Err(format!(
                "column {:?} is nested, expected numbers or lists of numbers",
                parts.join(".")
            ));
        }
        Ok(Self {
            index,
            name: top(descriptor).to_owned(),
            is_list,
            levels,
            defined: descriptor.max_def_level(),
            placed: descriptor.max_def_level() - i16::from(descriptor.self_type().is_optional()),
            width: (!is_list).then_some(1),
            definitions: Vec::new(),
            repetitions: Vec::new(),
            values: Vec::new(),
            starts: Vec::new(),
            faults: Vec::new(),
        })
    }

    /// Reads the next rows; returns how many there were.
    fn read(&mut self, reader: &mut ColumnReader, rows: usize) -> Result<usize, ParquetError> {
        self.values.clear();
        let read = match reader {
            ColumnReader::FloatColumnReader(reader) => {
                self.read_typed(reader, rows, |_, v| Ok(v.into()))
            }
            ColumnReader::DoubleColumnReader(reader) => self.read_typed(reader, rows, |_, v| Ok(v)),
            ColumnReader::Int32ColumnReader(reader) => {
                self.read_typed(reader, rows, |_, v| Ok(v.into()))
            }
            ColumnReader::Int64ColumnReader(reader) => {
                self.read_typed(reader, rows, |_, v| Ok(v as f64))
            }
            ColumnReader::BoolColumnReader(reader) => {
                self.read_typed(reader, rows, |_, v| Ok(v.into()))
            }
            ColumnReader::ByteArrayColumnReader(reader) => {
                self.read_typed(reader, rows, |levels, text| match levels {
                    Some(levels) => levels.number(text.data()),
                    None => Err("texts without levels".to_owned()),
                })
            }
            _ => Err(ParquetError::General("its type is not that of the schema".to_owned())),
        }?;
        self.starts.clear();
        let (mut level, mut value) = (0, 0);
        for _ in 0..read {
            self.starts.push((level, value));
            loop {
                value += usize::from(self.is_there(level));
                level += 1;
                if self.repetitions.get(level).is_none_or(|&repetition| repetition == 0) {
                    break;
                }
            }
        }
        self.starts.push((level, value));
        if value != self.values.len() {
            return Err(ParquetError::General("its levels are not those of its values".to_owned()));
        }
        Ok(read)
    }

    fn read_typed<D: DataType>(
        &mut self,
        reader: &mut ColumnReaderImpl<D>,
        rows: usize,
        convert: impl Fn(Option<&mut Levels>, D::T) -> Result<f64, String>,
    ) -> Result<usize, ParquetError> {
        let mut values = Vec::new();
        self.definitions.clear();
        self.repetitions.clear();
        let mut read = 0;
        // Where a chunk ends in the middle, there may be fewer than asked for.
        while read < rows {
            let (more, _, levels) = reader.read_records(
                rows - read,
                Some(&mut self.definitions),
                Some(&mut self.repetitions),
                &mut values,
            )?;
            if more == 0 && levels == 0 {
                break;
            }
            read += more;
        }
        self.faults.clear();
        for value in values {
            let number = convert(self.levels.as_mut(), value);
            if let Err(message) = &number {
                self.faults.push((self.values.len(), message.clone()));
            }
            self.values.push(number.unwrap_or(f64::NAN));
        }
        Ok(read)
    }

    fn is_there(&self, level: usize) -> bool {
        self.defined == 0 || self.definitions.get(level) == Some(&self.defined)
    }

    /// Appends the values of a row, NaN for those that are missing; or tells at which of its dimensions what is wrong.
    fn take<T: Scalar>(
        &mut self,
        row: usize,
        missing: bool,
        out: &mut Vec<T>,
    ) -> Option<(usize, String)> {
        let ((first, mut value), (end, _)) = (self.starts[row], self.starts[row + 1]);
        // A list that is empty, or null, has one level too, but no place.
        let is_empty = self.is_list && self.definitions[first] < self.placed;
        let length = if is_empty { 0 } else { end - first };
        if length > 0 {
            self.width.get_or_insert(length);
        }
        let width = self.width.unwrap_or_default();
        if length != width || length == 0 {
            let message = format!(
                "a list of {length} number(s) in {:?}, expected {}",
                self.name,
                if width == 0 { "some".to_owned() } else { format!("{width} as before") }
            );
            return Some((0, message));
        }
        let mut fault = None;
        for level in first..end {
            if self.is_there(level) {
                if let Some((_, message)) = self.faults.iter().find(|it| it.0 == value) {
                    let message = format!("{:?}: {message}", self.name);
                    fault = fault.or(Some((level - first, message)));
                }
                out.push(T::from_f64(self.values[value]));
                value += 1;
            } else if missing {
                out.push(T::from_f64(f64::NAN));
            } else {
                let message = format!("{:?} is null: {MISSING_VALUE}", self.name);
                fault = fault.or(Some((level - first, message)));
            }
        }
        fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::BlockBuf;
    use ::parquet::basic::{Compression, ZstdLevel};
    use ::parquet::data_type::{DoubleType, FloatType, Int64Type};
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
        assert_eq!(found, ": row 2, column 1: the value of \"b\" is null, expected a number");

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
                "row 1, column 1: the value of \"v\" is null, expected a number",
            ),
        ] {
            let values = Values::Levels(vec![1.0; values], definitions, repetitions);
            assert_eq!(fault(LISTS, vec![values]), format!(": {expected}"));
        }

        let found = fault("required int64 id;", vec![Values::I64(vec![1, 2])]);
        assert!(found.contains("column \"id\" is of type INT64, expected FLOAT"), "{found}");
        let nested = "required group g { required double x; }";
        let found = fault(nested, vec![numbers()]);
        assert!(found.contains("column \"g.x\" is nested"), "{found}");
        assert!(fault("required double a;", vec![Values::F64(vec![])]).contains("no points"));
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
