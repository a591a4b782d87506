//! Truncated posteriors of mixtures: each point has a set of few components, and its posterior is zero elsewhere.
//!
//! Points that share a list of candidates are a *group*. Their logits under all candidates are one product; the S largest logits of a
//! point become its set. Old members of the sets are always candidates, so no set gets worse: the log-evidence
//! `F_n = ln Σ_{c ∈ K_n} p(x_n, c)` of a point never falls in an E-step.
//!
//! Statistics of a group are taken about the mean of its leading component. Components that matter to the group lie near by, so their
//! logits do not cancel, in `f32` either.

mod factors;
mod sums;

pub use factors::Factors;
pub use sums::{PointPosteriors, SetSums, Wanted};

use super::{GenerativeModel, TruncatedSearch};
use crate::aligned::Aligned;
use crate::block::Block;
use crate::error::Result;
use crate::family::BaseMeasure;
use crate::kernels::candidates::{self, ABSENT, padded_width};
use crate::kernels::dispatch::Simd;
use crate::kernels::prefetch::fetch_values;
use crate::kernels::rows::{ParameterTable, RowStatistics};
use crate::scalar::Scalar;
use crate::stats::{StatsShape, SuffStats};
use crate::work::Workers;
use factors::FactorWorkspace;

/// Points whose logits are computed together. A multiple of six, the rows of a block of registers.
const TILE: usize = 48;

/// Points after which sums in working precision go to those in `f64`.
const POINTS_PER_FLUSH: usize = 4 * TILE;

/// Points that are asked for before they are read.
const AHEAD: usize = 8;

/// Columns of a panel that are kept for old members that a list does not hold.
const SPARE: usize = 16;

/// A mixture whose components can be found by a search: what truncated posteriors need to know of a model.
pub trait SearchableMixture: GenerativeModel {
    /// Returns the mixing weights `π`; C values.
    fn weights(&self) -> &[f64];

    /// Returns the sizes of sets and lists, if the mixture was learned with truncated posteriors.
    fn search(&self) -> Option<TruncatedSearch>;

    /// Refuses a search among so many neighbours that would not find what a point needs.
    ///
    /// # Errors
    /// Says what to take instead.
    fn check_search(&self, _neighbours: usize) -> Result<()> {
        Ok(())
    }

    /// Returns the base measure that all components share.
    fn log_base_measure(&self) -> BaseMeasure {
        BaseMeasure::default()
    }

    /// Puts the parameters of all components into a table.
    fn component_table<T: Scalar>(&self, simd: Simd, workers: &dyn Workers) -> ComponentTable<T>;

    /// Returns each component as a point: what [`ComponentTable::expected_logits`] needs of it, in rows of
    /// [`ComponentTable::mean_len`].
    fn mean_statistics<T: Scalar>(
        &self,
        table: &ComponentTable<T>,
        workers: &dyn Workers,
    ) -> Vec<T>;

    /// Turns the sums of visits into the statistics that the M-step takes.
    fn complete(&self, _stats: &mut SuffStats, _workers: &dyn Workers) {}
}

/// Parameters of all components, each about its own centre, in rows.
#[derive(Debug)]
pub struct ComponentTable<T> {
    pub(super) simd: Simd,
    pub(super) dim: usize,
    pub(super) rows: RowStatistics,
    /// Own statistics of a component in a row; those that all components share follow.
    pub(super) n_own: usize,
    pub(super) natural: Vec<T>,
    /// `ln π_c - A_c`.
    pub(super) bias: Vec<f64>,
    /// Centres, C × D; empty if statistics have none.
    pub(super) centres: Vec<T>,
    /// What logits have besides a row.
    pub(super) factors: Factors<T>,
    /// Members of a set that lie so far below the best are dropped, in nats: they are lost in rounding.
    pub(super) cut: f64,
}

