//! Helpers of the integration tests.

#[cfg(feature = "cli")]
pub mod place;

use entropysum::Executor;
use entropysum::data::{DataSource, Points, SparsePoints};
use entropysum::em::{Config, Fit, Fitting, Init, MixtureSpec, Saved, Spec, StreamConfig};
use entropysum::error::Result;
use entropysum::expert::family::ExponentialFamily;
use entropysum::expert::model::Sample;
use entropysum::expert::store::Stored;
use entropysum::expert::{is_product, parse_product, start_mixture};
use entropysum::family::{Covariance, KnownParameters, Support, registry};
use entropysum::inference;
use entropysum::model::{Layer, Mixture, SigmoidBeliefNet};
use entropysum::monitor::{IterRecord, Observer, Silent, StopReason};
use entropysum::ranks::LocalRanks;
use entropysum::store;
use entropysum::{Block, BlockBuf, Scalar};
use serde_json::Value;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

pub fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// All numbers of a JSON array, in order, whatever its nesting.
pub fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap_or_else(|| panic!("{other} is no number"))],
    }
}

pub fn rounded<T: Scalar>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&v| T::from_f64(v)).collect()
}

/// Every family of the registry, and products of some for three columns.
pub fn families() -> impl Iterator<Item = &'static str> {
    registry::names().chain([
        "poisson:0,gaussian-full:1-2",
        "gaussian-diag:1,categorical:0,gamma:2",
        "multinomial:1-2,bernoulli:0",
        "log-normal:0+2,von-mises:1",
        "von-mises-fisher:0-1,gaussian-spherical:2",
    ])
}

/// The family of that name, told what it must be told, for points of `dim` columns.
pub fn example_family(name: &str, dim: usize) -> Arc<dyn ExponentialFamily> {
    let keys = match is_product(name) {
        true => {
            let blocks = parse_product(name, &[]).unwrap();
            blocks.iter().flat_map(|(family, _)| registry::known_parameters(family)).collect()
        }
        false => registry::known_parameters(name).iter().collect::<Vec<_>>(),
    };
    let known = keys.into_iter().fold(KnownParameters::default(), |known, &it| {
        let value = |d: usize| match it {
            "levels" => 2.0 + d as f64,
            "total" => 12.0,
            "trials" => 7.0 + 4.0 * d as f64,
            "successes" => 0.7 + 1.5 * d as f64,
            "shape" => 0.8 + 0.9 * d as f64,
            "location" => 0.3 - 0.4 * d as f64,
            "variance" => 0.5 + 0.3 * d as f64,
            other => panic!("no example for {other:?} of {name}"),
        };
        known.with(it, (0..dim).map(value).collect())
    });
    registry::build_known(name, dim, &known).unwrap()
}

/// Points of a family's support in `n_components` loose clusters, row-major.
pub fn example_points(
    family: &dyn ExponentialFamily,
    n: usize,
    n_components: usize,
    seed: u64,
) -> Vec<f64> {
    let dim = family.dim();
    let mut points = clusters(n, dim, n_components, 1.0, seed);
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    for domain in family.domains() {
        for point in points.chunks_mut(dim) {
            let values = &mut point[domain.columns.clone()];
            for x in &mut *values {
                *x = match domain.support {
                    Support::Real | Support::UnitVector => *x,
                    Support::Positive | Support::Simplex => (0.7 * *x).exp(),
                    Support::NonNegative => (0.9 * *x).exp(),
                    Support::UnitInterval => logistic(*x),
                    Support::Count => (0.8 * *x + 1.0).exp().floor(),
                    Support::CountUpTo(most) => (logistic(*x) * (most + 1.0)).floor(),
                    Support::Binary => f64::from(*x > 0.0),
                    other => panic!("no example of {other:?}"),
                };
            }
            let total = match domain.support {
                Support::Simplex => values.iter().sum(),
                Support::UnitVector => values.iter().map(|x| x * x).sum::<f64>().sqrt(),
                _ => 1.0,
            };
            values.iter_mut().for_each(|x| *x /= total);
        }
    }
    points
}

