//! The distance of neighbouring values in each column, as rounding leaves it.

use super::DataSource;
use super::identity::{PLACES, points_at};
use crate::block::BlockBuf;
use crate::scalar::Scalar;
use std::ops::Range;

/// Points at a place, and values at most.
const POINTS: u64 = 256;
const VALUES: u64 = 1 << 16;

/// Distances below this part of the largest value come from rounding of sums, and count as none.
const SAME: f64 = 1e-9;

/// Different values that a column must have to tell how it is rounded. Two values may be a thousand apart and exact.
const DISTINCT: usize = 8;

/// Returns the smallest distance between different values of each column, in points at some places; 0 if there are few of these.
///
/// Whole numbers have 1, numbers with a decimal 0.1. Numbers that nobody has rounded come closer the more there are, so that the
/// square of their distance is nothing beside their variance. Places that cannot be read are passed over.
pub(crate) fn resolution<T: Scalar>(source: &dyn DataSource<T>) -> Vec<f64> {
    let dim = source.dim();
    let at_most = points_at_a_place(dim);
    let mut columns = vec![Vec::new(); dim];
    let mut buffer = BlockBuf::default();
    for place in 0..PLACES {
        let Range { start, end } = points_at(place, source.len(), at_most);
        let block = super::read(source, false, start, (end - start) as usize, &mut buffer);
        let Ok(block) = block else { continue };
        for (values, column) in columns.iter_mut().zip(block.points.col_iter()) {
            values.extend(column.iter().map(|x| x.to_f64()).filter(|x| x.is_finite()));
        }
    }
    columns.into_iter().map(smallest_distance).collect()
}

/// Returns the rows that the resolution looks at, by place.
pub(crate) fn rows_looked_at(dim: usize, len: u64) -> impl Iterator<Item = u64> {
    (0..PLACES).flat_map(move |place| points_at(place, len, points_at_a_place(dim)))
}

fn points_at_a_place(dim: usize) -> u64 {
    POINTS.min(VALUES / dim.max(1) as u64).max(1)
}

/// Returns the mean weight of points at some places: 1 if points have no weights.
pub(crate) fn mean_weight<T: Scalar>(source: &dyn DataSource<T>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    let mut buffer = BlockBuf::default();
    for place in 0..PLACES {
        let Range { start, end } = points_at(place, source.len(), POINTS);
        let block = super::read(source, false, start, (end - start) as usize, &mut buffer);
        let Ok(block) = block else { continue };
        let Some(weights) = block.weights else { return 1.0 };
        sum += weights.iter().sum::<f64>();
        count += weights.len() as f64;
    }
    if sum > 0.0 { sum / count } else { 1.0 }
}

fn smallest_distance(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let largest = values.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let distances = values.windows(2).map(|pair| pair[1] - pair[0]);
    let distances: Vec<f64> = distances.filter(|&it| it > SAME * largest).collect();
    match distances.len() + 1 >= DISTINCT {
        true => distances.into_iter().fold(f64::INFINITY, f64::min),
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Points;

    #[test]
    fn rounding_is_found_in_each_column() {
        let row = |i: u32| {
            let x = f64::from(i);
            [f64::from(i % 17), (x * 0.37).sin(), 7.0, 0.1 * f64::from(i % 9) + 0.2, f64::NAN]
        };
        let values: Vec<f64> = (0..10_000).flat_map(row).collect();
        let points = Points::from_rows(&values, 5).unwrap();
        let found = resolution(&points);
        assert_eq!((found[0], found[2], found[4]), (1.0, 0.0, 0.0));
        assert!(found[1] < 1e-4, "{}", found[1]);
        assert!((found[3] - 0.1).abs() < 1e-12);
        let narrow: Vec<f32> = values.iter().map(|&x| x as f32).collect();
        let narrow = resolution(&Points::from_rows(&narrow, 5).unwrap());
        assert!((narrow[3] - 0.1).abs() < 1e-6);
    }

    #[test]
    fn sources_of_any_length_are_looked_through() {
        for n in [0u32, 1, 7, 8, 255, 256, 257, 4096, 5000] {
            let values: Vec<f64> = (0..n).map(|i| 3.0 * f64::from(i)).collect();
            let found = resolution(&Points::from_rows(&values, 1).unwrap());
            assert_eq!(found, [if n >= 8 { 3.0 } else { 0.0 }], "{n}");
        }
    }
}
