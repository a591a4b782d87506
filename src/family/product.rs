//! Products of families: columns of different kinds, independent given the component.
//!
//! `p(x) = Π_b p_b(x_b)` over blocks b of columns: statistics and natural parameters stand one after the other, log
//! base measures, log-partitions and entropies add up. Prop. 4 holds if it holds for every block, else Prop. 5.
//!
//! The name of a product lists its blocks: `gaussian-diag:0-3,poisson:4-9,bernoulli:10`. Columns are indices from 0, ranges
//! `first-last`, or several of these with `+` between them. The model ignores columns that no block names.

mod name;

pub use name::{is_product, name_of, parse};

use super::{
    BaseMeasure, ConjugatePrior, Constraint, Domain, ExponentialFamily, Feature, KnownParameters,
    Outcome, Packing, ParameterSpec, Parameters, Regularization, Sampler, Statistic, Theta,
    registry,
};
use crate::error::{Error, Result};
use crate::stats::{StatsShape, SuffStats};
use crate::work::{Alone, Workers};
use std::ops::Range;
use std::sync::Arc;

/// Columns of a point and their family.
#[derive(Clone, Debug)]
pub struct ProductBlock {
    /// The family, whose dimension is the number of columns.
    pub family: Arc<dyn ExponentialFamily>,
    /// The columns, in the order of the family's dimensions.
    pub columns: Vec<usize>,
}

/// The ranges of a block's columns, parameters and statistics among those of the product.
#[derive(Clone, Debug)]
struct Place {
    columns: Vec<u32>,
    parameters: Range<usize>,
    statistics: Range<usize>,
}

/// A family of independent blocks of columns, each with a family of its own.
///
/// Parameters are those of the blocks, with the names `blocks.B.NAME`.
///
/// ```
/// use entropysum::expert::family::ExponentialFamily;
/// use entropysum::family::{Parameters, registry};
///
/// let family = registry::build("poisson:0,gaussian-full:1-2", 3)?;
/// let theta = vec![1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0];
/// let parameters = Parameters { components: vec![theta], shared: vec![] };
/// let entropy = 1.0 + (1.0 + (2.0 * std::f64::consts::PI).ln());
/// assert!((family.pseudo_entropies(&parameters)[0] - entropy).abs() < 1e-14);
/// # Ok::<(), entropysum::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Product {
    blocks: Vec<ProductBlock>,
    places: Vec<Place>,
    dim: usize,
}

fn invalid<V>(message: String) -> Result<V> {
    Err(Error::Model(message))
}

/// Columns at most. Names are short, whatever number they say: a file of some bytes must not ask for all memory.
const MOST_COLUMNS: usize = 1 << 22;

impl Product {
    /// Makes a product for points of `dim` columns.
    ///
    /// # Errors
    /// [`Error::Model`] if there are no blocks, two blocks share a column, or a column does not exist. The same if a family
    /// shares parameters between components, or needs neighbouring columns and has others.
    pub fn new(blocks: Vec<ProductBlock>, dim: usize) -> Result<Self> {
        if blocks.is_empty() {
            return invalid("a product of families has at least one block".into());
        }
        if dim > MOST_COLUMNS {
            return invalid(format!("points of {dim} columns, expected up to {MOST_COLUMNS}"));
        }
        let mut taken = vec![false; dim];
        let mut places: Vec<Place> = Vec::new();
        for ProductBlock { family, columns } in &blocks {
            let name = family.name();
            if family.dim() != columns.len() {
                let (found, expected) = (columns.len(), family.dim());
                return invalid(format!("{name}: {found} columns for {expected} dimensions"));
            }
            for &column in columns {
                match taken.get_mut(column) {
                    None => {
                        return invalid(format!(
                            "{name}: there is no column {column}; points have {dim}, counted from 0"
                        ));
                    }
                    Some(true) => return invalid(format!("column {column} is in two blocks")),
                    Some(taken) => *taken = true,
                }
            }
            if family.parameters().iter().any(|spec| spec.shared) {
                return invalid(format!(
                    "{name}: its components share parameters, which blocks of columns cannot"
                ));
            }
            let neighbours = columns.windows(2).all(|pair| pair[1] == pair[0] + 1);
            let ranges = family.domains().iter().any(|domain| domain.support.is_of_vectors())
                || family.statistics().iter().any(|it| it.is_of_range())
                || family.log_base_measure().terms.iter().any(|(it, _)| it.is_of_range());
            if ranges && !neighbours {
                return invalid(format!("{name}: its columns must follow one another"));
            }
            let (parameters, statistics) =
                places.last().map_or((0, 0), |it| (it.parameters.end, it.statistics.end));
            let n_parameters: usize = family.parameters().iter().map(ParameterSpec::len).sum();
            places.push(Place {
                columns: columns.iter().map(|&column| column as u32).collect(),
                parameters: parameters..parameters + n_parameters,
                statistics: statistics..statistics + family.statistics().len(),
            });
        }
        Ok(Self { blocks, places, dim })
    }

