//! Labels that name components: what makes learning semi-supervised.
//!
//! A component gives its points its label, and no other: `p(l | c) = [l = l_c]`. So the posterior of a labelled point is 1 at its
//! component, whatever its other values are, and a point without a label has the posterior of its other values. Nothing is learned, the
//! entropy is 0, and `Σ η · s = 0` wherever the bound is finite. So bound and entropy sum are exact as without labels: their identity
//! holds for any posterior.
//!
//! A label is a column of the points, NaN where it is unknown, and a block of a product: `gaussian-full:0-3,label:4`. Models for use do
//! without it ([`without`]). The registry builds the family but does not list it, since alone it is no model.

use super::{
    Domain, ExponentialFamily, Feature, KnownParameters, Outcome, Packing, ParameterSpec,
    Parameters, Product, ProductBlock, Regularization, Sampler, Statistic, Support, Theta,
};
use crate::error::{Error, Result};
use crate::stats::SuffStats;
use std::sync::Arc;

/// The name of the family.
pub(crate) const NAME: &str = "label";

/// The log-probability of another label, for which `f32` has room: no distance between points weighs as much.
const NEVER: f64 = -1e30;

/// Labels at most: those of components.
const MOST_LABELS: f64 = 1e6;

/// A column of labels 0, ..., L - 1.
///
/// Parameter: `label` (C), the label of each component, or -1 for a component whose points have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    labels: usize,
}

impl Label {
    /// Builds the family from the known parameter `labels`: their number L.
    pub(super) fn from_known(known: &KnownParameters) -> Result<Self> {
        match known.columns(NAME, "labels", 1)?[..] {
            [labels] if labels.fract() == 0.0 && (1.0..=MOST_LABELS).contains(&labels) => {
                Ok(Self { labels: labels as usize })
            }
            ref found => Err(Error::Model(format!(
                "{NAME}: {found:?} labels, expected a whole number from 1 to {MOST_LABELS}"
            ))),
        }
    }
}

/// The label block of a product: where its column, its parameter and its labels are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LabelBlock {
    block: usize,
    /// Column of the points.
    pub column: usize,
    /// Place of the parameter among those of a component.
    parameter: usize,
    /// Number of labels.
    pub labels: usize,
}

impl LabelBlock {
    /// Finds the label block of a family.
    pub fn of(family: &dyn ExponentialFamily) -> Option<Self> {
        let mut parameter = 0;
        for (block, ProductBlock { family, columns }) in family.blocks().iter().enumerate() {
            if family.name() == NAME {
                let labels = family.statistics().len();
                return Some(Self { block, column: columns[0], parameter, labels });
            }
            parameter += family.parameters().iter().map(ParameterSpec::len).sum::<usize>();
        }
        None
    }

    /// Gives the first components a label each, in order, and the others none.
    pub fn number(self, parameters: &mut Parameters) {
        for (c, theta) in parameters.components.iter_mut().enumerate() {
            theta[self.parameter] = if c < self.labels { c as f64 } else { -1.0 };
        }
    }

    /// Returns the family and the parameters without the labels, and the label of each component.
    ///
    /// # Errors
    /// If a label is all that the points have.
    #[allow(clippy::type_complexity)]
    pub fn without(
        self,
        family: &dyn ExponentialFamily,
        parameters: &Parameters,
    ) -> Result<(Arc<dyn ExponentialFamily>, Parameters, Vec<Option<usize>>)> {
        let before = |column: usize| column - usize::from(column > self.column);
        let others = family.blocks().iter().enumerate().filter(|(block, _)| *block != self.block);
        let mut blocks: Vec<ProductBlock> = others
            .map(|(_, ProductBlock { family, columns })| ProductBlock {
                family: family.clone(),
                columns: columns.iter().map(|&column| before(column)).collect(),
            })
            .collect();
        let dim = family.dim() - 1;
        let is_alone = blocks.len() == 1 && blocks[0].columns.iter().copied().eq(0..dim);
        let family: Arc<dyn ExponentialFamily> = match is_alone {
            true => blocks.remove(0).family,
            false => Arc::new(Product::new(blocks, dim)?),
        };
        let mut parameters = parameters.clone();
        let label = |theta: &mut Vec<f64>| theta.remove(self.parameter);
        let labels = parameters.components.iter_mut().map(label);
        let labels = labels.map(|label| (label >= 0.0).then_some(label as usize)).collect();
        Ok((family, parameters, labels))
    }
}

impl ExponentialFamily for Label {
    fn name(&self) -> String {
        NAME.into()
    }

    fn dim(&self) -> usize {
        1
    }

    fn known(&self) -> KnownParameters {
        KnownParameters::default().with("labels", vec![self.labels as f64])
    }

    fn domains(&self) -> Vec<Domain> {
        let support = Support::CountUpTo((self.labels - 1) as f64);
        vec![Domain { columns: 0..1, support, missing: true }]
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        vec![ParameterSpec { name: "label".into(), shape: vec![], shared: false }]
    }

    fn statistics(&self) -> Vec<Statistic> {
        (0..self.labels).map(|label| Statistic::Indicator(0, label as f64)).collect()
    }

    fn features(&self) -> Vec<Feature> {
        vec![Feature::group(self.statistics(), 1)]
    }

    fn n_free_parameters(&self, _: usize) -> usize {
        0
    }

    fn check(&self, theta: Theta<'_>) -> std::result::Result<(), String> {
        match theta.component[0] {
            label if label.fract() == 0.0 && (-1.0..self.labels as f64).contains(&label) => Ok(()),
            label => Err(format!("label {label}, expected -1 to {}", self.labels - 1)),
        }
    }

    fn natural(&self, parameters: &Parameters, _: &[f64], eta: &mut [f64]) -> Vec<Packing> {
        for (theta, row) in parameters.components.iter().zip(eta.chunks_mut(self.labels)) {
            for (label, eta) in row.iter_mut().enumerate() {
                *eta = if theta[0] == label as f64 { 0.0 } else { NEVER };
            }
        }
        vec![Packing { log_partition: 0.0, cancellation: 0.0 }; parameters.components.len()]
    }

    fn pseudo_entropies(&self, parameters: &Parameters) -> Vec<f64> {
        vec![0.0; parameters.components.len()]
    }

    fn mean(&self, theta: Theta<'_>, _: &[f64], mean: &mut [f64]) {
        let own = |label: usize| f64::from(u8::from(theta.component[0] == label as f64));
        mean.iter_mut().enumerate().for_each(|(label, mean)| *mean = own(label));
    }

    fn log_likelihood(&self, parameters: &Parameters, stats: &SuffStats) -> f64 {
        let of = |(c, theta): (usize, &Vec<f64>)| {
            let sums = stats.sums(c).iter().enumerate();
            let others = sums.filter(|(label, _)| theta[0] != *label as f64);
            others.map(|(_, sum)| NEVER * sum).sum::<f64>()
        };
        parameters.components.iter().enumerate().map(of).sum()
    }

    fn maximize(
        &self,
        _: &SuffStats,
        update: &[bool],
        _: &Regularization,
        _: &mut Parameters,
    ) -> Vec<Outcome> {
        vec![Outcome::Maximized; update.len()]
    }

    /// A label may be missing in any case.
    fn ignoring_missing(&self) -> Option<Arc<dyn ExponentialFamily>> {
        Some(Arc::new(self.clone()))
    }

    fn sampler<'a>(&'a self, theta: Theta<'a>) -> Sampler<'a> {
        let label = theta.component[0];
        Box::new(move |_, point| point[0] = if label < 0.0 { f64::NAN } else { label })
    }
}
