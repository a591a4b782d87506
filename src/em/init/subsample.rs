//! Draws seeded subsamples of a source.

use crate::block::{Block, BlockBuf};
use crate::data::{self, DataSource};
use crate::error::{DataError, Error, Result};
use crate::family::Domain;
use crate::point_faults::first_fault;
use crate::rng;
use crate::scalar::Scalar;
use rand_xoshiro::Xoshiro256PlusPlus;

/// Points of the subsample per component. As many as FAISS trains on for a centroid at most.
pub(in crate::em) const POINTS_PER_COMPONENT: u64 = 256;

/// Points of the subsample at least, where there are as many.
pub(super) const MIN_SUBSAMPLE: u64 = 4096;

/// Points of a stretch that are tried where bad ones are left out.
const TRIES: usize = 16;

/// Refuses no components, and more than there are points.
pub(in crate::em) fn check_counts<T: Scalar>(
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
pub(in crate::em) struct Sample<T> {
    pub(in crate::em) values: Vec<T>,
    pub(super) weights: Option<Vec<f64>>,
    pub(in crate::em) dim: usize,
}

impl<T: Scalar> Sample<T> {
    pub(in crate::em) fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    /// Adds point `i` of a block, or puts it in the place of another.
    pub(super) fn take(
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

    pub(in crate::em) fn weight(&self, i: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |weights| weights[i])
    }
}

/// Draws `wanted` points of positive weight without replacement, or takes all where there are no more.
pub(super) fn subsample<T: Scalar>(
    source: &dyn DataSource<T>,
    domains: &[Domain],
    wanted: u64,
    skips: bool,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<Sample<T>> {
    let n = source.len();
    let mut buffer = BlockBuf::default();
    let weighted = n > 0 && data::read(source, false, 0, 1, &mut buffer)?.weights.is_some();
    let mut sample =
        Sample { values: Vec::new(), weights: weighted.then(Vec::new), dim: source.dim() };
    if n > wanted && !weighted {
        // One point of each of `wanted` equal stretches: no duplicates, and one pass in file order.
        for k in 0..wanted {
            let bound = |k: u64| (u128::from(n) * u128::from(k) / u128::from(wanted)) as u64;
            let (low, high) = (bound(k), bound(k + 1));
            for _ in 0..if skips { TRIES } else { 1 } {
                let block =
                    data::read(source, false, low + rng::below(rng, high - low), 1, &mut buffer)?;
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
        let block = data::read(source, false, start, count as usize, &mut buffer)?;
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
