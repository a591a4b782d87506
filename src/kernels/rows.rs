//! Statistics of points as rows, and their move from one centre to another.
//!
//! Statistics that are polynomials of the values move exactly: with `y = x - b` and `d = b - a`, each `T(x - a)` is linear in `T(y)`,
//! with coefficients that depend on `d`. So do natural parameters, by the transposed map. Other statistics stay as they are; their
//! columns have no centre.

mod labelled;

use super::candidates::padded_width;
use super::dispatch::{Kernel, MulAdd, Simd};
use super::statistics::{Statistic, Tile, clear_missing, evaluate, may_be_missing};
use crate::scalar::Scalar;

/// Components whose coefficients are put into a panel together.
const COLUMNS: usize = 8;

/// Neighbouring statistics of one form, of neighbouring columns of the points.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Run {
    /// `x_i`, for `count` dimensions from `first` on.
    Values { at: usize, first: usize, count: usize },
    /// `x_i²`; `values` is where `x_first` stands.
    Squares { at: usize, first: usize, count: usize, values: usize },
    /// `Σ_i x_i²`.
    Norm { at: usize, first: usize, count: usize, values: usize },
    /// `x_i x_j`, for `count` dimensions `j` from `first` on; `value` is where `x_i` stands.
    Products { at: usize, i: usize, first: usize, count: usize, value: usize, values: usize },
}

/// A list of statistics, arranged for rows.
#[derive(Clone, Debug)]
pub struct RowStatistics {
    statistics: Vec<Statistic>,
    dim: usize,
    runs: Vec<Run>,
    /// Statistics that are no such polynomials.
    others: Vec<usize>,
    /// Where values may be missing: the statistic of each dimension that counts those observed.
    observed: Option<Vec<usize>>,
}

impl RowStatistics {
    /// Arranges the statistics of points of dimension `dim`.
    ///
    /// Products whose values are no statistics count as other statistics, and have no centre.
    pub fn new(statistics: Vec<Statistic>, dim: usize) -> Self {
        let place = |wanted: Statistic| statistics.iter().position(|&it| it == wanted);
        let value_at: Vec<Option<usize>> =
            (0..dim as u32).map(|d| place(Statistic::Value(d))).collect();
        // Values of neighbouring dimensions must stand beside each other in the list, too.
        let values = |first: usize, count: usize| {
            let start = value_at.get(first).copied().flatten()?;
            let in_order = |k: usize| value_at.get(first + k).copied().flatten() == Some(start + k);
            (0..count).all(in_order).then_some(start)
        };
        let mut runs: Vec<Run> = Vec::new();
        let mut others = Vec::new();
        for (l, &statistic) in statistics.iter().enumerate() {
            let run = match statistic {
                Statistic::Value(d) => Some(Run::Values { at: l, first: d as usize, count: 1 }),
                Statistic::Product(i, j) if i == j => values(i as usize, 1)
                    .map(|values| Run::Squares { at: l, first: i as usize, count: 1, values }),
                Statistic::Product(i, j) => {
                    let (i, first) = (i as usize, j as usize);
                    values(i, 1).zip(values(first, 1)).map(|(value, values)| Run::Products {
                        at: l,
                        i,
                        first,
                        count: 1,
                        value,
                        values,
                    })
                }
                Statistic::SquaredNorm(first, count) => {
                    let (first, count) = (first as usize, count as usize);
                    values(first, count).map(|values| Run::Norm { at: l, first, count, values })
                }
                _ => None,
            };
            match run {
                None => others.push(l),
                Some(run) => match runs.last_mut().and_then(|last| last.joined(run)) {
                    Some(joined) => *runs.last_mut().expect("a last run") = joined,
                    None => runs.push(run),
                },
            }
        }
        let observed = may_be_missing(&statistics).then(|| {
            let counts = |d| place(Statistic::Observed(d)).unwrap_or_default();
            (0..dim as u32).map(counts).collect()
        });
        Self { statistics, dim, runs, others, observed }
    }

    /// Returns the number of statistics L.
    pub fn len(&self) -> usize {
        self.statistics.len()
    }

    /// Tells whether each row begins with the values of the point itself.
    pub fn begin_with_values(&self) -> bool {
        self.runs.first() == Some(&Run::Values { at: 0, first: 0, count: self.dim })
    }

