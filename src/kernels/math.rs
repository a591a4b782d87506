//! exp, ln and ln Γ for vector kernels.
//!
//! They are plain branch-free code: a comparison selects between two computed values, so that the compiler
//! can turn a loop over numbers into a loop over registers.
//!
//! Where the constants come from:
//! - [ln 2 in two parts, the ln coefficients](https://www.netlib.org/fdlibm/): fdlibm's `e_log.c`, and its
//!   single precision relatives `e_expf.c` and `e_logf.c`. The high part of ln 2 ends in zero bits, so that
//!   its product with a binary exponent is exact even without a fused multiply-add.
//! - The exp coefficients are Remez fits of `(exp(r) - 1 - r) / r^2` that minimise the relative error of
//!   `exp(r)` over `|r| <= ln(2) / 2`: 2^-57.9 in double, 2^-28.3 in single precision, before rounding.
//! - The ln Γ coefficients are Remez fits: of `ln Γ(2 + t) / t` over `|t| <= 1/2` (absolute error 2^-57.8 in double,
//!   2^-26.9 in single precision), and of x times the remainder of Stirling's formula over `x >= 8` in `1 / x^2`
//!   (2^-54.6, 2^-25.3).

#![allow(clippy::excessive_precision, reason = "coefficients as their sources print them")]

use super::dispatch::{Kernel, MulAdd, Simd};
use crate::scalar::Scalar;

/// Elementary functions as branch-free code that vectorises inside [`Simd::run`].
///
/// Errors are the largest that the tests of this file found at any level, in units in the last place of
/// the exact result: f32 over every 97th bit pattern, f64 over 10^6 random arguments.
pub trait Transcendental: Sized + Copy {
    /// An argument at which [`exp_nonpositive`](Self::exp_nonpositive) is exactly 0, and the lowest it takes.
    const EXP_FLOOR: Self;

    /// Computes `self * b + c` with one rounding, by the hardware.
    fn fused_mul_add(self, b: Self, c: Self) -> Self;

    /// Computes e to the power of `self`.
    ///
    /// Valid range: everything. Arguments below -708.05 (f64) or -86.99 (f32) give 0: subnormal results,
    /// and the normal ones within a factor √2 of them. Too large arguments give +∞, NaN gives NaN.
    ///
    /// Maximal error: 1.02 ULP (f64), 1.01 ULP (f32).
    fn exp<M: MulAdd>(self) -> Self;

    /// Computes e to the power of `self`, cheaper than [`exp`](Self::exp).
    ///
    /// Valid range: from [`EXP_FLOOR`](Self::EXP_FLOOR) to 0, and NaN, which gives NaN. Arguments below
    /// -708.74 (f64) or -87.68 (f32) give 0.
    ///
    /// Maximal error: 1.04 ULP (f64), 1.00 ULP (f32), where the result is a normal number.
    fn exp_nonpositive<M: MulAdd>(self) -> Self;

    /// Computes the natural logarithm.
    ///
    /// Valid range: everything. ±0 gives -∞, negative numbers give NaN, +∞ gives +∞, NaN gives NaN.
    ///
    /// Maximal error: 0.83 ULP (f64), 0.79 ULP (f32), subnormal arguments included.
    fn ln<M: MulAdd>(self) -> Self;

    /// Computes the logarithm of the gamma function of a positive number; `ln n!` at n + 1.
    ///
    /// Valid range: everything. ±0 and +∞ give +∞, negative numbers and NaN give NaN.
    ///
    /// Maximal error: 5.90 ULP (f64), 7.12 ULP (f32), both below 3/2; its zeros at 1 and 2 are exact.
    fn ln_gamma<M: MulAdd>(self) -> Self;
}

