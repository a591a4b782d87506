//! States of fits as plain numbers, for checkpoints.

use crate::model::EntropySum;
use crate::monitor::{IterRecord, Minibatch};
use crate::stats::{DataConstants, StatsShape, SuffStats};

/// Appends statistics, or that there are none.
pub(super) fn write_stats(out: &mut Vec<f64>, stats: Option<&SuffStats>) {
    let Some(stats) = stats else { return out.push(0.0) };
    let StatsShape { components, statistics, shared, centre } = stats.shape();
    out.extend([1.0, components as f64, statistics as f64, shared as f64, centre as f64]);
    out.extend_from_slice(stats.as_slice());
    out.extend_from_slice(stats.centres());
}

/// Numbers that are taken one after another.
pub(super) struct Reader<'a>(pub &'a [f64]);

impl<'a> Reader<'a> {
    /// What [`write_constants`] wrote; nothing where the numbers are damaged.
    #[allow(clippy::option_option, reason = "absent and damaged are not the same")]
    pub fn constants(&mut self) -> Option<Option<DataConstants>> {
        if self.count()? == 0 {
            return Some(None);
        }
        let log_base_measure = self.next()?;
        let (shared, centre) = (self.count()? as usize, self.count()? as usize);
        let shared = self.take(shared)?.to_vec();
        let centre = self.take(centre)?.to_vec();
        Some(Some(DataConstants { log_base_measure, shared, centre }))
    }

    /// What [`write_records`] wrote.
    pub fn records(&mut self) -> Option<Vec<IterRecord>> {
        let mut records = Vec::new();
        for _ in 0..self.count()? {
            let record = IterRecord {
                iteration: self.count()? as usize,
                seconds: self.next()?,
                points_seen: self.count()?,
                entropy_sum: EntropySum {
                    posterior: self.next()?,
                    prior: self.next()?,
                    hidden: self.next()?,
                    observable: self.next()?,
                    base_measure: self.next()?,
                },
                lower_bound: self.next()?,
                log_likelihood: self.next()?,
                change: self.next()?,
                active_components: self.count()? as usize,
                events: Vec::new(),
                minibatch: {
                    let there = self.count()? == 1;
                    let minibatch = Minibatch {
                        step_size: self.next()?,
                        effective_points: self.next()?,
                        standard_error: self.next()?,
                        improvement: self.next()?,
                        remaining: self.next()?,
                        audit: self.next()?,
                    };
                    there.then_some(minibatch)
                },
            };
            records.push(record);
        }
        Some(records)
    }

    pub fn next(&mut self) -> Option<f64> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub fn count(&mut self) -> Option<u64> {
        let value = self.next()?;
        ((0.0..9e15).contains(&value) && value.fract() == 0.0).then_some(value as u64)
    }

    pub fn take(&mut self, count: usize) -> Option<&'a [f64]> {
        let (values, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(values)
    }

    /// Statistics, or that there are none; nothing where the numbers are damaged.
    #[allow(clippy::option_option, reason = "absent and damaged are not the same")]
    pub fn stats(&mut self) -> Option<Option<SuffStats>> {
        if self.count()? == 0 {
            return Some(None);
        }
        let mut size = || self.count().map(|count| count as usize);
        let shape = StatsShape {
            components: size()?,
            statistics: size()?,
            shared: size()?,
            centre: size()?,
        };
        let sums = shape.components.checked_mul(shape.statistics.checked_add(1)?)?;
        let n_centres = shape.components.checked_mul(shape.centre)?;
        let values = 5usize.checked_add(sums)?.checked_add(shape.shared)?;
        // Before memory is asked for: a damaged size may be anything.
        if values.checked_add(n_centres)? > self.0.len() {
            return None;
        }
        let (values, centres) = self.0.split_at(values);
        let centres = &centres[..n_centres];
        let mut stats = SuffStats::zeros(shape, centres.to_vec());
        stats.as_mut_slice().copy_from_slice(values);
        self.take(values.len() + n_centres)?;
        Some(Some(stats))
    }
}

/// Appends what sweeps have summed once for all, or that they have not.
pub(super) fn write_constants(out: &mut Vec<f64>, constants: Option<&DataConstants>) {
    let Some(constants) = constants else { return out.push(0.0) };
    let DataConstants { log_base_measure, shared, centre } = constants;
    out.extend([1.0, *log_base_measure, shared.len() as f64, centre.len() as f64]);
    out.extend(shared);
    out.extend(centre);
}

/// Appends the records of a history, but for their events.
pub(super) fn write_records(out: &mut Vec<f64>, records: &[IterRecord]) {
    out.push(records.len() as f64);
    for r in records {
        let sum = &r.entropy_sum;
        out.extend([
            r.iteration as f64,
            r.seconds,
            r.points_seen as f64,
            sum.posterior,
            sum.prior,
            sum.hidden,
            sum.observable,
            sum.base_measure,
            r.lower_bound,
            r.log_likelihood,
            r.change,
            r.active_components as f64,
            f64::from(u8::from(r.minibatch.is_some())),
        ]);
        let m = r.minibatch.unwrap_or_default();
        out.extend([
            m.step_size,
            m.effective_points,
            m.standard_error,
            m.improvement,
            m.remaining,
            m.audit,
        ]);
    }
}
