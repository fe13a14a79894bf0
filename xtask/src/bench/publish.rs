//! Publishes a report: files, pictures, the table on the screen, the comparison with an earlier report.

use super::{
    Place, packages, picture, places,
    report::{self, Report},
    side::Runs,
    table,
};
use anyhow::{Context, Result, ensure};
use std::{fs, path::Path, process::Command};

/// Removes an earlier run's report and pictures, so that what is there after a run that failed is not taken for its own.
pub(crate) fn clear(out: &Path) -> Result<()> {
    for entry in fs::read_dir(out)? {
        let path = entry?.path();
        let is_picture = path.extension().is_some_and(|kind| kind == "svg");
        if is_picture || path.file_stem().is_some_and(|name| name == "report") {
            fs::remove_file(&path)
                .with_context(|| format!("{} cannot be removed", path.display()))?;
        }
    }
    Ok(())
}

/// Prints the table, then writes the report and the pictures.
pub(crate) fn publish(place: &Place, report: &Report) -> Result<()> {
    let out = place.out.as_path();
    println!("\n{}", table::text(report));
    println!("{}", report.verdict());
    write(&out.join("report.json"), &serde_json::to_string_pretty(report)?)?;
    write(&out.join("report.md"), &report.markdown())?;
    draw(out, report)?;
    let out = out.strip_prefix(&place.root).unwrap_or(out).display();
    println!("report: {out}/report.json, {out}/report.md, {out}/*.svg");
    Ok(())
}

/// Writes a file as a whole or not at all.
fn write(file: &Path, text: &str) -> Result<()> {
    let part = file.with_extension("part");
    let written = fs::write(&part, text).and_then(|()| fs::rename(&part, file));
    written
        .inspect_err(|_| drop(fs::remove_file(&part)))
        .with_context(|| format!("{} cannot be written", file.display()))
}

/// Writes the baseline that later runs are compared with, and its tables.
pub(crate) fn save(root: &Path, report: &Report) -> Result<()> {
    let folder = root.join("bench");
    write(&folder.join("baseline.json"), &(serde_json::to_string_pretty(report)? + "\n"))?;
    write(&folder.join("baseline.md"), &report.markdown())
}

/// Prints every figure that changed by more than 1 % since an earlier report.
pub(crate) fn compare(report: &Report, before: Option<&Report>) {
    let Some(before) = before else { return };
    if !report.is_comparable(before) {
        println!(
            "\nnot compared with {}: its figures are instructions, these are times",
            before.commit
        );
        return;
    }
    println!("\nagainst {} ({}), changes above 1 %:", before.commit, before.date);
    if report.qemu != before.qemu {
        println!("  (that was {}, which may count otherwise)", before.qemu);
    }
    let other = report.other_flags(before);
    if !other.is_empty() {
        println!("  (not compared, because the flags were others: {})", other.join(", "));
    }
    let changes = report.changes(before);
    for (name, old, new) in &changes {
        let word = if new > old { "worse" } else { "better" };
        let percent = (new / old - 1.0) * 100.0;
        let (old, new) = (report::number(*old), report::number(*new));
        println!("  {word:6} {name}: {old} -> {new} ({percent:+.1} %)");
    }
    if changes.is_empty() {
        println!("  none");
    }
}

/// The report to compare with: of a Git reference, or the committed baseline.
pub(crate) fn earlier(root: &Path, reference: Option<&str>) -> Result<Option<Report>> {
    let file = "bench/baseline.json";
    let (whose, text) = match reference {
        Some(reference) => {
            let object = format!("{reference}:{file}");
            let show = packages::output(
                Command::new("git").args(["show", "--end-of-options", &object]).current_dir(root),
            );
            (reference, show.with_context(|| format!("{reference} has no {file}"))?)
        }
        None => match fs::read_to_string(root.join(file)) {
            Ok(text) => ("this tree", text),
            Err(_) => return Ok(None),
        },
    };
    let report: Report = serde_json::from_str(&text)
        .with_context(|| format!("{file} of {whose} is no report of schema {}", report::SCHEMA))?;
    ensure!(
        report.schema == report::SCHEMA,
        "{file} of {whose} has schema {}, not {}",
        report.schema,
        report::SCHEMA
    );
    Ok(Some(report))
}

/// Systems in the order they are drawn in, and their names.
const SYSTEMS: [(&str, &str); 4] =
    [("process", "process"), ("crun", "crun"), ("runc", "runc"), ("ours", "MettEagle")];

