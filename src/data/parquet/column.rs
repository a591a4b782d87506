//! Columns of Parquet files, and their values for some rows.

use crate::data::dtype::exact;
use crate::data::table::Kind;
use crate::data::table::cells::MISSING_VALUE;
use crate::data::table::levels::Levels;
use crate::scalar::Scalar;
use ::parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::DataType;
use ::parquet::errors::ParquetError;
use ::parquet::schema::types::ColumnDescriptor;

/// Returns the name of a column. Of what is in a list the formats' writers have names of their own.
pub(super) fn top(descriptor: &ColumnDescriptor) -> &str {
    descriptor.path().parts().first().map_or("", String::as_str)
}

/// Returns what a column holds: numbers, or anything else as text.
pub(super) fn kind(descriptor: &ColumnDescriptor) -> Kind {
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

/// Tells whether a column holds whole numbers without a sign.
fn is_unsigned(descriptor: &ColumnDescriptor) -> bool {
    match descriptor.logical_type_ref() {
        Some(LogicalType::Integer(integer)) => !integer.is_signed,
        _ => matches!(
            descriptor.converted_type(),
            ConvertedType::UINT_8
                | ConvertedType::UINT_16
                | ConvertedType::UINT_32
                | ConvertedType::UINT_64
        ),
    }
}

/// A column of the file, and the values of some rows.
pub(super) struct Column {
    /// Where it stands in the file.
    pub index: usize,
    pub name: String,
    is_list: bool,
    is_unsigned: bool,
    /// What its texts stand for, if it has texts.
    pub levels: Option<Levels>,
    /// The definition level of a value that is there, and the least one of a place for a value.
    defined: i16,
    placed: i16,
    /// Dimensions: 1, or the length of the first list.
    pub width: Option<usize>,
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
    pub fn new(
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
            is_unsigned: is_unsigned(descriptor),
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
    pub fn read(&mut self, reader: &mut ColumnReader, rows: usize) -> Result<usize, ParquetError> {
        self.values.clear();
        let read = match reader {
            ColumnReader::FloatColumnReader(reader) => {
                self.read_typed(reader, rows, |_, v| Ok(v.into()))
            }
            ColumnReader::DoubleColumnReader(reader) => self.read_typed(reader, rows, |_, v| Ok(v)),
            // Numbers without a sign have the bits of numbers with a sign.
            ColumnReader::Int32ColumnReader(reader) if self.is_unsigned => {
                self.read_typed(reader, rows, |_, v| Ok(v.cast_unsigned().into()))
            }
            ColumnReader::Int64ColumnReader(reader) if self.is_unsigned => {
                self.read_typed(reader, rows, |_, v| exact(v.cast_unsigned().into()))
            }
            ColumnReader::Int32ColumnReader(reader) => {
                self.read_typed(reader, rows, |_, v| Ok(v.into()))
            }
            ColumnReader::Int64ColumnReader(reader) => {
                self.read_typed(reader, rows, |_, v| exact(v.into()))
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
    pub fn take<T: Scalar>(
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
