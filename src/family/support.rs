//! Where the points of a family lie, and which point does not.

use crate::scalar::Scalar;
use std::fmt;
use std::ops::Range;

/// Squared norms and sums of unit vectors and compositions may differ from 1 by this: what the five or six digits of a
/// text file leave.
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
    /// Whether it holds a single value. Vectors are looked at value by value as far as that goes.
    pub fn contains(self, value: f64) -> bool {
        self.contains_all(&[value], false)
    }

    /// Whether it holds each of these values, or they are `missing` (NaN) where that may be.
    ///
    /// The support is looked at once, and no value ends the loop, which the compiler makes vectors of: a block is looked
    /// through in less time than it takes to read it from memory. With [`contains`](Self::contains) on each, it took as long as a
    /// sweep of EM.
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

    /// Whether it is a set of vectors, and not of single values.
    pub fn is_of_vectors(self) -> bool {
        matches!(self, Self::Simplex | Self::UnitVector)
    }

    /// What is wrong with a vector whose values are all right.
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

/// Some consecutive columns of a point and what they may hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Domain {
    /// The columns.
    pub columns: Range<usize>,
    /// What each of them, or all together, may hold.
    pub support: Support,
    /// Whether NaN stands for a value that is missing.
    pub missing: bool,
}

impl Domain {
    /// Columns of which no value may be missing.
    pub fn new(columns: Range<usize>, support: Support) -> Self {
        Self { columns, support, missing: false }
    }

    /// Whether [`fault`](Self::fault) finds nothing wrong with a point, which this tells quickly.
    pub(crate) fn holds<T: Scalar>(&self, point: &[T]) -> bool {
        let values = &point[self.columns.clone()];
        self.support.contains_all(values, self.missing)
            && self.support.check_vector(values.iter().map(|v| v.to_f64())).is_none()
    }

    /// What is wrong with a point, and in which column, whose values `value` tells.
    ///
    /// ```
    /// use entropysum::family::support::{Domain, Support};
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
