//! The report as a person reads it on a screen: one short line for each figure, in columns.
//!
//! Owns: what is left out there and how it is aligned. Must not know: how figures are taken. `report.md` has the same numbers with their bounds.

use super::report::{Figure, Report, number, ratio};
use std::fmt::Write as _;

/// Systems in the order of their columns.
const SYSTEMS: [&str; 4] = ["process", "crun", "runc", "ours"];

/// Every suite's figures; columns that a suite has nothing in are left out.
pub(crate) fn text(report: &Report) -> String {
    let mut text = format!("{} ({}), {}\n", report.commit, report.date, report.qemu);
    for suite in report.figures.chunk_by(|one, other| one.suite == other.suite) {
        add(&mut text, suite);
    }
    text
}

fn add(text: &mut String, suite: &[Figure]) {
    let Some(first) = suite.first() else { return };
    // The unit of most figures is said once.
    let unit = first.unit.as_str();
    let named = |figure: &Figure| match figure.unit == unit {
        true => figure.name.clone(),
        false => format!("{}, {}", figure.name, figure.unit),
    };
    let names: Vec<String> = suite.iter().map(named).collect();
    let title = format!("{}, {unit}", first.suite);
    let width = |text: &String| text.chars().count();
    let left = names.iter().map(|name| width(name) + 2).max().unwrap_or(0).max(width(&title));
    let _ = write!(text, "\n{title:left$}");
    let columns: Vec<(&str, usize)> = SYSTEMS
        .into_iter()
        .filter_map(|system| {
            let cells = suite.iter().filter(|figure| figure.systems.contains_key(system));
            let widest = cells.map(|figure| width(&cell(figure, system))).max()?;
            Some((system, widest.max(system.len()) + 2))
        })
        .collect();
    for (system, wide) in &columns {
        let _ = write!(text, "{system:>wide$}");
    }
    text.push_str("   ratio\n");
    for (figure, name) in suite.iter().zip(names) {
        let mut line = format!("  {name:right$}", right = left - 2);
        for (system, wide) in &columns {
            let _ = write!(line, "{:>wide$}", cell(figure, system));
        }
        let _ = write!(line, "  {:>6}", figure.ratio.map(ratio).unwrap_or_default());
        if let Some(bound) = figure.bound.filter(|_| figure.misses_bound()) {
            let _ = write!(line, "  above its bound of {}", number(bound));
        }
        if let Some(reason) = &figure.void {
            let _ = write!(line, "  void: {reason}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// A system's median, with its spread where there is one.
pub(crate) fn cell(figure: &Figure, system: &str) -> String {
    let Some(sample) = figure.systems.get(system) else { return String::new() };
    match sample.spread() {
        Some(spread) => format!("{} ±{:.0} %", number(sample.p50), spread * 50.0),
        None => number(sample.p50),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::figures::Sample, *};

    fn figure(name: &str, process: f64, ours: f64) -> Figure {
        let systems = [("process", process), ("ours", ours)];
        Figure {
            suite: "micro".into(),
            name: name.into(),
            unit: "instructions".into(),
            systems: systems.map(|(name, value)| (name.into(), Sample::single(value))).into(),
            ratio: Some(ours / process),
            bound: Some(450.0),
            void: None,
        }
    }

    #[test]
    fn columns_are_aligned_and_those_without_a_figure_left_out() {
        let mut void = figure("stat", 3_580.0, 500.0);
        (void.void, void.ratio) = (Some("ours: no".into()), None);
        let mut text = String::new();
        add(&mut text, &[figure("getpid", 321.0, 222.0), void]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "",
                "micro, instructions  process  ours   ratio",
                "  getpid                 321   222    0.69",
                "  stat                 3 580   500          void: ours: no",
            ]
        );
    }
}
