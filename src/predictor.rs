//! Labels, posteriors and log-densities of single points, for programs that serve one point at a time.
//!
//! [`inference`](crate::inference) goes through whole sources in parallel. A call of it packs the parameters and makes workspace
//! memory anew, which takes longer than scoring one point. A [`Predictor`] does both once.

use crate::block::Block;
use crate::error::{DataError, Error, Result};
use crate::family::Domain;
use crate::kernels::dispatch::Simd;
use crate::model::{Density, Mixture, ScoredTile};
use crate::scalar::Scalar;
use std::fmt;
use std::sync::Arc;

/// Predicts labels, posteriors and log-densities for one point or a few, on the calling thread.
///
/// It is made once from a model and owns all that it needs. Calls take points row by row, check them, and allocate nothing
/// for mixtures and mixtures of factor analysers. Scratch memory is inside, so calls take `&mut self`: give each
/// thread a clone, which shares the packed parameters. Answers are those of [`inference`](crate::inference).
///
/// ```
/// use entropysum::family::{Parameters, registry};
/// use entropysum::{Mixture, Predictor};
///
/// let parameters = Parameters { components: vec![vec![0.0, 1.0], vec![9.0, 1.0]], shared: vec![] };
/// let model = Mixture::new(registry::build("gaussian-diag", 1)?, vec![0.5, 0.5], parameters)?;
/// let mut predictor = Predictor::<f64>::new(&model);
///
/// assert_eq!(predictor.label(&[8.5])?, 1);
/// let mut probabilities = [0.0; 2];
/// predictor.posterior(&[4.5], &mut probabilities)?;
/// assert_eq!(probabilities, [0.5, 0.5]);
/// let mut labels = [0; 3];
/// predictor.labels(&[0.1, 9.2, 0.3], &mut labels)?;
/// assert_eq!(labels, [0, 1, 0]);
///
/// let fault = predictor.label(&[f64::NAN]).unwrap_err();
/// assert!(fault.to_string().contains("column 0: the value is NaN, expected a finite number"));
///
/// let mut of_its_own = predictor.clone();
/// let other = std::thread::spawn(move || of_its_own.label(&[0.2]));
/// assert_eq!(other.join().unwrap()?, 0);
/// # Ok::<(), entropysum::Error>(())
/// ```
pub struct Predictor<T: Scalar, M: Density<T> = Mixture> {
    packed: Arc<PackedModel<T, M>>,
    workspace: M::Workspace,
}

struct PackedModel<T: Scalar, M: Density<T>> {
    model: M,
    parameters: M::Packed,
    domains: Vec<Domain>,
}

impl<T: Scalar, M: Density<T>> Predictor<T, M> {
    /// Packs the parameters of a model. Later changes of the model do not reach the predictor.
    pub fn new(model: &M) -> Self {
        let (parameters, domains) = (model.pack_for_scores(Simd::detect()), model.domains());
        Self::with_workspace(Arc::new(PackedModel { model: model.clone(), parameters, domains }))
    }

    fn with_workspace(packed: Arc<PackedModel<T, M>>) -> Self {
        let PackedModel { model, parameters, .. } = &*packed;
        let mut workspace = model.workspace(parameters, None);
        // Some workspace memory grows with the first points. So a point whose answer nobody needs goes first.
        let origin = vec![T::ZERO; model.dim()];
        if let Ok(block) = Block::from_rows(&origin, model.dim()) {
            model.score(parameters, block, false, &mut workspace, |_| {});
        }
        Self { packed, workspace }
    }

    /// Dimension D of the points.
    pub fn dim(&self) -> usize {
        self.packed.model.dim()
    }

    /// Number of components C; 0 if the model has none, and so no labels and posteriors.
    pub fn n_components(&self) -> usize {
        self.packed.model.n_components()
    }

    /// Returns the most probable component of a point, the first of equals.
    ///
    /// # Errors
    /// [`DataError`] if the point has another length than D, a value outside the support of the model, or no finite
    /// density; [`Error::Model`] if the model has no components.
    pub fn label(&mut self, point: &[T]) -> Result<u32> {
        let mut labels = [0];
        self.labels_of(Rows::One, point, &mut labels)?;
        Ok(labels[0])
    }

