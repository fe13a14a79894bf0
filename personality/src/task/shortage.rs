//! Who ends when the compartment's memory is used up, and how the others wait for it (proc(5), `oom_score_adj`).
//!
//! As Linux does within a control group: not who happened to ask for one page more, but the process that is the largest, with what was written to its
//! `oom_score_adj` counted in. One at a time: everybody else who finds no memory waits until it is gone.

use super::{Life, Process, Task, signal};
use crate::{
    linux::SIGKILL,
    memory::{self, Memory},
    system::System,
};
use alloc::rc::Rc;
use core::cell::Cell;
use kernel_abi::resource::Resource;

/// What `oom_score_adj` is a thousandth of.
const WHOLE: i64 = 1000;
/// Nanoseconds for which memory that has ended may still be on its way back, as long as no more of it arrives.
const PATIENCE: u64 = 50_000_000;
/// Nanoseconds after which a waiting task looks again.
const LOOK_AGAIN: u64 = 1_000_000;

/// How far memory that has ended has come back.
#[derive(Debug, Default)]
pub struct Shortage {
    /// The fewest frames in use since the last memory ended, and until when (TSC) even fewer are expected.
    expected: Cell<(u64, u64)>,
}

/// A task has found no memory: when it shall try again (TSC), or `None` when it is itself to end.
pub(super) fn wait(system: &System, task: &Rc<Task>) -> Option<u64> {
    let now = rt::clock::now();
    let soon = now + rt::clock::ticks(LOOK_AGAIN);
    let processes = system.processes.all();
    let is_ending = |process: &&Rc<Process>| {
        process.out_of_memory.get() && !matches!(process.life.get(), Life::Zombie(_))
    };
    let victim = match processes.iter().find(is_ending) {
        Some(victim) => victim.clone(),
        None if is_coming_back(system, now) => return Some(soon),
        None => choose(&processes).unwrap_or_else(|| task.process.clone()),
    };
    let memory = victim.memory.borrow().clone();
    for process in &processes {
        // Whoever shares the memory keeps it.
        if !process.out_of_memory.get() && shares(process, &memory) {
            process.out_of_memory.set(true);
            signal::send_to_process(process, SIGKILL, signal::info_from_kernel(SIGKILL));
        }
    }
    if shares(&task.process, &memory) {
        task.has_work.set(true);
        return None;
    }
    victim.end_queue.join(task.waiter());
    Some(soon.saturating_add(rt::clock::ticks(PATIENCE)))
}

fn shares(process: &Process, memory: &Rc<Memory>) -> bool {
    Rc::ptr_eq(&process.memory.borrow(), memory)
}

/// The process whose pages, and adjustment in thousandths of all memory, are the most.
fn choose(processes: &[Rc<Process>]) -> Option<Rc<Process>> {
    let limit = frames().map_or(0, |frames| frames.limit).min(i64::MAX as u64 / 1000) as i64;
    let points = |process: &Rc<Process>| {
        let pages = process.memory.borrow().resident() as i64;
        pages + limit / WHOLE * i64::from(process.oom_adjustment.get())
    };
    let lives = |process: &&Rc<Process>| {
        !matches!(process.life.get(), Life::Zombie(_)) && !process.tasks.borrow().is_empty()
    };
    processes.iter().filter(lives).max_by_key(|process| points(process)).cloned()
}

fn frames() -> Option<rt::object::Use> {
    rt::Domain::OWN.stat(Resource::Frames).ok()
}

/// Whether memory that has ended is still coming back: the kernel does that in slices.
///
/// Only fewer frames than ever count: those who wait take and give back tables at each attempt, which must not look like progress.
fn is_coming_back(system: &System, now: u64) -> bool {
    let used = frames().map_or(0, |frames| frames.used);
    let (fewest, until) = system.shortage.expected.get();
    let ended = memory::last_end().saturating_add(rt::clock::ticks(PATIENCE));
    // What was used before the last end says nothing of what comes back after it.
    let (fewest, until) = if until < ended { (used, ended) } else { (fewest, until) };
    let (fewest, until) =
        if used < fewest { (used, now + rt::clock::ticks(PATIENCE)) } else { (fewest, until) };
    system.shortage.expected.set((fewest, until));
    now < until
}
