//! Mixtures of exponential families (Definition 5, Props. 4 and 5).
//!
//! `p(x) = Σ_c π_c h(x) exp(η_c · T(x) - A(η_c))`. Over a tile of B points the E-step is
//!
//! ```text
//! T = T(X)           B × L   statistics           kernels::statistics
//! Z = T H + b        B × C   b_c = ln π_c - A_c   faer's matmul
//! R = softmax(Z)     B × C                        kernels::softmax
//! S += T' R          L × C                        faer's matmul
//! ```
//!
//! and nothing of size N × C exists. Components whose packed logits would cancel (narrow, and far from the centre
//! of the data) take the centred kernel instead: see `cancellation_tolerance`.

use super::{Constants, EStep, EntropySum, GenerativeModel, entropy_of_weights};
use crate::block::Block;
use crate::error::{Error, Result};
use crate::family::{
    ExponentialFamily, Outcome, Parameters, Regularization, Statistic, Theta, Whitening,
};
use crate::kernels::accumulate::{Tile, weighted_sums};
use crate::kernels::blocking::Tiling;
use crate::kernels::dispatch::Simd;
use crate::kernels::{quadratic, softmax, statistics};
use crate::monitor::Event;
use crate::scalar::Scalar;
use crate::stats::{StatsShape, SuffStats};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use std::sync::Arc;

/// Components whose packed logits may be off by more than this, in nats, take the centred kernel.
///
/// The bound is `ε (|μ - centre| + 3 σ)² λ_max(Σ⁻¹)` with the working precision's `ε`. In `f64` 1e-10 keeps
/// trajectories within 1e-9 of exact ones; components beyond it lie 700 widths from the centre. In `f32` errors of
/// single points are of either sign and average out, so that 1e-6 √N per point keeps means over N points within 1e-6.
fn cancellation_tolerance<T: Scalar>(n_points: u64) -> f64 {
    if T::EPSILON < 1e-10 { 1e-10 } else { (1e-6 * (n_points as f64).sqrt()).min(1e-2) }
}

/// A component with less than this many points' worth of mass is dead: its statistics define nothing.
const DEAD_POINTS: f64 = 1e-2;

/// The variational family: which distributions over components the E-step chooses from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Posterior {
    /// All of them: `q_n` is the exact posterior.
    #[default]
    Exact,
    /// Those that put all mass on one component (classification EM; k-means is the limit).
    Hard,
}

impl Posterior {
    /// Name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Hard => "hard",
        }
    }
}

/// A mixture of C distributions of one exponential family.
#[derive(Clone, Debug)]
pub struct Mixture {
    family: Arc<dyn ExponentialFamily>,
    posterior: Posterior,
    weights: Vec<f64>,
    parameters: Parameters,
    frozen: Vec<bool>,
    fixed_weights: bool,
    /// Components out of use, of weight zero, until [`compact`](Self::compact) removes them.
    discarded: Vec<bool>,
    /// The point about which packed statistics are taken; empty where the family has no location.
    centre: Vec<f64>,
}

