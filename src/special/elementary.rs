//! Logarithms of sums, the logistic function, and the exponential integral.

/// Returns `ln(eᵃ + eᵇ)`.
///
/// ```
/// assert!((entropysum::expert::special::ln_add_exp(-1000.0, -1000.0) + 1000.0 - 2f64.ln()).abs() < 1e-12);
/// ```
pub fn ln_add_exp(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if high.is_infinite() { high } else { high + (low - high).exp().ln_1p() }
}

/// Returns `ln(1 + eᵃ)`, the log-partition of a Bernoulli variable of natural parameter a.
///
/// ```
/// assert_eq!(entropysum::expert::special::softplus(0.0), std::f64::consts::LN_2);
/// ```
pub fn softplus(a: f64) -> f64 {
    a.max(0.0) + (-a.abs()).exp().ln_1p()
}

/// Returns `1 / (1 + e⁻ᵃ)`.
///
/// ```
/// assert_eq!(entropysum::expert::special::sigmoid(0.0), 0.5);
/// ```
pub fn sigmoid(a: f64) -> f64 {
    let e = (-a.abs()).exp();
    if a < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
}

/// Returns the entropy of a Bernoulli variable of natural parameter a, in nats, without cancellation for any a.
///
/// ```
/// assert_eq!(entropysum::expert::special::bernoulli_entropy(0.0), std::f64::consts::LN_2);
/// ```
pub fn bernoulli_entropy(a: f64) -> f64 {
    let distance = a.abs();
    let tail = if distance.is_infinite() { 0.0 } else { distance * sigmoid(-distance) };
    softplus(-distance) + tail
}

/// Returns `eʸ E₁(y)` for y > 0, with the exponential integral `E₁(y) = ∫_y^∞ e⁻ᵗ / t dt`.
///
/// Error: 1e-14 relative.
///
/// ```
/// let y = 1e6;
/// assert!((entropysum::expert::special::scaled_exponential_integral(y) * y - (1.0 - 1.0 / y)).abs() < 1e-11);
/// ```
pub fn scaled_exponential_integral(y: f64) -> f64 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    if y < 1.0 {
        // DLMF 6.6.2
        let (mut term, mut sum) = (1.0, 0.0);
        for k in 1..40 {
            let k = f64::from(k);
            term *= -y / k;
            sum -= term / k;
        }
        return y.exp() * (sum - y.ln() - EULER);
    }
    // DLMF 6.9.1 contracted, by Lentz's method: 1 / (y + 1 - 1 / (y + 3 - 4 / (y + 5 - …)))
    let mut b = y + 1.0;
    let (mut c, mut d) = (f64::INFINITY, 1.0 / b);
    let mut fraction = d;
    for k in 1..200 {
        let a = -f64::from(k) * f64::from(k);
        b += 2.0;
        d = 1.0 / (a * d + b);
        c = b + a / c;
        fraction *= c * d;
        if (c * d - 1.0).abs() <= f64::EPSILON {
            break;
        }
    }
    fraction
}
