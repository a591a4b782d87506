//! The M-step of a layer: one weighted logistic regression an output, over states in place of points.
//!
//! For the logit `a_s = w · z_s + w_0` of an output in state `s`, the part of the bound that depends on `w` is
//!
//! `Q(w) = w · t - Σ_s m_s softplus(a_s) - (λ/2) |w|²`
//!
//! with the mass `m_s = Σ_n q_n(s)` of the state and the target `t = Σ_n x_n E_q[z]`, both per point. It is concave. Newton's
//! method costs O(S H²) a step for listed states, and O(2^H) for all of them (`kernels::states`).

use crate::kernels::dispatch::Simd;
use crate::kernels::{logistic, states};
use crate::linalg::Cholesky;

/// Newton steps at most: a bound on time. A separable output takes about one for each unit of its logit, up to
/// [`MAX_LOGIT`].
const MAX_STEPS: usize = 100;

/// Halvings of a step at most; a step of 2⁻⁴⁰ is lost in rounding.
const MAX_HALVINGS: usize = 40;

/// Logit of an output that is constant in the data. e⁻⁴⁰ is far below the rounding of a probability, so the bound is
/// at its supremum to the last bit, and derivatives are zero to it.
pub(super) const MAX_LOGIT: f64 = 40.0;

/// Change of a weight in a step at most. Where a latent is next to never on, the curvature is noise and would send its
/// weights anywhere, at no cost to the bound. Damping shortens such steps: a step that is cut as a whole leaves other weights behind.
const MAX_CHANGE: f64 = 8.0;

/// Derivative of `Q` along the weights themselves that counts as 0, in nats per point: it is the output's part of the gap.
const RADIAL_TOLERANCE: f64 = 1e-14;

/// Steps along the weights at most. Nearly separable outputs take one for each unit of their logits.
const MAX_RADIAL_STEPS: usize = 40;

/// Part of the largest diagonal element that is added to the curvature, so that latents that are never on do not make it
/// singular. It changes the path of Newton's method, not where it ends.
const DAMPING: f64 = 1e-13;

/// Binary states of some latents, each with its mass; masses sum to 1.
#[derive(Clone, Debug)]
pub(crate) struct Design {
    latents: usize,
    patterns: Patterns,
    mass: Vec<f64>,
}

#[derive(Clone, Debug)]
enum Patterns {
    /// All 2^H, in the order of `kernels::states`.
    All,
    /// Some: state `s` has the latents `active[starts[s]..starts[s + 1]]` on.
    Listed { starts: Vec<usize>, active: Vec<u32> },
}

/// Scratch memory of a regression.
#[derive(Debug)]
pub(crate) struct Scratch {
    slope: Vec<f64>,
    curvature: Vec<f64>,
    table: Vec<f64>,
}

/// Value and gradient of `Q`.
#[derive(Clone, Debug)]
struct Point {
    value: f64,
    gradient: Vec<f64>,
}

impl Design {
    /// Returns all states, with the mass of each.
    pub(crate) fn all(mass: Vec<f64>) -> Self {
        Self { latents: mass.len().ilog2() as usize, patterns: Patterns::All, mass }
    }

    /// Makes a design of states that are listed by the latents that are on.
    pub(crate) fn listed(
        latents: usize,
        starts: Vec<usize>,
        active: Vec<u32>,
        mass: Vec<f64>,
    ) -> Self {
        debug_assert_eq!(starts.len(), mass.len() + 1);
        Self { latents, patterns: Patterns::Listed { starts, active }, mass }
    }

    /// Returns the number of states.
    pub(crate) fn len(&self) -> usize {
        self.mass.len()
    }

    /// Returns the mass of a state.
    pub(crate) fn mass(&self, state: usize) -> f64 {
        self.mass[state]
    }

    /// Writes a state as zeros and ones.
    pub(crate) fn write_state(&self, state: usize, row: &mut [f64]) {
        match &self.patterns {
            Patterns::All => {
                let bits = row.iter_mut().rev().enumerate();
                bits.for_each(|(bit, value)| *value = ((state >> bit) & 1) as f64);
            }
            Patterns::Listed { starts, active } => {
                row.fill(0.0);
                active[starts[state]..starts[state + 1]]
                    .iter()
                    .for_each(|&h| row[h as usize] = 1.0);
            }
        }
    }

    /// Returns the scratch memory for this design.
    pub(crate) fn scratch(&self) -> Scratch {
        let n = self.mass.len();
        Scratch { slope: vec![0.0; n], curvature: vec![0.0; n], table: vec![0.0; n] }
    }