impl Mixture {
    /// A mixture with given parameters.
    ///
    /// # Errors
    /// If shapes differ, weights are no distribution (up to 1e-6, which rounding in a file may cost), or the family
    /// refuses the parameters of a component.
    pub fn new(
        family: Arc<dyn ExponentialFamily>,
        weights: Vec<f64>,
        parameters: Parameters,
    ) -> Result<Self> {
        let invalid = |message: String| Err(Error::Model(format!("{}: {message}", family.name())));
        let specs = family.parameters();
        let size =
            |shared| specs.iter().filter(|s| s.shared == shared).map(|s| s.len()).sum::<usize>();
        if weights.is_empty() {
            return invalid("a mixture needs at least one component".into());
        }
        if parameters.components.len() != weights.len() {
            return invalid(format!(
                "{} weights, {} components",
                weights.len(),
                parameters.components.len()
            ));
        }
        if let Some(c) = parameters.components.iter().position(|theta| theta.len() != size(false)) {
            let found = parameters.components[c].len();
            return invalid(format!(
                "component {c} has {found} parameters, expected {}",
                size(false)
            ));
        }
        if parameters.shared.len() != size(true) {
            let found = parameters.shared.len();
            return invalid(format!("{found} shared parameters, expected {}", size(true)));
        }
        if let Some(c) = weights.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
            return invalid(format!(
                "weight of component {c} is {}, expected a number ≥ 0",
                weights[c]
            ));
        }
        let total: f64 = weights.iter().sum();
        if (total - 1.0).abs() > 1e-6 {
            return invalid(format!("weights sum to {total}, expected 1"));
        }
        for c in 0..weights.len() {
            if let Err(message) = family.check(parameters.theta(c)) {
                return invalid(format!("component {c}: {message}"));
            }
        }
        let weights: Vec<f64> = weights.iter().map(|w| w / total).collect();
        let mut mixture = Self {
            frozen: vec![false; weights.len()],
            discarded: vec![false; weights.len()],
            family,
            posterior: Posterior::Exact,
            weights,
            parameters,
            fixed_weights: false,
            centre: Vec::new(),
        };
        mixture.recentre();
        Ok(mixture)
    }

    /// A mixture from named arrays of parameters, the inverse of [`parameter`](Self::parameter).
    ///
    /// # Errors
    /// As [`new`](Self::new); also if an array is missing or of the wrong length.
    pub fn from_arrays<'a>(
        family: Arc<dyn ExponentialFamily>,
        weights: Vec<f64>,
        array: impl Fn(&str) -> Option<&'a [f64]>,
    ) -> Result<Self> {
        let mut parameters =
            Parameters { components: vec![Vec::new(); weights.len()], shared: Vec::new() };
        for spec in family.parameters() {
            let rows = if spec.shared { 1 } else { weights.len() };
            let values = array(spec.name).unwrap_or_default();
            if values.len() != rows * spec.len() {
                return Err(Error::Model(format!(
                    "{}: {:?} holds {} number(s), expected {}",
                    family.name(),
                    spec.name,
                    values.len(),
                    rows * spec.len()
                )));
            }
            if spec.shared {
                parameters.shared.extend_from_slice(values);
            } else {
                for (theta, row) in
                    parameters.components.iter_mut().zip(values.chunks(spec.len().max(1)))
                {
                    theta.extend_from_slice(row);
                }
            }
        }
        Self::new(family, weights, parameters)
    }

    /// Takes packed statistics about the mean of the mixture, from the next E-step on.
    fn recentre(&mut self) {
        if self.family.is_location() {
            self.centre = vec![0.0; self.family.dim()];
            for c in 0..self.weights.len() {
                let location = self.family.location(self.parameters.theta(c));
                for (sum, value) in self.centre.iter_mut().zip(location) {
                    *sum += self.weights[c] * value;
                }
            }
        }
    }

    /// The same mixture with another variational family.
    pub fn with_posterior(mut self, posterior: Posterior) -> Self {
        self.posterior = posterior;
        self
    }

    /// The same mixture with some components' parameters held where they are.
    ///
    /// # Panics
    /// If `frozen` has not one flag a component.
    pub fn with_frozen(mut self, frozen: Vec<bool>) -> Self {
        assert_eq!(frozen.len(), self.weights.len(), "one flag a component");
        self.frozen = frozen;
        self
    }

    /// The same mixture with its weights held where they are, or free.
    pub fn with_fixed_weights(mut self, fixed: bool) -> Self {
        self.fixed_weights = fixed;
        self
    }

    /// The family of the components.
    pub fn family(&self) -> &dyn ExponentialFamily {
        &*self.family
    }

    /// The variational family.
    pub fn posterior(&self) -> Posterior {
        self.posterior
    }

    /// Number of components C.
    pub fn n_components(&self) -> usize {
        self.weights.len()
    }

    /// Mixing weights `π`; C values that sum to 1.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Standard parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Parameters of one component.
    pub fn theta(&self, component: usize) -> Theta<'_> {
        self.parameters.theta(component)
    }

    /// A named array of parameters, row-major: one row a component, or a single one where all share it.
    ///
    /// ```
    /// # use entropysum::{family::{registry, Parameters}, model::Mixture};
    /// let family = registry::build("gaussian-diag", 2)?;
    /// let components = vec![vec![0.0, 1.0, 0.5, 0.5], vec![4.0, 5.0, 1.0, 2.0]];
    /// let mixture = Mixture::new(family, vec![0.5, 0.5], Parameters { components, shared: vec![] })?;
    /// assert_eq!(mixture.parameter("means").unwrap(), [0.0, 1.0, 4.0, 5.0]);
    /// assert_eq!(mixture.parameter("rates"), None);
    /// # Ok::<(), entropysum::error::Error>(())
    /// ```
    pub fn parameter(&self, name: &str) -> Option<Vec<f64>> {
        let mut starts = [0, 0];
        for spec in self.family.parameters() {
            let start = &mut starts[usize::from(spec.shared)];
            let range = *start..*start + spec.len();
            *start = range.end;
            if spec.name == name {
                return Some(if spec.shared {
                    self.parameters.shared[range].to_vec()
                } else {
                    self.parameters
                        .components
                        .iter()
                        .flat_map(|theta| &theta[range.clone()])
                        .copied()
                        .collect()
                });
            }
        }
        None
    }

    /// Number of free parameters: C - 1 weights and the family's.
    pub fn n_parameters(&self) -> usize {
        self.n_components() - 1 + self.family.n_free_parameters(self.n_components())
    }

    /// Each component's part `π_c (H[p(x | c)] - ln π_c)` of prior and observable entropy, in nats.
    ///
    /// Their sum is `H[p(c)] + E H[p(x | c)]`: a diffuse or heavy component has a large part, a tight one a small one.
    pub fn entropy_contributions(&self) -> Vec<f64> {
        let entropies = self.family.pseudo_entropies(&self.parameters);
        let part = |(&w, h): (&f64, f64)| if w > 0.0 { w * (h - w.ln()) } else { 0.0 };
        self.weights.iter().zip(entropies).map(part).collect()
    }

    /// Removes discarded components.
    pub fn compact(&mut self) {
        let keep: Vec<bool> = self.discarded.iter().map(|&discarded| !discarded).collect();
        fn retain<V>(values: &mut Vec<V>, keep: &[bool]) {
            let mut flags = keep.iter();
            values.retain(|_| *flags.next().expect("one flag a component"));
        }
        retain(&mut self.parameters.components, &keep);
        retain(&mut self.frozen, &keep);
        retain(&mut self.weights, &keep);
        retain(&mut self.discarded, &keep);
    }

    fn shape(&self) -> StatsShape {
        StatsShape {
            components: self.n_components(),
            statistics: self.family.statistics().len(),
            shared: self.family.shared_statistics().len(),
            centre: self.centre.len(),
        }
    }

    fn discard(&mut self, component: usize, reason: String) -> Event {
        self.discarded[component] = true;
        self.weights[component] = 0.0;
        let total: f64 = self.weights.iter().sum();
        self.weights.iter_mut().for_each(|w| *w /= total);
        Event::Discarded { component, reason }
    }
}

