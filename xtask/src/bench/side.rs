//! Runs a suite on both systems and puts their figures side by side.

use super::{
    figures::{Output, Sample, Void},
    machine::{self, Flags, Machine, Mode},
    ours::{Module, Ours},
    peer::Peer,
    places::{Bound, Place},
    report::Figure,
    suites::{Boot, Suite},
};
use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    io::IsTerminal as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// What one machine printed, and under which flags it ran.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) output: Output,
    pub(crate) flags: Flags,
}

/// The two systems, as far as they are to run.
pub(crate) struct Sides<'a> {
    pub(crate) linux: Option<&'a Peer>,
    pub(crate) ours: Option<&'a Ours>,
    /// Where the machines' outputs are kept.
    pub(crate) out: &'a Path,
    /// QEMU's version.
    pub(crate) qemu: &'a str,
    pub(crate) quick: bool,
    /// Linux's output of an earlier run will do, if everything it depends on is the same.
    pub(crate) reuse: bool,
    /// How long a machine may take.
    pub(crate) limit: Duration,
}

/// QEMU's status after Linux has turned its machine off.
pub(crate) const LINUX_SUCCESS: i32 = 0;
/// QEMU's status after ours has ended with status 0: `isa-debug-exit` makes `(0 << 1) | 1` of it.
pub(crate) const OURS_SUCCESS: i32 = 1;

/// A suite's runs; none of a side that has no such suite or is not to run.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    pub(crate) linux: Vec<Run>,
    pub(crate) ours: Vec<Run>,
}

/// A suite that is to run: its flags and figures.
pub(crate) struct Planned {
    pub(crate) suite: &'static Suite,
    pub(crate) flags: Flags,
    pub(crate) places: Vec<Place>,
    /// How often it runs.
    pub(crate) repetitions: u32,
}

impl Planned {
    /// Names of the figures, for the suites that are told which: those before a blank.
    fn figures(&self) -> String {
        if !self.suite.takes_figures() {
            return String::new();
        }
        let mut names: Vec<&str> = self.places.iter().map(Place::measured).collect();
        names.dedup();
        names.join(",")
    }

    fn icount(&self) -> u8 {
        u8::from(self.flags.mode == Mode::Icount)
    }

    /// The command line of Linux.
    pub(crate) fn line_of_linux(&self, quick: bool) -> String {
        let (scenarios, icount, figures) =
            (self.suite.scenarios(quick), self.icount(), self.figures());
        let line = match self.suite.boot {
            Boot::Probe => String::new(),
            _ => format!("lp={scenarios} lpicount={icount} lprep=1 figures={figures}"),
        };
        let clock = if self.flags.machine == "microvm" { " no_timer_check" } else { "" };
        format!("console=ttyS0 quiet loglevel=1 panic=-1 tsc=reliable{clock} {line}")
    }

    /// The command line of our system, with a boot module.
    pub(crate) fn line_of_ours(&self, quick: bool, module: &Module) -> String {
        let (name, quick, icount) = (self.suite.ours, u8::from(quick), self.icount());
        let (words, figures) = (module.words(), self.figures());
        format!("bench={name} quick={quick} icount={icount} {words} figures={figures}")
    }
}