    /// Evaluates all statistics of points whose values stand at the beginning of their rows, and stay there.
    ///
    /// # Shapes
    /// `out: B × L`, one row a point.
    ///
    /// # Panics
    /// If rows do not [begin with the values](Self::begin_with_values).
    pub fn evaluate_after_values<T: Scalar>(&self, simd: Simd, out: &mut [T]) {
        assert!(self.begin_with_values(), "rows begin with the values");
        simd.run(EvaluateAfterValues { rows: self, out });
        if !self.others.is_empty() {
            let values = out.chunks_exact(self.len()).flat_map(|row| &row[..self.dim]);
            let points: Vec<T> = values.copied().collect();
            self.evaluate_others(simd, &points, out);
        }
        if self.observed.is_some() {
            clear_missing(out);
        }
    }

    /// Evaluates all statistics of points, about the centre that the points are taken about.
    ///
    /// # Shapes
    /// `points: B × D`, `out: B × L`, one row a point.
    pub fn evaluate<T: Scalar>(&self, simd: Simd, points: &[T], out: &mut [T]) {
        simd.run(EvaluateRows { rows: self, points, out });
        if !self.others.is_empty() {
            self.evaluate_others(simd, points, out);
        }
        if self.observed.is_some() {
            clear_missing(out);
        }
    }

    /// Evaluates statistics whose functions are for columns.
    fn evaluate_others<T: Scalar>(&self, simd: Simd, points: &[T], out: &mut [T]) {
        let n_points = points.len() / self.dim;
        let mut columns = vec![T::ZERO; points.len()];
        for (i, point) in points.chunks_exact(self.dim).enumerate() {
            for (d, &value) in point.iter().enumerate() {
                columns[d * n_points + i] = value;
            }
        }
        let panel: Vec<Statistic> = self.others.iter().map(|&l| self.statistics[l]).collect();
        let mut evaluated = vec![T::ZERO; panel.len() * n_points];
        let tile = Tile { values: &columns, dim: self.dim, n_points, stride: n_points };
        evaluate(simd, &panel, tile, &mut evaluated);
        for (&l, column) in self.others.iter().zip(evaluated.chunks_exact(n_points)) {
            out.iter_mut().skip(l).step_by(self.len()).zip(column).for_each(|(to, &t)| *to = t);
        }
    }

    /// Puts the natural parameters of components, for statistics about `centre`, into a panel. The columns before `begin` stay.
    ///
    /// # Shapes
    /// `panel: L × G`, `panel_bias: G` with G from [`padded_width`].
    pub fn pack<T: Scalar>(
        &self,
        simd: Simd,
        table: ParameterTable<'_, T>,
        components: &[u32],
        centre: &[T],
        [panel, panel_bias]: [&mut [T]; 2],
        begin: usize,
    ) {
        assert_eq!(panel.len(), self.len() * panel_bias.len(), "one row a statistic");
        assert_eq!(panel_bias.len(), padded_width::<T>(panel_bias.len()), "whole vectors");
        assert!(components.len() <= panel_bias.len(), "one column a component");
        simd.run(Pack { rows: self, table, components, centre, panel, panel_bias, begin });
    }

    /// Adds sums of statistics about one centre to sums about another, `shift = from - to`; `mass` is the weight of the points.
    ///
    /// # Shapes
    /// `from` and `to`: L, `shift`: D, or empty if statistics have no centre.
    pub fn add_moved<T: Scalar>(
        &self,
        simd: Simd,
        from: &[T],
        mass: f64,
        shift: &[f64],
        to: &mut [f64],
    ) {
        assert_eq!((from.len(), to.len()), (self.len(), self.len()), "one sum a statistic");
        simd.run(AddMoved { rows: self, from, mass, shift, to });
    }

    /// Computes the logits of one row of statistics about `centre` under some components, each about its own centre.
    ///
    /// # Shapes
    /// `row: L`; `out`: one value a component.
    pub fn logits_of<T: Scalar>(
        &self,
        simd: Simd,
        table: ParameterTable<'_, T>,
        components: &[u32],
        centre: &[T],
        row: &[T],
        out: &mut [f64],
    ) {
        assert_eq!(components.len(), out.len(), "one logit a component");
        simd.run(LogitsOf { rows: self, table, components, centre, row, out });
    }
}

