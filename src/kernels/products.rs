//! All products `x_i x_j` of a point, for few components: logits and sums without forming the products.
//!
//! The packed form evaluates D(D+1)/2 columns of products per tile and multiplies them with C columns. Where C is
//! small beside D that evaluation, and the packing inside the matrix product, cost as much as the product itself.
//! The same numbers come from
//!
//! ```text
//! Z_c += Σ_i x_i ∘ (X_{j ≥ i} H_ic)        logits
//! S_ic += X_{j ≥ i}' (x_i ∘ r_c)           sums
//! ```
//!
//! which touches B × D × C elements one by one instead of B × D²/2. Neighbouring `i` form a group, so that the matrix
//! products are wide; entries `j < i` inside a group are zeros or ignored, a few percent of the work.

use super::dispatch::{Kernel, MulAdd, Simd};
use super::statistics::Tile;
use crate::scalar::Scalar;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// Columns of a group's matrix product, C times its dimensions; wide enough for the product to run at its full rate.
/// Measured in f64 at D = 128, C = 16 and D = 256, C = 8: 64 is within the noise of it (-3 % and +1 % of a sweep), 256 takes
/// 1 % and 4 % longer and twice the scratch.
const GROUP_COLUMNS: usize = 128;

/// Grouping of the products of D dimensions for C components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductGroups {
    dim: usize,
    components: usize,
    /// Dimensions `i` of a group.
    width: usize,
}

impl ProductGroups {
    /// Returns the grouping, or `None` if it is cheaper to evaluate the products.
    ///
    /// Element-wise work is B × D × C here against B × D²/2 there; a margin of 1.5 pays for the zeros inside groups. The
    /// margin is an estimate, not a measurement: far from it, at D = 128 to 512 and C = 8 and 16, grouping wins clearly.
    pub fn new(dim: usize, components: usize) -> Option<Self> {
        let width = (GROUP_COLUMNS / components.max(1)).clamp(1, dim.max(1));
        (components > 0 && 3 * components <= dim).then_some(Self { dim, components, width })
    }

    /// Returns the same grouping of dimensions for another number of components.
    pub fn with_components(self, components: usize) -> Self {
        Self { components, ..self }
    }

    /// Start of each group, its number of dimensions, and where its matrix starts in a packed buffer.
    fn groups(self) -> impl Iterator<Item = Group> {
        let mut offset = 0;
        (0..self.dim).step_by(self.width).map(move |first| {
            let width = self.width.min(self.dim - first);
            let group = Group {
                first,
                width,
                rows: self.dim - first,
                columns: width * self.components,
                offset,
            };
            offset += group.rows * group.columns;
            group
        })
    }

    /// Returns the length of a buffer of coefficients or sums.
    pub fn len(self) -> usize {
        self.groups().map(|g| g.rows * g.columns).sum()
    }

    /// Returns the number of columns of scratch, each as long as a tile's.
    pub fn scratch_columns(self) -> usize {
        self.width * self.components
    }

    /// Calls `f(component, k, at)` for each coefficient: `k` is its index in the packed upper triangle by rows,
    /// `at` that in a buffer of this grouping.
    pub fn for_each(self, mut f: impl FnMut(usize, usize, usize)) {
        for group in self.groups() {
            for i in group.first..group.first + group.width {
                // Rows of the triangle before row i hold D, D - 1, ... entries.
                let row_start = i * self.dim - i * i.saturating_sub(1) / 2;
                for c in 0..self.components {
                    let column =
                        group.offset + ((i - group.first) * self.components + c) * group.rows;
                    for j in i..self.dim {
                        f(c, row_start + (j - i), column + (j - group.first));
                    }
                }
            }
        }
    }

