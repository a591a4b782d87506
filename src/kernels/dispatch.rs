//! Which vector instructions a kernel is compiled for: chosen once at run time.
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
    /// What the target has where it is not an x86: NEON on AArch64.
    Native,
}

/// Token of an instruction set that this CPU has.
#[derive(Clone, Copy, Debug)]
pub struct Simd {
    arch: pulp::Arch,
}

/// Work to be compiled for an instruction set.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// Does the work, with `M::mul_add` for `a * b + c`. Mark it `#[inline(always)]`.
    fn run<M: MulAdd>(self) -> Self::Output;
}

/// How `a * b + c` is computed: fused where the hardware can, else as two operations.
///
/// Without hardware support `f64::mul_add` calls a library function that is hundreds of times slower.
pub trait MulAdd {
    /// `a * b + c`.
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

/// Vectors of an instruction set, for kernels that hold a block of sums in registers: the one thing that the compiler does
/// not find in plain code.
pub trait Lanes: Copy {
    /// What a lane holds.
    type Element: Scalar;
    /// As many lanes as a register has.
    type Vector: Copy;
    /// Number of lanes.
    const COUNT: usize;
    /// Number of registers.
    const REGISTERS: usize;

    /// The same number in all lanes.
    fn splat(self, value: Self::Element) -> Self::Vector;
    /// `a * b + c`, fused where the hardware can.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// The whole vectors that a slice holds.
    fn vectors(values: &[Self::Element]) -> &[Self::Vector];
    /// The same, mutable.
    fn vectors_mut(values: &mut [Self::Element]) -> &mut [Self::Vector];
}

/// Work on vectors of `T`, to be compiled for an instruction set.
pub trait LanesKernel<T> {
    /// What it returns.
    type Output;
    /// Does the work. Mark it `#[inline(always)]`.
    fn run<L: Lanes<Element = T>>(self, lanes: L) -> Self::Output;
}

/// Types that registers hold.
pub trait InLanes: Sized {
    /// Runs a kernel compiled for an instruction set.
    fn run_in_lanes<K: LanesKernel<Self>>(simd: Simd, kernel: K) -> K::Output;
}

macro_rules! lanes {
    ($type:ident, $lanes:ident, $vector:ident, $count:ident, $splat:ident, $mul_add:ident, $as_simd:ident, $as_mut_simd:ident) => {
        #[derive(Clone, Copy)]
        struct $lanes<S>(S);

        impl<S: pulp::Simd> Lanes for $lanes<S> {
            type Element = $type;
            type Vector = S::$vector;
            const COUNT: usize = S::$count;
            const REGISTERS: usize = S::REGISTER_COUNT;

            #[inline(always)]
            fn splat(self, value: $type) -> S::$vector {
                self.0.$splat(value)
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

        impl InLanes for $type {
            #[inline]
            fn run_in_lanes<K: LanesKernel<$type>>(simd: Simd, kernel: K) -> K::Output {
                struct Adapter<K>(K);
                impl<K: LanesKernel<$type>> pulp::WithSimd for Adapter<K> {
                    type Output = K::Output;
                    #[inline(always)]
                    fn with_simd<S: pulp::Simd>(self, simd: S) -> K::Output {
                        self.0.run($lanes(simd))
                    }
                }
                simd.arch.dispatch(Adapter(kernel))
            }
        }
    };
}
lanes!(f32, F32Lanes, f32s, F32_LANES, splat_f32s, mul_add_e_f32s, as_simd_f32s, as_mut_simd_f32s);
lanes!(f64, F64Lanes, f64s, F64_LANES, splat_f64s, mul_add_e_f64s, as_simd_f64s, as_mut_simd_f64s);

impl Simd {
    /// The widest instruction set of this CPU.
    pub fn detect() -> Self {
        Self { arch: pulp::Arch::new() }
    }

    /// A chosen instruction set, or `None` where the CPU lacks it. For tests and comparisons.
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

    /// Every level this CPU has, the scalar one first.
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