    /// Builds the product of that name for points of `dim` columns. A known parameter has a single value, a value for each
    /// column of a block, or a value for each column of the points.
    ///
    /// # Errors
    /// [`Error::Model`] if the name does not describe a product, or as [`new`](Self::new).
    pub(super) fn from_name(name: &str, dim: usize, known: &KnownParameters) -> Result<Self> {
        let mut used = Vec::new();
        let blocks = parse(name, &[])?
            .into_iter()
            .map(|(family, columns)| {
                let mut own = KnownParameters::default();
                for &key in registry::known_parameters(&family) {
                    if let Some(values) = known.get(key) {
                        used.push(key);
                        let of_points = values.len() == dim && dim != columns.len();
                        own = own.with(
                            key,
                            match of_points && columns.iter().all(|&column| column < dim) {
                                true => columns.iter().map(|&column| values[column]).collect(),
                                false => values.to_vec(),
                            },
                        );
                    }
                }
                let family = registry::build_known(&family, columns.len(), &own)?;
                Ok(ProductBlock { family, columns })
            })
            .collect::<Result<Vec<_>>>()?;
        if let Some((key, _)) = known.iter().find(|(key, _)| !used.contains(key)) {
            return invalid(format!("no family of {name} has a known parameter {key:?}"));
        }
        Self::new(blocks, dim)
    }

    /// Lists the families of the blocks with their places.
    fn each(&self) -> impl Iterator<Item = (&dyn ExponentialFamily, &Place)> {
        self.blocks.iter().map(|block| &*block.family).zip(&self.places)
    }

    /// Copies the parameters of a block.
    fn parameters_of(parameters: &Parameters, place: &Place) -> Parameters {
        let own = |theta: &Vec<f64>| theta[place.parameters.clone()].to_vec();
        Parameters { components: parameters.components.iter().map(own).collect(), shared: vec![] }
    }

    /// Copies the centre of a block; empty if there is no centre or the family has no location.
    fn centre_of(family: &dyn ExponentialFamily, centre: &[f64], place: &Place) -> Vec<f64> {
        match family.is_location() && !centre.is_empty() {
            true => place.columns.iter().map(|&column| centre[column as usize]).collect(),
            false => Vec::new(),
        }
    }

    /// Copies the statistics of a block.
    fn stats_of(family: &dyn ExponentialFamily, stats: &SuffStats, place: &Place) -> SuffStats {
        let components = stats.shape().components;
        let centres: Vec<f64> =
            (0..components).flat_map(|c| Self::centre_of(family, stats.centre(c), place)).collect();
        let shape = StatsShape {
            components,
            statistics: place.statistics.len(),
            shared: 0,
            centre: centres.len() / components.max(1),
        };
        let mut own = SuffStats::zeros(shape, centres);
        *own.total_weight_mut() = stats.total_weight();
        *own.n_points_mut() = stats.n_points();
        own.mass_mut().copy_from_slice(stats.mass());
        for c in 0..components {
            own.sums_mut(c).copy_from_slice(&stats.sums(c)[place.statistics.clone()]);
        }
        own
    }
}

