//! A predictor allocates nothing once it is made.
//!
//! A program of its own, since the allocator that counts is that of the whole program.

use entropysum::expert::model::Density;
use entropysum::family::registry;
use entropysum::model::{Mixture, MixtureOfFactorAnalyzers, NoiseStructure};
use entropysum::{Predictor, Scalar};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts what each thread asks for.
struct Counting;

// SAFETY: all requests go to the system's allocator as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer comes from `alloc` above, and so from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Asks a predictor everything, twice; returns the number of allocations.
fn allocations<T: Scalar, M: Density<T>>(model: &M, points: &[T]) -> u64 {
    let mut predictor = Predictor::<T, M>::new(model);
    let (dim, n_components) = (predictor.dim(), predictor.n_components());
    let n = points.len() / dim;
    let (mut labels, mut densities) = (vec![0; n], vec![0.0; n]);
    let mut posteriors = vec![0.0; n * n_components];
    let before = ALLOCATIONS.get();
    for _ in 0..2 {
        predictor.labels(points, &mut labels).unwrap();
        predictor.posteriors(points, &mut posteriors).unwrap();
        predictor.log_densities(points, &mut densities).unwrap();
        for point in points.chunks(dim) {
            predictor.label(point).unwrap();
            predictor.posterior(point, &mut posteriors[..n_components]).unwrap();
            predictor.log_density(point).unwrap();
        }
    }
    ALLOCATIONS.get() - before
}

fn mixture(family: &str, dim: usize, scale: f64, variance: f64) -> Mixture {
    let family = registry::build(family, dim).unwrap();
    let n_components = 5;
    let weights = vec![1.0 / n_components as f64; n_components];
    let arrays: Vec<(String, Vec<f64>)> = family
        .parameters()
        .iter()
        .map(|spec| {
            let rows = if spec.shared { 1 } else { n_components };
            let value = |i: usize| match (&*spec.name, spec.shape.len()) {
                ("covariances", 2) if (i % spec.len()).is_multiple_of(dim + 1) => variance,
                ("covariances", 2) => 0.0,
                ("covariances", _) => variance,
                _ => scale * (1.0 + (7 * i % 5) as f64),
            };
            (spec.name.to_string(), (0..rows * spec.len()).map(value).collect())
        })
        .collect();
    Mixture::from_arrays(family, weights, |name| {
        arrays.iter().find(|(it, _)| it == name).map(|(_, values)| &values[..])
    })
    .unwrap()
}

fn nothing_is_allocated<T: Scalar>() {
    let dim = 8;
    let points: Vec<T> = (0..40 * dim).map(|i| T::from_f64((i * 5 % 7) as f64)).collect();
    for name in ["gaussian-full", "gaussian-tied", "gaussian-diag", "poisson"] {
        let model = mixture(name, dim, 1.0, 1.0);
        assert_eq!(allocations(&model, &points), 0, "{name}, {}", T::NAME);
    }
    // Components that take the centred kernel.
    for name in ["gaussian-full", "gaussian-diag"] {
        let model = mixture(name, dim, 1e3, 1e-2);
        assert_eq!(allocations(&model, &points), 0, "narrow {name}, {}", T::NAME);
    }
    let (weights, loadings) = (vec![0.5, 0.5], vec![0.25; 2 * dim * 2]);
    let means: Vec<f64> = (0..2 * dim).map(|i| (i % 5) as f64).collect();
    let variances = vec![1.0; 2 * dim];
    let noise = NoiseStructure::Diagonal;
    let model =
        MixtureOfFactorAnalyzers::new(noise, dim, weights, &means, &loadings, &variances).unwrap();
    assert_eq!(allocations(&model, &points), 0, "factor analysers, {}", T::NAME);
}

#[test]
fn a_predictor_allocates_nothing_after_construction_f64() {
    nothing_is_allocated::<f64>();
}

#[test]
fn a_predictor_allocates_nothing_after_construction_f32() {
    nothing_is_allocated::<f32>();
}
