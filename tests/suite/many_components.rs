//! Use of mixtures of very many components: searches instead of passes through all of them.

use crate::common::{
    assert_close, drawn, example_family, example_mixture, example_points, families,
};
use entropysum::any::{self, PerPoint, Source};
use entropysum::data::Points;
use entropysum::family::{Parameters, registry};
use entropysum::inference::{self, ComponentSearch};
use entropysum::model::{Mixture, Posterior, TruncatedSearch};
use entropysum::{Executor, store};

/// Components on a grid, of which each overlaps with its neighbours.
fn grid(family: &str, side: usize, posterior: Posterior) -> Mixture {
    let component = |c: usize| {
        let (x, y) = ((c % side) as f64, (c / side) as f64);
        match family {
            "poisson" => vec![3.0 * (x + 1.0), 3.0 * (y + 1.0)],
            _ => vec![x, y, 0.05 + 0.03 * ((c % 7) as f64)],
        }
    };
    let n = side * side;
    let components = (0..n).map(component).collect();
    let weights: Vec<f64> = (0..n).map(|c| 1.0 + (c % 5) as f64).collect();
    let total: f64 = weights.iter().sum();
    let weights = weights.iter().map(|w| w / total).collect();
    let family = registry::build(family, 2).unwrap();
    let parameters = Parameters { components, shared: vec![] };
    Mixture::new(family, weights, parameters).unwrap().with_posterior(posterior)
}

fn truncated() -> Posterior {
    Posterior::Truncated(TruncatedSearch::default())
}

/// Components beyond a thousand are packed in pieces. Copies of a component that share its weight are one component: a mixture of 1400
/// times three has the log-likelihood of three. Not all statistics have a centre that is cut into pieces with them.
#[test]
fn copies_of_components_leave_every_mixture_as_it_is() {
    const COPIES: usize = 1400;
    let executor = Executor::new(Some(2)).unwrap();
    for name in families() {
        let few = example_mixture(name, 3, 3);
        let x = example_points(few.family(), 60, 3, 5);
        let points = Points::from_rows(&x, 3).unwrap();
        let Parameters { components, shared } = few.parameters().clone();
        let weights = few.weights().iter().map(|w| w / COPIES as f64);
        let weights = weights.cycle().take(3 * COPIES).collect();
        let components = components.into_iter().cycle().take(3 * COPIES).collect();
        let family = example_family(name, 3);
        let many = Mixture::new(family, weights, Parameters { components, shared }).unwrap();
        let [few, many] = [few, many]
            .map(|model| inference::score(&model, &points, &executor).unwrap().log_likelihood);
        assert_close(many, few, 1e-12, name);
    }
}

#[test]
fn a_search_finds_what_all_components_give() {
    let executor = Executor::new(Some(2)).unwrap();
    // Many components of the second overlap: eight hold less than half of a posterior.
    for (family, most) in [("gaussian-spherical", 0.05), ("poisson", 1.0)] {
        let model = grid(family, 24, truncated());
        let x = drawn(&model, 3000, 5);
        let weights: Vec<f64> = (0..3000).map(|i| f64::from(i % 3)).collect();
        let points = Points::from_rows(&x, 2).unwrap().with_weights(weights).unwrap();
        let search = ComponentSearch::<f64>::new(&model, &executor).unwrap();

        let (mut exact, mut found) = (Vec::new(), Vec::new());
        let keep = |to: &mut Vec<u32>, labels: &[u32]| {
            to.extend_from_slice(labels);
            Ok(())
        };
        inference::predict(&model, &points, &executor, |_, it| keep(&mut exact, it)).unwrap();
        search.predict(&points, &executor, |_, it| keep(&mut found, it)).unwrap();
        let same = exact.iter().zip(&found).filter(|(a, b)| a == b).count();
        assert!(same >= 2995, "{family}: {same}");

        // What log-densities lack is what the loss says.
        let score = inference::score(&model, &points, &executor).unwrap();
        let by_search = search.score(&points, &executor).unwrap();
        let loss = search.loss(&points, &executor).unwrap();
        let lack = score.log_likelihood - by_search.log_likelihood;
        assert!(lack >= -1e-12, "{family}: {lack}");
        assert!((lack - loss.loss).abs() < 5.0 * loss.standard_error + 1e-9, "{family} {lack}");
        assert!(lack < most, "{family}: {lack}");
        assert_eq!(by_search.total_weight, score.total_weight);
        let fewer = score.posterior_entropy - by_search.posterior_entropy;
        assert!((0.0..2.0 * most).contains(&fewer), "{family}: {fewer}");

        // Posteriors are those of all components, up to the mass that lies outside of the sets.
        let mut rows = Vec::new();
        let sink = |_: u64, it: &[f64]| {
            rows.extend_from_slice(it);
            Ok(())
        };
        search.predict_proba(&points, &executor, sink).unwrap();
        let mut all = Vec::new();
        let sink = |_: u64, it: &[f64]| {
            all.extend_from_slice(it);
            Ok(())
        };
        inference::predict_proba(&model, &points, &executor, sink).unwrap();
        assert_eq!(rows.len(), 3000 * 576);
        for (row, all) in rows.chunks(576).zip(all.chunks(576)) {
            let kept: f64 = row.iter().zip(all).filter(|(q, _)| **q > 0.0).map(|(_, p)| p).sum();
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            for (q, p) in row.iter().zip(all) {
                assert!(*q == 0.0 || (q * kept - p).abs() < 1e-9, "{family}: {q} {p}");
            }
        }
    }
}

