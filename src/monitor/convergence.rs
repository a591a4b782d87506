//! When to stop a batch fit.

use super::IterRecord;
use crate::error::{Error, Result};

/// The value whose change decides on convergence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Monitor {
    /// The entropy sum after the M-step.
    #[default]
    EntropySum,
    /// The log-likelihood of the parameters before the M-step.
    LogLikelihood,
    /// The lower bound after the M-step.
    LowerBound,
    /// Entropy sum minus log-likelihood; converged when it is itself small.
    Delta,
}

impl Monitor {
    /// Every monitor.
    pub const ALL: [Self; 4] =
        [Self::EntropySum, Self::LogLikelihood, Self::LowerBound, Self::Delta];

    /// Name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::EntropySum => "entropy-sum",
            Self::LogLikelihood => "log-likelihood",
            Self::LowerBound => "lower-bound",
            Self::Delta => "delta",
        }
    }

    /// The value that is watched.
    pub fn value(self, record: &IterRecord) -> f64 {
        match self {
            Self::EntropySum => record.entropy_sum.total(),
            Self::LogLikelihood => record.log_likelihood,
            Self::LowerBound => record.lower_bound,
            Self::Delta => record.delta(),
        }
    }
}

/// Stops on a small change of the monitored value, per point and in nats, so that tolerances do not depend on N.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Convergence {
    /// What is watched.
    pub monitor: Monitor,
    /// Stop when the change is at most this, in nats per point.
    pub tol: f64,
    /// Stop when the change is at most this part of the value; 0 for never.
    pub rtol: f64,
    pub(crate) last: Option<f64>,
}

impl Convergence {
    /// A rule.
    ///
    /// # Errors
    /// If a tolerance is negative or not a number.
    pub fn new(monitor: Monitor, tol: f64, rtol: f64) -> Result<Self> {
        for (name, value) in [("tol", tol), ("rtol", rtol)] {
            if !(value >= 0.0) {
                return Err(Error::Config(format!("{name} is {value}, expected a number ≥ 0")));
            }
        }
        Ok(Self { monitor, tol, rtol, last: None })
    }

    /// Enters the change into a record and tells whether the fit has converged.
    ///
    /// The first change of a bound is counted from the log-likelihood before the M-step; that of the log-likelihood
    /// itself is infinite. After a repair the iteration cannot be the last.
    #[cfg(test)]
    pub fn update(&mut self, record: &mut IterRecord) -> bool {
        let is_repaired = record.events.iter().any(super::Event::is_repair);
        let (sum, bound) = (record.entropy_sum.total(), record.lower_bound);
        let (change, is_small) = self.judge(record.log_likelihood, bound, sum, is_repaired);
        record.change = change;
        is_small
    }

    /// The same of an iteration without a record. Returns the change too.
    pub(crate) fn judge(
        &mut self,
        log_likelihood: f64,
        lower_bound: f64,
        entropy_sum: f64,
        is_repaired: bool,
    ) -> (f64, bool) {
        let value = match self.monitor {
            Monitor::EntropySum => entropy_sum,
            Monitor::LogLikelihood => log_likelihood,
            Monitor::LowerBound => lower_bound,
            Monitor::Delta => entropy_sum - log_likelihood,
        };
        let change = match (self.monitor, self.last) {
            (Monitor::Delta, _) => value,
            (_, Some(last)) => value - last,
            (Monitor::LogLikelihood, None) => f64::INFINITY,
            (_, None) => value - log_likelihood,
        };
        self.last = Some(value);
        let scale = if self.monitor == Monitor::Delta { log_likelihood } else { value };
        let is_small = change.abs() <= self.tol.max(self.rtol * scale.abs());
        (change, is_small && !is_repaired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::EntropySum;

    fn record(log_likelihood: f64, entropy_sum: f64) -> IterRecord {
        IterRecord {
            iteration: 1,
            seconds: 0.0,
            points_seen: 0,
            entropy_sum: EntropySum { observable: -entropy_sum, ..Default::default() },
            lower_bound: entropy_sum,
            log_prior: None,
            log_likelihood,
            change: f64::NAN,
            active_components: 1,
            events: vec![],
            minibatch: None,
            gap_halves: None,
            joint_evaluations: None,
        }
    }

    #[test]
    fn each_monitor_stops_on_its_own_change() {
        let path = [(-10.0, -6.0), (-5.0, -4.5), (-4.4, -4.4)];
        let stops = |monitor, tol, rtol| {
            let mut rule = Convergence::new(monitor, tol, rtol).unwrap();
            path.iter().position(|&(l, f)| rule.update(&mut record(l, f)))
        };
        assert_eq!(stops(Monitor::EntropySum, 0.2, 0.0), Some(2));
        assert_eq!(stops(Monitor::EntropySum, 2.0, 0.0), Some(1));
        assert_eq!(stops(Monitor::EntropySum, 0.0, 0.5), Some(1));
        assert_eq!(stops(Monitor::LogLikelihood, 0.7, 0.0), Some(2));
        assert_eq!(stops(Monitor::LogLikelihood, 5.0, 0.0), Some(1));
        assert_eq!(stops(Monitor::Delta, 0.6, 0.0), Some(1));
        assert_eq!(stops(Monitor::LowerBound, 0.01, 0.0), None);
    }

    #[test]
    fn an_iteration_with_a_repair_is_not_the_last() {
        let mut rule = Convergence::new(Monitor::EntropySum, 1.0, 0.0).unwrap();
        let mut repaired = record(-1.0, -1.0);
        repaired.events.push(super::super::Event::Split { component: 0, donor: 1 });
        assert!(!rule.update(&mut repaired));
        assert!(rule.update(&mut record(-1.0, -1.0)));
    }

    #[test]
    fn tolerances_must_be_numbers_from_zero() {
        assert!(Convergence::new(Monitor::EntropySum, -1.0, 0.0).is_err());
        assert!(Convergence::new(Monitor::EntropySum, 0.0, f64::NAN).is_err());
    }
}
