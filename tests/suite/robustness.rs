//! Data that break naive mixtures: each gets the right answer or the right error, none a panic.

use crate::common;

use common::{Uniforms, assert_all_close, assert_close, clusters, gaussians};
use entropysum::Executor;
use entropysum::data::{self, OpenOptions, Points};
use entropysum::em::{self, Config, Fit, Init, MixtureSpec};
use entropysum::error::{Error, Result};
use entropysum::family::{Parameters, Regularization, registry};
use entropysum::inference;
use entropysum::model::Mixture;
use entropysum::monitor::{Event, Silent, StopReason};

fn fit_points(
    name: &str,
    components: usize,
    points: &Points<'_, f64>,
    init: &Init,
    config: &Config,
) -> Result<Fit<Mixture>> {
    let dim = points.view().ncols();
    let family = registry::build(name, dim)?;
    let executor = Executor::new(Some(2))?;
    let spec = MixtureSpec::new(family, components).with_init(init.clone());
    em::fit(&spec, points, &executor, config, &mut Silent)
}

fn fit(name: &str, components: usize, x: &[f64], dim: usize) -> Result<Fit<Mixture>> {
    fit_points(name, components, &Points::from_rows(x, dim)?, &Init::default(), &Config::default())
}

/// Every number a fit reports is finite, its weights are a distribution, and its history is a monotone bound.
#[track_caller]
fn assert_sound(fit: &Fit<Mixture>, what: &str) {
    let last = fit.last().unwrap();
    assert!(last.lower_bound.is_finite() && last.log_likelihood.is_finite(), "{what}");
    assert_close(fit.model.weights().iter().sum(), 1.0, 1e-12, what);
    for theta in &fit.model.parameters().components {
        assert!(theta.iter().all(|v| v.is_finite()), "{what}: {theta:?}");
    }
}

/// The floor of a spike must not rise with the variances of other components: the bound would fall with every step.
#[test]
fn the_bound_does_not_fall_where_a_floor_binds() {
    for (file, name, components, seed) in [
        ("geyser.csv", "gaussian-diag", 5, 1),
        ("geyser.csv", "gaussian-full", 8, 0),
        ("wine.csv", "gaussian-full", 8, 3),
    ] {
        let path = format!("{}/data/{file}", env!("CARGO_MANIFEST_DIR"));
        let points = data::open::<f64>(path, &OpenOptions::default()).unwrap();
        let spec = MixtureSpec::new(registry::build(name, points.dim()).unwrap(), components)
            .with_init(Init::RandomFromData);
        let config = Config::default().tol(0.0).max_iter(60).seed(seed);
        let executor = Executor::new(Some(2)).unwrap();
        let fit = em::fit(&spec, &*points, &executor, &config, &mut Silent).unwrap();
        assert!(!fit.floored.is_empty(), "{file} {name}");
        for pair in fit.history.records.windows(2) {
            let is_repaired = pair[0].events.iter().any(Event::is_repair);
            let rise = pair[1].lower_bound - pair[0].lower_bound;
            assert!(is_repaired || rise > -1e-9, "{file} {name}: {} {rise:e}", pair[1].iteration);
        }
    }
}

