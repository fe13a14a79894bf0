//! The suites that are the machine's only programs: the kernel's, and the attacks.

use super::Tally;
use crate::{
    bochs,
    build::{self, Built},
    qemu::{self, Ended, Machine},
};
use anyhow::{Result, ensure};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Machine types and CPU counts of the kernel's suite.
const KERNEL: &[(&str, u32)] = &[("q35", 1), ("q35", 2), ("q35", 4), ("q35", 8), ("microvm", 1)];
/// Those of the attacks. On one CPU the clock counts instructions, so that shares of time do not depend on what else this computer does.
const ATTACKS_COUNTED: &[(&str, u32)] = &[("q35", 1)];
const ATTACKS: &[(&str, u32)] = &[("q35", 2), ("q35", 4)];

/// Machine types and CPU counts of both suites on the kernel with its internal checks.
const CHECKED: &[(&str, u32)] = &[("q35", 1), ("q35", 2), ("q35", 4)];

/// A composition that prints a line for each of its cases and ends the machine.
struct Suite<'a> {
    composition: &'a str,
    machines: &'a [(&'a str, u32)],
    command_line: String,
    /// For one machine.
    limit: Duration,
    /// On a clock that counts instructions.
    counts: bool,
    /// Another kernel than the one that ships.
    kernel: Option<PathBuf>,
}

/// Runs the kernel's suite on every machine.
pub(super) fn run(root: &Path, filter: &str, tally: &mut Tally) -> Result<()> {
    let command_line = selection(filter);
    let limit = Duration::from_secs(240);
    let suite = Suite::new("suite", KERNEL, command_line, limit);
    suite.run(root, tally)
}

/// Runs the kernel's suite and the attacks on a kernel that checks itself: the order of locks, sums and counts, every addition.
pub(super) fn checked(root: &Path, filter: &str, tally: &mut Tally) -> Result<()> {
    let kernel = Some(build::checked_kernel(root)?);
    for composition in ["suite", "attacks"] {
        let limit = Duration::from_secs(600);
        let suite = Suite::new(composition, CHECKED, selection(filter), limit);
        Suite { kernel: kernel.clone(), ..suite }.run(root, tally)?;
    }
    Ok(())
}

/// Runs the kernel's suite and the attacks in Bochs.
pub(super) fn bochs(root: &Path, filter: &str, tally: &mut Tally) -> Result<()> {
    bochs::set_up()?;
    let built = Built::in_tree(root);
    let kernel = build::multiboot_kernel(root)?;
    for (composition, minutes) in [("suite", 5), ("attacks", 25)] {
        let name = format!("{composition} in Bochs with {} CPUs", bochs::CPUS);
        println!("--- {name}");
        let folder = root.join("target/bochs").join(composition);
        let limit = Duration::from_secs(60 * minutes);
        let (line, module) = (selection(filter), built.module(composition));
        judge(&name, tally, |on_line| {
            bochs::run(&folder, &kernel, &module, &line, limit, on_line)
        })?;
    }
    Ok(())
}

/// Runs a machine, prints and counts its cases, and says so if it has ended badly.
fn judge(
    name: &str,
    tally: &mut Tally,
    run: impl FnOnce(&mut dyn FnMut(&str)) -> Result<Ended>,
) -> Result<()> {
    let before = tally.total();
    let ended = run(&mut |line| {
        if line.starts_with("test ") || line.starts_with("I ") {
            println!("{line}");
            tally.line(name, line);
        }
    })?;
    ensure!(tally.total() > before, "{name}: no case ran:\n{}", ended.output);
    if !ended.is_success {
        println!("{}", ended.output);
        tally.fail(format!("{name}: the machine ended badly"));
    }
    Ok(())
}

/// Runs the attacks; `lives` is how many the soak has beside its normal number.
pub(super) fn attacks(
    root: &Path,
    filter: &str,
    lives: Option<u64>,
    tally: &mut Tally,
) -> Result<()> {
    let mut command_line = selection(filter);
    let mut limit = Duration::from_secs(300);
    if let Some(lives) = lives {
        command_line.push_str(&format!(" soak={lives}"));
        limit += Duration::from_secs(lives);
    }
    let suite = Suite::new("attacks", ATTACKS_COUNTED, format!("{command_line} counted"), limit);
    Suite { counts: true, ..suite }.run(root, tally)?;
    Suite::new("attacks", ATTACKS, command_line, limit).run(root, tally)
}

/// Runs the trials of budgets of time: judged on one CPU, and shown on two, where they depend on what else this computer does.
pub(super) fn budgets(root: &Path, tally: &mut Tally) -> Result<()> {
    let limit = Duration::from_secs(300);
    let suite = Suite::new("attacks", ATTACKS_COUNTED, "budgets counted".into(), limit);
    Suite { counts: true, ..suite }.run(root, tally)?;
    Suite::new("attacks", &[("q35", 2)], "budgets".into(), limit).run(root, tally)
}

/// The command line that chooses cases.
fn selection(filter: &str) -> String {
    if filter.is_empty() { String::new() } else { format!("suite={filter}") }
}

impl<'a> Suite<'a> {
    const fn new(
        composition: &'a str,
        machines: &'a [(&'a str, u32)],
        command_line: String,
        limit: Duration,
    ) -> Self {
        Self { composition, machines, command_line, limit, counts: false, kernel: None }
    }

    fn run(&self, root: &Path, tally: &mut Tally) -> Result<()> {
        let built = Built::in_tree(root);
        for (kind, cpus) in self.machines {
            let checks = if self.kernel.is_some() { ", checked" } else { "" };
            let name = format!("{} on {kind} with {cpus} CPUs{checks}", self.composition);
            println!("--- {name}");
            let machine = Machine {
                kind,
                cpus: *cpus,
                // The checked kernel zeroes pages as it does on processors without enhanced string instructions.
                lacking: if self.kernel.is_some() { ",erms=off,fsrm=off" } else { "" },
                memory: 512,
                command_line: &self.command_line,
                counts: self.counts,
            };
            let module = built.module(self.composition);
            let kernel = self.kernel.as_ref().unwrap_or(&built.kernel);
            judge(&name, tally, |on_line| {
                qemu::run(&machine, kernel, &module, self.limit, on_line)
            })?;
        }
        Ok(())
    }
}
