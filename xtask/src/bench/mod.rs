//! `cargo xtask bench`: Linux and MettEagle in the same emulated machine, in one run.
//!
//! Owns: building the Linux side, running both, refusing figures that cannot be trusted, the report and the comparison with an earlier
//! one. Must not know: how either system works. The method and its limits are in `docs/benchmarks.md`.

mod apps;
mod cpio;
mod faults;
mod figures;
mod machine;
mod ours;
mod packages;
mod peer;
mod picture;
mod profile;
mod publish;
mod report;
mod side;
mod suites;

use anyhow::{Result, bail};
use machine::Mode;
use report::Report;
use side::{Planned, Sides};
use std::{collections::BTreeMap, fs, path::Path, process::Command};
use suites::{SUITES, Suite};

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Suites, separated by commas: start, micro, idle, memory, boot, apps.
    #[arg(long, value_delimiter = ',')]
    suite: Vec<String>,
    /// icount: instructions, exact; wall: host nanoseconds, only ratios mean anything.
    #[arg(long, value_enum, default_value = "icount")]
    mode: Mode,
    /// Only what fits in five minutes.
    #[arg(long)]
    quick: bool,
    /// Run only one side.
    #[arg(long, value_enum, default_value = "both")]
    side: Side,
    /// Compare with the report of an earlier commit (a Git reference whose `bench/baseline.json` is read).
    #[arg(long)]
    against: Option<String>,
    /// Write this run's figures to `bench/baseline.json`.
    #[arg(long)]
    save_baseline: bool,
    /// Show where the instructions of a scenario go: start, total, boot, or a figure of the suite micro.
    #[arg(long, value_name = "SCENARIO")]
    profile: Option<String>,
    /// Plant every fault that must void a figure and show that it does; runs no machine.
    #[arg(long)]
    self_test: bool,
    /// Of the suites micro and apps, only these figures, separated by commas.
    #[arg(long, value_delimiter = ',')]
    figure: Vec<String>,
    /// Take Linux's figures from an earlier run if everything they depend on is the same (icount only: they are exact).
    #[arg(long)]
    reuse: bool,
    /// Seed of guest randomness.
    #[arg(long, default_value_t = 1)]
    seed: u32,
}

impl Arguments {
    /// The quick run of our side alone, which the tests do.
    pub(crate) fn quick_ours() -> Self {
        Self {
            suite: vec!["start".into(), "micro".into()],
            mode: Mode::Icount,
            quick: true,
            side: Side::Ours,
            against: None,
            save_baseline: false,
            profile: None,
            self_test: false,
            figure: Vec::new(),
            reuse: false,
            seed: 1,
        }
    }

    /// The self-test alone.
    pub(crate) fn self_test() -> Self {
        Self { self_test: true, ..Self::quick_ours() }
    }

    /// Whether machines are run at all.
    pub(crate) const fn needs_machine(&self) -> bool {
        !self.self_test
    }

    fn suites(&self) -> Result<Vec<&'static Suite>> {
        if self.suite.is_empty() {
            return Ok(SUITES.iter().filter(|suite| suite.is_quick || !self.quick).collect());
        }
        let mut suites = Vec::new();
        for name in &self.suite {
            let before = suites.len();
            suites.extend(Suite::named(name));
            if suites.len() == before {
                let known: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
                bail!("there is no suite {name:?}; suites are {}", known.join(", "));
            }
        }
        Ok(suites)
    }

    /// The suites with the figures that are asked for.
    fn planned(&self, suites: &[&'static Suite]) -> Result<Vec<Planned>> {
        let mut planned = Vec::new();
        for suite in suites {
            let mut places = suite.places(self.quick, self.mode);
            if suite.takes_figures() && !self.figure.is_empty() {
                places.retain(|place| self.figure.iter().any(|name| place.measured() == name));
            }
            planned.push(Planned { suite, flags: suite.flags(self.mode, self.seed), places });
        }
        let known = |name: &String| {
            let mut places = planned.iter().filter(|planned| planned.suite.takes_figures());
            places.any(|planned| planned.places.iter().any(|place| place.measured() == name))
        };
        if let Some(unknown) = self.figure.iter().find(|name| !known(name)) {
            bail!(
                "the suites micro and apps, as far as they are to run, have no figure {unknown:?}"
            );
        }
        Ok(planned)
    }
}

/// Which systems to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Side {
    /// Both.
    Both,
    /// Linux only.
    Linux,
    /// MettEagle only.
    Ours,
}

/// Runs the benchmark; an error when a figure is void.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    if arguments.self_test {
        return faults::run_all();
    }
    let report = measure(root, arguments)?;
    let Some(report) = report else { return Ok(()) };
    let void: Vec<String> = report
        .void()
        .map(|figure| format!("{}: {}", figure.name, figure.void.as_deref().unwrap_or_default()))
        .collect();
    if void.is_empty() {
        Ok(())
    } else {
        bail!("{} figures are void:\n  {}", void.len(), void.join("\n  "))
    }
}

/// Runs what was asked for and publishes the report, unless it was a profile.
fn measure(root: &Path, arguments: &Arguments) -> Result<Option<Report>> {
    let suites = arguments.suites()?;
    let planned = arguments.planned(&suites)?;
    let out = root.join("target/bench");
    fs::create_dir_all(&out)?;
    let sources = root.join("bench/linux");
    let programs = peer::compile(&sources.join("src"), &out.join("programs"))?;
    if let Some(scenario) = &arguments.profile {
        let ours = ours::build(root, &out, &programs, None)?;
        let flags = SUITES[0].flags(Mode::Icount, arguments.seed);
        return profile::run(root, &out, &ours, &flags, scenario).map(|()| None);
    }
    let has_functions = suites.iter().any(|suite| suite.boot == suites::Boot::Functions);
    let functions = has_functions.then(|| apps::tree(root)).transpose()?;
    let functions = functions.as_deref();
    let linux = match arguments.side {
        Side::Ours => None,
        _ => Some(peer::build(&sources, &out.join("linux"), &programs, functions)?),
    };
    let ours = match arguments.side {
        Side::Linux => None,
        _ => Some(ours::build(root, &out, &programs, functions)?),
    };
    let quick = arguments.quick;
    let reuse = arguments.reuse && arguments.mode == Mode::Icount;
    let sides = Sides { linux: linux.as_ref(), ours: ours.as_ref(), out: &out, quick, reuse };
    let mut report = Report {
        schema: report::SCHEMA,
        commit: commit(root)?,
        date: packages::output(Command::new("date").args(["-u", "+%F"]))?.trim().to_owned(),
        qemu: machine::version()?,
        flags: BTreeMap::new(),
        packages: linux.as_ref().map(|peer| peer.packages.clone()).unwrap_or_default(),
        figures: Vec::new(),
    };
    for (planned, runs) in planned.iter().zip(sides.run(&planned)?) {
        publish::distributions(&out, planned.suite.name, &runs)?;
        report.flags.insert(planned.suite.name.to_owned(), planned.flags.clone().into());
        report.figures.extend(side::figures(planned, &runs));
    }
    publish::publish(root, &out, &report)?;
    publish::compare(root, &report, arguments.against.as_deref())?;
    if arguments.save_baseline {
        publish::save(root, &report)?;
    }
    Ok(Some(report))
}

fn commit(root: &Path) -> Result<String> {
    let git = |arguments: &[&str]| {
        packages::output(Command::new("git").args(arguments).current_dir(root))
    };
    let head = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Ok(format!("{}{}", head.trim(), if changed.trim().is_empty() { "" } else { "+" }))
}
