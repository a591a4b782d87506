//! Types of the numbers in a file, and their conversion.

use crate::error::{Error, Result};
use crate::scalar::Scalar;
use std::fmt;
use std::str::FromStr;

/// Type of the numbers in a file; always little-endian.
///
/// # Example
/// ```
/// use entropysum::data::Dtype;
/// let dtype: Dtype = "i16".parse()?;
/// assert_eq!((dtype, dtype.size(), dtype.to_string()), (Dtype::I16, 2, "i16".to_owned()));
/// assert!("complex".parse::<Dtype>().is_err());
/// # Ok::<(), entropysum::error::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point.
    F64,
    /// One byte, 0 for false.
    Bool,
    /// 8-bit unsigned integer.
    U8,
    /// 16-bit unsigned integer.
    U16,
    /// 32-bit unsigned integer.
    U32,
    /// 64-bit unsigned integer; beyond 2^53 it is rounded to the nearest `f64`.
    U64,
    /// 8-bit signed integer.
    I8,
    /// 16-bit signed integer.
    I16,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer; beyond 2^53 in absolute value it is rounded to the nearest `f64`.
    I64,
}

impl Dtype {
    /// Every type, with its name here, its name in NumPy without the byte order, and its size in bytes.
    const TABLE: [(Self, &'static str, &'static str, usize); 11] = [
        (Self::F32, "f32", "f4", 4),
        (Self::F64, "f64", "f8", 8),
        (Self::Bool, "bool", "b1", 1),
        (Self::U8, "u8", "u1", 1),
        (Self::U16, "u16", "u2", 2),
        (Self::U32, "u32", "u4", 4),
        (Self::U64, "u64", "u8", 8),
        (Self::I8, "i8", "i1", 1),
        (Self::I16, "i16", "i2", 2),
        (Self::I32, "i32", "i4", 4),
        (Self::I64, "i64", "i8", 8),
    ];

    fn entry(self) -> (Self, &'static str, &'static str, usize) {
        // The table is in the order of declaration; a test holds it to that.
        Self::TABLE[self as usize]
    }

    /// Bytes a value takes.
    pub fn size(self) -> usize {
        self.entry().3
    }

    /// Name in NumPy, without the byte order: `"f8"`.
    pub(super) fn numpy_name(self) -> &'static str {
        self.entry().2
    }

    pub(super) fn from_numpy_name(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|entry| entry.2 == name).map(|entry| entry.0)
    }

    /// The type whose values are those of type `T`.
    pub(super) fn of<T: Scalar>() -> Self {
        if T::NAME == "f32" { Self::F32 } else { Self::F64 }
    }

    /// Whether values of this type are, byte for byte, values of type `T` in memory.
    pub(super) fn is<T: Scalar>(self) -> bool {
        cfg!(target_endian = "little") && self.entry().1 == T::NAME
    }

    /// Finds the first whole number in `bytes` that `f64` rounds: its index, and what is wrong.
    pub(super) fn first_rounded(self, bytes: &[u8]) -> Option<(usize, String)> {
        fn find(bytes: &[u8], decode: impl Fn([u8; 8]) -> (u64, i128)) -> Option<(usize, String)> {
            let numbers = bytes.as_chunks().0.iter().map(|raw| decode(*raw));
            let mut large = numbers.enumerate().filter(|(_, (size, _))| *size > 1 << 53);
            large.find_map(|(i, (_, number))| exact(number).err().map(|fault| (i, fault)))
        }
        match self {
            Self::U64 => find(bytes, |raw| {
                let number = u64::from_le_bytes(raw);
                (number, number.into())
            }),
            Self::I64 => find(bytes, |raw| {
                let number = i64::from_le_bytes(raw);
                (number.unsigned_abs(), number.into())
            }),
            _ => None,
        }
    }

    /// Converts `bytes` to as many values; through `f64`, then rounded to `T`.
    pub(super) fn convert<T: Scalar>(self, bytes: &[u8], values: &mut [T]) {
        fn each<T: Scalar, const SIZE: usize>(
            bytes: &[u8],
            values: &mut [T],
            decode: impl Fn([u8; SIZE]) -> f64,
        ) {
            for (value, raw) in values.iter_mut().zip(bytes.as_chunks().0) {
                *value = T::from_f64(decode(*raw));
            }
        }
        match self {
            Self::F32 => each(bytes, values, |raw| f32::from_le_bytes(raw).into()),
            Self::F64 => each(bytes, values, f64::from_le_bytes),
            Self::Bool => each(bytes, values, |[raw]| f64::from(raw != 0)),
            Self::U8 => each(bytes, values, |raw| u8::from_le_bytes(raw).into()),
            Self::U16 => each(bytes, values, |raw| u16::from_le_bytes(raw).into()),
            Self::U32 => each(bytes, values, |raw| u32::from_le_bytes(raw).into()),
            Self::U64 => each(bytes, values, |raw| u64::from_le_bytes(raw) as f64),
            Self::I8 => each(bytes, values, |raw| i8::from_le_bytes(raw).into()),
            Self::I16 => each(bytes, values, |raw| i16::from_le_bytes(raw).into()),
            Self::I32 => each(bytes, values, |raw| i32::from_le_bytes(raw).into()),
            Self::I64 => each(bytes, values, |raw| i64::from_le_bytes(raw) as f64),
        }
    }
}

