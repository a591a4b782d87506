//! Categorical distributions of labels, in independent columns (Prop. 4).
//!
//! A value is one of 0, …, V - 1, with V of its own in each column. `p(x) = Π_v p_v^[x = v]`: `η_v = ln p_v`,
//! `T_v = [x = v]`, `A = 0`, entropy `-Σ p_v ln p_v`.
//!
//! All V indicators are statistics, though one of them is redundant: a level that a component never has then costs
//! nothing in accuracy, whichever it is.

use super::independent::LARGEST_NATURAL;
use super::{
    Constraint, Domain, ExponentialFamily, Feature, KnownParameters, Outcome, Packing,
    ParameterSpec, Parameters, Regularization, Sampler, Statistic, Support, Theta,
};
use crate::error::{Error, Result};
use crate::stats::SuffStats;
use rand_distr::{Distribution, StandardUniform};
use std::sync::Arc;

/// Sums of probabilities may differ from 1 by this: what rounding in a file costs.
pub(super) const SUM_TOLERANCE: f64 = 1e-6;

/// Levels of a column at most: what a table of counts may reasonably have.
const MOST_LEVELS: f64 = 1e6;

/// Independent columns of labels.
///
/// Parameters: `probabilities` (C × D × V), where V is the largest number of levels of a column. Missing levels have
/// probability 0.
///
/// ```
/// use entropysum::expert::family::ExponentialFamily;
/// use entropysum::family::{Categorical, Parameters};
///
/// let family = Categorical::new(vec![2, 3]);
/// let theta = vec![0.5, 0.5, 0.0, 0.2, 0.3, 0.5];
/// let parameters = Parameters { components: vec![theta], shared: vec![] };
/// let entropy = 2f64.ln() - (0.2 * 0.2f64.ln() + 0.3 * 0.3f64.ln() + 0.5 * 0.5f64.ln());
/// assert!((family.pseudo_entropies(&parameters)[0] - entropy).abs() < 1e-15);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Categorical {
    levels: Vec<usize>,
    missing: bool,
}

impl Categorical {
    /// Makes a column for each number of levels.
    ///
    /// # Panics
    /// If a column has no levels.
    pub fn new(levels: Vec<usize>) -> Self {
        assert!(levels.iter().all(|&v| v > 0), "a column has at least one level");
        Self { levels, missing: false }
    }

    /// Builds the family from the known parameter `levels`: a single number, or a number for each column.
    pub(super) fn from_known(dim: usize, known: &KnownParameters) -> Result<Self> {
        let levels = known.columns("categorical", "levels", dim)?;
        match levels.iter().position(|v| !(v.fract() == 0.0 && (1.0..=MOST_LEVELS).contains(v))) {
            None => Ok(Self::new(levels.iter().map(|&v| v as usize).collect())),
            Some(d) => Err(Error::Model(format!(
                "categorical: column {d} has {} levels, expected a whole number from 1 to {MOST_LEVELS}",
                levels[d]
            ))),
        }
    }

    /// Returns the number of levels V of each column.
    pub fn levels(&self) -> &[usize] {
        &self.levels
    }

    fn width(&self) -> usize {
        self.levels.iter().copied().max().unwrap_or(0)
    }

    /// Lists the probabilities of each column.
    fn columns<'a>(&self, theta: Theta<'a>) -> impl Iterator<Item = &'a [f64]> {
        let rows = theta.component.chunks(self.width().max(1));
        rows.zip(&self.levels).map(|(row, &levels)| &row[..levels])
    }

    /// Lists all probabilities, in the order of the statistics.
    fn probabilities<'a>(&self, theta: Theta<'a>) -> impl Iterator<Item = f64> {
        self.columns(theta).flatten().copied()
    }
}

/// `ln p`, held within bounds.
pub(super) fn bounded_ln(p: f64) -> f64 {
    p.ln().max(-LARGEST_NATURAL)
}