impl GenerativeModel for Mixture {
    fn dim(&self) -> usize {
        self.family.dim()
    }

    fn m_step(&mut self, stats: &SuffStats, regularization: Regularization) -> Vec<Event> {
        let total: f64 = stats.mass().iter().sum();
        if !self.fixed_weights {
            for (weight, mass) in self.weights.iter_mut().zip(stats.mass()) {
                *weight = mass / total;
            }
        }
        let points = stats.n_points() / total;
        let update: Vec<bool> = (0..self.n_components())
            .map(|c| !self.frozen[c] && stats.mass()[c] * points >= DEAD_POINTS)
            .collect();
        let outcomes = self.family.maximize(stats, &update, regularization, &mut self.parameters);
        let floored: Vec<usize> =
            (0..outcomes.len()).filter(|&c| outcomes[c] == Outcome::Floored).collect();
        if floored.is_empty() { Vec::new() } else { vec![Event::Floored { components: floored }] }
    }

    /// The ladder for components that their statistics no longer define: split the component with the largest
    /// entropy contribution while splits are left, then discard.
    fn repair(&mut self, stats: &SuffStats, splits_left: &mut usize) -> Vec<Event> {
        let points = stats.n_points() / stats.mass().iter().sum::<f64>();
        let mut events = Vec::new();
        for c in 0..self.n_components() {
            let n = stats.mass()[c] * points;
            // A component of fixed weight cannot be discarded; it waits for points.
            if self.discarded[c] || self.frozen[c] || self.fixed_weights || n >= DEAD_POINTS {
                continue;
            }
            let contributions = self.entropy_contributions();
            let donor = (0..self.n_components())
                .filter(|&d| {
                    d != c
                        && !self.frozen[d]
                        && !self.discarded[d]
                        && stats.mass()[d] * points >= 2.0
                })
                .max_by(|&a, &b| contributions[a].total_cmp(&contributions[b]));
            if let (Some(donor), true) = (donor, *splits_left > 0) {
                let mut halves = [Vec::new(), Vec::new()];
                let [first, second] = &mut halves;
                if self.family.split(self.theta(donor), [first, second]) {
                    [self.parameters.components[donor], self.parameters.components[c]] = halves;
                    let weight = (self.weights[donor] + self.weights[c]) / 2.0;
                    self.weights[donor] = weight;
                    self.weights[c] = weight;
                    *splits_left -= 1;
                    events.push(Event::Split { component: c, donor });
                    continue;
                }
            }
            if self.active_components() > 1 {
                events.push(self.discard(c, format!("{n:.3} points' worth of mass")));
            }
        }
        events
    }