    /// Writes the posterior probabilities of the components given a point: C values.
    ///
    /// # Errors
    /// As [`label`](Self::label); [`Error::Config`] if `probabilities` has another length than C.
    pub fn posterior(&mut self, point: &[T], probabilities: &mut [f64]) -> Result<()> {
        self.posteriors_of(Rows::One, point, probabilities)
    }

    /// Returns the log-density `ln p(x)` of a point, in nats.
    ///
    /// # Errors
    /// As [`label`](Self::label), but models without components have densities.
    pub fn log_density(&mut self, point: &[T]) -> Result<f64> {
        let mut log_densities = [0.0];
        self.log_densities_of(Rows::One, point, &mut log_densities)?;
        Ok(log_densities[0])
    }

    /// Writes the most probable component of each point; `points` is row-major, B × D, and `labels` has B places.
    ///
    /// # Errors
    /// As [`label`](Self::label); [`Error::Config`] if `labels` has another length than B.
    pub fn labels(&mut self, points: &[T], labels: &mut [u32]) -> Result<()> {
        self.labels_of(Rows::Many, points, labels)
    }

    /// Writes the posterior probabilities of the components given each point, row-major, B × C.
    ///
    /// # Errors
    /// As [`label`](Self::label); [`Error::Config`] if `probabilities` has another length than B C.
    pub fn posteriors(&mut self, points: &[T], probabilities: &mut [f64]) -> Result<()> {
        self.posteriors_of(Rows::Many, points, probabilities)
    }

    /// Writes the log-density of each point, in nats: B values.
    ///
    /// # Errors
    /// As [`log_density`](Self::log_density); [`Error::Config`] if `log_densities` has another length than B.
    pub fn log_densities(&mut self, points: &[T], log_densities: &mut [f64]) -> Result<()> {
        self.log_densities_of(Rows::Many, points, log_densities)
    }

    fn labels_of(&mut self, rows: Rows, points: &[T], labels: &mut [u32]) -> Result<()> {
        self.check_components()?;
        self.score(rows, points, (labels.len(), 1), |tile| {
            let first = tile.first as usize;
            for (i, label) in labels[first..][..tile.log_density.len()].iter_mut().enumerate() {
                let column = tile.responsibilities[i..].iter().step_by(tile.stride);
                let start = (0, T::ZERO);
                let best = (0..).zip(column).fold(start, |best, (component, &probability)| {
                    if probability > best.1 { (component, probability) } else { best }
                });
                *label = best.0;
            }
        })
    }

    fn posteriors_of(&mut self, rows: Rows, points: &[T], probabilities: &mut [f64]) -> Result<()> {
        self.check_components()?;
        let n_components = self.n_components();
        self.score(rows, points, (probabilities.len(), n_components), |tile| {
            let start = tile.first as usize * n_components;
            let out = probabilities[start..].chunks_exact_mut(n_components);
            for (i, row) in out.take(tile.log_density.len()).enumerate() {
                let column = tile.responsibilities[i..].iter().step_by(tile.stride);
                row.iter_mut().zip(column).for_each(|(to, from)| *to = from.to_f64());
            }
        })
    }

    fn log_densities_of(&mut self, rows: Rows, points: &[T], out: &mut [f64]) -> Result<()> {
        self.score(rows, points, (out.len(), 1), |tile| {
            out[tile.first as usize..][..tile.log_density.len()].copy_from_slice(tile.log_density);
        })
    }

    fn check_components(&self) -> Result<()> {
        if self.n_components() > 0 {
            return Ok(());
        }
        let message =
            "the model has no components, and so no labels and posteriors: ask for log-densities";
        Err(Error::Model(message.to_owned()))
    }

