//! Sums of an E-step with truncated posteriors.

use super::super::regression::Design;
use super::super::table::{StateTable, flip, for_each_on, words};

/// Sums over points under truncated posteriors.
#[derive(Clone, Debug)]
pub(crate) struct TruncatedSums {
    pub(crate) total_weight: f64,
    pub(crate) posterior_entropy: f64,
    pub(crate) log_evidence: f64,
    pub(super) states: StateTable,
    pub(super) mass: Vec<f64>,
    /// `⟨x (z, 1)'⟩`, D × (J + 1); then `⟨x_d²⟩` of Gaussian observables.
    pub(super) targets: Vec<f64>,
}

impl TruncatedSums {
    pub(crate) fn new(latents: usize, targets: usize) -> Self {
        Self {
            total_weight: 0.0,
            posterior_entropy: 0.0,
            log_evidence: 0.0,
            states: StateTable::new(words(latents)),
            mass: Vec::new(),
            targets: vec![0.0; targets],
        }
    }

    pub(crate) fn clear(&mut self) {
        self.total_weight = 0.0;
        self.posterior_entropy = 0.0;
        self.log_evidence = 0.0;
        self.states.clear();
        self.mass.clear();
        self.targets.fill(0.0);
    }

    pub(super) fn add_mass(&mut self, state: &[u64], mass: f64) {
        let index = self.states.intern(state);
        if index == self.mass.len() {
            self.mass.push(0.0);
        }
        self.mass[index] += mass;
    }

    /// Adds the sums over other points, times `factor`.
    pub(crate) fn add(&mut self, factor: f64, other: &Self) {
        self.total_weight += factor * other.total_weight;
        self.posterior_entropy += factor * other.posterior_entropy;
        self.log_evidence += factor * other.log_evidence;
        for (index, &mass) in other.mass.iter().enumerate() {
            self.add_mass(other.states.key(index), factor * mass);
        }
        self.targets.iter_mut().zip(&other.targets).for_each(|(sum, t)| *sum += factor * t);
    }

    /// Returns the states, packed, and all numbers.
    pub(crate) fn parts(&self) -> (&[u64], impl Iterator<Item = f64>) {
        let header = [self.total_weight, self.posterior_entropy, self.log_evidence];
        let numbers = header.into_iter().chain(self.mass.iter().chain(&self.targets).copied());
        (self.states.keys(), numbers)
    }

    /// Sums from their [`parts`](Self::parts); nothing, unless these fit each other and the network's sizes.
    pub(crate) fn from_parts(
        latents: usize,
        targets: usize,
        states: &[u64],
        numbers: &[f64],
    ) -> Option<Self> {
        let mut sums = Self::new(latents, targets);
        let n = states.len() / words(latents);
        if numbers.len() != 3 + n + targets || !states.len().is_multiple_of(words(latents)) {
            return None;
        }
        for (index, state) in states.chunks(words(latents)).enumerate() {
            if sums.states.intern(state) != index {
                return None;
            }
        }
        [sums.total_weight, sums.posterior_entropy, sums.log_evidence] =
            [numbers[0], numbers[1], numbers[2]];
        sums.mass = numbers[3..3 + n].to_vec();
        sums.targets.copy_from_slice(&numbers[3 + n..]);
        Some(sums)
    }

    pub(crate) fn is_finite(&self) -> bool {
        self.log_evidence.is_finite()
            && self.mass.iter().chain(&self.targets).all(|v| v.is_finite())
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
