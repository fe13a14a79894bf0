//! The matches: one attack each beside one victim, and what must be true at the end of each.

use crate::{
    Arena,
    board::{BEGUN, BROKEN, HELD, HOARD, ROUNDS, SEEN, STATE, WHERE},
    client::Compartment,
    faults,
    ledger::Ledger,
};
use alloc::{format, string::String};
use contract::compartments::Budget;
use rt::clock;

/// How a case went: its figures, or why it failed.
pub(crate) type Outcome = Result<String, String>;

/// A case that is no attack beside a victim: its name and what it does.
pub(crate) type Case = (&'static str, fn(&Arena) -> Outcome);

/// Those of this file.
const CASES: &[Case] = &[("capabilities_are_listed", listing), ("soak", soak)];

/// How an attack is expected to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It says that it got nowhere.
    Says,
    /// It dies.
    Dies,
    /// It says that it got nowhere, or has hit itself: chance may copy what it stands on to a slot that it then destroys.
    SaysOrDies,
    /// It goes on until it is destroyed, after this many milliseconds.
    GoesOn(u64),
}

/// Attacks and their ends.
const ATTACKS: &[(&str, End)] = &[
    ("forge_capabilities", End::Says),
    ("every_operation_with_garbage", End::SaysOrDies),
    ("more_authority", End::Says),
    ("malformed_messages", End::Says),
    ("mixed_up_sessions", End::Says),
    ("confusing_replies", End::Says),
    ("use_after_free", End::Says),
    ("race_destroy_against_use", End::Says),
    ("map_what_is_not_shared", End::Says),
    ("write_image_memory", End::Says),
    ("recycled_frames", End::Says),
    ("huge_ranges", End::Says),
    ("deadlock_by_lock_order", End::Says),
    ("alias_the_state_page", End::Says),
    ("registers_of_others", End::Says),
    ("privileged_instructions", End::Says),
    ("exhaust_memory", End::Says),
    ("exhaust_objects", End::Says),
    ("exhaust_threads", End::Says),
    ("nest_domains", End::Says),
    ("flood_the_log", End::Says),
    ("spin_everywhere", End::GoesOn(600)),
    ("weights_of_children", End::GoesOn(600)),
    ("storm_of_interrupts", End::Says),
    ("storm_of_timers", End::Says),
    ("flood_the_doorbell", End::Says),
    ("die_by_fault", End::Dies),
    ("die_in_a_guest", End::Dies),
    ("die_waiting", End::Dies),
    ("die_in_operations", End::Dies),
    ("die_with_children", End::Dies),
    ("end_by_itself", End::Dies),
    ("destroy_oneself", End::Dies),
];

/// Nanoseconds an attack may take.
const LIMIT: u64 = 120_000_000_000;
/// Percent of one CPU that the victim must have had while it was attacked. Its fair share of the CPU that it shares with an attacker is 50, less what the
/// services do for both.
const SHARE: u64 = 30;
/// The same where the clock counts instructions.
const COUNTED_SHARE: u64 = 44;
/// Nanoseconds an attack must have lasted for the share to be a figure.
const MEASURABLE: u64 = 200_000_000;
/// Memory of an attacker and of the victim.
const MEMORY: u64 = 24 << 20;
/// Threads of an attacker.
const THREADS: u64 = 64;

pub(crate) fn budget() -> Budget {
    Budget { memory: Some(MEMORY), threads: Some(THREADS), ..Budget::default() }
}

/// Runs every match that the command line asks for; how many passed and failed.
pub(crate) fn all(arena: &Arena) -> (u32, u32) {
    let mut count = (0, 0);
    // The services' own tables grow to what they need first.
    for (name, _) in ATTACKS.iter().take(2) {
        let _ = live(arena, "victim").and_then(|()| live(arena, name));
    }
    let is_chosen = |name: &str| name.contains(arena.filter.as_str());
    for (name, end) in ATTACKS.iter().filter(|(name, _)| is_chosen(name)) {
        note(&mut count, name, play(arena, name, *end));
    }
    for (name, case) in faults::CASES.iter().chain(CASES).filter(|(name, _)| is_chosen(name)) {
        note(&mut count, name, case(arena));
    }
    count
}

/// Prints how a case went, and counts it.
fn note(count: &mut (u32, u32), name: &str, outcome: Outcome) {
    match outcome {
        Ok(figures) => {
            count.0 += 1;
            if !figures.is_empty() {
                rt::log!("\nI {name}: {figures}");
            }
            rt::log!("\ntest attack.{name} ... ok");
        }
        Err(why) => {
            count.1 += 1;
            rt::log!("\ntest attack.{name} ... FAILED ({why})");
        }
    }
}

/// A victim that works.
fn victim(arena: &Arena) -> Result<Compartment, String> {
    let victim = arena.client.create("victim", budget())?;
    if arena.client.wait(LIMIT, || victim.board.get(ROUNDS) > 2) {
        Ok(victim)
    } else {
        Err(format!("the victim does not begin: state {}", victim.board.get(STATE)))
    }
}