    /// Checks and scores points. The room for answers is a length, and how much of it a point takes.
    fn score(
        &mut self,
        rows: Rows,
        points: &[T],
        (room, per_point): (usize, usize),
        mut visit: impl FnMut(&ScoredTile<'_, T>),
    ) -> Result<()> {
        let PackedModel { model, parameters, domains } = &*self.packed;
        let dim = model.dim();
        let n_points = points.len() / dim;
        if !points.len().is_multiple_of(dim) || (rows == Rows::One && n_points != 1) {
            let expected = match rows {
                Rows::One => format!("expected {dim}, one a dimension of the model"),
                Rows::Many => format!("expected a multiple of {dim}, the dimension of the model"),
            };
            let message = format!("found {} values, {expected}", points.len());
            return Err(DataError::new(SOURCE, message).into());
        }
        if room != n_points * per_point {
            let message = format!(
                "the slice for answers has {room} places, expected {}",
                n_points * per_point
            );
            return Err(Error::Config(message));
        }
        if !domains.is_empty() {
            let is_good = |point| domains.iter().all(|domain: &Domain| domain.holds(point));
            if let Some(bad) = points.chunks_exact(dim).position(|point| !is_good(point)) {
                return Err(self.fault(rows, points, bad));
            }
        }
        let mut bad = None;
        let block = Block::from_rows(points, dim)?;
        model.score(parameters, block, false, &mut self.workspace, |tile| {
            if bad.is_none() {
                let position = tile.log_density.iter().position(|density| !density.is_finite());
                bad = position.map(|i| tile.first as usize + i);
            }
            visit(&tile);
        });
        match bad {
            None => Ok(()),
            Some(bad) => Err(self.fault(rows, points, bad)),
        }
    }

    /// Says what is wrong with a point, and what to do.
    #[cold]
    fn fault(&self, rows: Rows, points: &[T], row: usize) -> Error {
        let PackedModel { model, domains, .. } = &*self.packed;
        let point = &points[row * model.dim()..][..model.dim()];
        let takes_missing = domains.iter().any(|domain| domain.missing);
        let in_domain = domains.iter().find_map(|domain| domain.fault(|d| point[d].to_f64()));
        // Domains do not list what any finite number fits. Such faults show in the density.
        let not_finite = || {
            let bad = |v: &T| !(v.is_finite() || takes_missing && v.to_f64().is_nan());
            let column = point.iter().position(bad)?;
            let value = point[column];
            Some((Some(column), format!("the value is {value}, expected a finite number")))
        };
        let (column, message) = match in_domain.or_else(not_finite) {
            Some((column, message)) => {
                let is_missing = column.is_some_and(|column| point[column].to_f64().is_nan());
                let remedy = match column {
                    _ if is_missing && model.clone().ignoring_missing().is_ok() => {
                        "make the predictor from `model.ignoring_missing()` to ignore missing values"
                    }
                    _ if is_missing => "fill in missing values, or leave the point out",
                    _ => "correct the point, or leave it out",
                };
                (column, format!("{message}; {remedy}"))
            }
            None => {
                let message = format!(
                    "the log-density overflows {}: scale values that are too large or too small{}",
                    T::NAME,
                    if T::EPSILON > 1e-10 { ", or use f64" } else { "" }
                );
                (None, message)
            }
        };
        let fault = DataError::new(SOURCE, message);
        match rows {
            Rows::One => DataError { column, ..fault },
            Rows::Many => fault.at(row as u64, column),
        }
        .into()
    }
}

/// Name of the points in messages.
const SOURCE: &str = "memory";

/// Whether a call is about one point, whose row messages do not name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    One,
    Many,
}

/// A clone shares the parameters and has workspace memory of its own.
impl<T: Scalar, M: Density<T>> Clone for Predictor<T, M> {
    fn clone(&self) -> Self {
        Self::with_workspace(self.packed.clone())
    }
}

impl<T: Scalar, M: Density<T>> fmt::Debug for Predictor<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Predictor")
            .field("precision", &T::NAME)
            .field("dim", &self.dim())
            .field("n_components", &self.n_components())
            .finish_non_exhaustive()
    }
}
