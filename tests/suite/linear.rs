//! Linear-Gaussian models: against values computed in 40 digits by an independent program, the theory at random
//! parameters, and data that break naive programs.

use crate::common;

use common::{Uniforms, assert_all_close, assert_close, fixture, numbers, rounded};
use entropysum::Executor;
use entropysum::Scalar;
use entropysum::data::{self, OpenOptions};
use entropysum::em::{self, Config, Fit, LinearGaussianAlgorithm, LinearGaussianSpec};
use entropysum::expert::criterion;
use entropysum::expert::em::{Form, Summary};
use entropysum::expert::gaussian_observable::GaussianMonitor;
use entropysum::expert::model::{GenerativeModel, Moments};
use entropysum::expert::moments;
use entropysum::faer::Mat;
use entropysum::model::{LinearGaussian, Noise, Rotation};
use entropysum::monitor::{Monitor, Silent, StopReason};
use entropysum::{DataSource, Points, inference};
use serde_json::Value;
use std::f64::consts::PI;

fn executor() -> Executor {
    Executor::new(Some(2)).unwrap()
}

fn file(name: &str) -> Points<'static, f64> {
    let path = format!("{}/data/{name}", env!("CARGO_MANIFEST_DIR"));
    data::load(&*data::open::<f64>(path, &OpenOptions::default()).unwrap()).unwrap()
}

/// The points of a fixture, from itself or from `data/`.
fn points_of<T: Scalar>(golden: &Value) -> Points<'static, T> {
    let columns = golden["data"]["cols"].as_u64().unwrap() as usize;
    if golden["data"]["x"].is_array() {
        return Points::owned(rounded(&numbers(&golden["data"]["x"])), columns).unwrap();
    }
    assert_eq!(golden["data"]["name"], "digits");
    let all = file("digits.npy");
    let kept: Vec<T> = all
        .view()
        .row_iter()
        .flat_map(|row| {
            let row: Vec<f64> = row.iter().copied().collect();
            (0..64).filter(|d| ![0, 32, 39].contains(d)).map(move |d| T::from_f64(row[d]))
        })
        .collect();
    Points::owned(kept, columns).unwrap()
}

fn fit<T: Scalar>(
    spec: &LinearGaussianSpec,
    points: &Points<'_, T>,
    config: &Config,
) -> Fit<LinearGaussian> {
    em::fit(spec, points, &executor(), config, &mut Silent).unwrap()
}

/// `W W'`, row-major: loadings themselves are unique only up to a rotation.
fn product_of_loadings(model: &LinearGaussian) -> Vec<f64> {
    let product = model.loadings() * model.loadings().transpose();
    product.row_iter().flat_map(|row| row.iter().copied().collect::<Vec<_>>()).collect()
}

fn log_likelihood(model: &LinearGaussian, moments: &Moments) -> f64 {
    model.e_step(moments).unwrap().log_likelihood()
}

#[test]
fn closed_form_agrees_with_40_digits_on_iris_wine_and_digits() {
    for name in ["iris", "wine_std", "digits"] {
        let golden = fixture(&format!("linear_{name}"));
        let points = points_of::<f64>(&golden);
        let solutions = golden["ppca_ml"]["solutions"].as_array().unwrap();
        let spec = LinearGaussianSpec::ppca(1);
        let executor = executor();
        let summary = Summary::new(&spec, &points, &executor).unwrap();
        assert_all_close(
            summary.eigenvalues().unwrap(),
            &numbers(&golden["ppca_ml"]["eigenvalues"]),
            1e-12,
            name,
        );
        for solution in solutions {
            let value = |key: &str| solution[key].as_f64().unwrap();
            let latents = value("H") as usize;
            // One pass over the points serves all numbers of latents.
            let fit = summary
                .fit(&LinearGaussianSpec::ppca(latents), &Config::default(), &mut Silent)
                .unwrap();
            let what = format!("{name} H = {latents}");
            let record = fit.last().unwrap();
            assert!(fit.converged() && fit.warnings.is_empty());
            assert_close(fit.model.noise_variances()[0], value("sigma2"), 1e-11, &what);
            assert_close(record.log_likelihood, value("loglik"), 1e-12, &what);
            assert_close(record.entropy_sum.total(), value("eq29_corrected"), 1e-12, &what);
            assert_close(record.entropy_sum.posterior, value("posterior_entropy"), 1e-11, &what);
            assert_close(record.entropy_sum.prior, value("prior_entropy"), 1e-14, &what);
            assert_close(record.entropy_sum.observable, value("noise_entropy"), 1e-12, &what);
            assert!(record.gap().abs() < 1e-10, "{what}: gap {:e}", record.gap());
            assert_all_close(fit.model.mean(), &numbers(&golden["ppca_ml"]["mean"]), 1e-13, &what);
            if solution["WWt"].is_array() {
                let found = product_of_loadings(&fit.model);
                assert_all_close(&found, &numbers(&solution["WWt"]), 1e-11, &what);
            }
            assert_close(
                summary.score(&fit.model).unwrap().log_likelihood,
                value("loglik"),
                1e-12,
                &what,
            );
        }
    }
}

#[test]
fn closed_form_in_f32_agrees_to_1e_5() {
    for name in ["iris", "digits"] {
        let golden = fixture(&format!("linear_{name}"));
        let points = points_of::<f32>(&golden);
        for solution in golden["ppca_ml"]["solutions"].as_array().unwrap() {
            let latents = solution["H"].as_u64().unwrap() as usize;
            let fit = fit(&LinearGaussianSpec::ppca(latents), &points, &Config::default());
            let expected = solution["loglik"].as_f64().unwrap();
            assert_close(fit.last().unwrap().log_likelihood, expected, 1e-5, name);
        }
    }
}

/// Eqns 2 and 3 in every iteration; the gap of plain EM is `½ (H - tr ⟨z z'⟩)`, that of parameter-expanded EM is 0.
#[test]
fn em_and_px_em_follow_40_digit_trajectories() {
    for name in ["iris", "wine_std"] {
        let golden = fixture(&format!("linear_{name}"));
        let points = points_of::<f64>(&golden);
        let em = &golden["em"];
        let dim = points.dim();
        let psi = em["psi0"].as_f64().unwrap();
        for (key, noise, algorithm) in [
            ("ppca", Noise::Isotropic, LinearGaussianAlgorithm::Em),
            ("ppca_px", Noise::Isotropic, LinearGaussianAlgorithm::PxEm),
            ("fa", Noise::Diagonal, LinearGaussianAlgorithm::Em),
            ("fa_px", Noise::Diagonal, LinearGaussianAlgorithm::PxEm),
        ] {
            let steps = em[key].as_array().unwrap();
            let (spec, n_noise) = match noise {
                Noise::Isotropic => (LinearGaussianSpec::ppca(2), 1),
                Noise::Diagonal => (LinearGaussianSpec::factor_analysis(2), dim),
            };
            let init =
                LinearGaussian::new(noise, vec![0.0; dim], &numbers(&em["W0"]), vec![psi; n_noise])
                    .unwrap();
            let spec = spec.with_algorithm(algorithm).with_init(init);
            let with_m_step: Vec<&Value> =
                steps.iter().filter(|s| s["elbo_after_m"].is_number()).collect();
            assert!(with_m_step.len() >= 9, "{key}");
            for (t, step) in with_m_step.iter().enumerate() {
                let config = Config::default().max_iter(t + 1).tol(0.0);
                let fit = fit(&spec, &points, &config);
                let record = fit.last().unwrap();
                let value = |key: &str| step[key].as_f64().unwrap();
                let what = |quantity: &str| format!("{name} {key} {t} {quantity}");
                assert_close(
                    record.log_likelihood,
                    value("loglik"),
                    1e-11,
                    &what("log-likelihood"),
                );
                assert_close(
                    record.entropy_sum.posterior,
                    value("mean_posterior_entropy"),
                    1e-11,
                    &what("posterior"),
                );
                assert_close(record.lower_bound, value("elbo_after_m"), 1e-11, &what("bound"));
                assert_close(
                    record.entropy_sum.total(),
                    value("entropy_sum_after_m"),
                    1e-11,
                    &what("entropy sum"),
                );
                assert!((record.gap() - value("gap_after_m")).abs() < 1e-10, "{}", what("gap"));
                if step["WWt_after"].is_array() {
                    assert_all_close(
                        &product_of_loadings(&fit.model),
                        &numbers(&step["WWt_after"]),
                        1e-10,
                        &what("W W'"),
                    );
                }
                if step["psi_after"].is_array() {
                    let found = &fit.model.noise_variances()[..n_noise];
                    assert_all_close(found, &numbers(&step["psi_after"]), 1e-10, &what("noise"));
                }
            }
        }
    }
}

