//! Mixtures of factor analysers: trajectories, identities, densities, and data that break them.

use crate::common;

use common::{Uniforms, assert_all_close, assert_close, clusters, fixture, numbers, rounded};
use entropysum::Executor;
use entropysum::Scalar;
use entropysum::data::Points;
use entropysum::em::{self, Config, FactorAnalyzersSpec, Fit, Init};
use entropysum::error::{Error, Result};
use entropysum::expert::model::GenerativeModel;
use entropysum::expert::stats::{StatsShape, SuffStats};
use entropysum::expert::{Sizes, Sweeper, built_in};
use entropysum::family::{KnownParameters, Regularization, registry};
use entropysum::inference;
use entropysum::model::{Mixture, MixtureOfFactorAnalyzers, NoiseStructure};
use entropysum::monitor::{Event, IterRecord, Silent};
use entropysum::store;
use faer::{Mat, MatRef};
use serde_json::Value;
use std::f64::consts::TAU;

fn executor(threads: usize) -> Executor {
    Executor::new(Some(threads)).unwrap()
}

fn exact_ml() -> Config {
    let regularization = Regularization { reg_covar: Some(0.0), ..Default::default() };
    Config::default().tol(0.0).regularization(regularization)
}

/// `W_c W_c' + Ψ_c` of every component, C × D × D.
fn covariances(loadings: &[f64], noise: &[f64], components: usize, dim: usize) -> Vec<f64> {
    let latents = loadings.len() / (components * dim);
    let row = |c: usize, d: usize| &loadings[(c * dim + d) * latents..][..latents];
    let mut covariances = Vec::new();
    for c in 0..components {
        for i in 0..dim {
            for j in 0..dim {
                let shared: f64 = row(c, i).iter().zip(row(c, j)).map(|(a, b)| a * b).sum();
                covariances.push(shared + if i == j { noise[c * dim + i] } else { 0.0 });
            }
        }
    }
    covariances
}

fn model_covariances(model: &MixtureOfFactorAnalyzers) -> Vec<f64> {
    let (loadings, noise) =
        (model.parameter("loadings").unwrap(), model.parameter("noise_variances").unwrap());
    covariances(&loadings, &noise, model.n_components(), model.dim())
}

fn follows_the_golden_trajectory<T: Scalar>(noise: NoiseStructure, key: &str, tolerance: f64) {
    let fixture = fixture("mfa_iris");
    let (dim, components) = (4, 2);
    let x: Vec<T> = rounded(&numbers(&fixture["data"]["x"]));
    let points = Points::from_rows(&x, dim).unwrap();
    let init = &fixture["init"];
    let steps = fixture[key].as_array().unwrap();
    let start = MixtureOfFactorAnalyzers::new(
        noise,
        dim,
        numbers(&init["pi"]),
        &numbers(&init["means"]),
        &numbers(&init["W"]),
        &numbers(&init["psi"]),
    )
    .unwrap()
    .with_parameter_expansion(false);
    let iterations = steps.len() - 1;
    let config = exact_ml().max_iter(iterations);
    let fit = em::fit(&start, &points, &executor(2), &config, &mut Silent).unwrap();
    let golden = |step: &Value, name: &str| step[name].as_f64().unwrap();
    for (record, step) in fit.history.records.iter().zip(steps) {
        let what = |name: &str| format!("iteration {} {name}", record.iteration);
        let check = |found: f64, expected: f64, name: &str| {
            assert_close(found, expected, tolerance, &what(name));
        };
        check(record.log_likelihood, golden(step, "loglik"), "log-likelihood");
        let posterior = golden(step, "entropy_c") + golden(step, "entropy_z_given_c");
        check(record.entropy_sum.posterior, posterior, "posterior entropy");
        check(record.entropy_sum.total(), golden(step, "entropy_sum_after_m"), "entropy sum");
        check(record.lower_bound, golden(step, "elbo_after_m"), "lower bound");
        check(record.gap(), golden(step, "gap_after_m"), "gap");
    }
    assert_eq!(fit.history.records.len(), 10);
    let last = &steps[iterations - 1];
    assert_all_close(fit.model.weights(), &numbers(&last["pi"]), 10.0 * tolerance, "weights");
    let means = fit.model.parameter("means").unwrap();
    assert_all_close(&means, &numbers(&last["means"]), 10.0 * tolerance, "means");
    let mut golden_noise = numbers(&last["psi"]);
    if noise == NoiseStructure::Tied {
        golden_noise = golden_noise[..dim].repeat(components);
    }
    let found = fit.model.parameter("noise_variances").unwrap();
    assert_all_close(&found, &golden_noise, 10.0 * tolerance, "noise variances");
    let expected = covariances(&numbers(&last["W"]), &golden_noise, components, dim);
    assert_all_close(&model_covariances(&fit.model), &expected, 10.0 * tolerance, "covariances");
    let score = inference::score(&fit.model, &points, &executor(1)).unwrap();
    assert_close(score.log_likelihood, golden(&steps[iterations], "loglik"), tolerance, "final");
}

#[test]
fn em_on_iris_follows_40_digit_trajectories() {
    for (noise, key) in
        [(NoiseStructure::Diagonal, "psi_per_component"), (NoiseStructure::Tied, "shared_psi")]
    {
        follows_the_golden_trajectory::<f64>(noise, key, 1e-9);
        follows_the_golden_trajectory::<f32>(noise, key, 2e-6);
    }
}

const DIM: usize = 5;
const LATENTS: usize = 2;
const COMPONENTS: usize = 3;

