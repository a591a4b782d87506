//! Fits: settings of Python become a specification, and a fit becomes attributes.

use crate::model::Model;
use crate::points::Points;
use crate::raise;
use crate::watch::{Callbacks, watched};
use entropysum::any::{self, AnySpec, CheckpointFile, Run, Source};
use entropysum::data::{BadRows, Columns, Schema};
use entropysum::em::{
    AutoencoderSpec, FactorAnalyzersSpec, Init, LearningRateSchedule, LinearGaussianAlgorithm,
    LinearGaussianSpec, MixtureSpec, SbnSpec, StreamAlgorithm, StreamConfig,
};
use entropysum::family::{ConjugatePrior, KnownParameters, Regularization, registry};
use entropysum::model::{
    Activation, LatentPosterior, LatentPrior, Noise, NoiseStructure, Posterior, Rotation,
    TruncatedSearch,
};
use entropysum::monitor::Monitor;
use entropysum::{Config, Error, Executor, Result};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What to fit and how. Python gives all items; those that a model has no use for are `None`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Settings {
    model: String,
    n_components: usize,
    latents: Vec<usize>,
    known: BTreeMap<String, Vec<f64>>,
    init: String,
    start: Option<Py<Model>>,
    posterior: Option<String>,
    n_states: Option<usize>,
    ridge: f64,
    algorithm: Option<String>,
    rotation: Option<String>,
    ignore_missing: bool,
    skip_bad_rows: bool,
    monitor: String,
    max_iter: usize,
    tol: f64,
    rtol: f64,
    max_time: Option<f64>,
    reg_covar: Option<f64>,
    covariance_prior: Option<String>,
    n_init: usize,
    seed: u64,
    threads: Option<usize>,
    batch_size: Option<usize>,
    epochs: usize,
    polish: usize,
    network: Option<Network>,
    code: Option<Code>,
}

/// The part of the settings that binary sparse codes have.
#[derive(Debug, FromPyObject)]
#[pyo3(from_item_all)]
struct Code {
    hidden: Vec<usize>,
    activation: String,
    noise: String,
}

impl Code {
    fn spec(&self, latents: usize) -> Result<SbnSpec> {
        let noises = [Noise::Isotropic, Noise::Diagonal];
        let activation = named("activation", &self.activation, &Activation::ALL, Activation::name)?;
        let hidden = self.hidden.iter().copied().filter(|&units| units > 0).collect();
        Ok(SbnSpec::binary_sparse_coding(latents)
            .with_noise(named("noise", &self.noise, &noises, noise_name)?)
            .with_hidden_units(hidden, activation))
    }
}

/// The part of the settings that autoencoders have.
#[derive(Debug, FromPyObject)]
#[pyo3(from_item_all)]
struct Network {
    hidden: Vec<usize>,
    activation: String,
    decoder: String,
    prior: String,
    noise: String,
    learning_rate: f64,
    schedule: String,
    patience: usize,
}

impl Network {
    fn spec(&self, name: &str, latents: usize) -> Result<AutoencoderSpec> {
        let spec = match name {
            "sparse-coding" => AutoencoderSpec::sparse_coding(latents),
            _ => AutoencoderSpec::new(latents),
        };
        let decoder = named("decoder", &self.decoder, &["mlp", "linear"], |name| name)?;
        let noises = [Noise::Isotropic, Noise::Diagonal];
        Ok(spec
            .hidden(self.hidden.iter().copied().filter(|&units| units > 0).collect())
            .decoder_is_linear(decoder == "linear")
            .activation(named("activation", &self.activation, &Activation::ALL, Activation::name)?)
            .prior(named("prior", &self.prior, &LatentPrior::ALL, LatentPrior::name)?)
            .noise(named("noise", &self.noise, &noises, noise_name)?))
    }

    /// Sets what a fit that goes on from a model may set anew.
    fn steps(&self, spec: AutoencoderSpec) -> Result<AutoencoderSpec> {
        let all = LearningRateSchedule::ALL;
        let schedule = named("learning_rate", &self.schedule, &all, LearningRateSchedule::name)?;
        Ok(spec.learning_rate(self.learning_rate).schedule(schedule).patience(self.patience))
    }
}

fn noise_name(noise: Noise) -> &'static str {
    match noise {
        Noise::Isotropic => "scalar",
        Noise::Diagonal => "diagonal",
    }
}

/// Where a fit is kept, and on which points it is audited.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Keep<'py> {
    checkpoint: Option<PathBuf>,
    every: f64,
    resume: bool,
    held_out: Option<Points<'py>>,
    audit: usize,
}

impl Keep<'_> {
    fn file(&self) -> Result<Option<CheckpointFile>> {
        let Some(path) = self.checkpoint.clone() else { return Ok(None) };
        let every = seconds("checkpoint_every", self.every)?;
        // The fit warns at its end.
        Ok(Some(CheckpointFile { path, every, resume: self.resume, complain: |_| () }))
    }
}

