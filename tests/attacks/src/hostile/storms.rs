//! Taking time: from the scheduler, the log, other CPUs, and whoever listens.

use crate::{Attempt, Breach, board::Board, handed, hold, rounds};
use alloc::vec::Vec;
use rt::{
    Domain, Notification, Space, Thread,
    abi::{
        Operation,
        resource::UNLIMITED,
        space::{Access, SpaceUse},
    },
    arch::call,
    object::Limits,
};

/// Threads that compute; more than any machine of the suite has CPUs.
const THREADS: u64 = 16;
const WRITE: Access = Access::READ.union(Access::WRITE);

/// A Domain under another one.
pub(crate) fn child_of(parent: Domain) -> Result<Domain, Breach> {
    let limits =
        Limits { frames: UNLIMITED, objects: UNLIMITED, slots: UNLIMITED, threads: UNLIMITED };
    parent.create(limits).map_err(|error| Breach(line!(), error as u64))
}

/// A thread that will compute for ever in a Domain.
fn spinner(domain: Domain) -> Result<Thread, Breach> {
    let prepared = Thread::create(domain, rt::startup::home_space(), 0);
    prepared.map_err(|error| Breach(line!(), error as u64))
}

fn start(thread: Thread) -> Attempt {
    let entry = (spin_naked as *const ()).addr() as u64;
    let started = thread.start(entry, rt::abi::layout::HOME_BASE + 0x1000, 0);
    started.map_err(|error| Breach(line!(), error as u64))
}

/// Starts a thread that computes for ever in a Domain.
pub(crate) fn spin_in(domain: Domain) -> Attempt {
    start(spinner(domain)?)
}

/// Lines from many Domains: each would have an allowance of its own if the compartment did not have one for all.
pub(crate) fn log(board: &Board) -> Attempt {
    let mut words = [0x2020_2020_2020_2020_u64; 6];
    words[0] = 32;
    for _ in rounds(board, 200_000) {
        let _ = call(Operation::Log, words);
    }
    Ok(())
}

fn spin_for_ever(_: u64) {
    loop {
        core::hint::spin_loop();
    }
}

/// More threads that compute than there are CPUs.
pub(crate) fn spin(_: &Board) -> Attempt {
    for number in 0..THREADS {
        hold!(rt::thread::spawn(false, move || spin_for_ever(number)).is_ok(), number);
    }
    Ok(())
}

/// Threads in children of the greatest weight: together they weigh what their compartment weighs.
pub(crate) fn weights(_: &Board) -> Attempt {
    let mut threads = Vec::new();
    for number in 0..THREADS {
        let domain = child_of(Domain::OWN)?;
        hold!(domain.schedule(10_000, UNLIMITED, 1, 0, 0).is_ok(), number);
        let thread = spinner(domain)?;
        let _ = thread.set_affinity(u64::MAX, 10_000);
        threads.push(thread);
    }
    // From the first one on this thread has next to nothing of the compartment's time.
    threads.into_iter().try_for_each(start)
}

/// Computes without a stack.
#[unsafe(naked)]
extern "C" fn spin_naked() {
    core::arch::naked_asm!("2: pause", "jmp 2b");
}

/// Spaces come and go, pages are narrowed under threads of its own on other CPUs: every flush is its own affair.
pub(crate) fn interrupts(board: &Board) -> Attempt {
    for number in 0..4 {
        hold!(rt::thread::spawn(false, move || spin_for_ever(number)).is_ok(), number);
    }
    for _ in rounds(board, 4000) {
        let space = Space::create(Domain::OWN, SpaceUse::Hold, None);
        let Ok(space) = space else { continue };
        let _ = space.zero(0, 1, WRITE, 1 << 8);
        let _ = space.protect(0, 1, Access::READ);
        let _ = space.destroy();
    }
    Ok(())
}

/// Threads that sleep for next to no time, and kicks and unparks for all of them.
pub(crate) fn timers(board: &Board) -> Attempt {
    let mut threads = Vec::new();
    for _ in 0..THREADS {
        let thread = rt::thread::spawn(false, || {
            loop {
                let _ = rt::thread::park_until(rt::clock::now() + 1);
            }
        });
        threads.push(thread.map_err(|error| Breach(line!(), error as u64))?);
    }
    for _ in rounds(board, 10_000) {
        for thread in &threads {
            let _ = thread.kick();
            let _ = thread.unpark();
        }
    }
    Ok(())
}

/// The one thing it may signal beyond itself.
pub(crate) fn doorbell(board: &Board) -> Attempt {
    let doorbell = Notification(handed("port.doorbell"));
    for _ in rounds(board, 20_000) {
        hold!(doorbell.signal(u64::MAX).is_ok(), 0);
    }
    Ok(())
}
