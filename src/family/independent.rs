//! Independent columns, each with a distribution of one univariate family.
//!
//! A univariate family is a short file of formulas: [`Univariate`]. [`Independent`] makes of it a family of points of
//! D dimensions. Statistics, log-partition, entropy and base measure of independent columns add up.

use super::support::{Domain, Support};
use super::{
    BaseMeasure, ExponentialFamily, Feature, KnownParameters, Outcome, Packing, ParameterSpec,
    Parameters, Regularization, Sampler, Statistic, Theta,
};
use crate::kernels::reference::statistic as evaluate;
use crate::rng;
use crate::stats::SuffStats;
use crate::work::{self, Alone, Workers};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::fmt::Debug;
use std::sync::Arc;

/// Parameters and statistics of a column at most.
const MAX: usize = 2;

/// Natural parameters are held within ± this number. A probability or rate of 0 then has the weight e⁻⁷⁰⁰, which is close
/// to the smallest number of `f64`, and `0 · ln 0` is 0 without a test.
pub const LARGEST_NATURAL: f64 = 700.0;

/// Dispersions are lifted to this part of the pooled dispersion, unless `reg_covar` is given. Variances of Gaussians are too.
pub(super) const RELATIVE_FLOOR: f64 = 1e-6;

/// Dispersions are also lifted to this number of roundings of the pooled one: statistics hold no smaller dispersions.
pub(super) const ROUNDINGS: f64 = 16.0;

/// Number of values that are drawn of a column to find its halves.
const DRAWS: usize = 256;

/// The halves of a single column are moved apart by this part of the way. Probabilities of 0 and 1 would never change again.
const HALFWAY: f64 = 0.5;

/// A distance of mean statistics from those of a single point, where the density has no bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dispersion {
    /// A number ≥ 0 up to rounding; 0 if the density has no bound.
    pub value: f64,
    /// Size of the terms whose difference the value is; the value is exact to their rounding errors.
    pub terms: f64,
}

/// A family of distributions of one value: formulas only.
///
/// A value of the type is one column; it holds the known parameter of the column (trials, shape, location).
///
/// `p(x) = h(x) exp(η · T(x) - A(η))`
pub trait Univariate: Debug + Send + Sync + 'static {
    /// Returns the name on the command line and in files.
    fn name(&self) -> &'static str;

    /// Returns the names of the standard parameters, at most two.
    fn parameters(&self) -> &'static [&'static str];

    /// Returns the known parameters of this column, by name.
    fn known(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }

    /// Returns the set that holds the values.
    fn support(&self) -> Support;

    /// Lists the statistics `T(x)` of a value in that column, at most two.
    fn statistics(&self, column: u32) -> Vec<Statistic>;

    /// Returns `ln h(x)` of a value in that column; 0 by default (Prop. 4), else Prop. 5 holds.
    fn log_base_measure(&self, _column: u32) -> BaseMeasure {
        BaseMeasure::default()
    }

    /// Returns the statistic in which k-means finds the clusters of a start; the value itself by default.
    fn feature(&self, column: u32) -> Statistic {
        Statistic::Value(column)
    }

    /// Returns the statistics of a start, if k-means needs several.
    fn features(&self, column: u32) -> Feature {
        Feature::single(self.feature(column))
    }

    /// Lists the scales of the value in which a start may find clusters; that of [`features`](Self::features) alone by default.
    fn scales(&self, column: u32) -> Vec<Feature> {
        vec![self.features(column)]
    }

    /// Checks parameters that a file or a caller gives.
    ///
    /// # Errors
    /// Returns a message that names the parameter, its value and the range that was expected.
    fn check(&self, theta: &[f64]) -> Result<(), String>;

    /// Writes the natural parameters `η` and returns the log-partition `A(η)`.
    fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64;

    /// Writes the mean map `∇A(η) = E T(x)`.
    fn mean(&self, theta: &[f64], mean: &mut [f64]);

    /// Returns the dispersion that a floor holds up, for families whose likelihood is not bounded.
    fn dispersion(&self, _mean: &[f64]) -> Option<Dispersion> {
        None
    }

    /// Inverts the mean map to rounding, as the M-step does. A dispersion below `floor` is lifted to it.
    fn maximize(&self, mean: &[f64], floor: f64, theta: &mut [f64]) -> Outcome;

    /// Returns the pseudo entropy `A - η · ∇A` (Eqn 51), in nats.
    fn pseudo_entropy(&self, theta: &[f64]) -> f64;

    /// Returns the entropy in nats, if it has a closed form. The pseudo entropy is the entropy if the base measure is 1.
    fn entropy(&self, theta: &[f64]) -> Option<f64> {
        self.log_base_measure(0).is_one().then(|| self.pseudo_entropy(theta))
    }

    /// Returns `dθ/ds` of scaling the natural parameters, `η → s η`, if it has a closed form: `β` of Definition 1.
    /// It is zero at the boundary of the parameters, which scaling does not move.
    fn scaling_flow(&self, _theta: &[f64]) -> Option<[f64; 2]> {
        None
    }

    /// Draws a value.
    fn sample(&self, theta: &[f64], rng: &mut Xoshiro256PlusPlus) -> f64;
}

