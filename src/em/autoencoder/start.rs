//! The start of a fit: units of the points, and random weights.

use super::AutoencoderSpec;
use crate::block::BlockBuf;
use crate::data::shuffle::BadRows;
use crate::data::{self, DataSource};
use crate::em::fitting::Fitting;
use crate::error::{DataError, Error, Result};
use crate::model::{Layer, Noise, VariationalAutoencoder, VariationalAutoencoderParts};
use crate::point_faults::first_fault;
use crate::rng::{self, Rng};
use crate::scalar::Scalar;

/// Points that tell the units of the columns, at most: their mean is then within a hundredth of a standard deviation.
const POINTS: u64 = 1 << 16;

/// Consecutive points that are read at once; the pieces are spread evenly, since files may be sorted.
const READ: u64 = 1 << 10;

/// Variance of all posteriors at the start. Wide posteriors drown what the decoder should learn, and narrow ones cost entropy. Of 1, 0.3,
/// 0.1 and 0.03 it had the best mean bound on a curve in three dimensions, from four starts with tanh and four with relu.
const START_VARIANCE: f64 = 0.3;

/// Makes the model of the `run`-th random start.
///
/// Networks see columns about their mean, in units of their standard deviation. If dimensions share a noise variance they share the unit
/// too, the root of the mean variance. Weights are uniform with the limits of Glorot & Bengio (2010), as in scikit-learn;
/// posteriors begin with the same variance at every point.
///
/// # Errors
/// If a point cannot be read, or has a value that is not finite; if no point has weight.
pub(super) fn random<T: Scalar>(
    spec: &AutoencoderSpec,
    fitting: &Fitting<'_, T, VariationalAutoencoder>,
    run: u64,
) -> Result<VariationalAutoencoder> {
    let source = fitting.points();
    let skips = fitting.stream().is_some_and(|stream| stream.bad_rows == BadRows::Skip);
    let bad_values = match (spec.ignores_missing, skips) {
        (true, _) => BadValues::Missing,
        (false, true) => BadValues::SkipRow,
        (false, false) => BadValues::Refuse,
    };
    let (centre, variances) = units(source, bad_values)?;
    let (dim, latents) = (centre.len(), spec.latents);
    let shared = variances.iter().sum::<f64>() / dim as f64;
    // A constant column takes the unit of the others, and constant points take 1.
    let unit = |variance: f64| match (variance > 0.0, shared > 0.0) {
        (true, _) => variance.sqrt(),
        (false, true) => shared.sqrt(),
        (false, false) => 1.0,
    };
    let scale: Vec<f64> = match spec.noise {
        Noise::Isotropic => vec![unit(shared); dim],
        Noise::Diagonal => variances.iter().map(|&variance| unit(variance)).collect(),
    };
    check_room(spec, dim)?;
    let mut rng = rng::stream(fitting.settings().seed, run);
    let mut sizes = vec![dim];
    sizes.extend(&spec.hidden);
    let mut encoder = layers(&sizes, &mut rng)?;
    let last = sizes[sizes.len() - 1];
    let mut heads = glorot(last, latents, &mut rng);
    heads.resize(2 * latents * last, 0.0);
    let biases = [vec![0.0; latents], vec![START_VARIANCE.ln(); latents]].concat();
    encoder.push(Layer::new(last, &heads, &biases)?);
    let mut sizes = vec![latents];
    if !spec.is_linear() {
        sizes.extend(spec.hidden.iter().rev());
    }
    sizes.push(dim);
    let noise = scale.iter().map(|scale| scale * scale);
    VariationalAutoencoder::new(VariationalAutoencoderParts {
        encoder,
        decoder: layers(&sizes, &mut rng)?,
        activation: spec.activation,
        prior: spec.prior,
        prior_scales: vec![1.0; latents],
        noise: spec.noise,
        noise_variances: match spec.noise {
            Noise::Isotropic => noise.take(1).collect(),
            Noise::Diagonal => noise.collect(),
        },
        centre,
        scale,
    })
}

/// Refuses networks that this machine has no addresses for.
fn check_room(spec: &AutoencoderSpec, dim: usize) -> Result<()> {
    let mut sizes = vec![dim];
    sizes.extend(&spec.hidden);
    sizes.push(2 * spec.latents.min(usize::MAX / 2));
    let weights = sizes.windows(2).map(|it| it[0].checked_mul(it[1]));
    let total = weights.sum::<Option<usize>>();
    if total.is_some_and(|n| Vec::<f64>::new().try_reserve_exact(n).is_ok()) {
        return Ok(());
    }
    Err(Error::Config(format!(
        "the layers of sizes {sizes:?} do not fit into memory: take fewer units"
    )))
}

/// Returns layers between these sizes, without biases.
pub(in crate::em) fn layers(sizes: &[usize], rng: &mut Rng) -> Result<Vec<Layer>> {
    let layer = |sizes: &[usize]| {
        let weights = glorot(sizes[0], sizes[1], rng);
        Layer::new(sizes[0], &weights, &vec![0.0; sizes[1]])
    };
    sizes.windows(2).map(layer).collect()
}

/// Draws weights between `±√(6 / (inputs + outputs))`.
fn glorot(inputs: usize, outputs: usize, rng: &mut Rng) -> Vec<f64> {
    let limit = (6.0 / (inputs + outputs) as f64).sqrt();
    (0..inputs * outputs).map(|_| limit * (2.0 * rng::uniform(rng) - 1.0)).collect()
}

/// What values that are not finite mean for [`units`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::em) enum BadValues {
    Refuse,
    SkipRow,
    /// NaN is a missing value. Others are refused by the first pass.
    Missing,
}

/// Returns weighted means and variances of the columns, of points spread over the source.
pub(in crate::em) fn units<T: Scalar>(
    source: &dyn DataSource<T>,
    bad_values: BadValues,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let (n, dim) = (source.len(), source.dim());
    let mut buffer = BlockBuf::default();
    let [mut weights, mut mean, mut squares] = [(); 3].map(|()| vec![0.0; dim]);
    let mut weight = 0.0;
    let n_pieces = n.min(POINTS).div_ceil(READ);
    for piece in 0..n_pieces {
        let start = (u128::from(n) * u128::from(piece) / u128::from(n_pieces)) as u64;
        let count = READ.min(n - start) as usize;
        let block = data::read(source, false, start, count, &mut buffer)?;
        for (i, row) in block.points.row_iter().enumerate() {
            let is_bad = row.iter().any(|value| !value.is_finite());
            match bad_values {
                BadValues::Refuse if is_bad => {
                    return Err(first_fault(source, &[], block).into());
                }
                BadValues::SkipRow if is_bad => continue,
                _ => {}
            }
            let own = block.weights.map_or(1.0, |weights| weights[i]);
            if !(own > 0.0) {
                continue;
            }
            weight += own;
            for (d, value) in row.iter().enumerate().filter(|(_, value)| value.is_finite()) {
                // Welford's update: differences before squares.
                weights[d] += own;
                let difference = value.to_f64() - mean[d];
                mean[d] += own / weights[d] * difference;
                squares[d] += own * difference * (value.to_f64() - mean[d]);
            }
        }
    }
    if !(weight > 0.0) {
        let message = "there are no points of positive weight";
        return Err(DataError::new(source.name(), message).into());
    }
    for (sum, weight) in squares.iter_mut().zip(&weights).filter(|(_, weight)| **weight > 0.0) {
        *sum = (*sum / weight).max(0.0);
    }
    Ok((mean, squares))
}
