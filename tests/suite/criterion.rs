//! The parameterisation criterion: what fulfils it, what fails it, and the gap identity on data.

use crate::common;

use common::{Uniforms, example_family, example_points};
use entropysum::expert::criterion::{self, Factor, FactorModel, Statement, mixture};
use entropysum::expert::model::GenerativeModel;
use entropysum::expert::{self, Sizes, solve};
use entropysum::family::{KnownParameters, registry};
use entropysum::model::{Mixture, Posterior};
use entropysum::{Config, Executor, MixtureSpec, Points, Silent, em};

const SIZES: Sizes = Sizes { n_components: 3, dim: 4, n_latents: 3 };

fn built_in(name: &str, sizes: Sizes) -> entropysum::Result<FactorModel> {
    expert::built_in(name, sizes, &KnownParameters::default())
}

#[test]
fn every_family_of_the_registry_fulfils_the_criterion() {
    for name in registry::names() {
        let family = example_family(name, SIZES.dim);
        let is_shared = family.parameters().iter().any(|it| it.shared);
        let report = mixture(family, SIZES.n_components).check(6, 1);
        assert!(report.is_fulfilled(), "{report}");
        for factor in &report.factors {
            assert!(factor.residual < 1e-9, "{report}");
            assert!(factor.closed_form_residual.is_none_or(|it| it < 1e-9), "{report}");
        }
        let expected = match (is_shared, report.base_measure_is_constant()) {
            (true, _) => Statement::Definition,
            (false, true) => Statement::Mixture,
            (false, false) => Statement::GeneralMixture,
        };
        assert_eq!(report.applies, Some(expected), "{report}");
    }
}

/// Points of a draw need not have all of many levels.
#[test]
fn many_levels_fulfil_the_criterion_at_any_seed() {
    for levels in [2.0, 5.0, 9.0, 12.0] {
        let known = KnownParameters::default().with("levels", vec![levels]);
        let model = expert::built_in("categorical", SIZES, &known).unwrap();
        for seed in 0..3 {
            let report = model.check(4, seed);
            assert!(report.is_fulfilled(), "{levels} levels, seed {seed}: {report}");
        }
    }
}

/// What `Constraint` says of an array must leave as many directions as information criteria count parameters.
#[test]
fn free_directions_are_the_free_parameters() {
    for name in registry::names() {
        for n_components in [1, 3] {
            let family = example_family(name, SIZES.dim);
            let expected = n_components - 1 + family.n_free_parameters(n_components);
            let report = mixture(family, n_components).check(1, 1);
            let n_free: usize = report.factors.iter().map(|it| it.n_free).sum();
            assert_eq!(n_free, expected, "{name}");
        }
    }
}

#[test]
fn verdicts_are_those_of_the_paper() {
    for (name, applies) in [
        ("ppca", Some(Statement::ScalarVariance)),
        ("factor-analysis", Some(Statement::DiagonalCovariance)),
        ("sbn", Some(Statement::SigmoidBeliefNet)),
        ("binary-sparse-coding", Some(Statement::ScalarVariance)),
        ("sbn-3-layers", Some(Statement::SigmoidBeliefNet)),
        ("mfa", Some(Statement::Definition)),
        ("mppca", Some(Statement::Definition)),
        ("mfa-fixed-prior", None),
        ("gaussian-full", Some(Statement::Mixture)),
        ("gaussian-tied", Some(Statement::Definition)),
        ("ppca-fixed-prior", None),
        ("factor-analysis-fixed-prior", None),
        ("linear-fixed-noise", None),
        ("gaussian-fixed-variance", None),
    ] {
        for seed in 0..3 {
            let report = built_in(name, SIZES).unwrap().check(4, seed);
            assert_eq!(report.applies, applies, "{report}");
        }
    }
}

#[test]
fn a_model_that_fails_is_told_where() {
    let holds = |name| -> Vec<bool> {
        let report = built_in(name, SIZES).unwrap().check(4, 0);
        report.factors.iter().map(|it| it.holds).collect()
    };
    assert_eq!(holds("ppca-fixed-prior"), [false, true]);
    assert_eq!(holds("linear-fixed-noise"), [true, false]);
    assert_eq!(holds("gaussian-fixed-variance"), [true, false]);
    assert_eq!(holds("mppca-fixed-prior"), [true, false, true]);
    let report = built_in("ppca-fixed-prior", SIZES).unwrap().check(4, 0);
    // Nothing moves N(0, I), so all of its natural parameters are left.
    assert_eq!((report.factors[0].residual, report.factors[0].n_free), (1.0, 0));
    let text = report.to_string();
    assert!(text.contains("not fulfilled") && text.contains("nothing is free"), "{text}");
    let json = report.json();
    assert_eq!((&json["fulfilled"], &json["applies"]), (&false.into(), &serde_json::Value::Null));
    assert_eq!(json["factors"][0]["part"], "A");
}

