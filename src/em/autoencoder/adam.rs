//! Adam (Kingma & Ba 2015), which climbs here.

use crate::model::VariationalAutoencoder;
use crate::work::{Piece, Workers};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Decay of the means of gradients and of their squares, and the number that keeps quotients finite: those of the paper.
const BETA: [f64; 2] = [0.9, 0.999];
const EPSILON: f64 = 1e-8;

/// Parameters of a piece of a step: enough work for a thread to be worth the call.
pub(super) const PIECE: usize = 1 << 15;

/// How the step size changes while a fit lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LearningRateSchedule {
    /// It stays.
    Constant,
    /// It falls to 0 in the last step that is planned, as half a cosine: the noise of minibatches falls with it.
    #[default]
    Cosine,
}

impl LearningRateSchedule {
    /// All schedules.
    pub const ALL: [Self; 2] = [Self::Constant, Self::Cosine];

    /// Returns the name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Cosine => "cosine",
        }
    }
}

/// Step sizes, and running means of gradients.
#[derive(Clone, Debug)]
pub(super) struct Adam {
    pub rate: f64,
    schedule: LearningRateSchedule,
    /// Steps that are planned.
    planned: u64,
    pub moments: Moments,
    /// Parameters before the last step.
    before: Vec<f64>,
}

/// Running means, which a checkpoint keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Moments {
    pub steps: u64,
    first: Vec<f64>,
    second: Vec<f64>,
}

impl Adam {
    pub fn new(
        model: &VariationalAutoencoder,
        rate: f64,
        schedule: LearningRateSchedule,
        planned: u64,
    ) -> Self {
        let zeros = vec![0.0; model.n_network_parameters()];
        let moments = Moments { steps: 0, first: zeros.clone(), second: zeros.clone() };
        Self { rate, schedule, planned, moments, before: zeros }
    }

    /// Takes back means that belong to as many parameters as these. Returns whether they do.
    pub fn restore(&mut self, moments: Moments) -> bool {
        let len = self.before.len();
        let fits = moments.first.len() == len && moments.second.len() == len;
        if fits {
            self.moments = moments;
        }
        fits
    }

    /// Returns the step size of the next step.
    fn next_rate(&self) -> f64 {
        match self.schedule {
            LearningRateSchedule::Constant => self.rate,
            LearningRateSchedule::Cosine => {
                let done = self.moments.steps as f64 / self.planned.max(1) as f64;
                self.rate * 0.5 * (1.0 + (PI * done.min(1.0)).cos())
            }
        }
    }

    /// Moves parameters up a gradient.
    pub fn ascend(&mut self, parameters: &mut [f64], gradient: &[f64], workers: &dyn Workers) {
        let rate = self.next_rate();
        self.moments.steps = self.moments.steps.saturating_add(1);
        let t = self.moments.steps.min(i32::MAX as u64) as i32;
        let [first, second] = BETA.map(|beta| 1.0 / (1.0 - beta.powi(t)));
        let pieces = parameters
            .chunks_mut(PIECE)
            .zip(gradient.chunks(PIECE))
            .zip(self.before.chunks_mut(PIECE))
            .zip(self.moments.first.chunks_mut(PIECE))
            .zip(self.moments.second.chunks_mut(PIECE));
        let piece = |((((parameters, gradient), before), m), v)| {
            let (parameters, before): (&mut [f64], &mut [f64]) = (parameters, before);
            let (gradient, m, v): (&[f64], &mut [f64], &mut [f64]) = (gradient, m, v);
            Box::new(move || {
                before.copy_from_slice(parameters);
                for i in 0..parameters.len() {
                    let g = gradient[i];
                    m[i] += (1.0 - BETA[0]) * (g - m[i]);
                    v[i] += (1.0 - BETA[1]) * (g * g - v[i]);
                    parameters[i] += rate * (first * m[i]) / ((second * v[i]).sqrt() + EPSILON);
                }
            }) as Piece<'_>
        };
        workers.work(pieces.map(piece).collect());
    }

    /// Hears that a parameter was multiplied by a number: gradients with respect to it are then divided by it.
    pub fn hear_scaled(&mut self, index: usize, factor: f64) {
        self.before[index] *= factor;
        self.moments.first[index] /= factor;
        self.moments.second[index] /= factor * factor;
    }

    /// Returns how much of the first half of the planned steps is left: from 1 down to 0.
    pub fn left_of_first_half(&self) -> f64 {
        let done = 2.0 * self.moments.steps as f64 / self.planned.max(1) as f64;
        (1.0 - done).max(0.0)
    }

    /// Takes the last step back, if there was one.
    pub fn step_back(&self, parameters: &mut [f64]) {
        if self.moments.steps > 0 {
            parameters.copy_from_slice(&self.before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_falls_from_the_rate_to_zero() {
        let moments = Moments { steps: 0, first: vec![], second: vec![] };
        let schedule = LearningRateSchedule::Cosine;
        let mut adam = Adam { rate: 0.4, schedule, planned: 100, moments, before: vec![] };
        assert_eq!(adam.next_rate(), 0.4);
        adam.moments.steps = 50;
        assert!((adam.next_rate() - 0.2).abs() < 1e-15);
        for steps in [100, 200] {
            adam.moments.steps = steps;
            assert_eq!(adam.next_rate(), 0.0);
        }
    }
}
