//! Gaussian forms of components: squares of whitened differences, and sums about each component's own centre.
//!
//! The packed form of a Gaussian logit, `η · T(x)`, adds terms as large as `|x - centre|² / σ²` up to a number of the size of D.
//! If a component is narrow and far from the common centre, this loses its digits, in `f32` above all. Here the difference
//! `x - centre` of the component comes first, and the logit is `bias - ½ |F (x - centre) + offset|²` with a triangular factor,
//! `F' F = Σ⁻¹`: a sum of squares, which cannot cancel. Sums of `x - centre` and of its products are taken about the same
//! centre.
//!
//! Both cost what their triangles have: D(D+1)/2 multiplications and additions a point, as the packed form does. A lane of a
//! register is a point, and blocks of rows stay in registers while the dimensions or the points pass.

use super::dispatch::{Simd, VectorKernel, Vectors};
use super::statistics::Tile;
use crate::scalar::Scalar;

/// Rows of a triangle that stay in registers together, but for the last ones.
const ROWS: usize = 4;

/// Vectors of points that pass at a time where there are 32 registers, with five rows of sums in 20, or no rows.
const WIDE: usize = 4;

/// The same for rows of sums in 16 registers: they fill 10. Three vectors with four rows would fill 12, and the compiler then
/// keeps a sum in memory, which takes twice as long.
const NARROW: usize = 2;

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
        let shape = match whitening {
            Whitening::Scale(_) => Shape::Scale,
            Whitening::Diagonal(_) => Shape::Diagonal,
            Whitening::Triangle(_) => Shape::Triangle,
        };
        assert!(self.bias.is_empty() || self.shape == shape, "factors of one kind");
        self.shape = shape;
        let centre: Vec<T> = mean.iter().map(|&m| T::from_f64(m)).collect();
        let lost: Vec<f64> = centre.iter().zip(mean).map(|(c, m)| c.to_f64() - m).collect();
        match whitening {
            Whitening::Triangle(factor) => {
                let row = |i: usize| &factor[i * dim..][..=i];
                let offset = |i| row(i).iter().zip(&lost).map(|(f, l)| f * l).sum::<f64>();
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
            _ => {
                let scale = |d: usize| match whitening {
                    Whitening::Diagonal(scales) => scales[d],
                    Whitening::Scale(scale) => *scale,
                    Whitening::Triangle(_) => unreachable!("matched above"),
                };
                self.coefficients.extend((0..dim).map(|d| T::from_f64(scale(d))));
                self.offsets.extend((0..dim).map(|d| T::from_f64(scale(d) * lost[d])));
            }
        }
        self.centres.extend(centre);
        self.bias.push(T::from_f64(bias));
    }

    /// Returns the number of components.
    pub fn len(&self) -> usize {
        self.bias.len()
    }

    /// Tells whether there are no components.
    pub fn is_empty(&self) -> bool {
        self.bias.is_empty()
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
    /// `tile.values:` columns of points about zero; `scratch:` [`scratch_len`](Self::scratch_len) values; `logits: C` columns,
    /// `tile.stride` apart. Whole cache lines are read and written: what lies between columns receives numbers without meaning.
    ///
    /// # Panics
    /// If slices are too short, or the stride is no multiple of a cache line.
    pub fn logits(&self, simd: Simd, tile: Tile<'_, T>, scratch: &mut [T], logits: &mut [T]) {
        check(tile, self.dim, scratch);
        assert!(logits.len() >= self.len() * tile.stride, "too few logits");
        T::run_on_vectors(simd, Logits { map: self, tile, scratch, logits });
    }

    /// Adds the sums of a tile under the weights of the `k`-th component, about its centre `c`: `Σ_n w_n (x_n - c)` and the second
    /// moments `Σ_n w_n (x_n - c)(x_n - c)'`.
    ///
    /// Each lane sums in the working precision, over a tile; all else is summed in `f64`.
    ///
    /// # Shapes
    /// As for [`logits`](Self::logits); `weights:` a column, of which what lies behind the points becomes zero; `first: D`; `second:`
    /// D(D+1)/2 products by rows of the upper triangle, D squares or a squared norm.
    #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
    pub fn sums(
        &self,
        simd: Simd,
        k: usize,
        tile: Tile<'_, T>,
        weights: &mut [T],
        scratch: &mut [T],
        first: &mut [f64],
        second: &mut [f64],
    ) {
        check(tile, self.dim, scratch);
        weights[tile.n_points..tile.stride].fill(T::ZERO);
        T::run_on_vectors(simd, Sums { map: self, k, tile, weights, scratch, first, second });
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

struct Logits<'a, T> {
    map: &'a WhitenedMap<T>,
    tile: Tile<'a, T>,
    scratch: &'a mut [T],
    logits: &'a mut [T],
}

impl<T: Scalar> VectorKernel<T> for Logits<'_, T> {
    type Output = ();

    /// All components of a strip of points come before the next strip, which stays in the level-1 cache meanwhile.
    #[inline(always)]
    fn run<S: Vectors<Element = T>>(mut self, simd: S) {
        match (self.map.shape, self.map.dim) {
            (Shape::Triangle, 1) => return self.small::<S, 1>(simd),
            (Shape::Triangle, 2) => return self.small::<S, 2>(simd),
            (Shape::Triangle, 3) => return self.small::<S, 3>(simd),
            (Shape::Triangle, 4) => return self.small::<S, 4>(simd),
            (Shape::Triangle, 5) => return self.small::<S, 5>(simd),
            (Shape::Triangle, 6) => return self.small::<S, 6>(simd),
            (Shape::Triangle, 7) => return self.small::<S, 7>(simd),
            (Shape::Triangle, 8) => return self.small::<S, 8>(simd),
            _ => {}
        }
        let wide = S::REGISTERS >= 32 || self.map.shape != Shape::Triangle;
        let mut start = 0;
        while start < self.tile.n_points {
            let left = (self.tile.n_points - start).div_ceil(S::COUNT);
            start += S::COUNT
                * match left {
                    WIDE.. if wide => self.strip::<S, WIDE>(simd, start),
                    NARROW.. => self.strip::<S, NARROW>(simd, start),
                    _ => self.strip::<S, 1>(simd, start),
                };
        }
    }
}

