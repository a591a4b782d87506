//! Fetches memory to the caches before it is read.

use faer::MatRef;

/// Bytes that come to the caches together.
const CACHE_LINE: usize = 64;

/// Memory to be fetched to the caches while other work runs, spread evenly over its steps.
///
/// Only a hint: it changes no result, and does nothing where the target has no such instruction. It must be spread: a line of
/// 64 bytes takes as long as a hundred multiplications, and who asks for more than memory gives waits as before.
#[derive(Clone, Copy, Debug)]
pub struct Ahead {
    next: *const u8,
    lines: usize,
    steps: usize,
    credit: usize,
}

impl Ahead {
    /// Plans to fetch nothing.
    pub fn nothing() -> Self {
        Self { next: std::ptr::null(), lines: 0, steps: 1, credit: 0 }
    }

    /// Plans to fetch the memory behind points that lie row by row. It is as long as theirs and most likely read next.
    pub fn behind<T>(points: MatRef<'_, T>) -> Self {
        let bytes =
            points.row_stride().saturating_mul(points.nrows() as isize * size_of::<T>() as isize);
        let bytes = if points.col_stride() == 1 { bytes.max(0) as usize } else { 0 };
        Self {
            next: points.as_ptr().cast::<u8>().wrapping_add(bytes),
            lines: bytes / CACHE_LINE,
            steps: 1,
            credit: 0,
        }
    }

    /// Spreads the same memory over `steps` steps.
    pub fn in_steps(self, steps: usize) -> Self {
        Self { steps: steps.max(1), credit: 0, ..self }
    }

    /// Takes a step: asks for a cache line, if one is due, and does not wait for it.
    #[inline(always)]
    pub fn step(&mut self) {
        self.credit += self.lines;
        if self.credit < self.steps {
            return;
        }
        self.credit -= self.steps;
        fetch(self.next);
        self.next = self.next.wrapping_add(CACHE_LINE);
    }
}

/// Asks for all cache lines of values that will be read soon.
#[inline(always)]
pub fn fetch_values<T>(values: &[T]) {
    let first = values.as_ptr().cast::<u8>();
    (0..size_of_val(values)).step_by(CACHE_LINE).for_each(|at| fetch(first.wrapping_add(at)));
}

/// Asks for a cache line, and does not wait for it.
#[inline(always)]
fn fetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of every x86-64, and a prefetch of any address neither faults nor changes what a program computes.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;
    use faer::Mat;

    #[test]
    fn lines_behind_points_in_rows_are_spread_over_the_steps() {
        let values = vec![0.0f64; 40];
        let mut ahead = Ahead::behind(MatRef::from_row_major_slice(&values, 8, 5)).in_steps(11);
        let line = |k: usize| values.as_ptr().wrapping_add(40 + 8 * k).cast::<u8>();
        let mut due = Vec::new();
        for _ in 0..11 {
            assert_eq!(ahead.next, line(due.iter().filter(|&&it| it).count()));
            let before = ahead.next;
            ahead.step();
            due.push(ahead.next != before);
        }
        assert_eq!(due.iter().filter(|&&it| it).count(), 5);
        assert_eq!(due[..3], [false, false, true]);
    }

    #[test]
    fn nothing_follows_columns() {
        assert_eq!(Ahead::behind(Mat::<f32>::zeros(8, 5).as_ref()).lines, 0);
        assert_eq!(Ahead::behind(MatRef::<f64>::from_row_major_slice(&[], 0, 5)).lines, 0);
    }
}
