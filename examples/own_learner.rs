//! A model that the library does not have, learned by its driver: a mixture of von Mises-Fisher distributions of directions with
//! one known concentration κ, by maximum a posteriori. Weights have a Dirichlet prior, mean directions a von Mises-Fisher prior.
//!
//! The model says how sums are taken and what they are for. Batch EM, minibatches and checkpoints follow.
//!
//! `cargo run --example own_learner`

use entropysum::data::DataSource;
use entropysum::em::{Fitting, StreamConfig};
use entropysum::expert::em::{Batch, Learner, Maximizer, Workers};
use entropysum::expert::model::entropy_of_weights;
use entropysum::expert::rng;
use entropysum::expert::stats::{StatsShape, SuffStats};
use entropysum::expert::store::{File, NamedArray, Stored};
use entropysum::monitor::{Event, Monitor};
use entropysum::store::{load_checkpoint, save_checkpoint};
use entropysum::{Block, BlockBuf};
use entropysum::{Config, EntropySum, Executor, Points, Result, StopReason, observe};
use std::{f64::consts::PI, ops::ControlFlow, time::Duration};

/// The known concentration κ.
const KAPPA: f64 = 12.0;

/// The priors: counts of the Dirichlet, and concentration of mean directions about (0, 0, 1).
const COUNTS: f64 = 2.0;
const PRIOR_KAPPA: f64 = 1.5;

type Direction = [f64; 3];

#[derive(Clone, Debug, PartialEq)]
struct Directions {
    weights: Vec<f64>,
    means: Vec<Direction>,
}

/// The model while it learns from so many points, against which the priors are weighed.
#[derive(Clone, Debug)]
struct Map {
    model: Directions,
    n_points: f64,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `ln κ / (4π sinh κ)`, the logarithm of the normaliser in three dimensions.
fn log_norm() -> f64 {
    (KAPPA / (4.0 * PI * KAPPA.sinh())).ln()
}

impl Directions {
    fn add(&self, block: Block<'_, f64>, stats: &mut SuffStats) {
        for i in 0..block.len() {
            let x = [0, 1, 2].map(|d| block.points[(i, d)]);
            let weight = block.weights.map_or(1.0, |weights| weights[i]);
            let density = |mean: &Direction| (log_norm() + KAPPA * dot(mean, &x)).exp();
            let components = self.weights.iter().zip(&self.means);
            let joint: Vec<f64> = components.map(|(pi, mean)| pi * density(mean)).collect();
            let evidence: f64 = joint.iter().sum();
            let posterior: Vec<f64> = joint.iter().map(|joint| joint / evidence).collect();
            *stats.total_weight_mut() += weight;
            *stats.n_points_mut() += f64::from(weight > 0.0);
            *stats.log_evidence_mut() += weight * evidence.ln();
            *stats.posterior_entropy_mut() += weight * entropy_of_weights(&posterior);
            for (c, q) in posterior.iter().enumerate() {
                stats.mass_mut()[c] += weight * q;
                stats.sums_mut(c).iter_mut().zip(x).for_each(|(sum, x)| *sum += weight * q * x);
            }
        }
    }

    fn statistics(&self, points: &dyn DataSource<f64>) -> Result<SuffStats> {
        let components = self.means.len();
        let shape = StatsShape { components, statistics: 3, shared: 0, centre: 0 };
        let (mut stats, mut buffer) = (SuffStats::zeros(shape, vec![]), BlockBuf::default());
        for start in (0..points.len()).step_by(1024) {
            let count = (points.len() - start).min(1024) as usize;
            self.add(points.read(start, count, &mut buffer)?, &mut stats);
        }
        Ok(stats)
    }
}

impl Maximizer for Map {
    type Model = Directions;
    type Statistics = SuffStats;

    fn model(&self) -> &Directions {
        &self.model
    }

    fn model_mut(&mut self) -> &mut Directions {
        &mut self.model
    }

    fn maximize(&mut self, stats: &SuffStats, _: &dyn Workers) -> Result<Vec<Event>> {
        let scale = self.n_points / stats.total_weight();
        let all = self.n_points + (COUNTS - 1.0) * self.model.means.len() as f64;
        for (c, mean) in self.model.means.iter_mut().enumerate() {
            self.model.weights[c] = (scale * stats.mass()[c] + COUNTS - 1.0) / all;
            let sum = [0, 1, 2].map(|d| KAPPA * scale * stats.sums(c)[d]);
            let sum = [sum[0], sum[1], sum[2] + PRIOR_KAPPA];
            *mean = sum.map(|value| value / dot(&sum, &sum).sqrt());
        }
        Ok(Vec::new())
    }

    /// The bound includes the log prior, so that the gap is what the priors contribute.
    fn evaluate(&self, stats: &SuffStats, _: &dyn Workers) -> (f64, EntropySum) {
        let Directions { weights, means } = &self.model;
        let (mut bound, mut log_prior) = (stats.posterior_entropy(), 0.0);
        for (c, (pi, mean)) in weights.iter().zip(means).enumerate() {
            bound += stats.mass()[c] * (pi.ln() + log_norm()) + KAPPA * dot(mean, stats.sums(c));
            log_prior += (COUNTS - 1.0) * pi.ln() + PRIOR_KAPPA * mean[2];
        }
        let sum = EntropySum {
            posterior: stats.posterior_entropy() / stats.total_weight(),
            prior: entropy_of_weights(weights),
            observable: -(log_norm() + KAPPA * (1.0 / KAPPA.tanh() - 1.0 / KAPPA)),
            ..EntropySum::default()
        };
        (bound / stats.total_weight() + log_prior / self.n_points, sum)
    }

