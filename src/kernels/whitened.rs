//! Gaussian forms of components: squares of whitened differences, and sums about each component's own centre.
//!
//! The packed form of a Gaussian logit, `η · T(x)`, adds terms as large as `|x - centre|² / σ²` up to a number of the size of D.
//! If a component is narrow and far from the common centre, this loses its digits, in `f32` above all. Here the difference
//! `x - centre` of the component comes first, and the logit is `bias - ½ |F (x - centre) + offset|²` with a triangular factor,
//! `F' F = Σ⁻¹`: a sum of squares, which cannot cancel. Sums of `x - centre` and of its products are taken about the same
//! centre.
//!
//! Both cost what their triangles have: D(D+1)/2 multiplications and additions a point, as the packed form does. A lane of a
//! register is a point, and blocks of rows stay in registers while the dimensions or the points pass. In many dimensions
//! sums may come from rows of points instead (`scatter`).

mod logits;
mod sums;

use self::logits::Logits;
use self::sums::{Flush, Sums};
use super::dispatch::Simd;
use super::statistics::Tile;
use crate::scalar::Scalar;

/// Rows of a triangle that stay in registers together, but for the last ones.
const ROWS: usize = 4;

/// Bytes of the longest vector of any instruction set.
const LONGEST_VECTOR: usize = 64;

/// Returns the number of rows of the block that begins with row `i`. A single last row joins the block before it: its sums
/// would wait for each other.
fn rows_from(i: usize, dim: usize) -> usize {
    if dim - i == ROWS + 1 { ROWS + 1 } else { ROWS.min(dim - i) }
}

/// A factor `F` of a precision matrix, `F' F = Σ⁻¹`.
#[derive(Clone, Debug, PartialEq)]
pub enum Whitening<T> {
    /// A multiple of the unit matrix.
    Scale(T),
    /// A diagonal matrix, D values.
    Diagonal(Vec<T>),
    /// A lower triangle in a `D × D` matrix, row-major.
    Triangle(Vec<T>),
}

/// Structure of the second moments that go with a factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// `Σ_d x_d²`
    Scale,
    /// `x_d²`
    Diagonal,
    /// `x_i x_j` for `i ≤ j`, by rows.
    Triangle,
}

/// Components in the layout of the kernels. All have the same kind of factor.
#[derive(Clone, Debug)]
pub struct WhitenedMap<T> {
    dim: usize,
    shape: Shape,
    /// C × D.
    centres: Vec<T>,
    /// `F (centre - mean)`, C × D: what rounding the centre to `T` has lost.
    offsets: Vec<T>,
    /// The same number of coefficients for each component: D values, or the rows of a triangle in blocks of four.
    coefficients: Vec<T>,
    bias: Vec<T>,
}

