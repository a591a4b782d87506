//! Packs the parameters of a mixture for the kernels.

use super::super::{Mixture, Posterior};
use super::labels::LABEL_TOLERANCE;
use super::observed::Observed;
use super::tied::Tied;
use super::wide::{WHITENED_DIM, Wide};
use super::{Packed, Workspace, cancellation_tolerance};
use crate::aligned::Aligned;
use crate::family::{CentredForm, Packing, Parameters};
use crate::kernels::affine::AffineMap;
use crate::kernels::blocking::Tiling;
use crate::kernels::dispatch::Simd;
use crate::kernels::products::ProductGroups;
use crate::kernels::rows::RowStatistics;
use crate::kernels::statistics;
use crate::kernels::whitened::WhitenedMap;
use crate::model::Constants;
use crate::scalar::Scalar;
use crate::work::{
    Piece, Workers, components_per_piece, for_pieces, operations_of_factors, pieces,
};
use std::sync::OnceLock;

/// Most lanes of sums that are kept from tile to tile, in bytes: a part of a level-2 cache.
const LANES_BYTES: usize = 1 << 18;

impl Mixture {
    pub(super) fn pack_for<T: Scalar>(
        &self,
        simd: Simd,
        tolerance: f64,
        constants: Constants,
        scoring: bool,
        workers: &dyn Workers,
    ) -> Packed<T> {
        let shape = self.shape();
        let (n_components, n_statistics) = (shape.components, shape.statistics);
        let dim = self.family.dim();
        let round = |values: &[f64]| values.iter().map(|&v| T::from_f64(v)).collect::<Vec<T>>();
        let centre = round(&self.centre);
        let exact_centre: Vec<f64> = centre.iter().map(|v| v.to_f64()).collect();
        let mut natural = vec![0.0; n_components * n_statistics];
        let centres = exact_centre.repeat(n_components);
        let packings = self.natural_by(workers, &centres, &mut natural);

        let cancels = |c: usize| T::EPSILON * packings[c].cancellation > tolerance;
        // Filled points are taken about the means of their components anyway.
        let observed = Observed::of(self);
        let is_packed = |c: usize| observed.is_some() || self.weights[c] == 0.0 || !cancels(c);
        let mut needs_centre: Vec<bool> = (0..n_components).map(|c| !is_packed(c)).collect();
        // Shared statistics are summed about one centre, or about each component's own: not mixed.
        let mut is_common = false;
        if shape.shared > 0 && needs_centre.contains(&true) {
            let largest = packings.iter().fold(0.0, |m: f64, packing| m.max(packing.cancellation));
            // Rounding a difference costs the root of what rounding its square does.
            is_common = n_statistics == dim
                && T::EPSILON * largest.sqrt() <= tolerance
                && f64::EPSILON * largest <= cancellation_tolerance::<f64>(1, 1);
            needs_centre.fill(!is_common);
        }
        let is_hard = self.posterior == Posterior::Hard;
        let is_wide = is_common && (dim > WHITENED_DIM || (is_hard && !scoring));
        let is_tied = is_common && !is_wide;
        let mut order: Vec<usize> = (0..n_components).filter(|&c| !needs_centre[c]).collect();
        let n_packed = order.len();
        order.extend((0..n_components).filter(|&c| needs_centre[c]));

        let statistics = self.family.statistics();
        let run = match self.posterior {
            Posterior::Hard => None, // labels are summed point by point, from evaluated statistics
            _ => statistics::all_products_from(&statistics, self.family.dim()),
        };
        let products = run.and(ProductGroups::new(self.family.dim(), n_packed));
        let n_direct = if products.is_some() { run.unwrap_or(n_statistics) } else { n_statistics };
        let mut product_coefficients = vec![T::ZERO; products.map_or(0, ProductGroups::len)];
        if let Some(groups) = products {
            groups.for_each(|k, product, at| {
                product_coefficients[at] =
                    T::from_f64(natural[order[k] * n_statistics + n_direct + product]);
            });
        }

        let mut centred = WhitenedMap::new(self.family.dim());
        for (&c, form) in order[n_packed..].iter().zip(self.centred_by(workers, &order[n_packed..]))
        {
            let form = form.expect("only location families cancel");
            centred.push(&form.mean, &form.whitening, self.weights[c].ln() + form.bias);
        }

        let may_label = |c: &usize| T::EPSILON * packings[*c].cancellation <= LABEL_TOLERANCE;
        let labels = is_hard
            && T::EPSILON > 1e-10
            && !scoring
            && (is_wide || (shape.shared == 0 && !centred.is_empty()))
            && order[if is_wide { 0 } else { n_packed }..].iter().all(may_label);
        let labels = labels.then(|| self.affine_map(&natural, &packings, &order, n_statistics));

        let is_shared = shape.shared > 0 && n_packed > 0 && !is_tied;
        let mut shared_natural = vec![0.0; if is_shared { shape.shared } else { 0 }];
        if is_shared {
            self.family.shared_natural(&self.parameters.shared, &mut shared_natural);
        }
        Packed {
            simd,
            tiling: Tiling::new::<T>(self.family.dim(), n_direct, n_components),
            // Scores go through all components, whatever the sets of a fit were.
            posterior: match self.posterior {
                Posterior::Hard => Posterior::Hard,
                _ => Posterior::Exact,
            },
            shape,
            missing: statistics::may_be_missing(&statistics),
            base_measure: Some(self.family.log_base_measure())
                .filter(|it| !it.is_one() && (scoring || constants == Constants::Sum)),
            sparse_measure: OnceLock::new(),
            rows: is_hard
                .then(|| RowStatistics::new(statistics.clone(), self.family.dim()))
                .filter(RowStatistics::may_be_labelled),
            statistics,
            shared: self.family.shared_statistics(),
            shared_natural,
            shared_form: if is_shared && scoring && !is_wide { self.shared_form() } else { None },
            constants,
            centre,
            n_packed,
            n_direct,
            natural: self.affine_map(&natural, &packings, &order[..n_packed], n_direct),
            products,
            product_coefficients,
            labels,
            keeps_lanes: centred.len() * centred.lanes_len() * size_of::<T>() <= LANES_BYTES,
            centred,
            observed,
            tied: is_tied.then(|| Tied::new(self, &order, &exact_centre)),
            wide: is_wide.then(|| Wide {
                map: self.affine_map(&natural, &packings, &order, dim),
                shared: if scoring { self.shared_form() } else { None },
            }),
            order,
        }
    }

