//! Threads: what they do to themselves, and what is done to them.

use super::{channel, pin_anywhere, pin_to};
use crate::{
    check,
    check::{Must, Outcome},
    gadget::raw,
    refused,
    run::Case,
    same,
    world::{World, eventually, in_seconds},
};
use alloc::vec::Vec;
use rt::{
    Domain, Space, Thread,
    abi::{
        Error, Operation, Rights,
        layout::{GUEST_MAX, HOME_BASE, HOME_SIZE},
        space::{Access, SpaceUse},
    },
    arch::call,
    object, slots, startup, thread,
};

pub(super) const CASES: &[Case] = &[
    Case { name: "thread.yield_clock_random", run: yield_clock_random },
    Case { name: "thread.log", run: log },
    Case { name: "thread.park", run: park },
    Case { name: "thread.kick", run: kick },
    Case { name: "thread.deadlines", run: deadlines },
    Case { name: "thread.create_errors", run: create_errors },
    Case { name: "thread.start_errors", run: start_errors },
    Case { name: "thread.affinity", run: affinity },
    Case { name: "thread.stat_and_exit", run: stat_and_exit },
    Case { name: "thread.destroy", run: destroy },
    Case { name: "thread.registers_are_kept", run: registers_are_kept },
];

fn yield_clock_random(_: &'static World) -> Outcome {
    same!(call(Operation::ThreadYield, [0; 6]).map(|(rax, ..)| rax), Ok(0));
    let (rate, boot, _) = call(Operation::Clock, [0; 6]).must("Clock")?;
    check!(rate >= 1_000_000 && boot <= rt::clock::now(), "rate {rate}, boot {boot}");
    let mut seen = Vec::new();
    for _ in 0..64 {
        let (_, low, high) = call(Operation::Random, [0; 6]).must("Random")?;
        for word in [low, high] {
            check!(!seen.contains(&word) && word != 0, "random word {word:#x} came twice");
            seen.push(word);
        }
    }
    Ok(())
}

fn log(_: &'static World) -> Outcome {
    refused!(call(Operation::Log, [33, 0, 0, 0, 0, 0]), BadArgument);
    refused!(call(Operation::Log, [u64::MAX, 0, 0, 0, 0, 0]), BadArgument);
    same!(call(Operation::Log, [0; 6]).map(|(rax, ..)| rax), Ok(0));
    Ok(())
}

fn park(_: &'static World) -> Outcome {
    let own = Thread(thread::own_slot());
    refused!(thread::park_until(0), TimedOut);
    own.unpark().must("unpark")?;
    own.unpark().must("unpark")?;
    same!(thread::park_until(0), Ok(()));
    refused!(thread::park_until(0), TimedOut);
    let target = own;
    let helper = thread::spawn(false, move || {
        for _ in 0..1000 {
            let _ = target.unpark();
        }
    });
    helper.must("thread")?;
    same!(thread::park_until(in_seconds(60)), Ok(()));
    while thread::park_until(rt::clock::deadline_in(20_000_000)).is_ok() {}
    refused!(Thread(0).unpark(), NoCapability);
    refused!(Thread(startup::home_space().slot()).unpark(), WrongKind);
    Ok(())
}

fn kick(_: &'static World) -> Outcome {
    let own = Thread(thread::own_slot());
    own.kick().must("kick")?;
    refused!(thread::park_until(u64::MAX), Kicked);
    refused!(thread::park_until(0), TimedOut);
    own.kick().must("kick")?;
    own.kick().must("kick")?;
    let notification = rt::Notification::create(Domain::OWN).must("create")?;
    refused!(notification.wait(1, u64::MAX), Kicked);
    refused!(notification.wait(1, 0), TimedOut);
    // A weak capability kicks nobody.
    let weak = slots::take().must("slot")?;
    object::copy(own.slot(), Domain::OWN, weak, Rights::DESTROY).must("copy")?;
    refused!(Thread(weak).kick(), MissingRight);
    refused!(Thread(weak).stat(), MissingRight);
    refused!(Thread(weak).set_affinity(1, 1), MissingRight);
    refused!(Thread(weak).start(HOME_BASE, HOME_BASE, 0), MissingRight);
    object::delete(weak);
    notification.destroy().must("destroy")
}

