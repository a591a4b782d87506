//! A family that the library does not have, in a crate of one's own: Maxwell distributions of speeds.
//!
//! `p(x) = √(2/π) x² a⁻³ exp(-x² / 2a²)`: `η = -1 / 2a²`, `T = x²`, `A = 3 ln a`, and `h(x) = √(2/π) x²` is not constant (Prop. 5).
//! The forty lines of formulas below get EM, the monitor, scores, samples and the check of the criterion.
//!
//! `cargo run --release --example own_family`

use entropysum::data::{self, OpenOptions};
use entropysum::expert::criterion::{self, FactorModel, Statement};
use entropysum::expert::family::{BaseMeasure, Independent, Outcome, Statistic, Univariate};
use entropysum::expert::rng::Rng;
use entropysum::family::Support;
use entropysum::monitor::plot;
use entropysum::{Config, Executor, MixtureSpec, em, inference, observe};
use rand_distr::{Distribution, Gamma};
use std::{f64::consts::PI, sync::Arc};

#[derive(Clone, Debug)]
struct Maxwell;

impl Univariate for Maxwell {
    fn name(&self) -> &'static str {
        "maxwell"
    }
    fn parameters(&self) -> &'static [&'static str] {
        &["variance"] // a², of each direction of a velocity
    }

    fn support(&self) -> Support {
        Support::Positive
    }
    fn statistics(&self, column: u32) -> Vec<Statistic> {
        vec![Statistic::Power(column, 2.0)]
    }
    fn log_base_measure(&self, column: u32) -> BaseMeasure {
        BaseMeasure { terms: vec![(Statistic::Ln(column), 2.0)], constant: 0.5 * (2.0 / PI).ln() }
    }
    fn check(&self, theta: &[f64]) -> Result<(), String> {
        let valid = theta[0] > 0.0 && theta[0].is_finite();
        if valid { Ok(()) } else { Err(format!("variance is {}, expected a number > 0", theta[0])) }
    }
    fn natural(&self, theta: &[f64], eta: &mut [f64]) -> f64 {
        eta[0] = -0.5 / theta[0];
        1.5 * theta[0].ln()
    }
    fn mean(&self, theta: &[f64], mean: &mut [f64]) {
        mean[0] = 3.0 * theta[0];
    }
    fn maximize(&self, mean: &[f64], _: f64, theta: &mut [f64]) -> Outcome {
        theta[0] = mean[0] / 3.0;
        Outcome::Maximized
    }
    fn pseudo_entropy(&self, theta: &[f64]) -> f64 {
        1.5 * theta[0].ln() + 1.5
    }
    fn sample(&self, theta: &[f64], rng: &mut Rng) -> f64 {
        Gamma::new(1.5, 2.0 * theta[0]).expect("both are positive").sample(rng).sqrt()
    }
}

fn main() -> entropysum::Result<()> {
    let wind = data::open::<f64>("data/wind.csv", &OpenOptions::default())?;
    let (executor, config) = (Executor::new(None)?, Config::default().tol(1e-8));
    let mut bic = Vec::new();
    for n_components in 1..=3 {
        let spec = MixtureSpec::new(Arc::new(Independent::new(vec![Maxwell])), n_components);
        let mut steps = 0;
        let fit = em::fit(
            &spec,
            &*wind,
            &executor,
            &config,
            &mut observe(|record| {
                assert!(record.gap().abs() < 1e-12, "the entropy sum is the bound");
                steps += 1;
            }),
        )?;
        let score = inference::score(&fit.model, &*wind, &executor)?;
        let last = fit.last().expect("there was an iteration").entropy_sum;
        println!("{n_components} components, {steps} iterations: BIC {:.1}, {last}", score.bic());
        bic.push(score.bic());
        if n_components == 2 {
            let report = FactorModel::of(&fit.model).check(16, 0);
            println!("\n{report}\n{}", criterion::certify(&fit.model, &*wind, &executor)?);
            assert_eq!(report.applies, Some(Statement::GeneralMixture));
            std::fs::create_dir_all("target")?;
            plot::write_svg("target/maxwell.svg", &fit.history, "Wind in Seattle")?;
        }
    }
    // Days are of two kinds, and not of three.
    assert!(bic[1] < bic[0] && bic[1] < bic[2], "{bic:?}");
    Ok(())
}