    fn entropy_sum(&self, stats: &SuffStats) -> EntropySum {
        let total = stats.total_weight();
        let entropies = self.family.pseudo_entropies(&self.parameters);
        let observable = stats.mass().iter().zip(entropies);
        EntropySum {
            posterior: stats.posterior_entropy() / total,
            prior: entropy_of_weights(&self.weights),
            observable: observable.map(|(m, h)| if *m > 0.0 { m * h } else { 0.0 }).sum::<f64>()
                / total,
            base_measure: stats.log_base_measure() / total,
        }
    }

    fn lower_bound(&self, stats: &SuffStats) -> f64 {
        let prior = stats.mass().iter().zip(&self.weights);
        let prior: f64 = prior.map(|(m, w)| if *m > 0.0 { m * w.ln() } else { 0.0 }).sum();
        let observable = self.family.log_likelihood(&self.parameters, stats);
        let sum = stats.posterior_entropy() + prior + observable + stats.log_base_measure();
        sum / stats.total_weight()
    }

    fn active_components(&self) -> usize {
        self.discarded.iter().filter(|&&discarded| !discarded).count()
    }
}

/// The parameters of a mixture as the kernels want them.
#[derive(Debug)]
pub struct Packed<T> {
    simd: Simd,
    tiling: Tiling,
    posterior: Posterior,
    shape: StatsShape,
    statistics: Vec<Statistic>,
    /// Shared statistics that the sweep must sum about `centre`.
    shared: Vec<Statistic>,
    shared_natural: Vec<f64>,
    shared_whitening: Option<Whitening<T>>,
    constants: Constants,
    centre: Vec<T>,
    /// Component of each column of the logits: packed ones first, then centred ones.
    order: Vec<usize>,
    n_packed: usize,
    /// L × `n_packed`, column-major.
    natural: Vec<T>,
    bias: Vec<T>,
    centred: Vec<Centred<T>>,
}

/// A component that takes the centred kernel.
#[derive(Debug)]
struct Centred<T> {
    centre: Vec<T>,
    /// Mean minus centre: what rounding the centre to `T` has lost.
    offset: Vec<T>,
    whitening: Whitening<T>,
    bias: T,
}

/// Scratch memory of one lane.
#[derive(Debug)]
pub struct Workspace<T> {
    points: Vec<T>,
    scratch: Vec<T>,
    statistics: Vec<T>,
    logits: Vec<T>,
    labels: Vec<u32>,
    mass: Vec<f64>,
    /// Sums of packed components since the last flush, L × `n_packed`, in working precision.
    sums: Vec<T>,
    pending: usize,
    /// Sample weights of a tile and room for its shared statistics; empty where they are known.
    weights: Vec<T>,
    shared_scratch: Vec<T>,
    values: Vec<f64>,
}

