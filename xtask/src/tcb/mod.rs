//! `cargo xtask tcb`: how much code is trusted, and by whom.
//!
//! Owns: which crates are trusted by whom, the limits, the report. Counted is every source file that the release build of the machine's programs really
//! compiled (from the compiler's own dependency files), without blank lines, comments and items under `#[cfg(test)]`.

mod source;

use crate::{build, toolchain::TARGET};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use source::Count;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Most lines of our own in privileged mode.
const KERNEL_LIMIT: usize = 10_000;
/// Most lines of our own that every compartment trusts.
const TRUSTED_LIMIT: usize = 25_000;
/// Kinds of trust, and by whom.
const TRUSTS: [(&str, &str); 3] = [
    ("privileged", "everybody (privileged mode)"),
    ("trusted", "every compartment"),
    ("compartment", "its own compartment"),
];
/// Programs that every compartment trusts, besides the kernel.
const SERVICES: [&str; 4] = ["root", "control", "images", "compartments"];

/// Arguments of `cargo xtask tcb`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// text or json
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    format: String,
}

impl Arguments {
    /// The report as text.
    pub(crate) fn text() -> Self {
        Self { format: "text".into() }
    }
}

/// One crate's size.
#[derive(Debug, Serialize)]
struct Crate {
    name: String,
    /// Written in this repository.
    is_ours: bool,
    /// `privileged`, `trusted` or `compartment`.
    trust: &'static str,
    #[serde(flatten)]
    count: Count,
}

/// A part of ours beside one of the paper's prototype; no lines where there is none, or where its tables have none.
#[derive(Debug, Serialize)]
struct Row {
    ours: &'static str,
    lines: usize,
    paper: &'static str,
    paper_lines: usize,
}

/// The report as one document.
fn document(crates: &[Crate]) -> serde_json::Value {
    let sum = |trusts: &[&str], limit: usize| serde_json::json!({ "lines": own(crates, trusts), "limit": limit });
    serde_json::json!({
        "privileged": sum(&["privileged"], KERNEL_LIMIT),
        "trusted": sum(&["privileged", "trusted"], TRUSTED_LIMIT),
        "crates": crates,
        "paper": rows(crates),
    })
}

/// Counts, reports, and fails beyond a limit.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    build::all(root)?;
    let crates = measure(root)?;
    match arguments.format.as_str() {
        "json" => println!("{}", serde_json::to_string_pretty(&document(&crates))?),
        _ => print(&crates),
    }
    limits(&crates)
}

/// Fails when our own code is beyond a limit.
fn limits(crates: &[Crate]) -> Result<()> {
    let (kernel, trusted) = (own(crates, &["privileged"]), own(crates, &["privileged", "trusted"]));
    ensure!(kernel > 0 && trusted > kernel, "nothing was counted");
    ensure!(kernel <= KERNEL_LIMIT, "the kernel has {kernel} lines, more than {KERNEL_LIMIT}");
    ensure!(
        trusted <= TRUSTED_LIMIT,
        "trusted code has {trusted} lines, more than {TRUSTED_LIMIT}"
    );
    Ok(())
}

fn own(crates: &[Crate], trust: &[&str]) -> usize {
    crates
        .iter()
        .filter(|one| one.is_ours && trust.contains(&one.trust))
        .map(|one| one.count.lines)
        .sum()
}

fn print(crates: &[Crate]) {
    println!("{:28} {:>7} {:>7}  trusted by", "crate", "lines", "unsafe");
    for (trust, by) in TRUSTS {
        for ours in [true, false] {
            for one in crates.iter().filter(|one| one.trust == trust && one.is_ours == ours) {
                let kind = if ours { "" } else { " (dependency)" };
                println!(
                    "{:28} {:>7} {:>7}  {by}{kind}",
                    one.name, one.count.lines, one.count.unsafe_blocks
                );
            }
        }
    }
    for (trust, by) in TRUSTS {
        let unsafe_blocks = |ours| -> usize {
            let chosen = crates.iter().filter(|one| one.trust == trust && one.is_ours == ours);
            chosen.map(|one| one.count.unsafe_blocks).sum()
        };
        println!(
            "unsafe, {by}: {} ours, {} in dependencies",
            unsafe_blocks(true),
            unsafe_blocks(false)
        );
    }
    compare(crates);
}