fn random_model(noise: NoiseStructure, u: &mut Uniforms) -> MixtureOfFactorAnalyzers {
    let mut normals = |n: usize| (0..n).map(|_| u.normal()).collect::<Vec<f64>>();
    let (means, loadings) = (normals(COMPONENTS * DIM), normals(COMPONENTS * DIM * LATENTS));
    let variances: Vec<f64> = match noise {
        NoiseStructure::Diagonal => (0..COMPONENTS * DIM).map(|_| 0.2 + u.next()).collect(),
        NoiseStructure::Tied => (0..DIM).map(|_| 0.2 + u.next()).collect(),
        NoiseStructure::Isotropic => (0..COMPONENTS).map(|_| 0.2 + u.next()).collect(),
    };
    let weights = vec![0.5, 0.2, 0.3];
    MixtureOfFactorAnalyzers::new(noise, DIM, weights, &means, &loadings, &variances).unwrap()
}

/// Points with weights, and arbitrary posteriors of them: responsibilities, and Gaussians over `z` with means and a
/// covariance factor of their own for each point and component.
struct Posteriors {
    x: Vec<f64>,
    weights: Vec<f64>,
    q: Vec<Vec<f64>>,
    means: Vec<Vec<Vec<f64>>>,
    factors: Vec<Vec<Mat<f64>>>,
}

impl Posteriors {
    fn random(u: &mut Uniforms) -> Self {
        let n = 40;
        let mut own = |_| -> Vec<f64> { (0..LATENTS).map(|_| u.normal()).collect() };
        let means = (0..n).map(|_| (0..COMPONENTS).map(&mut own).collect()).collect();
        let mut factor = |_| {
            Mat::from_fn(LATENTS, LATENTS, |i, j| match i.cmp(&j) {
                std::cmp::Ordering::Less => 0.0,
                std::cmp::Ordering::Equal => 0.3 + u.next(),
                std::cmp::Ordering::Greater => u.normal(),
            })
        };
        let factors = (0..n).map(|_| (0..COMPONENTS).map(&mut factor).collect()).collect();
        let q = (0..n)
            .map(|_| {
                let row: Vec<f64> = (0..COMPONENTS).map(|_| u.next().powi(2)).collect();
                let total: f64 = row.iter().sum();
                row.iter().map(|r| r / total).collect()
            })
            .collect();
        let weights = (0..n).map(|_| 0.1 + u.next()).collect();
        let x = (0..n * DIM).map(|_| 2.0 * u.normal()).collect();
        Self { x, weights, q, means, factors }
    }

    /// By definition, about a centre that differs from component to component.
    fn statistics(&self) -> SuffStats {
        let statistics = 2 * DIM + LATENTS + DIM * LATENTS + LATENTS * LATENTS;
        let shape = StatsShape { components: COMPONENTS, statistics, shared: 0, centre: DIM };
        let centres: Vec<f64> = (0..COMPONENTS * DIM).map(|k| 0.1 * k as f64).collect();
        let mut stats = SuffStats::zeros(shape, centres);
        for n in 0..self.q.len() {
            let w = self.weights[n];
            *stats.total_weight_mut() += w;
            *stats.n_points_mut() += 1.0;
            for c in 0..COMPONENTS {
                let (q, mean, factor) = (self.q[n][c], &self.means[n][c], &self.factors[n][c]);
                let y: Vec<f64> =
                    (0..DIM).map(|d| self.x[n * DIM + d] - stats.centre(c)[d]).collect();
                let covariance = factor * factor.transpose();
                let mut values = y.clone();
                values.extend(y.iter().map(|v| v * v));
                values.extend(mean);
                for z in mean {
                    values.extend(y.iter().map(|v| v * z));
                }
                for g in 0..LATENTS {
                    values.extend((0..LATENTS).map(|h| covariance[(g, h)] + mean[g] * mean[h]));
                }
                stats.mass_mut()[c] += w * q;
                for (sum, value) in stats.sums_mut(c).iter_mut().zip(values) {
                    *sum += w * q * value;
                }
                let entropy = 0.5 * LATENTS as f64 * (1.0 + TAU.ln())
                    + (0..LATENTS).map(|h| factor[(h, h)].ln()).sum::<f64>();
                *stats.posterior_entropy_mut() += w * q * (entropy - q.ln());
            }
        }
        stats
    }

    /// `F(q, Θ)` and the gap of MATH by their definitions: sums over points of expectations under `q_n`.
    fn elbo_and_gap(&self, model: &MixtureOfFactorAnalyzers) -> (f64, f64) {
        let [means, loadings, noise] =
            ["means", "loadings", "noise_variances"].map(|name| model.parameter(name).unwrap());
        let total: f64 = self.weights.iter().sum();
        let (mut elbo, mut gap) = (0.0, 0.5 * LATENTS as f64);
        for n in 0..self.q.len() {
            for c in 0..COMPONENTS {
                let (mean, factor) = (&self.means[n][c], &self.factors[n][c]);
                let q = self.weights[n] / total * self.q[n][c];
                let covariance = factor * factor.transpose();
                let second: f64 =
                    (0..LATENTS).map(|h| covariance[(h, h)] + mean[h] * mean[h]).sum();
                let prior = -0.5 * (LATENTS as f64 * TAU.ln() + second);
                let mut observable = 0.0;
                for d in 0..DIM {
                    let w = &loadings[(c * DIM + d) * LATENTS..][..LATENTS];
                    let mut residual = self.x[n * DIM + d] - means[c * DIM + d];
                    let mut square = 0.0;
                    for g in 0..LATENTS {
                        residual -= w[g] * mean[g];
                        square +=
                            (0..LATENTS).map(|h| w[g] * covariance[(g, h)] * w[h]).sum::<f64>();
                    }
                    square += residual * residual;
                    let psi = noise[c * DIM + d];
                    observable -= 0.5 * ((TAU * psi).ln() + square / psi);
                    gap += 0.5 * q * (1.0 - square / psi);
                }
                let entropy = 0.5 * LATENTS as f64 * (1.0 + TAU.ln())
                    + (0..LATENTS).map(|h| factor[(h, h)].ln()).sum::<f64>();
                let log_weight = model.weights()[c].ln();
                elbo += q * (entropy - self.q[n][c].ln() + log_weight + prior + observable);
                gap += q * (log_weight - 0.5 * second);
            }
        }
        gap -= model.weights().iter().map(|w| w * w.ln()).sum::<f64>();
        (elbo, gap)
    }
}

