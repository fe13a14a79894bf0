//! The report's pictures, as SVG: bars of ratios and lines over a growing number.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const COLOURS: [&str; 4] = ["#8a8f98", "#c9803a", "#b3434b", "#2f6fb0"];

/// A line of a chart: name and points.
pub(crate) struct Line {
    /// Name in the legend.
    pub(crate) name: String,
    /// Points, x ascending, both positive.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A distribution: its values in ascending order.
pub(crate) struct Curve {
    /// Name in the legend.
    pub(crate) name: String,
    /// Values, ascending, positive.
    pub(crate) values: Vec<f64>,
    /// Which colour.
    pub(crate) colour: usize,
    /// Which pattern.
    pub(crate) dash: usize,
}

/// Cumulative distributions over a logarithmic axis.
pub(crate) fn distribution(title: &str, x_name: &str, curves: &[Curve]) -> String {
    const DASHES: [&str; 3] = ["none", "7 3", "2 3"];
    let all = || curves.iter().flat_map(|curve| curve.values.iter().copied());
    let low = all().reduce(f64::min).unwrap_or(1.0).max(1.0).ln();
    let high = all().fold(1.0, f64::max).ln().max(low + 0.01);
    let across = |x: f64| 60.0 + (x.max(1.0).ln() - low) / (high - low) * (WIDTH - 240.0);
    let up = |share: f64| 340.0 - share * 280.0;
    let mut svg = open(title, 400.0);
    let _ = writeln!(svg, "<text x='300' y='390' text-anchor='middle'>{x_name}</text>");
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let y = up(share);
        let _ = writeln!(
            svg,
            "<path d='M60 {y:.1}H{:.1}' stroke='#ddd'/><text x='54' y='{:.1}' text-anchor='end'>{:.0} %</text>",
            WIDTH - 180.0,
            y + 4.0,
            share * 100.0
        );
    }
    for tick in ticks(low, high) {
        let (x, tick) = (across(tick), short(tick));
        let _ = writeln!(
            svg,
            "<path d='M{x:.1} 60V340' stroke='#eee'/><text x='{x:.1}' y='358' text-anchor='middle'>{tick}</text>"
        );
    }
    for (index, curve) in curves.iter().enumerate() {
        let colour = COLOURS[curve.colour % COLOURS.len()];
        let dash = DASHES[curve.dash % DASHES.len()];
        let count = curve.values.len() as f64;
        let mut path = String::new();
        for (rank, value) in curve.values.iter().enumerate() {
            let _ = write!(path, "{:.1},{:.1} ", across(*value), up(rank as f64 / count));
            let _ = write!(path, "{:.1},{:.1} ", across(*value), up((rank + 1) as f64 / count));
        }
        let y = 70.0 + 18.0 * index as f64;
        let (left, right) = (WIDTH - 165.0, WIDTH - 140.0);
        let _ = writeln!(
            svg,
            "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='2' stroke-dasharray='{dash}'/>\n<path d='M{left} {y}H{right}' stroke='{colour}' stroke-width='2' stroke-dasharray='{dash}'/><text x='{:.1}' y='{:.1}'>{}</text>",
            path.trim_end(),
            right + 6.0,
            y + 4.0,
            curve.name
        );
    }
    svg + "</svg>\n"
}

