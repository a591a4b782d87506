//! Minimises smooth functions by L-BFGS (Nocedal & Wright 2006, algorithm 7.5), with steps that never raise the value.

use std::collections::VecDeque;

/// Changes of place and gradient that are remembered: the usual number is 3 to 20.
const PAIRS: usize = 8;

/// Halvings of a step at most; a step of 2⁻³⁰ is lost in rounding.
const HALVINGS: usize = 30;

/// Part of the promised fall that a step has to bring: the usual constant of Armijo's rule.
const LEAST_FALL: f64 = 1e-4;

/// A change of place, the change of the gradient that came with it, and one over their product.
type Pair = (Vec<f64>, Vec<f64>, f64);

/// Moves `x` downhill by `steps` steps at most. `function` returns value and gradient. Ends sooner where no step falls.
pub(crate) fn descend(
    x: &mut Vec<f64>,
    steps: usize,
    mut function: impl FnMut(&[f64]) -> (f64, Vec<f64>),
) {
    let (mut value, mut gradient) = function(x);
    let mut pairs: VecDeque<Pair> = VecDeque::new();
    for _ in 0..steps {
        let mut direction = direction(&gradient, &pairs);
        let mut slope = dot(&direction, &gradient);
        if !(slope < 0.0) {
            pairs.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = -dot(&gradient, &gradient);
        }
        // Without a curvature the first step has length 1 at most.
        let mut length = if pairs.is_empty() { (-slope).sqrt().recip().min(1.0) } else { 1.0 };
        let found = (0..HALVINGS).find_map(|_| {
            let trial: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x + length * d).collect();
            let (there, at) = function(&trial);
            let falls = there <= value + LEAST_FALL * length * slope;
            length *= 0.5;
            (falls && at.iter().all(|g| g.is_finite())).then_some((trial, there, at))
        });
        let Some((trial, there, at)) = found else { return };
        let change: Vec<f64> = trial.iter().zip(&*x).map(|(a, b)| a - b).collect();
        let turn: Vec<f64> = at.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&change, &turn);
        if curvature > f64::EPSILON * dot(&turn, &turn) {
            pairs.truncate(PAIRS - 1);
            pairs.push_front((change, turn, curvature.recip()));
        }
        (*x, value, gradient) = (trial, there, at);
    }
}

/// Returns minus the gradient times the inverse curvature that the pairs, the newest first, tell.
fn direction(gradient: &[f64], pairs: &VecDeque<Pair>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::new();
    for (change, turn, inverse) in pairs {
        let share = inverse * dot(change, &direction);
        direction.iter_mut().zip(turn).for_each(|(d, y)| *d -= share * y);
        shares.push(share);
    }
    if let Some((_, turn, inverse)) = pairs.front() {
        let scale = (inverse * dot(turn, turn)).recip();
        direction.iter_mut().for_each(|d| *d *= scale);
    }
    for ((change, turn, inverse), share) in pairs.iter().zip(shares).rev() {
        let share = share - inverse * dot(turn, &direction);
        direction.iter_mut().zip(change).for_each(|(d, s)| *d += share * s);
    }
    direction
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curved_valley_is_followed_to_its_end() {
        // Rosenbrock's function, whose minimum is at (1, 1).
        let function = |x: &[f64]| {
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            (a * a + 100.0 * b * b, vec![-2.0 * a - 400.0 * x[0] * b, 200.0 * b])
        };
        let (mut x, mut last) = (vec![-1.2, 1.0], f64::INFINITY);
        for steps in [1, 5, 60] {
            descend(&mut x, steps, function);
            let value = function(&x).0;
            assert!(value < last);
            last = value;
        }
        assert!((x[0] - 1.0).abs() < 1e-6 && (x[1] - 1.0).abs() < 1e-6, "{x:?}");
    }

    #[test]
    fn a_flat_place_is_kept() {
        let mut x = vec![3.0, -1.0];
        descend(&mut x, 5, |_| (2.0, vec![0.0; 2]));
        assert_eq!(x, [3.0, -1.0]);
    }
}