/// Theory 3.6: at any parameters and any posteriors the entropy sum differs from the bound by the derivative along the
/// natural parameters, one term for each of prior over components, prior over latents, and noise.
#[test]
fn the_gap_identity_holds_at_random_parameters_and_posteriors() {
    let mut u = Uniforms::new(3);
    for noise in NoiseStructure::ALL {
        for _ in 0..20 {
            let (model, posteriors) = (random_model(noise, &mut u), Posteriors::random(&mut u));
            let stats = posteriors.statistics();
            let (elbo, gap) = posteriors.elbo_and_gap(&model);
            assert_close(model.lower_bound(&stats), elbo, 1e-12, "bound from statistics");
            let found = model.lower_bound(&stats) - model.entropy_sum(&stats).total();
            assert!((found - gap).abs() <= 1e-10 * gap.abs().max(1.0), "{found} {gap}");
            assert!(gap.abs() > 1e-2, "these parameters are no M-step");
        }
    }
}

/// Theory 3.6 after an M-step at random posteriors: with an expanded prior the gap is zero, else it is its prior part.
#[test]
fn after_an_expanded_m_step_the_entropy_sum_is_the_bound_at_random_posteriors() {
    let mut u = Uniforms::new(4);
    let regularization = exact_ml().regularization;
    for noise in NoiseStructure::ALL {
        for _ in 0..10 {
            let start = random_model(noise, &mut u);
            let stats = Posteriors::random(&mut u).statistics();
            let before = start.lower_bound(&stats);
            let mut expanded = start.clone();
            assert_eq!(expanded.m_step(&stats, &regularization), []);
            let (bound, sum) = (expanded.lower_bound(&stats), expanded.entropy_sum(&stats).total());
            assert!((bound - sum).abs() < 1e-10, "{bound} {sum}");
            assert!(bound > before);

            let mut ordinary = start.with_parameter_expansion(false);
            assert_eq!(ordinary.m_step(&stats, &regularization), []);
            let ordinary_bound = ordinary.lower_bound(&stats);
            assert!(ordinary_bound > before && ordinary_bound < bound);
            let second: f64 = (0..COMPONENTS)
                .flat_map(|c| (0..LATENTS).map(move |h| (c, h)))
                .map(|(c, h)| {
                    let sums = stats.sums(c);
                    sums[sums.len() - LATENTS * LATENTS..][h * (LATENTS + 1)]
                })
                .sum();
            let expected = 0.5 * (LATENTS as f64 - second / stats.total_weight());
            let gap = ordinary_bound - ordinary.entropy_sum(&stats).total();
            assert!((gap - expected).abs() < 1e-10, "{gap} {expected}");
        }
    }
}

/// No other parameters have a larger bound, for the statistics that an M-step was given.
#[test]
fn the_m_step_maximises_the_bound() {
    let mut u = Uniforms::new(5);
    for noise in NoiseStructure::ALL {
        let stats = Posteriors::random(&mut u).statistics();
        let mut model = random_model(noise, &mut u).with_parameter_expansion(false);
        model.m_step(&stats, &exact_ml().regularization);
        let best = model.lower_bound(&stats);
        let [means, loadings, variances] =
            ["means", "loadings", "noise_variances"].map(|name| model.parameter(name).unwrap());
        for (part, step) in [(0, 1e-3), (0, -1e-3), (1, 1e-3), (1, -1e-3), (2, 1e-3), (2, -1e-3)] {
            let mut moved = [means.clone(), loadings.clone(), variances.clone()];
            if part == 2 {
                moved[2].iter_mut().for_each(|v| *v *= 1.0 + step);
            } else {
                let k = (u.next() * moved[part].len() as f64) as usize;
                moved[part][k] += step;
            }
            let other = MixtureOfFactorAnalyzers::new(
                noise,
                DIM,
                model.weights().to_vec(),
                &moved[0],
                &moved[1],
                &moved[2],
            )
            .unwrap();
            assert!(other.lower_bound(&stats) < best, "{noise:?} {part} {step}");
        }
    }
}

/// Points of a mixture of factor analysers, row-major.
fn factor_points(n: usize, dim: usize, latents: usize, components: usize, seed: u64) -> Vec<f64> {
    let mut u = Uniforms::new(seed);
    let means: Vec<f64> = (0..components * dim).map(|_| 4.0 * u.normal()).collect();
    let loadings: Vec<f64> = (0..components * dim * latents).map(|_| u.normal()).collect();
    let mut x = Vec::with_capacity(n * dim);
    for i in 0..n {
        let c = i % components;
        let z: Vec<f64> = (0..latents).map(|_| u.normal()).collect();
        for d in 0..dim {
            let w = &loadings[(c * dim + d) * latents..][..latents];
            let signal: f64 = w.iter().zip(&z).map(|(a, b)| a * b).sum();
            x.push(means[c * dim + d] + signal + (0.6 + 0.1 * d as f64) * u.normal());
        }
    }
    x
}

