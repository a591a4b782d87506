//! A predictor gives the answers of `inference`, point by point and in batches.

use crate::common::{
    Uniforms, assert_all_close, clusters, example_mixture, example_points, rounded,
};
use entropysum::Error;
use entropysum::Executor;
use entropysum::Scalar;
use entropysum::data::Points;
use entropysum::expert::model::{Density, GenerativeModel};
use entropysum::family::{Parameters, registry};
use entropysum::inference;
use entropysum::model::{LinearGaussian, Mixture, MixtureOfFactorAnalyzers, Noise, NoiseStructure};
use entropysum::predictor::Predictor;

/// Asks a predictor in every way, and compares with what `inference` says.
fn answers_agree<T: Scalar, M: Density<T>>(model: &M, points: &[T], tolerance: f64, what: &str) {
    let executor = Executor::new(Some(1)).unwrap();
    let (dim, n_components) = (model.dim(), model.n_components());
    let source = Points::from_rows(points, dim).unwrap();
    let n = points.len() / dim;
    let (mut labels, mut probabilities, mut densities) = (Vec::new(), Vec::new(), Vec::new());
    inference::predict(model, &source, &executor, |_, batch| {
        labels.extend_from_slice(batch);
        Ok(())
    })
    .unwrap();
    inference::predict_proba(model, &source, &executor, |_, batch| {
        probabilities.extend_from_slice(batch);
        Ok(())
    })
    .unwrap();
    inference::score_samples(model, &source, &executor, |_, batch| {
        densities.extend_from_slice(batch);
        Ok(())
    })
    .unwrap();

    let mut predictor = Predictor::<T, M>::new(model);
    assert_eq!((predictor.dim(), predictor.n_components()), (dim, n_components));
    let mut batch_labels = vec![0; n];
    predictor.labels(points, &mut batch_labels).unwrap();
    assert_eq!(batch_labels, labels, "{what}");
    let mut batch = vec![0.0; n * n_components];
    predictor.posteriors(points, &mut batch).unwrap();
    assert_all_close(&batch, &probabilities, tolerance, what);
    let mut batch = vec![0.0; n];
    predictor.log_densities(points, &mut batch).unwrap();
    assert_all_close(&batch, &densities, tolerance, what);

    let mut single = vec![0.0; n_components];
    let mut clone = predictor.clone();
    for (i, point) in points.chunks(dim).enumerate() {
        assert_eq!(predictor.label(point).unwrap(), labels[i], "{what}");
        clone.posterior(point, &mut single).unwrap();
        let expected = &probabilities[i * n_components..][..n_components];
        assert_all_close(&single, expected, tolerance, what);
        assert_all_close(&[clone.log_density(point).unwrap()], &densities[i..=i], tolerance, what);
    }
}

fn tolerance<T: Scalar>() -> f64 {
    if T::EPSILON < 1e-10 { 1e-12 } else { 2e-5 }
}

fn families_agree<T: Scalar>() {
    for (name, dim) in [
        ("gaussian-full", 3),
        ("gaussian-tied", 3),
        ("gaussian-diag", 3),
        ("gaussian-tied-spherical", 2),
        ("gamma", 2),
        ("poisson", 3),
        ("multinomial", 3),
        ("von-mises-fisher", 3),
        ("poisson:0,gaussian-full:1-2", 3),
    ] {
        let model = example_mixture(name, dim, 3);
        // More than a tile of points.
        let points: Vec<T> = rounded(&example_points(model.family(), 300, 3, 5));
        answers_agree(&model, &points, tolerance::<T>(), name);
    }
}

#[test]
fn answers_are_those_of_inference_for_families_f64() {
    families_agree::<f64>();
}

#[test]
fn answers_are_those_of_inference_for_families_f32() {
    families_agree::<f32>();
}

/// Two components so narrow and far apart that they take the centred kernel.
fn narrow(family: &str) -> Mixture {
    let covariances =
        if family == "gaussian-full" { vec![1e-8, 0.0, 0.0, 1e-8] } else { vec![1e-8, 1e-8] };
    let component = |mean: f64| [vec![mean, -mean], covariances.clone()].concat();
    let parameters =
        Parameters { components: vec![component(1e3), component(-1e3)], shared: Vec::new() };
    Mixture::new(registry::build(family, 2).unwrap(), vec![0.5, 0.5], parameters).unwrap()
}

#[test]
fn answers_are_those_of_inference_for_narrow_components() {
    for family in ["gaussian-full", "gaussian-diag"] {
        let points = [1e3, -1e3, -1e3, 1e3 + 1e-4, 1e3 - 2e-4, -1e3];
        answers_agree::<f64, _>(&narrow(family), &points, 1e-12, family);
    }
}

