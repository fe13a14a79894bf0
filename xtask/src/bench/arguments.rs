//! What `cargo xtask bench` can be told. Every name is checked before anything is built.

use super::{
    machine::Mode,
    profile,
    side::Planned,
    suites::{SUITES, Suite},
};
use anyhow::{Result, bail};
use std::{collections::BTreeSet, path::PathBuf};

/// Shown below the options.
const EXAMPLES: &str = "\
Examples:
  cargo xtask bench --quick                            both sides, in five minutes
  cargo xtask bench                                    everything
  cargo xtask bench --suite start,idle --side linux    two suites of one side
  cargo xtask bench --suite micro --figure stat,fork_exit_wait --side ours
  cargo xtask bench --quick --reuse                    Linux's figures from an earlier run, if nothing of it has changed
  cargo xtask bench --quick --against HEAD~20          also what changed since that commit's baseline
  cargo xtask bench --mode wall --repeat 3             times instead of instructions, each suite run three times in turn
  cargo xtask bench --suite locks,cpus --side ours     locks of starts at once, and what a second CPU is worth
  cargo xtask bench --suite start --seed 7             other randomness in the guests
  cargo xtask bench --quick --out /tmp/bench           builds and reports elsewhere
  cargo xtask bench --save-baseline                    this run becomes bench/baseline.json and bench/baseline.md
  cargo xtask bench --profile start                    functions from the request to the first instruction
  cargo xtask bench --profile open_close               functions of one micro-operation; also boot, total, pass, html:10
  cargo xtask bench --self-test --side ours            breaks our side in every way, and shows that its figures are refused
  cargo xtask bench --verify                           counts starts of both sides another way, and compares

The report is OUT/report.json, report.md and *.svg. The status is 1 if a figure is void.
docs/benchmarks.md has the method.";

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Suites, separated by commas: start, micro, ipc, idle, memory, boot, apps, tools, locks, cpus. All if none is named.
    #[arg(long, value_delimiter = ',')]
    suite: Vec<String>,
    /// icount: instructions, exact; wall: host nanoseconds, only ratios mean anything.
    #[arg(long, value_enum, default_value = "icount")]
    pub(super) mode: Mode,
    /// Only what fits in five minutes.
    #[arg(long)]
    pub(super) quick: bool,
    /// Run only one side.
    #[arg(long, value_enum, default_value = "both")]
    pub(super) side: Side,
    /// Compare with the baseline of an earlier commit (a Git reference whose `bench/baseline.json` is read) instead of the one in the tree.
    #[arg(long, value_name = "REF")]
    pub(super) against: Option<String>,
    /// Write this run's figures to `bench/baseline.json`.
    #[arg(long)]
    pub(super) save_baseline: bool,
    /// Show where the instructions of a scenario go: start, total, boot, or a figure of the suite micro or apps.
    #[arg(long, value_name = "SCENARIO")]
    pub(super) profile: Option<String>,
    /// Break the chosen sides in every way that must void a figure, and show that it does.
    #[arg(long)]
    pub(super) self_test: bool,
    /// Count the instructions of starts another way, in a plugin of QEMU, and compare them with the figures of the suite start.
    #[arg(long)]
    pub(super) verify: bool,
    /// Of the suites micro and apps, only these figures, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    figure: Vec<String>,
    /// Take Linux's figures from an earlier run if everything they depend on is the same (icount only: they are exact).
    #[arg(long)]
    pub(super) reuse: bool,
    /// Folder to build, run and report in.
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    pub(super) out: PathBuf,
    /// How often each suite runs that is measured in time, so that figures have a spread.
    #[arg(long, value_name = "TIMES", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Seed of guest randomness.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u32,
}

/// Which systems to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Side {
    /// Both.
    Both,
    /// Linux only.
    Linux,
    /// MettEagle only.
    Ours,
}

impl Arguments {
    /// The quick run of our side alone, which the tests do.
    pub(crate) fn quick_ours() -> Self {
        Self {
            suite: Vec::new(),
            mode: Mode::Icount,
            quick: true,
            side: Side::Ours,
            against: None,
            save_baseline: false,
            profile: None,
            self_test: false,
            verify: false,
            figure: Vec::new(),
            reuse: false,
            out: "target/bench".into(),
            repeat: 5,
            seed: 1,
        }
    }

    /// The self-test of our side alone.
    pub(crate) fn self_test() -> Self {
        Self { self_test: true, ..Self::quick_ours() }
    }