fn fit_points<T: Scalar>(
    spec: &FactorAnalyzersSpec,
    x: &[T],
    dim: usize,
    config: &Config,
) -> Result<Fit<MixtureOfFactorAnalyzers>> {
    em::fit(spec, &Points::from_rows(x, dim)?, &executor(2), config, &mut Silent)
}

#[test]
fn bounds_rise_and_at_convergence_the_entropy_sum_is_the_log_likelihood() {
    let (dim, latents, components) = (6, 2, 3);
    let x = factor_points(1_000, dim, latents, components, 1);
    for noise in NoiseStructure::ALL {
        for parameter_expansion in [true, false] {
            let spec = FactorAnalyzersSpec {
                parameter_expansion,
                ..FactorAnalyzersSpec::new(noise, components, latents)
            };
            let config = Config::default().max_iter(20_000).tol(1e-15);
            let fit = fit_points(&spec, &x, dim, &config).unwrap();
            let records = &fit.history.records;
            assert_eq!(fit.warnings, [] as [String; 0]);
            for pair in records.windows(2) {
                let rounding = 1e-12 * pair[0].lower_bound.abs();
                assert!(pair[0].log_likelihood <= pair[0].lower_bound + rounding);
                assert!(pair[0].lower_bound <= pair[1].log_likelihood + rounding);
                assert!(pair[0].log_likelihood <= pair[1].log_likelihood + rounding);
            }
            let sound = |r: &IterRecord| !parameter_expansion || r.gap().abs() < 1e-10;
            assert!(records.iter().all(sound));
            let last = fit.last().unwrap();
            assert!(last.gap().abs() < 1e-10, "{noise:?} {parameter_expansion} {:e}", last.gap());
            assert!(last.delta().abs() < 1e-10, "{noise:?} {parameter_expansion} {last:?}");
        }
    }
}

/// With H = D - 1 the density is that of a Gaussian mixture with the covariances `W W' + Ψ`.
fn densities_are_gaussian<T: Scalar>(scale: f64, distance: f64, tolerance: f64) {
    let mut u = Uniforms::new(11);
    let (dim, components, n) = (4, 3, 400);
    for latents in 1..dim {
        for noise in NoiseStructure::ALL {
            let mut normals = |n: usize, s: f64| (0..n).map(|_| s * u.normal()).collect::<Vec<_>>();
            let means = normals(components * dim, distance);
            let loadings = normals(components * dim * latents, scale);
            let variances: Vec<f64> = (0..components)
                .flat_map(|c| {
                    vec![
                        0.3 + if noise == NoiseStructure::Tied { 0.0 } else { 0.2 * c as f64 };
                        dim
                    ]
                })
                .collect();
            let weights = vec![0.2, 0.5, 0.3];
            let model = MixtureOfFactorAnalyzers::new(
                noise,
                dim,
                weights.clone(),
                &means,
                &loadings,
                &variances,
            )
            .unwrap();
            let mut x: Vec<T> = Vec::new();
            inference::sample(&model, n, 5, &executor(1), |points, _| {
                x.extend(points.iter().map(|&v| T::from_f64(v)));
                Ok(())
            })
            .unwrap();
            let full = covariances(&loadings, &variances, components, dim);
            let family = registry::build("gaussian-full", dim).unwrap();
            let gaussian = Mixture::from_arrays(family, weights, |name| {
                Some(if name == "means" { &means } else { &full })
            })
            .unwrap();
            let points = Points::from_rows(&x, dim).unwrap();
            let wide: Vec<f64> = x.iter().map(|v| v.to_f64()).collect();
            let exact = Points::from_rows(&wide, dim).unwrap();
            let (mut found, mut expected) = (Vec::new(), Vec::new());
            inference::score_samples(&model, &points, &executor(1), |_, block| {
                found.extend_from_slice(block);
                Ok(())
            })
            .unwrap();
            inference::score_samples(&gaussian, &exact, &executor(1), |_, block| {
                expected.extend_from_slice(block);
                Ok(())
            })
            .unwrap();
            assert_all_close(&found, &expected, tolerance, &format!("{latents} {noise:?}"));
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            inference::predict_proba(&model, &points, &executor(1), |_, block| {
                ours.extend_from_slice(block);
                Ok(())
            })
            .unwrap();
            inference::predict_proba(&gaussian, &exact, &executor(1), |_, block| {
                theirs.extend_from_slice(block);
                Ok(())
            })
            .unwrap();
            assert_all_close(&ours, &theirs, 10.0 * tolerance, "posteriors");
        }
    }
}

#[test]
fn densities_and_posteriors_are_those_of_gaussians_with_the_same_covariance() {
    densities_are_gaussian::<f64>(1.0, 3.0, 1e-12);
    densities_are_gaussian::<f32>(1.0, 3.0, 2e-5);
    // Loadings a thousand times the noise, and means far apart: squares of projections cancel.
    densities_are_gaussian::<f64>(1e3, 1e4, 1e-9);
    densities_are_gaussian::<f32>(300.0, 3e3, 2e-3);
}