#[test]
fn narrow_far_clusters_are_found_to_their_own_precision() {
    // Widths of 1, means up to a million away on either side: packed second moments would keep four digits.
    let (n, dim) = (3000, 2);
    for distance in [1e3, 1e6] {
        let mut u = Uniforms::new(17);
        let means = [[-distance, distance], [distance, distance], [0.0, -distance]];
        let x: Vec<f64> = (0..n)
            .flat_map(|i| (0..dim).map(move |d| (i, d)))
            .map(|(i, d)| means[i % 3][d] + u.normal())
            .collect();
        for name in gaussians() {
            let fit = fit(name, 3, &x, dim).unwrap();
            assert_sound(&fit, name);
            assert!(fit.converged(), "{name}");
            let found = fit.model.parameter("means").unwrap();
            for mean in means {
                // The nearest found mean, and what the sample itself has.
                let nearest = found
                    .chunks(dim)
                    .min_by(|a, b| {
                        let square =
                            |m: &[f64]| (0..dim).map(|d| (m[d] - mean[d]).powi(2)).sum::<f64>();
                        square(a).total_cmp(&square(b))
                    })
                    .unwrap();
                for d in 0..dim {
                    assert!(
                        (nearest[d] - mean[d]).abs() < 0.1,
                        "{name} {distance}: {nearest:?} for {mean:?}"
                    );
                }
            }
            // The pooled within-cluster variances by two passes.
            let mut pooled = 0.0;
            for c in 0..3 {
                for d in 0..dim {
                    let own = || (0..n).filter(|i| i % 3 == c).map(|i| x[i * dim + d]);
                    let mean = own().sum::<f64>() / (n / 3) as f64;
                    pooled += own().map(|v| (v - mean).powi(2)).sum::<f64>() / (n * dim) as f64;
                }
            }
            let covariances = fit.model.parameter("covariances").unwrap();
            let variances: Vec<f64> = match covariances.len() {
                12 => (0..3).flat_map(|c| [covariances[4 * c], covariances[4 * c + 3]]).collect(),
                4 => vec![covariances[0], covariances[3]],
                _ => covariances,
            };
            let mean_variance = variances.iter().sum::<f64>() / variances.len() as f64;
            assert_close(mean_variance, pooled, 1e-6, &format!("{name} at {distance}"));
            assert!(
                fit.last().unwrap().gap().abs() < 1e-9,
                "{name} gap {}",
                fit.last().unwrap().gap()
            );
        }
    }
}

#[test]
fn duplicated_points_count_as_weights() {
    let x = clusters(300, 2, 3, 3.0, 2);
    let doubled: Vec<f64> =
        x.chunks(2).enumerate().flat_map(|(i, p)| p.repeat(1 + i % 2)).collect();
    let weights: Vec<f64> = (0..300).map(|i| (1 + i % 2) as f64).collect();
    for name in gaussians() {
        let start = fit(name, 3, &x, 2).unwrap().model;
        let init = Init::Model(Box::new(start));
        let config = Config::default().tol(1e-12).max_iter(500);
        let weighted = Points::from_rows(&x, 2).unwrap().with_weights(weights.clone()).unwrap();
        let a = fit_points(name, 3, &weighted, &init, &config).unwrap();
        let b =
            fit_points(name, 3, &Points::from_rows(&doubled, 2).unwrap(), &init, &config).unwrap();
        assert_all_close(
            &a.model.parameter("means").unwrap(),
            &b.model.parameter("means").unwrap(),
            1e-6,
            name,
        );
        assert_close(a.last().unwrap().lower_bound, b.last().unwrap().lower_bound, 1e-10, name);
        let executor = Executor::new(Some(1)).unwrap();
        let score = inference::score(&a.model, &weighted, &executor).unwrap();
        let doubled =
            inference::score(&a.model, &Points::from_rows(&doubled, 2).unwrap(), &executor)
                .unwrap();
        assert_close(score.bic(), doubled.bic(), 1e-12, "bic");
        assert_close(score.icl(), doubled.icl(), 1e-12, "icl");
    }
}

#[test]
fn points_of_weight_zero_do_not_exist() {
    let mut x = clusters(200, 2, 2, 4.0, 8);
    let clean = fit("gaussian-full", 2, &x, 2).unwrap();
    x.extend([1e6, -1e6]);
    let mut weights = vec![1.0; 200];
    weights.push(0.0);
    let points = Points::from_rows(&x, 2).unwrap().with_weights(weights).unwrap();
    let init = Init::Model(Box::new(clean.model.clone()));
    let weighted = fit_points("gaussian-full", 2, &points, &init, &Config::default()).unwrap();
    assert_close(
        weighted.last().unwrap().lower_bound,
        clean.last().unwrap().lower_bound,
        1e-4,
        "bound",
    );
    assert!(weighted.model.parameter("means").unwrap().iter().all(|m| m.abs() < 100.0));
}

