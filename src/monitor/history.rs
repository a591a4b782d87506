//! The history of a fit as a table.

use super::{GapHalves, IterRecord, Minibatch};
use std::io::{self, Write};

/// Names of the columns, in order.
pub const COLUMNS: [&str; 15] = [
    "iteration",
    "seconds",
    "points_seen",
    "entropy_sum",
    "posterior_entropy",
    "prior_entropy",
    "hidden_entropy",
    "observable_entropy",
    "base_measure",
    "lower_bound",
    "gap",
    "log_likelihood",
    "delta",
    "change",
    "active_components",
];

/// Names of the further columns of fits under a prior.
pub const PRIOR_COLUMNS: [&str; 1] = ["log_prior"];

/// Names of the further columns of fits by minibatches.
pub const MINIBATCH_COLUMNS: [&str; 6] =
    ["step_size", "effective_points", "standard_error", "improvement", "remaining", "audit"];

/// Names of the further columns of models that tell both halves of the gap.
pub const HALVES_COLUMNS: [&str; 3] = ["gap_prior", "gap_noise", "sampling_error"];

/// Names of the further columns of mixtures with truncated posteriors.
pub const TRUNCATED_COLUMNS: [&str; 1] = ["joint_evaluations"];

/// Holds the records of a fit, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// One record an iteration.
    pub records: Vec<IterRecord>,
}

impl History {
    /// Returns the history by columns, named as in the file of [`write_csv`](Self::write_csv). A value that is not known is NaN.
    ///
    /// ```
    /// use entropysum::monitor::History;
    ///
    /// let columns = History::default().columns();
    /// assert_eq!(columns[0], ("iteration", vec![]));
    /// ```
    pub fn columns(&self) -> Vec<(&'static str, Vec<f64>)> {
        let mut columns = Vec::new();
        let mut add = |names: &[&'static str], values: &dyn Fn(&IterRecord) -> Option<Vec<f64>>| {
            let rows: Vec<Option<Vec<f64>>> = self.records.iter().map(values).collect();
            for (k, &name) in names.iter().enumerate() {
                let value = |row: &Option<Vec<f64>>| row.as_ref().map_or(f64::NAN, |row| row[k]);
                columns.push((name, rows.iter().map(value).collect()));
            }
        };
        add(&COLUMNS, &|record| Some(record.values().to_vec()));
        if self.records.iter().any(|record| record.log_prior.is_some()) {
            add(&PRIOR_COLUMNS, &|record| record.log_prior.map(|it| vec![it]));
        }
        if self.records.iter().any(|record| record.minibatch.is_some()) {
            add(&MINIBATCH_COLUMNS, &|record| record.minibatch.map(|it| it.values().to_vec()));
        }
        if self.records.iter().any(|record| record.gap_halves.is_some()) {
            add(&HALVES_COLUMNS, &|record| record.gap_halves.map(|it| it.values().to_vec()));
        }
        if self.records.iter().any(|record| record.joint_evaluations.is_some()) {
            let evaluations = |it: &IterRecord| it.joint_evaluations.map(|it| vec![it as f64]);
            add(&TRUNCATED_COLUMNS, &evaluations);
        }
        columns
    }