/// Parameters that belong to points like those of [`example_points`]: one M-step from labels of few points each.
pub fn example_mixture(name: &str, dim: usize, n_components: usize) -> Mixture {
    let family = example_family(name, dim);
    let x = example_points(&*family, 40 * n_components, n_components, 77);
    let points = Points::from_rows(&x, dim).unwrap();
    let spec = MixtureSpec::new(family, n_components).with_init(Init::RandomFromData);
    let executor = Executor::new(Some(1)).unwrap();
    let (model, event) = start_mixture(&spec, &points, &executor, &Config::default(), 3).unwrap();
    assert_eq!(event, None);
    model
}

/// The Gaussian families that learn their covariances.
pub fn gaussians() -> impl Iterator<Item = &'static str> {
    Covariance::ALL.into_iter().map(|covariance| match covariance {
        Covariance::Full => "gaussian-full",
        Covariance::Tied => "gaussian-tied",
        Covariance::Diag => "gaussian-diag",
        Covariance::Spherical => "gaussian-spherical",
        Covariance::TiedDiag => "gaussian-tied-diag",
        Covariance::TiedSpherical => "gaussian-tied-spherical",
    })
}

/// A Gaussian mixture from the `pi`, `means` and `covariances` of a fixture.
pub fn gaussian_mixture(covariance: &str, dim: usize, parameters: &Value) -> Mixture {
    let family = registry::build(&format!("gaussian-{covariance}"), dim).unwrap();
    let (means, covariances) = (numbers(&parameters["means"]), numbers(&parameters["covariances"]));
    Mixture::from_arrays(family, numbers(&parameters["pi"]), |name| {
        Some(if name == "means" { &means } else { &covariances })
    })
    .unwrap()
}

#[track_caller]
pub fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (found - expected).abs() / expected.abs().max(1.0);
    assert!(error <= tolerance, "{what}: {found}, expected {expected}, relative error {error:e}");
}

#[track_caller]
pub fn assert_all_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert_close(*f, *e, tolerance, &format!("{what}[{i}]"));
    }
}

/// A reproducible stream of numbers in [0, 1), good enough for tests.
pub struct Uniforms(u64);

impl Uniforms {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 * 2f64.powi(-53)
    }

    /// Roughly normal, by twelve uniforms.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() - 6.0
    }
}

/// Points of `n_components` round clusters, `distance` apart, in turn.
pub fn clusters(n: usize, dim: usize, n_components: usize, distance: f64, seed: u64) -> Vec<f64> {
    let mut u = Uniforms::new(seed);
    let means: Vec<f64> = (0..n_components * dim).map(|_| distance * u.normal()).collect();
    (0..n)
        .flat_map(|i| (0..dim).map(move |d| (i % n_components) * dim + d))
        .map(|at| means[at] + u.normal())
        .collect()
}

/// Points drawn from a model.
pub fn drawn(model: &impl Sample, n: u64, seed: u64) -> Vec<f64> {
    let mut values = Vec::new();
    inference::sample(model, n, seed, &Executor::new(Some(1)).unwrap(), |points, _| {
        values.extend_from_slice(points);
        Ok(())
    })
    .unwrap();
    values
}

/// Four causes, each of which turns on three of twelve observables. Two further latents turn on the causes if there is a hidden layer.
pub fn causes(hidden: bool) -> SigmoidBeliefNet {
    let weights: Vec<f64> = (0..48).map(|k| if k / 12 == k % 4 { 5.0 } else { 0.0 }).collect();
    let observables = Layer::new(4, &weights, &[-2.5; 12]).unwrap();
    if hidden {
        let weights = [4.0, 0.0, 4.0, 0.0, 0.0, 4.0, 0.0, 4.0];
        let layer = Layer::new(2, &weights, &[-2.0; 4]).unwrap();
        SigmoidBeliefNet::new(vec![0.4, 0.3], Some(layer), observables).unwrap()
    } else {
        SigmoidBeliefNet::new(vec![0.25; 4], None, observables).unwrap()
    }
}