#[test]
fn constant_and_duplicate_columns_are_no_obstacle() {
    let mut u = Uniforms::new(4);
    let base: Vec<f64> = (0..400).map(|i| 12.0 * f64::from(i % 2) + u.normal()).collect();
    let x: Vec<f64> = base.iter().flat_map(|&v| [v, 7.5, v]).collect();
    for name in gaussians() {
        let fit = fit(name, 2, &x, 3).unwrap();
        assert_sound(&fit, name);
        let means = fit.model.parameter("means").unwrap();
        assert!(
            means.chunks(3).all(|m| (m[1] - 7.5).abs() < 1e-9 && (m[0] - m[2]).abs() < 1e-6),
            "{name} {means:?}"
        );
        let mut labels = Vec::new();
        inference::predict(
            &fit.model,
            &Points::from_rows(&x, 3).unwrap(),
            &Executor::new(Some(1)).unwrap(),
            |_, l| {
                labels.extend_from_slice(l);
                Ok(())
            },
        )
        .unwrap();
        let agree =
            labels.iter().enumerate().filter(|&(i, &l)| (l == labels[0]) == (i % 2 == 0)).count();
        assert!(agree >= 396, "{name}: {agree} of 400 points in their cluster");
    }
}

#[test]
fn more_components_than_distinct_points_leaves_one_for_each() {
    let x: Vec<f64> = (0..60).map(|i| f64::from(i % 3) * 10.0).collect();
    for name in gaussians() {
        let fit = fit(name, 5, &x, 1).unwrap();
        assert_sound(&fit, name);
        assert_eq!(fit.model.n_components(), 3, "{name}");
        assert!(fit.warnings[0].contains("fewer distinct points"), "{:?}", fit.warnings);
        let mut means = fit.model.parameter("means").unwrap();
        means.sort_by(f64::total_cmp);
        assert_all_close(&means, &[0.0, 10.0, 20.0], 1e-12, name);
        assert_all_close(fit.model.weights(), &[1.0 / 3.0; 3], 1e-12, name);
    }
}

#[test]
fn all_points_equal_give_one_component() {
    let x = vec![3.25; 40];
    for name in gaussians() {
        let fit = fit(name, 4, &x, 2).unwrap();
        assert_sound(&fit, name);
        assert_eq!(fit.model.n_components(), 1, "{name}");
        assert_eq!(fit.model.parameter("means").unwrap(), [3.25, 3.25]);
    }
}

#[test]
fn a_cluster_of_one_point_is_a_component_at_its_floor() {
    let mut x = clusters(200, 2, 1, 0.0, 6);
    x.extend([500.0, 500.0]);
    for name in ["gaussian-full", "gaussian-diag", "gaussian-spherical"] {
        let fit = fit(name, 2, &x, 2).unwrap();
        assert_sound(&fit, name);
        let small = (0..2)
            .min_by(|&a, &b| fit.model.weights()[a].total_cmp(&fit.model.weights()[b]))
            .unwrap();
        assert_close(fit.model.weights()[small], 1.0 / 201.0, 1e-6, name);
        assert_all_close(&fit.model.theta(small).component[..2], &[500.0, 500.0], 1e-9, name);
        assert!(fit.warnings.iter().any(|w| w.contains("floor")), "{:?}", fit.warnings);
    }
}

/// Of 230 points 30 share their value of the last column.
#[test]
fn the_warning_of_a_floor_names_component_and_column_once() {
    let mut x: Vec<f64> =
        clusters(200, 2, 1, 0.0, 6).chunks(2).flat_map(|row| [row[0], 1.0, row[1]]).collect();
    x.chunks_mut(3).enumerate().for_each(|(i, row)| row[1] = (i as f64).sin());
    x.extend((0..30).flat_map(|i| [40.0 + f64::from(i).cos(), f64::from(i).sin(), 7.0]));
    for name in ["gaussian-full", "gaussian-diag", "gaussian-diag:0-1,gaussian-diag:2"] {
        let fit = fit(name, 2, &x, 3).unwrap();
        let small = usize::from(fit.model.weights()[0] > 0.5);
        let place = format!("component(s) [{small}] in column(s) [2] stands at its floor");
        let told = fit.warnings.iter().filter(|text| text.contains("floor")).collect::<Vec<_>>();
        assert!(told.len() == 1 && told[0].contains(&place), "{name}: {:?}", fit.warnings);
        assert!(told[0].contains("--prior conjugate") && fit.floored == [small], "{name}");
    }
}

/// Each component has one of three values of a column, which all points together do not.
#[test]
fn components_that_share_the_values_of_a_column_among_them_are_degenerate() {
    let row = |i: u32| {
        let value = [1.0, 2.0, 4.0][i as usize % 3];
        [30.0 * value + (f64::from(i) * 0.7).sin(), value]
    };
    let x: Vec<f64> = (0..300).flat_map(row).collect();
    for name in ["gaussian-full", "gaussian-diag", "gaussian-tied", "gaussian-tied-diag"] {
        let fit = fit(name, 3, &x, 2).unwrap();
        assert_eq!(fit.floored.len(), 3, "{name}: {:?}", fit.warnings);
        let told =
            fit.warnings.iter().filter(|text| text.contains("in column(s) [1] stands")).count();
        assert_eq!(told, 1, "{name}: {:?}", fit.warnings);
    }
}

