//! Finds out whether the host can run virtual machines: only if a small one really runs.
//!
//! The device file and the processor's flags say what should work; inside virtual machines and containers it often does not. The probe is a
//! boot sector that ends the emulator with a status of its own.

use super::qemu;
use crate::home;
use std::{io, path::Path, process::Stdio, time::Duration};
use tokio::process::Command;

/// How the machine is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// By the processor.
    Kvm,
    /// By translation.
    Tcg,
}

impl Accelerator {
    /// The emulator's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// `mov dx, 0xf4; mov al, 0x2a; out dx, al; hlt`, padded to a boot sector.
const PROGRAM: [u8; 8] = [0xba, 0xf4, 0x00, 0xb0, 0x2a, 0xee, 0xf4, 0x90];
/// The emulator's status after that program.
const STATUS: i32 = 0x2a << 1 | 1;
/// A virtual machine that works needs far less.
const PATIENCE: Duration = Duration::from_secs(10);

/// Chooses the accelerator. `METT_ACCEL` (`kvm` or `tcg`) decides without a probe.
pub async fn choose(directory: &Path) -> Accelerator {
    match std::env::var("METT_ACCEL").as_deref() {
        Ok("kvm") => return Accelerator::Kvm,
        Ok("tcg") => return Accelerator::Tcg,
        _ => {}
    }
    if !promised() {
        return Accelerator::Tcg;
    }
    match run(directory).await {
        Ok(true) => Accelerator::Kvm,
        Ok(false) => {
            tracing::info!("the host promises KVM, but a probe machine did not run");
            Accelerator::Tcg
        }
        Err(error) => {
            tracing::info!(%error, "the host promises KVM, but the probe could not be started");
            Accelerator::Tcg
        }
    }
}

/// Whether processor and device file say that it works.
fn promised() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = flags.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let capable = line.split_whitespace().any(|flag| matches!(flag, "vmx" | "svm"));
    capable && std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

async fn run(directory: &Path) -> io::Result<bool> {
    let mut sector = PROGRAM.to_vec();
    sector.resize(510, 0);
    sector.extend_from_slice(&[0x55, 0xaa]);
    let path = directory.join("probe.img");
    home::replace(&path, &sector)?;
    let mut child = Command::new(qemu::program())
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-machine", "q35,accel=kvm", "-cpu", "host", "-m", "16M"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .args(["-drive", "file=probe.img,format=raw,if=ide,readonly=on"])
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
    Ok(matches!(ended, Ok(Ok(status)) if status.code() == Some(STATUS)))
}
