//! Runs a suite on both systems and puts their figures side by side.

use super::{
    figures::{Output, Sample, Void},
    machine::{self, Flags, Mode},
    ours::Ours,
    peer::Peer,
    report::Figure,
    suites::{Boot, Place, Suite},
};
use anyhow::Result;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
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

impl Sides<'_> {
    /// Runs a suite on both sides.
    pub(crate) fn run(&self, suite: &Suite, flags: &Flags, places: &[Place]) -> Result<Runs> {
        let names: Vec<&str> = places.iter().map(|place| place.name.as_str()).collect();
        // Only these suites are told which figures; their names have no blanks.
        let figures = match suite.ours {
            "micro" | "apps" => names.join(","),
            _ => String::new(),
        };
        let icount = u8::from(flags.mode == Mode::Icount);
        let mut runs = Runs::default();
        if let Some(peer) = self.linux {
            let scenarios = suite.scenarios(self.quick);
            let line = match suite.boot {
                Boot::Probe => String::new(),
                _ => format!("lp={scenarios} lpicount={icount} lprep=1 figures={figures}"),
            };
            let image = peer.image(suite.boot)?;
            let clock = if flags.machine == "microvm" { " no_timer_check" } else { "" };
            let line =
                format!("console=ttyS0 quiet loglevel=1 panic=-1 tsc=reliable{clock} {line}");
            runs.linux = Some(self.boot("linux", suite, flags, &peer.kernel, image, &line)?);
        }
        if let Some(ours) = self.ours {
            let quick = u8::from(self.quick);
            let name = suite.ours;
            let module = ours.module(suite.boot)?;
            let layer = &module.layer;
            let line = format!(
                "bench={name} quick={quick} icount={icount} layer={layer} figures={figures}"
            );
            runs.ours = Some(self.boot("ours", suite, flags, &ours.kernel, &module.file, &line)?);
        }
        Ok(runs)
    }

    fn boot(
        &self,
        side: &str,
        suite: &Suite,
        flags: &Flags,
        kernel: &Path,
        image: &Path,
        line: &str,
    ) -> Result<Run> {
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
        let text = machine::run(flags, kernel, image, line, limit, |line| {
            if line.starts_with("R ") {
                count += 1;
                let name: Vec<&str> = line.split_whitespace().skip(1).take(2).collect();
                progress(side, suite.name, count, &name.join(" "));
            }
        })?;
        eprintln!("\r\x1b[K  {side} {}: {count} figures, {:.1?}", suite.name, begun.elapsed());
        fs::write(&log, &text)?;
        fs::write(&key, depends)?;
        Ok(Run { output: Output::parse(&text), flags: flags.clone() })
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

/// Puts the systems' samples of one figure together.
pub(crate) fn figure(place: &Place, linux: Option<&Run>, ours: Option<&Run>) -> Figure {
    let mut systems: BTreeMap<String, Sample> = BTreeMap::new();
    let mut void = None;
    let mut take = |system: &str, result: Result<Sample, Void>| match result {
        Ok(sample) => {
            systems.insert(system.to_owned(), sample);
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
    Figure {
        suite: place.suite.to_owned(),
        name: place.name.clone(),
        unit: place.unit.to_owned(),
        systems,
        ratio,
        bound: place.bound,
        void,
    }
}