/// The same points without their zeros.
pub fn sparse<T: Scalar>(dense: &[f64], dim: usize) -> SparsePoints<T> {
    let (mut starts, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
    for row in dense.chunks(dim) {
        for (d, &value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            columns.push(d as u32);
            values.push(T::from_f64(value));
        }
        starts.push(columns.len());
    }
    SparsePoints::from_csr(starts, columns, values, dim).unwrap()
}

/// Runs `work` on each of some ranks, each with a thread of its own, and returns what each returned.
pub fn on_ranks<R: Send>(size: usize, work: impl Fn(&Executor) -> R + Sync) -> Vec<R> {
    let run = |ranks: LocalRanks| {
        let executor = Executor::new(Some(1)).unwrap().with_ranks(Arc::new(ranks)).unwrap();
        work(&executor)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            LocalRanks::new(size).into_iter().map(|ranks| scope.spawn(|| run(ranks))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Returns all that a fit returns and that could differ. The text of a number tells its bits.
pub fn told<M: Stored>(fit: &Fit<M>) -> Vec<String> {
    let record = |record: &IterRecord| {
        let mut record = record.clone();
        record.seconds = 0.0;
        format!("{record:?}")
    };
    let model = store::to_json(&fit.model).to_string();
    let end = (&fit.stop_reason, &fit.warnings, &fit.discarded, &fit.floored);
    let others = format!("{end:?} {:?}", fit.truncation_loss);
    fit.history.records.iter().map(record).chain([others, model]).collect()
}

/// Asks for an end after so many calls.
pub struct StopAfter(pub u64);

impl Observer for StopAfter {
    fn on_iteration(&mut self, _: &IterRecord) -> ControlFlow<StopReason> {
        self.on_batch(0)
    }
    fn on_batch(&mut self, _: u64) -> ControlFlow<StopReason> {
        self.0 -= 1;
        if self.0 == 0 {
            return ControlFlow::Break(StopReason::Interrupted);
        }
        ControlFlow::Continue(())
    }
}

/// Points that call a function before each read, with the number of its rows. An error of the function is that of the read.
pub struct OnRead<'a, F> {
    pub points: &'a Points<'a, f64>,
    pub before: F,
}

impl<F: Fn(usize) -> Result<()> + Send + Sync> DataSource<f64> for OnRead<'_, F> {
    fn name(&self) -> String {
        self.points.name()
    }

    fn dim(&self) -> usize {
        self.points.dim()
    }

    fn len(&self) -> u64 {
        self.points.len()
    }

    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<f64>,
    ) -> Result<Block<'a, f64>> {
        (self.before)(count)?;
        self.points.read(start, count, buffer)
    }
}

/// Fits by minibatches.
pub fn fit_minibatches<T: Scalar, S: Spec<T>>(
    spec: &S,
    points: &dyn DataSource<T>,
    executor: &Executor,
    config: &Config,
    stream: &StreamConfig,
) -> Result<Fit<S::Model>> {
    Fitting::new(points, executor).config(config).minibatches(stream).fit(spec)
}

/// Stops a fit by an observer after every so many batches, goes on from the file each time, and from the last file once more.
/// Returns both fits and the bytes of the last file.
pub fn resumed<T: Scalar, S: Spec<T, Model: Stored>>(
    spec: &S,
    points: &dyn DataSource<T>,
    executor: &Executor,
    config: &Config,
    stream: Option<&StreamConfig>,
    every: u64,
) -> ([Fit<S::Model>; 2], Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let run = |observer: &mut dyn Observer, saved: Option<Saved<S::Model>>| {
        let mut fitting = Fitting::new(points, executor)
            .config(config)
            .observer(observer)
            .spill_folder(folder.path())
            .checkpoints(Duration::MAX, |state| store::save_checkpoint(&path, state));
        if let Some(stream) = stream {
            fitting = fitting.minibatches(stream);
        }
        if let Some(saved) = saved {
            fitting = fitting.resume(saved);
        }
        fitting.fit(spec).unwrap()
    };
    let load = || Some(store::load_checkpoint(&path).unwrap());
    let (mut saved, mut stops) = (None, 0);
    let fit = loop {
        let fit = run(&mut StopAfter(every), saved);
        if fit.stop_reason != StopReason::Interrupted {
            break fit;
        }
        stops += 1;
        saved = load();
    };
    assert!(stops >= 3, "{stops} stops");
    let again = run(&mut Silent, load());
    // Temporary files have no names, or are gone.
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    ([fit, again], std::fs::read(&path).unwrap())
}
