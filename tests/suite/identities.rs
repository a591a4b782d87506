//! The theory's identities, at random responsibilities and for every family of the registry.

use crate::common;

use common::{
    Uniforms, assert_close, clusters, example_family, example_mixture, example_points, families,
    gaussians,
};
use entropysum::Executor;
use entropysum::data::Points;
use entropysum::em::{self, Config, MixtureSpec};
use entropysum::expert::family::ExponentialFamily;
use entropysum::expert::model::GenerativeModel;
use entropysum::expert::reference::statistic as evaluate;
use entropysum::expert::stats::{StatsShape, SuffStats};
use entropysum::family::{Parameters, Regularization, registry};
use entropysum::inference;
use entropysum::model::{Mixture, Posterior};
use entropysum::monitor::{Event, Silent};

const DIM: usize = 3;
const COMPONENTS: usize = 4;
const POINTS: usize = 60;

/// Points of the model's support; for Gaussians in clusters that are further apart.
fn points_of(model: &Mixture, n: usize, seed: u64) -> Vec<f64> {
    let name = model.family().name();
    match gaussians().any(|gaussian| gaussian == name) {
        true => clusters(n, DIM, COMPONENTS, 1.5, seed),
        false => example_points(model.family(), n, COMPONENTS, seed),
    }
}

struct Responsibilities {
    q: Vec<Vec<f64>>,
    weights: Vec<f64>,
}

impl Responsibilities {
    fn random(u: &mut Uniforms, hard: bool) -> Self {
        let q = (0..POINTS).map(|_| {
            let mut row: Vec<f64> = (0..COMPONENTS).map(|_| u.next().powi(3)).collect();
            if hard {
                let best = (0..COMPONENTS).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
                row.fill(0.0);
                row[best] = 1.0;
            }
            let total: f64 = row.iter().sum();
            row.iter().map(|r| r / total).collect()
        });
        let q = q.collect();
        Self { q, weights: (0..POINTS).map(|_| 0.1 + u.next()).collect() }
    }

    /// By definition, about a centre that differs from component to component.
    fn statistics(&self, family: &dyn ExponentialFamily, x: &[f64]) -> SuffStats {
        let (statistics, shared) = (family.statistics(), family.shared_statistics());
        let shape = StatsShape {
            components: COMPONENTS,
            statistics: statistics.len(),
            shared: shared.len(),
            centre: if family.is_location() { DIM } else { 0 },
        };
        // Shared statistics are about one centre, or summed over components each about its own.
        let centre = |c: usize, d: usize| {
            if shared.is_empty() { 0.1 * c as f64 - 0.2 * d as f64 } else { 0.3 }
        };
        let centres = (0..COMPONENTS).flat_map(|c| {
            let mut centre: Vec<f64> = (0..shape.centre).map(|d| centre(c, d)).collect();
            family.restrict_centre(&mut centre);
            centre
        });
        let centres = centres.collect();
        let mut stats = SuffStats::zeros(shape, centres);
        for ((point, q), &w) in x.chunks(DIM).zip(&self.q).zip(&self.weights) {
            *stats.total_weight_mut() += w;
            *stats.n_points_mut() += 1.0;
            let measure = family.log_base_measure();
            let terms = measure.terms.iter().map(|&(it, weight)| weight * evaluate(it, point));
            *stats.log_base_measure_mut() += w * (measure.constant + terms.sum::<f64>());
            for c in 0..COMPONENTS {
                let shifted: Vec<f64> = (0..DIM)
                    .map(|d| point[d] - stats.centre(c).get(d).copied().unwrap_or(0.0))
                    .collect();
                stats.mass_mut()[c] += w * q[c];
                if q[c] > 0.0 {
                    *stats.posterior_entropy_mut() -= w * q[c] * q[c].ln();
                }
                for (l, &statistic) in statistics.iter().enumerate() {
                    stats.sums_mut(c)[l] += w * q[c] * evaluate(statistic, &shifted);
                }
                for (l, &statistic) in shared.iter().enumerate() {
                    stats.shared_mut()[l] += w * q[c] * evaluate(statistic, &shifted);
                }
            }
        }
        stats
    }
}

/// `ln p(x | c)` of every point, through the scoring kernel of a mixture of one component.
fn log_densities(model: &Mixture, c: usize, x: &[f64]) -> Vec<f64> {
    let theta = model.theta(c);
    let parameters =
        Parameters { components: vec![theta.component.to_vec()], shared: theta.shared.to_vec() };
    let family = example_family(&model.family().name(), DIM);
    let single = Mixture::new(family, vec![1.0], parameters).unwrap();
    let mut densities = Vec::new();
    let points = Points::from_rows(x, DIM).unwrap();
    inference::score_samples(&single, &points, &Executor::new(Some(1)).unwrap(), |_, block| {
        densities.extend_from_slice(block);
        Ok(())
    })
    .unwrap();
    densities
}

