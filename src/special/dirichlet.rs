//! Dirichlet and beta distributions.

use super::gamma::{
    HALF_LN_TAU, inverse_digamma, ln_minus_digamma, scaled_trigamma_minus_one, stirling_remainder,
    trigamma,
};
use super::{digamma, ln_gamma};

/// Returns `ln B(a, b) = ln Γ(a) + ln Γ(b) - ln Γ(a + b)`, for a, b > 0.
///
/// Error: 1e-14 relative to the larger of 1 and the result.
///
/// ```
/// assert!((entropysum::expert::special::ln_beta(2.0, 3.0) + 12f64.ln()).abs() < 1e-14);
/// ```
pub fn ln_beta(a: f64, b: f64) -> f64 {
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    if large < 10.0 {
        return ln_gamma(small) + (ln_gamma(large) - ln_gamma(small + large));
    }
    // Stirling's formula with its remainders; the leading terms combined by hand.
    let remainders = stirling_remainder(large) - stirling_remainder(small + large);
    let shrink = -(large - 0.5) * (small / large).ln_1p();
    if small < 10.0 {
        ln_gamma(small) + small - small * (small + large).ln() + shrink + remainders
    } else {
        HALF_LN_TAU - 0.5 * small.ln()
            + small * (small / (small + large)).ln()
            + shrink
            + (stirling_remainder(small) + remainders)
    }
}

/// Returns the entropy of a Dirichlet distribution of concentrations `a`, in nats, with respect to the first K - 1 coordinates:
/// `Σ ln Γ(a_k) - ln Γ(a₀) + (a₀ - K) ψ(a₀) - Σ (a_k - 1) ψ(a_k)`. With K = 2 this is the entropy of a beta distribution.
///
/// Error: 1e-13, relative or absolute; the formula as written has six digits at 1e10.
///
/// ```
/// // The uniform distribution on a triangle of area ½.
/// assert!((entropysum::expert::special::dirichlet_entropy(&[1.0; 3]) - 0.5f64.ln()).abs() < 1e-14);
/// ```
pub fn dirichlet_entropy(concentration: &[f64]) -> f64 {
    let total: f64 = concentration.iter().sum();
    let k = concentration.len() as f64;
    if total < 10.0 {
        let terms = concentration.iter().map(|&a| ln_gamma(a) - (a - 1.0) * digamma(a));
        return terms.sum::<f64>() - ln_gamma(total) + (total - k) * digamma(total);
    }
    let terms = concentration
        .iter()
        .map(|&a| 0.5 * a.ln() + stirling_remainder(a) + (a - 1.0) * ln_minus_digamma(a));
    (k - 1.0) * HALF_LN_TAU + terms.sum::<f64>()
        - (k - 0.5) * total.ln()
        - stirling_remainder(total)
        - (total - k) * ln_minus_digamma(total)
}

/// Solves for the concentrations with `ψ(a_k) - ψ(a₀) = m_k`: maximum likelihood from mean logarithms.
///
/// Returns `None` if there is no solution: unless all m_k are finite and `Σ exp m_k < 1`. The solution is exact to rounding;
/// rounding of the m_k moves it by about ε a₀, relatively.
///
/// ```
/// use entropysum::expert::special::{digamma, dirichlet_concentration};
/// let a = [0.3, 2.0, 40.0];
/// let means: Vec<f64> = a.iter().map(|&a_k| digamma(a_k) - digamma(42.3)).collect();
/// let found = dirichlet_concentration(&means).unwrap();
/// assert!(found.iter().zip(a).all(|(f, a)| (f / a - 1.0).abs() < 1e-13));
/// assert_eq!(dirichlet_concentration(&[-0.1, -0.1]), None);
/// ```
pub fn dirichlet_concentration(mean_logarithms: &[f64]) -> Option<Vec<f64>> {
    let means = mean_logarithms;
    let k = means.len() as f64;
    let deficit = 1.0 - means.iter().map(|m| m.exp()).sum::<f64>();
    if !(deficit > 0.0) || means.iter().any(|m| !m.is_finite()) || means.len() < 2 {
        return None;
    }
    // Concentrated distributions: exp m_k = a_k / a₀ to first order, and the deficit (K - 1) / 2 a₀.
    let total = (k - 1.0) / (2.0 * deficit);
    let mut a: Vec<f64> = means.iter().map(|m| (total * m.exp()).max(1e-3)).collect();
    // Minka's fixed point, from where Newton's method is safe.
    for _ in 0..5 {
        let total = digamma(a.iter().sum());
        a.iter_mut().zip(means).for_each(|(a, m)| *a = inverse_digamma(m + total));
    }
    let mut last = f64::INFINITY;
    for _ in 0..100 {
        let step = newton_step(&a, means);
        let relative = step.iter().zip(&a).map(|(s, a)| (s / a).abs()).fold(0.0, f64::max);
        if !relative.is_finite() {
            break;
        }
        // A full step may leave the cone: at most nine tenths of the way to its boundary.
        let back = step.iter().zip(&a).map(|(s, a)| -s / a).fold(0.0, f64::max);
        let scale = if back > 0.9 { 0.9 / back } else { 1.0 };
        a.iter_mut().zip(&step).for_each(|(a, s)| *a += scale * s);
        if relative <= 2.0 * f64::EPSILON || (relative < 1e-6 && relative >= last / 2.0) {
            break;
        }
        last = relative;
    }
    a.iter().all(|a| a.is_finite() && *a > 0.0).then_some(a)
}

/// Returns Newton's step for the log-likelihood, whose Hessian is a diagonal plus a multiple of the all-ones matrix.
fn newton_step(a: &[f64], means: &[f64]) -> Vec<f64> {
    let total: f64 = a.iter().sum();
    // m_k - ψ(a_k) + ψ(a₀), with the logarithms combined.
    let rest = ln_minus_digamma(total);
    let gradient: Vec<f64> = a
        .iter()
        .zip(means)
        .map(|(&a, m)| (m - (a / total).ln()) + (ln_minus_digamma(a) - rest))
        .collect();
    let inverse: Vec<f64> = a.iter().map(|&a| 1.0 / trigamma(a)).collect();
    // 1 / ψ'(a₀) - Σ 1 / ψ'(a_k) = Σ λ(a_k) - λ(a₀), λ(a) = a - 1 / ψ'(a) ≈ ½: nothing cancels.
    let lambda = |a: f64| {
        let excess = scaled_trigamma_minus_one(a);
        a * excess / (1.0 + excess)
    };
    let denominator = a.iter().map(|&a| lambda(a)).sum::<f64>() - lambda(total);
    let common = gradient.iter().zip(&inverse).map(|(g, i)| g * i).sum::<f64>() / denominator;
    gradient.iter().zip(&inverse).map(|(g, i)| i * (g + common)).collect()
}
