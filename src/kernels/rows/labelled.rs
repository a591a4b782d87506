//! Sums of labelled points: each point adds to the sums of a single component.

use super::RowStatistics;
use crate::kernels::dispatch::{Kernel, MulAdd, Simd};
use crate::scalar::Scalar;
use faer::MatRef;

impl RowStatistics {
    /// Tells whether [`add_labelled`](Self::add_labelled) serves: rows begin with the values, and all else is products of these.
    pub fn may_be_labelled(&self) -> bool {
        self.others.is_empty() && self.observed.is_none() && self.begin_with_values()
    }

    /// Adds the statistics of points about `centre` to the sums of their components, in `f64`.
    ///
    /// Points stay rows: from columns of a tile, each statistic of a point would be on a cache line of its own.
    ///
    /// # Shapes
    /// `points: B × D` with neighbouring columns, `centre: D` or empty, `labels: B`; `components:` the row of `sums` that a label stands for; labels beyond
    /// its end are left out; `sums: C × L`.
    ///
    /// # Panics
    /// If the statistics [may not be labelled](Self::may_be_labelled), columns are apart, or slices are too short.
    #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
    pub fn add_labelled<T: Scalar>(
        &self,
        simd: Simd,
        points: MatRef<'_, T>,
        centre: &[T],
        labels: &[u32],
        weights: Option<&[f64]>,
        components: &[usize],
        sums: &mut [f64],
    ) {
        assert!(self.may_be_labelled(), "products of values");
        assert_eq!((points.ncols(), points.nrows()), (self.dim, labels.len()), "one label a point");
        assert!(centre.is_empty() || centre.len() == self.dim, "a value a dimension, or none");
        let row = |i: usize| points.row(i);
        simd.run(AddLabelled { rows: self, row, centre, labels, weights, components, sums });
    }
}

struct AddLabelled<'a, T, F> {
    rows: &'a RowStatistics,
    row: F,
    centre: &'a [T],
    labels: &'a [u32],
    weights: Option<&'a [f64]>,
    components: &'a [usize],
    sums: &'a mut [f64],
}

impl<'a, T: Scalar, F: Fn(usize) -> faer::RowRef<'a, T>> Kernel for AddLabelled<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let Self { rows, row, centre, labels, weights, components, sums } = self;
        let (dim, len) = (rows.dim, rows.len());
        let mut statistics = vec![T::ZERO; len];
        for (i, &label) in labels.iter().enumerate() {
            let Some(&component) = components.get(label as usize) else { continue };
            let point = row(i).try_as_row_major().expect("neighbouring columns").as_slice();
            let (values, others) = statistics.split_at_mut(dim);
            if centre.is_empty() {
                values.copy_from_slice(point);
            }
            for ((value, &x), &centre) in values.iter_mut().zip(point).zip(centre) {
                *value = x - centre;
            }
            for run in &rows.runs[1..] {
                run.evaluate::<T, M>(values, others, dim);
            }
            let sums = &mut sums[component * len..][..len];
            let weight = weights.map_or(1.0, |weights| weights[i]);
            for (sum, value) in sums.iter_mut().zip(&statistics) {
                *sum += weight * value.to_f64();
            }
        }
    }
}
