//! Identities of sources: hashes of some points, which tell apart sources of the same shape.
//!
//! Names and times say nothing: files are copied and moved. To hash all points would take as long as a pass over them. So the
//! points at [`PLACES`] places are hashed, from the first to the last, evenly apart. A file with other points is found
//! out; one in which a few points were changed, elsewhere, is not.

use super::DataSource;
use crate::block::BlockBuf;
use crate::scalar::Scalar;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Places that are looked at.
pub const PLACES: u64 = 16;

/// Points at a place.
const POINTS: u64 = 64;

/// Holds hashes of points at some places of a source, except of places that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    len: u64,
    hashes: Vec<Option<u64>>,
}

impl Identity {
    /// Hashes points of a source.
    pub fn of<T: Scalar>(source: &dyn DataSource<T>) -> Self {
        let mut buffer = BlockBuf::default();
        let hash = |place| {
            let Range { start, end } = points_at(place, source.len(), POINTS);
            let block =
                super::read(source, false, start, (end - start) as usize, &mut buffer).ok()?;
            let mut hash = Hash::default();
            for i in 0..block.len() {
                (0..block.dim()).for_each(|d| hash.add(block.points[(i, d)].to_f64()));
                block.weights.iter().for_each(|weights| hash.add(weights[i]));
            }
            Some(hash.0)
        };
        Self { len: source.len(), hashes: (0..PLACES).map(hash).collect() }
    }

    /// Returns a number that differs where identities do, but by rare chance.
    pub fn digest(&self) -> u64 {
        let mut hash = Hash::default();
        // Bits of any pattern, and no number.
        hash.add_bits(self.len);
        self.hashes.iter().for_each(|at| hash.add_bits(at.unwrap_or(0)));
        hash.0
    }

    /// Returns the first points that differ, among those that could be read both times; all points if the numbers differ.
    pub fn difference(&self, other: &Self) -> Option<Range<u64>> {
        if self.len != other.len {
            return Some(0..self.len.max(other.len));
        }
        let differ =
            |(a, b): (&Option<u64>, &Option<u64>)| matches!((a, b), (Some(a), Some(b)) if a != b);
        let place = self.hashes.iter().zip(&other.hashes).position(differ)?;
        Some(points_at(place as u64, self.len, POINTS))
    }
}

/// Returns the points at one of [`PLACES`] places, at most so many.
pub(super) fn points_at(place: u64, len: u64, at_most: u64) -> Range<u64> {
    let count = at_most.min(len);
    // In 128 bits: products of lengths may be too long for 64.
    let start = u128::from(len - count) * u128::from(place) / u128::from(PLACES - 1);
    start as u64..start as u64 + count
}

/// Returns the rows that an identity looks at, by place.
pub(crate) fn rows_looked_at(len: u64) -> impl Iterator<Item = u64> {
    (0..PLACES).flat_map(move |place| points_at(place, len, POINTS))
}

/// FNV-1a over words, with the mixing step of SplitMix64 in the place of bytes.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn add(&mut self, value: f64) {
        // Numbers that are none have many patterns, and conversions may change them.
        self.add_bits(if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() });
    }

    fn add_bits(&mut self, bits: u64) {
        let mixed = (self.0 ^ bits).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.0 = (mixed ^ (mixed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Block;
    use crate::data::memory::Points;
    use crate::error::{DataError, Result};

    fn points(n: usize, change: impl Fn(usize) -> f64) -> Points<'static, f64> {
        Points::owned((0..2 * n).map(|i| (i as f64).sin() + change(i / 2)).collect(), 2).unwrap()
    }

    #[test]
    fn other_points_are_found_out_wherever_they_begin() {
        for n in [1, 63, 64, 65, 1000, 100_000] {
            let one = Identity::of(&points(n, |_| 0.0));
            let same = Identity::of(&points(n, |_| 0.0));
            assert_eq!((one.difference(&same), one.digest()), (None, same.digest()));
            for from in [0, n / 3, n - 1] {
                let other = Identity::of(&points(n, |i| if i < from { 0.0 } else { 1e-9 }));
                assert_ne!(one.digest(), other.digest());
                let found = one.difference(&other).expect("they differ");
                assert!(found.end > from as u64 && found.end <= n as u64, "{n} {from} {found:?}");
            }
        }
        let weighted = |w| points(100, |_| 0.0).with_weights(vec![w; 100]).unwrap();
        let [one, two] = [1.5, 2.0].map(|w| Identity::of(&weighted(w)));
        assert_eq!(one.difference(&two), Some(0..64));
    }

    #[test]
    fn what_cannot_be_read_agrees_with_anything() {
        struct Cut(Points<'static, f64>);
        impl DataSource<f64> for Cut {
            fn name(&self) -> String {
                "cut".to_owned()
            }
            fn dim(&self) -> usize {
                2
            }
            fn len(&self) -> u64 {
                DataSource::<f64>::len(&self.0)
            }
            fn read<'a>(
                &'a self,
                start: u64,
                count: usize,
                buffer: &'a mut BlockBuf<f64>,
            ) -> Result<Block<'a, f64>> {
                if start > 500 {
                    return Err(DataError::new("cut", "the file ends here").into());
                }
                self.0.read(start, count, buffer)
            }
        }
        let whole = Identity::of(&points(1000, |_| 0.0));
        let cut = Identity::of(&Cut(points(1000, |_| 0.0)));
        assert_ne!(whole, cut);
        assert_eq!(whole.difference(&cut), None);
        let other = Identity::of(&Cut(points(1000, |_| 1.0)));
        assert_eq!(whole.difference(&other), Some(0..64));
        for identity in [whole, cut] {
            let text = serde_json::to_string(&identity).unwrap();
            assert_eq!(serde_json::from_str::<Identity>(&text).unwrap(), identity);
        }
        let longer = Identity::of(&points(1001, |_| 0.0));
        assert_eq!(longer.difference(&Identity::of(&points(1000, |_| 0.0))), Some(0..1001));
    }

    #[test]
    fn equal_points_have_no_difference() {
        let of = |values| Identity::of(&Points::owned(values, 1).unwrap());
        let (points, copy) = (of(vec![1.0, 2.0, 3.0]), of(vec![1.0, 2.0, 3.0]));
        assert_eq!(points.difference(&copy), None);
        assert_eq!(points.difference(&of(vec![1.0, 2.0, 4.0])), Some(0..3));
    }
}
