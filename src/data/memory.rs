//! Points in memory.

use super::DataSource;
use super::weights::check_weights;
use crate::block::{Block, BlockBuf};
use crate::error::Result;
use crate::scalar::Scalar;
use faer::MatRef;
use std::borrow::Cow;

/// Holds points in memory, borrowed or owned; reading them copies nothing.
///
/// # Example
/// ```
/// use entropysum::data::{DataSource, Points};
/// let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
/// let points = Points::from_rows(&values, 2)?.with_weights(vec![1.0, 1.0, 0.5])?;
/// assert_eq!((points.len(), points.dim()), (3, 2));
/// assert_eq!(points.view()[(2, 0)], 5.0);
/// # Ok::<(), entropysum::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Points<'a, T> {
    values: Values<'a, T>,
    dim: usize,
    weights: Option<Cow<'a, [f64]>>,
    name: String,
    column_names: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
enum Values<'a, T> {
    Borrowed(MatRef<'a, T>),
    /// Row-major.
    Owned(Vec<T>),
}

impl<'a, T: Scalar> Points<'a, T> {
    /// Borrows points that lie one after another.
    ///
    /// # Errors
    /// [`DataError`](crate::error::DataError) if `dim` is 0 or the length is not a multiple of it.
    pub fn from_rows(values: &'a [T], dim: usize) -> Result<Self> {
        Ok(Self::new(Values::Borrowed(Block::from_rows(values, dim)?.points), dim))
    }

    /// Borrows a matrix with one row a point, whatever its strides.
    ///
    /// # Errors
    /// [`DataError`](crate::error::DataError) if it has no columns.
    pub fn from_mat(points: MatRef<'a, T>) -> Result<Self> {
        Block::<T>::from_rows(&[], points.ncols())?;
        Ok(Self::new(Values::Borrowed(points), points.ncols()))
    }

    /// Takes over points that lie one after another.
    ///
    /// # Errors
    /// [`DataError`](crate::error::DataError) if `dim` is 0 or the length is not a multiple of it.
    pub fn owned(values: Vec<T>, dim: usize) -> Result<Self> {
        Block::from_rows(&values, dim)?;
        Ok(Self::new(Values::Owned(values), dim))
    }

    fn new(values: Values<'a, T>, dim: usize) -> Self {
        Self { values, dim, weights: None, name: "memory".to_owned(), column_names: None }
    }

    /// Gives each point a weight, owned or borrowed: the number of times that it counts.
    ///
    /// # Errors
    /// If a weight is negative or not finite, or their number is not that of the points.
    pub fn with_weights(mut self, weights: impl Into<Cow<'a, [f64]>>) -> Result<Self> {
        let weights = weights.into();
        check_weights(&self.name, &weights, self.view().nrows() as u64)?;
        self.weights = Some(weights);
        Ok(self)
    }

    /// Sets the name of the points in messages.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the names of the columns.
    ///
    /// # Panics
    /// If there are not as many names as columns.
    pub fn with_column_names(mut self, names: Option<Vec<String>>) -> Self {
        assert!(names.as_ref().is_none_or(|names| names.len() == self.dim), "one name a column");
        self.column_names = names;
        self
    }

    /// Returns all points, one row a point.
    pub fn view(&self) -> MatRef<'_, T> {
        match &self.values {
            Values::Borrowed(points) => *points,
            Values::Owned(values) => {
                MatRef::from_row_major_slice(values, values.len() / self.dim, self.dim)
            }
        }
    }

    /// Returns the weights, if there are any.
    pub fn weights(&self) -> Option<&[f64]> {
        self.weights.as_deref()
    }
}

impl<T: Scalar> DataSource<T> for Points<'_, T> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn len(&self) -> u64 {
        self.view().nrows() as u64
    }

    fn column_names(&self) -> Option<&[String]> {
        self.column_names.as_deref()
    }

    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        _: &'a mut BlockBuf<T>,
    ) -> Result<Block<'a, T>> {
        let all = Block { weights: self.weights(), ..Block::dense(self.view()) };
        Ok(all.slice(start as usize, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faer::Mat;

    #[test]
    fn every_kind_of_memory_gives_the_same_blocks_without_a_copy() {
        let values: Vec<f32> = (0u8..12).map(f32::from).collect();
        let columns = Mat::from_fn(4, 3, |i, j| (3 * i + j) as f32);
        let reversed = Mat::from_fn(4, 3, |i, j| (3 * (3 - i) + j) as f32);
        let weights = vec![1.0, 2.0, 3.0, 4.0];
        for points in [
            Points::from_rows(&values, 3).unwrap(),
            Points::owned(values.clone(), 3).unwrap(),
            Points::from_mat(columns.as_ref()).unwrap(),
            Points::from_mat(reversed.as_ref().reverse_rows()).unwrap(),
        ] {
            let points = points.with_weights(weights.clone()).unwrap();
            let mut buffer = BlockBuf::default();
            let block = points.read(1, 2, &mut buffer).unwrap();
            assert_eq!(block.points, columns.as_ref().subrows(1, 2));
            assert_eq!(block.points.as_ptr(), points.view().subrows(1, 2).as_ptr());
            assert_eq!((block.weights, block.first), (Some(&[2.0, 3.0][..]), 1));
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let message = |points: Result<Points<f64>>| points.unwrap_err().to_string();
        let odd = "memory: found 5 values, expected a multiple of the dimension 2";
        assert_eq!(message(Points::from_rows(&[0.0; 5], 2)), odd);
        assert_eq!(message(Points::owned(vec![0.0; 5], 2)), odd);
        let flat = "memory: points have dimension 0, expected at least 1";
        assert_eq!(message(Points::from_rows(&[], 0)), flat);
        assert_eq!(message(Points::owned(vec![], 0)), flat);
        assert_eq!(message(Points::from_mat(Mat::new().as_ref())), flat);
    }

    #[test]
    fn names_and_weights_are_kept() {
        let points = Points::owned(vec![0.0f64; 2], 1).unwrap();
        assert_eq!(points.name(), "memory");
        let points = points.named("iris");
        assert_eq!(points.name(), "iris");
        let fault = points.with_weights(vec![1.0, -1.0]).unwrap_err().to_string();
        assert!(fault.starts_with("iris: row 1: weight -1 "), "{fault}");
        assert!(Points::owned(Vec::<f64>::new(), 3).unwrap().is_empty());
    }
}
