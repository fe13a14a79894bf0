//! Budgets of time: what a compartment was given, it gets, and no more. On a machine of one CPU whose clock counts instructions, so that the host does
//! not matter; elsewhere the figures are shown and not judged.

use crate::{Arena, client::Compartment};
use alloc::{format, string::String, vec::Vec};
use contract::compartments::Budget;
use rt::clock;

/// A measurement's length.
const SECONDS: u64 = 10;
/// Most deviation of a quota, in thousandths of what was asked.
const QUOTA: u64 = 20;
/// Most deviation of a share by weight, in thousandths of what was asked.
const WEIGHT: u64 = 50;
/// Parts of a CPU that figures are in, for one thousandth.
const PARTS: u64 = 1000;

/// Budgets of compartments that compute together, and the thousandths of the CPU that each must have.
struct Trial {
    name: &'static str,
    compartments: &'static [(Budget, u64)],
    tolerance: u64,
}

const fn quota(millis: u64) -> Budget {
    Budget {
        memory: Some(16 << 20),
        cpu_millis: Some(millis),
        cpu_weight: None,
        cpu_set: None,
        threads: Some(16),
    }
}

const fn weight(weight: u64) -> Budget {
    Budget {
        memory: Some(16 << 20),
        cpu_millis: None,
        cpu_weight: Some(weight),
        cpu_set: None,
        threads: Some(16),
    }
}

const TRIALS: &[Trial] = &[
    Trial { name: "half_a_cpu", compartments: &[(quota(500), 500)], tolerance: QUOTA },
    Trial {
        name: "quotas_beside_each_other",
        compartments: &[(quota(100), 100), (quota(250), 250), (quota(400), 400)],
        tolerance: QUOTA,
    },
    Trial {
        name: "weights",
        compartments: &[(weight(100), 100), (weight(200), 200), (weight(700), 700)],
        tolerance: WEIGHT,
    },
];

/// Runs every trial; how many passed and failed.
pub(crate) fn all(arena: &Arena) -> (u32, u32) {
    let mut count = (0, 0);
    for (name, outcome) in TRIALS
        .iter()
        .map(|trial| (trial.name, try_out(arena, trial)))
        .chain([("update", update(arena))])
    {
        match outcome {
            Ok(figures) => {
                count.0 += 1;
                rt::log!("I {name}: {figures}");
                rt::log!("test budget.{name} ... ok");
            }
            Err(why) => {
                count.1 += 1;
                rt::log!("test budget.{name} ... FAILED ({why})");
            }
        }
    }
    count
}

/// The millionths of a CPU that compartments have over some seconds.
fn measure(arena: &Arena, compartments: &[Compartment], seconds: u64) -> Result<Vec<u64>, String> {
    let used = || -> Result<Vec<u64>, String> {
        compartments.iter().map(|one| Ok(arena.client.stat(one)?.cpu_nanoseconds)).collect()
    };
    let (before, begun) = (used()?, clock::since_boot());
    let _ = rt::thread::park_until(clock::deadline_in(seconds * 1_000_000_000));
    let (after, elapsed) = (used()?, clock::since_boot() - begun);
    let share = |(after, before): (&u64, u64)| (after - before) * 1000 / (elapsed / PARTS).max(1);
    Ok(after.iter().zip(before).map(share).collect())
}

/// Whether millionths are the thousandths that were asked for, within thousandths of those; how far they are from them.
fn check(arena: &Arena, found: u64, asked: u64, tolerance: u64) -> Result<String, String> {
    let asked = asked * PARTS;
    let off = found.abs_diff(asked) * 1_000_000 / asked;
    let sign = if found < asked { '-' } else { '+' };
    let deviation = format!("{found} ({sign}{}.{:04} %)", off / 10_000, off % 10_000);
    if !arena.is_counted || off <= tolerance * PARTS {
        Ok(deviation)
    } else {
        Err(format!("{deviation} millionths of a CPU instead of {asked}"))
    }
}

fn try_out(arena: &Arena, trial: &Trial) -> Result<String, String> {
    let mut compartments = Vec::new();
    for (budget, _) in trial.compartments {
        compartments.push(arena.client.create("victim", budget.clone())?);
    }
    // Until all have begun.
    let _ = rt::thread::park_until(clock::deadline_in(1_000_000_000));
    let found = measure(arena, &compartments, SECONDS)?;
    for compartment in compartments {
        arena.client.destroy(compartment)?;
    }
    let mut figures = String::new();
    for (found, (_, asked)) in found.iter().zip(trial.compartments) {
        figures.push_str(&check(arena, *found, *asked, trial.tolerance)?);
        figures.push(' ');
    }
    Ok(figures + "millionths of a CPU")
}

/// A quota that is changed while its compartment computes holds from then on.
fn update(arena: &Arena) -> Result<String, String> {
    let compartments = [arena.client.create("victim", quota(600))?];
    let [compartment] = &compartments;
    let mut figures = String::new();
    for millis in [600, 150, 900] {
        arena
            .client
            .update(compartment, Budget { cpu_millis: Some(millis), ..Budget::default() })?;
        let _ = rt::thread::park_until(clock::deadline_in(500_000_000));
        let found = measure(arena, &compartments, 5)?;
        let found = found.first().copied().unwrap_or(0);
        figures.push_str(&check(arena, found, millis, QUOTA)?);
        figures.push(' ');
    }
    compartments.into_iter().try_for_each(|compartment| arena.client.destroy(compartment))?;
    Ok(figures + "millionths of a CPU")
}
