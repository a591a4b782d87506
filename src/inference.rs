//! Applies a fitted model to a source: labels, posteriors, densities, scores, latents and samples.
//!
//! Results are handed to a sink in the order of the points; nothing of size N × C is ever in memory.

mod component_search;

pub use component_search::ComponentSearch;
pub(crate) use component_search::{loss_of, read_rows, rows_of_a_sample};

use crate::block::{Block, BlockBuf};
use crate::data::{self, DataSource};
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::family::Domain;
use crate::model::{Density, GenerativeModel, LatentSpace, Sample, ScoredTile, SigmoidBeliefNet};
use crate::pairwise::InOrder;
use crate::point_faults::{check_domains, check_ranks, first_fault};
use crate::rng;
use crate::scalar::Scalar;
use bytemuck::Pod;

/// Points that one lane scores before results are handed on, if a point yields one number.
const CHUNK: usize = 4096;

/// Numbers that one lane may hold before they are handed on.
const CHUNK_VALUES: usize = 1 << 18;

/// Lanes of a round; results of a round are in memory together.
const LANES: u64 = 16;

/// Log-likelihood and information criteria of a model on a set of points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Number of points N.
    pub n_points: u64,
    /// Their total weight W.
    pub total_weight: f64,
    /// Mean log-density per unit of weight, in nats.
    pub log_likelihood: f64,
    /// Mean entropy of the exact posteriors over components, in nats; 0 where there are none, so that ICL is BIC.
    pub posterior_entropy: f64,
    /// Number of free parameters p of the model.
    pub n_parameters: usize,
}

impl Score {
    /// Returns the score of these points and others together, under the same model.
    ///
    /// ```
    /// use entropysum::inference::Score;
    ///
    /// let score = |n_points, log_likelihood| Score {
    ///     n_points,
    ///     total_weight: n_points as f64,
    ///     log_likelihood,
    ///     posterior_entropy: 0.5,
    ///     n_parameters: 3,
    /// };
    /// let both = score(100, -1.0).with(&score(300, -2.0));
    /// assert_eq!((both.n_points, both.log_likelihood, both.posterior_entropy), (400, -1.75, 0.5));
    /// ```
    pub fn with(&self, other: &Self) -> Self {
        let total_weight = self.total_weight + other.total_weight;
        let mean = |own: f64, others: f64| {
            (self.total_weight * own + other.total_weight * others) / total_weight
        };
        Self {
            n_points: self.n_points + other.n_points,
            total_weight,
            log_likelihood: mean(self.log_likelihood, other.log_likelihood),
            posterior_entropy: mean(self.posterior_entropy, other.posterior_entropy),
            n_parameters: self.n_parameters,
        }
    }

    /// Computes the Bayesian information criterion `-2 W ℓ + p ln W`; lower is better, as in scikit-learn.
    pub fn bic(&self) -> f64 {
        -2.0 * self.total_weight * self.log_likelihood
            + self.n_parameters as f64 * self.total_weight.ln()
    }

    /// Computes the Akaike information criterion `-2 W ℓ + 2 p`; lower is better.
    pub fn aic(&self) -> f64 {
        -2.0 * self.total_weight * self.log_likelihood + 2.0 * self.n_parameters as f64
    }

    /// Computes the integrated completed likelihood `bic + 2 W mean_n H[q_n]` (Biernacki, Celeux & Govaert 2000); lower is better.
    pub fn icl(&self) -> f64 {
        self.bic() + 2.0 * self.total_weight * self.posterior_entropy
    }
}

/// Computes the mean log-density of points and the terms of information criteria.
///
/// # Errors
/// If dimensions differ, if the source is empty, if reading fails, or if a point has no finite density.
pub fn score<T: Scalar, M: Density<T>>(
    model: &M,
    source: &dyn DataSource<T>,
    executor: &Executor,
) -> Result<Score> {
    let (mut weight, mut likelihood, mut entropy) = (0.0, 0.0, 0.0);
    for_each_tile(
        model,
        source,
        executor,
        true,
        CHUNK,
        &|sums: &mut Vec<f64>, tile| {
            sums.resize(3, 0.0);
            match tile.weights {
                None => {
                    sums[0] += tile.log_density.len() as f64;
                    sums[1] += tile.log_density.iter().sum::<f64>();
                }
                Some(weights) => {
                    sums[0] += weights.iter().sum::<f64>();
                    sums[1] +=
                        tile.log_density.iter().zip(weights).map(|(l, w)| l * w).sum::<f64>();
                }
            }
            sums[2] += tile.posterior_entropy;
        },
        &mut |_, sums| {
            for sums in sums.chunks_exact(3) {
                weight += sums[0];
                likelihood += sums[1];
                entropy += sums[2];
            }
            Ok(())
        },
    )?;
    if !(weight > 0.0) {
        return Err(no_weight(source));
    }
    Ok(Score {
        n_points: source.len(),
        total_weight: weight,
        log_likelihood: likelihood / weight,
        posterior_entropy: entropy / weight,
        n_parameters: model.n_parameters(),
    })
}