#[test]
fn as_many_components_as_points_is_fitted_and_one_more_is_refused() {
    let x: Vec<f64> = (0..6).map(|i| f64::from(i * i)).collect();
    for name in gaussians() {
        assert_sound(&fit(name, 6, &x, 1).unwrap(), name);
        let error = fit(name, 7, &x, 1).unwrap_err().to_string();
        assert!(error.contains("6 point(s)") && error.contains("7 components"), "{error}");
    }
    assert!(matches!(fit("gaussian-full", 0, &x, 1), Err(Error::Config(_))));
}

#[test]
fn values_that_are_no_numbers_are_named_by_row_and_column() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for n in [50, 30_000] {
            let mut x = clusters(n, 3, 2, 3.0, 1);
            let good = fit("gaussian-diag", 2, &x, 3).unwrap().model;
            let row = n - 7;
            x[row * 3 + 2] = bad;
            let points = Points::from_rows(&x, 3).unwrap();
            let warm = Init::Model(Box::new(good.clone()));
            let starts = [Init::default(), warm];
            for init in &starts {
                let error =
                    fit_points("gaussian-diag", 2, &points, init, &Config::default()).unwrap_err();
                let Error::Data(fault) = error else { panic!("{error}") };
                assert_eq!((fault.row, fault.column), (Some(row as u64), Some(2)), "{fault}");
                assert!(fault.message.contains("expected a finite number"), "{fault}");
            }
            let executor = Executor::new(Some(2)).unwrap();
            let error = inference::score(&good, &points, &executor).unwrap_err().to_string();
            assert!(error.contains(&format!("row {row}, column 2")), "{error}");
        }
    }
}

#[test]
fn numbers_too_large_to_square_are_refused() {
    let x = [1e200, 2e200, -1e200, 0.0];
    let error = fit("gaussian-full", 1, &x, 1).unwrap_err().to_string();
    assert!(error.contains("too large") || error.contains("overflow"), "{error}");
}

#[test]
fn frozen_components_and_fixed_weights_stay() {
    let x = clusters(500, 2, 3, 3.0, 12);
    let points = Points::from_rows(&x, 2).unwrap();
    for name in gaussians() {
        let start = fit(name, 3, &x[..200], 2).unwrap().model;
        let executor = Executor::new(Some(1)).unwrap();
        let regularization = Regularization { reg_covar: Some(0.0), ..Default::default() };
        let config = Config::default().regularization(regularization).max_iter(20);
        let frozen = start.clone().with_frozen(vec![false, true, false]);
        let fit = em::fit(&frozen, &points, &executor, &config, &mut Silent).unwrap();
        assert_eq!(fit.model.theta(1).component, start.theta(1).component, "{name}");
        assert_ne!(fit.model.theta(0).component, start.theta(0).component, "{name}");
        let fixed = start.clone().with_fixed_weights(true);
        let fit = em::fit(&fixed, &points, &executor, &config, &mut Silent).unwrap();
        assert_eq!(fit.model.weights(), start.weights(), "{name}");
        let bounds: Vec<f64> = fit.history.records.iter().map(|r| r.lower_bound).collect();
        assert!(bounds.windows(2).all(|w| w[1] >= w[0] - 1e-12), "{name}: {bounds:?}");
        assert!(fit.last().unwrap().gap().abs() > 1e-8, "{name}: fixed weights leave a gap");
    }
}

