//! Modified Bessel functions `I_ν(κ)` in logarithms, their ratios, and the von Mises-Fisher distributions they normalise.
//!
//! Three expansions cover every order and argument, and each gives the ratio and its complement without cancellation:
//!
//! | where | expansion | DLMF |
//! |---|---|---|
//! | ν ≥ 25 | Debye's, uniform in κ | 10.41.3 |
//! | κ ≥ max(25, ν²) | Hankel's, for large κ | 10.40.1 |
//! | else | power series | 10.25.2 |

use super::gamma::{HALF_LN_TAU, ln_gamma, polynomial};
use std::f64::consts::LN_2;

/// Order from which [`DEBYE_TERMS`] terms of Debye's expansion are exact to rounding: the next is at most 6e-18.
const DEBYE_FROM: f64 = 25.0;

/// Terms of Debye's expansion after the first.
const DEBYE_TERMS: usize = 13;

/// Degree of the last of its polynomials.
const DEBYE_DEGREE: usize = 3 * DEBYE_TERMS;

/// Argument from which Hankel's expansion is exact to rounding for orders up to its root: its terms fall to e^(-2κ).
const HANKEL_FROM: f64 = 25.0;

/// Debye's polynomials `u_k(t)`, and `½ u_(k-1) + t u'_(k-1)` of the derivative's (DLMF 10.41.9, 10.41.11).
const DEBYE: (
    [[f64; DEBYE_DEGREE + 1]; DEBYE_TERMS + 1],
    [[f64; DEBYE_DEGREE + 1]; DEBYE_TERMS + 1],
) = debye_polynomials();

const fn debye_polynomials()
-> ([[f64; DEBYE_DEGREE + 1]; DEBYE_TERMS + 1], [[f64; DEBYE_DEGREE + 1]; DEBYE_TERMS + 1]) {
    let mut u = [[0.0; DEBYE_DEGREE + 1]; DEBYE_TERMS + 1];
    let mut w = [[0.0; DEBYE_DEGREE + 1]; DEBYE_TERMS + 1];
    u[0][0] = 1.0;
    let mut k = 0;
    while k < DEBYE_TERMS {
        let mut j = 0;
        while j <= 3 * k {
            let (c, power) = (u[k][j], j as f64);
            // ½ t² (1 - t²) u' + ⅛ ∫ (1 - 5 t²) u dt
            u[k + 1][j + 1] += c * (0.5 * power + 0.125 / (power + 1.0));
            u[k + 1][j + 3] -= c * (0.5 * power + 0.625 / (power + 3.0));
            w[k + 1][j] = c * (0.5 + power);
            j += 1;
        }
        k += 1;
    }
    (u, w)
}

/// Results of the expansions for `I_ν(κ)` and `I_(ν+1)(κ)`.
struct Bessel {
    /// `ln(I_ν(κ) κ^-ν e^-κ)`, finite at κ = 0.
    ln_reduced: f64,
    /// `I_(ν+1) / I_ν`.
    ratio: f64,
    /// `1 - ratio`.
    complement: f64,
}

impl Bessel {
    fn new(order: f64, kappa: f64) -> Self {
        if order >= DEBYE_FROM {
            Self::debye(order, kappa)
        } else if kappa >= HANKEL_FROM.max(order * order) {
            Self::hankel(order, kappa)
        } else {
            Self::power_series(order, kappa)
        }
    }

    /// Both series have positive terms; the sums stay below e^κ, κ < 625.
    fn power_series(order: f64, kappa: f64) -> Self {
        let (sum, next) = power_series_minus_one(order, kappa);
        let (sum, next) = (1.0 + sum, next + 1.0);
        let factor = kappa / (2.0 * (order + 1.0));
        Self {
            ln_reduced: (sum * (-kappa).exp()).ln() - order * LN_2 - ln_gamma(order + 1.0),
            ratio: factor * next / sum,
            complement: (sum - factor * next) / sum,
        }
    }

