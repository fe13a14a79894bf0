//! `cargo xtask test`: sets up and passes all tests.
//!
//! Owns: the order of the suites, and the count of what passed and failed that ends the output. A suite that cannot run has failed.

mod applets;
mod busybox;
mod cli;
mod container;
mod cpython;
mod debian;
mod dist;
mod kernel;
mod programs;
mod tally;

use crate::{bench, build, check, demo::Mett, setup, tcb};
use anyhow::{Result, bail, ensure};
use std::{
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};
pub(crate) use tally::Tally;

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Suites, separated by commas: host, interleavings, kernel, attacks, checked, bochs, budgets, programs, applets, busybox, debian, cpython, cli, dist, bench, tcb, check. If none is named all but bochs and dist, and with --long those too.
    #[arg(long, value_delimiter = ',')]
    suite: Vec<String>,
    /// Lives of the soak among the attacks, on each machine: 20000 is a long one.
    #[arg(long)]
    soak: Option<u64>,
    /// Run only cases of the suites kernel, attacks, checked and debian, and groups of the suite cli, whose names contain this.
    #[arg(long, default_value = "")]
    filter: String,
    /// Run the suites kernel and attacks in another emulator, Bochs: what it needs is installed.
    #[arg(long)]
    machine: Option<OtherMachine>,
    /// Also what takes long (every suite; in the suite cli 2,000 starts in a row).
    #[arg(long)]
    long: bool,
    /// Of the suites cpython and debian, run only what is in their quick lists, as if no suite were named.
    #[arg(long)]
    quick: bool,
    /// Of the suite cpython, run every Nth file from the Ith (from 1): I/N.
    #[arg(long, default_value = "1/1")]
    shard: cpython::Shard,
    /// Of the suite cpython, keep the results that are there.
    #[arg(long)]
    resume: bool,
    /// Of the suite cpython, run the files on this Linux anew and keep in the tree how that ends.
    #[arg(long)]
    record: bool,
}

impl Arguments {
    /// Whether a suite that takes long runs only what is quick enough among the others: by itself it is whole.
    fn is_quick(&self) -> bool {
        self.quick || (self.suite.is_empty() && !self.long)
    }
}

/// A machine that is not QEMU's.
#[derive(Clone, Copy, clap::ValueEnum)]
enum OtherMachine {
    /// With two CPUs of the make Ice Lake, loaded by GRUB.
    Bochs,
}

/// A suite adds what it ran to the tally; an error counts as one failure.
type Suite = (&'static str, fn(&Path, &Arguments, &mut Tally) -> Result<()>);

const SUITES: &[Suite] = &[
    ("host", host),
    ("interleavings", interleavings),
    ("kernel", |root, arguments, tally| kernel::run(root, &arguments.filter, tally)),
    ("attacks", |root, arguments, tally| {
        kernel::attacks(root, &arguments.filter, arguments.soak, tally)
    }),
    ("checked", |root, arguments, tally| kernel::checked(root, &arguments.filter, tally)),
    ("bochs", |root, arguments, tally| kernel::bochs(root, &arguments.filter, tally)),
    ("budgets", |root, _, tally| kernel::budgets(root, tally)),
    ("programs", |root, _, tally| programs::run(root, &mett(root)?, tally)),
    ("applets", |root, _, tally| applets::run(root, &mett(root)?, tally)),
    ("busybox", |root, _, tally| busybox::run(root, &mett(root)?, tally)),
    ("debian", |root, arguments, tally| {
        let which = debian::Which { is_quick: arguments.is_quick(), filter: &arguments.filter };
        debian::run(root, &mett(root)?, &which, tally)
    }),
    ("cpython", |root, arguments, tally| {
        let which = cpython::Which {
            is_listed: arguments.is_quick(),
            filter: &arguments.filter,
            shard: arguments.shard,
            resume: arguments.resume,
            record: arguments.record,
        };
        cpython::run(root, &mett(root)?, &which, tally)
    }),
    ("cli", |root, arguments, tally| cli::run(root, &arguments.filter, arguments.long, tally)),
    ("dist", |root, _, tally| dist::run(root, tally)),
    ("bench", |root, _, tally| {
        // What a figure is, and how it has changed, is printed and no failure; a figure that cannot be trusted is one.
        tally
            .case("planted faults void a figure", bench::run(root, &bench::Arguments::self_test()));
        let quick = bench::Arguments::quick_ours();
        tally.case("every figure of our side is valid", bench::run(root, &quick));
        Ok(())
    }),
    ("tcb", |root, _, tally| {
        tally.case("trusted code is within its limits", tcb::run(root, &tcb::Arguments::text()));
        Ok(())
    }),
    ("check", |root, _, tally| {
        let failed = check::steps(root)?;
        tally.add(
            (check::count() - failed.len()) as u64,
            failed.iter().map(|name| format!("check {name}")),
        );
        Ok(())
    }),
];

/// Suites that run only when they are named: they need minutes, and other people's packages.
const ON_DEMAND: [&str; 2] = ["bochs", "dist"];

/// Runs the chosen suites; an error when anything failed or nothing ran.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    for name in &arguments.suite {
        ensure!(SUITES.iter().any(|(suite, _)| suite == name), "there is no suite {name:?}");
    }
    setup::run(root, true)?;
    build::all(root)?;
    let mut tally = Tally::default();
    for (name, suite) in SUITES {
        let is_chosen = match &arguments.suite[..] {
            _ if arguments.machine.is_some() => *name == "bochs",
            [] => !ON_DEMAND.contains(name) || arguments.long,
            chosen => chosen.iter().any(|chosen| chosen == name),
        };
        if !is_chosen {
            continue;
        }
        println!("\n=== suite {name}");
        let begin = Instant::now();
        if let Err(error) = suite(root, arguments, &mut tally) {
            tally.fail(format!("suite {name}: {error:#}"));
        }
        println!("=== suite {name} took {} s", begin.elapsed().as_secs());
    }
    tally.print();
    if tally.is_success() { Ok(()) } else { bail!("tests failed") }
}

/// The unit, property, model and integration tests on this computer.
fn host(root: &Path, _: &Arguments, tally: &mut Tally) -> Result<()> {
    cargo_test(root, &["--workspace", "--no-fail-fast"], tally)
}

/// The kernel's CPUs in many orders. What it is built with is another build of the kernel, so it has a folder of its own.
fn interleavings(root: &Path, _: &Arguments, tally: &mut Tally) -> Result<()> {
    let package = ["-p", "models", "--features", "interleave", "--test", "interleavings"];
    let folder = ["--target-dir", "target/interleave"];
    cargo_test(root, &[package.as_slice(), &folder].concat(), tally)
}

fn cargo_test(root: &Path, arguments: &[&str], tally: &mut Tally) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(["test", "--quiet"]).args(arguments).args(["--", "--format", "pretty"]);
    let child = command.current_dir(root).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let before = tally.total();
    let is_success = tally.read_lines(child, "host")?;
    if !is_success && tally.is_success() {
        bail!("cargo test failed without naming a test");
    }
    ensure!(tally.total() > before, "no test ran");
    Ok(())
}

fn mett(root: &Path) -> Result<Mett> {
    Mett::build(root, &root.join("target/tests"))
}
