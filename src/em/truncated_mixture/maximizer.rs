//! The half of the learner that sees no point: the mixture, and the lists by which points look for components.

use crate::em::checkpoint::{damaged, decode, encode};
use crate::em::learner::Maximizer;
use crate::em::model_learner::ModelMaximizer;
use crate::error::Result;
use crate::family::Regularization;
use crate::model::component_table::SearchableMixture;
use crate::model::{EntropySum, GenerativeModel};
use crate::monitor::Event;
use crate::search::{Cells, Lists};
use crate::stats::SuffStats;
use crate::work::Workers;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A mixture with truncated posteriors, and the settings of its M-step.
#[derive(Clone, Debug)]
pub struct TruncatedMixtureMaximizer<M> {
    mixture: ModelMaximizer<M>,
    pub(super) search: Search,
}

/// What the search for components knows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Search {
    /// E-steps that are done.
    pub steps: u64,
    /// Logits that they computed.
    pub evaluations: u64,
    /// The neighbours of each component.
    pub neighbours: Lists,
    /// Where points without a set begin to look.
    pub cells: Cells,
    /// Points that were visited since the neighbours were improved, and since the cells were made.
    pub since_neighbours: u64,
    pub since_cells: u64,
    /// Components that were split, and their other halves: the sets of points do not know these yet.
    pub halves: BTreeMap<u32, u32>,
}

/// What a model file does not hold of the learner.
#[derive(Serialize, Deserialize)]
struct Saved {
    mixture: Vec<u8>,
    search: Search,
}

impl<M: GenerativeModel> TruncatedMixtureMaximizer<M> {
    pub(super) fn new(model: M, regularization: Regularization) -> Self {
        let mixture = ModelMaximizer::new(model, regularization);
        Self { mixture, search: Search::default() }
    }
}

impl<M: SearchableMixture> Maximizer for TruncatedMixtureMaximizer<M> {
    type Model = M;
    type Statistics = SuffStats;

    fn model(&self) -> &M {
        self.mixture.model()
    }

    fn model_mut(&mut self) -> &mut M {
        self.mixture.model_mut()
    }

    fn maximize(&mut self, statistics: &SuffStats, workers: &dyn Workers) -> Result<Vec<Event>> {
        self.mixture.maximize(statistics, workers)
    }

    fn evaluate(&self, statistics: &SuffStats, workers: &dyn Workers) -> (f64, EntropySum) {
        self.mixture.evaluate(statistics, workers)
    }

    fn log_likelihood(&self, statistics: &SuffStats) -> f64 {
        self.mixture.log_likelihood(statistics)
    }

    fn repair(&mut self, statistics: &SuffStats) -> Vec<Event> {
        let events = self.mixture.repair(statistics);
        for event in &events {
            if let Event::Split { component, donor } = *event {
                let halves = &mut self.search.halves;
                // What was split before stays within reach, by way of the new half.
                match halves.insert(donor as u32, component as u32) {
                    Some(before) => halves.insert(component as u32, before),
                    None => halves.remove(&(component as u32)),
                };
            }
        }
        events
    }

    fn adopt(&self, repairs: &[Event], statistics: &mut SuffStats) {
        self.mixture.adopt(repairs, statistics);
    }

    fn recentre(&mut self) {
        self.mixture.recentre();
    }

    fn translate(&self, statistics: &mut SuffStats) {
        self.mixture.translate(statistics);
    }

    fn displacement(&self, before: &SuffStats, now: &SuffStats, workers: &dyn Workers) -> f64 {
        self.mixture.displacement(before, now, workers)
    }

    fn n_parameters(&self) -> usize {
        self.mixture.n_parameters()
    }

    fn active_components(&self) -> usize {
        self.mixture.active_components()
    }

    fn save(&self) -> Vec<u8> {
        encode(&Saved { mixture: self.mixture.save(), search: self.search.clone() })
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let Saved { mixture, search } = decode(bytes)?;
        self.mixture.restore(&mixture)?;
        let n_components = self.model().weights().len();
        let exist = |component: &u32| (*component as usize) < n_components;
        let lists = &search.neighbours;
        let is_valid = (lists.is_empty() || lists.are_neighbours_of(n_components))
            && lists.are_valid(n_components)
            && search.cells.are_valid(n_components)
            && search.halves.iter().all(|(donor, half)| exist(donor) && exist(half));
        if !is_valid {
            return Err(damaged());
        }
        self.search = search;
        Ok(())
    }

    fn finish(&mut self) -> Vec<Event> {
        self.mixture.finish()
    }
}
