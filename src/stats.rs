//! Sufficient statistics of a model: one flat buffer that merges, scales and blends without model code.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Sizes of a model's statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsShape {
    /// Number of components (or enumerated latent states) C.
    pub components: usize,
    /// Statistics L of each component.
    pub statistics: usize,
    /// Statistics that all components share, weighted by the points alone.
    pub shared: usize,
    /// Dimension D where statistics are taken about a centre of each component, else 0.
    pub centre: usize,
}

/// What a sweep sums that does not depend on the parameters: worth keeping for the next one over the same points.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataConstants {
    /// Weighted sum of the log base measure.
    pub log_base_measure: f64,
    /// The shared statistics.
    pub shared: Vec<f64>,
    /// The point about which these are.
    pub centre: Vec<f64>,
}

/// Sums over weighted points that hold all a model needs of the data.
///
/// | field | size | sum over points `n` of |
/// |---|---|---|
/// | `total_weight` | 1 | `w_n` |
/// | `n_points` | 1 | 1, where `w_n > 0` |
/// | `posterior_entropy` | 1 | `w_n H[q_n]` |
/// | `log_evidence` | 1 | `w_n ln Σ_{c ∈ K_n} p(x_n, c)`, `K_n` the states `q_n` may occupy |
/// | `log_base_measure` | 1 | `w_n ln h(x_n)` |
/// | `mass` | C | `w_n q_n(c)` |
/// | `sums` | C × L | `w_n q_n(c) T(x_n - centre_c)` |
/// | `shared` | L₀ | `w_n T₀(x_n - centre)` |
///
/// The sums are plain `f64` in one slice: adding two of them, smoothing by a step size, writing a checkpoint or
/// summing over machines needs no code of any model. [`centres`](Self::centres) says about which point the
/// statistics of a component are taken; only statistics with the same centres may be added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct SuffStats {
    shape: StatsShape,
    values: Vec<f64>,
    centres: Vec<f64>,
}

/// The same in a file, where sizes may be damaged.
#[derive(Deserialize)]
struct Parts {
    shape: StatsShape,
    values: Vec<f64>,
    centres: Vec<f64>,
}

impl TryFrom<Parts> for SuffStats {
    type Error = &'static str;

    fn try_from(parts: Parts) -> Result<Self, Self::Error> {
        let Parts { shape, values, centres } = parts;
        let sums = shape.statistics.checked_add(1).and_then(|it| it.checked_mul(shape.components));
        let len = sums.and_then(|it| it.checked_add(HEADER)?.checked_add(shape.shared));
        let fits = len == Some(values.len())
            && shape.components.checked_mul(shape.centre) == Some(centres.len());
        let mut numbers = values.iter().chain(&centres);
        match fits && numbers.all(|number| number.is_finite()) {
            true => Ok(Self { shape, values, centres }),
            false => Err("sizes do not agree, or a sum is no finite number"),
        }
    }
}

const HEADER: usize = 5;

macro_rules! header {
    ($($index:literal $name:ident $name_mut:ident $doc:literal),*) => {$(
        #[doc = $doc]
        pub fn $name(&self) -> f64 {
            self.values[$index]
        }
        #[doc = concat!($doc, " Mutable.")]
        pub fn $name_mut(&mut self) -> &mut f64 {
            &mut self.values[$index]
        }
    )*};
}

impl SuffStats {
    /// Statistics of no points.
    pub fn zeros(shape: StatsShape, centres: Vec<f64>) -> Self {
        assert_eq!(centres.len(), shape.components * shape.centre, "one centre a component");
        let len = HEADER + shape.components * (1 + shape.statistics) + shape.shared;
        Self { shape, values: vec![0.0; len], centres }
    }

    header! {
        0 total_weight total_weight_mut "Total weight of the points.",
        1 n_points n_points_mut "Number of points of positive weight.",
        2 posterior_entropy posterior_entropy_mut "Weighted sum of the posterior entropies, in nats.",
        3 log_evidence log_evidence_mut "Weighted sum of the log-evidence, in nats.",
        4 log_base_measure log_base_measure_mut "Weighted sum of the log base measure, in nats."
    }