impl<T: Scalar> Logits<'_, T> {
    /// Writes the logits of D dimensions, eight at most: a vector of points needs no memory meanwhile.
    #[inline(always)]
    fn small<S: Vectors<Element = T>, const D: usize>(&mut self, simd: S) {
        let (map, stride, count) =
            (self.map, self.tile.stride, self.tile.n_points.div_ceil(S::COUNT));
        let mut x = [&[][..]; D];
        for (d, x) in x.iter_mut().enumerate() {
            *x = &S::vectors(&self.tile.values[d * stride..][..stride])[..count];
        }
        let each = map.coefficients.len() / map.len();
        let minus_half = simd.splat(T::from_f64(-0.5));
        for k in 0..map.len() {
            let zero = simd.splat(T::ZERO);
            let (mut centre, mut offset, mut f) = ([zero; D], [zero; D], [[zero; D]; D]);
            for d in 0..D {
                centre[d] = simd.splat(map.centre(k)[d]);
                offset[d] = simd.splat(map.offsets[k * D + d]);
            }
            let mut coefficients = map.coefficients[k * each..].iter();
            let mut i = 0;
            while i < D {
                let end = i + rows_from(i, D);
                for d in 0..end {
                    for row in &mut f[i..end] {
                        row[d] = simd.splat(*coefficients.next().expect("a triangle"));
                    }
                }
                i = end;
            }
            let bias = simd.splat(map.bias[k]);
            let out = &mut S::vectors_mut(&mut self.logits[k * stride..][..stride])[..count];
            for n in 0..count {
                let (mut y, mut squares) = ([zero; D], zero);
                for i in 0..D {
                    y[i] = simd.sub(x[i][n], centre[i]);
                    let mut z = offset[i];
                    for d in 0..=i {
                        z = simd.mul_add(f[i][d], y[d], z);
                    }
                    squares = simd.mul_add(z, z, squares);
                }
                out[n] = simd.mul_add(minus_half, squares, bias);
            }
        }
    }

    /// Writes the logits of all components for V vectors of points. Returns V.
    #[inline(always)]
    fn strip<S: Vectors<Element = T>, const V: usize>(&mut self, simd: S, start: usize) -> usize {
        let (map, stride, width) = (self.map, self.tile.stride, V * S::COUNT);
        let (dim, each) = (map.dim, map.coefficients.len() / map.len());
        for k in 0..map.len() {
            let coefficients = &map.coefficients[k * each..][..each];
            let (centre, offsets) = (map.centre(k), &map.offsets[k * dim..][..dim]);
            let columns = self.tile.values.chunks_exact(stride).zip(centre);
            let out = &mut self.logits[k * stride + start..][..width];
            let mut squares = [simd.splat(T::ZERO); V];
            if map.shape == Shape::Triangle {
                let scratch = &mut self.scratch[..dim * width];
                for ((x, &centre), y) in columns.zip(scratch.chunks_exact_mut(width)) {
                    let x = &S::vectors(&x[start..start + width])[..V];
                    let centre = simd.splat(centre);
                    for (y, &x) in S::vectors_mut(y)[..V].iter_mut().zip(x) {
                        *y = simd.sub(x, centre);
                    }
                }
                S::vectors_mut(out)[..V].copy_from_slice(&squares);
                let (mut i, mut rest) = (0, coefficients);
                while i < dim {
                    let rows = rows_from(i, dim);
                    let offsets = &offsets[i..i + rows];
                    let (f, after) = rest.split_at(rows * (i + rows));
                    (i, rest) = (i + rows, after);
                    match rows {
                        5 => whiten::<T, S, V, 5>(simd, scratch, f, offsets, out),
                        4 => whiten::<T, S, V, 4>(simd, scratch, f, offsets, out),
                        3 => whiten::<T, S, V, 3>(simd, scratch, f, offsets, out),
                        2 => whiten::<T, S, V, 2>(simd, scratch, f, offsets, out),
                        _ => whiten::<T, S, V, 1>(simd, scratch, f, offsets, out),
                    }
                }
                squares.copy_from_slice(&S::vectors(out)[..V]);
            } else {
                for (((x, &centre), &scale), &offset) in columns.zip(coefficients).zip(offsets) {
                    let x = &S::vectors(&x[start..start + width])[..V];
                    let (centre, scale, offset) =
                        (simd.splat(centre), simd.splat(scale), simd.splat(offset));
                    for v in 0..V {
                        let z = simd.mul_add(simd.sub(x[v], centre), scale, offset);
                        squares[v] = simd.mul_add(z, z, squares[v]);
                    }
                }
            }
            let (minus_half, bias) = (simd.splat(T::from_f64(-0.5)), simd.splat(map.bias[k]));
            for (out, &square) in S::vectors_mut(out)[..V].iter_mut().zip(&squares) {
                *out = simd.mul_add(minus_half, square, bias);
            }
        }
        V
    }
}