    fn hankel(order: f64, kappa: f64) -> Self {
        let (mu, step) = (4.0 * order * order, 8.0 * order + 4.0);
        // Terms of order ν and the differences to those of order ν + 1.
        let (mut term, mut difference) = (1.0, 0.0);
        let (mut sum, mut differences) = (1.0, 0.0);
        for k in 1..100 {
            let odd = f64::from(2 * k - 1);
            let denominator = -8.0 * kappa * f64::from(k);
            let factor = mu - odd * odd;
            difference = (factor * difference - step * (term - difference)) / denominator;
            term *= factor / denominator;
            sum += term;
            differences += difference;
            if term.abs() <= 1e-18 && difference.abs() <= 1e-18 * differences.abs() {
                break;
            }
        }
        let complement = differences / sum;
        Self {
            ln_reduced: sum.ln() - (order + 0.5) * kappa.ln() - HALF_LN_TAU,
            ratio: 1.0 - complement,
            complement,
        }
    }

    fn debye(order: f64, kappa: f64) -> Self {
        let z = kappa / order;
        let root = 1f64.hypot(z);
        let t = 1.0 / root;
        let (mut u, mut w) = (0.0, 0.0);
        for k in (0..=DEBYE_TERMS).rev() {
            let degree = 3 * k;
            u = u / order + polynomial(t, &DEBYE.0[k][..=degree]);
            w = w / order + polynomial(t, &DEBYE.1[k][..=degree]);
        }
        // I'_ν / I_ν = (root / z) V / U with V = U - t (1 - t²) W, and I'_ν = I_(ν+1) + (ν / κ) I_ν.
        let correction = z * t * t * w / u;
        let gap = 1.0 / (root + z);
        Self {
            ln_reduced: order * (gap - (order * (1.0 + root)).ln())
                - HALF_LN_TAU
                - 0.5 * (order * root).ln()
                + u.ln(),
            ratio: z / (1.0 + root) - correction,
            complement: (1.0 + gap) / (1.0 + root) + correction,
        }
    }
}

/// Returns `Σ_(k ≥ 1) (κ² / 4)^k / (k! (ν + 1)_k)` for orders ν and ν + 1.
fn power_series_minus_one(order: f64, kappa: f64) -> (f64, f64) {
    let square = 0.25 * kappa * kappa;
    let (mut term, mut next_term) = (1.0, 1.0);
    let (mut sum, mut next_sum) = (0.0, 0.0);
    for k in 1..2000 {
        let k = f64::from(k);
        term *= square / (k * (order + k));
        next_term *= square / (k * (order + 1.0 + k));
        sum += term;
        next_sum += next_term;
        // Past the largest term they fall faster than geometrically.
        if term <= 0.1 * f64::EPSILON * sum {
            break;
        }
    }
    (sum, next_sum)
}

/// Returns `ln I_ν(κ)`, for ν ≥ 0 and κ ≥ 0.
///
/// Error: 1e-14 relative to the larger of 1 and the result, for ν up to 1e4 and κ up to 1e10.
///
/// ```
/// // I_½(κ) = √(2 / πκ) sinh κ
/// let exact = (2.0 / std::f64::consts::PI).sqrt().ln() + 1f64.sinh().ln();
/// assert!((entropysum::expert::special::ln_bessel_i(0.5, 1.0) - exact).abs() < 1e-15);
/// ```
pub fn ln_bessel_i(order: f64, kappa: f64) -> f64 {
    let power = if order == 0.0 { 0.0 } else { order * (0.5 * kappa).ln() };
    if order < DEBYE_FROM && kappa < 1.0 {
        let sum = power_series_minus_one(order, kappa).0;
        return power - ln_gamma(order + 1.0) + sum.ln_1p();
    }
    Bessel::new(order, kappa).ln_reduced + (power + order * LN_2) + kappa
}

/// Returns the mean resultant length `A_p(κ) = I_(p/2)(κ) / I_(p/2-1)(κ)` of a von Mises-Fisher distribution in p dimensions, and
/// `1 - A_p(κ)`, both without cancellation; for p ≥ 2.
///
/// Error: 1e-14 relative for the ratio, 5e-14 for its complement, for p up to 2e4 and κ up to 1e10.
///
/// ```
/// // A_3(κ) = coth κ - 1 / κ
/// let (ratio, complement) = entropysum::expert::special::bessel_ratio(3.0, 1e8);
/// assert_eq!((ratio, complement), (1.0 - 1e-8, 1e-8));
/// ```
pub fn bessel_ratio(dim: f64, kappa: f64) -> (f64, f64) {
    let Bessel { ratio, complement, .. } = Bessel::new(dim / 2.0 - 1.0, kappa);
    (ratio, complement)
}