/// Scratch memory for the points of a group.
#[derive(Debug)]
pub struct GroupWorkspace<T> {
    /// The leading component, about whose centre statistics are taken.
    leader: u32,
    candidates: Vec<u32>,
    /// Candidates whose halves, if they were split, are candidates too.
    followed: usize,
    /// Where a component stands among the candidates, if it does.
    places: Vec<u32>,
    panel: Aligned<T>,
    bias: Aligned<T>,
    points: Vec<T>,
    statistics: Vec<T>,
    logits: Aligned<T>,
    chosen: Vec<u32>,
    values: Vec<T>,
    scratch: Vec<T>,
    log_evidence: Vec<f64>,
    entropy: Vec<f64>,
    /// Sums of the candidates since the last flush.
    sums: Vec<T>,
    factors: FactorWorkspace<T>,
    mass: Vec<f64>,
    touched: Vec<u32>,
    shift: Vec<f64>,
    pending: usize,
    /// Logits that were computed.
    evaluations: u64,
}

/// The points that a visit sees, and their sets.
#[derive(Debug)]
pub struct Visit<'a, 'b, T> {
    pub block: Block<'a, T>,
    /// Rows of the block.
    pub rows: &'b [u32],
    /// Sets of these rows: component + 1, the most probable first, or 0.
    pub sets: &'b mut [u32],
    /// Size S of a set.
    pub states: usize,
}

impl<T: Scalar> ComponentTable<T> {
    /// Returns how far below the best a member of a set may lie.
    pub(super) fn cut() -> f64 {
        -1.25 * T::EPSILON.ln()
    }

    /// Returns the number of components C.
    pub fn n_components(&self) -> usize {
        self.bias.len()
    }

    /// Returns the number of statistics of a component, with those that all components share.
    pub fn n_statistics(&self) -> usize {
        self.rows.len() + self.factors.n_sums(self.dim)
    }

    /// Returns how many numbers describe a component as a point.
    pub fn mean_len(&self) -> usize {
        self.rows.len() + self.factors.mean_len(self.dim)
    }

    /// Returns the centre of a component; empty if statistics have none.
    pub(super) fn centre(&self, component: u32) -> &[T] {
        match self.centres.is_empty() {
            true => &[],
            false => &self.centres[component as usize * self.dim..][..self.dim],
        }
    }

    /// Returns empty statistics of a mixture, each component about its own centre.
    pub fn new_stats(&self) -> SuffStats {
        let shape = StatsShape {
            components: self.n_components(),
            statistics: self.n_own(),
            shared: self.n_statistics() - self.n_own(),
            centre: if self.centres.is_empty() { 0 } else { self.dim },
        };
        SuffStats::zeros(shape, self.centres.iter().map(|v| v.to_f64()).collect())
    }

    /// Returns the number of own statistics of a component, the first of all.
    pub fn n_own(&self) -> usize {
        self.n_own + self.factors.n_sums(self.dim)
    }

    pub fn workspace(&self) -> GroupWorkspace<T> {
        let len = self.rows.len();
        GroupWorkspace {
            leader: 0,
            candidates: Vec::new(),
            followed: 0,
            places: vec![0; self.n_components()],
            panel: Aligned::default(),
            bias: Aligned::default(),
            points: vec![T::ZERO; TILE * self.dim],
            statistics: vec![T::ZERO; TILE * len],
            logits: Aligned::default(),
            chosen: Vec::new(),
            values: Vec::new(),
            scratch: Vec::new(),
            log_evidence: vec![0.0; TILE],
            entropy: vec![0.0; TILE],
            sums: Vec::new(),
            factors: FactorWorkspace::default(),
            mass: Vec::new(),
            touched: Vec::new(),
            shift: Vec::new(),
            pending: 0,
            evaluations: 0,
        }
    }

    pub fn new_sums(&self) -> SetSums {
        SetSums::of(self.n_components())
    }

    /// Begins a group with the components of a list as candidates.
    pub fn begin_group(
        &self,
        leader: u32,
        list: impl IntoIterator<Item = u32>,
        workspace: &mut GroupWorkspace<T>,
    ) {
        (workspace.leader, workspace.followed) = (leader, 0);
        workspace.candidates.clear();
        list.into_iter().for_each(|component| workspace.add(component));
        self.pack(0, workspace);
    }

