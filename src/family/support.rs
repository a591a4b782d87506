//! Supports: the sets that hold the points of a family, and the test of points against them.

use crate::scalar::Scalar;
use std::fmt;
use std::ops::Range;

/// Lengths of unit vectors and sums of compositions may differ from 1 by this number, since text files have five or six
/// digits.
const TOTAL_TOLERANCE: f64 = 1e-4;

/// The set that holds a value, or a vector of several columns.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Support {
    /// Every finite number.
    Real,
    /// Numbers above 0.
    Positive,
    /// Numbers from 0 on.
    NonNegative,
    /// Numbers between 0 and 1, without these.
    UnitInterval,
    /// Whole numbers from 0 on.
    Count,
    /// Whole numbers from 0 to this one.
    CountUpTo(f64),
    /// 0 and 1.
    Binary,
    /// Vectors of numbers above 0 that sum to 1.
    Simplex,
    /// Vectors of length 1.
    UnitVector,
}

impl Support {
    /// Says whether it holds a value. Of a vector, a single value is tested as far as possible.
    pub fn contains(self, value: f64) -> bool {
        self.contains_all(&[value], false)
    }

    /// Says whether it holds each of these values. NaN is accepted if values may be `missing`.
    ///
    /// No value ends the loop, so that the compiler vectorises it: testing a block takes less time than reading it from
    /// memory. Calling [`contains`](Self::contains) for each value took as long as a sweep of EM.
    #[allow(clippy::manual_range_contains, reason = "`&&` is a branch, which vectors have not")]
    pub(crate) fn contains_all<T: Scalar>(self, values: &[T], missing: bool) -> bool {
        // From 2^52 on all numbers are whole; below, adding it rounds to whole ones. Cheaper than `fract`.
        const ALL_WHOLE: f64 = 4_503_599_627_370_496.0;
        let is_whole = |v: f64| (v >= ALL_WHOLE) | ((v + ALL_WHOLE) - ALL_WHOLE == v);
        macro_rules! all {
            (|$value:ident| $test:expr) => {
                values.iter().fold(true, |all, value| {
                    let $value = value.to_f64();
                    all & (($test) | (missing & $value.is_nan()))
                })
            };
        }
        match self {
            Self::Real | Self::UnitVector => all!(|v| v.abs() < f64::INFINITY),
            Self::Positive | Self::Simplex => all!(|v| (v > 0.0) & (v < f64::INFINITY)),
            Self::NonNegative => all!(|v| (v >= 0.0) & (v < f64::INFINITY)),
            Self::UnitInterval => all!(|v| (v > 0.0) & (v < 1.0)),
            Self::Count => all!(|v| (v >= 0.0) & (v < f64::INFINITY) & is_whole(v)),
            Self::CountUpTo(most) => all!(|v| (v >= 0.0) & (v <= most) & is_whole(v)),
            Self::Binary => all!(|v| (v == 0.0) | (v == 1.0)),
        }
    }

    /// Returns the value, or the least number of the set where rounding has made 0 of a number above it; likewise at 1.
    pub(crate) fn nearest(self, value: f64) -> f64 {
        match self {
            Self::Positive if value == 0.0 => f64::MIN_POSITIVE,
            Self::UnitInterval => value.clamp(f64::MIN_POSITIVE, 1.0 - f64::EPSILON),
            _ => value,
        }
    }

    /// Says whether it is a set of vectors, not of single values.
    pub(crate) fn is_of_vectors(self) -> bool {
        matches!(self, Self::Simplex | Self::UnitVector)
    }

    /// Tests the sum or the length of a vector, and returns a message if it is wrong.
    fn check_vector(self, values: impl Iterator<Item = f64>) -> Option<String> {
        match self {
            Self::Simplex => {
                let sum: f64 = values.sum();
                ((sum - 1.0).abs() > TOTAL_TOLERANCE)
                    .then(|| format!("the values sum to {sum}, expected {self}"))
            }
            Self::UnitVector => {
                let norm = values.map(|v| v * v).sum::<f64>().sqrt();
                ((norm - 1.0).abs() > TOTAL_TOLERANCE)
                    .then(|| format!("the vector has length {norm}, expected {self}"))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Support {
    /// What was expected, after the word "expected".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Real => write!(f, "a finite number"),
            Self::Positive => write!(f, "a number > 0"),
            Self::NonNegative => write!(f, "a number ≥ 0"),
            Self::UnitInterval => write!(f, "a number between 0 and 1, without these"),
            Self::Count => write!(f, "a whole number ≥ 0"),
            Self::CountUpTo(most) => write!(f, "a whole number from 0 to {most}"),
            Self::Binary => write!(f, "0 or 1"),
            Self::Simplex => write!(f, "a composition: numbers > 0 that sum to 1"),
            Self::UnitVector => write!(f, "a vector of length 1"),
        }
    }
}

/// Consecutive columns of a point and their support.
#[derive(Clone, Debug, PartialEq)]
pub struct Domain {
    /// The range of columns.
    pub columns: Range<usize>,
    /// The support of each column, or of the vector of all.
    pub support: Support,
    /// Whether NaN stands for a value that is missing.
    pub missing: bool,
}

impl Domain {
    /// Makes a domain in which no value may be missing.
    pub fn new(columns: Range<usize>, support: Support) -> Self {
        Self { columns, support, missing: false }
    }

    /// Says whether the domain holds a point, in less time than [`fault`](Self::fault).
    pub(crate) fn holds<T: Scalar>(&self, point: &[T]) -> bool {
        let values = &point[self.columns.clone()];
        self.support.contains_all(values, self.missing)
            && self.support.check_vector(values.iter().map(|v| v.to_f64())).is_none()
    }

    /// Finds the first fault of a point: its column, and a message. `value` returns the value of a column.
    ///
    /// ```
    /// use entropysum::expert::family::Domain;
    /// use entropysum::family::Support;
    ///
    /// let domain = Domain::new(0..3, Support::Count);
    /// assert_eq!(domain.fault(|d| [0.0, 7.0, 2.0][d]), None);
    /// let fault = domain.fault(|d| [0.0, -1.0, 2.0][d]).unwrap();
    /// assert_eq!(fault, (Some(1), "the value is -1, expected a whole number ≥ 0".into()));
    /// ```
    pub fn fault(&self, value: impl Fn(usize) -> f64) -> Option<(Option<usize>, String)> {
        let support = self.support;
        for d in self.columns.clone() {
            let value = value(d);
            if !(support.contains(value) || self.missing && value.is_nan()) {
                return Some((Some(d), format!("the value is {value}, expected {support}")));
            }
        }
        Some((None, support.check_vector(self.columns.clone().map(value))?))
    }
}
