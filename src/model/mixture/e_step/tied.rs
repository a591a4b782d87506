//! Logits of components that share a covariance, by differences of whitened points.
//!
//! A shared factor whitens a point once, `z = F (x - centre)`. The logits are `bias - ½ |z - F (μ - centre)|²` then: D operations a
//! component, as the packed form has, and a sum of squares, which cannot cancel. In many dimensions `wide` takes less.

use super::super::Mixture;
use crate::family::Whitening;
use crate::kernels::dispatch::Simd;
use crate::kernels::statistics::Tile;
use crate::kernels::whitened::WhitenedMap;
use crate::scalar::Scalar;
use faer::linalg::matmul::matmul;
use faer::reborrow::ReborrowMut;
use faer::{Accum, MatMut, MatRef, Par};

/// Rows of the factor that are multiplied together.
const ROWS: usize = 16;

/// Components in whitened coordinates.
#[derive(Debug)]
pub(super) struct Tied<T> {
    /// The shared factor if it is dense, `D × D`, row-major.
    factor: Vec<T>,
    components: WhitenedMap<T>,
}

impl<T: Scalar> Tied<T> {
    /// Packs the components in their order, about `centre`.
    pub(super) fn new(model: &Mixture, order: &[usize], centre: &[f64]) -> Self {
        let dim = centre.len();
        let form = model.family.centred(model.theta(0)).expect("only location families cancel");
        let mut components = WhitenedMap::new(dim);
        for &c in order {
            let bias = model.weights[c].ln() + form.bias;
            let mean = model.family.location(model.theta(c));
            let shift: Vec<f64> = mean.iter().zip(centre).map(|(m, c)| m - c).collect();
            match &form.whitening {
                Whitening::Triangle(factor) => {
                    let row = |i: usize| factor[i * dim..].iter().zip(&shift).take(i + 1);
                    let whitened: Vec<f64> =
                        (0..dim).map(|i| row(i).map(|(f, s)| f * s).sum()).collect();
                    components.push(&whitened, &Whitening::Scale(1.0), bias);
                }
                whitening => components.push(&shift, whitening, bias),
            }
        }
        let factor = match form.whitening {
            Whitening::Triangle(factor) => factor.into_iter().map(T::from_f64).collect(),
            _ => Vec::new(),
        };
        Self { factor, components }
    }

    /// Writes the logits of a tile about the centre.
    pub(super) fn logits(
        &self,
        simd: Simd,
        tile: Tile<'_, T>,
        scratch: &mut [T],
        logits: &mut [T],
    ) {
        let (memory, scratch) = scratch.split_at_mut(tile.dim * tile.stride);
        self.components.logits(simd, self.whiten(tile, memory), scratch, logits);
    }

    /// Returns a tile about the centre in the coordinates of the components.
    fn whiten<'t>(&self, tile: Tile<'t, T>, memory: &'t mut [T]) -> Tile<'t, T> {
        let Tile { values, dim, n_points, stride } = tile;
        if self.factor.is_empty() {
            return tile;
        }
        let values = MatRef::from_column_major_slice_with_stride(values, n_points, dim, stride);
        let factor = MatRef::from_row_major_slice(&self.factor, dim, dim);
        let mut whitened =
            MatMut::from_column_major_slice_with_stride_mut(&mut *memory, n_points, dim, stride);
        // A block of rows of the triangle ends with its last row: zeros behind that would be most of half the work.
        for start in (0..dim).step_by(ROWS) {
            let rows = ROWS.min(dim - start);
            let end = start + rows;
            matmul(
                whitened.rb_mut().subcols_mut(start, rows),
                Accum::Replace,
                values.subcols(0, end),
                factor.submatrix(start, 0, rows, end).transpose(),
                T::ONE,
                Par::Seq,
            );
        }
        Tile { values: memory, dim, n_points, stride }
    }
}
