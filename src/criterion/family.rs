//! Mixtures of any exponential family as factors.

use super::{Direction, Factor, FactorModel, Statement, shapes::normal};
use crate::data::memory::Points;
use crate::em::init;
use crate::em::{Config, Init, MixtureSpec};
use crate::exec::Executor;
use crate::family::{Constraint, ExponentialFamily, ParameterSpec, Parameters, Support};
use crate::kernels::dispatch::Simd;
use crate::kernels::statistics::{self, Tile};
use crate::linalg::symmetric_eigen;
use crate::model::Mixture;
use crate::rng;
use faer::MatRef;
use std::sync::Arc;

/// Makes factors of a mixture of `n_components` of a family, for a [check](FactorModel::check) at random parameters.
///
/// ```
/// use entropysum::expert::criterion::{Statement, mixture};
/// use entropysum::family::registry;
///
/// let report = mixture(registry::build("gaussian-full", 2)?, 3).check(8, 0);
/// assert_eq!(report.applies, Some(Statement::Mixture));
/// // A tied covariance is no parameter of a single component: Proposition 4 does not cover it, Definition 1 does.
/// let report = mixture(registry::build("gaussian-tied", 2)?, 3).check(8, 0);
/// assert_eq!(report.applies, Some(Statement::Definition));
/// assert_eq!(report.factors[1].moves, ["covariances"]);
/// # Ok::<(), entropysum::Error>(())
/// ```
pub fn mixture(family: Arc<dyn ExponentialFamily>, n_components: usize) -> FactorModel {
    let name = family.name();
    // Propositions 4 and 5 speak of components with parameters of their own.
    let is_separate = family.parameters().iter().all(|spec| !spec.shared);
    let prior = Categorical { n_components };
    let observable = Components::new(family, n_components).in_minimal_form();
    let model = FactorModel::new(name, vec![Box::new(prior), Box::new(observable)]);
    if is_separate { model.stated_by(Statement::Mixture) } else { model }
}

impl FactorModel {
    /// The family and the number of components of a mixture, for a check at random parameters.
    pub fn of(model: &Mixture) -> Self {
        mixture(model.shared_family(), model.n_components())
    }
}

/// Correlations of statistics have eigenvalues below this only if the statistics depend on each other: rounding leaves
/// about 1e-16 times their number.
const DEPENDENT: f64 = 1e-11;