macro_rules! transcendental {
    (
        $type:ident, bits: $bits:ident, mantissa_bits: $mantissa_bits:literal, bias: $bias:literal,
        exp_floor: $exp_floor:literal, exp_ceiling: $exp_ceiling:literal,
        exp_ln_2: [$exp_ln_2_high:literal, $exp_ln_2_low:literal],
        log_ln_2: [$log_ln_2_high:literal, $log_ln_2_low:literal],
    ) => {
        impl Transcendental for $type {
            const EXP_FLOOR: Self = $exp_floor;

            #[inline(always)]
            fn fused_mul_add(self, b: Self, c: Self) -> Self {
                self.mul_add(b, c)
            }

            #[inline(always)]
            fn exp<M: MulAdd>(self) -> Self {
                // Half the power of two, then doubled: 2^n itself can be just too large to represent. Its
                // range begins one binade above that of `exp_nonpositive`.
                const FLOOR: $type = $exp_floor + std::$type::consts::LN_2;
                // Comparisons in this order pass NaN through.
                let x = if self < FLOOR { FLOOR } else { self };
                let x = if x > $exp_ceiling { $exp_ceiling } else { x };
                let (power, mantissa) = <$type>::exp_parts::<M>(x, $bias - 1.0);
                (2.0 * mantissa) * power
            }

            #[inline(always)]
            fn exp_nonpositive<M: MulAdd>(self) -> Self {
                let (power, mantissa) = <$type>::exp_parts::<M>(self, $bias);
                mantissa * power
            }

            #[inline(always)]
            fn ln<M: MulAdd>(self) -> Self {
                const MANTISSA: $type = (1_u64 << $mantissa_bits) as $type;
                const EXPONENT_BITS: $bits = !0 << $mantissa_bits;
                const ONE_BITS: $bits = (1.0 as $type).to_bits();

                let subnormal = self < <$type>::MIN_POSITIVE;
                let x = if subnormal { self * MANTISSA } else { self };
                let k_of_scaling = if subnormal { -($mantissa_bits as $type) } else { 0.0 };

                // x = 2^k z with z from sqrt(1/2) to sqrt(2), by integers on the bits of x.
                let above = x.to_bits().wrapping_sub(std::$type::consts::FRAC_1_SQRT_2.to_bits());
                let exponent = above & EXPONENT_BITS;
                let z = <$type>::from_bits(x.to_bits().wrapping_sub(exponent));
                // k + bias is written into the mantissa of 2^(mantissa bits): no integer conversion.
                let k_and_bias = exponent.wrapping_add(ONE_BITS) >> $mantissa_bits;
                let k = <$type>::from_bits(k_and_bias | MANTISSA.to_bits()) - (MANTISSA + $bias);
                let k = k + k_of_scaling;

                // ln(1 + f) = f - (f²/2 - s (f²/2 + R(s²))), s = f / (2 + f); fdlibm's e_log.c.
                let f = z - 1.0;
                let s = f / (2.0 + f);
                let half_square = 0.5 * f * f;
                let remainder = <$type>::ln_remainder::<M>(s * s);
                let correction = M::mul_add(s, half_square + remainder, k * $log_ln_2_low);
                let ln = k * $log_ln_2_high - ((half_square - correction) - f);

                let ln = if self < <$type>::INFINITY { ln } else { self };
                let ln = if self == 0.0 { <$type>::NEG_INFINITY } else { ln };
                if self < 0.0 { <$type>::NAN } else { ln }
            }

            #[inline(always)]
            fn ln_gamma<M: MulAdd>(self) -> Self {
                const STIRLING_FROM: $type = 8.0;
                // ln(2 π) / 2 - 1 / 2
                const OFFSET: $type = 4.189_385_332_046_727_417_8e-1;
                let x = self;

                // Γ(x) = Γ(2 + t) · product or Γ(2 + t) / product, |t| <= 1/2. Subtractions are exact.
                let (mut above, mut product) = (x, 1.0);
                for _ in 0..6 {
                    let next = above - 1.0;
                    let step = next >= 1.5;
                    product = if step { product * next } else { product };
                    above = if step { next } else { above };
                }
                let t = above - 2.0;
                let below = x < 1.5;
                let (t, product) = if below { (x - 1.0, x) } else { (t, product) };
                let (t, product) = if x < 0.5 { (x, x * (x + 1.0)) } else { (t, product) };

                let is_large = x >= STIRLING_FROM;
                let ln = Transcendental::ln::<M>(if is_large { x } else { product });
                let signed_ln = if below { -ln } else { ln };
                let small = M::mul_add(t, <$type>::ln_gamma_above_2::<M>(t), signed_ln);

                let inverse = 1.0 / x;
                let remainder = <$type>::stirling_remainder::<M>(inverse * inverse);
                let rest = M::mul_add(inverse, remainder, OFFSET);
                let large = M::mul_add(x - 0.5, ln - 1.0, rest);

                let ln_gamma = if is_large { large } else { small };
                if self < 0.0 { <$type>::NAN } else { ln_gamma }
            }
        }

        impl ExpParts for $type {
            #[inline(always)]
            fn exp_parts<M: MulAdd>(x: Self, bias: Self) -> (Self, Self) {
                // Adding 1.5 * 2^(mantissa bits) rounds to an integer and leaves it in the lowest bits, from
                // where it is moved into the place of the exponent.
                let shift = 1.5 * (1_u64 << $mantissa_bits) as $type + bias;
                let shifted = M::mul_add(x, std::$type::consts::LOG2_E, shift);
                let power = <$type>::from_bits(shifted.to_bits() << $mantissa_bits);
                let n = shifted - shift;
                let r = M::mul_add(n, -$exp_ln_2_low, M::mul_add(n, -$exp_ln_2_high, x));
                let square = r * r;
                // Added last, the 1 decides the rounding; plain Horner form errs by up to 2 ULP.
                let mantissa = 1.0 + M::mul_add(square, <$type>::exp_remainder::<M>(r, square), r);
                (power, mantissa)
            }
        }
    };
}

