//! Rotations of loadings to a simple structure.

use faer::Mat;

/// Passes over all pairs at most; they converge quadratically, and ten are rarely needed.
const MAX_PASSES: usize = 1000;

/// A pair turned by less than this counts as still: below it the criterion changes by less than rounding.
const STILL: f64 = 1e-12;

/// An orthogonal rotation of loadings.
///
/// Both maximise the spread of the squared loadings `w²`, over the variables of each factor or over all. Loadings are
/// taken as they are, as scikit-learn does, not scaled to unit rows first (Kaiser), as R does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rotation {
    /// Maximises `Σ_h [Σ_d w_dh⁴ - (Σ_d w_dh²)² / D]`: few large loadings a factor (Kaiser 1958).
    Varimax,
    /// Maximises `Σ_h Σ_d w_dh⁴`: few large loadings a variable.
    Quartimax,
}

impl Rotation {
    /// Every rotation.
    pub const ALL: [Self; 2] = [Self::Varimax, Self::Quartimax];

    /// Returns the name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Varimax => "varimax",
            Self::Quartimax => "quartimax",
        }
    }

    /// Turns pairs of columns, each by its best angle, until all stand still; then orders columns by their length.
    pub(super) fn apply(self, loadings: &mut Mat<f64>) {
        let (dim, latents) = loadings.shape();
        let spread = if self == Self::Varimax { 1.0 / dim as f64 } else { 0.0 };
        for _ in 0..MAX_PASSES {
            let mut largest: f64 = 0.0;
            for i in 0..latents {
                for j in i + 1..latents {
                    let (mut a, mut b, mut c, mut d) = (0.0, 0.0, 0.0, 0.0);
                    for k in 0..dim {
                        let (x, y) = (loadings[(k, i)], loadings[(k, j)]);
                        let (u, v) = (x * x - y * y, 2.0 * x * y);
                        a += u;
                        b += v;
                        c += u * u - v * v;
                        d += 2.0 * u * v;
                    }
                    let angle =
                        0.25 * f64::atan2(d - 2.0 * spread * a * b, c - spread * (a * a - b * b));
                    if angle.abs() <= STILL {
                        continue;
                    }
                    largest = largest.max(angle.abs());
                    let (sin, cos) = angle.sin_cos();
                    for k in 0..dim {
                        let (x, y) = (loadings[(k, i)], loadings[(k, j)]);
                        loadings[(k, i)] = cos * x + sin * y;
                        loadings[(k, j)] = cos * y - sin * x;
                    }
                }
            }
            if largest <= STILL {
                break;
            }
        }
        let mut order: Vec<usize> = (0..latents).collect();
        let length = |h: usize| loadings.col(h).squared_norm_l2();
        order.sort_by(|&a, &b| length(b).total_cmp(&length(a)));
        *loadings = Mat::from_fn(dim, latents, |d, h| loadings[(d, order[h])]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn criterion(rotation: Rotation, w: &Mat<f64>) -> f64 {
        let dim = w.nrows() as f64;
        w.col_iter()
            .map(|column| {
                let squares: f64 = column.iter().map(|v| v * v).sum();
                let fourth: f64 = column.iter().map(|v| v.powi(4)).sum();
                fourth - if rotation == Rotation::Varimax { squares * squares / dim } else { 0.0 }
            })
            .sum()
    }

    #[test]
    fn no_plane_rotation_improves_the_criterion_and_the_product_stays() {
        let start =
            Mat::from_fn(7, 3, |d, h| ((d * 5 + h * 3) % 7) as f64 / 3.0 - 1.0 + 0.1 * h as f64);
        for rotation in Rotation::ALL {
            let mut w = start.clone();
            rotation.apply(&mut w);
            assert!(((&w * w.transpose()) - (&start * start.transpose())).norm_max() < 1e-13);
            let best = criterion(rotation, &w);
            assert!(best > criterion(rotation, &start) + 0.1);
            for (i, j) in [(0, 1), (0, 2), (1, 2)] {
                for angle in [-0.5, -0.01, 0.01, 0.3, 0.7] {
                    let (sin, cos) = f64::sin_cos(angle);
                    let mut turned = w.clone();
                    for d in 0..7 {
                        turned[(d, i)] = cos * w[(d, i)] + sin * w[(d, j)];
                        turned[(d, j)] = cos * w[(d, j)] - sin * w[(d, i)];
                    }
                    assert!(criterion(rotation, &turned) < best, "{rotation:?} {i} {j} {angle}");
                }
            }
            let lengths: Vec<f64> = w.col_iter().map(|c| c.squared_norm_l2()).collect();
            assert!(lengths.is_sorted_by(|a, b| a >= b));
        }
    }

    #[test]
    fn a_simple_structure_stays_as_it_is() {
        let simple = Mat::from_fn(6, 2, |d, h| if d / 3 == h { 2.0 - h as f64 } else { 0.0 });
        for rotation in Rotation::ALL {
            let mut w = simple.clone();
            rotation.apply(&mut w);
            assert!((&w - &simple).norm_max() < 1e-15);
        }
    }
}
