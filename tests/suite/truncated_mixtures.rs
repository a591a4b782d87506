//! Mixtures with truncated posteriors: what must hold of any family, sets and stream.

use crate::common;

use common::{
    assert_close, clusters, example_family, example_points, families, fit_minibatches, rounded,
};
use entropysum::data::Points;
use entropysum::em::{self, Config, Fitting, Init, MixtureSpec, StreamConfig};
use entropysum::family::{Parameters, registry};
use entropysum::model::{Mixture, Posterior, TruncatedSearch};
use entropysum::monitor::{Event, Silent};
use entropysum::{Executor, Scalar, inference, store};

fn truncated(states: usize, neighbours: usize, random: usize) -> Posterior {
    let search = TruncatedSearch::default();
    Posterior::Truncated(search.states(states).neighbours(neighbours).random(random))
}

/// Fits from a start with few components to others, so that sets have something to find.
fn fit<T: Scalar>(
    name: &str,
    x: &[f64],
    dim: usize,
    n_components: usize,
    posterior: Posterior,
    threads: usize,
    max_iter: usize,
) -> em::Fit<Mixture> {
    let x: Vec<T> = rounded(x);
    let points = Points::from_rows(&x, dim).unwrap();
    let spec = MixtureSpec::new(example_family(name, dim), n_components)
        .with_posterior(posterior)
        .with_init(Init::RandomFromData);
    let config = Config::default().max_iter(max_iter).tol(0.0).seed(3);
    em::fit(&spec, &points, &Executor::new(Some(threads)).unwrap(), &config, &mut Silent).unwrap()
}

/// If sets and lists hold all components, nothing is truncated.
#[test]
fn sets_of_all_components_give_the_exact_fit_for_every_family() {
    let (n, dim, components) = (400, 3, 4);
    for name in families() {
        let x = example_points(&*example_family(name, dim), n, 2, 5);
        let exact = fit::<f64>(name, &x, dim, components, Posterior::Exact, 1, 5);
        let all = fit::<f64>(name, &x, dim, components, truncated(9, 99, 0), 1, 5);
        assert_eq!(exact.history.records.len(), all.history.records.len(), "{name}");
        for (exact, all) in exact.history.records.iter().zip(&all.history.records) {
            let what = format!("{name} {}", exact.iteration);
            assert_close(all.lower_bound, exact.lower_bound, 1e-9, &what);
            assert_close(all.log_likelihood, exact.log_likelihood, 1e-9, &what);
            assert_close(all.entropy_sum.total(), exact.entropy_sum.total(), 1e-9, &what);
        }
    }
}

/// A set of a single component is a label: hard EM, if all components are tried.
#[test]
fn sets_of_a_single_component_give_hard_em() {
    let x = clusters(1500, 4, 9, 2.0, 4);
    for name in ["gaussian-spherical", "gaussian-diag", "gaussian-full"] {
        let hard = fit::<f64>(name, &x, 4, 12, Posterior::Hard, 2, 8);
        let single = fit::<f64>(name, &x, 4, 12, truncated(1, 12, 0), 2, 8);
        for (hard, single) in hard.history.records.iter().zip(&single.history.records) {
            assert_close(single.lower_bound, hard.lower_bound, 1e-10, name);
            assert_eq!(single.entropy_sum.posterior, 0.0);
        }
    }
}

/// After each M-step the entropy sum is the bound; the next E-step never makes it fall; the log-likelihood is above.
#[test]
fn the_entropy_sum_is_the_bound_and_the_bound_never_falls_for_every_family() {
    // Components of less than a hundredth of a point keep their parameters, and leave a gap of a part in a million at most.
    let (n, dim, components) = (900, 3, 10);
    for name in families() {
        let family = example_family(name, dim);
        let x = example_points(&*family, n, 6, 8);
        let fit = fit::<f64>(name, &x, dim, components, truncated(2, 4, 1), 2, 40);
        let records = &fit.history.records;
        assert!(!records.is_empty(), "{name}");
        for (record, next) in records.iter().zip(&records[1..]) {
            let what = format!("{name} {}", record.iteration);
            assert_close(record.lower_bound, record.entropy_sum.total(), 1e-6, &what);
            let is_exact = record.events.is_empty();
            let slack = 1e-9 * record.lower_bound.abs().max(1.0);
            if is_exact {
                assert!(record.lower_bound >= record.log_likelihood - slack, "{what}");
                assert!(next.log_likelihood >= record.lower_bound - slack, "{what}");
            }
        }
        let points = Points::from_rows(&x, dim).unwrap();
        let exact =
            inference::score(&fit.model, &points, &Executor::new(Some(2)).unwrap()).unwrap();
        let last = records.last().unwrap();
        assert!(exact.log_likelihood >= last.lower_bound - 1e-9, "{name}");
    }
}