#[test]
fn only_the_parameters_that_the_proofs_use_move() {
    let moves = |name| {
        let report = built_in(name, SIZES).unwrap().check(4, 0);
        report.factors.iter().map(|it| it.moves.join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(moves("gaussian-diag"), ["weights", "covariances"]);
    assert_eq!(moves("ppca"), ["prior_variance", "noise_variance"]);
    assert_eq!(moves("sbn"), ["prior_probabilities", "weights biases"]);
}

/// A coefficient that solves Eqn 7 in each latent state alone is not enough: it must be the same in all.
#[test]
fn coefficients_must_not_depend_on_the_latents() {
    struct Quadratic;
    impl Factor for Quadratic {
        fn name(&self) -> String {
            "p(x | z)".into()
        }
        fn parameters(&self) -> Vec<(String, usize)> {
            vec![("slope".into(), 1)]
        }
        fn draw_parameters(&self, uniform: &mut dyn FnMut() -> f64) -> Vec<f64> {
            vec![1.0 + uniform()]
        }
        fn draw_latents(&self, n: usize, uniform: &mut dyn FnMut() -> f64) -> Vec<Vec<f64>> {
            (0..n).map(|_| vec![1.0 + uniform()]).collect()
        }
        fn natural(&self, z: &[f64], theta: &[f64]) -> Vec<f64> {
            vec![(theta[0] * z[0]).exp()]
        }
    }
    for z in [1.0, 1.5] {
        let alone = solve(&Quadratic, &[2.0], &[vec![z]]);
        assert!(alone.residual < 1e-10);
        assert!((alone.flow[0] - 1.0 / z).abs() < 1e-9, "β = 1 / z");
    }
    let report = FactorModel::new("exponential of a slope", vec![Box::new(Quadratic)]).check(4, 0);
    assert!(!report.is_fulfilled() && report.factors[0].residual > 1e-3, "{report}");
}

/// Parameters that say the same twice leave a choice of coefficients; one of them solves.
#[test]
fn redundant_parameters_do_no_harm() {
    struct Product;
    impl Factor for Product {
        fn name(&self) -> String {
            "p(x)".into()
        }
        fn parameters(&self) -> Vec<(String, usize)> {
            vec![("a".into(), 1), ("b".into(), 1)]
        }
        fn draw_parameters(&self, uniform: &mut dyn FnMut() -> f64) -> Vec<f64> {
            vec![0.5 + uniform(), -0.5 - uniform()]
        }
        fn natural(&self, _: &[f64], theta: &[f64]) -> Vec<f64> {
            vec![theta[0] * theta[1]]
        }
    }
    let report = FactorModel::new("product", vec![Box::new(Product)]).check(4, 0);
    assert!(report.is_fulfilled(), "{report}");
    let solution = solve(&Product, &[2.0, -3.0], &[vec![]]);
    // In relative steps both factors move alike.
    assert!((solution.flow[0] - 1.0).abs() < 1e-9 && (solution.flow[1] + 1.5).abs() < 1e-9);
    assert!(!solution.is_invertible);
}

fn start(name: &str, posterior: Posterior, max_iter: usize) -> (Mixture, Points<'static, f64>) {
    let family = example_family(name, 3);
    let points = Points::owned(example_points(&*family, 300, 3, 5), 3).unwrap();
    let spec = MixtureSpec::new(family, 3).with_posterior(posterior);
    let config = Config::default().max_iter(max_iter).tol(0.0);
    let executor = Executor::new(Some(1)).unwrap();
    let fit = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
    (fit.model, points)
}

/// Theory 1.2, with fresh posteriors far from and near to convergence, and on points the model has not seen.
#[test]
fn the_gap_on_data_is_the_derivative_of_the_bound() {
    let executor = Executor::new(Some(1)).unwrap();
    let mut largest: f64 = 0.0;
    for name in registry::names() {
        for posterior in [Posterior::Exact, Posterior::Hard] {
            for max_iter in [1, 4] {
                let (model, points) = start(name, posterior, max_iter);
                let gap = criterion::certify(&model, &points, &executor).unwrap();
                assert!(gap.error().abs() < 1e-9, "{name}: {gap}");
                let held_out = example_points(model.family(), 200, 2, 8);
                let others = Points::<f64>::from_rows(&held_out, 3).unwrap();
                let gap = criterion::certify(&model, &others, &executor).unwrap();
                assert!(gap.error().abs() < 1e-9 * gap.gap().abs().max(1.0), "{name}: {gap}");
                largest = largest.max(gap.gap().abs());
            }
        }
    }
    assert!(largest > 0.01, "gaps were open");
}

/// Fitted models are checked at their own parameters too, layers of different sizes and all; and large ones in a moment.
#[test]
fn models_with_parameters_are_checked_at_these() {
    use entropysum::model::{
        Layer, LinearGaussian, MixtureOfFactorAnalyzers, Noise, NoiseStructure, SigmoidBeliefNet,
    };
    let mut u = Uniforms::new(4);
    let mut normals = |n: usize| (0..n).map(|_| u.normal()).collect::<Vec<f64>>();
    for (dim, latents) in [(4, 2), (300, 5)] {
        for (noise, n_variances) in [(Noise::Isotropic, 1), (Noise::Diagonal, dim)] {
            let (mean, loadings) = (normals(dim), normals(dim * latents));
            let variances = vec![0.3; n_variances];
            let model = LinearGaussian::new(noise, mean, &loadings, variances).unwrap();
            let report = FactorModel::of_linear_gaussian(&model).check(1, 0);
            let expected = match noise {
                Noise::Isotropic => Statement::ScalarVariance,
                Noise::Diagonal => Statement::DiagonalCovariance,
            };
            assert_eq!(report.applies, Some(expected), "{report}");
            assert_eq!(report.factors[1].moves, ["noise_variance"]);
            let n_parameters = dim * (latents + 1) + n_variances;
            assert_eq!(report.factors[1].n_parameters, n_parameters);
        }
    }
    for noise in NoiseStructure::ALL {
        let n_variances = match noise {
            NoiseStructure::Diagonal => 8,
            NoiseStructure::Tied => 4,
            NoiseStructure::Isotropic => 2,
        };
        let variances: Vec<f64> = (1..=n_variances).map(f64::from).collect();
        let (means, loadings) = (normals(8), normals(16));
        let model =
            MixtureOfFactorAnalyzers::new(noise, 4, vec![0.2, 0.8], &means, &loadings, &variances);
        let model = model.unwrap();
        let report = FactorModel::of_factor_analyzers(&model).check(2, 0);
        assert_eq!(report.applies, Some(Statement::Definition), "{report}");

        // And the gap identity on points that it was not learned from.
        let x = normals(4 * 50);
        let points = Points::<f64>::from_rows(&x, 4).unwrap();
        let executor = Executor::new(Some(1)).unwrap();
        let gap = criterion::certify_factor_analyzers(&model, &points, &executor).unwrap();
        assert!(gap.error().abs() < 1e-9 * gap.gap().abs().max(1.0), "{gap}");
        assert!(gap.gap().abs() > 0.1 && gap.prior.abs() > 1e-3, "{gap}");
        let none = Points::<f64>::from_rows(&[], 4).unwrap();
        assert!(criterion::certify_factor_analyzers(&model, &none, &executor).is_err());
    }
    let (first, second) =
        (Layer::new(2, &normals(6), &normals(3)), Layer::new(3, &normals(15), &normals(5)));
    let net = SigmoidBeliefNet::new(vec![0.2, 0.6], Some(first.unwrap()), second.unwrap()).unwrap();
    let report = FactorModel::of_sigmoid_belief_net(&net).check(2, 0);
    assert_eq!(report.applies, Some(Statement::SigmoidBeliefNet), "{report}");
    assert_eq!(report.factors.iter().map(|it| it.n_parameters).collect::<Vec<_>>(), [2, 9, 20]);
}

#[test]
fn names_of_models_are_different() {
    let mut names: Vec<_> = expert::names_of_built_in().collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

/// EM ends where rounding does; two thousand iterations are not the end.
#[test]
fn a_converged_model_has_hardly_a_gap_on_its_own_points() {
    for name in ["gaussian-full", "gaussian-tied-diag"] {
        let (model, points) = start(name, Posterior::Exact, 2000);
        let gap = criterion::certify(&model, &points, &Executor::new(Some(1)).unwrap()).unwrap();
        assert!(gap.gap().abs() < 1e-7 && gap.prior.abs() < 1e-7, "{name}: {gap}");
    }
}

/// What is solved for is what the family knows in closed form.
#[test]
fn least_squares_finds_the_closed_form() {
    let model = built_in("gaussian-diag", SIZES).unwrap();
    let factor = &model.factors()[1];
    let mut u = Uniforms::new(3);
    let mut uniform = || u.next();
    let parameters = factor.draw_parameters(&mut uniform);
    let latents = factor.draw_latents(1, &mut uniform);
    let solution = solve(&**factor, &parameters, &latents);
    let exact = factor.closed_form(&parameters).unwrap();
    for (found, expected) in solution.flow.iter().zip(&exact) {
        assert!((found - expected).abs() < 1e-8 * (1.0 + expected.abs()), "{found} {expected}");
    }
    assert!(solution.is_invertible);
    assert_eq!(parameters.len(), SIZES.n_components * 2 * SIZES.dim);
}

#[test]
fn unknown_names_and_empty_sizes_are_errors() {
    let fault = built_in("gaussian", SIZES).err().unwrap().to_string();
    assert!(fault.contains("no model is called \"gaussian\"; there are gaussian-full"), "{fault}");
    assert!(built_in("ppca", Sizes { dim: 0, ..SIZES }).is_err());
    let (model, _) = start("gaussian-diag", Posterior::Exact, 1);
    let none = Points::<f64>::from_rows(&[], model.dim()).unwrap();
    assert!(criterion::certify(&model, &none, &Executor::new(Some(1)).unwrap()).is_err());
}
