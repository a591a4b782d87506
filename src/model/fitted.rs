//! What a fitted model can do with points; [`inference`](crate::inference) drives it over whole sources.
//!
//! A model implements what it can: all have a [`Density`] and [`Sample`], models with continuous or distributed
//! latents a [`LatentSpace`].

use super::GenerativeModel;
use crate::block::Block;
use crate::kernels::dispatch::Simd;
use crate::scalar::Scalar;
use rand_xoshiro::Xoshiro256PlusPlus;

/// What a scored tile of points yields.
#[derive(Debug)]
pub struct ScoredTile<'a, T> {
    /// Index of the first point in the source.
    pub first: u64,
    /// Sample weights.
    pub weights: Option<&'a [f64]>,
    /// Log-density of each point, in nats.
    pub log_density: &'a [f64],
    /// Posterior probability of each component, one column a component, `stride` apart; in the order of the model. Empty
    /// where there are no components.
    pub responsibilities: &'a [T],
    /// Distance between columns of the responsibilities.
    pub stride: usize,
    /// Sum of the posterior entropies over components, weighted where asked for; 0 where there are none.
    pub posterior_entropy: f64,
}

impl<'a, T: Scalar> ScoredTile<'a, T> {
    /// Of a model without components.
    pub(crate) fn without_components(points: Block<'a, T>, log_density: &'a [f64]) -> Self {
        Self {
            first: points.first,
            weights: points.weights,
            log_density,
            responsibilities: &[],
            stride: 1,
            posterior_entropy: 0.0,
        }
    }
}

/// The density of a model at points, and what its components make of them.
pub trait Density<T: Scalar>: GenerativeModel {
    /// Parameters as scoring wants them.
    type Scorer: Send + Sync;
    /// Scratch memory of one lane.
    type Scratch: Send;

    /// Number of components that posteriors of points are about; 0 where there are none.
    fn n_components(&self) -> usize;

    /// Packs the parameters.
    fn scorer(&self, simd: Simd) -> Self::Scorer;

    /// Scratch memory.
    fn scratch(&self, scorer: &Self::Scorer) -> Self::Scratch;

    /// Log-densities and exact posteriors of a block, handed to `visit` tile by tile; responsibilities and
    /// entropies times the weights of their points where `weighted`.
    fn score(
        &self,
        scorer: &Self::Scorer,
        block: Block<'_, T>,
        weighted: bool,
        scratch: &mut Self::Scratch,
        visit: impl FnMut(ScoredTile<'_, T>),
    );
}

/// A model whose latents are numbers: points have a place in their space, and come back from it.
pub trait LatentSpace<T: Scalar>: GenerativeModel {
    /// Parameters as the maps want them.
    type Encoder: Send + Sync;

    /// Number of latents H.
    fn n_latents(&self) -> usize;

    /// Packs the parameters.
    fn encoder(&self, simd: Simd) -> Self::Encoder;

    /// Posterior means `E[z | x]` of the latents of each point, row-major B × H.
    fn transform(&self, encoder: &Self::Encoder, block: Block<'_, T>, latents: &mut [f64]);

    /// Means `E[x | E[z | x]]` of the observables given these latents, row-major B × D.
    fn reconstruct(&self, encoder: &Self::Encoder, block: Block<'_, T>, points: &mut [f64]);
}

/// Draws points, row-major, into all of a slice, and appends their components where there are any.
pub type BlockSampler<'a> =
    Box<dyn Fn(&mut Xoshiro256PlusPlus, &mut [f64], &mut Vec<u32>) + Send + Sync + 'a>;

/// A model that draws points.
pub trait Sample: GenerativeModel {
    /// Prepares to draw.
    fn sampler(&self) -> BlockSampler<'_>;
}
