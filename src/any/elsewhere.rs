//! Statistics of points that lie elsewhere, as bytes on the way.

use super::Source;
use super::model::with_model;
use super::source::with_points;
use crate::codec;
use crate::em::{Elsewhere, e_step_of_part};
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::model::{EStep, GenerativeModel};
use crate::stats::SuffStats;
use crate::store::{self, Model, Stored};
use std::sync::Arc;

/// Holds the statistics of an E-step. Those of all parts of the points add up to those of all points.
///
/// A fit to points that lie elsewhere asks for their sum in each iteration ([`Run::elsewhere`](super::Run::elsewhere)). It sends
/// [`Parameters`] to where the points lie; from there come statistics. The number of both does not depend on the number of points.
///
/// ```
/// use entropysum::any::{AnySpec, OwnedSource, Parameters, Run, Statistics, SumElsewhere};
/// use entropysum::data::{Excerpt, Points};
/// use entropysum::faer::MatRef;
/// use entropysum::{Config, Executor, MixtureSpec, Silent, family};
/// use std::sync::Arc;
///
/// // Two parts, which might lie on two machines.
/// let value = |i: usize| (i % 10) as f64 + if i < 600 { 0.0 } else { 50.0 };
/// let parts = [0..400, 400..1000].map(|rows| rows.map(value).collect::<Vec<f64>>());
/// let elsewhere = parts.clone();
/// let sum: SumElsewhere = Arc::new(move |parameters: &[u8]| {
///     let executor = Executor::new(Some(1))?;
///     let parameters = Parameters::from_bytes(parameters)?;
///     let mut total: Option<Statistics> = None;
///     for part in &elsewhere {
///         let points = OwnedSource::F64(Box::new(Points::from_rows(part, 1)?));
///         let own = parameters.e_step(points.borrow(), 1000, &executor)?;
///         let own = Statistics::from_bytes(&own.to_bytes())?;
///         match &mut total {
///             None => total = Some(own),
///             Some(total) => total.add(&own)?,
///         }
///     }
///     Ok(total.expect("there are parts"))
/// });
///
/// let (executor, config) = (Executor::new(Some(1))?, Config::default());
/// let spec = AnySpec::from(MixtureSpec::new(family::registry::build("gaussian-full", 1)?, 2));
/// let rows = spec.rows_looked_at((1000, 1), None, &config)?;
/// let values: Vec<f64> = rows.iter().map(|&row| value(row as usize)).collect();
/// let held = MatRef::from_row_major_slice(&values, rows.len(), 1);
/// let lengths = vec![("part 0".to_owned(), 400), ("part 1".to_owned(), 600)];
/// let points = OwnedSource::F64(Box::new(Excerpt::new(rows, held, lengths)?));
/// let mut silent = Silent;
/// let run = Run { elsewhere: Some(sum), ..Run::new(&executor, &config, &mut silent) };
/// let fit = spec.fit(points.borrow(), run)?;
///
/// let all = OwnedSource::F64(Box::new(Points::owned(parts.concat(), 1)?));
/// let here = spec.fit(all.borrow(), Run::new(&executor, &config, &mut Silent))?;
/// let bounds = [&fit, &here].map(|fit| fit.last().unwrap().lower_bound);
/// assert!((bounds[0] - bounds[1]).abs() < 1e-12);
/// # Ok::<(), entropysum::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics(SuffStats);

/// Returns the sum of the statistics of all parts, given the bytes of the [`Parameters`].
pub type SumElsewhere = Arc<dyn Fn(&[u8]) -> Result<Statistics> + Send + Sync>;

impl Statistics {
    /// Adds the statistics of other points under the same parameters.
    ///
    /// # Errors
    /// If they are those of another model, or of other parameters.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        if self.0.shape() != other.0.shape() || self.0.centres() != other.0.centres() {
            let message = "statistics of unlike models do not add up, expected those of the same parameters and precision";
            return Err(Error::Model(message.to_owned()));
        }
        self.0.add(&other.0);
        Ok(())
    }

    /// Returns the number of points of positive weight.
    pub fn n_points(&self) -> f64 {
        self.0.n_points()
    }

    /// Returns the total weight of the points.
    pub fn total_weight(&self) -> f64 {
        self.0.total_weight()
    }

    /// Returns the statistics as bytes: 8 for each number.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(&self.0)
    }

    /// Makes the statistics that [`to_bytes`](Self::to_bytes) described.
    ///
    /// # Errors
    /// [`Error::Model`] if the bytes are damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        codec::decode(bytes).map(Self).ok_or_else(damaged)
    }
}

/// Holds the parameters of an E-step: a model in the middle of a fit.
#[derive(Clone, Debug)]
pub struct Parameters(Model);

