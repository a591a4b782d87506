//! Sums of a component about its own centre, from rows of points: a lane of a register is a dimension, not a point.
//!
//! No sum across lanes ends a tile, and points of weight zero cost nothing: in many dimensions most points belong to few components.

use crate::aligned::Aligned;
use crate::kernels::dispatch::Simd;
use crate::kernels::scatter::moments;
use crate::kernels::softmax::padded_stride;
use crate::kernels::whitened::WhitenedMap;
use crate::scalar::Scalar;
use faer::MatRef;

/// Scratch memory.
#[derive(Debug)]
pub(super) struct Rows<T> {
    tile: Aligned<T>,
    products: Aligned<T>,
    weights: Vec<f64>,
}

impl<T: Scalar> Default for Rows<T> {
    fn default() -> Self {
        Self { tile: Aligned::default(), products: Aligned::default(), weights: Vec::new() }
    }
}

/// Tells whether sums from rows are faster. Milliseconds of a sweep over patches with 16 components, from columns and from rows: D = 20
/// in `f32` 3.4 and 4.2, in `f64` 5.7 and 4.8; D = 24 5.2 and 4.6, 9.3 and 7.6; D = 64 28 and 16, 46 and 35 (AVX-512; AVX2 has the
/// same limits).
pub(super) fn are_faster<T: Scalar>(map: &WhitenedMap<T>, dim: usize) -> bool {
    map.has_triangles() && dim >= if size_of::<T>() == 4 { 24 } else { 16 }
}

impl<T: Scalar> Rows<T> {
    /// Adds first and second moments of points about a centre, as [`WhitenedMap::sums`] does.
    pub fn add(
        &mut self,
        simd: Simd,
        points: MatRef<'_, T>,
        weights: &[T],
        about: &[T],
        first: &mut [f64],
        second: &mut [f64],
    ) {
        let stride = padded_stride::<T>(about.len());
        self.weights.clear();
        self.weights.extend(weights.iter().map(|weight| weight.to_f64()));
        self.tile.resize(points.nrows() * stride);
        self.products.resize(about.len() * stride);
        let memory = [&mut self.tile[..], &mut self.products];
        moments(simd, points, &self.weights, about, memory, stride, first, second);
    }
}
