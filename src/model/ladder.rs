//! The ladder for components that their statistics no longer define: split another one while splits are left, then
//! discard; and what the M-step tells of components.

use crate::family::Outcome;
use crate::monitor::Event;
use crate::stats::SuffStats;

/// A component with less than this many points' worth of mass is dead: its statistics define nothing.
pub(super) const DEAD_POINTS: f64 = 1e-2;

/// A mixture whose components can take each other's places.
pub(super) trait Ladder {
    /// Mixing weights; 0 for discarded components.
    fn weights_mut(&mut self) -> &mut [f64];

    /// Components out of use.
    fn discarded_mut(&mut self) -> &mut [bool];

    /// Whether a component must stay as it is.
    fn is_held(&self, component: usize) -> bool;

    /// Each component's part of the prior and observable entropy; the donor of a split has the largest.
    fn entropy_contributions(&self) -> Vec<f64>;

    /// Puts `component` and `donor` side by side in the place of `donor`. False where that cannot be.
    fn split(&mut self, donor: usize, component: usize) -> bool;
}

/// Which components the statistics define.
pub(super) fn defined(stats: &SuffStats) -> Vec<bool> {
    let points = points_per_mass(stats);
    stats.mass().iter().map(|mass| mass * points >= DEAD_POINTS).collect()
}

/// What an M-step tells of the components.
pub(super) fn events(outcomes: &[Outcome]) -> Vec<Event> {
    let those =
        |outcome| (0..outcomes.len()).filter(|&c| outcomes[c] == outcome).collect::<Vec<_>>();
    let (floored, kept) = (those(Outcome::Floored), those(Outcome::Degenerate));
    let mut events = Vec::new();
    if !floored.is_empty() {
        events.push(Event::Floored { components: floored });
    }
    if !kept.is_empty() {
        events.push(Event::Kept { components: kept });
    }
    events
}

fn points_per_mass(stats: &SuffStats) -> f64 {
    stats.n_points() / stats.mass().iter().sum::<f64>()
}

/// Moves dead components to the place of the one with the largest entropy contribution while splits are left, then
/// discards them.
pub(super) fn repair(
    model: &mut impl Ladder,
    stats: &SuffStats,
    splits_left: &mut usize,
) -> Vec<Event> {
    let points = points_per_mass(stats);
    let n_components = stats.shape().components;
    let mut events = Vec::new();
    for c in 0..n_components {
        let n = stats.mass()[c] * points;
        if model.discarded_mut()[c] || model.is_held(c) || n >= DEAD_POINTS {
            continue;
        }
        let contributions = model.entropy_contributions();
        let donor = (0..n_components)
            .filter(|&d| {
                d != c
                    && !model.is_held(d)
                    && !model.discarded_mut()[d]
                    && stats.mass()[d] * points >= 2.0
            })
            .max_by(|&a, &b| contributions[a].total_cmp(&contributions[b]));
        if let Some(donor) = donor.filter(|_| *splits_left > 0)
            && model.split(donor, c)
        {
            let weights = model.weights_mut();
            let weight = (weights[donor] + weights[c]) / 2.0;
            weights[donor] = weight;
            weights[c] = weight;
            *splits_left -= 1;
            events.push(Event::Split { component: c, donor });
            continue;
        }
        if model.discarded_mut().iter().filter(|&&discarded| !discarded).count() > 1 {
            model.discarded_mut()[c] = true;
            let weights = model.weights_mut();
            weights[c] = 0.0;
            let total: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|w| *w /= total);
            let reason = format!("{n:.3} points' worth of mass");
            events.push(Event::Discarded { component: c, reason });
        }
    }
    events
}

/// Keeps the values of the components still in use.
pub(super) fn retain<V>(values: &mut Vec<V>, keep: &[bool]) {
    let mut flags = keep.iter();
    values.retain(|_| *flags.next().expect("one flag a component"));
}

/// Each component's part `π_c (H_c - ln π_c)` of the entropies, from its weight and its entropy `H_c`.
pub(super) fn contributions(weights: &[f64], entropies: &[f64]) -> Vec<f64> {
    let part = |(&w, h): (&f64, &f64)| if w > 0.0 { w * (h - w.ln()) } else { 0.0 };
    weights.iter().zip(entropies).map(part).collect()
}
/// Makes statistics agree with repairs. `expect` sets those of a component to the expected ones of so much mass of it.
pub(super) fn adopt(
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
