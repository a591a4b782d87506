//! Packs the parameters of a mixture of factor analysers for the kernels.

use super::super::MixtureOfFactorAnalyzers;
use super::super::component::factorized;
use super::{
    ComponentPosterior, PROJECTION_BYTES, Packed, Residual, TILE_POINTS, column_major, rounded,
};
use crate::kernels::dispatch::Simd;
use crate::kernels::softmax::padded_stride;
use crate::linalg::product;
use crate::scalar::Scalar;
use faer::MatRef;

impl MixtureOfFactorAnalyzers {
    pub(super) fn pack_for<T: Scalar>(&self, simd: Simd, tolerance: f64) -> Packed<T> {
        let shape = self.shape();
        let (dim, latents) = (shape.centre, self.n_latents());
        let per_point = size_of::<T>() * shape.components * latents;
        let points = (PROJECTION_BYTES / per_point).clamp(TILE_POINTS[0], TILE_POINTS[1]);
        let points = 1 << points.ilog2();
        let centre: Vec<T> = rounded(self.centre.iter().copied());
        let mut packed = Packed {
            simd,
            points,
            stride: padded_stride::<T>(points),
            shape,
            latents,
            projections: Vec::with_capacity(shape.components * dim * latents),
            shifts: Vec::with_capacity(shape.components * latents),
            means: Vec::with_capacity(shape.components * dim),
            scales: Vec::with_capacity(shape.components * dim),
            bias: Vec::with_capacity(shape.components),
            centres: Vec::with_capacity(shape.components * dim),
            residual: Vec::new(),
            posteriors: Vec::with_capacity(shape.components),
            decoder: Vec::new(),
            centre,
        };
        for (c, component) in self.components.iter().enumerate() {
            let form = factorized(component);
            let about_centre = |point: &[f64]| -> Vec<f64> {
                point.iter().zip(&packed.centre).map(|(v, k)| v - k.to_f64()).collect()
            };
            let mean = about_centre(&component.mean);
            let scales: Vec<f64> = component.noise.iter().map(|v| v.sqrt().recip()).collect();
            // Sizes of the terms that cancel: squares as large as the loadings against the noise, and projections
            // as large as the distance of the mean from the centre.
            let distance =
                mean.iter().zip(&scales).map(|(m, s)| (m * s).powi(2)).sum::<f64>().sqrt();
            let typical = dim as f64 - latents as f64 + form.trace;
            let cancels = |size: f64| T::EPSILON * size > tolerance;
            // The mean may have left the point about which statistics were to be taken.
            let steps = component.mean.iter().zip(&self.centres[c]).zip(&scales);
            let far = steps.map(|((m, k), s)| ((m - k) * s).powi(2)).fold(0.0, f64::max);
            let about = if cancels(far) { &component.mean } else { &self.centres[c] };

            let shift = product(
                form.projection.transpose(),
                MatRef::from_column_major_slice(&mean, dim, 1),
            );
            packed.shifts.extend(column_major(&shift).map(|v| T::from_f64(-v)));
            packed.projections.extend(column_major(&form.projection).map(T::from_f64));
            packed.means.extend(mean.iter().map(|&v| T::from_f64(v)));
            packed.scales.extend(scales.iter().map(|&v| T::from_f64(v)));
            packed.bias.push(T::from_f64(self.weights[c].ln() - 0.5 * form.log_det_2pi));
            let about: Vec<T> = rounded(about_centre(about));
            packed.centres.extend(about);
            if self.weights[c] > 0.0 && cancels(typical + distance * form.trace.sqrt()) {
                let mean: Vec<T> = rounded(component.mean.iter().copied());
                let lost = component.mean.iter().zip(&mean).map(|(m, k)| m - k.to_f64());
                let zeros = std::iter::repeat_n(0.0, latents);
                let ones = std::iter::repeat_n(1.0, latents);
                packed.residual.push(Residual {
                    component: c,
                    offset: rounded(lost.chain(zeros)),
                    scales: rounded(scales.into_iter().chain(ones)),
                    to_latents: rounded(column_major(&form.inverse)),
                    loadings: rounded(column_major(&form.loadings)),
                    mean,
                });
            }
            packed.posteriors.push(ComponentPosterior::new(component, &form));
        }
        packed
    }
}
