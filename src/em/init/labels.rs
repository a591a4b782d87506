//! Labels points of a subsample by the components that they start.

use super::Init;
use super::subsample::{
    MIN_SUBSAMPLE, POINTS_PER_COMPONENT, Sample, add_labelled, check_counts, rows_drawn, subsample,
};
use super::two_levels::two_levels;
use crate::data::DataSource;
use crate::data::memory::Points;
use crate::data::shuffle::BadRows;
use crate::em::config::Config;
use crate::em::fitting::fit;
use crate::error::{DataError, Error, Result};
use crate::exec::Executor;
use crate::family::label::LabelBlock;
use crate::family::{
    Covariance, ExponentialFamily, Feature, Gaussian, Parameters, Regularization, Statistic,
};
use crate::inference;
use crate::kernels::dispatch::Simd;
use crate::kernels::distance::nearest;
use crate::kernels::statistics::{self, Tile};
use crate::model::{Mixture, Posterior};
use crate::monitor::Silent;
use crate::rng;
use crate::scalar::Scalar;
use faer::MatRef;
use rand_xoshiro::Xoshiro256PlusPlus;
use std::sync::Arc;

/// Components beyond which k-means++ takes too long, and seeds are drawn in two levels.
pub(super) const MANY_COMPONENTS: usize = 500;

/// Points of the subsample for each of so many components.
const POINTS_PER_MANY: u64 = 24;

/// Hard-EM sweeps over the subsample after k-means++; "a few" settle it, later EM does the rest.
const HARD_SWEEPS: usize = 10;

/// Points a component below which a fifth of the points tells too little of a labelling: two of each component.
const POINTS_TO_COMPARE: f64 = 10.0;

enum Seeding {
    PlusPlus,
    Uniform,
}

/// The components that the points of a subsample start.
pub(in crate::em) struct Labelling {
    pub(in crate::em) labels: Vec<u32>,
    /// How many components could be placed; labels are below it.
    pub(in crate::em) placed: usize,
}

/// What a start is to draw.
#[derive(Clone, Copy)]
pub(in crate::em) struct Wanted {
    pub(in crate::em) n_components: usize,
    pub(in crate::em) bad_rows: BadRows,
}

/// How the points of a sample get their labels: each by the nearest of some centres.
struct Method {
    features: Vec<Feature>,
    seeding: Seeding,
    sweeps: usize,
}

impl Method {
    /// Lists the labellings that a start compares; none if labels are drawn.
    ///
    /// k-means in columns of unit variance finds clusters whatever the units are, k-means in the given units those that stand out of many
    /// columns that tell nothing. The nearest of random points are clusters of no shape, which k-means cannot begin with.
    fn of<M>(
        init: &Init<M>,
        family: &dyn ExponentialFamily,
        n_points: f64,
        n_components: usize,
    ) -> Vec<Self> {
        let k_means = |features| Self { features, seeding: Seeding::PlusPlus, sweeps: HARD_SWEEPS };
        let random = || Self { features: family.features(), seeding: Seeding::Uniform, sweeps: 0 };
        let mut all: Vec<Self> = match init {
            Init::Random => Vec::new(),
            Init::RandomFromData => vec![random()],
            Init::KMeansPlusPlus => family.scales().into_iter().map(k_means).collect(),
            Init::Auto | Init::Model(_) => {
                let own_units = Feature::in_common_units(family.features());
                let scales = family.scales().into_iter().chain(own_units).map(k_means);
                scales.chain([random()]).collect()
            }
        };
        let tells_little = n_points < POINTS_TO_COMPARE * n_components as f64;
        if n_components == 1 || n_components > MANY_COMPONENTS || tells_little {
            all.truncate(1);
        }
        all
    }
}

