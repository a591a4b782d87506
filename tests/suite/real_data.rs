//! Mixtures of several families on real data: what they find is plausible, and stated in the documentation.

use entropysum::data::{self, OpenOptions};
use entropysum::family::registry;
use entropysum::inference;
use entropysum::selection::{self, Candidate, Criterion};
use entropysum::{
    Config, DataSource, Executor, Init, Mixture, MixtureSpec, Points, Result, Silent, em,
};

fn points(name: &str) -> Points<'static, f64> {
    let path = format!("{}/data/{name}", env!("CARGO_MANIFEST_DIR"));
    data::load(&*data::open::<f64>(path, &OpenOptions::default()).unwrap()).unwrap()
}

fn candidates(family: &str, points: &Points<'_, f64>, sizes: &[usize]) -> Vec<Candidate<Mixture>> {
    let executor = Executor::new(None).unwrap();
    let config = Config::default().n_init(2).max_iter(2000).tol(1e-6);
    let fit = |i: usize, executor: &Executor| -> Result<_> {
        let spec = MixtureSpec::new(registry::build(family, points.dim())?, sizes[i]);
        let fit = em::fit(&spec, points, executor, &config, &mut Silent)?;
        let score = inference::score(&fit.model, points, executor)?;
        Ok(Candidate { fit, score, held_out: None })
    };
    selection::fit_all(sizes.len(), points.len(), &executor, fit).unwrap()
}

fn bic(all: &[Candidate<Mixture>]) -> Vec<f64> {
    all.iter().map(|candidate| candidate.score.bic()).collect()
}

/// Whom no doctor sees is a group of its own, of rate zero.
#[test]
fn poisson_finds_those_who_never_see_a_doctor() {
    let all = candidates("poisson", &points("doctor_visits.npy"), &[1, 2, 4, 6]);
    assert!(bic(&all).is_sorted_by(|a, b| a > b), "{:?}", bic(&all));
    assert!(bic(&all)[3] < 0.7 * bic(&all)[0], "one rate does not serve all");
    let model = &all[3].fit.model;
    let rates = model.parameter("rate").unwrap();
    let never = (0..6).min_by(|&a, &b| rates[a].total_cmp(&rates[b])).unwrap();
    assert!(rates[never] < 1e-2 && (0.1..0.35).contains(&model.weights()[never]), "{rates:?}");
}

/// Mean winds are one gamma; rain is not.
#[test]
fn one_gamma_serves_wind_and_not_rain() {
    let wind = candidates("gamma", &points("wind.csv"), &[1, 2]);
    assert_eq!(selection::best(&wind, Criterion::Bic), Some(0));
    let shape = wind[0].fit.model.parameter("shape").unwrap()[0];
    assert!((4.0..7.0).contains(&shape), "{shape}");
    let rain = candidates("gamma", &points("rain.csv"), &[1, 2, 3]);
    assert!(bic(&rain)[2] < bic(&rain)[0] - 50.0, "{:?}", bic(&rain));
}

/// Written digits come in more than ten ways.
#[test]
fn bernoulli_finds_more_kinds_of_digits_than_ten() {
    let all = candidates("bernoulli", &points("digits_binary.npy"), &[1, 5, 10, 15]);
    assert!(bic(&all).is_sorted_by(|a, b| a > b), "{:?}", bic(&all));
}

/// Most airports are on the continent; those far off it are found where they are.
#[test]
fn von_mises_fisher_finds_islands() {
    let all = candidates("von-mises-fisher", &points("airports.npy"), &[1, 12]);
    assert!(bic(&all)[1] < bic(&all)[0] - 5000.0, "{:?}", bic(&all));
    let directions = all[1].fit.model.parameter("mean_direction").unwrap();
    for (place, latitude, longitude) in [
        ("Hawaii", 20.8f64, -156.5f64),
        ("Puerto Rico", 18.2, -66.3),
        ("the western Pacific", 12.0, 135.0),
    ] {
        let (b, l) = (latitude.to_radians(), longitude.to_radians());
        let there = [b.cos() * l.cos(), b.cos() * l.sin(), b.sin()];
        let cosine = |it: &[f64]| it.iter().zip(&there).map(|(a, b)| a * b).sum::<f64>();
        let nearest = directions.chunks(3).map(cosine).fold(-1.0, f64::max);
        assert!(nearest.acos().to_degrees() < 12.0, "{place}: {}", nearest.acos().to_degrees());
    }
}

