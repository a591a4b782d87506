//! Trajectories of truncated EM against extended precision, with the sets and neighbours that their authors chose.

use super::*;
use crate::family::{Parameters, Regularization, registry};
use crate::model::{GenerativeModel, Mixture, MixtureOfFactorAnalyzers, NoiseStructure};
use crate::work::Alone;
use faer::MatRef;
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap()],
    }
}

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Points of a fixture, row-major.
fn points(fixture: &Value) -> (Vec<f64>, usize) {
    let dim = fixture["data"]["cols"].as_u64().unwrap() as usize;
    let mut x = numbers(&fixture["data"]["x"]);
    if fixture["data"]["preprocessing"] == "add_index_jitter" {
        for (k, x) in x.iter_mut().enumerate() {
            let (n, d) = (k / dim, k % dim);
            *x += ((7 * n + 13 * d) % 32) as f64 / 64.0;
        }
    }
    (x, dim)
}

fn parameters(theta: &Value, names: &[&str], n_components: usize) -> Parameters {
    let arrays: Vec<Vec<f64>> = names.iter().map(|name| numbers(&theta[*name])).collect();
    let row = |c: usize| {
        let of = |all: &Vec<f64>| {
            let len = all.len() / n_components;
            all[c * len..][..len].to_vec()
        };
        arrays.iter().flat_map(of).collect()
    };
    Parameters { components: (0..n_components).map(row).collect(), shared: Vec::new() }
}

/// Sums of visits, as statistics of the mixture.
fn stats_of(table: &ComponentTable<f64>, sums: &SetSums, log_base_measure: f64) -> SuffStats {
    let mut stats = table.new_stats();
    for (component, row) in sums.rows() {
        stats.mass_mut()[component as usize] = row[0];
        stats.sums_mut(component as usize).copy_from_slice(&row[1..]);
    }
    *stats.total_weight_mut() = sums.total_weight;
    *stats.n_points_mut() = sums.n_points;
    *stats.posterior_entropy_mut() = sums.posterior_entropy;
    *stats.log_base_measure_mut() = log_base_measure * sums.total_weight;
    *stats.log_evidence_mut() = sums.log_evidence + stats.log_base_measure();
    stats
}

/// The log-evidence of a point among some candidates, as a visit finds it.
fn evidence(
    table: &ComponentTable<f64>,
    block: Block<'_, f64>,
    row: u32,
    leader: u32,
    list: &[u32],
    states: usize,
    workspace: &mut GroupWorkspace<f64>,
) -> f64 {
    let (mut sums, mut set) = (table.new_sums(), vec![0; states]);
    table.begin_group(leader, list.iter().copied(), workspace);
    let visit = Visit { block, rows: &[row], sets: &mut set, states };
    table.visit(visit, &|_| None, workspace, Wanted::Sums(&mut sums));
    sums.log_evidence
}

/// Each component, and the others with the least divergence from it: the expected logits but for the weights tell.
fn neighbours_of(mixture: &Mixture, width: usize) -> Vec<Vec<u32>> {
    let table: ComponentTable<f64> = mixture.component_table(Simd::detect(), &Alone);
    let (means, len) = (mixture.mean_statistics(&table, &Alone), table.mean_len());
    let all: Vec<u32> = (0..table.n_components() as u32).collect();
    let neighbours = |&c: &u32| {
        let mut logits = vec![0.0; all.len()];
        table.expected_logits(c, &means[c as usize * len..][..len], &all, &mut logits);
        let mut order: Vec<u32> = all.iter().copied().filter(|&k| k != c).collect();
        let key = |k: u32| logits[k as usize] - mixture.weights()[k as usize].ln();
        order.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
        [c].into_iter().chain(order).take(width).collect()
    };
    all.iter().map(neighbours).collect()
}

