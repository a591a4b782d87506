//! A model as it is applied to points: with a search of its components, prepared once, where that pays.

use super::model::{scores, with_model};
use super::source::with_points;
use super::{PerPoint, Sink, Source};
use crate::data::DataSource;
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::inference::{self, ComponentSearch, Score};
use crate::model::Density;
use crate::model::component_table::SearchableMixture;
use crate::monitor::TruncationLoss;
use crate::scalar::Scalar;
use crate::store::{Model, Stored};
use std::cell::OnceCell;
use std::fmt::Debug;

/// Applies a model to points. All that is asked of them shares one [`ComponentSearch`], if such a search
/// [pays](ComponentSearch::pays).
///
/// ```
/// use entropysum::any::{Model, Source};
/// use entropysum::family::{Parameters, registry};
/// use entropysum::{Executor, Mixture, Points};
///
/// let parameters = Parameters { components: vec![vec![0.5], vec![8.0]], shared: vec![] };
/// let model = Model::from(Mixture::new(registry::build("poisson", 1)?, vec![0.5, 0.5], parameters)?);
/// let points = Points::from_rows(&[0.0, 7.0, 9.0], 1)?;
/// let executor = Executor::new(Some(1))?;
/// let applied = model.applied(Source::F64(&points), &executor)?;
/// let mut labels = Vec::new();
/// applied.labels(&mut |batch| Ok(labels.extend_from_slice(batch)))?;
/// assert_eq!(labels, [0, 1, 1]);
/// assert!(applied.score()?.log_likelihood < 0.0 && applied.search_loss()?.is_none());
/// # Ok::<(), entropysum::Error>(())
/// ```
#[derive(Debug)]
pub struct Applied<'m> {
    model: &'m Model,
    source: Source<'m>,
    executor: &'m Executor,
    search: OnceCell<Option<Box<dyn Search + 'm>>>,
}

impl Model {
    /// Returns the model as it is applied to points.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn applied<'m>(
        &'m self,
        source: Source<'m>,
        executor: &'m Executor,
    ) -> Result<Applied<'m>> {
        self.check(source)?;
        Ok(Applied { model: self, source, executor, search: OnceCell::new() })
    }
}

impl<'m> Applied<'m> {
    /// Returns the model.
    pub fn model(&self) -> &'m Model {
        self.model
    }

    /// Returns the search, prepared when it is first asked for; `None` where it does not pay.
    fn search(&self) -> Result<Option<&(dyn Search + 'm)>> {
        if self.search.get().is_none() {
            let found = match self.model {
                Model::Mixture(it) => search(it, self.source, self.executor)?,
                Model::MixtureOfFactorAnalyzers(it) => search(it, self.source, self.executor)?,
                _ => None,
            };
            self.search.get_or_init(|| found);
        }
        Ok(self.search.get().and_then(Option::as_deref))
    }

    /// Returns how far scores, log-densities and posteriors are from those of all components, if they come from a search.
    ///
    /// # Errors
    /// As [`ComponentSearch::loss`].
    pub fn search_loss(&self) -> Result<Option<TruncationLoss>> {
        self.search()?.map(Search::loss).transpose()
    }

    /// Computes the mean log-density of points and the terms of information criteria.
    ///
    /// # Errors
    /// As [`inference::score`].
    pub fn score(&self) -> Result<Score> {
        if let Some(search) = self.search()? {
            return search.score();
        }
        with_model!(self.model, it => {
            with_points!(self.source, points => inference::score(it, points, self.executor))
        })
    }

    /// Hands on numbers of each point, in order.
    ///
    /// # Errors
    /// As [`inference::score_samples`]; [`Error::Model`] if the model has no such numbers.
    pub fn per_point(&self, numbers: PerPoint, sink: &mut Sink<'_>) -> Result<()> {
        let Self { model, source, executor, .. } = *self;
        let without = |what: &str| Err(Error::Model(format!("{} has no {what}", model.name())));
        match (numbers, model) {
            (PerPoint::Posterior, _) if model.n_components() == 0 => without("components"),
            (PerPoint::LogDensity | PerPoint::Posterior, _) => match self.search()? {
                Some(search) => search.scores(numbers, sink),
                None => with_model!(model, it => with_points!(source, points => {
                    scores(it, numbers, points, executor, sink)
                })),
            },
            (PerPoint::State, Model::SigmoidBeliefNet(network)) => with_points!(source, points => {
                inference::most_probable_states(network, points, executor, |_, states| sink(states))
            }),
            (PerPoint::State, _) => without("states"),
            (PerPoint::Transform | PerPoint::Draws(_) | PerPoint::Reconstruct, _) => {
                match model.latents() {
                    Some(latents) => latents.map(numbers, source, executor, sink),
                    None => without("latents"),
                }
            }
        }
    }

    /// Hands on the most probable component of each point, in order.
    ///
    /// # Errors
    /// As [`inference::predict`]; [`Error::Model`] if the model has no components.
    pub fn labels(&self, sink: &mut dyn FnMut(&[u32]) -> Result<()>) -> Result<()> {
        if self.model.n_components() == 0 {
            return Err(Error::Model(format!("{} has no components", self.model.name())));
        }
        if let Some(search) = self.search()? {
            return search.labels(sink);
        }
        with_model!(self.model, it => with_points!(self.source, points => {
            inference::predict(it, points, self.executor, |_, labels| sink(labels))
        }))
    }
}

