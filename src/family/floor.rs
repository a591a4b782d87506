//! Lower limits of variances, which keep Gaussian components from collapsing.

/// Variances are lifted to this part of the pooled within-component variance, unless `reg_covar` is given.
///
/// A component whose standard deviation is a thousandth of the others' is a spike on duplicated or rounded values, hardly
/// ever a cluster. The limit is relative to the *within*-component variance, so that narrow clusters far apart stay.
pub(crate) const RELATIVE: f64 = 1e-6;

/// Variances are lifted to this part of the total variance of the data in any case.
///
/// Below it a component is a point: `x - μ` holds no digits of the width, and the precision overflows soon after.
const NUMERICAL: f64 = 1e-15;

/// Variances are also lifted to this number times D roundings of the pooled within-component variance: second moments
/// hold no smaller variances.
pub(crate) const ROUNDINGS: f64 = 16.0;

/// Tells in which dimensions all points have one value, up to the rounding of sums. That each component has one value is not enough.
///
/// # Shapes
/// `mass: C`, `means: C × D`, `pooled: D`.
pub(crate) fn constant_columns(mass: &[f64], means: &[Vec<f64>], pooled: &[f64]) -> Vec<bool> {
    let largest = |d: usize| means.iter().fold(0.0, |m: f64, mean| m.max(mean[d].abs()));
    let variances = total_variances(mass, means, pooled).into_iter().enumerate();
    variances.map(|(d, v)| v <= (1e-14 * largest(d)).powi(2)).collect()
}

/// Returns the variances of all points: those within components and that of the means.
///
/// # Shapes
/// `mass: C`, `means: C × D`, `pooled: D`.
fn total_variances(mass: &[f64], means: &[Vec<f64>], pooled: &[f64]) -> Vec<f64> {
    let total = mass.iter().sum::<f64>();
    let occupied = || means.iter().zip(mass).filter(|&(_, &mass)| mass > 0.0);
    let origin = occupied().next().map_or(&means[0], |(mean, _)| mean);
    let moment = |d: usize, power: i32| {
        occupied().map(|(m, w)| w * (m[d] - origin[d]).powi(power)).sum::<f64>() / total
    };
    pooled.iter().enumerate().map(|(d, v)| v + moment(d, 2) - moment(d, 1).powi(2)).collect()
}

/// Returns the lower limit of the variance in each dimension, from the statistics alone: `relative` times the pooled
/// within-component variance, or a limit of the constants if that is larger.
///
/// # Shapes
/// `mass: C`, `means: C × D`, `pooled: D`.
pub(crate) fn floors(mass: &[f64], means: &[Vec<f64>], pooled: &[f64], relative: f64) -> Vec<f64> {
    let dim = pooled.len();
    let occupied = || means.iter().zip(mass).filter(|&(_, &mass)| mass > 0.0);
    let variances = total_variances(mass, means, pooled);
    // A constant column has no scale of its own. That of the widest column serves; if all are constant, that of
    // the largest value.
    let widest = variances.iter().copied().fold(0.0, f64::max);
    let magnitude = occupied().flat_map(|(mean, _)| mean).fold(0.0, |m: f64, v| m.max(v.abs()));
    let scale = [widest, magnitude * magnitude, 1.0].into_iter().find(|&s| s > 0.0).unwrap_or(1.0);
    // Rounding errors leave some variance in a constant column. It is not taken for the scale of the column.
    let constant = constant_columns(mass, means, pooled);
    (0..dim)
        .map(|d| {
            let floor = (relative * pooled[d]).max(NUMERICAL * variances[d]);
            if floor > 0.0 && !constant[d] { floor } else { RELATIVE * scale }
        })
        .collect()
}

/// Lowers limits to those of an earlier M-step, if there was one: what was allowed then stays allowed.
pub(crate) fn hold(held: &mut Vec<f64>, found: Vec<f64>) {
    if held.len() == found.len() {
        held.iter_mut().zip(found).for_each(|(held, found)| *held = held.min(found));
    } else {
        *held = found;
    }
}

/// Raises limits of variances to those of rounding errors, δ²/12 where values are δ apart. Columns that do not tell are taken to be
/// rounded as finely as any other.
///
/// # Shapes
/// `floors: D`, `resolution: D` or empty.
pub(crate) fn above_rounding(floors: &[f64], resolution: &[f64]) -> Vec<f64> {
    let known = resolution.iter().copied().filter(|&step| step > 0.0);
    let finest = known.fold(f64::INFINITY, f64::min);
    let finest = if finest.is_finite() { finest } else { 0.0 };
    let steps = resolution.iter().chain(std::iter::repeat(&0.0));
    let own = steps.map(|&step| if step > 0.0 { step } else { finest });
    floors.iter().zip(own).map(|(floor, step)| floor.max(step * step / 12.0)).collect()
}