/// Natural parameters of all components, each for statistics about its own centre.
///
/// # Shapes
/// `natural: C × L`, `bias: C`, `centres: C × D`, or empty if statistics have no centre.
#[derive(Clone, Copy, Debug)]
pub struct ParameterTable<'a, T> {
    /// One row a component.
    pub natural: &'a [T],
    /// What a logit is without statistics.
    pub bias: &'a [f64],
    /// One row a component.
    pub centres: &'a [T],
}

impl<T: Scalar> ParameterTable<'_, T> {
    /// Writes the parameters of a component for statistics about another centre. Returns its bias.
    #[inline(always)]
    fn write_about<M: MulAdd>(
        &self,
        rows: &RowStatistics,
        component: u32,
        centre: &[T],
        shift: &mut [T],
        eta: &mut [T],
    ) -> f64 {
        let (c, dim, len) = (component as usize, rows.dim, rows.len());
        eta.copy_from_slice(&self.natural[c * len..][..len]);
        if self.centres.is_empty() {
            return self.bias[c];
        }
        let own = &self.centres[c * dim..][..dim];
        for ((shift, &to), &own) in shift.iter_mut().zip(centre).zip(own) {
            *shift = to - own;
        }
        self.bias[c] + rows.move_parameters::<T, M>(shift, eta)
    }
}

struct AddMoved<'a, T> {
    rows: &'a RowStatistics,
    from: &'a [T],
    mass: f64,
    shift: &'a [f64],
    to: &'a mut [f64],
}

impl<T: Scalar> Kernel for AddMoved<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let Self { rows, from, mass, shift, to } = self;
        for (to, from) in to.iter_mut().zip(from) {
            *to += from.to_f64();
        }
        if shift.is_empty() {
            return;
        }
        // The weight of the points in which a dimension is observed.
        let weight = |d: usize| rows.observed.as_ref().map_or(mass, |at| from[at[d]].to_f64());
        for run in &rows.runs {
            match *run {
                Run::Values { at, first, count } => {
                    let shift = &shift[first..first + count];
                    for (k, (to, s)) in to[at..at + count].iter_mut().zip(shift).enumerate() {
                        *to += weight(first + k) * s;
                    }
                }
                Run::Squares { at, first, count, values } => {
                    let moments = from[values..values + count].iter();
                    let moved = moments.zip(&shift[first..first + count]);
                    for (k, (to, (moment, s))) in
                        to[at..at + count].iter_mut().zip(moved).enumerate()
                    {
                        *to += s * (2.0 * moment.to_f64() + weight(first + k) * s);
                    }
                }
                Run::Norm { at, first, count, values } => {
                    let moments = &from[values..values + count];
                    let shift = &shift[first..first + count];
                    let mut lanes = [0.0; 8];
                    for (moments, shift) in moments.chunks(8).zip(shift.chunks(8)) {
                        for ((lane, moment), s) in lanes.iter_mut().zip(moments).zip(shift) {
                            *lane += s * (2.0 * moment.to_f64() + mass * s);
                        }
                    }
                    for lane in lanes {
                        to[at] += lane;
                    }
                }
                Run::Products { at, i, first, count, value, values } => {
                    let (s, moment) = (shift[i], from[value].to_f64() + mass * shift[i]);
                    let moments = from[values..values + count].iter();
                    let moved = moments.zip(&shift[first..first + count]);
                    for (to, (other, t)) in to[at..at + count].iter_mut().zip(moved) {
                        *to += s * other.to_f64() + moment * t;
                    }
                }
            }
        }
    }
}

struct LogitsOf<'a, T> {
    rows: &'a RowStatistics,
    table: ParameterTable<'a, T>,
    components: &'a [u32],
    centre: &'a [T],
    row: &'a [T],
    out: &'a mut [f64],
}

impl<T: Scalar> Kernel for LogitsOf<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let (dim, len) = (self.rows.dim, self.rows.len());
        let (mut eta, mut shift) = (vec![T::ZERO; len], vec![T::ZERO; dim]);
        for (&component, out) in self.components.iter().zip(self.out) {
            let (rows, centre) = (self.rows, self.centre);
            let bias = self.table.write_about::<M>(rows, component, centre, &mut shift, &mut eta);
            *out = bias + dot::<T, M>(&eta, self.row).to_f64();
        }
    }
}

