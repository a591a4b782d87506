use super::*;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// An unevaluated sum of two f64, the second below the rounding of the first: 106 bits.
#[derive(Clone, Copy)]
struct DoubleDouble(f64, f64);

impl DoubleDouble {
    /// ln 2 to 106 bits, and what is left of it.
    const LN_2: Self = Self(std::f64::consts::LN_2, 2.319_046_813_846_299_6e-17);
    const LN_2_REST: f64 = 5.707_708_438_416_212e-34;

    fn two_sum(a: f64, b: f64) -> Self {
        let sum = a + b;
        let b_part = sum - a;
        Self(sum, (a - (sum - b_part)) + (b - b_part))
    }
    fn add(self, other: Self) -> Self {
        let Self(sum, error) = Self::two_sum(self.0, other.0);
        Self::two_sum(sum, error + self.1 + other.1)
    }
    fn mul(self, other: Self) -> Self {
        let product = self.0 * other.0;
        let error = self.0.mul_add(other.0, -product) + self.0 * other.1 + self.1 * other.0;
        Self::two_sum(product, error)
    }
    fn scale(self, power_of_two: f64) -> Self {
        Self(self.0 * power_of_two, self.1 * power_of_two)
    }
    /// exp as 2^k times the result: Taylor series of exp(r / 256), squared eight times.
    fn exp(self) -> (Self, i32) {
        let k = (self.0 / std::f64::consts::LN_2).round();
        let r = self.add(Self(-k, 0.0).mul(Self::LN_2)).add(Self(-k * Self::LN_2_REST, 0.0));
        let r = r.scale(1.0 / 256.0);
        let mut sum = Self(1.0, 0.0);
        for i in (1..16).rev() {
            let quotient = r.0 / f64::from(i);
            let rest = (-quotient).mul_add(f64::from(i), r.0) + r.1;
            sum = Self(1.0, 0.0).add(sum.mul(Self::two_sum(quotient, rest / f64::from(i))));
        }
        for _ in 0..8 {
            sum = sum.mul(sum);
        }
        (sum, k as i32)
    }
    /// ln of a number by one Newton step from the std one: y + (x exp(-y) - 1), to second order.
    fn ln(x: f64) -> Self {
        let y = Self(x.ln(), 0.0);
        let (exp, k) = Self(-y.0, 0.0).exp();
        let half = 2_f64.powi(k / 2);
        let product = Self(x, 0.0).scale(half).scale(2_f64.powi(k - k / 2)).mul(exp);
        let excess = product.add(Self(-1.0, 0.0));
        y.add(excess).add(excess.mul(excess).scale(-0.5))
    }
    fn div(self, other: Self) -> Self {
        let quotient = self.0 / other.0;
        let rest = self.add(Self(-quotient, 0.0).mul(other));
        Self::two_sum(quotient, rest.0 / other.0)
    }
    /// ln Γ by Stirling's series with ten Bernoulli numbers, from 40 on.
    fn ln_gamma(x: f64) -> Self {
        const BERNOULLI: [(f64, f64); 10] = [
            (1.0, 6.0),
            (-1.0, 30.0),
            (1.0, 42.0),
            (-1.0, 30.0),
            (5.0, 66.0),
            (-691.0, 2730.0),
            (7.0, 6.0),
            (-3617.0, 510.0),
            (43867.0, 798.0),
            (-174_611.0, 330.0),
        ];
        const HALF_LN_TAU: DoubleDouble =
            DoubleDouble(9.189_385_332_046_728e-1, -3.878_294_158_067_242e-17);
        let minus = |a: Self, b: Self| a.add(Self(-b.0, -b.1));
        let ln = |x: Self| Self::ln(x.0).add(Self(x.1 / x.0, 0.0));
        let (mut y, mut product) = (Self(x, 0.0), Self(1.0, 0.0));
        while y.0 < 40.0 {
            product = product.mul(y);
            y = y.add(Self(1.0, 0.0));
        }
        let square = y.mul(y);
        let (mut power, mut series) = (y, Self(0.0, 0.0));
        for (k, (numerator, denominator)) in (1..).zip(BERNOULLI) {
            let denominator = denominator * f64::from(2 * k * (2 * k - 1));
            let term = Self(numerator, 0.0).div(power.mul(Self(denominator, 0.0)));
            series = series.add(term);
            power = power.mul(square);
        }
        let leading = minus(y.add(Self(-0.5, 0.0)).mul(ln(y)), y);
        minus(leading.add(HALF_LN_TAU).add(series), ln(product))
    }
    /// Distance of `value` from 2^k times this, in ULP of the latter.
    fn ulp(self, k: i32, value: f64) -> f64 {
        let value = value * 2_f64.powi(-(k / 2)) * 2_f64.powi(-(k - k / 2));
        let ulp = self.0.abs().next_up() - self.0.abs();
        ((value - self.0) - self.1).abs() / ulp
    }
}

fn ulp_f32(value: f32, exact: f64) -> f64 {
    let nearest = (exact as f32).abs();
    let ulp = f64::from(nearest.next_up()) - f64::from(nearest);
    (f64::from(value) - exact).abs() / ulp
}

