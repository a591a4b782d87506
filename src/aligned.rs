//! Memory that begins with a cache line, as vectors of any instruction set like to be read.

use crate::scalar::Scalar;
use bytemuck::{Pod, Zeroable};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// As long as the longest vector.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct CacheLine([u8; 64]);

/// A fixed number of values, the first of which begins a cache line.
///
/// The allocator promises 16 bytes. Then every vector of 64 lies across two lines, and reading it takes twice as long.
#[derive(Clone, Debug)]
pub(crate) struct Aligned<T> {
    lines: Vec<CacheLine>,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Scalar> Aligned<T> {
    /// So many zeros.
    pub fn zeros(len: usize) -> Self {
        let lines = vec![CacheLine::zeroed(); (len * size_of::<T>()).div_ceil(64)];
        Self { lines, len, of: PhantomData }
    }

    /// Changes the number of values; new ones are zero.
    pub fn resize(&mut self, len: usize) {
        if len < self.len {
            self[len..].fill(T::ZERO);
        }
        self.lines.resize((len * size_of::<T>()).div_ceil(64), CacheLine::zeroed());
        self.len = len;
    }
}

impl<T: Scalar> Default for Aligned<T> {
    fn default() -> Self {
        Self::zeros(0)
    }
}

impl<T: Scalar> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<T: Scalar> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_begin_with_a_cache_line_and_new_ones_are_zero() {
        for len in [0, 1, 7, 8, 9, 100, 100_000] {
            let mut values = Aligned::<f64>::zeros(len);
            assert_eq!(values.as_ptr().align_offset(64), 0);
            assert_eq!(*values, vec![0.0; len]);
            values.fill(1.0);
            values.resize(len / 2);
            values.resize(len + 3);
            assert_eq!(values.as_ptr().align_offset(64), 0);
            let ones = len / 2;
            assert_eq!(values[..ones], vec![1.0; ones]);
            assert_eq!(values[ones..], vec![0.0; len + 3 - ones]);
        }
        assert_eq!(Aligned::<f32>::zeros(3).len(), 3);
    }
}
