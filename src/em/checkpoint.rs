//! Keeps a fit between two steps, so that another process can go on with it to the same bits.

use super::config::Config;
use super::row_memory::RowMemory;
use super::stream::{StreamAlgorithm, StreamConfig};
use crate::codec;
pub(crate) use crate::codec::encode;
use crate::data::DataSource;
use crate::data::identity::Identity;
use crate::data::shuffle::{BadRows, BatchOrder};
use crate::error::{Error, Result};
use crate::family::ConjugatePrior;
use crate::scalar::Scalar;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::time::Duration;

/// All that decides on the bits of a fit, except the model: a checkpoint goes on only under the same settings.
///
/// The number of iterations is no part of it, so that a fit can be asked for more; nor are seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Settings {
    /// Hashes of some points.
    pub points: Identity,
    /// Number of points N.
    pub n_points: u64,
    /// Dimension D of the points.
    pub dim: usize,
    /// Precision of the points.
    pub precision: String,
    /// What was asked for, in words ([`Config::label`]).
    pub label: String,
    /// How it is learned, in words.
    pub learner: String,
    /// The monitored value.
    pub monitor: String,
    /// Tolerance of its change, in nats per point.
    pub tol: f64,
    /// Tolerance of its relative change.
    pub rtol: f64,
    /// Ridge on variances.
    pub reg_covar: Option<f64>,
    /// Name of the prior of covariances.
    #[serde(default)]
    pub prior: Option<String>,
    /// Seed of all random choices.
    pub seed: u64,
    /// Settings of a fit by minibatches.
    pub minibatches: Option<Minibatches>,
}

/// The part of [`Settings`] that a fit by minibatches has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs, reason = "fields of StreamConfig, under its names")]
pub struct Minibatches {
    pub algorithm: StreamAlgorithm,
    pub batch_size: usize,
    pub window_points: u64,
    pub shuffle: bool,
    pub step_exponent: f64,
    pub step_offset: f64,
    pub least_step: Option<f64>,
    pub epochs: usize,
    pub average: f64,
    pub polish: usize,
    pub warm_up: Option<u64>,
    pub records: usize,
    pub patience: usize,
    pub bad_rows: BadRows,
}

impl Settings {
    /// Collects the settings of a fit; looks at some points.
    pub(super) fn of<T: Scalar>(
        source: &dyn DataSource<T>,
        config: &Config,
        stream: Option<(&StreamConfig, &BatchOrder)>,
        learner: &str,
    ) -> Self {
        Self {
            points: Identity::of(source),
            n_points: source.len(),
            dim: source.dim(),
            precision: T::NAME.to_owned(),
            label: config.label.clone(),
            learner: learner.to_owned(),
            monitor: config.monitor.name().to_owned(),
            tol: config.tol,
            rtol: config.rtol,
            reg_covar: config.regularization.reg_covar,
            prior: config.regularization.prior.as_ref().map(|_| ConjugatePrior::NAME.to_owned()),
            seed: config.seed,
            minibatches: stream.map(|(stream, order)| Minibatches {
                algorithm: stream.algorithm,
                batch_size: stream.batch_size,
                window_points: order.window_points(),
                shuffle: stream.shuffle,
                step_exponent: stream.step_size.exponent,
                step_offset: stream.step_size.offset,
                least_step: stream.least_step,
                epochs: stream.epochs,
                average: stream.average,
                polish: stream.polish,
                warm_up: stream.warm_up,
                records: stream.records,
                patience: stream.patience,
                bad_rows: stream.bad_rows,
            }),
        }
    }

    /// Refuses a checkpoint of another fit, and names each setting that differs; or of other points, and names the row.
    pub(super) fn check(&self, saved: &Self) -> Result<()> {
        let fields = |settings: &Self| {
            let without = Self { points: self.points.clone(), ..settings.clone() };
            let value = serde_json::to_value(without).unwrap_or_default();
            let mut fields = Vec::new();
            flatten("", &value, &mut fields);
            fields
        };
        let (ours, theirs) = (fields(self), fields(saved));
        let value_of = |fields: &[(String, String)], name: &str| {
            let found = fields.iter().find(|(field, _)| field == name);
            found.map_or("absent".to_owned(), |(_, value)| value.clone())
        };
        let names =
            theirs.iter().chain(ours.iter().filter(|it| theirs.iter().all(|t| t.0 != it.0)));
        let differences: Vec<String> = names
            .map(|(name, _)| (name, value_of(&theirs, name), value_of(&ours, name)))
            .filter(|(_, theirs, ours)| theirs != ours)
            .map(|(name, theirs, ours)| format!("{name} {theirs} there and {ours} here"))
            .collect();
        if !differences.is_empty() {
            return Err(Error::Config(format!(
                "the checkpoint is of another fit: {}",
                differences.join(", ")
            )));
        }
        match saved.points.difference(&self.points) {
            None => Ok(()),
            Some(points) => Err(Error::Config(format!(
                "the checkpoint is of a fit to other points: those from row {} on are not the same",
                points.start
            ))),
        }
    }
}

/// Lists the fields of a value by their names.
fn flatten(name: &str, value: &serde_json::Value, fields: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Object(map) => {
            map.iter().for_each(|(name, value)| flatten(name, value, fields));
        }
        value => fields.push((name.to_owned(), value.to_string())),
    }
}

/// A fit between two steps: all it takes to go on with the same bits. `store::save_checkpoint` writes it to a file.
///
/// Random numbers need no state of their own: they follow from the seed and the place in the stream.
#[derive(Debug)]
#[non_exhaustive]
pub struct Checkpoint<'a, M> {
    /// The model as it stands.
    pub model: &'a M,
    /// What decides on the bits of the fit.
    pub settings: &'a Settings,
    /// All else but the rows, encoded.
    pub state: Vec<u8>,
    /// What the learner remembers of each row between visits.
    pub(crate) rows: Option<&'a RowMemory>,
}

/// A fit that another process has kept. `store::load_checkpoint` reads it from a file.
#[non_exhaustive]
pub struct Saved<M> {
    /// The model as it stood.
    pub model: M,
    /// What decided on the bits of the fit.
    pub settings: Settings,
    /// All else but the rows, encoded.
    pub state: Vec<u8>,
    /// What the learner remembered of each row: words in little-endian order.
    pub(crate) rows: Option<Box<dyn Read + Send>>,
}

impl<M> Saved<M> {
    /// Puts together what a [`Checkpoint`] held, for models that have a file format of their own.
    pub fn new(model: M, settings: Settings, state: Vec<u8>) -> Self {
        Self { model, settings, state, rows: None }
    }
}

impl<M: std::fmt::Debug> std::fmt::Debug for Saved<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saved")
            .field("model", &self.model)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Keeps a state: writes a file, for instance.
type Save<'a, M> = Box<dyn FnMut(&Checkpoint<'_, M>) -> Result<()> + 'a>;

/// Where the states of a fit go.
pub(super) struct Checkpoints<'a, M> {
    /// Time between two.
    pub every: Duration,
    pub save: Save<'a, M>,
}

/// Decodes a state.
pub(crate) fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V> {
    codec::decode(bytes).ok_or_else(damaged)
}

/// Returns the fault of bytes that are no state.
pub(crate) fn damaged() -> Error {
    Error::Model("damaged checkpoint: its state cannot be read".to_owned())
}