/// Adds the squares of K whitened rows, `z = F y + offset`, for V vectors of points.
///
/// Sums of squares stay in memory meanwhile: with them, the registers of AVX2 would not be enough.
///
/// # Shapes
/// `y:` columns of V vectors; `coefficients:` K for each column that the rows have; `squares:` V vectors.
#[inline(always)]
fn whiten<T: Scalar, S: Vectors<Element = T>, const V: usize, const K: usize>(
    simd: S,
    y: &[T],
    coefficients: &[T],
    offsets: &[T],
    squares: &mut [T],
) {
    let mut z = [[simd.splat(T::ZERO); V]; K];
    for (z, &offset) in z.iter_mut().zip(offsets) {
        *z = [simd.splat(offset); V];
    }
    for (y, f) in y.chunks_exact(V * S::COUNT).zip(coefficients.chunks_exact(K)) {
        let y = &S::vectors(y)[..V];
        for k in 0..K {
            let f = simd.splat(f[k]);
            for v in 0..V {
                z[k][v] = simd.mul_add(y[v], f, z[k][v]);
            }
        }
    }
    let squares = &mut S::vectors_mut(squares)[..V];
    for v in 0..V {
        for z in &z {
            squares[v] = simd.mul_add(z[v], z[v], squares[v]);
        }
    }
}

struct Sums<'a, T> {
    map: &'a WhitenedMap<T>,
    k: usize,
    tile: Tile<'a, T>,
    weights: &'a [T],
    scratch: &'a mut [T],
    first: &'a mut [f64],
    second: &'a mut [f64],
}