fn no_weight<T: Scalar>(source: &dyn DataSource<T>) -> Error {
    Error::Config(format!("{} has no points of positive weight", source.name()))
}

/// Hands the log-density of each point, in nats, to `sink`, with the index of the first of each batch.
///
/// # Errors
/// As [`score`], and those of the sink.
pub fn score_samples<T: Scalar, M: Density<T>>(
    model: &M,
    source: &dyn DataSource<T>,
    executor: &Executor,
    mut sink: impl FnMut(u64, &[f64]) -> Result<()>,
) -> Result<()> {
    for_each_tile(
        model,
        source,
        executor,
        false,
        CHUNK,
        &|out: &mut Vec<f64>, tile| out.extend_from_slice(tile.log_density),
        &mut sink,
    )
}

/// Hands the most probable component of each point to `sink`, with the index of the first of each batch.
///
/// # Errors
/// As [`score`], and those of the sink.
///
/// # Panics
/// If the model has no components.
pub fn predict<T: Scalar, M: Density<T>>(
    model: &M,
    source: &dyn DataSource<T>,
    executor: &Executor,
    mut sink: impl FnMut(u64, &[u32]) -> Result<()>,
) -> Result<()> {
    assert!(model.n_components() > 0, "a model without components has no labels");
    for_each_tile(
        model,
        source,
        executor,
        false,
        CHUNK,
        &|out: &mut Vec<u32>, tile| {
            let mut best = vec![(0, T::ZERO); tile.log_density.len()];
            for (c, column) in tile.responsibilities.chunks(tile.stride).enumerate() {
                for (best, &r) in best.iter_mut().zip(column) {
                    if r > best.1 {
                        *best = (c as u32, r);
                    }
                }
            }
            out.extend(best.iter().map(|&(c, _)| c));
        },
        &mut sink,
    )
}

/// Hands the posterior probabilities of each point, row-major B × C, to `sink`, with the index of the first of each batch.
///
/// # Errors
/// As [`score`], and those of the sink.
///
/// # Panics
/// If the model has no components.
pub fn predict_proba<T: Scalar, M: Density<T>>(
    model: &M,
    source: &dyn DataSource<T>,
    executor: &Executor,
    mut sink: impl FnMut(u64, &[f64]) -> Result<()>,
) -> Result<()> {
    assert!(model.n_components() > 0, "a model without components has no posteriors over them");
    for_each_tile(
        model,
        source,
        executor,
        false,
        (CHUNK_VALUES / model.n_components()).clamp(256, CHUNK),
        &|out: &mut Vec<f64>, tile| {
            for i in 0..tile.log_density.len() {
                out.extend(
                    tile.responsibilities.chunks(tile.stride).map(|column| column[i].to_f64()),
                );
            }
        },
        &mut sink,
    )
}

/// Hands the posterior means of the latents of each point, row-major B × H, to `sink`, with the index of the first of
/// each batch.
///
/// # Errors
/// If dimensions differ, or a point cannot be read or has no finite latents; those of the sink.
pub fn transform<T: Scalar, M: LatentSpace<T>>(
    model: &M,
    source: &dyn DataSource<T>,
    executor: &Executor,
    mut sink: impl FnMut(u64, &[f64]) -> Result<()>,
) -> Result<()> {
    map_points(model, source, executor, model.n_latents(), &mut sink, &M::transform)
}

/// Hands `samples` draws from the posterior of the latents of each point, row-major B × samples × H, to `sink`, with the index of the first
/// of each batch. Draws follow from the row of a point alone.
///
/// # Errors
/// As [`transform`]; [`Error::Model`] if the model draws no latents.
pub fn draw_latents<T: Scalar, M: LatentSpace<T>>(
    model: &M,
    source: &dyn DataSource<T>,
    samples: usize,
    executor: &Executor,
    mut sink: impl FnMut(u64, &[f64]) -> Result<()>,
) -> Result<()> {
    if !model.draws_latents() {
        let message = "draws from posteriors of latents are those of autoencoders and sparse codes";
        return Err(Error::Model(message.to_owned()));
    }
    let width = model.n_latents() * samples;
    map_points(model, source, executor, width, &mut sink, &|model, packed, block, latents| {
        model.draw_latents(packed, block, samples, latents);
    })
}

