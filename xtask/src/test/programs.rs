//! The programs of `tests/linux`: each case passes on this computer's Linux first, then in a compartment.

use super::Tally;
use crate::demo::Mett;
use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Capabilities of a container without privileges (docker's documentation, "Linux kernel capabilities").
const CAPABILITIES: [&str; 14] = [
    "audit_write",
    "chown",
    "dac_override",
    "fowner",
    "fsetid",
    "kill",
    "mknod",
    "net_bind_service",
    "net_raw",
    "setfcap",
    "setgid",
    "setpcap",
    "setuid",
    "sys_chroot",
];

/// A file system that is soon full, for both systems.
const SMALL: &str = "/tmp/small:size=1m";

/// The program that calls everything with garbage, and the one that runs in another compartment meanwhile and must not notice.
const HOSTILE: (&str, &str) = ("garbage", "pipes");

/// Runs every program on both systems.
pub(super) fn run(root: &Path, mett: &Mett, tally: &mut Tally) -> Result<()> {
    let folder = root.join("target/tests/programs");
    let programs = compile(&root.join("tests/linux"), &folder)?;
    let image = format!("rootfs:{}", folder.display());
    for program in programs {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let theirs = cases(&linux(&program)?);
        ensure!(!theirs.is_empty(), "{name} printed no case on Linux");
        let victim = (name == HOSTILE.0).then(|| Victim::start(mett, &image)).transpose()?;
        let ours = compartment(mett, &image, &name)?;
        for (case, result) in &theirs {
            tally.case(&format!("{name}::{case}"), compare(result, ours.get(case)));
        }
        if let Some(victim) = victim {
            tally.case(&format!("{name}::a_compartment_beside_notices_nothing"), victim.end());
        }
    }
    Ok(())
}

/// A program's cases in a compartment.
fn compartment(mett: &Mett, image: &str, name: &str) -> Result<BTreeMap<String, String>> {
    let output = command(mett, image, name).output().context("mett cannot be started")?;
    Ok(cases(&String::from_utf8_lossy(&output.stdout)))
}

fn command(mett: &Mett, image: &str, name: &str) -> Command {
    let mut command =
        mett.command(&["run", "--rm", "--tmpfs", SMALL, image, &format!("/bin/{name}")]);
    command.stderr(Stdio::inherit());
    command
}

/// A compartment beside another one.
struct Victim(Child);

impl Victim {
    fn start(mett: &Mett, image: &str) -> Result<Self> {
        let child = command(mett, image, HOSTILE.1).stdout(Stdio::piped()).spawn();
        Ok(Self(child.context("mett cannot be started")?))
    }

    /// It passes all of its cases, as it does alone.
    fn end(self) -> Result<()> {
        let output = self.0.wait_with_output()?;
        let cases = cases(&String::from_utf8_lossy(&output.stdout));
        ensure!(!cases.is_empty() && output.status.success(), "{}: {cases:?}", output.status);
        Ok(())
    }
}

/// A case counts when it passed on both.
fn compare(theirs: &str, ours: Option<&String>) -> Result<()> {
    ensure!(theirs == "ok", "on this Linux: {theirs}");
    match ours.map(String::as_str) {
        Some("ok") => Ok(()),
        Some(other) => bail!("{other}"),
        None => bail!("did not run"),
    }
}

/// The words after this in a program's source are how it is linked.
const COMPILE: &str = " * compile: ";

/// How a program is linked: statically, unless its source says otherwise.
fn linking(source: &str) -> &str {
    let words = source.lines().find_map(|line| line.strip_prefix(COMPILE));
    words.map_or("-static", |words| words.trim_end_matches("*/").trim())
}

/// Compiles every program into `FOLDER/bin`.
fn compile(sources: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let bin = folder.join("bin");
    fs::create_dir_all(&bin)?;
    fs::create_dir_all(folder.join("tmp"))?;
    let mut programs = Vec::new();
    for entry in fs::read_dir(sources)? {
        let source = entry?.path();
        if source.extension().is_none_or(|extension| extension != "c") {
            continue;
        }
        let program = bin.join(source.file_stem().unwrap_or_default());
        let status = Command::new("gcc")
            .args(["-O1", linking(&fs::read_to_string(&source)?), "-pthread", "-w", "-o"])
            .arg(&program)
            .arg(&source)
            .status()
            .context("gcc cannot be started")?;
        ensure!(status.success(), "{} does not compile", source.display());
        programs.push(program);
    }
    programs.sort();
    ensure!(!programs.is_empty(), "no program in {}", sources.display());
    Ok(programs)
}

/// Runs a program here, with a `/tmp` of its own, and a `/proc` that tells the numbers of its namespace.
fn linux(program: &Path) -> Result<String> {
    let script = "mount -t tmpfs tmpfs /tmp && mkdir /tmp/small && mount -t tmpfs -o size=1m tmpfs /tmp/small && mount -t proc proc /proc && exec";
    let output = isolated(&format!("{script} {}", program.display()))
        .stderr(Stdio::inherit())
        .output()
        .context("unshare cannot be started")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A shell command in namespaces of its own, as root in them.
pub(super) fn isolated(script: &str) -> Command {
    let mut command = Command::new("unshare");
    if !is_root() {
        command.arg("--map-root-user");
    }
    command
        .args(["--mount", "--pid", "--fork", "--uts", "--net", "--ipc", "sh", "-c", script])
        .stdin(Stdio::null());
    command
}

/// The words before a command that give it what a container without privileges has: docker's default capabilities and root's groups.
pub(super) fn unprivileged() -> String {
    // Only root may set groups.
    let groups = if is_root() { "--groups 0" } else { "" };
    let held: String = CAPABILITIES.iter().map(|name| format!(",+{name}")).collect();
    format!("setpriv {groups} --inh-caps=-all --bounding-set=-all{held}")
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.starts_with(b"0\n"))
}

/// The cases of an output and their results.
fn cases(output: &str) -> BTreeMap<String, String> {
    output
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.rsplit_once(" ... "))
        .map(|(name, result)| (name.to_owned(), result.to_owned()))
        .collect()
}
