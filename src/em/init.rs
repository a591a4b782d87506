//! Starts of a mixture, and fits from them.
//!
//! A start is a labelling of a seeded subsample, turned into parameters by one M-step of the family. So every start
//! serves every family, and what a start costs does not depend on N.

use super::config::Config;
use super::driver::Fit;
use super::fitting::{Fitting, Spec, fit};
use super::sparse_start;
use super::sweep::first_fault;
use crate::block::{Block, BlockBuf};
use crate::data::memory::Points;
use crate::data::shuffle::BadRows;
use crate::data::{self, DataSource};
use crate::error::{DataError, Error, Result};
use crate::exec::Executor;
use crate::family::{
    Covariance, Domain, ExponentialFamily, Feature, Gaussian, Parameters, Regularization, Statistic,
};
use crate::inference;
use crate::kernels::accumulate::weighted_sums;
use crate::kernels::dispatch::Simd;
use crate::kernels::distance::nearest;
use crate::kernels::statistics::{self, Tile};
use crate::model::{GenerativeModel, Mixture, Posterior};
use crate::monitor::{Event, Silent};
use crate::rng;
use crate::scalar::Scalar;
use crate::stats::{StatsShape, SuffStats};
use faer::MatRef;
use rand_xoshiro::Xoshiro256PlusPlus;
use std::sync::Arc;

/// Points of the subsample per component. As many as FAISS trains on for a centroid at most.
pub(super) const POINTS_PER_COMPONENT: u64 = 256;

/// Points of the subsample at least, where there are as many.
const MIN_SUBSAMPLE: u64 = 4096;

/// Points of a stretch that are tried where bad ones are left out.
const TRIES: usize = 16;

/// Hard-EM sweeps over the subsample after k-means++; "a few" settle it, later EM does the rest.
const HARD_SWEEPS: usize = 10;

/// How to start.
#[derive(Clone, Debug, Default)]
pub enum Init<M = Mixture> {
    /// Greedy k-means++ on a subsample, then hard-EM sweeps over it.
    #[default]
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
    /// A mixture with exact posteriors that starts by k-means++.
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
/// use entropysum::exec::Executor;
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
        fitting.fit_model(matches!(self.init, Init::Model(_)), &|fitting, run| {
            let (model, event) = match &self.init {
                Init::Model(model) => ((**model).clone(), None),
                _ => {
                    let config = fitting.settings();
                    start(self, fitting.points(), fitting.executor(), config, run)?
                }
            };
            Ok((model.with_posterior(self.posterior), event))
        })
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
    let sparse = family.takes_sparse().then(|| source.read_sparse(0, count, &mut buffer));
    let sparse = sparse.flatten().and_then(|block| Some((block.sparse?, block.weights)));
    let stats = match sparse {
        Some(all) => sparse_start::statistics(spec, source, all, executor, config, run)?,
        None => {
            let wanted = Wanted { n_components: spec.n_components, bad_rows: spec.bad_rows };
            let Labelled { sample, labels, placed } =
                labelled(init, &**family, wanted, source, executor, config, run)?;
            labelled_stats(&**family, executor.simd(), &sample, &labels, placed)
        }
    };
    if !stats.is_finite() {
        let message = format!("squares of the values overflow {}; values are too large", T::NAME);
        return Err(DataError::new(source.name(), message).into());
    }
    let regularization = Regularization { rounding: T::EPSILON, ..config.regularization };
    let model = from_stats(family.clone(), &stats, regularization).map_err(|error| {
        DataError::new(source.name(), format!("values are too small or too large: {error}"))
    })?;
    let placed = model.n_components();
    let event =
        (placed < n_components).then_some(Event::FewerComponents { asked: n_components, placed });
    Ok((model, event))
}

/// A subsample whose points bear the labels of the components that they start.
pub(super) struct Labelled<T> {
    pub(super) sample: Sample<T>,
    pub(super) labels: Vec<u32>,
    /// How many components could be placed; labels are below it.
    pub(super) placed: usize,
}

/// What a start is to draw.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) n_components: usize,
    pub(super) bad_rows: BadRows,
}

