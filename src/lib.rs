//! Mixtures of exponential families, learned by fast blocked EM and watched by entropy sums.
//!
//! # Cluster the points of a file
//!
//! ```
//! use entropysum::{Config, Executor, MixtureSpec, Silent, data, family, fit, inference};
//!
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/geyser.csv");
//! let points = data::open::<f64>(path, &Default::default())?; // CSV, NumPy, Parquet, ...
//! let spec = MixtureSpec::new(family::registry::build("gaussian-full", points.dim())?, 2);
//! let (config, executor) = (Config::default(), Executor::new(None)?);
//! let fit = fit(&spec, &*points, &executor, &config, &mut Silent)?;
//! let mut labels = Vec::new();
//! inference::predict(&fit.model, &*points, &executor, |_, batch| Ok(labels.extend_from_slice(batch)))?;
//!
//! assert!(fit.converged());
//! assert_eq!(labels.len() as u64, points.len());
//! let last = fit.last().unwrap();
//! assert!(last.gap().abs() < 1e-12); // the entropy sum is the lower bound
//! # Ok::<(), entropysum::Error>(())
//! ```
//!
//! Points in memory are [`Points`]: [`Points::from_rows`] borrows a slice, [`Points::owned`] takes a vector,
//! [`Points::from_mat`] borrows a matrix of any strides. [`family::registry`] lists the families.
//!
//! # Ask for one point at a time
//!
//! A [`Predictor`] answers in about a microsecond for small models, and allocates nothing.
//!
//! ```
//! use entropysum::family::{Parameters, registry};
//! use entropysum::{Mixture, Predictor};
//!
//! let parameters = Parameters { components: vec![vec![0.5], vec![8.0]], shared: vec![] };
//! let model = Mixture::new(registry::build("poisson", 1)?, vec![0.5, 0.5], parameters)?;
//! let mut predictor = Predictor::<f64>::new(&model);
//! assert_eq!(predictor.label(&[7.0])?, 1);
//! assert!(predictor.log_density(&[7.0])? > predictor.log_density(&[4.0])?);
//! assert!(predictor.label(&[0.5]).is_err()); // no count
//! # Ok::<(), entropysum::Error>(())
//! ```
//!
//! # Learn from a stream
//!
//! [`em::Online`] is fed blocks of points from anywhere; here a channel. Files that do not fit into memory go to
//! [`Fitting::minibatches`] instead.
//!
//! ```
//! use entropysum::em::Online;
//! use entropysum::family::{Parameters, registry};
//! use entropysum::{Block, Executor, Mixture};
//!
//! let (sender, receiver) = std::sync::mpsc::channel();
//! std::thread::spawn(move || {
//!     for batch in 0..100 {
//!         let wave = |i: usize| ((64 * batch + i) as f64).sin();
//!         let values = (0..64).map(|i| wave(i) + if i % 2 == 0 { -4.0 } else { 4.0 });
//!         sender.send(values.collect::<Vec<f64>>()).unwrap();
//!     }
//! });
//!
//! let parameters = Parameters { components: vec![vec![-1.0, 1.0], vec![1.0, 1.0]], shared: vec![] };
//! let start = Mixture::new(registry::build("gaussian-full", 1)?, vec![0.5, 0.5], parameters)?;
//! let mut online = Online::new(start, Default::default(), Default::default())?;
//! let executor = Executor::new(Some(1))?;
//! for values in receiver {
//!     online.partial_fit(Block::from_rows(&values, 1)?, &executor)?;
//! }
//! let means = online.learner().model().parameter("means").unwrap();
//! assert!((means[0] + 4.0).abs() < 0.2 && (means[1] - 4.0).abs() < 0.2);
//! # Ok::<(), entropysum::Error>(())
//! ```
//!
//! # Bring a family of your own
//!
//! Independent columns of a family are the formulas of one value: [`Univariate`](expert::family::Univariate).
//!
//! ```
//! use entropysum::expert::family::{Independent, Outcome, Statistic, Univariate};
//! use entropysum::family::Support;
//! use entropysum::expert::rng::{Rng, uniform};
//! use entropysum::{Config, Executor, MixtureSpec, Points, Silent, fit};
//! use std::sync::Arc;
//!
//! /// p(x) = exp(-x / m - ln m)
//! #[derive(Clone, Debug)]
//! struct Waiting;
//!
//! impl Univariate for Waiting {
//!     fn name(&self) -> &'static str {
//!         "waiting"
//!     }
//!     fn parameters(&self) -> &'static [&'static str] {
//!         &["means"]
//!     }
//!     fn support(&self) -> Support {
//!         Support::NonNegative
//!     }
//!     fn statistics(&self, column: u32) -> Vec<Statistic> {
//!         vec![Statistic::Value(column)]
//!     }
//!     fn check(&self, theta: &[f64]) -> Result<(), String> {
//!         if theta[0] > 0.0 { Ok(()) } else { Err(format!("the mean is {}", theta[0])) }
//!     }
//!     fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64 {
//!         eta[0] = -1.0 / theta[0];
//!         theta[0].ln() // the log-partition
//!     }
//!     fn mean(&self, theta: &[f64], mean: &mut [f64]) {
//!         mean[0] = theta[0];
//!     }
//!     fn maximize(&self, mean: &[f64], _: f64, theta: &mut [f64]) -> Outcome {
//!         theta[0] = mean[0];
//!         Outcome::Maximized
//!     }
//!     fn pseudo_entropy(&self, theta: &[f64]) -> f64 {
//!         1.0 + theta[0].ln()
//!     }
//!     fn sample(&self, theta: &[f64], rng: &mut Rng) -> f64 {
//!         -theta[0] * (1.0 - uniform(rng)).ln()
//!     }
//! }
//!
//! let values: Vec<f64> = (0..200).map(|i| if i % 2 == 0 { 0.1 } else { 30.0 } + 0.01 * i as f64).collect();
//! let spec = MixtureSpec::new(Arc::new(Independent::new(vec![Waiting])), 2);
//! let (points, config) = (Points::from_rows(&values, 1)?, Config::default());
//! let fit = fit(&spec, &points, &Executor::new(Some(1))?, &config, &mut Silent)?;
//! assert!(fit.last().unwrap().gap().abs() < 1e-12);
//! # Ok::<(), entropysum::Error>(())
//! ```
//!
//! # Take points from other crates
//!
//! A matrix of `ndarray` or `nalgebra` is a slice with a shape. Neither crate is needed here.
//!
//! ```
//! use entropysum::Points;
//! use entropysum::data::DataSource;
//! use entropysum::faer::MatRef;
//!
//! // ndarray, in its standard order: `array.as_slice().unwrap()` and `array.ncols()`.
//! let slice = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
//! let rows = Points::from_rows(&slice, 3)?;
//! assert_eq!((rows.len(), rows.view()[(1, 0)]), (2, 4.0));
//!
//! // nalgebra, one row a point: `matrix.as_slice()`, `matrix.nrows()` and `matrix.ncols()`. It stores columns.
//! let columns = Points::from_mat(MatRef::from_column_major_slice(&slice, 2, 3))?;
//! assert_eq!((columns.len(), columns.view()[(1, 0)]), (2, 2.0));
//! # Ok::<(), entropysum::Error>(())
//! ```
//!
//! # The idea
//!
//! Every mixture of exponential families has the joint density
//!
//! $$\ln p(x, c) = \ln \pi\_c + \eta\_c \cdot T(x) - A(\eta\_c) + \ln h(x)$$
//!
//! (`ln p(x, c) = ln π_c + η_c · T(x) - A(η_c) + ln h(x)`), so that one E-step serves them all: two matrix products and
//! a softmax on each tile of points. What a tile leaves behind are sums of statistics; nothing of size N × C exists.
//! After an exact M-step on these sums the lower bound `F(q, Θ)` *is* a sum of entropies,
//!
//! $$F = \frac1N \sum\_n H[q\_n(c)] - H[p(c)] - \sum\_c \bar q\_c H[p(x \mid c)],$$
//!
//! for whatever `q` made the sums, and it costs nothing to know: no point is looked at again.
//!
//! # From points to the monitor
//!
//! | step | where | what |
//! |---|---|---|
//! | source | [`data`] | a [`DataSource`] hands out points in any order, to several threads |
//! | block | [`Block`] | a [`Block`] borrows consecutive points from a source or a lane's [`BlockBuf`] |
//! | statistics | [`family`] | an [`ExponentialFamily`](expert::family::ExponentialFamily) lists its `T(x)` and its natural parameters |
//! | kernels | `kernels` | statistics, logits and posteriors of a tile, `f32` or `f64` ([`Scalar`]) |
//! | E-step | [`model`] | [`EStep`](expert::model::EStep) drives the kernels over a block; [`Mixture`] is the model |
//! | sufficient statistics | [`expert::stats`] | [`SuffStats`](expert::stats::SuffStats): flat `f64` sums, one per lane, merged in order |
//! | threads | [`Executor`] | an executor runs the lanes; their number depends on data and model alone |
//! | M-step | [`em`] | [`fit`], [`Fitting`]: starts, steps, stopping rules, checkpoints, under a [`Config`] |
//! | minibatches | [`Fitting::minibatches`], [`em::Online`] | running statistics, an M-step after every batch, checkpoints |
//! | entropy sum | [`model`] | [`EntropySum`] from parameters and statistics |
//! | observer | [`monitor`] | an [`Observer`] gets an [`IterRecord`] after each iteration and may end the fit |
//! | use | [`inference`] | labels, posteriors, latents, densities, scores and samples of a fitted model |
//! | use, one point at a time | [`predictor`] | labels, posteriors and densities without allocation |
//! | the theory's condition | [`expert::criterion`] | whether a model's bound becomes an entropy sum, and the certified gap |
//! | model selection | [`selection`] | candidates on the same points, compared by a criterion |
//! | model files | [`store`] | a model of any kind as safetensors or JSON, the same bits back |
//! | bindings | [`any`] | models of any kind and points in either precision, without generics |
//!
//! Families, models and learners of your own implement traits of [`expert`]. Tests, benches and measurements reach parts of
//! the engine there. It promises no stability.
//!
//! Blocks and kernels are generic over the precision. Parameters, statistics, entropies and the monitor are `f64`
//! throughout and never see a point. Lower layers do not know the higher ones; `tests/suite/layers.rs` checks it.
//!
//! # Equation, function, test
//!
//! Numbers are those of J. Warnken, D. Velychko, S. Damm, A. Fischer and J. Lücke, *Generative Models with ELBOs
//! Converging to Entropy Sums*, [arXiv:2501.09022](https://arxiv.org/abs/2501.09022). Tests without a file are in
//! `tests/suite/identities.rs`.
//!
//! | equation | function | test |
//! |---|---|---|
//! | Eqn 2, the lower bound `F(q, Θ)` | [`lower_bound`](expert::model::GenerativeModel::lower_bound) | `eqn_2_lower_bound_from_statistics_is_the_elbo_at_any_parameters` |
//! | Eqns 3 and 39, the entropy sum | [`entropy_sum`](expert::model::GenerativeModel::entropy_sum) | `eqn_3_entropy_sum_is_the_elbo_after_an_exact_m_step_at_random_responsibilities` |
//! | Eqns 49, 50 and 52, with a base measure | [`EntropySum::base_measure`] | `poisson_mixture_of_doctor_visits_follows_40_digits` (`tests/suite/golden_families.rs`) |
//! | Eqn 51, the pseudo entropy | [`pseudo_entropies`](expert::family::ExponentialFamily::pseudo_entropies) | `eqn_51_pseudo_entropy_is_the_log_partition_minus_natural_times_mean` (`tests/suite/conformance.rs`) |
//! | Definition 5, Propositions 4 and 5 | [`Mixture`] | `mean_map_is_the_gradient_of_the_log_partition` and `maximize_inverts_the_mean_map` (`tests/suite/conformance.rs`) |
//! | gap `F - entropy sum` where the M-step is not exact | [`IterRecord::gap`] | `a_ridge_leaves_the_known_gap` |
//! | sandwich `L(Θ_t) ≤ entropy sum ≤ L(Θ_{t+1})` | [`IterRecord`] | `entropy_sums_stand_between_log_likelihoods_in_every_iteration` |
//! | gain `Δ = KL(π'‖π) + Σ_c π'_c KL(p'_c‖p_c)` | [`IterRecord::delta`] | `delta_is_the_divergence_of_the_step` |
//! | truncated posteriors: very many components | [`Posterior::Truncated`] | `the_entropy_sum_is_the_bound_and_the_bound_never_falls_for_every_family` (`tests/suite/truncated_mixtures.rs`) |
//! | hard posteriors: k-means | [`Posterior::Hard`] | `hard_em_with_equal_weights_is_k_means` (`tests/suite/golden.rs`) |
//! | the surrogate of stepwise EM is the entropy sum, at every step | [`Stepwise`](expert::em::Stepwise) | `entropy_sum_is_the_surrogate_at_every_step_of_every_family` (`tests/suite/streaming.rs`) |
//! | Propositions 2 and 3 with latents `(c, z)` | [`MixtureOfFactorAnalyzers`] | `the_gap_identity_holds_at_random_parameters_and_posteriors` (`tests/suite/mfa.rs`) |
//! | Eqns 8-10 and 18-21, Proposition 1 | [`SigmoidBeliefNet`](model::SigmoidBeliefNet) | `eqns_10_and_21_bound_entropies_and_gap_match_brute_force_at_random_posteriors` (`tests/suite/sbn.rs`) |
//! | Proposition 2 with binary latents: binary sparse coding | [`SigmoidBeliefNet::binary_sparse_coding`](model::SigmoidBeliefNet::binary_sparse_coding) | `em_over_all_states_matches_40_digits` (`tests/suite/binary_sparse_coding.rs`) |
//! | trajectories of EM | [`em::fit`] | `em_on_faithful_follows_40_digit_trajectories` (`tests/suite/golden.rs`) |
//! | Eqns 27 to 29, p-PCA and factor analysis (Props. 2 and 3) | [`LinearGaussian`](model::LinearGaussian) | `closed_form_agrees_with_40_digits_on_iris_wine_and_digits` (`tests/suite/linear.rs`) |
//! | Eqns 24 and 32, variational autoencoders; both halves of the gap | [`VariationalAutoencoder`](model::VariationalAutoencoder) | `a_gaussian_autoencoder_matches_40_digits_at_any_parameters` (`src/model/autoencoder/tests.rs`) |
//! | Definitions 3 and 4, Gaussian observables; Eqn 24, VAEs | [`gaussian_observable`](expert::gaussian_observable) | `gaussian_monitor_gives_entropy_sum_and_both_halves_of_the_gap_of_a_vae` (`tests/suite/linear.rs`) |
//! | same bits on any number of threads | [`Executor`] | `fits_scores_and_samples_have_the_same_bits_on_1_2_and_7_threads` (`tests/suite/determinism.rs`) |
//!
//! # Where code and paper differ
//!
//! - The propositions speak of stationary points. Here equality is used after every exact M-step, which is all it needs:
//!   `F` minus the entropy sum is a derivative of `F` with respect to the model's parameters, in one direction, at any `q`.
//! - So away from M-steps the entropy sum is *no* bound, although Eqns 55 and 62 could be read that way: with fresh
//!   posteriors of parameters that are no M-step it can exceed the log-likelihood. No function here offers that number.
//! - Eqns 28 and 29 print `+ ½ ln det(σ⁻² W'W + 1)`; the posterior covariance is the inverse of that matrix, so the sign is minus.
//! - The prior of p-PCA and factor analysis has no parameter, so plain EM leaves a gap of `½ (H - tr ⟨z z'⟩)` until it has
//!   converged; parameter-expanded EM leaves none.
//! - Eqn 41 prints its second term as `1/π_c`; it is `1/π_C` of the last component, as in Eqn 42.
//! - Eqn 53 puts a tilde on all three entropies; only that of the observables is a pseudo entropy (as in Eqn 52).
//!   The sentence before it means Eqn 50, not Eqn 51.
//! - Proposition 4 counts L free parameters a component. A full covariance has them once its symmetric half is taken
//!   (as here); tied covariances are not covered as stated, but fulfil Definition 1 with `β = -Σ`.
//! - The base measure of a Gaussian is constant because its variance is a parameter; a known variance is another family.
//! - A ridge, a floor, fixed weights or frozen components leave a gap that is not zero; it is reported, not hidden.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `files` | yes | files of points ([`data::open`]), model files and checkpoints ([`store`]) |
//! | `compression` | yes | text compressed by gzip or Zstandard |
//! | `cli` | yes | the command line, and pictures of monitors ([`monitor::plot`]) and images |
//! | `parquet` | no | Parquet files; needs a C compiler |
//!
//! `cli`, `compression` and `parquet` imply `files`. A crate that brings its own points takes `default-features = false`,
//! and has models as JSON values. No feature changes a number.