    /// Sizes.
    pub fn shape(&self) -> StatsShape {
        self.shape
    }

    /// Responsibility mass of each component; C values.
    pub fn mass(&self) -> &[f64] {
        &self.values[HEADER..HEADER + self.shape.components]
    }

    /// Mutable [`mass`](Self::mass).
    pub fn mass_mut(&mut self) -> &mut [f64] {
        &mut self.values[HEADER..HEADER + self.shape.components]
    }

    fn sums_start(&self) -> usize {
        HEADER + self.shape.components
    }

    fn shared_start(&self) -> usize {
        self.sums_start() + self.shape.components * self.shape.statistics
    }

    /// Summed statistics of one component; L values.
    pub fn sums(&self, component: usize) -> &[f64] {
        &self.values[self.sums_start() + component * self.shape.statistics..]
            [..self.shape.statistics]
    }

    /// Mutable [`sums`](Self::sums).
    pub fn sums_mut(&mut self, component: usize) -> &mut [f64] {
        let start = self.sums_start() + component * self.shape.statistics;
        &mut self.values[start..][..self.shape.statistics]
    }

    /// Mutable [`sums`](Self::sums) of all components, C × L.
    pub(crate) fn all_sums_mut(&mut self) -> &mut [f64] {
        let (start, end) = (self.sums_start(), self.shared_start());
        &mut self.values[start..end]
    }

    /// Mutable [`sums`](Self::sums) of a component and [`shared`](Self::shared).
    pub(crate) fn sums_and_shared_mut(&mut self, component: usize) -> [&mut [f64]; 2] {
        let start = self.sums_start() + component * self.shape.statistics;
        let shared = self.shared_start();
        let (sums, shared) = self.values.split_at_mut(shared);
        [&mut sums[start..][..self.shape.statistics], shared]
    }

    /// Mutable [`mass`](Self::mass) and [`sums`](Self::sums), cut into pieces of so many components each.
    pub(crate) fn pieces_mut(
        &mut self,
        components: usize,
    ) -> impl Iterator<Item = (&mut [f64], &mut [f64])> {
        let (sums, statistics) = (self.sums_start(), self.shape.statistics.max(1));
        let (head, tail) = self.values.split_at_mut(sums);
        let mass = head[HEADER..].chunks_mut(components);
        mass.zip(tail.chunks_mut(components * statistics))
    }

    /// Summed shared statistics; L₀ values.
    pub fn shared(&self) -> &[f64] {
        &self.values[self.shared_start()..]
    }

    /// Mutable [`shared`](Self::shared).
    pub fn shared_mut(&mut self) -> &mut [f64] {
        let start = self.shared_start();
        &mut self.values[start..]
    }

    /// The point about which a component's statistics are taken; D values, or none.
    pub fn centre(&self, component: usize) -> &[f64] {
        &self.centres[component * self.shape.centre..][..self.shape.centre]
    }

    /// All centres, C × D.
    pub fn centres(&self) -> &[f64] {
        &self.centres
    }

    /// The flat buffer: header, mass, sums, shared, in this order.
    pub fn as_slice(&self) -> &[f64] {
        &self.values
    }

    /// Mutable [`as_slice`](Self::as_slice).
    pub(crate) fn as_mut_slice(&mut self) -> &mut [f64] {
        &mut self.values
    }

    /// Returns the statistics of some components, with those that all share if `with_shared`, else zeros in their place. The header is
    /// of no points.
    pub(crate) fn part(&self, components: Range<usize>, with_shared: bool) -> Self {
        let shape = StatsShape { components: components.len(), ..self.shape };
        let of = |width: usize| components.start * width..components.end * width;
        let mut part = Self::zeros(shape, self.centres[of(shape.centre)].to_vec());
        part.mass_mut().copy_from_slice(&self.mass()[components.clone()]);
        let (from, to) = (self.sums_start(), part.sums_start());
        let sums = of(shape.statistics);
        part.values[to..][..sums.len()].copy_from_slice(&self.values[from..][sums]);
        if with_shared {
            part.shared_mut().copy_from_slice(self.shared());
        }
        part
    }

