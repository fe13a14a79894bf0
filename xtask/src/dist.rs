//! `cargo xtask dist`: one statically linked executable that carries the system image.

use crate::{build, setup};
use anyhow::{Context, Result, ensure};
use std::{fs, path::Path, process::Command};

/// Target of the executable.
const HOST: &str = "x86_64-unknown-linux-gnu";

/// Builds `dist/mett`.
pub(crate) fn run(root: &Path) -> Result<()> {
    setup::run(root, true)?;
    let built = build::all(root)?;
    let status = Command::new("cargo")
        .args(["build", "--release", "-p", "cli", "--target", HOST])
        .current_dir(root)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("METT_SYSTEM_IMAGE_DIR", &built.folder)
        .env("CARGO_TARGET_DIR", root.join("target"))
        .status()
        .context("cargo cannot be started")?;
    ensure!(status.success(), "mett does not build");
    let from = root.join("target").join(HOST).join("release/mett");
    let bytes = fs::read(&from)?;
    let file = elf::ElfBytes::<elf::endian::LittleEndian>::minimal_parse(&bytes)?;
    let needs_interpreter = file.segments().is_some_and(|segments| {
        segments.iter().any(|segment| segment.p_type == elf::abi::PT_INTERP)
    });
    ensure!(!needs_interpreter, "mett is not statically linked");
    let to = root.join("dist/mett");
    fs::create_dir_all(root.join("dist"))?;
    fs::copy(&from, &to)?;
    let stripped = Command::new("strip").arg(&to).status();
    ensure!(stripped.is_ok_and(|status| status.success()), "strip failed (package binutils)");
    println!(
        "{} ({} KiB, statically linked, carries the system image)",
        to.display(),
        fs::metadata(&to)?.len() / 1024
    );
    Ok(())
}
