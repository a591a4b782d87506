//! E-steps of full Gaussians on points with missing values: exact EM over the observed values, if values are missing at random.
//!
//! Missing values are latents beside the component. Given component `c` and the observed values `x_o`, they are Gaussian with mean
//! `μ_m + B (x_o - μ_o)` and covariance `Σ_mm - B Σ_om`, where `B = Σ_mo Σ_oo⁻¹`. So logits are those of `x_o`, sums are those of expected
//! statistics, and the entropy of the missing values is part of the posterior's. M-step, bound and entropy sum know no difference.
//!
//! Points of a tile are grouped by what is observed of them. All is `f64`, a factorisation for each group and component.

use super::super::Mixture;
use crate::family::Statistic;
use crate::linalg::Cholesky;
use crate::scalar::Scalar;
use crate::stats::SuffStats;
use faer::MatRef;
use std::collections::BTreeMap;
use std::f64::consts::{E, TAU};

/// Components as the groups need them.
#[derive(Debug)]
pub(super) struct Observed {
    dim: usize,
    components: Vec<Component>,
    /// Dimensions of the second statistics, in their order.
    products: Vec<(usize, usize)>,
}

#[derive(Debug)]
struct Component {
    log_weight: f64,
    mean: Vec<f64>,
    /// Row-major.
    covariance: Vec<f64>,
}

/// Points of a tile with the same observed values, and the components given these.
#[derive(Debug)]
pub(super) struct Group {
    rows: Vec<usize>,
    observed: Vec<usize>,
    missing: Vec<usize>,
    conditionals: Vec<Option<Conditional>>,
}

/// A component given values that are observed.
#[derive(Debug)]
struct Conditional {
    /// Logarithms of weight and normalisation.
    bias: f64,
    factor: Cholesky,
    /// `B`, a row for each missing value.
    regression: Vec<f64>,
    /// Covariance of the missing values, row-major.
    covariance: Vec<f64>,
    /// Their entropy.
    entropy: f64,
}

impl Observed {
    /// Takes the components of a mixture, if its family fills missing values.
    pub(super) fn of(mixture: &Mixture) -> Option<Self> {
        let family = mixture.family();
        if !family.fills_missing() {
            return None;
        }
        let dim = family.dim();
        let products: Vec<_> = family.statistics()[dim..]
            .iter()
            .map(|statistic| match *statistic {
                Statistic::Product(i, j) => (i as usize, j as usize),
                _ => unreachable!("statistics of a full Gaussian are values and products"),
            })
            .collect();
        let component = |c: usize| {
            let theta = mixture.theta(c);
            let mean = family.location(theta);
            let mut moments = vec![0.0; dim + products.len()];
            family.mean(theta, &mean, &mut moments);
            let mut covariance = vec![0.0; dim * dim];
            for (&(i, j), moment) in products.iter().zip(&moments[dim..]) {
                (covariance[i * dim + j], covariance[j * dim + i]) = (*moment, *moment);
            }
            Component { log_weight: mixture.weights()[c].ln(), mean, covariance }
        };
        let components = (0..mixture.n_components()).map(component).collect();
        Some(Self { dim, components, products })
    }

    /// Returns the means, about which the statistics are taken.
    pub(super) fn centres(&self) -> Vec<f64> {
        self.components.iter().flat_map(|component| component.mean.iter().copied()).collect()
    }

    /// Groups the points of a tile, and fills its logits.
    pub(super) fn logits<T: Scalar>(
        &self,
        points: MatRef<'_, T>,
        stride: usize,
        logits: &mut [T],
    ) -> Vec<Group> {
        let mut patterns: BTreeMap<Vec<bool>, Vec<usize>> = BTreeMap::new();
        for row in 0..points.nrows() {
            let pattern = (0..self.dim).map(|d| !points[(row, d)].to_f64().is_nan()).collect();
            patterns.entry(pattern).or_default().push(row);
        }
        let groups: Vec<Group> =
            patterns.into_iter().map(|(pattern, rows)| self.group(&pattern, rows)).collect();
        let mut difference = vec![0.0; self.dim];
        for group in &groups {
            for (c, (component, conditional)) in
                self.components.iter().zip(&group.conditionals).enumerate()
            {
                for &row in &group.rows {
                    let logit = match conditional {
                        None => f64::NEG_INFINITY,
                        Some(conditional) => {
                            group.observe(points, row, &component.mean, &mut difference);
                            conditional.bias
                                - 0.5
                                    * conditional.distance(&mut difference[..group.observed.len()])
                        }
                    };
                    logits[c * stride + row] = T::from_f64(logit);
                }
            }
        }
        groups
    }