impl<T: Scalar> VectorKernel<T> for Sums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vectors<Element = T>>(mut self, simd: S) {
        let dim = self.map.dim;
        match (self.map.shape, dim) {
            (Shape::Triangle, 1) => return self.small::<S, 1>(simd),
            (Shape::Triangle, 2) => return self.small::<S, 2>(simd),
            (Shape::Triangle, 3) => return self.small::<S, 3>(simd),
            _ => {}
        }
        if self.map.shape == Shape::Triangle {
            let width = self.width::<S>();
            let roots = &mut self.scratch[dim * self.tile.stride..][..width];
            let weights = S::vectors(&self.weights[..width]);
            for (root, &w) in S::vectors_mut(roots).iter_mut().zip(weights) {
                *root = simd.sqrt(w);
            }
        }
        let mut d = 0;
        while d < dim {
            d += match dim - d {
                4.. => self.moments::<S, 4>(simd, d),
                3 => self.moments::<S, 3>(simd, d),
                2 => self.moments::<S, 2>(simd, d),
                _ => self.moments::<S, 1>(simd, d),
            };
        }
        if self.map.shape == Shape::Triangle {
            for i in (0..dim).step_by(ROWS) {
                match dim - i {
                    4.. => self.rows::<S, 4>(simd, i),
                    3 => self.rows::<S, 3>(simd, i),
                    2 => self.rows::<S, 2>(simd, i),
                    _ => self.rows::<S, 1>(simd, i),
                }
            }
        }
    }
}