    /// Adds the products' part to the logits of a tile: `Z_c += Σ_{i ≤ j} h_c,ij x_i x_j`.
    ///
    /// # Shapes
    /// `coefficients:` [`len`](Self::len) values, zero where [`for_each`](Self::for_each) does not reach;
    /// `scratch:` [`scratch_columns`](Self::scratch_columns) columns; `logits: C` columns; all `tile.stride` apart.
    pub fn logits<T: Scalar>(
        self,
        simd: Simd,
        tile: Tile<'_, T>,
        coefficients: &[T],
        scratch: &mut [T],
        logits: &mut [T],
    ) {
        let (n, stride) = (tile.n_points, tile.stride);
        for group in self.groups() {
            let x = MatRef::from_column_major_slice_with_stride(tile.values, n, self.dim, stride);
            let h = &coefficients[group.offset..][..group.rows * group.columns];
            matmul(
                MatMut::from_column_major_slice_with_stride_mut(scratch, n, group.columns, stride),
                Accum::Replace,
                x.subcols(group.first, group.rows),
                MatRef::from_column_major_slice(h, group.rows, group.columns),
                T::ONE,
                Par::Seq,
            );
            simd.run(Contract { groups: self, group, tile, products: scratch, logits });
        }
    }

    /// Adds the products' sums of a tile: `S_c,ij += Σ_n r_nc x_ni x_nj`.
    ///
    /// # Shapes
    /// As for [`logits`](Self::logits), with `sums` in place of the coefficients. Entries that
    /// [`for_each`](Self::for_each) does not reach receive numbers without meaning.
    pub fn sums<T: Scalar>(
        self,
        simd: Simd,
        tile: Tile<'_, T>,
        responsibilities: &[T],
        scratch: &mut [T],
        sums: &mut [T],
    ) {
        let (n, stride) = (tile.n_points, tile.stride);
        for group in self.groups() {
            simd.run(Expand { groups: self, group, tile, responsibilities, products: scratch });
            let x = MatRef::from_column_major_slice_with_stride(tile.values, n, self.dim, stride);
            let s = &mut sums[group.offset..][..group.rows * group.columns];
            matmul(
                MatMut::from_column_major_slice_mut(s, group.rows, group.columns),
                Accum::Add,
                x.subcols(group.first, group.rows).transpose(),
                MatRef::from_column_major_slice_with_stride(scratch, n, group.columns, stride),
                T::ONE,
                Par::Seq,
            );
        }
    }
}

#[derive(Clone, Copy)]
struct Group {
    first: usize,
    width: usize,
    rows: usize,
    columns: usize,
    offset: usize,
}

/// `Z_c += Σ_i x_i ∘ Y_ic` over the dimensions of a group.
struct Contract<'a, T> {
    groups: ProductGroups,
    group: Group,
    tile: Tile<'a, T>,
    products: &'a [T],
    logits: &'a mut [T],
}

impl<T: Scalar> Kernel for Contract<'_, T> {
    type Output = ();

    /// Strips of 32 points keep the logits in registers while the dimensions pass.
    #[inline(always)]
    fn run<M: MulAdd>(self) {
        const STRIP: usize = 32;
        let (n, stride) = (self.tile.n_points, self.tile.stride);
        for (c, logits) in self.logits.chunks_mut(stride).take(self.groups.components).enumerate() {
            let mut start = 0;
            while start + STRIP <= n {
                let logits: &mut [T; STRIP] =
                    logits[start..].first_chunk_mut().expect("a whole strip");
                let mut sums = *logits;
                for i in 0..self.group.width {
                    let x: &[T; STRIP] = self.tile.values
                        [(self.group.first + i) * stride + start..]
                        .first_chunk()
                        .expect("a strip");
                    let y: &[T; STRIP] = self.products
                        [(i * self.groups.components + c) * stride + start..]
                        .first_chunk()
                        .expect("a strip");
                    for k in 0..STRIP {
                        sums[k] = M::mul_add(x[k], y[k], sums[k]);
                    }
                }
                *logits = sums;
                start += STRIP;
            }
            for k in start..n {
                for i in 0..self.group.width {
                    let x = self.tile.values[(self.group.first + i) * stride + k];
                    let y = self.products[(i * self.groups.components + c) * stride + k];
                    logits[k] = M::mul_add(x, y, logits[k]);
                }
            }
        }
    }
}

