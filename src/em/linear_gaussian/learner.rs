//! The learner of linear-Gaussian models: its E-steps see second moments, and read points only if the method is over the points.

use super::subspace::Subspace;
use super::summary::{Store, Summary};
use super::{Form, LinearGaussianAlgorithm, LinearGaussianSpec};
use crate::data::DataSource;
use crate::em::driver::Fit;
use crate::em::fitting::{Fitting, Spec};
use crate::em::learner::{Batch, Learner, Maximizer, Standing};
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::inference;
use crate::model::linear_gaussian::{Expectations, PartialSums};
use crate::model::{EntropySum, GenerativeModel, LinearGaussian, SecondMoments};
use crate::monitor::{Event, Monitor};
use crate::scalar::Scalar;
use crate::work::Workers;
use faer::{Mat, MatRef};
use std::f64::consts::PI;

/// A specification with the summary of the points that it is fitted to.
#[derive(Clone, Copy, Debug)]
pub struct Prepared<'s, T: Scalar> {
    pub(super) summary: &'s Summary<'s, T>,
    pub(super) spec: &'s LinearGaussianSpec,
}

impl<T: Scalar> Spec<T> for Prepared<'_, T> {
    type Model = LinearGaussian;

    fn fit(&self, fitting: Fitting<'_, T, LinearGaussian>) -> Result<Fit<LinearGaussian>> {
        let Self { summary, spec } = *self;
        summary.check(spec, fitting.settings())?;
        let refuse = |message: &str| Err(Error::Config(message.into()));
        if fitting.stream().is_some() {
            return refuse(
                "this model is not learned by minibatches: a pass over the points is enough",
            );
        }
        if spec.algorithm == LinearGaussianAlgorithm::ClosedForm && fitting.is_kept() {
            return refuse(
                "a closed form has no iterations, and no state to keep; choose em or px-em",
            );
        }
        let is_plain = spec.algorithm == LinearGaussianAlgorithm::Em;
        let watches_sum = fitting.settings().monitor == Monitor::EntropySum;
        let also = (is_plain && watches_sum).then_some(Monitor::LowerBound);
        let words = format!("{}, rotation {:?}", summary.method(), spec.rotation);
        let make = |fitting: &Fitting<'_, T, LinearGaussian>, run, saved| {
            let seed = fitting.settings().seed;
            Ok((LinearGaussianLearner::new(summary, spec, seed, run, saved)?, None))
        };
        let is_given = spec.init.is_some();
        fitting.since(summary.begun()).best_of(is_given, &words, &make, &|fitting, _| {
            Ok(vec![fitting.batch_phase(fitting.settings().max_iter, also)?])
        })
    }
}

/// How parameters follow from second moments.
#[derive(Debug)]
enum Way {
    /// EM; the prior is a parameter of each M-step if `expanded`.
    Em { expanded: bool },
    /// From all eigenvectors, at once.
    Direct,
    /// From the best vectors of a subspace that turns in each iteration.
    Subspace(Subspace),
}

/// What an M-step needs of the points.
#[derive(Debug)]
pub(super) enum LatentMoments {
    Expectations(Expectations),
    /// Of points with missing entries.
    Partial(PartialSums),
    /// The product of the covariance with the basis of a subspace.
    Image(Mat<f64>),
    /// Eigenvectors are known already.
    Known,
}

/// Learns p-PCA or factor analysis from the summary of the points.
#[derive(Debug)]
pub(super) struct LinearGaussianLearner<'s, T: Scalar> {
    summary: &'s Summary<'s, T>,
    spec: &'s LinearGaussianSpec,
    model: LinearGaussian,
    way: Way,
    /// Bound and entropy sum, which the M-step yields.
    found: (f64, EntropySum),
}

impl<'s, T: Scalar> LinearGaussianLearner<'s, T> {
    fn new(
        summary: &'s Summary<'s, T>,
        spec: &'s LinearGaussianSpec,
        seed: u64,
        run: u64,
        saved: Option<LinearGaussian>,
    ) -> Result<Self> {
        let dim = summary.mean().len();
        let way = match spec.algorithm {
            LinearGaussianAlgorithm::Em => Way::Em { expanded: false },
            LinearGaussianAlgorithm::PxEm => Way::Em { expanded: true },
            LinearGaussianAlgorithm::ClosedForm if summary.eigen.is_some() => Way::Direct,
            LinearGaussianAlgorithm::ClosedForm => {
                Way::Subspace(Subspace::new(dim, spec.latents, seed))
            }
        };
        let is_fresh = saved.is_none();
        let mut model = match (saved, &spec.init) {
            (Some(model), _) => model,
            (None, Some(model)) => model.clone(),
            (None, None) => summary.start(spec, seed, run)?,
        };
        spec.check_start(&model, dim)?;
        if is_fresh && summary.moments().is_some() {
            model.set_mean(summary.mean());
        }
        Ok(Self { summary, spec, model, way, found: (0.0, EntropySum::default()) })
    }

    /// Second moments; only points with missing entries have none.
    fn moments(&self) -> &'s dyn SecondMoments {
        self.summary.moments().expect("all methods but that for missing entries have them")
    }

    /// Sets the parameters from leading eigenvalues and their vectors.
    fn set_principal_components(
        &mut self,
        values: &[f64],
        vectors: MatRef<'_, f64>,
    ) -> Result<f64> {
        let moments = self.moments();
        let total = moments.variances().iter().sum::<f64>();
        let (mean, latents) = (moments.mean().to_vec(), self.spec.latents);
        if values.len() < latents {
            return Err(Error::Model(format!(
                "ppca: {} point(s) cannot tell {latents} latents apart; ask for fewer",
                values.len()
            )));
        }
        let (values, vectors) = (&values[..latents], vectors.subcols(0, latents));
        self.model =
            LinearGaussian::from_principal_components(mean, values, vectors, total, T::EPSILON)?;
        Ok(total)
    }
}

