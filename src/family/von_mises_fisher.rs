//! Von Mises-Fisher distributions of directions (Prop. 4).
//!
//! `p(x) = exp(κ μ · x - A)` on the unit sphere in D dimensions: `η = κ μ`, `T = x`,
//! `A = ½ D ln 2π + ln I_ν(κ) - ν ln κ` with `ν = D / 2 - 1`, mean map `A_D(κ) μ`. Densities are with respect to the
//! sphere's area.

use super::independent::{RELATIVE_FLOOR, ROUNDINGS};
use super::{
    Constraint, Domain, ExponentialFamily, Feature, Outcome, Packing, ParameterSpec, Parameters,
    Regularization, Sampler, Statistic, Support, Theta,
};
use crate::error::{Error, Result};
use crate::special::{
    bessel_ratio, bessel_ratio_inverse, von_mises_fisher_entropy, von_mises_fisher_log_partition,
};
use crate::stats::SuffStats;
use rand_distr::{Beta, Distribution, StandardNormal, StandardUniform};

/// Lengths of mean directions may differ from 1 by this: what rounding in a file costs.
const LENGTH_TOLERANCE: f64 = 1e-6;

/// Unit vectors in D ≥ 2 dimensions.
///
/// Parameters: `mean_direction` (C × D), of length 1, and `concentration` (C), κ ≥ 0.
///
/// ```
/// use entropysum::expert::family::ExponentialFamily;
/// use entropysum::family::{Parameters, VonMisesFisher};
///
/// // Without concentration all directions are alike.
/// let family = VonMisesFisher::new(3)?;
/// let parameters = Parameters { components: vec![vec![0.0, 0.0, 1.0, 0.0]], shared: vec![] };
/// let area: f64 = 4.0 * std::f64::consts::PI;
/// assert!((family.pseudo_entropies(&parameters)[0] - area.ln()).abs() < 1e-15);
/// # Ok::<(), entropysum::error::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VonMisesFisher {
    dim: usize,
}

impl VonMisesFisher {
    /// Unit vectors in `dim` dimensions.
    ///
    /// # Errors
    /// If there are fewer than two.
    pub fn new(dim: usize) -> Result<Self> {
        match dim {
            0 | 1 => {
                Err(Error::Model("von-mises-fisher: a direction has at least two columns".into()))
            }
            _ => Ok(Self { dim }),
        }
    }

    fn split<'a>(&self, theta: Theta<'a>) -> (&'a [f64], f64) {
        (&theta.component[..self.dim], theta.component[self.dim])
    }

    /// Mean direction, of length 1 up to rounding, and concentration.
    fn unit(&self, theta: Theta<'_>) -> (Vec<f64>, f64) {
        let (direction, kappa) = self.split(theta);
        let norm = length(direction.iter().copied());
        (direction.iter().map(|mu| mu / norm).collect(), kappa)
    }

    fn p(&self) -> f64 {
        self.dim as f64
    }
}

fn length(vector: impl Iterator<Item = f64>) -> f64 {
    vector.fold(0.0, f64::hypot)
}

/// Mean resultant length of a component's points, at most 1.
fn resultant(stats: &SuffStats, c: usize) -> f64 {
    length(stats.sums(c).iter().map(|s| s / stats.mass()[c]))
}