#[test]
fn answers_are_those_of_inference_with_missing_values() {
    let model = example_mixture("gaussian-diag", 3, 3).ignoring_missing().unwrap();
    let mut points = example_points(model.family(), 60, 3, 5);
    points.iter_mut().step_by(4).for_each(|value| *value = f64::NAN);
    answers_agree::<f64, _>(&model, &points, 1e-12, "f64");
    answers_agree::<f32, _>(&model, &rounded(&points), 2e-5, "f32");
}

#[test]
fn answers_are_those_of_inference_for_factor_analyzers() {
    let mut u = Uniforms::new(3);
    let mut normals = |n: usize| (0..n).map(|_| 2.0 * u.normal()).collect::<Vec<_>>();
    let (means, loadings) = (normals(8), normals(16));
    let (noise, weights, variances) = (NoiseStructure::Diagonal, vec![0.3, 0.7], [0.5; 8]);
    let model =
        MixtureOfFactorAnalyzers::new(noise, 4, weights, &means, &loadings, &variances).unwrap();
    let points = clusters(300, 4, 2, 3.0, 9);
    answers_agree::<f64, _>(&model, &points, 1e-12, "f64");
    answers_agree::<f32, _>(&model, &rounded(&points), 2e-5, "f32");
}

#[test]
fn models_without_components_have_densities_only() {
    let (loadings, variances) = ([1.0, 2.0, 3.0], vec![0.5, 1.0, 2.0]);
    let model = LinearGaussian::new(Noise::Diagonal, vec![0.0; 3], &loadings, variances).unwrap();
    let mut predictor = Predictor::<f64, _>::new(&model);
    let source = Points::from_rows(&[0.5, 1.0, -1.0], 3).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    inference::score_samples(&model, &source, &executor, |_, expected| {
        assert_eq!(predictor.log_density(&[0.5, 1.0, -1.0])?, expected[0]);
        Ok(())
    })
    .unwrap();
    let fault = predictor.label(&[0.0; 3]).unwrap_err();
    assert!(matches!(fault, Error::Model(_)), "{fault}");
}

#[test]
fn bad_points_are_errors_that_say_what_to_do() {
    let mut counts = Predictor::<f64>::new(&example_mixture("poisson", 2, 2));
    let message = |result: entropysum::Result<u32>| match result {
        Err(fault @ Error::Data(_)) => fault.to_string(),
        other => panic!("{other:?}"),
    };
    for (point, expected) in [
        (&[1.0][..], "memory: found 1 values, expected 2, one a dimension of the model"),
        (&[1.0; 4], "memory: found 4 values, expected 2, one a dimension of the model"),
        (
            &[1.0, -1.0],
            "memory: column 1: the value is -1, expected a whole number ≥ 0; correct the point, or leave it out",
        ),
        (
            &[f64::NAN, 1.0],
            "memory: column 0: the value is NaN, expected a whole number ≥ 0; \
             make the predictor from `model.ignoring_missing()` to ignore missing values",
        ),
    ] {
        let found = message(counts.label(point));
        assert!(found.starts_with(expected), "{found}");
    }
    let fault = counts.labels(&[1.0, 2.0, 3.0, 0.5], &mut [0; 2]).unwrap_err().to_string();
    assert!(fault.starts_with("memory: row 1, column 1: the value is 0.5, expected"), "{fault}");
    let fault = counts.labels(&[1.0; 3], &mut [0; 2]).unwrap_err().to_string();
    assert_eq!(
        fault,
        "memory: found 3 values, expected a multiple of 2, the dimension of the model"
    );
    let fault = counts.labels(&[1.0; 4], &mut [0; 3]).unwrap_err().to_string();
    assert_eq!(fault, "the slice for answers has 3 places, expected 2");

    // Any finite number fits a Gaussian, so faults show in its density.
    let model = example_mixture("gaussian-tied", 2, 2);
    let mut gaussian = Predictor::<f32>::new(&model);
    let found = message(gaussian.label(&[f32::NAN, 0.0]));
    assert!(found.starts_with("memory: column 0: the value is NaN, expected a finite"), "{found}");
    assert!(found.contains("fill in missing values"), "{found}");
    let found = message(gaussian.label(&[0.0, f32::INFINITY]));
    assert!(found.starts_with("memory: column 1: the value is inf, expected a finite"), "{found}");
    let found = message(gaussian.label(&[1e30, 0.0]));
    assert!(found.contains("overflows f32") && found.contains("use f64"), "{found}");
    // A fault leaves nothing behind.
    assert!(gaussian.label(&[0.0, 0.0]).is_ok());
    let _: &dyn Send = &gaussian;
}