fn standardized(points: &Points<'_, f64>) -> Vec<f64> {
    let m = moments(points, &executor()).unwrap();
    let scaled = |row: Vec<f64>| -> Vec<f64> {
        (0..row.len()).map(|d| (row[d] - m.mean()[d]) / m.variances()[d].sqrt()).collect()
    };
    points.view().row_iter().flat_map(|row| scaled(row.iter().copied().collect())).collect()
}

/// Against R's factanal and scikit-learn run to convergence; on the covariance scale the same solution in other units.
#[test]
fn factor_analysis_reaches_the_maximum_of_other_programs_on_correlations_and_covariances() {
    let wine = file("wine.csv");
    let dim = wine.dim();
    let correlations = Points::owned(standardized(&wine), dim).unwrap();
    let variances = moments(&wine, &executor()).unwrap().variances().to_vec();
    let units: f64 = variances.iter().map(|v| 0.5 * v.ln()).sum();
    for solution in fixture("fa_ml")["solutions"].as_array().unwrap() {
        if solution["data"] != "wine" {
            continue;
        }
        let latents = solution["H"].as_u64().unwrap() as usize;
        let expected = solution["loglik"].as_f64().unwrap();
        assert!((solution["R_factanal_loglik"].as_f64().unwrap() - expected).abs() < 1e-11);
        for algorithm in [LinearGaussianAlgorithm::Em, LinearGaussianAlgorithm::PxEm] {
            let spec = LinearGaussianSpec::factor_analysis(latents).with_algorithm(algorithm);
            let config = Config::default().max_iter(20_000).tol(1e-15);
            let fitted = fit(&spec, &correlations, &config);
            let (what, record) = (format!("{algorithm:?} {latents}"), fitted.last().unwrap());
            assert!(fitted.converged(), "{what}");
            assert_close(record.log_likelihood, expected, 1e-9, &what);
            assert!((record.entropy_sum.total() - record.lower_bound).abs() < 1e-6, "{what}");
            assert_all_close(
                fitted.model.noise_variances(),
                &numbers(&solution["psi"]),
                1e-5,
                &what,
            );
            let found = product_of_loadings(&fitted.model);
            assert_all_close(&found, &numbers(&solution["WWt"]), 1e-5, &what);

            let raw = fit(&spec, &wine, &config);
            let scores = (raw.last().unwrap().log_likelihood + units, expected);
            assert_close(scores.0, scores.1, 1e-9, &what);
            let psi: Vec<f64> =
                raw.model.noise_variances().iter().zip(&variances).map(|(p, v)| p / v).collect();
            assert_all_close(&psi, &numbers(&solution["psi"]), 1e-5, &what);
        }
    }
}

/// 2 D points with these second moments, in the order of a lower triangle: `±√D` times the columns of a factor.
fn points_with_covariance(lower: &[Vec<f64>]) -> Vec<f64> {
    let dim = lower.len();
    let mut factor = vec![vec![0.0; dim]; dim];
    for i in 0..dim {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| factor[i][k] * factor[j][k]).sum();
            let rest = lower[i][j] - known;
            factor[i][j] = if i == j { rest.sqrt() } else { rest / factor[j][j] };
        }
    }
    let root = (dim as f64).sqrt();
    let point = |j: usize, sign: f64| factor.iter().map(move |row| sign * root * row[j]).collect();
    (0..dim).flat_map(|j| [point(j, 1.0), point(j, -1.0)]).flat_map(|x: Vec<f64>| x).collect()
}

/// 25 questions to 2436 persons, five factors: against R and scikit-learn, from their correlations alone, and in other units.
#[test]
fn five_factors_of_personality_are_those_of_other_programs() {
    let all = fixture("fa_ml");
    let solution = all["solutions"].as_array().unwrap().iter().find(|it| it["data"] == "bfi");
    let solution = solution.expect("the fixture has it");
    let rows = solution["correlations"].as_array().unwrap();
    let lower: Vec<Vec<f64>> = rows.iter().map(numbers).collect();
    let (dim, x) = (lower.len(), points_with_covariance(&lower));
    let expected = solution["loglik"].as_f64().unwrap();
    assert!((solution["R_factanal_loglik"].as_f64().unwrap() - expected).abs() < 1e-11);
    let config = Config::default().max_iter(20_000).tol(1e-14);
    let unit = |d: usize| 10_f64.powi(d as i32 % 5 - 2);
    let scaled: Vec<f64> = x.iter().enumerate().map(|(k, v)| v * unit(k % dim)).collect();
    let units: f64 = (0..dim).map(|d| unit(d).ln()).sum();
    for algorithm in [LinearGaussianAlgorithm::Em, LinearGaussianAlgorithm::PxEm] {
        let spec = LinearGaussianSpec::factor_analysis(5).with_algorithm(algorithm);
        let found = fit(&spec, &Points::from_rows(&x, dim).unwrap(), &config);
        let (what, record) = (format!("{algorithm:?}"), found.last().unwrap());
        assert!(found.converged(), "{what}");
        assert_close(record.log_likelihood, expected, 1e-9, &what);
        assert_close(record.entropy_sum.total(), expected, 1e-9, &what);
        assert_all_close(found.model.noise_variances(), &numbers(&solution["psi"]), 1e-5, &what);
        assert_all_close(
            &product_of_loadings(&found.model),
            &numbers(&solution["WWt"]),
            1e-5,
            &what,
        );
        let raw = fit(&spec, &Points::from_rows(&scaled, dim).unwrap(), &config);
        assert_close(raw.last().unwrap().log_likelihood + units, expected, 1e-9, &what);
    }
}

/// Four and five factors of wine leave one variable no noise, which R and scikit-learn hold at floors of their own; the
/// likelihood is at least theirs (scikit-learn's with the tolerance 1e-12), and the variable is named.
#[test]
fn heywood_cases_reach_the_likelihood_of_other_programs_and_are_named() {
    let wine = file("wine.csv");
    let correlations = Points::owned(standardized(&wine), wine.dim()).unwrap();
    let config = Config::default().max_iter(20_000).tol(1e-10);
    for (latents, theirs) in [(4, -14.840614643188658), (5, -14.779009646602901)] {
        let found = fit(&LinearGaussianSpec::factor_analysis(latents), &correlations, &config);
        let record = found.last().unwrap();
        assert!(record.log_likelihood >= theirs - 1e-4, "{}", record.log_likelihood);
        let warning = found.warnings.last().map_or("", |it| it);
        assert!(warning.contains("Heywood"), "{latents}: {warning}");
    }
}

#[test]
fn the_entropy_sum_is_the_elbo_at_convergence_to_1e_10() {
    let points = points_of::<f64>(&fixture("linear_wine_std"));
    let config = Config::default().max_iter(200_000).tol(1e-13);
    for algorithm in LinearGaussianAlgorithm::ALL {
        for spec in [LinearGaussianSpec::ppca(2), LinearGaussianSpec::factor_analysis(2)] {
            if spec.noise == Noise::Diagonal && algorithm == LinearGaussianAlgorithm::ClosedForm {
                continue;
            }
            let spec = spec.with_algorithm(algorithm);
            let fit = fit(&spec, &points, &config);
            let record = fit.last().unwrap();
            assert!(record.gap().abs() < 1e-10, "{spec:?}: {:e}", record.gap());
            let m = moments(&points, &executor()).unwrap();
            let log_likelihood = log_likelihood(&fit.model, &m);
            assert!((record.entropy_sum.total() - log_likelihood).abs() < 1e-10, "{spec:?}");
            // From the parameters alone, Eqn 29. It differs from the bound in first order, where the bound itself stands
            // still in second, so parameter-expanded EM ends with half the digits of it.
            let alone = fit.model.stationary_entropy_sum().total();
            let tolerance = if algorithm == LinearGaussianAlgorithm::PxEm { 1e-6 } else { 1e-10 };
            assert!((alone - log_likelihood).abs() < tolerance, "{spec:?}");
        }
    }
}

