//! Draws clouds of points.

use super::{Cloud, Densities};
use kuva::plot::{BarPlot, LinePlot, ScatterPlot};
use kuva::render::figure::Figure;
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;

/// Okabe and Ito's colours, which all eyes tell apart, then darker and lighter ones.
const COLOURS: [&str; 14] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6a00", "#4b4b4b",
    "#8c1d40", "#00a5a5", "#6a3d9a", "#8fbf3f", "#a0522d", "#1b3a5c",
];

/// Pixels of a side of a panel: of a single panel, and of each of several.
const SIDE: f64 = 520.0;
const SMALL_SIDE: f64 = 260.0;

fn colour(c: usize) -> &'static str {
    COLOURS[c % COLOURS.len()]
}

/// Draws each pair of dimensions: points in the colours of their components, small where that is uncertain, with ellipses of one and
/// two standard deviations of each component.
pub(super) fn pairs(title: &str, cloud: &Cloud) -> Figure {
    let dim = cloud.names.len();
    let single = dim == 2;
    let components = cloud.components();
    let (mut structure, mut plots, mut layouts) = (Vec::new(), Vec::new(), Vec::new());
    // The lower triangle: a column for each dimension but the last, a row for each but the first.
    let side = dim - 1;
    for row in 1..dim {
        for column in 0..row {
            structure.push(vec![(row - 1) * side + column]);
            let has_legend = column == 0 && row == 1;
            plots.push(pair(cloud, &components, [column, row], has_legend, single));
            let mut layout = Layout::auto_from_plots(plots.last().expect("it was pushed"))
                .with_show_grid(false)
                .with_label_size(if single { 14 } else { 11 })
                .with_tick_size(if single { 12 } else { 9 })
                .with_body_size(11);
            if row == dim - 1 {
                layout = layout.with_x_label(cloud.names[column].as_str());
            }
            if column == 0 {
                layout = layout.with_y_label(cloud.names[row].as_str());
            }
            layouts.push(layout);
        }
    }
    let size = if single { SIDE } else { SMALL_SIDE };
    Figure::new(side, side)
        .with_structure(structure)
        .with_cell_size(size, size)
        .with_plots(plots)
        .with_layouts(layouts)
        .with_title(title)
        .with_title_size(15)
        .with_shared_legend_right_top()
}

fn pair(
    cloud: &Cloud,
    components: &[(usize, f64)],
    [x, y]: [usize; 2],
    has_legend: bool,
    is_large: bool,
) -> Vec<Plot> {
    let mut plots = Vec::new();
    let size = if is_large { 3.2 } else { 1.8 };
    let total: f64 = components.iter().map(|it| it.1).sum();
    for &(c, mass) in components {
        let own = (0..cloud.len()).filter(|&i| cloud.label(i).0 == c);
        let known = own.filter(|&i| cloud.point(i)[x].is_finite() && cloud.point(i)[y].is_finite());
        let (mut points, mut sizes) = (Vec::new(), Vec::new());
        for i in known {
            points.push((cloud.point(i)[x], cloud.point(i)[y]));
            // A point that could as well be of another component has half the size.
            sizes.push(size * (0.5 + 0.5 * cloud.label(i).1.powi(2)));
        }
        if points.is_empty() {
            continue;
        }
        let mut scatter = ScatterPlot::new()
            .with_data(points)
            .with_color(colour(c))
            .with_sizes(sizes)
            .with_marker_opacity(0.55);
        if has_legend {
            scatter = scatter.with_legend(format!("component {c}: {:.0} %", 100.0 * mass / total));
        }
        plots.push(Plot::Scatter(scatter));
    }
    for &(c, _) in components {
        for (deviations, width) in [(1.0, 1.8), (2.0, 1.0)] {
            if let Some(outline) = ellipse(cloud, c, [x, y], deviations) {
                plots.push(Plot::Line(
                    LinePlot::new()
                        .with_data(outline)
                        .with_color(colour(c))
                        .with_stroke_width(width),
                ));
            }
        }
    }
    plots
}

/// Returns the ellipse of so many standard deviations about the mean of a component, by the points and their posteriors.
fn ellipse(
    cloud: &Cloud,
    c: usize,
    [x, y]: [usize; 2],
    deviations: f64,
) -> Option<Vec<(f64, f64)>> {
    let points = || {
        (0..cloud.len())
            .map(|i| (cloud.posterior(i)[c], cloud.point(i)[x], cloud.point(i)[y]))
            .filter(|(_, x, y)| x.is_finite() && y.is_finite())
    };
    let mass: f64 = points().map(|it| it.0).sum();
    let mean =
        |of: fn(&(f64, f64, f64)) -> f64| points().map(|it| it.0 * of(&it)).sum::<f64>() / mass;
    let (mx, my) = (mean(|it| it.1), mean(|it| it.2));
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (r, x, y) in points() {
        xx += r * (x - mx).powi(2) / mass;
        xy += r * (x - mx) * (y - my) / mass;
        yy += r * (y - my).powi(2) / mass;
    }
    // The factor of the covariance: [a 0; b d].
    let a = xx.sqrt();
    let b = if a > 0.0 { xy / a } else { 0.0 };
    let d = (yy - b * b).max(0.0).sqrt();
    let is_drawn = mass > 1e-6 && (a > 0.0 || d > 0.0) && [a, b, d].iter().all(|it| it.is_finite());
    is_drawn.then(|| {
        let at = |k: usize| std::f64::consts::TAU * k as f64 / 72.0;
        let point = |t: f64| {
            let (s, c) = t.sin_cos();
            (mx + deviations * a * c, my + deviations * (b * c + d * s))
        };
        (0..=72).map(|k| point(at(k))).collect()
    })
}

