//! Sums of a component about its own centre, from rows of points: a lane of a register is a dimension, not a point.
//!
//! No sum across lanes ends a tile, and points of weight zero cost nothing: in many dimensions most points belong to few components.

use crate::aligned::Aligned;
use crate::kernels::dispatch::Simd;
use crate::kernels::scatter::moments;
use crate::kernels::softmax::padded_stride;
use crate::kernels::squares::{Weighted, list, squares};
use crate::kernels::whitened::WhitenedMap;
use crate::scalar::Scalar;
use faer::MatRef;

/// Least number of dimensions of a diagonal covariance. With 16 and 36 sweeps over letter and satellite took as long as from columns, with 64
/// over patches and digits 5 to 9 % less in `f32`.
const SQUARES: usize = 16;

/// Scratch memory.
#[derive(Debug)]
pub(super) struct Rows<T> {
    tile: Aligned<T>,
    products: Aligned<T>,
    weights: Vec<f64>,
    listed: Vec<Weighted<T>>,
    squares: Vec<T>,
}

impl<T: Scalar> Default for Rows<T> {
    fn default() -> Self {
        Self {
            tile: Aligned::default(),
            products: Aligned::default(),
            weights: Vec::new(),
            listed: Vec::new(),
            squares: Vec::new(),
        }
    }
}

/// Tells whether sums of triangles from rows are faster. Milliseconds of a sweep over patches with 16 components, from columns and from rows: D = 20
/// in `f32` 3.4 and 4.2, in `f64` 5.7 and 4.8; D = 24 5.2 and 4.6, 9.3 and 7.6; D = 64 28 and 16, 46 and 35 (AVX-512; AVX2 has the
/// same limits).
fn are_faster<T: Scalar>(dim: usize) -> bool {
    dim >= if size_of::<T>() == 4 { 24 } else { 16 }
}

impl<T: Scalar> Rows<T> {
    /// Adds first and second moments of points about the centre of a component, as [`WhitenedMap::sums`] does, if this is faster.
    /// Returns whether it has.
    pub fn add(
        &mut self,
        simd: Simd,
        points: MatRef<'_, T>,
        weights: &[T],
        (map, k): (&WhitenedMap<T>, usize),
        first: &mut [f64],
        second: &mut [f64],
    ) -> bool {
        let about = map.centre(k);
        if !map.has_triangles() {
            return self.add_squares(simd, points, weights, about, first, second);
        }
        if !are_faster::<T>(about.len()) {
            return false;
        }
        let stride = padded_stride::<T>(about.len());
        self.weights.clear();
        self.weights.extend(weights.iter().map(|weight| weight.to_f64()));
        self.tile.resize(points.nrows() * stride);
        self.products.resize(about.len() * stride);
        let memory = [&mut self.tile[..], &mut self.products];
        moments(simd, points, &self.weights, about, memory, stride, first, second);
        true
    }

    fn add_squares(
        &mut self,
        simd: Simd,
        points: MatRef<'_, T>,
        weights: &[T],
        about: &[T],
        first: &mut [f64],
        second: &mut [f64],
    ) -> bool {
        let dim = about.len();
        if dim < SQUARES || points.col_stride() != 1 {
            return false;
        }
        list(weights, &mut self.listed);
        // With a weight for each point, rows take a fifth more operations than columns.
        if 4 * self.listed.len() > 3 * weights.len() {
            return false;
        }
        self.squares.clear();
        self.squares.resize(2 * dim, T::ZERO);
        let (of_values, of_squares) = self.squares.split_at_mut(dim);
        squares(simd, points, &self.listed, about, [of_values, of_squares]);
        let add = |sums: &mut [f64], values: &[T]| {
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value.to_f64());
        };
        add(first, of_values);
        match second {
            [norm] => *norm += of_squares.iter().map(|value| value.to_f64()).sum::<f64>(),
            second => add(second, of_squares),
        }
        true
    }
}