#[test]
fn em_px_em_and_closed_form_reach_the_same_likelihood_and_loadings() {
    let wine = Points::owned(standardized(&file("wine.csv")), 13).unwrap();
    for (points, latents) in [(wine, 3), (file("iris.csv"), 2), (file("digits.npy"), 5)] {
        let exact = fit(&LinearGaussianSpec::ppca(latents), &points, &Config::default());
        let expected = exact.last().unwrap().log_likelihood;
        for algorithm in [LinearGaussianAlgorithm::Em, LinearGaussianAlgorithm::PxEm] {
            for seed in [0, 1] {
                let spec = LinearGaussianSpec::ppca(latents).with_algorithm(algorithm);
                let config = Config::default().max_iter(50_000).tol(1e-9).seed(seed);
                let found = fit(&spec, &points, &config);
                assert!(found.converged(), "{algorithm:?}");
                let log_likelihood = found.last().unwrap().log_likelihood;
                assert_close(log_likelihood, expected, 1e-9, algorithm.name());
                assert!(log_likelihood <= expected + 1e-9);
                // Loadings are canonical, so they agree themselves, not only their product.
                for d in 0..points.dim() {
                    for h in 0..latents {
                        let (a, b) =
                            (found.model.loadings()[(d, h)], exact.model.loadings()[(d, h)]);
                        assert!(
                            (a - b).abs() < 1e-3 * exact.model.loadings().norm_max(),
                            "{a} {b}"
                        );
                    }
                }
                // The log-likelihood never falls, and bounds are bounds.
                for pair in found.history.records.windows(2) {
                    assert!(pair[1].log_likelihood >= pair[0].lower_bound - 1e-9);
                    assert!(pair[0].lower_bound >= pair[0].log_likelihood - 1e-9);
                }
            }
        }
    }
}

/// Where noise is small beside the components, plain EM hardly moves their scale; the expanded prior moves it at once.
#[test]
fn px_em_reaches_in_a_hundred_iterations_what_em_does_not_in_ten_thousand() {
    let wine = file("wine.csv");
    let exact = fit(&LinearGaussianSpec::ppca(3), &wine, &Config::default());
    let exact = exact.last().unwrap().log_likelihood;
    let reached = |algorithm, max_iter| {
        let config = Config::default().max_iter(max_iter).tol(0.0);
        let spec = LinearGaussianSpec::ppca(3).with_algorithm(algorithm);
        fit(&spec, &wine, &config).last().unwrap().lower_bound
    };
    let (px, em) =
        (reached(LinearGaussianAlgorithm::PxEm, 100), reached(LinearGaussianAlgorithm::Em, 10_000));
    assert!(exact - px < 1e-6 && exact - em > 1e-6, "{exact} {px} {em}");
}

/// Random parameters, posteriors of other random parameters, and the ELBO of Eqn 2 by a pass over all points.
#[test]
fn gap_identity_holds_at_random_parameters_to_1e_10() {
    let (n, dim, latents) = (40, 5, 2);
    let mut u = Uniforms::new(11);
    let x: Vec<f64> = (0..n * dim).map(|_| 2.0 * u.normal()).collect();
    let points = Points::from_rows(&x, dim).unwrap();
    let m = moments(&points, &executor()).unwrap();
    for noise in Noise::ALL {
        for _ in 0..5 {
            let mut model = || {
                let count = if noise == Noise::Isotropic { 1 } else { dim };
                let mean = (0..dim).map(|_| u.normal()).collect();
                let loadings: Vec<f64> = (0..dim * latents).map(|_| u.normal()).collect();
                let psi = (0..count).map(|_| 0.2 + u.next()).collect();
                LinearGaussian::new(noise, mean, &loadings, psi).unwrap()
            };
            // The mean is shared: posteriors come as moments about it.
            let (q, other) = (model(), model());
            let p = LinearGaussian::new(
                noise,
                q.mean().to_vec(),
                &other
                    .loadings()
                    .row_iter()
                    .flat_map(|r| r.iter().copied().collect::<Vec<_>>())
                    .collect::<Vec<_>>(),
                if noise == Noise::Isotropic {
                    vec![other.noise_variances()[0]]
                } else {
                    other.noise_variances().to_vec()
                },
            )
            .unwrap();
            let expectations = q.e_step(&m).unwrap();

            // By definition, point by point.
            let covariance = q.posterior_covariance();
            let g = |i: usize, j: usize| covariance[i * latents + j];
            let determinant = g(0, 0) * g(1, 1) - g(0, 1) * g(1, 0);
            let entropy = latents as f64 / 2.0 * (2.0 * PI * std::f64::consts::E).ln()
                + 0.5 * determinant.ln();
            let (mut elbo, mut trace) = (0.0, 0.0);
            let mut residuals = vec![0.0; dim];
            for point in x.chunks(dim) {
                let z: Vec<f64> = (0..latents)
                    .map(|h| {
                        (0..latents)
                            .map(|k| {
                                g(h, k)
                                    * (0..dim)
                                        .map(|d| {
                                            q.loadings()[(d, k)] / q.noise_variances()[d]
                                                * (point[d] - q.mean()[d])
                                        })
                                        .sum::<f64>()
                            })
                            .sum()
                    })
                    .collect();
                let second = (0..latents).map(|h| z[h] * z[h] + g(h, h)).sum::<f64>();
                trace += second / n as f64;
                elbo += entropy - 0.5 * (latents as f64 * (2.0 * PI).ln() + second);
                for d in 0..dim {
                    let w = |h: usize| p.loadings()[(d, h)];
                    let at_mean =
                        point[d] - p.mean()[d] - (0..latents).map(|h| w(h) * z[h]).sum::<f64>();
                    let spread: f64 = (0..latents)
                        .flat_map(|h| (0..latents).map(move |k| (h, k)))
                        .map(|(h, k)| w(h) * w(k) * g(h, k))
                        .sum();
                    let psi = p.noise_variances()[d];
                    residuals[d] += (at_mean * at_mean + spread) / n as f64;
                    elbo -= 0.5 * ((2.0 * PI * psi).ln() + (at_mean * at_mean + spread) / psi);
                }
            }
            elbo /= n as f64;
            let sum = p.entropy_sum(&expectations);
            let gap = 0.5 * (latents as f64 - trace)
                + 0.5 * (0..dim).map(|d| 1.0 - residuals[d] / p.noise_variances()[d]).sum::<f64>();
            assert!((p.lower_bound(&expectations) - elbo).abs() < 1e-10 * elbo.abs().max(1.0));
            assert!((elbo - sum.total() - gap).abs() < 1e-10 * elbo.abs().max(1.0), "{noise:?}");
            assert_close(sum.posterior, entropy, 1e-12, "posterior entropy");

            // With its own exact posteriors: L - ES = ½ (D - tr C⁻¹ S), and ES = -H[N(μ, C)].
            let own = p.e_step(&m).unwrap();
            assert!(
                (p.lower_bound(&own) - own.log_likelihood()).abs() < 1e-10 * elbo.abs().max(1.0)
            );
            assert!(
                (p.entropy_sum(&own).total() - p.stationary_entropy_sum().total()).abs() < 1e-11
            );
        }
    }
}