/// Returns the concentration κ with `A_p(κ) = R`: 0 at R = 0, +∞ for R ≥ 1.
///
/// Error: 4e-14 relative, or the effect of rounding R (about 2 ε / (1 - R)) if that is larger.
///
/// ```
/// use entropysum::expert::special::{bessel_ratio, bessel_ratio_inverse};
/// let kappa = bessel_ratio_inverse(5.0, 0.3);
/// assert!((bessel_ratio(5.0, kappa).0 - 0.3).abs() < 1e-16);
/// ```
pub fn bessel_ratio_inverse(dim: f64, ratio: f64) -> f64 {
    if !(ratio < 1.0) {
        return if ratio.is_nan() { ratio } else { f64::INFINITY };
    }
    if ratio <= 0.0 {
        return 0.0;
    }
    let complement = 1.0 - ratio;
    // Start: Banerjee et al., Clustering on the unit hypersphere (JMLR 2005).
    let mut kappa = ratio * (dim - ratio * ratio) / (complement * (1.0 + ratio));
    let mut last = f64::INFINITY;
    for _ in 0..50 {
        let (found, rest) = bessel_ratio(dim, kappa);
        // A' = 1 - A² - (p - 1) A / κ = (1 - A) (1 + A) - …; for large κ it is (1 - A) / κ.
        let derivative = rest * (1.0 + found) - (dim - 1.0) * found / kappa;
        // Newton's method in ln κ, on ln A or ln(1 - A): near the ends the one or the other is linear.
        let step = if ratio < 0.5 {
            (found / ratio).ln() / (kappa * derivative / found).clamp(0.1, 2.0)
        } else {
            -(rest / complement).ln() / (kappa * derivative / rest).clamp(0.1, 2.0)
        };
        kappa *= (-step).exp();
        if step.abs() <= 2.0 * f64::EPSILON || (step.abs() < 1e-6 && step.abs() >= last / 2.0) {
            break;
        }
        last = step.abs();
    }
    kappa
}

/// Returns the log-partition `½ p ln 2π + ln I_ν(κ) - ν ln κ`, ν = p / 2 - 1, of a von Mises-Fisher distribution on the unit sphere
/// in p dimensions; with p = 2 that of a von Mises distribution. At κ = 0 this is the logarithm of the sphere's area.
///
/// Error: 1e-14 relative to its largest term.
///
/// ```
/// let area: f64 = 4.0 * std::f64::consts::PI;
/// assert!((entropysum::expert::special::von_mises_fisher_log_partition(3.0, 0.0) - area.ln()).abs() < 1e-15);
/// ```
pub fn von_mises_fisher_log_partition(dim: f64, kappa: f64) -> f64 {
    dim * HALF_LN_TAU + Bessel::new(dim / 2.0 - 1.0, kappa).ln_reduced + kappa
}

/// Returns the entropy of a von Mises-Fisher distribution, in nats, with respect to the sphere's area: log-partition - κ A_p(κ).
///
/// Error: 3e-14 relative to its largest term but κ, which cancels by hand; for p up to 2e4 and κ up to 1e10.
///
/// ```
/// // Far out it is a Gaussian in the p - 1 tangential dimensions.
/// let gaussian = 1.0 + (2.0 * std::f64::consts::PI * 1e-10f64).ln();
/// assert!((entropysum::expert::special::von_mises_fisher_entropy(3.0, 1e10) - gaussian).abs() < 1e-9);
/// ```
pub fn von_mises_fisher_entropy(dim: f64, kappa: f64) -> f64 {
    let bessel = Bessel::new(dim / 2.0 - 1.0, kappa);
    dim * HALF_LN_TAU + bessel.ln_reduced + kappa * bessel.complement
}