    fn group(&self, pattern: &[bool], rows: Vec<usize>) -> Group {
        let of = |is: bool| (0..self.dim).filter(|&d| pattern[d] == is).collect::<Vec<_>>();
        let (observed, missing) = (of(true), of(false));
        let conditional = |component: &Component| component.given(&observed, &missing, self.dim);
        let conditionals = self.components.iter().map(conditional).collect();
        Group { rows, observed, missing, conditionals }
    }

    /// Adds expected statistics and the entropy of missing values; `weight` returns the weight of a row under a component.
    pub(super) fn accumulate<T: Scalar>(
        &self,
        points: MatRef<'_, T>,
        groups: &[Group],
        weight: impl Fn(usize, usize) -> f64,
        stats: &mut SuffStats,
    ) {
        let mut difference = vec![0.0; self.dim];
        let mut whole = vec![0.0; self.dim];
        for group in groups {
            for (c, component) in self.components.iter().enumerate() {
                let Some(conditional) = &group.conditionals[c] else { continue };
                let mut mass = 0.0;
                for &row in &group.rows {
                    let weight = weight(row, c);
                    if weight == 0.0 {
                        continue;
                    }
                    mass += weight;
                    group.observe(points, row, &component.mean, &mut difference);
                    let known = &difference[..group.observed.len()];
                    for (&d, &value) in group.observed.iter().zip(known) {
                        whole[d] = value;
                    }
                    for (k, &d) in group.missing.iter().enumerate() {
                        let row = &conditional.regression[k * known.len()..][..known.len()];
                        whole[d] = row.iter().zip(known).map(|(b, x)| b * x).sum();
                    }
                    let (first, second) = stats.sums_mut(c).split_at_mut(self.dim);
                    first.iter_mut().zip(&whole).for_each(|(sum, value)| *sum += weight * value);
                    for (sum, &(i, j)) in second.iter_mut().zip(&self.products) {
                        *sum += weight * whole[i] * whole[j];
                    }
                }
                *stats.posterior_entropy_mut() += mass * conditional.entropy;
                let place = |d: usize| group.missing.iter().position(|&missing| missing == d);
                let second = &mut stats.sums_mut(c)[self.dim..];
                for (sum, &(i, j)) in second.iter_mut().zip(&self.products) {
                    if let (Some(i), Some(j)) = (place(i), place(j)) {
                        *sum += mass * conditional.covariance[i * group.missing.len() + j];
                    }
                }
            }
        }
    }
}

impl Group {
    /// Writes the observed values of a row, about a mean.
    fn observe<T: Scalar>(
        &self,
        points: MatRef<'_, T>,
        row: usize,
        mean: &[f64],
        difference: &mut [f64],
    ) {
        for (to, &d) in difference.iter_mut().zip(&self.observed) {
            *to = points[(row, d)].to_f64() - mean[d];
        }
    }
}

impl Component {
    /// Returns the component given what is observed; `None` if its covariance is singular in `f64`.
    fn given(&self, observed: &[usize], missing: &[usize], dim: usize) -> Option<Conditional> {
        let at = |i: usize, j: usize| self.covariance[i * dim + j];
        let among: Vec<f64> =
            observed.iter().flat_map(|&i| observed.iter().map(move |&j| at(i, j))).collect();
        let factor = Cholesky::new(&among, observed.len())?;
        let mut regression = Vec::with_capacity(missing.len() * observed.len());
        for &i in missing {
            let right: Vec<f64> = observed.iter().map(|&j| at(i, j)).collect();
            regression.extend(factor.solve(&right));
        }
        let mut covariance = Vec::with_capacity(missing.len() * missing.len());
        for (k, &i) in missing.iter().enumerate() {
            let row = &regression[k * observed.len()..][..observed.len()];
            for &j in missing {
                let known: f64 = row.iter().zip(observed).map(|(b, &o)| b * at(o, j)).sum();
                covariance.push(at(i, j) - known);
            }
        }
        let unknown = Cholesky::new(&covariance, missing.len())?;
        Some(Conditional {
            bias: self.log_weight - 0.5 * (observed.len() as f64 * TAU.ln() + factor.log_det()),
            factor,
            regression,
            entropy: 0.5 * (missing.len() as f64 * (TAU * E).ln() + unknown.log_det()),
            covariance,
        })
    }
}

impl Conditional {
    /// Returns `|L⁻¹ d|²`, and leaves `L⁻¹ d` in `d`.
    fn distance(&self, difference: &mut [f64]) -> f64 {
        let factor = self.factor.factor();
        let mut sum = 0.0;
        for i in 0..difference.len() {
            let before: f64 = (0..i).map(|j| factor[(i, j)] * difference[j]).sum();
            difference[i] = (difference[i] - before) / factor[(i, i)];
            sum += difference[i] * difference[i];
        }
        sum
    }
}