/// The same likelihood from the covariance, from the centred points, and from passes over them; and the choice is as
/// documented.
#[test]
fn every_form_of_the_second_moments_gives_the_same_fit() {
    let (n, dim, latents) = (60, 200, 4);
    let mut u = Uniforms::new(5);
    let factors: Vec<f64> = (0..n * latents).map(|_| u.normal()).collect();
    let w: Vec<f64> =
        (0..dim * latents).map(|k| u.normal() * (1.0 + (k % latents) as f64)).collect();
    let x: Vec<f64> = (0..n * dim)
        .map(|k| {
            let (i, d) = (k / dim, k % dim);
            5.0 + (0..latents).map(|h| factors[i * latents + h] * w[d * latents + h]).sum::<f64>()
                + 2.0 * u.normal()
        })
        .collect();
    let weights: Vec<f64> = (0..n).map(|i| (i % 4) as f64).collect();
    let points = Points::from_rows(&x, dim).unwrap().with_weights(weights.clone()).unwrap();
    let single: Vec<f32> = rounded(&x);
    let single = Points::from_rows(&single, dim).unwrap().with_weights(weights).unwrap();
    let config = Config::default().max_iter(20_000).tol(1e-9);
    let spec = LinearGaussianSpec::ppca(latents);
    assert_eq!(
        spec.method(60, 200).to_string(),
        "eigendecomposition of the Gram matrix of the points"
    );
    assert_eq!(spec.method(300, 200).to_string(), "eigendecomposition of the covariance");
    assert_eq!(
        spec.method(1 << 20, 4000).to_string(),
        "randomised subspace iteration on the covariance"
    );
    let many = spec.method(1 << 20, 20_000).to_string();
    assert_eq!(many, "randomised subspace iteration on the points, one pass an iteration");
    let expected = fit(&spec, &points, &config);
    let reference = expected.last().unwrap().log_likelihood;
    for form in [Form::Covariance, Form::Factor, Form::Points] {
        for algorithm in LinearGaussianAlgorithm::ALL {
            let spec = spec.clone().with_algorithm(algorithm).with_form(form);
            let what = format!("{algorithm:?} {form:?}");
            let found = fit(&spec, &points, &config);
            assert!(found.converged(), "{what}");
            assert_close(found.last().unwrap().log_likelihood, reference, 1e-8, &what);
            let product = product_of_loadings(&found.model);
            let scale = expected.model.loadings().norm_max().powi(2);
            for (a, b) in product.iter().zip(&product_of_loadings(&expected.model)) {
                assert!((a - b).abs() < 1e-4 * scale, "{what} {a} {b}");
            }
            let rough = config.clone().tol(1e-4);
            let found = fit(&spec, &single, &rough);
            assert_close(found.last().unwrap().log_likelihood, reference, 1e-4, &what);
        }
        let spec = LinearGaussianSpec::factor_analysis(latents).with_form(form);
        let found = fit(&spec, &points, &Config::default().max_iter(20).tol(0.0));
        let other = fit(
            &spec.clone().with_form(Form::Factor),
            &points,
            &Config::default().max_iter(20).tol(0.0),
        );
        assert_close(
            found.last().unwrap().lower_bound,
            other.last().unwrap().lower_bound,
            1e-2,
            "factor analysis",
        );
    }
}

/// Above 8192 dimensions no covariance is held. With fewer points than that the Gram matrix is exact; passes over the points
/// must find the same, and do when the points are too many to be held.
#[test]
fn nine_thousand_dimensions_take_passes_over_the_points() {
    let (n, dim, latents) = (300, 9000, 3);
    let mut u = Uniforms::new(12);
    let loadings: Vec<f64> = (0..dim * latents).map(|_| u.normal()).collect();
    let mut x = Vec::with_capacity(n * dim);
    for _ in 0..n {
        let z = [3.0 * u.normal(), 2.0 * u.normal(), u.normal()];
        x.extend(loadings.chunks(latents).map(|row| {
            row.iter().zip(&z).map(|(w, z)| w * z).sum::<f64>() + 0.5 * (2.0 * u.next() - 1.0)
        }));
    }
    let points = Points::from_rows(&x, dim).unwrap();
    let spec = LinearGaussianSpec::ppca(latents);
    assert_eq!(spec.method(n as u64, dim).form, Form::Factor);
    assert_eq!(spec.method(1 << 20, dim).form, Form::Points);
    let config = Config::default().max_iter(200).tol(1e-9);
    let exact = fit(&spec, &points, &config);
    let passes = fit(&spec.clone().with_form(Form::Points), &points, &config);
    let (a, b) = (exact.last().unwrap(), passes.last().unwrap());
    assert!(passes.converged());
    assert_close(b.log_likelihood, a.log_likelihood, 1e-9, "log-likelihood");
    assert_close(b.entropy_sum.total(), a.log_likelihood, 1e-9, "entropy sum");
    assert_close(
        passes.model.noise_variances()[0],
        exact.model.noise_variances()[0],
        1e-8,
        "noise",
    );
    // Uniform noise of variance 1/12, less what three of 300 directions take of it.
    assert!((passes.model.noise_variances()[0] * 12.0 - 1.0).abs() < 0.03);
    let px = spec.with_algorithm(LinearGaussianAlgorithm::PxEm).with_form(Form::Points);
    let px = fit(&px, &points, &Config::default().max_iter(60).tol(1e-7));
    assert_close(px.last().unwrap().log_likelihood, a.log_likelihood, 1e-6, "px-em");
}

/// A scatter too large for a copy in every lane is summed by columns.
#[test]
fn a_scatter_summed_by_columns_has_the_same_bits_on_any_threads() {
    let (n, dim) = (30, 2100);
    let x: Vec<f64> = (0..n * dim).map(|k| ((k * 7919) % 1013) as f64 / 500.0).collect();
    let points = Points::from_rows(&x, dim).unwrap();
    let one = moments(&points, &Executor::new(Some(1)).unwrap()).unwrap();
    assert!(one == moments(&points, &Executor::new(Some(7)).unwrap()).unwrap());
    let y = |i: usize, d: usize| x[i * dim + d] - one.mean()[d];
    for (a, b) in [(0, 0), (2099, 0), (2099, 2099), (70, 65), (1000, 1700), (66, 131)] {
        let expected = (0..n).map(|i| y(i, a) * y(i, b)).sum::<f64>() / n as f64;
        assert!((one.covariance()[(a, b)] - expected).abs() < 1e-13, "{a} {b}");
    }
}

#[test]
fn moments_of_parts_merge_to_those_of_the_whole_far_from_zero() {
    let (n, dim) = (5_000, 4);
    let mut u = Uniforms::new(9);
    let x: Vec<f64> =
        (0..n * dim).map(|k| 1e8 + 1e-1 * u.normal() * (1 + k % dim) as f64).collect();
    let weights: Vec<f64> = (0..n).map(|i| 0.5 + (i % 2) as f64).collect();
    let whole = Points::from_rows(&x, dim).unwrap().with_weights(weights.clone()).unwrap();
    let whole = moments(&whole, &executor()).unwrap();
    let part = |rows: std::ops::Range<usize>| {
        let points = Points::from_rows(&x[rows.start * dim..rows.end * dim], dim).unwrap();
        moments(&points.with_weights(weights[rows].to_vec()).unwrap(), &executor()).unwrap()
    };
    let merged = part(0..1000).merge(&part(1000..1001)).merge(&part(1001..n));
    assert_eq!(
        (merged.total_weight(), merged.n_points()),
        (whole.total_weight(), whole.n_points())
    );
    for a in 0..dim {
        assert!((merged.mean()[a] - whole.mean()[a]).abs() < 1e-7);
        for b in 0..dim {
            let (found, expected) = (merged.covariance()[(a, b)], whole.covariance()[(a, b)]);
            assert!((found - expected).abs() < 1e-7, "{found} {expected}");
            let by_definition: f64 = (0..n)
                .map(|i| {
                    weights[i]
                        * (x[i * dim + a] - whole.mean()[a])
                        * (x[i * dim + b] - whole.mean()[b])
                })
                .sum::<f64>()
                / whole.total_weight();
            assert!((expected - by_definition).abs() < 1e-9, "{expected} {by_definition}");
        }
    }
    // Sums about one centre add up without more ado.
    let centre = vec![1e8; dim];
    let mut sum = entropysum::expert::moment_stats(
        &Points::from_rows(&x[..dim * 10], dim).unwrap(),
        &executor(),
        &centre,
    )
    .unwrap();
    sum.add(
        &entropysum::expert::moment_stats(
            &Points::from_rows(&x[dim * 10..], dim).unwrap(),
            &executor(),
            &centre,
        )
        .unwrap(),
    );
    let unweighted = moments(&Points::from_rows(&x, dim).unwrap(), &executor()).unwrap();
    assert_all_close(Moments::from_stats(&sum).mean(), unweighted.mean(), 1e-15, "mean");
}

