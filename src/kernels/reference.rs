//! Slow reference versions of the kernels, in f64, with std's functions.

use super::statistics::Statistic;

/// Computes a sufficient statistic of one point by its definition.
pub fn statistic(statistic: Statistic, x: &[f64]) -> f64 {
    match statistic {
        Statistic::Value(i) => x[i as usize],
        Statistic::Product(i, j) => x[i as usize] * x[j as usize],
        Statistic::SquaredNorm(first, count) => {
            x[first as usize..][..count as usize].iter().map(|v| v * v).sum()
        }
        Statistic::Ln(i) => x[i as usize].ln(),
        Statistic::LnSquared(i) => x[i as usize].ln().powi(2),
        Statistic::Ln1m(i) => (1.0 - x[i as usize]).ln(),
        Statistic::Reciprocal(i) => x[i as usize].recip(),
        Statistic::Power(i, k) => x[i as usize].powf(k),
        Statistic::AbsDeviation(i, location) => (x[i as usize] - location).abs(),
        Statistic::Cos(i) => x[i as usize].cos(),
        Statistic::Sin(i) => x[i as usize].sin(),
        Statistic::Indicator(i, level) => f64::from(x[i as usize] == level),
        Statistic::LnGamma { column, slope, offset } => {
            ln_gamma(slope * x[column as usize] + offset)
        }
        Statistic::LnGammaOfSum { first, count, offset } => {
            ln_gamma(x[first as usize..][..count as usize].iter().sum::<f64>() + offset)
        }
        Statistic::Observed(i) => f64::from(!x[i as usize].is_nan()),
    }
}

/// Computes `ln Γ(x)` for x > 0: the recurrence up to 20, then five terms of Stirling's series, exact to rounding there.
pub fn ln_gamma(x: f64) -> f64 {
    let (mut z, mut product) = (x, 0.0);
    while z < 20.0 {
        product += z.ln();
        z += 1.0;
    }
    let series = 1.0 / (12.0 * z) - 1.0 / (360.0 * z.powi(3)) + 1.0 / (1260.0 * z.powi(5))
        - 1.0 / (1680.0 * z.powi(7))
        + 1.0 / (1188.0 * z.powi(9));
    (z - 0.5) * z.ln() - z + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - product
}

/// A row of logits for each point, to the posterior of each point and its sums.
#[derive(Debug)]
pub struct Posterior {
    /// `weight * responsibility`, a row for each point.
    pub responsibilities: Vec<Vec<f64>>,
    /// Log-evidence of each point.
    pub log_evidence: Vec<f64>,
    /// Entropy of each point's posterior.
    pub entropy: Vec<f64>,
    /// Sum of `responsibilities` over points.
    pub mass: Vec<f64>,
}

/// Computes the posterior over components of each point.
pub fn softmax(logits: &[Vec<f64>], weights: &[f64]) -> Posterior {
    let n_components = logits.first().map_or(0, Vec::len);
    let mut posterior = Posterior {
        responsibilities: Vec::new(),
        log_evidence: Vec::new(),
        entropy: Vec::new(),
        mass: vec![0.0; n_components],
    };
    for (row, weight) in logits.iter().zip(weights) {
        let max = argmax(row).1;
        let sum: f64 = row.iter().map(|logit| (logit - max).exp()).sum();
        let mut entropy = 0.0;
        let mut responsibilities = Vec::new();
        for (logit, mass) in row.iter().zip(&mut posterior.mass) {
            let responsibility = (logit - max).exp() / sum;
            if responsibility != 0.0 {
                entropy -= responsibility * (logit - max - sum.ln());
            }
            responsibilities.push(weight * responsibility);
            *mass += weight * responsibility;
        }
        posterior.responsibilities.push(responsibilities);
        posterior.log_evidence.push(log_sum_exp(row));
        posterior.entropy.push(entropy);
    }
    posterior
}

/// Computes ln sum exp: -∞ if every logit is, NaN if any logit is.
pub fn log_sum_exp(logits: &[f64]) -> f64 {
    let max = argmax(logits).1;
    if max == f64::NEG_INFINITY {
        return max;
    }
    max + logits.iter().map(|logit| (logit - max).exp()).sum::<f64>().ln()
}

/// Returns the first index of the largest logit, and that logit; NaN wins.
pub fn argmax(logits: &[f64]) -> (usize, f64) {
    let mut best = (0, f64::NEG_INFINITY);
    for (index, &logit) in logits.iter().enumerate() {
        if logit.is_nan() {
            return (index, logit);
        }
        if logit > best.1 {
            best = (index, logit);
        }
    }
    best
}