#[test]
fn an_empty_component_is_split_off_the_most_diffuse_one() {
    let x = clusters(600, 2, 3, 8.0, 21);
    let found = fit("gaussian-spherical", 3, &x, 2).unwrap();
    let means = found.model.parameter("means").unwrap();
    let covariances = vec![1.0, 1.0, 1e-8];
    // The third component stands where no point is: it must be rescued, and the optimum found.
    let mut lost = means.clone();
    lost[4] = 1e4;
    lost[5] = 1e4;
    let family = registry::build("gaussian-spherical", 2).unwrap();
    let start = Mixture::from_arrays(family, vec![1.0 / 3.0; 3], |n| {
        Some(if n == "means" { &lost } else { &covariances })
    })
    .unwrap();
    let points = Points::from_rows(&x, 2).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let fit = em::fit(&start, &points, &executor, &Config::default(), &mut Silent).unwrap();
    assert!(fit.warnings.iter().any(|w| w.contains("shares the place")), "{:?}", fit.warnings);
    assert_close(fit.last().unwrap().lower_bound, found.last().unwrap().lower_bound, 1e-3, "bound");
}

#[test]
fn fresh_starts_differ_and_the_best_is_kept() {
    let x = clusters(900, 2, 9, 3.0, 31);
    let points = Points::from_rows(&x, 2).unwrap();
    let bound = |seed: u64, n_init: usize| {
        let config = Config::default().seed(seed).n_init(n_init);
        fit_points("gaussian-diag", 9, &points, &Init::RandomFromData, &config)
            .unwrap()
            .last()
            .unwrap()
            .lower_bound
    };
    let single: Vec<f64> = (0..4).map(|seed| bound(seed, 1)).collect();
    assert!(single.windows(2).any(|w| (w[0] - w[1]).abs() > 1e-6), "seeds must matter: {single:?}");
    assert!(bound(0, 6) >= single[0]);
    let runs: Vec<f64> = [1, 2, 4, 8].map(|n| bound(3, n)).to_vec();
    assert!(runs.windows(2).all(|w| w[1] >= w[0]), "more starts are never worse: {runs:?}");
    assert!(runs[3] > runs[0], "one of eight starts is better than the first: {runs:?}");
}

#[test]
fn limits_end_a_fit_with_their_reason_and_a_model() {
    let x = clusters(2000, 2, 4, 1.0, 3);
    let points = Points::from_rows(&x, 2).unwrap();
    let config = Config::default().max_iter(3).tol(0.0);
    let stopped = fit_points("gaussian-full", 4, &points, &Init::default(), &config).unwrap();
    assert_eq!(
        (stopped.stop_reason, stopped.history.records.len()),
        (StopReason::MaxIterations, 3)
    );
    let max_time = Some(std::time::Duration::ZERO);
    let config = Config::default().max_time(max_time).tol(0.0);
    let stopped = fit_points("gaussian-full", 4, &points, &Init::default(), &config).unwrap();
    assert_eq!((stopped.stop_reason, stopped.history.records.len()), (StopReason::MaxSeconds, 1));
    assert_eq!(stopped.model.n_components(), 4);
}

#[test]
fn wrong_dimensions_are_refused() {
    let model = fit("gaussian-full", 2, &clusters(50, 2, 2, 3.0, 1), 2).unwrap().model;
    let x = [0.0; 9];
    let points = Points::from_rows(&x, 3).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    for error in [
        inference::score(&model, &points, &executor).unwrap_err(),
        em::fit(&model, &points, &executor, &Config::default(), &mut Silent).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Data(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("found points of dimension 3, expected 2"), "{text}");
    }
}

#[test]
fn collinear_columns_in_many_dimensions_are_floored_in_both_precisions() {
    for (dim, n) in [(12, 200), (60, 200)] {
        let mut u = Uniforms::new(5);
        let direction: Vec<f64> = (0..dim).map(|_| u.normal()).collect();
        let x: Vec<f64> = (0..n)
            .flat_map(|i| {
                let at = 4.0 * (i % 3) as f64 + u.normal();
                direction.iter().map(move |d| d * at).collect::<Vec<_>>()
            })
            .collect();
        let single: Vec<f32> = x.iter().map(|&v| v as f32).collect();
        for name in gaussians() {
            for reg_covar in [None, Some(0.0), Some(1e-9)] {
                let regularization = Regularization { reg_covar, ..Default::default() };
                let config = Config::default().regularization(regularization).max_iter(10);
                let executor = Executor::new(Some(2)).unwrap();
                let spec = MixtureSpec::new(registry::build(name, dim).unwrap(), 3);
                let what = format!("{name} D={dim} {reg_covar:?}");
                let points = Points::from_rows(&x, dim).unwrap();
                let double = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
                let points = Points::from_rows(&single, dim).unwrap();
                let single = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
                for fit in [double, single] {
                    assert_sound(&fit, &what);
                    // At most all directions of all components are at their floors.
                    let gap = fit.last().unwrap().gap();
                    assert!(gap.abs() < dim as f64, "{what}: gap {gap}");
                }
            }
        }
    }
}