/// Our parts beside those of the paper's tables 1 and 2 (OSDI'25), whose lines are counted the same way.
fn rows(crates: &[Crate]) -> Vec<Row> {
    let lines = |names: &[&str]| -> usize {
        let chosen = crates.iter().filter(|one| names.contains(&one.name.as_str()));
        chosen.map(|one| one.count.lines).sum()
    };
    let dependencies = crates.iter().filter(|one| !one.is_ours && one.trust != "compartment");
    let dependencies = dependencies.map(|one| one.count.lines).sum();
    let kernel = lines(&["kernel", "kernel_abi", "kernel_core", "kernel_machine"]);
    let service = "compartment service: not in the table";
    [
        ("kernel", kernel, "kernel (L4Re)", 41_406),
        ("root, start of services", lines(&["root"]), "sigma0, moe, ned", 1_249 + 4_810 + 2_870),
        (
            "control (device and switch)",
            lines(&["control"]),
            "io, LUNA (devices, network)",
            22_012 + 8_735,
        ),
        ("images (shared, read-only)", lines(&["images"]), "PROMFS", 780),
        ("memory: in the kernel", 0, "LSMM", 4_289),
        ("writable files: untrusted", 0, "SPAFS", 501),
        ("compartments, contracts", lines(&["compartments", "contract"]), service, 0),
        ("runtime of services", lines(&["rt"]), "runtime libraries: not in the table", 0),
        ("dependencies, of others", dependencies, "", 0),
    ]
    .map(|(ours, lines, paper, paper_lines)| Row { ours, lines, paper, paper_lines })
    .into()
}

fn compare(crates: &[Crate]) {
    println!("\n{:38} {:>8}   {:38} {:>8}", "MettEagle", "lines", "the paper's prototype", "lines");
    let shown = |lines: usize| if lines == 0 { "-".to_owned() } else { lines.to_string() };
    for row in rows(crates) {
        let (lines, paper_lines) = (shown(row.lines), shown(row.paper_lines));
        println!("{:38} {lines:>8}   {:38} {paper_lines:>8}", row.ours, row.paper);
    }
    let (kernel, trusted) = (own(crates, &["privileged"]), own(crates, &["privileged", "trusted"]));
    println!("{:38} {kernel:>8}   limit {KERNEL_LIMIT}", "own, in privileged mode");
    println!("{:38} {trusted:>8}   limit {TRUSTED_LIMIT}", "own, trusted by every compartment");
    println!(
        "Linux there: kernel 1,454,290, network driver 31,675, containerd 922,901, runC 290,946: 2.7 million."
    );
}

/// The code of a Rust file line by line: no comments, no insides of strings, nothing under `#[cfg(test)]`.
pub(crate) fn code_lines(text: &str) -> Vec<String> {
    source::code(text).split('\n').map(str::to_owned).collect()
}

/// Counts every crate that is compiled into the machine's programs.
fn measure(root: &Path) -> Result<Vec<Crate>> {
    let privileged = closure(root, &["kernel"])?;
    let trusted = closure(root, &SERVICES)?;
    let all =
        closure(root, &["kernel", "root", "control", "images", "compartments", "personality"])?;
    let members = members(root)?;
    let mut crates = Vec::new();
    for (name, files) in sources(root, &all)? {
        let mut count = Count::default();
        for file in &files {
            let text = fs::read_to_string(file).unwrap_or_default();
            count.add(source::count(&text, file.extension().is_some_and(|kind| kind == "rs")));
        }
        let is_ours = members.contains(&name);
        let trust = if privileged.contains(&name) {
            "privileged"
        } else if trusted.contains(&name) {
            "trusted"
        } else {
            "compartment"
        };
        crates.push(Crate { name, is_ours, trust, count });
    }
    Ok(crates)
}