/// `-Σ p ln p`
pub(super) fn entropy_of_probabilities(probabilities: &[f64]) -> f64 {
    probabilities.iter().map(|&p| if p > 0.0 { -p * p.ln() } else { 0.0 }).sum()
}

/// `p_k (ln p_k + H)`: the tangent of scaling the logarithms of probabilities (Eqn 45).
pub(super) fn flow_of_probabilities(probabilities: &[f64]) -> Vec<f64> {
    let entropy = entropy_of_probabilities(probabilities);
    let flow = |&p: &f64| if p > 0.0 { p * (p.ln() + entropy) } else { 0.0 };
    probabilities.iter().map(flow).collect()
}

/// Checks a distribution over levels, and returns a message if it is not a distribution.
pub(super) fn check_probabilities(probabilities: &[f64]) -> std::result::Result<(), String> {
    if let Some(v) = probabilities.iter().position(|p| !(0.0..=1.0 + SUM_TOLERANCE).contains(p)) {
        let p = probabilities[v];
        return Err(format!("probability {v} is {p}, expected a number from 0 to 1"));
    }
    match probabilities.iter().sum::<f64>() {
        sum if (sum - 1.0).abs() <= SUM_TOLERANCE => Ok(()),
        sum => Err(format!("probabilities sum to {sum}, expected 1")),
    }
}

/// Draws an index with these probabilities.
fn draw(probabilities: &[f64], rng: &mut rand_xoshiro::Xoshiro256PlusPlus) -> usize {
    let mut left: f64 = StandardUniform.sample(rng);
    let possible = probabilities.iter().enumerate().filter(|(_, p)| **p > 0.0);
    let mut last = 0;
    for (v, p) in possible {
        last = v;
        left -= p;
        if left < 0.0 {
            break;
        }
    }
    last
}

impl ExponentialFamily for Categorical {
    fn name(&self) -> String {
        "categorical".into()
    }

    fn dim(&self) -> usize {
        self.levels.len()
    }

    fn known(&self) -> KnownParameters {
        KnownParameters::default().with("levels", self.levels.iter().map(|&v| v as f64).collect())
    }

    fn domains(&self) -> Vec<Domain> {
        let domain = |(d, &v): (usize, &usize)| Domain {
            columns: d..d + 1,
            support: Support::CountUpTo((v - 1) as f64),
            missing: self.missing,
        };
        self.levels.iter().enumerate().map(domain).collect()
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        vec![ParameterSpec {
            name: "probabilities".into(),
            shape: vec![self.dim(), self.width()],
            shared: false,
        }]
    }

    fn statistics(&self) -> Vec<Statistic> {
        let of = |(d, &levels): (u32, &usize)| {
            (0..levels).map(move |v| Statistic::Indicator(d, v as f64))
        };
        (0..).zip(&self.levels).flat_map(of).collect()
    }

    /// Labels are not numbers: their indicators, all of a column on one scale.
    fn features(&self) -> Vec<Feature> {
        let statistics = |(d, &levels): (u32, &usize)| {
            (0..levels).map(|v| Statistic::Indicator(d, v as f64)).collect()
        };
        (0..).zip(&self.levels).map(statistics).map(|group| Feature::group(group, 1)).collect()
    }

    fn n_free_parameters(&self, n_components: usize) -> usize {
        n_components * self.levels.iter().map(|v| v - 1).sum::<usize>()
    }

    fn check(&self, theta: Theta<'_>) -> std::result::Result<(), String> {
        let rows = theta.component.chunks(self.width().max(1));
        for (d, (row, &levels)) in rows.zip(&self.levels).enumerate() {
            let (own, none) = row.split_at(levels);
            check_probabilities(own).map_err(|message| format!("column {d}: {message}"))?;
            if none.iter().any(|&p| p != 0.0) {
                return Err(format!("column {d}: it has {levels} levels, but more probabilities"));
            }
        }
        Ok(())
    }

