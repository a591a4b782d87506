//! Helpers of the integration tests.
#![allow(dead_code, reason = "each test binary uses some of them")]

use entropysum::family::registry;
use entropysum::model::Mixture;
use entropysum::scalar::Scalar;
use serde_json::Value;

pub fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// All numbers of a JSON array, in order, whatever its nesting.
pub fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap_or_else(|| panic!("{other} is no number"))],
    }
}

pub fn rounded<T: Scalar>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&v| T::from_f64(v)).collect()
}

/// A Gaussian mixture from the `pi`, `means` and `covariances` of a fixture.
pub fn gaussian_mixture(covariance: &str, dim: usize, parameters: &Value) -> Mixture {
    let family = registry::build(&format!("gaussian-{covariance}"), dim).unwrap();
    let (means, covariances) = (numbers(&parameters["means"]), numbers(&parameters["covariances"]));
    Mixture::from_arrays(family, numbers(&parameters["pi"]), |name| {
        Some(if name == "means" { &means } else { &covariances })
    })
    .unwrap()
}

#[track_caller]
pub fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (found - expected).abs() / expected.abs().max(1.0);
    assert!(error <= tolerance, "{what}: {found}, expected {expected}, relative error {error:e}");
}

#[track_caller]
pub fn assert_all_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert_close(*f, *e, tolerance, &format!("{what}[{i}]"));
    }
}

/// A reproducible stream of numbers in [0, 1), good enough for tests.
pub struct Uniforms(u64);

impl Uniforms {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 * 2f64.powi(-53)
    }

    /// Roughly normal, by twelve uniforms.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() - 6.0
    }
}

/// Points of `n_components` round clusters, `distance` apart, in turn.
pub fn clusters(n: usize, dim: usize, n_components: usize, distance: f64, seed: u64) -> Vec<f64> {
    let mut u = Uniforms::new(seed);
    let means: Vec<f64> = (0..n_components * dim).map(|_| distance * u.normal()).collect();
    (0..n)
        .flat_map(|i| (0..dim).map(move |d| (i % n_components) * dim + d))
        .map(|at| means[at] + u.normal())
        .collect()
}
