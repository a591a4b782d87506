//! Sums of an E-step with truncated posteriors.

use super::super::regression::Design;
use super::super::table::{StateTable, flip, for_each_on, words};

/// Sizes of [`TruncatedSums`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SumsShape {
    pub latents: usize,
    /// Sums over all states.
    pub targets: usize,
    /// Sums for each state, besides its mass.
    pub outputs: usize,
}

/// Sums over points under truncated posteriors.
#[derive(Clone, Debug)]
pub(crate) struct TruncatedSums {
    shape: SumsShape,
    pub(crate) total_weight: f64,
    pub(crate) posterior_entropy: f64,
    pub(crate) log_evidence: f64,
    pub(super) states: StateTable,
    pub(super) mass: Vec<f64>,
    /// `⟨x (z, 1)'⟩`, D × (J + 1); then `⟨x_d²⟩` of Gaussian observables.
    pub(super) targets: Vec<f64>,
    /// `Σ q(z) x` of each state, D values each, for a decoder with hidden layers.
    pub(super) outputs: Vec<f64>,
}

impl TruncatedSums {
    pub(crate) fn new(shape: SumsShape) -> Self {
        Self {
            shape,
            total_weight: 0.0,
            posterior_entropy: 0.0,
            log_evidence: 0.0,
            states: StateTable::new(words(shape.latents)),
            mass: Vec::new(),
            targets: vec![0.0; shape.targets],
            outputs: Vec::new(),
        }
    }

    pub(crate) fn shape(&self) -> SumsShape {
        self.shape
    }

    pub(crate) fn clear(&mut self) {
        self.total_weight = 0.0;
        self.posterior_entropy = 0.0;
        self.log_evidence = 0.0;
        self.states.clear();
        self.mass.clear();
        self.targets.fill(0.0);
        self.outputs.clear();
    }

    /// Adds to the mass of a state. Returns the other sums of the state.
    pub(super) fn add_mass(&mut self, state: &[u64], mass: f64) -> &mut [f64] {
        let index = self.states.intern(state);
        let width = self.shape.outputs;
        if index == self.mass.len() {
            self.mass.push(0.0);
            self.outputs.resize(self.mass.len() * width, 0.0);
        }
        self.mass[index] += mass;
        &mut self.outputs[index * width..][..width]
    }

    /// Adds the sums over other points, times `factor`.
    pub(crate) fn add(&mut self, factor: f64, other: &Self) {
        self.total_weight += factor * other.total_weight;
        self.posterior_entropy += factor * other.posterior_entropy;
        self.log_evidence += factor * other.log_evidence;
        for (index, &mass) in other.mass.iter().enumerate() {
            let own = self.add_mass(other.states.key(index), factor * mass);
            let outputs = &other.outputs[index * own.len()..];
            own.iter_mut().zip(outputs).for_each(|(sum, output)| *sum += factor * output);
        }
        self.targets.iter_mut().zip(&other.targets).for_each(|(sum, t)| *sum += factor * t);
    }

    /// Returns the states, packed, and all numbers.
    pub(crate) fn parts(&self) -> (&[u64], impl Iterator<Item = f64>) {
        let header = [self.total_weight, self.posterior_entropy, self.log_evidence];
        let sums = self.mass.iter().chain(&self.targets).chain(&self.outputs);
        let numbers = header.into_iter().chain(sums.copied());
        (self.states.keys(), numbers)
    }

    /// Sums from their [`parts`](Self::parts); nothing, unless these fit each other and the network's sizes.
    pub(crate) fn from_parts(shape: SumsShape, states: &[u64], numbers: &[f64]) -> Option<Self> {
        let words = words(shape.latents);
        let n = states.len() / words;
        let expected =
            n.checked_mul(shape.outputs)?.checked_add(shape.targets)?.checked_add(3 + n)?;
        if numbers.len() != expected || !states.len().is_multiple_of(words) {
            return None;
        }
        let mut sums = Self::new(shape);
        for (index, state) in states.chunks(words).enumerate() {
            if sums.states.intern(state) != index {
                return None;
            }
        }
        [sums.total_weight, sums.posterior_entropy, sums.log_evidence] =
            [numbers[0], numbers[1], numbers[2]];
        sums.mass = numbers[3..3 + n].to_vec();
        let (targets, outputs) = numbers[3 + n..].split_at(shape.targets);
        sums.targets.copy_from_slice(targets);
        sums.outputs.extend_from_slice(outputs);
        Some(sums)
    }

    pub(crate) fn is_finite(&self) -> bool {
        let mut sums = self.mass.iter().chain(&self.targets).chain(&self.outputs);
        self.log_evidence.is_finite() && sums.all(|value| value.is_finite())
    }
}

/// Lists the states of some latents of a table, merged, with their masses as parts of `total`.
pub(super) fn design(sums: &TruncatedSums, latents: std::ops::Range<usize>, total: f64) -> Design {
    let n = latents.len();
    let mut table = StateTable::new(words(n));
    let mut mass: Vec<f64> = Vec::new();
    let mut key = vec![0; words(n)];
    for (index, m) in sums.mass.iter().enumerate() {
        key.fill(0);
        for_each_on(sums.states.key(index), |bit| {
            if latents.contains(&bit) {
                flip(&mut key, bit - latents.start);
            }
        });
        let index = table.intern(&key);
        if index == mass.len() {
            mass.push(0.0);
        }
        mass[index] += m / total;
    }
    let (mut starts, mut active) = (vec![0], Vec::new());
    for index in 0..table.len() {
        for_each_on(table.key(index), |bit| active.push(bit as u32));
        starts.push(active.len());
    }
    Design::listed(n, starts, active, mass)
}
