//! The report's pictures, as SVG: distributions, lines over a growing number, bars of ratios.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const COLOURS: [&str; 4] = ["#8a8f98", "#c9803a", "#b3434b", "#2f6fb0"];

/// Shades of a distribution's curves, the first for the least number.
const SHADES: [&str; 7] =
    ["#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b"];

/// A line of a chart: name and points.
pub(crate) struct Line {
    /// Name in the legend.
    pub(crate) name: String,
    /// Which colour.
    pub(crate) colour: usize,
    /// Points, x ascending.
    pub(crate) points: Vec<(f64, f64)>,
}

/// One system's distributions: each a number and its values in ascending order.
pub(crate) struct Panel {
    /// The system.
    pub(crate) name: String,
    /// Curves by number.
    pub(crate) curves: Vec<(u32, Vec<f64>)>,
}

/// Cumulative distributions of several systems, one panel each, over one logarithmic axis.
pub(crate) fn distributions(title: &str, x_name: &str, panels: &[Panel]) -> String {
    const HEIGHT: f64 = 150.0;
    let all = || panels.iter().flat_map(|panel| &panel.curves).flat_map(|(_, values)| values);
    let low = all().copied().reduce(f64::min).unwrap_or(1.0).max(1.0).ln() - 0.1;
    let high = all().copied().fold(1.0, f64::max).ln().max(low + 0.01);
    let across = |x: f64| 130.0 + (x.max(1.0).ln() - low) / (high - low) * (WIDTH - 230.0);
    let bottom = 40.0 + HEIGHT * panels.len() as f64;
    let mut svg = open(title, bottom + 50.0);
    for tick in ticks(low, high) {
        let (x, tick) = (across(tick), short(tick));
        let _ = writeln!(
            svg,
            "<path d='M{x:.1} 50V{bottom:.1}' stroke='#eee'/><text x='{x:.1}' y='{:.1}' text-anchor='middle'>{tick}</text>",
            bottom + 16.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x='{:.1}' y='{:.1}' text-anchor='middle'>{x_name}</text>",
        WIDTH / 2.0 + 15.0,
        bottom + 36.0
    );
    for (index, panel) in panels.iter().enumerate() {
        let top = 55.0 + HEIGHT * index as f64;
        let up = |share: f64| top + (HEIGHT - 30.0) * (1.0 - share);
        let _ = writeln!(
            svg,
            "<text x='20' y='{:.1}' font-weight='bold'>{}</text>",
            up(0.75) + 4.0,
            panel.name
        );
        for share in [0.0, 0.5, 1.0] {
            let (y, percent) = (up(share), share * 100.0);
            let _ = writeln!(
                svg,
                "<path d='M130 {y:.1}H{:.1}' stroke='#ddd'/><text x='124' y='{:.1}' text-anchor='end'>{percent:.0} %</text>",
                WIDTH - 100.0,
                y + 4.0
            );
        }
        for ((_, values), shade) in panel.curves.iter().zip(SHADES) {
            let mut path = String::new();
            for (rank, value) in values.iter().enumerate() {
                let (x, count) = (across(*value), values.len() as f64);
                let (from, to) = (up(rank as f64 / count), up((rank + 1) as f64 / count));
                let _ = write!(path, "{x:.1},{from:.1} {x:.1},{to:.1} ");
            }
            let _ = writeln!(
                svg,
                "<polyline points='{}' fill='none' stroke='{shade}' stroke-width='2'/>",
                path.trim_end()
            );
        }
    }
    legend(&mut svg, panels);
    svg + "</svg>\n"
}

/// Which shade is which number.
fn legend(svg: &mut String, panels: &[Panel]) {
    let numbers = panels.iter().max_by_key(|panel| panel.curves.len());
    let numbers = numbers.into_iter().flat_map(|panel| &panel.curves);
    for (index, ((number, _), shade)) in numbers.zip(SHADES).enumerate() {
        let (x, y) = (WIDTH - 85.0, 62.0 + 18.0 * index as f64);
        let _ = writeln!(
            svg,
            "<path d='M{x} {y}H{}' stroke='{shade}' stroke-width='3'/><text x='{}' y='{}'>N = {number}</text>",
            x + 22.0,
            x + 28.0,
            y + 4.0
        );
    }
}

/// Lines over numbers that stand side by side, on a logarithmic axis.
pub(crate) fn lines(title: &str, x_name: &str, y_name: &str, lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| line.points.iter().copied());
    let mut numbers: Vec<f64> = all().map(|(x, _)| x).collect();
    numbers.sort_by(f64::total_cmp);
    numbers.dedup();
    let step = (WIDTH - 260.0) / (numbers.len().max(2) - 1) as f64;
    let across =
        |x: f64| 100.0 + step * numbers.iter().position(|number| *number == x).unwrap_or(0) as f64;
    let low = all().map(|(_, y)| y).reduce(f64::min).unwrap_or(1.0).max(1.0).ln() - 0.2;
    let high = all().map(|(_, y)| y).fold(1.0, f64::max).ln().max(low) + 0.2;
    let up = |y: f64| 340.0 - (y.max(1.0).ln() - low) / (high - low) * 280.0;
    let mut svg = open(title, 400.0);
    let middle = 100.0 + step * (numbers.len().max(2) - 1) as f64 / 2.0;
    let _ = writeln!(svg, "<text x='{middle:.1}' y='385' text-anchor='middle'>{x_name}</text>");
    let _ = writeln!(svg, "<text x='20' y='48'>{y_name}</text>");
    for number in &numbers {
        let x = across(*number);
        let _ = writeln!(
            svg,
            "<path d='M{x:.1} 60V340' stroke='#eee'/><text x='{x:.1}' y='358' text-anchor='middle'>{number:.0}</text>"
        );
    }
    for tick in ticks(low, high) {
        let y = up(tick);
        let _ = writeln!(
            svg,
            "<path d='M100 {y:.1}H{:.1}' stroke='#ddd'/><text x='92' y='{:.1}' text-anchor='end'>{}</text>",
            WIDTH - 160.0,
            y + 4.0,
            short(tick)
        );
    }
    let mut names: Vec<(f64, &str, &str)> = Vec::new();
    for line in lines {
        let colour = COLOURS[line.colour % COLOURS.len()];
        let mut path = String::new();
        for (x, y) in &line.points {
            let (x, y) = (across(*x), up(*y));
            let _ = write!(path, "{x:.1},{y:.1} ");
            let _ = writeln!(svg, "<circle cx='{x:.1}' cy='{y:.1}' r='3' fill='{colour}'/>");
        }
        let _ = writeln!(
            svg,
            "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='2'/>",
            path.trim_end()
        );
        names.extend(line.points.last().map(|(_, y)| (up(*y), line.name.as_str(), colour)));
    }
    apart(&mut names);
    for (y, name, colour) in names {
        let x = WIDTH - 150.0;
        let _ = writeln!(svg, "<text x='{x:.1}' y='{:.1}' fill='{colour}'>{name}</text>", y + 4.0);
    }
    svg + "</svg>\n"
}

