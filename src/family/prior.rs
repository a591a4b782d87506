//! The prior of covariances.

use super::covariance::Shape;
use serde::{Deserialize, Serialize};

/// The prior of covariances of Fraley and Raftery (2007), which keeps the likelihood of mixtures of Gaussians bounded.
///
/// With the covariance S of all points, C components and D dimensions, each covariance has an inverse-Wishart density with
/// ν = D + 2 degrees of freedom and scale `Λ = S / C^(2/D)`, up to a constant
///
/// ```text
/// ln p(Σ) = -½ [(ν + D + 1) ln |Σ| + tr Σ⁻¹ Λ]      full, tied
/// ln p(v) = -½ [(ν + 2) ln v + λ / v]               diag: each variance, λ = Λ_dd; spherical: the variance, λ = tr Λ / D
/// ```
///
/// The means have a flat prior: κ = 0, where mclust has 0.01. So M-steps add `Λ` to the scatter and `ν + D + 1` (or `ν + 2`) to its
/// number of values. After such a step of all C covariances the gap is, with the weight W of all points,
/// `1/2W Σ_c [tr Σ_c⁻¹ Λ - (ν + D + 1) D]`, or `1/2W Σ_c Σ_d [λ_d / v_cd - (ν + 2)]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConjugatePrior {
    /// Weight W of all points, against which the prior counts; `None` if it is that of the statistics. A fit by minibatches sets it.
    pub total_weight: Option<f64>,
}

impl ConjugatePrior {
    /// The name on the command line and in checkpoints.
    pub const NAME: &'static str = "conjugate";
}

/// The prior of each covariance, in the units of the statistics of an M-step.
pub(super) struct Scale {
    /// What it adds to a packed scatter.
    pub packed: Vec<f64>,
    /// The mass of the component that it stands for.
    pub count: f64,
}

impl Scale {
    /// Returns the prior whose scale follows from the covariance of all points.
    pub fn new(shape: Shape, covariance: &[f64], n_components: usize, dim: usize) -> Self {
        let d = dim as f64;
        let degrees = d + 2.0;
        let part = (n_components as f64).powf(-2.0 / d);
        let (part, count) = match shape {
            Shape::Full => (part, degrees + d + 1.0),
            Shape::Diagonal => (part, degrees + 2.0),
            // The packed moment is a sum over dimensions, and one variance has the scale of their mean.
            Shape::Spherical => (part / d, (degrees + 2.0) / d),
        };
        let moment = shape.second_moment(covariance, dim);
        Self { packed: moment.into_iter().map(|value| part * value).collect(), count }
    }

    /// Returns the prior that counts against this part of its weight.
    pub fn times(mut self, factor: f64) -> Self {
        self.packed.iter_mut().for_each(|value| *value *= factor);
        self.count *= factor;
        self
    }
}
