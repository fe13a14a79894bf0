//! Domains: creation, budgets, scheduling, figures, watching, death.

use crate::{
    act::{self, Act},
    check,
    check::{Must, Outcome},
    refused,
    run::Case,
    same,
    world::{NO_LIMITS, Sandbox, World, in_seconds, ledger},
};
use alloc::vec::Vec;
use rt::{
    Domain, Notification, Space, Thread,
    abi::{
        Operation, Rights,
        resource::{Resource, UNLIMITED},
        space::{Access, SpaceUse},
    },
    arch::call,
    object::{self, Limits},
    slots, startup,
};

pub(super) const CASES: &[Case] = &[
    Case { name: "domain.create_errors", run: create_errors },
    Case { name: "domain.budget", run: budget },
    Case { name: "domain.nesting", run: nesting },
    Case { name: "domain.schedule_errors", run: schedule_errors },
    Case { name: "domain.stat", run: stat },
    Case { name: "domain.watch", run: watch },
    Case { name: "domain.death_takes_all", run: death_takes_all },
    Case { name: "domain.death_of_ancestors", run: death_of_ancestors },
    Case { name: "domain.exhaustion", run: exhaustion },
    Case { name: "domain.reaped_beside_busy_threads", run: reaped_beside_busy_threads },
];

fn create_errors(world: &'static World) -> Outcome {
    let create = |parent: u64, slot: u64| {
        call(Operation::DomainCreate, [parent, slot, 1, 1, 1, 1]).map(|_| ())
    };
    let own = u64::from(startup::home_space().slot());
    refused!(create(0, own), SlotOccupied);
    refused!(create(0, 0), BadArgument);
    refused!(create(0, u64::MAX), BadArgument);
    refused!(create(own, 999_999), WrongKind);
    let parent = world.domain().must("domain")?;
    let free = u64::from(slots::take().must("slot")?);
    let weak = slots::take().must("slot")?;
    object::copy(parent.slot(), Domain::OWN, weak, Rights::GRANT).must("copy")?;
    refused!(create(weak.into(), free), MissingRight);
    parent.set_limit(Resource::Objects, 0).must("limit")?;
    refused!(create(parent.slot().into(), free), OutOfObjects);
    parent.set_limit(Resource::Objects, 1).must("limit")?;
    parent.set_limit(Resource::Frames, 0).must("limit")?;
    refused!(create(parent.slot().into(), free), OutOfFrames);
    parent.destroy().must("destroy")?;
    refused!(create(weak.into(), free), NoCapability);
    object::delete(weak);
    Ok(())
}

fn budget(world: &'static World) -> Outcome {
    let domain = world.domain().must("domain")?;
    refused!(Domain::OWN.set_limit(Resource::Frames, 1), MissingRight);
    for reported in [Resource::CpuTime, Resource::CpuQuota, Resource::Throttled] {
        refused!(domain.set_limit(reported, 1), BadArgument);
    }
    refused!(call(Operation::DomainBudget, [domain.slot().into(), 7, 1, 0, 0, 0]), BadArgument);
    for resource in [Resource::Frames, Resource::Objects, Resource::Slots, Resource::Threads] {
        for limit in [0, 1, 12_345, UNLIMITED] {
            domain.set_limit(resource, limit).must("limit")?;
            same!(domain.stat(resource).map(|stat| stat.limit), Ok(limit));
        }
    }
    let weak = slots::take().must("slot")?;
    object::copy(domain.slot(), Domain::OWN, weak, Rights::CREATE).must("copy")?;
    refused!(Domain(weak).set_limit(Resource::Frames, 1), MissingRight);
    refused!(Domain(weak).stat(Resource::Frames), MissingRight);
    object::delete(weak);
    domain.destroy().must("destroy")
}

/// Domains nest to a bounded depth, and a child is limited by every ancestor.
fn nesting(_: &'static World) -> Outcome {
    let sandbox = Sandbox::new().must("sandbox")?;
    let mut chain = alloc::vec![sandbox.domain().must("domain")?];
    while let Some(last) = chain.last().copied() {
        match last.create(NO_LIMITS) {
            Ok(child) => chain.push(child),
            Err(error) => {
                same!(error, rt::Error::BadArgument);
                break;
            }
        }
        check!(chain.len() < 64, "no end to nesting");
    }
    check!(chain.len() > 4, "only {} deep", chain.len());
    let (Some(first), Some(last)) = (chain.first().copied(), chain.last().copied()) else {
        return Ok(());
    };
    let used = first.stat(Resource::Objects).must("stat")?.used;
    first.set_limit(Resource::Objects, used).must("limit")?;
    // What the descendants have drawn already may still be used up; then the ancestor's limit holds.
    let mut made = Vec::new();
    while let Ok(notification) = Notification::create(last) {
        made.push(notification);
        check!(made.len() < 200, "the ancestor's limit does not hold");
    }
    refused!(Notification::create(last), OutOfObjects);
    first.destroy().must("destroy")?;
    made.iter().for_each(|notification| notification.forget());
    chain.iter().skip(1).for_each(|domain| domain.forget());
    sandbox.close()
}