impl ExponentialFamily for Product {
    fn name(&self) -> String {
        name_of(self.blocks.iter().map(|block| (block.family.name(), &block.columns[..])))
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn blocks(&self) -> &[ProductBlock] {
        &self.blocks
    }

    fn domains(&self) -> Vec<Domain> {
        let of = |(family, place): (&dyn ExponentialFamily, &Place)| {
            let at = |d: usize| place.columns[d] as usize;
            let mut all = Vec::new();
            for domain in family.domains() {
                let Domain { columns, .. } = domain.clone();
                if domain.support.is_of_vectors() {
                    let columns = at(columns.start)..at(columns.end - 1) + 1;
                    all.push(Domain { columns, ..domain });
                } else {
                    let single = |d| Domain { columns: at(d)..at(d) + 1, ..domain.clone() };
                    all.extend(columns.map(single));
                }
            }
            all
        };
        self.each().flat_map(of).collect()
    }

    fn features(&self) -> Vec<Feature> {
        let of = |(family, place): (&dyn ExponentialFamily, &Place)| {
            let features = family.features().into_iter();
            features.map(|feature| feature.remapped(&place.columns)).collect::<Vec<_>>()
        };
        self.each().flat_map(of).collect()
    }

    /// The `k`-th scale of each block, or its last.
    fn scales(&self) -> Vec<Vec<Feature>> {
        let of = |(family, place): (&dyn ExponentialFamily, &Place)| {
            let remapped = |features: Vec<Feature>| -> Vec<Feature> {
                features.into_iter().map(|it| it.remapped(&place.columns)).collect()
            };
            family.scales().into_iter().map(remapped).collect::<Vec<_>>()
        };
        let of: Vec<Vec<Vec<Feature>>> = self.each().map(of).collect();
        let most = of.iter().map(Vec::len).max().unwrap_or(1);
        let scale =
            |k: usize| of.iter().flat_map(|own| own[k.min(own.len() - 1)].clone()).collect();
        (0..most).map(scale).collect()
    }

    fn log_base_measure(&self) -> BaseMeasure {
        let of = |(family, place): (&dyn ExponentialFamily, &Place)| {
            let mut measure = family.log_base_measure();
            measure.terms.iter_mut().for_each(|(it, _)| *it = it.remapped(&place.columns));
            measure
        };
        self.each().map(of).sum()
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        let of = |(b, block): (usize, &ProductBlock)| {
            let specs = block.family.parameters().into_iter();
            let rename = move |spec: ParameterSpec| ParameterSpec {
                name: format!("blocks.{b}.{}", spec.name).into(),
                ..spec
            };
            specs.map(rename).collect::<Vec<_>>()
        };
        self.blocks.iter().enumerate().flat_map(of).collect()
    }

    fn statistics(&self) -> Vec<Statistic> {
        let of = |(family, place): (&dyn ExponentialFamily, &Place)| {
            let statistics = family.statistics().into_iter();
            statistics.map(|statistic| statistic.remapped(&place.columns)).collect::<Vec<_>>()
        };
        self.each().flat_map(of).collect()
    }

    /// Some columns may have no location; their centre is 0.
    fn is_location(&self) -> bool {
        self.blocks.iter().any(|block| block.family.is_location())
    }

    fn restrict_centre(&self, centre: &mut [f64]) {
        let mut mask = vec![0.0; centre.len()];
        for (_, place) in self.each().filter(|(family, _)| family.is_location()) {
            place.columns.iter().for_each(|&column| mask[column as usize] = 1.0);
        }
        centre
            .iter_mut()
            .zip(mask)
            .for_each(|(value, keep)| *value = if keep > 0.0 { *value } else { 0.0 });
    }

    fn location(&self, theta: Theta<'_>) -> Vec<f64> {
        let mut location = vec![0.0; self.dim];
        for (family, place) in self.each() {
            let component = &theta.component[place.parameters.clone()];
            let own = family.location(Theta { component, shared: &[] });
            for (&column, value) in place.columns.iter().zip(own) {
                location[column as usize] = value;
            }
        }
        location
    }

    fn mend(&self, mass: f64, sums: &mut [f64]) {
        for (family, place) in self.each() {
            family.mend(mass, &mut sums[place.statistics.clone()]);
        }
    }

    fn translate(&self, stats: &mut SuffStats, centres: &[f64]) {
        for (family, place) in self.each().filter(|(family, _)| family.is_location()) {
            let mut own = Self::stats_of(family, stats, place);
            let own_centres: Vec<f64> = centres
                .chunks(self.dim)
                .flat_map(|centre| Self::centre_of(family, centre, place))
                .collect();
            family.translate(&mut own, &own_centres);
            for c in 0..stats.shape().components {
                stats.sums_mut(c)[place.statistics.clone()].copy_from_slice(own.sums(c));
            }
        }
        stats.set_centres(centres);
    }

    fn n_free_parameters(&self, n_components: usize) -> usize {
        self.blocks.iter().map(|block| block.family.n_free_parameters(n_components)).sum()
    }

    fn check(&self, theta: Theta<'_>) -> std::result::Result<(), String> {
        for (b, (family, place)) in self.each().enumerate() {
            let component = &theta.component[place.parameters.clone()];
            family
                .check(Theta { component, shared: &[] })
                .map_err(|message| format!("block {b}, {}: {message}", family.name()))?;
        }
        Ok(())
    }

    /// Reports a cancellation of 0, since a product has no centred form: not all columns have a quadratic form. Gaussian
    /// columns are taken about the mean of the mixture.
    fn natural(&self, parameters: &Parameters, centres: &[f64], eta: &mut [f64]) -> Vec<Packing> {
        let n_components = parameters.components.len();
        let n_statistics = eta.len() / n_components.max(1);
        let mut packings = vec![Packing { log_partition: 0.0, cancellation: 0.0 }; n_components];
        for (family, place) in self.each() {
            let own = Self::parameters_of(parameters, place);
            let centres: Vec<f64> = centres
                .chunks(self.dim)
                .flat_map(|centre| Self::centre_of(family, centre, place))
                .collect();
            let width = place.statistics.len();
            let mut rows = vec![0.0; n_components * width];
            let of = family.natural(&own, &centres, &mut rows);
            for c in 0..n_components {
                packings[c].log_partition += of[c].log_partition;
                eta[c * n_statistics..][place.statistics.clone()]
                    .copy_from_slice(&rows[c * width..][..width]);
            }
        }
        packings
    }

    fn pseudo_entropies(&self, parameters: &Parameters) -> Vec<f64> {
        let mut sums = vec![0.0; parameters.components.len()];
        for (family, place) in self.each() {
            let own = family.pseudo_entropies(&Self::parameters_of(parameters, place));
            sums.iter_mut().zip(own).for_each(|(sum, entropy)| *sum += entropy);
        }
        sums
    }

    fn entropy(&self, theta: Theta<'_>) -> Option<f64> {
        let of = |(family, place): (&dyn ExponentialFamily, &Place)| {
            let component = &theta.component[place.parameters.clone()];
            family.entropy(Theta { component, shared: &[] })
        };
        self.each().map(of).sum()
    }

    fn observable_entropy(&self, parameters: &Parameters, stats: &SuffStats) -> f64 {
        let of = |(family, place): (&dyn ExponentialFamily, &Place)| {
            let own = Self::parameters_of(parameters, place);
            family.observable_entropy(&own, &Self::stats_of(family, stats, place))
        };
        self.each().map(of).sum()
    }

    fn mean(&self, theta: Theta<'_>, centre: &[f64], mean: &mut [f64]) {
        for (family, place) in self.each() {
            let component = &theta.component[place.parameters.clone()];
            let centre = Self::centre_of(family, centre, place);
            let mean = &mut mean[place.statistics.clone()];
            family.mean(Theta { component, shared: &[] }, &centre, mean);
        }
    }

    fn log_likelihood(&self, parameters: &Parameters, stats: &SuffStats) -> f64 {
        let of = |(family, place): (&dyn ExponentialFamily, &Place)| {
            let own = Self::parameters_of(parameters, place);
            family.log_likelihood(&own, &Self::stats_of(family, stats, place))
        };
        self.each().map(of).sum()
    }

    /// Limits of 0 stand where a block has no limits.
    fn floors(&self, stats: &SuffStats, regularization: &Regularization) -> Vec<f64> {
        self.floors_by(stats, regularization, &Alone)
    }

    fn floors_by(
        &self,
        stats: &SuffStats,
        regularization: &Regularization,
        workers: &dyn Workers,
    ) -> Vec<f64> {
        let mut floors = vec![0.0; self.dim];
        for (family, place) in self.each() {
            let stats = Self::stats_of(family, stats, place);
            let own = family.floors_by(&stats, regularization, workers);
            place.columns.iter().zip(own).for_each(|(&d, floor)| floors[d as usize] = floor);
        }
        floors
    }

    /// One block with covariances suffices: others are fitted as without a prior.
    fn takes_prior(&self) -> bool {
        self.each().any(|(family, _)| family.takes_prior())
    }

    fn log_prior(&self, parameters: &Parameters, stats: &SuffStats, prior: &ConjugatePrior) -> f64 {
        let of = |(family, place): (&dyn ExponentialFamily, &Place)| {
            let own = Self::parameters_of(parameters, place);
            family.log_prior(&own, &Self::stats_of(family, stats, place), prior)
        };
        self.each().map(of).sum()
    }

    fn maximize(
        &self,
        stats: &SuffStats,
        update: &[bool],
        regularization: &Regularization,
        parameters: &mut Parameters,
    ) -> Vec<Outcome> {
        self.maximize_by(stats, update, regularization, parameters, &Alone)
    }

    fn maximize_by(
        &self,
        stats: &SuffStats,
        update: &[bool],
        regularization: &Regularization,
        parameters: &mut Parameters,
        workers: &dyn Workers,
    ) -> Vec<Outcome> {
        let mut outcomes = vec![Outcome::Maximized; update.len()];
        for (family, place) in self.each() {
            let mut own = Self::parameters_of(parameters, place);
            let stats = Self::stats_of(family, stats, place);
            let of = |values: &[f64]| {
                let own = |&d: &u32| values.get(d as usize).copied();
                place.columns.iter().filter_map(own).collect()
            };
            let regularization = Regularization {
                resolution: of(&regularization.resolution),
                floors: of(&regularization.floors),
                prior: regularization.prior.clone(),
                ..*regularization
            };
            let found = family.maximize_by(&stats, update, &regularization, &mut own, workers);
            for (c, found) in found.into_iter().enumerate() {
                let all = &mut outcomes[c];
                if *all != Outcome::Degenerate && found != Outcome::Maximized {
                    *all = match found {
                        Outcome::Floored(Some(d)) => {
                            Outcome::Floored(Some(place.columns[d] as usize))
                        }
                        found => found,
                    };
                }
                parameters.components[c][place.parameters.clone()]
                    .copy_from_slice(&own.components[c]);
            }
        }
        outcomes
    }

    fn constraint(&self, parameter: &str) -> Constraint {
        let mut parts = parameter.splitn(3, '.').skip(1);
        let block = parts.next().and_then(|b| self.blocks.get(b.parse::<usize>().ok()?));
        match (block, parts.next()) {
            (Some(block), Some(name)) => block.family.constraint(name),
            _ => Constraint::Free,
        }
    }

    /// Asks each block: blocks are independent.
    fn ignoring_missing(&self) -> Option<Arc<dyn ExponentialFamily>> {
        let ignoring = |block: &ProductBlock| {
            // Blocks are summed as they are, and nothing fills a value.
            let family = block.family.ignoring_missing().filter(|it| !it.fills_missing())?;
            Some(ProductBlock { family, columns: block.columns.clone() })
        };
        let blocks: Option<Vec<_>> = self.blocks.iter().map(ignoring).collect();
        Some(Arc::new(Self::new(blocks?, self.dim).ok()?))
    }

    /// Splits the columns of all families that can be split.
    fn split(&self, theta: Theta<'_>, halves: [&mut Vec<f64>; 2]) -> bool {
        let [first, second] = halves;
        *first = theta.component.to_vec();
        *second = theta.component.to_vec();
        let mut any = false;
        for (family, place) in self.each() {
            let component = &theta.component[place.parameters.clone()];
            let (mut a, mut b) = (Vec::new(), Vec::new());
            if family.split(Theta { component, shared: &[] }, [&mut a, &mut b]) {
                first[place.parameters.clone()].copy_from_slice(&a);
                second[place.parameters.clone()].copy_from_slice(&b);
                any = true;
            }
        }
        any
    }

    fn scaling_flow(&self, parameters: &Parameters) -> Option<Parameters> {
        let mut flow = parameters.clone();
        for (family, place) in self.each() {
            let of = |theta: &Vec<f64>| theta[place.parameters.clone()].to_vec();
            let components = parameters.components.iter().map(of).collect();
            let part = family.scaling_flow(&Parameters { components, shared: Vec::new() })?;
            for (own, part) in flow.components.iter_mut().zip(&part.components) {
                own[place.parameters.clone()].copy_from_slice(part);
            }
        }
        Some(flow)
    }

    /// Draws NaN in columns that no block names.
    fn sampler<'a>(&'a self, theta: Theta<'a>) -> Sampler<'a> {
        let samplers: Vec<_> = self
            .each()
            .map(|(family, place)| {
                let component = &theta.component[place.parameters.clone()];
                (family.sampler(Theta { component, shared: &[] }), &place.columns)
            })
            .collect();
        Box::new(move |rng, point| {
            point.fill(f64::NAN);
            let mut own = Vec::new();
            for (sampler, columns) in &samplers {
                own.clear();
                own.resize(columns.len(), 0.0);
                sampler(rng, &mut own);
                for (&column, &value) in columns.iter().zip(&own) {
                    point[column as usize] = value;
                }
            }
        })
    }
}