    fn natural(&self, parameters: &Parameters, _: &[f64], eta: &mut [f64]) -> Vec<Packing> {
        let n_components = parameters.components.len();
        let n_statistics = eta.len() / n_components.max(1);
        for (c, row) in eta.chunks_mut(n_statistics.max(1)).enumerate() {
            let probabilities = self.probabilities(parameters.theta(c));
            row.iter_mut().zip(probabilities).for_each(|(eta, p)| *eta = bounded_ln(p));
        }
        vec![Packing { log_partition: 0.0, cancellation: 0.0 }; n_components]
    }

    fn pseudo_entropies(&self, parameters: &Parameters) -> Vec<f64> {
        let entropy = |c| self.columns(parameters.theta(c)).map(entropy_of_probabilities).sum();
        (0..parameters.components.len()).map(entropy).collect()
    }

    /// Each column counts where it is observed: at as many points as its levels together.
    fn observable_entropy(&self, parameters: &Parameters, stats: &SuffStats) -> f64 {
        let mut sum = 0.0;
        for c in 0..parameters.components.len() {
            let mut sums = stats.sums(c);
            for probabilities in self.columns(parameters.theta(c)) {
                let (own, rest) = sums.split_at(probabilities.len());
                sum += own.iter().sum::<f64>() * entropy_of_probabilities(probabilities);
                sums = rest;
            }
        }
        sum
    }

    fn mean(&self, theta: Theta<'_>, _: &[f64], mean: &mut [f64]) {
        mean.iter_mut().zip(self.probabilities(theta)).for_each(|(mean, p)| *mean = p);
    }

    fn log_likelihood(&self, parameters: &Parameters, stats: &SuffStats) -> f64 {
        let of = |c: usize| {
            let terms = stats.sums(c).iter().zip(self.probabilities(parameters.theta(c)));
            terms.map(|(s, p)| s * bounded_ln(p)).sum::<f64>()
        };
        (0..parameters.components.len()).map(of).sum()
    }

    fn maximize(
        &self,
        stats: &SuffStats,
        update: &[bool],
        _: &Regularization,
        parameters: &mut Parameters,
    ) -> Vec<Outcome> {
        let width = self.width();
        let maximize = |c: usize| {
            if !update[c] {
                return Outcome::Maximized;
            }
            let mut sums = stats.sums(c);
            let rows = parameters.components[c].chunks_mut(width.max(1));
            let mut outcome = Outcome::Maximized;
            for (row, &levels) in rows.zip(&self.levels) {
                let (own, rest) = sums.split_at(levels);
                let total: f64 = own.iter().sum();
                if total > 0.0 && total.is_finite() {
                    row.fill(0.0);
                    row.iter_mut().zip(own).for_each(|(p, s)| *p = s / total);
                } else {
                    outcome = Outcome::Degenerate;
                }
                sums = rest;
            }
            outcome
        };
        (0..update.len()).map(maximize).collect()
    }

    /// Nothing else changes: where a column is not observed all its indicators are 0.
    fn ignoring_missing(&self) -> Option<Arc<dyn ExponentialFamily>> {
        Some(Arc::new(Self { missing: true, ..self.clone() }))
    }

    fn constraint(&self, _: &str) -> Constraint {
        Constraint::SumsToOne
    }

    fn scaling_flow(&self, parameters: &Parameters) -> Option<Parameters> {
        let rows = |theta: &Vec<f64>| {
            theta.chunks(self.width().max(1)).flat_map(flow_of_probabilities).collect()
        };
        let components = parameters.components.iter().map(rows).collect();
        Some(Parameters { components, shared: Vec::new() })
    }

    fn sampler<'a>(&'a self, theta: Theta<'a>) -> Sampler<'a> {
        Box::new(move |rng, point| {
            for (value, probabilities) in point.iter_mut().zip(self.columns(theta)) {
                *value = draw(probabilities, rng) as f64;
            }
        })
    }
}