impl Parameters {
    /// Makes the parameters that a fit to points elsewhere has sent.
    ///
    /// # Errors
    /// [`Error::Model`] if the bytes are damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let parts: Option<(Vec<u8>, Vec<f64>)> = codec::decode(bytes);
        let (model, forgotten) = parts.ok_or_else(damaged)?;
        let mut model: Model = store::from_bytes(&model)?;
        let fits = with_model!(&mut model, it => it.remind(&forgotten));
        if fits { Ok(Self(model)) } else { Err(damaged()) }
    }

    /// Returns the name of the model.
    pub fn name(&self) -> String {
        self.0.name()
    }

    fn bytes_of<M: Stored + GenerativeModel>(model: &M) -> Vec<u8> {
        codec::encode(&(store::to_bytes(model), model.forgotten()))
    }

    /// Takes the E-step of a part of `n_points`, which may be empty. Returns its statistics.
    ///
    /// All parts have the same precision.
    ///
    /// # Errors
    /// If dimensions differ, a point cannot be read or has no finite log-evidence, or the model learns in another way.
    pub fn e_step(
        &self,
        part: Source<'_>,
        n_points: u64,
        executor: &Executor,
    ) -> Result<Statistics> {
        fn of<M>(
            model: &M,
            part: Source<'_>,
            n_points: u64,
            executor: &Executor,
        ) -> Result<Statistics>
        where
            M: EStep<f32> + EStep<f64> + Stored,
        {
            part.check_sparse(GenerativeModel::takes_sparse(model), &model.name())?;
            let statistics =
                with_points!(part, part => e_step_of_part(model, part, n_points, executor));
            statistics.map(Statistics)
        }
        match &self.0 {
            Model::Mixture(it) => of(it, part, n_points, executor),
            Model::MixtureOfFactorAnalyzers(it) => of(it, part, n_points, executor),
            Model::SigmoidBeliefNet(it) => of(it, part, n_points, executor),
            other => {
                let message = format!("{} does not learn from parts of the points", other.name());
                Err(Error::Config(message))
            }
        }
    }
}

fn damaged() -> Error {
    Error::Model("damaged bytes: they hold no statistics or parameters of an E-step".to_owned())
}

/// Returns the E-step of models of a kind.
pub(super) fn elsewhere<M>(sum: SumElsewhere) -> Elsewhere<M>
where
    M: Stored + GenerativeModel + 'static,
{
    Elsewhere::new(move |model: &M| Ok(sum(&Parameters::bytes_of(model))?.0))
}

#[cfg(test)]
mod tests {
    use super::super::{AnySpec, OwnedSource, Run};
    use super::*;
    use crate::data::{Excerpt, Points};
    use crate::em::{
        Config, FactorAnalyzersSpec, Fit, Init, LinearGaussianSpec, MixtureSpec, StreamConfig,
    };
    use crate::family::registry;
    use crate::model::{NoiseStructure, Posterior, TruncatedSearch};
    use crate::monitor::Silent;
    use faer::MatRef;

    const DIM: usize = 3;
    const N: usize = 6000;

    /// Whole numbers around three centres, with a few large ones.
    fn value(row: usize, d: usize) -> f64 {
        let noise = ((row * (7 + 4 * d) + row * row % 13) % 11) as f64;
        noise + 10.0 * (row % 3) as f64 + if row.is_multiple_of(101) { 5.0 } else { 0.0 }
    }

    fn values(rows: impl Iterator<Item = usize>) -> Vec<f64> {
        rows.flat_map(|row| (0..DIM).map(move |d| value(row, d))).collect()
    }

    fn executor() -> Executor {
        Executor::new(Some(2)).unwrap()
    }

