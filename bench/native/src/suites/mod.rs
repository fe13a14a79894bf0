//! The suites: what is measured, in which order, how often.

mod apps;
mod boot;
mod idle;
mod ipc;
mod locks;
mod memory;
mod micro;
mod start;
mod tools;

use crate::{
    Bench,
    client::{Ended, Failure},
    mark, sample,
};
use alloc::{format, vec::Vec};

/// A suite.
pub(crate) type Suite = fn(&mut Bench) -> Result<(), Failure>;

/// The suites by name.
const SUITES: &[(&str, Suite)] = &[
    ("apps", apps::run),
    ("boot", boot::run),
    ("burst", start::burst),
    ("idle", idle::run),
    ("ipc", ipc::run),
    ("locks", locks::run),
    ("memory", memory::run),
    ("micro", micro::run),
    ("profile", start::profile),
    ("profile-burst", start::profile_burst),
    ("profile-idle", idle::profile),
    ("profile-new", start::profile_new),
    ("start", start::run),
    ("tools", tools::run),
];

/// A suite by name.
pub(crate) fn find(name: &str) -> Result<Suite, Failure> {
    SUITES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, suite)| *suite)
        .ok_or_else(|| Failure(format!("there is no suite {name:?}")))
}

/// The program that sends the time of its first instructions.
const NOTHING: &[&str] = &["/bin/nothing"];
/// The program that waits for ever.
const IDLE: &[&str] = &["/bin/idle"];

/// Starts compartments, `parallel` at once, in rounds after some that do not count, and reports call to first instruction (`start`), call to everything
/// given back (`total`), and for several at once first call to last end (`burst`).
fn starts(
    bench: &mut Bench,
    name: &str,
    parallel: usize,
    rounds: usize,
    warm: usize,
) -> Result<(), Failure> {
    let (mut start, mut total, mut burst) = (Vec::new(), Vec::new(), Vec::new());
    let mut failed = None;
    for round in 0..warm + rounds {
        bench.client.is_profiled = round + 1 == warm + rounds;
        let mut created = Vec::with_capacity(parallel);
        for _ in 0..parallel {
            created.push(bench.client.create(NOTHING, false)?);
        }
        let ended = bench.client.wait(&created)?;
        if bench.client.is_profiled {
            mark::end();
        }
        for compartment in &ended {
            match compartment.first_instruction() {
                None => failed = Some(compartment.account()),
                Some(_) if round < warm => {}
                Some(first) => {
                    start.push(first - compartment.asked);
                    total.push(compartment.gone - compartment.asked);
                }
            }
        }
        if round >= warm {
            burst.push(span(&ended));
        }
    }
    if let Some(account) = failed {
        rt::log!("WARN {name}: {account}");
    }
    sample::report_times(name, "start", &mut start);
    sample::report_times(name, "total", &mut total);
    if parallel > 1 {
        sample::report_times(name, "burst", &mut burst);
    }
    Ok(())
}

/// From the first call to the last end.
fn span(ended: &[Ended]) -> u64 {
    let first = ended.iter().map(|ended| ended.asked).min().unwrap_or(0);
    ended.iter().map(|ended| ended.gone).max().unwrap_or(0).saturating_sub(first)
}