#[test]
fn searches_have_the_same_bits_on_any_number_of_threads() {
    let model = grid("gaussian-spherical", 30, truncated());
    let x: Vec<f32> = drawn(&model, 6000, 5).iter().map(|&x| x as f32).collect();
    let points = Points::from_rows(&x, 2).unwrap();
    let bits = |threads| {
        let executor = Executor::new(Some(threads)).unwrap();
        let mut bits = Vec::new();
        let search = ComponentSearch::new(&model, &executor).unwrap();
        let sink = |_: u64, it: &[f64]| {
            bits.extend(it.iter().map(|it| it.to_bits()));
            Ok(())
        };
        search.score_samples(&points, &executor, sink).unwrap();
        bits
    };
    let one = bits(1);
    assert!(one.len() == 6000 && one == bits(2) && one == bits(5));
}

#[test]
fn models_of_any_kind_search_where_that_pays() {
    let executor = Executor::new(Some(2)).unwrap();
    let mixture = grid("gaussian-spherical", 45, truncated());
    let x = drawn(&mixture, 1200, 5);
    let points = Points::from_rows(&x, 2).unwrap();
    let few = Points::from_rows(&x[..200], 2).unwrap();
    assert!(ComponentSearch::<f64>::pays(&mixture, 1200));
    assert!(!ComponentSearch::<f64>::pays(&mixture, 100));
    let exact = mixture.clone().with_posterior(Posterior::Exact);
    assert!(!ComponentSearch::<f64>::pays(&exact, 1200));
    assert!(!ComponentSearch::<f64>::pays(&grid("gaussian-spherical", 5, truncated()), 1200));

    let likelihood = inference::score(&mixture, &points, &executor).unwrap().log_likelihood;
    let model = any::Model::from(mixture);
    let source = Source::F64(&points);
    let applied = model.applied(source, &executor).unwrap();
    let loss = applied.search_loss().unwrap().unwrap();
    assert_eq!(applied.score().unwrap(), model.score(source, &executor).unwrap());
    let score = model.score(source, &executor).unwrap();
    // The sample holds all points.
    assert!((score.log_likelihood + loss.loss - likelihood).abs() < 1e-9);
    let mut densities = Vec::new();
    let mut sink = |it: &[f64]| {
        densities.extend_from_slice(it);
        Ok(())
    };
    model.per_point(PerPoint::LogDensity, source, &executor, &mut sink).unwrap();
    let mean = densities.iter().sum::<f64>() / 1200.0;
    assert!((mean - score.log_likelihood).abs() < 1e-9);
    let mut labels = 0;
    let mut sink = |it: &[u32]| {
        labels += it.len();
        Ok(())
    };
    model.labels(source, &executor, &mut sink).unwrap();
    assert_eq!(labels, 1200);
    let few = model.applied(Source::F64(&few), &executor).unwrap();
    assert!(few.search_loss().unwrap().is_none());
    let exact = model.clone().exact();
    let none = exact.applied(source, &executor).unwrap().search_loss().unwrap();
    assert!(none.is_none());
    assert_eq!(exact.score(source, &executor).unwrap().log_likelihood, likelihood);
}

#[test]
fn points_at_fault_are_named_and_wrong_models_refused() {
    let executor = Executor::new(Some(2)).unwrap();
    let model = grid("poisson", 8, truncated());
    let mut x = drawn(&model, 300, 5);
    x[2 * 77] = 0.5;
    let points = Points::from_rows(&x, 2).unwrap();
    let search = ComponentSearch::<f64>::new(&model, &executor).unwrap();
    let fault = search.score(&points, &executor).unwrap_err().to_string();
    assert!(fault.contains("row 77") && fault.contains("column 0"), "{fault}");
    let wide = Points::from_rows(&[1.0, 2.0, 3.0], 3).unwrap();
    assert!(search.score(&wide, &executor).unwrap_err().to_string().contains("dimension 3"));
}

