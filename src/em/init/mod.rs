//! Starts of a mixture, and fits from them.
//!
//! A start is a labelling of a seeded subsample, turned into parameters by one M-step of the family. So every start
//! serves every family, and what a start costs does not depend on N.

mod labels;
mod looked_at;
mod promise;
mod sparse;
mod subsample;
mod two_levels;

use labels::MANY_COMPONENTS;
pub(super) use labels::{Labelling, Wanted, labellings};
pub use looked_at::rows_looked_at;
pub(super) use promise::most_promising;
pub(super) use subsample::{POINTS_PER_COMPONENT, Sample, check_counts};

use super::config::Config;
use super::driver::Fit;
use super::fitting::{Fitting, Spec};
use super::truncated_mixture::fit_truncated;
use crate::block::BlockBuf;
use crate::data::shuffle::BadRows;
use crate::data::{self, DataSource};
use crate::error::{DataError, Result};
use crate::exec::Executor;
use crate::family::label::LabelBlock;
use crate::family::{ExponentialFamily, Parameters, Regularization};
use crate::kernels::accumulate::weighted_sums;
use crate::kernels::dispatch::Simd;
use crate::kernels::statistics::{self, Tile};
use crate::model::{GenerativeModel, Mixture, Posterior};
use crate::monitor::Event;
use crate::scalar::Scalar;
use crate::stats::{StatsShape, SuffStats};
use faer::MatRef;
use std::cell::LazyCell;
use std::sync::Arc;

/// How to start.
#[derive(Clone, Debug, Default)]
pub enum Init<M = Mixture> {
    /// The best of three labellings of a subsample: by k-means++ in columns of unit variance, by k-means++ in the units of the points, and
    /// by the nearest of C random points. A few iterations of EM on a part of the subsample show which gives the rest the largest likelihood.
    #[default]
    Auto,
    /// Greedy k-means++ on a subsample, in columns of unit variance, then hard-EM sweeps over it.
    KMeansPlusPlus,
    /// Random labels: all components start near the whole data. Rarely a good choice.
    Random,
    /// Labels by the nearest of C random points.
    RandomFromData,
    /// From this model: a warm start.
    Model(Box<M>),
}

/// What mixture to fit, and how to start.
#[derive(Clone, Debug)]
pub struct MixtureSpec {
    /// Family of the components.
    pub family: Arc<dyn ExponentialFamily>,
    /// Number of components C.
    pub n_components: usize,
    /// The variational family.
    pub posterior: Posterior,
    /// How to start.
    pub init: Init,
    /// What a start does with points that are no numbers.
    pub bad_rows: BadRows,
}

impl MixtureSpec {
    /// A mixture with exact posteriors and the default start.
    pub fn new(family: Arc<dyn ExponentialFamily>, n_components: usize) -> Self {
        Self {
            family,
            n_components,
            posterior: Posterior::Exact,
            init: Init::default(),
            bad_rows: BadRows::Error,
        }
    }

    /// A fit that goes on from a model: its family, components and posteriors.
    pub fn from_model(model: Mixture) -> Self {
        Self {
            family: model.shared_family(),
            n_components: model.n_components(),
            posterior: model.posterior(),
            init: Init::Model(Box::new(model)),
            bad_rows: BadRows::Error,
        }
    }

    /// The same with another variational family.
    pub fn with_posterior(self, posterior: Posterior) -> Self {
        Self { posterior, ..self }
    }

    /// The same with starts that leave out points that are no numbers, or end at the first.
    pub fn with_bad_rows(self, bad_rows: BadRows) -> Self {
        Self { bad_rows, ..self }
    }

    /// The same for points with missing values, which are NaN; a given start too.
    ///
    /// # Errors
    /// As [`GenerativeModel::ignoring_missing`].
    pub fn ignoring_missing(self) -> Result<Self> {
        let family = Mixture::family_ignoring_missing(&*self.family)?;
        let init = match self.init {
            Init::Model(model) => Init::Model(Box::new(model.ignoring_missing()?)),
            other => other,
        };
        Ok(Self { family, init, ..self })
    }

    /// The same with another start.
    pub fn with_init(self, init: Init) -> Self {
        Self { init, ..self }
    }
}

/// Fits a mixture: the best by its bound of `config.n_init` fresh starts.
///
/// ```
/// use entropysum::data::Points;
/// use entropysum::em::{self, Config, MixtureSpec};
/// use entropysum::Executor;
/// use entropysum::family::registry;
/// use entropysum::monitor::Silent;
///
/// let values: Vec<f64> = (0..200).map(|i| f64::from(i % 10) + if i < 100 { 0.0 } else { 50.0 }).collect();
/// let points = Points::from_rows(&values, 1)?;
/// let spec = MixtureSpec::new(registry::build("gaussian-full", 1)?, 2);
/// let fit = em::fit(&spec, &points, &Executor::new(Some(1))?, &Config::default(), &mut Silent)?;
/// let mut means = fit.model.parameter("means").unwrap();
/// means.sort_by(f64::total_cmp);
/// assert!((means[0] - 4.5).abs() < 1e-6 && (means[1] - 54.5).abs() < 1e-6);
/// # Ok::<(), entropysum::error::Error>(())
/// ```
impl<T: Scalar> Spec<T> for MixtureSpec {
    type Model = Mixture;