/// Refuses a whole number that `f64` rounds: those beyond 2⁵³ are identifiers or times, whose digits would be lost without a word.
///
/// # Errors
/// Says what is wrong with the number.
pub(super) fn exact(number: i128) -> Result<f64, String> {
    match number as f64 {
        value if value as i128 == number => Ok(value),
        value => Err(format!(
            "the whole number {number} is beyond 2^53 and would be rounded to {value:.0}: subtract an offset, store floats, or leave its \
             column out"
        )),
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.entry().1)
    }
}

impl FromStr for Dtype {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::TABLE.iter().find(|entry| entry.1 == name).map(|entry| entry.0).ok_or_else(|| {
            let known = Self::TABLE.map(|entry| entry.1).join(", ");
            Error::Config(format!("unknown type of number {name:?}, expected one of {known}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_of_declaration() {
        for (index, entry) in Dtype::TABLE.iter().enumerate() {
            assert_eq!(entry.0 as usize, index);
            assert_eq!(entry.1.parse::<Dtype>().unwrap(), entry.0);
            assert_eq!(Dtype::from_numpy_name(entry.2), Some(entry.0));
        }
    }

    #[test]
    fn extreme_values_convert() {
        fn one(dtype: Dtype, bytes: &[u8]) -> f64 {
            let mut value = [0.0f64];
            dtype.convert(bytes, &mut value);
            value[0]
        }
        assert_eq!(one(Dtype::U64, &u64::MAX.to_le_bytes()), 2f64.powi(64));
        assert_eq!(one(Dtype::I64, &((1i64 << 53) + 1).to_le_bytes()), 2f64.powi(53));
        assert_eq!(one(Dtype::I8, &[0x80]), -128.0);
        assert_eq!(one(Dtype::Bool, &[7]), 1.0);
        assert_eq!(one(Dtype::F32, &0.1f32.to_le_bytes()), f64::from(0.1f32));
        let numbers = [1i64 << 53, i64::MIN, (1 << 53) + 1, i64::MAX].map(i64::to_le_bytes);
        let (index, fault) = Dtype::I64.first_rounded(numbers.as_flattened()).unwrap();
        assert_eq!(index, 2);
        assert!(fault.contains("9007199254740993 is beyond 2^53"), "{fault}");
        assert_eq!(Dtype::U64.first_rounded(&u64::MAX.to_le_bytes()).unwrap().0, 0);
        assert_eq!(Dtype::U64.first_rounded(&(1u64 << 60).to_le_bytes()), None);
        let mut narrow = [0.0f32];
        Dtype::F64.convert(&1e300f64.to_le_bytes(), &mut narrow);
        assert_eq!(narrow, [f32::INFINITY]);
    }
}