fn halves_match_lanes<T: Scalar>(tolerance: f64) {
    let (n, dim, latents, components) = (5_003, 8, 3, 4);
    let x: Vec<T> = rounded(&factor_points(n, dim, latents, components, 9));
    let weights: Vec<f64> = (0..n).map(|i| 0.5 + (i % 3) as f64).collect();
    let points = Points::from_rows(&x, dim).unwrap().with_weights(weights).unwrap();
    let spec = FactorAnalyzersSpec::new(NoiseStructure::Diagonal, components, latents);
    let config = Config::default().max_iter(3);
    let model = em::fit(&spec, &points, &executor(2), &config, &mut Silent).unwrap().model;
    let lanes = Sweeper::<T, _>::new(&points, &executor(2)).sweep(&model).unwrap();
    let halves = [1, 2, 7].map(|threads| {
        let executor = executor(threads);
        let mut sweeper = Sweeper::<T, _>::new(&points, &executor).with_lane_memory(0);
        sweeper.sweep(&model).unwrap()
    });
    assert!(halves[0] == halves[1] && halves[0] == halves[2]);
    assert_eq!(lanes.centres(), halves[0].centres());
    assert_all_close(halves[0].as_slice(), lanes.as_slice(), tolerance, T::NAME);
}

#[test]
fn sweeps_in_two_halves_have_the_same_sums_and_the_same_bits_on_any_threads() {
    halves_match_lanes::<f64>(1e-11);
    // Of sums as large as a thousand, some are zero but for rounding.
    halves_match_lanes::<f32>(1e-4);
}

/// What a sweep sums is what its definition says: moments of points and of the posteriors of `z`.
#[test]
fn a_sweep_sums_the_moments_of_exact_posteriors() {
    let mut u = Uniforms::new(21);
    let model = random_model(NoiseStructure::Diagonal, &mut u);
    let x: Vec<f64> = (0..50 * DIM).map(|_| 2.0 * u.normal()).collect();
    let points = Points::from_rows(&x, DIM).unwrap();
    let stats = Sweeper::<f64, _>::new(&points, &executor(1)).sweep(&model).unwrap();
    let mut responsibilities = Vec::new();
    inference::predict_proba(&model, &points, &executor(1), |_, block| {
        responsibilities.extend_from_slice(block);
        Ok(())
    })
    .unwrap();
    let [means, loadings, noise] =
        ["means", "loadings", "noise_variances"].map(|name| model.parameter(name).unwrap());
    for c in 0..COMPONENTS {
        let w = MatRef::from_row_major_slice(
            &loadings[c * DIM * LATENTS..][..DIM * LATENTS],
            DIM,
            LATENTS,
        );
        let scaled = Mat::from_fn(DIM, LATENTS, |d, h| w[(d, h)] / noise[c * DIM + d]);
        let inner = w.transpose() * &scaled + Mat::<f64>::identity(LATENTS, LATENTS);
        let [a, b, d] = [inner[(0, 0)], inner[(0, 1)], inner[(1, 1)]];
        let determinant = a * d - b * b;
        let covariance = Mat::from_fn(2, 2, |i, j| {
            (if i != j {
                -b
            } else if i == 0 {
                d
            } else {
                a
            }) / determinant
        });
        let mut expected = vec![0.0; stats.sums(c).len()];
        for (n, point) in x.chunks(DIM).enumerate() {
            let r = responsibilities[n * COMPONENTS + c];
            let y: Vec<f64> = point.iter().zip(stats.centre(c)).map(|(x, k)| x - k).collect();
            let from_mean = Mat::from_fn(DIM, 1, |d, _| point[d] - means[c * DIM + d]);
            let z = &covariance * (scaled.transpose() * from_mean);
            let mut values = y.clone();
            values.extend(y.iter().map(|v| v * v));
            values.extend([z[(0, 0)], z[(1, 0)]]);
            values.extend(
                (0..2).flat_map(|h| y.iter().map(move |v| (v, h))).map(|(v, h)| v * z[(h, 0)]),
            );
            for g in 0..2 {
                values.extend((0..2).map(|h| covariance[(g, h)] + z[(g, 0)] * z[(h, 0)]));
            }
            expected.iter_mut().zip(values).for_each(|(sum, value)| *sum += r * value);
        }
        assert_all_close(stats.sums(c), &expected, 1e-11, "sums");
    }
}

#[track_caller]
fn assert_sound(fit: &Fit<MixtureOfFactorAnalyzers>) {
    let last = fit.last().unwrap();
    assert!(last.lower_bound.is_finite() && last.log_likelihood.is_finite());
    assert_close(fit.model.weights().iter().sum(), 1.0, 1e-12, "weights");
    for name in ["means", "loadings", "noise_variances"] {
        assert!(fit.model.parameter(name).unwrap().iter().all(|v| v.is_finite()), "{name}");
    }
    assert!(fit.model.parameter("noise_variances").unwrap().iter().all(|v| *v > 0.0));
}

