//! Boots a composition without the daemon and reads what it prints: for the suites.

use anyhow::{Context, Result, bail};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    time::{Duration, Instant},
};

/// What to boot.
pub(crate) struct Machine<'a> {
    /// QEMU's machine type.
    pub(crate) kind: &'a str,
    /// Virtual CPUs.
    pub(crate) cpus: u32,
    /// Features that they lack beside those that no machine here has, as QEMU names them: `,erms=off`.
    pub(crate) lacking: &'a str,
    /// RAM in MiB.
    pub(crate) memory: u32,
    /// The kernel's command line.
    pub(crate) command_line: &'a str,
    /// The clock counts instructions, so that the host's load does not matter; for one CPU.
    pub(crate) counts: bool,
}

/// How a machine ended.
pub(crate) struct Ended {
    /// What it printed.
    pub(crate) output: String,
    /// Whether it ended by itself with status 0 (`isa-debug-exit` makes `(0 << 1) | 1` of it) before the limit.
    pub(crate) is_success: bool,
}

/// QEMU's command, without arguments. It is killed when the thread that starts it ends, in whatever way this program does.
pub(crate) fn emulator() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    command
}

/// Runs a machine until it ends or the limit passes; hands each line to `on_line`.
pub(crate) fn run(
    machine: &Machine<'_>,
    kernel: &Path,
    module: &Path,
    limit: Duration,
    mut on_line: impl FnMut(&str),
) -> Result<Ended> {
    let clock: &[&str] = if machine.counts { &["-icount", "shift=4,sleep=off"] } else { &[] };
    let threads = if machine.counts { "tcg" } else { "tcg,thread=multi" };
    let mut child = emulator()
        .args(clock)
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-serial",
            "stdio",
        ])
        .args(["-cpu", &format!("max,la57=off{}", machine.lacking), "-accel", threads])
        .args([
            "-M",
            machine.kind,
            "-m",
            &machine.memory.to_string(),
            "-smp",
            &machine.cpus.to_string(),
        ])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-append", machine.command_line])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(module)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("setpriv (of the package util-linux) cannot be started")?;
    let Some(stdout) = child.stdout.take() else { bail!("no pipe to QEMU") };
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(std::result::Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                break;
            }
        }
    });
    let end = Instant::now() + limit;
    let mut output = String::new();
    loop {
        match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                on_line(&line);
                output.push_str(&line);
                output.push('\n');
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                child.kill()?;
                child.wait()?;
                output.push_str(&format!("the machine did not end within {} s\n", limit.as_secs()));
                return Ok(Ended { output, is_success: false });
            }
        }
    }
    let status = child.wait()?;
    Ok(Ended { output, is_success: matches!(status.code(), Some(0 | 1)) })
}