fn schedule_errors(world: &'static World) -> Outcome {
    let domain = world.domain().must("domain")?;
    refused!(Domain::OWN.schedule(100, UNLIMITED, 1, 0, 0), MissingRight);
    refused!(domain.schedule(0, UNLIMITED, 1, 0, 0), BadArgument);
    refused!(domain.schedule(10_001, UNLIMITED, 1, 0, 0), BadArgument);
    refused!(domain.schedule(100, 0, 1, 0, 0), BadArgument);
    refused!(domain.schedule(100, 1, 0, 0, 0), BadArgument);
    refused!(domain.schedule(100, 1 << 60, 1, 0, 0), BadArgument);
    refused!(domain.schedule(100, UNLIMITED, 1, 1 << 63, 0), BadArgument);
    refused!(domain.schedule(100, UNLIMITED, 1, 0, 2), BadArgument);
    same!(domain.schedule(10_000, 1, 1, 1, 1), Ok(()));
    same!(domain.stat(Resource::CpuQuota).map(|stat| stat.limit), Ok(1));
    same!(domain.schedule(1, UNLIMITED, 1, 0, 0), Ok(()));
    domain.destroy().must("destroy")
}

fn stat(world: &'static World) -> Outcome {
    refused!(call(Operation::DomainStat, [0, 7, 0, 0, 0, 0]), BadArgument);
    refused!(call(Operation::DomainStat, [0, u64::MAX, 0, 0, 0, 0]), BadArgument);
    let domain = world.domain().must("domain")?;
    same!(ledger(domain), Ok([0, 0, 0, 0]));
    let space = Space::create(domain, SpaceUse::Hold, None).must("space")?;
    let empty = domain.stat(Resource::Frames).must("stat")?.used;
    space.zero(0, 16, Access::READ | Access::WRITE, 1 << 8).must("zero")?;
    let full = domain.stat(Resource::Frames).must("stat")?.used;
    check!((16..=20).contains(&(full - empty)), "16 pages cost {}", full - empty);
    space.unmap(0, 16).must("unmap")?;
    let stat = domain.stat(Resource::Frames).must("stat")?;
    check!(stat.used + 16 <= full && stat.peak >= full, "after unmap {stat:?}");
    same!(domain.stat(Resource::Objects).map(|stat| stat.used), Ok(1));
    domain.destroy().must("destroy")?;
    space.forget();
    Ok(())
}

fn watch(world: &'static World) -> Outcome {
    let notification = Notification::create(Domain::OWN).must("create")?;
    let domain = world.domain().must("domain")?;
    refused!(domain.watch(notification, 63), BadArgument);
    refused!(domain.watch(notification, u64::MAX), BadArgument);
    refused!(domain.watch(Notification(0), 1), NoCapability);
    let weak = slots::take().must("slot")?;
    object::copy(notification.slot(), Domain::OWN, weak, Rights::RECEIVE).must("copy")?;
    refused!(domain.watch(Notification(weak), 1), MissingRight);
    domain.watch(notification, 62).must("watch")?;
    refused!(domain.watch(notification, 1), WrongState);
    domain.destroy().must("destroy")?;
    let mut seen = 0;
    while seen != 3 << 62 {
        seen |= notification.wait(u64::MAX, in_seconds(60)).must("death")?;
    }
    object::delete(weak);
    notification.destroy().must("destroy")
}

/// Everything charged to a Domain goes with it, whoever holds capabilities to it.
fn death_takes_all(_: &'static World) -> Outcome {
    let sandbox = Sandbox::new().must("sandbox")?;
    let domain = sandbox.domain().must("domain")?;
    let notification = Notification::create(domain).must("notification")?;
    let endpoint = rt::Endpoint::create(domain).must("endpoint")?;
    let gate = endpoint.gate(domain, 1, 1).must("gate")?;
    let reply = rt::Reply::create(domain).must("reply")?;
    let space = Space::create(domain, SpaceUse::Hold, None).must("space")?;
    space.zero(0, 600, Access::READ | Access::WRITE, 1 << 8).must("zero")?;
    let thread = Thread::create(domain, startup::home_space(), 0).must("thread")?;
    let child =
        domain.create(Limits { frames: 10, objects: 10, slots: 10, threads: 1 }).must("child")?;
    let theirs = Notification::create(child).must("child's")?;
    domain.destroy().must("destroy")?;
    let gone = || {
        notification.signal(1).is_err()
            && gate.call(rt::message::Message::default(), 0).is_err()
            && space.unmap(0, 1).is_err()
            && thread.kick().is_err()
            && child.stat(Resource::Frames).is_err()
            && theirs.signal(1).is_err()
    };
    check!(crate::world::eventually(gone), "something outlives its Domain");
    refused!(notification.signal(1), NoCapability);
    for slot in [
        notification.slot(),
        endpoint.slot(),
        gate.slot(),
        reply.slot(),
        space.slot(),
        thread.slot(),
        child.slot(),
        theirs.slot(),
    ] {
        object::delete(slot);
    }
    sandbox.close()
}

