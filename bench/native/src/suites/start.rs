//! Starts of `nothing`: one after the other, then by a process in its own compartment, then several at once.

use super::starts;
use crate::{Bench, client::Failure};
use alloc::format;
use contract::compartment::ExitStatus;

/// Compartments at once, and rounds of them; the Linux side has as many.
const PARALLEL: [(usize, usize); 6] = [(2, 16), (4, 16), (8, 6), (16, 6), (32, 3), (64, 3)];

/// As on the Linux side.
const SPAWNER: &[&str] =
    &["/bin/spawnb", "-s", "-n", "40", "-w", "3", "spawn.static", "/bin/nothing"];

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let rounds = if bench.quick { 20 } else { 40 };
    starts(bench, "compartment.seq", 1, rounds, 3)?;
    spawned(bench)?;
    for (parallel, rounds) in PARALLEL {
        starts(bench, &format!("compartment.par{parallel}"), parallel, rounds, 1)?;
    }
    Ok(())
}

/// `posix_spawn` of `nothing` by the Linux side's starter, which prints its own figures.
fn spawned(bench: &mut Bench) -> Result<(), Failure> {
    let created = bench.client.create(SPAWNER, true)?;
    for ended in bench.client.wait(&[created])? {
        if ended.heard.status != Some(ExitStatus::Code(0)) {
            rt::log!("WARN spawn.static: {}", ended.account());
        }
    }
    Ok(())
}

/// A few starts, of which the last lies between the marks.
pub(super) fn profile(bench: &mut Bench) -> Result<(), Failure> {
    starts(bench, "compartment.seq", 1, 4, 3)
}

/// The same for eight at once.
pub(super) fn profile_burst(bench: &mut Bench) -> Result<(), Failure> {
    starts(bench, "compartment.par8", 8, 4, 3)
}

/// One size of starts at once, as often as on the Linux side.
pub(super) fn burst(bench: &mut Bench) -> Result<(), Failure> {
    starts(bench, "compartment.par64", 64, 5, 1)
}