/// Draws the subsample of the `run`-th start and labels it, in one way or in several. Points whose component is known have it.
pub(in crate::em) fn labellings<T: Scalar, M>(
    init: &Init<M>,
    family: &dyn ExponentialFamily,
    Wanted { n_components, bad_rows }: Wanted,
    source: &dyn DataSource<T>,
    executor: &Executor,
    config: &Config,
    run: u64,
) -> Result<(Sample<T>, Vec<Labelling>)> {
    let sample = draw(family, Wanted { n_components, bad_rows }, source, config, run)?;
    let known = LabelBlock::of(family).map(|known| Known::of(&sample, known));
    let known = known.as_ref();
    let rng = || rng::stream(config.seed, 3 * run + 1);
    let label = |Method { features, seeding, sweeps }: Method| {
        let features = Features::new(&sample, &features, executor.simd());
        match n_components > MANY_COMPONENTS && sweeps > 0 && known.is_none() {
            true => two_levels(&features, n_components, executor, &mut rng()),
            false => cluster(&features, n_components, known, seeding, sweeps, executor, &mut rng()),
        }
    };
    let methods = Method::of(init, family, sample.size(), n_components);
    let mut found = methods.into_iter().map(label).collect::<Result<Vec<_>>>()?;
    if found.is_empty() {
        let mut rng = rng();
        let label = |_| rng::below(&mut rng, n_components as u64) as u32;
        found.push(((0..sample.len()).map(label).collect(), n_components));
    }
    let with_known = |(mut labels, mut placed): (Vec<u32>, usize)| {
        if let Some(known) = known {
            placed = placed.max(known.n_labels);
            for (label, own) in labels.iter_mut().zip(&known.labels) {
                *label = own.unwrap_or(*label);
            }
        }
        Labelling { labels, placed }
    };
    let found = found.into_iter().map(with_known).collect();
    Ok((sample, found))
}

/// Draws the subsample of the `run`-th start.
fn draw<T: Scalar>(
    family: &dyn ExponentialFamily,
    Wanted { n_components, bad_rows }: Wanted,
    source: &dyn DataSource<T>,
    config: &Config,
    run: u64,
) -> Result<Sample<T>> {
    check_counts(source, n_components)?;
    config.check()?;
    let mut sample = subsample(
        source,
        &family.domains(),
        sample_size(n_components, source.dim()),
        bad_rows == BadRows::Skip,
        &mut rng::stream(config.seed, 3 * run),
    )?;
    if let Some(known) = LabelBlock::of(family) {
        if known.labels > n_components {
            return Err(Error::Config(format!(
                "{} has {} labels, more than the {n_components} components asked for",
                source.name(),
                known.labels
            )));
        }
        add_labelled(&mut sample, source, known, &family.domains())?;
    }
    for d in 0..sample.dim {
        if sample.values.iter().skip(d).step_by(sample.dim).all(|x| x.to_f64().is_nan()) {
            let message = format!("all of the {} values looked at are missing", sample.len());
            return Err(
                DataError { column: Some(d), ..DataError::new(source.name(), message) }.into()
            );
        }
    }
    Ok(sample)
}

fn sample_size(n_components: usize, dim: usize) -> u64 {
    let per_component = match n_components > MANY_COMPONENTS {
        true => POINTS_PER_MANY,
        false => POINTS_PER_COMPONENT.max(4 * dim as u64),
    };
    (per_component * n_components as u64).max(MIN_SUBSAMPLE)
}

/// Returns the rows that [`draw`] takes of points that lie elsewhere.
pub(super) fn rows_of_start(
    len: u64,
    weights: Option<&[f64]>,
    dim: usize,
    n_components: usize,
    seed: u64,
    run: u64,
) -> Result<Vec<u64>> {
    let wanted = sample_size(n_components, dim);
    rows_drawn(len, weights, wanted, &mut rng::stream(seed, 3 * run))
}

/// The points of a sample whose component is known.
struct Known {
    labels: Vec<Option<u32>>,
    n_labels: usize,
}

impl Known {
    fn of<T: Scalar>(sample: &Sample<T>, block: LabelBlock) -> Self {
        let values = sample.values.iter().skip(block.column).step_by(sample.dim);
        let label = |value: &T| (!value.to_f64().is_nan()).then(|| value.to_f64() as u32);
        Self { labels: values.map(label).collect(), n_labels: block.labels }
    }

    /// Returns the mean of the points of each label; of all points where a label has none.
    fn centres<T: Scalar>(&self, features: &Features<'_, T>) -> Vec<Vec<T>> {
        let centre = |label: usize| {
            let mut sums = vec![0.0; features.dim];
            let mut total = 0.0;
            for (i, own) in self.labels.iter().enumerate() {
                if *own == Some(label as u32) {
                    let weight = features.sample.weight(i);
                    total += weight;
                    for (sum, value) in sums.iter_mut().zip(features.row(i)) {
                        *sum += weight * value.to_f64();
                    }
                }
            }
            let mean = |sum: f64| T::from_f64(if total > 0.0 { sum / total } else { 0.0 });
            sums.into_iter().map(mean).collect()
        };
        (0..self.n_labels).map(centre).collect()
    }
}

