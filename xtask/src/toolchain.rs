//! Which compiler makes the machine's programs.
//!
//! Owns: the choice between rustup's toolchain with the bare-metal target, and, where that target cannot be had, Debian's compiler (packages `rustc-web` and `rust-web-src`), which builds `core` and `alloc` from their source.
//! Must not know: which programs there are.

use crate::setup;
use anyhow::{Context, Result, bail, ensure};
use std::{env, path::Path, process::Command};

/// Target of every program that runs on the machine.
pub(crate) const TARGET: &str = "x86_64-unknown-none";

/// Set to `debian`, takes Debian's compiler though the target is there.
const CHOICE: &str = "METT_TOOLCHAIN";

/// What Debian's compiler consists of.
const PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "lld"];

const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust/library/core/Cargo.toml";
const LINKER: &str = "/usr/bin/ld.lld";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Toolchain {
    Rustup,
    Debian,
}

impl Toolchain {
    /// The one that compiles here.
    pub(crate) fn of(root: &Path) -> Self {
        if is_debian_wanted() || (debian_is_there() && !has_target(root).unwrap_or(false)) {
            Self::Debian
        } else {
            Self::Rustup
        }
    }

    /// A cargo command with the flags for the machine's programs.
    pub(crate) fn cargo(self, verb: &str, flags: &str) -> Command {
        let mut command = match self {
            Self::Rustup => Command::new("cargo"),
            Self::Debian => Command::new(DEBIAN_CARGO),
        };
        command.args([verb, "--target", TARGET]);
        match self {
            Self::Rustup => command.env("RUSTFLAGS", flags),
            // -Zbuild-std is not stable, and Debian's compiler has no linker of its own.
            Self::Debian => command
                .arg("-Zbuild-std=core,alloc")
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTC", DEBIAN_RUSTC)
                .env("RUSTFLAGS", format!("{flags} -C linker={LINKER}")),
        };
        command
    }
}

/// Makes sure that one of the two is there.
pub(crate) fn ensure_installed(root: &Path) -> Result<()> {
    if let Some(other) = env::var_os(CHOICE).filter(|choice| choice != "debian") {
        bail!("{CHOICE}={}: only `debian` can be asked for", other.display());
    }
    if !is_debian_wanted() {
        if has_target(root)? {
            return Ok(());
        }
        eprintln!("Installing the Rust target {TARGET}: the machine's programs are built for it.");
        let arguments = ["target", "add", TARGET];
        let status = Command::new("rustup").args(arguments).current_dir(root).status();
        if status.is_ok_and(|status| status.success()) {
            return Ok(());
        }
    }
    if debian_is_there() {
        return Ok(());
    }
    eprintln!(
        "The target {TARGET} cannot be had through rustup. Debian's compiler builds it from source instead: {}.",
        PACKAGES.join(", ")
    );
    setup::install(PACKAGES)?;
    ensure!(
        debian_is_there(),
        "the packages {} were installed, but {DEBIAN_SOURCE} or {LINKER} is not there",
        PACKAGES.join(", ")
    );
    Ok(())
}

fn is_debian_wanted() -> bool {
    env::var_os(CHOICE).is_some_and(|choice| choice == "debian")
}

fn debian_is_there() -> bool {
    [DEBIAN_CARGO, DEBIAN_RUSTC, DEBIAN_SOURCE, LINKER].iter().all(|path| Path::new(path).exists())
}

/// Whether rustup's toolchain has the target.
fn has_target(root: &Path) -> Result<bool> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).current_dir(root).output();
    let sysroot = sysroot.context("rustc cannot be started; install Rust with rustup")?;
    let sysroot = String::from_utf8_lossy(&sysroot.stdout).trim().to_owned();
    Ok(Path::new(&sysroot).join("lib/rustlib").join(TARGET).is_dir())
}
