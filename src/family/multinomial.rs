//! Multinomial distributions of counts, given the total of each point (Prop. 5).
//!
//! `p(x) = n! / Π x_d! Π p_d^x_d` with `n = Σ x_d`: `η = ln p`, `T = x`, `A = 0` on the simplex,
//! `ln h = ln n! - Σ ln x_d!`, pseudo entropy `-n Σ p_d ln p_d`. Totals are known and differ from point to point; so a
//! component's part of the entropy sum is the entropy of one trial times its points' mean total.

use super::categorical::{
    bounded_ln, check_probabilities, entropy_of_probabilities, flow_of_probabilities,
};
use super::{
    BaseMeasure, Constraint, Domain, ExponentialFamily, Feature, KnownParameters, Outcome, Packing,
    ParameterSpec, Parameters, Regularization, Sampler, Statistic, Support, Theta,
};
use crate::error::{Error, Result};
use crate::stats::SuffStats;
use rand_distr::{Binomial, Distribution};

/// Counts of D kinds.
///
/// Parameters: `probabilities` (C × D). Known: `total`, that of a point where no point is at hand: of samples, and
/// of [`pseudo_entropies`](ExponentialFamily::pseudo_entropies). Likelihoods and entropy sums take the totals of the
/// data.
///
/// ```
/// use entropysum::expert::family::ExponentialFamily;
/// use entropysum::family::{Multinomial, Parameters};
///
/// let family = Multinomial::new(2, 10.0);
/// let parameters = Parameters { components: vec![vec![0.5, 0.5]], shared: vec![] };
/// assert_eq!(family.pseudo_entropies(&parameters)[0], 10.0 * 2f64.ln());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Multinomial {
    dim: usize,
    total: f64,
}

impl Multinomial {
    /// Counts of `dim` kinds, in samples `total` together.
    pub fn new(dim: usize, total: f64) -> Self {
        Self { dim, total }
    }

    pub(super) fn from_known(dim: usize, known: &KnownParameters) -> Result<Self> {
        let total = match known.get("total") {
            None => 1.0,
            Some([total, others @ ..])
                if *total >= 0.0 && total.fract() == 0.0 && others.iter().all(|it| it == total) =>
            {
                *total
            }
            Some(total) => {
                return Err(Error::Model(format!(
                    "multinomial: \"total\" is {total:?}, expected one whole number"
                )));
            }
        };
        Ok(Self::new(dim, total))
    }
}

