//! Plots of the history of a fit.

use super::{History, IterRecord, bars};
use crate::error::{Error, Result};
use crate::picture::write_figure;
use kuva::plot::scatter::MarkerShape;
use kuva::plot::{LegendPosition, LinePlot, LineStyle, ScatterPlot};
use kuva::render::figure::Figure;
use kuva::render::layout::{ComputedLayout, Layout, TickFormat};
use kuva::render::plots::Plot;
use std::path::Path;
use std::sync::Arc;

/// Values of the lower panel are not drawn below this: a tenth of `f64`'s epsilon, where all is rounding.
const FLOOR: f64 = 1e-17;

/// Lines are thinned where that moves them by less than this part of the height of their panel: a fifth of a pixel.
const THINNING: f64 = 1.0 / 1500.0;

/// Lines of this many points or fewer show them.
const MAX_MARKERS: usize = 30;

/// Writes the history as SVG, or as PNG if the name ends in `.png`: above, entropy sum, lower bound and log-likelihood; below what separates
/// them.
///
/// Values at the same place belong to the same parameters: the log-likelihood of a record, which is that before its M-step, is drawn one
/// iteration earlier. Neither values that are not finite are drawn, nor gaps and deltas that are not positive. A single record has bars.
///
/// # Errors
/// [`Error::Config`] if there are no records, [`Error::Io`] if the file cannot be written.
///
/// ```
/// use entropysum::monitor::{History, plot};
///
/// let fault = plot::write_svg("empty.svg", &History::default(), "Nothing").unwrap_err();
/// assert_eq!(fault.to_string(), "empty.svg: a history without records cannot be plotted");
/// ```
pub fn write_svg(path: impl AsRef<Path>, history: &History, title: &str) -> Result<()> {
    let path = path.as_ref();
    use colour::{BLUE, GREEN, PURPLE, SKY, VERMILION};
    let figure = match &history.records[..] {
        [] => {
            let message =
                format!("{}: a history without records cannot be plotted", path.display());
            return Err(Error::Config(message));
        }
        [record] => bars::of_record(&shorten(title), record, [SKY, BLUE, VERMILION, PURPLE, GREEN]),
        _ => figure(title, &[monitors(history), differences(history)]),
    };
    write_figure(path, figure)
}

/// Names a line through points (x, y).
pub type Curve = (String, Vec<(f64, f64)>);

/// Writes curves over one pair of axes as SVG or PNG, the vertical one logarithmic.
///
/// # Errors
/// [`Error::Config`] if there is no point, [`Error::Io`] if the file cannot be written.
pub fn write_curves(
    path: impl AsRef<Path>,
    title: &str,
    [x_label, y_label]: [&str; 2],
    curves: &[Curve],
) -> Result<()> {
    write_panels(
        path,
        title,
        &[Axes { labels: [x_label, y_label], is_log: true, curves, marks: &[] }],
    )
}

/// Names points that stand out on curves.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Name in the legend.
    pub label: String,
    /// Points (x, y).
    pub points: Vec<(f64, f64)>,
    /// Whether they are open circles, and not stars.
    pub is_hollow: bool,
}

/// Holds a pair of axes and the curves between them.
#[derive(Clone, Copy, Debug)]
pub struct Axes<'a> {
    /// What is on the horizontal axis and on the vertical one.
    pub labels: [&'a str; 2],
    /// Whether the vertical axis is logarithmic.
    pub is_log: bool,
    /// The curves.
    pub curves: &'a [Curve],
    /// Points on them that stand out.
    pub marks: &'a [Mark],
}