/// Age, sex and blood values in one model; a product beats one component by far, and the sexes differ between them.
#[test]
fn mixed_columns_find_groups_of_patients() {
    let all =
        candidates("gamma:0,bernoulli:1,gaussian-full:2-9", &points("diabetes.csv"), &[1, 2, 3]);
    assert!(bic(&all)[2] < bic(&all)[1] && bic(&all)[1] < bic(&all)[0], "{:?}", bic(&all));
    for candidate in &all {
        assert!(candidate.fit.last().unwrap().gap().abs() < 1e-8);
    }
}

/// Chapters of the King James Bible by their words: law and history, prophets and poetry, and the New Testament, whose 260
/// chapters are the last ones.
#[test]
fn counts_of_words_tell_the_testaments_apart() {
    let path = |name: &str| format!("{}/data/{name}", env!("CARGO_MANIFEST_DIR"));
    let chapters = data::open::<f64>(path("kjv.npz"), &OpenOptions::default()).unwrap();
    let words = std::fs::read_to_string(path("kjv_words.txt")).unwrap();
    let words: Vec<&str> = words.lines().collect();
    assert!(data::is_sparse(&*chapters));
    assert_eq!((chapters.len(), chapters.dim()), (1189, words.len()));
    let executor = Executor::new(None).unwrap();
    for (family, sizes) in [("multinomial", &[1, 2, 3, 4][..]), ("poisson", &[4])] {
        let fit = |&size: &usize| {
            let family = registry::build(family, words.len()).unwrap();
            let spec = MixtureSpec::new(family, size).with_init(Init::KMeansPlusPlus);
            // Few starts of many find the New Testament.
            let starts = if size == 4 { 20 } else { 2 };
            let config = Config::default().n_init(starts).max_iter(1000);
            em::fit(&spec, &*chapters, &executor, &config, &mut Silent).unwrap()
        };
        let fits: Vec<_> = sizes.iter().map(fit).collect();
        let bics = fits.iter().map(|fit| {
            assert!(fit.last().unwrap().gap().abs() < 1e-9, "{family}");
            inference::score(&fit.model, &*chapters, &executor).unwrap().bic()
        });
        let bics: Vec<f64> = bics.collect();
        assert!(bics.is_sorted_by(|a, b| a > b), "{family}: {bics:?}");

        let model = &fits[sizes.len() - 1].model;
        let mut labels = Vec::new();
        inference::predict(model, &*chapters, &executor, |_, block| {
            labels.extend_from_slice(block);
            Ok(())
        })
        .unwrap();
        let in_new = |c: u32| labels[929..].iter().filter(|&&label| label == c).count();
        let new = (0..4).max_by_key(|&c| in_new(c)).unwrap();
        let in_old = labels[..929].iter().filter(|&&label| label == new).count();
        assert!(in_new(new) >= 240 && in_old <= 25, "{family}: {} and {in_old}", in_new(new));
        // The words that it has more often than others.
        let name = if family == "poisson" { "rate" } else { "probabilities" };
        let parameters = model.parameter(name).unwrap();
        let at = |c: usize, d: usize| parameters[c * words.len() + d];
        let mean = |d: usize| (0..4).map(|c| model.weights()[c] * at(c, d)).sum::<f64>();
        let more = |d: usize| match at(new as usize, d) {
            own if own > 0.0 => own * (own / mean(d)).ln(),
            _ => 0.0,
        };
        let mut order: Vec<usize> = (0..words.len()).collect();
        order.sort_by(|&a, &b| more(b).total_cmp(&more(a)));
        let top: Vec<&str> = order[..4].iter().map(|&d| words[d]).collect();
        assert_eq!(top, ["jesus", "christ", "faith", "disciples"], "{family}");
    }
}
