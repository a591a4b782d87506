//! Mixtures of factor analysers with truncated posteriors.

use crate::common;

use common::{assert_close, clusters, rounded};
use entropysum::data::Points;
use entropysum::em::{self, Config, FactorAnalyzersSpec, Init};
use entropysum::inference::{self, ComponentSearch};
use entropysum::model::{MixtureOfFactorAnalyzers, NoiseStructure, Posterior, TruncatedSearch};
use entropysum::monitor::{Event, IterRecord, Silent};
use entropysum::{Executor, Scalar, store};

const DIM: usize = 4;

fn truncated(states: usize, neighbours: usize, random: usize) -> Posterior {
    let search = TruncatedSearch::default();
    Posterior::Truncated(search.states(states).neighbours(neighbours).random(random))
}

fn executor(threads: usize) -> Executor {
    Executor::new(Some(threads)).unwrap()
}

fn spec(noise: NoiseStructure, n_components: usize, posterior: Posterior) -> FactorAnalyzersSpec {
    let init = Init::RandomFromData;
    let spec = FactorAnalyzersSpec::new(noise, n_components, 2).with_posterior(posterior);
    FactorAnalyzersSpec { init, ..spec }
}

fn fit<T: Scalar>(
    spec: &FactorAnalyzersSpec,
    x: &[f64],
    threads: usize,
    max_iter: usize,
) -> em::Fit<MixtureOfFactorAnalyzers> {
    let x: Vec<T> = rounded(x);
    let points = Points::from_rows(&x, DIM).unwrap();
    let config = Config::default().max_iter(max_iter).tol(0.0).seed(3);
    em::fit(spec, &points, &executor(threads), &config, &mut Silent).unwrap()
}

/// If sets and lists hold all components, nothing is truncated.
#[test]
fn sets_of_all_components_give_the_exact_fit_of_factor_analysers() {
    let x = clusters(500, DIM, 5, 2.0, 5);
    for noise in NoiseStructure::ALL {
        let exact = fit::<f64>(&spec(noise, 5, Posterior::Exact), &x, 1, 6);
        let all = fit::<f64>(&spec(noise, 5, truncated(9, 99, 0)), &x, 1, 6);
        let single = fit::<f32>(&spec(noise, 5, truncated(9, 99, 0)), &x, 1, 2);
        assert_eq!(exact.history.records.len(), all.history.records.len());
        let check = |found: &IterRecord, exact: &IterRecord, tolerance: f64| {
            let what = format!("{noise:?} {}", exact.iteration);
            assert_close(found.lower_bound, exact.lower_bound, tolerance, &what);
            assert_close(found.log_likelihood, exact.log_likelihood, tolerance, &what);
            assert_close(found.entropy_sum.total(), exact.entropy_sum.total(), tolerance, &what);
            assert_close(
                found.entropy_sum.posterior,
                exact.entropy_sum.posterior,
                tolerance,
                &what,
            );
        };
        for (all, exact) in all.history.records.iter().zip(&exact.history.records) {
            check(all, exact, 1e-9);
        }
        for (single, exact) in single.history.records.iter().zip(&exact.history.records) {
            check(single, exact, 1e-4);
        }
    }
}

/// A set of a single component is a label: the bound is that of the best component of each point, and its latents.
#[test]
fn a_set_of_one_component_is_a_label() {
    let x = clusters(800, DIM, 6, 2.0, 4);
    let points = Points::<f64>::from_rows(&x, DIM).unwrap();
    let spec = spec(NoiseStructure::Diagonal, 8, truncated(1, 8, 0));
    let config = |n| Config::default().max_iter(n).tol(0.0);
    for n in 1..4 {
        let model = em::fit(&spec, &points, &executor(2), &config(n), &mut Silent).unwrap().model;
        let from = FactorAnalyzersSpec::from_model(model.clone());
        let next = em::fit(&from, &points, &executor(2), &config(1), &mut Silent).unwrap();
        let mut densities = Vec::new();
        let mut sink = |_: u64, values: &[f64]| {
            densities.extend_from_slice(values);
            Ok(())
        };
        inference::score_samples(&model, &points, &executor(1), &mut sink).unwrap();
        let (mut sum, mut next_point) = (0.0, densities.iter());
        inference::predict_proba(&model, &points, &executor(1), |_, rows| {
            for row in rows.chunks(model.n_components()) {
                sum +=
                    next_point.next().unwrap() + row.iter().fold(0.0, |a: f64, &b| a.max(b)).ln();
            }
            Ok(())
        })
        .unwrap();
        assert_close(next.history.records[0].log_likelihood, sum / 800.0, 1e-9, "labels");
    }
}

