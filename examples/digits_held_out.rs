//! Sigmoid belief networks and Bernoulli mixtures on binarised digits that neither has seen.
//!
//! `cargo run --release --example digits_held_out [LATENTS STATES [DATA WIDTH OUT.png [RIDGE ...]]]`
//!
//! Of every five points three are for learning, the fourth (validation) chooses among ridges, pseudo-counts and numbers of
//! components, and the fifth (test) was used for nothing before it is scored. A pixel that is the same in all points for
//! learning says nothing of the others; all models give its other value the probability ½ / (N + 1), and learn from the pixels
//! that vary. Mixtures are smoothed after a fit: `p ← (N_c p + a) / (N_c + 2 a)`, with the pseudo-count `a` that suits validation.
//!
//! Draws the weights of the network that was chosen, the latents that are on most often first.

use entropysum::data::{self, OpenOptions};
use entropysum::em::{self, Config, MixtureSpec, SbnSpec};
use entropysum::expert::model::GenerativeModel;
use entropysum::expert::write_features;
use entropysum::family::{Parameters, registry};
use entropysum::model::{LatentPosterior, Mixture, SigmoidBeliefNet};
use entropysum::{Executor, Points, Silent, inference};
use std::path::Path;

/// Ridges to choose from where none are given.
const RIDGES: [f64; 5] = [0.0, 1e-5, 1e-4, 1e-3, 1e-2];
const PSEUDO_COUNTS: [f64; 5] = [0.03, 0.1, 0.3, 1.0, 3.0];

/// Points for one purpose.
struct Part {
    /// Pixels that vary in the points for learning.
    points: Points<'static, f64>,
    /// Mean log-probability of the other pixels.
    constant: f64,
}

/// Mean log-densities of the points of the three parts.
type Scores = [f64; 3];

fn main() -> entropysum::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |k: usize, default| args.get(k).map_or(default, |a| a.parse().expect("a number"));
    let (latents, states, width) = (number(0, 12), number(1, 8), number(3, 8));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = args.get(2).map_or(root.join("data/digits_binary.npy"), Into::into);
    std::fs::create_dir_all(root.join("target"))?;
    let out = args.get(4).map_or(root.join("target/digits_held_out.png"), Into::into);
    let typed = args.iter().skip(5).map(|a| a.parse().expect("a ridge"));
    let ridges: Vec<f64> = if args.len() > 5 { typed.collect() } else { RIDGES.to_vec() };

    let all = data::load::<f64>(&*data::open(path, &OpenOptions::default())?)?;
    let (parts, varies) = split(&all)?;
    let dim = varies.iter().filter(|&&it| it).count();
    println!("{} pixels, {dim} of them vary", varies.len());
    let executor = Executor::new(None)?;
    let config = Config::default().max_iter(100).tol(1e-4);
    let score_net = |net: &SigmoidBeliefNet| -> entropysum::Result<Scores> {
        scores(&parts, |points| Ok(inference::score(net, points, &executor)?.log_likelihood))
    };

    println!("{:34} {:>9} {:>9} {:>9}", "", "learning", "choosing", "test");
    // As many parameters: H + D (H + 1) of the network.
    let equal = ((latents + dim * (latents + 1) + 1) as f64 / (dim + 1) as f64).round() as usize;
    let mut of_mixture: Option<Scores> = None;
    for components in [equal, equal / 2, equal / 4].into_iter().filter(|&c| c > 0) {
        let spec = MixtureSpec::new(registry::build("bernoulli", dim)?, components);
        let config = config.clone().tol(1e-5).n_init(5).max_iter(300);
        let fit = em::fit(&spec, &parts[0].points, &executor, &config, &mut Silent)?;
        let mut best: Option<(f64, Scores)> = None;
        for count in PSEUDO_COUNTS {
            let model = smoothed(&fit.model, parts[0].points.view().nrows(), count)?;
            let scores = scores(&parts, |points| {
                Ok(inference::score(&model, points, &executor)?.log_likelihood)
            })?;
            if best.is_none_or(|(_, found)| scores[1] > found[1]) {
                best = Some((count, scores));
            }
        }
        let (count, scores) = best.expect("there are pseudo-counts");
        show(&format!("mixture of {components}, pseudo-count {count}"), &scores);
        if of_mixture.is_none_or(|found| scores[1] > found[1]) {
            of_mixture = Some(scores);
        }
    }
    let mut best: Option<(SigmoidBeliefNet, Scores)> = None;
    for ridge in ridges {
        let spec = SbnSpec { ridge, ..SbnSpec::new(latents) }
            .with_posterior(LatentPosterior::Truncated { states });
        let fit = em::fit(&spec, &parts[0].points, &executor, &config, &mut Silent)?;
        let scores = score_net(&fit.model)?;
        let (iterations, seconds) = (fit.history.records.len(), fit.seconds);
        show(&format!("sbn, ridge {ridge:e}"), &scores);
        println!("    {iterations} iterations, {seconds:.0} s");
        if best.as_ref().is_none_or(|(_, found)| scores[1] > found[1]) {
            best = Some((fit.model, scores));
        }
    }
    let (net, of_net) = best.expect("there are ridges");
    let of_mixture = of_mixture.expect("there are mixtures");
    println!("chosen: sbn {:.3} (a lower bound), mixture {:.3} on test", of_net[2], of_mixture[2]);

    let weights = net.parameter("weights").expect("every network has weights");
    let mut order: Vec<usize> = (0..latents).collect();
    order.sort_by(|&a, &b| net.prior()[b].total_cmp(&net.prior()[a]));
    let tile = |&h: &usize| {
        let mut column = weights.iter().skip(h).step_by(latents);
        let mut value = |&varies: &bool| if varies { column.next().copied() } else { None };
        varies.iter().map(|it| value(it).unwrap_or(0.0)).collect()
    };
    let features: Vec<Vec<f64>> = order.iter().map(tile).collect();
    write_features(&out, &features, width, varies.len() / width)?;
    println!("{}", out.display());
    // On the data in this repository a belief network describes the points to choose by better than any of the mixtures, and those of the
    // test about as well; its score is a lower bound.
    assert!(args.len() > 2 || of_net[1] > of_mixture[1] && of_net[2] > of_mixture[2] - 0.2);
    Ok(())
}

