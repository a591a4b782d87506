//! Lower limits of variances, which keep Gaussian components from collapsing.

use crate::work::{Alone, Workers, map, pieces};

/// Components whose means a thread looks at together.
const PIECE: usize = 1024;

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

/// Where the components lie, and how wide they are.
pub(crate) struct Spread {
    /// Variances within components, D values.
    within: Vec<f64>,
    /// Variances of all points: those within components and that of the means.
    total: Vec<f64>,
    /// The largest mean of each column, without its sign.
    largest: Vec<f64>,
    /// The largest of all in components with points.
    magnitude: f64,
}

impl Spread {
    /// Measures components, in pieces on the threads of `workers`.
    ///
    /// # Shapes
    /// `mass: C`, `mean`: D values a component, `within: D`.
    pub(crate) fn new<'a>(
        mass: &[f64],
        mean: &(dyn Fn(usize) -> &'a [f64] + Sync),
        within: &[f64],
        workers: &dyn Workers,
    ) -> Self {
        let dim = within.len();
        let is_occupied = |c: &usize| mass[*c] > 0.0;
        let origin = mean((0..mass.len()).find(is_occupied).unwrap_or(0));
        let ranges: Vec<_> = pieces(mass.len(), PIECE).collect();
        // First moments, second moments, largest means, and the largest of all.
        let parts = map(workers, ranges.len(), 1, |piece| {
            let mut sums = vec![0.0; 3 * dim + 1];
            let (moments, largest) = sums.split_at_mut(2 * dim);
            let (first, second) = moments.split_at_mut(dim);
            for c in ranges[piece].clone() {
                let (mean, w) = (mean(c), mass[c]);
                for (largest, m) in largest.iter_mut().zip(mean) {
                    *largest = f64::max(*largest, m.abs());
                }
                if !is_occupied(&c) {
                    continue;
                }
                let moments = first.iter_mut().zip(&mut *second);
                for ((first, second), (m, origin)) in moments.zip(mean.iter().zip(origin)) {
                    let shift = m - origin;
                    *first += w * shift;
                    *second += w * (shift * shift);
                }
                largest[dim] = mean.iter().fold(largest[dim], |most, m| most.max(m.abs()));
            }
            sums
        });
        let mut sums = vec![0.0; 3 * dim + 1];
        for part in &parts {
            for (k, (sum, value)) in sums.iter_mut().zip(part).enumerate() {
                *sum = if k < 2 * dim { *sum + value } else { sum.max(*value) };
            }
        }
        let total = mass.iter().sum::<f64>();
        let variance = |d: usize| within[d] + sums[dim + d] / total - (sums[d] / total).powi(2);
        Self {
            within: within.to_vec(),
            total: (0..dim).map(variance).collect(),
            largest: sums[2 * dim..3 * dim].to_vec(),
            magnitude: sums[3 * dim],
        }
    }

    /// Tells in which dimensions all points have one value, up to the rounding of sums. That each component has one value is not enough.
    pub(crate) fn constant_columns(&self) -> Vec<bool> {
        let columns = self.total.iter().zip(&self.largest);
        columns.map(|(v, largest)| *v <= (1e-14 * largest).powi(2)).collect()
    }

    /// Returns the lower limit of the variance in each dimension, from the statistics alone: `relative` times the pooled
    /// within-component variance, or a limit of the constants if that is larger.
    pub(crate) fn floors(&self, relative: f64) -> Vec<f64> {
        // A constant column has no scale of its own. That of the widest column serves; if all are constant, that of
        // the largest value.
        let widest = self.total.iter().copied().fold(0.0, f64::max);
        let scales = [widest, self.magnitude * self.magnitude, 1.0];
        let scale = scales.into_iter().find(|&s| s > 0.0).unwrap_or(1.0);
        // Rounding errors leave some variance in a constant column. It is not taken for the scale of the column.
        let constant = self.constant_columns();
        (0..self.total.len())
            .map(|d| {
                let floor = (relative * self.within[d]).max(NUMERICAL * self.total[d]);
                if floor > 0.0 && !constant[d] { floor } else { RELATIVE * scale }
            })
            .collect()
    }
}

/// Returns the floors of [`Spread::floors`].
///
/// # Shapes
/// `mass: C`, `means: C × D`, `pooled: D`.
pub(crate) fn floors(mass: &[f64], means: &[Vec<f64>], pooled: &[f64], relative: f64) -> Vec<f64> {
    Spread::new(mass, &|c| &means[c][..], pooled, &Alone).floors(relative)
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