/// Distributions of a univariate family, one for each column.
///
/// ```
/// use entropysum::expert::family::ExponentialFamily;
/// use entropysum::family::{Parameters, registry};
///
/// let family = registry::build("exponential", 2)?;
/// let parameters = Parameters { components: vec![vec![0.5, 4.0]], shared: vec![] };
/// let entropy = (1.0 - 0.5f64.ln()) + (1.0 - 4f64.ln());
/// assert!((family.pseudo_entropies(&parameters)[0] - entropy).abs() < 1e-14);
/// # Ok::<(), entropysum::Error>(())
/// ```
///
/// If values may be missing ([`ignoring_missing`](ExponentialFamily::ignoring_missing)), a column has one statistic more:
/// 1 if the value is observed, else 0 like all others. Its natural parameter is `-A`, so that a point has the density of its
/// observed values. Its sum is the mass that the column's M-step divides by.
#[derive(Clone, Debug)]
pub struct Independent {
    columns: Vec<Arc<dyn Univariate>>,
    n_parameters: usize,
    n_statistics: usize,
    missing: bool,
}

/// The few numbers of one column.
type Small = [f64; MAX];

impl Independent {
    /// Makes a family of points with these columns.
    ///
    /// # Panics
    /// If there is no column.
    pub fn new<U: Univariate>(columns: Vec<U>) -> Self {
        let shared = |column| -> Arc<dyn Univariate> { Arc::new(column) };
        Self::of(columns.into_iter().map(shared).collect())
    }

    /// Makes a family of columns of the same univariate family, with the same number of statistics.
    pub(super) fn of(columns: Vec<Arc<dyn Univariate>>) -> Self {
        let first = columns.first().expect("a point has a column");
        let (n_parameters, n_statistics) = (first.parameters().len(), first.statistics(0).len());
        Self { columns, n_parameters, n_statistics, missing: false }
    }

    /// Counts the statistics of a column, with the statistic that says whether it is observed.
    fn width(&self) -> usize {
        self.n_statistics + usize::from(self.missing)
    }

