//! One command on the same files twice: in a container of this computer's Linux, and in a compartment.
//!
//! Both see the same environment, host name and devices, and may write below `/tmp`, `/root` and `/run`.

use super::programs::isolated;
use crate::demo::Mett;
use anyhow::{Context, Result, ensure};
use std::{
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Output, Stdio},
};

const ENVIRONMENT: &[&str] = &[
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LC_ALL=C.UTF-8",
    "TZ=UTC",
];

/// Whether a command was ended because it took too long: timeout(1) kills itself with the signal that it sends.
pub(super) fn took_too_long(output: &Output) -> bool {
    output.status.signal() == Some(9)
}

/// Runs a command here: the same files, read-only, with the directories it may write. Its words hold nothing that a shell would change.
pub(super) fn linux(files: &Path, command: &[&str], seconds: u64) -> Result<Output> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=".contains(&byte);
    ensure!(command.iter().all(|word| word.bytes().all(is_plain)), "{command:?} needs quotes");
    let script = format!(
        "set -e; hostname box; busybox ifconfig lo up; mount --bind {0} {0}; cd {0}; mount -t proc proc proc; mount -t tmpfs tmpfs dev; \
         for d in null zero full random urandom tty; do touch dev/$d; mount --bind /dev/$d dev/$d; done; mkdir dev/pts dev/shm; \
         mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts; ln -s pts/ptmx dev/ptmx; mount -t tmpfs tmpfs dev/shm; \
         ln -s /proc/self/fd dev/fd; ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr; \
         for d in tmp root run; do mount -t tmpfs -o mode=1777 tmpfs $d; done; mount -o remount,bind,ro {0}; \
         exec timeout --foreground -s KILL {seconds} chroot . env -i {1} {2}",
        files.display(),
        ENVIRONMENT.join(" "),
        command.join(" ")
    );
    isolated(&script).output().context("unshare cannot be started")
}

/// A compartment for one command.
#[derive(Debug)]
pub(super) struct Compartment<'a> {
    /// Its image.
    pub(super) image: &'a str,
    /// Its name.
    pub(super) name: &'a str,
    /// Its memory, as `mett run --memory` reads it: what runs in it can take no more of the machine's.
    pub(super) memory: &'a str,
    /// Seconds it may take.
    pub(super) seconds: u64,
}

/// Runs a command in a compartment of its own, which is removed if it takes too long.
pub(super) fn compartment(
    mett: &Mett,
    Compartment { image, name, memory, seconds }: &Compartment<'_>,
    command: &[&str],
) -> Result<Output> {
    let mut arguments = vec!["run", "--rm", "--name", name, "--hostname", "box"];
    arguments.extend(["--memory", memory]);
    for pair in ENVIRONMENT {
        arguments.extend(["--env", pair]);
    }
    arguments.push(image);
    arguments.extend(command);
    let run = mett.command(&arguments);
    let mut limited = Command::new("timeout");
    // By a signal that is not forwarded: a first process may ignore all others.
    limited
        .args(["-s", "KILL"])
        .arg(seconds.to_string())
        .arg(run.get_program())
        .args(run.get_args());
    for (name, value) in run.get_envs() {
        limited.env(name, value.unwrap_or_default());
    }
    let output = limited.stdin(Stdio::null()).output().context("timeout cannot be started")?;
    if took_too_long(&output) {
        // It may be gone already.
        let _ = mett.output(&["rm", "-f", name]);
    }
    Ok(output)
}

/// What a command printed; lines of standard error are marked.
pub(super) fn text(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        text.push_str("stderr: ");
        text.push_str(line);
        text.push('\n');
    }
    text
}