#[test]
fn f32_sums_that_overflow_are_an_error() {
    let x: Vec<f32> = clusters(10_000, 2, 2, 1.0, 3).iter().map(|&v| (v * 1e18) as f32).collect();
    let points = Points::from_rows(&x, 2).unwrap();
    for name in gaussians() {
        let spec = MixtureSpec::new(registry::build(name, 2).unwrap(), 2);
        let executor = Executor::new(Some(1)).unwrap();
        if let Err(error) = em::fit(&spec, &points, &executor, &Config::default(), &mut Silent) {
            assert!(error.to_string().contains("too large"), "{error}");
        }
    }
}

#[test]
fn very_many_dimensions_are_read_in_time() {
    let dim = 70_000;
    let x: Vec<f64> = (0..4 * dim).map(|k| (k % 17) as f64).collect();
    assert_sound(&fit("gaussian-spherical", 1, &x, dim).unwrap(), "D = 70000");
}

#[test]
fn few_points_of_positive_weight_among_many_start_all_the_same() {
    let n = 50_000;
    let x: Vec<f64> = (0..n).map(|i| f64::from(i % 100)).collect();
    let weights: Vec<f64> = (0..n).map(|i| if i % 2500 == 7 { 1.0 } else { 0.0 }).collect();
    let points = Points::from_rows(&x, 1).unwrap().with_weights(weights).unwrap();
    for init in [Init::KMeansPlusPlus, Init::Random, Init::RandomFromData] {
        let fit = fit_points("gaussian-full", 1, &points, &init, &Config::default()).unwrap();
        assert_sound(&fit, "weights");
        assert_eq!(fit.model.parameter("means").unwrap(), [7.0]);
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let x = clusters(50, 2, 2, 3.0, 1);
    let points = Points::from_rows(&x, 2).unwrap();
    for bad in [-5.0, f64::NAN, f64::INFINITY] {
        let regularization = Regularization { reg_covar: Some(bad), ..Default::default() };
        let config = Config::default().regularization(regularization);
        let error = fit_points("gaussian-full", 2, &points, &Init::default(), &config).unwrap_err();
        assert!(error.to_string().contains("reg_covar"), "{error}");
    }
    let config = Config::default().max_iter(0);
    assert!(fit_points("gaussian-full", 2, &points, &Init::default(), &config).is_err());
    for covariance in [[1.0, 0.1, 0.3, 1.0], [1.0, f64::NAN, 0.1, 1.0]] {
        let family = registry::build("gaussian-full", 2).unwrap();
        let refused = Mixture::from_arrays(family, vec![1.0], |n| {
            Some(if n == "means" { &[0.0; 2] } else { &covariance })
        });
        assert!(refused.unwrap_err().to_string().contains("symmetric"));
    }
    let family = registry::build("gaussian-full", 2).unwrap();
    let rounded = [1.0, 1e-17, 3e-17, 1.0];
    Mixture::from_arrays(family, vec![1.0], |n| {
        Some(if n == "means" { &[0.0; 2] } else { &rounded })
    })
    .unwrap();
}

#[test]
fn components_at_absurd_places_are_moved_or_refused() {
    let x = clusters(200, 2, 2, 3.0, 1);
    let points = Points::from_rows(&x, 2).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    for name in gaussians() {
        let good = fit(name, 2, &x, 2).unwrap().model;
        let with_mean = |mean: f64| {
            let mut components = good.parameters().components.clone();
            components[1][..2].fill(mean);
            let parameters = Parameters { components, shared: good.parameters().shared.clone() };
            Mixture::new(registry::build(name, 2).unwrap(), vec![0.5; 2], parameters)
        };
        for mean in [1e20, 1e100, 1e139] {
            let fit = em::fit(
                &with_mean(mean).unwrap(),
                &points,
                &executor,
                &Config::default(),
                &mut Silent,
            )
            .unwrap();
            assert_sound(&fit, name);
            assert!(
                fit.model.parameter("means").unwrap().iter().all(|m| m.abs() < 100.0),
                "{name} {mean:e}"
            );
        }
        for mean in [1e160, f64::INFINITY, f64::NAN] {
            assert!(
                with_mean(mean).unwrap_err().to_string().contains("mean of dimension 0"),
                "{name}"
            );
        }
    }
}

/// The default floor is a millionth of the variance within components; where there is none, of the square of the values.
#[test]
fn variances_stand_at_a_millionth_of_the_pooled_one() {
    // One cluster of equal points, one of variance 1: ½ in the mean.
    let mut x = vec![0.0; 10];
    x.extend((0..10).map(|i| 100.0 + if i % 2 == 0 { 1.0 } else { -1.0 }));
    let found = fit("gaussian-diag", 2, &x, 1).unwrap();
    let mut variances = found.model.parameter("covariances").unwrap();
    variances.sort_by(f64::total_cmp);
    assert!((variances[0] / 0.5e-6 - 1.0).abs() < 1e-6, "{variances:?}");
    assert_close(variances[1], 1.0, 1e-12, "the other cluster");
    for (value, expected) in [(3.0, 9e-6), (0.0, 1e-6)] {
        let found = fit("gaussian-diag", 1, &[value; 8], 1).unwrap();
        let variance = found.model.parameter("covariances").unwrap()[0];
        assert!((variance / expected - 1.0).abs() < 1e-9, "{variance:e}");
    }
}

/// Whole numbers are known to ± ½, so that no column of a component is narrower than that. A point with a new value in a column
/// that was the same for all points of a component is unlikely, and no catastrophe.
#[test]
fn columns_are_no_narrower_than_their_rounding() {
    let row = |i: u32| {
        let (dark, x) = (if i % 200 == 199 { 3.0 } else { 0.0 }, f64::from(i * 7 % 13));
        [x + 40.0 * f64::from(i % 2), dark, 5.0]
    };
    let x: Vec<f64> = (0..400).flat_map(row).collect();
    for name in ["gaussian-full", "gaussian-diag"] {
        let found = fit(name, 2, &x, 3).unwrap();
        let points = Points::from_rows(&[20.0, 9.0, 6.0], 3).unwrap();
        let executor = Executor::new(Some(1)).unwrap();
        let score = inference::score(&found.model, &points, &executor).unwrap();
        assert!(score.log_likelihood > -1000.0, "{name}: {}", score.log_likelihood);
        let covariances = found.model.parameter("covariances").unwrap();
        let step = if name == "gaussian-full" { 4 } else { 1 };
        for covariance in covariances.chunks(covariances.len() / 2) {
            assert!(covariance.iter().step_by(step).all(|&v| v >= 1.0 / 12.0), "{covariance:?}");
        }
        assert_sound(&found, name);
    }
}

/// A ridge lifts the variance of a column of one value off its floor, and there is nothing to tell then.
#[test]
fn columns_of_one_value_are_told_unless_a_ridge_lifts_them() {
    let x: Vec<f64> = clusters(300, 1, 3, 8.0, 4).into_iter().flat_map(|v| [v, 7.0]).collect();
    let points = Points::from_rows(&x, 2).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    for name in ["gaussian-full", "gaussian-diag"] {
        let spec = MixtureSpec::new(registry::build(name, 2).unwrap(), 2);
        for (reg_covar, is_told) in [(None, true), (Some(0.1), false)] {
            let regularization = Regularization { reg_covar, ..Default::default() };
            let config = Config::default().regularization(regularization).max_iter(5);
            let fit = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
            let constant = |event: &Event| matches!(event, Event::Constant { .. });
            let events = &fit.last().unwrap().events;
            assert_eq!(events.iter().any(constant), is_told, "{name} {reg_covar:?}: {events:?}");
            assert!(fit.floored.is_empty(), "{name} {reg_covar:?}");
        }
    }
}

#[test]
fn a_single_component_has_one_probability_for_each_point() {
    for name in ["gaussian-full", "gaussian-diag", "poisson"] {
        let x: Vec<f64> = (0..600).map(|i| f64::from(i % 7)).collect();
        let model = fit(name, 1, &x, 2).unwrap().model;
        let points = Points::from_rows(&x, 2).unwrap();
        let mut found = Vec::new();
        inference::predict_proba(&model, &points, &Executor::new(Some(1)).unwrap(), |_, values| {
            found.extend_from_slice(values);
            Ok(())
        })
        .unwrap();
        assert_eq!(found, [1.0; 300], "{name}");
    }
}
