//! The kernel's suite, in the machine: every CPU count and machine type.

use super::Tally;
use crate::{
    build::Built,
    qemu::{self, Machine},
};
use anyhow::{Result, ensure};
use std::{path::Path, time::Duration};

/// Machine types and CPU counts.
const MACHINES: [(&str, u32); 5] = [("q35", 1), ("q35", 2), ("q35", 4), ("q35", 8), ("microvm", 1)];

/// Runs the suite on every machine.
pub(super) fn run(root: &Path, filter: &str, tally: &mut Tally) -> Result<()> {
    let built = Built::in_tree(root);
    for (kind, cpus) in MACHINES {
        let name = format!("kernel on {kind} with {cpus} CPUs");
        println!("--- {name}");
        let command_line =
            if filter.is_empty() { String::new() } else { format!("suite={filter}") };
        let machine = Machine { kind, cpus, memory: 512, command_line: &command_line };
        let before = tally.total();
        let ended = qemu::run(
            &machine,
            &built.kernel,
            &built.module("suite"),
            Duration::from_secs(240),
            |line| {
                if line.starts_with("test ") {
                    println!("{line}");
                    tally.line(&name, line);
                }
            },
        )?;
        ensure!(tally.total() > before, "{name}: no case ran:\n{}", ended.output);
        if !ended.is_success {
            println!("{}", ended.output);
            tally.fail(format!("{name}: the machine ended badly"));
        }
    }
    Ok(())
}