    /// Computes `w · z_s + w_0` for all states.
    pub(crate) fn logits(&self, simd: Simd, weights: &[f64], logits: &mut [f64]) {
        match &self.patterns {
            Patterns::All => states::linear(simd, weights, logits),
            Patterns::Listed { starts, active } => {
                for (logit, range) in logits.iter_mut().zip(starts.windows(2)) {
                    *logit = weights[self.latents]
                        + active[range[0]..range[1]]
                            .iter()
                            .map(|&h| weights[h as usize])
                            .sum::<f64>();
                }
            }
        }
    }

    /// Computes `Σ_s v_s z_s`, and last `Σ_s v_s`; `v` may be lost.
    fn first_moments(&self, simd: Simd, values: &mut [f64], moments: &mut [f64]) {
        match &self.patterns {
            Patterns::All => states::first_moments(simd, values, moments),
            Patterns::Listed { starts, active } => {
                moments.fill(0.0);
                for (value, range) in values.iter().zip(starts.windows(2)) {
                    for &h in &active[range[0]..range[1]] {
                        moments[h as usize] += value;
                    }
                    moments[self.latents] += value;
                }
            }
        }
    }

    /// Computes `Σ_s v_s z̃_s z̃_s'`, upper triangle, without listed states of values below `least`; `v` may be lost.
    fn second_moments(
        &self,
        simd: Simd,
        values: &mut [f64],
        least: f64,
        scratch: &mut [f64],
        moments: &mut [f64],
    ) {
        match &self.patterns {
            Patterns::All => states::second_moments(simd, values, scratch, moments),
            Patterns::Listed { starts, active } => {
                let n = self.latents + 1;
                moments.fill(0.0);
                for (&value, range) in values.iter().zip(starts.windows(2)) {
                    if value < least {
                        continue;
                    }
                    let active = &active[range[0]..range[1]];
                    for (k, &h) in active.iter().enumerate() {
                        let row = &mut moments[h as usize * n..][..n];
                        for &j in &active[k..] {
                            row[j as usize] += value;
                        }
                        row[n - 1] += value;
                    }
                    moments[n * n - 1] += value;
                }
            }
        }
    }

    /// Returns the marginal probabilities of the latents, `Σ_s m_s z_s`.
    pub(crate) fn marginals(&self, simd: Simd) -> Vec<f64> {
        let mut moments = vec![0.0; self.latents + 1];
        self.first_moments(simd, &mut self.mass.clone(), &mut moments);
        moments.truncate(self.latents);
        moments
    }

    /// Returns `Σ_s m_s z̃_s z̃_s'`, a symmetric matrix of H + 1 rows.
    pub(crate) fn second_moments_of_mass(&self) -> Vec<f64> {
        let n = self.latents + 1;
        let mut moments = vec![0.0; n * n];
        let mut scratch = vec![0.0; self.mass.len()];
        let mut mass = self.mass.clone();
        self.second_moments(Simd::detect(), &mut mass, 0.0, &mut scratch, &mut moments);
        for h in 0..n {
            for k in 0..h {
                moments[h * n + k] = moments[k * n + h];
            }
        }
        moments
    }

    /// Computes `∂Q/∂w` without the ridge.
    pub(crate) fn gradient(
        &self,
        simd: Simd,
        target: &[f64],
        weights: &[f64],
        scratch: &mut Scratch,
    ) -> Vec<f64> {
        let mut gradient = vec![0.0; target.len()];
        self.logits(simd, weights, &mut scratch.slope);
        logistic::derivatives(simd, &self.mass, &mut scratch.slope, &mut scratch.curvature);
        self.first_moments(simd, &mut scratch.slope, &mut gradient);
        gradient.iter_mut().zip(target).for_each(|(g, t)| *g = t - *g);
        gradient
    }

    /// Computes value and gradient of `Q`; the scratch memory then holds what [`curvature`](Self::curvature) needs.
    fn evaluate(
        &self,
        simd: Simd,
        target: &[f64],
        weights: &[f64],
        ridge: f64,
        scratch: &mut Scratch,
        point: &mut Point,
    ) {
        let n = target.len();
        self.logits(simd, weights, &mut scratch.slope);
        let Scratch { slope, curvature, .. } = scratch;
        let partition = logistic::derivatives(simd, &self.mass, slope, curvature);
        self.first_moments(simd, slope, &mut point.gradient);
        point.value = -partition;
        for h in 0..n {
            point.value += weights[h] * target[h];
            point.gradient[h] = target[h] - point.gradient[h];
            if h + 1 < n {
                point.value -= 0.5 * ridge * weights[h] * weights[h];
                point.gradient[h] -= ridge * weights[h];
            }
        }
    }

