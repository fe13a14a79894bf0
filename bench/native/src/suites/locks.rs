//! What starts at once on several CPUs cost those CPUs in common, by the kernel's counters.

use super::NOTHING;
use crate::{Bench, client::Failure, sample};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use rt::abi::operation::HardwareFact;

/// Starts at once, and rounds of them.
const PARALLEL: [(usize, usize); 7] =
    [(1, 64), (2, 32), (4, 16), (8, 8), (16, 4), (32, 2), (64, 1)];
const LOCKS: &str = "locks";
/// What is told of every counter that is named here.
const TOLD: [&str; 4] = [LOCKS, "contended locks", "cross interrupts", "shootdowns"];

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    for (parallel, rounds) in PARALLEL {
        measure(bench, parallel, 1)?;
        let before = counters(bench)?;
        measure(bench, parallel, rounds)?;
        for ((name, before), (_, after)) in before.iter().zip(counters(bench)?) {
            let name = format!("{}.par{parallel}", name.replace(' ', "_"));
            sample::report(&name, "count", &mut [after.saturating_sub(*before)]);
        }
    }
    Ok(())
}

/// Starts compartments and waits until they are gone.
fn measure(bench: &mut Bench, parallel: usize, rounds: usize) -> Result<(), Failure> {
    for _ in 0..rounds {
        let mut created = Vec::with_capacity(parallel);
        for _ in 0..parallel {
            created.push(bench.client.create(NOTHING, false)?);
        }
        for ended in bench.client.wait(&created)? {
            if ended.first_instruction().is_none() {
                return Err(Failure(ended.account()));
            }
        }
    }
    Ok(())
}

/// The counters that are told, by name.
fn counters(bench: &Bench) -> Result<Vec<(String, u64)>, Failure> {
    let count = bench.hardware.fact(HardwareFact::Counters)?;
    let mut told = Vec::new();
    for index in 0..count {
        let (value, name) = bench.hardware.counter(index)?;
        let name = String::from_utf8_lossy(&name);
        let name = name.trim_end_matches('\0');
        // A kernel without its internal checks counts no lock that is taken: that is no figure.
        let is_counted = name != LOCKS || value > 0;
        if is_counted && TOLD.contains(&name) {
            told.push((name.to_string(), value));
        }
    }
    Ok(told)
}