    /// Returns the sums of a column's statistics in a component.
    fn sums<'a>(&self, stats: &'a SuffStats, c: usize, d: usize) -> &'a [f64] {
        &stats.sums(c)[d * self.width()..][..self.n_statistics]
    }

    /// Returns the mass of those points of a component that a column is observed of.
    fn mass(&self, stats: &SuffStats, c: usize, d: usize) -> f64 {
        if self.missing { stats.sums(c)[(d + 1) * self.width() - 1] } else { stats.mass()[c] }
    }

    /// Gathers the parameters of a column: arrays of D values stand one after the other.
    fn theta(&self, theta: Theta<'_>, d: usize) -> Small {
        std::array::from_fn(|p| match p < self.n_parameters {
            true => theta.component[p * self.columns.len() + d],
            false => 0.0,
        })
    }

    /// Lists each column with its number and its parameters.
    fn each<'a>(
        &'a self,
        theta: Theta<'a>,
    ) -> impl Iterator<Item = (usize, &'a dyn Univariate, Small)> + 'a {
        let columns = self.columns.iter().enumerate();
        columns.map(move |(d, column)| (d, &**column, self.theta(theta, d)))
    }

    /// Returns the mean statistics of a column. If a component has no point with that column, all components are taken.
    fn mean_of(&self, stats: &SuffStats, c: usize, d: usize) -> Small {
        let all = 0..stats.mass().len();
        let components = if self.mass(stats, c, d) > 0.0 { c..c + 1 } else { all };
        let mass: f64 = components.clone().map(|c| self.mass(stats, c, d)).sum();
        let mut mean = [0.0; MAX];
        for c in components {
            for (mean, sum) in mean.iter_mut().zip(self.sums(stats, c, d)) {
                *mean += sum / mass;
            }
        }
        mean
    }

    /// Returns the dispersion of a column in a component, if it has points and the family has a dispersion.
    fn dispersion(&self, stats: &SuffStats, c: usize, d: usize) -> Option<Dispersion> {
        let has_points = self.mass(stats, c, d) > 0.0;
        has_points.then(|| self.columns[d].dispersion(&self.mean_of(stats, c, d))).flatten()
    }

    /// Returns the lower limit of a column's dispersion in all components, from the statistics alone.
    fn floor(&self, stats: &SuffStats, d: usize, regularization: &Regularization) -> f64 {
        let relative = if regularization.reg_covar.is_none() { RELATIVE_FLOOR } else { 0.0 };
        let roundings = ROUNDINGS * regularization.rounding;
        let masses: Vec<f64> = (0..stats.mass().len()).map(|c| self.mass(stats, c, d)).collect();
        let all: Vec<_> = (0..masses.len()).map(|c| self.dispersion(stats, c, d)).collect();
        let pooled = |part: fn(Dispersion) -> f64| {
            let parts = all.iter().zip(&masses).map(|(it, w)| it.map_or(0.0, |it| w * part(it)));
            parts.sum::<f64>() / masses.iter().sum::<f64>()
        };
        let (value, terms) = (pooled(|it| it.value), pooled(|it| it.terms));
        // Where all values are the same there is nothing to take a part of.
        if value > roundings * terms { relative.max(roundings) * value } else { RELATIVE_FLOOR }
    }
}

impl ExponentialFamily for Independent {
    fn name(&self) -> String {
        self.columns[0].name().to_owned()
    }

    fn dim(&self) -> usize {
        self.columns.len()
    }