fn seconds(setting: &str, value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|fault| Error::Config(format!("{setting} is {value}: {fault}")))
}

/// Returns the value of this name.
fn named<V: Copy>(
    setting: &str,
    asked: &str,
    all: &[V],
    name: impl Fn(V) -> &'static str,
) -> Result<V> {
    all.iter().copied().find(|&value| name(value) == asked).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|&value| name(value)).collect();
        Error::Config(format!("{setting} is {asked:?}, expected {}", names.join(" or ")))
    })
}

fn start_called<M>(name: &str) -> Result<Init<M>> {
    Ok(match name {
        "auto" => Init::Auto,
        "kmeans" | "k-means++" => Init::KMeansPlusPlus,
        "random" => Init::Random,
        "random_from_data" => Init::RandomFromData,
        _ => {
            return Err(Error::Config(format!(
                "init_params is {name:?}, expected auto, kmeans, k-means++, random or random_from_data"
            )));
        }
    })
}

impl Settings {
    fn bad_rows(&self) -> BadRows {
        if self.skip_bad_rows { BadRows::Skip } else { BadRows::Error }
    }

    /// Returns the algorithm by minibatches, if there is to be one.
    fn stream_algorithm(&self) -> Option<StreamAlgorithm> {
        let all = [StreamAlgorithm::Stepwise, StreamAlgorithm::Incremental];
        match &self.algorithm {
            Some(name) => all.into_iter().find(|algorithm| algorithm.name() == name),
            None => self.batch_size.map(|_| StreamAlgorithm::Stepwise),
        }
    }

    fn stream(&self, audit: usize) -> Option<StreamConfig> {
        let default = StreamConfig::default();
        Some(
            StreamConfig::default()
                .algorithm(self.stream_algorithm()?)
                .batch_size(self.batch_size.unwrap_or(default.batch_size))
                .epochs(self.epochs)
                .polish(self.polish)
                .audit(audit)
                .bad_rows(self.bad_rows()),
        )
    }

    fn config(&self) -> Result<Config> {
        let max_time = self.max_time.map(|value| seconds("max_time", value)).transpose()?;
        Ok(Config::default()
            .label(self.label())
            .max_iter(self.max_iter)
            .tol(self.tol)
            .rtol(self.rtol)
            .monitor(named("monitor", &self.monitor, &Monitor::ALL, Monitor::name)?)
            .max_time(max_time)
            .regularization(Regularization {
                reg_covar: self.reg_covar,
                prior: self.covariance_prior()?,
                ..Default::default()
            })
            .n_init(self.n_init)
            .seed(self.seed))
    }

    /// Returns what is fitted, in words: a checkpoint goes on under the same words only.
    fn label(&self) -> String {
        format!(
            "{} {} {:?}, known {:?}, {}, {:?} posteriors {:?}, ridge {}, rotation {:?}, missing {}, {:?}{:?}",
            self.model,
            self.n_components,
            self.latents,
            self.known,
            self.init,
            self.posterior,
            self.n_states,
            self.ridge,
            self.rotation,
            self.ignore_missing,
            self.network,
            self.code
        )
    }

    fn covariance_prior(&self) -> Result<Option<ConjugatePrior>> {
        let known = [ConjugatePrior::NAME];
        let prior = |asked: &String| named("covariance_prior", asked, &known, |name| name);
        let name = self.covariance_prior.as_ref().map(prior).transpose()?;
        Ok(name.map(|_| ConjugatePrior::default()))
    }

    /// Returns the start, if it is a model of the kind that is fitted.
    fn start<M>(&self, is_kind: impl Fn(any::Model) -> Result<M>) -> Result<Option<M>> {
        self.start.as_ref().map(|start| is_kind(start.get().model.clone())).transpose()
    }

    /// Returns what is known of the family, and what the points tell of it.
    fn known_from(&self, points: Source<'_>, name: &str) -> Result<KnownParameters> {
        let known = self.known.iter().fold(KnownParameters::default(), |known, (key, values)| {
            known.with(key, values.clone())
        });
        points.tells(name, known)
    }

    fn n_latents(&self) -> usize {
        self.latents.first().copied().unwrap_or_default()
    }