/// Shifts and scales values to mean 0 and variance 1, constant ones to 0; returns their standard deviation.
fn standardize(values: &mut [f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    // The deviation of a constant is rounding.
    let scale = if deviation > 1e-12 * mean.abs() { deviation.recip() } else { 0.0 };
    values.iter_mut().for_each(|value| *value = (*value - mean) * scale);
    deviation
}

/// The prior of a mixture: `ζ_i = ln(π_i / π_C)`, i < C.
pub(super) struct Categorical {
    pub n_components: usize,
}

impl Factor for Categorical {
    fn name(&self) -> String {
        "p(c)".into()
    }

    fn parameters(&self) -> Vec<(String, usize)> {
        vec![("weights".into(), self.n_components)]
    }

    fn draw_parameters(&self, uniform: &mut dyn FnMut() -> f64) -> Vec<f64> {
        let masses: Vec<f64> = (0..self.n_components).map(|_| 0.02 + uniform()).collect();
        let total: f64 = masses.iter().sum();
        masses.iter().map(|mass| mass / total).collect()
    }

    fn natural(&self, _: &[f64], weights: &[f64]) -> Vec<f64> {
        let (last, others) = weights.split_last().expect("a mixture has a component");
        others.iter().map(|weight| (weight / last).ln()).collect()
    }

    fn directions(&self, weights: &[f64]) -> Vec<Direction> {
        sums_to_one(0, weights)
    }

    fn closed_form(&self, weights: &[f64]) -> Option<Vec<f64>> {
        Some(alpha(weights))
    }
}

/// `α_c = π_c (ln π_c + H[π])` (Eqn 45), for all components; it sums to 0.
pub(super) fn alpha(weights: &[f64]) -> Vec<f64> {
    let entropy = crate::model::entropy_of_weights(weights);
    weights.iter().map(|&w| if w > 0.0 { w * (w.ln() + entropy) } else { 0.0 }).collect()
}

/// The components of a mixture. Their parameters come one component after the other, then what they share.
pub(super) struct Components {
    family: Arc<dyn ExponentialFamily>,
    n_components: usize,
    /// From natural parameters to those of a minimal form, row-major, where statistics depend on each other.
    minimal: Option<Vec<Vec<f64>>>,
}

impl Components {
    pub fn new(family: Arc<dyn ExponentialFamily>, n_components: usize) -> Self {
        Self { family, n_components, minimal: None }
    }

    /// Takes the natural parameters of a minimal form.
    pub fn in_minimal_form(self) -> Self {
        Self { minimal: self.minimal_form(), ..self }
    }

    /// Statistics that add up to a constant, such as the indicators of all levels, leave their natural parameters a free
    /// constant, and the criterion is about what is left without it: about the natural parameters of the independent
    /// combinations of statistics. These show in the statistics of points that the family draws.
    fn minimal_form(&self) -> Option<Vec<Vec<f64>>> {
        const POINTS: usize = 2048;
        let mut rng = rng::stream(0, 0);
        let one = Self::new(self.family.clone(), 1);
        let theta = one.unflat(&one.draw_parameters(&mut || rng::uniform(&mut rng)));
        let sampler = self.family.sampler(theta.theta(0));
        let mut points = vec![0.0; POINTS * self.family.dim()];
        points.chunks_mut(self.family.dim()).for_each(|point| sampler(&mut rng, point));

        let mut statistics = self.family.statistics();
        statistics.extend(self.family.shared_statistics());
        let (n_statistics, simd) = (statistics.len(), Simd::detect());
        let view = MatRef::from_row_major_slice(&points, POINTS, self.family.dim());
        let mut tile = vec![0.0; points.len()];
        statistics::load(simd, view, &[], &mut tile, POINTS);
        let tile = Tile { values: &tile, dim: self.family.dim(), n_points: POINTS, stride: POINTS };
        let mut values = vec![0.0; POINTS * n_statistics];
        statistics::evaluate(simd, &statistics, tile, &mut values);
        // Columns of mean 0 and variance 1; their correlations are singular where statistics depend on each other.
        let scales: Vec<f64> = values.chunks_mut(POINTS).map(standardize).collect();
        let column = |l: usize| &values[l * POINTS..][..POINTS];
        let mut correlations = vec![0.0; n_statistics * n_statistics];
        for (i, j) in (0..n_statistics).flat_map(|i| (0..=i).map(move |j| (i, j))) {
            let sum: f64 = column(i).iter().zip(column(j)).map(|(a, b)| a * b).sum();
            correlations[i * n_statistics + j] = sum / POINTS as f64;
            correlations[j * n_statistics + i] = sum / POINTS as f64;
        }
        let (eigenvalues, vectors) = symmetric_eigen(&correlations, n_statistics)?;
        let kept: Vec<usize> = (0..n_statistics).filter(|&k| eigenvalues[k] > DEPENDENT).collect();
        // Coordinates `V' S η` do not change along the dependencies `S⁻¹ V_0`.
        let row = |&k: &usize| (0..n_statistics).map(|l| vectors[(l, k)] * scales[l]).collect();
        (kept.len() < n_statistics).then(|| kept.iter().map(row).collect())
    }

    fn size(&self, shared: bool) -> usize {
        let specs = self.family.parameters();
        specs.iter().filter(|spec| spec.shared == shared).map(|spec| spec.len()).sum()
    }

    pub fn flat(parameters: &Parameters) -> Vec<f64> {
        [parameters.components.concat(), parameters.shared.clone()].concat()
    }

    pub fn unflat(&self, flat: &[f64]) -> Parameters {
        let (own, shared) = flat.split_at(self.n_components * self.size(false));
        let size = self.size(false);
        let component = |c: usize| own[c * size..][..size].to_vec();
        Parameters {
            components: (0..self.n_components).map(component).collect(),
            shared: shared.to_vec(),
        }
    }

    /// Lists the arrays of one component, or the shared arrays: constraint, shape and first index.
    fn arrays(&self, shared: bool, mut start: usize) -> Vec<(Constraint, Vec<usize>, usize)> {
        let mut arrays = Vec::new();
        for spec in self.family.parameters().iter().filter(|spec| spec.shared == shared) {
            arrays.push((self.family.constraint(&spec.name), spec.shape.clone(), start));
            start += spec.len();
        }
        arrays
    }

    /// Lists the arrays of all components, then the shared arrays.
    fn all_arrays(&self) -> impl Iterator<Item = (Constraint, Vec<usize>, usize)> {
        let size = self.size(false);
        let own = (0..self.n_components).flat_map(move |c| self.arrays(false, c * size));
        own.chain(self.arrays(true, self.n_components * size))
    }
}

impl Factor for Components {
    fn name(&self) -> String {
        "p(x | c)".into()
    }

    fn parameters(&self) -> Vec<(String, usize)> {
        let specs = self.family.parameters();
        let array = |spec: &ParameterSpec| (spec.name.to_string(), spec.len());
        let own = (0..self.n_components)
            .flat_map(|_| specs.iter().filter(|spec| !spec.shared).map(array));
        own.chain(specs.iter().filter(|spec| spec.shared).map(array)).collect()
    }

    /// Takes the parameters of a start on random points of the family's domain.
    fn draw_parameters(&self, uniform: &mut dyn FnMut() -> f64) -> Vec<f64> {
        let seed = (uniform() * 2f64.powi(32)) as u64;
        let n_points = 256 * self.n_components;
        let dim = self.family.dim();
        let values = points_of(&*self.family, n_points, uniform);
        let points = Points::<f64>::from_rows(&values, dim).expect("rows of that dimension");
        let spec = MixtureSpec::new(self.family.clone(), self.n_components).with_init(Init::Random);
        let config = Config { seed, ..Config::default() };
        let executor = Executor::new(Some(1)).expect("one thread");
        let (model, _) = init::start(&spec, &points, &executor, &config, 0)
            .expect("points of the domain make a start");
        let mut parameters = model.parameters().clone();
        // Derivatives are taken inside of the simplex: the points of a component need not have all levels, but those of all have.
        let theta = &mut parameters.components;
        for (constraint, shape, start) in self.arrays(false, 0) {
            let entries = start..start + shape.iter().product::<usize>();
            for i in entries.filter(|_| constraint == Constraint::SumsToOne) {
                let mean = theta.iter().map(|it| it[i]).sum::<f64>() / theta.len() as f64;
                theta.iter_mut().for_each(|it| it[i] = 0.9 * it[i] + 0.1 * mean);
            }
        }
        Self::flat(&parameters)
    }

    fn draw_latents(&self, _: usize, _: &mut dyn FnMut() -> f64) -> Vec<Vec<f64>> {
        (0..self.n_components).map(|c| vec![c as f64]).collect()
    }

    fn natural(&self, latents: &[f64], parameters: &[f64]) -> Vec<f64> {
        let all = self.unflat(parameters);
        let component = all.components[latents[0] as usize].clone();
        let one = Parameters { components: vec![component], shared: all.shared };
        let centre = vec![0.0; if self.family.is_location() { self.family.dim() } else { 0 }];
        let mut natural = vec![0.0; self.family.statistics().len()];
        self.family.natural(&one, &centre, &mut natural);
        let mut shared = vec![0.0; self.family.shared_statistics().len()];
        if !shared.is_empty() {
            self.family.shared_natural(&one.shared, &mut shared);
        }
        natural.extend(shared);
        match &self.minimal {
            None => natural,
            Some(rows) => {
                let product = |row: &Vec<f64>| row.iter().zip(&natural).map(|(a, b)| a * b).sum();
                rows.iter().map(product).collect()
            }
        }
    }

    fn base_measure_is_constant(&self) -> bool {
        self.family.log_base_measure().is_constant()
    }

    fn directions(&self, parameters: &[f64]) -> Vec<Direction> {
        self.all_arrays()
            .flat_map(|(constraint, shape, start)| {
                let len: usize = shape.iter().product();
                let last = shape.last().copied().unwrap_or(1);
                let rows = parameters[start..start + len].chunks(last.max(1)).enumerate();
                match constraint {
                    Constraint::Free => free(start, &parameters[start..start + len]),
                    Constraint::Symmetric => {
                        symmetric(start, &parameters[start..start + len], last)
                    }
                    Constraint::SumsToOne => {
                        rows.flat_map(|(r, row)| sums_to_one(start + r * last, row)).collect()
                    }
                    Constraint::UnitVector => {
                        rows.flat_map(|(r, row)| unit_vector(start + r * last, row)).collect()
                    }
                }
            })
            .collect()
    }

    fn closed_form(&self, parameters: &[f64]) -> Option<Vec<f64>> {
        self.family.scaling_flow(&self.unflat(parameters)).map(|flow| Self::flat(&flow))
    }
}

fn free(start: usize, values: &[f64]) -> Vec<Direction> {
    values.iter().enumerate().map(|(i, &value)| Direction::along(start + i, value)).collect()
}

fn symmetric(start: usize, values: &[f64], dim: usize) -> Vec<Direction> {
    let mut directions = Vec::new();
    for (m, matrix) in values.chunks(dim * dim).enumerate() {
        let at = |i: usize, j: usize| start + m * dim * dim + i * dim + j;
        for (i, j) in (0..dim).flat_map(|i| (0..=i).map(move |j| (i, j))) {
            let mut entries = vec![(at(i, j), 1.0)];
            if i != j {
                entries.push((at(j, i), 1.0));
            }
            // Small against the diagonal, so that the matrix stays positive definite.
            let scale = (matrix[i * dim + i] * matrix[j * dim + j]).abs().sqrt();
            directions.push(Direction { entries, scale });
        }
    }
    directions
}

/// Lists the directions from the largest value to each other value, which keep the sum.
pub(super) fn sums_to_one(start: usize, values: &[f64]) -> Vec<Direction> {
    let largest = (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap_or(0);
    // A probability of zero can only grow: no direction in which to differ from both sides.
    (0..values.len())
        .filter(|&i| i != largest && values[i] > 0.0)
        .map(|i| Direction {
            entries: vec![(start + i, 1.0), (start + largest, -1.0)],
            scale: values[i],
        })
        .collect()
}

/// Lists tangents of the sphere: each axis except that of the largest value, without its part along the vector.
fn unit_vector(start: usize, values: &[f64]) -> Vec<Direction> {
    let by_size = |&a: &usize, &b: &usize| values[a].abs().total_cmp(&values[b].abs());
    let largest = (0..values.len()).max_by(by_size).unwrap_or(0);
    (0..values.len())
        .filter(|&i| i != largest)
        .map(|i| {
            let entry = |(j, value): (usize, &f64)| {
                (start + j, f64::from(u8::from(i == j)) - values[i] * value)
            };
            Direction { entries: values.iter().enumerate().map(entry).collect(), scale: 1.0 }
        })
        .collect()
}

/// Draws points of a family's domain, row-major, in no special position.
fn points_of(
    family: &dyn ExponentialFamily,
    n_points: usize,
    uniform: &mut dyn FnMut() -> f64,
) -> Vec<f64> {
    let dim = family.dim();
    let (scale, shift) = ((0.5 * normal(uniform)).exp(), normal(uniform));
    // Every other value is about zero, so that none of a few possible values is missing.
    let mut value = |k: usize| match k % 2 {
        0 => 1.5 * normal(uniform),
        _ => shift + scale * normal(uniform),
    };
    let mut points: Vec<f64> = (0..n_points).flat_map(|n| vec![n; dim]).map(&mut value).collect();
    for domain in family.domains() {
        for point in points.chunks_mut(dim) {
            place(domain.support, &mut point[domain.columns.clone()]);
        }
    }
    points
}

/// Maps real numbers into a support.
fn place(support: Support, values: &mut [f64]) {
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    for x in &mut *values {
        *x = match support {
            Support::Positive | Support::NonNegative | Support::Simplex => x.exp(),
            Support::UnitInterval => logistic(*x),
            Support::Count => (x.exp() + 0.5).floor(),
            Support::CountUpTo(most) => (logistic(*x) * (most + 1.0)).floor().min(most),
            Support::Binary => f64::from(u8::from(*x > 0.0)),
            _ => *x,
        };
    }
    let total = match support {
        Support::Simplex => values.iter().sum(),
        Support::UnitVector => values.iter().map(|x| x * x).sum::<f64>().sqrt(),
        _ => 1.0,
    };
    values.iter_mut().for_each(|x| *x /= total);
}
