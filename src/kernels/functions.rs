//! Functions of data that are needed once for each value: sin, cos, powers.
//!
//! Branch-free like [`math`](super::math), and in `f64` whatever the working precision, since a value is mapped once
//! a sweep or less and not once for each component. The constants are those of
//! [fdlibm](https://www.netlib.org/fdlibm/): `k_sin.c`, `k_cos.c`, and `e_rem_pio2.c` for π/2 in three parts.

#![allow(clippy::excessive_precision, reason = "coefficients as their sources print them")]

use super::dispatch::MulAdd;
use super::math::Transcendental;

/// Computes `x^k`.
///
/// Valid range: x ≥ 0, and any x for k = 1 and 2. Relative error: 3e-16 · (4 + |k ln x|); k of 1, 2 and ½ are exact to
/// rounding.
#[inline(always)]
pub fn power<M: MulAdd>(x: f64, k: f64) -> f64 {
    Transcendental::exp::<M>(k * Transcendental::ln::<M>(x))
}

/// Computes `sin x`, absolute error below 3e-16 for |x| ≤ 1e6.
#[inline(always)]
pub fn sin<M: MulAdd>(x: f64) -> f64 {
    sin_of_quadrants::<M>(x, 0)
}

/// Computes `cos x`, absolute error below 3e-16 for |x| ≤ 1e6.
#[inline(always)]
pub fn cos<M: MulAdd>(x: f64) -> f64 {
    sin_of_quadrants::<M>(x, 1)
}

/// Computes `sin(x + quadrants π/2)`
#[inline(always)]
fn sin_of_quadrants<M: MulAdd>(x: f64, quadrants: u64) -> f64 {
    // Adding 1.5 · 2^52 rounds to an integer and leaves it in the lowest bits.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    const PI_2: [f64; 3] = [
        1.570_796_326_734_125_614_17,
        6.077_100_506_303_965_976_60e-11,
        2.022_266_248_795_950_631_54e-21,
    ];
    let shifted = M::mul_add(x, std::f64::consts::FRAC_2_PI, SHIFT);
    let k = shifted - SHIFT;
    // Products of k with the first two parts, of 33 bits each, are exact.
    let r = M::mul_add(k, -PI_2[2], M::mul_add(k, -PI_2[1], M::mul_add(k, -PI_2[0], x)));
    let z = r * r;
    let sin = M::mul_add(z, 1.589_690_995_211_550_102_21e-10, -2.505_076_025_340_686_341_95e-8);
    let sin = M::mul_add(z, sin, 2.755_731_370_707_006_767_89e-6);
    let sin = M::mul_add(z, sin, -1.984_126_982_985_794_931_34e-4);
    let sin = M::mul_add(z, sin, 8.333_333_333_322_489_461_24e-3);
    let sin = M::mul_add(z, sin, -1.666_666_666_666_663_243_48e-1);
    let sin = M::mul_add(z * r, sin, r);
    let cos = M::mul_add(z, -1.135_964_755_778_819_482_65e-11, 2.087_572_321_298_174_827_90e-9);
    let cos = M::mul_add(z, cos, -2.755_731_435_139_066_330_35e-7);
    let cos = M::mul_add(z, cos, 2.480_158_728_947_672_941_78e-5);
    let cos = M::mul_add(z, cos, -1.388_888_888_887_410_957_49e-3);
    let cos = M::mul_add(z, cos, 4.166_666_666_666_660_190_37e-2);
    let cos = M::mul_add(z * z, cos, M::mul_add(-0.5, z, 1.0));
    let quadrant = shifted.to_bits().wrapping_add(quadrants);
    let value = if quadrant & 1 == 1 { cos } else { sin };
    if quadrant & 2 == 2 { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::dispatch::{Kernel, Simd};

    struct Map<'a, F>(&'a [f64], F, &'a mut [f64]);

    trait Function {
        fn call<M: MulAdd>(&self, x: f64) -> f64;
    }

    impl<F: Function> Kernel for Map<'_, F> {
        type Output = ();
        #[inline(always)]
        fn run<M: MulAdd>(self) {
            for (y, &x) in self.2.iter_mut().zip(self.0) {
                *y = self.1.call::<M>(x);
            }
        }
    }

    macro_rules! function {
        ($name:ident, $x:ident => $body:expr) => {
            struct $name;
            impl Function for $name {
                #[inline(always)]
                fn call<M: MulAdd>(&self, $x: f64) -> f64 {
                    $body
                }
            }
        };
    }
    function!(Sin, x => sin::<M>(x));
    function!(Cos, x => cos::<M>(x));
    function!(Cube, x => power::<M>(x, 3.0));

    fn check<F: Function>(
        function: impl Fn() -> F,
        pairs: &[(f64, f64)],
        tolerance: impl Fn(f64) -> f64,
    ) {
        let (x, expected): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        for (level, simd) in Simd::available() {
            let mut y = vec![0.0; x.len()];
            simd.run(Map(&x, function(), &mut y));
            for ((x, y), e) in x.iter().zip(y).zip(&expected) {
                assert!((y - e).abs() <= tolerance(*e), "{level:?} {x}: {y}, expected {e}");
            }
        }
    }

    #[test]
    fn sin_and_cos_are_those_of_std() {
        let x: Vec<f64> = (-4000..4000)
            .map(|k| f64::from(k) * 0.001_57)
            .chain([1e6, -1e6, 12_345.678, 0.0, std::f64::consts::FRAC_PI_2])
            .collect();
        let pairs = |f: fn(f64) -> f64| x.iter().map(|&x| (x, f(x))).collect::<Vec<_>>();
        check(|| Sin, &pairs(f64::sin), |_| 3e-16);
        check(|| Cos, &pairs(f64::cos), |_| 3e-16);
    }

    #[test]
    fn powers_are_exponentials_of_logarithms() {
        let pairs: Vec<_> = [0.0, 1e-90, 0.3, 1.0, 7.5, 1e90].map(|x: f64| (x, x.powi(3))).to_vec();
        check(|| Cube, &pairs, |y| 3e-16 * (4.0 + y.ln().abs().min(1e3)) * y);
    }
}