impl<T: Scalar> WhitenedMap<T> {
    /// Makes a map of no components.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            shape: Shape::Diagonal,
            centres: Vec::new(),
            offsets: Vec::new(),
            coefficients: Vec::new(),
            bias: Vec::new(),
        }
    }

    /// Adds a component of the logit `bias - ½ |F (x - mean)|²`.
    ///
    /// # Panics
    /// If the factor is of another kind than those before it.
    pub fn push(&mut self, mean: &[f64], whitening: &Whitening<f64>, bias: f64) {
        let dim = self.dim;
        let centre: Vec<T> = mean.iter().map(|&m| T::from_f64(m)).collect();
        let lost: Vec<f64> = centre.iter().zip(mean).map(|(c, m)| c.to_f64() - m).collect();
        let shape = match whitening {
            Whitening::Scale(scale) => {
                self.push_scales(&vec![*scale; dim], &lost);
                Shape::Scale
            }
            Whitening::Diagonal(scales) => {
                self.push_scales(scales, &lost);
                Shape::Diagonal
            }
            Whitening::Triangle(factor) => {
                self.push_triangle(factor, &lost);
                Shape::Triangle
            }
        };
        assert!(self.bias.is_empty() || self.shape == shape, "factors of one kind");
        self.shape = shape;
        self.centres.extend(centre);
        self.bias.push(T::from_f64(bias));
    }

    fn push_scales(&mut self, scales: &[f64], lost: &[f64]) {
        self.coefficients.extend(scales.iter().map(|&scale| T::from_f64(scale)));
        self.offsets.extend(scales.iter().zip(lost).map(|(scale, l)| T::from_f64(scale * l)));
    }

    fn push_triangle(&mut self, factor: &[f64], lost: &[f64]) {
        let dim = self.dim;
        let row = |i: usize| &factor[i * dim..][..=i];
        let offset = |i| row(i).iter().zip(lost).map(|(f, l)| f * l).sum::<f64>();
        self.offsets.extend((0..dim).map(|i| T::from_f64(offset(i))));
        let mut i = 0;
        while i < dim {
            let end = i + rows_from(i, dim);
            for j in 0..end {
                let at = |r: usize| row(r).get(j).copied().unwrap_or(0.0);
                self.coefficients.extend((i..end).map(|r| T::from_f64(at(r))));
            }
            i = end;
        }
    }

    /// Returns the number of dimensions.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Returns the number of components.
    pub fn len(&self) -> usize {
        self.bias.len()
    }

    /// Tells whether there are no components.
    pub fn is_empty(&self) -> bool {
        self.bias.is_empty()
    }

    /// Tells whether factors are triangles, and not diagonal.
    pub fn has_triangles(&self) -> bool {
        self.shape == Shape::Triangle
    }

    /// Returns the centre of the `k`-th component.
    pub fn centre(&self, k: usize) -> &[T] {
        &self.centres[k * self.dim..][..self.dim]
    }

    /// Returns the map of some of the components.
    pub fn slice(&self, components: std::ops::Range<usize>) -> Self {
        let part = |values: &[T]| {
            let each = values.len() / self.len().max(1);
            values[components.start * each..components.end * each].to_vec()
        };
        Self {
            centres: part(&self.centres),
            offsets: part(&self.offsets),
            coefficients: part(&self.coefficients),
            bias: part(&self.bias),
            ..*self
        }
    }

    /// Returns the length of the scratch memory for tiles whose columns are `stride` apart.
    pub fn scratch_len(dim: usize, stride: usize) -> usize {
        (dim + 1) * stride
    }

    /// Writes the logits `bias - ½ |F (x - mean)|²` of a tile: for each component a column.
    ///
    /// # Shapes
    /// `tile.values:` columns of points in the coordinates of the means; `scratch:` [`scratch_len`](Self::scratch_len) values; `logits: C` columns,
    /// `tile.stride` apart. Whole cache lines are read and written: what lies between columns receives numbers without meaning.
    ///
    /// # Panics
    /// If slices are too short, or the stride is no multiple of a cache line.
    pub fn logits(&self, simd: Simd, tile: Tile<'_, T>, scratch: &mut [T], logits: &mut [T]) {
        check(tile, self.dim, scratch);
        assert!(logits.len() >= self.len() * tile.stride, "too few logits");
        T::run_on_vectors(simd, Logits { map: self, tile, scratch, logits });
    }

    /// Returns the length of the lanes of a component's sums.
    pub fn lanes_len(&self) -> usize {
        let n_second = match self.shape {
            Shape::Scale => 1,
            Shape::Diagonal => self.dim,
            Shape::Triangle => self.dim * (self.dim + 1) / 2,
        };
        (self.dim + n_second) * (LONGEST_VECTOR / size_of::<T>())
    }

    /// Adds the sums of a tile under the weights of the `k`-th component, about its centre `c`, to the lanes of a vector for each:
    /// `Σ_n w_n (x_n - c)` and the second moments `Σ_n w_n (x_n - c)(x_n - c)'`. [`flush`](Self::flush) adds up the lanes.
    ///
    /// # Shapes
    /// As for [`logits`](Self::logits); `weights:` a column, of which what lies behind the points becomes zero; `lanes:`
    /// [`lanes_len`](Self::lanes_len) values, zeros at first.
    pub fn sums(
        &self,
        simd: Simd,
        k: usize,
        tile: Tile<'_, T>,
        weights: &mut [T],
        scratch: &mut [T],
        lanes: &mut [T],
    ) {
        check(tile, self.dim, scratch);
        assert!(lanes.len() >= self.lanes_len(), "too few lanes");
        weights[tile.n_points..tile.stride].fill(T::ZERO);
        T::run_on_vectors(simd, Sums { map: self, k, tile, weights, scratch, lanes });
    }

    /// Adds the lanes of a component's sums to totals in `f64`, and leaves zeros there.
    ///
    /// Each tile did so before, which took 5 to 10 % of a sweep over points of 7 and of 9 dimensions.
    ///
    /// # Shapes
    /// `first: D`; `second:` D(D+1)/2 products by rows of the upper triangle, D squares or a squared norm.
    pub fn flush(&self, simd: Simd, lanes: &mut [T], first: &mut [f64], second: &mut [f64]) {
        T::run_on_vectors(simd, Flush { lanes, first, second });
    }

    /// Returns the logit of one point under the `k`-th component, `bias - ½ |F (x - mean)|²`, in `f64`.
    ///
    /// `differences` is room for a point.
    pub fn logit(&self, k: usize, value: impl Fn(usize) -> f64, differences: &mut Vec<f64>) -> f64 {
        let dim = self.dim;
        let y = self.centre(k).iter().enumerate().map(|(d, c)| value(d) - c.to_f64());
        let each = self.coefficients.len() / self.len();
        let coefficients = &self.coefficients[k * each..][..each];
        let offsets = &self.offsets[k * dim..][..dim];
        let squares = match self.shape {
            Shape::Scale | Shape::Diagonal => {
                let factors = coefficients.iter().zip(offsets).zip(y);
                factors.map(|((f, o), y)| (f.to_f64() * y + o.to_f64()).powi(2)).sum::<f64>()
            }
            Shape::Triangle => {
                differences.clear();
                differences.extend(y);
                self.squares_of_rows(coefficients, offsets, differences)
            }
        };
        self.bias[k].to_f64() - 0.5 * squares
    }

    /// Returns `|F y + offset|²` for a triangle.
    fn squares_of_rows(&self, coefficients: &[T], offsets: &[T], differences: &[f64]) -> f64 {
        let (dim, mut rest) = (self.dim, coefficients);
        let (mut squares, mut i) = (0.0, 0);
        while i < dim {
            let n_rows = rows_from(i, dim);
            let mut rows = [0.0; ROWS + 1];
            let rows = &mut rows[..n_rows];
            rows.iter_mut().zip(&offsets[i..]).for_each(|(row, offset)| *row = offset.to_f64());
            let (block, after) = rest.split_at((i + n_rows) * n_rows);
            for (factors, y) in block.chunks_exact(n_rows).zip(differences) {
                for (row, factor) in rows.iter_mut().zip(factors) {
                    *row += factor.to_f64() * y;
                }
            }
            squares += rows.iter().map(|row| row * row).sum::<f64>();
            (rest, i) = (after, i + n_rows);
        }
        squares
    }

    /// Adds one point to the sums of the `k`-th component about its centre, in `f64`.
    ///
    /// # Shapes
    /// As for [`sums`](Self::sums); `differences` becomes as long as the point.
    pub fn add_point(
        &self,
        k: usize,
        value: impl Fn(usize) -> f64,
        weight: f64,
        differences: &mut Vec<f64>,
        first: &mut [f64],
        second: &mut [f64],
    ) {
        differences.clear();
        differences.extend(self.centre(k).iter().enumerate().map(|(d, c)| value(d) - c.to_f64()));
        let mut rest = second;
        for (i, (&y, first)) in differences.iter().zip(first).enumerate() {
            let weighted = weight * y;
            *first += weighted;
            match self.shape {
                Shape::Scale => rest[0] += weighted * y,
                Shape::Diagonal => rest[i] += weighted * y,
                Shape::Triangle => {
                    let (row, after) = rest.split_at_mut(self.dim - i);
                    for (sum, &y) in row.iter_mut().zip(&differences[i..]) {
                        *sum += weighted * y;
                    }
                    rest = after;
                }
            }
        }
    }
}

fn check<T>(tile: Tile<'_, T>, dim: usize, scratch: &[T]) {
    let Tile { values, n_points, stride, .. } = tile;
    assert!(
        stride >= n_points && (stride * size_of::<T>()).is_multiple_of(64),
        "whole cache lines"
    );
    assert!(values.len() >= dim * stride, "too few points");
    assert!(scratch.len() > dim * stride, "too little scratch memory");
}

#[cfg(test)]
mod tests;