impl Sides<'_> {
    /// Runs suites on both sides: both at the same time where a tick is an instruction, which no load of the computer changes, then in turn.
    pub(crate) fn run(&self, suites: &[Planned]) -> Vec<Runs> {
        let is_exact = |planned: &&Planned| planned.flags.mode == Mode::Icount;
        let exact: Vec<&Planned> = suites.iter().filter(is_exact).collect();
        let (linux, ours): (Vec<_>, Vec<_>) = thread::scope(|scope| {
            let linux = scope.spawn(|| exact.iter().map(|planned| self.linux(planned)).collect());
            let ours = exact.iter().map(|planned| self.ours(planned)).collect();
            let broken =
                |planned: &&Planned| Some(broken(planned, "the thread that ran Linux panicked"));
            (linux.join().unwrap_or_else(|_| exact.iter().map(broken).collect()), ours)
        });
        let mut exact = linux.into_iter().zip(ours);
        let mut runs = Vec::new();
        for planned in suites {
            if is_exact(&planned) {
                let (linux, ours) = exact.next().unwrap_or_default();
                runs.push(Runs { linux: Vec::from_iter(linux), ours: Vec::from_iter(ours) });
            } else {
                runs.push(Runs::default());
            }
        }
        self.run_timed(suites, &mut runs);
        runs
    }

    /// Runs the suites that are measured in the host's time, one after the other and each as often as it is to run, so that what changes on the computer
    /// meanwhile meets all of them.
    fn run_timed(&self, suites: &[Planned], runs: &mut [Runs]) {
        let most = suites.iter().map(|planned| planned.repetitions).max().unwrap_or(0);
        for round in 0..most {
            for (planned, runs) in suites.iter().zip(runs.iter_mut()) {
                if planned.flags.mode == Mode::Wall && round < planned.repetitions {
                    runs.linux.extend(self.linux(planned));
                    runs.ours.extend(self.ours(planned));
                }
            }
        }
    }

    /// Runs a suite on Linux, if Linux is to run.
    fn linux(&self, planned: &Planned) -> Option<Run> {
        let peer = self.linux.filter(|_| planned.suite.is_of_linux())?;
        let (suite, line) = (planned.suite, planned.line_of_linux(self.quick));
        let booted = peer.image(suite.boot).and_then(|image| {
            let (flags, kernel) = (&planned.flags, peer.kernel.as_path());
            let machine =
                Machine { flags, kernel, image, line: &line, more: &[], success: LINUX_SUCCESS };
            self.boot("linux", suite, &machine)
        });
        Some(booted.unwrap_or_else(|error| broken(planned, &format!("{error:#}"))))
    }

    /// Runs a suite on our system, if ours is to run.
    fn ours(&self, planned: &Planned) -> Option<Run> {
        let ours = self.ours?;
        let suite = planned.suite;
        let booted = ours.module(suite.boot).and_then(|module| {
            let line = planned.line_of_ours(self.quick, module);
            let (flags, kernel, image) = (&planned.flags, ours.kernel(suite)?, &module.file);
            let machine =
                Machine { flags, kernel, image, line: &line, more: &[], success: OURS_SUCCESS };
            self.boot("ours", suite, &machine)
        });
        Some(booted.unwrap_or_else(|error| broken(planned, &format!("{error:#}"))))
    }

    /// Boots a side's machine; what it printed, which may be that it is broken.
    fn boot(&self, side: &str, suite: &Suite, machine: &Machine<'_>) -> Result<Run> {
        let log = self.out.join(format!("{side}-{}.log", suite.name));
        let key = log.with_extension("key");
        let depends = dependencies(machine, self.qemu)?;
        let flags = machine.flags.clone();
        // Times say something beside those of the same session only.
        let is_same = flags.mode == Mode::Icount
            && fs::read_to_string(&key).is_ok_and(|earlier| earlier == depends);
        if self.reuse && side == "linux" && is_same {
            eprintln!("  {side} {}: as in an earlier run", suite.name);
            let output = Output::parse(&fs::read_to_string(&log)?);
            return Ok(Run { output, flags });
        }
        // A run that is cut leaves no key behind.
        let _ = fs::remove_file(&key);
        let begun = Instant::now();
        let mut count = 0;
        let ended = machine.run(self.limit, |line| {
            if line.starts_with("R ") {
                count += 1;
                let name: Vec<&str> = line.split_whitespace().skip(1).take(2).collect();
                progress(side, suite.name, count, &name.join(" "));
            }
        })?;
        clear_progress();
        eprintln!("  {side} {}: {count} figures, {:.1?}", suite.name, begun.elapsed());
        let kept = |error| format!("its output cannot be kept in {}: {error}", log.display());
        let mut output = Output::parse(&ended.text);
        // What a broken machine printed is wanted most of all.
        let written = fs::write(&log, &ended.text).err().map(kept);
        output.fault = ended.fault.or(written);
        match &output.fault {
            // Its other suites and the other side are still worth a report.
            Some(fault) => eprintln!(
                "  {side} {}: {fault}; it printed:\n{}",
                suite.name,
                machine::tail(&ended.text)
            ),
            None => fs::write(&key, depends)
                .with_context(|| format!("{} cannot be written", key.display()))?,
        }
        Ok(Run { output, flags })
    }
}