impl Mixture {
    fn pack_for<T: Scalar>(
        &self,
        simd: Simd,
        tolerance: f64,
        constants: Constants,
        scoring: bool,
    ) -> Packed<T> {
        let shape = self.shape();
        let (n_components, n_statistics) = (shape.components, shape.statistics);
        let round = |values: &[f64]| values.iter().map(|&v| T::from_f64(v)).collect::<Vec<T>>();
        let centre = round(&self.centre);
        let exact_centre: Vec<f64> = centre.iter().map(|v| v.to_f64()).collect();
        let mut natural = vec![0.0; n_components * n_statistics];
        let centres = exact_centre.repeat(n_components);
        let packings = self.family.natural(&self.parameters, &centres, &mut natural);

        let cancels = |c: usize| T::EPSILON * packings[c].cancellation > tolerance;
        let mut needs_centre: Vec<bool> =
            (0..n_components).map(|c| self.weights[c] > 0.0 && cancels(c)).collect();
        if shape.shared > 0 && needs_centre.contains(&true) {
            // Shared statistics are summed about one centre, or about each component's own: not mixed.
            needs_centre.fill(true);
        }
        let mut order: Vec<usize> = (0..n_components).filter(|&c| !needs_centre[c]).collect();
        let n_packed = order.len();
        order.extend((0..n_components).filter(|&c| needs_centre[c]));

        let mut packed_natural = Vec::with_capacity(n_packed * n_statistics);
        let mut bias = Vec::with_capacity(n_packed);
        for &c in &order[..n_packed] {
            packed_natural.extend(
                natural[c * n_statistics..][..n_statistics].iter().map(|&v| T::from_f64(v)),
            );
            bias.push(T::from_f64(self.weights[c].ln() - packings[c].log_partition));
        }
        let centred = order[n_packed..]
            .iter()
            .map(|&c| {
                let form =
                    self.family.centred(self.theta(c)).expect("only location families cancel");
                let centre = round(&form.mean);
                let offset = form
                    .mean
                    .iter()
                    .zip(&centre)
                    .map(|(m, c)| T::from_f64(m - c.to_f64()))
                    .collect();
                let bias = T::from_f64(self.weights[c].ln() + form.bias);
                Centred { centre, offset, whitening: form.whitening.rounded(), bias }
            })
            .collect();

        let tied = shape.shared > 0 && n_packed > 0;
        let mut shared_natural = vec![0.0; if tied { shape.shared } else { 0 }];
        if tied {
            self.family.shared_natural(&self.parameters.shared, &mut shared_natural);
        }
        let shared_form = if tied && scoring { self.family.centred(self.theta(0)) } else { None };
        Packed {
            simd,
            tiling: Tiling::new::<T>(
                self.family.dim(),
                n_statistics.max(shape.shared),
                n_components,
            ),
            posterior: self.posterior,
            shape,
            statistics: self.family.statistics(),
            shared: self.family.shared_statistics(),
            shared_natural,
            shared_whitening: shared_form.map(|form| form.whitening.rounded()),
            constants,
            centre,
            order,
            n_packed,
            natural: packed_natural,
            bias,
            centred,
        }
    }

    fn workspace_for<T: Scalar>(&self, packed: &Packed<T>) -> Workspace<T> {
        let Tiling { points, stride, panel } = packed.tiling;
        let dim = self.family.dim();
        let sums_shared = packed.constants == Constants::Sum && !packed.shared.is_empty();
        let columns = |n: usize| vec![T::ZERO; n * stride];
        Workspace {
            points: columns(dim),
            scratch: columns(if packed.centred.is_empty() && packed.shared_whitening.is_none() {
                0
            } else {
                dim
            }),
            statistics: vec![T::ZERO; panel * (stride + 1)],
            logits: columns(packed.shape.components),
            labels: vec![0; points],
            mass: vec![0.0; packed.shape.components],
            sums: vec![T::ZERO; packed.n_packed * packed.shape.statistics],
            pending: 0,
            weights: vec![T::ZERO; if sums_shared { points } else { 0 }],
            shared_scratch: vec![T::ZERO; if sums_shared { panel * (stride + 1) } else { 0 }],
            values: vec![0.0; points],
        }
    }
}

impl<T: Scalar> Packed<T> {
    /// Fills the logits of a tile; `workspace.points` then holds the tile about the common centre.
    fn logits(&self, points: MatRef<'_, T>, workspace: &mut Workspace<T>) {
        let (n, dim, stride) = (points.nrows(), points.ncols(), self.tiling.stride);
        let (packed, centred) = workspace.logits.split_at_mut(self.n_packed * stride);
        for (out, form) in centred.chunks_mut(stride).zip(&self.centred) {
            statistics::load(self.simd, points, &form.centre, &mut workspace.points, stride);
            quadratic::quadratic(
                self.simd,
                &mut workspace.points,
                n,
                stride,
                &form.offset,
                &form.whitening,
                form.bias,
                &mut workspace.scratch,
                out,
            );
        }
        statistics::load(self.simd, points, &self.centre, &mut workspace.points, stride);
        if self.n_packed == 0 {
            return;
        }
        for (column, &bias) in packed.chunks_mut(stride).zip(&self.bias) {
            column[..n].fill(bias);
        }
        let natural =
            MatRef::from_column_major_slice(&self.natural, self.statistics.len(), self.n_packed);
        let mut logits =
            MatMut::from_column_major_slice_with_stride_mut(packed, n, self.n_packed, stride);
        for (first, panel) in self.panels() {
            statistics::evaluate(
                self.simd,
                panel,
                &workspace.points,
                dim,
                n,
                stride,
                &mut workspace.statistics,
            );
            let t = MatRef::from_column_major_slice_with_stride(
                &workspace.statistics,
                n,
                panel.len(),
                stride,
            );
            let natural = natural.subrows(first, panel.len());
            matmul(logits.as_mut(), Accum::Add, t, natural, T::ONE, Par::Seq);
        }
    }

