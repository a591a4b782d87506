//! Mixtures of any exponential family as factors.

use super::{Direction, Factor, FactorModel, Statement, shapes::normal};
use crate::data::memory::Points;
use crate::em::init;
use crate::em::{Config, Init, MixtureSpec};
use crate::exec::Executor;
use crate::family::{Constraint, ExponentialFamily, ParameterSpec, Parameters};
use crate::model::Mixture;
use std::sync::Arc;

/// A mixture of `n_components` of a family, for its [check](FactorModel::check) at random parameters.
///
/// ```
/// use entropysum::criterion::{Statement, mixture};
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
    let observable = Components { family, n_components };
    let model = FactorModel::new(name, vec![Box::new(prior), Box::new(observable)]);
    if is_separate { model.stated_by(Statement::Mixture) } else { model }
}

impl FactorModel {
    /// The family and the number of components of a mixture, for a check at random parameters.
    pub fn of(model: &Mixture) -> Self {
        mixture(model.shared_family(), model.n_components())
    }
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
    pub family: Arc<dyn ExponentialFamily>,
    pub n_components: usize,
}

impl Components {
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

    /// Each array of one component, or the shared ones: its constraint, its shape, and where it starts.
    fn arrays(&self, shared: bool, mut start: usize) -> Vec<(Constraint, Vec<usize>, usize)> {
        let mut arrays = Vec::new();
        for spec in self.family.parameters().iter().filter(|spec| spec.shared == shared) {
            arrays.push((self.family.constraint(&spec.name), spec.shape.clone(), start));
            start += spec.len();
        }
        arrays
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

    /// Those of a start on random points of the family's domain.
    fn draw_parameters(&self, uniform: &mut dyn FnMut() -> f64) -> Vec<f64> {
        let seed = (uniform() * 2f64.powi(32)) as u64;
        let n_points = 64 * self.n_components;
        let dim = self.family.dim();
        let values = points_of(&*self.family, n_points, uniform);
        let points = Points::<f64>::from_rows(&values, dim).expect("rows of that dimension");
        let spec = MixtureSpec::new(self.family.clone(), self.n_components).with_init(Init::Random);
        let config = Config { seed, ..Config::default() };
        let executor = Executor::new(Some(1)).expect("one thread");
        let (model, _) = init::start(&spec, &points, &executor, &config, 0)
            .expect("points of the domain make a start");
        Self::flat(model.parameters())
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
        natural
    }

    fn directions(&self, parameters: &[f64]) -> Vec<Direction> {
        let size = self.size(false);
        let own = (0..self.n_components).flat_map(|c| self.arrays(false, c * size));
        own.chain(self.arrays(true, self.n_components * size))
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

/// From the largest value to each other one: the sum stays.
fn sums_to_one(start: usize, values: &[f64]) -> Vec<Direction> {
    let largest = (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap_or(0);
    (0..values.len())
        .filter(|&i| i != largest)
        .map(|i| Direction {
            entries: vec![(start + i, 1.0), (start + largest, -1.0)],
            scale: values[i].abs().max(f64::MIN_POSITIVE),
        })
        .collect()
}

/// Tangents of the sphere: each axis but that of the largest value, without its part along the vector.
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

/// Points of a family's domain, row-major, in no special position.
fn points_of(
    family: &dyn ExponentialFamily,
    n_points: usize,
    uniform: &mut dyn FnMut() -> f64,
) -> Vec<f64> {
    let dim = family.dim();
    let (scale, shift) = (normal(uniform).exp(), normal(uniform));
    (0..n_points * dim).map(|_| shift + scale * normal(uniform)).collect()
}