#![deny(
    missing_docs,
    missing_debug_implementations,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks,
    rustdoc::broken_intra_doc_links
)]
// Some state of the drivers is read and written by checkpoints alone.
#![cfg_attr(not(feature = "files"), allow(dead_code))]

#[macro_use]
mod setters;

mod aligned;
#[cfg(feature = "files")]
pub mod any;
#[cfg(feature = "files")]
mod atomic;
mod block;
#[cfg(feature = "cli")]
pub mod cli;
mod codec;
mod criterion;
pub mod data;
pub mod em;
mod entropy;
pub mod error;
mod exec;
pub mod expert;
pub mod family;
pub mod inference;
mod kernels;
mod lbfgs;
mod linalg;
pub mod model;
pub mod monitor;
mod pairwise;
#[cfg(feature = "cli")]
mod picture;
mod point_faults;
pub mod predictor;
pub mod ranks;
mod rng;
mod scalar;
mod search;
pub mod selection;
mod special;
mod stats;
pub mod store;
mod work;

pub use block::{Block, BlockBuf};
pub use data::DataSource;
#[doc(no_inline)]
pub use data::Points;
pub use em::{Config, FactorAnalyzersSpec, Fit, Fitting, Init, MixtureSpec, fit};
pub use error::{Error, Result};
pub use exec::Executor;
/// The linear algebra whose views stand in this crate's interface: [`Block::points`], [`Points::from_mat`].
pub use faer;
pub use model::{EntropySum, Mixture, MixtureOfFactorAnalyzers, NoiseStructure, Posterior};
pub use monitor::{IterRecord, Observer, Silent, StopReason, observe};
pub use predictor::Predictor;
/// The random generator that stands in this crate's interface; [`rng::Rng`] is its name here.
pub use rand_xoshiro;
pub use scalar::Scalar;

/// The code of the README is compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