    fn panels(&self) -> impl Iterator<Item = (usize, &[Statistic])> {
        (0..).step_by(self.tiling.panel).zip(self.statistics.chunks(self.tiling.panel))
    }

    /// Adds `T' R` of a tile to the sums, `R` being what the logits have become.
    fn accumulate(
        &self,
        points: MatRef<'_, T>,
        stats: &mut SuffStats,
        workspace: &mut Workspace<T>,
    ) {
        let (n, dim, stride) = (points.nrows(), points.ncols(), self.tiling.stride);
        let one_panel = self.statistics.len() <= self.tiling.panel;
        let (packed, centred) = workspace.logits.split_at(self.n_packed * stride);
        if self.n_packed > 0 {
            let responsibilities =
                MatRef::from_column_major_slice_with_stride(packed, n, self.n_packed, stride);
            let mut sums = MatMut::from_column_major_slice_mut(
                &mut workspace.sums,
                self.statistics.len(),
                self.n_packed,
            );
            for (first, panel) in self.panels() {
                if !one_panel {
                    statistics::evaluate(
                        self.simd,
                        panel,
                        &workspace.points,
                        dim,
                        n,
                        stride,
                        &mut workspace.statistics,
                    );
                }
                let t = MatRef::from_column_major_slice_with_stride(
                    &workspace.statistics,
                    n,
                    panel.len(),
                    stride,
                );
                let sums = sums.as_mut().subrows_mut(first, panel.len());
                matmul(sums, Accum::Add, t.transpose(), responsibilities, T::ONE, Par::Seq);
            }
            workspace.pending += n;
        }
        for (k, form) in self.centred.iter().enumerate() {
            let component = self.order[self.n_packed + k];
            let responsibilities = &centred[k * stride..][..n];
            statistics::load(self.simd, points, &form.centre, &mut workspace.points, stride);
            let tile = Tile { values: &workspace.points, dim, n_points: n, stride };
            let scratch = &mut workspace.statistics;
            weighted_sums(
                self.simd,
                &self.statistics,
                tile,
                responsibilities,
                scratch,
                stats.sums_mut(component),
            );
            weighted_sums(
                self.simd,
                &self.shared,
                tile,
                responsibilities,
                scratch,
                stats.shared_mut(),
            );
        }
    }

    /// Adds the statistics of labelled points: the sums of hard posteriors.
    fn accumulate_labels(
        &self,
        block: Block<'_, T>,
        stats: &mut SuffStats,
        workspace: &mut Workspace<T>,
    ) {
        let (n, dim, stride) = (block.len(), block.dim(), self.tiling.stride);
        let one_panel = self.statistics.len() <= self.tiling.panel;
        let labels = &workspace.labels[..n];
        if self.n_packed > 0 {
            for (first, panel) in self.panels() {
                if !one_panel {
                    statistics::evaluate(
                        self.simd,
                        panel,
                        &workspace.points,
                        dim,
                        n,
                        stride,
                        &mut workspace.statistics,
                    );
                }
                for (l, column) in workspace.statistics.chunks(stride).take(panel.len()).enumerate()
                {
                    for (i, (&label, value)) in labels.iter().zip(column).enumerate() {
                        if (label as usize) < self.n_packed {
                            let weight = block.weights.map_or(1.0, |weights| weights[i]);
                            stats.sums_mut(self.order[label as usize])[first + l] +=
                                weight * value.to_f64();
                        }
                    }
                }
            }
        }
        for (k, form) in self.centred.iter().enumerate() {
            let label = (self.n_packed + k) as u32;
            if !labels.contains(&label) {
                continue;
            }
            for (i, weight) in workspace.logits[..n].iter_mut().enumerate() {
                let own = labels[i] == label;
                *weight = T::from_f64(if own { block.weights.map_or(1.0, |w| w[i]) } else { 0.0 });
            }
            statistics::load(self.simd, block.points, &form.centre, &mut workspace.points, stride);
            let tile = Tile { values: &workspace.points, dim, n_points: n, stride };
            let (weights, scratch) = (&workspace.logits[..n], &mut workspace.statistics);
            let component = self.order[self.n_packed + k];
            weighted_sums(
                self.simd,
                &self.statistics,
                tile,
                weights,
                scratch,
                stats.sums_mut(component),
            );
            weighted_sums(self.simd, &self.shared, tile, weights, scratch, stats.shared_mut());
        }
    }
}