#[test]
fn constant_columns_duplicates_and_lone_points_do_not_end_a_fit() {
    let (n, dim) = (600, 5);
    let base = factor_points(n, dim, 2, 2, 31);
    let with = |change: &dyn Fn(usize, usize, f64) -> f64| -> Vec<f64> {
        base.iter().enumerate().map(|(k, &v)| change(k / dim, k % dim, v)).collect()
    };
    let cases = [
        ("a constant column", with(&|_, d, v| if d == 1 { 7.0 } else { v })),
        ("two equal columns", with(&|i, d, v| if d == 1 { base[i * dim] } else { v })),
        ("all points equal", with(&|_, d, _| d as f64)),
        ("ten different points", with(&|i, d, _| base[i % 10 * dim + d])),
        ("a lone point", with(&|i, _, v| if i == 0 { v + 1e4 } else { v })),
        ("huge values", with(&|_, _, v| 1e60 * v)),
        ("tiny values", with(&|_, _, v| 1e-60 * v)),
        ("far from zero", with(&|_, d, v| v + 1e7 * (d + 1) as f64)),
    ];
    for noise in NoiseStructure::ALL {
        for (what, x) in &cases {
            for components in [1, 3] {
                let spec = FactorAnalyzersSpec::new(noise, components, 2);
                let fit = fit_points(&spec, x, dim, &Config::default());
                let fit = fit.unwrap_or_else(|error| panic!("{noise:?} {what}: {error}"));
                assert_sound(&fit);
            }
        }
    }
    // Equal columns leave one of the noise variances nothing: a Heywood case, which is said.
    let spec = FactorAnalyzersSpec::new(NoiseStructure::Diagonal, 1, 2);
    let config = Config::default().max_iter(2_000).tol(1e-9);
    let fit = fit_points(&spec, &cases[1].1, dim, &config).unwrap();
    assert!(fit.warnings.iter().any(|w| w.contains("floor")), "{:?}", fit.warnings);
}

#[test]
fn shapes_that_cannot_be_are_refused() {
    let x = factor_points(50, 4, 1, 1, 2);
    let fit = |components, latents| {
        let spec = FactorAnalyzersSpec::new(NoiseStructure::Diagonal, components, latents);
        fit_points(&spec, &x, 4, &Config::default()).map(|_| ()).unwrap_err()
    };
    for (error, says) in [
        (fit(2, 0), "from 1 to 3"),
        (fit(2, 4), "from 1 to 3"),
        (fit(0, 1), "at least one component"),
        (fit(51, 1), "fewer than the 51 components"),
    ] {
        assert!(matches!(error, Error::Config(_)) && error.to_string().contains(says), "{error}");
    }
    let new = |weights: &[f64], means: &[f64], loadings: &[f64], noise: &[f64]| {
        MixtureOfFactorAnalyzers::new(
            NoiseStructure::Isotropic,
            2,
            weights.to_vec(),
            means,
            loadings,
            noise,
        )
        .map(|_| ())
        .unwrap_err()
        .to_string()
    };
    assert!(new(&[], &[], &[], &[]).contains("at least one component"));
    assert!(new(&[1.0], &[0.0], &[1.0, 1.0], &[1.0]).contains("means"));
    assert!(new(&[1.0], &[0.0; 2], &[1.0; 3], &[1.0]).contains("loadings"));
    assert!(new(&[1.0], &[0.0; 2], &[1.0; 4], &[1.0]).contains("2 latent(s)"));
    assert!(new(&[1.0], &[0.0; 2], &[1.0; 2], &[0.0]).contains("component 0"));
    assert!(new(&[1.0], &[0.0; 2], &[1.0; 2], &[1.0, 2.0]).contains("differ"));
    assert!(new(&[0.5], &[0.0; 2], &[1.0; 2], &[1.0]).contains("sum to 0.5"));
    assert!(new(&[1.0], &[0.0, f64::NAN], &[1.0; 2], &[1.0]).contains("dimension 1"));
}

#[test]
fn components_without_points_are_split_or_discarded() {
    let (dim, latents) = (4, 1);
    let x = factor_points(500, dim, latents, 2, 12);
    let points = Points::from_rows(&x, dim).unwrap();
    let spec = FactorAnalyzersSpec::new(NoiseStructure::Diagonal, 2, latents);
    let good = fit_points(&spec, &x, dim, &Config::default()).unwrap().model;
    let mut means = good.parameter("means").unwrap();
    means.extend([1e6; 4]);
    let repeat = |name: &str, n: usize| {
        let mut values = good.parameter(name).unwrap();
        values.extend_from_within(..n);
        values
    };
    let start = MixtureOfFactorAnalyzers::new(
        NoiseStructure::Diagonal,
        dim,
        vec![0.4, 0.4, 0.2],
        &means,
        &repeat("loadings", dim * latents),
        &repeat("noise_variances", dim),
    )
    .unwrap();
    let fit = em::fit(&start, &points, &executor(1), &Config::default(), &mut Silent).unwrap();
    let events: Vec<&Event> = fit.history.records.iter().flat_map(|r| &r.events).collect();
    assert!(events.iter().any(|e| matches!(e, Event::Split { component: 2, .. })), "{events:?}");
    assert_sound(&fit);
    assert!(fit.last().unwrap().lower_bound > -1e3);
}

#[test]
fn a_fitted_model_goes_on_from_where_it_stands() {
    let x = factor_points(800, 4, 1, 2, 13);
    let points = Points::from_rows(&x, 4).unwrap();
    let spec = FactorAnalyzersSpec::new(NoiseStructure::Isotropic, 2, 1);
    let first = fit_points(&spec, &x, 4, &Config::default()).unwrap();
    let spec = FactorAnalyzersSpec::from_model(first.model.clone());
    let again = fit_points(&spec, &x, 4, &Config::default().max_iter(1)).unwrap();
    let score = inference::score(&first.model, &points, &executor(1)).unwrap();
    assert_close(again.last().unwrap().log_likelihood, score.log_likelihood, 1e-12, "warm start");
    let config = Config::default().n_init(2);
    assert!(fit_points(&spec, &x, 4, &config).is_err());
    assert!(matches!(spec.init, Init::Model(_)));
}