impl<T: Scalar> Maximizer for LinearGaussianLearner<'_, T> {
    type Model = LinearGaussian;
    type Statistics = LatentMoments;

    fn model(&self) -> &LinearGaussian {
        &self.model
    }

    fn model_mut(&mut self) -> &mut LinearGaussian {
        &mut self.model
    }

    fn maximize(&mut self, statistics: &LatentMoments, _: &dyn Workers) -> Result<Vec<Event>> {
        let expanded = matches!(self.way, Way::Em { expanded: true });
        let step = match statistics {
            LatentMoments::Expectations(it) => self.model.m_step(it, expanded, T::EPSILON)?,
            LatentMoments::Partial(it) => self.model.m_step_partial(it, expanded, T::EPSILON)?,
            LatentMoments::Known => {
                let (values, vectors) = self.summary.eigen.as_ref().expect("a direct method");
                self.set_principal_components(values, vectors.as_ref())?;
                let bound = self.model.e_step(self.moments())?.log_likelihood();
                self.found = (bound, self.model.stationary_entropy_sum());
                return Ok(Vec::new());
            }
            LatentMoments::Image(image) => {
                let Way::Subspace(subspace) = &mut self.way else { unreachable!("it has images") };
                subspace.turn(image)?;
                let (values, vectors) = (subspace.values.clone(), subspace.vectors.clone());
                let total = self.set_principal_components(&values, vectors.as_ref())?;
                let values = &values[..self.spec.latents];
                let bound = ritz_log_likelihood(&self.model, values, total);
                self.found = (bound, self.model.stationary_entropy_sum());
                return Ok(Vec::new());
            }
        };
        self.found = (step.lower_bound, step.entropy_sum);
        let variables = step.floored;
        let floored = (!variables.is_empty()).then_some(Event::NoiseFloored { variables });
        Ok(floored.into_iter().collect())
    }

    /// Returns what the M-step found.
    fn evaluate(&self, _: &LatentMoments, _: &dyn Workers) -> (f64, EntropySum) {
        self.found
    }

    fn log_likelihood(&self, statistics: &LatentMoments) -> f64 {
        match statistics {
            LatentMoments::Expectations(it) => it.log_likelihood(),
            LatentMoments::Partial(it) => it.log_likelihood(),
            // A maximum of the likelihood, or the best of a subspace.
            LatentMoments::Image(_) | LatentMoments::Known => self.found.0,
        }
    }

    fn standing(&self) -> Standing {
        if matches!(self.way, Way::Direct) { Standing::Final } else { Standing::Open }
    }

    fn n_parameters(&self) -> usize {
        self.model.n_parameters()
    }

    fn finish(&mut self) -> Vec<Event> {
        if let Way::Em { .. } = self.way {
            self.model.canonicalize();
        }
        if let Some(rotation) = self.spec.rotation {
            self.model.rotate(rotation);
        }
        if self.summary.method().form == Form::Observed {
            self.model = self.model.clone().ignoring_missing().expect("it offers that");
        }
        let variables = self.model.heywood_cases(self.summary.variances());
        let heywood = (!variables.is_empty()).then_some(Event::Heywood { variables });
        heywood.into_iter().collect()
    }
}

impl<T: Scalar> Learner<T> for LinearGaussianLearner<'_, T> {
    type Maximizer = Self;

    fn maximizer(&self) -> &Self {
        self
    }

    fn maximizer_mut(&mut self) -> &mut Self {
        self
    }

    fn e_step(&mut self, _: &Batch<'_, T>, _: &Executor) -> Result<LatentMoments> {
        Ok(match (&self.way, &self.summary.store) {
            (Way::Direct, _) => LatentMoments::Known,
            (Way::Subspace(subspace), _) => LatentMoments::Image(subspace.image(self.moments())?),
            (Way::Em { .. }, Store::Observed(patterns)) => {
                LatentMoments::Partial(patterns.e_step(&self.model)?)
            }
            (Way::Em { .. }, _) => LatentMoments::Expectations(self.model.e_step(self.moments())?),
        })
    }

    /// Points are read once, unless the method is over the points.
    fn points_read(&self, before: u64, batch: &Batch<'_, T>) -> u64 {
        if self.summary.is_over_points() { before + batch.len() } else { batch.len() }
    }

    fn audit(
        &self,
        model: &LinearGaussian,
        points: &dyn DataSource<T>,
        executor: &Executor,
    ) -> Result<f64> {
        Ok(inference::score(model, points, executor)?.log_likelihood)
    }
}

/// Log-likelihood of p-PCA whose components have these Rayleigh quotients, from the trace of the covariance.
fn ritz_log_likelihood(model: &LinearGaussian, values: &[f64], total_variance: f64) -> f64 {
    let (dim, latents) = (model.dim() as f64, values.len() as f64);
    let noise = model.noise_variances()[0];
    let left = (total_variance - values.iter().sum::<f64>()) / noise;
    let log_det = values.iter().map(|v| v.ln()).sum::<f64>() + (dim - latents) * noise.ln();
    -0.5 * (dim * (2.0 * PI).ln() + log_det + latents + left)
}