    fn log_likelihood(&self, stats: &SuffStats) -> f64 {
        stats.log_evidence() / stats.total_weight()
    }

    fn n_parameters(&self) -> usize {
        3 * self.model.means.len() - 1
    }
}

impl Learner<f64> for Map {
    type Maximizer = Self;

    fn maximizer(&self) -> &Self {
        self
    }

    fn maximizer_mut(&mut self) -> &mut Self {
        self
    }

    fn e_step(&mut self, batch: &Batch<'_, f64>, _: &Executor) -> Result<SuffStats> {
        self.model.statistics(batch)
    }

    fn audit(&self, model: &Directions, points: &dyn DataSource<f64>, _: &Executor) -> Result<f64> {
        Ok(self.log_likelihood(&model.statistics(points)?))
    }
}

/// What files hold of the model; without it there is all but checkpoints in files.
impl Stored for Directions {
    const KIND: &'static str = "a mixture of directions";

    fn names() -> Vec<&'static str> {
        vec!["directions"]
    }

    fn name(&self) -> String {
        "directions".to_owned()
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![("n_components", self.means.len()), ("dim", 3)]
    }

    fn arrays(&self) -> Vec<NamedArray> {
        let (c, means) = (self.means.len(), self.means.concat());
        let weights = NamedArray::new("weights", vec![c], self.weights.clone());
        vec![weights, NamedArray::new("means", vec![c, 3], means)]
    }

    fn build(_: &str, file: &File<'_>) -> Result<Self> {
        let weights = file.array("weights")?.values;
        let means = file.values("means", &[weights.len(), 3])?;
        let means = means.chunks(3).map(|mean| [mean[0], mean[1], mean[2]]).collect();
        Ok(Self { weights, means })
    }
}

fn main() -> Result<()> {
    let planted = [[1.0, 1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, -1.0, -1.0]];
    let planted = planted.map(|it: Direction| it.map(|value| value / 3f64.sqrt()));
    // Parts of a half, a third and a sixth, each point drawn about its direction: its cosine first, then the angle about it.
    let (mut rng, mut values) = (rng::stream(7, 0), Vec::new());
    for i in 0..6000 {
        let mean = planted[[0, 1, 0, 2, 0, 1][i % 6]];
        let (u, angle) = (rng::uniform(&mut rng), 2.0 * PI * rng::uniform(&mut rng));
        let cos = 1.0 + (u + (1.0 - u) * (-2.0 * KAPPA).exp()).ln() / KAPPA;
        let e = [mean[1], -mean[0], 0.0].map(|value| value / mean[0].hypot(mean[1]));
        let f = [-mean[2] * e[1], mean[2] * e[0], mean[0] * e[1] - mean[1] * e[0]];
        let sin = (1.0 - cos * cos).sqrt();
        let (a, b) = (sin * angle.cos(), sin * angle.sin());
        values.extend([0, 1, 2].map(|d| cos * mean[d] + a * e[d] + b * f[d]));
    }
    let means = [0, 1, 3].map(|i| [values[3 * i], values[3 * i + 1], values[3 * i + 2]]).to_vec();
    let points = Points::owned(values, 3)?;
    let start = Directions { weights: vec![1.0 / 3.0; 3], means };
    let start = Map { model: start, n_points: points.len() as f64 };

    let executor = Executor::new(None)?;
    let config = Config::default().monitor(Monitor::LowerBound).tol(1e-9);
    let batch = Fitting::new(&points, &executor).config(&config).learn(start.clone())?;
    let bounds: Vec<f64> = batch.history.records.iter().map(|it| it.lower_bound).collect();
    println!("batch EM     {:2} iterations, bound {:.6}", bounds.len(), bounds[bounds.len() - 1]);
    assert!(batch.converged());
    assert!(bounds.windows(2).all(|it| it[1] >= it[0] - 1e-12), "{bounds:?}");

    let minibatches = StreamConfig::default().batch_size(200).epochs(4);
    let by_minibatches =
        || Fitting::new(&points, &executor).config(&config).minibatches(&minibatches);
    let stream = by_minibatches().learn(start.clone())?;
    let steps = stream.last().expect("there are records").iteration;
    println!("minibatches {steps:3} steps,     weights {:.3?}", stream.model.weights);
    for fit in [&batch, &stream] {
        let cosines = planted.iter().zip(&fit.model.means).map(|(a, b)| dot(a, b));
        assert!(cosines.into_iter().all(|cosine| cosine > 0.999), "{:?}", fit.model);
    }

    // A fit that is interrupted, kept in a file and resumed ends with the same bits.
    let path = std::env::temp_dir().join(format!("own_learner-{}", std::process::id()));
    let mut interrupt = observe(|record| match record.iteration < steps / 2 {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(StopReason::Interrupted),
    });
    by_minibatches()
        .observer(&mut interrupt)
        .checkpoints(Duration::MAX, |state| save_checkpoint(&path, state))
        .learn(start.clone())?;
    let resumed = by_minibatches().resume(load_checkpoint(&path)?).learn(start)?;
    assert_eq!(resumed.model, stream.model);
    std::fs::remove_file(path).expect("it was written a moment ago");
    Ok(())
}