/// Samples have the mean and covariance of the model.
#[test]
fn samples_have_the_moments_of_the_model() {
    let mut u = Uniforms::new(8);
    let model = random_model(NoiseStructure::Diagonal, &mut u);
    let n = 200_000;
    let mut counts = [0.0; COMPONENTS];
    let mut sums = [0.0; COMPONENTS * DIM];
    let mut squares = [0.0; COMPONENTS * DIM * DIM];
    let means = model.parameter("means").unwrap();
    inference::sample(&model, n, 3, &executor(2), |points, labels| {
        for (point, &c) in points.chunks(DIM).zip(labels) {
            let c = c as usize;
            counts[c] += 1.0;
            for i in 0..DIM {
                let y = |d: usize| point[d] - means[c * DIM + d];
                sums[c * DIM + i] += y(i);
                for j in 0..DIM {
                    squares[(c * DIM + i) * DIM + j] += y(i) * y(j);
                }
            }
        }
        Ok(())
    })
    .unwrap();
    let expected = model_covariances(&model);
    for c in 0..COMPONENTS {
        assert!((counts[c] / n as f64 - model.weights()[c]).abs() < 0.01);
        for i in 0..DIM {
            assert!((sums[c * DIM + i] / counts[c]).abs() < 0.05);
            for j in 0..DIM {
                let k = (c * DIM + i) * DIM + j;
                assert!((squares[k] / counts[c] - expected[k]).abs() < 0.2, "{c} {i} {j}");
            }
        }
    }
}

/// Definition 1, of the joint prior over components and latents and of the noise; the flow is the one of the gap identity.
#[test]
fn the_criterion_holds_for_every_structure_of_the_noise() {
    for noise in NoiseStructure::ALL {
        for n_latents in [1, 3] {
            let sizes = Sizes { n_components: 4, dim: 5, n_latents };
            let report = built_in(noise.model_name(), sizes, &KnownParameters::default())
                .unwrap()
                .check(8, 1);
            assert!(report.is_fulfilled() && report.base_measure_is_constant(), "{noise:?}");
            assert_eq!(report.factors[1].moves, ["noise_variances"]);
        }
    }
}

/// Posterior means are those of the most probable component; reconstructions average over components.
#[test]
fn latents_and_reconstructions_follow_their_definitions() {
    let mut u = Uniforms::new(33);
    for noise in NoiseStructure::ALL {
        let model = random_model(noise, &mut u);
        let n = 700;
        let x: Vec<f64> = (0..n * DIM).map(|_| 2.0 * u.normal()).collect();
        let points = Points::from_rows(&x, DIM).unwrap();
        let [means, loadings, variances] =
            ["means", "loadings", "noise_variances"].map(|name| model.parameter(name).unwrap());
        let (mut r, mut z, mut rebuilt) = (Vec::new(), Vec::new(), Vec::new());
        inference::predict_proba(&model, &points, &executor(2), |_, block| {
            r.extend_from_slice(block);
            Ok(())
        })
        .unwrap();
        inference::transform(&model, &points, &executor(2), |_, block| {
            z.extend_from_slice(block);
            Ok(())
        })
        .unwrap();
        inference::reconstruct(&model, &points, &executor(2), |_, block| {
            rebuilt.extend_from_slice(block);
            Ok(())
        })
        .unwrap();
        assert_eq!((z.len(), rebuilt.len()), (n * LATENTS, n * DIM));
        for i in 0..n {
            let r = &r[i * COMPONENTS..][..COMPONENTS];
            let best = (0..COMPONENTS).max_by(|&a, &b| r[a].total_cmp(&r[b])).unwrap();
            let mut expected = vec![0.0; DIM];
            for c in 0..COMPONENTS {
                // The posterior mean minimises |Ψ^-½ (x - μ - W z)|² + |z|²: its gradient there is zero.
                let w = |d: usize, h: usize| loadings[(c * DIM + d) * LATENTS + h];
                let weighted = |g: usize, value: &dyn Fn(usize) -> f64| -> f64 {
                    (0..DIM).map(|d| w(d, g) * value(d) / variances[c * DIM + d]).sum()
                };
                let inner = Mat::from_fn(LATENTS, LATENTS, |g, h| {
                    weighted(g, &|d| w(d, h)) + if g == h { 1.0 } else { 0.0 }
                });
                let right: Vec<f64> = (0..LATENTS)
                    .map(|g| weighted(g, &|d| x[i * DIM + d] - means[c * DIM + d]))
                    .collect();
                let determinant = inner[(0, 0)] * inner[(1, 1)] - inner[(0, 1)] * inner[(1, 0)];
                let solution = [
                    (inner[(1, 1)] * right[0] - inner[(0, 1)] * right[1]) / determinant,
                    (inner[(0, 0)] * right[1] - inner[(1, 0)] * right[0]) / determinant,
                ];
                if c == best {
                    assert_all_close(&z[i * LATENTS..][..LATENTS], &solution, 1e-11, "latents");
                }
                for (d, value) in expected.iter_mut().enumerate() {
                    let signal: f64 = (0..LATENTS).map(|h| w(d, h) * solution[h]).sum();
                    *value += r[c] * (means[c * DIM + d] + signal);
                }
            }
            assert_all_close(&rebuilt[i * DIM..][..DIM], &expected, 1e-11, "reconstruction");
        }
    }
}