/// Deadlines in the past, now, soon and never.
fn deadlines(_: &'static World) -> Outcome {
    let now = rt::clock::now();
    for past in [1, now / 2, now - 1, now] {
        refused!(thread::park_until(past), TimedOut);
    }
    for nanoseconds in [1, 1_000, 100_000, 3_000_000] {
        let deadline = rt::clock::deadline_in(nanoseconds);
        refused!(thread::park_until(deadline), TimedOut);
        check!(rt::clock::now() >= deadline, "woken before {nanoseconds} ns");
    }
    // Far ones end when somebody says so.
    for far in [now + (1 << 45), 1 << 57, 1 << 63, u64::MAX - 1, u64::MAX] {
        let target = Thread(thread::own_slot());
        let (sender, answer) = channel();
        thread::spawn(false, move || {
            let _ = thread::park_until(rt::clock::deadline_in(1_000_000));
            sender.send(target.kick());
        })
        .must("thread")?;
        refused!(thread::park_until(far), Kicked);
        same!(answer.wait()?, Ok(()));
    }
    // Many at once, in any order.
    let (base, count) = (rt::clock::now(), 64_u64);
    let unit = rt::clock::ticks(200_000);
    let late = alloc::sync::Arc::new(core::sync::atomic::AtomicU64::new(0));
    for index in 0..count {
        let late = alloc::sync::Arc::clone(&late);
        thread::spawn(false, move || {
            let deadline = base + unit * (index * 37 % count);
            if thread::park_until(deadline) == Err(Error::TimedOut) && rt::clock::now() >= deadline
            {
                late.fetch_add(1, core::sync::atomic::Ordering::SeqCst);
            }
        })
        .must("thread")?;
    }
    check!(
        eventually(|| late.load(core::sync::atomic::Ordering::SeqCst) == count),
        "{late:?} of {count} timers fired"
    );
    Ok(())
}

fn create_errors(world: &'static World) -> Outcome {
    let home = startup::home_space();
    let create = |domain: u64, slot: u64, space: u64, state: u64| {
        call(Operation::ThreadCreate, [domain, slot, space, state, 0, 0]).map(|_| ())
    };
    let free = u64::from(slots::take().must("slot")?);
    let space = u64::from(home.slot());
    refused!(create(0, space, space, 0), SlotOccupied);
    refused!(create(0, 0, space, 0), BadArgument);
    refused!(create(0, free, space, 1), BadArgument);
    refused!(create(0, free, space, HOME_SIZE), BadArgument);
    // State pages must be there and writable.
    refused!(create(0, free, space, 0x1000), BadArgument);
    refused!(create(0, free, space, rt::abi::layout::home::PROGRAM), BadArgument);
    refused!(create(0, free, 0, 0), NoCapability);
    refused!(create(space, free, space, 0), WrongKind);
    let hold = Space::create(Domain::OWN, SpaceUse::Hold, None).must("space")?;
    refused!(create(0, free, hold.slot().into(), 0), BadArgument);
    let weak = slots::take().must("slot")?;
    object::copy(home.slot(), Domain::OWN, weak, !Rights::RUN).must("copy")?;
    refused!(create(0, free, weak.into(), 0), MissingRight);
    let child = world.domain().must("domain")?;
    child.set_limit(rt::abi::resource::Resource::Threads, 0).must("limit")?;
    refused!(create(child.slot().into(), free, space, 0), OutOfObjects);
    child.set_limit(rt::abi::resource::Resource::Threads, 1).must("limit")?;
    child.set_limit(rt::abi::resource::Resource::Frames, 0).must("limit")?;
    refused!(create(child.slot().into(), free, space, 0), OutOfFrames);
    child.destroy().must("destroy")?;
    refused!(create(child.slot().into(), free, space, 0), NoCapability);
    hold.destroy().must("destroy")?;
    object::delete(weak);
    Ok(())
}

fn start_errors(_: &'static World) -> Outcome {
    let prepared = Thread::create(Domain::OWN, startup::home_space(), 0).must("create")?;
    for entry in [
        0,
        GUEST_MAX,
        HOME_BASE - 1,
        HOME_BASE + HOME_SIZE,
        0xffff_ffff_8010_0000,
        0x8000_0000_0000,
    ] {
        refused!(prepared.start(entry, HOME_BASE, 0), BadArgument);
        refused!(prepared.start(HOME_BASE, entry, 0), BadArgument);
    }
    same!(prepared.stat().map(|(_, state, _)| state), Ok(0));
    prepared.destroy().must("destroy")?;
    let own = Thread(thread::own_slot());
    refused!(own.start(HOME_BASE, HOME_BASE, 0), WrongState);
    Ok(())
}