impl<T: Scalar> EStep<T> for Mixture {
    type Packed = Packed<T>;
    type Workspace = Workspace<T>;

    fn pack(&self, simd: Simd, n_points: u64, constants: Constants) -> Packed<T> {
        self.pack_for(simd, cancellation_tolerance::<T>(n_points), constants, false)
    }

    fn workspace(&self, packed: &Packed<T>, old: Option<Workspace<T>>) -> Workspace<T> {
        match old {
            Some(old)
                if old.sums.len() == packed.n_packed * packed.shape.statistics
                    && (packed.centred.is_empty() || !old.scratch.is_empty())
                    && (packed.constants == Constants::Known
                        || packed.shared.is_empty()
                        || !old.weights.is_empty()) =>
            {
                old
            }
            _ => self.workspace_for(packed),
        }
    }

    fn new_stats(&self, packed: &Packed<T>) -> SuffStats {
        let mut centres: Vec<f64> = packed.centre.iter().map(|v| v.to_f64()).collect::<Vec<_>>();
        centres = centres.repeat(packed.shape.components);
        for (form, &c) in packed.centred.iter().zip(&packed.order[packed.n_packed..]) {
            for (to, from) in centres[c * form.centre.len()..].iter_mut().zip(&form.centre) {
                *to = from.to_f64();
            }
        }
        SuffStats::zeros(packed.shape, centres)
    }

    fn e_step(
        &self,
        packed: &Packed<T>,
        block: Block<'_, T>,
        stats: &mut SuffStats,
        workspace: &mut Workspace<T>,
    ) {
        let stride = packed.tiling.stride;
        for start in (0..block.len()).step_by(packed.tiling.points) {
            let tile = block.slice(start, packed.tiling.points.min(block.len() - start));
            let n = tile.len();
            packed.logits(tile.points, workspace);
            workspace.mass.fill(0.0);
            let totals = match packed.posterior {
                Posterior::Exact => softmax::softmax(
                    packed.simd,
                    &mut workspace.logits,
                    stride,
                    n,
                    tile.weights,
                    &mut workspace.mass,
                ),
                Posterior::Hard => softmax::argmax(
                    packed.simd,
                    &workspace.logits,
                    stride,
                    tile.weights,
                    &mut workspace.labels[..n],
                    &mut workspace.mass,
                ),
            };
            *stats.total_weight_mut() +=
                tile.weights.map_or(n as f64, |weights| weights.iter().sum());
            *stats.n_points_mut() += n as f64;
            *stats.log_evidence_mut() += totals.log_evidence;
            *stats.posterior_entropy_mut() += totals.posterior_entropy;
            for (&c, mass) in packed.order.iter().zip(&workspace.mass) {
                stats.mass_mut()[c] += mass;
            }
            if packed.constants == Constants::Sum
                && packed.centred.is_empty()
                && !packed.shared.is_empty()
            {
                let weights = &mut workspace.weights[..n];
                match tile.weights {
                    Some(from) => {
                        weights.iter_mut().zip(from).for_each(|(to, &w)| *to = T::from_f64(w))
                    }
                    None => weights.fill(T::ONE),
                }
                let view = Tile { values: &workspace.points, dim: tile.dim(), n_points: n, stride };
                weighted_sums(
                    packed.simd,
                    &packed.shared,
                    view,
                    weights,
                    &mut workspace.shared_scratch,
                    stats.shared_mut(),
                );
            }
            match packed.posterior {
                Posterior::Exact => packed.accumulate(tile.points, stats, workspace),
                Posterior::Hard => packed.accumulate_labels(tile, stats, workspace),
            }
            // f32 sums run over a thousand points at most before they are added up in f64.
            if size_of::<T>() == 4 && workspace.pending >= 1024 {
                EStep::<T>::flush(self, packed, stats, workspace);
            }
        }
    }

    fn flush(&self, packed: &Packed<T>, stats: &mut SuffStats, workspace: &mut Workspace<T>) {
        if workspace.pending == 0 {
            return;
        }
        workspace.pending = 0;
        for (&c, sums) in packed.order[..packed.n_packed]
            .iter()
            .zip(workspace.sums.chunks_mut(packed.shape.statistics))
        {
            for (total, sum) in stats.sums_mut(c).iter_mut().zip(sums) {
                *total += sum.to_f64();
                *sum = T::ZERO;
            }
        }
    }

