//! Logits by squares of whitened differences.

use super::{Shape, WhitenedMap, rows_from};
use crate::kernels::dispatch::{VectorKernel, Vectors};
use crate::kernels::statistics::Tile;
use crate::scalar::Scalar;

/// Vectors of points that pass at a time where there are 32 registers, with five rows of sums in 20, or no rows.
const WIDE: usize = 4;

/// The same for rows of sums in 16 registers: they fill 10. Three vectors with four rows would fill 12, and the compiler then
/// keeps a sum in memory, which takes twice as long.
const NARROW: usize = 2;

pub(super) struct Logits<'a, T> {
    pub map: &'a WhitenedMap<T>,
    pub tile: Tile<'a, T>,
    pub scratch: &'a mut [T],
    pub logits: &'a mut [T],
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