/// Draws the subsample of the `run`-th start and labels it, by the features of a family.
pub(super) fn labelled<T: Scalar, M>(
    init: &Init<M>,
    family: &dyn ExponentialFamily,
    Wanted { n_components, bad_rows }: Wanted,
    source: &dyn DataSource<T>,
    executor: &Executor,
    config: &Config,
    run: u64,
) -> Result<Labelled<T>> {
    check_counts(source, n_components)?;
    config.check()?;
    let wanted = (POINTS_PER_COMPONENT.max(4 * source.dim() as u64)) * n_components as u64;
    let sample = subsample(
        source,
        &family.domains(),
        wanted.max(MIN_SUBSAMPLE),
        bad_rows == BadRows::Skip,
        &mut rng::stream(config.seed, 3 * run),
    )?;
    for d in 0..sample.dim {
        if sample.values.iter().skip(d).step_by(sample.dim).all(|x| x.to_f64().is_nan()) {
            let message = format!("all of the {} values looked at are missing", sample.len());
            return Err(
                DataError { column: Some(d), ..DataError::new(source.name(), message) }.into()
            );
        }
    }
    let features = || Features::new(&sample, &family.features(), executor.simd());
    let mut rng = rng::stream(config.seed, 3 * run + 1);
    let (labels, placed) = match init {
        Init::Random => {
            let labels = (0..sample.len())
                .map(|_| rng::below(&mut rng, n_components as u64) as u32)
                .collect();
            (labels, n_components)
        }
        Init::RandomFromData => {
            cluster(&features(), n_components, Seeding::Uniform, 0, executor, &mut rng)?
        }
        _ => {
            cluster(&features(), n_components, Seeding::PlusPlus, HARD_SWEEPS, executor, &mut rng)?
        }
    };
    Ok(Labelled { sample, labels, placed })
}

/// Refuses no components, and more than there are points.
pub(super) fn check_counts<T: Scalar>(
    source: &dyn DataSource<T>,
    n_components: usize,
) -> Result<()> {
    if n_components == 0 {
        return Err(Error::Config("a mixture needs at least one component".into()));
    }
    if source.len() < n_components as u64 {
        return Err(Error::Config(format!(
            "{} has {} point(s), fewer than the {n_components} components asked for",
            source.name(),
            source.len()
        )));
    }
    Ok(())
}

/// A few points of a source, in memory, in the order of the source.
pub(super) struct Sample<T> {
    pub(super) values: Vec<T>,
    weights: Option<Vec<f64>>,
    pub(super) dim: usize,
}

impl<T: Scalar> Sample<T> {
    pub(super) fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    /// Adds point `i` of a block, or puts it in the place of another.
    fn take(
        &mut self,
        source: &dyn DataSource<T>,
        domains: &[Domain],
        block: Block<'_, T>,
        i: usize,
        place: Option<usize>,
    ) -> Result<()> {
        let value = |d: usize| block.points[(i, d)].to_f64();
        if let Some((column, message)) = domains.iter().find_map(|domain| domain.fault(value)) {
            let fault = match column.filter(|&d| !value(d).is_finite()) {
                Some(_) => first_fault(source, domains, block.slice(i, 1)),
                None => {
                    let (name, row) = source.place(block.first + i as u64);
                    DataError::new(name, message).at(row, column)
                }
            };
            return Err(fault.into());
        }
        let row = (0..self.dim).map(|d| block.points[(i, d)]);
        match place {
            None => self.values.extend(row),
            Some(place) => self.values[place * self.dim..]
                .iter_mut()
                .zip(row)
                .for_each(|(to, from)| *to = from),
        }
        if let (Some(weights), Some(from)) = (&mut self.weights, block.weights) {
            match place {
                None => weights.push(from[i]),
                Some(place) => weights[place] = from[i],
            }
        }
        Ok(())
    }

    pub(super) fn weight(&self, i: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |weights| weights[i])
    }
}

/// Draws `wanted` points of positive weight without replacement, or takes all where there are no more.
fn subsample<T: Scalar>(
    source: &dyn DataSource<T>,
    domains: &[Domain],
    wanted: u64,
    skips: bool,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<Sample<T>> {
    let n = source.len();
    let mut buffer = BlockBuf::default();
    let weighted = n > 0 && source.read(0, 1, &mut buffer)?.weights.is_some();
    let mut sample =
        Sample { values: Vec::new(), weights: weighted.then(Vec::new), dim: source.dim() };
    if n > wanted && !weighted {
        // One point of each of `wanted` equal stretches: no duplicates, and one pass in file order.
        for k in 0..wanted {
            let bound = |k: u64| (u128::from(n) * u128::from(k) / u128::from(wanted)) as u64;
            let (low, high) = (bound(k), bound(k + 1));
            for _ in 0..if skips { TRIES } else { 1 } {
                let block = source.read(low + rng::below(rng, high - low), 1, &mut buffer)?;
                if !skips || is_for(domains, block, 0) {
                    sample.take(source, domains, block, 0, None)?;
                    break;
                }
            }
        }
        return Ok(sample);
    }
    // Which points have weight shows only on the way: a reservoir (Vitter's algorithm R), which also takes all.
    let (mut start, mut seen) = (0, 0);
    while start < n {
        let count = (n - start).min(4096);
        let block = source.read(start, count as usize, &mut buffer)?;
        for i in 0..block.len() {
            if block.weights.is_some_and(|weights| !(weights[i] > 0.0))
                || skips && !is_for(domains, block, i)
            {
                continue;
            }
            seen += 1;
            if seen <= wanted {
                sample.take(source, domains, block, i, None)?;
            } else {
                let place = rng::below(rng, seen);
                if place < wanted {
                    sample.take(source, domains, block, i, Some(place as usize))?;
                }
            }
        }
        start += count;
    }
    if sample.values.is_empty() {
        let message = match skips {
            true => "no point is one that the model is for, and has a weight",
            false => "the weights of all points are zero",
        };
        return Err(DataError::new(source.name(), message).into());
    }
    Ok(sample)
}

fn is_for<T: Scalar>(domains: &[Domain], block: Block<'_, T>, i: usize) -> bool {
    domains.iter().all(|domain| domain.fault(|d| block.points[(i, d)].to_f64()).is_none())
}

enum Seeding {
    PlusPlus,
    Uniform,
}

/// A sample in the statistics that tell its clusters apart, each of mean 0 and variance 1.
struct Features<'a, T> {
    sample: &'a Sample<T>,
    /// Row-major, one row a point.
    rows: Vec<T>,
    /// The same, column by column.
    columns: Vec<T>,
    dim: usize,
}

