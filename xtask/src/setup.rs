//! Sets up a computer: says what is missing and why, installs it, or says exactly what to type.

use crate::toolchain;
use anyhow::{Context, Result, bail};
use std::{
    path::Path,
    process::{Command, Stdio},
};

/// A Debian package, how to see that it is there, and why it is needed.
struct Need {
    package: &'static str,
    probe: Probe,
    why: &'static str,
    tests_only: bool,
}

enum Probe {
    /// A program on the path.
    Program(&'static str),
    /// A file.
    File(&'static str),
}

const NEEDS: &[Need] = &[
    Need {
        package: "qemu-system-x86",
        probe: Probe::Program("qemu-system-x86_64"),
        why: "the emulator the machine runs in",
        tests_only: false,
    },
    Need {
        package: "busybox-static",
        probe: Probe::Program("busybox"),
        why: "the program in the demonstration image",
        tests_only: false,
    },
    Need {
        package: "gcc",
        probe: Probe::Program("gcc"),
        why: "compiles the Linux test programs",
        tests_only: true,
    },
    Need {
        package: "libc6-dev",
        probe: Probe::File("/usr/lib/x86_64-linux-gnu/libc.a"),
        why: "static C library of the Linux test programs",
        tests_only: true,
    },
    Need {
        package: "erofs-utils",
        probe: Probe::Program("fsck.erofs"),
        why: "checks the file systems that the importer writes",
        tests_only: true,
    },
];

/// Installs what is missing; an error tells what to type where it may not.
pub(crate) fn run(root: &Path, tests: bool) -> Result<()> {
    toolchain::ensure_installed(root)?;
    let missing: Vec<&Need> =
        NEEDS.iter().filter(|need| (tests || !need.tests_only) && !need.probe.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("Missing on this computer:");
    for need in &missing {
        eprintln!("  {:16} {}", need.package, need.why);
    }
    install(&missing.iter().map(|need| need.package).collect::<Vec<_>>())
}

impl Probe {
    fn is_there(&self) -> bool {
        match self {
            Self::Program(name) => {
                std::env::var_os("PATH").is_some_and(|path| {
                    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
                }) || Path::new("/usr/sbin").join(name).is_file()
            }
            Self::File(path) => Path::new(path).exists(),
        }
    }
}

/// Installs Debian packages, as root or through sudo.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let typed = format!(
        "apt-get update && apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    );
    let is_root =
        Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.starts_with(b"0\n"));
    let shell: &[&str] = if is_root {
        &["sh", "-c"]
    } else if Command::new("sudo")
        .args(["-n", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
    {
        &["sudo", "sh", "-c"]
    } else {
        bail!("this needs root; please type:\n  sudo sh -c '{typed}'");
    };
    eprintln!("Running: {typed}");
    let (program, arguments) = shell.split_first().context("empty command")?;
    let status = Command::new(program)
        .args(arguments)
        .arg(&typed)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { bail!("{typed}: failed ({status})") }
}