/// Hands what the model makes of each point given the posterior means of its latents, row-major B × D, to `sink`, with
/// the index of the first of each batch.
///
/// # Errors
/// As [`transform`].
pub fn reconstruct<T: Scalar, M: LatentSpace<T>>(
    model: &M,
    source: &dyn DataSource<T>,
    executor: &Executor,
    mut sink: impl FnMut(u64, &[f64]) -> Result<()>,
) -> Result<()> {
    map_points(model, source, executor, model.dim(), &mut sink, &M::reconstruct)
}

/// Hands the most probable state of the latents of each point, row-major B × (H + I), zeros and ones, to `sink`, with the
/// index of the first of each batch. With truncated posteriors it is the best state found.
///
/// # Errors
/// As [`transform`].
pub fn most_probable_states<T: Scalar>(
    model: &SigmoidBeliefNet,
    source: &dyn DataSource<T>,
    executor: &Executor,
    mut sink: impl FnMut(u64, &[f64]) -> Result<()>,
) -> Result<()> {
    let (width, map) = (model.n_latents(), &SigmoidBeliefNet::most_probable_states);
    map_points(model, source, executor, width, &mut sink, map)
}

/// What is done with the numbers of each batch; it gets the index of the first point.
type Sink<'a, V> = dyn FnMut(u64, &[V]) -> Result<()> + 'a;

/// How a model maps the points of a block to numbers.
type Map<'a, T, M> = dyn Fn(&M, &<M as Density<T>>::Packed, Block<'_, T>, &mut [f64]) + Sync + 'a;

/// Maps all points to `width` numbers each, in parallel.
fn map_points<T: Scalar, M: LatentSpace<T>>(
    model: &M,
    source: &dyn DataSource<T>,
    executor: &Executor,
    width: usize,
    sink: &mut Sink<'_, f64>,
    map: &Map<'_, T, M>,
) -> Result<()> {
    data::check_dim(source, model.dim())?;
    let packed = model.pack_for_scores(executor.simd());
    let visit = |block: Block<'_, T>, values: &mut Vec<f64>| {
        values.resize(block.len() * width, 0.0);
        map(model, &packed, block, values);
        values.iter().all(|value| value.is_finite())
    };
    let chunk = (CHUNK_VALUES / width.max(1)).clamp(256, CHUNK);
    for_each_chunk(Demands::of(model), source, executor, chunk, &|| Box::new(visit), sink)
}

/// Scores all tiles in parallel, and hands the result of each chunk on in order.
fn for_each_tile<T: Scalar, M: Density<T>, V: Pod + Send + Sync>(
    model: &M,
    source: &dyn DataSource<T>,
    executor: &Executor,
    weighted: bool,
    chunk: usize,
    visit: &(dyn Fn(&mut Vec<V>, ScoredTile<'_, T>) + Sync),
    sink: &mut Sink<'_, V>,
) -> Result<()> {
    data::check_dim(source, model.dim())?;
    let packed = model.pack_for_scores(executor.simd());
    let new = || {
        let (packed, mut workspace) = (&packed, model.workspace(&packed, None));
        Box::new(move |block: Block<'_, T>, result: &mut Vec<V>| {
            let mut finite = true;
            model.score(packed, block, weighted, &mut workspace, |tile| {
                finite &= tile.log_density.iter().all(|l| l.is_finite());
                visit(result, tile);
            });
            finite
        }) as Visit<'_, T, V>
    };
    for_each_chunk(Demands::of(model), source, executor, chunk, &new, sink)
}

/// What a model demands of points.
struct Demands {
    takes_sparse: bool,
    domains: Vec<Domain>,
}

impl Demands {
    fn of(model: &impl GenerativeModel) -> Self {
        Self { takes_sparse: model.takes_sparse(), domains: model.domains() }
    }
}

/// What a thread does with a block. It says whether all it found was finite.
type Visit<'a, T, V> = Box<dyn FnMut(Block<'_, T>, &mut Vec<V>) -> bool + Send + 'a>;