#[cfg(feature = "cli")]
mod commands {
    use super::*;
    use crate::common::place::Place;
    use crate::common::{clusters, drawn, rounded};

    fn number(value: &serde_json::Value) -> f64 {
        value.as_f64().unwrap()
    }

    #[test]
    fn score_and_predict_say_that_they_search_and_exact_goes_through_all() {
        let place = Place::new();
        let model = grid("gaussian-spherical", 45, truncated());
        store::save(place.path("m.json"), &model).unwrap();
        let lines: Vec<String> =
            drawn(&model, 1100, 5).chunks(2).map(|x| format!("{},{}\n", x[0], x[1])).collect();
        std::fs::write(place.path("x.csv"), lines.concat()).unwrap();

        let found = place.json("score m.json x.csv");
        let exact = place.json("score m.json x.csv --exact");
        let lack = number(&exact["log_likelihood"]) - number(&found["log_likelihood"]);
        assert!((number(&found["truncation"]["loss"]) - lack).abs() < 1e-9);
        assert_eq!(found["log_likelihood_is_lower_bound"], true);
        assert!(exact.get("truncation").is_none());
        assert!(exact.get("log_likelihood_is_lower_bound").is_none());
        let text = place.succeed("score m.json x.csv");
        assert!(text.contains("each point among few components"), "{text}");
        assert!(!place.succeed("score m.json x.csv --exact").contains("among few"));

        let told = place.succeed("predict m.json x.csv -o l.csv");
        assert!(told.contains("--exact goes through all"), "{told}");
        let told = place.succeed("predict m.json x.csv -o e.csv --exact");
        assert!(told.is_empty(), "{told}");
        let read = |name| std::fs::read_to_string(place.path(name)).unwrap();
        let (labels, exact) = (read("l.csv"), read("e.csv"));
        let same = labels.lines().zip(exact.lines()).filter(|(a, b)| a == b).count();
        assert!(same >= 1095, "{same}");

        let lines = "{\"model\": \"ppca\", \"mean\": [0, 0], \"loadings\": [[1], [1]], \"noise_variance\": 1}";
        std::fs::write(place.path("p.json"), lines).unwrap();
        place.refuse("score p.json x.csv --exact", "--exact is for mixtures");
    }

    #[test]
    fn truncated_posteriors_are_chosen_for_many_components_unless_others_are_asked_for() {
        let place = Place::new();
        let x: Vec<f32> = rounded(&clusters(20_000, 1, 40, 0.5, 3));
        let lines: Vec<String> = x.iter().map(|x| format!("{x}\n")).collect();
        std::fs::write(place.path("x.csv"), lines.concat()).unwrap();
        let fit = "fit x.csv --model gaussian-spherical --init random-from-data --max-iter 1 -q";
        let many = place.json(&format!("{fit} -k 1000 -o many.json"));
        assert_eq!(many["posterior"], "truncated");
        assert!(many["method"].as_str().unwrap().contains("--posterior exact"), "{many}");
        let exact = place.json(&format!("{fit} -k 1000 --posterior exact -o exact.json"));
        assert_eq!((&exact["posterior"], exact.get("method")), (&"exact".into(), None));
        // A model of a file keeps its posteriors.
        let fit = "fit x.csv --max-iter 1 -q";
        let kept = place.json(&format!("{fit} --init exact.json"));
        assert_eq!(kept["posterior"], "exact");
        let kept = place.json(&format!("{fit} --init many.json"));
        assert_eq!((&kept["posterior"], kept.get("method")), (&"truncated".into(), None));
        let chosen = place.json(&format!("{fit} --init exact.json --posterior auto"));
        assert_eq!(chosen["posterior"], "truncated");
        // Factor analysers follow the same rule.
        let lines: Vec<String> = x.iter().map(|x| format!("{x},{}\n", -x)).collect();
        std::fs::write(place.path("xy.csv"), lines.concat()).unwrap();
        let fit = "fit xy.csv --model mppca --latent 1 --init random-from-data --max-iter 1 -q";
        assert_eq!(place.json(&format!("{fit} -k 1000"))["posterior"], "truncated");
        assert_eq!(place.json(&format!("{fit} -k 10")).get("method"), None);
    }
}