fn follows_the_golden_trajectory(file: &str, family: &str, names: &[&str]) {
    let fixture = fixture(file);
    let (x, dim) = points(&fixture);
    let (n, n_components) = (x.len() / dim, fixture["components"].as_u64().unwrap() as usize);
    let states = fixture["states"].as_u64().unwrap() as usize;
    let n_neighbours = fixture["neighbours"].as_u64().unwrap() as usize;
    let log_base_measure = fixture["mean_log_base_measure"].as_f64().unwrap();
    let block = Block::dense(MatRef::from_row_major_slice(&x, n, dim));
    let exact_ml = Regularization { reg_covar: Some(0.0), ..Default::default() };
    for moving in [false, true] {
        let start = parameters(&fixture["init"]["theta"], names, n_components);
        let weights = numbers(&fixture["init"]["pi"]);
        let mut mixture =
            Mixture::new(registry::build(family, dim).unwrap(), weights, start).unwrap();
        let mut sets: Vec<u32> = (0..n * states)
            .map(|k| ((7 * (k / states) + 3 * (k % states)) % n_components) as u32 + 1)
            .collect();
        let golden = fixture[if moving { "moving_sets" } else { "fixed_sets" }].as_array().unwrap();
        for step in golden {
            let what = format!("{file} {moving} {}", step["t"]);
            let close = |found: f64, name: &str| {
                let expected = step[name].as_f64().unwrap();
                let error = (found - expected).abs();
                assert!(error <= 1e-10 * expected.abs(), "{what} {name}: {found} {expected}");
            };
            let mut table: ComponentTable<f64> = mixture.component_table(Simd::detect(), &Alone);
            table.cut = f64::INFINITY;
            let neighbours = neighbours_of(&mixture, n_neighbours);
            let (mut workspace, mut sums) = (table.workspace(), table.new_sums());
            let mut evaluations = 0;
            for row in 0..n as u32 {
                let set = &mut sets[row as usize * states..][..states];
                let members = set.iter().filter(|&&it| it > 0).map(|&it| it - 1);
                let mut list: Vec<u32> = members.clone().collect();
                if moving {
                    list.extend(members.flat_map(|it| neighbours[it as usize].iter().copied()));
                }
                list.sort_unstable();
                list.dedup();
                evaluations += list.len();
                let found = evidence(&table, block, row, list[0], &list, states, &mut workspace);
                // Rounded values lie as far from some components as from others, but for rounding: there the first of them counts.
                let logit = |&k: &u32, workspace: &mut _| {
                    (evidence(&table, block, row, k, &[k], 1, workspace), k)
                };
                let mut logits: Vec<(f64, u32)> =
                    list.iter().map(|k| logit(k, &mut workspace)).collect();
                logits.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                list = logits.iter().take(states).map(|it| it.1).collect();
                set.fill(0);
                table.begin_group(list[0], list.iter().copied(), &mut workspace);
                let before = sums.log_evidence;
                let visit = Visit { block, rows: &[row], sets: set, states };
                table.visit(visit, &|_| None, &mut workspace, Wanted::Sums(&mut sums));
                let chosen = sums.log_evidence - before;
                assert!((found - chosen).abs() < 1e-9, "{what} {row}: {found} {chosen}");
            }
            let stats = stats_of(&table, &sums, log_base_measure);
            let total = stats.total_weight();
            close(stats.log_evidence() / total, "log_evidence_on_sets");
            close(stats.posterior_entropy() / total, "mean_posterior_entropy");
            if moving {
                for (k, expected) in step
                    .get("sets_first_20_points")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .enumerate()
                {
                    let found: Vec<f64> = sets[k * states..][..states]
                        .iter()
                        .filter(|&&it| it > 0)
                        .map(|&it| f64::from(it - 1))
                        .collect();
                    // Members without mass are dropped, and come again if they are near.
                    assert_eq!(found, numbers(expected)[..found.len()], "{what} {k}");
                }
                let expected = step["joint_evaluations"].as_u64().unwrap() as usize;
                assert!(evaluations.abs_diff(expected) * 50 <= expected, "{what} {evaluations}");
            }
            if step.get("elbo_after_m").is_none() {
                continue;
            }
            mixture.m_step(&stats, &exact_ml);
            let (bound, entropies) = (mixture.lower_bound(&stats), mixture.entropy_sum(&stats));
            close(bound, "elbo_after_m");
            close(entropies.total(), "entropy_sum_after_m");
            if let Some(expected) = step.get("neighbours") {
                let next = neighbours_of(&mixture, n_neighbours);
                let found: Vec<f64> = next.iter().flatten().map(|&k| f64::from(k)).collect();
                assert_eq!(found, numbers(expected), "{what}");
            }
            if let Some(theta) = step.get("theta") {
                let expected = parameters(theta, names, n_components);
                for (found, expected) in
                    mixture.parameters().components.iter().zip(&expected.components)
                {
                    for (found, expected) in found.iter().zip(expected) {
                        assert!(
                            (found - expected).abs() <= 1e-8 * expected.abs().max(1.0),
                            "{what}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn spherical_gaussians_follow_the_golden_trajectory() {
    let names = ["means", "variances"];
    follows_the_golden_trajectory("trunc_gmm_spherical_letter", "gaussian-spherical", &names);
}

#[test]
fn poisson_distributions_follow_the_golden_trajectory() {
    follows_the_golden_trajectory("trunc_mix_poisson_nmes", "poisson", &["lambda"]);
}

/// Components with latents are Gaussians: their logits and neighbours are those of full covariances.
#[test]
fn factors_give_the_logits_of_their_covariances() {
    let (dim, latents, n_components) = (5, 2, 12);
    let number = |k: usize| ((k * 37 % 101) as f64 - 50.0) / 40.0;
    let means: Vec<f64> = (0..n_components * dim).map(|k| 1e3 + 2.0 * number(k)).collect();
    let loadings: Vec<f64> = (0..n_components * dim * latents).map(|k| number(3 * k + 1)).collect();
    let noise: Vec<f64> =
        (0..n_components * dim).map(|k| 0.3 + number(5 * k + 2).powi(2)).collect();
    let weights: Vec<f64> = (1..=n_components).map(|c| c as f64 / 78.0).collect();
    let factors = MixtureOfFactorAnalyzers::new(
        NoiseStructure::Diagonal,
        dim,
        weights.clone(),
        &means,
        &loadings,
        &noise,
    )
    .unwrap();
    let row = |c: usize, d: usize| &loadings[(c * dim + d) * latents..][..latents];
    let covariance = |c: usize, i: usize, j: usize| {
        let shared: f64 = row(c, i).iter().zip(row(c, j)).map(|(a, b)| a * b).sum();
        shared + if i == j { noise[c * dim + i] } else { 0.0 }
    };
    let covariances: Vec<f64> = (0..n_components * dim * dim)
        .map(|k| covariance(k / (dim * dim), k / dim % dim, k % dim))
        .collect();
    let family = registry::build("gaussian-full", dim).unwrap();
    let array = |name: &str| Some(if name == "means" { &means[..] } else { &covariances[..] });
    let full = Mixture::from_arrays(family, weights, array).unwrap();
    let x: Vec<f64> = (0..30 * dim).map(|k| 1e3 + 3.0 * number(7 * k + 3)).collect();
    logits_agree::<f64>(&factors, &full, &x, 1e-10);
    logits_agree::<f32>(&factors, &full, &x, 2e-2);
}

fn logits_agree<T: Scalar>(
    factors: &MixtureOfFactorAnalyzers,
    full: &Mixture,
    x: &[f64],
    tolerance: f64,
) {
    let simd = Simd::detect();
    let tables: [ComponentTable<T>; 2] =
        [factors.component_table(simd, &Alone), full.component_table(simd, &Alone)];
    let means =
        [factors.mean_statistics(&tables[0], &Alone), full.mean_statistics(&tables[1], &Alone)];
    let all: Vec<u32> = (0..tables[0].n_components() as u32).collect();
    for &c in &all {
        let [found, expected] = [0, 1].map(|k| {
            let (table, len) = (&tables[k], tables[k].mean_len());
            let mut logits = vec![0.0; all.len()];
            table.expected_logits(c, &means[k][c as usize * len..][..len], &all, &mut logits);
            logits
        });
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() <= tolerance * expected.abs(), "{found} {expected}");
        }
    }
    // Ranks by panels are those of single logits.
    let [ranks, expected] = [0, 1].map(|k| {
        let (mut workspace, mut sets) = (tables[k].workspace(), vec![0; all.len() * 4]);
        tables[k].begin_group(3, all.iter().copied(), &mut workspace);
        tables[k].visit_means(&means[k], &all, &mut sets, 4, &mut workspace);
        sets
    });
    assert_eq!(ranks, expected);

    let x: Vec<T> = x.iter().map(|&x| T::from_f64(x)).collect();
    let n = x.len() / tables[0].dim;
    let block = Block::dense(MatRef::from_row_major_slice(&x, n, tables[0].dim));
    let rows: Vec<u32> = (0..n as u32).collect();
    let [found, expected] = [0, 1].map(|k| {
        let (mut workspace, mut sets) = (tables[k].workspace(), vec![0; n * 3]);
        let mut all_posteriors = PointPosteriors::default();
        // Others join the panel as members of sets.
        tables[k].begin_group(5, all[..4].iter().copied(), &mut workspace);
        sets.iter_mut().enumerate().for_each(|(k, member)| *member = (k * 5 % 12) as u32 + 1);
        let visit = Visit { block, rows: &rows, sets: &mut sets, states: 3 };
        let wanted = Wanted::Posteriors(&mut all_posteriors);
        tables[k].visit(visit, &|_| None, &mut workspace, wanted);
        all_posteriors.log_evidence
    });
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() <= tolerance * expected.abs(), "{found} {expected}");
    }
}
