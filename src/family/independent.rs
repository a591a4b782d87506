//! Independent columns, each with a distribution of one univariate family.
//!
//! A univariate family is a short file of formulas: [`Univariate`]. [`Independent`] makes of it a family of points of
//! D dimensions. Statistics, log-partition, entropy and base measure of independent columns add up.

use super::support::{Domain, Support};
use super::{
    BaseMeasure, ExponentialFamily, Feature, Known, Outcome, Packing, ParameterSpec, Parameters,
    Regularization, Sampler, Statistic, Theta,
};
use crate::stats::SuffStats;
use rand_xoshiro::Xoshiro256PlusPlus;
use std::fmt::Debug;

/// Parameters and statistics of a column at most.
const MAX: usize = 2;

/// Natural parameters are held within ± this: a probability or rate of 0 then weighs e⁻⁷⁰⁰ instead of nothing, and
/// `0 · ln 0` is 0 without a question. Smaller probabilities than `f64` can tell from 0.
pub const LARGEST_NATURAL: f64 = 700.0;

/// Dispersions are lifted to this part of the pooled one, unless `reg_covar` is given; as variances of Gaussians are.
pub(super) const RELATIVE_FLOOR: f64 = 1e-6;

/// And to so many roundings of it: statistics hold no smaller ones.
pub(super) const ROUNDINGS: f64 = 16.0;

/// How far statistics are from those of a single point, or from an unbounded density.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dispersion {
    /// A number ≥ 0 up to rounding; 0 where the density is unbounded.
    pub value: f64,
    /// Size of the terms of which it is the difference, and to whose roundings it is exact.
    pub terms: f64,
}

/// A family of distributions of one value: formulas only.
///
/// A value of the type is one column; it holds what is known of it (trials, shape, location).
///
/// `p(x) = h(x) exp(η · T(x) - A(η))`
pub trait Univariate: Clone + Debug + Send + Sync {
    /// Name on the command line and in files.
    const NAME: &'static str;

    /// Names of the standard parameters, at most two.
    const PARAMETERS: &'static [&'static str];

    /// What is known of this column, by name.
    fn known(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }

    /// Where values lie.
    fn support(&self) -> Support;

    /// Statistics `T(x)` of a value in that column, at most two.
    fn statistics(&self, column: u32) -> Vec<Statistic>;

    /// `ln h(x)` of a value in that column, where it is not constant (Prop. 5).
    fn log_base_measure(&self, _column: u32) -> BaseMeasure {
        BaseMeasure::default()
    }

    /// The statistic of a value in which k-means finds clusters for a start.
    fn feature(&self, column: u32) -> Statistic {
        Statistic::Value(column)
    }

    /// The same where it takes several statistics.
    fn features(&self, column: u32) -> Feature {
        Feature::single(self.feature(column))
    }

    /// Says what is wrong with the parameters.
    fn check(&self, theta: &[f64]) -> Result<(), String>;

    /// Natural parameters `η`; returns the log-partition `A(η)`.
    fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64;

    /// Mean map `∇A(η) = E T(x)`.
    fn mean(&self, theta: &[f64], mean: &mut [f64]);

    /// What a floor holds up, for families whose likelihood is not bounded.
    fn dispersion(&self, _mean: &[f64]) -> Option<Dispersion> {
        None
    }

    /// The inverse of the mean map, solved to rounding: the M-step. A dispersion below `floor` is lifted to it.
    fn maximize(&self, mean: &[f64], floor: f64, theta: &mut [f64]) -> Outcome;

    /// Pseudo entropy `A - η · ∇A` (Eqn 51), in nats.
    fn pseudo_entropy(&self, theta: &[f64]) -> f64;

    /// Entropy in nats, where there is a closed form. The pseudo entropy is one where the base measure is 1.
    fn entropy(&self, theta: &[f64]) -> Option<f64> {
        self.log_base_measure(0).is_one().then(|| self.pseudo_entropy(theta))
    }

    /// Draws a value.
    fn sample(&self, theta: &[f64], rng: &mut Xoshiro256PlusPlus) -> f64;
}

/// Distributions of a univariate family, one for each column.
///
/// ```
/// use entropysum::family::{ExponentialFamily, Parameters, registry};
///
/// let family = registry::build("exponential", 2)?;
/// let parameters = Parameters { components: vec![vec![0.5, 4.0]], shared: vec![] };
/// let entropy = (1.0 - 0.5f64.ln()) + (1.0 - 4f64.ln());
/// assert!((family.pseudo_entropies(&parameters)[0] - entropy).abs() < 1e-14);
/// # Ok::<(), entropysum::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Independent<U> {
    columns: Vec<U>,
}

