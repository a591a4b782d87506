//! Chooses at run time for which vector instructions a kernel is compiled.
//!
//! This is the only file that names [`pulp::Arch`]. A kernel is plain branch-free scalar code in a
//! [`Kernel`]; [`Simd::run`] calls it inside a function compiled for the chosen instruction set, where the
//! compiler vectorises it. Measured against hand-written vector code this form is as fast (exp, ln), and it
//! can be read. Everything a kernel calls must be `#[inline(always)]`, or it is compiled for the baseline.

use crate::scalar::Scalar;

/// An instruction set that kernels can be compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// The target's baseline, without fused multiply-add.
    Scalar,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, CD, DQ, VL.
    Avx512,
    /// The vectors of a target that is no x86: NEON on AArch64.
    Native,
}

/// An instruction set of this CPU.
#[derive(Clone, Copy, Debug)]
pub struct Simd {
    arch: pulp::Arch,
}

/// Work to be compiled for an instruction set.
pub trait Kernel {
    /// Result of the work.
    type Output;
    /// Does the work, with `M::mul_add` for `a * b + c`. Mark it `#[inline(always)]`.
    fn run<M: MulAdd>(self) -> Self::Output;
}

/// The way to compute `a * b + c`: fused if the hardware can, else as two operations.
///
/// Without hardware support `f64::mul_add` calls a library function that is hundreds of times slower.
pub trait MulAdd {
    /// Returns `a * b + c`.
    fn mul_add<T: Scalar>(a: T, b: T, c: T) -> T;
}

struct Fused;
impl MulAdd for Fused {
    #[inline(always)]
    fn mul_add<T: Scalar>(a: T, b: T, c: T) -> T {
        a.fused_mul_add(b, c)
    }
}

struct Unfused;
impl MulAdd for Unfused {
    #[inline(always)]
    fn mul_add<T: Scalar>(a: T, b: T, c: T) -> T {
        a * b + c
    }
}

struct Vectorized<K>(K);
impl<K: Kernel> pulp::WithSimd for Vectorized<K> {
    type Output = K::Output;
    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> K::Output {
        if S::IS_SCALAR { self.0.run::<Unfused>() } else { self.0.run::<Fused>() }
    }
}

/// Vectors of an instruction set, of any width.
///
/// Kernels that hold a block of sums in registers are written on this trait: the compiler does not find such blocks in
/// plain code.
pub trait Vectors: Copy {
    /// Type of the numbers in a vector.
    type Element: Scalar;
    /// As many numbers as a register holds.
    type Vector: Copy;
    /// Numbers in a vector.
    const COUNT: usize;
    /// Number of registers.
    const REGISTERS: usize;

    /// Returns a vector of copies of a number.
    fn splat(self, value: Self::Element) -> Self::Vector;
    /// Returns `a + b`.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Returns `a - b`.
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Returns `a * b`.
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Returns `a * b + c`, fused if the hardware can.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// Returns `yes` where `a > b`, else `no`.
    fn select_greater(
        self,
        a: Self::Vector,
        b: Self::Vector,
        yes: Self::Vector,
        no: Self::Vector,
    ) -> Self::Vector;
    /// Returns the square roots of the numbers in a vector.
    fn sqrt(self, a: Self::Vector) -> Self::Vector;
    /// Returns the sum of the numbers in a vector.
    fn sum(self, a: Self::Vector) -> Self::Element;
    /// Views a slice as vectors. Leaves out the numbers after the last whole vector.
    fn vectors(values: &[Self::Element]) -> &[Self::Vector];
    /// Views a mutable slice as vectors. Leaves out the numbers after the last whole vector.
    fn vectors_mut(values: &mut [Self::Element]) -> &mut [Self::Vector];
}

/// Work on vectors of `T`, to be compiled for an instruction set.
pub trait VectorKernel<T> {
    /// Result of the work.
    type Output;
    /// Does the work. Mark it `#[inline(always)]`.
    fn run<S: Vectors<Element = T>>(self, simd: S) -> Self::Output;
}

/// Numbers that vectors hold.
pub trait VectorElement: Sized {
    /// Runs a kernel compiled for an instruction set.
    fn run_on_vectors<K: VectorKernel<Self>>(simd: Simd, kernel: K) -> K::Output;
}