impl ExponentialFamily for VonMisesFisher {
    fn name(&self) -> String {
        "von-mises-fisher".into()
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn domains(&self) -> Vec<Domain> {
        vec![Domain::new(0..self.dim, Support::UnitVector)]
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        vec![
            ParameterSpec { name: "mean_direction".into(), shape: vec![self.dim], shared: false },
            ParameterSpec { name: "concentration".into(), shape: vec![], shared: false },
        ]
    }

    fn statistics(&self) -> Vec<Statistic> {
        (0..self.dim as u32).map(Statistic::Value).collect()
    }

    fn features(&self) -> Vec<Feature> {
        vec![Feature::group(self.statistics(), self.dim)]
    }

    fn n_free_parameters(&self, n_components: usize) -> usize {
        n_components * self.dim
    }

    fn check(&self, theta: Theta<'_>) -> std::result::Result<(), String> {
        let (direction, kappa) = self.split(theta);
        let norm = length(direction.iter().copied());
        if !((norm - 1.0).abs() <= LENGTH_TOLERANCE) {
            return Err(format!("mean direction has length {norm}, expected 1"));
        }
        match kappa >= 0.0 && kappa.is_finite() {
            true => Ok(()),
            false => Err(format!("concentration is {kappa}, expected a number ≥ 0")),
        }
    }

    fn natural(&self, parameters: &Parameters, _: &[f64], eta: &mut [f64]) -> Vec<Packing> {
        let mut rows = eta.chunks_mut(self.dim);
        let pack = |c: usize| {
            let (direction, kappa) = self.unit(parameters.theta(c));
            let row = rows.next().expect("a row of natural parameters a component");
            row.iter_mut().zip(&direction).for_each(|(eta, mu)| *eta = kappa * mu);
            let log_partition = von_mises_fisher_log_partition(self.p(), kappa);
            Packing { log_partition, cancellation: 0.0 }
        };
        (0..parameters.components.len()).map(pack).collect()
    }

    fn pseudo_entropies(&self, parameters: &Parameters) -> Vec<f64> {
        let entropy = |c| von_mises_fisher_entropy(self.p(), self.split(parameters.theta(c)).1);
        (0..parameters.components.len()).map(entropy).collect()
    }

    fn mean(&self, theta: Theta<'_>, _: &[f64], mean: &mut [f64]) {
        let (direction, kappa) = self.unit(theta);
        let (length, _) = bessel_ratio(self.p(), kappa);
        mean.iter_mut().zip(&direction).for_each(|(mean, mu)| *mean = length * mu);
    }

    /// As `κ (μ · s - s₀ A_D(κ)) - s₀ H`, which is `η · s - s₀ A` without the difference of large numbers.
    fn log_likelihood(&self, parameters: &Parameters, stats: &SuffStats) -> f64 {
        let of = |c: usize| {
            let ((direction, kappa), mass) = (self.unit(parameters.theta(c)), stats.mass()[c]);
            if !(mass > 0.0) {
                return 0.0;
            }
            let along: f64 = stats.sums(c).iter().zip(&direction).map(|(s, mu)| s * mu).sum();
            let excess = along - mass * bessel_ratio(self.p(), kappa).0;
            kappa * excess - mass * von_mises_fisher_entropy(self.p(), kappa)
        };
        (0..parameters.components.len()).map(of).sum()
    }

    fn floors(&self, stats: &SuffStats, regularization: &Regularization) -> Vec<f64> {
        let rounding = ROUNDINGS * regularization.rounding;
        let relative = if regularization.reg_covar.is_none() { RELATIVE_FLOOR } else { rounding };
        let occupied = (0..stats.mass().len()).filter(|&c| stats.mass()[c] > 0.0);
        let pooled: f64 =
            occupied.map(|c| stats.mass()[c] * (1.0 - resultant(stats, c)).max(0.0)).sum::<f64>()
                / stats.mass().iter().sum::<f64>();
        // Where no component has any dispersion, all points are the same.
        let floor = match relative * pooled {
            floor if floor > 0.0 => floor.max(rounding),
            _ => RELATIVE_FLOOR,
        };
        vec![floor; self.dim()]
    }

    fn maximize(
        &self,
        stats: &SuffStats,
        update: &[bool],
        regularization: &Regularization,
        parameters: &mut Parameters,
    ) -> Vec<Outcome> {
        let floor = regularization.floors_or(|| self.floors(stats, regularization))[0];
        let maximize = |c: usize| {
            if !update[c] {
                return Outcome::Maximized;
            }
            let length = resultant(stats, c);
            let own = &mut parameters.components[c];
            let scale = length * stats.mass()[c];
            if !scale.is_finite() {
                return Outcome::Degenerate;
            }
            if scale > 0.0 {
                own[..self.dim].iter_mut().zip(stats.sums(c)).for_each(|(mu, s)| *mu = s / scale);
            } else {
                // Directions that cancel have no mean; any will do.
                own[..self.dim].fill(0.0);
                own[0] = 1.0;
            }
            let is_floored = 1.0 - length < floor;
            let length = if is_floored { 1.0 - floor } else { length };
            own[self.dim] = bessel_ratio_inverse(self.p(), length);
            if is_floored { Outcome::Floored(None) } else { Outcome::Maximized }
        };
        (0..update.len()).map(maximize).collect()
    }

    fn constraint(&self, parameter: &str) -> Constraint {
        if parameter == "mean_direction" { Constraint::UnitVector } else { Constraint::Free }
    }

    fn scaling_flow(&self, parameters: &Parameters) -> Option<Parameters> {
        let of = |theta: &Vec<f64>| {
            // The direction stays.
            let mut flow = vec![0.0; theta.len()];
            flow[self.dim] = theta[self.dim];
            flow
        };
        let components = parameters.components.iter().map(of).collect();
        Some(Parameters { components, shared: Vec::new() })
    }

    /// Wood (1994): the component along the mean direction by rejection, the rest uniform around it.
    fn sampler<'a>(&'a self, theta: Theta<'a>) -> Sampler<'a> {
        let ((direction, kappa), p) = (self.unit(theta), self.p() - 1.0);
        let beta = Beta::new(p / 2.0, p / 2.0).expect("at least two dimensions");
        // b = (-2κ + √(4κ² + p²)) / p and κ b, without cancellation or overflow. With d = 1 - (1 - b) z the proposal is
        // w = (1 - (1 + b) z) / d, and with x₀ = (1 - b) / (1 + b)
        //     1 - w = 2 b z / d,   w - x₀ = 2 b (1 - 2 z) / ((1 + b) d),   (1 - x₀ w) / (1 - x₀²) = (1 + b) / (2 d)
        // keep their digits where w itself is 1 to rounding.
        let b = (p / (2.0 * kappa + p.hypot(2.0 * kappa))).max(f64::MIN_POSITIVE);
        let kappa_b = if kappa > 0.0 { p / (2.0 + (p / kappa).hypot(2.0)) } else { 0.0 };
        Box::new(move |rng, point| {
            let short = loop {
                let z: f64 = beta.sample(rng);
                let d = (1.0 - z) + b * z;
                let u: f64 = StandardUniform.sample(rng);
                let excess = 2.0 * kappa_b * (1.0 - 2.0 * z) / ((1.0 + b) * d);
                if excess + p * ((1.0 + b) / (2.0 * d)).ln() >= u.ln() {
                    break 2.0 * b * z / d;
                }
            };
            let along = 1.0 - short;
            point.iter_mut().for_each(|value| *value = StandardNormal.sample(rng));
            let normal: f64 = point.iter().zip(&direction).map(|(x, mu)| x * mu).sum();
            point.iter_mut().zip(&direction).for_each(|(x, mu)| *x -= normal * mu);
            let norm = length(point.iter().copied());
            let across = (short * (2.0 - short)).max(0.0).sqrt() / norm;
            point.iter_mut().zip(&direction).for_each(|(x, mu)| *x = along * mu + across * *x);
        })
    }
}