/// The few numbers of one column.
type Small = [f64; MAX];

impl<U: Univariate> Independent<U> {
    /// A point has these columns.
    pub fn new(columns: Vec<U>) -> Self {
        Self { columns }
    }

    fn n_parameters() -> usize {
        U::PARAMETERS.len()
    }

    /// Statistics of a column.
    fn n_statistics(&self) -> usize {
        self.columns.first().map_or(0, |column| column.statistics(0).len())
    }

    /// Parameters of a column: arrays of D values stand one after the other.
    fn theta(&self, theta: Theta<'_>, d: usize) -> Small {
        std::array::from_fn(|p| match p < Self::n_parameters() {
            true => theta.component[p * self.columns.len() + d],
            false => 0.0,
        })
    }

    /// Each column, its number, and its parameters.
    fn each<'a>(&'a self, theta: Theta<'a>) -> impl Iterator<Item = (usize, &'a U, Small)> + 'a {
        self.columns.iter().enumerate().map(move |(d, column)| (d, column, self.theta(theta, d)))
    }

    /// Mean statistics of a column.
    fn mean_of(&self, stats: &SuffStats, c: usize, d: usize) -> Small {
        let k = self.n_statistics();
        let mut mean = [0.0; MAX];
        for (mean, sum) in mean.iter_mut().zip(&stats.sums(c)[d * k..][..k]) {
            *mean = sum / stats.mass()[c];
        }
        mean
    }

    /// Lower limits of the dispersions of a column in each component, from the statistics alone.
    fn floors(&self, stats: &SuffStats, d: usize, regularization: Regularization) -> Vec<f64> {
        let relative = if regularization.reg_covar.is_none() { RELATIVE_FLOOR } else { 0.0 };
        let roundings = ROUNDINGS * regularization.rounding;
        let dispersion = |c| match stats.mass()[c] > 0.0 {
            true => self.columns[d].dispersion(&self.mean_of(stats, c, d)),
            false => None,
        };
        let all: Vec<_> = (0..stats.mass().len()).map(dispersion).collect();
        let pooled = |part: fn(Dispersion) -> f64| {
            let parts =
                all.iter().zip(stats.mass()).map(|(it, w)| it.map_or(0.0, |it| w * part(it)));
            parts.sum::<f64>() / stats.mass().iter().sum::<f64>()
        };
        let (value, terms) = (pooled(|it| it.value), pooled(|it| it.terms));
        // Where all values are the same there is nothing to take a part of.
        let floor = if value > roundings * terms {
            relative.max(roundings) * value
        } else {
            RELATIVE_FLOOR
        };
        all.iter().map(|it| it.map_or(0.0, |it| floor.max(roundings * it.terms))).collect()
    }
}

impl<U: Univariate> ExponentialFamily for Independent<U> {
    fn name(&self) -> String {
        U::NAME.to_owned()
    }

    fn dim(&self) -> usize {
        self.columns.len()
    }