impl Axes<'_> {
    fn panel(&self) -> Panel {
        let panel = Panel::new(self.labels[0], self.labels[1]);
        let mut panel = if self.is_log {
            panel.with_log_y(1e-12).with_legend(LegendPosition::InsideTopLeft)
        } else {
            panel
        };
        let colours = [colour::BLUE, colour::VERMILION, colour::GREEN, colour::PURPLE, colour::SKY];
        for (k, (label, points)) in self.curves.iter().enumerate() {
            let style =
                if k < colours.len() { LineStyle::Solid } else { LineStyle::Custom("6 3".into()) };
            panel = panel.with(Line::new(label, points.iter().copied()).styled(
                colours[k % colours.len()],
                2.0,
                style,
            ));
        }
        panel.marks = self.marks.to_vec();
        panel
    }
}

/// Writes pairs of axes as SVG or PNG, one below the other, with one scale of the horizontal axes.
///
/// # Errors
/// [`Error::Config`] if there is no point, [`Error::Io`] if the file cannot be written.
pub fn write_panels(path: impl AsRef<Path>, title: &str, axes: &[Axes<'_>]) -> Result<()> {
    let path = path.as_ref();
    if axes.iter().flat_map(|axes| axes.curves).all(|(_, points)| points.is_empty()) {
        return Err(Error::Config(format!("{}: there is nothing to plot", path.display())));
    }
    let panels: Vec<Panel> = axes.iter().map(Axes::panel).collect();
    write_figure(path, figure(title, &panels))
}

/// Colours of Okabe and Ito's palette, which all eyes tell apart.
mod colour {
    pub const BLUE: &str = "#0072b2";
    pub const SKY: &str = "#a6d8f5";
    pub const VERMILION: &str = "#d55e00";
    pub const GREEN: &str = "#009e73";
    pub const PURPLE: &str = "#b0588f";
}

fn monitors(history: &History) -> Panel {
    let line = |label: &str, shift: usize, value: fn(&IterRecord) -> f64| {
        let points = history.records.iter();
        Line::new(label, points.map(|r| ((r.iteration - shift.min(r.iteration)) as f64, value(r))))
    };
    // Entropy sum and lower bound coincide: one is drawn as a band behind the other.
    Panel::new("iteration", "nats per point")
        .with_legend(LegendPosition::InsideBottomRight)
        .with(line("lower bound", 0, |r| r.lower_bound).styled(colour::SKY, 7.0, LineStyle::Solid))
        .with(line("entropy sum", 0, |r| r.entropy_sum.total()).styled(
            colour::BLUE,
            2.0,
            LineStyle::Solid,
        ))
        .with(line("log-likelihood", 1, |r| r.log_likelihood).styled(
            colour::VERMILION,
            2.0,
            LineStyle::Custom("6 4".into()),
        ))
}

fn differences(history: &History) -> Panel {
    let line = |label: &str, value: fn(&IterRecord) -> f64| {
        Line::new(label, history.records.iter().map(|r| (r.iteration as f64, value(r))))
    };
    Panel::new("iteration", "nats per point")
        .with_log_y(FLOOR)
        .with_legend(LegendPosition::InsideTopRight)
        .with(line("delta = entropy sum − log-likelihood", IterRecord::delta).styled(
            colour::PURPLE,
            2.0,
            LineStyle::Solid,
        ))
        .with(line("|gap| = |lower bound − entropy sum|", |r| r.gap().abs()).styled(
            colour::GREEN,
            2.0,
            LineStyle::Custom("2 3".into()),
        ))
}

/// A line of a panel.
pub(crate) struct Line {
    label: String,
    points: Vec<(f64, f64)>,
    colour: &'static str,
    width: f64,
    style: LineStyle,
}

impl Line {
    /// A line through points, without those that are not finite or too large to compute with.
    pub(crate) fn new(label: &str, points: impl Iterator<Item = (f64, f64)>) -> Self {
        Self {
            label: label.into(),
            points: points.filter(|(x, y)| x.is_finite() && y.abs() < 1e300).collect(),
            colour: colour::BLUE,
            width: 2.0,
            style: LineStyle::Solid,
        }
    }

    /// The same line in another colour, width in pixels and style.
    pub(crate) fn styled(mut self, colour: &'static str, width: f64, style: LineStyle) -> Self {
        (self.colour, self.width, self.style) = (colour, width, style);
        self
    }
}

/// A pair of axes and the lines between them. Numbers on the horizontal axis are whole.
pub(crate) struct Panel {
    x_label: String,
    y_label: String,
    log_floor: Option<f64>,
    legend: LegendPosition,
    lines: Vec<Line>,
    marks: Vec<Mark>,
}

impl Panel {
    pub(crate) fn new(x_label: &str, y_label: &str) -> Self {
        Self {
            x_label: x_label.into(),
            y_label: y_label.into(),
            log_floor: None,
            legend: LegendPosition::InsideTopRight,
            lines: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// The same panel with a line on top of the others.
    pub(crate) fn with(mut self, line: Line) -> Self {
        self.lines.push(line);
        self
    }

    /// The same panel with a logarithmic vertical axis: values that are not positive are not drawn, values below
    /// `floor` are drawn there.
    pub(crate) fn with_log_y(mut self, floor: f64) -> Self {
        self.log_floor = Some(floor);
        self
    }

    /// The same panel with its legend elsewhere.
    pub(crate) fn with_legend(mut self, legend: LegendPosition) -> Self {
        self.legend = legend;
        self
    }

    fn points(&self, line: &Line) -> Vec<(f64, f64)> {
        match self.log_floor {
            None => line.points.clone(),
            // kuva's own logarithmic axes have no ticks below 1e-10.
            Some(floor) => {
                let positive = line.points.iter().filter(|(_, y)| *y > 0.0);
                positive.map(|&(x, y)| (x, y.max(floor).log10())).collect()
            }
        }
    }

    fn draw(&self, x: Axis) -> (Vec<Plot>, Layout) {
        let lines: Vec<_> = self.lines.iter().map(|line| (line, self.points(line))).collect();
        let has_markers = lines.iter().all(|(_, points)| points.len() <= MAX_MARKERS);
        let ys = Range::of(lines.iter().flat_map(|(_, points)| points).map(|point| point.1));
        let tolerance = THINNING * (ys.high - ys.low);
        let mut plots = Vec::new();
        for (line, points) in lines {
            let points = thinned(&points, tolerance);
            if has_markers {
                let markers = ScatterPlot::new().with_data(points.iter().copied());
                let size = 0.5 * line.width + 1.75;
                plots.push(Plot::Scatter(markers.with_color(line.colour).with_size(size)));
            }
            plots.push(Plot::Line(
                LinePlot::new()
                    .with_data(points)
                    .with_color(line.colour)
                    .with_stroke_width(line.width)
                    .with_line_style(line.style.clone())
                    .with_legend(line.label.as_str()),
            ));
        }
        for Mark { label, points, is_hollow } in &self.marks {
            let marks = ScatterPlot::new().with_data(points.iter().copied()).with_legend(label);
            plots.push(Plot::Scatter(match is_hollow {
                true => marks
                    .with_color("#000000")
                    .with_size(7.0)
                    .with_marker_opacity(0.0)
                    .with_marker_stroke_width(1.5),
                false => marks.with_color("#000000").with_size(8.0).with_marker(MarkerShape::Star),
            }));
        }

        // A legend at the top gets room of its own, since lines may be anywhere: of a panel that is about 260 pixels high.
        let rows = self.lines.len() + self.marks.len();
        let part = (20.0 * rows as f64 + 30.0) / 260.0;
        let above = match self.legend {
            LegendPosition::InsideBottomRight => 0.05,
            _ => (part / (1.0 - part.min(0.7))).max(0.35),
        };
        let (y, format) = match self.log_floor {
            None => {
                let y = ys.widened().padded(0.05, above).axis(|width| nice_step(width / 6.0));
                (y, linear_ticks(y))
            }
            Some(_) => (
                ys.decades().widened().padded(0.05, above).axis(|width| (width / 8.0).ceil()),
                TickFormat::Custom(Arc::new(power_of_ten)),
            ),
        };
        let mut layout = Layout::auto_from_plots(&plots)
            .with_x_label(self.x_label.as_str())
            .with_y_label(self.y_label.as_str())
            .with_legend_position(self.legend)
            .with_x_axis_min(x.low)
            .with_x_axis_max(x.high)
            .with_x_tick_step(x.step)
            .with_x_tick_format(TickFormat::Integer)
            .with_y_axis_min(y.low)
            .with_y_axis_max(y.high)
            .with_y_tick_step(y.step)
            .with_y_tick_format(format)
            .with_label_size(14)
            .with_tick_size(12)
            .with_body_size(12);
        // kuva measures margins from these, not from the limits of the axes.
        (layout.x_range, layout.y_range) = ((x.low, x.high), (y.low, y.high));
        (plots, layout)
    }
}

/// Drops points that are within `tolerance`, measured upwards, of the line through those that stay.
///
/// kuva draws every point, which makes megabytes of a long history. One pass does: a cone of slopes from the last point that
/// stays passes all points since, and the next one stays when the cone closes.
fn thinned(points: &[(f64, f64)], tolerance: f64) -> Vec<(f64, f64)> {
    const ALL: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);
    let mut kept: Vec<(f64, f64)> = points.iter().take(1).copied().collect();
    let (mut anchor, mut cone) = (0, ALL);
    for i in 1..points.len() {
        let from = |anchor: usize| (points[i].0 - points[anchor].0, points[i].1 - points[anchor].1);
        let (mut dx, mut dy) = from(anchor);
        if !(dx > 0.0 && cone.0 * dx <= dy && dy <= cone.1 * dx) && anchor < i - 1 {
            kept.push(points[i - 1]);
            (anchor, cone) = (i - 1, ALL);
            (dx, dy) = from(anchor);
        }
        if dx > 0.0 {
            cone = (cone.0.max((dy - tolerance) / dx), cone.1.min((dy + tolerance) / dx));
        } else {
            kept.push(points[i]);
            (anchor, cone) = (i, ALL);
        }
    }
    if anchor + 1 < points.len() {
        kept.extend(points.last());
    }
    kept
}

/// Draws panels one below the other, with their axes aligned.
fn figure(title: &str, panels: &[Panel]) -> Figure {
    let points = panels.iter().flat_map(|panel| &panel.lines).flat_map(|line| &line.points);
    let xs = Range::of(points.map(|point| point.0));
    let x = xs.widened().padded(0.015, 0.015).axis(|width| nice_step(width / 12.0).max(1.0));
    let (plots, layouts): (Vec<_>, Vec<_>) = panels.iter().map(|panel| panel.draw(x)).unzip();
    let left = layouts
        .iter()
        .map(|layout| ComputedLayout::from_layout(layout).margin_left)
        .fold(0.0, f64::max);
    let mut layouts: Vec<_> =
        layouts.into_iter().map(|layout| layout.with_force_margins(left, 24.0)).collect();
    let (height, title_height) = (320.0, 40.0);
    // As the title of the first panel, since that of a figure stands too close to its edge.
    if let Some(first) = layouts.first_mut() {
        (first.title, first.title_size) = (Some(shorten(title)), 17);
    }
    Figure::new(panels.len(), 1)
        .with_cell_size(760.0, height)
        .with_row_height(0, height + title_height)
        .with_plots(plots)
        .with_layouts(layouts)
}

/// A title that fits.
fn shorten(title: &str) -> String {
    const MAX: usize = 75;
    if title.chars().count() <= MAX {
        return title.into();
    }
    title.chars().take(MAX - 1).chain(['…']).collect()
}

/// From the smallest to the largest of some values.
#[derive(Clone, Copy)]
struct Range {
    low: f64,
    high: f64,
}

/// An axis from `low` to `high` with ticks at multiples of `step`.
#[derive(Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Range {
    /// The range of the values; 0 to 1 if there are none.
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let start = Self { low: f64::INFINITY, high: f64::NEG_INFINITY };
        let range = values.fold(start, |range, value| Self {
            low: range.low.min(value),
            high: range.high.max(value),
        });
        if range.low <= range.high { range } else { Self { low: 0.0, high: 1.0 } }
    }

    /// A range wide enough that rounding does not show: a constant is put in the middle of one.
    fn widened(self) -> Self {
        let size = self.low.abs().max(self.high.abs());
        if self.high - self.low > 1e-10 * size {
            return self;
        }
        let margin = if size > 0.0 { 0.1 * size } else { 1.0 };
        Self { low: self.low - margin, high: self.high + margin }
    }

    /// The range from one whole number to another, of decades.
    fn decades(self) -> Self {
        Self { low: self.low.floor(), high: self.high.ceil() }
    }

    /// The range with margins, as parts of its width.
    fn padded(self, below: f64, above: f64) -> Self {
        let width = self.high - self.low;
        Self { low: self.low - below * width, high: self.high + above * width }
    }

    fn axis(self, step: impl Fn(f64) -> f64) -> Axis {
        Axis { low: self.low, high: self.high, step: step(self.high - self.low) }
    }
}

