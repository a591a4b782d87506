//! Logits in `f64` of points in `f32`, for components that share a covariance.
//!
//! Their quadratic part is common to all, so a logit is linear in the point: D multiplications. In `f64` these keep their digits where
//! `f32` loses them, at half the rate. In many dimensions that is less than to whiten the points and to take differences (`tied`): D²
//! operations a point and 3 D a component.

use crate::aligned::Aligned;
use crate::kernels::affine::{AffineMap, affine, affine_argmax};
use crate::kernels::dispatch::Simd;
use crate::kernels::narrow::{narrow, widen};
use crate::kernels::statistics::Tile;
use crate::kernels::whitened::WhitenedMap;
use crate::scalar::Scalar;

/// Largest dimension in which responsibilities take whitened differences instead. Milliseconds of a sweep with 16 components, wide and
/// whitened, AVX-512: 9.0 and 6.8 at D = 3, 2.11 and 1.91 at D = 9, 0.54 and 0.67 at D = 36, 2.2 and 3.1 at D = 64. Hard posteriors have
/// no second pass over logits: 2.7 and 4.3 with 64 components at D = 7.
pub(super) const WHITENED_DIM: usize = 12;

/// Points whose logits are in memory at a time, so that these stay in the cache: two blocks of AVX-512 registers, four of AVX2.
const POINTS: usize = 48;

/// Components in the layout of the kernels, for points about the common centre.
#[derive(Debug)]
pub(super) struct Wide {
    pub map: AffineMap<f64>,
    /// The common quadratic part, which only scores of single points need.
    pub shared: Option<WhitenedMap<f64>>,
}

/// Scratch memory for some points.
#[derive(Debug, Default)]
pub(super) struct Memory {
    points: Aligned<f64>,
    logits: Aligned<f64>,
    scratch: Aligned<f64>,
}

impl Wide {
    /// Writes logits less the largest of their point, and the largest, which is the log-density then but for a sum of exponentials.
    pub(super) fn logits<T: Scalar>(
        &self,
        simd: Simd,
        tile: Tile<'_, T>,
        memory: &mut Memory,
        logits: &mut [T],
        largest: &mut [f64],
    ) {
        let (dim, stride) = (tile.dim, tile.stride);
        memory.logits.resize(self.map.n_components() * POINTS);
        for first in (0..tile.n_points).step_by(POINTS) {
            let count = POINTS.min(tile.n_points - first);
            memory.load(simd, tile, first);
            let wide = &mut memory.logits;
            affine(simd, &self.map, &memory.points, 0, count, POINTS, wide);
            let (logits, largest) = (&mut logits[first..], &mut largest[first..][..count]);
            narrow(simd, wide, POINTS, logits, stride, largest);
            if let Some(shared) = &self.shared {
                memory.scratch.resize(WhitenedMap::<f64>::scratch_len(dim, POINTS));
                let values = &memory.points;
                let points = Tile { values, dim, n_points: count, stride: POINTS };
                shared.logits(simd, points, &mut memory.scratch, wide);
                largest.iter_mut().zip(&**wide).for_each(|(sum, part)| *sum += part);
            }
        }
    }

    /// Finds the largest logit of each point, and its component.
    pub(super) fn argmax<T: Scalar>(
        &self,
        simd: Simd,
        tile: Tile<'_, T>,
        memory: &mut Memory,
        largest: &mut [f64],
        labels: &mut [u32],
    ) {
        memory.logits.resize(2 * POINTS);
        let strips = largest.chunks_mut(POINTS).zip(labels.chunks_mut(POINTS));
        for (k, (largest, labels)) in strips.enumerate() {
            memory.load(simd, tile, k * POINTS);
            let (most, component) = memory.logits.split_at_mut(POINTS);
            let n = largest.len();
            affine_argmax(simd, &self.map, &memory.points, n, POINTS, most, component);
            largest.copy_from_slice(&most[..n]);
            labels.iter_mut().zip(&*component).for_each(|(label, &c)| *label = c as u32);
        }
    }
}

impl Memory {
    fn load<T: Scalar>(&mut self, simd: Simd, tile: Tile<'_, T>, first: usize) {
        self.points.resize(tile.dim * POINTS);
        widen(simd, tile, first, &mut self.points, POINTS);
    }
}