impl Run {
    /// Evaluates the run for a point. `out` holds the statistics from number `begin` on.
    #[inline(always)]
    fn evaluate<T: Scalar, M: MulAdd>(self, point: &[T], out: &mut [T], begin: usize) {
        match self {
            Self::Values { at, first, count } => {
                out[at - begin..][..count].copy_from_slice(&point[first..first + count]);
            }
            Self::Squares { at, first, count, .. } => {
                let values = &point[first..first + count];
                for (t, &x) in out[at - begin..][..count].iter_mut().zip(values) {
                    *t = x * x;
                }
            }
            Self::Norm { at, first, count, .. } => {
                let values = &point[first..first + count];
                out[at - begin] = dot::<T, M>(values, values);
            }
            Self::Products { at, i, first, count, .. } => {
                let (x, values) = (point[i], &point[first..first + count]);
                for (t, &y) in out[at - begin..][..count].iter_mut().zip(values) {
                    *t = x * y;
                }
            }
        }
    }

    /// Returns both as one run, if the next follows.
    fn joined(self, next: Self) -> Option<Self> {
        match (self, next) {
            (Self::Values { at, first, count }, Self::Values { at: a, first: f, .. })
                if (a, f) == (at + count, first + count) =>
            {
                Some(Self::Values { at, first, count: count + 1 })
            }
            (
                Self::Squares { at, first, count, values },
                Self::Squares { at: a, first: f, values: v, .. },
            ) if (a, f, v) == (at + count, first + count, values + count) => {
                Some(Self::Squares { at, first, count: count + 1, values })
            }
            (
                Self::Products { at, i, first, count, value, values },
                Self::Products { at: a, i: same, first: f, values: v, .. },
            ) if (a, same, f, v) == (at + count, i, first + count, values + count) => {
                Some(Self::Products { at, i, first, count: count + 1, value, values })
            }
            _ => None,
        }
    }
}

struct EvaluateRows<'a, T> {
    rows: &'a RowStatistics,
    points: &'a [T],
    out: &'a mut [T],
}

impl<T: Scalar> Kernel for EvaluateRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let points = self.points.chunks_exact(self.rows.dim);
        for (point, out) in points.zip(self.out.chunks_exact_mut(self.rows.len())) {
            // No closure: it would be compiled without the instructions of the kernel.
            for run in &self.rows.runs {
                run.evaluate::<T, M>(point, out, 0);
            }
        }
    }
}

struct EvaluateAfterValues<'a, T> {
    rows: &'a RowStatistics,
    out: &'a mut [T],
}

impl<T: Scalar> Kernel for EvaluateAfterValues<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let dim = self.rows.dim;
        for row in self.out.chunks_exact_mut(self.rows.len()) {
            let (point, out) = row.split_at_mut(dim);
            for run in &self.rows.runs[1..] {
                run.evaluate::<T, M>(point, out, dim);
            }
        }
    }
}

/// Returns `Σ_k a_k b_k`. Lanes of sums, so that additions need not wait for each other; a loop and no closure, since these would be
/// compiled without the instructions of the kernel.
#[inline(always)]
pub(super) fn dot<T: Scalar, M: MulAdd>(a: &[T], b: &[T]) -> T {
    const LANES: usize = 16;
    let mut lanes = [T::ZERO; LANES];
    let (pieces, others) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let mut sum = T::ZERO;
    for (&x, &y) in pieces.remainder().iter().zip(others.remainder()) {
        sum = M::mul_add(x, y, sum);
    }
    for (piece, other) in pieces.zip(others) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(piece).zip(other) {
            *lane = M::mul_add(x, y, *lane);
        }
    }
    for lane in lanes {
        sum += lane;
    }
    sum
}

struct Pack<'a, T> {
    rows: &'a RowStatistics,
    table: ParameterTable<'a, T>,
    components: &'a [u32],
    centre: &'a [T],
    panel: &'a mut [T],
    panel_bias: &'a mut [T],
    begin: usize,
}