macro_rules! vectors {
    ($type:ident, $name:ident, $vector:ident, $count:ident, $splat:ident, $add:ident, $sub:ident, $mul:ident, $mul_add:ident, $greater:ident, $select:ident, $sqrt:ident, $sum:ident, $as_simd:ident, $as_mut_simd:ident) => {
        #[derive(Clone, Copy)]
        struct $name<S>(S);

        impl<S: pulp::Simd> Vectors for $name<S> {
            type Element = $type;
            type Vector = S::$vector;
            const COUNT: usize = S::$count;
            const REGISTERS: usize = S::REGISTER_COUNT;

            #[inline(always)]
            fn splat(self, value: $type) -> S::$vector {
                self.0.$splat(value)
            }
            #[inline(always)]
            fn add(self, a: S::$vector, b: S::$vector) -> S::$vector {
                self.0.$add(a, b)
            }
            #[inline(always)]
            fn sub(self, a: S::$vector, b: S::$vector) -> S::$vector {
                self.0.$sub(a, b)
            }
            #[inline(always)]
            fn mul(self, a: S::$vector, b: S::$vector) -> S::$vector {
                self.0.$mul(a, b)
            }
            #[inline(always)]
            fn select_greater(
                self,
                a: S::$vector,
                b: S::$vector,
                yes: S::$vector,
                no: S::$vector,
            ) -> S::$vector {
                self.0.$select(self.0.$greater(a, b), yes, no)
            }
            #[inline(always)]
            fn sqrt(self, a: S::$vector) -> S::$vector {
                self.0.$sqrt(a)
            }
            #[inline(always)]
            fn sum(self, a: S::$vector) -> $type {
                self.0.$sum(a)
            }
            #[inline(always)]
            fn mul_add(self, a: S::$vector, b: S::$vector, c: S::$vector) -> S::$vector {
                self.0.$mul_add(a, b, c)
            }
            #[inline(always)]
            fn vectors(values: &[$type]) -> &[S::$vector] {
                S::$as_simd(values).0
            }
            #[inline(always)]
            fn vectors_mut(values: &mut [$type]) -> &mut [S::$vector] {
                S::$as_mut_simd(values).0
            }
        }

        impl VectorElement for $type {
            #[inline]
            fn run_on_vectors<K: VectorKernel<$type>>(simd: Simd, kernel: K) -> K::Output {
                struct Adapter<K>(K);
                impl<K: VectorKernel<$type>> pulp::WithSimd for Adapter<K> {
                    type Output = K::Output;
                    #[inline(always)]
                    fn with_simd<S: pulp::Simd>(self, simd: S) -> K::Output {
                        self.0.run($name(simd))
                    }
                }
                simd.arch.dispatch(Adapter(kernel))
            }
        }
    };
}
vectors!(
    f32,
    F32Vectors,
    f32s,
    F32_LANES,
    splat_f32s,
    add_f32s,
    sub_f32s,
    mul_f32s,
    mul_add_e_f32s,
    greater_than_f32s,
    select_f32s,
    sqrt_f32s,
    reduce_sum_f32s,
    as_simd_f32s,
    as_mut_simd_f32s
);
vectors!(
    f64,
    F64Vectors,
    f64s,
    F64_LANES,
    splat_f64s,
    add_f64s,
    sub_f64s,
    mul_f64s,
    mul_add_e_f64s,
    greater_than_f64s,
    select_f64s,
    sqrt_f64s,
    reduce_sum_f64s,
    as_simd_f64s,
    as_mut_simd_f64s
);

impl Simd {
    /// Returns the widest instruction set of this CPU.
    pub fn detect() -> Self {
        Self { arch: pulp::Arch::new() }
    }

    /// Returns the instruction set of a level, or `None` if the CPU lacks it. For tests and comparisons.
    pub fn forced(level: Level) -> Option<Self> {
        let arch = match level {
            Level::Scalar => Some(pulp::Arch::Scalar),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Level::Avx2 => pulp::x86::V3::try_new().map(pulp::Arch::V3),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Level::Avx512 => pulp::x86::V4::try_new().map(pulp::Arch::V4),
            #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
            Level::Native => Some(pulp::Arch::new()),
            #[allow(unreachable_patterns, reason = "levels of other targets")]
            _ => None,
        };
        arch.map(|arch| Self { arch })
    }

    /// Lists the levels of this CPU, the scalar one first.
    pub fn available() -> impl Iterator<Item = (Level, Self)> {
        [Level::Scalar, Level::Avx2, Level::Avx512, Level::Native]
            .into_iter()
            .filter_map(|level| Some((level, Self::forced(level)?)))
    }

    /// Runs a kernel compiled for this instruction set.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        self.arch.dispatch(Vectorized(kernel))
    }
}

impl Default for Simd {
    fn default() -> Self {
        Self::detect()
    }
}