/// Both halves of the gap are derivatives of the bound; a model that has been learned from the points has none.
#[test]
fn certified_gaps_of_linear_gaussian_models_are_derivatives_of_the_bound() {
    let points = file("iris.csv");
    let learned = [
        fit(&LinearGaussianSpec::ppca(2), &points, &Config::default()).model,
        LinearGaussian::new(
            Noise::Diagonal,
            vec![5.0, 3.0, 4.0, 1.0],
            &[0.5, -0.1, 1.0, 0.7],
            vec![0.3, 0.2, 1.0, 0.1],
        )
        .unwrap(),
    ];
    for (model, is_learned) in learned.iter().zip([true, false]) {
        let gap = criterion::certify_linear_gaussian(model, &points, &executor()).unwrap();
        assert!(gap.error().abs() < 1e-9, "{gap}");
        assert_eq!(gap.gap().abs() < 1e-10, is_learned, "{gap}");
        assert!(is_learned || gap.prior.abs() > 0.01 && gap.observable.abs() > 0.01, "{gap}");
    }
}

/// Exact EM over the observed entries: against dense Gaussians of each point's observed dimensions.
#[test]
fn missing_entries_are_left_out_of_the_likelihood_exactly() {
    let mut u = Uniforms::new(6);
    let (n, dim, latents) = (120, 6, 2);
    let w: Vec<f64> = (0..dim * latents).map(|_| u.normal()).collect();
    let full: Vec<f64> = (0..n)
        .flat_map(|_| {
            let z = [u.normal(), u.normal()];
            (0..dim)
                .map(|d| d as f64 + w[2 * d] * z[0] + w[2 * d + 1] * z[1] + 0.5 * u.normal())
                .collect::<Vec<_>>()
        })
        .collect();
    let complete = Points::from_rows(&full, dim).unwrap();
    let weights: Vec<f64> = (0..n).map(|i| 0.5 + (i % 3) as f64).collect();
    let mut holes = full.clone();
    holes.iter_mut().for_each(|v| {
        if u.next() < 0.25 {
            *v = f64::NAN
        }
    });
    holes[..dim].fill(f64::NAN);
    let points = Points::from_rows(&holes, dim).unwrap().with_weights(weights.clone()).unwrap();

    // By definition, with a Cholesky decomposition for every point.
    let dense = |model: &LinearGaussian| -> f64 {
        let mut sum = 0.0;
        for (row, weight) in holes.chunks(dim).zip(&weights) {
            let o: Vec<usize> = (0..dim).filter(|&d| !row[d].is_nan()).collect();
            if o.is_empty() {
                continue;
            }
            let mut l = Mat::from_fn(o.len(), o.len(), |i, j| {
                let shared: f64 = (0..model.latents())
                    .map(|h| model.loadings()[(o[i], h)] * model.loadings()[(o[j], h)])
                    .sum();
                shared + if i == j { model.noise_variances()[o[i]] } else { 0.0 }
            });
            let mut whitened = Vec::new();
            for i in 0..o.len() {
                for j in 0..=i {
                    let inner: f64 = (0..j).map(|k| l[(i, k)] * l[(j, k)]).sum();
                    l[(i, j)] = if i == j {
                        (l[(i, i)] - inner).sqrt()
                    } else {
                        (l[(i, j)] - inner) / l[(j, j)]
                    };
                }
                let inner: f64 = (0..i).map(|k| l[(i, k)] * whitened[k]).sum();
                whitened.push((row[o[i]] - model.mean()[o[i]] - inner) / l[(i, i)]);
            }
            sum += weight
                * (0..o.len())
                    .map(|i| {
                        -0.5 * (2.0 * PI).ln() - l[(i, i)].ln() - 0.5 * whitened[i] * whitened[i]
                    })
                    .sum::<f64>();
        }
        sum / weights.iter().sum::<f64>()
    };

    for spec in [LinearGaussianSpec::ppca(2), LinearGaussianSpec::factor_analysis(1)] {
        assert!(
            em::fit(&spec, &points, &executor(), &Config::default(), &mut Silent)
                .unwrap_err()
                .to_string()
                .contains("NaN")
        );
        for algorithm in [LinearGaussianAlgorithm::Em, LinearGaussianAlgorithm::PxEm] {
            let spec = spec.clone().with_algorithm(algorithm).ignoring_missing();
            let what = format!("{:?} {algorithm:?}", spec.noise);
            // Near a Heywood case EM takes ten thousand iterations for the last digits; they are not needed here.
            let config = Config::default().max_iter(5_000).tol(1e-11);
            let found = fit(&spec, &points, &config);
            for pair in found.history.records.windows(2) {
                assert!(pair[0].log_likelihood <= pair[0].lower_bound + 1e-11);
                assert!(pair[0].lower_bound <= pair[1].log_likelihood + 1e-11);
            }
            let expected = dense(&found.model);
            let record = found.last().unwrap();
            assert_close(record.lower_bound, expected, 1e-8, &what);
            assert!((record.entropy_sum.total() - expected).abs() < 1e-4, "{what}");
            let scored =
                Summary::new(&spec, &points, &executor()).unwrap().score(&found.model).unwrap();
            assert_close(scored.log_likelihood, expected, 1e-12, &what);
            // Nothing nearby is better.
            for _ in 0..30 {
                let mut nudge = |v: f64| v + 1e-3 * u.normal();
                let mean = found.model.mean().iter().map(|&m| nudge(m)).collect();
                let loadings: Vec<f64> = found
                    .model
                    .loadings()
                    .row_iter()
                    .flat_map(|r| r.iter().map(|&v| nudge(v)).collect::<Vec<_>>())
                    .collect();
                let psi: Vec<f64> =
                    found.model.noise_variances().iter().map(|&v| v * nudge(1.0)).collect();
                let psi = if spec.noise == Noise::Isotropic { vec![psi[0]] } else { psi };
                let other = LinearGaussian::new(spec.noise, mean, &loadings, psi).unwrap();
                assert!(dense(&other) < expected + 1e-7, "{what}");
            }
            let bits = |threads| {
                let executor = Executor::new(Some(threads)).unwrap();
                let config = Config::default().max_iter(3).tol(0.0);
                em::fit(&spec, &points, &executor, &config, &mut Silent)
                    .unwrap()
                    .last()
                    .unwrap()
                    .lower_bound
                    .to_bits()
            };
            assert!(bits(1) == bits(2) && bits(1) == bits(7), "{what}");

            // Without holes, the same iterations as from the covariance.
            let with_all = fit(&spec, &complete, &Config::default().max_iter(20).tol(0.0));
            let start = spec.clone().with_form(Form::Covariance);
            let plain = fit(&start, &complete, &Config::default().max_iter(20).tol(0.0));
            if spec.noise == Noise::Isotropic {
                for (a, b) in with_all.history.records.iter().zip(&plain.history.records) {
                    assert_close(a.lower_bound, b.lower_bound, 1e-11, &what);
                    assert_close(a.entropy_sum.total(), b.entropy_sum.total(), 1e-11, &what);
                }
            }
        }
    }
    let mut never = full.clone();
    never.iter_mut().skip(3).step_by(dim).for_each(|v| *v = f64::NAN);
    let spec = LinearGaussianSpec::ppca(1).ignoring_missing();
    assert!(fault(&spec, &never, dim).contains("column 3 has no observed entry"));
    never[3] = f64::INFINITY;
    assert!(fault(&spec, &never, dim).contains("row 0, column 3"));
}