/// A sample in the statistics that tell its clusters apart, each of mean 0 and variance 1.
pub(super) struct Features<'a, T> {
    pub(super) sample: &'a Sample<T>,
    /// Row-major, one row a point.
    pub(super) rows: Vec<T>,
    /// The same, column by column.
    columns: Vec<T>,
    pub(super) dim: usize,
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

    pub(super) fn row(&self, i: usize) -> &[T] {
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

/// Returns the mixture whose hard posteriors are the labels of k-means.
pub(super) fn hard_mixture(centres: Vec<Vec<f64>>, dim: usize) -> Result<Mixture> {
    let family = Arc::new(Gaussian::new(Covariance::TiedSpherical, dim));
    let weights = vec![1.0 / centres.len() as f64; centres.len()];
    let parameters = Parameters { components: centres, shared: vec![1.0] };
    let model = Mixture::new(family, weights, parameters)?;
    Ok(model.with_posterior(Posterior::Hard).with_fixed_weights(true))
}

/// Labels a sample by k-means in its features; returns how many centres could be placed. The first centres are those of the points
/// whose component is known.
fn cluster<T: Scalar>(
    features: &Features<'_, T>,
    n_components: usize,
    known: Option<&Known>,
    seeding: Seeding,
    sweeps: usize,
    executor: &Executor,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<(Vec<u32>, usize)> {
    let (sample, n, dim) = (features.sample, features.sample.len(), features.dim);
    let given = known.map(|known| known.centres(features)).unwrap_or_default();
    let centres = match seeding {
        Seeding::PlusPlus => k_means_plus_plus(features, n_components, given, executor, rng)?,
        Seeding::Uniform => {
            let mut centres = given;
            let mut left: Vec<usize> = (0..n).filter(|&i| sample.weight(i) > 0.0).collect();
            while centres.len() < n_components && !left.is_empty() {
                let i = left.swap_remove(rng::below(rng, left.len() as u64) as usize);
                if centres.iter().all(|centre| centre != features.row(i)) {
                    centres.push(features.row(i).to_vec());
                }
            }
            centres
        }
    };
    let placed = centres.len();
    let components =
        centres.iter().map(|centre| centre.iter().map(|v| v.to_f64()).collect()).collect();
    let model = hard_mixture(components, dim)?;
    let mut points = Points::from_rows(&features.rows, dim)?;
    if let Some(weights) = &sample.weights {
        points = points.with_weights(weights.clone())?;
    }
    let model = if sweeps == 0 {
        model
    } else {
        // Features are not rounded as points are, and labels do not depend on the variance.
        let regularization = Regularization { resolution: vec![0.0; dim], ..Default::default() };
        let config = Config { max_iter: sweeps, tol: 1e-4, regularization, ..Config::default() };
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
/// Goes on from the given centres. Returns fewer centres than asked for where there are fewer distinct points.
fn k_means_plus_plus<T: Scalar>(
    features: &Features<'_, T>,
    n_components: usize,
    given: Vec<Vec<T>>,
    executor: &Executor,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<Vec<Vec<T>>> {
    let (sample, tile) = (features.sample, &features.columns);
    let (n, dim) = (sample.len(), features.dim);
    let candidates = 2 + (n_components as f64).ln() as usize;
    let weight = |i: usize| sample.weight(i);
    let coordinates = |i: usize| (0..dim).map(|d| tile[d * n + i]).collect::<Vec<T>>();
    let mut centres = given;
    if centres.is_empty() {
        let Some(first) = rng::weighted(rng, (0..n).map(weight)) else {
            return Err(Error::Config("the weights of all points are zero".into()));
        };
        centres.push(coordinates(first));
    }
    let mut distances = vec![T::from_f64(f64::from(f32::MAX)); n];
    let mut next = vec![T::ZERO; n];
    for centre in &centres {
        nearest(executor.simd(), tile, n, centre, &distances, &mut next);
        std::mem::swap(&mut distances, &mut next);
    }
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
        centres.push(coordinates(lanes[best].0));
        std::mem::swap(&mut distances, &mut lanes[best].1);
    }
    Ok(centres)
}
