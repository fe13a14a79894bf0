//! The report: one JSON document, a page of tables, and the comparison with an earlier report.

use super::{
    figures::Sample,
    machine::{Flags, Mode},
    packages::Package,
    table,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// Version of the JSON document; `docs/benchmarks.md` describes it.
pub(crate) const SCHEMA: u32 = 1;

/// One figure on every system that has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// Suite it belongs to.
    pub(crate) suite: String,
    /// Name.
    pub(crate) name: String,
    /// Unit of all numbers.
    pub(crate) unit: String,
    /// `process`, `crun`, `runc` (Linux) and `ours`.
    pub(crate) systems: BTreeMap<String, Sample>,
    /// Median of ours divided by the best Linux median that is comparable.
    pub(crate) ratio: Option<f64>,
    /// Most our median may be, where the project has promised one.
    pub(crate) bound: Option<f64>,
    /// Why the figure is refused.
    pub(crate) void: Option<String>,
}

impl Figure {
    /// Whether our median is above its bound; no failure, for the bounds are aims.
    pub(crate) fn misses_bound(&self) -> bool {
        let ours = self.systems.get("ours").filter(|_| self.void.is_none());
        ours.zip(self.bound).is_some_and(|(ours, bound)| ours.p50 > bound)
    }
}

/// Flags of a suite and the arguments that QEMU was given for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlagRecord {
    #[serde(flatten)]
    flags: Flags,
    arguments: String,
}

impl From<Flags> for FlagRecord {
    fn from(flags: Flags) -> Self {
        let arguments = flags.arguments().join(" ");
        Self { flags, arguments }
    }
}

/// The whole report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// [`SCHEMA`].
    pub(crate) schema: u32,
    /// Commit measured, with `+` when the work tree differs.
    pub(crate) commit: String,
    /// Day of the run.
    pub(crate) date: String,
    /// QEMU's version.
    pub(crate) qemu: String,
    /// Flags of both sides, by suite.
    pub(crate) flags: BTreeMap<String, FlagRecord>,
    /// Packages of the Linux side.
    pub(crate) packages: Vec<Package>,
    /// The figures.
    pub(crate) figures: Vec<Figure>,
}

impl Report {
    /// The reasons why figures were refused, each once, with the figures.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let mut reasons: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for figure in &self.figures {
            if let Some(reason) = &figure.void {
                reasons.entry((&figure.suite, reason)).or_default().push(&figure.name);
            }
        }
        reasons
            .into_iter()
            .map(|((suite, reason), names)| match names.as_slice() {
                [name] => format!("{suite}, {name}: {reason}"),
                names => format!("{suite}, {} figures: {reason}", names.len()),
            })
            .collect()
    }

    /// Figures in which ours is above what the project has promised.
    pub(crate) fn missed(&self) -> impl Iterator<Item = &Figure> {
        self.figures.iter().filter(|figure| figure.misses_bound())
    }

    /// The page of tables.
    pub(crate) fn markdown(&self) -> String {
        let mut page = format!(
            "# Benchmark of {} ({})\n\n{}. Medians. *ratio* is ours divided by the first of crun, runc and process that has the figure.\n",
            self.commit, self.date, self.qemu
        );
        let mut suite = "";
        for figure in &self.figures {
            if figure.suite != suite {
                suite = &figure.suite;
                let _ = write!(
                    page,
                    "\n## {suite}\n\n| figure | unit | process | crun | runc | ours | ratio | bound |\n| --- | --- | --: | --: | --: | --: | --: | --: |\n"
                );
            }
            let cell = |system: &str| table::cell(figure, system);
            let ratio = match (&figure.void, figure.ratio) {
                (Some(reason), _) => format!("void: {reason}"),
                (None, value) => value.map(ratio).unwrap_or_default(),
            };
            let bound = match figure.bound {
                Some(bound) if figure.misses_bound() => format!("**missed:** {}", number(bound)),
                Some(bound) => number(bound),
                None => String::new(),
            };
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} | {} | {} | {ratio} | {bound} |",
                figure.name,
                figure.unit,
                cell("process"),
                cell("crun"),
                cell("runc"),
                cell("ours")
            );
        }
        let verdict = self.verdict();
        if !verdict.is_empty() {
            let _ = write!(page, "\n{verdict}");
        }
        page
    }

    /// How many bounds are met, and which are missed.
    pub(crate) fn verdict(&self) -> String {
        let is_judged =
            |figure: &&Figure| figure.void.is_none() && figure.systems.contains_key("ours");
        let (judged, open): (Vec<_>, Vec<_>) =
            self.figures.iter().filter(|figure| figure.bound.is_some()).partition(is_judged);
        let bounded = judged.len();
        let missed: Vec<&str> = self.missed().map(|figure| figure.name.as_str()).collect();
        let mut text = match missed.as_slice() {
            [] if bounded == 0 => String::new(),
            [] => format!("All {bounded} bounds are met.\n"),
            missed => {
                format!("{} of {bounded} bounds are missed: {}.\n", missed.len(), missed.join("; "))
            }
        };
        if !open.is_empty() {
            let _ = writeln!(
                text,
                "{} bounds could not be judged: their figures are void or not of this run.",
                open.len()
            );
        }
        text
    }

    /// Whether another report has exact figures in the same units: times and counts of instructions say nothing about each other.
    pub(crate) fn is_comparable(&self, before: &Self) -> bool {
        let units = |report: &Self| -> BTreeSet<String> {
            let exact = report.figures.iter().filter(|figure| report.is_exact(figure));
            exact.map(|figure| figure.unit.clone()).collect()
        };
        units(self).intersection(&units(before)).any(|unit| unit != "bytes")
    }

    /// Whether a figure is of instructions, which are the same in every run; not of what happens in the host's time.
    fn is_exact(&self, figure: &Figure) -> bool {
        self.flags.get(&figure.suite).is_some_and(|record| record.flags.mode == Mode::Icount)
    }

    /// Suites that ran under other flags in another report: what changed there is not the code alone.
    pub(crate) fn other_flags(&self, before: &Self) -> Vec<&str> {
        let is_other = |suite: &String, flags: &FlagRecord| {
            before.flags.get(suite).is_some_and(|earlier| earlier != flags)
        };
        let flags = self.flags.iter().filter(|(suite, flags)| is_other(suite, flags));
        flags.map(|(suite, _)| suite.as_str()).collect()
    }

    /// Exact figures of ours whose median changed by more than 1 %, worst first: (name, before, after).
    pub(crate) fn changes(&self, before: &Self) -> Vec<(String, f64, f64)> {
        let earlier: BTreeMap<_, _> = before
            .figures
            .iter()
            .filter_map(|figure| {
                Some(((&figure.name, &figure.unit), figure.systems.get("ours")?.p50))
            })
            .collect();
        let other = self.other_flags(before);
        let mut changes: Vec<(String, f64, f64)> = self
            .figures
            .iter()
            .filter(|figure| self.is_exact(figure) && figure.void.is_none())
            .filter(|figure| !other.contains(&figure.suite.as_str()))
            .filter_map(|figure| {
                let after = figure.systems.get("ours")?.p50;
                let before = *earlier.get(&(&figure.name, &figure.unit))?;
                ((after / before - 1.0).abs() > 0.01).then(|| (figure.name.clone(), before, after))
            })
            .collect();
        changes.sort_by(|a, b| (b.2 / b.1).total_cmp(&(a.2 / a.1)));
        changes
    }
}

