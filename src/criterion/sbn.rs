//! The gap identity of sigmoid belief networks and binary sparse codes on data.

use super::CertifiedGap;
use super::solve::derivative;
use crate::data::DataSource;
use crate::em::sweep::Sweeper;
use crate::em::truncated::search;
use crate::error::Result;
use crate::exec::Executor;
use crate::model::{LatentPosterior, SigmoidBeliefNet};
use crate::scalar::Scalar;

/// Step of the derivative of the bound along `β = -σ²`, which scales the noise by itself: see `solve::STEP`.
const STEP: f64 = 7.4e-4;

/// Evaluates both sides of the gap identity for a network on points, with exact posteriors, or with truncated ones after a search.
///
/// # Errors
/// If dimensions differ, or a point cannot be read or has a value that the model does not take.
pub fn certify_sigmoid_belief_net<T: Scalar>(
    model: &SigmoidBeliefNet,
    source: &dyn DataSource<T>,
    executor: &Executor,
) -> Result<CertifiedGap> {
    let stats = match model.posterior() {
        LatentPosterior::Truncated { .. } => {
            search(model, source, executor, 0)?.moments(model).clone()
        }
        LatentPosterior::Exact => model.latent_stats(&Sweeper::new(source, executor).sweep(model)?),
    };
    let (prior, layers) = model.certified_gap(&model.gradient_of(&stats));
    let observable = match model.noise() {
        None => layers.iter().sum(),
        // The noise alone moves.
        Some(_) => {
            let bound = |t: f64| vec![model.with_scaled_noise(1.0 - t).bound_of(&stats)];
            derivative(&bound, STEP)[0]
        }
    };
    Ok(CertifiedGap {
        lower_bound: model.bound_of(&stats),
        entropy_sum: model.entropies_of(&stats).total(),
        prior,
        observable,
    })
}
