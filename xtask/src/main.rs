//! `cargo xtask`: everything one does with this repository.
//!
//! Owns: setting up a fresh computer, building the machine's programs and the boot module, running, testing, checking, counting and measuring.
//! Must not know: how any part of the system works beyond its name and its target.

mod bench;
mod bochs;
mod build;
mod check;
mod debian;
mod demo;
mod dist;
mod documents;
mod module;
mod named;
mod oci;
mod qemu;
mod setup;
mod symbols;
mod tcb;
mod test;
mod toolchain;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};

/// Builds, runs, tests and measures MettEagle.
#[derive(Parser)]
#[command(name = "cargo xtask", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing on this computer, after saying what and why.
    Setup {
        /// Also what only the tests and benchmarks need.
        #[arg(long)]
        tests: bool,
    },
    /// Build the kernel, the native programs and the boot modules into target/machine.
    Build,
    /// Set up, build, boot a machine and run a shell pipeline in an unmodified BusyBox image.
    Run,
    /// Set up and pass all tests.
    Test(test::Arguments),
    /// Format, lints, house rules, documentation.
    Check,
    /// Leave one self-contained executable in dist/mett.
    Dist,
    /// Count the trusted code.
    Tcb(tcb::Arguments),
    /// Measure Linux and MettEagle side by side.
    Bench(bench::Arguments),
    /// Write the generated documents (docs/kernel-manual.md, docs/linux-coverage.md).
    Documents {
        /// Fail if a committed document differs from what would be generated.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> Result<()> {
    let root = root()?;
    match Arguments::parse().command {
        Command::Setup { tests } => setup::run(&root, tests),
        Command::Build => {
            setup::run(&root, false)?;
            build::all(&root).map(|_| ())
        }
        Command::Run => demo::run(&root),
        Command::Test(arguments) => test::run(&root, &arguments),
        Command::Check => check::run(&root),
        Command::Dist => dist::run(&root),
        Command::Tcb(arguments) => tcb::run(&root, &arguments),
        Command::Bench(arguments) => bench::run(&root, &arguments),
        Command::Documents { check } => documents::run(&root, check),
    }
}

/// The repository's folder.
fn root() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(folder.parent().context("xtask has no parent folder")?.to_owned())
}