struct ExpNonpositive<'a, T>(&'a mut [T]);
impl<T: Scalar> Kernel for ExpNonpositive<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<M: MulAdd>(self) {
        for x in self.0 {
            *x = x.exp_nonpositive::<M>();
        }
    }
}

fn exp_nonpositive_in_place<T: Scalar>(simd: Simd, numbers: &mut [T]) {
    simd.run(ExpNonpositive(numbers));
}

/// Asserts that no error over `arguments` exceeds `limit`, and prints the largest.
fn assert_ulp<T: Scalar>(
    name: &str,
    function: fn(Simd, &mut [T]),
    arguments: &[T],
    error: impl Fn(T, T) -> f64,
    limit: f64,
) {
    for (level, simd) in Simd::available() {
        let mut results = arguments.to_vec();
        function(simd, &mut results);
        let (worst, at) = arguments
            .iter()
            .zip(&results)
            .map(|(x, y)| (error(*x, *y), *x))
            .inspect(|(error, x)| assert!(!error.is_nan(), "{name} {level:?} at {x}"))
            .fold((0.0, T::ZERO), |worst, e| if e.0 <= worst.0 { worst } else { e });
        println!("{name} {} {level:?}: {worst:.3} ULP at {at}", T::NAME);
        assert!(worst <= limit, "{name} {} {level:?}: {worst} ULP at {at}", T::NAME);
    }
}

fn uniform(count: usize, low: f64, high: f64) -> Vec<f64> {
    let mut random = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(1);
    (0..count).map(|_| low + (high - low) * (random.next_u64() as f64 / 2_f64.powi(64))).collect()
}

fn every_97th_f32() -> Vec<f32> {
    (0..=u32::MAX).step_by(97).map(f32::from_bits).collect()
}

/// Random arguments of exp, dense where it is near 1 and at the ends of its range.
fn exp_arguments() -> Vec<f64> {
    let mut x = uniform(600_000, -708.0, 709.78);
    x.extend(uniform(200_000, -1.0, 1.0));
    x.extend(uniform(100_000, 709.0, 709.78));
    x.extend(uniform(100_000, -708.0, -707.0));
    x
}

#[test]
fn exp_has_the_documented_error() {
    let exact = |x: f64| DoubleDouble(x, 0.0).exp();
    let error = |x, y| exact(x).0.ulp(exact(x).1, y);
    assert_ulp("exp", exp_in_place, &exp_arguments(), error, 1.02);
    let nonpositive: Vec<f64> =
        exp_arguments().iter().map(|x| -x.abs()).filter(|x| *x >= -708.39).collect();
    assert_ulp("exp_nonpositive", exp_nonpositive_in_place, &nonpositive, error, 1.04);

    let error = |x: f32, y| ulp_f32(y, f64::from(x).exp());
    let x: Vec<f32> =
        every_97th_f32().into_iter().filter(|x| (-86.98..=88.722).contains(x)).collect();
    assert_ulp("exp", exp_in_place, &x, error, 1.01);
    let x: Vec<f32> = every_97th_f32().into_iter().filter(|x| (-87.33..=0.0).contains(x)).collect();
    assert_ulp("exp_nonpositive", exp_nonpositive_in_place, &x, error, 1.00);
}

#[test]
fn ln_has_the_documented_error() {
    let mut x: Vec<f64> = uniform(500_000, -1074.0, 1024.0).into_iter().map(f64::exp2).collect();
    x.extend(uniform(300_000, 0.5, 2.0));
    x.extend(uniform(200_000, 0.99, 1.01));
    x.retain(|x| *x > 0.0 && *x != 1.0);
    assert_ulp("ln", ln_in_place, &x, |x, y| DoubleDouble::ln(x).ulp(0, y), 0.83);

    let x: Vec<f32> = every_97th_f32().into_iter().filter(|x| *x > 0.0 && x.is_finite()).collect();
    assert_ulp("ln", ln_in_place, &x, |x, y| ulp_f32(y, f64::from(x).ln()), 0.79);
}

#[test]
fn ln_gamma_has_the_documented_error() {
    let mut x = uniform(100_000, 0.0, 10.0);
    x.extend(uniform(50_000, 0.9, 1.1));
    x.extend(uniform(50_000, 1.9, 2.1));
    x.extend(uniform(50_000, -1000.0, 3.0).into_iter().map(f64::exp2));
    x.extend(uniform(50_000, 3.0, 50.0).into_iter().map(f64::exp2));
    x.extend((1..2000).map(f64::from));
    x.extend([0.5_f64, 1.5, 2.5, 8.0].iter().flat_map(|x| [x.next_down(), *x, x.next_up()]));
    // At its zeros the reference is only good to 1e-28, absolutely.
    x.retain(|x| *x > 0.0 && (x - 1.0).abs() > 1e-10 && (x - 2.0).abs() > 1e-10);
    let error = |x, y| DoubleDouble::ln_gamma(x).ulp(0, y);
    assert_ulp("ln_gamma", ln_gamma_in_place, &x, error, 5.9);

    let x: Vec<f32> = every_97th_f32()
        .into_iter()
        .filter(|x| *x > 0.0 && *x < 4e36 && *x != 1.0 && *x != 2.0)
        .collect();
    let error = |x: f32, y| ulp_f32(y, libm::lgamma(f64::from(x)));
    assert_ulp("ln_gamma", ln_gamma_in_place, &x, error, 7.12);
}