/// `F(q, Θ)` by its definition (Eqn 2): a pass over all points and components.
fn elbo(model: &Mixture, x: &[f64], r: &Responsibilities) -> f64 {
    let densities: Vec<Vec<f64>> = (0..COMPONENTS).map(|c| log_densities(model, c, x)).collect();
    let mut sum = 0.0;
    for n in 0..POINTS {
        for c in 0..COMPONENTS {
            let q = r.q[n][c];
            if q > 0.0 {
                sum += r.weights[n] * q * (model.weights()[c].ln() + densities[c][n] - q.ln());
            }
        }
    }
    sum / r.weights.iter().sum::<f64>()
}

fn start(name: &str) -> Mixture {
    if !gaussians().any(|gaussian| gaussian == name) {
        return example_mixture(name, DIM, COMPONENTS);
    }
    let family = registry::build(name, DIM).unwrap();
    let specs = family.parameters();
    let means: Vec<f64> = (0..COMPONENTS * DIM).map(|k| k as f64 / 7.0).collect();
    let one: Vec<f64> = match specs[1].len() {
        9 => vec![2.0, 0.3, 0.1, 0.3, 1.0, -0.2, 0.1, -0.2, 1.5],
        3 => vec![2.0, 1.0, 1.5],
        _ => vec![1.7],
    };
    let covariances = if specs[1].shared { one } else { one.repeat(COMPONENTS) };
    let weights = vec![0.4, 0.3, 0.2, 0.1];
    Mixture::from_arrays(family, weights, |n| {
        Some(if n == "means" { &means } else { &covariances })
    })
    .unwrap()
}

/// Theory 1.3; Theorem 1 at any q: after an exact M-step the entropy sum is the bound.
#[test]
fn eqn_3_entropy_sum_is_the_elbo_after_an_exact_m_step_at_random_responsibilities() {
    let mut u = Uniforms::new(1);
    for name in families() {
        for hard in [false, true] {
            for seed in 0..5 {
                let mut model = start(name);
                let x = points_of(&model, POINTS, seed);
                let r = Responsibilities::random(&mut u, hard);
                let stats = r.statistics(model.family(), &x);
                let events = model
                    .m_step(&stats, &Regularization { reg_covar: Some(0.0), ..Default::default() });
                assert_eq!(events, []);
                let sum = model.entropy_sum(&stats);
                let bound = model.lower_bound(&stats);
                assert!((bound - sum.total()).abs() < 1e-10, "{name}: {bound} {sum}");
                assert_close(bound, elbo(&model, &x, &r), 1e-12, name);
                assert_eq!(hard, sum.posterior == 0.0);
            }
        }
    }
}

/// The lower bound from statistics is the ELBO at any parameters, and away from an M-step the gap of theory 1.2 is open.
#[test]
fn eqn_2_lower_bound_from_statistics_is_the_elbo_at_any_parameters() {
    let mut u = Uniforms::new(2);
    for name in families() {
        let r = Responsibilities::random(&mut u, false);
        let model = start(name);
        let x = points_of(&model, POINTS, 9);
        let stats = r.statistics(model.family(), &x);
        assert_close(model.lower_bound(&stats), elbo(&model, &x, &r), 1e-12, name);
        let gap = model.lower_bound(&stats) - model.entropy_sum(&stats).total();
        assert!(
            gap.abs() > 1e-3,
            "{name}: these parameters are no M-step, the gap {gap} cannot vanish"
        );
    }
}

/// Section 1.2.4: a ridge ε leaves the gap `ε/2 Σ_c q̄_c tr Σ_c⁻¹`.
#[test]
fn a_ridge_leaves_the_known_gap() {
    let ridge = 0.1;
    let mut u = Uniforms::new(3);
    let x = clusters(POINTS, DIM, COMPONENTS, 1.5, 4);
    for name in gaussians() {
        let r = Responsibilities::random(&mut u, false);
        let mut model = start(name);
        let stats = r.statistics(model.family(), &x);
        model.m_step(&stats, &Regularization { reg_covar: Some(ridge), ..Default::default() });
        let covariances = model.parameter("covariances").unwrap();
        let per_component =
            covariances.len() / if model.parameters().shared.is_empty() { COMPONENTS } else { 1 };
        let correction: f64 = (0..COMPONENTS)
            .map(|c| {
                let own = if model.parameters().shared.is_empty() { c } else { 0 };
                let covariance = &covariances[own * per_component..][..per_component];
                model.weights()[c] * ridge / 2.0 * trace_of_inverse(covariance)
            })
            .sum();
        let gap = model.lower_bound(&stats) - model.entropy_sum(&stats).total();
        assert_close(gap, correction, 1e-12, name);
        assert!(gap > 0.01);
    }
}