    fn fit(&self, fitting: Fitting<'_, T, Mixture>) -> Result<Fit<Mixture>> {
        let is_given = matches!(self.init, Init::Model(_));
        let start = |fitting: &Fitting<'_, T, Mixture>, run| {
            let (model, event) = match &self.init {
                Init::Model(model) => ((**model).clone(), None),
                _ => {
                    let config = fitting.settings();
                    start(self, fitting.points(), fitting.executor(), config, run)?
                }
            };
            Ok((model.with_posterior(self.posterior), event))
        };
        match self.posterior {
            Posterior::Truncated(search) => fit_truncated(fitting, search, is_given, &start),
            _ => fitting.fit_model(is_given, &start),
        }
    }
}

/// The `run`-th fresh start.
///
/// # Errors
/// If there are fewer points than components, or reading fails.
pub fn start<T: Scalar>(
    spec: &MixtureSpec,
    source: &dyn DataSource<T>,
    executor: &Executor,
    config: &Config,
    run: u64,
) -> Result<(Mixture, Option<Event>)> {
    let MixtureSpec { family, n_components, init, .. } = spec;
    let n_components = *n_components;
    data::check_dim(source, family.dim())?;
    // What is sparse is in memory, so that its length is one of memory too.
    let mut buffer = BlockBuf::default();
    let count = source.len() as usize;
    let is_sparse = family.takes_sparse() && data::is_sparse(source);
    let all = is_sparse.then(|| data::read(source, true, 0, count, &mut buffer)).transpose()?;
    let sparse = all.and_then(|block| Some((block.sparse?, block.weights)));
    let regularization = Regularization { rounding: T::EPSILON, ..config.regularization.clone() };
    let make = |stats: &SuffStats| -> Result<Mixture> {
        if !stats.is_finite() {
            let message =
                format!("squares of the values overflow {}; values are too large", T::NAME);
            return Err(DataError::new(source.name(), message).into());
        }
        let model = from_stats(family.clone(), stats, &regularization).map_err(|error| {
            DataError::new(source.name(), format!("values are too small or too large: {error}"))
        })?;
        Ok(match spec.posterior {
            // It is for more points than a subsample has.
            Posterior::Truncated(_) => model,
            other => model.with_posterior(other),
        })
    };
    let model = match sparse {
        Some(all) => make(&sparse::statistics(spec, source, all, executor, config, run)?)?,
        None => {
            let wanted = Wanted { n_components, bad_rows: spec.bad_rows };
            let (sample, found) =
                labellings(init, &**family, wanted, source, executor, config, run)?;
            let make = |sample: &Sample<T>, labelling: &Labelling| {
                let mut stats = labelled_stats(&**family, executor.simd(), sample, labelling);
                if n_components > MANY_COMPONENTS {
                    smooth(&mut stats);
                }
                make(&stats)
            };
            most_promising(&sample, found, &make, executor, config, run)?
        }
    };
    let placed = model.n_components();
    let event =
        (placed < n_components).then_some(Event::FewerComponents { asked: n_components, placed });
    Ok((model, event))
}