/// Dimensions with bars: those whose means differ most.
const MOST_BARRED: usize = 24;

/// Draws the mean of each dimension in each component, as bars: the rates of counts.
pub(super) fn rates(title: &str, cloud: &Cloud) -> Figure {
    let components = cloud.components();
    let total: f64 = components.iter().map(|it| it.1).sum();
    let means: Vec<Vec<f64>> = components.iter().map(|&(c, _)| cloud.mean(c)).collect();
    let spread = |d: usize| {
        let of = means.iter().map(|mean| mean[d]).filter(|mean| mean.is_finite());
        let (least, largest) = of.fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(x), b.max(x)));
        largest - least
    };
    let mut shown: Vec<usize> = (0..cloud.names.len()).collect();
    shown.sort_by(|&a, &b| spread(b).total_cmp(&spread(a)));
    shown.truncate(MOST_BARRED);
    shown.sort_unstable();
    let mut bars = BarPlot::new();
    for &d in &shown {
        let of = components.iter().zip(&means).filter(|(_, mean)| mean[d].is_finite());
        let of = of.map(|(&(c, _), mean)| (mean[d], colour(c)));
        bars = bars.with_group(cloud.names[d].as_str(), of);
    }
    let legend =
        |&(c, mass): &(usize, f64)| format!("component {c}: {:.0} %", 100.0 * mass / total);
    let legend: Vec<String> = components.iter().map(legend).collect();
    let plots = vec![Plot::Bar(bars.with_legend(legend.iter().map(String::as_str).collect()))];
    let left_out = match cloud.names.len() - shown.len() {
        0 => String::new(),
        more => format!("; {more} whose means differ less are left out"),
    };
    let layout = Layout::auto_from_plots(&plots)
        .with_title(title)
        .with_title_size(15)
        .with_x_label(format!("dimension{left_out}"))
        .with_y_label("mean")
        .with_show_grid(false)
        .with_label_size(14)
        .with_tick_size(11)
        .with_body_size(12);
    let width = (120.0 + 14.0 * (shown.len() * (components.len() + 2)) as f64).clamp(640.0, 1600.0);
    Figure::new(1, 1)
        .with_cell_size(width, 440.0)
        .with_plots(vec![plots])
        .with_layouts(vec![layout])
}

/// Draws the histogram of one dimension, with the density of each component and of all. Counts have a bar for each number.
pub(super) fn histogram(title: &str, cloud: &Cloud, densities: &Densities) -> Figure {
    let values: Vec<f64> = cloud.points.iter().copied().filter(|value| value.is_finite()).collect();
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    let largest = values.iter().copied().fold(f64::MIN, f64::max);
    let is_counts = cloud.is_whole() && largest - least < 400.0;
    let (start, width, bins) = match is_counts {
        true => (least - 0.5, 1.0, (largest - least) as usize + 1),
        false => {
            let bins = ((values.len() as f64).sqrt() as usize).clamp(10, 60);
            (least, ((largest - least) / bins as f64).max(f64::MIN_POSITIVE), bins)
        }
    };
    let mut counts = vec![0.0; bins];
    for value in &values {
        counts[(((value - start) / width) as usize).min(bins - 1)] += 1.0;
    }
    let mut outline = vec![(start, 0.0)];
    for (bin, count) in counts.iter().enumerate() {
        let height = count / (values.len() as f64 * width);
        let left = start + width * bin as f64;
        outline.extend([(left, height), (left + width, height)]);
    }
    outline.push((start + width * bins as f64, 0.0));

    let mut plots = vec![Plot::Line(
        LinePlot::new()
            .with_data(outline)
            .with_color("#9a9a9a")
            .with_stroke_width(0.8)
            .with_fill()
            .with_fill_opacity(0.3)
            .with_legend("points"),
    )];
    let n_components = cloud.n_components;
    let curve = |of: &dyn Fn(&[f64]) -> f64| -> Vec<(f64, f64)> {
        let rows = densities.values.chunks(n_components).map(of);
        densities.at.iter().copied().zip(rows).filter(|it| it.1.is_finite()).collect()
    };
    for (c, _) in cloud.components() {
        let points = curve(&|row| row[c]);
        if is_counts {
            let markers = ScatterPlot::new().with_data(points.iter().copied());
            plots.push(Plot::Scatter(markers.with_color(colour(c)).with_size(3.0)));
        }
        plots.push(Plot::Line(
            LinePlot::new()
                .with_data(points)
                .with_color(colour(c))
                .with_stroke_width(2.0)
                .with_legend(format!("component {c}")),
        ));
    }
    plots.push(Plot::Line(
        LinePlot::new()
            .with_data(curve(&|row| row.iter().sum()))
            .with_color("#000000")
            .with_stroke_width(1.2)
            .with_dashed()
            .with_legend("all"),
    ));
    let y_label = if is_counts { "share of points" } else { "density" };
    let layout = Layout::auto_from_plots(&plots)
        .with_title(title)
        .with_title_size(15)
        .with_x_label(cloud.names[0].as_str())
        .with_y_label(y_label)
        .with_show_grid(false)
        .with_label_size(14)
        .with_tick_size(12)
        .with_body_size(12);
    Figure::new(1, 1)
        .with_cell_size(760.0, 420.0)
        .with_plots(vec![plots])
        .with_layouts(vec![layout])
}
