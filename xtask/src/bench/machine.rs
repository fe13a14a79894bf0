//! The emulated machine both systems run in: one set of flags, one runner.

use crate::qemu;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{
    io::Read,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

/// How time passes in the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// One CPU, one instruction is one nanosecond: figures are instructions, exact and repeatable.
    Icount,
    /// Host time, two CPUs where nothing else is said: figures are nanoseconds, only ratios of one session mean anything.
    Wall,
}

/// The CPU model. `erms` and `fsrm` are off because QEMU counts each iteration of a string instruction; `la57` because it changes page-table depth.
const CPU: &str = "max,la57=off,erms=off,fsrm=off";

/// What must be equal on both sides for two figures to be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flags {
    /// Machine type.
    pub(crate) machine: String,
    /// RAM in MiB.
    pub(crate) memory: u32,
    /// Time.
    pub(crate) mode: Mode,
    /// CPUs: one where time is a count of instructions.
    #[serde(default = "one")]
    pub(crate) cpus: u32,
    /// Seed of guest randomness.
    pub(crate) seed: u32,
}

const fn one() -> u32 {
    1
}

impl Flags {
    /// The flags as QEMU's arguments.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> =
            "-nodefaults -no-user-config -display none -no-reboot -serial stdio -cpu"
                .split(' ')
                .map(str::to_owned)
                .collect();
        arguments.push(CPU.to_owned());
        arguments.extend(["-M".into(), self.machine.clone(), "-m".into(), self.memory.to_string()]);
        let time = match self.mode {
            Mode::Icount => format!(
                "-icount shift=0,sleep=off -smp 1 -seed {} -rtc base=2026-01-01T00:00:00,clock=vm",
                self.seed
            ),
            Mode::Wall => format!("-accel tcg,thread=multi -smp {}", self.cpus),
        };
        arguments.extend(time.split(' ').map(str::to_owned));
        arguments
    }
}

/// A machine to boot.
pub(crate) struct Machine<'a> {
    pub(crate) flags: &'a Flags,
    pub(crate) kernel: &'a Path,
    /// The initial RAM disk: a boot module of ours, or an initial RAM file system of Linux.
    pub(crate) image: &'a Path,
    /// The kernel's command line.
    pub(crate) line: &'a str,
    /// Further arguments of QEMU, which change nothing that the machine can see.
    pub(crate) more: &'a [String],
    /// QEMU's exit status after a run in which the machine reported no failure.
    pub(crate) success: i32,
}

impl Machine<'_> {
    /// The command that boots it.
    pub(crate) fn command(&self) -> Command {
        let mut command = qemu::emulator();
        command
            .args(self.flags.arguments())
            .args(["-nic", "none", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel"])
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.image)
            .args(["-append", self.line])
            .args(self.more)
            .stdin(Stdio::null());
        command
    }

    /// Boots it and gives what it printed on the serial line; one that does not end in time is killed.
    pub(crate) fn run(&self, limit: Duration, mut on_line: impl FnMut(&str)) -> Result<Ended> {
        let mut child = self
            .command()
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("setpriv (of the package util-linux) cannot be started")?;
        let receiver = read(child.stdout.take().context("no pipe to QEMU")?);
        let end = Instant::now() + limit;
        let (mut text, mut shown) = (String::new(), 0);
        loop {
            match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    let fault = format!("the machine did not end within {} s", limit.as_secs());
                    return Ok(Ended { text, fault: Some(fault) });
                }
            }
            while let Some(length) = text[shown..].find('\n') {
                on_line(text[shown..shown + length].trim_end());
                shown += length + 1;
            }
        }
        let fault = self.fault(child.wait()?, &text);
        Ok(Ended { text, fault })
    }

    /// Why a machine that has ended cannot be trusted.
    fn fault(&self, status: ExitStatus, text: &str) -> Option<String> {
        match (status.signal(), status.code()) {
            (Some(signal), _) => Some(format!("the machine was killed by signal {signal}")),
            (None, _) if text.is_empty() => {
                Some(format!("the machine printed nothing; QEMU: {status}"))
            }
            (None, Some(code)) if code == self.success => None,
            (None, _) => Some(format!("the machine ended with a failure; QEMU: {status}")),
        }
    }
}

/// A machine that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// What it printed on the serial line.
    pub(crate) text: String,
    /// Why that cannot be trusted.
    pub(crate) fault: Option<String>,
}

/// What comes from a pipe, read by a thread of its own.
fn read(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The last lines of an output, for an error message.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// QEMU's version line.
pub(crate) fn version() -> Result<String> {
    let text = super::packages::output(Command::new("qemu-system-x86_64").arg("--version"))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