impl<T: Scalar> Sums<'_, T> {
    /// Adds all moments of D dimensions, three at most: nine sums stay in registers while the points pass.
    #[inline(always)]
    fn small<S: Vectors<Element = T>, const D: usize>(&mut self, simd: S) {
        let (stride, width) = (self.tile.stride, self.width::<S>());
        let (zero, count) = (simd.splat(T::ZERO), width / S::COUNT);
        let (mut x, mut centre) = ([&[][..]; D], [zero; D]);
        for d in 0..D {
            x[d] = &S::vectors(&self.tile.values[d * stride..][..width])[..count];
            centre[d] = simd.splat(self.map.centre(self.k)[d]);
        }
        let weights = &S::vectors(&self.weights[..width])[..count];
        let (mut first, mut second) = ([zero; D], [[zero; D]; D]);
        for n in 0..count {
            let mut y = [zero; D];
            for d in 0..D {
                y[d] = simd.sub(x[d][n], centre[d]);
                let weighted = simd.mul(weights[n], y[d]);
                first[d] = simd.add(first[d], weighted);
                for i in 0..=d {
                    second[i][d] = simd.mul_add(weighted, y[i], second[i][d]);
                }
            }
        }
        let pairs = (0..D).flat_map(|i| (i..D).map(move |j| (i, j)));
        for ((i, j), sum) in pairs.zip(&mut *self.second) {
            *sum += simd.sum(second[i][j]).to_f64();
        }
        for d in 0..D {
            self.first[d] += simd.sum(first[d]).to_f64();
        }
    }

    /// Returns the number of values in the vectors that hold the points.
    #[inline(always)]
    fn width<S: Vectors<Element = T>>(&self) -> usize {
        self.tile.n_points.next_multiple_of(S::COUNT)
    }

    /// Adds the first moments of K dimensions from `d` on. Adds their squares too, or keeps `√w (x - c)` for the products.
    /// Returns K.
    #[inline(always)]
    fn moments<S: Vectors<Element = T>, const K: usize>(&mut self, simd: S, d: usize) -> usize {
        let (dim, stride, width) = (self.map.dim, self.tile.stride, self.width::<S>());
        let count = width / S::COUNT;
        let weights = &S::vectors(&self.weights[..width])[..count];
        let (mut first, mut centre) = ([simd.splat(T::ZERO); K], [simd.splat(T::ZERO); K]);
        let mut second = first;
        let mut x = [weights; K];
        for k in 0..K {
            centre[k] = simd.splat(self.map.centre(self.k)[d + k]);
            x[k] = &S::vectors(&self.tile.values[(d + k) * stride..][..width])[..count];
        }
        if self.map.shape == Shape::Triangle {
            let (y, roots) = self.scratch.split_at_mut(dim * stride);
            let (y, apart) = (S::vectors_mut(&mut y[d * stride..]), stride / S::COUNT);
            let roots = &S::vectors(&roots[..width])[..count];
            for i in 0..count {
                for k in 0..K {
                    let rooted = simd.mul(roots[i], simd.sub(x[k][i], centre[k]));
                    first[k] = simd.mul_add(roots[i], rooted, first[k]);
                    y[k * apart + i] = rooted;
                }
            }
        } else {
            for i in 0..count {
                for k in 0..K {
                    let difference = simd.sub(x[k][i], centre[k]);
                    let weighted = simd.mul(weights[i], difference);
                    first[k] = simd.add(first[k], weighted);
                    second[k] = simd.mul_add(weighted, difference, second[k]);
                }
            }
        }
        for k in 0..K {
            self.first[d + k] += simd.sum(first[k]).to_f64();
            match self.map.shape {
                Shape::Scale => self.second[0] += simd.sum(second[k]).to_f64(),
                Shape::Diagonal => self.second[d + k] += simd.sum(second[k]).to_f64(),
                Shape::Triangle => {}
            }
        }
        K
    }

    /// Adds the products of K rows from `i` on with all columns from `i` on.
    #[inline(always)]
    fn rows<S: Vectors<Element = T>, const K: usize>(&mut self, simd: S, i: usize) {
        // Four rows and three columns would fill 16 registers, and a sum would stay in memory.
        let columns = if S::REGISTERS >= 32 { 4 } else { 2 };
        for j in (i..self.map.dim).step_by(columns) {
            match columns.min(self.map.dim - j) {
                4 => self.block::<S, K, 4>(simd, i, j),
                3 => self.block::<S, K, 3>(simd, i, j),
                2 => self.block::<S, K, 2>(simd, i, j),
                _ => self.block::<S, K, 1>(simd, i, j),
            }
        }
    }

    /// Adds a block of K rows from `i` on and J columns from `j` on.
    #[inline(always)]
    fn block<S: Vectors<Element = T>, const K: usize, const J: usize>(
        &mut self,
        simd: S,
        i: usize,
        j: usize,
    ) {
        let (dim, stride, width) = (self.map.dim, self.tile.stride, self.width::<S>());
        let count = width / S::COUNT;
        let column = |k: usize| &S::vectors(&self.scratch[k * stride..][..width])[..count];
        let (mut rows, mut columns) = ([column(j); K], [column(j); J]);
        for (k, row) in rows.iter_mut().enumerate() {
            *row = column(i + k);
        }
        for (c, other) in columns.iter_mut().enumerate() {
            *other = column(j + c);
        }
        let mut sums = [[simd.splat(T::ZERO); J]; K];
        for n in 0..count {
            for k in 0..K {
                for c in 0..J {
                    sums[k][c] = simd.mul_add(rows[k][n], columns[c][n], sums[k][c]);
                }
            }
        }
        for (k, sums) in sums.iter().enumerate() {
            let row = i + k;
            // Rows of the triangle before this one hold D, D - 1, ... numbers.
            let row_start = row * dim - row * row.saturating_sub(1) / 2;
            for (c, &sum) in sums.iter().enumerate() {
                if j + c >= row {
                    self.second[row_start + j + c - row] += simd.sum(sum).to_f64();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::softmax::padded_stride;

    /// A tile of numbers around `far`, three components of each kind, and what the definition says of them.
    fn matches_the_definition<T: Scalar>(tolerance: f64, far: f64) {
        let value = |k: usize| (k * 37 % 23) as f64 / 8.0 - 1.375;
        for (level, simd) in Simd::available() {
            for dim in [1, 2, 3, 4, 7, 9, 16, 21] {
                for n in [0, 1, 5, 48, 67, 96, 150] {
                    let stride = padded_stride::<T>(n);
                    let mut tile = vec![T::ZERO; dim * stride];
                    for (d, column) in tile.chunks_mut(stride).enumerate() {
                        for (i, x) in column[..n].iter_mut().enumerate() {
                            *x = T::from_f64(far + value(5 * i + 3 * d));
                        }
                    }
                    let tile = Tile { values: &tile, dim, n_points: n, stride };
                    let at = |d: usize, i: usize| tile.values[d * stride + i].to_f64();
                    for kind in 0..3 {
                        let factor = |c: usize, i: usize, j: usize| match kind {
                            0 if i == j => 0.5 + c as f64,
                            1 if i == j => 1.0 + value(i + c).abs(),
                            2 if i > j => value(2 * i + 7 * j + c) / dim as f64,
                            2 if i == j => 1.0 + value(i + c).abs(),
                            _ => 0.0,
                        };
                        // No mean is a number of the working precision.
                        let mean = |c: usize, d: usize| far + value(11 * d + c) + 0.1;
                        let bias = |c: usize| value(c);
                        let mut map = WhitenedMap::<T>::new(dim);
                        for c in 0..3 {
                            let mean: Vec<f64> = (0..dim).map(|d| mean(c, d)).collect();
                            let diagonal = (0..dim).map(|d| factor(c, d, d)).collect();
                            let all = (0..dim * dim).map(|k| factor(c, k / dim, k % dim)).collect();
                            let whitening = match kind {
                                0 => Whitening::Scale(factor(c, 0, 0)),
                                1 => Whitening::Diagonal(diagonal),
                                _ => Whitening::Triangle(all),
                            };
                            map.push(&mean, &whitening, bias(c));
                        }
                        let mut scratch = vec![T::ZERO; WhitenedMap::<T>::scratch_len(dim, stride)];
                        let mut logits = vec![T::ZERO; 3 * stride];
                        map.logits(simd, tile, &mut scratch, &mut logits);
                        for (c, i) in (0..3).flat_map(|c| (0..n).map(move |i| (c, i))) {
                            let row = |r: usize| -> f64 {
                                (0..=r).map(|d| factor(c, r, d) * (at(d, i) - mean(c, d))).sum()
                            };
                            let expected =
                                bias(c) - 0.5 * (0..dim).map(|r| row(r).powi(2)).sum::<f64>();
                            let error = (logits[c * stride + i].to_f64() - expected).abs();
                            let scale = 1.0 + expected.abs();
                            assert!(error <= tolerance * scale, "{level:?} {dim} {n} kind {kind}");
                        }
                        let part = map.slice(1..3);
                        assert_eq!((part.len(), part.centre(0)), (2, map.centre(1)));
                        let mut weights: Vec<T> =
                            (0..stride).map(|i| T::from_f64(0.25 * (i % 5) as f64)).collect();
                        let w = |i: usize| 0.25 * (i % 5) as f64;
                        let n_second = [1, dim, dim * (dim + 1) / 2][kind];
                        let (mut first, mut second) = (vec![1.0; dim], vec![2.0; n_second]);
                        part.sums(
                            simd,
                            0,
                            tile,
                            &mut weights,
                            &mut scratch,
                            &mut first,
                            &mut second,
                        );
                        let y = |d: usize, i: usize| at(d, i) - map.centre(1)[d].to_f64();
                        let close = |sum: f64, expected: f64| {
                            let error = (sum - expected).abs();
                            assert!(
                                error <= tolerance * (n + 1) as f64,
                                "{level:?} {dim} {n} {kind}"
                            );
                        };
                        for d in 0..dim {
                            close(first[d] - 1.0, (0..n).map(|i| w(i) * y(d, i)).sum());
                        }
                        let product = |a: usize, b: usize| -> f64 {
                            (0..n).map(|i| w(i) * y(a, i) * y(b, i)).sum()
                        };
                        let expected: Vec<f64> = match kind {
                            0 => vec![(0..dim).map(|d| product(d, d)).sum()],
                            1 => (0..dim).map(|d| product(d, d)).collect(),
                            _ => (0..dim)
                                .flat_map(|a| (a..dim).map(move |b| (a, b)))
                                .map(|(a, b)| product(a, b))
                                .collect(),
                        };
                        for (&sum, expected) in second.iter().zip(expected) {
                            close((sum - 2.0) / dim as f64, expected / dim as f64);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn logits_and_sums_match_their_definition_f32() {
        matches_the_definition::<f32>(2e-6, 0.0);
    }

    #[test]
    fn logits_and_sums_match_their_definition_f64() {
        matches_the_definition::<f64>(1e-14, 0.0);
    }

    /// Packed logits would be wrong by 0.1 nats here, and by 1e-9 in f64.
    #[test]
    fn digits_are_kept_a_thousand_widths_from_zero() {
        matches_the_definition::<f32>(2e-6, 1024.0);
        matches_the_definition::<f64>(1e-14, 1024.0);
    }
}
