//! Taking all there is of everything.

use crate::{Attempt, Breach, board::Board, hold, rounds};
use alloc::vec::Vec;
use rt::{
    Domain, Endpoint, Notification, Reply, Space, Thread,
    abi::{
        resource::{Resource, UNLIMITED},
        space::{Access, SpaceUse},
    },
    object::{Limits, Use},
    startup,
};

/// Nanoseconds within which what was destroyed is back.
const PATIENCE: u64 = 10_000_000_000;
const WRITE: Access = Access::READ.union(Access::WRITE);

fn stat(resource: Resource) -> Result<Use, Breach> {
    Domain::OWN.stat(resource).map_err(|error| Breach(line!(), error as u64))
}

/// Holds an account to its limit.
fn within(resource: Resource) -> Attempt {
    let stat = stat(resource)?;
    hold!(stat.limit != UNLIMITED && stat.used <= stat.limit, stat.used);
    Ok(())
}

/// What an earlier round held comes back while it is asked for: the reaper may still be at work on another CPU.
fn given_back<T>(ask: impl Fn() -> rt::Result<T>) -> Result<T, Breach> {
    let end = rt::clock::since_boot() + PATIENCE;
    loop {
        match ask() {
            Ok(given) => return Ok(given),
            Err(error) if rt::clock::since_boot() >= end => {
                return Err(Breach(line!(), error as u64));
            }
            Err(_) => {}
        }
    }
}

/// Every frame of the budget, as pages, tables and the insides of objects.
pub(crate) fn memory(board: &Board) -> Attempt {
    for _ in rounds(board, 3) {
        let mut spaces = Vec::new();
        let mut failures = 0;
        // What was taken before comes back while more is asked for.
        while failures < 2000 {
            let Ok(space) = Space::create(Domain::OWN, SpaceUse::Hold, None) else {
                failures += 1;
                continue;
            };
            spaces.push(space);
            let _ = space.zero(0, 256, WRITE, 1 << 8);
            // Frames as tables: one page in every terabyte.
            if (1..20_u64).any(|step| space.zero(step << 40, 1, WRITE, 1 << 8).is_err()) {
                failures += 1;
            }
            within(Resource::Frames)?;
        }
        let stat = stat(Resource::Frames)?;
        hold!(stat.limit - stat.used < 128, stat.limit - stat.used);
        for space in spaces {
            let _ = space.destroy();
        }
    }
    Ok(())
}

/// Takes every frame and keeps it; the referee varies what others have.
pub(crate) fn keep(board: &Board) -> Attempt {
    let space = Space::create(Domain::OWN, SpaceUse::Hold, None).map_err(|_| Breach(line!(), 0))?;
    let mut page = 0;
    while space.zero(page << 12, 1, WRITE, 1 << 8).is_ok() {
        page += 1;
    }
    hold!(page > 0, page);
    board.set(crate::board::ROUNDS, page);
    Ok(())
}

/// Objects of every kind, and slots.
pub(crate) fn objects(board: &Board) -> Attempt {
    for _ in rounds(board, 2) {
        let limits =
            Limits { frames: UNLIMITED, objects: UNLIMITED, slots: UNLIMITED, threads: UNLIMITED };
        let child = given_back(|| Domain::OWN.create(limits))?;
        let endpoint = given_back(|| Endpoint::create(child))?;
        let mut made = 0_u64;
        let mut slots = Vec::new();
        loop {
            let results = [
                Notification::create(child).map(|made| made.slot()),
                Reply::create(child).map(|made| made.slot()),
                endpoint.gate(child, made, 1).map(|made| made.slot()),
            ];
            slots.extend(results.iter().flatten());
            if results.iter().any(Result::is_err) {
                break;
            }
            made += 3;
            hold!(made < 1_000_000, made);
        }
        within(Resource::Objects)?;
        within(Resource::Slots)?;
        let _ = child.destroy();
        endpoint.forget();
        slots.into_iter().for_each(|slot| Notification(slot).forget());
    }
    Ok(())
}

/// Threads, all of which wait.
pub(crate) fn threads(_: &Board) -> Attempt {
    let mut made = Vec::new();
    while let Ok(thread) = Thread::create(Domain::OWN, startup::home_space(), 0) {
        made.push(thread);
        hold!(made.len() < 100_000, made.len());
    }
    within(Resource::Threads)?;
    within(Resource::Frames)
}

/// Domains in Domains, as deep and as many as the kernel lets it.
pub(crate) fn nest(_: &Board) -> Attempt {
    let limits =
        Limits { frames: UNLIMITED, objects: UNLIMITED, slots: UNLIMITED, threads: UNLIMITED };
    let mut last = Domain::OWN;
    let mut depth = 0;
    while let Ok(child) = last.create(limits) {
        last = child;
        depth += 1;
        hold!(depth < 64, depth);
    }
    // What the deepest one takes, this compartment pays.
    if let Ok(space) = Space::create(last, SpaceUse::Hold, None) {
        let _ = space.zero(0, 1 << 20, WRITE, 1 << 8);
    }
    within(Resource::Frames)?;
    let mut many = 0;
    while Domain::OWN.create(limits).is_ok() {
        many += 1;
        hold!(many < 100_000, many);
    }
    within(Resource::Objects)
}
