//! First and second moments about the centre of a component.

use super::{ROWS, Shape, WhitenedMap};
use crate::kernels::dispatch::{VectorKernel, Vectors};
use crate::kernels::statistics::Tile;
use crate::scalar::Scalar;

pub(super) struct Sums<'a, T> {
    pub map: &'a WhitenedMap<T>,
    pub k: usize,
    pub tile: Tile<'a, T>,
    pub weights: &'a [T],
    pub scratch: &'a mut [T],
    /// A vector for each sum: those of the first moments, then those of the second.
    pub lanes: &'a mut [T],
}

impl<T: Scalar> VectorKernel<T> for Sums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vectors<Element = T>>(mut self, simd: S) {
        let dim = self.map.dim;
        let has_many = S::REGISTERS >= 32;
        if self.map.shape == Shape::Triangle && dim <= if has_many { 12 } else { 11 } {
            return self.directly(simd, has_many);
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
    /// Adds all moments of few dimensions without scratch memory: as many rows at a time as registers hold.
    ///
    /// Differences are taken again for each group of rows. Written down once, as for more dimensions, they took longer: sweeps in `f32` over
    /// points of 7 dimensions 2.6 against 2.2 ms, of 9 dimensions 3.4 against 2.7, with AVX2 3.4 against 2.9 and 4.9 against 4.4.
    #[inline(always)]
    fn directly<S: Vectors<Element = T>>(&mut self, simd: S, has_many: bool) {
        let dim = self.map.dim;
        let mut i = 0;
        while i < dim {
            i += match dim - i {
                1 => self.last::<S, 1, 1>(simd),
                2 => self.last::<S, 2, 2>(simd),
                3 => self.last::<S, 3, 3>(simd),
                4 if has_many => self.last::<S, 4, 4>(simd),
                5 if has_many => self.last::<S, 5, 3>(simd),
                6 if has_many => self.last::<S, 6, 3>(simd),
                7 if has_many => self.last::<S, 7, 3>(simd),
                8 if has_many => self.last::<S, 8, 3>(simd),
                9 if has_many => self.last::<S, 9, 3>(simd),
                10 if has_many => self.last::<S, 10, 2>(simd),
                11 if has_many => self.last::<S, 11, 2>(simd),
                12 if has_many => self.last::<S, 12, 2>(simd),
                4 => self.last::<S, 4, 2>(simd),
                5 => self.last::<S, 5, 2>(simd),
                6 => self.last::<S, 6, 1>(simd),
                7 => self.last::<S, 7, 1>(simd),
                8 => self.last::<S, 8, 1>(simd),
                9 => self.last::<S, 9, 1>(simd),
                10 => self.last::<S, 10, 1>(simd),
                _ => self.last::<S, 11, 1>(simd),
            };
        }
    }

    /// Adds the first moments of K of the last D dimensions, and their products with all of these from their own on. Returns K.
    #[inline(always)]
    fn last<S: Vectors<Element = T>, const D: usize, const K: usize>(&mut self, simd: S) -> usize {
        let (dim, stride, width) = (self.map.dim, self.tile.stride, self.width::<S>());
        let start = dim - D;
        let (zero, count) = (simd.splat(T::ZERO), width / S::COUNT);
        let (mut x, mut centre) = ([&[][..]; D], [zero; D]);
        for d in 0..D {
            x[d] = &S::vectors(&self.tile.values[(start + d) * stride..][..width])[..count];
            centre[d] = simd.splat(self.map.centre(self.k)[start + d]);
        }
        let weights = &S::vectors(&self.weights[..width])[..count];
        let (mut first, mut second) = ([zero; K], [[zero; D]; K]);
        for n in 0..count {
            let mut weighted = [zero; K];
            for d in 0..D {
                let y = simd.sub(x[d][n], centre[d]);
                if d < K {
                    weighted[d] = simd.mul(weights[n], y);
                    first[d] = simd.mul_add(weights[n], y, first[d]);
                }
                for i in 0..K {
                    if i <= d {
                        second[i][d] = simd.mul_add(weighted[i], y, second[i][d]);
                    }
                }
            }
        }
        for i in 0..K {
            let row = start + i;
            let row_start = dim + row * dim - row * row.saturating_sub(1) / 2;
            self.add::<S>(simd, row, first[i]);
            for d in i..D {
                self.add::<S>(simd, row_start + d - i, second[i][d]);
            }
        }
        K
    }

    /// Adds a vector to the lanes of a sum.
    #[inline(always)]
    fn add<S: Vectors<Element = T>>(&mut self, simd: S, sum: usize, vector: S::Vector) {
        let lanes = &mut S::vectors_mut(&mut self.lanes[sum * S::COUNT..][..S::COUNT])[0];
        *lanes = simd.add(*lanes, vector);
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
            let roots = &S::vectors(&roots[..width])[..count];
            let mut columns = y[d * stride..].chunks_exact_mut(stride);
            let y: [_; K] = std::array::from_fn(|_| {
                let column = columns.next().expect("K columns are left");
                &mut S::vectors_mut(column)[..count]
            });
            for i in 0..count {
                for k in 0..K {
                    let rooted = simd.mul(roots[i], simd.sub(x[k][i], centre[k]));
                    first[k] = simd.mul_add(roots[i], rooted, first[k]);
                    y[k][i] = rooted;
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
            self.add::<S>(simd, d + k, first[k]);
            match self.map.shape {
                Shape::Scale => self.add::<S>(simd, dim, second[k]),
                Shape::Diagonal => self.add::<S>(simd, dim + d + k, second[k]),
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
                    self.add::<S>(simd, dim + row_start + j + c - row, sum);
                }
            }
        }
    }
}

pub(super) struct Flush<'a, T> {
    pub lanes: &'a mut [T],
    pub first: &'a mut [f64],
    pub second: &'a mut [f64],
}

impl<T: Scalar> VectorKernel<T> for Flush<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vectors<Element = T>>(self, simd: S) {
        let sums = self.first.iter_mut().chain(self.second);
        for (sum, lanes) in sums.zip(S::vectors_mut(self.lanes)) {
            *sum += simd.sum(*lanes).to_f64();
            *lanes = simd.splat(T::ZERO);
        }
    }
}
