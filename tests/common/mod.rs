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
