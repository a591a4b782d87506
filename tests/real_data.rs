//! Mixtures of several families on real data: what they find is plausible, and stated in the documentation.

use entropysum::data::{self, OpenOptions};
use entropysum::family::registry;
use entropysum::selection::{self, Candidate, Criterion};
use entropysum::{Config, Executor, Mixture, MixtureSpec, Points, Result, Silent, fit_mixture};
use entropysum::{inference, store};

fn points(name: &str) -> Points<'static, f64> {
    let path = format!("{}/data/{name}", env!("CARGO_MANIFEST_DIR"));
    data::load(&*data::open::<f64>(path, &OpenOptions::default()).unwrap()).unwrap()
}

fn candidates(family: &str, points: &Points<'_, f64>, sizes: &[usize]) -> Vec<Candidate<Mixture>> {
    use entropysum::DataSource;
    let executor = Executor::new(None).unwrap();
    let config = Config { n_init: 3, max_iter: 2000, tol: 1e-7, ..Config::default() };
    let fit = |i: usize, executor: &Executor| -> Result<_> {
        let spec = MixtureSpec::new(registry::build(family, points.dim())?, sizes[i]);
        let fit = fit_mixture(&spec, points, executor, &config, &mut Silent)?;
        let score = inference::score(&fit.model, points, executor)?;
        Ok(Candidate { fit, score, held_out: None })
    };
    selection::fit_all(sizes.len(), points.len(), &executor, fit).unwrap()
}

#[test]
#[ignore = "exploration"]
fn explore() {
    let digits = points("digits.npy");
    let ones: Vec<f64> = digits
        .view()
        .row_iter()
        .flat_map(|row| row.iter().map(|v| f64::from(*v >= 8.0)).collect::<Vec<_>>())
        .collect();
    let ones = Points::owned(ones, 64).unwrap();
    for (family, points, sizes) in [
        ("poisson", points("doctor_visits.npy"), &[1, 2, 3, 4, 5, 6][..]),
        ("geometric", points("doctor_visits.npy"), &[1, 2, 3, 4]),
        ("gamma", points("rain.csv"), &[1, 2, 3]),
        ("exponential", points("rain.csv"), &[1, 2, 3]),
        ("log-normal", points("rain.csv"), &[1, 2, 3]),
        ("gamma", points("wind.csv"), &[1, 2, 3]),
        ("von-mises-fisher", points("airports.npy"), &[1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20]),
        ("bernoulli", ones, &[1, 5, 10, 15, 20, 25, 30, 40]),
        ("bernoulli:1,gaussian-diag:2-9,gamma:0", points("diabetes.csv"), &[1, 2, 3, 4, 5]),
        ("bernoulli:1,gaussian-full:2-9,gamma:0", points("diabetes.csv"), &[1, 2, 3, 4, 5]),
    ] {
        let all = candidates(family, &points, sizes);
        let best = selection::best(&all, Criterion::Bic).unwrap();
        println!("== {family}: best {}", sizes[best]);
        for (size, c) in sizes.iter().zip(&all) {
            println!(
                "{size} bic {:.1} icl {:.1} ll {:.4} it {} {:?} {:?}",
                c.score.bic(),
                c.score.icl(),
                c.score.log_likelihood,
                c.fit.history.records.len(),
                c.fit.stop_reason,
                c.fit.warnings
            );
        }
        let value = store::to_json(&all[best].fit.model);
        println!(
            "{}",
            serde_json::to_string(&value).unwrap().chars().take(1500).collect::<String>()
        );
    }
}