impl<'a, T: Scalar> Features<'a, T> {
    /// Columns of different units must not decide the start by their units: EM itself is indifferent to them.
    fn new(sample: &'a Sample<T>, features: &[Feature], simd: Simd) -> Self {
        let statistics: Vec<Statistic> =
            features.iter().flat_map(|it| &it.statistics).copied().collect();
        let (n, dim) = (sample.len(), statistics.len());
        let mut tile = vec![T::ZERO; n * sample.dim];
        let points = MatRef::from_row_major_slice(&sample.values, n, sample.dim);
        statistics::load(simd, points, &[], &mut tile, n);
        let tile = Tile { values: &tile, dim: sample.dim, n_points: n, stride: n };
        let mut columns = vec![T::ZERO; n * dim];
        statistics::evaluate(simd, &statistics, tile, &mut columns);
        let mut rest = &mut columns[..];
        for feature in features {
            let (own, others) = rest.split_at_mut(n * feature.statistics.len());
            if feature.is_direction {
                to_unit_length(own, n);
            }
            standardize(own, sample, feature.variance);
            rest = others;
        }
        let rows = (0..n).flat_map(|i| columns[i..].iter().step_by(n).copied()).collect();
        Self { sample, rows, columns, dim }
    }

    fn row(&self, i: usize) -> &[T] {
        &self.rows[i * self.dim..][..self.dim]
    }
}

/// Divides the vectors of which `columns` hold the coordinates by their lengths.
fn to_unit_length<T: Scalar>(columns: &mut [T], n: usize) {
    for i in 0..n {
        let column = || columns[i..].iter().step_by(n);
        let length = column().map(|x| x.to_f64().powi(2)).sum::<f64>().sqrt();
        if length > 0.0 {
            let inverse = T::from_f64(length.recip());
            columns[i..].iter_mut().step_by(n).for_each(|x| *x *= inverse);
        }
    }
}

/// Shifts columns to mean 0 and scales them alike to a total variance; constant ones to 0. Missing values take the
/// mean.
fn standardize<T: Scalar>(columns: &mut [T], sample: &Sample<T>, variance: f64) {
    let n = sample.len();
    let moments = |column: &[T]| {
        let values = || {
            let all = column.iter().enumerate().map(|(i, x)| (sample.weight(i), x.to_f64()));
            all.filter(|(_, x)| !x.is_nan())
        };
        let total: f64 = values().map(|(w, _)| w).sum();
        let mean = values().map(|(w, x)| w * x).sum::<f64>() / total;
        (mean, values().map(|(w, x)| w * (x - mean).powi(2)).sum::<f64>() / total)
    };
    let moments: Vec<(f64, f64)> = columns.chunks(n).map(moments).collect();
    let found: f64 = moments.iter().map(|(_, variance)| variance).sum();
    let scale = if found > 0.0 { (variance / found).sqrt() } else { 0.0 };
    for (column, (mean, _)) in columns.chunks_mut(n).zip(moments) {
        for value in column {
            let x = value.to_f64();
            *value = if x.is_nan() { T::ZERO } else { T::from_f64((x - mean) * scale) };
        }
    }
}