/// Points for learning, choosing and testing, and which pixels vary in the first.
fn split(all: &Points<'_, f64>) -> entropysum::Result<([Part; 3], Vec<bool>)> {
    let purpose = |i: usize| (i % 5).saturating_sub(2);
    let rows = |part: usize| {
        all.view().row_iter().enumerate().filter(move |(i, _)| purpose(*i) == part).map(|it| it.1)
    };
    let first: Vec<f64> = rows(0).next().expect("points").iter().copied().collect();
    let same = |d: usize| rows(0).all(|row| row[d] == first[d]);
    let varies: Vec<bool> = (0..first.len()).map(|d| !same(d)).collect();
    let n = rows(0).count() as f64;
    let (common, other) = ((1.0 - 0.5 / (n + 1.0)).ln(), (0.5 / (n + 1.0)).ln());
    let part = |part: usize| -> entropysum::Result<Part> {
        let (mut values, mut constant, mut n) = (Vec::new(), 0.0, 0);
        for row in rows(part) {
            n += 1;
            for (d, &x) in row.iter().enumerate() {
                match varies[d] {
                    true => values.push(x),
                    false => constant += if x == first[d] { common } else { other },
                }
            }
        }
        let dim = varies.iter().filter(|&&it| it).count();
        Ok(Part { points: Points::owned(values, dim)?, constant: constant / f64::from(n) })
    };
    Ok(([part(0)?, part(1)?, part(2)?], varies))
}

fn scores(
    parts: &[Part; 3],
    score: impl Fn(&Points<'static, f64>) -> entropysum::Result<f64>,
) -> entropysum::Result<Scores> {
    let mut scores = [0.0; 3];
    for (to, part) in scores.iter_mut().zip(parts) {
        *to = score(&part.points)? + part.constant;
    }
    Ok(scores)
}

fn show(name: &str, scores: &Scores) {
    println!("{name:34} {:9.3} {:9.3} {:9.3}", scores[0], scores[1], scores[2]);
}

/// A mixture with pseudo-counts for zeros and ones in each component.
fn smoothed(mixture: &Mixture, points: usize, count: f64) -> entropysum::Result<Mixture> {
    let weights = mixture.weights().to_vec();
    let probabilities = mixture.parameter("probability").expect("Bernoulli mixtures have it");
    let components = probabilities
        .chunks(probabilities.len() / weights.len())
        .zip(&weights)
        .map(|(row, weight)| {
            let n = points as f64 * weight;
            row.iter().map(|p| (n * p + count) / (n + 2.0 * count)).collect()
        })
        .collect();
    let family = registry::build("bernoulli", mixture.dim())?;
    Mixture::new(family, weights, Parameters { components, shared: vec![] })
}