fn affinity(world: &'static World) -> Outcome {
    let own = Thread(thread::own_slot());
    refused!(own.set_affinity(0, 100), BadArgument);
    refused!(own.set_affinity(1 << 63, 100), BadArgument);
    refused!(own.set_affinity(1, 0), BadArgument);
    refused!(own.set_affinity(1, 10_001), BadArgument);
    for cpu in 0..world.cpus {
        pin_to(cpu)?;
    }
    pin_anywhere()
}

fn stat_and_exit(_: &'static World) -> Outcome {
    let own = Thread(thread::own_slot());
    let (before, state, guest) = own.stat().must("stat")?;
    check!(state == 1 && guest == 0, "running: state {state}, guest {guest}");
    let end = rt::clock::deadline_in(2_000_000);
    while rt::clock::now() < end {}
    let (after, ..) = own.stat().must("stat")?;
    check!(after > before, "time does not pass: {before} {after}");
    let parked = thread::spawn(false, thread::park).must("thread")?;
    check!(
        eventually(|| parked.stat().is_ok_and(|(_, state, _)| state == 2)),
        "a parked thread is blocked"
    );
    parked.unpark().must("unpark")?;
    check!(
        eventually(|| parked.stat().is_ok_and(|(_, state, _)| state == 3)),
        "an ended thread is dead"
    );
    refused!(parked.start(HOME_BASE, HOME_BASE, 0), WrongState);
    same!(parked.kick(), Ok(()));
    same!(parked.unpark(), Ok(()));
    Ok(())
}

fn destroy(_: &'static World) -> Outcome {
    for spins in [false, true] {
        let prepared = thread::prepare(false).must("prepare")?;
        let victim = prepared.thread();
        let started = prepared.start(move || {
            loop {
                if spins { core::hint::spin_loop() } else { thread::park() }
            }
        });
        started.must("start")?;
        let _ = thread::park_until(rt::clock::deadline_in(2_000_000));
        let spare = slots::take().must("slot")?;
        object::copy(victim.slot(), Domain::OWN, spare, Rights::ALL).must("copy")?;
        victim.destroy().must("destroy")?;
        refused!(Thread(spare).stat(), NoCapability);
        refused!(Thread(spare).kick(), NoCapability);
        object::delete(spare);
    }
    // The stack of a thread that was destroyed is lost to the program, not to the Domain.
    check!(access_works(), "the program lives");
    Ok(())
}

fn access_works() -> bool {
    startup::home_space().query(0, 1).is_err_and(|error| error == Error::NotPresent)
        && startup::home_space().resolve(rt::abi::layout::home::STARTUP, 1, Access::READ).is_ok()
}

/// An operation keeps every register that its convention does not give away.
fn registers_are_kept(_: &'static World) -> Outcome {
    for round in 0..200_u64 {
        let mark = 0x0123_4567_89ab_cdef_u64.wrapping_mul(round | 1);
        let (mut r12, mut r13, mut r14, mut r15, flags): (u64, u64, u64, u64, u64);
        // SAFETY: yields; the marks are in registers that nothing else uses meanwhile.
        unsafe {
            core::arch::asm!("stc", "syscall", "pushfq", "pop {flags}",
                flags = lateout(reg) flags, inlateout("rax") 0_u64 => _, inlateout("r12") mark => r12, inlateout("r13") !mark => r13,
                inlateout("r14") mark ^ 1 => r14, inlateout("r15") mark ^ 2 => r15, lateout("rcx") _, lateout("r11") _,
                lateout("rdi") _, lateout("rsi") _, lateout("rdx") _, lateout("r10") _, lateout("r8") _, lateout("r9") _);
        }
        (r12, r13, r14, r15) = (r12 ^ mark, r13 ^ !mark, r14 ^ mark ^ 1, r15 ^ mark ^ 2);
        same!((r12, r13, r14, r15), (0, 0, 0, 0));
        check!(flags & 1 == 1 && flags & 0x200 != 0 && flags & 0x7000 == 0, "flags {flags:#x}");
    }
    same!(raw(0, [0; 6])[0], 0);
    Ok(())
}