/// A run that gave nothing.
fn broken(planned: &Planned, fault: &str) -> Run {
    let mut output = Output::default();
    output.fault = Some(fault.to_owned());
    Run { output, flags: planned.flags.clone() }
}

/// Everything that a run's output depends on: the same gives the same, to the last instruction, under icount.
fn dependencies(machine: &Machine<'_>, qemu: &str) -> Result<String> {
    let mut hash = Sha256::new();
    for file in [machine.kernel, machine.image] {
        let bytes = fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        hash.update(Sha256::digest(bytes));
    }
    hash.update(machine.flags.arguments().join(" "));
    hash.update(machine.line);
    hash.update(qemu);
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Shows on one line how far a run has come; only to a person.
fn progress(side: &str, suite: &str, count: u32, name: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K  {side} {suite}: {count:3} {name}");
    }
}

/// Removes that line.
fn clear_progress() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

/// A suite's figures, in order: a bound may be a multiple of an earlier one.
pub(crate) fn figures(planned: &Planned, runs: &Runs) -> Vec<Figure> {
    let mut figures: Vec<Figure> = Vec::new();
    for place in &planned.places {
        let median = |name: &str| {
            let figure = figures.iter().find(|figure| figure.name == name)?;
            Some(figure.systems.get("ours")?.p50)
        };
        figures.push(figure(place, runs, median));
    }
    figures
}

/// A figure of runs, or why it is refused.
fn sample(runs: &[Run], name: &str, metric: &str, least: u64) -> Result<Sample, Void> {
    let each = |run: &Run| run.output.figure(name, metric, least);
    let samples = runs.iter().map(each).collect::<Result<Vec<_>, _>>()?;
    Sample::merged(&samples).ok_or(Void::Missing)
}

/// Puts the systems' samples of one figure together; `median` gives ours of an earlier one.
pub(crate) fn figure(place: &Place, runs: &Runs, median: impl Fn(&str) -> Option<f64>) -> Figure {
    let mut systems: BTreeMap<String, Sample> = BTreeMap::new();
    let mut reasons: Vec<String> = Vec::new();
    let mut take = |system: &str, result: Result<Sample, Void>| match result {
        Ok(sample) => {
            systems.insert(system.to_owned(), place.taken.of(sample));
        }
        Err(reason) => {
            // A machine's fault is that of every system on it, and said once.
            let is_machine = matches!(reason, Void::Machine(_)) && system != "ours";
            let reason =
                format!("{}: {}", if is_machine { "Linux" } else { system }, reason.reason());
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
    };
    if !runs.linux.is_empty() {
        for (system, name, metric) in &place.linux {
            take(system, sample(&runs.linux, name, metric, place.least));
        }
    }
    if let Some((name, metric)) = place.ours.as_ref().filter(|_| !runs.ours.is_empty()) {
        take("ours", sample(&runs.ours, name, metric, place.least));
    }
    let mut all = runs.linux.iter().chain(&runs.ours);
    if all.next().is_some_and(|first| all.any(|other| other.flags != first.flags)) {
        reasons.push(Void::DifferentFlags.reason());
    }
    let void = (!reasons.is_empty()).then(|| reasons.join("; "));
    let best = ["crun", "runc", "process"].iter().find_map(|system| systems.get(*system));
    let ratio = match (best, systems.get("ours"), &void) {
        (Some(best), Some(ours), None) => Some(ours.p50 / best.p50),
        _ => None,
    };
    let bound = match &place.bound {
        Bound::None => None,
        Bound::Most(most) => Some(*most),
        Bound::Times(times, other) => median(other).map(|median| times * median),
        Bound::System(system) => systems.get(*system).map(|sample| sample.p50),
    };
    Figure {
        suite: place.suite.to_owned(),
        name: place.name.clone(),
        unit: place.unit.to_owned(),
        systems,
        ratio,
        bound,
        void,
    }
}