    /// Whether suites leave out what takes longest: runC, and crun at once. What is measured in time runs several times.
    pub(super) fn is_short(&self) -> bool {
        self.quick || self.mode == Mode::Wall
    }

    fn suites(&self) -> Result<Vec<&'static Suite>> {
        if self.suite.is_empty() {
            return Ok(SUITES
                .iter()
                .filter(|suite| suite.is_chosen(self.quick, self.mode))
                .collect());
        }
        let mut suites = Vec::new();
        for name in &self.suite {
            let before = suites.len();
            suites.extend(Suite::named(name));
            if suites.len() == before {
                bail!(unknown("suite", name, SUITES.iter().map(|suite| suite.name)));
            }
        }
        Ok(suites)
    }

    /// The suites with the figures that are asked for.
    pub(super) fn planned(&self) -> Result<Vec<Planned>> {
        if let Some(scenario) = &self.profile {
            let known = profile::scenarios();
            if !known.contains(scenario) {
                bail!(unknown("scenario", scenario, known.iter().map(String::as_str)));
            }
        }
        let mut planned = Vec::new();
        let mut known: BTreeSet<String> = BTreeSet::new();
        for suite in self.suites()? {
            let mut places = suite.places(self.is_short(), self.mode);
            if suite.takes_figures() {
                known.extend(places.iter().map(|place| place.measured().to_owned()));
                places.retain(|place| {
                    self.figure.is_empty()
                        || self.figure.iter().any(|name| place.measured() == name)
                });
            }
            let flags = suite.flags(self.mode, self.seed);
            let repetitions = suite.repetitions(self.mode, self.repeat);
            planned.push(Planned { suite, flags, places, repetitions });
        }
        for name in &self.figure {
            if known.is_empty() {
                bail!("--figure is for the suites micro and apps, and neither is to run");
            }
            if !known.contains(name) {
                bail!(unknown("figure", name, known.iter().map(String::as_str)));
            }
        }
        Ok(planned)
    }
}

/// That there is no such name, and those that may be meant.
fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let likeness = |other: &str| {
        if other.contains(name) || name.contains(other) {
            1.0
        } else {
            strsim::jaro_winkler(name, other)
        }
    };
    let mut near: Vec<&str> =
        known.iter().copied().filter(|other| likeness(other) >= 0.75).collect();
    near.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
    near.truncate(5);
    match near.as_slice() {
        [] => format!("there is no {what} {name:?}; there are {}", known.join(", ")),
        near => format!("there is no {what} {name:?}; is one of these meant: {}?", near.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: &Arguments) -> String {
        match arguments.planned() {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn unknown_names_are_refused_with_those_that_may_be_meant() {
        let figure = Arguments { figure: vec!["opn_close".into()], ..Arguments::quick_ours() };
        assert!(refusal(&figure).contains("open_close"), "{}", refusal(&figure));
        let suite = Arguments { suite: vec!["strat".into()], ..Arguments::quick_ours() };
        assert!(refusal(&suite).contains("start"), "{}", refusal(&suite));
        let scenario = Arguments { profile: Some("html".into()), ..Arguments::quick_ours() };
        assert!(refusal(&scenario).contains("html:10"), "{}", refusal(&scenario));
        let other = Arguments { figure: vec!["zzz".into()], ..Arguments::quick_ours() };
        assert!(refusal(&other).contains("there are clock_gettime_vdso"), "{}", refusal(&other));
    }

    #[test]
    fn figures_of_suites_that_do_not_run_are_refused() {
        let suite = vec!["start".into()];
        let arguments = Arguments { suite, figure: vec!["stat".into()], ..Arguments::quick_ours() };
        assert!(refusal(&arguments).contains("neither is to run"));
    }

    #[test]
    fn what_is_measured_in_time_leaves_runc_out() {
        let names = |mode| {
            let planned = Arguments { mode, quick: false, ..Arguments::quick_ours() }.planned();
            let places = planned.unwrap().into_iter().flat_map(|planned| planned.places);
            let systems = places.flat_map(|place| place.linux).map(|(system, ..)| system);
            systems.collect::<BTreeSet<_>>()
        };
        assert!(names(Mode::Icount).contains("runc"));
        assert!(!names(Mode::Wall).contains("runc"));
    }

    #[test]
    fn only_the_figures_that_are_asked_for_are_planned() {
        let figure = vec!["stat".into(), "getpid".into()];
        let planned = Arguments { figure, ..Arguments::quick_ours() }.planned().unwrap();
        let micro = planned.iter().find(|planned| planned.suite.name == "micro").unwrap();
        assert_eq!(micro.places.len(), 2);
    }
}
