//! Trains the cells of an index for vector search, and compares labels with soft assignments to several cells.
//!
//! `cargo run --release --example coarse_quantizer [VECTORS.fvecs COMPONENTS [OUTPUT.npy]]`
//!
//! An inverted file keeps each vector in the list of its nearest cell, and a query looks into the lists of its nearest cells, the
//! *probes*. Vectors between cells are missed. Truncated posteriors say which vectors these are: a vector whose posterior is spread over
//! several components goes into the list of each. Without arguments, the vectors are patches of a photograph. Writes the means of the
//! components as an array for other programs.

use entropysum::data::{self, DataSource, Dtype, NpyWriter, OpenOptions};
use entropysum::family::registry;
use entropysum::model::{Posterior, TruncatedSearch};
use entropysum::{Config, Executor, Mixture, MixtureSpec, Points, Silent, em, inference};
use std::error::Error;
use std::path::Path;

/// Every so many vectors one is a query, and is not learned from.
const QUERY_EVERY: usize = 50;
/// Components with at least this part of the posterior get the vector in their list.
const SHARE: f64 = 0.1;
const PROBES: [usize; 4] = [1, 2, 4, 8];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (all, dim, n_components) = match &arguments[..] {
        [path, components, ..] => {
            let source = data::open::<f32>(path, &OpenOptions::default())?;
            let points = data::load(&*source)?;
            let values =
                points.view().row_iter().flat_map(|row| row.iter().copied().collect::<Vec<_>>());
            (values.collect(), source.dim(), components.parse()?)
        }
        _ => {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            (patches(&root.join("data/china.npy"))?, 16, 600)
        }
    };
    let (mut queries, mut base): (Vec<f32>, Vec<f32>) = (Vec::new(), Vec::new());
    for (i, vector) in all.chunks_exact(dim).enumerate() {
        if i % QUERY_EVERY == 0 { &mut queries } else { &mut base }.extend_from_slice(vector);
    }
    let (base, queries) = (Points::from_rows(&base, dim)?, Points::from_rows(&queries, dim)?);
    println!("{} vectors of dimension {dim}, {n_components} cells", base.len());

    let executor = Executor::new(None)?;
    let config = Config::default().max_iter(20);
    let fit = |search: TruncatedSearch| {
        // Cells of one size: an index asks for the nearest centre.
        let family = registry::build("gaussian-tied-spherical", dim)?;
        let spec =
            MixtureSpec::new(family, n_components).with_posterior(Posterior::Truncated(search));
        em::fit(&spec, &base, &executor, &config, &mut Silent)
    };
    // A set of a single component is a label: k-means by few candidates.
    let hard = fit(TruncatedSearch::default().states(1))?;
    let soft = fit(TruncatedSearch::default())?;
    for (name, fit) in [("labels", &hard), ("posteriors", &soft)] {
        let loss = fit.truncation_loss.expect("posteriors are truncated");
        println!(
            "{name}: {} iterations in {:.2} s, the bound is {:.4} nats below the log-likelihood",
            fit.history.records.len(),
            fit.seconds,
            loss.loss
        );
        assert!(loss.loss >= -1e-3);
    }

    let nearest = nearest_neighbours(&base, &queries);
    let by_label = lists(&hard.model, &base, &executor, 1.0)?;
    let by_share = lists(&soft.model, &base, &executor, SHARE)?;
    let copies = by_share.iter().map(Vec::len).sum::<usize>() as f64 / base.len() as f64;
    println!("a vector stands in {copies:.2} lists by posteriors; recall of the nearest vector:");
    println!("probes  labels  posteriors");
    for probes in PROBES {
        let of = |model: &Mixture, lists: &[Vec<u32>]| {
            recall(model, lists, &queries, &nearest, probes, &executor)
        };
        let (labels, shares) = (of(&hard.model, &by_label)?, of(&soft.model, &by_share)?);
        println!("{probes:6} {labels:7.3} {shares:11.3}");
        assert!(shares > labels - 0.02, "soft lists hold more vectors near their borders");
    }

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(&folder)?;
    let output = arguments.get(2).map_or(folder.join("cells.npy"), Into::into);
    let means: Vec<f32> =
        soft.model.parameter("means").expect("Gaussians").iter().map(|&mean| mean as f32).collect();
    let mut file = NpyWriter::create(&output, Dtype::F32, Some(dim))?;
    file.write(&means)?;
    file.finish()?;
    println!("wrote {}", output.display());
    Ok(())
}

