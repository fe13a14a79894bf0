//! `cargo xtask bench`: Linux and MettEagle in the same emulated machine, in one run.
//!
//! Owns: building the Linux side, running both, refusing figures that cannot be trusted, the report and the comparison with an earlier
//! one. Must not know: how either system works. The method and its limits are in `docs/benchmarks.md`.

mod apps;
mod arguments;
mod cpio;
mod faults;
mod figures;
mod machine;
mod names;
mod ours;
mod packages;
mod parallel;
mod peer;
mod picture;
mod places;
mod profile;
mod publish;
mod report;
mod side;
mod suites;
mod table;
mod tools;
mod verify;

use crate::{build, setup};
use anyhow::{Context, Result, bail};
pub(crate) use arguments::Arguments;
use arguments::Side;
use ours::Ours;
use peer::Peer;
use report::Report;
use side::{Planned, Sides};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use suites::{Boot, Trees};

/// Runs the benchmark; an error when a figure is void.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let planned = arguments.planned()?;
    let before = publish::earlier(root, arguments.against.as_deref())?;
    setup::run(root, true)?;
    let begun = Instant::now();
    build::all(root)?;
    let place = Place::open(root, &arguments.out)?;
    if arguments.self_test {
        return faults::run(&place, arguments.side);
    }
    if arguments.verify {
        return verify::run(&place, arguments.side, arguments.seed);
    }
    if let Some(scenario) = &arguments.profile {
        return profile::run(&place, arguments.seed, scenario);
    }
    let (report, measuring) = measure(&place, arguments, &planned)?;
    publish::publish(&place, &report)?;
    let (all, building) = (begun.elapsed(), begun.elapsed().saturating_sub(measuring));
    let [all, building, measuring] = [all, building, measuring].map(clock);
    println!("took {all}: {building} to build, {measuring} to measure");
    publish::compare(&report, before.as_ref());
    let void = report.refusals();
    if !void.is_empty() {
        bail!("void figures:\n  {}", void.join("\n  "));
    }
    // Nothing is compared with a report that has void figures.
    if arguments.save_baseline { publish::save(root, &report) } else { Ok(()) }
}

/// How long a machine may take, on a busy computer too: its figures do not depend on it.
const LIMIT: Duration = Duration::from_secs(1_800);

/// Where a run works: one at a time.
pub(crate) struct Place {
    /// The repository.
    root: PathBuf,
    /// What is built and written.
    out: PathBuf,
    _lock: fs::File,
}

impl Place {
    fn open(root: &Path, out: &Path) -> Result<Self> {
        let out = root.join(out);
        fs::create_dir_all(&out).with_context(|| format!("{} cannot be made", out.display()))?;
        let lock = fs::File::create(out.join("lock"))
            .with_context(|| format!("{} cannot be written to", out.display()))?;
        if lock.try_lock().is_err() {
            bail!("another cargo xtask bench is at work in {}", out.display());
        }
        Ok(Self { root: root.to_owned(), out, _lock: lock })
    }
}

/// The files of the images that are booted.
fn trees(root: &Path, programs: &Path, boots: impl Iterator<Item = Boot>) -> Result<Trees> {
    let mut trees = Trees::new();
    for boot in boots {
        let tree = match boot {
            Boot::Functions => apps::tree(root)?,
            Boot::Tools => tools::tree(root, programs)?,
            Boot::Scenarios | Boot::Probe => continue,
        };
        trees.insert(boot, tree);
    }
    Ok(trees)
}

/// A duration in minutes and seconds.
fn clock(duration: Duration) -> String {
    format!("{} min {:02} s", duration.as_secs() / 60, duration.as_secs() % 60)
}

/// Builds the sides that are to run, for the suites that are.
fn build_sides(
    place: &Place,
    side: Side,
    planned: &[Planned],
) -> Result<(Option<Peer>, Option<Ours>)> {
    let (root, out) = (place.root.as_path(), place.out.as_path());
    let sources = root.join("bench/linux");
    let programs = peer::compile(&sources.join("src"), &out.join("programs"))?;
    let trees = trees(root, &programs, planned.iter().map(|planned| planned.suite.boot))?;
    let linux = match side {
        Side::Ours => None,
        _ => {
            let (debs, out) = (out.join("linux/packages"), out.join("linux"));
            Some(peer::build(&sources, &debs, &out, &programs, &trees)?)
        }
    };
    let ours = match side {
        Side::Linux => None,
        _ => {
            let ours = ours::build(root, out, &programs, &trees)?;
            let is_checked = planned.iter().any(|planned| planned.suite.is_checked);
            Some(if is_checked { ours.with_checked_kernel(root, out)? } else { ours })
        }
    };
    Ok((linux, ours))
}

/// Builds and runs what was asked for; the report, and how long the machines ran.
fn measure(
    place: &Place,
    arguments: &Arguments,
    planned: &[Planned],
) -> Result<(Report, Duration)> {
    let (root, out) = (place.root.as_path(), place.out.as_path());
    publish::clear(out)?;
    let (linux, ours) = build_sides(place, arguments.side, planned)?;
    let qemu = machine::version()?;
    let sides = Sides {
        qemu: &qemu,
        linux: linux.as_ref(),
        ours: ours.as_ref(),
        out,
        quick: arguments.is_short(),
        reuse: arguments.reuse,
        limit: LIMIT,
    };
    let mut report = Report {
        schema: report::SCHEMA,
        commit: commit(root)?,
        date: packages::output(Command::new("date").args(["-u", "+%F"]))?.trim().to_owned(),
        qemu: qemu.clone(),
        flags: BTreeMap::new(),
        packages: linux.as_ref().map(|peer| peer.packages.clone()).unwrap_or_default(),
        figures: Vec::new(),
    };
    let begun = Instant::now();
    let all_runs = sides.run(planned);
    let measuring = begun.elapsed();
    for (planned, runs) in planned.iter().zip(all_runs) {
        publish::distributions(out, planned.suite.name, &runs)?;
        report.flags.insert(planned.suite.name.to_owned(), planned.flags.clone().into());
        report.figures.extend(side::figures(planned, &runs));
    }
    report.figures.extend(parallel::ratio(&report.figures));
    Ok((report, measuring))
}

fn commit(root: &Path) -> Result<String> {
    let git = |arguments: &[&str]| {
        packages::output(Command::new("git").args(arguments).current_dir(root))
    };
    let head = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Ok(format!("{}{}", head.trim(), if changed.trim().is_empty() { "" } else { "+" }))
}