/// Densities, posterior means, reconstructions and samples, against dense linear algebra.
#[test]
fn incomplete_points_have_the_density_and_the_latents_of_the_dimensions_they_have() {
    let (dim, latents) = (6, 2);
    let mut random = Uniforms::new(23);
    let mut between = |low: f64, high: f64| low + (high - low) * random.next();
    let loadings: Vec<f64> = (0..dim * latents).map(|_| between(-2.0, 2.0)).collect();
    let mean: Vec<f64> = (0..dim).map(|_| between(-5.0, 5.0)).collect();
    for noise in Noise::ALL {
        let psi: Vec<f64> = (0..dim).map(|_| between(0.1, 2.0)).collect();
        let psi = if noise == Noise::Isotropic { vec![psi[0]] } else { psi };
        let model = LinearGaussian::new(noise, mean.clone(), &loadings, psi).unwrap();
        let mut x: Vec<f64> = (0..40 * dim).map(|_| between(-6.0, 6.0)).collect();
        // Points lack any entries but three; the first lacks all of them, the second none.
        for (i, row) in x.chunks_mut(dim).enumerate() {
            match i {
                0 => row.fill(f64::NAN),
                1 => {}
                _ => (0..3).for_each(|j| row[(i * (j + 1) + j) % dim] = f64::NAN),
            }
        }
        let points = Points::from_rows(&x, dim).unwrap();
        let ignoring = model.clone().ignoring_missing().unwrap();
        let (mut densities, mut z, mut back) = (Vec::new(), Vec::new(), Vec::new());
        let into = |to: &mut Vec<f64>, values: &[f64]| {
            to.extend_from_slice(values);
            Ok(())
        };
        inference::score_samples(&ignoring, &points, &executor(), |_, v| into(&mut densities, v))
            .unwrap();
        inference::transform(&ignoring, &points, &executor(), |_, v| into(&mut z, v)).unwrap();
        inference::reconstruct(&ignoring, &points, &executor(), |_, v| into(&mut back, v)).unwrap();
        assert_eq!((densities[0], &z[..latents], &back[..dim]), (0.0, &[0.0; 2][..], &mean[..]));
        for (i, row) in x.chunks(dim).enumerate().skip(1) {
            // The marginal of the dimensions that are there is a model of its own.
            let seen: Vec<usize> = (0..dim).filter(|&d| !row[d].is_nan()).collect();
            let of = |values: &[f64]| seen.iter().map(|&d| values[d]).collect::<Vec<f64>>();
            let rows = seen.iter().flat_map(|&d| &loadings[d * latents..][..latents]);
            let rows: Vec<f64> = rows.copied().collect();
            let psi = match noise {
                Noise::Isotropic => vec![model.noise_variances()[0]],
                Noise::Diagonal => of(model.noise_variances()),
            };
            let marginal = LinearGaussian::new(noise, of(&mean), &rows, psi).unwrap();
            let point = Points::owned(of(row), seen.len()).unwrap();
            let score = inference::score(&marginal, &point, &executor()).unwrap();
            assert_close(densities[i], score.log_likelihood, 1e-12, "density");
            let found = &z[i * latents..][..latents];
            inference::transform(&marginal, &point, &executor(), |_, expected| {
                assert_all_close(found, expected, 1e-12, "latents");
                Ok(())
            })
            .unwrap();
            for d in 0..dim {
                let w = &loadings[d * latents..][..latents];
                let expected = mean[d] + w[0] * found[0] + w[1] * found[1];
                assert_close(back[i * dim + d], expected, 1e-12, "reconstruction");
            }
        }
        // What is missing is refused without being asked to ignore it, and infinite values are at fault themselves.
        let fault = inference::score(&model, &points, &executor()).unwrap_err().to_string();
        assert!(fault.contains("row 0, column 0"), "{fault}");
        x[5 * dim + 4] = f64::INFINITY;
        let points = Points::from_rows(&x, dim).unwrap();
        let fault = inference::score(&ignoring, &points, &executor()).unwrap_err().to_string();
        assert!(fault.contains("row 5, column 4"), "{fault}");
    }
}

#[test]
fn one_summary_fits_and_scores_all_sizes_as_passes_of_their_own_do() {
    let points = file("wine.csv");
    for spec in [LinearGaussianSpec::ppca(1), LinearGaussianSpec::factor_analysis(1)] {
        let executor = executor();
        let summary = Summary::new(&spec, &points, &executor).unwrap();
        assert_eq!(summary.points_per_iteration(), 0);
        for latents in 1..5 {
            let spec = LinearGaussianSpec { latents, ..spec.clone() };
            let shared = summary.fit(&spec, &Config::default(), &mut Silent).unwrap();
            assert_eq!(shared.model, fit(&spec, &points, &Config::default()).model);
            let a = summary.score(&shared.model).unwrap();
            let b = inference::score(&shared.model, &points, &executor).unwrap();
            // The largest variance is 1e6 times the noise, and that many roundings cancel in the score by covariance.
            assert_close(a.log_likelihood, b.log_likelihood, 1e-10, "score");
            let others = |s: inference::Score| (s.n_points, s.total_weight, s.n_parameters);
            assert_eq!((others(a), a.icl()), (others(b), a.bic()));
        }
        // Eigenvalues add up to the trace: of the covariance, or of the correlation.
        let moments = moments(&points, &executor).unwrap();
        let covariance: f64 = (0..13).map(|d| moments.covariance()[(d, d)]).sum();
        for (noise, trace) in [(Noise::Isotropic, covariance), (Noise::Diagonal, 13.0)] {
            let scree = summary.scree(noise).unwrap();
            assert_close(scree.iter().sum(), trace, 1e-12, "trace");
            assert!(scree.is_sorted_by(|a, b| a >= b) && scree.len() == 13, "{scree:?}");
        }
    }
}

#[test]
fn densities_latents_reconstructions_and_samples_follow_the_definitions() {
    fn check<T: Scalar>(tolerance: f64) {
        let mut u = Uniforms::new(4);
        let (n, dim, latents) = (600, 5, 2);
        let loadings: Vec<f64> = (0..dim * latents).map(|_| u.normal()).collect();
        let psi = vec![0.5, 0.1, 2.0, 0.02, 1.0];
        let mean: Vec<f64> = (0..dim).map(|d| 10.0 * d as f64).collect();
        let x: Vec<T> =
            (0..n * dim).map(|k| T::from_f64(mean[k % dim] + 2.0 * u.normal())).collect();
        let points = Points::from_rows(&x, dim).unwrap();
        for noise in Noise::ALL {
            let psi = if noise == Noise::Isotropic { vec![0.5] } else { psi.clone() };
            let model = LinearGaussian::new(noise, mean.clone(), &loadings, psi).unwrap();
            // One component with the same covariance scores the same.
            let w = |d: usize, h: usize| loadings[d * latents + h];
            let covariance: Vec<f64> = (0..dim * dim)
                .map(|k| {
                    let (i, j) = (k / dim, k % dim);
                    let shared: f64 = (0..latents).map(|h| w(i, h) * w(j, h)).sum();
                    shared + if i == j { model.noise_variances()[i] } else { 0.0 }
                })
                .collect();
            let family = entropysum::family::registry::build("gaussian-full", dim).unwrap();
            let dense = entropysum::Mixture::from_arrays(family, vec![1.0], |name| {
                Some(if name == "means" { &mean } else { &covariance })
            })
            .unwrap();
            let executor = executor();
            let (mut found, mut expected, mut z, mut back) = (vec![], vec![], vec![], vec![]);
            let keep = |to: &mut Vec<f64>, values: &[f64]| {
                to.extend_from_slice(values);
                Ok(())
            };
            inference::score_samples(&model, &points, &executor, |_, v| keep(&mut found, v))
                .unwrap();
            inference::score_samples(&dense, &points, &executor, |_, v| keep(&mut expected, v))
                .unwrap();
            assert_all_close(&found, &expected, tolerance, noise.model_name());
            inference::transform(&model, &points, &executor, |_, v| keep(&mut z, v)).unwrap();
            inference::reconstruct(&model, &points, &executor, |_, v| keep(&mut back, v)).unwrap();
            assert_eq!((z.len(), back.len()), (n * latents, n * dim));
            let g = model.posterior_covariance();
            for i in 0..n {
                for h in 0..latents {
                    let m: f64 = (0..latents)
                        .map(|k| {
                            let y = |d: usize| x[i * dim + d].to_f64() - mean[d];
                            g[h * latents + k]
                                * (0..dim)
                                    .map(|d| w(d, k) * y(d) / model.noise_variances()[d])
                                    .sum::<f64>()
                        })
                        .sum();
                    assert!((z[i * latents + h] - m).abs() < tolerance * m.abs().max(1.0));
                }
                for d in 0..dim {
                    let at =
                        mean[d] + (0..latents).map(|h| w(d, h) * z[i * latents + h]).sum::<f64>();
                    assert!((back[i * dim + d] - at).abs() < tolerance * at.abs().max(10.0));
                }
            }
            // Samples have the model's moments, and the same bits on any number of threads.
            let draw = |threads| {
                let mut values = Vec::new();
                let executor = Executor::new(Some(threads)).unwrap();
                inference::sample(&model, 200_000, 3, &executor, |v, labels| {
                    assert!(labels.is_empty());
                    keep(&mut values, v)
                })
                .unwrap();
                values
            };
            let samples = draw(1);
            assert!(samples == draw(7));
            let m = moments(&Points::from_rows(&samples, dim).unwrap(), &executor).unwrap();
            for i in 0..dim {
                for j in 0..dim {
                    let spread = (covariance[i * dim + i] * covariance[j * dim + j]).sqrt();
                    assert!(
                        (m.covariance()[(i, j)] - covariance[i * dim + j]).abs() < 0.015 * spread
                    );
                }
            }
        }
    }
    check::<f64>(1e-11);
    check::<f32>(1e-4);
}