impl ExponentialFamily for Multinomial {
    fn name(&self) -> String {
        "multinomial".into()
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn known(&self) -> KnownParameters {
        KnownParameters::default().with("total", vec![self.total])
    }

    fn domains(&self) -> Vec<Domain> {
        vec![Domain::new(0..self.dim, Support::Count)]
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        vec![ParameterSpec { name: "probabilities".into(), shape: vec![self.dim], shared: false }]
    }

    fn statistics(&self) -> Vec<Statistic> {
        (0..self.dim as u32).map(Statistic::Value).collect()
    }

    /// Roots of the shares, whatever the total.
    fn features(&self) -> Vec<Feature> {
        let roots = (0..self.dim as u32).map(|d| Statistic::Power(d, 0.5)).collect();
        vec![Feature::direction(roots)]
    }

    fn log_base_measure(&self) -> BaseMeasure {
        let factorial = |column| (Statistic::LnGamma { column, slope: 1.0, offset: 1.0 }, -1.0);
        let total = Statistic::LnGammaOfSum { first: 0, count: self.dim as u32, offset: 1.0 };
        let terms = std::iter::once((total, 1.0)).chain((0..self.dim as u32).map(factorial));
        BaseMeasure { terms: terms.collect(), constant: 0.0 }
    }

    fn n_free_parameters(&self, n_components: usize) -> usize {
        n_components * (self.dim - 1)
    }

    fn check(&self, theta: Theta<'_>) -> std::result::Result<(), String> {
        check_probabilities(theta.component)
    }

    fn natural(&self, parameters: &Parameters, _: &[f64], eta: &mut [f64]) -> Vec<Packing> {
        for (row, theta) in eta.chunks_mut(self.dim.max(1)).zip(&parameters.components) {
            row.iter_mut().zip(theta).for_each(|(eta, &p)| *eta = bounded_ln(p));
        }
        vec![Packing { log_partition: 0.0, cancellation: 0.0 }; parameters.components.len()]
    }

    fn pseudo_entropies(&self, parameters: &Parameters) -> Vec<f64> {
        let entropy = |theta: &Vec<f64>| self.total * entropy_of_probabilities(theta);
        parameters.components.iter().map(entropy).collect()
    }

    fn observable_entropy(&self, parameters: &Parameters, stats: &SuffStats) -> f64 {
        let of = |(c, theta): (usize, &Vec<f64>)| {
            stats.sums(c).iter().sum::<f64>() * entropy_of_probabilities(theta)
        };
        parameters.components.iter().enumerate().map(of).sum()
    }

    fn mean(&self, theta: Theta<'_>, _: &[f64], mean: &mut [f64]) {
        mean.iter_mut().zip(theta.component).for_each(|(mean, p)| *mean = self.total * p);
    }

    fn log_likelihood(&self, parameters: &Parameters, stats: &SuffStats) -> f64 {
        let of = |(c, theta): (usize, &Vec<f64>)| {
            stats.sums(c).iter().zip(theta).map(|(s, &p)| s * bounded_ln(p)).sum::<f64>()
        };
        parameters.components.iter().enumerate().map(of).sum()
    }

    fn maximize(
        &self,
        stats: &SuffStats,
        update: &[bool],
        _: &Regularization,
        parameters: &mut Parameters,
    ) -> Vec<Outcome> {
        // Where no point has any count, all probabilities are equally good.
        let is_empty = (0..update.len()).all(|c| stats.sums(c).iter().all(|sum| *sum == 0.0));
        let maximize = |c: usize| {
            let total: f64 = stats.sums(c).iter().sum();
            if !update[c] {
                return Outcome::Maximized;
            }
            if is_empty {
                parameters.components[c].fill((self.dim as f64).recip());
                return Outcome::Maximized;
            }
            // Points without counts say nothing of what is counted.
            if !(total > 0.0 && total.is_finite()) {
                return Outcome::Degenerate;
            }
            let sums = stats.sums(c).iter();
            parameters.components[c].iter_mut().zip(sums).for_each(|(p, s)| *p = s / total);
            Outcome::Maximized
        };
        (0..update.len()).map(maximize).collect()
    }

    fn constraint(&self, _: &str) -> Constraint {
        Constraint::SumsToOne
    }

    fn scaling_flow(&self, parameters: &Parameters) -> Option<Parameters> {
        let of = |theta: &Vec<f64>| flow_of_probabilities(theta);
        let components = parameters.components.iter().map(of).collect();
        Some(Parameters { components, shared: Vec::new() })
    }

    /// Kind by kind from binomials of what is left: at a cost that does not depend on the total.
    fn sampler<'a>(&'a self, theta: Theta<'a>) -> Sampler<'a> {
        let mut left: f64 = theta.component.iter().sum();
        let share = |&p: &f64| {
            let share = if left > 0.0 { (p / left).clamp(0.0, 1.0) } else { 0.0 };
            left -= p;
            share
        };
        let shares: Vec<f64> = theta.component.iter().map(share).collect();
        let last = shares.iter().rposition(|&share| share > 0.0).unwrap_or(0);
        Box::new(move |rng, point| {
            let mut left = self.total as u64;
            for (d, (value, &share)) in point.iter_mut().zip(&shares).enumerate() {
                // Rounding may leave less than all to the last kind.
                let share = if d == last { 1.0 } else { share };
                let count = Binomial::new(left, share).map_or(0, |binomial| binomial.sample(rng));
                *value = count as f64;
                left -= count;
            }
        })
    }
}