/// A search with its points.
trait Search: Debug {
    fn score(&self) -> Result<Score>;
    fn scores(&self, numbers: PerPoint, sink: &mut Sink<'_>) -> Result<()>;
    fn labels(&self, sink: &mut dyn FnMut(&[u32]) -> Result<()>) -> Result<()>;
    fn loss(&self) -> Result<TruncationLoss>;
}

#[derive(Debug)]
struct InPrecision<'m, T: Scalar, M> {
    search: ComponentSearch<'m, T, M>,
    points: &'m dyn DataSource<T>,
    executor: &'m Executor,
}

impl<T: Scalar, M: SearchableMixture + Density<T> + Debug> Search for InPrecision<'_, T, M> {
    fn score(&self) -> Result<Score> {
        self.search.score(self.points, self.executor)
    }

    fn scores(&self, numbers: PerPoint, sink: &mut Sink<'_>) -> Result<()> {
        let Self { search, points, executor } = self;
        match numbers {
            PerPoint::Posterior => {
                search.predict_proba(*points, executor, |_, values| sink(values))
            }
            _ => search.score_samples(*points, executor, |_, values| sink(values)),
        }
    }

    fn labels(&self, sink: &mut dyn FnMut(&[u32]) -> Result<()>) -> Result<()> {
        self.search.predict(self.points, self.executor, |_, labels| sink(labels))
    }

    fn loss(&self) -> Result<TruncationLoss> {
        self.search.loss(self.points, self.executor)
    }
}

/// Prepares the search of a model, if it pays.
fn search<'m, M: SearchableMixture + Density<f32> + Density<f64> + Debug>(
    model: &'m M,
    source: Source<'m>,
    executor: &'m Executor,
) -> Result<Option<Box<dyn Search + 'm>>> {
    fn of<'m, T: Scalar, M: SearchableMixture + Density<T> + Debug>(
        model: &'m M,
        points: &'m dyn DataSource<T>,
        executor: &'m Executor,
    ) -> Result<Option<Box<dyn Search + 'm>>> {
        if !ComponentSearch::<T, M>::pays(model, points.len()) {
            return Ok(None);
        }
        let search = ComponentSearch::new(model, executor)?;
        Ok(Some(Box::new(InPrecision { search, points, executor })))
    }
    with_points!(source, points => of(model, points, executor))
}