    fn spec(&self, points: Source<'_>) -> Result<AnySpec> {
        let name = points.with_column_numbers(&self.model)?;
        if let Some(&noise) = NoiseStructure::ALL.iter().find(|it| it.model_name() == name) {
            let start = self.start(|model| model.try_into())?;
            let mut spec = match start {
                Some(model) => FactorAnalyzersSpec::from_model(model),
                None => FactorAnalyzersSpec {
                    init: start_called(&self.init)?,
                    ..FactorAnalyzersSpec::new(noise, self.n_components, self.n_latents())
                },
            };
            spec.parameter_expansion = self.algorithm.as_deref() != Some("em");
            spec.bad_rows = self.bad_rows();
            let asked = self.posterior.as_deref().unwrap_or("exact");
            let truncated = Posterior::Truncated(TruncatedSearch::default());
            let all = [Posterior::Exact, truncated];
            let posterior = match asked {
                "auto" => Posterior::of_factor_analyzers(spec.n_components, points.len()),
                asked => named("posterior", asked, &all, Posterior::name)?,
            };
            return Ok(spec.with_posterior(posterior).into());
        }
        if [Noise::Isotropic, Noise::Diagonal].iter().any(|noise| noise.model_name() == name) {
            let latents = self.n_latents();
            let spec = match name == Noise::Isotropic.model_name() {
                true => LinearGaussianSpec::ppca(latents),
                false => LinearGaussianSpec::factor_analysis(latents),
            };
            let all = LinearGaussianAlgorithm::ALL;
            let algorithm = match &self.algorithm {
                Some(asked) => named("algorithm", asked, &all, LinearGaussianAlgorithm::name)?,
                None if self.start.is_some() => LinearGaussianAlgorithm::PxEm,
                None => spec.algorithm,
            };
            let rotation = self.rotation.as_deref();
            let rotation =
                rotation.map(|asked| named("rotation", asked, &Rotation::ALL, Rotation::name));
            let init = self.start(|model| model.try_into())?;
            let spec =
                LinearGaussianSpec { algorithm, rotation: rotation.transpose()?, init, ..spec };
            return Ok(if self.ignore_missing { spec.ignoring_missing() } else { spec }.into());
        }
        if name == "sbn" || name == "sbn3" {
            let spec = match self.start(|model| model.try_into())? {
                Some(model) => SbnSpec::from_model(model),
                None => match self.latents[..] {
                    [latents, hidden] => SbnSpec::new(latents).with_hidden(hidden),
                    _ => SbnSpec::new(self.n_latents()),
                },
            };
            let states = self.n_states.unwrap_or(LatentPosterior::DEFAULT_STATES);
            let posterior = match self.posterior.as_deref() {
                None => spec.posterior,
                Some(asked) => {
                    let all = [LatentPosterior::Exact, LatentPosterior::Truncated { states }];
                    named("posterior", asked, &all, LatentPosterior::name)?
                }
            };
            return Ok(SbnSpec { ridge: self.ridge, ..spec.with_posterior(posterior) }.into());
        }
        if let Some(code) = &self.code {
            let spec = match self.start(|model| model.try_into())? {
                Some(model) => SbnSpec::from_model(model),
                None => code.spec(self.n_latents())?,
            };
            let states = self.n_states.unwrap_or(LatentPosterior::DEFAULT_STATES);
            let spec = spec.with_posterior(LatentPosterior::Truncated { states });
            return Ok(if self.ignore_missing { spec.ignoring_missing() } else { spec }.into());
        }
        if let Some(network) = &self.network {
            let spec = match self.start(|model| model.try_into())? {
                Some(model) => AutoencoderSpec::from_model(model),
                None => network.spec(&name, self.n_latents())?,
            };
            return Ok(network.steps(spec)?.into());
        }
        let spec = match self.start(|model| model.try_into())? {
            Some(model) => MixtureSpec::from_model(model),
            None => {
                let known = self.known_from(points, &name)?;
                let family = registry::build_known(&name, points.dim(), &known)?;
                MixtureSpec::new(family, self.n_components).with_init(start_called(&self.init)?)
            }
        };
        let spec = if self.ignore_missing { spec.ignoring_missing()? } else { spec };
        let asked = self.posterior.as_deref().unwrap_or("exact");
        let truncated = Posterior::Truncated(TruncatedSearch::default());
        let posteriors = [Posterior::Exact, Posterior::Hard, truncated];
        let posterior = match asked {
            "auto" => {
                let (n_points, is_sparse) = (points.len(), points.is_sparse());
                Posterior::automatic(&*spec.family, spec.n_components, n_points, is_sparse)
            }
            asked => named("posterior", asked, &posteriors, Posterior::name)?,
        };
        Ok(spec.with_bad_rows(self.bad_rows()).with_posterior(posterior).into())
    }
}

/// How a fit went.
#[pyclass(module = "entropysum._entropysum", frozen, get_all)]
pub struct Fit {
    model: Py<Model>,
    /// Columns of the history by name.
    history: Py<PyDict>,
    stop_reason: &'static str,
    warnings: Vec<String>,
    /// Components whose spread stood at its floor at the end.
    floored: Vec<usize>,
    seconds: f64,
    /// What was decided about the columns of a file.
    notes: Vec<String>,
}