/// Visits all points in parallel, a few chunks at a time, and hands the values of all these chunks on in order. `new` makes what a
/// thread does; if a block is not finite, the first point at fault ends the whole.
///
/// Compiled once for all models, whose part is a call for each block.
fn for_each_chunk<'v, T: Scalar, V: Pod + Send + Sync>(
    Demands { takes_sparse, domains }: Demands,
    source: &dyn DataSource<T>,
    executor: &Executor,
    chunk: usize,
    new: &(dyn Fn() -> Visit<'v, T, V> + Sync + 'v),
    sink: &mut Sink<'_, V>,
) -> Result<()> {
    check_ranks(source, executor)?;
    let (n, chunk) = (source.len(), chunk as u64);
    let per_round = chunk * LANES * executor.ranks().map_or(1, |ranks| ranks.size() as u64);
    let (empty, mut memory) = (InOrder(Vec::new()), Vec::new());
    for start in (0..n).step_by(per_round as usize) {
        let n_lanes = per_round.min(n - start).div_ceil(chunk);
        let new = || (BlockBuf::default(), new());
        let visit = |(buffer, visit): &mut (_, Visit<'v, T, V>), values: &mut InOrder<V>, lane| {
            let first = start + lane * chunk;
            let count = chunk.min(n - first) as usize;
            let block = data::read(source, takes_sparse, first, count, buffer)?;
            check_domains(&domains, source, block)?;
            match visit(block, &mut values.0) {
                true => Ok(()),
                false => Err(first_fault(source, &domains, block).into()),
            }
        };
        sink(start, &executor.sum(n_lanes, &empty, &mut memory, new, visit)?.0)?;
    }
    Ok(())
}

/// Draws `n` points and the components they come from, where there are any; batches are handed to `sink` in order,
/// points row-major.
///
/// The same seed gives the same points on any number of threads.
///
/// # Errors
/// Those of the sink; [`Error::Model`] if a value is beyond the range of `f64`.
///
/// ```
/// use entropysum::{Executor, inference};
/// use entropysum::family::{Parameters, registry};
/// use entropysum::model::Mixture;
///
/// let components = vec![vec![0.0, 1.0], vec![100.0, 1.0]];
/// let parameters = Parameters { components, shared: vec![] };
/// let model = Mixture::new(registry::build("gaussian-diag", 1)?, vec![0.25, 0.75], parameters)?;
/// let mut labels = Vec::new();
/// inference::sample(&model, 1000, 42, &Executor::new(None)?, |points, components| {
///     assert!(points.iter().zip(components).all(|(x, &c)| (*x > 50.0) == (c == 1)));
///     labels.extend_from_slice(components);
///     Ok(())
/// })?;
/// let ones = labels.iter().filter(|&&c| c == 1).count();
/// assert!((700..800).contains(&ones));
/// # Ok::<(), entropysum::error::Error>(())
/// ```
pub fn sample(
    model: &impl Sample,
    n: u64,
    seed: u64,
    executor: &Executor,
    mut sink: impl FnMut(&[f64], &[u32]) -> Result<()>,
) -> Result<()> {
    let dim = model.dim();
    let sampler = model.sampler();
    let mut lanes = vec![(Vec::new(), Vec::new()); n.div_ceil(CHUNK as u64).min(LANES) as usize];
    let mut start = 0;
    while start < n {
        executor.for_each(&mut lanes, |index, (points, labels)| {
            let first = start + (index * CHUNK) as u64;
            let count = CHUNK.min(n.saturating_sub(first) as usize);
            points.resize(count * dim, 0.0);
            labels.clear();
            sampler(&mut rng::stream(seed, first / CHUNK as u64), points, labels);
            // NaN is the value of a column that no block of a product has.
            match points.iter().position(|value| value.is_infinite()) {
                Some(at) => Err(beyond_range(points[at], at % dim, labels.get(at / dim))),
                None => Ok(()),
            }
        })?;
        for (points, labels) in &lanes {
            if !points.is_empty() {
                sink(points, labels)?;
            }
        }
        start += (lanes.len() * CHUNK) as u64;
    }
    Ok(())
}

fn beyond_range(value: f64, dimension: usize, component: Option<&u32>) -> Error {
    let of = component.map_or(String::new(), |c| format!(" of component {c}"));
    Error::Model(format!(
        "the parameters{of} reach beyond the numbers of f64: a value drawn for dimension {dimension} is {value}"
    ))
}