    /// Computes `-∂²Q`, upper triangle, where `Q` was last evaluated.
    fn curvature(&self, simd: Simd, ridge: f64, scratch: &mut Scratch, moments: &mut [f64]) {
        let Scratch { curvature, table, .. } = scratch;
        self.second_moments(simd, curvature, NEGLIGIBLE_CURVATURE, table, moments);
        for h in 0..self.latents {
            moments[h * (self.latents + 2)] += ridge;
        }
    }

    /// Maximises `Q` from where the weights stand, until no element of its gradient exceeds `tolerance` or `max_steps`
    /// are done. Every step raises `Q`, up to rounding.
    pub(crate) fn maximize(
        &self,
        simd: Simd,
        target: &[f64],
        weights: &mut [f64],
        rule: &NewtonRule,
        scratch: &mut Scratch,
    ) {
        let n = target.len();
        // An output without exceptions has its supremum at infinity.
        let rounding = 4.0 * f64::EPSILON;
        let on = target[n - 1];
        if on <= rounding || on >= 1.0 - rounding {
            weights[..n - 1].fill(0.0);
            weights[n - 1] = if on < 0.5 { -MAX_LOGIT } else { MAX_LOGIT };
            return;
        }
        let blank = Point { value: 0.0, gradient: vec![0.0; n] };
        let (mut here, mut there) = (blank.clone(), blank);
        let mut curvature = vec![0.0; n * n];
        self.evaluate(simd, target, weights, rule.ridge, scratch, &mut here);
        let mut trial = vec![0.0; n];
        let size = |gradient: &[f64]| gradient.iter().fold(0.0f64, |m, g| m.max(g.abs()));
        for _ in 0..rule.max_steps.min(MAX_STEPS) {
            if size(&here.gradient) <= rule.tolerance {
                break;
            }
            self.curvature(simd, rule.ridge, scratch, &mut curvature);
            let Some(step) = newton_step(&here.gradient, &curvature) else { break };
            let slope: f64 = step.iter().zip(&here.gradient).map(|(s, g)| s * g).sum();
            // Values this close cannot be told apart: Q is a sum of terms of the size of the bound of one output.
            let slack = 8.0 * f64::EPSILON * (1.0 + here.value.abs());
            let mut scale = 1.0;
            let mut accepted = false;
            for _ in 0..MAX_HALVINGS {
                for h in 0..n {
                    trial[h] = weights[h] + scale * step[h];
                }
                self.evaluate(simd, target, &trial, rule.ridge, scratch, &mut there);
                // Armijo's rule with the usual constant; where rounding hides the rise, the gradient must fall.
                let hidden = slope * scale < slack;
                let rises = there.value >= here.value + 1e-4 * scale * slope;
                let falls = size(&there.gradient) < size(&here.gradient)
                    && there.value >= here.value - slack;
                if if hidden { falls } else { rises } {
                    accepted = true;
                    break;
                }
                if hidden {
                    break;
                }
                scale *= 0.5;
            }
            if !accepted {
                break;
            }
            weights.copy_from_slice(&trial);
            std::mem::swap(&mut here, &mut there);
        }
        if rule.max_steps >= MAX_STEPS {
            self.scale(simd, target, weights, rule, scratch);
        }
    }

    /// Maximises `Q` along the weights: its derivative there is what the output adds to the gap, but for the ridge (theory 1.2).
    /// Where Newton's method ends in the rounding of `Q`, or on the way to weights without bound, this still closes the gap.
    fn scale(
        &self,
        simd: Simd,
        target: &[f64],
        weights: &mut [f64],
        rule: &NewtonRule,
        scratch: &mut Scratch,
    ) {
        let n = target.len();
        let mut point = Point { value: 0.0, gradient: vec![0.0; n] };
        let mut curvature = vec![0.0; n * n];
        let mut derivative = |weights: &[f64], scratch: &mut Scratch| {
            self.evaluate(simd, target, weights, rule.ridge, scratch, &mut point);
            weights.iter().zip(&point.gradient).map(|(w, g)| w * g).sum::<f64>()
        };
        let mut slope = derivative(weights, scratch);
        for _ in 0..MAX_RADIAL_STEPS {
            if !(slope.abs() > RADIAL_TOLERANCE) {
                return;
            }
            self.curvature(simd, rule.ridge, scratch, &mut curvature);
            let row = |h: usize| {
                let rest = (h + 1..n).map(|k| 2.0 * curvature[h * n + k] * weights[k]);
                weights[h] * (curvature[h * n + h] * weights[h] + rest.sum::<f64>())
            };
            let bend: f64 = (0..n).map(row).sum();
            let factor = 1.0 + (slope / bend).clamp(-0.5, 0.5);
            let trial: Vec<f64> = weights.iter().map(|w| factor * w).collect();
            let next = derivative(&trial, scratch);
            if !(next.abs() < slope.abs()) {
                return;
            }
            weights.copy_from_slice(&trial);
            slope = next;
        }
    }
}