/// Names of the crates written in this repository. Paths cannot tell: what a dependency's build script generates lies below our target folder.
fn members(root: &Path) -> Result<BTreeSet<String>> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let described: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = described["packages"].as_array().context("cargo metadata names no packages")?;
    Ok(packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .map(|name| name.replace('-', "_"))
        .collect())
}

/// Names of all crates that packages are made of on the machine, procedural macros (which run on the building computer) apart.
fn closure(root: &Path, packages: &[&str]) -> Result<BTreeSet<String>> {
    let mut command = Command::new("cargo");
    command.args([
        "tree",
        "--target",
        TARGET,
        "-e",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "-f",
        "{p}",
    ]);
    for package in packages {
        command.args(["-p", package]);
    }
    let output = command.current_dir(root).output()?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(|name| name.replace('-', "_"))
        .collect())
}

/// The sources of each crate, from the newest dependency file the compiler left for it.
fn sources(root: &Path, names: &BTreeSet<String>) -> Result<BTreeMap<String, Vec<PathBuf>>> {
    let folder = build::release(root).join("deps");
    let mut newest: BTreeMap<String, (std::time::SystemTime, PathBuf)> = BTreeMap::new();
    for entry in
        fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?
    {
        let path = entry?.path();
        let Some(stem) =
            path.file_name().and_then(|name| name.to_str()?.strip_suffix(".d").map(str::to_owned))
        else {
            continue;
        };
        let name = stem.rsplit_once('-').map_or(stem.as_str(), |(name, _)| name).to_owned();
        let modified = fs::metadata(&path)?.modified()?;
        // The personality is a library and a program of the same name: both count.
        let key = if name == "personality" { stem } else { name };
        if newest.get(&key).is_none_or(|(other, _)| *other < modified) {
            newest.insert(key, (modified, path));
        }
    }
    let mut found: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
    for (key, (_, path)) in newest {
        let name = if key.starts_with("personality-") { "personality" } else { &key };
        if names.contains(name) {
            found
                .entry(name.to_owned())
                .or_default()
                .extend(listed(root, &fs::read_to_string(&path)?));
        }
    }
    for name in names {
        ensure!(found.contains_key(name), "no dependency file for crate {name}");
    }
    Ok(found.into_iter().map(|(name, files)| (name, files.into_iter().collect())).collect())
}

/// The files a dependency file names: those before the first blank rule, as `path:` lines of their own.
fn listed(root: &Path, text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| line.strip_suffix(':'))
        .map(|path| root.join(path))
        .filter(|path| {
            path.is_file() && path.extension().is_some_and(|kind| kind == "rs" || kind == "s")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_written_here_is_ours() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
        let members = members(root).expect("cargo describes this workspace");
        assert!(["kernel_core", "personality", "rt"].iter().all(|name| members.contains(*name)));
        assert!(!members.contains("typenum"));
    }

    #[test]
    fn the_document_has_sums_crates_and_the_papers_tables() {
        let count = Count { lines: 7, unsafe_blocks: 1 };
        let kernel = Crate { name: "kernel".into(), is_ours: true, trust: "privileged", count };
        let document = document(&[kernel]);
        assert_eq!(document["privileged"]["lines"], 7);
        assert_eq!(document["crates"][0]["unsafe_blocks"], 1);
        assert_eq!(document["paper"][0]["lines"], 7);
    }

    #[test]
    fn limits_fail_when_exceeded_and_when_nothing_was_counted() {
        let one = |trust, lines| Crate {
            name: "a".into(),
            is_ours: true,
            trust,
            count: Count { lines, unsafe_blocks: 0 },
        };
        assert!(limits(&[]).is_err());
        assert!(limits(&[one("privileged", 10), one("trusted", 10)]).is_ok());
        assert!(limits(&[one("privileged", KERNEL_LIMIT + 1), one("trusted", 10)]).is_err());
        assert!(limits(&[one("privileged", 10), one("trusted", TRUSTED_LIMIT)]).is_err());
    }
}
