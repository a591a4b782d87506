//! Keeps the factors of covariances from one use to the next.

use crate::family::covariance::Precision;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Largest size of a generation, in numbers: 16 MiB, or 146 covariances of 64 dimensions. Of more components most factors are computed
/// again.
const CAPACITY: usize = 1 << 21;

/// The factorised covariances that were used last.
///
/// An iteration needs each covariance for its M-step, its bound, its entropy, its natural parameters and its whitened differences. Each
/// computed the factor for itself, which was a third of an iteration over 6435 points of 36 dimensions. Parameters are plain numbers that
/// anyone may set, so a factor is found by the bits of its covariance, and results do not depend on what is kept. A place for factors
/// beside the parameters was rejected: it is out of date as soon as somebody sets them.
#[derive(Clone, Default)]
pub(super) struct Factors(Arc<Mutex<Generations>>);

/// Precisions by a hash of their covariance. At an M-step the young ones become the old ones, and the old ones go.
#[derive(Default)]
struct Generations {
    young: HashMap<u64, Kept>,
    old: HashMap<u64, Kept>,
    /// Numbers that the young ones hold.
    size: usize,
}

struct Kept {
    covariance: Box<[f64]>,
    precision: Arc<Precision>,
}

impl Factors {
    /// Returns the precision of a covariance, by `factorise` unless it is kept. Returns `None` where `factorise` does.
    pub(super) fn precision(
        &self,
        covariance: &[f64],
        factorise: impl FnOnce() -> Option<Precision>,
    ) -> Option<Arc<Precision>> {
        let hash = hash(covariance);
        if let Some(precision) = self.with(|kept| kept.find(hash, covariance)) {
            return Some(precision);
        }
        // Not while others wait.
        let precision = Arc::new(factorise()?);
        let kept = Kept { covariance: covariance.into(), precision: precision.clone() };
        self.with(|all| all.keep(hash, kept));
        Some(precision)
    }

    /// Tells that parameters are about to change. What was not used since the last call goes: a heap full of old factors costs more than
    /// they save.
    pub(super) fn age(&self) {
        self.with(Generations::age);
    }

    fn with<V>(&self, f: impl FnOnce(&mut Generations) -> V) -> V {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Generations {
    fn age(&mut self) {
        std::mem::swap(&mut self.old, &mut self.young);
        self.young.clear();
        self.size = 0;
    }

    fn find(&mut self, hash: u64, covariance: &[f64]) -> Option<Arc<Precision>> {
        let is_same = |kept: &&Kept| same_bits(&kept.covariance, covariance);
        if let Some(kept) = self.young.get(&hash).filter(is_same) {
            return Some(kept.precision.clone());
        }
        self.old.get(&hash).filter(is_same)?;
        let kept = self.old.remove(&hash)?;
        let precision = kept.precision.clone();
        self.keep(hash, kept);
        Some(precision)
    }

    fn keep(&mut self, hash: u64, kept: Kept) {
        let size = kept.covariance.len() + kept.precision.size();
        if self.size + size > CAPACITY {
            self.age();
        }
        self.size += size;
        self.young.insert(hash, kept);
    }
}

/// Two zeros of unlike sign are two covariances.
fn same_bits(a: &[f64], b: &[f64]) -> bool {
    bytemuck::cast_slice::<_, u64>(a) == bytemuck::cast_slice::<_, u64>(b)
}

/// Hashes the diagonal of a square matrix (FNV-1a by words).
fn hash(covariance: &[f64]) -> u64 {
    let dim = covariance.len().isqrt();
    let diagonal = covariance.iter().step_by(dim + 1);
    diagonal
        .fold(0xcbf2_9ce4_8422_2325, |hash, v| (hash ^ v.to_bits()).wrapping_mul(0x100_0000_01b3))
}

/// Families are the same, whatever they keep.
impl PartialEq for Factors {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Factors {}

impl fmt::Debug for Factors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Factors")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::covariance::Shape;
    use std::cell::Cell;

    #[test]
    fn a_covariance_is_factorised_once_until_others_take_its_place() {
        let (factors, calls) = (Factors::default(), Cell::new(0));
        let get = |covariance: &[f64]| {
            factors.precision(covariance, || {
                calls.set(calls.get() + 1);
                Shape::Full.precision(covariance, 2)
            })
        };
        let first = [2.0, 0.5, 0.5, 1.0];
        let natural = get(&first).unwrap().natural.clone();
        assert_eq!(natural, Shape::Full.precision(&first, 2).unwrap().natural);
        assert_eq!((get(&first).unwrap().natural.clone(), calls.get()), (natural, 1));
        // The same diagonal, and so the same place.
        let other = [2.0, -0.5, -0.5, 1.0];
        assert_ne!(get(&other).unwrap().natural, get(&first).unwrap().natural);
        assert!(calls.get() >= 3);
        assert!(get(&[1.0, 2.0, 2.0, 1.0]).is_none());
        // What is used stays, what is not used for two generations goes.
        let unused = [3.0, 0.0, 0.0, 1.0];
        get(&unused);
        for _ in 0..2 {
            factors.age();
            get(&first);
        }
        let before = calls.get();
        get(&first);
        assert_eq!(calls.get(), before);
        get(&unused);
        assert_eq!(calls.get(), before + 1);
        // Without an M-step they have a limit.
        let size = 4 + get(&first).unwrap().size();
        (0..3 * CAPACITY / size).for_each(|k| drop(get(&[1.0 + k as f64, 0.0, 0.0, 1.0])));
        let n_kept = factors.with(|kept| kept.young.len() + kept.old.len());
        assert!(n_kept <= 2 * CAPACITY / size, "{n_kept}");
    }
}
