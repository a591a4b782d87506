//! Bars instead of lines, where a line would be a dot.

use super::IterRecord;
use kuva::plot::BarPlot;
use kuva::render::figure::Figure;
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use std::sync::Arc;

/// Draws the values of a single record: above, entropy sum, lower bound and log-likelihood; below, the sizes of their differences,
/// as powers of ten.
pub(super) fn of_record(title: &str, record: &IterRecord, colours: [&str; 5]) -> Figure {
    let [bound, sum, likelihood, delta, gap] = colours;
    let values = [
        ("lower bound", record.lower_bound, bound),
        ("entropy sum", record.entropy_sum.total(), sum),
        ("log-likelihood before the M-step", record.log_likelihood, likelihood),
    ];
    let differences = [
        ("delta = entropy sum − log-likelihood", record.delta(), delta),
        ("|gap| = |lower bound − entropy sum|", record.gap().abs(), gap),
    ];
    let bars = |bars: &[(&str, f64, &str)]| {
        let drawn = bars.iter().filter(|(_, value, _)| value.abs() < 1e300);
        let label = |name: &str, value: f64| format!("{name}: {}", number(value));
        let drawn = drawn.map(|&(name, value, colour)| (label(name, value), value, colour));
        Plot::Bar(BarPlot::new().with_colored_bars(drawn).with_width(0.5))
    };
    let panel = |plot: Plot, y_label: &str| {
        let plots = vec![plot];
        let layout = Layout::auto_from_plots(&plots)
            .with_y_label(y_label)
            .with_y_tick_format(TickFormat::Custom(Arc::new(number)))
            .with_label_size(14)
            .with_tick_size(11)
            .with_body_size(12);
        (plots, layout)
    };
    let (values, top) = panel(bars(&values), "nats per point");
    let (differences, below) = panel(bars(&differences), "nats per point");
    Figure::new(2, 1)
        .with_cell_size(860.0, 320.0)
        .with_row_height(0, 360.0)
        .with_plots(vec![values, differences])
        .with_layouts(vec![top.with_title(title).with_title_size(17), below])
}

/// Writes six decimals, or an exponent where these are too few or too many digits.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (1e-3..1e6).contains(&size) => format!("{value:.6}"),
        _ => format!("{value:.2e}"),
    }
}
