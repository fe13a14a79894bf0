//! `cargo xtask bench`: Linux and MettEagle in the same emulated machine, in one run.
//!
//! Owns: building the Linux side, running both, refusing figures that cannot be trusted, the report and the comparison with an earlier
//! one. Must not know: how either system works. The method and its limits are in `docs/benchmarks.md`.

mod cpio;
mod figures;
mod machine;
mod ours;
mod packages;
mod peer;
mod picture;
mod profile;
mod report;
mod suites;

use anyhow::{Context, Result, bail};
use figures::{Output, Sample};
use machine::{Flags, Mode};
use report::{Figure, Report};
use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Duration};

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Suites, separated by commas: start, idle, micro.
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
    /// Show where the instructions of a scenario go: start, total, or a figure of the suite micro.
    #[arg(long, value_name = "SCENARIO")]
    profile: Option<String>,
    /// Of the suite micro, only these figures, separated by commas.
    #[arg(long, value_delimiter = ',')]
    figure: Vec<String>,
    /// Seed of guest randomness.
    #[arg(long, default_value_t = 1)]
    seed: u32,
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
    let suites: Vec<&str> = if !arguments.suite.is_empty() {
        arguments.suite.iter().map(String::as_str).collect()
    } else if arguments.quick {
        vec!["start", "micro"]
    } else {
        vec!["start", "idle", "micro"]
    };
    let out = root.join("target/bench");
    fs::create_dir_all(&out)?;
    let sources = root.join("bench/linux");
    let programs = peer::compile(&sources.join("src"), &out.join("programs"))?;
    if let Some(scenario) = &arguments.profile {
        let ours = ours::build(root, &out, &programs)?;
        return profile::run(root, &out, &ours, &flags("start", arguments), scenario);
    }
    let linux = match arguments.side {
        Side::Ours => None,
        _ => Some(peer::build(&sources, &out.join("linux"), &programs)?),
    };
    let ours = match arguments.side {
        Side::Linux => None,
        _ => Some(ours::build(root, &out, &programs)?),
    };
    let mut figures = Vec::new();
    for suite in &suites {
        if suites::places(suite, arguments.quick).is_empty() {
            bail!("there is no suite {suite:?}; suites are start, idle, micro");
        }
        figures.extend(run_suite(&out, suite, arguments, linux.as_ref(), ours.as_ref())?);
    }
    let report = Report {
        schema: report::SCHEMA,
        commit: commit(root)?,
        date: packages::output(Command::new("date").args(["-u", "+%F"]))?.trim().to_owned(),
        qemu: machine::version()?,
        flags: flags(suites[0], arguments),
        packages: linux.map(|peer| peer.packages).unwrap_or_default(),
        figures,
    };
    publish(root, &out, &report, arguments)
}

fn flags(suite: &str, arguments: &Arguments) -> Flags {
    Flags {
        machine: "q35".into(),
        memory: suites::memory(suite),
        mode: arguments.mode,
        seed: arguments.seed,
    }
}

/// Runs one suite on the chosen sides and puts their figures side by side.
fn run_suite(
    out: &Path,
    suite: &str,
    arguments: &Arguments,
    linux: Option<&peer::Peer>,
    ours: Option<&ours::Ours>,
) -> Result<Vec<Figure>> {
    let flags = flags(suite, arguments);
    let places = suites::places(suite, arguments.quick);
    let wanted = |place: &suites::Place| {
        arguments.figure.is_empty() || arguments.figure.contains(&place.name)
    };
    let places: Vec<suites::Place> = places.into_iter().filter(wanted).collect();
    let names: Vec<&str> = places.iter().map(|place| place.name.as_str()).collect();
    let limit = Duration::from_secs(if arguments.quick { 240 } else { 1_500 });
    let progress = |side: &'static str| {
        move |line: &str| {
            if line.starts_with("R ") || line.starts_with("S begin") {
                eprintln!(
                    "  {side}: {}",
                    line.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
                );
            }
        }
    };
    let theirs = match linux {
        Some(peer) => {
            let icount = u8::from(flags.mode == Mode::Icount);
            let scenarios = suites::scenarios(suite, arguments.quick);
            let line = format!(
                "console=ttyS0 quiet loglevel=1 panic=-1 tsc=reliable lp={scenarios} lpicount={icount} lprep=1 figures={}",
                names.join(",")
            );
            let text =
                machine::run(&flags, &peer.kernel, &peer.base, &line, limit, progress("linux"))?;
            fs::write(out.join(format!("linux-{suite}.log")), &text)?;
            Some(parse("Linux", &text)?)
        }
        None => None,
    };
    let ours = match ours {
        None => None,
        Some(ours) => {
            let quick = u8::from(arguments.quick);
            let line = format!("bench={suite} quick={quick} figures={}", names.join(","));
            let text =
                machine::run(&flags, &ours.kernel, &ours.module, &line, limit, progress("ours"))?;
            fs::write(out.join(format!("ours-{suite}.log")), &text)?;
            Some(parse("MettEagle", &text)?)
        }
    };
    Ok(places.iter().map(|place| figure(place, theirs.as_ref(), ours.as_ref())).collect())
}

