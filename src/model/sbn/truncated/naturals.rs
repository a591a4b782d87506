//! Natural parameters state by state: for decoders with hidden layers, and for points that lack values.
//!
//! A value that is missing is a latent too. Given a state it is `N(μ_d(z), σ_d²)`, so it adds nothing to the joint probability of the
//! others, its mean and mean square take its place in the statistics, and its entropy joins that of the posterior. M-step, bound and
//! entropies know no difference.

use super::super::decoder::outputs_of;
use super::super::table::for_each_on;
use super::{Columns, SearchWorkspace, Searcher};
use crate::model::SigmoidBeliefNet;
use crate::model::autoencoder::Network;
use std::f64::consts::{E, PI};

impl SigmoidBeliefNet {
    /// Returns network and parameters that make natural parameters of a state, if the decoder has hidden layers.
    pub(super) fn natural_network(&self) -> Option<(Network, Vec<f64>)> {
        let gaussian = self.gaussian.as_ref()?;
        let decoder = gaussian.decoder.as_ref()?;
        Some(decoder.natural(self.observables(), &gaussian.variances))
    }
}

impl Columns {
    /// Lists what each latent changes of the natural parameters where it alone is on: a guide for proposals.
    pub(super) fn alone((network, parameters): &(Network, Vec<f64>), latents: usize) -> Self {
        let mut state = vec![0.0; latents];
        let bias = outputs_of(network, parameters, &state);
        let column = |h: usize| {
            state[h] = 1.0;
            let mut column = outputs_of(network, parameters, &state);
            state[h] = 0.0;
            column.iter_mut().zip(&bias).for_each(|(on, off)| *on -= off);
            column
        };
        Self { inputs: (0..latents).map(column).collect(), bias }
    }
}

impl SearchWorkspace {
    /// Forgets what is known of states.
    pub(super) fn forget_states(&mut self) {
        self.remembered.clear();
        self.own_parts.clear();
        self.naturals.clear();
        self.tried.clear();
    }
}

impl Searcher {
    /// Whether points may lack values.
    pub(super) fn may_miss(&self) -> bool {
        self.gaussian.as_ref().is_some_and(|gaussian| gaussian.ignores_missing)
    }

    /// Whether natural parameters are kept state by state.
    pub(super) fn keeps_naturals(&self) -> bool {
        self.network.is_some() || self.may_miss()
    }

    /// Computes the natural parameters of a state by the network.
    pub(super) fn network_outputs(
        &self,
        (network, parameters): &(Network, Vec<f64>),
        state: &[u64],
        natural: &mut [f64],
    ) {
        let mut z = vec![0.0; self.latents];
        for_each_on(state, |bit| z[bit] = 1.0);
        natural.copy_from_slice(&outputs_of(network, parameters, &z));
    }

    /// Computes what a point adds to the joint probability of a state that is remembered: `x · η`, less the log-partition of the values that
    /// the point has, if it may lack some.
    pub(super) fn part_of_point(&self, i: usize, index: usize, workspace: &SearchWorkspace) -> f64 {
        let x = &workspace.points[i * self.dim..][..self.dim];
        let natural = &workspace.naturals[index * self.dim..][..self.dim];
        let terms = x.iter().zip(natural);
        match &self.gaussian {
            Some(gaussian) if gaussian.ignores_missing => {
                let present = &workspace.present[i * self.dim..][..self.dim];
                let terms = terms.zip(&gaussian.variances).zip(present);
                let terms = terms.filter(|(_, present)| **present);
                terms.map(|(((x, eta), variance), _)| eta * (x - 0.5 * variance * eta)).sum()
            }
            _ => terms.map(|(x, eta)| x * eta).sum(),
        }
    }

    /// Adds what the M-step needs of the values that a point lacks. `order` says which entries are the states of its set.
    pub(super) fn add_missing(
        &self,
        i: usize,
        weight: f64,
        set: &[u64],
        order: &[u32],
        workspace: &mut SearchWorkspace,
    ) {
        let Some(gaussian) = &self.gaussian else { return };
        let (dim, words) = (self.dim, workspace.proposal.len());
        let SearchWorkspace { present, naturals, entries, q, sums_of_states, .. } = workspace;
        let present = &present[i * dim..][..dim];
        let missing: Vec<usize> = (0..dim).filter(|&d| !present[d]).collect();
        if missing.is_empty() {
            return;
        }
        let n = self.latents + 1;
        for ((state, &k), &q) in set.chunks(words).zip(order).zip(&*q).filter(|(_, q)| **q > 0.0) {
            let natural = &naturals[entries[k as usize].1 as usize * dim..][..dim];
            let mean = |d: usize| gaussian.variances[d] * natural[d];
            let outputs = sums_of_states.add_mass(state, 0.0);
            if !outputs.is_empty() {
                missing.iter().for_each(|&d| outputs[d] += weight * q * mean(d));
            }
            let (targets, squares) = sums_of_states.targets.split_at_mut(n * dim);
            for &d in &missing {
                let row = &mut targets[d * n..][..n];
                let value = weight * q * mean(d);
                for_each_on(state, |bit| row[bit] += value);
                row[n - 1] += value;
                squares[d] += weight * q * (mean(d) * mean(d) + gaussian.variances[d]);
            }
        }
        let entropy = missing.iter().map(|&d| 0.5 * (2.0 * PI * E * gaussian.variances[d]).ln());
        sums_of_states.posterior_entropy += weight * entropy.sum::<f64>();
    }
}

/// Sets values that are missing to 0, and tells which are present.
pub(super) fn set_apart(point: &mut [f64], present: &mut [bool]) {
    for (value, present) in point.iter_mut().zip(present) {
        *present = !value.is_nan();
        if !*present {
            *value = 0.0;
        }
    }
}
