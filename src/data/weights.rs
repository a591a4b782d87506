//! Sample weights, and attaching them to a source that has none.

use super::DataSource;
use super::forward::forward;
use crate::block::{Block, BlockBuf};
use crate::error::{DataError, Result};
use crate::scalar::Scalar;

/// Gives the points of a source weights from a vector in memory.
///
/// Weights that the inner source has are replaced.
#[derive(Clone, Debug)]
pub struct Weighted<S> {
    source: S,
    weights: Vec<f64>,
}

impl<S> Weighted<S> {
    /// Gives each point of `source` its weight.
    ///
    /// # Errors
    /// If a weight is negative or not finite, or their number is not that of the points.
    pub fn new<T: Scalar>(source: S, weights: Vec<f64>) -> Result<Self>
    where
        S: DataSource<T>,
    {
        check_weights(&source.name(), &weights, source.len())?;
        Ok(Self { source, weights })
    }
}

impl<T: Scalar, S: DataSource<T>> DataSource<T> for Weighted<S> {
    forward!(source: name, dim, len, skipped, place, column_names, columns);

    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        let block = self.source.read(start, count, buffer)?;
        // There is a weight in memory for every point, so a point's index fits `usize`.
        let start = start as usize;
        Ok(Block { weights: Some(&self.weights[start..start + count]), ..block })
    }

    fn read_sparse<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<T>,
    ) -> Option<Block<'a, T>> {
        let block = self.source.read_sparse(start, count, buffer)?;
        let start = start as usize;
        Some(Block { weights: Some(&self.weights[start..start + count]), ..block })
    }
}

/// Checks that there is one weight a point, that all are finite and none negative, and that their sum is
/// positive and finite.
///
/// # Errors
/// A [`DataError`] of `source`, with the row of the first weight at fault.
pub fn check_weights(source: &str, weights: &[f64], points: u64) -> Result<()> {
    if weights.len() as u64 != points {
        let message =
            format!("found {} weights, expected one for each of {points} points", weights.len());
        return Err(DataError::new(source, message).into());
    }
    if let Some(row) = weights.iter().position(|weight| !(weight.is_finite() && *weight >= 0.0)) {
        let message = format!("weight {} is not a finite number of at least 0", weights[row]);
        return Err(DataError::new(source, message).at(row as u64, None).into());
    }
    let total: f64 = weights.iter().sum();
    if points > 0 && !(total > 0.0 && total.is_finite()) {
        let message = format!("the weights sum to {total}, expected a positive finite number");
        return Err(DataError::new(source, message).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::memory::Points;

    #[test]
    fn bad_weights_are_refused_with_their_row() {
        for (weights, expected) in [
            (vec![1.0, 1.0], "memory: found 2 weights, expected one for each of 3 points"),
            (vec![1.0, f64::NAN, 1.0], "memory: row 1: weight NaN "),
            (vec![1.0, 1.0, f64::INFINITY], "memory: row 2: weight inf "),
            (vec![-0.5, 1.0, 1.0], "memory: row 0: weight -0.5 "),
            (vec![0.0; 3], "memory: the weights sum to 0"),
            (vec![f64::MAX; 3], "memory: the weights sum to inf"),
        ] {
            let fault = check_weights("memory", &weights, 3).unwrap_err().to_string();
            assert!(fault.starts_with(expected), "{fault}");
        }
        assert!(check_weights("memory", &[], 0).is_ok());
    }

    #[test]
    fn blocks_carry_the_weights_of_their_points() {
        let points = Points::owned(vec![1.0f64, 2.0, 3.0, 4.0], 1).unwrap();
        let source = Weighted::new::<f64>(points, vec![0.1, 0.2, 0.3, 0.4]).unwrap();
        let mut buffer = BlockBuf::default();
        let block = source.read(1, 2, &mut buffer).unwrap();
        assert_eq!(block.weights, Some(&[0.2, 0.3][..]));
        assert_eq!((block.points[(0, 0)], block.first), (2.0, 1));
    }
}