/// Draws the distribution of start latencies from the samples of a run.
pub(crate) fn distributions(out: &Path, suite: &str, runs: &Runs) -> Result<()> {
    if suite != "start" {
        return Ok(());
    }
    let panel = |(system, words): (&str, &str)| {
        let (runs, name, alone) = match system {
            "ours" => (&runs.ours, "compartment", ".seq"),
            "process" => (&runs.linux, "spawn.static", ""),
            runtime => (&runs.linux, runtime, ".seq"),
        };
        let output = &runs.first()?.output;
        let curve = |number: u32| {
            let name = match number {
                1 => format!("{name}{alone}"),
                number => format!("{name}.par{number}"),
            };
            let mut values = output.values(&name, "start")?.to_vec();
            values.sort_by(f64::total_cmp);
            Some((number, values))
        };
        let numbers = std::iter::once(1).chain(places::PARALLEL);
        let curves: Vec<_> = numbers.filter_map(curve).collect();
        (!curves.is_empty()).then(|| picture::Panel { name: words.to_owned(), curves })
    };
    let panels: Vec<picture::Panel> = SYSTEMS.into_iter().filter_map(panel).collect();
    if panels.is_empty() {
        return Ok(());
    }
    let title = "Create request to first instruction, N at once on one CPU";
    write(&out.join("start-cdf.svg"), &picture::distributions(title, "instructions", &panels))
}

fn draw(out: &Path, report: &Report) -> Result<()> {
    for (suite, title) in [
        ("micro", "Micro-operations: instructions, MettEagle's divided by Linux's"),
        ("tools", "Programs people know: instructions, MettEagle's divided by crun's"),
        ("apps", "Python functions end to end: instructions, MettEagle's divided by crun's"),
    ] {
        let ratios: Vec<(String, f64)> = report
            .figures
            .iter()
            .filter(|figure| figure.suite == suite && figure.void.is_none())
            // Nearly the same as the figure of the whole, which is never less.
            .filter(|figure| !figure.name.ends_with(" until exit"))
            .filter_map(|figure| Some((figure.name.clone(), figure.ratio?)))
            .collect();
        if !ratios.is_empty() {
            write(&out.join(suite).with_extension("svg"), &picture::bars(title, &ratios))?;
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
        write(
            &out.join("start.svg"),
            &picture::lines(title, "N at once", "instructions", &parallel),
        )?;
    }
    let idle = series(report, "idle", |name| {
        name.strip_prefix("start with ")?.strip_suffix(" idle")?.parse().ok()
    });
    if !idle.is_empty() {
        let title = "Start latency with idle containers present";
        write(
            &out.join("idle.svg"),
            &picture::lines(title, "idle containers", "instructions", &idle),
        )?;
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
    SYSTEMS
        .into_iter()
        .enumerate()
        .map(|(colour, (system, words))| picture::Line {
            name: words.to_owned(),
            colour,
            points: points(system),
        })
        .filter(|line: &picture::Line| !line.points.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository with a baseline in its second commit.
    fn repository(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("mett-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("bench")).unwrap();
        let git = |line: &str| {
            let who = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
            packages::output(
                Command::new("git").args(who).args(line.split(' ')).current_dir(&folder),
            )
            .unwrap();
        };
        git("init -q");
        git("commit -q --allow-empty -m first");
        let text = format!(
            r#"{{"schema":{},"commit":"c","date":"d","qemu":"q","flags":{{}},"packages":[],"figures":[]}}"#,
            report::SCHEMA
        );
        fs::write(folder.join("bench/baseline.json"), text).unwrap();
        git("add -A");
        git("commit -q -m second");
        folder
    }

    #[test]
    fn the_baseline_of_a_commit_is_read_and_what_is_none_is_refused() {
        let folder = repository("against");
        assert_eq!(earlier(&folder, Some("HEAD")).unwrap().unwrap().commit, "c");
        let refusal = |reference| format!("{:#}", earlier(&folder, Some(reference)).unwrap_err());
        assert!(refusal("HEAD~1").starts_with("HEAD~1 has no bench/baseline.json"));
        assert!(refusal("nowhere").starts_with("nowhere has no bench/baseline.json"));
        assert!(refusal("--help").starts_with("--help has no bench/baseline.json"));
        // The tree's own, another schema, and none.
        let file = folder.join("bench/baseline.json");
        assert!(earlier(&folder, None).unwrap().is_some());
        let other = fs::read_to_string(&file).unwrap().replace("\"schema\":1", "\"schema\":9");
        fs::write(&file, other).unwrap();
        assert!(earlier(&folder, None).unwrap_err().to_string().contains("schema 9"));
        fs::remove_file(&file).unwrap();
        assert!(earlier(&folder, None).unwrap().is_none());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named_and_leaves_no_part() {
        let folder = std::env::temp_dir().join(format!("mett-full-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("report.json");
        std::os::unix::fs::symlink("/dev/full", folder.join("report.part")).unwrap();
        let error = format!("{:#}", write(&file, "text").unwrap_err());
        assert!(error.contains("report.json cannot be written: No space left"), "{error}");
        assert!(!file.exists() && fs::read_dir(&folder).unwrap().next().is_none());
        fs::remove_dir_all(&folder).unwrap();
    }
}