/// `W_ic = x_i ∘ r_c` over the dimensions of a group.
struct Expand<'a, T> {
    groups: ProductGroups,
    group: Group,
    tile: Tile<'a, T>,
    responsibilities: &'a [T],
    products: &'a mut [T],
}

impl<T: Scalar> Kernel for Expand<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let (n, stride) = (self.tile.n_points, self.tile.stride);
        for (k, out) in self.products.chunks_mut(stride).take(self.group.columns).enumerate() {
            let (i, c) = (k / self.groups.components, k % self.groups.components);
            let x = &self.tile.values[(self.group.first + i) * stride..][..n];
            let r = &self.responsibilities[c * stride..][..n];
            for ((w, &x), &r) in out.iter_mut().zip(x).zip(r) {
                *w = x * r;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_components_are_grouped_and_many_are_not() {
        assert!(ProductGroups::new(32, 32).is_none());
        assert!(ProductGroups::new(128, 16).is_some());
        assert!(ProductGroups::new(3, 0).is_none());
    }

    fn matches_the_definition<T: Scalar>(tolerance: f64) {
        for (level, simd) in Simd::available() {
            for (dim, components) in [(3, 1), (9, 2), (17, 3), (40, 4)] {
                let groups = ProductGroups {
                    width: 5.min(dim),
                    ..ProductGroups::new(dim, components).unwrap()
                };
                for n in [0, 1, 31, 32, 75] {
                    let stride = n + 4;
                    let value = |k: usize| T::from_f64((k * 29 % 17) as f64 / 8.0 - 1.0);
                    let x: Vec<T> = (0..dim * stride).map(value).collect();
                    let r: Vec<T> = (0..components * stride).map(|k| value(k + 3)).collect();
                    let tile = Tile { values: &x, dim, n_points: n, stride };
                    let mut coefficients = vec![T::ZERO; groups.len()];
                    let h = |c: usize, k: usize| value(7 * c + k).to_f64();
                    groups.for_each(|c, k, at| coefficients[at] = T::from_f64(h(c, k)));
                    let mut scratch = vec![T::ZERO; groups.scratch_columns() * stride];
                    let mut logits = r.clone();
                    groups.logits(simd, tile, &coefficients, &mut scratch, &mut logits);
                    let mut sums = vec![T::ZERO; groups.len()];
                    groups.sums(simd, tile, &r, &mut scratch, &mut sums);
                    let at = |d: usize, p: usize| x[d * stride + p].to_f64();
                    let pairs: Vec<_> =
                        (0..dim).flat_map(|i| (i..dim).map(move |j| (i, j))).collect();
                    for c in 0..components {
                        for p in 0..n {
                            let products = pairs
                                .iter()
                                .enumerate()
                                .map(|(k, &(i, j))| h(c, k) * at(i, p) * at(j, p));
                            let expected = r[c * stride + p].to_f64() + products.sum::<f64>();
                            let error = (logits[c * stride + p].to_f64() - expected).abs();
                            assert!(
                                error <= tolerance * pairs.len() as f64,
                                "{level:?} {dim} {components} {n}"
                            );
                        }
                    }
                    let mut reached = 0;
                    groups.for_each(|c, k, to| {
                        reached += 1;
                        let (i, j) = pairs[k];
                        let expected: f64 =
                            (0..n).map(|p| r[c * stride + p].to_f64() * at(i, p) * at(j, p)).sum();
                        let error = (sums[to].to_f64() - expected).abs();
                        assert!(error <= tolerance * (n + 1) as f64, "{level:?} sums {i} {j}");
                    });
                    assert_eq!(reached, components * pairs.len());
                }
            }
        }
    }

    #[test]
    fn matches_the_definition_in_both_precisions() {
        matches_the_definition::<f32>(1e-6);
        matches_the_definition::<f64>(1e-15);
    }
}