/// Returns the smallest of 1, 2, 5 times a power of ten that is at least `step`.
///
/// kuva's steps may be 2.5, which is no number of iterations.
fn nice_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|it| it * power).into_iter().find(|&it| it >= step).unwrap_or(step)
}

/// Chooses as many decimals as the step needs, or powers of ten if these are too many digits.
///
/// kuva's own choice has three decimals at most, fewer than the last iterations of a fit need.
fn linear_ticks(axis: Axis) -> TickFormat {
    let largest = axis.low.abs().max(axis.high.abs());
    let last = (axis.step.log10() + 1e-9).floor();
    if largest < 1e7 && last > -13.0 {
        return TickFormat::Fixed((-last).max(0.0) as usize);
    }
    TickFormat::Sci
}

/// Writes a power of ten: `10⁻⁸` for -8.
fn power_of_ten(exponent: f64) -> String {
    let superscript = |digit: char| match digit {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        other => char::from_u32('⁰' as u32 + other as u32 - '0' as u32).unwrap_or(other),
    };
    let digits = format!("{}", exponent.round() as i64);
    format!("10{}", digits.chars().map(superscript).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::EntropySum;

    /// A fit that converges to `limit` nats, `scale` below it at first.
    fn history(n_records: usize, limit: f64, scale: f64) -> History {
        let log_likelihood = |t: usize| limit - scale * (-0.3 * t as f64).exp();
        let record = |t: usize| {
            let total = 0.5 * (log_likelihood(t - 1) + log_likelihood(t));
            IterRecord {
                iteration: t,
                seconds: 0.0,
                points_seen: 0,
                entropy_sum: EntropySum { observable: -total, ..EntropySum::default() },
                lower_bound: total * (1.0 + f64::EPSILON * (t % 2) as f64),
                log_likelihood: log_likelihood(t - 1),
                change: 0.0,
                active_components: 1,
                events: Vec::new(),
                minibatch: None,
                log_prior: None,
                gap_halves: None,
                joint_evaluations: None,
            }
        };
        History { records: (1..=n_records).map(record).collect() }
    }

    fn svg(history: &History, title: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.svg");
        write_svg(&path, history, title).unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "coordinates are finite");
        for label in ["entropy sum", "lower bound", "log-likelihood", "|gap|", "nats per point"] {
            assert!(svg.contains(label), "{label}");
        }
        svg
    }

    #[test]
    fn histories_of_any_length_and_scale_are_drawn() {
        for n_records in [1, 2, 30, 31, 200] {
            for (limit, scale) in
                [(-5.0, 3.0), (0.0, 0.0), (1.0, 0.0), (-4e9, 1e8), (-9.0, 1e-9), (1e308, 1e308)]
            {
                svg(&history(n_records, limit, scale), "a fit");
            }
        }
    }

    #[test]
    fn values_that_are_not_finite_are_left_out() {
        let mut holes = history(12, -5.0, 3.0);
        holes.records[2].lower_bound = f64::NAN;
        holes.records[4].log_likelihood = f64::NEG_INFINITY;
        holes.records[6].entropy_sum.observable = f64::INFINITY;
        svg(&holes, "holes");
        for record in &mut holes.records {
            record.lower_bound = f64::NAN;
            record.log_likelihood = f64::NAN;
            record.entropy_sum.observable = f64::NAN;
        }
        svg(&holes, "nothing left");
    }

    #[test]
    fn titles_are_escaped_and_shortened() {
        assert!(svg(&history(3, -5.0, 3.0), "a < b & c").contains("a &lt; b &amp; c"));
        assert!(svg(&history(3, -5.0, 3.0), &"long ".repeat(100)).contains('…'));
    }

    #[test]
    fn thinned_lines_stay_within_the_tolerance() {
        let tolerance = 1e-3;
        let smooth = |i: usize| (-1e-3 * i as f64).exp();
        let zigzag = |i: usize| if i.is_multiple_of(7) { 0.5 } else { 0.1 };
        for (most, value) in
            [(60, &smooth as &dyn Fn(usize) -> f64), (4300, &zigzag), (2, &|_| 3.0)]
        {
            let points: Vec<_> = (0..10_000).map(|i| ((i as f64 + 1.0).ln(), value(i))).collect();
            let kept = thinned(&points, tolerance);
            assert!(kept.len() <= most, "{}", kept.len());
            assert_eq!((kept.first(), kept.last()), (points.first(), points.last()));
            let mut segment = kept.windows(2).peekable();
            for &(x, y) in &points {
                segment.next_if(|it| it[1].0 < x);
                let &[a, b] = *segment.peek().unwrap() else { unreachable!() };
                let drawn = a.1 + (b.1 - a.1) * (x - a.0) / (b.0 - a.0);
                assert!((drawn - y).abs() <= tolerance * (1.0 + 1e-9), "{x}: {drawn}, not {y}");
            }
        }
        // Lines that go back keep all that turns.
        let back = [(0.0, 0.0), (2.0, 1.0), (1.0, 1.0), (1.0, 0.0), (3.0, 5.0)];
        assert_eq!(thinned(&back, 0.1), back);
        assert_eq!(thinned(&back[..1], 0.1), &back[..1]);
        assert_eq!(thinned(&[], 0.1), []);
    }

    #[test]
    fn no_records_no_plot() {
        let fault = write_svg("unused.svg", &History::default(), "").unwrap_err();
        assert!(matches!(fault, Error::Config(_)), "{fault}");
    }

    #[test]
    fn ticks_are_readable() {
        assert_eq!(power_of_ten(-17.0), "10⁻¹⁷");
        assert_eq!(power_of_ten(203.0), "10²⁰³");
        let steps = [0.011, 0.02, 3.0, 7.0, 1000.0].map(nice_step);
        assert_eq!(steps, [0.02, 0.02, 5.0, 10.0, 1000.0]);
        let tick = |low, high, step, value| linear_ticks(Axis { low, high, step }).format(value);
        assert_eq!(tick(-9.0, -5.0, 0.5, -6.5), "-6.5");
        assert_eq!(tick(-4200.0, -3000.0, 200.0, -3400.0), "-3400");
        assert_eq!(tick(-5.6e8, -5.2e8, 1e7, -5.4e8), "-5.4e8");
        assert_eq!(tick(-1.0, 1.0, 0.001, 0.5), "0.500");
    }
}