/// Curvature of a listed state, per point, that Newton's method passes over: most states have next to no mass, or are sure of
/// an output. Value and gradient are exact all the same. Below [`DAMPING`], so that latents which are next to never on keep
/// their curvature: at 1e-10 steps overshot there, and gaps near convergence stayed at 1e-8 (`tests/suite/sbn.rs`, digits).
const NEGLIGIBLE_CURVATURE: f64 = 1e-14;

/// Rule for the end of Newton's method.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewtonRule {
    /// Largest element of the gradient, per point.
    pub tolerance: f64,
    /// Steps at most.
    pub max_steps: usize,
    /// Ridge λ on the weights, not the bias.
    pub ridge: f64,
}

/// The M-step of some outputs of a layer.
#[derive(Debug)]
pub(crate) struct Regression<'a> {
    pub(super) design: &'a Design,
    pub(super) targets: &'a [f64],
    pub(super) rows: &'a mut [f64],
    pub(super) rule: NewtonRule,
}

impl Regression<'_> {
    /// Maximises the bound in the weights of these outputs.
    pub(crate) fn solve(&mut self) {
        let (simd, n) = (Simd::detect(), self.design.latents + 1);
        let mut scratch = self.design.scratch();
        for (target, weights) in self.targets.chunks(n).zip(self.rows.chunks_mut(n)) {
            self.design.maximize(simd, target, weights, &self.rule, &mut scratch);
        }
    }
}

/// Contribution of some outputs of a layer to the bound and the entropy sum.
#[derive(Debug)]
pub(crate) struct Measure<'a> {
    pub(super) design: &'a Design,
    pub(super) targets: &'a [f64],
    pub(super) rows: &'a [f64],
    /// `Σ_d ⟨x_d a_d⟩ - E_q̄ softplus(a_d)`, once it was taken.
    pub(super) likelihood: f64,
    /// `Σ_d E_q̄ H[σ(a_d)]`, once it was taken.
    pub(super) entropy: f64,
}

impl Measure<'_> {
    /// Takes both sums, from one exponential for each output and state.
    pub(crate) fn take(&mut self) {
        let (simd, n) = (Simd::detect(), self.design.latents + 1);
        let mut logits = vec![0.0; self.design.mass.len()];
        for (row, target) in self.rows.chunks(n).zip(self.targets.chunks(n)) {
            self.design.logits(simd, row, &mut logits);
            let (partition, entropy) =
                logistic::partition_and_entropy(simd, &self.design.mass, &logits);
            self.likelihood += row.iter().zip(target).map(|(w, t)| w * t).sum::<f64>() - partition;
            self.entropy += entropy;
        }
    }
}

fn newton_step(gradient: &[f64], curvature: &[f64]) -> Option<Vec<f64>> {
    let n = gradient.len();
    let largest = (0..n).map(|h| curvature[h * n + h]).fold(0.0, f64::max);
    let mut damping = DAMPING * largest;
    // A step under damping λ is no longer than |g| / λ: tenfold damping soon shortens it, or makes the matrix regular.
    for _ in 0..32 {
        let mut matrix = curvature.to_vec();
        for h in 0..n {
            for k in 0..h {
                matrix[h * n + k] = matrix[k * n + h];
            }
            matrix[h * n + h] += damping;
        }
        let step = Cholesky::new(&matrix, n).map(|cholesky| cholesky.solve(gradient));
        let is_short = |step: &Vec<f64>| step.iter().all(|s| s.abs() <= MAX_CHANGE);
        if let Some(step) = step.filter(is_short) {
            return Some(step);
        }
        damping *= 10.0;
    }
    None
}
