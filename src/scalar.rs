//! The two precisions of the data plane.
//!
//! Blocks and kernels are generic over [`Scalar`] (`f32` or `f64`). Everything that is not a block of
//! points (parameters, sufficient statistics, entropies, the monitor) is plain `f64`.

use std::fmt::{Debug, Display};
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// Working precision of blocks and kernels: `f32` or `f64`.
///
/// The trait is sealed: the vector kernels have their accuracy stated and tested for these two types.
pub trait Scalar:
    sealed::Sealed
    + faer::traits::RealField
    + crate::kernels::math::Transcendental
    + crate::kernels::dispatch::VectorElement
    + bytemuck::Pod
    + Default
    + Debug
    + Display
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + 'static
{
    /// Name of the type as users write it: `"f32"` or `"f64"`.
    const NAME: &'static str;
    /// Distance from 1 to the next larger number.
    const EPSILON: f64;
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// Negative infinity, the logarithm of zero.
    const NEG_INFINITY: Self;

    /// Rounds to this precision.
    fn from_f64(value: f64) -> Self;
    /// Widens; exact.
    fn to_f64(self) -> f64;
    /// False for NaN and the infinities.
    fn is_finite(self) -> bool;
}

macro_rules! scalar {
    ($type:ident) => {
        impl Scalar for $type {
            const NAME: &'static str = stringify!($type);
            const EPSILON: f64 = $type::EPSILON as f64;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEG_INFINITY: Self = $type::NEG_INFINITY;

            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as $type
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                $type::is_finite(self)
            }
        }
    };
}
scalar!(f32);
scalar!(f64);
