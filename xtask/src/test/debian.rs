//! Unmodified programs of Debian: every script of `tests/programs` in a container of Linux and in a compartment, on the same files, and what they print compared.
//!
//! A script belongs to the image whose folder it lies in. It may write below `/tmp`, `/root` and `/run`, and prints nothing that depends on the host.

use super::{Tally, programs::isolated};
use crate::{debian, demo::Mett};
use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Instant,
};

/// An image: its name, which is a folder of `tests/programs`, and its packages.
type Image = (&'static str, &'static [&'static str]);

const IMAGES: &[Image] = &[
    (
        "shell",
        &[
            "bash",
            "grep",
            "sed",
            "gawk",
            "mawk",
            "findutils",
            "diffutils",
            "tar",
            "gzip",
            "bzip2",
            "xz-utils",
            "file",
            "procps",
            "perl",
            "git",
            "sqlite3",
            "musl",
            "redis-server",
            "redis-tools",
        ],
    ),
    ("compiler", &["bash", "grep", "sed", "mawk", "make", "gcc", "libc6-dev", "musl-tools"]),
    (
        "python",
        &[
            "bash",
            "grep",
            "sed",
            "python3",
            "python3-pip",
            "python3-setuptools",
            "python3-wheel",
            "python3-venv",
        ],
    ),
];

/// Seconds a script may take in a compartment.
const LIMIT: &str = "300";

/// Runs the scripts whose names contain the filter.
pub(super) fn run(root: &Path, mett: &Mett, filter: &str, tally: &mut Tally) -> Result<()> {
    let mut ran = 0;
    for image in IMAGES {
        let scripts = scripts(&root.join("tests/programs").join(image.0), filter)?;
        if scripts.is_empty() {
            continue;
        }
        ran += scripts.len();
        let folder = root.join("target/debian");
        let files = debian::root(&folder, image.0, image.1)?;
        fs::create_dir_all(files.join("cases"))?;
        for script in scripts.values() {
            fs::copy(script, files.join("cases").join(script.file_name().unwrap_or_default()))?;
        }
        let name = format!("test-{}:latest", image.0);
        mett.output(&["image", "import", &format!("rootfs:{}", files.display()), &name])?;
        for script in scripts.keys() {
            let begin = Instant::now();
            let result = compare(&files, mett, &name, script);
            let took = begin.elapsed().as_secs();
            tally.case(&format!("debian {}::{script}", image.0), result);
            println!("     took {took} s");
        }
    }
    ensure!(ran > 0, "no script's name contains {filter:?}");
    Ok(())
}

/// The scripts of a folder by their names.
fn scripts(folder: &Path, filter: &str) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{} is missing", folder.display()))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name.contains(filter) && path.extension().is_some_and(|extension| extension == "sh") {
            found.insert(name, path);
        }
    }
    Ok(found)
}

fn compare(files: &Path, mett: &Mett, image: &str, script: &str) -> Result<()> {
    let theirs = linux(files, script)?;
    ensure!(theirs.status.success(), "on this Linux: {}\n{}", theirs.status, text(&theirs));
    let ours = compartment(mett, image, script)?;
    if ours.status.code() != theirs.status.code() || text(&ours) != text(&theirs) {
        bail!("Linux:\n{}MettEagle ({}):\n{}", text(&theirs), ours.status, text(&ours));
    }
    Ok(())
}

fn text(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        text.push_str(&format!("stderr: {line}\n"));
    }
    text
}

const ENVIRONMENT: &[(&str, &str)] = &[
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LC_ALL", "C.UTF-8"),
    ("TZ", "UTC"),
];

fn compartment(mett: &Mett, image: &str, script: &str) -> Result<Output> {
    let container = format!("debian-{script}");
    let case = format!("/cases/{script}.sh");
    let mut arguments = vec!["run", "--rm", "--name", &container, "--hostname", "box"];
    let pairs: Vec<String> =
        ENVIRONMENT.iter().map(|(name, value)| format!("{name}={value}")).collect();
    for pair in &pairs {
        arguments.extend(["--env", pair]);
    }
    arguments.extend([image, "/bin/sh", &case]);
    let run = mett.command(&arguments);
    let mut limited = Command::new("timeout");
    limited.arg(LIMIT).arg(run.get_program()).args(run.get_args());
    for (name, value) in run.get_envs() {
        limited.env(name, value.unwrap_or_default());
    }
    let output = limited.stdin(Stdio::null()).output().context("timeout cannot be started")?;
    if output.status.code() == Some(124) {
        // It may be gone already.
        let _ = mett.output(&["rm", "-f", &container]);
        bail!("not done after {LIMIT} s; so far:\n{}", text(&output));
    }
    Ok(output)
}

/// Runs a script here: the same files, read-only, with the directories it may write.
fn linux(files: &Path, script: &str) -> Result<Output> {
    let environment: Vec<String> =
        ENVIRONMENT.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let script = format!(
        "set -e; hostname box; busybox ifconfig lo up; mount --bind {0} {0}; cd {0}; mount -t proc proc proc; mount -t tmpfs tmpfs dev; \
         for d in null zero full random urandom tty; do touch dev/$d; mount --bind /dev/$d dev/$d; done; mkdir dev/pts dev/shm; \
         mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts; ln -s pts/ptmx dev/ptmx; mount -t tmpfs tmpfs dev/shm; \
         ln -s /proc/self/fd dev/fd; ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr; \
         for d in tmp root run; do mount -t tmpfs -o mode=1777 tmpfs $d; done; mount -o remount,bind,ro {0}; \
         exec chroot . env -i {1} /bin/sh /cases/{2}.sh",
        files.display(),
        environment.join(" "),
        script
    );
    isolated(&script).output().context("unshare cannot be started")
}
