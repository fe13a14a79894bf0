//! `cargo xtask check`: format, lints, house rules, documentation.
//!
//! Owns: the house rules that no other tool knows. Each rule names the file and line it found.

use crate::{
    build, documents, named, setup, tcb,
    toolchain::{TARGET, Toolchain},
};
use anyhow::{Context, Result, bail, ensure};
use std::{fs, path::Path, process::Command};

/// A file may have this many lines.
const FILE_LINES: usize = 520;
/// Files that are longer, and how long they may be: the list and its numbers only ever shrink.
const LONG_FILES: &[(&str, usize)] =
    &[("kernel/core/src/sched/mod.rs", 650), ("personality/src/memory.rs", 685)];
/// Crates on the machine that run no matter what anybody sends them: nothing in them may end a program on its own.
const NEVER_PANIC: [&str; 4] = ["kernel", "rt", "services", "personality"];
/// What such crates must not say outside of tests.
const PANICS: [&str; 6] =
    [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "unreachable!("];

/// One step: its name and whether it found nothing.
type Step = (&'static str, fn(&Path) -> Result<()>);

const STEPS: &[Step] = &[
    ("format", format),
    ("house rules", rules),
    ("named tests", named::check),
    ("generated documents", |root| documents::run(root, true)),
    ("lints (computer)", lints_host),
    ("lints (machine)", lints_machine),
    ("documentation", docs),
];

/// Runs every step and reports all that failed.
pub(crate) fn run(root: &Path) -> Result<()> {
    let failed = steps(root)?;
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

/// Runs every step; gives the names of those that failed.
pub(crate) fn steps(root: &Path) -> Result<Vec<&'static str>> {
    setup::run(root, false)?;
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        let result = step(root);
        println!("check {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        if let Err(error) = result {
            println!("{error:#}");
            failed.push(*name);
        }
    }
    Ok(failed)
}

/// How many steps there are.
pub(crate) const fn count() -> usize {
    STEPS.len()
}

fn expect_success(command: &mut Command, what: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("{what} cannot be started"))?;
    if status.success() { Ok(()) } else { bail!("{what} failed") }
}

fn format(root: &Path) -> Result<()> {
    expect_success(
        Command::new("cargo").args(["fmt", "--all", "--check"]).current_dir(root),
        "cargo fmt",
    )
}

fn lints_host(root: &Path) -> Result<()> {
    let mut command = Command::new("cargo");
    command
        .args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])
        .current_dir(root);
    expect_success(&mut command, "cargo clippy")
}

fn lints_machine(root: &Path) -> Result<()> {
    ensure!(
        Toolchain::of(root) == Toolchain::Rustup,
        "the lints of the machine's programs need rustup's target {TARGET}; Debian's compiler can only build them"
    );
    let mut command = build::cargo(root, "clippy", "release");
    command.args(["--quiet", "--bins", "--lib"]);
    for package in [
        "kernel",
        "root",
        "control",
        "images",
        "compartments",
        "personality",
        "suite",
        "bench",
        "attacks",
    ] {
        command.args(["-p", package]);
    }
    command.args(["--", "-D", "warnings"]);
    expect_success(&mut command, "cargo clippy for the machine")
}

fn docs(root: &Path) -> Result<()> {
    let mut command = Command::new("cargo");
    command
        .args(["doc", "--quiet", "--workspace", "--lib", "--no-deps"])
        .env("RUSTDOCFLAGS", "-D warnings");
    expect_success(command.current_dir(root), "cargo doc")
}

/// The rules of this house.
fn rules(root: &Path) -> Result<()> {
    let mut found = Vec::new();
    for path in documents::rust_files(root)? {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        let forbids_panics =
            NEVER_PANIC.iter().any(|folder| name.starts_with(&format!("{folder}/")))
                && !is_test(&name);
        let limit = LONG_FILES.iter().find(|(long, _)| *long == name);
        let limit = limit.map_or(FILE_LINES, |(_, lines)| *lines);
        let violations = violations(&text, forbids_panics, limit);
        found.extend(violations.into_iter().map(|what| format!("{name}{what}")));
    }
    if found.is_empty() { Ok(()) } else { bail!("{}", found.join("\n")) }
}

/// Files that only tests compile.
fn is_test(name: &str) -> bool {
    name.contains("/tests/")
        || name.ends_with("tests.rs")
        || name.contains("/fake/")
        || name.ends_with("build.rs")
}

/// What a file does against the rules, as `:line: what`.
fn violations(text: &str, forbids_panics: bool, limit: usize) -> Vec<String> {
    let mut found = Vec::new();
    let lines = text.lines().count();
    if lines > limit {
        found.push(format!(": {lines} lines, more than {limit}"));
    }
    if !text.starts_with("//!") {
        found.push(":1: no module head (`//!`)".into());
    }
    for (index, line) in text.lines().enumerate() {
        if line.contains("TODO") && !line.contains("\"TODO\"") {
            found.push(format!(":{}: a {} belongs into an issue", index + 1, "TODO"));
        }
    }
    if forbids_panics {
        for (index, line) in tcb::code_lines(text).iter().enumerate() {
            for word in PANICS.iter().filter(|word| line.contains(**word)) {
                found.push(format!(":{}: {word} may end the program", index + 1));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{FILE_LINES, violations};

    #[test]
    fn a_clean_file_is_accepted() {
        assert_eq!(violations("//! Head.\nfn a() {}\n", true, FILE_LINES), Vec::<String>::new());
    }

    #[test]
    fn each_rule_finds_its_violation() {
        assert_eq!(violations("fn a() {}\n", false, FILE_LINES).len(), 1);
        assert_eq!(
            violations(&format!("//! Head.\n{}", "\n".repeat(600)), false, FILE_LINES).len(),
            1
        );
        assert_eq!(violations("//! Head.\nfn a() { b.unwrap() }\n", true, FILE_LINES).len(), 1);
        assert_eq!(
            violations(
                "//! Head.\n// b.unwrap()\n#[cfg(test)]\nmod t { fn a() { b.unwrap() } }\n",
                true,
                FILE_LINES
            )
            .len(),
            0
        );
        assert_eq!(violations(concat!("//! Head.\n// TO", "DO\n"), false, FILE_LINES).len(), 1);
    }
}
