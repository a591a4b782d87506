//! Points of many dimensions, projected on the plane that shows their components best.

use super::Cloud;
use crate::linalg::symmetric_eigen;

/// Dimensions whose covariances within components are taken together; of more, variances alone.
const MOST_JOINT: usize = 256;

/// Projects points on the two leading discriminant directions: those in which means of components are farthest apart, in units of
/// the standard deviation within components. Where there are fewer, directions of large variance follow.
pub(super) fn on_discriminants(cloud: &Cloud) -> Cloud {
    let directions = directions(cloud);
    let along = |i: usize, direction: &Vec<f64>| -> f64 {
        cloud
            .point(i)
            .iter()
            .zip(direction)
            .map(|(x, v)| if x.is_nan() { 0.0 } else { x * v })
            .sum()
    };
    let points = (0..cloud.len()).flat_map(|i| directions.iter().map(move |v| (i, v)));
    Cloud {
        names: vec!["first discriminant".to_owned(), "second discriminant".to_owned()],
        points: points.map(|(i, direction)| along(i, direction)).collect(),
        posteriors: cloud.posteriors.clone(),
        n_components: cloud.n_components,
    }
}

fn directions(cloud: &Cloud) -> [Vec<f64>; 2] {
    let (n, dim, n_components) = (cloud.len(), cloud.names.len(), cloud.n_components);
    let value =
        |i: usize, d: usize| Some(cloud.point(i)[d]).filter(|x| x.is_finite()).unwrap_or(0.0);
    let (mut masses, mut means) = (vec![0.0; n_components], vec![vec![0.0; dim]; n_components]);
    for i in 0..n {
        for (c, &r) in cloud.posterior(i).iter().enumerate() {
            masses[c] += r;
            (0..dim).for_each(|d| means[c][d] += r * value(i, d));
        }
    }
    for (mean, mass) in means.iter_mut().zip(&masses) {
        mean.iter_mut().for_each(|sum| *sum /= mass.max(f64::MIN_POSITIVE));
    }
    let total: f64 = masses.iter().sum();
    let centre: Vec<f64> = (0..dim)
        .map(|d| means.iter().zip(&masses).map(|(mean, mass)| mean[d] * mass).sum::<f64>() / total)
        .collect();

    // Whitening within components: W = Q Λ Q', and the directions T = Q Λ^(-1/2).
    let is_joint = dim <= MOST_JOINT;
    let mut within = vec![0.0; dim * dim];
    for i in 0..n {
        let best = cloud.label(i).0;
        let rest: Vec<f64> = (0..dim).map(|d| value(i, d) - means[best][d]).collect();
        for a in 0..dim {
            let others = if is_joint { 0..dim } else { a..a + 1 };
            others.for_each(|b| within[a * dim + b] += rest[a] * rest[b] / n as f64);
        }
    }
    let Some((variances, vectors)) = symmetric_eigen(&within, dim) else { return axes(dim) };
    let largest = variances.iter().copied().fold(0.0, f64::max);
    if largest <= 0.0 {
        return axes(dim);
    }
    // Directions without variance would have all the weight.
    let scales: Vec<f64> = variances.iter().map(|v| v.max(1e-3 * largest).sqrt()).collect();
    let to_white = |x: &dyn Fn(usize) -> f64| -> Vec<f64> {
        (0..dim)
            .map(|k| (0..dim).map(|d| vectors[(d, k)] * x(d)).sum::<f64>() / scales[k])
            .collect()
    };
    let mut between = vec![0.0; dim * dim];
    for (mean, mass) in means.iter().zip(&masses) {
        let white = to_white(&|d| mean[d] - centre[d]);
        for a in 0..dim {
            (0..dim).for_each(|b| between[a * dim + b] += mass / total * white[a] * white[b]);
        }
    }
    for k in 0..dim {
        between[k * dim + k] += 1e-6 * variances[k] / largest;
    }
    let Some((_, leading)) = symmetric_eigen(&between, dim) else { return axes(dim) };
    [1, 2].map(|place| {
        let white = leading.col(dim - place);
        (0..dim).map(|d| (0..dim).map(|k| vectors[(d, k)] * white[k] / scales[k]).sum()).collect()
    })
}

fn axes(dim: usize) -> [Vec<f64>; 2] {
    [0, 1].map(|axis| (0..dim).map(|d| f64::from(d == axis)).collect())
}