/// Labels a sample by k-means in its features; returns how many centres could be placed.
fn cluster<T: Scalar>(
    features: &Features<'_, T>,
    n_components: usize,
    seeding: Seeding,
    sweeps: usize,
    executor: &Executor,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<(Vec<u32>, usize)> {
    let (sample, n, dim) = (features.sample, features.sample.len(), features.dim);
    let centres = match seeding {
        Seeding::PlusPlus => k_means_plus_plus(features, n_components, executor, rng)?,
        Seeding::Uniform => {
            let mut centres: Vec<usize> = Vec::new();
            let mut left: Vec<usize> = (0..n).filter(|&i| sample.weight(i) > 0.0).collect();
            while centres.len() < n_components && !left.is_empty() {
                let i = left.swap_remove(rng::below(rng, left.len() as u64) as usize);
                if centres.iter().all(|&c| features.row(c) != features.row(i)) {
                    centres.push(i);
                }
            }
            centres
        }
    };
    let placed = centres.len();
    let components =
        centres.iter().map(|&i| features.row(i).iter().map(|v| v.to_f64()).collect()).collect();
    let family = Arc::new(Gaussian::new(Covariance::TiedSpherical, dim));
    let model = Mixture::new(
        family,
        vec![1.0 / placed as f64; placed],
        Parameters { components, shared: vec![1.0] },
    )?
    .with_posterior(Posterior::Hard)
    .with_fixed_weights(true);
    let mut points = Points::from_rows(&features.rows, dim)?;
    if let Some(weights) = &sample.weights {
        points = points.with_weights(weights.clone())?;
    }
    let model = if sweeps == 0 {
        model
    } else {
        let config = Config { max_iter: sweeps, tol: 1e-4, ..Config::default() };
        fit(&model, &points, executor, &config, &mut Silent)?.model
    };
    let mut labels = vec![0; n];
    inference::predict(&model, &points, executor, |first, block| {
        labels[first as usize..][..block.len()].copy_from_slice(block);
        Ok(())
    })?;
    Ok((labels, placed))
}

/// Greedy k-means++ (Arthur & Vassilvitskii 2007, with `2 + ln C` candidates a centre as scikit-learn draws them).
///
/// Returns fewer centres than asked for where there are fewer distinct points.
fn k_means_plus_plus<T: Scalar>(
    features: &Features<'_, T>,
    n_components: usize,
    executor: &Executor,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<Vec<usize>> {
    let (sample, tile) = (features.sample, &features.columns);
    let (n, dim) = (sample.len(), features.dim);
    let candidates = 2 + (n_components as f64).ln() as usize;
    let weight = |i: usize| sample.weight(i);
    let Some(first) = rng::weighted(rng, (0..n).map(weight)) else {
        return Err(Error::Config("the weights of all points are zero".into()));
    };
    let coordinates = |i: usize| (0..dim).map(|d| tile[d * n + i]).collect::<Vec<T>>();
    let mut distances = vec![T::from_f64(f64::from(f32::MAX)); n];
    let mut next = vec![T::ZERO; n];
    nearest(executor.simd(), tile, n, &coordinates(first), &distances, &mut next);
    std::mem::swap(&mut distances, &mut next);
    let mut centres = vec![first];
    let mut lanes: Vec<(usize, Vec<T>, f64)> =
        (0..candidates).map(|_| (0, vec![T::ZERO; n], 0.0)).collect();
    while centres.len() < n_components {
        for lane in &mut lanes {
            match rng::weighted(rng, (0..n).map(|i| weight(i) * distances[i].to_f64())) {
                Some(i) => lane.0 = i,
                None => return Ok(centres),
            }
        }
        executor.for_each(&mut lanes, |_, (candidate, updated, potential)| {
            nearest(executor.simd(), tile, n, &coordinates(*candidate), &distances, updated);
            *potential = updated.iter().enumerate().map(|(i, d)| weight(i) * d.to_f64()).sum();
            Ok(())
        })?;
        let best =
            (0..candidates).min_by(|&a, &b| lanes[a].2.total_cmp(&lanes[b].2)).expect("candidates");
        centres.push(lanes[best].0);
        std::mem::swap(&mut distances, &mut lanes[best].1);
    }
    Ok(centres)
}

/// Statistics of labelled points: the sums of a hard posterior that is given, each label about its own mean.
fn labelled_stats<T: Scalar>(
    family: &dyn ExponentialFamily,
    simd: Simd,
    sample: &Sample<T>,
    labels: &[u32],
    n_components: usize,
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
                if total > 0.0 { sum / total } else { 0.0 }
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
            let rows: Vec<T> =
                members.iter().flat_map(|&i| &sample.values[i * dim..][..dim]).copied().collect();
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

/// The mixture that one M-step makes of statistics; components without points are left out.
fn from_stats(
    family: Arc<dyn ExponentialFamily>,
    stats: &SuffStats,
    regularization: Regularization,
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
    let total: f64 = stats.mass().iter().sum();
    let mut kept = update.iter();
    parameters.components.retain(|_| *kept.next().expect("one flag a component"));
    let weights =
        stats.mass().iter().filter(|&&mass| mass > 0.0).map(|mass| mass / total).collect();
    Mixture::new(family, weights, parameters)
}