impl<T: Scalar> Kernel for Pack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let (dim, len, width) = (self.rows.dim, self.rows.len(), self.panel_bias.len());
        let mut block = vec![T::ZERO; COLUMNS * len];
        let mut shift = vec![T::ZERO; dim];
        let mut column = self.begin;
        for components in self.components[self.begin..].chunks(COLUMNS) {
            for (row, &component) in block.chunks_exact_mut(len).zip(components) {
                let (rows, centre) = (self.rows, self.centre);
                let bias = self.table.write_about::<M>(rows, component, centre, &mut shift, row);
                self.panel_bias[column] = T::from_f64(bias);
                column += 1;
            }
            let first = column - components.len();
            for l in 0..len {
                let to = &mut self.panel[l * width + first..][..components.len()];
                for (k, to) in to.iter_mut().enumerate() {
                    *to = block[k * len + l];
                }
            }
        }
        // As far as logits are computed.
        let end = padded_width::<T>(column);
        for l in 0..len {
            self.panel[l * width + column..l * width + end].fill(T::ZERO);
        }
        self.panel_bias[column..].fill(T::NEG_INFINITY);
    }
}

impl RowStatistics {
    /// Replaces the parameters `η` for statistics of `y + shift` by those for statistics of `y`. Returns what this adds to the bias.
    #[inline(always)]
    fn move_parameters<T: Scalar, M: MulAdd>(&self, shift: &[T], eta: &mut [T]) -> f64 {
        let mut bias = 0.0;
        let two = T::ONE + T::ONE;
        for run in &self.runs {
            if let Run::Values { at, first, count } = *run {
                // Linear parameters about the own centre are zero but for rounding; those of squares come later.
                let Some(observed) = &self.observed else {
                    let (linear, shift) = (&eta[at..at + count], &shift[first..first + count]);
                    bias += dot::<T, M>(linear, shift).to_f64();
                    continue;
                };
                for d in first..first + count {
                    eta[observed[d]] += eta[at + d - first] * shift[d];
                }
            }
        }
        for run in &self.runs {
            match *run {
                Run::Values { .. } => {}
                Run::Squares { at, first, count, values } => {
                    if let Some(observed) = &self.observed {
                        // Of points in which the dimension is observed, the term is a constant.
                        for k in 0..count {
                            let (q, s) = (eta[at + k], shift[first + k]);
                            eta[values + k] += two * q * s;
                            eta[observed[first + k]] += q * s * s;
                        }
                        continue;
                    }
                    let (low, high) = (at.min(values), at.max(values));
                    let (before, after) = eta.split_at_mut(high);
                    let (linear, squares) = if at < values {
                        (&mut after[..count], &before[low..][..count])
                    } else {
                        (&mut before[low..][..count], &after[..count])
                    };
                    let shift = &shift[first..first + count];
                    // Half of what is added to the linear parameters, times the shift, is what a constant must add.
                    const LANES: usize = 16;
                    let mut lanes = [T::ZERO; LANES];
                    for ((linear, squares), shift) in
                        linear.chunks_mut(LANES).zip(squares.chunks(LANES)).zip(shift.chunks(LANES))
                    {
                        for (((linear, &q), &s), lane) in
                            linear.iter_mut().zip(squares).zip(shift).zip(&mut lanes)
                        {
                            let moved = q * s;
                            *linear += two * moved;
                            *lane = M::mul_add(moved, s, *lane);
                        }
                    }
                    for lane in lanes {
                        bias += lane.to_f64();
                    }
                }
                Run::Norm { at, first, count, values } => {
                    let q = eta[at];
                    let shift = &shift[first..first + count];
                    for (linear, &s) in eta[values..values + count].iter_mut().zip(shift) {
                        *linear = M::mul_add(two * q, s, *linear);
                    }
                    bias += (q * dot::<T, M>(shift, shift)).to_f64();
                }
                Run::Products { at, i, first, count, value, values } => {
                    let s = shift[i];
                    let mut sum = T::ZERO;
                    for k in 0..count {
                        let q = eta[at + k];
                        sum = M::mul_add(q, shift[first + k], sum);
                        eta[values + k] += q * s;
                    }
                    eta[value] += sum;
                    bias += (s * sum).to_f64();
                }
            }
        }
        bias
    }
}

#[cfg(test)]
mod tests;
