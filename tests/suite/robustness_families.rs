//! Data at the edge of each family: constants, zeros, single points, values of every size.

use crate::common;

use common::{assert_close, example_family};
use entropysum::Executor;
use entropysum::Scalar;
use entropysum::data::{DataSource, Points, SparsePoints};
use entropysum::em::{self, Config, Fit, Init, MixtureSpec};
use entropysum::error::Result;
use entropysum::family::{KnownParameters, Parameters, Support, registry};
use entropysum::inference;
use entropysum::model::Mixture;
use entropysum::monitor::Silent;

/// Families of independent columns, and a few values of their support that make trouble.
fn families() -> Vec<(&'static str, Vec<f64>)> {
    let values = |name: &&'static str| {
        let domains = example_family(name, 2).domains();
        let [domain] = &domains[..] else { return None };
        let values = match domain.support {
            Support::Positive => vec![1e-6, 1.0, 1e6],
            Support::NonNegative => vec![0.0, 1.0, 1e6],
            Support::UnitInterval => vec![1e-6, 0.5, 1.0 - 1e-6],
            Support::Count => vec![0.0, 1.0, 1e6],
            Support::CountUpTo(most) => vec![0.0, 1.0, most],
            Support::Binary => vec![0.0, 1.0],
            Support::Real => vec![-1e6, 0.0, 1.0],
            _ => return None,
        };
        Some((*name, values))
    };
    let univariate = |name: &&str| {
        let others = ["gaussian-diag", "gaussian-spherical", "categorical", "von-mises"];
        example_family(name, 2).ignoring_missing().is_some() && !others.contains(name)
    };
    registry::names().filter(univariate).filter_map(|name| values(&name)).collect()
}

/// Logarithms of a shape of 0.2 have a long tail, cube roots of sizes that are a thousand apart hide the small ones: default starts
/// find both, from any seed.
#[test]
fn default_starts_of_gammas_find_small_shapes_and_all_sizes() {
    let executor = Executor::new(Some(2)).unwrap();
    let family = example_family("gamma", 1);
    for (shapes, rates) in
        [([0.2, 10.0, 30.0], [0.2, 1.0, 0.1]), ([4.0, 4.0, 4.0], [1.0, 1e-3, 1e-6])]
    {
        let components = shapes.iter().zip(rates).map(|(a, b)| vec![*a, b]).collect();
        let parameters = Parameters { components, shared: vec![] };
        let truth = Mixture::new(family.clone(), vec![1.0 / 3.0; 3], parameters).unwrap();
        let mut x = Vec::new();
        let mut keep = |points: &[f64], _: &[u32]| {
            x.extend_from_slice(points);
            Ok(())
        };
        inference::sample(&truth, 3_000, 1, &executor, &mut keep).unwrap();
        let points = Points::from_rows(&x, 1).unwrap();
        let bound = |fit: Fit<Mixture>| fit.last().unwrap().lower_bound;
        let config = Config::default().tol(1e-7).max_iter(1_000);
        let best = em::fit(&truth, &points, &executor, &config, &mut Silent).unwrap();
        let best = bound(best);
        let spec = MixtureSpec::new(family.clone(), 3);
        for seed in 0..12 {
            let config = config.clone().seed(seed);
            let found = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
            let found = bound(found);
            assert!(found > best - 1e-3, "{shapes:?}, seed {seed}: {found}, not {best}");
        }
    }
}

fn fit<T: Scalar>(name: &str, x: &[f64], k: usize, init: Init) -> Result<Fit<Mixture>> {
    let x: Vec<T> = x.iter().map(|&x| T::from_f64(x)).collect();
    let points = Points::from_rows(&x, 2)?;
    let spec = MixtureSpec::new(example_family(name, 2), k).with_init(init);
    let config = Config::default().max_iter(30);
    let executor = Executor::new(Some(1))?;
    let fit = em::fit(&spec, &points, &executor, &config, &mut Silent)?;
    let score = inference::score(&fit.model, &points, &executor)?;
    assert!(score.log_likelihood.is_finite(), "{name}: {score:?}");
    Ok(fit)
}

fn check(name: &str, fit: &Fit<Mixture>) {
    for record in &fit.history.records {
        let (bound, sum) = (record.lower_bound, record.entropy_sum.total());
        assert!(bound.is_finite() && sum.is_finite(), "{name}: {bound} {sum}");
    }
    let family = fit.model.family();
    for c in 0..fit.model.n_components() {
        assert_eq!(family.check(fit.model.theta(c)), Ok(()), "{name}");
    }
}

#[test]
fn constant_columns_and_few_distinct_values_end_in_a_model() {
    for (name, values) in families() {
        for &a in &values {
            for &b in &values {
                let constant = [a, b].repeat(20);
                let two: Vec<f64> = [[a, b], [b, a]].concat().repeat(10);
                for x in [&constant, &two, &vec![a, b]] {
                    for init in [Init::KMeansPlusPlus, Init::Random, Init::RandomFromData] {
                        let k = 3.min(x.len() / 2);
                        let it = fit::<f64>(name, x, k, init.clone());
                        check(name, &it.unwrap_or_else(|e| panic!("{name} {a} {b}: {e}")));
                        // A value next to 1 is 1 in f32, and outside the support.
                        if !(a.max(b) > 0.9 && a.max(b) < 1.0) {
                            let it = fit::<f32>(name, x, k, init);
                            check(name, &it.unwrap_or_else(|e| panic!("{name} {a} {b} f32: {e}")));
                        }
                    }
                }
            }
        }
    }
}