/// Common part of [`Transcendental::exp`] and its cheaper form.
trait ExpParts: Sized {
    /// With n = round(x / ln 2): the number whose exponent bits are n + `bias`, and exp(x) / 2^n.
    fn exp_parts<M: MulAdd>(x: Self, bias: Self) -> (Self, Self);
}

/// The polynomials, of a degree for each precision.
trait Remainders: Sized {
    /// (exp(r) - 1 - r) / r², for |r| <= ln(2) / 2.
    fn exp_remainder<M: MulAdd>(r: Self, square: Self) -> Self;
    /// 2 atanh(s) / s - 2, for w = s² and |s| <= 3 - √8.
    fn ln_remainder<M: MulAdd>(w: Self) -> Self;
    /// ln Γ(2 + t) / t, for |t| <= 1/2.
    fn ln_gamma_above_2<M: MulAdd>(t: Self) -> Self;
    /// x (ln Γ(x) - (x - 1/2) ln x + x - ln(2 π) / 2), for w = 1 / x² and x >= 8.
    fn stirling_remainder<M: MulAdd>(w: Self) -> Self;
}

/// Horner's rule; coefficients from the constant on.
#[inline(always)]
fn polynomial<T: Scalar, M: MulAdd, const N: usize>(x: T, coefficients: [T; N]) -> T {
    let mut sum = coefficients[N - 1];
    for i in (0..N - 1).rev() {
        sum = M::mul_add(sum, x, coefficients[i]);
    }
    sum
}

transcendental!(
    f32, bits: u32, mantissa_bits: 23, bias: 127.0,
    exp_floor: -88.0, exp_ceiling: 88.73,
    // e_expf.c
    exp_ln_2: [6.931_457_519_5e-1, 1.428_606_765_3e-6],
    // e_logf.c
    log_ln_2: [6.931_381_225_6e-1, 9.058_000_614_5e-6],
);
transcendental!(
    f64, bits: u64, mantissa_bits: 52, bias: 1023.0,
    exp_floor: -709.0, exp_ceiling: 709.79,
    // e_exp.c and e_log.c
    exp_ln_2: [6.931_471_803_691_238_164_90e-1, 1.908_214_929_270_587_700_02e-10],
    log_ln_2: [6.931_471_803_691_238_164_90e-1, 1.908_214_929_270_587_700_02e-10],
);

impl Remainders for f32 {
    #[inline(always)]
    fn exp_remainder<M: MulAdd>(r: f32, square: f32) -> f32 {
        let low = M::mul_add(r, 1.666_652_1e-1, 4.999_999_4e-1);
        let high = M::mul_add(r, 8.368_745e-3, 4.166_839e-2);
        M::mul_add(square, M::mul_add(square, 1.381_455_1e-3, high), low)
    }

    #[inline(always)]
    fn ln_remainder<M: MulAdd>(w: f32) -> f32 {
        let w2 = w * w;
        let even = w2 * M::mul_add(w2, 2.427_907_884_1e-1, 4.000_097_215_2e-1);
        let odd = w * M::mul_add(w2, 2.849_878_668_8e-1, 6.666_666_269_3e-1);
        even + odd
    }

    #[inline(always)]
    fn ln_gamma_above_2<M: MulAdd>(t: f32) -> f32 {
        polynomial::<_, M, _>(
            t,
            [
                4.227_843_43e-1,
                3.224_670_05e-1,
                -6.735_327_3e-2,
                2.058_202_89e-2,
                -7.366_343_76e-3,
                2.875_640_81e-3,
                -1.312_771_2e-3,
                5.776_294_28e-4,
            ],
        )
    }

    #[inline(always)]
    fn stirling_remainder<M: MulAdd>(w: f32) -> f32 {
        M::mul_add(w, -2.765_519_2e-3, 8.333_330_95e-2)
    }
}