/// Patches of 4 × 4 grey pixels of a photograph.
fn patches(photograph: &Path) -> Result<Vec<f32>, Box<dyn Error>> {
    const WIDTH: usize = 640;
    let file = data::open::<f32>(photograph, &OpenOptions::default())?;
    let pixels = data::load(&*file)?;
    let grey: Vec<f32> =
        pixels.view().row_iter().map(|row| row.iter().sum::<f32>() / 3.0).collect();
    let height = grey.len() / WIDTH;
    let mut values = Vec::new();
    for y in (0..height - 3).step_by(3) {
        for x in (0..WIDTH - 3).step_by(3) {
            for row in y..y + 4 {
                values.extend_from_slice(&grey[row * WIDTH + x..][..4]);
            }
        }
    }
    Ok(values)
}

/// Finds the nearest base vector of each query, by looking at all.
fn nearest_neighbours(base: &Points<'_, f32>, queries: &Points<'_, f32>) -> Vec<u32> {
    let base: Vec<Vec<f32>> =
        base.view().row_iter().map(|row| row.iter().copied().collect()).collect();
    let nearest = |query: &[f32]| {
        let distance =
            |vector: &Vec<f32>| vector.iter().zip(query).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        let by_distance =
            |a: &usize, b: &usize| distance(&base[*a]).total_cmp(&distance(&base[*b]));
        (0..base.len()).min_by(by_distance).unwrap_or(0) as u32
    };
    let rows = queries.view().row_iter().map(|row| row.iter().copied().collect::<Vec<_>>());
    rows.map(|query| nearest(&query)).collect()
}

/// Puts each vector into the lists of the components with enough of its posterior; the largest always counts.
fn lists(
    model: &Mixture,
    base: &Points<'_, f32>,
    executor: &Executor,
    share: f64,
) -> entropysum::Result<Vec<Vec<u32>>> {
    let n_components = model.n_components();
    let mut lists = vec![Vec::new(); n_components];
    let model = model.clone().with_posterior(Posterior::Exact);
    inference::predict_proba(&model, base, executor, |first, posteriors| {
        for (i, row) in posteriors.chunks_exact(n_components).enumerate() {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for (c, &q) in row.iter().enumerate() {
                if q == largest || q >= share {
                    lists[c].push((first as usize + i) as u32);
                }
            }
        }
        Ok(())
    })?;
    Ok(lists)
}

/// Returns the part of the queries whose nearest vector is in the lists of their most probable components.
fn recall(
    model: &Mixture,
    lists: &[Vec<u32>],
    queries: &Points<'_, f32>,
    nearest: &[u32],
    probes: usize,
    executor: &Executor,
) -> entropysum::Result<f64> {
    let n_components = model.n_components();
    let model = model.clone().with_posterior(Posterior::Exact);
    let mut found = 0;
    inference::predict_proba(&model, queries, executor, |first, posteriors| {
        for (i, row) in posteriors.chunks_exact(n_components).enumerate() {
            let mut order: Vec<usize> = (0..n_components).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            let wanted = nearest[first as usize + i];
            let is_there = |&c: &usize| lists[c].binary_search(&wanted).is_ok();
            found += usize::from(order[..probes].iter().any(is_there));
        }
        Ok(())
    })?;
    Ok(found as f64 / nearest.len() as f64)
}