    /// Puts the candidates from `begin` on into the panel.
    fn pack(&self, begin: usize, workspace: &mut GroupWorkspace<T>) {
        let n = workspace.candidates.len();
        let (width, len) = (workspace.bias.len(), self.rows.len());
        let mut begin = begin;
        if n > width || begin == 0 {
            let width = padded_width::<T>(n + if begin == 0 { 0 } else { SPARE });
            workspace.bias.resize(width);
            workspace.panel.resize(width * len);
            workspace.logits.resize(width * TILE);
            begin = 0;
        }
        let columns = [&mut workspace.panel[..], &mut workspace.bias];
        let centre = self.centre(workspace.leader);
        self.rows.pack(self.simd, self.parameters(), &workspace.candidates, centre, columns, begin);
        self.pack_factors(begin, workspace);
    }

    fn parameters(&self) -> ParameterTable<'_, T> {
        ParameterTable { natural: &self.natural, bias: &self.bias, centres: &self.centres }
    }

    /// Visits points of the group: improves their sets, and yields what is wanted besides.
    ///
    /// `also` names components that are candidates wherever another is: halves of a component that was split.
    pub fn visit(
        &self,
        visit: Visit<'_, '_, T>,
        also: &dyn Fn(u32) -> Option<u32>,
        workspace: &mut GroupWorkspace<T>,
        mut wanted: Wanted<'_, T>,
    ) {
        let Visit { block, rows, sets, states } = visit;
        workspace.scratch.resize(TILE * states, T::ZERO);
        let mut later = rows;
        for (rows, sets) in rows.chunks(TILE).zip(sets.chunks_mut(TILE * states)) {
            let packed = workspace.candidates.len();
            let old = sets.iter().filter(|&&member| member > 0).map(|member| member - 1);
            old.for_each(|member| workspace.add(member));
            while let Some(&candidate) = workspace.candidates.get(workspace.followed) {
                workspace.followed += 1;
                if let Some(half) = also(candidate) {
                    workspace.add(half);
                }
            }
            if workspace.candidates.len() > packed {
                self.pack(packed, workspace);
            }
            self.load(block, rows, workspace);
            if let Some(points) = block.points.try_as_row_major() {
                // The first points of the next tile come while this one is worked on.
                let next = later.get(rows.len()..).unwrap_or_default();
                next.iter()
                    .take(AHEAD)
                    .for_each(|&row| fetch_values(points.row(row as usize).as_slice()));
                later = next;
            }
            self.logits(rows.len(), workspace);
            self.choose(sets, states, self.cut, workspace);
            if matches!(wanted, Wanted::Sets) {
                continue;
            }
            let (n, len) = (rows.len(), self.rows.len());
            let (chosen, values) =
                (&workspace.chosen[..n * states], &mut workspace.values[..n * states]);
            let weight = |i: usize| block.weights.map_or(1.0, |weights| weights[rows[i] as usize]);
            candidates::posteriors(
                self.simd,
                states,
                values,
                &mut workspace.scratch[..n * states],
                &mut workspace.log_evidence[..n],
                &mut workspace.entropy[..n],
            );
            let sums = match &mut wanted {
                Wanted::Sums(sums) => sums,
                Wanted::Posteriors(all) => {
                    all.log_evidence.extend_from_slice(&workspace.log_evidence[..n]);
                    all.entropy.extend_from_slice(&workspace.entropy[..n]);
                    all.probabilities.extend_from_slice(values);
                    continue;
                }
                Wanted::Sets => continue,
            };
            workspace.sums.resize(workspace.candidates.len() * len, T::ZERO);
            workspace.mass.resize(workspace.candidates.len(), 0.0);
            for i in 0..n {
                let w = weight(i);
                sums.total_weight += w;
                sums.n_points += if w > 0.0 { 1.0 } else { 0.0 };
                sums.log_evidence += w * workspace.log_evidence[i];
                if workspace.log_evidence[i].is_nan() {
                    // Also where the weight is zero.
                    sums.log_evidence = f64::NAN;
                }
                sums.posterior_entropy += w * workspace.entropy[i];
                let set = i * states..(i + 1) * states;
                for (q, &place) in values[set.clone()].iter_mut().zip(&chosen[set]) {
                    if !(*q > T::ZERO) {
                        continue;
                    }
                    if block.weights.is_some() {
                        *q *= T::from_f64(w);
                    }
                    let mass = &mut workspace.mass[place as usize];
                    if *mass == 0.0 {
                        workspace.touched.push(place);
                    }
                    *mass += q.to_f64();
                }
            }
            candidates::accumulate(
                self.simd,
                &workspace.statistics[..n * len],
                len,
                states,
                chosen,
                values,
                &mut workspace.sums,
            );
            self.accumulate_factors(n, states, workspace);
            workspace.pending += n;
            if workspace.pending >= POINTS_PER_FLUSH {
                self.flush(workspace, sums);
            }
        }
        if let Wanted::Sums(sums) = wanted {
            self.flush(workspace, sums);
        }
    }

    /// Puts the statistics of some points, about the centre of the leader, into rows.
    fn load(&self, block: Block<'_, T>, rows: &[u32], workspace: &mut GroupWorkspace<T>) {
        let (dim, len) = (self.dim, self.rows.len());
        let statistics = &mut workspace.statistics[..rows.len() * len];
        // Values go to where they stay, if they begin a row.
        if self.rows.begin_with_values() {
            self.load_points(block, rows, workspace.leader, statistics, len);
            self.rows.evaluate_after_values(self.simd, statistics);
        } else {
            let points = &mut workspace.points[..rows.len() * dim];
            self.load_points(block, rows, workspace.leader, points, dim);
            self.rows.evaluate(self.simd, points, statistics);
        }
    }

    /// Puts the values of some points, about the centre of the leader, at the beginning of rows of `stride` numbers.
    fn load_points(
        &self,
        block: Block<'_, T>,
        rows: &[u32],
        leader: u32,
        to: &mut [T],
        stride: usize,
    ) {
        let centre = self.centre(leader);
        let Some(points) = block.points.try_as_row_major() else {
            for (&row, to) in rows.iter().zip(to.chunks_exact_mut(stride)) {
                for (d, to) in to[..self.dim].iter_mut().enumerate() {
                    let centre = centre.get(d).copied().unwrap_or(T::ZERO);
                    *to = block.points[(row as usize, d)] - centre;
                }
            }
            return;
        };
        let point = |row: u32| points.row(row as usize).as_slice();
        for (k, (&row, to)) in rows.iter().zip(to.chunks_exact_mut(stride)).enumerate() {
            // Rows of a group lie anywhere: without asking ahead, each waits for memory.
            if let Some(&later) = rows.get(k + AHEAD) {
                fetch_values(point(later));
            }
            let to = &mut to[..self.dim];
            match centre.is_empty() {
                true => to.copy_from_slice(point(row)),
                false => {
                    for ((to, &x), &centre) in to.iter_mut().zip(point(row)).zip(centre) {
                        *to = x - centre;
                    }
                }
            }
        }
    }

    /// Adds the sums of the candidates to those of their components, about their own centres.
    fn flush(&self, workspace: &mut GroupWorkspace<T>, sums: &mut SetSums) {
        let len = self.rows.len();
        for &place in &workspace.touched {
            let component = workspace.candidates[place as usize];
            self.write_shift(workspace.leader, component, &mut workspace.shift);
            let from = &mut workspace.sums[place as usize * len..][..len];
            let mass = std::mem::take(&mut workspace.mass[place as usize]);
            let row = sums.row(component, 1 + self.n_statistics());
            row[0] += mass;
            let (row, of_factors) = row[1..].split_at_mut(len);
            self.rows.add_moved(self.simd, from, mass, &workspace.shift, row);
            from.fill(T::ZERO);
            workspace.factors.flush(&self.factors, place, &workspace.shift, of_factors);
        }
        workspace.touched.clear();
        workspace.pending = 0;
    }

    /// Ranks components as candidates for the points of another by the expected logits of these points, whose statistics are `mean`.
    pub fn expected_logits(&self, of: u32, mean: &[T], candidates: &[u32], out: &mut [f64]) {
        let centre = self.centre(of);
        let (row, of_factors) = mean.split_at(self.rows.len());
        self.rows.logits_of(self.simd, self.parameters(), candidates, centre, row, out);
        self.add_expected_squares(of, row, of_factors, candidates, out);
    }

    /// Visits components as if each were a point with the statistics of its mean: the `states` components of the list of the group
    /// with the largest expected logits become its set.
    pub fn visit_means(
        &self,
        means: &[T],
        components: &[u32],
        sets: &mut [u32],
        states: usize,
        workspace: &mut GroupWorkspace<T>,
    ) {
        let (len, mean_len) = (self.rows.len(), self.mean_len());
        let mut moved = vec![0.0; len];
        for (components, sets) in components.chunks(TILE).zip(sets.chunks_mut(TILE * states)) {
            for (&c, row) in components.iter().zip(workspace.statistics.chunks_exact_mut(len)) {
                self.write_shift(c, workspace.leader, &mut workspace.shift);
                moved.fill(0.0);
                let mean = &means[c as usize * mean_len..][..len];
                self.rows.add_moved(self.simd, mean, 1.0, &workspace.shift, &mut moved);
                row.iter_mut().zip(&moved).for_each(|(to, &from)| *to = T::from_f64(from));
            }
            self.logits_of_rows(components.len(), workspace);
            self.add_squares_of_means(means, components, workspace);
            self.choose(sets, states, f64::INFINITY, workspace);
        }
    }

    /// Computes the logits of a tile, whose statistics are in the workspace.
    fn logits(&self, n: usize, workspace: &mut GroupWorkspace<T>) {
        self.logits_of_rows(n, workspace);
        self.add_squares(n, workspace);
    }

    /// Computes what the rows of statistics give of the logits of a tile.
    fn logits_of_rows(&self, n: usize, workspace: &mut GroupWorkspace<T>) {
        let (len, width) = (self.rows.len(), workspace.bias.len());
        workspace.evaluations += (n * workspace.candidates.len()) as u64;
        let statistics = &workspace.statistics[..n * len];
        let logits = &mut workspace.logits[..n * width];
        let (panel, bias) = (&workspace.panel, &workspace.bias);
        let n_candidates = workspace.candidates.len();
        candidates::logits(self.simd, statistics, len, panel, bias, n_candidates, logits);
    }

    /// Makes the largest logits of a tile the sets of its points. Their places among the candidates and their values stay in the
    /// workspace.
    fn choose(&self, sets: &mut [u32], states: usize, cut: f64, workspace: &mut GroupWorkspace<T>) {
        let (n, width) = (sets.len() / states, workspace.bias.len());
        workspace.chosen.resize(TILE * states, ABSENT);
        workspace.values.resize(TILE * states, T::ZERO);
        let logits = &workspace.logits[..n * width];
        let chosen = &mut workspace.chosen[..n * states];
        let values = &mut workspace.values[..n * states];
        let n_candidates = workspace.candidates.len();
        candidates::select(self.simd, logits, width, n_candidates, states, cut, chosen, values);
        for (member, &place) in sets.iter_mut().zip(&*chosen) {
            *member = match place {
                ABSENT => 0,
                place => workspace.candidates[place as usize] + 1,
            };
        }
    }

    /// Writes the centre of a component minus that of another.
    fn write_shift(&self, of: u32, from: u32, shift: &mut Vec<f64>) {
        let pairs = self.centre(of).iter().zip(self.centre(from));
        shift.clear();
        shift.extend(pairs.map(|(a, b)| a.to_f64() - b.to_f64()));
    }
}

impl<T> GroupWorkspace<T> {
    /// Returns how many logits were computed since the last call.
    pub fn take_evaluations(&mut self) -> u64 {
        std::mem::take(&mut self.evaluations)
    }

    /// Lowers the logits of the first candidates of a group.
    pub fn penalize(&mut self, penalties: &[f64])
    where
        T: Scalar,
    {
        for (bias, penalty) in self.bias.iter_mut().zip(penalties) {
            *bias = T::from_f64(bias.to_f64() - penalty);
        }
    }

    /// Makes a component a candidate, unless it is already.
    fn add(&mut self, component: u32) {
        let found = self.places[component as usize] as usize;
        if self.candidates.get(found) != Some(&component) {
            self.places[component as usize] = self.candidates.len() as u32;
            self.candidates.push(component);
        }
    }
}

#[cfg(test)]
mod tests;