    fn points(values: Vec<f64>, is_single: bool) -> OwnedSource<'static> {
        match is_single {
            false => OwnedSource::F64(Box::new(Points::owned(values, DIM).unwrap())),
            true => {
                let values = values.into_iter().map(|value| value as f32).collect();
                OwnedSource::F32(Box::new(Points::owned(values, DIM).unwrap()))
            }
        }
    }

    /// Fits to parts that end at these rows.
    fn fit_elsewhere(
        spec: &AnySpec,
        config: &Config,
        ends: &'static [usize],
        is_single: bool,
        stream: Option<&StreamConfig>,
    ) -> Result<Fit<Model>> {
        let starts = std::iter::once(&0).chain(ends);
        let ranges: Vec<_> = starts.zip(ends).map(|(&start, &end)| start..end).collect();
        let parts = ranges.iter().enumerate();
        let lengths = parts.map(|(k, rows)| (format!("part {k}"), rows.len() as u64)).collect();
        let sum: SumElsewhere = Arc::new(move |bytes: &[u8]| {
            let parameters = Parameters::from_bytes(bytes)?;
            let mut total: Option<Statistics> = None;
            for rows in &ranges {
                let part = points(values(rows.clone()), is_single);
                let own = parameters.e_step(part.borrow(), N as u64, &executor())?;
                let own = Statistics::from_bytes(&own.to_bytes())?;
                match &mut total {
                    None => total = Some(own),
                    Some(total) => total.add(&own)?,
                }
            }
            Ok(total.unwrap())
        });
        let rows = spec.rows_looked_at((N as u64, DIM), None, config)?;
        let held = values(rows.iter().map(|&row| row as usize));
        let single: Vec<f32> = held.iter().map(|&value| value as f32).collect();
        let source = match is_single {
            false => {
                let held = MatRef::from_row_major_slice(&held, rows.len(), DIM);
                OwnedSource::F64(Box::new(Excerpt::new(rows, held, lengths)?))
            }
            true => {
                let held = MatRef::from_row_major_slice(&single, rows.len(), DIM);
                OwnedSource::F32(Box::new(Excerpt::new(rows, held, lengths)?))
            }
        };
        let executor = executor();
        let mut silent = Silent;
        let run = Run { elsewhere: Some(sum), stream, ..Run::new(&executor, config, &mut silent) };
        spec.fit(source.borrow(), run)
    }

    fn specs() -> Vec<AnySpec> {
        // Far from a maximum, iterations would multiply the rounding of `f32`.
        let mixture = |name: &str| {
            let spec = MixtureSpec::new(registry::build(name, DIM).unwrap(), 3);
            spec.with_init(Init::KMeansPlusPlus)
        };
        vec![
            mixture("gaussian-full").into(),
            mixture("gaussian-tied").with_posterior(Posterior::Hard).into(),
            mixture("poisson").into(),
            FactorAnalyzersSpec::new(NoiseStructure::Diagonal, 3, 1).into(),
        ]
    }

    #[test]
    fn points_elsewhere_give_the_fit_of_points_here() {
        // One part is empty, and a part may be smaller than a tile.
        let ends: &[usize] = &[2500, 2500, 2507, N];
        for (spec, is_single) in specs().iter().flat_map(|spec| [(spec, false), (spec, true)]) {
            // A start of the sample alone, and two starts.
            let config = Config::default().max_iter(6).tol(0.0).n_init(2);
            let fit = fit_elsewhere(spec, &config, ends, is_single, None).unwrap();
            let all = points(values(0..N), is_single);
            let executor = executor();
            let here = spec.fit(all.borrow(), Run::new(&executor, &config, &mut Silent)).unwrap();
            assert_eq!(fit.history.records.len(), here.history.records.len());
            let tolerance = if is_single { 2e-4 } else { 1e-9 };
            for (own, other) in fit.history.records.iter().zip(&here.history.records) {
                let difference = own.lower_bound - other.lower_bound;
                assert!(difference.abs() < tolerance, "{spec:?} {is_single}: {difference}");
            }
        }
    }

    #[test]
    fn what_points_elsewhere_cannot_do_is_refused() {
        let config = Config::default();
        let mixture = MixtureSpec::new(registry::build("gaussian-diag", DIM).unwrap(), 3);
        let truncated = Posterior::Truncated(TruncatedSearch::default());
        let refused = |spec: &AnySpec, stream: Option<&StreamConfig>| {
            fit_elsewhere(spec, &config, &[N], false, stream).unwrap_err().to_string()
        };
        let fault = refused(&mixture.clone().with_posterior(truncated).into(), None);
        assert!(fault.contains("batch EM with exact or hard posteriors"), "{fault}");
        let analyzers = FactorAnalyzersSpec::new(NoiseStructure::Diagonal, 3, 1);
        let fault = refused(&analyzers.with_posterior(truncated).into(), None);
        assert!(fault.contains("batch EM with exact or hard posteriors"), "{fault}");
        let fault = refused(&mixture.into(), Some(&StreamConfig::default()));
        assert!(fault.contains("batch EM with exact or hard posteriors"), "{fault}");
        let fault = refused(&LinearGaussianSpec::ppca(1).into(), None);
        assert!(fault.contains("does not learn from parts"), "{fault}");
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let spec = &specs()[0];
        let all = points(values(0..500), false);
        let model = spec.start(all.borrow(), &executor(), &Config::default()).unwrap();
        let Model::Mixture(mixture) = &model else { panic!("no mixture") };
        let bytes = Parameters::bytes_of(mixture);
        let parameters = Parameters::from_bytes(&bytes).unwrap();
        let statistics = parameters.e_step(all.borrow(), 500, &executor()).unwrap();
        assert_eq!(statistics.n_points(), 500.0);
        for cut in (0..bytes.len()).step_by(37) {
            assert!(Parameters::from_bytes(&bytes[..cut]).is_err(), "{cut}");
        }
        let bytes = statistics.to_bytes();
        for cut in 0..bytes.len() {
            assert!(Statistics::from_bytes(&bytes[..cut]).is_err(), "{cut}");
        }
        let other = specs()[2].start(all.borrow(), &executor(), &Config::default()).unwrap();
        let Model::Mixture(other) = &other else { panic!("no mixture") };
        let other = Parameters::from_bytes(&Parameters::bytes_of(other)).unwrap();
        let other = other.e_step(all.borrow(), 500, &executor()).unwrap();
        let fault = statistics.clone().add(&other).unwrap_err().to_string();
        assert!(fault.contains("unlike models"), "{fault}");
    }
}