    /// Packs what logits of some components take of their first statistics.
    fn affine_map<U: Scalar>(
        &self,
        natural: &[f64],
        packings: &[Packing],
        components: &[usize],
        n_taken: usize,
    ) -> AffineMap<U> {
        let n_statistics = natural.len() / packings.len();
        let bias = |&c: &usize| U::from_f64(self.weights[c].ln() - packings[c].log_partition);
        let bias: Vec<U> = components.iter().map(bias).collect();
        AffineMap::new(n_taken, &bias, |l, k| {
            U::from_f64(natural[components[k] * n_statistics + l])
        })
    }

    /// Returns the quadratic part that the logits of all components share, for points about the common centre.
    fn shared_form<U: Scalar>(&self) -> Option<WhitenedMap<U>> {
        let form = self.family.centred(self.theta(0))?;
        let mut map = WhitenedMap::new(self.family.dim());
        map.push(&vec![0.0; self.family.dim()], &form.whitening, 0.0);
        Some(map)
    }

    /// Writes the natural parameters of all components, in pieces on the threads of `workers`.
    fn natural_by(
        &self,
        workers: &dyn Workers,
        centres: &[f64],
        natural: &mut [f64],
    ) -> Vec<Packing> {
        let (shape, dim) = (self.shape(), self.family.dim());
        let per_piece = self.components_per_piece();
        // Shared parameters would be worked on once for each piece.
        if per_piece >= shape.components || shape.shared > 0 {
            return self.family.natural(&self.parameters, centres, natural);
        }
        let parts: Vec<Parameters> =
            pieces(shape.components, per_piece).map(|part| self.parameters.part(part)).collect();
        let mut packings = vec![Vec::new(); parts.len()];
        // Families whose statistics have no centre have none of these.
        let mut centres = centres.chunks(per_piece * dim);
        let rows = natural.chunks_mut(per_piece * shape.statistics);
        let mut work: Vec<Piece<'_>> = Vec::new();
        for ((part, packings), natural) in parts.iter().zip(&mut packings).zip(rows) {
            let centres = centres.next().unwrap_or_default();
            work.push(Box::new(move || *packings = self.family.natural(part, centres, natural)));
        }
        workers.work(work);
        packings.concat()
    }

    /// Returns the centred forms of some components, in pieces on the threads of `workers`.
    fn centred_by(&self, workers: &dyn Workers, components: &[usize]) -> Vec<Option<CentredForm>> {
        let per_piece = self.components_per_piece();
        let mut forms = vec![None; components.len()];
        for_pieces(workers, &mut forms, per_piece, |first, forms| {
            for (form, &c) in forms.iter_mut().zip(&components[first..]) {
                *form = self.family.centred(self.theta(c));
            }
        });
        forms
    }

    /// Returns how many components a thread packs at a time.
    fn components_per_piece(&self) -> usize {
        let dim = self.family.dim();
        let n_moments = self.shape().statistics.saturating_sub(dim);
        components_per_piece(dim + operations_of_factors(n_moments, dim))
    }

    pub(super) fn workspace_for<T: Scalar>(&self, packed: &Packed<T>) -> Workspace<T> {
        let key = packed.workspace_key();
        let Tiling { points, stride, panel } = key.tiling;
        let dim = self.family.dim();
        let columns = |n: usize| Aligned::zeros(n * stride);
        let panels = |n: usize| Aligned::zeros(n * panel * (stride + 1));
        Workspace {
            key,
            points: Aligned::default(),
            plain: Aligned::default(),
            scratch: Aligned::zeros(if key.centres {
                WhitenedMap::<T>::scratch_len(dim, stride) + dim * stride
            } else {
                0
            }),
            statistics: panels(1),
            // Labels take two columns.
            logits: columns(key.components.max(2)),
            reordered: Aligned::default(),
            labels: vec![0; points],
            mass: vec![0.0; key.components],
            sums: Vec::new(),
            product_sums: Vec::new(),
            products: columns(key.products.map_or(0, ProductGroups::scratch_columns)),
            pending: 0,
            lanes: Aligned::default(),
            sparse_sums: Vec::new(),
            shared_weights: vec![0.0; if key.sums_shared { points } else { 0 }],
            shared_scratch: Aligned::zeros(if key.sums_shared { panel * (stride + 1) } else { 0 }),
            log_density: vec![0.0; points],
            log_base_measure: Vec::new(),
            shift: Vec::new(),
            wide: Vec::new(),
            wide_tile: Default::default(),
            rows: Default::default(),
            groups: Vec::new(),
        }
    }
}