/// Many components by few candidates end as well as by all of them.
#[test]
fn few_candidates_find_what_all_find() {
    let (dim, components) = (6, 60);
    let x = clusters(6000, dim, components, 1.5, 21);
    let points = Points::from_rows(&x, dim).unwrap();
    let executor = Executor::new(Some(2)).unwrap();
    for name in ["gaussian-spherical", "gaussian-diag"] {
        let fit = |posterior| {
            let family = registry::build(name, dim).unwrap();
            let spec = MixtureSpec::new(family, components).with_posterior(posterior);
            let config = Config::default().max_iter(30).tol(0.0);
            em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap()
        };
        let (exact, few) = (fit(Posterior::Exact), fit(truncated(6, 16, 1)));
        let score = |model| inference::score(model, &points, &executor).unwrap().log_likelihood;
        let (exact, few) = (score(&exact.model), score(&few.model));
        assert!(few > exact - 0.1, "{name}: {few} {exact}");
    }
}

/// By minibatches the entropy sum is the bound of what is remembered, and the end is near that of batch EM.
#[test]
fn minibatches_go_on_from_the_sets_of_their_rows() {
    let x = clusters(12_000, 4, 20, 5.0, 2);
    let points = Points::<f64>::from_rows(&x, 4).unwrap();
    let executor = Executor::new(Some(2)).unwrap();
    let family = registry::build("gaussian-diag", 4).unwrap();
    let spec = MixtureSpec::new(family, 20).with_posterior(truncated(4, 10, 1));
    let config = Config::default().max_iter(30);
    let stream = StreamConfig::default().batch_size(1000).epochs(5);
    let batch = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
    let fit = fit_minibatches(&spec, &points, &executor, &config, &stream).unwrap();
    for record in &fit.history.records {
        assert!(record.gap().abs() < 1e-9, "{}", record.gap());
    }
    let score = |model| inference::score(model, &points, &executor).unwrap().log_likelihood;
    let (batch, stream) = (score(&batch.model), score(&fit.model));
    assert!(stream > batch - 0.1, "{stream} {batch}");
}

/// Components that lose their points are split from others, and found there.
#[test]
fn components_without_points_come_to_use() {
    // A third of the components start on a few far points, which one of them takes.
    let mut x = clusters(4000, 2, 30, 6.0, 3);
    x[..40].iter_mut().for_each(|x| *x += 500.0);
    let fit = fit::<f64>("gaussian-spherical", &x, 2, 60, truncated(3, 8, 1), 2, 60);
    assert!(fit.model.n_components() >= 55, "{}", fit.model.n_components());
    let n = x.len() as f64 / 2.0;
    let used = fit.model.weights().iter().filter(|&&weight| weight * n > 1.0).count();
    assert!(used >= 50, "{used}");
    // Each of the first splits has its line, and the others share one.
    assert!(fit.warnings.len() <= 25, "{}", fit.warnings.len());
}