/// After each M-step the entropy sum is the bound; the next E-step never makes it fall; the log-likelihood is above.
#[test]
fn the_bound_of_factor_analysers_never_falls() {
    let x = clusters(1200, DIM, 12, 3.0, 8);
    let points = Points::<f64>::from_rows(&x, DIM).unwrap();
    for noise in NoiseStructure::ALL {
        let fit = fit::<f64>(&spec(noise, 14, truncated(2, 5, 1)), &x, 2, 60);
        let records = &fit.history.records;
        for (record, next) in records.iter().zip(&records[1..]) {
            let what = format!("{noise:?} {}", record.iteration);
            assert_close(record.lower_bound, record.entropy_sum.total(), 1e-9, &what);
            let is_floored = |it: &Event| matches!(it, Event::Floored { .. });
            if !record.events.iter().any(is_floored) {
                assert!(next.log_likelihood >= record.lower_bound - 1e-9, "{what}");
                assert!(next.lower_bound >= next.log_likelihood - 1e-9, "{what}");
            }
        }
        let exact = inference::score(&fit.model, &points, &executor(2)).unwrap();
        assert!(exact.log_likelihood >= records.last().unwrap().lower_bound - 1e-9);
        let counts = records.iter().map(|it| it.joint_evaluations.unwrap());
        assert!(counts.max().unwrap() < 60 * 1200 * 14);
    }
}

#[test]
fn few_candidates_find_what_all_find_and_scores_are_certified() {
    let x = clusters(6000, DIM, 40, 3.0, 21);
    let points = Points::<f64>::from_rows(&x, DIM).unwrap();
    let score = |model: &MixtureOfFactorAnalyzers| {
        inference::score(model, &points, &executor(2)).unwrap().log_likelihood
    };
    let [exact, few] = [Posterior::Exact, truncated(6, 16, 1)]
        .map(|posterior| fit::<f64>(&spec(NoiseStructure::Isotropic, 40, posterior), &x, 2, 20));
    assert!(score(&few.model) > score(&exact.model) - 0.1);
    let loss = few.truncation_loss.unwrap();
    assert!(loss.loss < 0.05 && loss.loss >= 0.0, "{loss:?}");

    let search = ComponentSearch::<f64, _>::new(&few.model, &executor(2)).unwrap();
    let found = search.score(&points, &executor(2)).unwrap().log_likelihood;
    let lack = score(&few.model) - found;
    let told = search.loss(&points, &executor(2)).unwrap();
    assert!((-1e-9..0.1).contains(&lack), "{lack}");
    assert!((told.loss - lack).abs() < 6.0 * told.standard_error + 1e-9, "{told:?} {lack}");
}

#[test]
fn files_of_factor_analysers_keep_their_search_and_labels_are_refused() {
    let x = clusters(300, DIM, 3, 3.0, 1);
    let asked = truncated(2, 4, 3);
    let model = fit::<f64>(&spec(NoiseStructure::Tied, 5, asked), &x, 1, 2).model;
    assert_eq!(model.posterior(), asked);
    let folder = tempfile::tempdir().unwrap();
    for name in ["m.json", "m.safetensors"] {
        let path = folder.path().join(name);
        store::save(&path, &model).unwrap();
        let loaded: MixtureOfFactorAnalyzers = store::load(&path).unwrap();
        assert_eq!(loaded.posterior(), asked);
        store::save(&path, &model.clone().with_posterior(Posterior::Exact)).unwrap();
        let loaded: MixtureOfFactorAnalyzers = store::load(&path).unwrap();
        assert_eq!(loaded.posterior(), Posterior::Exact);
    }
    let points = Points::<f64>::from_rows(&x, DIM).unwrap();
    let fault = |posterior| {
        let spec = spec(NoiseStructure::Tied, 5, posterior);
        em::fit(&spec, &points, &executor(1), &Config::default(), &mut Silent)
            .unwrap_err()
            .to_string()
    };
    assert!(fault(Posterior::Hard).contains("one state"), "{}", fault(Posterior::Hard));
    assert!(fault(truncated(0, 4, 1)).contains("states"));
}

#[cfg(feature = "cli")]
#[test]
fn the_program_learns_factor_analysers_by_truncated_posteriors() {
    let place = common::place::Place::new();
    let x = clusters(600, 3, 6, 3.0, 2);
    let lines: Vec<String> = x.chunks(3).map(|x| format!("{},{},{}\n", x[0], x[1], x[2])).collect();
    std::fs::write(place.path("x.csv"), lines.concat()).unwrap();
    let fit = "fit x.csv --model mfa -k 8 --latent 1 --max-iter 5 -q";
    let found =
        place.json(&format!("{fit} --posterior truncated --states 3 --neighbours 5 -o m.json"));
    assert_eq!((&found["posterior"], &found["n_states"]), (&"truncated".into(), &3.into()));
    assert!(found["truncation"]["loss"].as_f64().unwrap() >= 0.0);
    assert!(place.json(fit).get("posterior").is_none());
    let kept = place.json("fit x.csv --init m.json --max-iter 1 -q");
    assert_eq!(kept["posterior"], "truncated");
    place.refuse(&format!("{fit} --posterior hard"), "--states 1");
    place.refuse(&format!("{fit} --states 3"), "--posterior truncated");
}