/// At the boundary of the parameters the likelihood is that of a certain event: 1.
#[test]
fn counts_that_are_all_zero_are_certain() {
    for name in ["bernoulli", "binomial", "geometric", "negative-binomial", "poisson"] {
        let fit = fit::<f64>(name, &[0.0; 60], 1, Init::default()).unwrap();
        let last = fit.last().unwrap();
        assert_eq!(last.entropy_sum.observable, 0.0, "{name}");
        assert!(last.log_likelihood.abs() < 1e-12, "{name}: {}", last.log_likelihood);
        assert!(last.gap().abs() < 1e-12, "{name}: {}", last.gap());
        let expected =
            if name.contains("geometric") || name.contains("negative") { 1.0 } else { 0.0 };
        assert_eq!(fit.model.theta(0).component, [expected; 2], "{name}");
    }
}

/// Columns that are constant inside clusters: probabilities of 0 and 1, where `0 ln 0 = 0`.
#[test]
fn probabilities_of_zero_and_one_keep_the_identity() {
    let x: Vec<f64> = (0..200)
        .flat_map(|i| if i % 2 == 0 { [1.0, 0.0] } else { [0.0, f64::from(i % 4 == 1)] })
        .collect();
    for name in ["bernoulli", "binomial", "poisson", "geometric"] {
        let fit = fit::<f64>(name, &x, 2, Init::default()).unwrap();
        for record in &fit.history.records {
            assert!(record.gap().abs() < 1e-10, "{name}: {}", record.gap());
            assert!(record.delta() > -1e-12, "{name}: {}", record.delta());
        }
        // Rows are (1, 0), half of them, and (0, 0) or (0, 1), a quarter each.
        if name == "bernoulli" {
            let expected = -1.5 * 2f64.ln();
            assert_close(fit.last().unwrap().log_likelihood, expected, 1e-9, name);
        }
    }
}

/// What is impossible under a model has a density that is tiny, and no error.
#[test]
fn impossible_counts_score_tiny() {
    let fit = fit::<f64>("poisson", &[0.0; 40], 1, Init::default()).unwrap();
    let points = Points::from_rows(&[0.0, 0.0, 3.0, 0.0], 2).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let mut densities = Vec::new();
    inference::score_samples(&fit.model, &points, &executor, |_, block| {
        densities.extend_from_slice(block);
        Ok(())
    })
    .unwrap();
    assert_eq!(densities[0], 0.0);
    assert!(densities[1] < -2000.0 && densities[1].is_finite());
}

#[test]
fn known_parameters_are_checked() {
    let build = |name: &str, key: &str, values: &[f64]| {
        registry::build_known(name, 2, &KnownParameters::default().with(key, values.to_vec()))
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    for (name, key, wrong) in [
        ("binomial", "trials", 2.5),
        ("binomial", "trials", 0.0),
        ("negative-binomial", "successes", 0.0),
        ("weibull", "shape", -1.0),
        ("gaussian-known-variance", "variance", 0.0),
        ("laplace", "location", f64::NAN),
    ] {
        let fault = build(name, key, &[1.0, wrong]).unwrap_err();
        assert!(fault.contains("column 1") && fault.contains("expected"), "{fault}");
        assert!(build(name, key, &[1.0, 2.0]).is_ok() && build(name, key, &[1.0]).is_ok());
        let fault = build(name, key, &[1.0, 2.0, 3.0]).unwrap_err();
        assert!(fault.contains("3 values, expected 1 or 2"), "{fault}");
        let fault = registry::build(name, 2).unwrap_err().to_string();
        assert!(fault.contains(key) && fault.contains("must be given"), "{fault}");
    }
    let fault = build("poisson", "trials", &[3.0]).unwrap_err();
    assert!(fault.contains("no known parameter \"trials\""), "{fault}");
}

/// A component without points takes half of the place of another.
#[test]
fn components_can_be_split() {
    for (name, _) in families() {
        let model = common::example_mixture(name, 3, 2);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        assert!(model.family().split(model.theta(0), [&mut a, &mut b]), "{name}");
        assert_ne!(a, b);
        for half in [&a, &b] {
            let theta = entropysum::expert::family::Theta { component: half, shared: &[] };
            assert_eq!(model.family().check(theta), Ok(()), "{name}");
        }
    }
}

/// Points of nothing but zeros say nothing of probabilities; any do, and the likelihood is 1.
#[test]
fn counts_of_nothing_are_learned() {
    let spec = || MixtureSpec::new(registry::build("multinomial", 3).unwrap(), 2);
    let (executor, config) = (Executor::new(Some(1)).unwrap(), Config::default());
    let dense = Points::<f64>::from_rows(&[0.0; 30], 3).unwrap();
    let sparse = SparsePoints::<f64>::from_csr(vec![0; 11], vec![], vec![], 3).unwrap();
    let sources: [&dyn DataSource<f64>; 2] = [&dense, &sparse];
    for source in sources {
        let fit = em::fit(&spec(), source, &executor, &config, &mut Silent).unwrap();
        assert!(fit.last().unwrap().log_likelihood.abs() < 1e-15);
        assert!(fit.last().unwrap().entropy_sum.total().abs() < 1e-15);
        for p in fit.model.parameter("probabilities").unwrap() {
            assert_close(p, 1.0 / 3.0, 1e-15, "uniform");
        }
    }
    // One point that has none among others that have some changes no probability.
    let mixed = Points::<f64>::from_rows(&[2.0, 1.0, 1.0, 0.0, 0.0, 0.0], 3).unwrap();
    let spec = MixtureSpec::new(registry::build("multinomial", 3).unwrap(), 1);
    let fit = em::fit(&spec, &mixed, &executor, &config, &mut Silent).unwrap();
    for (p, expected) in fit.model.parameter("probabilities").unwrap().iter().zip([0.5, 0.25, 0.25])
    {
        assert_close(*p, expected, 1e-15, "mixed");
    }
}
