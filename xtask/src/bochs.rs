//! Boots a composition in Bochs, an emulator of another make: for the suites, where a processor has what QEMU's emulation lacks.
//!
//! Owns: the boot medium (GRUB loads the kernel by Multiboot 2) and Bochs's configuration. The machine has no port that tells a status: it ended well if it
//! turned itself off, and its cases say the rest.

use crate::{qemu::Ended, setup};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// CPUs of the machine: Ice Lake has PCID, INVPCID, x2APIC, a TSC deadline, XSAVES, and UMIP, which Skylake has not.
pub(crate) const CPUS: u32 = 2;
const MODEL: &str = "corei7_icelake_u";
const FIRMWARE: &str = "/usr/share/bochs";
/// What the emulator says when the machine turns itself off.
const TURNED_OFF: &str = "soft power off";
/// Programs that are needed, and the packages that have them.
const NEEDS: &[(&str, &str)] = &[
    ("/usr/bin/bochs", "bochs"),
    ("/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so", "bochs-term"),
    ("/usr/lib/grub/i386-pc/multiboot2.mod", "grub-pc-bin"),
    ("/usr/bin/grub-mkrescue", "grub-common"),
    ("/usr/bin/xorriso", "xorriso"),
    ("/usr/bin/mformat", "mtools"),
];

/// Installs what is missing.
pub(crate) fn set_up() -> Result<()> {
    let missing: Vec<&str> = NEEDS
        .iter()
        .filter(|(file, _)| !Path::new(file).exists())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("Missing on this computer for a machine in Bochs: {}", missing.join(", "));
    setup::install(&missing)
}

/// Runs a machine until it ends or the limit passes; hands each line to `on_line`.
pub(crate) fn run(
    folder: &Path,
    kernel: &Path,
    module: &Path,
    command_line: &str,
    limit: Duration,
    mut on_line: impl FnMut(&str),
) -> Result<Ended> {
    let _ = fs::remove_dir_all(folder);
    let medium = make_medium(folder, kernel, module, command_line)?;
    fs::write(folder.join("bochsrc"), configuration(&medium))?;
    // The emulator comes with its debugger, which waits for a command.
    fs::write(folder.join("commands"), "continue\n")?;
    // Its display wants a terminal. A group of its own, so that both end together.
    let mut child = Command::new("script")
        .args(["-qec", "bochs -q -f bochsrc -rc commands", "screen"])
        .current_dir(folder)
        .env("TERM", "vt100")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("script (of bsdutils) cannot be started")?;
    let end = Instant::now() + limit;
    let mut shown = 0;
    loop {
        let has_ended = child.try_wait()?.is_some();
        let output = serial(folder);
        let whole = output.rfind('\n').map_or(0, |at| at + 1);
        output.get(shown..whole).unwrap_or_default().lines().for_each(&mut on_line);
        shown = shown.max(whole);
        if has_ended {
            let log = fs::read_to_string(folder.join("bochs.log")).unwrap_or_default();
            return Ok(Ended { output, is_success: log.contains(TURNED_OFF) });
        }
        if Instant::now() >= end {
            let _ = Command::new("kill").args(["-KILL", &format!("-{}", child.id())]).status();
            child.wait()?;
            let output = format!("{output}the machine did not end within {} s\n", limit.as_secs());
            return Ok(Ended { output, is_success: false });
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What the machine has printed, line by line without what surrounds the text.
fn serial(folder: &Path) -> String {
    let bytes = fs::read(folder.join("serial")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\r', "")
}

/// A CD with GRUB, the kernel and the boot image.
fn make_medium(folder: &Path, kernel: &Path, module: &Path, command_line: &str) -> Result<PathBuf> {
    let boot = folder.join("medium/boot");
    fs::create_dir_all(boot.join("grub"))?;
    fs::copy(kernel, boot.join("kernel")).context("the kernel")?;
    fs::copy(module, boot.join("module")).context("the boot image")?;
    fs::write(
        boot.join("grub/grub.cfg"),
        format!(
            "set timeout=0\nmenuentry machine {{\n  multiboot2 /boot/kernel {command_line}\n  module2 /boot/module\n}}\n"
        ),
    )?;
    let medium = folder.join("medium.iso");
    let made = Command::new("grub-mkrescue")
        .arg("-o")
        .args([&medium, &folder.join("medium")])
        .stdin(Stdio::null())
        .output()
        .context("grub-mkrescue cannot be started")?;
    ensure!(
        made.status.success() && medium.exists(),
        "the boot medium cannot be made:\n{}",
        String::from_utf8_lossy(&made.stderr)
    );
    Ok(medium)
}

fn configuration(medium: &Path) -> String {
    format!(
        "config_interface: textconfig\n\
         display_library: term\n\
         romimage: file={FIRMWARE}/BIOS-bochs-latest\n\
         vgaromimage: file={FIRMWARE}/VGABIOS-lgpl-latest\n\
         cpu: model={MODEL}, count={CPUS}, ips=50000000, reset_on_triple_fault=0\n\
         clock: sync=none\n\
         megs: 512\n\
         com1: enabled=1, mode=file, dev=serial\n\
         ata0-master: type=cdrom, path={}, status=inserted\n\
         boot: cdrom\n\
         log: bochs.log\n\
         panic: action=fatal\n\
         error: action=ignore\n\
         info: action=ignore\n\
         debug: action=ignore\n",
        medium.display()
    )
}