/// A component without points takes half of another, in every set and list that holds the other: the bound does not fall, and rises as
/// the halves move apart.
#[test]
fn the_bound_never_falls_where_components_die_and_are_split() {
    let x = clusters(2000, 2, 30, 6.0, 3);
    let points = Points::<f64>::from_rows(&x, 2).unwrap();
    let executor = Executor::new(Some(2)).unwrap();
    for name in ["gaussian-spherical", "gaussian-diag"] {
        // Of 60 components, 20 lie where no points are; some of the others share their points, and one takes them in time.
        let spread = if name == "gaussian-diag" { vec![1.0, 1.0] } else { vec![1.0] };
        let mean = |c: usize| match c {
            0..20 => vec![900.0 + c as f64, -900.0],
            20..30 => vec![x[40] + 1e-3 * c as f64, x[41]],
            _ => x[100 * (c - 30)..][..2].to_vec(),
        };
        let components = (0..60).map(|c| [mean(c), spread.clone()].concat()).collect();
        let parameters = Parameters { components, shared: vec![] };
        let family = registry::build(name, 2).unwrap();
        let start = Mixture::new(family, vec![1.0 / 60.0; 60], parameters).unwrap();
        let spec = MixtureSpec::from_model(start).with_posterior(truncated(8, 16, 1));
        let config = Config::default().max_iter(60).tol(0.0);
        let fit = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
        let records = &fit.history.records;
        let is_split = |event: &Event| matches!(event, Event::Split { .. });
        let splits = records.iter().flat_map(|it| &it.events).filter(|it| is_split(it)).count();
        assert!(splits >= 20, "{name}: {splits}");
        assert_eq!(fit.model.n_components(), 60);
        for (record, next) in records.iter().zip(&records[1..]) {
            let fall = record.lower_bound - next.lower_bound;
            assert!(fall <= 1e-9, "{name} {}: {fall}", next.iteration);
        }
    }
}

/// Sets of all components take N C logits an iteration, but for the first; the numbers are columns of the history.
#[test]
fn records_count_joint_evaluations() {
    let x = clusters(500, 2, 5, 4.0, 8);
    let all = fit::<f64>("gaussian-diag", &x, 2, 7, truncated(7, 7, 0), 1, 4);
    let counts: Vec<u64> =
        all.history.records.iter().map(|it| it.joint_evaluations.unwrap()).collect();
    assert_eq!(counts[2] - counts[1], 500 * 7);
    assert_eq!(counts[3] - counts[2], 500 * 7);
    let few = fit::<f64>("gaussian-diag", &x, 2, 7, truncated(2, 3, 0), 2, 4);
    let few = few.history.records.iter().map(|it| it.joint_evaluations.unwrap());
    let few: Vec<u64> = few.collect();
    assert!(few[3] - few[2] < 500 * 7 && few[3] - few[2] >= 500 * 3);
    let exact = fit::<f64>("gaussian-diag", &x, 2, 7, Posterior::Exact, 1, 4);
    assert!(exact.history.records.iter().all(|it| it.joint_evaluations.is_none()));
    let columns = all.history.columns();
    assert_eq!(columns.last().unwrap().0, "joint_evaluations");
    let mut text = Vec::new();
    all.history.write_csv(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.lines().next().unwrap().ends_with(",joint_evaluations"), "{text}");
    let last: f64 = text.lines().nth(4).unwrap().rsplit(',').next().unwrap().parse().unwrap();
    assert_eq!(last as u64, counts[3]);
}

#[test]
fn weights_count_as_repeated_points_and_missing_values_are_left_out() {
    let x = clusters(600, 3, 6, 3.0, 17);
    let start = fit::<f64>("gaussian-diag", &x, 3, 9, Posterior::Exact, 1, 3).model;
    let executor = Executor::new(Some(2)).unwrap();
    let config = Config::default().max_iter(8).tol(0.0);
    let spec = MixtureSpec::from_model(start).with_posterior(truncated(3, 5, 0));
    let weights: Vec<f64> = (0..600).map(|i| f64::from(i % 3)).collect();
    let repeated: Vec<f64> = (0..600)
        .flat_map(|i| std::iter::repeat_n(&x[3 * i..3 * i + 3], i % 3))
        .flatten()
        .copied()
        .collect();
    let weighted = Points::from_rows(&x, 3).unwrap().with_weights(weights).unwrap();
    let repeated = Points::from_rows(&repeated, 3).unwrap();
    let last = |points: &Points<'_, f64>, spec: &MixtureSpec| {
        let fit = em::fit(spec, points, &executor, &config, &mut Silent).unwrap();
        fit.last().unwrap().lower_bound
    };
    // Sets may differ, since points of weight 0 bring candidates of their own.
    assert_close(last(&weighted, &spec), last(&repeated, &spec), 1e-3, "weights");

    let mut holes = x.clone();
    holes.iter_mut().step_by(7).for_each(|x| *x = f64::NAN);
    let holes = Points::from_rows(&holes, 3).unwrap();
    let spec = spec.ignoring_missing().unwrap();
    let all = spec.clone().with_posterior(truncated(9, 9, 0));
    let exact = spec.clone().with_posterior(Posterior::Exact);
    assert_close(last(&holes, &all), last(&holes, &exact), 1e-10, "missing values");
    let few = em::fit(&spec, &holes, &executor, &config, &mut Silent).unwrap();
    assert!(few.last().unwrap().gap().abs() < 1e-10);
}

