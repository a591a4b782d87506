//! Repairs of components with too few points for an M-step.
//!
//! Such a component takes half of the component with the largest entropy contribution, while splits are left. After that it
//! is discarded.

use crate::family::Outcome;
use crate::monitor::Event;
use crate::stats::SuffStats;
use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap};

/// A component with a smaller mass, in points, is dead: its statistics define no parameters.
pub(super) const DEAD_POINTS: f64 = 1e-2;

/// How far the halves of a component move apart at first where points keep sets of components, as a part of the way between the halves of
/// its points.
pub(super) const STEP_APART: f64 = 1e-2;

/// A mixture whose components can be split and discarded.
pub(super) trait Repairable {
    /// Returns the mixing weights; 0 for discarded components.
    fn weights_mut(&mut self) -> &mut [f64];

    /// Returns the flags of discarded components.
    fn discarded_mut(&mut self) -> &mut [bool];

    /// Tells whether a component must stay as it is.
    fn is_held(&self, component: usize) -> bool;

    /// Returns the contribution of each component to prior and observable entropy. The donor of a split has the largest.
    fn entropy_contributions(&self) -> Vec<f64>;

    /// Returns the same of a single component.
    fn entropy_contribution(&self, component: usize) -> f64;

    /// Splits `donor` into two halves, `component` and `donor`. Returns false if that is impossible.
    fn split(&mut self, donor: usize, component: usize) -> bool;
}

/// Tells for each component whether it has enough points for an M-step.
pub(super) fn have_enough_points(stats: &SuffStats) -> Vec<bool> {
    let points = points_per_mass(stats);
    stats.mass().iter().map(|mass| mass * points >= DEAD_POINTS).collect()
}

/// Turns the outcomes of an M-step into events.
pub(super) fn events_of(outcomes: &[Outcome]) -> Vec<Event> {
    let those =
        |outcome| (0..outcomes.len()).filter(|&c| outcomes[c] == outcome).collect::<Vec<_>>();
    let (constant, kept) = (those(Outcome::Constant), those(Outcome::Degenerate));
    let column_of = |(c, outcome): (usize, &Outcome)| match *outcome {
        Outcome::Floored(column) => Some((c, column)),
        _ => None,
    };
    let (components, columns): (Vec<_>, Vec<_>) =
        outcomes.iter().enumerate().filter_map(column_of).unzip();
    let columns: BTreeSet<usize> = columns.into_iter().flatten().collect();
    let mut events = Vec::new();
    if !components.is_empty() {
        events.push(Event::Floored { components, columns: columns.into_iter().collect() });
    }
    if !constant.is_empty() {
        events.push(Event::Constant { components: constant });
    }
    if !kept.is_empty() {
        events.push(Event::Kept { components: kept });
    }
    events
}

fn points_per_mass(stats: &SuffStats) -> f64 {
    stats.n_points() / stats.mass().iter().sum::<f64>()
}

/// Splits another component for each dead one while splits are left, then discards the dead ones.
pub(super) fn split_or_discard(
    model: &mut impl Repairable,
    stats: &SuffStats,
    splits_left: &mut usize,
) -> Vec<Event> {
    let points = points_per_mass(stats);
    let n_components = stats.shape().components;
    let mut active = model.discarded_mut().iter().filter(|&&discarded| !discarded).count();
    let (mut events, mut donors, mut any_discarded) = (Vec::new(), None, false);
    for c in 0..n_components {
        let n = stats.mass()[c] * points;
        if model.discarded_mut()[c] || model.is_held(c) || n >= DEAD_POINTS {
            continue;
        }
        if *splits_left > 0 {
            let donors = donors.get_or_insert_with(|| donors_of(model, stats));
            if let Some(Donor { component: donor, .. }) = donors.peek().copied()
                && model.split(donor, c)
            {
                donors.pop();
                let weights = model.weights_mut();
                let weight = (weights[donor] + weights[c]) / 2.0;
                weights[donor] = weight;
                weights[c] = weight;
                donors.push(Donor {
                    contribution: model.entropy_contribution(donor),
                    component: donor,
                });
                *splits_left -= 1;
                events.push(Event::Split { component: c, donor });
                continue;
            }
        }
        if active > 1 {
            active -= 1;
            any_discarded = true;
            model.discarded_mut()[c] = true;
            model.weights_mut()[c] = 0.0;
            let reason = format!("{n:.3} points' worth of mass");
            events.push(Event::Discarded { component: c, reason });
        }
    }
    if any_discarded {
        let weights = model.weights_mut();
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= total);
    }
    events
}

/// A component that can be split.
#[derive(Clone, Copy, Debug)]
struct Donor {
    contribution: f64,
    component: usize,
}

impl Ord for Donor {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_contribution = self.contribution.total_cmp(&other.contribution);
        by_contribution.then(self.component.cmp(&other.component))
    }
}

impl PartialOrd for Donor {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Donor {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Donor {}

/// Returns the components with enough points to be split.
fn donors_of(model: &mut impl Repairable, stats: &SuffStats) -> BinaryHeap<Donor> {
    let points = points_per_mass(stats);
    let contributions = model.entropy_contributions();
    let mut donors = Vec::new();
    for (component, &contribution) in contributions.iter().enumerate() {
        let is_free = !model.is_held(component) && !model.discarded_mut()[component];
        if is_free && stats.mass()[component] * points >= 2.0 {
            donors.push(Donor { contribution, component });
        }
    }
    donors.into()
}

/// Removes the values of components without a flag in `keep`.
pub(super) fn retain_flagged<V>(values: &mut Vec<V>, keep: &[bool]) {
    let mut flags = keep.iter();
    values.retain(|_| *flags.next().expect("one flag a component"));
}

/// Computes the contribution `π_c (H_c - ln π_c)` of each component to prior and observable entropy, from its weight and its
/// entropy `H_c`.
pub(super) fn entropy_contributions(weights: &[f64], entropies: &[f64]) -> Vec<f64> {
    let part = |(&w, h): (&f64, &f64)| if w > 0.0 { w * (h - w.ln()) } else { 0.0 };
    weights.iter().zip(entropies).map(part).collect()
}

/// Changes statistics as repairs have changed the components. `expect` sets the statistics of a component to their expectation
/// for a given mass.
pub(super) fn adopt_repairs(
    events: &[Event],
    stats: &mut SuffStats,
    expect: impl Fn(usize, f64, &mut SuffStats),
) {
    for event in events {
        match *event {
            Event::Split { component, donor } => {
                let mass = (stats.mass()[component] + stats.mass()[donor]) / 2.0;
                for c in [component, donor] {
                    expect(c, mass, stats);
                }
            }
            Event::Discarded { component, .. } => {
                // The others take over its points, in proportion.
                let total: f64 = stats.mass().iter().sum();
                let rest = total - stats.mass()[component];
                for c in 0..stats.mass().len() {
                    let factor = if c == component { 0.0 } else { total / rest };
                    stats.mass_mut()[c] *= factor;
                    stats.sums_mut(c).iter_mut().for_each(|sum| *sum *= factor);
                }
            }
            _ => {}
        }
    }
}