    fn complete(&self, packed: &Packed<T>, stats: &mut SuffStats, known: Option<&SuffStats>) {
        if let (Constants::Known, Some(known)) = (packed.constants, known) {
            *stats.log_base_measure_mut() = known.log_base_measure();
            if packed.centred.is_empty() {
                stats.shared_mut().copy_from_slice(known.shared());
            }
        }
        let shared: f64 =
            packed.shared_natural.iter().zip(stats.shared()).map(|(a, b)| a * b).sum();
        *stats.log_evidence_mut() += shared + stats.log_base_measure();
    }

    fn constants_are_reusable(&self, packed: &Packed<T>) -> bool {
        packed.shared.is_empty() || packed.centred.is_empty()
    }
}

/// What a scored tile of points yields.
#[derive(Debug)]
pub struct ScoredTile<'a, T> {
    /// Index of the first point in the source.
    pub first: u64,
    /// Sample weights.
    pub weights: Option<&'a [f64]>,
    /// Log-density of each point, in nats.
    pub log_density: &'a [f64],
    /// Posterior probability of each component, one column a component, `stride` apart; in the order of the model.
    pub responsibilities: &'a [T],
    /// Distance between columns of the responsibilities.
    pub stride: usize,
    /// Sum of the posterior entropies of the tile, weighted where asked for.
    pub posterior_entropy: f64,
}

impl Mixture {
    /// Packs the parameters for [`score`](Self::score).
    ///
    /// Single points are scored to 1e-4 nats in `f32`, as far as its packed logits are concerned.
    pub(crate) fn pack_for_scoring<T: Scalar>(&self, simd: Simd) -> Packed<T> {
        self.pack_for(simd, cancellation_tolerance::<T>(10_000), Constants::Known, true)
    }

    /// Scratch memory for [`score`](Self::score).
    pub(crate) fn scoring_workspace<T: Scalar>(&self, packed: &Packed<T>) -> Workspace<T> {
        self.workspace_for(packed)
    }

    /// Log-densities and exact posteriors of a block, handed to `visit` tile by tile; responsibilities and
    /// entropies times the weights of their points where `weighted`.
    pub(crate) fn score<T: Scalar>(
        &self,
        packed: &Packed<T>,
        block: Block<'_, T>,
        weighted: bool,
        workspace: &mut Workspace<T>,
        mut visit: impl FnMut(ScoredTile<'_, T>),
    ) {
        let stride = packed.tiling.stride;
        let mut reordered = if packed.centred.is_empty() {
            Vec::new()
        } else {
            vec![T::ZERO; workspace.logits.len()]
        };
        for start in (0..block.len()).step_by(packed.tiling.points) {
            let tile = block.slice(start, packed.tiling.points.min(block.len() - start));
            let n = tile.len();
            packed.logits(tile.points, workspace);
            let log_density = &mut workspace.values[..n];
            softmax::log_sum_exp(
                packed.simd,
                &workspace.logits,
                stride,
                packed.shape.components,
                log_density,
            );
            if let Some(whitening) = &packed.shared_whitening {
                let zeros = vec![T::ZERO; tile.dim()];
                let out = &mut workspace.statistics[..n];
                quadratic::quadratic(
                    packed.simd,
                    &mut workspace.points,
                    n,
                    stride,
                    &zeros,
                    whitening,
                    T::ZERO,
                    &mut workspace.scratch,
                    out,
                );
                for (density, shared) in log_density.iter_mut().zip(out) {
                    *density += shared.to_f64();
                }
            }
            workspace.mass.fill(0.0);
            let weights = if weighted { tile.weights } else { None };
            let totals = softmax::softmax(
                packed.simd,
                &mut workspace.logits,
                stride,
                n,
                weights,
                &mut workspace.mass,
            );
            let mut responsibilities = &workspace.logits[..];
            if !packed.centred.is_empty() {
                for (column, &c) in workspace.logits.chunks(stride).zip(&packed.order) {
                    reordered[c * stride..][..stride].copy_from_slice(column);
                }
                responsibilities = &reordered;
            }
            visit(ScoredTile {
                first: tile.first,
                weights: tile.weights,
                log_density: &workspace.values[..n],
                responsibilities,
                stride,
                posterior_entropy: totals.posterior_entropy,
            });
        }
    }
}