    fn known(&self) -> KnownParameters {
        let mut known = KnownParameters::default();
        for (k, (name, _)) in self.columns[0].known().into_iter().enumerate() {
            let values = self.columns.iter().map(|column| column.known()[k].1).collect();
            known = known.with(name, values);
        }
        known
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        let spec = |&name: &&'static str| ParameterSpec {
            name: name.into(),
            shape: vec![self.columns.len()],
            shared: false,
        };
        self.columns[0].parameters().iter().map(spec).collect()
    }

    fn domains(&self) -> Vec<Domain> {
        let mut domains: Vec<Domain> = Vec::new();
        for (d, column) in self.columns.iter().enumerate() {
            match domains.last_mut() {
                Some(last) if last.support == column.support() => last.columns.end = d + 1,
                _ => domains.push(Domain {
                    columns: d..d + 1,
                    support: column.support(),
                    missing: self.missing,
                }),
            }
        }
        domains
    }

    fn statistics(&self) -> Vec<Statistic> {
        let of = |(d, column): (u32, &Arc<dyn Univariate>)| {
            let observed = self.missing.then_some(Statistic::Observed(d));
            column.statistics(d).into_iter().chain(observed)
        };
        (0..).zip(&self.columns).flat_map(of).collect()
    }

    fn features(&self) -> Vec<Feature> {
        (0..).zip(&self.columns).map(|(d, column)| column.features(d)).collect()
    }

    fn scales(&self) -> Vec<Vec<Feature>> {
        let of: Vec<Vec<Feature>> =
            (0..).zip(&self.columns).map(|(d, column)| column.scales(d)).collect();
        let most = of.iter().map(Vec::len).max().unwrap_or(1);
        let scale = |k: usize| of.iter().map(|own| own[k.min(own.len() - 1)].clone()).collect();
        (0..most).map(scale).collect()
    }

    fn log_base_measure(&self) -> BaseMeasure {
        let of = |(d, column): (u32, &Arc<dyn Univariate>)| {
            let mut measure = column.log_base_measure(d);
            if self.missing && measure.constant != 0.0 {
                // Where the column is not observed there is no constant either.
                measure.terms.push((Statistic::Observed(d), std::mem::take(&mut measure.constant)));
            }
            measure
        };
        (0..).zip(&self.columns).map(of).sum()
    }

    fn n_free_parameters(&self, n_components: usize) -> usize {
        n_components * self.columns.len() * self.n_parameters
    }

    fn check(&self, theta: Theta<'_>) -> Result<(), String> {
        self.each(theta).try_for_each(|(d, column, theta)| {
            column
                .check(&theta[..self.n_parameters])
                .map_err(|message| format!("column {d}: {message}"))
        })
    }

    fn natural(&self, parameters: &Parameters, _: &[f64], eta: &mut [f64]) -> Vec<Packing> {
        let (k, width) = (self.n_statistics, self.width());
        let mut rows = eta.chunks_mut((width * self.columns.len()).max(1));
        let pack = |c: usize| {
            let row = rows.next().expect("a row of natural parameters a component");
            let mut sum = 0.0;
            for ((_, column, theta), eta) in
                self.each(parameters.theta(c)).zip(row.chunks_mut(width))
            {
                let log_partition = column.natural(&theta, &mut eta[..k]);
                match eta.get_mut(k) {
                    Some(observed) => *observed = -log_partition,
                    None => sum += log_partition,
                }
            }
            Packing { log_partition: sum, cancellation: 0.0 }
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

    fn observable_entropy(&self, parameters: &Parameters, stats: &SuffStats) -> f64 {
        let mut sum = 0.0;
        for c in (0..stats.mass().len()).filter(|&c| stats.mass()[c] > 0.0) {
            for (d, column, theta) in self.each(parameters.theta(c)) {
                sum += self.mass(stats, c, d) * column.pseudo_entropy(&theta);
            }
        }
        sum
    }

    fn mean(&self, theta: Theta<'_>, _: &[f64], mean: &mut [f64]) {
        let (k, width) = (self.n_statistics, self.width());
        for ((_, column, theta), mean) in self.each(theta).zip(mean.chunks_mut(width.max(1))) {
            column.mean(&theta, &mut mean[..k]);
            mean[k..].fill(1.0);
        }
    }

    /// As `Σ η · (s - s₀ ∇A) - s₀ H̃`, which is `η · s - s₀ A` without the difference of large numbers.
    fn log_likelihood(&self, parameters: &Parameters, stats: &SuffStats) -> f64 {
        let k = self.n_statistics;
        let mut sum = 0.0;
        for c in (0..stats.mass().len()).filter(|&c| stats.mass()[c] > 0.0) {
            for (d, column, theta) in self.each(parameters.theta(c)) {
                let (mut eta, mut mean) = ([0.0; MAX], [0.0; MAX]);
                column.natural(&theta, &mut eta[..k]);
                column.mean(&theta, &mut mean[..k]);
                let mass = self.mass(stats, c, d);
                for ((eta, mean), s) in eta.iter().zip(mean).zip(self.sums(stats, c, d)) {
                    let term = eta * (s - mass * mean);
                    // No point lies beyond the boundary of the mean map; what a sum lies beyond it is rounding.
                    let is_at_boundary = eta.abs() >= LARGEST_NATURAL;
                    sum += if is_at_boundary { term.min(0.0) } else { term };
                }
                sum -= mass * column.pseudo_entropy(&theta);
            }
        }
        sum
    }

    fn floors(&self, stats: &SuffStats, regularization: &Regularization) -> Vec<f64> {
        self.floors_by(stats, regularization, &Alone)
    }

    fn floors_by(
        &self,
        stats: &SuffStats,
        regularization: &Regularization,
        workers: &dyn Workers,
    ) -> Vec<f64> {
        work::map(workers, self.columns.len(), 1, |d| self.floor(stats, d, regularization))
    }

    fn maximize(
        &self,
        stats: &SuffStats,
        update: &[bool],
        regularization: &Regularization,
        parameters: &mut Parameters,
    ) -> Vec<Outcome> {
        self.maximize_by(stats, update, regularization, parameters, &Alone)
    }

    fn maximize_by(
        &self,
        stats: &SuffStats,
        update: &[bool],
        regularization: &Regularization,
        parameters: &mut Parameters,
        workers: &dyn Workers,
    ) -> Vec<Outcome> {
        let (k, n_parameters, dim) = (self.n_statistics, self.n_parameters, self.columns.len());
        let floors = regularization.floors_or(|| self.floors_by(stats, regularization, workers));
        let roundings = ROUNDINGS * regularization.rounding;
        let maximize = |c: usize, to: &mut Vec<f64>| {
            let (mut own, mut outcome) = (to.clone(), Outcome::Maximized);
            for (d, column) in self.columns.iter().enumerate() {
                let (mean, mut theta) = (self.mean_of(stats, c, d), [f64::NAN; MAX]);
                let terms = self.dispersion(stats, c, d).map_or(0.0, |it| it.terms);
                let floor = floors[d].max(roundings * terms);
                match column.maximize(&mean[..k], floor, &mut theta[..n_parameters]) {
                    _ if column.check(&theta[..n_parameters]).is_err() => {
                        return Outcome::Degenerate;
                    }
                    Outcome::Degenerate => return Outcome::Degenerate,
                    Outcome::Floored(_) => outcome = Outcome::Floored(Some(d)),
                    Outcome::Constant | Outcome::Maximized => {}
                }
                theta[..n_parameters].iter().enumerate().for_each(|(p, v)| own[p * dim + d] = *v);
            }
            *to = own;
            outcome
        };
        let components = parameters.components.iter_mut();
        let mut results: Vec<_> = components.map(|theta| (theta, Outcome::Maximized)).collect();
        let per_piece = work::components_per_piece(dim * k);
        work::for_pieces(workers, &mut results, per_piece, |first, results| {
            for (c, (theta, outcome)) in (first..).zip(results).filter(|(c, _)| update[*c]) {
                *outcome = maximize(c, theta);
            }
        });
        results.into_iter().map(|(_, outcome)| outcome).collect()
    }

    fn scaling_flow(&self, parameters: &Parameters) -> Option<Parameters> {
        let mut flow = parameters.clone();
        for (c, own) in flow.components.iter_mut().enumerate() {
            for (d, column, theta) in self.each(parameters.theta(c)) {
                let column_flow = column.scaling_flow(&theta[..self.n_parameters])?;
                for (p, value) in column_flow.iter().take(self.n_parameters).enumerate() {
                    own[p * self.columns.len() + d] = *value;
                }
            }
        }
        Some(flow)
    }

    fn ignoring_missing(&self) -> Option<Arc<dyn ExponentialFamily>> {
        Some(Arc::new(Self { missing: true, ..self.clone() }))
    }

    /// Moves the halves some way towards the lower and the upper half of the values that each column draws.
    fn split(&self, theta: Theta<'_>, halves: [&mut Vec<f64>; 2]) -> bool {
        let (k, dim) = (self.n_statistics, self.columns.len());
        let share = HALFWAY / (dim as f64).sqrt();
        let mut both = [theta.component.to_vec(), theta.component.to_vec()];
        for (d, column, theta) in self.each(theta) {
            let (statistics, mut rng) = (column.statistics(0), rng::stream(0, d as u64));
            let mut values: Vec<f64> =
                (0..DRAWS).map(|_| column.sample(&theta, &mut rng)).collect();
            values.sort_by(f64::total_cmp);
            let mut own = [0.0; MAX];
            column.mean(&theta, &mut own[..k]);
            for (half, values) in both.iter_mut().zip(values.chunks(DRAWS / 2)) {
                let mut mean = [0.0; MAX];
                for (k, (mean, &statistic)) in mean.iter_mut().zip(&statistics).enumerate() {
                    let drawn: f64 = values.iter().map(|&x| evaluate(statistic, &[x])).sum();
                    *mean = (1.0 - share) * own[k] + share * drawn / values.len() as f64;
                }
                let mut new = [0.0; MAX];
                let new = &mut new[..self.n_parameters];
                column.maximize(&mean[..k], 0.0, new);
                // What has no inverse (all draws the same) stays as it is.
                if column.check(new).is_ok() {
                    new.iter().enumerate().for_each(|(p, value)| half[p * dim + d] = *value);
                }
            }
        }
        let [first, second] = both;
        let differ = first != second;
        (*halves[0], *halves[1]) = (first, second);
        differ
    }

    fn sampler<'a>(&'a self, theta: Theta<'a>) -> Sampler<'a> {
        let columns: Vec<_> = self.each(theta).collect();
        Box::new(move |rng, point| {
            for (value, (_, column, theta)) in point.iter_mut().zip(&columns) {
                *value = column.support().nearest(column.sample(theta, rng));
            }
        })
    }
}