#[test]
fn ln_gamma_of_counts_near_zero_is_exact() {
    for (level, simd) in Simd::available() {
        let ln_gamma = |x: f64| everywhere(simd, ln_gamma_in_place, x);
        assert_eq!((ln_gamma(1.0), ln_gamma(2.0)), (0.0, 0.0), "{level:?}");
        assert_eq!(ln_gamma(3.0), std::f64::consts::LN_2, "{level:?}");
        // The first term of the Taylor series, with Euler's constant γ: -γ t about 1, (1 - γ) t about 2.
        for t in [1e-10, 2.0 * f64::EPSILON, -f64::EPSILON] {
            for (zero, slope) in [(1.0, -0.577_215_664_901_532_9), (2.0, 0.422_784_335_098_467_1)] {
                let t = (zero + t) - zero;
                assert!(
                    (ln_gamma(zero + t) / (slope * t) - 1.0).abs() < 3e-10,
                    "{level:?} {zero} {t}"
                );
            }
        }
        for pole in [0.0, -0.0, f64::INFINITY, f64::MAX] {
            assert_eq!(ln_gamma(pole), f64::INFINITY, "{level:?} {pole}");
        }
        for outside in [-1e-300, -0.5, -1.5, -7.25, f64::NEG_INFINITY, f64::NAN] {
            assert!(ln_gamma(outside).is_nan(), "{level:?} {outside}");
        }
    }
}

/// One value in every lane of whole registers and of a tail.
fn everywhere<T: Scalar>(simd: Simd, function: fn(Simd, &mut [T]), x: T) -> T {
    let mut numbers = [x; 37];
    function(simd, &mut numbers);
    let same = |y: &T| *y == numbers[0] || (y.to_f64().is_nan() && numbers[0].to_f64().is_nan());
    assert!(numbers.iter().all(same));
    numbers[0]
}

macro_rules! special_values {
    ($name:ident, $type:ident, exp_zero: $exp_zero:literal, exp_nonpositive_zero: $nonpositive_zero:literal,
     exp_max: $exp_max:literal) => {
        #[test]
        fn $name() {
            for (level, simd) in Simd::available() {
                let exp = |x: $type| everywhere(simd, exp_in_place, x);
                let exp_nonpositive = |x: $type| everywhere(simd, exp_nonpositive_in_place, x);
                let ln = |x: $type| everywhere(simd, ln_in_place, x);
                let infinity = $type::INFINITY;

                for zero in [0.0, -0.0, $type::from_bits(1), -$type::MIN_POSITIVE] {
                    assert_eq!(exp(zero), 1.0, "{level:?} {zero:e}");
                }
                for low in [-infinity, $type::MIN, -1e9, -1000.0, $exp_zero] {
                    assert_eq!(exp(low), 0.0, "{level:?} {low}");
                }
                for low in [$type::EXP_FLOOR, $nonpositive_zero] {
                    assert_eq!(exp_nonpositive(low), 0.0, "{level:?} {low}");
                }
                assert_eq!(exp_nonpositive(0.0), 1.0);
                assert!(exp($exp_zero + 0.02) >= $type::MIN_POSITIVE);
                assert!(exp_nonpositive($nonpositive_zero + 0.02) > 0.0);
                assert!(
                    (exp($exp_max) / ($exp_max as $type).exp() - 1.0).abs() < 4.0 * $type::EPSILON
                );
                for high in [$exp_max + 0.02, 1000.0, 1e9, $type::MAX, infinity] {
                    assert_eq!(exp(high), infinity, "{level:?} {high}");
                }

                assert_eq!(ln(0.0), -infinity);
                assert_eq!(ln(-0.0), -infinity);
                assert_eq!(ln(infinity), infinity);
                assert_eq!(ln(1.0), 0.0);
                for negative in [-$type::from_bits(1), -1.0, $type::MIN, -infinity] {
                    assert!(ln(negative).is_nan(), "{level:?} {negative}");
                }
                let quiet_nan = $type::NAN.to_bits();
                for nan in [quiet_nan, quiet_nan | 1, quiet_nan | 0x5_5555] {
                    for nan in [$type::from_bits(nan), -$type::from_bits(nan)] {
                        assert!(exp(nan).is_nan(), "{level:?}");
                        assert!(exp_nonpositive(nan).is_nan(), "{level:?}");
                        assert!(ln(nan).is_nan(), "{level:?}");
                    }
                }
            }
        }
    };
}
special_values!(special_values_f32, f32, exp_zero: -87.0, exp_nonpositive_zero: -87.69, exp_max: 88.72);
special_values!(special_values_f64, f64, exp_zero: -708.06, exp_nonpositive_zero: -708.75, exp_max: 709.78);