/// Statistics of labelled points: the sums of a hard posterior that is given, each label about its own mean.
fn labelled_stats<T: Scalar>(
    family: &dyn ExponentialFamily,
    simd: Simd,
    sample: &Sample<T>,
    &Labelling { ref labels, placed: n_components }: &Labelling,
) -> SuffStats {
    const TILE: usize = 256;
    let (statistics, shared, dim) = (family.statistics(), family.shared_statistics(), sample.dim);
    let mut members = vec![Vec::new(); n_components];
    for (i, &label) in labels.iter().enumerate() {
        if sample.weight(i) > 0.0 {
            members[label as usize].push(i);
        }
    }
    let centre_dim = if family.is_location() { dim } else { 0 };
    let mut centres = vec![T::ZERO; n_components * centre_dim];
    // Where nothing is known of a column under a label, which is rare.
    let overall = LazyCell::new(|| {
        let mean = |d: usize| {
            let values = sample.values.iter().skip(d).step_by(dim).map(|x| x.to_f64());
            let (sum, n) =
                values.filter(|x| !x.is_nan()).fold((0.0, 0.0), |it, x| (it.0 + x, it.1 + 1.0));
            if n > 0.0 { sum / n } else { 0.0 }
        };
        (0..dim).map(mean).collect::<Vec<f64>>()
    });
    if family.is_location() {
        for (members, centre) in members.iter().zip(centres.chunks_mut(dim)) {
            let mean = |d: usize| {
                let observed = || {
                    let all =
                        members.iter().map(|&i| (sample.weight(i), sample.values[i * dim + d]));
                    all.map(|(w, x)| (w, x.to_f64())).filter(|(_, x)| !x.is_nan())
                };
                let total: f64 = observed().map(|(w, _)| w).sum();
                let sum: f64 = observed().map(|(w, x)| w * x).sum();
                if total > 0.0 { sum / total } else { overall[d] }
            };
            let mut means: Vec<f64> = (0..dim).map(mean).collect();
            family.restrict_centre(&mut means);
            centre.iter_mut().zip(means).for_each(|(to, mean)| *to = T::from_f64(mean));
        }
    }
    let shape = StatsShape {
        components: n_components,
        statistics: statistics.len(),
        shared: shared.len(),
        centre: centre_dim,
    };
    let mut stats = SuffStats::zeros(shape, centres.iter().map(|v| v.to_f64()).collect());
    let mut tile = vec![T::ZERO; TILE * dim];
    let mut scratch = vec![T::ZERO; (TILE + 1) * 64];
    for (c, members) in members.iter().enumerate() {
        let centre = &centres[c * centre_dim..][..centre_dim];
        for members in members.chunks(TILE) {
            let mut rows: Vec<T> =
                members.iter().flat_map(|&i| &sample.values[i * dim..][..dim]).copied().collect();
            if family.fills_missing() {
                // By the mean of the label: the first M-step is a rough one in any case.
                let filled = rows.iter_mut().enumerate().filter(|(_, x)| x.to_f64().is_nan());
                filled.for_each(|(at, x)| *x = centre[at % dim]);
            }
            let n = members.len();
            statistics::load(
                simd,
                MatRef::from_row_major_slice(&rows, n, dim),
                centre,
                &mut tile,
                TILE,
            );
            let weights: Vec<T> = members.iter().map(|&i| T::from_f64(sample.weight(i))).collect();
            let mass: f64 = members.iter().map(|&i| sample.weight(i)).sum();
            stats.mass_mut()[c] += mass;
            *stats.total_weight_mut() += mass;
            *stats.n_points_mut() += n as f64;
            let tile = Tile { values: &tile, dim, n_points: n, stride: TILE };
            weighted_sums(simd, &statistics, tile, &weights, &mut scratch, stats.sums_mut(c));
            weighted_sums(simd, &shared, tile, &weights, &mut scratch, stats.shared_mut());
        }
    }
    stats
}

/// Adds a few points of the pooled distribution about their own centres to all components: few points of a component tell little
/// of its spread.
fn smooth(stats: &mut SuffStats) {
    const POINTS: f64 = 2.0;
    let shape = stats.shape();
    let total: f64 = stats.mass().iter().sum();
    let mut pooled = vec![0.0; shape.statistics];
    for c in 0..shape.components {
        pooled.iter_mut().zip(stats.sums(c)).for_each(|(sum, value)| *sum += value / total);
    }
    let growth = 1.0 + POINTS * shape.components as f64 / total;
    stats.shared_mut().iter_mut().for_each(|sum| *sum *= growth);
    for c in 0..shape.components {
        stats.mass_mut()[c] += POINTS;
        let sums = stats.sums_mut(c).iter_mut();
        sums.zip(&pooled).for_each(|(sum, mean)| *sum += POINTS * mean);
    }
}

/// The mixture that one M-step makes of statistics; components without points are left out.
fn from_stats(
    family: Arc<dyn ExponentialFamily>,
    stats: &SuffStats,
    regularization: &Regularization,
) -> Result<Mixture> {
    let size =
        |shared| family.parameters().iter().filter(|s| s.shared == shared).map(|s| s.len()).sum();
    let n_components = stats.shape().components;
    let mut parameters = Parameters {
        components: vec![vec![0.0; size(false)]; n_components],
        shared: vec![0.0; size(true)],
    };
    let update: Vec<bool> = stats.mass().iter().map(|&mass| mass > 0.0).collect();
    family.maximize(stats, &update, regularization, &mut parameters);
    if let Some(labels) = LabelBlock::of(&*family) {
        labels.number(&mut parameters);
    }
    let total: f64 = stats.mass().iter().sum();
    let mut kept = update.iter();
    parameters.components.retain(|_| *kept.next().expect("one flag a component"));
    let weights =
        stats.mass().iter().filter(|&&mass| mass > 0.0).map(|mass| mass / total).collect();
    Mixture::new(family, weights, parameters)
}
