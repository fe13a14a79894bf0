//! Publishes a report: files, pictures, the table on the screen, the comparison with an earlier report.

use super::{
    packages, picture,
    report::{self, Report},
    side::{Run, Runs},
};
use anyhow::{Context, Result};
use std::{fs, path::Path, process::Command};

/// Writes the report and the pictures and prints the table.
pub(crate) fn publish(root: &Path, out: &Path, report: &Report) -> Result<()> {
    fs::write(out.join("report.json"), serde_json::to_string_pretty(report)?)?;
    fs::write(out.join("report.md"), report.markdown())?;
    draw(out, report)?;
    println!("{}", report.markdown());
    let out = out.strip_prefix(root).unwrap_or(out).display();
    println!("report: {out}/report.json, {out}/report.md, {out}/*.svg");
    Ok(())
}

/// Writes the baseline that later runs are compared with, and its tables.
pub(crate) fn save(root: &Path, report: &Report) -> Result<()> {
    let folder = root.join("bench");
    fs::write(folder.join("baseline.json"), serde_json::to_string_pretty(report)? + "\n")?;
    fs::write(folder.join("baseline.md"), report.markdown())?;
    Ok(())
}

/// Prints every figure that changed by more than 1 % since an earlier report.
pub(crate) fn compare(root: &Path, report: &Report, reference: Option<&str>) -> Result<()> {
    let Some(before) = earlier(root, reference)? else { return Ok(()) };
    if !report.is_comparable(&before) {
        println!(
            "\nnot compared with {}: its figures are instructions, these are times",
            before.commit
        );
        return Ok(());
    }
    println!("\nagainst {} ({}), changes above 1 %:", before.commit, before.date);
    let changes = report.changes(&before);
    for (name, old, new) in &changes {
        let word = if new > old { "worse" } else { "better" };
        let percent = (new / old - 1.0) * 100.0;
        let (old, new) = (report::number(*old), report::number(*new));
        println!("  {word:6} {name}: {old} -> {new} ({percent:+.1} %)");
    }
    if changes.is_empty() {
        println!("  none");
    }
    Ok(())
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

/// Draws the distribution of start latencies from the samples of a run.
pub(crate) fn distributions(out: &Path, suite: &str, runs: &Runs) -> Result<()> {
    if suite != "start" {
        return Ok(());
    }
    let mut curves = Vec::new();
    let sources: [(&str, &Option<Run>, &str, &str); 4] = [
        ("process", &runs.linux, "spawn.static", ""),
        ("crun", &runs.linux, "crun", ".seq"),
        ("runc", &runs.linux, "runc", ".seq"),
        ("ours", &runs.ours, "compartment", ".seq"),
    ];
    for (colour, (system, run, name, alone)) in sources.iter().enumerate() {
        let Some(run) = run else { continue };
        for (dash, parallel) in [1, 8, 64].into_iter().enumerate() {
            let name = match parallel {
                1 => format!("{name}{alone}"),
                parallel => format!("{name}.par{parallel}"),
            };
            if let Some(values) = run.output.values(&name, "start") {
                let mut values = values.to_vec();
                values.sort_by(f64::total_cmp);
                let name = format!("{system}, N = {parallel}");
                curves.push(picture::Curve { name, values, colour, dash });
            }
        }
    }
    if !curves.is_empty() {
        let svg = picture::distribution(
            "Create request to first instruction, N at once on one CPU",
            "instructions",
            &curves,
        );
        fs::write(out.join("start-cdf.svg"), svg)?;
    }
    Ok(())
}

fn draw(out: &Path, report: &Report) -> Result<()> {
    for (suite, title) in [
        ("micro", "Micro-operations: instructions, ours divided by Linux's"),
        ("apps", "Python functions end to end: instructions, ours divided by crun's"),
    ] {
        let ratios: Vec<(String, f64)> = report
            .figures
            .iter()
            .filter(|figure| figure.suite == suite && figure.void.is_none())
            .filter_map(|figure| Some((figure.name.clone(), figure.ratio?)))
            .collect();
        if !ratios.is_empty() {
            fs::write(out.join(suite).with_extension("svg"), picture::bars(title, &ratios))?;
        }
    }
    let parallel = series(report, "start", |name| {
        if name == "start of nothing" {
            return Some(1.0);
        }
        name.strip_prefix("start, ")?.strip_suffix(" at once")?.parse().ok()
    });
    if !parallel.is_empty() {
        let title = "Start latency, N at once on one CPU";
        fs::write(out.join("start.svg"), picture::lines(title, "N", "instructions", &parallel))?;
    }
    let idle = series(report, "idle", |name| {
        let idle: f64 = name.strip_prefix("start with ")?.strip_suffix(" idle")?.parse().ok()?;
        Some(idle.max(1.0))
    });
    if !idle.is_empty() {
        let title = "Start latency with idle containers present";
        fs::write(out.join("idle.svg"), picture::lines(title, "idle", "instructions", &idle))?;
    }
    Ok(())
}

/// One line per system over a number in the figures' names.
fn series(report: &Report, suite: &str, number: fn(&str) -> Option<f64>) -> Vec<picture::Line> {
    let points = |system: &str| {
        report
            .figures
            .iter()
            .filter(|figure| figure.suite == suite && figure.void.is_none())
            .filter_map(|figure| Some((number(&figure.name)?, figure.systems.get(system)?.p50)))
            .collect()
    };
    ["process", "crun", "runc", "ours"]
        .iter()
        .map(|system| picture::Line { name: (*system).to_owned(), points: points(system) })
        .filter(|line: &picture::Line| !line.points.is_empty())
        .collect()
}