/// Moves names that would cover each other apart.
fn apart(names: &mut [(f64, &str, &str)]) {
    const LINE: f64 = 15.0;
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut least = f64::MIN;
    for (y, _, _) in names {
        *y = y.max(least);
        least = *y + LINE;
    }
}

/// Horizontal bars of ratios; 1 is marked.
pub(crate) fn bars(title: &str, values: &[(String, f64)]) -> String {
    const LETTER: f64 = 6.6;
    let longest = values.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let left = 46.0 + LETTER * longest as f64;
    let bottom = 50.0 + 18.0 * values.len() as f64;
    let most = values.iter().map(|(_, value)| *value).fold(1.0, f64::max);
    let scale = (WIDTH - left - 70.0) / most;
    let equal = left + scale;
    let mut svg = open(title, bottom + 28.0);
    for (index, (name, value)) in values.iter().enumerate() {
        let y = 44.0 + 18.0 * index as f64;
        let colour = if *value <= 1.0 { COLOURS[3] } else { COLOURS[2] };
        let _ = writeln!(
            svg,
            "<text x='{:.1}' y='{:.1}' text-anchor='end'>{name}</text><rect x='{left:.1}' y='{y:.1}' width='{:.1}' height='13' fill='{colour}'/>",
            left - 10.0,
            y + 11.0,
            value * scale
        );
    }
    let _ = writeln!(
        svg,
        "<path d='M{equal:.1} 38V{bottom:.1}' stroke='#444' stroke-dasharray='3'/><text x='{equal:.1}' y='{:.1}' text-anchor='middle'>equal</text>",
        bottom + 16.0
    );
    // Above the line, with a rim that keeps them readable there.
    for (index, (_, value)) in values.iter().enumerate() {
        let (x, y) = (left + value * scale + 6.0, 55.0 + 18.0 * index as f64);
        let _ = writeln!(
            svg,
            "<text x='{x:.1}' y='{y:.1}' stroke='white' stroke-width='4' paint-order='stroke'>{value:.2}</text>"
        );
    }
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
        let line = Line { name: "a".into(), colour: 0, points: vec![(0.0, 5.0), (64.0, 9e6)] };
        let flat = Line { name: "b".into(), colour: 9, points: vec![(1.0, 5.0)] };
        let panel = Panel { name: "a".into(), curves: vec![(1, vec![3.0]), (2, vec![])] };
        for svg in [
            lines("t", "x", "y", &[line, flat]),
            lines("t", "x", "y", &[]),
            bars("t", &[("a".into(), 2.0)]),
            distributions("t", "x", &[]),
            distributions("t", "x", &[panel]),
        ] {
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn names_do_not_cover_each_other() {
        let mut names = [(20.0, "b", ""), (18.0, "a", ""), (90.0, "c", "")];
        apart(&mut names);
        assert_eq!(names.map(|(y, _, _)| y), [18.0, 33.0, 90.0]);
    }
}