fn schema_of(points: &Points<'_>, source: Source<'_>) -> Option<Schema> {
    points.schema().or_else(|| source.columns().and_then(Columns::schema))
}

/// Fits a model; `e_step` returns the statistics of points that lie elsewhere. Returns the fit, and the exception of a signal or of a
/// callback that ended it.
#[pyfunction]
#[pyo3(signature = (points, settings, keep, callback=None, e_step=None))]
pub fn fit<'py>(
    py: Python<'py>,
    points: Points<'py>,
    settings: Settings,
    keep: Keep<'py>,
    callback: Option<Py<PyAny>>,
    e_step: Option<Py<PyAny>>,
) -> PyResult<(Fit, Option<Bound<'py, PyAny>>)> {
    let given = settings.start.as_ref().and_then(|start| start.get().schema.as_ref());
    let source = points.source(&settings.model, given)?;
    let schema = schema_of(&points, source.borrow());
    let notes = source.borrow().columns().map(|columns| columns.notes.clone()).unwrap_or_default();
    let held_out = keep.held_out.as_ref();
    let held_out = held_out.map(|it| it.source(&settings.model, schema.as_ref())).transpose()?;
    let checkpoint = keep.file().map_err(raise)?;
    let audit = keep.audit;
    let callbacks = Callbacks { on_record: callback.as_ref(), e_step: e_step.as_ref() };
    let (found, exception) = watched(py, callbacks, |mut watch| {
        let (executor, config) = (Executor::new(settings.threads)?, settings.config()?);
        let source = source.borrow().until(watch.stop);
        let held_out = held_out.as_ref().map(|points| points.borrow().until(watch.stop));
        let (points, stream) = (source.borrow(), settings.stream(audit));
        let run = Run {
            stream: stream.as_ref(),
            held_out: held_out.as_ref().map(|points| points.borrow()),
            checkpoint: checkpoint.as_ref(),
            elsewhere: callbacks.e_step.map(|_| watch.e_step()),
            ..Run::new(&executor, &config, &mut watch)
        };
        settings.spec(points)?.fit(points, run)
    });
    let found = match (found, exception) {
        (Ok(found), exception) => (found, exception),
        // There was no model yet.
        (Err(Error::Interrupted), Some(exception)) => return Err(exception),
        (Err(fault), _) => return Err(raise(fault)),
    };
    let (found, exception) = found;
    let history = PyDict::new(py);
    for (name, values) in found.history.columns() {
        history.set_item(name, values.into_pyarray(py))?;
    }
    let fit = Fit {
        model: Py::new(py, Model { model: found.model, schema })?,
        history: history.unbind(),
        stop_reason: found.stop_reason.name(),
        warnings: found.warnings,
        floored: found.floored,
        seconds: found.seconds,
        notes,
    };
    Ok((fit, exception.map(|exception| exception.into_value(py).into_bound(py).into_any())))
}

/// Returns the model that a fit would begin with.
#[pyfunction]
pub fn start<'py>(py: Python<'py>, points: Points<'py>, settings: Settings) -> PyResult<Model> {
    let given = settings.start.as_ref().and_then(|start| start.get().schema.as_ref());
    let source = points.source(&settings.model, given)?;
    let schema = schema_of(&points, source.borrow());
    let (model, exception) = watched(py, Callbacks::default(), |watch| {
        let (executor, config) = (Executor::new(settings.threads)?, settings.config()?);
        let source = source.borrow().until(watch.stop);
        settings.spec(source.borrow())?.start(source.borrow(), &executor, &config)
    });
    match exception {
        Some(exception) => Err(exception),
        None => Ok(Model { model: model.map_err(raise)?, schema }),
    }
}

/// The rows that a fit to points that lie elsewhere looks at before its first E-step, ascending.
#[pyfunction]
pub fn rows_looked_at<'py>(
    py: Python<'py>,
    points: Points<'py>,
    settings: Settings,
) -> PyResult<Bound<'py, PyArray1<u64>>> {
    let source = points.source(&settings.model, None)?;
    let source = source.borrow();
    let (size, weights) = ((source.len(), source.dim()), points.weights()?);
    let rows = settings
        .spec(source)
        .and_then(|spec| spec.rows_looked_at(size, weights, &settings.config()?));
    Ok(rows.map_err(raise)?.into_pyarray(py))
}

/// The parameters of the family that the points tell, beside those that are known.
#[pyfunction]
pub fn tells(points: Points<'_>, settings: Settings) -> PyResult<BTreeMap<String, Vec<f64>>> {
    let source = points.source(&settings.model, points.schema().as_ref())?;
    let known = settings.known_from(source.borrow(), &settings.model).map_err(raise)?;
    let families = registry::names().flat_map(registry::known_parameters);
    let told = families.filter_map(|&key| Some((key.to_owned(), known.get(key)?.to_vec())));
    Ok(told.collect())
}
