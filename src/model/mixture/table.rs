//! The parameters and mean statistics of all components, in rows.

use super::Mixture;
use crate::error::{Error, Result};
use crate::family::BaseMeasure;
use crate::family::label::LabelBlock;
use crate::kernels::dispatch::Simd;
use crate::kernels::rows::RowStatistics;
use crate::model::component_table::{ComponentTable, Factors, SearchableMixture};
use crate::model::{Posterior, TruncatedSearch};
use crate::scalar::Scalar;
use crate::work::{self, Workers};
use std::ops::Range;

impl SearchableMixture for Mixture {
    fn weights(&self) -> &[f64] {
        &self.weights
    }

    fn search(&self) -> Option<TruncatedSearch> {
        match self.posterior {
            Posterior::Truncated(search) => Some(search),
            _ => None,
        }
    }

    fn check_search(&self, neighbours: usize) -> Result<()> {
        if self.family.fills_missing() {
            return Err(Error::Config(format!(
                "truncated posteriors fill no missing values of {}: leave out these points (--missing drop), or take exact posteriors",
                self.family.name()
            )));
        }
        // Those of a list may all have other labels than a point.
        if neighbours < self.n_components() && LabelBlock::of(&*self.family).is_some() {
            return Err(Error::Config(format!(
                "truncated posteriors of points with labels need all components as neighbours: take {} neighbours, or exact posteriors",
                self.n_components()
            )));
        }
        Ok(())
    }

    fn log_base_measure(&self) -> BaseMeasure {
        self.family.log_base_measure()
    }

    fn component_table<T: Scalar>(&self, simd: Simd, workers: &dyn Workers) -> ComponentTable<T> {
        let (dim, n_components) = (self.family.dim(), self.n_components());
        let (own, shared) = (self.family.statistics(), self.family.shared_statistics());
        let (n_own, len) = (own.len(), own.len() + shared.len());
        let mut of_shared = vec![0.0; shared.len()];
        if !shared.is_empty() {
            self.family.shared_natural(&self.parameters.shared, &mut of_shared);
        }
        let centre = if self.family.is_location() { dim } else { 0 };
        let mut centres = vec![T::ZERO; n_components * centre];
        let mut natural = vec![T::ZERO; n_components * len];
        let mut bias = vec![0.0; n_components];
        let per_piece = self.per_piece();
        let mut pieces: Vec<_> = work::pieces(n_components, per_piece)
            .zip(bias.chunks_mut(per_piece))
            .zip(natural.chunks_mut((per_piece * len).max(1)))
            .collect();
        // A family without centres has no pieces of these.
        let mut of_centres = centres.chunks_mut((per_piece * centre).max(1));
        let mut pieces: Vec<_> =
            pieces.drain(..).map(|it| (it, of_centres.next().unwrap_or_default())).collect();
        work::for_pieces(workers, &mut pieces, 1, |_, pieces| {
            for (((range, bias), natural), centres) in pieces {
                self.write_rows(range.clone(), &of_shared, bias, natural, centres);
            }
        });
        let rows = RowStatistics::new([own, shared].concat(), dim);
        let (factors, cut) = (Factors::default(), ComponentTable::<T>::cut());
        ComponentTable { simd, dim, rows, n_own, natural, bias, centres, factors, cut }
    }

    /// Returns the expected statistics of each component about its own centre.
    fn mean_statistics<T: Scalar>(
        &self,
        table: &ComponentTable<T>,
        workers: &dyn Workers,
    ) -> Vec<T> {
        let (len, per_piece) = (table.rows.len(), self.per_piece());
        let mut all = vec![T::ZERO; self.n_components() * len];
        work::for_pieces(workers, &mut all, per_piece * len.max(1), |first, rows| {
            let mut mean = vec![0.0; len];
            for (c, row) in (first / len..).zip(rows.chunks_exact_mut(len)) {
                let centre: Vec<f64> = table.centre(c as u32).iter().map(|v| v.to_f64()).collect();
                self.family.mean(self.theta(c), &centre, &mut mean);
                row.iter_mut().zip(&mean).for_each(|(to, &value)| *to = T::from_f64(value));
            }
        });
        all
    }
}

impl Mixture {
    /// Writes the rows of some components.
    fn write_rows<T: Scalar>(
        &self,
        components: Range<usize>,
        of_shared: &[f64],
        bias: &mut [f64],
        natural: &mut [T],
        centres: &mut [T],
    ) {
        let parameters = self.parameters.part(components.clone());
        let mut exact = Vec::with_capacity(centres.len());
        if !centres.is_empty() {
            let location = |c| self.family.location(self.theta(c));
            exact.extend(components.clone().flat_map(location));
            for (to, exact) in centres.iter_mut().zip(&mut exact) {
                *to = T::from_f64(*exact);
                *exact = to.to_f64();
            }
        }
        let len = natural.len() / bias.len();
        let n_own = len - of_shared.len();
        let mut of_own = vec![0.0; bias.len() * n_own];
        let packings = self.family.natural(&parameters, &exact, &mut of_own);
        for (k, row) in natural.chunks_exact_mut(len.max(1)).enumerate() {
            let values = of_own[k * n_own..][..n_own].iter().chain(of_shared);
            row.iter_mut().zip(values).for_each(|(to, &value)| *to = T::from_f64(value));
        }
        let weights = &self.weights[components];
        for ((bias, weight), it) in bias.iter_mut().zip(weights).zip(&packings) {
            *bias = weight.ln() - it.log_partition;
        }
    }
}