    /// Writes the history as CSV with a header; numbers are written so that they read back to the same bits.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_csv(&self, writer: &mut dyn Write) -> io::Result<()> {
        let by_minibatches = self.records.iter().any(|record| record.minibatch.is_some());
        write!(writer, "{}", COLUMNS.join(","))?;
        let with_prior = self.records.iter().any(|record| record.log_prior.is_some());
        if with_prior {
            write!(writer, ",{}", PRIOR_COLUMNS.join(","))?;
        }
        if by_minibatches {
            write!(writer, ",{}", MINIBATCH_COLUMNS.join(","))?;
        }
        let with_halves = self.records.iter().any(|record| record.gap_halves.is_some());
        if with_halves {
            write!(writer, ",{}", HALVES_COLUMNS.join(","))?;
        }
        let with_evaluations = self.records.iter().any(|record| record.joint_evaluations.is_some());
        if with_evaluations {
            write!(writer, ",{}", TRUNCATED_COLUMNS.join(","))?;
        }
        writeln!(writer)?;
        for record in &self.records {
            for (column, value) in COLUMNS.iter().zip(record.values()) {
                let comma = if *column == COLUMNS[0] { "" } else { "," };
                match *column {
                    "seconds" => write!(writer, "{comma}{value:.6}")?,
                    "gap" | "delta" | "change" => write!(writer, "{comma}{value:e}")?,
                    _ => write!(writer, "{comma}{value}")?,
                }
            }
            if with_prior {
                write_known(writer, record.log_prior.map(|it| [it]))?;
            }
            if by_minibatches {
                write_known(writer, record.minibatch.map(|it| it.values()))?;
            }
            if with_halves {
                write_known(writer, record.gap_halves.map(GapHalves::values))?;
            }
            if with_evaluations {
                write_known(writer, record.joint_evaluations.map(|it| [it as f64]))?;
            }
            writeln!(writer)?;
        }
        Ok(())
    }
}

/// Writes values, each after a comma. A value that is not known is left empty.
fn write_known<const N: usize>(writer: &mut dyn Write, values: Option<[f64; N]>) -> io::Result<()> {
    for value in values.unwrap_or([f64::NAN; N]) {
        match value.is_nan() {
            true => write!(writer, ",")?,
            false => write!(writer, ",{value:e}")?,
        }
    }
    Ok(())
}

impl IterRecord {
    /// Returns the values of [`COLUMNS`].
    pub fn values(&self) -> [f64; COLUMNS.len()] {
        let sum = &self.entropy_sum;
        [
            self.iteration as f64,
            self.seconds,
            self.points_seen as f64,
            sum.total(),
            sum.posterior,
            sum.prior,
            sum.hidden,
            sum.observable,
            sum.base_measure,
            self.lower_bound,
            self.gap(),
            self.log_likelihood,
            self.delta(),
            self.change,
            self.active_components as f64,
        ]
    }
}

impl Minibatch {
    /// The values of [`MINIBATCH_COLUMNS`].
    fn values(&self) -> [f64; MINIBATCH_COLUMNS.len()] {
        [
            self.step_size,
            self.effective_points,
            self.standard_error,
            self.improvement,
            self.remaining,
            self.audit,
        ]
    }
}

impl GapHalves {
    /// The values of [`HALVES_COLUMNS`].
    fn values(self) -> [f64; HALVES_COLUMNS.len()] {
        [self.prior, self.noise, self.sampling_error]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::EntropySum;

    fn record(iteration: usize, minibatch: Option<Minibatch>) -> IterRecord {
        IterRecord {
            iteration,
            seconds: 0.25,
            points_seen: 100,
            entropy_sum: EntropySum {
                posterior: 0.1,
                prior: 0.2,
                observable: 1.0 / 3.0,
                ..Default::default()
            },
            lower_bound: -0.7,
            log_prior: minibatch.map(|_| -0.01),
            log_likelihood: -0.9,
            change: 1e-3,
            active_components: 2,
            events: Vec::new(),
            minibatch,
            gap_halves: minibatch.map(|_| GapHalves {
                prior: 0.25,
                noise: -0.5,
                sampling_error: 1e-3,
            }),
            joint_evaluations: None,
        }
    }

    #[test]
    fn columns_hold_the_numbers_of_the_file() {
        let minibatch = Minibatch { step_size: 0.5, audit: f64::NAN, ..Default::default() };
        let history = History { records: vec![record(1, None), record(2, Some(minibatch))] };
        let mut file = Vec::new();
        history.write_csv(&mut file).unwrap();
        let text = String::from_utf8(file).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        let columns = history.columns();
        assert_eq!(lines[0], columns.iter().map(|column| column.0).collect::<Vec<_>>());
        for (k, (name, values)) in columns.iter().enumerate() {
            for (line, value) in lines[1..].iter().zip(values) {
                let written = line[k].parse().unwrap_or(f64::NAN);
                assert!(written == *value || written.is_nan() && value.is_nan(), "{name} {value}");
            }
        }
    }
}