fn fault(spec: &LinearGaussianSpec, x: &[f64], dim: usize) -> String {
    let points = Points::from_rows(x, dim).unwrap();
    let config = Config::default().max_iter(100_000).tol(0.0);
    em::fit(spec, &points, &executor(), &config, &mut Silent).unwrap_err().to_string()
}

#[test]
fn hard_data_give_right_answers_or_clear_errors() {
    let mut u = Uniforms::new(2);
    let n = 50;
    // Three independent columns, their sum, a constant, and a copy of the first.
    let x: Vec<f64> = (0..n)
        .flat_map(|_| {
            let (a, b, c) = (u.normal(), 2.0 * u.normal(), 0.5 * u.normal());
            [a, b, c, a + b + c, 7.0, a]
        })
        .collect();
    let points = Points::from_rows(&x, 6).unwrap();

    // Rank 3 with fewer latents than that: right answers. With as many or more: no noise is left.
    for latents in [1, 2] {
        for algorithm in LinearGaussianAlgorithm::ALL {
            let spec = LinearGaussianSpec::ppca(latents).with_algorithm(algorithm);
            let found = fit(&spec, &points, &Config::default().max_iter(50_000).tol(1e-13));
            let exact = fit(&LinearGaussianSpec::ppca(latents), &points, &Config::default());
            assert!(found.last().unwrap().gap().abs() < 1e-8);
            let (found, exact) =
                (found.last().unwrap().lower_bound, exact.last().unwrap().lower_bound);
            assert_close(found, exact, 1e-8, "rank 3");
        }
    }
    for latents in [3, 5] {
        let message = fault(&LinearGaussianSpec::ppca(latents), &x, 6);
        assert!(
            message.contains("no noise is left") && message.contains("fewer latents"),
            "{message}"
        );
    }
    let message =
        fault(&LinearGaussianSpec::ppca(3).with_algorithm(LinearGaussianAlgorithm::PxEm), &x, 6);
    assert!(message.contains("no noise is left"), "{message}");

    // H = D - 1: the smallest eigenvalue alone is noise.
    let spread: Vec<f64> = (0..n * 4).map(|k| u.normal() * (1 + k % 4) as f64).collect();
    let found = fit(
        &LinearGaussianSpec::ppca(3),
        &Points::from_rows(&spread, 4).unwrap(),
        &Config::default(),
    );
    assert!(found.model.noise_variances()[0] > 0.3 && found.last().unwrap().gap().abs() < 1e-12);
    let m = moments(&Points::from_rows(&spread, 4).unwrap(), &executor()).unwrap();
    let mut covariance = Mat::from_fn(4, 4, |i, j| {
        (found.model.loadings() * found.model.loadings().transpose())[(i, j)]
    });
    (0..4).for_each(|d| covariance[(d, d)] += found.model.noise_variances()[0]);
    assert!(
        (&covariance - m.covariance()).norm_max() < 1e-12,
        "a model with D - 1 latents is the covariance"
    );
    let message = fault(&LinearGaussianSpec::ppca(4), &spread, 4);
    assert!(message.contains("4 latents for 4 dimension(s)"), "{message}");
    assert!(fault(&LinearGaussianSpec::ppca(0), &spread, 4).contains("at least 1"));
    assert!(
        fault(&LinearGaussianSpec::ppca(1), &[1.0, 2.0], 1)
            .contains("1 latents for 1 dimension(s)")
    );

    // More dimensions than points; one point; no points; equal points.
    let wide: Vec<f64> = (0..5 * 40).map(|_| u.normal()).collect();
    let found = fit(
        &LinearGaussianSpec::ppca(3),
        &Points::from_rows(&wide, 40).unwrap(),
        &Config::default(),
    );
    assert!(found.last().unwrap().gap().abs() < 1e-10);
    for latents in [4, 5, 7] {
        let message = fault(&LinearGaussianSpec::ppca(latents), &wide, 40);
        assert!(
            message.contains("no noise is left") || message.contains("5 point(s) cannot tell"),
            "{message}"
        );
    }
    for spec in [LinearGaussianSpec::ppca(1), LinearGaussianSpec::factor_analysis(1)] {
        for x in [&[1.0, 2.0, 3.0][..], &[0.1, 0.2, 0.3].repeat(9)] {
            assert!(
                fault(&spec, x, 3).contains("the points do not differ"),
                "{}",
                fault(&spec, x, 3)
            );
        }
        assert!(fault(&spec, &[], 3).contains("no points"), "{}", fault(&spec, &[], 3));
        let message = fault(&spec, &[1.0, 2.0, 3.0, f64::NAN, 1.0, 2.0, 0.0, 1.0, 5.0], 3);
        assert!(message.contains("row 1, column 0") && message.contains("NaN"), "{message}");
        assert!(
            fault(&spec, &[1e200, 2.0, 3.0, -1e200, 1.0, 2.0, 0.0, 1.0, 5.0], 3)
                .contains("overflow")
        );
    }

    // A constant column is named; a copied one is a Heywood case, floored and named.
    assert!(fault(&LinearGaussianSpec::factor_analysis(1), &x, 6).contains("column 4 is constant"));
    let copied: Vec<f64> =
        x.chunks(6).flat_map(|row| [row[0], row[1], row[2] + 0.1 * row[0], row[5]]).collect();
    let copied = Points::from_rows(&copied, 4).unwrap();
    let config = Config::default().max_iter(3000).tol(0.0);
    let found = fit(&LinearGaussianSpec::factor_analysis(1), &copied, &config);
    assert!(found.model.noise_variances().iter().all(|psi| *psi > 0.0));
    let warning = found.warnings.last().expect("a Heywood case");
    assert!(warning.contains("column(s) [0, 3]"), "{warning}");
    // The floor is a millionth of the variable's variance.
    let variances = moments(&copied, &executor()).unwrap().variances().to_vec();
    for d in [0, 3] {
        let part = found.model.noise_variances()[d] / variances[d];
        assert!((part * 1e6 - 1.0).abs() < 1e-6, "{part:e}");
    }
    let record = found.last().unwrap();
    // Where a floor binds the gap is known, and the bound is still below the next log-likelihood.
    let m = moments(&copied, &executor()).unwrap();
    assert!(record.lower_bound <= log_likelihood(&found.model, &m) + 1e-9);
}