fn trace_of_inverse(covariance: &[f64]) -> f64 {
    match covariance.len() {
        1 => DIM as f64 / covariance[0],
        3 => covariance.iter().map(|v| 1.0 / v).sum(),
        _ => {
            let m = |i: usize, j: usize| covariance[3 * (i % 3) + j % 3];
            let minor =
                |i: usize| m(i + 1, i + 1) * m(i + 2, i + 2) - m(i + 1, i + 2) * m(i + 2, i + 1);
            let determinant: f64 = (0..3)
                .map(|j| m(0, j) * (m(1, j + 1) * m(2, j + 2) - m(1, j + 2) * m(2, j + 1)))
                .sum();
            (0..3).map(minor).sum::<f64>() / determinant
        }
    }
}

/// Section 1.3: `L(Θ_t) ≤ ES(q_t, Θ_{t+1}) ≤ L(Θ_{t+1})`, and the identity holds in every iteration of a fit.
#[test]
fn entropy_sums_stand_between_log_likelihoods_in_every_iteration() {
    let executor = Executor::new(Some(2)).unwrap();
    for name in families() {
        let x = points_of(&start(name), 500, 5);
        let points = Points::from_rows(&x, DIM).unwrap();
        for posterior in [Posterior::Exact, Posterior::Hard] {
            let config = Config::default()
                .max_iter(30)
                .tol(0.0)
                .regularization(Regularization { reg_covar: Some(0.0), ..Default::default() });
            let family = example_family(name, DIM);
            let spec = MixtureSpec::new(family, COMPONENTS).with_posterior(posterior);
            let fit = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
            if fit.history.records.len() < 2 {
                is_fixed_point(&fit.model, &points, &config, name);
            }
            for pair in fit.history.records.windows(2) {
                assert!(pair[0].gap().abs() < 1e-10, "{name} gap {}", pair[0].gap());
                assert!(pair[0].delta() > -1e-12, "{name} delta {}", pair[0].delta());
                if pair[0].events.iter().any(Event::is_repair) {
                    continue; // not an M-step: the bound may fall
                }
                let rise = pair[1].log_likelihood - pair[0].entropy_sum.total();
                assert!(
                    rise > -1e-12,
                    "{name}: the next log-likelihood is below the entropy sum by {rise:e}"
                );
            }
        }
    }
}

/// A fit that ends in its first iteration must have begun where nothing changes: then another one changes no bit that
/// matters, and the entropy sum, the bound and the log-likelihood (or its classification form) are one.
fn is_fixed_point(model: &Mixture, points: &Points<'_, f64>, config: &Config, name: &str) {
    let config = config.clone().max_iter(1);
    let executor = Executor::new(Some(1)).unwrap();
    let again = em::fit(model, points, &executor, &config, &mut Silent).unwrap();
    let record = again.last().unwrap();
    assert!(record.delta().abs() < 1e-13, "{name}: delta {:e}", record.delta());
    let flat = |model: &Mixture| [model.parameters().components.concat(), model.weights().to_vec()];
    for (after, before) in flat(&again.model).concat().iter().zip(flat(model).concat()) {
        assert_close(*after, before, 1e-13, name);
    }
}

/// Section 1.3: after an exact E- and M-step
/// `ES - L(Θ_t) = KL(π'‖π) + Σ_c π'_c KL(p'_c‖p_c)`, here for spherical Gaussians.
#[test]
fn delta_is_the_divergence_of_the_step() {
    let x = clusters(400, DIM, COMPONENTS, 1.0, 6);
    let points = Points::from_rows(&x, DIM).unwrap();
    let old = start("gaussian-spherical");
    let config = Config::default()
        .max_iter(1)
        .regularization(Regularization { reg_covar: Some(0.0), ..Default::default() });
    let executor = Executor::new(Some(1)).unwrap();
    let fit = em::fit(&old, &points, &executor, &config, &mut Silent).unwrap();
    let (new, mut divergence) = (&fit.model, 0.0);
    for c in 0..COMPONENTS {
        let (a, b) = (new.theta(c).component, old.theta(c).component);
        let distance: f64 = (0..DIM).map(|d| (a[d] - b[d]).powi(2)).sum();
        let (v, u, d) = (a[DIM], b[DIM], DIM as f64);
        let kl = 0.5 * (d * (u / v).ln() + d * v / u - d + distance / u);
        divergence += new.weights()[c] * ((new.weights()[c] / old.weights()[c]).ln() + kl);
    }
    assert_close(fit.last().unwrap().delta(), divergence, 1e-12, "delta");
    assert!(divergence > 0.01);
}