impl Remainders for f64 {
    #[inline(always)]
    fn exp_remainder<M: MulAdd>(r: f64, square: f64) -> f64 {
        // Pairs of coefficients in r, then Horner's rule in r²: half as long a chain as Horner's rule in r.
        let pair_0 = M::mul_add(r, 1.666_666_666_666_641e-1, 5.000_000_000_000_011e-1);
        let pair_2 = M::mul_add(r, 8.333_333_333_494_98e-3, 4.166_666_666_652_972_5e-2);
        let pair_4 = M::mul_add(r, 1.984_126_950_577_056_4e-4, 1.388_888_894_376_023_3e-3);
        let pair_6 = M::mul_add(r, 2.755_758_680_590_407_8e-6, 2.480_149_294_936_181e-5);
        let pair_8 = M::mul_add(r, 2.500_001_837_640_453e-8, 2.763_030_634_462_171e-7);
        let sum = M::mul_add(square, pair_8, pair_6);
        let sum = M::mul_add(square, sum, pair_4);
        let sum = M::mul_add(square, sum, pair_2);
        M::mul_add(square, sum, pair_0)
    }

    #[inline(always)]
    fn ln_remainder<M: MulAdd>(w: f64) -> f64 {
        let w2 = w * w;
        let even = M::mul_add(w2, 1.531_383_769_920_937_332e-1, 2.222_219_843_214_978_396e-1);
        let even = w2 * M::mul_add(w2, even, 3.999_999_999_940_941_908e-1);
        let odd = M::mul_add(w2, 1.479_819_860_511_658_591e-1, 1.818_357_216_161_805_012e-1);
        let odd = M::mul_add(w2, odd, 2.857_142_874_366_239_149e-1);
        let odd = w * M::mul_add(w2, odd, 6.666_666_666_666_735_130e-1);
        even + odd
    }

    #[inline(always)]
    fn ln_gamma_above_2<M: MulAdd>(t: f64) -> f64 {
        polynomial::<_, M, _>(
            t,
            [
                4.227_843_350_984_671_36e-1,
                3.224_670_334_241_132_52e-1,
                -6.735_230_105_319_561e-2,
                2.058_080_842_777_721_55e-2,
                -7.385_551_028_937_956_82e-3,
                2.890_510_331_211_492_22e-3,
                -1.192_753_900_920_983_78e-3,
                5.096_695_109_553_900_31e-4,
                -2.231_549_786_797_249_8e-4,
                9.945_773_297_621_987_2e-5,
                -4.492_371_716_968_153_04e-5,
                2.050_514_132_037_500_34e-5,
                -9.456_337_694_595_603_12e-6,
                4.386_640_514_180_750_27e-6,
                -1.974_189_550_210_180_03e-6,
                9.156_272_183_795_454_29e-7,
                -5.812_489_818_160_091_12e-7,
                2.829_062_117_408_813_13e-7,
            ],
        )
    }

    #[inline(always)]
    fn stirling_remainder<M: MulAdd>(w: f64) -> f64 {
        polynomial::<_, M, _>(
            w,
            [
                8.333_333_333_333_329_73e-2,
                -2.777_777_777_610_000_39e-3,
                7.936_506_668_624_145_25e-4,
                -5.952_029_368_773_997_49e-4,
                8.373_083_776_194_599_9e-4,
                -1.653_237_249_202_491_38e-3,
            ],
        )
    }
}

const EXP: u8 = 0;
const LN: u8 = 1;
#[cfg(test)]
const LN_GAMMA: u8 = 2;

struct InPlace<'a, T, const FUNCTION: u8>(&'a mut [T]);

impl<T: Scalar, const FUNCTION: u8> Kernel for InPlace<'_, T, FUNCTION> {
    type Output = ();
    #[inline(always)]
    fn run<M: MulAdd>(self) {
        for x in self.0 {
            *x = match FUNCTION {
                EXP => x.exp::<M>(),
                LN => x.ln::<M>(),
                _ => x.ln_gamma::<M>(),
            };
        }
    }
}

/// Replaces every number by its exponential.
pub fn exp_in_place<T: Scalar>(simd: Simd, numbers: &mut [T]) {
    simd.run(InPlace::<T, EXP>(numbers));
}

/// Replaces every number by its natural logarithm.
pub fn ln_in_place<T: Scalar>(simd: Simd, numbers: &mut [T]) {
    simd.run(InPlace::<T, LN>(numbers));
}

/// Replaces every number by its [`Transcendental::ln_gamma`].
#[cfg(test)]
pub fn ln_gamma_in_place<T: Scalar>(simd: Simd, numbers: &mut [T]) {
    simd.run(InPlace::<T, LN_GAMMA>(numbers));
}

#[cfg(test)]
mod tests;
