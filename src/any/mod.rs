//! Models of any kind and points in either precision, without generics: for bindings to other languages, and programs that learn at
//! run time what to fit.
//!
//! | type | holds |
//! |---|---|
//! | [`Source`], [`OwnedSource`] | points in `f32` or `f64` |
//! | [`AnySpec`] | what to fit, and how to start |
//! | [`Run`] | how: settings, threads, who watches, where it is kept |
//! | [`Model`] | a model of any kind; its methods here are those of [`inference`](crate::inference) |
//! | [`Applied`] | a model with points and, where that pays, a search of its components |
//! | [`AnyOnline`] | a learner that is fed points |
//! | [`Parameters`], [`Statistics`] | the E-step of a part of the points, for fits to points that lie elsewhere |
//!
//! All learning and use of models behind these types is compiled once, with this crate. A crate that calls it compiles in seconds.
//!
//! ```
//! use entropysum::any::{AnySpec, OwnedSource, PerPoint, Run};
//! use entropysum::data::Points;
//! use entropysum::{Config, Executor, MixtureSpec, Silent, family};
//!
//! let values: Vec<f32> = (0u8..200).map(|i| f32::from(i % 10) + if i < 100 { 0.0 } else { 50.0 }).collect();
//! let points = OwnedSource::F32(Box::new(Points::from_rows(&values, 1)?));
//! let spec = AnySpec::from(MixtureSpec::new(family::registry::build("gaussian-full", 1)?, 2));
//! let (executor, config) = (Executor::new(Some(1))?, Config::default());
//! let fit = spec.fit(points.borrow(), Run::new(&executor, &config, &mut Silent))?;
//!
//! let mut densities = Vec::new();
//! let mut sink = |batch: &[f64]| Ok(densities.extend_from_slice(batch));
//! fit.model.per_point(PerPoint::LogDensity, points.borrow(), &executor, &mut sink)?;
//! let mean = densities.iter().sum::<f64>() / 200.0;
//! assert!((mean - fit.model.score(points.borrow(), &executor)?.log_likelihood).abs() < 1e-12);
//! # Ok::<(), entropysum::Error>(())
//! ```

mod applied;
mod elsewhere;
mod model;
mod online;
mod run;
mod source;
mod spec;

pub use crate::store::Model;
pub use applied::Applied;
pub use elsewhere::{Parameters, Statistics, SumElsewhere};
pub use model::{Latents, PerPoint, SampleSink, Sink};
pub use online::AnyOnline;
pub use run::{CheckpointFile, Run};
pub use source::{InSource, OwnedSource, Precision, Source, sparse_families, table_options};
pub use spec::AnySpec;
#[cfg(feature = "cli")]
pub(crate) use {model::with_model, source::with_points};
