//! exp and ln for vector kernels.

/// Elementary functions as branch-free code that vectorises inside [`Simd::run`](super::dispatch::Simd::run).
pub trait Transcendental: Sized + Copy {
    /// `self * b + c` with one rounding, by the hardware.
    fn fused_mul_add(self, b: Self, c: Self) -> Self;
}

macro_rules! transcendental {
    ($type:ident) => {
        impl Transcendental for $type {
            #[inline(always)]
            fn fused_mul_add(self, b: Self, c: Self) -> Self {
                self.mul_add(b, c)
            }
        }
    };
}
transcendental!(f32);
transcendental!(f64);
