//! Coefficients of the criterion: Jacobians by finite differences, and least squares.

use super::{Direction, Factor};
use crate::linalg::least_squares;
use faer::Mat;

/// Step of finite differences, as a part of a direction's scale: `ε^(1/5)`, which balances the error of the fourth-order
/// formula against rounding.
pub(super) const STEP: f64 = 7.4e-4;

/// Singular values below this part of the largest are rounding errors of derivatives.
const CUTOFF: f64 = 1e-9;

/// The coefficients of a factor at some parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// α or β: as many values as parameters.
    pub flow: Vec<f64>,
    /// `|η - J β| / |η|`, the worst of all latents.
    pub residual: f64,
    /// Number of free directions.
    pub n_free: usize,
    /// Number of natural parameters.
    pub n_natural: usize,
    /// Whether in each latent state the directions that matter there are as many as natural parameters, and
    /// independent.
    pub is_invertible: bool,
}

/// Solves `η(z; θ) = ∂η/∂θ β` for `β` by least squares, over all `latents` at once.
pub fn solve(factor: &dyn Factor, parameters: &[f64], latents: &[Vec<f64>]) -> Solution {
    let directions = factor.directions(parameters);
    let naturals: Vec<_> = latents.iter().map(|z| factor.natural(z, parameters)).collect();
    let n_natural = naturals.first().map_or(0, Vec::len);
    let mut jacobian = Mat::zeros(latents.len() * n_natural, directions.len());
    for (k, direction) in directions.iter().enumerate() {
        for (j, z) in latents.iter().enumerate() {
            let along = |t| factor.natural(z, &moved(parameters, direction, t));
            let slope = derivative(&along, STEP * direction.scale);
            for (i, slope) in slope.into_iter().enumerate() {
                // Steps of a scale, so that the columns are of one size.
                jacobian[(j * n_natural + i, k)] = slope * direction.scale;
            }
        }
    }
    let is_invertible = (0..latents.len()).all(|j| {
        let rows = jacobian.subrows(j * n_natural, n_natural);
        let matter: Vec<usize> =
            (0..directions.len()).filter(|&k| rows.col(k).iter().any(|v| *v != 0.0)).collect();
        let own = Mat::from_fn(n_natural, matter.len(), |i, k| rows[(i, matter[k])]);
        let rank = least_squares(&own, &vec![0.0; n_natural], CUTOFF).map_or(0, |it| it.1);
        matter.len() == n_natural && rank == n_natural
    });
    let target = naturals.concat();
    let mut flow = vec![0.0; parameters.len()];
    if let Some((steps, _)) = least_squares(&jacobian, &target, CUTOFF) {
        for (step, direction) in steps.iter().zip(&directions) {
            for &(i, value) in &direction.entries {
                flow[i] += step * direction.scale * value;
            }
        }
        let fitted = |row: usize| -> f64 {
            steps.iter().enumerate().map(|(k, step)| step * jacobian[(row, k)]).sum()
        };
        let residual = worst_residual(&naturals, &|j, i| fitted(j * n_natural + i));
        return Solution { flow, residual, n_free: directions.len(), n_natural, is_invertible };
    }
    let residual = f64::INFINITY;
    Solution { flow, residual, n_free: directions.len(), n_natural, is_invertible }
}

/// Returns the result of [`solve`] for known coefficients, in a time proportional to the latents. Invertibility is not
/// tested.
pub(super) fn given(
    factor: &dyn Factor,
    parameters: &[f64],
    latents: &[Vec<f64>],
    flow: Vec<f64>,
) -> Solution {
    let residual = residual(factor, parameters, latents, &flow);
    let n_natural = latents.first().map_or(0, |z| factor.natural(z, parameters).len());
    let n_free = factor.directions(parameters).len();
    Solution { flow, residual, n_free, n_natural, is_invertible: true }
}

/// Returns `|η - J β| / |η|` of given coefficients, the worst of all latents.
pub(super) fn residual(
    factor: &dyn Factor,
    parameters: &[f64],
    latents: &[Vec<f64>],
    flow: &[f64],
) -> f64 {
    let entries = flow.iter().copied().enumerate().collect();
    let direction = Direction { entries, scale: scale_of(flow, parameters) };
    let slopes: Vec<_> = latents
        .iter()
        .map(|z| {
            let along = |t| factor.natural(z, &moved(parameters, &direction, t));
            derivative(&along, STEP * direction.scale)
        })
        .collect();
    let naturals: Vec<_> = latents.iter().map(|z| factor.natural(z, parameters)).collect();
    worst_residual(&naturals, &|j, i| slopes[j][i])
}

/// Returns the largest step along a flow, at most 1, that moves no parameter by more than its own size.
pub(super) fn scale_of(flow: &[f64], parameters: &[f64]) -> f64 {
    let ratio = |(f, p): (&f64, &f64)| if *p == 0.0 { 0.0 } else { (f / p).abs() };
    flow.iter().zip(parameters).map(ratio).fold(1.0, f64::max).recip()
}

fn worst_residual(naturals: &[Vec<f64>], fitted: &dyn Fn(usize, usize) -> f64) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let mut worst: f64 = 0.0;
    for (j, natural) in naturals.iter().enumerate() {
        let size = norm(&mut natural.iter().copied());
        let error = norm(&mut natural.iter().enumerate().map(|(i, v)| v - fitted(j, i)));
        // No number is no solution either.
        let residual = if error > 0.0 || error.is_nan() { error / size } else { 0.0 };
        worst = if residual.is_nan() { f64::INFINITY } else { worst.max(residual) };
    }
    worst
}

/// Returns `θ + t d`.
fn moved(parameters: &[f64], direction: &Direction, t: f64) -> Vec<f64> {
    let mut moved = parameters.to_vec();
    direction.entries.iter().for_each(|&(i, value)| moved[i] += t * value);
    moved
}

/// Returns the derivative at 0 of a function, by central differences of fourth order.
pub(super) fn derivative(f: &dyn Fn(f64) -> Vec<f64>, step: f64) -> Vec<f64> {
    let [far_below, below, above, far_above] = [-2.0, -1.0, 1.0, 2.0].map(|k| f(k * step));
    (0..above.len())
        .map(|i| (8.0 * (above[i] - below[i]) - (far_above[i] - far_below[i])) / (12.0 * step))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_are_good_to_eleven_digits() {
        let slope = derivative(&|t| vec![(2.0 + t).ln(), 1.0 / (2.0 + t), 3.0], STEP * 2.0);
        for (found, expected) in slope.iter().zip([0.5, -0.25, 0.0]) {
            assert!((found - expected).abs() < 1e-11, "{found} {expected}");
        }
    }
}
