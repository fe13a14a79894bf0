//! Runs a suite on both systems and puts their figures side by side.

use super::{
    figures::{Output, Sample, Void},
    machine::{self, Flags, Mode},
    ours::Ours,
    peer::Peer,
    report::Figure,
    suites::{Boot, Bound, Place, Suite},
};
use anyhow::{Result, anyhow};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs,
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
    pub(crate) quick: bool,
    /// Linux's output of an earlier run will do, if everything it depends on is the same.
    pub(crate) reuse: bool,
}

/// A suite's runs.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    pub(crate) linux: Option<Run>,
    pub(crate) ours: Option<Run>,
}

/// A suite that is to run: its flags and figures.
pub(crate) struct Planned {
    pub(crate) suite: &'static Suite,
    pub(crate) flags: Flags,
    pub(crate) places: Vec<Place>,
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
}

impl Sides<'_> {
    /// Runs suites on both sides: both at the same time where a tick is an instruction, which no load of the computer changes, else in turn.
    pub(crate) fn run(&self, suites: &[Planned]) -> Result<Vec<Runs>> {
        if suites.iter().any(|planned| planned.flags.mode == Mode::Wall) {
            return suites
                .iter()
                .map(|planned| Ok(Runs { linux: self.linux(planned)?, ours: self.ours(planned)? }))
                .collect();
        }
        let (linux, ours) = thread::scope(|scope| {
            let linux = scope.spawn(|| suites.iter().map(|planned| self.linux(planned)).collect());
            let ours: Result<Vec<_>> = suites.iter().map(|planned| self.ours(planned)).collect();
            let linux: Result<Vec<_>> = match linux.join() {
                Ok(runs) => runs,
                Err(_) => Err(anyhow!("the thread that runs Linux panicked")),
            };
            (linux, ours)
        });
        Ok(linux?.into_iter().zip(ours?).map(|(linux, ours)| Runs { linux, ours }).collect())
    }

    /// Runs a suite on Linux, if Linux is to run.
    fn linux(&self, planned: &Planned) -> Result<Option<Run>> {
        let Some(peer) = self.linux else { return Ok(None) };
        let (suite, icount) = (planned.suite, planned.icount());
        let (scenarios, figures) = (suite.scenarios(self.quick), planned.figures());
        let line = match suite.boot {
            Boot::Probe => String::new(),
            _ => format!("lp={scenarios} lpicount={icount} lprep=1 figures={figures}"),
        };
        let image = peer.image(suite.boot)?;
        let clock = if planned.flags.machine == "microvm" { " no_timer_check" } else { "" };
        let line = format!("console=ttyS0 quiet loglevel=1 panic=-1 tsc=reliable{clock} {line}");
        self.boot("linux", planned, &peer.kernel, image, &line).map(Some)
    }

    /// Runs a suite on our system, if ours is to run.
    fn ours(&self, planned: &Planned) -> Result<Option<Run>> {
        let Some(ours) = self.ours else { return Ok(None) };
        let (name, icount) = (planned.suite.ours, planned.icount());
        let (quick, figures) = (u8::from(self.quick), planned.figures());
        let module = ours.module(planned.suite.boot)?;
        let layer = &module.layer;
        let line =
            format!("bench={name} quick={quick} icount={icount} layer={layer} figures={figures}");
        self.boot("ours", planned, &ours.kernel, &module.file, &line).map(Some)
    }

    /// Boots a side's machine; what it printed, which may be that it is broken.
    fn boot(
        &self,
        side: &str,
        planned: &Planned,
        kernel: &Path,
        image: &Path,
        line: &str,
    ) -> Result<Run> {
        let (suite, flags) = (planned.suite, &planned.flags);
        let log = self.out.join(format!("{side}-{}.log", suite.name));
        let key = log.with_extension("key");
        let depends = dependencies(flags, kernel, image, line)?;
        let is_same = fs::read_to_string(&key).is_ok_and(|earlier| earlier == depends);
        if self.reuse && side == "linux" && is_same {
            eprintln!("  {side} {}: as in an earlier run", suite.name);
            let output = Output::parse(&fs::read_to_string(&log)?);
            return Ok(Run { output, flags: flags.clone() });
        }
        // A run that is cut leaves no key behind.
        let _ = fs::remove_file(&key);
        let limit = Duration::from_secs(if self.quick { 280 } else { 1_800 });
        let begun = Instant::now();
        let mut count = 0;
        let ended = machine::run(flags, kernel, image, line, limit, |line| {
            if line.starts_with("R ") {
                count += 1;
                let name: Vec<&str> = line.split_whitespace().skip(1).take(2).collect();
                progress(side, suite.name, count, &name.join(" "));
            }
        })?;
        eprintln!("\r\x1b[K  {side} {}: {count} figures, {:.1?}", suite.name, begun.elapsed());
        fs::write(&log, &ended.text)?;
        let mut output = Output::parse(&ended.text);
        match ended.fault {
            // Its other suites and the other side are still worth a report.
            Some(fault) => {
                eprintln!(
                    "  {side} {}: {fault}; it printed:\n{}",
                    suite.name,
                    machine::tail(&ended.text)
                );
                output.fault = Some(fault);
            }
            None => fs::write(&key, depends)?,
        }
        Ok(Run { output, flags: flags.clone() })
    }
}

/// Everything that a run's output depends on: the same gives the same, to the last instruction, under icount.
fn dependencies(flags: &Flags, kernel: &Path, image: &Path, line: &str) -> Result<String> {
    let mut hash = Sha256::new();
    for file in [kernel, image] {
        hash.update(Sha256::digest(fs::read(file)?));
    }
    hash.update(flags.arguments().join(" "));
    hash.update(line);
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Shows on one line how far a run has come; only to a person.
fn progress(side: &str, suite: &str, count: u32, name: &str) {
    use std::io::IsTerminal as _;
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K  {side} {suite}: {count:3} {name}");
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
        figures.push(figure(place, runs.linux.as_ref(), runs.ours.as_ref(), median));
    }
    figures
}

/// Puts the systems' samples of one figure together; `median` gives ours of an earlier one.
pub(crate) fn figure(
    place: &Place,
    linux: Option<&Run>,
    ours: Option<&Run>,
    median: impl Fn(&str) -> Option<f64>,
) -> Figure {
    let mut systems: BTreeMap<String, Sample> = BTreeMap::new();
    let mut void = None;
    let mut take = |system: &str, result: Result<Sample, Void>| match result {
        Ok(sample) => {
            systems.insert(system.to_owned(), place.taken.of(sample));
        }
        Err(reason) => void = Some(format!("{system}: {}", reason.reason())),
    };
    if let Some(linux) = linux {
        for (system, name, metric) in &place.linux {
            take(system, linux.output.figure(name, metric, place.least));
        }
    }
    if let (Some(ours), Some((name, metric))) = (ours, &place.ours) {
        take("ours", ours.output.figure(name, metric, place.least));
    }
    if let (Some(linux), Some(ours)) = (linux, ours)
        && linux.flags != ours.flags
    {
        void = Some(Void::DifferentFlags.reason());
    }
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
