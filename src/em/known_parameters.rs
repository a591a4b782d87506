//! What the data tell of a family that nobody did.

use crate::block::BlockBuf;
use crate::data::{self, DataSource};
use crate::error::Result;
use crate::family::{KnownParameters, product, registry};
use crate::scalar::Scalar;

/// Points read at a time.
const POINTS: u64 = 4096;

/// Known parameters for [`registry::build_known`], with those added that data tell: the `levels` of categorical columns and the
/// `labels` of components, one more than their largest value, and the `total` of a multinomial, the mean one of its points. Takes a pass over
/// the data only where something is left to tell.
///
/// # Errors
/// If the name is none of a family, or reading fails.
///
/// ```
/// use entropysum::data::Points;
/// use entropysum::em::known_from_data;
/// use entropysum::family::KnownParameters;
///
/// let points = Points::<f64>::from_rows(&[0.0, 2.0, 1.0, 4.0], 2)?;
/// let known = known_from_data("categorical", &points, KnownParameters::default())?;
/// assert_eq!(known.get("levels"), Some(&[2.0, 5.0][..]));
/// # Ok::<(), entropysum::error::Error>(())
/// ```
pub fn known_from_data<T: Scalar>(
    name: &str,
    source: &dyn DataSource<T>,
    mut known: KnownParameters,
) -> Result<KnownParameters> {
    let dim = source.dim();
    let blocks = match product::is_product(name) {
        true => product::parse(name, &[])?,
        false => vec![(name.to_owned(), (0..dim).collect())],
    };
    let takes = |family: &str, key: &str| registry::known_parameters(family).contains(&key);
    let open = |key: &str, known: &KnownParameters| {
        known.get(key).is_none() && blocks.iter().any(|(family, _)| takes(family, key))
    };
    let (levels, total) = (open("levels", &known), open("total", &known));
    let labels = open("labels", &known);
    if !(levels || total || labels) {
        return Ok(known);
    }
    let (mut largest, mut sums) = (vec![0.0f64; dim], vec![0.0; dim]);
    let (mut buffer, mut start) = (BlockBuf::default(), 0);
    while start < source.len() {
        let count = POINTS.min(source.len() - start);
        let block = data::read(source, true, start, count as usize, &mut buffer)?;
        block.for_each(|_, d, value| {
            // NaN, which may stand for a missing value, is not the larger one.
            largest[d] = largest[d].max(value.to_f64());
            sums[d] += value.to_f64();
        });
        start += count;
    }
    for (key, is_open) in [("levels", levels), ("labels", labels)] {
        if is_open {
            known = known.with(key, largest.iter().map(|value| value.floor() + 1.0).collect());
        }
    }
    if total {
        let mut totals = vec![1.0; dim];
        for (_, columns) in blocks.iter().filter(|(family, _)| takes(family, "total")) {
            let own = || columns.iter().copied().filter(|&column| column < dim);
            let mean = own().map(|column| sums[column]).sum::<f64>() / source.len().max(1) as f64;
            own().for_each(|column| totals[column] = mean.round());
        }
        if totals.iter().all(|total| total.is_finite() && *total >= 0.0) {
            known = known.with("total", totals);
        }
    }
    Ok(known)
}
