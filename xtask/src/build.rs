//! Builds the machine's programs and composes the boot modules.

use crate::{
    module::{self, Composition},
    symbols,
    toolchain::{TARGET, Toolchain},
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Flags of every program on the machine: position-independent code linked at a fixed address by the program's own script.
const FLAGS: &str = "-C relocation-model=pic -C link-arg=-no-pie -C force-frame-pointers=yes --cfg chacha20_backend=\"soft\"";

/// The composition that users get.
const SHIPPED: &str = "system";

/// What a build leaves in `target/machine`.
pub(crate) struct Built {
    /// The kernel, an ELF with a PVH note.
    pub(crate) kernel: PathBuf,
    /// The folder of boot modules, one `NAME.img` per composition.
    pub(crate) folder: PathBuf,
}

impl Built {
    /// Where an earlier build left everything.
    pub(crate) fn in_tree(root: &Path) -> Self {
        let folder = root.join("target/machine");
        Self { kernel: folder.join("kernel.elf"), folder }
    }

    /// A composition's boot module.
    pub(crate) fn module(&self, composition: &str) -> PathBuf {
        self.folder.join(format!("{composition}.img"))
    }
}

/// Builds everything.
pub(crate) fn all(root: &Path) -> Result<Built> {
    let system = Composition::read_all(&root.join("system.toml"))?;
    let mut programs: Vec<String> = vec!["kernel".into()];
    for composition in &system {
        programs.extend(composition.programs().map(str::to_owned));
    }
    programs.sort();
    programs.dedup();
    compile(root, &programs)?;
    let built = Built::in_tree(root);
    fs::create_dir_all(&built.folder)?;
    let compiled = release(root);
    fs::copy(compiled.join("kernel"), &built.kernel).context("the kernel was not built")?;
    for composition in system.iter().filter(|composition| !composition.has_blobs()) {
        compose(root, &built, composition)?;
    }
    let shipped = system.iter().find(|composition| composition.name() == SHIPPED);
    let shipped = shipped.with_context(|| format!("system.toml has no {SHIPPED}"))?;
    let mut table = String::new();
    for program in std::iter::once("kernel").chain(shipped.programs()) {
        let bytes = fs::read(compiled.join(program))?;
        symbols::append(&mut table, program, &bytes).with_context(|| program.to_owned())?;
    }
    fs::write(built.folder.join("symbols.txt"), table)?;
    Ok(built)
}

/// Composes a boot module whose files were made after the build: `blobs` are those it carries, by name.
pub(crate) fn with_blobs(
    root: &Path,
    name: &str,
    blobs: &[(String, PathBuf)],
    file: &Path,
) -> Result<()> {
    let system = Composition::read_all(&root.join("system.toml"))?;
    let composition = system.iter().find(|composition| composition.name() == name);
    let composition = composition.with_context(|| format!("system.toml has no {name}"))?;
    fs::write(file, image(root, &composition.with_blobs(blobs))?)
        .with_context(|| format!("{} cannot be written", file.display()))
}

fn image(root: &Path, composition: &Composition) -> Result<Vec<u8>> {
    let compiled = release(root);
    module::compose(composition, root, |program| {
        fs::read(compiled.join(program)).with_context(|| format!("program {program} was not built"))
    })
}

fn compose(root: &Path, built: &Built, composition: &Composition) -> Result<PathBuf> {
    let image = image(root, composition)?;
    let name = if composition.name() == SHIPPED { "boot" } else { composition.name() };
    let file = built.module(name);
    fs::write(&file, image)?;
    Ok(file)
}

/// Builds the kernel with its internal checks; its executable.
pub(crate) fn checked_kernel(root: &Path) -> Result<PathBuf> {
    let mut command = cargo(root, "build", "checked");
    let status = command.args(["--bins", "-p", "kernel"]).status();
    ensure!(
        status.context("cargo cannot be started")?.success(),
        "the kernel with its checks does not build"
    );
    Ok(root.join("target").join(TARGET).join("checked/kernel"))
}

/// Builds the kernel with an entry for Multiboot 2 loaders; its executable.
pub(crate) fn multiboot_kernel(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target/multiboot");
    let mut command = cargo(root, "build", "release");
    command.args(["--bins", "-p", "kernel", "--features", "kernel/multiboot"]);
    let status = command.env("CARGO_TARGET_DIR", &folder).status();
    ensure!(
        status.context("cargo cannot be started")?.success(),
        "the kernel for Multiboot does not build"
    );
    Ok(folder.join(TARGET).join("release/kernel"))
}

/// Where cargo leaves the machine's programs.
pub(crate) fn release(root: &Path) -> PathBuf {
    root.join("target").join(TARGET).join("release")
}

/// The cargo command for the machine's target, with a profile of the workspace.
pub(crate) fn cargo(root: &Path, verb: &str, profile: &str) -> Command {
    let mut command = Toolchain::of(root).cargo(verb, FLAGS);
    command
        .args(["--profile", profile])
        .current_dir(root)
        .env("CARGO_TARGET_DIR", root.join("target"));
    command
}

fn compile(root: &Path, programs: &[String]) -> Result<()> {
    ensure!(!programs.is_empty(), "nothing to build");
    let mut command = cargo(root, "build", "release");
    command.arg("--bins");
    for program in programs {
        command.args(["-p", package(program)]);
    }
    let status = command.status().context("cargo cannot be started")?;
    if status.success() { Ok(()) } else { bail!("the machine's programs do not build") }
}

/// The package that builds a program; programs of one package share its name as a prefix.
fn package(program: &str) -> &str {
    match program {
        "suite" | "assistant" => "suite",
        "referee" | "hostile" => "attacks",
        "echo" => "bench",
        name => name,
    }
}