/// A ratio with two digits that say something, or more.
pub(crate) fn ratio(value: f64) -> String {
    if value < 0.1 { format!("{value:.4}") } else { format!("{value:.2}") }
}

/// A number with thousands separators.
pub(crate) fn number(value: f64) -> String {
    if value.fract() != 0.0 && value < 10.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(median: f64) -> Report {
        let sample = Sample { n: 11, ..Sample::single(median) };
        let figure = Figure {
            suite: "micro".into(),
            name: "getpid".into(),
            unit: "instructions".into(),
            systems: [("ours".to_owned(), sample)].into(),
            ratio: None,
            bound: Some(450.0),
            void: None,
        };
        let flags =
            Flags { machine: "q35".into(), memory: 2048, mode: Mode::Icount, cpus: 1, seed: 1 };
        let flags = [("micro".to_owned(), flags.into())].into();
        Report {
            schema: SCHEMA,
            commit: "c".into(),
            date: "d".into(),
            qemu: "q".into(),
            flags,
            packages: vec![],
            figures: vec![figure],
        }
    }

    #[test]
    fn changes_above_one_percent_are_listed_both_ways() {
        assert!(report(1000.0).changes(&report(1005.0)).is_empty());
        assert_eq!(report(1020.0).changes(&report(1000.0)).len(), 1);
        assert_eq!(report(900.0).changes(&report(1000.0)), [("getpid".to_owned(), 1000.0, 900.0)]);
    }

    #[test]
    fn what_is_measured_in_time_is_no_change() {
        let mut after = report(2000.0);
        for record in after.flags.values_mut() {
            record.flags.mode = Mode::Wall;
        }
        assert!(after.changes(&report(1000.0)).is_empty());
        assert!(!after.is_comparable(&report(1000.0)) && !report(1000.0).is_comparable(&after));
    }

    #[test]
    fn what_ran_under_other_flags_or_is_void_is_no_change() {
        let mut other = report(2000.0);
        for record in other.flags.values_mut() {
            record.flags.seed = 7;
        }
        assert_eq!(other.other_flags(&report(1000.0)), ["micro"]);
        assert!(other.changes(&report(1000.0)).is_empty());
        let mut void = report(2000.0);
        void.figures.iter_mut().for_each(|figure| figure.void = Some("why".into()));
        assert!(void.changes(&report(1000.0)).is_empty());
    }

    #[test]
    fn times_are_not_compared_with_instructions() {
        let mut times = report(900.0);
        for figure in &mut times.figures {
            figure.unit = "ns".into();
        }
        assert!(report(900.0).is_comparable(&report(1000.0)));
        assert!(!times.is_comparable(&report(1000.0)));
        assert!(times.changes(&report(1000.0)).is_empty());
    }

    #[test]
    fn the_page_shows_numbers_in_groups() {
        assert_eq!(number(1_519_198.0), "1 519 198");
        assert!(report(1234.0).markdown().contains("| 1 234 |"));
    }

    #[test]
    fn a_missed_bound_is_shown() {
        assert!(report(451.0).markdown().contains("1 of 1 bounds are missed: getpid."));
        assert!(report(450.0).markdown().contains("All 1 bounds are met."));
    }
}