fn play(arena: &Arena, name: &str, end: End) -> Outcome {
    let before = Ledger::settled(arena);
    let victim = victim(arena)?;
    let used = arena.client.stat(&victim)?.cpu_nanoseconds;
    let begun = clock::since_boot();
    let outcome = arena.client.create(name, budget()).and_then(|attacker| {
        let outcome = contest(arena, &attacker, end);
        let elapsed = clock::since_boot().saturating_sub(begun);
        let had = arena.client.stat(&victim)?.cpu_nanoseconds.saturating_sub(used);
        arena.client.destroy(attacker)?;
        outcome.and_then(|()| judge(arena, &victim, had, elapsed))
    });
    arena.client.destroy(victim)?;
    before.settle(arena)?;
    outcome
}

/// Lets the attack go on until it ends as expected.
fn contest(arena: &Arena, attacker: &Compartment, end: End) -> Result<(), String> {
    let client = &arena.client;
    let state = || attacker.board.get(STATE);
    if let End::GoesOn(milliseconds) = end {
        client.wait(milliseconds * 1_000_000, || state() == BROKEN);
    } else {
        client.wait(LIMIT, || state() >= HELD || client.is_gone(attacker));
    }
    let broken = || {
        format!(
            "it got somewhere: line {}, saw {:#x}",
            attacker.board.get(WHERE),
            attacker.board.get(SEEN)
        )
    };
    match (end, state(), client.is_gone(attacker)) {
        (_, BROKEN, _) => Err(broken()),
        (End::Dies | End::SaysOrDies, _, true) => Ok(()),
        (End::Says | End::SaysOrDies, HELD, false) => Ok(()),
        (End::GoesOn(_), BEGUN | HELD, false) => Ok(()),
        (_, state, is_gone) => {
            let rounds = attacker.board.get(ROUNDS);
            let what = if state == BEGUN { "did not end" } else { "did not begin" };
            Err(format!("it {what}: round {rounds}, gone: {is_gone}"))
        }
    }
}

/// Whether the victim kept what is its own.
fn judge(arena: &Arena, victim: &Compartment, had: u64, elapsed: u64) -> Outcome {
    let rounds = victim.board.get(ROUNDS);
    if !arena.client.wait(LIMIT, || victim.board.get(ROUNDS) > rounds + 2) {
        return Err(format!("the victim does not go on after round {rounds}"));
    }
    if victim.board.get(STATE) != BEGUN {
        return Err(format!(
            "the victim's secret has changed: {:#x}, saw {:#x}",
            victim.board.get(WHERE),
            victim.board.get(SEEN)
        ));
    }
    let share = had * 100 / elapsed.max(1);
    let least = if arena.is_counted { COUNTED_SHARE } else { SHARE };
    if elapsed > MEASURABLE && share < least {
        return Err(format!("the victim had {share} % of a CPU in {} ms", elapsed / 1_000_000));
    }
    Ok(format!("the victim had {share} % of a CPU in {} ms", elapsed / 1_000_000))
}

/// What the service lists is what the kernel counts, and what the compartment knows that it has put where.
fn listing(arena: &Arena) -> Outcome {
    // The first time what a list is written into grows.
    list(arena)?;
    let before = Ledger::settled(arena);
    let figures = list(arena)?;
    before.settle(arena)?;
    Ok(figures)
}

fn list(arena: &Arena) -> Outcome {
    let hoarder = arena.client.create("hoard_capabilities", budget())?;
    let outcome = contest(arena, &hoarder, End::Says).and_then(|()| {
        let listed = arena.client.capabilities(&hoarder)?;
        let counted = arena.client.stat(&hoarder)?.slots;
        let [first, count, step] = HOARD;
        let hoarded = (0..count).map(|index| first + index * step);
        let mut missing =
            hoarded.filter(|slot| !listed.iter().any(|record| u64::from(record.slot) == *slot));
        let is_ascending = listed.is_sorted_by(|one, next| one.slot < next.slot);
        match missing.next() {
            Some(slot) => Err(format!("slot {slot} is not listed")),
            None if listed.len() as u64 != counted || !is_ascending => {
                Err(format!("{} are listed, the kernel counts {counted}", listed.len()))
            }
            None => Ok(format!("{counted} capabilities, all of them listed")),
        }
    });
    arena.client.destroy(hoarder)?;
    outcome
}

/// Many lives of every kind leave nothing behind.
fn soak(arena: &Arena) -> Outcome {
    const LIVES: &[&str] = &[
        "die_by_fault",
        "die_waiting",
        "destroy_oneself",
        "exhaust_memory",
        "die_in_operations",
        "die_in_a_guest",
        "nest_domains",
        "victim",
        "end_by_itself",
        "die_with_children",
    ];
    // The services' own tables grow to what they need first.
    for life in LIVES.iter().chain(LIVES) {
        live(arena, life)?;
    }
    let before = Ledger::settled(arena);
    for number in 0..arena.lives {
        let life = LIVES.get((number % LIVES.len() as u64) as usize).copied().unwrap_or("victim");
        live(arena, life).map_err(|why| format!("life {number}, {life}: {why}"))?;
    }
    before.settle(arena)?;
    Ok(format!("{} lives: before and after {before:?}", arena.lives))
}

/// One life: as long as it takes to be in the middle of it.
fn live(arena: &Arena, role: &str) -> Result<(), String> {
    let life = arena.client.create(role, budget())?;
    arena.client.wait(20_000_000, || life.board.get(STATE) > BEGUN || arena.client.is_gone(&life));
    arena.client.destroy(life)
}
