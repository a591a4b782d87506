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
    pub first: &'a mut [f64],
    pub second: &'a mut [f64],
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