fn parse(system: &str, text: &str) -> Result<Output> {
    let output = Output::parse(text);
    let unfinished = output.unfinished();
    if unfinished.is_empty() {
        Ok(output)
    } else {
        bail!("{system} did not finish the scenario {}", unfinished.join(", "))
    }
}

/// Puts the systems' samples of one figure together.
fn figure(place: &suites::Place, theirs: Option<&Output>, ours: Option<&Output>) -> Figure {
    let mut systems: BTreeMap<String, Sample> = BTreeMap::new();
    let mut void = None;
    let mut take = |system: &str, result: Result<Sample, figures::Void>| match result {
        Ok(sample) => {
            systems.insert(system.to_owned(), sample);
        }
        Err(reason) => void = Some(format!("{system}: {}", reason.reason())),
    };
    if let Some(theirs) = theirs {
        for (system, name, metric) in &place.linux {
            take(system, theirs.figure(name, metric, place.least));
        }
    }
    if let (Some(ours), Some((name, metric))) = (ours, &place.ours) {
        take("ours", ours.figure(name, metric, place.least));
    }
    let best = ["crun", "runc", "process"].iter().find_map(|system| systems.get(*system));
    let ratio = match (best, systems.get("ours")) {
        (Some(best), Some(ours)) => Some(ours.p50 / best.p50),
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

fn commit(root: &Path) -> Result<String> {
    let git = |arguments: &[&str]| {
        packages::output(Command::new("git").args(arguments).current_dir(root))
    };
    let head = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Ok(format!("{}{}", head.trim(), if changed.trim().is_empty() { "" } else { "+" }))
}

/// Writes the report and the pictures, prints the table and the comparison.
fn publish(root: &Path, out: &Path, report: &Report, arguments: &Arguments) -> Result<()> {
    fs::write(out.join("report.json"), serde_json::to_string_pretty(report)?)?;
    fs::write(out.join("report.md"), report.markdown())?;
    draw(out, report)?;
    println!("{}", report.markdown());
    println!("report: target/bench/report.json, target/bench/report.md, target/bench/*.svg");
    if arguments.save_baseline {
        fs::write(root.join("bench/baseline.json"), serde_json::to_string_pretty(report)? + "\n")?;
    }
    if let Some(before) = earlier(root, arguments.against.as_deref())? {
        println!("\nagainst {} ({}):", before.commit, before.date);
        for (name, old, new) in report.changes(&before) {
            let percent = (new / old - 1.0) * 100.0;
            println!(
                "  {name}: {} -> {} ({percent:+.1} %)",
                report::number(old),
                report::number(new)
            );
        }
    }
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

/// The report to compare with: of a Git reference, or the committed baseline.
fn earlier(root: &Path, reference: Option<&str>) -> Result<Option<Report>> {
    let text = match reference {
        Some(reference) => packages::output(
            Command::new("git")
                .args(["show", &format!("{reference}:bench/baseline.json")])
                .current_dir(root),
        )
        .with_context(|| format!("{reference} has no bench/baseline.json"))?,
        None => match fs::read_to_string(root.join("bench/baseline.json")) {
            Ok(text) => text,
            Err(_) => return Ok(None),
        },
    };
    Ok(Some(serde_json::from_str(&text).context("bench/baseline.json is not a report")?))
}

fn draw(out: &Path, report: &Report) -> Result<()> {
    let ratios: Vec<(String, f64)> = report
        .figures
        .iter()
        .filter(|figure| figure.suite == "micro" && figure.void.is_none())
        .filter_map(|figure| Some((figure.name.clone(), figure.ratio?)))
        .collect();
    if !ratios.is_empty() {
        fs::write(
            out.join("micro.svg"),
            picture::bars("Micro-operations: ours divided by Linux", &ratios),
        )?;
    }
    let series = |suite: &str, number: fn(&str) -> Option<f64>| -> Vec<picture::Line> {
        ["process", "crun", "runc", "ours"]
            .iter()
            .map(|system| picture::Line {
                name: (*system).to_owned(),
                points: report
                    .figures
                    .iter()
                    .filter(|figure| figure.suite == suite)
                    .filter_map(|figure| {
                        Some((number(&figure.name)?, figure.systems.get(*system)?.p50))
                    })
                    .collect(),
            })
            .filter(|line| !line.points.is_empty())
            .collect()
    };
    let parallel = series("start", |name| {
        if name == "start of nothing" {
            return Some(1.0);
        }
        name.strip_prefix("start, ")?.strip_suffix(" at once")?.parse().ok()
    });
    if !parallel.is_empty() {
        let svg =
            picture::lines("Start latency, N at once on one CPU", "N", "instructions", &parallel);
        fs::write(out.join("start.svg"), svg)?;
    }
    let idle = series("idle", |name| {
        let idle: f64 = name.strip_prefix("start with ")?.strip_suffix(" idle")?.parse().ok()?;
        Some(idle.max(1.0))
    });
    if !idle.is_empty() {
        let svg = picture::lines(
            "Start latency with idle containers present",
            "idle",
            "instructions",
            &idle,
        );
        fs::write(out.join("idle.svg"), svg)?;
    }
    Ok(())
}