    fn known(&self) -> Known {
        let mut known = Known::default();
        let names = self.columns.first().map(U::known).unwrap_or_default();
        for (k, (name, _)) in names.into_iter().enumerate() {
            known =
                known.with(name, self.columns.iter().map(|column| column.known()[k].1).collect());
        }
        known
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        let spec = |&name: &&'static str| ParameterSpec {
            name: name.into(),
            shape: vec![self.columns.len()],
            shared: false,
        };
        U::PARAMETERS.iter().map(spec).collect()
    }

    fn domains(&self) -> Vec<Domain> {
        let mut domains: Vec<Domain> = Vec::new();
        for (d, column) in self.columns.iter().enumerate() {
            match domains.last_mut() {
                Some(last) if last.support == column.support() => last.columns.end = d + 1,
                _ => domains.push(Domain::new(d..d + 1, column.support())),
            }
        }
        domains
    }

    fn statistics(&self) -> Vec<Statistic> {
        (0..).zip(&self.columns).flat_map(|(d, column)| column.statistics(d)).collect()
    }

    fn features(&self) -> Vec<Feature> {
        (0..).zip(&self.columns).map(|(d, column)| column.features(d)).collect()
    }

    fn log_base_measure(&self) -> BaseMeasure {
        (0..).zip(&self.columns).map(|(d, column)| column.log_base_measure(d)).sum()
    }

    fn n_free_parameters(&self, n_components: usize) -> usize {
        n_components * self.columns.len() * Self::n_parameters()
    }

    fn check(&self, theta: Theta<'_>) -> Result<(), String> {
        self.each(theta).try_for_each(|(d, column, theta)| {
            column
                .check(&theta[..Self::n_parameters()])
                .map_err(|message| format!("column {d}: {message}"))
        })
    }

    fn natural(&self, parameters: &Parameters, _: &[f64], eta: &mut [f64]) -> Vec<Packing> {
        let k = self.n_statistics();
        let mut rows = eta.chunks_mut((k * self.columns.len()).max(1));
        let pack = |c: usize| {
            let eta = rows.next().expect("a row of natural parameters a component");
            let log_partition = self
                .each(parameters.theta(c))
                .map(|(d, column, theta)| column.natural(&theta, &mut eta[d * k..][..k]))
                .sum();
            Packing { log_partition, cancellation: 0.0 }
        };
        (0..parameters.components.len()).map(pack).collect()
    }

    fn pseudo_entropies(&self, parameters: &Parameters) -> Vec<f64> {
        let entropy = |c| {
            self.each(parameters.theta(c))
                .map(|(_, column, theta)| column.pseudo_entropy(&theta))
                .sum()
        };
        (0..parameters.components.len()).map(entropy).collect()
    }

    fn entropy(&self, theta: Theta<'_>) -> Option<f64> {
        self.each(theta).map(|(_, column, theta)| column.entropy(&theta)).sum()
    }

    fn mean(&self, theta: Theta<'_>, _: &[f64], mean: &mut [f64]) {
        let k = self.n_statistics();
        for ((_, column, theta), mean) in self.each(theta).zip(mean.chunks_mut(k.max(1))) {
            column.mean(&theta, mean);
        }
    }

    /// As `Σ η · (s - s₀ ∇A) - s₀ H̃`, which is `η · s - s₀ A` without the difference of large numbers.
    fn log_likelihood(&self, parameters: &Parameters, stats: &SuffStats) -> f64 {
        let k = self.n_statistics();
        let mut sum = 0.0;
        for (c, &mass) in stats.mass().iter().enumerate() {
            if !(mass > 0.0) {
                continue;
            }
            for (d, column, theta) in self.each(parameters.theta(c)) {
                let (mut eta, mut mean) = ([0.0; MAX], [0.0; MAX]);
                column.natural(&theta, &mut eta[..k]);
                column.mean(&theta, &mut mean[..k]);
                for ((eta, mean), s) in eta.iter().zip(mean).zip(&stats.sums(c)[d * k..][..k]) {
                    sum += eta * (s - mass * mean);
                }
                sum -= mass * column.pseudo_entropy(&theta);
            }
        }
        sum
    }

    fn maximize(
        &self,
        stats: &SuffStats,
        update: &[bool],
        regularization: Regularization,
        parameters: &mut Parameters,
    ) -> Vec<Outcome> {
        let (k, n_parameters, dim) =
            (self.n_statistics(), Self::n_parameters(), self.columns.len());
        let floors: Vec<_> = (0..dim).map(|d| self.floors(stats, d, regularization)).collect();
        let mut outcomes = vec![Outcome::Maximized; update.len()];
        for c in (0..update.len()).filter(|&c| update[c]) {
            let mut own = parameters.components[c].clone();
            for (d, column) in self.columns.iter().enumerate() {
                let (mean, mut theta) = (self.mean_of(stats, c, d), [f64::NAN; MAX]);
                match column.maximize(&mean[..k], floors[d][c], &mut theta[..n_parameters]) {
                    _ if column.check(&theta[..n_parameters]).is_err() => {
                        outcomes[c] = Outcome::Degenerate;
                        break;
                    }
                    Outcome::Degenerate => {
                        outcomes[c] = Outcome::Degenerate;
                        break;
                    }
                    Outcome::Floored => outcomes[c] = Outcome::Floored,
                    Outcome::Maximized => {}
                }
                theta[..n_parameters].iter().enumerate().for_each(|(p, v)| own[p * dim + d] = *v);
            }
            if outcomes[c] != Outcome::Degenerate {
                parameters.components[c] = own;
            }
        }
        outcomes
    }

    fn sampler<'a>(&'a self, theta: Theta<'a>) -> Sampler<'a> {
        let columns: Vec<_> = self.each(theta).collect();
        Box::new(move |rng, point| {
            for (value, (_, column, theta)) in point.iter_mut().zip(&columns) {
                *value = column.sample(theta, rng);
            }
        })
    }
}