/// A Domain dies with its ancestor, with threads running on every CPU.
fn death_of_ancestors(world: &'static World) -> Outcome {
    let sandbox = Sandbox::new().must("sandbox")?;
    for _ in 0..4 {
        let assistants: Result<Vec<_>, _> = (0..2 * world.cpus)
            .map(|_| world.assistant_in(sandbox.0, Act::Spin, |_| Ok(())))
            .collect();
        for assistant in assistants.must("assistants")? {
            assistant.wait(act::BEGUN).must("begin")?;
            assistant.kill().must("kill")?;
        }
    }
    sandbox.close()
}

/// Each budget runs out alone, with the documented error, and everything comes back.
fn exhaustion(_: &'static World) -> Outcome {
    let sandbox = Sandbox::new().must("sandbox")?;
    let objects = sandbox.domain().must("domain")?;
    objects.set_limit(Resource::Objects, 50).must("limit")?;
    let mut made = Vec::new();
    while let Ok(notification) = Notification::create(objects) {
        made.push(notification);
    }
    same!(made.len(), 50);
    refused!(Notification::create(objects), OutOfObjects);
    refused!(rt::Endpoint::create(objects), OutOfObjects);
    refused!(rt::Reply::create(objects), OutOfObjects);
    refused!(Space::create(objects, SpaceUse::Hold, None), OutOfObjects);
    let slots_domain = sandbox.domain().must("domain")?;
    slots_domain.set_limit(Resource::Slots, 40).must("limit")?;
    let Some(any) = made.first() else { return Ok(()) };
    for slot in 1..=40 {
        object::copy(any.slot(), slots_domain, slot * 600, Rights::ALL).must("grant")?;
    }
    refused!(object::copy(any.slot(), slots_domain, 7, Rights::ALL), OutOfObjects);
    let frames = sandbox.domain().must("domain")?;
    frames.set_limit(Resource::Frames, 100).must("limit")?;
    let space = Space::create(frames, SpaceUse::Hold, None).must("space")?;
    refused!(space.zero(0, 1000, Access::READ | Access::WRITE, 1 << 8), OutOfFrames);
    refused!(Space::create(frames, SpaceUse::Hold, None), OutOfFrames);
    check!(frames.stat(Resource::Frames).is_ok_and(|stat| stat.used <= 100), "beyond the limit");
    space.unmap(0, 1000).must("unmap")?;
    let threads = sandbox.domain().must("domain")?;
    threads.set_limit(Resource::Threads, 5).must("limit")?;
    let mut started = Vec::new();
    while let Ok(thread) = Thread::create(threads, startup::home_space(), 0) {
        started.push(thread);
    }
    same!(started.len(), 5);
    refused!(Thread::create(threads, startup::home_space(), 0), OutOfObjects);
    for domain in [objects, slots_domain, frames, threads] {
        domain.destroy().must("destroy")?;
    }
    started.iter().for_each(|thread| thread.forget());
    made.iter().for_each(|notification| notification.forget());
    space.forget();
    sandbox.close()
}

/// What died is given back although every CPU has a thread that never enters the kernel.
fn reaped_beside_busy_threads(world: &'static World) -> Outcome {
    use alloc::sync::Arc;
    use core::sync::atomic::{AtomicBool, Ordering};
    let sandbox = Sandbox::new().must("sandbox")?;
    let over = Arc::new(AtomicBool::new(false));
    for cpu in 1..world.cpus {
        let over = Arc::clone(&over);
        let busy = rt::thread::spawn(false, move || {
            while !over.load(Ordering::Relaxed) {
                core::hint::spin_loop();
            }
        });
        busy.must("thread")?.set_affinity(1 << cpu, 100).must("affinity")?;
    }
    super::pin_to(0)?;
    let domain = sandbox.domain().must("domain")?;
    let space = Space::create(domain, SpaceUse::Hold, None).must("space")?;
    space.zero(0, 2000, Access::READ | Access::WRITE, 1 << 8).must("zero")?;
    domain.destroy().must("destroy")?;
    space.forget();
    // No operation meanwhile: only the timer can do it.
    let mut left = Ok([u64::MAX; 4]);
    for _ in 0..20 {
        let end = rt::clock::deadline_in(250_000_000);
        while rt::clock::now() < end {
            core::hint::spin_loop();
        }
        left = ledger(sandbox.0);
        if left == Ok([0; 4]) {
            break;
        }
    }
    over.store(true, Ordering::Relaxed);
    super::pin_anywhere()?;
    check!(left == Ok([0; 4]), "frames, objects, slots, threads left: {left:?}");
    sandbox.close()
}
