//! The parameters of all components in rows, for truncated posteriors.
//!
//! A row is that of a diagonal Gaussian, `½ ln|2πΨ|` apart; projections come besides (`component_table/factors.rs`). In `f32` the two
//! parts of a logit cancel where loadings are far longer than the noise: at a ratio of variances of 10⁵, which the floors of `f32`
//! allow at most, a few hundredths of a nat are lost.

use super::MixtureOfFactorAnalyzers;
use super::component::{Component, factorized};
use super::e_step::{ComponentPosterior, column_major};
use super::m_step::Layout;
use crate::family::Statistic;
use crate::kernels::dispatch::Simd;
use crate::kernels::rows::RowStatistics;
use crate::model::component_table::{ComponentTable, Factors, SearchableMixture};
use crate::model::{GenerativeModel, Posterior, TruncatedSearch};
use crate::scalar::Scalar;
use crate::stats::SuffStats;
use crate::work::{self, Workers};

/// Numbers of a component in a table.
#[derive(Default)]
struct Row<T> {
    centre: Vec<T>,
    natural: Vec<T>,
    bias: f64,
    projections: Vec<T>,
    offsets: Vec<T>,
}

impl<T: Scalar> Row<T> {
    fn new(component: &Component, weight: f64) -> Self {
        let form = factorized(component);
        let centre: Vec<T> = component.mean.iter().map(|&v| T::from_f64(v)).collect();
        // What rounding took from the mean.
        let lost: Vec<f64> =
            component.mean.iter().zip(&centre).map(|(mean, k)| mean - k.to_f64()).collect();
        let noise = || lost.iter().zip(&component.noise);
        let linear = noise().map(|(lost, v)| lost / v);
        let natural = linear.chain(component.noise.iter().map(|v| -0.5 / v));
        let constant: f64 = noise().map(|(lost, v)| 0.5 * lost * lost / v).sum();
        let offset = |column: faer::ColRef<'_, f64>| -> f64 {
            -column.iter().zip(&lost).map(|(a, lost)| a * lost).sum::<f64>()
        };
        Self {
            natural: natural.map(T::from_f64).collect(),
            bias: weight.ln() - 0.5 * form.log_det_2pi - constant,
            offsets: form.projection.col_iter().map(|it| T::from_f64(offset(it))).collect(),
            projections: column_major(&form.projection).map(T::from_f64).collect(),
            centre,
        }
    }
}

impl MixtureOfFactorAnalyzers {
    /// Returns how many components a thread works on at a time.
    pub(super) fn per_piece(&self) -> usize {
        let latents = self.n_latents();
        work::components_per_piece(self.dim() * latents * (latents + 4))
    }
}

impl SearchableMixture for MixtureOfFactorAnalyzers {
    fn weights(&self) -> &[f64] {
        &self.weights
    }

    fn search(&self) -> Option<TruncatedSearch> {
        match self.posterior {
            Posterior::Truncated(search) => Some(search),
            _ => None,
        }
    }

    fn component_table<T: Scalar>(&self, simd: Simd, workers: &dyn Workers) -> ComponentTable<T> {
        let (dim, latents) = (self.dim(), self.n_latents());
        let row = |c: usize| Row::<T>::new(&self.components[c], self.weights[c]);
        let rows = work::map(workers, self.n_components(), self.per_piece(), row);
        let values = (0..dim as u32).map(Statistic::Value);
        let statistics = values.chain((0..dim as u32).map(|d| Statistic::Product(d, d)));
        let all = |of: fn(&Row<T>) -> &Vec<T>| rows.iter().flat_map(of).copied().collect();
        ComponentTable {
            simd,
            dim,
            rows: RowStatistics::new(statistics.collect(), dim),
            n_own: 2 * dim,
            natural: all(|row| &row.natural),
            bias: rows.iter().map(|row| row.bias).collect(),
            centres: all(|row| &row.centre),
            factors: Factors {
                latents,
                projections: all(|row| &row.projections),
                offsets: all(|row| &row.offsets),
            },
            cut: ComponentTable::<T>::cut(),
        }
    }

    /// Returns mean and variances about the centre, the noise, and the loadings of each component, one row a latent.
    fn mean_statistics<T: Scalar>(
        &self,
        table: &ComponentTable<T>,
        workers: &dyn Workers,
    ) -> Vec<T> {
        let (len, dim) = (table.mean_len(), self.dim());
        let mut all = vec![T::ZERO; self.n_components() * len];
        work::for_pieces(workers, &mut all, self.per_piece() * len, |first, rows| {
            for (c, row) in (first / len..).zip(rows.chunks_exact_mut(len)) {
                let Component { mean, noise, .. } = &self.components[c];
                let unit = self.components[c].unit_loadings();
                let (moments, factors) = row.split_at_mut(2 * dim);
                let lost = mean.iter().zip(table.centre(c as u32)).map(|(m, k)| m - k.to_f64());
                let explained = |d: usize| unit.row(d).iter().map(|w| w * w).sum::<f64>();
                for (d, lost) in lost.enumerate() {
                    moments[d] = T::from_f64(lost);
                    moments[dim + d] = T::from_f64(lost * lost + noise[d] + explained(d));
                }
                let values = noise.iter().copied().chain(column_major(&unit));
                factors.iter_mut().zip(values).for_each(|(to, value)| *to = T::from_f64(value));
            }
        });
        all
    }

    /// Turns sums in whitened latents into those of latents.
    fn complete(&self, stats: &mut SuffStats, workers: &dyn Workers) {
        let layout = Layout::new(self.dim(), self.n_latents());
        let per_piece = self.per_piece();
        let mut entropies = vec![0.0; self.n_components()];
        let mut pieces: Vec<_> =
            stats.pieces_mut(per_piece).zip(entropies.chunks_mut(per_piece)).collect();
        work::for_pieces(workers, &mut pieces, 1, |piece, items| {
            for ((mass, sums), entropies) in items {
                let len = layout.latent_second.end;
                let components = &self.components[piece * per_piece..];
                let each = mass.iter().zip(sums.chunks_exact_mut(len)).zip(entropies.iter_mut());
                for (((&mass, sums), entropy), component) in each.zip(components) {
                    let posterior = ComponentPosterior::new(component, &factorized(component));
                    posterior.complete(mass, sums, &layout);
                    *entropy = mass * posterior.entropy;
                }
            }
        });
        *stats.posterior_entropy_mut() += entropies.iter().sum::<f64>();
    }
}