/// Lines on logarithmic axes.
pub(crate) fn lines(title: &str, x_name: &str, y_name: &str, lines: &[Line]) -> String {
    let all: Vec<(f64, f64)> = lines.iter().flat_map(|line| line.points.iter().copied()).collect();
    let range = |pick: fn(&(f64, f64)) -> f64| {
        let low = all.iter().map(pick).reduce(f64::min).unwrap_or(1.0).max(1.0);
        let high = all.iter().map(pick).fold(1.0, f64::max).max(low * 1.01);
        (low.ln(), high.ln())
    };
    let ((x0, x1), (y0, y1)) = (range(|p| p.0), range(|p| p.1));
    let place = |(x, y): (f64, f64)| {
        (
            80.0 + (x.max(1.0).ln() - x0) / (x1 - x0) * (WIDTH - 220.0),
            340.0 - (y.max(1.0).ln() - y0) / (y1 - y0) * 280.0,
        )
    };
    let mut svg = open(title, 400.0);
    let _ = writeln!(
        svg,
        "<text x='{}' y='385' text-anchor='middle'>{x_name}</text>",
        WIDTH / 2.0 - 30.0
    );
    let _ = writeln!(svg, "<text x='80' y='48'>{y_name}</text>");
    for tick in ticks(x0, x1) {
        let (x, _) = place((tick, y0.exp()));
        let _ = writeln!(
            svg,
            "<path d='M{x:.1} 60V340' stroke='#eee'/><text x='{x:.1}' y='358' text-anchor='middle'>{}</text>",
            short(tick)
        );
    }
    for tick in ticks(y0, y1) {
        let (_, y) = place((x0.exp(), tick));
        let _ = writeln!(
            svg,
            "<path d='M80 {y:.1}H{:.1}' stroke='#ddd'/><text x='74' y='{:.1}' text-anchor='end'>{}</text>",
            WIDTH - 140.0,
            y + 4.0,
            short(tick)
        );
    }
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let path: Vec<String> = line
            .points
            .iter()
            .map(|point| place(*point))
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='2'/>",
            path.join(" ")
        );
        if let Some((x, y)) = line.points.last().map(|point| place(*point)) {
            let _ = writeln!(
                svg,
                "<text x='{:.1}' y='{:.1}' fill='{colour}'>{}</text>",
                x + 6.0,
                y + 4.0,
                line.name
            );
        }
    }
    svg + "</svg>\n"
}

/// Horizontal bars of ratios; 1 is marked.
pub(crate) fn bars(title: &str, values: &[(String, f64)]) -> String {
    let height = 60.0 + 18.0 * values.len() as f64;
    let most = values.iter().map(|(_, value)| *value).fold(1.5, f64::max);
    let scale = (WIDTH - 320.0) / most;
    let mut svg = open(title, height);
    for (index, (name, value)) in values.iter().enumerate() {
        let y = 44.0 + 18.0 * index as f64;
        let colour = if *value <= 1.0 { COLOURS[3] } else { COLOURS[2] };
        let _ = writeln!(
            svg,
            "<text x='210' y='{:.1}' text-anchor='end'>{name}</text><rect x='220' y='{y:.1}' width='{:.1}' height='13' fill='{colour}'/><text x='{:.1}' y='{:.1}'>{value:.2}</text>",
            y + 11.0,
            value * scale,
            226.0 + value * scale,
            y + 11.0
        );
    }
    let _ = writeln!(
        svg,
        "<path d='M{:.1} 38V{:.1}' stroke='#444' stroke-dasharray='3'/>",
        220.0 + scale,
        height - 10.0
    );
    svg + "</svg>\n"
}

fn open(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' font-family='sans-serif' font-size='12'>\n<rect width='100%' height='100%' fill='white'/>\n<text x='20' y='24' font-size='15'>{title}</text>\n"
    )
}

/// Round numbers between two logarithms: one, two and five of every decade, or only one where there are many decades.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let steps: &[f64] = if high - low > 8.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let decades = (low / 10f64.ln()).floor() as i32..=(high / 10f64.ln()).floor() as i32;
    let all = decades.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
    all.filter(|tick| (low..=high).contains(&tick.ln())).collect()
}

fn short(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.0} G", v / 1e9),
        v if v >= 1e6 => format!("{:.0} M", v / 1e6),
        v if v >= 1e3 => format!("{:.0} k", v / 1e3),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(ticks(150f64.ln(), 1100f64.ln()), [200.0, 500.0, 1000.0]);
        assert_eq!(ticks(1f64.ln(), 2e6f64.ln()), [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6]);
    }

    #[test]
    fn pictures_are_well_formed_whatever_the_values() {
        let line = Line { name: "ours".into(), points: vec![(1.0, 5.0), (64.0, 9e6)] };
        let flat = Line { name: "flat".into(), points: vec![(1.0, 5.0)] };
        let curve = Curve { name: "ours".into(), values: vec![3.0], colour: 5, dash: 5 };
        for svg in [
            lines("t", "x", "y", &[line, flat]),
            lines("t", "x", "y", &[]),
            bars("t", &[("a".into(), 2.0)]),
            distribution("t", "x", &[]),
            distribution("t", "x", &[curve]),
        ] {
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