#[test]
fn models_come_back_from_files_to_the_bit() {
    let mut u = Uniforms::new(41);
    let place = tempfile::tempdir().unwrap();
    for noise in NoiseStructure::ALL {
        let model = random_model(noise, &mut u);
        for name in ["model.json", "model.safetensors"] {
            let path = place.path().join(name);
            store::save(&path, &model).unwrap();
            let back: MixtureOfFactorAnalyzers = store::load(&path).unwrap();
            assert_eq!(back.noise(), noise);
            assert_eq!(back.weights(), model.weights());
            for array in ["means", "loadings", "noise_variances"] {
                assert_eq!(back.parameter(array), model.parameter(array), "{name} {array}");
            }
            let other = store::load::<Mixture>(&path).unwrap_err().to_string();
            assert!(other.contains("a mixture of factor analysers"), "{other}");
        }
    }
    let read = |text: &str| {
        store::from_json::<MixtureOfFactorAnalyzers>(&serde_json::from_str(text).unwrap())
    };
    let file = |model: &str, noise: &str| {
        format!(
            r#"{{"model": "{model}", "weights": [1], "means": [[0, 1]], "loadings": [[[1], [2]]], "noise_variances": {noise}}}"#
        )
    };
    assert_eq!(
        read(&file("mppca", "[0.5]")).unwrap().parameter("noise_variances"),
        read(&file("mppca", "[[0.5, 0.5]]")).unwrap().parameter("noise_variances")
    );
    for (text, says) in [
        (file("mfa", "[0.5]"), "noise_variances"),
        (file("mppca", "[[0.5, 0.6]]"), "differ"),
        (file("mfa", "[[0.5, -1]]"), "component 0"),
        (r#"{"model": "mfa", "weights": [1], "means": [[0, 1]]}"#.into(), "loadings"),
        (file("mfa", "[[0.5, 1]]").replace("[[[1], [2]]]", "[[1, 2]]"), "C (components)"),
    ] {
        let error = read(&text).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// Clusters of the kind that other models are tried on: found by this one, with no structure in them to find.
#[test]
fn round_clusters_are_found() {
    let x = clusters(2_000, 6, 4, 4.0, 2);
    let spec = FactorAnalyzersSpec::new(NoiseStructure::Isotropic, 4, 1);
    let fit = fit_points(&spec, &x, 6, &Config::default()).unwrap();
    let mut weights = fit.model.weights().to_vec();
    weights.sort_by(f64::total_cmp);
    assert!(fit.converged() && weights[0] > 0.2, "{weights:?}");
}

/// A rotation of a component's loadings is no parameter: H (H - 1) / 2 fewer, C times.
#[test]
fn free_parameters_are_counted_without_rotations() {
    for (noise, n_variances) in
        [(NoiseStructure::Diagonal, 8), (NoiseStructure::Tied, 4), (NoiseStructure::Isotropic, 2)]
    {
        let loadings: Vec<f64> = (0..24).map(f64::from).collect();
        let (weights, variances) = (vec![0.5; 2], vec![1.0; n_variances]);
        let model =
            MixtureOfFactorAnalyzers::new(noise, 4, weights, &[0.0; 8], &loadings, &variances);
        assert_eq!(model.unwrap().n_parameters(), 1 + 2 * (4 + 12 - 3) + n_variances);
    }
}

/// `reg_covar` is what is added to each noise variance; without it they are held above a millionth of the variance within
/// components.
#[test]
fn noise_is_ridged_by_what_was_asked_for_and_floored_relative_to_the_data() {
    let mut u = Uniforms::new(17);
    let x: Vec<f64> = (0..200)
        .flat_map(|_| {
            let (a, b) = (3.0 * u.normal(), u.normal());
            [a, a, 0.5 * a + b, b + u.normal()]
        })
        .collect();
    let points = Points::from_rows(&x, 4).unwrap();
    for noise in NoiseStructure::ALL {
        let n_variances = match noise {
            NoiseStructure::Diagonal => 8,
            NoiseStructure::Tied => 4,
            NoiseStructure::Isotropic => 2,
        };
        let means: Vec<f64> = (0..8).map(|k| f64::from(k % 3)).collect();
        let loadings: Vec<f64> = (0..8).map(|k| 1.0 + f64::from(k % 5)).collect();
        let start = MixtureOfFactorAnalyzers::new(
            noise,
            4,
            vec![0.4, 0.6],
            &means,
            &loadings,
            &vec![2.0; n_variances],
        );
        let spec = FactorAnalyzersSpec::from_model(start.unwrap());
        let noise_of = |ridge: f64| {
            let regularization = Regularization { reg_covar: Some(ridge), ..Default::default() };
            let config = Config::default().max_iter(1).regularization(regularization);
            let fit = em::fit(&spec, &points, &executor(1), &config, &mut Silent);
            fit.unwrap().model.parameter("noise_variances").unwrap()
        };
        for (with, without) in noise_of(0.25).iter().zip(noise_of(0.0)) {
            assert_close(*with, without + 0.25, 1e-12, "ridge");
        }
    }
    // Columns 0 and 1 are one: a factor of their own leaves them no noise.
    let spec = FactorAnalyzersSpec::new(NoiseStructure::Diagonal, 1, 1);
    let config = Config::default().max_iter(2000).tol(0.0);
    let fit = em::fit(&spec, &points, &executor(1), &config, &mut Silent).unwrap();
    let column = || x.iter().step_by(4);
    let mean = column().sum::<f64>() / 200.0;
    let variance = column().map(|v| (v - mean).powi(2)).sum::<f64>() / 200.0;
    let part = fit.model.parameter("noise_variances").unwrap()[0] / variance;
    assert!((part * 1e6 - 1.0).abs() < 1e-6, "{part:e}");
    assert!(fit.last().unwrap().gap() > 0.1, "a floor binds");
}