    /// Adds the statistics of other points.
    ///
    /// # Panics
    /// If shapes or centres differ.
    pub fn add(&mut self, other: &Self) {
        assert!(
            self.shape == other.shape && self.centres == other.centres,
            "statistics of unlike models"
        );
        for (sum, value) in self.values.iter_mut().zip(&other.values) {
            *sum += value;
        }
    }

    /// `self ← (1 - step) self + step other`, the update of stepwise EM.
    ///
    /// # Panics
    /// If shapes or centres differ.
    pub(crate) fn blend(&mut self, step: f64, other: &Self) {
        assert!(
            self.shape == other.shape && self.centres == other.centres,
            "statistics of unlike models"
        );
        for (sum, value) in self.values.iter_mut().zip(&other.values) {
            *sum += step * (value - *sum);
        }
    }

    /// Multiplies every sum by `factor`, as if all weights were multiplied by it; the number of points too.
    pub(crate) fn scale(&mut self, factor: f64) {
        self.values.iter_mut().for_each(|value| *value *= factor);
    }

    /// Adds `factor` times other statistics; -1 takes away the statistics of points that were added.
    ///
    /// # Panics
    /// If shapes or centres differ.
    pub(crate) fn add_scaled(&mut self, factor: f64, other: &Self) {
        assert!(
            self.shape == other.shape && self.centres == other.centres,
            "statistics of unlike models"
        );
        for (sum, value) in self.values.iter_mut().zip(&other.values) {
            *sum += factor * value;
        }
    }

    /// Says that the sums are about other centres; whoever calls this has translated them.
    pub(crate) fn set_centres(&mut self, centres: &[f64]) {
        self.centres.copy_from_slice(centres);
    }

    /// Becomes a copy of `empty`, in the memory that is there if it is of the same shape.
    pub(crate) fn restart_as(&mut self, empty: &Self) {
        if self.shape == empty.shape {
            self.values.copy_from_slice(&empty.values);
            self.centres.copy_from_slice(&empty.centres);
        } else {
            self.clone_from(empty);
        }
    }

    /// Sets all sums to zero; shape and centres stay.
    pub fn clear(&mut self) {
        self.values.fill(0.0);
    }

    /// Whether every sum is a finite number.
    pub fn is_finite(&self) -> bool {
        self.values.iter().all(|value| value.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(seed: f64) -> SuffStats {
        let shape = StatsShape { components: 2, statistics: 3, shared: 1, centre: 1 };
        let mut stats = SuffStats::zeros(shape, vec![0.5, -0.5]);
        for (k, value) in stats.values.iter_mut().enumerate() {
            *value = seed * (k as f64 + 1.0);
        }
        stats
    }

    #[test]
    fn fields_partition_the_buffer_in_order() {
        let stats = example(1.0);
        let mut all = vec![
            stats.total_weight(),
            stats.n_points(),
            stats.posterior_entropy(),
            stats.log_evidence(),
            stats.log_base_measure(),
        ];
        all.extend_from_slice(stats.mass());
        all.extend_from_slice(stats.sums(0));
        all.extend_from_slice(stats.sums(1));
        all.extend_from_slice(stats.shared());
        assert_eq!(all, stats.as_slice());
        assert_eq!((stats.centre(0), stats.centre(1)), (&[0.5][..], &[-0.5][..]));
    }

    #[test]
    fn adding_and_blending_are_elementwise() {
        let mut sum = example(1.0);
        sum.add(&example(2.0));
        assert_eq!(sum, example(3.0));
        let mut blended = example(4.0);
        blended.blend(0.25, &example(8.0));
        assert_eq!(blended, example(5.0));
    }

    #[test]
    #[should_panic(expected = "unlike")]
    fn statistics_about_other_centres_do_not_add() {
        let shape = example(1.0).shape();
        example(1.0).add(&SuffStats::zeros(shape, vec![0.0, 0.0]));
    }
}
