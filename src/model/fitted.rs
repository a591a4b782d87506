//! Traits of fitted models: densities, latents and samples of points.
//!
//! All models implement [`Density`] and [`Sample`]; models with a vector of latents also implement [`LatentSpace`].
//! [`inference`](crate::inference) calls these traits for whole sources.

use super::GenerativeModel;
use crate::block::Block;
use crate::kernels::dispatch::Simd;
use crate::scalar::Scalar;
use rand_xoshiro::Xoshiro256PlusPlus;

/// Log-densities and posteriors of a tile of points.
#[derive(Debug)]
pub struct ScoredTile<'a, T> {
    /// Index of the first point in the source.
    pub first: u64,
    /// Sample weights.
    pub weights: Option<&'a [f64]>,
    /// Log-density of each point, in nats.
    pub log_density: &'a [f64],
    /// Posterior probabilities of the components, in the order of the model: one column for each component, `stride` apart.
    /// Empty for a model without components.
    pub responsibilities: &'a [T],
    /// Distance between the first elements of two columns of the responsibilities.
    pub stride: usize,
    /// Sum over the points of the entropy of their posteriors; 0 for a model without components.
    pub posterior_entropy: f64,
}

impl<'a, T: Scalar> ScoredTile<'a, T> {
    /// Makes a scored tile of a model without components.
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

/// The density of a model at points, and the posterior of its components.
///
/// Every model for points implements this trait. A model that learns in sweeps implements [`EStep`](super::EStep) on top of it.
///
/// A caller packs the parameters once, makes a workspace for each thread, and scores blocks in any order. The packed
/// parameters are shared by all threads; a workspace belongs to one thread at a time.
pub trait Density<T: Scalar>: GenerativeModel {
    /// Parameters in the layout and precision of the kernels. Made once for many blocks.
    type Packed: Send + Sync;

    /// Scratch memory of one thread.
    type Workspace: Send;

    /// Returns the number of components C that posteriors of points are about; 0 for a model without components.
    fn n_components(&self) -> usize {
        0
    }

    /// Packs the parameters for [`score`](Self::score) and for the maps of [`LatentSpace`]. Called once for each data set.
    fn pack_for_scores(&self, simd: Simd) -> Self::Packed;

    /// Makes scratch memory for blocks under these packed parameters. Called once for each thread before its first block.
    ///
    /// `old` is memory that the thread used before, perhaps with other parameters or after an error. Return `old` if its
    /// sizes fit and no part of an earlier sum is left in it.
    fn workspace(&self, packed: &Self::Packed, old: Option<Self::Workspace>) -> Self::Workspace;

    /// Computes log-densities and exact posteriors of a block, and hands them to `visit` tile by tile. Called once for each
    /// block.
    ///
    /// Tiles come in the order of the points and cover the block. If `weighted` is true, responsibilities and entropies are
    /// multiplied by the weights of their points. A point without a density gets a log-density of NaN or -∞, and no panic.
    fn score(
        &self,
        packed: &Self::Packed,
        block: Block<'_, T>,
        weighted: bool,
        workspace: &mut Self::Workspace,
        visit: impl FnMut(ScoredTile<'_, T>),
    );
}

/// A model with a vector of latents: maps points to latents and back.
pub trait LatentSpace<T: Scalar>: Density<T> {
    /// Returns the number of latents H.
    fn n_latents(&self) -> usize;

    /// Computes the posterior means `E[z | x]` of the latents of each point of a block.
    ///
    /// # Shapes
    /// `latents: B × H`, row-major.
    fn transform(&self, packed: &Self::Packed, block: Block<'_, T>, latents: &mut [f64]);

    /// Computes the means of the observables of each point of a block, given the posterior of its latents.
    ///
    /// # Shapes
    /// `points: B × D`, row-major.
    fn reconstruct(&self, packed: &Self::Packed, block: Block<'_, T>, points: &mut [f64]);

    /// Tells whether [`draw_latents`](Self::draw_latents) draws.
    fn draws_latents(&self) -> bool {
        false
    }

    /// Draws latents from the posterior of each point of a block, `samples` times. Draws depend on the row of a point alone.
    ///
    /// # Shapes
    /// `latents: B × samples × H`, row-major.
    ///
    /// # Panics
    /// Unless the model [`draws_latents`](Self::draws_latents).
    fn draw_latents(
        &self,
        _packed: &Self::Packed,
        _block: Block<'_, T>,
        _samples: usize,
        _latents: &mut [f64],
    ) {
        panic!("the model draws no latents");
    }
}

/// Fills a slice with points, row-major, and appends the component of each point if the model has components.
pub type BlockSampler<'a> =
    Box<dyn Fn(&mut Xoshiro256PlusPlus, &mut [f64], &mut Vec<u32>) + Send + Sync + 'a>;

/// A model from which points can be drawn.
pub trait Sample: GenerativeModel {
    /// Returns a function that draws points. Called once; the function may then be called from any thread.
    fn sampler(&self) -> BlockSampler<'_>;
}