#[test]
fn models_keep_their_search_and_settings_are_checked() {
    let x = clusters(300, 2, 3, 3.0, 1);
    let posterior = truncated(2, 4, 3);
    let model = fit::<f64>("gaussian-full", &x, 2, 5, posterior, 1, 2).model;
    assert_eq!(model.posterior(), posterior);
    let folder = tempfile::tempdir().unwrap();
    for name in ["m.json", "m.safetensors"] {
        let path = folder.path().join(name);
        store::save(&path, &model).unwrap();
        let loaded: Mixture = store::load(&path).unwrap();
        assert_eq!(loaded.posterior(), posterior);
    }
    let points = Points::<f64>::from_rows(&x, 2).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let config = Config::default();
    let family = registry::build("gaussian-full", 2).unwrap();
    let refused = |posterior: Posterior, components: usize| {
        let spec = MixtureSpec::new(family.clone(), components).with_posterior(posterior);
        em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap_err().to_string()
    };
    assert!(refused(truncated(0, 4, 1), 3).contains("states"));
    assert!(refused(truncated(2, 0, 1), 3).contains("neighbours"));
    assert!(refused(truncated(2, 4, 1), 301).contains("fewer than the 301 components"));
    // A model alone cannot say which sets its points have.
    let refused = em::fit(&model, &points, &executor, &config, &mut Silent).unwrap_err();
    assert!(refused.to_string().contains("MixtureSpec::from_model"), "{refused}");
}

#[test]
fn degenerate_points_end_no_fit() {
    let cases: [(Vec<f64>, usize, usize); 3] = [
        (vec![3.0; 200], 2, 4),                                // all equal
        ((0..300).map(|i| f64::from(i % 7)).collect(), 1, 20), // one dimension, few values
        (clusters(50, 3, 2, 1.0, 4), 3, 50),                   // as many components as points
    ];
    for (x, dim, components) in cases {
        let fit = fit::<f64>("gaussian-diag", &x, dim, components, truncated(3, 4, 1), 2, 20);
        assert!(fit.last().unwrap().lower_bound.is_finite());
    }
}

#[test]
fn a_point_that_is_no_number_is_named() {
    let mut x = clusters(500, 2, 3, 3.0, 1);
    x[2 * 123 + 1] = f64::NAN;
    let points = Points::<f64>::from_rows(&x, 2).unwrap();
    let start =
        fit::<f64>("gaussian-full", &clusters(500, 2, 3, 3.0, 1), 2, 5, truncated(2, 4, 1), 1, 2);
    let executor = Executor::new(Some(2)).unwrap();
    let spec = MixtureSpec::from_model(start.model);
    for stream in [None, Some(StreamConfig::default().batch_size(100))] {
        let config = Config::default();
        let fault = match &stream {
            None => em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap_err(),
            Some(it) => fit_minibatches(&spec, &points, &executor, &config, it).unwrap_err(),
        };
        let text = fault.to_string();
        assert!(text.contains("row 123") && text.contains("column 1"), "{text}");
    }
}

/// Points that share a rounded value must not draw a component onto it, whatever the posteriors are.
#[test]
fn variances_of_rounded_values_stay_above_their_rounding() {
    let (n, dim) = (600, 2);
    let rounded: Vec<f64> = clusters(n, dim, 6, 2.0, 3).into_iter().map(f64::round).collect();
    let points = Points::from_rows(&rounded, dim).unwrap();
    let executor = Executor::new(Some(1)).unwrap();
    let config = Config::default().max_iter(20).tol(0.0);
    let search = TruncatedSearch::default().states(2).neighbours(8);
    let spec = MixtureSpec::new(registry::build("gaussian-diag", dim).unwrap(), 60)
        .with_posterior(Posterior::Truncated(search));
    let fit = Fitting::new(&points, &executor).config(&config).fit(&spec).unwrap();
    assert!(!fit.floored.is_empty());
    for c in 0..60 {
        let variances = &fit.model.theta(c).component[dim..];
        assert!(variances.iter().all(|&v| v >= (1.0 - 1e-9) / 12.0), "{c}: {variances:?}");
    }
}