/// A rotation of the loadings is no parameter: H (H - 1) / 2 fewer.
#[test]
fn free_parameters_are_counted_without_rotations() {
    for (noise, n_variances) in [(Noise::Isotropic, 1), (Noise::Diagonal, 6)] {
        let (loadings, variances) =
            ((0..18).map(f64::from).collect::<Vec<_>>(), vec![1.0; n_variances]);
        let model = LinearGaussian::new(noise, vec![0.0; 6], &loadings, variances).unwrap();
        assert_eq!(model.n_parameters(), 6 + 6 * 3 - 3 + n_variances);
    }
}

#[test]
fn settings_without_meaning_are_refused() {
    let points = file("iris.csv");
    let message = |spec: &LinearGaussianSpec, config: &Config| {
        em::fit(spec, &points, &executor(), config, &mut Silent).unwrap_err().to_string()
    };
    let (ppca, config) = (LinearGaussianSpec::ppca(2), Config::default());
    let factors = LinearGaussianSpec::factor_analysis(2);
    assert!(
        message(&factors.clone().with_algorithm(LinearGaussianAlgorithm::ClosedForm), &config)
            .contains("no closed form")
    );
    let init = fit(&ppca, &points, &config).model;
    assert!(message(&ppca.clone().with_init(init.clone()), &config).contains("needs no start"));
    assert!(
        message(&factors.with_init(init.clone()), &config)
            .contains("expected factor-analysis with 2 in 4")
    );
    let from = ppca.clone().with_algorithm(LinearGaussianAlgorithm::Em).with_init(init);
    assert!(message(&from, &config.clone().n_init(2)).contains("n_init must be 1"));
    let mut ridge = config.clone();
    ridge.regularization.reg_covar = Some(1e-3);
    assert!(message(&ppca, &ridge).contains("reg_covar"));
    assert!(message(&from, &config.monitor(Monitor::Delta)).contains("px-em"));
    // Fewer iterations than it takes are no error.
    let stopped = fit(
        &ppca.with_algorithm(LinearGaussianAlgorithm::Em),
        &points,
        &Config::default().max_iter(2).tol(0.0),
    );
    assert_eq!(stopped.stop_reason, StopReason::MaxIterations);
    assert_eq!(stopped.history.records.len(), 2);
}

#[test]
fn rotations_and_canonical_loadings_keep_the_density() {
    let wine = Points::owned(standardized(&file("wine.csv")), 13).unwrap();
    let m = moments(&wine, &executor()).unwrap();
    let config = Config::default().max_iter(500);
    let plain = fit(&LinearGaussianSpec::factor_analysis(3), &wine, &config);
    let expected = log_likelihood(&plain.model, &m);
    // Canonical: orthogonal in units of the noise, the longest first.
    let w = plain.model.loadings();
    let gram = |i: usize, j: usize| {
        (0..13).map(|d| w[(d, i)] * w[(d, j)] / plain.model.noise_variances()[d]).sum::<f64>()
    };
    assert!(gram(0, 0) > gram(1, 1) && gram(1, 1) > gram(2, 2));
    for (i, j) in [(0, 1), (0, 2), (1, 2)] {
        assert!(gram(i, j).abs() < 1e-12 * gram(0, 0));
    }
    for rotation in Rotation::ALL {
        let spec = LinearGaussianSpec::factor_analysis(3).with_rotation(rotation);
        let rotated = fit(&spec, &wine, &config);
        assert_close(log_likelihood(&rotated.model, &m), expected, 1e-12, rotation.name());
        assert_all_close(
            &product_of_loadings(&rotated.model),
            &product_of_loadings(&plain.model),
            1e-12,
            rotation.name(),
        );
        let fourth = |model: &LinearGaussian| -> f64 {
            model
                .loadings()
                .row_iter()
                .flat_map(|r| r.iter().map(|v| v.powi(4)).collect::<Vec<_>>())
                .sum()
        };
        assert!(fourth(&rotated.model) > 1.05 * fourth(&plain.model), "{rotation:?}");
        for column in rotated.model.loadings().col_iter() {
            let largest =
                column.iter().fold(0.0, |a: f64, &b| if b.abs() > a.abs() { b } else { a });
            assert!(largest > 0.0);
        }
    }
}

/// A variational autoencoder elsewhere, watched by the public monitor: Definition 3 and Eqn 24.
#[test]
fn gaussian_monitor_gives_entropy_sum_and_both_halves_of_the_gap_of_a_vae() {
    let golden = fixture("vae_iris");
    let matrix = |name: &str| -> Vec<Vec<f64>> {
        golden["params"][name].as_array().unwrap().iter().map(numbers).collect()
    };
    let vector = |name: &str| numbers(&golden["params"][name]);
    let affine = |w: &str, b: &str, x: &[f64]| -> Vec<f64> {
        let sums =
            matrix(w).into_iter().map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>());
        sums.zip(vector(b)).map(|(sum, b)| sum + b).collect()
    };
    let tanh = |x: Vec<f64>| x.into_iter().map(f64::tanh).collect::<Vec<_>>();
    let x: Vec<Vec<f64>> = golden["data"]["x"].as_array().unwrap().iter().map(numbers).collect();
    let (latents, dim) = (2, 4);
    let mut monitor = GaussianMonitor::new(latents, dim);
    for (point, samples) in x.iter().zip(golden["eps"].as_array().unwrap()) {
        let hidden = tanh(affine("enc_W1", "enc_b1", point));
        let mean = affine("enc_Wm", "enc_bm", &hidden);
        let variances: Vec<f64> =
            affine("enc_Wv", "enc_bv", &hidden).into_iter().map(f64::exp).collect();
        let samples: Vec<Vec<f64>> = samples.as_array().unwrap().iter().map(numbers).collect();
        for eps in &samples {
            let z: Vec<f64> =
                (0..latents).map(|h| mean[h] + variances[h].sqrt() * eps[h]).collect();
            let decoded = affine("dec_W2", "dec_b2", &tanh(affine("dec_W1", "dec_b1", &z)));
            monitor.add(1.0 / samples.len() as f64, &mean, &variances, point, &decoded);
        }
    }
    let value = |name: &str| golden[name].as_f64().unwrap();
    let close = |found: f64, expected: f64, what: &str| assert_close(found, expected, 1e-12, what);
    close(monitor.weight(), 10.0, "weight");
    close(monitor.mean_posterior_entropy(), value("mean_q_entropy"), "posterior entropy");
    close(monitor.latent_moments().iter().sum(), value("latent_second_moment"), "moments");
    assert_all_close(
        &monitor.residuals(),
        &numbers(&golden["reconstruction_sq_per_d"]),
        1e-12,
        "R",
    );
    let report = monitor.report(value("tau"), &[value("sigma2")]);
    close(report.entropy_sum.total(), value("entropy_sum"), "entropy sum");
    close(report.prior_gap, value("gap_prior"), "prior gap");
    close(report.noise_gap, value("gap_observable"), "noise gap");
    close(report.lower_bound(), value("elbo"), "elbo");
    let after = &golden["after_variance_updates"];
    let (sigma2, tau) = (monitor.best_noise_variance(), monitor.best_prior_variance());
    close(sigma2, after["sigma2"].as_f64().unwrap(), "sigma2");
    close(tau, after["tau"].as_f64().unwrap(), "tau");
    let report = monitor.report(tau, &[sigma2]);
    close(report.entropy_sum.total(), after["entropy_sum"].as_f64().unwrap(), "entropy sum after");
    close(report.lower_bound(), after["elbo"].as_f64().unwrap(), "elbo after");
    // One variance a dimension closes the gap too, with a better bound.
    let each = monitor.report(tau, &monitor.residuals());
    assert!(each.noise_gap.abs() < 1e-15 && each.lower_bound() >= report.lower_bound());
    // Merged and decayed monitors report the same means.
    let mut twice = monitor.clone();
    twice.merge(&monitor);
    twice.decay(0.25);
    close(twice.report(tau, &[sigma2]).lower_bound(), report.lower_bound(), "merged");
}
